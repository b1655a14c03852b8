use std::num::NonZeroUsize;

use super::*;
use crate::plan::test_closure::{closure, names};

const MB: u64 = 1_000_000;

fn asked<'a>(closure: &'a Closure, paths: &'a [PathId], budget: usize) -> LayerRequest<'a> {
    LayerRequest {
        closure,
        paths,
        budget: NonZeroUsize::new(budget).unwrap(),
        keep: &[],
        share: &[],
        earlier: None,
        volatile: &[],
    }
}

fn find(closure: &Closure, names: &[&str]) -> Vec<PathId> {
    let ids = closure.ids();
    ids.filter(|id| names.contains(&closure.path(*id).name()))
        .collect()
}

/// Returns each group's paths by name, and its reason.
fn told(request: LayerRequest<'_>) -> Vec<(String, String)> {
    let groups = Cost.group(request).unwrap().into_iter();
    groups
        .map(|group| {
            let mut names = names(request.closure, &group.paths);
            names.sort_unstable();
            (names.join(" "), group.reason)
        })
        .collect()
}

fn layers(request: LayerRequest<'_>) -> Vec<String> {
    told(request).into_iter().map(|(names, _)| names).collect()
}

/// Two programs on one library, and what an application is made of.
fn app() -> Closure {
    closure(&[
        ("libc", 30 * MB, &[]),
        ("ssl", 8 * MB, &["libc"]),
        ("curl", 5 * MB, &["ssl"]),
        ("python", 90 * MB, &["ssl"]),
        ("tzdata", 3 * MB, &[]),
        ("git", 40 * MB, &["curl", "tzdata"]),
        ("fonts", 10 * MB, &[]),
        ("locale", 20 * MB, &[]),
        ("bin", 2 * MB, &["git", "python", "fonts", "locale"]),
        ("env", 1000, &["bin"]),
    ])
}

#[test]
fn the_application_is_on_top_and_what_changes_least_at_the_bottom() {
    let closure = app();
    let all: Vec<PathId> = closure.ids().collect();
    let alone = |name: &str| (name.to_owned(), format!("{name} alone"));
    assert_eq!(
        told(asked(&closure, &all, 100)),
        [
            alone("fonts"),
            alone("libc"),
            alone("locale"),
            alone("tzdata"),
            alone("ssl"),
            alone("curl"),
            alone("python"),
            alone("git"),
            ("bin".to_owned(), "around the application".to_owned()),
            ("env".to_owned(), "the application".to_owned()),
        ]
    );
}

#[test]
fn the_budget_counts_the_application() {
    let closure = app();
    let all: Vec<PathId> = closure.ids().collect();
    assert_eq!(
        told(asked(&closure, &all, 1)),
        [(
            "bin curl env fonts git libc locale python ssl tzdata".to_owned(),
            "everything".to_owned()
        )]
    );
    assert_eq!(
        told(asked(&closure, &all, 2)),
        [
            (
                "curl fonts git libc locale python ssl tzdata".to_owned(),
                "python and 7 more to fit the budget".to_owned()
            ),
            ("bin env".to_owned(), "the application".to_owned()),
        ]
    );
    for budget in 3..=9 {
        assert_eq!(layers(asked(&closure, &all, budget)).len(), budget);
    }
}

#[test]
fn the_application_needs_nine_of_ten_paths() {
    // Ten in a row: the first needs ten of them, the second nine.
    let libs: Vec<String> = (0..10).map(|n| format!("lib{n}")).collect();
    let in_a_row = |all: usize| {
        let references: Vec<Vec<&str>> = (0..all)
            .map(|n| libs[n + 1..all].first().map(String::as_str))
            .map(|next| next.into_iter().collect())
            .collect();
        let paths: Vec<(&str, u64, &[&str])> = libs
            .iter()
            .zip(&references)
            .map(|(name, references)| (name.as_str(), MB, references.as_slice()))
            .collect();
        closure(&paths)
    };
    for (all, expected) in [
        (1, "lib0"),
        (2, "lib0"),
        (3, "lib0"),
        (9, "lib0"),
        (10, "lib0 lib1"),
    ] {
        let closure = in_a_row(all);
        let paths: Vec<PathId> = closure.ids().collect();
        // A layer too few for each to have its own.
        let told = told(asked(&closure, &paths, if all == 10 { 9 } else { 50 }));
        let top = (expected.to_owned(), "the application".to_owned());
        assert_eq!(told.last(), Some(&top), "{all}");
    }
}

