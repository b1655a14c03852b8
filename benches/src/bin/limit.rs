//! usage: limit [--store-root ROOT] [--write DIR] CODEC... < PATHS
//!
//! Measures what an image of store paths costs at least: the CPU seconds of
//! each step on one core, alone, over the same bytes in the same blocks as in
//! a build. Divided by the number of cores, their sum is the least wall time
//! that any order of work can reach.
//!
//! PATHS are full store paths, one a line; ROOT is what they lie below; a CODEC
//! is `none`, `gzip:LEVEL` or `zstd:LEVEL`; with DIR the blobs are also written
//! to a file there. Prints one JSON object with sizes in bytes and times in
//! seconds.
//!
//! The encoders and the hash are the ones that the library uses, called
//! directly; reading and the tar are simple code of its own, which shares no
//! cleverness and no mistake with what it is compared to. Layers are not cut,
//! so the tar is some blocks shorter than those of an image.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libdeflater::{CompressionLvl, Compressor};
use nix2oci::Compression;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use sha2::{Digest, Sha256};
use zstd_safe::{CCtx, CParameter};

/// Bytes that are read and hashed at a time.
const PIECE: usize = 256 << 10;
/// Bytes that are collected before the codecs get them.
const BLOCK: usize = 4 << 20;
/// Bytes of a gzip member.
const GZIP_BLOCK: usize = 1 << 20;
/// What tar entries are padded to.
const RECORD: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let mut root = PathBuf::from("/");
    let mut write_dir = None;
    let mut codecs = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or("an option lacks its value");
        match argument.as_str() {
            "--store-root" => root = value()?.into(),
            "--write" => write_dir = Some(PathBuf::from(value()?)),
            codec => codecs.push(codec.parse::<Compression>()?),
        }
    }
    let codecs = codecs
        .into_iter()
        .map(|compression| Codec::new(compression, write_dir.as_deref()))
        .collect::<Result<_, _>>()?;
    let mut limit = Limit::new(codecs);
    for path in io::stdin().lock().lines() {
        let path = path?;
        let in_image = Path::new(path.trim_start_matches('/'));
        limit.object(&root.join(in_image), in_image)?;
    }
    println!("{}", limit.finish()?);
    Ok(())
}

/// The CPU time of this thread since the last lap.
struct Clock(Duration);

impl Clock {
    fn now() -> Duration {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
    }

    fn lap(&mut self) -> Duration {
        let now = Self::now();
        now - std::mem::replace(&mut self.0, now)
    }
}

/// One pass over the content.
struct Limit {
    clock: Clock,
    block: Vec<u8>,
    len: usize,
    hasher: Sha256,
    codecs: Vec<Codec>,
    objects: u64,
    bytes: u64,
    read: Duration,
    digest: Duration,
}

impl Limit {
    fn new(codecs: Vec<Codec>) -> Self {
        Self {
            clock: Clock(Clock::now()),
            block: vec![0; BLOCK],
            len: 0,
            hasher: Sha256::new(),
            codecs,
            objects: 0,
            bytes: 0,
            read: Duration::ZERO,
            digest: Duration::ZERO,
        }
    }

    /// Takes the object at `path` and what is in it.
    fn object(&mut self, path: &Path, in_image: &Path) -> Result<(), Box<dyn Error>> {
        let metadata = fs::symlink_metadata(path)
            .map_err(|e| format!("failed to read {}: {e}", path.display()))?;
        self.objects += 1;
        let mut header = tar::Header::new_ustar();
        header.set_mode(metadata.permissions().mode() & 0o777);
        header.set_mtime(1);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        if metadata.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            self.header(header, in_image)?;
            let mut names = fs::read_dir(path)?
                .map(|entry| entry.map(|e| e.file_name()))
                .collect::<Result<Vec<_>, _>>()?;
            names.sort_unstable();
            for name in names {
                self.object(&path.join(&name), &in_image.join(&name))?;
            }
        } else if metadata.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            let target = fs::read_link(path)?;
            if header
                .set_link_name_literal(target.as_os_str().as_encoded_bytes())
                .is_err()
            {
                self.put(&[0; 2 * RECORD])?;
            }
            self.header(header, in_image)?;
        } else {
            header.set_size(metadata.len());
            self.header(header, in_image)?;
            let mut file = File::open(path)?;
            let mut left = usize::try_from(metadata.len())?;
            while left > 0 {
                let room = self.room()?;
                let wanted = room.len().min(left);
                let n = file.read(&mut room[..wanted])?;
                if n == 0 {
                    return Err(format!("{} became shorter", path.display()).into());
                }
                self.len += n;
                left -= n;
            }
            let over = metadata.len() as usize % RECORD;
            if over > 0 {
                self.put(&[0; RECORD][over..])?;
            }
        }
        Ok(())
    }

    /// A name that does not fit costs two blocks more, as a pax header does.
    fn header(&mut self, mut header: tar::Header, in_image: &Path) -> Result<(), Box<dyn Error>> {
        if header.set_path(in_image).is_err() {
            self.put(&[0; 2 * RECORD])?;
        }
        header.set_cksum();
        self.put(header.as_bytes())
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), Box<dyn Error>> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let n = room.len().min(bytes.len());
            room[..n].copy_from_slice(&bytes[..n]);
            self.len += n;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Returns the rest of the current piece.
    fn room(&mut self) -> Result<&mut [u8], Box<dyn Error>> {
        if self.len > 0 && self.len.is_multiple_of(PIECE) {
            self.settle_piece(self.len - PIECE);
            if self.len == BLOCK {
                self.settle_block()?;
            }
        }
        let end = (self.len / PIECE + 1) * PIECE;
        Ok(&mut self.block[self.len..end])
    }

    /// Hashes from `start` on.
    fn settle_piece(&mut self, start: usize) {
        self.read += self.clock.lap();
        self.hasher.update(&self.block[start..self.len]);
        self.digest += self.clock.lap();
    }

    /// Gives the block to the codecs, and empties it.
    fn settle_block(&mut self) -> Result<(), Box<dyn Error>> {
        for codec in &mut self.codecs {
            codec.take(&mut self.clock, &self.block[..self.len])?;
        }
        self.bytes += self.len as u64;
        self.len = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<serde_json::Value, Box<dyn Error>> {
        self.put(&[0; 2 * RECORD])?;
        // `room` settles a piece when the next one begins.
        let start = self.len.saturating_sub(1) / PIECE * PIECE;
        self.settle_piece(start);
        self.settle_block()?;
        let codecs: serde_json::Map<String, serde_json::Value> = self
            .codecs
            .iter()
            .map(|codec| (codec.compression.to_string(), codec.report()))
            .collect();
        Ok(json!({
            "objects": self.objects,
            "bytes": self.bytes,
            "sha256": self.hasher.finalize().iter().map(|b| format!("{b:02x}")).collect::<String>(),
            "read_and_tar": self.read.as_secs_f64(),
            "digest_of_tar": self.digest.as_secs_f64(),
            "codecs": codecs,
        }))
    }
}

