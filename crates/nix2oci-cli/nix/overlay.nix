# nix2oci and, beside it as dockerTools is beside docker, nix2ociTools.
final: _prev: {
  nix2oci = final.callPackage ./package.nix { };

  nix2ociTools = import ./images.nix {
    inherit (final.buildPackages) nix2oci writeShellScriptBin;
    inherit (final) writeText;
    system = final.stdenv.buildPlatform.system;
    hostSystem = final.stdenv.hostPlatform.system;
  };
}
