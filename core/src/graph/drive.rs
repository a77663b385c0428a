//! Runs nodes: the loop of a worker that has taken a part of a run out of a queue.
//!
//! The protocol is in `README.md` beside this file. One file because each step of a worker in a run relies on what the others count.
#![expect(unsafe_code, reason = "calls functions of erased type, which the graph tells apart")]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU32};

use super::code::Frame;
use super::state::{CANCELLED, FAILED, FAULTY, PLACED, POISONED, RunState, STOP, UNMET, VALUE, WATCHED};
use super::{Graph, NodeRecord, Site, placed};
use crate::error::FailureKind;
use crate::options::Priority;
use crate::worker::context::{Context, Within};
use crate::worker::entry::{Entry, Part, PartOf};
use crate::worker::fence;
use crate::worker::fetch::{spin_until, wait_until};
use crate::worker::main_loop::{look_outside_next, steal_newest};
use crate::worker::shared::Shared;
use crate::worker::slot::{Slot, add};
use crate::worker::waiter;
use crate::worker::waits::{Target, Wait};

/// Nodes with more successors than this hand them out bit by bit, so that several workers can take part.
const FAN_MIN: u32 = 32;
/// Successors that are handed out at once.
const CHUNK_MAX: u32 = 64;
/// Nodes between two looks at what else there is to do.
const FAIRNESS: u32 = 64;
/// Looks at the queues of others before a worker leaves a run in which it finds nothing: for about a microsecond.
const LINGER_ROUNDS: u32 = 128;

/// Where a worker is in a run.
pub(super) struct Driver<'a> {
    pub(super) context: &'a Context,
    pub(super) shared: &'a Shared,
    slot: &'a Slot,
    pub(super) run: &'a RunState,
    pub(super) graph: &'a Graph,
    // What every node needs, one step nearer.
    nodes: &'a [NodeRecord],
    sites: &'a [Site],
    needed: &'a [u32],
    successors: &'a [u32],
    states: &'a [AtomicU8],
    counters: &'a [AtomicU32],
    frame: Frame<'a>,
    pub(super) number: u32,
    /// Whether every node goes through a queue, since nodes or tasks have priorities or scopes.
    careful: bool,
    /// Whether this is on top of a waiting task.
    nested: bool,
    /// Nodes that are over, and entries for successors that were taken, as far as they have not been counted yet.
    over: u32,
    /// What of that is no node that was run.
    not_run: u32,
    /// Successors of some node that this thread is going to look at.
    chunk: Range<u32>,
    /// Whether they are the end of their list, so that others find nothing of it.
    last: bool,
    /// Entries that this call has put on top of the worker's own, and not taken back.
    pushed: u32,
    /// An entry that was taken out of the worker's queue and is none of this run.
    other: Option<Entry>,
}

/// Runs a part of a run that was taken out of a queue, and what becomes ready by it; inside a waiting task (`nested`) nothing else, not even for the sake of
/// fairness. May give back another entry, to be run next.
pub(crate) fn run_part(context: &Context, PartOf { run: number, part }: PartOf, nested: bool) -> Option<Entry> {
    let shared = &*context.shared;
    let Some(slot) = context.slot_index().map(|slot| &shared.slots[slot]) else { unreachable!("parts of runs lie in queues of slots") };
    // SAFETY: the run is not removed before all of its nodes are counted, and the part that the caller has is not.
    let run: &RunState = unsafe { shared.runs.get(number) };
    let graph = run.graph();
    let mut driver = Driver {
        context,
        shared,
        slot,
        run,
        graph,
        nodes: &graph.nodes,
        sites: &graph.sites,
        needed: &graph.needed,
        successors: &graph.successors,
        states: &run.states,
        counters: &run.counters,
        // SAFETY: the frame is used for nodes of this graph that are ready, none of whose predecessors lacks a result.
        frame: unsafe { run.frame() },
        number,
        careful: !graph.priorities.is_empty() || shared.special.load(Relaxed),
        nested,
        over: 0,
        not_run: 0,
        chunk: 0..0,
        last: false,
        pushed: 0,
        other: None,
    };
    let within = Within::new(run);
    // The flag is never changed while there are parts of the run.
    match part {
        Part::Node(node) if run.flags.load(Relaxed) & PLACED != 0 => context.enter_run(&within, || driver.run_placed(node)),
        _ => context.enter_run(&within, || driver.drive(part)),
    }
    let other = driver.other.take();
    driver.count();
    other
}

