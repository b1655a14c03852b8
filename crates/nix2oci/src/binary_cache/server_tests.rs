//! A real server, on a loopback address.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::binary_cache::test_cache::{Heard, TestCache, fixture_path, narinfo, options};
use crate::binary_cache::{BinaryCaches, CacheHeader, NarInfoCache};
use crate::credentials::{CredentialSource, Secret};
use crate::net::test_server::{Answer, Seen, TestServer, answer};
use crate::store::StoreDir;

use super::*;

/// Knows one host.
struct Known(String);

impl CredentialSource for Known {
    fn find(&self, host: &str, _: &str) -> Result<Credentials> {
        Ok(if host == self.0 {
            Credentials::new("me", Secret::new("hunter2"))
        } else {
            Credentials::Anonymous
        })
    }
}

/// Answers with the fixture's files, below `/cache`.
fn give(cache: &TestCache, seen: &Seen) -> Answer {
    let name = seen.target.strip_prefix("/cache/").unwrap_or("elsewhere");
    match cache.find_file(name) {
        Some(bytes) => answer(200).body(bytes),
        None => answer(404),
    }
}

fn open(server: &TestServer, options: CacheOptions) -> Arc<BinaryCaches> {
    let url = format!("http://{}/cache", server.host());
    BinaryCaches::new(StoreDir::default(), vec![url.parse().unwrap()], options)
}

#[test]
fn a_server_gives_a_closure_and_its_nars() {
    let cache = TestCache::new();
    let server = TestServer::http(move |seen| give(&cache, seen));
    let all = open(&server, options());
    let (heard, cx) = Heard::context();
    let infos = all.closure(&cx, &[fixture_path("plain")]).unwrap();
    assert_eq!(infos.len(), 4);
    assert_eq!(server.seen().len(), 5);
    heard.take();
    let mut size = 0;
    for info in &infos {
        all.open_nar(&cx, &info.path, None)
            .unwrap()
            .finish()
            .unwrap();
        size += all.download_size(&cx, &info.path).unwrap().unwrap();
    }
    let told = heard.take();
    let told = told
        .iter()
        .map(|text| text["downloaded ".len()..].parse::<u64>().unwrap());
    assert_eq!(told.sum::<u64>(), size);
    assert!(server.seen().iter().all(|seen| {
        seen.header("authorization").is_none() && seen.header("accept-encoding").is_none()
    }));
}

#[test]
fn requests_to_a_bucket_are_signed_if_there_are_keys() {
    let cache = TestCache::new();
    let server = TestServer::http(move |seen| give(&cache, seen));
    let file = tempfile::tempdir().unwrap();
    let credentials = file.path().join("credentials");
    let keys = "[ci]\naws_access_key_id = AKIA\naws_secret_access_key = hunter2\n";
    std::fs::write(&credentials, keys).unwrap();
    let cx = Context::default();
    let ask = |profile: &str| {
        let host = server.host();
        let url = format!("s3://cache?endpoint=http://{host}&region=eu-west-1{profile}");
        let mut options = CacheOptions {
            now: Some(std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
            ..options()
        };
        options.aws.file = Some(credentials.clone());
        let url = url.parse().unwrap();
        let all = BinaryCaches::new(StoreDir::default(), vec![url], options);
        all.closure(&cx, &[fixture_path("plain")])
    };
    assert_eq!(ask("&profile=ci").unwrap().len(), 4);
    for seen in server.seen() {
        let who = seen.header("authorization").unwrap();
        assert!(who.contains("=AKIA/20231114/eu-west-1/s3/"), "{who}");
    }
    let count = server.seen().len();
    assert_eq!(ask("").unwrap().len(), 4);
    assert!(
        server.seen()[count..]
            .iter()
            .all(|seen| seen.header("authorization").is_none())
    );
    let error = ask("&profile=other").unwrap_err().to_string();
    assert!(
        error.contains("profile \"other\" of AWS: has no keys in "),
        "{error}"
    );
}

#[test]
fn who_asks_is_told_to_the_server_that_is_meant() {
    let cache = TestCache::new();
    let server = TestServer::http(move |seen| {
        match (seen.header("authorization"), seen.header("x-token")) {
            // `me:hunter2`
            (Some("Basic bWU6aHVudGVyMg=="), Some("secret")) => give(&cache, seen),
            _ => answer(401).header("WWW-Authenticate", "Basic realm=x"),
        }
    });
    let host = server.host();
    let path = fixture_path("x");
    let cx = Context::default();
    let error = open(&server, options()).info(&cx, &path).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Denied { .. }), "{error}");
    let header = |host: Option<&str>, name: &str, value: &str| CacheHeader {
        host: host.map(str::to_owned),
        name: name.to_owned(),
        value: Secret::new(value),
    };
    let known = || CacheOptions {
        credentials: Arc::new(Known(host.clone())),
        ..options()
    };
    for (headers, is_right) in [
        (vec![header(None, "X-Token", "secret")], true),
        (vec![header(Some(&host), "X-Token", "secret")], true),
        (
            vec![header(Some("other.example"), "X-Token", "secret")],
            false,
        ),
        (vec![], false),
    ] {
        let all = open(&server, CacheOptions { headers, ..known() });
        assert_eq!(all.info(&cx, &path).is_ok(), is_right);
    }
    let headers = vec![header(None, "Host", "x")];
    let error = open(&server, CacheOptions { headers, ..known() }).info(&cx, &path);
    assert!(matches!(
        error.unwrap_err().kind(),
        ErrorKind::InvalidInput { .. }
    ));
}

