# nixpkgs' dockerTools: the same names, arguments, defaults and meaning, built by
# nix2oci. What is different, and why, is in docs/migration.md.
{
  arguments,
  image,
  buildImage,
  resolveImage,
  pkgs,
  nix2oci,
  system,
  ...
}:
let
  inherit (builtins) removeAttrs;
  inherit (arguments) makeOverridable quoted refuse;
  inherit (pkgs.buildPackages) runCommand writeShellScript;

  layered =
    function: args:
    let
      asked = refuse "dockerTools.${function}" {
        enableFakechroot = {
          unless = false;
          why = "it needs proot; write fakeRootCommands with paths below the current directory, such as ./etc, or say it as data in rootTree";
        };
        layeringPipeline = {
          unless = null;
          why = "say `layers` or `layering`; the default tells which store paths change together by itself";
        };
      } args;
    in
    removeAttrs asked [
      "includeNixDB"
      # Names beside the numbers, which no loader reads.
      "uname"
      "gname"
      "debug"
      # Of the result of buildLayeredImage alone.
      "isExe"
    ]
    // {
      withNixDb = args.includeNixDB or false;
    };

  buildLayeredImage = makeOverridable (
    args:
    let
      built = buildImage (layered "buildLayeredImage" args);
      stream = streamLayeredImage (
        removeAttrs args [
          "compressor"
          "compressionLevel"
          "format"
          "meta"
        ]
      );
    in
    built
    // {
      inherit stream;
      passthru = built.passthru // {
        inherit stream;
      };
    }
  );

  # An executable that writes the image to standard output: the recipe is built,
  # the layers are packed when it runs. Its options are those of `nix2oci copy`.
  streamLayeredImage = makeOverridable (
    args:
    let
      meta = args.meta or { };
      conf = resolveImage (
        {
          compressor = "none";
        }
        // layered "streamLayeredImage" args
      );
      attributes = (args.passthru or { }) // {
        inherit conf;
        inherit (conf) imageName imageTag;
        # So that functions that take images know how this one is to be used.
        isExe = true;
      };
    in
    writeShellScript "stream-${baseNameOf conf.imageName}" ''
      exec ${
        quoted [
          "${nix2oci}/bin/nix2oci"
          "copy"
          conf
          "-o"
          "-"
        ]
      } "$@"
    ''
    // attributes
    // {
      inherit meta;
      passthru = attributes;
    }
  );

  fullImage =
    args:
    let
      both = args.contents or null != null && args.copyToRoot or null != null;
      asked = refuse "dockerTools.buildImage" {
        runAsRoot = {
          unless = null;
          why = "it needs a virtual machine; write fakeRootCommands with paths below the current directory, or say it as data in rootTree";
        };
      } args;
      fromName =
        if (args.fromImageName or null == null) != (args.fromImageTag or null == null) then
          throw "dockerTools.buildImage: fromImageName and fromImageTag are given both or not at all"
        else if args.fromImage or null == null || args.fromImageName or null == null then
          args.fromImage or null
        else
          "docker-archive:${args.fromImage}:${args.fromImageName}:${args.fromImageTag}";
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
          copyToRoot = if args.copyToRoot or null == null then args.contents or null else args.copyToRoot;
          fromImage = fromName;
          withNixDb = args.includeNixDB or false;
        }
      );
    in
    if both then
      throw "dockerTools.buildImage: contents is the old name of copyToRoot, expected one of them"
    else
      built
      // {
        buildArgs = args;
        passthru = built.passthru // {
          buildArgs = args;
        };
      };
in
rec {
  inherit buildLayeredImage streamLayeredImage;

  buildImage = makeOverridable fullImage;

  buildImageWithNixDb = args: fullImage (args // { includeNixDB = true; });
  buildLayeredImageWithNixDb = args: buildLayeredImage (args // { includeNixDB = true; });

  exportImage =
    _args:
    throw "dockerTools.exportImage is not supported: it needs a virtual machine; `podman export` and `umoci unpack` give an image's root file system";

  # /etc/passwd and /etc/group with root and nobody, for programs that look up
  # names.
  fakeNss = makeOverridable (
    {
      extraPasswdLines ? [ ],
      extraGroupLines ? [ ],
    }:
    let
      lines = builtins.concatStringsSep "\n";
    in
    runCommand "fake-nss"
      {
        passwd = lines (
          [
            "root:x:0:0:root user:/var/empty:/bin/sh"
            "nobody:x:65534:65534:nobody:/var/empty:/bin/sh"
          ]
          ++ extraPasswdLines
        );
        group = lines (
          [
            "root:x:0:"
            "nobody:x:65534:"
          ]
          ++ extraGroupLines
        );
        preferLocalBuild = true;
      }
      ''
        mkdir -p "$out/etc" "$out/var/empty"
        echo "$passwd" > "$out/etc/passwd"
        echo "$group" > "$out/etc/group"
        echo "hosts: files dns" > "$out/etc/nsswitch.conf"
      ''
  ) { };

  # /usr/bin/env, for scripts that begin with it.
  usrBinEnv = runCommand "usr-bin-env" { preferLocalBuild = true; } ''
    mkdir -p "$out/usr/bin"
    ln -s ${pkgs.coreutils}/bin/env "$out/usr/bin/env"
  '';

  # /bin/sh.
  binSh = runCommand "bin-sh" { preferLocalBuild = true; } ''
    mkdir -p "$out/bin"
    ln -s ${pkgs.bashInteractive}/bin/bash "$out/bin/sh"
  '';

  # The certificates of authorities where programs look for them.
  caCertificates = runCommand "ca-certificates" { preferLocalBuild = true; } ''
    mkdir -p "$out/etc/ssl/certs" "$out/etc/pki/tls/certs"
    for place in ssl/certs/ca-bundle.crt ssl/certs/ca-certificates.crt pki/tls/certs/ca-bundle.crt; do
      ln -s ${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt "$out/etc/$place"
    done
  '';

  # Shell commands for fakeRootCommands: the files that useradd and its kin want
  # to see, and these programs, told to work below the current directory.
  shadowSetup = ''
    mkdir -p etc/pam.d etc/default
    if [ ! -e etc/passwd ]; then
      echo "root:x:0:0::/root:${pkgs.runtimeShell}" > etc/passwd
      echo "root:!x:::::::" > etc/shadow
    fi
    if [ ! -e etc/group ]; then
      echo "root:x:0:" > etc/group
      echo "root:x::" > etc/gshadow
    fi
    if [ ! -e etc/pam.d/other ]; then
      printf '%s\n' \
        "account sufficient pam_unix.so" \
        "auth sufficient pam_rootok.so" \
        "password requisite pam_unix.so nullok yescrypt" \
        "session required pam_unix.so" > etc/pam.d/other
    fi
    [ -e etc/login.defs ] || touch etc/login.defs
    for shadowProgram in useradd usermod userdel groupadd groupmod groupdel; do
      eval "$shadowProgram() { ${pkgs.buildPackages.shadow}/bin/$shadowProgram --prefix \"$PWD\" \"\$@\"; }"
    done
  '';
}
