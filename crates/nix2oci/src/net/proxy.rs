//! Which proxy a request takes.
//!
//! Texts are read as curl and Go read the environment variables; where those
//! two differ, as Go does, which docker, podman and containerd are written in
//! (`golang.org/x/net/http/httpproxy`).

use std::net::IpAddr;

use reqwest::{Proxy, Url};

use super::ProxyOptions;
use super::reach::Reach;
use crate::credentials::Secret;
use crate::error::{Error, Result};

/// The proxies and their exceptions. Not `Debug`: an address may hold a
/// password.
#[derive(Clone, Default)]
pub(crate) struct Proxies {
    https: Option<Url>,
    http: Option<Url>,
    none: Vec<Exception>,
}

impl Proxies {
    /// Reads the options. Errors do not repeat an address.
    pub(crate) fn new(options: &ProxyOptions) -> Result<Self> {
        let address = |secret: &Option<Secret>, servers: &str| {
            match secret {
            Some(secret) if !secret.reveal().trim().is_empty() => {
                parse_address(secret.reveal().trim())
                    .map(Some)
                    .ok_or_else(|| {
                        Error::invalid(
                            format!("the proxy for {servers} servers"),
                            "not an address; expected [http|https|socks5|socks5h://][USER:PASSWORD@]HOST[:PORT]",
                        )
                    })
            }
            _ => Ok(None),
        }
        };
        Ok(Self {
            https: address(&options.https, "https")?,
            http: address(&options.http, "http")?,
            none: options.none.as_deref().map_or_else(Vec::new, exceptions),
        })
    }

    /// Returns the proxy for a server's address. A loopback address never has
    /// one.
    pub(crate) fn for_url(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            "http" => self.http.as_ref(),
            _ => None,
        }?;
        let host = url.host_str()?;
        if Reach::of_host(host) == Some(Reach::Loopback) {
            return None;
        }
        let host = host.trim_matches(['[', ']']).trim_end_matches('.');
        let port = url.port_or_known_default();
        let is_excepted = self.none.iter().any(|exception| exception.is(host, port));
        (!is_excepted).then_some(proxy)
    }

    /// Returns the hosts of the proxies.
    pub(crate) fn hosts(&self) -> Vec<String> {
        [&self.https, &self.http]
            .into_iter()
            .flatten()
            .filter_map(|url| url.host_str().map(str::to_owned))
            .collect()
    }

    /// Makes what reqwest asks for each connection.
    pub(crate) fn to_proxy(&self) -> Proxy {
        let proxies = self.clone();
        Proxy::custom(move |url| proxies.for_url(url).cloned())
    }
}

/// Parses the address of a proxy; without a scheme it is an HTTP proxy.
fn parse_address(text: &str) -> Option<Url> {
    let parse = |text: &str| {
        let url = Url::parse(text).ok()?;
        let is_known = matches!(
            url.scheme(),
            "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h"
        );
        let has_host = url.host_str().is_some_and(|host| !host.is_empty());
        (is_known && has_host).then_some(url)
    };
    if text.contains("://") {
        parse(text)
    } else {
        parse(&format!("http://{text}"))
    }
}

