//! `nix2oci copy`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix2oci::StoreDir;
use nix2oci::build::{ImageCopy, PushReport, PushSource, copy_all};
use nix2oci::layer::Codec;
use nix2oci::oci::Reference;
use nix2oci::sink::Destination;

use crate::args::CopyArgs;
use crate::display::{Summary, Talk};
use crate::exit::{Failure, Outcome, Status};
use crate::output::{self, Records};
use crate::report::Report;
use crate::select::{self, AnyImage, Loaders, Reach, RecipeOrImage};
use crate::{host, stdout};

use super::recipes::Recipes;
use super::several::{Output, Whole};

/// Copies images, and changes nothing in them.
pub(crate) fn copy(args: &CopyArgs, talk: &Talk) -> Outcome {
    let recipe = args.images.iter().find_map(|text| recipe(text).transpose());
    if let Some(file) = recipe.transpose()? {
        return copy_recipe(args, &file, talk);
    }
    refuse_recipe_options(args)?;
    match select::destinations(&args.output)? {
        Some(names) => copy_to_registry(args, select::tagged(names, &args.tag)?, talk),
        None => copy_to_sink(args, talk),
    }
}

fn copy_to_registry(args: &CopyArgs, names: Vec<Reference>, talk: &Talk) -> Outcome {
    let start = Instant::now();
    let [image] = &args.images[..] else {
        return Err(Failure::usage(
            "several images are given, and a tag of a registry points to one",
        )
        .hint(
            "copy each by itself; `nix2oci index` joins images of several platforms under one name",
        ));
    };
    select::refuse_name(args.name.as_deref())?;
    let is_stdout_taken = claim(args, false)?;
    let records = Records::new(&args.record)?;
    let cx = select::context(None, talk)?;
    let host = names.first().map(Reference::registry);
    let (network, images) = select::open_images(&cx, [&**image], &args.registry, None, host)?;
    let (Some(network), [opened]) = (network, &images[..]) else {
        unreachable!("one image was named, and the destination is in a registry")
    };
    let source = PushSource::Stored {
        image: &opened.reader,
        platform: args.platform.as_ref(),
    };
    let pushed: PushReport = network.push(&cx, source, &names)?;
    let report = Report::pushed(None, &StoreDir::default(), &names, &pushed);
    records.finish(&report, pushed.manifest_digest)?;
    talk.done(&super::push::summary(&pushed, &names, start));
    if args.json {
        stdout::deliver(&output::json(&report))?;
    } else if !is_stdout_taken {
        stdout::deliver(format!("{}\n", pushed.pinned).as_bytes())?;
    }
    Ok(Status::Done)
}

fn copy_to_sink(args: &CopyArgs, talk: &Talk) -> Outcome {
    let start = Instant::now();
    let destination = select::destination(&args.output)?;
    check_one_name(args, &destination)?;
    let is_stdout_taken = claim(args, destination == Destination::Stdout)?;
    let records = Records::new(&args.record)?;
    let mut sink = select::sink(&destination, true)?;
    let cx = select::context(None, talk)?;
    select::warn_of_file_name(&cx, &destination);
    let texts = args.images.iter().map(String::as_str);
    let (_network, images) = select::open_images(&cx, texts, &args.registry, None, None)?;
    let mut copies = Vec::with_capacity(images.len());
    for image in &images {
        let tree = image.reader.tree(&cx, args.platform.as_ref())?;
        let own = || image.names(&cx, &tree);
        let names = select::own_names(args.name.as_deref(), &args.tag, own)?;
        copies.push(ImageCopy {
            from: &image.reader,
            tree,
            names,
        });
    }
    check_names(&args.images, &copies)?;
    let blobs = || copies.iter().flat_map(|copy| &copy.tree.blobs);
    let has_zstd = blobs().any(|b| Codec::of_media_type(b.media_type()) == Some(Codec::Zstd));
    let has_names = copies.iter().all(|copy| !copy.names.is_empty());
    select::warn_of_loaders(&cx, Loaders::at(&destination), has_zstd, has_names);
    copy_all(&cx, &copies, &mut *sink)?;

    let reports = copies.iter().map(|c| Report::copied(&c.names, &c.tree));
    let mut reports: Vec<Report> = reports.collect();
    let report = match reports.len() {
        1 => reports.swap_remove(0),
        _ => Report::several(None, reports),
    };
    let mut digests = String::new();
    for copy in &copies {
        let _ = writeln!(digests, "{}", copy.tree.root().descriptor.digest());
    }
    records.finish_text(&report, &digests)?;
    let names = copies.iter().flat_map(|copy| &copy.names);
    talk.done(&Summary {
        verb: "wrote",
        destination: sink.name(),
        names: names.map(Reference::whole).collect(),
        digest: digests.trim_end().replace('\n', ", "),
        layers: report.layers(),
        size: report.size(),
        elapsed: start.elapsed(),
        peak_memory: host::peak_memory(),
    });
    if args.json {
        stdout::deliver(&output::json(&report))?;
    } else if !is_stdout_taken {
        stdout::deliver(digests.as_bytes())?;
    }
    Ok(Status::Done)
}

