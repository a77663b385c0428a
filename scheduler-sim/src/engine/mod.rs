//! Runs a workload in virtual time with the board and the policies of the runtime.
//!
//! A processor is a place of the [`Board`], as a worker is under a policy. What is ready is pushed, a processor that has nothing to do takes, and what is over is
//! finished: who is to be woken, what is stolen and what a place is expected to take is the board's business here as there. The engine has the clock: the next event is
//! that with the least time, of equal ones the one that was foreseen first.

mod queue;

use poniard::policy::{Board, Candidate, Decision, Estimate, How, Place, Placement, Policy, ReadyTask, Source, Ticket, Why};

use crate::problem::{NEVER, Problem};
use crate::schedule::Schedule;
use queue::Queue;

/// Estimates are exact: as if each had been measured so often.
const MEASURED: u32 = 1 << 20;

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineOptions {
    /// Where the policy's random numbers begin.
    pub seed: u64,
    /// Whether decisions are kept.
    pub keeps_decisions: bool,
}

/// Where a task was placed, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// When, in nanoseconds from the beginning.
    pub at_ns: u64,
    /// The task.
    pub task: u32,
    /// What the policy said.
    pub decision: Decision,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Where and when each task ran.
    pub schedule: Schedule,
    /// What the policy decided, in order, if that was to be kept.
    pub decisions: Vec<Decided>,
    /// How many tasks ran elsewhere than they were placed.
    pub stolen: u64,
    /// How many bytes were moved from one memory space to another.
    pub moved_bytes: u64,
    /// How long processors waited for data of a task that they had taken, in nanoseconds.
    pub data_wait_ns: u64,
    /// How many events there were.
    pub events: u64,
}

/// A task that is under way.
#[derive(Clone, Copy, Debug)]
struct Running {
    task: u32,
    ticket: Ticket,
}

/// Runs a workload to its end.
///
/// # Panics
/// The policy breaks its contract: it leaves a task for ever although a processor is free that may run it, or places one where it cannot run.
#[must_use]
pub fn run(problem: &Problem<'_>, policy: Box<dyn Policy>, options: EngineOptions) -> Outcome {
    let places = (0..problem.processor_count()).map(|processor| {
        let mut place = Place::new(problem.column(processor) as u32, problem.space(processor) as u32, 1);
        // Whatever is placed has its data sent at once.
        place.prefetches = true;
        place
    });
    let count = problem.processor_count() as u64;
    // As in the runtime, for policies that look at them.
    let ranks =
        if policy.wants_ranks() { problem.upward_rank_sums().into_iter().map(|sum| sum / count.max(1)).collect() } else { Vec::new() };
    let mut engine = Engine {
        problem,
        board: Board::new(places.collect(), policy, options.seed),
        queue: Queue::default(),
        now_ns: 0,
        missing: (0..problem.len()).map(|task| problem.workload().in_degree(task) as u32).collect(),
        ranks,
        homes: vec![(u32::MAX, 0); problem.len()],
        running: vec![None; problem.processor_count()],
        pending: Vec::new(),
        candidates: Vec::new(),
        next_number: 0,
        options,
        outcome: Outcome { schedule: Schedule::with_room(problem.len()), ..Outcome::default() },
    };
    engine.run();
    engine.outcome
}

struct Engine<'a> {
    problem: &'a Problem<'a>,
    board: Board<u32>,
    queue: Queue,
    now_ns: u64,
    missing: Vec<u32>,
    /// Empty if the policy does not look at them.
    ranks: Vec<u64>,
    /// Of each task that was placed: where its data goes, and when all of it is there.
    homes: Vec<(u32, u64)>,
    running: Vec<Option<Running>>,
    /// Places that are to be woken when all that gets ready now is on the board.
    pending: Vec<usize>,
    candidates: Vec<Candidate>,
    next_number: u64,
    options: EngineOptions,
    outcome: Outcome,
}

