//! Makes [`Buffer`]s: large arrays in memory that every processor of the host shares.
//!
//! ```
//! let squares = poniard::buffer::from_fn(4, |i| (i * i) as f64);
//! assert_eq!(*squares, [0.0, 1.0, 4.0, 9.0]);
//! ```

use poniard_interface::{AllocateError, Element};

pub use poniard_interface::Buffer;

use crate::arena::HostArena;

/// `len` zeros.
///
/// # Errors
/// [`AllocateError`] when the size overflows or there is no memory for it.
pub fn try_zeroed<T: Element>(len: usize) -> Result<Buffer<T>, AllocateError> {
    Buffer::zeroed_in(&HostArena, len)
}

/// `len` zeros.
///
/// # Panics
/// When the size overflows or there is no memory for it; [`try_zeroed`] gives an error instead.
#[track_caller]
pub fn zeroed<T: Element>(len: usize) -> Buffer<T> {
    match try_zeroed(len) {
        Ok(buffer) => buffer,
        Err(error) => panic!("{error}"),
    }
}

/// A copy of `values`.
///
/// # Panics
/// As [`zeroed`].
#[track_caller]
pub fn from_slice<T: Element>(values: &[T]) -> Buffer<T> {
    let mut buffer = zeroed(values.len());
    buffer.copy_from_slice(values);
    buffer
}

/// `value(0)`, `value(1)`, ... `value(len - 1)`.
///
/// # Panics
/// As [`zeroed`].
#[track_caller]
pub fn from_fn<T: Element>(len: usize, value: impl FnMut(usize) -> T) -> Buffer<T> {
    let mut buffer = zeroed(len);
    for (slot, value) in buffer.iter_mut().zip((0..len).map(value)) {
        *slot = value;
    }
    buffer
}
