//! Two hundred pushes through a bad network.
//!
//! Each ends in the right image or in a clear error; whoever looks at a tag at
//! any time gets a whole image; what was taken is not sent again; and no
//! process needs much memory.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use nix2oci_tests::DockerRegistry;
use nix2oci_tests::chaos_proxy::{ChaosOptions, ChaosProxy};
use nix2oci_tests::http_server::read_head;
use nix2oci_tests::image_files::text;
use serde_json::Value;

use super::{Finished, Push, Workload, docker};

const PUSHES: usize = 200;
const AT_ONCE: usize = 16;
const RELEASES: usize = 20;
const REPOSITORIES: usize = 4;

/// More than a push of anything may take.
const MOST_MEMORY: u64 = 160 * 1024 * 1024;

/// What the two hundred have in common.
struct Chaos {
    registry: DockerRegistry,
    proxy: ChaosProxy,
    workload: Workload,
    /// The digest of each release's manifest, and what it says.
    expected: Vec<String>,
    manifests: Vec<Value>,
    /// Held by a push of a release to a repository: those of the same one come
    /// one after the other.
    turns: Vec<Mutex<()>>,
    /// How many pushes may have completed a layer, by its digest.
    reasons: Mutex<BTreeMap<String, usize>>,
    failures: AtomicUsize,
    is_over: AtomicBool,
}

fn repository(number: usize) -> String {
    format!("team/app{}", number / RELEASES % REPOSITORIES)
}

fn release(number: usize) -> usize {
    number % RELEASES + 1
}

#[test]
fn two_hundred_pushes_through_a_bad_network() {
    let registry = DockerRegistry::start();
    let proxy = ChaosProxy::start(registry.addr(), 20_26, ChaosOptions::default());
    let workload = Workload::with_releases(RELEASES, 2, &|number| match number % 5 {
        // Enough for some chunks.
        0 if number < 100 => 2_500_000,
        _ => 60_000,
    });
    let folder = workload.folder().display().to_string();
    let resolved = (1..=RELEASES).map(|release| {
        let recipe = format!("{folder}/{release}.json");
        workload.write("resolve", release, &recipe);
        let recipe: Value = serde_json::from_slice(&std::fs::read(recipe).unwrap()).unwrap();
        let digest = text(&recipe["manifestDigest"]).to_owned();
        let manifest = text(&recipe["manifest"]);
        (digest, serde_json::from_str(manifest).unwrap())
    });
    let (expected, manifests): (Vec<String>, Vec<Value>) = resolved.unzip();
    workload.write("build", 1, &format!("oci:{folder}/layout"));
    let chaos = Chaos {
        registry,
        proxy,
        workload,
        expected,
        manifests,
        turns: (0..RELEASES * REPOSITORIES)
            .map(|_| Mutex::default())
            .collect(),
        reasons: Mutex::default(),
        failures: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    };
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| chaos.watch());
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        if number >= PUSHES {
                            return;
                        }
                        chaos.push(number);
                    }
                })
            })
            .collect();
        let results: Vec<_> = workers.into_iter().map(ScopedJoinHandle::join).collect();
        chaos.is_over.store(true, Ordering::SeqCst);
        assert!(results.iter().all(Result::is_ok), "a push went wrong");
    });
    let failures = chaos.failures.load(Ordering::SeqCst);
    assert!(failures <= PUSHES / 20, "{failures} pushes failed");
    let mishaps = chaos.proxy.mishaps();
    assert_eq!(mishaps.len(), 7, "everything happened: {mishaps:?}");
    chaos.assert_nothing_twice();
}

impl Chaos {
    /// The push of this number: from all kinds of sources, with all kinds of
    /// options.
    fn run(&self, number: usize) -> Finished {
        let tag = format!("v{}", release(number));
        let to = format!("{}/{}:{tag}", self.proxy.host(), repository(number));
        let folder = self.workload.folder().display();
        let other = repository(number + RELEASES);
        let image = || self.workload.push(release(number), &to);
        let push = match number % 7 {
            1 => image().args(&["--no-reuse"]),
            2 => image().args(&["--chunk-size", "1M", "--no-reuse"]),
            3 => image().args(&["--mount-from", &other]),
            4 => {
                let recipe = format!("{folder}/{}.json", release(number));
                let root = self.workload.store_root().display().to_string();
                Push::of(&[&recipe, &docker(&to), "--store-root", &root])
            }
            5 if release(number) == 1 => Push::of(&[&format!("oci:{folder}/layout"), &docker(&to)]),
            6 => image().args(&["--verify-reused"]),
            _ => image(),
        };
        push.args(&["--json", "--progress", "json"]).run()
    }

