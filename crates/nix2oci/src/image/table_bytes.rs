//! An [`ImageTable`] as the text of an annotation.
//!
//! It is base64 (RFC 4648, standard alphabet, no padding) of these bytes.
//! Numbers are LEB128: seven bits a byte, the lowest first, as few bytes as can
//! be.
//!
//! 1. One byte, the version: 2 if the image is on a base, else 1.
//! 2. 16 bytes, the beginning of SHA-256 over the digests of the layers' blobs,
//!    as the manifest's descriptors say them, bottom first, each with a newline
//!    after it.
//! 3. The number of layers; in version 2 how many of them, from the bottom, are
//!    the base's; and for each layer: twice the number of its store paths,
//!    plus one if it has a key; the 20 bytes of that; its tar's size.
//! 4. The NAR size of each store path, 0 if it is not known.
//! 5. One byte, the digits of each hash: 8, 16, 24 or 32; then the digits of
//!    each store path, five bits each, the first one highest.
//! 6. The names of all store paths, each with a newline after it, as a raw
//!    deflate stream (RFC 1951); nothing if there are no store paths.
//!
//! Tars are whole blocks of 512 bytes and NARs of 8. So that these zeros take
//! no room, a tar's size is rotated right by nine bits of 64 and a NAR's by
//! three, which any number survives.
//!
//! Hashes do not compress, and sizes hardly: deflated with the names they make
//! these longer.

use std::iter;

use data_encoding::BASE64_NOPAD;
use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush, Status};

use crate::digest::Hasher;
use crate::layer::LayerKeyPrefix;
use crate::oci::Descriptor;
use crate::store::{MAX_NAME_LEN, StorePathPrefix, nix32};

use super::table::{ImageTable, TableLayer, TablePath};

const VERSION: u8 = 1;

/// The version that has the number of the base's layers, which is not 0.
const VERSION_ON_BASE: u8 = 2;

/// Bytes of the checksum over the layers' digests. It finds images that were
/// changed by a program that knows nothing of the table; against one that does
/// no number of bytes would help.
const CHECKSUM_BYTES: usize = 16;

/// Bytes that the text may have. Registries need take no manifest of over 4 MiB
/// ("Pushing Manifests" in the OCI distribution specification 1.1), and there
/// must be room for the rest.
const MAX_TEXT: usize = 2 << 20;

/// Store paths that an image may tell, which bounds what reading a table
/// takes: some 25 MiB.
const MAX_PATHS: usize = 1 << 16;

/// By how many bits sizes are rotated: tars are multiples of 2⁹ bytes, NARs of
/// 2³.
const TAR_BITS: u32 = 9;
const NAR_BITS: u32 = 3;

/// zlib's best level; the names are short, so it costs nothing.
const LEVEL: i32 = 9;

/// The base-2 logarithm of deflate's largest window, 32 KiB.
const WINDOW_BITS: u8 = 15;

/// How many digits of each hash are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut(usize);

impl Cut {
    /// All: 20 bytes a store path.
    pub(super) const WHOLE: Self = Self(32);

    /// The first 40 bits. Among the store paths of one name that two closures
    /// have, which is what a table is asked for, two that begin alike are one in
    /// 10¹²: and a layer that is taken for another by it is known by its key.
    pub(super) const SHORT: Self = Self(8);

    /// The most store paths of which the whole hash is told. So many take 10
    /// kB, and more would soon make the manifest larger than what changed in
    /// the image.
    pub(super) const MAX_WHOLE: usize = 512;

    /// Returns the number of digits.
    pub(super) const fn digits(self) -> usize {
        self.0
    }

    /// Eight digits are five bytes, so that no byte has digits of two hashes.
    fn read(digits: u8) -> Option<Self> {
        matches!(digits, 8 | 16 | 24 | 32).then(|| Self(digits.into()))
    }

    fn bytes(self) -> usize {
        self.0 / 8 * 5
    }
}

/// Returns the text, or `None` if it had over [`MAX_TEXT`] bytes or there are
/// over [`MAX_PATHS`] paths.
///
/// The paths must have at least as many digits as are told.
pub(super) fn encode(table: &ImageTable, cut: Cut, layers: &[Descriptor]) -> Option<String> {
    let paths = || table.layers.iter().flat_map(|layer| &layer.paths);
    if paths().count() > MAX_PATHS {
        return None;
    }
    let is_on_base = table.base_layers > 0;
    let version = if is_on_base { VERSION_ON_BASE } else { VERSION };
    let mut bytes = vec![version];
    bytes.extend(checksum(layers));
    put_number(&mut bytes, table.layers.len() as u64);
    if is_on_base {
        put_number(&mut bytes, table.base_layers as u64);
    }
    for layer in &table.layers {
        put_number(
            &mut bytes,
            layer.paths.len() as u64 * 2 + u64::from(layer.key.is_some()),
        );
        bytes.extend(layer.key.iter().flat_map(LayerKeyPrefix::as_bytes));
        put_number(&mut bytes, layer.uncompressed_size.rotate_right(TAR_BITS));
    }
    for path in paths() {
        let size = path.nar_size.unwrap_or(0);
        put_number(&mut bytes, size.rotate_right(NAR_BITS));
    }
    bytes.push(cut.0 as u8);
    let mut names = String::new();
    for TablePath { path, .. } in paths() {
        put_digits(&mut bytes, &path.hash_prefix()[..cut.0]);
        names.push_str(path.name());
        names.push('\n');
    }
    bytes.extend(deflate(names.as_bytes()));
    let text = BASE64_NOPAD.encode(&bytes);
    (text.len() <= MAX_TEXT).then_some(text)
}

