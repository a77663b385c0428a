//! `qr`: A = Q R in tiles, by blocks of Householder reflectors, with triangles of tiles as parts.
//!
//! For each diagonal tile k: `geqrt` factors it, `unmqr` applies its reflectors to the tiles to its right, and for each tile below `tsqrt` factors that together with the triangle R of the diagonal
//! tile, and `tsmqr` applies those reflectors to pairs of tiles. The reflectors of `geqrt` lie below the diagonal, and R is on it and above, so the `unmqr` of a tile and the `tsqrt` below it run at the same
//! time: they have no element in common. Source: Buttari, Langou, Kurzak & Dongarra, "Parallel tiled QR factorization for multicore architectures", Concurrency and Computation 20(13), 2008. Reflectors
//! are kept as I - V T Vᵀ: Schreiber & Van Loan, "A storage-efficient WY representation for products of Householder transformations", SIAM J. Sci. Stat. Comput. 10(1), 1989.

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut1, s};
use poniard::{Handle, Mutable, Part, PartError, Priority, RegionError, TaskOptions, View, ViewMut, overwrite, read, with_options, write};

use super::dense::Dense;
use super::product::accumulate;
use super::tiling::Tiling;
use super::{files, limits, npy};
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "qr",
    summary: "A = Q R in tiles: reflectors and triangles, which are parts of the same tiles",
    options: &[
        SampleOption { name: "size", meaning: "rows and columns of a random matrix, default 512" },
        SampleOption { name: "tile", meaning: "rows and columns of a tile, default 128" },
        SampleOption { name: "seed", meaning: "what the random matrix is drawn from, default 0" },
        SampleOption { name: "input", meaning: "a .npy file with a matrix of at least as many rows as columns, instead of a random one" },
        SampleOption { name: "output", meaning: "a .npy file for R, with zeros below the diagonal" },
    ],
    kernels: false,
    run,
};

/// Turns (alpha, rest) into (beta, 0): gives beta and tau, and puts the vector v of the reflector I - tau v vᵀ, but for its first element, which is 1, where `rest` was.
fn reflector(alpha: f64, mut rest: ArrayViewMut1<'_, f64>) -> (f64, f64) {
    let largest = rest.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    if largest == 0.0 {
        return (alpha, 0.0);
    }
    // Squares of very large or small numbers leave the range of f64.
    let scale = largest.max(alpha.abs());
    let squares: f64 = rest.iter().map(|value| (value / scale).powi(2)).sum();
    let beta = -(scale * ((alpha / scale).powi(2) + squares).sqrt()).copysign(alpha);
    // Halved, as the difference of the largest numbers is none.
    let half = alpha / 2.0 - beta / 2.0;
    rest.mapv_inplace(|value| value / 2.0 / half);
    (beta, -half / (beta / 2.0))
}

/// Adds `factor` times `other`.
fn add(mut to: ArrayViewMut1<'_, f64>, factor: f64, other: ArrayView1<'_, f64>) {
    to.scaled_add(factor, &other);
}

/// Column `c` of T, of reflector `c` with `tau`; `products` are the scalar products of its vector with those before.
fn grow(t: &mut Array2<f64>, c: usize, tau: f64, products: ArrayView1<'_, f64>) {
    for row in 0..c {
        t[[row, c]] = -tau * t.slice(s![row, row..c]).dot(&products.slice(s![row..c]));
    }
    t[[c, c]] = tau;
}

/// Factors a tile in place: R on the diagonal and above, the vectors below. T becomes that of its reflectors.
fn geqrt(a: &mut Array2<f64>, t: &mut Array2<f64>) {
    let count = a.nrows().min(a.ncols());
    *t = Array2::zeros((count, count));
    for c in 0..count {
        let (beta, tau) = reflector(a[[c, c]], a.slice_mut(s![c + 1.., c]));
        // Of the rows from c on: the sum of v[i] a[i, ..], where v[c] is 1.
        let mut sums = a.row(c).to_owned();
        sums[c] = 0.0;
        for row in a.slice(s![c + 1.., ..]).rows() {
            let factor = row[c];
            add(sums.slice_mut(s![..c]), factor, row.slice(s![..c]));
            add(sums.slice_mut(s![c + 1..]), factor, row.slice(s![c + 1..]));
        }
        let right = sums.slice(s![c + 1..]);
        add(a.slice_mut(s![c, c + 1..]), -tau, right);
        for mut row in a.slice_mut(s![c + 1.., ..]).rows_mut() {
            let factor = -tau * row[c];
            add(row.slice_mut(s![c + 1..]), factor, right);
        }
        a[[c, c]] = beta;
        grow(t, c, tau, sums.slice(s![..c]));
    }
}

