//! What may be wrong with the runtime.

use std::fmt;

use poniard::BuildError;

use super::Stuck;
use crate::schedule::Fault;

/// What is wrong with the runtime.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The runtime could not be built.
    Build(BuildError),
    /// Threads are left that nobody wakes.
    Stuck(Stuck),
    /// A worker sleeps although there is something that it would do.
    Idle {
        /// When, in nanoseconds.
        at_ns: u64,
        /// Which, and beside what.
        what: String,
    },
    /// A task was begun again, although it had been over.
    Twice {
        /// Which.
        task: u32,
    },
    /// A task was run that should not have been, or its result is not the right one.
    Wrong {
        /// Which.
        task: u32,
        /// What is wrong.
        what: String,
    },
    /// Time goes on and on, and no task begins or ends.
    Endless {
        /// When that was noticed, in nanoseconds.
        at_ns: u64,
    },
    /// More tasks ran than there are workers for.
    Crowded {
        /// When, in nanoseconds.
        at_ns: u64,
        /// How many workers they took.
        taken: u32,
    },
    /// A task ran before another one that it depends on was over, or two at once on one worker.
    Schedule(Fault),
    /// The policy has failed, and another one went on in its place: what it said.
    Policy(String),
    /// What the runtime counts in a device's memory is not what is there.
    Memory {
        /// When, in nanoseconds.
        at_ns: u64,
        /// Which device, and what is wrong.
        what: String,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(error) => error.fmt(f),
            Self::Stuck(stuck) => stuck.fmt(f),
            Self::Idle { at_ns, what } => write!(f, "at {at_ns} ns {what}"),
            Self::Twice { task } => write!(f, "task {task} is run again after it was over"),
            Self::Wrong { task, what } => write!(f, "task {task} {what}"),
            Self::Endless { at_ns } => write!(f, "at {at_ns} ns no task has begun or ended for very long"),
            Self::Crowded { at_ns, taken } => write!(f, "at {at_ns} ns tasks take {taken} workers, more than there are"),
            Self::Schedule(fault) => fault.fmt(f),
            Self::Policy(text) => f.write_str(text),
            Self::Memory { at_ns, what } => write!(f, "at {at_ns} ns {what}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Stuck> for Failure {
    fn from(stuck: Stuck) -> Self {
        Self::Stuck(stuck)
    }
}

impl Failure {
    /// What kind it is, in a word: the shrinker keeps to it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Build(_) => "build",
            Self::Stuck(_) => "stuck",
            Self::Idle { .. } => "idle",
            Self::Twice { .. } => "twice",
            Self::Wrong { .. } => "wrong",
            Self::Endless { .. } => "endless",
            Self::Crowded { .. } => "crowded",
            Self::Schedule(_) => "schedule",
            Self::Policy(_) => "policy",
            Self::Memory { .. } => "memory",
        }
    }
}
