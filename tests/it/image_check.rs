//! Laws of `check`: a right image has no problem, and each kind of damage is
//! found and named, alone.

use std::path::Path;

use nix2oci::image::{ImageReader, ImageSource, Severity, check};
use nix2oci::{Context, ErrorKind};
use nix2oci_tests::handmade_image::{
    Codec, Entry, Files, HandmadeImage, HandmadeLayer, STORE_PATHS, compress, digest, hex, in_dir,
    in_file, indexes, layout, nested, store, tar,
};
use serde_json::json;

const CODECS: [Codec; 3] = [Codec::None, Codec::Gzip, Codec::Zstd];

fn open(path: &Path) -> nix2oci::Result<ImageReader> {
    ImageReader::open(&Context::default(), &ImageSource::Path(path.to_owned()))
}

/// Returns the rules that an image breaks.
fn rules(path: &Path) -> Vec<&'static str> {
    let reader = open(path).unwrap();
    let problems = check(&Context::default(), &reader).unwrap();
    for problem in &problems {
        assert!(!problem.to_string().contains("sha256:sha256"), "{problem}");
    }
    problems.iter().map(|p| p.kind.rule()).collect()
}

fn rules_in_dir(files: &Files) -> Vec<&'static str> {
    rules(&in_dir(files).path)
}

fn rules_of_layer(entries: &[Entry]) -> Vec<&'static str> {
    rules_in_dir(&HandmadeImage::with_entries(entries).layout())
}

fn rules_of_tar(tar: &[u8]) -> Vec<&'static str> {
    rules_in_dir(&HandmadeImage::with_tar(tar).layout())
}

fn dir(path: &str) -> Entry {
    Entry::Dir(path.to_owned())
}

fn file(path: &str) -> Entry {
    Entry::File(path.to_owned(), b"content".to_vec())
}

#[test]
fn right_images_have_no_problem_in_any_form() {
    for codec in CODECS {
        let image = HandmadeImage::new(codec);
        assert_eq!(rules_in_dir(&image.layout()), [""; 0], "{codec:?}");
        for files in [image.layout(), image.combined(), image.docker()] {
            for whole in CODECS {
                let disk = in_file(&compress(whole, &files.archive()));
                assert_eq!(rules(&disk.path), [""; 0], "{codec:?} in {whole:?}");
            }
        }
    }
}