/// Factors a triangle R with a tile below it in place: the tile becomes the vectors, whose upper parts are the columns of the identity.
fn tsqrt(mut r: ViewMut<'_, f64>, a: &mut Array2<f64>, t: &mut Array2<f64>) {
    let count = a.ncols();
    *t = Array2::zeros((count, count));
    for c in 0..count {
        // The elements of a row of R from the diagonal on.
        let upper = r.row_mut(c);
        let (beta, tau) = reflector(upper[0], a.column_mut(c));
        upper[0] = beta;
        let mut sums = a.t().dot(&a.column(c));
        let mut right = sums.slice_mut(s![c + 1..]);
        right += &ArrayView1::from(&upper[1..]);
        add(ArrayViewMut1::from(&mut upper[1..]), -tau, right.view());
        for mut row in a.rows_mut() {
            let factor = -tau * row[c];
            add(row.slice_mut(s![c + 1..]), factor, right.view());
        }
        grow(t, c, tau, sums.slice(s![..c]));
    }
}

/// Which of the two: the product of reflectors, or its transpose, which is its inverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, poniard::Data)]
enum Side {
    Q,
    Transposed,
}

/// T, or its transpose, times `w`.
fn times(t: &Array2<f64>, side: Side, w: &Array2<f64>) -> Array2<f64> {
    let mut product = Array2::zeros(w.raw_dim());
    accumulate(product.view_mut(), 1.0, if side == Side::Q { t.view() } else { t.t() }, w.view());
    product
}

/// Applies the reflectors of `geqrt` to a tile in place; `below` are their vectors, of which the first element that is not zero is 1.
fn unmqr(below: View<'_, f64>, t: &Array2<f64>, tile: &mut Array2<f64>, side: Side) {
    let mut v = Array2::eye(tile.nrows()).slice_move(s![.., ..t.nrows()]);
    for (row, mut line) in v.rows_mut().into_iter().enumerate() {
        let elements = below.row(row);
        line.slice_mut(s![..elements.len().min(row)]).assign(&ArrayView1::from(elements));
    }
    let mut w = Array2::zeros((t.nrows(), tile.ncols()));
    accumulate(w.view_mut(), 1.0, v.t(), tile.view());
    accumulate(tile.view_mut(), -1.0, v.view(), times(t, side, &w).view());
}

/// Applies the reflectors of `tsqrt` to a pair of tiles in place; `v` are their vectors' lower parts.
fn tsmqr(v: &Array2<f64>, t: &Array2<f64>, upper: &mut Array2<f64>, lower: &mut Array2<f64>, side: Side) {
    let mut upper = upper.slice_mut(s![..t.nrows(), ..]);
    let mut w = upper.to_owned();
    accumulate(w.view_mut(), 1.0, v.t(), lower.view());
    let w = times(t, side, &w);
    upper -= &w;
    accumulate(lower.view_mut(), -1.0, v.view(), w.view());
}

type Tiles = Vec<Vec<Mutable<Array2<f64>>>>;

/// A matrix of tiles.
fn tiles(rows: Tiling, columns: Tiling, tile: impl Fn(usize, usize) -> Array2<f64>) -> Tiles {
    (0..rows.count()).map(|row| (0..columns.count()).map(|column| Mutable::new(tile(row, column))).collect()).collect()
}

/// A matrix that has been factored: the tiles with R and the vectors, and the matrices T.
struct Factored {
    a: Tiles,
    t: Tiles,
    /// What is below the diagonals of the diagonal tiles.
    below: Vec<Part<f64>>,
}

