//! All that is ready is looked at together: Min-Min and Max-Min, from Oscar H. Ibarra and Chul E. Kim, "Heuristic algorithms for scheduling independent tasks on
//! nonidentical processors", 1977, and Sufferage, from Muthucumaru Maheswaran, Shoukat Ali, Howard Jay Siegel, Debra Hensgen and Richard F. Freund, "Dynamic mapping of
//! a class of independent tasks onto heterogeneous computing systems", 1999.

use std::cmp::Reverse;

use super::{Plan, Slot};
use crate::problem::Problem;
use crate::schedule::Schedule;

/// Level by level: the next batch is what got ready while this one was placed.
pub(super) fn min_min(problem: &Problem<'_>) -> Schedule {
    batches(problem, |entry| Reverse(entry.best.0))
}

/// The same, the one that ends last first.
pub(super) fn max_min(problem: &Problem<'_>) -> Schedule {
    batches(problem, |entry| entry.best.0)
}

/// One by one: what gets ready joins at once.
pub(super) fn sufferage(problem: &Problem<'_>) -> Schedule {
    let mut plan = Plan::new(problem);
    let mut fresh: Vec<usize> = plan.roots().collect();
    let mut ready = Vec::new();
    loop {
        for task in fresh.drain(..) {
            ready.push(Ready::new(&mut plan, task));
        }
        let Some(task) = step(&mut plan, &mut ready, |entry| entry.second_ns.saturating_sub(entry.best.0)) else { break };
        plan.release(task, |next| fresh.push(next));
    }
    plan.schedule
}

fn batches<K: Ord>(problem: &Problem<'_>, urgent: impl Fn(&Ready) -> K) -> Schedule {
    let mut plan = Plan::new(problem);
    let mut fresh: Vec<usize> = plan.roots().collect();
    while !fresh.is_empty() {
        let mut ready: Vec<Ready> = fresh.drain(..).map(|task| Ready::new(&mut plan, task)).collect();
        while let Some(task) = step(&mut plan, &mut ready, &urgent) {
            plan.release(task, |next| fresh.push(next));
        }
    }
    plan.schedule
}

/// Places the most urgent task where it ends first; of equal ones that with the smallest number.
fn step<K: Ord>(plan: &mut Plan<'_>, ready: &mut Vec<Ready>, urgent: impl Fn(&Ready) -> K) -> Option<usize> {
    let index = (0..ready.len()).max_by_key(|&index| (urgent(&ready[index]), Reverse(ready[index].task)))?;
    let Ready { task, best: (_, processor), .. } = ready.swap_remove(index);
    plan.arrive(task);
    let Some(spot) = plan.spot(task, processor, Slot::Append) else { unreachable!("it was chosen since it can run there") };
    plan.place(task, spot);
    for entry in ready.iter_mut() {
        let Some((end_ns, cost_ns)) = entry.ends[processor] else { continue };
        entry.ends[processor] = Some((end_ns.max(spot.end_ns.saturating_add(cost_ns)), cost_ns));
        entry.choose();
    }
    Some(task)
}

/// A ready task with its end and its cost at each processor that can run it.
struct Ready {
    task: usize,
    ends: Vec<Option<(u64, u64)>>,
    /// The earliest end, and where.
    best: (u64, usize),
    /// The end at the next best.
    second_ns: u64,
}

impl Ready {
    fn new(plan: &mut Plan<'_>, task: usize) -> Self {
        plan.arrive(task);
        let ends = (0..plan.problem.processor_count()).map(|processor| {
            let spot = plan.spot(task, processor, Slot::Append)?;
            Some((spot.end_ns, spot.end_ns - spot.start_ns))
        });
        let mut entry = Self { task, ends: ends.collect(), best: (0, 0), second_ns: 0 };
        entry.choose();
        entry
    }

    fn choose(&mut self) {
        let (mut best, mut second) = ((u64::MAX, 0), u64::MAX);
        for (processor, end) in self.ends.iter().enumerate() {
            let Some((end_ns, _)) = *end else { continue };
            if end_ns < best.0 {
                second = best.0;
                best = (end_ns, processor);
            } else {
                second = second.min(end_ns);
            }
        }
        // With a single processor there is nothing to lose.
        (self.best, self.second_ns) = (best, if second == u64::MAX { best.0 } else { second });
    }
}