    fn push(&self, number: usize) {
        let turn = self.turns[number % self.turns.len()].lock();
        let finished = self.run(number);
        let what = || format!("push {number}: {finished:?}");
        let events: Vec<Value> = finished
            .stderr
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect();
        let last = events.last().expect("there is an end");
        assert_eq!(finished.spooled, 0, "{}", what());
        let repository = repository(number);
        let tag = format!("v{}", release(number));
        let expected = &self.expected[release(number) - 1];
        match finished.code {
            Some(0) => {
                let digest = self.registry.assert_whole(&repository, &tag);
                assert_eq!(digest, *expected, "{}", what());
                let report: Value = serde_json::from_str(&finished.stdout).unwrap();
                assert_eq!(text(&report["digest"]), digest);
                let peak = last["peakMemory"].as_u64().expect("Linux tells it");
                assert!(peak < MOST_MEMORY, "{}", what());
                let layers = report["layers"].as_array().unwrap().iter();
                let new = layers.filter(|layer| layer["state"] == "new");
                for layer in new {
                    self.note_reason(text(&layer["digest"]));
                }
            }
            Some(7) => {
                self.failures.fetch_add(1, Ordering::SeqCst);
                assert_eq!(last["event"], "error", "{}", what());
                assert!(text(&last["message"]).contains("team/app"), "{}", what());
                if self.registry.tags(&repository).contains_key(&tag) {
                    assert_eq!(self.registry.assert_whole(&repository, &tag), *expected);
                }
                // Some of it may have been sent before it gave up.
                let manifest = &self.manifests[release(number) - 1];
                for blob in blobs(manifest) {
                    self.note_reason(blob);
                }
            }
            _ => panic!("{}", what()),
        }
        drop(turn);
    }

    fn note_reason(&self, digest: &str) {
        let mut reasons = self.reasons.lock().expect("nobody panics here");
        *reasons.entry(digest.to_owned()).or_default() += 1;
    }

    /// A blob of one release is completed once in each repository, and once
    /// more where the answer was lost on its way. Several pushes at once may
    /// send what releases share: those that said so.
    fn assert_nothing_twice(&self) {
        self.proxy.log().settle();
        let reasons = self.reasons.lock().expect("nobody panics here");
        for manifest in &self.manifests {
            for blob in blobs(manifest) {
                let releases = self.manifests.iter();
                let releases = releases.filter(|other| blobs(other).any(|b| b == blob));
                let reasons = if releases.count() == 1 {
                    REPOSITORIES
                } else {
                    reasons[blob]
                };
                let times = self.proxy.log().completed(blob);
                let allowed = reasons + self.proxy.unheard(blob);
                assert!(
                    times >= 1 && times <= allowed,
                    "{blob}: {times}, not {allowed}"
                );
            }
        }
    }

    /// Looks at all tags, as somebody who pulls sees them, until all is over.
    fn watch(&self) {
        let mut looked = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            for number in 0..REPOSITORIES {
                looked += self.look(&repository(number * RELEASES));
            }
            thread::sleep(Duration::from_millis(37));
        }
        assert!(looked > PUSHES, "{looked} tags were seen");
    }

    /// Asks the registry for the images of all tags, and returns how many there
    /// are.
    fn look(&self, repository: &str) -> usize {
        let addr = self.registry.addr();
        let (status, list) = ask(addr, "GET", &format!("/v2/{repository}/tags/list"));
        if status == 404 {
            return 0;
        }
        let list: Value = serde_json::from_slice(&list)
            .unwrap_or_else(|e| panic!("tags of {repository}: {e}: {}", list.escape_ascii()));
        let tags = list["tags"].as_array().cloned().unwrap_or_default();
        let tags: Vec<&str> = tags.iter().map(text).collect();
        let mut whole = 0;
        for tag in &tags {
            let target = format!("/v2/{repository}/manifests/{tag}");
            let (status, manifest) = ask(addr, "GET", &target);
            if status == 404 {
                // distribution lists a tag before it points to anything.
                continue;
            }
            let shown = manifest.escape_ascii();
            assert_eq!(status, 200, "{target}: {shown}");
            let manifest: Value = serde_json::from_slice(&manifest)
                .unwrap_or_else(|e| panic!("{target}: {e}: {shown}"));
            for blob in blobs(&manifest) {
                let target = format!("/v2/{repository}/blobs/{blob}");
                let (status, _) = ask(addr, "HEAD", &target);
                assert_eq!(status, 200, "{tag} needs {target}");
            }
            whole += 1;
        }
        whole
    }
}

