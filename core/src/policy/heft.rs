//! Heterogeneous earliest finish time, as far as one can follow it while the graph runs.
//!
//! Haluk Topcuoglu, Salim Hariri and Min-You Wu, "Performance-effective and low-complexity task scheduling for heterogeneous computing", 2002:
//! tasks by falling upward rank ([`ranks`](super::ranks)), each at the place where it finishes first. The paper plans everything before, and fills gaps of
//! the plan. Here a task is placed when it is ready, with the load as it is then, so there are no gaps to fill: ranks order those that wait.

use super::earliest_finish::EarliestFinish;
use super::priority::by_rank;
use super::{Decision, Key, Offer, Outcome, Place, Placement, Policy, ReadyTask, View};

#[derive(Clone, Debug, Default)]
pub(super) struct Heft(EarliestFinish);

impl Policy for Heft {
    fn name(&self) -> &'static str {
        "heft"
    }

    fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
        self.0.place(task, view)
    }

    fn key(&self, task: &ReadyTask<'_>, _placement: Placement, _places: &[Place]) -> Key {
        Key([by_rank(task), i64::from(task.priority).wrapping_neg(), 0])
    }

    fn victims(&mut self, thief: usize, view: &mut View<'_>, order: &mut Vec<usize>) {
        self.0.victims(thief, view, order);
    }

    fn steals_last(&self) -> bool {
        self.0.steals_last()
    }

    fn offers(&self) -> usize {
        self.0.offers()
    }

    fn steal(&self, offer: &Offer<'_>, places: &[Place]) -> Option<u64> {
        self.0.steal(offer, places)
    }

    fn ended(&mut self, outcome: &Outcome) {
        self.0.ended(outcome);
    }
}
