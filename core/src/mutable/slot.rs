//! How access to a value, or to a part of it, is stored until its task runs.
#![expect(unsafe_code, reason = "a value that several tasks reach, which dependencies keep apart")]

use std::cell::{Cell, UnsafeCell};
use std::convert::Infallible;
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use poniard_interface::Access;

use super::history::{History, PlaceEdge, Target};
use super::{Elements, Historic, Place, Read, Write};
use crate::data::Data;
use crate::error::TaskError;
use crate::kernel::check::Parameter;
use crate::kernel::plan::{Planner, Survey};
use crate::parameter::{IntoArg, Param, Slot, Slots, Stored, parameter, plan};
use crate::part::{FieldPart, Form, Part, Parts, ReadField, ReadPart, View, ViewMut, WriteField, WritePart};
use crate::task::record::{Edge, Header, dropped_quietly};
use crate::wire::{self, Reader, WireError, Writer};
use crate::{residency, spill};

/// Stands for "a `T` that is changed in place" where a parameter's argument type is named.
#[doc(hidden)]
#[derive(Debug)]
pub struct InPlace<T>(std::marker::PhantomData<T>);

/// Stands for "elements that are read".
#[doc(hidden)]
#[derive(Debug)]
pub struct Viewed<E>(std::marker::PhantomData<E>);

/// Stands for "elements that are changed in place".
#[doc(hidden)]
#[derive(Debug)]
pub struct ViewedInPlace<E>(std::marker::PhantomData<E>);

impl<T: Data> Stored for InPlace<T> {
    type Slots = Box<PlaceSlot<T>>;
    /// Nothing: nodes of graphs change nothing in place.
    type Place<'a> = Infallible;
}

impl<E: Data> Stored for Viewed<E> {
    type Slots = Box<PartSlot<E>>;
    /// Nothing: nodes of graphs have no access to values in place.
    type Place<'a> = Infallible;
}

impl<E: Data> Stored for ViewedInPlace<E> {
    type Slots = Box<PartSlot<E>>;
    type Place<'a> = Infallible;
}

/// An access, whatever it is to.
struct AccessTo {
    owner: Arc<dyn Historic>,
    target: Target,
    access: Access,
    /// Found when the task is spawned.
    edges: Box<[PlaceEdge]>,
}

impl AccessTo {
    fn new(owner: Arc<dyn Historic>, target: Target, access: Access) -> Self {
        Self { owner, target, access, edges: Box::default() }
    }

    fn visit(&self, visit: &mut impl FnMut(&Header, &Edge)) {
        for edge in &self.edges {
            visit(&edge.task, &edge.edge);
        }
    }

    fn failed(&self) -> Option<TaskError> {
        self.edges.iter().filter(|edge| edge.needed).find_map(|edge| edge.task.failure())
    }
}

impl fmt::Debug for AccessTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTo")
            .field("target", &self.target)
            .field("access", &self.access)
            .field("edges", &self.edges)
            .finish_non_exhaustive()
    }
}

/// The stored access to a [`Mutable`](crate::Mutable), or to a field of one.
#[doc(hidden)]
#[derive(Debug)]
pub struct PlaceSlot<T> {
    of: AccessTo,
    /// Where the value lies; the owner keeps it.
    value: NonNull<T>,
}

// SAFETY: the value is `Send` and `Sync` (`Data`, which every way to make a slot asks for), and the rest is by itself.
unsafe impl<T: Data> Send for PlaceSlot<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Data> Sync for PlaceSlot<T> {}

impl<T: Data> PlaceSlot<T> {
    fn whole(place: &Arc<Place<T>>, access: Access) -> Box<Self> {
        let value = place.address();
        let owner = Arc::clone(place);
        Box::new(Self { of: AccessTo::new(owner, Target::Whole, access), value })
    }

    fn field(field: &FieldPart<T>, access: Access) -> Box<Self> {
        Box::new(Self { of: AccessTo::new(Arc::clone(&field.owner), Target::Part(field.number), access), value: field.value })
    }
}

