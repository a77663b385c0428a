//! A problem run by the runtime instead of the engine.

use std::fmt;

use super::failure::Failure;
use super::run::run;
use super::script::Script;
use crate::engine::Outcome;
use crate::platform::Overheads;
use crate::problem::{NEVER, Problem};
use crate::schedule::Schedule;

/// Why the runtime did not run a problem.
#[derive(Debug)]
pub enum NotPlayed {
    /// It has something that a world has not.
    Unfit(String),
    /// The runtime does not do what it promises.
    Failed(Failure),
}

impl fmt::Display for NotPlayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfit(reason) => f.write_str(reason),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for NotPlayed {}

/// Why a world does not run a problem, in words, if it does not: data has to be everywhere at once and each task to run on each processor, and the platform has neither limits of memory nor
/// overheads.
#[must_use]
pub fn unfit(problem: &Problem<'_>) -> Option<String> {
    let platform = problem.platform();
    let spaces = 0..problem.space_count();
    let between = |edge: usize| spaces.clone().any(|from| spaces.clone().any(|to| from != to && problem.transfer_ns(edge, from, to) > 0));
    let travels = |edge: usize| problem.uniform_transfer_ns(edge).map_or_else(|| between(edge), |ns| ns > 0);
    if (0..problem.workload().edge_count()).any(travels) {
        return Some("data takes time between processors, and a world has one memory".into());
    }
    if platform.overheads() != Overheads::default() || spaces.clone().any(|space| platform.memory(space).is_some()) {
        return Some("a world knows no overheads and no limits of memory".into());
    }
    let workload = problem.workload();
    if let Some(task) = workload.widest().filter(|task| workload.processors(*task) as usize > problem.processor_count()) {
        let (name, takes) = (workload.task_name(task), workload.processors(task));
        return Some(format!("task `{name}` takes {takes} processors, and there are {}", problem.processor_count()));
    }
    (0..problem.len()).any(|task| problem.row(task).contains(&NEVER)).then(|| "some task cannot run on every processor".into())
}

/// Runs a problem by the whole runtime in virtual time, under a policy or, without one, as it is by itself: each worker its newest task first, and the oldest of others. There are no decisions
/// in the outcome.
///
/// # Errors
/// [`NotPlayed`]: the problem is [`unfit`], or the runtime fails.
pub fn play(problem: &Problem<'_>, policy: Option<&str>, seed: u64) -> Result<Outcome, NotPlayed> {
    if let Some(reason) = unfit(problem) {
        return Err(NotPlayed::Unfit(reason));
    }
    let (script, order) = Script::of(problem, policy, seed);
    let ran = run(script).map_err(NotPlayed::Failed)?;
    let mut schedule = Schedule::with_room(problem.len());
    for (number, task) in order.into_iter().enumerate() {
        let processor = ran.schedule.processor[number] as usize;
        schedule.set(task as usize, processor, ran.schedule.start_ns[number], ran.schedule.end_ns[number]);
    }
    Ok(Outcome { schedule, events: ran.events, ..Outcome::default() })
}
