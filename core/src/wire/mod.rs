//! How values travel to another process and back.
//!
//! A type that travels has a [`Wire`]: a function that writes a value as bytes and one that reads it again. Numbers are written as they lie in memory, since both
//! ends are the same program on the same machine; everything else is made of parts, or serialised by serde and postcard. The memory of a
//! [`Buffer`](crate::Buffer) is not written at all: what travels is its place in an arena that both processes map.

mod plain;
mod probe;
mod types;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use poniard_interface::RawBuffer;

pub(crate) use plain::{read_plain, write_plain};
pub use probe::{NoWire, Probe};
pub(crate) use types::*;

/// The functions that write and read values of one type.
///
/// Made by the implementations of [`Data`](crate::Data); what is in it is no part of the interface.
#[doc(hidden)]
pub struct Wire<T> {
    pub(crate) write: fn(&T, &mut Writer<'_>) -> Result<(), WireError>,
    pub(crate) read: fn(&mut Reader<'_>) -> Result<T, WireError>,
    /// Whether a value is nothing but its bytes, and any bytes are a value.
    pub(crate) plain: bool,
}

impl<T> Wire<T> {
    /// A wire of two functions, for a type that is not plain.
    pub(crate) const fn of(
        write: fn(&T, &mut Writer<'_>) -> Result<(), WireError>,
        read: fn(&mut Reader<'_>) -> Result<T, WireError>,
    ) -> Self {
        Self { write, read, plain: false }
    }
}

impl<T> Clone for Wire<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Wire<T> {}

impl<T> fmt::Debug for Wire<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("plain", &self.plain).finish_non_exhaustive()
    }
}

/// A value could not be written, or what was read is none.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WireError(pub(crate) String);

impl WireError {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// The bytes end too early.
    #[cold]
    fn short(wanted: u64, left: usize) -> Self {
        Self(format!("{wanted} bytes are expected where {left} are left"))
    }
}

/// The memory of buffers, as one end of a call sees it.
pub(crate) trait Buffers {
    /// How the place of a buffer that is sent is named; nothing when its bytes have to be sent.
    fn send(&mut self, raw: &RawBuffer) -> Option<Place>;

    /// The memory of a buffer that came as a place.
    fn receive(&mut self, place: Place) -> Result<RawBuffer, WireError>;

    /// Whether what is received from now on is the receiver's own for as long as it wants; what was so before.
    fn copies(&mut self, _copies: bool) -> bool {
        true
    }
}

/// Where the memory of a buffer lies, for every process that maps its arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) arena: u64,
    pub(crate) offset: u64,
    pub(crate) len_bytes: u64,
}

/// Bytes that are being written.
#[doc(hidden)]
pub struct Writer<'a> {
    bytes: Vec<u8>,
    buffers: &'a mut dyn Buffers,
    /// Blocks that the receiver reads; they stay until the call is over.
    blocks: Vec<RawBuffer>,
}

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl<'a> Writer<'a> {
    pub(crate) fn new(buffers: &'a mut dyn Buffers) -> Self {
        Self { bytes: Vec::with_capacity(128), buffers, blocks: Vec::new() }
    }

    /// What was written, and the blocks that have to stay until it has been read.
    pub(crate) fn finish(self) -> (Vec<u8>, Vec<RawBuffer>) {
        (self.bytes, self.blocks)
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn put_u64(&mut self, value: u64) {
        self.put(&value.to_ne_bytes());
    }

    pub(crate) fn put_u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn put_text(&mut self, text: &str) {
        self.put_bytes(text.as_bytes());
    }

    /// Writes bytes with their number.
    pub(crate) fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_u64(bytes.len() as u64);
        self.put(bytes);
    }

    /// Writes the memory of a buffer: its place, or its bytes where it has none that others know.
    pub(crate) fn put_buffer(&mut self, raw: &RawBuffer) {
        match self.buffers.send(raw) {
            Some(place) => {
                self.put_u8(1);
                self.put_u64(place.arena);
                self.put_u64(place.offset);
                self.put_u64(place.len_bytes);
            }
            None => {
                self.put_u8(0);
                self.put_u64(raw.len_bytes());
                self.put(raw.as_bytes());
            }
        }
    }

    /// Writes a block whose bytes are copied where they arrive.
    pub(crate) fn put_block(&mut self, block: RawBuffer) {
        self.put_buffer(&block);
        self.blocks.push(block);
    }
}

