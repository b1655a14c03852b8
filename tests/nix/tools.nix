# The Nix functions with a binary from outside of Nix as their builder. It runs
# in the sandbox if that has the libraries the binary is linked with
# (sandbox-paths), and needs /bin/sh to be put into the store.
{
  # The binary.
  bin,
  # What the images are for.
  hostSystem ? builtins.currentSystem,
  # Packages for the images.
  overlays ? [ ],
}:
let
  system = builtins.currentSystem;
  pkgs = import ../../fixtures/nixpkgs-stub { inherit system overlays; };
in
rec {
  inherit pkgs;

  # A derivation by a shell script.
  shell =
    attrs: script:
    derivation (
      {
        inherit system;
        builder = "/bin/sh";
        args = [
          "-euc"
          ("PATH=/bin:/usr/bin\n" + script)
        ];
      }
      // attrs
    );

  nix2oci = shell {
    name = "nix2oci";
    bin = builtins.path {
      name = "nix2oci-under-test";
      path = bin;
    };
  } "mkdir -p $out/bin; cp $bin $out/bin/nix2oci; chmod +x $out/bin/nix2oci";

  inherit
    (import ../../crates/nix2oci-cli/nix {
      inherit
        pkgs
        nix2oci
        system
        hostSystem
        ;
    })
    buildImage
    buildIndex
    buildLayer
    pullImageFromLock
    resolveImage
    dockerTools
    nix2container
    ;
}
