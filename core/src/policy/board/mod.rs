//! The board: which task waits where, which runs where, and how much each place has to do.

mod answers;
mod item;
mod log;
mod measured;
mod queue;
mod search;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use answers::{Ended, How, Pushed, Source, Taken, Ticket};
use item::{Item, Run, State};
use log::Log;
pub use log::{Event, LoggedCandidates, Replaced, Subject, Took};
use queue::{Entry, Queue};

use super::{Candidate, Decision, Key, Outcome, Place, Placement, Policy, Random, ReadyTask, TRIES, View, Why};

/// A place whose tasks all have taken this many times what they were expected to is stalled.
const STALL_FACTOR: u64 = 8;
/// But not before this, in nanoseconds: short tasks are late for reasons of the machine.
const STALL_MIN_NS: u64 = 10_000_000;

/// Consecutive places that a task may run at: the first, and how many.
type Span = (u32, u32);
/// Whether a task costs the same at both places.
fn costs_alike(one: &Candidate, other: &Candidate) -> bool {
    let Candidate { place: _, execution, transfer_ns, missing_bytes, overhead_ns } = *other;
    (one.execution, one.transfer_ns, one.missing_bytes, one.overhead_ns) == (execution, transfer_ns, missing_bytes, overhead_ns)
}

/// What a place does.
#[derive(Debug, Default)]
struct Load {
    running: Vec<u32>,
    /// When those are expected to be over, summed: the time plus the cost of each.
    ends_ns: u128,
    /// Taken, and to run when a running one is over, in this order.
    submitted: VecDeque<u32>,
    submitted_ns: u128,
    /// How often it was to be woken for a task in the shared queue or in that of another, and has not come since.
    woken: usize,
}

impl Load {
    /// How much longer what runs takes. A task that is late by some time is expected to take as much again: a place that hangs gets less and less attractive.
    fn remaining_ns(&self, now_ns: u64) -> u128 {
        if self.running.is_empty() { 0 } else { self.ends_ns.abs_diff(u128::from(now_ns) * self.running.len() as u128) }
    }
}

/// Which task waits where, which runs where, and how much each place has to do: the state behind a [`Policy`].
///
/// A task is pushed when it is ready, taken by a place, and has then finished or is abandoned. Queues allocate memory in blocks of
/// a few tasks; all else is used again. A push, a take and the end of a task take a few steps for each place, and logarithmic time in the length of a queue.
/// A place without work also looks at the queues of the others, if the policy has it steal.
#[derive(Debug)]
pub struct Board<T> {
    policy: Box<dyn Policy>,
    random: Random,
    places: Vec<Place>,
    loads: Vec<Load>,
    /// One for each place, and the last one for all.
    queues: Vec<Queue>,
    domains: Vec<Box<[Span]>>,
    domain_of: BTreeMap<Box<[Span]>, u32>,
    items: Vec<Item<T>>,
    free: Vec<u32>,
    /// Of a code at a class how many tasks were over here, up to those after which estimates count.
    over: BTreeMap<(u64, u32), u32>,
    /// Memory that is used again: candidates of the task at hand, its places, victims, entries that move.
    candidates: Vec<Candidate>,
    spans: Vec<Span>,
    order: Vec<usize>,
    moving: Vec<Entry>,
    /// What was asked and decided, if that is kept.
    log: Option<Box<Log<T>>>,
}

