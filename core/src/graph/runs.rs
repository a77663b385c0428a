//! The runs that are in flight on a runtime, by number, and those that nobody has begun with.
#![expect(unsafe_code, reason = "references to runs behind the numbers that lie in queues")]

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};
use std::sync::atomic::{AtomicPtr, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::state::RunState;
use crate::options::Priority;
use crate::worker::entry::Entry;

/// Runs in the first segment; each further one has as many as all before it together.
const FIRST: usize = 32;
/// Segments for as many runs as numbers in an entry have room for.
const SEGMENTS: usize = 26;

type Segment = Box<[AtomicPtr<RunState>]>;

/// The runs of one runtime.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    segments: [OnceLock<Segment>; SEGMENTS],
    numbers: Mutex<Numbers>,
    /// Entries for the roots of runs that were begun by threads that are no workers, one queue for each priority; and their lengths.
    fresh: Mutex<[VecDeque<Entry>; Priority::COUNT]>,
    fresh_counts: [AtomicUsize; Priority::COUNT],
}

#[derive(Debug, Default)]
struct Numbers {
    free: Vec<u32>,
    /// Numbers that have been used, free ones included.
    used: u32,
}

/// The segment and the place in it of a number.
fn place(number: u32) -> (usize, usize) {
    let shifted = number as usize + FIRST;
    let segment = (shifted / FIRST).ilog2() as usize;
    (segment, shifted - (FIRST << segment))
}

impl Runs {
    fn slot(&self, number: u32) -> &AtomicPtr<RunState> {
        let (segment, place) = place(number);
        let new = || (0..FIRST << segment).map(|_| AtomicPtr::default()).collect();
        &self.segments[segment].get_or_init(new)[place]
    }

    /// Takes a run up and gives its number.
    ///
    /// # Panics
    /// When a thousand million runs are in flight.
    pub(super) fn insert(&self, run: Arc<RunState>) -> u32 {
        let mut numbers = self.numbers();
        let number = numbers.free.pop().unwrap_or_else(|| {
            let number = numbers.used;
            assert!(number < 1 << 30, "a thousand million runs are in flight");
            numbers.used += 1;
            // So that `remove` need not allocate.
            let used = numbers.used as usize;
            numbers.free.reserve(used);
            number
        });
        run.set_number(number);
        // Release: pairs with the Acquire in `get`. Under the lock: `visit` sees it, or whoever inserts it sees what `visit` was called for.
        self.slot(number).store(Arc::into_raw(run).cast_mut(), Release);
        number
    }

    /// The run with a number.
    ///
    /// # Safety
    /// A run was inserted with this number, and is not removed during `'a`.
    #[inline]
    pub(super) unsafe fn get<'a>(&self, number: u32) -> &'a RunState {
        // SAFETY: `insert` put it there, and `remove` has not taken it away (precondition).
        unsafe { &*self.slot(number).load(Acquire) }
    }

    /// Forgets a run.
    ///
    /// # Safety
    /// A run was inserted with this number, and this is the only call to remove it.
    pub(super) unsafe fn remove(&self, number: u32) -> Arc<RunState> {
        let mut numbers = self.numbers();
        let run = self.slot(number).swap(std::ptr::null_mut(), Acquire);
        // SAFETY: `insert` put it there by `Arc::into_raw`, and it is turned back once (precondition).
        let run = unsafe { Arc::from_raw(run) };
        numbers.free.push(number);
        run
    }

    /// Lets `look` see all runs that are in flight; none is forgotten meanwhile.
    pub(crate) fn visit(&self, look: impl Fn(&RunState)) {
        let numbers = self.numbers();
        for number in 0..numbers.used {
            // SAFETY: null, or `insert` put it there; `remove` takes it away under the lock.
            if let Some(run) = unsafe { self.slot(number).load(Acquire).as_ref() } {
                look(run);
            }
        }
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        // Single operations on the lists; none of them panics half-way.
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in the entry of a run that no worker knows of.
    pub(crate) fn push_fresh(&self, level: usize, entry: Entry) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh[level].push_back(entry);
        self.fresh_counts[level].store(fresh[level].len(), SeqCst);
    }

    /// Takes the oldest entry of a level.
    pub(crate) fn pop_fresh(&self, level: usize) -> Option<Entry> {
        if !self.has_fresh(level) {
            return None;
        }
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = fresh[level].pop_front();
        self.fresh_counts[level].store(fresh[level].len(), SeqCst);
        entry
    }

    /// Whether there are entries of a level.
    #[inline]
    pub(crate) fn has_fresh(&self, level: usize) -> bool {
        self.fresh_counts[level].load(SeqCst) > 0
    }

    /// Whether there are any.
    pub(crate) fn has_any_fresh(&self) -> bool {
        (0..Priority::COUNT).any(|level| self.has_fresh(level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_place_of_its_own() {
        let mut expected = (0..4).flat_map(|segment| (0..FIRST << segment).map(move |place| (segment, place)));
        for number in 0..(FIRST as u32 * 15) {
            assert_eq!(Some(place(number)), expected.next(), "number {number}");
        }
        let (segment, _) = place((1 << 30) - 1);
        assert!(segment < SEGMENTS, "{segment}");
    }
}
