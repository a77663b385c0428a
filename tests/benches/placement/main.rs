//! How well the runtime places work and data, beside the least that the machine takes for the same in the same run:
//! `cargo bench -p poniard-tests --bench placement [-- [--json] [--quick] [CASE ...]]`.
//!
//! Systems measured side by side are interleaved, a sample of each in turn; the first of a case is what ratios refer to, and in the cases `automatic-*` the best
//! that is chosen by hand. Read the minima, and the ratios. What is asked of Poniard stands in its note, with whether it is reached. All cases take about three
//! minutes; those with devices use software ones where there are no others. Needs Linux.
//!
//! | System | Is |
//! |---|---|
//! | `limit` | what cannot be done without |
//! | `poniard` | what a user has who says nothing; what comes after a hyphen is a special case |
//! | `threads`, `processes`, `both`, `vulkan`, `device` | a choice of backends by hand |
//! | a policy | what a user has who names it |

mod automatic;
mod decision;
mod locality;
mod model;
mod out_of_core;
mod roots;
mod sample_run;
mod single_choice;
mod sleeps;
mod suited;

use std::process::ExitCode;

use poniard_bench::{Effort, Figure, System, program};

/// The cases: name, unit, samples.
const CASES: [(&str, &str, usize); 19] = [
    ("sleeps", "ms", 7),
    ("locality", "% moved", 1),
    ("locality-devices", "KiB", 1),
    ("decision", "ns", 11),
    ("decision-push", "ns", 11),
    ("decision-whole", "ns", 11),
    ("single-choice", "ns/task", 21),
    ("single-choice-chain", "ns/task", 21),
    ("automatic-convolve", "ms", 10),
    ("automatic-cholesky", "ms", 10),
    ("automatic-mixed", "ms", 10),
    ("automatic-suited", "ms", 10),
    ("automatic-imbalance", "ms", 10),
    ("automatic-locality", "ms", 10),
    ("model-host", "% wrong", 1),
    ("model-device", "% wrong", 1),
    ("outofcore", "ms", 5),
    ("outofcore-peak", "MiB", 3),
    ("roots", "MiB", 5),
];

/// Two times that differ by less are the same.
const SAME: f64 = 1.05;

/// What is asked of a system.
#[derive(Clone, Copy)]
enum Asked {
    /// Its minimum is at most so many times that of the first system, or of the best choice by hand.
    Ratio(f64),
    /// Its median is at most this.
    Median(f64),
}

impl Asked {
    /// What is asked of a system in a case, if something is.
    fn of(case: &str, system: &str) -> Option<Self> {
        Some(match (case, system) {
            ("sleeps", "poniard") => Self::Ratio(1.1),
            (case, "poniard") if case.starts_with("automatic-") => Self::Ratio(1.1),
            (case, "poniard-first") if case.starts_with("automatic-") => Self::Ratio(1.5),
            ("locality", "poniard") => Self::Median(0.0),
            ("locality-devices", "poniard") => Self::Ratio(1.05),
            ("decision", _) => Self::Median(200.0),
            ("single-choice" | "single-choice-chain", "poniard") => Self::Ratio(SAME),
            ("model-host" | "model-device", _) => Self::Median(10.0),
            ("outofcore", "poniard") => Self::Ratio(1.5),
            ("outofcore-peak", "poniard" | "poniard-pss") => Self::Ratio(1.15),
            _ => return None,
        })
    }

    /// Puts into a figure's note what is asked of it, and whether that is reached. Two digits count.
    fn note(self, figure: &mut Figure) {
        let (reached, asked) = match self {
            Self::Ratio(most) => (figure.ratio.is_none_or(|ratio| ratio < most + 0.005), format!("x{most}")),
            Self::Median(most) => (figure.median < most + 0.005, format!("a median of {most}")),
        };
        let verdict = if reached { "reached" } else { "missed" };
        let more = if figure.note.is_empty() { String::new() } else { format!("; {}", figure.note) };
        figure.note = format!("asked: at most {asked}, {verdict}{more}");
    }
}

/// The systems of a case; a text says why there are none. Dropped, they leave nothing behind for the next case.
fn systems_of(case: &'static str, effort: Effort) -> Result<Vec<System<'static>>, String> {
    Ok(match case {
        "sleeps" => sleeps::systems(),
        "locality" => locality::on_processes(effort),
        "locality-devices" => locality::on_devices(),
        "decision" => decision::systems(decision::Part::Decision),
        "decision-push" => decision::systems(decision::Part::Push),
        "decision-whole" => decision::systems(decision::Part::Whole),
        "single-choice" => single_choice::systems(single_choice::Shape::Independent, effort),
        "single-choice-chain" => single_choice::systems(single_choice::Shape::Chain, effort),
        "model-host" => model::on_host(),
        "model-device" => model::on_device()?,
        "automatic-suited" => suited::systems(),
        "outofcore" => out_of_core::time(effort),
        "outofcore-peak" => out_of_core::peak(effort),
        "roots" => roots::written(effort),
        _ => automatic::systems(case.trim_start_matches("automatic-"), effort),
    })
}

fn main() -> ExitCode {
    program("placement", CASES, |turns, effort| {
        let case = turns.case;
        let systems = match systems_of(case, effort) {
            Ok(systems) => systems,
            Err(reason) => {
                eprintln!("{case} is left out: {reason}");
                return Vec::new();
            }
        };
        let mut figures = turns.measure(systems);
        if case.starts_with("automatic-") {
            automatic::compare(&mut figures);
        }
        for figure in &mut figures {
            if let Some(asked) = Asked::of(case, figure.system) {
                asked.note(figure);
            }
        }
        figures
    })
}
