//! `where`: which process and which thread runs each task. Run it with `--threads 1 --processes 2`.
//!
//! A task may run on another process if its function has captured nothing and its arguments and result can travel. Nothing else tells this one from others.

use std::collections::{BTreeMap, BTreeSet};

use poniard::{Data, current_processor};
use rustix::thread::gettid;
use serde::{Deserialize, Serialize};

use super::limits;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "where",
    summary: "which process and which thread runs each task",
    options: &[SampleOption { name: "size", meaning: "number of tasks, default 64" }],
    kernels: false,
    run,
};

/// Numbers that one task looks at: about a millisecond of work.
const PER_TASK: u64 = 2_500;

/// Where a task ran.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Data, Serialize, Deserialize)]
struct Place {
    process: u32,
    /// The thread, as the kernel numbers it.
    thread: i32,
    processor: String,
}

/// Counts the primes from `first` on, and says where.
fn count_primes(first: u64) -> (u64, Place) {
    let is_prime =
        |number: &u64| *number > 1 && (2..).take_while(|factor| factor * factor <= *number).all(|factor| !number.is_multiple_of(factor));
    let count = (first..first + PER_TASK).filter(is_prime).count() as u64;
    let processor = current_processor().map_or_else(|| "none".into(), |processor| processor.name);
    (count, Place { process: std::process::id(), thread: gettid().as_raw_nonzero().get(), processor })
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let size = limits::count("size", context.size, 64, limits::MOST_TASKS)? as u64;
    let tasks: Vec<_> = (0..size).map(|index| context.runtime.spawn(count_primes, (index * PER_TASK,))).collect();
    let mut places: BTreeMap<Place, u64> = BTreeMap::new();
    let mut primes = 0;
    for (done, task) in (1..).zip(tasks) {
        let (count, place) = task.take()?;
        primes += count;
        *places.entry(place).or_default() += 1;
        context.progress.advance(done, size);
    }
    let mut lines = vec![
        format!("{primes} primes below {}; this is process {}", size * PER_TASK, std::process::id()),
        format!("{:>8} {:>8}  {:<14} {:>6}", "process", "thread", "processor", "tasks"),
    ];
    for (Place { process, thread, processor }, count) in &places {
        lines.push(format!("{process:>8} {thread:>8}  {processor:<14} {count:>6}"));
    }
    let processes: BTreeSet<u32> = places.keys().map(|place| place.process).collect();
    Ok(Outcome {
        lines,
        values: vec![("primes", primes.into()), ("processes", processes.into_iter().collect::<Vec<_>>().into())],
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
            assert_eq!(outcome.lines.len(), 3, "{:?}", outcome.lines);
            assert!(outcome.lines[2].ends_with(&format!(" {size}")), "{:?}", outcome.lines);
        }
        Trial { size: Some(0), ..Trial::default() }.refused(&SAMPLE, "size");
    }

    #[test]
    fn check_notices_a_wrong_number() {
        assert!(check(25, 100).passed);
        assert!(!check(24, 100).passed);
    }
}
