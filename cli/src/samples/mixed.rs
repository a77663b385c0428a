//! `mixed`: two kernels that suit different processors. One does a little for each of many numbers, which is what devices are made for; the other goes step by step,
//! which a core of the host does faster. Nobody says where they are to run: where there is a device, the runtime measures and decides.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use poniard::{AllocateError, Buffer, Kernel, Task, TaskOptions, buffer};

use super::limits;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "mixed",
    summary: "two kernels, one that suits devices and one that suits the host: where each ran",
    options: &[
        SampleOption { name: "size", meaning: "numbers that a task looks at, default 65536" },
        SampleOption { name: "generations", meaning: "tasks of each kernel, default 16" },
    ],
    kernels: true,
    run,
};

/// Steps that are counted at most.
const MOST: u32 = 1000;
/// Of a walk, for each number that the other kernel looks at.
const STEPS: u32 = 64;

/// How often this process has called each of the two functions below.
static CALLS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// How many steps a number takes to come to 1.
fn steps_of(mut number: u32, most: u32) -> u32 {
    let mut taken = 0;
    while number > 1 && taken < most {
        number = if number.is_multiple_of(2) { number / 2 } else { number.wrapping_mul(3).wrapping_add(1) };
        taken += 1;
    }
    taken
}

/// The steps of `count` numbers; `mixed_count.wgsl` does the same.
fn count(first: u32, count: u32, most: u32) -> Result<Buffer<u32>, AllocateError> {
    CALLS[0].fetch_add(1, Relaxed);
    let mut steps = buffer::try_zeroed(count as usize)?;
    for (number, steps) in (first..).zip(steps.iter_mut()) {
        *steps = steps_of(number, most);
    }
    Ok(steps)
}

/// Where a generator of random numbers ends; `mixed_walk.wgsl` does the same. Source: Knuth, The Art of Computer Programming 2, 3.3.4, table 1, line 16.
fn walk(seed: u32, count: u32) -> Result<Buffer<u32>, AllocateError> {
    CALLS[1].fetch_add(1, Relaxed);
    let mut end = buffer::try_zeroed(1)?;
    end[0] = (0..count).fold(seed, |state, _| state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    Ok(end)
}

fn sum(values: &Buffer<u32>) -> u64 {
    values.iter().map(|value| u64::from(*value)).sum()
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let runtime = context.runtime;
    let size = limits::count("size", context.size, 1 << 16, 1 << 24)?;
    let rounds = limits::count("generations", context.generations, 16, u64::from(u32::MAX >> 8) / size as u64)? as u32;
    limits::tasks("generations", Some(4 * u64::from(rounds)))?;
    let size = size as u32;

    let before = CALLS.each_ref().map(|calls| calls.load(Relaxed));
    let counting = Kernel::wgsl("count", include_str!("mixed_count.wgsl")).host(count);
    let walking = Kernel::wgsl("walk", include_str!("mixed_walk.wgsl")).host(walk);
    let anywhere = TaskOptions::new();
    let options = context.kernels.unwrap_or(&anywhere);
    let sums: Vec<[Task<u64>; 2]> = (0..rounds)
        .map(|round| {
            let counted = runtime.task(counting.over(size as usize), (1 + round * size, size, MOST)).options(options).spawn();
            let walked = runtime.task(walking.over(1), (round, STEPS * size)).options(options).spawn();
            [runtime.spawn(sum, (counted,)), runtime.spawn(sum, (walked,))]
        })
        .collect();
    let mut totals = [0, 0];
    for (done, pair) in (1..).zip(sums) {
        for (total, task) in totals.iter_mut().zip(pair) {
            *total += task.take()?;
        }
        context.progress.advance(done, rounds.into());
    }
    let calls = [0, 1].map(|index| CALLS[index].load(Relaxed) - before[index]);
    let mut lines =
        vec![format!("{} steps of {} numbers; walks end at {} in all", totals[0], u64::from(rounds) * u64::from(size), totals[1])];
    if context.kernels.is_some() {
        let of = |name: &str, calls: u64| {
            format!("{name}: {calls} of {rounds} tasks on the host, {} on devices", u64::from(rounds).saturating_sub(calls))
        };
        lines.extend([of("count", calls[0]), of("walk", calls[1])]);
    }
    Ok(Outcome {
        lines,
        values: vec![("count_on_host", calls[0].into()), ("walk_on_host", calls[1].into())],
        check: check(totals, rounds, size),
        output: None,
    })
}

/// Counts by a table of what is known already, and walks by the generator's closed form.
fn check(totals: [u64; 2], rounds: u32, size: u32) -> Check {
    let end = 1 + rounds * size;
    let mut known = vec![0u32; end as usize];
    let mut counted = 0;
    for first in 2..end {
        let (mut number, mut taken) = (first, 0);
        while number >= first && number > 1 {
            number = if number.is_multiple_of(2) { number / 2 } else { number.wrapping_mul(3).wrapping_add(1) };
            taken += 1;
        }
        known[first as usize] = taken + known[number as usize];
        counted += u64::from(known[first as usize]);
    }
    let (mut by, mut add) = (1u32, 0u32);
    for bit in (0..u32::BITS).rev() {
        (by, add) = (by.wrapping_mul(by), by.wrapping_mul(add).wrapping_add(add));
        if (STEPS * size) >> bit & 1 == 1 {
            (by, add) = (by.wrapping_mul(1_664_525), add.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        }
    }
    let walked: u64 = (0..rounds).map(|seed| u64::from(seed.wrapping_mul(by).wrapping_add(add))).sum();
    Check { passed: totals == [counted, walked], text: format!("{counted} steps by a table, {walked} by the generator's closed form") }
}

#[cfg(test)]
mod tests {
    use super::super::trial::{Trial, with_and_without_devices};
    use super::*;

    #[test]
    fn counts_and_walks_everywhere() {
        for on_devices in with_and_without_devices() {
            for (size, generations) in [(1, 1), (100, 3), (1000, 2)] {
                Trial { on_devices: *on_devices, size: Some(size), generations: Some(generations), ..Trial::default() }.passes(&SAMPLE);
            }
        }
    }

    #[test]
    fn refuses_sizes_without_sense() {
        Trial { size: Some(0), ..Trial::default() }.refused(&SAMPLE, "size");
        Trial { generations: Some(0), ..Trial::default() }.refused(&SAMPLE, "generations");
        Trial { generations: Some(u64::MAX), ..Trial::default() }.refused(&SAMPLE, "generations");
    }

    #[test]
    fn check_notices_one_step_too_many() {
        // 1, 2, 3, 4: 0, 1, 7 and 2 steps.
        let walked = u64::from(walk(0, STEPS * 4).unwrap()[0]);
        assert!(check([10, walked], 1, 4).passed);
        assert!(!check([11, walked], 1, 4).passed);
        assert!(!check([10, walked + 1], 1, 4).passed);
    }
}
