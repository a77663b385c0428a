//! How access to a value, or to a field of one, is stored until its task runs.
#![expect(unsafe_code, reason = "a value that several tasks reach, which dependencies keep apart")]

use std::any::TypeId;
use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use poniard_interface::Access;

use super::consume::{Apart, Presence, Taker};
use super::history::{EdgeList, History, Mode, Target};
use super::reduction::{Copies, Made, Own, Reduce};
use super::seen::Seen;
use super::turn::{Line, Turn};
use super::{Commute, Historic, Place, Read, Write};
use crate::data::Data;
use crate::error::TaskError;
use crate::function::caller;
use crate::graph::PlaceMut;
use crate::kernel::check::Parameter;
use crate::kernel::plan::{Planner, Survey};
use crate::parameter::{IntoArg, Param, Slot, Slots, Stored, parameter, plan};
use crate::part::{FieldPart, ReadField, Spans, WriteField};
use crate::region::guard;
use crate::region::shadow::{Lying, Shown};
use crate::task::record::{Edge, Header, dropped_quietly};
use crate::wire::{self, Reader, WireError, Writer};
use crate::{residency, spill};

/// Stands for "a `T` that is changed in place" where a parameter's argument type is named.
#[doc(hidden)]
#[derive(Debug)]
pub struct InPlace<T>(std::marker::PhantomData<T>);

impl<T: Data> Stored for InPlace<T> {
    type Slots = PlaceSlot<T>;
    type Place<'a> = PlaceMut<'a, T>;
}

/// An access, whatever it is to.
pub(super) struct AccessTo {
    owner: Arc<dyn Historic>,
    target: Target,
    mode: Mode,
    /// Found when the task is spawned.
    edges: EdgeList,
    /// Whether copies have to be combined before the value is used.
    settles: bool,
    /// The task's, if this is the first of its accesses that commute.
    turn: Option<Arc<Turn>>,
    /// Gets the task's name, if the task may leave its place empty.
    taker: Option<Arc<Taker>>,
    /// Whether it is in order if there is no value.
    may_find_none: bool,
}

impl AccessTo {
    pub(super) fn new(owner: Arc<dyn Historic>, target: Target, mode: Mode) -> Self {
        Self { owner, target, mode, edges: EdgeList::new(), settles: false, turn: None, taker: None, may_find_none: false }
    }

    /// Of a task that may leave the place empty, and perhaps finds it so.
    pub(super) fn emptying(mut self, taker: &Arc<Taker>, may_find_none: bool) -> Self {
        self.taker = Some(Arc::clone(taker));
        self.may_find_none = may_find_none;
        self
    }

    /// Combines what tasks before have left beside the value, but for what those have left that change copies of the same kind.
    pub(super) fn settle(&self) {
        if self.settles {
            let kept = if let Mode::Reduce(kind) = self.mode { Some(kind) } else { None };
            self.owner.settle_but(kept);
        }
    }

    /// What the task may do.
    pub(super) fn access(&self) -> Access {
        self.mode.access()
    }

