//! Requests that say by a signature who asks: AWS Signature Version 4, for
//! reading from S3 and what speaks like it.
//!
//! The signature is over what is asked for, the time, and a hash of the (empty)
//! body; the key for it is derived from the secret key, the day and the region.
//! It goes into headers, not into the address: an address with a signature in
//! it would let in whoever reads it in somebody's log.
//!
//! Source: Amazon S3 API Reference, "Authenticating Requests: Using the
//! Authorization Header (AWS Signature Version 4)".

use std::time::{Instant, SystemTime};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName};
use ring::{digest, hmac};

use super::secret_value;
use crate::credentials::{AwsCredentials, Secret};
use crate::error::{Error, Result};

/// SHA-256 of nothing, which is what the requests carry.
const EMPTY_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Signs the requests to one bucket.
#[derive(Clone)]
pub(crate) struct Signer {
    credentials: AwsCredentials,
    region: String,
    /// A time on the clock, and when that was.
    clock: (SystemTime, Instant),
}

impl Signer {
    /// Prepares to sign for a region. `now` is the time: a server refuses what
    /// is signed for a time more than 15 minutes away from its own.
    pub(crate) fn new(credentials: AwsCredentials, region: &str, now: SystemTime) -> Self {
        Self {
            credentials,
            region: region.to_owned(),
            clock: (now, Instant::now()),
        }
    }

    /// Signs a GET of an address: makes its path and query what is signed, and
    /// adds the headers that say so.
    pub(super) fn sign(&self, url: &mut Url, headers: &mut HeaderMap) -> Result<()> {
        let (then, since) = self.clock;
        let now = then.checked_add(since.elapsed());
        let now = now.and_then(|now| Timestamp::try_from(now).ok());
        let now = now.ok_or_else(|| Error::invalid("the time", "not one that can be written"))?;
        self.sign_at(now, url, headers)
    }

    fn sign_at(&self, now: Timestamp, url: &mut Url, headers: &mut HeaderMap) -> Result<()> {
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = &time[..8];
        // Sent as it is signed, because a server reads a `+` otherwise than a
        // parser of addresses.
        let path = encode(&decode(url.path()), true);
        url.set_path(&path);
        let query = canonical_query(url.query());
        url.set_query((!query.is_empty()).then_some(&query));

        let host = url.host_str().unwrap_or_default();
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let mut signed = vec![
            ("host", host),
            ("x-amz-content-sha256", EMPTY_BODY.to_owned()),
            ("x-amz-date", time.clone()),
        ];
        if let Some(token) = &self.credentials.session_token {
            signed.push(("x-amz-security-token", token.reveal().to_owned()));
        }
        let names: Vec<_> = signed.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String = signed
            .iter()
            .map(|(name, value)| format!("{name}:{}\n", value.trim()))
            .collect();
        let request = format!("GET\n{path}\n{query}\n{lines}\n{names}\n{EMPTY_BODY}");

        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let request = HEXLOWER.encode(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{request}");
        let secret = Secret::new(format!("AWS4{}", self.credentials.secret_key.reveal()));
        let key = [day, &*self.region, "s3", "aws4_request"]
            .into_iter()
            .fold(hmac_key(secret.reveal().as_bytes()), |key, part| {
                hmac_key(hmac::sign(&key, part.as_bytes()).as_ref())
            });
        let signature = HEXLOWER.encode(hmac::sign(&key, text.as_bytes()).as_ref());

        let value = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}",
            self.credentials.access_key
        );
        let refuse = || {
            Error::invalid(
                "the credentials for S3",
                "have characters that no header can have",
            )
        };
        headers.insert(AUTHORIZATION, secret_value(&value).ok_or_else(refuse)?);
        // The host is sent anyway.
        for (name, value) in &signed[1..] {
            let value = secret_value(value).ok_or_else(refuse)?;
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(())
    }
}

fn hmac_key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

/// Encodes all but the unreserved characters of RFC 3986, and slashes in paths.
fn encode(bytes: &[u8], is_path: bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(byte.into());
            }
            b'/' if is_path => text.push('/'),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Decodes `%XX`; what is none stays as it is.
fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| first == b'%');
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

