//! Graphs that are built once and run often: what fails, is refused, is cancelled; and who drops what.
//!
//! One file because what fails, and what is cancelled, is counted and dropped in the same ways.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, mpsc};

use poniard::{BoxError, Data, FailureKind, Gather, GraphBuilder, GraphErrorKind, GraphRun, GraphRunError, Handle, Node};
use poniard_tests::{add, in_time, runtimes, threads};

/// Numbers of threads that every law is tried with.
const COUNTS: [usize; 3] = [1, 2, 8];

/// What several results come to.
fn sum(parts: Gather<'_, u64>) -> u64 {
    parts.iter().sum()
}

/// A value that counts how many of it there are.
#[derive(Data)]
struct Counted {
    alive: Arc<AtomicI64>,
    clones: Arc<AtomicUsize>,
    value: u64,
}

impl Counted {
    fn new(alive: &Arc<AtomicI64>, clones: &Arc<AtomicUsize>, value: u64) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self { alive: Arc::clone(alive), clones: Arc::clone(clones), value }
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self::new(&self.alive, &self.clones, self.value)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

fn broken(_: &u64) -> Result<u64, String> {
    Err("the matrix is singular".into())
}

#[test]
fn an_error_reaches_all_dependents_and_nobody_else() {
    for runtime in runtimes(&COUNTS) {
        let mut graph = GraphBuilder::new();
        let x = graph.input::<u64>("x");
        let fine = graph.task(add, (x, 1));
        let failing = graph.task(broken, (fine,));
        let dependents: Vec<Node<u64>> = (0..100).map(|index| graph.task(add, (failing, index))).collect();
        let last = graph.task_with(sum, (dependents.clone(),)).name("the last").add();
        let ordered = graph.task_with(add, (x, 5)).after(failing).add();
        let beside = graph.task(add, (fine, 3));
        let graph = graph.build().expect("a graph");
        for value in 0..100 {
            let run = graph.run(&runtime, ((&x, value),)).expect("a run");
            assert_eq!(*run.fetch(beside).expect("it depends on no failed node"), value + 4);
            let error = run.fetch(last).expect_err("it depends on a failed node");
            assert_eq!((error.task(), error.root_task(), error.reason().as_str()), ("the last", "broken", "the matrix is singular"));
            assert!(
                error.location().file().ends_with("graph_failures.rs") && error.root().location().line() < error.location().line(),
                "{error}"
            );
            assert!(matches!(run.fetch(ordered).expect_err("it comes after a failed node").kind(), FailureKind::Dependency(_)));
            let first = run.wait().expect_err("a node failed");
            assert_eq!((first.task(), first.reason().as_str()), ("broken", "the matrix is singular"));
            assert!(dependents.iter().all(|node| run.fetch(node).is_err()));
        }
        let report = runtime.report();
        let ran: u64 = report.backends.iter().flat_map(|backend| &backend.processors).map(|processor| processor.tasks).sum();
        assert_eq!(ran, 300, "three nodes of each run were run");
    }
}

#[test]
fn of_several_failures_a_dependent_blames_the_node_that_was_added_first() {
    let runtime = threads(2);
    let mut graph = GraphBuilder::new();
    let names = ["one", "two", "three"];
    let failing: Vec<Node<u64>> = names.map(|name| graph.task_with(broken, (7,)).name(name).add()).to_vec();
    let late = graph.task(sum, (failing.clone(),));
    let later = graph.task(add, (late, failing[2]));
    let graph = graph.build().expect("a graph");
    for _ in 0..200 {
        let run = graph.run(&runtime, ()).expect("a run");
        assert_eq!(run.fetch(later).expect_err("it failed").root_task(), "one");
        assert!(names.contains(&run.wait().expect_err("it failed").task()));
    }
}

#[test]
fn a_panic_fails_its_node_and_the_graph_can_be_run_again() {
    for runtime in runtimes(&COUNTS) {
        let mut graph = GraphBuilder::new();
        let x = graph.input::<u64>("x");
        let node = graph.task(
            |x: u64| {
                assert!(!x.is_multiple_of(2), "even: {x}");
                x
            },
            (x,),
        );
        let next = graph.task(add, (node, 1));
        let graph = graph.build().expect("a graph");
        for value in 0..20 {
            let run = graph.run(&runtime, ((&x, value),)).expect("a run");
            match run.fetch(next) {
                Ok(result) => assert_eq!((value % 2, *result), (1, value + 1)),
                Err(error) => {
                    assert_eq!(value % 2, 0);
                    assert!(
                        matches!(error.root().kind(), FailureKind::Panicked(message) if *message == format!("even: {value}")),
                        "{error}"
                    );
                    assert!(error.root_task().starts_with("closure in "), "{error}");
                }
            }
        }
    }
}

#[test]
fn a_cancelled_run_ends_soon_and_says_so() {
    for runtime in runtimes(&COUNTS) {
        let (started, has_started) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let ran = Arc::new(AtomicUsize::new(0));
        let mut graph = GraphBuilder::new();
        let first = graph.task(
            move || {
                started.send(()).expect("the test listens");
                wait.lock().expect("not poisoned").recv().expect("the test goes on");
                1u64
            },
            (),
        );
        let mut last = first;
        for _ in 0..1000 {
            let ran = Arc::clone(&ran);
            last = graph.task(
                move |x: u64| {
                    ran.fetch_add(1, Ordering::Relaxed);
                    x + 1
                },
                (last,),
            );
        }
        let graph = graph.build().expect("a graph");
        for round in 0..3 {
            let run = graph.run(&runtime, ()).expect("a run");
            has_started.recv().expect("it has begun");
            run.cancel();
            go.send(()).expect("the node listens");
            let error = run.wait().expect_err("it was cancelled");
            assert!(matches!(error.kind(), FailureKind::Cancelled), "{error}");
            assert!(matches!(run.fetch(last).expect_err("it was not run").kind(), FailureKind::Cancelled));
            assert_eq!(*run.fetch(first).expect("it had begun"), 1);
            assert_eq!(ran.load(Ordering::Relaxed), 0, "round {round}");
        }
        let run = graph.run(&runtime, ()).expect("a run");
        go.send(()).expect("the node listens");
        assert_eq!(*run.fetch(last).expect("not cancelled"), 1001);
        run.cancel();
        run.wait().expect("all nodes were over");
    }
}

#[test]
fn a_node_and_its_jobs_see_that_their_run_was_cancelled() {
    for runtime in runtimes(&COUNTS) {
        let gate = Arc::new(Barrier::new(2));
        let mut graph = GraphBuilder::new();
        let node = {
            let gate = Arc::clone(&gate);
            let seen = move || {
                let before = poniard::is_cancelled();
                gate.wait();
                gate.wait();
                let inside = poniard::is_cancelled();
                let (left, right) = poniard::join(poniard::is_cancelled, poniard::is_cancelled);
                // A task that is run on top of the node answers for itself.
                let task = poniard::spawn(poniard::is_cancelled, ()).take().expect("no failure");
                (before, inside && left && right && poniard::is_cancelled(), task)
            };
            graph.task(seen, ())
        };
        let graph = graph.build().expect("a graph");
        for cancelled in [true, false] {
            let run = graph.run(&runtime, ()).expect("a run");
            gate.wait();
            if cancelled {
                run.cancel();
            }
            gate.wait();
            assert_eq!(*run.fetch(node).expect("it had begun"), (false, cancelled, false));
        }
    }
}

#[test]
fn a_job_of_a_node_that_waits_for_its_own_run_gets_an_error() {
    in_time(|| {
        let runtime = threads(2);
        let known: Arc<OnceLock<GraphRun>> = Arc::default();
        let mut graph = GraphBuilder::new();
        let body = {
            // Not the run itself: it has the graph, which has this.
            let known = Arc::downgrade(&known);
            move || {
                let known = known.upgrade().expect("the test has it");
                // Another worker takes it: the first half waits until it has begun.
                let begun = Barrier::new(2);
                let wait = || {
                    begun.wait();
                    known.wait().wait().map_err(|error| matches!(error.kind(), FailureKind::WaitsForItself))
                };
                poniard::join(|| begun.wait().is_leader(), wait).1 == Err(true)
            }
        };
        let node = graph.task(body, ());
        let run = graph.build().expect("a graph").run(&runtime, ()).expect("a run");
        known.set(run).expect("set once");
        assert!(known.wait().fetch(node).expect("no failure"));
    });
}

#[test]
fn everything_that_is_cancelled_takes_runs_with_it() {
    for runtime in runtimes(&COUNTS) {
        let gate = Arc::new(Barrier::new(2));
        let mut graph = GraphBuilder::new();
        let mut last = {
            let gate = Arc::clone(&gate);
            graph.task(
                move || {
                    gate.wait();
                    gate.wait();
                    0u64
                },
                (),
            )
        };
        for _ in 0..1000 {
            last = graph.task(add, (last, 1));
        }
        let graph = graph.build().expect("a graph");
        let run = graph.run(&runtime, ()).expect("a run");
        gate.wait();
        runtime.cancel_all();
        gate.wait();
        assert!(matches!(run.fetch(last).expect_err("it was cancelled").kind(), FailureKind::Cancelled));
        let run = graph.run(&runtime, ()).expect("a run");
        gate.wait();
        gate.wait();
        assert_eq!(*run.fetch(last).expect("begun afterwards"), 1000);
    }
}

#[test]
fn a_node_sees_that_everything_was_cancelled_or_the_runtime_ends() {
    for count in COUNTS {
        for ends in [false, true] {
            in_time(move || {
                let runtime = threads(count);
                let (begin, begun) = mpsc::channel();
                let mut graph = GraphBuilder::new();
                let body = move || {
                    begin.send(()).expect("the test listens");
                    // No worker looks at the run while its only node goes on.
                    while !poniard::is_cancelled() {
                        std::thread::yield_now();
                    }
                };
                graph.task(body, ());
                let run = graph.build().expect("a graph").run(&runtime, ()).expect("a run");
                begun.recv().expect("it begins");
                if ends {
                    runtime.shutdown_now()
                } else {
                    runtime.cancel_all()
                }
                run.wait().expect("it had begun");
            });
        }
    }
}

#[test]
fn after_a_runtime_was_told_to_end_now_no_node_begins() {
    for count in COUNTS {
        in_time(move || {
            let runtime = threads(count);
            let handle = runtime.handle();
            let (begin, begun) = mpsc::channel();
            let body = move || {
                begin.send(()).expect("the test listens");
                while !poniard::is_cancelled() {
                    std::thread::yield_now();
                }
                let mut graph = GraphBuilder::new();
                let node = graph.task(|| 1u64, ());
                let run = graph.build().expect("a graph").run(&handle, ()).expect("a task may begin runs until it ends");
                run.fetch(node).copied().map_err(|error| error.to_string())
            };
            let (tell, told) = mpsc::channel();
            runtime.spawn(move || tell.send(body()).expect("the test listens"), ()).detach();
            begun.recv().expect("it begins");
            runtime.shutdown_now();
            assert!(told.recv().expect("it ends").is_err(), "what a task spawns then is not run, and nor are runs");
        });
    }
}

#[test]
fn a_run_that_is_dropped_is_cancelled_and_a_detached_one_is_not() {
    let runtime = threads(2);
    let gate = Arc::new(Barrier::new(2));
    let ran = Arc::new(AtomicUsize::new(0));
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
    {
        let ran = Arc::clone(&ran);
        graph.task(move |(): &()| ran.fetch_add(1, Ordering::Relaxed) as u64, (first,));
    }
    let graph = graph.build().expect("a graph");
    for (detached, expected) in [(false, 0), (true, 1), (false, 1), (true, 2)] {
        let run = graph.run(&runtime, ()).expect("a run");
        gate.wait();
        if detached {
            run.detach();
        } else {
            drop(run);
        }
        gate.wait();
        runtime.wait_idle();
        assert_eq!(ran.load(Ordering::Relaxed), expected);
    }
}

#[test]
fn every_value_is_dropped_once() {
    for count in COUNTS {
        let (alive, clones) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicUsize::new(0)));
        let runtime = threads(count);
        {
            let mut graph = GraphBuilder::new();
            let x = graph.input::<Counted>("x");
            let constant = Counted::new(&alive, &clones, 5);
            let keep = Counted::new(&alive, &clones, 6);
            let made = graph.task(
                move |x: &Counted, constant: Counted| Counted::new(&x.alive, &x.clones, x.value + keep.value + constant.value),
                (x, constant),
            );
            let cloned = graph.task(|made: Counted| made, (made,));
            let fails = graph.task(|x: Counted| if x.value.is_multiple_of(3) { Err("a multiple of three") } else { Ok(x) }, (cloned,));
            let after = graph.task(|x: Counted| x.value, (fails.moved(),));
            let panics = graph.task(|x: Counted| if x.value.is_multiple_of(5) { panic!("a multiple of five") } else { x }, (made,));
            let graph = graph.build().expect("a graph");
            let at_rest = alive.load(Ordering::Relaxed);
            assert_eq!(at_rest, 2, "the constant and what the closure holds");
            for value in 0..60 {
                let given = Counted::new(&alive, &clones, value);
                let mut run = graph.run(&runtime, ((&x, given),)).expect("a run");
                match value % 4 {
                    // Dropped while it runs.
                    0 => {}
                    1 => drop(run.wait()),
                    2 => drop(run.take(cloned)),
                    _ => {
                        run.cancel();
                        drop(run.take(panics));
                        drop(run.fetch(after).cloned());
                    }
                }
                drop(run);
                runtime.wait_idle();
                assert_eq!(alive.load(Ordering::Relaxed), at_rest, "value {value}");
            }
            // Given, and never run.
            drop(graph.inputs().set(&x, Counted::new(&alive, &clones, 1)).set(&x, Counted::new(&alive, &clones, 2)));
            assert_eq!(alive.load(Ordering::Relaxed), at_rest);
            let stranger = GraphBuilder::new().input::<Counted>("x");
            let refused = graph.run(&runtime, ((&x, Counted::new(&alive, &clones, 1)), (&stranger, Counted::new(&alive, &clones, 1))));
            assert_eq!(refused.map(drop), Err(GraphRunError::OtherGraph));
            assert_eq!(alive.load(Ordering::Relaxed), at_rest);
        }
        assert_eq!(alive.load(Ordering::Relaxed), 0);
        // Never built.
        let mut graph = GraphBuilder::new();
        graph.task(|x: &Counted| x.value, (Counted::new(&alive, &clones, 1),));
        drop(graph);
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_parameter_by_value_clones_unless_the_result_is_moved() {
    let (alive, clones) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicUsize::new(0)));
    let runtime = threads(2);
    let take = |counted: Counted| counted.value;
    for (moved, expected) in [(false, 1), (true, 0)] {
        let mut graph = GraphBuilder::new();
        let x = graph.input::<Counted>("x");
        let made = graph.task(|x: &Counted| Counted::new(&x.alive, &x.clones, x.value + 1), (x,));
        let taken = if moved { graph.task(take, (made.moved(),)) } else { graph.task(take, (made,)) };
        let graph = graph.build().expect("a graph");
        clones.store(0, Ordering::Relaxed);
        let mut run = graph.run(&runtime, ((&x, Counted::new(&alive, &clones, 1)),)).expect("a run");
        assert_eq!(*run.fetch(taken).expect("no failure"), 2);
        assert_eq!(clones.load(Ordering::Relaxed), expected);
        assert_eq!(run.fetch(made).is_ok(), !moved);
        assert_eq!(run.take(made).is_ok(), !moved);
        if moved {
            let error = run.fetch(made).map(drop).expect_err("moved");
            assert!(matches!(error.kind(), FailureKind::Moved));
            assert!(error.to_string().ends_with(") has no result any more: it was moved into another node"), "{error}");
        }
        assert!(run.take(taken).is_ok(), "taken once");
        for error in [run.take(taken).expect_err("taken before"), run.fetch(taken).map(drop).expect_err("taken before")] {
            assert!(matches!(error.kind(), FailureKind::Taken));
            assert!(error.to_string().ends_with(") has no result any more: it was taken out of this run before"), "{error}");
        }
    }
    let mut graph = GraphBuilder::new();
    let x = graph.input::<Counted>("x");
    let taken = graph.task(take, (x.moved(),));
    let graph = graph.build().expect("a graph");
    clones.store(0, Ordering::Relaxed);
    for value in 0..5 {
        let run = graph.run(&runtime, ((&x, Counted::new(&alive, &clones, value)),)).expect("a run");
        assert_eq!(*run.fetch(taken).expect("no failure"), value);
    }
    // Whoever ran the last node of a run lets go of it after that.
    runtime.wait_idle();
    assert_eq!((clones.load(Ordering::Relaxed), alive.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn a_result_that_will_be_moved_cannot_be_borrowed_before() {
    let runtime = threads(2);
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let mut graph = GraphBuilder::new();
    let made = graph.task(add, (1, 2));
    let gate = graph.task(move || wait.lock().expect("not poisoned").recv().map(|()| 0u64), ());
    let taken = graph.task_with(add, (made.moved(), 1)).after(gate).add();
    let graph = graph.build().expect("a graph");
    for _ in 0..10 {
        // The result is there, or will be, and its only user waits at the gate.
        let run = graph.run(&runtime, ()).expect("a run");
        assert!(matches!(run.fetch(made).map(drop).expect_err("it will be moved").kind(), FailureKind::Moved));
        go.send(()).expect("the gate listens");
        assert_eq!(*run.fetch(taken).expect("no failure"), 4);
    }
}

#[test]
fn what_cannot_be_built_says_why() {
    // A circle through order alone.
    let mut graph = GraphBuilder::new();
    let x = graph.input::<u64>("x");
    let before = graph.task_with(add, (x, 1)).name("before").add();
    let a = graph.task_with(add, (before, 1)).name("a").add();
    let b = graph.task_with(add, (a, 1)).name("b").add();
    let c = graph.task_with(add, (b, 1)).name("c").add();
    graph.task_with(add, (c, 1)).name("downstream").add();
    graph.order(c, a);
    let error = graph.build().expect_err("a circle");
    assert_eq!(error.kind(), GraphErrorKind::Circle);
    let text = error.to_string();
    let order: Vec<_> = text.split('`').skip(1).step_by(2).collect();
    let start = order.iter().position(|name| *name == "a").unwrap_or_else(|| panic!("{text}"));
    assert_eq!((order.len(), order[(start + 1) % 3], order[(start + 2) % 3]), (4, "b", "c"), "{text}");
    assert!(text.contains("graph_failures.rs:") && !text.contains("downstream") && !text.contains("before`"), "{text}");

    // To itself.
    let mut graph = GraphBuilder::new();
    let a = graph.task(add, (1, 1));
    graph.order(a, a);
    assert_eq!(graph.build().map(drop).map_err(|error| error.kind()), Err(GraphErrorKind::Circle));

    // Backwards, and no circle.
    let runtime = threads(1);
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str| {
        let order = Arc::clone(&order);
        move || order.lock().expect("not poisoned").push(name)
    };
    let mut graph = GraphBuilder::new();
    let second = graph.task(note("second"), ());
    let first = graph.task(note("first"), ());
    graph.order(first, second);
    graph.build().expect("a graph").run(&runtime, ()).expect("a run").wait().expect("no failure");
    assert_eq!(*order.lock().expect("not poisoned"), ["first", "second"]);

    // Of another builder.
    let stranger = GraphBuilder::new().task(add, (1, 1));
    let mut graph = GraphBuilder::new();
    graph.task(add, (stranger, 1));
    let error = graph.build().expect_err("a stranger");
    assert_eq!(error.kind(), GraphErrorKind::OtherBuilder);
    assert!(error.to_string().contains("graph_failures.rs:"), "{error}");

    // Moved, and used.
    for twice in [false, true] {
        let mut graph = GraphBuilder::new();
        let a = graph.task_with(add, (1, 1)).name("the moved one").add();
        graph.task(add, (a.moved(), 1));
        if twice {
            graph.task(add, (a.moved(), 1));
        } else {
            graph.task(add, (a, 1));
        }
        let error = graph.build().expect_err("it is used twice");
        assert_eq!(error.kind(), GraphErrorKind::MovedAndUsed);
        assert!(error.to_string().contains("`the moved one`"), "{error}");
    }
    // Order is no use.
    let mut graph = GraphBuilder::new();
    let a = graph.task(add, (1, 1));
    graph.task(add, (a.moved(), 1));
    graph.task_with(add, (1, 1)).after(a).add();
    graph.build().expect("used once");

    let mut graph = GraphBuilder::new();
    let x = graph.input::<u64>("x");
    let a = graph.task(add, (1, 1));
    graph.order(x, a);
    graph.order(a, x);
    assert_eq!(graph.build().map(drop).map_err(|error| error.kind()), Err(GraphErrorKind::InputWaits));
}

#[test]
fn a_run_that_cannot_begin_says_why() {
    let runtime = threads(1);
    let mut graph = GraphBuilder::new();
    let x = graph.input::<u64>("x");
    let y = graph.input::<u64>("the second");
    let both = graph.task(add, (x, y));
    let graph = graph.build().expect("a graph");
    let missing = graph.run(&runtime, ((&x, 1),)).map(drop);
    assert_eq!(missing, Err(GraphRunError::MissingInput { input: "the second".into() }));
    let twice = graph.run(&runtime, ((&x, 1), (&x, 2))).map(drop);
    assert_eq!(twice, Err(GraphRunError::InputGivenTwice { input: "x".into() }));
    let mut other = GraphBuilder::new();
    let z = other.input::<u64>("z");
    let other = other.build().expect("a graph");
    assert_eq!(graph.run(&runtime, ((&x, 1), (&z, 2))).map(drop), Err(GraphRunError::OtherGraph));
    assert_eq!(graph.run(&runtime, other.inputs().set(&z, 1)).map(drop), Err(GraphRunError::OtherGraph));
    let run = graph.run(&runtime, graph.inputs().set(&y, 2).set(&x, 1)).expect("a run");
    assert_eq!(*run.fetch(both).expect("no failure"), 3);
    let handle: Handle = runtime.handle();
    drop(runtime);
    assert_eq!(graph.run(&handle, ((&x, 1), (&y, 2))).map(drop), Err(GraphRunError::Shutdown));
    // Results outlive the runtime.
    assert_eq!(*run.fetch(both).expect("no failure"), 3);
}

#[test]
fn a_runtime_waits_for_its_runs() {
    for count in COUNTS {
        let done = Arc::new(AtomicUsize::new(0));
        let mut graph = GraphBuilder::new();
        let mut last = graph.task(|| 0u64, ());
        for _ in 0..1000 {
            let done = Arc::clone(&done);
            last = graph.task(
                move |x: u64| {
                    done.fetch_add(1, Ordering::Relaxed);
                    x
                },
                (last,),
            );
        }
        let graph = graph.build().expect("a graph");
        let runtime = threads(count);
        for _ in 0..5 {
            graph.run(&runtime, ()).expect("a run").detach();
        }
        runtime.wait_idle();
        assert_eq!(done.load(Ordering::Relaxed), 5000);
        let run = graph.run(&runtime, ()).expect("a run");
        drop(runtime);
        assert!(run.is_finished());
        assert_eq!(done.load(Ordering::Relaxed), 6000);
    }
}

#[test]
fn a_node_that_ends_early_with_a_question_mark_was_cancelled() {
    let runtime = threads(2);
    let gate = Arc::new(Barrier::new(2));
    let mut graph = GraphBuilder::new();
    let node = {
        let gate = Arc::clone(&gate);
        let body = move || -> Result<u64, BoxError> {
            gate.wait();
            gate.wait();
            poniard::check_cancelled()?;
            Ok(1)
        };
        graph.task(body, ())
    };
    let graph = graph.build().expect("a graph");
    let run = graph.run(&runtime, ()).expect("a run");
    gate.wait();
    run.cancel();
    gate.wait();
    assert!(matches!(run.fetch(node).expect_err("it looked").kind(), FailureKind::Cancelled));
}

#[test]
fn a_run_that_a_task_begins_after_the_end_is_cancelled() {
    for count in COUNTS {
        let runtime = Arc::new(threads(count));
        let mut graph = GraphBuilder::new();
        let node = graph.task(|| 1u64, ());
        let graph = graph.build().expect("a graph");
        let (says, begins) = mpsc::channel();
        let task = {
            let handle = runtime.handle();
            let body = move || {
                says.send(()).expect("the test listens");
                while !poniard::is_cancelled() {
                    std::hint::spin_loop();
                }
                let run = graph.run(&handle, ()).expect("a task may begin runs until it is over");
                matches!(run.fetch(node).expect_err("nothing is run any more").kind(), FailureKind::Cancelled)
            };
            runtime.spawn(body, ())
        };
        begins.recv().expect("it begins");
        runtime.shutdown_now();
        assert!(*task.fetch().expect("its body ran"));
    }
}

#[test]
fn nodes_that_run_see_that_everything_is_cancelled_and_nothing_further_of_their_run_begins() {
    for count in COUNTS {
        for shuts_down in [false, true] {
            let runtime = threads(count);
            let (says, begins) = mpsc::channel();
            let further = Arc::new(AtomicUsize::new(0));
            let mut graph = GraphBuilder::new();
            // Its body ends only when it is told to.
            let endless = graph.task(
                move || {
                    says.send(()).expect("the test listens");
                    while !poniard::is_cancelled() {
                        std::hint::spin_loop();
                    }
                    7u64
                },
                (),
            );
            let mut last = endless;
            for _ in 0..200 {
                let further = Arc::clone(&further);
                let next = move |x: u64| {
                    further.fetch_add(1, Ordering::SeqCst);
                    x
                };
                last = graph.task(next, (last,));
            }
            let checked = graph.task(
                |_: &u64| -> Result<u64, BoxError> {
                    poniard::check_cancelled()?;
                    Ok(0)
                },
                (&endless,),
            );
            let graph = graph.build().expect("a graph");
            let run = graph.run(&runtime, ()).expect("a run");
            begins.recv().expect("it begins");
            if shuts_down {
                runtime.shutdown_now();
            } else {
                runtime.cancel_all();
            }
            assert_eq!(*run.fetch(endless).expect("it gives a value all the same"), 7);
            assert!(matches!(run.fetch(last).expect_err("it was cancelled").kind(), FailureKind::Cancelled));
            assert!(matches!(run.fetch(checked).expect_err("it was cancelled").kind(), FailureKind::Cancelled));
            run.wait().expect_err("not all was run");
            assert_eq!(further.load(Ordering::SeqCst), 0);
        }
    }
}
