//! The dense matrix that `lu` and `qr` factor: random, or of a file. It may have more rows than columns.

use ndarray::{Array2, ArrayView2, s};
use poniard::buffer;

use super::random::Random;
use super::tiling::Tiling;
use super::{files, limits, npy};
use crate::sample::{Context, SampleError};

/// A matrix to factor, and how it is cut.
#[derive(Debug)]
pub(crate) struct Dense {
    pub(crate) matrix: Array2<f64>,
    pub(crate) rows: Tiling,
    pub(crate) columns: Tiling,
}

impl Dense {
    /// What the options `size`, `tile`, `seed` and `input` say. `copies`: how many matrices of its size are needed in all.
    ///
    /// # Errors
    /// [`SampleError::Usage`] for a size or a tile without sense, [`SampleError::Input`] for a file with something else than numbers, or with more columns than rows.
    pub(crate) fn new(context: &Context<'_>, copies: u64) -> Result<Self, SampleError> {
        let tile = limits::count("tile", context.tile, 128, u64::MAX)?;
        let matrix = match files::optional_input(context)? {
            None => {
                let size = limits::count("size", context.size, 512, 1 << 20)?;
                limits::memory("size", (size as u64).checked_pow(2).and_then(|elements| elements.checked_mul(copies * 8)))?;
                random_matrix(size, context.seed)?
            }
            Some(_) if context.size.is_some() => {
                return Err(SampleError::Usage { option: "size", reason: "the matrix in --input has a size of its own".into() });
            }
            Some(file) => {
                let matrix = npy::read_matrix(file)?;
                if matrix.rows < matrix.columns {
                    let reason = format!("more columns than rows, {} x {}: take its transpose", matrix.rows, matrix.columns);
                    return Err(files::refuse(file, reason));
                }
                if let Some(at) = matrix.values.iter().position(|value| !value.is_finite()) {
                    let (row, column) = (at / matrix.columns, at % matrix.columns);
                    return Err(files::refuse(file, format!("not finite: element ({row}, {column}) is {}", matrix.values[at])));
                }
                let needed = (matrix.values.len() as u64).checked_mul(copies * 8);
                limits::memory("input", needed)?;
                ArrayView2::from_shape((matrix.rows, matrix.columns), &matrix.values).expect("as many as the file has").to_owned()
            }
        };
        let (rows, columns) = (Tiling::new(matrix.nrows(), tile), Tiling::new(matrix.ncols(), tile));
        Ok(Self { matrix, rows, columns })
    }

    /// A tile of it, copied.
    pub(crate) fn tile(&self, row: usize, column: usize) -> Array2<f64> {
        self.matrix.slice(s![self.rows.span(row), self.columns.span(column)]).to_owned()
    }
}

/// Numbers from -1 to 1.
fn random_matrix(size: usize, seed: u64) -> Result<Array2<f64>, SampleError> {
    // A buffer says whether there is room, an array would end the program.
    buffer::try_zeroed::<f64>(size * size).map_err(|error| SampleError::Usage { option: "size", reason: format!("too large: {error}") })?;
    let mut random = Random::new(seed, 0);
    Ok(Array2::from_shape_simple_fn((size, size), || 2.0 * random.unit() - 1.0))
}

/// What the tests of both do.
#[cfg(test)]
pub(crate) mod trials {
    use super::super::trial::Trial;
    use super::*;
    use crate::sample::{Outcome, Sample};

    pub(crate) fn passes_at_awkward_sizes(sample: &Sample) {
        for (size, tile) in [(1, 1), (1, 256), (5, 2), (6, 2), (7, 7), (7, 100), (64, 16), (65, 16), (50, 9), (3, u64::MAX)] {
            Trial { size: Some(size), tile: Some(tile), seed: size, ..Trial::default() }.passes(sample);
        }
    }

    /// Factors a matrix from a file, which has to go well.
    pub(crate) fn factored(sample: &Sample, trial: Trial, matrix: &Array2<f64>) -> Outcome {
        let outcome = trial.run_on(sample, &npy::write(matrix.view())).unwrap_or_else(|error| panic!("{error}"));
        assert!(outcome.check.passed, "{matrix}: {}", outcome.check.text);
        outcome
    }

    pub(crate) fn passes_with_more_rows_than_columns(factored: impl Fn(&Array2<f64>, u64) -> Outcome) {
        let mut random = Random::new(1, 0);
        for (rows, columns, tile) in [(2, 1, 1), (9, 4, 4), (9, 4, 3), (13, 12, 5), (40, 3, 8), (17, 16, 16)] {
            factored(&Array2::from_shape_simple_fn((rows, columns), || random.unit()), tile);
        }
    }
}
