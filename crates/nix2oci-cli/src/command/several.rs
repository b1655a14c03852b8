//! Indexes: where they go, what is told of them, and `build` and `push` of
//! several platforms.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use nix2oci::build::{
    IndexPart, IndexReport, IndexSource, PushSource, PushedIndex, RecipeSource, build_index,
    build_recipe,
};
use nix2oci::input::{InputKind, read_file};
use nix2oci::oci::{Platform, Reference};
use nix2oci::sink::Destination;
use nix2oci::{ContentSource, Context, Digest, ImageSink, ImageSpec, Recipe, StoreDir};

use crate::args::{
    BinaryCacheArgs, ContentArgs, ImageArgs, NextParts, RecordArgs, RegistryArgs, ReuseArgs,
};
use crate::display::{Summary, Talk};
use crate::exit::{Outcome, Status};
use crate::output::{self, Records};
use crate::report::{Joined, Report};
use crate::select::{self, Loaders, Network, OpenedImage, Pushed, Reach};
use crate::{host, stdout};

/// Where an index goes, and what is told of it. Everything that can be wrong
/// with that is found out before the work.
pub(super) struct Output {
    place: Place,
    ending: Ending,
}

/// Who is told of what was written.
struct Ending {
    start: Instant,
    records: Records,
    json: bool,
    is_stdout_taken: bool,
}

/// What was written, and where.
struct Told {
    report: Report,
    digest: Digest,
    /// What goes to standard output.
    result: String,
    verb: &'static str,
    destination: String,
    names: Vec<Reference>,
}

enum Place {
    Registry(Vec<Reference>),
    Sink(Box<dyn ImageSink>, Destination),
}

/// An index to be written.
pub(super) struct Whole<'a> {
    pub(super) parts: &'a [IndexPart<'a>],
    pub(super) annotations: BTreeMap<String, String>,
    /// Where the store paths are in the images.
    pub(super) store_dir: StoreDir,
    /// Its names in a sink; in a registry the destination says them.
    pub(super) names: Vec<Reference>,
    /// How registries are reached, if it goes to one.
    pub(super) network: Option<&'a Network>,
    /// What it brought over the network to plan its images.
    pub(super) download_size: u64,
    /// What goes to standard output of one that was pushed.
    pub(super) result: &'a dyn Fn(&PushedIndex) -> String,
}

impl Output {
    /// Prepares to write to `--output`. With `reuses`, layers of images that are
    /// there are not packed again.
    pub(super) fn open(
        text: &str,
        reuses: bool,
        name: Option<&str>,
        tags: &[String],
        record: &RecordArgs,
        json: bool,
    ) -> Outcome<Self> {
        match select::destinations(text)? {
            Some(names) => {
                select::refuse_name(name)?;
                Self::of_registry(select::tagged(names, tags)?, record, json)
            }
            None => {
                let destination = select::destination(text)?;
                let is_stdout_taken = claim(record, json, destination == Destination::Stdout)?;
                let ending = Ending::new(record, json, is_stdout_taken)?;
                let sink = select::sink(&destination, reuses)?;
                Ok(Self {
                    place: Place::Sink(sink, destination),
                    ending,
                })
            }
        }
    }

    /// Prepares to push under these names.
    pub(super) fn of_registry(
        names: Vec<Reference>,
        record: &RecordArgs,
        json: bool,
    ) -> Outcome<Self> {
        let is_stdout_taken = claim(record, json, false)?;
        Ok(Self {
            place: Place::Registry(names),
            ending: Ending::new(record, json, is_stdout_taken)?,
        })
    }

    /// Returns the registry that it goes to.
    pub(super) fn host(&self) -> Option<&str> {
        match &self.place {
            Place::Registry(names) => names.first().map(Reference::registry),
            Place::Sink(..) => None,
        }
    }

