//! What other tools' formats and programs were seen to trip over.
//!
//! Most of it is tested where it belongs. In the table, `x::y` is a test of
//! these integration tests, and what begins with `crate` one of the library.
//!
//! | trap | test |
//! | --- | --- |
//! | `uid` and `gid` are strings | `compat::dockertools::owners_and_times_are_read_in_every_spelling` |
//! | `from_image` is compressed | `compat::base::a_base_is_read_in_every_compression` |
//! | names begin with `/` | `compat::base::names_in_a_base_may_begin_with_a_slash`, `layer_tar::what_loaders_take_is_taken_and_told` |
//! | names begin with `./` | `layer_tar::tars_are_the_top_layers_to_the_byte_and_in_order` |
//! | order of entries: by parts, not by text | [`entries_are_in_the_order_of_their_parts`] |
//! | `valid` is there or not | [`paths_are_valid_unless_they_are_not`] |
//! | a path refers to itself | `nix_db::nix_takes_the_root_for_a_store_of_its_own` |
//! | `closureSize` is not `narSize` | [`a_layer_is_as_large_as_its_paths`] |
//! | hashes in base 16, base 32 and base 64 | `crate::store::nar_hash::tests::reads_every_spelling_of_nix` |
//! | `path-info` as list, map and `info` | `crate::closure::path_info_json::tests::every_shape_says_the_same` |
//! | an invalid path is `null` | `crate::closure::path_info_json::tests::a_path_that_is_not_valid_is_named` |
//! | config keys in any case | `crate::image::config_document::tests::a_bare_config_is_read_in_any_case` |
//! | `Healthcheck` is kept | `crate::image::config_document::tests::an_oci_document_is_read` |
//! | `created` of the year 1 | `compat::nix2container::layers_and_copies_are_as_they_are_described` |
//! | no store path, no `/nix/store` | `compat::nix2container::an_image_may_have_no_layers` |
//! | a store path is a link or a file | `crate::content::tests::a_store_path_may_be_a_file_or_a_link`, `compat::dockertools::layers_are_as_they_are_described` |
//! | hard links of an optimised store | `same_bytes::from_an_optimised_store` |
//! | the suffix of the case hack | `crate::content::tests::the_case_hack_suffix_is_not_part_of_a_name` |
//! | names that are no UTF-8 | [`names_are_bytes_all_the_way`], `crate::layer::tar::tests::another_reader_sees_what_was_written` |
//! | names of over 100 bytes | `crate::layer::tar::tests::pax_is_for_what_ustar_cannot_hold` |
//! | files of 8 GiB | `crate::layer::tar::tests::a_file_of_8_gib_has_its_size_in_pax` |
//! | `layers` is `null` | `compat::nix2container::an_image_may_have_no_layers` |
//! | one path in several layers | `compat::nix2container::a_path_of_several_layers_is_in_the_image_once` |
//! | one layer twice in a base | `compat::base::a_base_may_have_one_layer_twice` |
//! | `Env` of a base is `null` | `compat::base::a_base_need_not_have_an_environment` |
//! | more than 127 layers | [`more_layers_than_loaders_take_are_refused_or_joined`] |

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use nix2oci_tests::command::{nix2oci, output, repository};
use nix2oci_tests::image_files::layer_tars;
use serde_json::{Value, json};

use super::{Store, path, store_paths};

/// A description of one store path alone.
fn of(paths: &[String]) -> Value {
    json!({
        "architecture": "amd64", "config": null, "store_dir": "/nix/store",
        "store_layers": [paths], "created": "1970-01-01T00:00:01Z", "repo_tag": "x:1",
    })
}

const ODD: &str = "/nix/store/00000000000000000000000000000000-odd";

/// Returns the names in the tar of a store path, without it.
fn names(store: &Store) -> Vec<Vec<u8>> {
    let image = store.built(&of(&[ODD.to_owned()]), &[]);
    let tar = layer_tars(&image).remove(0);
    let mut archive = tar::Archive::new(&*tar);
    let entries = archive.entries().unwrap();
    let names = entries.map(|entry| entry.unwrap().path_bytes().into_owned());
    let prefix = format!("{}/", &ODD[1..]).into_bytes();
    names
        .filter_map(|name| Some(name.strip_prefix(&*prefix)?.to_vec()))
        .filter(|name| !name.is_empty())
        .collect()
}

