//! `cholesky`: A = L Lᵀ in tiles, the classic of task runtimes, as the loop that textbooks have: each task says what it reads and what it writes. The graph that follows is irregular:
//! whatever is ready runs, no step waits for all of the step before.
//!
//! Right-looking, for each diagonal tile k: `potrf` factors the tile, `trsm` solves the tiles below it, and `gemm` subtracts their products from what is left to the right. Source: Buttari,
//! Langou, Kurzak & Dongarra, "A class of parallel tiled linear algebra algorithms for multicore architectures", Parallel Computing 35(1), 2009.

use std::ops::Range;

use ndarray::{ArrayView2, ArrayViewMut2, Axis, s};
use poniard::{Buffer, Handle, Mutable, Priority, RegionError, read, write};

use super::product::accumulate;
use super::random::Random;
use super::tile::Tile;
use super::tiling::Tiling;
use super::{files, limits, npy};
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "cholesky",
    summary: "the Cholesky factor of a matrix in tiles: an irregular graph, with priorities",
    options: &[
        SampleOption { name: "size", meaning: "rows and columns of a random matrix, default 1024" },
        SampleOption { name: "tile", meaning: "rows and columns of a tile, default 256" },
        SampleOption { name: "seed", meaning: "what the random matrix is drawn from, default 0" },
        SampleOption { name: "input", meaning: "a .npy file with a symmetric positive definite matrix, instead of a random one" },
        SampleOption { name: "output", meaning: "a .npy file for L, with zeros above the diagonal" },
    ],
    kernels: false,
    run,
};

/// The matrix has no Cholesky factor: a task reports it as its error.
#[derive(Debug, thiserror::Error)]
#[error(
    "the matrix is not positive definite: pivot {pivot} (counting from 0) is {value}, in the diagonal tile of rows {} to {}", tile.start, tile.end - 1
)]
pub struct NotPositiveDefinite {
    /// Its row and column in the matrix.
    pub pivot: usize,
    /// What its square root would have to be taken of.
    pub value: f64,
    /// The rows, and columns, of the tile.
    pub tile: Range<usize>,
}

/// Edge of a block that is worked on row by row; what is larger is cut in halves, and most of the work becomes products.
const SMALL: usize = 16;

/// Factors a diagonal tile in place.
///
/// # Errors
/// [`NotPositiveDefinite`] names the pivot and the tile.
pub fn potrf(tile: &mut Tile) -> Result<(), NotPositiveDefinite> {
    let rows = tile.rows.clone();
    let refused = |(pivot, value)| NotPositiveDefinite { pivot: rows.start + pivot, value, tile: rows.clone() };
    factor_block(tile.view_mut(), 0).map_err(refused)?;
    let size = tile.rows.len();
    for row in 0..size {
        tile.values[row * size + row + 1..(row + 1) * size].fill(0.0);
    }
    Ok(())
}

/// The lower triangle of a block that begins at row `first` of its tile; which pivot cannot be, and its value.
fn factor_block(mut a: ArrayViewMut2<'_, f64>, first: usize) -> Result<(), (usize, f64)> {
    let size = a.nrows();
    if size > SMALL {
        let half = size / 2;
        let (above, mut below) = a.split_at(Axis(0), half);
        let (mut diagonal, _) = above.split_at(Axis(1), half);
        factor_block(diagonal.view_mut(), first)?;
        let (mut solved, mut rest) = below.view_mut().split_at(Axis(1), half);
        solve_block(diagonal.view(), solved.view_mut());
        subtract_square(rest.view_mut(), solved.view());
        return factor_block(rest, first + half);
    }
    for row in 0..size {
        for column in 0..row {
            a[[row, column]] = (a[[row, column]] - dot(&a, row, column)) / a[[column, column]];
        }
        let value = a[[row, row]] - dot(&a, row, row);
        // Written so that NaN is refused too.
        if !(value > 0.0 && value.is_finite()) {
            return Err((first + row, value));
        }
        a[[row, row]] = value.sqrt();
    }
    Ok(())
}

/// The scalar product of two rows, of what is left of a column.
fn dot(a: &ArrayViewMut2<'_, f64>, row: usize, column: usize) -> f64 {
    a.slice(s![row, ..column]).dot(&a.slice(s![column, ..column]))
}

/// Solves X Lᵀ = `tile` in place, where L is the factor of a diagonal tile.
pub fn trsm(diagonal: &Tile, tile: &mut Tile) {
    solve_block(diagonal.view(), tile.view_mut());
}

