//! The files of an archive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::tar_read::{MemberKind, Reading, Skip, TarError, TarReader};
use crate::layer::{Codec, Decoder};

use super::document::lift;
use super::reader::{Files, Found, FoundFile};

/// Members that an archive may have: images have three a layer at most.
const MAX_MEMBERS: usize = 1 << 16;

/// Links that are followed to get to a file.
const MAX_LINKS: usize = 8;

/// Bytes that a compressed archive may always have once it is decompressed.
const MAX_UNPACKED: u64 = 1 << 30;

/// Bytes that it may have for each byte of it, if these are more. Images have 5
/// or so; 1030 is the most that gzip can, and zstd can far more.
const MAX_RATIO: u64 = 256;

/// A tar whose members can be opened in any order, several at a time.
///
/// Member names are only keys of a map: whatever they are, nothing outside the
/// archive is ever opened. Where a name comes twice, the last one counts, as
/// in `tar x`, in `docker load`, which unpacks, and in containerd; podman and
/// skopeo take the first one, so `check` reports it.
pub(super) struct ArchiveFiles {
    tar: Arc<Source>,
    members: BTreeMap<String, Place>,
    duplicates: BTreeSet<String>,
}

/// The tar, uncompressed.
struct Source {
    name: String,
    file: File,
    len: u64,
}

enum Place {
    File {
        offset: u64,
        size: u64,
    },
    /// A symlink or a hard link: `docker save` before 25 writes them for a
    /// layer that two images share.
    Link {
        target: String,
    },
}

impl ArchiveFiles {
    /// Opens an archive and reads the headers of its members. A compressed one
    /// is decompressed into an unnamed file in `cx.spool_dir` meanwhile, as far
    /// as it is a tar.
    pub(super) fn open(cx: &Context, path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::reading(path))?;
        let len = file.metadata().map_err(Error::reading(path))?.len();
        let mut head = [0; Codec::MAGIC_LEN];
        let n = file.read_at(&mut head, 0).map_err(Error::reading(path))?;
        let source = Source {
            name: path.display().to_string(),
            file,
            len,
        };
        match Codec::sniff(&head[..n]) {
            Codec::None => Self::index(cx, source),
            codec => {
                let limit = MAX_UNPACKED.max(len.saturating_mul(MAX_RATIO));
                Self::unpack(cx, source, codec, limit)
            }
        }
    }

    /// Reads the headers of a tar.
    fn index(cx: &Context, source: Source) -> Result<Self> {
        let tar = Arc::new(source);
        let cursor = Cursor {
            end: tar.len,
            position: 0,
            source: Arc::clone(&tar),
        };
        let (members, duplicates) = members(cx, &tar.name, &mut TarReader::new(cursor))?;
        Ok(Self {
            tar,
            members,
            duplicates,
        })
    }

    /// Decompresses an archive and reads the headers on the way, so that what
    /// is no tar fills no disk.
    fn unpack(cx: &Context, packed: Source, codec: Codec, limit: u64) -> Result<Self> {
        let name = packed.name.clone();
        let out = tempfile::tempfile_in(&cx.spool_dir)
            .map_err(Error::writing("create a file in", &cx.spool_dir))?;
        let input = BufReader::with_capacity(128 << 10, packed.file);
        let mut reader = TarReader::new(Reading(Unpack {
            cx,
            name: &name,
            decoder: Decoder::new(codec, input)?,
            out: BufWriter::with_capacity(256 << 10, out),
            len: 0,
            limit,
        }));
        let (members, duplicates) = members(cx, &name, &mut reader)?;
        let Unpack { out, len, .. } = reader.into_inner().0;
        let file = out
            .into_inner()
            .map_err(|error| Error::writing("write", &cx.spool_dir)(error.into_error()))?;
        Ok(Self {
            tar: Arc::new(Source { name, file, len }),
            members,
            duplicates,
        })
    }
}

/// The members that can be opened, and the names of more than one.
type Members = (BTreeMap<String, Place>, BTreeSet<String>);

