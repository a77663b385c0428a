//! Waiting for a task (README, "Waiting inside a task").

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::context::{Context, has_ambient};
use super::entry::{Entry, Work};
use super::main_loop::execute;
use super::pressure::Awaited;
use super::shared::{CROWD, Shared};
use super::slot::Passed;
use super::stopwatch;
use super::waiter::{self, Waiter};
use super::waits::{Target, Wait};
use crate::ambient;
use crate::clock::now_ns;
use crate::error::{FailureKind, TaskError};
use crate::platform;
use crate::queued::launch::attend;
use crate::task::record::{Claim, TaskRef};

/// Looks at a task that runs elsewhere this often before the thread goes to sleep: about as long as a wake-up takes.
pub(crate) const SPIN_ROUNDS: u32 = 256;
/// And a thread that is no worker so often: a microsecond or two.
const LOOKS: u32 = 32;
/// Stack that a nested task finds at least.
pub(super) const STACK_RESERVE_BYTES: usize = 1 << 20;
/// Stack that is added when there is less.
pub(super) const STACK_SEGMENT_BYTES: usize = 4 << 20;
/// Segments that one thread may add: 4 GiB of addresses, of which only what is used takes memory.
pub(super) const STACK_SEGMENTS_MAX: usize = 1024;
/// Threads for one slot at first; a waiting thread that would need one more keeps the slot instead, and others do the work. They may all wait for what nobody
/// has begun: a slot gets twice as many when nothing at all has been finished for `STALL_PATIENCE`, although there is something to do.
pub(super) const SLOT_THREADS: usize = 64;
/// Threads for one slot at last: what takes more memory than it is worth, and may be all that the system gives.
const SLOT_THREADS_MAX: usize = 1024;
/// So long may nothing be finished before a slot gets more threads. Long beside a task; a program that stalls now and then waits for it some times.
pub(super) const STALL_PATIENCE: Duration = Duration::from_millis(50);

/// Waits until `task` has finished.
pub(crate) fn wait(task: &TaskRef) -> Result<(), TaskError> {
    if task.is_finished() {
        return Ok(());
    }
    ambient::aside(|| stopwatch::aside(|| wait_unfinished(task)))
}

fn wait_unfinished(task: &TaskRef) -> Result<(), TaskError> {
    Context::with(|context| match context {
        None => {
            wait_asleep(task);
            Ok(())
        }
        Some(context) => match run_newest(context, task, false) {
            Ok(true) => Ok(()),
            Ok(false) => wait_inside(context, task),
            Err(error) => Err(error),
        },
    })
}

/// As `wait`, for a task whose handle nobody else can borrow meanwhile.
#[inline]
pub(crate) fn wait_alone(task: &TaskRef) -> Result<(), TaskError> {
    // Where a body is measured, what runs on top of it is not the body's.
    let alone = |context: &Context| if context.stopwatch.is_running() { Ok(false) } else { run_newest(context, task, true) };
    if !has_ambient() && Context::with(|context| context.map_or(Ok(false), alone))? { Ok(()) } else { wait(task) }
}

/// Waits on a thread that is no worker.
fn wait_asleep(task: &TaskRef) {
    // What takes no longer than this is not worth the sleep. Others may want the core, so not for as long as a wake-up takes.
    for _ in 0..LOOKS {
        if task.is_finished() {
            return;
        }
        std::hint::spin_loop();
    }
    attend(task);
    if task.is_finished() {
        return;
    }
    let waiter = Waiter::for_this_thread();
    if task.add_waiter(&waiter.waker()) {
        // Logical threads are of one thread of the system, and others look at the list.
        let _awaited = (!platform::is_logical()).then(|| Awaited::new(task));
        waiter.wait_outside();
    }
}

