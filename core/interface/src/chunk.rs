//! Typed contiguous data, resident in a memory space.

use std::ops::Range;

use crate::buffer::ElementKind;
use crate::ids::SpaceId;

/// What a chunk is, without its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkInfo {
    /// Where its bytes are.
    pub space: SpaceId,
    /// What its elements are.
    pub element: ElementKind,
    /// How many bytes it holds.
    pub len_bytes: u64,
}

/// Typed contiguous data in one memory space. [`crate::Buffer`] is the chunk of host memory; a device backend has its own.
pub trait Chunk: Send + Sync {
    /// What it is.
    fn info(&self) -> ChunkInfo;

    /// Names it in an [`Operand`](crate::Operand), uniquely within its backend. 0 for one that no launch uses.
    fn id(&self) -> u64 {
        0
    }

    /// Its bytes, where the host can address them.
    fn host_bytes(&self) -> Option<&[u8]> {
        None
    }

    /// Copies `into.len()` bytes from `offset_bytes` to the host.
    ///
    /// # Errors
    /// [`TransferError`] when the range lies outside the chunk or the device failed.
    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<(), TransferError>;

    /// Copies `from` to `offset_bytes`.
    ///
    /// # Errors
    /// [`TransferError`] when the range lies outside the chunk or the device failed.
    fn write(&mut self, offset_bytes: u64, from: &[u8]) -> Result<(), TransferError>;
}

/// A copy between the host and a chunk did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to transfer {len_bytes} bytes at offset {offset_bytes} of a chunk of {chunk_bytes} bytes in space {space}: {reason}")]
#[non_exhaustive]
pub struct TransferError {
    /// The chunk's space.
    pub space: SpaceId,
    /// The chunk's size.
    pub chunk_bytes: u64,
    /// Where the copy should have begun.
    pub offset_bytes: u64,
    /// How much should have been copied.
    pub len_bytes: u64,
    /// What went wrong.
    pub reason: String,
}

impl TransferError {
    /// The error of one copy.
    pub fn new(chunk: ChunkInfo, offset_bytes: u64, len_bytes: u64, reason: impl Into<String>) -> Self {
        Self { space: chunk.space, chunk_bytes: chunk.len_bytes, offset_bytes, len_bytes, reason: reason.into() }
    }
}

/// The bytes `offset..offset + len` as a range, if the chunk has them. For implementors of [`Chunk`].
///
/// # Errors
/// [`TransferError`] when the range lies outside the chunk.
pub fn check_range(chunk: ChunkInfo, offset_bytes: u64, len: usize) -> Result<Range<usize>, TransferError> {
    match offset_bytes.checked_add(len as u64) {
        Some(end) if end <= chunk.len_bytes => Ok(offset_bytes as usize..end as usize),
        _ => Err(TransferError::new(chunk, offset_bytes, len as u64, "the range lies outside the chunk")),
    }
}