/// Refuses one name for several images.
fn check_one_name(args: &CopyArgs, destination: &Destination) -> Outcome<()> {
    let option = match destination {
        _ if args.images.len() == 1 => return Ok(()),
        Destination::OciLayout { tag: Some(tag), .. } => format!("the tag {tag} of --output"),
        _ if args.name.is_some() => "--name".to_owned(),
        _ if !args.tag.is_empty() => "--tag".to_owned(),
        _ => return Ok(()),
    };
    Err(
        Failure::usage(format!("{option} names one image, and several are given"))
            .hint("each is copied under its own names without it"),
    )
}

fn recipe(text: &str) -> Outcome<Option<PathBuf>> {
    Ok(match select::recipe_or_image(text)? {
        RecipeOrImage::Recipe(file) => Some(file),
        RecipeOrImage::Image(_) => None,
    })
}

/// Refuses options that say how a recipe's layers are made.
fn refuse_recipe_options(args: &CopyArgs) -> Outcome<()> {
    let option = match args {
        CopyArgs { from: Some(_), .. } => "--from",
        args if !args.contents.content.is_empty() => "--content",
        args if args.contents.store_root.is_some() => "--store-root",
        _ => return Ok(()),
    };
    Err(Failure::usage(format!(
        "{option} is for a recipe, and what is copied has its layers"
    )))
}

/// Makes the image or the index that a recipe is of.
fn copy_recipe(args: &CopyArgs, file: &Path, talk: &Talk) -> Outcome {
    if args.images.len() > 1 {
        let problem = format!(
            "{} is a recipe, whose image is copied alone",
            file.display()
        );
        return Err(Failure::usage(problem)
            .hint("copy each by itself: a layout takes one image after the other"));
    }
    let (name, tags) = (args.name.as_deref(), &args.tag);
    let output = Output::open(&args.output, true, name, tags, &args.record, args.json)?;
    let base = args.from.as_deref().map(select::any_image).transpose()?;
    let cx = select::context(args.threads, talk)?;
    let remote: Vec<AnyImage> = base.iter().cloned().collect();
    let network = select::network_of(&cx, &remote, &args.registry, None, output.host(), None)?;
    let network = network.as_ref();
    let reach = Reach::new(&args.registry, &args.caches, &args.cache);
    let mut recipes = Recipes::read(&cx, file, &args.contents, &reach)?;
    recipes.choose(args.platform.as_ref())?;
    let platform = args.platform.as_ref();
    let base = base.map(|base| select::base_image(&cx, base, platform, network));
    let base = base.transpose()?;
    let names = match output.host() {
        Some(_) => Vec::new(),
        None => select::own_names(name, tags, || recipes.names())?,
    };
    if let Some(source) = recipes.image(base.as_ref()) {
        return output.write_recipe(&cx, &source, names, network, talk);
    }
    let parts: Vec<_> = recipes.parts().collect();
    let whole = Whole {
        download_size: reach.download_size(),
        parts: &parts,
        annotations: recipes.annotations(),
        store_dir: StoreDir::default(),
        names,
        network,
        result: &|pushed| pushed.pinned.clone(),
    };
    output.write(&cx, &whole, talk)
}

/// Refuses images that would take each other's name.
fn check_names(texts: &[String], copies: &[ImageCopy<'_>]) -> Outcome<()> {
    for (at, copy) in copies.iter().enumerate() {
        for (before, other) in copies[..at].iter().enumerate() {
            let is_same = copy.tree.root().bytes == other.tree.root().bytes;
            let shared = copy.names.iter().find(|name| other.names.contains(name));
            if let (Some(name), false) = (shared, is_same) {
                return Err(Failure::input(format!(
                    "{} and {} are both called {}",
                    texts[before],
                    texts[at],
                    name.whole()
                ))
                .hint(
                    "copy each by itself and name it with --name; `nix2oci index` joins images \
                     of several platforms under one name",
                ));
            }
        }
    }
    Ok(())
}

fn claim(args: &CopyArgs, is_output: bool) -> Outcome<bool> {
    stdout::claim(&[
        ("--output", is_output),
        ("--json", args.json),
        (
            "--metadata-file",
            stdout::is_wanted(args.record.metadata_file.as_deref()),
        ),
        (
            "--digest-file",
            stdout::is_wanted(args.record.digest_file.as_deref()),
        ),
    ])
}
