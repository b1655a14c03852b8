//! Numbers from a seed.

/// A stream of numbers that look random and depend on the seed alone.
///
/// The algorithm is SplitMix64 (Steele, Lea, Flood, 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Begins the stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    /// Returns a number below `end`, which is not 0; small ones are likelier,
    /// as with the words of a language or the paths that others refer to.
    pub fn skewed(&mut self, end: usize) -> usize {
        let unit = (self.number() >> 11) as f64 / (1u64 << 53) as f64;
        ((unit * unit * unit * end as f64) as usize).min(end - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_numbers() {
        let mut random = Random::new(1);
        assert_eq!(random.number(), 0x910a_2dec_8902_5cc1);
        let mut random = Random::new(7);
        let small = (0..1000).filter(|_| random.skewed(100) < 13).count();
        assert!((400..600).contains(&small), "{small} of 1000");
    }
}
