//! Own queues where the data is, and theft from near victims.
//!
//! Umut A. Acar, Guy E. Blelloch and Robert D. Blumofe, "The data locality of work stealing", 2000: a task that runs where its data is costs less
//! than a steal saves, so tasks have a place that they would like to run at, and thieves prefer what would like to run at theirs. Here both are
//! measured in bytes: a task waits where the fewest of its bytes are missing, and a thief takes the task for which it has to move the fewest.

use super::random::from_a_random_one;
use super::{Candidate, Decision, End, Key, Offer, Place, Placement, Policy, ReadyTask, View, Why};

/// How many tasks of each kind a thief looks at. More find better ones, and cost a thief more time.
const OFFERS: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LocalityStealing;

impl Policy for LocalityStealing {
    fn name(&self) -> &'static str {
        "locality-stealing"
    }

    fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
        if let Some(only) = view.only(task) {
            return only;
        }
        let missing = |candidate: &Candidate| candidate.missing_bytes;
        let least = task.candidates.iter().map(missing).min().unwrap_or(0);
        let near = || task.candidates.iter().filter(|candidate| candidate.missing_bytes == least);
        let all_alike = near().count() == task.candidates.len();
        let why = if all_alike { Why::Origin } else { Why::Data };
        if let Some(origin) = near().find(|candidate| Some(candidate.place) == task.origin) {
            return Decision::at(origin, why, view);
        }
        // The one with the least to do; the first of equal ones.
        let chosen = near().min_by_key(|candidate| (view.places[candidate.place].wait_ns(), view.places[candidate.place].queued));
        Decision::at(chosen.unwrap_or(&task.candidates[0]), if all_alike { Why::FirstFree } else { why }, view)
    }

    fn key(&self, task: &ReadyTask<'_>, _placement: Placement, _places: &[Place]) -> Key {
        Key([i64::from(task.priority).wrapping_neg(), 0, 0])
    }

    fn end(&self, _place: usize, _places: &[Place]) -> End {
        End { last_level: false, last_within: true }
    }

    fn keeps_all_busy(&self) -> bool {
        true
    }

    fn victims(&mut self, thief: usize, view: &mut View<'_>, order: &mut Vec<usize>) {
        let own = view.places[thief].space;
        from_a_random_one(thief, view, order, |place| place.space == own);
        from_a_random_one(thief, view, order, |place| place.space != own);
    }

    fn offers(&self) -> usize {
        OFFERS
    }

    fn steal(&self, offer: &Offer<'_>, _places: &[Place]) -> Option<u64> {
        Some(offer.here.missing_bytes)
    }

    fn share(&self, waiting: usize) -> usize {
        waiting.div_ceil(2)
    }
}
