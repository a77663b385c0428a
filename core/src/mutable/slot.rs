//! How access to a value, or to a field of one, is stored until its task runs.
#![expect(unsafe_code, reason = "a value that several tasks reach, which dependencies keep apart")]

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
use super::history::{CopyKind, History, Mode, PlaceEdges, Target};
use super::reduction::{Copies, Made, Own, Reduce};
use super::seen::Seen;
use super::touch::{OfMode, OfPlace, OfTaker, OfTarget, OfTurn, Touch};
use super::turn::{Line, Turn};
use super::{Commute, Historic, Place, Write};
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
use crate::task::memory::Kept;
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

/// An access, whatever it is to. Small: every task has all of its accesses in its record.
pub(super) struct AccessTo {
    owner: Arc<dyn Historic>,
    /// Found when the task is spawned.
    edges: PlaceEdges,
    /// What few accesses have.
    rest: Option<Box<Rest>>,
    /// The number of the part, or `WHOLE`.
    part: u32,
    mode: Mode,
    /// Whether copies have to be combined before the value is used.
    settles: bool,
}

/// Stands for all of a value.
const WHOLE: u32 = u32::MAX;

#[derive(Default)]
struct Rest {
    /// The task's, if this is the first of its accesses that commute.
    turn: Option<Arc<Turn>>,
    /// Gets the task's name, if the task may leave its place empty.
    taker: Option<Arc<Taker>>,
    /// Whether it is in order if there is no value.
    may_find_none: bool,
}

impl AccessTo {
    #[inline]
    pub(super) fn new(owner: Arc<dyn Historic>, target: Target, mode: Mode) -> Self {
        let part = match target {
            Target::Whole => WHOLE,
            Target::Part(number) => number,
        };
        debug_assert!(target == Target::Whole || part != WHOLE, "there are fewer parts than that");
        Self { owner, edges: PlaceEdges::default(), rest: None, part, mode, settles: false }
    }

    /// Of a task that may leave the place empty, and perhaps finds it so.
    pub(super) fn emptying(mut self, taker: &Arc<Taker>, may_find_none: bool) -> Self {
        let rest = self.rest.get_or_insert_default();
        rest.taker = Some(Arc::clone(taker));
        rest.may_find_none = may_find_none;
        self
    }

    fn target(&self) -> Target {
        if self.part == WHOLE { Target::Whole } else { Target::Part(self.part) }
    }

    fn may_find_none(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.may_find_none)
    }

    /// Combines what tasks before have left beside the value, but for what those have left that change copies of the same kind.
    #[inline]
    pub(super) fn settle(&self) {
        if self.settles {
            let kept = if let Mode::Reduce(copies) = self.mode { Some(copies) } else { None };
            self.owner.settle_but(kept);
        }
    }

    /// What the task may do.
    #[inline]
    pub(super) fn access(&self) -> Access {
        self.mode.access()
    }

    /// Shows itself as access to these elements, or to all.
    pub(super) fn see(&self, spans: Option<&Arc<Spans>>, see: &mut impl FnMut(Seen<'_>)) {
        see(Seen::place(&*self.owner, self.target(), self.mode, spans));
    }

    #[inline]
    pub(super) fn visit(&self, visit: &mut impl FnMut(&Header, &Edge)) {
        self.edges.visit(visit);
    }

    #[inline]
    pub(super) fn failed(&self) -> Option<TaskError> {
        self.edges.failed().or_else(|| if self.may_find_none() { None } else { self.owner.consumed() })
    }
}

impl Drop for AccessTo {
    #[inline]
    fn drop(&mut self) {
        if let Some(turn) = self.rest.as_ref().and_then(|rest| rest.turn.as_ref()) {
            turn.end();
        }
    }
}

impl fmt::Debug for AccessTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTo")
            .field("target", &self.target())
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
    /// What few accesses have.
    extra: Option<Box<Extra<T>>>,
}

#[derive(Debug)]
enum Extra<T> {
    /// What the task changes in its place, if it reduces, or if there may be no value.
    Apart(Box<dyn Apart<T>>),
    /// Of a field: which elements, and keeps their number.
    Field(Arc<Spans>),
}

