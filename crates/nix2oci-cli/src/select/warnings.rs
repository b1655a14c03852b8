//! What is no error and still not what people mean.

use std::path::Path;

use nix2oci::image::ImageConfig;
use nix2oci::oci::display_platform;
use nix2oci::plan::{RootNode, RootTree};
use nix2oci::sink::Destination;
use nix2oci::{Compression, Context, Event, ImageSpec, StoreDir};
use serde_json::Value;

use crate::args::Runtime;

/// Architectures that Go builds for; images have no others.
///
/// Source: `go tool dist list` of Go 1.25, which the OCI image specification
/// refers to.
const ARCHITECTURES: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
    "ppc64le", "riscv64", "s390x", "wasm",
];

/// Operating systems for which there are images or may be.
const SYSTEMS: &[&str] = &["freebsd", "linux", "wasip1", "windows"];

/// What will read an archive.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Loaders<'a> {
    /// There is no archive.
    None,
    /// Nobody knows.
    Any,
    /// The loader of this runtime.
    Of(&'a Runtime),
}

impl Loaders<'_> {
    /// Returns what reads an image that goes to `destination`.
    pub(crate) fn at(destination: &Destination) -> Self {
        match destination {
            Destination::Archive { .. } | Destination::Stdout => Self::Any,
            _ => Self::None,
        }
    }
}

/// Warns of what an image will meet where it is loaded and where it runs. Looks
/// for the program below `store_root`.
pub(crate) fn warn(
    cx: &Context,
    spec: &ImageSpec,
    store_root: Option<&Path>,
    loaders: Loaders<'_>,
) {
    let mut warnings = Vec::new();
    unknown_keys(&spec.config, &mut warnings);
    platform(&spec.config, &mut warnings);
    warnings.extend(program(spec, store_root.unwrap_or(Path::new("/"))));
    tell(cx, &warnings);
    let has_zstd = matches!(spec.packing.compression, Compression::Zstd { .. });
    warn_of_loaders(cx, loaders, has_zstd, !spec.names.is_empty());
}

/// Warns of what those who read an archive make of it.
pub(crate) fn warn_of_loaders(cx: &Context, loaders: Loaders<'_>, has_zstd: bool, has_name: bool) {
    let mut warnings = Vec::new();
    if has_zstd {
        match loaders {
            Loaders::Any => warnings.push(
                "Docker 20.10 cannot load zstd layers from an archive; podman, containerd, skopeo \
                 and newer Docker can. --compression gzip is for all of them"
                    .to_owned(),
            ),
            Loaders::Of(Runtime::Docker) => warnings.push(
                "Docker 20.10 cannot load zstd layers, newer Docker can; layers built with \
                 --compression gzip are for both"
                    .to_owned(),
            ),
            _ => {}
        }
    }
    if !has_name {
        match loaders {
            Loaders::Any => warnings.push(
                "containerd and k3s import nothing that has no name: say --name REF".to_owned(),
            ),
            Loaders::Of(runtime) => warnings.push(format!(
                "the image has no name, and {} will list it by its ID alone: say --name REF",
                runtime.name()
            )),
            Loaders::None => {}
        }
    }
    tell(cx, &warnings);
}

fn tell(cx: &Context, warnings: &[String]) {
    for message in warnings {
        cx.observer.event(&Event::Warning { message });
    }
}

fn unknown_keys(config: &ImageConfig, warnings: &mut Vec<String>) {
    for unknown in config.unknown_keys() {
        let meant = unknown.similar.map_or_else(
            || "it is kept, but nothing is known to read it".to_owned(),
            |similar| format!("is {similar} meant?"),
        );
        warnings.push(format!("--config: unknown key {}; {meant}", unknown.key));
    }
}

fn platform(config: &ImageConfig, warnings: &mut Vec<String>) {
    let platform = &config.platform;
    for (what, name, known) in [
        ("operating system", platform.os().to_string(), SYSTEMS),
        (
            "processor",
            platform.architecture().to_string(),
            ARCHITECTURES,
        ),
    ] {
        if !known.contains(&name.as_str()) {
            warnings.push(format!(
                "platform {}: no loader knows the {what} {name}; known are {}",
                display_platform(platform),
                known.join(", ")
            ));
        }
    }
}

/// Finds out whether the image can start.
fn program(spec: &ImageSpec, root: &Path) -> Option<String> {
    let words = |key: &str| -> Option<Vec<&str>> {
        let words = spec.config.config.get(key)?.as_array()?;
        let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
        (!words.is_empty()).then_some(words)
    };
    let found = words("Entrypoint").map(|words| ("entrypoint", words));
    let Some((what, words)) = found.or_else(|| Some(("cmd", words("Cmd")?))) else {
        return Some(
            "the image has no entrypoint and no cmd, so `podman run` will need a command; \
             --entrypoint /nix/store/…/bin/… says what to start"
                .to_owned(),
        );
    };
    let program = *words.first()?;
    let store_dir = spec.closure.store_dir();
    let problem = match store_dir.split(program) {
        Ok((path, _)) if spec.closure.find(&path).is_none() => {
            Some(format!("is in {path}, which is not in the image"))
        }
        Ok(_) => is_missing(root, program).then(|| "is not there".to_owned()),
        Err(_) => (program.starts_with('/') && !may_be_in(&spec.root_tree, store_dir, program))
            .then(|| {
                "will not be in the image: say its path in the store, or --contents, which \
                 links files to the root"
                    .to_owned()
            }),
    }?;
    if program.contains(char::is_whitespace) {
        return Some(format!(
            "the {what} {program:?} is one word and no file; it is not split at spaces: say \
             --{what} once for each word, or give a JSON array"
        ));
    }
    Some(format!("the {what} {program} {problem}"))
}

/// Returns whether nothing is at an absolute path below `root`. Where a symlink
/// is on the way, only the container knows where it leads.
fn is_missing(root: &Path, file: &str) -> bool {
    let mut at = root.to_owned();
    for name in Path::new(file.trim_start_matches('/')) {
        at.push(name);
        match at.symlink_metadata() {
            Ok(found) if found.is_symlink() => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::NotFound,
        }
    }
    false
}

/// Returns whether the root tree has a file, or a symlink on the way to it.
fn may_be_in(tree: &RootTree, store_dir: &StoreDir, file: &str) -> bool {
    let file = Path::new(file.trim_start_matches('/'));
    let is_in_store = Path::new("/").join(file).starts_with(store_dir.as_path());
    is_in_store
        || tree.nodes().any(|(path, node, _)| {
            let path = String::from_utf8_lossy(path);
            !matches!(node, RootNode::Directory) && file.starts_with(&*path)
        })
}
