//! `where`: which process and which thread runs each task. Run it with `--threads 1 --processes 2`.
//!
//! A task may run on another process if its function has captured nothing and its arguments and result can travel. Nothing else tells this one from others.

use std::collections::BTreeMap;

use super::limits;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "where",
    summary: "which process and which thread runs each task",
    options: &[SampleOption { name: "size", meaning: "number of tasks, default 64" }],
    run,
};

/// Numbers that one task looks at: about a millisecond of work.
const PER_TASK: u64 = 2_500;

/// Counts the primes from `first` on, and says where: the process, and the thread.
fn count_primes(first: u64) -> (u64, u32, String) {
    let is_prime =
        |number: &u64| *number > 1 && (2..).take_while(|factor| factor * factor <= *number).all(|factor| !number.is_multiple_of(factor));
    let count = (first..first + PER_TASK).filter(is_prime).count() as u64;
    let thread = std::thread::current().name().unwrap_or("main").to_owned();
    (count, std::process::id(), thread)
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let size = limits::count("size", context.size, 64, limits::MOST_TASKS)? as u64;
    let tasks: Vec<_> = (0..size).map(|index| context.runtime.spawn(count_primes, (index * PER_TASK,))).collect();
    let mut places: BTreeMap<(bool, u32, String), u64> = BTreeMap::new();
    let mut primes = 0;
    for (done, task) in (1..).zip(tasks) {
        let (count, process, thread) = task.take()?;
        primes += count;
        *places.entry((process != std::process::id(), process, thread)).or_default() += 1;
        context.progress.advance(done, size);
    }
    let mut lines = vec![format!("{primes} primes below {}", size * PER_TASK)];
    for ((elsewhere, process, thread), count) in &places {
        let place = if *elsewhere { "worker process" } else { "this process" };
        lines.push(format!("{place:<14} {process:>8}  thread {thread:<12} {count:>6} tasks"));
    }
    let processes: Vec<u32> = places.keys().map(|(_, process, _)| *process).collect();
    Ok(Outcome {
        lines,
        values: vec![("primes", primes.into()), ("processes", processes.into())],
        check: check(primes, size * PER_TASK),
        output: None,
    })
}

/// Counts by the sieve of Eratosthenes.
fn check(primes: u64, end: u64) -> Check {
    let mut composite = vec![false; end as usize];
    let mut expected = 0;
    for number in 2..composite.len() {
        if !composite[number] {
            expected += 1;
            for multiple in (number * number..composite.len()).step_by(number) {
                composite[multiple] = true;
            }
        }
    }
    Check { passed: primes == expected, text: format!("{expected} by the sieve of Eratosthenes") }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn counts_primes_and_places() {
        for size in [1, 2, 7] {
            let outcome = Trial { size: Some(size), threads: Some(1), ..Trial::default() }.passes(&SAMPLE);
            assert_eq!(outcome.lines.len(), 2, "{:?}", outcome.lines);
            assert!(outcome.lines[1].ends_with(&format!("{size} tasks")), "{:?}", outcome.lines);
        }
        Trial { size: Some(0), ..Trial::default() }.refused(&SAMPLE, "size");
    }

    #[test]
    fn check_notices_a_wrong_number() {
        assert!(check(25, 100).passed);
        assert!(!check(24, 100).passed);
    }
}
