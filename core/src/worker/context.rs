//! What the current thread is to a runtime.
#![expect(unsafe_code, reason = "a thread-local pointer to a value on the same thread's stack")]

use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::fetch::STACK_RESERVE_BYTES;
use super::job::Origin;
use super::job_deque::Jobs;
use super::occupancy::Holding;
use super::shared::Shared;
use super::slot::{Counters, Local, Slot, Token, add};
use super::stopwatch::Stopwatch;
use crate::ambient::Ambient;
use crate::error::TaskError;
use crate::graph::state::RunState;
use crate::options::Occupancy;
use crate::platform;
use crate::region::guard;
use crate::ship::processor::RemoteProcessor;
use crate::task::record::{Header, TaskRef};

thread_local! {
    static CURRENT: Cell<*const Context> = const { Cell::new(ptr::null()) };
    /// What spawns on this thread pick up just now; null for nothing.
    static AMBIENT: Cell<*const Ambient> = const { Cell::new(ptr::null()) };
}

/// What of this belongs to a logical thread that does not run just now.
#[derive(Debug)]
pub(crate) struct Saved(*const Context, *const Ambient);

impl Default for Saved {
    fn default() -> Self {
        Self(ptr::null(), ptr::null())
    }
}

/// Exchanges them for what is there.
///
/// # Safety
/// They are put back only while what they were taken from is still on the stack that is run then.
pub(crate) unsafe fn swap(saved: &mut Saved) {
    saved.0 = CURRENT.replace(saved.0);
    saved.1 = AMBIENT.replace(saved.1);
}

/// Whether spawns on this thread pick anything up.
#[inline]
pub(crate) fn has_ambient() -> bool {
    !AMBIENT.get().is_null()
}

/// Lets `look` see what spawns on this thread pick up.
pub(crate) fn ambient<R>(look: impl FnOnce(Option<&Ambient>) -> R) -> R {
    let ambient = AMBIENT.get();
    // SAFETY: the pointer is null, or `enter_pointer` of this thread set it from a reference that outlives its frame, and takes it back before that ends.
    look(unsafe { ambient.as_ref() })
}

/// Lets spawns on this thread pick `ambient` up while `body` runs.
pub(crate) fn enter_ambient<R>(ambient: &Ambient, body: impl FnOnce() -> R) -> R {
    enter_pointer(ambient, body)
}

/// Lets tasks and jobs that `body` runs on top of this thread's pick up nothing of what that one does.
#[inline]
pub(crate) fn outside_of_ambient<R>(body: impl FnOnce() -> R) -> R {
    let base = Context::with(|context| context.map_or(ptr::null(), Context::base));
    if ptr::eq(AMBIENT.get(), base) { body() } else { enter_pointer(base, body) }
}

/// As `enter_ambient`; `ambient` is null, or outlives the call.
fn enter_pointer<R>(ambient: *const Ambient, body: impl FnOnce() -> R) -> R {
    /// Restores what was there before, however `body` ends.
    struct Restore(*const Ambient);
    impl Drop for Restore {
        fn drop(&mut self) {
            AMBIENT.set(self.0);
        }
    }
    let _restore = Restore(AMBIENT.replace(ambient));
    body()
}

