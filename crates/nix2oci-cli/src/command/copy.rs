//! `nix2oci copy`

use std::fmt::Write as _;
use std::time::Instant;

use nix2oci::StoreDir;
use nix2oci::build::{ImageCopy, PushReport, PushSource, copy_all};
use nix2oci::image::ImageTree;
use nix2oci::layer::Codec;
use nix2oci::oci::Reference;
use nix2oci::sink::Destination;

use crate::args::CopyArgs;
use crate::display::{Summary, Talk};
use crate::exit::{Failure, Outcome, Status};
use crate::output::{self, Records};
use crate::report::Report;
use crate::select::{self, Loaders, OpenedImage};
use crate::{host, stdout};

/// Copies images, and changes nothing in them.
pub(crate) fn copy(args: &CopyArgs, talk: &Talk) -> Outcome {
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
    let mut sink = select::sink(&destination)?;
    let cx = select::context(None, talk)?;
    select::warn_of_file_name(&cx, &destination);
    let texts = args.images.iter().map(String::as_str);
    let (_network, images) = select::open_images(&cx, texts, &args.registry, None, None)?;
    let mut copies = Vec::with_capacity(images.len());
    for image in &images {
        let tree = image.reader.tree(&cx, args.platform.as_ref())?;
        let names = names(&cx, args, image, &tree)?;
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

/// Returns the names that an image gets: those of the options, else its own.
fn names(
    cx: &nix2oci::Context,
    args: &CopyArgs,
    image: &OpenedImage,
    tree: &ImageTree,
) -> Outcome<Vec<Reference>> {
    let given = select::given_names(args.name.as_deref(), &args.tag)?;
    if !given.is_empty() {
        return Ok(given);
    }
    let own = image.names(cx, tree)?;
    match own.first() {
        _ if args.tag.is_empty() => Ok(own),
        Some(first) => select::tagged(vec![first.clone()], &args.tag).map(|mut names| {
            names.remove(0);
            names
        }),
        None => Err(
            Failure::usage("--tag is given, but no name that it could belong to")
                .hint("say --name as well: the image has none"),
        ),
    }
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
