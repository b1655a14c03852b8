//! How a registry is reached and who asks: from options and environment.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix2oci::credentials::{CredentialFiles, Credentials, Lookup, Secret};
use nix2oci::registry::{DEFAULT_JOBS, ProxyOptions, RegistryOptions, TlsOptions};
use nix2oci::{Context, Event};

use crate::args::values::{CacheDir, Creds};
use crate::args::{CacheDirArgs, RegistryArgs};
use crate::exit::{Failure, Outcome};

use super::both_want_stdin;

/// The most bytes of credentials on standard input.
const LONGEST_CREDENTIALS: u64 = 64 << 10;

/// Makes what the library needs to talk to registries.
///
/// `host` is the registry that `--creds` are for: that of the image that is
/// written or read. `stdin_taken` is the option that reads standard input, if
/// one does (see [`claim_stdin`](super::claim_stdin)). Reads the file that the
/// user named, and standard input if it is asked for.
pub(crate) fn registry_options(
    cx: &Context,
    args: &RegistryArgs,
    host: &str,
    stdin_taken: Option<&str>,
) -> Outcome<RegistryOptions> {
    if let Some(warning) = password_warning(args) {
        cx.observer.event(&Event::Warning { message: warning });
    }
    if args.creds_stdin {
        if let Some(taken) = stdin_taken {
            return Err(both_want_stdin(taken, "--creds-stdin"));
        }
        if io::stdin().is_terminal() {
            return Err(Failure::usage(
                "--creds-stdin: standard input is a terminal, where a password can be seen",
            )
            .hint("pipe it, as in `printenv PASSWORD | nix2oci … --creds USER --creds-stdin`"));
        }
    }
    let given = given(args, || Ok(io::stdin().lock()))?;
    let env = Environment::of_process();
    let mut files = credential_files(args, &env);
    files.given = given.map(|credentials| (host.to_owned(), credentials));
    files.cancel = cx.cancel.clone();
    let lookup = Lookup::new(files).map_err(|error| {
        let failure = Failure::from(error);
        if args.authfile.is_none() && env.has("REGISTRY_AUTH_FILE") {
            failure.hint("the environment variable REGISTRY_AUTH_FILE names that file")
        } else {
            failure
        }
    })?;

    let mut options = RegistryOptions::default();
    options.credentials = Arc::new(lookup);
    options.tls = tls(args, &env);
    options.plain_http = args.plain_http;
    options.proxy = proxy(&env);
    options.retries = args.retry;
    options.jobs = args.jobs.unwrap_or(DEFAULT_JOBS);
    options.chunk_size = args.chunk_size;
    Ok(options)
}

/// Returns where things are kept for the next time, or `None` if nowhere.
pub(crate) fn cache_dir(args: &CacheDirArgs) -> Option<PathBuf> {
    cache_dir_in(args, &Environment::of_process())
}

/// Source: <https://specifications.freedesktop.org/basedir-spec/latest/>, which
/// says that a relative path is to be ignored.
fn cache_dir_in(args: &CacheDirArgs, env: &Environment<'_>) -> Option<PathBuf> {
    match &args.cache_dir {
        Some(CacheDir::None) => None,
        Some(CacheDir::At(dir)) => Some(dir.clone()),
        None => env
            .path("XDG_CACHE_HOME")
            .filter(|dir| dir.is_absolute())
            .or_else(|| env.at_home(".cache"))
            .map(|dir| dir.join("nix2oci")),
    }
}

/// What the machine says, apart so that tests can say something else.
pub(super) struct Environment<'e> {
    pub(super) var: &'e dyn Fn(&str) -> Option<OsString>,
    pub(super) home: Option<PathBuf>,
    pub(super) uid: u32,
}

impl Environment<'_> {
    pub(super) fn of_process() -> Self {
        Self {
            var: &|name| std::env::var_os(name),
            home: std::env::home_dir().filter(|home| home.is_absolute()),
            uid: rustix::process::getuid().as_raw(),
        }
    }

    /// Returns a variable; an empty one is none.
    fn get(&self, name: &str) -> Option<OsString> {
        (self.var)(name).filter(|value| !value.is_empty())
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Returns the first of several variables, as text.
    pub(super) fn text(&self, names: &[&str]) -> Option<String> {
        let value = names.iter().find_map(|name| self.get(name))?;
        Some(value.to_string_lossy().into_owned())
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    pub(super) fn at_home(&self, path: &str) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(path))
    }
}

fn password_warning(args: &RegistryArgs) -> Option<&'static str> {
    let creds = args.creds.as_ref()?;
    creds.password.as_ref()?;
    Some(
        "--creds: a password on the command line can be seen by everybody on this machine; \
         --creds-stdin reads it from standard input",
    )
}

