//! What tasks take and return.
#![expect(clippy::disallowed_types, reason = "users may pass unordered collections; nothing here iterates them")]
#![expect(unsafe_code, reason = "a type key is a promise about a type's identity")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ndarray::{Array, Dimension};
use poniard_interface::{Buffer, Element, Erased, F16, TypeKey};

use crate::kernel::form::{self, Form, scalar};
use crate::part;
use crate::ship::offer::{self, Offered, Outcome};
use crate::wire::{self, Wire};

/// A type that can be a task's argument or result.
///
/// Derive it: `#[derive(poniard::Data)]`. A type that is also `Clone` can then be taken by value; every type can be taken by reference.
///
/// # Safety
/// No two types have the same [`KEY`](Self::KEY), in this program or in another image that it loads; the derive macro sees to that.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a task's argument or result",
    note = "derive it: `#[derive(poniard::Data)]`; it has to be `Send + Sync + 'static`; a `Mutable` is given as `read(&m)`, `write(&m)` or `overwrite(&m)`"
)]
pub unsafe trait Data: Send + Sync + Sized + 'static {
    /// The type's identity across separately compiled files.
    const KEY: TypeKey;
    /// The type's name, for messages.
    const NAME: &'static str;
    /// How values travel to another process; none: they stay in this one.
    #[doc(hidden)]
    const WIRE: Option<Wire<Self>> = None;
    /// How values appear in a kernel; none: not at all.
    #[doc(hidden)]
    const DEVICE: Option<Form<Self>> = None;
    /// How many bytes a value has, as models of costs count them: with what it owns, as far as a look at a few numbers tells.
    #[doc(hidden)]
    const BYTES: fn(&Self) -> u64 = |_| size_of::<Self>() as u64;
    /// How the elements of a value lie, of a type that has [`Parts`](crate::part::Parts).
    #[doc(hidden)]
    const PARTS: Option<part::FormOf<Self>> = None;
    /// Where the elements begin that `PARTS` describes, and how many bytes one has, if they are nothing but their bytes.
    #[doc(hidden)]
    const FIRST: Option<part::FirstOf<Self>> = None;
}

/// So many elements of a collection are looked at to tell how many bytes all of them have: sizes of a class differ by a quarter anyway.
const LOOKED_AT: usize = 16;

/// The bytes of so many elements, of which some are looked at.
fn bytes_of_many<'a, T: Data>(len: usize, elements: impl Iterator<Item = &'a T>) -> u64 {
    if const { !std::mem::needs_drop::<T>() } {
        return len.saturating_mul(size_of::<T>()) as u64;
    }
    let looked_at = len.min(LOOKED_AT);
    let bytes = elements.take(looked_at).fold(0u64, |sum, element| sum.saturating_add((T::BYTES)(element)));
    (u128::from(bytes) * len as u128 / looked_at.max(1) as u128) as u64
}

/// The bytes of a number of values of a type, not counting what those own.
const fn bytes_of_flat<T>(len: usize) -> u64 {
    len.saturating_mul(size_of::<T>()) as u64
}

/// Implements `Data` and passing by value for types of the standard library and of ndarray.
macro_rules! data {
    ($([$($generics:tt)*] $type:ty, $name:literal, [$($parameter:ty),*], $wire:expr $(, $device:expr)? $(=> $bytes:expr $(=> $parts:expr, $first:expr)?)?;)*) => { $(
        // SAFETY: the name is the type's own path, and the keys of its parameters are folded in.
        unsafe impl<$($generics)*> Data for $type {
            const KEY: TypeKey = TypeKey::of::<$type>($name, BUILD)$(.with_parameter(<$parameter as Data>::KEY))*;
            const NAME: &'static str = $name;
            const WIRE: Option<Wire<Self>> = $wire;
            $(const DEVICE: Option<Form<Self>> = $device;)?
            $(const BYTES: fn(&Self) -> u64 = $bytes;
            $(const PARTS: Option<part::FormOf<Self>> = Some($parts);
            const FIRST: Option<part::FirstOf<Self>> = Some($first);)?)?
        }
        crate::parameter::by_value!([$($generics)*] $type);
    )* };
}

/// Layouts of the standard library's types belong to a compiler, those of ndarray's to this crate's lock file as well.
const BUILD: u64 = TypeKey::build_of(env!("CARGO_PKG_VERSION"));

