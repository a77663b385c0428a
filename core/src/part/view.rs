//! What a task sees of a part: elements of a value that other tasks may use elsewhere at the same time.
#![expect(unsafe_code, reason = "elements of a value whose other elements belong to other tasks meanwhile")]

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Index, IndexMut, Range};
use std::ptr::NonNull;

use ndarray::{ArrayView, ArrayViewD, ArrayViewMut, ArrayViewMutD, Axis, Dimension, IxDyn, ShapeBuilder};

use super::form::Form;

/// The elements of a part, to be read: a parameter of a task function, for which [`read`](crate::read) of a [`Part`](crate::Part) is given, or of a
/// [`Mutable`](crate::Mutable) that has parts.
///
/// Elements are named by their place in the part: `view[[row, column]]`, `view[[place]]`. Those of a triangle or a band have the rows and columns that they have in
/// their matrix; the others are not there.
pub struct View<'a, E> {
    first: NonNull<E>,
    form: &'a Form,
    of: PhantomData<&'a [E]>,
}

/// The elements of a part, to be changed: for [`write`](crate::write()) and [`overwrite`](crate::overwrite). Otherwise as [`View`].
pub struct ViewMut<'a, E> {
    first: NonNull<E>,
    form: &'a Form,
    of: PhantomData<&'a mut [E]>,
}

// SAFETY: it is a `&[E]` in pieces.
unsafe impl<E: Sync> Send for View<'_, E> {}
// SAFETY: as for `Send`.
unsafe impl<E: Sync> Sync for View<'_, E> {}
// SAFETY: it is a `&mut [E]` in pieces.
unsafe impl<E: Send> Send for ViewMut<'_, E> {}
// SAFETY: as for `Send`.
unsafe impl<E: Sync> Sync for ViewMut<'_, E> {}

impl<E> Clone for View<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for View<'_, E> {}

/// The distance of an element from the part's first, in elements; none if it is not in the part.
#[inline]
fn place(form: &Form, index: &[usize]) -> Option<isize> {
    let (lens, strides) = (form.lens(), form.strides());
    let inside = index.len() == lens.len() && index.iter().zip(lens).all(|(at, len)| at < len);
    let in_band = || match (form.band, index) {
        (None, _) => true,
        (Some((low, high)), [row, column]) => (low..=high).contains(&(*column as i64 - *row as i64)),
        (Some(_), _) => false,
    };
    (inside && in_band()).then(|| index.iter().zip(strides).map(|(at, stride)| *at as isize * stride).sum())
}

/// The columns that a row of a matrix has in a band.
pub(super) fn columns(form: &Form, row: usize) -> Option<Range<usize>> {
    let &[rows, columns] = form.lens() else { return None };
    if row >= rows {
        return None;
    }
    let (low, high) = form.band.unwrap_or((i64::MIN, i64::MAX));
    let first = (row as i64).saturating_add(low).clamp(0, columns as i64);
    let behind = (row as i64).saturating_add(high).saturating_add(1).clamp(first, columns as i64);
    Some(first as usize..behind as usize)
}

/// Where a row's first element lies, and how many there are; none if they do not lie side by side.
fn row_run(form: &Form, row: usize) -> Option<(isize, usize)> {
    match form.lens() {
        [len] => (row == 0 && (form.strides()[0] == 1 || *len <= 1)).then_some((0, *len)),
        [_, _] => {
            let columns = columns(form, row)?;
            (form.strides()[1] == 1 || columns.len() <= 1).then(|| {
                let first =
                    if columns.is_empty() { 0 } else { columns.start as isize * form.strides()[1] + row as isize * form.strides()[0] };
                (first, columns.len())
            })
        }
        _ => None,
    }
}

/// How many elements there are, if they lie side by side in their order.
pub(super) fn dense(form: &Form) -> Option<usize> {
    let mut expected = 1;
    for (len, stride) in form.lens().iter().zip(form.strides()).rev() {
        if *len == 0 {
            return Some(0);
        }
        if *len > 1 && *stride != expected {
            return None;
        }
        expected *= *len as isize;
    }
    form.band.is_none().then_some(expected as usize)
}

