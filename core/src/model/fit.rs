//! A law for sizes that were never measured: `a * n^b + c`, by least squares of relative errors over the means of size classes.

use super::statistics::Summary;

/// Exponents that are tried, and so the bounds of `b`.
const EXPONENT_MAX: f64 = 3.0;
/// Their distance.
const STEP: f64 = 0.05;
/// What it costs an exponent to be no 1, so that noise over a narrow range of sizes makes no wild law: 2 is as bad as a relative error of one in a hundred.
const PRIOR: f64 = 1e-4;
/// A class counts for no more than one with so many measurements.
const WEIGHT_MAX: f64 = 16.0;

/// `a * (n / scale)^b + c`, with `a` and `c` not negative, so it never falls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fit {
    scale: f64,
    a: f64,
    b: f64,
    c: f64,
    /// How far the classes are from it: the root of the mean square of relative errors.
    pub(crate) error: f64,
}

/// What is known of `b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Nothing: code may be of any order.
    Power,
    /// It is 1: links have a latency and a bandwidth.
    Line,
}

impl Fit {
    /// The law that is nearest to these classes; none where there are fewer than two.
    pub(crate) fn of(classes: &[Summary], shape: Shape) -> Option<Self> {
        let scale = classes.iter().map(|class| class.bytes).max().filter(|bytes| *bytes > 0)? as f64;
        if classes.len() < 2 {
            return None;
        }
        let steps = match shape {
            Shape::Power => 1..=(EXPONENT_MAX / STEP) as u32,
            Shape::Line => (1.0 / STEP) as u32..=(1.0 / STEP) as u32,
        };
        let fits = steps.map(|step| Self::with_exponent(classes, scale, f64::from(step) * STEP));
        let cost = |fit: &Self| fit.error * fit.error + PRIOR * (fit.b - 1.0) * (fit.b - 1.0);
        fits.min_by(|x, y| cost(x).total_cmp(&cost(y)))
    }

    /// The best `a` and `c` for this `b`.
    fn with_exponent(classes: &[Summary], scale: f64, b: f64) -> Self {
        // Each row, divided by its mean, has the sum 1: that makes errors relative.
        let rows = || {
            classes.iter().map(|class| {
                let weight = (class.count as f64).clamp(1.0, WEIGHT_MAX);
                let mean = class.mean_ns.max(1.0);
                (weight, (class.bytes as f64 / scale).powf(b) / mean, 1.0 / mean)
            })
        };
        let sum = |term: &dyn Fn(f64, f64) -> f64| rows().map(|(weight, x, one)| weight * term(x, one)).sum::<f64>();
        let (xx, xo, oo) = (sum(&|x, _| x * x), sum(&|x, one| x * one), sum(&|_, one| one * one));
        let (xy, oy) = (sum(&|x, _| x), sum(&|_, one| one));
        let determinant = xx * oo - xo * xo;
        let (a, c) = ((xy * oo - oy * xo) / determinant, (oy * xx - xy * xo) / determinant);
        // Outside the bounds the best is on one of them; and sizes that are all the same say nothing of a constant.
        let (a, c) = match determinant > 1e-12 * xx * oo {
            true if a < 0.0 => (0.0, oy / oo),
            true if c >= 0.0 => (a, c),
            _ => (xy / xx, 0.0),
        };
        let squares = sum(&|x, one| (a * x + c * one - 1.0).powi(2));
        let weights: f64 = rows().map(|(weight, ..)| weight).sum();
        Self { scale, a, b, c, error: (squares / weights).sqrt() }
    }

    /// What it says of `bytes`, in nanoseconds.
    pub(crate) fn at(&self, bytes: f64) -> f64 {
        self.a * (bytes / self.scale).powf(self.b) + self.c
    }

    /// What it says of nothing, in nanoseconds: a link's latency.
    pub(crate) fn constant_ns(&self) -> f64 {
        self.c
    }

