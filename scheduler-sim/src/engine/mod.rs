//! Runs a workload in virtual time with the board and the policies of the runtime, or as it was planned.
//!
//! A processor is a place of the [`Board`], as a worker is under a policy. What is ready is pushed, a processor that has nothing to do takes, and what is over is
//! finished: who is to be woken, what is stolen and what a place is expected to take is the board's business here as there. The engine has the clock: the next event is
//! that with the least time; of equal ones transfers come first, then that which was foreseen first.
//!
//! Where transfers have nothing to do with each other and memories have no end, it is known when data is there as soon as it is sent, and a task is one event.

mod arrivals;
mod data;
mod planned;
mod queue;
mod spaces;
mod streaming;

use std::collections::{BTreeMap, BTreeSet};

use poniard::policy::{Board, Candidate, Decision, Estimate, How, Place, Placement, Policy, ReadyTask, Source, Ticket};

use crate::network::Sharing;
use crate::platform::Overheads;
use crate::problem::{NEVER, Problem};
use crate::schedule::Schedule;
use crate::stream::Stream;
use arrivals::Arrivals;
use data::Data;
use queue::Queue;
use spaces::Spaces;
use streaming::Streaming;

/// Estimates are exact: as if each had been measured so often.
const MEASURED: u32 = 1 << 20;
/// Policies under which no processor is idle beside a task that it may run.
const BUSY: [&str; 4] = ["fifo", "priority", "random", "work-stealing"];

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineOptions {
    /// Where the policy's random numbers begin.
    pub seed: u64,
    /// Whether decisions and transfers are kept.
    pub keeps_decisions: bool,
    /// Whether policies are not told how long the way to the end is: of tasks that a program spawns one after the other nobody knows what comes behind them.
    pub hides_ranks: bool,
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

/// What a task returned went from one memory space to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The task that returned it.
    pub task: u32,
    /// The space that it came from.
    pub from: u32,
    /// The space that it went to.
    pub to: u32,
    /// How many bytes it had.
    pub bytes: u64,
    /// When it was started, in nanoseconds from the beginning.
    pub start_ns: u64,
    /// When it was there.
    pub end_ns: u64,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Where and when each task ran.
    pub schedule: Schedule,
    /// What the policy decided, in order, if that was to be kept.
    pub decisions: Vec<Decided>,
    /// Why tasks went where they went ([`Why::name`](poniard::policy::Why::name)), counted.
    pub reasons: BTreeMap<&'static str, u64>,
    /// What was moved, as it was started, if that was to be kept.
    pub transfers: Vec<Transfer>,
    /// Which graphs of a stream were cancelled, by number, rising. Those of their tasks that had not begun have no processor in the schedule.
    pub cancelled: Vec<u32>,
    /// How many tasks ran elsewhere than they were placed.
    pub stolen: u64,
    /// How many bytes were moved from one memory space to another.
    pub moved_bytes: u64,
    /// How long processors waited for data of a task that they had taken, or for memory, in nanoseconds.
    pub data_wait_ns: u64,
    /// How many events there were.
    pub events: u64,
}

impl Outcome {
    /// What was decided and moved of a part of the tasks, which rise, and are known by their positions in `tasks` from then on.
    #[must_use]
    pub fn only(mut self, tasks: &[u32]) -> Self {
        self.schedule = self.schedule.only(tasks);
        let number = |task: u32| tasks.binary_search(&task).ok().map(|number| number as u32);
        let decided = |one: &Decided| Some(Decided { task: number(one.task)?, ..*one });
        self.decisions = self.decisions.iter().filter_map(decided).collect();
        let moved = |one: &Transfer| Some(Transfer { task: number(one.task)?, ..*one });
        self.transfers = self.transfers.iter().filter_map(moved).collect();
        self
    }
}

/// A task that is under way.
#[derive(Clone, Copy, Debug)]
struct Running {
    task: u32,
    /// What the board knows it by.
    ticket: Option<Ticket>,
    taken_ns: u64,
}

/// Runs a workload to its end.
///
/// # Panics
/// The policy breaks its contract: it leaves a task for ever although a processor is free that may run it, or places one where it cannot run.
#[must_use]
pub fn run(problem: &Problem<'_>, policy: Box<dyn Policy>, options: EngineOptions) -> Outcome {
    run_graphs(problem, policy, None, options)
}

