//! Tasks that depend on nothing: `independent`, `growth`, `flood`.

use super::{Setup, let_run};
use crate::measure::{System, per_task};
use crate::tally::Tally;

static DONE: Tally = Tally::new();

/// Fewer tasks than this are too short a time to measure and run several times.
const AT_LEAST: u64 = 500_000;

/// So many tasks, spawned inside a task.
pub(super) fn spawn<'a>(setup: &'a Setup<'_>, count: u64) -> System<'a> {
    let rounds = setup.effort.scaled(AT_LEAST).div_ceil(count).max(1);
    System::new("poniard-spawn", setup.note(&format!("{count} tasks")), move || {
        let time = per_task(rounds * count, || {
            for _ in 0..rounds {
                let_run(setup.runtime.spawn(
                    move || {
                        for _ in 0..count {
                            poniard::spawn_detached(|| DONE.add_one(), ());
                        }
                    },
                    (),
                ));
                setup.runtime.wait_idle();
            }
        });
        assert_eq!(DONE.take(), rounds * count);
        time
    })
}

/// Tasks spawned by a thread that is no worker.
pub(super) fn flood<'a>(setup: &'a Setup<'_>) -> System<'a> {
    let count = setup.effort.flood();
    System::new("poniard-spawn", setup.note(&format!("{count} tasks")), move || {
        let time = per_task(count, || {
            for _ in 0..count {
                setup.runtime.spawn_detached(|| DONE.add_one(), ());
            }
            setup.runtime.wait_idle();
        });
        assert_eq!(DONE.take(), count);
        time
    })
}
