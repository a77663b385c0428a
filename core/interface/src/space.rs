//! Where bytes live.

use crate::chunk::Chunk;
use crate::ids::SpaceId;

/// What a memory space is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceInfo {
    /// Its number within the backend that opened it.
    pub id: SpaceId,
    /// Its name, for people: `host`, `NVIDIA H200`.
    pub name: String,
    /// How many bytes it holds; `None` when nobody knows.
    pub capacity_bytes: Option<u64>,
}

/// Memory in which chunks live: the host's, or a device's.
pub trait MemorySpace: Send + Sync {
    /// What it is.
    fn info(&self) -> SpaceInfo;

    /// A chunk of `len_bytes` zeroed bytes.
    ///
    /// # Errors
    /// [`AllocateError`] when there is no room.
    fn allocate(&self, len_bytes: u64) -> Result<Box<dyn Chunk>, AllocateError>;
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
