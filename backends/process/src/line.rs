//! What the host and one worker process share, and what the host knows of the process besides.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, fence};

use crate::ring::ring;
use crate::shared_memory::SharedMemory;

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
        self.dead.load(Relaxed)
    }

    /// Host: the worker process is dead. Wakes the thread that waits for it.
    pub(crate) fn set_dead(&self) {
        self.dead.store(true, Relaxed);
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

    /// Host: whether the call is to stop.
    pub(crate) fn set_stopping(&self, stopping: bool) {
        self.memory.stopping.store(stopping.into(), Relaxed);
    }

    /// Worker process: whether the call is to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.memory.stopping.load(Relaxed) != 0
    }
}