/// A codec and what it cost.
struct Codec {
    compression: Compression,
    encoder: Encoder,
    out: Vec<u8>,
    hasher: Sha256,
    file: Option<File>,
    size: u64,
    compress: Duration,
    digest: Duration,
    write: Duration,
}

enum Encoder {
    None,
    Gzip(Compressor),
    Zstd(CCtx<'static>),
}

impl Codec {
    fn new(compression: Compression, write_dir: Option<&Path>) -> Result<Self, Box<dyn Error>> {
        let encoder = match compression {
            Compression::None => Encoder::None,
            Compression::Gzip { level } => {
                let level = CompressionLvl::new(level.into())
                    .map_err(|_| format!("libdeflate has no level {level}"))?;
                Encoder::Gzip(Compressor::new(level))
            }
            Compression::Zstd { level } => {
                let mut cctx = CCtx::create();
                cctx.set_parameter(CParameter::CompressionLevel(level.into()))
                    .map_err(zstd_safe::get_error_name)?;
                Encoder::Zstd(cctx)
            }
            other => return Err(format!("there is no code for {other}").into()),
        };
        Ok(Self {
            compression,
            encoder,
            out: Vec::new(),
            hasher: Sha256::new(),
            // Without a name, so that it is gone at the end.
            file: write_dir.map(tempfile::tempfile_in).transpose()?,
            size: 0,
            compress: Duration::ZERO,
            digest: Duration::ZERO,
            write: Duration::ZERO,
        })
    }

    /// Compresses a block of tar, hashes what comes out, and writes it.
    fn take(&mut self, clock: &mut Clock, block: &[u8]) -> Result<(), Box<dyn Error>> {
        let unit = match self.encoder {
            Encoder::Gzip(_) => GZIP_BLOCK,
            Encoder::None | Encoder::Zstd(_) => BLOCK,
        };
        for from in block.chunks(unit) {
            let blob = match &mut self.encoder {
                Encoder::None => from,
                Encoder::Gzip(gzip) => {
                    self.out.resize(gzip.gzip_compress_bound(unit), 0);
                    let n = gzip.gzip_compress(from, &mut self.out)?;
                    &self.out[..n]
                }
                Encoder::Zstd(zstd) => {
                    self.out.resize(zstd_safe::compress_bound(unit), 0);
                    let n = zstd
                        .compress2(self.out.as_mut_slice(), from)
                        .map_err(zstd_safe::get_error_name)?;
                    &self.out[..n]
                }
            };
            self.compress += clock.lap();
            // The digest of an uncompressed blob is that of the tar.
            if !matches!(self.encoder, Encoder::None) {
                self.hasher.update(blob);
                self.digest += clock.lap();
            }
            self.size += blob.len() as u64;
            if let Some(file) = &mut self.file {
                file.write_all(blob)?;
                self.write += clock.lap();
            }
        }
        Ok(())
    }

    fn report(&self) -> serde_json::Value {
        json!({
            "size": self.size,
            "compress": self.compress.as_secs_f64(),
            "digest_of_blob": self.digest.as_secs_f64(),
            "write": self.file.as_ref().map(|_| self.write.as_secs_f64()),
        })
    }
}
