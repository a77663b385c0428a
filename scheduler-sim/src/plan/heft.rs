//! Heterogeneous earliest finish time: Haluk Topcuoglu, Salim Hariri and Min-You Wu, "Performance-effective and low-complexity task scheduling for heterogeneous
//! computing", 2002. Tasks by falling upward rank, each where it finishes first.

use super::{Slot, by_priority};
use crate::problem::Problem;
use crate::schedule::Schedule;

pub(super) fn heft(problem: &Problem<'_>, slot: Slot) -> Schedule {
    let ranks = problem.upward_rank_sums();
    by_priority(
        problem,
        |task| ranks[task],
        |plan, task| {
            plan.arrive(task);
            let best = plan.best(task, slot);
            plan.place(task, best);
        },
    )
}
