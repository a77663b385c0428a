//! A task that stands for the result of another task's result.
//!
//! Its record has no function, and no runtime runs it: who finishes the last thing that it waits for *settles* it, in two steps. First it depends on the outer
//! task; when that has finished, on the task that is its value; when that has finished, it finishes, too. Its value is not copied: the record refers to the one that
//! has it, which is never itself a reference, however long the chain.
//!
//! A step is taken under `INSPECTED`, so that nobody looks at the body, claims or cancels the task meanwhile; it raises the count again. Until then the task looks
//! ready, which means nothing: only `settle` runs such a task.
//!
//! Settling one may make the next one ready, and so on through a chain of any length, so they are put into a list of the thread and settled one after the
//! other. References are dropped when the list is empty: a destructor may wait for a task that is still in the list.
//!
//! A step can close a circle: a task may return its own `flatten`, or two each other's. Nobody would ever finish one of them, so the step that closes it
//! fails its task.
#![expect(unsafe_code, reason = "the body of a record that changes while the task waits")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::Location;

use super::*;
use crate::data::Data;
use crate::mutable::{Seen, Touch};
use crate::sync::atomic::Ordering::SeqCst;

/// So many tasks are looked at, at most, in search of a circle. Those that are made by mistake are short, and a look at more would cost more than the tasks do.
const CIRCLE_TASKS_MAX: usize = 256;

/// What such a task waits for, or refers to.
enum Flat<T> {
    Outer(Dependency<Task<T>>),
    Inner(Dependency<T>),
    /// It has finished with the value of this one, which has a value of its own.
    Source(Task<T>),
}

type FlatRecord<T> = Record<(), Flat<T>, T>;

impl<T> Predecessors for Flat<T> {
    fn visit(&self, visit: &mut impl FnMut(&Header, &Edge)) {
        match self {
            Self::Outer(outer) => visit(outer.header(), outer.edge()),
            Self::Inner(inner) => visit(inner.header(), inner.edge()),
            Self::Source(_) => {}
        }
    }

    fn visit_numbered(&self, visit: &mut impl FnMut(usize, Option<usize>, &Header)) {
        self.visit(&mut |header, _| visit(1, None, header));
    }

    fn failed(&self) -> Option<TaskError> {
        match self {
            Self::Outer(outer) => outer.header().failure(),
            Self::Inner(inner) => inner.header().failure(),
            Self::Source(_) => None,
        }
    }

    fn touches_places(&self) -> bool {
        false
    }

    fn visit_places(&mut self, _visit: &mut dyn FnMut(&mut dyn Touch)) {}

    fn see(&self, see: &mut impl FnMut(Seen<'_>)) {
        self.visit(&mut |header, _| see(Seen::result(header)));
    }
}

fn type_name() -> &'static str {
    "flatten"
}

const fn vtable<T: Data>() -> VTable {
    VTable {
        launch: None,
        run: finish::<T>,
        discard: discard::<(), Flat<T>, T>,
        unfinished: unfinished::<(), Flat<T>, T>,
        visit_used: visit_used::<(), Flat<T>, T>,
        touch: touch::<(), Flat<T>, T>,
        survey: survey_arguments::<(), Flat<T>, T>,
        drop_value: drop_source::<T>,
        step: Some(step::<T>),
        free: free::<(), Flat<T>, T>,
        type_name,
        has_blocks: false,
        makes: false,
        travel: None,
    }
}

