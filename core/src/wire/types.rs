//! The wires of types of the standard library and of ndarray.
#![expect(clippy::disallowed_types, reason = "users may pass unordered collections; the order in which they travel means nothing")]
#![expect(unsafe_code, reason = "which types are nothing but their bytes is a promise")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::hash::Hash;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ndarray::{Array, Dimension};
use poniard_interface::{Buffer, Element, F16};

use super::{Parts, Reader, Wire, WireError, Writer, read_plain, write_plain};
use crate::data::Data;

type Written = Result<(), WireError>;

/// The wire of a type that is known to have one. Called only from wires that exist if it does.
fn wire<T: Data>() -> Wire<T> {
    match T::WIRE {
        Some(wire) => wire,
        None => unreachable!("a wire is made of wires"),
    }
}

/// Writes one value of a type that travels.
pub(crate) fn put<T: Data>(value: &T, writer: &mut Writer<'_>) -> Written {
    (wire::<T>().write)(value, writer)
}

/// Reads one value of a type that travels.
pub(crate) fn take<T: Data>(reader: &mut Reader<'_>) -> Result<T, WireError> {
    (wire::<T>().read)(reader)
}

/// The wire of a number whose bytes are all there is to it.
macro_rules! number {
    ($type:ty) => {
        $crate::wire::Wire {
            write: |value: &$type, writer| {
                writer.put(&value.to_ne_bytes());
                Ok(())
            },
            read: |reader| reader.take_array().map(<$type>::from_ne_bytes),
            plain: true,
            parts: |_| true,
        }
    };
}
pub(crate) use number;

pub(crate) const fn half() -> Wire<F16> {
    Wire {
        write: |value, writer| {
            writer.put(&value.0.to_ne_bytes());
            Ok(())
        },
        read: |reader| reader.take_array().map(|bytes| F16(u16::from_ne_bytes(bytes))),
        plain: true,
        parts: |_| true,
    }
}

/// Whether values are nothing but their bytes.
pub(crate) fn is_plain<T: Data>() -> bool {
    T::WIRE.is_some_and(|wire| wire.plain)
}

pub(crate) const fn unit() -> Wire<()> {
    Wire::of(|(), _| Ok(()), |_| Ok(()))
}

/// Nothing, whatever the type.
pub(crate) const fn phantom<T: Data>() -> Wire<PhantomData<T>> {
    Wire::of(|_, _| Ok(()), |_| Ok(PhantomData))
}

pub(crate) const fn boolean() -> Wire<bool> {
    let read = |reader: &mut Reader<'_>| match reader.take_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(WireError::new(format!("{other} is neither false nor true"))),
    };
    Wire::of(
        |value, writer| {
            writer.put_u8(u8::from(*value));
            Ok(())
        },
        read,
    )
}

pub(crate) const fn character() -> Wire<char> {
    let read = |reader: &mut Reader<'_>| {
        let number = u32::from_ne_bytes(reader.take_array()?);
        char::from_u32(number).ok_or_else(|| WireError::new(format!("{number:#x} is no character")))
    };
    Wire::of(
        |value, writer| {
            writer.put(&u32::from(*value).to_ne_bytes());
            Ok(())
        },
        read,
    )
}

pub(crate) const fn string() -> Wire<String> {
    Wire::of(
        |value, writer| {
            writer.put_text(value);
            Ok(())
        },
        |reader| reader.take_text().map(ToOwned::to_owned),
    )
}

pub(crate) const fn path() -> Wire<PathBuf> {
    let write = |value: &PathBuf, writer: &mut Writer<'_>| {
        let bytes = value.as_os_str().as_bytes();
        writer.put_u64(bytes.len() as u64);
        writer.put(bytes);
        Ok(())
    };
    let read = |reader: &mut Reader<'_>| {
        let len = reader.take_u64()?;
        Ok(OsString::from_vec(reader.take(len)?.to_vec()).into())
    };
    Wire::of(write, read)
}

