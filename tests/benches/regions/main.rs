//! What regions cost: `cargo bench -p poniard-tests --bench regions [-- [--json] [--quick] [CASE ...]]`.
//!
//! Systems measured side by side are interleaved, a sample of each in turn. Read the minima. What is asked of Poniard stands in its note, with whether the minimum reaches it. Planning is the
//! time that the spawning thread has a core, divided by the tasks: what runs meanwhile on others is not counted.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod planning;

use std::process::ExitCode;

use poniard_bench::{Arguments, Effort, Figure, System, Turns};

/// The cases: name, unit, samples.
const CASES: [(&str, &str, usize); 5] = [
    ("planning", "ns/task", 21),
    ("planning-parts", "ns/task", 21),
    ("writes-256", "us", 51),
    ("again", "ns/task", 21),
    ("again-writes-256", "ns/task", 51),
];

/// What the minimum of a system is to be at most.
fn asked(case: &str, system: &str) -> Option<f64> {
    Some(match (case, system) {
        ("planning", "region" | "region-in-task") => 400.0,
        ("planning-parts", "region" | "region-in-task") => 1000.0,
        ("writes-256", "region" | "region-in-task") => 100.0,
        ("again" | "again-writes-256", "plan") => 30.0,
        _ => return None,
    })
}

/// Puts into a figure's note what is asked of it, and whether that is reached.
fn note(most: f64, figure: &mut Figure) {
    let verdict = if figure.min <= most { "reached" } else { "missed" };
    let more = if figure.note.is_empty() { String::new() } else { format!("; {}", figure.note) };
    figure.note = format!("asked: at most {most}, {verdict}{more}");
}

fn systems_of(case: &str, effort: Effort) -> Vec<System<'static>> {
    match case {
        "planning" => planning::of_tiles(effort),
        "planning-parts" => planning::of_parts(effort),
        "again" => planning::again_tiles(effort),
        "again-writes-256" => planning::again_writes(),
        _ => planning::of_writes(),
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
        let turns = Turns { bench: "regions", case, unit, warm_up: sample_count > 1, sample_count };
        for figure in &mut turns.measure(systems_of(case, arguments.effort)) {
            if let Some(most) = asked(case, figure.system) {
                note(most, figure);
            }
            println!("{}", arguments.line(figure));
        }
    }
    ExitCode::SUCCESS
}
