//! Which types have elements.
#![expect(unsafe_code, reason = "where a value's first element lies is a promise")]

use ndarray::{Array, Dimension};
use poniard_interface::{Buffer, Element, RawBuffer};

use crate::data::Data;

/// Types whose values have elements that can be used in parts: `Vec`, [`Buffer`] and ndarray's `Array`.
///
/// # Safety
/// * [`first`](Self::first) and [`first_mut`](Self::first_mut) give the first element of all that [`Data::PARTS`] describes, without looking at one;
/// * that is the first byte of [`memory`](Self::memory), if there is one, in which all of them lie, and whose bytes may be anything.
pub unsafe trait Parts: Data {
    /// What they are made of.
    type Element: Data;

    #[doc(hidden)]
    fn first(&self) -> *const Self::Element;

    #[doc(hidden)]
    fn first_mut(&mut self) -> *mut Self::Element;

    /// The memory that they lie in, from its beginning on, if it is a buffer's.
    #[doc(hidden)]
    fn memory(&self) -> Option<&RawBuffer> {
        None
    }
}

// SAFETY: a vector's first element is what it says.
unsafe impl<T: Data> Parts for Vec<T> {
    type Element = T;

    fn first(&self) -> *const T {
        self.as_ptr()
    }

    fn first_mut(&mut self) -> *mut T {
        self.as_mut_ptr()
    }
}

// SAFETY: an array's first element is what it says, and its elements lie where its strides say.
unsafe impl<T: Data, D: Dimension + 'static> Parts for Array<T, D> {
    type Element = T;

    fn first(&self) -> *const T {
        self.as_ptr()
    }

    fn first_mut(&mut self) -> *mut T {
        self.as_mut_ptr()
    }
}

// SAFETY: a buffer's first element is what it says.
unsafe impl<T: Element + Data> Parts for Buffer<T> {
    type Element = T;

    fn first(&self) -> *const T {
        self.as_raw().as_bytes().as_ptr().cast()
    }

    fn first_mut(&mut self) -> *mut T {
        self.as_mut_ptr()
    }

    fn memory(&self) -> Option<&RawBuffer> {
        Some(self.as_raw())
    }
}
