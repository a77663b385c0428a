//! The smallest worthwhile task of a stencil.
//!
//! METG(50%), minimum effective task granularity, after Slaughter et al., "Task Bench: A Parameterized Benchmark for Evaluating Parallel Runtime
//! Performance", 2020: make tasks shorter until only half of the time is work. The figure here is the work in such a task. Task Bench gives the time that a
//! worker spends on it, overhead included, which at 50 % is twice as long.

use std::time::Duration;

use crate::spin::iteration_ns;

/// Longer tasks are not tried, and this is the figure: where even they have no efficiency of one half, something else is running.
const WORK_MAX_NS: f64 = 20_000.0;
/// Halvings of the interval, on a logarithmic scale: to within 4 %.
const HALVINGS: usize = 4;

/// A one-dimensional stencil: a column's next step needs its own last one and those of the columns beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stencil {
    /// Columns.
    pub width: usize,
    /// Steps of each column, at least one.
    pub steps: usize,
}

impl Stencil {
    /// Tasks, one for each step of each column.
    pub fn task_count(self) -> u64 {
        (self.width * self.steps) as u64
    }

    /// The columns that column `column` needs the last step of.
    pub fn needed(self, column: usize) -> std::ops::RangeInclusive<usize> {
        column.saturating_sub(1)..=(column + 1).min(self.width - 1)
    }

    /// What each column comes to when a step gives the sum of what it needs, plus one, modulo 2^64.
    pub fn expected(self) -> Vec<u64> {
        let mut row = vec![1u64; self.width];
        for _ in 1..self.steps {
            row = (0..self.width).map(|column| sum(&row[self.needed(column)])).collect();
        }
        row
    }
}

/// What a step gives.
fn sum(needed: &[u64]) -> u64 {
    needed.iter().fold(1, |sum, value| sum.wrapping_add(*value))
}

/// Searches for the work in us of the smallest task for which half of the time is work. `run` does the stencil with tasks that [`spin`](crate::spin::spin) for
/// so many iterations, and gives the time; the shortest of some tries counts.
///
/// The ideal time is that of the work alone, evenly on as many of `workers` as there are columns; how long the work takes is measured on as many bare
/// threads at once, so that cores which share something, or are shared, do not count as overhead.
pub fn metg(stencil: Stencil, workers: usize, tries: usize, mut run: impl FnMut(u64) -> Duration) -> f64 {
    let at_once = workers.min(stencil.width);
    let iteration_ns = iteration_ns(at_once);
    let most = WORK_MAX_NS / iteration_ns;
    let least = search(most, |iterations| {
        let iterations = iterations as u64;
        let best = (0..tries).map(|_| run(iterations)).min().unwrap_or_default();
        let ideal_ns = stencil.task_count() as f64 * iterations as f64 * iteration_ns / at_once as f64;
        ideal_ns >= 0.5 * best.as_nanos() as f64
    });
    least.min(most) * iteration_ns / 1e3
}

/// The least number from 1 on that is `enough`, or one that is more than `most`.
fn search(most: f64, mut enough: impl FnMut(f64) -> bool) -> f64 {
    // A guess, then twice as much or half of it until the answer lies in between.
    let mut above = 256.0;
    if enough(above) {
        while above > 1.0 && enough(above / 2.0) {
            above /= 2.0;
        }
        if above <= 1.0 {
            return above;
        }
    } else {
        loop {
            above *= 2.0;
            if above > most {
                return above;
            }
            if enough(above) {
                break;
            }
        }
    }
    let mut below = above / 2.0;
    for _ in 0..HALVINGS {
        let between = (below * above).sqrt();
        if enough(between) {
            above = between;
        } else {
            below = between;
        }
    }
    above
}

#[cfg(test)]
mod tests {
    use super::{Stencil, search};

    #[test]
    fn the_least_number_is_found_from_either_side_of_the_guess() {
        for least in [1.5, 3.0, 100.0, 255.0, 256.0, 257.0, 10_000.0] {
            let found = search(20_000.0, |number| number >= least);
            assert!(found >= least && found <= least * 1.05, "{found} for {least}");
        }
        assert_eq!(search(20_000.0, |_| true), 1.0);
        let mut tried = Vec::new();
        assert!(
            search(20_000.0, |number| {
                tried.push(number);
                false
            }) > 20_000.0
        );
        assert!(tried.iter().all(|number| *number <= 20_000.0), "{tried:?}");
    }

    #[test]
    fn a_stencil_adds_up_what_is_beside() {
        assert_eq!(Stencil { width: 2, steps: 3 }.expected(), [7, 7]);
        assert_eq!(Stencil { width: 3, steps: 3 }.expected(), [8, 11, 8]);
        assert_eq!(Stencil { width: 3, steps: 1 }.expected(), [1, 1, 1]);
    }
}
