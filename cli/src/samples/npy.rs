//! Matrices in NumPy's `.npy` format: f64 or f32, row-major or column-major, either byte order.
//!
//! `ndarray-npy` parses the header. The data is taken here, after the length that the header claims has been compared with the length of
//! the file: a damaged header must not make us ask for memory that no file fills.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ndarray::ArrayView2;
use ndarray_npy::WriteNpyExt;
use ndarray_npy::npy::header::{Header, Layout};
use poniard::{Buffer, buffer};

use super::files::{read, refuse};
use super::limits::free_bytes;
use crate::sample::SampleError;

/// What every `.npy` file starts with.
const MAGIC: &[u8] = b"\x93NUMPY";

/// A matrix that a file held.
#[derive(Debug)]
pub(crate) struct Matrix {
    /// At least one.
    pub(crate) rows: usize,
    /// At least one.
    pub(crate) columns: usize,
    /// Row-major.
    pub(crate) values: Buffer<f64>,
    /// Relative precision of the element type in the file.
    pub(crate) precision: f64,
}

/// A square matrix that a file held.
#[derive(Debug)]
pub(crate) struct SquareMatrix {
    /// Rows, and columns.
    pub(crate) size: usize,
    /// Row-major.
    pub(crate) values: Buffer<f64>,
    /// Relative precision of the element type in the file.
    pub(crate) precision: f64,
}

/// An element from its bytes.
type Convert = fn(&[u8]) -> f64;

/// Reads a square matrix.
///
/// # Errors
/// [`SampleError::Input`] when the file cannot be read, is damaged, or holds something else.
pub(crate) fn read_square(file: &Path) -> Result<SquareMatrix, SampleError> {
    square(read_matrix(file)?).map_err(|reason| refuse(file, reason))
}

/// Reads a matrix.
///
/// # Errors
/// As [`read_square`].
pub(crate) fn read_matrix(file: &Path) -> Result<Matrix, SampleError> {
    // Looked at first, so that a file of another kind, which may be endless, is not read as a whole.
    let mut start = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(MAGIC.len() as u64).read_to_end(&mut start))
        .map_err(|error| refuse(file, error.to_string()))?;
    check_start(&start).map_err(|reason| refuse(file, reason))?;
    // The copy in f64 and what is computed from it must fit as well.
    let bytes = read(file, free_bytes() / 8)?;
    parse(&bytes).map_err(|reason| refuse(file, reason))
}

fn check_start(bytes: &[u8]) -> Result<(), String> {
    if bytes.starts_with(MAGIC) { Ok(()) } else { Err("not a .npy file: it does not start with \\x93NUMPY".into()) }
}

fn square(Matrix { rows, columns, values, precision }: Matrix) -> Result<SquareMatrix, String> {
    if rows != columns {
        return Err(format!("not square: {rows} rows and {columns} columns"));
    }
    Ok(SquareMatrix { size: rows, values, precision })
}

