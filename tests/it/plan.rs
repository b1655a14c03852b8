//! The laws of plans, for every strategy in the table.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::slice::from_ref;

use nix2oci::closure::PathId;
use nix2oci::plan::{
    EarlierImage, ExplicitLayer, Group, LayerRequest, PlanOptions, STRATEGIES, strategy,
};
use nix2oci::store::StorePathPrefix;
use nix2oci::{
    Closure, ErrorClass, ErrorKind, LayerPlan, LayerStrategy, PathInfo, Result, StoreDir, StorePath,
};
use proptest::prelude::*;
use proptest::sample::Index;

const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Returns options with layers asked for by name.
fn with(budget: NonZeroUsize, explicit: &[ExplicitLayer]) -> PlanOptions<'_> {
    PlanOptions {
        explicit,
        ..PlanOptions::new(budget)
    }
}

/// What is needed to make a closure, so that it can be made in other ways.
#[derive(Debug, Clone)]
struct Graph {
    /// For each path its size and what it refers to: paths before it.
    paths: Vec<(Option<u64>, BTreeSet<usize>)>,
    /// For each path the number that its hash is made from.
    hashes: Vec<u16>,
}

impl Graph {
    fn path(&self, n: usize) -> StorePath {
        let hash = self.hashes[n];
        let digits: String = [hash >> 10, hash >> 5, hash]
            .map(|digit| char::from(DIGITS[usize::from(digit % 32)]))
            .iter()
            .collect();
        format!("{digits}{}-p{n}", "0".repeat(29)).parse().unwrap()
    }

    fn infos(&self) -> Vec<PathInfo> {
        let infos = self.paths.iter().enumerate();
        infos
            .map(|(n, (size, references))| PathInfo {
                nar_size: *size,
                ..PathInfo::new(self.path(n), references.iter().map(|r| self.path(*r)))
            })
            .collect()
    }

    fn closure(&self) -> Closure {
        closure(self.infos())
    }

    /// Every third path in a named layer, two to each.
    fn some_explicit(&self) -> Vec<ExplicitLayer> {
        let chosen: Vec<StorePath> = (0..self.paths.len())
            .step_by(3)
            .map(|n| self.path(n))
            .collect();
        let layers = chosen.chunks(2).enumerate();
        layers
            .map(|(n, paths)| ExplicitLayer {
                name: format!("layer {n}"),
                paths: paths.to_vec(),
            })
            .collect()
    }
}

fn closure(infos: Vec<PathInfo>) -> Closure {
    let roots: Vec<StorePath> = infos.iter().map(|info| info.path.clone()).collect();
    Closure::new(StoreDir::default(), infos, &roots, "the test").unwrap()
}

fn graphs() -> impl Strategy<Value = Graph> {
    let sizes = prop_oneof![
        (0u64..12).prop_map(|n| n * 1000),
        (0u64..9).prop_map(|n| n << 20)
    ];
    let size = prop_oneof![1 => Just(None), 9 => sizes.prop_map(Some)];
    let path = (size, prop::collection::vec(any::<Index>(), 0..5));
    let paths = prop::collection::vec(path, 1..40).prop_map(|paths| {
        let paths = paths.into_iter().enumerate();
        paths
            .map(|(n, (size, references))| {
                let references = references.iter().filter(|_| n > 0).map(|r| r.index(n));
                (size, references.collect())
            })
            .collect::<Vec<_>>()
    });
    (paths, any::<u16>()).prop_map(|(paths, seed)| Graph {
        hashes: scattered(paths.len(), seed),
        paths,
    })
}

/// Returns different numbers without an order to speak of.
fn scattered(count: usize, seed: u16) -> Vec<u16> {
    let odd = seed | 1;
    (0..count as u16)
        .map(|n| n.wrapping_mul(odd).wrapping_add(seed) & 0x7fff)
        .collect()
}

fn budgets() -> impl Strategy<Value = NonZeroUsize> {
    prop_oneof![Just(1), 2usize..12, 12usize..60].prop_map(|n| NonZeroUsize::new(n).unwrap())
}

fn budget(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

/// What exists already and what is said to change, for plans of a graph.
#[derive(Debug, Clone)]
struct Before {
    keep: EarlierImage,
    share: Vec<EarlierImage>,
    volatile: Vec<StorePath>,
}

impl Before {
    fn options<'a>(
        &'a self,
        budget: NonZeroUsize,
        explicit: &'a [ExplicitLayer],
    ) -> PlanOptions<'a> {
        PlanOptions {
            keep: Some(&self.keep),
            share: &self.share,
            volatile: &self.volatile,
            ..with(budget, explicit)
        }
    }
}

