//! What lies where in the memory that the host and one worker process have both mapped.

use std::ops::Deref;

use crate::sync::atomic::{AtomicU32, AtomicU64};
use crate::sync::{Futex, Word};

/// How many words a ring has: 64 KiB. Under loom, so few that a test fills it.
pub(crate) const RING_WORDS: usize = if cfg!(all(test, loom)) { 2 } else { 8192 };
/// How many calls may be on their way at the same time: one that is executed and those that were sent ahead, with some more that came back and were not passed over yet.
pub(crate) const TICKETS: usize = if cfg!(all(test, loom)) { 2 } else { 32 };

/// A value that shares its cache line with no other.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub(crate) struct Padded<T>(T);

impl<T> Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A ring of words with one producer and one consumer.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(all(test, loom), derive(Default))]
pub(crate) struct RingMemory {
    /// How many words were ever written; the producer's.
    pub(crate) head: Padded<AtomicU64>,
    /// How many words were ever read; the consumer's.
    pub(crate) tail: Padded<AtomicU64>,
    /// Word `n` lies at `n % RING_WORDS`.
    pub(crate) words: [Word; RING_WORDS],
}

/// What lies where. Zero is the state in which it begins.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(all(test, loom), derive(Default))]
pub(crate) struct Layout {
    /// From the host to the worker process.
    pub(crate) to_worker: RingMemory,
    /// From the worker process to the host.
    pub(crate) to_host: RingMemory,
    /// What the host's thread sleeps on.
    pub(crate) host_bell: Padded<Futex>,
    /// What the worker process sleeps on.
    pub(crate) worker_bell: Padded<Futex>,
    /// The number of the call that is to stop; 0: none. The host's.
    pub(crate) stopping: Padded<AtomicU64>,
    /// Whether call `n` may begin, has begun, or has come back, at `n % TICKETS` (`line.rs`).
    pub(crate) tickets: [Padded<AtomicU64>; TICKETS],
    /// Not 0: there are no more calls, the worker process is to exit. The host's.
    pub(crate) closed: Padded<AtomicU32>,
}
