//! What comes over the network for the layers that have to be made.

use std::collections::BTreeMap;

use crate::content::ContentSource;
use crate::context::Context;
use crate::error::Result;
use crate::layer::{LayerContent, LayerSpec};
use crate::plan::{RootFile, RootNode, RootTree};
use crate::store::StorePath;

use super::{ImagePlan, ImageSpec};

/// Returns for each layer of a plan the bytes that making it brings over the
/// network, as [`ContentSource::download_size`] tells them: 0 for store paths
/// of this machine. Layers of a base are not among them.
///
/// Reads no content. A source far away may be asked for each store path, if it
/// was not asked before.
///
/// # Errors
///
/// Those of the content source.
pub fn download_sizes(cx: &Context, spec: &ImageSpec, plan: &ImagePlan) -> Result<Vec<u64>> {
    let layers = plan.layers.iter();
    layers
        .map(|layer| download_size(cx, spec.content.as_ref(), &layer.spec))
        .collect()
}

/// Returns the bytes that making a layer brings over the network; 0 if its blob
/// is at hand.
pub(super) fn download_size(
    cx: &Context,
    content: &dyn ContentSource,
    layer: &LayerSpec,
) -> Result<u64> {
    let mut sum = 0_u64;
    let mut visit = |path: &StorePath, times: u64| -> Result<()> {
        let size = content.download_size(cx, path)?;
        sum = sum.saturating_add(size.saturating_mul(times));
        Ok(())
    };
    match &layer.content {
        LayerContent::StorePaths(paths) => {
            let all: Vec<_> = paths.iter().map(|(path, _)| path.clone()).collect();
            content.look_up(cx, &all)?;
            for (path, _) in paths {
                visit(path, 1)?;
            }
        }
        LayerContent::RootTree(tree) => {
            let visits = visits(tree);
            let all: Vec<_> = visits.keys().map(|path| (*path).clone()).collect();
            content.look_up(cx, &all)?;
            for (path, times) in visits {
                visit(path, times)?;
            }
        }
        LayerContent::Used(used) if used.blob.is_none() => {
            return download_size(cx, content, &used.spec);
        }
        LayerContent::Used(_) | LayerContent::Tar(_) => {}
    }
    Ok(sum)
}

/// Returns how often each store path is visited for the files that are copied
/// of it: as often as the one is copied that is in most places.
pub(super) fn visits(tree: &RootTree) -> BTreeMap<&StorePath, u64> {
    let mut places: BTreeMap<(&StorePath, &[u8]), u64> = BTreeMap::new();
    for (_, node, _) in tree.nodes() {
        if let RootNode::File(RootFile::Stored { path, inside, .. }) = node {
            *places.entry((path, inside)).or_default() += 1;
        }
    }
    let mut visits: BTreeMap<&StorePath, u64> = BTreeMap::new();
    for ((path, _), times) in places {
        let most = visits.entry(path).or_default();
        *most = times.max(*most);
    }
    visits
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::build::plan;
    use crate::closure::Closure;
    use crate::content::Entry;
    use crate::digest::{DiffId, Digest};
    use crate::error::{Error, ErrorKind};
    use crate::image::ImageConfig;
    use crate::layer::{LayerRecord, Packing, UsedLayer};
    use crate::oci::{MediaType, parse_platform};
    use crate::plan::{Metadata, strategy};
    use crate::store::{NarHash, PathInfo, StoreDir};

    /// A source far away: each store path has as many bytes there as its name
    /// says. What is in it may not be asked for.
    struct Far;

    impl ContentSource for Far {
        fn visit(
            &self,
            _: &Context,
            path: &StorePath,
            _: &mut dyn FnMut(Entry<'_>) -> Result<()>,
        ) -> Result<()> {
            Err(Error::invalid(path.as_str(), "nobody may visit it"))
        }

        fn download_size(&self, _: &Context, path: &StorePath) -> Result<u64> {
            let size = path.name().parse();
            size.map_err(|_| Error::invalid(path.as_str(), "its name is no size"))
        }
    }

    fn path(size: &str) -> StorePath {
        format!("{size:0>32}-{size}").parse().unwrap()
    }

    fn spec(paths: &[&str]) -> ImageSpec {
        let infos = paths.iter().map(|size| PathInfo {
            nar_size: Some(100),
            nar_hash: Some(NarHash::new([1; 32])),
            ..PathInfo::new(path(size), [])
        });
        let infos: Vec<PathInfo> = infos.collect();
        let roots: Vec<StorePath> = infos.iter().map(|info| info.path.clone()).collect();
        let closure = Closure::new(StoreDir::default(), infos, &roots, "the test").unwrap();
        let platform = parse_platform("linux/amd64").unwrap();
        let mut spec = ImageSpec::new(closure, Arc::new(Far), ImageConfig::new(platform));
        spec.strategy = strategy("single").unwrap();
        spec
    }

    fn sizes(spec: &ImageSpec) -> Result<Vec<u64>> {
        let cx = Context::default();
        download_sizes(&cx, spec, &plan(&cx, spec)?)
    }

    #[test]
    fn each_layer_brings_its_store_paths() {
        let mut two = spec(&["3", "40"]);
        assert_eq!(sizes(&two).unwrap(), [43]);
        two.store_paths = false;
        assert_eq!(sizes(&two).unwrap(), [0]);
        let unknown = sizes(&spec(&["x"])).unwrap_err();
        assert!(matches!(unknown.kind(), ErrorKind::InvalidInput { .. }));
    }

    #[test]
    fn a_store_path_is_fetched_as_often_as_it_is_visited() {
        let file = |inside: &[u8]| {
            RootNode::File(RootFile::Stored {
                path: path("5"),
                inside: inside.to_vec(),
                nar_hash: None,
                executable: false,
                size: 1,
            })
        };
        let mut tree = RootTree::default();
        for (place, inside) in [("a", b"x"), ("b", b"x"), ("c", b"y")] {
            tree.insert(place.as_bytes(), file(inside), Metadata::default(), "it")
                .unwrap();
        }
        let mut copies = spec(&["7"]);
        copies.root_tree = tree;
        assert_eq!(sizes(&copies).unwrap(), [7, 10]);
    }

    #[test]
    fn a_layer_whose_blob_is_at_hand_brings_nothing() {
        let cx = Context::default();
        let layer = plan(&cx, &spec(&["9"])).unwrap().layers.remove(0).spec;
        let digest = Digest::of(b"");
        let record = LayerRecord {
            diff_id: DiffId::new(digest),
            uncompressed_size: 0,
            digest,
            size: 0,
            media_type: MediaType::ImageLayer,
        };
        let mut used = UsedLayer::new("the test", layer, Packing::default(), record);
        for (blob, expected) in [(None, 9), (Some("blob".into()), 0)] {
            used.blob = blob;
            let layer = super::super::recipe_parts::used(used.clone());
            assert_eq!(download_size(&cx, &Far, &layer).unwrap(), expected);
        }
    }
}
