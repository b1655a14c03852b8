//! Servers for tests: threads that speak HTTP/1.1 by hand, so that they can
//! also speak it badly.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A server on a loopback address; it ends when it is dropped.
pub(crate) struct TestServer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    is_stopped: Arc<AtomicBool>,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query, or what a proxy is asked for.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// Returns a header; its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| &**value)
    }
}

/// What is answered.
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// How many bytes of the body are sent, and what follows them.
    cut: Option<(usize, Cut)>,
}

/// How a body ends early.
#[derive(Clone, Copy)]
pub(crate) enum Cut {
    /// The connection is closed.
    Closed,
    /// Nothing follows for a long time.
    Silent,
    /// The rest follows byte by byte, fifty in a second at most.
    Dripping,
}

/// Makes an answer without a body.
pub(crate) fn answer(status: u16) -> Answer {
    Answer {
        status,
        headers: Vec::new(),
        body: Vec::new(),
        cut: None,
    }
}

impl Answer {
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Says the length of the whole body, and sends its beginning.
    pub(crate) fn cut(mut self, at: usize, cut: Cut) -> Self {
        self.cut = Some((at, cut));
        self
    }

    fn write(&self, to: &mut impl Write, has_body: bool) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} X\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        to.write_all(head.as_bytes())?;
        match self.cut {
            _ if !has_body => {}
            None => to.write_all(&self.body)?,
            Some((at, cut)) => {
                to.write_all(&self.body[..at])?;
                to.flush()?;
                match cut {
                    Cut::Closed => {}
                    Cut::Silent => thread::sleep(Duration::from_secs(20)),
                    Cut::Dripping => {
                        for byte in &self.body[at..] {
                            thread::sleep(Duration::from_millis(20));
                            to.write_all(&[*byte])?;
                            to.flush()?;
                        }
                        return Ok(());
                    }
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        to.flush()
    }
}

impl TestServer {
    /// Starts a server that answers each request.
    pub(crate) fn http(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::start(move |stream, seen| {
            let mut first = [0];
            // The beginning of TLS, which this server does not speak.
            if stream.peek(&mut first).is_ok() && first[0] != 0x16 {
                let _ = converse(stream, seen, &*answer);
            }
        })
    }

    /// Starts a server that has one worker: it answers one connection at a time,
    /// and lets others wait.
    #[cfg(feature = "binary-cache")]
    pub(crate) fn one_at_a_time(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let worker = Mutex::new(());
        Self::start(move |stream, seen| {
            let _turn = worker.lock().unwrap();
            let _ = converse(stream, seen, &answer);
        })
    }

    /// Starts a server that speaks TLS.
    pub(crate) fn https(
        config: Arc<ServerConfig>,
        answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let answer = Arc::new(answer);
        Self::start(move |stream, seen| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let _ = converse(StreamOwned::new(connection, stream), seen, &*answer);
        })
    }

    /// Starts a server that does what it likes with each connection.
    pub(crate) fn raw(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::start(move |stream, _| serve(stream))
    }

    fn start(serve: impl Fn(TcpStream, &Mutex<Vec<Seen>>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            is_stopped: Arc::default(),
        };
        let (seen, is_stopped) = (Arc::clone(&server.seen), Arc::clone(&server.is_stopped));
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if is_stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (seen, serve) = (Arc::clone(&seen), Arc::clone(&serve));
                thread::spawn(move || serve(stream.unwrap(), &seen));
            }
        });
        server
    }

    /// Returns the host and port.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Answers the requests of a connection, one after another.
fn converse(
    stream: impl Read + Write,
    log: &Mutex<Vec<Seen>>,
    answer: &dyn Fn(&Seen) -> Answer,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(seen) = read_request(&mut stream)? {
        log.lock().unwrap().push(seen.clone());
        answer(&seen).write(stream.get_mut(), seen.method != "HEAD")?;
    }
    Ok(())
}

/// Reads a request's head: method, target, headers. `None` at the end.
pub(crate) fn read_head(stream: &mut impl BufRead) -> io::Result<Option<Seen>> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let mut seen = Seen {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => seen
                .headers
                .push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => return Ok(Some(seen)),
        }
    }
}

fn read_request(stream: &mut impl BufRead) -> io::Result<Option<Seen>> {
    let Some(mut seen) = read_head(stream)? else {
        return Ok(None);
    };
    if seen.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            stream.take(size).read_to_end(&mut seen.body)?;
            stream.read_line(&mut line)?;
            if size == 0 {
                return Ok(Some(seen));
            }
        }
    }
    let length = seen
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    stream.take(length).read_to_end(&mut seen.body)?;
    if (seen.body.len() as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(seen))
}