/// Nix writes narinfos to S3 encoded if it is told to, and S3 sends them so.
#[test]
fn narinfos_may_come_encoded() {
    let cache = TestCache::new();
    let server = TestServer::http(move |seen| {
        let plain = cache
            .find_file(seen.target.strip_prefix("/cache/").unwrap())
            .unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        answer(200)
            .header("Content-Encoding", "gzip")
            .body(gzip.finish().unwrap())
    });
    let all = open(&server, options());
    let found = all
        .closure(&Context::default(), &[fixture_path("x")])
        .unwrap();
    assert_eq!(found.len(), 3);
}

/// What is not there stays so for a while; but whoever gets a key today is told
/// today.
#[test]
fn what_a_server_withholds_is_not_kept_as_missing() {
    let dir = tempfile::tempdir().unwrap();
    for (status, is_kept) in [(403, false), (404, true)] {
        let cache = TestCache::new();
        let is_open = Arc::new(AtomicBool::new(false));
        let opened = Arc::clone(&is_open);
        let server = TestServer::http(move |seen| {
            let is_narinfo = seen.target.ends_with(".narinfo");
            match is_narinfo && !opened.load(Ordering::SeqCst) {
                true => answer(status),
                false => give(&cache, seen),
            }
        });
        let kept = NarInfoCache::new(dir.path(), std::time::SystemTime::UNIX_EPOCH);
        let ask = || {
            let mut options = options();
            options.info_cache = Some(kept.clone());
            let all = open(&server, options);
            all.info(&Context::default(), &fixture_path("x")).unwrap()
        };
        assert!(ask().is_none());
        is_open.store(true, Ordering::SeqCst);
        assert_eq!(ask().is_none(), is_kept, "{status}");
    }
}

#[test]
fn a_server_that_is_not_there_is_left_out() {
    let gone = {
        let server = TestServer::http(|_| answer(200));
        server.host()
    };
    let cache = TestCache::new();
    let missing = narinfo(&fixture_path("base.txt"));
    let server = TestServer::http(move |seen| match seen.target.ends_with(&missing) {
        true => answer(403),
        false => give(&cache, seen),
    });
    let urls = [gone, server.host()].map(|address| format!("http://{address}/cache"));
    let urls = urls.map(|url| url.parse().unwrap()).to_vec();
    let few = || CacheOptions {
        retries: 0,
        ..options()
    };
    let all = BinaryCaches::new(StoreDir::default(), urls.clone(), few());
    let (heard, cx) = Heard::context();
    assert_eq!(all.closure(&cx, &[fixture_path("plain")]).unwrap().len(), 3);
    let warnings = heard.warnings();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("did not answer when asked to give nix-cache-info"));
    let all = BinaryCaches::new(StoreDir::default(), urls[..1].to_vec(), few());
    let error = all.info(&cx, &fixture_path("plain")).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Connection { .. }),
        "{error}"
    );
}
