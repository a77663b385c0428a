//! Own queues, and theft from random victims.
//!
//! Robert D. Blumofe and Charles E. Leiserson, "Scheduling multithreaded computations by work stealing", 1999: a place runs its newest task, so
//! that memory stays small and warm, and who has none steals the oldest of a random other one, which is probably the root of much work. Half of the
//! queue at once is from Danny Hendler and Nir Shavit, "Non-blocking steal-half work queues", 2002: it spreads a burst in few steps.

use super::random::from_a_random_one;
use super::{Decision, End, Key, Place, Placement, Policy, ReadyTask, View, Why};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WorkStealing;

impl Policy for WorkStealing {
    fn name(&self) -> &'static str {
        "work-stealing"
    }

    fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
        if let Some(only) = view.only(task) {
            return only;
        }
        let origin = task.origin.and_then(|origin| task.candidates.iter().find(|candidate| candidate.place == origin));
        if let Some(origin) = origin {
            return Decision::at(origin, Why::Origin, view);
        }
        // From outside: to an idle place, so that none has to steal it, else anywhere.
        let idle = task.candidates.iter().find(|candidate| view.places[candidate.place].idle());
        let anywhere = &task.candidates[view.random.below(task.candidates.len())];
        Decision::at(idle.unwrap_or(anywhere), Why::Chance, view)
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
        from_a_random_one(thief, view, order, |_| true);
    }

    fn share(&self, waiting: usize) -> usize {
        waiting.div_ceil(2)
    }
}
