//! A worker's place: its queues, and the right to use them, which passes from thread to thread (README, "Slots").
//!
//! One file because whoever gets, lends or gives up a slot does so under the same lock.
#![expect(unsafe_code, reason = "queues with one owner at a time, who proves it with a token")]

use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_deque::{Stealer, Worker as Deque};
use crossbeam_utils::CachePadded;

use super::entry::Entry;
use super::fetch::SLOT_THREADS;
use super::job_deque::{Jobs, JobsOfOther};
use super::occupancy::Errand;
use super::ring::Ring;
use super::waiter;
use crate::clock::now_ns;
use crate::options::Priority;
use crate::platform;
use crate::ship::processor::RemoteProcessor;
use crate::sync::Unparker;

/// How many threads of one slot may wait for the slot to be lent to them again. More end instead.
const SPARES_MAX: usize = 4;

/// How long a thread that has spawned too much waits while nothing at all is finished.
const CROWD_PATIENCE: Duration = Duration::from_millis(10);
/// How long a thread that has waited wants its slot back while nothing at all is finished, before it goes on without.
const REGAIN_PATIENCE: Duration = Duration::from_secs(1);

/// What the thread that holds a slot works with.
pub(crate) struct Local {
    /// One deque for each priority, most urgent first.
    pub(crate) deques: [Deque<Entry>; Priority::COUNT],
    /// Jobs of the task that the thread is in the middle of, and of those that lent the slot.
    pub(crate) jobs: Jobs,
    /// State of the random numbers that choose victims.
    pub(crate) random: Cell<u64>,
    /// Tasks taken so far, to look at the shared queues now and then.
    pub(crate) tick: Cell<u32>,
}

/// The right to use the `Local` of one slot. There is one for each slot.
#[derive(Debug)]
pub(crate) struct Token(usize);

impl Token {
    #[inline]
    pub(crate) fn slot(&self) -> usize {
        self.0
    }
}

/// Numbers that the slot's holder writes and others read.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) spawned: AtomicU64,
    pub(crate) finished: AtomicU64,
    /// Tasks run.
    pub(crate) tasks: AtomicU64,
    /// Tasks run by threads of the slot that did not hold it; they count themselves.
    pub(crate) errands: AtomicU64,
    /// The number of unfinished tasks that waiting for room did not make smaller; until there are more, it is not tried again.
    pub(crate) crowd: AtomicU64,
    pub(crate) activity: Activity,
    /// How long it had nothing to do although tasks were unfinished, by why: [`Idle`].
    pub(crate) idle_ns: [AtomicU64; Idle::COUNT],
}

/// Why a worker has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// No task is ready.
    NoReadyWork,
    /// Devices have launches, or data is on its way there.
    Data,
    /// A launch waits for memory of a device, or what makes buffers for others to give some up.
    Memory,
    /// A task that it may run is kept for another processor.
    Policy,
}

impl Idle {
    pub(crate) const COUNT: usize = 4;
}

/// When a processor has been at work. Written by whoever is it at the time, read by others; changes only when it finds work or finds none.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// When it began for the first time; 0: never.
    first_ns: AtomicU64,
    /// When it ended for the last time; 0: never.
    last_ns: AtomicU64,
    /// When the work that it is in the middle of began; 0: it is idle.
    since_ns: AtomicU64,
    /// All its work before that.
    busy_ns: AtomicU64,
}

/// `Activity` at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ActivityReading {
    /// From when to when there was work, if ever.
    pub(crate) span_ns: Option<(u64, u64)>,
    pub(crate) busy_ns: u64,
}

impl Activity {
    pub(crate) fn begin(&self, now_ns: u64) {
        // 0 means never.
        let now_ns = now_ns.max(1);
        if self.first_ns.load(Relaxed) == 0 {
            self.first_ns.store(now_ns, Relaxed);
        }
        self.since_ns.store(now_ns, Relaxed);
    }