#[test]
fn damage_to_documents_is_found() {
    let image = HandmadeImage::default();
    let manifest_digest = |files: &Files| -> String {
        let index: serde_json::Value = serde_json::from_slice(files.get("index.json")).unwrap();
        index["manifests"][0]["digest"].as_str().unwrap()["sha256:".len()..].to_owned()
    };
    type Damage = fn(&mut Files, &str);
    let cases: [(&[&str], Damage); 9] = [
        (&["layout-version"], |files, _| files.remove("oci-layout")),
        (&["layout-version"], |files, _| {
            files.set("oci-layout", br#"{"imageLayoutVersion":"9"}"#.to_vec());
        }),
        (&["no-manifest"], |files, _| {
            files.edit("index.json", |index| index["manifests"] = json!([]));
        }),
        (&["no-name"], |files, _| {
            files.edit("index.json", |index| {
                index["manifests"][0]["annotations"]["io.containerd.image.name"].take();
                let entry = &mut index["manifests"][0]["annotations"];
                entry
                    .as_object_mut()
                    .unwrap()
                    .remove("io.containerd.image.name");
            });
        }),
        (&["missing"], |files, manifest| {
            files.remove(&format!("blobs/sha256/{manifest}"));
        }),
        (&["digest", "malformed"], |files, manifest| {
            let name = format!("blobs/sha256/{manifest}");
            let mut bytes = files.get(&name).to_vec();
            bytes[0] = b'[';
            files.set(&name, bytes);
        }),
        (&["digest", "size"], |files, manifest| {
            let name = format!("blobs/sha256/{manifest}");
            let bytes = [files.get(&name), b"\n"].concat();
            files.set(&name, bytes);
        }),
        (&["size"], |files, _| {
            files.edit("index.json", |index| {
                index["manifests"][0]["size"] = json!(1);
            });
        }),
        (&["unknown-media-type"], |files, _| {
            files.edit("index.json", |index| {
                index["manifests"][0]["mediaType"] = json!("text/plain");
            });
        }),
    ];
    for (expected, damage) in cases {
        let mut files = image.layout();
        damage(&mut files, &manifest_digest(&image.layout()));
        assert_eq!(rules_in_dir(&files), expected);
    }
}

#[test]
fn what_documents_say_wrongly_is_found() {
    type Break = fn(&mut HandmadeImage);
    let cases: [(&[&str], Break); 12] = [
        (&["diff-id"], |image| {
            image.config = |c| c["rootfs"]["diff_ids"][0] = json!(digest(b"other"));
        }),
        (&["diff-id-count"], |image| {
            image.config = |c| drop(c["rootfs"]["diff_ids"].as_array_mut().unwrap().pop());
        }),
        (&["history-count"], |image| {
            image.config = |c| c["history"][1]["empty_layer"] = json!(true);
        }),
        (&["malformed"], |image| {
            image.config = |c| *c = json!("text");
        }),
        (&["platform"], |image| {
            image.entry = |entry| entry["platform"]["architecture"] = json!("arm64");
        }),
        (&["media-type-differs"], |image| {
            image.manifest = |m| m["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
        }),
        (&["no-image"], |image| {
            image.manifest = |m| m["config"]["mediaType"] = json!("text/plain");
        }),
        (&["compression"], |image| {
            image.layers[0].media_type = "application/vnd.oci.image.layer.v1.tar+zstd";
        }),
        (&["unknown-media-type"], |image| {
            image.layers[0].media_type = "text/plain";
        }),
        (&["size"], |image| {
            image.manifest = |m| m["layers"][0]["size"] = json!(1);
        }),
        (&["missing"], |image| {
            image.manifest = |m| m["layers"][0]["digest"] = json!(digest(b"other"));
        }),
        (&["too-many-layers"], |image| {
            let layer = image.layers[0].clone();
            image.layers.resize(126, layer);
        }),
    ];
    for (expected, damage) in cases {
        let mut image = HandmadeImage::new(Codec::Gzip);
        damage(&mut image);
        assert_eq!(rules_in_dir(&image.layout()), expected);
    }
}

#[test]
fn empty_lists_may_be_null() {
    let mut image = HandmadeImage::new(Codec::Gzip);
    image.layers.clear();
    image.config = |c| c["rootfs"]["diff_ids"] = json!(null);
    image.manifest = |m| m["layers"] = json!(null);
    let mut files = image.layout();
    assert_eq!(rules_in_dir(&files), [""; 0]);
    let disk = in_dir(&files);
    let stored = open(&disk.path)
        .unwrap()
        .image(&Context::default(), None)
        .unwrap();
    assert_eq!(stored.layers, []);
    files.edit("index.json", |index| index["manifests"] = json!(null));
    assert_eq!(rules_in_dir(&files), ["no-manifest"]);
}

#[test]
fn a_history_may_be_absent_and_have_empty_layers() {
    let mut image = HandmadeImage {
        config: |c| drop(c.as_object_mut().unwrap().remove("history")),
        ..HandmadeImage::default()
    };
    assert_eq!(rules_in_dir(&image.layout()), [""; 0]);
    image.config = |c| {
        let empty = json!({ "created_by": "ENV", "empty_layer": true });
        c["history"].as_array_mut().unwrap().insert(1, empty);
    };
    assert_eq!(rules_in_dir(&image.layout()), [""; 0]);
}

#[test]
fn broken_tar_rules_are_found() {
    let path = &STORE_PATHS[1][1..];
    let link = |target: &str| Entry::HardLink(format!("{path}/link"), target.to_owned());
    let cases: [(&[&str], Vec<Entry>); 12] = [
        (&["tar-duplicate-entry"], vec![file(path), file(path)]),
        (&["tar-duplicate-entry"], vec![dir("nix/")]),
        (
            &["tar-missing-parent"],
            vec![file("etc/passwd"), file("etc/group")],
        ),
        (&["tar-late-parent"], vec![file("etc/passwd"), dir("etc")]),
        (
            &["tar-parent-not-directory"],
            vec![
                Entry::Symlink("lib".into(), "usr/lib".into()),
                file("lib/x"),
            ],
        ),
        (&["tar-dot-dot"], vec![file("nix/../x")]),
        (&["tar-long-path"], vec![file(&"x".repeat(5000))]),
        (&["tar-absolute-path"], vec![file("/x"), file("/y")]),
        (
            &["tar-hard-link-target"],
            vec![dir(path), link("nix/store/elsewhere")],
        ),
        (
            &["tar-hard-link-target"],
            vec![
                dir(path),
                link(&format!("{path}/x")),
                file(&format!("{path}/x")),
            ],
        ),
        (
            &["tar-hard-link-target"],
            vec![dir(path), link("nix/store")],
        ),
        (
            &["tar-unsupported-kind"],
            vec![Entry::Device("null".into())],
        ),
    ];
    for (expected, entries) in cases {
        assert_eq!(rules_of_layer(&entries), expected, "{entries:?}");
    }
}

#[test]
fn broken_ends_of_tars_are_found() {
    let whole = tar(&[store(), vec![file(&STORE_PATHS[1][1..])]].concat());
    let bare = &whole[..whole.len() - 1024];
    let zeros = |n: usize| vec![0; n];
    let cases: [(&[&str], Vec<u8>); 8] = [
        (&[], [bare, &zeros(10240)].concat()),
        (&["tar-no-end"], bare.to_vec()),
        (&["tar-no-end"], [bare, &zeros(512)].concat()),
        (&["tar-garbage-after-end"], [&whole[..], &[1; 512]].concat()),
        (&["tar-not-padded"], [&whole[..], &zeros(10)].concat()),
        (
            &["tar-no-end", "tar-not-padded"],
            bare[..bare.len() - 505].to_vec(),
        ),
        (&["tar-broken"], bare[..bare.len() - 512].to_vec()),
        (&["tar-broken"], [bare, &[1; 1024]].concat()),
    ];
    for (expected, bytes) in cases {
        assert_eq!(rules_of_tar(&bytes), expected);
    }
}

#[test]
fn broken_compression_is_found() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let mut image = HandmadeImage::new(codec);
        let whole = image.layers[0].blob.clone();
        image.layers[0].blob = [&whole[..], b"garbage"].concat();
        assert_eq!(rules_in_dir(&image.layout()), ["layer-trailing-bytes"]);
        image.layers[0].blob = whole[..whole.len() - 1].to_vec();
        assert_eq!(rules_in_dir(&image.layout()), ["layer-undecodable"]);
        // Members and frames one after another are one stream.
        let bytes = tar(&store());
        image.layers[0].blob = [
            compress(codec, &bytes[..700]),
            compress(codec, &bytes[700..]),
        ]
        .concat();
        image.layers[0].diff_id = digest(&bytes);
        assert_eq!(rules_in_dir(&image.layout()), [""; 0]);
    }
}