#[test]
fn no_path_is_the_application_if_none_needs_most_others() {
    let closure = closure(&[("a", MB, &[]), ("b", 2 * MB, &[])]);
    let all: Vec<PathId> = closure.ids().collect();
    assert_eq!(layers(asked(&closure, &all, 2)), ["a", "b"]);
    assert_eq!(
        told(asked(&closure, &all, 1)),
        [("a b".to_owned(), "everything".to_owned())]
    );
}

#[test]
fn what_is_volatile_is_the_application() {
    let closure = app();
    let all: Vec<PathId> = closure.ids().collect();
    let volatile = find(&closure, &["env", "fonts"]);
    let request = LayerRequest {
        volatile: &volatile,
        ..asked(&closure, &all, 100)
    };
    let told = told(request);
    assert_eq!(
        told.last(),
        Some(&(
            "env fonts".to_owned(),
            "changes with every release".to_owned()
        ))
    );
    assert!(told.contains(&("bin".to_owned(), "bin alone".to_owned())));
    // Nothing else is left.
    let request = LayerRequest {
        volatile: &all,
        ..asked(&closure, &all, 100)
    };
    assert_eq!(layers(request).len(), 1);
}

#[test]
fn which_paths_are_the_application_does_not_depend_on_named_layers() {
    let closure = app();
    let open = find(&closure, &["libc", "python", "ssl"]);
    // python needs all that is open, but not most of the image.
    assert_eq!(layers(asked(&closure, &open, 9)), ["libc", "ssl", "python"]);
}

#[test]
fn layers_of_the_earlier_image_are_kept_at_the_bottom_in_its_order() {
    let closure = app();
    let all: Vec<PathId> = closure.ids().collect();
    let keep = [
        find(&closure, &["curl", "git"]),
        find(&closure, &["libc", "locale"]),
        // Of what is the application now.
        find(&closure, &["bin", "fonts"]),
    ];
    let request = LayerRequest {
        keep: &keep,
        ..asked(&closure, &all, 100)
    };
    let kept = |names: &str| (names.to_owned(), "kept from the earlier image".to_owned());
    let alone = |name: &str| (name.to_owned(), format!("{name} alone"));
    assert_eq!(
        told(request),
        [
            kept("curl git"),
            kept("libc locale"),
            alone("fonts"),
            alone("tzdata"),
            alone("ssl"),
            alone("python"),
            ("bin".to_owned(), "around the application".to_owned()),
            ("env".to_owned(), "the application".to_owned()),
        ]
    );
}

#[test]
fn layers_of_other_images_are_taken_by_size() {
    let closure = app();
    let all: Vec<PathId> = closure.ids().collect();
    let keep = [find(&closure, &["tzdata"])];
    let share = [
        find(&closure, &["libc", "ssl"]),
        // In the earlier image already.
        find(&closure, &["python", "tzdata"]),
        find(&closure, &["git", "libc"]),
        // As large as the one after it, and later in the closure.
        find(&closure, &["curl", "ssl"]),
        find(&closure, &["ssl", "curl"]),
        // Of the application.
        find(&closure, &["env"]),
    ];
    let request = LayerRequest {
        keep: &keep,
        share: &share,
        ..asked(&closure, &all, 100)
    };
    let shared = |names: &str| (names.to_owned(), "shared with another image".to_owned());
    let alone = |name: &str| (name.to_owned(), format!("{name} alone"));
    assert_eq!(
        told(request),
        [
            (
                "tzdata".to_owned(),
                "kept from the earlier image".to_owned()
            ),
            alone("fonts"),
            alone("locale"),
            shared("curl ssl"),
            alone("python"),
            shared("git libc"),
            ("bin".to_owned(), "around the application".to_owned()),
            ("env".to_owned(), "the application".to_owned()),
        ]
    );
    // Of two that are equally large, the one with the first path.
    let closure =
        super::super::test_closure::closure(&[("a", MB, &[]), ("b", MB, &[]), ("c", MB, &[])]);
    let all: Vec<PathId> = closure.ids().collect();
    let share = [find(&closure, &["b", "c"]), find(&closure, &["a", "b"])];
    for share in [share.clone(), [share[1].clone(), share[0].clone()]] {
        let request = LayerRequest {
            share: &share,
            ..asked(&closure, &all, 100)
        };
        assert_eq!(told(request), [alone("c"), shared("a b")],);
    }
}

