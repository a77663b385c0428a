//! The record of one task: one allocation that holds its state, its arguments, and later its result.
//!
//! One file because every function relies on what the others promise about the same few fields.
//!
//! The protocol (states, who may touch which field when, and why it is sound) is in `README.md` beside this file.
#![expect(unsafe_code, reason = "one allocation of erased type that several threads share by protocol")]

use std::any::Any;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::panic::{AssertUnwindSafe, Location};
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;

use poniard_interface::RawBuffer;

use crate::error::{Failure, FailureKind, TaskError, TaskName};
use crate::function::{Predecessors, TaskFn, function_name};
use crate::kernel::Origin;
use crate::kernel::plan::{Plan, Survey, Unplanned};
use crate::mutable::Touch;
use crate::options::{LaunchTies, Priority, TaskOptions};
use crate::region::shadow::Witness;
use crate::residency::{Lineage, can_be_elsewhere};
use crate::retry::Retrying;
use crate::ship::call::{CallBody, CallFailure};
use crate::ship::code;
use crate::spill;
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence};
use crate::sync::{Watched, catch_unwind, spin_loop};
use crate::task::bond::Bond;
use crate::task::{Task, Value, memory, nested};
use crate::wire::{Parts, Reader, WireError, Writer};
use crate::worker::domain::Domain;
use crate::worker::entry::{Entry, Work};
use crate::worker::shared::Shared;

pub(crate) mod flat;

/// Bits of `Header::gate`: how many predecessors have not finished, and what has happened to the task.
const COUNT: u32 = (1 << 24) - 1;
/// Set once, by whoever will run or fail the task: from then on the arguments are his.
const CLAIMED: u32 = 1 << 31;
/// Set for a moment by whoever looks at the arguments of a task that has not been claimed.
const INSPECTED: u32 = 1 << 30;
/// The same bit of a task that has been claimed, with `HOLDS`: its body is over, and who ran it has looked whether somebody wanted it to stop.
const ENDED: u32 = INSPECTED;
/// The task is to stop, or not to begin. Its body can ask for it.
const CANCELLED: u32 = 1 << 29;
/// It was claimed by a canceller: whoever gets the runtime's reference counts it as finished.
const OWED: u32 = 1 << 28;
/// It was cancelled while it waited: whoever gets the runtime's reference drops the body, too, since its edges are in lists until then.
const KEPT: u32 = 1 << 27;
/// It runs although no handle is left.
const DETACHED: u32 = 1 << 26;
/// Others rely on its body being over when it has finished, so nobody else can end it while that runs.
const HOLDS: u32 = 1 << 25;
/// It was cancelled by its deadline.
const EXPIRED: u32 = 1 << 24;

/// A reference of the runtime, in `Header::refs`: it keeps the record, and never looks at the value.
const REFERENCE: u64 = 1;
/// A reference of a user, in `Header::refs`: a handle or an argument.
const USER: u64 = (1 << 32) + REFERENCE;

/// Bits of `Header::parts`: what is in the record. The body, unless this says otherwise.
const BODY_TAKEN: u8 = 1;
const VALUE_WRITTEN: u8 = 2;
const VALUE_TAKEN: u8 = 4;
/// The value is another record's: the body says whose (`flat`).
const FORWARDED: u8 = 8;
/// The value is written, and the task has not finished: those that a device does right after it may know where it lies.
const AHEAD: u8 = 32;
/// It has been put aside for others, once.
const ASIDE: u8 = 64;
/// The arguments in the body are users of nothing any more: their references are no users', until the body is dropped.
const GIVEN_UP: u8 = 16;

/// The part of a record that does not depend on the types of the task.
#[repr(C)]
pub struct Header {
    vtable: &'static VTable,
    gate: AtomicU32,
    priority: Priority,
    parts: AtomicU8,
    /// The runtime's count of "cancel everything" when the task was spawned.
    epoch: u16,
    /// All references in the lower half, users' (handles and arguments) in the upper half as well.
    refs: AtomicU64,
    /// Head of the list of edges to successors and waiters; once the outcome is there, that: see `Word`.
    successors: AtomicPtr<Edge>,
    /// The runtime that it was spawned on, which outlives every task that has not finished. Null: no runtime runs it (`flat`).
    runtime: *const Shared,
    /// Names the thread that runs it: the address of its context. Read only to compare. Once it has finished, the number of its value, which is odd, where it
    /// was sent to other processes.
    runner: AtomicUsize,
    location: &'static Location<'static>,
    options: Option<Box<TaskOptions>>,
    /// Of no size but under loom.
    watched: Watched,
    watched_body: Watched,
}

/// The word in `Header::successors`. Edges and errors lie at even addresses, so the lowest bit tells what it is.
enum Word {
    /// The newest edge of the list, or null.
    Edges(*mut Edge),
    Value,
    /// The address of an error that the record owns.
    Failed(*const Failure),
}

/// The lowest bit of the word: the task has finished.
const FINISHED: usize = 1;

impl Word {
    #[inline]
    fn of(word: *mut Edge) -> Self {
        match word.addr() {
            FINISHED => Self::Value,
            address if address & FINISHED == 0 => Self::Edges(word),
            _ => Self::Failed(word.map_addr(|address| address & !FINISHED).cast_const().cast()),
        }
    }

    fn of_outcome(failure: Option<TaskError>) -> *mut Edge {
        match failure {
            None => std::ptr::without_provenance_mut(FINISHED),
            Some(error) => Arc::into_raw(error.into_shared()).map_addr(|address| address | FINISHED).cast_mut().cast(),
        }
    }
}

/// An entry in a list of successors. It lives in the successor's arguments, or in a box when a thread waits.
#[repr(C)]
pub struct Edge {
    next: AtomicPtr<Edge>,
    /// The successor's header; null: the edge is the first field of a [`WaitEdge`].
    successor: AtomicPtr<Header>,
    /// Of no size but under loom.
    watched: Watched,
}

/// The edge of a waiting thread.
#[repr(C)]
struct WaitEdge {
    edge: Edge,
    waker: Waker,
}

impl Edge {
    pub(crate) fn new() -> Self {
        Self { next: AtomicPtr::default(), successor: AtomicPtr::default(), watched: Watched::new() }
    }
}

type Accept = unsafe fn(NonNull<Header>, Option<Origin>) -> Option<Arc<dyn Lineage>>;
type SendAgain = unsafe fn(NonNull<Header>, u64, &mut Writer<'_>) -> Option<Result<(), WireError>>;
type TouchPlaces = unsafe fn(NonNull<Header>, &mut dyn FnMut(&mut dyn Touch));
type VisitUsed = unsafe fn(NonNull<Header>, &mut dyn FnMut(&Header));

/// Functions that know the types of the task.
struct VTable {
    /// Runs the body with the arguments; the task has been claimed by the caller.
    run: unsafe fn(NonNull<Header>) -> Option<TaskError>,
    /// Drops the body and the arguments; the task has been claimed by the caller.
    discard: unsafe fn(NonNull<Header>),
    /// Adds the predecessors that have not finished, if the task has not been claimed, which the caller prevents.
    unfinished: unsafe fn(NonNull<Header>, &mut Vec<TaskRef>),
    /// Shows the predecessors whose results are arguments, once for each argument; nobody else changes the body.
    visit_used: VisitUsed,
    /// Lets the accesses to places be changed, of a task that has not been claimed; nobody else looks at the body.
    touch: TouchPlaces,
    /// Says how much the arguments of a ready task are, none of which has failed; nobody else changes the body.
    survey: unsafe fn(NonNull<Header>, &mut Survey),
    /// Drops a value that will not be published; the task has been claimed by the caller, who has run it.
    drop_value: unsafe fn(NonNull<Header>),
    /// For tasks that no runtime runs: what is done when they become ready.
    step: Option<unsafe fn(NonNull<Header>) -> flat::Step>,
    /// Drops what is left and frees the memory.
    free: unsafe fn(NonNull<Header>),
    type_name: fn() -> &'static str,
    /// Whether the value may have buffers.
    has_blocks: bool,
    /// Whether it may, and no argument may.
    makes: bool,
    /// How another process runs the body; none: it stays in this one.
    travel: Option<Travel>,
    /// How a device does; none: it is no kernel's launch.
    launch: Option<LaunchTable>,
}

/// The functions that let a device run a kernel. All are for who has claimed the task and not run it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaunchTable {
    /// What the device has to do.
    plan: unsafe fn(NonNull<Header>) -> Result<Plan, Unplanned>,
    /// How much it works on, and what.
    survey: unsafe fn(NonNull<Header>) -> Survey,
    /// The error of an argument.
    failed: unsafe fn(NonNull<Header>) -> bool,
    /// Writes the value: the memory of the results.
    write: unsafe fn(NonNull<Header>, Vec<RawBuffer>),
    /// Takes it out again.
    withdraw: unsafe fn(NonNull<Header>) -> Box<dyn Any + Send>,
    /// Takes the body out. How the results are computed again, if that is to be kept.
    accept: Accept,
}

