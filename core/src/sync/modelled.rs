//! The stand-ins under `--cfg loom`: loom's own types, a place to sleep that is made of them, and an eye on what is reached by protocol alone.
#![expect(unsafe_code, reason = "a cell that threads share, whose accesses are what is checked")]

use std::sync::{Arc, PoisonError};
use std::time::Duration;

pub(crate) use loom::hint::spin_loop;
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard, atomic};
pub(crate) use loom::thread::yield_now;

/// As loom's own, which does not know that a value may be a constant's.
macro_rules! local {
    ($(#[$attribute:meta])* static $name:ident: $type:ty = const $init:block;) => {
        loom::thread_local! { $(#[$attribute])* static $name: $type = $init; }
    };
    ($($rest:tt)*) => {
        loom::thread_local! { $($rest)* }
    };
}
pub(crate) use local as thread_local;

/// As `std::panic::catch_unwind`, and catches nothing: what loom finds is a panic, which no test is to miss.
pub(crate) fn catch_unwind<R>(body: impl FnOnce() -> R + std::panic::UnwindSafe) -> std::thread::Result<R> {
    Ok(body())
}

/// Something that threads reach by protocol and not by a type that loom knows: panics when two of them reach it at once, one of them to change it, when
/// one reaches it after its end, and when it has no end.
#[derive(Debug)]
pub(crate) struct Watched {
    cell: loom::cell::UnsafeCell<()>,
    /// Not loom's: whether it is over is to be known at once, whoever asks.
    over: std::sync::atomic::AtomicBool,
    _leak: loom::alloc::Track<()>,
}

// SAFETY: the cell holds nothing; loom checks each access to it against all others.
unsafe impl Sync for Watched {}

impl Watched {
    pub(crate) fn new() -> Self {
        let _leak = loom::alloc::Track::new(());
        Self { cell: loom::cell::UnsafeCell::new(()), over: std::sync::atomic::AtomicBool::new(false), _leak }
    }

    #[track_caller]
    pub(crate) fn look(&self) {
        if self.is_there() {
            self.cell.with(|_| ());
        }
    }

    #[track_caller]
    pub(crate) fn change(&self) {
        if self.is_there() {
            self.cell.with_mut(|_| ());
        }
    }

    /// False where something has been found already, and unwinds through destructors.
    #[track_caller]
    fn is_there(&self) -> bool {
        let found = std::thread::panicking();
        assert!(found || !self.over.load(std::sync::atomic::Ordering::Relaxed), "used after its end");
        !found
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.change();
        self.over.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// A place to sleep, as `crossbeam_utils::sync::Parker`.
#[derive(Debug)]
pub(crate) struct Parker(Unparker);

/// What wakes the thread that sleeps there.
#[derive(Clone, Debug)]
pub(crate) struct Unparker(Arc<(Mutex<bool>, Condvar)>);

impl Parker {
    pub(crate) fn new() -> Self {
        Self(Unparker(Arc::new((Mutex::new(false), Condvar::new()))))
    }

    pub(crate) fn unparker(&self) -> Unparker {
        self.0.clone()
    }

    pub(crate) fn park(&self) {
        let (token, changed) = &*self.0.0;
        let mut is_there = token.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_there {
            is_there = changed.wait(is_there).unwrap_or_else(PoisonError::into_inner);
        }
        *is_there = false;
    }

    /// Loom has no time: it is over at once.
    pub(crate) fn park_timeout(&self, _: Duration) {
        yield_now();
    }
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        let (token, changed) = &*self.0;
        *token.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_one();
    }
}