impl<T> PlaceSlot<T> {
    /// The value, for the task that stores this, from when it is ready until its body is over.
    pub(crate) fn get(&self) -> &T {
        // SAFETY: only the body gets here, and whoever looks at the arguments while nobody can claim the task. It is ready after all that conflict and were spawned
        // before; those that come later wait for the task's end.
        unsafe { self.value.as_ref() }
    }

    fn get_mut(&mut self) -> &mut T {
        debug_assert!(self.of.access != Access::Read, "`Write` stores no read access");
        // SAFETY: as in `get`; writing conflicts with every other access, and the task has this one to the place (`Ordered::new`).
        unsafe { self.value.as_mut() }
    }
}

impl<T: Data> IntoArg<T> for Read<T> {
    fn into_slots(self) -> Slot<T> {
        Slot::Place(PlaceSlot::whole(&self.0.0, Access::Read))
    }
}

impl<T: Data> IntoArg<InPlace<T>> for Write<T> {
    fn into_slots(self) -> Box<PlaceSlot<T>> {
        PlaceSlot::whole(&self.0.0, self.1)
    }
}

impl<T: Data> IntoArg<T> for ReadField<T> {
    fn into_slots(self) -> Slot<T> {
        Slot::Place(PlaceSlot::field(&self.0, Access::Read))
    }
}

impl<T: Data> IntoArg<InPlace<T>> for WriteField<T> {
    fn into_slots(self) -> Box<PlaceSlot<T>> {
        PlaceSlot::field(&self.0, self.1)
    }
}

impl<E: Data> IntoArg<Viewed<E>> for ReadPart<E> {
    fn into_slots(self) -> Box<PartSlot<E>> {
        PartSlot::new(self.0, Access::Read)
    }
}

impl<E: Data> IntoArg<ViewedInPlace<E>> for WritePart<E> {
    fn into_slots(self) -> Box<PartSlot<E>> {
        PartSlot::new(self.0, self.1)
    }
}

impl<T: Data> Slots for Box<PlaceSlot<T>> {
    fn visit(&self, visit: &mut impl FnMut(&Header, &Edge)) {
        self.of.visit(visit);
    }

    // It comes after those tasks, and does not take their results.
    fn visit_numbered(&self, _visit: &mut impl FnMut(Option<usize>, &Header)) {}

    fn failed(&self) -> Option<TaskError> {
        self.of.failed()
    }

    #[inline]
    fn touches_places(&self) -> bool {
        true
    }

    fn visit_places(&mut self, visit: &mut dyn FnMut(&mut dyn Touch)) {
        visit(&mut self.of);
    }

    const TRAVELS: bool = T::WIRE.is_some();

    fn parts_travel(parts: &mut wire::Parts) -> bool {
        parts.travel::<T>()
    }

    const ELSEWHERE: bool = residency::can_be_elsewhere::<T>();

    #[inline]
    fn bring(&self) -> Result<(), String> {
        // Old contents that nobody looks at need not be there.
        if const { Self::ELSEWHERE } && self.of.access != Access::Overwrite { residency::bring(self.get()) } else { Ok(()) }
    }

    #[inline]
    fn look_at(&self, _takes: bool) -> Result<(), String> {
        // Of old contents that nobody looks at, only the place is needed.
        if self.of.access == Access::Overwrite { Ok(()) } else { spill::look_at(self.get(), self.of.access == Access::Write) }
    }

    #[inline]
    fn offer(&self) {
        if self.of.access != Access::Read {
            spill::offer_all(self.get());
        }
    }

    fn parameter() -> Parameter {
        parameter::<T>(true)
    }

    fn plan(&self, planner: &mut Planner) {
        plan(self.get(), self.of.access, planner);
    }

    fn survey(&self, survey: &mut Survey) {
        survey.argument(self.get(), self.of.access);
    }

    // The memory of its buffers is handed over: until the call is over nobody but the task has access to the value.
    fn send(&self, writer: &mut Writer<'_>, _gives: bool) -> Result<(), WireError> {
        residency::forget(self.get());
        writer.in_place(self.of.access == Access::Write, |writer| wire::put(self.get(), writer))
    }

