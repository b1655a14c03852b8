//! The registry that most others are made of: distribution, as Debian packages
//! it (`docker-registry`, version 2.8).
//!
//! It listens on a free port of 127.0.0.1, stores in a folder of its own, and
//! ends when it is dropped. What it stores and what it was asked for can be
//! looked at from outside.

mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::certificates::{Certificate, TestCa};
use crate::command::{end_with_us, search_path};
use crate::http_server::HttpServer;

use token::{ISSUER, SERVICE};

/// The user that a registry knows which asks for one.
pub const USER: &str = "user";

/// That user's password.
pub const PASSWORD: &str = "secret";

/// User and password as htpasswd files have them, by bcrypt with the lowest cost.
const HTPASSWD: &str = "user:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";

/// How long it may take to start or to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a [`DockerRegistry`] asks for. By default it lets everyone in, without
/// TLS.
#[derive(Debug, Default)]
pub struct DockerOptions {
    /// Whom it lets in.
    pub auth: DockerAuth,
    /// Speaks TLS, with a certificate of this authority for `localhost`,
    /// 127.0.0.1 and ::1. So does the token server.
    pub tls: Option<TestCa>,
    /// Lets in only clients with a certificate of [`DockerOptions::tls`]'s
    /// authority.
    pub asks_for_certificate: bool,
}

/// Whom a registry lets in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DockerAuth {
    /// Everyone.
    #[default]
    None,
    /// [`USER`] with [`PASSWORD`], in each request.
    Htpasswd,
    /// Who has a token of a token server, which gives them to [`USER`] with
    /// [`PASSWORD`].
    Token,
}

/// A running registry.
#[derive(Debug)]
pub struct DockerRegistry {
    process: Child,
    watcher: Child,
    addr: SocketAddr,
    folder: TempDir,
    tls: Option<TestCa>,
    token_server: Option<HttpServer>,
}

/// A request as the access log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The protocol: `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    /// The status that it got; 0 if the connection broke before one was sent.
    pub status: u16,
}

impl DockerRegistry {
    /// Starts one that lets everyone in.
    ///
    /// # Panics
    ///
    /// If it cannot be started: no test skips what it cannot run.
    pub fn start() -> Self {
        Self::start_with(DockerOptions::default())
    }

    /// Starts one.
    ///
    /// # Panics
    ///
    /// If it cannot be started, or does not answer within 30 seconds.
    pub fn start_with(options: DockerOptions) -> Self {
        let folder = tempfile::tempdir().expect("the temporary folder can be written");
        let token_server = (options.auth == DockerAuth::Token)
            .then(|| token::serve(folder.path(), options.tls.as_ref()));
        let config = config(folder.path(), &options, token_server.as_ref());
        write(folder.path(), "config.json", config.to_string());
        let open =
            |name: &str| File::create(folder.path().join(name)).expect("the folder can be written");
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(folder.path().join("config.json"))
            .env("PATH", search_path())
            .stdin(Stdio::null())
            .stdout(open("access.log"))
            .stderr(open("registry.log"));
        let process = command.spawn().unwrap_or_else(|error| {
            panic!("{command:?} could not be started ({error}); tests/install installs it")
        });
        let mut registry = Self {
            watcher: end_with_us(&process),
            process,
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            folder,
            tls: options.tls,
            token_server,
        };
        registry.addr = registry.wait_for_port();
        registry
    }