    /// What a line says of a byte, in nanoseconds.
    pub(crate) fn slope_ns(&self) -> f64 {
        self.a / self.scale
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::Noise;
    use super::*;

    /// Classes of a cost, with noise.
    fn classes(sizes: &[u64], cost: impl Fn(f64) -> f64, noise: f64) -> Vec<Summary> {
        let mut random = Noise::new(11);
        let class = |bytes: &u64| Summary {
            bytes: *bytes,
            count: 20,
            mean_ns: random.around(cost(*bytes as f64), noise) as f64,
            ..Summary::default()
        };
        sizes.iter().map(class).collect()
    }

    #[track_caller]
    fn check(cost: impl Fn(f64) -> f64, exponent: f64) {
        let sizes: Vec<u64> = (10..=18).step_by(2).map(|power| 1 << power).collect();
        let fit = Fit::of(&classes(&sizes, &cost, 0.01), Shape::Power).unwrap();
        assert!((fit.b - exponent).abs() <= 0.1, "{fit:?}");
        for bytes in [100.0, 5000.0, 4e6, 1.6e7] {
            assert!((fit.at(bytes) / cost(bytes) - 1.0).abs() < 0.25, "{} at {bytes}, {fit:?}", fit.at(bytes) / cost(bytes));
        }
    }

    #[test]
    fn laws_are_found() {
        check(|n| 2.0 * n + 5000.0, 1.0);
        check(|n| 0.01 * n.powf(1.5) + 20_000.0, 1.5);
        check(|n| 1e-3 * n * n + 9000.0, 2.0);
        check(|n| 300.0 * n.sqrt() + 10.0, 0.5);
        let constant = Fit::of(&classes(&[10, 100, 1000], |_| 700.0, 0.0), Shape::Power).unwrap();
        assert!((constant.at(1e6) - 700.0).abs() < 1.0, "{constant:?}");
        let falling = Fit::of(&classes(&[10, 100, 1000], |n| 1e6 / n, 0.0), Shape::Power).unwrap();
        assert!(falling.at(1e6) == falling.at(1.0), "{falling:?}");
    }

    #[test]
    fn a_line_has_latency_and_bandwidth() {
        let line = Fit::of(&classes(&[64, 4096, 1 << 20], |n| 12_000.0 + n / 4.0, 0.0), Shape::Line).unwrap();
        assert!((line.constant_ns() - 12_000.0).abs() < 1.0 && (line.slope_ns() - 0.25).abs() < 1e-3, "{line:?}");
    }

    #[test]
    fn little_is_no_law() {
        assert_eq!(Fit::of(&[], Shape::Power), None);
        assert_eq!(Fit::of(&classes(&[100], |n| n, 0.0), Shape::Power), None);
        assert_eq!(Fit::of(&classes(&[0, 0], |_| 5.0, 0.0), Shape::Power), None);
        let twice = Fit::of(&classes(&[100, 100], |n| n, 0.0), Shape::Power).unwrap();
        assert!((twice.at(200.0) - 200.0).abs() < 1.0, "{twice:?}");
    }

    proptest! {
        #[test]
        fn a_law_is_finite_and_never_falls(points in prop::collection::vec((any::<u64>(), 0u64..1 << 46, 1u64..100), 2..20), line: bool) {
            let classes: Vec<_> = points
                .iter()
                .map(|(bytes, ns, count)| Summary { bytes: *bytes, count: *count, mean_ns: *ns as f64, ..Summary::default() })
                .collect();
            let fit = Fit::of(&classes, if line { Shape::Line } else { Shape::Power });
            prop_assume!(fit.is_some());
            let fit = fit.unwrap();
            let values: Vec<f64> = (0..64).map(|power| fit.at((1u64 << power) as f64)).collect();
            prop_assert!(values.is_sorted() && values.iter().all(|ns| ns.is_finite() && *ns >= 0.0), "{:?} {:?}", fit, values);
        }
    }
}
