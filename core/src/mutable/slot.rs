//! How access to a value, or to a part of it, is stored until its task runs.
#![expect(unsafe_code, reason = "a value that several tasks reach, which dependencies keep apart")]

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use poniard_interface::Access;

use super::history::{EdgeList, History, Mode, Target};
use super::reduction::{Made, Own, Reduce};
use super::seen::Seen;
use super::turn::{Line, Turn};
use super::{Commute, Elements, Historic, Place, Read, Write};
use crate::data::Data;
use crate::error::TaskError;
use crate::graph::PlaceMut;
use crate::kernel::check::Parameter;
use crate::kernel::plan::{Planner, Survey};
use crate::parameter::{IntoArg, Param, Slot, Slots, Stored, parameter, plan};
use crate::part::{FieldPart, Form, Part, Parts, ReadField, ReadPart, Spans, View, ViewMut, WriteField, WritePart};
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
    type Slots = PlaceSlot<T>;
    type Place<'a> = PlaceMut<'a, T>;
}

impl<E: Data> Stored for Viewed<E> {
    type Slots = PartSlot<E>;
    type Place<'a> = View<'a, E>;
}

impl<E: Data> Stored for ViewedInPlace<E> {
    type Slots = PartSlot<E>;
    type Place<'a> = ViewMut<'a, E>;
}

/// An access, whatever it is to.
struct AccessTo {
    owner: Arc<dyn Historic>,
    target: Target,
    mode: Mode,
    /// Found when the task is spawned.
    edges: EdgeList,
    /// Whether copies have to be combined before the value is used.
    settles: bool,
    /// The task's, if this is the first of its accesses that commute.
    turn: Option<Arc<Turn>>,
}

impl AccessTo {
    fn new(owner: Arc<dyn Historic>, target: Target, mode: Mode) -> Self {
        Self { owner, target, mode, edges: EdgeList::new(), settles: false, turn: None }
    }

    /// What the task may do.
    fn access(&self) -> Access {
        self.mode.access()
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

impl Drop for AccessTo {
    fn drop(&mut self) {
        if let Some(turn) = &self.turn {
            turn.end();
        }
    }
}

impl fmt::Debug for AccessTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTo")
            .field("target", &self.target)
            .field("mode", &self.mode)
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
    /// What the task changes in its place, if it reduces.
    own: Option<Box<Own<T>>>,
    /// Of a field: which elements, and keeps their number.
    spans: Option<Arc<Spans>>,
}

// SAFETY: the value is `Send` and `Sync` (`Data`, which every way to make a slot asks for), and the rest is by itself.
unsafe impl<T: Data> Send for PlaceSlot<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Data> Sync for PlaceSlot<T> {}

impl<T: Data> PlaceSlot<T> {
    fn whole(place: Arc<Place<T>>, mode: Mode) -> Self {
        let value = place.address();
        Self { of: AccessTo::new(place, Target::Whole, mode), value, own: None, spans: None }
    }

    fn field(field: FieldPart<T>, access: Access) -> Self {
        let of = AccessTo::new(field.owner, Target::Part(field.number), access.into());
        Self { of, value: field.value, own: None, spans: Some(field.spans) }
    }
}

impl<T> PlaceSlot<T> {
    /// The value, for the task that stores this, from when it is ready until its body is over.
    pub(crate) fn get(&self) -> &T {
        if self.of.settles {
            self.of.owner.settle();
        }
        if let Some(own) = &self.own {
            return own.get();
        }
        // SAFETY: only the body gets here, and whoever looks at the arguments while nobody can claim the task. It is ready after all that conflict and were spawned
        // before; those that come later wait for the task's end.
        unsafe { self.value.as_ref() }
    }

