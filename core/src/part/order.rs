//! The elements of a part one after the other: in which order, how they are written for another process, and read again.
#![expect(unsafe_code, reason = "elements of a value whose other elements belong to other tasks meanwhile")]

use std::ops::Range;
use std::ptr::NonNull;

use super::form::{DIMENSIONS_MAX, Form};
use super::view::{columns, dense};
use crate::data::Data;
use crate::wire::{self, Reader, WireError, Writer};

impl Form {
    /// Calls `visit` for elements that lie side by side, in the order of a view: how far the first of them is from the part's first, and how many they are.
    pub(crate) fn runs(&self, visit: &mut dyn FnMut(isize, usize)) {
        if let Some(len) = dense(self) {
            return visit(0, len);
        }
        let (lens, strides) = (self.lens(), self.strides());
        let Some((inner, outer)) = lens.len().checked_sub(1).map(|last| (last, &lens[..last])) else { return visit(0, 1) };
        if lens.contains(&0) {
            return;
        }
        let mut index = [0; DIMENSIONS_MAX];
        loop {
            let start: isize = index[..inner].iter().zip(strides).map(|(at, stride)| *at as isize * stride).sum();
            let columns = if self.band.is_some() { columns(self, index[0]).unwrap_or_default() } else { 0..lens[inner] };
            if strides[inner] == 1 {
                visit(start + columns.start as isize, columns.len());
            } else {
                columns.for_each(|column| visit(start + column as isize * strides[inner], 1));
            }
            // The next row; the last dimension of those runs fastest.
            let Some(turned) = (0..inner).rev().find(|dimension| index[*dimension] + 1 < outer[*dimension]) else { return };
            index[turned] += 1;
            index[turned + 1..inner].fill(0);
        }
    }

    /// Which elements of the value they are, if they lie side by side in their order.
    pub(crate) fn run(&self) -> Option<Range<u64>> {
        let (start, len) = (u64::try_from(self.start).ok()?, dense(self)? as u64);
        Some(start..start + len)
    }

    /// How many elements lie side by side in their order, and how such runs lie: in each dimension how many there are, and how far apart. What can be one run or one dimension is one, so the same
    /// elements in the same order have the same sides. Nothing of a triangle or a band, nor of what has no elements.
    pub(crate) fn sides(&self) -> Option<(usize, Vec<(usize, isize)>)> {
        if self.band.is_some() || self.lens().contains(&0) {
            return None;
        }
        let (mut run_len, mut sides) = (1, Vec::<(usize, isize)>::new());
        for (len, stride) in self.lens().iter().copied().zip(self.strides().iter().copied()).rev().filter(|(len, _)| *len > 1) {
            match sides.last_mut() {
                None if stride == run_len as isize => run_len *= len,
                Some((count, step)) if stride == *step * *count as isize => *count *= len,
                _ => sides.push((len, stride)),
            }
        }
        sides.reverse();
        Some((run_len, sides))
    }

    /// The same elements in a place of their own, the rows of the rectangle one behind the other.
    pub(crate) fn packed(&self) -> Self {
        let mut strides = [0; DIMENSIONS_MAX];
        let mut stride = 1;
        for (dimension, len) in self.lens().iter().enumerate().rev() {
            strides[dimension] = stride;
            stride *= *len as isize;
        }
        self.laid(0, &strides[..self.lens().len()])
    }

    /// Whether all of it lies in a value of so many elements.
    pub(crate) fn is_within(&self, len: i64) -> bool {
        let (mut lowest, mut highest) = (self.start, self.start);
        for (len, stride) in self.lens().iter().zip(self.strides()) {
            let Some(last) = (*len as i64).checked_sub(1).filter(|last| *last >= 0) else { return true };
            let Some(way) = last.checked_mul(*stride as i64) else { return false };
            let side = if way < 0 { &mut lowest } else { &mut highest };
            let Some(moved) = side.checked_add(way) else { return false };
            *side = moved;
        }
        lowest >= 0 && highest < len
    }

