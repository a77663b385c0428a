//! What a task costs, beside rayon in the same run: `cargo bench -p poniard-tests --bench overhead [-- [--json] [--quick] [CASE ...]]`.
//!
//! Poniard's systems, the cases, the harness and the table are those of `poniard bench` (crate `poniard-bench`); here are rayon's, a file for each group of
//! cases. Systems measured side by side are interleaved, a sample of each in turn. Two workers everywhere. Read the minima, and the ratios between systems;
//! a single figure in ns belongs to one machine. All cases take about half a minute;
//! `--quick` takes fewer samples.
//!
//! | System | Is |
//! |---|---|
//! | `poniard-spawn` | every task spawned one by one |
//! | `poniard-rerun` | a run of a graph that was built before |
//! | `poniard-build-run` | build a graph, run it once, drop it |
//! | `poniard-join` | `poniard::join` over borrowed data, in one task |
//! | `rayon-scope`, `rayon-join` | rayon's own ways to spawn |
//! | `rayon-countdown` | what a careful user of rayon writes for a graph that is known before: counters, and one successor run at once |
//! | `limit` | what the machine takes without any runtime |

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod countdown;
mod flat;
mod fork;
mod graph;

use std::process::ExitCode;

use poniard::Runtime;
use poniard_bench::{Arguments, CASES, Case, CountingAllocator, Effort, Kind, Setup, System, measure, systems};
use rayon::ThreadPool;

const WORKERS: usize = 2;
const EFFORT: Effort = Effort::Thorough;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Rayon's ways to do a case.
fn rayon_systems<'a>(case: &Case, pool: &'a ThreadPool) -> Vec<System<'a>> {
    match case.kind {
        Kind::Independent => vec![flat::scope(pool), flat::countdown(pool)],
        Kind::Chain => vec![graph::chain(pool)],
        Kind::Tree => vec![fork::tree(pool)],
        Kind::Join => vec![fork::join(pool)],
        Kind::Wavefront => vec![graph::wavefront(pool)],
        Kind::Flood => vec![flat::flood(pool)],
        Kind::Metg(width) => vec![graph::stencil(pool, width)],
        Kind::Allocations => vec![flat::allocations(pool)],
        // Rayon has no tasks that depend on others, and what is left is about the runtime or the machine alone.
        _ => Vec::new(),
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse(std::env::args().skip(1), &CASES.each_ref().map(|case| case.name))?;
    let runtime = Runtime::builder().threads(WORKERS).build()?;
    // Its threads are asleep when it has nothing to do, and so do not count in the case `idle`.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build()?;
    let setup = Setup { runtime: &runtime, workers: WORKERS, effort: EFFORT };
    if let Some(heading) = arguments.heading() {
        println!("{heading}");
    }
    for case in CASES.iter().filter(|case| arguments.includes(case.name)) {
        let mut all = rayon_systems(case, &pool);
        all.extend(systems(case, &setup));
        for figure in measure(case, arguments.effort, all) {
            println!("{}", arguments.line(&figure));
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
