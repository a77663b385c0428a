//! What worker processes cost, beside `ipc-channel`, a Unix socket and the machine's limits in the same run:
//! `cargo bench -p poniard-tests --bench processes [-- [--json] [--quick] [CASE ...]]`.
//!
//! Systems measured side by side are interleaved, a sample of each in turn; the first of a case is what ratios refer to. Read the minima, and the ratios. What
//! is asked of Poniard stands in its note. The default builder everywhere, and `processes`; where whoever waits is to spin or to sleep, `processes.spin` says so.
//! All cases take about a minute and a half. Needs Linux.
//!
//! | System | Is |
//! |---|---|
//! | `limit` | what the machine takes without any runtime |
//! | `poniard` | what a user has: a task on a worker process, from spawn to result |
//! | `poniard-call` | the backend alone: a call through its `Remote`, without a runtime and without a task |
//! | `ipc-channel`, `unix-socket` | a word to another process and back |
//! | `threads`, `local` | the same work on threads |
//!
//! The other processes are this program again: a fork server where the runtime, or [`alone`], says so in the environment, and a peer with the argument `--peer`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod alone;
mod faults;
mod memory;
mod peer;
mod pipelined;
mod round_trip;
mod shared_words;
mod start;

use std::process::ExitCode;

use poniard::{Runtime, Scope, TaskOptions};
use poniard_bench::{Arguments, Case, Effort, Setup, System, Turns, systems};

use round_trip::Pace;

/// What is resident in the host in the cases that end with `-1gib`.
const BALLAST_BYTES: usize = 1 << 30;

/// The cases: name, unit, samples.
const CASES: [(&str, &str, usize); 14] = [
    ("ping-pong", "ns", 11),
    ("round-trip-spinning", "ns", 61),
    ("round-trip-asleep", "ns", 21),
    ("pipelined", "ns/task", 11),
    ("first-worker", "ms", 11),
    ("further-worker", "ms", 11),
    ("first-worker-1gib", "ms", 11),
    ("further-worker-1gib", "ms", 11),
    ("hand-over-256mib", "us", 11),
    ("sibling-read-first", "ms", 31),
    ("sibling-read-later", "ms", 31),
    ("death-noticed", "ms", 11),
    ("chaos", "runs", 1),
    ("worker-memory", "MiB", 3),
];

/// Options of a task that is to run on a worker process.
fn far() -> TaskOptions {
    TaskOptions::new().scope(Scope::backend("process"))
}

/// The one in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The systems of a case. Dropped, they leave nothing behind for the next case.
fn systems_of(case: &str, effort: Effort) -> Vec<System<'static>> {
    match case {
        "round-trip-spinning" => Pace::Spinning.systems(effort),
        "round-trip-asleep" => Pace::Asleep.systems(effort),
        "pipelined" => pipelined::systems(effort),
        "first-worker" | "first-worker-1gib" => start::first(),
        "further-worker" | "further-worker-1gib" => start::further(),
        "hand-over-256mib" => memory::hand_over(),
        "sibling-read-first" => memory::sibling(true),
        "sibling-read-later" => memory::sibling(false),
        "death-noticed" => faults::death(),
        "chaos" => faults::chaos(effort),
        _ => memory::worker(),
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse(std::env::args().skip(1), &CASES.map(|(name, ..)| name))?;
    if let Some(heading) = arguments.heading() {
        println!("{heading}");
    }
    for (case, unit, samples) in CASES.into_iter().filter(|(name, ..)| arguments.includes(name)) {
        let sample_count = if arguments.effort == Effort::Quick { samples.min(3) } else { samples };
        let turns = Turns { bench: "processes", case, unit, warm_up: sample_count > 1, sample_count };
        let ballast = case.ends_with("-1gib").then(|| std::hint::black_box(vec![1u8; BALLAST_BYTES]));
        let figures = match Case::named(case) {
            // What the machine takes from one core to another, as the benchmark `overhead` has it.
            Some(known) => {
                let runtime = Runtime::builder().threads(1).build()?;
                turns.measure(systems(known, &Setup { runtime: &runtime, workers: 1, effort: arguments.effort }))
            }
            None => turns.measure(systems_of(case, arguments.effort)),
        };
        drop(ballast);
        for figure in figures {
            println!("{}", arguments.line(&figure));
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    if let Some(code) = alone::serve() {
        return code;
    }
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == peer::FLAG).is_some() {
        peer::serve(arguments);
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