/// Reads the headers of a tar.
fn members<R: Skip>(cx: &Context, name: &str, reader: &mut TarReader<R>) -> Result<Members> {
    let archive = name;
    let broken = |error: TarError| match error {
        TarError::Io(error) => lift(archive, error),
        error @ TarError::Broken { .. } => {
            Error::image(archive, format!("is no readable tar: {error}"))
        }
    };
    let mut members = BTreeMap::new();
    let mut duplicates = BTreeSet::new();
    while let Some(member) = reader.next_member().map_err(broken)? {
        cx.cancel.check()?;
        let place = match member.kind {
            MemberKind::File => Place::File {
                offset: member.offset,
                size: member.size,
            },
            MemberKind::HardLink => match normal("", &member.link) {
                Some(target) => Place::Link { target },
                None => continue,
            },
            MemberKind::Symlink => {
                let dir = String::from_utf8_lossy(&member.path);
                let dir = dir.rsplit_once('/').map_or("", |(dir, _)| dir);
                match normal(dir, &member.link) {
                    Some(target) => Place::Link { target },
                    None => continue,
                }
            }
            MemberKind::Directory | MemberKind::Other(_) => continue,
        };
        let Some(name) = normal("", &member.path) else {
            continue;
        };
        if members.len() >= MAX_MEMBERS {
            let problem = format!("holds more than {MAX_MEMBERS} files");
            return Err(Error::image(archive, problem));
        }
        if members.insert(name.clone(), place).is_some() {
            duplicates.insert(name);
        }
    }
    Ok((members, duplicates))
}

impl Files for ArchiveFiles {
    fn find(&self, name: &str) -> Result<Found> {
        let mut at = name;
        for _ in 0..MAX_LINKS {
            match self.members.get(at) {
                None => return Ok(Found::Nothing),
                Some(Place::Link { target }) => at = target,
                Some(&Place::File { offset, size }) => {
                    return Ok(Found::File(FoundFile {
                        size,
                        reader: Box::new(Cursor {
                            source: Arc::clone(&self.tar),
                            position: offset,
                            end: offset.saturating_add(size),
                        }),
                    }));
                }
            }
        }
        Ok(Found::Unusable(Error::image(
            &self.tar.name,
            format!("{name} is behind more than {MAX_LINKS} links"),
        )))
    }

    fn duplicates(&self) -> Vec<String> {
        self.duplicates.iter().cloned().collect()
    }
}

/// Joins `path` to `dir` and removes `.` and `..`, or returns `None` if it
/// leads out of the archive or is not UTF-8.
fn normal(dir: &str, path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let mut parts = Vec::new();
    for part in dir.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// What an archive is decompressed to, which is written down while it is read.
/// Errors carry an [`Error`].
struct Unpack<'a, R> {
    cx: &'a Context,
    name: &'a str,
    decoder: R,
    out: BufWriter<File>,
    len: u64,
    limit: u64,
}

impl<R: Read> Unpack<'_, R> {
    fn next(&mut self, buf: &mut [u8]) -> Result<usize> {
        self.cx.cancel.check()?;
        let n = loop {
            match self.decoder.read(buf) {
                Ok(n) => break n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(match error.kind() {
                        io::ErrorKind::InvalidData
                        | io::ErrorKind::InvalidInput
                        | io::ErrorKind::UnexpectedEof => {
                            Error::image(self.name, format!("cannot be decompressed: {error}"))
                        }
                        _ => lift(self.name, error),
                    });
                }
            }
        };
        self.len += n as u64;
        if self.len > self.limit {
            let problem = format!(
                "has more than {} bytes once it is decompressed, too many for its size",
                self.limit
            );
            return Err(Error::image(self.name, problem));
        }
        self.out
            .write_all(&buf[..n])
            .map_err(Error::writing("write", &self.cx.spool_dir))?;
        Ok(n)
    }
}

impl<R: Read> Read for Unpack<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.next(buf).map_err(io::Error::other)
    }
}

/// A part of the tar. Any number of them read one file, each at its own place.
struct Cursor {
    source: Arc<Source>,
    position: u64,
    end: u64,
}

impl Read for Cursor {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let want = buf.len().min(left);
        let n = match self.source.file.read_at(&mut buf[..want], self.position) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => return Err(io::Error::other(lift(&self.source.name, error))),
        };
        self.position += n as u64;
        Ok(n)
    }
}

