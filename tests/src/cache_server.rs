//! A binary cache by HTTP/1.1: a folder of files, and what goes wrong on
//! request.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;

use crate::fake_registry::Fault;
use crate::fake_registry::faults::{Faults, Incoming};
use crate::http_server::{Answer, AnswerBody, HttpServer, Request, lock};
use crate::request_log::Log;

/// A server of the files in a folder. It ends when it is dropped.
///
/// It knows `GET` and `HEAD`, ranges of one part, `If-Range` and strong ETags,
/// as nginx does.
#[derive(Debug)]
pub struct CacheServer {
    server: HttpServer,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// A header field without which nothing is given out.
    required: Mutex<Option<(String, String)>>,
    faults: Faults,
    log: Log,
}

impl CacheServer {
    /// Starts one for a folder.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, None)
    }

    /// Starts one for a folder, with or without TLS.
    pub fn start_with(folder: &Path, tls: Option<Arc<ServerConfig>>) -> Self {
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            required: Mutex::default(),
            faults: Faults::default(),
            log: Log::default(),
        });
        let serving = shared.clone();
        let server = HttpServer::start_with(tls, move |request| serving.handle(request));
        Self { server, shared }
    }

    /// Returns the server below.
    pub fn server(&self) -> &HttpServer {
        &self.server
    }

    /// Returns the cache's URL, without a slash at its end.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Returns what came in.
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Returns how many narinfos were asked for.
    pub fn narinfos(&self) -> usize {
        self.log().count("GET", ".narinfo")
    }

    /// Returns how many NARs, or parts of them, were asked for.
    pub fn nars(&self) -> usize {
        self.log().count("GET", "/nar/")
    }

    /// Lets something go wrong from now on.
    pub fn fail(&self, fault: Fault) {
        self.shared.faults.add(fault);
    }

    /// Lets nothing go wrong any more.
    pub fn heal(&self) {
        self.shared.faults.clear();
    }

    /// Answers only who sends this header field: 401 to others, and for
    /// `Authorization` with a challenge.
    pub fn require(&self, name: &str, value: &str) {
        *lock(&self.shared.required) = Some((name.to_owned(), value.to_owned()));
    }
}

impl Shared {
    fn handle(&self, request: &mut Request<'_>) -> Answer {
        let entry = self.log.begin(request, false);
        let mut incoming = Incoming::new(request, &self.faults, None);
        let answer = match incoming.early() {
            Some(answer) => answer,
            None => {
                let answer = self.answer(incoming.request);
                incoming.late(answer)
            }
        };
        self.log.end(entry, 0, answer.sent_status());
        answer
    }

    fn answer(&self, request: &Request<'_>) -> Answer {
        if let Some((name, value)) = &*lock(&self.required)
            && request.headers.get(name) != Some(value)
        {
            let answer = Answer::new(401).body("who are you?");
            return if name.eq_ignore_ascii_case("authorization") {
                answer.header("WWW-Authenticate", "Basic realm=\"cache\"")
            } else {
                answer
            };
        }
        if !matches!(&*request.method, "GET" | "HEAD") {
            return Answer::new(405);
        }
        let path = request.path.trim_start_matches('/');
        let is_inside = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        let file = self.folder.join(path);
        let metadata = fs::metadata(&file)
            .ok()
            .filter(|m| is_inside && m.is_file());
        let Some(metadata) = metadata else {
            return Answer::new(404).body("404");
        };
        let etag = format!("\"{:x}-{:x}\"", metadata.mtime_nsec(), metadata.len());
        let size = metadata.len();
        let range = request.headers.get("Range").and_then(parse_range);
        let if_range = request.headers.get("If-Range");
        let range = range.filter(|_| if_range.is_none_or(|tag| tag == etag));
        let (status, start, end) = match range {
            None => (200, 0, size),
            Some((start, _)) if start >= size => {
                return Answer::new(416).header("Content-Range", format!("bytes */{size}"));
            }
            Some((start, end)) => (206, start, end.map_or(size, |end| size.min(end + 1))),
        };
        let Ok(mut opened) = File::open(&file) else {
            return Answer::new(403);
        };
        opened
            .seek(SeekFrom::Start(start))
            .expect("a file can be read from anywhere");
        let mut answer = Answer::new(status)
            .header("ETag", etag)
            .header("Accept-Ranges", "bytes")
            .header("Content-Type", content_type(path));
        if status == 206 {
            let range = format!("bytes {start}-{}/{size}", end - 1);
            answer = answer.header("Content-Range", range);
        }
        answer.body = AnswerBody::Reader(Box::new(opened.take(end - start)), Some(end - start));
        answer
    }
}