/// Layers with any of the graph's paths, each often in none, in several or
/// twice in one; now and then with one that is not the graph's.
fn earlier(graph: &Graph) -> impl Strategy<Value = EarlierImage> + use<> {
    let graph = graph.clone();
    let layer = (
        prop::collection::vec(any::<Index>(), 0..5),
        prop::bool::weighted(0.1),
    );
    prop::collection::vec(layer, 0..12).prop_map(move |layers| {
        let foreign: StorePath = format!("{}-p0", "z".repeat(32)).parse().unwrap();
        let layer = |(paths, has_foreign): (Vec<Index>, bool)| {
            let paths = paths.iter().map(|n| graph.path(n.index(graph.paths.len())));
            let mut paths: Vec<StorePath> = paths.collect();
            paths.extend(has_foreign.then(|| foreign.clone()));
            paths
        };
        let layers: Vec<_> = layers.into_iter().map(layer).collect();
        EarlierImage::of_paths(&layers)
    })
}

fn graphs_with_images() -> impl Strategy<Value = (Graph, Before)> {
    graphs().prop_flat_map(|graph| {
        let volatile = prop_oneof![
            1 => Just(Vec::new()),
            1 => prop::collection::vec(any::<Index>(), 0..4),
        ];
        let share = prop::collection::vec(earlier(&graph), 0..3);
        (earlier(&graph), share, volatile).prop_map(move |(keep, share, volatile)| {
            let volatile = volatile.iter().map(|n| n.index(graph.paths.len()));
            let before = Before {
                keep,
                share,
                volatile: volatile.map(|n| graph.path(n)).collect(),
            };
            (graph.clone(), before)
        })
    })
}

/// The image that a plan makes.
fn image(closure: &Closure, plan: &LayerPlan) -> EarlierImage {
    let paths = |ids: &Vec<PathId>| ids.iter().map(|id| closure.path(*id)).collect();
    let layers: Vec<Vec<&StorePath>> = plan.layers().iter().map(|l| paths(&l.paths)).collect();
    EarlierImage::of_paths(layers)
}

/// The plan in names, which do not depend on hashes.
fn names(closure: &Closure, plan: &LayerPlan) -> Vec<(Vec<String>, String)> {
    let layers = plan.layers().iter();
    layers
        .map(|layer| {
            let names = layer
                .paths
                .iter()
                .map(|id| closure.path(*id).name().to_owned());
            (names.collect(), layer.reason.clone())
        })
        .collect()
}

fn placed_once(closure: &Closure, plan: &LayerPlan) -> bool {
    let mut placed: Vec<PathId> = plan.layers().iter().flat_map(|l| l.paths.clone()).collect();
    placed.sort_unstable();
    placed.into_iter().eq(closure.ids())
}

