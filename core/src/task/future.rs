//! Tasks as futures, for threads that run an executor of asynchronous code.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::{Task, Value};
use crate::ambient;
use crate::data::Data;
use crate::error::TaskError;

/// A place for the waker of whoever polled last.
#[derive(Debug, Default)]
pub(crate) struct Relay(Mutex<Option<Waker>>);

impl Relay {
    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        // Single operations on the option; none of them panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a waker in.
    pub(crate) fn set(&self, waker: &Waker) {
        let mut place = self.lock();
        let old = match &*place {
            Some(known) if known.will_wake(waker) => None,
            _ => place.replace(waker.clone()),
        };
        drop(place);
        drop(old);
    }

    /// Nobody waits any more.
    pub(crate) fn clear(&self) {
        let old = self.lock().take();
        drop(old);
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        let waker = self.lock().take();
        // An executor's code, on a thread that has to go on whatever it does.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.map(Waker::wake))) {
            std::mem::forget(payload);
        }
    }
}

/// Waits for a task's result without a thread. Made by `task.await`, or [`IntoFuture`] of a [`Task`] or a `&Task`.
///
/// It notes itself once in the task, when it is polled first, and is woken once. Dropped, it leaves a few bytes there until the task has finished: in a
/// loop that waits for several things at once, make it before the loop.
#[must_use = "futures do nothing unless polled"]
pub struct TaskFuture<T> {
    task: Task<T>,
    relay: Option<Arc<Relay>>,
}

impl<T: Data> Future for TaskFuture<T> {
    type Output = Result<Value<T>, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if !this.task.is_finished() {
            // The block around this call, if it holds the task back, may end only when the future is ready.
            ambient::flush();
            let added = match &this.relay {
                Some(relay) => {
                    relay.set(context.waker());
                    // The one that was in the relay may have been told just before.
                    !this.task.is_finished()
                }
                None => {
                    let relay = Arc::new(Relay::default());
                    relay.set(context.waker());
                    let added = this.task.reference().add_waiter(&Waker::from(Arc::clone(&relay)));
                    this.relay = Some(relay);
                    added
                }
            };
            if added {
                return Poll::Pending;
            }
        }
        Poll::Ready(this.task.outcome())
    }
}

impl<T> Drop for TaskFuture<T> {
    fn drop(&mut self) {
        if let Some(relay) = &self.relay {
            relay.clear();
        }
    }
}

impl<T> fmt::Debug for TaskFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskFuture({:?})", self.task)
    }
}

/// `task.await` waits as [`Task::fetch`] does, on an executor's thread, which does other things meanwhile. For asynchronous code outside tasks: a task's
/// function is not asynchronous, and waits with `fetch`.
///
/// ```
/// # use poniard::Runtime;
/// # fn block_on<F: IntoFuture>(future: F) -> F::Output {
/// #     let mut future = std::pin::pin!(future.into_future());
/// #     loop {
/// #         if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
/// #             return output;
/// #         }
/// #     }
/// # }
/// let runtime = Runtime::new()?;
/// let total = block_on(async {
///     let one = runtime.spawn(|| 1u64, ());
///     let two = runtime.spawn(|x: u64| x + 1, (&one,));
///     Ok::<_, poniard::TaskError>(*one.await? + *two.await?)
/// });
/// assert_eq!(total?, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<T: Data> IntoFuture for Task<T> {
    type Output = Result<Value<T>, TaskError>;
    type IntoFuture = TaskFuture<T>;

    fn into_future(self) -> TaskFuture<T> {
        TaskFuture { task: self, relay: None }
    }
}

/// As for a [`Task`]; the handle stays.
impl<T: Data> IntoFuture for &Task<T> {
    type Output = Result<Value<T>, TaskError>;
    type IntoFuture = TaskFuture<T>;

    fn into_future(self) -> TaskFuture<T> {
        self.clone().into_future()
    }
}
