//! What the lock-free parts are made of: the standard library's atomics, locks and places to sleep; in a build with `--cfg loom` those of loom, which runs a
//! test again and again, once for each way in which its threads can meet (`docs/VERIFYING.md`, "Interleavings").
//!
//! The protocols take what they need from here. Everything else, and every `static`, keeps to the standard library: loom's atomics are made anew for each
//! run of a test, so they cannot be made by a constant, and what they do not guard need not be watched.

#[cfg(not(loom))]
mod real {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::panic::catch_unwind;
    pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
    pub(crate) use std::thread::yield_now;
    pub(crate) use std::thread_local;

    use crate::platform::{self, LogicalThread};

    /// A place to sleep.
    #[derive(Debug)]
    pub(crate) struct Parker(crossbeam_utils::sync::Parker);

    /// What wakes the thread that sleeps there, or a logical one.
    #[derive(Clone, Debug)]
    pub(crate) enum Unparker {
        Machine(crossbeam_utils::sync::Unparker),
        Logical(LogicalThread),
    }

    impl Parker {
        pub(crate) fn new() -> Self {
            Self(crossbeam_utils::sync::Parker::new())
        }

        pub(crate) fn unparker(&self) -> Unparker {
            Unparker::Machine(self.0.unparker().clone())
        }

        pub(crate) fn park(&self) {
            self.0.park();
        }

        pub(crate) fn park_timeout(&self, patience: std::time::Duration) {
            self.0.park_timeout(patience);
        }
    }

    impl Unparker {
        pub(crate) fn unpark(&self) {
            match self {
                Self::Machine(unparker) => unparker.unpark(),
                Self::Logical(thread) => match platform::current() {
                    Some(platform) => platform.wake(*thread),
                    None => unreachable!("logical threads are woken by logical threads"),
                },
            }
        }
    }

    /// Nothing: see the one for loom.
    #[derive(Debug)]
    pub(crate) struct Watched;

    impl Watched {
        #[inline]
        pub(crate) fn new() -> Self {
            Self
        }

        /// Others may look, too.
        #[inline]
        pub(crate) fn look(&self) {}

        /// Nobody else may look or change.
        #[inline]
        pub(crate) fn change(&self) {}
    }
}

#[cfg(loom)]
mod modelled;

#[cfg(loom)]
pub(crate) use modelled::{Mutex, MutexGuard, Parker, Unparker, Watched, atomic, catch_unwind, spin_loop, thread_local, yield_now};
#[cfg(not(loom))]
pub(crate) use real::{Mutex, MutexGuard, Parker, Unparker, Watched, atomic, catch_unwind, spin_loop, thread_local, yield_now};
