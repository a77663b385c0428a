//! Many empty tasks at once: `pipelined`.

use std::process::id;

use poniard::{ProcessId, Runtime, Scope, TaskOptions};
use poniard_bench::{Effort, System, Tally, per_task};

use crate::far;

/// Worker processes, or threads.
const WORKERS: u32 = 2;

/// Tasks that have run in this process.
static DONE: Tally = Tally::new();

fn empty() {
    DONE.add_one();
}

/// Who ran how many since this was last asked.
fn told() -> (u32, u64) {
    (id(), DONE.take())
}

/// Time of each of `count` tasks, in ns, all of which are spawned before any is waited for.
fn time(runtime: &Runtime, options: &TaskOptions, count: u64) -> f64 {
    per_task(count, || {
        for _ in 0..count {
            runtime.task(empty, ()).options(options).spawn().detach();
        }
        runtime.wait_idle();
    })
}

/// Who ran how many, for each worker process.
fn counts(runtime: &Runtime) -> Vec<(u32, u64)> {
    let ask = |process| runtime.task(told, ()).scope(Scope::process(ProcessId(process))).spawn().take().expect("who ran what");
    (1..=WORKERS).map(ask).collect()
}

pub(crate) fn systems(effort: Effort) -> Vec<System<'static>> {
    let count = effort.scaled(40_000);
    let processes = Runtime::builder().processes(WORKERS as usize).build().expect("a runtime");
    // Starts them: whoever is not there yet has no share.
    counts(&processes);
    let (far, mut least) = (far(), f64::INFINITY);
    let on_processes = move |note: &mut String| {
        let time = time(&processes, &far, count);
        let counts = counts(&processes);
        assert_eq!(counts.iter().map(|(_, done)| done).sum::<u64>(), count, "each task runs once");
        assert!(counts.iter().all(|(process, _)| *process != id()) && counts[0].0 != counts[1].0, "on two other processes");
        let fair = count as f64 / f64::from(WORKERS);
        least = counts.iter().map(|(_, done)| *done as f64 / fair).fold(least, f64::min);
        let verdict = if least < 0.2 { "missed" } else { "reached" };
        *note = format!(
            "asked: at most 1000; {WORKERS} workers, {count} tasks; each ran at least {:.0} % of its fair share (asked: 20, {verdict})",
            100.0 * least
        );
        time
    };
    let threads = Runtime::builder().threads(WORKERS as usize).build().expect("a runtime");
    let near = TaskOptions::new().scope(Scope::backend("threads"));
    let on_threads = move || {
        let time = time(&threads, &near, count);
        assert_eq!(DONE.take(), count);
        time
    };
    vec![System::telling("poniard", on_processes), System::new("threads", format!("{WORKERS} threads, {count} tasks"), on_threads)]
}
