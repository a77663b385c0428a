//! What the parameters of a task function may be, and what may be given for them.
//!
//! One file because every way to store an argument answers the same questions.

use std::marker::PhantomData;
use std::sync::Arc;

use poniard_interface::Access;

use crate::arena;
use crate::data::Data;
use crate::error::TaskError;
use crate::function::caller;
use crate::graph::{Place, Places};
use crate::kernel::Shape;
use crate::kernel::check::Parameter;
use crate::kernel::plan::{Planner, Survey};
use crate::mutable::{ConsumeSlot, Historic, History, Look, OfMode, OfPlace, OfTaker, OfTarget, OfTurn, PlaceSlot, Seen, Touch};
use crate::residency::{self, Lineage};
use crate::spill;
use crate::task::memory::Kept;
use crate::task::record::{Dependency, Edge, Header, create_finished};
use crate::task::{Task, Value};
use crate::wire::{self, Identity, Parts, Reader, Taken, WireError, Writer};

/// A type that a task function may have as a parameter: `&T`, `&mut T`, `T` and [`Gather<'_, T>`](Gather), where `T:` [`Data`].
///
/// * `&T` reads the argument where it is; many tasks may read one result at once. `&[T]` reads a `Vec<T>`, and `&str` a `String`.
/// * `T` takes it: it is moved when this task is its last user, and cloned otherwise, so `T` has to be `Clone`.
/// * `&mut T` changes a [`Mutable`](crate::Mutable) in place. `&mut [T]` changes one of a `Vec<T>`.
/// * [`Gather`] reads any number of results.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a task function",
    note = "parameters are `T` (with `T: Data + Clone`), `&T` or `&mut T` (with `T: Data`), or `Gather<'_, T>`"
)]
pub trait Param {
    /// What is stored for it.
    type Of: Stored;
    /// The parameter, for one lifetime.
    type Item<'a>;
    /// Whether it takes the argument by value.
    #[doc(hidden)]
    const TAKES: bool = false;

    /// The stored argument as the function wants it.
    #[doc(hidden)]
    fn get(slots: &mut <Self::Of as Stored>::Slots) -> Self::Item<'_>;

    /// The same, and the argument stays for another call of the function: what the function takes is a clone.
    #[doc(hidden)]
    fn get_kept(slots: &mut <Self::Of as Stored>::Slots) -> Self::Item<'_> {
        Self::get(slots)
    }
    /// The argument of a node of a graph, as its function wants it.
    #[doc(hidden)]
    fn read(place: <Self::Of as Stored>::Place<'_>) -> Self::Item<'_>;
}

/// How an argument is stored until its task runs.
#[doc(hidden)]
pub trait Stored: 'static {
    /// The storage.
    type Slots: Slots + Send;
    /// Where the argument of a node of a graph lies while the node runs.
    type Place<'a>;
}

