//! The fake answers as distribution 2.8 does, told to deviate as that does.

use super::tests::{Reply, ask};
use super::*;
use crate::docker_registry::DockerRegistry;

/// What a client may rely on of the answers, a line for each.
struct Walk {
    host: String,
    lines: Vec<String>,
}

impl Walk {
    fn ask(&mut self, method: &str, target: &str, fields: &[&str], body: &[u8]) -> Reply {
        let reply = ask(&self.host, method, target, fields, body);
        let path = target.split('?').next().unwrap_or_default();
        let place = match path.split_once("/blobs/uploads/") {
            Some((repository, _)) => format!("{repository}/blobs/uploads/"),
            None => path.to_owned(),
        };
        let mut line = format!("{method} {place} {} bytes: {}", body.len(), reply.status);
        for name in ["Range", "Content-Range", "Docker-Content-Digest", "Link"] {
            if let Some(value) = reply.header(name) {
                line += &format!(" {name}={value}");
            }
        }
        for name in ["Location", "WWW-Authenticate", "OCI-Subject", "OCI-Tag"] {
            if reply.header(name).is_some() {
                line += &format!(" {name}");
            }
        }
        // White space in a list of tags is nobody's concern.
        let is_exact = !path.ends_with("/tags/list");
        if reply.status < 300 && matches!(method, "GET" | "HEAD") && is_exact {
            let length = reply.header("Content-Length");
            line += &format!(" of {length:?}");
        }
        if let Ok(document) = serde_json::from_slice::<serde_json::Value>(&reply.body) {
            let codes = document["errors"].as_array().into_iter().flatten();
            // Whether an upload is unknown or invalid depends on how much of it
            // is left; no client can tell these apart for any use.
            let codes: Vec<_> = codes
                .map(|error| {
                    error["code"]
                        .to_string()
                        .replace("UPLOAD_UNKNOWN", "UPLOAD_INVALID")
                })
                .collect();
            line += &format!(" {codes:?} {}", document["tags"]);
        }
        self.lines.push(line);
        reply
    }

    /// Sends half a body and hangs up.
    fn ask_for_half(&mut self, method: &str, target: &str, half: &[u8]) {
        use std::io::{Read as _, Write as _};

        let mut socket = std::net::TcpStream::connect(&self.host).unwrap();
        let length = 2 * half.len();
        let host = &self.host;
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(half).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        // Until the registry has seen it, too. An answer nobody can rely on.
        let _ = socket.read_to_end(&mut Vec::new());
    }

    /// Begins an upload, and returns its path and query.
    fn begin(&mut self, query: &str) -> String {
        let target = format!("/v2/app/blobs/uploads/{query}");
        let reply = self.ask("POST", &target, &[], b"");
        Self::location(&reply)
    }

    fn location(reply: &Reply) -> String {
        let location = reply.header("Location").unwrap_or_default();
        let path = location.find("/v2/").map(|at| &location[at..]);
        path.unwrap_or_default().to_owned()
    }

    fn finish(&mut self, location: &str, digest: &str, body: &[u8]) {
        let separator = if location.contains('?') { '&' } else { '?' };
        let target = format!("{location}{separator}digest={digest}");
        self.ask("PUT", &target, &[], body);
    }