/// The functions that let another process run a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Travel {
    /// What the other process calls.
    pub(crate) body: CallBody,
    /// How the function is tried again. For who has claimed the task and not run it.
    retries: unsafe fn(NonNull<Header>) -> Option<Retrying<()>>,
    /// Whether all that the types of arguments and value are made of travels.
    parts: fn() -> bool,
    /// Writes the arguments. For the same.
    send: unsafe fn(NonNull<Header>, &mut Writer<'_>) -> Result<(), WireError>,
    /// Writes one of the arguments. For the same.
    send_again: SendAgain,
    /// The error of an argument. For the same.
    failed: unsafe fn(NonNull<Header>) -> bool,
    /// Reads what was changed in place. For the same.
    take_back: unsafe fn(NonNull<Header>, &mut Reader<'_>) -> Result<(), WireError>,
    /// Reads the value and what was changed in place, and takes the body out. For the same.
    accept: unsafe fn(NonNull<Header>, &mut Reader<'_>) -> Result<(), WireError>,
}

/// The whole record. `value` comes second, so that its place depends on `T` alone ([`Prefix`]).
#[repr(C)]
struct Record<F, P, T> {
    header: Header,
    value: UnsafeCell<MaybeUninit<T>>,
    body: UnsafeCell<MaybeUninit<(F, P)>>,
}

/// The beginning of a `Record<F, P, T>` for any `F` and `P`.
#[repr(C)]
struct Prefix<T> {
    header: Header,
    value: UnsafeCell<MaybeUninit<T>>,
}

/// A reference to a record of unknown type: of a queue, or of a thread that waits. Not counted as a user of the value.
#[derive(Debug)]
pub(crate) struct TaskRef(NonNull<Header>);

/// A user's reference to a record: in a handle or an argument. The last user may move the value out.
#[derive(Debug)]
pub(crate) struct UserRef(ManuallyDrop<TaskRef>);

// SAFETY: a record's parts are `Send` and `Sync` (`spawn` requires it of body, arguments and value), and its counters are atomic.
unsafe impl Send for TaskRef {}
// SAFETY: as for `Send`.
unsafe impl Sync for TaskRef {}

impl TaskRef {
    #[inline]
    fn add(&self, count: u64) -> Self {
        // Relaxed: the new reference is made from one that exists.
        let before = self.refs.fetch_add(count, Relaxed);
        if before as u32 >= u32::MAX / 2 {
            // Taken back: whoever catches the panic and tries again must not make the count overflow.
            self.refs.fetch_sub(count, Relaxed);
            panic!("a task has more than two thousand million references");
        }
        Self(self.0)
    }

    /// Takes `count` away from the references; frees the record when they were all.
    #[inline]
    fn release(&self, count: u64) {
        // Acquire: pairs with the Release below of whoever dropped his reference before. Nobody can add one: ours is the only one.
        if self.refs.load(Acquire) != count {
            // Release: what this thread did with the record happens before it is freed, or before the last user takes the value.
            if self.refs.fetch_sub(count, Release) != count {
                return;
            }
            fence(Acquire);
        }
        // SAFETY: the last reference is gone, so nobody else can reach the record; `free` belongs to its type.
        unsafe { (self.vtable.free)(self.0) }
    }
}

impl Clone for TaskRef {
    #[inline]
    fn clone(&self) -> Self {
        self.add(REFERENCE)
    }
}

impl Drop for TaskRef {
    #[inline]
    fn drop(&mut self) {
        self.release(REFERENCE);
    }
}

impl UserRef {
    /// The same, as a reference that does not count as a user.
    pub(crate) fn as_ref(&self) -> &TaskRef {
        &self.0
    }

    /// Whether no other user is left. Then nobody can become one, but through this reference.
    #[inline]
    fn is_last_user(&self) -> bool {
        // Acquire: pairs with the Release in `release`; whoever used the value before has finished with it.
        self.refs.load(Acquire) >> 32 == 1
    }
}

impl Clone for UserRef {
    #[inline]
    fn clone(&self) -> Self {
        Self(ManuallyDrop::new(self.0.add(USER)))
    }
}

impl UserRef {
    /// The task runs, whatever becomes of its handles.
    #[inline]
    pub(crate) fn keep(&self) {
        // A look costs less than the exchange, and tasks that write are marked from the start.
        if self.gate.load(Relaxed) & DETACHED == 0 {
            self.gate.fetch_or(DETACHED, Relaxed);
        }
    }

    /// Gives the reference up; the task runs all the same.
    #[inline]
    pub(crate) fn detach(self) {
        // The only user: nobody can drop the last handle later, so nobody has to be told.
        if !self.is_last_user() {
            self.gate.fetch_or(DETACHED, Relaxed);
        }
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so the reference is given up once, in the next line.
        let reference = unsafe { ManuallyDrop::take(&mut this.0) };
        ManuallyDrop::new(reference).release(USER);
    }
}

impl Drop for UserRef {
    #[inline]
    fn drop(&mut self) {
        // Relaxed: once claimed, always claimed; and a task that is claimed meanwhile is looked at again.
        if self.gate.load(Relaxed) & (CLAIMED | DETACHED) != 0 {
            // Acquire: as in `is_last_user`.
            let refs = self.refs.load(Acquire);
            if refs >> 32 == 1 && refs != USER && self.vtable.has_blocks {
                self.drop_blocks();
            }
            // The field does not drop itself, so the two halves go in one step.
            self.0.release(USER);
        } else {
            self.drop_unclaimed();
        }
    }
}

impl UserRef {
    /// The last user of buffers goes, and something else keeps the record, maybe for long: an entry in a queue, of a task that a waiting thread has run. The buffers go now.
    #[cold]
    fn drop_blocks(&self) {
        if self.is_finished() && self.has_value() && !self.is_forwarded() {
            // SAFETY: the value was written before the outcome was published, and the only user, who may take it (README, rule 4), is this one.
            unsafe { (self.vtable.drop_value)(self.0.0) };
        }
    }

    /// Drops a reference to a task that has not begun; the last one takes the task with it.
    fn drop_unclaimed(&self) {
        // One of several is given up in one step that the others cannot overtake.
        let mut refs = self.refs.load(Relaxed);
        while refs >> 32 > 1 {
            // Release: as in `release`. It is not the last reference, so nothing is freed.
            match self.refs.compare_exchange_weak(refs, refs - USER, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => refs = now,
            }
        }
        // One step less than it looks: a reference that is no user's is left for the rest of this function. AcqRel: as in `release`; whoever
        // detached the task is seen to have done so.
        if self.refs.fetch_sub(USER - REFERENCE, AcqRel) >> 32 == 1 {
            self.0.abandon();
        }
        self.0.release(REFERENCE);
    }
}

impl std::ops::Deref for UserRef {
    type Target = Header;

    #[inline]
    fn deref(&self) -> &Header {
        &self.0
    }
}

impl std::ops::Deref for TaskRef {
    type Target = Header;

    fn deref(&self) -> &Header {
        // SAFETY: the reference keeps the record alive, and a header is only changed through atomics and by protocol (README).
        let header = unsafe { self.0.as_ref() };
        header.watched.look();
        header
    }
}

/// Who cancels a task.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Canceller {
    User,
    /// Whoever dropped the last handle.
    LastHandle,
    Timer,
}

/// What came of trying to claim a task.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is the caller's: run it or fail it.
    Won,
    /// It waits for predecessors.
    Waiting,
    /// Somebody else has it, or it has finished.
    Lost,
}

/// What finishing a task set free.
pub(crate) enum Released {
    /// A successor whose last predecessor this was, with the reference that the runtime holds of it.
    Ready(Entry),
    /// Somebody who waits.
    Waiter(Waker),
}

impl Header {
    /// Whether the task has a value or an error.
    #[inline]
    pub(crate) fn is_finished(&self) -> bool {
        // Acquire: pairs with the exchange in `publish`, so that the outcome is seen.
        self.successors.load(Acquire).addr() & FINISHED != 0
    }

    /// Whether the task has a value.
    #[inline]
    fn has_value(&self) -> bool {
        // Acquire: pairs with the exchange in `publish`, so that the value is seen.
        self.successors.load(Acquire).addr() == FINISHED
    }

    /// Its error, if it has finished with one.
    #[inline]
    pub(crate) fn failure(&self) -> Option<TaskError> {
        // Acquire: pairs with the exchange in `publish`, so that the error is seen.
        match Word::of(self.successors.load(Acquire)) {
            Word::Failed(error) => {
                // SAFETY: the address came from `Arc::into_raw`, and the record owns one count until it is freed.
                unsafe { Arc::increment_strong_count(error) };
                // SAFETY: the count was incremented for this `Arc`.
                Some(TaskError::of(unsafe { Arc::from_raw(error) }))
            }
            _ => None,
        }
    }

    /// Whether its body is to be begun at most once.
    pub(crate) fn is_once(&self) -> bool {
        self.options.as_ref().is_some_and(|options| options.once == Some(true))
    }

    /// Whether its value is another record's. Once it has a value.
    fn is_forwarded(&self) -> bool {
        // Relaxed: noted before the outcome was published, which the caller has seen.
        self.parts.load(Relaxed) & FORWARDED != 0
    }

    /// Notes that a part has been put in or taken out; for the one who may do that (README, rules 2 and 4).
    #[inline]
    fn note(&self, part: u8) {
        self.parts.store(self.parts.load(Relaxed) | part, Relaxed);
    }

    /// Whether somebody wants the task to stop, or not to begin.
    pub(crate) fn is_cancelled(&self) -> bool {
        // Relaxed: nothing else is learned from it.
        self.gate.load(Relaxed) & CANCELLED != 0
    }

    /// Whether it makes buffers, and takes none that could go in exchange.
    pub(crate) fn makes_memory(&self) -> bool {
        self.vtable.makes
    }

    /// Whether it has been put aside for others.
    pub(crate) fn was_aside(&self) -> bool {
        self.parts.load(Relaxed) & ASIDE != 0
    }

    /// Notes that it has been. For who has claimed it, and is about to give that up.
    pub(crate) fn note_aside(&self) {
        self.note(ASIDE);
    }

    /// What it belongs to.
    pub(crate) fn bonds(&self) -> &[Bond] {
        self.options().map_or(&[], |options| &options.ties.bonds)
    }

    /// Whether something that the task belongs to has been cancelled, and will come to the task.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.bonds().iter().any(|bond| bond.members.is_cancelled_itself())
    }

    /// The runtime's count of "cancel everything" when the task was spawned.
    #[inline]
    pub(crate) fn epoch(&self) -> u16 {
        self.epoch
    }

    #[inline]
    pub(crate) fn priority(&self) -> Priority {
        self.priority
    }

    /// What looks at its body, in a region that is checked.
    #[inline]
    pub(crate) fn witness(&self) -> Option<&Witness> {
        self.options.as_deref().and_then(|options| options.ties.witness.as_deref())
    }

    #[inline]
    pub(crate) fn options(&self) -> Option<&TaskOptions> {
        self.options.as_deref()
    }

    /// The processors that may run it; nothing when all may.
    #[inline]
    pub(crate) fn domain(&self) -> Option<Arc<Domain>> {
        self.options.as_ref().and_then(|options| options.ties.domain.upgrade())
    }

    #[inline]
    pub(crate) fn runtime(&self) -> *const Shared {
        self.runtime
    }

    /// Notes which thread is about to run it.
    #[inline]
    pub(crate) fn set_runner(&self, runner: usize) {
        self.runner.store(runner, Relaxed);
    }

    /// Which thread is in the middle of it, as far as this thread knows.
    pub(crate) fn runner(&self) -> Option<usize> {
        let runner = self.runner.load(Relaxed);
        (runner != 0 && !self.is_finished()).then_some(runner)
    }

    /// The number under which other processes know its value, if they do. For who uses the value.
    pub(crate) fn value_number(&self) -> Option<u64> {
        let number = self.runner.load(Relaxed);
        (number % 2 == 1).then_some(number as u64)
    }

    /// Gives the value of a task that has finished the number `number`, which is odd, unless it has one; the number that it has. For who uses the value.
    pub(crate) fn give_value_number(&self, number: u64) -> u64 {
        debug_assert!(self.is_finished() && number % 2 == 1, "numbers are told from addresses, which nobody needs any more");
        let runner = self.runner.load(Relaxed);
        // Relaxed: the number is all that there is to it.
        let given = if runner % 2 == 1 { Err(runner) } else { self.runner.compare_exchange(runner, number as usize, Relaxed, Relaxed) };
        match given {
            Ok(_) => number,
            Err(other) => other as u64,
        }
    }

    /// Whether it has more than one user, at this moment.
    pub(crate) fn has_several_users(&self) -> bool {
        self.refs.load(Relaxed) >> 32 > 1
    }

    /// Whether the thread with this context is in the middle of it. Relaxed is enough: what a thread noted itself it sees, and no
    /// other thread notes its context.
    pub(crate) fn is_run_by(&self, runner: usize) -> bool {
        self.runner.load(Relaxed) == runner && !self.is_finished()
    }

    /// Tells its function from others, while the program runs.
    pub(crate) fn code(&self) -> u64 {
        std::ptr::from_ref(self.vtable).addr() as u64
    }

    /// The name of its function's type.
    pub(crate) fn type_name(&self) -> &'static str {
        (self.vtable.type_name)()
    }

    /// The name given by the user, or the function's.
    pub(crate) fn name(&self) -> TaskName {
        let name = match self.options().and_then(|options| options.name.as_ref()) {
            Some(name) => name.clone(),
            None => function_name((self.vtable.type_name)()),
        };
        TaskName { name, location: self.location }
    }

    /// Makes an error of this task.
    pub(crate) fn error(&self, kind: FailureKind) -> TaskError {
        TaskError::new(self.name(), kind)
    }

    /// Notes how often its function has been called, if it is one that may be tried again.
    pub(crate) fn note_attempts(&self, attempts: u32) {
        if let Some(noted) = self.options().and_then(|options| options.ties.attempts.as_ref()) {
            // Relaxed: for messages.
            noted.store(attempts, Relaxed);
        }
    }

    /// How often its function has been called: once, unless it is tried again. For a task that has begun.
    fn attempts(&self) -> u32 {
        self.options().and_then(|options| options.ties.attempts.as_ref()).map_or(1, |noted| noted.load(Relaxed))
    }

    /// Makes an error of this task, which has begun.
    pub(crate) fn error_of_begun(&self, kind: FailureKind) -> TaskError {
        TaskError::of_begun(self.name(), kind, self.attempts())
    }

    /// Whether all predecessors have finished. True for ever once true, but for tasks that no runtime runs: those may find another one.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.gate.load(Acquire) & COUNT == 0
    }

    /// How many predecessors have not counted it down; one more while it is held.
    pub(crate) fn unmet_count(&self) -> usize {
        (self.gate.load(Acquire) & COUNT) as usize
    }

    /// So many predecessors less; true for the last one.
    #[inline]
    fn count_down(&self, by: u32) -> bool {
        self.watched.look();
        // AcqRel: Release hands on what the predecessor wrote, Acquire (for the last one) takes what all of them wrote.
        self.gate.fetch_sub(by, AcqRel) & COUNT == by
    }

    /// Adds `edge` to the list; false when the task has finished.
    ///
    /// # Safety
    /// The edge is not in a list, and stays where it is until `publish` of this task has taken it out.
    #[inline]
    unsafe fn add_edge(&self, edge: &Edge) -> bool {
        let mut head = self.successors.load(Acquire);
        loop {
            if head.addr() & FINISHED != 0 {
                return false;
            }
            edge.watched.look();
            edge.next.store(head, Relaxed);
            // Release: the edge's fields are written before it can be found. Acquire on failure: the outcome is seen when the task has finished.
            match self.successors.compare_exchange_weak(head, (&raw const *edge).cast_mut(), Release, Acquire) {
                Ok(_) => return true,
                Err(now) => head = now,
            }
        }
    }

    /// Has `waker` told when the task finishes; false when it has finished already.
    pub(crate) fn add_waiter(&self, waker: &Waker) -> bool {
        let boxed = Box::into_raw(Box::new(WaitEdge { edge: Edge::new(), waker: waker.clone() }));
        // SAFETY: `boxed` is live: it was made above and is freed by `publish`, or below.
        let edge = unsafe { &(*boxed).edge };
        // SAFETY: the edge is new, and its box stays until `publish` frees it.
        let added = unsafe { self.add_edge(edge) };
        if !added {
            // SAFETY: the box was made above and was not put into the list.
            drop(unsafe { Box::from_raw(boxed) });
        }
        added
    }
}