/// What storage of arguments can be asked.
#[doc(hidden)]
pub trait Slots: 'static {
    /// Calls `visit` for each task that it is the result of.
    fn visit(&self, visit: &mut impl FnMut(&Header, &Edge));
    /// Calls `visit` for each task whose result it takes, with the number of each where they are a collection, counted from 1.
    fn visit_numbered(&self, visit: &mut impl FnMut(Option<usize>, &Header));
    /// The error of one that failed.
    fn failed(&self) -> Option<TaskError>;
    /// Whether it is access to a [`Mutable`](crate::Mutable).
    #[inline]
    fn touches_places(&self) -> bool {
        false
    }
    /// Calls `visit` if it is.
    fn visit_places(&mut self, _visit: &mut dyn FnMut(&mut dyn Touch)) {}
    /// Shows what it depends on, before it has been ordered: see `Predecessors::see`.
    #[inline]
    fn see(&self, see: &mut impl FnMut(Seen<'_>)) {
        self.visit(&mut |task, _| see(Seen::result(task)));
    }
    /// Whether it can travel to another process.
    const TRAVELS: bool = false;
    /// Whether all that its type is made of can, too.
    fn parts_travel(_parts: &mut Parts) -> bool {
        false
    }
    /// Writes the argument. Only where it travels, and once all that it is the result of have finished with a value. With `gives`, nobody needs the value when
    /// the task has begun.
    ///
    /// # Errors
    /// [`WireError`] when the value cannot be written after all.
    fn send(&self, _writer: &mut Writer<'_>, _gives: bool) -> Result<(), WireError> {
        unreachable!("this argument does not travel")
    }
    /// Writes what the body has made of the argument, if it is access to a [`Mutable`](crate::Mutable).
    ///
    /// # Errors
    /// [`WireError`] when the value cannot be written.
    fn send_back(&self, _writer: &mut Writer<'_>) -> Result<(), WireError> {
        Ok(())
    }
    /// Reads what the body has made of the argument in the other process, and puts it into the argument's place.
    ///
    /// # Errors
    /// [`WireError`] when it is not there.
    fn take_back(&mut self, _reader: &mut Reader<'_>) -> Result<(), WireError> {
        Ok(())
    }
    /// Whether it can be the result of a launch on a device.
    const ELSEWHERE: bool = false;
    /// Sees to it that the host has the contents of its buffers.
    ///
    /// # Errors
    /// Why it cannot have them, in words.
    #[inline]
    fn bring(&self) -> Result<(), String> {
        Ok(())
    }
    /// The body is going to look at it, or with `takes` to have it for its own: sees to it that it is at hand.
    ///
    /// # Errors
    /// Why it cannot be had, in words.
    #[inline]
    fn look_at(&self, _takes: bool) -> Result<(), String> {
        Ok(())
    }
    /// The body is over: what it has changed may be spilled.
    #[inline]
    fn offer(&self) {}
    /// What it is to a kernel.
    fn parameter() -> Parameter {
        Parameter { shape: None, is_changed: false, name: "collection of results" }
    }
    /// Shows it to a launch.
    fn plan(&self, _planner: &mut Planner) {}
    /// Says how much it is. Where and when `bring` may be called.
    fn survey(&self, survey: &mut Survey);
    /// See `Predecessors::remember`.
    fn remember(&mut self) -> u32 {
        0
    }
    /// See `Predecessors::restore`.
    ///
    /// # Errors
    /// Why it cannot be had, in words.
    fn restore(&mut self) -> Result<(), String> {
        Ok(())
    }
    /// Writes a value that several tasks use once more, if there is one with this number. Where and when `send` may be called.
    fn send_again(&self, _number: u64, _writer: &mut Writer<'_>) -> Option<Result<(), WireError>> {
        None
    }
    /// Reads an argument that was written. Only where it travels.
    ///
    /// # Errors
    /// [`WireError`] when there is none.
    fn receive(_reader: &mut Reader<'_>) -> Result<Self, WireError>
    where
        Self: Sized,
    {
        unreachable!("this argument does not travel")
    }
}

/// One stored argument.
#[doc(hidden)]
pub enum Slot<T> {
    /// A value, given directly.
    Own(T),
    /// A value that others may share.
    Shared(Arc<T>),
    /// Another task's result.
    Task(Dependency<T>),
    /// A look at a [`Mutable`](crate::Mutable).
    Look(Look<T>),
    /// A look that has to wait for several tasks, or at a field.
    Place(Kept<PlaceSlot<T>>),
    /// The value of a [`Mutable`](crate::Mutable), which leaves it.
    Consumed(Box<ConsumeSlot<T>>),
    /// A result of a launch that can be computed again: which of them.
    Lineage(Arc<dyn Lineage>, usize),
    /// Moved out.
    Taken,
}

impl<T> std::fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Own(_) => "Own",
            Self::Shared(_) => "Shared",
            Self::Task(_) => "Task",
            Self::Look(_) => "Look",
            Self::Place(_) => "Place",
            Self::Consumed(_) => "Consumed",
            Self::Lineage(..) => "Lineage",
            Self::Taken => "Taken",
        })
    }
}

