# Images by our dockerTools for what nixpkgs' nixos/tests/docker-tools.nix
# asserts of its own; tests/it/nix/docker_tools.rs says which is which.
{
  # The binary under test.
  bin,
  # A registry on this machine with the image base:v1, the image's digest, and the
  # hash of what pullImage makes of it.
  registry ? "localhost:0",
  digest ? "",
  hash ? "",
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

  # A standard environment, as small as it can be: inputs on PATH, and hooks.
  stdenv = pkgs.writeTextDir "setup" ''
    export PATH=${pkgs.coreutils}/bin''${PATH:+:$PATH}
    for input in ''${buildInputs-}; do PATH=$input/bin:$PATH; done
    runHook() { eval "''${!1-}"; }
  '';
  derivationWith =
    attrs:
    derivation (
      {
        name = "package";
        system = builtins.currentSystem;
        builder = "${pkgs.bash}/bin/bash";
        args = [
          "-euc"
          "source $stdenv/setup; eval \"$buildPhase\""
        ];
        inherit stdenv;
        buildPhase = "mkdir $out";
      }
      // attrs
    );
  built = derivationWith {
    buildPhase = ''
      mkdir -p $out/bin
      printf '#!%s\necho "Hello, world!"\n' ${pkgs.bash}/bin/bash > $out/bin/hello
      chmod +x $out/bin/hello
    '';
  };
  shell =
    name: args:
    dockerTools.streamNixShellImage (
      {
        inherit name;
        tag = "latest";
      }
      // args
    );
  interactive = ''
    case "$-" in
    *i*) echo interactive ;;
    *) echo not interactive ;;
    esac
  '';
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

  bash-uncompressed = bash.override {
    name = "bash-uncompressed";
    compressor = "none";
  };
  bash-zstd = bash.override {
    name = "bash-zstd";
    compressor = "zstd";
  };
  bash-layered-uncompressed = bash-no-tag-layered.override {
    name = "bash-layered-uncompressed";
    tag = "latest";
    compressor = "none";
  };
  bash-layered-zstd = bash-no-tag-layered.override {
    name = "bash-layered-zstd";
    tag = "latest";
    compressor = "zstd";
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

  # Bases.
  layered-on-top = dockerTools.buildImage {
    name = "layered-on-top";
    tag = "latest";
    fromImage = layered-image;
    extraCommands = ''
      mkdir ./example-output
      chmod 777 ./example-output
    '';
    config = {
      Env = [ "PATH=${pkgs.coreutils}/bin/" ];
      WorkingDir = "/example-output";
      Cmd = [
        "${pkgs.bash}/bin/bash"
        "-c"
        "echo hello > foo; cat foo"
      ];
    };
  };
  layered-on-top-layered = dockerTools.buildLayeredImage (
    removeAttrs layered-on-top.buildArgs [ "name" ]
    // {
      name = "layered-on-top-layered";
    }
  );
  layered-bulk-layer = dockerTools.buildLayeredImage {
    name = "layered-bulk-layer";
    tag = "latest";
    fromImage = two-layered-image;
    contents = [
      pkgs.coreutils
      pkgs.hello
    ];
    maxLayers = 4;
  };
  # Each image writes over some of the one below.
  layers-order =
    let
      writes = number: files: ''
        mkdir -p tmp
        for file in ${files}; do echo layer${toString number} > tmp/layer$file; done
      '';
      one = dockerTools.buildImage {
        name = "l1";
        tag = "latest";
        extraCommands = writes 1 "1 2 3";
      };
      two = dockerTools.buildImage {
        name = "l2";
        tag = "latest";
        fromImage = one;
        extraCommands = writes 2 "2 3";
      };
    in
    dockerTools.buildImage {
      name = "l3";
      tag = "latest";
      fromImage = two;
      copyToRoot = binOf [ pkgs.coreutils ];
      extraCommands = writes 3 "3";
    };

  environment-parent = dockerTools.buildImage {
    name = "parent";
    tag = "latest";
    config.Env = [
      "FROM_PARENT=true"
      "LAST_LAYER=parent"
    ];
  };
  environment = dockerTools.buildImage {
    name = "child";
    tag = "latest";
    fromImage = environment-parent;
    copyToRoot = binOf [ pkgs.coreutils ];
    config.Env = [
      "FROM_CHILD=true"
      "LAST_LAYER=child"
    ];
  };
  environment-layered = dockerTools.buildLayeredImage {
    name = "child-layered";
    tag = "latest";
    fromImage = environment-parent;
    contents = [ pkgs.coreutils ];
    config.Env = [
      "FROM_CHILD=true"
      "LAST_LAYER=child"
    ];
  };

  # An archive in which two layers are links to one file, as Docker writes it.
  repeated-layer =
    let
      archive = pkgs.runCommand "image-with-links.tar" { } ''
        mkdir -p image/one image/two root
        echo repeated > root/repeated
        tar --create --file image/layer.tar --directory root repeated
        digest=$(sha256sum < image/layer.tar | cut -d ' ' -f 1)
        mv image/layer.tar image/$digest.tar
        ln -s ../$digest.tar image/one/layer.tar
        ln -s ../$digest.tar image/two/layer.tar
        printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s","sha256:%s"]}}' \
          $digest $digest > config.json
        config=$(sha256sum < config.json | cut -d ' ' -f 1)
        mv config.json image/$config.json
        printf '[{"Config":"%s.json","RepoTags":["links:latest"],"Layers":["one/layer.tar","two/layer.tar"]}]' \
          $config > image/manifest.json
        tar --create --file $out --directory image .
      '';
    in
    dockerTools.buildImage {
      name = "repeated-layer";
      tag = "latest";
      architecture = "amd64";
      fromImage = archive;
      copyToRoot = binOf [
        pkgs.bash
        pkgs.coreutils
      ];
    };
  by-name = dockerTools.buildImage {
    name = "by-name";
    tag = "latest";
    fromImage = merged;
    fromImageName = "redis";
    fromImageTag = "latest";
  };

  # A Nix database.
  nix = dockerTools.buildImageWithNixDb {
    name = "nix";
    tag = "latest";
    copyToRoot = binOf [
      pkgs.coreutils
      pkgs.nix
      pkgs.bash
    ];
    config.Env = [
      "NIX_PAGER=cat"
      "USER=nobody"
    ];
  };
  nix-layered = dockerTools.buildLayeredImageWithNixDb {
    name = "nix-layered";
    tag = "latest";
    contents = [
      pkgs.coreutils
      pkgs.nix
      pkgs.bash
    ];
    config.Env = [
      "NIX_PAGER=cat"
      "USER=nobody"
    ];
  };
  files-in-store = dockerTools.buildLayeredImageWithNixDb {
    name = "file-in-store";
    tag = "latest";
    contents = [
      pkgs.coreutils
      pkgs.nix
      (pkgs.writeScriptBin "myscript" ''
        #!${pkgs.runtimeShell}
        cat ${pkgs.writeText "somefile" "some data"}
      '')
    ];
    config = {
      Cmd = [ "myscript" ];
      Env = [
        "PATH=/bin"
        "USER=root"
      ];
    };
  };

  # Users and owners.
  with-user = dockerTools.buildLayeredImage {
    name = "with-user";
    tag = "latest";
    contents = [
      pkgs.bash
      pkgs.coreutils
      (pkgs.writeTextDir "etc/passwd" "root:x:0:0::/root:/bin/bash\nsomebody:x:999:999::/home/somebody:\n")
      (pkgs.writeTextDir "etc/group" "root:x:0:\nsomebody:x:999:\n")
    ];
  };
  owned = dockerTools.streamLayeredImage {
    name = "owned";
    tag = "latest";
    uid = 1000;
    gid = 1000;
    uname = "user";
    gname = "user";
    config = {
      User = "1000";
      Cmd = [
        "${pkgs.coreutils}/bin/stat"
        "-c"
        "%u:%g"
        "${pkgs.coreutils}/bin/stat"
      ];
    };
  };
  # uid and gid are of the store alone, and of what is copied alone.
  store-owner = dockerTools.buildLayeredImage {
    name = "store-owner";
    tag = "latest";
    uid = 1000;
    gid = 100;
    contents = [ pkgs.coreutils ];
    rootTree.files = [
      {
        path = "/etc/motd";
        text = "";
      }
    ];
  };
  store-owner-commands = dockerTools.buildLayeredImage {
    name = "store-owner-commands";
    tag = "latest";
    uid = 1000;
    gid = 100;
    contents = [ pkgs.coreutils ];
    rules = [
      {
        glob = "/nix/store/*-coreutils-machine/bin/stat";
        mode = "4555";
      }
      {
        glob = "/etc/motd";
        mode = "0600";
      }
    ];
    rootTree.files = [
      {
        path = "/etc/motd";
        text = "";
      }
    ];
    extraCommands = "mkdir data";
  };
  root-owner = dockerTools.buildImage {
    name = "root-owner";
    tag = "latest";
    uid = 1000;
    gid = 100;
    copyToRoot = binOf [ pkgs.coreutils ];
    config.Env = [ "PATH=/bin" ];
  };
  chown = dockerTools.streamLayeredImage {
    name = "chown";
    tag = "latest";
    fakeRootCommands = ''
      touch ./testfile
      chown 12345:12345 ./testfile
    '';
    config.Cmd = [
      "${pkgs.coreutils}/bin/stat"
      "-c"
      "%u:%g"
      "/testfile"
    ];
  };
  shadow-setup = dockerTools.buildLayeredImage {
    name = "shadow-setup";
    tag = "latest";
    contents = [ pkgs.busybox ];
    fakeRootCommands = ''
      ${dockerTools.shadowSetup}
      groupadd --gid 70 postgres
      useradd --uid 71 --gid 70 --home-dir /var/lib/postgres --create-home postgres
    '';
  };

  # What stands for another package of a service.
  redis = dockerTools.buildImage {
    name = "redis";
    tag = "latest";
    fromImage = bash;
    copyToRoot = binOf [
      (pkgs.writeScriptBin "redis-cli" ''
        #!${pkgs.runtimeShell}
        echo redis-cli
      '')
    ];
    config = {
      WorkingDir = "/data";
      Volumes."/data" = { };
    };
  };
  merged = dockerTools.mergeImages [
    bash
    redis
  ];
  merged-no-tag = dockerTools.mergeImages [
    bash-no-tag
    redis
  ];
  merged-owners = dockerTools.mergeImages [
    bash
    fake-root-commands
  ];
  merged-compressors = dockerTools.mergeImages [
    redis
    bash-uncompressed
    bash-zstd
  ];

  # A server that commands prepared a root for.
  server = dockerTools.buildLayeredImage {
    name = "server";
    tag = "latest";
    contents = [
      dockerTools.fakeNss
      pkgs.busybox
    ];
    extraCommands = ''
      mkdir -p var/log/server var/www
      echo "Hello from a server" > var/www/index.html
    '';
    config = {
      Cmd = [
        "httpd"
        "-f"
        "-p"
        "8000"
        "-h"
        "/var/www"
      ];
      ExposedPorts."8000/tcp" = { };
    };
  };

  other-architecture = dockerTools.buildImage {
    name = "other-architecture";
    tag = "latest";
    architecture = "arm64";
    copyToRoot = [ ./dummy ];
  };
  other-architecture-layered = dockerTools.streamLayeredImage {
    name = "other-architecture-layered";
    tag = "latest";
    architecture = "arm64";
    contents = [ ./dummy ];
  };

  # A folder beside this file.
  with-path = dockerTools.buildImage {
    name = "with-path";
    tag = "latest";
    copyToRoot = [
      (binOf [ pkgs.bash ])
      ./dummy
    ];
  };
  with-path-layered = dockerTools.streamLayeredImage {
    name = "with-path-layered";
    tag = "latest";
    contents = [
      pkgs.bash
      ./dummy
    ];
  };

  helpers = dockerTools.buildImage {
    name = "helpers";
    tag = "latest";
    copyToRoot = pkgs.buildEnv {
      name = "helpers-root";
      paths = [
        pkgs.coreutils
        dockerTools.caCertificates
        dockerTools.usrBinEnv
        dockerTools.binSh
        dockerTools.fakeNss
      ];
    };
  };

  pulled = dockerTools.pullImage {
    imageName = "${registry}/base";
    imageDigest = digest;
    sha256 = hash;
    finalImageName = "base";
    finalImageTag = "2.2.1";
    arch = "amd64";
    tlsVerify = false;
  };
  on-top-of-pulled = dockerTools.buildImage {
    name = "onTopOfPulledImage";
    tag = "latest";
    fromImage = pulled;
    architecture = "amd64";
    copyToRoot = binOf [ pkgs.hello ];
  };

  # What cannot be.
  as-root = bash.override { runAsRoot = "mkdir /data"; };
  fakechroot = hello-on-root.override { enableFakechroot = true; };
  pipeline = layered-image.override { layeringPipeline = [ ]; };
  exported = dockerTools.exportImage { fromImage = bash; };

  # Shells of derivations.
  shell-basic = shell "shell-basic" { drv = built; };
  shell-build = shell "shell-build" {
    drv = built;
    run = ''
      buildDerivation
      $out/bin/hello
    '';
  };
  shell-hook = shell "shell-hook" {
    drv = derivationWith {
      shellHook = ''
        echo "This is the shell hook!"
        exit
      '';
    };
  };
  shell-inputs = shell "shell-inputs" {
    drv = derivationWith { buildInputs = [ pkgs.hello ]; };
    command = "hello";
  };
  shell-file = shell "shell-file" {
    drv = derivationWith {
      str = "this is a string";
      passAsFile = [ "str" ];
    };
    command = ''cat "$strPath"'';
  };
  shell-run = shell "shell-run" {
    drv = derivationWith { };
    run = interactive;
  };
  shell-command = shell "shell-command" {
    drv = derivationWith { };
    command = interactive;
  };
  shell-home = shell "shell-home" {
    drv = derivationWith { };
    run = ''
      test "$HOME" = "$(eval "echo ~$(whoami)")"
      touch $HOME/file && echo writable
    '';
  };
  shell-no-home = shell "shell-no-home" {
    drv = derivationWith { };
    homeDirectory = "/homeless-shelter";
    run = ''
      test "$HOME" = "$(eval "echo ~$(whoami)")"
      test -e $HOME || echo none
    '';
  };
  shell-structured = shell "shell-structured" { drv = derivationWith { __structuredAttrs = true; }; };
}
