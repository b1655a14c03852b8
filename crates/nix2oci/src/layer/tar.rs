//! Tar entries, to the byte.
//!
//! A layer's digest is a promise for years, so the bytes are made here and not
//! by a crate that may change its mind. The format is POSIX.1-1988 ustar; an
//! extended header (POSIX.1-2001 pax, type `x`) comes before an entry only if
//! ustar cannot hold it: a path of over 100 bytes that cannot be split at a
//! slash, a link target of over 100 bytes, a file of 8 GiB or more, a user or
//! group of over 2,097,151, or a name in UTF-8 that is not ASCII. Bytes that
//! are no UTF-8 stand in the ustar header as they are, or in pax with
//! `hdrcharset=BINARY` if they do not fit. Extended attributes are pax records
//! as well, `SCHILY.xattr.<name>` with the bytes as they are: what GNU tar,
//! bsdtar and Go's archive/tar read.
//!
//! Every constant here shapes bytes that have digests: changing one is a
//! change of `FORMAT_VERSION` and breaks golden tests.
//!
//! Sources: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended
//! Header"; what readers accept was tried with Go's archive/tar (podman,
//! containerd, Docker, umoci), GNU tar, bsdtar and Python's tarfile.

use std::collections::BTreeMap;

use crate::content::Contents;
use crate::error::Result;
use crate::oci::Owner;

use super::Packing;

/// Bytes of a header, and what every entry is padded to.
pub(crate) const RECORD: usize = 512;
/// Largest size, or time, in 11 octal digits.
const MAX_OCTAL_11: u64 = 0o777_7777_7777;
/// Largest user or group in 7 octal digits.
const MAX_OCTAL_7: u32 = 0o777_7777;
/// Permission bits of a directory, and of a file with the right to execute:
/// what Nix gives everything in its store.
const MODE_EXECUTABLE: u32 = 0o555;
/// Permission bits of any other file.
const MODE_PLAIN: u32 = 0o444;
/// Permission bits of a symbolic link, which nobody asks for.
const MODE_SYMLINK: u32 = 0o777;

/// Takes the bytes of a tar and lends the room for them, so that files are
/// read to where they stay.
pub(crate) trait TarOutput {
    /// Returns room for at least one byte.
    fn room(&mut self) -> Result<&mut [u8]>;

    /// Takes the first `n` bytes of the room.
    fn advance(&mut self, n: usize) -> Result<()>;

    /// Takes `bytes`.
    fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let n = room.len().min(bytes.len());
            room[..n].copy_from_slice(&bytes[..n]);
            self.advance(n)?;
            bytes = &bytes[n..];
        }
        Ok(())
    }
}

/// Writes the entries of one tar. Paths are relative to the root, without a
/// slash at either end.
pub(crate) struct TarWriter<'a, O> {
    out: &'a mut O,
    owner: Owner,
    mtime: u64,
}

/// The extended attributes of one entry, by name.
pub(crate) type Xattrs = BTreeMap<String, Vec<u8>>;

/// What one entry has of its own.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a> {
    /// Its permission bits.
    pub(crate) mode: u32,
    /// Its owner, if it is not that of all.
    pub(crate) owner: Option<Owner>,
    /// Its extended attributes.
    pub(crate) xattrs: &'a Xattrs,
}

impl Attributes<'static> {
    /// Permission bits and nothing of its own.
    pub(crate) fn plain(mode: u32) -> Self {
        static NONE: Xattrs = BTreeMap::new();
        Self {
            mode,
            owner: None,
            xattrs: &NONE,
        }
    }

    /// Those of a symbolic link.
    pub(crate) fn symlink() -> Self {
        Self::plain(MODE_SYMLINK)
    }

    /// Those of a directory of a store path.
    pub(crate) fn store_directory() -> Self {
        Self::plain(MODE_EXECUTABLE)
    }

    /// Those of a file of a store path.
    pub(crate) fn store_file(executable: bool) -> Self {
        Self::plain(if executable {
            MODE_EXECUTABLE
        } else {
            MODE_PLAIN
        })
    }
}

