//! How values appear in a kernel: as buffers or as scalars.

use poniard_interface::{Buffer, Element, ElementKind, F16, RawBuffer};

use crate::data::Data;

/// How the values of a type appear in a kernel, or come out of one.
#[derive(Clone, Copy)]
pub struct Form<T> {
    /// Whether there are buffers in it.
    pub(crate) has_blocks: bool,
    /// Names the buffers, or the scalar, that it is.
    pub(crate) types: fn(&mut Vec<Shape>),
    /// Shows its buffers, in their order.
    pub(crate) visit: fn(&T, Visit<'_>),
    /// Writes a scalar's bytes.
    pub(crate) scalar: fn(&T, &mut Vec<u8>),
    /// Makes a value of memory for its buffers, in their order.
    pub(crate) make: Option<Make<T>>,
    /// The memory of its buffers, in their order.
    pub(crate) take_apart: fn(T, &mut Vec<RawBuffer>),
}

type Visit<'a> = &'a mut dyn FnMut(&RawBuffer);
type Make<T> = fn(&mut dyn FnMut() -> Option<RawBuffer>) -> Option<T>;

/// What a kernel sees of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A buffer.
    Buffer {
        /// What its elements are.
        kind: ElementKind,
        /// How many bytes each has.
        bytes: u32,
        /// Their type's name.
        name: &'static str,
    },
    /// A number.
    Scalar {
        /// What it is.
        kind: ElementKind,
        /// Its type's name.
        name: &'static str,
    },
    /// Something that a kernel cannot have.
    Other {
        /// Its type's name.
        name: &'static str,
    },
}

impl<T> std::fmt::Debug for Form<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Form").field("has_blocks", &self.has_blocks).finish_non_exhaustive()
    }
}

impl<T: Element> Form<Buffer<T>> {
    /// A buffer.
    pub(crate) const fn buffer() -> Self {
        Self {
            has_blocks: true,
            types: |types| types.push(Shape::Buffer { kind: T::KIND, bytes: size_of::<T>() as u32, name: T::NAME }),
            visit: |buffer, visit| visit(buffer.as_raw()),
            scalar: |_, _| (),
            make: Some(|next| Buffer::from_raw(next()?).ok()),
            take_apart: |buffer, into| into.push(buffer.into_raw()),
        }
    }
}

impl Form<()> {
    /// Nothing: what a kernel returns that only writes in place.
    pub(crate) const fn nothing() -> Self {
        Self { has_blocks: false, types: |_| (), visit: |_, _| (), scalar: |_, _| (), make: Some(|_| Some(())), take_apart: |_, _| () }
    }
}

impl Form<F16> {
    /// A number of 16 bits.
    pub(crate) const fn half() -> Self {
        Self::number(
            |types| types.push(Shape::Scalar { kind: ElementKind::F16, name: "F16" }),
            |value, into| into.extend_from_slice(&value.0.to_ne_bytes()),
        )
    }
}

impl<T> Form<T> {
    /// A number, of which `scalar` writes the bytes.
    pub(crate) const fn number(types: fn(&mut Vec<Shape>), scalar: fn(&T, &mut Vec<u8>)) -> Self {
        Self { has_blocks: false, types, visit: |_, _| (), scalar, make: None, take_apart: |_, _| () }
    }
}

/// A number.
macro_rules! scalar {
    ($type:ty, $kind:ident) => {
        Some($crate::kernel::Form::number(
            |types| types.push($crate::kernel::Shape::Scalar { kind: poniard_interface::ElementKind::$kind, name: stringify!($type) }),
            |value: &$type, into| into.extend_from_slice(&value.to_ne_bytes()),
        ))
    };
}
pub(crate) use scalar;

fn form<T: Data>() -> Form<T> {
    match T::DEVICE {
        Some(form) => form,
        None => unreachable!("a form is made of forms"),
    }
}

/// Several buffers, as the results of one kernel.
macro_rules! tuple {
    ($function:ident, $($name:ident $index:tt),+) => {
        pub(crate) const fn $function<$($name: Data),+>() -> Option<Form<($($name,)+)>> {
            if $(crate::residency::can_be_elsewhere::<$name>())&&+ {
                Some(Form {
                    has_blocks: true,
                    types: |types| { $((form::<$name>().types)(types);)+ },
                    visit: |value, visit| { $((form::<$name>().visit)(&value.$index, visit);)+ },
                    scalar: |_, _| (),
                    make: Some(|next| Some(($((form::<$name>().make?)(next)?,)+))),
                    take_apart: |value, into| { $((form::<$name>().take_apart)(value.$index, into);)+ },
                })
            } else {
                None
            }
        }
    };
}
tuple!(tuple_1, A 0);
tuple!(tuple_2, A 0, B 1);
tuple!(tuple_3, A 0, B 1, C 2);
tuple!(tuple_4, A 0, B 1, C 2, D 3);