/// Returns what `--creds` and `--creds-stdin` say together. No message shows
/// what was read.
fn given<R: Read>(
    args: &RegistryArgs,
    stdin: impl FnOnce() -> io::Result<R>,
) -> Outcome<Option<Credentials>> {
    let (user, password) = match (&args.creds, args.creds_stdin) {
        (None, false) => return Ok(None),
        (Some(Creds { user, password }), false) => match password {
            Some(password) => (user.clone(), password.clone()),
            None => {
                return Err(Failure::usage("--creds has no password").hint(
                    "say --creds-stdin as well to read it from standard input; USER:PASSWORD \
                     would be seen by everybody on this machine",
                ));
            }
        },
        (Some(Creds { password, .. }), true) if password.is_some() => {
            return Err(Failure::usage(
                "--creds has a password and --creds-stdin asks for another",
            ));
        }
        (Some(Creds { user, .. }), true) => (user.clone(), Secret::new(read_line(stdin)?)),
        (None, true) => {
            let text = read_line(stdin)?;
            let (user, password) = text.split_once(':').ok_or_else(|| {
                Failure::input("standard input has no colon, expected USER:PASSWORD")
                    .hint("with --creds USER only the password is read from there")
            })?;
            (user.to_owned(), Secret::new(password))
        }
    };
    if user.is_empty() {
        let option = if args.creds.is_some() {
            "--creds"
        } else {
            "--creds-stdin"
        };
        return Err(Failure::usage(format!("{option} has no user name")));
    }
    Ok(Some(Credentials::new(user, password)))
}

/// Reads standard input to its end, without the line's end that `echo` adds.
fn read_line<R: Read>(stdin: impl FnOnce() -> io::Result<R>) -> Outcome<String> {
    let mut bytes = Vec::new();
    stdin()
        .and_then(|stdin| stdin.take(LONGEST_CREDENTIALS + 1).read_to_end(&mut bytes))
        .map_err(|error| Failure::input("failed to read standard input").because(&error))?;
    let refuse = |found: &str| {
        let problem = format!("standard input {found}, expected a line with credentials");
        Err(Failure::input(problem))
    };
    if bytes.len() as u64 > LONGEST_CREDENTIALS {
        return refuse("is longer than 64 KiB");
    }
    let Ok(text) = String::from_utf8(bytes) else {
        return refuse("is not UTF-8");
    };
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return refuse("is empty");
    }
    if line.contains(['\n', '\r']) {
        return refuse("has several lines");
    }
    Ok(line.to_owned())
}

/// Returns where credentials are looked for.
///
/// Sources: containers-auth.json(5), `docker login`, and for `NETRC`
/// <https://pkg.go.dev/cmd/go#hdr-GOAUTH_environment_variable>.
fn credential_files(args: &RegistryArgs, env: &Environment<'_>) -> CredentialFiles {
    let runtime = match env.path("XDG_RUNTIME_DIR") {
        Some(dir) => dir.join("containers/auth.json"),
        None => format!("/run/containers/{}/auth.json", env.uid).into(),
    };
    let config = env
        .path("XDG_CONFIG_HOME")
        .or_else(|| env.at_home(".config"));
    let docker = env.path("DOCKER_CONFIG").or_else(|| env.at_home(".docker"));

    let mut files = CredentialFiles::default();
    let named = args.authfile.clone();
    files.named = named.or_else(|| env.path("REGISTRY_AUTH_FILE"));
    let of_podman = config.map(|dir| dir.join("containers/auth.json"));
    let of_docker = docker.map(|dir| dir.join("config.json"));
    files.defaults = [Some(runtime), of_podman, of_docker]
        .into_iter()
        .flatten()
        .collect();
    files.legacy = env.at_home(".dockercfg");
    files.auth_config = env.text(&["DOCKER_AUTH_CONFIG"]).map(Secret::new);
    files.netrc = env.path("NETRC").or_else(|| env.at_home(".netrc"));
    files.helper_dirs = env
        .get("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    files
}

/// Returns whom TLS believes.
///
/// The directories are skopeo's, which reads the first one that has the
/// registry and none of them with `--cert-dir`: `dockerCertDir` of
/// <https://github.com/containers/container-libs/blob/main/image/docker/docker_client.go>.
/// `NIX_SSL_CERT_FILE` is for programs from Nix what `SSL_CERT_FILE` is for
/// others, which is a part of the system's authorities. In a Nix build it may
/// name a file that is not there.
pub(super) fn tls(args: &RegistryArgs, env: &Environment<'_>) -> TlsOptions {
    let mut tls = TlsOptions::default();
    tls.verify = args.tls_verify;
    tls.ca_files.clone_from(&args.ca_file);
    let of_nix = env.path("NIX_SSL_CERT_FILE").filter(|file| file.exists());
    tls.ca_files.extend(of_nix);
    tls.cert_dirs.clone_from(&args.cert_dir);
    if args.cert_dir.is_empty() {
        let of_user = env.at_home(".config/containers/certs.d");
        let of_system = ["/etc/containers/certs.d", "/etc/docker/certs.d"];
        tls.host_cert_dirs = of_user
            .into_iter()
            .chain(of_system.map(|dir| Path::new(dir).to_owned()))
            .collect();
    }
    tls
}

/// Returns the proxies of the environment; names in lower case come first, as
/// in curl.
///
/// `HTTP_PROXY` is not believed in a CGI program, where it is what a client put
/// into the header `Proxy` (CVE-2016-5385): `REQUEST_METHOD` tells, as for Go's
/// `net/http`. curl never reads it.
pub(super) fn proxy(env: &Environment<'_>) -> ProxyOptions {
    let http: &[&str] = match env.has("REQUEST_METHOD") {
        true => &["http_proxy", "all_proxy", "ALL_PROXY"],
        false => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
    };
    let https = &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    let mut proxy = ProxyOptions::default();
    proxy.https = env.text(https).map(Secret::new);
    proxy.http = env.text(http).map(Secret::new);
    proxy.none = env.text(&["no_proxy", "NO_PROXY"]);
    proxy
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
