//! `nix2oci layer`

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use nix2oci::build::{LAYER_FILE, LayerFileReference, UsedLayers, make_layers};
use nix2oci::layer::LayerHistory;
use nix2oci::{Digest, Error, ErrorKind, StoreDir};

use crate::args::{ConfigArgs, MakeLayerArgs};
use crate::display::{Summary, Talk};
use crate::exit::{Failure, Outcome, Status};
use crate::output::PendingFile;
use crate::select::{Base, Reach};
use crate::{host, select};

/// Makes layers without an image.
pub(crate) fn layer(args: &MakeLayerArgs, talk: &Talk) -> Outcome {
    let start = Instant::now();
    refuse_config(&args.image.config)?;
    if args.image.base.from.is_some() {
        return Err(about_an_image("--from"));
    }
    if args.image.layers.no_store_paths {
        return Err(Failure::usage(
            "--no-store-paths leaves nothing that a layer could have",
        ));
    }
    let cx = select::context(args.image.run.threads, talk)?;
    let reach = Reach::new(&args.registry, &args.caches, &args.cache);
    let mut spec = select::image(&cx, &args.image, &Base::default(), &reach, talk)?;
    select::keep_layers(&cx, &mut spec, &args.image.layers, &args.registry, None)?;
    // Those that are used are none of those that are made.
    spec.max_layers = spec.max_layers.saturating_add(spec.used_layers.len());
    let used = UsedLayers::read(&cx, &args.image.layers.use_layer)?;
    let dir = NewDir::make(&args.output)?;
    let uses = references(
        used.references,
        &args.image.layers.use_layer,
        dir.path(),
        &args.image.closure.store_dir,
    );
    let document = PendingFile::new(&dir.path().join(LAYER_FILE))?;
    let mut history = LayerHistory::default();
    history.created_by.clone_from(&args.created_by);
    history.author.clone_from(&args.image.config.author);
    history.comment.clone_from(&args.comment);
    let blobs = args.with_blob.then(|| dir.path());
    let made = make_layers(&cx, &spec, uses, &history, blobs)?;
    let json = made.to_json();
    document.finish(&json)?;
    let path = dir.keep();
    talk.done(&Summary {
        verb: "wrote",
        destination: path.display().to_string(),
        names: Vec::new(),
        digest: Digest::of(&json).to_string(),
        layers: made.layers.len(),
        size: made.layers.iter().map(|made| made.layer.size).sum(),
        elapsed: start.elapsed(),
        peak_memory: host::peak_memory(),
    });
    Ok(Status::Done)
}

/// Refuses what is said of an image's config.
fn refuse_config(args: &ConfigArgs) -> Outcome<()> {
    // Every field is named, so that a new option is not forgotten here.
    let ConfigArgs {
        name,
        tag,
        platform: _,
        config,
        entrypoint,
        cmd,
        env,
        env_file,
        workdir,
        user,
        label,
        expose,
        volume,
        stop_signal,
        annotation,
        author: _,
        created,
    } = args;
    let given = [
        ("--name", name.is_some()),
        ("--tag", !tag.is_empty()),
        ("--config", config.is_some()),
        ("--entrypoint", !entrypoint.is_empty()),
        ("--cmd", !cmd.is_empty()),
        ("--env", !env.is_empty()),
        ("--env-file", !env_file.is_empty()),
        ("--workdir", workdir.is_some()),
        ("--user", user.is_some()),
        ("--label", !label.is_empty()),
        ("--expose", !expose.is_empty()),
        ("--volume", !volume.is_empty()),
        ("--stop-signal", stop_signal.is_some()),
        ("--annotation", !annotation.is_empty()),
        ("--created", created.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => Err(about_an_image(option)),
        None => Ok(()),
    }
}

fn about_an_image(option: &str) -> Failure {
    Failure::usage(format!(
        "{option} is about an image, and a layer is none yet"
    ))
    .hint("say it to the verb that uses the layer")
}

/// Says where the documents below are: in the store by their store path, else as
/// they were typed, a relative path from where the new one will be.
fn references(
    found: Vec<LayerFileReference>,
    typed: &[PathBuf],
    dir: &Path,
    store_dir: &StoreDir,
) -> Vec<LayerFileReference> {
    let is_relative = |real: &Path| {
        let typed_as = |typed: &&PathBuf| typed.canonicalize().is_ok_and(|typed| typed == real);
        !real.starts_with(store_dir.as_path())
            && typed
                .iter()
                .find(typed_as)
                .is_some_and(|typed| typed.is_relative())
    };
    let from = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let told = found.into_iter().map(|mut reference| {
        let real = PathBuf::from(&reference.path);
        if is_relative(&real) {
            reference.path = relative(&from, &real).to_string_lossy().into_owned();
        }
        reference
    });
    told.collect()
}

/// Returns the way from one absolute directory to another.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from
        .components()
        .zip(to.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

/// A directory that is removed again unless it is kept.
struct NewDir {
    path: PathBuf,
    is_kept: bool,
}

impl NewDir {
    /// Makes a directory, or takes an empty one.
    fn make(path: &Path) -> Outcome<Self> {
        if let Ok(mut entries) = fs::read_dir(path)
            && entries.next().is_some()
        {
            let taken = ErrorKind::OutputTaken {
                path: path.to_owned(),
                problem: "a directory that is not empty".to_owned(),
            };
            return Err(Error::from(taken).into());
        }
        fs::create_dir_all(path).map_err(Error::writing("create", path))?;
        Ok(Self {
            path: path.to_owned(),
            is_kept: false,
        })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn keep(mut self) -> PathBuf {
        self.is_kept = true;
        self.path.clone()
    }
}

impl Drop for NewDir {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_goes_up_and_down() {
        for (from, to, way) in [
            ("/a/b", "/a/c", "../c"),
            ("/a/b", "/a/b/c", "c"),
            ("/a/b/c", "/x", "../../../x"),
            ("/a", "/a", ""),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(way));
        }
    }
}
