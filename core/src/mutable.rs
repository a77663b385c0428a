//! Data that tasks change in place, in the order in which they were spawned.
//!
//! A [`Mutable`] keeps a history: the last task that writes it, and the tasks since that read it. A task that is spawned with an access to it depends on
//! those that its access conflicts with, and joins the history. All data that a task touches are locked together while that happens, in the order of their addresses,
//! so two spawns on two threads cannot each come before the other.
#![expect(unsafe_code, reason = "a value that several tasks reach, which dependencies keep apart")]

use std::cell::UnsafeCell;
use std::convert::Infallible;
use std::fmt;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use poniard_interface::Access;

use crate::data::Data;
use crate::error::{FailureKind, TaskError};
use crate::function::{Predecessors, TaskFn, caller};
use crate::kernel::check::Parameter;
use crate::kernel::plan::{Planner, Survey};
use crate::options::{Priority, TaskOptions};
use crate::parameter::{IntoArg, Param, Slot, Slots, Stored, parameter, plan};
use crate::residency;
use crate::spill;
use crate::task::Task;
use crate::task::record::{Edge, Header, Hold, TaskRef, create, dropped_quietly};
use crate::wire::{self, Parts, Reader, WireError, Writer};
use crate::worker::entry::Entry;
use crate::worker::shared::Shared;

/// A value that tasks change in place: give [`read`], [`write()`] or [`overwrite`] of it as an argument.
///
/// Tasks spawned by one thread see the value as if they ran one after the other in the order of their spawns; those that only read it run at the same time.
/// Spawns of several threads are ordered as they come. Cheap to clone: clones are the same value. Results of tasks, in contrast, never change.
///
/// A task that writes on a worker process does so in place where the value is a [`Buffer`](crate::Buffer) or has buffers in it; all else travels there and back. If the process ends
/// meanwhile, a task with [`write()`] fails where it was writing in place, and is begun again where not.
///
/// A task that writes runs even if its handle is dropped. When it fails, the value is what it left, and later tasks that look at the value fail as
/// its dependents, until one [`overwrite`]s it. Cancelled, it ends when those before it have ended and, if it runs, its body has.
///
/// ```
/// use poniard::{Mutable, Runtime, overwrite, read, write};
///
/// fn fill(values: &mut Vec<f64>, with: f64) {
///     *values = vec![with; 3];
/// }
/// fn scale(values: &mut [f64], by: f64) {
///     values.iter_mut().for_each(|value| *value *= by);
/// }
/// fn sum(values: &[f64]) -> f64 {
///     values.iter().sum()
/// }
/// let runtime = Runtime::new()?;
/// let values = Mutable::new(Vec::new());
/// runtime.spawn(fill, (overwrite(&values), 2.0));
/// let before = runtime.spawn(sum, (read(&values),));
/// runtime.spawn(scale, (write(&values), 10.0));
/// let after = runtime.spawn(sum, (read(&values),));
/// assert_eq!((*before.fetch()?, *after.fetch()?), (6.0, 60.0));
/// assert_eq!(values.take()?, [20.0; 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Mutable<T>(Arc<Place<T>>);

struct Place<T> {
    history: Arc<Mutex<History>>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by tasks and guards that their dependencies keep apart (`conflicts`), and is `Send` and `Sync` itself (`Data`).
unsafe impl<T: Data> Sync for Place<T> {}

/// Who has had access so far. References, not users: a place does not look at the results of tasks.
#[derive(Debug, Default)]
struct History {
    /// The last task that writes.
    writer: Option<TaskRef>,
    /// Tasks since then that read.
    readers: Vec<TaskRef>,
    /// Number of readers from which on those that have finished are thrown out.
    crowded: usize,
}

type Histories<'a> = Vec<MutexGuard<'a, History>>;

fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    // Changes are single operations on its fields, so a panic elsewhere leaves it whole.
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

impl History {
    /// The tasks that an access has to wait for.
    fn conflicts(&self, access: Access) -> Box<[PlaceEdge]> {
        let writer = self.writer.iter().map(|task| PlaceEdge::new(task, access != Access::Overwrite));
        match access {
            Access::Read => writer.collect(),
            Access::Write | Access::Overwrite => writer.chain(self.readers.iter().map(|task| PlaceEdge::new(task, false))).collect(),
        }
    }

