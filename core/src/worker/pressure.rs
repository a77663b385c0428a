//! In which order tasks run while memory is short: first what gives memory up, then what makes more of it (README, "Memory").

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::context::Context;
use super::entry::{Entry, Work};
use super::fetch::forget_claimed;
use super::main_loop::execute;
use super::shared::Shared;
use crate::arena;
use crate::clock::now;
use crate::error::FailureKind;
use crate::options::{Occupancy, Priority, TaskOptions};
use crate::task::record::{Claim, TaskRef};

/// A task that waits for more than this is not helped: it takes as much memory as all that it waits for.
const UNMET_MAX: usize = 4;
/// So many tasks are looked at to find one that a waiting task needs.
const LOOKS_MAX: usize = 256;
/// So long what makes more memory waits for somebody outside to give some up, at least and at most: twice the time between the last two times that somebody did.
const PATIENCE: Duration = Duration::from_millis(30);
const PATIENCE_MAX: Duration = Duration::from_millis(200);
/// So many times more go on when that was in vain once more.
const GROWTH: u32 = 4;
/// However much else there is to do, one goes on when none has for so long.
const LATE: Duration = Duration::from_millis(100);
/// How long a worker that waits for that sleeps at a time: it looks for other work in between.
const SLICE: Duration = Duration::from_micros(200);

/// Tasks that threads outside wait for, and their number.
static AWAITED: Mutex<Vec<TaskRef>> = Mutex::new(Vec::new());
static AWAITED_COUNT: AtomicUsize = AtomicUsize::new(0);

/// As long as it is there, a thread outside is known to wait for a task: while memory is short, that one and what it needs go before others that make more of it.
pub(super) struct Awaited(TaskRef);

impl Awaited {
    pub(super) fn new(task: &TaskRef) -> Self {
        let (own, listed) = (task.clone(), task.clone());
        let mut awaited = awaited();
        awaited.push(listed);
        AWAITED_COUNT.store(awaited.len(), Relaxed);
        drop(awaited);
        Self(own)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let mut awaited = awaited();
        let place = awaited.iter().position(|task| task.identity() == self.0.identity());
        let listed = place.map(|place| awaited.remove(place));
        AWAITED_COUNT.store(awaited.len(), Relaxed);
        drop(awaited);
        // Out here: a record may end with it.
        drop(listed);
    }
}

fn awaited() -> MutexGuard<'static, Vec<TaskRef>> {
    // Single operations on the list; none of them panics half-way.
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What threads outside wait for, if it can be begun or does not need much before; the one that has waited longest first.
fn awaited_tasks() -> Vec<TaskRef> {
    // Relaxed: a hint; who comes too late is met at the next look.
    if AWAITED_COUNT.load(Relaxed) == 0 {
        return Vec::new();
    }
    awaited().iter().filter(|task| task.unmet_count() <= UNMET_MAX && !task.is_claimed()).cloned().collect()
}

/// Ready tasks that make buffers and take none, which others go before.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    /// Number of `entries`.
    count: AtomicUsize,
    /// Tasks that run and were begun while memory was short.
    running: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    /// When the last one went, or the first came.
    last: Option<Instant>,
    /// Nothing while there is memory.
    wait: Option<Wait>,
}

/// A wait for memory that others have.
#[derive(Debug)]
struct Wait {
    /// When somebody last gave some up, or somebody went on without, or it began.
    since: Instant,
    /// When somebody last gave some up, or it began.
    given_up: Instant,
    patience: Duration,
    /// What buffers had when it was last looked at, in memory and on the disk.
    live_bytes: u64,
    /// So many go on now, and when nobody gives anything up for as long again.
    passes: u32,
    grant: u32,
}

impl Wait {
    fn begin(live_bytes: u64) -> Self {
        let now = now();
        Self { since: now, given_up: now, patience: PATIENCE, live_bytes, passes: 0, grant: 1 }
    }

    /// Whether one more is to go on without memory having been given up.
    fn passes(&mut self, live_bytes: u64) -> bool {
        let now = now();
        if std::mem::replace(&mut self.live_bytes, live_bytes) > live_bytes {
            self.patience = (2 * (now - self.given_up)).clamp(PATIENCE, PATIENCE_MAX);
            (self.since, self.given_up, self.passes, self.grant) = (now, now, 0, 1);
        }
        if self.passes == 0 && now - self.since >= self.patience {
            (self.since, self.passes) = (now, self.grant);
            self.grant = self.grant.saturating_mul(GROWTH);
        }
        let goes = self.passes > 0;
        self.passes -= u32::from(goes);
        goes
    }
}