/// The task that finishes with the value of `outer`'s value.
pub(in crate::task) fn create<T: Data>(outer: Task<Task<T>>, location: &'static Location<'static>) -> Task<T> {
    let record = memory::allocate::<FlatRecord<T>>();
    let name = format!("flatten of {}", outer.reference.name().name);
    let header = Header {
        vtable: const { &vtable::<T>() },
        gate: AtomicU32::new(2), // One predecessor, and one more until `register` has looked.
        priority: Priority::Normal,
        parts: AtomicU8::new(0),
        epoch: 0,
        // The user's handle, and what stands for the runtime's reference: whoever makes the task ready gets it.
        refs: AtomicU64::new(USER + REFERENCE),
        successors: AtomicPtr::default(),
        runtime: std::ptr::null(),
        runner: AtomicUsize::new(0),
        location,
        options: Some(Box::new(TaskOptions { name: Some(name), ..TaskOptions::default() })),
        watched: Watched::new(),
        watched_body: Watched::new(),
    };
    let body = UnsafeCell::new(MaybeUninit::new(((), Flat::Outer(Dependency::new(outer)))));
    // SAFETY: the memory is new and fits the record.
    unsafe { record.write(Record { header, value: UnsafeCell::new(MaybeUninit::uninit()), body }) };
    let header = record.cast::<Header>();
    let task = Task { reference: UserRef(ManuallyDrop::new(TaskRef(header))), value: PhantomData };
    // SAFETY: the record is new, and counts one predecessor and one more.
    let counted = unsafe { register(record) };
    if task.reference.count_down(counted) {
        put(Entry::task(TaskRef(header)));
        settle();
    }
    task
}

crate::sync::thread_local! {
    static SETTLING: Settling =
        const { Settling { ready: RefCell::new(Vec::new()), seen: RefCell::new(Vec::new()), active: Cell::new(false) } };
}

/// What a thread has to settle.
struct Settling {
    ready: RefCell<Vec<Entry>>,
    /// References that a search for circles has made.
    seen: RefCell<Vec<TaskRef>>,
    /// Whether it is at it.
    active: Cell<bool>,
}

/// What of this belongs to a logical thread that does not run just now.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    ready: Vec<Entry>,
    seen: Vec<TaskRef>,
    active: bool,
}

/// Exchanges it for what is there.
pub(crate) fn swap(saved: &mut Saved) {
    // At the end of the system's thread there is none, and no logical thread either.
    let _ = SETTLING.try_with(|settling| {
        std::mem::swap(&mut *settling.ready.borrow_mut(), &mut saved.ready);
        std::mem::swap(&mut *settling.seen.borrow_mut(), &mut saved.seen);
        saved.active = settling.active.replace(saved.active);
    });
}

/// Puts a task that has become ready on this thread's list. Whoever does calls `settle` when he has nothing else to pass on.
#[cold]
pub(super) fn put(entry: Entry) {
    let mut entry = Some(entry);
    // Where the destructor of another thread-local finishes a task, the list may be gone.
    let _ = SETTLING.try_with(|settling| settling.ready.borrow_mut().extend(entry.take()));
    if let Some(entry) = entry {
        drop(settle_one(entry));
    }
}

/// Settles what is on the list, unless a call further up the stack is at it.
#[cold]
pub(super) fn settle() {
    let _ = SETTLING.try_with(|settling| {
        if settling.active.replace(true) {
            return;
        }
        let mut settled = Vec::new();
        loop {
            let next = settling.ready.borrow_mut().pop();
            let Some(entry) = next else { break };
            settled.extend(settle_one(entry));
        }
        let seen = settling.seen.take();
        settling.active.set(false);
        drop((settled, seen));
    });
}

/// Runs `body`, which may run tasks, as if the thread were not in the middle of settling: those may wait for what is on the list.
pub(crate) fn aside<R>(body: impl FnOnce() -> R) -> R {
    let active = SETTLING.try_with(|settling| settling.active.replace(false)).unwrap_or(false);
    settle();
    let result = body();
    let _ = SETTLING.try_with(|settling| settling.active.set(active));
    result
}

/// A task that has been settled, or was cancelled before; dropped, it gives up its reference, and a value that nobody will see.
struct Settled {
    entry: Entry,
    unpublished: bool,
}

impl Drop for Settled {
    fn drop(&mut self) {
        if self.unpublished {
            self.entry.peek(TaskRef::drop_value);
        }
    }
}

