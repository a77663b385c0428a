//! Numbers that look random and are the same for ever: SplitMix64.
//!
//! `rand`'s `StdRng` and `SmallRng` reserve the right to change their algorithm with a version, and then a seed written in a report would
//! give other data. These few lines cannot change under us. Source: Steele, Lea & Flood, "Fast splittable pseudorandom number generators",
//! OOPSLA 2014.

/// A stream of random numbers.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The stream number `stream` of `seed`: tasks that share a seed take one each, so the order in which they run does not matter.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        // Both are mixed first: plain `seed + stream` would make one stream the other one, moved by a step.
        Self(Self(seed).bits() ^ Self(!stream).bits().rotate_left(32))
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least 0 and below 1, with 53 random bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// At least 0 and below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_published_generator() {
        let mut random = Random(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423, 4_593_380_528_125_082_431];
        assert_eq!(expected.map(|_| random.bits()), expected);
    }

    #[test]
    fn streams_differ_and_repeat() {
        let first: Vec<u64> = (0..100).map(|stream| Random::new(7, stream).bits()).collect();
        assert_eq!(first, (0..100).map(|stream| Random::new(7, stream).bits()).collect::<Vec<_>>());
        assert_eq!(first.iter().collect::<std::collections::BTreeSet<_>>().len(), 100);
    }

    #[test]
    fn stays_in_its_range() {
        let mut random = Random::new(0, 0);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&random.unit())));
        assert!((0..1000).all(|_| random.below(3) < 3));
    }
}
