//! What regions cost: `cargo bench -p poniard-tests --bench regions [-- [--json] [--quick] [CASE ...]]`.
//!
//! Systems measured side by side are interleaved, a sample of each in turn. Read the minima. What is asked of Poniard stands in its note, with whether the minimum reaches it. Planning is the
//! time that the spawning thread has a core, divided by the tasks: what runs meanwhile on others is not counted. `matmul` and `cholesky` are whole computations; `window` is
//! memory, and not time. Beside `planning` and the whole computations are the same loops in tasks of OpenMP and StarPU, where these are installed.

mod linear;
mod peers;
mod planning;
mod window;

use std::process::ExitCode;
use std::sync::OnceLock;

use peers::Peer;
use poniard_bench::{CountingAllocator, Effort, Figure, System, program};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The cases: name, unit, samples.
const CASES: [(&str, &str, usize); 10] = [
    ("planning", "ns/task", 21),
    ("planning-parts", "ns/task", 21),
    ("writes-256", "us", 51),
    ("again", "ns/task", 21),
    ("again-writes-256", "ns/task", 51),
    ("again-implicit", "ns/task", 21),
    ("again-implicit-writes-256", "ns/task", 51),
    ("matmul", "ps/flop", 3),
    ("cholesky", "ps/flop", 5),
    ("window", "bytes/task", 3),
];

/// What is asked of a system.
#[derive(Clone, Copy)]
enum Asked {
    /// Its minimum is at most this.
    Most(f64),
    /// It is at least so many times as fast as the first system of its case.
    Rate(f64),
}

impl Asked {
    /// What is asked of a system in a case, if something is.
    fn of(case: &str, system: &str) -> Option<Self> {
        Some(match (case, system) {
            ("planning", "region" | "region-in-task") => Self::Most(400.0),
            ("planning-parts", "region" | "region-in-task") => Self::Most(1000.0),
            ("writes-256", "region" | "region-in-task") => Self::Most(100.0),
            ("again" | "again-writes-256", "plan") => Self::Most(30.0),
            ("again-implicit" | "again-implicit-writes-256", "replayed") => Self::Most(100.0),
            ("matmul", "region") => Self::Rate(0.9),
            ("cholesky", "region") => Self::Rate(0.75),
            _ => return None,
        })
    }

    /// Puts into a figure's note what is asked of it, and whether that is reached.
    fn note(self, figure: &mut Figure) {
        let (is_reached, asked) = match self {
            Self::Most(most) => (figure.min <= most, format!("at most {most}")),
            Self::Rate(least) => {
                let rate = figure.ratio.map_or(f64::INFINITY, f64::recip);
                (rate >= least, format!("{least} of the rate of the first, here {rate:.2}"))
            }
        };
        let verdict = if is_reached { "reached" } else { "missed" };
        let more = if figure.note.is_empty() { String::new() } else { format!("; {}", figure.note) };
        figure.note = format!("asked: {asked}, {verdict}{more}");
    }
}

fn systems_of(case: &str, effort: Effort, peers: &OnceLock<Vec<&'static Peer>>) -> Vec<System<'static>> {
    let peers = || peers.get_or_init(|| peers::installed(linear::THREADS));
    match case {
        "planning" => planning::of_tiles(effort, peers()),
        "planning-parts" => planning::of_parts(effort),
        "again" => planning::again_tiles(effort),
        "again-writes-256" => planning::again_writes(),
        "again-implicit" => planning::again_implicit(effort),
        "again-implicit-writes-256" => planning::again_implicit_writes(),
        "matmul" => linear::matmul(effort, peers()),
        "cholesky" => linear::factor(effort, peers()),
        "window" => window::of_many(effort),
        _ => planning::of_writes(),
    }
}

fn main() -> ExitCode {
    let peers = OnceLock::new();
    program("regions", CASES, |turns, effort| {
        let mut figures = turns.measure(systems_of(turns.case, effort, &peers));
        for figure in &mut figures {
            if let Some(asked) = Asked::of(turns.case, figure.system) {
                asked.note(figure);
            }
        }
        figures
    })
}