impl<T: Data> Stored for T {
    type Slots = Slot<T>;
    type Place<'a> = Place<'a, T>;
}

impl<T: Data> Slots for Slot<T> {
    #[inline]
    fn visit(&self, visit: &mut impl FnMut(&Header, &Edge)) {
        match self {
            Self::Task(dependency) => visit(dependency.header(), dependency.edge()),
            Self::Look(look) => look.visit(visit),
            Self::Place(place) => place.visit(visit),
            Self::Consumed(place) => place.visit(visit),
            _ => {}
        }
    }

    fn visit_numbered(&self, visit: &mut impl FnMut(Option<usize>, &Header)) {
        if let Self::Task(dependency) = self {
            visit(None, dependency.header());
        }
    }

    #[inline]
    fn failed(&self) -> Option<TaskError> {
        match self {
            Self::Task(dependency) => dependency.header().failure(),
            Self::Look(look) => look.failed(),
            Self::Place(place) => place.failed(),
            Self::Consumed(place) => place.failed(),
            _ => None,
        }
    }

    #[inline]
    fn touches_places(&self) -> bool {
        matches!(self, Self::Look(_) | Self::Place(_) | Self::Consumed(_))
    }

    #[inline]
    fn visit_places(&mut self, visit: &mut dyn FnMut(&mut dyn Touch)) {
        if self.touches_places() {
            visit(self);
        }
    }

    #[inline]
    fn see(&self, see: &mut impl FnMut(Seen<'_>)) {
        match self {
            Self::Task(dependency) => see(Seen::result(dependency.header())),
            Self::Look(look) => look.see(see),
            Self::Place(place) => place.see(see),
            _ => {}
        }
    }

    const TRAVELS: bool = T::WIRE.is_some();

    fn parts_travel(parts: &mut Parts) -> bool {
        parts.travel::<T>()
    }

    fn send(&self, writer: &mut Writer<'_>, gives: bool) -> Result<(), WireError> {
        let is_last_user = match self {
            Self::Own(_) | Self::Consumed(_) => true,
            Self::Task(dependency) => dependency.is_last_user(),
            _ => false,
        };
        if gives && is_last_user {
            residency::forget(self.get());
        }
        writer.handing_over(gives && is_last_user, |writer| wire::put_shared(self.get(), self.identity(), writer))
    }

    fn take_back(&mut self, _reader: &mut Reader<'_>) -> Result<(), WireError> {
        // The body has had it, there.
        if let Self::Consumed(place) = self {
            crate::task::record::dropped_quietly(place.take());
        }
        Ok(())
    }

    fn send_again(&self, number: u64, writer: &mut Writer<'_>) -> Option<Result<(), WireError>> {
        wire::put_again(self.get(), self.identity(), number, writer)
    }

    const ELSEWHERE: bool = residency::can_be_elsewhere::<T>();

    #[inline]
    fn bring(&self) -> Result<(), String> {
        if const { Self::ELSEWHERE } { residency::bring(self.get()) } else { Ok(()) }
    }

    #[inline]
    fn look_at(&self, takes: bool) -> Result<(), String> {
        if const { !Self::ELSEWHERE } {
            return Ok(());
        }
        // Who takes what others have, too, gets a copy.
        let is_own = match self {
            Self::Own(_) | Self::Consumed(_) => true,
            Self::Task(dependency) => dependency.is_last_user(),
            _ => false,
        };
        spill::look_at(self.get(), takes && is_own)
    }

    fn parameter() -> Parameter {
        parameter::<T>(false)
    }

    fn plan(&self, planner: &mut Planner) {
        let ahead = if let Self::Task(dependency) = self { dependency.value_ahead() } else { None };
        plan(ahead.unwrap_or_else(|| self.get()), Access::Read, planner);
    }

    fn survey(&self, survey: &mut Survey) {
        let is_there = match self {
            Self::Lineage(..) | Self::Taken => false,
            Self::Look(look) => look.failed().is_none(),
            Self::Place(place) => place.failed().is_none(),
            Self::Consumed(place) => place.failed().is_none(),
            _ => true,
        };
        if is_there {
            survey.argument(self.get(), Access::Read);
        }
    }

    fn remember(&mut self) -> u32 {
        let mut lineage = None;
        if let Some(form) = T::DEVICE {
            // A value of several buffers stays as it is: only parameters of a kernel get here, and those are single ones.
            (form.visit)(self.get(), &mut |raw| lineage = arena::place_of(raw).and_then(residency::lineage_of));
        }
        let Some((lineage, index)) = lineage else { return 0 };
        let depth = lineage.depth();
        let device_only = std::mem::replace(self, Self::Lineage(lineage, index));
        crate::task::record::dropped_quietly(device_only);
        depth
    }

    fn restore(&mut self) -> Result<(), String> {
        let Self::Lineage(lineage, index) = self else { return Ok(()) };
        let mut output = Some(lineage.compute(*index)?);
        let value = T::DEVICE.and_then(|form| form.make?(&mut || output.take()));
        *self = Self::Own(value.ok_or("it came out as something else when it was computed again")?);
        Ok(())
    }

    fn receive(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let before = reader.received;
        let value = match wire::take_shared::<T>(reader)? {
            Taken::Own(value) => value,
            Taken::Shared(task) => return Ok(Self::Task(Dependency::new(task))),
        };
        if reader.received == before {
            return Ok(Self::Own(value));
        }
        // It looks into memory that the sender keeps: whoever takes it by value gets a copy, so that a call can be repeated.
        let value = Arc::new(value);
        let kept = Arc::clone(&value);
        reader.keep(kept);
        Ok(Self::Shared(value))
    }
}

impl<T: Data> Slot<T> {
    fn access(&self) -> &dyn Touch {
        match self {
            Self::Look(look) => look,
            Self::Place(place) => place.access(),
            Self::Consumed(place) => place.access(),
            _ => unreachable!("it is no access"),
        }
    }

