//! What a user can try after an error of a binary cache.

use std::error::Error;

/// Returns whether errors name a binary cache by this: by its address, while
/// registries are named by their host.
pub(super) fn is_cache(name: &str) -> bool {
    name.contains("://")
}

/// No cache has a store path.
pub(super) fn unknown_path(path: &str) -> String {
    format!(
        "is it in another cache? --closure cache:URL may be given more than once; `nix copy --to \
         URL {path}` puts it into one, with all that it refers to"
    )
}

/// No cache has what a store path refers to.
pub(super) fn missing_reference() -> String {
    "a cache of one's own often lacks what others have: say --closure \
     cache:https://cache.nixos.org as well; `nix copy --to URL` puts all that a store path \
     refers to into a cache"
        .to_owned()
}

/// A cache refused to answer.
pub(super) fn denied(cache: &str) -> String {
    let host = host(cache);
    format!(
        "a private cache wants to know who asks: `machine {host} login USER password PASSWORD` in \
         a file for --netrc-file, or --cache-header @FILE with a token"
    )
}

/// A cache answered with an error, or with what makes no sense.
pub(super) fn answer(action: &str, status: Option<u16>, problem: &str) -> Option<String> {
    let hint = match status {
        _ if action.starts_with("give the NAR") && problem.contains("but has no") => {
            "the cache knows of the store path and does not have its content: was it collected, or \
             is it being copied just now? Another cache may have it (--content cache:URL, more \
             than once)"
        }
        Some(429) => "the cache limits how often it is asked: fewer --jobs, or try again later",
        Some(500..) => "the cache has trouble of its own: try again later, or name another one",
        None if problem.contains("nix-cache-info") => return Some(no_cache()),
        _ => return None,
    };
    Some(hint.to_owned())
}

/// A cache could not be reached.
pub(super) fn connection(cache: &str, cause: &(dyn Error + 'static)) -> Option<String> {
    let problem = cause.to_string();
    let says = |words: &str| problem.contains(words);
    let host = host(cache);
    let hint = if says("failed to lookup address") {
        format!(
            "is {host} spelled right, and is this machine in the network that knows it? A proxy \
             is taken from HTTPS_PROXY"
        )
    } else if says("connection refused") {
        "does the server run, and are scheme and port of the address right?".to_owned()
    } else if says("does not speak TLS") {
        format!(
            "http://{host} speaks HTTP without TLS; signatures are checked all the same, but \
             credentials can be read on the way"
        )
    } else if says("authority that is not trusted") {
        "--ca-file FILE names the authority that signed it".to_owned()
    } else if says("certificate has expired") || says("certificate is not valid yet") {
        "is the clock of this machine right?".to_owned()
    } else if says("proxy authorization required") {
        "the proxy's credentials stand in its address: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"
            .to_owned()
    } else if says("no connection in time") {
        "is there a firewall on the way? A proxy is taken from HTTPS_PROXY".to_owned()
    } else {
        return None;
    };
    Some(hint)
}

/// Nobody who is trusted vouches for a store path.
pub(super) fn untrusted(path: &str, cache: &str, problem: &str) -> String {
    if problem.starts_with("is not signed") {
        return format!(
            "whoever fills the cache signs what is in it, as `nix copy --to \
             '{cache}?secret-key=FILE' {path}` does; --no-check-sigs believes it as it is"
        );
    }
    if problem.starts_with("has no valid signature") {
        return format!(
            "what the cache says was changed since it was signed, or the key that \
             --trusted-public-key names is another one of that name: ask whoever runs {cache}"
        );
    }
    format!(
        "--trusted-public-key NAME:KEY believes a key of the cache: its owner publishes it, and \
         nix.conf of a machine that uses {cache} has it in trusted-public-keys"
    )
}

/// What was fetched is not what it must be.
pub(super) fn nar(from: &str, path: &str) -> String {
    if is_cache(from) {
        return format!(
            "the cache is damaged, or something on the way to it is: `nix store verify --store \
             {from} {path}` looks there, and `nix copy --to` fills it again; another cache may \
             have it whole (--content cache:URL)"
        );
    }
    format!("the store is damaged: `nix-store --repair-path {path}` fetches or builds it again")
}

/// What a cache says of a store path makes no sense.
pub(super) fn narinfo() -> String {
    "is it the address of a binary cache, and does nothing on the way answer in its place? If \
     Nix reads it, please report this as a defect"
        .to_owned()
}

/// An address at which no binary cache is.
pub(super) fn no_cache() -> String {
    "a binary cache has a file nix-cache-info at its address: is something of the address \
     missing, such as the bucket or a directory?"
        .to_owned()
}

/// Returns the host of a cache's address.
fn host(cache: &str) -> &str {
    let rest = cache.split_once("://").map_or(cache, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_cache_is_told_of_netrc() {
        let told = denied("https://cache.example:8443/team");
        assert!(told.contains("machine cache.example:8443 login"), "{told}");
    }

    #[test]
    fn a_missing_path_can_be_put_into_a_cache() {
        let told = unknown_path("/nix/store/x");
        assert!(told.contains("`nix copy --to URL /nix/store/x`"), "{told}");
    }

    #[test]
    fn what_is_not_signed_and_what_others_signed_are_told_apart() {
        let told = |problem| untrusted("/nix/store/x", "file:///c", problem);
        assert!(told("is not signed").contains("--to 'file:///c?secret-key=FILE' /nix/store/x"));
        let others =
            told("is signed by \"a-1\", which is not trusted (trusted: cache.nixos.org-1)");
        assert!(others.starts_with("--trusted-public-key"), "{others}");
        let forged = told("has no valid signature by a trusted key (cache.nixos.org-1)");
        assert!(forged.contains("was changed since"), "{forged}");
    }

    #[test]
    fn an_answer_without_sense_gets_no_hint() {
        assert_eq!(
            answer("tell of /nix/store/x", Some(400), "status 400"),
            None
        );
        let gone = "it tells of the store path, but has no nar/x.nar.xz";
        let told = answer("give the NAR of /nix/store/x", None, gone).unwrap();
        assert!(told.contains("was it collected"), "{told}");
        assert!(is_cache("https://a") && !is_cache("ghcr.io"));
    }
}