impl Driver<'_> {
    fn drive(&mut self, part: Part) {
        let mut next = match part {
            Part::Node(node) => Some(node),
            Part::Successors(node) => {
                self.take_chunk(node);
                self.find_next()
            }
        };
        let mut patience = FAIRNESS;
        while let Some(node) = next {
            next = self.run_node(node);
            patience -= 1;
            if self.careful || patience == 0 || self.slot.is_wanted() {
                if self.must_leave() {
                    if let Some(node) = next {
                        self.push(node);
                    }
                    self.give_away();
                    return;
                }
                patience = FAIRNESS;
            }
            if self.slot.ring.len() > 0 || self.last && !self.chunk.is_empty() {
                self.show_if_idle();
            }
            if next.is_none() {
                next = self.next_of_chunk().or_else(|| self.find_next()).or_else(|| self.linger());
            }
        }
    }

    /// The next node may take long: if somebody has nothing to do, he is shown the others.
    #[inline]
    fn show_if_idle(&mut self) {
        if self.shared.sleep.is_anybody_idle() {
            if self.last {
                self.give_away();
            }
            self.context.with_local(|slot, local| self.shared.show(slot, local));
        }
    }

    /// Whether the worker has something else to do before it goes on.
    #[cold]
    fn must_leave(&self) -> bool {
        self.careful || self.slot.is_wanted() || self.look_around()
    }

    fn look_around(&self) -> bool {
        let normal = Priority::Normal.level();
        let others = || !self.shared.injectors[normal].is_empty() || self.shared.runs.has_fresh(normal) || self.slot.is_crowded();
        if self.shared.special.load(Relaxed) {
            return true;
        }
        if self.nested || !self.chunk.is_empty() || !others() {
            return false;
        }
        self.context.with_local(|_, local| look_outside_next(local));
        true
    }

    /// The next node of the chunk, if it is ready and none is that came after it.
    #[inline]
    fn next_of_chunk(&mut self) -> Option<u32> {
        if self.pushed > 0 {
            return None;
        }
        let node = self.chunk.next().map(|place| self.successor(place))?;
        self.arrive(node).then_some(node)
    }

    /// The next node of this run that this thread knows of: one that it has made ready, else one of the chunk, else one of a further part.
    fn find_next(&mut self) -> Option<u32> {
        loop {
            if self.pushed > 0 && !self.chunk.is_empty() {
                if let Some(Part::Node(node)) = self.pop(Entry::is_node) {
                    self.pushed -= 1;
                    return Some(node);
                }
                self.pushed = 0;
            }
            while let Some(place) = self.chunk.next() {
                let node = self.successor(place);
                if self.arrive(node) {
                    return Some(node);
                }
            }
            match self.pop(|_| true).or_else(|| self.pop_shown())? {
                Part::Node(node) => return Some(node),
                Part::Successors(node) => self.take_chunk(node),
            }
        }
    }

    /// The newest entry of the worker, if it is of this run.
    #[inline]
    fn pop(&self, wanted: impl Fn(&Entry) -> bool) -> Option<Part> {
        let wanted = |entry: &Entry| entry.is_of_run(self.number) && wanted(entry);
        let entry = self.context.with_local(|slot, _| slot.ring.pop_if(wanted)).flatten()?;
        entry.into_part().map(|part| part.part)
    }

    /// The newest entry that others can take, if it is of this run.
    #[inline]
    fn pop_shown(&mut self) -> Option<Part> {
        if self.nested || self.careful || self.slot.ring.len() > 0 {
            return None;
        }
        let entry = self.context.with_local(|_, local| local.deques[Priority::Normal.level()].pop()).flatten()?;
        if entry.is_of_run(self.number) {
            return entry.into_part().map(|part| part.part);
        }
        self.other = Some(entry);
        None
    }

    /// A node that another worker makes ready within a moment. To leave the run and come back takes longer than most nodes do.
    #[cold]
    fn linger(&mut self) -> Option<u32> {
        if self.nested || self.careful || self.other.is_some() {
            return None;
        }
        if self.over > 1 {
            self.note_tasks();
            // All but one, which keeps the memory: so others see how little is left. AcqRel: as in `count`.
            self.run.remaining.fetch_sub(self.over - 1, AcqRel);
            (self.over, self.not_run) = (1, 1);
        }
        // Whoever makes a node ready shows it to those that search.
        self.shared.sleep.search();
        let mut entry = None;
        for _ in 0..LINGER_ROUNDS {
            entry = steal_newest(self.shared, self.slot);
            if entry.is_some() || self.is_run_out() || self.slot.is_wanted() {
                break;
            }
            std::hint::spin_loop();
        }
        if let Some(slot) = self.context.slot_index() {
            self.shared.found(slot);
        }
        let entry = entry?;
        if !entry.is_of_run(self.number) {
            self.other = Some(entry);
            return None;
        }
        match entry.into_part()?.part {
            Part::Node(node) => Some(node),
            Part::Successors(node) => {
                self.take_chunk(node);
                self.find_next()
            }
        }
    }

    /// Whether all that is left of the run may be the one node of each worker that lingers.
    fn is_run_out(&self) -> bool {
        self.run.remaining.load(Relaxed) <= self.shared.sleep.searcher_count()
    }

    /// Runs a node and looks at its successors; gives one that is ready.
    #[inline]
    fn run_node(&mut self, node: u32) -> Option<u32> {
        let state = self.outcome(node);
        self.publish(node, state);
        let Range { start, end } = self.successors(node);
        if end - start > FAN_MIN && !self.careful {
            self.push_successors(node);
            return None;
        }
        let mut first = None;
        for place in start..end {
            let successor = self.successor(place);
            if self.arrive(successor) {
                if first.is_none() {
                    first = Some(successor);
                } else {
                    self.push(successor);
                }
            }
        }
        first
    }

    /// Runs a node, unless it is not to be run. Gives its state.
    #[inline(always)]
    pub(super) fn outcome(&mut self, node: u32) -> u8 {
        let flags = self.run.flags.load(Relaxed);
        if flags & (STOP | FAULTY) == 0 { self.execute(node) } else { self.execute_or_skip(node) }
    }

    /// The same when the run was cancelled, or something in it failed: out of the way of those where nothing has.
    #[cold]
    fn execute_or_skip(&mut self, node: u32) -> u8 {
        self.skip(node).unwrap_or_else(|| self.execute(node))
    }

    /// A node is over.
    #[inline(always)]
    pub(super) fn publish(&mut self, node: u32, state: u8) {
        // Release: pairs with the Acquire of who looks for the result.
        self.state(node).store(state, Release);
        // Pairs with `heavy` in `register`.
        fence::light();
        if self.run.flags.load(Relaxed) & WATCHED != 0 {
            self.run.look_for_waiting(node);
        }
        self.over += 1;
    }

    #[inline]
    fn record(&self, node: u32) -> &NodeRecord {
        debug_assert!((node as usize) < self.nodes.len());
        // SAFETY: numbers of nodes come from the graph itself: from its list of successors, or from an entry that was made of one of those or of its roots.
        unsafe { self.nodes.get_unchecked(node as usize) }
    }

    #[inline]
    fn state(&self, node: u32) -> &AtomicU8 {
        debug_assert!((node as usize) < self.states.len());
        // SAFETY: as in `record`; there is a state for each node that is run.
        unsafe { self.states.get_unchecked(node as usize) }
    }

    /// The places of a node's successors in the list of all. There is a record after that of the last node.
    #[inline]
    pub(super) fn successors(&self, node: u32) -> Range<u32> {
        self.record(node).successors..self.record(node + 1).successors
    }

    #[inline]
    pub(super) fn successor(&self, place: u32) -> u32 {
        debug_assert!((place as usize) < self.successors.len());
        // SAFETY: places come from `successors`, and the records hold places within the list.
        unsafe { *self.successors.get_unchecked(place as usize) }
    }

    /// Calls the node's function. Gives its state.
    #[inline]
    fn execute(&mut self, node: u32) -> u8 {
        let record = self.record(node);
        debug_assert!((record.site as usize) < self.sites.len());
        // SAFETY: the builder has put the number of a site that there is into the record.
        let run = unsafe { self.sites.get_unchecked(record.site as usize) }.run;
        // SAFETY: `push` gave the place when the node was added.
        let body = unsafe { self.graph.bodies.get(record.body) };
        let value = self.frame.value(record.value);
        // SAFETY: `body` and `value` are this node's, whose code this is. It is ready and what it depends on has results: the caller has made sure of that.
        // Nobody else runs it: there is one entry for it, or none.
        match unsafe { run(&self.frame, body, value) } {
            None => VALUE,
            Some(kind) => self.fail(node, *kind),
        }
    }

    /// The node has failed by itself. Gives its state.
    #[cold]
    fn fail(&self, node: u32, kind: FailureKind) -> u8 {
        self.run.note_failed(node, kind);
        self.poison(node, node);
        FAILED
    }

    /// The state of a node that is not to be run, since the run was cancelled or something in it failed.
    pub(super) fn skip(&mut self, node: u32) -> Option<u8> {
        // Relaxed: whoever poisoned the node is among those that it depends on.
        if self.run.states[node as usize].load(Relaxed) == POISONED {
            self.not_run += 1;
            let root = self.run.blame()[node as usize].load(Relaxed);
            self.poison(node, root);
            return Some(UNMET);
        }
        if self.run.is_cancelled() {
            self.not_run += 1;
            self.run.note_cancelled(node);
            return Some(CANCELLED);
        }
        None
    }

    /// Keeps the successors of a node that has no result from being run. Of several that are to blame, the one that was added first is.
    #[cold]
    fn poison(&self, node: u32, root: u32) {
        let blame = self.run.blame();
        for place in self.successors(node) {
            let successor = self.successor(place) as usize;
            // Relaxed, both: they are handed on by the successor's counter, or by its only predecessor.
            blame[successor].fetch_min(root, Relaxed);
            self.run.states[successor].store(POISONED, Relaxed);
        }
    }

    /// One of those that a node waits for is over; true for the last one.
    #[inline]
    pub(super) fn arrive(&self, node: u32) -> bool {
        debug_assert!((node as usize) < self.needed.len());
        // SAFETY: as in `record`; roots are nodes.
        let needed = unsafe { *self.needed.get_unchecked(node as usize) };
        if needed <= 1 {
            return true;
        }
        debug_assert!((node as usize) < self.counters.len());
        // SAFETY: as in `record`; there is a counter for each node.
        arrive_at(unsafe { self.counters.get_unchecked(node as usize) }, needed)
    }

    /// Puts a ready node into the worker's own queue.
    #[inline]
    fn push(&mut self, node: u32) {
        self.push_entry(Entry::node(self.number, node), self.graph.priority(node));
        self.pushed += 1;
    }

    /// Puts an entry for the successors of a node into the queue that nobody has looked at.
    fn push_successors(&mut self, node: u32) {
        // As long as it is not counted the run is not over. Relaxed: this thread has something that is not counted, too.
        self.run.remaining.fetch_add(1, Relaxed);
        let level = (node as usize).checked_sub(self.graph.node_count()).unwrap_or(Priority::Normal.level());
        self.push_entry(Entry::successors(self.number, node), Priority::ALL[level]);
        self.pushed += 1;
    }

    #[inline]
    fn push_entry(&self, entry: Entry, priority: Priority) {
        let pushed = self.context.try_local(entry, |slot, local, entry| self.shared.push_own(slot, local, priority, entry));
        if pushed.is_err() {
            unreachable!("a worker between two nodes holds its slot");
        }
    }

    /// Takes some of a node's successors that nobody has looked at; if there are more, they go into the queue again.
    fn take_chunk(&mut self, node: u32) {
        self.over += 1;
        self.not_run += 1;
        let all = self.successors(node);
        let counter = &self.run.counters[node as usize];
        // Relaxed: it belongs to who has the entry, and that is handed on by the queues.
        let taken = counter.load(Relaxed);
        let left = all.len() as u32 - taken;
        let most = if self.careful { 1 } else { CHUNK_MAX };
        let count = (left / (4 * self.shared.slots.len() as u32)).clamp(1, most);
        self.last = count == left;
        if count < left {
            counter.store(taken + count, Relaxed);
            self.push_successors(node);
            // Below those that this thread will make ready.
            self.pushed = 0;
        } else {
            counter.store(0, Relaxed);
        }
        let start = all.start + taken;
        self.chunk = start..start + count;
    }

    /// Looks at the successors of a chunk and puts those that are ready into the queue.
    fn give_away(&mut self) {
        for place in std::mem::take(&mut self.chunk) {
            let node = self.successor(place);
            if self.arrive(node) {
                self.push(node);
            }
        }
    }

    /// Adds the nodes that were run to what the worker has done.
    fn note_tasks(&self) {
        add(&self.slot.counters.tasks, u64::from(self.over - self.not_run));
    }

    /// Counts what is over.
    fn count(self) {
        self.note_tasks();
        count(Some(self.context), self.shared, self.run, self.over);
    }
}

