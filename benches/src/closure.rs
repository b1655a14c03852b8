//! Closures of any size.

use std::collections::BTreeSet;
use std::fmt::Write;

use nix2oci::store::{NarHash, PathInfo, StoreDir, StorePath, nix32};
use nix2oci::{Closure, Digest};
use serde_json::json;

use super::Random;

/// Returns store paths that refer to up to eight others each, to some much
/// more often than to others. The last one needs all of them.
pub fn path_infos(paths: usize) -> Vec<PathInfo> {
    let mut random = Random::new(paths as u64);
    let mut unneeded = BTreeSet::new();
    let mut infos: Vec<PathInfo> = Vec::with_capacity(paths);
    for n in 0..paths {
        let chosen: Vec<usize> = if n + 1 == paths {
            unneeded.iter().copied().collect()
        } else if n > 0 {
            (0..random.below(9)).map(|_| random.skewed(n)).collect()
        } else {
            Vec::new()
        };
        for reference in &chosen {
            unneeded.remove(reference);
        }
        unneeded.insert(n);
        let references = chosen.iter().map(|i| infos[*i].path.clone());
        let mut info = PathInfo::new(store_path(n), references);
        info.nar_hash = Some(NarHash::new(
            *Digest::of(format!("content {n}").as_bytes()).as_bytes(),
        ));
        info.nar_size = Some(1000 + (1 << random.below(26)) + random.below(1 << 16) as u64);
        infos.push(info);
    }
    infos
}

/// Returns the closure of all of `infos`, the last of which is the root.
///
/// # Panics
///
/// If `infos` are not those of [`path_infos`].
pub fn whole_closure(infos: Vec<PathInfo>) -> Closure {
    let root = infos.last().expect("there is a store path").path.clone();
    Closure::new(StoreDir::default(), infos, &[root], "the generator")
        .expect("every reference is to a path that was generated before")
}

/// Returns the `n`th store path.
pub fn store_path(n: usize) -> StorePath {
    let digest = Digest::of(format!("path {n}").as_bytes());
    let hash = nix32::encode(&digest.as_bytes()[..20]);
    format!("{hash}-package-{n}-1.{}", n % 30)
        .parse()
        .expect("the name has 32 digits, a hyphen and letters")
}

/// Returns what `nix path-info --json --recursive` of Nix 2.8 prints of them.
pub fn path_info_json(infos: &[PathInfo]) -> Vec<u8> {
    let dir = StoreDir::default();
    let objects: Vec<_> = infos
        .iter()
        .map(|info| {
            let references: Vec<_> = info.references.iter().map(|r| dir.join(r)).collect();
            json!({
                "path": dir.join(&info.path),
                "narHash": info.nar_hash.map(|hash| hash.to_string()),
                "narSize": info.nar_size,
                "references": references,
                "registrationTime": 1,
                "ultimate": true,
                "valid": true,
            })
        })
        .collect();
    serde_json::Value::from(objects).to_string().into_bytes()
}

/// Returns what nixpkgs' `closureInfo` writes of them as `registration`.
pub fn registration(infos: &[PathInfo]) -> Vec<u8> {
    let dir = StoreDir::default();
    let mut out = String::new();
    for info in infos {
        let (Some(hash), Some(size)) = (info.nar_hash, info.nar_size) else {
            continue;
        };
        let path = dir.join(&info.path);
        let count = info.references.len();
        write!(out, "{path}\n{hash}\n{size}\n\n{count}\n").expect("a string takes all text");
        for reference in &info.references {
            out.push_str(&dir.join(reference));
            out.push('\n');
        }
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix2oci::closure;

    #[test]
    fn both_documents_say_what_was_generated() {
        let infos = path_infos(300);
        let dir = StoreDir::default();
        let read = |bytes: Vec<u8>, parse: fn(&[u8], &str, &StoreDir) -> _| {
            let found: nix2oci::Result<closure::PathInfos> = parse(&bytes, "a document", &dir);
            let mut found = found.unwrap().infos;
            found.sort_by(|a, b| a.path.cmp(&b.path));
            found
        };
        let mut sorted = infos.clone();
        sorted.sort_by(|a, b| a.path.cmp(&b.path));
        let json = read(path_info_json(&infos), closure::path_info_json::parse);
        assert_eq!(json, sorted);
        let text = read(registration(&infos), closure::registration::parse);
        assert_eq!(text, sorted);
        assert_eq!(whole_closure(infos).len(), 300);
    }
}
