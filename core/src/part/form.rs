//! How the elements of a part lie in memory, and parts of parts.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use ndarray::SliceInfoElem;
use thiserror::Error;

use super::spans::Spans;
use super::view::dense;

/// Dimensions that a value may have of which there are parts.
pub(crate) const DIMENSIONS_MAX: usize = 6;

/// Why there is no such part.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PartError {
    /// Another number of ranges than the value has dimensions.
    #[error("{given} ranges for {dimensions} dimensions: give one for each, `..` for all of it")]
    Dimensions {
        /// Ranges given.
        given: usize,
        /// Dimensions that there are.
        dimensions: usize,
    },
    /// A range that leaves the value.
    #[error("{wanted} of dimension {dimension}, which has {len} elements")]
    OutOfBounds {
        /// What was asked for, in words.
        wanted: String,
        /// Which dimension, from 0.
        dimension: usize,
        /// Its length.
        len: usize,
    },
    /// A new axis, or a step of 0.
    #[error("{what} is nothing that a part can have")]
    Unsupported {
        /// What, in words.
        what: &'static str,
    },
    /// A triangle, a band or a diagonal of something that is no matrix.
    #[error("a {what} of something with {dimensions} dimensions: only a matrix has one")]
    NoMatrix {
        /// What was asked for.
        what: &'static str,
        /// Dimensions that there are.
        dimensions: usize,
    },
    /// A part of a triangle or a band.
    #[error("a part of a triangle or a band: take the rectangle first, and the triangle of that")]
    OfBand,
    /// A shape of another number of elements than there are, or for elements that do not lie side by side.
    #[error("the shape {wanted:?} for the {len} elements of a part of the shape {found:?}{}", if *.is_dense { "" } else { ", which do not lie side by side" })]
    Shape {
        /// The shape that was asked for.
        wanted: Vec<usize>,
        /// That of the part.
        found: Vec<usize>,
        /// Its elements.
        len: usize,
        /// Whether they lie side by side, row by row.
        is_dense: bool,
    },
    /// A value of more dimensions than parts may have.
    #[error("parts have at most 6 dimensions, and this has {dimensions}")]
    TooManyDimensions {
        /// Dimensions that there are.
        dimensions: usize,
    },
    /// A value whose elements do not lie in one piece of memory that it says of itself.
    #[error("the value has an element stride that is 0 or elements that lie upon each other")]
    Overlapping,
}

/// Elements of a rectangle, or a band of one.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Position of the first element, from where the value's first element lies.
    pub(crate) start: i64,
    dimensions: usize,
    lens: [usize; DIMENSIONS_MAX],
    strides: [isize; DIMENSIONS_MAX],
    /// Of a matrix: column less row of those elements that belong to it, both limits included.
    pub(crate) band: Option<(i64, i64)>,
}

impl Form {
    /// A whole value.
    pub(crate) fn new(lens: &[usize], strides: &[isize]) -> Result<Self, PartError> {
        debug_assert_eq!(lens.len(), strides.len(), "a stride for each dimension");
        if lens.len() > DIMENSIONS_MAX {
            return Err(PartError::TooManyDimensions { dimensions: lens.len() });
        }
        let mut form = Self { start: 0, dimensions: lens.len(), lens: [1; DIMENSIONS_MAX], strides: [0; DIMENSIONS_MAX], band: None };
        form.lens[..lens.len()].copy_from_slice(lens);
        form.strides[..lens.len()].copy_from_slice(strides);
        Ok(form)
    }

    /// A list of so many.
    pub(crate) fn list(len: usize) -> Self {
        let mut form = Self { start: 0, dimensions: 1, lens: [1; DIMENSIONS_MAX], strides: [0; DIMENSIONS_MAX], band: None };
        (form.lens[0], form.strides[0]) = (len, 1);
        form
    }

    /// The same elements in another place, where they have other strides.
    pub(super) fn laid(&self, start: i64, strides: &[isize]) -> Self {
        debug_assert_eq!(strides.len(), self.dimensions, "a stride for each dimension");
        let mut form = Self { start, strides: [0; DIMENSIONS_MAX], ..*self };
        form.strides[..self.dimensions].copy_from_slice(strides);
        form
    }

    pub(crate) fn lens(&self) -> &[usize] {
        &self.lens[..self.dimensions]
    }

    pub(crate) fn strides(&self) -> &[isize] {
        &self.strides[..self.dimensions]
    }

    pub(crate) fn spans(&self) -> Spans {
        match (self.band, self.matrix("band")) {
            (Some(band), Ok(sides)) => Spans::of_band(self.start, sides, band),
            _ => Spans::of_rectangle(self.start, self.lens().iter().copied().zip(self.strides().iter().copied())),
        }
    }

