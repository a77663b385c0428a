//! `imbalance`: fifteen tasks, of which one is as long as the seven next ones. When the long one begins decides how long all of it takes.
//!
//! The long task comes last. Tasks are begun in about the order in which they came, unless somebody says that one is more urgent: `--kernel urgent` does.

use std::time::Instant;

use poniard::{Priority, Task};

use super::limits;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "imbalance",
    summary: "fifteen tasks, one of them long, which comes last: how far from the ideal does it end",
    options: &[
        SampleOption { name: "size", meaning: "steps of a short task in thousands, 1 to 1000000, default 4000" },
        SampleOption { name: "kernel", meaning: "plain, or urgent: the long task has priority; default plain" },
    ],
    kernels: false,
    run,
};

const SHORT_TASKS: u64 = 14;
/// The long task is so many short ones.
const LONG: u64 = 7;

/// So many steps of a generator of random numbers, each of which needs the one before. Source: L'Ecuyer, "Tables of linear congruential generators of
/// different sizes and good lattice structure", Math. Comp. 68(225), 1999.
fn walk(seed: u64, steps: u64) -> u64 {
    (0..steps).fold(seed, |state, _| state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT))
}

const MULTIPLIER: u64 = 2_862_933_555_777_941_757;
const INCREMENT: u64 = 1_442_695_040_888_963_407;

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let steps = limits::count("size", context.size, 4_000, 1_000_000)? as u64 * 1_000;
    let urgent = match context.kernel {
        None | Some("plain") => false,
        Some("urgent") => true,
        Some(other) => {
            return Err(SampleError::Usage { option: "kernel", reason: format!("`{other}` is none of `plain` and `urgent`") });
        }
    };
    // How long a short one takes by itself: what is ideal follows from that.
    let start = Instant::now();
    std::hint::black_box(walk(std::hint::black_box(0), steps));
    let alone = start.elapsed();
    let start = Instant::now();
    let short = (0..SHORT_TASKS).map(|seed| context.runtime.task(walk, (seed, steps)).name("short").spawn());
    let mut tasks: Vec<Task<u64>> = short.collect();
    let long = context.runtime.task(walk, (SHORT_TASKS, LONG * steps)).name("long");
    tasks.push(if urgent { long.priority(Priority::High) } else { long }.spawn());
    let mut ends = Vec::new();
    for (done, task) in (1..).zip(tasks) {
        ends.push(task.take()?);
        context.progress.advance(done, SHORT_TASKS + 1);
    }
    let took = start.elapsed();
    let processors = context.runtime.processor_count() as u64;
    let units = LONG.max((SHORT_TASKS + LONG).div_ceil(processors));
    let ideal = alone * units as u32;
    Ok(Outcome {
        lines: vec![format!(
            "{SHORT_TASKS} tasks of {:.1} ms and one of {:.1} ms took {:.1} ms on {processors} processor{}; ideal {:.1} ms",
            alone.as_secs_f64() * 1e3,
            alone.as_secs_f64() * 1e3 * LONG as f64,
            took.as_secs_f64() * 1e3,
            if processors == 1 { "" } else { "s" },
            ideal.as_secs_f64() * 1e3
        )],
        values: vec![("took_s", took.as_secs_f64().into()), ("ideal_s", ideal.as_secs_f64().into())],
        check: check(&ends, steps),
        output: None,
    })
}

/// Where walks of the generator end, by its closed form: that many steps in one, put together by squaring.
fn check(ends: &[u64], steps: u64) -> Check {
    let leap = |mut steps: u64, state: u64| {
        let (mut by, mut add) = (1u64, 0u64);
        let (mut step_by, mut step_add) = (MULTIPLIER, INCREMENT);
        while steps > 0 {
            if steps % 2 == 1 {
                (by, add) = (by.wrapping_mul(step_by), add.wrapping_mul(step_by).wrapping_add(step_add));
            }
            (step_by, step_add) = (step_by.wrapping_mul(step_by), step_add.wrapping_mul(step_by).wrapping_add(step_add));
            steps /= 2;
        }
        state.wrapping_mul(by).wrapping_add(add)
    };
    let expected = (0..=SHORT_TASKS).map(|seed| leap(if seed == SHORT_TASKS { LONG * steps } else { steps }, seed));
    let wrong = expected.zip(ends).filter(|(expected, end)| expected != *end).count();
    Check {
        passed: wrong == 0 && ends.len() as u64 == SHORT_TASKS + 1,
        text: format!("{wrong} of {} walks end where the generator's closed form does not", SHORT_TASKS + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn walks_to_the_right_ends() {
        for kernel in [None, Some("plain"), Some("urgent")] {
            Trial { size: Some(1), kernel, ..Trial::default() }.passes(&SAMPLE);
        }
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        Trial { size: Some(0), ..Trial::default() }.refused(&SAMPLE, "size");
        Trial { kernel: Some("quick"), ..Trial::default() }.refused(&SAMPLE, "kernel");
    }

    #[test]
    fn check_notices_a_walk_that_is_too_short() {
        let mut ends: Vec<u64> = (0..SHORT_TASKS).map(|seed| walk(seed, 1_000)).collect();
        ends.push(walk(SHORT_TASKS, LONG * 1_000));
        assert!(check(&ends, 1_000).passed);
        ends[3] = walk(3, 999);
        assert!(!check(&ends, 1_000).passed);
        ends.pop();
        assert!(!check(&ends, 1_000).passed);
    }
}
