//! What a store path's name says of the package in it.

/// The name of a store path, split into the package's name, its version and
/// which of its outputs this is.
///
/// A guess, as every tool makes it: the name alone does not tell where a
/// version begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageName<'a> {
    /// The package: `openssl`. Never empty.
    pub name: &'a str,
    /// Its version: `3.0.13`; empty if there is none.
    pub version: &'a str,
    /// The output: `dev`; empty if none is named.
    pub output: &'a str,
}

/// What nixpkgs calls outputs, of those that may follow a version. Anything
/// else after it, such as `rc` or `unstable`, belongs to the version.
const OUTPUTS: &[&str] = &[
    "bin", "cc", "data", "debug", "dev", "devdoc", "dist", "doc", "getent", "info", "lib", "lib32",
    "lib64", "libgcc", "man", "modules", "out", "py", "python", "static", "terminfo",
];

impl<'a> PackageName<'a> {
    /// Splits the name of a store path.
    ///
    /// The version begins after the first dash that no letter follows, as in
    /// `builtins.parseDrvName` (NixOS/nix 2.24, `DrvName::DrvName` in
    /// `src/libstore/names.cc`). A dash at the very beginning is part of the
    /// name, which `parseDrvName` leaves empty then.
    pub fn of(name: &'a str) -> Self {
        let bytes = name.as_bytes();
        let is_split = |at: &usize| {
            bytes[*at] == b'-'
                && bytes
                    .get(at + 1)
                    .is_some_and(|next| !next.is_ascii_alphabetic())
        };
        let Some(dash) = (1..bytes.len()).find(is_split) else {
            return Self {
                name,
                version: "",
                output: "",
            };
        };
        let whole = &name[dash + 1..];
        let (version, output) = match whole.rsplit_once('-') {
            Some((version, output)) if OUTPUTS.contains(&output) => (version, output),
            _ => (whole, ""),
        };
        Self {
            name: &name[..dash],
            version,
            output,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_version_begins_where_nix_says() {
        for (name, expected) in [
            ("openssl-3.0.13", ("openssl", "3.0.13", "")),
            ("openssl-3.0.13-dev", ("openssl", "3.0.13", "dev")),
            ("glibc-2.40-66-bin", ("glibc", "2.40-66", "bin")),
            ("gcc-14.3.0-lib", ("gcc", "14.3.0", "lib")),
            (
                "python3.12-requests-2.32.3",
                ("python3.12-requests", "2.32.3", ""),
            ),
            ("hello", ("hello", "", "")),
            ("my-app", ("my-app", "", "")),
            // Without a version there is nothing that an output could follow.
            ("my-lib", ("my-lib", "", "")),
            ("linux-6.12-rc1", ("linux", "6.12-rc1", "")),
            (
                "foo-1.0-unstable-2024-01-01",
                ("foo", "1.0-unstable-2024-01-01", ""),
            ),
            ("foo-1.0-beta", ("foo", "1.0-beta", "")),
            ("xorg-server-_1.patch", ("xorg-server", "_1.patch", "")),
            ("foo-", ("foo-", "", "")),
            ("-1", ("-1", "", "")),
            ("foo--bar", ("foo", "-bar", "")),
            ("", ("", "", "")),
        ] {
            let found = PackageName::of(name);
            assert_eq!(
                (found.name, found.version, found.output),
                expected,
                "{name}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_parts_make_the_whole(name in "[a-z0-9.+_?=-]{1,30}") {
            let found = PackageName::of(&name);
            let parts = [found.name, found.version, found.output];
            let given = parts.iter().filter(|part| !part.is_empty()).copied();
            prop_assert!(!found.name.is_empty());
            prop_assert_eq!(given.collect::<Vec<_>>().join("-"), name);
        }
    }
}