/// `Driver::arrive` for a node that needs several.
#[inline]
fn arrive_at(counter: &AtomicU32, needed: u32) -> bool {
    // Acquire: pairs with the Release of the others. When all of them have come nobody else is left, and no exchange is needed.
    if counter.load(Acquire) != needed - 1 && counter.fetch_add(1, AcqRel) != needed - 1 {
        return false;
    }
    // For the next run, which begins after this one.
    counter.store(0, Relaxed);
    true
}

/// Counts so much of a run that is over; the one who counts the last nodes ends the run.
#[inline]
pub(super) fn count(context: Option<&Context>, shared: &Shared, run: &RunState, over: u32) {
    // AcqRel: Release hands on what this thread has done in the run, Acquire (for the last one) takes what all have done.
    if run.remaining.fetch_sub(over, AcqRel) == over {
        end(context, shared, run);
    }
}

/// All nodes are over and counted.
fn end(context: Option<&Context>, shared: &Shared, run: &RunState) {
    run.end();
    // SAFETY: it was inserted with this number, and only who counts the last node comes here.
    let run = unsafe { shared.runs.remove(run.number()) };
    // May run destructors of results, so the run is counted as over only afterwards.
    run.release();
    shared.retract(context);
}

/// Gives back what this thread has taken out of a queue, or from the board, and does not run.
pub(crate) fn give_back(context: &Context, entry: Entry) {
    let shared = &*context.shared;
    if let Some((number, node)) = entry.as_node() {
        // SAFETY: as in `run_part`: the caller has the entry of a node that is not counted.
        let run = unsafe { shared.runs.get(number) };
        if run.flags.load(Relaxed) & PLACED != 0 {
            // It is made anew.
            let _ = entry.into_part();
            // Relaxed: the node that this thread has is not counted.
            run.remaining.fetch_add(1, Relaxed);
            placed::place(shared, run, number, vec![node], None);
            return count(Some(context), shared, run, 1);
        }
    }
    shared.push_part(Some(context), Priority::Normal, entry);
}

