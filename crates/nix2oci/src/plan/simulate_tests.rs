//! Histories that were computed by hand, and the laws of all.

use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::*;
use crate::closure::PathId;
use crate::plan::{ExplicitLayer, Group, LayerRequest, STRATEGIES, Single, strategy};
use crate::store::{PathInfo, StoreDir};

/// A store path: name, version, NAR size, names of what it refers to.
type Path<'a> = (&'a str, u8, u64, &'a [&'a str]);

fn store_path(name: &str, version: u8) -> StorePath {
    format!("{}{version:02}-{name}", "0".repeat(30))
        .parse()
        .unwrap()
}

fn closure(paths: &[Path<'_>]) -> Closure {
    let find = |name: &str| {
        let found = paths.iter().find(|path| path.0 == name);
        store_path(name, found.expect("references are in the list").1)
    };
    let infos: Vec<PathInfo> = paths
        .iter()
        .map(|(name, version, size, references)| PathInfo {
            nar_size: Some(*size),
            ..PathInfo::new(
                store_path(name, *version),
                references.iter().map(|r| find(r)),
            )
        })
        .collect();
    let roots: Vec<StorePath> = infos.iter().map(|info| info.path.clone()).collect();
    Closure::new(StoreDir::default(), infos, &roots, "the test").unwrap()
}

fn budget(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

/// An application that changes always, on a library that changes once and is
/// gone in the end.
fn history() -> [Closure; 4] {
    let release = |app, lib| {
        closure(&[
            ("libc", 1, 1000, &[]),
            ("lib", lib, 200, &["libc"]),
            ("tool", lib, 30, &["lib"]),
            ("app", app, 4, &["tool", "libc"]),
        ])
    };
    let without_tool = closure(&[
        ("libc", 1, 1000, &[]),
        ("lib", 2, 200, &["libc"]),
        ("app", 4, 4, &["lib"]),
    ]);
    [release(1, 1), release(2, 1), release(3, 2), without_tool]
}

fn run(
    name: &str,
    keeps_layers: bool,
    releases: &[Closure],
    options: &PlanOptions<'_>,
) -> Simulation {
    let mut simulation = Simulation::new(strategy(name).unwrap(), keeps_layers);
    for closure in releases {
        let cost = simulation.release(closure, options).unwrap();
        assert_eq!(simulation.releases().last(), Some(&cost));
    }
    simulation
}

#[test]
fn a_history_computed_by_hand() {
    let moved = |name, layers| -> Vec<(usize, u64)> {
        let simulation = run(name, false, &history(), &PlanOptions::new(budget(layers)));
        let releases = simulation.releases().iter();
        releases.map(|r| (r.moved_layers, r.moved_size)).collect()
    };
    assert_eq!(
        moved("single", 100),
        [(1, 1234), (1, 1234), (1, 1234), (1, 1204)]
    );
    // Two layers: libc, which most need, and the rest.
    assert_eq!(
        moved("popularity", 2),
        [(2, 1234), (1, 234), (1, 234), (1, 204)]
    );
    // A layer for each.
    assert_eq!(moved("largest", 4), [(4, 1234), (1, 4), (3, 234), (1, 4)]);

    let simulation = run("largest", false, &history(), &PlanOptions::new(budget(4)));
    assert_eq!(
        simulation.releases()[2],
        ReleaseCost {
            layers: 4,
            nar_size: 1234,
            moved_layers: 3,
            moved_size: 234,
            new_paths: 3,
            new_size: 234,
        }
    );
    assert_eq!(
        simulation.total(),
        HistoryCost {
            releases: 3,
            nar_size: 1234 + 1234 + 1204,
            moved_layers: 5,
            moved_size: 242,
            new_size: 242,
        }
    );
    assert_eq!(simulation.total().ratio(), Some(1.0));
}

#[test]
fn what_is_named_is_a_layer_of_each_release() {
    let simulation = |explicit: &[ExplicitLayer]| {
        let options = PlanOptions {
            explicit,
            ..PlanOptions::new(budget(2))
        };
        let mut simulation = Simulation::new(Arc::new(Single), false);
        simulation.release(&history()[0], &options)?;
        simulation.release(&history()[0], &options)?;
        Ok::<_, crate::error::Error>(simulation)
    };
    let app = ExplicitLayer {
        name: "app".to_owned(),
        paths: vec![store_path("app", 1)],
    };
    let done = simulation(&[app]).unwrap();
    assert_eq!(done.releases()[0].layers, 2);
    assert_eq!(done.releases()[1].moved_layers, 0);
    let missing = ExplicitLayer {
        name: "app".to_owned(),
        paths: vec![store_path("app", 9)],
    };
    let error = simulation(&[missing]).err().unwrap();
    assert!(error.to_string().contains("is not in the closure"));
}

#[test]
fn a_release_that_fails_is_not_taken() {
    let mut simulation = Simulation::new(Arc::new(Single), false);
    let missing = [store_path("app", 9)];
    let wrong = PlanOptions {
        volatile: &missing,
        ..PlanOptions::new(budget(2))
    };
    let releases = history();
    let right = PlanOptions::new(budget(2));
    simulation.release(&releases[0], &right).unwrap();
    assert!(simulation.release(&releases[1], &wrong).is_err());
    assert_eq!(simulation.releases().len(), 1);
    let again = simulation.release(&releases[0], &right).unwrap();
    assert_eq!(again.moved_size, 0);
}

#[test]
fn who_keeps_layers_is_shown_those_of_the_last_release() {
    /// Keeps what it is shown, and puts the rest in one layer.
    struct Keeper;

    impl LayerStrategy for Keeper {
        fn name(&self) -> String {
            "keeper".to_owned()
        }

        fn group(&self, request: LayerRequest<'_>) -> Result<Vec<Group>> {
            let group = |paths: Vec<PathId>| Group {
                paths,
                reason: "kept".to_owned(),
            };
            let kept: Vec<_> = request.keep.concat();
            let rest = request.paths.iter().filter(|id| !kept.contains(id));
            let mut groups: Vec<_> = request.keep.iter().cloned().map(group).collect();
            groups.push(group(rest.copied().collect()));
            groups.retain(|group| !group.paths.is_empty());
            Ok(groups)
        }
    }

    let base = closure(&[("libc", 1, 1000, &[])]);
    let grown = closure(&[("libc", 1, 1000, &[]), ("app", 1, 4, &["libc"])]);
    for (keeps_layers, moved) in [(false, 1004), (true, 4)] {
        let mut simulation = Simulation::new(Arc::new(Keeper), keeps_layers);
        assert_eq!(simulation.keeps_layers(), keeps_layers);
        assert_eq!(simulation.strategy(), "keeper");
        simulation
            .release(&base, &PlanOptions::new(budget(9)))
            .unwrap();
        let earlier = EarlierImage::of_paths([[&store_path("libc", 1)]]);
        // The options' own image is not looked at.
        let options = PlanOptions {
            keep: Some(&earlier),
            ..PlanOptions::new(budget(9))
        };
        let cost = simulation.release(&grown, &options).unwrap();
        assert_eq!(cost.moved_size, moved);
    }
}

/// A graph and, for each release, the version of each path: changes are
/// carried to all that need the path, as Nix does.
fn histories() -> impl Strategy<Value = Vec<Closure>> {
    let path = (
        1u64..6,
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    );
    let paths = prop::collection::vec(path, 1..25);
    let changes = prop::collection::vec(prop::collection::vec(0u8..4, 25), 1..5);
    (paths, changes).prop_map(|(paths, changes)| {
        let name = |n: usize| format!("p{n}");
        let mut versions = vec![0u8; paths.len()];
        let mut releases = Vec::new();
        for changed in &changes {
            let mut is_new = vec![false; paths.len()];
            for (n, (_, references)) in paths.iter().enumerate() {
                let mut needs = references.iter().filter(|_| n > 0).map(|r| r.index(n));
                is_new[n] = changed[n] == 0 || needs.any(|r| is_new[r]);
                versions[n] += u8::from(is_new[n]);
            }
            let infos: Vec<PathInfo> = paths
                .iter()
                .enumerate()
                .map(|(n, (size, references))| {
                    let needs = references.iter().filter(|_| n > 0).map(|r| r.index(n));
                    PathInfo {
                        nar_size: Some(*size),
                        ..PathInfo::new(
                            store_path(&name(n), versions[n]),
                            needs.map(|r| store_path(&name(r), versions[r])),
                        )
                    }
                })
                .collect();
            let roots: Vec<StorePath> = infos.iter().map(|info| info.path.clone()).collect();
            releases.push(Closure::new(StoreDir::default(), infos, &roots, "the test").unwrap());
        }
        releases
    })
}

proptest! {
    #[test]
    fn the_laws_of_all_strategies(releases in histories(), layers in 1usize..30) {
        let options = PlanOptions::new(budget(layers));
        for entry in STRATEGIES {
            for keeps_layers in [false, true] {
                let simulation = run(entry.name, keeps_layers, &releases, &options);
                let costs = simulation.releases();
                prop_assert_eq!(costs[0].moved_size, costs[0].nar_size);
                prop_assert_eq!(costs[0].new_size, costs[0].nar_size);
                for cost in costs {
                    prop_assert!(cost.new_size <= cost.moved_size, "{}", entry.name);
                    prop_assert!(cost.moved_size <= cost.nar_size, "{}", entry.name);
                    prop_assert!(cost.moved_layers <= cost.layers, "{}", entry.name);
                    prop_assert!(cost.layers <= layers, "{}", entry.name);
                    if entry.name == "single" {
                        let all = if cost.new_paths > 0 { cost.nar_size } else { 0 };
                        prop_assert_eq!(cost.moved_size, all);
                    }
                }
            }
        }
    }

    #[test]
    fn an_unchanged_release_moves_nothing(releases in histories(), layers in 1usize..30) {
        let options = PlanOptions::new(budget(layers));
        let twice: Vec<Closure> = releases.iter().flat_map(|r| [r.clone(), r.clone()]).collect();
        for entry in STRATEGIES {
            for keeps_layers in [false, true] {
                let simulation = run(entry.name, keeps_layers, &twice, &options);
                for again in simulation.releases().chunks(2) {
                    prop_assert_eq!(again[1].moved_size, 0, "{}", entry.name);
                    prop_assert_eq!(again[1].moved_layers, 0, "{}", entry.name);
                }
            }
        }
    }
}
