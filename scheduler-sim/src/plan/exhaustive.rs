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
    shortest(problem, refine::refine(problem, None, refine::SHORT))
}

/// A schedule that is shorter than `best` and as short as can be, or else `best`. One without tasks is as long as one likes.
fn shortest(problem: &Problem<'_>, best: Schedule) -> Schedule {
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
        best_ns: if best.processor.is_empty() { u64::MAX } else { best.makespan_ns() },
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::PLANNERS;
    use crate::{Platform, Workload, WorkloadBuilder};

    /// Three processors: alike but for their costs, or two that share a memory, and links that differ.
    fn platform(is_alike: bool) -> Platform {
        let two_spaces = "[link]\nbandwidth = 1e9\n[[processor]]\ncount = 2\nspace = 'host'\n[[processor]]\nspace = 'far'\n\
            [[between]]\nfrom = 'host'\nto = 'far'\nbandwidth = 5e8\n";
        if is_alike { Platform::of_speeds(&[1.0; 3], Some(1e9)).unwrap() } else { Platform::from_toml(two_spaces).unwrap() }
    }

    /// A cost for each task and column, the column of each processor, and perhaps an edge from each task to each later one.
    type Random = (Vec<[u64; 2]>, Vec<u32>, Vec<Option<u64>>, bool);

    fn random(most: usize) -> impl Strategy<Value = Random> {
        let costs = prop::collection::vec([0_u64..20, 0_u64..24], 1..=most);
        let edges = prop::collection::vec(prop::option::of(0_u64..12), most * most);
        (costs, prop::collection::vec(0_u32..2, 3), edges, any::<bool>())
    }

    fn workload(costs: &[[u64; 2]], edges: &[Option<u64>]) -> Workload {
        let mut builder = WorkloadBuilder::new("random");
        costs.iter().for_each(|_| _ = builder.task("t", "code", 0));
        for to in 0..costs.len() {
            for from in 0..to {
                if let Some(bytes) = edges[to * (to - 1) / 2 + from] {
                    builder.edge(from, to, bytes);
                }
            }
        }
        builder.build().unwrap()
    }

    /// Of a task now and then only one column can run it.
    fn problem<'w>(workload: &'w Workload, (costs, columns, _, is_alike): &Random) -> Problem<'w> {
        let columns = vec![0, 1, columns[2]];
        let rows = costs.iter().flat_map(|[one, other]| [*one, if *other < 20 { *other } else { NEVER }]).collect();
        Problem::with_costs(workload, &platform(*is_alike), columns, rows)
    }

    /// The least length of what comes when tasks are appended in this order and any that is left, each anywhere.
    fn least_ns(problem: &Problem<'_>, order: &mut Vec<usize>, schedule: &mut Schedule) -> u64 {
        if order.len() == problem.len() {
            return schedule.makespan_ns();
        }
        let mut least = u64::MAX;
        for task in 0..problem.len() {
            let is_ready = problem.workload().edges_in(task).all(|(source, _)| order.contains(&source));
            if order.contains(&task) || !is_ready {
                continue;
            }
            for processor in (0..problem.processor_count()).filter(|processor| problem.cost_ns(task, *processor) != NEVER) {
                let free =
                    order.iter().filter(|other| schedule.processor[**other] as usize == processor).map(|other| schedule.end_ns[*other]);
                let arrivals = problem.workload().edges_in(task).map(|(source, edge)| {
                    let from = problem.space(schedule.processor[source] as usize);
                    schedule.end_ns[source] + problem.transfer_ns(edge, from, problem.space(processor))
                });
                let start = free.chain(arrivals).max().unwrap_or(0);
                schedule.set(task, processor, start, start + problem.cost_ns(task, processor));
                order.push(task);
                least = least.min(least_ns(problem, order, schedule));
                order.pop();
                schedule.set(task, u32::MAX as usize, 0, 0);
            }
        }
        least
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn nothing_is_shorter(case in random(5)) {
            let workload = workload(&case.0, &case.2);
            let problem = problem(&workload, &case);
            let least = least_ns(&problem, &mut Vec::new(), &mut Schedule::with_room(problem.len()));
            // A good first plan hides what is wrong with the search.
            for schedule in [exhaustive(&problem), shortest(&problem, Schedule::default())] {
                prop_assert_eq!(schedule.check(&problem), Ok(()));
                prop_assert_eq!(schedule.makespan_ns(), least);
            }
            prop_assert!(problem.lower_bound_ns() <= least);
        }

        #[test]
        fn no_planner_is_shorter(case in random(8)) {
            let workload = workload(&case.0, &case.2);
            let problem = problem(&workload, &case);
            let least = exhaustive(&problem).makespan_ns();
            for planner in PLANNERS {
                let schedule = (planner.plan)(&problem);
                prop_assert_eq!(schedule.check(&problem), Ok(()), "{}", planner.name);
                prop_assert!(schedule.makespan_ns() >= least, "{}: {} < {least}", planner.name, schedule.makespan_ns());
            }
        }
    }
}
