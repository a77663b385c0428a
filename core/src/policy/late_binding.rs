//! The most urgent first, and nothing is placed before its time: a task waits for all until a place is free that would end it first.
//!
//! Heterogeneous earliest finish time (Haluk Topcuoglu, Salim Hariri and Min-You Wu, "Performance-effective and low-complexity task scheduling for heterogeneous computing",
//! 2002), planned again whenever a place is free, for what waits then; to plan again while the graph runs is from Rizos Sakellariou and Henan Zhao, "A low-cost rescheduling
//! policy for efficient mapping of workflows on grid systems", 2004. A task that is placed when it is ready stays behind what was there before, and what comes later and is more urgent
//! comes before it: with every such step the estimate that placed it gets worse. Here a free place goes through the tasks that wait by falling upward rank, gives each in
//! thought to the place that ends it first, and takes the first one that it is itself.
//!
//! Two things are ours. A task with much to bring is placed at once, so that the bringing goes on while others run. And a place that is slow for a task counts as somewhat faster than it
//! is, since the fast ones are going to be needed for what is more urgent and not ready yet. What takes a time that nobody knows yet is placed as by
//! [earliest finish](super::earliest_finish), which finds out.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::earliest_finish::EarliestFinish;
use super::priority::by_rank;
use super::{Candidate, Decision, Key, Offer, Outcome, Place, Placement, Policy, ReadyTask, TRIES, View, Why};

/// How many waiting tasks a free place looks at.
const OFFERS: usize = 16;
/// A task is placed at once if it may have to wait for its data for more than this part of its run: a tenth.
const MOVING_DIVISOR: u64 = 10;
/// By this part of what a task takes there longer a place counts as faster: a fifth.
const SPARED_DIVISOR: u64 = 5;
/// No more tasks wait for all than this, so that what is remembered of them stays small.
const MOST_WAITING: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct LateBinding {
    by: EarliestFinish,
    /// Whoever is asked what it accepts may not change anything, and remembers how far it is.
    look: RefCell<Look>,
}

/// The tasks that wait for all, and the look of a free place at them.
#[derive(Debug, Default)]
struct Look {
    groups: Vec<Group>,
    /// Who looks, and what was offered last. `None` if something has happened since.
    last: Option<(usize, [i64; 3])>,
    /// When each place would be free behind what was given to it in thought, in nanoseconds from now.
    free_ns: Vec<u64>,
}

/// Tasks that may run at the same places.
#[derive(Debug)]
struct Group {
    places: Vec<usize>,
    waiting: BTreeMap<[i64; 3], Waiting>,
    /// The last one that was offered in this look, and how many were.
    offered: Option<[i64; 3]>,
    offers: usize,
}

#[derive(Debug)]
struct Waiting {
    candidates: Box<[Candidate]>,
    /// Somebody has accepted it, and probably taken it.
    is_accepted: bool,
}

fn key_of(task: &ReadyTask<'_>) -> [i64; 3] {
    [by_rank(task), i64::from(task.priority).wrapping_neg(), task.number as i64]
}

/// The candidate that ends first, with a little sparing of those that are fast, and its end.
fn best<'c>(candidates: &'c [Candidate], free_ns: &[u64], places: &[Place]) -> Option<(&'c Candidate, u64)> {
    let least_ns = candidates.iter().map(|candidate| candidate.execution.mean_ns).min()?;
    let active = candidates.iter().filter(|candidate| places[candidate.place].active);
    let ends = active.map(|candidate| (candidate, places[candidate.place].finish_after_ns(free_ns[candidate.place], candidate)));
    ends.min_by_key(|(candidate, end_ns)| {
        let spared_ns = (candidate.execution.mean_ns - least_ns) / SPARED_DIVISOR;
        (end_ns.saturating_sub(spared_ns), candidate.missing_bytes)
    })
}

/// Gives a task to a place in thought.
fn give((candidate, end_ns): (&Candidate, u64), free_ns: &mut [u64], places: &[Place]) {
    let free = &mut free_ns[candidate.place];
    *free = match u64::from(places[candidate.place].parallel) {
        1 => end_ns,
        parallel => free.saturating_add(candidate.cost_ns() / parallel),
    };
}

impl Look {
    fn begin(&mut self, places: &[Place]) {
        self.free_ns.clear();
        self.free_ns.extend(places.iter().map(Place::wait_ns));
        self.groups.iter_mut().for_each(|group| (group.offered, group.offers) = (None, 0));
    }

