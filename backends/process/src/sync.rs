//! What the rings are made of: the standard library's atomics and the kernel's futexes; in tests with `--cfg loom` those of loom, which runs a test again and
//! again, once for each way in which its threads can meet (`docs/VERIFYING.md`, "Interleavings").
//!
//! What is not shared by protocol keeps to the standard library.

#[cfg(not(all(test, loom)))]
mod real {
    use std::ops::Deref;
    use std::time::{Duration, Instant};

    use rustix::thread::futex::{self, Flags, Timespec};

    pub(crate) use std::sync::atomic;
    /// A word of a ring. Whoever keeps to the protocol could do without an atomic; who knows who is on the other side.
    pub(crate) use std::sync::atomic::AtomicU64 as Word;

    /// How long ago something was.
    pub(crate) fn time_since(moment: Instant) -> Duration {
        moment.elapsed()
    }

    /// A word on which another process may sleep.
    #[repr(transparent)]
    #[derive(Debug, Default)]
    pub(crate) struct Futex(atomic::AtomicU32);

    impl Deref for Futex {
        type Target = atomic::AtomicU32;

        fn deref(&self) -> &atomic::AtomicU32 {
            &self.0
        }
    }

    impl Futex {
        /// Sleeps for `limit` unless the word is not `value`; gives whether it was woken.
        pub(crate) fn wait(&self, value: u32, limit: Duration) -> bool {
            let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
            futex::wait(&self.0, Flags::empty(), value, Some(&limit)).is_ok()
        }

        /// Wakes one that sleeps.
        pub(crate) fn wake(&self) {
            // A futex on mapped memory can be woken.
            let _ = futex::wake(&self.0, Flags::empty(), 1);
        }
    }
}

#[cfg(all(test, loom))]
mod modelled;

#[cfg(all(test, loom))]
pub(crate) use modelled::{Futex, Word, atomic, time_since};
#[cfg(not(all(test, loom)))]
pub(crate) use real::{Futex, Word, atomic, time_since};
