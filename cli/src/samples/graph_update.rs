//! `graph-update`: every edge of a random graph changes the two nodes at its ends. Edges that share a node commute: one at a time, in whatever order they can begin, and no node is locked.
//!
//! With `write` instead of `commute` the result would be the same, but each edge would wait for all those before it that share a node with it.

use poniard::{Data, Mutable, commute};

use super::limits;
use super::random::Random;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "graph-update",
    summary: "every edge of a random graph changes both of its ends: accesses that commute",
    options: &[
        SampleOption { name: "size", meaning: "number of nodes, at least 2, default 2000; there are eight edges for each" },
        SampleOption { name: "seed", meaning: "what the edges are drawn from, default 0" },
    ],
    kernels: false,
    run,
};

/// Edges for each node.
const EDGES: u64 = 8;

/// What edges change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Data)]
struct Node {
    /// How many edges have changed it.
    degree: u64,
    /// What they have brought less what they have taken.
    balance: i64,
}

/// An edge: so much goes from one node to another.
#[derive(Clone, Copy, Debug)]
struct Edge {
    from: usize,
    to: usize,
    amount: i64,
}

/// The edges of a graph, none of which ends where it begins; two nodes may have several.
fn edges(nodes: usize, seed: u64) -> impl Iterator<Item = Edge> {
    let mut random = Random::new(seed, 0);
    let nodes = nodes as u64;
    (0..nodes * EDGES).map(move |_| {
        let from = random.below(nodes);
        let to = (from + 1 + random.below(nodes - 1)) % nodes;
        Edge { from: from as usize, to: to as usize, amount: random.below(1000) as i64 }
    })
}

/// What an edge does.
fn update(from: &mut Node, to: &mut Node, amount: i64) {
    from.degree += 1;
    from.balance -= amount;
    to.degree += 1;
    to.balance += amount;
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let size = limits::count("size", context.size, 2000, limits::MOST_TASKS)?;
    if size < 2 {
        return Err(SampleError::Usage { option: "size", reason: "an edge has two ends, which are not the same node: at least 2".into() });
    }
    let count = limits::tasks("size", (size as u64).checked_mul(EDGES))?;

    let nodes: Vec<Mutable<Node>> = (0..size).map(|_| Mutable::new(Node::default())).collect();
    context.runtime.region(|r| {
        for edge in edges(size, context.seed) {
            r.spawn(update, (commute(&nodes[edge.from]), commute(&nodes[edge.to]), edge.amount));
        }
    })?;
    let nodes = nodes.into_iter().map(Mutable::take).collect::<Result<Vec<Node>, _>>()?;
    context.progress.advance(count, count);

    let (busiest, degree) = nodes.iter().map(|node| node.degree).enumerate().max_by_key(|(_, degree)| *degree).unwrap_or_default();
    Ok(Outcome {
        lines: vec![format!("{count} edges have changed {size} nodes; most of them node {busiest}: {degree}")],
        values: vec![("nodes", size.into()), ("edges", count.into()), ("most", degree.into())],
        check: check(&nodes, context.seed),
        output: None,
    })
}

/// The edges one after the other.
fn check(nodes: &[Node], seed: u64) -> Check {
    let mut expected = vec![(0, 0); nodes.len()];
    for Edge { from, to, amount } in edges(nodes.len(), seed) {
        for (node, change) in [(from, -amount), (to, amount)] {
            expected[node].0 += 1;
            expected[node].1 += change;
        }
    }
    let different = nodes.iter().zip(expected).filter(|(node, expected)| (node.degree, node.balance) != *expected).count();
    Check { passed: different == 0, text: format!("{different} of {} nodes differ from a plain loop over the edges", nodes.len()) }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn runs_at_every_size() {
        // The smaller, the more edges want the same nodes.
        for size in [2, 3, 5, 100, 1500] {
            for threads in [1, 3] {
                Trial { size: Some(size), threads: Some(threads), seed: size, ..Trial::default() }.passes(&SAMPLE);
            }
        }
    }

    #[test]
    fn no_edge_ends_where_it_begins() {
        assert!(edges(2, 0).all(|edge| edge.from != edge.to && edge.from < 2 && edge.to < 2));
        assert_eq!(edges(7, 1).count(), 56);
    }

    #[test]
    fn refuses_sizes_without_sense() {
        for size in [0, 1, limits::MOST_TASKS, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
    }

    #[test]
    fn check_notices_a_lost_update() {
        let mut nodes = vec![Node::default(); 3];
        for Edge { from, to, amount } in edges(3, 4) {
            nodes[from].degree += 1;
            nodes[from].balance -= amount;
            nodes[to].degree += 1;
            nodes[to].balance += amount;
        }
        assert!(check(&nodes, 4).passed);
        nodes[1].degree -= 1;
        assert!(!check(&nodes, 4).passed);
    }
}
