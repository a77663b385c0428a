//! What is set once when a job is over, and what a thread waits for that needs the job's outcome (README, "Jobs").
#![expect(unsafe_code, reason = "a word that is a state or a reference to whoever waits, and that may be gone once it is set")]

use std::ptr;
use std::sync::Arc;

use super::waiter::Waiter;
use crate::sync::atomic::AtomicPtr;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Release};

/// Set once, by whoever did the work; waited for by one thread, the one whose stack it lies on.
///
/// One word: null as long as nobody sleeps and it is not set; the address of the waiter that sleeps, with a count of its own; [`SET`].
#[derive(Debug, Default)]
pub(crate) struct Latch {
    word: AtomicPtr<Waiter>,
}

/// The word of a latch that is set: no waiter lies at an odd address.
const SET: *mut Waiter = ptr::without_provenance_mut(1);

impl Latch {
    #[inline]
    pub(crate) fn new() -> Self {
        Self { word: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Whether it is set; then everything that was done before is seen.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        // Acquire: pairs with the exchange in `set`.
        self.word.load(Acquire) == SET
    }

    /// Has `waiter` told when the latch is set; false when it has been set already. For the one thread that waits, once.
    pub(crate) fn announce(&self, waiter: &Arc<Waiter>) -> bool {
        let own = Arc::into_raw(Arc::clone(waiter)).cast_mut();
        // Release: the waiter's fields are written before `set` finds it. Acquire on failure: as in `is_set`.
        let announced = self.word.compare_exchange(ptr::null_mut(), own, Release, Acquire).is_ok();
        if !announced {
            // SAFETY: the count was made above, and `set` has not got it.
            drop(unsafe { Arc::from_raw(own) });
        }
        announced
    }

    /// Sets it and wakes whoever sleeps. After the exchange the latch is not touched any more: the waiter may have seen it and gone on, and the latch with him.
    ///
    /// # Safety
    /// * `this` is a latch that is live until it is set.
    /// * Nobody else sets it.
    pub(crate) unsafe fn set(this: *const Self) {
        // Release: pairs with the Acquire in `is_set`. Acquire: pairs with the Release in `announce`.
        // SAFETY: live, as nobody has set it (preconditions).
        let before = unsafe { &*this }.word.swap(SET, AcqRel);
        if !before.is_null() {
            // SAFETY: `announce` made the address of an `Arc` and gave its count to whoever exchanges the word: this thread, once.
            unsafe { Arc::from_raw(before) }.fire();
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::Watched;
    use crate::task::loom_tests::model;

    #[test]
    fn whoever_waits_for_a_latch_is_told_and_sees_the_result() {
        // Set between the look and the sleep: the waiter sleeps for ever, or keeps a count; or the result of the job is read while it is written.
        model(|| {
            let shared = Arc::new((Latch::new(), Watched::new()));
            let other = Arc::clone(&shared);
            let job = loom::thread::spawn(move || {
                other.1.change();
                // SAFETY: it is live, and set once.
                unsafe { Latch::set(&raw const other.0) };
            });
            if !shared.0.is_set() {
                let waiter = Waiter::for_this_thread();
                if shared.0.announce(&waiter) {
                    waiter.wait();
                }
                assert!(shared.0.is_set());
            }
            shared.1.change();
            job.join().unwrap();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latch_that_is_set_first_keeps_no_waiter() {
        let latch = Latch::new();
        assert!(!latch.is_set());
        // SAFETY: it is live, and set once.
        unsafe { Latch::set(&raw const latch) };
        let waiter = Waiter::for_this_thread();
        assert!(latch.is_set() && !latch.announce(&waiter) && !waiter.has_fired());
        assert_eq!(Arc::strong_count(&waiter), 1);
    }

    #[test]
    fn setting_it_tells_the_waiter_once_and_lets_it_go() {
        let latch = Latch::new();
        let waiter = Waiter::for_this_thread();
        assert!(latch.announce(&waiter) && !waiter.has_fired() && !latch.is_set());
        // SAFETY: it is live, and set once.
        unsafe { Latch::set(&raw const latch) };
        assert!(waiter.has_fired() && latch.is_set());
        assert_eq!(Arc::strong_count(&waiter), 1);
    }
}
