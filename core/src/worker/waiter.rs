//! A thread that waits for a task, and the place where it sleeps.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Wake, Waker};
use std::time::Duration;

use crate::platform;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::{Acquire, Release};
use crate::sync::{Parker, Unparker};

crate::sync::thread_local! {
    static PARKER: Parker = Parker::new();
}

/// Threads that are no workers and wait for tasks.
static OUTSIDE: AtomicUsize = AtomicUsize::new(0);

/// Whether there are any: a hint.
pub(super) fn is_any_outside() -> bool {
    OUTSIDE.load(Relaxed) > 0
}

/// How long a thread sleeps that cannot be woken.
const NAP: Duration = Duration::from_millis(1);

/// Sleeps until this thread's unparker is used; may return without cause.
pub(crate) fn park() {
    if let Some(platform) = platform::current() {
        return platform.park(None);
    }
    // Where the destructor of another thread-local waits, this one may be gone.
    if PARKER.try_with(Parker::park).is_err() {
        std::thread::sleep(NAP);
    }
}

/// Sleeps as `park` does, but not longer than `patience`.
pub(crate) fn park_for(patience: Duration) {
    if let Some(platform) = platform::current() {
        return platform.park(Some(platform.now_ns().saturating_add(patience.as_nanos() as u64)));
    }
    if PARKER.try_with(|parker| parker.park_timeout(patience)).is_err() {
        std::thread::sleep(NAP.min(patience));
    }
}

/// What wakes this thread.
pub(crate) fn unparker() -> Unparker {
    #[cfg(not(loom))]
    if let Some(platform) = platform::current() {
        return Unparker::Logical(platform.current());
    }
    PARKER.try_with(Parker::unparker).unwrap_or_else(|_| Parker::new().unparker())
}

/// Told once when a task has finished.
#[derive(Debug)]
pub(crate) struct Waiter {
    fired: AtomicBool,
    /// Whether it is one of `OUTSIDE`.
    is_outside: std::sync::atomic::AtomicBool,
    unparker: Unparker,
}

impl Waiter {
    /// A waiter for this thread.
    pub(crate) fn for_this_thread() -> Arc<Self> {
        Arc::new(Self { fired: AtomicBool::new(false), is_outside: false.into(), unparker: unparker() })
    }

    /// What tells it.
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// Called by whoever finished the task.
    pub(crate) fn fire(&self) {
        // Release: pairs with the Acquire in `has_fired`.
        self.fired.store(true, Release);
        // Before it wakes, which may take long.
        self.end_outside();
        self.unparker.unpark();
    }

    pub(crate) fn has_fired(&self) -> bool {
        self.fired.load(Acquire)
    }

    /// The same on a thread that is no worker of anything, which is known to wait.
    pub(crate) fn wait_outside(&self) {
        OUTSIDE.fetch_add(1, Relaxed);
        self.is_outside.store(true, Relaxed);
        self.wait();
        self.end_outside();
    }

    /// From now on it is not counted as waiting, if it was.
    fn end_outside(&self) {
        if self.is_outside.swap(false, Relaxed) {
            OUTSIDE.fetch_sub(1, Relaxed);
        }
    }

    /// Sleeps until the task has finished. Only on the thread that made it.
    pub(crate) fn wait(&self) {
        while !self.has_fired() {
            park();
        }
    }
}

impl Wake for Waiter {
    fn wake(self: Arc<Self>) {
        self.fire();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.fire();
    }
}
