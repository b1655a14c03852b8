//! What is meant by what was typed: from the arguments to the library's types.
//!
//! The second of two steps. This folder alone knows both sides: which option
//! becomes which field, and what stands in for an option that was left out.
//!
//! - [`image`]: the arguments of `build`, `resolve`, `plan` and `load`
//! - `base`: the image that another one is built on
//! - `caches`: how binary caches are reached and believed
//! - `config`: the image's config and names
//! - `contents`: where what is inside store paths comes from
//! - `earlier`: the layers of images that exist
//! - `explain`: the closure that is explained
//! - `foreign`: an image that the build of another tool describes
//! - `images`: images that are there, several at once
//! - `listing`: which store paths are in the layers that are compared
//! - `history`: past releases, each told by a file
//! - `lock`: what is pinned, and where the layers lie
//! - `network`: the registries, and what is taken over from them
//! - `push`: which image goes to which names
//! - `registry`: how a registry is reached and who asks
//! - `root`: what is at the root beside the store
//! - `roots`: which store path a file name means
//! - `sources`: where the closure comes from
//! - `start`: whether the image can start
//! - `stored`: whether an image that is there is meant, and what it is called
//! - `user`: whether the image knows who its program runs as
//! - `warnings`: what is no error and still not what people mean

mod base;
mod caches;
mod config;
mod contents;
mod counted;
mod earlier;
mod explain;
mod foreign;
mod history;
mod images;
mod listing;
mod lock;
mod network;
mod nix_conf;
mod push;
mod registry;
mod root;
mod roots;
mod sources;
mod start;
mod stored;
mod user;
mod warnings;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use nix2oci::binary_cache::NarInfoCache;
use nix2oci::build::UsedLayers;
use nix2oci::content::set_nar_sizes;
use nix2oci::image::{BaseImage, ImageForm, ImageSource, ParseImageSourceError, recognise};
use nix2oci::input::{InputKind, read_file, read_stream};
use nix2oci::layer::{DirCache, Packing, TarFile};
use nix2oci::plan::{self, DEFAULT_STRATEGY, ExplicitLayer, RootTree};
use nix2oci::sink::{Destination, OciLayout, ParseDestinationError, SINKS};
use nix2oci::{
    CancelFlag, Closure, ContentSource, Context, Error, ErrorKind, Event, ImageSink, ImageSpec,
    StorePath,
};

use crate::args::ImageArgs;
use crate::args::values::NamedLayer;
use crate::display::{Talk, measure};
use crate::exit::{Failure, Outcome};
use crate::{host, signal, stdout};

use counted::CountedContent;
use push::meant_reference;
use root::Root;
use roots::Store;

pub(crate) use base::{Base, base, base_image};
pub(crate) use caches::Reach;
pub(crate) use contents::{content, is_far};
pub(crate) use earlier::{is_kept_by_itself, keep_layers, known_image};
pub(crate) use explain::{Explained, explained};
pub(crate) use history::{check_histories, history, named_layers, named_paths};
pub(crate) use images::{
    OpenedImage, assignments, given_names, named_images, network_of, open, open_images, own_names,
    refuse_name, tagged,
};
pub(crate) use listing::listings;
pub(crate) use lock::read_lock;
pub(crate) use network::{Network, open_image};
pub(crate) use push::{
    AnyImage, Pushed, RecipeOrImage, any_image, destinations, push, recipe_or_image,
    source as pushed,
};
pub(crate) use stored::{
    refuse_options, refuse_options_but, stored_image, stored_names, stored_recipe,
};
pub(crate) use warnings::{Loaders, warn, warn_of_file_name, warn_of_loaders};

/// Makes what every long call needs, and lets signals stop it.
pub(crate) fn context(threads: Option<NonZeroUsize>, talk: &Talk) -> Outcome<Context> {
    let mut cx = Context::default();
    cx.threads = threads.unwrap_or(cx.threads);
    cx.observer = talk.observer();
    cx.spool_dir = host::spool_dir();
    cx.cancel = CancelFlag::default();
    signal::cancel_on_signals(&cx.cancel)
        .map_err(|error| Failure::internal("failed to listen for signals").because(&error))?;
    Ok(cx)
}

