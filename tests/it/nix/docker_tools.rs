//! What nixpkgs' `nixos/tests/docker-tools.nix` asserts of dockerTools, of ours.
//!
//! Its subtests, and where they are here:
//!
//! | theirs | here |
//! | --- | --- |
//! | includeStorePath, with and without a mounted store; ZERO paths are added | [`an_image_without_store_paths_needs_a_mounted_store`] |
//! | a stable date by default | [`dates_are_stable_unless_they_are_not_to_be`] |
//! | an unstable date, also of layered images | [`dates_are_stable_unless_they_are_not_to_be`] |
//! | imageTag attribute matches image | [`the_tag_of_the_attribute_is_the_one_that_is_loaded`] |
//! | layered images work | [`layered_images_run_and_have_what_commands_made`] |
//! | layers are shared between images | [`two_images_share_layers`] |
//! | an image with only 2 layers can be loaded | [`the_number_of_layers_is_kept`] |
//! | the bulk layer doesn't miss store paths (#78744) | [`the_number_of_layers_is_kept`] |
//! | correct behaviour when no store is needed | [`what_needs_no_store_has_none`] |
//! | doesn't dereference /nix/store symlink layers | [`a_store_path_that_is_a_link_stays_one`] |
//! | registry/ prefix in image name, also of layered images | [`a_registry_may_be_in_the_name`] |
//! | chown with fakeRootCommands | [`commands_set_owners`] |
//! | store paths referenced by the fakeRootCommands output | [`commands_set_owners`] |

use super::examples::Examples;

fn examples() -> Examples {
    Examples::of("docker-tools.nix")
}

/// Asserts what a script printed, if podman is there.
#[track_caller]
fn assert_prints(printed: Option<String>, expected: &str) {
    if let Some(printed) = printed {
        assert_eq!(printed, expected);
    }
}

#[test]
fn dates_are_stable_unless_they_are_not_to_be() {
    let created = "podman inspect --type image --format '{{.Created}}'";
    let printed = examples().podman(
        &["bash", "unstable-date", "unstable-date-layered"],
        &format!(
            "load \"$bash\"\n{created} bash
             load \"$unstable_date\"\n{created} unstable-date
             load \"$unstable_date_layered\"\n{created} unstable-date-layered
             run bash bash --version | head -n 1"
        ),
    );
    let Some(printed) = printed else { return };
    let lines: Vec<_> = printed.lines().collect();
    let [stable, unstable, layered, version] = lines.as_slice() else {
        panic!("{printed}");
    };
    assert!(stable.starts_with("1970-01-01 00:00:01 "), "{stable}");
    assert!(!unstable.starts_with("1970"), "{unstable}");
    assert!(!layered.starts_with("1970"), "{layered}");
    assert!(version.starts_with("GNU bash, version"), "{version}");
}

#[test]
fn the_tag_of_the_attribute_is_the_one_that_is_loaded() {
    let examples = examples();
    let tags: Vec<_> = ["bash", "bash-no-tag", "bash-no-tag-layered"]
        .iter()
        .map(|image| {
            let tag = examples.value(&format!("{image}.imageTag"));
            format!("localhost/{image}:{}\n", tag.as_str().unwrap())
        })
        .collect();
    assert_eq!(tags[0], "localhost/bash:latest\n");
    assert_ne!(tags[1], "localhost/bash-no-tag:latest\n");
    assert_prints(
        examples.podman(
            &["bash", "bash-no-tag", "bash-no-tag-layered"],
            "for image in \"$bash\" \"$bash_no_tag\" \"$bash_no_tag_layered\"; do load \"$image\"; done
             podman images --sort repository --format '{{.Repository}}:{{.Tag}}'",
        ),
        &tags.concat(),
    );
}

#[test]
fn layered_images_run_and_have_what_commands_made() {
    assert_prints(
        examples().podman(
            &["layered-image"],
            "load \"$layered_image\"
             run layered-image
             run layered-image cat extraCommands",
        ),
        "Hello, world!\n(extraCommand)\n",
    );
}

#[test]
fn two_images_share_layers() {
    assert_prints(
        examples().podman(
            &["layered-image", "another-layered-image"],
            "load \"$layered_image\"\nload \"$another_layered_image\"
             layers layered-image | sort > \"$state/one\"
             layers another-layered-image | sort > \"$state/other\"
             comm -12 \"$state/one\" \"$state/other\" | wc -l
             wc -l < \"$state/other\"",
        ),
        "2\n2\n",
    );
}

#[test]
fn the_number_of_layers_is_kept() {
    assert_prints(
        examples().podman(
            &["two-layered-image", "bulk-layer", "commands-in-two-layers"],
            "load \"$two_layered_image\"\nlayers two-layered-image | wc -l
             load \"$bulk_layer\"\nlayers bulk-layer | wc -l
             run bulk-layer ls /bin/hello
             load \"$commands_in_two_layers\"\nlayers commands-in-two-layers | wc -l
             run commands-in-two-layers cat made",
        ),
        "2\n2\n/bin/hello\n2\nmade\n",
    );
}

#[test]
fn what_needs_no_store_has_none() {
    assert_prints(
        examples().podman(
            &["no-store-paths"],
            "load \"$no_store_paths\"
             run no-store-paths ls /bin/busybox
             if run no-store-paths ls /nix; then exit 1; fi",
        ),
        "/bin/busybox\n",
    );
}

#[test]
fn a_store_path_that_is_a_link_stays_one() {
    let examples = examples();
    let symlink = examples.value("store-symlink.symlink");
    let symlink = symlink.as_str().unwrap();
    assert_prints(
        examples.podman(
            &["store-symlink"],
            &format!(
                "load \"$store_symlink\"
                 run store-symlink bash -c 'test -L {symlink} && echo a link'
                 run store-symlink bash -c 'echo \"$(< /dir/target)\"'"
            ),
        ),
        "a link\nIts content does not matter.\n",
    );
}

#[test]
fn a_registry_may_be_in_the_name() {
    assert_prints(
        examples().podman(
            &["prefixed", "prefixed-layered"],
            "load \"$prefixed\"\nload \"$prefixed_layered\"
             podman images --sort repository --format '{{.Repository}}'
             run registry-1.docker.io/image",
        ),
        "registry-1.docker.io/image\nregistry-1.docker.io/layered-image\nHello, world!\n",
    );
}

#[test]
fn commands_set_owners() {
    assert_prints(
        examples().podman(
            &["fake-root-commands"],
            "load \"$fake_root_commands\"
             run fake-root-commands stat -c '%u %g' /home/alice
             run fake-root-commands /hello/bin/hello",
        ),
        "1000 0\nHello, world!\n",
    );
}
