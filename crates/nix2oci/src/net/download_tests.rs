//! Large answers, whole and broken.

use std::error::Error as _;
use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::error::ErrorClass;
use crate::net::fetch::tests::{STALL, fetcher, of, options};
use crate::net::test_bed::{Bed, PATIENT, shown};
use crate::net::test_server::{Answer, Cut, TestServer, answer};
use crate::net::{FetchOptions, Limits, Slowest};

/// Bytes that differ from place to place.
fn content(size: usize) -> Vec<u8> {
    (0..size as u32)
        .flat_map(|n| (n * 7).to_le_bytes())
        .take(size)
        .collect()
}

fn read(fetcher: &Fetcher, bed: &Bed, ahead: usize) -> io::Result<Option<Vec<u8>>> {
    let opened = fetcher
        .start(&bed.cx, "nar/x.nar", "give the NAR", ahead)
        .open()
        .map_err(io::Error::other)?;
    let Some(mut reader) = opened else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[test]
fn a_large_answer_comes_whole() {
    for size in [0, 1, 1000, 3_000_000] {
        let body = content(size);
        let sent = body.clone();
        let server = TestServer::http(move |_| answer(200).body(sent.clone()));
        let bed = Bed::new();
        let fetcher = of(&bed, &server, 0);
        for ahead in [1, 1000, 1 << 20] {
            if size * 1000 / ahead > 10_000_000 {
                continue;
            }
            assert!(read(&fetcher, &bed, ahead).unwrap() == Some(body.clone()));
        }
        assert_eq!(server.seen()[0].target, "/cache/nar/x.nar");
    }
}

/// Returns the error inside.
fn inner(error: &io::Error) -> &Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.expect("it is one of ours")
}

/// Does something for all cases at once.
fn each<T: Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Send + Copy) {
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || test(case));
        }
    });
}

/// An answer, made of the whole body.
type Rest = fn(&[u8]) -> Answer;

/// A server whose first answer breaks after 1000 of 3000 bytes, and that gives
/// the others from a table; without one it gives all.
fn breaking(etag: &'static str, rest: Vec<Rest>) -> TestServer {
    let body = content(3000);
    let count = AtomicUsize::new(0);
    TestServer::http(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => answer(200)
            .header("ETag", etag)
            .body(body.clone())
            .cut(1000, Cut::Closed),
        n => match rest.get(n - 1) {
            Some(rest) => rest(&body),
            None => answer(200).body(body.clone()),
        },
    })
}

fn rest(range: &str, body: &[u8]) -> Answer {
    answer(206).header("Content-Range", range).body(body)
}

#[test]
fn a_break_is_mended() {
    let strong = "\"a\"";
    let cases: Vec<(Vec<Rest>, &[Option<&str>])> = vec![
        // The rest.
        (
            vec![|body| rest("bytes 1000-2999/3000", &body[1000..])],
            &[Some("bytes=1000-")],
        ),
        // More than the rest, and with a length that is not told.
        (
            vec![|body| rest("bytes 500-2999/*", &body[500..])],
            &[Some("bytes=1000-")],
        ),
        // A part of the rest, after an error.
        (
            vec![
                |_| answer(500).header("Retry-After", "0"),
                |body| rest("bytes 1000-1999/3000", &body[1000..2000]),
                |body| rest("bytes 2000-2999/3000", &body[2000..]),
            ],
            &[
                Some("bytes=1000-"),
                Some("bytes=1000-"),
                Some("bytes=2000-"),
            ],
        ),
        // All: the server has no ranges, or other bytes by its name for them.
        (vec![], &[Some("bytes=1000-")]),
        (
            vec![|body| answer(200).header("ETag", "\"b\"").body(body)],
            &[Some("bytes=1000-")],
        ),
        // A rest that is of no use; then all.
        (
            vec![|body| rest("bytes 1001-2999/3000", &body[1001..])],
            &[Some("bytes=1000-"), None],
        ),
        (
            vec![|body| answer(206).body(&body[1000..])],
            &[Some("bytes=1000-"), None],
        ),
        (
            vec![|body| rest("bytes 1000-2999/3000", &body[1000..]).header("ETag", "\"b\"")],
            &[Some("bytes=1000-"), None],
        ),
        (
            vec![|_| answer(416).header("Content-Range", "bytes */3000")],
            &[Some("bytes=1000-"), None],
        ),
    ];
    // Each waits for its repetition.
    each(cases, |(answers, ranges)| {
        let server = breaking(strong, answers);
        let bed = Bed::new();
        let found = read(&of(&bed, &server, 2), &bed, 100).unwrap();
        assert!(found == Some(content(3000)), "{ranges:?}");
        let seen = server.seen();
        let asked: Vec<_> = seen[1..].iter().map(|seen| seen.header("range")).collect();
        assert_eq!(asked, ranges);
        for seen in &seen[1..] {
            let is_ranged = seen.header("range").is_some();
            assert_eq!(seen.header("if-range"), is_ranged.then_some(strong));
        }
    });
}

