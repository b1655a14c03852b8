//! What a user can try after an error of a registry.
//!
//! Registries say most things in words only, so that is what is looked at.

use std::error::Error;

/// Who refused what to whom.
pub(super) fn denied(host: &str, action: &str, problem: &str) -> String {
    if is_full(problem) {
        return full();
    }
    // The registry that sent us to a token server is not known here.
    let is_token_server = action.starts_with("give a token");
    let registry = if is_token_server { "REGISTRY" } else { host };
    let sign_in = format!(
        "`podman login {registry}`, or `docker login {registry}`, signs in; --authfile names a \
         file with credentials"
    );
    if problem.contains("status 403") {
        return format!(
            "may this user do that, and is there such a repository or project? {sign_in}"
        );
    }
    format!("{sign_in}; if somebody is signed in, may that user do this?")
}

/// Credentials could not be had.
pub(super) fn credentials(host: &str) -> String {
    format!(
        "`podman login {host}` writes credentials anew, --authfile names another file, and \
         --creds USER --creds-stdin asks no file"
    )
}

/// A server answered with an error.
pub(super) fn answer(action: &str, status: Option<u16>, problem: &str) -> Option<String> {
    let takes = action.starts_with("take ");
    let hint = match status {
        _ if is_full(problem) => return Some(full()),
        Some(413) if action.starts_with("take manifest") => {
            "the registry takes no manifest of this size; fewer layers have a smaller one \
             (--max-layers)"
        }
        Some(413) => {
            "something before the registry takes no bodies of this size; --chunk-size 16M sends \
             smaller ones"
        }
        Some(429) => {
            "the registry limits how often it is asked: fewer --jobs, or try again later; some \
             allow more to those who sign in"
        }
        Some(404) if takes => {
            "does the repository exist? Some registries make none by themselves, Amazon ECR \
             among them, and others need a project first: create it and push again"
        }
        Some(405) if takes => "is it a registry that can be written to, or a mirror of one?",
        Some(500..) => {
            "the registry has trouble of its own: try again later; its log says more than its \
             answer"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// A registry lacks what a manifest names.
pub(super) fn blobs_missing() -> String {
    "does the registry remove unused blobs at this moment? Try again, with --no-reuse if it \
     happens again"
        .to_owned()
}

/// A server could not be reached.
pub(super) fn connection(host: &str, cause: &(dyn Error + 'static)) -> Option<String> {
    let problem = cause.to_string();
    let says = |words: &str| problem.contains(words);
    let hint = if says("failed to lookup address") {
        format!(
            "is {host} spelled right, and is this machine in the network that knows it? A proxy \
             is taken from HTTPS_PROXY"
        )
    } else if says("connection refused") {
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.contains(']'));
        let port = if has_port {
            String::new()
        } else {
            format!("; {host} means port 443, or 80 with --plain-http")
        };
        format!("does the registry run, and is the port right?{port}")
    } else if says("does not speak TLS") {
        "--plain-http speaks HTTP without TLS, so that all on the way can read and change what \
         is sent"
            .to_owned()
    } else if says("authority that is not trusted") {
        "--ca-file FILE names the authority that signed it; a directory that --cert-dir or \
         /etc/containers/certs.d names may have it too"
            .to_owned()
    } else if says("certificate is for another name") {
        "does the certificate have another name of this registry? Push to that name".to_owned()
    } else if says("certificate has expired") || says("certificate is not valid yet") {
        "is the clock of this machine right?".to_owned()
    } else if says("proxy authorization required") {
        "the proxy's credentials stand in its address: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"
            .to_owned()
    } else if says("a page for people") {
        "is it the address of a registry, and does nothing on the way ask to sign in first?"
            .to_owned()
    } else if says("no connection in time") {
        "is there a firewall on the way? A proxy is taken from HTTPS_PROXY".to_owned()
    } else {
        return None;
    };
    Some(hint)
}

/// Returns whether a registry has no room left for a user. Harbor says how many
/// bytes exceed which limit, others speak of a quota.
fn is_full(problem: &str) -> bool {
    let problem = problem.to_ascii_lowercase();
    ["quota", "exceed the configured upper limit", "status 507"]
        .iter()
        .any(|words| problem.contains(words))
}

fn full() -> String {
    "there is no room left in the registry: remove images that are not needed, let it collect \
     what they leave, or have the quota raised"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_is_told_how_to_sign_in() {
        let unknown = denied(
            "ghcr.io",
            "take a layer of repository team/app",
            "status 401 Unauthorized",
        );
        assert!(unknown.starts_with("`podman login ghcr.io`"), "{unknown}");
        let token = "give a token to push to repository app";
        let told = denied("auth.docker.io", token, "status 401 Unauthorized");
        assert!(!told.contains("auth.docker.io"), "{told}");
        let known = denied("ghcr.io", "take a layer", "status 403 Forbidden: DENIED");
        assert!(known.starts_with("may this user"), "{known}");
        let full = denied(
            "harbor.example.org",
            "take manifest v1 of repository app",
            "status 403 Forbidden: DENIED: adding 1.2 MiB of storage resource, which when updated \
             to current usage of 5 GiB will exceed the configured upper limit of 5 GiB.",
        );
        assert!(full.contains("no room"), "{full}");
    }

    #[test]
    fn answers_have_hints() {
        let blob = "take blob sha256:ab of repository app";
        for (action, status, problem, expected) in [
            (blob, 413, "status 413", "--chunk-size"),
            (
                "take manifest v1 of repository app",
                413,
                "status 413",
                "--max-layers",
            ),
            (
                "take a layer of repository app",
                404,
                "status 404 Not Found: NAME_UNKNOWN: The repository with name 'app' does not \
                 exist in the registry with id '1'",
                "create it",
            ),
            (blob, 429, "status 429", "--jobs"),
            (blob, 507, "status 507 Insufficient Storage", "no room"),
            (blob, 502, "status 502 Bad Gateway", "try again later"),
        ] {
            let hint = answer(action, Some(status), problem).unwrap();
            assert!(hint.contains(expected), "{status}: {hint}");
        }
        assert_eq!(answer(blob, Some(400), "status 400"), None);
        assert_eq!(answer("give manifest v1", Some(404), "status 404"), None);
    }

    #[test]
    fn connections_have_hints() {
        for (problem, expected) in [
            (
                "failed to lookup address information: Name or service not known",
                "spelled right",
            ),
            ("connection refused", "port"),
            ("the server does not speak TLS", "--plain-http"),
            (
                "its certificate is signed by an authority that is not trusted",
                "--ca-file",
            ),
            ("its certificate is for another name", "that name"),
            ("its certificate has expired", "clock"),
            ("proxy authorization required", "HTTPS_PROXY"),
        ] {
            let cause: Box<dyn Error> = problem.into();
            let hint = connection("example.org", &*cause).unwrap();
            assert!(hint.contains(expected), "{problem}: {hint}");
        }
        let cause: Box<dyn Error> = "connection reset by the server".into();
        assert_eq!(connection("example.org", &*cause), None);
    }
}
