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

/// The memory that buffers take in this process, whichever runtime they are used by. What worker processes have of it is part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUsage {
    /// Of buffers that somebody has, rounded up to the sizes that memory is kept in: up to a fifth more than was asked for.
    pub in_use_bytes: u64,
    /// Of buffers that were dropped, and kept for the next ones.
    pub kept_bytes: u64,
    /// The most that both have been together, since a limit was set for the last time.
    pub peak_bytes: u64,
    /// Given back to the kernel since the program began: what nobody had used for a second or two, or what had to go for others.
    pub given_back_bytes: u64,
    /// How much may be in use and kept together: see [`RuntimeBuilder::memory_limit`](crate::RuntimeBuilder::memory_limit).
    pub limit_bytes: u64,
    /// Of buffers that somebody has and that are on the disk just now: not in use, and not under the limit.
    pub spilled_bytes: u64,
    /// Written to the disk since the program began.
    pub spill_written_bytes: u64,
    /// So much more would have been written without compression: see [`RuntimeBuilder::memory_spill_compress`](crate::RuntimeBuilder::memory_spill_compress).
    pub spill_saved_bytes: u64,
    /// Read back from there.
    pub spill_read_bytes: u64,
}

/// The memory that buffers take.
pub fn memory_usage() -> MemoryUsage {
    crate::arena::usage()
}

/// Gives the memory that is kept for buffers to come back to the kernel at once; so many bytes it was. It would go by itself, a second or two after its last use. The next buffers
/// cost a page fault for each page again.
pub fn give_back() -> u64 {
    crate::arena::give_back()
}
