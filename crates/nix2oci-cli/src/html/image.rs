//! The page of an image that is there.

use std::collections::BTreeMap;

use nix2oci::image::{ImageSummary, LayerSummary};

use crate::display::measure;

use super::words::{of_base, parts};
use super::{Kind, Layer, Page, Path};

/// Makes the page of an image.
pub(crate) fn image(image: &ImageSummary) -> Page {
    let layers: Vec<Layer> = image.layers.iter().enumerate().map(layer).collect();
    let paths: usize = layers.iter().map(|layer| layer.paths.len()).sum();
    let fact = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut facts = vec![
        fact("digest", &image.digest.to_string()),
        fact("image ID", &image.config_digest.to_string()),
        fact("platform", &image.platform),
    ];
    facts.extend(image.names.iter().skip(1).map(|name| fact("name", name)));
    facts.extend(image.created.iter().map(|time| fact("created", time)));
    facts.extend(image.author.iter().map(|author| fact("author", author)));
    let unpacked = image
        .uncompressed_size
        .map(|size| (measure::bytes(size), "unpacked".to_owned()));
    let mut figures = vec![(measure::bytes(image.size), "to pull".to_owned())];
    figures.extend(unpacked);
    figures.push((measure::number(layers.len()), "layers".to_owned()));
    figures.push((measure::number(paths), "store paths".to_owned()));
    Page {
        kind: Kind::Image,
        heading: image.names.first().unwrap_or(&image.image).clone(),
        summary: String::new(),
        figures,
        facts,
        measure: "bytes of the blob",
        layers,
        packages: Vec::new(),
    }
}

fn layer((at, layer): (usize, &LayerSummary)) -> Layer {
    Layer {
        label: (at + 1).to_string(),
        size: Some(layer.size),
        why: {
            let told = layer.comment.as_ref().or(layer.created_by.as_ref());
            of_base(layer.is_base, told.cloned().unwrap_or_default())
        },
        state: None,
        paths: paths(layer),
    }
}

/// Returns the store paths that were found in a layer, with the sizes that the
/// image tells; of a layer that was not read, what the image tells.
fn paths(layer: &LayerSummary) -> Vec<Path> {
    let sizes = layer.nar_sizes.iter().flatten();
    let told: Vec<(&String, Option<u64>)> = layer
        .paths
        .iter()
        .flatten()
        .zip(sizes.copied().chain(std::iter::repeat(None)))
        .collect();
    let path = |path: &str, size| Path {
        path: path.to_owned(),
        size,
        state: None,
    };
    match &layer.contents {
        Some(contents) => {
            let sizes = Sizes::new(&told);
            let found = contents.store_paths.iter();
            found.map(|found| path(found, sizes.of(found))).collect()
        }
        None => told.iter().map(|(told, size)| path(told, *size)).collect(),
    }
}

/// What the image tells of store paths: by name and version, the beginnings of
/// hashes and the sizes.
struct Sizes<'a>(BTreeMap<(&'a str, &'a str), Vec<Told<'a>>>);

/// What is left to tell of a path, and its size.
type Told<'a> = (&'a str, Option<u64>);

impl<'a> Sizes<'a> {
    fn new(told: &[(&'a String, Option<u64>)]) -> Self {
        let mut by_name: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (told, size) in told {
            let parts = parts(told);
            let start = parts.hash.trim_end_matches('…');
            let named = by_name.entry((parts.name, parts.version)).or_default();
            named.push((start, *size));
        }
        Self(by_name)
    }

    /// Returns the size of a store path, if it is told.
    fn of(&self, found: &str) -> Option<u64> {
        let found = parts(found);
        let named = self.0.get(&(found.name, found.version))?;
        let mut fitting = named.iter();
        fitting.find(|(start, _)| found.hash.starts_with(start))?.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_by_the_beginning_of_its_hash() {
        let found = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello-2.12";
        for (told, want) in [
            (found, true),
            ("/nix/store/01234567…-hello-2.12", true),
            ("/nix/store/01234568…-hello-2.12", false),
            ("/nix/store/01234567…-hello-2.13", false),
            ("/nix/store/01234567…-hello", false),
        ] {
            let told = told.to_owned();
            let sizes = Sizes::new(&[(&told, Some(7))]);
            assert_eq!(sizes.of(found), want.then_some(7), "{told}");
        }
    }
}
