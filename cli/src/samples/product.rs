//! The product of two tiles, by the `gemm` crate on one thread: the runtime is what makes it parallel.
#![expect(unsafe_code, reason = "gemm's kernel takes pointers and strides")]

/// How the second factor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Second {
    /// depth × columns.
    AsIs,
    /// columns × depth: its transpose is the factor.
    Transposed,
}

/// `c += factor · a · b` for row-major tiles: `c` is rows × `columns`, `a` is rows × `depth`.
pub(crate) fn add_product(c: &mut [f64], factor: f64, a: &[f64], b: &[f64], second: Second, columns: usize, depth: usize) {
    let rows = c.len() / columns;
    assert!(c.len() == rows * columns && a.len() == rows * depth && b.len() == columns * depth, "the tiles fit together");
    let (b_column_stride, b_row_stride) = match second {
        Second::AsIs => (1, columns as isize),
        Second::Transposed => (depth as isize, 1),
    };
    // SAFETY: the assertion above makes every element that the sizes and strides reach lie in its slice; `c` is borrowed exclusively, so it
    // overlaps neither `a` nor `b`.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            c.as_mut_ptr(),
            1,
            columns as isize,
            true,
            a.as_ptr(),
            1,
            depth as isize,
            b.as_ptr(),
            b_column_stride,
            b_row_stride,
            1.0,
            factor,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_pencil_and_paper() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let (b, b_transposed) = ([7.0, 8.0, 9.0, 10.0, 11.0, 12.0], [7.0, 9.0, 11.0, 8.0, 10.0, 12.0]);
        for (b, second) in [(b, Second::AsIs), (b_transposed, Second::Transposed)] {
            let mut c = [1.0, 0.0, 0.0, 0.0];
            add_product(&mut c, -1.0, &a, &b, second, 2, 3);
            assert_eq!(c, [-57.0, -64.0, -139.0, -154.0]);
        }
    }
}
