//! What a daemon says, and a stream that says it.

use std::fs;
use std::io::{self, Read, Write};

use nix2oci_tests::command::repository;

/// One number, string or NAR of a conversation, as bytes.
pub(super) enum Said {
    ByClient(Vec<u8>),
    ByDaemon(Vec<u8>),
}

/// Returns the bytes of a number.
pub(super) fn number(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

/// Returns the bytes of a string.
pub(super) fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = number(bytes.len() as u64);
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

/// Reads a file of `fixtures/daemon`, whose README has its form.
pub(super) fn recorded(name: &str) -> Vec<Said> {
    let file = repository().join("fixtures/daemon").join(name);
    let text = fs::read_to_string(file).expect("the fixture is there");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(parse).collect()
}

fn parse(line: &str) -> Said {
    let (who, what) = line.split_at(2);
    let bytes = if let Some(nar) = what.strip_prefix("nar ") {
        data_encoding::HEXLOWER
            .decode(nar.as_bytes())
            .expect("it is hexadecimal")
    } else if what.starts_with('"') {
        let text: String = serde_json::from_str(what).expect("it is a string of JSON");
        string(text.as_bytes())
    } else {
        let value = match what.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => what.parse(),
        };
        number(value.expect("it is a number"))
    };
    match who {
        "> " => Said::ByClient(bytes),
        "< " => Said::ByDaemon(bytes),
        _ => panic!("{line:?} says not who speaks"),
    }
}

/// Returns all that the daemon says in a conversation.
pub(super) fn by_daemon(conversation: &[Said]) -> Vec<u8> {
    let bytes = conversation.iter().filter_map(|said| match said {
        Said::ByDaemon(bytes) => Some(bytes.as_slice()),
        Said::ByClient(_) => None,
    });
    bytes.collect::<Vec<_>>().concat()
}

/// Returns how much the daemon says before the last question.
pub(super) fn before_last_question(conversation: &[Said]) -> usize {
    let last = conversation
        .iter()
        .rposition(|said| matches!(said, Said::ByClient(_)));
    by_daemon(&conversation[..last.expect("the client speaks")]).len()
}

/// A daemon that answers only what it was asked.
pub(super) struct Scripted {
    /// How much the client must have said before each piece, and the piece.
    answers: Vec<(usize, Vec<u8>)>,
    next: usize,
    at: usize,
    pub(super) expected: Vec<u8>,
    pub(super) sent: Vec<u8>,
}

impl Scripted {
    pub(super) fn new(conversation: Vec<Said>) -> Self {
        let mut scripted = Self {
            answers: Vec::new(),
            next: 0,
            at: 0,
            expected: Vec::new(),
            sent: Vec::new(),
        };
        for said in conversation {
            match said {
                Said::ByClient(bytes) => scripted.expected.extend(bytes),
                Said::ByDaemon(bytes) => {
                    let asked = scripted.expected.len();
                    scripted.answers.push((asked, bytes));
                }
            }
        }
        scripted
    }

    /// Returns how many numbers and strings were not read.
    pub(super) fn left(&self) -> usize {
        self.answers.len() - self.next
    }
}

impl Read for Scripted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some((asked, bytes)) = self.answers.get(self.next) else {
            return Ok(0);
        };
        assert!(
            self.sent.len() >= *asked,
            "the client waits for an answer to what it has not asked"
        );
        let rest = &bytes[self.at..];
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        self.at += n;
        if self.at == bytes.len() {
            (self.next, self.at) = (self.next + 1, 0);
        }
        Ok(n)
    }
}

impl Write for Scripted {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.sent.extend(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A daemon that says the same whatever it hears.
pub(super) struct Deaf<R>(pub(super) R);

impl<R: Read> Read for Deaf<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl<R> Write for Deaf<R> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says the same again and again, after a beginning.
pub(super) fn endless(beginning: Vec<u8>, again: Vec<u8>) -> impl Read {
    struct Endless(Vec<u8>, usize);

    impl Read for Endless {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            for byte in &mut *buf {
                *byte = self.0[self.1];
                self.1 = (self.1 + 1) % self.0.len();
            }
            Ok(buf.len())
        }
    }

    io::Cursor::new(beginning).chain(Endless(again, 0))
}