    /// Shows itself as access to these elements, or to all.
    pub(super) fn see(&self, spans: Option<&Arc<Spans>>, see: &mut impl FnMut(Seen<'_>)) {
        see(Seen::place(&*self.owner, self.target, self.mode, spans));
    }

    pub(super) fn visit(&self, visit: &mut impl FnMut(&Header, &Edge)) {
        for edge in &self.edges {
            visit(&edge.task, &edge.edge);
        }
    }

    pub(super) fn failed(&self) -> Option<TaskError> {
        let failed = self.edges.iter().filter(|edge| edge.needed).find_map(|edge| edge.task.failure());
        failed.or_else(|| if self.may_find_none { None } else { self.owner.consumed() })
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
    /// What the task changes in its place, if it reduces, or if there may be no value.
    own: Option<Box<dyn Apart<T>>>,
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

    /// To something that stands for the value.
    pub(super) fn apart(of: AccessTo, own: Box<dyn Apart<T>>) -> Self {
        Self { of, value: NonNull::dangling(), own: Some(own), spans: None }
    }

    fn field(field: FieldPart<T>, access: Access) -> Self {
        let of = AccessTo::new(field.owner, Target::Part(field.number), access.into());
        Self { of, value: field.value, own: None, spans: Some(field.spans) }
    }
}

impl<T> PlaceSlot<T> {
    /// The value, for the task that stores this, from when it is ready until its body is over.
    pub(crate) fn get(&self) -> &T {
        self.of.settle();
        if let Some(own) = &self.own {
            return own.get();
        }
        // SAFETY: only the body gets here, and whoever looks at the arguments while nobody can claim the task. It is ready after all that conflict and were spawned
        // before; those that come later wait for the task's end.
        unsafe { self.value.as_ref() }
    }

    fn get_mut(&mut self) -> &mut T {
        debug_assert!(self.of.access() != Access::Read, "`Write` stores no read access");
        self.of.settle();
        if let Some(own) = &mut self.own {
            return own.get_mut();
        }
        // SAFETY: as in `get`; writing conflicts with every other access, and the task has this one to the place (`Ordered::new`).
        unsafe { self.value.as_mut() }
    }
}

/// A look at a [`Mutable`](crate::Mutable), as it is before its task has been ordered, and stays if it never is: a third of what a [`PlaceSlot`] takes, and nothing to allocate.
#[doc(hidden)]
pub struct Unordered<T>(Arc<Place<T>>);

impl<T> fmt::Debug for Unordered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unordered").field(&self.0.location).finish()
    }
}

impl<T: Data> Unordered<T> {
    /// What it becomes when its task is ordered.
    pub(crate) fn into_ordered(self) -> PlaceSlot<T> {
        PlaceSlot::whole(self.0, Mode::Read)
    }