    pub(crate) fn put(&self, writer: &mut Writer<'_>) {
        writer.put_u8(self.lens().len() as u8 | if self.band.is_some() { BAND } else { 0 });
        writer.put_u64(self.start as u64);
        for (len, stride) in self.lens().iter().zip(self.strides()) {
            writer.put_u64(*len as u64);
            writer.put_u64(*stride as u64);
        }
        if let Some((low, high)) = self.band {
            writer.put_u64(low as u64);
            writer.put_u64(high as u64);
        }
    }

    pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let tag = reader.take_u8()?;
        let dimensions = usize::from(tag & !BAND);
        if dimensions > DIMENSIONS_MAX || (tag & BAND != 0 && dimensions != 2) {
            return Err(WireError::new(format!("{tag} says nothing about the form of a part")));
        }
        let start = reader.take_u64()? as i64;
        let (mut lens, mut strides) = ([1; DIMENSIONS_MAX], [0; DIMENSIONS_MAX]);
        for (len, stride) in lens.iter_mut().zip(&mut strides).take(dimensions) {
            (*len, *stride) = (reader.take_u64()? as usize, reader.take_u64()? as isize);
        }
        let elements = lens[..dimensions].iter().try_fold(1isize, |all, len| all.checked_mul(isize::try_from(*len).ok()?));
        if elements.is_none() {
            return Err(WireError::new(format!("a part of {:?} elements is more than an address has", &lens[..dimensions])));
        }
        let mut form = Self::new(&lens[..dimensions], &strides[..dimensions]).map_err(|error| WireError::new(error.to_string()))?;
        form.start = start;
        if tag & BAND != 0 {
            form.band = Some((reader.take_u64()? as i64, reader.take_u64()? as i64));
        }
        Ok(form)
    }
}

/// Beside the number of dimensions: a band follows.
const BAND: u8 = 1 << 7;

/// Writes elements.
///
/// # Safety
/// The elements of the part are there, from `first` on, and nobody changes them meanwhile.
pub(crate) unsafe fn put_elements<E: Data>(first: NonNull<E>, form: &Form, writer: &mut Writer<'_>) -> Result<(), WireError> {
    let mut outcome = Ok(());
    form.runs(&mut |at, len| {
        if outcome.is_err() || len == 0 {
            return;
        }
        // SAFETY: the element is in the part.
        let first = unsafe { first.offset(at) };
        // SAFETY: so many lie side by side, and are there (precondition).
        outcome = wire::put_slice(unsafe { std::slice::from_raw_parts(first.as_ptr(), len) }, writer);
    });
    outcome
}

/// Reads them again; as many as the part has.
pub(crate) fn take_elements<E: Data>(form: &Form, reader: &mut Reader<'_>) -> Result<Vec<E>, WireError> {
    let (mut elements, mut outcome) = (Vec::new(), Ok(()));
    form.runs(&mut |_, len| {
        if outcome.is_ok() && len > 0 {
            outcome = wire::take_vec(len, reader).map(|more| if elements.is_empty() { elements = more } else { elements.extend(more) });
        }
    });
    outcome.map(|()| elements)
}

