use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::closure::Dominators;
use crate::store::{PathInfo, StoreDir};

use super::*;

fn path(name: &str) -> StorePath {
    format!("{}-{name}", "0".repeat(32)).parse().unwrap()
}

/// A closure of these paths with their references, under these roots.
fn closure(paths: &[(&str, &[&str])], roots: &[&str]) -> Closure {
    let infos = paths
        .iter()
        .map(|(name, references)| PathInfo::new(path(name), references.iter().map(|r| path(r))));
    let roots: Vec<_> = roots.iter().map(|root| path(root)).collect();
    Closure::new(StoreDir::default(), infos, &roots, "the test").unwrap()
}

/// app → {web → ssl → libc, ssl}, tool → libc
fn example() -> Closure {
    closure(
        &[
            ("app", &["web", "ssl-3.1", "libc"]),
            ("web", &["ssl-3.1", "zlib"]),
            ("ssl-3.1", &["libc", "conf"]),
            ("tool", &["libc"]),
            ("libc", &[]),
            ("conf", &[]),
            ("zlib", &[]),
        ],
        &["app", "tool"],
    )
}

fn id(closure: &Closure, name: &str) -> PathId {
    closure.find(&path(name)).unwrap()
}

fn names(closure: &Closure, ids: impl IntoIterator<Item = PathId>) -> Vec<&str> {
    ids.into_iter().map(|id| closure.path(id).name()).collect()
}

#[test]
fn a_shortest_chain_goes_from_a_root_to_the_path() {
    let closure = example();
    let chain = |name| names(&closure, closure.shortest_chain(id(&closure, name)));
    assert_eq!(chain("app"), ["app"]);
    assert_eq!(chain("zlib"), ["app", "web", "zlib"]);
    assert_eq!(chain("conf"), ["app", "ssl-3.1", "conf"]);
    assert_eq!(chain("libc").len(), 2);
    for (name, count) in [("app", 1), ("ssl-3.1", 2), ("libc", 4), ("zlib", 1)] {
        assert_eq!(closure.count_chains(id(&closure, name)), count, "{name}");
    }
}

#[test]
fn the_tree_of_chains_shows_every_subtree_once() {
    let closure = example();
    let tree = closure.chain_tree(id(&closure, "conf"));
    let lines: Vec<_> = tree
        .iter()
        .map(|node| (node.depth, closure.path(node.path).name(), node.is_repeated))
        .collect();
    assert_eq!(
        lines,
        [
            (0, "app", false),
            (1, "ssl-3.1", false),
            (2, "conf", false),
            (1, "web", false),
            (2, "ssl-3.1", true),
        ]
    );
}

#[test]
fn what_is_removed_with_a_path_is_what_only_it_needs() {
    let closure = example();
    let dominators = Dominators::new(&closure);
    let removed = |name| names(&closure, dominators.dominated(id(&closure, name), &closure));
    assert_eq!(removed("web"), ["zlib", "web"]);
    assert_eq!(removed("ssl-3.1"), ["conf", "ssl-3.1"]);
    assert_eq!(removed("libc"), ["libc"]);
    assert_eq!(removed("app"), ["conf", "ssl-3.1", "zlib", "web", "app"]);
    let above = |name| names(&closure, dominators.of(id(&closure, name)));
    assert_eq!(above("conf"), ["ssl-3.1", "app"]);
    assert_eq!(above("libc"), [""; 0]);
    assert!(dominators.dominates(id(&closure, "app"), id(&closure, "zlib")));
    assert!(!dominators.dominates(id(&closure, "web"), id(&closure, "conf")));
}

#[test]
fn a_root_that_others_refer_to_is_there_without_them() {
    let closure = closure(&[("a", &["b"]), ("b", &["c"]), ("c", &[])], &["a", "b"]);
    let dominators = Dominators::new(&closure);
    assert_eq!(dominators.parent(id(&closure, "b")), None);
    assert_eq!(
        names(&closure, dominators.dominated(id(&closure, "a"), &closure)),
        ["a"]
    );
    assert_eq!(
        names(&closure, closure.shortest_chain(id(&closure, "c"))),
        ["b", "c"]
    );
}

#[test]
fn a_path_is_named_in_many_ways() {
    let mut paths = vec![];
    for (hash, name) in [
        ("abc", "openssl-3.0.13"),
        ("abd", "openssl-3.0.13-bin"),
        ("fab", "openssl-clone-1"),
        ("x1y", "zlib-1.3"),
    ] {
        paths.push(
            format!("{hash}{}-{name}", "0".repeat(29))
                .parse::<StorePath>()
                .unwrap(),
        );
    }
    let infos = paths.iter().map(|path| PathInfo::new(path.clone(), []));
    let closure = Closure::new(StoreDir::default(), infos, &paths, "the test").unwrap();
    let find = |name: &str| match closure.find_named(name) {
        NamedPath::None => Vec::new(),
        NamedPath::One(id) => names(&closure, [id]),
        NamedPath::Several(ids) => names(&closure, ids),
    };
    let full = format!("/nix/store/{}", paths[3]);
    let inside = format!("{full}/lib/libz.so");
    for name in [
        &full,
        &inside,
        paths[3].as_str(),
        "zlib-1.3",
        "zlib",
        "x1y",
        "x1y0",
        "lib-1",
    ] {
        assert_eq!(find(name), ["zlib-1.3"], "{name}");
    }
    assert_eq!(find("openssl-3.0.13"), ["openssl-3.0.13"]);
    assert_eq!(find("openssl"), ["openssl-3.0.13", "openssl-3.0.13-bin"]);
    assert_eq!(
        find("openssl-"),
        ["openssl-3.0.13", "openssl-3.0.13-bin", "openssl-clone-1"]
    );
    assert_eq!(find("abc"), ["openssl-3.0.13"]);
    assert_eq!(
        find("ab"),
        ["openssl-3.0.13", "openssl-3.0.13-bin", "openssl-clone-1"]
    );
    for name in ["", "nothing", "/nix/store/nothing", "/gnu/store/x"] {
        assert_eq!(find(name), [""; 0], "{name}");
    }
    assert_eq!(
        closure.similar_names("opensl", 5),
        ["openssl", "openssl-clone"]
    );
    assert_eq!(closure.similar_names("?", 5), [""; 0]);
}

