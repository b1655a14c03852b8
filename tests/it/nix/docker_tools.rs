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
//! | the bulk layer with a base image respects maxLayers | [`base::the_layers_of_the_base_count`] |
//! | images, and layered images, built on top of layered images work | [`base::images_on_top_of_layered_images_run`] |
//! | order of layers is correct | [`base::layers_of_the_base_are_below_in_their_order`] |
//! | layers unpacked in correct order before runAsRoot runs | none: there is no runAsRoot ([`refused`]) |
//! | repeated base layers handled (#214434) | [`base::a_base_with_one_layer_twice_keeps_both`] |
//! | environment variables are inherited, also of layered images; correctly resolved | [`base::the_environment_is_inherited_and_each_variable_is_there_once`] |
//! | images with alternative compression schemas load | [`images_of_every_compression_run`] |
//! | the nix store is initialized: dependencies of the Nix binary | [`database::nix_knows_the_closure_in_the_container`] |
//! | the nix binary symlinks are intact, also when layered | [`database::nix_knows_the_closure_in_the_container`] |
//! | does not change store path contents | [`database::nix_finds_every_store_path_as_it_was`] |
//! | (layered) nix store has correct permissions | [`root::the_store_can_be_read_by_everybody`] |
//! | the pullImage tool works; a pulled image can be used as base image | [`pulled`] |
//! | merged images: all are loaded, also without tags | [`merge`] |
//! | mergeImages preserves owners | [`merge::merged_images_keep_owners_and_codecs`] |
//! | runAsRoot and entry point work (nginx, which has no runAsRoot now) | [`root::a_server_runs_that_commands_made_folders_for`] |
//! | cross compiled image has correct arch; architecture in manifests | [`root::the_architecture_is_the_one_that_is_said`] |
//! | bare paths in contents are loaded correctly | [`root::a_path_beside_the_expression_may_be_given`] |
//! | image-with-certs | [`root::helpers_put_files_where_programs_look`] |
//! | chown is persistent in fakeRootCommands; with non-root user | [`root::store_paths_can_belong_to_a_user`] |
//! | runAsRoot beside extraCommands (#34779), by fakeRootCommands | [`commands::both_kinds_of_commands_run`] |
//! | runAsRoot itself, fakechroot, etc by fakechroot, exportImage | [`refused`] |
//! | buildNixShellImage: all of it | [`shells`] |
//! | registry/ prefix in image name, also of layered images | [`a_registry_may_be_in_the_name`] |
//! | chown with fakeRootCommands | [`commands_set_owners`] |
//! | store paths referenced by the fakeRootCommands output | [`commands_set_owners`] |

mod base;
mod commands;
mod database;
mod merge;
mod pulled;
mod refused;
mod root;
mod shells;

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
fn an_image_without_store_paths_needs_a_mounted_store() {
    assert_prints(
        examples().podman(
            &["hello-on-root", "hello-on-root-no-store"],
            "stream \"$hello_on_root\"\nrun hello
             podman rmi hello > /dev/null
             stream \"$hello_on_root_no_store\"
             if run hello 2> /dev/null; then exit 1; fi
             podman save hello --quiet --format oci-archive --output saved.tar
             mkdir saved && tar --extract --file saved.tar --directory saved
             for blob in saved/blobs/sha256/*; do
                 if tar --list --file $blob 2> /dev/null | grep nix/store/; then exit 1; fi
             done
             run --volume \"$root/nix/store:/nix/store:ro\" hello",
        ),
        "Hello, world!\nHello, world!\n",
    );
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
    let tags: Vec<_> = [
        "bash",
        "bash-no-tag",
        "bash-no-tag-layered",
        "bash-no-tag-stream",
    ]
    .iter()
    .map(|image| {
        let tag = examples.value(&format!("{image}.imageTag"));
        format!("docker.io/library/{image}:{}\n", tag.as_str().unwrap())
    })
    .collect();
    assert_eq!(tags[0], "docker.io/library/bash:latest\n");
    assert_ne!(tags[1], "docker.io/library/bash-no-tag:latest\n");
    assert_prints(
        examples.podman(
            &[
                "bash",
                "bash-no-tag",
                "bash-no-tag-layered",
                "bash-no-tag-stream",
            ],
            "stream \"$bash_no_tag_stream\"
             for image in \"$bash\" \"$bash_no_tag\" \"$bash_no_tag_layered\"; do load \"$image\"; done
             podman images --sort repository --format '{{.Repository}}:{{.Tag}}'",
        ),
        &tags.concat(),
    );
}

#[test]
fn images_of_every_compression_run() {
    let run = "bash -c 'echo $BASH'";
    assert_prints(
        examples().podman(
            &[
                "bash-uncompressed",
                "bash-zstd",
                "bash-layered-uncompressed",
                "bash-layered-zstd",
            ],
            &format!(
                "load \"$bash_uncompressed\"\nload \"$bash_zstd\"
                 load \"$bash_layered_uncompressed\"\nload \"$bash_layered_zstd\"
                 run bash-uncompressed {run}
                 run bash-zstd {run}
                 run bash-layered-uncompressed {run}
                 run bash-layered-zstd {run}"
            ),
        ),
        &"/bin/bash\n".repeat(4),
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
