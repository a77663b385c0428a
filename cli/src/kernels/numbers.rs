//! Arithmetic, on numbers and element by element.

use ndarray::Zip;
use poniard::KernelError;

use super::Definition;
use super::value::{Image, Matrix, Vector};

pub(super) fn definitions() -> Vec<Definition> {
    vec![
        Definition::new("constant", "The input itself: gives a literal or a file a name.")
            .form(["value"], |value: &f64| *value)
            .form(["value"], |value: &String| value.clone())
            .form(["value"], |value: &Vector| value.clone())
            .form(["value"], |value: &Matrix| value.clone())
            .form(["value"], |value: &Image| value.clone()),
        Definition::new("add", "The sum of all inputs, element by element.")
            .repeated("value", |values: &[&f64]| values.iter().copied().sum::<f64>())
            .repeated("value", |values: &[&Vector]| fold_vectors(values, |a, b| a + b))
            .repeated("value", |values: &[&Matrix]| fold_matrices(values, |a, b| a + b)),
        Definition::new("subtract", "The first input less the second, element by element.")
            .form(["minuend", "subtrahend"], |a: &f64, b: &f64| a - b)
            .form(["minuend", "subtrahend"], |a: &Vector, b: &Vector| fold_vectors(&[a, b], |a, b| a - b))
            .form(["minuend", "subtrahend"], |a: &Matrix, b: &Matrix| fold_matrices(&[a, b], |a, b| a - b)),
        Definition::new("multiply", "The product of all inputs, element by element; for the matrix product see `matmul`.")
            .repeated("value", |values: &[&f64]| values.iter().copied().product::<f64>())
            .repeated("value", |values: &[&Vector]| fold_vectors(values, |a, b| a * b))
            .repeated("value", |values: &[&Matrix]| fold_matrices(values, |a, b| a * b)),
        Definition::new("divide", "The first input over the second, element by element; dividing by 0 gives an infinity or NaN.")
            .form(["dividend", "divisor"], |a: &f64, b: &f64| a / b)
            .form(["dividend", "divisor"], |a: &Vector, b: &Vector| fold_vectors(&[a, b], |a, b| a / b))
            .form(["dividend", "divisor"], |a: &Matrix, b: &Matrix| fold_matrices(&[a, b], |a, b| a / b)),
        Definition::new("power", "The base raised to the exponent.")
            .form(["base", "exponent"], |base: &f64, exponent: &f64| base.powf(*exponent)),
        Definition::new("square-root", "The square root; fails below 0.").form(["value"], |value: &f64| {
            if *value < 0.0 { Err(KernelError::new(format!("{value} has no real square root"))) } else { Ok(value.sqrt()) }
        }),
        Definition::new("absolute", "The distance from 0.").form(["value"], |value: &f64| value.abs()),
        Definition::new("round", "The nearest whole number, halves away from 0.").form(["value"], |value: &f64| value.round()),
    ]
}

fn fold_vectors(values: &[&Vector], apply: fn(f64, f64) -> f64) -> Result<Vector, KernelError> {
    let Some((first, rest)) = values.split_first() else { return Ok(Vector::new()) };
    let mut result = (*first).clone();
    for value in rest {
        same_length(result.len(), value.len())?;
        for (into, from) in result.iter_mut().zip(value.iter()) {
            *into = apply(*into, *from);
        }
    }
    Ok(result)
}

fn fold_matrices(values: &[&Matrix], apply: fn(f64, f64) -> f64) -> Result<Matrix, KernelError> {
    let Some((first, rest)) = values.split_first() else { return Ok(Matrix::zeros((0, 0))) };
    let mut result = (*first).clone();
    for value in rest {
        if result.dim() != value.dim() {
            let ((rows, columns), (other_rows, other_columns)) = (result.dim(), value.dim());
            return Err(KernelError::new(format!("a {rows}x{columns} matrix does not go with a {other_rows}x{other_columns} matrix")));
        }
        Zip::from(&mut result).and(*value).for_each(|into, from| *into = apply(*into, *from));
    }
    Ok(result)
}

/// # Errors
/// When the lengths differ.
pub(super) fn same_length(first: usize, second: usize) -> Result<(), KernelError> {
    if first == second { Ok(()) } else { Err(KernelError::new(format!("a vector of {first} does not go with a vector of {second}"))) }
}
