//! Predict earliest finish time: Hamid Arabnejad and Jorge G. Barbosa, "List scheduling algorithm for heterogeneous systems by an optimistic cost table", 2014.
//! The table says for each task and processor how long it takes from there to the end at best, were every processor free.

use super::{Plan, Slot, Spot, by_priority};
use crate::problem::{NEVER, Problem};
use crate::schedule::Schedule;

/// Which processors the table has a column for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peft {
    /// Those that there are.
    Paper,
    /// One more, of speed 1 and with a memory space of its own, which never runs a task. Another program counts it in. Where links differ it is left out.
    Phantom,
}

/// Plans by the table.
#[must_use]
pub fn peft(problem: &Problem<'_>, columns: Peft) -> Schedule {
    let (table, width) = optimistic_costs(problem, columns);
    let row = |task: usize| &table[task * width..(task + 1) * width];
    // Sums instead of means: as many terms for each task.
    let ranks: Vec<u128> = (0..problem.len()).map(|task| row(task).iter().map(|cost| u128::from(*cost)).sum()).collect();
    by_priority(
        problem,
        |task| ranks[task],
        |plan, task| {
            plan.arrive(task);
            let best = best(plan, task, &row(task)[..problem.processor_count()]);
            plan.place(task, best);
        },
    )
}

fn best(plan: &Plan<'_>, task: usize, onward: &[u64]) -> Spot {
    let mut best: Option<(u64, Spot)> = None;
    for (processor, onward) in onward.iter().enumerate() {
        let cost = plan.problem.cost_ns(task, processor);
        let known = best.map_or(NEVER, |(end, _)| end);
        if cost == NEVER || (plan.arrival_ns(processor) + cost).saturating_add(*onward) >= known {
            continue;
        }
        if let Some(spot) = plan.spot(task, processor, Slot::Insertion) {
            let end = spot.end_ns.saturating_add(*onward);
            if end < known {
                best = Some((end, spot));
            }
        }
    }
    match best {
        Some((_, spot)) => spot,
        None => unreachable!("every task can run somewhere"),
    }
}

/// For each task a row with a number for each processor, and the length of a row.
fn optimistic_costs(problem: &Problem<'_>, columns: Peft) -> (Vec<u64>, usize) {
    let (count, spaces, workload) = (problem.processor_count(), problem.space_count(), problem.workload());
    let is_uniform = (0..workload.edge_count()).all(|edge| problem.uniform_transfer_ns(edge).is_some());
    let width = count + usize::from(columns == Peft::Phantom && is_uniform);
    let space = |processor: usize| if processor < count { problem.space(processor) } else { spaces };
    let mut table = vec![0_u64; problem.len() * width];
    // What a successor takes from a space on, there and for who comes from elsewhere.
    let mut in_space = vec![NEVER; spaces + width - count];
    let mut from_space = vec![0_u64; in_space.len()];
    for &task in workload.order().iter().rev() {
        let task = task as usize;
        let (start, end) = (task * width, (task + 1) * width);
        for edge in workload.edges_out(task) {
            let target = workload.target(edge);
            in_space.fill(NEVER);
            for processor in 0..width {
                let cost = if processor < count { problem.cost_ns(target, processor) } else { workload.work_ns(target) };
                let least = &mut in_space[space(processor)];
                *least = (*least).min(cost.saturating_add(table[target * width + processor]));
            }
            match problem.uniform_transfer_ns(edge) {
                Some(transfer) => {
                    let anywhere = in_space.iter().copied().min().unwrap_or(NEVER).saturating_add(transfer);
                    from_space.iter_mut().zip(&in_space).for_each(|(from, here)| *from = anywhere.min(*here));
                }
                None => {
                    for (from, least) in from_space.iter_mut().enumerate() {
                        let ways = in_space.iter().enumerate().map(|(to, cost)| cost.saturating_add(problem.transfer_ns(edge, from, to)));
                        *least = ways.min().unwrap_or(NEVER);
                    }
                }
            }
            for (processor, longest) in table[start..end].iter_mut().enumerate() {
                *longest = (*longest).max(from_space[space(processor)]);
            }
        }
    }
    (table, width)
}
