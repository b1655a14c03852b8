//! xz: streams in a row, with padding between them.
//!
//! Source: "The .xz File Format" 1.2.

use std::io::{self, BufRead, Read};

use liblzma::stream::{Action, Error, Status, Stream};

use crate::error::{ErrorKind, Result};

use super::Trailing;

/// The largest dictionary that is accepted, in MiB: that of `xz -9`. Nix takes
/// `xz -6` (8 MiB) if nobody says otherwise.
const DICTIONARY_MAX: u64 = 64;

/// The most memory that the decoder may take, in bytes: the largest dictionary,
/// and some for itself. The next larger one is of 96 MiB.
const MEMORY_MAX: u64 = (DICTIONARY_MAX + 4) << 20;

/// Reads stream after stream. Memory for a dictionary is touched as far as
/// there are bytes for it.
pub(crate) struct XzReader<R> {
    inner: R,
    state: State,
}

enum State {
    Stream(Stream),
    /// After a stream and so many bytes of padding, counted in fours.
    Padding(usize),
}

impl<R: BufRead> XzReader<R> {
    pub(crate) fn new(inner: R) -> Result<Self> {
        let stream = new_stream().map_err(|error| ErrorKind::Codec {
            codec: "xz",
            problem: error.to_string(),
        })?;
        Ok(Self {
            inner,
            state: State::Stream(stream),
        })
    }
}

impl<R: BufRead> Read for XzReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let input = self.inner.fill_buf()?;
            match &mut self.state {
                State::Stream(stream) => {
                    let (taken, given) = (stream.total_in(), stream.total_out());
                    let status = stream.process(input, buf, Action::Run).map_err(problem)?;
                    let taken = (stream.total_in() - taken) as usize;
                    let given = (stream.total_out() - given) as usize;
                    if input.is_empty() && given == 0 && status != Status::StreamEnd {
                        let problem = "the xz stream ends too early";
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
                    }
                    self.inner.consume(taken);
                    if status == Status::StreamEnd {
                        self.state = State::Padding(0);
                    }
                    if given > 0 {
                        return Ok(given);
                    }
                }
                State::Padding(padding) => match input {
                    [] if *padding == 0 => return Ok(0),
                    [0, ..] => {
                        *padding = (*padding + 1) % 4;
                        self.inner.consume(1);
                    }
                    [0xfd, ..] if *padding == 0 => self.state = State::Stream(new_stream()?),
                    _ => return Err(Trailing("xz").into()),
                },
            }
        }
    }
}

fn new_stream() -> io::Result<Stream> {
    Stream::new_stream_decoder(MEMORY_MAX, 0).map_err(problem)
}

fn problem(error: Error) -> io::Error {
    let problem = match error {
        Error::MemLimit => {
            format!("the xz stream needs a dictionary of more than {DICTIONARY_MAX} MiB")
        }
        Error::Mem => return io::ErrorKind::OutOfMemory.into(),
        Error::Format => "it does not begin as an xz stream does".to_owned(),
        Error::Options => "the xz stream uses what no version up to 5.8 knows".to_owned(),
        _ => "the xz stream is damaged".to_owned(),
    };
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