impl TaskRef {
    /// Another reference to the record of `header`.
    pub(crate) fn of(header: &Header) -> Self {
        header.refs.fetch_add(REFERENCE, Relaxed);
        Self(NonNull::from(header))
    }

    /// Whether somebody has the right to run or fail the task, or had it. True for ever once true.
    #[inline]
    pub(crate) fn is_claimed(&self) -> bool {
        self.gate.load(Relaxed) & CLAIMED != 0
    }

    /// Tries to get the right to run or fail the task.
    #[inline]
    pub(crate) fn try_claim(&self) -> Claim {
        loop {
            // With the only reference nobody can compete, and a store is cheaper than an exchange. Looked at before the gate: somebody who claimed the
            // task, or cancelled it, and then gave his reference up, is seen to have done so. Acquire: pairs with the Release in `release`.
            let alone = self.refs.load(Acquire) == REFERENCE;
            // Acquire: pairs with the last `count_down`, so that the predecessors' outcomes are seen.
            let gate = self.gate.load(Acquire);
            if gate & CLAIMED != 0 {
                return Claim::Lost;
            }
            if gate & COUNT != 0 {
                return Claim::Waiting;
            }
            if gate & INSPECTED != 0 {
                spin_loop();
                continue;
            }
            if alone {
                self.gate.store(gate | CLAIMED, Relaxed);
                return Claim::Won;
            }
            if self.gate.compare_exchange_weak(gate, gate | CLAIMED, Acquire, Relaxed).is_ok() {
                return Claim::Won;
            }
        }
    }

    /// Claims a ready task whose only handle the caller has, and nobody can borrow, and whose entry he has taken out of a queue: then nobody else can
    /// reach the record, and no exchange is needed, here and at its end.
    #[inline]
    pub(crate) fn try_claim_alone(&self) -> bool {
        // Acquire: pairs with the Release in `release` of whoever had a reference before.
        let alone = self.refs.load(Acquire) == USER + REFERENCE && self.successors.load(Relaxed).is_null();
        let gate = self.gate.load(Acquire);
        let claimable = alone && gate & (CLAIMED | INSPECTED | COUNT) == 0;
        if claimable {
            self.gate.store(gate | CLAIMED, Relaxed);
        }
        claimable
    }

    /// Ends a task that `try_claim_alone` claimed, and gives up the reference of the entry. Gives both back when somebody has come to know the record
    /// meanwhile: the task itself, by way of what it waited for.
    #[inline]
    pub(crate) fn end_alone(self, failure: Option<TaskError>) -> Result<(), (Self, Option<TaskError>)> {
        if self.refs.load(Acquire) != USER + REFERENCE || !self.successors.load(Relaxed).is_null() {
            return Err((self, failure));
        }
        self.successors.store(Word::of_outcome(failure), Relaxed);
        self.refs.store(USER, Relaxed);
        std::mem::forget(self);
        Ok(())
    }

    /// Makes the task end without a value: at once for whoever waits for it. One that has not begun never will; the body of one that runs can
    /// see that it is to stop, and its value is dropped. False when it has finished already.
    pub(crate) fn cancel(&self, kind: FailureKind) -> bool {
        self.cancel_for(kind, Canceller::User, &mut Vec::new())
    }

    /// Cancels a task for the timer, whose thread runs no code of users: arguments of a task that has not begun are dropped by whoever
    /// finds it in a queue.
    pub(crate) fn expire(&self) -> bool {
        self.cancel_for(FailureKind::DeadlineExceeded, Canceller::Timer, &mut Vec::new())
    }

    /// Cancels a task whose last handle was dropped, if it has not begun and nobody has detached it; then those that nobody but it had a use for, and so on.
    fn abandon(&self) {
        let mut unneeded = Vec::new();
        self.cancel_for(FailureKind::Unneeded, Canceller::LastHandle, &mut unneeded);
        // One after the other, as chains have any length.
        while let Some(task) = unneeded.pop() {
            task.cancel_for(FailureKind::Unneeded, Canceller::LastHandle, &mut unneeded);
        }
    }

    /// Adds the tasks that lose their last user with this one.
    fn cancel_for(&self, kind: FailureKind, canceller: Canceller, unneeded: &mut Vec<Self>) -> bool {
        let mut first = false;
        let mut gives_up = false;
        let mut begun = false;
        loop {
            if self.is_finished() {
                return false;
            }
            let gate = self.gate.load(Acquire);
            if canceller == Canceller::LastHandle && gate & (CLAIMED | DETACHED) != 0 {
                return false;
            }
            let expired = if canceller == Canceller::Timer { EXPIRED } else { 0 };
            if gate & CLAIMED != 0 {
                if gate & HOLDS != 0 && gate & (CANCELLED | ENDED) != 0 {
                    // Somebody else was first, or who ran it has looked for the last time.
                    return false;
                }
                if gate & CANCELLED != 0 {
                    begun = gate & OWED == 0;
                    break;
                }
                // The first one says why it is to stop, and whoever sees the flag relies on that.
                if self.gate.compare_exchange_weak(gate, gate | CANCELLED | expired, Relaxed, Relaxed).is_err() {
                    continue;
                }
                if gate & HOLDS != 0 {
                    // Who runs it will see the flag, and publish; at once if the body pauses.
                    crate::timer::hurry();
                    return true;
                }
                (first, begun) = (true, true);
                break;
            }
            if gate & INSPECTED != 0 {
                spin_loop();
                continue;
            }
            if gate & (HOLDS | CANCELLED) == HOLDS | CANCELLED {
                return false;
            }
            if gate & HOLDS != 0 && gate & COUNT != 0 {
                // Those that come after it rely on those before it being over as well. Who gets to run it will see the flag.
                if self.gate.compare_exchange_weak(gate, gate | CANCELLED | expired, Acquire, Relaxed).is_ok() {
                    return true;
                }
                continue;
            }
            let waits = gate & COUNT != 0;
            // Deep inside the freeing of others, too: what the body holds may be the last handle of one more.
            let keep = waits || canceller == Canceller::Timer || nested::is_deep();
            let claimed = gate | CLAIMED | CANCELLED | OWED | if keep { KEPT } else { 0 };
            gives_up = waits && canceller == Canceller::LastHandle;
            // One more than it waits for: nobody gets the body while this thread looks at it, below.
            if self.gate.compare_exchange_weak(gate, claimed + u32::from(gives_up), Acquire, Relaxed).is_ok() {
                if !keep {
                    // SAFETY: the claim gives this thread the body, and as nothing is waited for, no edge of it is in a list.
                    unsafe { self.discard() };
                }
                break;
            }
        }
        let error = if begun { self.error_of_begun(kind) } else { self.error(kind) };
        let published = self.publish(Some(error), Shared::release_elsewhere);
        if published {
            self.settle_bonds();
        }
        if gives_up {
            // SAFETY: this thread has claimed the task, and the count is one higher than it would be, until the next line.
            unsafe { self.give_up(unneeded) };
            drop(self.release_hold());
        }
        // Or the body has seen the flag, and who ran it was faster.
        let told = || self.failure().is_some_and(|error| matches!(error.kind(), FailureKind::Cancelled | FailureKind::DeadlineExceeded));
        published || first && told()
    }

    /// Makes the arguments of a task that will not be run users of nothing, although they stay where they are; adds the tasks that have lost their last user.
    ///
    /// # Safety
    /// The caller has claimed the task, and nobody gets the body before he counts down.
    unsafe fn give_up(&self, unneeded: &mut Vec<Self>) {
        self.note(GIVEN_UP);
        let mut look = |used: &Header| {
            // AcqRel: as in `drop_unclaimed`. The reference that is left is the body's.
            if used.refs.fetch_sub(USER - REFERENCE, AcqRel) >> 32 == 1 {
                unneeded.push(Self::of(used));
            }
        };
        // SAFETY: as the caller says.
        unsafe { (self.vtable.visit_used)(self.0, &mut look) };
    }

    /// Tells those that the task belongs to that its outcome is known.
    pub(crate) fn settle_bonds(&self) {
        self.bonds().iter().for_each(Bond::settle);
    }

    /// Lets it run although no handle is left.
    pub(crate) fn require(&self) {
        self.gate.fetch_or(DETACHED, Relaxed);
    }

    /// One thing less that a held task waits for; its entry, with the runtime's reference, when that was the last.
    pub(crate) fn release_hold(&self) -> Option<Entry> {
        self.count_down(1).then(|| Entry::task(Self(self.0)))
    }

    /// Drops the body, and forgets what the task comes after.
    ///
    /// # Safety
    /// The caller has claimed the task and not run it, or gets the body from whoever did; no edge of it is in a list.
    unsafe fn discard(&self) {
        if let Some(options) = self.options() {
            options.ties.drop_after();
        }
        // Relaxed: noted before the count-down that gave the caller the body.
        if self.parts.load(Relaxed) & GIVEN_UP != 0 {
            // The arguments drop themselves as users, who do not look at the results any more. Each of those tasks has finished, so that it has no other user is of no
            // consequence; that it has one more for a moment makes another user clone the result in place of moving it.
            let mut look = |used: &Header| {
                used.refs.fetch_add(USER - REFERENCE, Relaxed);
            };
            // SAFETY: as the caller says.
            unsafe { (self.vtable.visit_used)(self.0, &mut look) };
        }
        // SAFETY: as the caller says.
        unsafe { (self.vtable.discard)(self.0) };
    }

    /// For whoever has taken the task's entry out of a queue and cannot run it: if it was cancelled, drops what the canceller left.
    /// Whether the task has to be counted as finished.
    pub(crate) fn bury(&self) -> bool {
        // Acquire: whoever made the task ready counted down after its predecessors had published, and `discard` lets go of their values.
        let gate = self.gate.load(Acquire);
        if gate & KEPT != 0 {
            // SAFETY: the canceller left the body to whoever gets the runtime's reference, which is the caller; all predecessors
            // have published, so no edge of it is in a list.
            unsafe { self.discard() };
        }
        gate & OWED != 0 && !self.runtime.is_null()
    }

    /// Drops the value of a task that this thread ran and could not publish: somebody cancelled it meanwhile.
    #[cold]
    pub(crate) fn drop_value(&self) {
        // SAFETY: the claimer writes the value and nobody reads it, since the outcome is an error.
        unsafe { (self.vtable.drop_value)(self.0) };
    }

