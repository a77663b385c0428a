//! Tasks that take no processor, part of one, or several.
//!
//! * One that takes **none** is run by a thread of the slot that does not hold it: an *errand*. The worker that found it goes on at once.
//! * Those that take **part** wait in a queue of their own. A worker that takes from it shares its processor: it runs one, sends others on errands as long as
//!   they fit beside each other, and goes on with other tasks when all of them are over.
//! * One that takes **several** waits until so many workers have come to it; the last to come runs it, and the others keep still until it is over. One such task
//!   gathers or runs at a time. A worker that keeps still gives its slot up when a thread wants it back.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::context::Context;
use super::entry::Entry;
use super::main_loop::run;
use super::shared::Shared;
use super::waiter;
use crate::options::Occupancy;
use crate::planted::{self, Bug};
use crate::sync::Unparker;
use crate::task::record::TaskRef;

/// The tasks of a runtime that do not take exactly one processor, as far as they wait or run.
#[derive(Debug, Default)]
pub(crate) struct Unusual {
    /// Number of tasks in `Partial::queue`.
    partial_count: AtomicUsize,
    partial: Mutex<Partial>,
    /// Whether the first task in `Gang::queue` still needs workers.
    gathers: AtomicBool,
    gang: Mutex<Gang>,
}

#[derive(Debug, Default)]
struct Partial {
    queue: VecDeque<Waiting>,
    /// By slot: how much of its processor tasks take that run.
    used: Vec<u32>,
    /// Workers that share their processors: what tells them apart, the slot, and what wakes them.
    hosts: Vec<(usize, usize, Unparker)>,
}

#[derive(Debug, Default)]
struct Gang {
    queue: VecDeque<Waiting>,
    /// The slots whose workers have come to the first task of the queue, or keep still for the one that runs.
    gathered: Vec<(usize, Unparker)>,
    runs: bool,
    /// Counts those that have ended.
    ended: u64,
}

