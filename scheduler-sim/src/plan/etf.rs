//! Earliest task first: Jing-Jang Hwang, Yuan-Chieh Chow, Frank D. Anger and Chung-Yee Lee, "Scheduling precedence graphs in systems with interprocessor communication
//! times", 1989. Of all pairs of a ready task and a processor the one that can start earliest; of equal ones the task with the longest way to the end.

use super::{Plan, Slot};
use crate::problem::Problem;
use crate::schedule::Schedule;

pub(super) fn etf(problem: &Problem<'_>) -> Schedule {
    let costs: Vec<u64> = (0..problem.len()).map(|task| problem.mean_cost_sum(task)).collect();
    let levels = problem.ranks_of(&costs, &vec![0; problem.workload().edge_count()]);
    let mut plan = Plan::new(problem);
    let mut ready: Vec<Ready> = Vec::new();
    let mut fresh: Vec<usize> = plan.roots().collect();
    loop {
        for task in fresh.drain(..) {
            ready.push(Ready::new(&mut plan, task));
        }
        let key = |entry: &&Ready| (entry.best.0, std::cmp::Reverse(levels[entry.task]), entry.task);
        let Some((task, processor)) = ready.iter().min_by_key(key).map(|entry| (entry.task, entry.best.1)) else { break };
        plan.arrive(task);
        let Some(spot) = plan.spot(task, processor, Slot::Append) else { unreachable!("it was chosen since it can run there") };
        plan.place(task, spot);
        ready.retain(|entry| entry.task != task);
        let free_ns = spot.end_ns;
        for entry in &mut ready {
            entry.starts[processor] = entry.starts[processor].map(|start| start.max(free_ns));
            if entry.best.1 == processor {
                entry.choose();
            }
        }
        plan.release(task, |next| fresh.push(next));
    }
    plan.schedule
}

/// A ready task with its start at each processor that can run it.
struct Ready {
    task: usize,
    starts: Vec<Option<u64>>,
    /// The earliest one, and where.
    best: (u64, usize),
}

impl Ready {
    fn new(plan: &mut Plan<'_>, task: usize) -> Self {
        plan.arrive(task);
        let starts =
            (0..plan.problem.processor_count()).map(|processor| plan.spot(task, processor, Slot::Append).map(|spot| spot.start_ns));
        let mut entry = Self { task, starts: starts.collect(), best: (0, 0) };
        entry.choose();
        entry
    }

    fn choose(&mut self) {
        let starts = self.starts.iter().enumerate().filter_map(|(processor, start)| Some(((*start)?, processor)));
        self.best = starts.min().unwrap_or((u64::MAX, 0));
    }
}