/// Factors a matrix in place.
#[expect(clippy::needless_range_loop, reason = "tiles are named by their row and column, as textbooks do")]
fn factor(handle: &Handle, a: Tiles, t: Tiles) -> Result<Result<Factored, PartError>, RegionError> {
    let n = a[0].len();
    let first = TaskOptions::new().priority(Priority::High);
    handle.region(|r| {
        let below = (0..n).map(|k| a[k][k].whole()?.strictly_lower()).collect::<Result<Vec<_>, _>>()?;
        let triangles = (0..n).map(|k| a[k][k].whole()?.upper()).collect::<Result<Vec<_>, _>>()?;
        for k in 0..n {
            with_options(first.clone(), || r.spawn(geqrt, (write(&a[k][k]), overwrite(&t[k][k]))));
            for j in k + 1..n {
                r.spawn(unmqr, (read(&below[k]), read(&t[k][k]), write(&a[k][j]), Side::Transposed));
            }
            for i in k + 1..a.len() {
                with_options(first.clone(), || r.spawn(tsqrt, (write(&triangles[k]), write(&a[i][k]), overwrite(&t[i][k]))));
                for j in k + 1..n {
                    r.spawn(tsmqr, (read(&a[i][k]), read(&t[i][k]), write(&a[k][j]), write(&a[i][j]), Side::Transposed));
                }
            }
        }
        Ok(Factored { a, t, below })
    })
}

/// Takes the first columns of the identity to those of Q: the reflectors in the other order.
#[expect(clippy::needless_range_loop, reason = "tiles are named by their row and column, as textbooks do")]
fn apply(handle: &Handle, factored: &Factored, q: &Tiles) -> Result<(), RegionError> {
    let Factored { a, t, below } = factored;
    let n = below.len();
    handle.region(|r| {
        for k in (0..n).rev() {
            // Further to the left there are zeros, which stay.
            for j in k..n {
                for i in (k + 1..a.len()).rev() {
                    r.spawn(tsmqr, (read(&a[i][k]), read(&t[i][k]), write(&q[k][j]), write(&q[i][j]), Side::Q));
                }
                r.spawn(unmqr, (read(&below[k]), read(&t[k][k]), write(&q[k][j]), Side::Q));
            }
        }
    })
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    files::check_output(context, &["npy"])?;
    // A, its tiles, those of T, Q in tiles and whole, R, and of the check a product.
    let problem = Dense::new(context, 7)?;
    let (rows, columns) = problem.matrix.dim();
    let (high, wide) = (problem.rows.count() as u64, problem.columns.count() as u64);
    limits::tasks("tile", wide.checked_mul(wide + 1).and_then(|pairs| pairs.checked_mul(high + 1)))?;

    let a = tiles(problem.rows, problem.columns, |row, column| problem.tile(row, column));
    let t = tiles(problem.rows, problem.columns, |_, _| Array2::zeros((0, 0)));
    let factored = factor(context.runtime, a, t)?.expect("triangles are parts of tiles");
    let unit = |row: usize, column: usize| {
        let (row, column) = (problem.rows.span(row), problem.columns.span(column));
        Array2::from_shape_fn((row.len(), column.len()), |at| f64::from(row.start + at.0 == column.start + at.1))
    };
    let q_tiles = tiles(problem.rows, problem.columns, unit);
    apply(context.runtime, &factored, &q_tiles)?;

    let (mut q, mut r) = (Array2::zeros((rows, columns)), Array2::zeros((columns, columns)));
    for (row, line) in q_tiles.iter().enumerate() {
        for (column, tile) in line.iter().enumerate() {
            let (in_rows, in_columns) = (problem.rows.span(row), problem.columns.span(column));
            q.slice_mut(s![in_rows.clone(), in_columns.clone()]).assign(&*tile.fetch()?);
            if row <= column {
                for ((row, column), value) in factored.a[row][column].fetch()?.indexed_iter() {
                    let at = [in_rows.start + row, in_columns.start + column];
                    if at[0] <= at[1] {
                        r[at] = *value;
                    }
                }
            }
            context.progress.advance((row as u64) * wide + column as u64 + 1, high * wide);
        }
    }
    let corner = r[[0, 0]];
    Ok(Outcome {
        lines: vec![format!("A = Q R, {rows} x {columns} in {} tiles; R[0][0] = {corner:.6}", high * wide)],
        values: vec![("rows", rows.into()), ("columns", columns.into()), ("tiles", (high * wide).into()), ("corner", corner.into())],
        check: check(problem.matrix.view(), q.view(), r.view()),
        output: context.output.map(|_| npy::write(r.view())),
    })
}

