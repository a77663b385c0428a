//! How well the runtime places work and data, beside the least that the machine takes for the same in the same run:
//! `cargo bench -p poniard-tests --bench placement [-- [--json] [--quick] [CASE ...]]`.
//!
//! Systems measured side by side are interleaved, a sample of each in turn; the first of a case is what ratios refer to. Read the minima, and the ratios. What
//! is asked of Poniard stands in its note. Needs Linux.
//!
//! | System | Is |
//! |---|---|
//! | `limit` | what cannot be done without |
//! | `poniard` | what a user has |

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod out_of_core;
mod roots;

use std::process::ExitCode;

use poniard_bench::{Arguments, Effort, System, Turns};

/// The cases: name, unit, samples.
const CASES: [(&str, &str, usize); 3] = [("outofcore", "ms", 7), ("outofcore-peak", "MiB", 3), ("roots", "MiB", 5)];

/// The systems of a case. Dropped, they leave nothing behind for the next case.
fn systems_of(case: &str, effort: Effort) -> Vec<System<'static>> {
    match case {
        "outofcore" => out_of_core::time(effort),
        "roots" => roots::written(effort),
        _ => out_of_core::peak(effort),
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1), &CASES.map(|(name, ..)| name)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(heading) = arguments.heading() {
        println!("{heading}");
    }
    for (case, unit, samples) in CASES.into_iter().filter(|(name, ..)| arguments.includes(name)) {
        let sample_count = if arguments.effort == Effort::Quick { samples.min(3) } else { samples };
        let turns = Turns { bench: "placement", case, unit, warm_up: true, sample_count };
        for figure in turns.measure(systems_of(case, arguments.effort)) {
            println!("{}", arguments.line(&figure));
        }
    }
    ExitCode::SUCCESS
}
