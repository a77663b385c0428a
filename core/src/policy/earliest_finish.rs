//! Each task to the place where it is expected to finish first.
//!
//! Minimum completion time, from Muthucumaru Maheswaran, Shoukat Ali, Howard Jay Siegel, Debra Hensgen and Richard F. Freund, "Dynamic mapping of a
//! class of independent tasks onto heterogeneous computing systems", 1999, with transfers as in Cedric Augonnet, Jerome Clet-Ortega, Samuel
//! Thibault and Raymond Namyst, "Data-aware task scheduling on multi-accelerator based platforms", 2010. [`Place::finish_ns`] is the sum: what waits there,
//! transfer, overhead and execution. Three things are ours: what is unknown is [explored](super::explore) within a budget; a code stays with the kind of
//! processor that it ran on unless another is better by a [margin](super::hysteresis); and a place without work takes over a task that
//! waits elsewhere if it would finish earlier by that margin, since estimates turn out wrong.

use std::collections::BTreeMap;

use super::explore::{Budget, TRIES};
use super::hysteresis::margin_ns;
use super::{Candidate, Decision, Estimate, Key, Offer, Outcome, Place, Placement, Policy, ReadyTask, View, Why};

/// How many tasks of each kind a place without work looks at, of each victim.
const OFFERS: usize = 32;

#[derive(Clone, Debug, Default)]
pub(super) struct EarliestFinish {
    codes: BTreeMap<u64, Code>,
    pub(super) budget: Budget,
}

/// What is remembered of a code.
#[derive(Clone, Debug, Default)]
struct Code {
    /// Which class it was placed at the last time that there was a choice.
    last: Option<u32>,
    classes: Vec<Class>,
}

/// What is remembered of a code at a class.
#[derive(Clone, Debug, Default)]
struct Class {
    class: u32,
    /// How many tasks are to find out how long it takes there.
    exploring: u32,
    /// How many tasks were over there, and what they took in the mean with transfer and overhead. Tasks that wait have older estimates.
    count: u64,
    mean_ns: u64,
}

impl Code {
    fn at(&mut self, class: u32) -> &mut Class {
        let index = self.classes.iter().position(|known| known.class == class).unwrap_or_else(|| {
            self.classes.push(Class { class, ..Class::default() });
            self.classes.len() - 1
        });
        &mut self.classes[index]
    }

    fn known_at(&self, class: u32) -> Option<&Class> {
        self.classes.iter().find(|known| known.class == class)
    }

    /// Whether one more task may be sent to find out about `candidate`.
    fn may_try(&self, candidate: &Candidate, class: u32) -> bool {
        let exploring = self.known_at(class).map_or(0, |known| known.exploring);
        candidate.execution.count.saturating_add(exploring) < TRIES
    }
}

/// A candidate and when it would finish, the better of two first.
type Best<'a> = Option<(u64, &'a Candidate)>;

fn better<'a>(best: &mut Best<'a>, finish_ns: u64, candidate: &'a Candidate) {
    let is_better = best.is_none_or(|(finish, known)| (finish_ns, candidate.missing_bytes) < (finish, known.missing_bytes));
    if is_better {
        *best = Some((finish_ns, candidate));
    }
}

