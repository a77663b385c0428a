//! What users hold of a task.

use std::fmt;
use std::marker::PhantomData;

use crate::data::Data;
use crate::error::{FailureKind, TaskError};
use crate::function::caller;
use crate::residency;
use crate::spill;

pub(crate) mod bond;
pub(crate) mod future;
#[cfg(all(test, loom))]
pub(crate) mod loom_tests;
pub(crate) mod many;
pub(crate) mod memory;
pub(crate) mod nested;
pub(crate) mod record;

use record::{TaskRef, UserRef};

/// A task's result: typed, cheap to clone, maybe not computed yet.
///
/// [`fetch`](Self::fetch) waits and shares the result, [`take`](Self::take) waits and moves it out. Given as an argument to another task it is
/// a dependency, and nobody waits. When the last handle of a task that has not begun is dropped, and no other task depends on it, it never will:
/// nobody could see its result. Nor will those whose results only it would have taken. [`detach`](Self::detach) lets it run.
#[must_use = "a task's result or error is in its handle; `wait` for it or give it to another task"]
pub struct Task<T> {
    reference: UserRef,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Task<T> {
    fn clone(&self) -> Self {
        Self { reference: self.reference.clone(), value: PhantomData }
    }
}

impl<T> Task<T> {
    /// Lets the task run, whatever becomes of its handles.
    #[inline]
    pub(crate) fn keep(&self) {
        self.reference.keep();
    }

    /// The record.
    pub(crate) fn reference(&self) -> &TaskRef {
        self.reference.as_ref()
    }

    /// Waits for the result and shares it. The value stays where it is: a [`Value<T>`] derefs to `T`.
    ///
    /// Inside a task, the worker meanwhile runs what this task needs and nothing else; when that runs elsewhere, another thread takes the worker's
    /// place. Works on a runtime with one thread, and to any depth of nesting that memory allows.
    ///
    /// # Errors
    /// [`TaskError`] when the task, or one that it depends on, failed; when waiting could never end, because this thread
    /// is in the middle of the task or of one that it depends on. Of tasks that wait for
    /// each other in a circle, one gets that error.
    pub fn fetch(&self) -> Result<Value<T>, TaskError>
    where
        T: Data,
    {
        self.wait()?;
        self.outcome()
    }

    /// The result of a task that has finished.
    fn outcome(&self) -> Result<Value<T>, TaskError>
    where
        T: Data,
    {
        if let Some(error) = self.reference.failure() {
            return Err(error);
        }
        self.bring()?;
        Ok(Value { task: self.clone() })
    }

    /// Sees to it that the host has the result of a task that has finished with one.
    #[inline]
    fn bring(&self) -> Result<(), TaskError>
    where
        T: Data,
    {
        if const { residency::can_be_elsewhere::<T>() }
            && let Some(value) = self.value_ref()
        {
            let brought = residency::bring(value).and_then(|()| spill::look_at(value, false));
            return brought.map_err(|reason| self.reference.error(FailureKind::Lost { reason }));
        }
        Ok(())
    }

    /// As [`fetch`](Self::fetch), of a task that computes something again.
    pub(crate) fn fetch_recomputed(&self) -> Result<Value<T>, TaskError>
    where
        T: Data,
    {
        self.wait()?;
        let brought = self.value_ref().map_or(Ok(()), residency::bring_recomputed);
        brought.map_err(|reason| self.reference.error(FailureKind::Lost { reason }))?;
        Ok(Value { task: self.clone() })
    }

    /// Waits for the result and moves it out when this is its last user; clones it otherwise.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn take(self) -> Result<T, TaskError>
    where
        T: Data + Clone,
    {
        if !self.reference.is_finished() {
            crate::worker::fetch::wait_alone(self.reference.as_ref())?;
        }
        if let Some(error) = self.reference.failure() {
            return Err(error);
        }
        self.bring()?;
        Ok(Value::take(Value { task: self }))
    }

    /// Waits until the task has finished.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn wait(&self) -> Result<(), TaskError> {
        if !self.reference.is_finished() {
            crate::worker::fetch::wait(self.reference.as_ref())?;
        }
        match self.reference.failure() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Whether the task has a result or an error. Does not wait.
    pub fn is_finished(&self) -> bool {
        self.reference.is_finished()
    }

    /// Gives the handle up and lets the task run all the same. Dropped instead, the last handle takes a task that has not begun with it.
    pub fn detach(self) {
        self.reference.detach();
    }

    /// Cancels the task: whoever waits for it gets an error at once, and so do the tasks that depend on it. One that has not begun never will. One
    /// that runs can ask [`is_cancelled`](crate::is_cancelled) and stop early; its processor is free when it has, and its result is dropped. A body that waits for
    /// another task goes on waiting: cancel that one as well. A task that has access to a [`Mutable`](crate::Mutable) ends no sooner than those before it, and its own body, have.
    ///
    /// False when it had finished, or been cancelled, before.
    pub fn cancel(&self) -> bool {
        self.reference.as_ref().cancel(crate::error::FailureKind::Cancelled)
    }

    /// The name that errors use: the one given, or the function's.
    pub fn name(&self) -> String {
        self.reference.name().name
    }
}

impl<T: Data> Task<Task<T>> {
    /// The result of the task that is the result: finishes when that one has, and with its value, which is not copied. No thread waits meanwhile.
    ///
    /// A task that spawns others and returns the last of them is so as good as one that waits for it. Chains of any length are in order: a task whose
    /// result is the `flatten` of one that does the same. Cancelled, it leaves both tasks alone.
    ///
    /// Its error is that of a dependent: the task to blame is the outer one or the inner one. When the result leads back to this task, it fails with
    /// [`FailureKind::WaitsForItself`].
    ///
    /// ```
    /// use poniard::{Runtime, Task};
    ///
    /// fn countdown(n: u64) -> Task<u64> {
    ///     match n {
    ///         0 => poniard::spawn(|| 7, ()),
    ///         _ => poniard::spawn(countdown, (n - 1,)).flatten(),
    ///     }
    /// }
    /// let runtime = Runtime::new()?;
    /// assert_eq!(*runtime.spawn(countdown, (1000,)).flatten().fetch()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn flatten(self) -> Task<T> {
        record::flat::create(self, caller())
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.is_finished(), self.reference.failure()) {
            (false, _) => "not finished",
            (true, None) => "finished",
            (true, Some(_)) => "failed",
        };
        write!(f, "Task({}, {state})", self.reference.name())
    }
}

/// The value of a finished task, shared: derefs to `T`, and keeps it alive.
pub struct Value<T> {
    task: Task<T>,
}

impl<T> Value<T> {
    /// The value itself: moved when this is its last user, cloned otherwise.
    pub fn take(self) -> T
    where
        T: Clone,
    {
        self.try_unwrap().unwrap_or_else(|shared| (*shared).clone())
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self { task: self.task.clone() }
    }
}

impl<T> std::ops::Deref for Value<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self.task.value_ref() {
            Some(value) => value,
            None => unreachable!("a `Value` is made of a task that has one"),
        }
    }
}

impl<T> AsRef<T> for Value<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: fmt::Debug> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Value<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}
