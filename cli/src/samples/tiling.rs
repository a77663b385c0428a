//! A length cut into tiles, the last of which may be shorter, and the tasks of a matrix of tiles.

use std::ops::Range;

use poniard::{AllocateError, Buffer, Task, buffer};

/// `len` cut into pieces of `tile`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiling {
    len: usize,
    tile: usize,
}

impl Tiling {
    /// Cuts `len` into pieces of `tile`, which is not 0.
    pub(crate) fn new(len: usize, tile: usize) -> Self {
        assert!(tile > 0, "a tile has at least one element");
        Self { len, tile }
    }

    /// Number of tiles.
    pub(crate) fn count(&self) -> usize {
        self.len.div_ceil(self.tile)
    }

    /// What tile `index` covers.
    pub(crate) fn span(&self, index: usize) -> Range<usize> {
        let start = index * self.tile;
        start..start.saturating_add(self.tile).min(self.len)
    }

    /// Length of tile `index`.
    pub(crate) fn len_of(&self, index: usize) -> usize {
        self.span(index).len()
    }
}

/// Copies the rectangle `rows` × `columns` out of a row-major matrix with `width` columns.
pub(crate) fn cut<T: Copy>(matrix: &[T], width: usize, rows: Range<usize>, columns: Range<usize>, tile: &mut [T]) {
    for (row, line) in rows.zip(tile.chunks_exact_mut(columns.len())) {
        line.copy_from_slice(&matrix[row * width..][columns.clone()]);
    }
}

/// The same as a task's function: the tile itself.
pub(crate) fn cut_out(matrix: &Buffer<f64>, width: usize, rows: Range<usize>, columns: Range<usize>) -> Result<Buffer<f64>, AllocateError> {
    let mut tile = buffer::try_zeroed(rows.len() * columns.len())?;
    cut(matrix, width, rows, columns, &mut tile);
    Ok(tile)
}

/// Copies a tile to its place in a row-major matrix with `width` columns.
pub(crate) fn paste<T: Copy>(matrix: &mut [T], width: usize, rows: Range<usize>, columns: Range<usize>, tile: &[T]) {
    for (row, line) in rows.zip(tile.chunks_exact(columns.len())) {
        matrix[row * width..][columns.clone()].copy_from_slice(line);
    }
}

/// The newest task of each tile.
///
/// A task that updates a tile takes the old one out and puts itself in. So it is the last user of the old value, and the runtime can move
/// that value into it instead of copying it.
pub(crate) struct TileTasks<T> {
    columns: usize,
    tasks: Vec<Option<Task<T>>>,
}

impl<T> Clone for TileTasks<T> {
    fn clone(&self) -> Self {
        Self { columns: self.columns, tasks: self.tasks.clone() }
    }
}

impl<T> TileTasks<T> {
    /// Room for `rows` × `columns` tiles.
    pub(crate) fn new(rows: usize, columns: usize) -> Self {
        Self { columns, tasks: (0..rows * columns).map(|_| None).collect() }
    }

    /// The newest task of a tile, which has one.
    pub(crate) fn get(&self, row: usize, column: usize) -> &Task<T> {
        self.tasks[row * self.columns + column].as_ref().expect("the tile has a task")
    }

    /// Takes out the newest task of a tile, which has one.
    pub(crate) fn take(&mut self, row: usize, column: usize) -> Task<T> {
        self.tasks[row * self.columns + column].take().expect("the tile has a task")
    }

    /// Makes `task` the newest one of a tile.
    pub(crate) fn put(&mut self, row: usize, column: usize, task: Task<T>) {
        self.tasks[row * self.columns + column] = Some(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_everything_once() {
        for (len, tile, count) in [(0, 3, 0), (1, 3, 1), (3, 3, 1), (7, 3, 3), (5, 1, 5), (5, usize::MAX, 1)] {
            let tiling = Tiling::new(len, tile);
            assert_eq!(tiling.count(), count);
            let covered: Vec<usize> = (0..count).flat_map(|index| tiling.span(index)).collect();
            assert_eq!(covered, (0..len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn pastes_what_it_cut() {
        let matrix: Vec<u8> = (0..12).collect();
        let (mut tile, mut copy) = ([0; 4], [0; 12]);
        cut(&matrix, 4, 1..3, 2..4, &mut tile);
        assert_eq!(tile, [6, 7, 10, 11]);
        paste(&mut copy, 4, 1..3, 2..4, &tile);
        assert_eq!(copy, [0, 0, 0, 0, 0, 0, 6, 7, 0, 0, 10, 11]);
    }
}