pub(crate) const fn duration() -> Wire<Duration> {
    let write = |value: &Duration, writer: &mut Writer<'_>| {
        writer.put_u64(value.as_secs());
        writer.put(&value.subsec_nanos().to_ne_bytes());
        Ok(())
    };
    let read = |reader: &mut Reader<'_>| {
        let seconds = reader.take_u64()?;
        let nanos = u32::from_ne_bytes(reader.take_array()?);
        if nanos >= 1_000_000_000 {
            return Err(WireError::new(format!("{nanos} ns are a second or more")));
        }
        Ok(Duration::new(seconds, nanos))
    };
    Wire::of(write, read)
}

/// Writes values without their number.
fn put_all<'a, T: Data>(values: impl IntoIterator<Item = &'a T>, writer: &mut Writer<'_>) -> Written {
    values.into_iter().try_for_each(|value| put(value, writer))
}

/// Reads so many values into a collection.
fn take_all<T: Data, C: FromIterator<T>>(len: usize, reader: &mut Reader<'_>) -> Result<C, WireError> {
    (0..len).map(|_| take::<T>(reader)).collect()
}

/// The number of elements of a collection. An element may be no byte long, but then it takes no memory either.
fn take_count<T>(reader: &mut Reader<'_>) -> Result<usize, WireError> {
    reader.take_len(usize::from(size_of::<T>() > 0))
}

/// Writes values that lie side by side, without their number.
pub(crate) fn put_slice<T: Data>(values: &[T], writer: &mut Writer<'_>) -> Written {
    if wire::<T>().plain {
        // SAFETY: plain types have no padding: only numbers are plain.
        unsafe { write_plain(values, writer) };
        return Ok(());
    }
    put_all(values, writer)
}

/// Reads so many values that were written so.
pub(crate) fn take_vec<T: Data>(len: usize, reader: &mut Reader<'_>) -> Result<Vec<T>, WireError> {
    if wire::<T>().plain {
        // SAFETY: any bytes are a value of a plain type: only numbers are plain.
        return unsafe { read_plain(len, reader) };
    }
    take_all(len, reader)
}

pub(crate) const fn vector<T: Data>() -> Option<Wire<Vec<T>>> {
    fn read<T: Data>(reader: &mut Reader<'_>) -> Result<Vec<T>, WireError> {
        if !wire::<T>().plain {
            let len = take_count::<T>(reader)?;
            return take_all(len, reader);
        }
        let len = reader.take_u64()?;
        take_vec(usize::try_from(len).map_err(|_| WireError::new("a length is more than an address has"))?, reader)
    }
    let write = |values: &Vec<T>, writer: &mut Writer<'_>| {
        writer.put_u64(values.len() as u64);
        put_slice(values, writer)
    };
    if T::WIRE.is_some() { Some(Wire::of_parts(write, read::<T>, Parts::travel::<T>)) } else { None }
}

/// The wire of a collection of elements that can be walked through by reference and collected.
macro_rules! collection {
    ($name:ident, $collection:ident, [$($bound:tt)*]) => {
        pub(crate) const fn $name<T: Data $($bound)*>() -> Option<Wire<$collection<T>>> {
            fn write<T: Data $($bound)*>(values: &$collection<T>, writer: &mut Writer<'_>) -> Written {
                writer.put_u64(values.len() as u64);
                put_all(values, writer)
            }
            fn read<T: Data $($bound)*>(reader: &mut Reader<'_>) -> Result<$collection<T>, WireError> {
                let len = take_count::<T>(reader)?;
                take_all(len, reader)
            }
            if T::WIRE.is_some() { Some(Wire::of_parts(write::<T>, read::<T>, Parts::travel::<T>)) } else { None }
        }
    };
}
collection!(deque, VecDeque, []);
collection!(ordered_set, BTreeSet, [+ Ord]);
collection!(unordered_set, HashSet, [+ Eq + Hash]);

