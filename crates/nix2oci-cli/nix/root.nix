# What an image or a layer has beside the store: the store paths that this is
# made of, and the options that say it.
{ arguments, writeText }:
let
  inherit (builtins) isAttrs toJSON;
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
}:
let
  # Interpolated, so that a path beside the expression becomes a store path.
  linked = map (path: "${path}") (listOf contents);
  copied = map (path: "${path}") (listOf copyToRoot);

  # Files of their own, so that Nix finds the references in them. nix2oci takes
  # these into the image and leaves the files themselves out.
  document =
    tree:
    if isAttrs tree && !(tree ? outPath) then
      writeText "${baseName}-root.json" (toJSON ({ version = 1; } // tree))
    else
      tree;
  documents = map document (listOf rootTree ++ optional (rules != [ ]) [ { inherit rules; } ]);
in
rec {
  # What the closure begins with.
  sources = roots ++ copied;

  # The same without what need not be in the image itself.
  roots = linked ++ documents;

  options =
    flags "--contents" linked ++ flags "--copy-to-root" copied ++ flags "--root-tree" documents;

  # How its files are written, and those of the store.
  packing = flag "--mtime" mtime ++ flag "--owner" "${toString uid}:${toString gid}";
}
