//! How values travel to another process and back.
//!
//! A type that travels has a [`Wire`]: a function that writes a value as bytes and one that reads it again. Numbers are written as they lie in memory, since both
//! ends are the same program on the same machine; everything else is made of parts, or serialised by serde and postcard. The memory of a
//! [`Buffer`](crate::Buffer) is not written at all: what travels is its place in an arena that both processes map.

mod plain;
mod probe;
mod shared;
mod types;

use std::any::TypeId;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use poniard_interface::{Access, RawBuffer};

use crate::data::Data;
use crate::task::record::{dropped_quietly, panic_message};

pub(crate) use plain::{read_plain, write_plain};
pub use probe::{NoWire, Probe};
pub(crate) use shared::{Identity, Kept, Sent, Taken, put_again, put_shared, take_shared};
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
    /// Whether all that it is made of travels, too.
    pub(crate) parts: fn(&mut Parts) -> bool,
}

type Write<T> = fn(&T, &mut Writer<'_>) -> Result<(), WireError>;
type Read<T> = fn(&mut Reader<'_>) -> Result<T, WireError>;

impl<T> Wire<T> {
    /// A wire of two functions, for a type that is not plain and has no parts.
    pub(crate) const fn of(write: Write<T>, read: Read<T>) -> Self {
        Self::of_parts(write, read, |_| true)
    }

    /// The wire of a type with parts.
    #[doc(hidden)]
    pub const fn of_parts(write: Write<T>, read: Read<T>, parts: fn(&mut Parts) -> bool) -> Self {
        Self { write, read, plain: false, parts }
    }
}

/// Looks at what types are made of, each once: a type may be a part of itself.
///
/// That is why it is done while the program runs: the compiler refuses constants that depend on themselves.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Parts(Vec<TypeId>);

impl Parts {
    /// Whether `T` travels, with all that it is made of.
    #[doc(hidden)]
    pub fn travel<T: Data>(&mut self) -> bool {
        T::WIRE.is_some_and(|wire| (wire.parts)(self))
    }

    /// Whether this has been asked of `T` before; then whoever asked first has the answer.
    #[doc(hidden)]
    pub fn knows<T: 'static>(&mut self) -> bool {
        let id = TypeId::of::<T>();
        let knows = self.0.contains(&id);
        if !knows {
            self.0.push(id);
        }
        knows
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
    /// There is no such variant.
    #[doc(hidden)]
    #[cold]
    pub fn no_variant(index: u32, name: &str) -> Self {
        Self(format!("`{name}` has no variant {index}"))
    }

    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// The bytes end too early.
    #[cold]
    fn short(wanted: u64, left: usize) -> Self {
        Self(format!("{wanted} bytes are expected where {left} are left"))
    }
}

/// Lets `body` write or read values of users' types, whose code may panic.
pub(crate) fn caught<R>(body: impl FnOnce() -> Result<R, WireError>) -> Result<R, WireError> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let message = panic_message(&*payload);
        dropped_quietly(payload);
        Err(WireError(format!("the type's own code panicked: {message}")))
    })
}

/// The memory of buffers, as one end of a call sees it.
pub(crate) trait Buffers {
    /// How the place of a buffer that is sent is named; nothing when its bytes have to be sent.
    fn send(&mut self, raw: &RawBuffer) -> Option<Place>;

    /// Whether the receiver may be given memory to write to.
    fn hands_over(&self) -> bool {
        true
    }

    /// The memory of a buffer that came as a place.
    fn receive(&mut self, place: Place) -> Result<RawBuffer, WireError>;

    /// The same where it is handed over: the receiver's own, to be written to.
    fn receive_handed(&mut self, place: Place) -> Result<RawBuffer, WireError> {
        Err(WireError::new(format!("nothing is handed over here, and {place:?} came")))
    }

    /// The memory of a buffer of which others use other elements meanwhile, as long as the call lasts; to be written to, if so wanted.
    fn borrow(&mut self, place: Place, _writes: bool) -> Result<NonNull<u8>, WireError> {
        Err(WireError::new(format!("nothing is lent here, and {place:?} came")))
    }

    /// Whether what is received from now on is the receiver's own for as long as it wants; what was so before.
    fn copies(&mut self, _copies: bool) -> bool {
        true
    }

    /// The number by which a receiver may know a value, if it has one.
    fn number_of(&mut self, _value: &Identity<'_>) -> Option<u64> {
        None
    }