/// Reads what [`encode`] wrote of these layers. Whether all store paths are
/// different is not looked at.
pub(super) fn decode(text: &str, layers: &[Descriptor]) -> Option<ImageTable> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let bytes = BASE64_NOPAD.decode(text.as_bytes()).ok()?;
    let mut rest = bytes.as_slice();
    let [version] = *take_array(&mut rest)?;
    if !matches!(version, VERSION | VERSION_ON_BASE)
        || take_array(&mut rest)? != &checksum(layers)
        || take_number(&mut rest)? != layers.len() as u64
    {
        return None;
    }
    let mut table = ImageTable::default();
    if version == VERSION_ON_BASE {
        let below = usize::try_from(take_number(&mut rest)?).ok()?;
        table.base_layers = (1..=layers.len()).contains(&below).then_some(below)?;
    }
    let mut path_counts = Vec::with_capacity(layers.len());
    let mut paths = 0;
    for _ in layers {
        let flags = take_number(&mut rest)?;
        let key = match flags % 2 {
            1 => Some(LayerKeyPrefix::from(*take_array(&mut rest)?)),
            _ => None,
        };
        let here = usize::try_from(flags / 2).ok()?;
        paths = here.checked_add(paths).filter(|all| *all <= MAX_PATHS)?;
        path_counts.push(here);
        table.layers.push(TableLayer {
            key,
            uncompressed_size: take_number(&mut rest)?.rotate_left(TAR_BITS),
            paths: Vec::new(),
        });
    }
    let sizes: Vec<u64> = iter::repeat_with(|| take_number(&mut rest))
        .take(paths)
        .collect::<Option<_>>()?;
    let cut = take_array(&mut rest).and_then(|[digits]| Cut::read(*digits))?;
    let hashes = take(&mut rest, paths * cut.bytes())?;
    let names = inflate(rest, paths * (MAX_NAME_LEN + 1))?;
    let mut names = names.split_terminator('\n');
    let mut told = sizes.iter().zip(hashes.chunks_exact(cut.bytes()));
    for (layer, here) in table.layers.iter_mut().zip(path_counts) {
        for (size, hash) in told.by_ref().take(here) {
            layer.paths.push(TablePath {
                path: StorePathPrefix::new(&digits(hash), names.next()?).ok()?,
                nar_size: Some(size.rotate_left(NAR_BITS)).filter(|size| *size > 0),
            });
        }
    }
    names.next().is_none().then_some(table)
}

/// Returns what ties a table to its image's layers.
fn checksum(layers: &[Descriptor]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = Hasher::new();
    for layer in layers {
        hasher.update(layer.digest().to_string().as_bytes());
        hasher.update(b"\n");
    }
    let digest = hasher.finish();
    *digest
        .as_bytes()
        .first_chunk()
        .expect("SHA-256 has 32 bytes")
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn take_array<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(taken)
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Reads a number that is written as we write it: no zero at the end.
fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let [byte] = *take_array(rest)?;
        let bits = u64::from(byte & 0x7f);
        number |= bits << shift;
        if number >> shift != bits {
            return None;
        }
        if byte < 0x80 {
            return (byte > 0 || shift == 0).then_some(number);
        }
    }
    None
}

/// Adds digits of Nix's base 32, eight in five bytes.
fn put_digits(bytes: &mut Vec<u8>, text: &str) {
    for eight in text.as_bytes().chunks_exact(8) {
        let value = eight.iter().fold(0, |value: u64, digit| {
            let at = nix32::DIGITS.iter().position(|known| known == digit);
            value << 5 | at.expect("a store path's hash has these digits alone") as u64
        });
        bytes.extend(&value.to_be_bytes()[3..]);
    }
}

/// Returns the digits that [`put_digits`] wrote.
fn digits(hash: &[u8]) -> String {
    let mut text = String::with_capacity(hash.len() / 5 * 8);
    for five in hash.chunks_exact(5) {
        let value = five
            .iter()
            .fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
        let digit = |at: u32| nix32::DIGITS[(value >> (at * 5) & 31) as usize];
        text.extend((0..8).rev().map(digit).map(char::from));
    }
    text
}

/// Returns a raw deflate stream of `input`, nothing of nothing. One call with
/// all input and room enough, so that the bytes depend on nothing else.
fn deflate(input: &[u8]) -> Vec<u8> {
    if input.is_empty() {
        return Vec::new();
    }
    let mut output = vec![0; zlib_rs::compress_bound(input.len())];
    let mut stream = Deflate::new(LEVEL, false, WINDOW_BITS);
    let status = stream.compress(input, &mut output, DeflateFlush::Finish);
    assert_eq!(
        status,
        Ok(Status::StreamEnd),
        "the room is zlib's own bound"
    );
    output.truncate(stream.total_out() as usize);
    output
}

/// Returns the text in a deflate stream that ends where `input` does. `None` if
/// it has over `limit` bytes, or a last line without its end.
fn inflate(input: &[u8], limit: usize) -> Option<String> {
    if limit == 0 {
        return input.is_empty().then(String::new);
    }
    let mut output = vec![0; limit];
    let mut stream = Inflate::new(false, WINDOW_BITS);
    let status = stream.decompress(input, &mut output, InflateFlush::Finish);
    if status != Ok(Status::StreamEnd) || stream.total_in() != input.len() as u64 {
        return None;
    }
    output.truncate(usize::try_from(stream.total_out()).ok()?);
    let text = String::from_utf8(output).ok()?;
    text.ends_with('\n').then_some(text)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
