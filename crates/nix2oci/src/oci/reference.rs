//! Names of images, as people write them.
//!
//! The grammar is that of `distribution/reference`, which docker, podman and
//! containerd share. `oci-spec` parses it too, by a regular expression that
//! takes 50 ms to compile and lets letters other than ASCII into a tag; the
//! tests compare the two.
//!
//! Source: <https://pkg.go.dev/github.com/distribution/reference>.

use crate::digest::Digest;

use super::Reference;

/// Where a repository without a host is.
const DOCKER_HUB: &str = "docker.io";

/// A text is not a name for an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image name: {problem}")]
pub struct ParseNameError {
    text: String,
    problem: &'static str,
}

/// Parses the name that a new image gets, and makes it full as docker does:
/// `app` is `docker.io/library/app:latest`.
///
/// A name with a digest is refused: the digest of a new image is found, not
/// given.
pub fn parse_name(text: &str) -> Result<Reference, ParseNameError> {
    let refuse = |problem| {
        Err(ParseNameError {
            text: text.to_owned(),
            problem,
        })
    };
    if text.contains('@') {
        return refuse("a new image cannot be named by a digest; expected [host/]repository[:tag]");
    }
    if text.parse::<Digest>().is_ok() {
        return refuse("it is a digest; expected [host/]repository[:tag]");
    }
    if text.is_empty() {
        return refuse("it is empty; expected [host/]repository[:tag]");
    }
    let (name, tag) = split_tag(text);
    let (host, repository) = split_host(name);
    if repository.len() > 255 {
        return refuse("the repository has more than 255 characters");
    }
    let is_named = is_host(host) && is_repository(&repository.to_ascii_lowercase());
    if is_named && !tag.is_empty() && !is_tag(tag) {
        return refuse(TAG);
    }
    if !is_named || tag.is_empty() {
        return refuse(
            "expected [host/]repository[:tag] of letters, digits and single separators such as . _ - between them",
        );
    }
    if !is_repository(repository) {
        return refuse("the repository must be in lower case");
    }
    let host = match host {
        "index.docker.io" => DOCKER_HUB,
        host => host,
    };
    let repository = if host == DOCKER_HUB && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository.to_owned()
    };
    Ok(Reference::with_tag(
        host.to_owned(),
        repository,
        tag.to_owned(),
    ))
}

/// What a tag is.
const TAG: &str =
    "expected a tag of at most 128 letters, digits, . _ and -, not beginning with . or -";

/// Parses the name of an image that is there: a tag, a digest or both, of which
/// the digest counts. Made full as [`parse_name`] does it; without either, the
/// tag is `latest`.
pub fn parse_reference(text: &str) -> Result<Reference, ParseNameError> {
    let Some((name, digest)) = text.split_once('@') else {
        return parse_name(text);
    };
    if digest.parse::<Digest>().is_err() {
        return Err(ParseNameError {
            text: text.to_owned(),
            problem: "expected a SHA-256 digest after the @: sha256: and 64 digits",
        });
    }
    let named = parse_name(name)?;
    let (host, repository) = (named.registry().to_owned(), named.repository().to_owned());
    Ok(match named.tag().filter(|_| has_tag(name)) {
        Some(tag) => {
            Reference::with_tag_and_digest(host, repository, tag.to_owned(), digest.to_owned())
        }
        None => Reference::with_digest(host, repository, digest.to_owned()),
    })
}

/// Splits at the colon behind the last slash; the tag is `latest` if there is
/// none.
fn split_tag(text: &str) -> (&str, &str) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (text, "latest"),
    }
}

/// Splits off the host: what is before the first slash, if it cannot be a part
/// of a repository on Docker Hub.
fn split_host(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((host, rest)) if host == "localhost" || host.contains(['.', ':']) => (host, rest),
        _ => (DOCKER_HUB, name),
    }
}

/// Returns whether a text is a host name or an IP address (version 6 in
/// brackets), with a port or without.
fn is_host(text: &str) -> bool {
    let is_address = |c: u8| c.is_ascii_hexdigit() || c == b':';
    let (is_name, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((address, port)) => (!address.is_empty() && address.bytes().all(is_address), port),
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let is_label = |label: &str| {
                let is_inner = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(is_inner)
            };
            (text[..end].split('.').all(is_label), &text[end..])
        }
    };
    let is_port = match port.strip_prefix(':') {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()),
        None => port.is_empty(),
    };
    is_name && is_port
}

/// Returns whether a text is names between slashes, each of lower-case letters
/// and digits with one separator at a time between them: `.`, `_`, `__` or any
/// number of `-`.
fn is_repository(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.split('/').all(|name| {
        name.starts_with(is_letter)
            && name.ends_with(is_letter)
            && name.split(is_letter).all(|separator| {
                matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|c| c == b'-')
            })
    })
}