    fn blobs(&mut self) {
        let blob = b"0123456789";
        let digest = digest_of(blob);
        let of_blob = format!("/v2/app/blobs/{digest}");
        self.ask("GET", "/v2/", &[], b"");
        self.ask("HEAD", &of_blob, &[], b"");
        self.ask("GET", &of_blob, &[], b"");
        let location = self.begin("");
        self.finish(&location, &digest, blob);
        self.ask("HEAD", &of_blob, &[], b"");
        self.ask("GET", &of_blob, &[], b"");
        self.ask("GET", &of_blob, &["Range: bytes=2-4"], b"");
        self.ask("GET", &of_blob, &["Range: bytes=7-"], b"");
        self.ask("GET", "/v2/app/blobs/sha256:12", &[], b"");

        // A stream, and a second blob after it.
        let location = self.begin("");
        let reply = self.ask("PATCH", &location, &[], b"streamed");
        self.finish(&Self::location(&reply), &digest_of(b"streamed"), b"");
        let location = self.begin("");
        self.finish(&location, &digest_of(b""), b"");

        // Chunks; the last one comes with the PUT.
        let first = self.begin("");
        let reply = self.ask("PATCH", &first, &["Content-Range: 0-3"], b"chun");
        let second = Self::location(&reply);
        self.ask("GET", &second, &[], b"");
        self.ask("GET", &first, &[], b"");
        let reply = self.ask("PATCH", &second, &["Content-Range: 4-5"], b"ke");
        self.finish(&Self::location(&reply), &digest_of(b"chunked"), b"d");
        self.ask("GET", &Self::location(&reply), &[], b"");

        // What goes wrong.
        let location = self.begin("");
        self.finish(&location, &digest, b"other bytes");
        self.ask("GET", &location, &[], b"");
        let location = self.begin("");
        self.ask("PUT", &location, &[], blob);
        self.ask("GET", &location, &[], b"");
        // A body that breaks off.
        let location = self.begin("");
        self.ask_for_half("PATCH", &location, b"half");
        self.ask("GET", &location, &[], b"");
        let location = self.begin("");
        self.ask("DELETE", &location, &[], b"");
        self.ask("GET", &location, &[], b"");
        self.ask("POST", "/v2/UPPER/blobs/uploads/", &[], b"");
        self.ask("PUT", "/v2/app/blobs/uploads/none?digest=x", &[], b"");

        // A mount, from where the blob is and from where it is not.
        for from in ["app", "nowhere"] {
            let target = format!("/v2/other/blobs/uploads/?mount={digest}&from={from}");
            self.ask("POST", &target, &[], b"");
        }
        self.ask(
            "POST",
            &format!("/v2/other/blobs/uploads/?mount={digest}"),
            &[],
            b"",
        );
        self.ask("HEAD", &format!("/v2/other/blobs/{digest}"), &[], b"");
        let target = format!("/v2/app/blobs/uploads/?digest={}", digest_of(b"single"));
        self.ask("POST", &target, &[], b"single");
    }

    fn manifests(&mut self) {
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let descriptor = |media_type: &str, blob: &[u8]| json!({"mediaType": media_type, "digest": digest_of(blob), "size": blob.len()});
        let manifest = |layer: &[u8]| {
            json!({
                "schemaVersion": 2,
                "mediaType": kind,
                "config": descriptor("application/vnd.oci.image.config.v1+json", b"streamed"),
                "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
            })
            .to_string()
            .into_bytes()
        };
        let content_type = &*format!("Content-Type: {kind}");
        let accept = &*format!("Accept: {kind}");
        let right = manifest(b"chunked");
        let digest = digest_of(&right);
        let of = |which: &str| format!("/v2/app/manifests/{which}");
        self.ask("GET", &of("v1"), &[accept], b"");
        self.ask("GET", "/v2/nowhere/tags/list", &[], b"");
        self.ask("PUT", &of("v1"), &[content_type], &manifest(b"not there"));
        self.ask("PUT", &of("v1"), &[content_type], b"{\"schemaVersion\": 2");
        self.ask("PUT", &of("v1"), &[content_type], &right);
        self.ask("PUT", &of("v1"), &[content_type], &right);
        self.ask("PUT", &of(&digest), &[content_type], &right);
        self.ask("PUT", &of(&digest_of(b"")), &[content_type], &right);
        self.ask(
            "PUT",
            &format!("{}?tag=b", of(&digest)),
            &[content_type],
            &right,
        );
        self.ask("PUT", &of("v2"), &[content_type], &right);
        for which in ["v1", &digest, "b", &digest_of(b"never seen")] {
            self.ask("HEAD", &of(which), &[accept], b"");
            self.ask("GET", &of(which), &[accept], b"");
        }
        self.ask("GET", "/v2/app/tags/list", &[], b"");
        self.ask("GET", "/v2/app/tags/list?n=1", &[], b"");
        self.ask("GET", "/v2/app/tags/list?n=1&last=v1", &[], b"");
        self.ask("GET", &format!("/v2/app/referrers/{digest}"), &[], b"");
        self.ask("DELETE", &of(&digest), &[], b"");
        self.ask("GET", &of("v1"), &[accept], b"");
    }
}

fn walk(host: String) -> Vec<String> {
    let mut walk = Walk {
        host,
        lines: Vec::new(),
    };
    walk.blobs();
    walk.manifests();
    walk.lines
}

#[test]
fn the_fake_answers_as_the_real_one() {
    let real = DockerRegistry::start();
    let fake = FakeRegistry::start_with_quirks(Quirks::distribution());
    let (real, fake) = (walk(real.host()), walk(fake.host()));
    let differences: Vec<_> = real
        .iter()
        .zip(&fake)
        .filter(|(real, fake)| real != fake)
        .map(|(real, fake)| format!("real: {real}\nfake: {fake}\n"))
        .collect();
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
    assert!(real.len() > 50);
}
