# nix2oci as the builder of a derivation: no shell, no standard environment.
{
  nix2oci,
  system,
}:
{
  name,
  # The verb, and what follows it.
  words,
  # Store paths whose closure the command is told.
  roots ? null,
  # false: that the result names store paths must not keep and copy these along
  # with it. Nix 2.8 does not know the attribute and keeps them; 2.14 to 2.17 want
  # the experimental feature discard-references.
  refers ? true,
  # More attributes.
  extra ? { },
}:
derivation (
  {
    inherit name system;
    builder = "${nix2oci}/bin/nix2oci";
  }
  // extra
  // (
    if refers then
      { }
    else
      {
        __structuredAttrs = true;
        unsafeDiscardReferences.out = true;
      }
  )
  // (
    if roots == null then
      {
        args = words ++ [
          "--progress"
          "plain"
        ];
      }
    else
      {
        # The closure is read from the file by its name in the build's top
        # directory, where every Nix puts it. $NIX_ATTRS_JSON_FILE is wrong in
        # sandboxes of Nix 2.8: it names the directory as seen from outside.
        args = words ++ [
          "--closure"
          "attrs:.attrs.json#closure"
          "--progress"
          "plain"
        ];
        __structuredAttrs = true;
        exportReferencesGraph.closure = roots;
      }
  )
)
