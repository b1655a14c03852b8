//! The annotation keys that we write.

/// The name of an image inside a layout or an archive: the key of the OCI
/// image specification. We write the tag alone, as buildkit and skopeo do.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The full name of an image, such as `docker.io/library/app:latest`:
/// containerd's key, which podman and k3s read as well. containerd ignores an
/// image that has no name in it.
pub const IMAGE_NAME: &str = "io.containerd.image.name";

/// The [`LayerKey`](crate::layer::LayerKey) of a layer, on its descriptor in
/// the manifest. A later build finds the layer by it and packs nothing.
pub const LAYER_KEY: &str = "dev.nix2oci.layer-key";

/// The store paths in a layer, on its descriptor: base names (`HASH-NAME`) in
/// the order in which they are packed, one space between two. Who asks what is
/// in an image, or which of its paths changed, need not fetch its layers.
///
/// It is missing on a layer without store paths, and on all layers of an image
/// whose lists would make its manifest too large for a registry.
pub const STORE_PATHS: &str = "dev.nix2oci.store-paths";

/// The bytes of a layer's tar in decimal, on its descriptor. A runtime can tell
/// from it how much room the layer takes, a later build what it need not pack.
pub const UNCOMPRESSED_SIZE: &str = "dev.nix2oci.uncompressed-size";
