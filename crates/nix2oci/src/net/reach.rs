//! How far away an address is, so that a server far away cannot send us to one
//! near by.
//!
//! A server names addresses: token servers, redirects, upload sessions. One
//! on the internet that names `http://169.254.169.254/` or `127.0.0.1` wants
//! us to ask, from inside, what it cannot ask itself (server-side request
//! forgery).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Who can reach an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Everybody.
    Public,
    /// Machines of one network.
    Private,
    /// Machines of one link; clouds keep the secrets of a machine there.
    LinkLocal,
    /// This machine.
    Loopback,
}

impl Reach {
    /// Returns who can reach an IP address.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    /// Returns who can reach a host of a URL, as far as its text says: a name
    /// other than `localhost` is `None`.
    pub(crate) fn of_host(host: &str) -> Option<Self> {
        if is_localhost(host) {
            return Some(Self::Loopback);
        }
        let address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        address.parse().ok().map(Self::of)
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        // 100.64.0.0/10 is the inside of a provider's network (RFC 6598).
        let is_shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
        // A connection to 0.0.0.0 is one to this machine.
        if address.is_loopback() || address.octets()[0] == 0 {
            Self::Loopback
        } else if address.is_link_local() {
            Self::LinkLocal
        } else if address.is_private() || is_shared || address.is_broadcast() {
            Self::Private
        } else {
            Self::Public
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        // ::ffff:a.b.c.d, ::a.b.c.d and 64:ff9b::a.b.c.d lead to a.b.c.d.
        let inner = match address.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                let [a, b] = high.to_be_bytes();
                let [c, d] = low.to_be_bytes();
                Some(Ipv4Addr::new(a, b, c, d))
            }
            _ if address.is_loopback() || address.is_unspecified() => return Self::Loopback,
            _ => address.to_ipv4(),
        };
        match inner {
            Some(inner) => Self::of_v4(inner),
            None if address.is_unicast_link_local() => Self::LinkLocal,
            None if address.is_unique_local() => Self::Private,
            None => Self::Public,
        }
    }

    /// Returns whether a server of reach `self` may send us to one of reach
    /// `to`. Only one that is near may name another one that is near; nobody
    /// is sent to a link-local address from elsewhere.
    fn may_name(self, to: Self) -> bool {
        match to {
            Self::Public => true,
            Self::Private | Self::Loopback => self != Self::Public,
            Self::LinkLocal => self == Self::LinkLocal,
        }
    }
}

/// Returns whether a host is `localhost`, in any case and with a final dot.
fn is_localhost(host: &str) -> bool {
    host.strip_suffix('.')
        .unwrap_or(host)
        .eq_ignore_ascii_case("localhost")
}

/// Where the server itself is that the user named, once that is known; public until then.
#[derive(Debug, Default)]
pub(crate) struct Home(OnceLock<Reach>);

impl Home {
    /// Remembers where it answered from first. What it says later
    /// does not count: a name can be made to lead elsewhere.
    pub(crate) fn learn(&self, reach: Reach) {
        self.0.get_or_init(|| reach);
    }

    fn reach(&self) -> Reach {
        self.0.get().copied().unwrap_or(Reach::Public)
    }

    /// Fails if it may not send us to an address.
    pub(crate) fn allow(&self, to: Reach, address: &str) -> Result<(), Refused> {
        if self.reach().may_name(to) {
            Ok(())
        } else {
            Err(Refused {
                address: address.to_owned(),
            })
        }
    }
}

/// A server on the internet named an address that it must not send us to.
#[derive(Debug, thiserror::Error)]
#[error("{address} is on a private network, and the server that named it is not")]
pub(crate) struct Refused {
    address: String,
}

