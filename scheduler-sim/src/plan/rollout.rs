//! Rollout: Dimitri P. Bertsekas, John N. Tsitsiklis and Cynara Wu, "Rollout algorithms for combinatorial optimization", 1997. As HEFT, but a task goes where the whole plan would be
//! shortest were the rest planned by HEFT: never longer than HEFT's plan, for as many HEFT plans as there are tasks and processors.

use std::cmp::Reverse;

use super::refine::{LONG, Made, refine};
use super::{Plan, Slot};
use crate::problem::Problem;
use crate::schedule::Schedule;

pub(super) fn rollout(problem: &Problem<'_>) -> Schedule {
    rolled_out(problem).schedule
}

/// The shorter one of two plans that are [refined](refine), one of which begins as a rollout.
pub(super) fn refined(problem: &Problem<'_>) -> Schedule {
    let plans = [None, Some(rolled_out(problem))].map(|given| refine(problem, given, LONG));
    let [one, other] = plans;
    if other.makespan_ns() < one.makespan_ns() { other } else { one }
}

/// A rollout with what the plan was made from.
fn rolled_out(problem: &Problem<'_>) -> Made {
    let keys = problem.upward_rank_sums();
    let mut position = vec![0_u32; problem.len()];
    let mut order = problem.workload().order();
    order.iter().enumerate().for_each(|(at, task)| position[*task as usize] = at as u32);
    order.sort_unstable_by_key(|task| (Reverse(keys[*task as usize]), position[*task as usize]));
    let mut plan = Plan::new(problem);
    // Where HEFT would have gone elsewhere.
    let mut fixed = vec![u32::MAX; problem.len()];
    let mut before = plan.timelines.clone();
    for (at, &task) in order.iter().enumerate() {
        let task = task as usize;
        plan.arrive(task);
        let spots: Vec<_> = (0..problem.processor_count()).filter_map(|processor| plan.spot(task, processor, Slot::Insertion)).collect();
        before.clone_from(&plan.timelines);
        let mut best = None;
        for spot in spots {
            plan.place(task, spot);
            let known_ns = best.map_or(u64::MAX, |(end_ns, _)| end_ns);
            let mut end_ns = spot.end_ns;
            for &next in &order[at + 1..] {
                if end_ns >= known_ns {
                    break;
                }
                end_ns = end_ns.max(plan.place_best(next as usize).end_ns);
            }
            if end_ns < known_ns {
                best = Some((end_ns, spot));
            }
            order[at..].iter().for_each(|task| plan.schedule.processor[*task as usize] = u32::MAX);
            plan.timelines.clone_from(&before);
        }
        let Some((_, spot)) = best else { unreachable!("every task can run somewhere") };
        plan.arrive(task);
        if spot != plan.best(task, Slot::Insertion) {
            fixed[task] = spot.processor as u32;
        }
        plan.place(task, spot);
    }
    let count = problem.processor_count().max(1) as u64;
    Made { schedule: plan.schedule, keys: keys.into_iter().map(|sum| sum / count).collect(), fixed }
}
