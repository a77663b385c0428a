//! Which commands have to wait for which: barriers only where they are needed.
//!
//! The tracker keeps what was read and written since the last barrier. A command that would touch what was written, or write what was read, gets a barrier before it.
//! A barrier is one for all memory, so it clears everything.

use std::collections::BTreeMap;
use std::ops::Range;

/// What a command does to a part of some memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// The memory, by its number.
    pub(crate) memory: u64,
    /// Which bytes of it.
    pub(crate) range: Range<u64>,
    pub(crate) writes: bool,
    /// Whether the host may read it when the batch has ended.
    pub(crate) is_host_visible: bool,
}

impl Access {
    /// Whether the order of the two matters.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        (self.writes || other.writes)
            && self.memory == other.memory
            && self.range.start < other.range.end
            && other.range.start < self.range.end
    }
}

/// What was used since the last barrier.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    used: BTreeMap<u64, Vec<Access>>,
    /// How many accesses `used` has.
    count: usize,
    /// Whether something that the host may read was written and not made visible to it.
    owes_host: bool,
}

impl Tracker {
    /// Notes a command; true when a barrier has to stand before it.
    pub(crate) fn note(&mut self, accesses: &[Access]) -> bool {
        let is_needed = accesses.iter().any(|new| self.used.get(&new.memory).is_some_and(|old| old.iter().any(|old| old.conflicts(new))));
        if is_needed {
            self.clear();
        }
        for access in accesses {
            self.owes_host |= access.writes && access.is_host_visible;
            let used = self.used.entry(access.memory).or_default();
            if !used.contains(access) {
                used.push(access.clone());
                self.count += 1;
            }
        }
        is_needed
    }

    /// A barrier was put in.
    pub(crate) fn clear(&mut self) {
        self.used.clear();
        self.count = 0;
    }

    /// How many accesses it keeps.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether a barrier for the host has to end the batch; it is taken to be put in.
    pub(crate) fn end_batch(&mut self) -> bool {
        std::mem::take(&mut self.owes_host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(memory: u64, range: Range<u64>, writes: bool) -> Access {
        Access { memory, range, writes, is_host_visible: false }
    }

    #[test]
    fn a_barrier_stands_where_order_matters_and_nowhere_else() {
        let mut tracker = Tracker::default();
        assert!(!tracker.note(&[access(1, 0..8, false), access(2, 0..8, true)]));
        assert!(!tracker.note(&[access(1, 0..8, false), access(3, 0..8, true)]), "two may read");
        assert!(!tracker.note(&[access(2, 8..16, true)]), "another part");
        assert!(tracker.note(&[access(2, 7..9, false)]), "written, then read");
        assert!(!tracker.note(&[access(3, 0..8, false)]), "the barrier was for all memory");
        assert!(tracker.note(&[access(3, 4..5, true)]), "read, then written");
        assert!(tracker.note(&[access(3, 4..5, true)]), "written twice");
    }

    #[test]
    fn the_host_is_owed_what_was_written_where_it_sees_it() {
        let mut tracker = Tracker::default();
        tracker.note(&[access(1, 0..8, true), Access { is_host_visible: true, ..access(2, 0..8, false) }]);
        assert!(!tracker.end_batch());
        tracker.note(&[Access { is_host_visible: true, ..access(1, 0..8, true) }]);
        assert!(tracker.end_batch());
        assert!(!tracker.end_batch());
    }
}
