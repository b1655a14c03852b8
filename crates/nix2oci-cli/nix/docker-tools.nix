# nixpkgs' dockerTools: the same names, arguments, defaults and meaning, built by
# nix2oci. What is different, and why, is in docs/migration.md.
{
  arguments,
  buildImage,
  resolveImage,
  pulled,
  pkgs,
  run,
  taken,
  ...
}:
let
  inherit (builtins) removeAttrs;
  inherit (arguments)
    checked
    checking
    makeOverridable
    refuse
    ;

  # What every image here takes: our arguments, but for what has another name.
  takenByAll = removeAttrs taken.image [ "withNixDb" ] // {
    includeNixDB = true;
  };

  layered =
    function: args:
    let
      takes = takenByAll // {
        debug = true;
        enableFakechroot = true;
        gname = true;
        layeringPipeline = true;
        uname = true;
      };
      asked = refuse "dockerTools.${function}" {
        enableFakechroot = {
          unless = false;
          why = "it needs proot; write fakeRootCommands with paths below the current directory, such as ./etc, or say it as data in rootTree";
        };
        layeringPipeline = {
          unless = null;
          why = "say `layers` or `layering`; the default tells which store paths change together by itself";
        };
      } (checked "dockerTools.${function}" takes args);
    in
    removeAttrs asked [
      "includeNixDB"
      # Names beside the numbers, which no loader reads.
      "uname"
      "gname"
      "debug"
    ]
    // {
      withNixDb = args.includeNixDB or false;
      # They are of the store alone: what is at the root is root's.
      uid = 0;
      gid = 0;
      storeOwner = "${toString (args.uid or 0)}:${toString (args.gid or 0)}";
    };

  buildLayeredImage = makeOverridable (args: buildImage (layered "buildLayeredImage" args));

  # A program that packs the image when it runs, and writes it to standard
  # output. Its options are those of `nix2oci build`.
  streamLayeredImage = makeOverridable (
    args:
    let
      asked = {
        compressor = "none";
      }
      // layered "streamLayeredImage" args;
      built = buildImage asked;
      attributes = built.passthru // {
        conf = resolveImage asked;
        # So that functions that take images know how this one is to be used.
        isExe = true;
      };
    in
    built.stream
    // attributes
    // {
      inherit (built) meta;
      passthru = attributes;
    }
  );

  fullImage =
    args:
    let
      both = args.contents or null != null && args.copyToRoot or null != null;
      takes = takenByAll // {
        buildVMMemorySize = true;
        diskSize = true;
        fromImageName = true;
        fromImageTag = true;
        keepContentsDirlinks = true;
        runAsRoot = true;
      };
      asked = refuse "dockerTools.buildImage" {
        runAsRoot = {
          unless = null;
          why = "it needs a virtual machine; write fakeRootCommands with paths below the current directory, or say it as data in rootTree";
        };
      } (checked "dockerTools.buildImage" takes args);
      fromName =
        if (args.fromImageName or null == null) != (args.fromImageTag or null == null) then
          throw "dockerTools.buildImage: fromImageName and fromImageTag are given both or not at all"
        else if args.fromImage or null == null || args.fromImageName or null == null then
          args.fromImage or null
        else
          "docker-archive:${args.fromImage}:${args.fromImageName}:${args.fromImageTag}";
      copied = if args.copyToRoot or null == null then args.contents or null else args.copyToRoot;
      keepsLinks = args.keepContentsDirlinks or false;
      built = buildImage (
        removeAttrs asked [
          "includeNixDB"
          "contents"
          "fromImageName"
          "fromImageTag"
          "keepContentsDirlinks"
          # Of the virtual machine of runAsRoot.
          "diskSize"
          "buildVMMemorySize"
        ]
        // {
          # A link to a directory becomes that directory, unless it is to be kept:
          # it would take the place of the base's.
          copyToRoot = if keepsLinks then copied else null;
          rootTree =
            arguments.listOf (args.rootTree or null)
            ++ arguments.optional (!keepsLinks && copied != null) [
              {
                copies = map (path: {
                  source = "${path}";
                  followDirectoryLinks = true;
                }) (arguments.listOf copied);
              }
            ];
          # uid and gid are of what is at the root alone.
          storeOwner = "0:0";
          fromImage = fromName;
          withNixDb = args.includeNixDB or false;
        }
      );
    in
    # Whatever else is wrong with the arguments comes first.
    if builtins.seq asked both then
      throw "dockerTools.buildImage: contents is the old name of copyToRoot, expected one of them"
    else
      built
      // {
        buildArgs = args;
        passthru = built.passthru // {
          buildArgs = args;
        };
      };

  rootPackages = import ./root-packages.nix { inherit pkgs makeOverridable; };

  shellImage = import ./shell-image.nix {
    inherit pkgs arguments;
    inherit (rootPackages) binSh usrBinEnv fakeNss;
  };
in
rootPackages
// {
  inherit buildLayeredImage streamLayeredImage;

  buildImage = makeOverridable fullImage;

  buildImageWithNixDb = args: fullImage (args // { includeNixDB = true; });
  buildLayeredImageWithNixDb = args: buildLayeredImage (args // { includeNixDB = true; });

  # An image of a registry.
  pullImage = pulled.pullImage "dockerTools.pullImage";

  # One archive with several images, each under its own name.
  mergeImages =
    images:
    let
      given = checked "dockerTools.mergeImages" { images = false; } { inherit images; };
    in
    run {
      name = "merge-docker-images.tar";
      refers = false;
      words = [ "copy" ] ++ map toString given.images ++ [
        "-o"
        "archive:${placeholder "out"}"
      ];
    };

  # An image for the shell of a derivation.
  streamNixShellImage =
    args: streamLayeredImage (checking "dockerTools.streamNixShellImage" shellImage args);
  buildNixShellImage =
    {
      compressor ? "gz",
      ...
    }@args:
    buildLayeredImage (
      checking "dockerTools.buildNixShellImage" shellImage (removeAttrs args [ "compressor" ])
      // {
        inherit compressor;
      }
    );

  exportImage =
    _args:
    throw "dockerTools.exportImage is not supported: it needs a virtual machine; `podman export` and `umoci unpack` give an image's root file system";
}
