//! Critical path on a processor: Haluk Topcuoglu, Salim Hariri and Min-You Wu, "Performance-effective and low-complexity task scheduling for heterogeneous computing",
//! 2002. The tasks of the longest way go to the one processor that runs all of them fastest, the others where they finish first.

use super::{Slot, by_priority};
use crate::problem::{NEVER, Problem};
use crate::schedule::Schedule;

pub(super) fn cpop(problem: &Problem<'_>) -> Schedule {
    let workload = problem.workload();
    let upward = problem.upward_rank_sums();
    let mut downward = vec![0_u64; problem.len()];
    for &task in &workload.order() {
        let task = task as usize;
        let ways = workload.edges_in(task).map(|(source, edge)| {
            downward[source].saturating_add(problem.mean_cost_sum(source)).saturating_add(problem.mean_transfer_sum(edge))
        });
        downward[task] = ways.max().unwrap_or(0);
    }
    let priority: Vec<u64> = upward.iter().zip(&downward).map(|(up, down)| up.saturating_add(*down)).collect();
    let is_critical = critical_path(problem, &priority);
    let home = (0..problem.processor_count()).min_by_key(|&processor| {
        let costs = (0..problem.len()).filter(|task| is_critical[*task]).map(|task| problem.cost_ns(task, processor));
        costs.fold(0_u128, |sum, cost| if cost == NEVER { u128::MAX } else { sum.saturating_add(u128::from(cost)) })
    });
    by_priority(
        problem,
        |task| priority[task],
        |plan, task| {
            plan.arrive(task);
            let at_home = home.filter(|_| is_critical[task]).and_then(|home| plan.spot(task, home, Slot::Insertion));
            let spot = at_home.unwrap_or_else(|| plan.best(task, Slot::Insertion));
            plan.place(task, spot);
        },
    )
}

/// Which tasks lie on the way that begins at the most urgent task which needs nothing, and goes on with the most urgent successor.
fn critical_path(problem: &Problem<'_>, priority: &[u64]) -> Vec<bool> {
    let workload = problem.workload();
    let mut is_critical = vec![false; problem.len()];
    let most_urgent = |tasks: &mut dyn Iterator<Item = usize>| tasks.max_by_key(|task| (priority[*task], std::cmp::Reverse(*task)));
    let mut next = most_urgent(&mut (0..problem.len()).filter(|task| workload.in_degree(*task) == 0));
    while let Some(task) = next {
        is_critical[task] = true;
        next = most_urgent(&mut workload.edges_out(task).map(|edge| workload.target(edge)));
    }
    is_critical
}