fn parse(bytes: &[u8]) -> Result<Matrix, String> {
    check_start(bytes)?;
    // The header of a plain matrix is about 120 bytes; a long one is damage, and parsing it nests as deep as it says.
    let header_bytes = match bytes.get(6..12) {
        Some([1, _, low, high, _, _]) => u64::from(u16::from_le_bytes([*low, *high])),
        Some([_, _, length @ ..]) => length.iter().rev().fold(0, |sum, byte| sum * 256 + u64::from(*byte)),
        _ => return Err("ends inside its header".into()),
    };
    if header_bytes > 1024 {
        return Err(format!("its header claims {header_bytes} bytes, far too long for a matrix of numbers"));
    }
    let mut data = bytes;
    let header = Header::from_reader(&mut data).map_err(|error| format!("damaged header: {error}"))?;
    let [rows, columns] = header.shape[..] else {
        return Err(format!("not a matrix: it has {} dimensions instead of 2", header.shape.len()));
    };
    if rows == 0 || columns == 0 {
        return Err(format!("empty: {rows} rows and {columns} columns"));
    }
    let (element_bytes, precision, convert): (usize, f64, Convert) = match header.type_descriptor.to_string().trim_matches('\'') {
        "<f8" => (8, f64::EPSILON, |b| f64::from_le_bytes(b.try_into().unwrap_or_default())),
        ">f8" => (8, f64::EPSILON, |b| f64::from_be_bytes(b.try_into().unwrap_or_default())),
        "<f4" => (4, f64::from(f32::EPSILON), |b| f32::from_le_bytes(b.try_into().unwrap_or_default()).into()),
        ">f4" => (4, f64::from(f32::EPSILON), |b| f32::from_be_bytes(b.try_into().unwrap_or_default()).into()),
        other => return Err(format!("its elements are of type {other}: float64 and float32 are supported")),
    };
    let wanted = rows.checked_mul(columns).and_then(|elements| elements.checked_mul(element_bytes));
    if wanted != Some(data.len()) {
        let problem = if wanted.is_none_or(|wanted| data.len() < wanted) { "truncated" } else { "too long" };
        return Err(format!("{problem}: {rows} x {columns} elements of {element_bytes} bytes do not take {} bytes", data.len()));
    }
    let mut values = buffer::try_zeroed(rows * columns).map_err(|error| error.to_string())?;
    for (index, element) in data.chunks_exact(element_bytes).enumerate() {
        let place = match header.layout {
            Layout::Fortran => (index % rows) * columns + index / rows,
            _ => index,
        };
        values[place] = convert(element);
    }
    Ok(Matrix { rows, columns, values, precision })
}

/// The content of a `.npy` file with this matrix.
pub(crate) fn write(matrix: ArrayView2<'_, f64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    matrix.write_npy(&mut bytes).expect("writing to memory does not fail, and a matrix has a header");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, ShapeBuilder, array};

    #[test]
    fn reads_both_types_and_both_orders() {
        let expected = [1.0, 2.0, 3.0, 4.0];
        let plain = array![[1.0, 2.0], [3.0, 4.0]];
        let mut fortran = Array2::<f64>::zeros((2, 2).f());
        fortran.assign(&plain);
        let mut single = Vec::new();
        plain.mapv(|value| value as f32).write_npy(&mut single).unwrap();
        let mut swapped = write(plain.view());
        let start = swapped.len() - 32;
        swapped[start..].chunks_exact_mut(8).for_each(<[u8]>::reverse);
        let descriptor = swapped.iter().position(|byte| *byte == b'<').unwrap();
        swapped[descriptor] = b'>';
        for bytes in [write(plain.view()), write(fortran.view()), single, swapped] {
            assert_eq!(parse(&bytes).unwrap().values[..], expected);
        }
    }

    #[test]
    fn reads_matrices_that_are_not_square_in_both_orders() {
        let plain = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
        let mut fortran = Array2::<f64>::zeros((2, 3).f());
        fortran.assign(&plain);
        for bytes in [write(plain.view()), write(fortran.view())] {
            let matrix = parse(&bytes).unwrap();
            assert_eq!((matrix.rows, matrix.columns, &matrix.values[..]), (2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0][..]));
        }
    }

    #[test]
    fn refuses_what_is_not_a_square_matrix() {
        let good = write(array![[1.0, 2.0], [3.0, 4.0]].view());
        let refusal = |bytes: &[u8]| parse(bytes).and_then(square).unwrap_err();
        assert!(refusal(b"").contains("not a .npy file"));
        assert!(refusal(&good[..9]).contains("ends inside"));
        assert!(refusal(&good[..100]).contains("damaged header"));
        assert!(refusal(&good[..good.len() - 1]).contains("truncated"));
        assert!(refusal(&[&good[..], b"x"].concat()).contains("too long"));
        assert!(refusal(&write(array![[1.0, 2.0]].view())).contains("not square"));
        assert!(refusal(&write(Array2::zeros((0, 0)).view())).contains("empty"));
        let mut other = Vec::new();
        array![[1i32]].write_npy(&mut other).unwrap();
        assert!(refusal(&other).contains("<i4"));
        let mut other = Vec::new();
        array![1.0].write_npy(&mut other).unwrap();
        assert!(refusal(&other).contains("1 dimensions"));
        assert!(refusal(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").contains("far too long"));
    }
}