    fn get_mut(&mut self) -> &mut T {
        debug_assert!(self.of.access() != Access::Read, "`Write` stores no read access");
        if self.of.settles {
            self.of.owner.settle();
        }
        if let Some(own) = &mut self.own {
            return own.get_mut();
        }
        // SAFETY: as in `get`; writing conflicts with every other access, and the task has this one to the place (`Ordered::new`).
        unsafe { self.value.as_mut() }
    }
}

impl<T: Data> IntoArg<T> for Read<T> {
    fn into_slots(self) -> Slot<T> {
        Slot::Place(Box::new(PlaceSlot::whole(self.0.0, Mode::Read)))
    }
}

impl<T: Data> IntoArg<InPlace<T>> for Write<T> {
    fn into_slots(self) -> PlaceSlot<T> {
        PlaceSlot::whole(self.0.0, self.1.into())
    }
}

impl<T: Data> IntoArg<InPlace<T>> for Commute<T> {
    fn into_slots(self) -> PlaceSlot<T> {
        PlaceSlot::whole(self.0.0, Mode::Commute)
    }
}

impl<T: Data> IntoArg<InPlace<T>> for Reduce<T> {
    fn into_slots(self) -> PlaceSlot<T> {
        let place = self.place.0;
        let own = Own::new(Arc::clone(&place), self.functions, self.kind);
        PlaceSlot { own: Some(Box::new(own)), ..PlaceSlot::whole(place, Mode::Reduce(self.kind)) }
    }
}

impl<T: Data> IntoArg<T> for ReadField<T> {
    fn into_slots(self) -> Slot<T> {
        Slot::Place(Box::new(PlaceSlot::field(self.0, Access::Read)))
    }
}

impl<T: Data> IntoArg<InPlace<T>> for WriteField<T> {
    fn into_slots(self) -> PlaceSlot<T> {
        PlaceSlot::field(self.0, self.1)
    }
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

/// What storage of an access answers by the access alone, its field `of`.
macro_rules! of_access {
    () => {
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
    };
}

impl<T: Data> Slots for PlaceSlot<T> {
    of_access!();

    #[inline]
    fn see(&self, see: &mut impl FnMut(Seen<'_>)) {
        see(Seen::place(&*self.of.owner, self.of.target, self.of.mode, self.spans.as_ref()));
    }

    const TRAVELS: bool = T::WIRE.is_some();

    fn parts_travel(parts: &mut wire::Parts) -> bool {
        parts.travel::<T>()
    }

    const ELSEWHERE: bool = residency::can_be_elsewhere::<T>();

    #[inline]
    fn bring(&self) -> Result<(), String> {
        // Old contents that nobody looks at need not be there.
        if const { Self::ELSEWHERE } && self.of.access() != Access::Overwrite { residency::bring(self.get()) } else { Ok(()) }
    }

    #[inline]
    fn look_at(&self, _takes: bool) -> Result<(), String> {
        // Of old contents that nobody looks at, only the place is needed.
        if self.of.access() == Access::Overwrite { Ok(()) } else { spill::look_at(self.get(), self.of.access() == Access::Write) }
    }

    #[inline]
    fn offer(&self) {
        if self.of.access() != Access::Read {
            spill::offer_all(self.get());
        }
    }

    fn parameter() -> Parameter {
        parameter::<T>(true)
    }

    fn plan(&self, planner: &mut Planner) {
        plan(self.get(), self.of.access(), planner);
    }

    fn survey(&self, survey: &mut Survey) {
        survey.argument(self.get(), self.of.access());
    }

    // The memory of its buffers is handed over: until the call is over nobody but the task has access to the value.
    fn send(&self, writer: &mut Writer<'_>, _gives: bool) -> Result<(), WireError> {
        residency::forget(self.get());
        writer.in_place(self.of.access() == Access::Write, |writer| wire::put(self.get(), writer))
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
        let place = Arc::new(Place {
            history: Mutex::default(),
            form: None,
            line: Mutex::default(),
            copies: Mutex::default(),
            header: Mutex::new(()),
            value: UnsafeCell::new(value),
        });
        Ok(PlaceSlot::whole(place, Mode::Write))
    }
}

impl<T: Data> Param for &mut T {
    type Of = InPlace<T>;
    type Item<'a> = &'a mut T;

    fn get(slots: &mut PlaceSlot<T>) -> &mut T {
        slots.get_mut()
    }

    fn read(place: <Self::Of as Stored>::Place<'_>) -> Self::Item<'_> {
        place.get()
    }
}

impl<T: Data> Param for &mut [T] {
    type Of = InPlace<Vec<T>>;
    type Item<'a> = &'a mut [T];

