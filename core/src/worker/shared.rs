//! What all threads of one runtime share: queues, workers, processors, and the count of tasks that have not finished.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize};
use std::sync::{Condvar, Mutex, PoisonError};

use crossbeam_deque::Injector;
use crossbeam_utils::CachePadded;
use poniard_interface::{LogLevel, Processor, ProcessorInfo};

use super::context::{Context, runtime_of};
use super::entry::Entry;
use super::occupancy::{Errand, Unusual};
use super::ring;
use super::sleep::Sleep;
use super::slot::{Local, Slot, add};
use crate::error::{FailureKind, TaskError};
use crate::graph::runs::Runs;
use crate::options::{Occupancy, Priority, Scope, TaskOptions};
use crate::queued::Queued;
use crate::runtime::Backends;
use crate::task::record::{Released, TaskRef};

/// Tasks spawned and not finished from which on a worker that spawns more waits for room. As many records as a core's cache holds.
pub(crate) const CROWD: u64 = 8192;
/// A worker looks at their number once in so many spawns, times the number of workers.
const CROWD_INTERVAL: u64 = 64;

/// Threads of one slot, those on errands included.
const ERRAND_THREADS_MAX: usize = 512;

/// Values of `Shared::phase`.
const OPEN: u8 = 0;
const DRAINING: u8 = 1;
const STOPPED: u8 = 2;

/// A processor with the backend that it came from.
pub(crate) struct ProcessorRecord {
    pub(crate) processor: Box<dyn Processor>,
    pub(crate) info: ProcessorInfo,
    /// Place in `Shared::backends`.
    pub(crate) backend: usize,
}

/// One runtime.
pub(crate) struct Shared {
    pub(crate) slots: Vec<Slot>,
    /// Tasks spawned by threads that are no workers, one queue for each priority.
    pub(crate) injectors: [Injector<Entry>; Priority::COUNT],
    pub(crate) sleep: Sleep,
    /// Whether any task has had a priority, or a scope of its own: until then nobody looks at the queues for them.
    pub(crate) special: AtomicBool,
    /// Inline processors: the first `slots.len()`, in the order of the slots; then queued ones.
    pub(crate) processors: Vec<ProcessorRecord>,
    pub(crate) backends: Backends,
    pub(crate) queued: Queued,
    /// Runs of graphs.
    pub(crate) runs: Runs,
    /// Tasks that do not take exactly one processor.
    pub(crate) unusual: Unusual,
    phase: AtomicU8,
    /// How often everything has been cancelled; a task of an earlier count is not run.
    epoch: AtomicU16,
    /// A worker looks at the number of unfinished tasks when the number of its spawns has none of these bits.
    crowd_mask: u64,
    /// Tasks spawned and finished by threads that hold no slot.
    foreign_spawned: CachePadded<AtomicU64>,
    foreign_finished: CachePadded<AtomicU64>,
    /// Threads that wait until the runtime is idle, besides the one that drains it.
    idle_waiters: AtomicUsize,
    /// Signalled when the runtime may have become idle while somebody waits for that.
    idle: (Mutex<()>, Condvar),
}

impl Shared {
    pub(crate) fn new(processors: Vec<ProcessorRecord>, backends: Backends, slots: Vec<Slot>) -> Self {
        let queued = Queued::new(&processors[slots.len()..], slots.len());
        // With more workers the look takes longer, and the crowd may be a little larger.
        let crowd_mask = (CROWD_INTERVAL * slots.len().next_power_of_two() as u64).min(CROWD / 2) - 1;
        Self {
            slots,
            injectors: [Injector::new(), Injector::new(), Injector::new()],
            sleep: Sleep::default(),
            special: AtomicBool::new(false),
            processors,
            backends,
            queued,
            runs: Runs::default(),
            unusual: Unusual::default(),
            phase: AtomicU8::new(OPEN),
            epoch: AtomicU16::new(0),
            crowd_mask,
            foreign_spawned: CachePadded::default(),
            foreign_finished: CachePadded::default(),
            idle_waiters: AtomicUsize::new(0),
            idle: (Mutex::new(()), Condvar::new()),
        }
    }

    /// How often everything has been cancelled.
    #[inline]
    pub(crate) fn epoch(&self) -> u16 {
        // Relaxed: whoever cancels everything says nothing about tasks that are spawned at the same time.
        self.epoch.load(Relaxed)
    }

    /// Cancels everything that has been spawned.
    pub(crate) fn cancel_all(&self) {
        self.epoch.fetch_add(1, Relaxed);
    }