/// Runs a stream to its end. The problem is that of the stream's workload, with its releases ([`Stream::releases_ns`]). A task that has begun when its graph is cancelled goes on to its end.
///
/// # Panics
/// As [`run`]; or the problem is not that of the stream.
#[must_use]
pub fn run_stream(problem: &Problem<'_>, stream: &Stream, policy: Box<dyn Policy>, options: EngineOptions) -> Outcome {
    assert_eq!(problem.len(), stream.workload().len(), "the problem is that of the stream");
    run_graphs(problem, policy, Some(Streaming::new(stream)), options)
}

fn run_graphs(problem: &Problem<'_>, policy: Box<dyn Policy>, streaming: Option<Streaming<'_>>, options: EngineOptions) -> Outcome {
    let places = (0..problem.processor_count()).map(|processor| {
        let mut place = Place::new(problem.column(processor) as u32, problem.space(processor) as u32, 1);
        // Whatever is placed has its data sent at once.
        place.prefetches = true;
        place
    });
    let count = problem.processor_count() as u64;
    // As in the runtime, for policies that look at them.
    let ranks = if policy.wants_ranks() && !options.hides_ranks {
        problem.upward_rank_sums().into_iter().map(|sum| sum / count.max(1)).collect()
    } else {
        Vec::new()
    };
    let is_busy = BUSY.contains(&policy.name());
    let live = Live { board: Board::new(places.collect(), policy, options.seed), ranks, next_number: 0, is_busy, streaming };
    Engine::new(problem, Decider::Live(Box::new(live)), options).run()
}

/// Runs a workload as it was planned: each processor has the tasks of the plan in the order of the plan, and begins each as soon as it has what that needs. What a task
/// returns is sent to where the plan has it needed as soon as it is there.
///
/// # Panics
/// The plan is none for this problem.
#[must_use]
pub fn run_plan(problem: &Problem<'_>, plan: &Schedule, options: EngineOptions) -> Outcome {
    let lists = planned::lists(problem, plan);
    let planned = Planned { lists, processor: plan.processor.clone(), is_ready: vec![false; problem.len()] };
    Engine::new(problem, Decider::Planned(planned), options).run()
}

/// Who says which task runs where.
enum Decider<'a> {
    Live(Box<Live<'a>>),
    Planned(Planned),
}

struct Live<'a> {
    board: Board<u32>,
    /// Empty if the policy does not look at them.
    ranks: Vec<u64>,
    next_number: u64,
    /// Whether no processor is to be idle beside a task that it may run.
    is_busy: bool,
    /// When which graph arrives and is cancelled, of a stream.
    streaming: Option<Streaming<'a>>,
}

struct Planned {
    /// Of each processor its tasks, the next one last.
    lists: Vec<Vec<u32>>,
    processor: Vec<u32>,
    is_ready: Vec<bool>,
}

struct Engine<'a> {
    problem: &'a Problem<'a>,
    decider: Decider<'a>,
    data: Data,
    queue: Queue,
    now_ns: u64,
    missing: Vec<u32>,
    running: Vec<Option<Running>>,
    costs: Overheads,
    /// Of each processor what a task costs there besides.
    overheads: Vec<u64>,
    /// How many tasks were submitted, where that takes time.
    submitted: usize,
    /// Tasks that wait on the board, in debug builds.
    waiting: BTreeSet<u32>,
    /// Places that are to be woken when all that gets ready now is on the board.
    pending: Vec<usize>,
    candidates: Vec<Candidate>,
    /// Of each space how long what the task at hand needs takes to get there, and how many bytes that is.
    lacks: Vec<(u64, u64)>,
    /// Why tasks went where they went, counted. Few reasons come up in a run.
    reasons: Vec<(&'static str, u64)>,
    options: EngineOptions,
    outcome: Outcome,
}