#[test]
fn kept_layers_are_broken_up_only_to_fit_the_budget() {
    let closure = app();
    let all: Vec<PathId> = closure.ids().collect();
    let keep: Vec<Vec<PathId>> = all
        .iter()
        .filter(|id| !["bin", "env"].contains(&closure.path(**id).name()))
        .map(|id| vec![*id])
        .collect();
    let request = |budget| LayerRequest {
        keep: &keep,
        ..asked(&closure, &all, budget)
    };
    let kept = |budget| {
        let told = told(request(budget)).into_iter();
        told.filter(|(_, reason)| reason == "kept from the earlier image")
            .count()
    };
    assert_eq!((kept(9), kept(8), kept(2)), (8, 6, 0));
}

#[test]
fn a_size_that_is_not_known_is_nothing() {
    // Cheaper with any other than alone.
    let closure = closure(&[("a", 0, &[]), ("b", 50 * MB, &[]), ("c", 0, &["a"])]);
    let open = find(&closure, &["a", "c"]);
    assert_eq!(
        told(asked(&closure, &open, 9)),
        [(
            "a c".to_owned(),
            "a and 1 more, cheaper together".to_owned()
        )]
    );
}

#[test]
fn what_changed_by_itself_is_what_is_new_on_nothing_new() {
    let closure = app();
    let changed = |earlier: Option<&[PathId]>| {
        let all: Vec<PathId> = closure.ids().collect();
        let request = LayerRequest {
            earlier,
            ..asked(&closure, &all, 5)
        };
        changed_by_itself(&request)
    };
    assert_eq!(changed(None), []);
    let but = |new: &[&str]| -> Vec<PathId> {
        let new = find(&closure, new);
        closure.ids().filter(|id| !new.contains(id)).collect()
    };
    assert_eq!(changed(Some(&but(&[]))), []);
    // What needs ssl is new with it, and the application as ever.
    let new = ["ssl", "curl", "python", "git", "bin", "env", "fonts"];
    assert_eq!(changed(Some(&but(&new))), find(&closure, &["ssl", "fonts"]));
    // It counts for all that need it, and for nothing else.
    let mut sets = needed(&closure, 2);
    let changed = find(&closure, &["ssl", "fonts"]);
    weigh(&closure, &changed, &mut sets);
    let len = |name: &str| sets.len(find(&closure, &[name])[0].index()) as usize;
    assert_eq!(len("libc"), 1);
    assert_eq!(len("ssl"), 2 + RECENT);
    assert_eq!(len("git"), 5 + RECENT);
    assert_eq!(len("bin"), 9 + 2 * RECENT);
}

#[test]
fn the_application_is_parted_where_that_is_free() {
    let closure = app();
    let all: Vec<PathId> = closure.ids().collect();
    for (budget, expected) in [(9, &["bin env"][..]), (10, &["bin", "env"])] {
        let layers = layers(asked(&closure, &all, budget));
        assert!(layers.ends_with(&expected.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>()));
    }
}

#[test]
fn what_of_the_application_did_not_change_stays_where_it_is() {
    let closure = app();
    let all: Vec<PathId> = closure.ids().collect();
    let without = |names: &[&str]| -> Vec<PathId> {
        let left = find(&closure, names);
        all.iter()
            .copied()
            .filter(|id| !left.contains(id))
            .collect()
    };
    let keep = [find(&closure, &["bin"]), find(&closure, &["env"])];
    type Case<'a> = (usize, &'a [Vec<PathId>], &'a [&'a str], &'a [&'a str]);
    let cases: [Case<'_>; 7] = [
        // env is new, and bin has a layer.
        (6, &keep[..1], &["env"], &["bin", "env"]),
        // bin was with env, so that it has none.
        (10, &[], &["env"], &["bin", "env"]),
        // It gets none that is wanted elsewhere.
        (9, &[], &["env"], &["bin env"]),
        // All is new: the same.
        (10, &[], &["bin", "env"], &["bin", "env"]),
        (9, &[], &["bin", "env"], &["bin env"]),
        // Nothing is: as it was.
        (6, &keep, &[], &["bin", "env"]),
        (6, &[find(&closure, &["bin", "env"])], &[], &["bin env"]),
    ];
    for (budget, keep, new, expected) in cases {
        let request = LayerRequest {
            keep,
            earlier: Some(&without(new)),
            ..asked(&closure, &all, budget)
        };
        let layers = layers(request);
        assert!(layers.len() <= budget);
        let expected: Vec<String> = expected.iter().map(|l| (*l).to_owned()).collect();
        assert!(layers.ends_with(&expected), "{new:?}: {layers:?}");
    }
}
