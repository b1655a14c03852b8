//! Which server a key of a credential file means.
//!
//! Files of docker and podman name registries in several ways:
//!
//! - `example.org:5000`, as it stands in a reference
//! - `example.org/team/app`: a part of a registry only (podman, GitLab runner)
//! - `https://example.org/v1/`: the address that old versions of docker talked to
//! - `https://index.docker.io/v1/`: still what docker writes for `docker.io`
//!
//! Sources: `authKeyLookupOrder` and `normalizeAuthFileKey` of
//! <https://github.com/containers/container-libs/blob/main/image/pkg/docker/config/config.go>,
//! `ConvertToHostname` of
//! <https://github.com/docker/cli/blob/master/cli/config/credentials/file_store.go>,
//! `convertToRegistryPath` of
//! <https://gitlab.com/gitlab-org/gitlab-runner/-/blob/main/helpers/docker/auth/auth.go>.

/// Docker Hub in a reference.
const DOCKER_HUB: &str = "docker.io";

/// Docker Hub where credentials are kept.
const DOCKER_HUB_ADDRESS: &str = "https://index.docker.io/v1/";

/// Other names of Docker Hub.
const DOCKER_HUB_ALIASES: &[&str] = &["index.docker.io", "registry-1.docker.io"];

/// How well a key fits a repository, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// An address with a path that says nothing.
    OddAddress,
    /// The registry by another of its names.
    Alias,
    /// The registry as an address: `https://example.org/v1/`.
    Address,
    /// The registry as the reference has it.
    Host,
    /// A part of the registry, whose path has so many bytes.
    Namespace(usize),
}

/// Returns how well a key fits a repository of a registry, or `None` if it is
/// for something else.
pub(super) fn fit(key: &str, host: &str, repository: &str) -> Option<Fit> {
    let address = without_scheme(key);
    let rest = address.unwrap_or(key);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let authority = match address {
        Some(_) => without_user(authority),
        None => authority,
    };
    if !is_same_host(authority, host) {
        return None;
    }
    let path = path.trim_end_matches('/');
    let is_api = matches!(path, "" | "v1" | "v2");
    match address {
        Some(_) if is_api => Some(Fit::Address),
        // What docker's sign-in with a browser keeps besides the credentials;
        // it would be no password.
        Some(_) if matches!(path, "v1/access-token" | "v1/refresh-token") => None,
        Some(_) => Some(Fit::OddAddress),
        None if path.is_empty() && authority.eq_ignore_ascii_case(host) => Some(Fit::Host),
        None if path.is_empty() => Some(Fit::Alias),
        None if contains(path, repository) => Some(Fit::Namespace(path.len())),
        None if is_api => Some(Fit::OddAddress),
        None => None,
    }
}

/// Returns whether two hosts, with their ports if there are any, are the same
/// registry.
pub(super) fn is_same_host(one: &str, other: &str) -> bool {
    canonical(one).eq_ignore_ascii_case(canonical(other))
}

/// Returns the names by which a registry may be known, the likeliest first.
pub(super) fn names(host: &str) -> Vec<&str> {
    match canonical(host) {
        DOCKER_HUB => [DOCKER_HUB]
            .into_iter()
            .chain(DOCKER_HUB_ALIASES.iter().copied())
            .collect(),
        host => vec![host],
    }
}

/// Returns what docker asks its credential store for.
pub(super) fn store_address(host: &str) -> &str {
    match canonical(host) {
        DOCKER_HUB => DOCKER_HUB_ADDRESS,
        host => host,
    }
}

/// Returns a key as it may be shown: an address can hold a password.
pub(super) fn shown(key: &str) -> &str {
    key.rsplit_once('@').map_or(key, |(_, rest)| rest)
}

fn canonical(host: &str) -> &str {
    let is_hub = |name: &&str| name.eq_ignore_ascii_case(host);
    if is_hub(&DOCKER_HUB) || DOCKER_HUB_ALIASES.iter().any(is_hub) {
        DOCKER_HUB
    } else {
        host
    }
}

/// Returns what follows `http://` or `https://`, or `None` if neither is there.
fn without_scheme(key: &str) -> Option<&str> {
    ["https://", "http://"].into_iter().find_map(|scheme| {
        let start = key.get(..scheme.len())?;
        start
            .eq_ignore_ascii_case(scheme)
            .then(|| &key[scheme.len()..])
    })
}

fn without_user(authority: &str) -> &str {
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
}

/// Returns whether a repository is the namespace itself or lies in it.
fn contains(namespace: &str, repository: &str) -> bool {
    repository
        .strip_prefix(namespace)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_hosts_namespaces_and_addresses() {
        for (key, host, found) in [
            ("h.io", "h.io", Some(Fit::Host)),
            ("H.io", "h.io", Some(Fit::Host)),
            ("h.io/", "h.io", Some(Fit::Host)),
            ("h.io:5000", "h.io:5000", Some(Fit::Host)),
            ("h.io", "h.io:5000", None),
            ("h.io:5000", "h.io", None),
            ("h.io/team", "h.io", Some(Fit::Namespace(4))),
            ("h.io/team/", "h.io", Some(Fit::Namespace(4))),
            ("h.io/team/app", "h.io", Some(Fit::Namespace(8))),
            ("h.io/tea", "h.io", None),
            ("h.io/team/app/more", "h.io", None),
            ("https://h.io", "h.io", Some(Fit::Address)),
            ("HTTPS://h.io/v1/", "h.io", Some(Fit::Address)),
            ("http://h.io/v2", "h.io", Some(Fit::Address)),
            ("https://me:pw@h.io/", "h.io", Some(Fit::Address)),
            ("https://h.io/team", "h.io", Some(Fit::OddAddress)),
            ("h.io/v1/", "h.io", Some(Fit::OddAddress)),
            ("https://other.io/v1/", "h.io", None),
            ("docker.io", "docker.io", Some(Fit::Host)),
            (DOCKER_HUB_ADDRESS, "docker.io", Some(Fit::Address)),
            ("index.docker.io", "docker.io", Some(Fit::Alias)),
            ("registry-1.docker.io", "docker.io", Some(Fit::Alias)),
            ("docker.io", "index.docker.io", Some(Fit::Alias)),
            ("docker.io/team", "docker.io", Some(Fit::Namespace(4))),
            ("https://index.docker.io/v1/access-token", "docker.io", None),
            ("", "h.io", None),
        ] {
            assert_eq!(fit(key, host, "team/app"), found, "{key} for {host}");
        }
    }

    #[test]
    fn a_namespace_is_whole_names() {
        assert_eq!(fit("h.io/app", "h.io", "app"), Some(Fit::Namespace(3)));
        assert_eq!(fit("h.io/app", "h.io", "apple"), None);
        assert!(Fit::Namespace(8) > Fit::Namespace(4));
        assert!(Fit::Namespace(1) > Fit::Host);
    }

    #[test]
    fn docker_hub_has_several_names() {
        assert_eq!(store_address("docker.io"), DOCKER_HUB_ADDRESS);
        assert_eq!(store_address("registry-1.docker.io"), DOCKER_HUB_ADDRESS);
        assert_eq!(store_address("ghcr.io"), "ghcr.io");
        assert_eq!(names("index.docker.io")[0], "docker.io");
        assert_eq!(names("ghcr.io"), ["ghcr.io"]);
    }

    #[test]
    fn a_password_in_a_key_is_not_shown() {
        assert_eq!(shown("https://me:hunter2@h.io/v1/"), "h.io/v1/");
        assert_eq!(shown("https://h.io/v1/"), "https://h.io/v1/");
    }
}
