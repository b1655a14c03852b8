# What dockerTools has for an image's root, as packages. The same as data is in
# ROOT-TREE.md: a root tree needs no package.
{ pkgs, makeOverridable }:
let
  inherit (pkgs.buildPackages) runCommand;
in
{
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
