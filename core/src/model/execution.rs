//! What code costs: measured time for each kernel or function, class of processors and class of sizes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::curve::{Curve, Estimate, EstimateSource};
use super::fit::Shape;
use super::statistics::Summary;

/// Nothing takes longer, in nanoseconds: a day. A clock has jumped.
pub const WALL_NS_MAX: u64 = 86_400_000_000_000;
/// Clocks of wall and CPU time are read one after the other, so they may disagree by so many nanoseconds.
const CLOCKS_APART_NS: u64 = 20_000;

/// Code whose cost is measured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CodeId {
    /// What users call the kernel or function.
    pub name: Arc<str>,
    /// A hash of what it does, such as its source: other code of the same name has other costs.
    pub identity: u64,
}

impl CodeId {
    /// The code of this name and identity.
    #[must_use]
    pub fn new(name: &str, identity: u64) -> Self {
        Self { name: name.into(), identity }
    }
}

/// Processors on which code costs the same: `cpu`, `process`, `vulkan:` and a device's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessorClass(Arc<str>);

impl ProcessorClass {
    /// The class of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProcessorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What it took to run something once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// From its beginning to its end, in nanoseconds.
    pub wall_ns: u64,
    /// CPU time of the thread that ran it, in nanoseconds, where that is known: devices have none, and parts of a body that others run are not in it.
    pub cpu_ns: Option<u64>,
}

/// What is known of all code.
#[derive(Debug)]
pub struct ExecutionModel {
    codes: RwLock<BTreeMap<(CodeId, ProcessorClass), Arc<CodeModel>>>,
    thread_count: u64,
}

impl ExecutionModel {
    /// Nothing is known yet. CPU time may be so many times wall time.
    #[must_use]
    pub fn new(thread_count: usize) -> Self {
        Self { codes: RwLock::default(), thread_count: thread_count.max(1) as u64 }
    }

    /// What is known of `code` on processors of `class`, to be kept at hand: finding it takes a search among names. It is noted as in use, so it stays in the file.
    #[must_use]
    pub fn resolve(&self, code: &CodeId, class: &ProcessorClass) -> Arc<CodeModel> {
        let model = self.entry(code, class);
        model.generation.store(CodeModel::IN_USE, Ordering::Relaxed);
        model
    }

    pub(crate) fn entry(&self, code: &CodeId, class: &ProcessorClass) -> Arc<CodeModel> {
        let key = (code.clone(), class.clone());
        if let Some(model) = self.codes.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(model);
        }
        let mut codes = self.codes.write().unwrap_or_else(PoisonError::into_inner);
        let new = || CodeModel { curve: Curve::new(Shape::Power), thread_count: self.thread_count, generation: AtomicU64::new(0) };
        Arc::clone(codes.entry(key).or_insert_with(|| Arc::new(new())))
    }

    /// All that is known, in the order of names.
    #[must_use]
    pub fn codes(&self) -> Vec<(CodeId, ProcessorClass, Arc<CodeModel>)> {
        let codes = self.codes.read().unwrap_or_else(PoisonError::into_inner);
        codes.iter().map(|((code, class), model)| (code.clone(), class.clone(), Arc::clone(model))).collect()
    }
}

/// What is known of some code on a class of processors. Threads may record and estimate at once: see `curve.rs`.
#[derive(Debug)]
pub struct CodeModel {
    pub(crate) curve: Curve,
    thread_count: u64,
    /// When it was last used, in generations of the file; or that it is in use now.
    generation: AtomicU64,
}

impl CodeModel {
    const IN_USE: u64 = u64::MAX;

    /// Takes a measurement with arguments of `bytes` in total. One that cannot be is counted and left out: nothing takes no time, or more than a day, or more CPU
    /// time than there are threads for.
    pub fn record(&self, bytes: u64, measurement: Measurement) {
        let Measurement { wall_ns, cpu_ns } = measurement;
        let cpu_ns_max = wall_ns.saturating_mul(self.thread_count).saturating_add(CLOCKS_APART_NS);
        if wall_ns == 0 || wall_ns > WALL_NS_MAX || cpu_ns.is_some_and(|cpu_ns| cpu_ns > cpu_ns_max) {
            return self.curve.refuse();
        }
        self.curve.record(bytes, wall_ns, cpu_ns);
    }