    /// Counts a task about to be spawned; false when the runtime takes no more.
    #[inline]
    pub(crate) fn admit(&self, context: Option<&Context>) -> bool {
        // A task that runs may spawn until the end: the runtime waits for it.
        if context.is_some_and(|context| context.count(|counters| &counters.spawned)) {
            return true;
        }
        // Counted before the phase is looked at: whoever closes the runtime sees the count, or this thread sees the phase.
        self.foreign_spawned.fetch_add(1, SeqCst);
        let open = self.phase.load(SeqCst) == OPEN || context.is_some();
        if !open {
            self.foreign_finished.fetch_add(1, SeqCst);
            self.signal_idle();
        }
        open
    }

    /// Puts a ready task where somebody who may run it will find it.
    #[inline]
    pub(crate) fn enqueue(&self, context: Option<&Context>, entry: Entry) {
        let (priority, scoped, occupancy) = entry.peek(|task| match task.options() {
            None => (task.priority(), false, Occupancy::ONE),
            Some(options) => (task.priority(), options.scope != Scope::Any, options.occupancy),
        });
        if self.slots.is_empty() || scoped || occupancy.is_unusual() {
            self.enqueue_special(entry, occupancy);
        } else {
            self.push(context, priority, entry);
        }
    }

    /// Puts an entry that every worker may run into the queue of this thread's worker, or into the one for all.
    #[inline]
    pub(crate) fn push(&self, context: Option<&Context>, priority: Priority, entry: Entry) {
        let unpushed = match context {
            Some(context) => context.try_local(entry, |slot, local, entry| self.push_own(slot, local, priority, entry)),
            None => Err(entry),
        };
        if let Err(entry) = unpushed {
            if priority != Priority::Normal {
                self.special.store(true, Relaxed);
            }
            self.injectors[priority.level()].push(entry);
            self.sleep.notify();
        }
    }

    /// The same for part of a run of a graph. No allocation, once the queues are as long as they get.
    pub(crate) fn push_part(&self, context: Option<&Context>, priority: Priority, entry: Entry) {
        let unpushed = match context {
            Some(context) => context.try_local(entry, |slot, local, entry| self.push_own(slot, local, priority, entry)),
            None => Err(entry),
        };
        if let Err(entry) = unpushed {
            if priority != Priority::Normal {
                self.special.store(true, Relaxed);
            }
            self.runs.push_fresh(priority.level(), entry);
            self.sleep.notify();
        }
    }

    /// Puts an entry into the worker's own queue.
    #[inline]
    pub(crate) fn push_own(&self, slot: &Slot, local: &Local, priority: Priority, entry: Entry) {
        if priority != Priority::Normal {
            self.special.store(true, Relaxed);
            local.deques[priority.level()].push(entry);
            self.sleep.notify();
            return;
        }
        if let Err(entry) = slot.ring.push(entry) {
            self.make_room(slot, local, entry);
        }
        if self.sleep.is_anybody_idle() {
            self.show(slot, local);
        }
    }

    /// The ring is full: moves half of it into the queue.
    #[cold]
    fn make_room(&self, slot: &Slot, local: &Local, entry: Entry) {
        let deque = &local.deques[Priority::Normal.level()];
        slot.ring.show(ring::CAPACITY / 2, |entry| deque.push(entry));
        if let Err(entry) = slot.ring.push(entry) {
            deque.push(entry);
        }
    }

    /// Counts a task that the worker of a slot is about to spawn. True when it should then wait for room.
    #[inline]
    pub(crate) fn count_spawn(&self, slot: &Slot) -> bool {
        let count = add(&slot.counters.spawned, 1);
        count & self.crowd_mask == 0 && self.unfinished() > slot.counters.crowd.load(Relaxed).max(CROWD)
    }

    /// About how many tasks have been spawned and not finished.
    #[cold]
    pub(crate) fn unfinished(&self) -> u64 {
        let finished: u64 = self.finished();
        let spawned: u64 = self.foreign_spawned.load(Relaxed) + self.slots.iter().map(Slot::spawned).sum::<u64>();
        spawned.saturating_sub(finished)
    }

    /// About how many tasks have finished.
    pub(crate) fn finished(&self) -> u64 {
        self.foreign_finished.load(Relaxed) + self.slots.iter().map(Slot::finished).sum::<u64>()
    }

    /// For a worker between two tasks: whether those that wait for room may go on.
    pub(crate) fn has_room(&self) -> bool {
        self.unfinished() <= CROWD / 2
    }