    /// Enters an access; gives those that are of no interest any more, to be dropped when no history is locked: their results have destructors.
    fn add(&mut self, access: Access, task: TaskRef) -> Vec<TaskRef> {
        match access {
            Access::Read => {
                let mut gone = Vec::new();
                if self.readers.len() >= self.crowded {
                    gone = self.readers.extract_if(.., |reader| reader.is_finished()).collect();
                    // Twice what is left, so that the look at all of them costs each reader a constant time.
                    self.crowded = (2 * self.readers.len()).max(16);
                }
                self.readers.push(task);
                gone
            }
            Access::Write | Access::Overwrite => {
                let mut gone = std::mem::take(&mut self.readers);
                gone.extend(self.writer.replace(task));
                gone
            }
        }
    }
}

/// The dependency on a task that had access before.
#[derive(Debug)]
struct PlaceEdge {
    task: TaskRef,
    edge: Edge,
    /// Whether its failure is one of whoever comes later.
    needed: bool,
}

impl PlaceEdge {
    fn new(task: &TaskRef, needed: bool) -> Self {
        Self { task: task.clone(), edge: Edge::new(), needed }
    }
}

impl<T: Data> Mutable<T> {
    /// A value that tasks may change.
    pub fn new(value: T) -> Self {
        spill::offer_all(&value);
        Self(Arc::new(Place { history: Arc::default(), value: UnsafeCell::new(value) }))
    }

    /// Waits for the tasks spawned so far that write the value, and lends it: tasks spawned later that write it wait until the guard is dropped.
    ///
    /// A thread that keeps the guard must not wait for such a task.
    ///
    /// # Errors
    /// As [`Task::fetch`], for the last task that writes it.
    #[track_caller]
    pub fn fetch(&self) -> Result<Reading<'_, T>, TaskError> {
        let (hold, writer) = self.hold(Access::Read);
        wait_for(&writer)?;
        // SAFETY: the writers before have ended, and those that come later wait for the hold.
        let value = unsafe { &*self.0.value.get() };
        let brought = residency::bring(value).and_then(|()| spill::look_at(value, false));
        brought.map_err(|reason| hold.reference().error(FailureKind::Lost { reason }))?;
        Ok(Reading { place: &self.0, _hold: hold })
    }

    /// Waits for all tasks spawned so far that use the value, and moves it out when this is the last handle; clones it otherwise.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    #[track_caller]
    pub fn take(self) -> Result<T, TaskError>
    where
        T: Clone,
    {
        let (hold, before) = self.hold(Access::Write);
        if let Err(error) = wait_for(&before) {
            end_after(hold, &before);
            return Err(error);
        }
        // SAFETY: everybody who had access before has ended, and who comes later waits for `hold`.
        residency::bring(unsafe { &*self.0.value.get() }).map_err(|reason| hold.reference().error(FailureKind::Lost { reason }))?;
        let value = match Arc::try_unwrap(self.0) {
            Ok(place) => place.value.into_inner(),
            Err(place) => {
                // SAFETY: everybody who had access before has ended, and who comes later waits for `hold`.
                unsafe { &*place.value.get() }.clone()
            }
        };
        drop(hold);
        Ok(value)
    }

    /// Joins the history in the name of this thread; also what to wait for.
    #[track_caller]
    fn hold(&self, access: Access) -> (Hold, Box<[PlaceEdge]>) {
        let hold = Hold::new(caller());
        let mut history = lock(&self.0.history);
        let before = history.conflicts(access);
        let gone = history.add(access, hold.reference());
        drop(history);
        drop(gone);
        (hold, before)
    }
}

/// Waits for all, and gives the error of one that is needed.
fn wait_for(edges: &[PlaceEdge]) -> Result<(), TaskError> {
    for PlaceEdge { task, needed, .. } in edges {
        if !task.is_finished() {
            crate::worker::fetch::wait(task)?;
        }
        if let Some(error) = task.failure()
            && *needed
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Ends a hold when all that it comes after have ended: those that come later wait for the hold, and for nothing before it.
fn end_after(hold: Hold, before: &[PlaceEdge]) {
    /// Told by each of them; the last one drops it.
    struct Last {
        _hold: Hold,
    }
    impl Wake for Last {
        fn wake(self: Arc<Self>) {}
    }
    let last = Waker::from(Arc::new(Last { _hold: hold }));
    for PlaceEdge { task, .. } in before {
        // One that has ended is none to wait for.
        task.add_waiter(&last);
    }
}

impl<T> Clone for Mutable<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Mutable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let history = lock(&self.0.history);
        f.debug_struct("Mutable").field("writer", &history.writer).field("readers", &history.readers.len()).finish_non_exhaustive()
    }
}

/// A look at a [`Mutable`]: derefs to the value. Tasks that write it and were spawned later wait until it is dropped.
#[must_use = "it holds up tasks that write until it is dropped"]
pub struct Reading<'a, T> {
    place: &'a Place<T>,
    _hold: Hold,
}

