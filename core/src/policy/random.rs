//! Random numbers, and the policy that places by lot.

use super::{Decision, Offer, Place, Policy, ReadyTask, View, Why};

/// A small generator of random numbers: the same seed gives the same ones everywhere.
///
/// SplitMix64, from Guy L. Steele Jr., Doug Lea and Christine H. Flood, "Fast splittable pseudorandom number generators", 2014: a counter with
/// an odd step, whose bits are then mixed. Any seed is a good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random(u64);

impl Random {
    /// The numbers that belong to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, 0 if that is 0. The high half of a product: its bias is at most `bound` / 2^64.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }
}

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