impl<T> Board<T> {
    /// A board with nothing on it. `places` say what there is; what is queued there is counted by the board.
    #[must_use]
    pub fn new(places: Vec<Place>, policy: Box<dyn Policy>, seed: u64) -> Self {
        let places: Vec<_> = places.into_iter().map(|place| Place { queued: 0, queued_ns: 0, ..place }).collect();
        Self {
            policy,
            random: Random::new(seed),
            loads: places.iter().map(|_| Load::default()).collect(),
            queues: (0..=places.len()).map(|_| Queue::default()).collect(),
            places,
            domains: Vec::new(),
            domain_of: BTreeMap::new(),
            items: Vec::new(),
            free: Vec::new(),
            over: BTreeMap::new(),
            candidates: Vec::new(),
            spans: Vec::new(),
            order: Vec::new(),
            moving: Vec::new(),
            log: None,
        }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &dyn Policy {
        &*self.policy
    }

    /// The places as they are at a time.
    pub fn places(&mut self, now_ns: u64) -> &[Place] {
        self.note(|| Event::Viewed { at_ns: now_ns });
        self.refresh_all(now_ns);
        &self.places
    }

    /// Says how long a place is busy with what is not on the board ([`Place::backlog_ns`]). It stands until it is said anew.
    pub fn set_backlog(&mut self, place: usize, backlog_ns: u64) {
        let before_ns = std::mem::replace(&mut self.places[place].backlog_ns, backlog_ns);
        if before_ns != backlog_ns {
            self.note(|| Event::Backlog { place, backlog_ns });
        }
    }

    /// How many tasks wait, in all queues.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queues.iter().map(|queue| queue.entries.len()).sum()
    }

    /// When each candidate that takes tasks would have run the task, in nanoseconds from now: what a decision at this time rests on.
    pub fn consider(&mut self, task: &ReadyTask<'_>, now_ns: u64) -> impl Iterator<Item = (Candidate, u64)> {
        self.note(|| Event::Viewed { at_ns: now_ns });
        self.refresh_all(now_ns);
        let active = task.candidates.iter().filter(|candidate| self.places[candidate.place].active);
        active.map(|candidate| (*candidate, self.places[candidate.place].finish_ns(candidate)))
    }

    /// Places a ready task. Where the task's code runs, and how long, is in its candidates; the estimates are remembered until it has finished.
    ///
    /// # Panics
    /// The candidates are not in the order of their places, there is none, or the policy chose a place that is none of them.
    pub fn push(&mut self, task: &ReadyTask<'_>, value: T, now_ns: u64) -> Pushed {
        assert!(!task.candidates.is_empty(), "a task that may run nowhere is not ready");
        let slot = self.free.pop().unwrap_or_else(|| {
            self.items.push(Item {
                value: None,
                generation: 0,
                state: State::Free,
                number: 0,
                code: 0,
                priority: 0,
                domain: 0,
                rank_ns: None,
                bytes: 0,
                key: Key::default(),
                why: Why::NoPlace,
                placed_class: None,
                runs: Vec::new(),
            });
            u32::try_from(self.items.len() - 1).expect("fewer tasks than 2^32 are ready at a time")
        });
        let item = &mut self.items[slot as usize];
        item.value = Some(value);
        item.number = task.number;
        item.code = task.code;
        item.priority = task.priority;
        item.rank_ns = task.rank_ns;
        item.bytes = task.bytes;
        let mut free_from = 0;
        for candidate in task.candidates {
            assert!(candidate.place >= free_from, "candidates are sorted by place, and each place is there once");
            match item.runs.last_mut() {
                Some(run) if free_from == candidate.place && costs_alike(&run.candidate, candidate) => run.count += 1,
                _ => item.runs.push(Run { count: 1, candidate: *candidate }),
            }
            free_from = candidate.place + 1;
        }
        self.spans.clear();
        for run in &item.runs {
            match self.spans.last_mut() {
                Some((first, count)) if *first as usize + *count as usize == run.candidate.place => *count += run.count,
                _ => self.spans.push((run.candidate.place as u32, run.count)),
            }
        }
        item.domain = match self.domain_of.get(&self.spans[..]) {
            Some(domain) => *domain,
            None => {
                let domain = self.domains.len() as u32;
                self.domains.push(self.spans[..].into());
                self.domain_of.insert(self.spans[..].into(), domain);
                domain
            }
        };
        let pushed = self.decide(slot, task, now_ns);
        self.note_ready(slot, task, &pushed, now_ns);
        pushed
    }

    /// The next task for a place: from its own queue, from the one for all, or from another place's. A place may take more than it runs at a time;
    /// those run in the order in which they were taken.
    pub fn take(&mut self, place: usize, now_ns: u64) -> Option<Taken<T>> {
        let taken = self.choose(place, now_ns).map(|(slot, source)| self.hand_over(slot, source, place, now_ns));
        self.note_asked(place, taken.as_ref(), now_ns);
        taken
    }

