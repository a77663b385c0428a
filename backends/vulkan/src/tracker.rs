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

/// Parts of memory: those that meet or overlap are one.
#[derive(Debug, Default)]
struct Spans {
    /// Where they end, by the memory's number and where they begin. None overlaps another, so the later one also ends later.
    ends: BTreeMap<(u64, u64), u64>,
}

impl Spans {
    /// The last one that begins before `end`.
    fn last_before(&self, memory: u64, end: u64) -> Option<(u64, u64)> {
        self.ends.range((memory, 0)..(memory, end)).next_back().map(|((_, start), end)| (*start, *end))
    }

    fn overlap(&self, memory: u64, range: &Range<u64>) -> bool {
        self.last_before(memory, range.end).is_some_and(|(_, end)| end > range.start)
    }

    fn add(&mut self, memory: u64, range: &Range<u64>) {
        let Range { mut start, mut end } = *range;
        if start >= end {
            return;
        }
        while let Some((known_start, known_end)) = self.last_before(memory, end.saturating_add(1)).filter(|(_, known)| *known >= start) {
            self.ends.remove(&(memory, known_start));
            (start, end) = (start.min(known_start), end.max(known_end));
        }
        self.ends.insert((memory, start), end);
    }
}

/// What was used since the last barrier.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    /// What was read or written.
    used: Spans,
    /// What was written.
    written: Spans,
    /// Whether something that the host may read was written and not made visible to it.
    owes_host: bool,
}

impl Tracker {
    /// Notes a command; true when a barrier has to stand before it.
    pub(crate) fn note(&mut self, accesses: &[Access]) -> bool {
        let is_needed = accesses.iter().any(|new| {
            let before = if new.writes { &self.used } else { &self.written };
            before.overlap(new.memory, &new.range)
        });
        if is_needed {
            self.clear();
        }
        for access in accesses {
            self.owes_host |= access.writes && access.is_host_visible;
            self.used.add(access.memory, &access.range);
            if access.writes {
                self.written.add(access.memory, &access.range);
            }
        }
        is_needed
    }

    /// A barrier was put in.
    pub(crate) fn clear(&mut self) {
        self.used.ends.clear();
        self.written.ends.clear();
    }

    /// How many parts of memory it keeps.
    pub(crate) fn count(&self) -> usize {
        self.used.ends.len() + self.written.ends.len()
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
    fn parts_that_meet_are_one() {
        let mut tracker = Tracker::default();
        // The even ones, then those between.
        for start in (0..100).step_by(2).chain((1..100).step_by(2)) {
            assert!(!tracker.note(&[access(1, start * 8..start * 8 + 8, true), access(2, 0..8, false)]));
        }
        assert!(!tracker.note(&[access(1, 800..808, true), access(1, 900..900, true)]), "behind them, and nothing");
        assert_eq!(tracker.count(), 3);
        assert!(!tracker.note(&[access(3, 0..800, true)]), "other memory");
        assert!(tracker.note(&[access(1, 300..301, false)]));
    }

    #[test]
    fn as_if_each_access_were_compared_with_all_before() {
        let mut tracker = Tracker::default();
        let mut before: Vec<Access> = Vec::new();
        let mut random = 1u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut barriers = 0;
        for _ in 0..10_000 {
            let start = next(200);
            let new = access(next(2), start..start + 1 + next(6), next(4) == 0);
            let is_needed = before.iter().any(|old| old.conflicts(&new));
            if is_needed {
                before.clear();
                barriers += 1;
            }
            assert_eq!(tracker.note(std::slice::from_ref(&new)), is_needed, "{new:?} after {before:?}");
            before.push(new);
        }
        assert!((500..9_000).contains(&barriers), "{barriers}");
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
