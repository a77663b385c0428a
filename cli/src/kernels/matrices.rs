//! Matrices and linear equations.

use ndarray::Axis;
use poniard::KernelError;

use super::Definition;
use super::limits::{matrix_shape, numbers_fit};
use super::random::SplitMix64;
use super::value::{Matrix, Vector};
use super::vectors::generator;

pub(super) fn definitions(seed: u64) -> Vec<Definition> {
    vec![
        Definition::new("identity", "Ones on the diagonal.").form(["size"], |size: &f64| {
            let (rows, _) = matrix_shape(*size, *size)?;
            Ok(Matrix::eye(rows))
        }),
        Definition::new("random-matrix", "Uniform in 0 to 1, from the run's seed; different streams are independent (0 unless given).")
            .form(["rows", "columns"], move |rows: &f64, columns: &f64| random(*rows, *columns, generator(seed, 0.0)?))
            .form(["rows", "columns", "stream"], move |rows: &f64, columns: &f64, stream: &f64| {
                random(*rows, *columns, generator(seed, *stream)?)
            }),
        Definition::new("matmul", "The matrix product; a vector on the right is a column.")
            .form(["a", "b"], |a: &Matrix, b: &Matrix| {
                fits(a.ncols(), b.nrows())?;
                numbers_fit(a.nrows(), b.ncols())?;
                Ok(a.dot(b))
            })
            .form(["a", "b"], |a: &Matrix, b: &Vector| {
                fits(a.ncols(), b.len())?;
                Ok(a.dot(&ndarray::ArrayView1::from(b.as_slice())).to_vec())
            }),
        Definition::new("transpose", "Rows become columns.")
            .form(["matrix"], |matrix: &Matrix| matrix.t().as_standard_layout().into_owned()),
        Definition::new("trace", "The sum of the diagonal of a square matrix.").form(["matrix"], |matrix: &Matrix| {
            square(matrix)?;
            Ok(matrix.diag().sum())
        }),
        Definition::new("determinant", "The determinant of a square matrix, by elimination with row exchanges.")
            .form(["matrix"], |matrix: &Matrix| determinant(matrix)),
        Definition::new(
            "cholesky-factor",
            "The lower triangle L with L Lᵀ = matrix; fails unless the matrix is symmetric and positive definite.",
        )
        .form(["matrix"], |matrix: &Matrix| cholesky(matrix)),
        Definition::new("solve", "x with matrix x = right side, by elimination with row exchanges; fails on a singular matrix.").form(
            ["matrix", "right-side"],
            |matrix: &Matrix, right: &Vector| {
                fits(matrix.nrows(), right.len())?;
                solve(matrix, right)
            },
        ),
        Definition::new("reshape", "A vector as a matrix, row by row.").form(
            ["values", "rows", "columns"],
            |values: &Vector, rows: &f64, columns: &f64| {
                let shape = matrix_shape(*rows, *columns)?;
                Matrix::from_shape_vec(shape, values.clone())
                    .map_err(|_| KernelError::new(format!("a vector of {} does not fill a {}x{} matrix", values.len(), shape.0, shape.1)))
            },
        ),
        Definition::new("flatten", "A matrix as a vector, row by row.")
            .form(["matrix"], |matrix: &Matrix| matrix.iter().copied().collect::<Vector>()),
        Definition::new("row-sums", "The sum of each row.").form(["matrix"], |matrix: &Matrix| matrix.sum_axis(Axis(1)).to_vec()),
        Definition::new("column-sums", "The sum of each column.").form(["matrix"], |matrix: &Matrix| matrix.sum_axis(Axis(0)).to_vec()),
    ]
}

fn random(rows: f64, columns: f64, mut generator: SplitMix64) -> Result<Matrix, KernelError> {
    let shape = matrix_shape(rows, columns)?;
    Ok(Matrix::from_shape_simple_fn(shape, || generator.next_unit()))
}

fn fits(columns: usize, rows: usize) -> Result<(), KernelError> {
    if columns == rows { Ok(()) } else { Err(KernelError::new(format!("a side of {columns} does not go with a side of {rows}"))) }
}