    /// Moves the older half of the worker's newest tasks to where thieves find them, and wakes one.
    #[cold]
    pub(crate) fn show(&self, slot: &Slot, local: &Local) {
        let deque = &local.deques[Priority::Normal.level()];
        slot.ring.show(slot.ring.len() / 2, |entry| deque.push(entry));
        self.sleep.notify();
    }

    #[cold]
    fn enqueue_special(&self, entry: Entry, occupancy: Occupancy) {
        let (scope, level) =
            entry.peek(|task| (task.options().map_or(Scope::Any, |options| options.scope.clone()), task.priority().level()));
        let inline: Vec<usize> = (0..self.slots.len()).filter(|slot| self.satisfies(*slot, &scope)).collect();
        if occupancy.is_unusual() && !inline.is_empty() {
            self.special.store(true, Relaxed);
            self.unusual.push(self, occupancy, entry);
            return;
        }
        if inline.len() == self.slots.len() && !inline.is_empty() {
            self.special.store(true, Relaxed);
            self.injectors[level].push(entry);
            self.sleep.notify();
            return;
        }
        if let Some(slot) = inline.into_iter().min_by_key(|slot| self.slots[*slot].private.len()) {
            self.special.store(true, Relaxed);
            self.slots[slot].private.push(entry);
            self.sleep.wake(slot);
            return;
        }
        let queued: Vec<usize> = (self.slots.len()..self.processors.len()).filter(|processor| self.satisfies(*processor, &scope)).collect();
        self.queued.push(self, &queued, entry);
    }

    /// Has a thread of a slot that does not hold it run a task; gives the task back when there is none to be had.
    pub(crate) fn send_errand(&self, slot: usize, errand: Errand) -> Result<(), Errand> {
        let place = &self.slots[slot];
        let Some(number) = place.leave_errand(errand)? else { return Ok(()) };
        let started = place.thread_count() < ERRAND_THREADS_MAX
            && self.processors[slot].processor.start(poniard_interface::WorkerId(slot as u32)).is_ok();
        if started { Ok(()) } else { place.take_errand_back(number).map_or(Ok(()), Err) }
    }

    /// Whether a processor lies in a scope.
    pub(crate) fn satisfies(&self, processor: usize, scope: &Scope) -> bool {
        let record = &self.processors[processor];
        match scope {
            Scope::Any => true,
            Scope::Kind(kind) => record.info.kind == *kind,
            Scope::Backend(name) => self.backends[record.backend].info.name == *name,
            Scope::Processor(name) => record.info.name == *name,
        }
    }

    /// Whether a processor may run a task in the place of whoever would.
    pub(crate) fn may_run(&self, processor: usize, task: &TaskRef) -> bool {
        task.options().is_none_or(|options| self.satisfies(processor, &options.scope))
    }

    /// Why no processor can run a task with these options, if none can.
    pub(crate) fn refusal(&self, options: &TaskOptions) -> Option<FailureKind> {
        if options.scope != Scope::Any
            && let Some(kind) = self.unsatisfied(&options.scope)
        {
            return Some(kind);
        }
        let asked = options.occupancy;
        if asked == Occupancy::ONE {
            return None;
        }
        let available = (0..self.slots.len()).filter(|slot| self.satisfies(*slot, &options.scope)).count();
        let possible = asked.is_possible() && (asked.processors() <= 1.0 || asked.processors() <= available as f64);
        (!possible).then_some(FailureKind::Occupancy { asked: asked.processors(), available })
    }

    /// Why no processor satisfies a scope, if none does.
    pub(crate) fn unsatisfied(&self, scope: &Scope) -> Option<FailureKind> {
        if (0..self.processors.len()).any(|processor| self.satisfies(processor, scope)) {
            return None;
        }
        let names: Vec<_> = self
            .processors
            .iter()
            .map(|record| format!("{} (kind {}, backend {})", record.info.name, record.info.kind, self.backends[record.backend].info.name))
            .collect();
        Some(FailureKind::NoProcessor { scope: scope.clone(), available: names.join(", ") })
    }

    /// Whether the holder of `slot` could find a task now.
    pub(crate) fn has_work(&self, slot: usize) -> bool {
        self.injectors.iter().any(|injector| !injector.is_empty())
            || self.runs.has_any_fresh()
            || !self.slots[slot].private.is_empty()
            || self.unusual.has_work(self, slot)
            || self.slots.iter().any(Slot::has_work)
    }

