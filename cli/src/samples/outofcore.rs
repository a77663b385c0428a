//! `outofcore`: a reduction of more data than memory may have. Run it with `--memory-limit 64MiB`.
//!
//! All blocks are there before the first two are added, since each is added to one from the other half. So what does not fit is on the disk meanwhile; the program
//! does not know.

use poniard::{AllocateError, Buffer, Task, buffer};

use super::limits;
use crate::report::size;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "outofcore",
    summary: "the sum of many blocks that memory cannot have at once: give --memory-limit 64MiB",
    options: &[
        SampleOption { name: "size", meaning: "number of blocks, default 64" },
        SampleOption { name: "tile", meaning: "numbers of 8 bytes in a block, default 524288 (4 MiB)" },
    ],
    kernels: false,
    run,
};

/// Block `index`: its number plus its place, so that the sum of all is known.
fn block(index: u64, len: usize) -> Result<Buffer<u64>, AllocateError> {
    let mut block = buffer::try_zeroed(len)?;
    for (value, place) in block.iter_mut().zip(index..) {
        *value = place;
    }
    Ok(block)
}

/// `sum` is moved in, because this task is its last user.
fn add(mut sum: Buffer<u64>, other: &Buffer<u64>) -> Buffer<u64> {
    for (total, value) in sum.iter_mut().zip(other) {
        *total += value;
    }
    sum
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let count = limits::count("size", context.size, 64, limits::MOST_TASKS / 2)?;
    let len = limits::count("tile", context.tile, 512 << 10, 1 << 40)?;
    let before = context.runtime.report().memory;
    let bytes = 8 * count as u64 * len as u64;
    if bytes > before.limit_bytes / 2 {
        // All but what the disk takes.
        limits::memory("size", Some(before.limit_bytes))?;
    } else {
        limits::memory("size", Some(bytes))?;
    }
    let total = 2 * count as u64 - 1;
    let mut blocks: Vec<Task<Buffer<u64>>> = (0..count as u64).map(|index| context.runtime.spawn(block, (index, len))).collect();
    for (done, block) in (1..).zip(&blocks) {
        block.wait()?;
        context.progress.advance(done, total);
    }
    while blocks.len() > 1 {
        let mut others = blocks.split_off(blocks.len().div_ceil(2)).into_iter();
        let sum = |block: Task<_>| match others.next() {
            Some(other) => context.runtime.spawn(add, (block, other)),
            None => block,
        };
        blocks = blocks.into_iter().map(sum).collect();
    }
    let sum = blocks.remove(0).fetch()?;
    context.progress.advance(total, total);

    let memory = context.runtime.report().memory;
    let written_bytes = memory.spill_written_bytes - before.spill_written_bytes;
    let read_bytes = memory.spill_read_bytes - before.spill_read_bytes;
    Ok(Outcome {
        lines: vec![format!(
            "sum of {count} blocks of {}, {} together; the limit is {}",
            size(8 * len as u64),
            size(bytes),
            size(memory.limit_bytes)
        )],
        values: vec![
            ("blocks", count.into()),
            ("bytes", bytes.into()),
            ("limit_bytes", memory.limit_bytes.into()),
            ("written_bytes", written_bytes.into()),
            ("read_bytes", read_bytes.into()),
        ],
        check: check(&sum, count as u64, len),
        output: None,
    })
}

/// Number `place` of the sum of blocks 0, 1, ... is known without adding.
fn check(sum: &[u64], count: u64, len: usize) -> Check {
    let first = count * (count - 1) / 2;
    let wrong = sum.iter().zip(0..).filter(|(value, place)| **value != first + count * place).count();
    Check { passed: sum.len() == len && wrong == 0, text: format!("{wrong} of {len} sums differ from the formula") }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn runs_at_every_size() {
        for size in [1, 2, 3, 7, 64] {
            Trial { size: Some(size), tile: Some(1000), ..Trial::default() }.passes(&SAMPLE);
        }
    }

    #[test]
    fn refuses_sizes_without_sense() {
        for size in [0, limits::MOST_TASKS, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
        Trial { tile: Some(0), ..Trial::default() }.refused(&SAMPLE, "tile");
    }

    #[test]
    fn check_notices_one_wrong_number() {
        let mut sum = add(block(0, 9).unwrap(), &block(1, 9).unwrap());
        assert!(check(&sum, 2, 9).passed);
        assert!(!check(&sum[1..], 2, 9).passed);
        sum[8] += 1;
        assert!(!check(&sum, 2, 9).passed);
    }
}