fn count(form: &Form) -> usize {
    match (form.band, form.lens()) {
        (Some(_), [rows, _]) => (0..*rows).filter_map(|row| columns(form, row)).map(|columns| columns.len()).sum(),
        (_, lens) => lens.iter().product(),
    }
}

/// The axes that run backwards, and the shape with all of them turned: ndarray makes views of such, and turns them again.
fn turned(form: &Form) -> (isize, Vec<usize>, Vec<usize>) {
    if form.lens().contains(&0) {
        // Nothing is looked at, and a step from its first element might leave the value.
        return (0, vec![1; form.lens().len()], Vec::new());
    }
    let mut lowest = 0;
    let mut turned = Vec::new();
    for (axis, (len, stride)) in form.lens().iter().zip(form.strides()).enumerate() {
        if *stride < 0 && *len > 1 {
            lowest += (*len as isize - 1) * stride;
            turned.push(axis);
        }
    }
    // A stride that is never taken may be anything, and ndarray wants none that is negative.
    let strides = form.lens().iter().zip(form.strides()).map(|(len, stride)| if *len > 1 { stride.unsigned_abs() } else { 1 }).collect();
    (lowest, strides, turned)
}

#[cold]
#[track_caller]
fn outside(form: &Form, index: &[usize]) -> ! {
    match form.band {
        Some((low, high)) => {
            panic!("element {index:?} is not in this part: shape {:?}, columns from row + {low} to row + {high}", form.lens())
        }
        None => panic!("element {index:?} is not in this part: shape {:?}", form.lens()),
    }
}

#[cold]
#[track_caller]
fn scattered(form: &Form, row: usize) -> ! {
    panic!("row {row} of this part is no slice: shape {:?}, strides {:?}", form.lens(), form.strides())
}

/// What both kinds of view can do.
macro_rules! reading {
    ($view:ident) => {
        impl<'a, E> $view<'a, E> {
            /// # Safety
            /// `first` is the first element of a part of this form, whose elements are there, and for `'a` nobody changes one of them, nor for a `ViewMut` looks at
            /// one, but by this view.
            pub(crate) unsafe fn new(first: NonNull<E>, form: &'a Form) -> Self {
                Self { first, form, of: PhantomData }
            }

            /// The length of each dimension. Of a triangle or a band, that of the matrix.
            pub fn shape(&self) -> &'a [usize] {
                self.form.lens()
            }

            /// Number of elements.
            pub fn len(&self) -> usize {
                count(self.form)
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// One element; none if it is not in the part.
            #[inline]
            pub fn get<const N: usize>(&self, index: [usize; N]) -> Option<&E> {
                let place = place(self.form, &index)?;
                // SAFETY: the element is in the part.
                let element = unsafe { self.first.offset(place) };
                // SAFETY: the element is there, and borrowed with the view.
                Some(unsafe { element.as_ref() })
            }

            /// The columns that a row has: all of them, but in a triangle or a band.
            ///
            /// # Panics
            /// When there is no such row, or the part is no matrix.
            #[track_caller]
            pub fn columns(&self, row: usize) -> Range<usize> {
                match columns(self.form, row) {
                    Some(columns) => columns,
                    None => outside(self.form, &[row]),
                }
            }

            /// The elements of a row, of those [`columns`](Self::columns); of a list, all of it is row 0.
            ///
            /// # Panics
            /// When there is no such row, or its elements do not lie side by side.
            #[track_caller]
            pub fn row(&self, row: usize) -> &[E] {
                let Some((first, len)) = row_run(self.form, row) else { scattered(self.form, row) };
                // SAFETY: the element is in the part, or nothing of the slice is looked at.
                let first = unsafe { self.first.offset(first) };
                // SAFETY: the elements lie side by side, are there, and are borrowed with the view.
                unsafe { std::slice::from_raw_parts(first.as_ptr(), len) }
            }

            /// All elements, if they lie side by side in their order.
            pub fn as_slice(&self) -> Option<&[E]> {
                let len = dense(self.form)?;
                // SAFETY: so they do; they are there, and borrowed with the view.
                Some(unsafe { std::slice::from_raw_parts(self.first.as_ptr(), len) })
            }

            /// The same elements for ndarray.
            ///
            /// # Panics
            /// When the part has another number of dimensions than `D`, or is a triangle or a band.
            #[track_caller]
            pub fn array<D: Dimension>(&self) -> ArrayView<'_, E, D> {
                assert!(self.form.band.is_none(), "a triangle or a band is no array: look at its rows");
                let (lowest, strides, turned) = turned(self.form);
                // SAFETY: the element is in the part.
                let first = unsafe { self.first.offset(lowest) };
                let shape = IxDyn(self.form.lens()).strides(IxDyn(&strides));
                // SAFETY: these are the elements of the part, which are borrowed with the view; they do not lie upon each other.
                let mut view = unsafe { ArrayViewD::from_shape_ptr(shape, first.as_ptr()) };
                turned.into_iter().for_each(|axis| view.invert_axis(Axis(axis)));
                match view.into_dimensionality() {
                    Ok(view) => view,
                    Err(_) => panic!("this part has the shape {:?}, which is no array of {:?} dimensions", self.form.lens(), D::NDIM),
                }
            }
        }

        impl<E> Index<usize> for $view<'_, E> {
            type Output = E;

            #[inline]
            #[track_caller]
            fn index(&self, index: usize) -> &E {
                &self[[index]]
            }
        }

        impl<E, const N: usize> Index<[usize; N]> for $view<'_, E> {
            type Output = E;

            #[inline]
            #[track_caller]
            fn index(&self, index: [usize; N]) -> &E {
                match self.get(index) {
                    Some(element) => element,
                    None => outside(self.form, &index),
                }
            }
        }

        impl<E> fmt::Debug for $view<'_, E> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($view)).field("shape", &self.shape()).finish_non_exhaustive()
            }
        }
    };
}
reading!(View);
reading!(ViewMut);

