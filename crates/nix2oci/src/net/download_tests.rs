//! Large answers, whole and broken.

use crate::net::fetch::tests::of;
use crate::net::test_bed::Bed;
use crate::net::test_server::{TestServer, answer};

use super::*;

/// Bytes that differ from place to place.
fn content(size: usize) -> Vec<u8> {
    (0..size as u32)
        .flat_map(|n| (n * 7).to_le_bytes())
        .take(size)
        .collect()
}

fn read(fetcher: &Fetcher, bed: &Bed, ahead: usize) -> io::Result<Option<Vec<u8>>> {
    let opened = fetcher
        .open(&bed.cx, "nar/x.nar", "give the NAR", ahead)
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
