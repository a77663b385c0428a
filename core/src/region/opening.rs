//! Whether a region is open, as its tasks ask: a number in a cell that regions use one after the other. A count of references would be an exchange for each task that is spawned, and one when its
//! handle goes.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Mutex, PoisonError};

/// Names a region as long as there are handles of its tasks. Cheap to copy.
#[derive(Clone, Copy)]
pub(super) struct Opening {
    cell: &'static AtomicU64,
    number: u64,
}

/// Cells that no open region uses: as many as were open at once, and never given back, as handles look at them for ever.
static CELLS: Mutex<Vec<&'static AtomicU64>> = Mutex::new(Vec::new());

impl Opening {
    /// Of a region that is open from now on.
    pub(super) fn new() -> Self {
        // One operation on the list.
        let free = CELLS.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self::in_cell(free.unwrap_or_else(|| Box::leak(Box::default())))
    }

    fn in_cell(cell: &'static AtomicU64) -> Self {
        // Relaxed: whoever had it before has put it into the list afterwards.
        Self { cell, number: cell.load(Relaxed) }
    }

    pub(super) fn is_open(self) -> bool {
        // Acquire: pairs with the Release in `close`, so that what the tasks did is seen.
        self.cell.load(Acquire) == self.number
    }

    /// The region has ended. Once, for the one that `new` was called for.
    pub(super) fn close(self) {
        // Release: pairs with the Acquire in `is_open`.
        self.cell.store(self.number + 1, Release);
        CELLS.lock().unwrap_or_else(PoisonError::into_inner).push(self.cell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_is_used_again_tells_one_region_from_the_next() {
        // Not from the list, which other tests use as well.
        let cell = Box::leak(Box::<AtomicU64>::default());
        let first = Opening::in_cell(cell);
        assert!(first.is_open());
        first.close();
        assert!(!first.is_open());
        let second = Opening::in_cell(cell);
        assert!(second.is_open() && !first.is_open());
        second.close();
        assert!(!second.is_open());
    }
}
