//! Where an upload session goes on, and how much of it a registry has.
//!
//! `Location` may be absolute, absolute in its path, or relative; its query
//! carries state of the registry that nobody else can read. It is resolved
//! against the address that answered (RFC 3986) and is never taken apart.

use reqwest::Url;

use crate::digest::Digest;

/// Resolves a `Location` against the address whose answer carried it. What is
/// wrong is told without the address, whose query may be a secret. Whether it
/// may be gone to is the transport's to say.
pub(super) fn resolve(base: &Url, location: &str) -> Result<Url, &'static str> {
    let mut url = base
        .join(location.trim())
        .map_err(|_| "it names an upload session by something that is no address")?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("it names an upload session by something else than an HTTP address");
    }
    url.set_fragment(None);
    Ok(url)
}

/// Returns the address that closes a session: the same, with the blob's digest
/// at the end of its query.
pub(super) fn closing(session: &Url, digest: Digest) -> Url {
    let parameter = format!("digest=sha256%3A{}", digest.hex());
    let query = match session.query() {
        None | Some("") => parameter,
        Some(query) => format!("{query}&{parameter}"),
    };
    let mut url = session.clone();
    url.set_query(Some(&query));
    url
}

/// Returns how many bytes a session has by the `Range` of an answer, or `None`
/// if it makes no sense.
///
/// `0-0` is what every registry says of an empty session, so it is none and not
/// one; `0--1` is what older zot says of it (zot#3983). Some write `bytes=`
/// in front (zot#1341).
pub(super) fn received(range: &str) -> Option<u64> {
    let range = range.trim();
    let range = range.strip_prefix("bytes").map_or(range, |rest| {
        rest.trim_start_matches(['=', ' ']) // `bytes=0-9` and `bytes 0-9`
    });
    match range.strip_prefix("0-")? {
        "0" | "-1" => Some(0),
        end if end.bytes().all(|byte| byte.is_ascii_digit()) => {
            end.parse::<u64>().ok()?.checked_add(1)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: &str = "https://example.org/v2/app/blobs/uploads/";

    fn resolved(base: &str, location: &str) -> Result<String, &'static str> {
        resolve(&Url::parse(base).unwrap(), location).map(String::from)
    }

    #[test]
    fn every_form_of_location_resolves() {
        for (location, expected) in [
            (
                "https://example.org/v2/app/blobs/uploads/1?_state=a%2Fb%3D%3D&x=",
                "https://example.org/v2/app/blobs/uploads/1?_state=a%2Fb%3D%3D&x=",
            ),
            ("/v2/app/uploads/1", "https://example.org/v2/app/uploads/1"),
            (
                "1?state=b",
                "https://example.org/v2/app/blobs/uploads/1?state=b",
            ),
            (
                "?state=b",
                "https://example.org/v2/app/blobs/uploads/?state=b",
            ),
            ("//cdn.example/up/1", "https://cdn.example/up/1"),
            (
                "https://cdn.example:8443/up?sig=a+b#part",
                "https://cdn.example:8443/up?sig=a+b",
            ),
            (" /v2/1 ", "https://example.org/v2/1"),
        ] {
            assert_eq!(resolved(BASE, location).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_http_address_is_refused_without_being_told() {
        for location in ["ftp://example.org/1?k=secret", "data:secret", "https://"] {
            let problem = resolved(BASE, location).unwrap_err();
            assert!(!problem.contains("secret"), "{problem}");
        }
    }

    #[test]
    fn the_digest_comes_last_and_nothing_else_changes() {
        let digest = Digest::of(b"");
        let parameter = format!("digest=sha256%3A{}", digest.hex());
        for (session, expected) in [
            ("https://e.org/1", format!("https://e.org/1?{parameter}")),
            ("https://e.org/1?", format!("https://e.org/1?{parameter}")),
            (
                "https://e.org/1?b=%2B+%20&a=1",
                format!("https://e.org/1?b=%2B+%20&a=1&{parameter}"),
            ),
        ] {
            let session = Url::parse(session).unwrap();
            assert_eq!(closing(&session, digest).as_str(), expected);
        }
    }

    #[test]
    fn ranges_are_read() {
        for (range, expected) in [
            ("0-0", Some(0)),
            ("0--1", Some(0)), // zot#3983
            ("0-1048575", Some(1 << 20)),
            ("bytes=0-9", Some(10)), // zot#1341
            ("bytes 0-9", Some(10)),
            ("0-18446744073709551614", Some(u64::MAX)),
            ("0-18446744073709551615", None),
            ("0-+5", None),
            ("5-9", None),
            ("0-", None),
            ("", None),
            ("rubbish", None),
        ] {
            assert_eq!(received(range), expected, "{range}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_borne(location in ".{0,80}", range in "(bytes=)?0-.{0,24}") {
            let base = Url::parse(BASE).unwrap();
            if let Ok(url) = resolve(&base, &location) {
                prop_assert!(matches!(url.scheme(), "http" | "https"));
                prop_assert!(url.has_host() && url.fragment().is_none());
                let closed = closing(&url, Digest::of(b""));
                prop_assert!(closed.query().unwrap().starts_with(url.query().unwrap_or("")));
                // Closing must not change what the registry signed.
                prop_assert_eq!(closed.path(), url.path());
            }
            let _ = received(&range);
        }

        #[test]
        fn state_survives_to_the_byte(
            path in "[a-zA-Z0-9._~-]{1,20}",
            query in "[a-zA-Z0-9._~%2F=+&-]{1,80}",
        ) {
            let base = Url::parse(BASE).unwrap();
            let location = format!("/v2/app/blobs/uploads/x{path}?{query}");
            let url = resolve(&base, &location).unwrap();
            let full = format!("https://example.org{location}");
            prop_assert_eq!(url.as_str(), &full);
            prop_assert!(closing(&url, Digest::of(b"")).as_str().starts_with(&full));
        }

        #[test]
        fn a_count_survives_a_range(count in 2_u64..) {
            prop_assert_eq!(received(&format!("0-{}", count - 1)), Some(count));
        }
    }
}
