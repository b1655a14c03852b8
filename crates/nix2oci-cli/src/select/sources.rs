//! Where the closure comes from.

use std::io;
use std::path::Path;
use std::sync::Arc;

use nix2oci::binary_cache::BinaryCaches;
use nix2oci::closure::{self, SourceOptions, read_closure};
use nix2oci::content::ContentOptions;
use nix2oci::{Closure, ClosureSource, ContentSource, Context, StoreDir, StorePath};

use crate::args::{ClosureArgs, ContentArgs};
use crate::display::Talk;
use crate::exit::{Failure, Outcome};
use crate::host;

use super::caches::{Reach, cache_options, cache_urls};
use super::contents::{self, Contents, of_closures};
use super::root;
use super::roots::Store;

/// Of what the closure is read.
pub(super) struct Wanted<'a> {
    pub(super) roots: &'a [StorePath],
    pub(super) needs: &'a [(&'static str, StorePath)],
    /// Whether the image has something beside store paths.
    pub(super) may_be_empty: bool,
}

/// Reads the closure of the roots and of what the image's root needs. Returns
/// where it came from as well.
pub(super) fn read(
    cx: &Context,
    args: &ClosureArgs,
    store: &Store,
    wanted: &Wanted<'_>,
    reach: &Reach<'_>,
    talk: &Talk,
) -> Outcome<(Closure, Sources)> {
    let Wanted {
        roots,
        needs,
        may_be_empty,
    } = *wanted;
    let mut asked = roots.to_vec();
    // Without ROOT, a file that lists a closure says what is in the image, and
    // the needs must be among that.
    if !roots.is_empty() || args.needs_roots() {
        asked.extend(needs.iter().map(|(_, path)| path.clone()));
        if asked.is_empty() && may_be_empty {
            let closure = Closure::new(store.dir().clone(), [], &[], "nothing")?;
            return Ok((closure, Sources::default()));
        }
        if asked.is_empty() {
            return Err(Failure::usage("no ROOT is given").hint(
                "say a store path or ./result; it may be left out only with a --closure whose \
                 file lists the closure, such as attrs:FILE",
            ));
        }
    }
    let sources = Sources::open(cx, args, reach, talk)?;
    let closure = sources.read(cx, store.dir(), &asked)?;
    if closure.is_empty() && !may_be_empty {
        return Err(Failure::input("the closure has no store path")
            .hint("say a ROOT, or look at the file that --closure names"));
    }
    root::check_needs(&closure, needs)?;
    Ok((closure, sources))
}

/// The sources of a closure.
#[derive(Default)]
pub(super) struct Sources {
    closures: Vec<Box<dyn ClosureSource>>,
    /// The caches among them.
    caches: Option<Arc<BinaryCaches>>,
    /// Where content comes from if nobody says, as `--content` has it.
    contents: Vec<String>,
}

impl Sources {
    /// Opens what was named, or what there is on this machine.
    pub(super) fn open(
        cx: &Context,
        args: &ClosureArgs,
        reach: &Reach<'_>,
        talk: &Talk,
    ) -> Outcome<Self> {
        contents::check(&args.contents)?;
        let store_root = args.contents.store_root.as_deref();
        let named = match (&args.closure[..], store_root) {
            ([], None) => Vec::from_iter(host::nix_remote()),
            (named, _) => named.to_vec(),
        };
        let mut options = SourceOptions {
            store_dir: args.store_dir.clone(),
            store_root: store_root.map(Path::to_owned),
            daemon_socket: host::daemon_socket(store_root),
            stdin: Some(Arc::new(|| Box::new(io::stdin().lock()))),
            ..SourceOptions::default()
        };
        let sources = if named.is_empty() {
            automatic(cx, &options)?
        } else {
            let urls = cache_urls("--closure", &named)?;
            if !urls.is_empty() {
                let others = cache_urls("--content", &args.contents.content)?;
                options.caches = cache_options(cx, reach, &urls, &others)?;
            }
            let opened = closure::open_sources(&options, &named).map_err(Failure::misuse)?;
            Self {
                closures: opened.sources,
                caches: opened.caches,
                contents: of_closures(named.iter().map(String::as_str)),
            }
        };
        for source in &sources.closures {
            talk.note(|| format!("closure from {}", source.name()));
        }
        Ok(sources)
    }

    /// Reads the closure of these paths; without any, of what the sources list.
    pub(super) fn read(
        &self,
        cx: &Context,
        store_dir: &StoreDir,
        paths: &[StorePath],
    ) -> Outcome<Closure> {
        let sources: Vec<&dyn ClosureSource> = self.closures.iter().map(AsRef::as_ref).collect();
        Ok(read_closure(cx, store_dir, &sources, paths)?)
    }

    /// Opens what is inside the store paths: what was named, else what goes with
    /// these sources.
    pub(super) fn content(
        self,
        cx: &Context,
        args: &ContentArgs,
        closure: &Closure,
        reach: &Reach<'_>,
    ) -> Outcome<Arc<dyn ContentSource>> {
        let contents = Contents {
            named: &args.content,
            by_default: &self.contents,
            store_root: args.store_root.as_deref(),
            store_dir: closure.store_dir(),
            expected: ContentOptions::default().expecting(closure).expected,
            opened: self.caches,
        };
        contents.open(cx, reach)
    }
}

/// Opens what knows the store of this machine.
fn automatic(cx: &Context, options: &SourceOptions) -> Outcome<Sources> {
    let source = closure::automatic(cx, options).map_err(|error| {
        let failure = Failure::from(error);
        match &options.store_root {
            Some(root) => failure.hint_first(format!(
                "is there a store below {}? --store-root takes DIR of `nix --store DIR`",
                root.display()
            )),
            None => failure,
        }
    })?;
    let is_daemon = source.name() == options.daemon(None).name();
    let kind = if is_daemon { "daemon" } else { "db" };
    Ok(Sources {
        closures: vec![source],
        caches: None,
        contents: of_closures([kind]),
    })
}
