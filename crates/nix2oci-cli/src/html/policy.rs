//! What a browser may load: nothing but what is in the page.

use data_encoding::BASE64;
use nix2oci::Digest;

/// Returns the page's Content-Security-Policy: only these stylesheets, only
/// this script, and nothing from anywhere else.
///
/// The texts must be the elements' contents to the byte. The empty picture
/// is the page's icon, which a browser would ask a server for.
pub(super) fn policy(styles: &[&str], script: &str) -> String {
    let styles: Vec<_> = styles.iter().map(|style| source(style)).collect();
    format!(
        "default-src 'none'; style-src {}; script-src {}; img-src data:; base-uri 'none'; form-action 'none'",
        styles.join(" "),
        source(script)
    )
}

fn source(text: &str) -> String {
    let digest = Digest::of(text.as_bytes());
    format!("'sha256-{}'", BASE64.encode(digest.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_the_hash_that_browsers_compute() {
        // The example of the specification (CSP level 2, 7.15).
        assert_eq!(
            source("alert('Hello, world.');"),
            "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
        );
    }
}
