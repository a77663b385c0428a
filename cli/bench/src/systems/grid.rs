//! A square grid of cells that need the one above and the one to the left: `wavefront`.

use poniard::Task;

use super::{Setup, certain};
use crate::case::Effort;
use crate::measure::{System, per_task};

/// The grid: a cell is the sum of the one above and the one to the left, modulo 2^64; those outside count nothing, and the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wavefront {
    /// Cells in a row and in a column.
    pub edge: usize,
}

impl Wavefront {
    /// As large as the effort allows.
    pub fn of(effort: Effort) -> Self {
        Self { edge: if effort == Effort::Quick { 350 } else { 1000 } }
    }

    /// All cells.
    pub fn cell_count(self) -> u64 {
        (self.edge * self.edge) as u64
    }

    /// What the last cell comes to.
    pub fn expected(self) -> u64 {
        let mut row = vec![0u64; self.edge];
        for line in 0..self.edge {
            let mut left = u64::from(line == 0);
            for cell in &mut row {
                *cell = cell.wrapping_add(left);
                left = *cell;
            }
        }
        row.last().copied().unwrap_or(0)
    }
}

/// Spawns each cell with those that it needs, row for row, inside a task.
pub(super) fn spawn<'a>(setup: &'a Setup<'_>) -> System<'a> {
    let grid = Wavefront::of(setup.effort);
    let expected = grid.expected();
    System::new("poniard-spawn", setup.note(&format!("{0} x {0} cells", grid.edge)), move || {
        per_task(grid.cell_count(), || {
            let last = setup.runtime.spawn(move || spawn_cells(grid), ());
            assert_eq!(certain(last.take().and_then(Task::take)), expected);
        })
    })
}

/// The task of the last cell.
fn spawn_cells(grid: Wavefront) -> Task<u64> {
    let mut left = poniard::spawn(|| 1u64, ());
    let mut row = vec![left.clone()];
    for _ in 1..grid.edge {
        left = poniard::spawn(|left: &u64| *left, (left,));
        row.push(left.clone());
    }
    for _ in 1..grid.edge {
        left = poniard::spawn(|above: &u64| *above, (&row[0],));
        row[0] = left.clone();
        for cell in &mut row[1..] {
            left = poniard::spawn(|above: &u64, left: &u64| above.wrapping_add(*left), (&*cell, left));
            *cell = left.clone();
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::Wavefront;

    #[test]
    fn the_last_cell_counts_the_ways_to_it() {
        assert_eq!([1, 2, 3, 4].map(|edge| Wavefront { edge }.expected()), [1, 2, 6, 20]);
    }
}
