//! What a task has to do with the board.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::UNKNOWN_SIZE;
use crate::policy::Ticket;
use crate::worker::shared::Shared;

/// What a task that was placed has to do with the board.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    pub(super) runtime: Weak<Shared>,
    ticket: Mutex<Option<Ticket>>,
    /// How much it works on ([`Survey::size`]), once that is known; before, `UNKNOWN_SIZE`.
    pub(super) size: AtomicU64,
    /// Whether its CPU time is to be measured.
    pub(super) samples_cpu: AtomicBool,
    /// One more than the processor that has taken it from the board, or runs it without having done so; 0: none.
    pub(super) taken_by: AtomicUsize,
    /// Whether its body has begun on a thread: then who finds its entry and cannot run it leaves the ticket to that one.
    pub(super) has_begun: AtomicBool,
    /// How long it took, once that is known; 0: not yet.
    pub(super) took_ns: AtomicU64,
    /// One more than the index of its explanation.
    pub(super) explained: AtomicUsize,
}

impl Placed {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { runtime: Arc::downgrade(shared), size: AtomicU64::new(UNKNOWN_SIZE), ..Self::default() }
    }

    /// Whether its CPU time is to be measured.
    pub(crate) fn samples_cpu(&self) -> bool {
        self.samples_cpu.load(Relaxed)
    }

    /// How much it works on, if that has been looked at.
    pub(crate) fn size(&self) -> Option<u64> {
        Some(self.size.load(Relaxed)).filter(|size| *size != UNKNOWN_SIZE)
    }

    /// Its entry is dropped: whoever took it from the board could not run it.
    #[cold]
    pub(crate) fn drops(&self) {
        let has_ticket = !self.has_begun.load(SeqCst) && self.lock().is_some();
        // The board of a runtime that is gone is gone.
        if let Some(shared) = self.runtime.upgrade().filter(|_| has_ticket)
            && let Some(placement) = &shared.placement
        {
            placement.ended(self, false);
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Ticket>> {
        self.ticket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
