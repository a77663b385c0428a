//! Data that tasks change in place, in the order in which they were spawned.
//!
//! A [`Mutable`] keeps a history: the last task that writes it, and the tasks since that read it. A task that is spawned with an access to it depends on
//! those that its access conflicts with, and joins the history. All data that a task touches are locked together while that happens, in the order of their addresses,
//! so two spawns on two threads cannot each come before the other.
#![expect(unsafe_code, reason = "a value that several tasks reach, which dependencies keep apart")]

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use poniard_interface::{Access, RawBuffer};

use crate::data::Data;
use crate::error::{FailureKind, TaskError};
use crate::function::caller;
use crate::part::{Form, Part, PartError, Parts, Spans, View};
use crate::region::guard;
use crate::region::shadow::{Lying, Shown};
use crate::residency;
use crate::spill;
use crate::task::Task;
use crate::task::record::{Hold, TaskRef, has_holds, held_here};

mod consume;
mod elements;
mod far;
mod history;
mod look;
mod mark;
mod order;
mod reduction;
mod seen;
mod slot;
mod touch;
mod turn;

use consume::Presence;
pub use consume::{Consume, ConsumeSlot, consume};
pub use elements::{PartSlot, Viewed, ViewedInPlace};
pub use history::{CopyKind, History};
use history::{Earlier, EarlierList};
pub(crate) use history::{Gone, HistoryLock, Mode, Target};
pub use look::Look;
pub(crate) use mark::{Deferred, Marked};
use mark::{lock, lock_all, lock_marked};
pub(crate) use order::{create_ordered, order_held};
use reduction::Copies;
pub use reduction::{Reduce, reduce};
pub use seen::Seen;
pub(crate) use seen::{SeenAs, SeenPlace};
pub use slot::{InPlace, PlaceSlot};
pub use touch::{OfMode, OfPlace, OfTaker, OfTarget, OfTurn, Touch};
pub use turn::Line;

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
    history: Mutex<History>,
    /// How its elements lay when it was made, if it has parts.
    form: Option<Box<Result<Form, PartError>>>,
    /// Whose turn it is, of tasks that change it in any order.
    line: Mutex<Line>,
    /// What tasks have made that reduce, and is no part of the value yet.
    copies: Mutex<Copies<T>>,
    /// How many may be writing parts. Held by whoever looks at the value itself, and not at elements of it, for a part.
    part_writers: Mutex<usize>,
    /// Where it was made.
    location: &'static Location<'static>,
    /// How often copies were combined into the value.
    combined: AtomicU32,
    /// Whether there is a value.
    presence: Presence,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: the value is reached by tasks and guards that their dependencies keep apart (`conflicts`), and is `Send` and `Sync` itself (`Data`).
unsafe impl<T: Data> Sync for Place<T> {}

/// What has a history.
#[doc(hidden)]
pub trait Historic: Send + Sync {
    #[doc(hidden)]
    fn history(&self) -> &Mutex<History>;
    #[doc(hidden)]
    fn line(&self) -> &Mutex<Line>;
    /// Combines into the value what tasks have made that reduce, for who keeps away whoever would look at it meanwhile without having called this.
    #[doc(hidden)]
    fn settle(&self) {
        self.settle_but(None);
    }
    /// The same, but for copies of one kind.
    #[doc(hidden)]
    fn settle_but(&self, kept: Option<CopyKind>);
    /// Where it was made.
    #[doc(hidden)]
    fn location(&self) -> &'static Location<'static>;
    /// Where its elements lie, if they are nothing but their bytes; none also while somebody combines copies into it, or looks at it for a part.
    #[doc(hidden)]
    fn lying(&self) -> Option<Lying>;
    /// A copy of its bytes, if its elements are nothing but those, for who knows that nobody changes it meanwhile.
    #[doc(hidden)]
    fn show(&self) -> Option<Shown>;
    /// The error of the task that has taken the value, if it is not there.
    #[doc(hidden)]
    fn consumed(&self) -> Option<TaskError>;
    /// Sees to it that the value is at hand, for who keeps away whoever would change it meanwhile.
    #[doc(hidden)]
    fn make_ready(&self, access: Access) -> Result<(), String>;
}

