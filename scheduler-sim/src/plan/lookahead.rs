//! Lookahead: Luiz F. Bittencourt, Rizos Sakellariou and Edmundo R. M. Madeira, "DAG scheduling using a lookahead variant of the heterogeneous earliest finish time
//! algorithm", 2010. As HEFT, but a task goes where its successors would finish first, were they placed right after it.

use super::{Plan, Slot, Spot, by_priority};
use crate::problem::Problem;
use crate::schedule::Schedule;

pub(super) fn lookahead(problem: &Problem<'_>) -> Schedule {
    let ranks = problem.upward_rank_sums();
    by_priority(
        problem,
        |task| ranks[task],
        |plan, task| {
            plan.arrive(task);
            let spots: Vec<Spot> =
                (0..problem.processor_count()).filter_map(|processor| plan.spot(task, processor, Slot::Insertion)).collect();
            let mut children: Vec<usize> = problem.workload().edges_out(task).map(|edge| problem.workload().target(edge)).collect();
            children.sort_by_key(|child| (std::cmp::Reverse(ranks[*child]), *child));
            let best = spots.iter().min_by_key(|spot| (onward_ns(plan, task, **spot, &children), spot.processor)).copied();
            let Some(best) = best else { unreachable!("every task can run somewhere") };
            plan.place(task, best);
        },
    )
}

/// When the last child would end if the task were placed there, and each child then where it ends first. What else a child needs and is not placed yet counts for nothing.
fn onward_ns(plan: &Plan<'_>, task: usize, spot: Spot, children: &[usize]) -> u64 {
    if children.is_empty() {
        return spot.end_ns;
    }
    let mut trial = plan.clone();
    trial.place(task, spot);
    let mut last_ns = 0;
    for &child in children {
        trial.arrive(child);
        let best = trial.best(child, Slot::Insertion);
        trial.place(child, best);
        last_ns = last_ns.max(best.end_ns);
    }
    last_ns
}
