//! `async`: an asynchronous program that hands its computing to tasks, and awaits them on one thread.
//!
//! The thread that runs the asynchronous program never waits for a task: a task wakes the program when it has finished. One task shows it: it ends when it is
//! told that all others are answered, by the same thread that has awaited it since before them.

use std::sync::mpsc;
use std::time::Duration;

use poniard::{BoxError, Handle, TaskError};
use tokio::task::{JoinError, JoinSet};

use super::limits;
use crate::sample::{Check, Context, Outcome, Progress, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "async",
    summary: "an asynchronous program awaits tasks, many at the same time and all on one thread",
    options: &[SampleOption { name: "size", meaning: "number of requests, default 1000" }],
    kernels: false,
    run,
};

/// The task that is told something gives up after this time, so that the check fails and nothing hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Steps until 3n + 1, or half of n when that is even, comes to 1.
fn collatz_steps(n: u64) -> u64 {
    let next = |n: &u64| (*n > 1).then(|| if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 });
    std::iter::successors(Some(n), next).skip(1).count() as u64
}

fn square(n: &u64) -> u64 {
    n * n
}

/// One request: two tasks, the second of which takes the result of the first.
async fn answer(tasks: Handle, n: u64) -> Result<u64, TaskError> {
    // `spawn` would do as well; where very many are spawned at once, it makes the thread wait for room, and this does not.
    let steps = tasks.spawn_async(collatz_steps, (n,)).await;
    let squared = tasks.spawn_async(square, (&steps,)).await;
    Ok(*squared.await? - *steps.await?)
}

/// What a future of the executor came to; its panic is this thread's.
fn joined<T>(result: Result<T, JoinError>) -> T {
    match result {
        Ok(value) => value,
        // Nobody aborts one, so it has panicked.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The whole program: gives the sum of all answers, and what the listener was told.
async fn serve(tasks: Handle, size: usize, progress: &dyn Progress) -> Result<(u64, String), TaskError> {
    // A task that waits and does not compute, so it takes no processor. It is awaited from now on.
    let (tell, told) = mpsc::channel();
    let listen = move || -> Result<String, BoxError> { Ok(told.recv_timeout(PATIENCE)?) };
    let listener = tasks.task(listen, ()).name("listener").occupancy(0.0).spawn();
    let mut listeners = JoinSet::new();
    listeners.spawn(async move { listener.await.map(|word| word.take()) });

    let mut requests = JoinSet::new();
    for n in 1..=size as u64 {
        requests.spawn(answer(tasks.clone(), n));
    }
    let mut sum = 0;
    let mut done = 0;
    // In the order in which they are answered.
    while let Some(answer) = requests.join_next().await {
        sum += joined(answer)?;
        done += 1;
        progress.advance(done, size as u64);
    }

    // Its task has been awaited on this very thread all the time.
    let unheard = tell.send("all are answered".to_owned()).is_err();
    match listeners.join_next().await {
        Some(word) if !unheard => Ok((sum, joined(word)?)),
        _ => Ok((sum, String::new())),
    }
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let size = limits::count("size", context.size, 1000, limits::MOST_TASKS / 2)?;
    let (sum, told) = match tokio::runtime::Builder::new_current_thread().build() {
        Ok(executor) => executor.block_on(serve(context.runtime.handle(), size, context.progress))?,
        Err(error) => (0, format!("the executor did not start: {error}")),
    };
    Ok(Outcome {
        lines: vec![
            format!("{size} requests of two tasks each, awaited on one thread: sum {sum}"),
            format!("a task that had been awaited all the time was then told: {told}"),
        ],
        values: vec![("size", size.into()), ("sum", sum.into()), ("told", told.as_str().into())],
        check: check(sum, &told, size),
        output: None,
    })
}

/// Compares the answers with a plain loop.
fn check(sum: u64, told: &str, size: usize) -> Check {
    let expected: u64 = (1..=size as u64).map(collatz_steps).map(|steps| steps * steps - steps).sum();
    Check { passed: sum == expected && told == "all are answered", text: format!("a plain loop gives {expected}") }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn runs_at_every_size_and_on_one_processor() {
        for (size, threads) in [(None, None), (Some(1), None), (Some(1), Some(1)), (Some(20_000), None)] {
            Trial { size, threads, ..Trial::default() }.passes(&SAMPLE);
        }
    }

    #[test]
    fn refuses_sizes_without_sense() {
        for size in [0, 1 << 39, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
    }

    #[test]
    fn steps_are_those_of_the_sequence() {
        // 6, 3, 10, 5, 16, 8, 4, 2, 1.
        assert_eq!([1, 2, 6, 27].map(collatz_steps), [0, 1, 8, 111]);
    }

    #[test]
    fn check_notices_a_missing_answer_and_an_unheard_word() {
        // 0, 1, 7: their squares less themselves are 0, 0, 42.
        assert!(check(42, "all are answered", 3).passed);
        assert!(!check(41, "all are answered", 3).passed);
        assert!(!check(42, "", 3).passed);
    }
}
