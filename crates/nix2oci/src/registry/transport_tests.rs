//! Repetition, bodies, patience and cancelling.

use std::io::{BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use reqwest::Url;

use super::*;
use crate::error::ErrorClass;
use crate::net::test_server::{TestServer, answer, read_head};
use crate::net::{BodyStream, may_pass, read_pieces};
use crate::registry::test_bed::{Bed, PATIENT, get, put, shown, take, with_password};

fn stream(reader: impl Read + Send + 'static) -> BodyStream {
    read_pieces(Box::new(reader), |_| Error::invalid("body", "broken"))
}

fn replay(bytes: &'static [u8]) -> Body {
    Body::Replay(Arc::new(move || Ok(stream(bytes))), bytes.len() as u64)
}

/// A server whose first answers are others than its last one.
fn busy(first: usize, refusal: fn() -> crate::net::test_server::Answer) -> TestServer {
    let count = AtomicUsize::new(0);
    TestServer::http(move |_| {
        if count.fetch_add(1, Ordering::Relaxed) < first {
            refusal()
        } else {
            answer(200).body("done")
        }
    })
}

fn options(retries: u32) -> RegistryOptions {
    RegistryOptions {
        retries,
        ..RegistryOptions::default()
    }
}

#[test]
fn a_loopback_registry_speaks_http() {
    let server = busy(0, || answer(500));
    let bed = Bed::new();
    for host in [server.host(), format!("localhost:{}", server.port())] {
        let transport = bed.transport(&host, &options(0));
        let taken = bed.send(&transport, get("/v2/app/tags/list?n=1")).unwrap();
        assert_eq!((taken.status, &*taken.body), (200, &b"done"[..]));
        assert_eq!(taken.path, "/v2/app/tags/list");
    }
    let seen = server.seen();
    assert_eq!(seen[0].target, "/v2/app/tags/list?n=1");
    assert_eq!(seen[0].header("authorization"), None);
    let agent = concat!("nix2oci/", env!("CARGO_PKG_VERSION"));
    assert_eq!(seen[0].header("user-agent"), Some(agent));
    assert_eq!(seen.len(), 2, "nothing but the requests themselves");
}

#[test]
fn docker_hub_has_its_api_elsewhere() {
    let bed = Bed::new();
    let transport = bed.transport("docker.io", &options(0));
    assert_eq!(transport.host(), "docker.io");
    assert_eq!(api_host("docker.io"), "registry-1.docker.io");
    assert_eq!(api_host("index.docker.io"), "registry-1.docker.io");
    assert_eq!(api_host("ghcr.io"), "ghcr.io");
}

#[test]
fn what_is_no_host_is_refused() {
    let bed = Bed::new();
    for host in [
        "",
        "a/b",
        "user@host",
        "a?b",
        "host:port",
        "a b",
        "../etc",
        "[::1",
    ] {
        let error = Transport::new(&bed.cx, host, &options(0)).err().unwrap();
        assert_eq!(error.class(), ErrorClass::Input, "{host}");
    }
    for host in ["[::1]:5000", "a", "xn--bcher-kva.example:443"] {
        Transport::new(&bed.cx, host, &options(0)).unwrap();
    }
}

#[test]
fn a_refused_connection_on_this_machine_is_an_error_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let bed = Bed::new();
    let transport = bed.transport(&format!("127.0.0.1:{port}"), &options(5));
    let error = bed.send(&transport, get("/v2/")).unwrap_err();
    assert_eq!(
        shown(&error),
        format!("127.0.0.1:{port} did not answer when asked to give the thing: connection refused")
    );
    assert_eq!(bed.told(), [""; 0]);
}

#[test]
fn what_may_pass_is_repeated() {
    for refusal in [408, 425, 429, 500, 502, 503, 504] {
        let count = AtomicUsize::new(0);
        let server = TestServer::http(move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0 => answer(refusal).header("Retry-After", "0"),
            _ => answer(200),
        });
        let bed = Bed::new();
        bed.send(&bed.transport(&server.host(), &options(1)), get("/v2/"))
            .unwrap();
        assert_eq!(server.seen().len(), 2);
        let told = bed.told();
        assert_eq!(told.len(), 1);
        assert!(
            told[0].contains("wait: 0ns, attempt: 1, attempts: 1"),
            "{told:?}"
        );
    }
}

