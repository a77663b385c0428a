//! The loop of a worker: take a task, run it, publish it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_deque::Steal;
use poniard_interface::WorkerId;

use super::context::Context;
use super::shared::Shared;
use super::slot::{Local, Slot};
use crate::clock::now_ns;
use crate::options::Priority;
use crate::task::record::{Claim, TaskRef};

/// Rounds of looking everywhere before a worker goes to sleep.
const SEARCH_ROUNDS: u32 = 64;
/// How often a worker looks at the queue for foreign spawns although it has tasks of its own.
const FAIRNESS: u32 = 61;

/// Why a worker's loop ended.
enum Left {
    /// The runtime ends.
    Stopped,
    /// A thread that waited inside a task wants the slot back.
    Wanted,
}

/// Lends the calling thread to the runtime as `worker` until it is not needed any more.
pub(crate) fn worker_main(shared: &Arc<Shared>, worker: WorkerId) {
    let index = worker.0 as usize;
    let Some(slot) = shared.slots.get(index) else { return };
    let context = Context::new(Arc::clone(shared), index);
    let mut turn = slot.arrive();
    while let Some(token) = turn {
        context.put_token(token);
        let left = context.enter(|| work(&context, index));
        let token = context.take_token();
        match (left, token) {
            (Left::Wanted, Some(token)) => {
                // Somebody returns: there is a thread to pass it to.
                let _ = slot.pass(token);
                turn = slot.next_turn();
            }
            (_, token) => {
                slot.leave(token);
                return;
            }
        }
    }
    slot.leave(None);
}

fn work(context: &Context, index: usize) -> Left {
    let shared = &*context.shared;
    let slot = &shared.slots[index];
    let mut busy = false;
    loop {
        if slot.is_wanted() {
            // The end of the task that goes on would put another one into the place of the next one.
            show_next(context);
            slot.counters.activity.end(now_ns());
            return Left::Wanted;
        }
        if let Some(task) = context.with_local(|slot, local| take_own(shared, slot, local)).flatten() {
            if !busy {
                busy = true;
                slot.counters.activity.begin(now_ns());
            }
            run(context, task);
            continue;
        }
        busy = false;
        slot.counters.activity.end(now_ns());
        match search(context, index) {
            Some(task) => {
                busy = true;
                slot.counters.activity.begin(now_ns());
                run(context, task);
            }
            None if shared.is_stopped() => return Left::Stopped,
            None => {}
        }
    }
}

/// Puts the task that bypassed the queue into it, where others find it.
pub(crate) fn show_next(context: &Context) {
    if let Some(task) = context.with_local(|_, local| local.next.take()).flatten() {
        context.shared.enqueue(Some(context), task);
    }
}

/// Runs a task taken from a queue, unless somebody else has claimed it since it was put there.
fn run(context: &Context, task: TaskRef) {
    match task.try_claim() {
        Claim::Won => {
            execute(context, &task);
            context.shared.finish(Some(context), &task, true);
        }
        // A thread that waited for it ran it, and its entry in the queue stayed.
        Claim::Lost => {}
        Claim::Waiting => unreachable!("only ready tasks are queued"),
    }
}

/// Runs a task that this thread has claimed; its outcome is not published yet.
pub(crate) fn execute(context: &Context, task: &TaskRef) {
    if !context.run(task) {
        return;
    }
    if !context.count(|counters| &counters.tasks) {
        context.shared.queued.counts(context.processor).tasks.fetch_add(1, Relaxed);
    }
}

/// A task from the queues of this worker: the one that bypassed them, then its own newest, now and then one spawned from outside.
fn take_own(shared: &Shared, slot: &Slot, local: &Local) -> Option<TaskRef> {
    if let Some(task) = local.next.take() {
        return Some(task);
    }
    let tick = local.tick.get().wrapping_add(1);
    local.tick.set(tick);
    let normal = Priority::Normal.level();
    if tick.is_multiple_of(FAIRNESS)
        && let Some(task) = from_injector(shared, local, normal)
    {
        return Some(task);
    }
    if !shared.special.load(Relaxed) {
        return local.deques[normal].pop();
    }
    if let Some(task) = stolen(|| slot.private.steal()) {
        return Some(task);
    }
    for level in 0..Priority::COUNT {
        // A more urgent task of somebody else comes before a less urgent one of our own.
        if let Some(task) = local.deques[level]
            .pop()
            .or_else(|| from_injector(shared, local, level))
            .or_else(|| (level == 0).then(|| steal(shared, slot, local, level)).flatten())
        {
            return Some(task);
        }
    }
    None
}

fn from_injector(shared: &Shared, local: &Local, level: usize) -> Option<TaskRef> {
    if shared.injectors[level].is_empty() {
        return None;
    }
    moved(shared, stolen(|| shared.injectors[level].steal_batch_and_pop(&local.deques[level])))
}

/// After a batch was moved into a worker's own queue: on the way it could not be seen by one that looked for the last time and went to sleep.
fn moved(shared: &Shared, task: Option<TaskRef>) -> Option<TaskRef> {
    if task.is_some() {
        shared.sleep.notify();
    }
    task
}

/// Repeats an attempt as long as another thread interferes.
fn stolen<T>(mut attempt: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match attempt() {
            Steal::Success(task) => return Some(task),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}

/// A task of another worker: the nearest group first, in each from a random one onwards.
fn steal(shared: &Shared, slot: &Slot, local: &Local, level: usize) -> Option<TaskRef> {
    for group in &slot.victims {
        let start = random(local) as usize % group.len().max(1);
        for offset in 0..group.len() {
            let victim = &shared.slots[group[(start + offset) % group.len()]];
            let task = moved(shared, stolen(|| victim.stealers[level].steal_batch_and_pop(&local.deques[level])));
            if task.is_some() {
                return task;
            }
        }
    }
    None
}

/// Xorshift. Source: Marsaglia, J. Stat. Software 8(14), 2003.
fn random(local: &Local) -> u64 {
    let mut state = local.random.get();
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    local.random.set(state);
    state
}

/// Looks everywhere for a task and sleeps in between, until there is one. Nothing when the slot is wanted, or the runtime ends.
fn search(context: &Context, index: usize) -> Option<TaskRef> {
    let shared = &*context.shared;
    let slot = &shared.slots[index];
    shared.sleep.search();
    loop {
        for round in 0..SEARCH_ROUNDS {
            let found = context.with_local(|slot, local| {
                if let Some(task) = take_own(shared, slot, local) {
                    return Some(task);
                }
                (0..Priority::COUNT).find_map(|level| from_injector(shared, local, level).or_else(|| steal(shared, slot, local, level)))
            });
            if let Some(task) = found.flatten() {
                shared.sleep.found(|| shared.has_work(index));
                return Some(task);
            }
            if slot.is_wanted() || shared.is_stopped() {
                shared.sleep.found(|| false);
                return None;
            }
            if round % 8 == 7 {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        shared.signal_idle();
        // Awake, it is counted as searching, and goes on so: pushes rely on whoever was woken, until he has found something and looked for more.
        shared.sleep.sleep(index, || shared.has_work(index) || slot.is_wanted() || shared.is_stopped());
    }
}
