//! What a board says of tasks: where they wait, who has taken them, what became of them.

use serde::{Deserialize, Serialize};

use super::super::{Decision, Why};

/// A task on a board. It is good until the task has finished or is abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// What [`Board::push`](super::Board::push) did.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Pushed {
    /// The task.
    pub ticket: Ticket,
    /// Where it waits, and why.
    pub decision: Decision,
    /// A place that has nothing to do and is to be woken. Whoever is woken calls [`Board::take`](super::Board::take) if it can run one more task, and then in any case
    /// [`Board::to_wake`](super::Board::to_wake): the task that it was woken for may still wait, because it found a better one, or one that came first.
    pub wake: Option<usize>,
}

/// Which queue a task came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// The place's own.
    Own,
    /// The one for all.
    Shared,
    /// That of another place, by the rules of the policy.
    Stolen {
        /// The place.
        from: usize,
    },
    /// That of a place which makes no progress.
    TakenOver {
        /// The place.
        from: usize,
    },
}

/// How a place got a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// From where.
    pub source: Source,
    /// How many more tasks moved to the place's own queue with it.
    pub moved: usize,
    /// Why the task was where it was.
    pub why: Why,
}

/// A task that a place runs now.
#[derive(Debug)]
#[must_use]
pub struct Taken<T> {
    /// To say later that it has finished.
    pub ticket: Ticket,
    /// What was pushed.
    pub value: T,
    /// How it came here.
    pub how: How,
}

/// A task that has finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Where.
    pub place: usize,
    /// How long it was expected to take with transfer and overhead, in nanoseconds.
    pub expected_ns: u64,
    /// How long it took, from its turn on, or as it was measured, in nanoseconds; 0 if nobody knows.
    pub took_ns: u64,
}