impl<E> ViewMut<'_, E> {
    /// The same view, lent for a while.
    pub fn reborrow(&mut self) -> ViewMut<'_, E> {
        ViewMut { first: self.first, form: self.form, of: PhantomData }
    }

    /// One element; none if it is not in the part.
    #[inline]
    pub fn get_mut<const N: usize>(&mut self, index: [usize; N]) -> Option<&mut E> {
        let place = place(self.form, &index)?;
        // SAFETY: the element is in the part.
        let mut element = unsafe { self.first.offset(place) };
        // SAFETY: the element is there, and borrowed with the view.
        Some(unsafe { element.as_mut() })
    }

    /// As [`row`](Self::row).
    ///
    /// # Panics
    /// As [`row`](Self::row).
    #[track_caller]
    pub fn row_mut(&mut self, row: usize) -> &mut [E] {
        let Some((first, len)) = row_run(self.form, row) else { scattered(self.form, row) };
        // SAFETY: the element is in the part, or nothing of the slice is looked at.
        let first = unsafe { self.first.offset(first) };
        // SAFETY: the elements lie side by side, are there, and are borrowed with the view.
        unsafe { std::slice::from_raw_parts_mut(first.as_ptr(), len) }
    }

    /// As [`as_slice`](Self::as_slice).
    pub fn as_mut_slice(&mut self) -> Option<&mut [E]> {
        let len = dense(self.form)?;
        // SAFETY: so they lie; they are there, and borrowed with the view.
        Some(unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), len) })
    }

    /// As [`array`](Self::array).
    ///
    /// # Panics
    /// As [`array`](Self::array).
    #[track_caller]
    pub fn array_mut<D: Dimension>(&mut self) -> ArrayViewMut<'_, E, D> {
        assert!(self.form.band.is_none(), "a triangle or a band is no array: look at its rows");
        let (lowest, strides, turned) = turned(self.form);
        // SAFETY: the element is in the part.
        let first = unsafe { self.first.offset(lowest) };
        let shape = IxDyn(self.form.lens()).strides(IxDyn(&strides));
        // SAFETY: these are the elements of the part, which are borrowed with the view; they do not lie upon each other.
        let mut view = unsafe { ArrayViewMutD::from_shape_ptr(shape, first.as_ptr()) };
        turned.into_iter().for_each(|axis| view.invert_axis(Axis(axis)));
        match view.into_dimensionality() {
            Ok(view) => view,
            Err(_) => panic!("this part has the shape {:?}, which is no array of {:?} dimensions", self.form.lens(), D::NDIM),
        }
    }
}