/// Python's pathlib, whose order dockerTools' layers have, compares part by
/// part as a NAR does: by text alone `lib-x` would be between `lib` and `lib/x`.
#[test]
fn entries_are_in_the_order_of_their_parts() {
    let store = Store::new();
    for file in ["lib/x", "lib-x", "lib.x", "lib/B", "lib/a", "Lib"] {
        store.write(&format!("root{ODD}/{file}"), "");
    }
    let expected = ["Lib", "lib/", "lib/B", "lib/a", "lib/x", "lib-x", "lib.x"];
    assert_eq!(names(&store), expected.map(str::as_bytes));
}

/// Python writes such names with surrogates, and into PAX headers as UTF-8.
#[test]
fn names_are_bytes_all_the_way() {
    let store = Store::new();
    store.write(&format!("root{ODD}/a"), "");
    let mut expected = vec![b"a".to_vec()];
    let root = store.root().join(&ODD[1..]);
    for name in ["b\u{e4}".as_bytes(), b"c\xff", &[b'd'; 200], &[0xe9; 120]] {
        fs::write(root.join(OsStr::from_bytes(name)), "").unwrap();
        expected.push(name.to_vec());
    }
    assert_eq!(names(&store), expected);
}

/// Plans the application by a closure that is an edited `path-info.json`.
fn plan(store: &Store, edit: impl Fn(&mut Value)) -> Result<Value, String> {
    let file = repository().join("fixtures/closure/path-info.json");
    let mut infos: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    infos.as_array_mut().unwrap().iter_mut().for_each(edit);
    store.write("path-info.json", infos.to_string());
    let plan = output(
        Command::new(nix2oci())
            .args(["plan", &path("app-1.0"), "--json", "-q", "--store-root"])
            .arg(store.root())
            .args(["--closure", "path-info:path-info.json"])
            .current_dir(store.folder()),
    )?;
    Ok(serde_json::from_str(&plan).unwrap())
}

/// Nix 2.8 says nothing of it, later ones `true`, and `false` instead of an
/// error.
#[test]
fn paths_are_valid_unless_they_are_not() {
    let store = Store::new();
    let absent = plan(&store, |info| {
        info.as_object_mut().unwrap().remove("valid");
    });
    let valid = plan(&store, |info| info["valid"] = true.into());
    assert_eq!(absent.unwrap(), valid.unwrap());
    let invalid = plan(&store, |info| info["valid"] = false.into());
    assert!(invalid.unwrap_err().contains("is not valid"));
}

/// Nixery took the one for the other.
#[test]
fn a_layer_is_as_large_as_its_paths() {
    let store = Store::new();
    let size = |closure_size: u64| {
        let plan = plan(&store, |info| info["closureSize"] = closure_size.into()).unwrap();
        plan["totals"]["narSize"].as_u64().unwrap()
    };
    let registration = repository().join("fixtures/closure/registration");
    let registration = fs::read_to_string(registration).unwrap();
    let sizes = registration.lines().collect::<Vec<_>>();
    let sizes = sizes
        .windows(2)
        .filter(|pair| pair[0].starts_with("sha256:"));
    let expected: u64 = sizes.map(|pair| pair[1].parse::<u64>().unwrap()).sum();
    assert_eq!([size(1), size(1 << 40)], [expected; 2]);
}

/// moby 24.0 loads 125 layers, and the kernel's overlay 128 at most.
#[test]
fn more_layers_than_loaders_take_are_refused_or_joined() {
    let store = Store::new();
    let described = |count: usize| {
        let paths = (0..count).map(|n| format!("/nix/store/{n:032}-p"));
        let paths: Vec<String> = paths.collect();
        for path in &paths {
            store.write(&format!("root{path}"), path);
        }
        let mut description = of(&[]);
        description["store_layers"] = paths.into_iter().map(|path| json!([path])).collect();
        description
    };
    let most = store.built(&described(125), &[]);
    assert_eq!(store_paths(&most).len(), 125);
    let error = store.build(&described(128), &[]).unwrap_err();
    assert!(error.contains("exit status: 3"), "{error}");
    assert!(error.contains("the layer budget: at most 125"), "{error}");
    assert!(error.contains("128 layers"), "{error}");
    let joined = store.built(&described(128), &["--layers", "largest"]);
    let joined = store_paths(&joined);
    assert_eq!((joined.len(), joined.concat().len()), (100, 128));
}
