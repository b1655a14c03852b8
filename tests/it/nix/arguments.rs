//! What is said of arguments that a function does not take: it is the first
//! thing that a user gets wrong, and Nix alone would name a line of ours.

use nix2oci_tests::FixtureStore;
use nix2oci_tests::command::{output, run};
use serde_json::Value;

#[test]
fn a_wrong_argument_is_named_with_its_function() {
    let store = FixtureStore::new();
    for (attribute, expected) in [
        (
            "ours",
            "buildImage: it has no argument contens, expected some of annotations,",
        ),
        (
            "overridden",
            "dockerTools.buildImage: it has no argument fakerootCommands,",
        ),
        (
            "layered",
            "dockerTools.buildLayeredImage: it has no argument withNixDb,",
        ),
        (
            "stream",
            "dockerTools.streamLayeredImage: it has no argument content,",
        ),
        (
            "shell",
            "dockerTools.streamNixShellImage: it has no argument derivation,",
        ),
        (
            "n2c",
            "nix2container.buildImage: it has no argument architecture,",
        ),
        (
            "n2c-layer",
            "nix2container.buildLayer: it has no argument dep,",
        ),
        ("perm", "an element of perms: it has no argument regexp,"),
        ("index", "buildIndex: it has no argument image,"),
        ("pull", "dockerTools.pullImage: it has no argument tag,"),
        ("no-name", "resolveImage: the argument name is missing"),
        (
            "no-digest",
            "dockerTools.pullImage: the argument imageDigest is missing",
        ),
        ("no-hash", "nix2container.pullImage: the hash is missing"),
        ("no-lock", "pullImageFromLock: the argument lock is missing"),
        (
            "not-a-set",
            "buildImage: it is called with a derivation, expected an attribute set",
        ),
        (
            "null-name",
            "dockerTools.buildImage: name is null, expected a string",
        ),
        (
            "list-of-commands",
            "dockerTools.buildLayeredImage: extraCommands is a list, expected a string",
        ),
        (
            "text-for-a-number",
            "buildImage: maxLayers is \"100\", expected a whole number",
        ),
        (
            "name-of-a-user",
            "buildImage: uid is \"root\", expected the number of a user",
        ),
        (
            "list-in-a-list",
            "buildImage: an element of contents is a list, expected a path,",
        ),
        (
            "number-in-a-set",
            "buildImage: annotations.revision is 1, expected a string",
        ),
        (
            "package-for-a-layer",
            "nix2container.buildImage: an element of layers is a derivation, expected what buildLayer",
        ),
        (
            "compressor",
            "dockerTools.buildLayeredImage: compressor is \"xz\", expected one of gz, none, zstd",
        ),
        (
            "tag-for-a-digest",
            "nix2container.pullImage: imageDigest is \"latest\", expected a digest",
        ),
        (
            "image-for-images",
            "dockerTools.mergeImages: images is a derivation, expected a list",
        ),
    ] {
        let mut command = store.nix("nix-instantiate");
        command.args(["arguments.nix", "--attr", attribute]);
        let error = output(&mut command).unwrap_err();
        assert!(error.contains(expected), "{attribute}: {error}");
    }
}

#[test]
fn what_nixpkgs_takes_is_taken() {
    let mut command = FixtureStore::new().nix("nix-instantiate");
    command.args(["arguments.nix", "--attr", "fine"]);
    command.args(["--eval", "--strict", "--json"]);
    let fine: Value = serde_json::from_str(&run(&mut command)).unwrap();
    assert_eq!(fine.as_array().unwrap().len(), 4);
}

/// Nix then tells which hash it is.
#[test]
fn a_hash_may_be_empty() {
    let store = FixtureStore::new();
    let mut command = store.nix("nix-instantiate");
    command.args(["arguments.nix", "--attr", "empty-hash", "--eval"]);
    assert!(run(&mut command).contains(".tar.drv"));
}
