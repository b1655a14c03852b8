//! Small answers: what is there, what is not, and what of the user's leaves for
//! another server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::error::ErrorClass;
use crate::net::test_bed::{Authority, Bed, LIMITS, PASSWORD, PATIENT, shown};
use crate::net::test_server::{Answer, Cut, TestServer, answer};

/// Knows one encoding, which turns every byte over.
pub(in crate::net) fn turned(
    encoding: &str,
    mut bytes: Box<dyn Read + Send>,
) -> Option<Box<dyn Read + Send>> {
    if encoding != "turned" {
        return None;
    }
    struct Turned(Box<dyn Read + Send>);
    impl Read for Turned {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.read(buffer)?;
            buffer[..count].iter_mut().for_each(|byte| *byte = !*byte);
            Ok(count)
        }
    }
    Some(Box::new(Turned(std::mem::replace(
        &mut bytes,
        Box::new(std::io::empty()),
    ))))
}

pub(in crate::net) fn options(base: &str) -> FetchOptions {
    FetchOptions {
        base: base.to_owned(),
        shown: base.to_owned(),
        headers: Vec::new(),
        user: None,
        tls: TlsOptions::default(),
        proxy: ProxyOptions::default(),
        retries: 0,
        jobs: NonZeroUsize::new(4).unwrap(),
        limits: LIMITS,
        decode: turned,
    }
}

pub(in crate::net) fn fetcher(bed: &Bed, options: &FetchOptions) -> Fetcher {
    Fetcher::new(Arc::clone(&bed.runtime), options).unwrap()
}

/// Makes a fetcher of a server's folder `cache`.
pub(in crate::net) fn of(bed: &Bed, server: &TestServer, retries: u32) -> Fetcher {
    let options = FetchOptions {
        retries,
        ..options(&format!("http://{}/cache", server.host()))
    };
    fetcher(bed, &options)
}

fn get(bed: &Bed, fetcher: &Fetcher, target: &str) -> Result<Option<Bytes>> {
    fetcher.get(&bed.cx, target, "give the thing", 1000)
}

#[test]
fn what_is_there_is_fetched() {
    let server = TestServer::http(|_| answer(200).body("there"));
    let bed = Bed::new();
    for base in ["", "/", "/cache", "/cache/"] {
        let base = format!("http://{}{base}", server.host());
        let found = get(&bed, &fetcher(&bed, &options(&base)), "a.narinfo").unwrap();
        assert_eq!(found.as_deref(), Some(&b"there"[..]));
    }
    let seen = server.seen();
    let targets: Vec<_> = seen.iter().map(|seen| &*seen.target).collect();
    assert_eq!(
        targets,
        [
            "/a.narinfo",
            "/a.narinfo",
            "/cache/a.narinfo",
            "/cache/a.narinfo"
        ]
    );
    assert_eq!(seen[0].header("accept-encoding"), None);
    assert_eq!(seen[0].header("authorization"), None);
}
