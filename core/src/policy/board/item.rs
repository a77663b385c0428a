//! A task on a board: where it may run at what cost, and where it is.

use super::super::{Candidate, Key, Place, Why};

/// Consecutive places that cost a task the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) count: u32,
    /// At the first of them.
    pub(super) candidate: Candidate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The slot has no task.
    Free,
    /// In this queue.
    Waiting { queue: usize },
    /// A place has taken it, and runs others before it.
    Submitted { place: usize },
    /// It runs.
    Running { place: usize, begun_ns: u64 },
}

#[derive(Debug)]
pub(super) struct Item<T> {
    pub(super) value: Option<T>,
    pub(super) generation: u32,
    pub(super) state: State,
    pub(super) number: u64,
    pub(super) code: u64,
    pub(super) priority: i32,
    pub(super) domain: u32,
    pub(super) rank_ns: Option<u64>,
    pub(super) bytes: u64,
    pub(super) key: Key,
    pub(super) why: Why,
    /// The class of the place for which it was placed.
    pub(super) placed_class: Option<u32>,
    /// By rising place. The memory is used again by the slot's next task.
    pub(super) runs: Vec<Run>,
}

impl<T> Item<T> {
    pub(super) fn at(&self, place: usize) -> Option<Candidate> {
        let run = self.runs.iter().find(|run| (run.candidate.place..run.candidate.place + run.count as usize).contains(&place))?;
        Some(Candidate { place, ..run.candidate })
    }

    pub(super) fn cost_ns(&self, place: usize) -> u64 {
        self.at(place).expect("a task is only where it may run").cost_ns()
    }
    /// What a task that waits at a place keeps it busy for when its turn comes: where data is fetched ahead, that is there by then.
    pub(super) fn turn_ns(&self, index: usize, place: &Place) -> u64 {
        let candidate = self.at(index).expect("a task is only where it may run");
        turn_ns(&candidate, place)
    }
}

/// The same of a candidate.
pub(super) fn turn_ns(candidate: &Candidate, place: &Place) -> u64 {
    if place.prefetches { candidate.overhead_ns.saturating_add(candidate.execution.mean_ns) } else { candidate.cost_ns() }
}
