//! `poniard bench`: what a task costs on this machine, and from which size on it is worth spawning.
//!
//! The cases and the way they are measured are in the crate `poniard-bench`, which the benchmark `overhead` of the workspace uses as well.

use std::num::NonZeroUsize;

use poniard::Report;
use poniard_bench::{CASES, Case, Effort, Figure, Setup, advice, measure, systems};

use super::run::suggestion;
use super::{Devices, build_runtime};
use crate::console::{self, Console, NAME, Styled};
use crate::failure::Failure;
use crate::options::{BenchOptions, RuntimeOptions};

/// Threads unless the user says otherwise: figures can be compared only with the same number, and every machine that gains by tasks has as many cores.
const THREADS: NonZeroUsize = NonZeroUsize::new(2).expect("two is not nothing");

/// Measures the cases that the options name.
pub fn bench(options: &BenchOptions, console: &mut Console) -> Result<(), Failure> {
    let effort = if options.quick { Effort::Quick } else { Effort::Normal };
    let cases = find(&options.cases, effort)?;
    let threads = options.runtime.threads.unwrap_or(THREADS);
    let runtime = build_runtime(&RuntimeOptions { threads: Some(threads), ..options.runtime.clone() }, Devices::Unneeded)?;
    if cfg!(debug_assertions) {
        console::warn("this command was built without optimisation, which makes every figure larger; build it with --release");
    }
    let workers = worker_count(&runtime.report());
    let setup = Setup { runtime: &runtime, workers, effort };
    if !options.json {
        console.line(Styled(NAME, Figure::heading()))?;
    }
    let mut figures = Vec::new();
    for case in cases {
        for figure in measure(case, effort, systems(case, &setup)) {
            console.line(if options.json { figure.json() } else { figure.row() })?;
            figures.push(figure);
        }
    }
    match advice(&figures, workers) {
        Some(sentence) if !options.json => console.line(sentence),
        _ => Ok(()),
    }
}

/// The cases with these names, each once; without names, all that the effort includes.
fn find(names: &[String], effort: Effort) -> Result<Vec<&'static Case>, Failure> {
    if names.is_empty() {
        return Ok(CASES.iter().filter(|case| effort.includes(case)).collect());
    }
    let mut cases: Vec<&'static Case> = Vec::new();
    for name in names {
        let Some(case) = Case::named(name) else {
            let hint =
                suggestion(name, CASES.iter().map(|case| case.name)).map_or_else(String::new, |near| format!("; did you mean {near}?"));
            return Err(Failure::usage(format_args!("no case named {name}{hint} (`poniard bench --help` lists the cases)")));
        };
        if !cases.contains(&case) {
            cases.push(case);
        }
    }
    Ok(cases)
}

/// The processors that tasks without a scope run on: those with a thread, or if there is none, those that take batches.
fn worker_count(report: &Report) -> usize {
    let processors = || report.backends.iter().flat_map(|backend| &backend.processors);
    match processors().filter(|processor| !processor.queued).count() {
        0 => processors().count(),
        inline => inline,
    }
}
