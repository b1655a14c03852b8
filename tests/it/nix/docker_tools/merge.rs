//! Several images in one archive.

use super::{assert_prints, examples};

const LIST: &str = "podman images --sort repository --format '{{.Repository}}:{{.Tag}}'";

#[test]
fn a_merged_archive_has_every_image() {
    assert_prints(
        examples().podman(
            &["merged"],
            &format!(
                "load \"$merged\"\n{LIST}
                 run bash bash -c 'echo bash'\nrun redis redis-cli"
            ),
        ),
        "docker.io/library/bash:latest\ndocker.io/library/redis:latest\nbash\nredis-cli\n",
    );
}

#[test]
fn a_merged_image_without_a_tag_has_its_hash() {
    let examples = examples();
    let tag = examples.value("bash-no-tag.imageTag");
    let tag = tag.as_str().unwrap();
    assert_prints(
        examples.podman(
            &["merged-no-tag"],
            &format!(
                "load \"$merged_no_tag\"\n{LIST}
                 run bash-no-tag:{tag} bash -c 'echo bash'\nrun redis redis-cli"
            ),
        ),
        &format!(
            "docker.io/library/bash-no-tag:{tag}\ndocker.io/library/redis:latest\nbash\nredis-cli\n"
        ),
    );
}

#[test]
fn merged_images_keep_owners_and_codecs() {
    assert_prints(
        examples().podman(
            &["merged-owners", "merged-compressors"],
            &format!(
                "load \"$merged_owners\"
                 run fake-root-commands stat -c %u /home/alice
                 run fake-root-commands /hello/bin/hello
                 podman rmi --all > /dev/null
                 load \"$merged_compressors\"\n{LIST}
                 run bash-zstd bash -c 'echo zstd'"
            ),
        ),
        "1000\nHello, world!\ndocker.io/library/bash-uncompressed:latest\ndocker.io/library/bash-zstd:latest\n\
         docker.io/library/redis:latest\nzstd\n",
    );
}