impl<E> IndexMut<usize> for ViewMut<'_, E> {
    #[inline]
    #[track_caller]
    fn index_mut(&mut self, index: usize) -> &mut E {
        &mut self[[index]]
    }
}

impl<E, const N: usize> IndexMut<[usize; N]> for ViewMut<'_, E> {
    #[inline]
    #[track_caller]
    fn index_mut(&mut self, index: [usize; N]) -> &mut E {
        let form = self.form;
        match self.get_mut(index) {
            Some(element) => element,
            None => outside(form, &index),
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Ix1, Ix2, s};

    use super::*;

    fn numbers() -> Array2<f64> {
        Array2::from_shape_fn((4, 5), |(row, column)| (10 * row + column) as f64)
    }

    fn form(ranges: impl AsRef<[ndarray::SliceInfoElem]>) -> Form {
        Form::new(&[4, 5], &[5, 1]).and_then(|form| form.slice(ranges.as_ref())).unwrap_or_else(|error| panic!("{error}"))
    }

    fn view<'a>(of: &'a mut Array2<f64>, form: &'a Form) -> ViewMut<'a, f64> {
        let first = of.as_mut_ptr().wrapping_offset(form.start as isize);
        let Some(first) = NonNull::new(first) else { panic!("an array without elements") };
        // SAFETY: a part of the array, which is borrowed.
        unsafe { ViewMut::new(first, form) }
    }

    #[test]
    fn elements_are_those_of_the_slice_that_ndarray_makes() {
        let expected = numbers();
        let mut array = numbers();
        for ranges in [s![1..3, 2..5], s![..;2, ..;-1], s![..;-3, 1..4;2], s![3..3, ..]] {
            let form = form(ranges);
            let mut view = view(&mut array, &form);
            let slice = expected.slice(ranges);
            assert_eq!(view.array::<Ix2>(), slice);
            assert_eq!(view.array_mut::<Ix2>(), slice);
            assert_eq!(view.len(), slice.len());
            for ((row, column), value) in slice.indexed_iter() {
                assert_eq!(view[[row, column]], *value);
            }
            assert_eq!(view.as_slice(), slice.as_slice());
        }
        let column = form(s![.., 3]);
        assert_eq!(view(&mut array, &column).array::<Ix1>(), expected.slice(s![.., 3]));
        assert_eq!(view(&mut array, &column)[2], 23.0);
    }

    #[test]
    fn what_is_written_is_in_the_value() {
        let mut array = numbers();
        let form = form(s![1..3, 1..3]);
        let mut view = view(&mut array, &form);
        view.row_mut(0).fill(-1.0);
        view[[1, 1]] = -2.0;
        view.array_mut::<Ix2>()[[1, 0]] = -3.0;
        assert_eq!(array.slice(s![1..3, ..]), ndarray::array![[10., -1., -1., 13., 14.], [20., -3., -2., 23., 24.]]);
    }

    #[test]
    fn a_band_has_its_rows_and_nothing_else() {
        let mut array = numbers();
        let band = form(s![.., ..]).band((-1, 1), "band").unwrap_or_else(|error| panic!("{error}"));
        let view = view(&mut array, &band);
        assert_eq!((view.row(0), view.row(2)), (&[0., 1.][..], &[21., 22., 23.][..]));
        assert_eq!((view.columns(3), view.len()), (2..5, 11));
        assert_eq!((view.get([0, 1]), view.get([0, 2]), view.as_slice()), (Some(&1.0), None, None));
    }

    #[test]
    #[should_panic(expected = "element [1, 3] is not in this part: shape [4, 5], columns from row + 0 to row + 1")]
    fn an_element_outside_a_band_is_not_there() {
        let mut array = numbers();
        let band = form(s![.., ..]).band((0, 1), "band").unwrap_or_else(|error| panic!("{error}"));
        let _ = view(&mut array, &band)[[1, 3]];
    }

    #[test]
    #[should_panic(expected = "row 0 of this part is no slice: shape [4, 2], strides [5, 2]")]
    fn a_row_with_steps_is_no_slice() {
        let mut array = numbers();
        let form = form(s![.., ..4;2]);
        let _ = view(&mut array, &form).row(0);
    }
}