    fn send_back(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
        wire::put(self.get(), writer)
    }

    fn take_back(&mut self, reader: &mut Reader<'_>) -> Result<(), WireError> {
        let value = wire::take(reader)?;
        // What was there before, and has handed its buffers over.
        dropped_quietly(std::mem::replace(self.get_mut(), value));
        Ok(())
    }

    fn receive(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let value = reader.keeping(wire::take::<T>)?;
        let place = Arc::new(Place { history: Mutex::default(), form: None, header: Mutex::new(()), value: UnsafeCell::new(value) });
        Ok(PlaceSlot::whole(&place, Access::Write))
    }
}

impl<T: Data> Param for &mut T {
    type Of = InPlace<T>;
    type Item<'a> = &'a mut T;

    fn get(slots: &mut Box<PlaceSlot<T>>) -> &mut T {
        slots.get_mut()
    }

    fn read(place: <Self::Of as Stored>::Place<'_>) -> Self::Item<'_> {
        match place {}
    }
}

impl<T: Data> Param for &mut [T] {
    type Of = InPlace<Vec<T>>;
    type Item<'a> = &'a mut [T];

    fn get(slots: &mut Box<PlaceSlot<Vec<T>>>) -> &mut [T] {
        slots.get_mut()
    }

    fn read(place: <Self::Of as Stored>::Place<'_>) -> Self::Item<'_> {
        match place {}
    }
}

/// The stored access to elements of a value.
#[doc(hidden)]
pub struct PartSlot<E> {
    of: AccessTo,
    part: Part<E>,
    /// The first element, once it has been looked for.
    first: Cell<Option<NonNull<E>>>,
}

// SAFETY: the elements are `Send` and `Sync` (`Data`, which every way to make a slot asks for), and the rest is by itself.
unsafe impl<E: Data> Send for PartSlot<E> {}

impl<E: Data> PartSlot<E> {
    fn new(part: Part<E>, access: Access) -> Box<Self> {
        let owner = Arc::clone(&part.owner) as Arc<dyn Historic>;
        Box::new(Self { of: AccessTo::new(owner, Target::Part(part.number), access), part, first: Cell::new(None) })
    }

    fn first(&self) -> NonNull<E> {
        match self.first.get() {
            Some(first) => first,
            None => unreachable!("a body is called when its arguments have been brought"),
        }
    }
}

impl<E> fmt::Debug for PartSlot<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartSlot").field("of", &self.of).field("part", &self.part).finish_non_exhaustive()
    }
}

impl<E: Data> Slots for Box<PartSlot<E>> {
    fn visit(&self, visit: &mut impl FnMut(&Header, &Edge)) {
        self.of.visit(visit);
    }

    fn visit_numbered(&self, _visit: &mut impl FnMut(Option<usize>, &Header)) {}

    fn failed(&self) -> Option<TaskError> {
        self.of.failed()
    }

    #[inline]
    fn touches_places(&self) -> bool {
        true
    }

    fn visit_places(&mut self, visit: &mut dyn FnMut(&mut dyn Touch)) {
        visit(&mut self.of);
    }

    const ELSEWHERE: bool = true;

    fn bring(&self) -> Result<(), String> {
        let first = self.part.owner.bring(self.of.access, &self.part.form)?;
        self.first.set(Some(first));
        Ok(())
    }

    fn parameter() -> Parameter {
        Parameter { shape: None, is_changed: true, name: "part of a value" }
    }

    fn survey(&self, survey: &mut Survey) {
        let bytes = (self.part.len() as u64).saturating_mul(size_of::<E>() as u64);
        survey.size = survey.size.saturating_add(bytes);
    }
}

