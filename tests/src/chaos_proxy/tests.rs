//! skopeo goes through it to the real registry; where it gives up, the log says
//! what the registry has heard.

use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use super::*;
use crate::command::{output, skopeo};
use crate::docker_registry::DockerRegistry;
use crate::fake_registry::FakeRegistry;
use crate::handmade_image::{Codec, HandmadeImage, in_dir};

/// Options under which exactly one thing happens to every request.
fn always(change: impl FnOnce(&mut ChaosOptions)) -> ChaosOptions {
    let mut options = ChaosOptions::none();
    change(&mut options);
    options
}

fn addr(registry: &FakeRegistry) -> SocketAddr {
    registry.server().addr()
}

/// Sends one request and returns what comes back, or how it ends.
fn ask(host: &str, request: &str, body: &[u8]) -> io::Result<String> {
    let mut socket = TcpStream::connect(host)?;
    let length = body.len();
    let mut message = format!(
        "{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    message.extend_from_slice(body);
    socket.write_all(&message)?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Copies an image to `app:v1` and back.
fn copy(host: &str) -> Result<(), String> {
    let image = in_dir(&HandmadeImage::new(Codec::Gzip).layout());
    let folder = tempfile::tempdir().unwrap();
    let from = format!("oci:{}", image.path.display());
    let there = format!("docker://{host}/app:v1");
    let back = format!("oci:{}", folder.path().join("back").display());
    for (option, from, to) in [
        ("--dest-tls-verify=false", &from, &there),
        ("--src-tls-verify=false", &there, &back),
    ] {
        output(skopeo(folder.path()).args(["copy", "--quiet", option, from, to]))?;
    }
    Ok(())
}

#[test]
fn without_mishaps_everything_passes() {
    let registry = DockerRegistry::start();
    let proxy = ChaosProxy::start(registry.addr(), 1, ChaosOptions::none());
    copy(&proxy.host()).unwrap();
    assert_eq!(registry.tags("app").len(), 1);
    assert!(proxy.mishaps().is_empty());
    let stored = registry.stored_blobs();
    for digest in registry.blobs("app") {
        assert_eq!(proxy.log().uploaded_bytes(&digest), stored[&digest]);
        assert_eq!(proxy.log().completed(&digest), 1, "{}", proxy.log().text());
    }
}

#[test]
fn delays_and_stalls_break_nothing() {
    let registry = DockerRegistry::start();
    let options = always(|options| {
        options.delay = 50;
        options.longest_delay = Duration::from_millis(5);
        options.stall = 50;
        options.stall_time = Duration::from_millis(5);
    });
    let proxy = ChaosProxy::start(registry.addr(), 1, options);
    copy(&proxy.host()).unwrap();
    let mishaps = proxy.mishaps();
    assert!(mishaps["delay"] > 0 && mishaps["stall"] > 0, "{mishaps:?}");
}

#[test]
fn a_registry_hears_of_some_mishaps_and_not_of_others() {
    let registry = FakeRegistry::start();
    let through = |options: ChaosOptions| {
        registry.log().clear();
        let proxy = ChaosProxy::start(addr(&registry), 1, options);
        let post = "POST /v2/app/blobs/uploads/?mount=none";
        let answer = ask(&proxy.host(), post, b"0123456789");
        (answer, registry.log().count("POST", ""), proxy)
    };
    let reset = io::ErrorKind::ConnectionReset;

    let (answer, heard, _) = through(always(|options| options.reset_before = 100));
    assert_eq!((answer.unwrap_err().kind(), heard), (reset, 0));
    let (answer, heard, _) = through(always(|options| options.lose_answer = 100));
    assert_eq!((answer.unwrap_err().kind(), heard), (reset, 1));
    let (answer, heard, proxy) = through(always(|options| options.refuse = 100));
    let answer = answer.unwrap();
    assert_eq!(heard, 0);
    assert!(
        ["429", "500", "502", "503"].contains(&&answer[9..12]),
        "{answer}"
    );
    assert_eq!(proxy.mishaps()["refusal"], 1);
    assert_eq!(proxy.log().entries()[0].status, None);
    // The mishaps can be used up.
    let (answer, heard, _) = through(always(|options| {
        options.refuse = 100;
        options.most = 0;
    }));
    assert_eq!((answer.unwrap().get(9..12), heard), (Some("202"), 1));
}

#[test]
fn bodies_break_off_in_both_directions() {
    let registry = FakeRegistry::start();
    let options = always(|options| options.reset_in_body = 100);
    // The first number whose body breaks off half-way.
    let seed = (0..).find(|&seed| options.mishap(seed, 0) == Some(Mishap::ResetInBody(500)));
    let proxy = ChaosProxy::start(addr(&registry), seed.unwrap(), options);
    let post = ask(&registry.host(), "POST /v2/app/blobs/uploads/", b"").unwrap();
    let location = post
        .lines()
        .find_map(|line| line.strip_prefix("Location: "));
    let patch = format!("PATCH {}", location.unwrap());
    ask(&proxy.host(), &patch, &[0; 100_000]).unwrap_err();
    assert_eq!(proxy.log().received(), 50_000);
    // The registry may not even have begun to read.
    let start = Instant::now();
    while registry.log().count("PATCH", "") == 0 {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
    registry.log().settle();
    assert_eq!(registry.log().received(), 50_000);

    registry.put_manifest("app", Some("v1"), "x/y", b"{\"a\": 1}");
    let options = always(|options| options.truncate = 100);
    let proxy = ChaosProxy::start(addr(&registry), 1, options);
    let answer = ask(&proxy.host(), "GET /v2/app/manifests/v1", b"").unwrap();
    assert!(answer.contains("Content-Length: 8\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n{\"a\""), "{answer}");
    let answer = ask(&proxy.host(), "HEAD /v2/app/manifests/v1", b"").unwrap();
    assert!(answer.contains("Content-Length: 8\r\n"), "{answer}");
}

#[test]
fn an_answer_that_comes_early_is_passed_on() {
    use crate::http_server::Answer;

    let server = HttpServer::start(|_| Answer::new(401).header("X-Why", "none of it"));
    let proxy = ChaosProxy::start(server.addr(), 1, ChaosOptions::none());
    let mut socket = TcpStream::connect(proxy.host()).unwrap();
    let head = "PUT / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n";
    socket.write_all(head.as_bytes()).unwrap();
    let mut writer = socket.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        // As long as it is taken.
        while writer.write_all(&[0; 65536]).is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    drop(proxy);
    sending.join().unwrap();
}

#[test]
fn lots_are_the_same_in_every_run_and_fall_as_often_as_they_should() {
    let options = ChaosOptions::default();
    let draw = |seed| -> Vec<_> { (0..1000).map(|n| options.mishap(seed, n)).collect() };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    let mut counts = BTreeMap::new();
    for mishap in draw(7).into_iter().flatten() {
        *counts.entry(mishap.name()).or_insert(0) += 1;
    }
    // The rarest, 30 of 1000, deviates by 5.4 as a rule.
    for (name, expected) in [
        ("delay", 100),
        ("refusal", 100),
        ("lost answer", 50),
        ("stall", 30),
    ] {
        let count = counts[name];
        assert!(
            (expected / 2..expected * 2).contains(&count),
            "{name}: {count}"
        );
    }
    // So that a change of the generator is seen.
    let first: Vec<_> = draw(7)[..8].iter().map(|m| m.map(Mishap::name)).collect();
    let expected = [
        Some("truncated answer"),
        None,
        Some("refusal"),
        Some("reset in body"),
        Some("lost answer"),
        Some("refusal"),
        Some("lost answer"),
        None,
    ];
    assert_eq!(first, expected);
}
