//! Graphs that are built once and run often: what they give, in which order, from where.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, Weak, mpsc};

use poniard::{Data, FailureKind, Gather, GraphBuilder, GraphRun, Input, Node, Priority, Runtime, TaskError, TaskGraph};
use poniard_tests::{add, runtimes, threads};
use proptest::prelude::*;

/// Numbers of threads that every law is tried with.
const COUNTS: [usize; 3] = [1, 2, 8];

fn sum(parts: Gather<'_, u64>) -> u64 {
    parts.iter().fold(1, |sum, part| sum.wrapping_mul(31).wrapping_add(*part))
}

#[test]
fn arguments_are_nodes_inputs_values_and_arcs() {
    for count in COUNTS {
        let runtime = threads(count);
        let mut graph = GraphBuilder::new();
        let x = graph.input::<u64>("x");
        let text = graph.input::<String>("text");
        let list = graph.input::<Vec<u64>>("list");
        let a = graph.task(add, (&x, 10));
        let b = graph.task(|a: &u64, b: &u64, c: u64| a * b + c, (a, Arc::new(7), x));
        let c = graph.task(|text: &str, list: &[u64]| text.len() as u64 + list.iter().sum::<u64>(), (&text, list));
        let d = graph.task(sum, (vec![a, b, c, x.node()],));
        let graph = graph.build().expect("a graph");
        assert_eq!(graph.len(), 4);
        for x_value in 0..20 {
            let run = graph.run(&runtime, ((&x, x_value), (&text, "four".to_owned()), (&list, vec![x_value, 1]))).expect("a run");
            let (a_value, c_value) = (x_value + 10, 4 + x_value + 1);
            let b_value = a_value * 7 + x_value;
            assert_eq!(
                *run.fetch(d).expect("no failure"),
                [a_value, b_value, c_value, x_value].iter().fold(1, |sum, part| sum * 31 + part)
            );
            assert_eq!((run.fetch(a).ok(), run.fetch(b).ok(), run.fetch(c).ok()), (Some(&a_value), Some(&b_value), Some(&c_value)));
            assert_eq!((run.fetch(x).ok(), run.fetch(text).map(String::as_str).ok()), (Some(&x_value), Some("four")));
        }
    }
}

/// A graph as numbers: for each node, those before it that it depends on, and those that only come before it.
type Shape = Vec<(Vec<usize>, Vec<usize>)>;

/// What each node comes to, one after the other.
fn expected(shape: &Shape, input: u64) -> Vec<u64> {
    let mut values: Vec<u64> = Vec::new();
    for (index, (parents, _)) in shape.iter().enumerate() {
        let parts = parents.iter().map(|parent| values[*parent]);
        let value = parts.fold(1u64, |sum, part| sum.wrapping_mul(31).wrapping_add(part));
        values.push(value.wrapping_add(index as u64).wrapping_mul(input | 1));
    }
    values
}

