//! What is going to happen.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How many bits the number of a processor has in an event: as many processors, less a few numbers that mean something else.
const PROCESSOR_BITS: u32 = 24;
/// And how many that of the event: a thousand events for each task that there may be.
const NUMBER_BITS: u32 = u64::BITS - PROCESSOR_BITS;
/// The largest number that means a processor, or something else.
pub(super) const LAST: u32 = (1 << PROCESSOR_BITS) - 1;

/// Events in their order: by time, then as they were foreseen.
///
/// An event is one number, its time before its own number before the processor: one comparison without branches.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<u128>>,
    next: u64,
}

impl Queue {
    /// At this time something happens at a processor.
    pub(super) fn push(&mut self, at_ns: u64, processor: u32) {
        debug_assert!(processor <= LAST && self.next < 1 << NUMBER_BITS, "events fit their numbers");
        let low = self.next << PROCESSOR_BITS | u64::from(processor);
        self.heap.push(Reverse(u128::from(at_ns) << u64::BITS | u128::from(low)));
        self.next += 1;
    }

    /// When the next event is.
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(event)| (event >> u64::BITS) as u64)
    }

    /// The processor of the next event.
    pub(super) fn pop(&mut self) -> Option<u32> {
        self.heap.pop().map(|Reverse(event)| event as u32 & LAST)
    }
}
