//! What `contents` put into the image's root.

use nix2oci::plan::{RootNode, RootTree};
use nix2oci::{Context, ErrorKind, Result, StoreDir, StorePath};
use nix2oci_tests::{MemoryStore, Node};

fn path(name: &str) -> StorePath {
    format!("{}-{name}", "0".repeat(32)).parse().unwrap()
}

fn full(name: &str) -> String {
    StoreDir::default().join(&path(name))
}

/// Writes `@` for the directory of store paths and their hash.
fn short(text: &str) -> String {
    text.replace(full("x").trim_end_matches('x'), "@")
}

/// A store with what the tests ask for, and these paths.
fn store<const N: usize>(paths: [(&str, Node); N]) -> MemoryStore {
    MemoryStore::from(paths.map(|(name, node)| (path(name), node)))
}

fn contents(store: &MemoryStore, names: &[&str]) -> Result<RootTree> {
    let mut tree = RootTree::default();
    for name in names {
        tree.add_contents(
            &Context::default(),
            &StoreDir::default(),
            store,
            &path(name),
        )?;
    }
    Ok(tree)
}

/// The tree in lines.
fn list(tree: &RootTree) -> Vec<String> {
    tree.nodes()
        .map(|(path, node, metadata)| {
            let path = path.escape_ascii();
            let mode = metadata.mode.unwrap_or(node.default_mode());
            match node {
                RootNode::Directory => format!("{path}/ {mode:o}"),
                RootNode::Symlink { target } => {
                    let target = target.escape_ascii().to_string();
                    format!("{path} -> {}", short(&target))
                }
                other => panic!("{path} is {other:?}"),
            }
        })
        .collect()
}

fn hello() -> Node {
    Node::directory([
        ("bin", Node::directory([("hello", Node::executable("#!"))])),
        ("lib64", Node::symlink("lib")),
        ("nix-support", Node::directory::<&str>([])),
        (
            "share",
            Node::directory([
                ("doc", Node::symlink(format!("{}/doc", full("docs")))),
                ("gone", Node::symlink("../nowhere")),
                ("note~", Node::file("kept")),
            ]),
        ),
    ])
}

#[test]
fn directories_are_made_files_are_linked_and_links_are_copied() {
    let tree = contents(&store([("hello", hello())]), &["hello"]).unwrap();
    assert_eq!(
        list(&tree),
        [
            "bin/ 755",
            "bin/hello -> @hello/bin/hello",
            "lib64 -> lib",
            "nix-support/ 755",
            "share/ 755",
            "share/doc -> @docs/doc",
            "share/gone -> ../nowhere",
            "share/note~ -> @hello/share/note~",
        ]
    );
}

#[test]
fn names_are_bytes() {
    let names = [
        (b"caf\xe9".to_vec(), Node::file("")),
        (b"a b\n".to_vec(), Node::symlink(b"\xfe")),
    ];
    let tree = contents(&store([("odd", Node::directory(names))]), &["odd"]).unwrap();
    assert_eq!(
        list(&tree),
        ["a b\\n -> \\xfe", "caf\\xe9 -> @odd/caf\\xe9"]
    );
}

#[test]
fn directories_of_two_contents_become_one_in_any_order() {
    let tools = Node::directory([
        ("bin", Node::directory([("ls", Node::executable(""))])),
        ("lib64", Node::symlink("lib")),
        ("lib", Node::directory([("libc.so", Node::file(""))])),
    ]);
    let store = store([("hello", hello()), ("tools", tools)]);
    let one = contents(&store, &["hello", "tools"]).unwrap();
    let other = contents(&store, &["tools", "hello", "tools"]).unwrap();
    assert_eq!(list(&one), list(&other));
    assert_eq!(
        &list(&one)[..6],
        [
            "bin/ 755",
            "bin/hello -> @hello/bin/hello",
            "bin/ls -> @tools/bin/ls",
            "lib/ 755",
            "lib/libc.so -> @tools/lib/libc.so",
            "lib64 -> lib",
        ]
    );
}

