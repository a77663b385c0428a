//! The loop of a worker: take a task, run it, publish it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_deque::Steal;
use poniard_interface::WorkerId;

use super::context::Context;
use super::entry::{Entry, Work};
use super::occupancy::Errand;
use super::shared::Shared;
use super::slot::{Local, Slot, Turn};
use crate::clock::now_ns;
use crate::error::{FailureKind, TaskError};
use crate::graph::drive::run_part;
use crate::options::{Occupancy, Priority};
use crate::task::record::{Claim, TaskRef};

/// Rounds of looking everywhere before a worker goes to sleep.
const SEARCH_ROUNDS: u32 = 64;
/// Rounds after which a worker takes tasks that others keep to themselves.
const SEIZE_ROUNDS: u32 = 16;
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
    while let Some(next) = turn {
        let token = match next {
            Turn::Slot(token) => token,
            Turn::Errand(errand) => {
                context.enter(|| errand.run(&context, index));
                turn = slot.next_turn();
                continue;
            }
        };
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
            slot.counters.activity.end(now_ns());
            return Left::Wanted;
        }
        if shared.special.load(Relaxed) && shared.unusual.attend(context, index) {
            continue;
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

/// Runs what was taken from a queue, unless somebody else has claimed it since it was put there.
#[inline]
pub(crate) fn run(context: &Context, entry: Entry) {
    let mut next = Some(entry);
    while let Some(entry) = next.take() {
        match entry.into_work() {
            Work::Task(task) => run_task(context, task),
            Work::Part(part) => next = run_part(context, part, false),
        }
    }
}

#[inline]
fn run_task(context: &Context, task: TaskRef) {
    if task.options().is_some_and(|options| options.occupancy == Occupancy::NONE)
        && let Some(slot) = context.slot_index()
    {
        return match context.shared.send_errand(slot, Errand::free(Entry::task(task))) {
            Ok(()) => {}
            // No thread to be had: it takes the processor.
            Err(errand) => match errand.into_entry().into_work() {
                Work::Task(task) => run_ready(context, task),
                Work::Part(_) => unreachable!("it was a task"),
            },
        };
    }
    run_ready(context, task);
}

#[inline]
fn run_ready(context: &Context, task: TaskRef) {
    match task.try_claim() {
        Claim::Won => {
            let failure = execute(context, &task);
            context.shared.finish(Some(context), &task, failure, true);
        }
        // A thread that waited for it ran it, or it was cancelled, and its entry in the queue stayed.
        Claim::Lost => drop(Entry::task(task)),
        Claim::Waiting => unreachable!("only ready tasks are queued"),
    }
}

/// Runs a task that this thread has claimed; its outcome is not published yet.
#[inline]
pub(crate) fn execute(context: &Context, task: &TaskRef) -> Option<TaskError> {
    if task.epoch() != context.shared.epoch() {
        return Some(task.fail_claimed(FailureKind::Cancelled));
    }
    let failure = context.run(task);
    let not_run = failure.as_ref().is_some_and(|error| matches!(error.kind(), FailureKind::Dependency(_)));
    // Those of an errand have been counted.
    if !not_run && !context.count(|counters| &counters.tasks) && context.processor >= context.shared.slots.len() {
        context.shared.queued.counts(context.processor).tasks.fetch_add(1, Relaxed);
    }
    failure
}

/// Has the next `take_own` look for what was spawned from outside first.
pub(crate) fn look_outside_next(local: &Local) {
    local.tick.set(FAIRNESS - 1);
}

/// A task from the queues of this worker: its own newest, now and then one spawned from outside.
#[inline]
fn take_own(shared: &Shared, slot: &Slot, local: &Local) -> Option<Entry> {
    let tick = local.tick.get().wrapping_add(1);
    local.tick.set(tick);
    let normal = Priority::Normal.level();
    if tick.is_multiple_of(FAIRNESS) {
        if slot.is_crowded() && shared.has_room() {
            slot.uncrowd();
        }
        if let Some(task) = from_injector(shared, local, normal) {
            return Some(task);
        }
    }
    if shared.special.load(Relaxed) {
        return take_own_special(shared, slot, local);
    }
    take_own_normal(shared, slot, local)
}

#[inline]
fn take_own_normal(shared: &Shared, slot: &Slot, local: &Local) -> Option<Entry> {
    let Some(newest) = slot.ring.pop() else {
        return local.deques[Priority::Normal.level()].pop();
    };
    // This one may take long, and nobody else would see the others until then.
    if slot.ring.len() > 0 && shared.sleep.is_anybody_idle() {
        shared.show(slot, local);
    }
    Some(newest)
}

/// The same when tasks have priorities, or scopes.
fn take_own_special(shared: &Shared, slot: &Slot, local: &Local) -> Option<Entry> {
    if let Some(task) = stolen(|| slot.private.steal()) {
        return Some(task);
    }
    for level in 0..Priority::COUNT {
        let own = || match level == Priority::Normal.level() {
            true => take_own_normal(shared, slot, local),
            false => local.deques[level].pop(),
        };
        // A more urgent task of somebody else comes before a less urgent one of our own.
        if let Some(task) = own()
            .or_else(|| from_injector(shared, local, level))
            .or_else(|| (level == 0).then(|| steal(shared, slot, local, level)).flatten())
        {
            return Some(task);
        }
    }
    None
}

fn from_injector(shared: &Shared, local: &Local, level: usize) -> Option<Entry> {
    if let Some(fresh) = shared.runs.pop_fresh(level) {
        return moved(shared, Some(fresh));
    }
    if shared.injectors[level].is_empty() {
        return None;
    }
    moved(shared, stolen(|| shared.injectors[level].steal_batch_and_pop(&local.deques[level])))
}

/// After a batch was moved into a worker's own queue: on the way it could not be seen by one that looked for the last time and went to sleep.
fn moved(shared: &Shared, task: Option<Entry>) -> Option<Entry> {
    if task.is_some() {
        shared.sleep.notify();
    }
    task
}

/// Repeats an attempt as long as another thread interferes.
#[inline]
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
fn steal(shared: &Shared, slot: &Slot, local: &Local, level: usize) -> Option<Entry> {
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

/// Half of the newest tasks of another worker, which has not shown them by itself.
fn seize(shared: &Shared, slot: &Slot, local: &Local) -> Option<Entry> {
    let mut oldest = None;
    let deque = &local.deques[Priority::Normal.level()];
    let victims = slot.victims.iter().flatten().map(|victim| &shared.slots[*victim]);
    for victim in victims.filter(|victim| victim.ring.len() > 0) {
        let keep = |entry| match &oldest {
            None => oldest = Some(entry),
            Some(_) => deque.push(entry),
        };
        if victim.ring.seize(keep) {
            break;
        }
    }
    moved(shared, oldest)
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
fn search(context: &Context, index: usize) -> Option<Entry> {
    let shared = &*context.shared;
    let slot = &shared.slots[index];
    if slot.is_crowded() {
        slot.uncrowd();
    }
    shared.sleep.search();
    loop {
        for round in 0..SEARCH_ROUNDS {
            let found = context.with_local(|slot, local| {
                if let Some(task) = take_own(shared, slot, local) {
                    return Some(task);
                }
                (0..Priority::COUNT)
                    .find_map(|level| from_injector(shared, local, level).or_else(|| steal(shared, slot, local, level)))
                    .or_else(|| (round % SEIZE_ROUNDS == SEIZE_ROUNDS - 1).then(|| seize(shared, slot, local)).flatten())
            });
            if let Some(task) = found.flatten() {
                shared.sleep.found(|| shared.has_work(index));
                return Some(task);
            }
            if slot.is_wanted() || shared.is_stopped() || shared.unusual.has_work(shared, index) {
                shared.sleep.found(|| shared.has_work(index));
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
