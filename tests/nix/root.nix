# An image of any store path, to try the command as a builder by hand:
#
#     nix-build tests/nix/root.nix --argstr root /nix/store/… \
#         --argstr bin "$PWD/target/release/nix2oci" \
#         --option sandbox true --option sandbox-fallback false \
#         --option sandbox-paths '/bin /lib /lib64 /usr'
#
# As root without build users also: --option build-users-group ''
{
  bin,
  root,
  # Further arguments of buildImage.
  arguments ? { },
}:
(import ./tools.nix { inherit bin; }).buildImage (
  {
    name = "root";
    tag = "v1";
    config.Entrypoint = [ "${builtins.storePath root}/bin/app" ];
  }
  // arguments
)
