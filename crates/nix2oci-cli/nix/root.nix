# What an image or a layer has beside the store: the store paths that this is
# made of, and the options that say it.
{ arguments, writeText }:
let
  inherit (builtins) isAttrs match toJSON;
  inherit (arguments)
    flag
    flags
    listOf
    optional
    ;
in
{
  baseName,
  contents,
  copyToRoot,
  rootTree,
  rules,
  mtime,
  uid,
  gid,
  # The owner of the store and of what is in it, as "UID:GID"; null: that of the
  # root.
  storeOwner ? null,
}:
let
  owner = "${toString uid}:${toString gid}";

  # Interpolated, so that a path beside the expression becomes a store path.
  whole =
    argument: path:
    if match "${builtins.storeDir}/[^/]+/.*" "${path}" != null then
      throw "image ${baseName}: ${argument} takes store paths, and ${path} is in one: make one of it, such as by runCommand"
    else
      "${path}";
  linked = map (whole "contents") (listOf contents);
  copied = map (whole "copyToRoot") (listOf copyToRoot);

  # Files of their own, so that Nix finds the references in them. nix2oci takes
  # these into the image and leaves the files themselves out.
  document =
    tree:
    if isAttrs tree && !(tree ? outPath) then
      writeText "${baseName}-root.json" (toJSON ({ version = 1; } // tree))
    else
      tree;
  documents = map document (listOf rootTree ++ optional (rules != [ ]) [ { inherit rules; } ]);

  # First, so that rules that are said win.
  storeRules = map document (
    optional (storeOwner != null && storeOwner != owner) [
      {
        rules = [
          {
            regex = "^/nix(/|$)";
            owner = storeOwner;
          }
        ];
      }
    ]
  );
in
rec {
  # What the closure begins with.
  sources = roots ++ copied;

  # The same without what need not be in the image itself.
  roots = linked ++ documents;

  options =
    flags "--contents" linked
    ++ flags "--copy-to-root" copied
    ++ flags "--root-tree" documents
    ++ flags "--rules" storeRules;

  # The same for an image whose root is a tar that commands made of this one.
  rulesOptions = flags "--rules" (storeRules ++ documents);

  # How its files are written, and those of the store.
  packing = flag "--mtime" mtime ++ flag "--owner" owner;
}
