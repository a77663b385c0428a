//! What the host and one worker process share, and what the host knows of the process besides.

use crate::layout::TICKETS;
use crate::ring::ring;
use crate::shared_memory::SharedMemory;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::atomic::{AtomicBool, AtomicU64, fence};

/// The memory between the host and a worker process.
#[derive(Debug)]
pub(crate) struct Line {
    /// The memory that both have mapped.
    pub(crate) memory: SharedMemory,
    /// Whether the other side is known to be dead. Not in the shared memory: this side's own.
    dead: AtomicBool,
}

impl Line {
    /// The line through `memory`.
    pub(crate) fn new(memory: SharedMemory) -> Self {
        Self { memory, dead: AtomicBool::new(false) }
    }

    /// Whether the other side is known to be dead.
    pub(crate) fn is_dead(&self) -> bool {
        // Partner: the store in `set_dead`. Whoever sees that the process is dead sees all that it has written.
        self.dead.load(Acquire)
    }

    /// Host: the worker process is dead. Wakes the thread that waits for it.
    pub(crate) fn set_dead(&self) {
        // Partner: the load in `is_dead`.
        self.dead.store(true, Release);
        // Partner: the fence in `ring::sleep`. Either it sees that the process is dead, or we see that it sleeps.
        fence(SeqCst);
        ring(&self.memory.host_bell);
    }

    /// Host: there are no more calls. Wakes the worker process.
    pub(crate) fn close(&self) {
        self.memory.closed.store(1, Relaxed);
        // Partner: the fence in `ring::sleep`, as above.
        fence(SeqCst);
        ring(&self.memory.worker_bell);
    }

    /// Worker process: whether there are no more calls.
    pub(crate) fn is_closed(&self) -> bool {
        self.memory.closed.load(Relaxed) != 0
    }

    /// Host: this call is to stop.
    pub(crate) fn stop(&self, call: u64) {
        self.memory.stopping.store(call, Relaxed);
    }

    /// Worker process: whether this call is to stop.
    pub(crate) fn is_stopping(&self, call: u64) -> bool {
        self.memory.stopping.load(Relaxed) == call
    }

    /// Host: this call may begin. Before its frame is published, with which the worker process sees it.
    pub(crate) fn open(&self, call: u64) {
        self.ticket(call).store(call, Relaxed);
    }

    /// Worker process: begins this call, unless it has come back.
    ///
    /// Relaxed, here and in `take_back`: of the two exchanges one comes first, and nothing else depends on which.
    pub(crate) fn begin(&self, call: u64) -> bool {
        self.ticket(call).compare_exchange(call, SHUT, Relaxed, Relaxed).is_ok()
    }

    /// Host: has this call come back, unless it has begun.
    pub(crate) fn take_back(&self, call: u64) -> bool {
        self.ticket(call).compare_exchange(call, SHUT, Relaxed, Relaxed).is_ok()
    }

    fn ticket(&self, call: u64) -> &AtomicU64 {
        &self.memory.tickets[(call % TICKETS as u64) as usize]
    }
}

/// What is in the ticket of a call that has begun, or come back; in others is the call's number. Calls count from 1.
const SHUT: u64 = 0;