    /// Reads the port from the log, where it stands when the socket is open:
    /// clients wait from then on.
    fn wait_for_port(&mut self) -> SocketAddr {
        let start = Instant::now();
        loop {
            let log = self.log();
            if let Some((_, rest)) = log.split_once("listening on ") {
                let addr = rest.split([',', '"']).next().unwrap_or_default();
                return addr.parse().expect("it logs where it listens");
            }
            let status = self.process.try_wait().expect("the process is ours");
            assert!(
                status.is_none() && start.elapsed() < PATIENCE,
                "docker-registry does not start ({status:?}):\n{log}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns the address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the host as in a reference: `127.0.0.1:12345`.
    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// Returns the same host by name: `localhost:12345`.
    pub fn localhost(&self) -> String {
        format!("localhost:{}", self.addr.port())
    }

    /// Returns the authority behind its certificate, if it speaks TLS.
    pub fn ca(&self) -> Option<&TestCa> {
        self.tls.as_ref()
    }

    /// Writes a folder of certificates as containers/image and Docker know it
    /// and returns it: `ca.crt`, and `client.cert` and `client.key` for a client
    /// that may enter.
    ///
    /// # Panics
    ///
    /// If the registry has no TLS.
    pub fn cert_dir(&self) -> PathBuf {
        let ca = self.tls.as_ref().expect("the registry speaks TLS");
        let dir = self.folder.path().join("certs");
        fs::create_dir_all(&dir).expect("the folder can be written");
        let client = ca.client("a client");
        write(&dir, "ca.crt", ca.pem());
        write(&dir, "client.cert", client.pem);
        write(&dir, "client.key", client.key_pem);
        dir
    }

    /// Returns what it wrote to its log.
    pub fn log(&self) -> String {
        read(&self.folder.path().join("registry.log"))
    }

    /// Returns the requests it answered, in the order in which it was done with
    /// them. Waits a moment: a line is written after its answer was sent.
    pub fn requests(&self) -> Vec<Access> {
        let path = self.folder.path().join("access.log");
        let mut text = read(&path);
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let again = read(&path);
            if again == text {
                break;
            }
            text = again;
        }
        text.lines().filter_map(Access::parse).collect()
    }

    /// Returns how many requests had this method (or `*`) and this text in
    /// their target.
    pub fn count(&self, method: &str, target: &str) -> usize {
        let requests = self.requests().into_iter();
        requests
            .filter(|request| method == "*" || request.method == method)
            .filter(|request| request.target.contains(target))
            .count()
    }

    /// Returns how many tokens were asked for.
    pub fn token_requests(&self) -> u64 {
        self.token_server.as_ref().map_or(0, HttpServer::requests)
    }

    /// Returns the sizes of all blobs on its disk by digest, manifests included.
    pub fn stored_blobs(&self) -> BTreeMap<String, u64> {
        let blobs = self.root().join("blobs/sha256");
        let mut stored = BTreeMap::new();
        for hex in names(&blobs).iter().flat_map(|two| names(&blobs.join(two))) {
            let data = blobs.join(&hex[..2]).join(&hex).join("data");
            let size = data.metadata().expect("a blob has data").len();
            stored.insert(format!("sha256:{hex}"), size);
        }
        stored
    }

    /// Returns the digests of the layers and configs that a repository has.
    pub fn blobs(&self, repository: &str) -> BTreeSet<String> {
        let layers = self.root().join("repositories").join(repository);
        let digests = names(&layers.join("_layers/sha256")).into_iter();
        digests.map(|hex| format!("sha256:{hex}")).collect()
    }

    /// Takes a layer or config out of a repository, as a garbage collection
    /// would that the image's manifest did not survive.
    pub fn delete_blob(&self, repository: &str, digest: &str) {
        let layers = self.root().join("repositories").join(repository);
        let link = layers.join("_layers").join(digest.replace(':', "/"));
        fs::remove_dir_all(&link).unwrap_or_else(|e| panic!("{}: {e}", link.display()));
    }

    /// Returns the tags of a repository with the digests they name.
    pub fn tags(&self, repository: &str) -> BTreeMap<String, String> {
        let repository = self.root().join("repositories").join(repository);
        let tags = repository.join("_manifests/tags");
        let names = names(&tags).into_iter();
        names
            .filter_map(|tag| {
                // The registry makes the folder first and fills the file last.
                let digest = fs::read_to_string(tags.join(&tag).join("current/link")).ok()?;
                (!digest.is_empty()).then_some((tag, digest))
            })
            .collect()
    }

    /// Returns how many uploads of a repository were begun and neither
    /// completed nor cancelled.
    pub fn open_uploads(&self, repository: &str) -> usize {
        let repository = self.root().join("repositories").join(repository);
        names(&repository.join("_uploads")).len()
    }

    /// Reads a blob or manifest from its disk and checks its digest.
    ///
    /// # Panics
    ///
    /// If it is not there or not what its digest says.
    #[track_caller]
    pub fn blob(&self, digest: &str) -> Vec<u8> {
        let hex = digest.strip_prefix("sha256:").expect("digests are SHA-256");
        let data = self.root().join("blobs/sha256").join(&hex[..2]);
        let data = data.join(hex).join("data");
        let bytes = fs::read(&data).unwrap_or_else(|e| panic!("{}: {e}", data.display()));
        let found = HEXLOWER.encode(&Sha256::digest(&bytes));
        assert_eq!(found, hex, "what is stored for it is something else");
        bytes
    }

    /// Checks every byte of the image that a tag names, config and layers
    /// included, and returns the manifest's digest.
    ///
    /// # Panics
    ///
    /// If the tag is not there, or the image not whole and in this repository.
    #[track_caller]
    pub fn assert_whole(&self, repository: &str, tag: &str) -> String {
        let tags = self.tags(repository);
        let digest = tags.get(tag).unwrap_or_else(|| panic!("{tag}: {tags:?}"));
        let manifest: Value =
            serde_json::from_slice(&self.blob(digest)).expect("a manifest is JSON");
        let linked = self.blobs(repository);
        let layers = manifest["layers"].as_array().expect("it has layers");
        for descriptor in layers.iter().chain([&manifest["config"]]) {
            let blob = descriptor["digest"].as_str().expect("it has a digest");
            assert!(linked.contains(blob), "{blob} is not in {repository}");
            let size = self.blob(blob).len() as u64;
            assert_eq!(descriptor["size"].as_u64(), Some(size), "{blob}");
        }
        digest.clone()
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("data/docker/registry/v2")
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // The watcher first: later the number could be another process's. The
        // registry keeps nothing that a friendlier end would save.
        for process in [&mut self.watcher, &mut self.process] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Access {
    /// Parses a line in Apache's combined format: `HOST - USER [TIME] "METHOD
    /// TARGET PROTOCOL" STATUS SIZE …`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once("] \"")?;
        let (request, rest) = rest.split_once("\" ")?;
        let mut words = request.split(' ');
        Some(Self {
            method: words.next()?.to_owned(),
            target: words.next()?.to_owned(),
            protocol: words.next()?.to_owned(),
            status: rest.split(' ').next()?.parse().ok()?,
        })
    }
}

/// Its configuration; JSON is YAML too.
fn config(folder: &Path, options: &DockerOptions, token_server: Option<&HttpServer>) -> Value {
    let mut config = json!({
        "version": "0.1",
        "log": {"level": "info", "formatter": "json"},
        "storage": {
            "filesystem": {"rootdirectory": folder.join("data")},
            "delete": {"enabled": true},
        },
        "http": {"addr": "127.0.0.1:0", "secret": "so that no warning is logged"},
    });
    if let Some(ca) = &options.tls {
        let Certificate { pem, key_pem } = ca.loopback();
        let mut tls = json!({
            "certificate": write(folder, "server.crt", pem),
            "key": write(folder, "server.key", key_pem),
        });
        if options.asks_for_certificate {
            tls["clientcas"] = json!([write(folder, "clients.crt", ca.pem())]);
        }
        config["http"]["tls"] = tls;
    } else {
        assert!(
            !options.asks_for_certificate,
            "certificates of clients need TLS"
        );
    }
    match options.auth {
        DockerAuth::None => {}
        DockerAuth::Htpasswd => {
            let path = write(folder, "htpasswd", HTPASSWD);
            config["auth"] = json!({"htpasswd": {"realm": "test", "path": path}});
        }
        DockerAuth::Token => {
            let server = token_server.expect("it was started for this");
            config["auth"] = json!({"token": {
                "realm": format!("{}/token", server.url()),
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": folder.join(token::CERTIFICATE),
            }});
        }
    }
    config
}

fn write(folder: &Path, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, contents).expect("the folder can be written");
    path
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the names in a folder; none if it is not there.
fn names(folder: &Path) -> Vec<String> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => panic!("{}: {error}", folder.display()),
    };
    entries
        .map(|entry| {
            let name = entry.expect("the folder can be read").file_name();
            name.into_string().expect("the registry's names are ASCII")
        })
        .collect()
}

#[cfg(test)]
mod tests;