#[test]
fn what_two_contents_give_differently_is_a_conflict_that_names_both() {
    let conflict = |second: Node| {
        let store = store([("hello", hello()), ("other", second)]);
        let error = contents(&store, &["hello", "other"]).unwrap_err();
        let ErrorKind::RootTreeConflict {
            path,
            first,
            second,
        } = error.kind()
        else {
            panic!("{error}")
        };
        assert_eq!((first, second), (&full("hello"), &full("other")));
        path.clone()
    };
    let bin = |node| Node::directory([("bin", Node::directory([("hello", node)]))]);
    // The same bytes, but a link to another file.
    assert_eq!(conflict(bin(Node::executable("#!"))), "/bin/hello");
    assert_eq!(conflict(bin(Node::symlink("busybox"))), "/bin/hello");
    assert_eq!(
        conflict(bin(Node::directory([("x", Node::file(""))]))),
        "/bin/hello"
    );
    assert_eq!(
        conflict(Node::directory([("bin", Node::symlink("usr/bin"))])),
        "/bin"
    );
    assert_eq!(
        conflict(Node::directory([("lib64", Node::symlink("usr/lib"))])),
        "/lib64"
    );
    let behind_a_link = Node::directory([("lib64", Node::directory([("x", Node::file(""))]))]);
    assert_eq!(conflict(behind_a_link), "/lib64");
}

#[test]
fn the_first_of_what_every_package_brings_stays() {
    let package = |text| {
        let file = || Node::file(text);
        Node::directory([
            (
                "nix-support",
                Node::directory([("propagated-build-inputs", file())]),
            ),
            (
                "share",
                Node::directory([("info", Node::directory([("dir", file())]))]),
            ),
        ])
    };
    let store = store([("a", package("1")), ("b", package("2"))]);
    let tree = contents(&store, &["a", "b"]).unwrap();
    assert_eq!(
        list(&tree),
        [
            "nix-support/ 755",
            "nix-support/propagated-build-inputs -> @a/nix-support/propagated-build-inputs",
            "share/ 755",
            "share/info/ 755",
            "share/info/dir -> @a/share/info/dir",
        ]
    );
}

#[test]
fn contents_that_are_a_link_are_what_they_lead_to() {
    let relative = format!("../store/./{}", path("hello"));
    let store = store([
        ("hello", hello()),
        ("link", Node::symlink(full("hello"))),
        ("links", Node::symlink(relative)),
        ("inner", Node::symlink(format!("{}/bin", full("links")))),
        (
            "env",
            Node::directory([
                ("current", Node::symlink("v1")),
                ("v1", Node::symlink(full("links"))),
            ]),
        ),
        (
            "through",
            Node::symlink(format!("{}/current/bin/", full("env"))),
        ),
    ]);
    let tree = contents(&store, &["link"]).unwrap();
    assert_eq!(list(&tree).len(), 8);
    assert_eq!(list(&tree)[1], "bin/hello -> @link/bin/hello");
    for name in ["inner", "through"] {
        let tree = contents(&store, &[name]).unwrap();
        assert_eq!(list(&tree), [format!("hello -> @{name}/hello")]);
    }
}

#[test]
fn contents_that_are_no_directory_are_refused() {
    let store = store([
        ("file", Node::file("")),
        ("to-file", Node::symlink(full("file"))),
        ("out", Node::symlink("/etc/ssl")),
        ("up", Node::symlink("../../../..")),
        ("self", Node::symlink(full("self"))),
        ("hello", hello()),
        ("gone", Node::symlink(format!("{}/sbin", full("hello")))),
    ]);
    let refused = |name: &str| {
        let error = contents(&store, &[name]).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::InvalidInput { .. }),
            "{error}"
        );
        let message = error.to_string();
        let about = format!("contents {}: ", full(name));
        short(message.strip_prefix(&about).expect("it names the path"))
    };
    assert_eq!(refused("file"), "@file is a file, expected a directory");
    assert_eq!(refused("to-file"), "@file is a file, expected a directory");
    assert_eq!(
        refused("gone"),
        "@hello/sbin does not exist, expected a directory"
    );
    assert_eq!(
        refused("out"),
        "it leads to /etc/ssl, expected a directory in /nix/store"
    );
    assert_eq!(
        refused("up"),
        "it leads to ../../../.., expected a directory in /nix/store"
    );
    assert_eq!(refused("self"), "it leads over more than 40 links");
}

#[test]
fn what_cannot_be_read_is_the_source_s_error() {
    let error = contents(&store([]), &["none"]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ReadStore { .. }));
    let cx = Context::default();
    cx.cancel.cancel();
    let mut tree = RootTree::default();
    let error = tree
        .add_contents(
            &cx,
            &StoreDir::default(),
            &store([("hello", hello())]),
            &path("hello"),
        )
        .unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Cancelled));
}
