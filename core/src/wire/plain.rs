//! Values that are nothing but their bytes.
#![expect(unsafe_code, reason = "looks at numbers as bytes, and makes numbers of bytes")]

use super::{Reader, WireError, Writer};

/// From so many bytes on, they travel by way of shared memory: two copies are faster than the way through a stream.
const BULK_MIN_BYTES: usize = 32 << 10;

/// How the bytes of values travel: among the others, or in a block of shared memory.
const HERE: u8 = 0;
const BULK: u8 = 1;

/// The bytes of plain values.
///
/// # Safety
/// Every byte of a `T` is initialised: it has no padding.
pub(crate) unsafe fn write_plain<T>(values: &[T], writer: &mut Writer<'_>) {
    // SAFETY: the slice is that many bytes long, all of them initialised (precondition), and bytes need no alignment.
    let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
    if bytes.len() >= BULK_MIN_BYTES
        && let Ok(block) = crate::arena::copy_of(bytes)
    {
        writer.put_u8(BULK);
        writer.put_block(block);
        return;
    }
    writer.put_u8(HERE);
    writer.put(bytes);
}

/// So many plain values.
///
/// # Safety
/// Any bytes are a `T`.
pub(crate) unsafe fn read_plain<T>(len: usize, reader: &mut Reader<'_>) -> Result<Vec<T>, WireError> {
    let len_bytes = (len as u64).checked_mul(size_of::<T>() as u64);
    let len_bytes = len_bytes.ok_or_else(|| WireError::new(format!("{len} values are more than an address has")))?;
    let block;
    let bytes = match reader.take_u8()? {
        HERE => reader.take(len_bytes)?,
        BULK => {
            block = reader.take_block()?;
            block.as_bytes()
        }
        tag => return Err(WireError::new(format!("{tag} says nothing about where values are"))),
    };
    if bytes.len() as u64 != len_bytes {
        return Err(WireError::new(format!("{} bytes came where {len_bytes} are expected", bytes.len())));
    }
    let mut values = Vec::<T>::with_capacity(len);
    // SAFETY: there is room for `len` values, which are as many bytes as there are, and new memory overlaps nothing.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), values.as_mut_ptr().cast::<u8>(), bytes.len()) };
    // SAFETY: the room was filled above, and any bytes are a value (precondition).
    unsafe { values.set_len(len) };
    Ok(values)
}
