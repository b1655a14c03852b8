# Functions called with what they do not take, for tests/it/nix/arguments.rs.
# Builds nothing.
let
  system = builtins.currentSystem;
  pkgs = import ../../fixtures/nixpkgs-stub { inherit system; };
  tools = import ../../crates/nix2oci-cli/nix {
    inherit pkgs system;
    nix2oci = "/nix2oci";
  };
  inherit (tools) dockerTools nix2container;
  package = pkgs.coreutils;
  name = "x";
in
{
  # Names.
  ours = tools.buildImage {
    inherit name;
    contens = package;
  };
  overridden = (dockerTools.buildImage { inherit name; }).override { fakerootCommands = ""; };
  layered = dockerTools.buildLayeredImage {
    inherit name;
    withNixDb = true;
  };
  stream = dockerTools.streamLayeredImage {
    inherit name;
    content = package;
  };
  shell = dockerTools.streamNixShellImage { derivation = package; };
  n2c = nix2container.buildImage {
    inherit name;
    architecture = "arm64";
  };
  n2c-layer = nix2container.buildLayer { dep = [ package ]; };
  perm = nix2container.buildLayer {
    perms = [
      {
        path = package;
        regexp = ".*";
      }
    ];
    copyToRoot = package;
  };
  index = tools.buildIndex {
    inherit name;
    image = [ package ];
  };
  pull = dockerTools.pullImage {
    imageName = name;
    imageDigest = "sha256:0";
    hash = "";
    tag = "latest";
  };

  # What has to be there.
  no-name = tools.resolveImage { };
  no-digest = dockerTools.pullImage {
    imageName = name;
    hash = "";
  };
  no-hash = nix2container.pullImage {
    imageName = name;
    imageDigest = "sha256:0";
  };
  no-lock = tools.pullImageFromLock { };

  # Values.
  not-a-set = tools.buildImage package;
  null-name = dockerTools.buildImage { name = null; };
  list-of-commands = dockerTools.buildLayeredImage {
    inherit name;
    extraCommands = [ "mkdir tmp" ];
  };
  text-for-a-number = tools.buildImage {
    inherit name;
    maxLayers = "100";
  };
  name-of-a-user = tools.buildImage {
    inherit name;
    uid = "root";
  };
  list-in-a-list = tools.buildImage {
    inherit name;
    contents = [ [ package ] ];
  };
  number-in-a-set = tools.buildImage {
    inherit name;
    annotations.revision = 1;
  };
  package-for-a-layer = nix2container.buildImage {
    inherit name;
    layers = [ package ];
  };
  compressor = dockerTools.buildLayeredImage {
    inherit name;
    compressor = "xz";
  };
  tag-for-a-digest = nix2container.pullImage {
    imageName = name;
    imageDigest = "latest";
    sha256 = "";
  };
  image-for-images = dockerTools.mergeImages package;

  empty-hash =
    (dockerTools.pullImage {
      imageName = name;
      imageDigest = "sha256:0";
      hash = "";
    }).drvPath;

  # What is taken: numbers as strings where nixpkgs makes strings of them, one
  # where there may be several, nothing where nothing is meant.
  fine =
    map (image: image.drvPath) [
      (dockerTools.buildImage {
        inherit name;
        uid = "1000";
        copyToRoot = package;
        config = null;
        tag = null;
      })
      (dockerTools.buildLayeredImage {
        inherit name;
        contents = null;
        fromImage = null;
        debug = false;
        uname = "user";
      })
      (nix2container.buildImage {
        inherit name;
        config = null;
        fromImage = "";
        copyToRoot = [ ];
        maxLayers = 3;
        layering = "single";
        layers = [ (nix2container.buildLayer { deps = package; }) ];
      })
      (tools.buildImage {
        inherit name;
        layers.tools = package;
        rootTree.tmp = true;
        volatile = package;
      })
    ];
}