/// The same of pairs.
macro_rules! map {
    ($name:ident, $map:ident, [$($bound:tt)*]) => {
        pub(crate) const fn $name<K: Data $($bound)*, V: Data>() -> Option<Wire<$map<K, V>>> {
            fn write<K: Data $($bound)*, V: Data>(values: &$map<K, V>, writer: &mut Writer<'_>) -> Written {
                writer.put_u64(values.len() as u64);
                values.iter().try_for_each(|(key, value)| {
                    put(key, writer)?;
                    put(value, writer)
                })
            }
            fn read<K: Data $($bound)*, V: Data>(reader: &mut Reader<'_>) -> Result<$map<K, V>, WireError> {
                let len = take_count::<(K, V)>(reader)?;
                (0..len).map(|_| Ok((take(reader)?, take(reader)?))).collect()
            }
            let parts = |parts: &mut Parts| parts.travel::<K>() && parts.travel::<V>();
            if K::WIRE.is_some() && V::WIRE.is_some() { Some(Wire::of_parts(write::<K, V>, read::<K, V>, parts)) } else { None }
        }
    };
}
map!(ordered_map, BTreeMap, [+ Ord]);
map!(unordered_map, HashMap, [+ Eq + Hash]);

pub(crate) const fn option<T: Data>() -> Option<Wire<Option<T>>> {
    fn write<T: Data>(value: &Option<T>, writer: &mut Writer<'_>) -> Written {
        writer.put_u8(u8::from(value.is_some()));
        put_all(value, writer)
    }
    fn read<T: Data>(reader: &mut Reader<'_>) -> Result<Option<T>, WireError> {
        match reader.take_u8()? {
            0 => Ok(None),
            1 => take(reader).map(Some),
            other => Err(WireError::new(format!("{other} is neither none nor some"))),
        }
    }
    if T::WIRE.is_some() { Some(Wire::of_parts(write::<T>, read::<T>, Parts::travel::<T>)) } else { None }
}

pub(crate) const fn boxed<T: Data>() -> Option<Wire<Box<T>>> {
    if T::WIRE.is_some() {
        Some(Wire::of_parts(|value, writer| put::<T>(value, writer), |reader| take(reader).map(Box::new), Parts::travel::<T>))
    } else {
        None
    }
}

pub(crate) const fn shared<T: Data>() -> Option<Wire<Arc<T>>> {
    if T::WIRE.is_some() {
        // Others may share it: it is nobody's to be written to.
        let write = |value: &Arc<T>, writer: &mut Writer<'_>| writer.handing_over(false, |writer| put::<T>(value, writer));
        Some(Wire::of_parts(write, |reader| reader.keeping(take).map(Arc::new), Parts::travel::<T>))
    } else {
        None
    }
}

pub(crate) const fn range<T: Data>() -> Option<Wire<Range<T>>> {
    fn write<T: Data>(value: &Range<T>, writer: &mut Writer<'_>) -> Written {
        put(&value.start, writer)?;
        put(&value.end, writer)
    }
    fn read<T: Data>(reader: &mut Reader<'_>) -> Result<Range<T>, WireError> {
        Ok(take(reader)?..take(reader)?)
    }
    if T::WIRE.is_some() { Some(Wire::of_parts(write::<T>, read::<T>, Parts::travel::<T>)) } else { None }
}

pub(crate) const fn array<T: Data, const N: usize>() -> Option<Wire<[T; N]>> {
    fn read<T: Data, const N: usize>(reader: &mut Reader<'_>) -> Result<[T; N], WireError> {
        let values = take_vec(N, reader)?;
        values.try_into().map_err(|_| unreachable!("as many as were asked for"))
    }
    fn write<T: Data, const N: usize>(values: &[T; N], writer: &mut Writer<'_>) -> Written {
        put_slice(values, writer)
    }
    if T::WIRE.is_some() { Some(Wire::of_parts(write::<T, N>, read::<T, N>, Parts::travel::<T>)) } else { None }
}

