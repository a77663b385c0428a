//! `diamond`: results are arguments of other tasks, and two tasks that share an argument run at the same time.
//!
//! ```text
//!          x
//!          │
//!      a = x + 1
//!        ╱   ╲
//!   b = 2a   c = a / 2
//!        ╲   ╱
//!      d = b - c
//! ```

use ndarray::Array1;

use super::limits;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "diamond",
    summary: "four tasks in a diamond: results as arguments",
    options: &[SampleOption { name: "size", meaning: "number of elements, default 5000" }],
    kernels: false,
    run,
};

// `&` parameters are shared, the others are moved in where this task is the last user. So `b` and `c` can read `a` side by side, and `d`
// writes into the memory of `b`.
fn plus_one(x: Array1<f64>) -> Array1<f64> {
    x + 1.0
}

fn double(a: &Array1<f64>) -> Array1<f64> {
    a * 2.0
}

fn halve(a: &Array1<f64>) -> Array1<f64> {
    a / 2.0
}

fn subtract(b: Array1<f64>, c: &Array1<f64>) -> Array1<f64> {
    b - c
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let size = limits::count("size", context.size, 5000, 1 << 40)?;
    limits::memory("size", (size as u64).checked_mul(6 * 8))?;
    let x = Array1::from_iter((0..size).map(|index| index as f64));

    let a = context.runtime.spawn(plus_one, (x,));
    let b = context.runtime.spawn(double, (&a,));
    let c = context.runtime.spawn(halve, (&a,));
    let d = context.runtime.spawn(subtract, (b, c));

    // No task was waited for until now: the runtime knows from the arguments what has to come first.
    let d = d.fetch()?;
    context.progress.advance(4, 4);
    let (first, last) = (d[0], d[size - 1]);
    Ok(Outcome {
        lines: vec![format!("d = 2(x+1) - (x+1)/2 for {size} elements: from {first} to {last}")],
        values: vec![("size", size.into()), ("first", first.into()), ("last", last.into())],
        check: check(d.as_slice().unwrap_or_default(), size),
        output: None,
    })
}

/// Doubling and halving are exact in binary, so the plain loop must agree to the last bit.
fn check(d: &[f64], size: usize) -> Check {
    let different = (0..size).filter(|&index| d.get(index) != Some(&(1.5 * (index + 1) as f64))).count();
    Check {
        passed: different == 0 && d.len() == size,
        text: format!("{different} of {size} elements differ from a plain loop over 1.5 (x + 1)"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn runs_at_every_size() {
        for size in [None, Some(1), Some(2), Some(4097)] {
            Trial { size, ..Trial::default() }.passes(&SAMPLE);
        }
    }

    #[test]
    fn refuses_sizes_without_sense() {
        for size in [0, 1 << 39, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
    }

    #[test]
    fn check_notices_one_wrong_element() {
        assert!(check(&[1.5, 3.0], 2).passed);
        assert!(!check(&[1.5, 3.0000000000000004], 2).passed);
        assert!(!check(&[1.5], 2).passed);
        assert!(!check(&[1.5, f64::NAN], 2).passed);
    }
}