impl Policy for EarliestFinish {
    fn name(&self) -> &'static str {
        "earliest-finish"
    }

    fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
        if let Some(only) = view.only(task) {
            return only;
        }
        let code = self.codes.entry(task.code).or_default();
        let (mut guessed, mut known, mut stay, mut unknown): (Best<'_>, Best<'_>, Best<'_>, Best<'_>) = (None, None, None, None);
        for candidate in task.candidates {
            let place = &view.places[candidate.place];
            let finish = place.finish_ns(candidate);
            better(&mut guessed, finish, candidate);
            if candidate.execution.count >= TRIES {
                better(&mut known, finish, candidate);
                if code.last == Some(place.class) {
                    better(&mut stay, finish, candidate);
                }
            } else if code.may_try(candidate, place.class) {
                better(&mut unknown, finish, candidate);
            }
        }
        let Some((finish, best)) = known else {
            // Nothing is known well, so there is nothing to compare with.
            let (_, best) = guessed.expect("a ready task has a candidate");
            let why = if best.execution.count == 0 { Why::Guessed } else { Why::EarliestFinish };
            return Decision::at(best, why, view);
        };
        if let Some((_, unknown)) = unknown {
            let place = &view.places[unknown.place];
            if let Some(regret_ns) = self.budget.regret_ns(unknown, place.wait_ns(), best, finish) {
                self.budget.begin(regret_ns);
                code.at(place.class).exploring += 1;
                return Decision::at(unknown, Why::Explored { instead_ns: best.cost_ns(), regret_ns }, view);
            }
        }
        let class = view.places[best.place].class;
        match stay {
            Some((stay_finish, stay)) if code.last != Some(class) && stay_finish <= finish.saturating_add(margin_ns(stay, best)) => {
                Decision {
                    placement: Placement::Place(stay.place),
                    why: Why::Hysteresis { instead: best.place },
                    finish_ns: Some(stay_finish),
                }
            }
            _ => {
                code.last = Some(class);
                Decision { placement: Placement::Place(best.place), why: Why::EarliestFinish, finish_ns: Some(finish) }
            }
        }
    }

    fn key(&self, task: &ReadyTask<'_>, _placement: Placement, _places: &[Place]) -> Key {
        Key([i64::from(task.priority).wrapping_neg(), 0, 0])
    }

    /// Those that have most to do first.
    fn victims(&mut self, thief: usize, view: &mut View<'_>, order: &mut Vec<usize>) {
        order.extend((0..view.places.len()).filter(|&place| place != thief && view.places[place].queued > 0));
        order.sort_unstable_by_key(|&place| (std::cmp::Reverse(view.places[place].wait_ns()), place));
    }

    /// What comes last waits longest.
    fn steals_last(&self) -> bool {
        true
    }

    fn offers(&self) -> usize {
        OFFERS
    }

    /// The task that gains most, if it gains more than the margin that a change of class needs. A task that explores stays where it is to be tried.
    fn steal(&self, offer: &Offer<'_>, places: &[Place]) -> Option<u64> {
        if matches!(offer.why, Why::Explored { .. }) {
            return None;
        }
        let (here, there) = (self.corrected(offer.code, offer.here, places), self.corrected(offer.code, offer.there, places));
        let (place, other) = (&places[here.place], &places[there.place]);
        let margin = if place.class == other.class { 0 } else { margin_ns(&there, &here) };
        let (here_ns, there_ns) = (place.finish_after_ns(0, &here), other.finish_after_ns(offer.wait_ns, &there));
        (here_ns.saturating_add(margin) < there_ns).then(|| u64::MAX - (there_ns - here_ns))
    }

    fn ended(&mut self, outcome: &Outcome) {
        self.budget.end(outcome);
        let Some(code) = self.codes.get_mut(&outcome.code) else { return };
        if let (Why::Explored { .. }, Some(class)) = (outcome.why, outcome.placed_class) {
            let class = code.at(class);
            class.exploring = class.exploring.saturating_sub(1);
        }
        if let Some((class, took_ns)) = outcome.ran {
            let class = code.at(class);
            class.count += 1;
            let change = took_ns.abs_diff(class.mean_ns) / class.count;
            class.mean_ns = if took_ns < class.mean_ns { class.mean_ns - change } else { class.mean_ns + change };
        }
    }
}

impl EarliestFinish {
    /// The candidate of a task that has waited. If its estimate was no more than a guess and its code has run there since, what that took stands in.
    fn corrected(&self, code: u64, candidate: &Candidate, places: &[Place]) -> Candidate {
        let class = self.codes.get(&code).and_then(|code| code.known_at(places[candidate.place].class));
        match class {
            Some(class) if candidate.execution.count < TRIES && class.count > u64::from(candidate.execution.count) => {
                let moving = candidate.transfer_ns.saturating_add(candidate.overhead_ns);
                let execution = Estimate {
                    mean_ns: class.mean_ns.saturating_sub(moving),
                    spread_ns: 0,
                    count: class.count.min(u64::from(u32::MAX)) as u32,
                };
                Candidate { execution, ..*candidate }
            }
            _ => *candidate,
        }
    }
}

/// Places by earliest finish, and has each place run by an order of its own.
#[derive(Clone, Debug)]
pub(super) struct Ordered {
    name: &'static str,
    key: fn(&ReadyTask<'_>, Placement) -> Key,
    by: EarliestFinish,
}

impl Ordered {
    pub(super) fn new(name: &'static str, key: fn(&ReadyTask<'_>, Placement) -> Key) -> Self {
        Self { name, key, by: EarliestFinish::default() }
    }
}

impl Policy for Ordered {
    fn name(&self) -> &'static str {
        self.name
    }

    fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
        self.by.place(task, view)
    }

    fn key(&self, task: &ReadyTask<'_>, placement: Placement, _places: &[Place]) -> Key {
        (self.key)(task, placement)
    }

    fn victims(&mut self, thief: usize, view: &mut View<'_>, order: &mut Vec<usize>) {
        self.by.victims(thief, view, order);
    }

    fn steals_last(&self) -> bool {
        self.by.steals_last()
    }

    fn offers(&self) -> usize {
        self.by.offers()
    }

    fn steal(&self, offer: &Offer<'_>, places: &[Place]) -> Option<u64> {
        self.by.steal(offer, places)
    }

    fn wants_ranks(&self) -> bool {
        true
    }

    fn ended(&mut self, outcome: &Outcome) {
        self.by.ended(outcome);
    }
}