#[test]
fn every_problem_is_told_not_only_the_first() {
    let mut image = HandmadeImage::with_entries(&[file("a/b"), Entry::Device("c".into())]);
    image.config = |c| c["rootfs"]["diff_ids"][0] = json!(digest(b"other"));
    assert_eq!(
        rules_in_dir(&image.layout()),
        ["diff-id", "tar-unsupported-kind", "tar-missing-parent"]
    );
}

#[test]
fn a_combined_archive_must_agree_with_itself() {
    let image = HandmadeImage::default();
    let mut files = image.combined();
    files.edit("manifest.json", |m| {
        drop(m[0]["Layers"].as_array_mut().unwrap().pop());
    });
    assert_eq!(rules(&in_file(&files.archive()).path), ["docker-differs"]);

    let mut files = image.combined();
    files.edit("manifest.json", |m| m[0]["Config"] = json!("index.json"));
    assert_eq!(rules(&in_file(&files.archive()).path), ["docker-differs"]);

    let mut files = image.combined();
    files.edit("manifest.json", |m| m[0]["RepoTags"] = json!(null));
    assert_eq!(rules(&in_file(&files.archive()).path), ["no-repo-tags"]);

    let mut files = image.combined();
    let again = files.get("oci-layout").to_vec();
    files.0.push(("oci-layout".to_owned(), again));
    assert_eq!(rules(&in_file(&files.archive()).path), ["duplicate-member"]);
}

#[test]
fn warnings_are_no_errors() {
    let mut image = HandmadeImage::new(Codec::Gzip);
    image.entry = |entry| drop(entry.as_object_mut().unwrap().remove("annotations"));
    let disk = in_dir(&image.layout());
    let problems = check(&Context::default(), &open(&disk.path).unwrap()).unwrap();
    assert_eq!(problems.len(), 2);
    assert!(problems.iter().all(|p| p.severity() == Severity::Warning));
    assert_eq!(
        problems[0].to_string(),
        "warning: entry 0 of index.json: it has no annotation org.opencontainers.image.ref.name"
    );
}