#[test]
fn only_a_name_of_bytes_is_a_condition() {
    for etag in ["W/\"a\"", "", "a"] {
        let server = breaking(
            etag,
            vec![|body| rest("bytes 1000-2999/3000", &body[1000..])],
        );
        let bed = Bed::new();
        let found = read(&of(&bed, &server, 1), &bed, 5000).unwrap();
        assert!(found == Some(content(3000)));
        assert_eq!(server.seen()[1].header("if-range"), None);
    }
}

#[test]
fn what_is_another_file_is_an_error() {
    let cases: [(Rest, &str); 6] = [
        (
            |body| answer(200).body(&body[..2000]),
            "it changed on the way: it has 2000 bytes, expected 3000",
        ),
        (
            |body| rest("bytes 1000-3999/4000", body),
            "it changed on the way: it has 4000 bytes, expected 3000",
        ),
        (
            |body| rest("bytes 1000-2999/3000", body),
            "it changed on the way: it has 4000 bytes, expected 3000",
        ),
        (
            |body| answer(200).header("Content-Encoding", "turned").body(body),
            "it is encoded otherwise than it was",
        ),
        (|_| answer(404), "it is there no longer"),
        (|_| answer(400), "status 400 Bad Request"),
    ];
    each(cases, |(second, problem)| {
        let server = breaking("", vec![second]);
        let bed = Bed::new();
        let error = read(&of(&bed, &server, 3), &bed, 5000).unwrap_err();
        let text = shown(inner(&error));
        assert!(text.contains(problem), "{text}");
        assert_eq!(inner(&error).class(), ErrorClass::Remote);
        assert_eq!(server.seen().len(), 2);
    });
}

#[test]
fn a_length_that_nobody_told_may_end_in_no_rest() {
    let count = AtomicUsize::new(0);
    let server = TestServer::raw(move |mut stream| {
        let mut first = [0; 4096];
        let _ = stream.read(&mut first);
        // Its end is lost, but nothing else.
        let answer: &[u8] = match count.fetch_add(1, Ordering::SeqCst) {
            0 => b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n",
            _ => b"HTTP/1.1 416 X\r\nContent-Range: bytes */5\r\nContent-Length: 0\r\n\r\n",
        };
        let _ = stream.write_all(answer);
    });
    let bed = Bed::new();
    let found = read(&of(&bed, &server, 1), &bed, 5000).unwrap();
    assert_eq!(found.as_deref(), Some(&b"whole"[..]));
}

/// Answers the range that is asked for, and breaks after `step` bytes.
fn in_steps(size: usize, step: usize) -> TestServer {
    let body = content(size);
    TestServer::http(move |seen| {
        let begin = seen.header("range").map_or(0, |range| {
            let begin = range.strip_prefix("bytes=").unwrap();
            begin.strip_suffix('-').unwrap().parse().unwrap()
        });
        let left = &body[begin..];
        let answer = match begin {
            0 => answer(200).body(left),
            begin => rest(&format!("bytes {begin}-{}/{size}", size - 1), left),
        };
        if left.len() > step {
            answer.cut(step, Cut::Closed)
        } else {
            answer
        }
    })
}

#[test]
fn progress_makes_good_for_failures() {
    // Five breaks, with one repetition each.
    let server = in_steps(3000, 500);
    let bed = Bed::new();
    let found = read(&of(&bed, &server, 1), &bed, 5000).unwrap();
    assert!(found == Some(content(3000)));
    assert_eq!(server.seen().len(), 6);
    for event in bed.told() {
        assert!(event.contains("attempt: 1, attempts: 1"), "{event}");
    }
}