/// Takes the next step with a task that has become ready, or finishes it; nothing when it waits again.
fn settle_one(entry: Entry) -> Option<Settled> {
    while entry.peek(TaskRef::inspect) {
        let Some(step) = entry.peek(|task| task.vtable.step) else { unreachable!("tasks without a runtime are of this kind") };
        // SAFETY: the bit is set, the count is 0, and the function belongs to the record's type.
        match entry.peek(|task| unsafe { step(task.0) }) {
            Step::Ready => {}
            Step::Waiting => {
                // Whoever makes it ready makes an entry of it again.
                std::mem::forget(entry);
                return None;
            }
            Step::Last => {
                let unpublished = entry.peek(|task| {
                    task.try_claim() == Claim::Won
                        && !{
                            let failure = task.run_claimed();
                            task.publish(failure, Shared::release_elsewhere)
                        }
                });
                return Some(Settled { entry, unpublished });
            }
        }
    }
    Some(Settled { entry, unpublished: false })
}

/// What came of taking a step.
pub(super) enum Step {
    /// It depends on another task now, which has finished.
    Ready,
    /// It depends on another task now. Whoever finishes that has the record's reference.
    Waiting,
    /// There is nothing left to wait for: it is to be finished.
    Last,
}

/// # Safety
/// `header` belongs to a live `FlatRecord<T>` that waits for nothing, and whose `INSPECTED` the caller has set; the function clears it.
unsafe fn step<T>(header: NonNull<Header>) -> Step {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<FlatRecord<T>>().as_ref() };
    let body = record.body.get().cast::<((), Flat<T>)>();
    // SAFETY: nobody has claimed the task, and nobody else looks at the body (precondition).
    if !matches!(unsafe { &*body }, ((), Flat::Outer(outer)) if outer.value().is_some()) {
        record.header.gate.fetch_and(!INSPECTED, Release);
        return Step::Last;
    }
    // SAFETY: as above; it is written anew below, and nothing in between panics.
    let ((), flat) = unsafe { body.read() };
    record.header.watched_body.change();
    let Flat::Outer(Dependency { task: outer, .. }) = flat else { unreachable!("looked at above") };
    // Moved where nobody else can look at the outer task: the inner one then has a user less.
    let inner = Value { task: outer }.take();
    // SAFETY: as above.
    unsafe { body.write(((), Flat::Inner(Dependency::new(inner)))) };
    // The edge, and one more until this function is done with the body.
    record.header.gate.fetch_add(2, Relaxed);
    // Release: pairs with the Acquire of whoever sets it next, or claims the task.
    record.header.gate.fetch_and(!INSPECTED, Release);
    // SAFETY: the count keeps everybody from taking the body out, and it changes under `INSPECTED` in this function only, so shared access is sound.
    let ((), Flat::Inner(inner)) = (unsafe { &*body }) else { unreachable!("put in above") };
    inner.edge.successor.store(header.as_ptr(), Relaxed);
    // SAFETY: the edge is new, and the body stays until the task is claimed, which needs this predecessor to be published.
    let waits = unsafe { inner.header().add_edge(&inner.edge) };
    if waits && closes_circle(&record.header, inner.header()) {
        // It is waited for by what it waits for. The count keeps the body until the end of this function.
        let task = ManuallyDrop::new(TaskRef(header));
        task.cancel(FailureKind::WaitsForItself);
    }
    let ready = record.header.count_down(if waits { 1 } else { 2 });
    if ready { Step::Ready } else { Step::Waiting }
}

/// Whether `task`, which has just begun to wait for `inner`, is among what that one needs.
fn closes_circle(task: &Header, inner: &Header) -> bool {
    // Of several threads that close one circle together, each has added its edge before; the last one at least sees those of the others.
    fence(SeqCst);
    if task.successors.load(Acquire).is_null() {
        return false;
    }
    let mut seen = vec![TaskRef::of(inner)];
    let mut known = BTreeSet::new();
    let mut next = 0;
    let mut found = false;
    while next < seen.len().min(CIRCLE_TASKS_MAX) && !found {
        let looked_at = seen[next].clone();
        next += 1;
        found = std::ptr::eq::<Header>(&*looked_at, task);
        if !found && known.insert(looked_at.identity()) {
            looked_at.unfinished_predecessors(&mut seen);
        }
    }
    // Dropped when everything is settled, as what is taken out of a list is.
    let _ = SETTLING.try_with(|settling| settling.seen.borrow_mut().append(&mut seen));
    found
}

