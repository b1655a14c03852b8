//! The numbers and strings of the protocol.
//!
//! Numbers have 8 bytes, little end first. Strings are their length, their
//! bytes, and zeroes up to a multiple of 8. Lists are their length and their
//! items.

use std::io::{self, BufReader, Read, Write};

/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

/// What an announced string gets at first.
const FIRST_ROOM: u64 = 4 << 10;

/// Why an answer could not be had.
#[derive(Debug)]
pub(super) enum Fault {
    /// The stream failed; an [`Error`](crate::error::Error) may be inside.
    Stream(io::Error),
    /// What the daemon sent makes no sense; in words that follow its name.
    Nonsense(String),
    /// The daemon says that it failed, and why.
    Told(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

pub(super) fn nonsense<T>(problem: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Nonsense(problem.into()))
}

/// A stream with a buffer for each direction.
pub(super) struct Wire<S> {
    stream: BufReader<S>,
    output: Vec<u8>,
    /// Bytes that the answer may still have.
    left: u64,
}

impl<S: Read + Write> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream: BufReader::with_capacity(BUFFER, stream),
            output: Vec::new(),
            left: 0,
        }
    }

    /// Lets the next answer have so many bytes, and no more: everything in it
    /// is kept in memory, or could go on forever.
    pub(super) fn allow(&mut self, bytes: u64) {
        self.left = bytes;
    }

    /// Returns how many bytes are left of what was allowed.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn number(&mut self) -> Result<u64, Fault> {
        self.spend(8)?;
        let mut bytes = [0; 8];
        self.stream.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Fault> {
        let len = self.number()?;
        let padding = len.wrapping_neg() % 8;
        self.spend(len)?;
        self.spend(padding)?;
        let mut bytes = Vec::with_capacity(len.min(FIRST_ROOM) as usize);
        (&mut self.stream).take(len).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < len {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let mut rest = [0; 8];
        let rest = &mut rest[..padding as usize];
        self.stream.read_exact(rest)?;
        if rest.iter().any(|byte| *byte != 0) {
            return nonsense("it filled up a string with bytes that are not zero");
        }
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<String, Fault> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes).or_else(|error| {
            let shown = String::from_utf8_lossy(error.as_bytes());
            nonsense(format!("it sent {:?}, which is not UTF-8", brief(&shown)))
        })
    }

    pub(super) fn put_number(&mut self, number: u64) {
        self.output.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn put_string(&mut self, text: &str) {
        self.put_number(text.len() as u64);
        self.output.extend_from_slice(text.as_bytes());
        let padding = text.len().wrapping_neg() % 8;
        self.output.extend_from_slice(&[0; 8][..padding]);
    }

    /// Sends what was put.
    pub(super) fn send(&mut self) -> Result<(), Fault> {
        let stream = self.stream.get_mut();
        let sent = stream.write_all(&self.output).and_then(|()| stream.flush());
        self.output.clear();
        Ok(sent?)
    }

    /// Returns what is read from, with the bytes that were read ahead.
    pub(super) fn stream_mut(&mut self) -> &mut BufReader<S> {
        &mut self.stream
    }

    fn spend(&mut self, bytes: u64) -> Result<(), Fault> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => nonsense(format!(
                "it wants to send {bytes} bytes more, where {} were to be the most",
                self.left
            )),
        }
    }
}

/// Returns the beginning of a text on one line, without what a terminal would
/// take for a command: Nix colours what it says.
pub(super) fn brief(text: &str) -> String {
    const LONGEST: usize = 1000;
    let mut line = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if line.len() >= LONGEST {
            line.push('…');
            break;
        }
        if c == '\u{1b}' {
            if chars.next_if_eq(&'[').is_some() {
                // Parameters, up to the letter that says what to do.
                while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                chars.next();
            }
        } else if c.is_whitespace() {
            if !line.is_empty() && !line.ends_with(' ') {
                line.push(' ');
            }
        } else if !c.is_control() {
            line.push(c);
        }
    }
    line.truncate(line.trim_end().len());
    line
}
