//! Tasks that take a processor and compute nothing, so that cores which others use as well count for nothing: `sleeps`.

use std::time::{Duration, Instant};

use poniard::policy::POLICIES;
use poniard::{ProcessId, Runtime, RuntimeBuilder, Scope, Task};
use poniard_bench::System;

const SLEEPS: u32 = 24;
const NAP: Duration = Duration::from_millis(10);
const PROCESSES: usize = 3;

fn nap() {
    std::thread::sleep(NAP);
}

fn number() -> u32 {
    std::process::id()
}

/// A runtime whose worker processes are there.
pub(crate) fn warm(builder: RuntimeBuilder, processes: usize) -> Runtime {
    let runtime = builder.processes(processes).models(None).build().expect("a runtime");
    for process in 1..=processes as u32 {
        runtime.task(number, ()).scope(Scope::process(ProcessId(process))).spawn().wait().expect("a process");
    }
    runtime
}

fn time_ms(runtime: &Runtime) -> f64 {
    let begin = Instant::now();
    let naps: Vec<Task<()>> = (0..SLEEPS).map(|_| runtime.spawn(nap, ())).collect();
    naps.into_iter().for_each(|nap| nap.wait().expect("it sleeps"));
    begin.elapsed().as_secs_f64() * 1e3
}

pub(crate) fn systems() -> Vec<System<'static>> {
    let workers = 1 + PROCESSES as u32;
    let mut systems = vec![System::new("limit", format!("{SLEEPS} sleeps of 10 ms by {workers} workers"), move || {
        (NAP * (SLEEPS / workers)).as_secs_f64() * 1e3
    })];
    let of = |builder: RuntimeBuilder| warm(builder.threads(1), PROCESSES);
    let runtime = of(Runtime::builder());
    systems.push(System::new("poniard", "1 thread, 3 processes", move || time_ms(&runtime)));
    for policy in POLICIES {
        let runtime = of(Runtime::builder().policy(policy.name));
        systems.push(System::new(policy.name, "", move || time_ms(&runtime)));
    }
    systems
}
