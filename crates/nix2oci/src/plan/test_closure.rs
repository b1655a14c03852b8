//! Closures for the tests of this floor.

use std::ops::Range;

use proptest::prelude::*;

use crate::closure::{Closure, PathId};
use crate::store::{PathInfo, StoreDir, StorePath};

const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Returns a store path whose hash has nothing to do with its name's order.
fn store_path(name: &str, n: usize) -> StorePath {
    let scattered = n.wrapping_mul(17) % 1024;
    let hash = [DIGITS[scattered / 32], DIGITS[scattered % 32]].map(char::from);
    let zeros = "0".repeat(30);
    format!("{}{zeros}{}-{name}", hash[0], hash[1])
        .parse()
        .expect("a good name")
}

/// Makes a closure of all these paths: name, NAR size, the names of the
/// references.
pub(super) fn closure(paths: &[(&str, u64, &[&str])]) -> Closure {
    let find = |name: &str| {
        let n = paths.iter().position(|(other, ..)| *other == name);
        store_path(name, n.expect("references are in the list"))
    };
    let infos: Vec<PathInfo> = paths
        .iter()
        .map(|(name, size, references)| PathInfo {
            nar_size: Some(*size),
            ..PathInfo::new(find(name), references.iter().map(|name| find(name)))
        })
        .collect();
    let roots: Vec<StorePath> = infos.iter().map(|info| info.path.clone()).collect();
    Closure::new(StoreDir::default(), infos, &roots, "the test").expect("a good graph")
}

/// Returns the names of paths.
pub(super) fn names<'a>(closure: &'a Closure, paths: &[PathId]) -> Vec<&'a str> {
    paths.iter().map(|id| closure.path(*id).name()).collect()
}

/// Random closures of up to `max` paths, often with equal sizes.
pub(super) fn dags(max: usize) -> impl Strategy<Value = Closure> {
    let path = |sizes: Range<u64>| {
        (
            sizes,
            prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        )
    };
    prop::collection::vec(path(0..6), 1..=max).prop_map(|paths| {
        let name = |n: usize| store_path(&format!("p{n}"), n);
        let infos: Vec<PathInfo> = paths
            .iter()
            .enumerate()
            .map(|(n, (size, references))| {
                let references = references
                    .iter()
                    .filter(|_| n > 0)
                    .map(|r| name(r.index(n)));
                PathInfo {
                    nar_size: Some(*size),
                    ..PathInfo::new(name(n), references)
                }
            })
            .collect();
        let roots: Vec<StorePath> = infos.iter().map(|info| info.path.clone()).collect();
        Closure::new(StoreDir::default(), infos, &roots, "the test").expect("a good graph")
    })
}