/// What has elements of this type.
#[doc(hidden)]
pub trait Elements<E>: Historic {
    /// How they lay when it was made.
    #[doc(hidden)]
    fn form(&self) -> Result<Form, PartError>;
    /// Sees to it that they are at hand, and gives the first one of a part.
    #[doc(hidden)]
    fn bring(&self, access: Access, form: &Form, spans: &Spans) -> Result<NonNull<E>, String>;
    /// Somebody is going to write a part, which `bring` comes after: until it is over, the memory is not spilled.
    #[doc(hidden)]
    fn begin_to_write(&self);
    /// It is over. With `may_offer`, the caller keeps whoever would change the value as a whole away.
    #[doc(hidden)]
    fn end_to_write(&self, may_offer: bool);
    /// Shows the memory that they lie in, if it is a buffer's, to whoever has had it brought and keeps whoever would change the value as a whole away.
    #[doc(hidden)]
    fn memory(&self, look: &mut dyn FnMut(Option<&RawBuffer>));
}

impl<T> Place<T> {
    fn address(&self) -> NonNull<T> {
        NonNull::from(&self.value).cast()
    }

    fn lock_header(&self) -> MutexGuard<'_, usize> {
        // The number is changed in one step.
        self.part_writers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of a part with these elements: see `History::name`.
pub(crate) fn named<H: Historic + ?Sized>(owner: &H, spans: Spans) -> (u32, Arc<Spans>) {
    let (number, spans, gone) = lock_marked(owner.history()).name(spans);
    drop(gone);
    (number, spans)
}

/// Whether two have one history.
pub(crate) fn is_same<H: Historic + ?Sized>(one: &H, two: &H) -> bool {
    std::ptr::eq(one.history(), two.history())
}

/// The elements of a part, as long as they are kept the same ones.
pub(crate) fn spans_of<H: Historic + ?Sized>(owner: &H, target: Target) -> Option<Arc<Spans>> {
    lock_marked(owner.history()).spans_of(target)
}

/// The other parts that have an element in common with one, of those that were named.
pub(crate) fn met_by<H: Historic + ?Sized>(owner: &H, part: u32) -> Vec<u32> {
    lock_marked(owner.history()).met_by(part)
}

/// Joins the histories of several places, given in the order of their addresses, in one step and in the name of this thread; also what to wait for.
pub(crate) fn enter_all<'a>(
    places: impl Iterator<Item = (&'a dyn Historic, Access)> + Clone,
    location: &'static Location<'static>,
) -> (Hold, EarlierList) {
    guard::lift_here();
    let hold = Hold::of_run(location);
    let (mut before, mut gone) = (EarlierList::new(), Gone::new());
    let mut histories = lock_all::<1>(places.clone().map(|(place, _)| place.history()), None);
    for (history, (_, access)) in histories.iter_mut().zip(places) {
        before.extend(history.conflicts(Target::Whole, access.into()));
        history.add(Target::Whole, access.into(), hold.reference(), &mut gone);
    }
    drop(histories);
    drop(gone);
    (hold, before)
}

/// Enters accesses of `by` that its mark stood for, to elements each, or to all of a value; the mark is gone afterwards. Adds what is to be dropped when nothing is locked.
pub(crate) fn enter_marked<'a>(
    history: &HistoryLock,
    by: &dyn Deferred,
    accesses: impl Iterator<Item = (Option<&'a Spans>, Mode, &'a TaskRef)>,
    gone: &mut Gone,
) {
    let mut history = lock_marked(history);
    if !history.take_mark(by) {
        // Somebody else was here since the caller looked.
        return;
    }
    for (spans, mode, task) in accesses {
        let named = spans.map(|spans| history.name(spans.clone()));
        let target = named.as_ref().map_or(Target::Whole, |(number, ..)| Target::Part(*number));
        history.add(target, mode, task.clone(), gone);
        gone.extend(named.into_iter().flat_map(|(.., gone)| gone));
    }
}