proptest! {
    #[test]
    fn a_plan_has_every_path_once_in_no_more_layers_than_allowed(
        graph in graphs(), budget in budgets(),
    ) {
        let closure = graph.closure();
        for entry in STRATEGIES {
            let strategy = strategy(entry.name).unwrap();
            let plan = LayerPlan::new(&closure, &*strategy, &PlanOptions::new(budget)).unwrap();
            prop_assert!(placed_once(&closure, &plan), "{}", entry.name);
            prop_assert!(plan.layers().len() <= budget.get(), "{}", entry.name);
            for layer in plan.layers() {
                prop_assert!(!layer.paths.is_empty(), "{}", entry.name);
                prop_assert!(!layer.reason.is_empty(), "{}", entry.name);
                prop_assert_eq!(&layer.strategy, entry.name);
                let sorted = layer.paths.is_sorted_by_key(|id| {
                    (closure.path(*id).name(), closure.path(*id).hash_part())
                });
                prop_assert!(sorted, "{}", entry.name);
            }
        }
    }

    #[test]
    fn named_layers_are_on_top_and_the_rest_is_planned_below(
        graph in graphs(), more in budgets(),
    ) {
        let closure = graph.closure();
        let explicit = graph.some_explicit();
        let budget = more.saturating_add(explicit.len());
        for entry in STRATEGIES {
            let strategy = strategy(entry.name).unwrap();
            let plan = LayerPlan::new(&closure, &*strategy, &with(budget, &explicit)).unwrap();
            prop_assert!(placed_once(&closure, &plan), "{}", entry.name);
            prop_assert!(plan.layers().len() <= budget.get(), "{}", entry.name);
            let below = plan.layers().len() - explicit.len();
            for (named, layer) in explicit.iter().zip(&plan.layers()[below..]) {
                let mut paths: Vec<PathId> =
                    named.paths.iter().map(|path| closure.find(path).unwrap()).collect();
                paths.sort_unstable_by_key(|id| closure.path(*id).name());
                prop_assert_eq!(&layer.paths, &paths);
                prop_assert_eq!((&*layer.strategy, &layer.reason), ("named", &named.name));
            }
        }
    }

    #[test]
    fn a_plan_is_a_function_of_the_graph_not_of_its_order(
        graph in graphs(), budget in budgets(), turn: Index,
    ) {
        let first = graph.closure();
        let mut infos = graph.infos();
        infos.reverse();
        let turn = turn.index(infos.len());
        infos.rotate_left(turn);
        let second = closure(infos);
        let explicit = graph.some_explicit();
        let larger = budget.saturating_add(explicit.len());
        for entry in STRATEGIES {
            let strategy = strategy(entry.name).unwrap();
            for (explicit, budget) in [(&[][..], budget), (&explicit, larger)] {
                let plan = LayerPlan::new(&first, &*strategy, &with(budget, explicit)).unwrap();
                let again = LayerPlan::new(&first, &*strategy, &with(budget, explicit)).unwrap();
                let other = LayerPlan::new(&second, &*strategy, &with(budget, explicit)).unwrap();
                prop_assert_eq!(&plan, &again);
                prop_assert_eq!(&plan, &other);
            }
        }
    }

    /// A rebuild gives every path a new hash; the layers stay.
    #[test]
    fn a_plan_does_not_depend_on_hashes_while_names_tell_paths_apart(
        graph in graphs(), budget in budgets(), seed: u16,
    ) {
        let rebuilt = Graph {
            hashes: scattered(graph.paths.len(), seed),
            ..graph.clone()
        };
        let (before, after) = (graph.closure(), rebuilt.closure());
        for entry in STRATEGIES {
            let strategy = strategy(entry.name).unwrap();
            let plan = LayerPlan::new(&before, &*strategy, &PlanOptions::new(budget)).unwrap();
            let again = LayerPlan::new(&after, &*strategy, &PlanOptions::new(budget)).unwrap();
            prop_assert_eq!(names(&before, &plan), names(&after, &again));
        }
    }

    #[test]
    fn whatever_exists_a_plan_has_every_path_once_in_no_more_layers_than_allowed(
        (graph, before) in graphs_with_images(), budget in budgets(), turn: Index,
    ) {
        let closure = graph.closure();
        let mut infos = graph.infos();
        infos.reverse();
        let turn = turn.index(infos.len());
        infos.rotate_left(turn);
        let other = self::closure(infos);
        let explicit = graph.some_explicit();
        let larger = budget.saturating_add(explicit.len());
        for entry in STRATEGIES {
            let strategy = strategy(entry.name).unwrap();
            for (explicit, budget) in [(&[][..], budget), (&explicit, larger)] {
                let options = before.options(budget, explicit);
                let plan = LayerPlan::new(&closure, &*strategy, &options).unwrap();
                prop_assert!(placed_once(&closure, &plan), "{}", entry.name);
                prop_assert!(plan.layers().len() <= budget.get(), "{}", entry.name);
                let again = LayerPlan::new(&closure, &*strategy, &options).unwrap();
                prop_assert_eq!(&plan, &again);
                let other = LayerPlan::new(&other, &*strategy, &options).unwrap();
                prop_assert_eq!(&plan, &other);
                if !strategy.keeps_layers() {
                    let without = with(budget, explicit);
                    let without = LayerPlan::new(&closure, &*strategy, &without).unwrap();
                    // It is only told which layers exist.
                    prop_assert_eq!(image(&closure, &plan), image(&closure, &without));
                }
            }
        }
    }

    #[test]
    fn kept_layers_have_the_paths_that_they_had(
        (graph, before) in graphs_with_images(), budget in budgets(),
    ) {
        let closure = graph.closure();
        let ids = |image: &EarlierImage| -> Vec<BTreeSet<PathId>> {
            let known = |prefix: &StorePathPrefix| closure.find(&prefix.whole().unwrap());
            let layers = image.layers.iter();
            layers
                .filter_map(|paths| {
                    let ids: BTreeSet<PathId> = paths.iter().map(known).collect::<Option<_>>()?;
                    // A layer that tells a path twice is not believed.
                    (ids.len() == paths.len()).then_some(ids)
                })
                .collect()
        };
        let keep = ids(&before.keep);
        let share: Vec<BTreeSet<PathId>> = before.share.iter().flat_map(ids).collect();
        for entry in STRATEGIES {
            let strategy = strategy(entry.name).unwrap();
            let options = before.options(budget, &[]);
            let plan = LayerPlan::new(&closure, &*strategy, &options).unwrap();
            let mut last_kept = None;
            for (place, layer) in plan.layers().iter().enumerate() {
                let paths: BTreeSet<PathId> = layer.paths.iter().copied().collect();
                match layer.reason.as_str() {
                    "kept from the earlier image" => {
                        let was = keep.iter().position(|layer| *layer == paths);
                        prop_assert!(was.is_some());
                        // At the bottom, in the image's order.
                        prop_assert!(
                            place == 0 || (last_kept.is_some() && last_kept < was),
                            "{:?} {keep:?}", plan.layers()
                        );
                        last_kept = was;
                    }
                    "shared with another image" => {
                        last_kept = None;
                        prop_assert!(share.contains(&paths));
                    }
                    _ => last_kept = None,
                }
            }
        }
    }

    /// So a build that changes nothing sends nothing, again and again.
    #[test]
    fn a_plan_that_keeps_its_own_image_is_the_same_plan(
        (graph, before) in graphs_with_images(), budget in budgets(),
    ) {
        let closure = graph.closure();
        let explicit = graph.some_explicit();
        let larger = budget.saturating_add(explicit.len());
        for entry in STRATEGIES {
            let strategy = strategy(entry.name).unwrap();
            for (explicit, budget) in [(&[][..], budget), (&explicit, larger)] {
                let without = PlanOptions {
                    volatile: &before.volatile,
                    ..with(budget, explicit)
                };
                for first in [before.options(budget, explicit), without] {
                    let plan = LayerPlan::new(&closure, &*strategy, &first).unwrap();
                    let keep = image(&closure, &plan);
                    let own = PlanOptions { keep: Some(&keep), ..first };
                    let again = LayerPlan::new(&closure, &*strategy, &own).unwrap();
                    prop_assert_eq!(&image(&closure, &again), &keep, "{}", entry.name);
                }
            }
        }
    }
}