    fn access_mut(&mut self) -> &mut dyn Touch {
        match self {
            Self::Look(look) => look,
            Self::Place(place) => place.access_mut(),
            Self::Consumed(place) => place.access_mut(),
            _ => unreachable!("it is no access"),
        }
    }
}

/// Of one that is access to a place. A look becomes something larger when it has to wait for more than it has room for.
impl<T: Data> Touch for Slot<T> {
    #[inline]
    fn mode(&self) -> OfMode {
        self.access().mode()
    }

    #[inline]
    fn target(&self) -> OfTarget {
        self.access().target()
    }

    #[inline]
    fn place(&self) -> &dyn Historic {
        self.access().place()
    }

    fn owner(&self) -> OfPlace {
        self.access().owner()
    }

    fn order(&mut self, history: &History) {
        if let Self::Look(look) = self {
            if look.try_order(history) {
                return;
            }
            if let Self::Look(look) = std::mem::replace(self, Self::Taken) {
                *self = Self::Place(Kept::new(look.into_place()));
            }
        }
        self.access_mut().order(history);
    }

    #[inline]
    fn taker(&self) -> OfTaker {
        self.access().taker()
    }

    fn visit_edges(&self, visit: &mut dyn FnMut(&Header, &Edge)) {
        self.access().visit_edges(visit);
    }

    fn take_turn(&mut self, turn: OfTurn) {
        self.access_mut().take_turn(turn);
    }
}

/// What a `T` is to a kernel.
pub(crate) fn parameter<T: Data>(is_changed: bool) -> Parameter {
    let mut shapes = Vec::new();
    if let Some(form) = T::DEVICE {
        (form.types)(&mut shapes);
    }
    let shape = match shapes[..] {
        [shape @ Shape::Buffer { .. }] => Some(shape),
        [shape @ Shape::Scalar { .. }] if !is_changed => Some(shape),
        _ => None,
    };
    Parameter { shape, is_changed, name: T::NAME }
}

/// Shows a value to a launch.
pub(crate) fn plan<T: Data>(value: &T, access: Access, planner: &mut Planner) {
    let Some(form) = T::DEVICE else { return };
    if form.has_blocks {
        (form.visit)(value, &mut |raw| planner.block(raw, access));
    } else {
        let mut bytes = Vec::new();
        (form.scalar)(value, &mut bytes);
        planner.scalar(&bytes);
    }
}

impl<T: Data> Slot<T> {
    /// Of a value that others may use, too.
    fn identity(&self) -> Option<Identity<'_>> {
        match self {
            Self::Task(dependency) => Some(Identity::Result(dependency.header())),
            Self::Shared(value) => Identity::of_arc(value),
            _ => None,
        }
    }