    /// A number for a value that had none; nothing where values are sent once.
    fn give_number(&mut self, _value: &Identity<'_>) -> Option<u64> {
        None
    }

    /// The value with a number, if it is kept here.
    fn find(&mut self, _number: u64) -> Option<Kept> {
        None
    }

    /// Keeps a value that was so many bytes long.
    fn keep(&mut self, _number: u64, _value: Kept, _len_bytes: u64) {}

    /// The bytes of the value with a number, from the sender.
    fn fetch(&mut self, _number: u64) -> Option<Vec<u8>> {
        None
    }
}

/// Where the memory of a buffer lies, for every process that maps its arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) arena: u64,
    pub(crate) offset: u64,
    pub(crate) len_bytes: u64,
}

/// How the memory of a buffer travels: byte by byte, as a place to be read, as a place to be written to.
const BYTES: u8 = 0;
const PLACE: u8 = 1;
const HANDED: u8 = 2;

/// Bytes that are being written.
#[doc(hidden)]
pub struct Writer<'a> {
    buffers: &'a mut dyn Buffers,
    /// Whether the receiver may write to the memory of buffers.
    hands_over: bool,
    blocks_bytes: u64,
    /// Buffers that have been written, but for blocks.
    places: u64,
    written: Written,
}

/// What came of writing.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) bytes: Vec<u8>,
    /// Blocks that the receiver reads; they stay until the call is over.
    pub(crate) blocks: Vec<RawBuffer>,
    /// Memory of buffers that the receiver may write to.
    pub(crate) handed: Vec<Place>,
    /// Whether there is memory of which the receiver writes to a part, where it lies.
    pub(crate) writes_parts: bool,
    /// Whether what was there before is needed if the receiver does not come to its end.
    pub(crate) is_delicate: bool,
    /// Bytes of values that were copied: all but the memory of buffers that travels as a place.
    pub(crate) copied_bytes: u64,
    /// What was written to be kept.
    pub(crate) sent: Sent,
}

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("len", &self.written.bytes.len()).finish_non_exhaustive()
    }
}

impl<'a> Writer<'a> {
    pub(crate) fn new(buffers: &'a mut dyn Buffers) -> Self {
        Self {
            buffers,
            hands_over: false,
            places: 0,
            blocks_bytes: 0,
            written: Written { bytes: Vec::with_capacity(128), ..Written::default() },
        }
    }

    /// Bytes written so far, those of blocks included.
    fn len_bytes(&self) -> u64 {
        self.written.bytes.len() as u64 + self.blocks_bytes
    }

    pub(crate) fn finish(self) -> Written {
        self.written
    }

