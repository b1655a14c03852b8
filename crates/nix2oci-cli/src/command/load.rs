//! `nix2oci load`

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use nix2oci::build::copy;
use nix2oci::image::ImageSource;
use nix2oci::layer::Codec;
use nix2oci::oci::Reference;
use nix2oci::sink::Archive;
use nix2oci::{Context, Digest, Error, ImageSink, build};

use crate::args::{LoadArgs, Runtime, UnknownRuntime};
use crate::display::{Summary, Talk};
use crate::exit::{Failure, Outcome, Status};
use crate::select::{AnyImage, Loaders, Reach};
use crate::{host, program, select, stdout};

use super::recipes::Recipes;

/// Hands an image to a local runtime.
pub(crate) fn load(args: &LoadArgs, talk: &Talk) -> Outcome {
    let start = Instant::now();
    let runtime = args.runtime.as_ref().map_err(unknown)?;
    refuse_remote(args, runtime)?;
    let recipe = select::stored_recipe(&args.image)?;
    let stored = match recipe {
        Some(_) => None,
        None => select::stored_image(&args.image)?,
    };
    let cx = select::context(args.image.run.threads, talk)?;
    let loaded = match (&recipe, &stored) {
        (Some(file), _) => load_recipe(&cx, file, args, runtime, talk)?,
        (None, Some(source)) => load_stored(&cx, source, args, runtime, talk)?,
        (None, None) => load_built(&cx, args, runtime, talk)?,
    };
    talk.done(&Summary {
        verb: "loaded into",
        destination: runtime.name().to_owned(),
        names: loaded.names.iter().map(Reference::whole).collect(),
        digest: loaded.digest.to_string(),
        layers: loaded.layers.len(),
        size: loaded.layers.iter().sum(),
        elapsed: start.elapsed(),
        peak_memory: host::peak_memory(),
    });
    stdout::deliver(format!("{}\n", loaded.digest).as_bytes())?;
    Ok(Status::Done)
}

/// What was loaded.
struct Loaded {
    digest: Digest,
    names: Vec<Reference>,
    /// The bytes of each blob.
    layers: Vec<u64>,
}

/// Says what is missing, or wrong, where the runtime should stand.
fn unknown(given: &UnknownRuntime) -> Failure {
    const EXPECTED: &str =
        "expected podman, docker, containerd[:NAMESPACE] or k3s[:DIR] as the last argument";
    let UnknownRuntime { text, problem } = given;
    if text.is_empty() {
        return Failure::usage(format!("no runtime is given: {EXPECTED}"));
    }
    // `result` may lead to what is only below --store-root.
    let is_image = text.contains('/') || Path::new(text).symlink_metadata().is_ok();
    if is_image && problem.is_empty() {
        return Failure::usage(format!("no runtime is given behind {text}: {EXPECTED}"));
    }
    Failure::usage(format!("{text:?} is no runtime{problem}: {EXPECTED}"))
}

/// Refuses an image of a registry: the runtime gets it from there by itself.
fn refuse_remote(args: &LoadArgs, runtime: &Runtime) -> Outcome<()> {
    let texts = args.image.roots.iter().map(|root| root.to_string_lossy());
    let Some(text) = texts.into_iter().find(|text| text.starts_with("docker://")) else {
        return Ok(());
    };
    let name = text.trim_start_matches("docker://");
    let failure = Failure::usage(format!(
        "{text} is in a registry, expected store paths or a stored image"
    ));
    Err(match runtime {
        Runtime::Podman => failure.hint(format!("`podman pull {name}` fetches it")),
        Runtime::Docker => failure.hint(format!("`docker pull {name}` fetches it")),
        Runtime::Containerd { namespace } => failure.hint(format!(
            "`ctr --namespace {namespace} images pull {name}` fetches it"
        )),
        Runtime::K3s { .. } => failure.hint(format!(
            "`nix2oci copy {text} -o FILE.tar` fetches it, and then FILE.tar can be loaded"
        )),
    })
}

fn load_built(cx: &Context, args: &LoadArgs, runtime: &Runtime, talk: &Talk) -> Outcome<Loaded> {
    let base = select::base(cx, &args.image, &args.registry, None)?;
    let reach = Reach::new(&args.registry, &args.caches, &args.cache);
    let mut spec = select::image(cx, &args.image, &base, &reach, talk)?;
    let (layers, network) = (&args.image.layers, base.network(None));
    select::keep_layers(cx, &mut spec, layers, &args.registry, network)?;
    let store_root = args.image.closure.contents.store_root.as_deref();
    check_name(runtime, &spec.names)?;
    select::warn(cx, &spec, store_root, Loaders::Of(runtime))?;
    let built = hand_over(cx, runtime, &spec.names, talk, |sink| {
        build(cx, &spec, sink)
    })?;
    Ok(Loaded {
        digest: built.manifest_digest,
        names: spec.names,
        layers: built.sizes().collect(),
    })
}

