use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// An item, and what changes it.
#[derive(Debug, Clone)]
struct Told {
    size: u64,
    is_kept: bool,
    changed_by: BTreeSet<usize>,
}

/// Told items in the order of their leads; any may be changed by numbers below
/// `end`.
fn prepared(told: &[Told], end: usize) -> (Vec<Item>, Sets) {
    let mut sets = Sets::new(told.len(), end);
    for (set, item) in told.iter().enumerate() {
        for number in &item.changed_by {
            sets.insert(set, *number);
        }
    }
    let items = (0..).zip(told).map(|(lead, item)| Item {
        lead,
        size: item.size,
        is_kept: item.is_kept,
        set: lead as usize,
    });
    (items.collect(), sets)
}

fn merged(told: &[Told], end: usize, budget: usize) -> Vec<Union> {
    let (items, sets) = prepared(told, end);
    let mut unions = merge(&items, sets, Model::of_closure(0), budget);
    for union in &mut unions {
        union.items.sort_unstable();
    }
    unions.sort_by_key(|union| union.lead);
    unions
}

/// Tries all pairs before every step.
fn naive(told: &[Told], budget: usize) -> Vec<Union> {
    #[derive(Clone)]
    struct Naive {
        size: u64,
        penalty: f64,
        changed_by: BTreeSet<usize>,
        items: Vec<usize>,
        is_forced: bool,
    }
    let cost = |size: u64, changed_by: &BTreeSet<usize>| {
        let changed_by = changed_by.len() as f64;
        (size as f64 + 65536.0) * (changed_by / (changed_by + 30.0))
    };
    let told = told.iter().enumerate();
    // In the order of their leads.
    let mut groups: Vec<Naive> = told
        .map(|(n, item)| Naive {
            size: item.size,
            penalty: if item.is_kept {
                item.size as f64 / 8.0
            } else {
                0.0
            },
            changed_by: item.changed_by.clone(),
            items: vec![n],
            is_forced: false,
        })
        .collect();
    loop {
        let mut best: Option<(f64, usize, usize)> = None;
        for (b, upper) in groups.iter().enumerate() {
            for (a, lower) in groups[..b].iter().enumerate() {
                let all = &lower.changed_by | &upper.changed_by;
                let delta = cost(lower.size + upper.size, &all)
                    - cost(lower.size, &lower.changed_by)
                    - cost(upper.size, &upper.changed_by)
                    + lower.penalty
                    + upper.penalty;
                if best.is_none_or(|best| (delta, a, b) < best) {
                    best = Some((delta, a, b));
                }
            }
        }
        let Some((delta, a, b)) = best else { break };
        if delta >= 0.0 && groups.len() <= budget {
            break;
        }
        let upper = groups.remove(b);
        let lower = &mut groups[a];
        lower.size += upper.size;
        lower.penalty = 0.0;
        lower.changed_by.extend(upper.changed_by);
        lower.items.extend(upper.items);
        lower.items.sort_unstable();
        lower.is_forced |= upper.is_forced || delta >= 0.0;
    }
    let groups = groups.into_iter();
    groups
        .map(|group| Union {
            lead: group.items[0] as u32,
            changed_by: group.changed_by.len() as u32,
            is_forced: group.is_forced,
            items: group.items,
        })
        .collect()
}

const END: usize = 700;

/// Items as closures make them: each may be changed by itself and by all that
/// some before it are changed by. Sizes and sets are often equal.
fn items() -> impl Strategy<Value = Vec<Told>> {
    let size = prop_oneof![
        3 => Just(0u64),
        3 => (0u64..4).prop_map(|n| n * 10_000),
        3 => 0u64..200_000,
        2 => 0u64..100_000_000,
        1 => Just(1 << 52),
    ];
    let more = prop::collection::vec(0usize..END, 0..4);
    let needs = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    let item = (size, prop::bool::weighted(0.2), needs, more);
    prop::collection::vec(item, 0..24).prop_map(|items| {
        let mut told: Vec<Told> = Vec::with_capacity(items.len());
        for (n, (size, is_kept, needs, more)) in items.into_iter().enumerate() {
            // Far apart, so that sets are of several blocks.
            let mut changed_by = BTreeSet::from([n * 97 % END]);
            for number in more.into_iter().filter(|_| n % 3 == 0) {
                changed_by.extend(number..END.min(number + 40));
            }
            for need in needs.iter().filter(|_| n > 0) {
                changed_by.extend(told[need.index(n)].changed_by.iter());
            }
            told.push(Told {
                size,
                is_kept,
                changed_by,
            });
        }
        told.reverse();
        told
    })
}

