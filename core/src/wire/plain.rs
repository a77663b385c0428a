//! Values that are nothing but their bytes.
#![expect(unsafe_code, reason = "looks at numbers as bytes, and makes numbers of bytes")]

use super::{Reader, WireError, Writer};

/// The bytes of plain values.
///
/// # Safety
/// Every byte of a `T` is initialised: it has no padding.
pub(crate) unsafe fn write_plain<T>(values: &[T], writer: &mut Writer<'_>) {
    // SAFETY: the slice is that many bytes long, all of them initialised (precondition), and bytes need no alignment.
    let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
    writer.put(bytes);
}

/// So many plain values.
///
/// # Safety
/// Any bytes are a `T`.
pub(crate) unsafe fn read_plain<T>(len: usize, reader: &mut Reader<'_>) -> Result<Vec<T>, WireError> {
    let bytes = reader.take(len as u64 * size_of::<T>() as u64)?;
    let mut values = Vec::<T>::with_capacity(len);
    // SAFETY: there is room for `len` values, as many bytes as that were taken, and new memory overlaps nothing.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), values.as_mut_ptr().cast::<u8>(), bytes.len()) };
    // SAFETY: the room was filled above, and any bytes are a value (precondition).
    unsafe { values.set_len(len) };
    Ok(values)
}