impl<E: Data> Param for View<'_, E> {
    type Of = Viewed<E>;
    type Item<'a> = View<'a, E>;

    fn get(slots: &mut Box<PartSlot<E>>) -> View<'_, E> {
        // SAFETY: the elements are there (`bring`), and whoever changes one of them was spawned before and has ended, or waits for the task's end.
        unsafe { View::new(slots.first(), &slots.part.form) }
    }

    fn read(place: <Self::Of as Stored>::Place<'_>) -> Self::Item<'_> {
        match place {}
    }
}

impl<E: Data> Param for ViewMut<'_, E> {
    type Of = ViewedInPlace<E>;
    type Item<'a> = ViewMut<'a, E>;

    fn get(slots: &mut Box<PartSlot<E>>) -> ViewMut<'_, E> {
        // SAFETY: the elements are there (`bring`), and whoever else has access to one of them was spawned before and has ended, or waits for the task's end.
        unsafe { ViewMut::new(slots.first(), &slots.part.form) }
    }

    fn read(place: <Self::Of as Stored>::Place<'_>) -> Self::Item<'_> {
        match place {}
    }
}

impl<T: Parts> Elements<T::Element> for Place<T> {
    fn form(&self) -> Result<Form, crate::part::PartError> {
        match &self.form {
            Some(form) => (**form).clone(),
            None => unreachable!("a value that has parts was asked for its form"),
        }
    }

    fn bring(&self, access: Access, form: &Form) -> Result<NonNull<T::Element>, String> {
        // Several tasks may get here at once, each for its part.
        let _header = self.lock_header();
        {
            // SAFETY: whoever changes the value as a whole is kept away by dependencies; whoever looks at it for a part has the lock.
            let value = unsafe { self.address().as_ref() };
            residency::bring(value)?;
            spill::look_at(value, access != Access::Read)?;
            let (then, now) = (Elements::form(self), T::PARTS.map(|form| form(value)));
            if now.as_ref() != Some(&then) {
                let shape = |form: &Result<Form, _>| form.as_ref().map_or_else(|_| "none".to_owned(), |form| format!("{:?}", form.lens()));
                let now = now.as_ref().map_or_else(|| "none".to_owned(), shape);
                return Err(format!("the value had the shape {} when its parts were named, and has {now} now", shape(&then)));
            }
        }
        let first = if access == Access::Read {
            // SAFETY: as above.
            let value = unsafe { self.address().as_ref() };
            value.first().cast_mut()
        } else {
            // SAFETY: as above; the elements that other tasks have meanwhile are no part of what is borrowed here.
            let value = unsafe { self.address().as_mut() };
            value.first_mut()
        };
        // Without elements it may be anywhere.
        let first = if form.lens().contains(&0) { first } else { first.wrapping_offset(form.start as isize) };
        NonNull::new(first).ok_or_else(|| "the value has no memory".to_owned())
    }
}

/// An access of unknown type.
#[doc(hidden)]
pub trait Touch {
    /// How the place is used.
    fn access(&self) -> Access;
    #[doc(hidden)]
    fn target(&self) -> OfTarget;
    #[doc(hidden)]
    fn history(&self) -> OfPlace;
    #[doc(hidden)]
    fn wait_for(&mut self, edges: Edges);
}

/// What of a place it is.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct OfTarget(pub(super) Target);

/// Names a place and gives its history.
#[doc(hidden)]
#[derive(Clone)]
pub struct OfPlace(Arc<dyn Historic>);

impl OfPlace {
    pub(super) fn history(&self) -> &Mutex<History> {
        self.0.history()
    }
}

impl fmt::Debug for OfPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OfPlace").field(&std::ptr::from_ref(self.history())).finish()
    }
}

/// What an access waits for.
#[doc(hidden)]
#[derive(Debug)]
pub struct Edges(pub(super) Box<[PlaceEdge]>);

impl Touch for AccessTo {
    fn access(&self) -> Access {
        self.access
    }

    fn target(&self) -> OfTarget {
        OfTarget(self.target)
    }

    fn history(&self) -> OfPlace {
        OfPlace(Arc::clone(&self.owner))
    }

    fn wait_for(&mut self, edges: Edges) {
        self.edges = edges.0;
    }
}
