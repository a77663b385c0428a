//! `xfer`: what it costs to give values to tasks and to get values from them, by size. Run it with and without `--threads 1 --processes 1`.
//!
//! A thread works on values where they lie. A worker process maps the memory of a `Buffer`, so no size of it is copied either, but the first task that looks at a
//! page pays for it. A `Vec` is sent there and back.

use std::time::{Duration, Instant};

use poniard::{AllocateError, Buffer, Data, Runtime, Scope, Task, Value, buffer};

use super::limits;
use crate::report;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "xfer",
    summary: "what it costs to give arrays to tasks and to get them back, by size",
    options: &[SampleOption { name: "size", meaning: "bytes of the largest array, default 67108864 (64 MiB)" }],
    kernels: false,
    run,
};

/// Bytes of the smallest array; each further one is this many times as large.
const SMALLEST_BYTES: usize = 1 << 10;
const GROWTH: usize = 4;
/// The most elements of arrays that are measured several times.
const MOST_REPEATED: usize = 1 << 19;

/// Element `index` of every array. Whole numbers, so sums are exact.
fn element(index: usize) -> f64 {
    (index % 1024) as f64
}

/// Reads a buffer where it lies.
fn sum(values: &Buffer<f64>) -> f64 {
    values.iter().sum()
}

/// Makes a buffer.
fn make(len: usize) -> Result<Buffer<f64>, AllocateError> {
    let mut values = buffer::try_zeroed(len)?;
    for (index, value) in values.iter_mut().enumerate() {
        *value = element(index);
    }
    Ok(values)
}

/// Takes a vector and gives it back.
fn double(mut values: Vec<f64>) -> Vec<f64> {
    for value in &mut values {
        *value *= 2.0;
    }
    values
}

/// The times from spawn to result, in the order of the table's columns, and the sums that were found in the same order.
struct Measured {
    times: [Duration; 4],
    sums: [f64; 4],
}

/// The processor that all tasks run on: a worker process where there is one.
fn place(runtime: &Runtime) -> Option<String> {
    let processes = runtime.processors_in(&Scope::backend("process"));
    processes.into_iter().next().map(|processor| processor.name)
}

/// Waits for a task that was spawned at `start`.
fn timed<T: Data>(start: Instant, task: Task<T>) -> Result<(Duration, Value<T>), SampleError> {
    let value = task.fetch()?;
    Ok((start.elapsed(), value))
}

/// Arrays of `len` elements, all four ways: several small ones, one large one; the middle of the times.
fn measure(runtime: &Runtime, scope: &Scope, len: usize) -> Result<Measured, SampleError> {
    let rounds = (MOST_REPEATED / len).clamp(1, 5);
    let (mut times, mut sums) = (<[Vec<Duration>; 4]>::default(), [0.0; 4]);
    // Kept, so that every buffer is in memory which its task has not seen.
    let mut kept = Vec::new();
    for _ in 0..rounds {
        let mut values: Buffer<f64> = limits::zeroed("size", len)?;
        values.iter_mut().enumerate().for_each(|(index, value)| *value = element(index));
        let vector = values.to_vec();
        let given = runtime.value(values);

        let read = || timed(Instant::now(), runtime.task(sum, (&given,)).name("read").scope(scope.clone()).spawn());
        let (first, first_sum) = read()?;
        let (second, second_sum) = read()?;
        let (made, buffer) = timed(Instant::now(), runtime.task(make, (len,)).name("make").scope(scope.clone()).spawn())?;
        let (moved, doubled) = timed(Instant::now(), runtime.task(double, (vector,)).name("double").scope(scope.clone()).spawn())?;
        for (times, time) in times.iter_mut().zip([first, second, made, moved]) {
            times.push(time);
        }
        sums = [*first_sum, *second_sum, buffer.iter().sum(), doubled.iter().sum::<f64>() / 2.0];
        kept.push((given, buffer));
    }
    let times = times.map(|mut times| {
        times.sort_unstable();
        times[rounds / 2]
    });
    Ok(Measured { times, sums })
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let runtime = context.runtime;
    let largest = limits::count("size", context.size, 64 << 20, 1 << 40)?;
    // A buffer that is given and one that is made; a vector, at both ends and on its way.
    limits::memory("size", (largest as u64).checked_mul(8))?;
    let mut lens: Vec<usize> = std::iter::successors(Some(SMALLEST_BYTES), |bytes| bytes.checked_mul(GROWTH))
        .take_while(|bytes| *bytes < largest)
        .map(|bytes| bytes / 8)
        .collect();
    lens.push(largest.div_ceil(8));

    let place = place(runtime);
    let scope = place.as_ref().map_or_else(Scope::host, Scope::processor);
    // The first task that a process gets has to wait until there is one.
    runtime.task(make, (1,)).scope(scope.clone()).spawn().wait()?;
    let mut lines = vec![
        format!("from spawn to result, {}", place.as_deref().unwrap_or("on threads of this process")),
        format!("{:>10} {:>12} {:>12} {:>12} {:>12}", "", "read", "read again", "make", "Vec"),
    ];
    let (mut figures, mut sums) = (Vec::new(), Vec::new());
    for (done, len) in (1..).zip(&lens) {
        let measured = measure(runtime, &scope, *len)?;
        let [first, second, made, moved] = measured.times.map(report::duration);
        lines.push(format!("{:>10} {first:>12} {second:>12} {made:>12} {moved:>12}", report::size(8 * *len as u64)));
        figures.push(measured.times.map(|time| time.as_nanos() as u64));
        sums.push((*len, measured.sums));
        context.progress.advance(done, lens.len() as u64);
    }
    Ok(Outcome {
        lines,
        values: vec![
            ("processor", place.into()),
            ("bytes", lens.iter().map(|len| 8 * len).collect::<Vec<_>>().into()),
            ("elapsed_ns", serde_json::json!(figures)),
        ],
        check: check(&sums),
        output: None,
    })
}

/// Every task saw, or made, all elements.
fn check(sums: &[(usize, [f64; 4])]) -> Check {
    let mut wrong = 0;
    for (len, sums) in sums {
        let expected: f64 = (0..*len).map(element).sum();
        wrong += sums.iter().filter(|sum| **sum != expected).count();
    }
    Check { passed: wrong == 0, text: format!("{wrong} of {} sums differ from a plain loop", 4 * sums.len()) }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn has_a_line_for_each_size() {
        for (size, sizes) in [(1, 1), (1024, 1), (1025, 2), (5000, 3)] {
            let outcome = Trial { size: Some(size), ..Trial::default() }.passes(&SAMPLE);
            assert_eq!(outcome.lines.len(), 2 + sizes, "{:?}", outcome.lines);
        }
    }

    #[test]
    fn refuses_sizes_without_sense() {
        for size in [0, 1 << 40, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
    }

    #[test]
    fn check_notices_a_wrong_sum() {
        assert!(check(&[(3, [3.0; 4])]).passed);
        for wrong in [2.0, f64::NAN] {
            assert!(!check(&[(3, [3.0, 3.0, 3.0, wrong])]).passed);
        }
    }
}