    pub(crate) fn end(&self, now_ns: u64) {
        let since_ns = self.since_ns.swap(0, Relaxed);
        if since_ns != 0 {
            self.last_ns.store(now_ns, Relaxed);
            let _ = add(&self.busy_ns, now_ns.saturating_sub(since_ns));
        }
    }

    pub(crate) fn read(&self, now_ns: u64) -> ActivityReading {
        let (first_ns, since_ns, busy_ns) = (self.first_ns.load(Relaxed), self.since_ns.load(Relaxed), self.busy_ns.load(Relaxed));
        let (last_ns, current_ns) = match since_ns {
            0 => (self.last_ns.load(Relaxed), 0),
            _ => (now_ns, now_ns.saturating_sub(since_ns)),
        };
        ActivityReading { span_ns: (first_ns != 0).then_some((first_ns, last_ns.max(first_ns))), busy_ns: busy_ns + current_ns }
    }
}

/// Adds to a number that only the calling thread writes; the sum.
#[inline]
pub(crate) fn add(counter: &AtomicU64, by: u64) -> u64 {
    let sum = counter.load(Relaxed) + by;
    counter.store(sum, Release);
    sum
}

/// One worker's place.
pub(crate) struct Slot {
    local: CachePadded<UnsafeCell<Local>>,
    pub(crate) counters: CachePadded<Counters>,
    /// Number of threads that want the slot back, and one more while it is dormant; looked at between tasks.
    wanted: CachePadded<AtomicU32>,
    /// Whether the slot takes no more tasks. Changed under the lock.
    dormant: AtomicBool,
    /// Number of threads in `Succession::crowded`.
    crowded: AtomicU32,
    /// So many threads may serve the slot before one that waits keeps it.
    pub(super) threads_max: AtomicUsize,
    /// The newest tasks of normal priority.
    pub(crate) ring: CachePadded<Ring>,
    /// The queues of `Local`, to be stolen from.
    pub(crate) stealers: [Stealer<Entry>; Priority::COUNT],
    /// The jobs of `Local`, to be stolen from.
    pub(crate) jobs: JobsOfOther,
    /// Whom to steal from: groups of slots, nearest first.
    pub(crate) victims: Vec<Vec<usize>>,
    /// The process that the slot's threads stand for; none: they run tasks themselves.
    pub(crate) remote: OnceLock<RemoteProcessor>,
    succession: Mutex<Succession>,
}

// SAFETY: everything but `local` is `Sync`; `local` is reached through the slot's only token (`local()`), and what it holds is `Send`.
unsafe impl Sync for Slot {}

/// Who holds the slot and who comes next.
struct Succession {
    /// The token, when nobody holds it.
    vacant: Option<Token>,
    /// What wakes the thread that holds the token.
    holder: Option<Unparker>,
    /// Threads that come back from waiting inside a task; they go first.
    returning: VecDeque<Arc<Seat>>,
    /// Threads in the middle of a task that has spawned more than is good; they go on when some of it has run.
    crowded: Vec<Arc<Seat>>,
    /// Tasks for threads that do not hold the slot, with numbers.
    errands: VecDeque<(u64, Errand)>,
    next_errand: u64,
    /// Threads that have nothing to do.
    spares: Vec<Arc<Seat>>,
    threads: usize,
    /// Whether the only thread gives back what a dormant slot can do without. It looks for a turn once more afterwards.
    rests: bool,
    closed: bool,
}

/// Where a thread sits until it gets the slot.
pub(crate) struct Seat {
    offer: Mutex<Option<Offer>>,
    unparker: Unparker,
}

/// What a thread is to do next.
pub(crate) enum Turn {
    /// Work with the slot.
    Slot(Token),
    /// Run this, without the slot.
    Errand(Errand),
}

/// What a waiting thread is told.
pub(crate) enum Offer {
    /// The slot is yours.
    Slot(Token),
    /// Run this, without the slot.
    Errand(Errand),
    /// Go home.
    Leave,
}