#[test]
fn what_stays_is_not_repeated() {
    for refusal in [400, 404, 405, 409, 413, 416, 501] {
        let server = TestServer::http(move |_| answer(refusal).header("Retry-After", "0"));
        let bed = Bed::new();
        let transport = bed.transport(&server.host(), &options(5));
        let error = bed.send(&transport, get("/v2/")).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Remote);
        assert_eq!(server.seen().len(), 1);
    }
}

#[test]
fn the_last_error_says_how_often_it_was_tried() {
    let server = busy(9, || answer(503).header("retry-after", "0").body("later"));
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &options(2));
    let error = bed.send(&transport, get("/v2/")).unwrap_err();
    let expected = format!(
        "{} failed to give the thing: status 503 Service Unavailable: later (tried 3 times)",
        server.host()
    );
    assert_eq!(shown(&error), expected);
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn a_dropped_connection_is_repeated() {
    let count = AtomicUsize::new(0);
    let server = TestServer::raw(move |mut stream| {
        let mut first = [0];
        stream.peek(&mut first).unwrap();
        if first[0] == 0x16 {
            return;
        }
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let _ = read_head(&mut reader);
        if count.fetch_add(1, Ordering::Relaxed) > 0 {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &options(1));
    bed.send(&transport, get("/v2/")).unwrap();
    let told = bed.told();
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("connection closed"), "{told:?}");
}

#[test]
fn retry_after_is_obeyed_by_all_requests() {
    let count = AtomicUsize::new(0);
    let server = TestServer::http(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => answer(429)
            .header("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
            .header("Retry-After", "Sun, 06 Nov 1994 08:49:38 GMT"),
        _ => answer(200),
    });
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &options(1));
    let begin = Instant::now();
    bed.runtime
        .block_on(&bed.cx, async move {
            let first = tokio::spawn({
                let transport = transport.clone();
                async move { take(&transport, get("/v2/first")).await.map(drop) }
            });
            tokio::time::sleep(Duration::from_millis(300)).await;
            take(&transport, get("/v2/second")).await?;
            first.await.unwrap()
        })
        .unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.seen().len(), 3);
}

/// Uploads repeat above one request, and know nothing of what it was told.
#[test]
fn whoever_repeats_tells_how_long_the_registry_wants_to_rest() {
    let server = busy(9, || answer(429).header("Retry-After", "2"));
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &options(5));
    let request = Request {
        retry: false,
        ..get("/v2/")
    };
    let error = bed.send(&transport, request).unwrap_err();
    bed.runtime
        .block_on(&bed.cx, async move {
            transport.pause_before_retry(&error, 1, None).await;
            Ok(())
        })
        .unwrap();
    let told = bed.told();
    assert!(told[0].contains("wait: 1."), "{told:?}");
}

#[test]
fn too_long_a_wait_is_an_error() {
    let server = busy(9, || answer(429).header("Retry-After", "7200"));
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &options(5));
    let error = bed.send(&transport, get("/v2/")).unwrap_err();
    let text = shown(&error);
    assert!(
        text.contains("asks to wait 7200 s, longer than 300 s: status 429 Too Many Requests"),
        "{text}"
    );
    assert!(!may_pass(&error));
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_body_is_made_anew_for_each_try() {
    let count = AtomicUsize::new(0);
    let server = TestServer::http(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => answer(500).header("Retry-After", "0"),
        _ => answer(201),
    });
    let large: &'static [u8] = vec![7; 1_000_000].leak();
    for body in [
        replay(large),
        Body::Bytes(Bytes::from_static(large)),
        Body::Bytes(Bytes::from_static(b"small")),
    ] {
        let bed = Bed::new();
        let length = match &body {
            Body::Bytes(bytes) => bytes.len(),
            _ => large.len(),
        };
        let transport = bed.transport(&server.host(), &options(1));
        bed.send(&transport, put("/v2/", body)).unwrap();
        for seen in server.seen().iter().rev().take(1) {
            assert_eq!(seen.body.len(), length);
            assert_eq!(seen.header("content-length"), Some(&*length.to_string()));
            assert_eq!(seen.header("transfer-encoding"), None);
        }
    }
}

#[test]
fn an_empty_body_has_a_length() {
    let server = TestServer::http(|_| answer(201));
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &options(0));
    bed.send(&transport, put("/v2/", Body::Empty)).unwrap();
    assert_eq!(server.seen()[0].header("content-length"), Some("0"));
}

#[test]
fn a_body_that_is_sent_once_is_not_repeated() {
    let server = TestServer::http(|_| answer(500).header("Retry-After", "0"));
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &options(5));
    let body = Body::stream(stream(&b"once"[..]), None);
    let error = bed.send(&transport, put("/v2/", body)).unwrap_err();
    assert!(shown(&error).ends_with("status 500 Internal Server Error"));
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].body, b"once");
    assert_eq!(seen[0].header("transfer-encoding"), Some("chunked"));
}

