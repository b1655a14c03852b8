//! The page of an image that is there.

use nix2oci::image::{ImageSummary, LayerSummary};

use crate::display::measure;

use super::words::parts;
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
        why: layer
            .comment
            .as_ref()
            .or(layer.created_by.as_ref())
            .cloned()
            .unwrap_or_default(),
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
        Some(contents) => contents
            .store_paths
            .iter()
            .map(|found| {
                let size = told.iter().find(|(told, _)| is_told(found, told));
                path(found, size.and_then(|(_, size)| *size))
            })
            .collect(),
        None => told.iter().map(|(told, size)| path(told, *size)).collect(),
    }
}

/// Returns whether a store path is one that the image tells, perhaps with only the
/// beginning of its hash.
fn is_told(found: &str, told: &str) -> bool {
    let (found, told) = (parts(found), parts(told));
    let start = told.hash.trim_end_matches('…');
    found.hash.starts_with(start) && (found.name, found.version) == (told.name, told.version)
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
            assert_eq!(is_told(found, told), want, "{told}");
        }
    }
}