/// Begins a run that has all of its inputs. False when the runtime takes no more.
pub(super) fn begin(run: &Arc<RunState>, graph: &Arc<Graph>, shared: &Shared) -> bool {
    Context::with_of(shared, |context| {
        if !shared.admit(context) {
            return false;
        }
        let has_roots = |level: &usize| {
            let roots = graph.roots(*level) as usize;
            graph.nodes[roots].successors < graph.nodes[roots + 1].successors
        };
        let parts = (0..Priority::COUNT).filter(has_roots).count() as u32;
        if parts == 0 {
            run.begin(graph, shared, 1, 0);
            run.end();
            shared.retract(context);
            return true;
        }
        if let Some(placement) = shared.placement.as_ref().filter(|placement| placement.places_all) {
            placed::begin(context, run, graph, shared, placement);
            return true;
        }
        run.begin(graph, shared, 2, parts);
        let number = shared.runs.insert(Arc::clone(run));
        // Whoever cancelled everything before it was there has not seen it.
        run.cancel_if_outdated(shared);
        for level in (0..Priority::COUNT).filter(has_roots) {
            shared.push_part(context, Priority::ALL[level], Entry::successors(number, graph.roots(level)));
        }
        true
    })
}

/// Waits until a node of a run is over, or all of them. False when that may be for ever: this thread is in the middle of the run, or one that is waits for it.
pub(super) fn wait(run: &RunState, node: Option<u32>) -> bool {
    if run.is_node_over(node) {
        return true;
    }
    Context::with(|context| {
        let Some(context) = context else {
            run.register(node);
            while !run.is_node_over(node) {
                waiter::park();
            }
            return true;
        };
        if context.is_within_run(run) {
            return false;
        }
        context.stopwatch.aside(|| wait_inside(context, run, node))
    })
}

