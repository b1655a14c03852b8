//! A root of everything that a document can say, built by the command and read
//! by the programs that it is for: owners, modes, capabilities and attributes
//! arrive.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use data_encoding::HEXLOWER;
use nix2oci::StorePath;
use nix2oci::plan::RootDocument;
use nix2oci::store::StoreDir;
use nix2oci_tests::command::{nix2oci, repository, run};
use nix2oci_tests::image_files::layer_tars;
use nix2oci_tests::{Isolated, MemoryStore, Node};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::loaders::is_without;

fn at(name: &str) -> String {
    format!("/nix/store/{}-{name}", "0".repeat(32))
}

fn dir<const N: usize>(names: [(&str, Node); N]) -> Node {
    Node::directory(names)
}

fn store() -> MemoryStore {
    let in_dirs = |path: &str, node: Node| {
        path.rsplit('/')
            .fold(node, |node, name| Node::directory([(name, node)]))
    };
    let nodes = [
        ("bash", in_dirs("bin/bash", Node::executable("#!bash"))),
        (
            "cacert",
            in_dirs("etc/ssl/certs/ca-bundle.crt", Node::file("PEM")),
        ),
        ("coreutils", in_dirs("bin/env", Node::executable("#!env"))),
        (
            "site",
            dir([
                ("index.html", Node::file("<p>")),
                ("srv", dir([("app.conf", Node::file("a = 1"))])),
            ]),
        ),
        ("tool", in_dirs("bin/tool", Node::executable("#!tool"))),
        (
            "tzdata",
            in_dirs("share/zoneinfo/Europe/Berlin", Node::file("TZif")),
        ),
    ];
    let path = |(name, node): (&str, Node)| -> (StorePath, Node) {
        let path = at(name)["/nix/store/".len()..].parse();
        (path.unwrap(), node)
    };
    nodes.map(path).into()
}

fn document() -> Value {
    json!({
        "version": 1,
        "directories": [{"path": "/var/lib/app", "mode": "0750", "owner": "app"}],
        "files": [
            {"path": "/etc/motd", "text": "hello\n"},
            {"path": "/usr/bin/tool", "source": at("tool/bin/tool"), "mode": "4755",
             "owner": "0:video"},
            {"path": "/usr/bin/serve", "base64": "IyE=", "executable": true,
             "capabilities": "cap_net_bind_service,cap_net_raw=ep",
             "xattrs": {"security.nix2oci": {"base64": "AP8KPQ=="}}},
        ],
        "symlinks": [{"path": "/usr/bin/sh", "target": "/bin/sh", "owner": "app"}],
        "copies": [{"source": at("site"), "path": "/www", "owner": "app", "fileMode": "0600"}],
        "users": [{"name": "app", "uid": 1000, "gid": 100, "home": "/home/app"}],
        "groups": [{"name": "video", "gid": 44, "members": ["app"]}],
        "rules": [{"glob": "/nix/store/*-tool/bin/*", "mode": "2755", "owner": "app"}],
        "certificates": at("cacert"),
        "binSh": at("bash"),
        "usrBinEnv": at("coreutils"),
        "timezone": {"name": "Europe/Berlin", "data": at("tzdata")},
        "tmp": true,
        "shadow": true,
    })
}

/// The folder of a store on disk, of the document, and of an image.
struct Built(tempfile::TempDir);

impl Built {
    fn new(extra: &[&str]) -> Self {
        let built = Self(tempfile::tempdir().unwrap());
        let (store, store_dir) = (store(), StoreDir::default());
        store.write(&built.file("root"), &store_dir).unwrap();
        let infos = store.paths().map(|(path, node)| {
            json!({
                "path": store_dir.join(path), "references": [], "narSize": node.nar().len(),
                "narHash": format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(node.nar()))),
            })
        });
        let infos: Vec<Value> = infos.collect();
        fs::write(built.file("path-info.json"), json!(infos).to_string()).unwrap();
        fs::write(built.file("root.json"), document().to_string()).unwrap();
        run(built.command().args(extra).args(["-o", "image.tar"]));
        built
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(nix2oci());
        command.current_dir(self.0.path()).args([
            "build",
            &at("tool"),
            "--verify",
            "--closure",
            "path-info:path-info.json",
            "--store-root",
            "root",
            "--name",
            "root:v1",
            "--platform",
            "linux/amd64",
            "--entrypoint",
            "/bin/sh",
            "--root-tree",
            "root.json",
        ]);
        command
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        // As a store, it cannot be deleted by others than root as it is.
        let _ = Command::new("chmod")
            .args(["-R", "u+w"])
            .arg(self.0.path())
            .output();
    }
}