/// Waits for all, and gives the hold back. With an error of one that is needed it ends when all have.
pub(crate) fn wait_for_all(hold: Hold, before: &[Earlier]) -> Result<Hold, TaskError> {
    let held = if has_holds() { before.iter().find_map(|earlier| held_here(&earlier.task)) } else { None };
    let held = held.map(|location| hold.reference().error(FailureKind::HeldHere { location: location.to_string() }));
    match held.map_or_else(|| wait_for(before), Err) {
        Ok(()) => Ok(hold),
        Err(error) => {
            end_after(hold, before);
            Err(error)
        }
    }
}

/// Joins a history in the name of this thread; also what to wait for.
#[track_caller]
fn hold(owner: &dyn Historic, target: Target, access: Access) -> (Hold, EarlierList) {
    guard::lift_here();
    let hold = Hold::new(caller());
    let mut history = lock(owner.history());
    let before = history.conflicts(target, access.into());
    let mut gone = Gone::new();
    history.add(target, access.into(), hold.reference(), &mut gone);
    drop(history);
    drop(gone);
    (hold, before)
}

impl<T: Data> Mutable<T> {
    /// A value that tasks may change.
    #[track_caller]
    pub fn new(value: T) -> Self {
        spill::offer_all(&value);
        let form = T::PARTS.map(|form| Box::new(form(&value)));
        Self(Arc::new(Place {
            history: Mutex::default(),
            form,
            line: Mutex::default(),
            copies: Mutex::default(),
            part_writers: Mutex::new(0),
            location: caller(),
            combined: AtomicU32::new(0),
            presence: Presence::default(),
            value: UnsafeCell::new(MaybeUninit::new(value)),
        }))
    }

    /// Its history, and where it lies.
    pub(crate) fn historic(&self) -> (Arc<dyn Historic>, NonNull<T>) {
        (Arc::clone(&self.0) as Arc<dyn Historic>, self.0.address())
    }

    /// Its elements.
    pub(crate) fn elements(&self) -> Arc<dyn Elements<T::Element>>
    where
        T: Parts,
    {
        Arc::clone(&self.0) as Arc<dyn Elements<T::Element>>
    }

    /// Waits for the tasks spawned so far that write the value, and lends it: tasks spawned later that write it wait until the guard is dropped.
    ///
    /// A thread that keeps the guard must not wait for such a task.
    ///
    /// # Errors
    /// As [`Task::fetch`], for the last task that writes it.
    #[track_caller]
    pub fn fetch(&self) -> Result<Reading<'_, T>, TaskError> {
        let (hold, writer) = hold(&*self.0, Target::Whole, Access::Read);
        wait_for(&writer)?;
        if let Some(error) = self.0.consumed_by() {
            return Err(error);
        }
        self.0.settle();
        // SAFETY: the writers before have ended and left a value, and those that come later wait for the hold.
        let value = unsafe { self.0.address().as_ref() };
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
        let (hold, before) = hold(&*self.0, Target::Whole, Access::Write);
        if let Err(error) = wait_for(&before) {
            end_after(hold, &before);
            return Err(error);
        }
        if let Some(error) = self.0.consumed_by() {
            return Err(error);
        }
        self.0.settle();
        // SAFETY: everybody who had access before has ended and left a value, and who comes later waits for `hold`.
        residency::bring(unsafe { self.0.address().as_ref() }).map_err(|reason| hold.reference().error(FailureKind::Lost { reason }))?;
        let value = match Arc::try_unwrap(self.0).map(Place::into_value) {
            Ok(Some(value)) => value,
            Ok(None) => unreachable!("it was there above"),
            Err(place) => {
                // SAFETY: everybody who had access before has ended and left a value, and who comes later waits for `hold`.
                unsafe { place.address().as_ref() }.clone()
            }
        };
        drop(hold);
        Ok(value)
    }
}

