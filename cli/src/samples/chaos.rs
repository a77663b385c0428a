//! `chaos`: the Cholesky factor of `cholesky`, while worker processes are killed. Run it with `--threads 1 --processes 2`.
//!
//! Every tenth of a second one of the processes gets the signal that cannot be caught. Its task is begun again on another one; nothing is lost. On a slow machine deaths are rarer: a task
//! whose process ends three times counts as what ends it, so some have to finish between two deaths.
//!
//! Where `cholesky` changes tiles in place, tasks here take tiles and give new ones: what a process was writing to when it ended is lost, but what it was only given is not.

use std::fs;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use poniard::{Buffer, Priority, Runtime, Scope};
use rustix::process::{Pid, Signal, kill_process};

use super::cholesky::{self, NotPositiveDefinite, Problem};
use super::limits;
use super::random::Random;
use super::tile::Tile;
use super::tiling::TileTasks;
use crate::sample::{Context, Outcome, Progress, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "chaos",
    summary: "the Cholesky factor, while worker processes are killed: nothing is lost",
    options: &[
        SampleOption { name: "size", meaning: "rows and columns of a random matrix, default 4096" },
        SampleOption { name: "tile", meaning: "rows and columns of a tile, default 256" },
        SampleOption { name: "seed", meaning: "what the matrix is drawn from, and the order of the deaths; default 0" },
    ],
    kernels: false,
    run,
};

/// The time between two deaths, at least.
const INTERVAL: Duration = Duration::from_millis(100);
/// So many tasks for each process finish between two deaths.
const TASKS: u64 = 4;

/// Tells the killer that all tiles are there: what remains is the check, which needs no worker process.
struct UntilDone<'a> {
    shown: &'a dyn Progress,
    /// How many there are.
    done: &'a AtomicU64,
    stop: Sender<()>,
}

impl Progress for UntilDone<'_> {
    fn advance(&self, done: u64, total: u64) {
        self.shown.advance(done, total);
        self.done.store(done, Relaxed);
        if done == total {
            // The killer may have ended already.
            let _ = self.stop.send(());
        }
    }
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let (stop, stopped) = channel();
    let nobody = context.runtime.processors_in(&Scope::backend("process")).is_empty();
    let done = AtomicU64::new(0);
    let (outcome, deaths) = std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill_workers(stopped, &done, context.seed));
        let progress = UntilDone { shown: context.progress, done: &done, stop };
        let outcome = factor(&Context { size: Some(context.size.unwrap_or(4096)), progress: &progress, ..*context });
        // After an error too, which is what the sample ends with.
        drop(progress);
        (outcome, killer.join().unwrap_or(0))
    });
    let mut outcome = outcome?;
    let report = context.runtime.report();
    let again: u64 = report.backends.iter().flat_map(|backend| &backend.processors).map(|processor| processor.begun_again).sum();
    outcome.lines.push(match deaths {
        _ if nobody => "there is no worker process, so nobody to kill: --processes 2 makes some".into(),
        0 => "no worker process was killed: the time was too short".into(),
        _ => format!("worker processes that were killed meanwhile: {deaths}; tasks that were begun again: {again}"),
    });
    outcome.values.push(("deaths", deaths.into()));
    outcome.values.push(("begun_again", again.into()));
    Ok(outcome)
}

fn potrf(mut tile: Tile) -> Result<Tile, NotPositiveDefinite> {
    cholesky::potrf(&mut tile)?;
    Ok(tile)
}

fn trsm(mut tile: Tile, diagonal: &Tile) -> Tile {
    cholesky::trsm(diagonal, &mut tile);
    tile
}

fn gemm(mut tile: Tile, a: &Tile, b: &Tile) -> Tile {
    cholesky::gemm(a, b, &mut tile);
    tile
}

/// The loop of `cholesky`, whose tasks leave their arguments as they are.
fn spawn_all(runtime: &Runtime, factor: &mut TileTasks<Tile>, tiles: usize) {
    for step in 0..tiles {
        let diagonal = runtime.task(potrf, (factor.take(step, step),)).name(format!("potrf({step})")).priority(Priority::High).spawn();
        for row in step + 1..tiles {
            let solved = runtime.task(trsm, (factor.take(row, step), &diagonal)).name(format!("trsm({row},{step})"));
            factor.put(row, step, solved.priority(Priority::High).spawn());
        }
        factor.put(step, step, diagonal);
        for row in step + 1..tiles {
            for column in step + 1..=row {
                let old = factor.take(row, column);
                let arguments = (old, factor.get(row, step), factor.get(column, step));
                let updated = runtime.task(gemm, arguments).name(format!("gemm({row},{column},{step})")).spawn();
                factor.put(row, column, updated);
            }
        }
    }
}

/// What `cholesky` does.
fn factor(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let problem = Problem::new(context)?;
    let tiles = problem.tiling.count();
    let mut factor = TileTasks::new(tiles, tiles);
    for row in 0..tiles {
        for column in 0..=row {
            factor.put(row, column, context.runtime.value(problem.tile(row, column)?));
        }
    }
    spawn_all(context.runtime, &mut factor, tiles);
    let mut l: Buffer<f64> = limits::zeroed("size", problem.size * problem.size)?;
    let mut done = 0;
    for row in 0..tiles {
        for column in 0..=row {
            factor.take(row, column).fetch()?.paste(&mut l, problem.size);
            done += 1;
            context.progress.advance(done, problem.lower);
        }
    }
    Ok(problem.outcome(context, &l))
}

/// Kills a worker process every now and then until it is told to stop; how many.
fn kill_workers(stop: Receiver<()>, done: &AtomicU64, seed: u64) -> u64 {
    let mut random = Random::new(seed, 0);
    let mut deaths = 0;
    let mut done_before = 0;
    while stop.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let workers = workers();
        let done = done.load(Relaxed);
        if workers.is_empty() || done < done_before + TASKS * workers.len() as u64 {
            continue;
        }
        done_before = done;
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
        assert!(outcome.lines.last().is_some_and(|line| line.contains("nobody to kill")), "{:?}", outcome.lines);
        Trial { size: Some(0), ..Trial::default() }.refused(&SAMPLE, "size");
    }
}
