//! The newest tasks of a worker, out of sight of thieves unless they insist.
//!
//! A push to a deque that others may steal from costs little, but a pop from it costs a full memory barrier, half of what an empty task costs in all. So a
//! worker keeps its newest tasks here, where its own pushes and pops are plain loads and stores. What makes that safe is a lock that is biased towards the worker
//! (README, "The ring"): it takes the lock with a store and a look at a flag, a thief with a barrier that the kernel runs on all threads. A thief does that only when
//! the worker has not shown its tasks by itself for a while, since it is in the middle of a long body.
#![expect(unsafe_code, reason = "entries that their owner reaches without an atomic exchange")]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use super::entry::Entry;
use super::fence;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicU32};
use crate::sync::{Watched, yield_now};

/// Entries that a ring holds; a power of two. Under loom, so few that a test fills it.
pub(crate) const CAPACITY: usize = if cfg!(loom) { 2 } else { 64 };

/// The newest entries of one worker. All methods of the owner are for the holder of the slot's token.
pub(crate) struct Ring {
    /// The owner is at it.
    busy: AtomicBool,
    /// A thief is at it, or wants to be.
    seized: AtomicBool,
    /// Numbers of the oldest entry and of the one after the newest; they only grow, and wrap. Written under the lock; read by anybody as a hint.
    oldest: AtomicU32,
    end: AtomicU32,
    entries: UnsafeCell<[MaybeUninit<Entry>; CAPACITY]>,
    /// What only one thread reaches at a time.
    watched: Watched,
}

// SAFETY: `entries` is reached only under the biased lock, by one thread at a time, and entries are `Send`.
unsafe impl Sync for Ring {}

/// The lock is taken; dropping it gives it back.
struct Owned<'a>(&'a Ring);

impl Drop for Owned<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `seize`.
        self.0.busy.store(false, Release);
    }
}

impl Ring {
    pub(crate) fn new() -> Self {
        Self {
            busy: AtomicBool::new(false),
            seized: AtomicBool::new(false),
            oldest: AtomicU32::new(0),
            end: AtomicU32::new(0),
            entries: UnsafeCell::new([const { MaybeUninit::uninit() }; CAPACITY]),
            watched: Watched::new(),
        }
    }

    /// How many entries there are; a hint to all but the owner.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end.load(Relaxed).wrapping_sub(self.oldest.load(Relaxed)) as usize
    }

    /// The owner's way into the lock.
    #[inline]
    fn own(&self) -> Owned<'_> {
        loop {
            self.busy.store(true, Relaxed);
            // Pairs with `heavy` in `seize`: either this thread sees `seized`, or the thief sees `busy`.
            fence::light();
            // Acquire: pairs with the Release at the end of `seize`.
            if !self.seized.load(Acquire) {
                return Owned(self);
            }
            self.wait_for_thief();
        }
    }

    #[cold]
    fn wait_for_thief(&self) {
        self.busy.store(false, Release);
        while self.seized.load(Relaxed) {
            yield_now();
        }
    }

    /// The place of the entry with a number.
    #[inline]
    fn place(&self, number: u32) -> *mut MaybeUninit<Entry> {
        self.watched.change();
        // SAFETY: the index is less than the capacity, so the place is inside the array.
        unsafe { self.entries.get().cast::<MaybeUninit<Entry>>().add(number as usize % CAPACITY) }
    }

    /// Puts in a newest entry; gives it back when there is no room.
    #[inline]
    pub(crate) fn push(&self, entry: Entry) -> Result<(), Entry> {
        let _owned = self.own();
        let end = self.end.load(Relaxed);
        if end.wrapping_sub(self.oldest.load(Relaxed)) as usize == CAPACITY {
            return Err(entry);
        }
        // SAFETY: under the lock, and the place is empty: it is not between `oldest` and `end`.
        unsafe { self.place(end).write(MaybeUninit::new(entry)) };
        self.end.store(end.wrapping_add(1), Relaxed);
        Ok(())
    }

    /// Takes the newest entry.
    #[inline]
    pub(crate) fn pop(&self) -> Option<Entry> {
        self.pop_if(|_| true)
    }

    /// Takes the newest entry if it is the one that is `wanted`.
    #[inline]
    pub(crate) fn pop_if(&self, wanted: impl FnOnce(&Entry) -> bool) -> Option<Entry> {
        // Only thieves make it emptier, so looking before taking the lock misses nothing.
        if self.len() == 0 {
            return None;
        }
        let _owned = self.own();
        let end = self.end.load(Relaxed);
        if end == self.oldest.load(Relaxed) {
            return None;
        }
        let last = end.wrapping_sub(1);
        let place = self.place(last).cast::<Entry>();
        // SAFETY: under the lock, and the place is filled: it is between `oldest` and `end`.
        if !wanted(unsafe { &*place }) {
            return None;
        }
        self.end.store(last, Relaxed);
        // SAFETY: as above, and it no longer is.
        Some(unsafe { place.read() })
    }

    /// Takes out the newest entry that is `wanted`, wherever it lies; the newer ones move up.
    pub(crate) fn remove(&self, wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let _owned = self.own();
        let (oldest, end) = (self.oldest.load(Relaxed), self.end.load(Relaxed));
        let count = end.wrapping_sub(oldest);
        for back in 1..=count {
            let place = self.place(end.wrapping_sub(back)).cast::<Entry>();
            // SAFETY: under the lock, and the place is filled: it is between `oldest` and `end`.
            if !wanted(unsafe { &*place }) {
                continue;
            }
            // SAFETY: as above; what is read is overwritten, or left outside, below.
            let found = unsafe { place.read() };
            for newer in (1..back).rev() {
                let number = end.wrapping_sub(newer);
                // SAFETY: both places lie between `oldest` and `end`; each entry is copied to the place whose own has been copied or taken before.
                unsafe { self.place(number.wrapping_sub(1)).copy_from(self.place(number), 1) };
            }
            self.end.store(end.wrapping_sub(1), Relaxed);
            return Some(found);
        }
        None
    }

    /// The owner gives all but the `keep` newest entries to `take`, oldest first.
    pub(crate) fn show(&self, keep: usize, take: impl FnMut(Entry)) {
        let _owned = self.own();
        self.drain(self.len().saturating_sub(keep), take);
    }

    /// A thief gives the older half of the entries to `take`, oldest first; false when another thief is at it, or there are none.
    pub(crate) fn seize(&self, take: impl FnMut(Entry)) -> bool {
        // Acquire: pairs with the Release below, of the thief before.
        if self.len() == 0 || self.seized.compare_exchange(false, true, Acquire, Relaxed).is_err() {
            return false;
        }
        // Pairs with `light` in `own`.
        fence::heavy();
        // Acquire: pairs with the Release in `Owned::drop`. The owner is at it for a few instructions, unless its thread is interrupted.
        while self.busy.load(Acquire) {
            yield_now();
        }
        let count = self.len().div_ceil(2);
        self.drain(count, take);
        // Release: pairs with the Acquire in `own` and above.
        self.seized.store(false, Release);
        count > 0
    }

    /// Takes the `count` oldest entries out; under the lock.
    fn drain(&self, count: usize, mut take: impl FnMut(Entry)) {
        for _ in 0..count {
            let oldest = self.oldest.load(Relaxed);
            self.oldest.store(oldest.wrapping_add(1), Relaxed);
            // SAFETY: under the lock, and the place was filled: it was between `oldest` and `end`, and no longer is.
            take(unsafe { self.place(oldest).cast::<Entry>().read() });
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.drain(self.len(), drop);
    }
}