/// # Safety
/// `header` belongs to a live `FlatRecord<T>` that waits for nothing and that the caller has claimed.
unsafe fn finish<T>(header: NonNull<Header>) -> Option<TaskError> {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<FlatRecord<T>>().as_ref() };
    let task = &record.header;
    task.watched_body.change();
    task.note(BODY_TAKEN);
    let body = record.body.get().cast::<((), Flat<T>)>();
    // SAFETY: the claim makes the body this thread's own.
    let ((), flat) = unsafe { body.read() };
    if let Some(error) = flat.failed() {
        return Some(error.dependent(task.name()));
    }
    let Flat::Inner(Dependency { task: inner, .. }) = flat else { unreachable!("the outer task has no value, or a step was left to take") };
    // SAFETY: as above; it has been read.
    unsafe { body.write(((), Flat::Source(into_source(inner)))) };
    task.parts.store(FORWARDED, Relaxed);
    None
}

/// The record that has the value of a finished task.
fn into_source<T>(task: Task<T>) -> Task<T> {
    if !task.reference.is_forwarded() {
        return task;
    }
    if !task.reference.is_last_user() {
        return source(&task).clone();
    }
    take_source(task)
}

/// The same, for the last user of a task that is forwarded.
fn take_source<T>(task: Task<T>) -> Task<T> {
    let record = task.reference.0.0.cast::<FlatRecord<T>>();
    // SAFETY: a task that is forwarded has such a record, and `task` keeps it alive.
    let body = unsafe { &record.as_ref().body };
    task.reference.watched_body.change();
    task.reference.note(BODY_TAKEN);
    // SAFETY: no other user is there to read it, and `BODY_TAKEN` keeps `free` from dropping it again.
    match unsafe { body.get().cast::<((), Flat<T>)>().read() } {
        ((), Flat::Source(source)) => source,
        _ => unreachable!("it was noted when the source was put in"),
    }
}

/// # Safety
/// `header` belongs to a live `FlatRecord<T>` that the caller has finished, and that has an error all the same.
unsafe fn drop_source<T>(header: NonNull<Header>) {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<FlatRecord<T>>().as_ref() };
    // It failed, and `finish` has dropped what it waited for; or this has been called before, by whoever finished it and saw that it was to stop.
    if record.header.parts.load(Relaxed) & (FORWARDED | BODY_TAKEN) != FORWARDED {
        return;
    }
    record.header.watched_body.change();
    record.header.note(BODY_TAKEN);
    // SAFETY: the claim makes the body this thread's own, the source is in it (above), and nobody looks at the value of a task that failed.
    dropped_quietly(unsafe { record.body.get().cast::<((), Flat<T>)>().read() });
}

/// The task whose value a finished one has.
pub(super) fn source<T>(task: &Task<T>) -> &Task<T> {
    let record = task.reference.0.0.cast::<FlatRecord<T>>();
    // SAFETY: a task that is forwarded has such a record, and the caller keeps it alive.
    let body = unsafe { &record.as_ref().body };
    task.reference.watched_body.look();
    // SAFETY: since the task was published, only the last user changes the body (`try_unwrap`), and the caller is a user.
    match unsafe { &*body.get().cast::<((), Flat<T>)>() } {
        ((), Flat::Source(source)) => source,
        _ => unreachable!("it was noted when the source was put in"),
    }
}

/// Moves the value out of the record that has it, if nobody else uses that; for the last user of a task that is forwarded.
pub(super) fn try_unwrap<T>(value: Value<T>) -> Result<T, Value<T>> {
    if source(&value.task).reference.is_last_user() { Value { task: take_source(value.task) }.try_unwrap() } else { Err(value) }
}
