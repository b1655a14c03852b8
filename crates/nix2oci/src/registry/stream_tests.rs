//! Blobs that are made while a server takes them, or does not.

use std::io::{BufReader, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::error::ErrorClass;
use crate::net::test_server::{Answer, Seen, TestServer, answer, read_head};
use crate::oci::{MediaType, descriptor};
use crate::registry::test_bed::Bed;
use crate::registry::{Client, RegistryOptions};

/// Whoever makes a blob.
struct Maker {
    chunks: mpsc::Sender<Bytes>,
    end: oneshot::Sender<Descriptor>,
}

fn body() -> (Maker, StreamedBody) {
    let (to, chunks) = mpsc::channel(2);
    let (say, end) = oneshot::channel();
    let maker = Maker {
        chunks: to,
        end: say,
    };
    (maker, StreamedBody { chunks, end })
}

fn layer(bytes: &[u8]) -> Descriptor {
    let size = bytes.len() as u64;
    descriptor(MediaType::ImageLayerGzip, Digest::of(bytes), size)
}

impl Maker {
    /// Makes some pieces on a thread; returns how many were taken.
    fn make(
        self,
        pieces: &[&'static [u8]],
        end: Option<Descriptor>,
    ) -> std::thread::JoinHandle<usize> {
        let pieces = pieces.to_vec();
        std::thread::spawn(move || {
            let mut taken = 0;
            for piece in pieces {
                if self
                    .chunks
                    .blocking_send(Bytes::from_static(piece))
                    .is_err()
                {
                    return taken;
                }
                taken += 1;
            }
            drop(self.chunks);
            if let Some(end) = end {
                let _ = self.end.send(end);
            }
            taken
        })
    }
}

/// A client of a server, and what was told to be sent.
struct Rig {
    bed: Bed,
    repository: Repository,
    sent: Arc<AtomicU64>,
}

impl Rig {
    fn new(server: &TestServer) -> Self {
        let bed = Bed::new();
        let options = RegistryOptions {
            retries: 0,
            ..RegistryOptions::default()
        };
        let client = Client::new(&bed.cx, &server.host(), &options).unwrap();
        Self {
            bed,
            repository: client.repository("app"),
            sent: Arc::default(),
        }
    }

    fn put(&self, known: Option<Descriptor>, body: StreamedBody) -> Result<()> {
        let repository = self.repository.clone();
        let sent = Arc::clone(&self.sent);
        self.bed.runtime.block_on(&self.bed.cx, async move {
            let permit = repository.permit().await;
            let sent: SentFn = Arc::new(move |told| {
                if let Sent::Bytes(bytes) = told {
                    sent.fetch_add(bytes, Ordering::Relaxed);
                }
            });
            repository
                .put_stream(known.as_ref(), body, &permit, sent)
                .await
        })
    }
}

/// Answers as registries do.
fn registry(seen: &Seen) -> Answer {
    match &*seen.method {
        "POST" => answer(202).header("Location", "/up/1?state=a"),
        "PATCH" => answer(202).header("Location", "/up/1?state=b"),
        "PUT" => answer(201),
        "HEAD" => answer(404),
        _ => answer(204),
    }
}

fn lines(server: &TestServer) -> Vec<String> {
    let line = |seen: &Seen| format!("{} {}", seen.method, seen.target);
    server.seen().iter().map(line).collect()
}

fn closed(state: char, digest: Digest) -> String {
    format!("PUT /up/1?state={state}&digest=sha256%3A{}", digest.hex())
}

#[test]
fn a_layer_is_one_patch_and_named_in_the_end() {
    let server = TestServer::http(registry);
    let rig = Rig::new(&server);
    let (maker, body) = body();
    let made = layer(b"hello, world");
    let making = maker.make(&[b"hello", b", world"], Some(made));
    rig.put(None, body).unwrap();
    assert_eq!(making.join().unwrap(), 2);
    let seen = server.seen();
    assert_eq!(
        lines(&server),
        [
            "POST /v2/app/blobs/uploads/",
            "PATCH /up/1?state=a",
            &closed('b', Digest::of(b"hello, world")),
        ]
    );
    assert_eq!(seen[1].body, b"hello, world");
    assert_eq!(seen[1].header("transfer-encoding"), Some("chunked"));
    assert_eq!(seen[1].header("content-range"), None);
    assert_eq!(seen[2].header("content-length"), Some("0"));
    assert_eq!(rig.sent.load(Ordering::Relaxed), 12);
}

#[test]
fn a_known_layer_is_one_put() {
    let server = TestServer::http(registry);
    let rig = Rig::new(&server);
    let (maker, body) = body();
    let known = layer(b"hello, world");
    let making = maker.make(&[b"hello", b", world"], Some(known.clone()));
    rig.put(Some(known), body).unwrap();
    making.join().unwrap();
    assert_eq!(
        lines(&server),
        [
            "POST /v2/app/blobs/uploads/",
            &closed('a', Digest::of(b"hello, world")),
        ]
    );
    assert_eq!(server.seen()[1].header("content-length"), Some("12"));
}

#[test]
fn an_empty_layer_arrives() {
    let server = TestServer::http(registry);
    let rig = Rig::new(&server);
    for known in [None, Some(layer(b""))] {
        let (maker, body) = body();
        let making = maker.make(&[], Some(layer(b"")));
        rig.put(known, body).unwrap();
        making.join().unwrap();
    }
}

/// Sends a body that breaks; returns why, the requests' methods, and whether
/// the server could take the body for complete.
fn broken_body(
    known: Option<Descriptor>,
    pieces: &[&'static [u8]],
    end: Option<Descriptor>,
) -> (Error, Vec<String>, bool) {
    let complete = Arc::new(Mutex::new(false));
    let log = Arc::new(Mutex::new(Vec::new()));
    let (is_complete, seen) = (Arc::clone(&complete), Arc::clone(&log));
    let server = TestServer::raw(move |stream| {
        let mut first = [0];
        if !matches!(stream.peek(&mut first), Ok(1)) || first[0] == 0x16 {
            return;
        }
        let mut stream = BufReader::new(stream);
        while let Ok(Some(head)) = read_head(&mut stream) {
            seen.lock().unwrap().push(head.method.clone());
            let reply = match &*head.method {
                "POST" => "HTTP/1.1 202 X\r\nLocation: /up/1\r\nContent-Length: 0\r\n\r\n",
                "DELETE" => "HTTP/1.1 204 X\r\n\r\n",
                _ => {
                    let mut rest = Vec::new();
                    let _ = stream.read_to_end(&mut rest);
                    *is_complete.lock().unwrap() = match head.header("content-length") {
                        Some(length) => length == rest.len().to_string(),
                        None => rest.ends_with(b"0\r\n\r\n"),
                    };
                    return;
                }
            };
            stream.get_mut().write_all(reply.as_bytes()).unwrap();
        }
    });
    let rig = Rig::new(&server);
    let (maker, body) = body();
    let making = maker.make(pieces, end);
    let error = rig.put(known, body).unwrap_err();
    making.join().unwrap();
    drop(rig);
    // The connection's thread sees the end when it comes.
    std::thread::sleep(Duration::from_millis(200));
    let log = log.lock().unwrap().clone();
    let is_complete = *complete.lock().unwrap();
    (error, log, is_complete)
}

#[test]
fn a_layer_that_ends_without_a_name_is_broken_off() {
    for known in [None, Some(layer(b"hello, world"))] {
        let (error, methods, is_complete) = broken_body(known, &[b"hello"], None);
        assert!(matches!(error.kind(), ErrorKind::Cancelled), "{error}");
        assert!(!is_complete, "the body must not look complete");
        assert_eq!(methods[0], "POST");
        assert_eq!(methods.last().unwrap(), "DELETE", "{methods:?}");
    }
}

#[test]
fn a_layer_of_another_size_is_broken_off() {
    for (known, pieces, end) in [
        (None, &[&b"hello"[..]][..], layer(b"hello, world")),
        (Some(layer(b"hello, world")), &[b"hello"], layer(b"hello")),
    ] {
        let (error, _, is_complete) = broken_body(known, pieces, Some(end));
        assert_eq!(error.class(), ErrorClass::Integrity, "{error}");
        assert!(!is_complete);
    }
}

/// A full disk is told while bytes are still coming.
#[test]
fn an_early_refusal_ends_the_making() {
    let server = TestServer::raw(|stream| {
        let mut first = [0];
        if !matches!(stream.peek(&mut first), Ok(1)) || first[0] == 0x16 {
            return;
        }
        let mut stream = BufReader::new(stream);
        while let Ok(Some(head)) = read_head(&mut stream) {
            let reply = match &*head.method {
                "POST" => "HTTP/1.1 202 X\r\nLocation: /up/1\r\nContent-Length: 0\r\n\r\n",
                "PATCH" => {
                    let mut some = [0; 1000];
                    stream.read_exact(&mut some).unwrap();
                    "HTTP/1.1 507 X\r\nContent-Length: 9\r\n\r\ndisk full"
                }
                _ => "HTTP/1.1 204 X\r\n\r\n",
            };
            stream.get_mut().write_all(reply.as_bytes()).unwrap();
            if head.method == "PATCH" {
                // As servers do: closing with bytes unread would reset the
                // connection, and the answer might be lost.
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
                return;
            }
        }
    });
    let rig = Rig::new(&server);
    let (maker, body) = body();
    static PIECE: [u8; 100_000] = [7; 100_000];
    let making = maker.make(&[&PIECE[..]; 10_000], None);
    let error = rig.put(None, body).unwrap_err();
    assert!(error.to_string().contains("507"), "{error}");
    assert!(error.to_string().contains("disk full"), "{error}");
    assert!(making.join().unwrap() < 10_000);
    assert!(rig.repository.takes_streams(), "the next may have room");
}

/// Google's registries under a name of their user's: dotnet's
/// sdk-container-builds#287, kitops#777.
#[test]
fn a_registry_that_takes_no_stream_gets_none_again() {
    for status in [405, 411, 413, 501] {
        let server = TestServer::http(move |seen| match &*seen.method {
            "PATCH" => answer(status),
            _ => registry(seen),
        });
        let rig = Rig::new(&server);
        assert!(rig.repository.takes_streams());
        let (maker, body) = body();
        let making = maker.make(&[b"hello"], Some(layer(b"hello")));
        rig.put(None, body).unwrap_err();
        making.join().unwrap();
        assert!(!rig.repository.takes_streams(), "{status}");
        let seen = &rig.repository.registry.seen;
        assert!(!seen.refuses_size(5), "nobody knows what was too large");
    }
    let bed = Bed::new();
    let options = RegistryOptions::default();
    for host in ["europe-docker.pkg.dev", "gcr.io"] {
        let client = Client::new(&bed.cx, host, &options).unwrap();
        assert!(!client.repository("app").takes_streams());
    }
}

#[test]
fn a_lost_answer_to_the_end_is_looked_into() {
    for (known, expected) in [
        (None, &["POST", "PATCH", "PUT", "HEAD"][..]),
        (Some(layer(b"hello")), &["POST", "PUT", "HEAD"]),
    ] {
        let server = TestServer::http(|seen| match &*seen.method {
            "PUT" => answer(502),
            "HEAD" => answer(200).body("hello"),
            _ => registry(seen),
        });
        let rig = Rig::new(&server);
        let (maker, body) = body();
        let making = maker.make(&[b"hello"], Some(layer(b"hello")));
        rig.put(known, body).unwrap();
        making.join().unwrap();
        let methods: Vec<_> = server.seen().into_iter().map(|seen| seen.method).collect();
        assert_eq!(methods, expected);
    }
}

#[test]
fn a_blob_is_checked_while_it_is_read() {
    let server = TestServer::http(|_| answer(200).body("hello"));
    let rig = Rig::new(&server);
    let read = |descriptor: Descriptor| {
        let repository = rig.repository.clone();
        rig.bed.runtime.block_on(&rig.bed.cx, async move {
            let mut stream = repository.open_blob(&descriptor).await?;
            let mut bytes = Vec::new();
            while let Some(piece) =
                std::future::poll_fn(|task| stream.as_mut().poll_next(task)).await
            {
                bytes.extend_from_slice(&piece?);
            }
            Ok(bytes)
        })
    };
    assert_eq!(read(layer(b"hello")).unwrap(), b"hello");
    for wrong in [layer(b"jello"), layer(b"hell"), layer(b"hello!")] {
        let error = read(wrong).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Integrity, "{error}");
    }
}
