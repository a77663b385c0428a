//! The main function of a benchmark that measures cases one after the other.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::process::ExitCode;

use crate::arguments::Arguments;
use crate::case::Effort;
use crate::figure::Figure;
use crate::measure::Turns;

/// Samples of a case at most when it is to be quick.
const QUICK_SAMPLES: usize = 3;

/// Measures those of the cases (name, unit, samples) that the command line names, and prints a line for each figure that `measure` gives for one.
pub fn program<const N: usize>(
    bench: &'static str,
    cases: [(&'static str, &'static str, usize); N],
    measure: impl Fn(Turns, Effort) -> Vec<Figure>,
) -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1), &cases.map(|(name, ..)| name)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(heading) = arguments.heading() {
        println!("{heading}");
    }
    for (case, unit, samples) in cases.into_iter().filter(|(name, ..)| arguments.includes(name)) {
        let sample_count = if arguments.effort == Effort::Quick { samples.min(QUICK_SAMPLES) } else { samples };
        let turns = Turns { bench, case, unit, warm_up: sample_count > 1, sample_count };
        for figure in measure(turns, arguments.effort) {
            println!("{}", arguments.line(&figure));
        }
    }
    ExitCode::SUCCESS
}