/// ‖A - Q R‖ / ‖A‖ and ‖QᵀQ - I‖ in the Frobenius norm, by `ndarray`'s own product, which shares no code with the tasks' one. Only the factors of A pass both, as R is a triangle.
fn check(a: ArrayView2<'_, f64>, q: ArrayView2<'_, f64>, r: ArrayView2<'_, f64>) -> Check {
    // Squares of very large or small numbers leave the range of f64, those of ratios do not. All zeros: the ratio is that of zero to one.
    let largest = a.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    let scale = if largest > 0.0 { largest } else { 1.0 };
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let product = q.dot(&r.mapv(|value| value / scale));
    let size = norm(&mut a.iter().map(|value| value / scale));
    let residual = norm(&mut a.iter().zip(&product).map(|(a, product)| a / scale - product)) / if size > 0.0 { size } else { 1.0 };
    let orthogonal = norm(&mut (q.t().dot(&q) - Array2::<f64>::eye(q.ncols())).into_iter());
    let allowed = f64::EPSILON * (16.0 + (q.nrows() + q.ncols()) as f64);
    Check {
        // Written so that NaN does not pass.
        passed: residual <= allowed && orthogonal <= allowed && product.dim() == a.dim(),
        text: format!("|A - Q R| / |A| = {residual:.1e} and |QᵀQ - I| = {orthogonal:.1e} by ndarray's product (allowed {allowed:.1e})"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::dense::trials;
    use super::super::trial::Trial;
    use super::*;
    use ndarray::array;

    #[test]
    fn runs_at_awkward_sizes() {
        trials::passes_at_awkward_sizes(&SAMPLE);
    }

    fn trial(tile: u64) -> Trial {
        Trial { tile: Some(tile), output: Some("r.npy".into()), ..Trial::default() }
    }

    fn factored(matrix: &Array2<f64>, tile: u64) -> Outcome {
        trials::factored(&SAMPLE, trial(tile), matrix)
    }

    #[test]
    fn matrices_may_have_more_rows_than_columns() {
        trials::passes_with_more_rows_than_columns(factored);
    }

    #[test]
    fn factors_a_known_matrix() {
        // Up to the signs of its rows, R is the only one.
        let outcome = factored(&array![[12.0, -51.0, 4.0], [6.0, 167.0, -68.0], [-4.0, 24.0, -41.0]], 2);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("r.npy"), outcome.output.unwrap()).unwrap();
        let r = npy::read_square(&folder.path().join("r.npy")).unwrap();
        for (found, expected) in r.values.iter().zip([14.0, 21.0, 14.0, 0.0, 175.0, 70.0, 0.0, 0.0, 35.0]) {
            assert!((found.abs() - expected).abs() < 1e-12, "{:?}", &r.values[..]);
        }
    }

    #[test]
    fn zeros_dependent_columns_and_extreme_scales_are_factored_too() {
        factored(&Array2::zeros((3, 3)), 2);
        factored(&array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]], 2);
        for scale in [1e-200, 1e200, 1e308] {
            factored(&(array![[0.2, 0.1], [0.1, 0.3], [0.7, -0.4]] * scale), 1);
        }
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
        for size in [0, 1 << 20, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
        for tile in [0, 1] {
            Trial { tile: Some(tile), ..Trial::default() }.refused(&SAMPLE, "tile");
        }
        Trial { output: Some("r.txt".into()), ..Trial::default() }.refused(&SAMPLE, "output");
    }

    #[test]
    fn check_notices_one_wrong_element_of_either_factor() {
        let (q, r) = (array![[0.6, -0.8], [0.8, 0.6]], array![[5.0, 1.0], [0.0, 2.0]]);
        let a = q.dot(&r);
        assert!(check(a.view(), q.view(), r.view()).passed);
        for wrong in [1e-12, f64::NAN] {
            let mut other = r.clone();
            other[[0, 1]] += wrong;
            assert!(!check(a.view(), q.view(), other.view()).passed, "{wrong}");
        }
        // Another product that is the same, but of no orthogonal matrix.
        assert!(!check(a.view(), (&q * 2.0).view(), (&r / 2.0).view()).passed);
    }
}
