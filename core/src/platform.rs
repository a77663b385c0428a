//! What the scheduler runs on when it is not the machine: logical threads under a clock of somebody else's.
//!
//! The scheduler takes the time, sleeps, wakes and starts threads at few places, and each asks here first. On a thread of the operating system on which somebody has
//! [`enter`]ed a [`Platform`], those go to it; on all others to the machine, and nothing of this costs them more than one look at a thread-local number where they
//! would read the clock or sleep anyway. So a simulator runs the very functions that ship, many logical threads on one thread of the operating system, and decides who goes on when.
//!
//! Logical threads are changed at [`Platform::park`] and [`Platform::relax`] only. What the runtime keeps for each thread is in [`Locals`], which the platform changes with them.
#![expect(unsafe_code, reason = "what a thread keeps of its stack, of many stacks")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::placement::Placement;
use crate::residency::Directory;
use crate::residency::space::GRAIN_BYTES;
use crate::runtime::Handle;
use crate::ship::image;
use crate::task::{nested, record};
use crate::timer::Timer;
use crate::worker::context;
use crate::{queued, residency};

/// A logical thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogicalThread(pub u32);

/// Clock, threads, sleep and wake. All calls come from the thread of the operating system that has entered the platform.
pub trait Platform {
    /// Nanoseconds since the platform began.
    fn now_ns(&self) -> u64;

    /// Where the random numbers of workers begin.
    fn seed(&self) -> u64 {
        0
    }

    /// The logical thread that is running.
    fn current(&self) -> LogicalThread;

    /// Which of so many, at least two, a worker tries first that looks for a task of another one and could have one of each; by the worker's own random numbers, if nothing.
    fn choose(&self, count: usize) -> Option<usize> {
        let _ = count;
        None
    }

    /// The logical thread that calls sleeps until somebody wakes it, at most until `until_ns`. One that was woken since it last slept returns at once; it may
    /// return without cause.
    fn park(&self, until_ns: Option<u64>);

    /// Has a logical thread return from [`park`](Self::park), or from its next one.
    fn wake(&self, thread: LogicalThread);

    /// The logical thread that calls has nothing to do until another one has done something, and looks again soon.
    fn relax(&self);

    /// Starts a logical thread. It begins later, not inside this call.
    fn spawn(&self, name: &str, body: Box<dyn FnOnce()>);

    /// How many bytes of stack the logical thread that calls has left.
    fn stack_left(&self) -> usize;
}

thread_local! {
    /// Whether there is one, in a form that costs nothing to read.
    static IS_LOGICAL: Cell<bool> = const { Cell::new(false) };
    static ENTERED: RefCell<Option<Rc<Entered>>> = const { RefCell::new(None) };
}

/// The platform of a thread of the operating system.
pub(crate) struct Entered {
    platform: Rc<dyn Platform>,
    pub(crate) timer: Timer,
    pub(crate) directory: Directory,
}

/// Whether the calling thread is a logical one.
#[inline]
pub(crate) fn is_logical() -> bool {
    IS_LOGICAL.get()
}

/// The calling thread's, if it is on one.
pub(crate) fn entered() -> Option<Rc<Entered>> {
    // At the end of a thread there is none.
    if is_logical() { ENTERED.try_with(|entered| entered.borrow().clone()).ok().flatten() } else { None }
}

/// What the calling thread runs on, if it is not the machine.
pub(crate) fn current() -> Option<Rc<dyn Platform>> {
    entered().map(|entered| Rc::clone(&entered.platform))
}

/// Has everything that runs on the calling thread of the operating system run on `platform` while `body` does. Runtimes that are built meanwhile must have
/// ended, and all logical threads with them, when `body` returns, but for one that belongs to the platform itself: [`retire`] ends that.
///
/// # Panics
/// The thread has entered one already.
pub fn enter<R>(platform: Rc<dyn Platform>, body: impl FnOnce() -> R) -> R {
    /// Leaves it, however `body` ends.
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            IS_LOGICAL.set(false);
            let left = ENTERED.take();
            drop(left);
        }
    }
    assert!(!is_logical(), "the thread is on a platform already");
    ENTERED.set(Some(Rc::new(Entered { platform, timer: Timer::new(), directory: Directory::new() })));
    IS_LOGICAL.set(true);
    let _leave = Leave;
    body()
}

/// No runtime is left on the platform: its timer's logical thread, if there is one, returns when it goes on next.
pub fn retire() {
    if let Some(entered) = entered() {
        entered.timer.close();
    }
}

/// What the runtime keeps for each thread. A platform has one for each logical thread, and calls [`swap`](Self::swap) when it lets one go on and again when that has stopped.
#[derive(Debug, Default)]
pub struct Locals {
    context: context::Saved,
    nested: nested::Saved,
    settling: record::flat::Saved,
    later: residency::Saved,
    submitting: queued::Saved,
}