#[test]
fn a_budget_as_large_as_the_closure_is_used_in_full_by_popularity_and_largest() {
    let (closure, _) = real();
    for name in ["popularity", "largest"] {
        let strategy = strategy(name).unwrap();
        let plan = LayerPlan::new(
            &closure,
            &*strategy,
            &PlanOptions::new(budget(closure.len())),
        )
        .unwrap();
        assert_eq!(plan.layers().len(), closure.len(), "{name}");
    }
}

#[test]
fn an_empty_closure_has_no_layers() {
    let closure = closure(Vec::new());
    for entry in STRATEGIES {
        let strategy = strategy(entry.name).unwrap();
        let plan = LayerPlan::new(&closure, &*strategy, &PlanOptions::new(budget(1))).unwrap();
        assert_eq!(plan.layers(), []);
        let request = LayerRequest {
            closure: &closure,
            paths: &[],
            budget: budget(1),
            keep: &[],
            share: &[],
            earlier: None,
            volatile: &[],
        };
        assert_eq!(strategy.group(request).unwrap(), [], "{}", entry.name);
    }
}

/// The closure in `fixtures/plans`, and its paths by name.
fn real() -> (Closure, BTreeMap<String, StorePath>) {
    let json = include_bytes!("../../fixtures/plans/curl.graph.json");
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    let path = |value: &serde_json::Value| -> StorePath {
        StoreDir::default()
            .parse_path(value.as_str().unwrap())
            .unwrap()
    };
    let infos: Vec<PathInfo> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|info| {
            let references = info["references"].as_array().unwrap().iter().map(path);
            PathInfo {
                nar_size: Some(info["narSize"].as_u64().unwrap()),
                ..PathInfo::new(path(&info["path"]), references)
            }
        })
        .collect();
    let names = infos
        .iter()
        .map(|info| (info.path.name().to_owned(), info.path.clone()));
    let names = names.collect();
    (closure(infos), names)
}