    /// What a place takes next, and from which queue; what moves with it is in `moving`.
    fn choose(&mut self, place: usize, now_ns: u64) -> Option<(u32, Source)> {
        self.loads[place].woken = self.loads[place].woken.saturating_sub(1);
        self.moving.clear();
        let found = self.find(place, now_ns)?;
        if let Source::Stolen { from } = found.source {
            self.gather(place, from, &found);
        }
        Some((found.entry.3, found.source))
    }

    /// A place takes the task of a slot, and what is in `moving` with it.
    fn hand_over(&mut self, slot: u32, source: Source, place: usize, now_ns: u64) -> Taken<T> {
        self.dequeue(slot);
        let (domain, moved) = (self.items[slot as usize].domain, self.moving.len());
        for index in 0..moved {
            let entry = self.moving[index];
            debug_assert_eq!(entry.0, domain, "tasks that move together may run at the same places");
            self.dequeue(entry.3);
            self.enqueue(entry.3, place);
        }
        let value = self.begin(slot, place, now_ns);
        let item = &self.items[slot as usize];
        let how = How { source, moved, why: item.why };
        Taken { ticket: Ticket { slot, generation: item.generation }, value, how }
    }

    /// A task that was taken has finished. `None` if the ticket is no longer good. Models should have heard of it before, so that they know more at the next decision.
    pub fn finished(&mut self, ticket: Ticket, now_ns: u64) -> Option<Ended> {
        self.finished_after(ticket, None, now_ns)
    }

    /// A task does not run, or does not end here: it was cancelled, somebody else ran it, or its place was lost. Gives back what was pushed if it still waited.
    pub fn abandoned(&mut self, ticket: Ticket, now_ns: u64) -> Option<T> {
        let number = self.item(ticket)?.number;
        self.note(|| Event::Abandoned { at_ns: now_ns, number });
        self.leave(ticket.slot, now_ns);
        let value = self.items[ticket.slot as usize].value.take();
        self.release(ticket.slot, None);
        value
    }

    /// Says whether a place takes tasks. Placed again, and returned: what waits for a place that no longer does, in its queue or, if no other may run it, in the one
    /// for all; and what waited for one that does again because no other may run it. What the place has taken is still to be finished or abandoned.
    pub fn set_active(&mut self, place: usize, active: bool, now_ns: u64) -> Vec<Pushed> {
        self.places[place].active = active;
        let is_stranded = |slot: u32| self.items[slot as usize].why == Why::NoPlace;
        let has_other = |domain: u32| (0..self.places.len()).any(|other| self.places[other].active && self.allows(domain, other));
        // Each domain is looked at once: many tasks have the same.
        let no_other: Vec<bool> = (0..self.domains.len() as u32).map(|domain| !active && !has_other(domain)).collect();
        let own = self.queues[place].entries.iter().filter(|_| !active);
        let is_meant = |entry: &&queue::Entry| is_stranded(entry.3) == active && (active || no_other[entry.0 as usize]);
        let shared = self.queues[self.places.len()].entries.iter().filter(|entry| self.allows(entry.0, place)).filter(is_meant);
        let slots: BTreeSet<_> = own.chain(shared).map(|entry| (entry.2, entry.3)).collect();
        for (_, slot) in &slots {
            self.leave(*slot, now_ns);
            self.tell(*slot, None);
        }
        let again = slots.into_iter().map(|(_, slot)| {
            let item = &self.items[slot as usize];
            let candidates: Vec<_> = item
                .runs
                .iter()
                .flat_map(|run| (0..run.count as usize).map(|offset| Candidate { place: run.candidate.place + offset, ..run.candidate }))
                .collect();
            let (number, code, priority, rank_ns, bytes) = (item.number, item.code, item.priority, item.rank_ns, item.bytes);
            let task = ReadyTask { number, code, priority, rank_ns, bytes, origin: None, candidates: &candidates };
            self.decide(slot, &task, now_ns)
        });
        let again: Vec<_> = again.collect();
        self.note_active(place, active, &again, now_ns);
        again
    }