    /// What it costs with arguments of `bytes` in total. Where nothing is known the mean is 0.
    #[inline]
    #[must_use]
    pub fn estimate(&self, bytes: u64) -> Estimate {
        let estimate = self.curve.estimate(bytes, |bytes| bytes);
        match estimate.source {
            EstimateSource::Unknown => Estimate { mean_ns: 0, spread_ns: 0, ..estimate },
            _ => estimate,
        }
    }

    /// The size classes that are known, in the order of their sizes.
    #[must_use]
    pub fn summaries(&self) -> Vec<Summary> {
        self.curve.summaries()
    }

    /// How often costs have changed so much that a class was learnt anew.
    #[must_use]
    pub fn drift_count(&self) -> u64 {
        self.curve.drift_count()
    }

    /// How many measurements were refused.
    #[must_use]
    pub fn refused_count(&self) -> u64 {
        self.curve.refused_count()
    }

    /// How many measurements were left out because other threads were in the way.
    #[must_use]
    pub fn skipped_count(&self) -> u64 {
        self.curve.skipped_count()
    }

    /// When it was last used, if `now` is the file's generation.
    pub(crate) fn generation(&self, now: u64) -> u64 {
        match self.generation.load(Ordering::Relaxed) {
            Self::IN_USE => now,
            then => then,
        }
    }

