# What shell commands make of an image's root, as a tar: a file layer.tar in the
# result. They run as nixpkgs builds packages, in bash with the standard
# environment, and under fakeroot: owners and modes that they set are in the tar.
{
  # As in nixpkgs; `fakeroot` is a package of the building system.
  runCommand,
  fakeroot,
}:
{
  # What the result is called after.
  name,
  # The root to start from: an archive with one layer that is not compressed,
  # or null.
  root,
  extraCommands,
  fakeRootCommands,
  # The time of every file in the tar.
  mtime,
}:
runCommand "${name}-customisation-layer"
  {
    inherit extraCommands fakeRootCommands mtime;
    root = if root == null then "" else root;
    nativeBuildInputs = [ fakeroot ];
    preferLocalBuild = true;
  }
  ''
    mkdir "$out" image rootfs
    layers=
    if [ -n "$root" ]; then
      tar --extract --file "$root" --directory image
      layers=$(sed -n 's/.*"Layers":\[\([^]]*\)\].*/\1/p' image/manifest.json | tr -d '"' | tr ',' ' ')
    fi
    export layers
    # What is packed is what the commands saw, in the same session: fakeroot
    # forgets owners at its end.
    cat > pack <<'END'
    set -e
    for layer in $layers; do
      tar --extract --preserve-permissions --numeric-owner --file "image/$layer" --directory rootfs
    done
    chmod u+w rootfs
    (cd rootfs; eval "$extraCommands")
    (cd rootfs; eval "$fakeRootCommands")
    tar --create --sort=name --numeric-owner --mtime="$mtime" --hard-dereference \
      --file "$out/layer.tar" --directory rootfs .
    END
    # Only an owner that the sandbox knows can be set in earnest, and others fail
    # in ways that fakeroot before nixpkgs' patch does not expect.
    FAKEROOTDONTTRYCHOWN=1 fakeroot bash pack
  ''
