//! Tests of what options and environment make of the way to a registry.

use std::collections::BTreeMap;

use clap::Parser;
use nix2oci::ErrorClass;

use super::*;
use crate::args::ReuseArgs;
use crate::exit::Status;
use crate::select::registry::{cache_dir, registry_options};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    reuse: ReuseArgs,
}

fn line(words: &[&str]) -> Line {
    Line::try_parse_from(["nix2oci"].iter().chain(words)).unwrap()
}

/// Calls with an environment of these variables, `/home/me` and user 1000.
fn with<T>(vars: &[(&str, &str)], call: impl FnOnce(&Environment<'_>) -> T) -> T {
    let vars: BTreeMap<_, _> = vars.iter().copied().collect();
    call(&Environment {
        var: &|name| vars.get(name).map(OsString::from),
        home: Some("/home/me".into()),
        uid: 1000,
    })
}

fn files(words: &[&str], vars: &[(&str, &str)]) -> CredentialFiles {
    with(vars, |env| credential_files(&line(words).registry, env))
}

fn paths(paths: &[&str]) -> Vec<PathBuf> {
    paths.iter().map(PathBuf::from).collect()
}

#[test]
fn credentials_are_where_podman_and_docker_put_them() {
    let plain = files(&[], &[]);
    assert_eq!(
        plain.defaults,
        paths(&[
            "/run/containers/1000/auth.json",
            "/home/me/.config/containers/auth.json",
            "/home/me/.docker/config.json",
        ])
    );
    assert_eq!(plain.legacy, Some("/home/me/.dockercfg".into()));
    assert_eq!(plain.netrc, Some("/home/me/.netrc".into()));
    assert_eq!((plain.named, plain.auth_config), (None, None));

    let moved = files(
        &[],
        &[
            ("XDG_RUNTIME_DIR", "/run/user/1000"),
            ("XDG_CONFIG_HOME", "/c"),
            ("DOCKER_CONFIG", "/d"),
            ("NETRC", "/n"),
            ("DOCKER_AUTH_CONFIG", "{}"),
            ("PATH", "/a:/b"),
        ],
    );
    assert_eq!(
        moved.defaults,
        paths(&[
            "/run/user/1000/containers/auth.json",
            "/c/containers/auth.json",
            "/d/config.json",
        ])
    );
    assert_eq!(moved.netrc, Some("/n".into()));
    assert_eq!(moved.auth_config, Some(Secret::new("{}")));
    assert_eq!(moved.helper_dirs, paths(&["/a", "/b"]));
}

#[test]
fn the_option_comes_before_the_environment() {
    let of_env = [("REGISTRY_AUTH_FILE", "/env.json")];
    assert_eq!(files(&[], &of_env).named, Some("/env.json".into()));
    let words = ["--authfile", "/option.json"];
    assert_eq!(files(&words, &of_env).named, Some("/option.json".into()));
    assert_eq!(files(&[], &[("REGISTRY_AUTH_FILE", "")]).named, None);
}

/// Returns USER and PASSWORD, or what is told.
fn creds(words: &[&str], stdin: &str) -> Result<Option<(String, String)>, String> {
    match given(&line(words).registry, || Ok(stdin.as_bytes())) {
        Ok(None) => Ok(None),
        Ok(Some(Credentials::Password { user, password })) => {
            Ok(Some((user, password.reveal().to_owned())))
        }
        Ok(Some(other)) => panic!("{other:?}"),
        Err(failure) => Err(failure.to_text(false)),
    }
}

#[test]
fn credentials_come_from_the_command_line_or_standard_input() {
    let pair = |user: &str, password: &str| Ok(Some((user.to_owned(), password.to_owned())));
    assert_eq!(creds(&[], "ignored"), Ok(None));
    assert_eq!(creds(&["--creds", "me:a:b"], ""), pair("me", "a:b"));
    let stdin = ["--creds-stdin"];
    assert_eq!(creds(&stdin, "me:a:b\n"), pair("me", "a:b"));
    assert_eq!(creds(&stdin, "me: a \r\n"), pair("me", " a "));
    let both = ["--creds", "me", "--creds-stdin"];
    assert_eq!(creds(&both, "a:b"), pair("me", "a:b"));
    assert_eq!(
        given(&line(&["--creds", "<token>:it"]).registry, || Ok(&b""[..])).unwrap(),
        Some(Credentials::IdentityToken(Secret::new("it")))
    );
}

#[test]
fn broken_credentials_are_told_without_them() {
    for (words, stdin, told) in [
        (&["--creds", "me"][..], "", "--creds has no password"),
        (&["--creds", ":hunter2"], "", "--creds has no user name"),
        (
            &["--creds-stdin"],
            ":hunter2",
            "--creds-stdin has no user name",
        ),
        (&["--creds-stdin"], "hunter2", "has no colon"),
        (&["--creds-stdin"], "\n", "standard input is empty"),
        (&["--creds-stdin"], "me:hunter2\nmore", "has several lines"),
        (
            &["--creds", "me:hunter2", "--creds-stdin"],
            "x",
            "asks for another",
        ),
    ] {
        let text = creds(words, stdin).unwrap_err();
        assert!(text.contains(told), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let long = "x".repeat(100_000);
    assert!(
        creds(&["--creds-stdin"], &long)
            .unwrap_err()
            .contains("64 KiB")
    );
}

#[test]
fn a_password_on_the_command_line_is_warned_about_and_not_shown() {
    let args = line(&["--creds", "me:hunter2"]);
    let warning = password_warning(&args.registry).unwrap();
    assert!(warning.contains("--creds-stdin"), "{warning}");
    assert!(!format!("{args:?}").contains("hunter2"));
    assert_eq!(password_warning(&line(&["--creds", "me"]).registry), None);
}

#[test]
fn proxies_are_those_of_curl() {
    let shown = |vars: &[(&str, &str)]| {
        let proxy = with(vars, proxy);
        let reveal = |secret: Option<Secret>| secret.map(|s| s.reveal().to_owned());
        (reveal(proxy.https), reveal(proxy.http), proxy.none)
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(shown(&[]), (None, None, None));
    assert_eq!(
        shown(&[("HTTPS_PROXY", "a"), ("HTTP_PROXY", "b"), ("NO_PROXY", "c")]),
        (some("a"), some("b"), some("c"))
    );
    assert_eq!(
        shown(&[
            ("HTTPS_PROXY", "A"),
            ("https_proxy", "a"),
            ("ALL_PROXY", "all"),
            ("no_proxy", "n"),
            ("NO_PROXY", "N"),
        ]),
        (some("a"), some("all"), some("n"))
    );
    let cgi = [("HTTP_PROXY", "evil"), ("REQUEST_METHOD", "GET")];
    assert_eq!(shown(&cgi).1, None);
    assert_eq!(
        shown(&[("https_proxy", ""), ("HTTPS_PROXY", "a")]).0,
        some("a")
    );
}

#[test]
fn certificates_are_where_skopeo_looks() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let of_nix = file.path().to_str().unwrap();
    let made = with(&[("NIX_SSL_CERT_FILE", of_nix)], |env| {
        tls(&line(&["--ca-file", "/a.pem"]).registry, env)
    });
    assert!(made.verify);
    assert_eq!(made.ca_files, paths(&["/a.pem", of_nix]));
    assert_eq!(
        made.host_cert_dirs,
        paths(&[
            "/home/me/.config/containers/certs.d",
            "/etc/containers/certs.d",
            "/etc/docker/certs.d",
        ])
    );
    let made = with(&[("NIX_SSL_CERT_FILE", "/no-cert-file.crt")], |env| {
        tls(&line(&["--cert-dir", "/certs"]).registry, env)
    });
    assert!(made.ca_files.is_empty());
    assert_eq!(made.cert_dirs, paths(&["/certs"]));
    assert!(made.host_cert_dirs.is_empty());
}

#[test]
fn all_of_it_together() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    let file = file.to_str().unwrap();
    let cx = Context::default();
    let make = |words: &[&str], taken| registry_options(&cx, &line(words).registry, "h.io", taken);
    let missing = make(&["--authfile", file], None).unwrap_err();
    assert_eq!(missing.status(), Status::Input);
    assert!(missing.message().ends_with("auth.json"), "{missing:?}");

    std::fs::write(
        file,
        r#"{"auths":{"b.io":{"auth":"eW91OnA="},"c.io":{"auth":"?"}}}"#,
    )
    .unwrap();
    let words = [
        "--authfile",
        file,
        "--creds",
        "me:p",
        "--plain-http",
        "--retry",
        "0",
        "--jobs",
        "3",
        "--chunk-size",
        "2M",
    ];
    let options = make(&words, None).unwrap();
    let user = |host: &str| match options.credentials.find(host, "app").unwrap() {
        Credentials::Password { user, .. } => user,
        other => format!("{other:?}"),
    };
    assert_eq!(user("h.io"), "me", "for the image's registry");
    assert_eq!(user("b.io"), "you");
    assert_eq!(user("other.io"), "Anonymous");
    let broken = options.credentials.find("c.io", "app").unwrap_err();
    assert_eq!(broken.class(), ErrorClass::Input);
    assert!(options.plain_http);
    assert_eq!((options.retries, options.jobs.get()), (0, 3));
    assert_eq!(
        options.chunk_size.map(std::num::NonZero::get),
        Some(2 << 20)
    );

    let refused = make(&["--creds-stdin"], Some("--closure path-info:-")).unwrap_err();
    assert_eq!(
        refused.message(),
        "--closure path-info:- and --creds-stdin both want standard input"
    );
}

#[test]
fn tls_verify_is_spelled_as_in_skopeo() {
    for (words, verify) in [
        (&[][..], true),
        (&["--tls-verify"], true),
        (&["--tls-verify=true"], true),
        (&["--tls-verify=false"], false),
        (&["--tls-verify=0"], false),
    ] {
        assert_eq!(line(words).registry.tls_verify, verify, "{words:?}");
    }
    for words in [
        &["--tls-verify", "false"],
        &["--tls-verify=maybe", "--plain-http"],
    ] {
        assert!(Line::try_parse_from(["nix2oci"].iter().chain(words)).is_err());
    }
}

#[test]
fn reuse_is_all_or_nothing() {
    let words = ["--no-reuse", "--reuse-from", "docker://h.io/app"];
    assert!(Line::try_parse_from(["nix2oci"].iter().chain(&words)).is_err());
    let words = ["--no-reuse", "--verify-reused"];
    assert!(Line::try_parse_from(["nix2oci"].iter().chain(&words)).is_err());
    let words = [
        "--reuse-from",
        "docker://h.io/a",
        "--reuse-from",
        "docker://h.io/b",
    ];
    assert_eq!(line(&words).reuse.reuse_from.len(), 2);
}

#[test]
fn the_cache_is_where_caches_are() {
    let found = |words: &[&str], vars: &[(&str, &str)]| {
        with(vars, |env| cache_dir_in(&line(words).reuse.cache, env))
    };
    assert_eq!(found(&[], &[]), Some("/home/me/.cache/nix2oci".into()));
    let moved = [("XDG_CACHE_HOME", "/x")];
    assert_eq!(found(&[], &moved), Some("/x/nix2oci".into()));
    let relative = [("XDG_CACHE_HOME", "x")];
    assert_eq!(
        found(&[], &relative),
        Some("/home/me/.cache/nix2oci".into())
    );
    assert_eq!(found(&["--cache-dir", "none"], &moved), None);
    assert_eq!(cache_dir(&line(&["--cache-dir", "none"]).reuse.cache), None);
    assert_eq!(found(&["--cache-dir", "c"], &moved), Some("c".into()));
}
