//! As many closures at the same time as are spawned in a scope.
#![expect(unsafe_code, reason = "jobs that borrow from the stack of the thread that waits for them")]

use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::ambient::{self, Carried};
use crate::task::record::dropped_quietly;
use crate::worker::context::{Context, has_ambient};
use crate::worker::job::{Job, JobRef, Origin, Payload};
use crate::worker::jobs;
use crate::worker::latch::Latch;
use crate::worker::shared::Shared;

/// Where closures are spawned that may borrow whatever lives longer than `'scope`. Made by [`Handle::scope`](crate::Handle::scope).
pub struct JobScope<'scope> {
    /// The runtime, which outlives the scope: it is a task's, or counted like one.
    shared: NonNull<Shared>,
    origin: Origin,
    /// Jobs that have not ended, and one for the body.
    unfinished: AtomicUsize,
    /// Set by whoever ends the last one, if the body has ended before.
    latch: Latch,
    /// What the first panic carried.
    panic: Mutex<Option<Payload>>,
    /// Where no worker is: the jobs, to be run by the caller.
    kept: Option<Mutex<Vec<JobRef>>>,
    /// Invariant, so that nobody can make it shorter and spawn what borrows from inside the scope.
    lifetime: PhantomData<fn(&'scope ()) -> &'scope ()>,
}

// SAFETY: `shared` leads to a runtime, which is `Sync` and outlives the scope; an origin is compared only; the rest is `Sync`.
unsafe impl Sync for JobScope<'_> {}

/// A job of a scope, in an allocation of its own, which whoever runs it frees.
#[repr(C)]
struct ScopeJob<F> {
    job: Job,
    /// It outlives the job: it waits for it.
    scope: NonNull<JobScope<'static>>,
    body: F,
}

/// Runs `body` with a scope of this thread, which is a worker of `shared`, or has to do everything itself, and waits for what was spawned.
pub(super) fn scope_in<'scope, R>(shared: &Shared, body: impl FnOnce(&JobScope<'scope>) -> R) -> R {
    Context::with_of(shared, |context| {
        let context = context.filter(|context| context.jobs().is_some());
        let mut scope = JobScope {
            shared: NonNull::from(shared),
            origin: context.map_or(Origin::of(std::ptr::null()), Context::origin),
            unfinished: AtomicUsize::new(1),
            latch: Latch::new(),
            panic: Mutex::new(None),
            kept: context.is_none().then(Mutex::default),
            lifetime: PhantomData,
        };
        let value = scope.caught(|| body(&scope));
        scope.wait(context);
        match scope.panic.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            None => {}
            Some(payload) => {
                dropped_quietly(value);
                resume_unwind(payload);
            }
        }
        match value {
            Some(value) => value,
            None => unreachable!("a scope without a panic has a value"),
        }
    })
}

impl<'scope> JobScope<'scope> {
    /// Runs `body`, maybe on another thread, maybe after this call has returned; before the scope ends. It gets the scope, to spawn more.
    ///
    /// Cost: one allocation, and some tens of nanoseconds.
    pub fn spawn<F: FnOnce(&Self) + Send + 'scope>(&self, body: F) {
        if has_ambient() {
            let carried = Carried::from_here();
            self.push(move |scope: &Self| carried.around(|| body(scope)));
        } else {
            self.push(body);
        }
    }

    fn push<F: FnOnce(&Self) + Send + 'scope>(&self, body: F) {
        // Relaxed: the caller is the body of the scope, or one of its jobs, and is counted itself.
        self.unfinished.fetch_add(1, Relaxed);
        // The lifetime is the scope's own in `run`.
        let scope = NonNull::from(self).cast::<JobScope<'static>>();
        // SAFETY: `run` is for a `ScopeJob<F>`, may be called once with this address, below, and catches panics.
        let header = unsafe { Job::new(Self::run::<F>) };
        let job = NonNull::from(Box::leak(Box::new(ScopeJob { job: header, scope, body })));
        let job = JobRef { job: job.cast(), origin: self.origin };
        if let Some(kept) = &self.kept {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(job);
            return;
        }
        // SAFETY: the runtime outlives the scope.
        let shared = unsafe { self.shared.as_ref() };
        Context::with_of(shared, |context| match context.and_then(Context::jobs) {
            Some(jobs) => {
                jobs.push(job);
                jobs::pushed(shared, jobs);
            }
            None => jobs::inject(shared, job),
        });
    }

    /// # Safety
    /// `job` is the address of a `ScopeJob<F>` of a scope with this lifetime, and the caller has taken it out of a queue.
    unsafe fn run<F: FnOnce(&Self) + Send + 'scope>(job: NonNull<Job>) {
        let job = job.cast::<ScopeJob<F>>();
        // SAFETY: `spawn` made it of a box, and it is this thread's alone (precondition).
        let job = unsafe { Box::from_raw(job.as_ptr()) };
        let ScopeJob { scope, body, .. } = *job;
        let scope = scope.cast::<Self>();
        {
            // SAFETY: the scope waits for its jobs, and this one has not been counted as ended.
            let scope = unsafe { scope.as_ref() };
            scope.caught(|| body(scope));
        }
        // SAFETY: as above; this is the end of the job.
        unsafe { Self::end(scope.as_ptr()) };
    }

    /// Runs `body`, and keeps what its panic carries if it is the first.
    fn caught<R>(&self, body: impl FnOnce() -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(value) => Some(value),
            Err(payload) => {
                let mut panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
                let later = if panic.is_none() { panic.replace(payload) } else { Some(payload) };
                drop(panic);
                dropped_quietly(later);
                None
            }
        }
    }

    /// Counts a job as ended. The last one sets the latch, and nobody touches the scope after his own share: whoever is not last, not after the
    /// count; whoever is, not after the exchange in `Latch::set`. The thread that waits, and then lets the scope go, looks at the latch alone.
    ///
    /// # Safety
    /// * `this` is a live scope that waits for the caller, who is one of those that it has counted.
    /// * Nobody does this twice.
    unsafe fn end(this: *const Self) {
        // Release: what this job did is seen by whoever is last; Acquire: he sees it, and `Latch::set` passes it on.
        // SAFETY: live, as this job has not been counted as ended (precondition).
        if unsafe { &*this }.unfinished.fetch_sub(1, AcqRel) != 1 {
            return;
        }
        // SAFETY: live: the latch has not been set.
        let latch = unsafe { &raw const (*this).latch };
        // SAFETY: as above, and only the last one comes here.
        unsafe { Latch::set(latch) };
    }

    /// The body has ended: waits for the jobs.
    fn wait(&self, context: Option<&Context>) {
        // The jobs may be waiting for what the body has spawned.
        ambient::flush();
        while let Some(job) = self.kept.as_ref().and_then(|kept| kept.lock().unwrap_or_else(PoisonError::into_inner).pop()) {
            job.run(None);
        }
        // SAFETY: this thread lets the scope go, and not before the latch is set; the body is counted, once.
        unsafe { Self::end(self) };
        if let Some(context) = context {
            jobs::wait(context, &self.latch);
        }
        assert!(self.latch.is_set(), "a scope ends after its jobs");
    }
}

impl fmt::Debug for JobScope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobScope").field("unfinished", &self.unfinished).finish_non_exhaustive()
    }
}
