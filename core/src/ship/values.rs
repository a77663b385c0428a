//! Values that several tasks use, on both sides: the numbers that the host gives them, and those that a worker process keeps.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::task::record::dropped_quietly;
use crate::wire::{Identity, Kept, Sent};

/// What a worker process keeps at most: bytes, as they were sent, and values.
const KEPT_MAX_BYTES: u64 = 64 << 20;
const KEPT_MAX: usize = 1024;
/// Values in `Arc`s that have numbers at the same time.
const ARCS_MAX: usize = 1024;

/// The number of a value, if it has one.
pub(super) fn number_of(identity: &Identity<'_>) -> Option<u64> {
    match identity {
        Identity::Result(header) => header.value_number(),
        Identity::Arc(value) => arcs().numbers.get(&address(value)).map(|(number, _)| *number),
    }
}

/// Gives a number to a value that has none; nothing when there are too many.
pub(super) fn give_number(identity: &Identity<'_>) -> Option<u64> {
    /// Odd, so that a record can tell one from an address.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Relaxed: they only have to be different.
    let next = || NEXT.fetch_add(2, Relaxed);
    match identity {
        Identity::Result(header) => Some(header.give_value_number(next())),
        Identity::Arc(value) => arcs().give_number(value, next()),
    }
}

/// The numbers of values in `Arc`s, by address. Each entry has a weak reference, as long as which is there the address is not another value's, nor can the value
/// be replaced: `Arc::get_mut` gives nothing then.
#[derive(Debug)]
struct Arcs {
    numbers: BTreeMap<usize, (u64, Weak<dyn std::any::Any + Send + Sync>)>,
    /// When there are so many, those whose values are gone are dropped.
    sweep_at: usize,
}

fn arcs() -> std::sync::MutexGuard<'static, Arcs> {
    static ARCS: Mutex<Arcs> = Mutex::new(Arcs { numbers: BTreeMap::new(), sweep_at: 16 });
    // Single operations on a collection.
    ARCS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn address(value: &Kept) -> usize {
    Arc::as_ptr(value).addr()
}

impl Arcs {
    fn give_number(&mut self, value: &Kept, next: u64) -> Option<u64> {
        if let Some((number, _)) = self.numbers.get(&address(value)) {
            return Some(*number);
        }
        if self.numbers.len() >= self.sweep_at {
            self.numbers.retain(|_, (_, value)| value.strong_count() > 0);
            self.sweep_at = (self.numbers.len() * 2).clamp(16, ARCS_MAX);
        }
        if self.numbers.len() >= ARCS_MAX {
            return None;
        }
        self.numbers.insert(address(value), (next, Arc::downgrade(value)));
        Some(next)
    }
}

/// How much was sent to the process of a processor, for reports.
#[derive(Debug, Default)]
pub(crate) struct SentCount {
    values: AtomicU64,
    bytes: AtomicU64,
}

impl SentCount {
    pub(super) fn add(&self, sent: Sent) {
        if sent.values > 0 {
            // Relaxed: for reports.
            self.values.fetch_add(sent.values, Relaxed);
            self.bytes.fetch_add(sent.bytes, Relaxed);
        }
    }

    pub(crate) fn get(&self) -> Sent {
        Sent { values: self.values.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }
}

/// What this process keeps of what its host has sent.
static CACHE: Mutex<Cache> = Mutex::new(Cache::new());

struct Cache {
    values: BTreeMap<u64, Entry>,
    len_bytes: u64,
    /// Counts looks.
    time: u64,
}

struct Entry {
    value: Kept,
    len_bytes: u64,
    /// When it was looked at last.
    used: u64,
}

/// The value that the host knows by a number, if it is kept here.
pub(super) fn find(number: u64) -> Option<Kept> {
    CACHE.lock().unwrap_or_else(PoisonError::into_inner).find(number)
}

/// Keeps a value, and drops those that nobody has used for longest where there are too many.
pub(super) fn keep(number: u64, value: Kept, len_bytes: u64) {
    let dropped = CACHE.lock().unwrap_or_else(PoisonError::into_inner).keep(number, value, len_bytes);
    // Without the lock: what a user's destructor does is unknown.
    dropped_quietly(dropped);
}

impl Cache {
    const fn new() -> Self {
        Self { values: BTreeMap::new(), len_bytes: 0, time: 0 }
    }

    fn find(&mut self, number: u64) -> Option<Kept> {
        self.time += 1;
        let entry = self.values.get_mut(&number)?;
        entry.used = self.time;
        Some(Arc::clone(&entry.value))
    }

    /// Gives those that have to go.
    fn keep(&mut self, number: u64, value: Kept, len_bytes: u64) -> Vec<Kept> {
        self.time += 1;
        let mut dropped: Vec<_> = self.remove(number).into_iter().collect();
        self.values.insert(number, Entry { value, len_bytes, used: self.time });
        self.len_bytes += len_bytes;
        while self.len_bytes > KEPT_MAX_BYTES || self.values.len() > KEPT_MAX {
            let oldest = self.values.iter().min_by_key(|(_, entry)| entry.used).map(|(number, _)| *number);
            dropped.extend(oldest.and_then(|number| self.remove(number)));
        }
        dropped
    }

    fn remove(&mut self, number: u64) -> Option<Kept> {
        let entry = self.values.remove(&number)?;
        self.len_bytes -= entry.len_bytes;
        Some(entry.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_that_were_used_last_are_kept() {
        let mut cache = Cache::new();
        for number in 0..KEPT_MAX as u64 {
            assert!(cache.keep(number, Arc::new(number), 1000).is_empty());
        }
        assert!(cache.find(0).is_some());
        assert_eq!(cache.keep(9999, Arc::new(()), 1000).len(), 1, "one too many");
        assert!(cache.find(1).is_none() && cache.find(0).is_some() && cache.find(9999).is_some());
        let dropped = cache.keep(10_000, Arc::new(()), KEPT_MAX_BYTES - 2000);
        assert_eq!(dropped.len(), KEPT_MAX - 2, "all but two");
        assert!(cache.find(0).is_some() && cache.find(9999).is_some());
        assert_eq!(cache.keep(10_000, Arc::new(()), 7).len(), 1, "what was there under the number");
        assert_eq!(cache.len_bytes, 2007);
        // Too much by itself is kept for whoever has just brought it, and for nobody else.
        assert_eq!(cache.keep(10_001, Arc::new(()), KEPT_MAX_BYTES + 1).len(), 4);
        assert_eq!((cache.len_bytes, cache.values.len()), (0, 0));
    }

    #[test]
    fn a_number_of_an_arc_is_never_another_ones() {
        let number = |value: &Arc<u64>| {
            let value: Kept = Arc::clone(value) as Kept;
            give_number(&Identity::Arc(value)).expect("there is room")
        };
        let value = Arc::new(7u64);
        let first = number(&value);
        assert_eq!(number(&value), first);
        let copy: Kept = Arc::clone(&value) as Kept;
        assert_eq!(number_of(&Identity::Arc(copy)), Some(first));
        let mut numbers = vec![first];
        drop(value);
        // Whoever takes memory that has become free takes it here.
        for round in 0..5000u64 {
            let mut value = Arc::new(round);
            numbers.push(number(&value));
            assert!(Arc::get_mut(&mut value).is_none(), "it does not become another value under its number");
        }
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
        assert!(arcs().numbers.len() <= ARCS_MAX);
    }
}
