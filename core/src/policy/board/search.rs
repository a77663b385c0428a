//! What a place does next: its own task, one of the queue for all, or another place's.

use std::ops::ControlFlow;

use super::super::{End, Key, Offer, Place, TRIES, View};
use super::item::turn_ns;
use super::queue::{Entry, Queue};
use super::{Board, Source};

/// What the look for a task came to.
pub(super) struct Found {
    pub(super) entry: Entry,
    pub(super) source: Source,
    /// What is bad about it.
    pub(super) score: u64,
}

impl<T> Board<T> {
    /// The task that a place takes next, if there is one.
    pub(super) fn find(&mut self, place: usize, now_ns: u64) -> Option<Found> {
        if !self.places[place].active {
            return None;
        }
        let end = self.policy.end(place, &self.places);
        for (queue, source) in [(place, Source::Own), (self.places.len(), Source::Shared)] {
            // Who chooses among several looks at the others.
            if matches!(source, Source::Shared) && !self.queues[queue].entries.is_empty() && self.policy.offers() > 1 {
                self.refresh_all(now_ns);
            }
            if let Some(entry) = self.best(queue, place, end).filter(|entry| self.may_begin(entry.3, place)) {
                return Some(Found { entry, source, score: 0 });
            }
        }
        self.stolen(place, now_ns).or_else(|| self.taken_over(place, now_ns))
    }

    /// Whether a place takes the task of a slot now. What a place has taken stays with it, so where nobody knows what a code takes, and it may run elsewhere, a place gets a few tasks of it, and more when
    /// those are over.
    fn may_begin(&self, slot: u32, place: usize) -> bool {
        let (item, load) = (&self.items[slot as usize], &self.loads[place]);
        let Place { class, parallel, .. } = self.places[place];
        let has_choice = item.runs.iter().map(|run| run.count).sum::<u32>() > 1;
        // A worker takes one at a time, or as many as others wait for.
        if class == 0 || load.running.len() + load.submitted.len() < TRIES.max(parallel) as usize || !has_choice {
            return true;
        }
        let known = item.at(place).map_or(0, |candidate| candidate.execution.count);
        let over = self.over.get(&(item.code, class)).copied().unwrap_or(0);
        known.saturating_add(over) >= TRIES
    }

    /// The task of a queue that is `place`'s turn.
    pub(super) fn best(&self, queue: usize, place: usize, end: End) -> Option<Entry> {
        let from = &self.queues[queue];
        let shared = queue == self.places.len();
        let mut best: Option<Entry> = None;
        for domain in (0..from.counts.len() as u32).filter(|domain| from.counts[*domain as usize] > 0) {
            if !self.allows(domain, place) {
                continue;
            }
            let found = match shared {
                false => from.at_end(domain, end),
                true => self.accepted(from, domain, place, end),
            };
            let Some(entry) = found else { continue };
            let is_first = best.is_none_or(|best| {
                let levels = if end.last_level { best.1[0].cmp(&entry.1[0]) } else { entry.1[0].cmp(&best.1[0]) };
                let (mine, other) = ((entry.1, entry.2), (best.1, best.2));
                levels.then_with(|| if end.last_within { other.cmp(&mine) } else { mine.cmp(&other) }).is_lt()
            });
            if is_first {
                best = Some(*entry);
            }
        }
        best
    }

