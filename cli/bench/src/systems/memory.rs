//! What tasks ask of the allocator: `allocations`, `bytes-per-task`.

use std::sync::mpsc;

use super::{Setup, certain, let_run};
use crate::counting_allocator::count;
use crate::measure::System;
use crate::tally::Tally;

static DONE: Tally = Tally::new();

/// Tasks of a round of the case `allocations`: a program's, not a flood's.
const ROUND: u64 = 1_000;
/// Rounds before counting begins, while threads fill what they keep, and rounds that count.
const ROUNDS: [u64; 2] = [50, 100];
/// Waiting tasks of the case `bytes-per-task`.
const WAITING: u64 = 100_000;

/// Calls of the allocator for each of many independent tasks, round for round.
pub(super) fn allocations<'a>(setup: &'a Setup<'_>) -> System<'a> {
    let run = |rounds: u64| {
        for _ in 0..rounds {
            let_run(setup.runtime.spawn(
                || {
                    for _ in 0..ROUND {
                        poniard::spawn_detached(|| DONE.add_one(), ());
                    }
                },
                (),
            ));
            setup.runtime.wait_idle();
        }
        assert_eq!(DONE.take(), rounds * ROUND);
    };
    System::new("poniard-spawn", setup.note(&format!("rounds of {ROUND} tasks")), move || {
        let [before, counted] = ROUNDS;
        run(before);
        count(|| run(counted)).allocations as f64 / (counted * ROUND) as f64
    })
}

/// Memory of tasks that wait for one that has not finished. Nobody keeps their handles.
pub(super) fn waiting<'a>(setup: &'a Setup<'_>) -> System<'a> {
    let note = format!("{WAITING} tasks that wait for the same one");
    System::new("poniard-spawn", setup.note(&note), move || {
        let (open, closed) = mpsc::channel::<()>();
        // Any error means that the sender is gone, which opens the gate as well.
        let gate = setup.runtime.spawn(move || closed.recv().is_ok(), ());
        let counted = count(|| {
            for _ in 0..WAITING {
                let_run(setup.runtime.spawn(
                    |open: &bool| {
                        assert!(*open);
                        DONE.add_one();
                    },
                    (&gate,),
                ));
            }
        });
        assert_eq!(DONE.take(), 0, "a task ran before the one that it waits for");
        // Nobody listens any more only if the gate has failed, which `certain` tells.
        let _ = open.send(());
        certain(gate.wait());
        setup.runtime.wait_idle();
        assert_eq!(DONE.take(), WAITING);
        counted.bytes as f64 / WAITING as f64
    })
}
