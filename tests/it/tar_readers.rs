//! GNU tar, libarchive and Python's tarfile read the layers of an image as the
//! store that they were made of: the same names, types, modes, owners, times
//! and contents, whatever the names.

use std::fs;
use std::path::Path;
use std::process::Command;

use data_encoding::HEXLOWER;
use nix2oci::StorePath;
use nix2oci::store::StoreDir;
use nix2oci_tests::command::{nix2oci, run, run_bytes};
use nix2oci_tests::image_files::layer_tars;
use nix2oci_tests::{Isolated, MemoryStore, Node, Object, Tree};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Store paths of every shape, with all that a name, a link and a file may be.
fn store() -> MemoryStore {
    let name = |length: usize| "n".repeat(length);
    let mut deep = Node::directory([(name(200), Node::file("at the end of 1000 bytes"))]);
    for _ in 0..4 {
        deep = Node::directory([(name(200), deep)]);
    }
    let names = Node::directory([
        (b"caf\xe9".to_vec(), Node::file("Latin-1, not UTF-8")),
        (
            b"\xff\xfe".to_vec(),
            Node::directory([("x", Node::file(""))]),
        ),
        ("snow ☃ man".into(), Node::file("UTF-8")),
        (b"line\nbreak".to_vec(), Node::file("\n")),
        (
            b"back\\slash 'and' \"quotes\" # = *".to_vec(),
            Node::file("?"),
        ),
        (b"-rf".to_vec(), Node::file("no option")),
        (b"...".to_vec(), Node::file("no parent")),
        (name(100).into(), Node::file("fits no plain header")),
        (name(255).into(), Node::file("the longest name")),
        (b"upper".to_vec(), Node::file("lower")),
        (b"UPPER".to_vec(), Node::file("upper")),
    ]);
    let links = Node::directory([
        ("short".to_owned(), Node::symlink("../x")),
        ("dangling".to_owned(), Node::symlink("/nowhere")),
        ("to itself".to_owned(), Node::symlink("to itself")),
        ("100".to_owned(), Node::symlink(name(100))),
        ("101".to_owned(), Node::symlink(name(101))),
        ("4095".to_owned(), Node::symlink("./".repeat(2047) + "x")),
        ("no UTF-8".to_owned(), Node::symlink(b"caf\xe9")),
        (name(120), Node::symlink(name(120))),
    ]);
    let files = Node::directory([
        ("empty", Node::file("")),
        ("empty executable", Node::executable("")),
        ("511", Node::file([1; 511])),
        ("512", Node::executable([2; 512])),
        ("513", Node::file([3; 513])),
        ("large", Node::file(vec![4; 3 << 20])),
        ("empty directory", Node::Directory([].into())),
    ]);
    let nodes = [
        ("deep", deep),
        ("names", names),
        ("links", links),
        ("files", files),
        ("empty-directory", Node::Directory([].into())),
        ("file", Node::file("a store path that is a file")),
        ("executable", Node::executable("#!/bin/sh\n")),
        ("link", Node::symlink("/nix/store/elsewhere")),
        // The longest name of a store path.
        (
            &*name(211 - 33),
            Node::directory([(name(255), Node::file("x"))]),
        ),
    ];
    let nodes = nodes.into_iter().enumerate();
    let path = |(number, (name, node))| -> (StorePath, Node) {
        (format!("{number:032}-{name}").parse().unwrap(), node)
    };
    nodes.map(path).collect::<Vec<_>>().into()
}

/// A store on disk, what it is, and an image of it.
struct Built {
    folder: tempfile::TempDir,
    expected: Tree,
}