    /// Rows and columns with their strides.
    fn matrix(&self, what: &'static str) -> Result<[(usize, isize); 2], PartError> {
        match (self.lens(), self.strides()) {
            (&[rows, columns], &[row_stride, column_stride]) => Ok([(rows, row_stride), (columns, column_stride)]),
            _ => Err(PartError::NoMatrix { what, dimensions: self.dimensions }),
        }
    }

    fn rectangle(&self) -> Result<(), PartError> {
        if self.band.is_some() { Err(PartError::OfBand) } else { Ok(()) }
    }

    /// A part of it, as ndarray's `s!` names it. An index takes its dimension away.
    pub(crate) fn slice(&self, ranges: &[SliceInfoElem]) -> Result<Self, PartError> {
        self.rectangle()?;
        if ranges.len() != self.dimensions {
            return Err(PartError::Dimensions { given: ranges.len(), dimensions: self.dimensions });
        }
        let mut form = Self { start: self.start, dimensions: 0, lens: [1; DIMENSIONS_MAX], strides: [0; DIMENSIONS_MAX], band: None };
        for (dimension, (range, (len, stride))) in
            ranges.iter().zip(self.lens().iter().copied().zip(self.strides().iter().copied())).enumerate()
        {
            let outside = |wanted: String| PartError::OutOfBounds { wanted, dimension, len };
            // Counted from the end if negative, as ndarray does.
            let absolute = |position: isize| if position < 0 { position.checked_add_unsigned(len) } else { Some(position) };
            match *range {
                SliceInfoElem::Index(index) => {
                    let at = absolute(index).and_then(|at| usize::try_from(at).ok()).filter(|at| *at < len);
                    let at = at.ok_or_else(|| outside(format!("element {index}")))?;
                    form.start += at as i64 * stride as i64;
                }
                SliceInfoElem::Slice { start, end, step } => {
                    let words = || outside(format!("{start}..{}", end.map(|end| end.to_string()).unwrap_or_default()));
                    let position = |at: isize| absolute(at).and_then(|at| usize::try_from(at).ok()).filter(|at| *at <= len);
                    let first = position(start).ok_or_else(words)?;
                    let behind = end.map_or(Some(len), position).ok_or_else(words)?;
                    if step == 0 {
                        return Err(PartError::Unsupported { what: "a step of 0" });
                    }
                    let width = behind.saturating_sub(first);
                    let count = width.div_ceil(step.unsigned_abs());
                    // Backwards from the last one, as ndarray does.
                    let begin = if step < 0 { behind.saturating_sub(1).max(first) } else { first };
                    form.start += begin as i64 * stride as i64;
                    form.lens[form.dimensions] = count;
                    form.strides[form.dimensions] = stride.wrapping_mul(step);
                    form.dimensions += 1;
                }
                _ => return Err(PartError::Unsupported { what: "a new axis" }),
            }
        }
        Ok(form)
    }

