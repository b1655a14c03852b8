//! What nix2container's `tests/default.nix` asserts of its images, of ours.
//!
//! | theirs | here |
//! | --- | --- |
//! | hello, basic, layered, nested | [`programs_run_whatever_their_layers_are`] |
//! | bashVersion, bashLs | [`what_is_copied_to_the_root_runs`] |
//! | copyToRoot | [`what_is_copied_to_the_root_runs`] |
//! | openbar, ownership, nonRegressionIssue45 | [`permissions_are_those_of_the_files_they_match`] |
//! | nonRegressionIssue12 | [`the_store_s_folders_are_in_the_layer`] |
//! | created | [`the_config_tells_when_it_was_made`] |
//! | metadata | [`the_history_says_what_is_said_of_a_layer`] |
//! | nonReproducible | [`a_layer_that_is_kept_has_what_was_built`] |
//! | duplicated (#186), and chains of layers (#205) | [`a_layer_is_there_once_however_it_is_reached`] |
//! | nix, nixNested | [`nix_knows_the_paths_of_all_layers`] |
//! | nix-user | [`the_store_can_belong_to_a_user`] |
//! | fromImage, fromImageManifest, getManifest | [`pulled`] |

pub(super) mod pulled;

use nix2oci_tests::command::nix2oci;

use super::examples::Examples;

fn examples() -> Examples {
    Examples::of("nix2container.nix")
}

/// Loads the images by their own programs, as `nix run .#image.copyToPodman`
/// does, and runs a script; attributes are named as in [`Examples::podman`].
#[track_caller]
fn with_images(images: &[&str], script: &str) -> Option<String> {
    let programs: Vec<_> = images
        .iter()
        .map(|image| format!("{image}.copyToPodman"))
        .collect();
    let programs: Vec<_> = programs.iter().map(String::as_str).collect();
    let loads: String = programs
        .iter()
        .map(|program| {
            let variable = program.replace(['-', '.'], "_");
            format!("inside \"${variable}/bin/copy-to-podman\" --quiet > /dev/null\n")
        })
        .collect();
    examples().podman(&programs, &format!("{NAMED}{loads}{script}"))
}

/// An image without a tag has one that is a hash, and what is one image may
/// have two names.
const NAMED: &str = r#"
named() { podman images --format '{{.Repository}}:{{.Tag}}' | grep "/$1:"; }
start() {
    name=$1
    shift
    run "$(named "$name")" "$@"
}
tell() { podman inspect --type image --format "$2" "$(named "$1")"; }
"#;

#[track_caller]
fn assert_prints(printed: Option<String>, expected: &str) {
    if let Some(printed) = printed {
        assert_eq!(printed, expected);
    }
}

#[test]
fn programs_run_whatever_their_layers_are() {
    let layers = "'{{len .RootFS.Layers}}'";
    assert_prints(
        with_images(
            &["hello", "basic", "layered", "nested"],
            &format!(
                "start hello\ntell hello {layers}
                 start basic\ntell basic {layers}
                 start layered\ntell layered {layers}
                 start nested"
            ),
        ),
        "Hello, world!\nand goodbye\n2\nHello, world!\n1\nHello, world!\n2\nHello, world!\n",
    );
}

/// What buildImage gives is a recipe, which `copy` and `load` take.
#[test]
fn what_build_image_gives_is_copied_and_loaded() {
    let nix2oci = nix2oci().display();
    assert_prints(
        examples().podman(
            &["basic"],
            &format!(
                "{NAMED}
                 inside '{nix2oci}' copy $basic -o archive:$PWD/app.tar --quiet > digest
                 podman load --quiet --input app.tar > /dev/null
                 start basic
                 podman rmi --all --force > /dev/null
                 inside '{nix2oci}' load $basic podman --quiet | cmp - digest
                 start basic"
            ),
        ),
        "Hello, world!\nHello, world!\n",
    );
}

#[test]
fn what_is_copied_to_the_root_runs() {
    let Some(printed) = with_images(
        &["bash", "copy-to-root"],
        "start bash bash --version | head -n 1
         start bash ls | grep -x bin
         start copy-to-root",
    ) else {
        return;
    };
    let lines: Vec<_> = printed.lines().collect();
    assert!(lines[0].starts_with("GNU bash, version"), "{printed}");
    assert_eq!(lines[1..], ["bin", "Hello, world!"]);
}

