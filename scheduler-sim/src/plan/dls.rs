//! Dynamic level scheduling: Gilbert C. Sih and Edward A. Lee, "A compile-time scheduling heuristic for interconnection-constrained heterogeneous processor
//! architectures", 1993. Of all pairs of a ready task and a processor the one with the highest level: the task's static level, less its start there, plus how much faster
//! than usual it is there.

use super::{Plan, Slot};
use crate::problem::{NEVER, Problem};
use crate::schedule::Schedule;

/// What the level consists of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dls {
    /// Where a task may be placed.
    pub slot: Slot,
    /// What the static level has of an edge, as a share of what its transfer takes in the mean; none in the paper.
    pub transfer_share: f64,
}

impl Dls {
    /// As in the paper: behind the last task, and the static level has no transfers.
    pub const PAPER: Self = Self { slot: Slot::Append, transfer_share: 0.0 };
}

/// Plans by dynamic levels.
#[must_use]
pub fn dls(problem: &Problem<'_>, how: Dls) -> Schedule {
    let medians: Vec<u64> = (0..problem.len()).map(|task| median(problem, task)).collect();
    let count = problem.processor_count() as f64;
    let transfers: Vec<u64> = (0..problem.workload().edge_count())
        .map(|edge| (problem.mean_transfer_sum(edge) as f64 / count * how.transfer_share * 2.0).round() as u64)
        .collect();
    // Twice everything: the median of an even number is the middle between two.
    let levels = problem.ranks_of(&medians, &transfers);
    let mut plan = Plan::new(problem);
    let mut ready: Vec<Ready> = Vec::new();
    let roots: Vec<usize> = plan.roots().collect();
    for task in roots {
        ready.push(Ready::new(&mut plan, task, &levels, &medians, how.slot));
    }
    while !ready.is_empty() {
        let urgent = |entry: &&Ready| (entry.best.0, levels[entry.task], std::cmp::Reverse(entry.task));
        let Some(chosen) = ready.iter().max_by_key(urgent).map(|entry| (entry.task, entry.best.1)) else { break };
        let (task, processor) = chosen;
        plan.arrive(task);
        let Some(spot) = plan.spot(task, processor, how.slot) else { unreachable!("it was chosen since it can run there") };
        plan.place(task, spot);
        ready.retain(|entry| entry.task != task);
        // Only at this processor has anything changed.
        ready.iter_mut().for_each(|entry| entry.update(&mut plan, processor, &levels, &medians, how.slot));
        let mut next = Vec::new();
        plan.release(task, |task| next.push(task));
        for task in next {
            ready.push(Ready::new(&mut plan, task, &levels, &medians, how.slot));
        }
    }
    plan.schedule
}

/// A ready task with its level at each processor.
struct Ready {
    task: usize,
    levels: Vec<i128>,
    /// The highest one, and where.
    best: (i128, usize),
}

impl Ready {
    fn new(plan: &mut Plan<'_>, task: usize, levels: &[u64], medians: &[u64], slot: Slot) -> Self {
        let count = plan.problem.processor_count();
        let mut entry = Self { task, levels: vec![i128::MIN; count], best: (i128::MIN, 0) };
        plan.arrive(task);
        for processor in 0..count {
            entry.levels[processor] = level(plan, task, processor, levels, medians, slot);
        }
        entry.choose();
        entry
    }

    fn update(&mut self, plan: &mut Plan<'_>, processor: usize, levels: &[u64], medians: &[u64], slot: Slot) {
        plan.arrive(self.task);
        self.levels[processor] = level(plan, self.task, processor, levels, medians, slot);
        self.choose();
    }

    fn choose(&mut self) {
        // The first of equal ones.
        let best = self.levels.iter().enumerate().max_by_key(|(processor, level)| (**level, std::cmp::Reverse(*processor)));
        self.best = best.map_or((i128::MIN, 0), |(processor, level)| (*level, processor));
    }
}

/// Twice the dynamic level.
fn level(plan: &Plan<'_>, task: usize, processor: usize, levels: &[u64], medians: &[u64], slot: Slot) -> i128 {
    let Some(spot) = plan.spot(task, processor, slot) else { return i128::MIN };
    let cost = plan.problem.cost_ns(task, processor);
    i128::from(levels[task]) - 2 * i128::from(spot.start_ns) + i128::from(medians[task]) - 2 * i128::from(cost)
}

/// Twice the median cost.
fn median(problem: &Problem<'_>, task: usize) -> u64 {
    let mut costs: Vec<u64> =
        (0..problem.processor_count()).map(|processor| problem.cost_ns(task, processor)).filter(|cost| *cost != NEVER).collect();
    costs.sort_unstable();
    match costs.len() {
        0 => 0,
        count if count % 2 == 1 => 2 * costs[count / 2],
        count => costs[count / 2 - 1] + costs[count / 2],
    }
}
