//! What a region of very many tasks keeps: the most bytes that were allocated at any time, on all threads, for each of the tasks.

use poniard::{Mutable, Runtime, read, write};
use poniard_bench::{Effort, System, count};

const THREADS: usize = 2;
/// Values that the tasks go round.
const CELLS: usize = 64;

/// A loop around a ring of values, with a window as it comes.
pub(crate) fn of_many(effort: Effort) -> Vec<System<'static>> {
    let tasks = if effort == Effort::Quick { 500_000 } else { 10_000_000 };
    let runtime = Runtime::builder().threads(THREADS).build().expect("a runtime");
    let cells: Vec<_> = (0..CELLS as u64).map(Mutable::new).collect();
    let peak = move || {
        let around = |task: usize| &cells[task % CELLS];
        let region = || {
            let ended = runtime.region(|r| {
                for task in 0..tasks {
                    let add = |from: &u64, to: &mut u64| *to = to.wrapping_add(*from);
                    r.spawn(add, (read(around(task)), write(around(task + 1))));
                }
            });
            ended.expect("no task fails");
        };
        count(region).peak_bytes as f64 / tasks as f64
    };
    vec![System::new("region", "16384 tasks are kept at most, whatever their number", peak)]
}