    /// Whether a place makes no progress: each of its processors has a task that has taken many times what was expected. Others may take over what waits for it.
    #[must_use]
    pub fn stalled(&self, place: usize, now_ns: u64) -> bool {
        let load = &self.loads[place];
        load.running.len() >= self.places[place].parallel as usize
            && load.running.iter().all(|slot| {
                let item = &self.items[*slot as usize];
                let State::Running { begun_ns, .. } = item.state else { return false };
                let spread = item.at(place).map_or(0, |candidate| candidate.execution.spread_ns);
                let limit = item.cost_ns(place).saturating_add(spread).saturating_mul(STALL_FACTOR).max(STALL_MIN_NS);
                now_ns.saturating_sub(begun_ns) > limit
            })
    }

    /// A place that has nothing to do, has not been woken, and would find a task by [`take`](Self::take): it is to be woken. To be asked by each place that
    /// was woken; until there is none when a place no longer takes tasks; and now and then, since as time goes by a place turns out to be late or to hang, and
    /// what waits there may go elsewhere.
    pub fn to_wake(&mut self, now_ns: u64) -> Option<usize> {
        if self.waiting() == 0 {
            return None;
        }
        let place = self.wakes(now_ns);
        self.note(|| Event::Woken { at_ns: now_ns, place });
        place
    }

    fn wakes(&mut self, now_ns: u64) -> Option<usize> {
        let place = (0..self.places.len()).find(|&place| self.is_free(place) && self.finds(place, now_ns))?;
        self.loads[place].woken += 1;
        Some(place)
    }

    /// Whether a place that was to be woken has not come since.
    #[must_use]
    pub fn awaits(&self) -> bool {
        self.loads.iter().any(|load| load.woken > 0)
    }

    /// Whether this place was to be woken and has not come since: until it does, it is not woken again.
    #[must_use]
    pub fn awaits_at(&self, place: usize) -> bool {
        self.loads[place].woken > 0
    }

    /// Whether [`take`](Self::take) would find a task for a place. Changes nothing.
    pub fn would_take(&mut self, place: usize, now_ns: u64) -> bool {
        let finds = self.finds(place, now_ns);
        self.note(|| Event::Looked { at_ns: now_ns, place, finds });
        finds
    }

    fn finds(&mut self, place: usize, now_ns: u64) -> bool {
        let random = self.random;
        let found = self.find(place, now_ns).is_some();
        self.random = random;
        found
    }

    /// Why a task waits although this place may run it: of the first one that does. `None` if none does.
    #[must_use]
    pub fn reason(&self, place: usize) -> Option<Why> {
        let entries = self.queues.iter().flat_map(|queue| {
            let domains = (0..queue.counts.len() as u32).filter(|domain| queue.counts[*domain as usize] > 0 && self.allows(*domain, place));
            domains.filter_map(|domain| queue.of(domain).next())
        });
        entries.min_by_key(|entry| entry.2).map(|entry| self.items[entry.3 as usize].why)
    }

    fn item(&self, ticket: Ticket) -> Option<&Item<T>> {
        self.items.get(ticket.slot as usize).filter(|item| item.generation == ticket.generation && item.state != State::Free)
    }

    fn allows(&self, domain: u32, place: usize) -> bool {
        self.domains[domain as usize].iter().any(|&(first, count)| (first as usize..(first + count) as usize).contains(&place))
    }

    fn refresh(places: &mut [Place], loads: &[Load], queues: &[Queue], place: usize, now_ns: u64) {
        let total = queues[place].cost_ns + loads[place].submitted_ns + loads[place].remaining_ns(now_ns);
        places[place].queued_ns = u64::try_from(total).unwrap_or(u64::MAX);
    }

    fn refresh_all(&mut self, now_ns: u64) {
        for place in 0..self.places.len() {
            Self::refresh(&mut self.places, &self.loads, &self.queues, place, now_ns);
        }
    }

