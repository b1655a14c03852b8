//! Images that the builds of other tools describe.
//!
//! - `dockertools`: what nixpkgs' `streamLayeredImage` hands to its script
//! - `nix2container`: what nix2container hands to skopeo
//!
//! Both are JSON documents that name store paths, layer by layer. Neither tells
//! references, NAR hashes or NAR sizes. The image that is made of one has the
//! same files, and other digests: layers are packed as ours are.

mod dockertools;
mod nix2container;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::closure::Closure;
use crate::content::ContentSource;
use crate::context::Context;
use crate::digest::{DiffId, Digest};
use crate::error::{Error, ErrorKind, Location, Result};
use crate::image::{BaseImage, ImageConfig, ImageReader, ImageSource};
use crate::layer::{Compression, Owner, Packing, TarFile};
use crate::oci::{Timestamp, parse_names};
use crate::plan::{Copies, ExplicitLayer, MAX_LAYERS, Rule};
use crate::store::{PathInfo, StoreDir, StorePath};

use super::ImageSpec;

/// Bytes of a file with a checksum that are read.
const MOST_CHECKSUM: u64 = 1 << 10;

/// Who wrote a description of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignFormat {
    /// dockerTools of nixpkgs: the configuration of a streamed layered image.
    DockerTools,
    /// nix2container: the image of its version 1.
    Nix2Container,
}

impl ForeignFormat {
    /// Returns which format a document has, by the members that it must have,
    /// or `None` if it is another one or no JSON.
    pub fn recognise(document: &[u8]) -> Option<Self> {
        let Ok(Value::Object(members)) = serde_json::from_slice(document) else {
            return None;
        };
        let has = |names: &[&str]| names.iter().all(|name| members.contains_key(*name));
        if has(&["store_layers", "store_dir"]) {
            Some(Self::DockerTools)
        } else if has(&["image-config", "layers"]) {
            Some(Self::Nix2Container)
        } else {
            None
        }
    }

    /// Returns the tool's name.
    pub fn tool(self) -> &'static str {
        match self {
            Self::DockerTools => "dockerTools",
            Self::Nix2Container => "nix2container",
        }
    }
}

/// An image as the build of another tool describes it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ForeignImage {
    /// What errors call the description.
    pub document: String,
    /// The directory of the store paths.
    pub store_dir: StoreDir,
    /// An archive of `docker save` that it is built on.
    pub base: Option<PathBuf>,
    /// Tars that are layers below the store paths, bottom first.
    pub bottom_tars: Vec<ForeignTar>,
    /// The store paths of each layer that has some, bottom first, each once.
    pub layers: Vec<Vec<StorePath>>,
    /// What is copied out of store paths to the root.
    pub copies: Vec<Copies>,
    /// Modes and owners of what store paths hold.
    pub rules: Vec<Rule>,
    /// Tars that are layers above all others, bottom first.
    pub top_tars: Vec<ForeignTar>,
    /// What the image's config says; without a time.
    pub config: ImageConfig,
    /// When the image was made.
    pub created: ForeignTime,
    /// The modification time of every file.
    pub mtime: ForeignTime,
    /// The owner of every file.
    pub owner: Owner,
    /// The image's name.
    pub name: Option<String>,
}

/// A tar that is a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignTar {
    /// The file, perhaps compressed.
    pub path: PathBuf,
    /// Where the digest of the tar is said.
    pub diff_id: TarDigest,
    /// The digest of the file, if that is said too.
    pub digest: Option<Digest>,
}

/// Who says the digest of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TarDigest {
    /// The description.
    Known(DiffId),
    /// A file beside it, as 64 hexadecimal digits.
    In(PathBuf),
}

/// A time that a description says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignTime {
    /// The time at which the image is made.
    Now,
    /// This time.
    At(Timestamp),
}

impl ForeignTime {
    /// Returns the time, if it is `now`.
    pub fn or_now(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Now => now,
            Self::At(time) => time,
        }
    }
}

/// What a description does not say.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ForeignOptions {
    /// What time it is, for descriptions that ask.
    pub now: Timestamp,
    /// The directory that stands for `/`, for a store that lies elsewhere.
    pub store_root: Option<PathBuf>,
    /// What is known of the store paths, and perhaps of more: NAR hashes make
    /// layers that can be found again, see [`LayerKey`](crate::layer::LayerKey).
    pub infos: Vec<PathInfo>,
    /// How layers are compressed.
    pub compression: Compression,
}