    /// Returns what will read the index.
    fn loaders(&self) -> Loaders<'static> {
        match &self.place {
            Place::Registry(_) => Loaders::None,
            Place::Sink(_, destination) => Loaders::at(destination),
        }
    }

    /// Writes the index and tells of it.
    pub(super) fn write(self, cx: &Context, whole: &Whole<'_>, talk: &Talk) -> Outcome {
        let loaders = self.loaders();
        let told = match self.place {
            Place::Registry(names) => {
                let network = whole.network.expect(NETWORK);
                let pushed = network.push_index(cx, whole.parts, &whole.annotations, &names)?;
                Told {
                    report: pushed_report(&whole.store_dir, &names, &pushed),
                    digest: pushed.manifest_digest,
                    result: (whole.result)(&pushed),
                    verb: verb(&pushed.changed_tags),
                    destination: format!("docker://{}", pushed.pinned),
                    names,
                }
            }
            Place::Sink(mut sink, destination) => {
                select::warn_of_file_name(cx, &destination);
                let names = whole.names.clone();
                select::warn_of_loaders(cx, loaders, false, !names.is_empty());
                let (parts, annotations) = (whole.parts, &whole.annotations);
                let built = build_index(cx, parts, annotations, &names, &mut *sink)?;
                Told {
                    report: built_report(&whole.store_dir, &names, &built),
                    digest: built.manifest_digest,
                    result: built.manifest_digest.to_string(),
                    verb: "wrote",
                    destination: sink.name(),
                    names,
                }
            }
        };
        self.ending.tell(told, whole.download_size, talk)
    }

    /// Writes the image that a recipe is of and tells of it. In a sink it gets
    /// these names; in a registry the destination says them.
    pub(super) fn write_recipe(
        self,
        cx: &Context,
        source: &RecipeSource<'_>,
        names: Vec<Reference>,
        network: Option<&Network>,
        talk: &Talk,
    ) -> Outcome {
        let loaders = self.loaders();
        // That it is one was found out when the contents were opened.
        let store_dir = source.recipe.store_dir.parse().unwrap_or_default();
        let told = match self.place {
            Place::Registry(names) => {
                let network = network.expect(NETWORK);
                let source = PushSource::Recipe {
                    recipe: source.recipe,
                    name: source.name,
                    content: Arc::clone(&source.content),
                    base: source.base,
                };
                let pushed = network.push(cx, source, &names)?;
                Told {
                    report: Report::pushed(None, &store_dir, &names, &pushed),
                    digest: pushed.manifest_digest,
                    verb: verb(&pushed.changed_tags),
                    destination: format!("docker://{}", pushed.pinned),
                    result: pushed.pinned,
                    names,
                }
            }
            Place::Sink(mut sink, _) => {
                let has_zstd = super::recipes::has_zstd(source.recipe);
                select::warn_of_loaders(cx, loaders, has_zstd, !names.is_empty());
                let built = build_recipe(cx, source, &names, &mut *sink)?;
                Told {
                    report: Report::remade(None, &store_dir, &names, &built),
                    digest: built.manifest_digest,
                    result: built.manifest_digest.to_string(),
                    verb: "wrote",
                    destination: sink.name(),
                    names,
                }
            }
        };
        self.ending.tell(told, 0, talk)
    }
}

/// Why a push has a network.
const NETWORK: &str = "the network is made for a destination in a registry";

/// Says whether a push changed something.
fn verb(changed_tags: &[String]) -> &'static str {
    match changed_tags {
        [] => "unchanged:",
        _ => "pushed",
    }
}

impl Ending {
    fn new(record: &RecordArgs, json: bool, is_stdout_taken: bool) -> Outcome<Self> {
        Ok(Self {
            start: Instant::now(),
            records: Records::new(record)?,
            json,
            is_stdout_taken,
        })
    }

    /// `planned` are the bytes that came over the network to plan.
    fn tell(self, mut told: Told, planned: u64, talk: &Talk) -> Outcome {
        told.report = told.report.planned_with(planned);
        self.records.finish(&told.report, told.digest)?;
        talk.done(&Summary {
            verb: told.verb,
            destination: told.destination,
            names: told.names.iter().map(Reference::whole).collect(),
            digest: told.digest.to_string(),
            layers: told.report.layers(),
            size: told.report.size(),
            elapsed: self.start.elapsed(),
            peak_memory: host::peak_memory(),
        });
        if self.json {
            stdout::deliver(&output::json(&told.report))?;
        } else if !self.is_stdout_taken {
            stdout::deliver(format!("{}\n", told.result).as_bytes())?;
        }
        Ok(Status::Done)
    }
}

fn built_report(store_dir: &StoreDir, names: &[Reference], built: &IndexReport) -> Report {
    let images = built.manifests.iter().zip(&built.images);
    let images =
        images.map(|(named, image)| Report::image(named.platform().as_ref(), store_dir, image));
    let index = Joined {
        names,
        digest: built.manifest_digest,
        size: built.manifest_size,
        pinned: None,
        changed_tags: None,
    };
    Report::several(Some(index), images.collect())
}

fn pushed_report(store_dir: &StoreDir, names: &[Reference], pushed: &PushedIndex) -> Report {
    let images = pushed.manifests.iter().zip(&pushed.images);
    let images = images
        .map(|(named, image)| Report::pushed(named.platform().as_ref(), store_dir, &[], image));
    let index = Joined {
        names,
        digest: pushed.manifest_digest,
        size: pushed.manifest_size,
        pinned: Some(&pushed.pinned),
        changed_tags: Some(&pushed.changed_tags),
    };
    Report::several(Some(index), images.collect())
}

fn claim(record: &RecordArgs, json: bool, is_output: bool) -> Outcome<bool> {
    stdout::claim(&[
        ("--output", is_output),
        ("--json", json),
        (
            "--metadata-file",
            stdout::is_wanted(record.metadata_file.as_deref()),
        ),
        (
            "--digest-file",
            stdout::is_wanted(record.digest_file.as_deref()),
        ),
    ])
}

/// Images of several platforms, as `build` and `push` are told of them.
pub(super) struct Parts<'a> {
    /// What each part is made of, the first one's destinations left out.
    pub(super) sources: Vec<(Pushed, &'a ImageArgs)>,
    pub(super) next: &'a NextParts,
    pub(super) registry: &'a RegistryArgs,
    pub(super) caches: &'a BinaryCacheArgs,
    pub(super) reuse: &'a ReuseArgs,
    /// What goes to standard output of an index that was pushed.
    pub(super) result: &'a dyn Fn(&PushedIndex) -> String,
}