/// Reads `--output`; an archive is not written to a terminal.
pub(crate) fn destination(text: &str) -> Outcome<Destination> {
    let mut destination = text.parse().map_err(|error: ParseDestinationError| {
        let failure = match unknown_kind(text) {
            Some(problem) => Failure::usage(problem),
            None => Failure::usage(format!("--output: {error}")),
        };
        match transport_advice(text) {
            Some(advice) => failure.hint(advice),
            None => failure,
        }
    })?;
    if matches!(&destination, Destination::Archive { file } if stdout::is_stdout(file)) {
        destination = Destination::Stdout;
    }
    if destination == Destination::Stdout && io::stdout().is_terminal() {
        return Err(
            Failure::usage("standard output is a terminal, and the image is no text")
                .hint("name a file, or pipe it on: nix2oci build … -o - | podman load"),
        );
    }
    Ok(destination)
}

/// Tells of a kind of destination that there is not. The library knows its sinks,
/// and registries are beside them here.
fn unknown_kind(text: &str) -> Option<String> {
    let (kind, _) = text.split_once(':')?;
    if SINKS.iter().any(|sink| sink.name == kind) {
        return None;
    }
    let forms: Vec<_> = SINKS.iter().map(|sink| sink.syntax).collect();
    Some(format!(
        "--output: {text:?} is not a destination: {kind}: is unknown; expected \
         docker://HOST/REPOSITORY[:TAG], {}, - or a path",
        forms.join(", ")
    ))
}

/// Returns what to do instead of writing to a transport of other tools.
fn transport_advice(text: &str) -> Option<&'static str> {
    Some(match text.split_once(':')?.0 {
        "docker" => "a registry is written docker://HOST/REPOSITORY[:TAG]",
        "docker-daemon" => "`nix2oci load … docker` hands an image to Docker",
        "containers-storage" | "podman" => "`nix2oci load … podman` hands an image to podman",
        "containerd" => "`nix2oci load … containerd[:NAMESPACE]` hands an image to containerd",
        "k3s" => "`nix2oci load … k3s[:DIR]` hands an image to k3s",
        "dir" => "write an archive and say `skopeo copy docker-archive:FILE dir:…`",
        _ => return None,
    })
}

/// Opens the place where an image goes. With `reuses`, layers of images that are
/// there are not packed again.
pub(crate) fn sink(destination: &Destination, reuses: bool) -> Outcome<Box<dyn ImageSink>> {
    if let (Destination::OciLayout { dir, tag }, false) = (destination, reuses) {
        let layout = OciLayout::open(dir, tag.as_deref())?;
        return Ok(Box::new(layout.packing_all()));
    }
    let stdout = match destination {
        Destination::Stdout => {
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            let stdout = stdout.map_err(Error::writing("open", Path::new("standard output")))?;
            Some(File::from(stdout))
        }
        _ => None,
    };
    Ok(destination.open(stdout)?)
}

/// Reads IMAGE of `inspect` and `check`.
pub(crate) fn image_source(text: &str) -> Outcome<ImageSource> {
    let source = text.parse().map_err(|error: ParseImageSourceError| {
        let failure = Failure::usage(error.to_string());
        match text.split_once(':') {
            Some(("docker" | "docker-daemon" | "containers-storage" | "dir", _)) => failure.hint(
                format!("`skopeo copy {text} oci:DIR:TAG` makes what is read here"),
            ),
            _ => failure,
        }
    })?;
    if let ImageSource::Path(_) = &source
        && let Some(name) = meant_reference(text)
    {
        return Err(Failure::input(format!("there is no file {text}"))
            .hint(format!("an image of a registry is written docker://{name}")));
    }
    if let ImageSource::Path(path) = &source
        && matches!(recognise(path), Ok(ImageForm::Lock))
    {
        let file = path.clone();
        return Ok(ImageSource::Lock { file, tag: None });
    }
    if let ImageSource::Path(path) = &source
        && let Some((file, tag)) = text.rsplit_once(':')
        && !path.exists()
        && Path::new(file).exists()
    {
        let kind = if Path::new(file).is_dir() {
            "oci"
        } else {
            "archive"
        };
        return Err(Failure::input(format!("there is no {text}, but {file}"))
            .hint(format!("if {tag} is a tag, say {kind}:{text}")));
    }
    Ok(source)
}