    /// Sets `INSPECTED`; false when somebody has claimed the task.
    fn inspect(&self) -> bool {
        loop {
            let gate = self.gate.load(Acquire);
            if gate & CLAIMED != 0 {
                return false;
            }
            if gate & INSPECTED != 0 {
                spin_loop();
                continue;
            }
            if self.gate.compare_exchange_weak(gate, gate | INSPECTED, Acquire, Relaxed).is_ok() {
                return true;
            }
        }
    }

    /// Adds the predecessors that have not finished, in the order of the arguments, if nobody has claimed the task yet. Whether there were any.
    pub(crate) fn unfinished_predecessors(&self, into: &mut Vec<Self>) -> bool {
        if !self.inspect() {
            return false;
        }
        let before = into.len();
        // SAFETY: the `INSPECTED` bit keeps everybody from claiming the task, so its arguments stay (README, rule 3).
        unsafe { (self.vtable.unfinished)(self.0, into) };
        if let Some(options) = self.options() {
            options.ties.with_after(|order| {
                if !order.task.is_finished() {
                    into.push(order.task.clone());
                }
            });
        }
        self.gate.fetch_and(!INSPECTED, Release);
        into.len() > before
    }

    /// Lets the accesses to places of a task that was made held (`create_held`) and is held be changed.
    pub(crate) fn touch_held(&self, visit: &mut dyn FnMut(&mut dyn Touch)) {
        let is_there = self.inspect();
        debug_assert!(is_there && self.gate.load(Relaxed) & COUNT != 0, "a task that is held is claimed by nobody");
        // SAFETY: the task is held, so its body is there, and the `INSPECTED` bit keeps everybody else from it (README, "Order, holds and bonds").
        unsafe { (self.vtable.touch)(self.0, visit) };
        self.gate.fetch_and(!INSPECTED, Release);
    }

    /// Has a task that was made held wait for what its accesses to places wait for by now; it is held until it is closed. The caller has a reference besides the runtime's, which he gives up by
    /// this.
    pub(crate) fn link_held(&self) -> Open {
        let mut count = 0;
        self.touch_held(&mut |touch| touch.visit_edges(&mut |_, _| count += 1));
        // The one that holds it is not counted down before the end. Relaxed: those who count down have edges that are added below.
        self.gate.fetch_add(count, Relaxed);
        let mut counted = 1;
        self.touch_held(&mut |touch| {
            touch.visit_edges(&mut |predecessor, edge| {
                edge.successor.store(self.0.as_ptr(), Relaxed);
                // SAFETY: the edge is new, and the arguments stay in the record until the task is claimed, which needs all predecessors to be published.
                if !unsafe { predecessor.add_edge(edge) } {
                    counted += 1;
                }
            });
        });
        Open { header: self.0, references: 0, counted }
    }

    /// Claims a task that was made held and waits for nothing else. In one step: in between somebody who waits for it could take it.
    pub(crate) fn claim_held(&self) {
        loop {
            let gate = self.gate.load(Acquire);
            debug_assert!(gate & CLAIMED == 0 && gate & COUNT == 1, "a task that is held waits for its holder alone");
            if gate & INSPECTED != 0 {
                spin_loop();
                continue;
            }
            // Acquire: pairs with `count_down` of those whose results it takes.
            if self.gate.compare_exchange_weak(gate, (gate - 1) | CLAIMED, Acquire, Relaxed).is_ok() {
                return;
            }
        }
    }

    /// As `publish`, for a task of whose reference others may make some meanwhile.
    pub(crate) fn publish_known(&self, failure: Option<TaskError>, release: impl FnMut(Released)) -> bool {
        self.publish_shared(failure, release)
    }

    /// As `fail_claimed`, for a task that depends on one with this error.
    pub(crate) fn fail_dependent(&self, error: &TaskError) -> TaskError {
        // SAFETY: the claim gives this thread the body and the arguments, once (README, rule 2).
        unsafe { self.discard() };
        error.dependent(self.name())
    }

    /// Runs the body. Gives its error, which `publish` then makes known; the value is in the record. Never unwinds.
    ///
    /// The caller has won the claim, has let the task forget what it comes after, and calls `publish` next.
    #[inline]
    pub(crate) fn run_claimed(&self) -> Option<TaskError> {
        debug_assert!(self.gate.load(Relaxed) & CLAIMED != 0, "a task is run by whoever claimed it");
        let holds = self.gate.load(Relaxed) & HOLDS != 0;
        if holds && let Some(kind) = stopped(self.gate.load(Relaxed)) {
            return Some(self.fail_claimed(kind));
        }
        // SAFETY: the claim gives this thread the body and the arguments, once (README, rule 2).
        let failure = unsafe { (self.vtable.run)(self.0) };
        self.end_body(holds, failure)
    }

    /// What the body comes to when it is over. One that returns because it was told to stop must not have its own outcome published before whoever told it
    /// has published the error.
    #[inline]
    fn end_body(&self, holds: bool, failure: Option<TaskError>) -> Option<TaskError> {
        let gate = if holds { self.gate.fetch_or(ENDED, Relaxed) } else { self.gate.load(Relaxed) };
        if let Some(kind) = stopped(gate) {
            self.drop_value();
            // What the body returned in its place is a user's value.
            dropped_quietly(failure);
            return Some(self.error_of_begun(kind));
        }
        failure
    }

    /// Gives up a claim, so that somebody else can win it. False when the task is to stop: then it is ended by whoever claimed it.
    ///
    /// The caller has claimed it and not run it, and puts the reference that it has into a queue next.
    pub(crate) fn unclaim(&self) -> bool {
        let unclaimed = |gate| (gate & (CANCELLED | EXPIRED) == 0).then_some(gate & !CLAIMED);
        // Release: pairs with the Acquire in `try_claim`, which finds the arguments as they are now.
        self.gate.fetch_update(Release, Relaxed, unclaimed).is_ok()
    }

    /// Whether it begins whatever its group says; drops then what it waited for by `after`. The caller has claimed it.
    pub(crate) fn begins(&self) -> bool {
        let Some(options) = self.options() else { return true };
        if self.is_withdrawn() {
            return false;
        }
        options.ties.drop_after();
        true
    }

    /// How a device runs it, if it is a kernel's launch.
    pub(crate) fn launch(&self) -> Option<LaunchTable> {
        self.vtable.launch
    }

    /// What there is to know about it, if it is a kernel's launch.
    pub(crate) fn launch_ties(&self) -> Option<&LaunchTies> {
        self.options().and_then(|options| options.ties.launch.as_deref())
    }

    /// Whether an argument has failed. The caller has claimed the task and not run it.
    pub(crate) fn has_failed_argument(&self, launch: &LaunchTable) -> bool {
        // SAFETY: `launch` is this record's, and the caller has claimed the task and not run it.
        unsafe { (launch.failed)(self.0) }
    }

    /// What a device has to do. The caller has claimed the task and not run it.
    pub(crate) fn plan(&self, launch: &LaunchTable) -> Result<Plan, Unplanned> {
        // SAFETY: as in `has_failed_argument`.
        unsafe { (launch.plan)(self.0) }
    }

    /// How much a launch works on, and what. The caller has claimed the task and not run it.
    pub(crate) fn survey(&self, launch: &LaunchTable) -> Survey {
        // SAFETY: as in `has_failed_argument`.
        unsafe { (launch.survey)(self.0) }
    }

    /// How much the arguments are of a task that is ready, if nobody has claimed it. Nobody can meanwhile.
    pub(crate) fn survey_ready(&self) -> Option<Survey> {
        if !self.inspect() {
            return None;
        }
        // SAFETY: the `INSPECTED` bit keeps everybody from claiming the task, so its arguments stay (README, rule 3).
        let survey = unsafe { self.survey_arguments() };
        self.gate.fetch_and(!INSPECTED, Release);
        Some(survey)
    }

    /// How much a task works on, be it a function or a launch. The caller has claimed it and not run it.
    pub(crate) fn survey_claimed(&self) -> Survey {
        match self.launch() {
            Some(launch) if self.has_failed_argument(&launch) => Survey::default(),
            Some(launch) => self.survey(&launch),
            // SAFETY: the caller has claimed the task and not run it.
            None => unsafe { self.survey_arguments() },
        }
    }

    /// # Safety
    /// The task is ready, its body is there, and nobody else takes it or changes it during the call.
    unsafe fn survey_arguments(&self) -> Survey {
        let mut survey = Survey::default();
        // SAFETY: as the caller says.
        unsafe { (self.vtable.survey)(self.0, &mut survey) };
        survey
    }

    /// Writes the memory of the results that a device is to make, as the value; the task has not finished with that. The caller has claimed it and not run it.
    pub(crate) fn write_outputs(&self, launch: &LaunchTable, outputs: Vec<RawBuffer>) {
        // SAFETY: as in `has_failed_argument`.
        unsafe { (launch.write)(self.0, outputs) }
    }

    /// Takes it out again. The caller has written it, and knows that nobody reads it.
    pub(crate) fn withdraw_outputs(&self, launch: &LaunchTable) -> Box<dyn Any + Send> {
        // SAFETY: the caller has written the value, and the task has not finished.
        unsafe { (launch.withdraw)(self.0) }
    }

    /// Takes the body of a task that a device has run, whose results are the value; it then counts as run, and `end_launched` comes next. With `origin`, how they are
    /// computed again.
    pub(crate) fn accept_outputs(&self, launch: &LaunchTable, origin: Option<Origin>) -> Option<Arc<dyn Lineage>> {
        // SAFETY: as in `has_failed_argument`.
        unsafe { (launch.accept)(self.0, origin) }
    }

    /// Claims a task that still waits, for a device that will have done before it what it waits for. Its body is not taken out before those have finished.
    pub(crate) fn claim_ahead(&self) -> bool {
        loop {
            let gate = self.gate.load(Acquire);
            if gate & (CLAIMED | CANCELLED) != 0 || gate & COUNT == 0 {
                return false;
            }
            // Of one that has been claimed the same bit says something else.
            if gate & INSPECTED != 0 {
                spin_loop();
                continue;
            }
            if self.gate.compare_exchange_weak(gate, gate | CLAIMED, Acquire, Relaxed).is_ok() {
                return true;
            }
        }
    }

    /// Gives up such a claim. Whoever makes the task ready has its entry, or had it and left it to the caller.
    pub(crate) fn give_back_ahead(&self) {
        // Release: as in `unclaim`.
        self.gate.fetch_and(!CLAIMED, Release);
    }

    /// Those that wait for the task just now. The caller has claimed it and does not publish it meanwhile.
    pub(crate) fn waiting_successors(&self) -> Vec<Self> {
        // For as long as the bit is set, a canceller leaves it to the caller to publish the task. One that was there before has set its own.
        let gate = self.gate.fetch_or(HOLDS, Acquire);
        let mut successors = Vec::new();
        if gate & (CANCELLED | HOLDS) == 0 || gate & (HOLDS | CLAIMED | CANCELLED) == HOLDS | CLAIMED {
            let mut edge = match Word::of(self.successors.load(Acquire)) {
                Word::Edges(edges) => NonNull::new(edges),
                _ => None,
            };
            while let Some(current) = edge {
                // SAFETY: an edge in the list lives until it is taken out, by `publish`, which nobody calls meanwhile.
                let fields = unsafe { current.as_ref() };
                fields.watched.look();
                if let Some(successor) = NonNull::new(fields.successor.load(Relaxed)) {
                    // SAFETY: as in `publish_shared`: it waits for this task.
                    successors.push(Self::of(unsafe { successor.as_ref() }));
                }
                edge = NonNull::new(fields.next.load(Relaxed));
            }
        }
        if gate & HOLDS == 0 {
            self.gate.fetch_and(!HOLDS, Release);
        }
        successors
    }

    /// The number of the record, to tell it from others as long as there is a reference.
    pub(crate) fn number(&self) -> usize {
        self.0.addr().get()
    }

