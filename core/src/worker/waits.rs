//! Who waits for whom: finds circles of running tasks before their threads go to sleep for ever.
//!
//! Only a thread that is about to sleep inside a task enters itself here, so nothing that runs pays for it. All entries change under one lock: of
//! the threads of a circle, the last one to enter sees all the others, and it alone gets the error.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::context::Context;
use crate::task::record::TaskRef;

/// The task that each sleeping thread waits for, by the identity of the thread's context. One list for all runtimes: a circle may lead through several.
static WAITS: Mutex<BTreeMap<usize, TaskRef>> = Mutex::new(BTreeMap::new());

fn lock() -> MutexGuard<'static, BTreeMap<usize, TaskRef>> {
    // Single operations on the map; none of them panics half-way.
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// That a thread waits for a task; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Wait(usize);

impl Wait {
    /// Notes that this thread is about to wait for `task`; nothing when the task's own thread waits, directly or through others, for this one.
    pub(crate) fn begin(context: &Context, task: &TaskRef) -> Option<Self> {
        let me = context.identity();
        let mut waits = lock();
        let mut awaited = Some(task);
        // Each step leads to another sleeping thread, so there are no more steps than those.
        for _ in 0..=waits.len() {
            let Some(runner) = awaited.and_then(|task| task.runner()) else { break };
            if runner == me {
                return None;
            }
            awaited = waits.get(&runner);
        }
        waits.insert(me, task.clone());
        Some(Self(me))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // Dropped after the lock is free: a task's last reference runs its result's destructor.
        let task = lock().remove(&self.0);
        drop(task);
    }
}
