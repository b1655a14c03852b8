//! `nix2oci index`

use std::collections::BTreeMap;

use nix2oci::StoreDir;
use nix2oci::build::{IndexPart, IndexSource};

use crate::args::IndexArgs;
use crate::display::Talk;
use crate::exit::{Failure, Outcome};
use crate::select::{self, OpenedImage, Reach, RecipeOrImage};

use super::recipes::Recipes;
use super::several::{Output, Whole};

/// An image of the index, opened.
enum Opened {
    Recipes(Recipes),
    Image(OpenedImage),
}

/// Joins images of several platforms.
pub(crate) fn index(args: &IndexArgs, talk: &Talk) -> Outcome {
    let output = Output::open(
        &args.output,
        args.reuse.reuses(),
        args.name.as_deref(),
        &args.tag,
        &args.record,
        args.json,
    )?;
    let annotations = args.annotation.iter().map(|text| annotation(text));
    let annotations = annotations.collect::<Outcome<Vec<_>>>()?;
    let images = args.images.iter().map(|text| select::recipe_or_image(text));
    let images = images.collect::<Outcome<Vec<_>>>()?;
    let cx = select::context(args.threads, talk)?;
    let remote = images.iter().filter_map(RecipeOrImage::image);
    let remote: Vec<_> = remote.cloned().collect();
    let reuse = Some(&args.reuse);
    let network = select::network_of(&cx, &remote, &args.registry, reuse, output.host(), None)?;
    let reach = Reach::new(&args.registry, &args.caches, &args.reuse.cache);
    let mut opened = Vec::with_capacity(images.len());
    for image in images {
        opened.push(match image {
            RecipeOrImage::Recipe(file) => {
                Opened::Recipes(Recipes::read(&cx, &file, &args.contents, &reach)?)
            }
            RecipeOrImage::Image(image) => {
                Opened::Image(select::open(&cx, network.as_ref(), image)?)
            }
        });
    }
    let mut parts = Vec::new();
    for (name, opened) in args.images.iter().zip(&opened) {
        match opened {
            Opened::Recipes(recipes) => parts.extend(recipes.parts()),
            Opened::Image(image) => parts.push(IndexPart {
                name: name.clone(),
                source: IndexSource::Stored {
                    image: &image.reader,
                    platform: None,
                },
            }),
        }
    }
    let mut names = select::given_names(args.name.as_deref(), &args.tag)?;
    let mut whole_annotations = BTreeMap::new();
    // An index that is all of the new one says more than its images.
    if let [Opened::Recipes(recipes)] = &opened[..]
        && recipes.index.is_some()
    {
        whole_annotations.extend(recipes.annotations());
        if names.is_empty() {
            names = recipes.names()?;
        }
    }
    whole_annotations.extend(select::assignments(&annotations)?);
    let whole = Whole {
        parts: &parts,
        annotations: whole_annotations,
        store_dir: StoreDir::default(),
        names,
        network: network.as_ref(),
        download_size: reach.download_size(),
        result: &|pushed| pushed.pinned.clone(),
    };
    output.write(&cx, &whole, talk)
}

/// Returns what an annotation says of the index.
fn annotation(text: &str) -> Outcome<String> {
    if text.starts_with("manifest:") {
        return Err(Failure::usage(format!(
            "--annotation {text}: the images keep their manifests, and only the index is made here"
        ))
        .hint("leave out manifest: to annotate the index"));
    }
    Ok(text.strip_prefix("index:").unwrap_or(text).to_owned())
}