/// The usual case of a task that waits for what it has just spawned: its entry is the newest of this worker. False when it is not, or cannot be run.
#[inline]
fn run_newest(context: &Context, task: &TaskRef, alone: bool) -> Result<bool, TaskError> {
    let newest = context.with_local(|slot, local| context.shared.pop_own_if(slot, local, |entry| entry.is_of(task)));
    let Some(entry) = newest.flatten() else { return Ok(false) };
    if alone && context.has_stack() && task.try_claim_alone() {
        let Work::Task(own) = entry.into_work() else { unreachable!("it is of this task") };
        let failure = execute(context, &own);
        match own.end_alone(failure) {
            Ok(()) => context.shared.retract(Some(context)),
            Err((own, failure)) => context.shared.finish(Some(context), &own, failure, false),
        }
        return Ok(true);
    }
    match task.try_claim() {
        Claim::Won => {
            // The reference goes with the record's end, and not with a look at what a canceller may have left.
            let Work::Task(own) = entry.into_work() else { unreachable!("it is of this task") };
            run_nested(context, task, &own)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Waits on a thread that runs tasks: runs what the task needs, newest first, as long as nobody else does; then blocks.
fn wait_inside(context: &Context, task: &TaskRef) -> Result<(), TaskError> {
    // What has to finish, those that depend on others below them; from the top down to the next one that is ready, the way to it.
    let mut path = vec![task.clone()];
    // The places in it of tasks that no runtime runs and that have been looked into. What such a one waits for may have been made after it, and wait for it in turn.
    let mut flattened = BTreeMap::new();
    while let Some(top) = path.last() {
        if top.is_finished() {
            path.pop();
            continue;
        }
        let place = path.len() - 1;
        let known = if top.runtime().is_null() { flattened.insert(top.identity(), place) } else { None };
        // What lies above one that has been looked into is what that waits for.
        let is_circle = known.is_some_and(|known| known < place && path[known].identity() == top.identity());
        if is_circle || context.is_within(top) {
            return Err(TaskError::new(task.name(), FailureKind::WaitsForItself));
        }
        let ours = std::ptr::eq(top.runtime(), &*context.shared);
        if !top.is_ready() {
            let top = top.clone();
            // All at once: looking for one after the other would take the square of their number.
            if !top.unfinished_predecessors(&mut path) && !top.is_ready() {
                // The last of them is about to make it ready, or somebody has claimed it.
                block(context, task, &top)?;
            }
        } else if ours && context.may_nest(top) && top.try_claim() == Claim::Won {
            forget_claimed(context, top);
            run_nested(context, task, top)?;
        } else {
            block(context, task, top)?;
        }
    }
    Ok(())
}

/// What came of helping a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Helped {
    /// It has finished, or others run what it needs.
    Done,
    /// This thread is in the middle of it, or of one that it depends on.
    Stuck,
}

/// Runs, on a thread that runs tasks, what a task needs and nobody has begun, as `wait_inside` does, but waits for nothing.
pub(crate) fn help(context: &Context, task: &TaskRef) -> Helped {
    let mut seen = BTreeSet::new();
    let mut path = vec![task.clone()];
    while let Some(top) = path.last() {
        if !top.is_finished() {
            if context.is_within(top) {
                return Helped::Stuck;
            }
            let ours = std::ptr::eq(top.runtime(), &*context.shared);
            // Each is looked into once; when it comes up again, its predecessors are as far as they can be had.
            if !top.is_ready() && seen.insert(top.identity()) {
                top.clone().unfinished_predecessors(&mut path);
                continue;
            }
            if top.is_ready() && ours && context.may_nest(top) && top.try_claim() == Claim::Won {
                forget_claimed(context, top);
                // Without stack for it, it has failed.
                let _ = run_nested(context, task, top);
            }
        }
        path.pop();
    }
    Helped::Done
}

/// Takes the entry of a task that was just claimed out of this worker's queues, if it is easily found: it would keep the task and its result until the
/// waiting task ends.
pub(super) fn forget_claimed(context: &Context, task: &TaskRef) {
    let entry = context.with_local(|slot, _| slot.ring.remove(|entry| entry.is_of(task))).flatten();
    if entry.is_some() {
        // Dropped out here, like those below.
        return;
    }
    loop {
        let claimed = context.with_local(|_, local| context.shared.pop_shown_if(local, task.priority(), Entry::is_stale));
        // Dropped out here: it may be the last reference, and the destructor of a result may wait, which takes the queue away.
        if claimed.flatten().is_none() {
            return;
        }
    }
}

/// Runs a claimed task on top of the one that waits for it, on more stack if there is little left.
fn run_nested(context: &Context, awaited: &TaskRef, task: &TaskRef) -> Result<(), TaskError> {
    let began = Cell::new(false);
    let run = || {
        began.set(true);
        let failure = execute(context, task);
        context.shared.finish(Some(context), task, failure, false);
    };
    if context.has_stack() {
        run();
        return Ok(());
    }
    let segments = context.segments.get();
    let grown = if segments < STACK_SEGMENTS_MAX {
        context.segments.set(segments + 1);
        // It panics when there is no memory for the segment. The task itself does not unwind.
        let grown = catch_unwind(AssertUnwindSafe(|| stacker::grow(STACK_SEGMENT_BYTES, run)));
        context.segments.set(segments);
        context.forget_stack();
        grown.map_err(Some)
    } else {
        Err(None)
    };
    match grown {
        Ok(()) => Ok(()),
        Err(Some(payload)) if began.get() => resume_unwind(payload),
        Err(_) => {
            let kind = || FailureKind::TooDeep { stack_bytes: segments * STACK_SEGMENT_BYTES };
            // It has been claimed, so nobody else will run it.
            let failure = task.fail_claimed(kind());
            context.shared.finish(Some(context), task, Some(failure), false);
            Err(TaskError::new(awaited.name(), kind()))
        }
    }
}

/// Looks for a moment whether something is `over`, which is shorter than to go to sleep and be woken. False when it is not.
#[inline]
pub(crate) fn spin_until(over: impl Fn() -> bool) -> bool {
    for round in 0..SPIN_ROUNDS {
        if over() {
            return true;
        }
        if round % 16 == 15 {
            platform::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
    false
}

/// Waits for a task that somebody else runs, or will run.
fn block(context: &Context, awaited: &TaskRef, task: &TaskRef) -> Result<(), TaskError> {
    if spin_until(|| task.is_finished()) {
        return Ok(());
    }
    let Some(_wait) = Wait::begin(context, Target::Tasks(vec![task.clone()])) else {
        return Err(TaskError::new(awaited.name(), FailureKind::WaitsForItself));
    };
    let waiter = Waiter::for_this_thread();
    if task.add_waiter(&waiter.waker()) {
        wait_until_fired(context, &waiter);
    }
    Ok(())
}

/// Waits on a thread that runs tasks until somebody fires `waiter`, and lends the slot if there is anything to do.
pub(crate) fn wait_until_fired(context: &Context, waiter: &Arc<Waiter>) {
    wait_until(context, &|| waiter.has_fired());
}

/// The same until something is `over`; whoever makes it so unparks this thread.
pub(crate) fn wait_until(context: &Context, over: &dyn Fn() -> bool) {
    context.without_holding(|| wait_lending(context, over));
}

fn wait_lending(context: &Context, over: &dyn Fn() -> bool) {
    let Some(slot_index) = context.slot_index() else {
        // A thread of a queued processor has no slot to lend, nor has one on an errand.
        return park_until(over);
    };
    let shared = &*context.shared;
    let slot = &shared.slots[slot_index];
    shared.sleep.search();
    loop {
        if over() {
            shared.found(slot_index);
            return;
        }
        if shared.has_work(slot_index) || slot.is_wanted() {
            shared.sleep.found(|| false);
            return wait_without_slot(context, slot_index, over);
        }
        // Nothing to do for anybody: keep the slot and sleep on it, for the task or for work, whichever comes first.
        shared.sleep.sleep(slot_index, || over() || shared.has_work(slot_index) || slot.is_wanted());
    }
}

/// Sleeps until something is `over`.
fn park_until(over: &dyn Fn() -> bool) {
    while !over() {
        waiter::park();
    }
}

/// Sleeps, with the slot, until something is `over`; or until nothing goes on any more, and then the slot may have more threads.
fn park_unless_stalled(shared: &Shared, slot_index: usize, over: &dyn Fn() -> bool) {
    let mut finished = shared.finished();
    while !over() {
        let began_ns = now_ns();
        waiter::park_for(STALL_PATIENCE);
        if over() || now_ns() - began_ns < STALL_PATIENCE.as_nanos() as u64 {
            continue;
        }
        let before = std::mem::replace(&mut finished, shared.finished());
        if before == finished && shared.has_work(slot_index) {
            let most = &shared.slots[slot_index].threads_max;
            // Only who holds the slot comes here.
            most.store(SLOT_THREADS_MAX.min(2 * most.load(Relaxed)), Relaxed);
            return;
        }
    }
}

/// Waits, on a worker's thread that has spawned more than is good, until some of it has run, by lending the slot to another thread.
#[cold]
pub(crate) fn wait_for_room(context: &Context) {
    let Some(slot_index) = context.slot_index() else { return };
    let shared = &*context.shared;
    let slot = &shared.slots[slot_index];
    let Some(token) = context.take_token() else { return };
    let seat = slot.crowd();
    slot.counters.activity.end(now_ns());
    let is_left = match slot.pass(token) {
        Passed::ToThread => true,
        Passed::Vacant => shared.start_thread(slot_index, slot.threads_max.load(Relaxed)),
        Passed::Dormant => false,
    };
    if !is_left {
        // No thread to be had: it goes on, unless another one has come by.
        slot.uncrowd();
    }
    context.put_token(context.stopwatch.aside(|| slot.wait_crowded(&seat, || shared.finished())));
    // In vain: tasks that wait for what this one does next, or for each other on its stack. Not again before there are twice as many.
    let unfinished = shared.unfinished();
    slot.counters.crowd.store(if unfinished > CROWD { 2 * unfinished } else { 0 }, Relaxed);
    go_on(context, slot_index);
}

/// Lends the slot to another thread until something is `over`.
fn wait_without_slot(context: &Context, slot_index: usize, over: &dyn Fn() -> bool) {
    let shared = &*context.shared;
    let slot = &shared.slots[slot_index];
    slot.counters.activity.end(now_ns());
    loop {
        let Some(token) = context.take_token() else { unreachable!("a worker that waits holds its slot") };
        match slot.pass(token) {
            Passed::ToThread => {}
            Passed::Dormant => shared.stop_looking(slot_index),
            Passed::Vacant => {
                if !shared.start_thread(slot_index, slot.threads_max.load(Relaxed))
                    && let Some(token) = slot.take_vacant()
                {
                    // No thread to be had: this one keeps the slot and sleeps; what lies in its queue can be stolen. What it waits for may itself
                    // wait to come back to this slot, so it looks out for that.
                    context.put_token(token);
                    shared.stop_looking(slot_index);
                    park_unless_stalled(shared, slot_index, &|| over() || slot.is_returned_to());
                    if !over() {
                        continue;
                    }
                    return go_on(context, slot_index);
                }
            }
        }
        break;
    }
    park_until(over);
    // Otherwise it goes on without, as on an errand: whoever has the slot may want a lock that this task holds.
    if let Some(token) = slot.regain(|| shared.finished()) {
        context.put_token(token);
        go_on(context, slot_index);
    }
}

/// A thread that waited has its slot again, and goes on with its task. Whoever would have looked at the queues with this slot does not: the one that
/// passed it back, or one that was started and came too late. Pushes may have relied on that.
fn go_on(context: &Context, slot_index: usize) {
    let shared = &*context.shared;
    shared.slots[slot_index].counters.activity.begin(now_ns());
    shared.stop_looking(slot_index);
}
