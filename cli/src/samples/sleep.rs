//! `sleep`: tasks that take no processor. They sleep side by side, however few workers there are, and others compute meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use poniard::Task;

use super::limits;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "sleep",
    summary: "tasks that sleep for a second each, at the same time: occupancy 0",
    options: &[SampleOption { name: "size", meaning: "number of sleeps, 1 to 400, default 10" }],
    kernels: false,
    run,
};

const NAP: Duration = Duration::from_secs(1);

/// How many are asleep, and how many were at once.
#[derive(Debug, Default)]
struct Asleep {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Asleep {
    fn nap(&self) {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
        std::thread::sleep(NAP);
        self.now.fetch_sub(1, SeqCst);
    }
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let size = limits::count("size", context.size, 10, 400)?;
    let asleep = Arc::new(Asleep::default());
    let start = Instant::now();
    let naps: Vec<Task<()>> = (0..size)
        .map(|_| {
            let asleep = Arc::clone(&asleep);
            // A task that reads a file or waits for an answer says the same: it does not compute, so nobody need make room for it.
            context.runtime.task(move || asleep.nap(), ()).name("nap").occupancy(0.0).spawn()
        })
        .collect();
    for (done, nap) in (1..).zip(&naps) {
        nap.wait()?;
        context.progress.advance(done, size as u64);
    }
    let (elapsed, most) = (start.elapsed(), asleep.most.load(SeqCst));
    let processors = context.runtime.processor_count();
    Ok(Outcome {
        lines: vec![format!(
            "{size} sleeps of {} s took {:.2} s on {processors} processor{}: {most} at once",
            NAP.as_secs(),
            elapsed.as_secs_f64(),
            if processors == 1 { "" } else { "s" }
        )],
        values: vec![("size", size.into()), ("at_once", most.into()), ("elapsed_s", elapsed.as_secs_f64().into())],
        check: check(elapsed, most, size),
        output: None,
    })
}

/// No nap is shorter than it should be; and they overlap, or the time is not what it would be one after the other.
fn check(elapsed: Duration, most: usize, size: usize) -> Check {
    let in_a_row = NAP * size as u32;
    Check {
        passed: elapsed >= NAP && (size == 1 || elapsed < in_a_row) && most <= size,
        text: format!("one after the other they would have taken {} s", in_a_row.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn more_sleep_at_once_than_there_are_processors() {
        let outcome = Trial { size: Some(20), ..Trial::default() }.passes(&SAMPLE);
        let most = outcome.values.iter().find(|(name, _)| *name == "at_once").and_then(|(_, value)| value.as_u64()).unwrap();
        assert!(most > 2, "{most}");
    }

    #[test]
    fn refuses_sizes_without_sense() {
        for size in [0, 401, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
    }

    #[test]
    fn check_notices_naps_in_a_row() {
        assert!(check(Duration::from_millis(1100), 10, 10).passed);
        assert!(!check(Duration::from_millis(900), 10, 10).passed);
        assert!(!check(Duration::from_secs(10), 1, 10).passed);
    }
}