/// Returns the cache of layers in a directory, or in the user's own.
pub(crate) fn layer_cache(dir: Option<&Path>) -> Outcome<DirCache> {
    let dir = match dir {
        Some(dir) if dir.as_os_str() == "none" => {
            return Err(Failure::usage("--cache-dir none is no cache")
                .hint("a directory of that name is ./none"));
        }
        Some(dir) => dir.to_owned(),
        None => host::cache_dir().ok_or_else(|| {
            Failure::usage("the cache's place is not known: neither XDG_CACHE_HOME nor HOME is set")
                .hint("say it with --cache-dir")
        })?,
    };
    Ok(DirCache::new(dir, host::system_time()))
}

/// Returns where what binary caches said is kept, below the directory of the
/// cache of layers.
pub(crate) fn narinfo_cache(dir: &Path) -> NarInfoCache {
    NarInfoCache::new(dir.join("narinfo"), host::system_time())
}

/// Finds out which image is meant; reads the closure and what is at the root.
/// `base` is what [`base()`] opened.
pub(crate) fn image(
    cx: &Context,
    args: &ImageArgs,
    base: &Base,
    reach: &Reach<'_>,
    talk: &Talk,
) -> Outcome<ImageSpec> {
    image_of(cx, args, &args.roots, base, reach, talk)
}

/// The same, of other roots than those of the arguments.
pub(crate) fn image_of(
    cx: &Context,
    args: &ImageArgs,
    roots: &[PathBuf],
    base: &Base,
    reach: &Reach<'_>,
    talk: &Talk,
) -> Outcome<ImageSpec> {
    claim_stdin(args)?;
    if let Some(image) = foreign::foreign(args, roots)? {
        return foreign::spec(cx, &image, args, reach, talk);
    }
    let root = args.closure.contents.store_root.as_deref();
    let store = Store::new(args.closure.store_dir.clone(), root);
    let find = |what: &str, paths: &[PathBuf]| -> Outcome<Vec<StorePath>> {
        paths.iter().map(|path| store.find(what, path)).collect()
    };
    let mut roots = find("root", roots)?;
    // One that is said twice is one, and lends its name.
    let mut seen = BTreeSet::new();
    roots.retain(|root| seen.insert(root.clone()));
    let root_of_image = Root::read(&args.root, &store)?;
    let explicit_layers = args
        .layers
        .layer
        .iter()
        .map(|layer| explicit_layer(&store, layer))
        .collect::<Outcome<_>>()?;

    let volatile = find("--volatile", &args.layers.volatile)?;
    let strategy = plan::strategy(args.layers.layers.as_deref().unwrap_or(DEFAULT_STRATEGY))
        .map_err(Failure::misuse)?;
    let config = config::config(&args.config, base.image.as_ref())?;
    let names = config::names(&args.config)?;
    let mtime = args.layers.mtime.map_or_else(host::source_date, Ok)?;

    let layer_tars = layer_tars(cx, args, &store)?;
    let needs = root_of_image.needs(&store);
    let wanted = sources::Wanted {
        roots: &roots,
        needs: &needs,
        may_be_empty: !layer_tars.is_empty()
            || !args.root.root_tree.is_empty()
            || base.image.is_some(),
    };
    let (mut closure, sources) = sources::read(cx, &args.closure, &store, &wanted, reach, talk)?;
    let content = sources.content(cx, &args.closure.contents, &closure, reach)?;
    // A derivation makes its config a store path, so that Nix finds what it
    // mentions; nobody wants that file itself in the image, also where it is a
    // ROOT for what it mentions.
    for (what, file) in input_files(args) {
        if let Ok(path) = store.find(what, file)
            && closure.leave_out(&path)
        {
            talk.note(|| format!("left out the {what} file {}", store.dir().join(&path)));
        }
    }
    for path in &args.closure.leave_out {
        let path = store.find("--leave-out", path)?;
        if !closure.leave_out(&path) {
            return Err(not_left_out(&closure, &path));
        }
    }
    for file in &args.layers.layer_tar {
        if let Some(path) = store.holder(file)
            && closure.leave_out(&path)
        {
            talk.note(|| format!("left out {}, a layer", store.dir().join(&path)));
        }
    }
    // What is at the root is in the closure for the sake of the one ROOT.
    let mut ids = closure.roots().iter();
    let default_names = match (&roots[..], ids.next(), ids.next()) {
        ([root], ..) => config::default_names(root, &args.config.tag),
        ([], Some(root), None) => config::default_names(closure.path(*root), &args.config.tag),
        _ => Vec::new(),
    };
    let on = base.image.as_ref();
    if let Some(base) = on {
        // Before its layers are read.
        base.check_platform(&config.platform)?;
    }
    let counted = CountedContent::new(&*content);
    let (mut root_tree, rules) = root_of_image.make(cx, &closure, &counted, on)?;
    root_of_image.leave_out_copies(&mut closure, &root_tree, &roots, talk);
    let mtime = u64::try_from(mtime.unix_seconds()).expect("the option refuses negative times");
    if args.root.with_nix_db {
        add_nix_db(cx, &mut root_tree, &mut closure, &counted, mtime, on)?;
    }
    reach.add_download(counted.bytes());

    let mut spec = ImageSpec::new(closure, content, config);
    spec.base = base.image.clone();
    spec.strategy = strategy;
    spec.explicit_layers = explicit_layers;
    spec.volatile = volatile;
    spec.max_layers = NonZeroUsize::new(args.layers.max_layers).expect("the option refuses 0");
    spec.max_store_layers = args.layers.max_store_layers.and_then(NonZeroUsize::new);
    spec.packing = Packing {
        compression: args.layers.compression,
        mtime,
        owner: args.layers.owner,
    };
    spec.root_tree = root_tree;
    spec.layer_tars = layer_tars;
    spec.used_layers = used_layers(cx, &args.layers.use_layer)?.layers;
    spec.rules = rules;
    spec.names = if names.is_empty() {
        default_names
    } else {
        names
    };
    if spec.names.is_empty() && !args.config.tag.is_empty() {
        return Err(
            Failure::usage("--tag is given, but no name that it could belong to")
                .hint("say --name as well: only a single root lends the image its name"),
        );
    }
    spec.store_paths = !args.layers.no_store_paths;
    spec.verify = args.run.verify;
    spec.strict = args.run.strict;
    tell(&spec, talk);
    Ok(spec)
}

