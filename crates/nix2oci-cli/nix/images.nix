# Images as derivations. Argument names and their meaning are those of nixpkgs'
# dockerTools where it has them.
{
  arguments,
  compressionOf,
  image,
  rootOf,
  run,
  ...
}:
let
  inherit (builtins) attrNames concatMap replaceStrings;
  inherit (arguments)
    checking
    flag
    flags
    listOf
    makeOverridable
    memberOf
    optional
    ;

  # What the history says of a layer.
  said =
    metadata: key:
    if builtins.elem key [ "author" "comment" "created_by" ] then
      metadata.${key}
    else
      throw "buildLayer: metadata has ${key}, expected created_by, author or comment";

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
  # Layers as a derivation, for `layers` of images and of other layers: packed
  # once, kept in Nix's binary caches, and built by any of its builders.
  layer =
    {
      # What the derivation is called.
      name ? "layer",
      # Store paths, whose closures are in the layer.
      deps ? [ ],
      # A store path that is not itself in the layer, only what it refers to.
      ignore ? null,
      # As those of buildImage.
      contents ? null,
      copyToRoot ? null,
      rootTree ? null,
      rules ? [ ],
      layering ? null,
      strict ? false,
      compressor ? "gz",
      compressionLevel ? null,
      mtime ? "1970-01-01T00:00:01Z",
      uid ? 0,
      gid ? 0,
      # Layers of buildLayer that are below: what they have is not here again.
      layers ? [ ],
      # How many layers are made at most, without one for the root.
      maxLayers ? 1,
      # true: the blobs too, and not only what they are. An image then needs
      # nothing else, and has what was built here even if it is never the same
      # again.
      withBlob ? false,
      # What the history of images says of the layer: created_by, author, comment.
      metadata ? { },
      meta ? { },
      passthru ? { },
    }:
    let
      root = rootOf {
        baseName = name;
        inherit
          contents
          copyToRoot
          rootTree
          rules
          mtime
          uid
          gid
          ;
      };
      roots = map (path: "${path}") (listOf deps);
      # A layer may have nothing of its own: then it stands for those below it.
      isEmpty = roots == [ ] && listOf contents ++ listOf copyToRoot ++ listOf rootTree == [ ];
      below = concatMap (layer: layer.usedLayers) layers;
      built = run {
        inherit name;
        roots = roots ++ root.sources;
        words = [
          "layer"
        ]
        ++ root.options
        ++ root.packing
        ++ flags "--use-layer" below
        ++ flags "--leave-out" (listOf ignore)
        ++ optional (layering != null) (flag "--layers" layering)
        ++ flag "--max-layers" arguments.mostLayers
        ++ flag "--max-store-layers" maxLayers
        ++ optional strict [ "--strict" ]
        ++ flag "--compression" (compressionOf compressor compressionLevel)
        ++ optional withBlob [ "--with-blob" ]
        ++ concatMap (
          key: flag "--${replaceStrings [ "_" ] [ "-" ] key}" (said metadata key)
        ) (attrNames metadata)
        ++ flag "-o" (placeholder "out");
      };
    in
    built
    // passthru
    // {
      inherit layers meta;
      # What --use-layer is given for it.
      usedLayers = if isEmpty then below else [ built ];
      # What it has, and what those below it have.
      storePaths = roots ++ concatMap (layer: layer.storePaths) layers;
      # nix2container's name.
      nestedLayers = layers;
    };

  # One image for several platforms: what buildImage or resolveImage gave for
  # each of them.
  index =
    {
      # As those of buildImage.
      name,
      tag ? "latest",
      images,
      # Annotations of the index.
      annotations ? { },
      format ? "archive",
      meta ? { },
      passthru ? { },
    }:
    let
      imageName = arguments.toLower name;
      result = memberOf "format" formats format;
    in
    run {
      name = "${baseNameOf imageName}${result.suffix}";
      words = [ "index" ]
      ++ map toString images
      ++ flag "--name" imageName
      ++ flag "--tag" tag
      ++ flags "--annotation" (
        map (key: "${key}=${annotations.${key}}") (builtins.attrNames annotations)
      )
      ++ flag "-o" "${result.prefix}${placeholder "out"}";
      refers = false;
    }
    // passthru
    // {
      inherit images imageName meta;
      imageTag = tag;
    };

  # The recipe of an image: every digest, no layer. `format` plays no part.
  recipe = image {
    verb = "resolve";
    # A recipe is nothing without the paths that it names, so it refers to them.
    refers = true;
    output = _format: {
      prefix = "";
      suffix = "-recipe.json";
    };
  };
in
{
  # An image in the store.
  buildImage = makeOverridable (
    checking "buildImage" (image {
      verb = "build";
      # An image has all it needs inside.
      refers = false;
      output = memberOf "format" formats;
    })
  );
  resolveImage = makeOverridable (checking "resolveImage" recipe);
  buildLayer = makeOverridable (checking "buildLayer" layer);
  buildIndex = makeOverridable (checking "buildIndex" index);

  # What these take, for functions that pass their own arguments on.
  taken = {
    image = builtins.functionArgs recipe;
    layer = builtins.functionArgs layer;
  };
}