/// A thread that runs tasks of a runtime: a worker, or a thread of a queued processor.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    /// The processor that it runs them for: a place in `Shared::processors`.
    pub(crate) processor: usize,
    /// The process that the thread stands for, in the slot; null for none. One step nearer for what every task asks.
    remote: *const RemoteProcessor,
    /// Whether what the thread begins next is a task between two others, and on top of none.
    between: Cell<bool>,
    /// The slot that the thread holds; none for a thread of a queued processor.
    token: RefCell<Option<Token>>,
    /// Whether the thread, without a slot, is in the middle of a job that it has waited for others to run in vain.
    no_help: Cell<bool>,
    /// Stack segments that nested tasks have added.
    pub(crate) segments: Cell<usize>,
    /// The task that the thread is in the middle of, or on behalf of which it runs a job: an `Origin`, as it is in the middle of a node of a graph.
    task: Cell<*const Header>,
    /// The innermost run of a graph that the thread is in the middle of.
    within: Cell<*const Within>,
    /// The ambient of tasks that have no inheritance: there is one, and it is empty, when the runtime has defaults for functions, so that spawns need look for
    /// nothing else.
    base: Option<Box<Ambient>>,
    /// What that takes besides a processor.
    holding: Cell<Holding>,
    /// Measures bodies of tasks that were placed.
    pub(crate) stopwatch: Stopwatch,
    /// The jobs of the slot that the thread holds; null when it holds none.
    jobs: Cell<*const Jobs>,
    /// The innermost job that the thread runs.
    job: Cell<*const Frame>,
    /// Addresses on the stack from which there is enough left below: the lowest one, and how many are known.
    stack: Cell<(usize, usize)>,
    /// The context that this one hides.
    outer: Cell<*const Context>,
}

/// That a thread runs a job; on its stack.
struct Frame {
    origin: Origin,
    /// The job that it was in the middle of.
    outer: *const Frame,
}

impl Context {
    pub(crate) fn new(shared: Arc<Shared>, processor: usize) -> Self {
        let places_all = shared.placement.as_ref().is_some_and(|placement| placement.places_all);
        let base = (!shared.defaults.is_empty() || places_all).then(Box::default);
        let remote = shared.slots.get(processor).and_then(|slot| slot.remote.get()).map_or(ptr::null(), ptr::from_ref);
        Self {
            shared,
            processor,
            remote,
            between: Cell::new(false),
            token: RefCell::new(None),
            no_help: Cell::new(false),
            segments: Cell::new(0),
            task: Cell::new(ptr::null()),
            within: Cell::new(ptr::null()),
            base,
            holding: Cell::default(),
            stopwatch: Stopwatch::default(),
            jobs: Cell::new(ptr::null()),
            job: Cell::new(ptr::null()),
            stack: Cell::new((0, 0)),
            outer: Cell::new(ptr::null()),
        }
    }

    /// Makes this the thread's context while `body` runs.
    pub(crate) fn enter<R>(&self, body: impl FnOnce() -> R) -> R {
        /// Restores the context that was there before, however `body` ends.
        struct Restore(*const Context);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        self.outer.set(CURRENT.get());
        let _restore = Restore(CURRENT.replace(self));
        enter_pointer(self.base(), body)
    }

    fn base(&self) -> *const Ambient {
        self.base.as_deref().map_or(std::ptr::null(), std::ptr::from_ref)
    }

    /// The context of this thread, if it has one.
    #[inline]
    pub(crate) fn with<R>(body: impl FnOnce(Option<&Self>) -> R) -> R {
        let current = CURRENT.get();
        // SAFETY: the pointer is null, or `enter` of this thread set it from a reference that outlives its frame, and takes it back before that ends.
        body(unsafe { current.as_ref() })
    }

    /// The context of this thread if it belongs to `shared`.
    #[inline]
    pub(crate) fn with_of<R>(shared: &Shared, body: impl FnOnce(Option<&Self>) -> R) -> R {
        Self::with(|context| body(context.filter(|context| std::ptr::eq(&*context.shared, shared))))
    }

    /// The process that this thread stands for.
    #[inline]
    pub(crate) fn remote(&self) -> Option<&RemoteProcessor> {
        // SAFETY: null, or `new` took it from a slot, which lives as long as `shared`; what is in the cell of the slot stays there.
        unsafe { self.remote.as_ref() }
    }

    /// Notes that the thread of a process is between two tasks while `body` begins one.
    pub(crate) fn between_tasks(&self, body: impl FnOnce()) {
        self.between.set(true);
        body();
        self.between.set(false);
    }

    /// Whether the thread has been between two tasks; it is not any more.
    pub(crate) fn take_between(&self) -> bool {
        self.between.replace(false)
    }

