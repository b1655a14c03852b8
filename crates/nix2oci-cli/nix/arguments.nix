# From Nix values to the words of a command line. Needs nothing of nixpkgs.
let
  kinds = import ./kinds.nix;
in
rec {
  inherit (kinds) checked;

  listOf = value: if value == null then [ ] else if builtins.isList value then value else [ value ];
  optional = condition: values: if condition then values else [ ];

  # One option with its value; an option for each of several values.
  flag = name: value: [
    name
    (toString value)
  ];
  flags = name: values: builtins.concatLists (map (flag name) values);

  # The most layers that an image can have.
  mostLayers = 125;

  # Words for a shell.
  quoted =
    words:
    builtins.concatStringsSep " " (
      map (word: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString word)}'") words
    );

  toLower =
    let
      letters = text: builtins.genList (at: builtins.substring at 1 text) (builtins.stringLength text);
    in
    builtins.replaceStrings (letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ") (letters "abcdefghijklmnopqrstuvwxyz");

  # The part of a store path that is a hash, as dockerTools takes it for a tag.
  outputHash =
    drv: builtins.unsafeDiscardStringContext (builtins.substring 0 32 (baseNameOf drv.outPath));

  # A member of a set by its name, or an error that lists the names.
  memberOf =
    what: set: name:
    set.${name}
      or (throw "nix2oci: ${what} is ${builtins.toJSON name}, expected one of ${builtins.concatStringsSep ", " (builtins.attrNames set)}");

  # A function that is only called with what it takes.
  checking =
    function: f: args:
    f (kinds.checked function (builtins.functionArgs f) args);

  # As nixpkgs' function of this name: the result has `override`.
  makeOverridable =
    f: args:
    f args
    // {
      override =
        change:
        makeOverridable f (args // (if builtins.isFunction change then change args else change));
    };

  # The arguments without those that have no meaning here; one of them is an
  # error that says what to do instead, unless it has the value that asks for
  # nothing.
  refuse =
    function: refused: args:
    builtins.foldl' (
      left: name:
      if args ? ${name} && args.${name} != refused.${name}.unless then
        throw "${function}: ${name} is not supported: ${refused.${name}.why}"
      else
        removeAttrs left [ name ]
    ) args (builtins.attrNames refused);
}
