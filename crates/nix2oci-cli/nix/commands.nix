# What shell commands make of an image's root, as a tar: a file layer.tar in the
# result. They run as nixpkgs builds packages, in bash with the standard
# environment, and under fakeroot: owners, modes and extended attributes that they
# set are in the tar, capabilities of files with them.
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
      tar --extract --preserve-permissions --numeric-owner --xattrs --xattrs-include='*' \
        --file "image/$layer" --directory rootfs
    done
    # Before a file with attributes has contents, GNU tar makes it by mknod with
    # no type, which the system takes for a regular file and fakeroot 1.31 for
    # none: such a file is left out when it is packed. A copy has the type.
    find rootfs ! -type d ! -type l -exec stat --printf '%f %u:%g %n\0' {} + |
      while IFS= read -r -d "" line; do
        mode=''${line%% *}
        # Hexadecimal, with the type before the last three digits.
        if [ ''${#mode} -lt 4 ]; then
          line=''${line#* }
          file=''${line#* }
          cp "$file" copy
          # Said before the attributes: they fix the owner of a file that has
          # none yet as the build user.
          chown "''${line%% *}" copy
          cp --attributes-only --preserve=mode,xattr "$file" copy
          mv -f copy "$file"
        fi
      done
    chmod u+w rootfs
    (cd rootfs; eval "$extraCommands")
    (cd rootfs; eval "$fakeRootCommands")
    packed() {
      tar --create --sort=name --numeric-owner --mtime="$mtime" --hard-dereference \
        --file "$out/layer.tar" --directory rootfs "$@" .
    }
    # Only PAX headers have attributes. Their own names and times are those of
    # the machine unless they are said.
    packed --format=posix --xattrs --xattrs-include='*' \
      --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime
    # A star behind the mode is an attribute.
    if ! tar --list --verbose --xattrs --xattrs-include='*' --file "$out/layer.tar" |
      grep --count '^.\{10\}\*' > /dev/null; then
      packed --format=gnu
    fi
    END
    # Only an owner that the sandbox knows can be set in earnest, and others fail
    # in ways that fakeroot before nixpkgs' patch does not expect.
    FAKEROOTDONTTRYCHOWN=1 fakeroot bash pack
  ''