/// Waits for all, and gives the error of one that is needed.
fn wait_for(all: &[Earlier]) -> Result<(), TaskError> {
    for Earlier { task, needed } in all {
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
fn end_after(hold: Hold, before: &[Earlier]) {
    /// Told by each of them; the last one drops it.
    struct Last {
        _hold: Hold,
    }
    impl Wake for Last {
        fn wake(self: Arc<Self>) {}
    }
    let last = Waker::from(Arc::new(Last { _hold: hold }));
    for Earlier { task, .. } in before {
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
        let history = lock_marked(&self.0.history);
        let (writer, readers, parts) = history.summary();
        f.debug_struct("Mutable").field("writer", &writer).field("readers", &readers).field("parts", &parts).finish_non_exhaustive()
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
        // SAFETY: the writers before have ended and left a value, and those that come later wait for the hold.
        unsafe { self.place.address().as_ref() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Reading<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A look at a [`Part`]. Tasks that write one of its elements and were spawned later wait until it is dropped.
#[must_use = "it holds up tasks that write until it is dropped"]
pub struct PartReading<'a, E> {
    part: &'a Part<E>,
    first: NonNull<E>,
    _hold: Hold,
}

impl<'a, E: Data> PartReading<'a, E> {
    #[track_caller]
    pub(crate) fn new(part: &'a Part<E>) -> Result<Self, TaskError> {
        let owner = Arc::clone(&part.owner) as Arc<dyn Historic>;
        let (hold, before) = hold(&*owner, Target::Part(part.number), Access::Read);
        wait_for(&before)?;
        if let Some(error) = part.owner.consumed() {
            return Err(error);
        }
        let first = part
            .owner
            .bring(Access::Read, &part.form, &part.spans)
            .map_err(|reason| hold.reference().error(FailureKind::Lost { reason }))?;
        Ok(Self { part, first, _hold: hold })
    }

    /// The elements.
    pub fn view(&self) -> View<'_, E> {
        // SAFETY: the elements are there (`bring`); the writers before have ended, and those that come later wait for the hold.
        unsafe { View::new(self.first, &self.part.form) }
    }
}

impl<E> fmt::Debug for PartReading<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PartReading").field(self.part).finish()
    }
}

/// What [`read`] takes: a [`Mutable`] or a part of one, or a [`Task`], whose result is only ever read.
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

/// What [`write()`] and [`overwrite`] take: a [`Mutable`], or a part of one.
pub trait Writable {
    /// The argument that it makes.
    type Argument;

    #[doc(hidden)]
    fn argument(&self, access: Access) -> Self::Argument;
}

impl<T> Writable for Mutable<T> {
    type Argument = Write<T>;

    fn argument(&self, access: Access) -> Write<T> {
        Write(Self::clone(self), access)
    }
}

/// As an argument for a parameter `&mut T`, or [`ViewMut`](crate::ViewMut) of a part: changes the value in place, after all tasks spawned before that use it.
pub fn write<W: Writable>(place: &W) -> W::Argument {
    place.argument(Access::Write)
}

/// As an argument for a parameter `&mut T`, or [`ViewMut`](crate::ViewMut) of a part, whose old contents the task does not look at: they need not be brought to where it
/// runs, and it does not matter whether the task that wrote them failed.
pub fn overwrite<W: Writable>(place: &W) -> W::Argument {
    place.argument(Access::Overwrite)
}

/// As an argument for a parameter `&mut T`: changes the value in place, as [`write()`] does, but the order among tasks that do so next to each other does not matter. One at a time, each as soon
/// as it can: they add to a sum, or put something into a collection.
///
/// In a [`RegionPlan`](crate::RegionPlan) they are in the order of their spawns.
pub fn commute<T>(place: &Mutable<T>) -> Commute<T> {
    Commute(place.clone())
}

/// What [`commute`] makes.
#[derive(Debug)]
pub struct Commute<T>(pub(crate) Mutable<T>);

/// What [`read`] makes of a [`Mutable`].
#[derive(Debug)]
pub struct Read<T>(pub(crate) Mutable<T>);

/// What [`write()`] and [`overwrite`] make.
#[derive(Debug)]
pub struct Write<T>(pub(crate) Mutable<T>, pub(crate) Access);