#[test]
fn an_error_of_the_body_is_the_error() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => Ok(buffer.len()),
                _ => Err(std::io::ErrorKind::InvalidData.into()),
            }
        }
    }
    struct Panics;
    impl Read for Panics {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            panic!("a reader that panics, as this test wants")
        }
    }
    let server = TestServer::http(|_| answer(201));
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &options(5));
    for (body, expected) in [
        (
            Body::stream(stream(Broken(0)), Some(10_000_000)),
            "body: broken",
        ),
        (
            Body::stream(stream(Panics), None),
            "a worker thread panicked: the reader of a body ended early",
        ),
        (
            Body::stream(stream(&b"12345"[..]), Some(6)),
            "the body of take the thing has 5 bytes, expected 6",
        ),
        (
            Body::stream(stream(&b"12345"[..]), Some(4)),
            "the body of take the thing has 5 bytes, expected 4",
        ),
    ] {
        let error = bed.send(&transport, put("/v2/", body)).unwrap_err();
        assert_eq!(shown(&error), expected);
    }
    assert_eq!(bed.told(), [""; 0]);
}

#[test]
fn an_answer_in_the_middle_of_a_body_is_seen() {
    let server = TestServer::raw(|mut stream| {
        let mut first = [0];
        stream.peek(&mut first).unwrap();
        if first[0] == 0x16 {
            return;
        }
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let _ = read_head(&mut reader);
        let _ = reader.read_exact(&mut [0; 100_000]);
        let head = b"HTTP/1.1 413 X\r\nContent-Length: 9\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(head);
        thread::sleep(Duration::from_millis(20));
        let _ = stream.write_all(b"too large");
        // What was not read makes the end a reset. Servers wait for a while so
        // that the answer is seen before (Go 500 ms, nginx `lingering_close`).
        thread::sleep(Duration::from_millis(50));
    });
    let bed = Bed::new();
    for _ in 0..20 {
        let transport = bed.transport(&server.host(), &options(0));
        let endless = std::io::repeat(1).take(1_000_000_000);
        let body = Body::stream(stream(endless), Some(1_000_000_000));
        let error = bed.send(&transport, put("/v2/", body)).unwrap_err();
        let text = shown(&error);
        assert!(
            text.ends_with("status 413 Payload Too Large: too large"),
            "{text}"
        );
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    for request in [
        get("/v2/"),
        put("/v2/", replay(&[1; 100_000])),
        put("/v2/", Body::stream(stream(std::io::repeat(1)), None)),
    ] {
        let server = TestServer::raw(|mut stream| {
            let mut first = [0];
            stream.peek(&mut first).unwrap();
            if first[0] != 0x16 {
                // Takes a little and nothing more.
                let _ = stream.read(&mut first);
                thread::sleep(Duration::from_secs(20));
            }
        });
        let bed = Bed::new();
        let transport = bed.transport(&server.host(), &options(0));
        let begin = Instant::now();
        let error = bed.send(&transport, request).unwrap_err();
        let text = shown(&error);
        assert!(
            text.contains("no answer within") || text.contains("no byte was taken for"),
            "{text}"
        );
        assert!(may_pass(&error));
        assert!(begin.elapsed() < Duration::from_secs(15));
    }
}

#[test]
fn a_body_that_is_made_slowly_is_not_a_stall() {
    struct Slow(u32);
    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            thread::sleep(Duration::from_millis(900));
            self.0 += 1;
            Ok(if self.0 == 1 { buffer.len() } else { 0 })
        }
    }
    let server = TestServer::http(|_| answer(201));
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &options(0));
    let body = Body::stream(stream(Slow(0)), None);
    bed.send(&transport, put("/v2/", body)).unwrap();
}

#[test]
fn the_end_of_a_blob_may_take_longer() {
    let server = TestServer::http(|_| {
        thread::sleep(Duration::from_millis(800));
        answer(201)
    });
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &options(0));
    let url = Url::parse(&format!("http://{}/v2/app/blobs/uploads/1", server.host())).unwrap();
    let end = Request {
        target: Target::Session(url),
        ..put("", Body::Empty)
    };
    bed.send(&transport, end).unwrap();
    bed.send(&transport, put("/v2/app/manifests/1", Body::Empty))
        .unwrap_err();
}

