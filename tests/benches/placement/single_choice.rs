//! Tasks that do nothing and have no choice, on a runtime that has a board and on one that has none, and beside worker processes: `single-choice`, `single-choice-chain`.

use poniard::{Runtime, spawn};
use poniard_bench::{Effort, System, per_task};
use poniard_tests::device::FakeDevices;
use poniard_tests::stage::{ramp, scale_or_host, small};

use crate::sleeps::warm;

const THREADS: usize = 2;

/// What depends on what.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// Nothing.
    Independent,
    /// Each task on the one before.
    Chain,
}

/// Nanoseconds a task, spawned in a task.
fn time(runtime: &Runtime, shape: Shape, count: u64) -> f64 {
    per_task(count, || {
        let all = match shape {
            Shape::Independent => runtime.spawn(move || (0..count).for_each(|_| spawn(|| (), ()).detach()), ()),
            Shape::Chain => runtime.spawn(
                move || {
                    let mut last = spawn(|| 0u64, ());
                    for _ in 1..count {
                        last = spawn(|value: u64| value + 1, (last,));
                    }
                    last.detach();
                },
                (),
            ),
        };
        all.wait().expect("it spawns");
        runtime.wait_idle();
    })
}

/// A runtime with a device, and so with a board.
fn with_board() -> Runtime {
    Runtime::builder().threads(THREADS).linked(FakeDevices::new([small()])).models(None).build().expect("a runtime")
}

pub(crate) fn systems(shape: Shape, effort: Effort) -> Vec<System<'static>> {
    let count = effort.scaled(200_000);
    let without = Runtime::builder().threads(THREADS).build().expect("a runtime");
    let (with, used) = (with_board(), with_board());
    let besides = warm(Runtime::builder().threads(THREADS), 2);
    vec![
        System::new("without", format!("no device and no policy; {THREADS} threads"), move || time(&without, shape, count)),
        System::new("poniard", "a device, and so a board", move || time(&with, shape, count)),
        System::new("poniard-used", "the same, where a launch has been placed before", move || {
            place_one(&used);
            time(&used, shape, count)
        }),
        System::new("with-processes", "no board; 2 worker processes take their share", move || time(&besides, shape, count)),
    ]
}

/// Has something placed.
fn place_one(runtime: &Runtime) {
    runtime.spawn(scale_or_host().over(4), (ramp(4), 2.0)).wait().expect("it runs");
}
