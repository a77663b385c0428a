//! What is going to happen.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events in their order: by time, then as they were foreseen.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    next: u64,
}

impl Queue {
    /// At this time something happens at a processor.
    pub(super) fn push(&mut self, at_ns: u64, processor: u32) {
        self.heap.push(Reverse((at_ns, self.next, processor)));
        self.next += 1;
    }

    /// When the next event is.
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at_ns, ..))| *at_ns)
    }

    /// The processor of the next event.
    pub(super) fn pop(&mut self) -> Option<u32> {
        self.heap.pop().map(|Reverse((.., processor))| processor)
    }
}
