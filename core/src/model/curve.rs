//! What something costs at each size: the statistics of size classes, and what they say of the sizes between and beyond them.
//!
//! Between two classes the estimate lies on the line through their means, or where they are far apart on the power law through them; beyond them all it follows
//! a law that is fitted to them ([`super::fit`]), from the outermost mean on. So where larger sizes have larger means, estimates never fall as sizes grow.
//!
//! A curve has one lock. Whoever estimates shares it, and holds it for some tens of nanoseconds, so no estimate waits for another one. Whoever records tries for it,
//! and gives the measurement up when others are in the way: a measurement more or less says nothing, and a worker that waits costs more than it. Statistics as
//! atomics would need one for each size class there may be, or a way to free what grows; this needs neither.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use super::fit::{Fit, Shape};
use super::size_class::SizeClass;
use super::statistics::{Statistics, Summary};

/// How often a measurement tries for the lock.
const TRIES_MAX: usize = 64;
/// Classes whose sizes differ by more than this factor have a power law between them.
const NEAR: f64 = 2.0;
/// What a law is wrong by, of what it adds to a mean or takes away.
const LAW_ERROR: f64 = 0.1;
/// What a mean between two others is wrong by, of their distance.
const BETWEEN_ERROR: f64 = 0.25;

/// Where an estimate comes from. The later ones are worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum EstimateSource {
    /// This size class was measured.
    Measured,
    /// A smaller and a larger one were.
    Interpolated,
    /// A law that several classes agree with.
    Fitted,
    /// The nearest class, scaled: too few are known for a law.
    Scaled,
    /// Nothing was measured. The mean is a default: none for code, an ordinary link for a link.
    Unknown,
}

/// What something is expected to cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The mean, in nanoseconds.
    pub mean_ns: u64,
    /// How far from it one time is on average, and what the estimate itself may be wrong by, in nanoseconds.
    pub spread_ns: u64,
    /// How many measurements are behind it: those of the class, of the lesser known one of two, or of the nearest.
    pub count: u64,
    /// Where it comes from.
    pub source: EstimateSource,
}

/// The costs of one thing.
#[derive(Debug)]
pub(crate) struct Curve {
    shape: Shape,
    classes: RwLock<Classes>,
    /// Measurements that cannot be.
    refused_count: AtomicU64,
    /// Measurements that found the lock taken.
    skipped_count: AtomicU64,
}

#[derive(Debug, Default)]
struct Classes {
    /// In their order. Few, so a search among them is short.
    known: Vec<Class>,
    /// The law, and the stamp of what it was fitted to.
    law: Option<(Stamp, Option<Fit>)>,
    /// All measurements.
    total_count: u64,
    drift_count: u64,
}

/// How much was known when a law was fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    class_count: usize,
    drift_count: u64,
    total_count: u64,
}

#[derive(Debug)]
struct Class {
    size: SizeClass,
    statistics: Statistics,
    /// What the file last had, as far as is known here.
    file_count: u64,
    /// Measurements that the file does not have.
    new_count: u64,
    /// Whether there was drift since: then what the file has is not true any more.
    is_relearnt: bool,
}

/// A class on its way to the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fresh {
    pub(crate) size: SizeClass,
    pub(crate) summary: Summary,
    file_count: u64,
    new_count: u64,
    is_relearnt: bool,
}

impl Fresh {
    /// Whether the file lacks something.
    pub(crate) fn is_new(&self) -> bool {
        self.new_count > 0
    }

    /// What the file shall have, that has `found` now.
    pub(crate) fn over(&self, found: Option<&Summary>) -> Option<Summary> {
        match found {
            // What somebody took out of the file stays out, until it is measured again.
            None => (self.new_count > 0).then_some(self.summary),
            Some(found) if self.new_count == 0 => Some(*found),
            Some(found) if self.is_relearnt || found.count == self.file_count => Some(self.summary),
            Some(found) => Some(found.merge(&Summary { count: self.new_count, ..self.summary })),
        }
    }
}

