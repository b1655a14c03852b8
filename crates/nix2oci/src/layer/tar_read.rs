//! The members of a tar, as a loader sees them.
//!
//! Reads ustar, pax and GNU headers. Bytes come from anybody: nothing here
//! panics, and memory is bounded by [`MAX_EXTENSION`]. Go's `archive/tar` is
//! what every loader reads with, so where formats leave a choice its choice is
//! made here: links, directories and devices have no content whatever their
//! header says, a pax record wins over a GNU long name, global pax headers
//! change nothing, and extension headers are 1 MiB at most.
//!
//! Sources: POSIX.1-2017, `pax`; GNU tar manual, "Basic Tar Format"; Go 1.23
//! `src/archive/tar/reader.go`.

use std::fmt;
use std::io::{self, Read};

use super::tar_header::{Extensions, Header, has_content, until_zero};

/// Bytes of a block; everything in a tar is padded to it.
pub(super) const BLOCK: usize = 512;

/// Bytes that a pax header or a GNU long name may have.
pub(crate) const MAX_EXTENSION: u64 = 1 << 20;

/// Reads a tar's members in order.
pub(crate) struct TarReader<R> {
    inner: R,
    /// Bytes of the stream that were read or skipped.
    position: u64,
    /// Bytes of content to pass before the next header.
    content: u64,
    /// Bytes to pass after them, up to a whole block.
    padding: u64,
    zero_blocks: u8,
}

/// A file system object in a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name, as it is written there.
    pub(crate) path: Vec<u8>,
    /// The target of a symlink or a hard link.
    pub(crate) link: Vec<u8>,
    /// What it is.
    pub(crate) kind: MemberKind,
    /// Bytes of its content.
    pub(crate) size: u64,
    /// Its permission bits, as many as there are: `0o7777`. 0 if the header has
    /// none that can be read.
    pub(crate) mode: u32,
    /// Whether its owner may execute it.
    pub(crate) is_executable: bool,
    /// The numbers of its owner and group; 0 if it has none that can be read.
    pub(crate) owner: (u32, u32),
    /// Where in the stream its content begins.
    pub(crate) offset: u64,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberKind {
    File,
    Directory,
    Symlink,
    HardLink,
    /// A kind that no layer has, by its type flag.
    Other(u8),
}

/// How a tar ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TarEnd {
    /// Blocks of zeros that were seen as the end: 0, 1 or 2.
    pub(crate) zero_blocks: u8,
    /// Whether bytes other than zero follow them.
    pub(crate) has_garbage: bool,
    /// Bytes of the whole stream.
    pub(crate) size: u64,
}

/// A tar cannot be read on.
#[derive(Debug)]
pub(crate) enum TarError {
    /// The stream below failed.
    Io(io::Error),
    /// The bytes are no tar.
    Broken {
        /// Where the header or content begins that is wrong.
        offset: u64,
        /// What is wrong with it.
        problem: String,
    },
}

impl fmt::Display for TarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Broken { offset, problem } => write!(f, "{problem} at byte {offset}"),
        }
    }
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A stream of which bytes can be passed over.
pub(crate) trait Skip: Read {
    /// Passes over `count` bytes, or over all if there are fewer, and returns
    /// how many these were.
    fn skip(&mut self, count: u64) -> io::Result<u64>;
}

/// A stream that is passed over by reading it.
pub(crate) struct Reading<R>(pub(crate) R);

impl<R: Read> Read for Reading<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl<R: Read> Skip for Reading<R> {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let mut buffer = [0; 32 << 10];
        let mut left = count;
        while left > 0 {
            let want = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            match self.0.read(&mut buffer[..want]) {
                Ok(0) => break,
                Ok(n) => left -= n as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count - left)
    }
}

