//! `lu`: P A = L U with partial pivoting, over parts of matrices: columns of tiles, tiles of those, and triangles of tiles.
//!
//! Each column of tiles is one buffer, row by row, of which tasks have access to parts. `getrf` factors what is left of a column, all of its tiles at once, as the pivot may be in any of them; `laswp` swaps the
//! same rows in another column; `trsm` solves a tile of U with the triangle below the diagonal; `gemm` updates a tile. What two parts have in common is all that makes tasks wait. Source: Buttari,
//! Langou, Kurzak & Dongarra, "A class of parallel tiled linear algebra algorithms for multicore architectures", Parallel Computing 35(1), 2009; the names are LAPACK's.

use ndarray::{Array2, ArrayView2, Axis, Ix2, Zip, s};
use poniard::{
    Buffer, Handle, Mutable, Part, PartError, Priority, RegionError, TaskOptions, View, ViewMut, buffer, overwrite, read, with_options,
    write,
};

use super::dense::Dense;
use super::limits;
use super::product::accumulate;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "lu",
    summary: "P A = L U with partial pivoting: tasks with access to columns, tiles and triangles of one matrix",
    options: &[
        SampleOption { name: "size", meaning: "rows and columns of a random matrix, default 512" },
        SampleOption { name: "tile", meaning: "rows and columns of a tile, default 128" },
        SampleOption { name: "seed", meaning: "what the random matrix is drawn from, default 0" },
        SampleOption { name: "input", meaning: "a .npy file with a matrix of at least as many rows as columns, instead of a random one" },
    ],
    kernels: false,
    run,
};

/// A column depends on those before it: there is no row to divide by.
#[derive(Debug, thiserror::Error)]
#[error(
    "the matrix is singular: its columns 0 to {column} (counting from 0) depend on each other; the largest pivot that is left, in the tiles from row {first_row} on, is {value:e}"
)]
struct Singular {
    column: usize,
    first_row: usize,
    value: f64,
}

/// Factors a column of tiles from the diagonal on, in place; `pivots[c]` is the row that is swapped with row c, counting both from the first row of the part. `first` is that row's place in the matrix, and
/// that of the first column. `negligible[c]` is what rounding may have left of column c where nothing should be.
fn getrf(mut column: ViewMut<'_, f64>, pivots: &mut Vec<usize>, first: usize, negligible: Vec<f64>) -> Result<(), Singular> {
    let mut a = column.array_mut::<Ix2>();
    pivots.clear();
    for c in 0..a.ncols() {
        let (mut pivot, mut largest) = (c, 0.0);
        for row in c..a.nrows() {
            let value = a[[row, c]].abs();
            if value > largest {
                (pivot, largest) = (row, value);
            }
        }
        // Written so that NaN is refused too.
        if !(largest > negligible[c] && largest.is_finite()) {
            return Err(Singular { column: first + c, first_row: first, value: largest });
        }
        swap_rows(a.view_mut(), c, pivot);
        pivots.push(pivot);
        let (above, mut below) = a.view_mut().split_at(Axis(0), c + 1);
        let divisor = above[[c, c]];
        let pivot_row = above.slice(s![c, c + 1..]);
        for mut row in below.rows_mut() {
            let factor = row[c] / divisor;
            row[c] = factor;
            row.slice_mut(s![c + 1..]).scaled_add(-factor, &pivot_row);
        }
    }
    Ok(())
}

fn swap_rows(a: ndarray::ArrayViewMut2<'_, f64>, one: usize, two: usize) {
    if one != two {
        let (one, two) = (one.min(two), one.max(two));
        let (mut above, mut below) = a.split_at(Axis(0), two);
        Zip::from(above.row_mut(one)).and(below.row_mut(0)).for_each(std::mem::swap);
    }
}

/// Swaps the rows of another column as `getrf` has swapped those of its own.
fn laswp(pivots: &[usize], mut column: ViewMut<'_, f64>) {
    let mut a = column.array_mut::<Ix2>();
    for (row, pivot) in pivots.iter().enumerate() {
        swap_rows(a.view_mut(), row, *pivot);
    }
}

