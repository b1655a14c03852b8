//! Shell commands that run in the root.

use std::fs;

use nix2oci_tests::image_files::layer_tars;

use super::super::examples::Examples;
use super::assert_prints;

fn examples() -> Examples {
    Examples::of("commands.nix")
}

#[test]
fn both_kinds_of_commands_run() {
    assert_prints(
        examples().podman(
            &["both"],
            "load \"$both\"
             run both cat extraCommands
             run both cat fakeRootCommands",
        ),
        "(extraCommands)\n(extraCommands)\n(fakeRootCommands)\n",
    );
}

/// What the kernel sees of a file's capabilities and attributes.
const ATTRIBUTES: &str = "\
python3 -c 'import os, sys
for path in sys.argv[1:]:
    at = os.stat(path)
    print(os.path.basename(path), oct(at.st_mode), at.st_uid, at.st_gid, open(path).read().strip())
    for name in sorted(os.listxattr(path)):
        if name in (\"security.capability\", \"user.origin\"):
            print(name, os.getxattr(path, name).hex())'";

/// fakeroot has attributes since 1.20.
#[test]
fn commands_keep_and_set_extended_attributes() {
    assert_prints(
        examples().podman(
            &["attributes"],
            &format!(
                "load \"$attributes\"
                 srv=$(podman image mount attributes)/srv
                 {ATTRIBUTES} $srv/serve $srv/plain $srv/ping $srv/made"
            ),
        ),
        "serve 0o104755 7 8 serve\n\
         security.capability 0100000200040000000000000000000000000000\n\
         user.origin 64617461\n\
         plain 0o100644 0 0 plain\n\
         ping 0o100644 9 9 ping\n\
         security.capability 0100000200300000000000000000000000000000\n\
         made 0o100755 0 0 serve\n\
         security.capability 0100000200200000000000000000000000000000\n",
    );
}

/// PAX headers are only where an attribute is: other layers have the bytes that
/// they had before attributes were kept.
#[test]
fn a_root_without_attributes_is_a_plain_tar() {
    let examples = examples();
    let magic_and_headers = |attribute: &str| {
        let image = examples.image(attribute);
        let tar = layer_tars(&image).pop().unwrap();
        let headers = tar.windows(10).filter(|text| text == b"PaxHeaders").count();
        (tar[257..265].to_owned(), headers > 0)
    };
    assert_eq!(
        magic_and_headers("no-attributes"),
        (b"ustar  \0".to_vec(), false)
    );
    assert_eq!(
        magic_and_headers("attributes"),
        (b"ustar\x0000".to_vec(), true)
    );
    let layer = fs::read(examples.image("attributes")).unwrap();
    assert!(fs::read(examples.image("attributes")).unwrap() == layer);
}
