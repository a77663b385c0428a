//! What is known of a type where it is known: whether serde can write it, whether it is `Data`.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Parts, Reader, Wire, WireError, Writer, put, take};
use crate::data::Data;

/// What `T` is, for `derive(Data)`: whether it is serialisable, whether it is [`Data`], whether it implements `Drop`.
///
/// An inherent item comes before one of a trait, and is there only where its bounds hold: so the type decides, at compile time. Of a type parameter nothing but its
/// bounds is known where this is written.
#[doc(hidden)]
#[derive(Debug)]
pub struct Probe<T>(PhantomData<T>);

impl<T: Serialize + DeserializeOwned> Probe<T> {
    /// By serde.
    pub const SERDE: Option<Wire<T>> = Some(Wire::of(write::<T>, read::<T>));
}

impl<T: Data> Probe<T> {
    /// Whether it is [`Data`].
    pub const IS_DATA: bool = true;

    /// Writes a part of a value.
    ///
    /// # Errors
    /// As its wire.
    pub fn put(value: &T, writer: &mut Writer<'_>) -> Result<(), WireError> {
        put(value, writer)
    }

    /// Reads a part of a value.
    ///
    /// # Errors
    /// As its wire.
    pub fn take(reader: &mut Reader<'_>) -> Result<T, WireError> {
        take(reader)
    }

    /// How many bytes a part of a value has.
    pub fn len_bytes(value: &T) -> u64 {
        (T::BYTES)(value)
    }

    /// Whether it travels, with all that it is made of.
    pub fn travels(parts: &mut Parts) -> bool {
        parts.travel::<T>()
    }
}

#[expect(drop_bounds, reason = "what is asked is whether the type has a destructor of its own, not whether it needs to be dropped")]
impl<T: Drop> Probe<T> {
    /// Whether something is done when a value is dropped: it stands for something, which a copy of it in another process would not.
    pub const HAS_DROP: bool = true;
}

/// What `Probe::<T>` says otherwise.
#[doc(hidden)]
pub trait NoWire<T> {
    /// None.
    const SERDE: Option<Wire<T>> = None;
    /// It is not.
    const IS_DATA: bool = false;
    /// It does not.
    const HAS_DROP: bool = false;

    /// Not called: nothing travels in parts if one of them is no `Data`.
    ///
    /// # Errors
    /// Always.
    fn put(_value: &T, _writer: &mut Writer<'_>) -> Result<(), WireError> {
        Err(WireError::new("a part of it does not travel"))
    }

    /// As `put`.
    ///
    /// # Errors
    /// Always.
    fn take(_reader: &mut Reader<'_>) -> Result<T, WireError> {
        Err(WireError::new("a part of it does not travel"))
    }

    /// How many bytes it has by itself.
    fn len_bytes(_value: &T) -> u64 {
        size_of::<T>() as u64
    }

    /// It does not.
    fn travels(_parts: &mut Parts) -> bool {
        false
    }
}

impl<T> NoWire<T> for Probe<T> {}

fn write<T: Serialize>(value: &T, writer: &mut Writer<'_>) -> Result<(), WireError> {
    let bytes = postcard::to_allocvec(value).map_err(|error| WireError::new(format!("serde cannot write it: {error}")))?;
    writer.put_u64(bytes.len() as u64);
    writer.put(&bytes);
    Ok(())
}

fn read<T: DeserializeOwned>(reader: &mut Reader<'_>) -> Result<T, WireError> {
    let len = reader.take_u64()?;
    postcard::from_bytes(reader.take(len)?).map_err(|error| WireError::new(format!("serde cannot read it: {error}")))
}