/// Exchanges the elements of a part for others, of which there are as many.
///
/// # Safety
/// The elements are there, from `first` on, and nobody else looks at them meanwhile.
pub(crate) unsafe fn swap_elements<E>(first: NonNull<E>, form: &Form, elements: &mut [E]) {
    let mut rest = elements;
    form.runs(&mut |at, len| {
        let (run, behind) = std::mem::take(&mut rest).split_at_mut(len);
        rest = behind;
        if len > 0 {
            // SAFETY: the element is in the part.
            let first = unsafe { first.offset(at) };
            // SAFETY: so many lie side by side, are there, and nobody else looks at them (precondition).
            run.swap_with_slice(unsafe { std::slice::from_raw_parts_mut(first.as_ptr(), len) });
        }
    });
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, s};

    use super::*;
    use crate::wire::NoBuffers;

    fn order(form: &Form) -> Vec<isize> {
        let mut order = Vec::new();
        form.runs(&mut |at, len| order.extend(at..at + len as isize));
        order
    }

    fn forms() -> Vec<Form> {
        let square = Form::new(&[4, 5], &[5, 1]).unwrap_or_else(|error| panic!("{error}"));
        let turned = Form::new(&[5, 4], &[1, 5]).unwrap_or_else(|error| panic!("{error}"));
        let of = |form: &Form, ranges: &[ndarray::SliceInfoElem]| form.slice(ranges).unwrap_or_else(|error| panic!("{error}"));
        let band = |form: Form, low, high| form.band((low, high), "band").unwrap_or_else(|error| panic!("{error}"));
        vec![
            square,
            turned,
            of(&square, s![1..3, 1..4].as_ref()),
            of(&square, s![..;-2, ..;2].as_ref()),
            of(&square, s![2, ..].as_ref()),
            of(&square, s![.., 2].as_ref()),
            of(&square, s![2, 2].as_ref()),
            of(&square, s![2..2, ..].as_ref()),
            band(square, i64::MIN, 0),
            band(turned, 1, i64::MAX),
            band(of(&square, s![1.., ..;2].as_ref()), -1, 1),
            square.diagonal().unwrap_or_else(|error| panic!("{error}")),
            Form::list(0),
        ]
    }

    /// Row by row, element by element.
    fn expected(form: &Form) -> Vec<isize> {
        let (lens, strides) = (form.lens(), form.strides());
        let rows = |lens: &[usize]| if lens.len() == 2 { lens[0] } else { 1 };
        let mut all = Vec::new();
        for row in 0..rows(lens) {
            for column in 0..lens.last().copied().unwrap_or(1) {
                let (low, high) = form.band.unwrap_or((i64::MIN, i64::MAX));
                if (low..=high).contains(&(column as i64 - row as i64)) {
                    let of_row = if lens.len() == 2 { row as isize * strides[0] } else { 0 };
                    all.push(of_row + column as isize * strides.last().copied().unwrap_or(0));
                }
            }
        }
        all
    }

    #[test]
    fn elements_come_in_the_order_of_a_view() {
        for form in forms() {
            assert_eq!(order(&form), expected(&form), "{form:?}");
            assert_eq!(order(&form.packed()).len(), order(&form).len(), "{form:?}");
        }
        let cube = Array3::<u8>::zeros((3, 4, 5));
        let view = cube.slice(s![1.., ..;2, 1..3]);
        let form = Form::new(view.shape(), view.strides()).unwrap_or_else(|error| panic!("{error}"));
        let first = view.as_ptr();
        // SAFETY: both are elements of the array.
        let expected: Vec<isize> = view.iter().map(|element| unsafe { std::ptr::from_ref(element).offset_from(first) }).collect();
        assert_eq!(order(&form), expected);
    }

    #[test]
    fn a_form_comes_back_and_says_whether_it_is_inside() {
        for form in forms() {
            let mut buffers = NoBuffers;
            let mut writer = Writer::new(&mut buffers);
            form.put(&mut writer);
            let written = writer.finish();
            assert_eq!(written.copied_bytes, 0, "it is no part of a value");
            let mut buffers = NoBuffers;
            for len in 0..written.bytes.len() {
                assert!(Form::take(&mut Reader::new(&written.bytes[..len], &mut buffers)).is_err());
            }
            let mut reader = Reader::new(&written.bytes, &mut buffers);
            assert_eq!(Form::take(&mut reader), Ok(form));
            assert_eq!(reader.end(), Ok(()));
            assert!(form.is_within(20), "{form:?}");
            if let (Some(least), Some(most)) = (order(&form).into_iter().min(), order(&form).into_iter().max())
                && form.band.is_none()
            {
                assert!(!form.is_within(form.start + most as i64), "{form:?}");
                assert!(!form.laid(-1 - least as i64, form.strides()).is_within(20), "{form:?}");
            }
        }
        let far = Form::new(&[2, 2], &[isize::MAX, isize::MAX]).unwrap_or_else(|error| panic!("{error}"));
        assert!(!far.is_within(i64::MAX));
    }
}
