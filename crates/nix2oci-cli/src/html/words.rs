//! Names that came from an image.

use std::fmt::Write as _;

use nix2oci::store::PackageName;

/// Returns a text in which everything is seen that is there: control
/// characters, marks that turn the direction of text, and what has no width
/// are spelled out as `\u{202e}`.
///
/// HTML is not escaped here but by the template.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unseen(c) {
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The parts of a store path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// The name without a version; of what is no store path, all of it.
    pub(super) name: &'a str,
    /// The version, perhaps none.
    pub(super) version: &'a str,
    /// The digits before the name; their beginning and `…` if no more is known.
    pub(super) hash: &'a str,
}

/// Takes a store path apart, or the last part of one.
pub(super) fn parts(path: &str) -> Parts<'_> {
    let base = path.rsplit('/').next().unwrap_or(path);
    let Some((hash, name)) = base
        .split_once('-')
        .filter(|(hash, name)| (hash.len() == 32 || hash.ends_with('…')) && !name.is_empty())
    else {
        return Parts {
            name: path,
            version: "",
            hash: "",
        };
    };
    let package = PackageName::of(name);
    // The version with the output, as `2.40-66-dev`.
    let version = name[package.name.len()..].trim_start_matches('-');
    Parts {
        name: package.name,
        version,
        hash,
    }
}

/// Returns what is told of a layer, and that it is of the base if it is.
pub(super) fn of_base(is_base: Option<bool>, told: String) -> String {
    match (is_base, told.is_empty()) {
        (Some(true), true) => "of the base".to_owned(),
        (Some(true), false) => format!("of the base: {told}"),
        _ => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_spelled_out() {
        assert_eq!(visible("é漢-1.2+b"), "é漢-1.2+b");
        assert_eq!(
            visible("a\u{202e}b\u{2028}\n\u{feff}\u{0}"),
            "a\\u{202e}b\\u{2028}\\u{a}\\u{feff}\\u{0}"
        );
    }

    #[test]
    fn a_store_path_has_a_name_and_a_version() {
        let hash = "0".repeat(32);
        for (name, want) in [
            ("glibc-2.40-66", ("glibc", "2.40-66")),
            ("python3-3.12.8", ("python3", "3.12.8")),
            ("gcc-wrapper-14.2.0-lib", ("gcc-wrapper", "14.2.0-lib")),
            ("source", ("source", "")),
            ("-1", ("-1", "")),
        ] {
            let path = format!("/nix/store/{hash}-{name}");
            let parts = parts(&path);
            assert_eq!((parts.name, parts.version), want, "{name}");
            assert_eq!(parts.hash, hash);
        }
        assert_eq!(parts("01ab…-hello-2.12").name, "hello");
        assert_eq!(parts("/etc/passwd").name, "/etc/passwd");
    }
}