    /// Where it was spawned.
    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.location
    }

    /// Ends a task that a device has run. Why it has no value all the same, if somebody wanted it to stop meanwhile: then the caller withdraws what it has written. From
    /// here on nobody but the caller publishes it, or somebody has begun to before.
    pub(crate) fn end_launched(&self) -> Option<FailureKind> {
        stopped(self.gate.fetch_or(HOLDS | ENDED, Relaxed))
    }

    /// Whether its types travel, whatever its arguments are.
    #[inline]
    pub(crate) fn has_travel(&self) -> bool {
        self.vtable.travel.is_some() && self.witness().is_none()
    }

    /// How another process runs the body, if it can: it travels, and no argument has failed. The caller has claimed the task and not run it.
    pub(crate) fn travel(&self) -> Option<Travel> {
        let travel = self.vtable.travel.filter(|_| self.witness().is_none())?;
        // SAFETY: the caller has claimed the task and not run it.
        let has_failed = unsafe { (travel.failed)(self.0) };
        (!has_failed && (travel.parts)()).then_some(travel)
    }

    /// How its function is tried again, if it is. The caller has claimed the task and not run it.
    pub(crate) fn retries(&self, travel: &Travel) -> Option<Retrying<()>> {
        // SAFETY: `travel` is this record's, and the caller has claimed the task and not run it.
        unsafe { (travel.retries)(self.0) }
    }

    /// Writes the arguments for another process. The caller has claimed the task and not run it.
    pub(crate) fn send(&self, travel: &Travel, writer: &mut Writer<'_>) -> Result<(), WireError> {
        // SAFETY: `travel` is this record's, and the caller has claimed the task and not run it.
        crate::wire::caught(|| unsafe { (travel.send)(self.0, writer) })
    }

    /// Reads what another process has changed in place before it failed. The caller has claimed the task and not run it.
    pub(crate) fn take_back(&self, travel: &Travel, reader: &mut Reader<'_>) -> Result<(), WireError> {
        // SAFETY: as in `send`.
        crate::wire::caught(|| unsafe { (travel.take_back)(self.0, reader) })
    }

    /// Writes the value among the arguments that has a number, if one has it. The caller has claimed the task and not run it.
    pub(crate) fn send_again(&self, travel: &Travel, number: u64, writer: &mut Writer<'_>) -> Option<Result<(), WireError>> {
        // SAFETY: as in `send`.
        unsafe { (travel.send_again)(self.0, number, writer) }
    }

    /// Reads the value that another process has sent, and what it has changed in place; the task then counts as run, and `end_claimed` comes next. The caller has
    /// claimed the task and not run it.
    pub(crate) fn accept(&self, travel: &Travel, reader: &mut Reader<'_>) -> Result<(), WireError> {
        // SAFETY: as in `send`.
        crate::wire::caught(|| unsafe { (travel.accept)(self.0, reader) })
    }

    /// The error of a task that another process has run, or failed to: what `run_claimed` gives. Without a failure its value has been accepted.
    pub(crate) fn end_claimed(&self, failure: Option<FailureKind>) -> Option<TaskError> {
        let holds = self.gate.load(Relaxed) & HOLDS != 0;
        if failure.is_none() {
            // Before the outcome is known, as in `run`: whoever is woken by it may count on being the arguments' last user.
            // SAFETY: the claim gives this thread the body and the arguments, once (README, rule 2).
            unsafe { self.discard() };
        }
        let failure = failure.map(|kind| match kind {
            FailureKind::Returned(_) | FailureKind::Panicked(_) => {
                // SAFETY: the claim gives this thread the body and the arguments, once (README, rule 2).
                unsafe { self.discard() };
                self.error_of_begun(kind)
            }
            kind => self.fail_claimed(kind),
        });
        self.end_body(holds, failure)
    }

    /// Why somebody wants a task that has been claimed to stop.
    pub(crate) fn stopped(&self) -> Option<FailureKind> {
        stopped(self.gate.load(Relaxed))
    }

    /// Drops the body, and makes the error that `publish` then makes known.
    ///
    /// The caller has won the claim, and calls `publish` next.
    pub(crate) fn fail_claimed(&self, kind: FailureKind) -> TaskError {
        debug_assert!(self.gate.load(Relaxed) & CLAIMED != 0, "a task is failed by whoever claimed it");
        // SAFETY: the claim gives this thread the body and the arguments, once (README, rule 2).
        unsafe { self.discard() };
        self.error(kind)
    }

    /// Makes the outcome known: calls `release` for each waiter and for each successor that this makes ready, in the order in which they were added.
    /// False when the task had an outcome already, as somebody cancelled it.
    #[inline]
    pub(crate) fn publish(&self, failure: Option<TaskError>, release: impl FnMut(Released)) -> bool {
        // With the only reference nobody can see the outcome or depend on it: each of them would hold another one. Somebody who does not wait any longer may
        // have left an edge.
        if self.refs.load(Acquire) == REFERENCE && self.successors.load(Acquire).is_null() {
            // A value of zero references: nobody will ask for the error.
            if failure.is_some() {
                dropped_quietly(failure);
            }
            self.successors.store(Word::of_outcome(None), Relaxed);
            return true;
        }
        self.publish_shared(failure, release)
    }

    fn publish_shared(&self, failure: Option<TaskError>, mut release: impl FnMut(Released)) -> bool {
        let mut head = self.successors.load(Acquire);
        let outcome = Word::of_outcome(failure);
        let list = loop {
            let Word::Edges(list) = Word::of(head) else {
                if let Word::Failed(error) = Word::of(outcome) {
                    // SAFETY: made above by `Arc::into_raw`, and published nowhere.
                    dropped_quietly(unsafe { Arc::from_raw(error) });
                }
                return false;
            };
            // AcqRel: Release makes the outcome visible to whoever sees it; Acquire takes the edges' fields.
            match self.successors.compare_exchange_weak(head, outcome, AcqRel, Acquire) {
                Ok(_) => break list,
                Err(now) => head = now,
            }
        };
        let mut edge = reversed(list);
        let mut flat = false;
        while let Some(current) = edge {
            // SAFETY: an edge in the list lives until it is taken out, here (`add_edge`); nobody else walks a list that has been taken.
            let fields = unsafe { current.as_ref() };
            fields.watched.look();
            // Read before the count-down, after which the successor may run and free the edge.
            edge = NonNull::new(fields.next.load(Relaxed));
            match NonNull::new(fields.successor.load(Relaxed)) {
                Some(successor) => {
                    // SAFETY: a task that waits for predecessors is kept alive by the runtime's reference, which nobody has taken yet.
                    let header = unsafe { successor.as_ref() };
                    if header.count_down(1) {
                        // The runtime's reference: `register` left it to whoever makes the task ready.
                        let entry = Entry::task(Self(successor));
                        if header.runtime.is_null() {
                            flat = true;
                            flat::put(entry);
                        } else {
                            release(Released::Ready(entry));
                        }
                    }
                }
                None => {
                    // SAFETY: an edge without a successor is the first field of a `WaitEdge` from `Box::into_raw` (`add_waiter`).
                    let boxed = unsafe { Box::from_raw(current.as_ptr().cast::<WaitEdge>()) };
                    release(Released::Waiter(boxed.waker));
                }
            }
        }
        if flat {
            flat::settle();
        }
        true
    }

    /// What tells the record from all others that are alive.
    pub(crate) fn identity(&self) -> usize {
        self.0.addr().get()
    }

    /// The address of the record, for an entry in a queue.
    #[inline]
    pub(crate) fn into_address(self) -> NonNull<Header> {
        ManuallyDrop::new(self).0
    }

    /// The reference that was made an address.
    ///
    /// # Safety
    /// `address` came from `into_address`, and is turned back once.
    #[inline]
    pub(crate) unsafe fn from_address(address: NonNull<Header>) -> Self {
        Self(address)
    }
}

/// Why somebody wants a task with this gate to stop that he could not end at once.
fn stopped(gate: u32) -> Option<FailureKind> {
    match gate & (CANCELLED | EXPIRED) {
        0 => None,
        CANCELLED => Some(FailureKind::Cancelled),
        _ => Some(FailureKind::DeadlineExceeded),
    }
}

/// Turns a list of edges around, so that it is in the order of adding.
fn reversed(list: *mut Edge) -> Option<NonNull<Edge>> {
    let mut done: *mut Edge = std::ptr::null_mut();
    let mut rest = NonNull::new(list);
    while let Some(edge) = rest {
        // SAFETY: edges live until they are taken out of the list, which the caller does later.
        let fields = unsafe { edge.as_ref() };
        fields.watched.look();
        rest = NonNull::new(fields.next.load(Relaxed));
        fields.next.store(done, Relaxed);
        done = edge.as_ptr();
    }
    NonNull::new(done)
}

/// A function and its arguments on their way into a record: lent down to where that is made, and moved once.
#[derive(Debug)]
pub(crate) struct Unspawned<F, P>(Option<(F, P)>);

impl<F, P> Unspawned<F, P> {
    #[inline]
    pub(crate) fn new(function: F, params: P) -> Self {
        Self(Some((function, params)))
    }

    #[inline]
    fn body(&self) -> &(F, P) {
        match &self.0 {
            Some(body) => body,
            None => unreachable!("a task is made of it once"),
        }
    }

    #[inline]
    pub(crate) fn function(&self) -> &F {
        &self.body().0
    }

    #[inline]
    pub(crate) fn params(&self) -> &P {
        &self.body().1
    }

    #[inline]
    pub(crate) fn params_mut(&mut self) -> &mut P {
        match &mut self.0 {
            Some((_, params)) => params,
            None => unreachable!("a task is made of it once"),
        }
    }

    /// Moves it to where a record has room for it.
    ///
    /// # Safety
    /// `to` is that place, and nothing is there.
    #[inline]
    unsafe fn move_to(&mut self, to: *mut (F, P)) {
        let body = std::ptr::from_ref(self.body());
        // SAFETY: it is there, and there is room (precondition).
        unsafe { std::ptr::copy_nonoverlapping(body, to, 1) };
        // SAFETY: what is overwritten has been moved, and is not to be dropped.
        unsafe { std::ptr::write(&raw mut self.0, None) };
    }
}

/// What the header of a new record says, besides what the types of its task do.
struct Beginning {
    refs: u64,
    /// How much it waits for besides predecessors.
    held: u32,
    /// Bits of the gate.
    marks: u32,
    runtime: *const Shared,
    epoch: u16,
    location: &'static Location<'static>,
    options: Option<Box<TaskOptions>>,
    priority: Priority,
}

/// Makes a task of a body and its arguments, and adds it to the lists of those that it depends on.
///
/// Returns the user's handle and, when nothing is left to wait for, the runtime's reference, to be put into a queue. Otherwise the last
/// predecessor to finish gives that reference to its `publish`.
#[inline]
pub(crate) fn create<M, F: TaskFn<M>>(
    body: &mut Unspawned<F, F::Params>,
    runtime: *const Shared,
    epoch: u16,
    location: &'static Location<'static>,
    options: Option<Box<TaskOptions>>,
    priority: Priority,
) -> (Task<F::Value>, Option<Entry>) {
    let beginning = Beginning { refs: USER + REFERENCE, held: 0, marks: 0, runtime, epoch, location, options, priority };
    let (header, ready) = create_with::<M, F>(body, beginning);
    (Task { reference: UserRef(ManuallyDrop::new(TaskRef(header))), value: PhantomData }, ready)
}

/// As `create`, of a task that is held, as its accesses to places are not in order yet: it waits for nothing there. Also the runtime's reference, which goes to the entry that comes of `link_held`; or
/// the task is claimed (`claim_held`) and ended by who has it.
#[inline]
pub(crate) fn create_held<M, F: TaskFn<M>>(
    body: &mut Unspawned<F, F::Params>,
    runtime: *const Shared,
    epoch: u16,
    location: &'static Location<'static>,
) -> (Task<F::Value>, TaskRef) {
    let (refs, marks) = (USER + REFERENCE, HOLDS | DETACHED);
    let beginning = Beginning { refs, held: 1, marks, runtime, epoch, location, options: None, priority: Priority::Normal };
    let (header, ready) = create_with::<M, F>(body, beginning);
    debug_assert!(ready.is_none(), "it is held");
    (Task { reference: UserRef(ManuallyDrop::new(TaskRef(header))), value: PhantomData }, TaskRef(header))
}