impl Engine<'_> {
    fn run(&mut self) {
        let problem = self.problem;
        for task in (0..problem.len()).filter(|task| problem.workload().in_degree(*task) == 0) {
            self.push(task, None);
        }
        self.wake_pending();
        let mut over = 0;
        while let Some((at_ns, processor)) = self.queue.pop() {
            debug_assert!(at_ns >= self.now_ns, "time goes on");
            self.now_ns = at_ns;
            self.outcome.events += 1;
            over += 1;
            self.finish(processor as usize);
        }
        assert!(over == problem.len(), "the policy `{}` leaves {} tasks for ever", self.board.policy().name(), problem.len() - over);
    }

    /// A task is ready.
    fn push(&mut self, task: usize, origin: Option<usize>) {
        let problem = self.problem;
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        for place in 0..problem.processor_count() {
            let cost = problem.cost_ns(task, place);
            if cost == NEVER {
                continue;
            }
            let (transfer_ns, missing_bytes) = self.missing_at(task, problem.space(place));
            let execution = Estimate { mean_ns: cost, spread_ns: 0, count: MEASURED };
            candidates.push(Candidate { place, execution, transfer_ns, missing_bytes, overhead_ns: 0 });
        }
        let workload = problem.workload();
        let ready = ReadyTask {
            number: self.next_number,
            code: u64::from(workload.code(task)),
            priority: 0,
            rank_ns: self.ranks.get(task).copied(),
            bytes: workload.edges_in(task).map(|(_, edge)| workload.bytes(edge)).fold(0, u64::saturating_add),
            origin,
            candidates: &candidates,
        };
        self.next_number += 1;
        let pushed = self.board.push(&ready, task as u32, self.now_ns);
        self.candidates = candidates;
        if let Placement::Place(place) = pushed.decision.placement {
            self.send(task, place);
        }
        if self.options.keeps_decisions {
            self.outcome.decisions.push(Decided { at_ns: self.now_ns, task: task as u32, decision: pushed.decision });
        }
        self.pending.extend(pushed.wake);
    }

    /// All that gets ready now is on the board: a thread that is woken takes longer to come than that.
    fn wake_pending(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        for place in pending.drain(..) {
            if self.running[place].is_none() {
                self.take(place);
            }
        }
        self.pending = pending;
        let next = self.board.to_wake(self.now_ns);
        self.wake(next);
    }

    /// How long it takes to bring what a task needs to a space, all at once, and how many bytes that is.
    fn missing_at(&self, task: usize, space: usize) -> (u64, u64) {
        let (mut longest, mut bytes) = (0, 0_u64);
        for (source, edge) in self.problem.workload().edges_in(task) {
            let from = self.problem.space(self.outcome.schedule.processor[source] as usize);
            if from != space {
                longest = longest.max(self.problem.transfer_ns(edge, from, space));
                bytes = bytes.saturating_add(self.problem.workload().bytes(edge));
            }
        }
        (longest, bytes)
    }

    /// What a task needs goes to a place, from now on.
    fn send(&mut self, task: usize, place: usize) {
        let (transfer_ns, bytes) = self.missing_at(task, self.problem.space(place));
        self.homes[task] = (place as u32, self.now_ns + transfer_ns);
        self.outcome.moved_bytes = self.outcome.moved_bytes.saturating_add(bytes);
    }

    /// These places have nothing to do and look at the board, and whoever else is to.
    fn wake(&mut self, first: Option<usize>) {
        let mut next = first;
        while let Some(place) = next {
            if self.running[place].is_none() {
                self.take(place);
            }
            next = self.board.to_wake(self.now_ns);
        }
    }

    fn take(&mut self, place: usize) {
        let Some(taken) = self.board.take(place, self.now_ns) else { return };
        let task = taken.value as usize;
        let How { source, .. } = taken.how;
        let problem = self.problem;
        let home = self.homes[task];
        if home.0 == u32::MAX || problem.space(home.0 as usize) != problem.space(place) {
            self.send(task, place);
        }
        self.outcome.stolen += u64::from(matches!(source, Source::Stolen { .. } | Source::TakenOver { .. }));
        let start_ns = self.now_ns.max(self.homes[task].1);
        let end_ns = start_ns + problem.cost_ns(task, place);
        self.outcome.data_wait_ns += start_ns - self.now_ns;
        self.outcome.schedule.set(task, place, start_ns, end_ns);
        self.running[place] = Some(Running { task: task as u32, ticket: taken.ticket });
        self.queue.push(end_ns, place as u32);
    }

    /// What a processor runs is over.
    fn finish(&mut self, processor: usize) {
        let Some(Running { task, ticket }) = self.running[processor].take() else { unreachable!("it ends what it runs") };
        let ended = self.board.finished(ticket, self.now_ns);
        debug_assert!(ended.is_some(), "it was taken");
        let workload = self.problem.workload();
        for edge in workload.edges_out(task as usize) {
            let target = workload.target(edge);
            self.missing[target] -= 1;
            if self.missing[target] == 0 {
                self.push(target, Some(processor));
            }
        }
        if self.running[processor].is_none() {
            self.take(processor);
        }
        self.wake_pending();
    }
}

/// Why each task went where it went, counted.
#[must_use]
pub fn reasons(decisions: &[Decided]) -> Vec<(&'static str, u64)> {
    let mut counts = std::collections::BTreeMap::new();
    for decided in decisions {
        *counts.entry(Why::name(decided.decision.why)).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}
