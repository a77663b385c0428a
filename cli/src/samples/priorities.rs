//! `priorities`: of the tasks that are ready, the most urgent one is run first.
//!
//! Every worker is held in a task of its own, a gate, until all of them are in the queues; from then on it is the workers' choice.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};

use poniard::{Priority, Scope, Task};

use super::limits;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "priorities",
    summary: "tasks of three priorities, and the order in which they are run",
    options: &[SampleOption { name: "size", meaning: "number of tasks of each priority, default 100" }],
    kernels: false,
    run,
};

const LEVELS: [(Priority, &str); 3] = [(Priority::High, "high"), (Priority::Normal, "normal"), (Priority::Low, "low")];

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let size = limits::count("size", context.size, 100, limits::MOST_TASKS / 3)?;
    let turn = Arc::new(AtomicUsize::new(0));
    // Those of worker processes, too: what does not travel is run by their threads here.
    let workers = context.runtime.processors_in(&Scope::any()).iter().filter(|processor| processor.worker.is_some()).count();
    // Passed twice: when all workers are there, and when all tasks are.
    let barrier = Arc::new(Barrier::new(workers + 1));
    let gates: Vec<Task<()>> = (0..workers)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            let pass = move || (0..2).for_each(|_| _ = barrier.wait());
            context.runtime.task(pass, ()).name("gate").spawn()
        })
        .collect();
    barrier.wait();
    // Spawned with the least urgent first, so that the order of spawning explains nothing. What they compute is when their turn was.
    let mut turns: [Vec<Task<usize>>; 3] = Default::default();
    for _ in 0..size {
        for (level, (priority, name)) in LEVELS.iter().enumerate().rev() {
            let turn = Arc::clone(&turn);
            let task = context.runtime.task(move || turn.fetch_add(1, SeqCst), ()).name(*name).priority(*priority);
            turns[level].push(task.spawn());
        }
    }
    barrier.wait();
    let total = 3 * size as u64;
    let mut done = 0;
    let mut sums = [0; 3];
    for (sum, tasks) in sums.iter_mut().zip(turns) {
        for task in tasks {
            *sum += task.take()?;
            done += 1;
            context.progress.advance(done, total);
        }
    }
    gates.into_iter().try_for_each(Task::take)?;
    let means = sums.map(|sum| sum as f64 / size as f64 + 1.0);
    let lines = LEVELS.iter().zip(means).map(|((_, name), mean)| format!("{name:>6}: turn {mean:.1} of {total} on average"));
    Ok(Outcome {
        lines: lines.collect(),
        values: vec![("size", size.into()), ("high", means[0].into()), ("normal", means[1].into()), ("low", means[2].into())],
        check: check(sums, size),
        output: None,
    })
}

/// Every turn is taken once, and the more urgent ones are earlier, as soon as there are enough tasks for a few whose workers were interrupted before their turn not to
/// matter.
fn check(sums: [usize; 3], size: usize) -> Check {
    let total = 3 * size;
    let all = sums.iter().sum::<usize>() == total * (total - 1) / 2;
    let ordered = size < 20 || sums.is_sorted();
    Check { passed: all && ordered, text: "each turn was taken once, high before normal before low on average".into() }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn runs_at_every_size() {
        for size in [None, Some(1), Some(2), Some(1000)] {
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
    fn check_notices_a_wrong_order_and_a_lost_turn() {
        let sums = |size: usize, first: usize| (0..size).map(|turn| first + turn).sum::<usize>();
        let fine = [sums(30, 0), sums(30, 30), sums(30, 60)];
        assert!(check(fine, 30).passed);
        assert!(!check([fine[1], fine[0], fine[2]], 30).passed);
        assert!(!check([fine[0], fine[1], fine[2] - 1], 30).passed);
    }
}
