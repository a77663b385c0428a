//! Which bytes of a block somebody uses: a run of them, or runs with gaps in between.
//!
//! Bytes with gaps are gathered for a device, one run behind the other in the order of the part, and what it has written is put back run by run. What is in the gaps is others': nothing
//! here looks at it.
#![expect(unsafe_code, reason = "copies bytes of blocks between which others use theirs")]

use std::ops::Range;
use std::sync::Arc;

use poniard_interface::{AllocateError, RawBuffer};

use crate::arena;
use crate::part::{Form, Spans};
use crate::wire::Place;

/// Bytes of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// From the first one in memory to the last one.
    pub(super) place: Place,
    /// Which of those, if not all.
    pub(super) strided: Option<Arc<Strided>>,
}

impl Extent {
    /// All of a block.
    pub(crate) fn of_block(block: Place) -> Self {
        Self { place: block, strided: None }
    }

    /// Bytes of a block.
    pub(crate) fn within(block: Place, bytes: Bytes) -> Self {
        let (range, strided) = match bytes {
            Bytes::Run(range) => (range, None),
            Bytes::Strided(strided) => {
                let (start, end) = strided.spans.bounds();
                (start as u64..end as u64, Some(strided))
            }
        };
        Self { place: Place { offset: block.offset + range.start, len_bytes: range.end - range.start, ..block }, strided }
    }

    /// Whether there are gaps.
    pub(super) fn is_strided(&self) -> bool {
        self.strided.is_some()
    }

    /// How many there are.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.strided.as_ref().map_or(self.place.len_bytes, |strided| strided.len_bytes())
    }

    /// From the first one in memory to the last one, counted from the arena's beginning.
    pub(super) fn range(&self) -> Range<u64> {
        self.place.offset..self.place.offset + self.place.len_bytes
    }

    /// Counted from the beginning of the block that they are of.
    pub(super) fn spans(&self, block: Place) -> Spans {
        match &self.strided {
            Some(strided) => strided.spans.clone(),
            None => Spans::run((self.place.offset - block.offset) as i64, self.place.len_bytes as usize),
        }
    }

    /// Puts contents into the block.
    ///
    /// # Safety
    /// * Somebody has a buffer of the block for as long as this takes.
    /// * Nobody else looks at these bytes meanwhile, or changes them.
    pub(super) unsafe fn put(&self, block: Place, contents: &[u8]) {
        match &self.strided {
            // SAFETY: the preconditions.
            Some(strided) => unsafe { strided.scatter(block, contents) },
            // SAFETY: the preconditions.
            None => unsafe { arena::bytes_of(self.place) }.copy_from_slice(contents),
        }
    }
}

/// Bytes of a buffer, counted from its beginning.
#[derive(Clone, Debug)]
pub(crate) enum Bytes {
    Run(Range<u64>),
    Strided(Arc<Strided>),
}

impl Bytes {
    /// Those of a part of a buffer whose elements have so many bytes.
    ///
    /// # Errors
    /// Why no array has them.
    pub(crate) fn of(form: &Form, spans: &Spans, element_bytes: usize) -> Result<Self, &'static str> {
        if let Some(run) = form.run() {
            return Ok(Self::Run(run.start * element_bytes as u64..run.end * element_bytes as u64));
        }
        let (run_len, sides) = form.sides().ok_or("it is given a triangle or a band of a matrix, and a kernel takes rectangles")?;
        let sides = sides.into_iter().map(|(count, stride)| (count, stride * element_bytes as isize)).collect();
        let first = form.start * element_bytes as i64;
        Ok(Self::Strided(Arc::new(Strided { first, run_bytes: run_len * element_bytes, sides, spans: spans.scaled(element_bytes) })))
    }
}

/// Runs of bytes with gaps in between, those of a rectangle. Two that are equal are the same bytes in the same order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Strided {
    /// Where the first run begins, in bytes from the block's beginning. Others may lie before it.
    first: i64,
    run_bytes: usize,
    /// How many there are in each dimension, and how far they are apart, in bytes. The last dimension runs fastest.
    sides: Box<[(usize, isize)]>,
    spans: Spans,
}

impl Strided {
    fn len_bytes(&self) -> u64 {
        self.sides.iter().fold(self.run_bytes as u64, |product, (count, _)| product * *count as u64)
    }

    /// What these bytes of a block are, one run behind the other, in memory of its own.
    ///
    /// # Safety
    /// * Somebody has a buffer of the block for as long as this takes.
    /// * Nobody changes these bytes meanwhile.
    ///
    /// # Errors
    /// When there is no memory.
    pub(super) unsafe fn gather(&self, block: Place) -> Result<RawBuffer, AllocateError> {
        let mut gathered = arena::allocate_as(self.len_bytes(), false)?;
        let (mut to, from) = (gathered.as_bytes_mut().as_mut_ptr(), arena::first_byte(block));
        self.runs(&mut |at| {
            // SAFETY: the run lies in the block, whose memory is initialised and which nobody changes (precondition); there are as many runs as there is room for.
            unsafe { copy(from.wrapping_offset(at), to, self.run_bytes) };
            to = to.wrapping_add(self.run_bytes);
        });
        Ok(gathered)
    }

