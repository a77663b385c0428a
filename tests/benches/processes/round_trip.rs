//! An empty task to a worker process and back: `round-trip-spinning`, `round-trip-asleep`.

use std::thread::sleep;
use std::time::{Duration, Instant};

use poniard::Runtime;
use poniard_bench::{Effort, System, per_task};

use crate::alone::Alone;
use crate::{far, median, peer};

/// What is waited for before each trip, when everybody is to be asleep: ten times as long as anybody looks for work before it sleeps.
const PAUSE: Duration = Duration::from_micros(200);

/// Whether those who wait look for what they wait for, or sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Spinning,
    Asleep,
}

/// The task: gives its argument back.
fn echo(number: u64) -> u64 {
    number
}

impl Pace {
    /// Time of a trip in ns: the mean of some that follow each other, or the middle of some with a pause before each.
    fn time(self, effort: Effort, mut trip: impl FnMut(u64)) -> f64 {
        match self {
            Self::Spinning => {
                // Caches, and a peer that is only just starting.
                (0..100).for_each(&mut trip);
                let count = effort.scaled(400);
                per_task(count, || (0..count).for_each(&mut trip))
            }
            Self::Asleep => {
                (0..2).for_each(&mut trip);
                let times = (0..effort.scaled(64)).map(|number| {
                    sleep(PAUSE);
                    let start = Instant::now();
                    trip(number);
                    start.elapsed().as_nanos() as f64
                });
                median(times.collect())
            }
        }
    }

    /// All systems. Peers are started for each sample, since a spinning one would be in the way of the others.
    pub(crate) fn systems(self, effort: Effort) -> Vec<System<'static>> {
        let spin = self == Self::Spinning;
        let limit = match self {
            Self::Spinning => {
                System::new("limit", "two processes, a bare ring each way, both spin", move || self.time(effort, peer::ring()))
            }
            Self::Asleep => {
                System::new("limit", "two processes, a bare ring each way and a futex", move || self.time(effort, peer::futexes()))
            }
        };
        let asked = if spin { "asked: at most x3" } else { "asked: at most x1.5" };
        let runtime = Runtime::builder().processes(1).setting("processes.spin", spin.to_string()).build().expect("a runtime");
        let outside = move || {
            self.time(effort, |number| assert_eq!(runtime.task(echo, (number,)).options(&far()).spawn().take().expect("a number"), number))
        };
        let without_threads =
            Runtime::builder().backend("process").processes(1).setting("processes.spin", spin.to_string()).build().expect("a runtime");
        let inside = move || {
            // Captures something, so it stays on the thread that stands for the process.
            let body = move || {
                self.time(effort, |number| {
                    let task = poniard::current().expect("a runtime").task(echo, (number,)).options(&far()).spawn();
                    assert_eq!(task.take().expect("a number"), number);
                })
            };
            without_threads.spawn(body, ()).take().expect("a time")
        };
        let alone = Alone::new(1, spin);
        let threads = Runtime::builder().threads(1).build().expect("a runtime");
        let near = move || self.time(effort, |number| assert_eq!(threads.task(echo, (number,)).spawn().take().expect("a number"), number));
        vec![
            limit,
            System::new("poniard", format!("{asked}; spawn to result, by a thread that is no worker"), outside),
            System::new("poniard-inside", "spawned inside a task on the thread that stands for the process", inside),
            System::new("poniard-call", "the backend alone: the call without a task", move || {
                self.time(effort, |number| alone.call(0, number))
            }),
            System::new("threads", "the same task on a thread, by a thread that is no worker", near),
            System::new("ipc-channel", "", move || self.time(effort, peer::channel())),
            System::new("unix-socket", "", move || self.time(effort, peer::socket())),
        ]
    }
}