    /// Notes when it was last used, unless it is in use.
    pub(crate) fn set_generation(&self, generation: u64) {
        let _ = self.generation.compare_exchange(0, generation, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::Noise;
    use super::*;

    fn model() -> Arc<CodeModel> {
        ExecutionModel::new(2).resolve(&CodeId::new("k", 1), &ProcessorClass::new("cpu"))
    }

    fn record(model: &CodeModel, bytes: u64, wall_ns: u64) {
        model.record(bytes, Measurement { wall_ns, cpu_ns: None });
    }

    #[test]
    fn each_code_and_class_is_known_apart() {
        let all = ExecutionModel::new(1);
        let keys = [("a", 1, "cpu"), ("a", 2, "cpu"), ("b", 1, "cpu"), ("a", 1, "vulkan:x")];
        for (index, (name, identity, class)) in keys.into_iter().enumerate() {
            record(&all.resolve(&CodeId::new(name, identity), &ProcessorClass::new(class)), 10, 100 + index as u64);
        }
        for (index, (name, identity, class)) in keys.into_iter().enumerate() {
            let found = all.resolve(&CodeId::new(name, identity), &ProcessorClass::new(class)).estimate(10);
            assert_eq!((found.mean_ns, found.count, found.source), (100 + index as u64, 1, EstimateSource::Measured));
        }
        assert_eq!(all.codes().len(), 4);
    }

    #[test]
    fn twenty_measurements_are_enough() {
        // Smooth costs of several orders, 5 % noise, tenfold outliers in one of fifty; sizes again and again, and sizes that are never the same.
        type Cost = fn(f64) -> f64;
        let costs: [Cost; 5] =
            [|_| 40_000.0, |n| n + 2000.0, |n| 1e-3 * n.powf(1.5) + 500.0, |n| 30.0 * n.sqrt(), |n| 0.02 * n * (n + 2.0).ln() + 9000.0];
        for vary in [false, true] {
            let mut errors = Vec::new();
            for seed in 0..40 {
                for cost in costs {
                    let (model, mut noise) = (model(), Noise::new(1000 + seed));
                    let base = 1u64 << (10 + seed % 12);
                    let size = |noise: &mut Noise| if vary { base + (noise.share() * 15.0 * base as f64) as u64 } else { base };
                    for _ in 0..20 {
                        let bytes = size(&mut noise);
                        let outlier = if noise.share() < 0.02 { 10.0 } else { 1.0 };
                        record(&model, bytes, noise.around(outlier * cost(bytes as f64), 0.05));
                    }
                    let bytes = size(&mut noise);
                    errors.push((model.estimate(bytes).mean_ns as f64 / cost(bytes as f64) - 1.0).abs());
                }
            }
            errors.sort_by(f64::total_cmp);
            let (median, most) = (errors[errors.len() / 2], errors[errors.len() * 95 / 100]);
            assert!(median <= if vary { 0.1 } else { 0.02 } && most < 0.5, "{median}, {most}");
        }
    }

    #[test]
    fn sizes_between_and_beyond_are_estimated_and_say_so() {
        use EstimateSource::{Fitted, Interpolated, Measured, Scaled, Unknown};
        let model = model();
        let check = |bytes, source, mean_ns: u64, count| {
            let found = model.estimate(bytes);
            assert_eq!((found.source, found.count), (source, count), "{found:?}");
            assert!(found.mean_ns.abs_diff(mean_ns) <= mean_ns / 20, "{found:?} is not near {mean_ns}");
            found
        };
        check(1000, Unknown, 0, 0);
        (0..10).for_each(|_| record(&model, 1 << 20, 1 << 20));
        assert_eq!(check(1 << 20, Measured, 1 << 20, 10).spread_ns, 0);
        check((1 << 20) + 1000, Measured, (1 << 20) + 1000, 10);
        // In proportion, or constant: the spread has both.
        assert_eq!(check(1 << 22, Scaled, 1 << 22, 10).spread_ns, 3 << 20);
        assert_eq!(check(1 << 19, Scaled, 1 << 19, 10).spread_ns, 1 << 19);
        (0..5).for_each(|_| record(&model, 1 << 14, 1 << 14));
        check(1 << 17, Interpolated, 1 << 17, 5);
        check(1 << 23, Scaled, 1 << 23, 10);
        (0..5).for_each(|_| record(&model, 1 << 12, 1 << 12));
        let found = check(1 << 23, Fitted, 1 << 23, 10);
        assert!(found.spread_ns < found.mean_ns / 3, "{found:?}");
        check(1 << 10, Fitted, 1 << 10, 5);
        // Nothing at all is a class of its own.
        record(&model, 0, 300);
        check(0, Measured, 300, 1);
    }

    #[test]
    fn measurements_that_cannot_be_are_refused_and_counted() {
        let model = model();
        record(&model, 8, 0);
        record(&model, 8, u64::MAX);
        record(&model, 8, WALL_NS_MAX + 1);
        model.record(8, Measurement { wall_ns: 1_000_000, cpu_ns: Some(2_100_000) });
        model.record(8, Measurement { wall_ns: 10, cpu_ns: Some(u64::MAX) });
        assert_eq!((model.refused_count(), model.summaries().len()), (5, 0));
        record(&model, 8, WALL_NS_MAX);
        model.record(8, Measurement { wall_ns: 1_000_000, cpu_ns: Some(2_000_000) });
        model.record(8, Measurement { wall_ns: 100, cpu_ns: Some(5000) });
        assert_eq!((model.refused_count(), model.estimate(8).count), (5, 3));
    }

    #[test]
    fn drift_is_counted() {
        let model = model();
        (0..100).for_each(|_| record(&model, 8, 1000));
        (0..100).for_each(|_| record(&model, 8, 5000));
        assert_eq!((model.drift_count(), model.estimate(8).mean_ns), (1, 5000));
    }

    #[test]
    fn many_threads_record_and_estimate() {
        let model = model();
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let model = &model;
                scope.spawn(move || {
                    for index in 0..2000 {
                        let bytes = 1 << (10 + (index + thread) % 5);
                        record(model, bytes, bytes);
                        let found = model.estimate(bytes);
                        assert!(found.source == EstimateSource::Unknown || found.mean_ns > 0);
                    }
                });
            }
        });
        let count: u64 = model.summaries().iter().map(|summary| summary.count).sum();
        assert_eq!((count + model.skipped_count(), model.drift_count(), model.estimate(1 << 12).mean_ns), (8000, 0, 1 << 12));
    }

    proptest! {
        #[test]
        fn larger_is_never_cheaper_where_it_never_was(
            // Sizes with the costs that each adds, and how often it was measured.
            steps in prop::collection::btree_map(0u64..1 << 40, (0u64..1 << 30, 1usize..5), 1..12),
            mut asked in prop::collection::vec(0u64..1 << 44, 2..20),
        ) {
            let model = model();
            let mut cost = 1;
            for (bytes, (more, count)) in &steps {
                cost += more;
                (0..*count).for_each(|_| record(&model, *bytes, cost));
            }
            asked.extend(steps.keys().flat_map(|bytes| [*bytes, bytes + 1, bytes / 8 * 9]));
            asked.sort_unstable();
            let found: Vec<_> = asked.iter().map(|bytes| model.estimate(*bytes).mean_ns).collect();
            prop_assert!(found.is_sorted(), "{:?}", asked.iter().zip(found).collect::<Vec<_>>());
        }
    }
}
