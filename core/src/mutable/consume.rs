//! A value that leaves its [`Mutable`]: access that moves it into a task, and access to the place that may be empty.
//!
//! A place is empty from when a task has taken the value out until somebody puts one there. Who looks at an empty one gets the error of the task that took the value.
#![expect(unsafe_code, reason = "a value is moved out of its place, and into it again")]

use std::fmt;
use std::mem::MaybeUninit;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use poniard_interface::Access;

use super::history::{Mode, Target};
use super::slot::{AccessTo, InPlace, PlaceSlot};
use super::touch::Touch;
use super::{Historic, Mutable, Place, Write, hold, wait_for};
use crate::data::Data;
use crate::error::{FailureKind, TaskError, TaskName};
use crate::parameter::{IntoArg, Slot};
use crate::task::record::{Edge, Header, dropped_quietly};
use crate::{residency, spill};

/// As an argument for a parameter `T`: moves the value out of the [`Mutable`] into the task, after all tasks spawned before that use it. Nothing is cloned.
///
/// From then on the `Mutable` is empty: who looks at it gets an error ([`FailureKind::Consumed`]) that names the task which has the value, until a task puts another one there, by [`overwrite`](crate::overwrite)
/// for a parameter `&mut Option<T>`, or somebody calls [`Mutable::put`]. A task that is not run consumes nothing.
///
/// ```
/// use poniard::{Mutable, Runtime, consume, overwrite};
///
/// let runtime = Runtime::new()?;
/// let list = Mutable::new(vec![3, 1, 2]);
/// runtime.region(|r| {
///     let sorted = |mut list: Vec<i32>| {
///         list.sort();
///         list
///     };
///     let sorted = r.spawn(sorted, (consume(&list),));
///     r.spawn(|list: &mut Option<Vec<i32>>, sorted: Vec<i32>| *list = Some(sorted), (overwrite(&list), sorted));
/// })?;
/// assert_eq!(list.take()?, [1, 2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A parameter `&T` does not take the value, and so there is nothing to consume:
///
/// ```compile_fail
/// use poniard::{Mutable, Runtime, consume};
///
/// let runtime = Runtime::new()?;
/// let list = Mutable::new(vec![3, 1, 2]);
/// runtime.spawn(|list: &Vec<i32>| list.len(), (consume(&list),));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn consume<T>(place: &Mutable<T>) -> Consume<T> {
    Consume(place.clone())
}

/// What [`consume`] makes.
#[derive(Debug)]
pub struct Consume<T>(Mutable<T>);

/// The name of the task that may empty a place, known once it is spawned.
pub(super) type Taker = OnceLock<TaskName>;

/// Whether a place has its value, and who has it otherwise.
///
/// Relaxed throughout: tasks that change it come before those that look, by their accesses.
#[derive(Default)]
pub(super) struct Presence {
    is_gone: AtomicBool,
    taker: Mutex<Option<Arc<Taker>>>,
}

impl Presence {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Taker>>> {
        // One assignment.
        self.taker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Place<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.presence.is_gone.load(Relaxed)
    }

    /// The error of the task that has taken the value, while the place is empty.
    #[inline]
    pub(super) fn consumed_by(&self) -> Option<TaskError> {
        if self.is_empty() { self.error_of_taker() } else { None }
    }

    #[cold]
    fn error_of_taker(&self) -> Option<TaskError> {
        let name = self.presence.lock().as_ref().and_then(|taker| taker.get().cloned());
        let unnamed = || TaskName { name: "unnamed".into(), location: std::panic::Location::caller() };
        Some(TaskError::new(name.unwrap_or_else(unnamed), FailureKind::Consumed))
    }

    /// Moves the value out.
    ///
    /// # Safety
    /// The place is not empty, and nobody else has access to it meanwhile.
    unsafe fn take_out(&self, taker: &Arc<Taker>) -> T {
        *self.presence.lock() = Some(Arc::clone(taker));
        self.presence.is_gone.store(true, Relaxed);
        // SAFETY: there is a value (precondition), and from the store above on nobody takes it for one.
        unsafe { self.address().read() }
    }

    /// Moves a value in.
    ///
    /// # Safety
    /// The place is empty, and nobody else has access to it meanwhile.
    unsafe fn put_in(&self, value: T) {
        // SAFETY: the memory is the value's own, and there is none in it that would have to be dropped (precondition).
        unsafe { self.address().write(value) };
        self.presence.is_gone.store(false, Relaxed);
        *self.presence.lock() = None;
    }

    /// The value, of a place that nobody else has.
    pub(super) fn into_value(mut self) -> Option<T> {
        if std::mem::replace(self.presence.is_gone.get_mut(), true) {
            return None;
        }
        // SAFETY: there was a value, and the place is marked as empty now.
        Some(unsafe { self.value.get_mut().assume_init_read() })
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        if !*self.presence.is_gone.get_mut() {
            // SAFETY: there is a value, and nobody looks at it after this.
            unsafe { MaybeUninit::assume_init_drop(self.value.get_mut()) };
        }
    }
}