    fn get(slots: &mut PlaceSlot<Vec<T>>) -> &mut [T] {
        slots.get_mut()
    }

    fn read(place: <Self::Of as Stored>::Place<'_>) -> Self::Item<'_> {
        place.get()
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
    fn new(part: Part<E>, access: Access) -> Self {
        let owner = Arc::clone(&part.owner) as Arc<dyn Historic>;
        Self { of: AccessTo::new(owner, Target::Part(part.number), access.into()), part, first: Cell::new(None) }
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

impl<E: Data> Slots for PartSlot<E> {
    of_access!();

    fn see(&self, see: &mut impl FnMut(Seen<'_>)) {
        see(Seen::place(&*self.of.owner, self.of.target, self.of.mode, Some(&self.part.spans)));
    }

    const ELSEWHERE: bool = true;

    fn bring(&self) -> Result<(), String> {
        let first = self.part.owner.bring(self.of.access(), &self.part.form)?;
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

impl<T: Data> Historic for Place<T> {
    fn history(&self) -> &Mutex<History> {
        &self.history
    }

    fn line(&self) -> &Mutex<Line> {
        &self.line
    }

    fn settle(&self) {
        self.with_copies(|copies| {
            while let Some(Made { copy, functions, .. }) = copies.pop() {
                // SAFETY: whoever has made a copy has ended, and whoever looks at the value comes by here first, where he waits until there is none left.
                functions.combine(unsafe { self.address().as_mut() }, copy);
            }
        });
    }

    fn make_ready(&self, access: Access) -> Result<(), String> {
        self.settle();
        // SAFETY: the caller keeps whoever changes the value away.
        let value = unsafe { self.address().as_ref() };
        residency::bring(value)?;
        spill::look_at(value, access != Access::Read)
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
        self.settle();
        {
            // SAFETY: whoever changes the value as a whole is kept away by dependencies; whoever looks at it for a part has the lock.
            let value = unsafe { self.address().as_ref() };
            residency::bring(value)?;
            spill::look_at(value, access != Access::Read)?;
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
    #[doc(hidden)]
    fn mode(&self) -> OfMode;
    #[doc(hidden)]
    fn target(&self) -> OfTarget;
    #[doc(hidden)]
    fn history(&self) -> OfPlace;
    #[doc(hidden)]
    fn wait_for(&mut self, edges: Edges, settles: bool);
    /// Calls `visit` for each task that it waits for, and the edge to it.
    #[doc(hidden)]
    fn visit_edges(&self, visit: &mut dyn FnMut(&Header, &Edge));
    /// Begins to run when it is the task's turn, which ends with this.
    #[doc(hidden)]
    fn take_turn(&mut self, turn: OfTurn);
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

    pub(super) fn owner(&self) -> &Arc<dyn Historic> {
        &self.0
    }
}

impl fmt::Debug for OfPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OfPlace").field(&std::ptr::from_ref(self.history())).finish()
    }
}

/// How it goes with others.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct OfMode(pub(super) Mode);

/// A task's turn.
#[doc(hidden)]
#[derive(Debug)]
pub struct OfTurn(pub(super) Arc<Turn>);

/// What an access waits for.
#[doc(hidden)]
#[derive(Debug)]
pub struct Edges(pub(super) EdgeList);

impl Touch for AccessTo {
    fn mode(&self) -> OfMode {
        OfMode(self.mode)
    }

    fn target(&self) -> OfTarget {
        OfTarget(self.target)
    }

    fn history(&self) -> OfPlace {
        OfPlace(Arc::clone(&self.owner))
    }

    fn wait_for(&mut self, edges: Edges, settles: bool) {
        self.edges = edges.0;
        self.settles = settles;
    }

    fn visit_edges(&self, visit: &mut dyn FnMut(&Header, &Edge)) {
        self.visit(&mut |task, edge| visit(task, edge));
    }

    fn take_turn(&mut self, turn: OfTurn) {
        self.edges.extend(turn.0.edge());
        self.turn = Some(turn.0);
    }
}
