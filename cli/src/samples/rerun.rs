//! `rerun`: a graph that is built once and run again and again with other inputs, beside spawning its tasks anew each time.
//!
//! Both are done inside a task, where spawning is cheapest. The functions compute next to nothing, so the times are what a run costs, not what it is for.

use std::time::{Duration, Instant};

use poniard::{BoxError, GraphBuilder, GraphError, Handle, Input, Node, Task, TaskGraph};

use super::limits;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "rerun",
    summary: "a graph built once and run many times, beside spawning its tasks each time",
    options: &[SampleOption { name: "size", meaning: "number of runs, default 1000" }],
    kernels: false,
    run,
};

const LEAVES: u64 = 64;

fn mix(x: u64, leaf: u64) -> u64 {
    (x ^ leaf).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn add(a: u64, b: u64) -> u64 {
    a.wrapping_add(b)
}

/// Combines neighbours until one is left; none, if there are none.
fn tree<T: Clone>(mut layer: Vec<T>, mut combine: impl FnMut(&T, &T) -> T) -> Option<T> {
    while layer.len() > 1 {
        layer = layer.chunks(2).map(|pair| pair.get(1).map_or_else(|| pair[0].clone(), |right| combine(&pair[0], right))).collect();
    }
    layer.pop()
}

/// The graph, with its input and the node that gives the result.
struct Compiled {
    graph: TaskGraph,
    x: Input<u64>,
    sum: Option<Node<u64>>,
}

fn build() -> Result<Compiled, GraphError> {
    let mut graph = GraphBuilder::new();
    let x = graph.input("x");
    let leaves = (0..LEAVES).map(|leaf| graph.task(mix, (&x, leaf))).collect();
    let sum = tree(leaves, |a, b| graph.task(add, (a, b)));
    Ok(Compiled { graph: graph.build()?, x, sum })
}

/// The same tasks, spawned.
fn spawn_all(handle: &Handle, x: u64) -> Option<Task<u64>> {
    let leaves = (0..LEAVES).map(|leaf| handle.spawn(mix, (x, leaf))).collect();
    tree(leaves, |a, b| handle.spawn(add, (a, b)))
}

/// What all runs gave, and how long they took together.
type Measured = (Vec<u64>, Duration);

/// Calls `sum` for each input, one after the other.
fn measure(size: usize, mut sum: impl FnMut(u64) -> Result<u64, BoxError>) -> Result<Measured, BoxError> {
    // Once before: the first run of a graph takes its memory, and the first spawns theirs.
    sum(0)?;
    let start = Instant::now();
    let sums = (0..size as u64).map(sum).collect::<Result<_, _>>()?;
    Ok((sums, start.elapsed()))
}

fn with_graph(handle: &Handle, size: usize) -> Result<Measured, BoxError> {
    let Compiled { graph, x, sum } = build()?;
    let sum = sum.ok_or("the graph has no leaves")?;
    measure(size, |value| Ok(*graph.run(handle, ((&x, value),))?.fetch(sum)?))
}

fn with_spawns(handle: &Handle, size: usize) -> Result<Measured, BoxError> {
    measure(size, |value| Ok(spawn_all(handle, value).ok_or("the graph has no leaves")?.take()?))
}

/// Computes all runs, on a runtime.
type Way = fn(&Handle, usize) -> Result<Measured, BoxError>;

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let size = limits::count("size", context.size, 1000, 1 << 20)?;
    limits::memory("size", (size as u64).checked_mul(2 * 8))?;
    let mut measured = Vec::new();
    let ways: [(&str, Way); 2] = [("run graph", with_graph), ("spawn tasks", with_spawns)];
    for (name, way) in ways {
        let handle = context.runtime.handle();
        measured.push(context.runtime.task(move || way(&handle, size), ()).name(name).spawn().take()?);
        context.progress.advance(measured.len() as u64, 2);
    }
    let each_ns: Vec<_> = measured.iter().map(|(_, elapsed)| elapsed.as_secs_f64() * 1e9 / size as f64).collect();
    let tasks = 2 * LEAVES - 1;
    let [graph_ns, spawn_ns] = [each_ns[0], each_ns[1]];
    Ok(Outcome {
        lines: vec![
            format!("{tasks} tasks, built once and run {size} times: {:.1} µs a run", graph_ns / 1e3),
            format!(
                "{tasks} tasks, spawned {size} times:            {:.1} µs a run, {:.1} times as long",
                spawn_ns / 1e3,
                spawn_ns / graph_ns
            ),
        ],
        values: vec![("size", size.into()), ("tasks_per_run", tasks.into()), ("graph_ns", graph_ns.into()), ("spawn_ns", spawn_ns.into())],
        check: check(&measured[0].0, &measured[1].0, size),
        output: None,
    })
}

/// Compares all results with a plain loop.
fn check(by_graph: &[u64], by_spawns: &[u64], size: usize) -> Check {
    let expected = |x: u64| (0..LEAVES).map(|leaf| mix(x, leaf)).fold(0, add);
    let wrong = (0..size).filter(|run| {
        let expected = Some(expected(*run as u64));
        by_graph.get(*run).copied() != expected || by_spawns.get(*run).copied() != expected
    });
    let wrong = wrong.count();
    Check {
        passed: wrong == 0 && by_graph.len() == size && by_spawns.len() == size,
        text: format!("{wrong} of {size} runs differ from a plain loop"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn runs_at_every_size_and_on_one_processor() {
        for (size, threads) in [(None, None), (Some(1), None), (Some(10), Some(1))] {
            Trial { size, threads, ..Trial::default() }.passes(&SAMPLE);
        }
    }

    #[test]
    fn refuses_sizes_without_sense() {
        for size in [0, 1 << 39, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
    }

    #[test]
    fn trees_combine_neighbours_in_order() {
        let combined = tree((0..5).map(|n| n.to_string()).collect(), |a, b| format!("({a}{b})"));
        assert_eq!(combined.as_deref(), Some("(((01)(23))4)"));
        assert_eq!(tree(Vec::<u64>::new(), |a, b| a + b), None);
    }

    #[test]
    fn check_notices_a_wrong_run_of_either_kind() {
        let sums: Vec<u64> = (0..3).map(|x| (0..LEAVES).map(|leaf| mix(x, leaf)).fold(0, add)).collect();
        let wrong = [sums[0], sums[1] + 1, sums[2]];
        assert!(check(&sums, &sums, 3).passed);
        assert!(!check(&wrong, &sums, 3).passed);
        assert!(!check(&sums, &wrong, 3).passed);
        assert!(!check(&sums[..2], &sums, 3).passed);
    }
}
