//! What goes to the disk although nobody need have so much at a time: `roots`.
//!
//! Roots that make a block each, and tasks that use two of them or one: of many in the order of their spawns all roots would run first.

use poniard::{Buffer, GraphBuilder, Runtime, Task, buffer};
use poniard_bench::{Effort, System};

/// Elements of a block, 1 MiB.
const LEN: usize = 128 << 10;
/// Blocks that memory has.
const FIT_COUNT: u64 = 16;
const THREADS: usize = 2;

fn block(index: u64) -> Buffer<u64> {
    let mut block = buffer::zeroed(LEN);
    block.iter_mut().zip(index..).for_each(|(value, number)| *value = number);
    block
}

fn sum_of(block: &Buffer<u64>) -> u64 {
    block.iter().copied().fold(0, u64::wrapping_add)
}

fn sum_of_both(one: &Buffer<u64>, other: &Buffer<u64>) -> u64 {
    sum_of(one).wrapping_add(sum_of(other))
}

fn total(sums: Vec<Task<u64>>) -> u64 {
    sums.into_iter().map(|sum| sum.take().expect("a sum")).fold(0, u64::wrapping_add)
}

/// Pairs of roots that were spawned one after the other.
fn near(runtime: &Runtime, count: u64) -> u64 {
    let pair = |index| runtime.spawn(sum_of_both, (runtime.spawn(block, (index,)), runtime.spawn(block, (index + 1,))));
    total((0..count).step_by(2).map(pair).collect())
}

/// Pairs that were spawned far from each other.
fn far(runtime: &Runtime, count: u64) -> u64 {
    let mut blocks: Vec<_> = (0..count).map(|index| runtime.spawn(block, (index,))).collect();
    let others = blocks.split_off(blocks.len() / 2);
    total(blocks.into_iter().zip(others).map(|pair| runtime.spawn(sum_of_both, pair)).collect())
}

/// The same as a compiled graph.
fn graph(runtime: &Runtime, count: u64) -> u64 {
    let mut graph = GraphBuilder::new();
    let blocks: Vec<_> = (0..count).map(|index| graph.task(move || block(index), ())).collect();
    let (ones, others) = blocks.split_at(blocks.len() / 2);
    let sum = |one: Buffer<u64>, other: Buffer<u64>| sum_of_both(&one, &other);
    let sums: Vec<_> = ones.iter().zip(others).map(|(one, other)| graph.task(sum, (one.moved(), other.moved()))).collect();
    let run = graph.build().expect("a graph").run(runtime, ()).expect("it runs");
    sums.into_iter().map(|sum| *run.fetch(sum).expect("a sum")).fold(0, u64::wrapping_add)
}

/// The program takes one block after the other itself.
fn outside(runtime: &Runtime, count: u64) -> u64 {
    let blocks: Vec<_> = (0..count).map(|index| runtime.spawn(block, (index,))).collect();
    blocks.into_iter().map(|block| sum_of(&block.take().expect("a block"))).fold(0, u64::wrapping_add)
}

fn written_mib(run: impl Fn(&Runtime, u64) -> u64, count: u64, policy: Option<&str>) -> f64 {
    let before = buffer::memory_usage();
    let limit = before.in_use_bytes + FIT_COUNT * 8 * LEN as u64;
    let builder = Runtime::builder().threads(THREADS).memory_limit(limit).memory_spill("/var/tmp").models(None);
    let runtime = policy.into_iter().fold(builder, |builder, policy| builder.policy(policy)).build().expect("a runtime");
    let expected = (0..count).fold(0u64, |sum, index| sum.wrapping_add(LEN as u64 * (2 * index + LEN as u64 - 1) / 2));
    assert_eq!(run(&runtime, count), expected);
    (buffer::memory_usage().spill_written_bytes - before.spill_written_bytes) as f64 / f64::from(1 << 20)
}

pub(crate) fn written(effort: Effort) -> Vec<System<'static>> {
    let count = if effort == Effort::Quick { 64 } else { 200 };
    vec![
        System::new("all", "all roots first: what does not fit", move || (count - FIT_COUNT) as f64),
        System::new("poniard-near", "pairs of roots that were spawned together", move || written_mib(near, count, None)),
        System::new("poniard", "pairs of roots that were spawned far apart", move || written_mib(far, count, None)),
        System::new("poniard-graph", "the same as a compiled graph", move || written_mib(graph, count, None)),
        System::new("poniard-placed", "the same under `earliest-finish`", move || written_mib(far, count, Some("earliest-finish"))),
        System::new("poniard-outside", "the program takes one after the other", move || written_mib(outside, count, None)),
    ]
}
