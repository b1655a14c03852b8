# The command, with its completions and man pages. For nixpkgs' callPackage.
{
  lib,
  rustPlatform,
  stdenv,
  installShellFiles,
}:
let
  root = ../../..;
  manifest = (builtins.fromTOML (builtins.readFile (root + "/Cargo.toml"))).workspace.package;
in
rustPlatform.buildRustPackage {
  pname = "nix2oci";
  inherit (manifest) version;

  # Cargo reads every member's manifest, so all of them are here; what is not
  # Rust does not rebuild the package.
  src = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.unions [
      (root + "/Cargo.toml")
      (root + "/Cargo.lock")
      (root + "/README.md")
      (root + "/benches")
      (root + "/crates")
      (root + "/tests")
    ];
  };
  cargoLock.lockFile = root + "/Cargo.lock";

  # The rest of the tests runs Nix, registries and container engines.
  cargoBuildFlags = [
    "--package"
    "nix2oci-cli"
  ];
  cargoTestFlags = [
    "--package"
    "nix2oci"
    "--package"
    "nix2oci-cli"
  ];

  nativeBuildInputs = [ installShellFiles ];
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    installShellCompletion --cmd nix2oci \
      --bash <($out/bin/nix2oci completions bash) \
      --fish <($out/bin/nix2oci completions fish) \
      --zsh <($out/bin/nix2oci completions zsh)
    $out/bin/nix2oci man man
    installManPage man/*.1
  '';

  meta = {
    description = "Turns Nix store closures into OCI images, without a daemon";
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    mainProgram = "nix2oci";
    platforms = lib.platforms.unix;
  };
}
