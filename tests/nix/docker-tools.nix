# Images by our dockerTools for what nixpkgs' nixos/tests/docker-tools.nix
# asserts of its own; tests/it/nix/docker_tools.rs says which is which.
{
  # The binary under test.
  bin,
}:
let
  tools = import ./tools.nix {
    inherit bin;
    overlays = [ (import ./packages.nix) ];
  };
  inherit (tools) pkgs dockerTools;

  binOf =
    paths:
    pkgs.buildEnv {
      name = "image-root";
      inherit paths;
      pathsToLink = [ "/bin" ];
    };
in
rec {
  inherit pkgs;

  bash = dockerTools.buildImage {
    name = "bash";
    tag = "latest";
    copyToRoot = binOf [ pkgs.bash ];
  };
  bash-no-tag = bash.override {
    name = "bash-no-tag";
    tag = null;
  };
  bash-no-tag-layered = dockerTools.buildLayeredImage {
    name = "bash-no-tag-layered";
    contents = pkgs.bash;
  };
  bash-no-tag-stream = dockerTools.streamLayeredImage {
    name = "bash-no-tag-stream";
    contents = pkgs.bash;
  };

  hello-on-root = dockerTools.streamLayeredImage {
    name = "hello";
    tag = "latest";
    contents = [ (binOf [ pkgs.hello ]) ];
    config.Cmd = [ "hello" ];
  };
  hello-on-root-no-store = hello-on-root.override { includeStorePaths = false; };

  unstable-date = dockerTools.buildImage {
    name = "unstable-date";
    tag = "latest";
    copyToRoot = binOf [ pkgs.coreutils ];
    created = "now";
  };
  unstable-date-layered = dockerTools.buildLayeredImage {
    name = "unstable-date-layered";
    tag = "latest";
    contents = [ pkgs.coreutils ];
    created = "now";
  };

  layered-image = dockerTools.buildLayeredImage {
    name = "layered-image";
    tag = "latest";
    extraCommands = ''echo "(extraCommand)" > extraCommands'';
    config.Cmd = [ "${pkgs.hello}/bin/hello" ];
    contents = [
      pkgs.hello
      pkgs.bash
      pkgs.coreutils
    ];
  };
  another-layered-image = dockerTools.buildLayeredImage {
    name = "another-layered-image";
    tag = "latest";
    config.Cmd = [ "${pkgs.hello}/bin/hello" ];
  };
  two-layered-image = dockerTools.buildLayeredImage {
    name = "two-layered-image";
    tag = "latest";
    config.Cmd = [ "${pkgs.hello}/bin/hello" ];
    contents = [
      pkgs.bash
      pkgs.hello
    ];
    maxLayers = 2;
  };
  bulk-layer = dockerTools.buildLayeredImage {
    name = "bulk-layer";
    tag = "latest";
    contents = [
      pkgs.coreutils
      pkgs.hello
    ];
    maxLayers = 2;
  };

  # The layer of the commands counts.
  commands-in-two-layers = two-layered-image.override {
    name = "commands-in-two-layers";
    contents = [
      pkgs.bash
      pkgs.coreutils
      pkgs.hello
    ];
    extraCommands = "echo made > made";
  };

  no-store-paths = dockerTools.buildLayeredImage {
    name = "no-store-paths";
    tag = "latest";
    extraCommands = ''
      cp -r ${pkgs.busybox}/* .
      # What runs here only is not in the image.
      ${pkgs.hello}/bin/hello
    '';
  };

  store-symlink =
    let
      target = pkgs.writeTextDir "dir/target" "Its content does not matter.";
      symlink = pkgs.runCommand "symlink" { } "ln -s ${target} $out";
    in
    dockerTools.buildLayeredImage {
      name = "store-symlink";
      tag = "latest";
      contents = [
        pkgs.bash
        symlink
      ];
      passthru = {
        inherit symlink;
      };
    };

  prefixed = dockerTools.buildImage {
    name = "registry-1.docker.io/image";
    tag = "latest";
    config.Cmd = [ "${pkgs.hello}/bin/hello" ];
  };
  prefixed-layered = dockerTools.buildLayeredImage {
    name = "registry-1.docker.io/layered-image";
    tag = "latest";
    config.Cmd = [ "${pkgs.hello}/bin/hello" ];
  };

  fake-root-commands = dockerTools.buildLayeredImage {
    name = "fake-root-commands";
    tag = "latest";
    contents = [ pkgs.busybox ];
    fakeRootCommands = ''
      mkdir -p ./home/alice
      chown 1000 ./home/alice
      ln -s ${pkgs.hello} ./hello
    '';
  };
}
