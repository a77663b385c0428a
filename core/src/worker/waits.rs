//! Who waits for whom: finds circles of running tasks, and of runs of graphs, before their threads go to sleep for ever.
//!
//! Only a thread that is about to sleep inside a task enters itself here, so nothing that runs pays for it. All entries change under one lock: of
//! the threads of a circle, the last one to enter sees all the others, and it alone gets the error. A thread that waits for a job is not entered: the thread
//! that runs the job is found by the task that the job belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::context::Context;
use crate::graph::state::RunState;
use crate::task::record::{Header, TaskRef};

/// What each sleeping thread waits for, by the identity of the thread's context. One list for all runtimes: a circle may lead through several.
static WAITS: Mutex<Waits> = Mutex::new(BTreeMap::new());

type Waits = BTreeMap<usize, Waiting>;

/// A thread that sleeps.
struct Waiting {
    awaited: Target,
    /// The addresses of the tasks on behalf of which it is in the middle of jobs: they cannot finish before it goes on, although another thread runs them.
    held: Vec<usize>,
    /// The addresses of the runs of graphs that it is in the middle of. Not only the node that it runs is not over before it goes on: it may have taken others.
    runs: Vec<usize>,
}

/// What a thread waits for.
pub(crate) enum Target {
    /// One of these is enough.
    Tasks(Vec<TaskRef>),
    /// The run of a graph at this address, or a node of it.
    Run(usize),
}

impl Target {
    pub(crate) fn run(run: &RunState) -> Self {
        Self::Run(std::ptr::from_ref(run).addr())
    }
}

fn lock() -> MutexGuard<'static, Waits> {
    // Single operations on the map; none of them panics half-way.
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `Waiting::held` calls a task.
fn address(task: &TaskRef) -> usize {
    std::ptr::from_ref::<Header>(task).addr()
}

/// That a thread waits for one of some tasks; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Wait(usize);

impl Wait {
    /// Notes that this thread is about to wait; nothing when that would never end: each of the awaited tasks needs a thread that waits, directly or through
    /// others, for this one, or a thread in the middle of the awaited run does.
    pub(crate) fn begin(context: &Context, awaited: Target) -> Option<Self> {
        let me = context.identity();
        let held: Vec<usize> = context.origins().map(|origin| origin.as_ptr().addr()).collect();
        let runs = context.runs().map(<*const RunState>::addr).collect();
        let mut waits = lock();
        waits.insert(me, Waiting { awaited, held, runs });
        if goes_on(&waits, me) {
            return Some(Self(me));
        }
        let stuck = waits.remove(&me);
        drop(waits);
        // Out here, as in `drop` below.
        drop(stuck);
        None
    }
}

/// Whether a sleeping thread goes on some day.
fn goes_on(waits: &Waits, me: usize) -> bool {
    // The sleeping threads of which that is known. Whoever waits for one that is awake, or known, is known, too; the rest wait for each other.
    let mut known = BTreeSet::new();
    let awake = |thread: usize, known: &BTreeSet<usize>| known.contains(&thread) || !waits.contains_key(&thread);
    let finishes = |task: &TaskRef, known: &BTreeSet<usize>| {
        // Several threads can hold up a task, if it has jobs; most have none.
        let by_jobs = waits.iter().filter(|(_, waiting)| waiting.held.contains(&address(task)));
        task.runner().is_none_or(|runner| awake(runner, known)) && by_jobs.into_iter().all(|(thread, _)| known.contains(thread))
    };
    // Once those who sleep in the middle of it have gone on.
    let is_over = |run: usize, known: &BTreeSet<usize>| {
        let mut inside = waits.iter().filter(|(_, waiting)| waiting.runs.contains(&run));
        inside.all(|(thread, _)| known.contains(thread))
    };
    let ends = |awaited: &Target, known: &BTreeSet<usize>| match awaited {
        Target::Tasks(tasks) => tasks.iter().any(|task| finishes(task, known)),
        Target::Run(run) => is_over(*run, known),
    };
    loop {
        let before = known.len();
        for (thread, waiting) in waits {
            if !known.contains(thread) && ends(&waiting.awaited, &known) {
                if *thread == me {
                    return true;
                }
                known.insert(*thread);
            }
        }
        if known.len() == before {
            return false;
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // Dropped after the lock is free: a task's last reference runs its result's destructor.
        let waiting = lock().remove(&self.0);
        drop(waiting);
    }
}
