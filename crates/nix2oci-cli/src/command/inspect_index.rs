//! `nix2oci inspect` of an image for several platforms.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nix2oci::image::ImageReader;
use nix2oci::oci::{Descriptor, ImageIndex, ImageManifest, Platform, display_platform};
use nix2oci::{Context, Error, ErrorKind};
use serde::Serialize;

use crate::display::measure;
use crate::exit::{Outcome, Status};
use crate::output;

/// An index, and what it has for each platform.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IndexSummary {
    version: u32,
    image: String,
    digest: String,
    media_type: String,
    annotations: BTreeMap<String, String>,
    manifests: Vec<Member>,
}

/// A manifest of an index.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    /// `os/arch[/variant]`, if the index or the config says it.
    platform: Option<String>,
    digest: String,
    media_type: String,
    /// Bytes of manifest, config and layers; `null` of an index in the index.
    size: Option<u64>,
    annotations: BTreeMap<String, String>,
}

/// Returns what an image is from which one for a platform must be chosen, as
/// `error` says it; `None` if the error is about something else.
pub(super) fn summary(
    cx: &Context,
    reader: &ImageReader,
    platform: Option<&Platform>,
    error: &Error,
) -> Outcome<Option<IndexSummary>> {
    let is_choice = matches!(
        error.kind(),
        ErrorKind::Image { problem, .. } if problem.contains("for several platforms")
    );
    if !is_choice || platform.is_some() {
        return Ok(None);
    }
    // An archive may have images for several platforms without an index of them.
    let Ok(tree) = reader.tree(cx, None) else {
        return Ok(None);
    };
    let root = tree.root();
    let Ok(index) = serde_json::from_slice::<ImageIndex>(&root.bytes) else {
        return Ok(None);
    };
    let mut manifests = Vec::with_capacity(index.manifests().len());
    for descriptor in index.manifests() {
        let same = |d: &&_| member_digest(d) == descriptor.digest().to_string();
        let document = tree.documents.iter().find(same);
        let of_config = match (descriptor.platform(), document) {
            (None, Some(document)) => reader.platform_of(document)?,
            _ => None,
        };
        let platform = descriptor.platform().as_ref().or(of_config.as_ref());
        manifests.push(Member {
            platform: platform.map(display_platform),
            digest: descriptor.digest().to_string(),
            media_type: descriptor.media_type().to_string(),
            size: document.and_then(|document| whole_size(&document.bytes)),
            annotations: annotations(descriptor.annotations().as_ref()),
        });
    }
    Ok(Some(IndexSummary {
        version: 1,
        image: reader.name().to_owned(),
        digest: root.descriptor.digest().to_string(),
        media_type: root.descriptor.media_type().to_string(),
        annotations: annotations(index.annotations().as_ref()),
        manifests,
    }))
}

fn member_digest(document: &nix2oci::image::TreeDocument) -> String {
    document.descriptor.digest().to_string()
}

fn annotations<'a>(
    annotations: Option<impl IntoIterator<Item = (&'a String, &'a String)>>,
) -> BTreeMap<String, String> {
    let annotations = annotations.into_iter().flatten();
    annotations
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Returns the bytes of a manifest and of all blobs that it names.
fn whole_size(bytes: &[u8]) -> Option<u64> {
    let manifest: ImageManifest = serde_json::from_slice(bytes).ok()?;
    let layers = manifest.layers().iter().map(Descriptor::size);
    let own = [bytes.len() as u64, manifest.config().size()];
    Some(own.into_iter().chain(layers).fold(0, u64::saturating_add))
}

impl IndexSummary {
    /// Prints it, as JSON or for people.
    pub(super) fn print(&self, as_json: bool) -> Outcome {
        if as_json {
            output::print(&output::json(self))?;
            return Ok(Status::Done);
        }
        let mut text = format!("index      {}\n", self.digest);
        for (key, value) in &self.annotations {
            let _ = writeln!(text, "annotation {key}={value}");
        }
        for member in &self.manifests {
            let size = member.size.map_or_else(String::new, measure::bytes);
            let platform = member.platform.as_deref().unwrap_or("unknown");
            let _ = writeln!(text, "\n{platform}  {size}\n  {}", member.digest);
            for (key, value) in &member.annotations {
                let _ = writeln!(text, "  annotation {key}={value}");
            }
        }
        text.push_str("\n--platform shows one of them\n");
        output::print(text.as_bytes())?;
        Ok(Status::Done)
    }
}
