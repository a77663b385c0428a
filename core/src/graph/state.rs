//! The memory of one run: results, what has become of each node, how far the others have come. Recycled by the graph.
//!
//! Who may touch what, and when, is in `README.md` beside this file.
#![expect(unsafe_code, reason = "memory for results of erased type, shared by protocol")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU16, AtomicU32};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crossbeam_utils::CachePadded;

use super::Graph;
use super::code::{Frame, UNIT_BYTES};
use super::forecast::Forecast;
use super::pages::prefer_large;
use crate::error::{FailureKind, TaskError};
use crate::sync::Unparker;
use crate::task::record::Hold;
use crate::worker::shared::Shared;
use crate::worker::{fence, waiter};

/// States of a node: it has not been looked at.
pub(super) const PENDING: u8 = 0;
/// It has not been looked at, and something that it depends on has no result.
pub(super) const POISONED: u8 = 1;
/// It has a result. This one and those that follow are final, except that a result may be moved out.
pub(super) const VALUE: u8 = 2;
/// It had a result, which was moved out.
pub(super) const MOVED: u8 = 3;
/// It failed.
pub(super) const FAILED: u8 = 4;
/// It was not run, as something that it depends on has no result.
pub(super) const UNMET: u8 = 5;
/// It was not run, as the run was cancelled.
pub(super) const CANCELLED: u8 = 6;

/// Bits of `RunState::flags`: all nodes are over.
pub(super) const OVER: u32 = 1;
/// Nodes that have not begun are not to.
pub(super) const STOP: u32 = 2;
/// Some node failed.
pub(super) const FAULTY: u32 = 4;
/// Somebody waits for one node.
pub(super) const WATCHED: u32 = 8;
/// Nodes are placed on the board of the runtime, which has a policy.
pub(super) const PLACED: u32 = 16;

/// `RunState::watched`: several nodes are waited for.
const SEVERAL: u32 = u32::MAX;
/// In `RunState::blame`: nobody.
pub(super) const NOBODY: u32 = u32::MAX;

/// The memory of one run.
#[derive(Debug)]
pub(crate) struct RunState {
    /// The graph that is run: from `Arc::into_raw`; null between runs.
    graph: AtomicPtr<Graph>,
    /// The runtime that runs it.
    runtime: AtomicPtr<Shared>,
    /// Its number at the runtime.
    number: AtomicU32,
    /// The runtime's count of "cancel everything" when it began.
    epoch: AtomicU16,
    pub(super) flags: AtomicU32,
    /// The node that is waited for, if there is one such.
    watched: AtomicU32,
    values: Values,
    pub(super) states: Box<[AtomicU8]>,
    /// For each node, how many of those that it depends on are over; back at 0 when it is ready. After that, and for the virtual nodes that stand for
    /// the roots, how many of its successors have been looked at; back at 0 when all have.
    pub(super) counters: Box<[AtomicU32]>,
    /// Nodes that are not over, and entries for successors that lie in queues, besides what those who took them have not counted yet.
    pub(super) remaining: CachePadded<AtomicU32>,
    /// Who needs the memory: the user's handle, and the runtime.
    holders: AtomicU32,
    troubles: Mutex<Troubles>,
    /// For each node that is unmet or poisoned, the failed one to blame.
    blame: OnceLock<Box<[AtomicU32]>>,
    /// Threads that wait, and for which node; none: for all.
    waiting: Mutex<Vec<(Option<u32>, Unparker)>>,
    /// What nodes are expected to cost, if they are `PLACED`.
    forecast: Mutex<Option<Arc<Forecast>>>,
    /// Keeps others away from what its nodes have access to in place.
    hold: Mutex<Option<Hold>>,
}

/// What went wrong in a run.
#[derive(Debug, Default)]
struct Troubles {
    /// The nodes that failed, in the order in which they did.
    failed: Vec<(u32, TaskError)>,
    /// A node that was not run as the run was cancelled.
    cancelled: Option<u32>,
}