impl<T> std::ops::Deref for Reading<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the writers before have ended, and those that come later wait for the hold.
        unsafe { &*self.place.value.get() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Reading<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// What [`read`] takes: a [`Mutable`], or a [`Task`], whose result is only ever read.
pub trait Readable {
    /// The argument that it makes.
    type Argument;

    #[doc(hidden)]
    fn argument(&self) -> Self::Argument;
}

impl<T> Readable for Mutable<T> {
    type Argument = Read<T>;

    fn argument(&self) -> Read<T> {
        Read(Self::clone(self))
    }
}

impl<T> Readable for Task<T> {
    type Argument = Self;

    fn argument(&self) -> Self {
        self.clone()
    }
}

/// As an argument for a parameter `&T`, or `T: Clone`, which gets a copy: the value as tasks spawned before leave it.
pub fn read<R: Readable>(readable: &R) -> R::Argument {
    readable.argument()
}

/// As an argument for a parameter `&mut T`: changes the value in place, after all tasks spawned before that use it.
pub fn write<T>(place: &Mutable<T>) -> Write<T> {
    Write(place.clone(), Access::Write)
}

/// As an argument for a parameter `&mut T` whose old contents the task does not look at: they need not be brought to where it runs, and it does not
/// matter whether the task that wrote them failed.
pub fn overwrite<T>(place: &Mutable<T>) -> Write<T> {
    Write(place.clone(), Access::Overwrite)
}

/// What [`read`] makes of a [`Mutable`].
#[derive(Debug)]
pub struct Read<T>(Mutable<T>);

/// What [`write()`] and [`overwrite`] make.
#[derive(Debug)]
pub struct Write<T>(Mutable<T>, Access);

impl<T: Data> IntoArg<T> for Read<T> {
    fn into_slots(self) -> Slot<T> {
        Slot::Place(Box::new(PlaceSlot { place: self.0.0, access: Access::Read, edges: Box::default() }))
    }
}

/// Stands for "a `T` that is changed in place" where a parameter's argument type is named.
#[doc(hidden)]
#[derive(Debug)]
pub struct InPlace<T>(std::marker::PhantomData<T>);

impl<T: Data> Stored for InPlace<T> {
    type Slots = Box<PlaceSlot<T>>;
    /// Nothing: nodes of graphs change nothing in place.
    type Place<'a> = Infallible;
}

impl<T: Data> IntoArg<InPlace<T>> for Write<T> {
    fn into_slots(self) -> Box<PlaceSlot<T>> {
        Box::new(PlaceSlot { place: self.0.0, access: self.1, edges: Box::default() })
    }
}

/// The stored access to a [`Mutable`].
#[doc(hidden)]
pub struct PlaceSlot<T> {
    place: Arc<Place<T>>,
    access: Access,
    /// Found when the task is spawned.
    edges: Box<[PlaceEdge]>,
}

impl<T> fmt::Debug for PlaceSlot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaceSlot").field("access", &self.access).field("edges", &self.edges).finish_non_exhaustive()
    }
}

impl<T> PlaceSlot<T> {
    /// The value, for the task that stores this, from when it is ready until its body is over.
    pub(crate) fn get(&self) -> &T {
        // SAFETY: only the body gets here, and whoever looks at the arguments while nobody can claim the task. It is ready after all that conflict and were spawned
        // before; those that come later wait for the task's end.
        unsafe { &*self.place.value.get() }
    }

    fn get_mut(&mut self) -> &mut T {
        debug_assert!(self.access != Access::Read, "`Write` stores no read access");
        // SAFETY: as in `get`; writing conflicts with every other access, and the task has this one to the place (`Ordered::new`).
        unsafe { &mut *self.place.value.get() }
    }
}

impl<T: Data> Slots for Box<PlaceSlot<T>> {
    fn visit(&self, visit: &mut impl FnMut(&Header, &Edge)) {
        for edge in &self.edges {
            visit(&edge.task, &edge.edge);
        }
    }

    // It comes after those tasks, and does not take their results.
    fn visit_numbered(&self, _visit: &mut impl FnMut(Option<usize>, &Header)) {}

    fn failed(&self) -> Option<TaskError> {
        self.edges.iter().filter(|edge| edge.needed).find_map(|edge| edge.task.failure())
    }

    #[inline]
    fn touches_places(&self) -> bool {
        true
    }

    fn visit_places(&mut self, visit: &mut dyn FnMut(&mut dyn Touch)) {
        visit(&mut **self);
    }

    const TRAVELS: bool = T::WIRE.is_some();

    fn parts_travel(parts: &mut Parts) -> bool {
        parts.travel::<T>()
    }

    const ELSEWHERE: bool = residency::can_be_elsewhere::<T>();

    #[inline]
    fn bring(&self) -> Result<(), String> {
        // Old contents that nobody looks at need not be there.
        if const { Self::ELSEWHERE } && self.access != Access::Overwrite { residency::bring(self.get()) } else { Ok(()) }
    }