#[test]
fn failures_without_a_byte_come_to_an_end() {
    let server = in_steps(3000, 0);
    let bed = Bed::new();
    let error = read(&of(&bed, &server, 2), &bed, 5000).unwrap_err();
    let text = shown(inner(&error));
    assert!(text.contains("asked to give the NAR (3 times)"), "{text}");
    assert_eq!(server.seen().len(), 3);
    // Without repetition a break is an error at once.
    let server = in_steps(3000, 500);
    read(&of(&bed, &server, 0), &bed, 5000).unwrap_err();
    assert_eq!(server.seen().len(), 1);
}

/// Makes a fetcher that does not wait long for a byte.
fn impatient(bed: &Bed, server: &TestServer, retries: u32) -> Fetcher {
    let options = FetchOptions {
        retries,
        limits: STALL,
        ..options(&format!("http://{}", server.host()))
    };
    fetcher(bed, &options)
}

/// A byte now and then is no standstill, but it has to end some day.
#[test]
fn a_server_that_only_drips_is_given_up() {
    let limited = |bed: &Bed, server: &TestServer, bytes, seconds| {
        let slowest = Slowest {
            bytes,
            time: Duration::from_secs(seconds),
        };
        let options = FetchOptions {
            retries: 1,
            limits: Limits { slowest, ..PATIENT },
            ..options(&format!("http://{}", server.host()))
        };
        fetcher(bed, &options)
    };
    let bed = Bed::new();
    let drip = |size| answer(200).body(content(size)).cut(100, Cut::Dripping);
    let server = TestServer::http(move |_| drip(10_000));
    let error = read(&limited(&bed, &server, 1000, 1), &bed, 5000).unwrap_err();
    let text = shown(inner(&error));
    assert!(
        text.ends_with("fewer than 1000 bytes came in 1 s") && text.contains("(2 times)"),
        "{text}"
    );
    assert_eq!(server.seen().len(), 2);

    // One that is slow, but not so slow.
    let server = TestServer::http(move |_| drip(150));
    let found = read(&limited(&bed, &server, 1, 60), &bed, 5000).unwrap();
    assert!(found == Some(content(150)));

    // The reader may be as slow as it likes.
    let server = TestServer::http(|_| answer(200).body(content(3_000_000)));
    let fetcher = limited(&bed, &server, 3_000_000, 4);
    let opened = fetcher.start(&bed.cx, "nar/x.nar", "give the NAR", 1000);
    let mut reader = opened.open().unwrap().unwrap();
    let mut bytes = vec![0; 1000];
    reader.read_exact(&mut bytes).unwrap();
    thread::sleep(Duration::from_secs(5));
    reader.read_to_end(&mut bytes).unwrap();
    assert!(bytes == content(3_000_000));
}

#[test]
fn a_standstill_is_a_break() {
    let count = AtomicUsize::new(0);
    let server = TestServer::http(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => answer(200).body(content(3000)).cut(1000, Cut::Silent),
        _ => answer(200).body(content(3000)),
    });
    let bed = Bed::new();
    let found = read(&impatient(&bed, &server, 1), &bed, 5000).unwrap();
    assert!(found == Some(content(3000)));

    let server = TestServer::http(|_| answer(200).body(content(3000)).cut(1000, Cut::Silent));
    let error = read(&impatient(&bed, &server, 0), &bed, 5000).unwrap_err();
    let text = shown(inner(&error));
    assert!(text.contains("no byte came for"), "{text}");
}

#[test]
fn a_slow_reader_is_no_standstill() {
    let body = content(20_000_000);
    let server = TestServer::http(move |_| answer(200).body(body.clone()));
    let bed = Bed::new();
    let mut reader = impatient(&bed, &server, 0)
        .start(&bed.cx, "a", "give", 1000)
        .open()
        .unwrap()
        .unwrap();
    let mut first = [0; 10];
    reader.read_exact(&mut first).unwrap();
    thread::sleep(STALL.stall * 2);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 20_000_000 - 10);
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_length_is_not_believed_before_the_bytes_come() {
    let server = TestServer::raw(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let head = b"HTTP/1.1 200 X\r\nContent-Length: 18446744073709551614\r\n\r\nfew";
        let _ = stream.write_all(head);
    });
    let bed = Bed::new();
    let error = read(&of(&bed, &server, 0), &bed, usize::MAX / 2).unwrap_err();
    assert!(inner(&error).source().is_some(), "{error}");
}

