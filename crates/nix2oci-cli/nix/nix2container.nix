# nix2container: the same names, arguments, defaults and meaning, built by
# nix2oci. What is different, and why, is in docs/migration.md.
{
  arguments,
  buildLayer,
  resolveImage,
  platforms,
  hostSystem,
  pulled,
  taken,
  ...
}:
let
  inherit (builtins)
    attrNames
    listToAttrs
    map
    removeAttrs
    trace
    ;
  inherit (arguments)
    checked
    checking
    makeOverridable
    toLower
    ;

  # The fields of a config, which nix2container takes in any case.
  fields = listToAttrs (
    map
      (name: {
        name = toLower name;
        value = name;
      })
      [
        "ArgsEscaped"
        "Cmd"
        "Entrypoint"
        "Env"
        "ExposedPorts"
        "Healthcheck"
        "Labels"
        "OnBuild"
        "Shell"
        "StopSignal"
        "StopTimeout"
        "User"
        "Volumes"
        "WorkingDir"
      ]
  );
  spelled =
    config:
    listToAttrs (
      map (name: {
        name = fields.${toLower name} or name;
        value = config.${name};
      }) (attrNames config)
    );

  # `contents` is the old name of `copyToRoot`.
  copied =
    function: args:
    if args.contents or null == null then
      args.copyToRoot or null
    else if args.copyToRoot or null != null then
      throw "nix2container.${function}: contents is the old name of copyToRoot, expected one of them"
    else
      trace "nix2container.${function}: contents is the old name of copyToRoot" args.contents;

  # A permission: who gets it is found by where a file comes from. Any that says
  # no owner gives the files to root, as nix2container does.
  rule = function: checking "nix2container.${function}: an element of perms" (
    {
      path,
      regex ? "",
      mode ? null,
      # Bits beside those of the mode: of nlewo/nix2container#210.
      orMode ? null,
      uid ? 0,
      gid ? 0,
      # Names beside the numbers, which no loader reads.
      uname ? null,
      gname ? null,
    }:
    {
      within = "${path}";
      source = regex;
      owner = "${toString uid}:${toString gid}";
    }
    // (if mode == null then { } else { inherit mode; })
    // (if orMode == null then { } else { addMode = orMode; })
  );

  # A function that takes more than nix2container's: how layers are packed, and
  # the other arguments of ours, but for those that have another name here.
  taking =
    function: ours: renamed: f: args:
    f (
      checked "nix2container.${function}" (
        removeAttrs ours renamed // builtins.functionArgs f
      ) args
    );

  image =
    {
      name,
      tag ? null,
      config ? { },
      layers ? [ ],
      copyToRoot ? null,
      fromImage ? null,
      arch ? (platforms.ofSystem hostSystem).architecture,
      perms ? [ ],
      maxLayers ? 1,
      initializeNixDatabase ? false,
      nixUid ? 0,
      nixGid ? 0,
      created ? "0001-01-01T00:00:00Z",
      contents ? null,
      meta ? { },
      # Other arguments of our resolveImage.
      ...
    }@args:
    let
      built = resolveImage (
        removeAttrs args [
          "arch"
          "contents"
          "initializeNixDatabase"
          "nixGid"
          "nixUid"
          "perms"
        ]
        // {
          inherit created layers;
          maxLayers = arguments.mostLayers;
          maxStoreLayers = maxLayers;
          architecture = arch;
          config = if config == null then null else spelled config;
          copyToRoot = copied "buildImage" args;
          fromImage = if fromImage == "" then null else fromImage;
          withNixDb = initializeNixDatabase;
          rules =
            args.rules or [ ]
            ++ map (rule "buildImage") perms
            ++ (
              if initializeNixDatabase then
                [
                  {
                    regex = "^/nix(/store|/var(/.*)?)?$";
                    owner = "${toString nixUid}:${toString nixGid}";
                    mode = "0755";
                  }
                ]
              else
                [ ]
            );
          passthru = {
            inherit fromImage;
            # A name that builds nothing.
            imageRefUnsafe = builtins.unsafeDiscardStringContext "${built.imageName}:${built.imageTag}";
          }
          // args.passthru or { };
        }
      );
    in
    built;

  layer =
    {
      deps ? [ ],
      copyToRoot ? null,
      ignore ? null,
      layers ? [ ],
      reproducible ? true,
      perms ? [ ],
      maxLayers ? 1,
      contents ? null,
      # Without it the history says what is in the layer.
      metadata ? { },
      ...
    }@args:
    buildLayer (
      removeAttrs args [
        "contents"
        "perms"
        "reproducible"
      ]
      // {
        inherit deps maxLayers;
        copyToRoot = copied "buildLayer" args;
        rules = args.rules or [ ] ++ map (rule "buildLayer") perms;
        withBlob = !reproducible;
      }
    );
in
{
  buildImage = makeOverridable (
    taking "buildImage" taken.image [
      "architecture"
      "maxStoreLayers"
      "withNixDb"
    ] image
  );
  buildLayer = makeOverridable (taking "buildLayer" taken.layer [ "withBlob" ] layer);

  inherit (pulled.nix2container) pullImage pullImageFromManifest;
}