/// Looks names up, and keeps what a server must not send us to out of the
/// answers. Because the connection is made to these answers, a name that
/// changes its address in between gains nothing.
pub(crate) struct Resolver {
    /// Guards against the server's own word if it is there.
    pub(crate) home: Option<Arc<Home>>,
    /// The proxies' hosts: the user's word, not the server's.
    pub(crate) trusted: Vec<String>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let home = self
            .home
            .clone()
            .filter(|_| !self.trusted.iter().any(|host| host == name.as_str()));
        Box::pin(async move {
            let mut addresses = Vec::new();
            let mut refused = None;
            for address in tokio::net::lookup_host((name.as_str(), 0)).await? {
                let allowed = home.as_ref().map_or(Ok(()), |home| {
                    let shown = format!("{} ({})", name.as_str(), address.ip());
                    home.allow(Reach::of(address.ip()), &shown)
                });
                match allowed {
                    Ok(()) => addresses.push(address),
                    Err(error) => refused = Some(error),
                }
            }
            match refused {
                Some(error) if addresses.is_empty() => Err(error.into()),
                _ => Ok(Box::new(addresses.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        for (host, expected) in [
            ("localhost", Some(Reach::Loopback)),
            ("LOCALHOST.", Some(Reach::Loopback)),
            ("127.0.0.1", Some(Reach::Loopback)),
            ("127.255.0.9", Some(Reach::Loopback)),
            ("0.0.0.0", Some(Reach::Loopback)),
            ("[::1]", Some(Reach::Loopback)),
            ("[::]", Some(Reach::Loopback)),
            ("[::ffff:127.0.0.1]", Some(Reach::Loopback)),
            ("[64:ff9b::7f00:1]", Some(Reach::Loopback)),
            ("10.1.2.3", Some(Reach::Private)),
            ("172.31.0.1", Some(Reach::Private)),
            ("192.168.1.1", Some(Reach::Private)),
            ("100.64.0.1", Some(Reach::Private)),
            ("[fd00::1]", Some(Reach::Private)),
            ("[::ffff:10.0.0.1]", Some(Reach::Private)),
            ("169.254.169.254", Some(Reach::LinkLocal)),
            ("[fe80::1]", Some(Reach::LinkLocal)),
            ("[::ffff:169.254.169.254]", Some(Reach::LinkLocal)),
            ("100.128.0.1", Some(Reach::Public)),
            ("172.32.0.1", Some(Reach::Public)),
            ("8.8.8.8", Some(Reach::Public)),
            ("[2606:4700::1]", Some(Reach::Public)),
            ("localhost.example.org", None),
            ("example.org", None),
        ] {
            assert_eq!(Reach::of_host(host), expected, "{host}");
        }
    }

    #[test]
    fn only_what_is_near_may_name_what_is_near() {
        let all = [
            Reach::Public,
            Reach::Private,
            Reach::LinkLocal,
            Reach::Loopback,
        ];
        for from in all {
            let home = Home::default();
            home.learn(from);
            for to in all {
                let expected = match (from, to) {
                    (_, Reach::Public) | (Reach::LinkLocal, _) => true,
                    (Reach::Public, _) | (_, Reach::LinkLocal) => false,
                    _ => true,
                };
                assert_eq!(home.allow(to, "there").is_ok(), expected, "{from:?} {to:?}");
            }
        }
    }

    #[test]
    fn a_name_that_leads_here_is_refused() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let look_up = |home: Option<&Arc<Home>>, trusted: &[&str]| {
            let resolver = Resolver {
                home: home.cloned(),
                trusted: trusted.iter().map(|&host| host.to_owned()).collect(),
            };
            let name = "localhost".parse().unwrap();
            runtime.block_on(async { resolver.resolve(name).await.map(|_| ()) })
        };
        let home = Arc::new(Home::default());
        let error = look_up(Some(&home), &[]).unwrap_err().to_string();
        assert!(error.starts_with("localhost ("), "{error}");

        look_up(None, &[]).unwrap();
        look_up(Some(&home), &["localhost"]).unwrap();
        home.learn(Reach::Private);
        look_up(Some(&home), &[]).unwrap();
    }
}
