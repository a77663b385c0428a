//! Whether serde can write and read a type, found out where the type is known.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Reader, Wire, WireError, Writer};

/// `Probe::<T>::WIRE` is a wire where `T` is serialisable, and none where it is not. For `derive(Data)`.
///
/// An inherent constant comes before one of a trait, and is there only where its bounds hold: so the type decides, at compile time. It has to be known
/// where this is written: of a type parameter nothing but its bounds is.
#[doc(hidden)]
#[derive(Debug)]
pub struct Probe<T>(PhantomData<T>);

impl<T: Serialize + DeserializeOwned> Probe<T> {
    /// By serde.
    pub const WIRE: Option<Wire<T>> = Some(Wire::of(write::<T>, read::<T>));
}

/// What `Probe::<T>::WIRE` is otherwise.
#[doc(hidden)]
pub trait NoWire<T> {
    /// None.
    const WIRE: Option<Wire<T>> = None;
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
