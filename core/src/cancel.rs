//! What a task's body sees of its being cancelled.

use crate::worker::context::Context;

/// The task that this thread is in the middle of is to stop: nobody wants its result any more.
///
/// A body returns it by way of [`check_cancelled`]; the task's error is then [`FailureKind::Cancelled`](crate::FailureKind::Cancelled).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task was cancelled")]
#[non_exhaustive]
pub struct Cancelled;

/// Whether the task that this thread is in the middle of is to stop, as somebody cancelled it, its deadline has passed, or everything was cancelled
/// since it was spawned. False outside tasks.
///
/// A body that runs for long asks now and then, and returns early: whatever it returns is dropped. Cost: a few loads.
///
/// A task that waits for another goes on waiting when it is cancelled: whoever wants that to end as well cancels both. A task
/// that runs on top of one that waits for it answers for itself only.
pub fn is_cancelled() -> bool {
    // What a worker process executes is to stop, which is nothing to those that are there as guests.
    Context::with(|context| context.is_some_and(Context::is_cancelled)) || (crate::ship::is_stopping() && !crate::ambient::is_guest())
}

/// As [`is_cancelled`], for `?` in a body.
///
/// ```
/// use poniard::{BoxError, FailureKind, Runtime};
///
/// fn search(from: u64) -> Result<u64, BoxError> {
///     for candidate in from.. {
///         poniard::check_cancelled()?;
///         if candidate == u64::MAX {
///             return Ok(candidate);
///         }
///     }
///     Err("there is none".into())
/// }
/// let runtime = Runtime::new()?;
/// let task = runtime.spawn(search, (0,));
/// assert!(task.cancel());
/// let error = task.fetch().expect_err("it was cancelled");
/// assert!(matches!(error.kind(), FailureKind::Cancelled));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Cancelled`] when the task is to stop.
pub fn check_cancelled() -> Result<(), Cancelled> {
    if is_cancelled() { Err(Cancelled) } else { Ok(()) }
}
