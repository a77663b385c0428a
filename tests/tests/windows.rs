//! A region keeps no more memory than its window takes, however many tasks it has: alone in its program, as it counts what all threads allocate.

use poniard::{Mutable, RegionOptions, Runtime, read, write};
use poniard_bench::{CountingAllocator, count};
use poniard_tests::threads;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Tasks that a region keeps here.
const WINDOW: usize = 1000;
/// More than a task takes with all that is noted of it, and far less than it would for each if none went.
const TASK_BYTES: i64 = 2000;

/// The most bytes that a region has at any time.
fn peak_bytes(runtime: &Runtime, tasks: usize) -> i64 {
    let cells: Vec<_> = (0..16u64).map(Mutable::new).collect();
    let list = Mutable::new(vec![0u64; 64]);
    let parts: Vec<_> = (0..8).map(|part| list.rows(8 * part..8 * part + 9.min(64 - 8 * part)).expect("it is inside")).collect();
    let region = || {
        let ended = runtime.region_with(&RegionOptions::new().window(WINDOW), |r| {
            for task in 0..tasks {
                let add = |from: &u64, mut part: poniard::ViewMut<'_, u64>, to: &mut u64| {
                    part[0] += 1;
                    *to = to.wrapping_add(*from);
                };
                // What is spawned waits for what was spawned shortly before, and overlaps with it.
                r.spawn(add, (read(&cells[task % 16]), write(&parts[task % 8]), write(&cells[(task + 1) % 16])));
            }
        });
        assert_eq!(ended.err().map(|error| error.to_string()), None);
    };
    let peak = count(region).peak_bytes;
    assert_eq!(list.fetch().map(|list| list.iter().sum::<u64>()).ok(), Some(tasks as u64), "all of them have run");
    peak
}

#[test]
fn a_region_of_very_many_tasks_takes_the_memory_of_its_window() {
    for count in [1, 2] {
        let runtime = threads(count);
        for tasks in [10 * WINDOW, 60 * WINDOW] {
            let peak = peak_bytes(&runtime, tasks);
            assert!(peak < WINDOW as i64 * TASK_BYTES, "{tasks} tasks on {count} threads took {peak} bytes");
        }
    }
}
