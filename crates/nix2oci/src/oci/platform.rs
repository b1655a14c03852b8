//! Platforms as people and Nix write them.

use oci_spec::image::{Arch, Os};

use super::Platform;

/// A text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a platform: expected os/architecture[/variant] such as linux/amd64, or a Nix system such as x86_64-linux"
)]
pub struct ParsePlatformError {
    text: String,
}

/// Parses `os/architecture[/variant]`, such as `linux/arm/v7`, or a Nix
/// system, such as `armv7l-linux`.
///
/// Names of the kernel's kind (`x86_64`, `aarch64`) become those that images
/// use, which are Go's; names that nobody knows are kept.
pub fn parse_platform(text: &str) -> Result<Platform, ParsePlatformError> {
    parse_os_first(text)
        .or_else(|| parse_nix_system(text))
        .ok_or_else(|| ParsePlatformError {
            text: text.to_owned(),
        })
}

fn parse_os_first(text: &str) -> Option<Platform> {
    let mut parts = text.split('/');
    let (os, machine, variant) = (parts.next()?, parts.next()?, parts.next());
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"_.-".contains(&c))
    };
    if parts.next().is_some()
        || ![Some(os), Some(machine), variant]
            .into_iter()
            .flatten()
            .all(is_word)
    {
        return None;
    }
    let (architecture, implied) = known_machine(machine).unwrap_or((machine, None));
    Some(platform(os, architecture, variant.or(implied)))
}

fn parse_nix_system(text: &str) -> Option<Platform> {
    let (machine, os) = text.split_once('-')?;
    let (architecture, variant) = known_machine(machine)?;
    // Images run on Linux; a closure for another system is a mistake that
    // should not be turned into an image that no loader takes.
    (os == "linux").then(|| platform(os, architecture, variant))
}

/// Returns Go's architecture and variant for a machine as Nix and the kernel
/// call it.
fn known_machine(machine: &str) -> Option<(&'static str, Option<&'static str>)> {
    Some(match machine {
        "x86_64" => ("amd64", None),
        "i386" | "i486" | "i586" | "i686" => ("386", None),
        "aarch64" => ("arm64", None),
        "armv5tel" => ("arm", Some("v5")),
        "armv6l" => ("arm", Some("v6")),
        "armv7a" | "armv7l" => ("arm", Some("v7")),
        "loongarch64" => ("loong64", None),
        "mips64el" => ("mips64le", None),
        "mipsel" => ("mipsle", None),
        "powerpc64" => ("ppc64", None),
        "powerpc64le" => ("ppc64le", None),
        "riscv64" => ("riscv64", None),
        "s390x" => ("s390x", None),
        _ => return None,
    })
}

fn platform(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
    let mut platform = Platform::default();
    platform.set_os(Os::from(os));
    platform.set_architecture(Arch::from(architecture));
    platform.set_variant(variant.map(str::to_owned));
    platform
}

/// Writes a platform as `os/architecture[/variant]`.
pub fn display_platform(platform: &Platform) -> String {
    let mut text = format!("{}/{}", platform.os(), platform.architecture());
    if let Some(variant) = platform.variant() {
        text.push('/');
        text.push_str(variant);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_in_every_spelling() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/arm64/v8", "linux/arm64/v8"),
            ("linux/armv7l", "linux/arm/v7"),
            ("windows/amd64", "windows/amd64"),
            ("linux/newcpu", "linux/newcpu"),
            ("x86_64-linux", "linux/amd64"),
            ("i686-linux", "linux/386"),
            ("aarch64-linux", "linux/arm64"),
            ("armv6l-linux", "linux/arm/v6"),
            ("armv7l-linux", "linux/arm/v7"),
            ("riscv64-linux", "linux/riscv64"),
            ("powerpc64le-linux", "linux/ppc64le"),
            ("s390x-linux", "linux/s390x"),
        ] {
            let platform = parse_platform(text).unwrap();
            assert_eq!(display_platform(&platform), expected, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "linux",
            "amd64",
            "linux/",
            "/amd64",
            "linux/amd64/",
            "linux/arm/v7/x",
            "Linux/amd64",
            "linux/amd 64",
            "x86_64-darwin",
            "riscv128-linux",
        ] {
            assert!(parse_platform(text).is_err(), "{text}");
        }
    }
}
