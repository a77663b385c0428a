//! Running a graph again takes nothing from the allocator: alone in its program, as it counts what all threads do.

use poniard::{GraphBuilder, Node, Runtime, TaskGraph};
use poniard_bench::{CountingAllocator, count as counted};
use poniard_tests::{add, threads};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// How many allocations `body` makes, on all threads.
fn allocations(body: impl FnOnce()) -> u64 {
    counted(body).allocations
}

/// The last node of a graph, and the graph.
type Built = (TaskGraph, Node<u64>);

fn chain() -> Built {
    let mut graph = GraphBuilder::new();
    let mut last = graph.task(add, (1, 2));
    for _ in 0..1000 {
        last = graph.task(add, (last, 1));
    }
    (graph.build().expect("a graph"), last)
}

/// Layers of nodes that depend on three of the layer before, between a node and one that depends on all.
fn layers(width: usize, count: usize) -> Built {
    let mut graph = GraphBuilder::new();
    let first = graph.task(add, (1, 2));
    let mut layer: Vec<Node<u64>> = (0..width).map(|_| graph.task(add, (first, 1))).collect();
    for _ in 0..count {
        let at = |column: usize| layer[column % width];
        let next = |column: usize| (at(column), at(column + 1), at(column + 2));
        layer = (0..width).map(|column| graph.task(|a: &u64, b: &u64, c: &u64| a ^ b ^ c, next(column))).collect();
    }
    let last = graph.task(|parts: poniard::Gather<'_, u64>| parts.iter().sum::<u64>(), (layer,));
    (graph.build().expect("a graph"), last)
}

fn independent() -> Built {
    let mut graph = GraphBuilder::new();
    let mut last = graph.task(add, (1, 2));
    for _ in 0..5000 {
        last = graph.task(add, (1, 2));
    }
    (graph.build().expect("a graph"), last)
}

fn run(runtime: &Runtime, (graph, last): &Built) {
    let run = graph.run(runtime, ()).expect("a run");
    run.wait().expect("no failure");
    run.fetch(last).expect("no failure");
}

#[test]
fn a_rerun_takes_nothing_from_the_allocator() {
    let graphs = [("chain", chain()), ("independent", independent()), ("narrow", layers(4, 200)), ("wide", layers(300, 20))];
    for count in [1, 2] {
        let runtime = threads(count);
        for (name, graph) in &graphs {
            // Memory of a run, of queues and of threads comes with the first ones. How long queues get depends on who is faster.
            let mut quiet = 0;
            let mut rounds = 0;
            while quiet < 100 {
                rounds += 1;
                quiet = if allocations(|| run(&runtime, graph)) == 0 { quiet + 1 } else { 0 };
                assert!(rounds < 10_000, "{name} on {count} threads allocates again and again");
            }
        }
    }
    // With inputs, and begun inside a task. On one thread: a worker that waits for another one lends its place, and that takes some memory.
    let runtime = threads(1);
    let mut graph = GraphBuilder::new();
    let x = graph.input::<u64>("x");
    let last = graph.task(add, (x, 1));
    let graph = graph.build().expect("a graph");
    let handle = runtime.handle();
    let inside = move || {
        let rerun =
            |value: u64| assert_eq!(*graph.run(&handle, ((&x, value),)).expect("a run").fetch(last).expect("no failure"), value + 1);
        rerun(0);
        // Whoever waits for this task takes some memory when he begins to.
        (0..10).map(|_| allocations(|| (0..1000).for_each(rerun))).min()
    };
    assert_eq!(runtime.spawn(inside, ()).take().expect("no failure"), Some(0));
}
