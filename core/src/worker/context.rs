//! What the current thread is to a runtime.
#![expect(unsafe_code, reason = "a thread-local pointer to a value on the same thread's stack")]

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::occupancy::Holding;
use super::shared::Shared;
use super::slot::{Counters, Local, Slot, Token, add};
use crate::error::TaskError;
use crate::graph::state::RunState;
use crate::options::Occupancy;
use crate::task::record::{Header, TaskRef};

thread_local! {
    static CURRENT: Cell<*const Context> = const { Cell::new(std::ptr::null()) };
}

/// A thread that runs tasks of a runtime: a worker, or a thread of a queued processor.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    /// The processor that it runs them for: a place in `Shared::processors`.
    pub(crate) processor: usize,
    /// The slot that the thread holds; none for a thread of a queued processor.
    token: RefCell<Option<Token>>,
    /// Stack segments that nested tasks have added.
    pub(crate) segments: Cell<usize>,
    /// The task that the thread is in the middle of; null in the middle of a node of a graph.
    task: Cell<*const Header>,
    /// The innermost run of a graph that the thread is in the middle of.
    within: Cell<*const Within>,
    /// What that takes besides a processor.
    holding: Cell<Holding>,
}

impl Context {
    pub(crate) fn new(shared: Arc<Shared>, processor: usize) -> Self {
        Self {
            shared,
            processor,
            token: RefCell::new(None),
            segments: Cell::new(0),
            task: Cell::new(std::ptr::null()),
            within: Cell::new(std::ptr::null()),
            holding: Cell::default(),
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
        let _restore = Restore(CURRENT.replace(self));
        body()
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
        self.token.borrow_mut().take()
    }

    pub(crate) fn put_token(&self, token: Token) {
        *self.token.borrow_mut() = Some(token);
    }

    /// What tells this context from all others that are alive.
    #[inline]
    pub(crate) fn identity(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Runs a task that this thread has claimed.
    #[inline]
    pub(crate) fn run(&self, task: &TaskRef) -> Option<TaskError> {
        task.set_runner(self.identity());
        let outer = self.task.replace(&raw const **task);
        let failure = task.run_claimed();
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

    /// Whether this thread may run a task on top of the one that it is in the middle of.
    pub(crate) fn may_nest(&self, task: &TaskRef) -> bool {
        // A thread on an errand takes no processor, so it computes nothing for others; and what takes more or less than one needs more than this thread.
        let errand = self.processor < self.shared.slots.len() && self.token.borrow().is_none();
        !errand && task.options().is_none_or(|options| options.occupancy == Occupancy::ONE) && self.shared.may_run(self.processor, task)
    }

    /// Lets `look` see the task that this thread is in the middle of.
    pub(crate) fn with_task<R>(&self, look: impl FnOnce(&Header) -> R) -> Option<R> {
        // SAFETY: null, or `run` further down this thread's stack set it from a reference that it keeps until it takes the pointer back.
        unsafe { self.task.get().as_ref() }.map(look)
    }

    /// Notes that this thread is in the middle of a run while `body` runs some of its nodes.
    pub(crate) fn enter_run(&self, within: &Within, body: impl FnOnce()) {
        within.outer.set(self.within.replace(within));
        let task = self.task.replace(std::ptr::null());
        // Does not unwind: nodes catch panics.
        body();
        self.task.set(task);
        self.within.set(within.outer.get());
    }

    /// Whether this thread is in the middle of a run.
    pub(crate) fn is_within_run(&self, run: &RunState) -> bool {
        let mut at = self.within.get();
        // SAFETY: null, or `enter_run` further down this thread's stack set it from a reference that outlives its call.
        while let Some(within) = unsafe { at.as_ref() } {
            if std::ptr::eq(within.run, run) {
                return true;
            }
            at = within.outer.get();
        }
        false
    }

    /// Whether the run was cancelled whose node this thread is in the middle of: for `is_cancelled`, in a node. None in a task, which may be on top of a node.
    pub(crate) fn is_run_cancelled(&self) -> Option<bool> {
        if !self.task.get().is_null() {
            return None;
        }
        // SAFETY: as in `is_within_run`.
        let within = unsafe { self.within.get().as_ref() }?;
        // SAFETY: the run is not over as long as this thread is in the middle of one of its nodes.
        Some(unsafe { &*within.run }.is_cancelled())
    }

    /// Whether this thread is in the middle of `task`.
    pub(crate) fn is_within(&self, task: &TaskRef) -> bool {
        task.is_run_by(self.identity())
    }
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
