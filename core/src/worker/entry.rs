//! What lies in a worker's queues.
#![expect(unsafe_code, reason = "a reference to a record, kept as a number")]

use std::mem::ManuallyDrop;
use std::num::NonZeroU64;
use std::ptr::NonNull;

use super::shared::Shared;
use crate::task::record::{Header, TaskRef};

/// The lowest bits of an entry say what it is; records lie at addresses that are multiples of 8.
const TAG: u64 = 0b11;
const TASK: u64 = 0b00;

/// An entry of a queue, eight bytes long: a task, with the reference that the runtime holds of it.
///
/// Dropped, it gives up the reference, and what a canceller left undone is done.
#[derive(Debug)]
pub(crate) struct Entry(NonZeroU64);

/// An entry, taken apart.
pub(crate) enum Work {
    Task(TaskRef),
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

    /// What it is. Whoever finds that he cannot run it makes an entry of it again, and drops that.
    #[inline]
    pub(crate) fn into_work(self) -> Work {
        let word = ManuallyDrop::new(self).0.get();
        debug_assert!(word & TAG == TASK, "there are no other entries");
        Work::Task(Self::record(word))
    }

    #[inline]
    fn record(word: u64) -> TaskRef {
        let address = std::ptr::with_exposed_provenance_mut::<Header>((word & !TAG) as usize);
        let Some(address) = NonNull::new(address) else { unreachable!("no record lies at address 0") };
        // SAFETY: an entry for a task was made of a reference by `into_address`, and the entry, given up by the caller, is turned back once.
        unsafe { TaskRef::from_address(address) }
    }

    /// Looks at the task.
    #[inline]
    pub(crate) fn peek<R>(&self, look: impl FnOnce(&TaskRef) -> R) -> R {
        look(&ManuallyDrop::new(Self::record(self.0.get())))
    }

    /// Whether it is for this task.
    #[inline]
    pub(crate) fn is_of(&self, task: &TaskRef) -> bool {
        self.peek(|own| std::ptr::eq::<Header>(&**own, &**task))
    }

    /// Whether running it would do nothing: somebody else has claimed the task.
    #[inline]
    pub(crate) fn is_stale(&self) -> bool {
        self.peek(TaskRef::is_claimed)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let task = Self::record(self.0.get());
        if task.bury() {
            Shared::retract_buried(&task);
        }
    }
}
