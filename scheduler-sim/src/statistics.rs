//! What makespans of the same cells under two policies say about the policies.
//!
//! A cell is a workload on a platform with a seed. The ratio of two makespans of one cell has nothing to do with how long the cell takes altogether, and its logarithm counts twice as long and half as long
//! alike: so everything here is about logarithms of ratios. Cells of one workload resemble each other, and to take them for independent would make any difference look certain; [`units`] puts them together first.
//!
//! Intervals are Student's: with the few workloads that one has, percentiles of a bootstrap are too narrow (Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69(4), 2015).

use std::collections::BTreeMap;

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::uncertainty::{exp, ln};

/// Up to so many values the signed-rank test counts all ways to choose signs; for more it takes the normal distribution.
const EXACT_MOST: usize = 40;

/// What one value of a comparison stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A workload, with all its platforms and seeds: what is said is about other workloads of the kind.
    Workload,
    /// A seed, with all its platforms: there is one workload, and what is said is about other runs of it.
    Seed,
}

/// A cell under two policies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The number of its workload.
    pub workload: usize,
    /// The seed.
    pub seed: u64,
    /// The makespan under the one policy, in nanoseconds.
    pub makespan_ns: u64,
    /// That under the other one, which it is compared with.
    pub baseline_ns: u64,
}

impl Pair {
    /// The natural logarithm of the ratio of the two makespans. One of nothing counts as a nanosecond.
    #[must_use]
    pub fn log_ratio(&self) -> f64 {
        if self.makespan_ns == self.baseline_ns {
            return 0.0;
        }
        ln(self.makespan_ns.max(1) as f64) - ln(self.baseline_ns.max(1) as f64)
    }
}

/// One policy beside another.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The geometric mean of the ratios, each unit counted once.
    pub ratio: f64,
    /// Where the ratio lies with a confidence of 95 %; nothing where there are fewer than two units, or all are the same.
    pub interval: Option<(f64, f64)>,
    /// How likely ratios that lean at least so much to one side are if the policies are equally good, by the signed-rank test; nothing where there are fewer than two units, or none differs.
    pub p: Option<f64>,
    /// In how many cells the makespan is less.
    pub wins: u64,
    /// In how many it is the same.
    pub ties: u64,
    /// In how many it is more.
    pub losses: u64,
    /// What a unit is.
    pub unit: Unit,
    /// How many there are.
    pub units: usize,
}

/// Compares a policy with another one. Cost: that of sorting the pairs.
#[must_use]
pub fn compare(pairs: &[Pair]) -> Comparison {
    let (unit, values) = units(pairs);
    let count = |of: fn(&Pair) -> bool| pairs.iter().filter(|pair| of(pair)).count() as u64;
    Comparison {
        ratio: exp(mean(&values)),
        interval: student_interval(&values).map(|(low, high)| (exp(low), exp(high))),
        p: if values.len() < 2 { None } else { signed_rank(&values) },
        wins: count(|pair| pair.makespan_ns < pair.baseline_ns),
        ties: count(|pair| pair.makespan_ns == pair.baseline_ns),
        losses: count(|pair| pair.makespan_ns > pair.baseline_ns),
        unit,
        units: values.len(),
    }
}

/// One logarithm of a ratio for each workload, the mean of its cells; with one workload, one for each seed.
#[must_use]
pub fn units(pairs: &[Pair]) -> (Unit, Vec<f64>) {
    let by = |of: fn(&Pair) -> u64| {
        let mut groups: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        pairs.iter().for_each(|pair| groups.entry(of(pair)).or_default().push(pair.log_ratio()));
        groups.into_values().map(|group| mean(&group)).collect::<Vec<f64>>()
    };
    let workloads = by(|pair| pair.workload as u64);
    if workloads.len() == 1 { (Unit::Seed, by(|pair| pair.seed)) } else { (Unit::Workload, workloads) }
}

