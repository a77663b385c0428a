//! An asymmetric pair of fences: the side that runs all the time pays nothing, the side that is about to sleep pays for both.
//!
//! `light` in one thread and `heavy` in another order the first thread's stores before its `light` and loads after it against the other's, as two
//! sequentially consistent fences would. Where the kernel cannot interrupt the other threads (`membarrier`), both are such fences.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, compiler_fence};

use crate::platform;
use crate::sync::atomic::fence;

/// Whether `heavy` makes the kernel run a barrier on all threads of the process. Set once, before the first worker starts; never under loom
/// and Miri, which know the real fences only. So it is an atomic of the standard library in any build.
static ASYMMETRIC: AtomicBool = AtomicBool::new(false);

/// Asks the kernel for its half. Idempotent; a thread that has not seen the answer yet uses the real fence, which pairs with both forms.
pub(crate) fn prepare() {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{MembarrierCommand, membarrier};
        if !cfg!(any(loom, miri)) && membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok() {
            ASYMMETRIC.store(true, SeqCst);
        }
    }
}

/// The cheap side: between a push and the look at the sleepers.
#[inline]
pub(crate) fn light() {
    if ASYMMETRIC.load(Relaxed) {
        compiler_fence(SeqCst);
    } else {
        fence(SeqCst);
    }
}

/// The dear side: between announcing that one sleeps and the last look at the queues. About 0.3 us.
pub(crate) fn heavy() {
    fence(SeqCst);
    // Logical threads share one of the system's.
    if platform::is_logical() {
        return;
    }
    #[cfg(target_os = "linux")]
    if ASYMMETRIC.load(Relaxed) {
        use rustix::thread::{MembarrierCommand, membarrier};
        let done = membarrier(MembarrierCommand::PrivateExpedited);
        assert!(done.is_ok(), "the kernel took the registration for membarrier and must take the call");
    }
}