#[test]
fn golden() {
    let (closure, _) = real();
    for entry in STRATEGIES {
        for layers in [5, 20, 100] {
            let strategy = strategy(entry.name).unwrap();
            let options = PlanOptions::new(budget(layers));
            let plan = LayerPlan::new(&closure, &*strategy, &options).unwrap();
            assert_golden(&format!("curl.{}.{layers}", entry.name), &closure, &plan);
        }
    }
}

/// The earlier image had another application, openssl and what needs it.
#[test]
fn golden_with_an_earlier_image() {
    let (closure, _) = real();
    let strategy = strategy("cost").unwrap();
    let options = PlanOptions::new(budget(20));
    let first = LayerPlan::new(&closure, &*strategy, &options).unwrap();
    let openssl = closure.ids().find(|id| is_openssl(&closure, *id)).unwrap();
    let mut is_new = vec![false; closure.len()];
    for id in closure.ids() {
        let references = closure.references(id);
        is_new[id.index()] = id == openssl || references.iter().any(|r| is_new[r.index()]);
    }
    let earlier = |id: &PathId| -> StorePath {
        let path = closure.path(*id);
        if is_new[id.index()] {
            format!("{}-{}", "z".repeat(32), path.name())
                .parse()
                .unwrap()
        } else {
            path.clone()
        }
    };
    let layers = first.layers().iter();
    let layers: Vec<Vec<StorePath>> = layers
        .map(|layer| layer.paths.iter().map(earlier).collect())
        .collect();
    let image = EarlierImage::of_paths(&layers);
    let options = PlanOptions {
        keep: Some(&image),
        ..options
    };
    let plan = LayerPlan::new(&closure, &*strategy, &options).unwrap();
    assert_golden("curl.cost.20.earlier", &closure, &plan);
}

fn is_openssl(closure: &Closure, id: PathId) -> bool {
    closure.path(id).name().starts_with("libssl")
}

fn assert_golden(name: &str, closure: &Closure, plan: &LayerPlan) {
    let mut told = String::new();
    for layer in plan.layers() {
        let size: u64 = layer.paths.iter().map(|id| closure.nar_size(*id)).sum();
        told += &format!("{size} {}: {}\n", layer.strategy, layer.reason);
        for id in &layer.paths {
            told += &format!("    {}\n", closure.path(*id).name());
        }
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../fixtures/plans");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, told));
}

/// Returns what the function says.
struct Says<F>(F);

impl<F: Fn(LayerRequest<'_>) -> Vec<Group> + Send + Sync> LayerStrategy for Says<F> {
    fn name(&self) -> String {
        "double".to_owned()
    }

    fn group(&self, request: LayerRequest<'_>) -> Result<Vec<Group>> {
        Ok((self.0)(request))
    }
}

fn one_group(paths: &[PathId]) -> Group {
    Group {
        paths: paths.to_vec(),
        reason: "told".to_owned(),
    }
}

#[test]
fn a_strategy_that_breaks_its_contract_is_caught() {
    let graph = Graph {
        paths: vec![
            (Some(1), BTreeSet::new()),
            (Some(1), [0].into()),
            (Some(1), [1].into()),
        ],
        hashes: vec![1, 2, 3],
    };
    let closure = graph.closure();
    let full = |n| StoreDir::default().join(&graph.path(n));
    let named = ExplicitLayer {
        name: "mine".to_owned(),
        paths: vec![graph.path(2)],
    };
    let ids: Vec<PathId> = closure.ids().collect();
    let foreign = real().0.ids().last().unwrap();
    let problem = |groups: Vec<Group>| {
        let says = Says(move |_: LayerRequest<'_>| groups.clone());
        let explicit = from_ref(&named);
        let error = LayerPlan::new(&closure, &says, &with(budget(3), explicit)).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Internal);
        let ErrorKind::Plan { strategy, problem } = error.kind() else {
            panic!("{error}")
        };
        assert_eq!(strategy, "double");
        assert_eq!(
            error.to_string(),
            format!("layer strategy double: {problem}")
        );
        problem.clone()
    };

    let apart: Vec<Group> = ids.chunks(1).map(one_group).collect();
    assert_eq!(problem(apart), "made 3 layers, 2 are allowed");
    let empty = vec![one_group(&ids[..2]), one_group(&[])];
    assert_eq!(problem(empty), "made an empty layer");
    let twice = vec![one_group(&ids[..2]), one_group(&ids[1..2])];
    assert_eq!(problem(twice), format!("placed {} twice", full(1)));
    let repeated = vec![one_group(&[ids[0], ids[0], ids[1]])];
    assert_eq!(problem(repeated), format!("placed {} twice", full(0)));
    let all = vec![one_group(&ids)];
    assert_eq!(
        problem(all),
        format!("placed {}, which is in a named layer", full(2))
    );
    let few = vec![one_group(&ids[1..2])];
    assert_eq!(problem(few), format!("did not place {}", full(0)));
    assert_eq!(problem(vec![]), format!("did not place {}", full(0)));
    let other = vec![one_group(&[foreign])];
    assert_eq!(problem(other), "placed a path of another closure");
}

#[test]
fn a_strategy_is_asked_for_the_open_paths_only() {
    let (closure, names) = real();
    let explicit = [ExplicitLayer {
        name: "mine".to_owned(),
        paths: vec![names["app-v1"].clone()],
    }];
    let asks = Says(|request: LayerRequest<'_>| {
        assert_eq!(request.budget.get(), 6);
        assert_eq!(request.paths.len(), request.closure.len() - 1);
        assert!(request.paths.is_sorted());
        vec![one_group(request.paths)]
    });
    let plan = LayerPlan::new(&closure, &asks, &with(budget(7), &explicit)).unwrap();
    assert_eq!(plan.layers()[1].reason, "mine");

    let everything = [ExplicitLayer {
        name: "all".to_owned(),
        paths: names.into_values().collect(),
    }];
    let never = Says(|_: LayerRequest<'_>| panic!("there is nothing to place"));
    let plan = LayerPlan::new(&closure, &never, &with(budget(1), &everything)).unwrap();
    assert_eq!(plan.layers().len(), 1);
}

#[test]
fn what_a_strategy_fails_with_is_passed_on() {
    struct Fails;
    impl LayerStrategy for Fails {
        fn name(&self) -> String {
            "fails".to_owned()
        }
        fn group(&self, _: LayerRequest<'_>) -> Result<Vec<Group>> {
            Err(ErrorKind::Cancelled.into())
        }
    }
    let error = LayerPlan::new(&real().0, &Fails, &PlanOptions::new(budget(9))).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Cancelled));
}