impl ForeignOptions {
    /// Makes some that know nothing of the store paths.
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            store_root: None,
            infos: Vec::new(),
            compression: Compression::default(),
        }
    }
}

impl ForeignImage {
    /// Reads a description; `document` names it in errors. Opens no file.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Document`] if it is of no known format, or has a version,
    /// a store path or an option that is not understood: what would make other
    /// files than the tool's own program is refused.
    pub fn parse(bytes: &[u8], document: &str) -> Result<Self> {
        match ForeignFormat::recognise(bytes) {
            Some(ForeignFormat::DockerTools) => dockertools::parse(bytes, document),
            Some(ForeignFormat::Nix2Container) => nix2container::parse(bytes, document),
            None => Err(Error::document(
                document,
                Location::Whole,
                "it describes no image: expected the configuration of dockerTools' streamed \
                 images, or an image of nix2container",
            )),
        }
    }

    /// Makes the image to be built: layers as they are described, and no more
    /// than these or [`MAX_LAYERS`].
    ///
    /// Reads the tars once, and visits the store paths that are copied to the
    /// root. All store paths are roots: nothing is known of their references,
    /// but for those of [`ForeignOptions::infos`] that are in the image.
    ///
    /// # Errors
    ///
    /// Those of [`TarFile::open`], [`BaseImage::open`],
    /// [`RootTree::add_copies`] and [`Closure::new`]; [`ErrorKind::DigestMismatch`] if a tar is not the one
    /// that was described.
    ///
    /// [`RootTree::add_copies`]: crate::plan::RootTree::add_copies
    pub fn spec(
        &self,
        cx: &Context,
        content: Arc<dyn ContentSource>,
        options: &ForeignOptions,
    ) -> Result<ImageSpec> {
        let closure = self.closure(&options.infos)?;
        let infos = options.infos.iter();
        let known: HashMap<_, _> = infos.map(|info| (&info.path, info.nar_hash)).collect();
        let nar_hash = |path: &StorePath| known.get(path).copied().flatten();
        let mut config = self.config.clone();
        config.created = Some(self.created.or_now(options.now));
        let mut spec = ImageSpec::new(closure, Arc::clone(&content), config);
        self.put_on_base(cx, &mut spec, options.store_root.as_deref())?;
        for copies in &self.copies {
            spec.root_tree
                .add_copies(cx, &self.store_dir, &*content, &nar_hash, copies)?;
        }
        let open = |tars: &[ForeignTar]| -> Result<Vec<TarFile>> {
            let root = options.store_root.as_deref();
            let tars = tars.iter();
            tars.map(|tar| tar.open(cx, &self.store_dir, root))
                .collect()
        };
        spec.bottom_tars = open(&self.bottom_tars)?;
        spec.layer_tars = open(&self.top_tars)?;
        spec.explicit_layers = self.explicit_layers();
        spec.rules = self.rules.clone();
        let mtime = self.mtime.or_now(options.now).unix_seconds();
        let refuse = |key: &str, problem: String| {
            Error::document(&*self.document, Location::Key(key.to_owned()), problem)
        };
        spec.packing = Packing {
            compression: options.compression,
            mtime: u64::try_from(mtime)
                .map_err(|_| refuse("mtime", "it is before 1970".to_owned()))?,
            owner: self.owner,
        };
        if let Some(name) = &self.name {
            spec.names = parse_names(name, &[] as &[&str])
                .map_err(|error| refuse("repo_tag", error.to_string()))?;
        }
        spec.max_layers = described_layers(&spec);
        Ok(spec)
    }

    /// Opens the base. Of its config the image gets the environment alone.
    fn put_on_base(&self, cx: &Context, spec: &mut ImageSpec, root: Option<&Path>) -> Result<()> {
        let Some(file) = &self.base else {
            return Ok(());
        };
        let source = ImageSource::Archive {
            file: below(file, root),
            tag: None,
        };
        let reader = Arc::new(ImageReader::open(cx, &source)?);
        let base = BaseImage::open(cx, reader, None)?;
        let inherited = base.config(&spec.config);
        if let Some(environment) = inherited.config.get("Env") {
            let environment = environment.clone();
            spec.config.config.insert("Env".to_owned(), environment);
        }
        spec.config.annotations = inherited.annotations;
        spec.inherits_config = false;
        spec.base = Some(base);
        Ok(())
    }