/// The arithmetic mean; 0 of nothing.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The interval in which the mean lies with a confidence of 95 %, by Student's distribution. Source: Student, "The probable error of a mean", Biometrika 6(1), 1908.
#[must_use]
pub fn student_interval(values: &[f64]) -> Option<(f64, f64)> {
    let (count, mean) = (values.len(), mean(values));
    if count < 2 || values.iter().all(|value| *value == values[0]) {
        return None;
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
    let student = StudentsT::new(0.0, 1.0, (count - 1) as f64).ok()?;
    let reach = student.inverse_cdf(0.975) * (variance / count as f64).sqrt();
    Some((mean - reach, mean + reach))
}

/// The two-sided probability of Wilcoxon's signed-rank test that values lean so much to one side of 0. Those that are 0 are left out; nothing where all are. Equal ones share their ranks. Source: Wilcoxon,
/// "Individual comparisons by ranking methods", Biometrics Bulletin 1(6), 1945.
#[must_use]
pub fn signed_rank(values: &[f64]) -> Option<f64> {
    let mut sizes: Vec<(f64, bool)> = values.iter().filter(|value| **value != 0.0).map(|value| (value.abs(), *value > 0.0)).collect();
    if sizes.is_empty() {
        return None;
    }
    sizes.sort_by(|one, other| one.0.total_cmp(&other.0));
    // Twice the ranks: the mean of equal ones is a whole number so.
    let mut ranks = Vec::with_capacity(sizes.len());
    let mut ties = 0.0;
    for equal in sizes.chunk_by(|one, other| one.0 == other.0) {
        let first = ranks.len() + 1;
        let twice = first + first + equal.len() - 1;
        ranks.extend(std::iter::repeat_n(twice, equal.len()));
        ties += (equal.len().pow(3) - equal.len()) as f64;
    }
    let positive: usize = ranks.iter().zip(&sizes).filter(|(_, (_, is_positive))| *is_positive).map(|(rank, _)| *rank).sum();
    let all: usize = ranks.iter().sum();
    let less = positive.min(all - positive);
    if ranks.len() > EXACT_MOST {
        let count = ranks.len() as f64;
        let variance = count * (count + 1.0) * (2.0 * count + 1.0) / 24.0 - ties / 48.0;
        // Half a step nearer to the middle, as sums are whole numbers.
        let distance = ((all as f64 / 2.0 - less as f64) / 2.0 - 0.5).max(0.0);
        let normal = Normal::new(0.0, 1.0).ok()?;
        return Some((2.0 * normal.cdf(-distance / variance.sqrt())).min(1.0));
    }
    // In how many of all ways to choose signs the positive ranks sum up to each number.
    let mut ways = vec![0.0_f64; all + 1];
    ways[0] = 1.0;
    for rank in &ranks {
        for sum in (*rank..=all).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    let share = ways[..=less].iter().sum::<f64>() / 2.0_f64.powi(ranks.len() as i32);
    Some((2.0 * share).min(1.0))
}

/// How far a prediction ranks as reality does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranking {
    /// Kendall's tau: 1 if every pair is ranked right, -1 if none is. A pair that is predicted to be equal counts for neither.
    pub tau: f64,
    /// How many pairs can be told apart: those of which the intervals do not overlap.
    pub pairs: usize,
    /// How many pairs there are.
    pub of: usize,
}

/// How far values rank as those of which it is known in which intervals they lie; nothing if no two of these can be told apart. Cost: that of all pairs. Source: Kendall, "A new measure of
/// rank correlation", Biometrika 30(1-2), 1938.
#[must_use]
pub fn ranking(values: &[(f64, (f64, f64))]) -> Option<Ranking> {
    let (mut sum, mut pairs, mut of) = (0.0, 0, 0);
    for (place, (one, (one_low, one_high))) in values.iter().enumerate() {
        for (other, (other_low, other_high)) in &values[place + 1..] {
            of += 1;
            let is_before = one_high < other_low;
            if is_before || other_high < one_low {
                pairs += 1;
                sum += if one == other {
                    0.0
                } else if (one < other) == is_before {
                    1.0
                } else {
                    -1.0
                };
            }
        }
    }
    (pairs > 0).then(|| Ranking { tau: sum / pairs as f64, pairs, of })
}

/// Probabilities of several tests, corrected so that with all of them together an error is as likely as with one. Source: Holm, "A simple sequentially rejective multiple test procedure",
/// Scandinavian Journal of Statistics 6(2), 1979.
#[must_use]
pub fn holm(probabilities: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<(f64, usize)> =
        probabilities.iter().enumerate().filter_map(|(index, probability)| Some(((*probability)?, index))).collect();
    order.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
    let mut corrected = vec![None; probabilities.len()];
    let mut largest = 0.0_f64;
    for (rank, (probability, index)) in order.iter().enumerate() {
        largest = largest.max(probability * (order.len() - rank) as f64).min(1.0);
        corrected[*index] = Some(largest);
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() <= 1e-6 * other.abs().max(1e-3)
    }

    fn pair(workload: usize, seed: u64, makespan_ns: u64, baseline_ns: u64) -> Pair {
        Pair { workload, seed, makespan_ns, baseline_ns }
    }

    #[test]
    fn pairs_that_reality_tells_apart_are_ranked() {
        let of = |values: &[(f64, f64, f64)]| ranking(&values.iter().map(|(value, low, high)| (*value, (*low, *high))).collect::<Vec<_>>());
        assert_eq!(of(&[(1.0, 1.0, 2.0), (2.0, 3.0, 4.0), (9.0, 3.5, 5.0)]), Some(Ranking { tau: 1.0, pairs: 2, of: 3 }));
        // The last one is predicted to be the shortest of three.
        let tau = of(&[(2.0, 1.0, 1.0), (3.0, 2.0, 2.0), (1.0, 3.0, 3.0)]).unwrap().tau;
        assert!((tau + 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(of(&[(2.0, 1.0, 1.0), (2.0, 2.0, 2.0)]), Some(Ranking { tau: 0.0, pairs: 1, of: 1 }));
        assert_eq!(of(&[(2.0, 1.0, 2.0), (2.0, 2.0, 2.0)]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn ratios_are_means_over_workloads_whatever_the_number_of_their_cells() {
        // Twice as long in three cells of one workload, half as long in the only cell of the other.
        let cells = [pair(0, 1, 200, 100), pair(0, 2, 20, 10), pair(0, 3, 2, 1), pair(1, 1, 50, 100)];
        let comparison = compare(&cells);
        assert!(close(comparison.ratio, 1.0), "{comparison:?}");
        assert_eq!((comparison.wins, comparison.ties, comparison.losses), (1, 0, 3));
        assert_eq!((comparison.unit, comparison.units), (Unit::Workload, 2));
        // Logarithms of 2 and 1/2: mean 0, standard error ln 2, and 12.7062 of those.
        let (low, high) = comparison.interval.unwrap();
        assert!(close(high.ln(), 12.706_204_7 * 2.0_f64.ln()) && close(low * high, 1.0), "{low} to {high}");
        assert_eq!(comparison.p, Some(1.0));
    }

    #[test]
    fn with_one_workload_seeds_are_compared_and_one_cell_has_no_interval() {
        let cells = [pair(3, 1, 110, 100), pair(3, 2, 120, 100), pair(3, 2, 120, 100), pair(3, 3, 130, 100)];
        let comparison = compare(&cells);
        assert_eq!((comparison.unit, comparison.units), (Unit::Seed, 3));
        assert!(close(comparison.ratio.ln(), (1.1_f64.ln() + 1.2_f64.ln() + 1.3_f64.ln()) / 3.0), "{comparison:?}");
        let alone = compare(&[pair(0, 1, 110, 100)]);
        assert!(close(alone.ratio, 1.1) && alone.interval.is_none() && alone.p.is_none(), "{alone:?}");
        // Seeds that change nothing are no evidence.
        let same = compare(&[pair(0, 1, 110, 100), pair(0, 2, 110, 100)]);
        assert_eq!((same.interval, same.ties), (None, 0));
        let none = compare(&[pair(0, 0, 0, 0), pair(1, 0, 5, 5)]);
        assert_eq!((none.ratio, none.ties, none.p), (1.0, 2, None));
    }

    #[test]
    fn intervals_are_those_of_the_tables() {
        // Mean 3, standard deviation 1.5811, t(4) = 2.7764.
        let (low, high) = student_interval(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let reach = 2.776_445_1 * 2.5_f64.sqrt() / 5.0_f64.sqrt();
        assert!(close(low, 3.0 - reach) && close(high, 3.0 + reach), "{low} to {high}");
        assert_eq!(student_interval(&[1.0]), None);
    }

    #[test]
    fn ranks_are_tested_by_counting_all_signs() {
        // Five of one sign: 2 of 32 ways are as far out.
        assert_eq!(signed_rank(&[1.0, 2.0, 3.0, 4.0, 5.0]), Some(2.0 / 32.0));
        assert_eq!(signed_rank(&[-1.0, -2.0, -3.0, -4.0, -5.0]), Some(2.0 / 32.0));
        // Ranks 1 to 5 with 2 negative: sums of at most 2 are none, 1 and 2.
        assert_eq!(signed_rank(&[1.0, -2.0, 3.0, 4.0, 5.0]), Some(6.0 / 32.0));
        // Zeros say nothing; three equal ones share the rank 2, and are all of one sign in 2 of 8 ways.
        assert_eq!(signed_rank(&[0.0, 1.0, 1.0, 1.0, 0.0]), Some(2.0 / 8.0));
        assert_eq!(signed_rank(&[0.0, 1.0, 1.0, -1.0]), Some(8.0 / 8.0));
        assert_eq!(signed_rank(&[0.0]), None);
        // One of a hundred negative: next to impossible.
        let mut many: Vec<f64> = (1..=100).map(f64::from).collect();
        many[6] *= -1.0;
        let p = signed_rank(&many).unwrap();
        assert!(p > 0.0 && p < 1e-10, "{p}");
        // Every third one negative: ranks that sum up to 273. Of 40 by counting, where z = -1.835 and so 0.0665 by the normal distribution; of 41 by that, with z = -2.0345.
        let mixed = |count: usize| (1..=count).map(|at| if at % 3 == 0 { -(at as f64) } else { at as f64 }).collect::<Vec<f64>>();
        let (exact, normal) = (signed_rank(&mixed(EXACT_MOST)).unwrap(), signed_rank(&mixed(EXACT_MOST + 1)).unwrap());
        assert!((exact - 0.0665).abs() < 0.001 && (normal - 0.0419).abs() < 0.0001, "{exact} and {normal}");
    }

    #[test]
    fn many_tests_make_each_less_certain() {
        let corrected = holm(&[Some(0.01), None, Some(0.04), Some(0.03)]);
        // Times 3, 2 and 1, and none less than the one before.
        let expected = [Some(0.03), None, Some(0.06), Some(0.06)];
        for (one, other) in corrected.iter().zip(expected) {
            assert!(
                match (one, other) {
                    (Some(one), Some(other)) => close(*one, other),
                    (one, other) => one.is_none() && other.is_none(),
                },
                "{corrected:?}"
            );
        }
    }
}
