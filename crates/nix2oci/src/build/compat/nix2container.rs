//! The image JSON of nix2container, version 1.
//!
//! Source: nlewo/nix2container, `types/types.go`, `nix/tar.go`, `nix/graph.go`,
//! 2021 to 2025. What a store path holds is at its own place, or at one that a
//! regular expression makes of it; modes and owners are said by expressions over
//! the path in the store. Of a layer with a tar, a base image's or one that is
//! not reproducible, the tar counts.
//!
//! Members of a path that are not known change the files that come out, so they
//! are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::digest::DiffId;
use crate::error::{Error, Location, Result};
use crate::layer::Owner;
use crate::oci::Platform;
use crate::plan::{Copies, Pattern, PatternKind, Rewrite, Rule};
use crate::store::{StoreDir, StorePath};

use super::{ForeignImage, ForeignTar, ForeignTime, TarDigest};

/// The version that is known.
const VERSION: u64 = 1;

/// The mode of a directory of the store, which stays its own where it is copied
/// to.
const DIRECTORY_MODE: u32 = 0o555;

#[derive(Debug, Deserialize)]
struct Image {
    version: u64,
    #[serde(rename = "image-config")]
    config: Option<Value>,
    /// `null` in an image without layers.
    layers: Option<Vec<Layer>>,
    arch: String,
    created: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Layer {
    /// The digest of the file where there is one, which may be compressed; else
    /// of the tar.
    digest: Option<String>,
    /// The digest of the tar, one in spite of the name.
    diff_ids: String,
    paths: Option<Vec<LayerPath>>,
    #[serde(rename = "layer-path")]
    layer_path: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerPath {
    path: String,
    options: Option<Options>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Options {
    rewrite: Option<RewriteText>,
    perms: Option<Vec<Perm>>,
}

/// Of an empty expression there is no rewrite.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RewriteText {
    regex: String,
    repl: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Perm {
    regex: String,
    /// Octal digits; empty where only the owner is said.
    #[serde(default)]
    mode: String,
    /// Octal digits of bits that are added, after the mode: of
    /// nlewo/nix2container#210.
    #[serde(default, rename = "orMode")]
    or_mode: String,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    /// Names of owners are in no layer of ours.
    #[serde(default, rename = "uname")]
    _uname: String,
    #[serde(default, rename = "gname")]
    _gname: String,
}

pub(super) fn parse(bytes: &[u8], document: &str) -> Result<ForeignImage> {
    let image: Image =
        serde_json::from_slice(bytes).map_err(|error| Error::json_syntax(document, &error))?;
    let refuse = |key: &str, problem: String| {
        Error::document(document, Location::Key(key.to_owned()), problem)
    };
    if image.version != VERSION {
        let problem = format!("expected version {VERSION}, found {}", image.version);
        return Err(refuse("version", problem));
    }
    let created = match image.created.as_deref() {
        None => ForeignTime::At(Default::default()),
        Some(text) => ForeignTime::At(
            text.parse()
                .map_err(|error| refuse("created", format!("{error}")))?,
        ),
    };
    let mut platform = Platform::default();
    platform
        .set_os("linux".into())
        .set_architecture(image.arch.as_str().into());
    let mut layers = Layers::default();
    for (at, layer) in image.layers.unwrap_or_default().into_iter().enumerate() {
        let key = format!("layers[{at}]");
        layers.add(layer).map_err(|problem| refuse(&key, problem))?;
    }
    let mut made = ForeignImage {
        document: document.to_owned(),
        store_dir: StoreDir::default(),
        base: None,
        bottom_tars: Vec::new(),
        layers: Vec::new(),
        copies: Vec::new(),
        rules: Vec::new(),
        top_tars: Vec::new(),
        config: super::config(document, image.config, platform)?,
        created,
        mtime: ForeignTime::At(Default::default()),
        owner: Owner::default(),
        name: None,
    };
    layers
        .finish(&mut made)
        .map_err(|problem| refuse("layers", problem))?;
    Ok(made)
}

/// The layers so far.
#[derive(Default)]
struct Layers {
    store_dir: StoreDir,
    layers: Vec<Vec<StorePath>>,
    /// What is said of the files of a store path that is at its own place: by
    /// the last layer that has it, which is the one that is seen.
    placed: BTreeMap<StorePath, (usize, Vec<Rule>)>,
    /// The same of what is copied, in order.
    copied: Vec<(Copies, Vec<Rule>)>,
    /// Tars, and whether store paths are in a layer above them.
    tars: Vec<(ForeignTar, bool)>,
}

impl Layers {
    fn add(&mut self, layer: Layer) -> Result<(), String> {
        if let Some(path) = layer.layer_path {
            let diff_id: DiffId = layer
                .diff_ids
                .parse()
                .map_err(|error| format!("diff_ids: {error}"))?;
            let digest = layer
                .digest
                .filter(|digest| !digest.is_empty())
                .map(|digest| digest.parse())
                .transpose()
                .map_err(|error| format!("digest: {error}"))?;
            let tar = ForeignTar {
                path,
                diff_id: TarDigest::Known(diff_id),
                digest,
            };
            self.tars.push((tar, false));
            return Ok(());
        }
        let number = self.layers.len();
        let mut paths = Vec::new();
        for entry in layer.paths.unwrap_or_default() {
            let path = self
                .store_dir
                .parse_path(&entry.path)
                .map_err(|error| error.to_string())?;
            let options = entry.options.unwrap_or_default();
            let rules = rules(&path, options.perms.unwrap_or_default())?;
            let rewrite = options.rewrite.filter(|rewrite| !rewrite.regex.is_empty());
            match rewrite {
                Some(rewrite) => self.copy(path, &rewrite, rules)?,
                None => {
                    self.placed.insert(path.clone(), (number, rules));
                    paths.push(path);
                }
            }
        }
        self.layers.push(paths);
        for (_, is_below) in &mut self.tars {
            *is_below = true;
        }
        Ok(())
    }

    fn copy(
        &mut self,
        path: StorePath,
        rewrite: &RewriteText,
        rules: Vec<Rule>,
    ) -> Result<(), String> {
        let rewrite = Rewrite::new(&rewrite.regex, &rewrite.repl).map_err(|e| e.to_string())?;
        // What the expression does not match stays where it is.
        let target = self.store_dir.join(&path).into_bytes().split_off(1);
        let copies = Copies {
            target,
            rewrites: vec![rewrite],
            directory_mode: Some(DIRECTORY_MODE),
            ..Copies::new(path)
        };
        self.copied.push((copies, rules));
        Ok(())
    }

    fn finish(self, image: &mut ForeignImage) -> Result<(), String> {
        for (number, paths) in self.layers.into_iter().enumerate() {
            let is_seen = |path: &StorePath| self.placed.get(path).is_some_and(|p| p.0 == number);
            let mut known = BTreeSet::new();
            let seen: Vec<_> = paths
                .into_iter()
                .filter(|path| is_seen(path) && known.insert(path.clone()))
                .collect();
            if !seen.is_empty() {
                image.layers.push(seen);
            }
        }
        // Rules are of a store path, wherever its files go.
        let mut by_path: BTreeMap<StorePath, Vec<Rule>> = BTreeMap::new();
        let placed = self
            .placed
            .into_iter()
            .map(|(path, (_, rules))| (path, rules));
        let copied = self.copied.iter();
        let copied = copied.map(|(copies, rules)| (copies.path.clone(), rules.clone()));
        for (path, rules) in placed.chain(copied) {
            match by_path.get(&path) {
                Some(other) if *other != rules => {
                    return Err(format!(
                        "{} is in the image twice, with different perms: one can be had",
                        image.store_dir.join(&path)
                    ));
                }
                _ => drop(by_path.insert(path, rules)),
            }
        }
        image.rules = by_path.into_values().flatten().collect();
        image.copies = self.copied.into_iter().map(|(copies, _)| copies).collect();
        // Store paths are in nobody's way, so a tar between them may be below
        // all of them; what is copied has to be above those that it was above.
        for (tar, is_below) in self.tars {
            match is_below {
                true => image.bottom_tars.push(tar),
                false => image.top_tars.push(tar),
            }
        }
        Ok(())
    }
}

fn rules(path: &StorePath, perms: Vec<Perm>) -> Result<Vec<Rule>, String> {
    let rules = perms.into_iter().map(|perm| {
        let pattern = Pattern::new(PatternKind::Source, &perm.regex).map_err(|e| e.to_string())?;
        let mode = permission_bits(&perm.mode)?;
        let mut rule = Rule::new(pattern);
        rule.within = Some(path.clone());
        rule.file_mode = mode;
        rule.directory_mode = mode;
        rule.added_mode = permission_bits(&perm.or_mode)?.unwrap_or(0);
        rule.owner = Some(Owner {
            uid: perm.uid,
            gid: perm.gid,
        });
        Ok(rule)
    });
    rules.collect()
}

/// Reads octal digits; of none there are no bits.
fn permission_bits(digits: &str) -> Result<Option<u32>, String> {
    if digits.is_empty() {
        return Ok(None);
    }
    let is_octal = digits.bytes().all(|digit| digit.is_ascii_digit());
    let bits = u32::from_str_radix(digits, 8).ok();
    match bits.filter(|bits| is_octal && *bits <= 0o7777) {
        None => Err(format!("{digits:?} is no mode: expected octal digits")),
        bits => Ok(bits),
    }
}
