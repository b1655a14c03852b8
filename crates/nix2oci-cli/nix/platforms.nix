# Nix's names of processors and the image specification's.
let
  platforms = {
    aarch64.architecture = "arm64";
    armv6l = {
      architecture = "arm";
      variant = "v6";
    };
    armv7l = {
      architecture = "arm";
      variant = "v7";
    };
    i686.architecture = "386";
    powerpc64le.architecture = "ppc64le";
    riscv64.architecture = "riscv64";
    s390x.architecture = "s390x";
    x86_64.architecture = "amd64";
  };
in
rec {
  # The platform of a system such as "aarch64-linux".
  ofSystem =
    hostSystem:
    platforms.${builtins.head (builtins.split "-" hostSystem)}
      or (throw "nix2oci: no image architecture is known for ${hostSystem}; set `architecture`");

  # linux/ARCHITECTURE[/VARIANT]; no variant is null or, in dockerTools, "".
  name =
    architecture: variant:
    builtins.concatStringsSep "/" (
      [
        "linux"
        architecture
      ]
      ++ (if variant == null || variant == "" then [ ] else [ variant ])
    );
}