fn solve_block(l: ArrayView2<'_, f64>, mut x: ArrayViewMut2<'_, f64>) {
    let size = l.nrows();
    if size > SMALL {
        let half = size / 2;
        let (mut left, mut right) = x.split_at(Axis(1), half);
        solve_block(l.slice(s![..half, ..half]), left.view_mut());
        accumulate(right.view_mut(), -1.0, left.view(), l.slice(s![half.., ..half]).reversed_axes());
        return solve_block(l.slice(s![half.., half..]), right);
    }
    // As columns of L are subtracted from rows, their elements are to lie side by side. Above the diagonal there may be what was there before.
    let mut columns = [[0.0; SMALL]; SMALL];
    for ((row, column), value) in l.indexed_iter().filter(|((row, column), _)| row >= column) {
        columns[column][row] = *value;
    }
    for mut row in x.rows_mut() {
        let mut solved = [0.0; SMALL];
        solved.iter_mut().zip(&row).for_each(|(to, from)| *to = *from);
        for (index, column) in columns.iter().enumerate().take(size) {
            let value = solved[index] / column[index];
            // What has been solved before has zeros in this column.
            solved.iter_mut().zip(column).for_each(|(to, factor)| *to -= value * factor);
            solved[index] = value;
        }
        row.iter_mut().zip(solved).for_each(|(to, from)| *to = from);
    }
}

/// Subtracts A Bᵀ from a tile in place; of a diagonal tile, where A and B are the same, what is on the diagonal and below.
pub fn gemm(a: &Tile, b: &Tile, tile: &mut Tile) {
    if tile.rows == tile.columns {
        subtract_square(tile.view_mut(), a.view());
    } else {
        accumulate(tile.view_mut(), -1.0, a.view(), b.view().reversed_axes());
    }
}

/// Subtracts A Aᵀ from the lower triangle of a block.
fn subtract_square(c: ArrayViewMut2<'_, f64>, a: ArrayView2<'_, f64>) {
    let size = c.nrows();
    if size <= 4 * SMALL {
        return accumulate(c, -1.0, a, a.reversed_axes());
    }
    let half = size / 2;
    let (upper, lower) = a.split_at(Axis(0), half);
    let (above, below) = c.split_at(Axis(0), half);
    subtract_square(above.split_at(Axis(1), half).0, upper);
    let (left, right) = below.split_at(Axis(1), half);
    accumulate(left, -1.0, lower, upper.reversed_axes());
    subtract_square(right, lower);
}

/// Takes the lower tiles of a matrix, `a[row][column]`, to those of its Cholesky factor.
///
/// # Errors
/// The first failure of a task: [`NotPositiveDefinite`] is what its function returned.
pub fn factor(handle: &Handle, a: &[Vec<Mutable<Tile>>]) -> Result<(), RegionError> {
    let n = a.len();
    handle.region(|r| {
        for k in 0..n {
            // What everything to the right waits for goes first where there is a choice.
            r.task(potrf, (write(&a[k][k]),)).name(format!("potrf({k},{k})")).priority(Priority::High).spawn();
            for i in k + 1..n {
                r.task(trsm, (read(&a[k][k]), write(&a[i][k]))).name(format!("trsm({i},{k})")).priority(Priority::High).spawn();
            }
            for i in k + 1..n {
                for j in k + 1..=i {
                    r.task(gemm, (read(&a[i][k]), read(&a[j][k]), write(&a[i][j]))).name(format!("gemm({i},{j})-{k}")).spawn();
                }
            }
        }
    })
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let problem = Problem::new(context)?;
    let a: Vec<Vec<Mutable<Tile>>> = (0..problem.tiling.count())
        .map(|row| (0..=row).map(|column| problem.tile(row, column).map(Mutable::new)).collect())
        .collect::<Result<_, _>>()?;
    factor(context.runtime, &a)?;
    let mut l: Buffer<f64> = limits::zeroed("size", problem.size * problem.size)?;
    let mut done = 0;
    for tile in a.into_iter().flatten() {
        tile.fetch()?.paste(&mut l, problem.size);
        done += 1;
        context.progress.advance(done, problem.lower);
    }
    Ok(problem.outcome(context, &l))
}

/// What there is to factor.
pub(super) struct Problem {
    /// Rows and columns.
    pub(super) size: usize,
    pub(super) tiling: Tiling,
    /// How many tiles the factor has.
    pub(super) lower: u64,
    matrix: Buffer<f64>,
}

impl Problem {
    /// As the options say.
    pub(super) fn new(context: &Context<'_>) -> Result<Self, SampleError> {
        let tile = limits::count("tile", context.tile, 256, u64::MAX)?;
        files::check_output(context, &["npy"])?;
        let (size, matrix) = matrix(context)?;
        let tiling = Tiling::new(size, tile);
        let tiles = tiling.count() as u64;
        let lower = (tiles * (tiles + 1)) / 2;
        limits::tasks("tile", lower.checked_mul(tiles + 5).map(|tripled| tripled / 3))?;
        Ok(Self { size, tiling, lower, matrix })
    }