#[test]
fn chains_without_number_cost_no_time() {
    // Each of 100 floors has 2 paths that refer to both of the next.
    let floor = |n: usize| [format!("a{n}"), format!("b{n}")];
    let infos = (0..100).flat_map(|n| {
        floor(n).map(|name| {
            let below = floor(n + 1);
            let references = below.iter().filter(|_| n < 99).map(|r| path(r));
            PathInfo::new(path(&name), references)
        })
    });
    let closure = Closure::new(StoreDir::default(), infos, &[path("a0")], "the test").unwrap();
    let last = id(&closure, "b99");
    assert_eq!(closure.count_chains(last), u64::MAX);
    assert_eq!(closure.chain_tree(last).len(), 2 * 2 * 97 + 2 + 1 + 2);
    assert_eq!(closure.shortest_chain(last).len(), 100);
}

/// Random closures under some of their paths.
fn dags() -> impl Strategy<Value = Closure> {
    let references = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    (prop::collection::vec((references, any::<bool>()), 1..24)).prop_map(|paths| {
        let name = |n: usize| path(&format!("p{n}"));
        let infos = paths.iter().enumerate().map(|(n, (references, _))| {
            let references = references
                .iter()
                .filter(|_| n > 0)
                .map(|r| name(r.index(n)));
            PathInfo::new(name(n), references)
        });
        let mut roots: Vec<_> = (0..paths.len()).filter(|n| paths[*n].1).map(name).collect();
        roots.push(name(paths.len() - 1));
        Closure::new(StoreDir::default(), infos, &roots, "the test").unwrap()
    })
}

/// Walks from the roots without entering `cut`.
fn reachable(closure: &Closure, cut: PathId) -> BTreeSet<PathId> {
    let mut found = BTreeSet::new();
    let mut todo = closure.roots().to_vec();
    while let Some(id) = todo.pop() {
        if id != cut && found.insert(id) {
            todo.extend_from_slice(closure.references(id));
        }
    }
    found
}

/// All chains from roots to a path, one by one.
fn chains(closure: &Closure, to: PathId) -> Vec<Vec<PathId>> {
    let mut found = Vec::new();
    let mut todo = vec![vec![to]];
    while let Some(chain) = todo.pop() {
        let top = *chain.last().unwrap();
        if closure.roots().contains(&top) {
            found.push(chain.iter().rev().copied().collect());
        }
        for referrer in closure.referrers(top) {
            todo.push([chain.as_slice(), &[*referrer]].concat());
        }
    }
    found
}

/// The chains that a tree shows, with repeated parts looked up where they are
/// shown.
fn chains_of_tree(closure: &Closure, tree: &[ChainNode], to: PathId) -> Vec<Vec<PathId>> {
    let below = |path: PathId| -> Vec<PathId> {
        let shown = |node: &&ChainNode| node.path == path && !node.is_repeated;
        let at = tree.iter().position(|node| shown(&node)).unwrap();
        let depth = tree[at].depth;
        let inside = tree[at + 1..].iter().take_while(|node| node.depth > depth);
        let children = inside.filter(|node| node.depth == depth + 1);
        children.map(|node| node.path).collect()
    };
    let roots = tree.iter().filter(|node| node.depth == 0);
    let mut todo: Vec<_> = roots.map(|node| vec![node.path]).collect();
    let mut found = Vec::new();
    while let Some(chain) = todo.pop() {
        let last = *chain.last().unwrap();
        if last == to {
            found.push(chain);
            continue;
        }
        for next in below(last) {
            assert!(closure.references(last).contains(&next));
            todo.push([chain.as_slice(), &[next]].concat());
        }
    }
    found
}

proptest! {
    #[test]
    fn answers_are_those_of_walking_everywhere(closure in dags()) {
        let dominators = Dominators::new(&closure);
        let all: BTreeSet<PathId> = closure.ids().collect();
        for to in closure.ids() {
            let gone: BTreeSet<PathId> = &all - &reachable(&closure, to);
            let dominated = dominators.dominated(to, &closure);
            prop_assert_eq!(dominated.iter().copied().collect::<BTreeSet<_>>(), gone.clone());
            for lower in closure.ids() {
                prop_assert_eq!(dominators.dominates(to, lower), gone.contains(&lower));
            }

            let mut chains = chains(&closure, to);
            let shortest = closure.shortest_chain(to);
            prop_assert!(chains.contains(&shortest));
            prop_assert_eq!(Some(shortest.len()), chains.iter().map(Vec::len).min());
            prop_assert_eq!(closure.count_chains(to), chains.len() as u64);

            let tree = closure.chain_tree(to);
            let mut shown = chains_of_tree(&closure, &tree, to);
            chains.sort();
            shown.sort();
            prop_assert_eq!(shown, chains);
        }
    }
}
