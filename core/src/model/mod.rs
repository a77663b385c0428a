//! What things cost on this machine: measured times of code ([`ExecutionModel`]) and of transfers ([`LinkModel`]), and the file in which they are kept ([`Store`]).
//!
//! Nothing in here reads a clock or draws random numbers, but for the store nothing reads files: whoever measures passes times on, in nanoseconds, and a simulator
//! does it under its own time.
//!
//! ```
//! use poniard::model::{CodeId, EstimateSource, ExecutionModel, Measurement, ProcessorClass};
//!
//! let model = ExecutionModel::new(2);
//! // Found once, and kept at hand.
//! let blur = model.resolve(&CodeId::new("blur", 7), &ProcessorClass::new("cpu"));
//! assert_eq!(blur.estimate(4096).source, EstimateSource::Unknown);
//! blur.record(4096, Measurement { wall_ns: 20_000, cpu_ns: None });
//! assert_eq!(blur.estimate(4096).mean_ns, 20_000);
//! ```

mod curve;
mod execution;
mod fit;
mod link;
mod machine;
mod size_class;
mod statistics;
pub mod store;
mod text;

pub use curve::{Estimate, EstimateSource};
pub use execution::{CodeId, CodeModel, ExecutionModel, Measurement, ProcessorClass, WALL_NS_MAX};
pub use link::{DEFAULT_BYTE_NS, DEFAULT_LATENCY_NS, Link, LinkModel};
pub use machine::Machine;
pub use size_class::SizeClass;
pub use statistics::{Summary, WARM_COUNT, is_warm};
pub use store::{Models, Store, StoreError, StoreErrorKind};
pub use text::{Kept, KeptCurve};

#[cfg(test)]
mod tests {
    //! Costs with noise, from a seed.

    /// A source of noise: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
    pub(super) struct Noise(u64);

    impl Noise {
        pub(super) fn new(seed: u64) -> Self {
            Self(seed)
        }

        /// At least 0 and less than 1.
        pub(super) fn share(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        }

        /// `mean` with a deviation of this share of it, nearly normal: the sum of twelve.
        pub(super) fn around(&mut self, mean: f64, deviation: f64) -> u64 {
            let normal = (0..12).map(|_| self.share()).sum::<f64>() - 6.0;
            (mean * (1.0 + deviation * normal)).round().max(1.0) as u64
        }
    }
}