/// The same as a graph; each node gathers, takes two arguments or one, or none.
fn build(shape: &Shape, input: &mut Option<Input<u64>>, priorities: bool) -> (TaskGraph, Vec<Node<u64>>) {
    let mut graph = GraphBuilder::new();
    let x = graph.input::<u64>("x");
    *input = Some(x);
    let mut nodes: Vec<Node<u64>> = Vec::new();
    for (index, (parents, before)) in shape.iter().enumerate() {
        let index = index as u64;
        let finish = move |sum: u64, x: u64| sum.wrapping_add(index).wrapping_mul(x | 1);
        let parents: Vec<_> = parents.iter().map(|parent| nodes[*parent]).collect();
        let node = match parents[..] {
            [] => graph.task(move |x: u64| finish(1, x), (x,)),
            [a] => graph.task(move |a: &u64, x: u64| finish(31u64.wrapping_add(*a), x), (a, x)),
            [a, b] => {
                graph.task(move |a: u64, b: &u64, x: &u64| finish(31u64.wrapping_add(a).wrapping_mul(31).wrapping_add(*b), *x), (a, &b, x))
            }
            _ if priorities => {
                let priority = [Priority::High, Priority::Low][index as usize % 2];
                graph.task_with(move |parts: Gather<'_, u64>, x: u64| finish(sum(parts), x), (parents, x)).priority(priority).add()
            }
            _ => graph.task(move |parts: Gather<'_, u64>, x: u64| finish(sum(parts), x), (parents, x)),
        };
        for first in before {
            graph.order(nodes[*first], node);
        }
        nodes.push(node);
    }
    (graph.build().expect("edges lead forwards"), nodes)
}

fn shapes() -> impl Strategy<Value = Shape> {
    (1usize..120).prop_flat_map(|count| {
        let node = |index: usize| {
            let some = move |most: usize| proptest::collection::vec(0..index.max(1), if index == 0 { 0..1 } else { 0..most });
            (some(5), some(2))
        };
        (0..count).map(node).collect::<Vec<_>>()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_graph_gives_what_it_gives_one_node_after_the_other(shape in shapes(), priorities in any::<bool>()) {
        static RUNTIMES: Mutex<Vec<Runtime>> = Mutex::new(Vec::new());
        let mut runtimes = RUNTIMES.lock().expect("not poisoned");
        if runtimes.is_empty() {
            runtimes.extend([1, 2, 3].map(threads));
        }
        let mut input = None;
        let (graph, nodes) = build(&shape, &mut input, priorities);
        let input = input.expect("there is one");
        for (seed, runtime) in (0..).zip(runtimes.iter().cycle().take(6)) {
            let run = graph.run(runtime, ((&input, seed),)).expect("a run");
            let expected = expected(&shape, seed);
            // Some while it runs, all afterwards.
            let last = nodes.len() - 1;
            prop_assert_eq!(run.fetch(nodes[last / 2]).ok(), Some(&expected[last / 2]));
            prop_assert_eq!(run.fetch(nodes[last]).ok(), Some(&expected[last]));
            run.wait().expect("no failure");
            let values: Vec<u64> = nodes.iter().map(|node| *run.fetch(node).expect("no failure")).collect();
            prop_assert_eq!(values, expected);
        }
    }
}

#[test]
fn a_graph_is_run_a_thousand_times_with_other_inputs() {
    for runtime in runtimes(&COUNTS) {
        let mut graph = GraphBuilder::new();
        let x = graph.input::<u64>("x");
        let left = graph.task(add, (x, 1));
        let right = graph.task(add, (x, 2));
        let both = graph.task(|a: &u64, b: &u64| a * b, (left, right));
        let graph = graph.build().expect("a graph");
        for value in 0..1000 {
            let mut run = graph.run(&runtime, ((&x, value),)).expect("a run");
            assert_eq!(run.take(both).expect("no failure"), (value + 1) * (value + 2));
            assert_eq!(*run.fetch(left).expect("no failure"), value + 1);
        }
    }
}

#[test]
fn a_wide_layer_a_wide_join_and_a_long_chain() {
    for count in COUNTS {
        let runtime = threads(count);
        let mut graph = GraphBuilder::new();
        let x = graph.input::<u64>("x");
        let first = graph.task(add, (x, 0));
        let wide: Vec<Node<u64>> = (0..5000).map(|index| graph.task(add, (first, index))).collect();
        let mut chain = graph.task(|parts: Gather<'_, u64>| parts.iter().sum::<u64>(), (&wide,));
        for _ in 0..5000 {
            chain = graph.task(add, (chain, 1));
        }
        let again: Vec<Node<u64>> = (0..5000).map(|index| graph.task(add, (chain, index))).collect();
        let graph = graph.build().expect("a graph");
        for x_value in 0..20 {
            let run = graph.run(&runtime, ((&x, x_value),)).expect("a run");
            run.wait().expect("no failure");
            let total = 5000 * x_value + 4999 * 2500 + 5000;
            assert_eq!(*run.fetch(chain).expect("no failure"), total);
            assert!((0..).zip(&again).all(|(index, node)| run.fetch(node).is_ok_and(|value| *value == total + index)));
        }
    }
}

#[test]
fn a_chain_of_a_million_nodes_takes_no_stack() {
    let runtime = threads(2);
    let mut graph = GraphBuilder::new();
    let x = graph.input::<u64>("x");
    let mut last = graph.task(add, (x, 0));
    for _ in 0..1_000_000 {
        last = graph.task(add, (last, 1));
    }
    let graph = graph.build().expect("a graph");
    for value in 0..3 {
        let run = graph.run(&runtime, ((&x, value),)).expect("a run");
        assert_eq!(*run.fetch(last).expect("no failure"), 1_000_000 + value);
    }
}

#[test]
fn runs_of_one_graph_go_on_at_once_from_several_threads_and_on_several_runtimes() {
    let runtimes = [threads(2), threads(1)];
    let mut graph = GraphBuilder::new();
    let x = graph.input::<u64>("x");
    let mut layer: Vec<Node<u64>> = (0..10).map(|index| graph.task(add, (x, index))).collect();
    for _ in 0..10 {
        layer = (0..10).map(|index| graph.task(add, (layer[index], layer[(index + 1) % 10]))).collect();
    }
    let total = graph.task(sum, (layer,));
    let graph = graph.build().expect("a graph");
    let alone: Vec<u64> =
        (0..8).map(|x_value| *graph.run(&runtimes[0], ((&x, x_value),)).expect("a run").fetch(total).expect("no failure")).collect();
    std::thread::scope(|scope| {
        for x_value in 0..8 {
            let (graph, alone, runtimes) = (&graph, &alone, &runtimes);
            scope.spawn(move || {
                for round in 0..50 {
                    let run = |runtime: &Runtime| graph.run(runtime, ((&x, x_value),)).expect("a run");
                    let runs: Vec<GraphRun> = (0..4).map(|number| run(&runtimes[(round + number) % 2])).collect();
                    for run in runs {
                        assert_eq!(*run.fetch(total).expect("no failure"), alone[x_value as usize]);
                    }
                }
            });
        }
    });
}

/// A graph whose nodes run graphs whose nodes wait for tasks.
fn nested(depth: u64) -> u64 {
    if depth == 0 {
        return *poniard::spawn(|| 1u64, ()).fetch().expect("no failure");
    }
    let mut graph = GraphBuilder::new();
    let a = graph.task(nested, (depth - 1,));
    let b = graph.task(nested, (depth - 1,));
    let both = graph.task(add, (a, b));
    let graph = graph.build().expect("a graph");
    let handle = poniard::runtime::current().expect("in a task");
    let run = graph.run(&handle, ()).expect("a run");
    *run.fetch(both).expect("no failure")
}

#[test]
fn runs_are_begun_and_waited_for_inside_tasks_and_nodes_even_on_one_thread() {
    for runtime in runtimes(&COUNTS) {
        assert_eq!(runtime.spawn(nested, (6,)).take().expect("no failure"), 64);
    }
}

#[test]
fn a_task_that_waits_for_a_run_runs_no_strangers() {
    runtimes(&[1]).for_each(|runtime| wait_for_a_run_beside_a_stranger(&runtime));
}

/// On one thread the outer task holds a lock that the stranger wants; running the stranger on top of it would never end.
fn wait_for_a_run_beside_a_stranger(runtime: &Runtime) {
    let lock = Arc::new(Mutex::new(0));
    let mut graph = GraphBuilder::new();
    let a = graph.task(add, (1, 2));
    let b = graph.task(add, (a, 2));
    let graph = graph.build().expect("a graph");
    let outer = {
        let lock = Arc::clone(&lock);
        move || {
            let guard = lock.lock().expect("not poisoned");
            let stranger = {
                let lock = Arc::clone(&lock);
                poniard::spawn(move || *lock.lock().expect("not poisoned") += 1, ())
            };
            let run = graph.run(&poniard::runtime::current().expect("in a task"), ()).expect("a run");
            let value = *run.fetch(b).expect("no failure");
            drop(guard);
            stranger.wait().expect("no failure");
            value
        }
    };
    assert_eq!(runtime.spawn(outer, ()).take().expect("no failure"), 5);
    assert_eq!(*lock.lock().expect("not poisoned"), 1);
}

#[test]
fn a_result_is_there_while_others_still_run() {
    let runtime = threads(2);
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let mut graph = GraphBuilder::new();
    let early = graph.task(add, (1, 2));
    let late = graph.task(move |early: &u64| wait.lock().expect("not poisoned").recv().map(|()| early + 1), (early,));
    let graph = graph.build().expect("a graph");
    for _ in 0..10 {
        let run = graph.run(&runtime, ()).expect("a run");
        assert_eq!(*run.fetch(early).expect("no failure"), 3);
        assert!(!run.is_finished());
        go.send(()).expect("the node listens");
        assert_eq!(*run.fetch(late).expect("no failure"), 4);
    }
}

#[test]
fn several_threads_wait_for_different_nodes_of_a_run() {
    let runtime = threads(2);
    for _ in 0..200 {
        let mut graph = GraphBuilder::new();
        let gate = Arc::new(Barrier::new(2));
        let first = {
            let gate = Arc::clone(&gate);
            graph.task(
                move || {
                    gate.wait();
                    0u64
                },
                (),
            )
        };
        let nodes: Vec<Node<u64>> = (0..4).map(|index| graph.task(add, (first, index))).collect();
        let graph = graph.build().expect("a graph");
        let run = graph.run(&runtime, ()).expect("a run");
        std::thread::scope(|scope| {
            for (index, node) in (0..).zip(&nodes) {
                let run = &run;
                scope.spawn(move || assert_eq!(*run.fetch(node).expect("no failure"), index));
            }
            scope.spawn(|| run.wait().expect("no failure"));
            gate.wait();
        });
    }
}

#[test]
fn a_graph_without_nodes_is_over_at_once() {
    let runtime = threads(1);
    let mut graph = GraphBuilder::new();
    let x = graph.input::<u64>("x");
    let graph = graph.build().expect("a graph");
    assert!(graph.is_empty());
    let run = graph.run(&runtime, ((&x, 3),)).expect("a run");
    assert!(run.is_finished());
    assert_eq!(*run.fetch(x).expect("no failure"), 3);
    runtime.wait_idle();
}

fn waits_for_itself(error: &TaskError) -> bool {
    matches!(error.kind(), FailureKind::WaitsForItself)
}

/// A run that its nodes are told of once it has begun. They do not keep it: it has them.
type Known = Arc<OnceLock<Weak<GraphRun>>>;

fn tell(known: &Known, run: &Arc<GraphRun>) {
    known.set(Arc::downgrade(run)).expect("told once");
}

fn wait_to_know(known: &Known) -> Arc<GraphRun> {
    known.wait().upgrade().expect("its owner waits for it")
}

#[test]
fn a_task_on_another_thread_that_a_node_waits_for_does_not_wait_for_the_run_for_ever() {
    let runtime = threads(2);
    for round in 0..100 {
        let (own, both) = (Known::default(), Arc::new(Barrier::new(2)));
        let mut graph = GraphBuilder::new();
        let after = graph.task(add, (1, 1));
        let node: Node<u32> = {
            let own = Arc::clone(&own);
            graph.task(
                move || {
                    let run = wait_to_know(&own);
                    let (begun, whole) = (Arc::clone(&both), round % 2 == 0);
                    let task = poniard::spawn(
                        move || {
                            // Both are there, so they are on two threads.
                            begun.wait();
                            let waited = if whole { run.wait() } else { run.fetch(after).map(|_| ()) };
                            waited.is_err_and(|error| waits_for_itself(&error))
                        },
                        (),
                    );
                    both.wait();
                    match task.take() {
                        Ok(found) => u32::from(found),
                        Err(error) => u32::from(waits_for_itself(&error)),
                    }
                },
                (),
            )
        };
        graph.order(node, after);
        let graph = graph.build().expect("a graph");
        let run = Arc::new(graph.run(&runtime, ()).expect("a run"));
        tell(&own, &run);
        assert_eq!(*run.fetch(node).expect("no failure"), 1);
        run.wait().expect("no failure");
    }
}

#[test]
fn of_two_runs_that_wait_for_each_other_one_gets_an_error() {
    let runtime = threads(2);
    for _ in 0..100 {
        let ready = Arc::new(Barrier::new(2));
        let known = [Known::default(), Known::default()];
        let runs = [1, 0].map(|other: usize| {
            let (other, ready) = (Arc::clone(&known[other]), Arc::clone(&ready));
            let mut graph = GraphBuilder::new();
            let node = graph.task(
                move || {
                    let other = wait_to_know(&other);
                    ready.wait();
                    u32::from(other.wait().is_err_and(|error| waits_for_itself(&error)))
                },
                (),
            );
            let graph = graph.build().expect("a graph");
            (Arc::new(graph.run(&runtime, ()).expect("a run")), node)
        });
        runs.iter().zip(&known).for_each(|((run, _), known)| tell(known, run));
        let found: u32 = runs.iter().map(|(run, node)| *run.fetch(node).expect("no failure")).sum();
        assert_eq!(found, 1);
    }
}

#[test]
fn a_node_that_waits_for_its_own_run_gets_an_error() {
    for count in COUNTS {
        let runtime = threads(count);
        let own = Known::default();
        let mut graph = GraphBuilder::new();
        let before = graph.task(add, (1, 1));
        let node: Node<bool> = {
            let own = Arc::clone(&own);
            let wait = move || {
                let run = wait_to_know(&own);
                run.wait().is_err_and(|error| waits_for_itself(&error)) && *run.fetch(before).expect("it is over") == 2
            };
            graph.task(
                move |_: &u64| {
                    // Found in a task on top of the node, too; on another thread the last one of both to wait finds it.
                    wait() && poniard::spawn(wait.clone(), ()).take().unwrap_or_else(|error| count > 1 && waits_for_itself(&error))
                },
                (before,),
            )
        };
        let graph = graph.build().expect("a graph");
        let run = Arc::new(graph.run(&runtime, ()).expect("a run"));
        tell(&own, &run);
        assert!(*run.fetch(node).expect("no failure"));
        run.wait().expect("no failure");
    }
}

#[test]
fn a_more_urgent_node_is_run_first() {
    let runtime = threads(1);
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str| {
        let order = Arc::clone(&order);
        move |_: &()| order.lock().expect("not poisoned").push(name)
    };
    let mut graph = GraphBuilder::new();
    let root = graph.task(|| (), ());
    let low = graph.task_with(note("low"), (root,)).priority(Priority::Low).add();
    graph.task_with(note("after low"), (low,)).add();
    let normal = graph.task(note("normal"), (root,));
    graph.task_with(note("after normal"), (normal,)).priority(Priority::High).add();
    let high = graph.task_with(note("high"), (root,)).priority(Priority::High).add();
    graph.task_with(note("after high"), (high,)).priority(Priority::Low).add();
    let graph = graph.build().expect("a graph");
    for _ in 0..20 {
        graph.run(&runtime, ()).expect("a run").wait().expect("no failure");
        let order = std::mem::take(&mut *order.lock().expect("not poisoned"));
        assert_eq!(order[..3], ["high", "normal", "after normal"]);
        // The low ones in any order, and what follows a low one before the others.
        let after = order.iter().position(|name| *name == "after low");
        assert_eq!(after, order.iter().position(|name| *name == "low").map(|low| low + 1));
        assert_eq!(order.len(), 6);
    }
}

#[test]
fn an_urgent_task_is_not_overtaken_by_a_run() {
    // One worker in the middle of a long run: the urgent task comes before the rest of it.
    let runtime = threads(1);
    runtime.task(|| (), ()).priority(Priority::High).spawn().wait().expect("no failure");
    let urgent_ran = Arc::new(AtomicBool::new(false));
    let mut graph = GraphBuilder::new();
    let first = {
        let urgent_ran = Arc::clone(&urgent_ran);
        graph.task(
            move || {
                let urgent_ran = Arc::clone(&urgent_ran);
                let handle = poniard::runtime::current().expect("in a node");
                handle.task(move || urgent_ran.store(true, Ordering::Relaxed), ()).priority(Priority::High).spawn().detach();
            },
            (),
        )
    };
    let second = graph.task(move |_: &()| urgent_ran.load(Ordering::Relaxed), (first,));
    let graph = graph.build().expect("a graph");
    let run = graph.run(&runtime, ()).expect("a run");
    assert!(*run.fetch(second).expect("no failure"));
}

#[test]
fn nodes_spawn_tasks_and_wait_for_them() {
    for runtime in runtimes(&COUNTS) {
        let mut graph = GraphBuilder::new();
        let x = graph.input::<u64>("x");
        let parts: Vec<Node<u64>> =
            (0..50).map(|index| graph.task(move |x: u64| poniard::spawn(add, (poniard::spawn(add, (x, index)), 1)).take(), (x,))).collect();
        let total = graph.task(|parts: Gather<'_, u64>| parts.iter().sum::<u64>(), (parts,));
        let graph = graph.build().expect("a graph");
        for value in 0..20 {
            let run = graph.run(&runtime, ((&x, value),)).expect("a run");
            assert_eq!(*run.fetch(total).expect("no failure"), 50 * (value + 1) + 49 * 25);
        }
    }
}

#[test]
fn nodes_share_their_work_in_jobs_and_run_no_strangers_meanwhile() {
    // Each node holds a lock of its own run while it waits for its jobs; a stranger on top of it would want the same one.
    for runtime in runtimes(&COUNTS) {
        let mut graph = GraphBuilder::new();
        let lock = Arc::new(Mutex::new(0u64));
        let nodes: Vec<Node<u64>> = (0..20u64)
            .map(|index| {
                let lock = Arc::clone(&lock);
                let node = move || {
                    let mut guard = lock.lock().expect("not poisoned");
                    let mut values: Vec<u64> = (0..1000).map(|value| value + index).collect();
                    poniard::parallel_for_each_mut(&mut values, |_, value| *value *= 2);
                    let (left, right) = poniard::join(|| values[..500].iter().sum::<u64>(), || values[500..].iter().sum::<u64>());
                    *guard += 1;
                    left + right
                };
                graph.task(node, ())
            })
            .collect();
        let total = graph.task(|parts: Gather<'_, u64>| parts.iter().sum::<u64>(), (nodes,));
        let graph = graph.build().expect("a graph");
        for _ in 0..20 {
            let run = graph.run(&runtime, ()).expect("a run");
            assert_eq!(*run.fetch(total).expect("no failure"), (0..20).map(|index| 2 * (499_500 + 1000 * index)).sum());
        }
        assert_eq!(*lock.lock().expect("not poisoned"), 400);
    }
}

#[test]
fn results_may_be_aligned_to_more_than_usual() {
    #[derive(Clone, Data)]
    #[repr(align(256))]
    struct Wide(u8);
    let runtime = threads(2);
    let mut graph = GraphBuilder::new();
    #[derive(Data)]
    #[repr(align(512))]
    struct Nothing;
    let nothing = graph.task(|| Nothing, ());
    let mut all = Vec::new();
    for value in 0..20u8 {
        graph.task(move || value, ());
        all.push(graph.task(|wide: &Wide| Wide(wide.0 + 1), (Wide(value),)));
    }
    let graph = graph.build().expect("a graph");
    let run = graph.run(&runtime, ()).expect("a run");
    assert_eq!(std::ptr::from_ref(run.fetch(nothing).expect("no failure")).addr() % 512, 0);
    for (value, node) in (1..).zip(all) {
        let wide = run.fetch(node).expect("no failure");
        assert_eq!((wide.0, std::ptr::from_ref(wide).addr() % 256), (value, 0));
    }
}