macro_rules! primitives {
    ($($type:ty, $wire:expr $(, $device:expr)?;)*) => { $(
        // SAFETY: the name is the primitive's own.
        unsafe impl Data for $type {
            const KEY: TypeKey = TypeKey::of::<$type>(stringify!($type), 0);
            const NAME: &'static str = stringify!($type);
            const WIRE: Option<Wire<Self>> = Some($wire);
            $(const DEVICE: Option<Form<Self>> = $device;)?
        }
        crate::parameter::by_value!([] $type);
    )* };
}
primitives! {
    (), wire::unit(), Some(Form::nothing());
    bool, wire::boolean();
    char, wire::character();
    u8, wire::number!(u8);
    u16, wire::number!(u16);
    u32, wire::number!(u32), scalar!(u32, U32);
    u64, wire::number!(u64), scalar!(u64, U64);
    u128, wire::number!(u128);
    usize, wire::number!(usize);
    i8, wire::number!(i8);
    i16, wire::number!(i16);
    i32, wire::number!(i32), scalar!(i32, I32);
    i64, wire::number!(i64), scalar!(i64, I64);
    i128, wire::number!(i128);
    isize, wire::number!(isize);
    f32, wire::number!(f32), scalar!(f32, F32);
    f64, wire::number!(f64), scalar!(f64, F64);
}

data! {
    [] String, "String", [], Some(wire::string()) => |text| text.len() as u64;
    [] PathBuf, "PathBuf", [], Some(wire::path()) => |path| path.as_os_str().len() as u64;
    [] Duration, "Duration", [], Some(wire::duration());
    [T: Data] Vec<T>, "Vec", [T], wire::vector() => |all| bytes_of_many(all.len(), all.iter())
        => |all| part::of_list(all.len()), |all| wire::is_plain::<T>().then(|| (all.as_ptr().cast(), size_of::<T>()));
    [T: Data] Option<T>, "Option", [T], wire::option() => |value| value.as_ref().map_or(0, T::BYTES);
    [T: Data] PhantomData<T>, "PhantomData", [T], Some(wire::phantom());
    [T: Data] Box<T>, "Box", [T], wire::boxed() => |value| (T::BYTES)(value);
    [T: Data] Arc<T>, "Arc", [T], wire::shared() => |value| (T::BYTES)(value);
    [T: Data] Range<T>, "Range", [T], wire::range();
    [T: Data] VecDeque<T>, "VecDeque", [T], wire::deque() => |all| bytes_of_many(all.len(), all.iter());
    [T: Data + Ord] BTreeSet<T>, "BTreeSet", [T], wire::ordered_set() => |all| bytes_of_many(all.len(), all.iter());
    [T: Data + Eq + Hash] HashSet<T>, "HashSet", [T], wire::unordered_set() => |all| bytes_of_flat::<T>(all.len());
    [K: Data + Ord, V: Data] BTreeMap<K, V>, "BTreeMap", [K, V], wire::ordered_map()
        => |all| bytes_of_many(all.len(), all.keys()) + bytes_of_many(all.len(), all.values());
    [K: Data + Eq + Hash, V: Data] HashMap<K, V>, "HashMap", [K, V], wire::unordered_map() => |all| bytes_of_flat::<(K, V)>(all.len());
    [A: Data] (A,), "tuple of 1", [A], wire::tuple_1(), form::tuple_1() => |all| (A::BYTES)(&all.0);
    [A: Data, B: Data] (A, B), "tuple of 2", [A, B], wire::tuple_2(), form::tuple_2() => |all| (A::BYTES)(&all.0) + (B::BYTES)(&all.1);
    [A: Data, B: Data, C: Data] (A, B, C), "tuple of 3", [A, B, C], wire::tuple_3(), form::tuple_3()
        => |all| (A::BYTES)(&all.0) + (B::BYTES)(&all.1) + (C::BYTES)(&all.2);
    [A: Data, B: Data, C: Data, D: Data] (A, B, C, D), "tuple of 4", [A, B, C, D], wire::tuple_4(), form::tuple_4()
        => |all| (A::BYTES)(&all.0) + (B::BYTES)(&all.1) + (C::BYTES)(&all.2) + (D::BYTES)(&all.3);
    [A: Data, B: Data, C: Data, D: Data, E: Data] (A, B, C, D, E), "tuple of 5", [A, B, C, D, E], wire::tuple_5()
        => |all| (A::BYTES)(&all.0) + (B::BYTES)(&all.1) + (C::BYTES)(&all.2) + (D::BYTES)(&all.3) + (E::BYTES)(&all.4);
    [A: Data, B: Data, C: Data, D: Data, E: Data, F: Data] (A, B, C, D, E, F), "tuple of 6", [A, B, C, D, E, F], wire::tuple_6()
        => |all| (A::BYTES)(&all.0) + (B::BYTES)(&all.1) + (C::BYTES)(&all.2) + (D::BYTES)(&all.3) + (E::BYTES)(&all.4) + (F::BYTES)(&all.5);
    [T: Data] crate::Task<T>, "poniard::Task", [T], None;
    [] Offered, "poniard::Offered", [], Some(offer::offered());
    [] Outcome, "poniard::Outcome", [], Some(offer::outcome());
}