/// A ready task, and how much it takes in thousandths of a processor.
#[derive(Debug)]
struct Waiting {
    entry: Entry,
    takes: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No change is half made where something could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Unusual {
    /// Whether a worker that is between two tasks could do something here.
    pub(crate) fn has_work(&self, shared: &Shared, slot: usize) -> bool {
        // Acquire, here and in `attend`: pairs with the Release of the stores, so that what was pushed before is seen under the lock.
        let partial = || lock(&self.partial).find_fitting(shared, slot).is_some();
        let gang = || lock(&self.gang).wants(shared, slot);
        self.partial_count.load(Acquire) > 0 && partial() || self.gathers.load(Acquire) && gang()
    }

    /// Takes over a ready task that takes part of a processor or several.
    pub(crate) fn push(&self, shared: &Shared, occupancy: Occupancy, entry: Entry) {
        let waiting = Waiting { entry, takes: occupancy.thousandths() };
        if occupancy.is_part() {
            let fits: Vec<bool> = (0..shared.slots.len()).map(|slot| waiting.entry.peek(|task| shared.may_run(slot, task))).collect();
            let mut partial = lock(&self.partial);
            partial.queue.push_back(waiting);
            self.partial_count.store(partial.queue.len(), Release);
            drop(partial);
            // Rather a processor that is idle than one that is shared already.
            if !shared.sleep.wake_where(|slot| fits[slot]) {
                self.add_to_shared(shared);
                shared.sleep.notify();
            }
        } else {
            let mut gang = lock(&self.gang);
            gang.queue.push_back(waiting);
            self.gathers.store(!gang.runs, Release);
            drop(gang);
            shared.sleep.wake_all();
        }
    }

    /// Takes the tasks out that `is_lost` says nobody can run.
    pub(crate) fn take_lost(&self, is_lost: impl Fn(&TaskRef) -> bool) -> Vec<Entry> {
        let take = |queue: &mut VecDeque<Waiting>| {
            let (lost, kept): (VecDeque<_>, _) =
                std::mem::take(queue).into_iter().partition(|waiting: &Waiting| waiting.entry.peek(&is_lost));
            *queue = kept;
            lost.into_iter().map(|waiting| waiting.entry)
        };
        let mut lost: Vec<Entry> = Vec::new();
        {
            let mut partial = lock(&self.partial);
            lost.extend(take(&mut partial.queue));
            self.partial_count.store(partial.queue.len(), Release);
        }
        let mut gang = lock(&self.gang);
        let first = gang.queue.front().map(|waiting| waiting.entry.peek(|task| task.identity()));
        lost.extend(take(&mut gang.queue));
        let runs = gang.runs;
        self.gathers.store(!runs && !gang.queue.is_empty(), Release);
        if !runs && first != gang.queue.front().map(|waiting| waiting.entry.peek(|task| task.identity())) {
            // They had come to one that is not there any more.
            gang.ended += 1;
            let gathered = std::mem::take(&mut gang.gathered);
            drop(gang);
            gathered.into_iter().for_each(|(_, held)| held.unpark());
        }
        lost
    }

    /// For a worker between two tasks: does what there is to do for tasks that wait here. Whether there was anything.
    pub(crate) fn attend(&self, context: &Context, slot: usize) -> bool {
        let gathered = self.gathers.load(Acquire) && self.join_gang(context, slot);
        gathered || self.partial_count.load(Acquire) > 0 && self.share(context, slot)
    }

    /// The oldest task that fits into what is left of a slot's processor; it is then counted.
    fn take_fitting(&self, shared: &Shared, slot: usize) -> Option<(Entry, u32)> {
        self.take_from(&mut lock(&self.partial), shared, slot)
    }

    fn take_from(&self, partial: &mut Partial, shared: &Shared, slot: usize) -> Option<(Entry, u32)> {
        let place = partial.find_fitting(shared, slot)?;
        let Waiting { entry, takes } = partial.queue.remove(place)?;
        self.partial_count.store(partial.queue.len(), Release);
        if partial.used.len() <= slot {
            partial.used.resize(shared.slots.len(), 0);
        }
        partial.used[slot] += takes;
        Some((entry, takes))
    }

    /// Gives back what a task took, and takes the next one that fits, in one step: in between, the worker that shares its processor would find it
    /// free, and go on with tasks that take all of it. Nothing when no worker does.
    fn exchange(&self, shared: &Shared, slot: usize, takes: u32) -> Option<(Entry, u32)> {
        let mut partial = lock(&self.partial);
        partial.used[slot] -= takes;
        let next = self.take_beside(&mut partial, shared, slot);
        partial.wake_host(slot);
        next
    }

    /// The oldest task that fits beside others, where a worker shares its processor. It does so until all are over.
    fn take_beside(&self, partial: &mut Partial, shared: &Shared, slot: usize) -> Option<(Entry, u32)> {
        partial.hosts.iter().any(|(_, host, _)| *host == slot).then(|| self.take_from(partial, shared, slot)).flatten()
    }

    /// A task that gave back what it took goes on, whether that is free or not.
    fn take_again(&self, slot: usize, takes: u32) {
        lock(&self.partial).used[slot] += takes;
    }

    /// Sends those that fit beside others on errands: the workers that share their processors may be in the middle of long bodies.
    fn add_to_shared(&self, shared: &Shared) {
        let hosts: Vec<usize> = lock(&self.partial).hosts.iter().map(|(_, slot, _)| *slot).collect();
        for slot in hosts {
            while let Some((entry, takes)) = self.take_beside(&mut lock(&self.partial), shared, slot) {
                if let Err(Errand { entry, takes }) = shared.send_errand(slot, Errand { entry, takes }) {
                    // No thread to be had: it waits for one that is through.
                    let mut partial = lock(&self.partial);
                    partial.queue.push_front(Waiting { entry, takes });
                    self.partial_count.store(partial.queue.len(), Release);
                    partial.used[slot] -= takes;
                    partial.wake_host(slot);
                    return;
                }
            }
        }
    }

    /// Gives back what a task took.
    fn give_back(&self, slot: usize, takes: u32) {
        let mut partial = lock(&self.partial);
        partial.used[slot] -= takes;
        partial.wake_host(slot);
    }

    /// A task that is about to wait gives back what it takes, as what it waits for may need it; `resume` ends that.
    pub(crate) fn suspend(&self, shared: &Shared, holding: Holding) {
        match holding {
            Holding::Nothing => {}
            Holding::Part { slot, takes } => {
                self.give_back(slot, takes);
                shared.sleep.notify();
            }
            Holding::Gang => self.end_gang(shared),
        }
    }

    /// A task that waited goes on. What it had of a processor is its again; several processors are not: it goes on with one.
    pub(crate) fn resume(&self, holding: Holding) -> Holding {
        match holding {
            Holding::Part { slot, takes } => {
                self.take_again(slot, takes);
                holding
            }
            Holding::Nothing | Holding::Gang => Holding::Nothing,
        }
    }

    /// Runs tasks that take part of a processor, beside each other, until there are none left that have begun here.
    fn share(&self, context: &Context, slot: usize) -> bool {
        let shared = &*context.shared;
        let me = context.identity();
        let mut first = {
            let mut partial = lock(&self.partial);
            let Some(first) = self.take_from(&mut partial, shared, slot) else { return false };
            partial.hosts.push((me, slot, waiter::unparker()));
            first
        };
        loop {
            // As many others as fit go on errands; the last one taken is run here.
            while let Some(next) = self.take_fitting(shared, slot) {
                let (entry, takes) = first;
                first = next;
                if let Err(errand) = shared.send_errand(slot, Errand { entry, takes }) {
                    // No thread to be had: one after the other, then.
                    errand.run_here(context, slot);
                    self.give_back(slot, takes);
                }
            }
            let (entry, takes) = first;
            Errand { entry, takes }.run_here(context, slot);
            self.give_back(slot, takes);
            first = loop {
                // The others may be over; or others may fit now.
                if let Some(next) = self.take_fitting(shared, slot) {
                    break next;
                }
                let mut partial = lock(&self.partial);
                // A thread that wants the slot back need not wait for the others: those have threads of their own.
                if partial.used[slot] == 0 || shared.slots[slot].is_wanted() {
                    partial.hosts.retain(|(host, ..)| *host != me);
                    return true;
                }
                drop(partial);
                waiter::park();
            };
        }
    }

    /// A task that took several processors is over, or waits: the workers that kept still go on.
    fn end_gang(&self, shared: &Shared) {
        let mut gang = lock(&self.gang);
        gang.runs = false;
        gang.ended += 1;
        let gathered = std::mem::take(&mut gang.gathered);
        let more = !gang.queue.is_empty();
        self.gathers.store(more, Release);
        drop(gang);
        for (_, held) in gathered {
            held.unpark();
        }
        if more {
            shared.sleep.wake_all();
        }
    }

    /// Comes to the first task that takes several processors; runs it when enough have come, and keeps still until it is over otherwise.
    fn join_gang(&self, context: &Context, slot: usize) -> bool {
        let shared = &*context.shared;
        let mut gang = lock(&self.gang);
        if !gang.wants(shared, slot) {
            return false;
        }
        let Some(first) = gang.queue.front() else { return false };
        let needed = first.takes.div_ceil(Occupancy::ONE.thousandths()) as usize;
        gang.gathered.push((slot, waiter::unparker()));
        if gang.gathered.len() == needed {
            let Some(Waiting { entry, .. }) = gang.queue.pop_front() else { unreachable!("looked at above") };
            gang.runs = true;
            self.gathers.store(false, Release);
            drop(gang);
            // Ended already where the body has waited for something.
            if context.hold(Holding::Gang, || run(context, entry)) == Holding::Gang && !planted::is(Bug::LeakedReservation) {
                self.end_gang(shared);
            }
            return true;
        }
        let ended = gang.ended;
        loop {
            drop(gang);
            waiter::park();
            gang = lock(&self.gang);
            if gang.ended != ended {
                return true;
            }
            if shared.slots[slot].is_wanted() {
                // While others still gather this place is open again; a task that runs already goes on without.
                gang.gathered.retain(|(held, _)| *held != slot);
                return true;
            }
        }
    }
}

impl Partial {
    /// A task that shared a slot's processor is over.
    fn wake_host(&self, slot: usize) {
        for (.., host) in self.hosts.iter().filter(|(_, host, _)| *host == slot) {
            host.unpark();
        }
    }

