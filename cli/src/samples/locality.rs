//! `locality`: two matrices are made in two places, and summed up in bands by tasks that say nothing about where. What is moved for that?
//!
//! With `--processes 2` the matrices are made in two worker processes. Threads and worker processes of a machine share the memory of buffers, so it is nothing,
//! wherever a band is summed up.

use poniard::{AllocateError, Buffer, ProcessId, Scope, Task, TaskOptions, buffer};

use super::limits;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "locality",
    summary: "two matrices made in two processes, and their sums: how many bytes are moved",
    options: &[
        SampleOption { name: "size", meaning: "rows and columns of each matrix, default 4096" },
        SampleOption { name: "tile", meaning: "rows of a band that one task sums up, default 512" },
    ],
    kernels: false,
    run,
};

/// The element in a place: 0 to 8 in turn, another turn in each matrix.
fn element(matrix: u64, index: u64) -> f64 {
    ((index * (matrix + 1)) % 9) as f64
}

/// A whole matrix, and the process that made it.
fn make(matrix: u64, size: u64) -> Result<(Buffer<f64>, u32), AllocateError> {
    let mut elements: Buffer<f64> = buffer::try_zeroed((size * size) as usize)?;
    for (index, place) in (0..).zip(elements.iter_mut()) {
        *place = element(matrix, index);
    }
    Ok((elements, std::process::id()))
}

/// The sum of a band of rows, and the process that did it.
fn sum((elements, _): &(Buffer<f64>, u32), first: u64, len: u64) -> (f64, u32) {
    (elements[first as usize..][..len as usize].iter().sum(), std::process::id())
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let runtime = context.runtime;
    let size = limits::count("size", context.size, 4096, 1 << 20)? as u64;
    let tile = limits::count("tile", context.tile, 512, u64::MAX)? as u64;
    let bands = size.div_ceil(tile);
    limits::tasks("tile", bands.checked_mul(2))?;
    limits::memory("size", size.checked_pow(2).and_then(|elements| elements.checked_mul(2 * 8)))?;

    let processes = runtime.processors_in(&Scope::backend("process")).len() as u32;
    let place = |matrix: u32| match processes {
        0 => TaskOptions::new(),
        count => TaskOptions::new().scope(Scope::process(ProcessId(1 + matrix % count))),
    };
    let before = copied_bytes(context);
    let matrices: Vec<Task<(Buffer<f64>, u32)>> =
        (0..2).map(|matrix| runtime.task(make, (u64::from(matrix), size)).options(&place(matrix)).name("make").spawn()).collect();
    let mut sums = Vec::new();
    for matrix in &matrices {
        for band in 0..bands {
            let rows = tile.min(size - band * tile);
            sums.push(runtime.task(sum, (matrix, band * tile * size, rows * size)).name("sum").spawn());
        }
    }
    let mut totals = [0.0; 2];
    let mut at_home = 0u64;
    for (done, task) in (0..).zip(sums) {
        let matrix = (done / bands) as usize;
        let (part, process) = task.take()?;
        totals[matrix] += part;
        at_home += u64::from(process == matrices[matrix].fetch()?.1);
        context.progress.advance(done + 1, 2 * bands);
    }
    let moved = copied_bytes(context) - before;
    let data = 2 * size * size * 8;
    Ok(Outcome {
        lines: vec![
            format!("sums {} and {} of two matrices of {size} x {size} ({} MiB)", totals[0], totals[1], data >> 20),
            format!("{at_home} of {} bands were summed up where their matrix was made; {moved} bytes were moved in all", 2 * bands),
        ],
        values: vec![("moved_bytes", moved.into()), ("data_bytes", data.into()), ("at_home", at_home.into())],
        check: check(totals, size),
        output: None,
    })
}

/// Bytes that have been copied to processors or from them.
fn copied_bytes(context: &Context<'_>) -> u64 {
    let report = context.runtime.report();
    let processors = report.backends.iter().flat_map(|backend| &backend.processors);
    processors.map(|processor| processor.copied_to_bytes + processor.copied_from_bytes).sum()
}

/// Sums of whole turns of nine elements, and of what is left.
fn check(totals: [f64; 2], size: u64) -> Check {
    let count = size * size;
    let expected = [0, 1].map(|matrix| {
        let sum = |from: u64, to: u64| (from..to).map(|index| element(matrix, index)).sum::<f64>();
        (count / 9) as f64 * sum(0, 9) + sum(count / 9 * 9, count)
    });
    Check { passed: totals == expected, text: format!("{} and {} by whole turns of nine elements", expected[0], expected[1]) }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn sums_both_matrices() {
        for (size, tile) in [(1, 1), (10, 3), (64, 100), (7, 7)] {
            Trial { size: Some(size), tile: Some(tile), ..Trial::default() }.passes(&SAMPLE);
        }
    }

    #[test]
    fn elements_are_not_moved_between_processes() {
        let outcome = Trial { size: Some(300), tile: Some(50), apart: true, ..Trial::default() }.passes(&SAMPLE);
        let moved = outcome.values.iter().find(|(name, _)| *name == "moved_bytes").and_then(|(_, value)| value.as_u64()).unwrap();
        // What travels besides the elements: names of places, numbers.
        assert!(moved < 300 * 300 * 8 / 100, "{moved}");
    }

    #[test]
    fn refuses_sizes_without_sense() {
        Trial { size: Some(0), ..Trial::default() }.refused(&SAMPLE, "size");
        Trial { tile: Some(0), ..Trial::default() }.refused(&SAMPLE, "tile");
        Trial { size: Some(1 << 20), ..Trial::default() }.refused(&SAMPLE, "size");
    }

    #[test]
    fn check_notices_a_wrong_sum() {
        let right = [(0..25).map(|index| element(0, index)).sum(), (0..25).map(|index| element(1, index)).sum()];
        assert!(check(right, 5).passed);
        assert!(!check([right[0], right[1] + 1.0], 5).passed);
    }
}
