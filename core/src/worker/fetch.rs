//! Waiting for a task (README, "Waiting inside a task").

use std::sync::Arc;

use super::context::Context;
use super::main_loop::execute;
use super::slot::Passed;
use super::waiter::Waiter;
use crate::clock::now_ns;
use crate::error::{FailureKind, TaskError};
use crate::task::record::{Claim, TaskRef};

/// Looks at a task that runs elsewhere this often before the thread goes to sleep: about as long as a wake-up takes.
const SPIN_ROUNDS: u32 = 256;
/// Stack that a nested task finds at least.
const STACK_RESERVE_BYTES: usize = 128 << 10;
/// Stack that is added when there is less.
const STACK_SEGMENT_BYTES: usize = 4 << 20;
/// Segments that one thread may add: 4 GiB of addresses, of which only what is used takes memory.
const STACK_SEGMENTS_MAX: usize = 1024;
/// Threads for one slot; a waiting thread that would need one more keeps the slot instead, and others do the work.
const SLOT_THREADS_MAX: usize = 64;

/// Waits until `task` has finished.
pub(crate) fn wait(task: &TaskRef) -> Result<(), TaskError> {
    if task.is_finished() {
        return Ok(());
    }
    Context::with(|context| match context {
        None => {
            wait_asleep(task);
            Ok(())
        }
        Some(context) => wait_inside(context, task),
    })
}

/// Waits on a thread that is no worker.
fn wait_asleep(task: &TaskRef) {
    let waiter = Waiter::for_this_thread();
    if task.add_waiter(&waiter) {
        waiter.wait();
    }
}

/// Waits on a thread that runs tasks: runs what the task needs, newest first, as long as nobody else does; then blocks.
fn wait_inside(context: &Context, task: &TaskRef) -> Result<(), TaskError> {
    // The way from the task that is waited for down to one that can be run now.
    let mut path = vec![task.clone()];
    while let Some(top) = path.last() {
        if top.is_finished() {
            path.pop();
            continue;
        }
        if context.is_within(top) {
            return Err(TaskError::new(task.name(), FailureKind::WaitsForItself));
        }
        let ours = std::ptr::eq(top.runtime(), &*context.shared);
        if !top.is_ready() {
            match top.unfinished_predecessor() {
                Some(predecessor) => path.push(predecessor),
                // It has become ready or somebody has claimed it.
                None if top.is_ready() => {}
                None => block(context, top),
            }
        } else if ours && context.shared.may_run(context.processor, top) && top.try_claim() == Claim::Won {
            run_nested(context, task, top)?;
        } else {
            block(context, top);
        }
    }
    Ok(())
}

/// Runs a claimed task on top of the one that waits for it, on more stack if there is little left.
fn run_nested(context: &Context, awaited: &TaskRef, task: &TaskRef) -> Result<(), TaskError> {
    let run = || {
        execute(context, task);
        context.shared.finish(Some(context), task, false);
    };
    if stacker::remaining_stack().is_none_or(|bytes| bytes >= STACK_RESERVE_BYTES) {
        run();
        return Ok(());
    }
    let segments = context.segments.get();
    if segments >= STACK_SEGMENTS_MAX {
        let kind = || FailureKind::TooDeep { stack_bytes: segments * STACK_SEGMENT_BYTES };
        // It has been claimed, so nobody else will run it.
        task.fail_claimed(kind());
        context.shared.finish(Some(context), task, false);
        return Err(TaskError::new(awaited.name(), kind()));
    }
    context.segments.set(segments + 1);
    stacker::grow(STACK_SEGMENT_BYTES, run);
    context.segments.set(segments);
    Ok(())
}

/// Waits for a task that somebody else runs, or will run.
fn block(context: &Context, task: &TaskRef) {
    let Some(slot_index) = context.slot_index() else {
        // A thread of a queued processor has no slot to lend.
        return wait_asleep(task);
    };
    for round in 0..SPIN_ROUNDS {
        if task.is_finished() {
            return;
        }
        if round % 16 == 15 {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
    let waiter = Waiter::for_this_thread();
    if !task.add_waiter(&waiter) {
        return;
    }
    let shared = &*context.shared;
    let slot = &shared.slots[slot_index];
    shared.sleep.search();
    loop {
        if waiter.has_fired() {
            shared.sleep.found(|| shared.has_work(slot_index));
            return;
        }
        if shared.has_work(slot_index) || slot.is_wanted() {
            shared.sleep.found(|| false);
            return block_without_slot(context, slot_index, &waiter);
        }
        // Nothing to do for anybody: keep the slot and sleep on it, for the task or for work, whichever comes first.
        shared.sleep.sleep(slot_index, || waiter.has_fired() || shared.has_work(slot_index) || slot.is_wanted());
    }
}

/// Lends the slot to another thread until the task has finished.
fn block_without_slot(context: &Context, slot_index: usize, waiter: &Arc<Waiter>) {
    let shared = &*context.shared;
    let slot = &shared.slots[slot_index];
    slot.counters.activity.end(now_ns());
    let Some(token) = context.take_token() else { unreachable!("a worker that waits holds its slot") };
    match slot.pass(token) {
        Passed::ToThread => {}
        Passed::Vacant => {
            let started = slot.thread_count() < SLOT_THREADS_MAX
                && shared.processors[slot_index].processor.start(poniard_interface::WorkerId(slot_index as u32)).is_ok();
            if !started && let Some(token) = slot.take_vacant() {
                // No thread to be had: this one keeps the slot and sleeps. What it waits for is running, so it ends; what lies in this slot's queue
                // can be stolen.
                context.put_token(token);
                waiter.wait();
                slot.counters.activity.begin(now_ns());
                return;
            }
        }
    }
    waiter.wait();
    context.put_token(slot.regain());
    slot.counters.activity.begin(now_ns());
}
