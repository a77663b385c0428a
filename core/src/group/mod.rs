//! Tasks that are waited for, or cancelled, together.

use std::fmt;
use std::sync::Arc;

use crate::ambient;
use crate::error::TaskError;
use crate::function::{Args, TaskFn, caller};
use crate::runtime::Handle;
use crate::task::Task;

pub(crate) mod members;

use members::Members;

/// Tasks that are waited for, and cancelled, together: all that is spawned in [`run`](Self::run), and what those tasks spawn, and so on.
///
/// A group needs its tasks: they run even when their handles are dropped. The group itself may be dropped, and they still do. A task that is in a
/// group inside another one is in both.
///
/// Cost for each task: a lock and an entry in a map when it is spawned, and again when it has finished, beside the allocation that
/// every task with options has. Finished tasks leave nothing behind.
///
/// ```
/// use poniard::Runtime;
///
/// let runtime = Runtime::new()?;
/// let group = runtime.group(|| {
///     for i in 0..10u64 {
///         runtime.spawn(|x: u64| poniard::spawn(|y: u64| y * y, (x,)).detach(), (i,)).detach();
///     }
/// });
/// group.wait()?; // for all twenty
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TaskGroup {
    handle: Handle,
    members: Arc<Members>,
}

impl TaskGroup {
    /// An empty group that is inside no other. [`Handle::group`] makes one inside the group that the caller is in.
    pub fn new(handle: &Handle) -> Self {
        Self { handle: handle.clone(), members: Members::new(None) }
    }

    /// Runs `body` on this thread. What it spawns, on whichever runtime, is in the group, and so is what these tasks spawn.
    pub fn run<R>(&self, body: impl FnOnce() -> R) -> R {
        ambient::in_group(&self.members, body)
    }

    /// Spawns a task that is in the group. As [`Handle::spawn`].
    #[track_caller]
    pub fn spawn<M, F, A>(&self, function: F, args: A) -> Task<F::Value>
    where
        F: TaskFn<M>,
        A: Args<F::Params>,
    {
        let location = caller();
        self.run(|| self.handle.spawn_at(location, function, args, None))
    }

    /// Waits until all tasks in the group have finished, those included that come meanwhile. The group can be used again afterwards; its errors stay.
    ///
    /// Inside a task, the worker meanwhile runs what is in the group, or lends its place.
    ///
    /// # Errors
    /// [`GroupError`] when a task in it has failed; also, with [`FailureKind::WaitsForItself`](crate::FailureKind::WaitsForItself) and possibly
    /// before all have finished, when the calling thread is in the middle of one of them.
    pub fn wait(&self) -> Result<(), GroupError> {
        self.members.wait()
    }

    /// Cancels all tasks in the group, as [`Task::cancel`] does, and all that are spawned into it from now on. False when that had been done before.
    pub fn cancel(&self) -> bool {
        self.members.cancel()
    }

    /// Whether it, or a group that it is in, has been cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.members.is_cancelled()
    }

    /// Whether all that has been spawned in it has finished. Does not wait.
    pub fn is_finished(&self) -> bool {
        self.members.is_empty()
    }
}

impl fmt::Debug for TaskGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskGroup({:?})", self.members)
    }
}

impl Handle {
    /// Runs `body` on this thread with a new group, inside the one that the caller is in, if any: see [`TaskGroup::run`].
    pub fn group(&self, body: impl FnOnce()) -> TaskGroup {
        let group = self.inner_group();
        group.run(body);
        group
    }

    /// Runs `body` on this thread and waits for everything that it spawns, and for what those tasks spawn.
    ///
    /// Where `body` panics nothing is waited for, and the tasks run on.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// static DONE: AtomicU32 = AtomicU32::new(0);
    /// let runtime = poniard::Runtime::new()?;
    /// runtime.wait_all(|| {
    ///     for _ in 0..10 {
    ///         runtime.spawn(|| DONE.fetch_add(1, Ordering::Relaxed), ()).detach();
    ///     }
    /// })?;
    /// assert_eq!(DONE.load(Ordering::Relaxed), 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`GroupError`] when one of the tasks fails.
    pub fn wait_all<R>(&self, body: impl FnOnce() -> R) -> Result<R, GroupError> {
        let group = self.inner_group();
        let value = group.run(body);
        group.wait()?;
        Ok(value)
    }

    fn inner_group(&self) -> TaskGroup {
        TaskGroup { handle: self.clone(), members: Members::new(ambient::group()) }
    }
}

/// Cancels the tasks that it was given to, all at once: [`TaskOptions::cancel_token`](crate::TaskOptions::cancel_token). Cheap to clone.
///
/// Unlike a [`TaskGroup`] it neither keeps tasks alive nor can be waited for, and it reaches only those tasks, and not what they spawn, unless it is
/// given to them by [`TaskOptions::inherit`](crate::TaskOptions::inherit). Costs a task as much as a group does.
///
/// ```
/// use poniard::{CancelToken, FailureKind, Runtime};
///
/// let (runtime, token) = (Runtime::new()?, CancelToken::new());
/// assert!(token.cancel());
/// let task = runtime.task(|| 1u64, ()).cancel_token(&token).spawn();
/// assert!(matches!(task.wait().map_err(|error| matches!(error.kind(), FailureKind::Cancelled)), Err(true)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct CancelToken(Arc<Members>);

impl CancelToken {
    /// A token that no task has.
    pub fn new() -> Self {
        Self(Members::new(None))
    }

    /// Cancels the tasks that have it, as [`Task::cancel`] does; those that get it later fail when they are spawned. True the first time.
    pub fn cancel(&self) -> bool {
        self.0.cancel()
    }

    /// Whether it has been used.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    pub(crate) fn into_members(self) -> Arc<Members> {
        self.0
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for CancelToken {
    /// Whether they are clones of one token.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for CancelToken {}

/// Tasks of a group failed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GroupError {
    first: TaskError,
    failure_count: usize,
}

impl GroupError {
    fn new(first: TaskError, failure_count: usize) -> Self {
        Self { first, failure_count }
    }

    /// The error of the task that failed first. When waiting could never have ended, the error that says so.
    pub fn first(&self) -> &TaskError {
        &self.first
    }

    /// How many tasks of the group have failed so far, those included that depend on one that did.
    pub fn failure_count(&self) -> usize {
        self.failure_count
    }
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failure_count {
            0 | 1 => self.first.fmt(f),
            count => write!(f, "{count} tasks of a group failed, first this one: {}", self.first),
        }
    }
}

impl std::error::Error for GroupError {}