    /// The slot that this thread holds.
    pub(crate) fn slot_index(&self) -> Option<usize> {
        self.token.borrow().as_ref().map(Token::slot)
    }

    /// Lets `body` work with the queues of the slot that this thread holds; nothing when it holds none.
    #[inline]
    pub(crate) fn with_local<R>(&self, body: impl FnOnce(&Slot, &Local) -> R) -> Option<R> {
        self.try_local((), |slot, local, ()| body(slot, local)).ok()
    }

    /// Adds one to a number of the slot that this thread holds; false when it holds none.
    #[inline]
    pub(crate) fn count(&self, counter: impl FnOnce(&Counters) -> &AtomicU64) -> bool {
        self.with_local(|slot, _| add(counter(&slot.counters), 1)).is_some()
    }

    /// Lets `body` work with `input` and the queues of the slot that this thread holds; gives `input` back when it holds none.
    #[inline]
    pub(crate) fn try_local<T, R>(&self, input: T, body: impl FnOnce(&Slot, &Local, T) -> R) -> Result<R, T> {
        let token = self.token.borrow();
        match &*token {
            Some(token) => {
                let index = token.slot();
                let slot = &self.shared.slots[index];
                Ok(body(slot, slot.local(index, token), input))
            }
            None => Err(input),
        }
    }

    pub(crate) fn take_token(&self) -> Option<Token> {
        self.jobs.set(ptr::null());
        self.token.borrow_mut().take()
    }

    pub(crate) fn put_token(&self, token: Token) {
        let index = token.slot();
        self.jobs.set(&raw const self.shared.slots[index].local(index, &token).jobs);
        *self.token.borrow_mut() = Some(token);
    }