#[test]
fn named_layers_that_cannot_be_are_refused() {
    let graph = Graph {
        paths: vec![(Some(1), BTreeSet::new()), (Some(1), [0].into())],
        hashes: vec![1, 2],
    };
    let closure = graph.closure();
    let single = strategy("single").unwrap();
    let unknown: StorePath = format!("{}-x", "z".repeat(32)).parse().unwrap();
    let refused = |layers: &[(&str, &[StorePath])], max: usize| {
        let explicit: Vec<ExplicitLayer> = layers
            .iter()
            .map(|(name, paths)| ExplicitLayer {
                name: (*name).to_owned(),
                paths: paths.to_vec(),
            })
            .collect();
        let error = LayerPlan::new(&closure, &*single, &with(budget(max), &explicit)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidInput { .. }));
        assert_eq!(error.class(), ErrorClass::Input);
        error.to_string()
    };
    let [lib, app] = [0, 1].map(|n| graph.path(n));
    let full = |path| StoreDir::default().join(path);

    assert_eq!(
        refused(&[("a", &[])], 9),
        "layer \"a\": it has no store path"
    );
    assert_eq!(
        refused(&[("a", from_ref(&lib)), ("a", from_ref(&app))], 9),
        "layer \"a\": two layers have this name"
    );
    assert_eq!(
        refused(&[("a", from_ref(&unknown))], 9),
        format!("layer \"a\": {} is not in the closure", full(&unknown))
    );
    assert_eq!(
        refused(&[("a", &[lib.clone(), lib.clone()])], 9),
        format!("layer \"a\": {} is in it twice", full(&lib))
    );
    assert_eq!(
        refused(
            &[("a", from_ref(&lib)), ("b", &[app.clone(), lib.clone()])],
            9
        ),
        format!("layer \"b\": {} is already in layer \"a\"", full(&lib))
    );
    assert_eq!(
        refused(&[("a", from_ref(&lib)), ("b", from_ref(&app))], 1),
        "the layer budget: at most 1, but 2 layers are asked for by name"
    );
    assert_eq!(
        refused(&[("a", from_ref(&lib))], 1),
        "the layer budget: at most 1, but 1 layer is asked for by name, and not all store paths are in one"
    );
}