#[test]
fn fetching_begins_before_it_is_asked_for() {
    let server = TestServer::http(|_| answer(200).body(content(100_000)));
    let bed = Bed::new();
    let fetcher = of(&bed, &server, 0);
    let pending: Vec<_> = (0..6)
        .map(|_| fetcher.start(&bed.cx, "a", "give", 1000))
        .collect();
    // More than there are jobs: bodies that wait for their readers hold none.
    let begin = Instant::now();
    while server.seen().len() < 6 {
        assert!(begin.elapsed() < Duration::from_secs(60), "they wait");
        thread::sleep(Duration::from_millis(10));
    }
    for pending in pending.into_iter().rev() {
        let mut bytes = Vec::new();
        pending
            .open()
            .unwrap()
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        assert!(bytes == content(100_000));
    }
}

#[test]
fn what_is_dropped_ends() {
    for is_opened in [false, true] {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let server = TestServer::raw(move |mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 X\r\n\r\n");
            while stream.write_all(&[7; 100_000]).is_ok() {}
            over.store(true, Ordering::SeqCst);
        });
        let bed = Bed::new();
        let options = FetchOptions {
            limits: PATIENT,
            ..options(&format!("http://{}", server.host()))
        };
        let fetcher = fetcher(&bed, &options);
        let pending = fetcher.start(&bed.cx, "a", "give", 1000);
        if is_opened {
            drop(pending.open().unwrap().unwrap());
        } else {
            drop(pending);
        }
        let begin = Instant::now();
        // What was never sent needs no end.
        while is_opened && !is_over.load(Ordering::SeqCst) {
            assert!(begin.elapsed() < Duration::from_secs(60), "it goes on");
            thread::sleep(Duration::from_millis(10));
        }
        let shared = fetcher.shared();
        drop(fetcher);
        while Arc::strong_count(&shared) > 1 {
            assert!(begin.elapsed() < Duration::from_secs(60), "it goes on");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_reader_that_waits_is_cancelled() {
    let server = TestServer::http(|_| answer(200).body(content(3000)).cut(1000, Cut::Silent));
    let bed = Bed::new();
    let options = FetchOptions {
        limits: PATIENT,
        jobs: NonZeroUsize::MIN,
        ..options(&format!("http://{}", server.host()))
    };
    let mut reader = fetcher(&bed, &options)
        .start(&bed.cx, "a", "give", 5000)
        .open()
        .unwrap()
        .unwrap();
    let cancel = bed.cx.cancel.clone();
    let canceller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        cancel.cancel();
        Instant::now()
    });
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(inner(&error).class(), ErrorClass::Cancelled);
    let late = canceller.join().unwrap().elapsed();
    // A machine that does much else may be late itself.
    assert!(late < Duration::from_secs(5), "{late:?}");
    // And it does not look whole to who reads on.
    let error = reader.read(&mut [0; 1]).unwrap_err();
    assert_eq!(inner(&error).class(), ErrorClass::Cancelled);
}

#[test]
fn the_rest_goes_the_way_of_the_whole() {
    // A server that sends to signed addresses signs one for each request.
    let far = Arc::new(in_steps(3000, 1600));
    let host = far.host();
    let signed = Mutex::new(0);
    let server = TestServer::http(move |_| {
        let mut signed = signed.lock().unwrap();
        *signed += 1;
        answer(302).header("Location", format!("http://{host}/nar?signature={signed}"))
    });
    let bed = Bed::new();
    let found = read(&of(&bed, &server, 1), &bed, 5000).unwrap();
    assert!(found == Some(content(3000)));
    let seen: Vec<_> = far.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(seen, ["/nar?signature=1", "/nar?signature=2"]);
    assert_eq!(server.seen()[1].header("range"), Some("bytes=1600-"));
}

#[test]
fn ranges_are_read() {
    for (text, expected) in [
        ("bytes 0-9/10", Some((Some(0), Some(10)))),
        ("bytes 5-9/*", Some((Some(5), None))),
        ("Bytes */10", Some((None, Some(10)))),
        ("bytes=5-9/10", Some((Some(5), Some(10)))),
        ("bytes 5-10/10", None),
        ("bytes 6-5/10", None),
        ("bytes -5/10", None),
        ("lines 0-9/10", None),
        ("bytes 0-9", None),
        ("", None),
    ] {
        assert_eq!(parse_content_range(text), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn any_range_is_read(text in "(bytes )?[0-9*/ -]{0,20}|.{0,30}") {
        let _ = parse_content_range(&text);
    }
}
