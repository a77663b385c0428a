//! The product of two tiles, by the `gemm` crate on one thread: the runtime is what makes it parallel.
#![expect(unsafe_code, reason = "gemm's kernel takes pointers and strides")]

use ndarray::{ArrayView2, ArrayViewMut2};

/// `c += a · b` for row-major tiles: `c` is rows × `columns`, `a` is rows × `depth`, `b` is `depth` × `columns`.
pub(crate) fn add_product(c: &mut [f64], a: &[f64], b: &[f64], columns: usize, depth: usize) {
    let rows = c.len() / columns;
    let fits = "the tiles fit together";
    let c = ArrayViewMut2::from_shape((rows, columns), c).expect(fits);
    let (a, b) = (ArrayView2::from_shape((rows, depth), a).expect(fits), ArrayView2::from_shape((depth, columns), b).expect(fits));
    accumulate(c, 1.0, a, b);
}

/// `c += factor · a · b`, for matrices that may be parts of others. A transposed factor is its view, transposed.
///
/// # Panics
/// When their shapes do not fit together.
pub fn accumulate(mut c: ArrayViewMut2<'_, f64>, factor: f64, a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) {
    let ((rows, columns), depth) = (c.dim(), a.ncols());
    assert!(a.nrows() == rows && b.dim() == (depth, columns), "{rows} x {columns} += {:?} x {:?}", a.dim(), b.dim());
    let strides = |strides: &[isize]| (strides[0], strides[1]);
    let (c_strides, a_strides, b_strides) = (strides(c.strides()), strides(a.strides()), strides(b.strides()));
    // SAFETY: the assertion above makes every element that the sizes and strides reach one of its view; `c` is borrowed exclusively and its elements do not lie upon each
    // other, so it overlaps neither `a` nor `b`.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            c.as_mut_ptr(),
            c_strides.1,
            c_strides.0,
            true,
            a.as_ptr(),
            a_strides.1,
            a_strides.0,
            b.as_ptr(),
            b_strides.1,
            b_strides.0,
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
    use ndarray::{Array2, array, s};

    #[test]
    fn agrees_with_pencil_and_paper() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [7.0, 8.0, 9.0, 10.0, 11.0, 12.0]);
        let mut c = [1.0, 0.0, 0.0, 0.0];
        add_product(&mut c, &a, &b, 2, 3);
        assert_eq!(c, [59.0, 64.0, 139.0, 154.0]);
        let (a, b) = (array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], array![[7.0, 9.0, 11.0], [8.0, 10.0, 12.0]]);
        let mut c = array![[1.0, 0.0], [0.0, 0.0]];
        accumulate(c.view_mut(), -1.0, a.view(), b.t());
        assert_eq!(c, array![[-57.0, -64.0], [-139.0, -154.0]]);
    }

    #[test]
    fn works_on_parts_of_matrices() {
        let (a, b) = (array![[1.0, 2.0, 9.0], [3.0, 4.0, 9.0]], array![[5.0, 0.0, 6.0], [7.0, 0.0, 8.0]]);
        let mut c = Array2::zeros((4, 4));
        accumulate(c.slice_mut(s![1..;2, 1..3]), 2.0, a.slice(s![.., ..2]), b.slice(s![.., ..;2]));
        assert_eq!(c, array![[0.0; 4], [0.0, 38.0, 44.0, 0.0], [0.0; 4], [0.0, 86.0, 100.0, 0.0]]);
    }

    #[test]
    fn adds_nothing_where_there_is_nothing() {
        let mut c = array![[1.0, 2.0]];
        accumulate(c.view_mut(), 1.0, Array2::zeros((1, 0)).view(), Array2::zeros((0, 2)).view());
        accumulate(c.slice_mut(s![..0, ..]), 1.0, Array2::ones((0, 3)).view(), Array2::ones((3, 2)).view());
        assert_eq!(c, array![[1.0, 2.0]]);
    }

    #[test]
    #[should_panic(expected = "2 x 2 += (2, 3) x (2, 2)")]
    fn refuses_shapes_that_do_not_fit() {
        accumulate(Array2::zeros((2, 2)).view_mut(), 1.0, Array2::zeros((2, 3)).view(), Array2::zeros((2, 2)).view());
    }
}