/// Solves L X = `tile` in place. L has ones on its diagonal, and what is below it is `lower`.
fn trsm(lower: View<'_, f64>, mut tile: ViewMut<'_, f64>) {
    let mut x = tile.array_mut::<Ix2>();
    for row in 0..x.nrows() {
        let (above, mut current) = x.view_mut().split_at(Axis(0), row);
        let mut current = current.row_mut(0);
        for (factor, solved) in lower.row(row).iter().zip(above.rows()) {
            current.scaled_add(-factor, &solved);
        }
    }
}

/// Subtracts L U from a tile in place.
fn gemm(l: View<'_, f64>, u: View<'_, f64>, mut tile: ViewMut<'_, f64>) {
    accumulate(tile.array_mut::<Ix2>(), -1.0, l.array::<Ix2>(), u.array::<Ix2>());
}

/// Of each column of tiles, what `getrf` has put there.
type Pivots = Vec<Mutable<Vec<usize>>>;

/// The parts of a column of tiles.
struct Parts {
    /// Its tiles, from above.
    tiles: Vec<Part<f64>>,
    /// From each tile that is on a diagonal on.
    from: Vec<Part<f64>>,
    /// Below the diagonal of its tile that is on the diagonal.
    lower: Part<f64>,
}

/// Cuts column `index`.
fn parts(column: &Mutable<Buffer<f64>>, index: usize, problem: &Dense) -> Result<Parts, PartError> {
    let column = column.whole()?.shaped((problem.matrix.nrows(), problem.columns.span(index).len()))?;
    let tiles = (0..problem.rows.count()).map(|row| column.rows(problem.rows.span(row))).collect::<Result<Vec<_>, _>>()?;
    let from = (0..problem.columns.count()).map(|row| column.rows(problem.rows.span(row).start..)).collect::<Result<_, _>>()?;
    let lower = tiles[index].strictly_lower()?;
    Ok(Parts { tiles, from, lower })
}

/// Factors in place; the rows that were swapped, for each column of tiles.
fn factor(handle: &Handle, problem: &Dense, columns: &[Mutable<Buffer<f64>>]) -> Result<Result<Pivots, PartError>, RegionError> {
    let n = columns.len();
    let scale = problem.matrix.nrows() as f64 * f64::EPSILON;
    let first = TaskOptions::new().priority(Priority::High);
    handle.region(|r| {
        let pivots: Pivots = (0..n).map(|_| Mutable::new(Vec::new())).collect();
        let a = columns.iter().enumerate().map(|(index, column)| parts(column, index, problem)).collect::<Result<Vec<_>, _>>()?;
        for k in 0..n {
            let span = problem.columns.span(k);
            let original = problem.matrix.slice(s![.., span.clone()]);
            let negligible: Vec<f64> = original.columns().into_iter().map(|column| scale * largest(column.iter())).collect();
            with_options(first.clone(), || r.spawn(getrf, (write(&a[k].from[k]), overwrite(&pivots[k]), span.start, negligible)));
            for j in (0..n).filter(|j| *j != k) {
                r.spawn(laswp, (read(&pivots[k]), write(&a[j].from[k])));
            }
            for j in k + 1..n {
                r.spawn(trsm, (read(&a[k].lower), write(&a[j].tiles[k])));
                for i in k + 1..a[j].tiles.len() {
                    r.spawn(gemm, (read(&a[k].tiles[i]), read(&a[j].tiles[k]), write(&a[j].tiles[i])));
                }
            }
        }
        Ok(pivots)
    })
}

