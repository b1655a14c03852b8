# What tests/it/nix.rs builds: images of the fixture's closure, by derivations
# of every kind. The store must hold the paths of fixtures/closure.
{
  # The binary under test.
  bin,
  # The fixture's store paths by name, such as `app-1.0`.
  paths,
}:
let
  tools = import ./tools.nix {
    inherit bin;
    # The fixture's program, whatever this machine is.
    hostSystem = "x86_64-linux";
  };
  path = name: builtins.storePath paths.${name};

  arguments = {
    name = "Registry.example:5000/Team/Fixture";
    tag = "v1";
    config = {
      Entrypoint = [ "${path "app-1.0"}/bin/app" ];
      Healthcheck.Test = [ "NONE" ];
    };
    contents = [ (path "words-latest") ];
    annotations."org.example.note" = "from a derivation";
  };
in
rec {
  image = tools.buildImage arguments;
  none = image.override { compressor = "none"; };
  zstd = image.override {
    compressor = "zstd";
    compressionLevel = 19;
  };
  few = image.override { maxLayers = 2; };
  owned = image.override {
    uid = 1000;
    gid = 100;
    mtime = "2001-02-03T04:05:06Z";
    created = "2001-02-03T04:05:06Z";
  };
  layout = image.override { format = "oci"; };
  untagged = image.override { tag = null; };
  recipe = tools.resolveImage arguments;
  with-base = image.override { fromImage = image; };
  index = tools.buildIndex {
    name = "index";
    images = [
      image
      (image.override { architecture = "arm64"; })
    ];
  };

  # The same image from the text form of the reference graph.
  graph = derivation {
    inherit (image) system builder;
    name = "graph.tar";
    exportReferencesGraph = [
      "closure"
      image.configFile
    ];
    args = map (
      argument: if argument == "attrs:.attrs.json#closure" then "graph:closure" else argument
    ) image.drvAttrs.args;
  };

  # The programs that copy an image somewhere.
  copies = builtins.attrValues {
    inherit (image) copyTo copyToPodman copyToDockerDaemon copyToContainerd copyToRegistry;
  };
  # Only what the config mentions: its file is all that is given.
  bare = tools.buildImage {
    name = "registry.example:5000/bare";
    tag = "v1";
    inherit (arguments) config;
  };
  copy-bare = [
    bare.copyToPodman
    bare.copyToRegistry
  ];
  copy-recipe = [
    recipe
    recipe.copyToRegistry
  ];

  # What the images are made of, and what needs a shell.
  ingredients = [
    tools.nix2oci
    image.configFile
    bare.configFile
    # No database, no daemon's socket, no way out.
    (tools.shell { name = "sandbox"; } ''
      test ! -e /nix/var
      test "$(wc -l < /proc/net/route)" -le 1
      echo closed > $out
    '')
  ];

  facts = {
    inherit (image) imageName imageTag name;
    untaggedTag = untagged.imageTag;
    configFile = image.configFile.outPath;
  };
}
