//! A whole policy: one queue for all places, the longest task first.
//!
//! Build it, call the file `libponiard_policy_longest-first.so`, and put it beside the program or into a folder of `PONIARD_BACKEND_PATH`.
//!
//! Longest processing time first, from R. L. Graham, "Bounds on multiprocessing timing anomalies", 1969: on like processors the last task ends no later than 4/3 of the best that
//! can be, since what is left at the end is short.

use poniard_interface::policy::{Decision, Key, Place, Placement, Policy, ReadyTask, View, Why};

// The entry point: a symbol that carries the name, read from the file before any code of it runs. Then what `poniard policies` says, and how one is made.
poniard_interface::export_policy!("longest-first", "one queue, the task that is expected to take longest first", LongestFirst);

#[derive(Debug)]
struct LongestFirst;

impl Policy for LongestFirst {
    fn name(&self) -> &'static str {
        "longest-first"
    }

    // Where a ready task waits, and why: in the queue for all, until the first place that may run it is free.
    fn place(&mut self, _task: &ReadyTask<'_>, _view: &mut View<'_>) -> Decision {
        Decision::shared(Why::FirstFree)
    }

    // Where in that queue: the smallest key comes first. Of equal ones the task that was ready first.
    fn key(&self, task: &ReadyTask<'_>, _placement: Placement, _places: &[Place]) -> Key {
        // At the place that suits it best; what was never measured counts as the guess that the runtime makes.
        let cost_ns = task.candidates.iter().map(|candidate| candidate.cost_ns()).min().unwrap_or(0);
        let longest_first = Key::descending(i64::try_from(cost_ns).unwrap_or(i64::MAX));
        Key([Key::descending(task.priority.into()), longest_first, 0])
    }

    // Whoever is idle is woken for what waits.
    fn keeps_all_busy(&self) -> bool {
        true
    }
}
