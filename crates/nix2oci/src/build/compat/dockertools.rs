//! The configuration of a streamed layered image of dockerTools, which its
//! `conf` is and its script reads.
//!
//! Source: NixOS/nixpkgs, `pkgs/build-support/docker/default.nix` and
//! `stream_layered_image.py`, 2019 to 2025. The script gives the image the
//! config as it is, but for the environment of the base, on top of which that
//! of the config comes.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Location, Result};
use crate::layer::Owner;
use crate::oci::Platform;
use crate::store::StoreDir;

use super::{ForeignImage, ForeignTar, ForeignTime, TarDigest};

#[derive(Debug, Deserialize)]
struct Conf {
    architecture: String,
    os: Option<String>,
    /// Empty where there is none.
    variant: Option<String>,
    config: Option<Value>,
    store_dir: String,
    from_image: Option<PathBuf>,
    store_layers: Vec<Vec<String>>,
    /// A directory with `layer.tar` and its `checksum`.
    customisation_layer: Option<PathBuf>,
    repo_tag: Option<String>,
    created: String,
    /// `created` before 2024.
    mtime: Option<String>,
    uid: Option<Id>,
    gid: Option<Id>,
}

/// A user or a group: jq wrote it as a string for years.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u32),
    Text(String),
}

pub(super) fn parse(bytes: &[u8], document: &str) -> Result<ForeignImage> {
    let conf: Conf =
        serde_json::from_slice(bytes).map_err(|error| Error::json_syntax(document, &error))?;
    let refuse = |key: &str, problem: String| {
        Error::document(document, Location::Key(key.to_owned()), problem)
    };
    let store_dir: StoreDir = conf
        .store_dir
        .parse()
        .map_err(|error| refuse("store_dir", format!("{error}")))?;
    let mut layers = Vec::with_capacity(conf.store_layers.len());
    for (at, layer) in conf.store_layers.iter().enumerate() {
        let mut paths = Vec::with_capacity(layer.len());
        for path in layer {
            let parsed = store_dir.parse_path(path);
            let parsed = parsed
                .map_err(|error| refuse(&format!("store_layers[{at}]"), error.to_string()))?;
            paths.push(parsed);
        }
        // A layer without store paths has nothing that others have not.
        if !paths.is_empty() {
            layers.push(paths);
        }
    }
    let id = |key: &str, id: Option<Id>| match id {
        None => Ok(0),
        Some(Id::Number(number)) => Ok(number),
        Some(Id::Text(text)) => text
            .parse()
            .map_err(|_| refuse(key, format!("{text:?} is not the number of a {key}"))),
    };
    let time = |key: &str, text: &str| match text {
        "now" => Ok(ForeignTime::Now),
        text => text
            .parse()
            .map(ForeignTime::At)
            .map_err(|error| refuse(key, format!("{error}"))),
    };
    let mut platform = Platform::default();
    platform
        .set_os(conf.os.as_deref().unwrap_or("linux").into())
        .set_architecture(conf.architecture.as_str().into())
        .set_variant(conf.variant.filter(|variant| !variant.is_empty()));
    let created = time("created", &conf.created)?;
    Ok(ForeignImage {
        document: document.to_owned(),
        base: conf.from_image,
        bottom_tars: Vec::new(),
        layers,
        copies: Vec::new(),
        rules: Vec::new(),
        top_tars: conf
            .customisation_layer
            .map(|dir| ForeignTar {
                path: dir.join("layer.tar"),
                diff_id: TarDigest::In(dir.join("checksum")),
                digest: None,
            })
            .into_iter()
            .collect(),
        config: super::config(document, conf.config, platform)?,
        mtime: conf
            .mtime
            .map_or(Ok(created), |text| time("mtime", &text))?,
        created,
        owner: Owner {
            uid: id("uid", conf.uid)?,
            gid: id("gid", conf.gid)?,
        },
        name: conf.repo_tag,
        store_dir,
    })
}
