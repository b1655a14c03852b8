{
  description = "Turns Nix store closures into OCI images, without a daemon";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      forEach =
        f:
        nixpkgs.lib.genAttrs systems (
          system:
          f (
            import nixpkgs {
              inherit system;
              overlays = [ self.overlays.default ];
            }
          )
        );
    in
    {
      overlays.default = import ./crates/nix2oci-cli/nix/overlay.nix;

      packages = forEach (pkgs: {
        inherit (pkgs) nix2oci;
        default = pkgs.nix2oci;
      });

      # The functions of README.md, "In Nix".
      legacyPackages = forEach (pkgs: pkgs.nix2ociTools);

      checks = forEach (
        pkgs:
        let
          image = pkgs.nix2ociTools.buildImage {
            name = "nix2oci-check";
            config.Entrypoint = [ "${pkgs.nix2oci}/bin/nix2oci" ];
          };
        in
        {
          inherit (pkgs) nix2oci;
          inherit image;
          copy = image.copyTo;
          recipe = pkgs.nix2ociTools.resolveImage {
            name = "nix2oci-check";
            config.Entrypoint = [ "${pkgs.nix2oci}/bin/nix2oci" ];
            compressor = "zstd";
          };
        }
      );

      devShells = forEach (pkgs: {
        default = pkgs.mkShell {
          packages = [
            pkgs.cargo
            pkgs.cargo-deny
            pkgs.cargo-nextest
            pkgs.clippy
            pkgs.jq
            pkgs.rustc
            pkgs.rustfmt
            pkgs.skopeo
            pkgs.umoci
          ];
        };
      });
    };
}