    fn get(&self) -> &T {
        match self {
            Self::Own(value) => value,
            Self::Shared(value) => value,
            // A task runs only after all that it depends on have finished with a value.
            Self::Task(dependency) => dependency.value().unwrap_or_else(|| unreachable!("a dependency that has not finished")),
            Self::Look(look) => look.get(),
            Self::Place(place) => place.get(),
            Self::Consumed(place) => place.get(),
            Self::Lineage(..) => unreachable!("it is computed before it is looked at"),
            Self::Taken => unreachable!("an argument is taken once"),
        }
    }
}

impl<T: Data> Param for &T {
    type Of = T;
    type Item<'a> = &'a T;

    #[inline]
    fn get(slots: &mut Slot<T>) -> &T {
        Slot::get(slots)
    }

    #[inline]
    fn read(place: <Self::Of as Stored>::Place<'_>) -> Self::Item<'_> {
        place.get()
    }
}

impl<T: Data> Param for &[T] {
    type Of = Vec<T>;
    type Item<'a> = &'a [T];

    #[inline]
    fn get(slots: &mut Slot<Vec<T>>) -> &[T] {
        Slot::<Vec<T>>::get(slots)
    }

    #[inline]
    fn read(place: <Self::Of as Stored>::Place<'_>) -> Self::Item<'_> {
        place.get()
    }
}

impl Param for &str {
    type Of = String;
    type Item<'a> = &'a str;

    #[inline]
    fn get(slots: &mut Slot<String>) -> &str {
        Slot::<String>::get(slots)
    }

