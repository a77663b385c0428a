//! Fields of a structure, as parts.
#![expect(unsafe_code, reason = "a field lies where its structure's layout says")]

use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use poniard_interface::Access;

use super::Spans;
use crate::data::Data;
use crate::mutable::{Historic, Mutable, Readable, Writable};

/// Names a field of type `U` in a structure `T`: made by [`field!`](crate::field).
pub struct Field<T, U> {
    offset_bytes: usize,
    of: PhantomData<fn(&T) -> &U>,
}

impl<T, U> Field<T, U> {
    /// # Safety
    /// In every `T` there is a `U` so many bytes from its start.
    #[doc(hidden)]
    pub const unsafe fn at(offset_bytes: usize, _: fn(&T) -> &U) -> Self {
        Self { offset_bytes, of: PhantomData }
    }
}

impl<T, U> Clone for Field<T, U> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, U> Copy for Field<T, U> {}

impl<T, U> fmt::Debug for Field<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Field").field(&self.offset_bytes).finish()
    }
}

/// Names a field of a structure, for [`Mutable::field`]: `field!(Body, position)`, or one of a field: `field!(Body, position.x)`.
///
/// ```
/// use poniard::{Data, Mutable, Runtime, field, write};
///
/// #[derive(Clone, Data)]
/// struct Totals {
///     count: u64,
///     sum: f64,
/// }
/// let runtime = Runtime::new()?;
/// let totals = Mutable::new(Totals { count: 0, sum: 0.0 });
/// // Neither waits for the other.
/// runtime.spawn(|count: &mut u64| *count += 1, (write(&totals.field(field!(Totals, count))),));
/// runtime.spawn(|sum: &mut f64| *sum += 2.5, (write(&totals.field(field!(Totals, sum))),));
/// let totals = totals.take()?;
/// assert_eq!((totals.count, totals.sum), (1, 2.5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[macro_export]
macro_rules! field {
    ($of:ty, $($field:tt).+) => {
        // SAFETY: there is the field, and the closure says of which type.
        unsafe { $crate::part::Field::at(::core::mem::offset_of!($of, $($field).+), |of: &$of| &of.$($field).+) }
    };
}

/// A field of a [`Mutable`]: give [`read`](crate::read), [`write`](crate::write()) or [`overwrite`](crate::overwrite) of it for a parameter `&U` or `&mut U`.
pub struct FieldPart<U> {
    pub(crate) owner: Arc<dyn Historic>,
    pub(crate) number: u32,
    /// Keeps the number.
    pub(crate) spans: Arc<Spans>,
    pub(crate) value: NonNull<U>,
}

// SAFETY: a field is reached by tasks that their dependencies keep apart, as its structure is, and is `Send` and `Sync` itself.
unsafe impl<U: Data> Send for FieldPart<U> {}
// SAFETY: as for `Send`.
unsafe impl<U: Data> Sync for FieldPart<U> {}

impl<U> Clone for FieldPart<U> {
    fn clone(&self) -> Self {
        Self { owner: Arc::clone(&self.owner), number: self.number, spans: Arc::clone(&self.spans), value: self.value }
    }
}

impl<U> fmt::Debug for FieldPart<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FieldPart").field(&self.spans).finish()
    }
}

impl<T: Data> Mutable<T> {
    /// One of its fields, named by [`field!`](crate::field): tasks that use others, and nothing else of the value, run at the same time.
    pub fn field<U: Data>(&self, field: Field<T, U>) -> FieldPart<U> {
        let (owner, value) = self.historic();
        // SAFETY: the field is inside the value (`Field::at`).
        let value = unsafe { value.cast::<u8>().add(field.offset_bytes) }.cast();
        let (number, spans) = crate::mutable::named(&*owner, Spans::run(field.offset_bytes as i64, size_of::<U>()));
        FieldPart { owner, number, spans, value }
    }
}

/// What [`read`](crate::read) makes of a [`FieldPart`].
#[derive(Debug)]
pub struct ReadField<U>(pub(crate) FieldPart<U>);

/// What [`write`](crate::write()) and [`overwrite`](crate::overwrite) make of a [`FieldPart`].
#[derive(Debug)]
pub struct WriteField<U>(pub(crate) FieldPart<U>, pub(crate) Access);

impl<U> Readable for FieldPart<U> {
    type Argument = ReadField<U>;

    fn argument(&self) -> ReadField<U> {
        ReadField(self.clone())
    }
}

impl<U> Writable for FieldPart<U> {
    type Argument = WriteField<U>;

    fn argument(&self, access: Access) -> WriteField<U> {
        WriteField(self.clone(), access)
    }
}
