//! Two closures at the same time; and the way into a runtime from outside.
#![expect(unsafe_code, reason = "a job that borrows from the stack of the thread that waits for it")]

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::ambient::Carried;
use crate::task::record::dropped_quietly;
use crate::worker::context::Context;
use crate::worker::job::{JobRef, Origin, Payload, StackJob};
use crate::worker::job_deque::Jobs;
use crate::worker::jobs::{self, Waited};
use crate::worker::shared::Shared;
use crate::worker::waiter::Waiter;

/// A result that is dropped without unwinding if the other closure panics.
struct Quiet<T>(ManuallyDrop<T>);

impl<T> Quiet<T> {
    #[inline]
    fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }

    #[inline]
    fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so the value is taken once.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<T> Drop for Quiet<T> {
    fn drop(&mut self) {
        // SAFETY: dropped once, here: `into_inner` does not come by.
        dropped_quietly(unsafe { ManuallyDrop::take(&mut self.0) });
    }
}

/// Joins on a worker's thread; `jobs` is its queue.
#[inline]
pub(super) fn join_on<A, B, RA, RB>(context: &Context, jobs: &Jobs, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    if context.has_stack() { join_here(context, jobs, a, b) } else { jobs::on_more_stack(context, || join_here(context, jobs, a, b)) }
}

#[inline]
fn join_here<A, B, RA, RB>(context: &Context, jobs: &Jobs, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    // SAFETY: the job stays in this frame; every way out of it, below, comes after the job was popped, and then its body is taken here, once, or after its
    // latch was seen set, and then whoever ran it has taken the body. Nothing between here and there unwinds: `a` is caught.
    let job = unsafe { StackJob::new(b) };
    jobs.push(JobRef { job: job.address(), origin: context.origin() });
    jobs::pushed(&context.shared, jobs);
    let outcome = catch_unwind(AssertUnwindSafe(a));
    let popped = jobs.pop_hidden();
    match outcome {
        Ok(value) if popped.is_some_and(|popped| popped.is(job.job())) => {
            let value = Quiet::new(value);
            // SAFETY: just taken out of the queue.
            let other = unsafe { job.take() }();
            (value.into_inner(), other)
        }
        outcome => finish(context, popped, &job, outcome),
    }
}

/// The second half is not where it was put, or the first one panicked.
#[cold]
fn finish<B, RA, RB>(context: &Context, popped: Option<JobRef>, job: &StackJob<B, RB>, outcome: Result<RA, Payload>) -> (RA, RB)
where
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    let other = match jobs::settle(context, popped, job.job(), job.latch()) {
        Waited::TakenBack => {
            // SAFETY: just taken out of a queue.
            let body = unsafe { job.take() };
            match outcome {
                Ok(_) => catch_unwind(AssertUnwindSafe(body)),
                Err(payload) => {
                    dropped_quietly(body);
                    resume_unwind(payload)
                }
            }
        }
        // SAFETY: the latch is set, and this is the only place that reads the result.
        Waited::Run => unsafe { job.result() },
    };
    match (outcome, other) {
        (Ok(value), Ok(other)) => (value, other),
        (Ok(value), Err(payload)) => {
            dropped_quietly(value);
            resume_unwind(payload)
        }
        (Err(payload), other) => {
            dropped_quietly(other);
            resume_unwind(payload)
        }
    }
}

/// Runs `body` on a worker of `shared`, of which the calling thread is none, and sleeps until it has ended. Here, if that is not possible.
#[cold]
pub(super) fn outside<R: Send>(shared: &Shared, body: impl FnOnce() -> R + Send) -> R {
    let carried = Carried::from_here();
    let body = || carried.around(body);
    Context::with(|context| {
        let own = context.filter(|context| std::ptr::eq(&*context.shared, shared));
        // A thread that runs a task of a queued processor on top of a worker's task would wait for a job that nobody but itself might run.
        // So would one that has waited for others in vain.
        let alone = shared.slots.is_empty()
            || context.is_some_and(|context| context.holds_slot_of(shared))
            || own.is_some_and(Context::has_no_help);
        // Counted like a task: the runtime does not end before.
        if alone || !shared.admit(own) {
            return body();
        }
        // SAFETY: the job stays in this frame until its latch is set, and nothing before that unwinds; whoever runs it takes the body, and nobody else does.
        let job = unsafe { StackJob::new(body) };
        let origin = context.map(Context::origin).filter(|origin| origin.is_inside()).unwrap_or_else(|| Origin::outside(&job));
        jobs::inject(shared, JobRef { job: job.address(), origin });
        jobs::without_unwinding(|| match context {
            // It has lent its slot to one that waits for what it holds itself, or never had one.
            Some(context) if own.is_some() => jobs::sleep_or_run(context, job.job(), job.latch()),
            // A worker of another runtime lends its slot.
            Some(context) => jobs::sleep(context, job.latch()),
            None => {
                let waiter = Waiter::for_this_thread();
                if job.latch().announce(&waiter) {
                    waiter.wait();
                }
            }
        });
        // SAFETY: the latch is set, and this is the only place that reads the result.
        let outcome = unsafe { job.result() };
        shared.retract(own);
        outcome.unwrap_or_else(|payload| resume_unwind(payload))
    })
}