    #[inline]
    fn read(place: <Self::Of as Stored>::Place<'_>) -> Self::Item<'_> {
        place.get()
    }
}

/// Takes a value out of its slot: moved when nobody else uses it, else cloned.
#[doc(hidden)]
#[inline]
pub fn take<T: Data + Clone>(slot: &mut Slot<T>) -> T {
    match std::mem::replace(slot, Slot::Taken) {
        Slot::Own(value) => value,
        Slot::Shared(value) => Arc::try_unwrap(value).unwrap_or_else(|shared| (*shared).clone()),
        Slot::Task(dependency) => match dependency.into_value() {
            Some(value) => Value::take(value),
            None => unreachable!("a dependency that has not finished"),
        },
        Slot::Look(look) => look.get().clone(),
        Slot::Place(place) => place.get().clone(),
        Slot::Consumed(mut place) => place.take(),
        Slot::Lineage(..) => unreachable!("it is computed before it is looked at"),
        Slot::Taken => unreachable!("an argument is taken once"),
    }
}

/// Clones a value and leaves it in its slot.
#[doc(hidden)]
pub fn copy<T: Data + Clone>(slot: &Slot<T>) -> T {
    if let Slot::Consumed(place) = slot {
        place.note_copied();
    }
    slot.get().clone()
}

/// Takes the argument of a node of a graph: out of its place where that was arranged, else a clone.
#[doc(hidden)]
#[inline]
pub fn take_place<T: Data + Clone>(place: Place<'_, T>) -> T {
    place.take()
}

/// Passing by value, for one type: a blanket implementation would overlap the one for references.
macro_rules! by_value {
    ([$($generics:tt)*] $type:ty) => {
        impl<$($generics)*> $crate::parameter::Param for $type
        where
            // The `for` keeps the bound from being checked here, where it may be false: then taking by value is a compile error where it is tried.
            for<'always> $type: Clone,
        {
            type Of = $type;
            type Item<'a> = $type;
            const TAKES: bool = true;

            #[inline]
            fn get(slot: &mut $crate::parameter::Slot<$type>) -> $type {
                $crate::parameter::take(slot)
            }

            #[inline]
            fn get_kept(slot: &mut $crate::parameter::Slot<$type>) -> $type {
                $crate::parameter::copy(slot)
            }

            #[inline]
            fn read(place: <Self::Of as $crate::parameter::Stored>::Place<'_>) -> Self::Item<'_> {
                $crate::parameter::take_place(place)
            }
        }
    };
}
pub(crate) use by_value;

/// A parameter that reads any number of results: what is given for it is a `Vec<Task<T>>` or a `&[Task<T>]`; for a node of a graph, the same with `Node<T>`.
///
/// ```
/// # use poniard::{Gather, Runtime};
/// fn total(parts: Gather<'_, f64>) -> f64 {
///     parts.iter().sum()
/// }
/// let runtime = Runtime::new()?;
/// let parts: Vec<_> = (0..4).map(|i| runtime.spawn(|x: f64| x * x, (i as f64,))).collect();
/// assert_eq!(*runtime.spawn(total, (parts,)).fetch()?, 14.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Gather<'a, T>(Gathered<'a, T>);

/// Where gathered results lie.
#[derive(Debug)]
enum Gathered<'a, T> {
    Tasks(&'a [Dependency<T>]),
    Nodes(Places<'a, T>),
}

impl<T> Clone for Gathered<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Gathered<'_, T> {}

impl<'a, T: Data> Gather<'a, T> {
    /// Number of results.
    pub fn len(&self) -> usize {
        match self.0 {
            Gathered::Tasks(tasks) => tasks.len(),
            Gathered::Nodes(places) => places.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The result at `index`, in the order in which the tasks were given.
    pub fn get(&self, index: usize) -> Option<&'a T> {
        self.0.get(index)
    }

    /// The results, in the order in which the tasks were given.
    pub fn iter(&self) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let gathered = self.0;
        (0..self.len()).filter_map(move |index| gathered.get(index))
    }

    pub(crate) fn of_nodes(places: Places<'a, T>) -> Self {
        Self(Gathered::Nodes(places))
    }
}

impl<'a, T> Gathered<'a, T> {
    #[inline]
    fn get(self, index: usize) -> Option<&'a T> {
        match self {
            Self::Tasks(tasks) => tasks.get(index).and_then(Dependency::value),
            Self::Nodes(places) => places.get(index),
        }
    }
}

/// Stands for "any number of `T`" where a parameter's argument type is named.
#[doc(hidden)]
#[derive(Debug)]
pub struct Many<T>(PhantomData<T>);

impl<T: Data> Stored for Many<T> {
    type Slots = Box<[Dependency<T>]>;
    type Place<'a> = Gather<'a, T>;
}

impl<T: Data> Slots for Box<[Dependency<T>]> {
    fn visit(&self, visit: &mut impl FnMut(&Header, &Edge)) {
        for dependency in self {
            visit(dependency.header(), dependency.edge());
        }
    }

    fn visit_numbered(&self, visit: &mut impl FnMut(Option<usize>, &Header)) {
        for (dependency, number) in self.iter().zip(1..) {
            visit(Some(number), dependency.header());
        }
    }

    fn failed(&self) -> Option<TaskError> {
        self.iter().find_map(|dependency| dependency.header().failure())
    }

    const ELSEWHERE: bool = residency::can_be_elsewhere::<T>();

    fn bring(&self) -> Result<(), String> {
        if const { !Self::ELSEWHERE } {
            return Ok(());
        }
        self.iter().filter_map(Dependency::value).try_for_each(residency::bring)
    }

    fn look_at(&self, _takes: bool) -> Result<(), String> {
        if const { !Self::ELSEWHERE } {
            return Ok(());
        }
        self.iter().filter_map(Dependency::value).try_for_each(|value| spill::look_at(value, false))
    }

    fn survey(&self, survey: &mut Survey) {
        self.iter().filter_map(Dependency::value).for_each(|value| survey.argument(value, Access::Read));
    }

    const TRAVELS: bool = T::WIRE.is_some();

    fn parts_travel(parts: &mut Parts) -> bool {
        parts.travel::<T>()
    }

    fn send(&self, writer: &mut Writer<'_>, _gives: bool) -> Result<(), WireError> {
        writer.put_u64(self.len() as u64);
        self.iter().try_for_each(|dependency| match dependency.value() {
            Some(value) => wire::put_shared(value, Some(Identity::Result(dependency.header())), writer),
            None => unreachable!("a dependency that has not finished"),
        })
    }

    fn send_again(&self, number: u64, writer: &mut Writer<'_>) -> Option<Result<(), WireError>> {
        self.iter().find_map(|dependency| wire::put_again(dependency.value()?, Some(Identity::Result(dependency.header())), number, writer))
    }

    fn receive(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let len = reader.take_len(1)?;
        // Tasks that have finished from the start: to whoever gathers them they look as they did where they came from.
        let task = |taken| match taken {
            Taken::Own(value) => create_finished(value, std::ptr::null(), caller(), None),
            Taken::Shared(task) => task,
        };
        (0..len).map(|_| wire::take_shared::<T>(reader).map(|taken| Dependency::new(task(taken)))).collect()
    }
}

impl<T: Data> Param for Gather<'_, T> {
    type Of = Many<T>;
    type Item<'a> = Gather<'a, T>;

    fn get(slots: &mut Box<[Dependency<T>]>) -> Gather<'_, T> {
        Gather(Gathered::Tasks(slots))
    }