/// A task that has been made and waits for one thing more: that whoever makes it is done with it. Until then nobody takes its body. To be closed.
#[must_use = "the task waits for it"]
pub(crate) struct Open {
    header: NonNull<Header>,
    /// References that have been made and nobody has.
    references: u32,
    /// How many of those that it waits for have finished; and one.
    counted: u32,
}

impl Open {
    /// One of the references that were asked for.
    #[inline]
    pub(crate) fn reference(&mut self) -> TaskRef {
        assert!(self.references > 0, "there are as many as were asked for");
        self.references -= 1;
        TaskRef(self.header)
    }

    /// Lets the task go. Its entry if it is ready, with the runtime's reference.
    #[inline]
    pub(crate) fn close(self) -> Option<Entry> {
        let Self { header, references, counted } = self;
        // SAFETY: the runtime's reference keeps the record, which nobody gets before the count-down below.
        let task = unsafe { header.as_ref() };
        if references > 0 {
            // Release: as in `TaskRef::release`. It is not the last one.
            task.refs.fetch_sub(u64::from(references) * REFERENCE, Release);
        }
        task.count_down(counted).then(|| Entry::task(TaskRef(header)))
    }
}

/// As `create`, of a task that others will rely on being over when it has finished, and that runs in any case with `needed`; it is held until it is closed. So many `references` are made with it.
#[inline]
#[expect(clippy::too_many_arguments, reason = "what a record is made of")]
pub(crate) fn create_open<M, F: TaskFn<M>>(
    body: &mut Unspawned<F, F::Params>,
    runtime: *const Shared,
    epoch: u16,
    location: &'static Location<'static>,
    options: Option<Box<TaskOptions>>,
    priority: Priority,
    needed: bool,
    references: u32,
) -> (Task<F::Value>, Open) {
    let refs = USER + REFERENCE * (1 + u64::from(references));
    // From the start: once a launch is ready a device may have it, and whoever submits it changes `HOLDS` for a moment (`waiting_successors`).
    let marks = HOLDS | if needed { DETACHED } else { 0 };
    let beginning = Beginning { refs, held: 1, marks, runtime, epoch, location, options, priority };
    let (header, counted) = create_counting::<M, F>(body, beginning);
    let open = Open { header, references, counted: counted + 1 };
    (Task { reference: UserRef(ManuallyDrop::new(TaskRef(header))), value: PhantomData }, open)
}

/// As `create`, without a handle: it runs in any case, and nobody sees its result.
#[inline]
pub(crate) fn create_detached<M, F: TaskFn<M>>(
    body: &mut Unspawned<F, F::Params>,
    runtime: *const Shared,
    epoch: u16,
    location: &'static Location<'static>,
) -> Option<Entry> {
    let (options, priority) = (None, Priority::Normal);
    create_with::<M, F>(body, Beginning { refs: REFERENCE, held: 0, marks: 0, runtime, epoch, location, options, priority }).1
}

#[inline(always)]
fn create_with<M, F: TaskFn<M>>(body: &mut Unspawned<F, F::Params>, beginning: Beginning) -> (NonNull<Header>, Option<Entry>) {
    let held = beginning.held;
    let (header, counted) = create_counting::<M, F>(body, beginning);
    // SAFETY: the runtime's reference keeps the record.
    let is_ready = if counted == 0 { held == 0 } else { unsafe { header.as_ref() }.count_down(counted) };
    // Otherwise whoever makes the task ready makes a `TaskRef` of its address again.
    (header, is_ready.then(|| Entry::task(TaskRef(header))))
}

/// As `create_with`, before the task is counted down: also by how many, which is none if it never had anything to wait for but what holds it.
#[inline(always)]
fn create_counting<M, F: TaskFn<M>>(body: &mut Unspawned<F, F::Params>, beginning: Beginning) -> (NonNull<Header>, u32) {
    let Beginning { refs, held, marks, runtime, epoch, location, options, priority } = beginning;
    let record = memory::allocate::<Record<F, F::Params, F::Value>>();
    let mut predecessor_count = 0;
    body.params().visit(&mut |_, _| predecessor_count += 1);
    let (more, more_marks) = options.as_deref().map_or((0, 0), unmet_by_options);
    predecessor_count += more;
    let marks = marks | more_marks;
    // One more until `register` has looked, and one while a canceller does.
    assert!(predecessor_count < COUNT - 1, "a task has more than sixteen million dependencies");
    let header = Header {
        vtable: const { &vtable::<M, F>() },
        gate: AtomicU32::new(if predecessor_count == 0 { held | marks } else { (predecessor_count + held + 1) | marks }),
        priority,
        parts: AtomicU8::new(0),
        epoch,
        refs: AtomicU64::new(refs),
        successors: AtomicPtr::default(),
        runtime,
        runner: AtomicUsize::new(0),
        location,
        options,
        watched: Watched::new(),
        watched_body: Watched::new(),
    };
    let memory = record.as_ptr();
    // SAFETY: the memory is new and fits the record.
    let header_place = unsafe { &raw mut (*memory).header };
    // SAFETY: it is a place of that memory. In place: a record is larger than what is moved for nothing.
    unsafe { header_place.write(header) };
    // SAFETY: as above.
    let body_place = unsafe { &raw mut (*memory).body };
    // SAFETY: as above. The value is not there yet, and that takes no writing.
    unsafe { body.move_to(body_place.cast()) };
    // SAFETY: the record has just been made, and counts one more than it waits for.
    let counted = if predecessor_count == 0 { 0 } else { unsafe { register(record) } };
    (record.cast(), counted)
}

/// What a task's options let it wait for besides its arguments, and what they set in its gate.
#[cold]
fn unmet_by_options(options: &TaskOptions) -> (u32, u32) {
    let mut unmet = u32::from(options.ties.held);
    options.ties.with_after(|_| unmet += 1);
    let needed = if options.ties.needed { DETACHED } else { 0 };
    (unmet, if options.ties.holds { needed | HOLDS } else { needed })
}

/// Adds the task to the lists of its predecessors; how many of them have finished, and one, which has it wait until that has been counted down.
///
/// # Safety
/// The record is new, and counts one more than there are predecessors and what holds it.
unsafe fn register<F, P: Predecessors, T>(record: NonNull<Record<F, P, T>>) -> u32 {
    let mut counted = 1;
    // SAFETY: the record is live (precondition).
    let Record { header: task, body, .. } = unsafe { record.as_ref() };
    task.watched_body.look();
    // SAFETY: `create` wrote the body, and nobody can claim the task before the count-down of what is given here, so shared access is sound.
    let (_, params) = unsafe { &*body.get().cast::<(F, P)>() };
    let mut add = |predecessor: &Header, edge: &Edge| {
        edge.successor.store(record.as_ptr().cast(), Relaxed);
        // SAFETY: the edge is new, and the arguments, and what the task comes after, stay in the record until the task is claimed, which needs all
        // predecessors to be published.
        if !unsafe { predecessor.add_edge(edge) } {
            counted += 1;
        }
    };
    params.visit(&mut add);
    if let Some(options) = task.options() {
        options.ties.with_after(|order| add(&order.task, &order.edge));
        if let Some(noted) = &options.ties.noted {
            params.visit(&mut |predecessor, _| noted.comes_after(predecessor));
            options.ties.with_after(|order| noted.comes_after(&order.task));
        }
    }
    counted
}

const fn vtable<M, F: TaskFn<M>>() -> VTable {
    VTable {
        run: run::<M, F>,
        discard: discard::<F, F::Params, F::Value>,
        unfinished: unfinished::<F, F::Params, F::Value>,
        visit_used: visit_used::<F, F::Params, F::Value>,
        touch: touch::<F, F::Params, F::Value>,
        survey: survey_arguments::<F, F::Params, F::Value>,
        drop_value: drop_value::<F, F::Params, F::Value>,
        step: None,
        free: free::<F, F::Params, F::Value>,
        type_name: || F::known_as().1(),
        has_blocks: can_be_elsewhere::<F::Value>(),
        makes: can_be_elsewhere::<F::Value>() && !F::Params::ELSEWHERE,
        travel: travel::<M, F>(),
        launch: if F::LAUNCHES {
            Some(LaunchTable {
                plan: plan::<M, F>,
                survey: survey::<M, F>,
                failed: has_failed_argument::<F, F::Params, F::Value>,
                write: write_outputs::<F, F::Params, F::Value>,
                withdraw: withdraw_outputs::<F, F::Params, F::Value>,
                accept: accept_outputs::<M, F>,
            })
        } else {
            None
        },
    }
}

/// Why tasks of a function stay in the process that spawns them for their types, if they do.
pub(crate) const fn why_types_stay<M, F: TaskFn<M>>() -> Option<&'static str> {
    // A function travels if it is all in its type: it has captured nothing, and nothing happens when it is dropped.
    if F::LAUNCHES {
        Some("it is a kernel's launch, and devices are the business of the program's own process")
    } else if size_of::<F::Tried>() != 0 || std::mem::needs_drop::<F::Tried>() {
        Some("its function has captured something; what it needs can be an argument")
    } else if !F::Params::TRAVEL {
        Some(ARGUMENT_STAYS)
    } else if <F::Value as crate::Data>::WIRE.is_none() {
        Some(RESULT_STAYS)
    } else {
        None
    }
}

const ARGUMENT_STAYS: &str =
    "an argument's values stay in their process; with `#[derive(Data)]` those travel whose parts do, or that serde can write";
const RESULT_STAYS: &str =
    "its result's values stay in their process; with `#[derive(Data)]` those travel whose parts do, or that serde can write";

/// The same for what types are made of, where `why_it_stays` gives no reason.
pub(crate) fn parts_that_stay<M, F: TaskFn<M>>() -> Option<&'static str> {
    let mut parts = Parts::default();
    if !F::Params::parts_travel(&mut parts) {
        Some(ARGUMENT_STAYS)
    } else if !parts.travel::<F::Value>() {
        Some(RESULT_STAYS)
    } else {
        None
    }
}

/// Why tasks of a function stay in the process that spawns them, if they do: for their types, or since other processes do not find its code.
#[cold]
pub(crate) fn why_it_stays<M, F: TaskFn<M>>() -> Option<String> {
    match const { travel::<M, F>() } {
        Some(travel) => code::why_it_stays(travel.body),
        None => const { why_types_stay::<M, F>() }.map(Into::into),
    }
}

const fn travel<M, F: TaskFn<M>>() -> Option<Travel> {
    if why_types_stay::<M, F>().is_none() {
        Some(Travel {
            body: call_body::<F::Signature, F::Tried>,
            retries: retries::<M, F>,
            parts: || parts_that_stay::<M, F>().is_none(),
            send: send::<M, F>,
            send_again: send_again::<F, F::Params, F::Value>,
            take_back: take_back::<F, F::Params, F::Value>,
            failed: has_failed_argument::<F, F::Params, F::Value>,
            accept: accept::<F, F::Params, F::Value>,
        })
    } else {
        None
    }
}

