//! Values of a region whose tasks are held back, as it may be one that repeats: who else wants access finds a mark, and has the region give way first.
//!
//! A mark stands for tasks that have been spawned and are in no history. Whoever locks a history looks for one (`lock`), and none of them is passed by: so nobody can tell
//! that the tasks were held back. Marks that stand for nothing any more stay where they are until somebody comes by.
//!
//! Who is marked by has a lock of his own. It is never taken by who has locked a history, and who has it takes no other one of its kind: so nobody waits in a circle.

use std::fmt;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::HistoryLock;
use super::history::History;

/// Has tasks that are in no history.
pub(crate) trait Deferred: Send + Sync {
    /// Enters what it has of a value into its history, which the caller has not locked, so that its mark stands for nothing any more. The number is the one in the mark.
    fn give_way(&self, history: &HistoryLock, value: u32);
    /// Whether marks of it stand for nothing any more.
    fn is_over(&self) -> bool;
}

/// Says who has tasks that are not in a history.
pub(crate) struct Mark {
    pub(crate) by: Arc<dyn Deferred>,
    /// Which of his values it is.
    pub(crate) value: u32,
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mark").field("value", &self.value).finish_non_exhaustive()
    }
}

/// Somebody to give way, and the number of the value there.
pub(super) type Standing = (Arc<dyn Deferred>, u32);

/// Locks a history, whatever stands in it.
pub(super) fn lock_marked(history: &HistoryLock) -> MutexGuard<'_, History> {
    // Changes are single operations on its fields, so a panic elsewhere leaves it whole.
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks a history that has no mark.
pub(super) fn lock(history: &HistoryLock) -> MutexGuard<'_, History> {
    loop {
        let mut locked = lock_marked(history);
        let Some((by, value)) = locked.standing(None) else { return locked };
        drop(locked);
        by.give_way(history, value);
    }
}

/// Locks histories, given in the order in which everybody locks them, none of which has a mark; one of whose region's tasks is being ordered has none of `own`.
pub(super) fn lock_all<'a, const N: usize>(
    histories: impl Iterator<Item = &'a HistoryLock> + Clone,
    own: Option<&dyn Deferred>,
) -> smallvec::SmallVec<[MutexGuard<'a, History>; N]>
where
    [MutexGuard<'a, History>; N]: smallvec::Array<Item = MutexGuard<'a, History>>,
{
    loop {
        let mut locked = smallvec::SmallVec::new();
        let mut met = None;
        for history in histories.clone() {
            let mut one = lock_marked(history);
            met = one.standing(own).map(|standing| (history, standing));
            if met.is_some() {
                break;
            }
            locked.push(one);
        }
        let Some((history, (by, value))) = met else { return locked };
        drop(locked);
        by.give_way(history, value);
    }
}

impl History {
    /// Takes the mark off, if it is one of `by`.
    pub(super) fn take_mark(&mut self, by: &dyn Deferred) -> bool {
        self.mark.take_if(|mark| std::ptr::addr_eq(by, Arc::as_ptr(&mark.by))).is_some()
    }

    /// Who has a mark that stands for something, and is not `own`. One that stands for nothing is taken off.
    #[inline]
    pub(super) fn standing(&mut self, own: Option<&dyn Deferred>) -> Option<Standing> {
        let mark = self.mark.as_ref()?;
        if own.is_some_and(|own| std::ptr::addr_eq(own, Arc::as_ptr(&mark.by))) {
            return None;
        }
        if mark.by.is_over() {
            self.mark = None;
            return None;
        }
        Some((Arc::clone(&mark.by), mark.value))
    }
}

/// What came of an attempt to mark a value.
pub(crate) enum Marked {
    Done,
    /// It has a mark of another one: have it give way, with no lock taken.
    Standing,
    /// It has one of the same.
    Twice,
    /// Copies of a reduction have to be combined first, or a task before has failed.
    Unfit,
}
