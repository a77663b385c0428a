//! What is still free on a processor.

/// How many gaps lie in one block at most.
const BLOCK: usize = 64;

/// The gaps between the tasks of a processor, and the time behind the last one.
///
/// Gaps lie in blocks, in order; for each block there is the end of its last gap and the length of its longest, so a search looks at a few blocks' sums and into two
/// blocks. Gaps shorter than any task are forgotten.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    blocks: Vec<Vec<Gap>>,
    ends: Vec<u64>,
    longest: Vec<u64>,
    last_end_ns: u64,
    /// The shortest task that may come.
    least_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    start_ns: u64,
    end_ns: u64,
}

impl Gap {
    fn length_ns(self) -> u64 {
        self.end_ns - self.start_ns
    }
}

impl Timeline {
    /// Nothing placed; no task will be shorter than `least_ns`.
    pub(super) fn new(least_ns: u64) -> Self {
        Self { blocks: Vec::new(), ends: Vec::new(), longest: Vec::new(), last_end_ns: 0, least_ns }
    }

    /// Nothing is placed any more.
    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.ends.clear();
        self.longest.clear();
        self.last_end_ns = 0;
    }

    /// When the last task is over.
    pub(super) fn last_end_ns(&self) -> u64 {
        self.last_end_ns
    }

    /// The earliest time from `ready_ns` on at which so long a task fits.
    pub(super) fn earliest_ns(&self, ready_ns: u64, length_ns: u64) -> u64 {
        let behind = ready_ns.max(self.last_end_ns);
        if ready_ns >= self.last_end_ns {
            return behind;
        }
        let first = self.ends.partition_point(|end| *end < ready_ns);
        for block in first..self.blocks.len() {
            if self.longest[block] < length_ns {
                continue;
            }
            for gap in &self.blocks[block] {
                let start = gap.start_ns.max(ready_ns);
                if gap.end_ns.checked_sub(start).is_some_and(|left| left >= length_ns) {
                    return start;
                }
            }
        }
        behind
    }

    /// Places a task at a time that [`earliest_ns`](Self::earliest_ns) gave.
    pub(super) fn place(&mut self, start_ns: u64, length_ns: u64) {
        if start_ns >= self.last_end_ns {
            let gap = Gap { start_ns: self.last_end_ns, end_ns: start_ns };
            self.last_end_ns = start_ns + length_ns;
            // Where tasks may take no time, even a gap without length is one.
            if gap.length_ns() >= self.least_ns {
                self.push(gap);
            }
            return;
        }
        let holds = |gap: &Gap| gap.start_ns <= start_ns && gap.end_ns >= start_ns + length_ns;
        let first = self.ends.partition_point(|end| *end < start_ns);
        let found = (first..self.blocks.len()).find_map(|block| Some((block, self.blocks[block].iter().position(holds)?)));
        let Some((block, position)) = found else { unreachable!("a task is placed where it fits") };
        let gap = self.blocks[block][position];
        let parts = [Gap { end_ns: start_ns, ..gap }, Gap { start_ns: start_ns + length_ns, ..gap }];
        // A task without length leaves a gap as it is if it lies at one end.
        let is_kept = |part: &Gap| part.length_ns() >= self.least_ns && (length_ns > 0 || part.length_ns() > 0 || gap.length_ns() == 0);
        let mut kept: Vec<Gap> = parts.into_iter().filter(is_kept).collect();
        kept.dedup();
        self.blocks[block].splice(position..=position, kept);
        self.sum(block);
    }

    fn push(&mut self, gap: Gap) {
        if self.blocks.last().is_none_or(|block| block.len() >= BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
            self.ends.push(0);
            self.longest.push(0);
        }
        let last = self.blocks.len() - 1;
        self.blocks[last].push(gap);
        self.ends[last] = gap.end_ns;
        self.longest[last] = self.longest[last].max(gap.length_ns());
    }

    /// A block has changed.
    fn sum(&mut self, block: usize) {
        if self.blocks[block].is_empty() {
            self.blocks.remove(block);
            self.ends.remove(block);
            self.longest.remove(block);
            return;
        }
        if self.blocks[block].len() > 2 * BLOCK {
            let behind = self.blocks[block].split_off(BLOCK);
            self.blocks.insert(block + 1, behind);
            self.ends.insert(block + 1, 0);
            self.longest.insert(block + 1, 0);
            self.sum(block + 1);
        }
        let gaps = &self.blocks[block];
        self.ends[block] = gaps.last().map_or(0, |gap| gap.end_ns);
        self.longest[block] = gaps.iter().map(|gap| gap.length_ns()).max().unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by looking at every task that was placed.
    #[derive(Default)]
    struct Plain(Vec<(u64, u64)>);

    impl Plain {
        fn earliest(&self, ready: u64, length: u64) -> u64 {
            let mut free = 0;
            for (start, end) in &self.0 {
                let begin = ready.max(free);
                if begin + length <= *start {
                    return begin;
                }
                free = free.max(*end);
            }
            ready.max(free)
        }

        fn place(&mut self, start: u64, length: u64) {
            self.0.push((start, start + length));
            self.0.sort_unstable();
        }
    }

    proptest! {
        #[test]
        fn gaps_are_those_between_the_tasks(tasks in prop::collection::vec((0_u64..4000, 0_u64..40), 1..600), least in 0_u64..3) {
            let mut plain = Plain::default();
            let mut timeline = Timeline::new(least);
            for (ready, length) in tasks {
                let length = length.max(least);
                let start = timeline.earliest_ns(ready, length);
                prop_assert_eq!(start, plain.earliest(ready, length));
                timeline.place(start, length);
                plain.place(start, length);
                prop_assert_eq!(timeline.last_end_ns(), plain.0.iter().map(|(_, end)| *end).max().unwrap());
            }
        }
    }
}
