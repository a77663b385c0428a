//! A plan as the engine follows it.

use std::cmp::Reverse;

use crate::problem::Problem;
use crate::schedule::Schedule;

/// Of each processor its tasks as they were planned, the next one last.
pub(super) fn lists(problem: &Problem<'_>, plan: &Schedule) -> Vec<Vec<u32>> {
    let mut counts = vec![0; problem.processor_count()];
    plan.processor.iter().for_each(|processor| counts[*processor as usize] += 1);
    let mut lists: Vec<Vec<u32>> = counts.into_iter().map(Vec::with_capacity).collect();
    if plan.start_ns.iter().zip(&plan.end_ns).any(|(start_ns, end_ns)| start_ns == end_ns) {
        // Tasks that take no time begin together with others; the order of the graph decides between those.
        let order = problem.workload().order();
        order.into_iter().rev().for_each(|task| lists[plan.processor[task as usize] as usize].push(task));
        let key = |task: &u32| (plan.start_ns[*task as usize], plan.end_ns[*task as usize]);
        lists.iter_mut().for_each(|list| list.sort_by_key(|task| Reverse(key(task))));
        return lists;
    }
    plan.processor.iter().zip(0..).for_each(|(processor, task)| lists[*processor as usize].push(task));
    // As one number each, which sorts several times as fast as looking times up does.
    let mut keys: Vec<u128> = Vec::new();
    for list in &mut lists {
        keys.clear();
        keys.extend(list.iter().map(|task| u128::from(plan.start_ns[*task as usize]) << u32::BITS | u128::from(*task)));
        keys.sort_unstable();
        list.iter_mut().zip(keys.iter().rev()).for_each(|(task, key)| *task = *key as u32);
    }
    lists
}
