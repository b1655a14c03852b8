//! What an image's config says besides its layers.

use std::collections::BTreeMap;

use crate::oci::Platform;

/// The parts of an image's config and manifest that the user decides.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageConfig {
    /// The platform of the programs in the image.
    pub platform: Platform,
    /// When the image was made, in RFC 3339, such as `1970-01-01T00:00:01Z`.
    pub created: String,
    /// Who made the image.
    pub author: Option<String>,
    /// The `config` object in the specification's spelling: `Entrypoint`,
    /// `Cmd`, `Env`, and whatever else was given, such as `Healthcheck`.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}
