//! Tests of the parser of docker's and podman's files.

use data_encoding::BASE64;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse(text: &str) -> AuthFile {
    AuthFile::parse(text.as_bytes(), "auth.json", AuthFileForm::Current).unwrap()
}

fn error(text: &str) -> String {
    match AuthFile::parse(text.as_bytes(), "auth.json", AuthFileForm::Current) {
        Ok(file) => file.find("h.io", "team/app").unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

fn auth(user: &str) -> Value {
    json!({ "auth": BASE64.encode(format!("{user}:pw-{user}").as_bytes()) })
}

/// Returns `USER` or `NAME(ADDRESS)`.
fn found(file: &AuthFile, host: &str, repository: &str) -> String {
    match file.find(host, repository).unwrap() {
        None => "nothing".to_owned(),
        Some(Finding::Known(Credentials::Password { user, password })) => {
            assert_eq!(password.reveal(), format!("pw-{user}"));
            user
        }
        Some(Finding::Ask {
            helper, address, ..
        }) => format!("{helper}({address})"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_longest_namespace_wins() {
    let file = json!({ "auths": {
        "h.io": auth("host"), "h.io/team": auth("team"), "h.io/team/app": auth("app"),
        "h.io/te": auth("no"), "https://other.io/v1/": auth("other"),
        "quay.io/team/app": auth("only"),
    }});
    let file = parse(&file.to_string());
    for (host, repository, user) in [
        ("h.io", "team/app", "app"),
        ("h.io", "team/app/more", "app"),
        ("h.io", "team/application", "team"),
        ("h.io", "teams/app", "host"),
        ("h.io", "x", "host"),
        ("other.io", "x/y", "other"),
        ("quay.io", "team/app", "only"),
        ("quay.io", "team", "nothing"),
        ("none.io", "x", "nothing"),
    ] {
        assert_eq!(found(&file, host, repository), user, "{host}/{repository}");
    }
}

#[test]
fn docker_hub_is_found_by_each_of_its_names() {
    for key in [
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "https://index.docker.io/v1/",
        "index.docker.io/v1/",
        "http://docker.io",
    ] {
        let file = parse(&json!({ "auths": { key: auth("hub") } }).to_string());
        assert_eq!(found(&file, "docker.io", "library/app"), "hub", "{key}");
        assert_eq!(found(&file, "ghcr.io", "library/app"), "nothing", "{key}");
    }
    // docker 27 with a sign-in by browser: the two others are no passwords.
    let file = json!({ "auths": {
        "https://index.docker.io/v1/": auth("hub"),
        "https://index.docker.io/v1/access-token": auth("access"),
        "https://index.docker.io/v1/refresh-token": auth("refresh"),
    }});
    assert_eq!(
        found(&parse(&file.to_string()), "docker.io", "me/app"),
        "hub"
    );
}

#[test]
fn helpers_come_first_and_the_store_last() {
    let file = json!({
        "auths": {
            "h.io": auth("user"), "a.io": auth("user"), "b.io": {}, "c.io": auth("user"),
            "https://index.docker.io/v1/": {},
        },
        "credHelpers": {
            "h.io": "host", "h.io/team": "team", "https://index.docker.io/v1/": "hub",
            "c.io": "", "d.io": "",
        },
        "credsStore": "store",
    });
    let file = parse(&file.to_string());
    for (host, repository, expected) in [
        ("h.io", "app", "host(h.io)"),
        ("h.io", "team/app", "team(h.io/team)"),
        ("a.io", "app", "user"),
        ("b.io", "app", "store(b.io)"),
        ("c.io", "app", "user"),
        ("d.io", "app", "nothing"),
        (
            "docker.io",
            "library/app",
            "hub(https://index.docker.io/v1/)",
        ),
    ] {
        assert_eq!(
            found(&file, host, repository),
            expected,
            "{host}/{repository}"
        );
    }
    let file = parse(r#"{"credsStore":"desktop"}"#);
    assert_eq!(
        found(&file, "docker.io", "library/app"),
        "desktop(https://index.docker.io/v1/)"
    );
}

#[test]
fn entries_are_passwords_or_tokens() {
    let known = |entry: Value| {
        let file = parse(&json!({ "auths": { "h.io": entry } }).to_string());
        match file.find("h.io", "app").unwrap() {
            Some(Finding::Known(credentials)) => Some(credentials),
            None => None,
            other => panic!("{other:?}"),
        }
    };
    let password = |user: &str, password: &str| {
        Some(Credentials::Password {
            user: user.to_owned(),
            password: Secret::new(password),
        })
    };
    let base64 = |text: &str| BASE64.encode(text.as_bytes());
    assert_eq!(
        known(json!({ "auth": base64("a:b:c") })),
        password("a", "b:c")
    );
    assert_eq!(
        known(json!({ "auth": base64("a:b\0\0") })),
        password("a", "b")
    );
    assert_eq!(known(json!({ "auth": base64("a:") })), password("a", ""));
    assert_eq!(known(json!({ "auth": base64(":") })), None);
    assert_eq!(known(json!({ "auth": " YTpi\n" })), password("a", "b"));
    assert_eq!(known(json!({ "auth": "YTpiYw==" })), password("a", "bc"));
    assert_eq!(known(json!({ "auth": "YTpiYw" })), password("a", "bc"));
    assert_eq!(
        known(json!({ "auth": "YTpiYx==" })),
        password("a", "bc"),
        "as Go"
    );
    // Kubernetes writes both spellings; they say the same.
    assert_eq!(
        known(json!({ "username": "u", "password": "p", "email": "e" })),
        password("u", "p")
    );
    assert_eq!(
        known(json!({ "auth": base64("0000:"), "identitytoken": "it" })),
        Some(Credentials::IdentityToken(Secret::new("it"))),
        "Azure"
    );
    assert_eq!(
        known(json!({ "auth": base64("<token>:it") })),
        Some(Credentials::IdentityToken(Secret::new("it")))
    );
    assert_eq!(
        known(json!({ "registrytoken": "rt", "identitytoken": "it" })),
        Some(Credentials::RegistryToken(Secret::new("rt")))
    );
    assert_eq!(known(json!(null)), None);
}

#[test]
fn the_legacy_form_has_the_registries_at_the_top() {
    let file = json!({
        "https://h.io/v1/": auth("user"), "quay.io": auth("quay"), "credsStore": null,
    });
    let bytes = file.to_string();
    let file = AuthFile::parse(bytes.as_bytes(), ".dockercfg", AuthFileForm::Legacy).unwrap();
    assert_eq!(found(&file, "h.io", "app"), "user");
    assert_eq!(found(&file, "quay.io", "app"), "quay");
    let error = AuthFile::parse(br#"{"h.io": 1}"#, ".dockercfg", AuthFileForm::Legacy);
    assert_eq!(
        error.unwrap_err().to_string(),
        ".dockercfg, key [\"h.io\"]: expected an object"
    );
}

#[test]
fn other_fields_and_empty_files_are_no_matter() {
    for text in [
        "",
        " \n",
        "{}",
        r#"{"auths":null,"credHelpers":null,"credsStore":""}"#,
    ] {
        assert_eq!(found(&parse(text), "h.io", "app"), "nothing", "{text}");
    }
    let file = json!({
        "HttpHeaders": { "X": "y" }, "currentContext": "x", "auths": { "h.io": auth("user") },
    });
    assert_eq!(found(&parse(&file.to_string()), "h.io", "app"), "user");
}

#[test]
fn errors_name_the_key_and_no_secret() {
    for (text, told) in [
        (
            r#"{"auths":{"h.io":{"auth":"hunter2"}}}"#,
            r#"auth.json, key auths["h.io"].auth: expected the base64 of USER:PASSWORD"#,
        ),
        (
            r#"{"auths":{"h.io":{"auth":"aHVudGVyMg=="}}}"#,
            r#"auth.json, key auths["h.io"].auth: expected the base64 of USER:PASSWORD"#,
        ),
        (
            r#"{"auths":{"h.io":{"auth":"Omh1bnRlcjI="}}}"#,
            r#"auth.json, key auths["h.io"].auth: has a password and no user name"#,
        ),
        (
            r#"{"auths":{"h.io":"hunter2"}}"#,
            r#"auth.json, key auths["h.io"]: expected an object"#,
        ),
        (
            r#"{"auths":{"https://me:hunter2@h.io/":{"identitytoken":7}}}"#,
            r#"auth.json, key auths["h.io/"].identitytoken: expected a string"#,
        ),
        (
            r#"{"auths":["hunter2"]}"#,
            "auth.json, key auths: expected an object",
        ),
        (r#"["hunter2"]"#, "auth.json: expected an object"),
        (
            r#"{"credHelpers":{"h.io":{}}}"#,
            r#"auth.json, key credHelpers["h.io"]: expected a string"#,
        ),
        (
            r#"{"credsStore":1}"#,
            "auth.json, key credsStore: expected a string",
        ),
        (
            "{\"auths\":\nhunter2}",
            "auth.json, line 2, column 1: not JSON: expected value",
        ),
    ] {
        assert_eq!(error(text), told);
    }
}

#[test]
fn an_entry_that_nobody_asks_for_may_be_broken() {
    let file = json!({ "auths": { "a.io": { "auth": "?" }, "h.io": auth("user") } });
    let file = parse(&file.to_string());
    assert_eq!(found(&file, "h.io", "app"), "user");
    assert!(file.find("a.io", "app").is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in r#"[{}\[\]":,a-z0-9 ]{0,60}"#) {
        for bytes in [&bytes[..], text.as_bytes()] {
            for form in [AuthFileForm::Current, AuthFileForm::Legacy] {
                match AuthFile::parse(bytes, "auth.json", form) {
                    Ok(file) => drop(file.find("h.io", "team/app")),
                    Err(error) => {
                        prop_assert!(error.to_string().starts_with("auth.json"), "{error}");
                    }
                }
            }
        }
    }

    /// Wherever a secret stands in a file, right or wrong, it is not shown.
    #[test]
    fn no_secret_is_shown(
        secret in "[A-Za-z]{16}",
        place in 0..8,
        cut in 0..80_usize,
    ) {
        let whole = match place {
            0 => json!({ "auths": { "h.io": { "auth": secret } } }),
            1 => json!({ "auths": { "h.io": { "auth": BASE64.encode(secret.as_bytes()) } } }),
            2 => json!({ "auths": { "h.io": { "auth": [secret] } } }),
            3 => json!({ "auths": { "h.io": secret } }),
            4 => json!({ "auths": secret }),
            5 => json!({ "auths": { "h.io": { "identitytoken": secret } } }),
            6 => json!({ "auths": { "h.io": { "username": "u", "password": secret } } }),
            _ => json!({ format!("https://u:{secret}@h.io"): { "auth": "?" } }),
        }
        .to_string();
        for text in [&whole[..], &whole[..cut.min(whole.len())]] {
            for form in [AuthFileForm::Current, AuthFileForm::Legacy] {
                let told = match AuthFile::parse(text.as_bytes(), "auth.json", form) {
                    Ok(file) => format!("{file:?} {:?}", file.find("h.io", "app")),
                    Err(error) => format!("{error} {error:?}"),
                };
                prop_assert!(!told.contains(&secret), "{told}");
            }
        }
    }
}
