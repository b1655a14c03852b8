# One image as a derivation whose builder is nix2oci itself: no shell, no
# standard environment. What images.nix, docker-tools.nix and nix2container.nix
# have in common.
{
  arguments,
  platforms,
  nix2oci,
  hostSystem,
  closureInfo,
  writeText,
  writeShellScript,
  writeShellScriptBin,
  # The value of --compression.
  compressionOf,
  # nix2oci as a builder; run.nix.
  run,
  # What is beside the store; root.nix.
  rootOf,
  # What shell commands make of a root; commands.nix.
  commandsLayer,
}:
let
  inherit (builtins)
    attrNames
    attrValues
    concatLists
    concatMap
    concatStringsSep
    isList
    toJSON
    ;
  inherit (arguments)
    flag
    flags
    listOf
    optional
    outputHash
    quoted
    toLower
    ;

  hostPlatform = platforms.ofSystem hostSystem;
in
{
  verb,
  # The suffix of the store path's name, and where the result goes.
  output,
  # Whether the result keeps the store paths that it names.
  refers,
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
  # Store paths whose files appear at the image's root as they are.
  copyToRoot ? null,
  # Files, users and more that the root gets as data: what ROOT-TREE.md
  # describes, as an attribute set; or several, or files with such JSON.
  rootTree ? null,
  # Modes, owners and extended attributes by pattern, as `rules` of ROOT-TREE.md.
  rules ? [ ],
  # Shell commands that run in the root, as its owner.
  extraCommands ? "",
  # The same, after them.
  fakeRootCommands ? "",
  # A base image: an archive, a layout, or what pullImageFromLock gives.
  fromImage ? null,
  # How many layers there may be, those of the base and of the root included.
  maxLayers ? 100,
  # How many of these for store paths that nothing below has; null: what is left.
  maxStoreLayers ? null,
  # How store paths are grouped; null: the default of --layers.
  layering ? null,
  # Layers of their own: a name and the store paths in it; or a list of what
  # buildLayer gives.
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
  # That of the store and of what is in it, as "UID:GID"; null: the same.
  storeOwner ? null,
  architecture ? hostPlatform.architecture,
  variant ? if architecture == hostPlatform.architecture then hostPlatform.variant or null else null,
  # Annotations of the manifest.
  annotations ? { },
  # false: no store paths, for a container that mounts the host's store.
  includeStorePaths ? true,
  # A Nix database of the store paths, so that Nix can be used in the container.
  withNixDb ? false,
  # Programs of another platform are an error, and not only a warning.
  strict ? false,
  # "archive": one tar for every loader; "oci": an image layout directory.
  format ? "archive",
  meta ? { },
  passthru ? { },
}:
let
  imageName = toLower name;
  imageTag = if tag != null then tag else outputHash (derivationOf "latest");
  baseName = baseNameOf imageName;
  result = output format;

  # A file of its own, so that Nix finds the references in it. nix2oci takes these
  # into the image and leaves the file itself out.
  configFile = writeText "${baseName}-config.json" (
    toJSON (if config == null then { } else config)
  );
  root = rootOf {
    inherit
      baseName
      contents
      copyToRoot
      rootTree
      rules
      mtime
      uid
      gid
      storeOwner
      ;
  };

  namedLayers = if isList layers then { } else layers;
  builtLayers = if isList layers then layers else [ ];

  hasCommands = extraCommands != "" || fakeRootCommands != "";
  customisationLayer = commandsLayer {
    name = baseName;
    inherit extraCommands fakeRootCommands mtime;
    # What the commands start from: the root as it is without them.
    root =
      if root.sources == [ ] then
        null
      else
        run {
          name = "${baseName}-root";
          roots = root.sources;
          words = [
            "build"
            "--no-store-paths"
          ]
          ++ root.options
          ++ root.packing
          ++ flag "--platform" platform
          ++ flag "--compression" "none"
          ++ flag "-o" "archive:${placeholder "out"}";
        };
  };

  platform = platforms.name architecture variant;

  # What the closure begins with, and what of it is in the image for itself.
  sources = [ configFile ] ++ (if hasCommands then [ customisationLayer ] else root.sources) ++ named;
  roots = [ configFile ] ++ (if hasCommands then [ customisationLayer ] else root.roots) ++ named;
  # A database knows what is in the closure, and so what layers brought has to be.
  named =
    concatLists (map listOf (attrValues namedLayers))
    ++ optional withNixDb (concatMap (layer: layer.storePaths) builtLayers);

  # What the image is, whoever builds it.
  options =
    flag "--config" configFile
    ++ flag "--platform" platform
    ++ flag "--created" created
    ++ root.packing
    ++ (
      if hasCommands then
        flag "--layer-tar" "${customisationLayer}/layer.tar" ++ root.rulesOptions
      else
        root.options
    )
    ++ optional withNixDb [ "--with-nix-db" ]
    ++ optional (fromImage != null) (fromImage.fromOptions or (flag "--from" "${fromImage}"))
    ++ flags "--layer" (
      map (layer: "${layer}=${concatStringsSep "," (map toString (listOf namedLayers.${layer}))}") (
        attrNames namedLayers
      )
    )
    ++ flags "--use-layer" (concatMap (layer: layer.usedLayers) builtLayers)
    ++ optional (keepLayers != null) (flag "--keep-layers" "${keepLayers}")
    ++ flags "--share-layers" (map (file: "${file}") (listOf shareLayers))
    ++ flags "--volatile" (listOf volatile)
    ++ flags "--annotation" (map (key: "${key}=${annotations.${key}}") (attrNames annotations))
    ++ optional (!includeStorePaths) [ "--no-store-paths" ]
    ++ optional (layering != null) (flag "--layers" layering)
    ++ flag "--max-layers" maxLayers
    ++ optional (maxStoreLayers != null) (flag "--max-store-layers" maxStoreLayers)
    ++ optional strict [ "--strict" ]
    ++ flag "--compression" (compressionOf compressor compressionLevel);
  nameOptions = imageTag: flag "--name" imageName ++ flag "--tag" imageTag;

  derivationOf =
    imageTag:
    run {
      name = "${baseName}${result.suffix}";
      roots = sources;
      words = [ verb ] ++ nameOptions imageTag ++ options ++ flag "-o" "${result.prefix}${placeholder "out"}";
      inherit refers;
    };
  built = derivationOf imageTag;

  # Programs that build the image straight into another place, with no copy of
  # it in the store: Nix's database has the closure, so that what is built is
  # the same. Named as those of nix2container; further options may follow.
  nix2ociWith = verb: words: "exec ${quoted ([ "${nix2oci}/bin/nix2oci" verb ] ++ words)}";
  paths = roots ++ options;
  # A recipe has its digests already, and what is pushed is held against them.
  pushed = if verb == "resolve" then [ built ] else paths;
  push = nix2ociWith "push" pushed;
  load = nix2ociWith "load" paths;
  # The names are those of the image unless the arguments say others, as they may
  # to nixpkgs' stream by --repo_tag.
  withNames = program: ''
    has_name= has_tag= before= left=$#
    while [ "$left" -gt 0 ]; do
      word=$1
      shift
      case $before:$word in
        --cmd:* | --entrypoint:*) ;;
        *:--name | *:--name=*) has_name=1 ;;
        *:--tag | *:--tag=*) has_tag=1 ;;
        *:-t | *:--repo_tag)
          has_name=1
          word=--name
          ;;
        *:--repo_tag=*)
          has_name=1
          word=--name=''${word#*=}
          ;;
      esac
      set -- "$@" "$word"
      before=$word
      left=$((left - 1))
    done
    [ -n "$has_name$has_tag" ] || set -- ${quoted (flag "--tag" imageTag)} "$@"
    [ -n "$has_name" ] || set -- ${quoted (flag "--name" imageName)} "$@"
    ${program} "$@"'';
  programs = {
    # To the registry that its name says; `docker://REF` adds a
    # tag of the same repository.
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
      ${withNames ''${nix2ociWith "build" paths} -o "$destination"''}
    '';
    copyToPodman = writeShellScriptBin "copy-to-podman" ''
      ${withNames load} podman
    '';
    copyToDockerDaemon = writeShellScriptBin "copy-to-docker-daemon" ''
      ${withNames load} docker
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
      ${withNames load} "$runtime"
    '';
  };

  # A program that writes the image to standard output. What it needs to know of
  # the closure is beside it, so that it also runs where there is no database, as
  # in the builder of another derivation.
  stream = writeShellScript "stream-${baseName}" ''
    ${withNames "${
      nix2ociWith "build" (
        paths ++ flag "--closure" "registration:${closureInfo { rootPaths = sources; }}/registration"
      )
    } -o -"}
  '';

  attributes = {
    inherit
      configFile
      imageName
      imageTag
      stream
      ;
  }
  // programs;
in
built
// passthru
// attributes
// {
  inherit meta;
  passthru = passthru // attributes;
}
