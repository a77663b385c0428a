//! `nested`: tasks spawn tasks that spawn tasks, and each waits for its own inside. That is fine on one thread too.
//!
//! A thread that waits in a task runs other tasks meanwhile, so no number of waiting tasks can use up the threads. A pool that blocks its
//! threads instead hangs as soon as as many tasks wait as it has threads.

use poniard::{Task, TaskError};

use super::limits;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "nested",
    summary: "tasks that wait for tasks that wait for tasks, on any number of threads",
    options: &[SampleOption { name: "size", meaning: "levels of tasks, and children of each task, 1 to 7, default 4" }],
    kernels: false,
    run,
};

/// Spawns `children` tasks like this one, with a level less, and waits for them. Gives the number of tasks in this subtree.
fn subtree(levels: u64, children: u64) -> Result<u64, TaskError> {
    if levels == 0 {
        return Ok(1);
    }
    let spawned: Vec<Task<u64>> = (0..children).map(|_| poniard::spawn(subtree, (levels - 1, children))).collect();
    spawned.iter().try_fold(1, |sum, child| Ok(sum + *child.fetch()?))
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    // Size 7 makes 960 799 tasks; 8 would make 19 million.
    let size = limits::count("size", context.size, 4, 7)? as u64;
    let roots: Vec<Task<u64>> = (0..size).map(|_| context.runtime.spawn(subtree, (size - 1, size))).collect();
    let mut task_count = 0;
    for (done, root) in (1..).zip(&roots) {
        task_count += *root.fetch()?;
        context.progress.advance(done, size);
    }
    let waiting = task_count - size.pow(size as u32);
    let processors = context.runtime.processor_count();
    let plural = if processors == 1 { "" } else { "s" };
    Ok(Outcome {
        lines: vec![format!(
            "{task_count} tasks, {waiting} of them waited inside for their {size} children, on {processors} processor{plural}"
        )],
        values: vec![("size", size.into()), ("tasks", task_count.into()), ("waiting", waiting.into()), ("processors", processors.into())],
        check: check(size, task_count),
        output: None,
    })
}

/// The sum of a geometric series: n + n² + … + nⁿ.
fn check(n: u64, task_count: u64) -> Check {
    let expected = if n == 1 { 1 } else { (n.pow(n as u32 + 1) - n) / (n - 1) };
    Check { passed: task_count == expected, text: format!("{expected} tasks by the formula (n^(n+1) - n) / (n - 1) for n = {n}") }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn runs_at_every_size() {
        for size in [1, 2, 3, 4, 5] {
            Trial { size: Some(size), ..Trial::default() }.passes(&SAMPLE);
        }
    }

    #[test]
    fn refuses_sizes_without_sense() {
        for size in [0, 8, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
    }

    #[test]
    fn check_notices_a_lost_task() {
        assert!(check(3, 3 + 9 + 27).passed);
        assert!(!check(3, 38).passed);
    }
}
