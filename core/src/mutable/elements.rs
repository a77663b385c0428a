//! How access to elements of a value is stored until its task runs, and how it goes to another process.
//!
//! Elements that lie in a buffer of the host's arenas are used where they lie, by every process: a call says where that is, and how the part lies in it. Those of other
//! values, and all of them where the memory cannot be lent, are copied there and, if they are written, back.
#![expect(unsafe_code, reason = "elements of a value whose other elements belong to other tasks meanwhile")]

use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use poniard_interface::{Access, RawBuffer};

use super::far;
use super::history::Target;
use super::seen::Seen;
use super::slot::{AccessTo, of_access};
use super::touch::Touch;
use super::{Elements, Historic, Place};
use crate::data::Data;
use crate::error::TaskError;
use crate::kernel::Shape;
use crate::kernel::check::Parameter;
use crate::kernel::plan::{Planner, Survey};
use crate::parameter::{IntoArg, Param, Slots, Stored, parameter};
use crate::part::{Form, Part, Parts, ReadPart, Spans, View, ViewMut, WritePart};
use crate::residency::Bytes;
use crate::task::record::{Edge, Header};
use crate::wire::{self, Reader, WireError, Writer};
use crate::{arena, residency, spill};

/// Stands for "elements that are read".
#[doc(hidden)]
#[derive(Debug)]
pub struct Viewed<E>(std::marker::PhantomData<E>);

/// Stands for "elements that are changed in place".
#[doc(hidden)]
#[derive(Debug)]
pub struct ViewedInPlace<E>(std::marker::PhantomData<E>);

impl<E: Data> Stored for Viewed<E> {
    type Slots = PartSlot<E>;
    type Place<'a> = View<'a, E>;
}

impl<E: Data> Stored for ViewedInPlace<E> {
    type Slots = PartSlot<E>;
    type Place<'a> = ViewMut<'a, E>;
}

impl<E: Data> IntoArg<Viewed<E>> for ReadPart<E> {
    fn into_slots(self) -> PartSlot<E> {
        PartSlot::new(self.0, Access::Read)
    }
}

impl<E: Data> IntoArg<ViewedInPlace<E>> for WritePart<E> {
    fn into_slots(self) -> PartSlot<E> {
        PartSlot::new(self.0, self.1)
    }
}

/// The stored access to elements of a value.
#[doc(hidden)]
pub struct PartSlot<E> {
    of: AccessTo,
    part: Part<E>,
    /// The first element, once it has been looked for.
    first: Cell<Option<NonNull<E>>>,
    /// Whether the owner has been told that this is going to be written.
    writes: Cell<bool>,
    /// Whether it came here from another process with its elements, which are needed there.
    is_copy: bool,
}

// SAFETY: the elements are `Send` and `Sync` (`Data`, which every way to make a slot asks for), and the rest is by itself.
unsafe impl<E: Data> Send for PartSlot<E> {}

impl<E: Data> PartSlot<E> {
    fn new(part: Part<E>, access: Access) -> Self {
        let owner = Arc::clone(&part.owner) as Arc<dyn Historic>;
        let of = AccessTo::new(owner, Target::Part(part.number), access.into());
        Self { of, part, first: Cell::new(None), writes: Cell::new(false), is_copy: false }
    }

    /// Which bytes of the value's memory it is, or why no kernel can have them.
    fn bytes(&self) -> Result<Bytes, &'static str> {
        Bytes::of(&self.part.form, &self.part.spans, size_of::<E>())
    }

    fn first(&self) -> NonNull<E> {
        match self.first.get() {
            Some(first) => first,
            None => unreachable!("a body is called when its arguments have been brought"),
        }
    }
}

impl<E> Drop for PartSlot<E> {
    fn drop(&mut self) {
        if self.writes.get() {
            self.part.owner.end_to_write(true);
        }
    }
}

impl<E> fmt::Debug for PartSlot<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartSlot").field("of", &self.of).field("part", &self.part).finish_non_exhaustive()
    }
}

