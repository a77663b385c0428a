//! Where bytes live.
#![expect(unsafe_code, reason = "declares what lends raw memory to a device")]

use crate::chunk::Chunk;
use crate::ids::SpaceId;
use crate::launch::HostBlock;

/// What a memory space is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceInfo {
    /// Its number within the backend that opened it.
    pub id: SpaceId,
    /// Its name, for people: `host`, `NVIDIA H200`.
    pub name: String,
    /// How many bytes it holds; `None` when nobody knows.
    pub capacity_bytes: Option<u64>,
    /// Whether its processors work in the host's memory as fast as in their own: then blocks are imported, and nothing is copied.
    pub imports: bool,
}

/// Memory in which chunks live: the host's, or a device's.
pub trait MemorySpace: Send + Sync {
    /// What it is.
    fn info(&self) -> SpaceInfo;

    /// A chunk of `len_bytes` bytes: zero, or with `zeroed` false of any value. Dropped, it is free once all that was submitted before has ended.
    ///
    /// # Errors
    /// [`AllocateError`] when there is no room.
    fn allocate(&self, len_bytes: u64, zeroed: bool) -> Result<Box<dyn Chunk>, AllocateError>;

    /// A chunk that is `block` itself: what one side writes, the other reads. Nothing is copied.
    ///
    /// # Safety
    /// The block's arena stays mapped for good, and the block belongs to the caller until the chunk is dropped and all that was submitted before has ended.
    ///
    /// # Errors
    /// [`AllocateError`] when the driver does not take this memory.
    unsafe fn import(&self, block: HostBlock) -> Result<Box<dyn Chunk>, AllocateError> {
        Err(AllocateError::new(block.len_bytes, "the space takes no memory of the host"))
    }
}

/// Memory could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to allocate {requested}: {reason}")]
#[non_exhaustive]
pub struct AllocateError {
    /// What was asked for, in words: `64 bytes`, `2^61 elements of 8 bytes`.
    pub requested: String,
    /// Why not.
    pub reason: String,
}

impl AllocateError {
    /// `len_bytes` could not be had, for `reason`.
    pub fn new(len_bytes: u64, reason: impl Into<String>) -> Self {
        Self { requested: format!("{len_bytes} bytes"), reason: reason.into() }
    }

    /// `len` elements of `element_bytes` are more bytes than an address has.
    pub fn overflow(len: u64, element_bytes: u64) -> Self {
        Self { requested: format!("{len} elements of {element_bytes} bytes"), reason: "the size in bytes overflows".into() }
    }
}
