use serde_json::json;

use crate::image::PackageDifference;
use crate::store::StorePath;

use super::*;

/// A store path of a name with a hash of its own.
fn path(hash: char, name: &str) -> TablePath {
    let hash = hash.to_string().repeat(32);
    let path: StorePath = format!("{hash}-{name}").parse().unwrap();
    TablePath {
        path: (&path).into(),
        nar_size: Some(100),
    }
}

#[test]
fn sizes_that_nobody_could_add_up_are_no_panic() {
    let huge = |hash, name| TablePath {
        nar_size: Some(u64::MAX),
        ..path(hash, name)
    };
    let before = image(1, &[layer(1, &[huge('0', "a-1"), huge('1', "a-1")])]);
    let after = image(2, &[layer(2, &[huge('2', "a-1"), huge('3', "a-1")])]);
    let diff = diff(&before, &after);
    assert_eq!(diff.to.nar_size, Some(u64::MAX));
    assert_eq!(diff.pull.nar_size, Some(u64::MAX));
    assert_eq!(diff.packages.unwrap()[0].to_size, Some(u64::MAX));
}

/// Images that anybody made may have as many paths of one name as they like.
#[test]
fn paths_of_one_name_are_compared_in_one_pass() {
    let image = |n: u8, begin: u64| {
        let paths = (begin..begin + 50_000).map(|at| {
            let mut hash = [0; 20];
            hash[12..].copy_from_slice(&at.to_be_bytes());
            let text = format!("{}-a", crate::store::nix32::encode(&hash));
            TablePath {
                path: (&text.parse::<StorePath>().unwrap()).into(),
                nar_size: Some(1),
            }
        });
        image(n, &[layer(n, &paths.collect::<Vec<_>>())])
    };
    let start = std::time::Instant::now();
    let paths = diff(&image(1, 0), &image(2, 49_990)).store_paths.unwrap();
    let counts = (paths.kept, paths.added.len(), paths.removed.len());
    assert_eq!(counts, (10, 49_990, 49_990));
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

/// A layer that was made, of 10 bytes.
fn layer(n: u8, paths: &[TablePath]) -> ListedLayer {
    let digest = Digest::from([n; 32]);
    ListedLayer {
        digest: Some(digest),
        size: Some(10),
        media_type: Some("application/vnd.oci.image.layer.v1.tar+gzip".to_owned()),
        diff_id: Some(DiffId::new(digest)),
        nar_size: None,
        paths: Some(paths.to_vec()),
        is_base: None,
    }
}

/// The same layer before it is made.
fn planned(layer: &ListedLayer) -> ListedLayer {
    ListedLayer {
        paths: layer.paths.clone(),
        ..ListedLayer::default()
    }
}

fn image(n: u8, layers: &[ListedLayer]) -> ImageListing {
    ImageListing {
        name: format!("image {n}"),
        digest: Some(Digest::from([n; 32])),
        platform: Some("linux/amd64".to_owned()),
        config: Some(json!({ "os": "linux", "architecture": "amd64" })),
        layers: layers.to_vec(),
    }
}

fn plan(layers: &[ListedLayer]) -> ImageListing {
    ImageListing {
        digest: None,
        config: None,
        layers: layers.iter().map(planned).collect(),
        ..image(0, &[])
    }
}

/// Layers as `kept 0 1`: state, place in the first, place in the second.
fn states(diff: &ImageDiff) -> Vec<String> {
    let place = |at: Option<usize>| at.map_or("-".to_owned(), |at| at.to_string());
    diff.layers
        .iter()
        .map(|l| format!("{:?} {} {}", l.state, place(l.from), place(l.to)).to_lowercase())
        .collect()
}

/// Packages as `changed openssl 3.0.11 → 3.0.13`.
fn packages(from: &[TablePath], to: &[TablePath]) -> Vec<String> {
    let diff = diff(&image(1, &[layer(1, from)]), &image(2, &[layer(2, to)]));
    let text = |p: &PackageChange| {
        let (from, to) = (p.from.join(", "), p.to.join(", "));
        format!("{:?} {} {from} → {to}", p.change, p.name).to_lowercase()
    };
    diff.packages.unwrap().iter().map(text).collect()
}

#[test]
fn layers_are_kept_new_or_gone() {
    let [a, b, c, d] =
        [('0', 1), ('1', 2), ('2', 3), ('3', 4)].map(|(hash, n)| layer(n, &[path(hash, "x")]));
    let first = image(1, &[a.clone(), b.clone(), c.clone()]);
    let second = image(2, &[a.clone(), c.clone(), d.clone(), d]);
    let found = diff(&first, &second);
    assert_eq!(
        states(&found),
        ["kept 0 0", "kept 2 1", "new - 2", "new - 3", "gone 1 -"]
    );
    assert_eq!(found.common_prefix, 1);
    assert_eq!(found.pull.size, Some(10), "a blob is pulled once");
    assert_eq!((found.pull.layers, found.recompressed), (2, 0));
    assert_eq!(found.pull_back.size, Some(10));
    assert_eq!(found.to.size, Some(30));
    assert!(!found.is_same);
    let back = diff(&second, &first);
    assert_eq!((back.pull, back.pull_back), (found.pull_back, found.pull));
    let paths = found.store_paths.unwrap();
    assert_eq!(
        (paths.kept, paths.added.len(), paths.removed.len()),
        (2, 1, 1)
    );

    let same = diff(&first, &first);
    assert!(same.is_same);
    assert_eq!((same.common_prefix, same.pull.size), (3, Some(0)));
    assert_eq!(same.packages.unwrap(), []);
    assert_eq!(same.config.unwrap(), []);
}

#[test]
fn a_planned_layer_is_known_by_its_store_paths() {
    let (a, b) = (
        layer(1, &[path('0', "a"), path('1', "b")]),
        layer(2, &[path('2', "c")]),
    );
    let made = image(1, &[a.clone(), b.clone()]);
    let turned = layer(0, &[path('1', "b"), path('0', "a")]);
    let found = diff(&made, &plan(&[turned.clone(), b]));
    assert_eq!(states(&found), ["kept 0 0", "kept 1 1"]);
    assert!(found.is_same, "nothing that is known differs");
    assert_eq!(found.layers[0].digest, made.layers[0].digest);
    assert_eq!(found.config, None);

    let found = diff(&made, &plan(&[turned, layer(0, &[path('3', "c")])]));
    assert_eq!(states(&found), ["kept 0 0", "new - 1", "gone 1 -"]);
    assert!(!found.is_same);
    assert_eq!((found.pull.size, found.pull.nar_size), (None, Some(100)));
    // Files outside the store are not known, so that they may differ.
    let found = diff(&image(1, &[layer(1, &[])]), &plan(&[layer(1, &[])]));
    assert_eq!(states(&found), ["new - 0", "gone 0 -"]);
}

#[test]
fn a_recompressed_layer_is_pulled_and_not_unpacked() {
    let a = layer(1, &[path('0', "a")]);
    let again = ListedLayer {
        digest: Some(Digest::from([9; 32])),
        ..a.clone()
    };
    let found = diff(&image(1, &[a]), &image(2, &[again]));
    assert_eq!(states(&found), ["new - 0", "gone 0 -"]);
    assert_eq!((found.common_prefix, found.recompressed), (1, 1));
}

#[test]
fn packages_are_told_with_their_versions() {
    let from = [
        path('0', "openssl-3.0.11"),
        path('1', "openssl-3.0.11-bin"),
        path('2', "zlib-1.3"),
        path('3', "gone-1"),
        path('4', "python-3.11"),
        path('5', "python-3.12"),
        path('6', "app"),
        path('7', "same-1"),
        path('8', "curl-8"),
    ];
    let to = [
        path('a', "openssl-3.0.13"),
        path('b', "openssl-3.0.13-bin"),
        path('c', "zlib-1.3"),
        path('d', "new-1"),
        path('5', "python-3.12"),
        path('f', "app"),
        path('7', "same-1"),
        path('8', "curl-8"),
        path('9', "curl-8-dev"),
    ];
    assert_eq!(
        packages(&from, &to),
        [
            "rebuilt app  → ",
            "changed curl 8 → 8, 8-dev",
            "removed gone 1 → ",
            "added new  → 1",
            "changed openssl 3.0.11 → 3.0.13",
            "changed python 3.11, 3.12 → 3.12",
            "rebuilt zlib 1.3 → 1.3",
        ]
    );
    assert_eq!(packages(&to, &to), [""; 0]);
}

#[test]
fn hashes_that_are_cut_are_compared_as_far_as_they_go() {
    let whole = path('0', "a-1");
    let cut = |hash: &str| TablePath {
        path: StorePathPrefix::new(hash, "a-1").unwrap(),
        nar_size: None,
    };
    assert_eq!(
        packages(std::slice::from_ref(&whole), &[cut("0000")]),
        [""; 0]
    );
    assert_eq!(packages(&[whole], &[cut("0001")]), ["rebuilt a 1 → 1"]);
}

#[test]
fn what_is_not_known_is_not_told() {
    let unknown = ListedLayer {
        paths: None,
        ..layer(1, &[])
    };
    let layers = [unknown];
    let found = diff(&image(1, &layers), &image(2, &layers));
    assert_eq!(states(&found), ["kept 0 0"]);
    assert_eq!((found.packages, found.store_paths), (None, None));
    assert_eq!(found.from.store_paths, None);
}

#[test]
fn configs_are_compared_field_by_field() {
    let config = |platform: [&str; 2], config: Value| {
        let mut image = image(1, &[]);
        image.config = Some(json!({
            "os": platform[0], "architecture": platform[1], "config": config,
            "rootfs": { "diff_ids": [platform] }, "history": [config],
        }));
        image
    };
    let from = config(
        ["linux", "amd64"],
        json!({
            "Entrypoint": ["/bin/a"], "Env": ["PATH=/bin", "A=1", "B=2"],
            "Labels": { "x": "1", "y": "2" }, "User": "", "Cmd": null, "StopSignal": "SIGINT",
        }),
    );
    let to = config(
        ["linux", "arm64"],
        json!({
            "Entrypoint": ["/bin/b"], "Env": ["A=1", "PATH=/bin:/sbin", "C=3"],
            "Labels": { "x": "1", "y": "3" }, "User": "1000", "StopSignal": "SIGINT",
        }),
    );
    let changes = diff(&from, &to).config.unwrap();
    let text = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
    let changes: Vec<_> = changes
        .iter()
        .map(|c| format!("{}: {} {}", c.field, text(&c.from), text(&c.to)))
        .collect();
    assert_eq!(
        changes,
        [
            r#"Entrypoint: ["/bin/a"] ["/bin/b"]"#,
            r#"Env B: "2" -"#,
            r#"Env C: - "3""#,
            r#"Env PATH: "/bin" "/bin:/sbin""#,
            r#"Labels y: "2" "3""#,
            r#"User: - "1000""#,
            r#"platform: "linux/amd64" "linux/arm64""#,
        ]
    );
}

#[test]
fn the_document_has_texts_and_nulls() {
    let a = layer(1, &[path('0', "a-1")]);
    let found = diff(&image(1, &[a]), &plan(&[layer(2, &[path('1', "a-1")])]));
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["from"]["digest"], Digest::from([1; 32]).to_string());
    assert_eq!(json["to"]["digest"], Value::Null);
    assert_eq!(json["layers"][0]["state"], "new");
    assert_eq!(json["layers"][0]["storePaths"][0]["narSize"], 100);
    assert_eq!(json["packages"][0]["change"], "rebuilt");
    assert_eq!(
        found.packages.unwrap()[0].change,
        PackageDifference::Rebuilt
    );
}
