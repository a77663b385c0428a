//! Planners: they know the whole graph and all costs, and say before anything runs where and when each task does. Each is a file that cites its paper.
//!
//! Ties go to the task with the smaller number, then to the processor with the smaller number. Times are whole nanoseconds and ranks are sums instead of means, so nothing
//! depends on the order in which numbers are added.

mod batch;
mod cpop;
mod dls;
mod etf;
mod exhaustive;
mod heft;
mod immediate;
mod lookahead;
mod peft;
mod refine;
mod rollout;
mod timeline;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use crate::problem::{NEVER, Problem};
use crate::schedule::Schedule;
use timeline::Timeline;

pub use dls::{Dls, dls};
pub use heft::{Heft, heft};
pub use peft::{Peft, peft};

/// Where on a processor a task may be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// In the first gap that is long enough.
    Insertion,
    /// Behind the last task.
    Append,
}

/// A planner that can be asked for by name.
#[derive(Clone, Copy)]
pub struct Planner {
    /// What it is called.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Makes a plan. Every task can run somewhere, and there are no more than `most_tasks`.
    pub plan: fn(&Problem<'_>) -> Schedule,
    /// It takes no more tasks than this; `usize::MAX` if it takes any number.
    pub most_tasks: usize,
}

impl Planner {
    const fn new(name: &'static str, summary: &'static str, plan: fn(&Problem<'_>) -> Schedule) -> Self {
        Self { name, summary, plan, most_tasks: usize::MAX }
    }

    /// Whether it takes that many tasks.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self, task_count: usize) -> Result<(), TooManyTasks> {
        if task_count <= self.most_tasks {
            return Ok(());
        }
        Err(TooManyTasks { planner: self.name, most_tasks: self.most_tasks, task_count })
    }
}

/// A planner does not take so many tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTasks {
    /// The planner.
    pub planner: &'static str,
    /// The most that it takes.
    pub most_tasks: usize,
    /// How many there are.
    pub task_count: usize,
}

impl fmt::Display for TooManyTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { planner, most_tasks, task_count } = self;
        write!(f, "`{planner}` looks at all schedules of up to {most_tasks} tasks, and there are {task_count}")
    }
}

impl std::error::Error for TooManyTasks {}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planner").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All planners.
pub const PLANNERS: [Planner; 17] = [
    Planner::new("cpop", "the critical path on one processor, the others where they finish first", cpop::cpop),
    Planner::new("dls", "the pair of task and processor with the highest level less its start", |problem| dls(problem, Dls::PAPER)),
    Planner::new("etf", "the task that can start earliest, there", etf::etf),
    Planner {
        most_tasks: exhaustive::MOST_TASKS,
        ..Planner::new("exhaustive", "a shortest schedule, by looking at all; up to 12 tasks", exhaustive::exhaustive)
    },
    Planner::new("heft", "by upward rank, where it finishes first, gaps filled", |problem| heft(problem, Heft::PAPER)),
    Planner::new("heft-append", "the same, gaps left", |problem| heft(problem, Heft { slot: Slot::Append, ..Heft::PAPER })),
    Planner::new("heft-refined", "heft, changed where it is critical while that helps: 200 changes", |problem| {
        refine::refine(problem, None, refine::SHORT)
    }),
    Planner::new("lookahead", "by upward rank, where the successors finish first", lookahead::lookahead),
    Planner::new("max-min", "of all that are ready the one whose best end is latest", batch::max_min),
    Planner::new("mct", "as they get ready, where each finishes first", immediate::mct),
    Planner::new("met", "as they get ready, where each takes least, however long the queue", immediate::met),
    Planner::new("min-min", "of all that are ready the one whose best end is earliest", batch::min_min),
    Planner::new("olb", "as they get ready, where the processor is free first", immediate::olb),
    Planner::new("peft", "by an optimistic cost table, which looks to the end of the graph", |problem| peft(problem, Peft::Paper)),
    Planner::new("rollout", "by upward rank, where the whole plan is shortest with the rest by heft; for small graphs", rollout::rollout),
    Planner::new(
        "rollout-refined",
        "rollout and heft, each changed where it is critical while that helps: 2,000 changes; for small graphs",
        rollout::refined,
    ),
    Planner::new("sufferage", "of all that are ready the one that loses most without its best processor", batch::sufferage),
];

/// The planner with this name.
#[must_use]
pub fn planner(name: &str) -> Option<Planner> {
    PLANNERS.into_iter().find(|planner| planner.name == name)
}

/// A place for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spot {
    processor: usize,
    start_ns: u64,
    end_ns: u64,
}

/// A schedule that grows.
#[derive(Clone, Debug)]
struct Plan<'p> {
    problem: &'p Problem<'p>,
    schedule: Schedule,
    timelines: Vec<Timeline>,
    /// For the task at hand: when all that it needs is in each memory space.
    arrivals: Vec<u64>,
    /// Of each task how many that it needs are not placed.
    missing: Vec<u32>,
    /// Whether it grows from the end: time runs backwards, and a task needs its successors.
    is_backward: bool,
}

