//! Users of documents beside those that a base has.

use std::fs;
use std::process::Command;

use nix2oci::plan::{AccountFiles, Metadata};
use nix2oci::{Context, ErrorClass, StoreDir, oci};
use nix2oci_tests::Isolated;
use nix2oci_tests::command::nix2oci;
use nix2oci_tests::handmade_image::{Codec, Entry, in_dir};
use serde_json::json;

use super::command::{build, without_entrypoint};
use super::{dir, handmade, link, open};
use crate::loaders::{NAME, is_without};

fn text(path: &str, text: &str) -> Entry {
    Entry::File(path.to_owned(), text.as_bytes().to_vec())
}

/// Returns what the files of handmade layers tell.
fn found(layers: &[&[Entry]]) -> Result<AccountFiles, nix2oci::Error> {
    let image = in_dir(&handmade(layers, Codec::Gzip).layout());
    let base = open(&image.path, None).unwrap();
    let files = base.account_files(&Context::default(), &StoreDir::default())?;
    // Errors name the base, whose place is made anew each time.
    let mut named = AccountFiles::new(format!("the base image {}", base.name()));
    for path in AccountFiles::PATHS {
        if let Some(bytes) = files.bytes(path) {
            named.insert(path, bytes.to_vec(), metadata());
        }
    }
    assert_eq!(files, named);
    Ok(files)
}

/// The mode and the owner of handmade files.
fn metadata() -> Metadata {
    Metadata {
        owner: Some(oci::Owner { uid: 0, gid: 0 }),
        ..Metadata::mode(0o555)
    }
}

/// Returns those of the files that are there, with their text.
fn texts(files: &AccountFiles) -> Vec<(&'static str, String)> {
    let text = |path| {
        let bytes = files.bytes(path)?;
        Some((path, String::from_utf8(bytes.to_vec()).unwrap()))
    };
    AccountFiles::PATHS.into_iter().filter_map(text).collect()
}

#[test]
fn the_files_are_those_that_all_layers_leave() {
    let store = "nix/store/00000000000000000000000000000000-fake-nss";
    let in_store = format!("{store}/etc/passwd");
    let to_store = format!("/{in_store}");
    let bottom = [
        dir("etc"),
        text("etc/passwd", "a:x:1:1:::\n"),
        text("etc/group", "a:x:1:\n"),
        text("etc/shadow", "a:!::::::::\n"),
        text("srv/passwd", "b:x:1:1:::\n"),
        text("etc/gshadow", "a:!::\n"),
    ];
    for (what, top, expected) in [
        (
            "nothing",
            vec![],
            vec!["a:x:1:1:::\n", "a:x:1:\n", "a:!::::::::\n", "a:!::\n"],
        ),
        (
            "other files",
            vec![text("etc/passwd", "c"), text("etc/shadow", "")],
            vec!["c", "a:x:1:\n", "", "a:!::\n"],
        ),
        (
            "a whiteout",
            vec![text("etc/.wh.group", "")],
            vec!["a:x:1:1:::\n", "a:!::::::::\n", "a:!::\n"],
        ),
        (
            "an opaque directory",
            vec![
                dir("etc"),
                text("etc/.wh..wh..opq", ""),
                text("etc/passwd", "d"),
            ],
            vec!["d"],
        ),
        (
            "a link into the store",
            vec![text(&in_store, "e"), link("etc/passwd", &to_store)],
            vec!["e", "a:x:1:\n", "a:!::::::::\n", "a:!::\n"],
        ),
        (
            "a link for the directory",
            vec![
                link("etc", "usr/share/etc"),
                text("usr/share/etc/group", "f"),
            ],
            vec!["f"],
        ),
        (
            "a directory in place of a file",
            vec![dir("etc/passwd")],
            vec!["a:x:1:\n", "a:!::::::::\n", "a:!::\n"],
        ),
    ] {
        let files = found(&[&bottom, &top]).unwrap();
        let found: Vec<_> = texts(&files).into_iter().map(|(_, text)| text).collect();
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn a_file_that_is_too_large_is_an_error() {
    let large = "#".repeat((1 << 20) + 1);
    let error = found(&[&[text("etc/group", &large)]]).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Input);
    let message = error.to_string();
    assert!(message.contains("/etc/group"), "{message}");
    // It is no matter where nobody looks.
    assert!(texts(&found(&[&[text("srv/etc/group", &large)]]).unwrap()).is_empty());
}

#[test]
fn podman_finds_the_users_of_both() {
    if is_without("podman") {
        return;
    }
    let bottom = [
        dir("etc"),
        text(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\nwww:x:33:33::/www:/bin/no\n",
        ),
        text("etc/group", "root:x:0:\nwww:x:33:\n"),
        text("etc/nsswitch.conf", "passwd: files\n"),
    ];
    let base = in_dir(&handmade(&[&bottom], Codec::Gzip).layout());
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("root.json");
    let write = |uid: u32| {
        let document_text = json!({
            "version": 1,
            "users": [{"name": "app", "uid": uid, "group": "www", "home": "/home/app"}],
            "files": [{"path": "/www/index.html", "text": "", "owner": "www"}],
        });
        fs::write(&document, document_text.to_string()).unwrap();
    };
    write(1000);
    let arguments = without_entrypoint();
    let app = format!("{}/bin/app", arguments[1]);
    let more = [
        "--from",
        base.path.to_str().unwrap(),
        "--root-tree",
        document.to_str().unwrap(),
        "--entrypoint",
        &app,
        "--user",
        "app",
    ];
    let archive = build(&arguments, &more, &folder.path().join("image.tar"));
    let printed = Isolated::podman().run(
        folder.path(),
        &[("archive", archive.to_str().unwrap()), ("name", NAME)],
        "podman load --quiet --input \"$archive\" >&2
         podman run --rm --pull never \"$name\"
         rootfs=$(podman image mount \"$name\")
         cat \"$rootfs/etc/passwd\" \"$rootfs/etc/group\" \"$rootfs/etc/nsswitch.conf\"
         stat --format '%u:%g' \"$rootfs/www/index.html\" \"$rootfs/home/app\"",
    );
    let expected = "Hello from a Nix closure.\n\
                    root:x:0:0:root:/root:/bin/bash\nwww:x:33:33::/www:/bin/no\n\
                    app:x:1000:33::/home/app:/bin/sh\n\
                    nobody:x:65534:65534:nobody:/var/empty:/bin/sh\n\
                    root:x:0:\nwww:x:33:\nnobody:x:65534:\npasswd: files\n33:33\n1000:33\n";
    assert_eq!(printed, expected);

    // Nobody may be another one than in the base.
    let other = json!({"version": 1, "users": [{"name": "www", "uid": 80}]});
    fs::write(&document, other.to_string()).unwrap();
    let output = folder.path().join("other.tar");
    let to = format!("archive:{}", output.display());
    let failed = Command::new(nix2oci())
        .args(&arguments)
        .args(more)
        .args(["-o", &to])
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(3), "{message}");
    assert!(message.contains("the user www"), "{message}");
    assert!(message.contains("the base image"), "{message}");
    assert!(!output.exists());
}