impl Curve {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { shape, classes: RwLock::default(), refused_count: AtomicU64::new(0), skipped_count: AtomicU64::new(0) }
    }

    // A panic in here is a bug, and leaves statistics that are no worse than measurements.
    fn read(&self) -> RwLockReadGuard<'_, Classes> {
        self.classes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Classes> {
        self.classes.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_write(&self) -> Option<RwLockWriteGuard<'_, Classes>> {
        match self.classes.try_write() {
            Ok(classes) => Some(classes),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Counts a measurement that cannot be.
    pub(crate) fn refuse(&self) {
        self.refused_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a measurement, which is not zero.
    pub(crate) fn record(&self, bytes: u64, wall_ns: u64, cpu_ns: Option<u64>) {
        for _ in 0..TRIES_MAX {
            if let Some(mut classes) = self.try_write() {
                return classes.record(bytes, wall_ns, cpu_ns);
            }
            spin_loop();
        }
        self.skipped_count.fetch_add(1, Ordering::Relaxed);
    }

    /// What so many bytes cost. Where nothing is known, `default` says what a size costs; where little is, how costs grow.
    #[inline]
    pub(crate) fn estimate(&self, bytes: u64, default: impl Fn(f64) -> f64) -> Estimate {
        let size = bytes as f64;
        let classes = self.read();
        let at = classes.known.binary_search_by_key(&SizeClass::of(bytes), |class| class.size);
        let own_count = at.ok().map(|index| classes.known[index].statistics.count());
        // The nearest on both sides; the class itself is on either.
        let above = match at {
            Ok(index) if classes.known[index].statistics.bytes() <= size => index + 1,
            Ok(index) | Err(index) => index,
        };
        let below = above.checked_sub(1).and_then(|index| classes.known.get(index));
        match (below, classes.known.get(above)) {
            (Some(low), _) if own_count.is_some() && low.statistics.bytes() == size => low.as_it_is(),
            (Some(low), Some(high)) => between(low, high, size, own_count),
            (Some(nearest), None) | (None, Some(nearest)) => {
                let nearest = nearest.as_it_is_at();
                let law = classes.fresh_law();
                drop(classes);
                self.beyond(nearest, size, own_count.is_some(), law.unwrap_or_else(|| self.fit()), default)
            }
            (None, None) => {
                let mean_ns = default(size).round() as u64;
                Estimate { mean_ns, spread_ns: mean_ns, count: 0, source: EstimateSource::Unknown }
            }
        }
    }

    /// What `size` costs, when `from` is the nearest class and there is none on its other side.
    #[cold]
    fn beyond(&self, from: (f64, Estimate), size: f64, is_measured: bool, law: Option<Fit>, default: impl Fn(f64) -> f64) -> Estimate {
        let (from_size, from) = from;
        let (ratio, source) = match law {
            Some(law) => (law.at(size) / law.at(from_size), EstimateSource::Fitted),
            None => (default(size) / default(from_size), EstimateSource::Scaled),
        };
        // From a size that costs nothing there is no way to one that costs something.
        let ratio = if ratio.is_finite() { ratio } else { 1.0 };
        let from_ns = from.mean_ns as f64;
        let mean_ns = from_ns * ratio;
        let spread_ns = from.spread_ns as f64 * ratio;
        let error_ns = match law {
            _ if is_measured => 0.0,
            Some(law) => law.error * mean_ns + LAW_ERROR * (mean_ns - from_ns).abs(),
            // It may as well be constant.
            None => (mean_ns - from_ns).abs(),
        };
        let source = if is_measured { EstimateSource::Measured } else { source };
        Estimate { mean_ns: (mean_ns.round() as u64).max(1), spread_ns: (spread_ns + error_ns).round() as u64, source, ..from }
    }

    /// Fits the law, and keeps it if nobody is in the way.
    #[cold]
    fn fit(&self) -> Option<Fit> {
        let (stamp, summaries) = {
            let classes = self.read();
            (classes.stamp(), classes.summaries())
        };
        let least = match self.shape {
            Shape::Power => 3,
            Shape::Line => 2,
        };
        let law = if summaries.len() < least { None } else { Fit::of(&summaries, self.shape) };
        if let Some(mut classes) = self.try_write() {
            classes.law = Some((stamp, law));
        }
        law
    }

    /// The law of all that is known by now.
    pub(crate) fn law(&self) -> Option<Fit> {
        let fresh = self.read().fresh_law();
        fresh.unwrap_or_else(|| self.fit())
    }

    pub(crate) fn summaries(&self) -> Vec<Summary> {
        self.read().summaries()
    }

    pub(crate) fn drift_count(&self) -> u64 {
        self.read().drift_count
    }

    pub(crate) fn refused_count(&self) -> u64 {
        self.refused_count.load(Ordering::Relaxed)
    }

    pub(crate) fn skipped_count(&self) -> u64 {
        self.skipped_count.load(Ordering::Relaxed)
    }

    /// Takes what a file has. Classes of which there are measurements already are left as they are.
    pub(crate) fn load(&self, summaries: impl IntoIterator<Item = Summary>) {
        let mut classes = self.write();
        for summary in summaries {
            let size = SizeClass::of(summary.bytes);
            if let Err(at) = classes.find(size) {
                classes.total_count = classes.total_count.saturating_add(summary.count);
                let (statistics, file_count) = (Statistics::of(&summary), summary.count);
                classes.known.insert(at, Class { size, statistics, file_count, new_count: 0, is_relearnt: false });
            }
        }
    }

    /// What there is to keep.
    pub(crate) fn fresh(&self) -> Vec<Fresh> {
        let fresh = |class: &Class| Fresh {
            size: class.size,
            summary: class.statistics.summary(),
            file_count: class.file_count,
            new_count: class.new_count,
            is_relearnt: class.is_relearnt,
        };
        self.read().known.iter().map(fresh).collect()
    }

    /// Notes that the file has `kept` where `fresh` was given.
    pub(crate) fn kept(&self, fresh: &Fresh, kept: &Summary) {
        let mut classes = self.write();
        let Ok(at) = classes.find(fresh.size) else { return };
        let class = &mut classes.known[at];
        class.file_count = kept.count;
        class.new_count = class.new_count.saturating_sub(fresh.new_count);
        // What other programs found counts here as well, unless more was measured meanwhile: then the next time has to do.
        if class.new_count == 0 {
            class.is_relearnt = false;
            if *kept != fresh.summary {
                class.statistics = Statistics::of(kept);
            }
        }
    }
}

impl Class {
    /// The estimate for its mean size.
    #[inline]
    fn as_it_is(&self) -> Estimate {
        Estimate {
            mean_ns: self.statistics.mean_ns().round() as u64,
            spread_ns: self.statistics.deviation_ns().round() as u64,
            count: self.statistics.count(),
            source: EstimateSource::Measured,
        }
    }

    fn as_it_is_at(&self) -> (f64, Estimate) {
        (self.statistics.bytes(), self.as_it_is())
    }
}

/// What a size between those of two classes costs. If it is of one of them, that one has so many measurements.
fn between(low: &Class, high: &Class, size: f64, own_count: Option<u64>) -> Estimate {
    let (low, high) = (&low.statistics, &high.statistics);
    let share = (size - low.bytes()) / (high.bytes() - low.bytes());
    let mix = |a: f64, b: f64| a + (b - a) * share;
    let mean_ns = if low.bytes() > 0.0 && high.bytes() > NEAR * low.bytes() && low.mean_ns() > 0.0 {
        let exponent = (high.mean_ns() / low.mean_ns()).ln() / (high.bytes() / low.bytes()).ln();
        low.mean_ns() * (size / low.bytes()).powf(exponent)
    } else {
        mix(low.mean_ns(), high.mean_ns())
    };
    let (error_ns, count, source) = match own_count {
        Some(count) => (0.0, count, EstimateSource::Measured),
        None => (BETWEEN_ERROR * (high.mean_ns() - low.mean_ns()).abs(), low.count().min(high.count()), EstimateSource::Interpolated),
    };
    Estimate {
        mean_ns: mean_ns.round() as u64,
        spread_ns: (mix(low.deviation_ns(), high.deviation_ns()) + error_ns).round() as u64,
        count,
        source,
    }
}

impl Classes {
    fn find(&self, size: SizeClass) -> Result<usize, usize> {
        self.known.binary_search_by_key(&size, |class| class.size)
    }

    fn record(&mut self, bytes: u64, wall_ns: u64, cpu_ns: Option<u64>) {
        let size = SizeClass::of(bytes);
        let at = self.find(size).unwrap_or_else(|at| {
            self.known.insert(at, Class { size, statistics: Statistics::new(), file_count: 0, new_count: 0, is_relearnt: false });
            at
        });
        let class = &mut self.known[at];
        class.new_count += 1;
        self.total_count += 1;
        if class.statistics.record(bytes, wall_ns, cpu_ns) {
            class.is_relearnt = true;
            self.drift_count += 1;
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp { class_count: self.known.len(), drift_count: self.drift_count, total_count: self.total_count }
    }

    /// The law, unless much has become known since it was fitted: to fit one takes microseconds.
    fn fresh_law(&self) -> Option<Option<Fit>> {
        let (then, law) = self.law?;
        let now = self.stamp();
        let is_fresh = then == Stamp { total_count: then.total_count, ..now } && now.total_count <= then.total_count.saturating_mul(9) / 8;
        is_fresh.then_some(law)
    }

    fn summaries(&self) -> Vec<Summary> {
        self.known.iter().map(|class| class.statistics.summary()).collect()
    }
}
