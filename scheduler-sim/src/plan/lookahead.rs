//! Lookahead: Luiz F. Bittencourt, Rizos Sakellariou and Edmundo R. M. Madeira, "DAG scheduling using a lookahead variant of the heterogeneous earliest finish time
//! algorithm", 2010. As HEFT, but a task goes where its successors would finish first, were they placed right after it.

use super::timeline::Timeline;
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
            let best = spots.into_iter().min_by_key(|spot| (onward_ns(plan, task, *spot, &children), spot.processor));
            let Some(best) = best else { unreachable!("every task can run somewhere") };
            plan.place(task, best);
        },
    )
}

/// When the last child would end if the task were placed there, and each child then where it ends first. What else a child needs and is not placed yet counts for nothing.
fn onward_ns(plan: &mut Plan<'_>, task: usize, spot: Spot, children: &[usize]) -> u64 {
    if children.is_empty() {
        return spot.end_ns;
    }
    let mut trial = Trial::default();
    trial.place(plan, task, spot);
    let mut last_ns = 0;
    for &child in children {
        plan.arrive(child);
        let best = plan.best(child, Slot::Insertion);
        trial.place(plan, child, best);
        last_ns = last_ns.max(best.end_ns);
    }
    trial.undo(plan);
    last_ns
}

/// What was placed to see what comes of it.
#[derive(Default)]
struct Trial {
    tasks: Vec<usize>,
    /// Of each processor that was changed what it was before.
    before: Vec<(usize, Timeline)>,
}

impl Trial {
    fn place(&mut self, plan: &mut Plan<'_>, task: usize, spot: Spot) {
        if self.before.iter().all(|(processor, _)| *processor != spot.processor) {
            self.before.push((spot.processor, plan.timelines[spot.processor].clone()));
        }
        self.tasks.push(task);
        plan.place(task, spot);
    }

    fn undo(self, plan: &mut Plan<'_>) {
        for (processor, timeline) in self.before {
            plan.timelines[processor] = timeline;
        }
        for task in self.tasks {
            plan.schedule.processor[task] = u32::MAX;
        }
    }
}