macro_rules! tuple {
    ($name:ident, $($type:ident $index:tt),*) => {
        pub(crate) const fn $name<$($type: Data),*>() -> Option<Wire<($($type,)*)>> {
            fn write<$($type: Data),*>(values: &($($type,)*), writer: &mut Writer<'_>) -> Written {
                $(put(&values.$index, writer)?;)*
                Ok(())
            }
            fn read<$($type: Data),*>(reader: &mut Reader<'_>) -> Result<($($type,)*), WireError> {
                Ok(($(take::<$type>(reader)?,)*))
            }
            let parts = |parts: &mut Parts| $(parts.travel::<$type>())&&*;
            if $($type::WIRE.is_some())&&* { Some(Wire::of_parts(write::<$($type),*>, read::<$($type),*>, parts)) } else { None }
        }
    };
}
tuple!(tuple_1, A 0);
tuple!(tuple_2, A 0, B 1);
tuple!(tuple_3, A 0, B 1, C 2);
tuple!(tuple_4, A 0, B 1, C 2, D 3);
tuple!(tuple_5, A 0, B 1, C 2, D 3, E 4);
tuple!(tuple_6, A 0, B 1, C 2, D 3, E 4, F 5);

/// Shape, then elements row by row.
pub(crate) const fn nd_array<T: Data, D: Dimension>() -> Option<Wire<Array<T, D>>> {
    fn write<T: Data, D: Dimension>(values: &Array<T, D>, writer: &mut Writer<'_>) -> Written {
        writer.put_u64(values.ndim() as u64);
        for axis in values.shape() {
            writer.put_u64(*axis as u64);
        }
        writer.put_u8(u8::from(values.as_slice().is_some()));
        match values.as_slice() {
            Some(values) => put_slice(values, writer),
            None => put_all(values, writer),
        }
    }
    fn read<T: Data, D: Dimension>(reader: &mut Reader<'_>) -> Result<Array<T, D>, WireError> {
        let axes = reader.take_len(size_of::<u64>())?;
        if D::NDIM.is_some_and(|expected| expected != axes) {
            return Err(WireError::new(format!("an array of {axes} axes came where {:?} are expected", D::NDIM)));
        }
        let mut shape = D::zeros(axes);
        let mut count = 1u64;
        for axis in shape.slice_mut() {
            let len = reader.take_u64()?;
            count = count.checked_mul(len).ok_or_else(|| WireError::new("an array's number of elements overflows"))?;
            *axis = usize::try_from(len).map_err(|_| WireError::new("an axis is longer than an address"))?;
        }
        let one_by_one = reader.take_u8()? == 0;
        let values = if wire::<T>().plain && !one_by_one {
            take_vec(count as usize, reader)?
        } else {
            if size_of::<T>() > 0 && count > reader.bytes.len() as u64 {
                return Err(WireError::new(format!("an array of {count} elements is more than the bytes that are left")));
            }
            take_all(count as usize, reader)?
        };
        Array::from_shape_vec(shape, values).map_err(|error| WireError::new(format!("an array's shape does not fit: {error}")))
    }
    if T::WIRE.is_some() { Some(Wire::of_parts(write::<T, D>, read::<T, D>, Parts::travel::<T>)) } else { None }
}

