# Packages with programs of this machine, which the sandbox must have
# (sandbox-paths). Each program is told to use the libraries in the store, so
# that it runs where there is nothing else and has a closure.
final: _prev:
let
  inherit (final) runCommand;

  # Programs as a package: their names or files, and links beside the first.
  # Libraries that glibc does not have are copied along.
  machine =
    name:
    {
      programs,
      links ? [ ],
      inputs ? [ ],
    }:
    runCommand name
      {
        inherit programs links;
        rpath = builtins.concatStringsSep ":" (map (input: "${input}/lib") (inputs ++ [ final.glibc ]));
      }
      ''
        # Where no other package has something.
        libraries=$out/libexec/${name}
        mkdir -p $out/bin
        for program in $programs; do
          target=$out/bin/$(basename $program)
          cp -L "$(type -P $program)" $target
          chmod u+w $target
          for library in $(ldd $target | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p'); do
            found=
            for folder in ''${rpath//:/ }; do
              if [ -e $folder/$(basename $library) ]; then found=1; fi
            done
            if [ -z "$found" ]; then
              mkdir -p $libraries
              cp -nL $library $libraries
            fi
          done
          folders=$rpath
          if [ -e $libraries ]; then folders=$libraries:$rpath; fi
          patchelf --force-rpath --set-rpath $folders \
            --set-interpreter ${final.glibc}/lib/$(basename "$(patchelf --print-interpreter $target)") $target
        done
        # A library's own folders would be searched instead of the program's.
        for library in $libraries/*; do
          [ -e $library ] || continue
          chmod u+w $library
          patchelf --remove-rpath $library
        done
        first=$(basename "''${programs%% *}")
        for link in $links; do ln -s $first $out/bin/$link; done
      '';
in
{
  glibc = runCommand "glibc-machine" { } ''
    mkdir -p $out/lib
    for library in $(ldd /bin/bash | sed -n 's/.*=> \(\/[^ ]*\/libc\.so[^ ]*\) .*/\1/p'); do
      folder=$(dirname $library)
      cp -L $folder/lib{c,m,dl,rt,pthread,resolv,util,nss_files}.so.[0-9] $out/lib
    done
    cp -L "$(patchelf --print-interpreter /bin/bash)" $out/lib
  '';

  ncurses = runCommand "ncurses-machine" { } ''
    mkdir -p $out/lib
    cp -L $(ldd /bin/bash | sed -n 's/.*=> \(\/[^ ]*libtinfo[^ ]*\) .*/\1/p') $out/lib
  '';

  bash = machine "bash-machine" {
    programs = "bash";
    inputs = [ final.ncurses ];
  };
  bashInteractive = final.bash;
  runtimeShell = "${final.bash}/bin/bash";

  coreutils = machine "coreutils-machine" {
    programs = "cat cp chmod env id ls mkdir readlink rm stat test touch whoami";
  };

  gnugrep = machine "grep-machine" { programs = "grep"; };

  nix = machine "nix-machine" {
    programs = "nix";
    links = "nix-store nix-daemon";
  };

  # Linked statically, and refers to nothing.
  busybox = runCommand "busybox-static" { } ''
    mkdir -p $out/bin
    cp /bin/busybox $out/bin
    for applet in $($out/bin/busybox --list); do
      [ $applet = busybox ] || ln -s busybox $out/bin/$applet
    done
  '';

  hello = runCommand "hello-1.0" { } ''
    mkdir -p $out/bin
    printf '%s\n' '#include <stdio.h>' 'int main(void) { puts("Hello, world!"); }' > hello.c
    gcc -x c hello.c -o $out/bin/hello -Wl,--dynamic-linker=${final.glibc}/lib/ld.so \
      -Wl,--disable-new-dtags,-rpath,${final.glibc}/lib
    patchelf --set-interpreter ${final.glibc}/lib/$(basename "$(patchelf --print-interpreter /bin/bash)") $out/bin/hello
  '';

  jq = runCommand "jq" { } ''
    mkdir -p $out/bin
    ln -s /usr/bin/jq $out/bin
  '';

  # The program itself: /usr/bin/fakeroot is a link over /etc, which the sandbox
  # does not have.
  fakeroot = runCommand "fakeroot" { } ''
    mkdir -p $out/bin
    ln -s /usr/bin/fakeroot-sysv $out/bin/fakeroot
  '';

  shadow = runCommand "shadow" { } ''
    mkdir -p $out/bin
    ln -s /usr/sbin/{user,group}{add,mod,del} $out/bin
  '';

  skopeo = runCommand "skopeo" { } ''
    mkdir -p $out/bin
    ln -s /usr/bin/skopeo $out/bin
  '';

  libcap = runCommand "libcap" { } ''
    mkdir -p $out/bin
    ln -s /usr/sbin/setcap $out/bin
  '';

  cacert = final.writeTextDir "etc/ssl/certs/ca-bundle.crt" "no certificate\n";

  # As nixpkgs' of this name, of which only `registration` is used.
  closureInfo =
    { rootPaths }:
    derivation {
      name = "closure-info";
      system = builtins.currentSystem;
      builder = "/bin/sh";
      args = [
        "-euc"
        ''
          PATH=/bin:/usr/bin
          mkdir ${placeholder "out"}
          jq -r '.closure[] | [.path, .narHash, .narSize, "", (.references | length)] + .references | .[]' \
            < .attrs.json > ${placeholder "out"}/registration
        ''
      ];
      __structuredAttrs = true;
      exportReferencesGraph.closure = rootPaths;
    };

  writeTextDir =
    path: text:
    runCommand (baseNameOf path) { inherit text; } ''
      mkdir -p "$(dirname $out/${path})"
      printf %s "$text" > $out/${path}
    '';
  writeScript =
    name: text:
    runCommand name { inherit text; } ''
      printf %s "$text" > $out
      chmod +x $out
    '';
  writeScriptBin =
    name: text:
    runCommand name { inherit text; } ''
      mkdir -p $out/bin
      printf %s "$text" > $out/bin/${name}
      chmod +x $out/bin/${name}
    '';

  # Links to what the paths have in these folders; where only one path has a
  # folder, a link to it, as in nixpkgs.
  buildEnv =
    {
      name,
      paths,
      pathsToLink ? [ "/" ],
    }:
    runCommand name { inherit paths pathsToLink; } ''
      mkdir -p $out
      link() {
        local source target=$2
        for source in $1/*; do
          if [ -d $target/''${source##*/} ]; then
            if [ -L $target/''${source##*/} ]; then
              local first=$(readlink $target/''${source##*/})
              rm $target/''${source##*/}
              mkdir $target/''${source##*/}
              link $first $target/''${source##*/}
            fi
            link $source $target/''${source##*/}
          else
            ln -s $source $target/
          fi
        done
      }
      for path in $paths; do
        for folder in $pathsToLink; do
          [ -d $path$folder ] || continue
          if [ $folder = / ]; then link $path $out; continue; fi
          mkdir -p $out/stage$folder
          if [ ! -e $out$folder ]; then ln -s $path$folder $out$folder
          else
            if [ -L $out$folder ]; then
              first=$(readlink $out$folder)
              rm $out$folder
              mkdir $out$folder
              link $first $out$folder
            fi
            link $path$folder $out$folder
          fi
        done
      done
      rm -rf $out/stage
    '';
}