/// Returns the parameters of a query, encoded and in order.
fn canonical_query(query: Option<&str>) -> String {
    let mut parameters: Vec<_> = query
        .unwrap_or_default()
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (encode(&decode(key), false), encode(&decode(value), false))
        })
        .collect();
    parameters.sort();
    let parameters: Vec<_> = parameters
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    parameters.join("&")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    use super::*;

    fn signer(token: Option<&str>) -> Signer {
        let credentials = AwsCredentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: token.map(Secret::new),
        };
        Signer::new(credentials, "us-east-1", SystemTime::UNIX_EPOCH)
    }

    fn signed(signer: &Signer, url: &str) -> (String, HeaderMap) {
        let mut url = Url::parse(url).unwrap();
        let mut headers = HeaderMap::new();
        let time = "2013-05-24T00:00:00Z".parse().unwrap();
        signer.sign_at(time, &mut url, &mut headers).unwrap();
        (url.into(), headers)
    }

    /// The examples of the API reference that sign these headers only.
    #[test]
    fn signatures_are_those_of_the_reference() {
        for (url, sent, signature) in [
            (
                "https://examplebucket.s3.amazonaws.com/?lifecycle",
                "https://examplebucket.s3.amazonaws.com/?lifecycle=",
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "https://examplebucket.s3.amazonaws.com/?prefix=J&max-keys=2",
                "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J",
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let (url, headers) = signed(&signer(None), url);
            assert_eq!(url, sent);
            assert_eq!(
                headers[AUTHORIZATION],
                format!(
                    "AWS4-HMAC-SHA256 \
                     Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
                     SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature={signature}"
                )
            );
            assert_eq!(headers["x-amz-date"], "20130524T000000Z");
            assert_eq!(headers["x-amz-content-sha256"], EMPTY_BODY);
            assert!(!format!("{headers:?}").contains("Signature"));
        }
    }

    /// What curl 7.88 sent with `--aws-sigv4 aws:amz:eu-west-1:s3`.
    #[test]
    fn a_signature_is_that_of_curl() {
        let mut signer = signer(Some("tok"));
        signer.region = "eu-west-1".to_owned();
        let url = "http://127.0.0.1:18999/bucket/nar/a-b_c~1.nar.xz?max-keys=2&prefix=J";
        let mut headers = HeaderMap::new();
        let time = "2026-11-21T12:57:36Z".parse().unwrap();
        let mut sent = Url::parse(url).unwrap();
        signer.sign_at(time, &mut sent, &mut headers).unwrap();
        assert_eq!(sent.as_str(), url);
        let text = headers[AUTHORIZATION].to_str().unwrap();
        let expected = "675de3da7708675e5ae2281a819d85875c5655ea05ee20c83a3370ab1e168ee8";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn a_session_has_a_token() {
        let (_, headers) = signed(&signer(Some("token")), "https://b.example:8443/a+b c@");
        assert_eq!(headers["x-amz-security-token"], "token");
        let text = headers[AUTHORIZATION].to_str().unwrap();
        assert!(text.contains("x-amz-date;x-amz-security-token,"), "{text}");
        let refused = signer(Some("a\nb")).sign(
            &mut Url::parse("https://b.example/").unwrap(),
            &mut HeaderMap::new(),
        );
        let text = refused.unwrap_err().to_string();
        assert_eq!(
            text,
            "the credentials for S3: have characters that no header can have"
        );
    }

    #[test]
    fn what_is_signed_is_what_is_sent() {
        for (path, sent) in [
            ("/nar/a.nar.xz", "/nar/a.nar.xz"),
            ("/log/a+b=c@d.drv", "/log/a%2Bb%3Dc%40d.drv"),
            ("/a%2Bb%20c%zz", "/a%2Bb%20c%25zz"),
            ("/ä", "/%C3%A4"),
        ] {
            let (url, _) = signed(&signer(None), &format!("https://b.example{path}"));
            assert_eq!(url, format!("https://b.example{sent}"));
        }
    }

    #[test]
    fn the_clock_goes_on() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let mut signer = signer(None);
        signer.clock = (start, Instant::now() - Duration::from_secs(1));
        let mut headers = HeaderMap::new();
        let mut url = Url::parse("https://b.example/").unwrap();
        signer.sign(&mut url, &mut headers).unwrap();
        let date: &HeaderValue = &headers["x-amz-date"];
        assert!(date.to_str().unwrap() >= "20010909T014641Z", "{date:?}");
    }

    proptest! {
        #[test]
        fn any_address_is_signed_once(path in "[ -~é]{0,20}", query in "[ -~]{0,20}") {
            let mut url = Url::parse("https://b.example/").unwrap();
            url.set_path(&path);
            url.set_query(Some(&query));
            let (once, headers) = signed(&signer(None), url.as_str());
            let (twice, again) = signed(&signer(None), &once);
            prop_assert_eq!(once, twice);
            prop_assert_eq!(headers, again);
        }
    }
}
