//! The connection to the server behind.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use crate::http_server::{Framing, Headers, Request, read_head};

/// A request on its way, on a connection of its own.
pub(super) struct Upstream {
    socket: TcpStream,
    is_chunked: bool,
    /// Filled by a thread, because an answer can come before the body's end.
    answer: Receiver<io::Result<UpstreamAnswer>>,
}

/// An answer whose body is still to be read.
pub(super) struct UpstreamAnswer {
    pub(super) status: u16,
    pub(super) headers: Headers,
    pub(super) length: Option<u64>,
    pub(super) body: UpstreamBody,
}

/// The body of an answer, with the connection that it comes from.
pub(super) struct UpstreamBody {
    wire: BufReader<TcpStream>,
    framing: Framing,
}

impl Read for UpstreamBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.framing.read(&mut self.wire, buffer)
    }
}

impl Upstream {
    /// Sends the head of a request.
    pub(super) fn connect(addr: SocketAddr, request: &Request<'_>) -> io::Result<Self> {
        let mut socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target());
        for (name, value) in request.headers.iter() {
            // The client has its 100 from us.
            let is_ours = ["connection", "expect"];
            if !is_ours.contains(&name.to_ascii_lowercase().as_str()) {
                head += &format!("{name}: {value}\r\n");
            }
        }
        head += "Connection: close\r\n\r\n";
        socket.write_all(head.as_bytes())?;

        let (sender, answer) = channel();
        let wire = BufReader::new(socket.try_clone()?);
        let is_head = request.method == "HEAD";
        std::thread::spawn(move || {
            // Nobody may be waiting any more.
            let _ = sender.send(read_answer(wire, is_head));
        });
        Ok(Self {
            socket,
            is_chunked: request.length().is_none() && request.headers.has("Transfer-Encoding"),
            answer,
        })
    }

    /// Sends a part of the body.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_chunked {
            write!(self.socket, "{:x}\r\n", bytes.len())?;
        }
        self.socket.write_all(bytes)?;
        if self.is_chunked {
            self.socket.write_all(b"\r\n")?;
        }
        Ok(())
    }

    /// Sends what ends the body.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.is_chunked {
            self.socket.write_all(b"0\r\n\r\n")?;
        }
        Ok(())
    }

    /// Returns the answer if it is already there.
    pub(super) fn early_answer(&self) -> Option<UpstreamAnswer> {
        self.answer.try_recv().ok()?.ok()
    }

    /// Waits for the answer.
    pub(super) fn answer(&self) -> io::Result<UpstreamAnswer> {
        let gone = |_| io::ErrorKind::ConnectionAborted;
        self.answer.recv().map_err(gone)?
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // Only this side: the body of the answer may still be read. Fails if the
        // other side has closed as well. A server that waits for more of the
        // body learns that nothing will come, and the thread that waits for its
        // answer ends with the connection.
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

fn read_answer(mut wire: BufReader<TcpStream>, is_head: bool) -> io::Result<UpstreamAnswer> {
    let (status, headers) = loop {
        let (first, headers) = read_head(&mut wire)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status: u16 = status.ok_or(io::ErrorKind::InvalidData)?;
        if status >= 200 {
            break (status, headers);
        }
    };
    let (framing, length) = if is_head || matches!(status, 204 | 304) {
        (Framing::Done, Some(0))
    } else {
        Framing::of(&headers, Framing::Close)?
    };
    Ok(UpstreamAnswer {
        status,
        headers,
        length,
        body: UpstreamBody { wire, framing },
    })
}
