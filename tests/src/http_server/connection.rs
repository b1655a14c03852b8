//! One connection: requests one after the other.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::answer::Ending;
use super::headers::Headers;
use super::request::{Body, Framing, Request, Wire, invalid, line};
use super::{Shared, reset_on_close};

/// So much of a body that nobody wanted is read for the sake of keeping the
/// connection, as Go's net/http does.
const DISCARDED: u64 = 256 * 1024;

/// How long a client that is still sending has to see its answer, as with Go.
const FAREWELL: Duration = Duration::from_millis(500);

/// Serves until one side ends the connection.
pub(super) fn serve(shared: &Shared, socket: TcpStream, number: u64) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let raw = socket.try_clone()?;
    let ending = match &shared.tls {
        Some(config) => serve_tls(shared, config, socket),
        None => serve_requests(shared, &mut BufReader::with_capacity(64 * 1024, socket)),
    };
    if matches!(ending, Ok(Ending::Reset)) {
        shared.forget(number);
        reset_on_close(&raw)?;
    }
    ending.map(|_| ())
}

fn serve_tls(shared: &Shared, config: &Arc<ServerConfig>, socket: TcpStream) -> io::Result<Ending> {
    let tls = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
    let stream = StreamOwned::new(tls, socket);
    let mut stream = BufReader::with_capacity(64 * 1024, stream);
    let ending = serve_requests(shared, &mut stream)?;
    if ending != Ending::Reset {
        let stream = stream.get_mut();
        stream.conn.send_close_notify();
        // Fails if the client is gone, who then needs no farewell.
        let _ = stream.flush();
    }
    Ok(ending)
}

impl<S: Read + Write> Wire for BufReader<S> {
    fn out(&mut self) -> &mut dyn Write {
        self.get_mut()
    }
}

fn serve_requests(shared: &Shared, wire: &mut dyn Wire) -> io::Result<Ending> {
    loop {
        let Some((first, headers)) = read_head(wire)? else {
            return Ok(Ending::Close);
        };
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some(version)) =
            (words.next(), words.next(), words.next())
        else {
            return Err(invalid());
        };
        let (framing, length) = Framing::of(&headers, Framing::Done)?;
        let is_awaited = headers.lists("Expect", "100-continue");
        let mut is_last = version == "HTTP/1.0" || headers.lists("Connection", "close");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            number: shared.requests.fetch_add(1, Ordering::SeqCst),
            body: Body {
                wire,
                framing,
                length,
                received: 0,
                is_awaited,
            },
            stop: &shared.stop,
        };
        let answer = (shared.handler)(&mut request);
        if shared.stop.is_set() {
            return Ok(Ending::Close);
        }

        let is_abandoned = match request.body.framing {
            Framing::Done => false,
            Framing::Length(left) => request.body.is_awaited || left > DISCARDED,
            Framing::Chunk(..) | Framing::Close => true,
        };
        is_last |= is_abandoned;
        let body = &mut request.body;
        let ending = answer.write(body.wire.out(), method, is_last, &shared.stop)?;
        if ending == Ending::KeepAlive {
            body.is_awaited = false;
            io::copy(body, &mut io::sink())?;
        } else {
            if ending == Ending::Close && is_abandoned && !body.is_awaited {
                shared.stop.sleep(FAREWELL);
            }
            return Ok(ending);
        }
    }
}

/// Reads the first line of a message and its header fields; nothing if the
/// connection ends before it.
pub fn read_head(wire: &mut (impl BufRead + ?Sized)) -> io::Result<Option<(String, Headers)>> {
    let first = loop {
        if wire.fill_buf()?.is_empty() {
            return Ok(None);
        }
        // RFC 9112 2.2: empty lines before a message are ignored.
        let first = line(wire)?;
        if !first.is_empty() {
            break first;
        }
    };
    let mut headers = Headers::default();
    loop {
        let field = line(wire)?;
        if field.is_empty() {
            return Ok(Some((first, headers)));
        }
        let (name, value) = field.split_once(':').ok_or_else(invalid)?;
        headers.add(name, value.trim());
    }
}