/// A node of a run that waits on the board, if the run's nodes do and this thread may run one.
fn from_board(context: &Context, run: &RunState) -> Option<Entry> {
    let shared = &*context.shared;
    if run.flags.load(Relaxed) & PLACED == 0 {
        return None;
    }
    let worker = context.slot_index().filter(|slot| !shared.slots[*slot].is_wanted())?;
    let number = run.number();
    let entry = shared.placement.as_ref()?.take_node_of(shared, number, worker)?;
    // SAFETY: as in `run_part`: this thread has the entry of a node that is not counted.
    if std::ptr::eq(unsafe { shared.runs.get(number) }, run) {
        return Some(entry);
    }
    // The run was over meanwhile, and another one has its number.
    give_back(context, entry);
    None
}

/// Waits for a run, or for a node of it, on a thread that runs tasks and is not in the middle of the run. False when a thread that is waits for this one.
fn wait_inside(context: &Context, run: &RunState, node: Option<u32>) -> bool {
    help(context, run, node);
    if spin_until(|| run.is_node_over(node)) {
        return true;
    }
    let Some(_wait) = Wait::begin(context, Target::run(run)) else { return false };
    run.register(node);
    wait_until(context, &|| run.is_node_over(node));
    true
}

/// Runs what lies on top of this worker's queue, or on the board, and belongs to a run that its thread waits for.
fn help(context: &Context, run: &RunState, node: Option<u32>) {
    if !run.is_of(&context.shared) {
        return;
    }
    let number = run.number();
    while !run.is_node_over(node) && !run.is_over() && context.has_stack() {
        // As long as the run is not over nobody else has its number.
        let newest = context.with_local(|slot, local| {
            if slot.is_wanted() {
                return None;
            }
            // Also what is shown to others, none of whom has come yet: one that sleeps takes longer to come than most runs take.
            context.shared.pop_own_if(slot, local, |entry| entry.is_of_run(number))
        });
        let Some(part) = newest.flatten().or_else(|| from_board(context, run)).and_then(Entry::into_part) else { return };
        let other = run_part(context, part, true);
        debug_assert!(other.is_none(), "only who is between two tasks takes others");
    }
}
