//! Names of images, as people write them.

use oci_spec::distribution::ParseError;

use crate::digest::Digest;

use super::Reference;

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
    match text.parse::<Reference>() {
        Ok(reference) => Ok(reference),
        Err(ParseError::NameEmpty) => refuse("it is empty; expected [host/]repository[:tag]"),
        Err(ParseError::NameTooLong) => refuse("the repository has more than 255 characters"),
        Err(_) if lower_repository(text).parse::<Reference>().is_ok() => {
            refuse("the repository must be in lower case")
        }
        Err(_) => refuse(
            "expected [host/]repository[:tag] of letters, digits and single separators such as . _ - between them",
        ),
    }
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
                problem: "expected a tag of at most 128 letters, digits, . _ and -, not beginning with . or -",
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

/// Puts all but the tag into lower case.
fn lower_repository(text: &str) -> String {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => format!("{}:{tag}", name.to_ascii_lowercase()),
        _ => text.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
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
    fn a_refused_name_says_why() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, expected) in [
            ("", "empty"),
            ("App", "lower case"),
            ("ghcr.io/Team/app:V1", "lower case"),
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
}