    #[inline]
    fn look_at(&self, _takes: bool) -> Result<(), String> {
        // Of old contents that nobody looks at, only the place is needed.
        if self.access == Access::Overwrite { Ok(()) } else { spill::look_at(self.get(), self.access == Access::Write) }
    }

    #[inline]
    fn offer(&self) {
        if self.access != Access::Read {
            spill::offer_all(self.get());
        }
    }

    fn parameter() -> Parameter {
        parameter::<T>(true)
    }

    fn plan(&self, planner: &mut Planner) {
        plan(self.get(), self.access, planner);
    }

    fn survey(&self, survey: &mut Survey) {
        survey.argument(self.get(), self.access);
    }

    // The memory of its buffers is handed over: until the call is over nobody but the task has access to the value.
    fn send(&self, writer: &mut Writer<'_>, _gives: bool) -> Result<(), WireError> {
        residency::forget(self.get());
        writer.in_place(self.access == Access::Write, |writer| wire::put(self.get(), writer))
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
        let place = Arc::new(Place { history: Arc::default(), value: UnsafeCell::new(value) });
        Ok(Box::new(PlaceSlot { place, access: Access::Write, edges: Box::default() }))
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

/// An access of unknown type.
#[doc(hidden)]
pub trait Touch {
    /// How the place is used.
    fn access(&self) -> Access;
    #[doc(hidden)]
    fn history(&self) -> OfPlace;
    #[doc(hidden)]
    fn wait_for(&mut self, edges: Edges);
}

/// Names a place and gives its history.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct OfPlace(Arc<Mutex<History>>);

/// What an access waits for.
#[doc(hidden)]
#[derive(Debug)]
pub struct Edges(Box<[PlaceEdge]>);

impl<T> Touch for PlaceSlot<T> {
    fn access(&self) -> Access {
        self.access
    }

    fn history(&self) -> OfPlace {
        OfPlace(Arc::clone(&self.place.history))
    }

    fn wait_for(&mut self, edges: Edges) {
        self.edges = edges.0;
    }
}

/// The place of an argument, in the order of the histories' addresses.
struct Touched {
    history: OfPlace,
    access: Access,
    /// Which of the task's accesses it is, from 0.
    number: usize,
}

/// The options of a task that cannot be, and why.
type Refused = (Option<Box<TaskOptions>>, FailureKind);
/// The handle of a new task, and its entry if it is ready.
type Created<T> = (Task<T>, Option<Entry>);

/// Makes a task whose arguments touch places, and enters it into their histories. The error when it touches one twice, and not only to read.
pub(crate) fn create_ordered<M, F: TaskFn<M>>(
    function: F,
    mut params: F::Params,
    shared: &Shared,
    location: &'static Location<'static>,
    options: Option<Box<TaskOptions>>,
    priority: Priority,
) -> Result<Created<F::Value>, Refused> {
    let mut touched = Vec::new();
    params.visit_places(&mut |touch| touched.push(Touched { history: touch.history(), access: touch.access(), number: touched.len() }));
    touched.sort_by_key(|touch| (Arc::as_ptr(&touch.history.0), touch.number));
    let twice = touched
        .windows(2)
        .find(|pair| Arc::ptr_eq(&pair[0].history.0, &pair[1].history.0) && pair.iter().any(|touch| touch.access != Access::Read));
    if let Some([one, two]) = twice {
        return Err((options, FailureKind::SamePlace { accesses: (one.number + 1, two.number + 1) }));
    }
    // One guard for each place, although it may be read more than once.
    let mut places: Vec<&Touched> = touched.iter().collect();
    places.dedup_by(|two, one| Arc::ptr_eq(&one.history.0, &two.history.0));
    let mut histories: Histories<'_> = places.iter().map(|touch| lock(&touch.history.0)).collect();
    let place_of = |history: &OfPlace| places.iter().position(|touch| Arc::ptr_eq(&touch.history.0, &history.0));
    params.visit_places(&mut |touch| {
        if let Some(place) = place_of(&touch.history()) {
            touch.wait_for(Edges(histories[place].conflicts(touch.access())));
        }
    });
    let writes = touched.iter().any(|touch| touch.access != Access::Read);
    let mut options = options;
    if let Some(options) = options.as_mut().filter(|options| options.ties.launch.is_some()) {
        // From the start: once it is ready a device may have it, and whoever submits it changes this for a moment (`waiting_successors`).
        options.ties.holds = true;
        options.ties.needed |= writes;
    }
    let (task, ready) = create(function, params, shared, shared.epoch(), location, options, priority);
    task.reference().hold_until_the_end(writes);
    let gone: Vec<_> =
        places.iter().zip(&mut histories).map(|(touch, history)| history.add(touch.access, task.reference().clone())).collect();
    drop(histories);
    drop(gone);
    Ok((task, ready))
}