/// What kind of entry.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    File = b'0',
    Symlink = b'2',
    Directory = b'5',
    Pax = b'x',
}

/// The fields of a header that differ between entries.
struct Header<'a> {
    kind: Kind,
    path: &'a [u8],
    link: &'a [u8],
    attributes: Attributes<'a>,
    size: u64,
}

impl<'a, O: TarOutput> TarWriter<'a, O> {
    /// Starts a tar whose entries have the owner and the time of `packing`.
    pub(crate) fn new(out: &'a mut O, packing: &Packing) -> Self {
        Self {
            out,
            owner: packing.owner,
            mtime: packing.mtime,
        }
    }

    /// Writes the root directory: without it podman makes it 0555.
    pub(crate) fn root(&mut self, attributes: Attributes<'_>) -> Result<()> {
        self.directory(b".", attributes)
    }

    /// Writes a directory.
    pub(crate) fn directory(&mut self, path: &[u8], attributes: Attributes<'_>) -> Result<()> {
        let mut path = path.to_vec();
        path.push(b'/');
        self.header(&Header {
            kind: Kind::Directory,
            path: &path,
            link: b"",
            attributes,
            size: 0,
        })
    }

    /// Writes a symbolic link.
    pub(crate) fn symlink(
        &mut self,
        path: &[u8],
        target: &[u8],
        attributes: Attributes<'_>,
    ) -> Result<()> {
        self.header(&Header {
            kind: Kind::Symlink,
            path,
            link: target,
            attributes,
            size: 0,
        })
    }

    /// Writes a regular file.
    pub(crate) fn file(
        &mut self,
        path: &[u8],
        attributes: Attributes<'_>,
        size: u64,
        contents: &mut dyn Contents,
    ) -> Result<()> {
        self.header(&Header {
            kind: Kind::File,
            path,
            link: b"",
            attributes,
            size,
        })?;
        let mut left = size;
        while left > 0 {
            let room = self.out.room()?;
            let wanted = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = contents.read(&mut room[..wanted])?;
            assert!(n > 0, "contents end before the size that they were given");
            self.out.advance(n)?;
            left -= n as u64;
        }
        self.pad(size)
    }

    /// Ends the tar.
    pub(crate) fn finish(self) -> Result<()> {
        self.out.put(&[0; 2 * RECORD])
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let over = (size % RECORD as u64) as usize;
        if over > 0 {
            self.out.put(&[0; RECORD][over..])?;
        }
        Ok(())
    }

    fn header(&mut self, header: &Header<'_>) -> Result<()> {
        let owner = header.attributes.owner.unwrap_or(self.owner);
        let pax = pax_records(header, owner);
        if !pax.is_empty() {
            let size = pax.len() as u64;
            self.out.put(&encode(
                &Header {
                    kind: Kind::Pax,
                    path: b"././@PaxHeader",
                    link: b"",
                    attributes: Attributes::plain(0o644),
                    size,
                },
                Owner::default(),
                0,
            ))?;
            self.out.put(&pax)?;
            self.pad(size)?;
        }
        self.out.put(&encode(header, owner, self.mtime))
    }
}