#[test]
fn permissions_are_those_of_the_files_they_match() {
    assert_prints(
        with_images(
            &["openbar", "ownership", "one-mode", "or-mode"],
            "start openbar | awk '$NF == \"tmp\" { print $1 }'
             start ownership | grep test
             start perms | grep test
             start or-mode | grep test",
        ),
        "drwxrwxrwx\n\
         -r--r--r-- 1 1001 1001 0 Jan  1  1970 test1.txt\n\
         -r--r--r-- 1    0    0 0 Jan  1  1970 test2.txt\n\
         -rwxrwxrwx 1 0 0 0 Jan  1  1970 test1.txt\n\
         -r--r--r-- 1 0 0 0 Jan  1  1970 test2.txt\n\
         -rw-r--r-- 1 0 0 0 Jan  1  1970 test1.txt\n\
         -r--r--r-- 1 0 0 0 Jan  1  1970 test2.txt\n",
    );
}

#[test]
fn the_store_s_folders_are_in_the_layer() {
    assert_prints(
        examples().podman(
            &["basic.copyTo"],
            "inside \"$basic_copyTo/bin/copy-to\" oci:$PWD/layout:v1 --quiet > /dev/null
             for blob in layout/blobs/sha256/*; do
                 tar --list --verbose --file \"$blob\" 2> /dev/null | awk '$NF ~ /^nix\\/(store\\/)?$/ { print $1, $NF }' || true
             done",
        ),
        "drwxr-xr-x nix/\ndrwxr-xr-x nix/store/\n",
    );
}

#[test]
fn the_config_tells_when_it_was_made() {
    assert_prints(
        with_images(
            &["created", "basic"],
            "tell created '{{.Created}}'\ntell basic '{{.Created.Year}}'",
        ),
        "2024-05-13 09:31:10 +0000 UTC\n1\n",
    );
}

#[test]
fn the_history_says_what_is_said_of_a_layer() {
    assert_prints(
        with_images(
            &["metadata"],
            "tell metadata '{{with index .History 0}}{{.CreatedBy}}, {{.Author}}, {{.Comment}}{{end}}'",
        ),
        "test created_by, test author, test comment\n",
    );
}

#[test]
fn a_layer_that_is_kept_has_what_was_built() {
    let Some(printed) = with_images(&["non-reproducible"], "start non-reproducible") else {
        return;
    };
    let built = "A non reproducible image built the ";
    assert!(printed.starts_with(built), "{printed}");
}

#[test]
fn a_layer_is_there_once_however_it_is_reached() {
    assert_prints(
        with_images(
            &["duplicated", "chain"],
            "tell duplicated '{{len .RootFS.Layers}}'
             tell chain '{{len .RootFS.Layers}}'
             start chain",
        ),
        "2\n31\nHello, world!\n",
    );
}

#[test]
fn nix_knows_the_paths_of_all_layers() {
    let examples = examples();
    let nix = examples.build("pkgs.nix");
    let Some(printed) = with_images(
        &["nix"],
        &format!(
            "for path in $(start nix ls /nix/store); do
                 start nix nix-store --query --hash /nix/store/$path > /dev/null && echo known
             done | sort -u
             start nix nix-store --query --requisites {nix} | grep -x {nix}
             start nix nix-store --query --requisites $(start nix bash -c 'echo /nix/store/*-hello-1.0') | sort"
        ),
    ) else {
        return;
    };
    let mut requisites = [examples.build("pkgs.hello"), examples.build("pkgs.glibc")];
    requisites.sort();
    let expected = format!("known\n{nix}\n{}\n", requisites.join("\n"));
    assert_eq!(printed, expected);
}

#[test]
fn the_store_can_belong_to_a_user() {
    assert_prints(
        with_images(
            &["nix-user"],
            "start nix-user stat -c '%a %U:%G %n' /nix /nix/store /nix/var/nix/db /home/user
             start nix-user bash -c 'echo new > new.txt; path=$(nix-store --add new.txt); echo ${path#*-}'",
        ),
        "755 user:user /nix\n755 user:user /nix/store\n755 user:user /nix/var/nix/db\n\
         744 user:user /home/user\nnew.txt\n",
    );
}