/// What `stat` says of files of the image.
fn expected() -> Vec<String> {
    let tool = at("tool/bin/tool");
    let lines = [
        ("/bin/sh", "777 0:0 symbolic link"),
        ("/etc/motd", "644 0:0 regular file"),
        ("/etc/passwd", "644 0:0 regular file"),
        ("/etc/shadow", "600 0:0 regular file"),
        ("/etc/ssl/certs/ca-bundle.crt", "777 0:0 symbolic link"),
        ("/home/app", "700 1000:100 directory"),
        ("/tmp", "1777 0:0 directory"),
        ("/usr/bin/serve", "755 0:0 regular file"),
        ("/usr/bin/sh", "777 1000:100 symbolic link"),
        ("/usr/bin/tool", "4755 0:44 regular file"),
        ("/var/lib/app", "750 1000:100 directory"),
        ("/var/tmp", "1777 0:0 directory"),
        ("/www", "755 1000:100 directory"),
        ("/www/index.html", "600 1000:100 regular file"),
        ("/www/srv/app.conf", "600 1000:100 regular file"),
        (&tool, "2755 1000:100 regular file"),
    ];
    let line = |(path, stat): (&str, &str)| format!("{path} {stat}");
    lines.map(line).to_vec()
}

/// The paths of [`expected`], for a script.
fn stat_script() -> String {
    let lines = expected();
    let paths = lines.iter().map(|line| line.split(' ').next());
    let paths: Vec<&str> = paths.flatten().collect();
    format!(
        "for path in {}; do stat --format \"$path %a %u:%g %F\" \"$rootfs$path\"; done",
        paths.join(" ")
    )
}