/// The largest magnitude.
fn largest<'a>(values: impl Iterator<Item = &'a f64>) -> f64 {
    values.fold(0.0, |most: f64, value| most.max(value.abs()))
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    // A, its columns, L, U, P A, and of the check two products and a magnitude.
    let problem = Dense::new(context, 8)?;
    let (rows, columns) = problem.matrix.dim();
    let (high, wide) = (problem.rows.count() as u64, problem.columns.count() as u64);
    limits::tasks("tile", wide.checked_mul(wide).and_then(|pairs| pairs.checked_mul(high + 2)))?;
    let column = |span: std::ops::Range<usize>| {
        let (first, width) = (span.start, span.len());
        buffer::from_fn(rows * width, |place| problem.matrix[[place / width, first + place % width]])
    };
    let a: Vec<Mutable<Buffer<f64>>> =
        (0..problem.columns.count()).map(|index| Mutable::new(column(problem.columns.span(index)))).collect();
    let pivots = factor(context.runtime, &problem, &a)?.expect("the parts are inside their columns");

    let (mut l, mut u) = (Array2::zeros((rows, columns)), Array2::zeros((columns, columns)));
    for (index, column) in a.iter().enumerate() {
        let span = problem.columns.span(index);
        for (place, value) in column.fetch()?.iter().enumerate() {
            let (row, column) = (place / span.len(), span.start + place % span.len());
            if row > column {
                l[[row, column]] = *value;
            } else {
                u[[row, column]] = *value;
            }
        }
        context.progress.advance(index as u64 + 1, wide);
    }
    l.diag_mut().fill(1.0);
    let mut permuted = problem.matrix.clone();
    let mut swaps = 0;
    for (index, pivots) in pivots.iter().enumerate() {
        let first = problem.columns.span(index).start;
        for (row, pivot) in pivots.fetch()?.iter().enumerate() {
            swaps += usize::from(row != *pivot);
            swap_rows(permuted.view_mut(), first + row, first + pivot);
        }
    }
    let least = u.diag().iter().fold(f64::INFINITY, |least: f64, value| least.min(value.abs()));
    Ok(Outcome {
        lines: vec![
            format!("P A = L U, {rows} x {columns} in {} tiles", high * wide),
            format!("rows swapped {swaps}, smallest pivot {least:.3e}"),
        ],
        values: vec![
            ("rows", rows.into()),
            ("columns", columns.into()),
            ("tiles", (high * wide).into()),
            ("swaps", swaps.into()),
            ("smallest_pivot", least.into()),
        ],
        check: check(permuted.view(), l.view(), u.view()),
        output: None,
    })
}

