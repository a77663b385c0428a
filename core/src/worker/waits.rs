//! Who waits for whom: finds circles of running tasks before their threads go to sleep for ever.
//!
//! Only a thread that is about to sleep inside a task enters itself here, so nothing that runs pays for it. All entries change under one lock: of
//! the threads of a circle, the last one to enter sees all the others, and it alone gets the error.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::context::Context;
use crate::task::record::TaskRef;

/// The tasks that each sleeping thread waits for, one of which is enough, by the identity of the thread's context. One list for all runtimes: a circle may
/// lead through several.
static WAITS: Mutex<BTreeMap<usize, Vec<TaskRef>>> = Mutex::new(BTreeMap::new());

fn lock() -> MutexGuard<'static, BTreeMap<usize, Vec<TaskRef>>> {
    // Single operations on the map; none of them panics half-way.
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// That a thread waits for one of some tasks; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Wait(usize);

impl Wait {
    /// Notes that this thread is about to wait for one of `tasks`; nothing when that would never end: the thread of each of them waits, directly or through
    /// others, for this one.
    pub(crate) fn begin(context: &Context, tasks: Vec<TaskRef>) -> Option<Self> {
        let me = context.identity();
        let mut waits = lock();
        // The threads that wait for this one, as far as they have been found, and those left to look at. One thread that goes on is enough for all.
        let mut found = BTreeSet::from([me]);
        let mut awaited: Vec<&TaskRef> = tasks.iter().collect();
        let goes_on = loop {
            let Some(task) = awaited.pop() else { break false };
            let Some(runner) = task.runner() else { break true };
            if found.insert(runner) {
                let Some(others) = waits.get(&runner) else { break true };
                awaited.extend(others);
            }
        };
        if !goes_on {
            drop(waits);
            return None;
        }
        waits.insert(me, tasks);
        Some(Self(me))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // Dropped after the lock is free: a task's last reference runs its result's destructor.
        let tasks = lock().remove(&self.0);
        drop(tasks);
    }
}
