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
