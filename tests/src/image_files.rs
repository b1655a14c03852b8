//! The files of an image, read by other code than the library's.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

/// Returns the bytes of a file in an archive or a layout directory.
pub fn read(image: &Path, file: &str) -> Vec<u8> {
    if image.is_dir() {
        return fs::read(image.join(file)).expect("the layout has the file");
    }
    let mut archive = tar::Archive::new(fs::File::open(image).expect("the image is there"));
    for entry in archive.entries().expect("the image is a tar") {
        let mut entry = entry.expect("the image is a tar");
        let path = entry.path().expect("the name is a path").into_owned();
        if path.strip_prefix("./").unwrap_or(&path) == Path::new(file) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("the tar is whole");
            return bytes;
        }
    }
    panic!("{} has no {file}", image.display());
}

/// Returns a JSON file of an archive or a layout directory.
pub fn read_json(image: &Path, file: &str) -> Value {
    serde_json::from_slice(&read(image, file)).expect("the file is JSON")
}

/// Returns the string that a JSON value must be.
pub fn text(value: &Value) -> &str {
    value.as_str().expect("it is a string")
}

/// Returns the digest of the image's manifest.
pub fn manifest_digest(image: &Path) -> String {
    text(&read_json(image, "index.json")["manifests"][0]["digest"]).to_owned()
}

/// Returns the bytes that a descriptor points to.
pub fn blob(image: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = text(&descriptor["digest"]).replace(':', "/");
    read(image, &format!("blobs/{digest}"))
}

fn document(image: &Path, descriptor: &Value) -> Value {
    serde_json::from_slice(&blob(image, descriptor)).expect("the blob is JSON")
}

/// Returns the image's manifest.
pub fn manifest(image: &Path) -> Value {
    document(image, &read_json(image, "index.json")["manifests"][0])
}

/// Returns the image's config.
pub fn config(image: &Path) -> Value {
    document(image, &manifest(image)["config"])
}

/// Returns the layers as tars, bottom first.
pub fn layer_tars(image: &Path) -> Vec<Vec<u8>> {
    let manifest = manifest(image);
    let layers = manifest["layers"].as_array().expect("a list of layers");
    let tar = |layer: &Value| {
        let blob = blob(image, layer);
        match text(&layer["mediaType"]).rsplit_once('+') {
            None => blob,
            Some((_, "gzip")) => {
                let mut tar = Vec::new();
                flate2::read::MultiGzDecoder::new(blob.as_slice())
                    .read_to_end(&mut tar)
                    .expect("the layer is gzip");
                tar
            }
            Some((_, codec)) => panic!("no reader for {codec}"),
        }
    };
    layers.iter().map(tar).collect()
}
