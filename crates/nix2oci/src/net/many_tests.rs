//! Many small answers at once.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ServerConnection, StreamOwned};

use super::tests::{fetcher, of, options};
use super::*;
use crate::error::ErrorClass;
use crate::net::test_bed::{Authority, Bed, PATIENT};
use crate::net::test_server::{TestServer, answer};
use crate::net::{FetchOptions, TlsOptions};

/// Begins to fetch so many answers.
fn begin(fetcher: &Fetcher, cx: &Context, count: usize) -> mpsc::Receiver<(usize, Found)> {
    let (sender, answers) = mpsc::channel();
    for n in 0..count {
        let sender = sender.clone();
        let done = move |found| drop(sender.send((n, found)));
        fetcher.begin(cx, n.to_string(), "give".to_owned(), 100, done);
    }
    answers
}

type Found = Result<Answered<Bytes>>;

#[test]
fn every_answer_comes() {
    let server = TestServer::http(|seen| match &*seen.target {
        "/cache/13" => answer(404),
        "/cache/14" => answer(400),
        target => answer(200).body(target),
    });
    let bed = Bed::new();
    let found: BTreeMap<_, _> = begin(&of(&bed, &server, 0), &bed.cx, 100)
        .into_iter()
        .collect();
    assert_eq!(found.len(), 100);
    for (n, found) in found {
        match n {
            13 => assert_eq!(found.unwrap(), Answered::Missing),
            14 => assert_eq!(found.unwrap_err().class(), ErrorClass::Remote),
            _ => assert_eq!(found.unwrap().given().unwrap(), format!("/cache/{n}")),
        }
    }
}

#[test]
fn no_more_run_at_once_than_there_are_jobs() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (running, peak) = (Arc::clone(&now), Arc::clone(&most));
    let server = TestServer::http(move |_| {
        peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(20));
        running.fetch_sub(1, Ordering::SeqCst);
        answer(200)
    });
    let bed = Bed::new();
    let options = FetchOptions {
        jobs: NonZeroUsize::new(3).unwrap(),
        limits: PATIENT,
        ..options(&format!("http://{}", server.host()))
    };
    for (_, found) in begin(&fetcher(&bed, &options), &bed.cx, 30) {
        found.unwrap();
    }
    assert!(most.load(Ordering::SeqCst) <= 3);
    assert_eq!(server.seen().len(), 30);
}

#[test]
fn all_are_cancelled() {
    let server = TestServer::http(|_| {
        thread::sleep(Duration::from_secs(20));
        answer(200)
    });
    let bed = Bed::new();
    let fetcher = of(&bed, &server, 0);
    let answers = begin(&fetcher, &bed.cx, 20);
    bed.cx.cancel.cancel();
    let found: Vec<_> = answers.into_iter().collect();
    assert_eq!(found.len(), 20);
    for (_, found) in found {
        assert_eq!(found.unwrap_err().class(), ErrorClass::Cancelled);
    }
    // Nothing of them is left but what this test holds.
    let shared = fetcher.shared();
    let since = Instant::now();
    while Arc::strong_count(&shared) > 2 {
        assert!(since.elapsed() < Duration::from_secs(60), "they go on");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Speaks HTTP/2 as far as it must (RFC 9113): answers `h2` to every request,
/// from the second one on only when `at_once` wait for it.
fn serve_h2(mut stream: impl Read + Write, at_once: usize) -> std::io::Result<()> {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    fn frame(kind: u8, flags: u8, id: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(id);
        frame.extend(payload);
        frame
    }
    stream.read_exact(&mut [0; 24])?;
    stream.write_all(&frame(SETTINGS, 0, [0; 4], &[]))?;
    let (mut waiting, mut is_first) = (Vec::new(), true);
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload)?;
        match kind {
            SETTINGS | PING if flags & 1 == 0 => {
                stream.write_all(&frame(
                    kind,
                    1,
                    [0; 4],
                    if kind == PING { &payload } else { &[] },
                ))?;
            }
            HEADERS => waiting.push(id),
            _ => {}
        }
        if is_first && !waiting.is_empty() || waiting.len() == at_once {
            is_first = false;
            for id in waiting.drain(..).rev() {
                // 0x88 is `:status: 200` in the static table of RFC 7541.
                stream.write_all(&frame(HEADERS, 4, id, &[0x88]))?;
                stream.write_all(&frame(DATA, 1, id, b"h2"))?;
            }
        }
        stream.flush()?;
    }
}

#[test]
fn requests_share_a_connection_where_the_server_can() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let mut config = (*authority.server("127.0.0.1", None)).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let server = TestServer::raw(move |stream: TcpStream| {
        count.fetch_add(1, Ordering::SeqCst);
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        // It ends with the connection.
        let _ = serve_h2(StreamOwned::new(connection, stream), 8);
    });
    let bed = Bed::new();
    let options = FetchOptions {
        jobs: NonZeroUsize::new(8).unwrap(),
        limits: PATIENT,
        tls: TlsOptions {
            ca_files: vec![authority.file(directory.path())],
            ..TlsOptions::default()
        },
        ..options(&format!("https://{}", server.host()))
    };
    let fetcher = fetcher(&bed, &options);
    let (_, first) = begin(&fetcher, &bed.cx, 1).recv().unwrap();
    assert_eq!(first.unwrap().given().unwrap(), "h2");
    for (_, found) in begin(&fetcher, &bed.cx, 16) {
        assert_eq!(found.unwrap().given().unwrap(), "h2");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