/// Reads arguments, calls the function with them and writes what came of it: in another process than the one that spawned the task.
fn call_body<M, F: TaskFn<M>>(reader: &mut Reader<'_>, writer: &mut Writer<'_>) -> Result<(), CallFailure> {
    let mut params = crate::wire::caught(|| {
        let params = F::Params::receive(reader)?;
        reader.end().map(|()| params)
    })
    .map_err(|error| WireError::new(format!("its arguments cannot be read: {error}")))?;
    // SAFETY: `travel` lets only types without size, whose values have no bytes to be read, through. One was moved into the record that stands for this
    // call, nobody uses that one (`accept` forgets it), and nothing happens when one is dropped: so this is that value.
    let function = unsafe { NonNull::<F>::dangling().read() };
    let outcome = match catch_unwind(AssertUnwindSafe(|| function.call(&mut params))) {
        Ok(Ok(value)) => {
            let written = crate::wire::caught(|| crate::wire::put(&value, writer));
            let written = written.map_err(|error| WireError::new(format!("its value cannot be written: {error}")));
            dropped_quietly(value);
            written.map_err(CallFailure::Wire)
        }
        Ok(Err(error)) => Err(CallFailure::Returned(error)),
        Err(payload) => {
            let message = panic_message(&*payload);
            dropped_quietly(payload);
            Err(CallFailure::Panicked(message))
        }
    };
    // Whatever came of it: what it was to change is as it left it.
    let sent_back = match outcome {
        Err(CallFailure::Wire(_)) => Ok(()),
        _ => crate::wire::caught(|| params.send_back(writer)),
    };
    dropped_quietly(params);
    sent_back?;
    outcome
}

/// # Safety
/// `header` belongs to a live `Record<F, F::Params, F::Value>` whose task the caller has claimed and not run.
unsafe fn send<M, F: TaskFn<M>>(header: NonNull<Header>, writer: &mut Writer<'_>) -> Result<(), WireError> {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, F::Params, F::Value>>().as_ref() };
    record.header.watched_body.look();
    // SAFETY: the claim makes the body this thread's own, and `create` wrote it.
    let (_, params) = unsafe { &*record.body.get().cast::<(F, F::Params)>() };
    // A device may have it.
    params.bring().map_err(WireError::new)?;
    // A task that is begun again needs what it takes by value a second time.
    params.send(writer, if record.header.is_once() { F::TAKES } else { 0 })
}

/// # Safety
/// As for `send`.
unsafe fn retries<M, F: TaskFn<M>>(header: NonNull<Header>) -> Option<Retrying<()>> {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, F::Params, F::Value>>().as_ref() };
    record.header.watched_body.look();
    // SAFETY: the claim makes the body this thread's own, and `create` wrote it.
    let (function, _) = unsafe { &*record.body.get().cast::<(F, F::Params)>() };
    function.retries()
}

/// # Safety
/// As for `has_failed_argument`.
unsafe fn take_back<F, P: Predecessors, T>(header: NonNull<Header>, reader: &mut Reader<'_>) -> Result<(), WireError> {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, P, T>>().as_ref() };
    record.header.watched_body.change();
    // SAFETY: the claim makes the body this thread's own, and `create` wrote it.
    let (_, params) = unsafe { &mut *record.body.get().cast::<(F, P)>() };
    params.take_back(reader)
}

/// # Safety
/// `header` belongs to a live `Record<F, P, T>` whose task the caller has claimed and not run.
unsafe fn has_failed_argument<F, P: Predecessors, T>(header: NonNull<Header>) -> bool {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, P, T>>().as_ref() };
    record.header.watched_body.look();
    // SAFETY: the claim makes the body this thread's own, and `create` wrote it.
    let (_, params) = unsafe { &*record.body.get().cast::<(F, P)>() };
    params.failed().is_some()
}

/// # Safety
/// As for `has_failed_argument`.
unsafe fn send_again<F, P: Predecessors, T>(
    header: NonNull<Header>,
    number: u64,
    writer: &mut Writer<'_>,
) -> Option<Result<(), WireError>> {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, P, T>>().as_ref() };
    record.header.watched_body.look();
    // SAFETY: the claim makes the body this thread's own, and `create` wrote it.
    let (_, params) = unsafe { &*record.body.get().cast::<(F, P)>() };
    params.send_again(number, writer)
}

/// # Safety
/// As for `has_failed_argument`; when this gives a value, the task counts as run.
unsafe fn accept<F, P: Predecessors, T: crate::Data>(header: NonNull<Header>, reader: &mut Reader<'_>) -> Result<(), WireError> {
    let value = crate::wire::take::<T>(reader)?;
    // SAFETY: the precondition.
    unsafe { take_back::<F, P, T>(header, reader) }?;
    reader.end()?;
    spill::offer_unseen(&value);
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, P, T>>().as_ref() };
    // SAFETY: only the claimer writes the value, once, before `publish` (README, rule 4).
    unsafe { (*record.value.get()).write(value) };
    record.header.note(VALUE_WRITTEN);
    Ok(())
}

/// # Safety
/// As for `send`.
unsafe fn plan<M, F: TaskFn<M>>(header: NonNull<Header>) -> Result<Plan, Unplanned> {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, F::Params, F::Value>>().as_ref() };
    record.header.watched_body.look();
    // SAFETY: the claim makes the body this thread's own, and `create` wrote it.
    let (function, params) = unsafe { &*record.body.get().cast::<(F, F::Params)>() };
    function.plan(params)
}

/// # Safety
/// As for `send`.
unsafe fn survey<M, F: TaskFn<M>>(header: NonNull<Header>) -> Survey {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, F::Params, F::Value>>().as_ref() };
    record.header.watched_body.look();
    // SAFETY: the claim makes the body this thread's own, and `create` wrote it.
    let (function, params) = unsafe { &*record.body.get().cast::<(F, F::Params)>() };
    function.survey(params)
}

/// # Safety
/// As for `has_failed_argument`; no value has been written.
unsafe fn write_outputs<F, P, T: crate::Data>(header: NonNull<Header>, outputs: Vec<RawBuffer>) {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, P, T>>().as_ref() };
    let mut outputs = outputs.into_iter();
    let value = T::DEVICE.and_then(|form| form.make?(&mut || outputs.next()));
    let Some(value) = value else { unreachable!("a kernel's results are made of buffers, whose sizes the plan has worked out") };
    // SAFETY: only the claimer writes the value, once, before `publish` (README, rule 4).
    unsafe { (*record.value.get()).write(value) };
    record.header.note(VALUE_WRITTEN | AHEAD);
}

/// # Safety
/// `header` belongs to a live `Record<F, P, T>` whose task the caller has claimed, and whose value he has written; nobody reads it.
unsafe fn withdraw_outputs<F, P, T: crate::Data>(header: NonNull<Header>) -> Box<dyn Any + Send> {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, P, T>>().as_ref() };
    let parts = record.header.parts.load(Relaxed);
    record.header.parts.store(parts & !(VALUE_WRITTEN | AHEAD), Relaxed);
    // SAFETY: it was written, and is nobody else's (precondition).
    Box::new(unsafe { record.value.get().cast::<T>().read() })
}

/// # Safety
/// As for `send`; the task counts as run afterwards.
unsafe fn accept_outputs<M, F: TaskFn<M>>(header: NonNull<Header>, origin: Option<Origin>) -> Option<Arc<dyn Lineage>> {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, F::Params, F::Value>>().as_ref() };
    record.header.watched_body.change();
    record.header.note(BODY_TAKEN);
    // SAFETY: the claim makes the body this thread's own, and `create` wrote it.
    let (function, params) = unsafe { record.body.get().cast::<(F, F::Params)>().read() };
    if let Some(origin) = origin {
        return function.lineage(params, origin);
    }
    // Before the outcome is known: whoever is woken by it may count on being the arguments' last user.
    dropped_quietly((function, params));
    None
}

/// # Safety
/// `header` belongs to a live `Record<F, F::Params, F::Value>` whose task the caller has claimed and not run before.
unsafe fn run<M, F: TaskFn<M>>(header: NonNull<Header>) -> Option<TaskError> {
    let record = header.cast::<Record<F, F::Params, F::Value>>();
    // SAFETY: live (precondition).
    let record = unsafe { record.as_ref() };
    let task = &record.header;
    task.watched_body.change();
    task.note(BODY_TAKEN);
    // SAFETY: the claim makes the body this thread's own, and `create` wrote it.
    let (function, mut params) = unsafe { record.body.get().cast::<(F, F::Params)>().read() };
    if let Some(error) = params.failed() {
        dropped_quietly((function, params));
        return Some(error.dependent(task.name()));
    }
    if const { F::Params::ELSEWHERE }
        && let Err(reason) = params.bring().and_then(|()| params.look_at(F::TAKES))
    {
        dropped_quietly((function, params));
        return Some(task.error(FailureKind::Lost { reason }));
    }
    if let Some(witness) = task.witness() {
        witness.begin();
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| function.call(&mut params)));
    if let Some(witness) = task.witness() {
        witness.lift();
    }
    if const { F::Params::ELSEWHERE } {
        params.offer();
    }
    // Before the outcome is known: whoever is woken by it may count on being the arguments' last user.
    dropped_quietly(params);
    if let Some(kind) = task.witness().and_then(|witness| witness.end(task)) {
        dropped_quietly(outcome);
        return Some(task.error_of_begun(kind));
    }
    match outcome {
        Ok(Ok(value)) => {
            spill::offer_unseen(&value);
            // SAFETY: only the claimer writes the value, once, before `publish` (README, rule 4).
            unsafe { (*record.value.get()).write(value) };
            task.note(VALUE_WRITTEN);
            None
        }
        Ok(Err(error)) => Some(TaskError::of_returned(task.name(), error)),
        Err(payload) => {
            let message = panic_message(&*payload);
            dropped_quietly(payload);
            Some(task.error_of_begun(FailureKind::Panicked(message)))
        }
    }
}

/// # Safety
/// `header` belongs to a live `Record<F, P, T>` whose task the caller has claimed and not run.
unsafe fn discard<F, P, T>(header: NonNull<Header>) {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, P, T>>().as_ref() };
    record.header.watched_body.change();
    record.header.note(BODY_TAKEN);
    // SAFETY: the claim makes the body this thread's own, and `create` wrote it.
    let body = unsafe { record.body.get().cast::<(F, P)>().read() };
    if std::mem::needs_drop::<(F, P)>() {
        nested::enter();
        dropped_quietly(body);
        leave_nested();
    }
}

/// Ends what `nested::enter` began; the outermost one frees what was put off meanwhile.
fn leave_nested() {
    while let Some(header) = nested::next() {
        // SAFETY: the record was to be freed, and has not been: its header is there.
        let free = unsafe { header.as_ref() }.vtable.free;
        // SAFETY: done in place of what was put off, once; `free` belongs to the record's type.
        unsafe { free(header) };
    }
    nested::leave();
}

/// # Safety
/// `header` belongs to a live `Record<F, P, T>` whose task nobody claims during the call.
unsafe fn unfinished<F, P: Predecessors, T>(header: NonNull<Header>, into: &mut Vec<TaskRef>) {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, P, T>>().as_ref() };
    record.header.watched_body.look();
    // SAFETY: nobody has claimed the task (precondition), so the body is there and only read.
    let (_, params) = unsafe { &*record.body.get().cast::<(F, P)>() };
    params.visit(&mut |predecessor, _| {
        if !predecessor.is_finished() {
            into.push(TaskRef::of(predecessor));
        }
    });
}

/// # Safety
/// As for `visit_used`; what the task waited for has finished.
unsafe fn survey_arguments<F, P: Predecessors, T>(header: NonNull<Header>, survey: &mut Survey) {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, P, T>>().as_ref() };
    record.header.watched_body.look();
    // SAFETY: the body is there and only read (precondition).
    let (_, params) = unsafe { &*record.body.get().cast::<(F, P)>() };
    if params.failed().is_none() {
        params.survey(survey);
    }
}

/// # Safety
/// `header` belongs to a live `Record<F, P, T>` whose body is there, and nobody takes it or changes it during the call.
unsafe fn visit_used<F, P: Predecessors, T>(header: NonNull<Header>, visit: &mut dyn FnMut(&Header)) {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, P, T>>().as_ref() };
    record.header.watched_body.look();
    // SAFETY: the body is there and only read (precondition).
    let (_, params) = unsafe { &*record.body.get().cast::<(F, P)>() };
    params.visit_numbered(&mut |_, _, used| visit(used));
}

