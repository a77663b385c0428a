//! `tree-reduce`: many results become one, pairwise, so that the sums of a level run at the same time.
//!
//! ```text
//!   v0   v1   v2   v3   v4
//!     ╲ ╱       ╲ ╱     │
//!      +         +      │
//!        ╲     ╱        │
//!           +           │
//!             ╲       ╱
//!                 +
//! ```

use poniard::{AllocateError, Buffer, Task, buffer};

use super::limits;
use super::random::Random;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "tree-reduce",
    summary: "the sum of many random vectors, added pairwise as a tree",
    options: &[
        SampleOption { name: "size", meaning: "number of vectors of 1000 numbers each, default 1000" },
        SampleOption { name: "seed", meaning: "what the numbers are drawn from, default 0" },
    ],
    kernels: false,
    run,
};

/// Numbers in a vector.
const LENGTH: usize = 1000;

/// Vector `index` of `seed`: each has its own stream, so it does not matter in which order they are made.
fn random_vector(seed: u64, index: u64) -> Result<Buffer<f64>, AllocateError> {
    let mut random = Random::new(seed, index);
    let mut vector = buffer::try_zeroed(LENGTH)?;
    vector.fill_with(|| random.unit());
    Ok(vector)
}

/// `sum` is moved in because this task is its last user: no memory is asked for.
fn add(mut sum: Buffer<f64>, other: &Buffer<f64>) -> Buffer<f64> {
    for (total, value) in sum.iter_mut().zip(other) {
        *total += value;
    }
    sum
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let size = limits::count("size", context.size, 1000, limits::MOST_TASKS / 2)?;
    limits::memory("size", (size as u64).checked_mul(LENGTH as u64 * 8))?;

    let mut level: Vec<Task<Buffer<f64>>> =
        (0..size as u64).map(|index| context.runtime.spawn(random_vector, (context.seed, index))).collect();
    let mut depth = 0;
    while level.len() > 1 {
        let mut vectors = level.into_iter();
        level = Vec::new();
        while let Some(left) = vectors.next() {
            // The odd one out goes on to the next level as it is.
            level.push(match vectors.next() {
                Some(right) => context.runtime.spawn(add, (left, right)),
                None => left,
            });
        }
        depth += 1;
    }
    let sum = level.remove(0).fetch()?;
    context.progress.advance(2 * size as u64 - 1, 2 * size as u64 - 1);

    let mean = sum.iter().sum::<f64>() / (size * LENGTH) as f64;
    Ok(Outcome {
        lines: vec![format!("sum of {size} vectors of {LENGTH} numbers in {depth} levels; mean of a number {mean:.6}")],
        values: vec![("vectors", size.into()), ("levels", depth.into()), ("mean", mean.into())],
        check: check(&sum, context.seed, size as u64),
        output: None,
    })
}

/// Adds in another order, so that the last digits may differ: by no more than one rounding of the sum for each addition in either.
fn check(sum: &[f64], seed: u64, size: u64) -> Check {
    let mut expected = vec![0.0; LENGTH];
    for index in 0..size {
        let mut random = Random::new(seed, index);
        for total in &mut expected {
            *total += random.unit();
        }
    }
    let allowed = 2.0 * size as f64 * f64::EPSILON * size as f64;
    // NaN is no difference that `f64::max` would keep.
    let difference =
        sum.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, |max: f64, d| if d > max || d.is_nan() { d } else { max });
    Check {
        passed: sum.len() == LENGTH && difference <= allowed,
        text: format!("max difference {difference:.1e} to a plain loop (allowed {allowed:.1e})"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn runs_at_every_size() {
        for size in [1, 2, 3, 7, 64, 65] {
            Trial { size: Some(size), seed: size, ..Trial::default() }.passes(&SAMPLE);
        }
    }

    #[test]
    fn refuses_sizes_without_sense() {
        for size in [0, limits::MOST_TASKS, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
    }

    #[test]
    fn check_notices_one_wrong_number() {
        let sum = random_vector(5, 0).unwrap();
        assert!(check(&sum, 5, 1).passed);
        for wrong in [0.5, f64::NAN] {
            let mut sum = buffer::from_slice(&sum);
            sum[999] += wrong;
            assert!(!check(&sum, 5, 1).passed);
        }
        assert!(!check(&sum[1..], 5, 1).passed);
    }
}