fn square(matrix: &Matrix) -> Result<usize, KernelError> {
    let (rows, columns) = matrix.dim();
    if rows == columns { Ok(rows) } else { Err(KernelError::new(format!("the matrix is {rows}x{columns}, not square"))) }
}

/// The row at or below `column` with the greatest entry in it, and that entry's size. NaN counts as nothing.
fn pivot(matrix: &Matrix, column: usize) -> (usize, f64) {
    (column..matrix.nrows())
        .map(|row| (row, matrix[[row, column]].abs()))
        .fold((column, 0.0), |best, next| if next.1 > best.1 { next } else { best })
}

/// Subtracts the multiple of row `column` from every row below it that clears their entries in `column`; `right` follows.
fn eliminate(matrix: &mut Matrix, column: usize, mut right: Option<&mut Vector>) {
    let (above, mut below) = matrix.view_mut().split_at(Axis(0), column + 1);
    let pivot_row = above.row(column);
    for (offset, mut row) in below.rows_mut().into_iter().enumerate() {
        let factor = row[column] / pivot_row[column];
        row.scaled_add(-factor, &pivot_row);
        if let Some(right) = right.as_deref_mut() {
            right[column + 1 + offset] -= factor * right[column];
        }
    }
}

fn exchange_rows(matrix: &mut Matrix, first: usize, second: usize) {
    if first != second {
        let (mut above, mut below) = matrix.view_mut().split_at(Axis(0), first.max(second));
        ndarray::Zip::from(above.row_mut(first.min(second))).and(below.row_mut(0)).for_each(std::mem::swap);
    }
}

fn determinant(matrix: &Matrix) -> Result<f64, KernelError> {
    let size = square(matrix)?;
    let mut work = matrix.as_standard_layout().into_owned();
    let mut product = 1.0;
    for column in 0..size {
        let (row, _) = pivot(&work, column);
        if row != column {
            exchange_rows(&mut work, column, row);
            product = -product;
        }
        product *= work[[column, column]];
        if work[[column, column]] == 0.0 {
            return Ok(0.0);
        }
        eliminate(&mut work, column, None);
    }
    Ok(product)
}

fn solve(matrix: &Matrix, right: &Vector) -> Result<Vector, KernelError> {
    let size = square(matrix)?;
    let mut work = matrix.as_standard_layout().into_owned();
    let mut x = right.clone();
    // A pivot this small beside the matrix is rounding error: dividing by it would give digits that mean nothing.
    let greatest = work.iter().fold(0.0, |greatest: f64, value| greatest.max(value.abs()));
    let least_pivot = greatest * size as f64 * f64::EPSILON;
    for column in 0..size {
        let (row, found) = pivot(&work, column);
        if found.is_nan() || found <= least_pivot {
            return Err(KernelError::new(format!("the matrix is singular: no pivot in column {}", column + 1)));
        }
        exchange_rows(&mut work, column, row);
        x.swap(column, row);
        eliminate(&mut work, column, Some(&mut x));
    }
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|column| work[[row, column]] * x[column]).sum();
        x[row] = (x[row] - known) / work[[row, row]];
    }
    Ok(x)
}

fn cholesky(matrix: &Matrix) -> Result<Matrix, KernelError> {
    let size = square(matrix)?;
    let greatest = matrix.iter().fold(0.0, |greatest: f64, value| greatest.max(value.abs()));
    // Rounding in a product such as A Aᵀ leaves a few units in the last place between mirrored entries.
    let allowed = greatest * size as f64 * 4.0 * f64::EPSILON;
    let mut factor = Matrix::zeros((size, size));
    for row in 0..size {
        for column in 0..=row {
            if (matrix[[row, column]] - matrix[[column, row]]).abs() > allowed {
                return Err(KernelError::new(format!("the matrix is not symmetric: row {}, column {}", row + 1, column + 1)));
            }
            let known: f64 = (0..column).map(|inner| factor[[row, inner]] * factor[[column, inner]]).sum();
            let rest = matrix[[row, column]] - known;
            factor[[row, column]] = if row > column {
                rest / factor[[column, column]]
            } else if rest > 0.0 {
                rest.sqrt()
            } else {
                return Err(KernelError::new(format!("the matrix is not positive definite: row {}", row + 1)));
            };
        }
    }
    Ok(factor)
}