    #[inline]
    fn read(place: <Self::Of as Stored>::Place<'_>) -> Self::Item<'_> {
        place
    }
}

/// What may be given for a parameter of type `T` or `&T`: a `T`, a `Task<T>`, a `&Task<T>` or an `Arc<T>`.
#[diagnostic::on_unimplemented(
    message = "expected a `{T}` or a `Task<{T}>` here, found `{Self}`",
    note = "an argument is a value, a `Task` or `&Task` of it, an `Arc` of it, or `read(&mutable)`; for a parameter `&mut T` it is `write(&mutable)` or `overwrite(&mutable)`"
)]
pub trait IntoArg<T: Stored> {
    /// Whether it is for a parameter by value alone.
    #[doc(hidden)]
    const CONSUMES: bool = false;
    /// Whether the place may be empty before the task or after it.
    #[doc(hidden)]
    const EMPTIES: bool = false;
    /// Stores it.
    #[doc(hidden)]
    fn into_slots(self) -> T::Slots;
}

impl<T: Data> IntoArg<T> for T {
    #[inline]
    fn into_slots(self) -> Slot<T> {
        Slot::Own(self)
    }
}

impl<T: Data> IntoArg<T> for Task<T> {
    #[inline]
    fn into_slots(self) -> Slot<T> {
        Slot::Task(Dependency::new(self))
    }
}

impl<T: Data> IntoArg<T> for &Task<T> {
    #[inline]
    fn into_slots(self) -> Slot<T> {
        Slot::Task(Dependency::new(self.clone()))
    }
}

impl<T: Data> IntoArg<T> for Arc<T> {
    #[inline]
    fn into_slots(self) -> Slot<T> {
        Slot::Shared(self)
    }
}

impl<T: Data> IntoArg<Many<T>> for Vec<Task<T>> {
    fn into_slots(self) -> Box<[Dependency<T>]> {
        self.into_iter().map(Dependency::new).collect()
    }
}

impl<T: Data> IntoArg<Many<T>> for &[Task<T>] {
    fn into_slots(self) -> Box<[Dependency<T>]> {
        self.iter().cloned().map(Dependency::new).collect()
    }
}

impl<T: Data> IntoArg<Many<T>> for &Vec<Task<T>> {
    fn into_slots(self) -> Box<[Dependency<T>]> {
        self.as_slice().into_slots()
    }
}