impl<R: Skip> TarReader<R> {
    /// Starts at the first header.
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            position: 0,
            content: 0,
            padding: 0,
            zero_blocks: 0,
        }
    }

    /// Returns the next member, or `None` at the end. After an error the
    /// reader stands nowhere useful.
    pub(crate) fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.pass_content()?;
            let start = self.position;
            let broken = |problem: &str| TarError::Broken {
                offset: start,
                problem: problem.to_owned(),
            };
            let Some(block) = self.header_block()? else {
                if extensions.is_empty() {
                    return Ok(None);
                }
                return Err(broken("the tar ends after an extension header"));
            };
            let header = Header::parse(&block).map_err(broken)?;
            let size = match header.flag {
                b'x' | b'g' | b'L' | b'K' => header.size,
                _ => extensions.pax_size.unwrap_or(header.size),
            };
            if has_content(header.flag) {
                let padded = size
                    .checked_next_multiple_of(BLOCK as u64)
                    .ok_or_else(|| broken("a size is out of range"))?;
                self.content = size;
                self.padding = padded - size;
            }
            match header.flag {
                b'g' => {}
                b'x' => {
                    let body = self.extension(size, start)?;
                    extensions.take_pax(&body).map_err(broken)?;
                }
                b'L' => extensions.gnu_path = Some(self.long_name(size, start)?),
                b'K' => extensions.gnu_link = Some(self.long_name(size, start)?),
                _ => {
                    let member = extensions.apply(header, size, self.position);
                    if member.path.contains(&0) || member.link.contains(&0) {
                        return Err(broken("a name has a zero byte in it"));
                    }
                    return Ok(Some(member));
                }
            }
        }
    }

    /// Reads the next bytes of the last member's content; 0 at its end. Must not
    /// be called before the first member.
    pub(crate) fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let want = usize::try_from(self.content).map_or(buffer.len(), |n| n.min(buffer.len()));
        loop {
            match self.inner.read(&mut buffer[..want]) {
                Ok(0) if want > 0 => {
                    return Err(TarError::Broken {
                        offset: self.position,
                        problem: format!(
                            "the tar ends {} bytes before the end of a file",
                            self.content
                        ),
                    });
                }
                Ok(n) => {
                    self.content -= n as u64;
                    self.position += n as u64;
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads to the end of the stream, wherever the reader stands, and returns
    /// how the tar ended.
    pub(crate) fn finish(&mut self) -> io::Result<TarEnd> {
        let mut has_garbage = false;
        let mut buffer = [0; 32 << 10];
        loop {
            match self.inner.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    self.position += n as u64;
                    has_garbage |= buffer[..n].iter().any(|&b| b != 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(TarEnd {
            zero_blocks: self.zero_blocks,
            has_garbage,
            size: self.position,
        })
    }

    /// Returns the inner reader, wherever it stands.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// Passes over what is left of a member. Padding may be cut off by the end
    /// of the stream: umoci 0.4.7 writes such tars, and Go reads them.
    fn pass_content(&mut self) -> Result<(), TarError> {
        let start = self.position;
        let wanted = self.content.saturating_add(self.padding);
        let passed = self.inner.skip(wanted)?;
        let missing = self.content.saturating_sub(passed);
        self.position += passed;
        (self.content, self.padding) = (0, 0);
        if missing > 0 {
            return Err(TarError::Broken {
                offset: start,
                problem: format!("the tar ends {missing} bytes before the end of a file"),
            });
        }
        Ok(())
    }

    /// Reads a header, or returns `None` at the end of the tar.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        loop {
            let mut block = [0; BLOCK];
            let start = self.position;
            let read = self.fill(&mut block)?;
            let broken = |problem: &str| TarError::Broken {
                offset: start,
                problem: problem.to_owned(),
            };
            match read {
                0 => return Ok(None),
                BLOCK => {}
                _ => return Err(broken("the tar ends inside a header")),
            }
            if block.iter().all(|&b| b == 0) {
                self.zero_blocks += 1;
                if self.zero_blocks == 2 {
                    return Ok(None);
                }
            } else if self.zero_blocks > 0 {
                return Err(broken("a single block of zeros is followed by more"));
            } else {
                return Ok(Some(block));
            }
        }
    }

    /// Reads the body of an extension header.
    fn extension(&mut self, size: u64, start: u64) -> Result<Vec<u8>, TarError> {
        let broken = |problem: String| TarError::Broken {
            offset: start,
            problem,
        };
        if size > MAX_EXTENSION {
            return Err(broken(format!(
                "an extension header has {size} bytes, {MAX_EXTENSION} are allowed"
            )));
        }
        let mut body = vec![0; usize::try_from(size).expect("it is at most 1 MiB")];
        let read = self.fill(&mut body)?;
        if read < body.len() {
            return Err(broken("the tar ends inside an extension header".to_owned()));
        }
        self.content = 0;
        Ok(body)
    }

    /// Reads a GNU long name: it ends at the first zero byte.
    fn long_name(&mut self, size: u64, start: u64) -> Result<Vec<u8>, TarError> {
        let mut body = self.extension(size, start)?;
        body.truncate(until_zero(&body).len());
        Ok(body)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.inner.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.position += filled as u64;
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(bytes: &[u8]) -> Result<(Vec<Member>, TarEnd), TarError> {
        let mut reader = TarReader::new(Reading(bytes));
        let mut out = Vec::new();
        while let Some(member) = reader.next_member()? {
            out.push(member);
        }
        Ok((out, reader.finish()?))
    }

    fn header(kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header
    }

    #[test]
    fn a_pax_header_tells_large_owners() {
        let mut builder = tar::Builder::new(Vec::new());
        for records in [
            vec![("uid", &b"3000000"[..]), ("gid", b"4294967294")],
            vec![("gid", &b"2999999"[..])],
            vec![("uid", &b"many"[..])],
        ] {
            builder.append_pax_extensions(records).unwrap();
            let mut file = header(tar::EntryType::Regular, 0);
            file.set_uid(7);
            file.set_gid(8);
            builder.append_data(&mut file, "x", &b""[..]).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        let owners: Vec<_> = members(&bytes).unwrap().0.iter().map(|m| m.owner).collect();
        assert_eq!(owners, [(3_000_000, 4_294_967_294), (7, 2_999_999), (7, 8)]);
    }

    #[test]
    fn names_of_every_kind_are_read() {
        let long = "directory/".repeat(30) + "file";
        let mut builder = tar::Builder::new(Vec::new());
        let mut file = header(tar::EntryType::Regular, 5);
        builder
            .append_data(&mut file, "short", &b"hello"[..])
            .unwrap();
        builder
            .append_data(&mut file, &long, &b"world"[..])
            .unwrap();
        let mut link = header(tar::EntryType::Symlink, 0);
        builder.append_link(&mut link, "link", &long).unwrap();
        builder
            .append_pax_extensions([("path", "by pax".as_bytes()), ("size", b"5")])
            .unwrap();
        builder
            .append_data(&mut header(tar::EntryType::Regular, 5), "x", &b"12345"[..])
            .unwrap();
        let bytes = builder.into_inner().unwrap();
        let (found, end) = members(&bytes).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|m| {
                (
                    String::from_utf8_lossy(&m.path).into_owned(),
                    m.kind,
                    m.size,
                )
            })
            .collect();
        assert_eq!(
            names,
            [
                ("short".to_owned(), MemberKind::File, 5),
                (long.clone(), MemberKind::File, 5),
                ("link".to_owned(), MemberKind::Symlink, 0),
                ("by pax".to_owned(), MemberKind::File, 5),
            ]
        );
        assert_eq!(found[2].link, long.as_bytes());
        for (member, content) in [(0, "hello"), (1, "world"), (3, "12345")] {
            let at = usize::try_from(found[member].offset).unwrap();
            assert_eq!(&bytes[at..at + 5], content.as_bytes());
        }
        assert_eq!((end.zero_blocks, end.has_garbage), (2, false));
        assert_eq!(end.size, bytes.len() as u64);
    }

    #[test]
    fn an_extension_over_the_limit_is_refused_unread() {
        let mut huge = header(tar::EntryType::XHeader, 1 << 40);
        huge.set_path("x").unwrap();
        huge.set_cksum();
        let error = members(huge.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("1048576 are allowed"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            drop(members(&bytes));
        }

        /// Bytes that pass the checksum get further.
        #[test]
        fn arbitrary_headers_never_panic(blocks in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 512), 1..6)) {
            let mut bytes = Vec::new();
            for block in blocks {
                let mut header = tar::Header::new_old();
                header.as_mut_bytes().copy_from_slice(&block);
                header.set_size(u64::from(block[0]));
                header.set_entry_type(tar::EntryType::new(b"0125xgLKS"[usize::from(block[1]) % 9]));
                header.set_cksum();
                bytes.extend_from_slice(header.as_bytes());
            }
            drop(members(&bytes));
        }
    }
}
