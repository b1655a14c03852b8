//! The files of an archive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::tar_read::{MemberKind, Skip, TarError, TarReader};
use crate::layer::{Codec, Decoder};

use super::reader::{Files, FoundFile};

/// Members that an archive may have: images have three a layer at most.
const MAX_MEMBERS: usize = 1 << 16;

/// Links that are followed to get to a file.
const MAX_LINKS: usize = 8;

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
    /// is first decompressed into an unnamed file in `cx.spool_dir`.
    pub(super) fn open(cx: &Context, path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let mut file = File::open(path).map_err(Error::reading(path))?;
        let mut head = [0; Codec::MAGIC_LEN];
        let n = file.read_at(&mut head, 0).map_err(Error::reading(path))?;
        let codec = Codec::sniff(&head[..n]);
        if codec != Codec::None {
            file = decompress(cx, &name, codec, file)?;
        }
        let len = file.metadata().map_err(Error::reading(path))?.len();
        Self::index(cx, Source { name, file, len })
    }

    /// Reads the headers of a tar.
    fn index(cx: &Context, source: Source) -> Result<Self> {
        let tar = Arc::new(source);
        let broken = |error: TarError| match error {
            TarError::Io(error) => lift(&tar.name, error),
            error @ TarError::Broken { .. } => {
                Error::image(&tar.name, format!("is no readable tar: {error}"))
            }
        };
        let mut reader = TarReader::new(Cursor {
            end: tar.len,
            position: 0,
            source: Arc::clone(&tar),
        });
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
                return Err(Error::image(&tar.name, problem));
            }
            if members.insert(name.clone(), place).is_some() {
                duplicates.insert(name);
            }
        }
        Ok(Self {
            tar,
            members,
            duplicates,
        })
    }
}

impl Files for ArchiveFiles {
    fn open(&self, name: &str) -> Result<Option<FoundFile>> {
        let mut name = name;
        for _ in 0..MAX_LINKS {
            match self.members.get(name) {
                None => return Ok(None),
                Some(Place::Link { target }) => name = target,
                Some(&Place::File { offset, size }) => {
                    return Ok(Some(FoundFile {
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
        Err(Error::image(
            &self.tar.name,
            format!("{name} is behind more than {MAX_LINKS} links"),
        ))
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

/// Decompresses a whole archive into an unnamed file.
fn decompress(cx: &Context, name: &str, codec: Codec, file: File) -> Result<File> {
    let spool = || Error::writing("write", &cx.spool_dir);
    let mut out = tempfile::tempfile_in(&cx.spool_dir)
        .map_err(Error::writing("create a file in", &cx.spool_dir))?;
    let mut decoder = Decoder::new(codec, BufReader::with_capacity(128 << 10, file))?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        cx.cancel.check()?;
        match decoder.read(&mut buffer) {
            Ok(0) => return Ok(out),
            Ok(n) => out.write_all(&buffer[..n]).map_err(spool())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(match error.kind() {
                    io::ErrorKind::InvalidData
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::UnexpectedEof => {
                        Error::image(name, format!("cannot be decompressed: {error}"))
                    }
                    _ => lift(name, error),
                });
            }
        }
    }
}

/// Makes an [`Error`] of one from below, which may carry one.
fn lift(name: &str, error: io::Error) -> Error {
    error.downcast::<Error>().unwrap_or_else(|source| {
        ErrorKind::ReadInput {
            path: name.into(),
            source,
        }
        .into()
    })
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
}