/// Prints the extended attributes of a file in hexadecimal digits, by Python,
/// which asks the system.
const XATTRS: &str = "\
python3 -c 'import os, sys
for name in sorted(os.listxattr(sys.argv[1])):
    if name.startswith(\"security.\") and name != \"security.selinux\":
        print(name, os.getxattr(sys.argv[1], name).hex())' \"$rootfs/usr/bin/serve\"";

const EXPECTED_XATTRS: [&str; 2] = [
    "security.capability 0100000200240000000000000000000000000000",
    "security.nix2oci 00ff0a3d",
];

#[test]
fn podman_unpacks_owners_modes_and_attributes() {
    if is_without("podman") {
        return;
    }
    for codec in ["gzip:6", "zstd:3"] {
        let built = Built::new(&["--compression", codec]);
        let image = built.file("image.tar");
        let printed = Isolated::podman().run(
            built.0.path(),
            &[("image", image.to_str().unwrap())],
            &format!(
                "podman load --quiet --input \"$image\" >&2
                 rootfs=$(podman image mount localhost/root:v1 || podman image mount root:v1)
                 {}\n{XATTRS}\ncat \"$rootfs/etc/passwd\" \"$rootfs/etc/group\"",
                stat_script()
            ),
        );
        let mut lines = expected();
        lines.extend(EXPECTED_XATTRS.map(str::to_owned));
        lines.push("root:x:0:0:root user:/var/empty:/bin/sh".to_owned());
        lines.push("app:x:1000:100::/home/app:/bin/sh".to_owned());
        lines.push("nobody:x:65534:65534:nobody:/var/empty:/bin/sh".to_owned());
        lines.extend(
            [
                "root:x:0:",
                "video:x:44:app",
                "app:x:100:",
                "nobody:x:65534:",
            ]
            .map(str::to_owned),
        );
        let found: Vec<&str> = printed.lines().collect();
        assert_eq!(found, lines, "{codec}");
    }
}

/// The last layer's tar, in a file.
fn root_layer(built: &Built) -> PathBuf {
    let tars = layer_tars(&built.file("image.tar"));
    let file = built.file("layer.tar");
    fs::write(&file, tars.last().unwrap()).unwrap();
    file
}

#[test]
fn gnu_tar_and_libarchive_extract_attributes() {
    let built = Built::new(&["--compression", "none"]);
    let layer = root_layer(&built);
    for (number, command) in [
        "tar --extract --xattrs --xattrs-include='*' --same-owner --preserve-permissions",
        "bsdtar --extract --xattrs --same-owner --same-permissions",
    ]
    .iter()
    .enumerate()
    {
        let printed = Isolated::plain().run(
            built.0.path(),
            &[("layer", layer.to_str().unwrap())],
            &format!(
                "rootfs=$state/{number}; mkdir \"$rootfs\"
                 {command} --file \"$layer\" --directory \"$rootfs\" >&2
                 {XATTRS}\nstat --format '%a %u:%g' \"$rootfs/usr/bin/tool\" \"$rootfs/tmp\""
            ),
        );
        let found: Vec<&str> = printed.lines().collect();
        let modes = ["4755 0:44", "1777 0:0"];
        assert_eq!(found, [&EXPECTED_XATTRS[..], &modes].concat(), "{command}");
    }
}

#[test]
fn python_reads_attributes() {
    let built = Built::new(&["--compression", "none"]);
    let printed = run(Command::new("python3").args([
        "-c",
        "import sys, tarfile
member = tarfile.open(sys.argv[1]).getmember('usr/bin/serve')
for key in sorted(member.pax_headers):
    value = member.pax_headers[key].encode('utf-8', 'surrogateescape')
    print(key, value.hex())",
        root_layer(&built).to_str().unwrap(),
    ]));
    let expected = EXPECTED_XATTRS.map(|line| format!("SCHILY.xattr.{line}\n"));
    assert_eq!(printed, expected.concat());
}

#[test]
fn every_layer_keeps_the_rules_of_tars() {
    let built = Built::new(&["--layers", "largest"]);
    let check = Command::new(nix2oci())
        .args(["check", "image.tar"])
        .current_dir(built.0.path())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(printed.ends_with("ok\n"), "{printed}");
}

#[test]
fn what_is_only_copied_is_not_in_the_store_part() {
    let built = Built::new(&[]);
    let listed = |args: &[&str]| {
        let base = [
            "plan",
            "--json",
            "--closure",
            "path-info:path-info.json",
            "--store-root",
            "root",
        ];
        let mut command = Command::new(nix2oci());
        command.current_dir(built.0.path()).args(base).args(args);
        let plan: Value = serde_json::from_str(&run(&mut command)).unwrap();
        let layers = plan["layers"].as_array().unwrap().iter();
        let paths = layers.filter_map(|layer| layer["paths"].as_array());
        let name = |path: &Value| path.as_str()?.rsplit('-').next().map(str::to_owned);
        let mut names: Vec<String> = paths.flatten().filter_map(name).collect();
        names.sort();
        names
    };
    let tool = at("tool");
    let linked = ["bash", "cacert", "coreutils", "tool", "tzdata"];
    assert_eq!(listed(&[&tool, "--root-tree", "root.json"]), linked);
    let site = at("site");
    assert_eq!(listed(&[&tool, "--copy-to-root", &site]), ["tool"]);
    assert_eq!(listed(&[&site, "--copy-to-root", &site]), ["site"]);
    assert_eq!(listed(&[&tool, "--copy-to-root", &tool]), ["tool"]);
}

/// The documentation's example is one.
#[test]
fn the_example_has_every_key() {
    let text = fs::read_to_string(repository().join("crates/nix2oci-cli/ROOT-TREE.md")).unwrap();
    let (_, rest) = text.split_once("```json\n").unwrap();
    let (example, tables) = rest.split_once("```\n").unwrap();
    let document = RootDocument::parse("ROOT-TREE.md", example.as_bytes(), &StoreDir::default());
    assert_eq!(document.unwrap().copied_paths().len(), 3);
    let example: Value = serde_json::from_str(example).unwrap();
    let object = json!({"version": 1, "x": 1}).to_string();
    let unknown = RootDocument::parse("x", object.as_bytes(), &StoreDir::default());
    let message = unknown.unwrap_err().to_string();
    let (_, known) = message.split_once("known are ").unwrap();
    for key in known.split(", ") {
        assert!(example.get(key).is_some(), "{key} is not in the example");
        assert!(tables.contains(&format!("`{key}`")), "{key} is not told");
    }
}