    /// Asks the policy where the task of a slot waits, and puts it there.
    fn decide(&mut self, slot: u32, task: &ReadyTask<'_>, now_ns: u64) -> Pushed {
        let mut all_active = true;
        for candidate in task.candidates {
            all_active &= self.places[candidate.place].active;
            Self::refresh(&mut self.places, &self.loads, &self.queues, candidate.place, now_ns);
        }
        let mut active = std::mem::take(&mut self.candidates);
        active.clear();
        if !all_active {
            active.extend(task.candidates.iter().filter(|candidate| self.places[candidate.place].active));
        }
        let seen = if all_active { *task } else { ReadyTask { candidates: &active, ..*task } };
        let decision = if seen.candidates.is_empty() {
            Decision::shared(Why::NoPlace)
        } else {
            let mut view = View { now_ns, places: &self.places, random: &mut self.random };
            self.policy.place(&seen, &mut view)
        };
        let key = self.policy.key(task, decision.placement, &self.places);
        let queue = match decision.placement {
            Placement::Shared => self.places.len(),
            Placement::Place(place) => {
                let may = seen.candidates.binary_search_by_key(&place, |candidate| candidate.place).is_ok();
                assert!(may, "the policy `{}` placed a task where it may not run: {place}", self.policy.name());
                place
            }
        };
        self.candidates = active;
        let item = &mut self.items[slot as usize];
        item.key = key;
        item.why = decision.why;
        item.placed_class = self.places.get(queue).map(|place| place.class);
        let ticket = Ticket { slot, generation: item.generation };
        self.enqueue(slot, queue);
        let wake = self.wake_for(queue, task, now_ns);
        Pushed { ticket, decision, wake }
    }

    /// A place that has nothing to do, for a task that was just put into a queue.
    fn wake_for(&mut self, queue: usize, task: &ReadyTask<'_>, now_ns: u64) -> Option<usize> {
        if queue < self.places.len() {
            let (place, load) = (&self.places[queue], &self.loads[queue]);
            let own = (load.running.len() + load.submitted.len() < place.parallel as usize).then_some(queue);
            if place.queued + load.woken <= place.parallel as usize || !self.policy.keeps_all_busy() {
                return own;
            }
            // Not only for this task: it may have gone before another one, which others may run.
            return self.wakes(now_ns).or(own);
        }
        let mut free = task.candidates.iter().map(|candidate| candidate.place).filter(|place| self.is_free(*place));
        let first = free.find(|&place| self.best(queue, place, self.policy.end(place, &self.places)).is_some())?;
        self.loads[first].woken += 1;
        Some(first)
    }

    /// Whether a place has nothing to do, and has not been told to look for something.
    fn is_free(&self, place: usize) -> bool {
        let Place { active, queued, parallel, .. } = self.places[place];
        active && queued + self.loads[place].woken < parallel as usize
    }

    /// Puts the task of a slot into a queue.
    fn enqueue(&mut self, slot: u32, queue: usize) {
        let item = &mut self.items[slot as usize];
        item.state = State::Waiting { queue };
        let to = &mut self.queues[queue];
        to.entries.insert((item.domain, item.key.0, item.number, slot));
        let domain = item.domain as usize;
        if to.counts.len() <= domain {
            to.counts.resize(domain + 1, 0);
        }
        to.counts[domain] += 1;
        if let Some(place) = self.places.get_mut(queue) {
            place.queued += 1;
            to.cost_ns += u128::from(item.turn_ns(queue, place));
        }
    }

    /// Takes the task of a slot out of its queue.
    fn dequeue(&mut self, slot: u32) {
        let item = &self.items[slot as usize];
        let State::Waiting { queue } = item.state else { return };
        let from = &mut self.queues[queue];
        let was_there = from.entries.remove(&(item.domain, item.key.0, item.number, slot));
        assert!(was_there, "a task that waits is in its queue");
        from.counts[item.domain as usize] -= 1;
        if let Some(place) = self.places.get_mut(queue) {
            place.queued -= 1;
            from.cost_ns -= u128::from(item.turn_ns(queue, place));
        }
    }

