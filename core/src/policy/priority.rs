//! One queue, the highest priority first, then the longest way to the end.
//!
//! Critical-path list scheduling: T. C. Hu, "Parallel sequencing and assembly line problems", 1961, orders by the distance to the end;
//! that is best for trees of equal tasks on like processors.

use super::{Decision, Key, Place, Placement, Policy, ReadyTask, View, Why};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Priority;

impl Policy for Priority {
    fn name(&self) -> &'static str {
        "priority"
    }

    fn place(&mut self, _task: &ReadyTask<'_>, _view: &mut View<'_>) -> Decision {
        Decision::shared(Why::FirstFree)
    }

    fn key(&self, task: &ReadyTask<'_>, _placement: Placement, _places: &[Place]) -> Key {
        Key([i64::from(task.priority).wrapping_neg(), by_rank(task), 0])
    }

    fn keeps_all_busy(&self) -> bool {
        true
    }

    fn wants_ranks(&self) -> bool {
        true
    }
}

/// The longest way to the end first; tasks of graphs that are not known come last.
pub(super) fn by_rank(task: &ReadyTask<'_>) -> i64 {
    Key::descending(task.rank_ns.map_or(-1, |rank| i64::try_from(rank).unwrap_or(i64::MAX)))
}
