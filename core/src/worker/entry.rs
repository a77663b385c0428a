//! What lies in a worker's queues.
#![expect(unsafe_code, reason = "a reference to a record, kept as a number")]

use std::mem::ManuallyDrop;
use std::num::NonZeroU64;
use std::ptr::NonNull;

use super::shared::Shared;
use crate::placement::placed;
use crate::task::record::{Header, TaskRef};

/// The lowest bits of an entry say what it is; records lie at addresses that are multiples of 8.
const TAG: u64 = 0b11;
const TASK: u64 = 0b00;
/// A ready node of a graph that is run: the run's number in the highest 30 bits, the node in the 32 below.
const NODE: u64 = 0b01;
/// The same for successors of a node that nobody has looked at.
const SUCCESSORS: u64 = 0b10;
const NODE_SHIFT: u32 = 2;
const RUN_SHIFT: u32 = 34;

/// An entry of a queue, eight bytes long: a task, with the reference that the runtime holds of it, or part of a run of a graph.
///
/// Dropped, a task gives up the reference, and what a canceller left undone is done. A part of a run is not dropped before it is run.
#[derive(Debug)]
pub(crate) struct Entry(NonZeroU64);

/// An entry, taken apart.
pub(crate) enum Work {
    Task(TaskRef),
    Part(PartOf),
}

/// Part of a run of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartOf {
    /// The run's number.
    pub(crate) run: u32,
    pub(crate) part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A node that is ready.
    Node(u32),
    /// Those successors of a node that nobody has looked at.
    Successors(u32),
}

impl Entry {
    #[inline]
    pub(crate) fn task(task: TaskRef) -> Self {
        // The provenance of the address is exposed, for `with_exposed_provenance` below.
        let address = task.into_address().as_ptr().expose_provenance() as u64;
        debug_assert!(address & TAG == TASK, "records are aligned");
        match NonZeroU64::new(address | TASK) {
            Some(word) => Self(word),
            None => unreachable!("no record lies at address 0"),
        }
    }

    /// A node of a run that is ready.
    #[inline]
    pub(crate) fn node(run: u32, node: u32) -> Self {
        Self::part(run, node, NODE)
    }

    /// Successors of a node that nobody has looked at.
    #[inline]
    pub(crate) fn successors(run: u32, node: u32) -> Self {
        Self::part(run, node, SUCCESSORS)
    }

    #[inline]
    fn part(run: u32, node: u32, tag: u64) -> Self {
        match NonZeroU64::new(u64::from(run) << RUN_SHIFT | u64::from(node) << NODE_SHIFT | tag) {
            Some(word) => Self(word),
            None => unreachable!("the tag is not 0"),
        }
    }

    #[inline]
    pub(crate) fn is_task(&self) -> bool {
        self.0.get() & TAG == TASK
    }

    /// Whether it is a node that is ready.
    #[inline]
    pub(crate) fn is_node(&self) -> bool {
        self.0.get() & TAG == NODE
    }

    /// The run's number and the node, if it is a node that is ready.
    pub(crate) fn as_node(&self) -> Option<(u32, u32)> {
        let word = self.0.get();
        self.is_node().then_some(((word >> RUN_SHIFT) as u32, (word >> NODE_SHIFT) as u32))
    }

    /// Whether it is part of the run with this number.
    #[inline]
    pub(crate) fn is_of_run(&self, run: u32) -> bool {
        !self.is_task() && self.0.get() >> RUN_SHIFT == u64::from(run)
    }

    /// What it is. Whoever finds that he cannot run a task makes an entry of it again, and drops that.
    #[inline]
    pub(crate) fn into_work(self) -> Work {
        let word = ManuallyDrop::new(self).0.get();
        let (run, node) = ((word >> RUN_SHIFT) as u32, (word >> NODE_SHIFT) as u32);
        match word & TAG {
            TASK => Work::Task(Self::record(word)),
            NODE => Work::Part(PartOf { run, part: Part::Node(node) }),
            _ => Work::Part(PartOf { run, part: Part::Successors(node) }),
        }
    }

    /// The part of a run that it is.
    #[inline]
    pub(crate) fn into_part(self) -> Option<PartOf> {
        match self.into_work() {
            Work::Part(part) => Some(part),
            Work::Task(task) => {
                drop(Self::task(task));
                None
            }
        }
    }

    #[inline]
    fn record(word: u64) -> TaskRef {
        let address = std::ptr::with_exposed_provenance_mut::<Header>((word & !TAG) as usize);
        let Some(address) = NonNull::new(address) else { unreachable!("no record lies at address 0") };
        // SAFETY: an entry for a task was made of a reference by `into_address`, and the entry, given up by the caller, is turned back once.
        unsafe { TaskRef::from_address(address) }
    }

    /// Looks at the task. For entries that are known to be tasks.
    ///
    /// # Panics
    /// When it is something else.
    #[inline]
    pub(crate) fn peek<R>(&self, look: impl FnOnce(&TaskRef) -> R) -> R {
        assert!(self.is_task(), "parts of runs go nowhere but to queues of workers");
        look(&ManuallyDrop::new(Self::record(self.0.get())))
    }

    /// Whether it is for this task.
    #[inline]
    pub(crate) fn is_of(&self, task: &TaskRef) -> bool {
        self.is_task() && self.peek(|own| std::ptr::eq::<Header>(&**own, &**task))
    }

    /// Whether running it would do nothing: somebody else has claimed the task.
    #[inline]
    pub(crate) fn is_stale(&self) -> bool {
        self.is_task() && self.peek(TaskRef::is_claimed)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.is_task() {
            // Its run counts on it.
            debug_assert!(std::thread::panicking(), "a part of a run is run");
            return;
        }
        let task = Self::record(self.0.get());
        if let Some(placed) = placed(&task) {
            placed.drops();
        }
        if task.bury() {
            Shared::retract_buried(&task);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_runs_come_out_as_they_went_in() {
        for run in [0, 1, (1 << 30) - 1] {
            for node in [0, 1, u32::MAX] {
                for (entry, part) in [(Entry::node(run, node), Part::Node(node)), (Entry::successors(run, node), Part::Successors(node))] {
                    assert!(entry.is_of_run(run) && !entry.is_of_run(run + 1));
                    assert_eq!(entry.as_node().is_some(), part == Part::Node(node));
                    assert!(entry.as_node().is_none_or(|found| found == (run, node)));
                    assert_eq!(entry.into_part(), Some(PartOf { run, part }));
                }
            }
        }
    }
}
