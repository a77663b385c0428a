//! What is known of one size class: a mean that a few wild measurements do not ruin, and that follows when things have changed.
//!
//! *The first sixteen* measurements are kept, and each time the mean is made of all of them anew. It is a winsorised mean (Tukey and McLaughlin, "Less vulnerable
//! confidence and significance procedures for location based on a single sample", Sankhya A 25, 1963): the core is all but an eighth of the measurements, those
//! nearest to the median, and what is farther from the core's mean than eight times the core's mean absolute deviation is drawn in to there. So a first call that
//! pays for page faults is drawn in, and a second mode that an eighth or more of the measurements have is not: then the core has part of it, and its deviation
//! is large.
//!
//! *From then on* the mean moves by a share of what a measurement differs from it, again drawn in to eight mean absolute deviations (Gelper, Fried and Croux,
//! "Robust forecasting with exponential and Holt-Winters smoothing", Journal of Forecasting 29, 2010). The deviation is smoothed in the same way, of what was
//! drawn in; so it grows without bound, up to the true one, when more than an eighth of the measurements lie far away: a mode, and not outliers. The share is
//! that of a plain mean until 64 measurements, and constant from there on.
//!
//! *Drift* is noticed by cumulative sums of deviations, up and down (Page, "Continuous inspection schemes", Biometrika 41, 1954), in units of the mean absolute
//! deviation. One deviation a measurement is let pass, and four is the most that counts, so that outliers are forgotten as fast as they come. When a sum is beyond
//! the threshold, all but the measurements that made it so is forgotten. A cost with modes has a deviation as wide as they are apart, so it stays below. One that
//! stays in each of its modes for a while does not, at first: each drift doubles the threshold, until the sums no longer reach it and the mean is that of all modes.

/// So many measurements make something known well enough to decide by it.
pub const WARM_COUNT: u64 = 10;
/// So many are kept.
const RECENT_COUNT: usize = 16;
/// The mean is that of about so many of the last.
const MEMORY_COUNT: u64 = 64;
/// What is farther away, in mean absolute deviations, is drawn in; one in as many may be an outlier.
const FAR: f64 = 8.0;
/// The least that counts as a deviation, as a share of the mean: machines are not more even than that.
const FLOOR: f64 = 1.0 / 32.0;
/// What a measurement may deviate without adding to the sums.
const SLACK: f64 = 1.0;
/// The most that one measurement counts for.
const MOST: f64 = 4.0;
/// Where a sum is drift.
const THRESHOLD: f64 = 16.0;
/// Thresholds are doubled no more often.
const DOUBLINGS_MAX: u8 = 8;
/// After so many measurements without drift one doubling is taken back.
const QUIET_COUNT: u64 = 4096;

/// Whether so many measurements are enough to decide by.
#[must_use]
pub fn is_warm(count: u64) -> bool {
    count >= WARM_COUNT
}

/// What is known of one size class, as it is kept in files and shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// The mean size, in bytes.
    pub bytes: u64,
    /// How many measurements there were, since the last drift.
    pub count: u64,
    /// The mean, in nanoseconds.
    pub mean_ns: f64,
    /// The mean absolute deviation, in nanoseconds.
    pub spread_ns: f64,
    /// The least, in nanoseconds.
    pub least_ns: u64,
    /// CPU time as a share of wall time, where it was measured.
    pub cpu_share: Option<f64>,
}

