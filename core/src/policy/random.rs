//! The policy that places by lot.

use super::{Decision, Offer, Place, Policy, ReadyTask, View, Why};

/// Places anywhere: at an idle place if there is one, and idle places take over what waits for others. The measure that other policies have to beat:
/// it keeps everything busy and knows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Anywhere;

impl Policy for Anywhere {
    fn name(&self) -> &'static str {
        "random"
    }

    fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
        if let Some(only) = view.only(task) {
            return only;
        }
        let idle_count = task.candidates.iter().filter(|candidate| view.places[candidate.place].idle()).count();
        let chosen = if idle_count > 0 {
            let index = view.random.below(idle_count);
            task.candidates.iter().filter(|candidate| view.places[candidate.place].idle()).nth(index)
        } else {
            task.candidates.get(view.random.below(task.candidates.len()))
        };
        Decision::at(chosen.expect("an index below the count is there"), Why::Chance, view)
    }

    fn keeps_all_busy(&self) -> bool {
        true
    }

    fn victims(&mut self, thief: usize, view: &mut View<'_>, order: &mut Vec<usize>) {
        from_a_random_one(thief, view, order, |_| true);
    }

    fn steal(&self, _offer: &Offer<'_>, _places: &[Place]) -> Option<u64> {
        Some(0)
    }
}

/// Appends the places that have tasks, but for `thief`, and that are `meant`: in order, from a random one on.
pub(super) fn from_a_random_one(thief: usize, view: &mut View<'_>, order: &mut Vec<usize>, meant: impl Fn(&Place) -> bool) {
    let count = view.places.len();
    let start = view.random.below(count);
    let places = (0..count).map(|offset| if start + offset < count { start + offset } else { start + offset - count });
    order.extend(places.filter(|&place| place != thief && view.places[place].queued > 0 && meant(&view.places[place])));
}
