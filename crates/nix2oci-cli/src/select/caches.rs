//! How binary caches are reached and believed: from options and environment.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix2oci::binary_cache::{
    CacheHeader, CacheOptions, CacheUrl, DEFAULT_CACHE_JOBS, PublicKeys, Trust,
};
use nix2oci::credentials::{
    AwsCredentials, AwsLookup, CredentialFiles, CredentialSource, Credentials, Lookup, Secret,
};
use nix2oci::{Context, Error, Event};

use crate::args::{
    BinaryCacheArgs, CacheDirArgs, ClosureArgs, HeaderArg, RegistryArgs, parse_header,
};
use crate::exit::{Failure, Outcome};
use crate::host;

use super::narinfo_cache;
use super::nix_conf::NixConf;
use super::registry::{Environment, cache_dir, proxy, tls};

/// The most bytes of a file with headers.
const LARGEST_HEADER_FILE: u64 = 64 << 10;

/// How servers are reached that have closures and contents.
pub(crate) struct Reach<'a> {
    /// TLS, repetitions, and how much at once: as for registries.
    registry: &'a RegistryArgs,
    /// What is of binary caches alone.
    caches: &'a BinaryCacheArgs,
    /// What is kept for the next time.
    cache: &'a CacheDirArgs,
    /// All caches that the command names, of which some are asked at a time:
    /// options hold for all of them.
    named: Vec<CacheUrl>,
    /// Whether the user was told what the options mean: once for all images.
    told: OnceCell<()>,
    /// What it brought over the network to plan.
    download_size: Cell<u64>,
}

impl<'a> Reach<'a> {
    /// Takes the options of a verb.
    pub(crate) fn new(
        registry: &'a RegistryArgs,
        caches: &'a BinaryCacheArgs,
        cache: &'a CacheDirArgs,
    ) -> Self {
        Self {
            registry,
            caches,
            cache,
            named: Vec::new(),
            told: OnceCell::new(),
            download_size: Cell::new(0),
        }
    }

    /// Hears of bytes that came over the network to plan an image.
    pub(super) fn add_download(&self, bytes: u64) {
        let sum = self.download_size.get().saturating_add(bytes);
        self.download_size.set(sum);
    }

    /// Returns the bytes that came over the network to plan all images.
    pub(crate) fn download_size(&self) -> u64 {
        self.download_size.get()
    }

    /// Takes the caches that one of several images names. What is no address is
    /// told when it is opened.
    pub(crate) fn add(&mut self, args: &ClosureArgs) {
        let texts = args.closure.iter().chain(&args.contents.content);
        let urls = texts.filter_map(|text| text.strip_prefix("cache:")?.parse().ok());
        self.named.extend(urls);
    }
}

/// Makes what the library needs to talk to the binary caches at `urls`, beside
/// others that the same options are for. Reads the files that the user named.
pub(super) fn cache_options(
    cx: &Context,
    reach: &Reach<'_>,
    urls: &[CacheUrl],
    others: &[CacheUrl],
) -> Outcome<CacheOptions> {
    let args = reach.caches;
    let env = Environment::of_process();
    let mut options = CacheOptions::default();
    let conf = NixConf::read(&env);
    options.trust = trust(args, &conf)?;
    options.credentials = Arc::new(credentials(cx, args, &env, &conf)?);
    options.headers = headers(&args.cache_header)?;
    let all = [urls, others, &reach.named].concat();
    check_hosts(&options.headers, &all)?;
    options.tls = tls(reach.registry, &env);
    options.proxy = proxy(&env);
    options.aws = aws(&env);
    options.now = Some(host::system_time());
    options.info_cache = cache_dir(reach.cache).map(|dir| narinfo_cache(&dir));
    options.retries = reach.registry.retry;
    options.jobs = reach.registry.jobs.unwrap_or(DEFAULT_CACHE_JOBS);
    reach.told.get_or_init(|| warn(cx, args));
    Ok(options)
}

/// Returns the addresses of the binary caches that an option names.
pub(super) fn cache_urls(option: &str, texts: &[String]) -> Outcome<Vec<CacheUrl>> {
    let urls = texts.iter().filter_map(|text| text.strip_prefix("cache:"));
    urls.map(|url| {
        let parsed = url.parse::<CacheUrl>();
        parsed.map_err(|error| Failure::usage(format!("{option} cache: {error}")))
    })
    .collect()
}

