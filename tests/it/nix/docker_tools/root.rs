//! Owners, users, platforms, and what the helpers put into the root.

use super::{assert_prints, examples};

#[test]
fn the_store_can_be_read_by_everybody() {
    assert_prints(
        examples().podman(
            &["with-user"],
            "load \"$with_user\"
             run --user somebody with-user stat -c '%a %U' /nix /nix/store",
        ),
        "755 root\n755 root\n",
    );
}

#[test]
fn store_paths_can_belong_to_a_user() {
    assert_prints(
        examples().podman(
            &["owned", "chown"],
            "stream \"$owned\"\nrun owned\nstream \"$chown\"\nrun chown",
        ),
        "1000:1000\n12345:12345\n",
    );
}

/// What is at the root is root's, and rules about store paths hold beside commands
/// as without them.
#[test]
fn an_owner_of_the_store_is_none_of_the_root() {
    assert_prints(
        examples().podman(
            &["store-owner", "store-owner-commands", "root-owner"],
            "show='stat -L -c %a:%u:%g / /etc/motd /nix /nix/store /bin/stat'
             load \"$store_owner\"\nrun store-owner $show
             load \"$store_owner_commands\"\nrun store-owner-commands $show /data
             load \"$root_owner\"
             run root-owner stat -c %u:%g /bin /bin/stat /nix /nix/store",
        ),
        "755:0:0\n644:0:0\n755:1000:100\n755:1000:100\n555:1000:100\n\
         755:0:0\n600:0:0\n755:1000:100\n755:1000:100\n4555:1000:100\n755:0:0\n\
         1000:100\n1000:100\n0:0\n0:0\n",
    );
}

/// As who runs nixpkgs' stream names it.
#[test]
fn a_stream_takes_other_names_and_options() {
    assert_prints(
        examples().podman(
            &["owned"],
            "for options in '--repo_tag other:one' '-t other:two' '--name other:three' \
                     '--repo_tag=other:four' '--tag five' '--created 2024-05-01T00:00:00Z'; do
                 stream \"$owned\" $options > /dev/null
             done
             podman images --format '{{.Repository}}:{{.Tag}}' | sort
             podman inspect --type image --format '{{.Created}}' owned:latest",
        ),
        "docker.io/library/other:four\ndocker.io/library/other:one\n\
         docker.io/library/other:three\ndocker.io/library/other:two\n\
         docker.io/library/owned:five\ndocker.io/library/owned:latest\n\
         2024-05-01 00:00:00 +0000 UTC\n",
    );
}

#[test]
fn users_can_be_added_by_shadow_s_programs() {
    assert_prints(
        examples().podman(
            &["shadow-setup"],
            "load \"$shadow_setup\"
             run --user postgres shadow-setup sh -c 'id -u; id -gn; stat -c %U:%G ~'",
        ),
        "71\npostgres\npostgres:postgres\n",
    );
}

#[test]
fn a_server_runs_that_commands_made_folders_for() {
    assert_prints(
        examples().podman(
            &["server"],
            "load \"$server\"
             podman run --detach --name server server > /dev/null
             for try in $(seq 50); do
                 if podman exec server wget -qO- http://127.0.0.1:8000/ 2> /dev/null; then break; fi
                 sleep 0.2
             done
             podman exec server whoami
             podman kill server > /dev/null
             podman inspect --type image --format '{{.Config.ExposedPorts}}' server",
        ),
        "Hello from a server\nroot\nmap[8000/tcp:{}]\n",
    );
}

#[test]
fn the_architecture_is_the_one_that_is_said() {
    let architecture = "podman inspect --type image --format '{{.Architecture}}'";
    assert_prints(
        examples().podman(
            &["other-architecture", "other-architecture-layered"],
            &format!(
                "load \"$other_architecture\"\n{architecture} other-architecture
                 stream \"$other_architecture_layered\"
                 {architecture} other-architecture-layered"
            ),
        ),
        "arm64\narm64\n",
    );
}

#[test]
fn a_path_beside_the_expression_may_be_given() {
    let reads = "bash -c 'echo \"$(< /hello.txt)\"'";
    assert_prints(
        examples().podman(
            &["with-path", "with-path-layered"],
            &format!(
                "load \"$with_path\"\nrun with-path {reads}
                 stream \"$with_path_layered\"\nrun with-path-layered {reads}"
            ),
        ),
        "Hello from a path.\nHello from a path.\n",
    );
}

#[test]
fn helpers_put_files_where_programs_look() {
    assert_prints(
        examples().podman(
            &["helpers"],
            "load \"$helpers\"
             for file in etc/ssl/certs/ca-bundle.crt etc/ssl/certs/ca-certificates.crt \\
                 etc/pki/tls/certs/ca-bundle.crt; do run helpers test -r /$file; done
             run helpers /usr/bin/env sh -c 'echo a shell'
             run --user nobody helpers whoami",
        ),
        "a shell\nnobody\n",
    );
}
