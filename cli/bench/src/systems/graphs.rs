//! Graphs that are built once and run often: the cases `independent`, `growth`, `chain`, `wavefront` and `metg` once more.
//!
//! `poniard-rerun` is a run of a graph that was built before, `poniard-build-run` all of it: build the graph, run it, drop it.

use std::cell::OnceCell;
use std::time::Instant;

use poniard::{GraphBuilder, GraphRunError, Input, Node, TaskError, TaskGraph};

use super::grid::Wavefront;
use super::{Setup, certain};
use crate::measure::{System, per_task};
use crate::metg::{Stencil, metg};
use crate::spin::spin;
use crate::tally::Tally;

static DONE: Tally = Tally::new();

/// Fewer nodes than this are too short a time to measure and run several times.
const AT_LEAST: u64 = 500_000;

/// The run of a graph that has all of its inputs, on a runtime that is there.
#[track_caller]
fn begun<T>(run: Result<T, GraphRunError>) -> T {
    match run {
        Ok(run) => run,
        Err(error) => panic!("{error}"),
    }
}

/// A graph that is right.
#[track_caller]
fn built(graph: GraphBuilder) -> TaskGraph {
    match graph.build() {
        Ok(graph) => graph,
        Err(error) => panic!("{error}"),
    }
}

/// Both ways to do a case that is done by a graph: `check` runs it and looks at what comes of it.
fn both<'a, G: 'a>(
    note: String,
    rounds: u64,
    count: u64,
    build: impl Fn() -> G + Clone + 'a,
    check: impl Fn(&G) + Clone + 'a,
) -> Vec<System<'a>> {
    let (build_again, check_again) = (build.clone(), check.clone());
    let graph = OnceCell::new();
    let rerun = move || {
        let graph = graph.get_or_init(&build);
        per_task(rounds * count, || (0..rounds).for_each(|_| check(graph)))
    };
    let build_run = move || per_task(rounds * count, || (0..rounds).for_each(|_| check_again(&build_again())));
    vec![System::new("poniard-rerun", note.clone(), rerun), System::new("poniard-build-run", note, build_run)]
}

/// So many nodes that depend on nothing.
pub(super) fn independent<'a>(setup: &'a Setup<'_>, count: u64) -> Vec<System<'a>> {
    let rounds = setup.effort.scaled(AT_LEAST).div_ceil(count).max(1);
    let build = move || {
        let mut graph = GraphBuilder::new();
        for _ in 0..count {
            graph.task(|| DONE.add_one(), ());
        }
        built(graph)
    };
    both(setup.note(&format!("{count} nodes")), rounds, count, build, move |graph| {
        certain(begun(graph.run(setup.runtime, ())).wait());
        assert_eq!(DONE.take(), count);
    })
}

/// Runs a graph without inputs whose last node is to come to `expected`.
fn check_last(setup: &Setup<'_>, (graph, last): &(TaskGraph, Node<u64>), expected: u64) {
    let run = begun(graph.run(setup.runtime, ()));
    assert_eq!(*certain(run.fetch(last)), expected);
    certain(run.wait());
}

/// Each node depends on the one before.
pub(super) fn chain<'a>(setup: &'a Setup<'_>) -> Vec<System<'a>> {
    let count = setup.effort.chain();
    let build = move || {
        let mut graph = GraphBuilder::new();
        let mut last = graph.task(|| 0u64, ());
        for _ in 0..count {
            last = graph.task(|x: &u64| x + 1, (last,));
        }
        (built(graph), last)
    };
    both(setup.note(&format!("{count} nodes")), 1, count, build, move |graph| check_last(setup, graph, count))
}

/// A square grid of cells.
pub(super) fn wavefront<'a>(setup: &'a Setup<'_>) -> Vec<System<'a>> {
    let grid = Wavefront::of(setup.effort);
    let expected = grid.expected();
    let note = setup.note(&format!("{0} x {0} cells", grid.edge));
    both(note, 1, grid.cell_count(), move || cells(grid), move |graph| check_last(setup, graph, expected))
}

fn cells(grid: Wavefront) -> (TaskGraph, Node<u64>) {
    let mut graph = GraphBuilder::new();
    let mut left = graph.task(|| 1u64, ());
    let mut row = vec![left];
    for _ in 1..grid.edge {
        left = graph.task(|left: &u64| *left, (left,));
        row.push(left);
    }
    for _ in 1..grid.edge {
        left = graph.task(|above: &u64| *above, (row[0],));
        row[0] = left;
        for cell in &mut row[1..] {
            left = graph.task(|above: &u64, left: &u64| above.wrapping_add(*left), (*cell, left));
            *cell = left;
        }
    }
    (built(graph), left)
}

/// A stencil whose nodes spin for as many iterations as each run says.
pub(super) fn stencil<'a>(setup: &'a Setup<'_>, width: usize) -> System<'a> {
    let stencil = Stencil::of_width(width);
    let expected = stencil.expected();
    let (graph, iterations, last) = steps(stencil);
    let note = setup.note(&format!("work in a task at 50 % efficiency, {} steps", stencil.steps));
    System::new("poniard-rerun", note, move || {
        metg(stencil, setup.workers, setup.effort.metg_tries(), |count| {
            let start = Instant::now();
            let run = begun(graph.run(setup.runtime, ((&iterations, count),)));
            certain(run.wait());
            let time = start.elapsed();
            let values: Result<Vec<u64>, TaskError> = last.iter().map(|node| run.fetch(node).copied()).collect();
            assert_eq!(certain(values), expected);
            time
        })
    })
}

/// The stencil's graph, its input, and the nodes of the last step.
fn steps(stencil: Stencil) -> (TaskGraph, Input<u64>, Vec<Node<u64>>) {
    let mut graph = GraphBuilder::new();
    let iterations = graph.input::<u64>("iterations");
    let begin = |iterations: &u64| {
        spin(*iterations);
        1u64
    };
    let mut row: Vec<Node<u64>> = (0..stencil.width).map(|_| graph.task(begin, (iterations,))).collect();
    for _ in 1..stencil.steps {
        let mut next = |column: usize| match &row[stencil.needed(column)] {
            [a, b, c] => graph.task(
                |a: &u64, b: &u64, c: &u64, iterations: &u64| {
                    spin(*iterations);
                    a.wrapping_add(*b).wrapping_add(*c).wrapping_add(1)
                },
                (a, b, c, iterations),
            ),
            [a, b] => graph.task(
                |a: &u64, b: &u64, iterations: &u64| {
                    spin(*iterations);
                    a.wrapping_add(*b).wrapping_add(1)
                },
                (a, b, iterations),
            ),
            needed => unreachable!("a column of at least two needs two or three, not {}", needed.len()),
        };
        row = (0..stencil.width).map(&mut next).collect();
    }
    (built(graph), iterations, row)
}
