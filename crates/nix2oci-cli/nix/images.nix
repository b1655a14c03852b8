# Images as derivations. Argument names and their meaning are those of nixpkgs'
# dockerTools where it has them.
{ arguments, image, ... }:
let
  inherit (arguments) makeOverridable memberOf;

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
in
{
  # An image in the store.
  buildImage = makeOverridable (image {
    verb = "build";
    # An image has all it needs inside: that its config names store paths must not
    # keep and copy these along with it. Nix 2.8 does not know the attribute and
    # keeps them; 2.14 to 2.17 want the experimental feature discard-references.
    extra.unsafeDiscardReferences.out = true;
    output = memberOf "format" formats;
  });

  # The recipe of the same image: every digest, no layer. `format` plays no part.
  resolveImage = makeOverridable (image {
    verb = "resolve";
    # A recipe is nothing without the paths that it names, so it refers to them.
    extra = { };
    output = _format: {
      prefix = "";
      suffix = "-recipe.json";
    };
  });
}
