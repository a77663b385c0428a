//! The stand-ins under `--cfg loom`: loom's own atomics, a futex that is made of them, and words that only one side may reach at a time.
#![expect(unsafe_code, reason = "a cell that threads share, whose accesses are what is checked")]

use std::sync::PoisonError;
use std::sync::atomic::Ordering::{self, Relaxed};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};

pub(crate) use loom::sync::atomic;

/// No time goes by: a test would take another way each time.
pub(crate) fn time_since(_: Instant) -> Duration {
    Duration::ZERO
}

/// A word of a ring: as an atomic, but that loom panics where nothing orders a store and another access. That is more than to let old values be read: a word
/// that is read while it is written again is found, too.
#[derive(Debug, Default)]
pub(crate) struct Word {
    access: UnsafeCell<()>,
    // Not loom's: the cell is asked first.
    value: AtomicU64,
}

// SAFETY: the cell holds nothing; loom checks each access to it against all others.
unsafe impl Sync for Word {}

impl Word {
    #[track_caller]
    pub(crate) fn load(&self, order: Ordering) -> u64 {
        self.access.with(|_| ());
        self.value.load(order)
    }

    #[track_caller]
    pub(crate) fn store(&self, value: u64, order: Ordering) {
        self.access.with_mut(|_| ());
        self.value.store(value, order);
    }
}

/// A word on which another thread may sleep. The kernel looks at the word and queues the sleeper under a lock that whoever wakes takes, too: so does this one.
///
/// No sleep has a limit, so a wake-up that is lost is a test that does not go on, which loom finds; but for those of which [`hurry`](Self::hurry) says so.
#[derive(Debug, Default)]
pub(crate) struct Futex {
    word: atomic::AtomicU32,
    queue: Mutex<()>,
    woken: Condvar,
    // Not loom's: they say what the test does, and are not what is tested.
    hurried: AtomicUsize,
    wakes: AtomicUsize,
}

impl Futex {
    #[track_caller]
    pub(crate) fn load(&self, order: Ordering) -> u32 {
        self.word.load(order)
    }

    /// An exchange: a store that comes between an exchange and what that has read is wrong, and loom would not know.
    #[track_caller]
    pub(crate) fn store(&self, value: u32, order: Ordering) {
        self.word.swap(value, order);
    }

    #[track_caller]
    pub(crate) fn swap(&self, value: u32, order: Ordering) -> u32 {
        self.word.swap(value, order)
    }

    pub(crate) fn wait(&self, value: u32, _: Duration) -> bool {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let is_hurried = |left: usize| left.checked_sub(1);
        if self.word.load(Relaxed) != value || self.hurried.try_update(Relaxed, Relaxed, is_hurried).is_ok() {
            return false;
        }
        drop(self.woken.wait(queue));
        true
    }

    pub(crate) fn wake(&self) {
        self.wakes.fetch_add(1, Relaxed);
        let _queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.woken.notify_one();
    }

    /// The next so many sleeps are over at once, as after their limit.
    pub(crate) fn hurry(&self, count: usize) {
        self.hurried.store(count, Relaxed);
    }

    /// How often it was woken.
    pub(crate) fn wakes(&self) -> usize {
        self.wakes.load(Relaxed)
    }
}
