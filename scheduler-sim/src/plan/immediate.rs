//! Tasks in the order in which they get ready, each placed at once: minimum completion time, minimum execution time and opportunistic load balancing, from Muthucumaru
//! Maheswaran, Shoukat Ali, Howard Jay Siegel, Debra Hensgen and Richard F. Freund, "Dynamic mapping of a class of independent tasks onto heterogeneous computing
//! systems", 1999.

use super::{Plan, Slot, Spot};
use crate::problem::Problem;
use crate::schedule::Schedule;

pub(super) fn mct(problem: &Problem<'_>) -> Schedule {
    immediately(problem, |_, spot| spot.end_ns)
}

pub(super) fn met(problem: &Problem<'_>) -> Schedule {
    immediately(problem, |_, spot| spot.end_ns - spot.start_ns)
}

pub(super) fn olb(problem: &Problem<'_>) -> Schedule {
    immediately(problem, |plan, spot| plan.timelines[spot.processor].last_end_ns())
}

/// Each at the processor for which `badness` is least; of equal ones the first.
fn immediately(problem: &Problem<'_>, badness: impl Fn(&Plan<'_>, Spot) -> u64) -> Schedule {
    let mut plan = Plan::new(problem);
    // By when all that it needs is over.
    let mut ready: std::collections::BTreeSet<(u64, usize)> = plan.roots().map(|task| (0, task)).collect();
    while let Some((_, task)) = ready.pop_first() {
        plan.arrive(task);
        let spots = (0..problem.processor_count()).filter_map(|processor| plan.spot(task, processor, Slot::Append));
        let Some(spot) = spots.min_by_key(|spot| (badness(&plan, *spot), spot.processor)) else {
            unreachable!("every task can run somewhere")
        };
        plan.place(task, spot);
        let mut next = Vec::new();
        plan.release(task, |task| next.push(task));
        for task in next {
            let over = problem.workload().edges_in(task).map(|(source, _)| plan.schedule.end_ns[source]).max().unwrap_or(0);
            ready.insert((over, task));
        }
    }
    plan.schedule
}
