//! What a layer is expected to cost.

/// What a layer costs from one release to the next: its bytes and an overhead,
/// if it changes, times the chance that it does.
///
/// Only `+ - * /` in a fixed order, so that it is the same on every machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Model {
    /// How many paths must be able to change a layer for an even chance that it
    /// changes from one release to the next.
    even: f64,
    /// What a layer costs beside its bytes, in bytes: requests, and files around
    /// it.
    pub(super) overhead: f64,
}

/// A path alone changes once in about 30 releases. Anything from 10 to 100 gives
/// much the same plans, and so does an overhead from nothing to 256 KiB.
const USUAL: Model = Model {
    even: 30.0,
    overhead: 65536.0,
};

/// In a closure of many hundreds of paths nearly every layer would be as good as
/// sure to change, and plans would not tell one that a tenth of all paths can
/// change from one that half of them can: a release that changes little would
/// move much all the same. There are many more paths than layers, so that small
/// ones may go together sooner and leave layers to the large ones.
const LARGE: Model = Model {
    even: 100.0,
    overhead: 524_288.0,
};

/// From how many paths on a closure is large.
const MANY_PATHS: usize = 512;

impl Model {
    /// Returns the model for a closure of so many paths.
    pub(super) fn of_closure(paths: usize) -> Self {
        if paths < MANY_PATHS { USUAL } else { LARGE }
    }

    /// Returns the chance that a layer has changed which that many paths can
    /// change. It grows with their number.
    ///
    /// With changes of equal rate and an exponentially distributed time between
    /// two releases, this is the exact chance that one of them or more happened.
    pub(super) fn chance(self, changed_by: u32) -> f64 {
        let changed_by = f64::from(changed_by);
        changed_by / (changed_by + self.even)
    }

    /// Returns what a layer costs.
    pub(super) fn cost(self, size: u64, changed_by: u32) -> f64 {
        (size as f64 + self.overhead) * self.chance(changed_by)
    }

    /// Returns how many paths can change a layer with at most this chance; no
    /// limit if it is sure.
    pub(super) fn most(self, chance: f64) -> u32 {
        if chance >= 1.0 {
            return u32::MAX;
        }
        // Fewer than none become 0.
        (self.even * chance / (1.0 - chance)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_is_even_at_thirty_paths_and_at_a_hundred_of_many() {
        for (paths, even) in [(0, 30), (511, 30), (512, 100), (20_000, 100)] {
            let model = Model::of_closure(paths);
            let chances = [0, even, 9 * even].map(|r| model.chance(r));
            assert_eq!(chances, [0.0, 0.5, 0.9]);
        }
        assert_eq!(Model::of_closure(1).cost(34_464, 30), 50_000.0);
        assert_eq!(Model::of_closure(512).cost(75_712, 100), 300_000.0);
    }

    #[test]
    fn the_most_paths_have_no_smaller_chance() {
        for model in [USUAL, LARGE] {
            for r in 0..2_000 {
                let most = model.most(model.chance(r) + 1e-12);
                assert!(most == r || most == r + 1, "{r}: {most}");
            }
            assert_eq!(model.most(1.0), u32::MAX);
            assert_eq!(model.most(-0.5), 0);
        }
    }
}