    /// The place of the oldest task that fits into what is left of a slot's processor.
    fn find_fitting(&self, shared: &Shared, slot: usize) -> Option<usize> {
        let free = Occupancy::ONE.thousandths().saturating_sub(self.used.get(slot).copied().unwrap_or(0));
        self.queue.iter().position(|waiting| waiting.takes <= free && waiting.entry.peek(|task| shared.may_run(slot, task)))
    }
}

impl Gang {
    /// Whether the first task still needs the worker of a slot.
    fn wants(&self, shared: &Shared, slot: usize) -> bool {
        let first = self.queue.front().filter(|_| !self.runs && self.gathered.iter().all(|(held, _)| *held != slot));
        first.is_some_and(|first| first.entry.peek(|task| shared.may_run(slot, task)))
    }
}

/// What the task that a thread is in the middle of takes besides, or in place of, the processor of the thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Holding {
    #[default]
    Nothing,
    /// So many thousandths of a slot's processor.
    Part { slot: usize, takes: u32 },
    /// Workers that keep still.
    Gang,
}

/// A task for a thread that does not hold the slot, and how much of the slot's processor it takes.
#[derive(Debug)]
pub(crate) struct Errand {
    entry: Entry,
    takes: u32,
}

impl Errand {
    /// One that takes nothing.
    pub(crate) fn free(entry: Entry) -> Self {
        Self { entry, takes: 0 }
    }

    /// The task, when nobody can go.
    pub(crate) fn into_entry(self) -> Entry {
        self.entry
    }

    /// Runs a task that takes part of the slot's processor, which has been counted and is given back by the caller.
    fn run_here(self, context: &Context, slot: usize) {
        context.hold(Holding::Part { slot, takes: self.takes }, || run(context, self.entry));
    }

    /// Runs the task on this thread, and others that fit when it is over.
    pub(crate) fn run(self, context: &Context, slot: usize) {
        let unusual = &context.shared.unusual;
        let mut next = Some((self.entry, self.takes));
        while let Some((entry, takes)) = next {
            context.shared.slots[slot].counters.errands.fetch_add(1, Relaxed);
            if takes == 0 {
                run(context, entry);
                return;
            }
            Self { entry, takes }.run_here(context, slot);
            next = unusual.exchange(&context.shared, slot, takes);
        }
    }
}
