//! A graph by hand on rayon, as a careful user writes it: a counter of unfinished predecessors for each cell, and the first successor that becomes ready is
//! run at once instead of spawned.
//!
//! The graph is known before and nothing is allocated for a task but what `Scope::spawn` boxes: compare with graphs that are built once and run often.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Relaxed};

use rayon::Scope;

/// Cells, numbered so that each comes after those that it needs.
pub(crate) trait Shape: Sync {
    /// How many there are.
    fn cell_count(&self) -> usize;

    /// How many others a cell needs.
    fn needed_count(&self, cell: usize) -> u32;

    /// Calls `each` with every cell that needs this one.
    fn for_successors(&self, cell: usize, each: impl FnMut(usize));

    /// What a cell comes to; `value_of` gives what cells that it needs came to.
    fn value(&self, cell: usize, value_of: impl Fn(usize) -> u64) -> u64;
}

/// A graph that can be run again and again.
pub(crate) struct Countdown<S> {
    shape: S,
    unmet: Vec<AtomicU32>,
    values: Vec<AtomicU64>,
}

impl<S: Shape> Countdown<S> {
    pub(crate) fn new(shape: S) -> Self {
        let cells = shape.cell_count();
        Self { unmet: (0..cells).map(|_| AtomicU32::new(0)).collect(), values: (0..cells).map(|_| AtomicU64::new(0)).collect(), shape }
    }

    /// Makes it ready for another run, in which `shape` may be told something new. Not part of what is measured.
    pub(crate) fn reset(&mut self, tell: impl FnOnce(&mut S)) {
        tell(&mut self.shape);
        for (cell, unmet) in self.unmet.iter_mut().enumerate() {
            *unmet.get_mut() = self.shape.needed_count(cell);
        }
        for value in &mut self.values {
            *value.get_mut() = 0;
        }
    }

    /// What a cell came to.
    pub(crate) fn value(&self, cell: usize) -> u64 {
        // Relaxed: the counters order it, or the end of the scope.
        self.values[cell].load(Relaxed)
    }

    /// Runs `cell` and whatever becomes ready by it.
    pub(crate) fn run<'s>(&'s self, scope: &Scope<'s>, mut cell: usize) {
        loop {
            let value = self.shape.value(cell, |needed| self.value(needed));
            self.values[cell].store(value, Relaxed);
            let mut next = None;
            self.shape.for_successors(cell, |successor| {
                // Each pairs with the others of the same cell: the last one sees what all predecessors have stored.
                if self.unmet[successor].fetch_sub(1, AcqRel) == 1
                    && let Some(other) = next.replace(successor)
                {
                    scope.spawn(move |scope| self.run(scope, other));
                }
            });
            match next {
                Some(following) => cell = following,
                None => return,
            }
        }
    }
}