proptest! {
    #[test]
    fn the_steps_are_those_of_trying_all_pairs(told in items(), budget in 1usize..20) {
        prop_assert_eq!(merged(&told, END, budget), naive(&told, budget));
    }
}

fn told(size: u64, changed_by: impl IntoIterator<Item = usize>) -> Told {
    Told {
        size,
        is_kept: false,
        changed_by: changed_by.into_iter().collect(),
    }
}

/// Returns the items of each union, by the smallest.
fn unions(told: &[Told], budget: usize) -> Vec<Vec<usize>> {
    let merged = merged(told, END, budget);
    merged.into_iter().map(|union| union.items).collect()
}

#[test]
fn what_changes_alike_is_joined_first() {
    const MB: u64 = 1_000_000;
    // Joining 0 and 1 makes 10 MB more likely to change by 11/41 - 10/40, 0.18
    // MB; 1 and 2 by 51/81 - 11/41 and 51/81 - 40/70, 4.2 MB.
    let items = [
        told(10 * MB, 0..10),
        told(10 * MB, 0..11),
        told(10 * MB, 11..51),
    ];
    assert_eq!(unions(&items, 3), [vec![0], vec![1], vec![2]]);
    assert_eq!(unions(&items, 2), [vec![0, 1], vec![2]]);
    assert_eq!(unions(&items, 1), [vec![0, 1, 2]]);
    assert!(merged(&items, END, 1)[0].is_forced);
}

#[test]
fn small_items_are_joined_although_there_is_room() {
    // 64 KiB × 30/60 less for one layer less, against 1000 bytes × 1/122 more.
    let items = [told(1000, 0..29), told(1000, 0..30)];
    assert_eq!(unions(&items, 9), [[0, 1]]);
    assert!(!merged(&items, END, 9)[0].is_forced);
    // 64 KiB × (1/31 + 59/89 - 60/90) less, 1.9 kB, against s × (120/90 - 1/31 -
    // 59/89) more, s × 0.64.
    let items = |s| [told(s, [0]), told(s, 1..60)];
    assert_eq!(unions(&items(2_900), 9), [[0, 1]]);
    assert_eq!(unions(&items(3_000), 9), [[0], [1]]);
}

#[test]
fn joining_that_saves_nothing_is_left_undone() {
    // One layer costs 3 × 64 KiB × 60/90, two 2 × 128 KiB × 30/60: the same.
    let items = [told(65536, 0..30), told(65536, 30..60)];
    assert_eq!(unions(&items, 2), [[0], [1]]);
    let items = [told(65536, 0..30), told(65535, 30..60)];
    assert_eq!(unions(&items, 2), [[0, 1]]);
}

#[test]
fn ties_go_to_the_first_leads() {
    let same = |n: usize| told(1_000_000, [n]);
    let items: Vec<Told> = (0..4).map(same).collect();
    // (0, 1), (0, 2) ... cost the same; then (2, 3) is cheaper than with three.
    assert_eq!(unions(&items, 3), [vec![0, 1], vec![2], vec![3]]);
    assert_eq!(unions(&items, 2), [vec![0, 1], vec![2, 3]]);
}

#[test]
fn a_layer_that_exists_costs_an_eighth_to_break_up() {
    // Without a penalty, 0 and 1 are the pair: 8 MB × (11/41 - 10/40), 146 kB.
    // With 1 MB more, 1 and 2 are: 8 MB × (16/46 - 11/41), 636 kB.
    let mut items = [
        told(8_000_000, 0..10),
        told(8_000_000, 0..11),
        told(8_000_000, 0..16),
    ];
    assert_eq!(unions(&items, 2), [vec![0, 1], vec![2]]);
    items[0].is_kept = true;
    assert_eq!(unions(&items, 2), [vec![0], vec![1, 2]]);
    // It stays so after joining: a union is not a layer that exists.
    items[1].is_kept = true;
    assert_eq!(unions(&items, 2), [vec![0], vec![1, 2]]);
    items[2].is_kept = true;
    assert_eq!(unions(&items, 2), [vec![0, 1], vec![2]]);
}

#[test]
fn nothing_and_one_item_stay_as_they_are() {
    assert_eq!(merged(&[], END, 1), []);
    let alone = [told(5, 0..3)];
    let expected = Union {
        items: vec![0],
        lead: 0,
        changed_by: 3,
        is_forced: false,
    };
    assert_eq!(merged(&alone, END, 1), [expected]);
}

#[test]
fn sizes_beyond_all_stores_do_no_harm() {
    let items = [
        told(u64::MAX, 0..10),
        told(u64::MAX, 0..11),
        told(u64::MAX, 0..12),
    ];
    assert_eq!(unions(&items, 1), [[0, 1, 2]]);
}
