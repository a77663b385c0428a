//! Has somebody look at the board from time to time while tasks wait there: a place that is late or hangs does not say so.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use crate::clock::now;
use crate::timer::{self, Alarm};
use crate::worker::shared::Shared;

/// The time between two looks: a few of the shortest times after which a place counts as one that hangs.
const ROUND: Duration = Duration::from_millis(20);

/// The next look.
#[derive(Default)]
pub(super) struct Watch {
    shared: OnceLock<Weak<Shared>>,
    is_set: AtomicBool,
    alarm: Mutex<Option<Alarm>>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("is_set", &self.is_set).finish_non_exhaustive()
    }
}

impl Watch {
    /// Whose board it is.
    pub(super) fn belong_to(&self, shared: Weak<Shared>) {
        // Set once, when the runtime is built.
        let _ = self.shared.set(shared);
    }

    /// Sees to it that there is a next look.
    pub(super) fn set(self: &Arc<Self>) {
        if self.is_set.swap(true, SeqCst) {
            return;
        }
        // Held meanwhile: it may go off before it is kept, and who sets the next one is not to find that replaced by this one.
        let mut kept = self.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        match timer::wake_at(now() + ROUND, Waker::from(Arc::clone(self))) {
            Ok(alarm) => {
                let before = kept.replace(alarm);
                drop(kept);
                drop(before);
            }
            // No thread for it: the next task that waits tries again.
            Err(_) => self.is_set.store(false, SeqCst),
        }
    }
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        self.is_set.store(false, SeqCst);
        let Some(shared) = self.shared.get().and_then(Weak::upgrade) else { return };
        if shared.placement.as_ref().is_some_and(super::Placement::has_waiting) {
            // Whoever wakes looks at the board, and wakes others if that is called for.
            shared.sleep.notify();
            self.set();
        }
    }
}
