//! `nix2oci lock`

use std::path::Path;

use nix2oci::Context;
use nix2oci::image::{ImageLock, ImageSource};
use nix2oci::oci::{MediaType, Reference, descriptor};
use nix2oci::registry::LockRequest;

use crate::args::LockArgs;
use crate::display::Talk;
use crate::exit::{Failure, Outcome, Status};
use crate::output::{self, PendingFile, StreamedFile};
use crate::select::{self, AnyImage, Network};
use crate::stdout;

/// Pins images, or does something with what is pinned.
pub(crate) fn lock(args: &LockArgs, talk: &Talk) -> Outcome {
    let cx = select::context(None, talk)?;
    if let Some(digest) = args.fetch {
        return fetch(&cx, args, digest);
    }
    if args.check || args.update {
        return renew(&cx, args);
    }
    let file = PendingFile::new(args.output.as_deref().unwrap_or(Path::new("-")))?;
    let mut requests = Vec::new();
    for text in &args.images {
        let reference = reference(text)?;
        let request = |platform| LockRequest {
            reference: reference.clone(),
            platform,
        };
        if args.platform.is_empty() {
            requests.push(request(None));
        }
        let platforms = args.platform.iter().cloned().map(Some);
        requests.extend(platforms.map(request));
    }
    let network = network(&cx, args, &requests)?;
    let lock = network.registries.lock(&cx, &requests)?;
    file.finish(&lock.to_json())?;
    Ok(Status::Done)
}

/// Looks whether the names of a lock stand for what they stood for, and pins
/// what they stand for now.
fn renew(cx: &Context, args: &LockArgs) -> Outcome {
    let (name, lock) = one_lock(args)?;
    let requests = LockRequest::of_lock(&lock, name)?;
    let network = network(cx, args, &requests)?;
    if args.update {
        let file = PendingFile::new(args.output.as_deref().unwrap_or(Path::new(name)))?;
        let lock = network.registries.lock(cx, &requests)?;
        file.finish(&lock.to_json())?;
        return Ok(Status::Done);
    }
    let mut moved = String::new();
    for (image, request) in lock.images.iter().zip(&requests) {
        let now = network.registries.resolve(&request.reference)?;
        if now.as_deref() != Some(&*image.resolved) {
            let now = now.as_deref().unwrap_or("nothing");
            moved.push_str(&format!("{}: {} → {now}\n", image.name, image.resolved));
        }
    }
    if moved.is_empty() {
        output::print(b"ok\n")?;
        return Ok(Status::Done);
    }
    match output::print(moved.as_bytes()) {
        Err(failure) if failure.is_worth_telling() => Err(failure),
        _ => Ok(Status::Problems),
    }
}

/// Fetches a layer that a lock names.
fn fetch(cx: &Context, args: &LockArgs, digest: nix2oci::Digest) -> Outcome {
    let (name, lock) = one_lock(args)?;
    let Some(blob) = lock.blob(digest) else {
        return Err(Failure::input(format!("{name} has no layer {digest}"))
            .hint("manifests and configs are in the lock itself"));
    };
    let output = args.output.as_deref().unwrap_or(Path::new("-"));
    if stdout::is_stdout(output) && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        return Err(
            Failure::usage("standard output is a terminal, and a layer is no text")
                .hint("name a file with --output"),
        );
    }
    let mut file = StreamedFile::create(output)?;
    let image = select::any_image(&args.images[0])?;
    let reader = select::open_image(cx, &image, &args.registry)?;
    let descriptor = descriptor(MediaType::from(&*blob.media_type), digest, blob.size);
    file.copy(cx, &mut *reader.open_blob(&descriptor)?)?;
    file.finish()?;
    Ok(Status::Done)
}

/// Reads the one lock that is named.
fn one_lock(args: &LockArgs) -> Outcome<(&str, ImageLock)> {
    let [name] = &args.images[..] else {
        return Err(Failure::usage("several files are given, expected one lock"));
    };
    let name = name.strip_prefix("lock:").unwrap_or(name);
    Ok((name, select::read_lock(Path::new(name))?))
}

/// Reads an image that can be pinned.
fn reference(text: &str) -> Outcome<Reference> {
    match select::any_image(text)? {
        AnyImage::Remote(reference) => Ok(reference),
        AnyImage::Stored(source) => {
            let is_there = match &source {
                ImageSource::Path(path) => path.exists(),
                _ => true,
            };
            Err(match is_there {
                true => Failure::usage(format!(
                    "{text} is on this machine: a lock pins what may change in a registry"
                ))
                .hint(
                    "say it where the lock would stand, such as --from; a derivation pins it by \
                     the hash of its bytes, as a path of its source or with fetchurl",
                ),
                false => Failure::usage(format!("{text} is not an image of a registry"))
                    .hint(format!("is docker://{text} meant?")),
            })
        }
    }
}

/// Finds out how registries are reached.
fn network(cx: &Context, args: &LockArgs, requests: &[LockRequest]) -> Outcome<Network> {
    let images = requests
        .iter()
        .map(|r| AnyImage::Remote(r.reference.clone()));
    let images: Vec<_> = images.collect();
    let network = select::network_of(cx, &images, &args.registry, None, None, None)?;
    network.ok_or_else(|| Failure::input("the lock names no image"))
}
