//! Images with Nix in them, and its database.

use super::{assert_prints, examples};

#[test]
fn nix_knows_the_closure_in_the_container() {
    let examples = examples();
    let Some(printed) = examples.podman(
        &["nix", "nix-layered", "pkgs.nix"],
        "load \"$nix\"\nload \"$nix_layered\"
         for image in nix nix-layered; do
             run $image nix-store --query --requisites \"$pkgs_nix\" | sort
             run $image readlink \"$pkgs_nix/bin/nix-daemon\"
         done",
    ) else {
        return;
    };
    let nix = examples.build("pkgs.nix");
    let mut requisites = [nix, examples.build("pkgs.glibc")];
    requisites.sort();
    let expected = format!("{}\nnix\n", requisites.join("\n"));
    assert_eq!(printed, expected.repeat(2));
}

#[test]
fn nix_finds_every_store_path_as_it_was() {
    assert_prints(
        examples().podman(
            &["files-in-store"],
            "load \"$files_in_store\"
             run file-in-store nix-store --verify --check-contents
             run file-in-store",
        ),
        "some data",
    );
}