    /// A tile of the matrix.
    pub(super) fn tile(&self, row: usize, column: usize) -> Result<Tile, SampleError> {
        let tile = Tile::cut(&self.matrix, self.size, self.tiling.span(row), self.tiling.span(column));
        tile.map_err(|error| SampleError::Usage { option: "size", reason: format!("too large: {error}") })
    }

    /// What came of it: L, row-major.
    pub(super) fn outcome(&self, context: &Context<'_>, l: &[f64]) -> Outcome {
        let Self { size, lower, .. } = *self;
        let square = |values| ArrayView2::from_shape((size, size), values).expect("the buffer has size x size elements");
        let l = square(l);
        let residual = relative_residual(square(&self.matrix[..]), l);
        Outcome {
            lines: vec![format!("A = L Lᵀ, {size} x {size} in {lower} tiles"), format!("relative residual {residual:.1e}")],
            values: vec![("size", size.into()), ("tiles", lower.into()), ("residual", residual.into())],
            check: check(residual, size),
            output: context.output.map(|_| npy::write(l)),
        }
    }
}

/// The matrix to factor, row-major, and its size.
fn matrix(context: &Context<'_>) -> Result<(usize, Buffer<f64>), SampleError> {
    let Some(file) = files::optional_input(context)? else {
        let size = limits::count("size", context.size, 1024, 1 << 20)?;
        // A, its lower tiles, L, the check's products.
        limits::memory("size", (size as u64).checked_pow(2).and_then(|elements| elements.checked_mul(4 * 8)))?;
        return Ok((size, random_matrix(size, context.seed)?));
    };
    if context.size.is_some() {
        return Err(SampleError::Usage { option: "size", reason: "the matrix in --input has a size of its own".into() });
    }
    let matrix = npy::read_square(file)?;
    let size = matrix.size;
    check_symmetric(&matrix).map_err(|reason| files::refuse(file, reason))?;
    Ok((size, matrix.values))
}

/// Symmetric, numbers from -1 to 1, with `size` on the diagonal: more than the other numbers of a row add up to, hence positive definite.
fn random_matrix(size: usize, seed: u64) -> Result<Buffer<f64>, SampleError> {
    let mut random = Random::new(seed, 0);
    let mut matrix: Buffer<f64> = limits::zeroed("size", size * size)?;
    for row in 0..size {
        for column in 0..row {
            let value = 2.0 * random.unit() - 1.0;
            matrix[row * size + column] = value;
            matrix[column * size + row] = value;
        }
        matrix[row * size + row] = size as f64;
    }
    Ok(matrix)
}

/// Finite and, but for rounding in the file's element type, symmetric.
fn check_symmetric(matrix: &npy::SquareMatrix) -> Result<(), String> {
    let (size, values) = (matrix.size, &matrix.values);
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        return Err(format!("not finite: element ({}, {}) is {}", index / size, index % size, values[index]));
    }
    let allowed = 16.0 * matrix.precision * values.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    for row in 0..size {
        for column in 0..row {
            let (below, above) = (values[row * size + column], values[column * size + row]);
            if (below - above).abs() > allowed {
                return Err(format!("not symmetric: element ({row}, {column}) is {below} but ({column}, {row}) is {above}"));
            }
        }
    }
    Ok(())
}

/// ‖A - L Lᵀ‖ / ‖A‖ in the Frobenius norm, by `ndarray`'s own product, which shares no code with the tasks' one.
fn relative_residual(a: ArrayView2<'_, f64>, l: ArrayView2<'_, f64>) -> f64 {
    const BAND: usize = 256;
    // Squares of very large or small numbers leave the range of f64, those of ratios do not.
    let scale = a.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    let size = a.nrows();
    let (mut error, mut norm) = (0.0, 0.0);
    for start in (0..size).step_by(BAND) {
        // Only the lower triangle of the product, and only what the zeros of L leave of it.
        let end = (start + BAND).min(size);
        let product = l.slice(s![start..end, ..end]).dot(&l.slice(s![..end, ..end]).t());
        for (offset, line) in product.rows().into_iter().enumerate() {
            let row = start + offset;
            for (column, value) in line.iter().enumerate().take(row + 1) {
                // What lies below the diagonal counts for the same above it.
                let weight = if row == column { 1.0 } else { 2.0 };
                error += weight * ((a[[row, column]] - value) / scale).powi(2);
                norm += weight * (a[[row, column]] / scale).powi(2);
            }
        }
    }
    (error / norm).sqrt()
}