/// Returns what is believed. No message shows a key: it may be a secret one.
fn trust(args: &BinaryCacheArgs, conf: &NixConf) -> Outcome<Trust> {
    if args.no_check_sigs {
        return Ok(Trust::Everything);
    }
    let mut keys = match args.no_default_key {
        true => PublicKeys::default(),
        false => conf.trusted_public_keys()?,
    };
    for text in &args.trusted_public_key {
        let more = text.reveal().parse::<PublicKeys>();
        let more =
            more.map_err(|error| Failure::usage(format!("--trusted-public-key: {error}")))?;
        if more.is_empty() {
            let problem = "--trusted-public-key: there is no key in it, expected NAME:BASE64";
            return Err(Failure::usage(problem));
        }
        keys.extend(more.iter().cloned());
    }
    Ok(Trust::Keys(keys))
}

/// Says what is not checked, and what others can see.
fn warn(cx: &Context, args: &BinaryCacheArgs) {
    let tell = |message: &str| cx.observer.event(&Event::Warning { message });
    if args.no_check_sigs {
        tell(
            "--no-check-sigs: signatures of binary caches are not checked; whoever can write to \
             one, or is on the way to one without TLS, decides what is in the image",
        );
    }
    let is_shown = |header: &HeaderArg| match header {
        HeaderArg::Given(text) => parse_header(text.reveal()).is_ok_and(|h| is_secret(&h.name)),
        HeaderArg::File(_) => false,
    };
    if args.cache_header.iter().any(is_shown) {
        tell(
            "--cache-header: a secret on the command line can be seen by everybody on this \
             machine; --cache-header @FILE reads it from a file",
        );
    }
}

/// Returns whether the value of a header says who somebody is, by its name.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words = ["auth", "cookie", "token", "key", "secret", "password"];
    words.iter().any(|word| name.contains(word))
}

/// Reads the headers that are in files.
fn headers(args: &[HeaderArg]) -> Outcome<Vec<CacheHeader>> {
    let mut headers = Vec::new();
    for arg in args {
        match arg {
            HeaderArg::Given(text) => {
                let header = parse_header(text.reveal());
                headers.push(
                    header
                        .map_err(|problem| Failure::usage(format!("--cache-header: {problem}")))?,
                );
            }
            HeaderArg::File(file) => read_headers(file, &mut headers)?,
        }
    }
    Ok(headers)
}

/// Reads a file of headers. No message shows what is in it.
fn read_headers(path: &Path, headers: &mut Vec<CacheHeader>) -> Outcome<()> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_HEADER_FILE + 1).read_to_end(&mut bytes))
        .map_err(Error::reading(path))?;
    let refuse = |problem: String| {
        Err(Failure::input(format!(
            "--cache-header @{}: {problem}",
            path.display()
        )))
    };
    if bytes.len() as u64 > LARGEST_HEADER_FILE {
        return refuse("the file is longer than 64 KiB".to_owned());
    }
    let Ok(text) = String::from_utf8(bytes) else {
        return refuse("the file is not UTF-8".to_owned());
    };
    let before = headers.len();
    for (line, number) in text.lines().zip(1..) {
        if line.trim().is_empty() {
            continue;
        }
        match parse_header(line) {
            Ok(header) => headers.push(header),
            Err(problem) => return refuse(format!("line {number}: {problem}")),
        }
    }
    if headers.len() == before {
        return refuse("there is no header in the file".to_owned());
    }
    Ok(())
}

