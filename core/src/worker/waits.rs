//! Who waits for whom: finds circles of running tasks before their threads go to sleep for ever.
//!
//! Only a thread that is about to sleep inside a task enters itself here, so nothing that runs pays for it. All entries change under one lock: of
//! the threads of a circle, the last one to enter sees all the others, and it alone gets the error. A thread that waits for a job is not entered: the thread
//! that runs the job is found by the task that the job belongs to.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::context::Context;
use crate::task::record::{Header, TaskRef};

/// What each sleeping thread waits for, by the identity of the thread's context. One list for all runtimes: a circle may lead through several.
static WAITS: Mutex<BTreeMap<usize, Waiting>> = Mutex::new(BTreeMap::new());

/// A thread that sleeps.
struct Waiting {
    task: TaskRef,
    /// The addresses of the tasks on behalf of which it is in the middle of jobs: they cannot finish before it goes on, although another thread runs them.
    held: Vec<usize>,
}

fn lock() -> MutexGuard<'static, BTreeMap<usize, Waiting>> {
    // Single operations on the map; none of them panics half-way.
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `Waiting::held` calls a task.
fn address(task: &TaskRef) -> usize {
    std::ptr::from_ref::<Header>(task).addr()
}

/// That a thread waits for a task; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Wait(usize);

impl Wait {
    /// Notes that this thread is about to wait for `task`; nothing when one that the task needs waits, directly or through others, for this one.
    pub(crate) fn begin(context: &Context, task: &TaskRef) -> Option<Self> {
        let me = context.identity();
        let held: Vec<usize> = context.origins().map(|origin| origin.as_ptr().addr()).collect();
        let mut waits = lock();
        // What cannot finish before this thread's wait is over. Several threads can hold up a task, if it has jobs; most have none.
        let jobs = waits.values().any(|waiting| !waiting.held.is_empty());
        let mut awaited = vec![task];
        let mut next = 0;
        while let Some(task) = awaited.get(next).copied() {
            next += 1;
            let runner = task.runner();
            if runner == Some(me) || held.contains(&address(task)) {
                return None;
            }
            let by_jobs = waits.values().filter(|waiting| jobs && waiting.held.contains(&address(task)));
            for waiting in runner.and_then(|runner| waits.get(&runner)).into_iter().chain(by_jobs) {
                if !awaited.iter().any(|known| address(known) == address(&waiting.task)) {
                    awaited.push(&waiting.task);
                }
            }
        }
        waits.insert(me, Waiting { task: task.clone(), held });
        Some(Self(me))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // Dropped after the lock is free: a task's last reference runs its result's destructor.
        let waiting = lock().remove(&self.0);
        drop(waiting);
    }
}
