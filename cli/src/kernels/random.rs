//! Random numbers that are the same on every machine and in every version: the random kernels' values are part of their contract.

/// SplitMix64. Source: Steele, Lea & Flood, OOPSLA 2014. Written here because no generator of `rand` promises its values
/// across versions.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// The generator of one stream of one seed.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        // Two rounds, so that neither neighbouring seeds nor neighbouring streams give shifted copies of one sequence.
        let mut mixed = Self { state: seed };
        let base = mixed.next_u64();
        let mut mixed = Self { state: base ^ stream };
        Self { state: mixed.next_u64() }
    }

    /// The next 64 bits.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number, uniform in 0 to 1, 1 excluded.
    pub(crate) fn next_unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// The next number of the standard normal distribution, by Box and Muller's transform.
    pub(crate) fn next_normal(&mut self) -> f64 {
        // 1 - u lies in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.next_unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.next_unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The published values for state 1234567.
        let mut generator = SplitMix64 { state: 1_234_567 };
        assert_eq!(generator.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(generator.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn seeds_and_streams_differ() {
        let first = |seed, stream| SplitMix64::new(seed, stream).next_u64();
        assert_eq!(first(1, 2), first(1, 2));
        assert_ne!(first(1, 2), first(2, 1));
        assert_ne!(first(0, 0), first(0, 1));
        let mut generator = SplitMix64::new(0, 0);
        let values: Vec<f64> = (0..10_000).map(|_| generator.next_normal()).collect();
        let mean = values.iter().sum::<f64>() / 10_000.0;
        assert!(mean.abs() < 0.05, "{mean}");
    }
}
