//! A job: a piece of a running task that another worker may run (README, "Jobs").
#![expect(unsafe_code, reason = "closures on the stack of a thread that waits, run by another one")]

use std::any::Any;
use std::cell::UnsafeCell;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use super::context::Within;
use super::latch::Latch;
use crate::task::record::Header;

/// What a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// What all jobs begin with.
#[repr(C)]
pub(crate) struct Job {
    /// Runs the job; it may be gone afterwards. Never unwinds.
    run: unsafe fn(NonNull<Job>),
    /// One more than the slot of the worker that runs it; 0: nobody, or a thread without a slot. A hint for whoever waits.
    runner: AtomicUsize,
}

impl Job {
    /// # Safety
    /// `run`, called with the address of this job, is sound once for whoever takes it out of a queue, and does not unwind.
    pub(crate) const unsafe fn new(run: unsafe fn(NonNull<Self>)) -> Self {
        Self { run, runner: AtomicUsize::new(0) }
    }

    /// The slot of the worker that runs it, as far as this thread knows.
    pub(crate) fn runner(&self) -> Option<usize> {
        self.runner.load(Relaxed).checked_sub(1)
    }
}

/// The bits of an `Origin` that is a node.
const NODE: usize = 0b11;

/// On behalf of whom a job runs: the address of a task's header, which is compared, and looked at by whoever runs the job; null for code that is in no task; with
/// the lowest bit set, the address of something else that lives as long as the job: with the next one set too, of a `Within`, for a node of a graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin(*const Header);

impl Origin {
    pub(crate) fn of(header: *const Header) -> Self {
        Self(header)
    }

    /// An origin that no task is, told from others by an address.
    pub(crate) fn outside<T>(place: &T) -> Self {
        const { assert!(align_of::<T>() > 2, "the lowest bits are free") };
        Self(std::ptr::without_provenance((&raw const *place).addr() | 1))
    }

    /// The node that a thread is in the middle of, in a run of a graph.
    #[inline]
    pub(crate) fn of_node(within: &Within) -> Self {
        const { assert!(align_of::<Within>() > 2, "the lowest bits are free") };
        Self((&raw const *within).cast::<Header>().map_addr(|address| address | NODE))
    }

    /// Whether it is a task or a node.
    pub(crate) fn is_inside(self) -> bool {
        self.task().is_some() || self.node().is_some()
    }

    pub(crate) fn as_ptr(self) -> *const Header {
        self.0
    }

    /// The task, if it is one.
    #[inline]
    pub(crate) fn task(self) -> Option<NonNull<Header>> {
        if self.0.addr() & 1 == 0 { NonNull::new(self.0.cast_mut()) } else { None }
    }

    /// The node, if it is one.
    #[inline]
    pub(crate) fn node(self) -> Option<NonNull<Within>> {
        if self.0.addr() & NODE == NODE { NonNull::new(self.0.map_addr(|address| address & !NODE).cast_mut().cast()) } else { None }
    }
}

/// A job in a queue, or one that was just taken out of it: the right to run it, once.
#[derive(Clone, Copy)]
pub(crate) struct JobRef {
    pub(crate) job: NonNull<Job>,
    pub(crate) origin: Origin,
}

// SAFETY: jobs are made of closures that are `Send`, and live until they have been run (`JobRef::new`).
unsafe impl Send for JobRef {}

impl JobRef {
    /// Runs the job on the worker of a slot.
    pub(crate) fn run(self, slot: Option<usize>) {
        // SAFETY: a job lives until it has been run, and whoever took it out of the queue is the only one to run it.
        let job = unsafe { self.job.as_ref() };
        job.runner.store(slot.map_or(0, |slot| slot + 1), Relaxed);
        let run = job.run;
        // SAFETY: as above; `Job::new` says that this is how it is called.
        unsafe { run(self.job) }
    }

    /// Whether it is this one.
    #[inline]
    pub(crate) fn is(self, job: &Job) -> bool {
        std::ptr::eq(self.job.as_ptr(), job)
    }
}

/// A job on the stack of the thread that waits for it, with room for its result.
#[repr(C)]
pub(crate) struct StackJob<F, R> {
    job: Job,
    latch: Latch,
    body: UnsafeCell<ManuallyDrop<F>>,
    result: UnsafeCell<MaybeUninit<Result<R, Payload>>>,
}

impl<F: FnOnce() -> R + Send, R: Send> StackJob<F, R> {
    /// # Safety
    /// * Once [`address`](Self::address) has been called, the job stays where it is until its latch is set, or its address has been taken back out of the queue.
    /// * The body is taken out once: by [`take`](Self::take), or by whoever runs the job.
    #[inline]
    pub(crate) unsafe fn new(body: F) -> Self {
        Self {
            // SAFETY: `run` is for a `StackJob<F, R>`, is called once (precondition), and catches panics.
            job: unsafe { Job::new(Self::run) },
            latch: Latch::new(),
            body: UnsafeCell::new(ManuallyDrop::new(body)),
            result: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    #[inline]
    pub(crate) fn address(&self) -> NonNull<Job> {
        // Of the whole, since `run` makes it a `StackJob` again.
        NonNull::from(self).cast()
    }

    pub(crate) fn job(&self) -> &Job {
        &self.job
    }

    #[inline]
    pub(crate) fn latch(&self) -> &Latch {
        &self.latch
    }

    /// The body, for whoever has the job back from the queue.
    ///
    /// # Safety
    /// The job is in no queue, and nobody runs it or has run it; this is called once.
    #[inline]
    pub(crate) unsafe fn take(&self) -> F {
        // SAFETY: nobody else can reach the job (precondition).
        let body = unsafe { &mut *self.body.get() };
        // SAFETY: once (precondition).
        unsafe { ManuallyDrop::take(body) }
    }

    /// The outcome of a job that has been run.
    ///
    /// # Safety
    /// The latch is set; this is called once.
    pub(crate) unsafe fn result(&self) -> Result<R, Payload> {
        debug_assert!(self.latch.is_set(), "only a job that has been run has a result");
        // SAFETY: whoever set the latch has finished with the job (precondition).
        let result = unsafe { &*self.result.get() };
        // SAFETY: it was written before the latch was set, and is read once (precondition).
        unsafe { result.assume_init_read() }
    }

    /// # Safety
    /// `job` is the address of a `StackJob<F, R>` that was taken out of a queue by the caller.
    unsafe fn run(job: NonNull<Job>) {
        let this = job.cast::<Self>().as_ptr();
        let result = {
            // SAFETY: the job is live until its latch is set, below.
            let this = unsafe { &*this };
            // SAFETY: this thread alone has the job (precondition).
            catch_unwind(AssertUnwindSafe(unsafe { this.take() }))
        };
        // SAFETY: live, as above.
        let place = unsafe { UnsafeCell::raw_get(&raw const (*this).result) };
        // SAFETY: as above; nobody reads it before the latch is set.
        unsafe { place.write(MaybeUninit::new(result)) };
        // SAFETY: live, as above.
        let latch = unsafe { &raw const (*this).latch };
        // SAFETY: live, and set by this thread only, as the job is run once.
        unsafe { Latch::set(latch) }
    }
}