fn load_stored(
    cx: &Context,
    source: &ImageSource,
    args: &LoadArgs,
    runtime: &Runtime,
    talk: &Talk,
) -> Outcome<Loaded> {
    let image = AnyImage::Stored(source.clone());
    let reader = select::open_image(cx, &image, &args.registry)?;
    let image = reader.image(cx, args.image.config.platform.as_ref())?;
    let names = select::stored_names(&image, &args.image.config)?;
    let layers = || image.layers.iter().map(|layer| &layer.descriptor);
    check_name(runtime, &names)?;
    let has_zstd =
        layers().any(|layer| Codec::of_media_type(layer.media_type()) == Some(Codec::Zstd));
    select::warn_of_loaders(cx, Loaders::Of(runtime), has_zstd, !names.is_empty());
    hand_over(cx, runtime, &names, talk, |sink| {
        copy(cx, &reader, &image, &names, sink)
    })?;
    Ok(Loaded {
        digest: image.raw_manifest.digest(),
        names,
        layers: layers().map(nix2oci::oci::Descriptor::size).collect(),
    })
}

/// Makes the image or the index that a recipe is of.
fn load_recipe(
    cx: &Context,
    file: &Path,
    args: &LoadArgs,
    runtime: &Runtime,
    talk: &Talk,
) -> Outcome<Loaded> {
    let base = select::base(cx, &args.image, &args.registry, None)?;
    let reach = Reach::new(&args.registry, &args.caches, &args.cache);
    let contents = &args.image.closure.contents;
    let mut recipes = Recipes::read(cx, file, contents, &reach)?;
    let config = &args.image.config;
    recipes.choose(config.platform.as_ref())?;
    let name = config.name.as_deref();
    let names = select::own_names(name, &config.tag, || recipes.names())?;
    check_name(runtime, &names)?;
    let has_name = !names.is_empty();
    select::warn_of_loaders(cx, Loaders::Of(runtime), recipes.has_zstd(), has_name);
    let (digest, layers) = hand_over(cx, runtime, &names, talk, |sink| {
        recipes.put(cx, base.image.as_ref(), &names, sink)
    })?;
    Ok(Loaded {
        digest,
        names,
        layers,
    })
}

/// Refuses an image without a name where nobody would find it: containerd takes
/// it and shows nothing.
fn check_name(runtime: &Runtime, names: &[Reference]) -> Outcome<()> {
    match runtime {
        Runtime::Containerd { .. } | Runtime::K3s { .. } if names.is_empty() => {
            Err(Failure::usage(format!(
                "the image has no name, and {} imports nothing that has none",
                runtime.name()
            ))
            .hint("say --name REF"))
        }
        _ => Ok(()),
    }
}

/// Lets `write` write an archive to where the runtime takes it.
fn hand_over<T>(
    cx: &Context,
    runtime: &Runtime,
    names: &[Reference],
    talk: &Talk,
    write: impl FnOnce(&mut dyn ImageSink) -> nix2oci::Result<T>,
) -> Outcome<T> {
    let mut command;
    match runtime {
        Runtime::Podman => {
            command = Command::new("podman");
            command.args(["load", "--quiet"]);
        }
        Runtime::Docker => {
            command = Command::new("docker");
            command.args(["load", "--quiet"]);
        }
        Runtime::Containerd { namespace } => {
            command = Command::new("ctr");
            command.args(["--namespace", namespace, "images", "import", "-"]);
        }
        Runtime::K3s { dir, is_default } => {
            if *is_default {
                make_k3s_dir(dir)?;
            }
            let name = names.first().expect("an image without a name was refused");
            let file = dir.join(file_name(name));
            talk.note(|| format!("writing {}", file.display()));
            return Ok(write(&mut Archive::create(&file)?)?);
        }
    }
    program::feed(command, &cx.cancel, talk, write)
}

/// Makes the directory for images of a k3s that is there: k3s reads it and does
/// not make it.
fn make_k3s_dir(dir: &Path) -> Outcome<()> {
    let installed = dir.ancestors().nth(2).expect("the default is deeper");
    if !installed.is_dir() {
        return Err(Failure::output(format!(
            "there is no {}, so no k3s on this machine",
            installed.display()
        ))
        .hint("k3s:DIR names the directory, if its data is elsewhere (--data-dir)"));
    }
    std::fs::create_dir_all(dir).map_err(Error::writing("create", dir))?;
    Ok(())
}

/// Returns a file's name for an image, another for each. Neither `+` nor `@`
/// is in a name, and k3s goes by the end alone.
fn file_name(name: &Reference) -> String {
    format!("{}.tar", name.whole().replace('/', "+").replace(':', "@"))
}

#[cfg(test)]
mod tests {
    use nix2oci::oci::parse_name;

    use super::*;

    #[test]
    fn a_file_is_named_by_its_image() {
        for (name, file) in [
            ("hello", "docker.io+library+hello@latest.tar"),
            ("localhost:5000/a/b:v1", "localhost@5000+a+b@v1.tar"),
        ] {
            assert_eq!(file_name(&parse_name(name).unwrap()), file);
        }
    }

    #[test]
    fn a_machine_without_k3s_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let images = dir.path().join("k3s/agent/images");
        assert_eq!(make_k3s_dir(&images).unwrap_err().status().code(), 4);
        std::fs::create_dir(dir.path().join("k3s")).unwrap();
        make_k3s_dir(&images).unwrap();
        assert!(images.is_dir());
    }
}