    /// Puts them back.
    ///
    /// # Safety
    /// As for [`Extent::put`].
    unsafe fn scatter(&self, block: Place, gathered: &[u8]) {
        assert_eq!(gathered.len() as u64, self.len_bytes(), "there are as many bytes as were taken");
        let (mut from, to) = (gathered.as_ptr(), arena::first_byte(block));
        self.runs(&mut |at| {
            // SAFETY: the run lies in the block, where nobody else uses it (precondition); there are as many as were gathered.
            unsafe { copy(from, to.wrapping_offset(at), self.run_bytes) };
            from = from.wrapping_add(self.run_bytes);
        });
    }

    /// Calls `visit` with where each run begins, in their order.
    fn runs(&self, visit: &mut impl FnMut(isize)) {
        fn all(sides: &[(usize, isize)], at: isize, visit: &mut impl FnMut(isize)) {
            match sides {
                [] => visit(at),
                [(count, stride)] => (0..*count as isize).for_each(|step| visit(at + step * stride)),
                [(count, stride), inner @ ..] => (0..*count as isize).for_each(|step| all(inner, at + step * stride, visit)),
            }
        }
        all(&self.sides, self.first as isize, visit);
    }
}

/// Copies a run. Those of one element, as of a column, are most often of one of two lengths.
///
/// # Safety
/// As for `std::ptr::copy_nonoverlapping`.
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    match len {
        // SAFETY: the precondition; an array of bytes may lie anywhere.
        4 => unsafe { std::ptr::copy_nonoverlapping(from.cast::<[u8; 4]>(), to.cast(), 1) },
        // SAFETY: the same.
        8 => unsafe { std::ptr::copy_nonoverlapping(from.cast::<[u8; 8]>(), to.cast(), 1) },
        // SAFETY: the precondition.
        _ => unsafe { std::ptr::copy_nonoverlapping(from, to, len) },
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, SliceInfoElem, s};

    use super::*;

    fn strided(form: &Form) -> Arc<Strided> {
        match Bytes::of(form, &form.spans(), size_of::<u32>()) {
            Ok(Bytes::Strided(strided)) => strided,
            other => panic!("{form:?}: {other:?}"),
        }
    }

    #[test]
    fn what_is_gathered_is_the_part_row_by_row_and_comes_back_to_its_place() {
        let cube = Array3::from_shape_fn((4, 5, 6), |(i, j, k)| (100 * i + 10 * j + k) as u32);
        let whole = Form::new(cube.shape(), cube.strides()).unwrap_or_else(|error| panic!("{error}"));
        let bytes: Vec<u8> = cube.iter().flat_map(|element| element.to_ne_bytes()).collect();
        let ranges: [[SliceInfoElem; 3]; 6] =
            [*s![1..3, .., 2..4], *s![..;2, 1..4;2, ..;-1], *s![.., 2, ..], *s![.., .., 3], *s![..;-1, 4, 1..2], *s![2, ..;3, 1..]];
        for ranges in ranges {
            let form = whole.slice(&ranges).unwrap_or_else(|error| panic!("{error}"));
            let strided = strided(&form);
            let mut raw = arena::allocate_as(bytes.len() as u64, false).unwrap_or_else(|error| panic!("{error}"));
            raw.as_bytes_mut().copy_from_slice(&bytes);
            let block = arena::place_of(&raw).unwrap_or_else(|| panic!("it is in an arena"));
            // SAFETY: the buffer is there, and nobody else has it.
            let gathered = unsafe { strided.gather(block) }.unwrap_or_else(|error| panic!("{error}"));
            let mut expected = cube.clone();
            let mut dynamic = expected.view_mut().into_dyn();
            let mut view = dynamic.slice_mut(&ranges[..]);
            let elements: Vec<u8> = view.iter().flat_map(|element| element.to_ne_bytes()).collect();
            assert_eq!(gathered.as_bytes(), elements, "{form:?}");
            view.mapv_inplace(|element| element + 1000);
            let changed: Vec<u8> = view.iter().flat_map(|element| element.to_ne_bytes()).collect();
            // SAFETY: the same.
            unsafe { strided.scatter(block, &changed) };
            let expected: Vec<u8> = expected.iter().flat_map(|element| element.to_ne_bytes()).collect();
            assert_eq!(raw.as_bytes(), expected, "{form:?}");
        }
    }

    #[test]
    fn the_same_bytes_in_the_same_order_are_equal_however_they_were_named() {
        let whole = Form::new(&[4, 6], &[6, 1]).unwrap_or_else(|error| panic!("{error}"));
        let of = |ranges: &[SliceInfoElem]| strided(&whole.slice(ranges).unwrap_or_else(|error| panic!("{error}")));
        assert_eq!(of(s![.., 2].as_ref()), of(s![.., 2..3].as_ref()));
        assert_ne!(of(s![.., 2].as_ref()), of(s![..;-1, 2].as_ref()));
        assert_ne!(of(s![.., 1..3].as_ref()), of(s![.., 2..4].as_ref()));
        let triangle = whole.band((0, i64::MAX), "triangle").unwrap_or_else(|error| panic!("{error}"));
        assert!(Bytes::of(&triangle, &triangle.spans(), 4).is_err_and(|reason| reason.contains("triangle")));
    }
}