impl Locals {
    /// Those of a logical thread that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Exchanges these for what the thread of the operating system has now.
    ///
    /// # Safety
    /// What is put back belongs to the logical thread that goes on now: it was taken when that one stopped, and its stack has not been run since.
    pub unsafe fn swap(&mut self) {
        // SAFETY: as the caller promises, the stack that they point into is that of the logical thread which goes on.
        unsafe { context::swap(&mut self.context) };
        nested::swap(&mut self.nested);
        record::flat::swap(&mut self.settling);
        residency::swap(&mut self.later);
        queued::swap(&mut self.submitting);
    }
}

/// Executes a call of a worker process that is only played: what a platform's [`Remote`](crate::Remote) does in the place of sending it. Gives the reply.
///
/// What the call runs may use no buffers. It may spawn tasks, as if the task ran here.
#[must_use]
pub fn execute_call(call: &[u8]) -> Vec<u8> {
    image::execute_here(call)
}

/// What the workers of a runtime do, at a moment when nobody goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Situation {
    /// The workers that sleep, by rising number, and whether each would find something to do.
    pub sleepers: Vec<(usize, bool)>,
    /// How many look for something to do, or have been woken to.
    pub searchers: usize,
    /// How many tasks wait that a policy has placed, or has not placed yet.
    pub placed: usize,
    /// The processors that take batches, in their order.
    pub queues: Vec<QueueSituation>,
}

/// What the runtime has given a processor that takes batches, and has in its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSituation {
    /// Tasks that are ready and wait for it.
    pub waiting: usize,
    /// Tasks that it has, or is about to get.
    pub in_flight: usize,
    /// What the runtime counts as taken in its memory, in bytes: of each chunk a multiple of [`GRAIN_BYTES`](Self::GRAIN_BYTES). 0 without a memory of its own.
    pub reserved_bytes: u64,
    /// Launches that use its memory.
    pub under_way: u64,
}

impl QueueSituation {
    /// What a chunk takes is a multiple of so many bytes.
    pub const GRAIN_BYTES: u64 = GRAIN_BYTES;
}

impl Situation {
    /// What is wrong, in words: a worker sleeps, nobody looks, and there is something that it would do; or a processor that takes batches has nothing, and something waits for it.
    #[must_use]
    pub fn wrong(&self) -> Option<String> {
        if let Some(queue) = self.queues.iter().position(|queue| queue.waiting > 0 && queue.in_flight == 0) {
            return Some(format!("queue {queue} has nothing to do, and {} tasks wait for it", self.queues[queue].waiting));
        }
        let idle = self.sleepers.iter().find(|(_, has_work)| *has_work).filter(|_| self.searchers == 0);
        idle.map(|(worker, _)| format!("worker {worker} sleeps, nobody looks for tasks, and there is one for it"))
    }
}

/// What the workers of a runtime do. Looks at everything: for platforms, which call it while no logical thread runs.
#[must_use]
pub fn situation(handle: &Handle) -> Situation {
    let shared = &handle.shared;
    let sleepers = shared.sleep.sleepers().into_iter().map(|slot| (slot, shared.has_work(slot))).collect();
    let placed = shared.placement.as_ref().map_or(0, Placement::waiting_count);
    let of_queue = |(queue, (waiting, in_flight))| {
        let space = shared.space_of(shared.slots.len() + queue);
        let (reserved_bytes, under_way) = space.map_or((0, 0), |space| (space.used_bytes(), space.under_way()));
        QueueSituation { waiting, in_flight, reserved_bytes, under_way }
    };
    let queues = shared.queued.loads().into_iter().enumerate().map(of_queue).collect();
    Situation { sleepers, searchers: shared.sleep.searcher_count() as usize, placed, queues }
}

/// Starts a thread that nobody joins, of the machine or a logical one.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    match current() {
        Some(platform) => {
            platform.spawn(name, Box::new(body));
            Ok(())
        }
        None => std::thread::Builder::new().name(name.into()).spawn(body).map(drop),
    }
}

/// Lets another thread go on, in a loop that waits for what one does.
pub(crate) fn yield_now() {
    match current() {
        Some(platform) => platform.relax(),
        None => crate::sync::yield_now(),
    }
}

/// The time in nanoseconds, where it is not the machine's.
#[inline]
pub(crate) fn now_ns() -> Option<u64> {
    if is_logical() { current().map(|platform| platform.now_ns()) } else { None }
}

/// Which of several that all have tasks is tried first, where the platform says so.
pub(crate) fn choose(count: usize) -> Option<usize> {
    current()?.choose(count)
}

/// Where random numbers begin.
pub(crate) fn seed() -> u64 {
    current().map_or(0, |platform| platform.seed())
}