impl Built {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, store_dir) = (store(), StoreDir::default());
        let root = folder.path().join("root");
        store.write(&root, &store_dir).unwrap();
        let mut infos = Vec::new();
        for (path, node) in store.paths() {
            let nar = run_bytes(
                Command::new("nix-store")
                    .arg("--dump")
                    .arg(store_dir.join_below(&root, path)),
            );
            assert!(nar == node.nar(), "what Nix makes of {path}");
            infos.push(json!({
                "path": store_dir.join(path), "references": [], "narSize": nar.len(),
                "narHash": format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(&nar))),
            }));
        }
        let path_info = folder.path().join("path-info.json");
        fs::write(&path_info, json!(infos).to_string()).unwrap();
        let paths: Vec<_> = store
            .paths()
            .map(|(path, _)| store_dir.join(path))
            .collect();
        run(Command::new(nix2oci())
            .args([
                "build",
                "--verify",
                "--compression",
                "none",
                "--name",
                "nasty:v1",
            ])
            .args(&paths)
            .arg("--closure")
            .arg(format!("path-info:{}", path_info.display()))
            .arg("--store-root")
            .arg(&root)
            .arg("-o")
            .arg(folder.path().join("image.tar")));
        let expected = Tree::of_store(&root, paths.iter().map(String::as_str));
        Self { folder, expected }
    }

    /// Asserts that a reader finds the store in the layers: each a tree, with
    /// digests for files, from a tar file.
    #[track_caller]
    fn assert_read_by(&self, reader: &str, read: impl Fn(&Path) -> Tree) {
        let mut found = Tree::default();
        for (number, tar) in layer_tars(&self.folder.path().join("image.tar"))
            .iter()
            .enumerate()
        {
            let path = self.folder.path().join(format!("{number}.tar"));
            fs::write(&path, tar).unwrap();
            found.0.extend(read(&path).0);
        }
        found.assert_is(&digested(self.expected.clone()), reader);
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        // As a store, it cannot be deleted by others than root as it is.
        let _ = Command::new("chmod")
            .args(["-R", "u+w"])
            .arg(self.folder.path())
            .output();
    }
}

/// Puts digests in the place of files' bytes.
fn digested(mut tree: Tree) -> Tree {
    for object in tree.0.values_mut().filter(|object| object.kind == 'f') {
        object.content = HEXLOWER.encode(&Sha256::digest(&object.content)).into();
    }
    tree
}

#[test]
fn gnu_tar_extracts_the_store() {
    let built = Built::new();
    built.assert_read_by("GNU tar", |tar| {
        let listed = run(Command::new("tar")
            .args([
                "--list",
                "--verbose",
                "--numeric-owner",
                "--quoting-style=escape",
                "--file",
            ])
            .arg(tar));
        for line in listed.lines() {
            assert_eq!(line.split_whitespace().nth(1), Some("0/0"), "{line}");
        }
        let to = tar.with_extension("extracted");
        fs::create_dir(&to).unwrap();
        let told = run(Command::new("tar")
            .args([
                "--extract",
                "--preserve-permissions",
                "--delay-directory-restore",
            ])
            .arg("--directory")
            .arg(&to)
            .arg("--file")
            .arg(tar));
        assert_eq!(told, "");
        let mut tree = Tree::on_disk(&to);
        // Who is not root owns what they extract.
        tree.0.values_mut().for_each(|object| object.owner = (0, 0));
        assert_eq!(tree.0.len(), listed.lines().count(), "no entry comes twice");
        digested(tree)
    });
}

/// libarchive writes what it reads as an mtree: a line for each entry, blanks
/// and all that is not ASCII as octal numbers.
#[test]
fn libarchive_lists_the_store() {
    let built = Built::new();
    built.assert_read_by("bsdtar", |tar| {
        let mut from = std::ffi::OsString::from("@");
        from.push(tar);
        let keywords = ["type", "mode", "uid", "gid", "time", "link", "sha256"];
        let options = keywords.map(|keyword| format!(",mtree:{keyword}")).concat();
        let mtree = run(Command::new("bsdtar")
            .args(["--create", "--format=mtree", "--file=-"])
            .arg(format!("--options=mtree:!all{options}"))
            .arg(from)
            .env("LC_ALL", "C.UTF-8"));
        let mut tree = Tree::default();
        for line in mtree.lines().filter(|line| !line.starts_with('#')) {
            let (path, keywords) = line.split_once(' ').unwrap();
            let value = |key: &str| {
                let values = keywords.split(' ').filter_map(|word| word.split_once('='));
                values
                    .clone()
                    .find(|(k, _)| *k == key)
                    .map(|(_, value)| value)
            };
            let kind = value("type").unwrap();
            let number = |key| value(key).unwrap().parse().unwrap();
            let object = Object {
                kind: match kind {
                    "dir" => 'd',
                    "file" => 'f',
                    "link" => 'l',
                    _ => '?',
                },
                mode: u32::from_str_radix(value("mode").unwrap(), 8).unwrap(),
                owner: (number("uid"), number("gid")),
                mtime: value("time")
                    .unwrap()
                    .split('.')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap(),
                content: unescape(
                    value(if kind == "link" {
                        "link"
                    } else {
                        "sha256digest"
                    })
                    .unwrap_or_default(),
                ),
            };
            let path = unescape(path.strip_prefix("./").unwrap_or(path));
            let path = if path == b"." || path == b"/." {
                Vec::new()
            } else {
                path
            };
            assert_eq!(tree.0.insert(path, object), None, "{line} comes twice");
        }
        tree
    });
}