impl Aside {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Single operations on the list; none of them panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are any.
    #[inline]
    pub(crate) fn is_any(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    fn put(&self, entry: Entry) {
        let mut state = self.lock();
        if state.entries.is_empty() {
            state.last = Some(now());
        }
        state.entries.push_back(entry);
        self.count.store(state.entries.len(), Relaxed);
    }

    /// The one that has waited longest, if it has waited too long.
    #[inline]
    pub(crate) fn take_if_late(&self) -> Option<Entry> {
        if !self.is_any() {
            return None;
        }
        let mut state = self.lock();
        let is_late = state.last.is_some_and(|last| last.elapsed() >= LATE);
        is_late.then(|| self.pop(&mut state)).flatten()
    }

    /// The same for a worker that has found nothing else; nothing as long as it is worth while to wait for memory. What is waited for by threads outside comes first. Not with the
    /// queues in hand: references are dropped.
    pub(crate) fn take_unless_short(&self, shared: &Shared, processor: usize) -> Option<Entry> {
        if !self.is_any() {
            return None;
        }
        // Here for the second time, it is run (`goes_aside`, or `run` if it has not been here).
        let may_begin = |task: &TaskRef| !task.is_claimed() && is_plain(task) && shared.may_run(processor, task);
        if let Some(task) = awaited_tasks().into_iter().find_map(|task| find_needed(shared, task, may_begin)) {
            return Some(Entry::task(task));
        }
        // Whoever is outside waits himself, perhaps for one of these. One at a time: it may be the one.
        if self.running.load(Relaxed) == 0 && shared.is_waited_for() {
            return self.pop(&mut self.lock());
        }
        let mut state = self.lock();
        match arena::live_bytes_if_short() {
            Some(live_bytes) if !state.wait.get_or_insert_with(|| Wait::begin(live_bytes)).passes(live_bytes) => return None,
            Some(_) => {}
            None => state.wait = None,
        }
        self.pop(&mut state)
    }

    fn pop(&self, state: &mut State) -> Option<Entry> {
        let entry = state.entries.pop_front();
        state.last = Some(now());
        self.count.store(state.entries.len(), Relaxed);
        entry
    }

    /// Sleeps for a moment.
    pub(crate) fn rest(&self) {
        arena::wait_for_memory(SLICE);
    }
}

/// Runs a task that was taken from a queue while memory is short: its successors next, and before that what else they wait for. One that only makes more of it is put aside.
#[cold]
pub(crate) fn run(context: &Context, task: TaskRef) {
    let shared = &*context.shared;
    match task.try_claim() {
        Claim::Won => {}
        Claim::Lost => return drop(Entry::task(task)),
        Claim::Waiting => unreachable!("only ready tasks are queued"),
    }
    if goes_aside(&task) {
        task.note_aside();
        return match task.unclaim() {
            true => {
                shared.aside.put(Entry::task(task));
                // Whoever waits outside is about to give memory up, or needs no other first.
                if let Some(task) = awaited_tasks().into_iter().find_map(|task| claim_from(context, task)) {
                    run_claimed(context, task);
                }
            }
            false => {
                let failure = task.fail_claimed(task.stopped().unwrap_or(FailureKind::Cancelled));
                shared.finish(Some(context), &task, Some(failure), true);
            }
        };
    }
    run_claimed(context, task);
}

/// Runs it, and what it has made ready or its successors need besides.
fn run_claimed(context: &Context, task: TaskRef) {
    let shared = &*context.shared;
    let mut next = Some(task);
    while let Some(task) = next.take() {
        let waiting = task.waiting_successors();
        shared.aside.running.fetch_add(1, Relaxed);
        let failure = execute(context, &task);
        shared.finish(Some(context), &task, failure, true);
        // After that: nobody who waited for it is taken for one who still does.
        shared.aside.running.fetch_sub(1, Relaxed);
        drop(task);
        if arena::is_short() && context.slot_index().is_some_and(|slot| !shared.slots[slot].is_wanted()) {
            next = claim_ready(context, &waiting).or_else(|| waiting.into_iter().find_map(|successor| claim_needed(context, successor)));
        }
    }
}

/// Claims the one of them that `finish` has put on top of this worker's queue.
fn claim_ready(context: &Context, waiting: &[TaskRef]) -> Option<TaskRef> {
    let is_one = |entry: &Entry| waiting.iter().any(|successor| entry.is_of(successor));
    let entry = context.with_local(|slot, _| slot.ring.pop_if(is_one)).flatten()?;
    let Work::Task(task) = entry.into_work() else { unreachable!("it is of a task") };
    match task.try_claim() {
        Claim::Won => Some(task),
        _ => {
            drop(Entry::task(task));
            None
        }
    }
}

/// Whether a task waits for others: it makes buffers, takes none, and nobody has said anything about it that this would go against. Not twice.
fn goes_aside(task: &TaskRef) -> bool {
    task.makes_memory() && !task.was_aside() && task.priority() != Priority::High && is_plain(task)
}

fn is_plain(task: &TaskRef) -> bool {
    let is_plain = |options: &TaskOptions| options.taken() == Occupancy::ONE && options.ties.placed.is_none();
    task.options().is_none_or(is_plain)
}

/// Claims a task that has to run before one that waits, if there is one that nobody has begun and this thread may run.
fn claim_needed(context: &Context, waiting: TaskRef) -> Option<TaskRef> {
    // One that is ready is in a queue already, and not this worker's next.
    if (1..=UNMET_MAX).contains(&waiting.unmet_count()) { claim_from(context, waiting) } else { None }
}

/// Claims it, or one that has to run before it.
fn claim_from(context: &Context, task: TaskRef) -> Option<TaskRef> {
    let task = find_needed(&context.shared, task, |top| context.may_nest(top) && top.try_claim() == Claim::Won)?;
    forget_claimed(context, &task);
    Some(task)
}

/// Goes down from a task to one that has to run before it, or to itself, that is ready and can be `taken`.
fn find_needed(shared: &Shared, task: TaskRef, taken: impl Fn(&TaskRef) -> bool) -> Option<TaskRef> {
    let mut seen = BTreeSet::new();
    let mut path = vec![task];
    while let Some(top) = path.pop() {
        if top.is_finished() || !seen.insert(top.identity()) || seen.len() > LOOKS_MAX {
            continue;
        }
        if !std::ptr::eq(top.runtime(), shared) || !top.is_ready() {
            top.unfinished_predecessors(&mut path);
        } else if taken(&top) {
            return Some(top);
        }
    }
    None
}

impl Shared {
    /// Whether a task that was just made ready is to be run next although it is not a plain one: it may give memory up.
    #[cold]
    pub(super) fn hurries(&self, context: Option<&Context>, task: &TaskRef) -> bool {
        arena::is_short() && task.launch_ties().is_none() && context.is_some_and(|context| context.may_nest(task))
    }
}