impl<E: Data> Slots for PartSlot<E> {
    of_access!();

    fn see(&self, see: &mut impl FnMut(Seen<'_>)) {
        self.of.see(Some(&self.part.spans), see);
    }

    const ELSEWHERE: bool = true;

    fn bring(&self) -> Result<(), String> {
        // Once for each task, however often it is called.
        if self.of.access() != Access::Read && !self.writes.replace(true) {
            self.part.owner.begin_to_write();
        }
        let first = self.part.owner.bring(self.of.access(), &self.part.form, &self.part.spans)?;
        self.first.set(Some(first));
        Ok(())
    }

    const TRAVELS: bool = E::WIRE.is_some();

    fn parts_travel(parts: &mut wire::Parts) -> bool {
        parts.travel::<E>()
    }

    fn send(&self, writer: &mut Writer<'_>, _gives: bool) -> Result<(), WireError> {
        // SAFETY: they have been brought (`first`), and whoever changes one of them was spawned before and has ended, or waits for the task's end.
        unsafe { far::send(&*self.part.owner, self.of.access(), &self.part.form, self.first(), writer) }
    }

    fn send_back(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
        if self.of.access() == Access::Read {
            return Ok(());
        }
        // SAFETY: the body is over, and until then nobody else had access to one of the elements.
        unsafe { far::send_back(self.is_copy, &self.part.form, self.first(), writer) }
    }

    fn take_back(&mut self, reader: &mut Reader<'_>) -> Result<(), WireError> {
        if self.of.access() == Access::Read {
            return Ok(());
        }
        // SAFETY: as in `send`; writing conflicts with every other access to one of them.
        unsafe { far::take_back(&self.part.form, self.first(), reader) }
    }

    fn receive(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let far::Arrived { access, is_copy, part, first } = far::receive(reader)?;
        let owner = Arc::clone(&part.owner) as Arc<dyn Historic>;
        let of = AccessTo::new(owner, Target::Part(part.number), access.into());
        Ok(Self { of, part, first: Cell::new(Some(first)), writes: Cell::new(false), is_copy })
    }

    fn parameter() -> Parameter {
        // What a kernel has as a number it has as the elements of a buffer. Whether it may change them, the access says.
        let shape = match parameter::<E>(false).shape {
            Some(Shape::Scalar { kind, name }) => Some(Shape::Buffer { kind, bytes: size_of::<E>() as u32, name }),
            _ => None,
        };
        Parameter { shape, is_changed: true, name: "part of a value" }
    }

    fn plan(&self, planner: &mut Planner) {
        self.part.owner.settle();
        let (wanted, bytes) = (self.part.owner.form(), self.bytes());
        self.part.owner.memory(&mut |raw| {
            let len_bytes = raw.map_or(0, RawBuffer::len_bytes);
            let elements = wanted.as_ref().map_or(0, |form| form.lens().iter().product());
            if raw.is_some() && (elements * size_of::<E>()) as u64 != len_bytes {
                return planner
                    .refuse(|| format!("the value had {elements} elements when its parts were named, and has {len_bytes} bytes now"));
            }
            planner.part(raw, bytes.clone(), self.of.access());
        });
    }

    fn survey(&self, survey: &mut Survey) {
        let len_bytes = (self.part.len() as u64).saturating_mul(size_of::<E>() as u64);
        self.part.owner.memory(&mut |raw| survey.part(raw, self.bytes().ok(), len_bytes, self.of.access()));
    }
}

impl<E: Data> Param for View<'_, E> {
    type Of = Viewed<E>;
    type Item<'a> = View<'a, E>;

    fn get(slots: &mut PartSlot<E>) -> View<'_, E> {
        // SAFETY: the elements are there (`bring`), and whoever changes one of them was spawned before and has ended, or waits for the task's end.
        unsafe { View::new(slots.first(), &slots.part.form) }
    }

    fn read(place: <Self::Of as Stored>::Place<'_>) -> Self::Item<'_> {
        place
    }
}