    /// Makes the outcome of a task that this thread has claimed known, and passes on what that sets free. With `next`, the thread is a worker's between
    /// two tasks, and the first ready successor will be the next one.
    #[inline]
    pub(crate) fn finish(&self, context: Option<&Context>, task: &TaskRef, failure: Option<TaskError>, next: bool) {
        let mut first = None;
        task.publish(failure, |released| match released {
            Released::Waiter(waker) => waker.wake(),
            Released::Ready(entry) => {
                if !entry.peek(|successor| std::ptr::eq(successor.runtime(), self)) {
                    Self::enqueue_elsewhere(entry);
                } else if next && first.is_none() && entry.peek(|task| task.options().is_none() && task.priority() == Priority::Normal) {
                    first = Some(entry);
                } else {
                    self.enqueue(context, entry);
                }
            }
        });
        if let Some(entry) = first {
            // On top of the others, and not shown to anybody: this thread looks there next.
            let unpushed = match context {
                Some(context) => context.try_local(entry, |slot, _, entry| slot.ring.push(entry)),
                None => Err(entry),
            };
            match unpushed {
                Ok(Ok(())) => {}
                Ok(Err(entry)) | Err(entry) => self.enqueue(context, entry),
            }
        }
        self.retract(context);
    }

    /// Counts a task as finished that `admit` has counted.
    #[inline]
    pub(crate) fn retract(&self, context: Option<&Context>) {
        if !context.is_some_and(|context| context.count(|counters| &counters.finished)) {
            self.foreign_finished.fetch_add(1, SeqCst);
            self.signal_idle();
        }
    }

    /// Puts a ready task into a queue of its own runtime, for a thread that is none of its workers.
    #[cold]
    pub(crate) fn enqueue_elsewhere(entry: Entry) {
        // Kept for the whole call: once the task is in a queue it may run, and its runtime may end before `enqueue` has looked at its sleepers.
        let other = entry.peek(runtime_of);
        other.enqueue(None, entry);
    }

    /// Counts a cancelled task as finished, whose entry has been taken out of a queue.
    #[cold]
    pub(crate) fn retract_buried(task: &TaskRef) {
        let shared = runtime_of(task);
        Context::with_of(&shared, |context| shared.retract(context));
    }

    /// Whether every task that was spawned has finished.
    pub(crate) fn is_quiet(&self) -> bool {
        // Finished first: both only grow, and a task is counted as spawned before it is counted as finished. Equal sums then mean that
        // between the two readings there was a moment with nothing to do.
        let finished: u64 = self.foreign_finished.load(SeqCst) + self.slots.iter().map(Slot::finished).sum::<u64>();
        std::sync::atomic::fence(SeqCst);
        let spawned: u64 = self.foreign_spawned.load(SeqCst) + self.slots.iter().map(Slot::spawned).sum::<u64>();
        finished == spawned
    }

    /// Tells the thread that waits for the runtime to drain, if one does, to look again.
    pub(crate) fn signal_idle(&self) {
        if self.phase.load(SeqCst) != OPEN || self.idle_waiters.load(SeqCst) > 0 {
            drop(self.idle.0.lock().unwrap_or_else(PoisonError::into_inner));
            self.idle.1.notify_all();
        }
    }

    /// Waits until every task that was spawned has finished.
    pub(crate) fn wait_until_quiet(&self) {
        self.idle_waiters.fetch_add(1, SeqCst);
        // Workers signal when they find nothing; those that sleep already have nothing to tell.
        self.sleep.wake_all();
        let mut guard = self.idle.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.is_quiet() {
            guard = self.idle.1.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        drop(guard);
        self.idle_waiters.fetch_sub(1, SeqCst);
    }

    /// Whether workers have to end.
    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        self.phase.load(Relaxed) == STOPPED
    }

    /// Waits for all tasks, then ends all threads. On a thread that is in the middle of a task it would wait for itself: call it elsewhere.
    pub(crate) fn shut_down(&self) {
        if self.phase.compare_exchange(OPEN, DRAINING, SeqCst, SeqCst).is_err() {
            return;
        }
        self.wait_until_quiet();
        self.phase.store(STOPPED, SeqCst);
        for slot in &self.slots {
            slot.close();
        }
        self.sleep.wake_all();
        for record in &self.processors {
            if let Err(error) = record.processor.stop() {
                self.backends.found.log.push(LogLevel::Warning, format!("processor {}: {error}", record.info.name));
            }
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("slots", &self.slots.len()).field("processors", &self.processors.len()).finish_non_exhaustive()
    }
}
