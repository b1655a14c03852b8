# nix2oci and, beside it as dockerTools is beside docker, nix2ociTools.
final: _prev: {
  nix2oci = final.callPackage ./package.nix { };

  nix2ociTools = import ./. { pkgs = final; };
}