// SAFETY: the length and the key of the element are folded into the name.
unsafe impl<T: Data, const N: usize> Data for [T; N] {
    const KEY: TypeKey = TypeKey::of::<[T; N]>("array", BUILD).with_constant(N as u128).with_parameter(T::KEY);
    const NAME: &'static str = "array";
    const WIRE: Option<Wire<Self>> = wire::array();
    const BYTES: fn(&Self) -> u64 = |all| bytes_of_many(N, all.iter());
}
crate::parameter::by_value!([T: Data, const N: usize] [T; N]);

// SAFETY: `Dimension` is sealed, and its implementors differ in `NDIM`, which is part of the key (`None` for a dynamic number).
unsafe impl<T: Data, D: Dimension + 'static> Data for Array<T, D> {
    const KEY: TypeKey = TypeKey::of::<Self>("ndarray::Array", BUILD)
        .with_constant(match D::NDIM {
            Some(count) => count as u128,
            None => u128::MAX,
        })
        .with_parameter(T::KEY);
    const NAME: &'static str = "ndarray::Array";
    const WIRE: Option<Wire<Self>> = wire::nd_array();
    const BYTES: fn(&Self) -> u64 = |all| bytes_of_many(all.len(), all.iter());
    const PARTS: Option<part::FormOf<Self>> = Some(part::of_array);
    const FIRST: Option<part::FirstOf<Self>> = Some(|all| wire::is_plain::<T>().then(|| (all.as_ptr().cast(), size_of::<T>())));
}
crate::parameter::by_value!([T: Data, D: Dimension + 'static] Array<T, D>);

// SAFETY: the element's own name and kind are folded in; an element type defined elsewhere names itself.
unsafe impl<T: Element> Data for Buffer<T> {
    const KEY: TypeKey = TypeKey::of::<Self>("poniard::Buffer", BUILD).with_parameter(TypeKey::of::<T>(T::NAME, 0));
    const NAME: &'static str = "poniard::Buffer";
    const WIRE: Option<Wire<Self>> = Some(wire::buffer());
    const DEVICE: Option<Form<Self>> = Some(Form::buffer());
    const BYTES: fn(&Self) -> u64 = |buffer| bytes_of_flat::<T>(buffer.len());
    const PARTS: Option<part::FormOf<Self>> = Some(|buffer| part::of_list(buffer.len()));
    const FIRST: Option<part::FirstOf<Self>> = Some(|buffer| Some((buffer.as_raw().as_bytes().as_ptr(), size_of::<T>())));
}
crate::parameter::by_value!([T: Element] Buffer<T>);

// SAFETY: one type, one name.
unsafe impl Data for F16 {
    const KEY: TypeKey = TypeKey::of::<Self>("poniard::F16", 0);
    const NAME: &'static str = "poniard::F16";
    const WIRE: Option<Wire<Self>> = Some(wire::half());
    const DEVICE: Option<Form<Self>> = Some(Form::half());
}
crate::parameter::by_value!([] F16);

// SAFETY: one type, one name.
unsafe impl Data for crate::region::Batch {
    const KEY: TypeKey = TypeKey::of::<Self>("poniard::Batch", BUILD);
    const NAME: &'static str = "poniard::Batch";
}

// SAFETY: one type, one name.
unsafe impl Data for Erased {
    const KEY: TypeKey = TypeKey::of::<Self>("poniard::Erased", BUILD);
    const NAME: &'static str = "poniard::Erased";
}
