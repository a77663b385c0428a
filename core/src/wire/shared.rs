//! Values that several tasks use: each is sent to a process once.
//!
//! Such a value gets a number when it is sent for the first time. The receiver keeps it, and later calls carry the number alone. One that the receiver does not
//! have, as it is another process or has made room for others, it asks for: so nobody has to remember who has what.

use std::any::Any;
use std::sync::Arc;

use super::{Reader, WireError, Writer, put, take};
use crate::data::Data;
use crate::function::caller;
use crate::task::Task;
use crate::task::record::{Header, create_finished};

/// Shorter values are sent each time: to look for one costs as much as to read so many bytes.
const MIN_BYTES: u64 = 256;
/// Longer values are sent each time: a receiver would have to drop many others for one.
const MAX_BYTES: u64 = 32 << 20;
/// Values in an `Arc` that are larger, without what they point to, have no number: their memory would stay for as long as the number is known.
const ARC_MAX_BYTES: usize = 4 << 10;

/// How an argument is written.
const HERE: u8 = 0;
/// Here, to be kept; its number follows.
const KEEP: u8 = 1;
/// By its number.
const KNOWN: u8 = 2;

/// A value of any type that somebody keeps.
pub(crate) type Kept = Arc<dyn Any + Send + Sync>;

/// What tells a value from all others for as long as it is there, and no other value is found in its place.
#[derive(Debug)]
pub(crate) enum Identity<'a> {
    /// The result of a task.
    Result(&'a Header),
    /// In an `Arc`.
    Arc(Kept),
}

impl<'a> Identity<'a> {
    /// The identity of a value in an `Arc` that others have, too, or had.
    pub(crate) fn of_arc<T: Data>(value: &Arc<T>) -> Option<Self> {
        if size_of::<T>() > ARC_MAX_BYTES {
            return None;
        }
        let value = Arc::clone(value);
        Some(Self::Arc(value))
    }

    /// Whether somebody else has the value, too.
    fn has_others(&self) -> bool {
        match self {
            Self::Result(header) => header.has_several_users(),
            // The argument, and this.
            Self::Arc(value) => Arc::strong_count(value) > 2,
        }
    }
}

/// Values that were sent to be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) values: u64,
    pub(crate) bytes: u64,
}

/// Writes an argument, which may be a value that several tasks use.
pub(crate) fn put_shared<T: Data>(value: &T, identity: Option<Identity<'_>>, writer: &mut Writer<'_>) -> Result<(), WireError> {
    if let Some(number) = identity.as_ref().and_then(|identity| writer.buffers.number_of(identity)) {
        writer.put_u8(KNOWN);
        writer.put_u64(number);
        return Ok(());
    }
    let (tag_at, begin, places) = (writer.bytes.len(), writer.len_bytes(), writer.places);
    writer.put_u8(HERE);
    put(value, writer)?;
    let len_bytes = writer.len_bytes() - begin;
    // The places of buffers mean something during this call only.
    let identity =
        identity.filter(|identity| (MIN_BYTES..=MAX_BYTES).contains(&len_bytes) && writer.places == places && identity.has_others());
    if let Some(number) = identity.and_then(|identity| writer.buffers.give_number(&identity)) {
        writer.bytes[tag_at] = KEEP;
        writer.put_u64(number);
        writer.sent.values += 1;
        writer.sent.bytes += len_bytes;
    }
    Ok(())
}

/// Writes the value of an argument once more, if its number is the one that is asked for.
pub(crate) fn put_again<T: Data>(
    value: &T,
    identity: Option<Identity<'_>>,
    number: u64,
    writer: &mut Writer<'_>,
) -> Option<Result<(), WireError>> {
    (writer.buffers.number_of(&identity?)? == number).then(|| {
        let begin = writer.len_bytes();
        put(value, writer)?;
        writer.sent.values += 1;
        writer.sent.bytes += writer.len_bytes() - begin;
        Ok(())
    })
}

/// An argument that was read.
pub(crate) enum Taken<T> {
    /// It was sent for this call.
    Own(T),
    /// It is kept for others. As a task that has finished, since results may be gathered.
    Shared(Task<T>),
}

/// Reads what `put_shared` wrote.
pub(crate) fn take_shared<T: Data>(reader: &mut Reader<'_>) -> Result<Taken<T>, WireError> {
    match reader.take_u8()? {
        HERE => take(reader).map(Taken::Own),
        KEEP => {
            let (value, len_bytes) = take_to_keep(reader)?;
            let number = reader.take_u64()?;
            keep(number, value, len_bytes, reader)
        }
        KNOWN => {
            let number = reader.take_u64()?;
            let known = reader.buffers.find(number);
            if let Some(task) = known.as_ref().and_then(|known| known.downcast_ref::<Task<T>>()) {
                return Ok(Taken::Shared(task.clone()));
            }
            let bytes = reader.buffers.fetch(number).ok_or_else(|| WireError::new(format!("the host has no value {number}")))?;
            let mut again = Reader::new(&bytes, reader.buffers);
            let (value, len_bytes) = take_to_keep(&mut again)?;
            again.end()?;
            keep(number, value, len_bytes, reader)
        }
        tag => Err(WireError::new(format!("{tag} says nothing about an argument"))),
    }
}

/// A value, and how many bytes it was.
fn take_to_keep<T: Data>(reader: &mut Reader<'_>) -> Result<(T, u64), WireError> {
    let (before, left) = (reader.received, (reader.bytes.len(), reader.blocks_bytes));
    let value = take(reader)?;
    if reader.received != before {
        return Err(WireError::new("a value that is to be kept has a buffer in it, which stays for one call only"));
    }
    Ok((value, reader.read_bytes(left)))
}

fn keep<T: Data>(number: u64, value: T, len_bytes: u64, reader: &mut Reader<'_>) -> Result<Taken<T>, WireError> {
    let task = create_finished(value, std::ptr::null(), caller(), None);
    reader.buffers.keep(number, Arc::new(task.clone()), len_bytes);
    Ok(Taken::Shared(task))
}