    /// A place has taken the task of a slot.
    fn begin(&mut self, slot: u32, place: usize, now_ns: u64) -> T {
        let value = self.items[slot as usize].value.take().expect("a task that waits has not been taken");
        self.occupy(slot, place, now_ns);
        value
    }

    /// A place has the task of a slot, to run it now or next.
    fn occupy(&mut self, slot: u32, place: usize, now_ns: u64) {
        self.places[place].queued += 1;
        let item = &mut self.items[slot as usize];
        let load = &mut self.loads[place];
        if load.running.len() < self.places[place].parallel as usize {
            self.run(slot, place, now_ns);
        } else {
            item.state = State::Submitted { place };
            load.submitted.push_back(slot);
            load.submitted_ns += u128::from(item.turn_ns(place, &self.places[place]));
        }
    }

    fn run(&mut self, slot: u32, place: usize, now_ns: u64) {
        let item = &mut self.items[slot as usize];
        item.state = State::Running { place, begun_ns: now_ns };
        let load = &mut self.loads[place];
        load.running.push(slot);
        load.ends_ns += u128::from(now_ns) + u128::from(item.cost_ns(place));
    }

    /// Takes the task of a slot from wherever it is.
    fn leave(&mut self, slot: u32, now_ns: u64) {
        let item = &self.items[slot as usize];
        match item.state {
            State::Free => {}
            State::Waiting { .. } => self.dequeue(slot),
            State::Submitted { place } => {
                let load = &mut self.loads[place];
                load.submitted.retain(|other| *other != slot);
                load.submitted_ns -= u128::from(item.turn_ns(place, &self.places[place]));
                self.places[place].queued -= 1;
            }
            State::Running { place, begun_ns } => {
                let load = &mut self.loads[place];
                load.running.retain(|other| *other != slot);
                load.ends_ns -= u128::from(begun_ns) + u128::from(item.cost_ns(place));
                self.places[place].queued -= 1;
                if let Some(next) = load.submitted.pop_front() {
                    load.submitted_ns -= u128::from(self.items[next as usize].turn_ns(place, &self.places[place]));
                    self.run(next, place, now_ns);
                }
            }
        }
    }

    /// Tells the policy what became of the task of a slot.
    fn tell(&mut self, slot: u32, ran: Option<(u32, u64)>) {
        let item = &self.items[slot as usize];
        self.policy.ended(&Outcome { code: item.code, placed_class: item.placed_class, why: item.why, ran });
    }

    /// The slot is free for another task.
    fn release(&mut self, slot: u32, ran: Option<(u32, u64)>) {
        self.tell(slot, ran);
        let item = &mut self.items[slot as usize];
        // Those that were known well need not be counted.
        if let Some((class, _)) = ran
            && item.runs.iter().any(|run| run.candidate.execution.count < TRIES)
        {
            let over = self.over.entry((item.code, class)).or_default();
            *over = (*over + 1).min(TRIES);
        }
        item.state = State::Free;
        item.generation = item.generation.wrapping_add(1);
        item.runs.clear();
        self.free.push(slot);
    }
}

#[cfg(test)]
impl<T> Board<T> {
    /// The place in whose queue a task waits, and why.
    pub(super) fn placed(&self, ticket: Ticket) -> (Option<usize>, Why) {
        let item = &self.items[ticket.slot as usize];
        match item.state {
            State::Waiting { queue } if queue < self.places.len() => (Some(queue), item.why),
            _ => (None, item.why),
        }
    }

    /// Whether no task waits behind this one in its queue, and all before it may run at the same places.
    pub(super) fn is_last(&self, ticket: Ticket) -> bool {
        let item = &self.items[ticket.slot as usize];
        let State::Waiting { queue } = item.state else { return false };
        let queue = &self.queues[queue];
        queue.of(item.domain).next_back().is_some_and(|last| last.3 == ticket.slot)
            && queue.counts[item.domain as usize] as usize == queue.entries.len()
    }
}