/// Makes the names that an image gets from a name and further tags.
///
/// A tag in the name itself stays and comes first. Without any tag it is
/// `latest`. A name given twice is kept once.
pub fn parse_names(name: &str, tags: &[impl AsRef<str>]) -> Result<Vec<Reference>, ParseNameError> {
    let named = parse_name(name)?;
    let mut names = Vec::new();
    if tags.is_empty() || has_tag(name) {
        names.push(named.clone());
    }
    for tag in tags.iter().map(AsRef::as_ref) {
        if !is_tag(tag) {
            return Err(ParseNameError {
                text: tag.to_owned(),
                problem: TAG,
            });
        }
        let next = Reference::with_tag(
            named.registry().to_owned(),
            named.repository().to_owned(),
            tag.to_owned(),
        );
        if !names.contains(&next) {
            names.push(next);
        }
    }
    Ok(names)
}

/// Returns whether a text can be a tag.
pub fn is_tag(text: &str) -> bool {
    let is_word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    (1..=128).contains(&text.len())
        && is_word(text.as_bytes()[0])
        && text.bytes().all(|c| is_word(c) || c == b'.' || c == b'-')
}

/// Returns whether a valid name says its tag: a colon behind the last slash.
fn has_tag(name: &str) -> bool {
    name.rsplit('/')
        .next()
        .is_some_and(|last| last.contains(':'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_become_full() {
        for (text, full) in [
            ("app", "docker.io/library/app:latest"),
            ("app:1.0", "docker.io/library/app:1.0"),
            ("team/app", "docker.io/team/app:latest"),
            ("index.docker.io/app", "docker.io/library/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("ghcr.io/team/app:V1", "ghcr.io/team/app:V1"),
            (
                "docker.io/library/app:latest",
                "docker.io/library/app:latest",
            ),
        ] {
            assert_eq!(parse_name(text).unwrap().whole(), full, "{text}");
        }
    }

    #[test]
    fn a_reference_may_have_a_digest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, full) in [
            ("app".to_owned(), "docker.io/library/app:latest".to_owned()),
            (format!("h.io/app@{digest}"), format!("h.io/app@{digest}")),
            (
                format!("h:5000/app:1@{digest}"),
                format!("h:5000/app:1@{digest}"),
            ),
        ] {
            assert_eq!(parse_reference(&text).unwrap().whole(), full);
        }
        for text in ["app@", "app@sha256:1", "@", "App@sha256:1"] {
            assert!(parse_reference(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_refused_name_says_why() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, expected) in [
            ("", "empty"),
            ("App", "lower case"),
            ("ghcr.io/Team/app:V1", "lower case"),
            ("Team/app", "lower case"),
            ("teaM/group/app", "lower case"),
            (digest.as_str(), "it is a digest"),
            (&format!("app@{digest}"), "by a digest"),
            (&format!("x/{}", "a".repeat(260)), "255"),
            ("app:", "expected [host/]"),
            ("a b", "expected [host/]"),
            ("app..x", "expected [host/]"),
            ("app:t:u", "expected [host/]"),
            ("/app", "expected [host/]"),
            ("https://ghcr.io/app", "expected [host/]"),
        ] {
            let message = parse_name(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn tags_join_the_name() {
        let names = |name, tags: &[&str]| -> Vec<String> {
            let names = parse_names(name, tags).unwrap();
            names.iter().map(Reference::whole).collect()
        };
        assert_eq!(names("app", &[]), ["docker.io/library/app:latest"]);
        assert_eq!(
            names("h.io/app", &["1", "2", "1"]),
            ["h.io/app:1", "h.io/app:2"]
        );
        assert_eq!(
            names("h.io/app:0", &["1", "0"]),
            ["h.io/app:0", "h.io/app:1"]
        );
        assert_eq!(names("h:5000/app", &["1"]), ["h:5000/app:1"]);
        for tag in ["", ".a", "-a", "a/b", "a:b", "é", &"a".repeat(129)] {
            assert!(parse_names("app", &[tag]).is_err(), "{tag}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn oci_spec_reads_the_same(text in "([aB.1:-]{1,6}/)?[aA0._/-]{1,8}(:[aB0._-]{1,5})?") {
            let theirs = text.parse::<Reference>();
            match parse_name(&text) {
                Ok(ours) => {
                    prop_assert_eq!(Some(ours.whole()), theirs.ok().map(|r| r.whole()));
                }
                // It takes capitals in a repository, and what looks like a host
                // and is none for a part of the repository.
                Err(error) => prop_assert!(
                    theirs.as_ref().map_or(true, |theirs| {
                        theirs.repository().contains(|c: char| c.is_ascii_uppercase())
                            || !is_host(split_host(split_tag(&text).0).0)
                    }),
                    "{}",
                    error
                ),
            }
        }
    }
}