/// Room for the results.
#[derive(Debug)]
struct Values {
    memory: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the results in it are `Send` and `Sync` (`Data`), and who reaches them when is by protocol (README).
unsafe impl Send for Values {}
// SAFETY: as for `Send`.
unsafe impl Sync for Values {}

impl Values {
    fn new(layout: Layout) -> Self {
        if layout.size() == 0 {
            return Self { memory: NonNull::without_provenance(layout_align(layout)), layout };
        }
        // SAFETY: the size is not 0.
        let memory = unsafe { alloc(layout) };
        match NonNull::new(memory) {
            Some(memory) => {
                prefer_large(memory, layout.size());
                Self { memory, layout }
            }
            None => handle_alloc_error(layout),
        }
    }
}

fn layout_align(layout: Layout) -> std::num::NonZeroUsize {
    match std::num::NonZeroUsize::new(layout.align()) {
        Some(align) => align,
        None => unreachable!("alignments are not 0"),
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        if self.layout.size() > 0 {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.memory.as_ptr(), self.layout) };
        }
    }
}

fn zeroed(count: usize) -> Box<[AtomicU32]> {
    // SAFETY: a number of zero bytes is 0.
    let zeroed = unsafe { Box::<[AtomicU32]>::new_zeroed_slice(count).assume_init() };
    prefer_large(NonNull::from(&*zeroed).cast(), size_of_val(&*zeroed));
    zeroed
}

impl RunState {
    pub(super) fn new(graph: &Graph) -> Arc<Self> {
        // SAFETY: a state of a zero byte is `PENDING`.
        let states = unsafe { Box::<[AtomicU8]>::new_zeroed_slice(graph.node_count()).assume_init() };
        Arc::new(Self {
            graph: AtomicPtr::default(),
            runtime: AtomicPtr::default(),
            number: AtomicU32::new(0),
            epoch: AtomicU16::new(0),
            flags: AtomicU32::new(0),
            watched: AtomicU32::new(0),
            values: Values::new(graph.value_layout),
            states,
            counters: zeroed(graph.nodes.len()),
            remaining: CachePadded::default(),
            holders: AtomicU32::new(0),
            troubles: Mutex::default(),
            blame: OnceLock::new(),
            waiting: Mutex::default(),
            forecast: Mutex::default(),
            hold: Mutex::default(),
        })
    }

    /// The graph, while this is lent to a run.
    #[inline]
    pub(super) fn graph(&self) -> &Graph {
        // SAFETY: `begin` put in what `Arc::into_raw` gave, and `release` takes it back when nobody has the run any more.
        unsafe { &*self.graph.load(Relaxed) }
    }