#[test]
fn a_cancelled_check_stops() {
    let disk = in_dir(&HandmadeImage::default().layout());
    let reader = open(&disk.path).unwrap();
    let cx = Context::default();
    cx.cancel.cancel();
    let error = check(&cx, &reader).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Cancelled), "{error}");
}

#[test]
fn indexes_without_end_are_left_soon() {
    let rules = rules_in_dir(&indexes(300, 4));
    assert_eq!(rules.last(), Some(&"no-name"));
    assert_eq!(
        rules.iter().filter(|rule| **rule == "no-manifest").count(),
        1
    );
    let rules = rules_in_dir(&indexes(1, 5));
    assert_eq!(rules, ["no-name", "no-name", "too-deep"]);
    let rules = rules_in_dir(&indexes(5000, 1));
    assert!(rules.contains(&"too-many-manifests"));
}

#[test]
fn a_manifest_that_only_its_siblings_have_is_a_warning() {
    let mut arm = HandmadeImage::new(Codec::None);
    arm.architecture = "arm64";
    let images = [HandmadeImage::default(), arm];
    let index = |files: &Files| -> serde_json::Value {
        serde_json::from_slice(files.get("index.json")).unwrap()
    };
    let manifests = index(&layout(&images))["manifests"].clone();
    let blob = |i: usize| {
        let digest = manifests[i]["digest"].as_str().unwrap();
        digest.replace("sha256:", "blobs/sha256/")
    };
    let mut files = nested(&images);
    files.remove(&blob(1));
    let disk = in_dir(&files);
    let problems = check(&Context::default(), &open(&disk.path).unwrap()).unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].kind.rule(), "missing-sibling");
    assert_eq!(problems[0].severity(), Severity::Warning);
    files.remove(&blob(0));
    assert_eq!(rules_in_dir(&files), ["missing", "missing"]);
    // Nobody leaves out an entry of the outermost index on purpose.
    let mut files = layout(&images);
    files.remove(&blob(1));
    assert_eq!(rules_in_dir(&files), ["missing"]);
}

#[test]
fn artifacts_are_checked_for_digest_and_size_only() {
    type Make = fn(&mut HandmadeImage);
    let cases: [Make; 3] = [
        |sbom| {
            sbom.manifest = |m| {
                m["artifactType"] = json!("application/spdx+json");
                m["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json");
            };
        },
        |old_artifact| {
            old_artifact.manifest = |m| {
                m["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json");
            };
        },
        |signature| {
            signature.layers[0].media_type = "application/vnd.dev.cosign.simplesigning.v1+json";
        },
    ];
    for make in cases {
        let mut artifact = HandmadeImage::new(Codec::None);
        artifact.layers.truncate(1);
        artifact.layers[0].blob = b"{\"no\": \"tar\"}".to_vec();
        artifact.config = |c| c["rootfs"]["diff_ids"] = json!([]);
        artifact.name = "example.org/artifact:1.0";
        make(&mut artifact);
        let images = [HandmadeImage::default(), artifact.clone()];
        let mut files = layout(&images);
        assert_eq!(rules_in_dir(&files), [""; 0]);
        let disk = in_dir(&files);
        let stored = open(&disk.path).unwrap().image(&Context::default(), None);
        assert_eq!(stored.unwrap().names, [HandmadeImage::default().name]);
        let name = format!("blobs/sha256/{}", hex(&artifact.layers[0].blob));
        files.set(&name, b"other".to_vec());
        assert_eq!(rules_in_dir(&files), ["digest", "size"]);
    }
}

#[test]
fn every_descriptor_of_a_manifest_is_compared() {
    let mut files = HandmadeImage::default().layout();
    files.edit("index.json", |index| {
        let mut again = index["manifests"][0].clone();
        again["size"] = json!(1);
        again["platform"]["architecture"] = json!("arm64");
        let same = again.clone();
        index["manifests"]
            .as_array_mut()
            .unwrap()
            .extend([again, same]);
    });
    assert_eq!(rules_in_dir(&files), ["size", "platform"]);
}

#[test]
fn an_incomplete_history_is_a_warning() {
    let image = HandmadeImage {
        config: |c| c["history"][1]["empty_layer"] = json!(true),
        ..HandmadeImage::default()
    };
    let disk = in_dir(&image.layout());
    let problems = check(&Context::default(), &open(&disk.path).unwrap()).unwrap();
    assert_eq!(problems[0].kind.rule(), "history-count");
    assert_eq!(problems[0].severity(), Severity::Warning);
}