/// # Safety
/// `header` belongs to a live `Record<F, P, T>` whose body is there, and nobody else looks at it or takes it during the call.
unsafe fn touch<F, P: Predecessors, T>(header: NonNull<Header>, visit: &mut dyn FnMut(&mut dyn Touch)) {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, P, T>>().as_ref() };
    record.header.watched_body.change();
    // SAFETY: the body is there, and this thread alone has it for the call (precondition).
    let (_, params) = unsafe { &mut *record.body.get().cast::<(F, P)>() };
    params.visit_places(visit);
}

/// # Safety
/// `header` belongs to a live `Record<F, P, T>` whose task the caller has claimed and run, and that ended with an error all the same; or whose value the caller may take.
unsafe fn drop_value<F, P, T>(header: NonNull<Header>) {
    // SAFETY: live (precondition).
    let record = unsafe { header.cast::<Record<F, P, T>>().as_ref() };
    if record.header.parts.load(Relaxed) & (VALUE_WRITTEN | VALUE_TAKEN) == VALUE_WRITTEN {
        record.header.note(VALUE_TAKEN);
        // SAFETY: the value was written and not taken, and nobody reads it (precondition).
        dropped_quietly(unsafe { record.value.get().cast::<T>().read() });
    }
}

/// # Safety
/// `header` belongs to a `Record<F, P, T>` that nobody else can reach; it is gone afterwards.
unsafe fn free<F, P, T>(header: NonNull<Header>) {
    let mut pointer = header.cast::<Record<F, P, T>>();
    // SAFETY: live and exclusive (precondition).
    let record = unsafe { pointer.as_mut() };
    let parts = record.header.parts.load(Relaxed);
    let has_body = std::mem::needs_drop::<(F, P)>() && parts & BODY_TAKEN == 0;
    let has_value = std::mem::needs_drop::<T>() && parts & (VALUE_WRITTEN | VALUE_TAKEN) == VALUE_WRITTEN;
    let outcome = Word::of(record.header.successors.load(Relaxed));
    // What is dropped may be the last handle of another record, which is freed inside this call, or put off.
    let nests = has_body || has_value || matches!(outcome, Word::Failed(_));
    if nests {
        if nested::is_deep() && nested::put_off(header) {
            return;
        }
        nested::enter();
    }
    if has_body {
        // SAFETY: nobody has taken the body out, so it is there.
        dropped_quietly(unsafe { record.body.get_mut().assume_init_read() });
    }
    if has_value {
        // SAFETY: the value was written and not taken.
        dropped_quietly(unsafe { record.value.get_mut().assume_init_read() });
    }
    if let Word::Failed(error) = outcome {
        // An error that the task returned is a user's value, too.
        // SAFETY: the address came from `Arc::into_raw`, and the record's count is given up once, here.
        dropped_quietly(unsafe { Arc::from_raw(error) });
    }
    if let Some(options) = record.header.options.take() {
        // There may be a user's function in them.
        dropped_quietly(options);
    }
    if nests {
        leave_nested();
    }
    // SAFETY: the header is dropped once, here.
    unsafe { std::ptr::drop_in_place(&raw mut record.header) };
    // SAFETY: `create` allocated it, and what it held has been dropped.
    unsafe { memory::free(pointer) }
}

/// Drops a user's value; a panic in its destructor ends here, after the panic hook has spoken. Unwinding further would take a worker with it.
#[inline]
pub(crate) fn dropped_quietly<T>(value: T) {
    if std::mem::needs_drop::<T>()
        && let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value)))
        && let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
    {
        // Whoever panics with a value that panics when dropped gets no third chance.
        std::mem::forget(payload);
    }
}

pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).into()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".into()
    }
}

impl<T> Task<T> {
    /// The value, once the task has finished with one.
    #[inline]
    pub(crate) fn value_ref(&self) -> Option<&T> {
        if !self.reference.has_value() {
            return None;
        }
        if self.reference.is_forwarded() {
            return flat::source(self).value_ref();
        }
        let prefix = self.reference.0.0.cast::<Prefix<T>>();
        // SAFETY: a `Task<T>` refers to a `Record<_, _, T>`, which begins like `Prefix<T>`, and keeps it alive.
        let value = unsafe { &prefix.as_ref().value };
        // SAFETY: `has_value` says that it was written; it is taken only by the last user, and `self` is one.
        Some(unsafe { &*value.get().cast::<T>() })
    }
}

impl<T> Value<T> {
    /// Moves the value out if this is its last user.
    ///
    /// # Errors
    /// The handle, unchanged, when somebody else uses the value too.
    pub fn try_unwrap(self) -> Result<T, Self> {
        let reference = &self.task.reference;
        if !reference.is_last_user() {
            return Err(self);
        }
        if reference.is_forwarded() {
            return flat::try_unwrap(self);
        }
        let prefix = reference.0.0.cast::<Prefix<T>>();
        // SAFETY: as in `value_ref`.
        let value = unsafe { &prefix.as_ref().value };
        // SAFETY: a `Value` exists only for a task with a value, and the only user is this one; `VALUE_TAKEN` keeps `free` from dropping it again.
        let value = unsafe { value.get().cast::<T>().read() };
        reference.note(VALUE_TAKEN);
        Ok(value)
    }
}

/// A task that has finished from the start.
pub(crate) fn create_finished<T: crate::Data>(
    value: T,
    runtime: *const Shared,
    location: &'static Location<'static>,
    options: Option<Box<TaskOptions>>,
) -> Task<T> {
    let task = create_ended(runtime, location, options, |_| None);
    spill::offer_unseen(&value);
    let prefix = task.reference.0.0.cast::<Prefix<T>>();
    // SAFETY: a record of `fn() -> T` begins like `Prefix<T>`, and is alive.
    let slot = unsafe { &prefix.as_ref().value };
    // SAFETY: nobody else has seen the record yet.
    unsafe { (*slot.get()).write(value) };
    task.reference.note(VALUE_WRITTEN);
    task
}

/// A task that has failed from the start. Its function and arguments are dropped by the caller; `type_name` names the function.
#[cold]
pub(crate) fn create_failed<T: crate::Data>(
    runtime: *const Shared,
    location: &'static Location<'static>,
    options: Option<Box<TaskOptions>>,
    type_name: fn() -> &'static str,
    kind: FailureKind,
) -> Task<T> {
    let mut options = options.unwrap_or_default();
    options.name.get_or_insert_with(|| function_name(type_name()));
    // It waits for nothing: a record with edges in the lists of others, or held, would keep a reference for whoever makes it ready, and nobody takes that.
    options.ties.held = false;
    options.ties.after = None;
    create_ended(runtime, location, Some(options), |task| Some(task.error(kind)))
}

/// A task that nobody runs, with an outcome. For a value, the caller puts it in.
fn create_ended<T: crate::Data>(
    runtime: *const Shared,
    location: &'static Location<'static>,
    options: Option<Box<TaskOptions>>,
    failure: impl FnOnce(&Header) -> Option<TaskError>,
) -> Task<T> {
    fn never_run<T>() -> T {
        unreachable!("a task that has ended is not run")
    }
    let (task, entry) =
        create::<fn() -> T, fn() -> T>(&mut Unspawned::new(never_run::<T>, ()), runtime, 0, location, options, Priority::Normal);
    task.reference.gate.store(CLAIMED, Relaxed);
    task.reference.successors.store(Word::of_outcome(failure(&task.reference)), Release);
    drop(entry);
    task
}

/// A task that another one comes after without taking its result, and the edge that its list needs.
pub(crate) struct Order {
    task: TaskRef,
    edge: Edge,
}

impl Order {
    pub(crate) fn new(task: TaskRef) -> Self {
        Self { task, edge: Edge::new() }
    }
}

/// A task that stands for something that a thread does, and finishes when this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    task: TaskRef,
    /// Whether it is a thread's, and not a run's.
    is_of_thread: bool,
}

impl Hold {
    /// One of this thread: it would wait for itself if it waited for it.
    pub(crate) fn new(location: &'static Location<'static>) -> Self {
        let mut hold = Self::of_run(location);
        hold.is_of_thread = true;
        hold.task.set_runner(this_thread());
        HELD.with(|holds| holds.set(holds.get().wrapping_add(1)));
        hold
    }

    /// One of something that ends by itself.
    pub(crate) fn of_run(location: &'static Location<'static>) -> Self {
        fn held() {
            unreachable!("a hold is not run")
        }
        let (task, entry) = create::<fn(), fn()>(&mut Unspawned::new(held, ()), std::ptr::null(), 0, location, None, Priority::Normal);
        let Some(entry) = entry else { unreachable!("no predecessors") };
        task.reference.gate.store(CLAIMED | HOLDS, Relaxed);
        let Work::Task(task) = entry.into_work() else { unreachable!("made of a task") };
        Self { task, is_of_thread: false }
    }

    /// Ends it with an error, for those who come later and look at what it was about.
    pub(crate) fn fail(self, error: TaskError) {
        let own = self.task.error(FailureKind::Dependency(error.root().clone()));
        self.end(Some(own));
    }

    fn end(&self, failure: Option<TaskError>) {
        if self.task.is_finished() {
            return;
        }
        if self.is_of_thread {
            HELD.with(|holds| holds.set(holds.get().wrapping_sub(1)));
        }
        self.task.publish(failure, Shared::release_elsewhere);
    }

    /// A reference to the task.
    pub(crate) fn reference(&self) -> TaskRef {
        self.task.clone()
    }
}

thread_local! {
    /// Holds that this thread has made, less those that it has dropped.
    static HELD: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    /// Its address names a thread that runs no tasks.
    static THREAD: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Names this thread, or the task that it is in the middle of: as in `Header::runner`.
fn this_thread() -> usize {
    use crate::worker::context::Context;
    Context::with(|context| context.map(Context::identity)).unwrap_or_else(|| THREAD.with(|thread| std::ptr::from_ref(thread).addr()))
}

/// Whether this thread may have holds.
pub(crate) fn has_holds() -> bool {
    // One that was dropped by another thread makes this say yes for ever, which only costs time.
    HELD.with(std::cell::Cell::get) != 0
}

/// Where this thread made the hold that `task` is, if it is one, and is still held.
pub(crate) fn held_here(task: &Header) -> Option<&'static Location<'static>> {
    task.is_run_by(this_thread()).then_some(task.location)
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// An argument that is another task's result: a reference to that task, and the edge that its list needs.
#[derive(Debug)]
pub struct Dependency<T> {
    task: Task<T>,
    edge: Edge,
}

impl<T> Dependency<T> {
    pub(crate) fn new(task: Task<T>) -> Self {
        Self { task, edge: Edge::new() }
    }

    pub(crate) fn header(&self) -> &Header {
        &self.task.reference
    }

    pub(crate) fn edge(&self) -> &Edge {
        &self.edge
    }

    pub(crate) fn value(&self) -> Option<&T> {
        self.task.value_ref()
    }

    /// The value, also where the task is one that a device does right before whoever asks, and has not finished.
    pub(crate) fn value_ahead(&self) -> Option<&T> {
        let reference = &self.task.reference;
        if reference.has_value() || reference.parts.load(Relaxed) & AHEAD == 0 {
            return self.value();
        }
        let prefix = reference.0.0.cast::<Prefix<T>>();
        // SAFETY: as in `value_ref`.
        let value = unsafe { &prefix.as_ref().value };
        // SAFETY: `AHEAD` says that it was written. It is taken out again only by whoever holds the lock that the caller has (`Queued::look`).
        Some(unsafe { &*value.get().cast::<T>() })
    }

    /// Whether the value is its own, and nobody else can look at it.
    pub(crate) fn is_last_user(&self) -> bool {
        self.task.reference.is_last_user() && !self.task.reference.is_forwarded()
    }

    pub(crate) fn into_value(self) -> Option<Value<T>> {
        self.task.value_ref().is_some().then(|| Value { task: self.task })
    }
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Task({})", self.name())
    }
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Edge")
    }
}