/// Returns what ustar cannot hold, as pax records in the order of their
/// keywords; `hdrcharset` comes first, since it is about the others.
fn pax_records(header: &Header<'_>, owner: Owner) -> Vec<u8> {
    let mut records: Vec<(&str, Vec<u8>)> = Vec::new();
    if owner.gid > MAX_OCTAL_7 {
        records.push(("gid", owner.gid.to_string().into_bytes()));
    }
    if needs_pax(header.link, header.link.len() <= 100) {
        records.push(("linkpath", header.link.to_vec()));
    }
    if needs_pax(header.path, split_path(header.path).is_some()) {
        records.push(("path", header.path.to_vec()));
    }
    if header.size > MAX_OCTAL_11 {
        records.push(("size", header.size.to_string().into_bytes()));
    }
    if owner.uid > MAX_OCTAL_7 {
        records.push(("uid", owner.uid.to_string().into_bytes()));
    }
    let mut out = Vec::new();
    // The values of extended attributes are bytes to every reader.
    if records.iter().any(|(_, v)| std::str::from_utf8(v).is_err()) {
        push_pax_record(&mut out, "hdrcharset", b"BINARY");
    }
    for (name, value) in header.attributes.xattrs {
        push_pax_record(&mut out, &format!("SCHILY.xattr.{name}"), value);
    }
    for (keyword, value) in records {
        push_pax_record(&mut out, keyword, &value);
    }
    out
}

/// Returns whether a name must be in a pax header.
fn needs_pax(name: &[u8], fits: bool) -> bool {
    !fits || (!name.is_ascii() && std::str::from_utf8(name).is_ok())
}

/// Appends `<length> <keyword>=<value>\n`, where the length counts itself.
fn push_pax_record(out: &mut Vec<u8>, keyword: &str, value: &[u8]) {
    let rest = keyword.len() + value.len() + 3;
    let mut len = rest;
    while rest + decimal_digits(len) != len {
        len = rest + decimal_digits(len);
    }
    out.extend_from_slice(format!("{len} {keyword}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn decimal_digits(n: usize) -> usize {
    n.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Splits a path for the prefix and name fields of ustar, at the first slash
/// that leaves a name of at most 100 bytes; `None` if there is none or the
/// prefix is over 155 bytes.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    let from = path.len() - 101;
    let slash = from + path[from..path.len() - 1].iter().position(|b| *b == b'/')?;
    (1..=155)
        .contains(&slash)
        .then(|| (&path[..slash], &path[slash + 1..]))
}

/// Makes the 512 bytes of a ustar header. What does not fit is cut or 0; a pax
/// header says it then.
fn encode(header: &Header<'_>, owner: Owner, mtime: u64) -> [u8; RECORD] {
    let mut block = [0; RECORD];
    let (prefix, name) =
        split_path(header.path).unwrap_or((b"", &header.path[..header.path.len().min(100)]));
    put_bytes(&mut block[0..100], name);
    put_octal(&mut block[100..108], u64::from(header.attributes.mode));
    put_octal(&mut block[108..116], u64::from(within(owner.uid)));
    put_octal(&mut block[116..124], u64::from(within(owner.gid)));
    let size = if header.size <= MAX_OCTAL_11 {
        header.size
    } else {
        0
    };
    put_octal(&mut block[124..136], size);
    put_octal(&mut block[136..148], mtime);
    block[148..156].fill(b' ');
    block[156] = header.kind as u8;
    put_bytes(
        &mut block[157..257],
        &header.link[..header.link.len().min(100)],
    );
    block[257..265].copy_from_slice(b"ustar\x0000");
    put_octal(&mut block[329..337], 0);
    put_octal(&mut block[337..345], 0);
    put_bytes(&mut block[345..500], prefix);
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    put_octal(&mut block[148..155], u64::from(sum));
    block[154] = 0;
    block
}

fn within(id: u32) -> u32 {
    if id <= MAX_OCTAL_7 { id } else { 0 }
}

fn put_bytes(field: &mut [u8], bytes: &[u8]) {
    field[..bytes.len()].copy_from_slice(bytes);
}

/// Writes octal digits up to the last byte of the field, which stays 0.
fn put_octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    for byte in field[..digits].iter_mut().rev() {
        *byte = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

/// Returns whether a time fits the header: up to the year 2242.
pub(crate) fn mtime_fits(mtime: u64) -> bool {
    mtime <= MAX_OCTAL_11
}

#[cfg(test)]
#[path = "tar_tests.rs"]
mod tests;