impl<'p> Plan<'p> {
    fn new(problem: &'p Problem<'p>) -> Self {
        let columns = (0..problem.processor_count()).map(|processor| problem.column(processor)).max().map_or(0, |last| last + 1);
        let mut least = vec![NEVER; columns];
        for task in 0..problem.len() {
            least.iter_mut().zip(problem.row(task)).for_each(|(least, cost)| *least = (*least).min(*cost));
        }
        Self {
            schedule: Schedule::with_room(problem.len()),
            timelines: (0..problem.processor_count()).map(|processor| Timeline::new(least[problem.column(processor)])).collect(),
            arrivals: vec![0; problem.space_count()],
            missing: (0..problem.len()).map(|task| problem.workload().in_degree(task) as u32).collect(),
            problem,
            is_backward: false,
        }
    }

    /// Nothing is placed any more; from now on it grows from the beginning, or from the end.
    fn clear(&mut self, is_backward: bool) {
        self.is_backward = is_backward;
        self.schedule.processor.fill(u32::MAX);
        self.timelines.iter_mut().for_each(Timeline::clear);
    }

    /// The tasks that need nothing.
    fn roots(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.problem.len()).filter(|task| self.missing[*task] == 0)
    }

    /// Looks when all that a task needs is where. Tasks that are not placed yet count for nothing.
    fn arrive(&mut self, task: usize) {
        let workload = self.problem.workload();
        self.arrivals.fill(0);
        if self.is_backward {
            workload.edges_out(task).for_each(|edge| self.bring(workload.target(edge), edge));
        } else {
            workload.edges_in(task).for_each(|(source, edge)| self.bring(source, edge));
        }
    }

    /// What the task at hand needs of another one comes to each memory space.
    fn bring(&mut self, other: usize, edge: usize) {
        let Self { problem, schedule, arrivals, is_backward, .. } = self;
        let processor = schedule.processor[other];
        if processor == u32::MAX {
            return;
        }
        let (end, from) = (schedule.end_ns[other], problem.space(processor as usize));
        match problem.uniform_transfer_ns(edge) {
            Some(transfer) => {
                let there = end + transfer;
                let at_home = arrivals[from].max(end);
                arrivals.iter_mut().for_each(|arrival| *arrival = (*arrival).max(there));
                // The source's own space needs no transfer; what others send there counts still.
                arrivals[from] = at_home;
            }
            None => {
                for (to, arrival) in arrivals.iter_mut().enumerate() {
                    let transfer = if *is_backward { problem.transfer_ns(edge, to, from) } else { problem.transfer_ns(edge, from, to) };
                    *arrival = (*arrival).max(end + transfer);
                }
            }
        }
    }

    /// When all that the task at hand needs is where a processor works.
    fn arrival_ns(&self, processor: usize) -> u64 {
        self.arrivals[self.problem.space(processor)]
    }

    /// Where a processor would run the task at hand, if it can.
    fn spot(&self, task: usize, processor: usize, slot: Slot) -> Option<Spot> {
        let cost = self.problem.cost_ns(task, processor);
        if cost == NEVER {
            return None;
        }
        let (arrival, timeline) = (self.arrival_ns(processor), &self.timelines[processor]);
        let start_ns = match slot {
            Slot::Insertion => timeline.earliest_ns(arrival, cost),
            Slot::Append => arrival.max(timeline.last_end_ns()),
        };
        Some(Spot { processor, start_ns, end_ns: start_ns + cost })
    }

    /// Where the task at hand finishes first.
    fn best(&self, task: usize, slot: Slot) -> Spot {
        let mut best: Option<Spot> = None;
        for processor in 0..self.problem.processor_count() {
            // It cannot be better than with no wait; to look into the gaps is what takes time.
            let cost = self.problem.cost_ns(task, processor);
            let known = best.map_or(NEVER, |best| best.end_ns);
            if cost == NEVER || self.arrival_ns(processor) + cost >= known {
                continue;
            }
            match self.spot(task, processor, slot) {
                Some(spot) if spot.end_ns < known => best = Some(spot),
                _ => {}
            }
        }
        match best {
            Some(best) => best,
            None => unreachable!("every task can run somewhere"),
        }
    }

    /// Places a task where it finishes first, in a gap if there is one.
    fn place_best(&mut self, task: usize) -> Spot {
        self.arrive(task);
        let best = self.best(task, Slot::Insertion);
        self.place(task, best);
        best
    }

    fn place(&mut self, task: usize, spot: Spot) {
        self.schedule.set(task, spot.processor, spot.start_ns, spot.end_ns);
        self.timelines[spot.processor].place(spot.start_ns, spot.end_ns - spot.start_ns);
    }

    /// A task is placed: says which ones have all that they need now.
    fn release(&mut self, task: usize, mut ready: impl FnMut(usize)) {
        for edge in self.problem.workload().edges_out(task) {
            let target = self.problem.workload().target(edge);
            self.missing[target] -= 1;
            if self.missing[target] == 0 {
                ready(target);
            }
        }
    }
}

/// Of the tasks whose predecessors are placed always the one with the highest priority.
fn by_priority<'p, P: Ord + Copy>(
    problem: &'p Problem<'p>,
    priority: impl Fn(usize) -> P,
    mut place: impl FnMut(&mut Plan<'p>, usize),
) -> Schedule {
    let mut plan = Plan::new(problem);
    let mut ready: BinaryHeap<(P, Reverse<usize>)> = plan.roots().map(|task| (priority(task), Reverse(task))).collect();
    while let Some((_, Reverse(task))) = ready.pop() {
        place(&mut plan, task);
        plan.release(task, |next| ready.push((priority(next), Reverse(next))));
    }
    plan.schedule
}