    /// What tells this context from all others that are alive.
    #[inline]
    pub(crate) fn identity(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Runs the body of a task that this thread has claimed.
    #[inline]
    pub(crate) fn run(&self, task: &TaskRef, body: impl FnOnce() -> Option<TaskError>) -> Option<TaskError> {
        task.set_runner(self.identity());
        let outer = self.task.replace(&raw const **task);
        if !outer.is_null() {
            guard::lift_here();
        }
        debug_assert!(std::ptr::eq(AMBIENT.get(), self.base()), "a task runs outside of the ambient of another one");
        let failure = body();
        self.task.set(outer);
        failure
    }

    /// Notes what a task holds while `body` runs it; gives what it held at the end.
    #[inline]
    pub(crate) fn hold(&self, holding: Holding, body: impl FnOnce()) -> Holding {
        let outer = self.holding.replace(holding);
        body();
        self.holding.replace(outer)
    }

    /// While `wait` waits, what the task of this thread holds is free for others.
    pub(crate) fn without_holding<R>(&self, wait: impl FnOnce() -> R) -> R {
        let holding = self.holding.take();
        self.shared.unusual.suspend(&self.shared, holding);
        let result = wait();
        self.holding.set(self.shared.unusual.resume(holding));
        result
    }

    /// Runs `body`, none of whose jobs goes to others: they have not come for long.
    pub(crate) fn without_help(&self, body: impl FnOnce()) {
        let before = self.no_help.replace(true);
        body();
        self.no_help.set(before);
    }

    pub(crate) fn has_no_help(&self) -> bool {
        self.no_help.get()
    }

    /// Whether this thread may run a task on top of the one that it is in the middle of.
    pub(crate) fn may_nest(&self, task: &TaskRef) -> bool {
        // A thread on an errand takes no processor, so it computes nothing for others; and what takes more or less than one needs more than this thread.
        let errand = self.processor < self.shared.slots.len() && self.token.borrow().is_none();
        !errand && task.options().is_none_or(|options| options.taken() == Occupancy::ONE) && self.shared.may_run(self.processor, task)
    }

    /// Lets `look` see the task that this thread is in the middle of.
    pub(crate) fn with_task<R>(&self, look: impl FnOnce(&Header) -> R) -> Option<R> {
        // SAFETY: `run` further down this thread's stack set it from a reference that it keeps until it takes the pointer back, or `on_behalf_of` did:
        // whoever is in the middle of that task waits for the job.
        self.origin().task().map(|task| look(unsafe { task.as_ref() }))
    }

    /// Whether the task that this thread is in the middle of is to stop. The one place that knows all the reasons.
    pub(crate) fn is_cancelled(&self) -> bool {
        match self.is_run_cancelled() {
            Some(cancelled) => cancelled,
            None => self.with_task(|task| task.is_cancelled() || is_outdated(task)).unwrap_or(false),
        }
    }

    /// Notes that this thread is in the middle of a run while `body` runs some of its nodes.
    pub(crate) fn enter_run(&self, within: &Within, body: impl FnOnce()) {
        within.outer.set(self.within.replace(within));
        let task = self.task.replace(Origin::of_node(within).as_ptr());
        // Does not unwind: nodes catch panics. What nodes spawn picks up nothing from what this thread was in the middle of.
        if AMBIENT.get() == self.base() {
            body()
        } else {
            enter_pointer(self.base(), body)
        }
        self.task.set(task);
        self.within.set(within.outer.get());
    }

    /// Whether this thread is in the middle of a run, or of a job of one of its nodes.
    pub(crate) fn is_within_run(&self, run: &RunState) -> bool {
        self.runs().any(|within| std::ptr::eq(within, run))
    }

    /// The runs that this thread is in the middle of, or of a job of one of their nodes.
    pub(crate) fn runs(&self) -> impl Iterator<Item = *const RunState> {
        let nodes = self.origins().filter_map(Origin::node).map(|node| node.as_ptr().cast_const());
        std::iter::once(self.within.get()).chain(nodes).flat_map(|mut at| {
            std::iter::from_fn(move || {
                // SAFETY: null, or `enter_run` set it from a reference that outlives its call: further down this thread's stack, or on that of a thread which
                // waits for a job that this one is in the middle of. It is changed before anybody else can know of it.
                let within = unsafe { at.as_ref() }?;
                at = within.outer.get();
                Some(within.run)
            })
        })
    }

    /// Whether the run was cancelled whose node this thread is in the middle of: for `is_cancelled`, in a node. None in a task, which may be on top of a node.
    pub(crate) fn is_run_cancelled(&self) -> Option<bool> {
        let within = self.origin().node()?;
        // SAFETY: `enter_run` set it, further down this thread's stack, or on that of a thread which waits for the job that this one runs.
        let within = unsafe { within.as_ref() };
        // SAFETY: the run is not over as long as a thread is in the middle of one of its nodes.
        Some(unsafe { &*within.run }.is_cancelled())
    }

    /// Whether this thread is in the middle of `task`.
    pub(crate) fn is_within(&self, task: &TaskRef) -> bool {
        task.is_run_by(self.identity())
    }

    /// On behalf of whom this thread runs what it runs now.
    #[inline]
    pub(crate) fn origin(&self) -> Origin {
        Origin::of(self.task.get())
    }

    /// The jobs of the slot that this thread holds. Whoever keeps the reference uses it only while the slot is this thread's: it is when a call that may lend
    /// it has returned.
    #[inline]
    pub(crate) fn jobs(&self) -> Option<&Jobs> {
        // SAFETY: null, or set by `put_token`, and taken back by `take_token`, so the token is this thread's; the slot lives as long as `shared`.
        unsafe { self.jobs.get().as_ref() }
    }

    /// Lets `job`, which does not unwind, run on behalf of `origin`.
    pub(crate) fn on_behalf_of(&self, origin: Origin, job: impl FnOnce()) {
        let frame = Frame { origin, outer: self.job.get() };
        self.job.set(&raw const frame);
        let outer = self.task.replace(origin.as_ptr());
        // It brings along what its spawns pick up (`Carried`); what this thread was in the middle of is none of its business.
        if AMBIENT.get() == self.base() {
            job()
        } else {
            enter_pointer(self.base(), job)
        }
        self.task.set(outer);
        self.job.set(frame.outer);
    }

    /// On behalf of whom this thread runs jobs, the newest first. What they belong to cannot go on before this thread is done with them.
    pub(crate) fn origins(&self) -> impl Iterator<Item = Origin> {
        let mut next = self.job.get();
        std::iter::from_fn(move || {
            // SAFETY: null, or `on_behalf_of` further down this thread's stack set it to a frame of its own, and takes it back before it returns.
            let frame = unsafe { next.as_ref() }?;
            next = frame.outer;
            Some(frame.origin)
        })
    }

    /// Whether this thread holds a slot of `shared`, be it in a context that this one hides.
    pub(crate) fn holds_slot_of(&self, shared: &Shared) -> bool {
        let mut next: *const Self = self;
        // SAFETY: null, or `enter` further down this thread's stack, for the context above, found it to be the current one, whose `enter` has not ended.
        while let Some(context) = unsafe { next.as_ref() } {
            if ptr::eq(&*context.shared, shared) && context.token.borrow().is_some() {
                return true;
            }
            next = context.outer.get();
        }
        false
    }

    /// Whether there is stack enough for whatever a user's closure may do.
    #[inline]
    pub(crate) fn has_stack(&self) -> bool {
        let marker = 0u8;
        let here = (&raw const marker).addr();
        let (lowest, count) = self.stack.get();
        here.wrapping_sub(lowest) < count || self.measure_stack(here)
    }

    /// Asks how much there is. The answer holds for all addresses from the lowest good one up to here, unless this stack goes (`forget_stack`).
    #[cold]
    fn measure_stack(&self, here: usize) -> bool {
        match platform::current().map_or_else(stacker::remaining_stack, |platform| Some(platform.stack_left())) {
            None => {
                self.stack.set((0, usize::MAX));
                true
            }
            Some(bytes) if bytes < STACK_RESERVE_BYTES => false,
            Some(bytes) => {
                let spare = bytes - STACK_RESERVE_BYTES;
                self.stack.set((here.saturating_sub(spare), spare + 1));
                true
            }
        }
    }

    /// A segment of stack has gone.
    pub(crate) fn forget_stack(&self) {
        self.stack.set((0, 0));
    }
}

/// Whether everything was cancelled since a task was spawned that runs. On its own runtime: a job of it may run on another one.
fn is_outdated(task: &Header) -> bool {
    // SAFETY: `runtime` is from `Arc::as_ptr`, and a runtime stays until all of its tasks have been counted as finished, which is done when they have run.
    unsafe { &*task.runtime() }.is_outdated(task.epoch())
}

/// What this thread is in the middle of that belongs to a runtime, in words.
#[cold]
pub(crate) fn inside(shared: &Shared) -> Option<String> {
    let mut next = CURRENT.get();
    // SAFETY: null, or `enter` further down this thread's stack set it from a reference that outlives its frame; so for the contexts that it hides.
    while let Some(context) = unsafe { next.as_ref() } {
        if ptr::eq(&*context.shared, shared) {
            let task = context.with_task(|task| format!("task {}", task.name()));
            return Some(task.unwrap_or_else(|| "something that a thread of the same runtime runs".into()));
        }
        next = context.outer.get();
    }
    None
}

/// That a thread is in the middle of a run of a graph: on its stack.
pub(crate) struct Within {
    run: *const RunState,
    outer: Cell<*const Within>,
}

impl Within {
    pub(crate) fn new(run: &RunState) -> Self {
        Self { run, outer: Cell::new(std::ptr::null()) }
    }
}

/// The runtime of a task that has not been counted as finished, and that cannot be before the caller puts it into a queue, or counts it.
pub(crate) fn runtime_of(task: &TaskRef) -> Arc<Shared> {
    // SAFETY: `runtime` is from `Arc::as_ptr`, and `Runtime`'s drop holds that `Arc` while it waits for every task that it has admitted.
    unsafe { Arc::increment_strong_count(task.runtime()) };
    // SAFETY: the count was incremented for this `Arc`.
    unsafe { Arc::from_raw(task.runtime()) }
}