/// Refuses more than one reader of standard input: the second would find
/// nothing. Returns the one that there is, as it was typed.
pub(crate) fn claim_stdin(args: &ImageArgs) -> Outcome<Option<String>> {
    let files = input_files(args);
    let files = files.filter(|(_, file)| file.as_os_str() == "-");
    let closures = args.closure.closure.iter().filter(|source| {
        let file = source.split_once(':').map(|(_, argument)| argument);
        file.is_some_and(|file| file == "-" || file.starts_with("-#"))
    });
    let mut readers = files
        .map(|(option, _)| format!("{option} -"))
        .chain(closures.map(|source| format!("--closure {source}")));
    match (readers.next(), readers.next()) {
        (Some(first), Some(second)) => Err(both_want_stdin(&first, &second)),
        (reader, _) => Ok(reader),
    }
}

/// Returns the files whose documents say what is in the image, with their
/// options.
fn input_files(args: &ImageArgs) -> impl Iterator<Item = (&'static str, &Path)> {
    let config = args.config.config.iter();
    let config = config.map(|file| ("--config", file.as_path()));
    let trees = args.root.root_tree.iter();
    let rules = args.root.rules.iter();
    config
        .chain(trees.map(|file| ("--root-tree", file.as_path())))
        .chain(rules.map(|file| ("--rules", file.as_path())))
}

/// The same over several images.
pub(crate) fn claim_stdin_once<'a>(
    images: impl Iterator<Item = &'a ImageArgs>,
) -> Outcome<Option<String>> {
    let mut reader: Option<String> = None;
    for args in images {
        match (claim_stdin(args)?, &reader) {
            (Some(second), Some(first)) => return Err(both_want_stdin(first, &second)),
            (Some(first), None) => reader = Some(first),
            (None, _) => {}
        }
    }
    Ok(reader)
}

/// Reads a document, from standard input if it is called `-`, and returns its
/// name in errors as well.
fn read_document(file: &Path, kind: InputKind) -> Outcome<(String, Vec<u8>)> {
    Ok(if file.as_os_str() == "-" {
        let name = "standard input".to_owned();
        let bytes = read_stream(io::stdin().lock(), &name, kind)?;
        (name, bytes)
    } else {
        (file.display().to_string(), read_file(file, kind)?)
    })
}

fn both_want_stdin(first: &str, second: &str) -> Failure {
    Failure::usage(format!("{first} and {second} both want standard input"))
        .hint("name a file for one of them")
}