/// Each element of P A - L U beside the same element of |L| |U|, by ndarray's product, which shares no code with the tasks' one; and that no element of L is beyond 1, which is what pivoting is for.
///
/// What rounding may add up to: Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., theorem 9.3.
fn check(permuted: ArrayView2<'_, f64>, l: ArrayView2<'_, f64>, u: ArrayView2<'_, f64>) -> Check {
    let (product, magnitude) = (l.dot(&u), l.mapv(f64::abs).dot(&u.mapv(f64::abs)));
    let mut worst: f64 = 0.0;
    for ((expected, found), magnitude) in permuted.iter().zip(&product).zip(&magnitude) {
        // Subnormal numbers have no relative precision.
        let ratio = (expected - found).abs() / magnitude.max(f64::MIN_POSITIVE);
        worst = if ratio > worst || ratio.is_nan() { ratio } else { worst };
        if ratio.is_nan() {
            break;
        }
    }
    let allowed = f64::EPSILON * (16.0 + u.nrows() as f64);
    let factors = largest(l.iter());
    Check {
        // Written so that NaN does not pass.
        passed: worst <= allowed && factors <= 1.0 && product.dim() == permuted.dim(),
        text: format!("max |P A - L U| / |L| |U| = {worst:.1e} by ndarray's product (allowed {allowed:.1e}), max |L| = {factors}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::dense::trials;
    use super::super::npy;
    use super::super::trial::Trial;
    use super::*;
    use ndarray::array;

    #[test]
    fn runs_at_awkward_sizes() {
        trials::passes_at_awkward_sizes(&SAMPLE);
    }

    fn trial(tile: u64) -> Trial {
        Trial { tile: Some(tile), ..Trial::default() }
    }

    fn factored(matrix: &Array2<f64>, tile: u64) -> Outcome {
        trials::factored(&SAMPLE, trial(tile), matrix)
    }

    #[test]
    fn matrices_may_have_more_rows_than_columns() {
        trials::passes_with_more_rows_than_columns(factored);
    }

    #[test]
    fn takes_the_largest_pivot_of_all_tiles() {
        // Each pivot is in another tile than the row that it is swapped with.
        let outcome = factored(&array![[0.0, 0.0, 2.0], [0.0, 3.0, 0.0], [4.0, 0.0, 0.0]], 1);
        assert!(outcome.values.contains(&("swaps", 1.into())), "{:?}", outcome.values);
        assert!(outcome.values.contains(&("smallest_pivot", 2.0.into())), "{:?}", outcome.values);
        // Without pivoting the factors of this one would be 1e20.
        factored(&array![[1e-20, 1.0], [1.0, 1.0]], 1);
        for scale in [1e-200, 1e200] {
            factored(&(array![[2.0, 0.1], [0.1, 3.0]] * scale), 1);
        }
    }

    #[test]
    fn a_singular_matrix_is_the_error_of_its_task() {
        let rank_two = array![[1.0, 2.0, 3.0, 1.0], [4.0, 5.0, 6.0, 0.0], [7.0, 8.0, 9.0, 0.0], [0.0, 0.0, 0.0, 1.0]];
        // Of rounding, 1e-16 is left of the last pivot.
        let rounded = array![[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9]];
        for (matrix, tile, column) in [
            (rank_two.clone(), 2, 2),
            (rank_two, 9, 2),
            (rounded.clone(), 1, 2),
            (rounded, 9, 2),
            (Array2::zeros((3, 3)), 2, 0),
            (array![[1.0, 2.0], [2.0, 4.0]], 1, 1),
        ] {
            let error = trial(tile).run_on(&SAMPLE, &npy::write(matrix.view())).unwrap_err();
            assert!(matches!(&error, SampleError::Task(error) if error.root_task().ends_with("getrf")), "{error:?}");
            let expected = format!("the matrix is singular: its columns 0 to {column} (counting from 0) depend on each other");
            assert!(error.to_string().contains(&expected), "{error}");
        }
        // A column that is small is none that depends on others.
        factored(&array![[1.0, 0.0], [0.0, 1e-30]], 1);
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for (matrix, expected) in [
            (array![[1.0, 2.0]], "more columns than rows, 1 x 2: take its transpose"),
            (array![[1.0, f64::NAN], [0.0, 1.0]], "not finite: element (0, 1) is NaN"),
        ] {
            let error = trial(2).run_on(&SAMPLE, &npy::write(matrix.view())).unwrap_err();
            assert!(matches!(&error, SampleError::Input { reason, .. } if reason.contains(expected)), "{error}");
        }
        assert!(matches!(trial(2).run_on(&SAMPLE, b"nonsense"), Err(SampleError::Input { .. })));
        for size in [0, 1 << 20, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
        for tile in [0, 1] {
            Trial { tile: Some(tile), ..Trial::default() }.refused(&SAMPLE, "tile");
        }
        Trial { size: Some(3), inputs: vec!["a.npy".into()], ..Trial::default() }.refused(&SAMPLE, "size");
    }

    #[test]
    fn check_notices_one_wrong_element_and_a_pivot_that_was_not_the_largest() {
        let (mut l, u) = (array![[1.0, 0.0], [0.5, 1.0]], array![[2.0, 1.0], [0.0, 3.0]]);
        let a = l.dot(&u);
        assert!(check(a.view(), l.view(), u.view()).passed);
        for wrong in [1e-12, f64::NAN] {
            l[[1, 0]] = 0.5 + wrong;
            assert!(!check(a.view(), l.view(), u.view()).passed, "{wrong}");
        }
        let (l, u) = (array![[1.0, 0.0], [2.0, 1.0]], array![[1.0, 1.0], [0.0, 1.0]]);
        assert!(!check(l.dot(&u).view(), l.view(), u.view()).passed);
    }
}