    /// Writes bytes of a value.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.written.copied_bytes += bytes.len() as u64;
        self.put_uncounted(bytes);
    }

    /// Writes what is no part of a value, or counted elsewhere.
    pub(crate) fn put_uncounted(&mut self, bytes: &[u8]) {
        self.written.bytes.extend_from_slice(bytes);
    }

    /// Writes a length or the like.
    pub(crate) fn put_u64(&mut self, value: u64) {
        self.put_uncounted(&value.to_ne_bytes());
    }

    pub(crate) fn put_u8(&mut self, value: u8) {
        self.written.bytes.push(value);
    }

    pub(crate) fn put_text(&mut self, text: &str) {
        self.put_bytes(text.as_bytes());
    }

    /// Writes bytes with their number.
    pub(crate) fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_u64(bytes.len() as u64);
        self.put(bytes);
    }

    /// Writes which variant of an enum it is.
    #[doc(hidden)]
    pub fn put_variant(&mut self, index: u32) {
        self.put_uncounted(&index.to_ne_bytes());
    }

    /// Writes the memory of a buffer: its place, or its bytes where it has none that others know.
    pub(crate) fn put_buffer(&mut self, raw: &RawBuffer) {
        self.places += 1;
        match self.buffers.send(raw) {
            Some(place) => {
                let hands_over = self.hands_over && self.buffers.hands_over();
                if hands_over {
                    self.written.handed.push(place);
                }
                self.put_u8(if hands_over { HANDED } else { PLACE });
                self.put_place(place);
            }
            None => {
                self.put_u8(BYTES);
                self.put_u64(raw.len_bytes());
                self.put(raw.as_bytes());
            }
        }
    }

    /// Names the memory of a buffer, of which the receiver uses some elements during the call, and others use others. False where there is none that can be named.
    pub(crate) fn lend(&mut self, raw: Option<&RawBuffer>, access: Access) -> bool {
        let place = raw.filter(|_| self.buffers.hands_over()).and_then(|raw| self.buffers.send(raw));
        self.put_u8(if place.is_some() { PLACE } else { BYTES });
        let Some(place) = place else { return false };
        self.put_place(place);
        self.written.writes_parts |= access != Access::Read;
        self.written.is_delicate |= access == Access::Write;
        true
    }

    fn put_place(&mut self, place: Place) {
        [place.arena, place.offset, place.len_bytes].iter().for_each(|number| self.put_u64(*number));
    }

    /// Writes a block whose bytes are copied where they arrive.
    pub(crate) fn put_block(&mut self, block: RawBuffer) {
        self.written.copied_bytes += block.len_bytes();
        let places = self.places;
        self.handing_over(false, |writer| writer.put_buffer(&block));
        self.places = places;
        self.blocks_bytes += block.len_bytes();
        self.written.blocks.push(block);
    }

    /// Lets `write` write something whose buffers the receiver may write to: nobody looks at them until the call is over. Or, with false, may not.
    pub(crate) fn handing_over<R>(&mut self, hands_over: bool, write: impl FnOnce(&mut Self) -> R) -> R {
        let before = std::mem::replace(&mut self.hands_over, hands_over);
        let result = write(self);
        self.hands_over = before;
        result
    }

    /// Lets `write` write a value that is changed in place; with `needed`, its contents are needed when it is changed a second time.
    pub(crate) fn in_place<R>(&mut self, needed: bool, write: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.written.handed.len();
        let result = self.handing_over(true, write);
        self.written.is_delicate |= needed && self.written.handed.len() > before;
        result
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
    kept: Vec<Kept>,
    /// Bytes of blocks that have been read.
    blocks_bytes: u64,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("left", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], buffers: &'a mut dyn Buffers) -> Self {
        Self { bytes, buffers, received: 0, kept: Vec::new(), blocks_bytes: 0 }
    }

    /// Bytes read since so many were left, those of blocks included.
    fn read_bytes(&self, before: (usize, u64)) -> u64 {
        (before.0 - self.bytes.len()) as u64 + self.blocks_bytes - before.1
    }

    /// Keeps a value until the reader goes.
    pub(crate) fn keep(&mut self, value: Kept) {
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

    /// Reads which variant of an enum it is.
    ///
    /// # Errors
    /// [`WireError`] when the bytes are over.
    #[doc(hidden)]
    pub fn take_variant(&mut self) -> Result<u32, WireError> {
        self.take_array().map(u32::from_ne_bytes)
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
        self.blocks_bytes += block.as_ref().map_or(0, RawBuffer::len_bytes);
        block
    }

    pub(crate) fn take_buffer(&mut self) -> Result<RawBuffer, WireError> {
        match self.take_u8()? {
            BYTES => {
                let len = self.take_u64()?;
                let bytes = self.take(len)?;
                crate::arena::copy_of(bytes).map_err(|error| WireError::new(error.to_string()))
            }
            tag @ (PLACE | HANDED) => {
                let place = self.take_place()?;
                if tag == HANDED {
                    return self.buffers.receive_handed(place);
                }
                self.received += 1;
                self.buffers.receive(place)
            }
            tag => Err(WireError::new(format!("{tag} says nothing about a buffer"))),
        }
    }

    fn take_place(&mut self) -> Result<Place, WireError> {
        Ok(Place { arena: self.take_u64()?, offset: self.take_u64()?, len_bytes: self.take_u64()? })
    }

    /// Memory that was named by `lend`, and how many bytes it has; nothing where it was not.
    pub(crate) fn take_lent(&mut self, access: Access) -> Result<Option<(NonNull<u8>, u64)>, WireError> {
        match self.take_u8()? {
            BYTES => Ok(None),
            PLACE => {
                let place = self.take_place()?;
                self.buffers.borrow(place, access != Access::Read).map(|start| Some((start, place.len_bytes)))
            }
            tag => Err(WireError::new(format!("{tag} says nothing about where elements lie"))),
        }
    }

    /// Lets `read` read something that may be kept for longer than the call.
    pub(crate) fn keeping<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.buffers.copies(true);
        let value = read(self);
        self.buffers.copies(before);
        value
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
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