impl<'a> Engine<'a> {
    fn new(problem: &'a Problem<'a>, decider: Decider<'a>, options: EngineOptions) -> Self {
        let platform = problem.platform();
        assert!(problem.processor_count() < CANCEL as usize, "there are fewer than {CANCEL} processors");
        let is_alone = platform.sharing() == Sharing::None && (0..problem.space_count()).all(|space| platform.memory(space).is_none());
        let costs = platform.overheads();
        let overheads = platform.processors().iter().map(|processor| {
            let hop_ns = if processor.process == 0 { 0 } else { costs.hop_ns };
            costs.dispatch_ns + hop_ns + if processor.kind == "cpu" { 0 } else { costs.launch_ns }
        });
        let data = match decider {
            _ if !is_alone => Data::Shared(Box::new(Spaces::new(problem, options.keeps_decisions))),
            Decider::Live(_) => Data::Alone { arrivals: Arrivals::new(problem), homes: vec![(u32::MAX, 0); problem.len()] },
            Decider::Planned(_) => Data::AloneAsPlanned { arrivals: Arrivals::new(problem), there_ns: vec![0; problem.len()] },
        };
        Self {
            problem,
            decider,
            data,
            queue: Queue::default(),
            now_ns: 0,
            missing: (0..problem.len()).map(|task| problem.workload().in_degree(task) as u32).collect(),
            running: vec![None; problem.processor_count()],
            costs,
            overheads: overheads.collect(),
            submitted: 0,
            waiting: BTreeSet::new(),
            pending: Vec::new(),
            candidates: Vec::new(),
            lacks: vec![(0, 0); problem.space_count()],
            reasons: Vec::new(),
            options,
            outcome: Outcome { schedule: Schedule::with_room(problem.len()), ..Outcome::default() },
        }
    }

    fn run(mut self) -> Outcome {
        let problem = self.problem;
        if self.costs.submit_ns > 0 {
            self.missing.iter_mut().for_each(|missing| *missing += 1);
            self.submit_later();
        } else if self.is_stream() {
            self.arrive_later();
        } else {
            for task in (0..problem.len()).filter(|task| problem.workload().in_degree(*task) == 0) {
                self.push(task, None);
            }
        }
        self.cancel_later();
        self.wake_pending();
        let mut over = 0;
        loop {
            let transfer_ns = if let Data::Shared(spaces) = &mut self.data { spaces.network.next_ns() } else { None };
            let at_ns = match (transfer_ns, self.queue.next_ns()) {
                (None, None) => break,
                (Some(transfer_ns), task_ns) if task_ns.is_none_or(|task_ns| transfer_ns <= task_ns) => {
                    self.go_on(transfer_ns);
                    self.transfer();
                    self.check();
                    continue;
                }
                (_, task_ns) => task_ns.unwrap_or(u64::MAX),
            };
            let Some(processor) = self.queue.pop() else { break };
            self.go_on(at_ns);
            match processor {
                SUBMIT => self.submit(),
                ARRIVE => self.graph_arrives(),
                CANCEL => over += self.cancel(),
                processor => {
                    over += 1;
                    self.finish(processor as usize);
                }
            }
            self.check();
        }
        let who = if let Decider::Live(live) = &self.decider { live.board.policy().name() } else { "plan" };
        assert!(over == problem.len(), "the policy `{who}` leaves {} tasks for ever", problem.len() - over);
        if let Data::Shared(spaces) = self.data {
            (self.outcome.moved_bytes, self.outcome.transfers) = (spaces.moved_bytes, spaces.transfers);
        }
        self.outcome.reasons = self.reasons.into_iter().collect();
        if let Decider::Live(live) = &mut self.decider
            && let Some(streaming) = &mut live.streaming
        {
            self.outcome.cancelled = streaming.cancelled();
        }
        self.outcome
    }

    fn go_on(&mut self, at_ns: u64) {
        debug_assert!(at_ns >= self.now_ns, "time goes on");
        self.now_ns = at_ns;
        self.outcome.events += 1;
    }

    /// What is true between events, in debug builds.
    fn check(&mut self) {
        if !cfg!(debug_assertions) {
            return;
        }
        if let Data::Shared(spaces) = &self.data {
            spaces.check();
        }
        if let Decider::Live(live) = &self.decider
            && live.is_busy
        {
            let idle = (0..self.running.len()).filter(|place| self.running[*place].is_none());
            for (place, task) in idle.flat_map(|place| self.waiting.iter().map(move |task| (place, *task as usize))) {
                let who = live.board.policy().name();
                assert!(self.problem.cost_ns(task, place) == NEVER, "under `{who}` task {task} waits although processor {place} is idle");
            }
        }
    }

    fn submit_later(&mut self) {
        let now_ns = self.now_ns;
        let (next, from_ns) = match self.streaming() {
            // Nobody submits what is cancelled, or what is not there yet.
            Some(streaming) => streaming.next_submitted(),
            None => (self.submitted, 0),
        };
        self.submitted = next;
        if next < self.problem.len() {
            self.queue.push(now_ns.max(from_ns) + self.costs.submit_ns, SUBMIT);
        }
    }

