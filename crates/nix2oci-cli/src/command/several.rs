//! Indexes: where they go, what is told of them, and `build` and `push` of
//! several platforms.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use nix2oci::build::{IndexPart, IndexRecipe, IndexReport, IndexSource, PushedIndex, build_index};
use nix2oci::input::{InputKind, read_file};
use nix2oci::oci::{Platform, Reference, parse_reference};
use nix2oci::sink::Destination;
use nix2oci::{ContentSource, Context, ImageSink, ImageSpec, Recipe, StoreDir};

use crate::args::{
    BinaryCacheArgs, ContentArgs, ImageArgs, NextParts, RecordArgs, RegistryArgs, ReuseArgs,
};
use crate::display::{Summary, Talk};
use crate::exit::{Failure, Outcome, Status};
use crate::output::{self, Records};
use crate::report::{Joined, Report};
use crate::select::{self, Loaders, Network, OpenedImage, Pushed, Reach};
use crate::{host, stdout};

/// Where an index goes, and what is told of it. Everything that can be wrong
/// with that is found out before the work.
pub(super) struct Output {
    start: Instant,
    place: Place,
    records: Records,
    json: bool,
    is_stdout_taken: bool,
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
    /// Prepares to write to `--output`.
    pub(super) fn open(
        text: &str,
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
                Ok(Self {
                    start: Instant::now(),
                    records: Records::new(record)?,
                    place: Place::Sink(select::sink(&destination)?, destination),
                    json,
                    is_stdout_taken,
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
        Ok(Self {
            start: Instant::now(),
            is_stdout_taken: claim(record, json, false)?,
            records: Records::new(record)?,
            place: Place::Registry(names),
            json,
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
        let (report, digest, result, told) = match self.place {
            Place::Registry(names) => {
                let network = whole
                    .network
                    .expect("the network is made for a destination in a registry");
                let pushed = network.push_index(cx, whole.parts, &whole.annotations, &names)?;
                let verb = match pushed.changed_tags.is_empty() {
                    true => "unchanged:",
                    false => "pushed",
                };
                let place = format!("docker://{}", pushed.pinned);
                let result = (whole.result)(&pushed);
                let report = pushed_report(&whole.store_dir, &names, &pushed);
                (report, pushed.manifest_digest, result, (verb, place, names))
            }
            Place::Sink(mut sink, destination) => {
                select::warn_of_file_name(cx, &destination);
                let names = whole.names.clone();
                select::warn_of_loaders(cx, loaders, false, !names.is_empty());
                let (parts, annotations) = (whole.parts, &whole.annotations);
                let built = build_index(cx, parts, annotations, &names, &mut *sink)?;
                let digest = built.manifest_digest;
                let report = built_report(&whole.store_dir, &names, &built);
                let told = ("wrote", sink.name(), names);
                (report, digest, digest.to_string(), told)
            }
        };
        let report = report.planned_with(whole.download_size);
        self.records.finish(&report, digest)?;
        let (verb, destination, names) = told;
        talk.done(&Summary {
            verb,
            destination,
            names: names.iter().map(Reference::whole).collect(),
            digest: digest.to_string(),
            layers: report.layers(),
            size: report.size(),
            elapsed: self.start.elapsed(),
            peak_memory: host::peak_memory(),
        });
        if self.json {
            stdout::deliver(&output::json(&report))?;
        } else if !self.is_stdout_taken {
            stdout::deliver(format!("{result}\n").as_bytes())?;
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

/// The images of a recipe.
pub(super) struct Recipes {
    /// Each with what errors call it, and what is inside its store paths.
    pub(super) images: Vec<(String, Recipe, Arc<dyn ContentSource>)>,
    /// What is said of the index, if it is of one: its annotations and names.
    pub(super) index: Option<(BTreeMap<String, String>, Vec<String>)>,
}

impl Recipes {
    /// Reads a recipe of one image, or of an index.
    pub(super) fn read(
        cx: &Context,
        file: &Path,
        args: &ContentArgs,
        reach: &Reach<'_>,
    ) -> Outcome<Self> {
        let name = file.display().to_string();
        let bytes = read_file(file, InputKind::Recipe)?;
        let (recipes, index) = match IndexRecipe::is_one(&bytes) {
            true => {
                let index = IndexRecipe::parse(&bytes, &name)?;
                (index.recipes, Some((index.annotations, index.names)))
            }
            false => (vec![Recipe::parse(&bytes, &name)?], None),
        };
        let count = recipes.len();
        let images = recipes.into_iter().enumerate().map(|(at, recipe)| {
            let content = super::push::content_of(cx, &recipe, &name, args, reach)?;
            let name = match count {
                1 => name.clone(),
                _ => format!("{name}, recipes[{at}]"),
            };
            Ok((name, recipe, content))
        });
        Ok(Self {
            images: images.collect::<Outcome<_>>()?,
            index,
        })
    }

    /// Reads the names that a recipe gives an index.
    pub(super) fn names(texts: &[String]) -> Outcome<Vec<Reference>> {
        let names = texts.iter().map(|text| {
            let name = parse_reference(text);
            name.map_err(|error| Failure::input(format!("the name {text}: {error}")))
        });
        names.collect()
    }

    /// Returns the images as parts of an index.
    pub(super) fn parts(&self) -> impl Iterator<Item = IndexPart<'_>> {
        self.images.iter().map(|(name, recipe, content)| IndexPart {
            name: name.clone(),
            source: IndexSource::Recipe {
                recipe,
                content: Arc::clone(content),
            },
        })
    }
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