/// A server that no proxy is used for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    /// `*`
    All,
    /// `10.0.0.0/8`: the address and the length of the prefix.
    Network(IpAddr, u8),
    /// `10.0.0.1`, `10.0.0.1:5000`
    Address(IpAddr, Option<u16>),
    /// `example.org` is that and what is below it; `.example.org` and
    /// `*.example.org` only what is below it.
    Domain {
        /// With a dot in front.
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

/// Parses the list between commas; what makes no sense is left out, as
/// everybody does.
fn exceptions(text: &str) -> Vec<Exception> {
    text.split([',', ' '])
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .filter_map(exception)
        .collect()
}

fn exception(text: &str) -> Option<Exception> {
    if text == "*" {
        return Some(Exception::All);
    }
    if let Some((address, length)) = text.split_once('/') {
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = length.parse().ok().filter(|length| *length <= bits)?;
        return Some(Exception::Network(address, length));
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse() {
        return Some(Exception::Address(address, None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (text, None),
    };
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return Some(Exception::Address(address, port));
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let below = host.strip_prefix('*').unwrap_or(&host);
    let itself = !below.starts_with('.');
    let suffix = if itself {
        format!(".{below}")
    } else {
        below.to_owned()
    };
    (suffix.len() > 1).then_some(Exception::Domain {
        suffix,
        itself,
        port,
    })
}

impl Exception {
    /// Returns whether a server is meant. `host` is as in a parsed URL:
    /// lower-case, without brackets.
    fn is(&self, host: &str, port: Option<u16>) -> bool {
        let is_port = |wanted: &Option<u16>| wanted.is_none() || *wanted == port;
        match self {
            Self::All => true,
            Self::Network(network, length) => host
                .parse()
                .is_ok_and(|address| is_within(address, *network, *length)),
            Self::Address(address, wanted) => host.parse() == Ok(*address) && is_port(wanted),
            Self::Domain {
                suffix,
                itself,
                port: wanted,
            } => is_port(wanted) && (host.ends_with(suffix) || (*itself && *host == suffix[1..])),
        }
    }
}

fn is_within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let (address, network, bits) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (u32::from(address).into(), u32::from(network).into(), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            (u128::from(address), u128::from(network), 128)
        }
        _ => return false,
    };
    let differing: u128 = address ^ network;
    differing.checked_shr(bits - u32::from(length)).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxies(none: &str) -> Proxies {
        Proxies::new(&ProxyOptions {
            https: Some(Secret::new("http://user:hunter2@proxy.example:3128")),
            http: Some(Secret::new("proxy.example:3129")),
            none: Some(none.to_owned()),
        })
        .unwrap()
    }

    #[test]
    fn exceptions_are_those_of_go() {
        for (none, url, proxied) in [
            ("", "https://example.org/", true),
            ("*", "https://example.org/", false),
            ("example.org", "https://example.org/", false),
            ("Example.ORG", "https://EXAMPLE.org/", false),
            ("example.org", "https://sub.example.org/", false),
            ("example.org", "https://notexample.org/", true),
            (".example.org", "https://example.org/", true),
            (".example.org", "https://sub.example.org/", false),
            ("*.example.org", "https://sub.example.org/", false),
            ("*.example.org", "https://example.org/", true),
            ("a.org, example.org", "https://example.org/", false),
            ("example.org:443", "https://example.org/", false),
            ("example.org:5000", "https://example.org/", true),
            ("example.org:5000", "https://example.org:5000/", false),
            ("10.0.0.0/8", "https://10.1.2.3/", false),
            ("10.0.0.0/8", "https://11.1.2.3/", true),
            ("0.0.0.0/0", "https://11.1.2.3/", false),
            ("10.0.0.0/33", "https://10.0.0.1/", true),
            ("fd00::/8", "https://[fd12::1]/", false),
            ("::/0", "https://[2606::1]/", false),
            ("10.0.0.1", "https://10.0.0.1:5000/", false),
            ("10.0.0.1:5000", "https://10.0.0.1/", true),
            ("[fd00::1]:5000", "https://[fd00::1]:5000/", false),
            ("fd00::1", "https://[fd00::1]/", false),
            (",.,:,/,*.", "https://example.org/", true),
        ] {
            let url = Url::parse(url).unwrap();
            let found = proxies(none).for_url(&url).is_some();
            assert_eq!(found, proxied, "{none} {url}");
        }
    }

    #[test]
    fn a_loopback_address_has_no_proxy() {
        for url in [
            "http://localhost:5000/",
            "https://127.0.0.1/",
            "https://[::1]:5000/",
        ] {
            assert!(proxies("").for_url(&Url::parse(url).unwrap()).is_none());
        }
    }

    #[test]
    fn each_scheme_has_its_own() {
        let proxies = proxies("");
        let of = |url| proxies.for_url(&Url::parse(url).unwrap()).unwrap().port();
        assert_eq!(of("https://example.org/"), Some(3128));
        assert_eq!(of("http://example.org/"), Some(3129));
    }

    #[test]
    fn an_error_does_not_show_the_address() {
        for address in [
            "http://user:hunter2@",
            "ftp://user:hunter2@proxy",
            "http://user:hunter2@[::",
        ] {
            let error = Proxies::new(&ProxyOptions {
                https: Some(Secret::new(address)),
                ..ProxyOptions::default()
            })
            .err()
            .unwrap();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.starts_with("the proxy for https servers: not an address"));
        }
    }

    #[test]
    fn addresses_are_taken_as_people_write_them() {
        for (text, expected) in [
            ("proxy:3128", Some("http://proxy:3128/")),
            ("localhost:3128", Some("http://localhost:3128/")),
            ("https://proxy", Some("https://proxy/")),
            ("socks5://proxy:1080", Some("socks5://proxy:1080")),
            ("gopher://proxy", None),
        ] {
            assert_eq!(parse_address(text).as_ref().map(Url::as_str), expected);
        }
    }

    proptest! {
        #[test]
        fn any_list_of_exceptions_is_read(text in "[a-z0-9.:/*, \\[\\]]{0,40}") {
            let _ = proxies(&text).for_url(&Url::parse("https://example.org/").unwrap());
        }

        #[test]
        fn a_network_holds_its_own_addresses(address: u32, length in 0_u8..=32) {
            prop_assert!(is_within(
                std::net::Ipv4Addr::from(address).into(),
                std::net::Ipv4Addr::from(address).into(),
                length,
            ));
        }
    }
}
