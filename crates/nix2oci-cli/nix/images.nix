# Images as derivations whose builder is nix2oci itself: no shell, no standard
# environment. It needs Nix 2.8 or later and nothing of nixpkgs but `writeText`
# and, for the programs that copy an image somewhere, `writeShellScriptBin`.
#
# Argument names and their meaning are those of nixpkgs' dockerTools.
{
  # The package with bin/nix2oci, to be run on `system`.
  nix2oci,
  # The system that builds, such as "x86_64-linux".
  system,
  # The system whose programs are in the image; only its processor counts, the
  # image is always one for Linux.
  hostSystem ? system,
  # name: text: a file in the store with this text, as in nixpkgs.
  writeText,
  # name: script: a package with the shell script bin/name, to be run on
  # `system`, as in nixpkgs.
  writeShellScriptBin,
}:
let
  inherit (builtins)
    attrNames
    attrValues
    concatLists
    concatStringsSep
    head
    isFunction
    isList
    replaceStrings
    split
    stringLength
    substring
    toJSON
    ;

  lower = "abcdefghijklmnopqrstuvwxyz";
  upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  letters = text: builtins.genList (at: substring at 1 text) (stringLength text);
  toLower = replaceStrings (letters upper) (letters lower);

  # Nix's names of processors and the image specification's.
  platforms = {
    aarch64.architecture = "arm64";
    armv6l = {
      architecture = "arm";
      variant = "v6";
    };
    armv7l = {
      architecture = "arm";
      variant = "v7";
    };
    i686.architecture = "386";
    powerpc64le.architecture = "ppc64le";
    riscv64.architecture = "riscv64";
    s390x.architecture = "s390x";
    x86_64.architecture = "amd64";
  };
  cpu = head (split "-" hostSystem);
  hostPlatform =
    platforms.${cpu} or (throw "nix2oci: no image architecture is known for ${hostSystem}; set `architecture`");

  codecs = {
    none = "none";
    gz = "gzip";
    zstd = "zstd";
  };

  listOf = value: if value == null then [ ] else if isList value then value else [ value ];
  flag = name: value: [
    name
    (toString value)
  ];
  flags = name: values: concatLists (map (flag name) values);
  optional = condition: values: if condition then values else [ ];

  # Words for a shell.
  quoted = words: concatStringsSep " " (map (word: "'${replaceStrings [ "'" ] [ "'\\''" ] (toString word)}'") words);

  # The part of a store path that is a hash, as dockerTools takes it for a tag.
  outputHash =
    drv: builtins.unsafeDiscardStringContext (substring 0 32 (baseNameOf drv.outPath));

  # As nixpkgs' function of this name: the result has `override`.
  makeOverridable =
    f: args:
    f args
    // {
      override = change: makeOverridable f (args // (if isFunction change then change args else change));
    };

  image =
    {
      verb,
      # The suffix of the store path's name, and where the result goes.
      output,
      # More attributes for the derivation.
      extra,
    }:
    {
      # The image's name; a registry's host may come first.
      name,
      # null: the hash of the derivation.
      tag ? null,
      # The image's config in Docker's or the specification's spelling, as an
      # attribute set. What it mentions is in the image.
      config ? { },
      # Store paths whose files appear at the image's root, as symbolic links.
      contents ? null,
      # A base image; not in this version.
      fromImage ? null,
      # How many layers there may be, the one of `contents` included.
      maxLayers ? 100,
      # Layers of their own: a name and the store paths in it.
      layers ? { },
      # The image that this one replaces, as a file: its recipe, or what
      # `nix2oci plan --json` printed. Layers of it stay where they can.
      keepLayers ? null,
      # The same of other images, whose layers are preferred.
      shareLayers ? [ ],
      # Store paths that change with every release; null: they are found.
      volatile ? null,
      # How the layers are compressed: "gz", "zstd" or "none".
      compressor ? "gz",
      # null: the compressor's default.
      compressionLevel ? null,
      # When the image was made; "now" makes it different each time.
      created ? "1970-01-01T00:00:01Z",
      # The time of every file in it.
      mtime ? "1970-01-01T00:00:01Z",
      # The owner of every file in it.
      uid ? 0,
      gid ? 0,
      architecture ? hostPlatform.architecture,
      variant ? if architecture == hostPlatform.architecture then hostPlatform.variant or null else null,
      # Annotations of the manifest.
      annotations ? { },
      # false: no store paths, for a container that mounts the host's store.
      includeStorePaths ? true,
      # "archive": one tar for every loader; "oci": an image layout directory.
      format ? "archive",
      meta ? { },
      passthru ? { },
    }:
    let
      imageName = toLower name;
      imageTag = if tag != null then tag else outputHash (derivationOf "latest");

      codec =
        codecs.${compressor} or (throw "nix2oci: compressor is ${toJSON compressor}, expected one of ${concatStringsSep ", " (attrNames codecs)}");
      result = output format;
      contentPaths = listOf contents;

      # A file of its own, so that Nix finds the references in it. nix2oci takes
      # these into the image and leaves the file itself out.
      configFile = writeText "${baseNameOf imageName}-config.json" (
        toJSON (if config == null then { } else config)
      );

      # What the closure begins with.
      roots = [ configFile ] ++ contentPaths ++ concatLists (map listOf (attrValues layers));

      # What the image is, whoever builds it.
      options =
        flag "--config" configFile
        ++ flag "--platform" (
          concatStringsSep "/" (
            [
              "linux"
              architecture
            ]
            ++ optional (variant != null) [ variant ]
          )
        )
        ++ flag "--created" created
        ++ flag "--mtime" mtime
        ++ flag "--owner" "${toString uid}:${toString gid}"
        ++ flags "--contents" contentPaths
        ++ flags "--layer" (
          map (layer: "${layer}=${concatStringsSep "," (map toString (listOf layers.${layer}))}") (attrNames layers)
        )
        ++ optional (keepLayers != null) (flag "--keep-layers" "${keepLayers}")
        ++ flags "--share-layers" (map (file: "${file}") (listOf shareLayers))
        ++ flags "--volatile" (listOf volatile)
        ++ flags "--annotation" (map (key: "${key}=${annotations.${key}}") (attrNames annotations))
        ++ optional (!includeStorePaths) [ "--no-store-paths" ]
        ++ flag "--max-layers" maxLayers
        ++ flag "--compression" (
          codec + (if compressionLevel == null then "" else ":${toString compressionLevel}")
        );
      nameOptions = imageTag: flag "--name" imageName ++ flag "--tag" imageTag;

      derivationOf =
        imageTag:
        derivation (
          extra
          // {
            inherit system;
            name = "${baseNameOf imageName}${result.suffix}";
            builder = "${nix2oci}/bin/nix2oci";
            # The closure is read from the file by its name in the build's top
            # directory, where every Nix puts it. $NIX_ATTRS_JSON_FILE is wrong in
            # sandboxes of Nix 2.8: it names the directory as seen from outside.
            args =
              [ verb ]
              ++ flag "--closure" "attrs:.attrs.json#closure"
              ++ nameOptions imageTag
              ++ options
              ++ flag "--progress" "plain"
              ++ flag "-o" "${result.prefix}${placeholder "out"}";
            __structuredAttrs = true;
            exportReferencesGraph.closure = roots;
          }
        );
      built = derivationOf imageTag;

      # Programs that build the image straight into another place, with no copy of
      # it in the store: Nix's database has the closure, so that what is built is
      # the same. Named as those of nix2container; further options may follow.
      nix2ociWith = verb: words: "exec ${quoted ([ "${nix2oci}/bin/nix2oci" verb ] ++ words)}";
      paths = roots ++ options;
      # A recipe has its digests already, and what is pushed is held against them.
      pushed = if verb == "resolve" then [ built ] else paths;
      push = nix2ociWith "push" pushed;
      load = nix2ociWith "load" (paths ++ nameOptions imageTag);
      programs = {
        # To the registry that its name says; `docker://REF` adds another name.
        copyToRegistry = writeShellScriptBin "copy-to-registry" ''
          ${push} ${quoted [ "docker://${imageName}:${imageTag}" ]} "$@"
        '';
        # To the first argument: docker://REF, oci:DIR[:TAG], archive:FILE or -.
        copyTo = writeShellScriptBin "copy-to" ''
          case "''${1-}" in
            docker://*) ${push} "$@" ;;
            "" | -?*)
              echo "usage: copy-to docker://REF|oci:DIR[:TAG]|archive:FILE|- [OPTION]..." >&2
              exit 2
              ;;
          esac
          destination=$1
          shift
          ${nix2ociWith "build" (paths ++ nameOptions imageTag)} -o "$destination" "$@"
        '';
        copyToPodman = writeShellScriptBin "copy-to-podman" ''
          ${load} "$@" podman
        '';
        copyToDockerDaemon = writeShellScriptBin "copy-to-docker-daemon" ''
          ${load} "$@" docker
        '';
        # The first argument may be a namespace.
        copyToContainerd = writeShellScriptBin "copy-to-containerd" ''
          runtime=containerd
          case "''${1-}" in
            "" | -*) ;;
            *)
              runtime=containerd:$1
              shift
              ;;
          esac
          ${load} "$@" "$runtime"
        '';
      };

      attributes = {
        inherit configFile imageName imageTag;
      }
      // programs;
    in
    if fromImage != null then
      throw "nix2oci: fromImage is not supported yet: the image ${imageName} can only be built from store paths"
    else
      built
      // passthru
      // attributes
      // {
        inherit meta;
        passthru = passthru // attributes;
      };

  formats = {
    archive = {
      prefix = "archive:";
      suffix = ".tar";
    };
    oci = {
      prefix = "oci:";
      suffix = "-oci";
    };
  };
in
{
  # An image in the store.
  buildImage = makeOverridable (image {
    verb = "build";
    # An image has all it needs inside: that its config names store paths must not
    # keep and copy these along with it. Nix 2.8 does not know the attribute and
    # keeps them; 2.14 to 2.17 want the experimental feature discard-references.
    extra.unsafeDiscardReferences.out = true;
    output =
      format:
      formats.${format} or (throw "nix2oci: format is ${toJSON format}, expected one of ${concatStringsSep ", " (attrNames formats)}");
  });

  # The recipe of the same image: every digest, no layer. `format` plays no part.
  resolveImage = makeOverridable (image {
    verb = "resolve";
    # A recipe is nothing without the paths that it names, so it refers to them.
    extra = { };
    output = _format: {
      prefix = "";
      suffix = "-recipe.json";
    };
  });
}