/// The place of the memory.
pub(crate) const fn buffer<T: Element>() -> Wire<Buffer<T>> {
    fn read<T: Element>(reader: &mut Reader<'_>) -> Result<Buffer<T>, WireError> {
        let raw = reader.take_buffer()?;
        let bytes = raw.len_bytes();
        Buffer::from_raw(raw).map_err(|_| WireError::new(format!("{bytes} bytes are no whole number of {}", T::NAME)))
    }
    Wire::of(
        |value, writer| {
            writer.put_buffer(value.as_raw());
            Ok(())
        },
        read::<T>,
    )
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, IxDyn};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::NoBuffers;

    fn bytes_of<T: Data>(value: &T) -> Vec<u8> {
        let mut buffers = NoBuffers;
        let mut writer = Writer::new(&mut buffers);
        put(value, &mut writer).expect("it can be written");
        writer.finish().bytes
    }

    fn of_bytes<T: Data>(bytes: &[u8]) -> Result<T, WireError> {
        let mut buffers = NoBuffers;
        let mut reader = Reader::new(bytes, &mut buffers);
        let value = take(&mut reader)?;
        reader.end()?;
        Ok(value)
    }

    /// A value comes back, and no part of its bytes is a whole value.
    #[track_caller]
    fn check<T: Data + PartialEq + std::fmt::Debug>(value: T) {
        let bytes = bytes_of(&value);
        assert_eq!(of_bytes::<T>(&bytes).expect("it can be read"), value);
        for len in 0..bytes.len() {
            of_bytes::<T>(&bytes[..len]).expect_err("it is cut off");
        }
    }

    #[test]
    fn values_come_back_whole_and_cut_off_ones_are_errors() {
        check(());
        check((true, 'ß', 1u8, -2i64, f64::MIN_POSITIVE, u128::MAX));
        check(("text".to_owned(), PathBuf::from("/a/b"), Duration::new(3, 999_999_999)));
        check(vec![Some(vec![1.5f32, -0.0]), None]);
        check(vec![(), ()]);
        check(BTreeMap::from([(1usize, "one".to_owned()), (2, String::new())]));
        check(HashMap::from([("a".to_owned(), [1u16, 2, 3]), ("b".to_owned(), [0; 3])]));
        check((BTreeSet::from([3i8, -1]), HashSet::from([7u64]), VecDeque::from([1i128, 2])));
        check((Box::new(5u32), Arc::new(vec![isize::MIN]), 3usize..9));
        check(Array2::from_shape_fn((3, 4), |(row, column)| (row * 10 + column) as f64));
        check(Array2::from_shape_fn((3, 4), |(row, column)| (row * 10 + column) as f64).reversed_axes());
        check(
            ndarray::Array::from_shape_vec(IxDyn(&[2, 1, 2]), vec!["a".to_owned(), "b".into(), "c".into(), "d".into()]).expect("it fits"),
        );
        check(crate::buffer::from_slice(&[1u32, 2, 3]));
    }

    #[test]
    fn large_values_come_back_too() {
        let large: Vec<u64> = (0..100_000).collect();
        assert_eq!(of_bytes::<Vec<u64>>(&bytes_of(&large)).expect("it can be read"), large);
        let array = Array2::from_shape_fn((300, 400), |(row, column)| (row * column) as u32);
        assert_eq!(of_bytes::<Array2<u32>>(&bytes_of(&array)).expect("it can be read"), array);
        let turned = array.reversed_axes();
        assert_eq!(of_bytes::<Array2<u32>>(&bytes_of(&turned)).expect("it can be read"), turned);
    }

    #[test]
    fn lengths_that_lie_ask_for_no_memory() {
        let huge = u64::MAX.to_ne_bytes();
        of_bytes::<Vec<u64>>(&huge).expect_err("there are no elements");
        of_bytes::<Vec<String>>(&huge).expect_err("there are no elements");
        of_bytes::<String>(&huge).expect_err("there is no text");
        of_bytes::<HashMap<u8, u8>>(&huge).expect_err("there are no pairs");
        let shape: Vec<u8> = [2u64, 1 << 40, 1 << 40].iter().flat_map(|number| number.to_ne_bytes()).collect();
        of_bytes::<Array2<u8>>(&shape).expect_err("the number of elements overflows");
        of_bytes::<bool>(&[2]).expect_err("neither");
        of_bytes::<char>(&0xd800u32.to_ne_bytes()).expect_err("a surrogate");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = of_bytes::<Vec<Option<String>>>(&bytes);
            let _ = of_bytes::<BTreeMap<u8, Vec<u16>>>(&bytes);
            let _ = of_bytes::<ndarray::ArrayD<u8>>(&bytes);
            let _ = of_bytes::<crate::Buffer<f32>>(&bytes);
        }
    }
}