impl Skip for Cursor {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let passed = count.min(self.end.saturating_sub(self.position));
        self.position += passed;
        Ok(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(bytes: &[u8]) -> Result<ArchiveFiles> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        ArchiveFiles::index(
            &Context::default(),
            Source {
                name: "test.tar".to_owned(),
                len: bytes.len() as u64,
                file,
            },
        )
    }

    fn read(files: &ArchiveFiles, name: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let found = files.open(name).unwrap()?;
        { found.reader }.read_to_end(&mut out).unwrap();
        assert_eq!(out.len() as u64, found.size);
        Some(out)
    }

    fn header(kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header
    }

    #[test]
    fn links_stay_in_the_archive() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut file = header(tar::EntryType::Regular, 2);
        builder
            .append_data(&mut file, "a/layer.tar", &b"hi"[..])
            .unwrap();
        for (name, kind, target) in [
            ("b/layer.tar", tar::EntryType::Symlink, "../a/layer.tar"),
            ("c", tar::EntryType::Symlink, "b/layer.tar"),
            ("hard", tar::EntryType::Link, "a/layer.tar"),
            ("out", tar::EntryType::Symlink, "../../etc/passwd"),
            ("absolute", tar::EntryType::Symlink, "/etc/passwd"),
            ("loop", tar::EntryType::Symlink, "loop"),
        ] {
            builder
                .append_link(&mut header(kind, 0), name, target)
                .unwrap();
        }
        let files = archive(&builder.into_inner().unwrap()).unwrap();
        for name in ["a/layer.tar", "b/layer.tar", "c", "hard"] {
            assert_eq!(read(&files, name).as_deref(), Some(&b"hi"[..]), "{name}");
        }
        for name in ["out", "absolute", "gone"] {
            assert_eq!(read(&files, name), None, "{name}");
        }
        assert!(matches!(files.find("loop").unwrap(), Found::Unusable(_)));
        assert!(files.open("loop").is_err());
    }

    #[test]
    fn the_last_of_two_members_counts() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut file = header(tar::EntryType::Regular, 1);
        for (name, content) in [("x", b"1"), ("./x", b"2"), ("x", b"3")] {
            builder.append_data(&mut file, name, &content[..]).unwrap();
        }
        let files = archive(&builder.into_inner().unwrap()).unwrap();
        assert_eq!(read(&files, "x").as_deref(), Some(&b"3"[..]));
        assert_eq!(files.duplicates(), ["x"]);
    }

    #[test]
    fn a_cut_archive_is_refused() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut file = header(tar::EntryType::Regular, 2000);
        builder.append_data(&mut file, "x", &[1; 2000][..]).unwrap();
        let bytes = builder.into_inner().unwrap();
        for cut in [100, 700, 2000] {
            let error = archive(&bytes[..cut]).err().unwrap().to_string();
            assert!(error.contains("is no readable tar"), "{error}");
        }
    }

    /// Unpacks a gzip stream of these bytes, and returns the message.
    fn unpack(content: impl Read, limit: u64) -> String {
        let mut file = tempfile::tempfile().unwrap();
        let mut packed = flate2::read::GzEncoder::new(content, flate2::Compression::fast());
        io::copy(&mut packed, &mut file).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let source = Source {
            name: "test.tar.gz".to_owned(),
            len: 0,
            file,
        };
        let files = ArchiveFiles::unpack(&Context::default(), source, Codec::Gzip, limit);
        let error = files.err().unwrap();
        assert_eq!(error.class(), crate::error::ErrorClass::Input);
        error.to_string()
    }

    #[test]
    fn a_compressed_archive_is_unpacked_as_far_as_it_is_a_tar() {
        let no_tar = io::repeat(1).take(8 << 20);
        let error = unpack(no_tar, 1 << 20);
        assert!(error.contains("is no readable tar"), "{error}");

        let mut file = header(tar::EntryType::Regular, 8 << 20);
        file.set_path("x").unwrap();
        file.set_cksum();
        let large = io::Cursor::new(file.as_bytes().to_vec()).chain(io::repeat(0).take(8 << 20));
        let error = unpack(large, 1 << 20);
        assert!(error.contains("more than 1048576 bytes"), "{error}");
    }
}