#[test]
fn an_answer_that_stops_is_an_error() {
    let server = TestServer::raw(|mut stream| {
        let mut first = [0];
        stream.peek(&mut first).unwrap();
        if first[0] != 0x16 {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
            thread::sleep(Duration::from_secs(20));
        }
    });
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &options(0));
    let error = bed.send(&transport, get("/v2/")).unwrap_err();
    let text = shown(&error);
    assert!(text.contains("no byte came for"), "{text}");
}

#[test]
fn an_answer_has_a_bound() {
    let server = TestServer::http(|_| answer(200).body(vec![b'x'; 1024 * 1024 + 1]));
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &options(0));
    let error = bed.send(&transport, get("/v2/")).unwrap_err();
    assert!(shown(&error).ends_with("the answer has more than 1048576 bytes"));

    let server = TestServer::http(|_| answer(400).body(vec![b'x'; 50_000_000]));
    let transport = bed.transport(&server.host(), &options(0));
    let error = bed.send(&transport, get("/v2/")).unwrap_err();
    assert!(shown(&error).len() < 400);

    let server = TestServer::http(|_| answer(200).header("X", "x".repeat(10_000_000)));
    let transport = bed.transport(&server.host(), &options(0));
    bed.send(&transport, get("/v2/")).unwrap_err();
}

#[test]
fn warnings_are_told_once() {
    let server = TestServer::http(|_| answer(200).header("Warning", r#"299 - "read only soon""#));
    let bed = Bed::new();
    let transport = bed.transport(&server.host(), &options(0));
    for _ in 0..3 {
        bed.send(&transport, get("/v2/")).unwrap();
    }
    let expected = format!(
        "Warning {{ message: \"{} says: read only soon\" }}",
        server.host()
    );
    assert_eq!(bed.told(), [expected]);
}

/// Cancels while something waits, and checks that it ends at once.
fn cancelled(server: &TestServer, request: Request, options: &RegistryOptions) {
    let bed = Bed::new();
    let transport = Transport::with_limits(&bed.cx, &server.host(), options, PATIENT).unwrap();
    let cancel = bed.cx.cancel.clone();
    let canceller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(500));
        cancel.cancel();
        Instant::now()
    });
    let error = bed.send(&transport, request).unwrap_err();
    let end = Instant::now();
    let late = end - canceller.join().unwrap();
    assert_eq!(error.class(), ErrorClass::Cancelled, "{error}");
    // A machine that does much else may be late itself.
    assert!(late < Duration::from_secs(5), "{late:?}");
}

#[test]
fn every_wait_can_be_cancelled() {
    let silent = TestServer::raw(|_stream| thread::sleep(Duration::from_secs(20)));
    // It does not say whether it speaks TLS.
    cancelled(&silent, get("/v2/"), &options(5));

    let silent = TestServer::http(|_| {
        thread::sleep(Duration::from_secs(20));
        answer(200)
    });
    cancelled(&silent, get("/v2/"), &options(5));
    let endless = || stream(std::io::repeat(1));
    cancelled(
        &silent,
        put("/v2/", Body::stream(endless(), None)),
        &options(5),
    );

    let patient = TestServer::http(|_| answer(503).header("Retry-After", "100"));
    cancelled(&patient, get("/v2/"), &options(5));

    let host = silent.host();
    let token = TestServer::http(move |_| {
        let challenge = format!("Bearer realm=\"http://{host}/token\"");
        answer(401).header("WWW-Authenticate", challenge)
    });
    cancelled(&token, get("/v2/"), &with_password());

    let half = TestServer::raw(|mut stream| {
        let mut first = [0];
        stream.peek(&mut first).unwrap();
        if first[0] != 0x16 {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
            thread::sleep(Duration::from_secs(20));
        }
    });
    cancelled(&half, get("/v2/"), &options(5));
}

#[test]
fn waiting_for_a_permit_can_be_cancelled() {
    let server = TestServer::http(|_| answer(200));
    let bed = Bed::new();
    let one = RegistryOptions {
        jobs: std::num::NonZeroUsize::MIN,
        ..options(0)
    };
    let transport = bed.transport(&server.host(), &one);
    let cancel = bed.cx.cancel.clone();
    let waited = bed.runtime.block_on(&bed.cx, async move {
        let permit = transport.permit().await;
        transport.send(get("/v2/"), Some(&permit)).await?;
        cancel.cancel();
        transport.send(get("/v2/"), None).await.map(drop)
    });
    assert_eq!(waited.unwrap_err().class(), ErrorClass::Cancelled);
    assert_eq!(server.seen().len(), 1);
}