/// Parses a range of one part that has a start; the end is the last byte.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (start, end) = text.strip_prefix("bytes=")?.split_once('-')?;
    let end = match end {
        "" => None,
        end => Some(end.parse().ok()?),
    };
    Some((start.parse().ok()?, end))
}

fn content_type(path: &str) -> &'static str {
    if path.ends_with(".narinfo") {
        "text/x-nix-narinfo"
    } else if path.starts_with("nar/") {
        "application/x-nix-nar"
    } else {
        "text/x-nix-cache-info"
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::command::{output, run};

    fn served() -> (tempfile::TempDir, CacheServer) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("nar")).unwrap();
        fs::write(folder.path().join("nar/a"), "0123456789").unwrap();
        let server = CacheServer::start(folder.path());
        (folder, server)
    }

    fn curl(arguments: &[&str]) -> Result<String, String> {
        output(
            Command::new("curl")
                .args(["-q", "-sS", "--path-as-is"])
                .args(arguments),
        )
    }

    #[test]
    fn files_and_parts_of_them_are_given_out() {
        let (_folder, server) = served();
        let url = format!("{}/nar/a", server.url());
        assert_eq!(curl(&[&url]).unwrap(), "0123456789");
        assert_eq!(curl(&["-r", "7-", &url]).unwrap(), "789");
        assert_eq!(curl(&["-r", "2-4", &url]).unwrap(), "234");
        let head = curl(&["-I", "-r", "2-4", &url]).unwrap();
        assert!(head.contains("Content-Range: bytes 2-4/10"), "{head}");
        let etag = head.lines().find_map(|line| line.strip_prefix("ETag: "));
        let if_range = format!("If-Range: {}", etag.unwrap().trim_end());
        let part = ["-r", "9-", &url, "-H"];
        assert_eq!(curl(&[&part[..], &[&if_range]].concat()).unwrap(), "9");
        let other = [&part[..], &["If-Range: \"other\""]].concat();
        assert_eq!(curl(&other).unwrap(), "0123456789");
        let status = ["-o", "/dev/null", "-w", "%{http_code}"];
        let past = [&status[..], &["-r", "10-", &url]].concat();
        assert_eq!(curl(&past).unwrap(), "416");
        for missing in ["nar/b", "nar", "", "../etc/passwd", "nar/../nar/a"] {
            let url = format!("{}/{missing}", server.url());
            let missing = [&status[..], &[&url]].concat();
            assert_eq!(curl(&missing).unwrap(), "404", "{url}");
        }
        assert_eq!(server.nars(), 8);
    }

    #[test]
    fn it_breaks_and_refuses_on_request() {
        let (_folder, server) = served();
        let url = format!("{}/nar/a", server.url());
        server.fail(Fault::on("GET", "/nar/").first(1).cut(4));
        let error = curl(&[&url]).unwrap_err();
        assert!(error.contains("with 6 bytes remaining"), "{error}");
        assert_eq!(curl(&[&url]).unwrap(), "0123456789");
        server.heal();
        server.require("Authorization", "Basic dXNlcjpzZWNyZXQ=");
        assert_eq!(curl(&[&url]).unwrap(), "who are you?");
        run(Command::new("curl").args(["-q", "-sSf", "-u", "user:secret", &url]));
    }
}
