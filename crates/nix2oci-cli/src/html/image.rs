//! The page of an image that is there.

use nix2oci::image::{ImageSummary, LayerSummary};

use crate::display::measure;

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
    let paths = layer
        .contents
        .iter()
        .flat_map(|contents| &contents.store_paths);
    // An image does not record the sizes of store paths.
    let path = |path: &String| Path {
        path: path.clone(),
        size: None,
        state: None,
    };
    Layer {
        label: (at + 1).to_string(),
        size: layer.size,
        why: layer
            .comment
            .as_ref()
            .or(layer.created_by.as_ref())
            .cloned()
            .unwrap_or_default(),
        state: None,
        paths: paths.map(path).collect(),
    }
}
