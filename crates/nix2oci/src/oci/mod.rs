//! OCI's words: the types of the `oci-spec` crate, and what they lack.
//!
//! The types are re-exported, so that an embedder gets the version that this
//! library speaks. Their maps are unordered: everything that gets a digest is
//! written through [`canonical_json`].
//!
//! - [`parse_name`], [`parse_names`], [`parse_reference`]: names of images as
//!   people write them
//! - [`parse_platform`], [`display_platform`]: platforms, Nix systems included
//! - [`Owner`]: who a file belongs to
//! - [`Timestamp`]: times, with one spelling each, and [`parse_time`] for those
//!   that are typed
//! - [`annotation`]: the annotation keys that we write

pub mod annotation;
mod owner;
mod platform;
mod reference;
mod timestamp;

use serde::Serialize;

use crate::digest::Digest;

pub use owner::{Owner, ParseOwnerError};
pub use platform::{ParsePlatformError, display_platform, parse_platform};
pub use reference::{ParseNameError, is_tag, parse_name, parse_names, parse_reference};
pub use timestamp::{ParseTimestampError, Timestamp, parse_time};

pub use oci_spec::distribution::Reference;
pub use oci_spec::image::{
    Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Platform,
};

/// Makes a descriptor without annotations.
pub fn descriptor(media_type: MediaType, digest: Digest, size: u64) -> Descriptor {
    let digest: oci_spec::image::Digest = digest
        .to_string()
        .parse()
        .expect("a SHA-256 digest is a digest");
    Descriptor::new(media_type, size, digest)
}

/// Returns the digest that a descriptor names, or `None` if it is not a
/// SHA-256.
pub fn descriptor_digest(descriptor: &Descriptor) -> Option<Digest> {
    descriptor.digest().to_string().parse().ok()
}

/// Writes JSON whose bytes are a function of the value: no spaces, the keys of
/// every object in the order of their bytes.
///
/// Neither `oci-spec`'s unordered maps nor the `preserve_order` feature of
/// `serde_json`, which any crate of a program may turn on, can change them.
pub fn canonical_json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut value = serde_json::to_value(value).expect("our types have string keys only");
    sort(&mut value);
    serde_json::to_vec(&value).expect("a JSON value can be written")
}

fn sort(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Array(items) => items.iter_mut().for_each(sort),
        serde_json::Value::Object(map) => {
            let mut entries: Vec<_> = std::mem::take(map).into_iter().collect();
            entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            for (key, mut value) in entries {
                sort(&mut value);
                map.insert(key, value);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let value: serde_json::Value =
            serde_json::from_str(r#"{"b":[{"z":1,"a":{"y":2,"x":3}}],"a":null}"#).unwrap();
        assert_eq!(
            canonical_json(&value),
            br#"{"a":null,"b":[{"a":{"x":3,"y":2},"z":1}]}"#
        );
    }
}
