//! A tile of a matrix that knows where it lies there. Its elements are a [`Buffer`], which worker processes use where it is.

use std::ops::Range;

use ndarray::{ArrayView2, ArrayViewMut2};
use poniard::{AllocateError, Buffer, Data, buffer};

use super::tiling::{cut, paste};

/// A rectangle of a matrix.
#[derive(Clone, Debug, Data)]
pub struct Tile {
    /// Which rows of the matrix.
    pub rows: Range<usize>,
    /// Which columns of it.
    pub columns: Range<usize>,
    /// Row-major.
    pub values: Buffer<f64>,
}

impl Tile {
    /// A tile of zeros.
    ///
    /// # Errors
    /// [`AllocateError`] when there is no room.
    pub fn zeroed(rows: Range<usize>, columns: Range<usize>) -> Result<Self, AllocateError> {
        Ok(Self { values: buffer::try_zeroed(rows.len() * columns.len())?, rows, columns })
    }

    /// Copies a tile out of a row-major matrix with `width` columns.
    ///
    /// # Errors
    /// [`AllocateError`] when there is no room.
    pub fn cut(matrix: &[f64], width: usize, rows: Range<usize>, columns: Range<usize>) -> Result<Self, AllocateError> {
        let mut tile = Self::zeroed(rows.clone(), columns.clone())?;
        cut(matrix, width, rows, columns, &mut tile.values);
        Ok(tile)
    }

    /// Copies it to its place in a row-major matrix with `width` columns.
    pub fn paste(&self, matrix: &mut [f64], width: usize) {
        paste(matrix, width, self.rows.clone(), self.columns.clone(), &self.values);
    }

    /// Its elements.
    pub fn view(&self) -> ArrayView2<'_, f64> {
        ArrayView2::from_shape((self.rows.len(), self.columns.len()), &self.values).expect("a tile has all of its elements")
    }

    /// Its elements, to be changed.
    pub fn view_mut(&mut self) -> ArrayViewMut2<'_, f64> {
        ArrayViewMut2::from_shape((self.rows.len(), self.columns.len()), &mut self.values).expect("a tile has all of its elements")
    }
}