fn check(residual: f64, size: usize) -> Check {
    // Rounding alone gives a small multiple of this; it grows with the length of the sums.
    let allowed = f64::EPSILON * (16.0 + size as f64);
    Check { passed: residual <= allowed, text: format!("|A - L Lᵀ| / |A| = {residual:.1e} by ndarray's product (allowed {allowed:.1e})") }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;
    use ndarray::{Array2, array};
    use ndarray_npy::WriteNpyExt;

    #[test]
    fn runs_at_awkward_sizes() {
        for (size, tile) in [(1, 1), (1, 256), (5, 2), (6, 2), (7, 7), (7, 100), (64, 16), (65, 16), (50, 9), (150, 70), (3, u64::MAX)] {
            Trial { size: Some(size), tile: Some(tile), seed: size, ..Trial::default() }.passes(&SAMPLE);
        }
    }

    /// Factors a matrix from a file.
    fn factor(content: &[u8], tile: u64) -> Result<Outcome, SampleError> {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("a.npy");
        std::fs::write(&input, content).unwrap();
        Trial { inputs: vec![input], tile: Some(tile), output: Some("l.npy".into()), ..Trial::default() }.run(&SAMPLE)
    }

    #[test]
    fn factors_a_known_matrix() {
        let outcome = factor(&npy::write(array![[4.0, 12.0, -16.0], [12.0, 37.0, -43.0], [-16.0, -43.0, 98.0]].view()), 2).unwrap();
        assert!(outcome.check.passed);
        let l = npy::write(array![[2.0, 0.0, 0.0], [6.0, 1.0, 0.0], [-8.0, 5.0, 3.0]].view());
        assert_eq!(outcome.output.unwrap(), l);
    }

    #[test]
    fn factors_single_precision_and_extreme_scales() {
        let mut single = Vec::new();
        array![[2.0f32, 0.1], [0.1, 3.0]].write_npy(&mut single).unwrap();
        assert!(factor(&single, 1).unwrap().check.passed);
        for scale in [1e-200, 1e200] {
            assert!(factor(&npy::write((array![[2.0, 0.1], [0.1, 3.0]] * scale).view()), 1).unwrap().check.passed);
        }
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_is_the_error_of_its_task() {
        let mut matrix = Array2::<f64>::eye(6);
        matrix[[3, 3]] = -2.0;
        let error = factor(&npy::write(matrix.view()), 2).unwrap_err();
        assert!(matches!(&error, SampleError::Task(error) if error.root_task() == "potrf(1,1)"), "{error:?}");
        let expected = "not positive definite: pivot 3 (counting from 0) is -2, in the diagonal tile of rows 2 to 3";
        assert!(error.to_string().contains(expected), "{error}");
        assert!(factor(&npy::write(Array2::zeros((3, 3)).view()), 2).unwrap_err().to_string().contains("pivot 0"));
    }

    #[test]
    fn refuses_matrices_without_sense() {
        for (matrix, expected) in [
            (array![[1.0, 2.0]], "not square"),
            (array![[1.0, f64::NAN], [0.0, 1.0]], "not finite: element (0, 1)"),
            (array![[1.0, f64::INFINITY], [f64::INFINITY, 1.0]], "not finite"),
            (array![[1.0, 0.5], [0.25, 1.0]], "not symmetric: element (1, 0) is 0.25 but (0, 1) is 0.5"),
        ] {
            let error = factor(&npy::write(matrix.view()), 2).unwrap_err();
            assert!(matches!(&error, SampleError::Input { reason, .. } if reason.contains(expected)), "{error}");
        }
        assert!(matches!(factor(b"nonsense", 2), Err(SampleError::Input { .. })));
    }

    #[test]
    fn refuses_options_without_sense() {
        for size in [0, 1 << 20, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
        for tile in [0, 1] {
            Trial { tile: Some(tile), ..Trial::default() }.refused(&SAMPLE, "tile");
        }
        Trial { output: Some("l.txt".into()), ..Trial::default() }.refused(&SAMPLE, "output");
        Trial { size: Some(3), inputs: vec!["a.npy".into()], ..Trial::default() }.refused(&SAMPLE, "size");
        Trial { inputs: vec!["a.npy".into(), "b.npy".into()], ..Trial::default() }.refused(&SAMPLE, "input");
        Trial { inputs: vec!["/none.npy".into()], ..Trial::default() }.refused_file(&SAMPLE);
    }

    #[test]
    fn check_notices_one_wrong_element() {
        let a = array![[4.0, 2.0], [2.0, 5.0]];
        let mut l = array![[2.0, 0.0], [1.0, 2.0]];
        assert!(check(relative_residual(a.view(), l.view()), 2).passed);
        for wrong in [1e-12, f64::NAN] {
            l[[1, 0]] = 1.0 + wrong;
            assert!(!check(relative_residual(a.view(), l.view()), 2).passed, "{wrong}");
        }
    }
}