/// The digests of all layers and the config of a manifest.
fn blobs(manifest: &Value) -> impl Iterator<Item = &str> {
    let layers = manifest["layers"].as_array().expect("it has layers");
    let all = layers.iter().chain([&manifest["config"]]);
    all.map(|blob| text(&blob["digest"]))
}

/// Asks the registry itself, not through the proxy, until it answers.
///
/// It answers 500 while it writes the file of a link anew, which distribution
/// does in place when a blob comes once more; and a machine that is busy may
/// break a connection.
fn ask(addr: SocketAddr, method: &str, target: &str) -> (u16, Vec<u8>) {
    const PATIENCE: Duration = Duration::from_secs(60);
    let start = Instant::now();
    let mut troubles = BTreeMap::<String, usize>::new();
    loop {
        match ask_once(addr, method, target) {
            Ok((status, body)) if status < 500 => return (status, body),
            Ok((status, body)) => {
                let body = body.escape_ascii();
                *troubles.entry(format!("{status}: {body}")).or_default() += 1;
            }
            Err(error) => *troubles.entry(error.to_string()).or_default() += 1,
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{method} {target} fails on: {troubles:?}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// Asks once. An answer that is not whole is an error, as is none.
fn ask_once(addr: SocketAddr, method: &str, target: &str) -> io::Result<(u16, Vec<u8>)> {
    let broken = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut socket = TcpStream::connect(addr)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let accept = "application/vnd.oci.image.manifest.v1+json";
    let head = format!("{method} {target} HTTP/1.0\r\nHost: {addr}\r\nAccept: {accept}\r\n\r\n");
    socket.write_all(head.as_bytes())?;
    let mut answer = BufReader::new(socket);
    let (first, headers) = read_head(&mut answer)?.ok_or_else(|| broken("no answer".to_owned()))?;
    let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| broken(format!("{first:?} has no status")))?;
    let mut body = Vec::new();
    answer.read_to_end(&mut body)?;
    let announced = headers.get("Content-Length").filter(|_| method != "HEAD");
    if announced.is_some_and(|length| length != body.len().to_string()) {
        return Err(broken(format!("{} bytes, not {announced:?}", body.len())));
    }
    Ok((status, body))
}

/// A layer that is larger than the memory that a push may take, and many that
/// are sent beside it.
#[test]
fn memory_is_bounded_whatever_is_sent() {
    const LARGE: usize = 200 * 1024 * 1024;
    let registry = DockerRegistry::start();
    let options = ChaosOptions {
        // A large body that breaks is sent again, which takes time.
        reset_in_body: 0,
        most: 20,
        ..ChaosOptions::default()
    };
    let proxy = ChaosProxy::start(registry.addr(), 7, options);
    let workload = Workload::with_releases(2, 12, &|number| match number {
        1 => LARGE,
        _ => 3 * 1024 * 1024,
    });
    for (release, arguments) in [
        (1, &["--no-reuse", "--compression", "none"][..]),
        (1, &["--compression", "gzip:1"]),
        (2, &["--chunk-size", "1M"]),
    ] {
        let repository = format!("app{}", arguments.len());
        let to = format!("{}/{repository}:v{release}", proxy.host());
        let push = workload.push(release, &to).args(arguments);
        let finished = push
            .args(&["--jobs", "8", "--threads", "8", "--progress", "json"])
            .run();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let done: Value = serde_json::from_str(finished.stderr.lines().last().unwrap()).unwrap();
        let peak = done["peakMemory"].as_u64().unwrap();
        assert!(peak < MOST_MEMORY, "{arguments:?}: {peak} bytes");
        registry.assert_whole(&repository, &format!("v{release}"));
    }
}
