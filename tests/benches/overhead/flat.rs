//! Tasks that depend on nothing: `independent`, `flood`, `allocations`.

use poniard_bench::{System, Tally, count, per_task};
use rayon::ThreadPool;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::{EFFORT, WORKERS};

static DONE: Tally = Tally::new();

/// As many spawns in a scope, by a worker.
pub(crate) fn scope(pool: &ThreadPool) -> System<'_> {
    let count = EFFORT.flood();
    System::new("rayon-scope", format!("{WORKERS} workers, {count} tasks"), move || {
        let time = per_task(count, || spawn_in_scope(pool, count));
        assert_eq!(DONE.take(), count);
        time
    })
}

fn spawn_in_scope(pool: &ThreadPool, count: u64) {
    pool.scope(|scope| {
        for _ in 0..count {
            scope.spawn(|_| DONE.add_one());
        }
    });
}

/// No task for each item at all: rayon halves the range as long as somebody is idle.
pub(crate) fn countdown(pool: &ThreadPool) -> System<'_> {
    let count = EFFORT.flood();
    System::new("rayon-countdown", format!("{WORKERS} workers, a parallel iterator over {count} items"), move || {
        let time = per_task(count, || pool.install(|| (0..count).into_par_iter().for_each(|_| DONE.add_one())));
        assert_eq!(DONE.take(), count);
        time
    })
}

/// As many spawns in a scope, by a thread that is no worker.
pub(crate) fn flood(pool: &ThreadPool) -> System<'_> {
    let count = EFFORT.flood();
    System::new("rayon-scope", format!("{WORKERS} workers, {count} tasks"), move || {
        let time = per_task(count, || {
            pool.in_place_scope(|scope| {
                for _ in 0..count {
                    scope.spawn(|_| DONE.add_one());
                }
            });
        });
        assert_eq!(DONE.take(), count);
        time
    })
}

/// Calls of the allocator for each spawn in a scope.
pub(crate) fn allocations(pool: &ThreadPool) -> System<'_> {
    const ROUND: u64 = 1_000;
    const ROUNDS: u64 = 100;
    System::new("rayon-scope", format!("{WORKERS} workers, rounds of {ROUND} tasks"), move || {
        let counted = count(|| (0..ROUNDS).for_each(|_| spawn_in_scope(pool, ROUND)));
        assert_eq!(DONE.take(), ROUNDS * ROUND);
        counted.allocations as f64 / (ROUNDS * ROUND) as f64
    })
}
