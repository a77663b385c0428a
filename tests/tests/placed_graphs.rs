//! Nodes of compiled graphs under a policy: where they go, in which order, and what is said about them.
//!
//! That such runs give what others give is in `graphs.rs` and `graph_failures.rs`. Costs are put into a file of models before the runtime begins, so that nothing depends on the
//! time that the tests take.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use poniard::model::store::Store;
use poniard::model::{CodeId, Machine, Measurement, Models, ProcessorClass};
use poniard::policy::POLICIES;
use poniard::{FailureKind, GraphBuilder, Input, Node, Priority, Runtime, TaskGraph};
use poniard_interface::type_key::{FNV_OFFSET, fnv};
use poniard_tests::{add, in_time};

const HOUR_NS: u64 = 3_600_000_000_000;

/// How often a function was called by any node of `ranked`, which nodes give.
static TURN: AtomicU64 = AtomicU64::new(0);

fn brief(_: &()) -> u64 {
    TURN.fetch_add(1, Ordering::Relaxed)
}

fn middling(_: &()) -> u64 {
    TURN.fetch_add(1, Ordering::Relaxed)
}

fn lengthy(_: &u64) -> u64 {
    TURN.fetch_add(1, Ordering::Relaxed)
}

/// Has the file in `folder` say how many hours these functions take.
fn teach(folder: &Path, costs: [(&str, u64); 3]) {
    let models = Models::new(2);
    for (function, hours) in costs {
        let code = CodeId::new(function, fnv(FNV_OFFSET, function.as_bytes()) as u64);
        let known = models.executions.resolve(&code, &ProcessorClass::new("cpu"));
        (0..100).for_each(|_| known.record(0, Measurement { wall_ns: hours * HOUR_NS, cpu_ns: None }));
    }
    Store::new(Some(folder.to_owned()), Machine::this()).save(&models).expect("a folder");
}

/// The names of functions, as models know them.
fn names() -> [&'static str; 3] {
    [std::any::type_name_of_val(&brief), std::any::type_name_of_val(&middling), std::any::type_name_of_val(&lengthy)]
}

#[test]
fn with_ranks_the_longest_way_to_the_end_comes_first_and_models_are_what_counts() {
    let ordered = |policy: &str, hours: [u64; 3]| {
        let folder = tempfile::tempdir().unwrap();
        let [brief_name, middling_name, lengthy_name] = names();
        teach(folder.path(), [(brief_name, hours[0]), (middling_name, hours[1]), (lengthy_name, hours[2])]);
        let runtime = Runtime::builder().threads(1).policy(policy).models(Some(folder.path().to_owned())).build().unwrap();
        let mut graph = GraphBuilder::new();
        let first = graph.task(|| (), ());
        let alone = graph.task(middling, (first,));
        let leads_on = graph.task(brief, (first,));
        let last = graph.task(lengthy, (leads_on,));
        let graph = graph.build().unwrap();
        let run = graph.run(&runtime, ()).unwrap();
        run.wait().unwrap();
        let turns = [alone, leads_on, last].map(|node| *run.fetch(node).unwrap());
        // In the order in which they ran.
        let mut order: Vec<_> = ["alone", "leads on", "last"].into_iter().zip(turns).collect();
        order.sort_by_key(|(_, turn)| *turn);
        order.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    for policy in ["heft", "priority", "earliest-finish-priority"] {
        assert_eq!(ordered(policy, [1, 3, 4]), ["leads on", "last", "alone"], "{policy}");
        assert_eq!(ordered(policy, [1, 3, 1]), ["alone", "leads on", "last"], "{policy}");
    }
    // As they were added.
    for policy in ["fifo", "earliest-finish"] {
        assert_eq!(ordered(policy, [1, 3, 4]), ["alone", "leads on", "last"], "{policy}");
    }
}

/// Something of everything: roots of every priority, a wide layer, sums, a chain. Gives the graph, what it takes, what it gives, and how many nodes it has.
fn program() -> (TaskGraph, Input<u64>, Node<u64>, u64) {
    let mut graph = GraphBuilder::new();
    let x = graph.input::<u64>("x");
    let mut layer: Vec<Node<u64>> = (0..64).map(|index| graph.task(add, (&x, index))).collect();
    for (index, priority) in (0..).zip([Priority::Low, Priority::Normal, Priority::High]) {
        layer[index] = graph.task_with(add, (layer[index], 0)).priority(priority).add();
    }
    while layer.len() > 1 {
        layer = layer.chunks(2).map(|pair| graph.task(add, (pair[0], pair[1]))).collect();
    }
    let mut last = layer[0];
    for _ in 0..50 {
        last = graph.task(add, (last, 1));
    }
    let graph = graph.build().expect("a graph");
    let count = graph.len() as u64;
    (graph, x, last, count)
}

#[test]
fn every_policy_runs_graphs_on_threads_and_processes() {
    in_time(|| {
        let (graph, x, last, node_count) = program();
        for policy in POLICIES {
            for processes in [0, 1] {
                let builder = Runtime::builder().threads(2).processes(processes).models(None);
                let runtime = builder.policy(policy.name).setting("placement.seed", "7").build().unwrap();
                for value in 0..5 {
                    let run = graph.run(&runtime, ((&x, value),)).unwrap();
                    assert_eq!(*run.fetch(last).unwrap(), 64 * value + 63 * 32 + 50, "{}", policy.name);
                }
                runtime.wait_idle();
                let report = runtime.report();
                assert_eq!(report.placement.expect("nodes are placed").decisions, 5 * node_count, "{}", policy.name);
                let tasks: u64 = report.backends.iter().flat_map(|backend| &backend.processors).map(|processor| processor.tasks).sum();
                assert_eq!(tasks, 5 * node_count, "{}", policy.name);
            }
        }
    });
}

#[test]
fn nodes_are_measured_and_explained_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let builder = Runtime::builder().threads(2).policy("heft").models(Some(folder.path().to_owned()));
        let runtime = builder.explain(true).build().unwrap();
        let mut graph = GraphBuilder::new();
        let first = graph.task(|| 1u64, ());
        let named = graph.task_with(|a: u64| a + 1, (first,)).name("the second").add();
        let graph = graph.build().unwrap();
        assert_eq!(*graph.run(&runtime, ()).unwrap().fetch(named).unwrap(), 2);
        let explanations = runtime.explanations();
        let names: Vec<_> = explanations.iter().map(|explanation| explanation.task.as_str()).collect();
        assert_eq!(names, ["closure in nodes_are_measured_and_explained_by_name", "the second"]);
        for explanation in &explanations {
            assert!(explanation.location.file().ends_with("placed_graphs.rs"), "{explanation:?}");
            assert!(explanation.ran.is_some() && explanation.took_ns.is_some(), "{explanation:?}");
            assert_eq!(explanation.considered.len(), 2, "{explanation:?}");
        }
        // What the first program has measured is there for the second.
        assert_eq!(explanations[0].considered[0].measurements > 0, round > 0, "{explanations:?}");
    }
}

