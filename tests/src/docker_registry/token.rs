//! A token server whose tokens distribution believes.
//!
//! Source: distribution's `docs/spec/auth/jwt.md`, and `registry/auth/token` of
//! version 2.8 for what is checked: ES256, the certificate in `x5c`, issuer,
//! audience and times.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use rcgen::{CertificateParams, KeyPair, SigningKey};
use serde_json::{Value, json};

use super::{PASSWORD, USER};
use crate::certificates::{TestCa, der, new_key};
use crate::http_server::{Answer, HttpServer, Request, query_values};

pub(super) const ISSUER: &str = "test issuer";
pub(super) const SERVICE: &str = "test registry";

/// The name of the file with the certificate whose key signs the tokens.
pub(super) const CERTIFICATE: &str = "token.crt";

/// How long a token lives, in seconds.
const LIFETIME: u64 = 300;

/// Writes the certificate into the folder and starts the server.
pub(super) fn serve(folder: &Path, ca: Option<&TestCa>) -> HttpServer {
    let key = new_key();
    let certificate = CertificateParams::default()
        .self_signed(&key)
        .expect("the parameters are valid");
    fs::write(folder.join(CERTIFICATE), certificate.pem()).expect("the folder can be written");
    let header = json!({
        "typ": "JWT",
        "alg": "ES256",
        "x5c": [BASE64.encode(&der(&certificate.pem()))],
    });
    let count = AtomicU64::new(0);
    let tls = ca.map(|ca| ca.server_config(None));
    HttpServer::start_with(tls, move |request| {
        answer(request, &key, &header, count.fetch_add(1, Ordering::SeqCst))
    })
}

fn answer(request: &Request<'_>, key: &KeyPair, header: &Value, number: u64) -> Answer {
    let refused = |status, code| Answer::json(status, &json!({"errors": [{"code": code}]}));
    if request.method != "GET" {
        return refused(405, "UNSUPPORTED");
    }
    let pair = BASE64.encode(format!("{USER}:{PASSWORD}").as_bytes());
    if request.headers.get("Authorization") != Some(&format!("Basic {pair}")) {
        return refused(401, "UNAUTHORIZED");
    }
    let scopes = query_values(&request.query, "scope");
    let access: Vec<_> = scopes
        .iter()
        .flat_map(|scopes| scopes.split(' '))
        .filter_map(|scope| {
            let (kind, rest) = scope.split_once(':')?;
            let (name, actions) = rest.rsplit_once(':')?;
            let actions: Vec<_> = actions.split(',').collect();
            Some(json!({"type": kind, "name": name, "actions": actions}))
        })
        .collect();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is after 1970")
        .as_secs();
    let claims = json!({
        "iss": ISSUER,
        "sub": USER,
        "aud": SERVICE,
        "exp": now + LIFETIME,
        "nbf": now - 10,
        "iat": now,
        "jti": number.to_string(),
        "access": access,
    });
    let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", encode(header), encode(&claims));
    let signature = key.sign(signed.as_bytes()).expect("ring can sign");
    let signature = BASE64URL_NOPAD.encode(&plain_signature(&signature));
    let token = format!("{signed}.{signature}");
    Answer::json(200, &json!({"token": token, "expires_in": LIFETIME}))
}

/// Returns the two numbers of an ECDSA signature of P-256 as JWT wants them, 32
/// bytes each (RFC 7518 3.4), from the DER that rcgen gives: a SEQUENCE of two
/// INTEGERs.
pub(super) fn plain_signature(der: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    // The lengths are below 128: a byte each.
    let mut rest = &der[2..];
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(rest[1].into());
        rest = after;
        // As short as can be, but with a zero in front of a set highest bit.
        let digits = number.strip_prefix(&[0]).unwrap_or(number);
        plain.resize(plain.len() + 32 - digits.len(), 0);
        plain.extend_from_slice(digits);
    }
    plain
}