fn explicit_layer(store: &Store, layer: &NamedLayer) -> Outcome<ExplicitLayer> {
    let what = format!("--layer {}:", layer.name);
    let paths = layer.paths.iter().map(|path| store.find(&what, path));
    Ok(ExplicitLayer {
        name: layer.name.clone(),
        paths: paths.collect::<Outcome<_>>()?,
    })
}

/// Adds a Nix database of the whole closure, and of what the base's has.
fn add_nix_db(
    cx: &Context,
    root_tree: &mut RootTree,
    closure: &mut Closure,
    content: &dyn ContentSource,
    time: u64,
    base: Option<&BaseImage>,
) -> Outcome<()> {
    let has_hashes = closure.infos().iter().all(|info| info.nar_hash.is_some());
    // Sizes are found out in the store where nobody tells them; not for nothing.
    if has_hashes {
        set_nar_sizes(cx, content, closure)?;
    }
    let base = base.map(|base| base.valid_paths(cx, closure.store_dir()));
    let base = base.transpose()?.flatten();
    let added = root_tree.add_nix_db(closure, time, base.as_ref());
    added.map_err(|error| {
        let failure = Failure::from(error);
        match has_hashes {
            true => failure,
            false => failure.hint(
                "--with-nix-db needs NAR hashes: attrs:, registration:, path-info: and the Nix \
                 database tell them, graph: does not",
            ),
        }
    })
}

/// Reads the layers that were made before, and warns of store paths that the
/// image has more than once through them.
pub(crate) fn used_layers(cx: &Context, dirs: &[PathBuf]) -> Outcome<UsedLayers> {
    let used = UsedLayers::read(cx, dirs).map_err(|error| {
        let is_missing = matches!(error.kind(), ErrorKind::ReadInput { .. });
        let failure = Failure::from(error);
        match is_missing {
            true => failure.hint("--use-layer takes a directory that `nix2oci layer` wrote"),
            false => failure,
        }
    })?;
    let duplicates = used.duplicates();
    if let Some((path, layers)) = duplicates.first() {
        let more = match duplicates.len() - 1 {
            0 => String::new(),
            more => format!(", and so are {}", measure::count(more, "other store path")),
        };
        let message = format!(
            "{path} is in {} used layers, {}{more}: make one of them with --use-layer of the other",
            layers.len(),
            layers.join(" and ")
        );
        cx.observer.event(&Event::Warning { message: &message });
    }
    Ok(used)
}

/// Tells why a store path of `--leave-out` is in no image that it could be left
/// out of.
fn not_left_out(closure: &Closure, path: &StorePath) -> Failure {
    let what = format!("--leave-out {}", closure.store_dir().join(path));
    let Some(id) = closure.find(path) else {
        return Failure::input(format!("{what}: it is not in the closure"));
    };
    let referrers = closure.referrers(id);
    let first = referrers.first().map(|id| closure.full_path(*id));
    let others = match referrers.len() {
        0 | 1 => String::new(),
        several => format!(", and so {} more", several_do(several - 1)),
    };
    Failure::input(format!(
        "{what}: {} refers to it{others}",
        first.unwrap_or_else(|| "something".to_owned())
    ))
    .hint("what refers to it would not work without it; `nix2oci explain` shows the chains")
}

fn several_do(more: usize) -> String {
    match more {
        1 => "does 1".to_owned(),
        more => format!("do {more}"),
    }
}

/// Reads the tars that become layers.
fn layer_tars(cx: &Context, args: &ImageArgs, store: &Store) -> Outcome<Vec<TarFile>> {
    let files = args.layers.layer_tar.iter();
    let tars = files.map(|file| Ok(TarFile::open(cx, file, store.dir())?));
    tars.collect()
}

/// Tells what was chosen.
fn tell(spec: &ImageSpec, talk: &Talk) {
    for id in spec.closure.roots() {
        talk.note(|| format!("root {}", spec.closure.full_path(*id)));
    }
    talk.note(|| {
        format!(
            "platform {}, compression {}, strategy {}, at most {}",
            nix2oci::oci::display_platform(&spec.config.platform),
            spec.packing.compression,
            spec.strategy.name(),
            measure::count(spec.max_layers.get(), "layer"),
        )
    });
    if let Some(base) = &spec.base {
        let layers = measure::count(base.layers().len(), "layer");
        talk.note(|| format!("base {} {}, {layers}", base.name(), base.digest()));
    }
    for name in &spec.names {
        talk.note(|| format!("name {}", name.whole()));
    }
}
