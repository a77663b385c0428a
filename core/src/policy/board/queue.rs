//! The queue of a place: tasks in the order of their keys, by the places that they may run at.

use std::collections::BTreeSet;

use super::super::End;

/// A waiting task in its queue: the domain that it may run in, its key, its number, its slot. Domains come first, so that a place finds the best task that
/// it may run by looking at one end of each domain, however many others wait.
pub(super) type Entry = (u32, [i64; 3], u64, u32);

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) entries: BTreeSet<Entry>,
    /// How many of each domain.
    pub(super) counts: Vec<u32>,
    /// What the tasks cost at the queue's place together; nothing for the shared queue.
    pub(super) cost_ns: u128,
}

impl Queue {
    /// The entries of a domain.
    pub(super) fn of(&self, domain: u32) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.range((domain, [i64::MIN; 3], 0, 0)..=(domain, [i64::MAX; 3], u64::MAX, u32::MAX))
    }

    pub(super) fn at_end(&self, domain: u32, end: End) -> Option<&Entry> {
        let outer = if end.last_level { self.of(domain).next_back() } else { self.of(domain).next() }?;
        if end.last_level == end.last_within {
            return Some(outer);
        }
        let level = outer.1[0];
        let mut of_level =
            self.entries.range((domain, [level, i64::MIN, i64::MIN], 0, 0)..=(domain, [level, i64::MAX, i64::MAX], u64::MAX, u32::MAX));
        if end.last_within { of_level.next_back() } else { of_level.next() }
    }
}