impl Summary {
    /// Two views of one class, each with a weight for its means. The counts are added.
    #[must_use]
    pub(crate) fn merge(&self, other: &Self) -> Self {
        let weight = |summary: &Self| summary.count.clamp(1, MEMORY_COUNT) as f64;
        let (mine, theirs) = (weight(self), weight(other));
        let share = theirs / (mine + theirs);
        let mix = |a: f64, b: f64| a * (1.0 - share) + b * share;
        // Deviations within each, and that of the means from their mean.
        let apart = 2.0 * share * (1.0 - share) * (self.mean_ns - other.mean_ns).abs();
        Self {
            bytes: mix(self.bytes as f64, other.bytes as f64).round() as u64,
            count: self.count.saturating_add(other.count),
            mean_ns: mix(self.mean_ns, other.mean_ns),
            spread_ns: mix(self.spread_ns, other.spread_ns).max(apart),
            least_ns: self.least_ns.min(other.least_ns),
            cpu_share: match (self.cpu_share, other.cpu_share) {
                (Some(a), Some(b)) => Some(mix(a, b)),
                (a, b) => a.or(b),
            },
        }
    }
}

/// The running statistics of one size class.
#[derive(Clone, Debug)]
pub(crate) struct Statistics {
    count: u64,
    /// Of all that is not forgotten, in bytes.
    bytes: f64,
    mean_ns: f64,
    /// The mean absolute deviation of what was drawn in.
    deviation_ns: f64,
    least_ns: u64,
    cpu_share: Option<f64>,
    /// How many of `count` were made here; the others come from a file.
    made_count: u64,
    /// The last of those made here; the next one goes to `made_count % RECENT_COUNT`.
    recent: [u64; RECENT_COUNT],
    /// The sums of deviations above the mean and below, and of how many measurements each has been made since it was zero.
    sums: [(f64, u32); 2],
    /// How often the threshold has been doubled.
    doublings: u8,
    /// Measurements since the threshold was last changed.
    quiet_count: u64,
}

impl Statistics {
    /// Nothing is known.
    pub(crate) fn new() -> Self {
        Self {
            count: 0,
            bytes: 0.0,
            mean_ns: 0.0,
            deviation_ns: 0.0,
            least_ns: u64::MAX,
            cpu_share: None,
            made_count: 0,
            recent: [0; RECENT_COUNT],
            sums: [(0.0, 0); 2],
            doublings: 0,
            quiet_count: 0,
        }
    }

