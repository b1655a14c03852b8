//! The floors of ARCHITECTURE.md: in the library an import points down, or left
//! on its own floor.
//!
//! Every path that starts at the crate's root counts, in `use` and elsewhere,
//! in tests as well; comments and texts do not.

use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up; on a floor from left to right.
const FLOORS: &[&[&str]] = &[
    &[
        "digest",
        "store",
        "oci",
        "error",
        "context",
        "input",
        "credentials",
    ],
    &["decode", "parallel", "net"],
    &["binary_cache", "daemon", "closure", "content"],
    &["plan"],
    &["layer"],
    &["image"],
    &["registry", "sink"],
    &["build"],
];

/// Returns the floor of a module and its place there.
fn place(module: &str) -> Option<(usize, usize)> {
    FLOORS.iter().enumerate().find_map(|(floor, modules)| {
        let at = modules.iter().position(|name| *name == module)?;
        Some((floor, at))
    })
}

/// Returns what is wrong with the imports of one file, which lies at `path`
/// below the library's `src`.
fn offences(path: &Path, source: &str) -> Vec<String> {
    let names: Vec<_> = path
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .filter(|name| name != "mod")
        .collect();
    let Some(here) = place(&names[0]) else {
        return vec![format!("{}: {} has no floor", path.display(), names[0])];
    };
    let mut offences = Vec::new();
    for module in imports(&code(source), names.len()) {
        match place(&module) {
            Some(there) if there.0 > here.0 => {
                offences.push(format!(
                    "{}: {module} is above {}",
                    path.display(),
                    names[0]
                ));
            }
            Some(there) if there.0 == here.0 && there.1 > here.1 => {
                offences.push(format!(
                    "{}: {module} is right of {}",
                    path.display(),
                    names[0]
                ));
            }
            Some(_) => {}
            None => {
                offences.push(format!("{}: {module} has no floor", path.display()));
            }
        }
    }
    offences
}

/// Returns the source with comments and the insides of texts left out.
fn code(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_text(rest, code.chars().last()) {
            let open = hashes + 2;
            let close = format!("\"{}", "#".repeat(hashes));
            rest[open..]
                .find(&close)
                .map_or(rest.len(), |end| open + end + close.len())
        } else if next == '"' {
            text(rest)
        } else if next == '\'' {
            character(rest)
        } else {
            0
        };
        if skipped == 0 {
            code.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

/// Returns the number of `#` if a raw text begins here.
fn raw_text(rest: &str, before: Option<char>) -> Option<usize> {
    let inside_a_name = before.is_some_and(|c| (c.is_alphanumeric() && c != 'b') || c == '_');
    let after = rest.strip_prefix('r').filter(|_| !inside_a_name)?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// Returns the length of the text that begins here, quotes included.
fn text(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Returns the length of the character that begins here; 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(0, |end| end + 4),
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

/// Returns the modules at the crate's root that the code names.
///
/// `depth` is how many modules the file is below the root: as many `super` lead
/// there as well.
fn imports(code: &str, depth: usize) -> Vec<String> {
    let mut imports = Vec::new();
    for start in ["crate::".to_owned(), "super::".repeat(depth)] {
        for (at, _) in code.match_indices(&start) {
            let part_of_a_longer_path = code[..at]
                .chars()
                .next_back()
                .is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
            if part_of_a_longer_path {
                continue;
            }
            let mut modules = Vec::new();
            heads(&code[at + start.len()..], &mut modules);
            if start.starts_with("super") {
                // In a module inside the file this many do not reach the root.
                modules.retain(|module| place(module).is_some());
            }
            imports.append(&mut modules);
        }
    }
    imports
}

/// Adds the first name of the path, or of each path in the braces.
fn heads(path: &str, heads: &mut Vec<String>) {
    let path = path.trim_start();
    let Some(group) = path.strip_prefix('{') else {
        let end = path
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(path.len());
        heads.push(path[..end].to_owned());
        return;
    };
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                if !group[start..at].trim().is_empty() {
                    self::heads(&group[start..at], heads);
                }
                start = at + 1;
                if c == '}' {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// Returns the Rust files below a folder, in order.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the library's source is there") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn imports_point_down_or_left() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/nix2oci/src");
    let files = rust_files(&src);
    assert!(files.len() > 20, "{files:?}");
    let mut offences = Vec::new();
    for file in files {
        let path = file
            .strip_prefix(&src)
            .expect("the file is below the folder");
        if path == Path::new("lib.rs") {
            continue;
        }
        let source = fs::read_to_string(&file).expect("the file can be read");
        offences.extend(self::offences(path, &source));
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn a_wrong_import_is_caught() {
    for (path, source, expected) in [
        (
            "store/path.rs",
            "use crate::build::ImageSpec;",
            "build is above store",
        ),
        (
            "plan/mod.rs",
            "use crate::{\n    error::Result,\n    layer::{Blob, Packing},\n};",
            "layer is above plan",
        ),
        (
            "closure/graph.rs",
            "fn f() -> crate::content::Entry { todo() }",
            "content is right of closure",
        ),
        (
            "digest.rs",
            "pub(crate) use crate::error::Error;",
            "error is right of digest",
        ),
        (
            "layer/tar.rs",
            "let quote = '\"'; use super::super::sink::ImageSink;",
            "sink is above layer",
        ),
        (
            "plan/mod.rs",
            "use super::build::build;",
            "build is above plan",
        ),
        (
            "content/local.rs",
            "use crate::utils::read;",
            "utils has no floor",
        ),
        ("helpers.rs", "", "helpers has no floor"),
    ] {
        let found = offences(Path::new(path), source);
        assert_eq!(found, [format!("{path}: {expected}")], "{source}");
    }
}

#[test]
fn a_right_import_is_not_caught() {
    for (path, source) in [
        (
            "build/build.rs",
            "use crate::{closure::Closure, sink::{self, ImageSink}};",
        ),
        (
            "sink/archive.rs",
            "use crate::registry::Client; use super::image_sink::ImageSink;",
        ),
        (
            "content/nar_hash.rs",
            "/// See [`crate::build`].\nuse crate::closure::Closure; // crate::sink",
        ),
        (
            "store/path.rs",
            "const TEXT: &str = \"crate::build\"; const RAW: &str = r#\"\"crate::layer\"#;",
        ),
        (
            "plan/mod.rs",
            "mod tests { use super::*; use super::strategy::Groups; fn f<'a>(x: &'a str) {} }",
        ),
        (
            "error.rs",
            "use crate::store::StorePath; use crate::digest::Digest;",
        ),
        (
            "layer/mod.rs",
            "/* crate::sink */ use other_crate::build; use some::crate_name::sink;",
        ),
    ] {
        let found = offences(Path::new(path), source);
        assert!(found.is_empty(), "{found:?} in {source}");
    }
}
