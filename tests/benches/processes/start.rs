//! From nothing to the result of a worker process: `first-worker`, `further-worker`, and both with 1 GiB resident in the host.

use std::process::id;
use std::thread::sleep;
use std::time::{Duration, Instant};

use poniard::{ProcessId, Runtime, Scope};
use poniard_bench::{System, per_task};

use crate::alone::Alone;
use crate::peer::{self, Peer};

/// How long the threads of a new runtime get to start and to fall asleep: what is measured is the start of processes.
const SETTLE: Duration = Duration::from_millis(5);

/// Two worker processes that are not there yet.
fn runtime() -> Runtime {
    let runtime = Runtime::builder().processes(2).build().expect("a runtime");
    sleep(SETTLE);
    runtime
}

/// Time of a task on a worker process in ms.
fn time_there(runtime: &Runtime, process: u32) -> f64 {
    per_task(1_000_000, || {
        let place = runtime.task(id, ()).scope(Scope::process(ProcessId(process))).spawn().take().expect("a place");
        assert_ne!(place, id());
    })
}

fn call_there(alone: &Alone, index: usize) -> f64 {
    per_task(1_000_000, || alone.call(index, 7))
}

/// The first one, with the fork server.
pub(crate) fn first() -> Vec<System<'static>> {
    vec![
        System::new("limit", "starts this program once more, until it says a word", || per_task(1_000_000, || drop(Peer::still()))),
        System::new("poniard", "asked: at most 2; the first task of a runtime whose threads are there", || time_there(&runtime(), 1)),
        System::new("poniard-call", "the backend alone", || call_there(&Alone::new(2, false), 0)),
        System::new("poniard-build", "the runtime and the first task", || {
            let start = Instant::now();
            let runtime = Runtime::builder().processes(2).build().expect("a runtime");
            time_there(&runtime, 1);
            start.elapsed().as_secs_f64() * 1e3
        }),
    ]
}

/// Another one.
pub(crate) fn further() -> Vec<System<'static>> {
    let mut fork = peer::forks();
    vec![
        System::new("limit", "a small process forks another, until that one says a word", move || per_task(1_000_000, &mut fork)),
        System::new("poniard", "asked: at most 0.5; the first task on the second process", || {
            let runtime = runtime();
            time_there(&runtime, 1);
            time_there(&runtime, 2)
        }),
        System::new("poniard-call", "the backend alone", || {
            let alone = Alone::new(2, false);
            call_there(&alone, 0);
            call_there(&alone, 1)
        }),
    ]
}