#[test]
fn what_cannot_be_opened_is_told_like_the_rest() {
    let image = HandmadeImage::new(Codec::None);
    let layer = format!("blobs/sha256/{}", hex(&image.layers[0].blob));
    let disk = in_dir(&image.layout());
    std::fs::remove_file(disk.path.join(&layer)).unwrap();
    std::fs::create_dir(disk.path.join(&layer)).unwrap();
    assert_eq!(rules(&disk.path), ["malformed"]);
    std::fs::remove_dir(disk.path.join(&layer)).unwrap();
    std::os::unix::fs::symlink(disk.path.join(&layer), disk.path.join(&layer)).unwrap();
    assert_eq!(rules(&disk.path), ["malformed"]);

    let loops = |name: &str, files: &mut Files| {
        files.remove(name);
        let entries = files.0.iter();
        let mut entries: Vec<_> = entries
            .map(|(name, bytes)| Entry::File(name.clone(), bytes.clone()))
            .collect();
        let target = name.rsplit('/').next().unwrap().to_owned();
        entries.push(Entry::Symlink(name.to_owned(), target));
        tar(&entries)
    };
    let mut files = image.docker();
    let archive = loops("oci-layout", &mut image.layout());
    assert_eq!(
        rules(&in_file(&archive).path),
        ["malformed", "layout-version"]
    );
    let archive = loops(&layer, &mut image.layout());
    assert_eq!(rules(&in_file(&archive).path), ["malformed"]);

    let member = format!("{}/layer.tar", hex(&image.layers[0].blob));
    let archive = loops(&member, &mut files.clone());
    assert_eq!(rules(&in_file(&archive).path), ["malformed"]);
    files.remove(&member);
    let disk = in_file(&files.archive());
    assert_eq!(rules(&disk.path), ["missing"]);
    let reader = open(&disk.path).unwrap();
    let stored = reader.image(&Context::default(), None).unwrap();
    let lost = reader
        .open_blob(&stored.layers[0].descriptor)
        .err()
        .unwrap();
    assert!(
        lost.to_string().contains(&format!("names {member:?}")),
        "{lost}"
    );
    files.remove(
        &files
            .0
            .iter()
            .find(|(name, _)| name.ends_with(".json"))
            .unwrap()
            .0
            .clone(),
    );
    assert!(rules(&in_file(&files.archive()).path).contains(&"missing"));
}

#[test]
fn programs_and_links_are_judged_over_all_layers() {
    let [hello, data] = STORE_PATHS.map(|path| &path[1..]);
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(64, 0);
    program[16] = 2;
    program[18] = 183;
    let foreign = [
        store(),
        vec![
            dir(hello),
            dir(&format!("{hello}/bin")),
            Entry::File(format!("{hello}/bin/hello"), program),
            Entry::Symlink(format!("{hello}/data"), STORE_PATHS[1].to_owned()),
            Entry::Symlink(format!("{hello}/gone"), format!("{}/x", STORE_PATHS[1])),
        ],
    ]
    .concat();
    let alone = HandmadeImage::with_tar(&tar(&foreign));
    assert_eq!(
        rules_in_dir(&alone.layout()),
        ["foreign-programs", "missing-store-path"]
    );
    let mut both = HandmadeImage::with_tar(&tar(&foreign));
    let other = tar(&[store(), vec![file(data)]].concat());
    both.layers.push(HandmadeLayer::new(&other, Codec::None));
    let disk = in_dir(&both.layout());
    let problems = check(&Context::default(), &open(&disk.path).unwrap()).unwrap();
    assert!(problems.iter().all(|p| p.severity() == Severity::Warning));
    let told: Vec<String> = problems.iter().map(|p| p.kind.to_string()).collect();
    assert_eq!(
        told,
        [
            format!("/{hello}/bin/hello is for arm64 (ELF), and the image for linux/amd64"),
            format!("/{hello}/gone leads to /{data}/x, which is not there"),
        ]
    );
    // Of a layer that cannot be read nobody knows what is in it.
    let last = both.layers.last_mut().unwrap();
    last.blob.truncate(1000);
    assert!(!rules_in_dir(&both.layout()).contains(&"dangling-link"));
}
