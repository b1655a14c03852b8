# The Nix functions: images as derivations. Needs Nix 2.8 or later.
#
# Of the package set only what a function needs is evaluated: an image without
# shell commands needs `writeText` and, for the programs that copy it somewhere,
# `writeShellScriptBin`, or `writeShellScript` and `closureInfo`.
{
  # nixpkgs, or what has the same names.
  pkgs,
  # The package with bin/nix2oci, to be run on `system`.
  nix2oci ? pkgs.buildPackages.nix2oci,
  # The system that builds, such as "x86_64-linux".
  system ? pkgs.stdenv.buildPlatform.system,
  # The system whose programs are in the image; only its processor counts, the
  # image is always one for Linux.
  hostSystem ? pkgs.stdenv.hostPlatform.system,
}:
let
  arguments = import ./arguments.nix;
  platforms = import ./platforms.nix;
  codecs = {
    none = "none";
    gz = "gzip";
    zstd = "zstd";
  };
  # A compressor by nixpkgs' name, and a level or null, as --compression has them.
  compressionOf =
    compressor: level:
    arguments.memberOf "compressor" codecs compressor
    + (if level == null then "" else ":${toString level}");

  run = import ./run.nix { inherit nix2oci system; };
  rootOf = import ./root.nix {
    inherit arguments;
    inherit (pkgs) writeText;
  };
  shared = {
    inherit
      arguments
      compressionOf
      platforms
      pkgs
      nix2oci
      hostSystem
      run
      rootOf
      ;
    image = import ./image.nix {
      inherit
        arguments
        compressionOf
        platforms
        nix2oci
        hostSystem
        run
        rootOf
        ;
      inherit (pkgs) writeText;
      inherit (pkgs.buildPackages) closureInfo writeShellScript writeShellScriptBin;
      commandsLayer = import ./commands.nix { inherit (pkgs.buildPackages) runCommand fakeroot; };
    };
  };
  pulled = import ./pull.nix {
    inherit
      arguments
      platforms
      run
      pkgs
      nix2oci
      hostSystem
      ;
  };
  images = import ./images.nix shared // {
    inherit (pulled) pullImageFromLock;
  };
in
removeAttrs images [ "taken" ]
// {
  # Functions of the names, arguments and meaning of nixpkgs' dockerTools.
  dockerTools = import ./docker-tools.nix (shared // images // { inherit pulled; });

  # The same of nix2container.
  nix2container = import ./nix2container.nix (shared // images // { inherit pulled; });
}