    fn explicit_layers(&self) -> Vec<ExplicitLayer> {
        let layers = self.layers.iter().zip(1..);
        let layer = |(paths, number): (&Vec<StorePath>, usize)| ExplicitLayer {
            name: format!("layer {number} of {}", self.document),
            paths: paths.clone(),
        };
        layers.map(layer).collect()
    }

    /// Returns the store paths of all layers, with as much of the references as
    /// stays among them.
    fn closure(&self, infos: &[PathInfo]) -> Result<Closure> {
        let paths: BTreeSet<&StorePath> = self.layers.iter().flatten().collect();
        let known = infos.iter().filter(|info| paths.contains(&info.path));
        let known = known.map(|info| {
            let mut info = info.clone();
            info.references.retain(|path| paths.contains(path));
            info
        });
        let told: BTreeSet<&StorePath> = infos.iter().map(|info| &info.path).collect();
        let others = paths.iter().filter(|path| !told.contains(**path));
        let others = others.map(|path| PathInfo::new((*path).clone(), []));
        let roots: Vec<StorePath> = paths.iter().copied().cloned().collect();
        let infos: Vec<PathInfo> = known.chain(others).collect();
        Closure::new(self.store_dir.clone(), infos, &roots, &self.document)
    }
}

impl ForeignTar {
    fn open(&self, cx: &Context, store_dir: &StoreDir, root: Option<&Path>) -> Result<TarFile> {
        let (tar, digest) = TarFile::open_digested(cx, &below(&self.path, root), store_dir)?;
        let verify = |what: String, expected: Digest, found: Digest| match expected == found {
            true => Ok(()),
            false => Err(Error::from(ErrorKind::DigestMismatch {
                what,
                expected,
                found,
            })),
        };
        let name = tar.path().display().to_string();
        if let Some(expected) = self.digest {
            verify(name.clone(), expected, digest)?;
        }
        let expected: DiffId = match &self.diff_id {
            TarDigest::Known(diff_id) => *diff_id,
            TarDigest::In(file) => {
                let file = below(file, root);
                let mut text = String::new();
                File::open(&file)
                    .and_then(|opened| opened.take(MOST_CHECKSUM).read_to_string(&mut text))
                    .map_err(Error::reading(&file))?;
                let parsed = format!("sha256:{}", text.trim()).parse();
                parsed.map_err(|_| {
                    let problem = "expected a SHA-256 in 64 hexadecimal digits";
                    Error::document(file.display().to_string(), Location::Whole, problem)
                })?
            }
        };
        let what = match tar.diff_id().digest() == digest {
            true => name,
            false => format!("the tar in {name}"),
        };
        verify(what, expected.digest(), tar.diff_id().digest())?;
        Ok(tar)
    }
}

/// Returns how many layers an image has that is made as it is described, and
/// [`MAX_LAYERS`] at most.
pub fn described_layers(spec: &ImageSpec) -> NonZeroUsize {
    let base = spec.base.as_ref().map_or(0, |base| base.layers().len());
    let layers = spec.explicit_layers.len()
        + spec.bottom_tars.len()
        + spec.layer_tars.len()
        + usize::from(!spec.root_tree.is_empty())
        + base;
    NonZeroUsize::new(layers.min(MAX_LAYERS)).unwrap_or(NonZeroUsize::MIN)
}

/// Returns where a file lies whose path is one of the store's own root.
fn below(path: &Path, root: Option<&Path>) -> PathBuf {
    match (root, path.strip_prefix("/")) {
        (Some(root), Ok(inside)) => root.join(inside),
        _ => path.to_owned(),
    }
}

/// Reads the config object of a description.
fn config(
    document: &str,
    config: Option<Value>,
    platform: crate::oci::Platform,
) -> Result<ImageConfig> {
    let config = config.filter(|config| !config.is_null());
    let config = config.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let whole = serde_json::json!({ "config": config });
    ImageConfig::from_json(document, whole.to_string().as_bytes(), platform)
}
