//! `nix2oci build`

use std::path::PathBuf;
use std::time::Instant;

use nix2oci::build::PushReport;
use nix2oci::oci::Reference;
use nix2oci::sink::Destination;

use crate::args::BuildArgs;
use crate::display::{Summary, Talk};
use crate::exit::{Outcome, Status};
use crate::output::{self, Records};
use crate::report::Report;
use crate::select::{Loaders, Pushed, Reach};
use crate::{host, select, stdout};

use super::several::{Output, Parts};

/// Builds an image. Everything that can be wrong with where the results go is
/// found out before the work.
pub(crate) fn build(args: &BuildArgs, talk: &Talk) -> Outcome {
    if !args.next_parts.images.is_empty() {
        return build_several(args, talk);
    }
    if let Some(names) = select::destinations(&args.output)? {
        return push(args, &names, talk);
    }
    let start = Instant::now();
    let destination = select::destination(&args.output)?;
    let wants = |file: &Option<PathBuf>| file.as_deref().is_some_and(stdout::is_stdout);
    let is_stdout_taken = stdout::claim(&[
        ("--output", destination == Destination::Stdout),
        ("--json", args.json),
        ("--metadata-file", wants(&args.record.metadata_file)),
        ("--digest-file", wants(&args.record.digest_file)),
    ])?;
    let records = Records::new(&args.record)?;
    let mut sink = select::sink(&destination, args.reuse.reuses())?;
    let cx = select::context(args.image.run.threads, talk)?;
    select::warn_of_file_name(&cx, &destination);
    let base = select::base(&cx, &args.image, &args.registry, None)?;
    let reach = Reach::new(&args.registry, &args.caches, &args.reuse.cache);
    let mut spec = select::image(&cx, &args.image, &base, &reach, talk)?;
    let (layers, network) = (&args.image.layers, base.network(None));
    select::keep_layers(&cx, &mut spec, layers, &args.registry, network)?;
    let store_root = args.image.closure.contents.store_root.as_deref();
    select::warn(&cx, &spec, store_root, Loaders::at(&destination))?;
    let built = nix2oci::build(&cx, &spec, &mut *sink)?;

    let report = Report::built(&spec, &built).planned_with(reach.download_size());
    records.finish(&report, built.manifest_digest)?;
    talk.done(&Summary {
        verb: "wrote",
        destination: sink.name(),
        names: spec.names.iter().map(Reference::whole).collect(),
        digest: built.manifest_digest.to_string(),
        layers: built.base.len() + built.layers.len(),
        size: built.size(),
        elapsed: start.elapsed(),
        peak_memory: host::peak_memory(),
    });
    if args.json {
        stdout::deliver(&output::json(&report))?;
    } else if !is_stdout_taken {
        stdout::deliver(format!("{}\n", built.manifest_digest).as_bytes())?;
    }
    Ok(Status::Done)
}

/// Builds images for several platforms, and an index of them.
fn build_several(args: &BuildArgs, talk: &Talk) -> Outcome {
    let all = std::iter::once(&args.image).chain(&args.next_parts.images);
    let parts = Parts {
        sources: all
            .map(|part| (Pushed::Roots(part.roots.clone()), part))
            .collect(),
        next: &args.next_parts,
        registry: &args.registry,
        caches: &args.caches,
        reuse: &args.reuse,
        result: &|pushed| pushed.manifest_digest.to_string(),
    };
    let config = &args.image.config;
    let name = config.name.as_deref();
    // In a sink, the name that a root lends takes the tags.
    let tags: &[String] = match select::destinations(&args.output)? {
        Some(_) => &config.tag,
        None => &[],
    };
    let reuses = args.reuse.reuses();
    let output = Output::open(&args.output, reuses, name, tags, &args.record, args.json)?;
    super::several::run(&parts, output, talk)
}

/// Builds an image into a registry.
fn push(args: &BuildArgs, names: &[Reference], talk: &Talk) -> Outcome {
    let roots = Pushed::Roots(args.image.roots.clone());
    let digest = |pushed: &PushReport| pushed.manifest_digest.to_string();
    super::push::run(
        &super::push::Push {
            what: &roots,
            names,
            image: &args.image,
            registry: &args.registry,
            caches: &args.caches,
            reuse: &args.reuse,
            record: &args.record,
            json: args.json,
            result: &digest,
        },
        talk,
    )
}