/// Bytes that are being read.
#[doc(hidden)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    buffers: &'a mut dyn Buffers,
    /// Buffers that have been received as places.
    pub(crate) received: u64,
    /// What has to stay until the call is over.
    kept: Vec<Arc<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("left", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], buffers: &'a mut dyn Buffers) -> Self {
        Self { bytes, buffers, received: 0, kept: Vec::new() }
    }

    /// Keeps a value until the reader goes.
    pub(crate) fn keep(&mut self, value: Arc<dyn Any + Send + Sync>) {
        self.kept.push(value);
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: u64) -> Result<&'a [u8], WireError> {
        match usize::try_from(len).ok().and_then(|len| self.bytes.split_at_checked(len)) {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(taken)
            }
            None => Err(WireError::short(len, self.bytes.len())),
        }
    }

    pub(crate) fn take_array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        match self.bytes.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(*taken)
            }
            None => Err(WireError::short(N as u64, self.bytes.len())),
        }
    }

    pub(crate) fn take_u64(&mut self) -> Result<u64, WireError> {
        self.take_array().map(u64::from_ne_bytes)
    }

    pub(crate) fn take_u8(&mut self) -> Result<u8, WireError> {
        self.take_array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn take_text(&mut self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.take_bytes()?).map_err(|error| WireError::new(format!("a text is not UTF-8: {error}")))
    }

    /// Bytes that were written with their number.
    pub(crate) fn take_bytes(&mut self) -> Result<&'a [u8], WireError> {
        let len = self.take_u64()?;
        self.take(len)
    }

    /// A number of elements that are at least `element_bytes` long each, so that no more memory is asked for than bytes have come.
    pub(crate) fn take_len(&mut self, element_bytes: usize) -> Result<usize, WireError> {
        let len = self.take_u64()?;
        match usize::try_from(len) {
            Ok(len) if len.checked_mul(element_bytes).is_some_and(|bytes| bytes <= self.bytes.len()) => Ok(len),
            _ => Err(WireError::new(format!("a length of {len} is more than the {} bytes that are left", self.bytes.len()))),
        }
    }

    /// A block, to be copied at once.
    pub(crate) fn take_block(&mut self) -> Result<RawBuffer, WireError> {
        let received = self.received;
        let block = self.take_buffer();
        self.received = received;
        block
    }

    pub(crate) fn take_buffer(&mut self) -> Result<RawBuffer, WireError> {
        match self.take_u8()? {
            0 => {
                let len = self.take_u64()?;
                let bytes = self.take(len)?;
                let mut raw = crate::arena::allocate(len).map_err(|error| WireError::new(error.to_string()))?;
                raw.as_bytes_mut().copy_from_slice(bytes);
                Ok(raw)
            }
            1 => {
                let place = Place { arena: self.take_u64()?, offset: self.take_u64()?, len_bytes: self.take_u64()? };
                self.received += 1;
                self.buffers.receive(place)
            }
            tag => Err(WireError::new(format!("{tag} says nothing about a buffer"))),
        }
    }

    /// Lets `read` read something that may be kept for longer than the call.
    pub(crate) fn keeping<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.buffers.copies(true);
        let value = read(self);
        self.buffers.copies(before);
        value
    }

    /// Whether all has been read.
    pub(crate) fn end(&self) -> Result<(), WireError> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(WireError::new(format!("{left} bytes are left over"))),
        }
    }
}

/// For bytes without buffers.
pub(crate) struct NoBuffers;

impl Buffers for NoBuffers {
    fn send(&mut self, _: &RawBuffer) -> Option<Place> {
        None
    }

    fn receive(&mut self, place: Place) -> Result<RawBuffer, WireError> {
        Err(WireError::new(format!("there is no buffer at {place:?}")))
    }
}