    /// The next task is submitted.
    fn submit(&mut self) {
        let task = self.submitted;
        self.submitted += 1;
        if let Some(streaming) = self.streaming() {
            streaming.submitted(task);
        }
        self.submit_later();
        self.arrive(task, None);
        self.wake_pending();
    }

    /// One of the things that a task waits for is there.
    fn arrive(&mut self, task: usize, origin: Option<usize>) {
        self.missing[task] -= 1;
        if self.missing[task] == 0 && !self.is_dropped(task) {
            self.push(task, origin);
        }
    }

    /// A transfer is over, or moves its first byte.
    fn transfer(&mut self) {
        let Data::Shared(spaces) = &mut self.data else { return };
        if let Some(replica) = spaces.network.pop() {
            spaces.arrived(self.problem, replica, self.now_ns);
            self.begin_ready();
        }
    }

    /// A task is ready.
    fn push(&mut self, task: usize, origin: Option<usize>) {
        match &mut self.decider {
            Decider::Planned(planned) => {
                planned.is_ready[task] = true;
                let place = planned.processor[task] as usize;
                if self.running[place].is_none() {
                    self.take(place);
                }
            }
            Decider::Live(_) => self.place(task, origin),
        }
    }

    /// The policy says where a task waits.
    fn place(&mut self, task: usize, origin: Option<usize>) {
        let problem = self.problem;
        self.look_what_lacks(task);
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        let (row, spreads, is_known) = (problem.row(task), problem.spread_row(task), problem.is_known());
        let count = if is_known { MEASURED } else { 0 };
        for (place, overhead_ns) in self.overheads.iter().copied().enumerate() {
            let column = problem.column(place);
            let mean_ns = row[column];
            if mean_ns == NEVER {
                continue;
            }
            let (transfer_ns, missing_bytes) = self.lacks[problem.space(place)];
            let execution = Estimate { mean_ns, spread_ns: spreads.get(column).copied().unwrap_or(0), count };
            candidates.push(Candidate { place, execution, transfer_ns, missing_bytes, overhead_ns });
        }
        let Decider::Live(live) = &mut self.decider else { return };
        let workload = problem.workload();
        let ready = ReadyTask {
            number: live.next_number,
            code: u64::from(workload.code(task)),
            priority: live.streaming.as_ref().map_or(0, |streaming| streaming.priority(task)),
            rank_ns: live.ranks.get(task).copied(),
            bytes: workload.edges_in(task).map(|(_, edge)| workload.bytes(edge)).fold(0, u64::saturating_add),
            origin,
            candidates: &candidates,
        };
        live.next_number += 1;
        let pushed = live.board.push(&ready, task as u32, self.now_ns);
        if let Some(streaming) = &mut live.streaming {
            streaming.waits(task, pushed.ticket);
        }
        self.candidates = candidates;
        if cfg!(debug_assertions) {
            self.waiting.insert(task as u32);
        }
        if let Placement::Place(place) = pushed.decision.placement {
            self.send(task, place);
        }
        let why = pushed.decision.why.name();
        match self.reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, count)) => *count += 1,
            None => self.reasons.push((why, 1)),
        }
        if self.options.keeps_decisions {
            self.outcome.decisions.push(Decided { at_ns: self.now_ns, task: task as u32, decision: pushed.decision });
        }
        self.pending.extend(pushed.wake);
    }

    /// All that gets ready now is on the board: a thread that is woken takes longer to come than that.
    fn wake_pending(&mut self) {
        if let Decider::Planned(_) = &self.decider {
            return;
        }
        let mut pending = std::mem::take(&mut self.pending);
        for place in pending.drain(..) {
            if self.running[place].is_none() {
                self.take(place);
            }
        }
        self.pending = pending;
        let Decider::Live(live) = &mut self.decider else { return };
        let next = live.board.to_wake(self.now_ns);
        self.wake(next);
    }

    /// These places have nothing to do and look at the board, and whoever else is to.
    fn wake(&mut self, first: Option<usize>) {
        let mut next = first;
        while let Some(place) = next {
            if self.running[place].is_none() {
                self.take(place);
            }
            let Decider::Live(live) = &mut self.decider else { return };
            next = live.board.to_wake(self.now_ns);
        }
    }

    fn take(&mut self, place: usize) {
        let (task, ticket) = match &mut self.decider {
            Decider::Planned(planned) => {
                let Some(task) = planned.lists[place].pop_if(|task| planned.is_ready[*task as usize]) else { return };
                (task, None)
            }
            Decider::Live(live) => {
                let Some(taken) = live.board.take(place, self.now_ns) else { return };
                let How { source, .. } = taken.how;
                self.outcome.stolen += u64::from(matches!(source, Source::Stolen { .. } | Source::TakenOver { .. }));
                if cfg!(debug_assertions) {
                    self.waiting.remove(&taken.value);
                }
                if let Some(streaming) = &mut live.streaming {
                    streaming.begins(taken.value as usize);
                }
                (taken.value, Some(taken.ticket))
            }
        };
        self.running[place] = Some(Running { task, ticket, taken_ns: self.now_ns });
        // Where it runs: whoever looks for what it returns looks there.
        self.outcome.schedule.processor[task as usize] = place as u32;
        if let Data::Shared(spaces) = &mut self.data {
            spaces.claim(self.problem, task as usize, place, self.now_ns);
            self.begin_ready();
            return;
        }
        let (problem, task) = (self.problem, task as usize);
        let there_ns = match &self.data {
            Data::AloneAsPlanned { there_ns, .. } => there_ns[task],
            Data::Alone { homes, .. } if homes[task].0 != u32::MAX && problem.space(homes[task].0 as usize) == problem.space(place) => {
                homes[task].1
            }
            _ => {
                self.send(task, place);
                let Data::Alone { homes, .. } = &self.data else { return };
                homes[task].1
            }
        };
        self.begin(place, there_ns);
    }

    fn begin_ready(&mut self) {
        while let Data::Shared(spaces) = &mut self.data
            && let Some(place) = spaces.ready()
        {
            self.begin(place, self.now_ns);
        }
    }

    /// What a place has taken begins when its data is there.
    fn begin(&mut self, place: usize, there_ns: u64) {
        let Some(Running { task, taken_ns, .. }) = self.running[place] else { unreachable!("it was taken") };
        let problem = self.problem;
        let Overheads { dispatch_ns, allocation_ns, .. } = self.costs;
        let dispatched_ns = taken_ns + dispatch_ns;
        let mut start_ns = there_ns.max(dispatched_ns) + (self.overheads[place] - dispatch_ns);
        if allocation_ns > 0 {
            start_ns += allocation_ns * self.allocations(task as usize, place);
        }
        let end_ns = start_ns + problem.duration_ns(task as usize, place);
        self.outcome.data_wait_ns += there_ns.saturating_sub(dispatched_ns);
        self.outcome.schedule.set(task as usize, place, start_ns, end_ns);
        self.queue.push(end_ns, place as u32);
    }

    /// What a processor runs is over.
    fn finish(&mut self, processor: usize) {
        let Some(Running { task, ticket, .. }) = self.running[processor].take() else { unreachable!("it ends what it runs") };
        let (problem, workload, task) = (self.problem, self.problem.workload(), task as usize);
        if let (Decider::Live(live), Some(ticket)) = (&mut self.decider, ticket) {
            let ended = live.board.finished(ticket, self.now_ns);
            debug_assert!(ended.is_some(), "it was taken");
            if let Some(streaming) = &mut live.streaming {
                streaming.ended(task);
            }
        }
        match &mut self.data {
            Data::Alone { arrivals, .. } if arrivals.has_blocks() => workload.edges_in(task).for_each(|(_, edge)| arrivals.release(edge)),
            Data::Alone { .. } | Data::AloneAsPlanned { .. } => {}
            Data::Shared(spaces) => {
                spaces.ended(problem, task, processor, self.now_ns);
                if let Decider::Planned(planned) = &self.decider {
                    for edge in workload.edges_out(task) {
                        let place = planned.processor[workload.target(edge)] as usize;
                        spaces.send_block_ahead(problem, edge, problem.space(place), self.now_ns);
                    }
                }
                self.begin_ready();
            }
        }
        if let Data::AloneAsPlanned { .. } = &self.data {
            self.deliver(task, processor);
        }
        for edge in workload.edges_out(task) {
            self.arrive(workload.target(edge), Some(processor));
        }
        if self.running[processor].is_none() {
            self.take(processor);
        }
        self.wake_pending();
    }
}

/// Instead of a processor: the next task is submitted.
const SUBMIT: u32 = queue::LAST;
/// The same: the next graph of a stream arrives.
const ARRIVE: u32 = queue::LAST - 1;
/// The same: the next graph of a stream is cancelled.
const CANCEL: u32 = queue::LAST - 2;

#[cfg(test)]
mod tests;
