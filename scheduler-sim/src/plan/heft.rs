//! Heterogeneous earliest finish time: Haluk Topcuoglu, Salim Hariri and Min-You Wu, "Performance-effective and low-complexity task scheduling for heterogeneous
//! computing", 2002. Tasks by falling upward rank, each where it finishes first.

use super::{Slot, by_priority};
use crate::problem::Problem;
use crate::schedule::Schedule;

/// What ranks consist of, and where tasks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heft {
    /// Where a task may be placed.
    pub slot: Slot,
    /// What ranks have of a transfer: this part of the mean over pairs of different processors, as a numerator and a denominator. Others take the mean over other pairs.
    pub transfer_share: (u64, u64),
}

impl Heft {
    /// As in the paper.
    pub const PAPER: Self = Self { slot: Slot::Insertion, transfer_share: (1, 1) };
}

/// Plans by upward ranks.
#[must_use]
pub fn heft(problem: &Problem<'_>, how: Heft) -> Schedule {
    let ranks = match how.transfer_share {
        (1, 1) => problem.upward_rank_sums(),
        (numerator, denominator) => {
            // All times the denominator, so that nothing is rounded.
            let costs: Vec<u64> = (0..problem.len()).map(|task| problem.mean_cost_sum(task).saturating_mul(denominator)).collect();
            let edges = 0..problem.workload().edge_count();
            let transfers: Vec<u64> = edges.map(|edge| problem.mean_transfer_sum(edge).saturating_mul(numerator)).collect();
            problem.ranks_of(&costs, &transfers)
        }
    };
    by_priority(
        problem,
        |task| ranks[task],
        |plan, task| {
            plan.arrive(task);
            let best = plan.best(task, how.slot);
            plan.place(task, best);
        },
    )
}
