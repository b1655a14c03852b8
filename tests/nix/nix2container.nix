# Images by our nix2container for what its own tests/default.nix asserts;
# tests/it/nix/nix2container.rs says which is which.
{
  # The binary under test.
  bin,
  # A registry on this machine with the image base:v1, and the image's digest.
  registry ? "localhost:0",
  digest ? "",
  # The hash of what nix2container pulls of it.
  hash ? "",
  # Its manifest, as get-manifest writes it, and a lock: files.
  manifest ? null,
  lock ? null,
}:
let
  tools = import ./tools.nix {
    inherit bin;
    overlays = [ (import ./packages.nix) ];
  };
  inherit (tools) pkgs;
  inherit (tools.nix2container)
    buildImage
    buildLayer
    pullImage
    pullImageFromManifest
    ;

  binOf =
    paths:
    pkgs.buildEnv {
      name = "root";
      inherit paths;
      pathsToLink = [ "/bin" ];
    };
  ls = "${pkgs.coreutils}/bin/ls";
  two-files = pkgs.runCommand "two-files" { } ''
    mkdir -p $out/tmp
    touch $out/tmp/test1.txt $out/tmp/test2.txt
  '';
in
rec {
  inherit pkgs;

  hello =
    let
      application = pkgs.writeScript "conversation" ''
        ${pkgs.hello}/bin/hello
        echo "and goodbye"
      '';
    in
    buildImage {
      name = "hello";
      config.entrypoint = [
        "${pkgs.bash}/bin/bash"
        application
      ];
      layers = [
        (buildLayer {
          deps = [
            pkgs.bash
            pkgs.hello
          ];
        })
      ];
    };
  basic = buildImage {
    name = "basic";
    config.entrypoint = [ "${pkgs.hello}/bin/hello" ];
  };
  openbar =
    let
      tmp = pkgs.runCommand "tmp" { } "mkdir -p $out/tmp";
    in
    buildImage {
      name = "openbar";
      copyToRoot = [ tmp ];
      perms = [
        {
          path = tmp;
          regex = ".*";
          mode = "0777";
        }
      ];
      config.entrypoint = [
        ls
        "-l"
        "/"
      ];
    };
  bash = buildImage {
    name = "Bash";
    copyToRoot = [
      (binOf [
        pkgs.bash
        pkgs.coreutils
      ])
    ];
    config.Cmd = [ "/bin/bash" ];
  };

  base = pullImage {
    imageName = "${registry}/base";
    imageDigest = digest;
    sha256 = hash;
    arch = "amd64";
  };
  from-image = from-image-manifest.override {
    name = "from-image";
    fromImage = base;
  };
  from-lock = from-image-manifest.override {
    name = "from-lock";
    fromImage = base-from-lock;
  };
  base-from-lock = tools.pullImageFromLock { lock = /. + lock; };
  base-from-manifest = pullImageFromManifest {
    imageName = "base";
    imageTag = "v1";
    registryUrl = registry;
    imageManifest = if manifest == null then null else /. + manifest;
    arch = "amd64";
  };
  get-manifest = base-from-manifest.getManifest;
  from-image-manifest = buildImage {
    name = "from-image-manifest";
    fromImage = base-from-manifest;
    config.entrypoint = [
      ls
      "-l"
      "/etc/release"
    ];
  };

  layered = buildImage {
    name = "layered";
    config.entrypoint = [ "${pkgs.hello}/bin/hello" ];
    maxLayers = 3;
  };
  non-reproducible =
    let
      dated = pkgs.runCommand "non-reproducible" { } ''
        printf %s "A non reproducible image built the " > $out
        date +%s.%N >> $out
      '';
    in
    buildImage {
      name = "non-reproducible";
      config.entrypoint = [
        "${pkgs.coreutils}/bin/cat"
        "${dated}"
      ];
      layers = [
        (buildLayer {
          deps = [ dated ];
          reproducible = false;
        })
      ];
    };
  nested = buildImage {
    name = "nested";
    config.entrypoint = [
      "/bin/bash"
      "-c"
      "${pkgs.hello}/bin/hello"
    ];
    layers = [
      (buildLayer {
        deps = [ pkgs.bash ];
        copyToRoot = binOf [ pkgs.bash ];
        layers = [
          (buildLayer { deps = [ pkgs.ncurses ]; })
          (buildLayer { deps = [ pkgs.ncurses ]; })
        ];
      })
    ];
  };
  duplicated = buildImage {
    name = "duplicated";
    config.entrypoint = [ "${pkgs.hello}/bin/hello" ];
    layers = [
      (buildLayer {
        layers = [
          (buildLayer { deps = [ pkgs.ncurses ]; })
          (buildLayer { deps = [ pkgs.ncurses ]; })
        ];
      })
    ];
  };
  # A chain in which each layer is on top of the one before, which took them an
  # argument list of 2^13 layers.
  chain =
    let
      link =
        number: below:
        buildLayer {
          deps = [ (pkgs.writeText "link-${toString number}" "link ${toString number}\n") ];
          layers = below;
        };
      last = builtins.foldl' (below: number: [ (link number below) ]) [ ] (builtins.genList (n: n) 30);
    in
    buildImage {
      name = "chain";
      config.entrypoint = [ "${pkgs.hello}/bin/hello" ];
      layers = last;
    };
  ownership = buildImage {
    name = "ownership";
    config.entrypoint = [
      ls
      "-l"
      "/tmp/"
    ];
    copyToRoot = [ two-files ];
    perms = [
      {
        path = two-files;
        regex = "/tmp/test1.txt";
        uid = 1001;
        gid = 1001;
      }
    ];
  };
  # Their issue 45: what is about one file is not about its neighbour.
  one-mode = ownership.override {
    name = "perms";
    perms = [
      {
        path = two-files;
        regex = "test1.txt";
        mode = "0777";
      }
    ];
  };
  or-mode = ownership.override {
    name = "or-mode";
    perms = [
      {
        path = two-files;
        regex = "test1.txt";
        orMode = "0200";
      }
    ];
  };
  nix = buildImage {
    name = "nix";
    initializeNixDatabase = true;
    copyToRoot = [
      (binOf [
        pkgs.bash
        pkgs.coreutils
        pkgs.nix
      ])
    ];
    config.Env = [
      "NIX_PAGER=cat"
      "USER=nobody"
      "HOME=/"
    ];
    layers = [ (buildLayer { deps = [ pkgs.hello ]; }) ];
  };
  nix-user =
    let
      user = pkgs.runCommand "user" { } ''
        mkdir -p $out/etc $out/home/user
        echo "user:x:1000:1000::/home/user:" > $out/etc/passwd
        echo "user:x:1000:" > $out/etc/group
      '';
    in
    buildImage {
      name = "nix-user";
      initializeNixDatabase = true;
      nixUid = 1000;
      nixGid = 1000;
      copyToRoot = [
        (binOf [
          pkgs.bash
          pkgs.coreutils
          pkgs.nix
        ])
        user
      ];
      perms = [
        {
          path = user;
          regex = "/home/user";
          mode = "0744";
          uid = 1000;
          gid = 1000;
          uname = "user";
          gname = "user";
        }
      ];
      config = {
        User = "user";
        WorkingDir = "/home/user";
        Env = [
          "HOME=/home/user"
          "NIX_PAGER=cat"
          "USER=user"
        ];
      };
    };
  copy-to-root = buildImage {
    name = "copy-to-root";
    copyToRoot = [
      pkgs.hello
      pkgs.bash
    ];
    config.entrypoint = [
      "/bin/bash"
      "-c"
      "/bin/hello"
    ];
  };
  metadata = basic.override {
    name = "metadata";
    layers = [
      (buildLayer {
        deps = [ pkgs.hello ];
        metadata = {
          created_by = "test created_by";
          author = "test author";
          comment = "test comment";
        };
      })
    ];
  };
  created = basic.override {
    name = "created";
    created = "2024-05-13T09:31:10Z";
  };
}
