//! `fib`: tasks spawn tasks and wait for them. While a task waits, its thread runs other tasks.
//!
//! Each Fibonacci number is the sum of the two before it, and each task spawns one task for either. Near the leaves a task is cheaper to
//! call than to spawn: from a few thousand tasks on, the rest is computed without any.

use poniard::TaskError;

use super::limits;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "fib",
    summary: "a Fibonacci number by a tree of tasks that spawn tasks",
    options: &[SampleOption { name: "size", meaning: "which Fibonacci number, 1 to 90, default 27" }],
    kernels: false,
    run,
};

/// How deep the tree of tasks is: 5 167 tasks at most, for any size.
const TASK_LEVELS: u64 = 16;

/// The `n`-th Fibonacci number, and the number of tasks that it took.
fn fib(n: u64, cutoff: u64) -> Result<(u64, u64), TaskError> {
    if n < cutoff || n < 2 {
        return Ok((serial(n).0, 1));
    }
    // Both are spawned before either is waited for: this is what makes them run at the same time.
    let one_before = poniard::spawn(fib, (n - 1, cutoff));
    let two_before = poniard::spawn(fib, (n - 2, cutoff));
    let (first, first_tasks) = *one_before.fetch()?;
    let (second, second_tasks) = *two_before.fetch()?;
    Ok((first + second, first_tasks + second_tasks + 1))
}

/// Fibonacci numbers `n` and `n + 1` without tasks, in log₂(n) steps: F(2k) = F(k) (2 F(k+1) - F(k)) and F(2k+1) = F(k)² + F(k+1)².
fn serial(n: u64) -> (u64, u64) {
    if n == 0 {
        return (0, 1);
    }
    let (a, b) = serial(n / 2);
    let (even, odd) = (a * (2 * b - a), a * a + b * b);
    if n.is_multiple_of(2) { (even, odd) } else { (odd, even + odd) }
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    // 90 leaves room: the 94th no longer fits 64 bits.
    let n = limits::count("size", context.size, 27, 90)? as u64;
    let (value, task_count) = *context.runtime.spawn(fib, (n, n.saturating_sub(TASK_LEVELS - 1))).fetch()?;
    context.progress.advance(task_count, task_count);
    Ok(Outcome {
        lines: vec![format!("fib({n}) = {value}, by {task_count} tasks")],
        values: vec![("n", n.into()), ("fib", value.into()), ("tasks", task_count.into())],
        check: check(n, value),
        output: None,
    })
}

fn check(n: u64, value: u64) -> Check {
    let (mut expected, mut next) = (0u64, 1u64);
    for _ in 0..n {
        (expected, next) = (next, expected + next);
    }
    Check { passed: value == expected, text: format!("{expected} by a loop of {n} additions") }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn runs_at_every_size() {
        for size in [1, 2, 3, 16, 17, 18, 27, 90] {
            Trial { size: Some(size), ..Trial::default() }.passes(&SAMPLE);
        }
        assert!(Trial::default().passes(&SAMPLE).lines[0].starts_with("fib(27) = 196418"));
    }

    #[test]
    fn refuses_sizes_without_sense() {
        for size in [0, 91, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
    }

    #[test]
    fn check_notices_a_wrong_number() {
        assert!(check(10, 55).passed);
        assert!(!check(10, 54).passed);
    }
}