impl Seat {
    fn for_this_thread() -> Arc<Self> {
        Arc::new(Self { offer: Mutex::new(None), unparker: waiter::unparker() })
    }

    fn give(&self, offer: Offer) {
        *self.offer.lock().unwrap_or_else(PoisonError::into_inner) = Some(offer);
        self.unparker.unpark();
    }

    /// As `wait`, but nothing after about `patience` without an offer.
    fn wait_for(&self, patience: Duration) -> Option<Offer> {
        let take = || self.offer.lock().unwrap_or_else(PoisonError::into_inner).take();
        take().or_else(|| {
            waiter::park_for(patience);
            take()
        })
    }

    fn wait(&self) -> Offer {
        loop {
            if let Some(offer) = self.offer.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return offer;
            }
            waiter::park();
        }
    }
}

/// What a thread does that leaves.
pub(crate) enum Departure {
    /// It leaves: it has been counted out.
    Gone,
    /// The slot takes tasks again: it stays.
    Stay,
    /// It is the last thread of a dormant slot: the processor gives back what it can do without, and then the thread asks again.
    Rest,
}

/// What became of a token that was passed on.
pub(crate) enum Passed {
    /// Another thread has it.
    ToThread,
    /// It lies in the slot, which is dormant, for threads that are in the middle of tasks. Whoever relied on this one's search finds another.
    Dormant,
    /// No thread is there: it lies in the slot, and somebody should start one.
    Vacant,
}