    fn add(&mut self, task: &ReadyTask<'_>) {
        let places = || task.candidates.iter().map(|candidate| candidate.place);
        let known = self.groups.iter().position(|group| group.places.iter().copied().eq(places()));
        let index = known.unwrap_or_else(|| {
            self.groups.push(Group { places: places().collect(), waiting: BTreeMap::new(), offered: None, offers: 0 });
            self.groups.len() - 1
        });
        self.groups[index].waiting.insert(key_of(task), Waiting { candidates: task.candidates.into(), is_accepted: false });
    }
}

impl Policy for LateBinding {
    fn name(&self) -> &'static str {
        "late-binding"
    }

    fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
        let look = self.look.get_mut();
        look.last = None;
        if let Some(only) = view.only(task) {
            return only;
        }
        if task.candidates.iter().any(|candidate| candidate.execution.count < TRIES) {
            return self.by.place(task, view);
        }
        let moving_ns = task.candidates.iter().map(|candidate| candidate.transfer_ns).max();
        let least_ns = task.candidates.iter().map(|candidate| candidate.execution.mean_ns).min();
        let waits = look.groups.iter().map(|group| group.waiting.len()).sum::<usize>();
        if moving_ns <= least_ns.map(|ns| ns / MOVING_DIVISOR) && waits < MOST_WAITING {
            look.add(task);
            return Decision::shared(Why::Rule);
        }
        look.begin(view.places);
        let Look { groups, free_ns, .. } = look;
        for group in groups {
            let urgent = group.waiting.range(..key_of(task)).map(|(_, waiting)| waiting);
            for waiting in urgent.filter(|waiting| !waiting.is_accepted).take(OFFERS) {
                if let Some(best) = best(&waiting.candidates, free_ns, view.places) {
                    give(best, free_ns, view.places);
                }
            }
        }
        match best(task.candidates, free_ns, view.places) {
            Some((candidate, _)) => Decision::at(candidate, Why::EarliestFinish, view),
            None => self.by.place(task, view),
        }
    }

    fn key(&self, task: &ReadyTask<'_>, _placement: Placement, _places: &[Place]) -> Key {
        Key(key_of(task))
    }

    /// Offered by falling urgency, those of one group after those of another; what is passed over is not there any more.
    fn accepts(&self, place: usize, key: Key, count: usize, places: &[Place]) -> bool {
        let mut look = self.look.borrow_mut();
        if look.last.is_none_or(|(looking, last)| looking != place || last >= key.0) {
            look.begin(places);
        }
        let Look { groups, last, free_ns } = &mut *look;
        // Who has come here in another way goes where it can.
        let Some(group) = groups.iter_mut().find(|group| group.waiting.contains_key(&key.0)) else { return true };
        let passed = |known: &[i64; 3]| *known < key.0 && group.offered.is_none_or(|offered| *known > offered);
        while let Some(gone) = group.waiting.range(..key.0).next_back().map(|(known, _)| *known).filter(passed) {
            group.waiting.remove(&gone);
        }
        group.offered = Some(key.0);
        group.offers += 1;
        *last = Some((place, key.0));
        let Some(waiting) = group.waiting.get_mut(&key.0) else { return true };
        waiting.is_accepted = false;
        let Some((candidate, end_ns)) = best(&waiting.candidates, free_ns, places) else { return true };
        // Of many that wait only the first are looked at. The others keep the place that ends this one first busy for as much longer as there are more of them.
        let is_left = group.offers == OFFERS
            && waiting.candidates.iter().filter(|candidate| candidate.place == place).any(|here| {
                let end_here_ns = places[place].finish_after_ns(free_ns[place], here);
                end_here_ns <= end_ns.saturating_mul(count as u64) / OFFERS as u64
            });
        if candidate.place == place || is_left {
            (waiting.is_accepted, *last) = (true, None);
            return true;
        }
        give((candidate, end_ns), free_ns, places);
        false
    }

    fn victims(&mut self, thief: usize, view: &mut View<'_>, order: &mut Vec<usize>) {
        self.by.victims(thief, view, order);
    }

    fn steals_last(&self) -> bool {
        self.by.steals_last()
    }

    fn offers(&self) -> usize {
        OFFERS
    }

    fn steal(&self, offer: &Offer<'_>, places: &[Place]) -> Option<u64> {
        self.by.steal(offer, places)
    }

    fn wants_ranks(&self) -> bool {
        true
    }

    fn ended(&mut self, outcome: &Outcome) {
        self.look.get_mut().last = None;
        self.by.ended(outcome);
    }
}
