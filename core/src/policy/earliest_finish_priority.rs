//! Earliest finish, and at each place the most urgent first.
//!
//! Cedric Augonnet, Samuel Thibault, Raymond Namyst and Pierre-Andre Wacrenier, "StarPU: a unified platform for task scheduling on heterogeneous
//! multicore architectures", 2011, and its policy that sorts: tasks go where they finish first with their transfers; there they run by priority,
//! then by the longest way to the end, and of equal ones that with the fewest missing bytes first, while those of the others are brought.

use super::earliest_finish::EarliestFinish;
use super::priority::by_rank;
use super::{Decision, Key, Offer, Outcome, Place, Placement, Policy, ReadyTask, View};

#[derive(Clone, Debug, Default)]
pub(super) struct EarliestFinishPriority(EarliestFinish);

impl Policy for EarliestFinishPriority {
    fn name(&self) -> &'static str {
        "earliest-finish-priority"
    }

    fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
        self.0.place(task, view)
    }

    fn key(&self, task: &ReadyTask<'_>, placement: Placement, _places: &[Place]) -> Key {
        let here = task.candidates.iter().find(|candidate| placement == Placement::Place(candidate.place));
        let missing = here.map_or(0, |candidate| i64::try_from(candidate.missing_bytes).unwrap_or(i64::MAX));
        Key([i64::from(task.priority).wrapping_neg(), by_rank(task), missing])
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
