//! All schedules, but for those that cannot be shorter than the best one so far: branch and bound, A. H. Land and A. G. Doig, "An automatic method of solving discrete
//! programming problems", 1960. What to compare the other planners with.
//!
//! Tasks are placed by rising start, each behind the last one of its processor. Some shortest schedule comes about so: in one in which no task can begin earlier, take
//! them by their starts.

use super::refine;
use crate::problem::{NEVER, Problem};
use crate::schedule::Schedule;

/// The most tasks that are searched.
pub(super) const MOST_TASKS: usize = 12;

/// A shortest schedule.
///
/// # Panics
/// There are more than [`MOST_TASKS`] tasks.
pub(super) fn exhaustive(problem: &Problem<'_>) -> Schedule {
    assert!(problem.len() <= MOST_TASKS, "whoever asks has looked at the number of tasks");
    let best = refine::refine(problem, None, refine::SHORT);
    let least: Vec<u64> = (0..problem.len()).map(|task| problem.row(task).iter().copied().min().unwrap_or(0)).collect();
    let onward_ns = problem.ranks_of(&least, &vec![0; problem.workload().edge_count()]);
    let count = problem.processor_count();
    // How many times faster some task is elsewhere than here, at least.
    let share = |processor: usize| {
        let slower = (0..problem.len()).filter(|task| least[*task] > 0).map(|task| match problem.cost_ns(task, processor) {
            NEVER => 0.0,
            cost => least[task] as f64 / cost as f64,
        });
        slower.fold(0.0, f64::max)
    };
    let shares = (0..count).map(share).collect();
    let mut search = Search {
        problem,
        bound_ns: problem.lower_bound_ns(),
        left_ns: least.iter().map(|ns| *ns as f64).sum(),
        least,
        onward_ns,
        shares,
        is_alike: problem.space_count() == count
            && (0..problem.workload().edge_count()).all(|edge| problem.uniform_transfer_ns(edge).is_some()),
        free_ns: vec![0; count],
        used: vec![false; count],
        missing: (0..problem.len()).map(|task| problem.workload().in_degree(task)).collect(),
        now: Schedule::with_room(problem.len()),
        best_ns: best.makespan_ns(),
        best,
    };
    search.step(0, 0, 0);
    search.best
}

struct Search<'p> {
    problem: &'p Problem<'p>,
    bound_ns: u64,
    /// Of each task the least time from its start to the end of all.
    onward_ns: Vec<u64>,
    least: Vec<u64>,
    /// What is not placed yet takes so long where it is fastest.
    left_ns: f64,
    /// How much of that each processor does in a nanosecond, at most.
    shares: Vec<f64>,
    /// Whether processors with nothing to do differ by their column only.
    is_alike: bool,
    free_ns: Vec<u64>,
    used: Vec<bool>,
    missing: Vec<usize>,
    now: Schedule,
    best: Schedule,
    best_ns: u64,
}

impl Search<'_> {
    /// Places one more task in all ways. `placed` are, the last one began at `from_ns`, and one ends at `end_ns`.
    fn step(&mut self, placed: usize, from_ns: u64, end_ns: u64) {
        let problem = self.problem;
        if placed == problem.len() {
            if end_ns < self.best_ns {
                (self.best_ns, self.best) = (end_ns, self.now.clone());
            }
            return;
        }
        if self.work_ns(from_ns) >= self.best_ns as f64 {
            return;
        }
        for task in 0..problem.len() {
            if self.missing[task] > 0 || self.now.processor[task] != u32::MAX {
                continue;
            }
            for processor in 0..problem.processor_count() {
                let cost = problem.cost_ns(task, processor);
                if cost == NEVER || self.has_twin(processor) {
                    continue;
                }
                let start_ns = self.start_ns(task, processor);
                let end = start_ns + cost;
                let onward_ns = (self.onward_ns[task] - self.least[task]).saturating_add(end);
                if start_ns < from_ns || onward_ns >= self.best_ns {
                    continue;
                }
                let (free_ns, used) = (self.free_ns[processor], self.used[processor]);
                self.now.set(task, processor, start_ns, end);
                (self.free_ns[processor], self.used[processor]) = (end, true);
                self.left_ns -= self.least[task] as f64;
                let next = problem.workload().edges_out(task).map(|edge| problem.workload().target(edge));
                next.clone().for_each(|next| self.missing[next] -= 1);
                self.step(placed + 1, start_ns, end_ns.max(end));
                next.for_each(|next| self.missing[next] += 1);
                self.left_ns += self.least[task] as f64;
                (self.free_ns[processor], self.used[processor]) = (free_ns, used);
                self.now.processor[task] = u32::MAX;
                if self.best_ns <= self.bound_ns {
                    return;
                }
            }
        }
    }

    /// When all processors would be done together with what is left, were it cut into pieces. A little less, as the sum is rounded.
    fn work_ns(&self, from_ns: u64) -> f64 {
        let (mut done, mut speed) = (self.left_ns, 0.0);
        for (free, share) in self.free_ns.iter().zip(&self.shares) {
            done += (*free).max(from_ns) as f64 * share;
            speed += share;
        }
        if speed > 0.0 { done / speed * (1.0 - 1e-9) } else { 0.0 }
    }

    /// Whether an earlier processor with nothing to do is the same.
    fn has_twin(&self, processor: usize) -> bool {
        let problem = self.problem;
        let is_twin = |other: usize| !self.used[other] && problem.column(other) == problem.column(processor);
        self.is_alike && !self.used[processor] && (0..processor).any(is_twin)
    }

    fn start_ns(&self, task: usize, processor: usize) -> u64 {
        let problem = self.problem;
        let arrivals = problem.workload().edges_in(task).map(|(source, edge)| {
            let from = problem.space(self.now.processor[source] as usize);
            self.now.end_ns[source] + problem.transfer_ns(edge, from, problem.space(processor))
        });
        arrivals.fold(self.free_ns[processor], u64::max)
    }
}
