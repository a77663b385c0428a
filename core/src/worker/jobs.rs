//! How workers find jobs, and what a thread does that waits for one (README, "Jobs").

use crossbeam_deque::{Injector, Steal};

use super::context::{Context, outside_of_ambient};
use super::entry::Entry;
use super::fetch::{STACK_SEGMENT_BYTES, STACK_SEGMENTS_MAX, STALL_PATIENCE, wait_until_fired};
use super::job::{Job, JobRef, Origin};
use super::job_deque::Jobs;
use super::latch::Latch;
use super::shared::Shared;
use super::slot::{Local, Slot};
use super::waiter::{self, Waiter};
use crate::platform;
use crate::region::guard;

/// Rounds of looking for jobs before a thread that waits for one goes to sleep: about as long as a wake-up takes.
const SPIN_ROUNDS: u32 = 256;
/// Rounds after which it takes jobs that others keep to themselves.
const SEIZE_ROUNDS: u32 = 16;

/// Runs `body` while jobs borrow from the frames below: unwinding would take those away, so it ends the program.
pub(crate) fn without_unwinding<R>(body: impl FnOnce() -> R) -> R {
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            std::process::abort();
        }
    }
    let end = End;
    let value = body();
    std::mem::forget(end);
    value
}

/// What a worker's search has found.
pub(crate) enum Found {
    Task(Entry),
    Job(JobRef),
}

/// How waiting for a job of one's own ended.
pub(crate) enum Waited {
    /// It has been run; its latch is set.
    Run,
    /// It is out of the queue again, and the caller's.
    TakenBack,
}

/// After a push to this worker's queue: if somebody has nothing to do, shows what there is.
#[inline]
pub(crate) fn pushed(shared: &Shared, jobs: &Jobs) {
    if shared.sleep.is_anybody_idle() {
        if jobs.shows_any() {
            shared.sleep.notify();
        } else {
            show(shared, jobs);
        }
    }
}

#[cold]
fn show(shared: &Shared, jobs: &Jobs) {
    jobs.show();
    shared.sleep.notify();
}

/// Puts a job where every worker finds it: one from outside, or one that lies on top of what a thread has to take back.
pub(crate) fn inject(shared: &Shared, job: JobRef) {
    shared.jobs.push(job);
    shared.sleep.notify();
}