    /// Of the queue for all the first task that the policy lets a place take, of those that it is offered.
    fn accepted<'q>(&self, from: &'q Queue, domain: u32, place: usize, end: End) -> Option<&'q Entry> {
        let accepts = |entry: &&Entry| self.policy.accepts(place, Key(entry.1), from.entries.len(), &self.places);
        let first = from.at_end(domain, end).filter(accepts);
        match self.policy.offers() {
            more if first.is_none() && more > 1 && end == End::default() => from.of(domain).take(more).skip(1).find(accepts),
            _ => first,
        }
    }

    /// The best task that the policy lets a place steal.
    fn stolen(&mut self, thief: usize, now_ns: u64) -> Option<Found> {
        let places = self.places.len();
        if self.queues[..places].iter().all(|queue| queue.entries.is_empty()) {
            return None;
        }
        self.refresh_all(now_ns);
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        let mut view = View { now_ns, places: &self.places, random: &mut self.random };
        self.policy.victims(thief, &mut view, &mut order);
        let mut best: Option<Found> = None;
        for &victim in order.iter().filter(|victim| **victim != thief) {
            for domain in 0..self.queues[victim].counts.len() as u32 {
                if self.queues[victim].counts[domain as usize] == 0 || !self.allows(domain, thief) {
                    continue;
                }
                let mut left = self.policy.offers().max(1);
                self.each_offer(thief, victim, domain, |entry, score| {
                    if let Some(score) = score
                        && best.as_ref().is_none_or(|best| score < best.score)
                    {
                        best = Some(Found { entry, source: Source::Stolen { from: victim }, score });
                    }
                    left -= 1;
                    if left == 0 || score == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                if best.as_ref().is_some_and(|best| best.score == 0) {
                    self.order = order;
                    return best;
                }
            }
        }
        self.order = order;
        best
    }

    /// Offers tasks of a victim's queue to a thief, in order, until `hear` has heard enough of what is bad about them.
    fn each_offer(&self, thief: usize, victim: usize, domain: u32, mut hear: impl FnMut(Entry, Option<u64>) -> ControlFlow<()>) {
        let queue = &self.queues[victim];
        let place = &self.places[victim];
        let last = self.policy.steals_last();
        let queued_ns = u128::from(place.queued_ns);
        // From the front: what is before the task. From the back: what is not behind it.
        let mut before_ns = if last { queued_ns } else { queued_ns.saturating_sub(queue.cost_ns) };
        let mut entries = queue.of(domain);
        while let Some(entry) = if last { entries.next_back() } else { entries.next() } {
            let item = &self.items[entry.3 as usize];
            let (Some(here), Some(there)) = (item.at(thief), item.at(victim)) else { continue };
            let cost = u128::from(turn_ns(&there, place));
            if last {
                before_ns = before_ns.saturating_sub(cost);
            }
            let wait_ns = u64::try_from(before_ns / u128::from(place.parallel)).unwrap_or(u64::MAX).saturating_add(place.backlog_ns);
            let offer = Offer { code: item.code, here: &here, there: &there, wait_ns, why: item.why };
            if hear(*entry, self.policy.steal(&offer, &self.places)).is_break() {
                return;
            }
            if !last {
                before_ns += cost;
            }
        }
    }

    /// Finds what a thief takes besides the task that it has found: no more than its share, of the same places, and nothing that is worse.
    pub(super) fn gather(&mut self, thief: usize, victim: usize, found: &Found) {
        let mut moving = std::mem::take(&mut self.moving);
        moving.clear();
        let waiting = self.queues[victim].counts[found.entry.0 as usize] as usize;
        let more = self.policy.share(waiting).min(waiting).saturating_sub(1);
        // What is worse is passed over, but not without end.
        let mut looks = more + self.policy.offers();
        if more > 0 {
            self.each_offer(thief, victim, found.entry.0, |entry, score| {
                if entry != found.entry && score.is_some_and(|score| score <= found.score) {
                    moving.push(entry);
                }
                looks -= 1;
                if moving.len() == more || looks == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        }
        self.moving = moving;
    }

    /// A task that waits for a place which is stalled.
    fn taken_over(&self, thief: usize, now_ns: u64) -> Option<Found> {
        let victims = (0..self.places.len()).filter(|&victim| victim != thief && !self.queues[victim].entries.is_empty());
        victims.filter(|&victim| self.stalled(victim, now_ns)).find_map(|victim| {
            let entry = self.best(victim, thief, End::default())?;
            Some(Found { entry, source: Source::TakenOver { from: victim }, score: 0 })
        })
    }
}