    /// A range of one dimension and all of the others.
    pub(crate) fn along(&self, dimension: usize, range: impl RangeBounds<usize>) -> Result<Self, PartError> {
        self.rectangle()?;
        if dimension >= self.dimensions {
            return Err(PartError::Dimensions { given: dimension + 1, dimensions: self.dimensions });
        }
        let len = self.lens[dimension];
        let first = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let behind = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(behind) => *behind,
            Bound::Unbounded => len,
        };
        if first > behind || behind > len {
            return Err(PartError::OutOfBounds { wanted: format!("{first}..{behind}"), dimension, len });
        }
        let mut form = *self;
        form.start += first as i64 * self.strides[dimension] as i64;
        form.lens[dimension] = behind - first;
        Ok(form)
    }

    /// Those elements of a matrix whose column less whose row is in a range.
    pub(crate) fn band(&self, band: (i64, i64), what: &'static str) -> Result<Self, PartError> {
        self.rectangle()?;
        self.matrix(what)?;
        Ok(Self { band: Some(band), ..*self })
    }

    /// The same elements, which have to lie side by side, in another shape.
    pub(crate) fn shaped(&self, wanted: &[usize]) -> Result<Self, PartError> {
        self.rectangle()?;
        if wanted.len() > DIMENSIONS_MAX {
            return Err(PartError::TooManyDimensions { dimensions: wanted.len() });
        }
        let (dense, len) = (dense(self), self.lens().iter().product());
        if dense.is_none() || wanted.iter().try_fold(1usize, |all, len| all.checked_mul(*len)) != Some(len) {
            return Err(PartError::Shape { wanted: wanted.into(), found: self.lens().into(), len, is_dense: dense.is_some() });
        }
        let mut form =
            Self { start: self.start, dimensions: wanted.len(), lens: [1; DIMENSIONS_MAX], strides: [0; DIMENSIONS_MAX], band: None };
        form.lens[..wanted.len()].copy_from_slice(wanted);
        Ok(Self { start: self.start, ..form.packed() })
    }

    /// The elements of a matrix whose row is their column, as a list.
    pub(crate) fn diagonal(&self) -> Result<Self, PartError> {
        self.rectangle()?;
        let [(rows, row_stride), (columns, column_stride)] = self.matrix("diagonal")?;
        let mut form = Self { dimensions: 1, lens: [1; DIMENSIONS_MAX], strides: [0; DIMENSIONS_MAX], ..*self };
        (form.lens[0], form.strides[0]) = (rows.min(columns), row_stride + column_stride);
        Ok(form)
    }

    /// The index of the element of a whole value that lies at a position, counted from where the first one lies.
    pub(crate) fn index_of(&self, position: i64) -> Vec<usize> {
        let mut index = vec![0; self.dimensions];
        // The largest stride first, as dimensions lie in each other.
        let mut order: Vec<usize> = (0..self.dimensions).filter(|dimension| self.lens[*dimension] > 1).collect();
        order.sort_by_key(|dimension| std::cmp::Reverse(self.strides[*dimension].unsigned_abs()));
        let lowest = |dimension: &usize| (self.strides[*dimension] as i64).min(0) * (self.lens[*dimension] as i64 - 1);
        let mut rest = position - self.start - order.iter().map(lowest).sum::<i64>();
        for dimension in order {
            let (stride, len) = (self.strides[dimension] as i64, self.lens[dimension]);
            let digit = (rest / stride.abs().max(1)) as usize;
            rest %= stride.abs().max(1);
            index[dimension] = if stride < 0 { (len - 1).saturating_sub(digit) } else { digit };
        }
        index
    }

    /// This, and what lies around it in `whole`, up to so many elements in each direction; `whole` has the same strides.
    pub(crate) fn widened(&self, whole: &Self, width: usize) -> Result<Self, PartError> {
        self.rectangle()?;
        if self.strides() != whole.strides() || whole.band.is_some() {
            return Err(PartError::Unsupported { what: "a halo around a part with steps, or with fewer dimensions than the value," });
        }
        // Where it begins in each dimension: the largest stride first, as dimensions lie in each other.
        let mut order: Vec<usize> = (0..self.dimensions).filter(|dimension| whole.lens[*dimension] > 1).collect();
        order.sort_by_key(|dimension| std::cmp::Reverse(whole.strides[*dimension].unsigned_abs()));
        let mut rest = self.start - whole.start;
        // Counted from the end that lies first in memory, so that no digit is negative.
        for dimension in &order {
            let stride = whole.strides[*dimension] as i64;
            if stride < 0 {
                rest -= stride * (whole.lens[*dimension] as i64 - 1);
            }
        }
        let mut form = *self;
        for dimension in order {
            let (stride, len) = (whole.strides[dimension] as i64, whole.lens[dimension]);
            if stride == 0 {
                return Err(PartError::Overlapping);
            }
            let digit = (rest / stride.abs()) as usize;
            rest %= stride.abs();
            let first = if stride < 0 { len - 1 - digit } else { digit };
            let before = first.min(width);
            let after = (len - first - self.lens[dimension]).min(width);
            form.start -= before as i64 * stride;
            form.lens[dimension] = before + self.lens[dimension] + after;
        }
        Ok(form)
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} from {} by {:?}", self.lens(), self.start, self.strides())?;
        if let Some((low, high)) = self.band { write!(f, " in {low}..={high}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::s;

    use super::*;

    fn square() -> Form {
        Form::new(&[4, 4], &[4, 1]).unwrap_or_else(|error| panic!("{error}"))
    }

    fn part(ranges: impl AsRef<[SliceInfoElem]>) -> Form {
        square().slice(ranges.as_ref()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn meet(one: &Form, two: &Form) -> bool {
        one.spans().meets(&two.spans())
    }

    #[test]
    fn corners_are_apart_and_the_middle_meets_them_all() {
        let corners = [part(s![..2, ..2]), part(s![..2, 2..]), part(s![2.., ..2]), part(s![2.., 2..])];
        let middle = part(s![1..3, 1..3]);
        for (i, one) in corners.iter().enumerate() {
            assert!(meet(one, &middle) && meet(one, &square()), "corner {i}");
            for (j, two) in corners.iter().enumerate() {
                assert_eq!(meet(one, two), i == j, "corners {i} and {j}");
            }
        }
    }

    #[test]
    fn rows_and_columns_meet_each_other_and_not_their_like() {
        for i in 0..4 {
            for j in 0..4 {
                assert_eq!(meet(&part(s![i, ..]), &part(s![j, ..])), i == j);
                assert_eq!(meet(&part(s![.., i]), &part(s![.., j])), i == j);
                assert!(meet(&part(s![i, ..]), &part(s![.., j])));
            }
            assert_eq!(meet(&part(s![i, ..]), &part(s![1..3, 1..3])), i == 1 || i == 2);
        }
    }

    #[test]
    fn triangles_meet_in_the_diagonal_only_where_both_have_it() {
        let band = |low, high| square().band((low, high), "band").unwrap_or_else(|error| panic!("{error}"));
        let (upper, lower) = (band(0, 9), band(-9, 0));
        let (strict_upper, strict_lower) = (band(1, 9), band(-9, -1));
        let diagonal = square().diagonal().unwrap_or_else(|error| panic!("{error}"));
        assert!(meet(&upper, &lower) && meet(&upper, &diagonal) && meet(&lower, &diagonal));
        assert!(!meet(&strict_upper, &strict_lower) && !meet(&strict_upper, &diagonal) && !meet(&strict_lower, &diagonal));
        assert!(!meet(&upper, &strict_lower) && meet(&upper, &strict_upper));
    }

    #[test]
    fn ranges_from_the_end_and_backwards_are_ndarrays() {
        let array = ndarray::Array2::from_shape_fn((4, 4), |(row, column)| 4 * row + column);
        let ranges = s![-3..;2, ..;-1];
        let form = part(ranges);
        let view = array.slice(ranges);
        assert_eq!((form.lens(), form.strides()), (view.shape(), view.strides()));
        assert_eq!(form.start, view[[0, 0]] as i64);
    }

    #[test]
    fn an_element_has_its_index_by_where_it_lies() {
        for strides in [[12, 4, 1], [1, 2, 6], [-12, 4, -1]] {
            let form = Form::new(&[2, 3, 4], &strides).unwrap_or_else(|error| panic!("{error}"));
            for index in [[0, 0, 0], [1, 2, 3], [1, 0, 2], [0, 2, 1]] {
                let position = index.iter().zip(strides).map(|(at, stride)| *at as i64 * stride as i64).sum();
                assert_eq!(form.index_of(position), index, "with strides {strides:?}");
            }
        }
    }

    #[test]
    fn a_halo_ends_at_the_edge() {
        let halo = |form: Form, width| form.widened(&square(), width).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(halo(part(s![1..2, 1..3]), 1), part(s![0..3, 0..4]));
        assert_eq!(halo(part(s![0..1, 3..4]), 2), part(s![0..3, 1..4]));
        let turned = Form::new(&[4, 4], &[-4, 1]).and_then(|form| form.along(0, 1..2));
        let whole = Form::new(&[4, 4], &[-4, 1]);
        let widened = turned.and_then(|form| form.widened(&whole?, 1));
        assert_eq!(widened, Form::new(&[4, 4], &[-4, 1]).and_then(|form| form.along(0, 0..3)));
    }

    #[test]
    fn what_cannot_be_a_part() {
        let of = |ranges: &[SliceInfoElem]| square().slice(ranges).err();
        let outside = |wanted: &str, dimension| Some(PartError::OutOfBounds { wanted: wanted.into(), dimension, len: 4 });
        assert_eq!(of(s![..5, ..].as_ref()), outside("0..5", 0));
        assert_eq!(of(s![.., 4].as_ref()), outside("element 4", 1));
        assert_eq!(of(s![.., -5..].as_ref()), outside("-5..", 1));
        assert_eq!(of(s![..].as_ref()), Some(PartError::Dimensions { given: 1, dimensions: 2 }));
        assert_eq!(square().along(1, 3..5).err(), outside("3..5", 1));
        assert_eq!(Form::list(3).diagonal().err(), Some(PartError::NoMatrix { what: "diagonal", dimensions: 1 }));
        let triangle = square().band((0, 9), "triangle");
        assert_eq!(triangle.and_then(|triangle| triangle.along(0, 0..1)).err(), Some(PartError::OfBand));
        assert_eq!(Form::new(&[1; 7], &[1; 7]).err(), Some(PartError::TooManyDimensions { dimensions: 7 }));
    }
}