    /// What was known before.
    pub(crate) fn of(summary: &Summary) -> Self {
        Self {
            count: summary.count,
            bytes: summary.bytes as f64,
            mean_ns: summary.mean_ns,
            deviation_ns: summary.spread_ns,
            least_ns: summary.least_ns,
            cpu_share: summary.cpu_share,
            ..Self::new()
        }
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary {
            bytes: self.bytes.round() as u64,
            count: self.count,
            mean_ns: self.mean_ns,
            spread_ns: self.deviation_ns,
            least_ns: self.least_ns,
            cpu_share: self.cpu_share,
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn bytes(&self) -> f64 {
        self.bytes
    }

    pub(crate) fn mean_ns(&self) -> f64 {
        self.mean_ns
    }

    pub(crate) fn deviation_ns(&self) -> f64 {
        self.deviation_ns
    }

    /// Takes a measurement, and says whether it made everything before be forgotten.
    pub(crate) fn record(&mut self, bytes: u64, wall_ns: u64, cpu_ns: Option<u64>) -> bool {
        self.recent[self.made_count as usize % RECENT_COUNT] = wall_ns;
        self.made_count += 1;
        self.count += 1;
        let share = 1.0 / self.count.min(MEMORY_COUNT) as f64;
        self.bytes += (bytes as f64 - self.bytes) * share;
        self.least_ns = self.least_ns.min(wall_ns);
        if let Some(cpu_ns) = cpu_ns {
            let now = cpu_ns as f64 / wall_ns as f64;
            self.cpu_share = Some(self.cpu_share.map_or(now, |before| before + (now - before) * share));
        }
        // What a file says of fewer is outvoted.
        if self.made_count <= RECENT_COUNT as u64 && self.count - self.made_count < self.made_count {
            let mut all = self.recent;
            (self.mean_ns, self.deviation_ns) = winsorised(&mut all[..self.made_count as usize]);
            return false;
        }
        let wall = wall_ns as f64;
        let unit = floored(self.deviation_ns, self.mean_ns);
        let difference = wall - self.mean_ns;
        let drawn_in = difference.clamp(-FAR * unit, FAR * unit);
        let beyond = difference.clamp(-MOST * unit, MOST * unit) / unit;
        self.mean_ns += drawn_in * share;
        self.deviation_ns += (drawn_in.abs() - self.deviation_ns) * share;
        self.has_drifted(beyond)
    }

    /// Adds to the sums, and forgets what was before if one of them is too large.
    fn has_drifted(&mut self, beyond: f64) -> bool {
        for (sum, sign) in self.sums.iter_mut().zip([1.0, -1.0]) {
            let more = sum.0 + sign * beyond - SLACK;
            *sum = if more > 0.0 { (more, sum.1 + 1) } else { (0.0, 0) };
        }
        self.quiet_count += 1;
        if self.quiet_count >= QUIET_COUNT {
            self.doublings = self.doublings.saturating_sub(1);
            self.quiet_count = 0;
        }
        let threshold = THRESHOLD * f64::from(1u32 << self.doublings);
        let Some((_, since)) = self.sums.into_iter().find(|sum| sum.0 > threshold) else { return false };
        // Of the last ones, as many as the sum was made of.
        let kept = (since as usize).min(RECENT_COUNT);
        let from = self.made_count - kept as u64;
        let mut last: Vec<u64> = (from..self.made_count).map(|index| self.recent[index as usize % RECENT_COUNT]).collect();
        let before = std::mem::replace(self, Self::new());
        self.doublings = (before.doublings + 1).min(DOUBLINGS_MAX);
        self.bytes = before.bytes;
        self.cpu_share = before.cpu_share;
        self.recent[..kept].copy_from_slice(&last);
        (self.made_count, self.count) = (kept as u64, kept as u64);
        self.least_ns = last.iter().copied().min().unwrap_or(u64::MAX);
        (self.mean_ns, self.deviation_ns) = winsorised(&mut last);
        true
    }
}

/// A deviation that is not less than machines are even.
fn floored(deviation_ns: f64, mean_ns: f64) -> f64 {
    deviation_ns.max(mean_ns * FLOOR).max(f64::MIN_POSITIVE)
}

/// The mean and the mean absolute deviation of a few measurements, one at least, after what is far from their core has been drawn in.
fn winsorised(all: &mut [u64]) -> (f64, f64) {
    let mean = |some: &mut dyn ExactSizeIterator<Item = f64>| {
        let count = some.len() as f64;
        some.sum::<f64>() / count
    };
    all.sort_unstable();
    let median = all[(all.len() - 1) / 2];
    // The first call of anything is special, so one of three may be far already.
    let outliers_max = if all.len() >= 3 { (all.len() / FAR as usize).max(1) } else { 0 };
    all.sort_by_key(|ns| ns.abs_diff(median));
    let core = &all[..all.len() - outliers_max];
    let centre = mean(&mut core.iter().map(|ns| *ns as f64));
    let far = FAR * floored(mean(&mut core.iter().map(|ns| (*ns as f64 - centre).abs())), centre);
    let drawn_in = |ns: &u64| (*ns as f64).clamp(centre - far, centre + far);
    let middle = mean(&mut all.iter().map(drawn_in));
    (middle, mean(&mut all.iter().map(|ns| (drawn_in(ns) - middle).abs())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::Noise;
    use super::*;

    fn after(measurements: impl IntoIterator<Item = u64>) -> (Statistics, u64) {
        let mut statistics = Statistics::new();
        let drifts = measurements.into_iter().filter(|ns| statistics.record(1000, *ns, None)).count();
        (statistics, drifts as u64)
    }

    #[track_caller]
    fn check_near(found: f64, wanted: f64, share: f64) {
        assert!((found - wanted).abs() <= share * wanted, "{found} is not near {wanted}");
    }

    #[test]
    fn the_first_call_does_not_count_for_much() {
        for count in [2, 5, 9, 15, 19, 63, 200] {
            let (statistics, drifts) = after([50_000].into_iter().chain((0..count).map(|index| 1000 + index % 3)));
            check_near(statistics.mean_ns(), 1000.0, if count < 8 { 0.15 } else { 0.05 });
            assert_eq!((drifts, statistics.count()), (0, count + 1));
            assert_eq!(statistics.summary().least_ns, 1000);
        }
    }

    #[test]
    fn one_measurement_and_two() {
        let (one, _) = after([700]);
        assert_eq!((one.mean_ns(), one.deviation_ns()), (700.0, 0.0));
        let (two, _) = after([700, 900]);
        assert_eq!((two.mean_ns(), two.deviation_ns()), (800.0, 100.0));
    }

    #[test]
    fn outliers_do_not_ruin_the_mean_and_are_no_drift() {
        let mut noise = Noise::new(1);
        let (statistics, drifts) =
            after((0..20_000).map(|_| if noise.share() < 0.02 { 10_000_000 } else { noise.around(1_000_000.0, 0.05) }));
        check_near(statistics.mean_ns(), 1_000_000.0, 0.03);
        assert!(statistics.deviation_ns() < 150_000.0, "{}", statistics.deviation_ns());
        assert_eq!(drifts, 0);
        // A clock that jumps by an hour.
        let (statistics, drifts) = after((0..500).map(|index| if index % 100 == 50 { 3_600_000_000_000 } else { 1000 }));
        check_near(statistics.mean_ns(), 1000.0, 0.05);
        assert_eq!(drifts, 0);
    }

    #[test]
    fn modes_are_in_the_mean_and_in_the_spread_and_are_no_drift() {
        for (rare, seed) in [(0.5, 2), (0.3, 3), (0.2, 4)] {
            let mut noise = Noise::new(seed);
            let cost = |_| {
                let mode = if noise.share() < rare { 10_000_000.0 } else { 1_000_000.0 };
                noise.around(mode, 0.03)
            };
            let (statistics, drifts) = after((0..20_000).map(cost));
            let mean = 1_000_000.0 * (1.0 + 9.0 * rare);
            // The mean of the last 64 is that uneven.
            check_near(statistics.mean_ns(), mean, 0.45);
            assert!(statistics.deviation_ns() > 0.4 * mean, "{} of {mean}", statistics.deviation_ns());
            assert_eq!(drifts, 0, "{rare}");
        }
    }

    #[test]
    fn what_has_changed_is_learnt_anew() {
        for (before, now) in [(1_000_000.0, 3_000_000.0), (1_000_000.0, 1_400_000.0), (3_000_000.0, 1_000_000.0)] {
            let mut noise = Noise::new(5);
            let (mut statistics, drifts) = after((0..500).map(|_| noise.around(before, 0.05)));
            assert_eq!(drifts, 0);
            let drifts: Vec<_> = (0..100).filter(|_| statistics.record(1000, noise.around(now, 0.05), None)).collect();
            assert!(drifts.len() == 1 && drifts[0] < 12, "{drifts:?}");
            check_near(statistics.mean_ns(), now, 0.03);
            assert!(statistics.count() < 110 && statistics.summary().least_ns as f64 > now * 0.7);
        }
    }

    #[test]
    fn modes_that_last_are_drift_a_few_times_and_not_for_ever() {
        let mut noise = Noise::new(6);
        let mut cost = |index: u64| noise.around(if (index / 100).is_multiple_of(2) { 1_000_000.0 } else { 10_000_000.0 }, 0.03);
        let (mut statistics, first) = after((0..10_000).map(&mut cost));
        let second = (0..10_000).filter(|index| statistics.record(1000, cost(*index), None)).count();
        assert!((1..=12).contains(&first) && second <= 6, "{first} and {second} drifts");
    }

    #[test]
    fn what_was_kept_goes_on_where_it_was() {
        let mut noise = Noise::new(7);
        let (mut whole, _) = after((0..40).map(|_| noise.around(5000.0, 0.05)));
        let mut again = Statistics::of(&whole.summary());
        assert_eq!(again.summary(), whole.summary());
        for _ in 0..100 {
            let ns = noise.around(5000.0, 0.05);
            whole.record(1000, ns, None);
            again.record(1000, ns, None);
        }
        check_near(again.mean_ns(), whole.mean_ns(), 1e-9);
        assert_eq!(again.count(), 140);
        // Little was known, and it was wrong.
        let mut wrong = Statistics::of(&Summary { count: 3, mean_ns: 50_000.0, bytes: 1000, least_ns: 40_000, ..Summary::default() });
        (0..20).for_each(|_| _ = wrong.record(1000, noise.around(5000.0, 0.05), None));
        check_near(wrong.mean_ns(), 5000.0, 0.05);
    }

    #[test]
    fn cpu_time_is_a_share() {
        let mut statistics = Statistics::new();
        statistics.record(10, 1000, None);
        assert_eq!(statistics.summary().cpu_share, None);
        (0..200).for_each(|_| _ = statistics.record(10, 1000, Some(250)));
        check_near(statistics.summary().cpu_share.unwrap(), 0.25, 0.01);
    }

    #[test]
    fn views_are_merged_by_their_counts() {
        let view = |count, mean_ns, cpu_share| Summary { bytes: 100, count, mean_ns, spread_ns: 10.0, least_ns: mean_ns as u64, cpu_share };
        let merged = view(10, 1000.0, Some(0.5)).merge(&view(30, 2000.0, None));
        assert_eq!((merged.bytes, merged.count, merged.mean_ns, merged.least_ns, merged.cpu_share), (100, 40, 1750.0, 1000, Some(0.5)));
        assert_eq!(merged.spread_ns, 375.0, "two modes");
        let (old, new) = (view(1_000_000, 1000.0, None), view(64, 2000.0, None));
        assert_eq!(old.merge(&new).mean_ns, 1500.0, "what is long ago counts no more than what is remembered");
    }

    fn any_view() -> impl Strategy<Value = Summary> {
        let share = prop::option::of(0.0..2.0);
        (1u64..1000, any::<u64>(), 1.0..1e12, 0.0..1e12, any::<u64>(), share).prop_map(
            |(bytes, count, mean_ns, spread_ns, least_ns, cpu_share)| Summary { bytes, count, mean_ns, spread_ns, least_ns, cpu_share },
        )
    }

    proptest! {
        #[test]
        fn the_order_of_views_does_not_matter(a in any_view(), b in any_view()) {
            let (one, other) = (a.merge(&b), b.merge(&a));
            prop_assert_eq!((one.count, one.least_ns), (other.count, other.least_ns));
            prop_assert!(one.bytes.abs_diff(other.bytes) <= 1);
            let pairs = [(one.mean_ns, other.mean_ns), (one.spread_ns, other.spread_ns), (one.cpu_share.unwrap_or(0.0), other.cpu_share.unwrap_or(0.0))];
            prop_assert!(pairs.iter().all(|(x, y)| (x - y).abs() <= 1e-9 * x.abs().max(1.0)), "{:?} {:?}", one, other);
            prop_assert!(one.mean_ns >= a.mean_ns.min(b.mean_ns) * 0.999_999 && one.mean_ns <= a.mean_ns.max(b.mean_ns) * 1.000_001);
        }

        #[test]
        fn the_mean_is_among_what_was_measured(all in prop::collection::vec(1u64..1 << 46, 1..300)) {
            let mut statistics = Statistics::new();
            for ns in all.iter().copied() {
                statistics.record(1, ns, None);
                let summary = statistics.summary();
                prop_assert!(summary.mean_ns >= *all.iter().min().unwrap() as f64 * 0.999 && summary.mean_ns <= *all.iter().max().unwrap() as f64 * 1.001);
                prop_assert!(summary.spread_ns >= 0.0 && summary.spread_ns.is_finite() && summary.count >= 1);
            }
        }
    }
}
