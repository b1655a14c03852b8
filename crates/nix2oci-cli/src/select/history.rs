//! Past releases, each told by a file.

use std::io;
use std::sync::Arc;

use nix2oci::closure::{SOURCES, SourceOptions, open_source, read_closure};
use nix2oci::plan::ExplicitLayer;
use nix2oci::{Closure, Context, StorePath};

use crate::args::{PathName, SimulateArgs, is_whole_store};
use crate::exit::{Failure, Outcome};

use super::both_want_stdin;

/// The kind of source that a plain file is taken for.
const PLAIN: &str = "path-info";

/// Refuses what can be seen to be no history without reading it.
pub(crate) fn check_histories(args: &SimulateArgs) -> Outcome<()> {
    let mut stdin = Vec::new();
    for history in &args.histories {
        let source = source(history);
        let argument = source.split_once(':').map(|(_, argument)| argument);
        if is_whole_store(&source) {
            return Err(Failure::usage(format!(
                "{history} holds store paths of many closures, not those of one release"
            ))
            .hint("`nix path-info --json --recursive ./result > FILE` tells of one"));
        }
        if argument == Some("-") {
            stdin.push(history);
        }
    }
    match stdin[..] {
        [first, second, ..] => Err(both_want_stdin(first, second)),
        _ => Ok(()),
    }
}

/// Reads the closure of one release.
pub(crate) fn history(cx: &Context, args: &SimulateArgs, history: &str) -> Outcome<Closure> {
    let options = SourceOptions {
        store_dir: args.store_dir.clone(),
        stdin: Some(Arc::new(|| Box::new(io::stdin().lock()))),
        ..SourceOptions::default()
    };
    let source = open_source(&options, &source(history)).map_err(Failure::misuse)?;
    let closure = read_closure(cx, &args.store_dir, &[source.as_ref()], &[])?;
    if closure.is_empty() {
        return Err(Failure::input(format!(
            "{history}: there is no store path in it"
        )));
    }
    let unknown = closure.infos().iter().find(|info| info.nar_size.is_none());
    match unknown {
        Some(info) => Err(Failure::input(format!(
            "{history}: the NAR size of {} is not told",
            args.store_dir.join(&info.path)
        ))
        .hint("`nix path-info --json --recursive` tells all sizes; graph: has none")),
        None => Ok(closure),
    }
}

/// Returns a history as `--closure` takes it: a plain file is of the kind that
/// Nix prints.
fn source(history: &str) -> String {
    let kind = history.split(':').next();
    if SOURCES.iter().any(|source| Some(source.name) == kind) {
        history.to_owned()
    } else {
        format!("{PLAIN}:{history}")
    }
}

/// Returns the store paths of a release that have one of the names.
pub(crate) fn named_paths(closure: &Closure, names: &[PathName]) -> Vec<StorePath> {
    let is_meant = |path: &&StorePath| names.iter().any(|name| name.fits(path.name()));
    let paths = closure.infos().iter().map(|info| &info.path);
    paths.filter(is_meant).cloned().collect()
}

/// Returns the layers of their own that a release has. A store path that two of
/// them name is in the first.
pub(crate) fn named_layers(closure: &Closure, args: &SimulateArgs) -> Vec<ExplicitLayer> {
    let mut layers: Vec<ExplicitLayer> = Vec::new();
    for layer in &args.layer {
        let mut paths = named_paths(closure, &layer.paths);
        paths.retain(|path| !layers.iter().any(|other| other.paths.contains(path)));
        if !paths.is_empty() {
            layers.push(ExplicitLayer {
                name: layer.name.clone(),
                paths,
            });
        }
    }
    layers
}