/// Returns the bytes of a word in an mtree.
fn unescape(word: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), word.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'\\' {
            let octal = std::str::from_utf8(&after[..3]).unwrap();
            bytes.push(u8::from_str_radix(octal, 8).unwrap());
            rest = &after[3..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    bytes
}

/// Lists a tar: a line for each entry, names and contents in hexadecimal.
const PYTHON: &str = "
import hashlib, os, sys, tarfile
archive = tarfile.open(sys.argv[1], encoding='utf-8', errors='surrogateescape')
for m in archive:
    kind = 'd' if m.isdir() else 'l' if m.issym() else 'f' if m.isreg() else '?'
    content = os.fsencode(m.linkname)
    if kind == 'f':
        content = hashlib.sha256(archive.extractfile(m).read()).hexdigest().encode()
    name = '' if m.name == '.' else m.name
    print(kind, m.mode, m.uid, m.gid, int(m.mtime), content.hex(), os.fsencode(name).hex(), sep=',')
";

#[test]
fn python_lists_the_store() {
    let built = Built::new();
    built.assert_read_by("Python", |tar| {
        let listed = run(Command::new("python3")
            .args(["-c", PYTHON])
            .arg(tar)
            .env("PYTHONUTF8", "1"));
        let mut tree = Tree::default();
        for line in listed.lines() {
            let fields: Vec<_> = line.split(',').collect();
            let [kind, mode, uid, gid, mtime, content, path] = fields[..] else {
                panic!("{line}");
            };
            let bytes = |hex: &str| HEXLOWER.decode(hex.as_bytes()).unwrap();
            let object = Object {
                kind: kind.chars().next().unwrap(),
                mode: mode.parse().unwrap(),
                owner: (uid.parse().unwrap(), gid.parse().unwrap()),
                mtime: mtime.parse().unwrap(),
                content: bytes(content),
            };
            assert_eq!(
                tree.0.insert(bytes(path), object),
                None,
                "{line} comes twice"
            );
        }
        tree
    });
}

/// Loaders unpack with readers of their own: Go's.
#[test]
fn loaders_unpack_the_store() {
    let built = Built::new();
    for (loader, isolated, script) in [
        (
            "podman",
            Isolated::podman(),
            "podman load --quiet --input image.tar >&2
             mounted=$(podman image mount nasty:v1)",
        ),
        (
            "containerd",
            Isolated::containerd(),
            "ctr images import image.tar >&2
             mounted=$state/mounted
             mkdir $mounted
             ctr images mount docker.io/library/nasty:v1 $mounted >&2",
        ),
        (
            "docker",
            Isolated::docker(),
            "docker load --quiet --input image.tar >&2
             docker export \"$(docker create nasty:v1 x)\" > $state/root.tar
             mounted=$state/root
             mkdir $mounted
             tar --extract --preserve-permissions --directory $mounted --file $state/root.tar",
        ),
    ] {
        if crate::loaders::is_without(loader) {
            continue;
        }
        let script = format!("{script}\ntar --create --numeric-owner --directory $mounted .");
        let tar = isolated.output(built.folder.path(), &[], &script).unwrap();
        Tree::of_tar(tar.as_slice())
            .below("nix")
            .assert_is(&built.expected.clone().below("nix"), loader);
    }
}