/// Refuses headers that do not say which cache they are for, or name one that is
/// not asked.
fn check_hosts(headers: &[CacheHeader], urls: &[CacheUrl]) -> Outcome<()> {
    let hosts: BTreeSet<String> = urls
        .iter()
        .filter_map(|url| url.host().map(str::to_ascii_lowercase))
        .collect();
    let listed: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let listed = listed.join(" or ");
    for header in headers {
        let name = &header.name;
        match &header.host {
            None if hosts.len() > 1 => {
                return Err(Failure::usage(format!(
                    "--cache-header {name}: there are several binary caches, and it does not say \
                     for which one it is"
                ))
                .hint(format!("say HOST/{name}:VALUE, with {listed} for HOST")));
            }
            Some(host) if !hosts.is_empty() && !hosts.contains(host) => {
                return Err(Failure::usage(format!(
                    "--cache-header {host}/{name}: no binary cache is at {host}, expected {listed}"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Asks one netrc file after the other.
struct Netrcs(Vec<Lookup>);

impl CredentialSource for Netrcs {
    fn find(&self, host: &str, repository: &str) -> nix2oci::Result<Credentials> {
        for file in &self.0 {
            match file.find(host, repository)? {
                Credentials::Anonymous => {}
                found => return Ok(found),
            }
        }
        Ok(Credentials::Anonymous)
    }
}

fn credentials(
    cx: &Context,
    args: &BinaryCacheArgs,
    env: &Environment<'_>,
    conf: &NixConf,
) -> Outcome<impl CredentialSource + use<>> {
    let lookups = netrc_files(args, env, conf)?.into_iter().map(|file| {
        let mut files = CredentialFiles::default();
        files.netrc = Some(file);
        files.cancel = cx.cancel.clone();
        Ok(Lookup::new(files)?)
    });
    Ok(Netrcs(lookups.collect::<Outcome<_>>()?))
}

/// Returns where the keys of buckets are looked for.
///
/// Source: the variables of the same names in the AWS SDKs and Tools Reference
/// Guide, "Environment variables".
fn aws(env: &Environment<'_>) -> AwsLookup {
    let text = |name| env.text(&[name]);
    let mut lookup = AwsLookup::default();
    if let (Some(access_key), Some(secret_key)) =
        (text("AWS_ACCESS_KEY_ID"), text("AWS_SECRET_ACCESS_KEY"))
    {
        lookup.given = Some(AwsCredentials {
            access_key,
            secret_key: Secret::new(secret_key),
            session_token: text("AWS_SESSION_TOKEN").map(Secret::new),
        });
    }
    lookup.file = env
        .path("AWS_SHARED_CREDENTIALS_FILE")
        .or_else(|| env.at_home(".aws/credentials"));
    lookup.profile = text("AWS_PROFILE");
    lookup
}

/// Returns the netrc files to be asked, the first first. The one that the user
/// named must be there; that of Nix counts where this user may read it.
fn netrc_files(
    args: &BinaryCacheArgs,
    env: &Environment<'_>,
    conf: &NixConf,
) -> Outcome<Vec<PathBuf>> {
    if let Some(named) = &args.netrc_file {
        File::open(named).map_err(Error::reading(named))?;
        return Ok(vec![named.clone()]);
    }
    let own = env.path("NETRC").or_else(|| env.at_home(".netrc"));
    let of_nix = conf.netrc_file().to_owned();
    let of_nix = Some(of_nix).filter(|file| File::open(file).is_ok());
    Ok(own.into_iter().chain(of_nix).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(texts: &[&str]) -> Vec<CacheUrl> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn header(text: &str) -> CacheHeader {
        parse_header(text).unwrap()
    }

    fn told(headers: &[&str], caches: &[&str]) -> Option<String> {
        let headers: Vec<_> = headers.iter().map(|text| header(text)).collect();
        let failure = check_hosts(&headers, &urls(caches)).err()?;
        Some(failure.to_text(false))
    }

    #[test]
    fn a_header_goes_to_one_cache() {
        let (a, b) = ("https://a.example", "https://b.example:8443/x");
        for (headers, caches) in [
            (&["T:x"][..], &[a][..]),
            (&["T:x"], &[a, "https://a.example/other", "file:///c"]),
            (&["a.example/T:x", "b.example:8443/T:y"], &[a, b]),
            (&["A.EXAMPLE/T:x"], &[a]),
            (&["T:x"], &["file:///c"]),
        ] {
            assert_eq!(told(headers, caches), None, "{headers:?} {caches:?}");
        }
        let several = told(&["T:hunter2"], &[a, b]).unwrap();
        assert!(
            several.contains("say HOST/T:VALUE, with a.example or b.example:8443 for HOST"),
            "{several}"
        );
        let other = told(&["b.example/T:hunter2"], &[a, b]).unwrap();
        assert!(other.contains("no binary cache is at b.example"), "{other}");
        assert!(!several.contains("hunter2") && !other.contains("hunter2"));
    }

    #[test]
    fn headers_come_from_files_and_errors_show_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("headers");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            headers(&[
                HeaderArg::Given(Secret::new("A:1")),
                HeaderArg::File(file.clone()),
            ])
        };
        let found = read("X-Token: hunter2\n\nhost:80/B: 2\n").unwrap();
        let names: Vec<&str> = found.iter().map(|header| &*header.name).collect();
        assert_eq!(names, ["A", "X-Token", "B"]);
        for (text, problem) in [
            ("\n", "there is no header in the file"),
            ("A: 1\nhunter2\n", "line 2: expected NAME:VALUE"),
        ] {
            let failure = read(text).err().unwrap().to_text(false);
            assert!(failure.contains(problem), "{failure}");
            assert!(!failure.contains("hunter2"), "{failure}");
        }
    }

    #[test]
    fn keys_come_beside_the_one_of_nix() {
        let key = "mine-1:7RZb+aZBffpdbHe3cFTkXB9MQYb1Sa5k3bzShZyfTOw=";
        let mut args = BinaryCacheArgs {
            trusted_public_key: vec![Secret::new(key)],
            ..BinaryCacheArgs::default()
        };
        let of_nix = format!("extra-trusted-public-keys = nix-{}", &key[5..]);
        let conf = NixConf::read(&Environment {
            var: &|name| match name {
                "NIX_CONFIG" => Some(of_nix.clone().into()),
                _ => Some("/nowhere".into()),
            },
            home: None,
            uid: 0,
        });
        let names = |args: &BinaryCacheArgs| match trust(args, &conf).ok() {
            Some(Trust::Keys(keys)) => keys.iter().map(|key| key.name().to_owned()).collect(),
            _ => vec!["everything".to_owned()],
        };
        assert_eq!(names(&args), ["cache.nixos.org-1", "nix-1", "mine-1"]);
        args.no_default_key = true;
        assert_eq!(names(&args), ["mine-1"]);
        args.no_check_sigs = true;
        assert_eq!(names(&args), ["everything"]);
    }

    #[test]
    fn credentials_are_in_netrc_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let [first, second] = ["first", "second"].map(|user| {
            let line = format!("machine {user}.example login {user} password p\n");
            std::fs::write(at(user), line).unwrap();
            let mut files = CredentialFiles::default();
            files.netrc = Some(at(user));
            Lookup::new(files).unwrap()
        });
        let both = Netrcs(vec![first, second]);
        for (host, user) in [("first.example", "first"), ("second.example:80", "second")] {
            match both.find(host, "").unwrap() {
                Credentials::Password { user: found, .. } => assert_eq!(found, user),
                other => panic!("{host}: {other:?}"),
            }
        }
        assert_eq!(
            both.find("third.example", "").unwrap(),
            Credentials::Anonymous
        );

        let args = BinaryCacheArgs {
            netrc_file: Some(at("missing")),
            ..BinaryCacheArgs::default()
        };
        let env = Environment::of_process();
        let missing = netrc_files(&args, &env, &NixConf::read(&env));
        assert!(missing.err().unwrap().to_text(false).contains("missing"));
    }

    #[test]
    fn keys_of_buckets_are_in_the_environment_or_in_a_file() {
        let with = |variables: &'static [(&str, &str)]| {
            let var = move |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| value.into())
            };
            aws(&Environment {
                var: &var,
                home: Some("/home/me".into()),
                uid: 0,
            })
        };
        let all = with(&[
            ("AWS_ACCESS_KEY_ID", "AKID"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("AWS_SESSION_TOKEN", "hunter3"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/keys"),
            ("AWS_PROFILE", "ci"),
        ]);
        let given = all.given.as_ref().unwrap();
        assert_eq!(given.access_key, "AKID");
        assert_eq!(given.secret_key.reveal(), "hunter2");
        assert_eq!(given.session_token.as_ref().unwrap().reveal(), "hunter3");
        assert_eq!(all.file.as_deref(), Some(Path::new("/keys")));
        assert_eq!(all.profile.as_deref(), Some("ci"));
        assert!(!format!("{all:?}").contains("hunter"));

        let half = with(&[("AWS_ACCESS_KEY_ID", "AKID")]);
        assert_eq!(half.given, None);
        let own = Path::new("/home/me/.aws/credentials");
        assert_eq!(half.file.as_deref(), Some(own));
    }
}
