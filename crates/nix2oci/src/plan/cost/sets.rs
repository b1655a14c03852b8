//! Sets of store paths that are joined and counted, many millions of times.

use std::ops::Range;

/// Words that are counted together.
const BLOCK_WORDS: usize = 8;

/// Sets of numbers below one bound, numbered from 0.
///
/// A set is a row of bits. For each block of 512 it is known how many are in
/// the set: two sets together have at least the larger of both counts in each
/// block, which is cheap and often enough to see that they have too many.
#[derive(Clone)]
pub(super) struct Sets {
    end: usize,
    blocks: usize,
    words: Vec<u64>,
    /// For each set and block, how many numbers are in it.
    counts: Vec<u16>,
    /// For each set, how many numbers are in it.
    lens: Vec<u32>,
}

impl Sets {
    /// Makes `sets` empty sets of numbers below `end`.
    pub(super) fn new(sets: usize, end: usize) -> Self {
        let blocks = end.div_ceil(BLOCK_WORDS * 64);
        Self {
            end,
            blocks,
            words: vec![0; sets * blocks * BLOCK_WORDS],
            counts: vec![0; sets * blocks],
            lens: vec![0; sets],
        }
    }

    /// Returns the number above all that can be in a set.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// Puts a number into a set.
    pub(super) fn insert(&mut self, set: usize, number: usize) {
        let word = &mut self.words[set * self.blocks * BLOCK_WORDS + number / 64];
        let bit = 1 << (number % 64);
        if *word & bit == 0 {
            *word |= bit;
            self.counts[set * self.blocks + number / (BLOCK_WORDS * 64)] += 1;
            self.lens[set] += 1;
        }
    }

    /// Puts all that is in the set `from` into the set `into`.
    pub(super) fn join(&mut self, into: usize, from: usize) {
        let width = self.blocks * BLOCK_WORDS;
        for word in 0..width {
            self.words[into * width + word] |= self.words[from * width + word];
        }
        let row = &self.words[into * width..][..width];
        let counts = &mut self.counts[into * self.blocks..][..self.blocks];
        let mut len = 0;
        for (count, block) in counts.iter_mut().zip(row.chunks_exact(BLOCK_WORDS)) {
            let ones: u32 = block.iter().map(|word| word.count_ones()).sum();
            *count = ones as u16;
            len += ones;
        }
        self.lens[into] = len;
    }

    /// Returns how many numbers are in a set.
    pub(super) fn len(&self, set: usize) -> u32 {
        self.lens[set]
    }

    /// Returns a set with all numbers modulo 64, as bits.
    pub(super) fn folded(&self, set: usize) -> u64 {
        self.block_words(set)
            .flatten()
            .fold(0, |all, word| all | word)
    }

    /// Returns a number that those in one set or the other are no fewer than.
    pub(super) fn least_joined_len(&self, a: usize, b: usize) -> u32 {
        let blocks = self.counts(a).iter().zip(self.counts(b));
        blocks.map(|(a, b)| u32::from(*a.max(b))).sum()
    }

    /// Returns how many numbers are in one set or the other; `None` if they
    /// are more than `limit`.
    pub(super) fn joined_len(&self, a: usize, b: usize, limit: u32) -> Option<u32> {
        let mut least = self.least_joined_len(a, b);
        let counts = self.counts(a).iter().zip(self.counts(b));
        let blocks = self.block_words(a).zip(self.block_words(b));
        for ((a_count, b_count), (a, b)) in counts.zip(blocks) {
            if least > limit {
                return None;
            }
            if *a_count.min(b_count) > 0 {
                let ones: u32 = a.iter().zip(b).map(|(a, b)| (a | b).count_ones()).sum();
                least += ones - u32::from(*a_count.max(b_count));
            }
        }
        (least <= limit).then_some(least)
    }

    /// Returns the set as bits, all sets at the same length.
    pub(super) fn words(&self, set: usize) -> &[u64] {
        let width = self.blocks * BLOCK_WORDS;
        &self.words[set * width..][..width]
    }

    fn counts(&self, set: usize) -> &[u16] {
        &self.counts[set * self.blocks..][..self.blocks]
    }

    fn block_words(&self, set: usize) -> impl Iterator<Item = &[u64]> {
        let width = self.blocks * BLOCK_WORDS;
        let row: Range<usize> = set * width..(set + 1) * width;
        self.words[row].chunks_exact(BLOCK_WORDS)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn made(members: &[BTreeSet<usize>], end: usize) -> Sets {
        let mut sets = Sets::new(members.len(), end);
        for (set, members) in members.iter().enumerate() {
            for member in members {
                sets.insert(set, *member);
                sets.insert(set, *member);
            }
        }
        sets
    }

    #[test]
    fn sets_of_nothing_are_empty() {
        let mut sets = Sets::new(2, 0);
        sets.join(0, 1);
        assert_eq!((sets.len(0), sets.joined_len(0, 1, 0)), (0, Some(0)));
    }

    #[test]
    fn a_block_may_be_full() {
        let full: BTreeSet<usize> = (0..1024).collect();
        let sets = made(&[full, [5].into()], 1024);
        assert_eq!(sets.len(0), 1024);
        assert_eq!(sets.joined_len(0, 1, 1024), Some(1024));
        assert_eq!(sets.joined_len(0, 1, 1023), None);
    }

    proptest! {
        #[test]
        fn sets_count_as_sets_do(
            a in prop::collection::btree_set(0usize..1300, 0..200),
            b in prop::collection::btree_set(0usize..1300, 0..200),
            limit in 0u32..500,
        ) {
            let joined = a.union(&b).count() as u32;
            let mut sets = made(&[a.clone(), b], 1300);
            prop_assert_eq!(sets.len(0), a.len() as u32);
            let expected = (joined <= limit).then_some(joined);
            prop_assert_eq!(sets.joined_len(0, 1, limit), expected);
            prop_assert_eq!(sets.joined_len(1, 0, limit), expected);
            prop_assert!(sets.least_joined_len(0, 1) <= joined);
            let folded = a.iter().fold(0, |all, number| all | 1 << (number % 64));
            prop_assert_eq!(sets.folded(0), folded);
            sets.join(1, 0);
            prop_assert_eq!(sets.len(1), joined);
            prop_assert_eq!(sets.joined_len(0, 1, u32::MAX), Some(joined));
        }
    }
}