/// What a part of an index became.
enum Selected {
    Spec(Box<ImageSpec>),
    Recipe(Box<Recipe>, Arc<dyn ContentSource>),
    Image(Box<OpenedImage>, Option<Platform>),
}

/// Builds or pushes an index.
pub(super) fn run(parts: &Parts<'_>, output: Output, talk: &Talk) -> Outcome {
    let (_, first) = parts.sources.first().expect("there are two parts or more");
    let stdin_taken = select::claim_stdin_once(parts.sources.iter().map(|(_, args)| *args))?;
    let cx = select::context(first.run.threads, talk)?;
    let mut images = Vec::new();
    for (source, args) in &parts.sources {
        if let Pushed::Image(image) = source {
            images.push(image.clone());
        }
        // All parts are asked for here: --creds are for one registry.
        images.extend(select::named_images(args)?);
    }
    let network = select::network_of(
        &cx,
        &images,
        parts.registry,
        Some(parts.reuse),
        output.host(),
        stdin_taken.as_deref(),
    )?;
    let mut reach = Reach::new(parts.registry, parts.caches, &parts.reuse.cache);
    for (_, args) in &parts.sources {
        reach.add(&args.closure);
    }
    let mut selected = Vec::with_capacity(parts.sources.len());
    for (source, args) in &parts.sources {
        selected.push(select_part(
            &cx,
            parts,
            source,
            args,
            network.as_ref(),
            &reach,
            talk,
        )?);
    }
    for (selected, (_, args)) in selected.iter().zip(&parts.sources) {
        if let Selected::Spec(spec) = selected {
            let store_root = args.closure.contents.store_root.as_deref();
            select::warn(&cx, spec, store_root, Loaders::None)?;
        }
    }
    let named: Vec<IndexPart<'_>> = selected
        .iter()
        .zip(&parts.sources)
        .enumerate()
        .map(|(at, (selected, (source, _)))| IndexPart {
            name: part_name(at, source),
            source: match selected {
                Selected::Spec(spec) => IndexSource::Image(spec),
                Selected::Recipe(recipe, content) => IndexSource::Recipe {
                    recipe,
                    content: Arc::clone(content),
                },
                Selected::Image(image, platform) => IndexSource::Stored {
                    image: &image.reader,
                    platform: platform.as_ref(),
                },
            },
        })
        .collect();
    let names = match selected.first() {
        Some(Selected::Spec(spec)) => spec.names.clone(),
        _ => select::given_names(first.config.name.as_deref(), &first.config.tag)?,
    };
    let whole = Whole {
        parts: &named,
        annotations: select::assignments(&parts.next.annotations)?,
        store_dir: first.closure.store_dir.clone(),
        names,
        network: network.as_ref(),
        download_size: reach.download_size(),
        result: parts.result,
    };
    output.write(&cx, &whole, talk)
}

fn select_part(
    cx: &Context,
    parts: &Parts<'_>,
    source: &Pushed,
    args: &ImageArgs,
    network: Option<&Network>,
    reach: &Reach<'_>,
    talk: &Talk,
) -> Outcome<Selected> {
    Ok(match source {
        Pushed::Roots(roots) => {
            let base = select::base(cx, args, parts.registry, network)?;
            let mut spec = select::image_of(cx, args, roots, &base, reach, talk)?;
            let network = base.network(network);
            select::keep_layers(cx, &mut spec, &args.layers, parts.registry, network)?;
            Selected::Spec(Box::new(spec))
        }
        Pushed::Recipe(file) => {
            select::refuse_options_but(args, &["--content", "--store-root"])?;
            let (recipe, content) = recipe(cx, file, &args.closure.contents, reach)?;
            Selected::Recipe(Box::new(recipe), content)
        }
        Pushed::Image(image) => {
            select::refuse_options(args)?;
            let platform = args.config.platform.clone();
            let opened = select::open(cx, network, image.clone())?;
            Selected::Image(Box::new(opened), platform)
        }
    })
}

/// Reads a recipe of one image, and opens what is inside its store paths.
fn recipe(
    cx: &Context,
    file: &Path,
    args: &ContentArgs,
    reach: &Reach<'_>,
) -> Outcome<(Recipe, Arc<dyn ContentSource>)> {
    let name = file.display().to_string();
    let bytes = read_file(file, InputKind::Recipe)?;
    let recipe = Recipe::parse(&bytes, &name)?;
    let content = super::push::content_of(cx, &recipe, &name, args, reach)?;
    Ok((recipe, content))
}

/// Returns what errors call a part: what was typed for it.
fn part_name(at: usize, source: &Pushed) -> String {
    let typed = match source {
        Pushed::Roots(roots) => roots.first().map(|root| root.display().to_string()),
        Pushed::Recipe(file) => Some(file.display().to_string()),
        Pushed::Image(_) => None,
    };
    match typed {
        Some(typed) => format!("part {} ({typed})", at + 1),
        None => format!("part {}", at + 1),
    }
}