impl Slot {
    pub(crate) fn new(index: usize, victims: Vec<Vec<usize>>) -> Self {
        let deques = [Deque::new_lifo(), Deque::new_lifo(), Deque::new_lifo()];
        let stealers = deques.each_ref().map(Deque::stealer);
        let jobs = Jobs::new();
        let jobs_of_other = jobs.of_other();
        Self {
            local: CachePadded::new(UnsafeCell::new(Local {
                deques,
                jobs,
                // Any odd number: xorshift must not start at 0.
                random: Cell::new((index as u64 + 1).wrapping_add(platform::seed()).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
                tick: Cell::new(0),
            })),
            counters: CachePadded::default(),
            wanted: CachePadded::default(),
            dormant: AtomicBool::new(false),
            crowded: AtomicU32::new(0),
            threads_max: AtomicUsize::new(SLOT_THREADS),
            ring: CachePadded::new(Ring::new()),
            stealers,
            jobs: jobs_of_other,
            victims,
            remote: OnceLock::new(),
            succession: Mutex::new(Succession {
                vacant: Some(Token(index)),
                holder: None,
                returning: VecDeque::new(),
                crowded: Vec::new(),
                errands: VecDeque::new(),
                next_errand: 0,
                spares: Vec::new(),
                threads: 0,
                rests: false,
                closed: false,
            }),
        }
    }

    /// The queues, for whoever holds the slot.
    ///
    /// # Panics
    /// When the token is another slot's.
    #[inline]
    pub(crate) fn local<'a>(&'a self, index: usize, token: &'a Token) -> &'a Local {
        assert_eq!(index, token.0, "a token opens its own slot");
        // SAFETY: the token of this slot exists once and the caller borrows it, so no other thread is here; all access through `&Local` is by `Cell`
        // and by the deque's own methods, so several shared borrows on this thread are sound.
        unsafe { &*self.local.get() }
    }

    fn lock(&self) -> MutexGuard<'_, Succession> {
        self.succession.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a thread wants the slot back, or the slot takes no more tasks.
    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed) > 0
    }

    /// Whether the slot takes no more tasks (README, "Dormant slots").
    pub(crate) fn is_dormant(&self) -> bool {
        self.dormant.load(Relaxed)
    }

    /// Whether there is nothing to be done with the slot's token: it takes no more tasks, and none is left that was claimed ahead of its turn, which only its holder can go on with.
    fn is_done(&self) -> bool {
        self.is_dormant() && !self.remote.get().is_some_and(RemoteProcessor::has_ahead)
    }

    /// Whether a thread waits to return to the slot.
    pub(crate) fn is_returned_to(&self) -> bool {
        self.wanted.load(Relaxed) > u32::from(self.is_dormant())
    }

    /// Takes no more tasks: the thread that holds the slot gives it up when its task is over, and those that have nothing to do go home. False when that is so already.
    pub(crate) fn retire(&self) -> bool {
        let (spares, holder) = {
            let mut succession = self.lock();
            if self.dormant.swap(true, Relaxed) {
                return false;
            }
            self.wanted.fetch_add(1, Relaxed);
            (std::mem::take(&mut succession.spares), succession.holder.clone())
        };
        for seat in spares {
            seat.give(Offer::Leave);
        }
        // Nobody will announce room here.
        if self.is_crowded() {
            self.uncrowd();
        }
        if let Some(holder) = holder {
            holder.unpark();
        }
        true
    }

    /// Takes tasks again. Whether a thread has to be started for that.
    pub(crate) fn revive(&self) -> bool {
        let succession = self.lock();
        if self.dormant.swap(false, Relaxed) {
            self.wanted.fetch_sub(1, Relaxed);
        }
        succession.vacant.is_some() && !succession.rests
    }

    /// Number of threads that serve the slot, waiting ones included.
    pub(crate) fn thread_count(&self) -> usize {
        self.lock().threads
    }

    /// Passes the slot on: to a thread that returns, else to a spare one.
    pub(crate) fn pass(&self, token: Token) -> Passed {
        let mut succession = self.lock();
        let seat = match succession.returning.pop_front() {
            Some(seat) => {
                self.wanted.fetch_sub(1, Relaxed);
                Some(seat)
            }
            None if self.is_done() => {
                succession.holder = None;
                succession.vacant = Some(token);
                return Passed::Dormant;
            }
            None => succession.spares.pop(),
        };
        match seat {
            Some(seat) => {
                succession.holder = Some(seat.unparker.clone());
                drop(succession);
                seat.give(Offer::Slot(token));
                Passed::ToThread
            }
            None => {
                succession.holder = None;
                succession.vacant = Some(token);
                Passed::Vacant
            }
        }
    }

    /// Takes the token that `pass` left in the slot, if it is still there.
    pub(crate) fn take_vacant(&self) -> Option<Token> {
        let mut succession = self.lock();
        let token = succession.vacant.take()?;
        succession.holder = Some(waiter::unparker());
        Some(token)
    }

    /// A thread that spawns too much, and has not passed the slot on yet, is to get it back when there is room, or nothing has been finished for a while.
    pub(crate) fn crowd(&self) -> Arc<Seat> {
        let seat = Seat::for_this_thread();
        let mut succession = self.lock();
        succession.crowded.push(Arc::clone(&seat));
        self.crowded.fetch_add(1, Relaxed);
        seat
    }

    /// Whether threads wait for room.
    #[inline]
    pub(crate) fn is_crowded(&self) -> bool {
        self.crowded.load(Relaxed) > 0
    }

    /// There is room: whoever waits for it gets the slot as soon as its holder is between two tasks, at once if it is vacant.
    pub(crate) fn uncrowd(&self) {
        let mut succession = self.lock();
        let seats = std::mem::take(&mut succession.crowded);
        self.crowded.fetch_sub(seats.len() as u32, Relaxed);
        self.wanted.fetch_add(seats.len() as u32, Relaxed);
        succession.returning.extend(seats);
        let token = succession.vacant.take();
        drop(succession);
        if let Some(token) = token {
            self.pass(token);
        }
    }

    /// Waits for the slot in a seat from `crowd`, until there is room, or `progress` has not changed for a while.
    pub(crate) fn wait_crowded(&self, seat: &Seat, progress: impl Fn() -> u64) -> Token {
        let mut before = progress();
        loop {
            if let Some(offer) = seat.wait_for(CROWD_PATIENCE) {
                return self.token_of(offer);
            }
            let now = progress();
            if now == before {
                // Whatever is left may need something that this thread holds, or does next.
                break;
            }
            before = now;
        }
        {
            let mut succession = self.lock();
            if let Some(place) = succession.crowded.iter().position(|other| std::ptr::eq(&**other, seat)) {
                let seat = succession.crowded.swap_remove(place);
                self.crowded.fetch_sub(1, Relaxed);
                if let Some(token) = succession.vacant.take() {
                    succession.holder = Some(waiter::unparker());
                    return token;
                }
                succession.returning.push_back(seat);
                self.wanted.fetch_add(1, Relaxed);
                if let Some(holder) = &succession.holder {
                    holder.unpark();
                }
            }
        }
        self.token_of(seat.wait())
    }

    fn token_of(&self, offer: Offer) -> Token {
        match offer {
            Offer::Slot(token) => token,
            Offer::Errand(_) | Offer::Leave => unreachable!("only spare threads are sent home, or on errands"),
        }
    }

    /// Waits for the slot: a thread that passed it on and has to go on with its task. Nothing when it is not to be had, and nothing goes on either: `progress` has not changed for a long
    /// while. Whoever has the slot may wait for something that this thread holds.
    pub(crate) fn regain(&self, progress: impl Fn() -> u64) -> Option<Token> {
        if let Some(token) = self.take_vacant() {
            return Some(token);
        }
        let seat = Seat::for_this_thread();
        let holder = {
            let mut succession = self.lock();
            if let Some(token) = succession.vacant.take() {
                succession.holder = Some(waiter::unparker());
                return Some(token);
            }
            succession.returning.push_back(Arc::clone(&seat));
            self.wanted.fetch_add(1, Relaxed);
            succession.holder.clone()
        };
        // It may be asleep; between tasks it would look by itself.
        if let Some(holder) = holder {
            holder.unpark();
        }
        let (mut before, mut since_ns) = (progress(), now_ns());
        loop {
            if let Some(offer) = seat.wait_for(REGAIN_PATIENCE) {
                return Some(self.token_of(offer));
            }
            let now = progress();
            if now != before {
                (before, since_ns) = (now, now_ns());
            } else if now_ns() - since_ns >= REGAIN_PATIENCE.as_nanos() as u64 {
                break;
            }
        }
        let mut succession = self.lock();
        match succession.returning.iter().position(|other| Arc::ptr_eq(other, &seat)) {
            Some(place) => {
                succession.returning.remove(place);
                self.wanted.fetch_sub(1, Relaxed);
                None
            }
            // It has just been given the slot.
            None => {
                drop(succession);
                Some(self.token_of(seat.wait()))
            }
        }
    }

    /// Gives an errand to a spare thread; or keeps it, with the number that is returned, for one that arrives.
    pub(crate) fn leave_errand(&self, errand: Errand) -> Result<Option<u64>, Errand> {
        let mut succession = self.lock();
        if succession.closed {
            return Err(errand);
        }
        if let Some(seat) = succession.spares.pop() {
            drop(succession);
            seat.give(Offer::Errand(errand));
            return Ok(None);
        }
        let number = succession.next_errand;
        succession.next_errand += 1;
        succession.errands.push_back((number, errand));
        Ok(Some(number))
    }

    /// Takes an errand back that nobody has gone on.
    pub(crate) fn take_errand_back(&self, number: u64) -> Option<Errand> {
        let mut succession = self.lock();
        let place = succession.errands.iter().position(|(other, _)| *other == number)?;
        succession.errands.remove(place).map(|(_, errand)| errand)
    }

    /// A thread of this slot arrives: what it is to do, or nothing when it has to leave.
    pub(crate) fn arrive(&self) -> Option<Turn> {
        self.lock().threads += 1;
        self.next_turn()
    }

    /// Waits until the slot is this thread's, or there is an errand; nothing when it has to leave.
    pub(crate) fn next_turn(&self) -> Option<Turn> {
        let seat = {
            let mut succession = self.lock();
            if succession.closed {
                return None;
            }
            if !self.is_done()
                && let Some(token) = succession.vacant.take()
            {
                succession.holder = Some(waiter::unparker());
                return Some(Turn::Slot(token));
            }
            if let Some((_, errand)) = succession.errands.pop_front() {
                return Some(Turn::Errand(errand));
            }
            if self.is_dormant() || succession.spares.len() >= SPARES_MAX {
                return None;
            }
            let seat = Seat::for_this_thread();
            succession.spares.push(Arc::clone(&seat));
            seat
        };
        match seat.wait() {
            Offer::Slot(token) => Some(Turn::Slot(token)),
            Offer::Errand(errand) => Some(Turn::Errand(errand)),
            Offer::Leave => None,
        }
    }

    /// A thread of this slot leaves. The token, if it has it, goes to whoever waits for it: at the end of a runtime that can be a thread in a
    /// destructor of a result, which is no part of a task that the end would wait for.
    pub(crate) fn leave(&self, token: Option<Token>) {
        if let Some(token) = token {
            self.pass(token);
        }
        self.lock().threads -= 1;
    }

    /// A thread that `next_turn` had nothing for leaves, unless there is something to do first. `rested`: it comes from `Departure::Rest`.
    pub(crate) fn depart(&self, rested: bool) -> Departure {
        let mut succession = self.lock();
        if rested {
            succession.rests = false;
        }
        if succession.closed || succession.vacant.is_none() {
            succession.threads -= 1;
            return Departure::Gone;
        }
        if !self.is_dormant() {
            return Departure::Stay;
        }
        if succession.threads == 1 && !rested {
            succession.rests = true;
            return Departure::Rest;
        }
        succession.threads -= 1;
        Departure::Gone
    }

    /// Sends all spare threads home and keeps others from staying.
    pub(crate) fn close(&self) {
        let (spares, holder) = {
            let mut succession = self.lock();
            succession.closed = true;
            (std::mem::take(&mut succession.spares), succession.holder.clone())
        };
        for seat in spares {
            seat.give(Offer::Leave);
        }
        if let Some(holder) = holder {
            holder.unpark();
        }
    }

    /// Whether anything lies in the queues that others may take from.
    pub(crate) fn has_work(&self) -> bool {
        !self.jobs.is_empty() || self.ring.len() > 0 || self.stealers.iter().any(|stealer| !stealer.is_empty())
    }

    /// How many entries lie in its queues, about.
    pub(crate) fn ready_count(&self) -> usize {
        self.ring.len() + self.stealers.iter().map(Stealer::len).sum::<usize>()
    }

    /// Sums for the end of a runtime; `Acquire` pairs with the Release in `add`.
    pub(crate) fn finished(&self) -> u64 {
        self.counters.finished.load(Acquire)
    }

    /// As [`finished`](Self::finished).
    pub(crate) fn spawned(&self) -> u64 {
        self.counters.spawned.load(Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activity_sums_what_is_over_and_what_goes_on() {
        let activity = Activity::default();
        assert_eq!(activity.read(5), ActivityReading::default());
        activity.begin(10);
        assert_eq!(activity.read(15), ActivityReading { span_ns: Some((10, 15)), busy_ns: 5 });
        activity.end(20);
        activity.end(25);
        assert_eq!(activity.read(100), ActivityReading { span_ns: Some((10, 20)), busy_ns: 10 });
        activity.begin(110);
        assert_eq!(activity.read(112), ActivityReading { span_ns: Some((10, 112)), busy_ns: 12 });
    }
}
