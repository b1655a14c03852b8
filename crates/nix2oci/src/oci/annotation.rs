//! The annotation keys that we write.

/// The name of an image inside a layout or an archive: the key of the OCI
/// image specification. We write the tag alone, as buildkit and skopeo do.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The full name of an image, such as `docker.io/library/app:latest`:
/// containerd's key, which podman and k3s read as well. containerd ignores an
/// image that has no name in it.
pub const IMAGE_NAME: &str = "io.containerd.image.name";

/// What is in each layer, on the manifest: an
/// [`ImageTable`](crate::image::ImageTable) as short text. A later build finds
/// its layers by it and packs nothing; who asks what is in an image, or which
/// of its paths changed, need not fetch a layer.
///
/// It is missing on an image whose table would make its manifest too large for
/// a registry.
pub const LAYERS: &str = "dev.nix2oci.layers";

/// The name of the image that this one is built on: the key of the OCI image
/// specification.
pub const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// The digest of the manifest of the image that this one is built on: the key
/// of the OCI image specification.
pub const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
