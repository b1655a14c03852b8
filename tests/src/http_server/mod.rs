//! An HTTP/1.1 server for tests, in which everything can go wrong on request.
//!
//! Written by hand on blocking sockets, a thread for each connection: what an
//! HTTP library would refuse to send is what clients have to be tested with.
//! Bodies are streamed to the handler, so an upload costs no memory.
//!
//! Source: RFC 9112 (HTTP/1.1) and, for what a server does with a body that it
//! has not read, Go's net/http, on which most registries stand.

mod answer;
mod connection;
mod headers;
mod query;
mod request;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::ServerConfig;

pub use answer::{Answer, AnswerBody};
pub use headers::Headers;
pub use query::{percent_decode, query_values};
pub use request::Request;

pub use connection::read_head;
pub(crate) use request::Framing;

/// What answers requests, from several threads at a time.
pub type Handler = dyn Fn(&mut Request<'_>) -> Answer + Send + Sync;

/// A server on a free port of 127.0.0.1. It ends, with all its connections,
/// when it is dropped.
pub struct HttpServer {
    addr: SocketAddr,
    is_tls: bool,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

/// What the threads of a server have in common.
pub(crate) struct Shared {
    pub(crate) handler: Box<Handler>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) requests: AtomicU64,
    pub(crate) stop: Stop,
    connections: AtomicU64,
    sockets: Mutex<BTreeMap<u64, TcpStream>>,
}

impl HttpServer {
    /// Starts a server without TLS.
    pub fn start(handler: impl Fn(&mut Request<'_>) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(None, handler)
    }

    /// Starts a server that speaks TLS, and nothing else; see
    /// [`TestCa::server_config`](crate::certificates::TestCa::server_config).
    pub fn start_tls(
        tls: Arc<ServerConfig>,
        handler: impl Fn(&mut Request<'_>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Some(tls), handler)
    }

    /// Starts a server with or without TLS.
    pub fn start_with(
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(&mut Request<'_>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .expect("the loopback interface has a free port");
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        let is_tls = tls.is_some();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            tls,
            requests: AtomicU64::new(0),
            stop: Stop::default(),
            connections: AtomicU64::new(0),
            sockets: Mutex::default(),
        });
        let accepting = shared.clone();
        let listener = std::thread::spawn(move || accept(&listener, &accepting));
        Self {
            addr,
            is_tls,
            shared,
            listener: Some(listener),
        }
    }

    /// Returns the address: 127.0.0.1 and a port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns address and port as in a reference: `127.0.0.1:12345`.
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// Returns the same server by name: `localhost:12345`.
    pub fn localhost(&self) -> String {
        format!("localhost:{}", self.addr.port())
    }

    /// Returns the root URL without a slash at its end: `http://127.0.0.1:12345`.
    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// Returns how many connections came in so far, those included that failed
    /// to agree on TLS.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Returns how many requests came in so far, on all connections.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Returns how many connections are open now.
    pub fn open_connections(&self) -> usize {
        lock(&self.shared.sockets).len()
    }

    /// Breaks all connections that are open now, whatever they are doing.
    pub fn break_connections(&self) {
        for socket in lock(&self.shared.sockets).values() {
            hang_up(socket);
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.shared.stop.set();
        // Wakes the thread that waits for connections.
        let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.addr.port());
        drop(TcpStream::connect_timeout(&local, Duration::from_secs(5)));
        if let Some(listener) = self.listener.take() {
            // It joins the threads of the connections. A panic there has been
            // printed; a second one here would hide the test's own.
            let _ = listener.join();
        }
    }
}

impl std::fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HttpServer").field(&self.url()).finish()
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for socket in listener.incoming() {
        if shared.stop.is_set() {
            break;
        }
        let Ok(socket) = socket else { continue };
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        if let Ok(clone) = socket.try_clone() {
            lock(&shared.sockets).insert(number, clone);
        }
        let serving = shared.clone();
        threads.retain(|thread| !thread.is_finished());
        threads.push(std::thread::spawn(move || {
            // Dropped also by a panic, so that the client does not wait for ever.
            let _open = Open(&serving, number);
            // A connection that broke is the client's affair; the handler has
            // seen the error while it read the body.
            let _ = connection::serve(&serving, socket, number);
        }));
    }
    for socket in lock(&shared.sockets).values() {
        hang_up(socket);
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// A connection in the list of the open ones.
struct Open<'a>(&'a Shared, u64);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.forget(self.1);
    }
}

impl Shared {
    /// Lets go of the second handle of a connection, so that closing the first
    /// one closes the connection.
    pub(crate) fn forget(&self, number: u64) {
        lock(&self.sockets).remove(&number);
    }
}

fn hang_up(socket: &TcpStream) {
    // Fails if the other side was faster.
    let _ = socket.shutdown(std::net::Shutdown::Both);
}

/// Makes closing this socket a reset (RST) instead of an orderly end.
pub(crate) fn reset_on_close(socket: &TcpStream) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_linger(
        socket,
        Some(Duration::ZERO),
    )?)
}

/// Locks, also after a panic of another thread: the test fails by that one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the waiting of all threads of a server.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub(crate) fn set(&self) {
        *lock(&self.is_set) = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_set(&self) -> bool {
        *lock(&self.is_set)
    }

    /// Sleeps, less long if the server ends.
    pub(crate) fn sleep(&self, duration: Duration) {
        if duration.is_zero() {
            return;
        }
        let guard = lock(&self.is_set);
        let slept = self
            .changed
            .wait_timeout_while(guard, duration, |is_set| !*is_set);
        drop(slept);
    }
}

#[cfg(test)]
mod tests;