impl<E: Data> Param for ViewMut<'_, E> {
    type Of = ViewedInPlace<E>;
    type Item<'a> = ViewMut<'a, E>;

    fn get(slots: &mut PartSlot<E>) -> ViewMut<'_, E> {
        // SAFETY: the elements are there (`bring`), and whoever else has access to one of them was spawned before and has ended, or waits for the task's end.
        unsafe { ViewMut::new(slots.first(), &slots.part.form) }
    }

    fn read(place: <Self::Of as Stored>::Place<'_>) -> Self::Item<'_> {
        place
    }
}

impl<T: Parts> Elements<T::Element> for Place<T> {
    fn form(&self) -> Result<Form, crate::part::PartError> {
        match &self.form {
            Some(form) => (**form).clone(),
            None => unreachable!("a value that has parts was asked for its form"),
        }
    }

    fn bring(&self, access: Access, form: &Form, spans: &Spans) -> Result<NonNull<T::Element>, String> {
        let block = {
            let _part_writers = self.lock_header();
            self.settle();
            // SAFETY: whoever changes the value as a whole is kept away by dependencies; whoever looks at it for a part has the lock.
            unsafe { self.address().as_ref() }.memory().and_then(arena::place_of)
        };
        let key = block.map(|block| (block.arena, block.offset));
        if let Some(key) = key {
            // Without the lock, which others need to launch what this may wait for.
            residency::bring_part(key, spans, size_of::<T::Element>())?;
        }
        // Several tasks may get here at once, each for its part.
        let part_writers = self.lock_header();
        {
            // SAFETY: as above.
            let value = unsafe { self.address().as_ref() };
            spill::see(value)?;
            if access != Access::Read {
                // From now on it is known to nobody who would spill it, and whoever would list it comes by here.
                block.map_or(Ok(()), spill::withdraw)?;
            } else if *part_writers == 0 {
                spill::look_at(value, false)?;
            }
            let (then, now) = (self.form.as_deref(), T::PARTS.map(|form| form(value)));
            if now.as_ref() != then {
                let shape = |form: Option<&Result<Form, _>>| {
                    form.and_then(|form| form.as_ref().ok()).map_or_else(|| "none".to_owned(), |form| format!("{:?}", form.lens()))
                };
                return Err(format!(
                    "the value had the shape {} when its parts were named, and has {} now",
                    shape(then),
                    shape(now.as_ref())
                ));
            }
        }
        let first = match key {
            _ if access == Access::Read => {
                // SAFETY: as above.
                let value = unsafe { self.address().as_ref() };
                value.first().cast_mut()
            }
            Some(key) => {
                residency::changes_part(key, spans, size_of::<T::Element>());
                // SAFETY: as above. Not by way of the buffer, for which all of it would change.
                let memory = unsafe { self.address().as_ref() }.memory();
                memory.map_or(std::ptr::null_mut(), |raw| raw.as_ptr().cast())
            }
            None => {
                // SAFETY: as above; the elements that other tasks have meanwhile are no part of what is borrowed here.
                let value = unsafe { self.address().as_mut() };
                value.first_mut()
            }
        };
        // Without elements it may be anywhere.
        let first = if form.lens().contains(&0) { first } else { first.wrapping_offset(form.start as isize) };
        NonNull::new(first).ok_or_else(|| "the value has no memory".to_owned())
    }

    fn begin_to_write(&self) {
        *self.lock_header() += 1;
    }

    fn end_to_write(&self, may_offer: bool) {
        let mut part_writers = self.lock_header();
        *part_writers -= 1;
        if may_offer && *part_writers == 0 {
            // SAFETY: the caller keeps whoever changes the value as a whole away; whoever looks at it for a part has the lock.
            spill::offer_all(unsafe { self.address().as_ref() });
        }
    }

    fn memory(&self, look: &mut dyn FnMut(Option<&RawBuffer>)) {
        let _part_writers = self.lock_header();
        // SAFETY: as in `bring`.
        look(unsafe { self.address().as_ref() }.memory());
    }
}