#[test]
fn what_is_not_to_be_run_is_not_placed() {
    in_time(|| {
        let runtime = Runtime::builder().threads(2).policy("heft").models(None).build().unwrap();
        let decisions = || runtime.report().placement.expect("there is a policy").decisions;
        // A node fails: what depends on it is over without it.
        let mut graph = GraphBuilder::new();
        let failing = graph.task(|| Err::<u64, _>("it broke"), ());
        let mut chain = graph.task(add, (failing, 1));
        for _ in 0..100 {
            chain = graph.task(add, (chain, 1));
        }
        let beside = graph.task(|| 7u64, ());
        let graph = graph.build().unwrap();
        let run = graph.run(&runtime, ()).unwrap();
        assert!(matches!(run.fetch(chain).unwrap_err().kind(), FailureKind::Dependency(_)));
        assert_eq!(*run.fetch(beside).unwrap(), 7);
        run.wait().unwrap_err();
        assert_eq!(decisions(), 2);
        // A run is cancelled while its first node runs.
        let gate = Arc::new(Barrier::new(2));
        let mut graph = GraphBuilder::new();
        let first = {
            let gate = Arc::clone(&gate);
            graph.task(
                move || {
                    gate.wait();
                    gate.wait();
                },
                (),
            )
        };
        let after: Vec<_> = (0..100).map(|_| graph.task(|_: &()| (), (first,))).collect();
        let graph = graph.build().unwrap();
        let run = graph.run(&runtime, ()).unwrap();
        gate.wait();
        run.cancel();
        gate.wait();
        run.wait().unwrap_err();
        assert!(after.iter().all(|node| matches!(run.fetch(node).unwrap_err().kind(), FailureKind::Cancelled)));
        assert_eq!(decisions(), 3);
    });
}

#[test]
fn workers_that_come_and_go_lose_no_node() {
    in_time(|| {
        let (graph, x, last, _) = program();
        let builder = Runtime::builder().threads(1).processes(2).processes_at_most(2).models(None);
        let runtime = builder.policy("earliest-finish").build().unwrap();
        let runs: Vec<_> = (0..60)
            .map(|value| {
                if value % 10 == 0 {
                    runtime.set_processes(value as usize / 10 % 3).unwrap();
                }
                graph.run(&runtime, ((&x, value),)).unwrap()
            })
            .collect();
        for (value, run) in (0..).zip(runs) {
            assert_eq!(*run.fetch(last).unwrap(), 64 * value + 63 * 32 + 50);
        }
        runtime.wait_idle();
    });
}
