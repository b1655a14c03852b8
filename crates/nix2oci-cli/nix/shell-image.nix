# An image in which a derivation can be built by hand: what nix-shell is, in a
# container. The arguments of `dockerTools.streamNixShellImage` become those of
# `streamLayeredImage`.
#
# What Nix gives a builder is in NixOS/nix, src/libstore/unix/build, and what
# nix-shell makes of it in src/nix/nix-build/nix-build.cc.
{
  pkgs,
  arguments,
  binSh,
  usrBinEnv,
  fakeNss,
}:
let
  inherit (builtins)
    attrNames
    concatStringsSep
    elem
    isAttrs
    isList
    listToAttrs
    removeAttrs
    ;
  inherit (arguments) quoted;
  inherit (pkgs) writeText;

  # A value as Nix puts it into a builder's environment.
  inEnvironment =
    value:
    if isList value then
      concatStringsSep " " (map inEnvironment value)
    else if builtins.isPath value || isAttrs value then
      "${value}"
    else
      toString value;

  # The variables that the attributes of a derivation become.
  variablesOf =
    attrs:
    let
      inFiles = attrs.passAsFile or [ ];
    in
    listToAttrs (
      map
        (
          name:
          if elem name inFiles then
            {
              name = "${name}Path";
              value = "${writeText name (inEnvironment attrs.${name})}";
            }
          else
            {
              inherit name;
              value = inEnvironment attrs.${name};
            }
        )
        (
          attrNames (
            removeAttrs attrs [
              "args"
              "passAsFile"
              "__ignoreNulls"
            ]
          )
        )
    );

  # Where the outputs go, which are not there yet and so no part of the image.
  outputsOf =
    drv:
    listToAttrs (
      map (name: {
        inherit name;
        value = builtins.unsafeDiscardStringContext drv.${name}.outPath;
      }) (drv.outputs or [ "out" ])
    );

  buildDir = "/build";
in
{
  drv,
  name ? drv.name + "-env",
  tag ? null,
  uid ? 1000,
  gid ? 1000,
  # What Nix says, /homeless-shelter, does not exist.
  homeDirectory ? buildDir,
  shell ? "${pkgs.bashInteractive}/bin/bash",
  # Shell commands to run instead of asking for some: interactively, or not.
  command ? null,
  run ? null,
}:
let
  owner = "${toString uid}:${toString gid}";

  builder = pkgs.writeShellScriptBin "buildDerivation" ''
    exec ${quoted (map inEnvironment ([ drv.drvAttrs.builder ] ++ drv.drvAttrs.args or [ ]))}
  '';
  path = "${dirOf shell}:${builder}/bin";

  rcfile = writeText "nix-shell-rc" ''
    unset PATH
    dontAddDisableDepTrack=1
    if [ -e "''${stdenv-}/setup" ]; then source "$stdenv/setup"; fi
    PATH=${path}:''${PATH-}
    SHELL=${shell}
    BASH=${shell}
    set +e
    if [ -n "''${PS1-}" ] && [ -z "''${NIX_SHELL_PRESERVE_PROMPT-}" ]; then
      PS1='\n\[\033[1;32m\][nix-shell:\w]\$\[\033[0m\] '
    fi
    if [ "$(type -t runHook)" = function ]; then runHook shellHook; fi
    unset NIX_ENFORCE_PURITY
    shopt -u nullglob
    shopt -s execfail
    ${
      if command != null then
        "${command}\nexit"
      else if run != null then
        "${run}\nexit"
      else
        ""
    }
  '';

  certificates = "${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt";
  variables = {
    SSL_CERT_FILE = certificates;
    NIX_SSL_CERT_FILE = certificates;
    PATH = path;
    HOME = homeDirectory;
    NIX_STORE = builtins.storeDir;
    NIX_BUILD_CORES = "1";
  }
  // variablesOf drv.drvAttrs
  // outputsOf drv
  // {
    NIX_BUILD_TOP = buildDir;
    TMPDIR = buildDir;
    TEMPDIR = buildDir;
    TMP = buildDir;
    TEMP = buildDir;
    PWD = buildDir;
    TERM = "xterm-256color";
  };
in
if drv.drvAttrs.__structuredAttrs or false then
  throw "streamNixShellImage: ${drv.name} has structured attributes, expected a derivation whose attributes are variables"
else if command != null && run != null then
  throw "streamNixShellImage: command and run are both given, expected one of them"
else
  {
    inherit name tag;
    contents = [
      binSh
      usrBinEnv
      (fakeNss.override {
        extraPasswdLines = [ "nixbld:x:${owner}:Build user:${homeDirectory}:/noshell" ];
        extraGroupLines = [ "nixbld:!:${toString gid}:" ];
      })
    ];
    # As an installation of Nix for one user, who may write to the store.
    rootTree.directories = map (path: { inherit path owner; }) [
      buildDir
      "/etc/nix"
      "/nix/var/nix"
    ];
    rules = [
      {
        regex = "^/nix(/store|/var(/nix)?)?$";
        inherit owner;
      }
    ];
    config = {
      User = owner;
      WorkingDir = buildDir;
      Env = map (name: "${name}=${variables.${name}}") (attrNames variables);
      Cmd =
        if run == null then
          [
            shell
            "--rcfile"
            rcfile
          ]
        else
          [
            shell
            rcfile
          ];
    };
  }
