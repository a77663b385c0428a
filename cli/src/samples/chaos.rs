//! `chaos`: the Cholesky factor of `cholesky`, while worker processes are killed. Run it with `--threads 1 --processes 2`.
//!
//! Every tenth of a second one of the processes gets the signal that cannot be caught. Its task is begun again on another one; nothing is lost.

use std::fs;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::cholesky;
use super::random::Random;
use crate::sample::{Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "chaos",
    summary: "the Cholesky factor, while worker processes are killed: nothing is lost",
    options: &[
        SampleOption { name: "size", meaning: "rows and columns of a random matrix, default 4096" },
        SampleOption { name: "tile", meaning: "rows and columns of a tile, default 256" },
        SampleOption { name: "seed", meaning: "what the matrix is drawn from, and the order of the deaths; default 0" },
    ],
    run,
};

/// The time between two deaths.
const INTERVAL: Duration = Duration::from_millis(100);

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let size = context.size.unwrap_or(4096);
    let (stop, stopped) = channel();
    let killing = std::thread::scope(|scope| {
        let seed = context.seed;
        let killer = scope.spawn(move || kill_workers(&stopped, seed));
        let outcome = cholesky::run(&Context { size: Some(size), ..*context });
        // An error is as good: the killer has ended.
        let _ = stop.send(());
        (outcome, killer.join().unwrap_or(0))
    });
    let (outcome, deaths) = killing;
    let mut outcome = outcome?;
    outcome.lines.push(match deaths {
        0 => "no worker process was killed: there was none, or the time was too short".into(),
        1 => "1 worker process was killed meanwhile".into(),
        deaths => format!("{deaths} worker processes were killed meanwhile"),
    });
    outcome.values.push(("deaths", deaths.into()));
    Ok(outcome)
}

/// Kills a worker process every now and then until it is told to stop; how many.
fn kill_workers(stop: &Receiver<()>, seed: u64) -> u64 {
    let mut random = Random::new(seed, 0);
    let mut deaths = 0;
    while stop.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let workers = workers();
        if workers.is_empty() {
            continue;
        }
        let unlucky = workers[random.below(workers.len() as u64) as usize];
        // It may have ended by itself.
        deaths += u64::from(kill_process(unlucky, Signal::KILL).is_ok());
    }
    deaths
}

/// The worker processes of this program: the children of its children, which are fork servers.
fn workers() -> Vec<Pid> {
    let processes: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let process: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            // `pid (name) state parent ...`; the name may have anything in it.
            let status = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            let parent = status.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((process, parent))
        })
        .collect();
    let parent_of = |process: u32| processes.iter().find(|(known, _)| *known == process).map(|(_, parent)| *parent);
    let is_worker = |parent: u32| parent_of(parent) == Some(std::process::id());
    let workers = processes.iter().filter(|(_, parent)| is_worker(*parent));
    workers.filter_map(|(process, _)| Pid::from_raw((*process).try_into().ok()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn without_processes_nobody_is_killed() {
        let outcome = Trial { size: Some(65), tile: Some(16), ..Trial::default() }.passes(&SAMPLE);
        assert!(outcome.lines.last().is_some_and(|line| line.contains("no worker process was killed")), "{:?}", outcome.lines);
        Trial { size: Some(0), ..Trial::default() }.refused(&SAMPLE, "size");
    }
}