    /// The memory as nodes see it.
    ///
    /// # Safety
    /// As for `Frame::new`: for nodes of this run's graph that are ready.
    #[inline]
    pub(super) unsafe fn frame(&self) -> Frame<'_> {
        // SAFETY: the memory has the layout that the graph asks for (`new`); the rest is the precondition.
        unsafe { Frame::new(self.values.memory, &self.states) }
    }

    /// The place of a result.
    pub(super) fn value<T>(&self, units: u32) -> NonNull<T> {
        debug_assert!(units as usize * UNIT_BYTES <= self.values.layout.size());
        // SAFETY: places that a graph gives to its nodes lie within the memory that it asks for.
        unsafe { self.values.memory.add(units as usize * UNIT_BYTES) }.cast()
    }

    /// Gets ready to be run, by the one who has it: for so many holders, with so many entries for the roots.
    pub(super) fn begin(&self, graph: &Arc<Graph>, shared: &Shared, holders: u32, parts: u32) {
        self.graph.store(Arc::into_raw(Arc::clone(graph)).cast_mut(), Relaxed);
        self.runtime.store(std::ptr::from_ref(shared).cast_mut(), Relaxed);
        self.epoch.store(shared.epoch(), Relaxed);
        self.remaining.store(graph.task_count + parts, Relaxed);
        self.holders.store(holders, Relaxed);
    }

    /// Has the nodes placed: said between `begin` and the first of them.
    pub(super) fn set_forecast(&self, forecast: Arc<Forecast>) {
        *self.forecast.lock().unwrap_or_else(PoisonError::into_inner) = Some(forecast);
        // Relaxed: handed on with the nodes.
        self.flags.fetch_or(PLACED, Relaxed);
    }

    /// What nodes are expected to cost, if they are placed.
    pub(super) fn forecast(&self) -> Option<Arc<Forecast>> {
        self.forecast.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_number(&self, number: u32) {
        self.number.store(number, Relaxed);
    }

    pub(super) fn number(&self) -> u32 {
        self.number.load(Relaxed)
    }

    pub(super) fn is_of(&self, shared: &Shared) -> bool {
        std::ptr::eq(self.runtime.load(Relaxed), shared)
    }

    /// Stops it if everything was cancelled since it began, on the runtime that runs it.
    pub(crate) fn cancel_if_outdated(&self, shared: &Shared) {
        if shared.is_outdated(self.epoch.load(Relaxed)) {
            self.cancel();
        }
    }

    /// Whether all nodes are over.
    pub(crate) fn is_over(&self) -> bool {
        // Acquire: pairs with the Release in `end`.
        self.flags.load(Acquire) & OVER != 0
    }

    /// Whether one node is over, or all.
    pub(super) fn is_node_over(&self, node: Option<u32>) -> bool {
        match node {
            // Acquire: pairs with the Release of who has run the node.
            Some(node) => self.states[node as usize].load(Acquire) >= VALUE,
            None => self.is_over(),
        }
    }

    /// Nodes that have not begun are not to.
    pub(crate) fn cancel(&self) {
        // Relaxed: nothing else is learned from it.
        self.flags.fetch_or(STOP, Relaxed);
    }

    /// Whether somebody has said so, of this run or of everything.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.flags.load(Relaxed) & STOP != 0
    }

    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        // Single operations on the lists; none of them panics half-way.
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a node failed.
    #[cold]
    pub(super) fn note_failed(&self, node: u32, kind: FailureKind) {
        let error = TaskError::new(self.graph().name(node), kind);
        self.troubles().failed.push((node, error));
        // Relaxed: who runs a dependent sees it by way of its counter.
        self.flags.fetch_or(FAULTY, Relaxed);
    }

    /// Notes that a node was not run as the run was cancelled.
    #[cold]
    pub(super) fn note_cancelled(&self, node: u32) {
        self.troubles().cancelled.get_or_insert(node);
    }

    /// For each node, the failed one to blame.
    #[cold]
    pub(super) fn blame(&self) -> &[AtomicU32] {
        self.blame.get_or_init(|| (0..self.states.len()).map(|_| AtomicU32::new(NOBODY)).collect())
    }

    /// The error of a node that failed.
    fn failure(&self, node: u32) -> Option<TaskError> {
        self.troubles().failed.iter().find(|(failed, _)| *failed == node).map(|(_, error)| error.clone())
    }

    /// Why a node that is over has no result.
    #[cold]
    pub(super) fn error(&self, node: u32) -> TaskError {
        let name = || self.graph().name(node);
        let root = match self.states[node as usize].load(Acquire) {
            FAILED => self.failure(node),
            UNMET => {
                let to_blame = self.blame()[node as usize].load(Relaxed);
                self.failure(to_blame).map(|root| root.dependent(name()))
            }
            CANCELLED => None,
            _ if self.graph().is_moved(node) => Some(TaskError::new(name(), FailureKind::Moved)),
            _ => Some(TaskError::new(name(), FailureKind::Taken)),
        };
        root.unwrap_or_else(|| TaskError::new(name(), FailureKind::Cancelled))
    }

    /// What went wrong first, once all nodes are over.
    pub(super) fn first_trouble(&self) -> Option<TaskError> {
        let troubles = self.troubles();
        let cancelled = || troubles.cancelled.map(|node| TaskError::new(self.graph().name(node), FailureKind::Cancelled));
        troubles.failed.first().map(|(_, error)| error.clone()).or_else(cancelled)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(Option<u32>, Unparker)>> {
        // Single operations on the list; none of them panics half-way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has this thread unparked when a node is over, or all; it looks then by itself.
    pub(super) fn register(&self, node: Option<u32>) {
        let mut waiting = self.waiting();
        waiting.push((node, waiter::unparker()));
        if let Some(node) = node {
            self.note_watched(&waiting);
            drop(waiting);
            // Pairs with `light` of who has run the node: he sees the flag, or this thread sees the state.
            fence::heavy();
            if self.is_node_over(Some(node)) {
                self.wake(node);
            }
        } else if self.is_over() {
            waiting.pop();
        }
    }

    /// Says which node is waited for.
    fn note_watched(&self, waiting: &[(Option<u32>, Unparker)]) {
        let mut nodes = waiting.iter().filter_map(|(node, _)| *node);
        let Some(first) = nodes.next() else {
            self.flags.fetch_and(!WATCHED, Relaxed);
            return;
        };
        self.watched.store(if nodes.all(|node| node == first) { first } else { SEVERAL }, Relaxed);
        // Release: pairs with the fence in `look_for_waiting`, so that who sees the flag sees which node.
        self.flags.fetch_or(WATCHED, Release);
    }

    /// Somebody waits for a node, and this one is over.
    #[cold]
    pub(super) fn look_for_waiting(&self, node: u32) {
        std::sync::atomic::fence(Acquire);
        let watched = self.watched.load(Relaxed);
        if watched == node || watched == SEVERAL {
            self.wake(node);
        }
    }

    /// Unparks whoever waits for a node.
    fn wake(&self, node: u32) {
        let mut waiting = self.waiting();
        waiting.retain(|(awaited, unparker)| {
            let others = *awaited != Some(node);
            if !others {
                unparker.unpark();
            }
            others
        });
        self.note_watched(&waiting);
    }

    /// Keeps others away from what its nodes have access to in place: said before `begin`.
    pub(super) fn set_hold(&self, hold: Hold) {
        *self.hold.lock().unwrap_or_else(PoisonError::into_inner) = Some(hold);
    }

    /// Lets the others go on, with an error if something went wrong.
    pub(super) fn end_hold(&self) {
        let hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(hold) = hold else { return };
        let is_whole = self.flags.load(Relaxed) & (FAULTY | STOP) == 0;
        match if is_whole { None } else { self.first_trouble() } {
            None => drop(hold),
            Some(trouble) => hold.fail(trouble),
        }
    }

    /// Says that all nodes are over. The caller still holds the run.
    pub(super) fn end(&self) {
        if !self.graph().places.is_empty() {
            // First: who has waited for the run finds them free.
            self.end_hold();
        }
        let mut waiting = self.waiting();
        // Release: pairs with the Acquire in `is_over`. Under the lock: a thread that has looked before is on the list.
        self.flags.fetch_or(OVER, Release);
        for (_, unparker) in waiting.drain(..) {
            unparker.unpark();
        }
    }

    /// Gives up a hold; the last one drops what is left of the results, and the graph gets the memory back.
    pub(super) fn release(self: Arc<Self>) {
        // AcqRel: Release hands on what the other holder has done, Acquire takes it.
        if self.holders.fetch_sub(1, AcqRel) == 1 {
            let graph = self.graph.swap(std::ptr::null_mut(), Relaxed);
            // SAFETY: `begin` put in what `Arc::into_raw` gave, and there is no other holder.
            let graph = unsafe { Arc::from_raw(graph) };
            self.recycle(&graph);
        }
    }

    /// For the only one who has it: drops the results, and gives the memory back to the graph.
    pub(super) fn recycle(self: Arc<Self>, graph: &Graph) {
        for node in &graph.droppable {
            let state = &self.states[*node as usize];
            if state.load(Relaxed) == VALUE
                && let Some(drop) = graph.site(*node).code.drop_value
            {
                // A panic in a destructor ends in `drop`.
                let value = self.value(graph.nodes[*node as usize].value);
                // SAFETY: the state says that there is a result, of the type that the node's code knows, and nobody else has it.
                unsafe { drop(value) };
            }
        }
        let flags = self.flags.swap(0, Relaxed);
        if flags & (FAULTY | STOP) != 0 {
            // Dropped out of the lock, and here: errors are users' values.
            let troubles = std::mem::take(&mut *self.troubles());
            crate::task::record::dropped_quietly(troubles);
            for blame in self.blame.get().into_iter().flatten() {
                blame.store(NOBODY, Relaxed);
            }
        }
        if flags & PLACED != 0 {
            let forecast = self.forecast.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(forecast);
        }
        let states = self.states.as_ptr().cast_mut();
        // SAFETY: nobody else has the run, the atomics may be written through a shared reference, and a zero byte is `PENDING`.
        unsafe { states.write_bytes(PENDING, self.states.len()) };
        graph.pool.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }
}