fn from_injector(injector: &Injector<JobRef>) -> Option<JobRef> {
    if injector.is_empty() {
        return None;
    }
    loop {
        match injector.steal() {
            Steal::Success(job) => return Some(job),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}

/// A job for a worker between two tasks: its own newest, else one for all.
#[inline]
pub(crate) fn take_job(shared: &Shared, local: &Local) -> Option<JobRef> {
    if local.jobs.is_empty() { from_injector(&shared.jobs) } else { local.jobs.pop().or_else(|| from_injector(&shared.jobs)) }
}

/// The oldest job of another worker: the nearest group first. With `all`, those that are hidden, too.
pub(crate) fn steal_job(shared: &Shared, slot: &Slot, all: bool, suits: impl Fn(Origin) -> bool) -> Option<JobRef> {
    let victims = slot.victims.iter().flatten().map(|victim| &shared.slots[*victim]);
    victims.filter(|victim| !victim.jobs.is_empty()).find_map(|victim| victim.jobs.steal(all, &suits))
}

/// Runs a job that was taken out of a queue.
pub(crate) fn execute(context: &Context, job: JobRef) {
    let slot = context.slot_index();
    // It brings along what its spawns pick up.
    outside_of_ambient(|| context.on_behalf_of(job.origin, || job.run(slot)));
}

/// Gets a job back that this thread has put into its worker's queue, or waits until it has been run. `popped` is what lay on top when this thread looked.
#[cold]
pub(crate) fn settle(context: &Context, popped: Option<JobRef>, job: &Job, latch: &Latch) -> Waited {
    without_unwinding(|| match unpile(context, popped, job) {
        true => Waited::TakenBack,
        false => wait_or_take_back(context, latch, Some(job)),
    })
}

/// Takes what lies on top of `job` out of this worker's queue; true when the job was there. What lies on top is newer: a job of a scope
/// around this one; or, when the slot was lent meanwhile, one of a task that waits now.
fn unpile(context: &Context, popped: Option<JobRef>, job: &Job) -> bool {
    let origin = context.origin();
    let pop = || context.jobs().and_then(Jobs::pop);
    let mut popped = popped.or_else(pop);
    while let Some(newest) = popped {
        if newest.is(job) {
            return true;
        }
        if newest.origin == origin && context.has_stack() {
            execute(context, newest);
        } else {
            inject(&context.shared, newest);
        }
        popped = pop();
    }
    false
}

/// Waits until `latch` is set, and meanwhile runs jobs of the task that this thread is in the middle of; lends the slot when there are none.
pub(crate) fn wait(context: &Context, latch: &Latch) {
    without_unwinding(|| wait_or_take_back(context, latch, None));
}

/// As `wait`. A `target`, which is in no queue of this worker, may turn up among the jobs for all.
fn wait_or_take_back(context: &Context, latch: &Latch, target: Option<&Job>) -> Waited {
    guard::lift_here();
    let origin = context.origin();
    let mut round = 0;
    loop {
        if latch.is_set() {
            return Waited::Run;
        }
        // Jobs of other tasks may wait for this one; and a job wants as much stack as a nested task.
        let thief = target.and_then(Job::runner);
        if context.has_stack()
            && let Some(job) = find(context, origin, thief, round % SEIZE_ROUNDS == SEIZE_ROUNDS - 1)
        {
            execute(context, job);
            round = 0;
            continue;
        }
        if round < SPIN_ROUNDS {
            round += 1;
            if round % 16 == 0 {
                platform::yield_now();
            } else {
                std::hint::spin_loop();
            }
            continue;
        }
        let has_stack = context.has_stack();
        match search_injector(context, |job| target.is_some_and(|target| job.is(target)) || (job.origin == origin && has_stack)) {
            Some(job) if target.is_some_and(|target| job.is(target)) => return Waited::TakenBack,
            Some(job) => {
                execute(context, job);
                round = 0;
            }
            None => {
                sleep(context, latch);
                return Waited::Run;
            }
        }
    }
}

/// Sleeps until the latch is set; a worker lends its slot meanwhile.
pub(crate) fn sleep(context: &Context, latch: &Latch) {
    let waiter = Waiter::for_this_thread();
    if latch.announce(&waiter) {
        wait_until_fired(context, &waiter);
    }
}

/// As `sleep`, on a thread of the runtime that has no slot, for a job among those for all. Whoever would run it may want what this thread holds: one that nobody has begun
/// for long is run here.
pub(crate) fn sleep_or_run(context: &Context, job: &Job, latch: &Latch) {
    let waiter = Waiter::for_this_thread();
    if !latch.announce(&waiter) {
        return;
    }
    while !waiter.has_fired() {
        context.without_holding(|| waiter::park_for(STALL_PATIENCE));
        if !waiter.has_fired()
            && let Some(own) = search_injector(context, |other| other.is(job))
        {
            context.without_help(|| execute(context, own));
        }
    }
}

/// A job of `origin`: from this worker's own queue, else from the one that runs what this thread waits for, since there lies what that one needs; else from others.
fn find(context: &Context, origin: Origin, thief: Option<usize>, all: bool) -> Option<JobRef> {
    let shared = &*context.shared;
    let suits = |other| other == origin;
    let found = context.with_local(|slot, local| {
        let from_thief = || shared.slots.get(thief?).filter(|thief| !std::ptr::eq(*thief, slot))?.jobs.steal(all, suits);
        let own = local.jobs.pop_of(origin);
        if own.is_some() {
            pushed(shared, &local.jobs);
        }
        own.or_else(from_thief).or_else(|| steal_job(shared, slot, all, suits))
    });
    found.flatten()
}

/// Looks through the jobs for all, once, for one that is `wanted`; the others go to the end.
fn search_injector(context: &Context, wanted: impl Fn(&JobRef) -> bool) -> Option<JobRef> {
    let shared = &*context.shared;
    let mut moved = false;
    let mut found = None;
    for _ in 0..shared.jobs.len() {
        let Some(job) = from_injector(&shared.jobs) else { break };
        if wanted(&job) {
            found = Some(job);
            break;
        }
        shared.jobs.push(job);
        moved = true;
    }
    if moved {
        // A worker that looked for the last time may have missed one that was on its way.
        shared.sleep.notify();
    }
    found
}

/// Runs `body` on a further segment of stack.
///
/// # Panics
/// When the thread has as many as it may have, or there is no memory for one.
#[cold]
pub(crate) fn on_more_stack<R>(context: &Context, body: impl FnOnce() -> R) -> R {
    /// Counts the segment down and forgets where it was, however `body` ends.
    struct Leave<'a>(&'a Context);
    impl Drop for Leave<'_> {
        fn drop(&mut self) {
            self.0.segments.set(self.0.segments.get() - 1);
            self.0.forget_stack();
        }
    }
    let segments = context.segments.get();
    assert!(
        segments < STACK_SEGMENTS_MAX,
        "joins are nested too deeply: the thread has used {} bytes of stack",
        segments * STACK_SEGMENT_BYTES
    );
    context.segments.set(segments + 1);
    let _leave = Leave(context);
    stacker::grow(STACK_SEGMENT_BYTES, body)
}