    #[inline]
    pub(crate) fn see(&self, see: &mut impl FnMut(Seen<'_>)) {
        see(Seen::place(&*self.0, Target::Whole, Mode::Read, None));
    }

    pub(crate) fn failed(&self) -> Option<TaskError> {
        self.0.consumed()
    }

    /// The value, for a task that is run in its order without having been given one: as the node of a graph.
    #[inline]
    pub(crate) fn get(&self) -> &T {
        // SAFETY: only the body gets here. Its task has been ordered, which makes this a `PlaceSlot`, or it is a node of a graph: that begins when all tasks before it have ended that write the
        // value, and no copies are to be combined (`History::put_mark`, the holds of a plan); nodes that write the value come before this one or after; and who comes later waits for the last of them.
        unsafe { self.0.address().as_ref() }
    }
}

impl<T: Data> IntoArg<T> for Read<T> {
    fn into_slots(self) -> Slot<T> {
        Slot::Unordered(Unordered(self.0.0))
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
pub(super) use of_access;

impl<T: Data> Slots for PlaceSlot<T> {
    of_access!();

    #[inline]
    fn see(&self, see: &mut impl FnMut(Seen<'_>)) {
        self.of.see(self.spans.as_ref(), see);
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
        // What may not be there is taken out by the body alone.
        if !self.of.may_find_none && self.of.owner.consumed().is_none() {
            survey.argument(self.get(), self.of.access());
        }
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
            part_writers: Mutex::new(0),
            location: caller(),
            combined: AtomicU32::new(0),
            presence: Presence::default(),
            value: UnsafeCell::new(MaybeUninit::new(value)),
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

impl<T: Data> Place<T> {
    /// The first element, and where all of them lie, if there is a value whose elements are nothing but their bytes.
    ///
    /// # Safety
    /// Nobody changes the value meanwhile.
    unsafe fn lies(&self) -> Option<(*const u8, Lying)> {
        let (find, form_of) = (T::FIRST?, T::PARTS?);
        if self.is_empty() {
            return None;
        }
        // SAFETY: there is a value, and nobody changes it (precondition).
        let value = unsafe { self.address().as_ref() };
        let ((first, element_bytes), form) = (find(value)?, form_of(value).ok()?);
        Some((first, Lying { address: first.addr(), form, element_bytes }))
    }

    /// Has nothing closed that lies in the value, for who is about to give it other memory.
    #[cold]
    pub(super) fn stand_down(&self) -> guard::Down {
        // SAFETY: who does so keeps everybody else away.
        let lying = unsafe { self.lies() }.map(|(_, lying)| lying.begin()..lying.end());
        guard::stand_down(lying.unwrap_or_default())
    }
}

impl<T: Data> Historic for Place<T> {
    fn history(&self) -> &Mutex<History> {
        &self.history
    }

    fn line(&self) -> &Mutex<Line> {
        &self.line
    }

    fn settle_but(&self, kept: Option<TypeId>) {
        self.with_copies(|copies| {
            if self.is_empty() {
                // There is nothing to combine them with, and who looks fails.
                return copies.clear();
            }
            let next = |copies: &Copies<T>| copies.iter().rposition(|made| kept != Some(made.kind));
            // What combines may give the elements other memory.
            let _down = next(copies).map(|_| self.stand_down());
            if next(copies).is_some() {
                // Relaxed: only who has the lock looks at it.
                self.combined.fetch_add(1, Relaxed);
            }
            while let Some(index) = next(copies) {
                let Made { copy, functions, .. } = copies.swap_remove(index);
                // SAFETY: whoever has made a copy has ended, and whoever looks at the value comes by here first and keeps none, so he waits until there is none left.
                functions.combine(unsafe { self.address().as_mut() }, copy);
            }
        });
    }

    fn location(&self) -> &'static Location<'static> {
        self.location
    }

    fn lying(&self) -> Option<Lying> {
        let _header = self.part_writers.try_lock().ok()?;
        let _copies = self.copies.try_lock().ok()?;
        // SAFETY: nobody has access to write it meanwhile (the caller), nor combines copies into it (the lock).
        unsafe { self.lies() }.map(|(_, lying)| lying)
    }

    fn show(&self) -> Option<Shown> {
        let _header = self.lock_header();
        self.with_copies(|_| {
            // SAFETY: nobody has access to write it meanwhile (the caller), nor combines copies into it (`with_copies`).
            let (first, lying) = unsafe { self.lies() }?;
            let mut bytes = vec![0; lying.end() - lying.begin()];
            if !bytes.is_empty() {
                let from = first.wrapping_add(lying.begin().wrapping_sub(lying.address));
                // SAFETY: the elements lie in one piece of memory of the value, and are nothing but bytes (`Data::FIRST`).
                unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
            }
            Some(Shown { lying, bytes, combined: self.combined.load(Relaxed) })
        })
    }

    fn consumed(&self) -> Option<TaskError> {
        self.consumed_by()
    }

    fn make_ready(&self, access: Access) -> Result<(), String> {
        self.settle();
        // SAFETY: the caller keeps whoever changes the value away.
        let value = unsafe { self.address().as_ref() };
        residency::bring(value)?;
        spill::look_at(value, access != Access::Read)
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
    /// Whom to tell the task's name, if it may leave the place empty.
    #[doc(hidden)]
    fn taker(&self) -> OfTaker;
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

/// Who gets a task's name.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "a name that may not be there yet")]
pub struct OfTaker(pub(super) Option<Arc<Taker>>);

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

    fn taker(&self) -> OfTaker {
        OfTaker(self.taker.clone())
    }

    fn visit_edges(&self, visit: &mut dyn FnMut(&Header, &Edge)) {
        self.visit(&mut |task, edge| visit(task, edge));
    }

    fn take_turn(&mut self, turn: OfTurn) {
        self.edges.extend(turn.0.edge());
        self.turn = Some(turn.0);
    }
}
