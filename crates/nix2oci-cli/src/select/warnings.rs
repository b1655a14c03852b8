//! What is no error and still not what people mean.

use std::path::Path;

use nix2oci::image::ImageConfig;
use nix2oci::layer::TarFile;
use nix2oci::oci::display_platform;
use nix2oci::sink::Destination;
use nix2oci::{Compression, Context, Event, ImageSpec};

use crate::args::Runtime;
use crate::exit::{Failure, Outcome};

use super::{start, user};

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
/// for the program below `store_root`; that it cannot start is an error if the
/// user is strict.
pub(crate) fn warn(
    cx: &Context,
    spec: &ImageSpec,
    store_root: Option<&Path>,
    loaders: Loaders<'_>,
) -> Outcome<()> {
    let mut warnings = Vec::new();
    unknown_keys(&spec.config, &mut warnings);
    platform(&spec.config, &mut warnings);
    let problem = start::problem(spec, store_root.unwrap_or(Path::new("/")));
    for problem in problem.into_iter().chain(user::problem(spec)) {
        if spec.strict {
            return Err(Failure::input(problem).hint("without --strict this is a warning"));
        }
        warnings.push(problem);
    }
    idle_rules(spec, &mut warnings);
    layer_tars(&spec.layer_tars, &mut warnings);
    health_check(&spec.whole_config(), &mut warnings);
    tell(cx, &warnings);
    let has_zstd = matches!(spec.packing.compression, Compression::Zstd { .. });
    warn_of_loaders(cx, loaders, has_zstd, !spec.names.is_empty());
    Ok(())
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

/// Warns of a file whose name says that it is compressed.
pub(crate) fn warn_of_file_name(cx: &Context, destination: &Destination) {
    const COMPRESSED: [&str; 7] = ["gz", "tgz", "zst", "tzst", "xz", "txz", "bz2"];
    let Destination::Archive { file } = destination else {
        return;
    };
    let extension = file.extension().and_then(|extension| extension.to_str());
    if extension.is_some_and(|extension| COMPRESSED.contains(&extension)) {
        let message = format!(
            "{} is a tar that is not compressed, since the layers in it are: name it .tar",
            file.display()
        );
        tell(cx, &[message]);
    }
}

fn tell(cx: &Context, warnings: &[String]) {
    for message in warnings {
        cx.observer.event(&Event::Warning { message });
    }
}

/// Warns of rules that are about nothing, such as a package's that is spelled
/// otherwise: what should be setuid would not be.
fn idle_rules(spec: &ImageSpec, warnings: &mut Vec<String>) {
    // What a tar holds may be what they are about: it was made by them.
    if !spec.layer_tars.is_empty() {
        return;
    }
    for rule in spec.idle_rules() {
        let pattern = rule.pattern.text();
        warnings.push(format!(
            "the rule for {pattern:?} is about nothing in the image: neither a store path nor a \
             file at the root has such a name"
        ));
    }
}

/// Warns of what podman drops of an image whose manifest is OCI's, loaded or
/// pulled: seen with podman 4.3, which keeps it where the manifest is Docker's.
fn health_check(config: &ImageConfig, warnings: &mut Vec<String>) {
    let said = config.config.get("Healthcheck");
    if said.is_some_and(|said| !said.is_null()) {
        warnings.push(
            "podman leaves out Healthcheck of the config, which OCI's images do not have: it is \
             in the config's bytes, and Docker reads it"
                .to_owned(),
        );
    }
}

/// Warns of what `check` will find.
fn layer_tars(tars: &[TarFile], warnings: &mut Vec<String>) {
    for tar in tars {
        let mut problems = tar.problems().iter().filter(|p| !p.is_harmless());
        let Some(first) = problems.next() else {
            continue;
        };
        let more = match problems.count() {
            0 => String::new(),
            n => format!(", and {n} more of the kind"),
        };
        let name = tar.path().display();
        warnings.push(format!(
            "--layer-tar {name}: {first}{more}; it is taken as it is"
        ));
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