// SAFETY: the value is `Send` and `Sync` (`Data`, which every way to make a slot asks for), and the rest is by itself.
unsafe impl<T: Data> Send for PlaceSlot<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Data> Sync for PlaceSlot<T> {}

impl<T: Data> PlaceSlot<T> {
    #[inline]
    pub(super) fn whole(place: Arc<Place<T>>, mode: Mode) -> Self {
        let value = place.address();
        Self { of: AccessTo::new(place, Target::Whole, mode), value, extra: None }
    }

    /// To something that stands for the value.
    pub(super) fn apart(of: AccessTo, own: Box<dyn Apart<T>>) -> Self {
        Self { of, value: NonNull::dangling(), extra: Some(Box::new(Extra::Apart(own))) }
    }

    pub(crate) fn access(&self) -> &dyn Touch {
        &self.of
    }

    pub(crate) fn access_mut(&mut self) -> &mut dyn Touch {
        &mut self.of
    }

    fn field(field: FieldPart<T>, access: Access) -> Self {
        let of = AccessTo::new(field.owner, Target::Part(field.number), access.into());
        Self { of, value: field.value, extra: Some(Box::new(Extra::Field(field.spans))) }
    }
}

impl<T> PlaceSlot<T> {
    /// The value, for the task that stores this, from when it is ready until its body is over.
    pub(crate) fn get(&self) -> &T {
        self.of.settle();
        if let Some(Extra::Apart(own)) = self.extra.as_deref() {
            return own.get();
        }
        // SAFETY: only the body gets here, and whoever looks at the arguments while nobody can claim the task. It is ready after all that conflict and were spawned
        // before; those that come later wait for the task's end.
        unsafe { self.value.as_ref() }
    }

    fn get_mut(&mut self) -> &mut T {
        debug_assert!(self.of.access() != Access::Read, "`Write` stores no read access");
        self.of.settle();
        if let Some(Extra::Apart(own)) = self.extra.as_deref_mut() {
            return own.get_mut();
        }
        // SAFETY: as in `get`; writing conflicts with every other access, and the task has this one to the place (`create_ordered`).
        unsafe { self.value.as_mut() }
    }
}

impl<T: Data> IntoArg<InPlace<T>> for Write<T> {
    #[inline]
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
        PlaceSlot { extra: Some(Box::new(Extra::Apart(Box::new(own)))), ..PlaceSlot::whole(place, Mode::Reduce(self.kind)) }
    }
}

impl<T: Data> IntoArg<T> for ReadField<T> {
    fn into_slots(self) -> Slot<T> {
        Slot::Place(Kept::new(PlaceSlot::field(self.0, Access::Read)))
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
        let spans = if let Some(Extra::Field(spans)) = self.extra.as_deref() { Some(spans) } else { None };
        self.of.see(spans, see);
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
        if !self.of.may_find_none() && self.of.owner.consumed().is_none() {
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

    fn settle_but(&self, kept: Option<CopyKind>) {
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

impl Touch for AccessTo {
    #[inline]
    fn mode(&self) -> OfMode {
        OfMode(self.mode)
    }

    #[inline]
    fn target(&self) -> OfTarget {
        OfTarget(AccessTo::target(self))
    }

    #[inline]
    fn place(&self) -> &dyn Historic {
        &*self.owner
    }

    fn owner(&self) -> OfPlace {
        OfPlace(Arc::clone(&self.owner))
    }

    fn order(&mut self, history: &History) {
        history.each_conflict(AccessTo::target(self), self.mode, |task, needed| self.edges.push(task.clone(), needed));
        self.settles = history.must_settle(self.mode);
    }

    #[inline]
    fn taker(&self) -> OfTaker {
        OfTaker(self.rest.as_ref().and_then(|rest| rest.taker.clone()))
    }

    fn visit_edges(&self, visit: &mut dyn FnMut(&Header, &Edge)) {
        self.visit(&mut |task, edge| visit(task, edge));
    }

    fn take_turn(&mut self, turn: OfTurn) {
        if let Some(hold) = turn.0.hold() {
            self.edges.push(hold, false);
        }
        self.rest.get_or_insert_default().turn = Some(turn.0);
    }
}