impl<T: Data> Mutable<T> {
    /// Waits for all tasks spawned so far that use the value, and puts this one in its place: whatever became of the last one, even if it was [`consume`]d.
    ///
    /// # Errors
    /// When waiting would never end.
    #[track_caller]
    pub fn put(&self, value: T) -> Result<(), TaskError> {
        let (hold, before) = hold(&*self.0, Target::Whole, Access::Overwrite);
        if let Err(error) = wait_for(&before) {
            super::end_after(hold, &before);
            return Err(error);
        }
        spill::offer_all(&value);
        self.0.settle();
        let _down = self.0.stand_down();
        if !self.0.is_empty() {
            // SAFETY: there is a value; everybody who had access before has ended, and who comes later waits for the hold.
            dropped_quietly(unsafe { self.0.take_out(&Arc::default()) });
        }
        // SAFETY: the place is empty by now, and ours as above.
        unsafe { self.0.put_in(value) };
        drop(hold);
        Ok(())
    }
}

/// The stored access that moves a value out of its place.
#[doc(hidden)]
pub struct ConsumeSlot<T> {
    of: AccessTo,
    place: Arc<Place<T>>,
    taker: Arc<Taker>,
    /// Whether the body has had a clone of the value, which goes when the task ends.
    is_due: AtomicBool,
    is_taken: bool,
}

impl<T> fmt::Debug for ConsumeSlot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumeSlot").field("of", &self.of).field("is_taken", &self.is_taken).finish_non_exhaustive()
    }
}

impl<T: Data> IntoArg<T> for Consume<T> {
    const CONSUMES: bool = true;
    const EMPTIES: bool = true;

    fn into_slots(self) -> Slot<T> {
        let place = Arc::clone(&self.0.0);
        let taker = Arc::<Taker>::default();
        let of = AccessTo::new(Arc::clone(&place) as _, Target::Whole, Mode::Write).emptying(&taker, false);
        Slot::Consumed(Box::new(ConsumeSlot { of, place, taker, is_due: AtomicBool::new(false), is_taken: false }))
    }
}

impl<T> ConsumeSlot<T> {
    pub(crate) fn visit(&self, visit: &mut impl FnMut(&Header, &Edge)) {
        self.of.visit(visit);
    }

    pub(crate) fn failed(&self) -> Option<TaskError> {
        self.of.failed()
    }

    pub(crate) fn access(&self) -> &dyn Touch {
        &self.of
    }

    pub(crate) fn access_mut(&mut self) -> &mut dyn Touch {
        &mut self.of
    }

    /// The value in its place, for the task that stores this, from when it is ready until its body has it.
    pub(crate) fn get(&self) -> &T {
        debug_assert!(!self.is_taken, "nobody looks at what the body has");
        self.of.settle();
        // SAFETY: the place has a value (`AccessTo::failed`), and nobody else has access until the task's end.
        unsafe { self.place.address().as_ref() }
    }

    /// Moves the value out.
    pub(crate) fn take(&mut self) -> T {
        assert!(!self.is_taken, "an argument is taken once");
        self.of.settle();
        self.is_taken = true;
        // SAFETY: as in `get`.
        unsafe { self.place.take_out(&self.taker) }
    }

    /// The body gets a clone, as it may be called again: the value leaves when this is dropped.
    pub(crate) fn note_copied(&self) {
        self.is_due.store(true, Relaxed);
    }
}

impl<T> Drop for ConsumeSlot<T> {
    fn drop(&mut self) {
        if *self.is_due.get_mut() && !self.is_taken {
            dropped_quietly(self.take());
        }
    }
}

/// The value of a place that may be empty, while a task has it: out of the place, and put back when this is dropped.
struct Lent<T> {
    place: Arc<Place<T>>,
    access: Access,
    taker: Arc<Taker>,
    /// None until the task begins.
    value: OnceLock<Option<T>>,
}

/// What a task changes in the place of the value itself.
pub(super) trait Apart<T>: fmt::Debug + Send + Sync {
    fn get(&self) -> &T;
    fn get_mut(&mut self) -> &mut T;
}

impl<T> fmt::Debug for Lent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("access", &self.access).field("has_begun", &self.value.get().is_some()).finish_non_exhaustive()
    }
}

impl<T: Data> Apart<Option<T>> for Lent<T> {
    fn get(&self) -> &Option<T> {
        self.value.get_or_init(|| {
            if self.place.is_empty() {
                return None;
            }
            if self.access == Access::Write {
                // SAFETY: there is a value, and the task has the only access to it from when it is ready until its end.
                let value = unsafe { self.place.address().as_ref() };
                // The task fails with that.
                residency::bring(value).and_then(|()| spill::look_at(value, true)).unwrap_or_else(|reason| panic!("{reason}"));
            }
            // SAFETY: as above.
            let value = unsafe { self.place.take_out(&self.taker) };
            if self.access == Access::Write {
                return Some(value);
            }
            dropped_quietly(value);
            None
        })
    }

    fn get_mut(&mut self) -> &mut Option<T> {
        self.get();
        match self.value.get_mut() {
            Some(value) => value,
            None => unreachable!("it has just been made"),
        }
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        if let Some(Some(value)) = self.value.take() {
            // SAFETY: the value was taken out, so the place is empty; the task that has the only access drops this before its end.
            unsafe { self.place.put_in(value) };
        }
    }
}

impl<T: Data> IntoArg<InPlace<Option<T>>> for Write<T> {
    const EMPTIES: bool = true;

    fn into_slots(self) -> PlaceSlot<Option<T>> {
        let Self(Mutable(place), access) = self;
        let taker = Arc::<Taker>::default();
        let of = AccessTo::new(Arc::clone(&place) as _, Target::Whole, access.into()).emptying(&taker, true);
        PlaceSlot::apart(of, Box::new(Lent { place, access, taker, value: OnceLock::new() }))
    }
}
