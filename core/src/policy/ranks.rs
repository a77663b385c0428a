//! Upward ranks: how long the longest way from each task to the end of its graph is.
//!
//! From Haluk Topcuoglu, Salim Hariri and Min-You Wu, "Performance-effective and low-complexity task scheduling for heterogeneous computing", 2002:
//! a task's rank is its mean cost, and the most that one of its successors has of transfer and rank together.

use std::fmt;

/// A graph as two arrays: the successors of task `t` are `successors[starts[t]..starts[t + 1]]`.
#[derive(Clone, Copy, Debug)]
pub struct Successors<'a> {
    /// For each task where its successors begin, and at last how many edges there are. `[0]` is the graph without tasks.
    pub starts: &'a [usize],
    /// Tasks, by index.
    pub successors: &'a [u32],
}

impl Successors<'_> {
    fn of(&self, task: usize) -> std::ops::Range<usize> {
        self.starts[task]..self.starts[task + 1]
    }
}

/// The edges form a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// A task that is on it, or behind it.
    pub task: usize,
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} depends on itself, by way of others", self.task)
    }
}

impl std::error::Error for Cycle {}

/// The upward rank of each task, given the mean cost of each task over the places that may run it, and for each edge the mean cost of its transfer (0 between
/// tasks in one memory space; 0 counts in the mean). Sums saturate. Any unit will do: with sums over the places instead of means nothing is rounded.
///
/// Takes one step for each task and edge, and two words for each task.
///
/// # Errors
/// There is a cycle.
///
/// # Panics
/// There are more or fewer costs than tasks, transfers than edges, or a successor that is no task.
pub fn upward_ranks(graph: Successors<'_>, costs: &[u64], transfers: &[u64]) -> Result<Vec<u64>, Cycle> {
    let task_count = costs.len();
    assert_eq!(graph.starts.len(), task_count + 1, "one start for each task, and the end");
    assert_eq!(graph.successors.len(), transfers.len(), "one transfer for each edge");
    let mut predecessor_counts = vec![0_u32; task_count];
    for &successor in graph.successors {
        predecessor_counts[successor as usize] += 1;
    }
    let mut order: Vec<u32> = Vec::with_capacity(task_count);
    order.extend((0..task_count as u32).filter(|&task| predecessor_counts[task as usize] == 0));
    let mut next = 0;
    while let Some(&task) = order.get(next) {
        next += 1;
        for &successor in &graph.successors[graph.of(task as usize)] {
            let count = &mut predecessor_counts[successor as usize];
            *count -= 1;
            if *count == 0 {
                order.push(successor);
            }
        }
    }
    if order.len() < task_count {
        let task = predecessor_counts.iter().position(|&count| count > 0).unwrap_or_default();
        return Err(Cycle { task });
    }
    let mut ranks = costs.to_vec();
    for &task in order.iter().rev() {
        let edges = graph.of(task as usize);
        let longest = edges.map(|edge| transfers[edge].saturating_add(ranks[graph.successors[edge] as usize])).max();
        ranks[task as usize] = costs[task as usize].saturating_add(longest.unwrap_or(0));
    }
    Ok(ranks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paper's example: ten tasks on three processors. As sums over the three, so that all is exact.
    #[test]
    fn the_example_of_the_paper_has_the_ranks_of_the_paper() {
        let costs = [
            [14, 16, 9],
            [13, 19, 18],
            [11, 13, 19],
            [13, 8, 17],
            [12, 13, 10],
            [13, 16, 9],
            [7, 15, 11],
            [5, 11, 14],
            [18, 12, 20],
            [21, 7, 16],
        ]
        .map(|costs| costs.iter().sum::<u64>());
        let edges: [(u32, u32, u64); 15] = [
            (0, 1, 18),
            (0, 2, 12),
            (0, 3, 9),
            (0, 4, 11),
            (0, 5, 14),
            (1, 7, 19),
            (1, 8, 16),
            (2, 6, 23),
            (3, 7, 27),
            (3, 8, 23),
            (4, 8, 13),
            (5, 7, 15),
            (6, 9, 17),
            (7, 9, 11),
            (8, 9, 13),
        ];
        let starts: Vec<_> = (0..=10).map(|task| edges.iter().filter(|(from, ..)| *from < task).count()).collect();
        let successors = edges.map(|(_, to, _)| to);
        let transfers = edges.map(|(.., cost)| 3 * cost);
        let ranks = upward_ranks(Successors { starts: &starts, successors: &successors }, &costs, &transfers).unwrap();
        let thirds = |whole: u64, third: u64| 3 * whole + third;
        let paper = [(108, 0), (77, 0), (80, 0), (80, 0), (69, 0), (63, 1), (42, 2), (35, 2), (44, 1), (14, 2)];
        assert_eq!(ranks, paper.map(|(whole, third)| thirds(whole, third)));
    }

    #[test]
    fn a_cycle_is_an_error_and_no_tasks_are_none() {
        let cycle = Successors { starts: &[0, 1, 2, 3, 3], successors: &[1, 2, 1] };
        assert_eq!(upward_ranks(cycle, &[1; 4], &[0; 3]), Err(Cycle { task: 1 }));
        assert_eq!(upward_ranks(Successors { starts: &[0], successors: &[] }, &[], &[]), Ok(vec![]));
    }

    #[test]
    fn a_long_chain_needs_no_stack_and_sums_saturate() {
        let count = 200_000_u32;
        let starts: Vec<_> = (0..count as usize).chain([count as usize - 1]).collect();
        let successors: Vec<_> = (1..count).collect();
        let ranks =
            upward_ranks(Successors { starts: &starts, successors: &successors }, &vec![2; count as usize], &vec![1; count as usize - 1]);
        assert_eq!(ranks.unwrap()[0], 3 * u64::from(count) - 1);
        let huge = Successors { starts: &[0, 1, 1], successors: &[1] };
        assert_eq!(upward_ranks(huge, &[u64::MAX, u64::MAX], &[u64::MAX]), Ok(vec![u64::MAX; 2]));
    }
}
