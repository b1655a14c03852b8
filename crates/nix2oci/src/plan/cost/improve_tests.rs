use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::merge::merge;
use super::*;

/// An item: its size, whether it is a layer that exists, what changes it.
type Told = (u64, bool, BTreeSet<usize>);

fn prepared(told: &[Told]) -> (Vec<Item>, Sets) {
    let mut sets = Sets::new(told.len(), 40);
    for (set, (.., changed_by)) in told.iter().enumerate() {
        for number in changed_by {
            sets.insert(set, *number);
        }
    }
    let items = (0..).zip(told).map(|(lead, (size, is_kept, _))| Item {
        lead,
        size: *size,
        is_kept: *is_kept,
        set: lead as usize,
    });
    (items.collect(), sets)
}

fn union(items: &[usize]) -> Union {
    Union {
        items: items.to_vec(),
        lead: 0,
        changed_by: 0,
        is_forced: true,
    }
}

fn sum_of_costs(told: &[Told], unions: &[Union]) -> f64 {
    let of = |union: &Union| {
        let size = union.items.iter().map(|item| told[*item].0).sum();
        let sets = union.items.iter().flat_map(|item| &told[*item].2);
        Model::of_closure(0).cost(size, sets.collect::<BTreeSet<_>>().len() as u32)
    };
    unions.iter().map(of).sum()
}

#[test]
fn a_path_goes_to_those_that_change_with_it() {
    const MB: u64 = 1_000_000;
    let told = [
        (5 * MB, false, (0..3).collect()),
        (5 * MB, false, (0..3).collect()),
        (5 * MB, false, (10..30).collect()),
        (5 * MB, false, (10..30).collect()),
    ];
    let (items, sets) = prepared(&told);
    let mut unions = [union(&[0, 2]), union(&[1, 3])];
    improve(&items, &sets, Model::of_closure(0), &mut unions);
    let mut found: Vec<_> = unions
        .iter()
        .map(|union| {
            let mut items = union.items.clone();
            items.sort_unstable();
            (items, union.lead, union.changed_by)
        })
        .collect();
    found.sort();
    assert_eq!(found, [(vec![0, 1], 0, 3), (vec![2, 3], 2, 20)]);
}

#[test]
fn a_layer_that_exists_stays_as_it_is() {
    let same: BTreeSet<usize> = (0..3).collect();
    let told = [
        (5000, true, same.clone()),
        (5000, false, same.clone()),
        (900_000, false, (10..30).collect()),
    ];
    let (items, sets) = prepared(&told);
    let mut unions = [union(&[0]), union(&[1, 2])];
    improve(&items, &sets, Model::of_closure(0), &mut unions);
    assert_eq!(unions[0].items, [0]);
    assert_eq!(unions[1].items, [1, 2]);
}

proptest! {
    #[test]
    fn it_is_cheaper_and_everything_is_there_once(
        told in prop::collection::vec(
            (0u64..2_000_000, prop::bool::weighted(0.2),
             prop::collection::btree_set(0usize..40, 1..12)),
            1..25,
        ),
        budget in 1usize..12,
    ) {
        let (items, sets) = prepared(&told);
        let before = merge(&items, sets.clone(), Model::of_closure(0), budget);
        let improved = || {
            let mut unions = merge(&items, sets.clone(), Model::of_closure(0), budget);
            improve(&items, &sets, Model::of_closure(0), &mut unions);
            unions
        };
        let after = improved();
        prop_assert_eq!(&after, &improved());
        prop_assert_eq!(after.len(), before.len());
        let (was, is) = (sum_of_costs(&told, &before), sum_of_costs(&told, &after));
        prop_assert!(is <= was * (1.0 + 1e-12), "{} > {}", is, was);
        let mut all: Vec<usize> = after.iter().flat_map(|union| union.items.clone()).collect();
        all.sort_unstable();
        prop_assert!(all.into_iter().eq(0..told.len()));
        for (old, new) in before.iter().zip(&after) {
            if is_layer(&items, old) {
                prop_assert_eq!(&old.items, &new.items);
            }
            prop_assert_eq!(Some(new.lead as usize), new.items.iter().min().copied());
            let sets = new.items.iter().flat_map(|item| &told[*item].2);
            let all = sets.collect::<BTreeSet<_>>();
            prop_assert_eq!(new.changed_by as usize, all.len());
        }
    }
}
