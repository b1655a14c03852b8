# What arguments may be. A wrong one is found before anything is made of it, and
# the error names the function and the argument as they were written. Needs
# nothing of nixpkgs.
let
  inherit (builtins)
    attrNames
    concatStringsSep
    elem
    filter
    head
    isAttrs
    isBool
    isInt
    isList
    isPath
    isString
    match
    toJSON
    typeOf
    ;

  # What errors call a value.
  called =
    value:
    if isString value then
      toJSON (builtins.unsafeDiscardStringContext value)
    else
      {
        bool = if value == true then "true" else "false";
        float = "a float";
        int = toString value;
        lambda = "a function";
        list = "a list";
        null = "null";
        path = toString value;
        set = if value ? outPath then "a derivation" else "an attribute set";
      }
      .${typeOf value};

  # A kind: what is wrong with a value of this name, or null.
  kind =
    expected: is: name: value:
    if is value then null else "${name} is ${called value}, expected ${expected}";

  firstOf =
    problems:
    let
      found = filter (problem: problem != null) problems;
    in
    if found == [ ] then null else head found;

  orNull =
    problemOf: name: value:
    if value == null then null else problemOf name value;
  listOf =
    problemOf: name: value:
    if isList value then
      firstOf (map (problemOf "an element of ${name}") value)
    else
      "${name} is ${called value}, expected a list";
  oneOrMore =
    problemOf: name: value:
    if isList value then listOf problemOf name value else problemOf name value;
  setOf =
    problemOf: name: value:
    if isSet value then
      firstOf (map (member: problemOf "${name}.${member}" value.${member}) (attrNames value))
    else
      set name value;
  oneOf = names: kind "one of ${concatStringsSep ", " names}" (value: elem value names);

  isSet = value: isAttrs value && !(value ? outPath);
  isFile = value: isString value || isPath value || (isAttrs value && (value ? outPath || value ? __toString));
  isLayer = value: isAttrs value && value ? usedLayers;

  text = kind "a string" isString;
  number = kind "a whole number" isInt;
  boolean = kind "true or false" isBool;
  set = kind "an attribute set" isSet;
  file = kind "a path, a derivation or a string" isFile;
  # nixpkgs makes a string of it, so that one is as good.
  id = kind "the number of a user or group" (
    value: isInt value || (isString value && match "[0-9]+" value != null)
  );
  digest = kind "a digest such as sha256:… with its hexadecimal digits" (
    value: isString value && match "[a-z0-9]+:[0-9a-f]+" value != null
  );
  layer = kind "what buildLayer gives" isLayer;
  tree = kind "an attribute set or a file" (value: isAttrs value || isFile value);

  # By the name of the argument: one name is one kind in all functions.
  kinds = {
    annotations = setOf text;
    arch = text;
    architecture = text;
    command = orNull text;
    compressionLevel = orNull number;
    compressor = oneOf [
      "gz"
      "none"
      "zstd"
    ];
    config = orNull set;
    contents = orNull (oneOrMore file);
    copyToRoot = orNull (oneOrMore file);
    created = text;
    debug = boolean;
    deps = oneOrMore file;
    drv = kind "a derivation" (value: isAttrs value && value ? drvAttrs);
    enableFakechroot = boolean;
    extraCommands = text;
    fakeRootCommands = text;
    finalImageName = text;
    finalImageTag = text;
    format = oneOf [
      "archive"
      "oci"
    ];
    fromImage = orNull file;
    fromImageName = orNull text;
    fromImageTag = orNull text;
    gid = id;
    gname = orNull text;
    hash = text;
    homeDirectory = text;
    ignore = orNull (oneOrMore file);
    imageDigest = digest;
    imageManifest = orNull file;
    imageName = text;
    images = listOf file;
    imageTag = text;
    includeNixDB = boolean;
    includeStorePaths = boolean;
    initializeNixDatabase = boolean;
    keepContentsDirlinks = boolean;
    keepLayers = orNull file;
    layering = orNull text;
    # Of an image of ours also by name.
    layers = name: value: if isSet value then setOf (oneOrMore file) name value else listOf layer name value;
    lock = file;
    maxLayers = number;
    maxStoreLayers = orNull number;
    meta = kind "an attribute set" isAttrs;
    metadata = set;
    mode = orNull text;
    mtime = text;
    name = text;
    nixGid = id;
    nixUid = id;
    orMode = orNull text;
    os = text;
    outputHash = text;
    outputHashAlgo = orNull text;
    passthru = kind "an attribute set" isAttrs;
    path = file;
    perms = listOf set;
    regex = text;
    registryUrl = text;
    reproducible = boolean;
    rootTree = orNull (oneOrMore tree);
    rules = listOf set;
    run = orNull text;
    sha256 = text;
    shareLayers = oneOrMore file;
    shell = file;
    storeOwner = orNull text;
    strict = boolean;
    tag = orNull text;
    tlsVerify = boolean;
    uid = id;
    uname = orNull text;
    variant = orNull text;
    volatile = orNull (oneOrMore file);
    withBlob = boolean;
    withNixDb = boolean;
  };
in
{
  inherit called;

  # The arguments, if they are what a function takes: a set of names, and whether
  # they may be left out, as builtins.functionArgs gives it.
  checked =
    function: takes: args:
    let
      unknown = filter (name: !(takes ? ${name})) (attrNames args);
      missing = filter (name: !(takes.${name} || args ? ${name})) (attrNames takes);
      wrong = firstOf (
        map (name: if kinds ? ${name} then kinds.${name} name args.${name} else null) (attrNames args)
      );
    in
    if !isSet args then
      throw "${function}: it is called with ${called args}, expected an attribute set"
    else if unknown != [ ] then
      throw "${function}: it has no argument ${head unknown}, expected some of ${concatStringsSep ", " (attrNames takes)}"
    else if missing != [ ] then
      throw "${function}: the argument ${head missing} is missing"
    else if wrong != null then
      throw "${function}: ${wrong}"
    else
      args;
}
