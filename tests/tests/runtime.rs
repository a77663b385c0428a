//! The runtime as a user meets it: spawning, waiting, errors, nesting, ending.
//!
//! One file because each law needs the same few functions, at the same numbers of threads.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};

use poniard::{Buffer, Data, FailureKind, Gather, Handle, Priority, Runtime, Scope, Task, TaskError, buffer};
use poniard_tests::{Stopped, add, fib, in_time, threads};

/// Numbers of threads that every law is tried with.
const COUNTS: [usize; 3] = [1, 2, 5];

fn length(values: &[u64]) -> u64 {
    values.len() as u64
}

#[test]
fn arguments_are_values_tasks_references_to_tasks_and_arcs() {
    for count in COUNTS {
        let runtime = threads(count);
        let a = runtime.spawn(add, (1, 2));
        let b = runtime.spawn(add, (&a, 10));
        let c = runtime.spawn(add, (a, Arc::new(5)));
        let k = 7;
        let d = runtime.spawn(move |x: u64, y: &u64| x * k + y, (b, &c));
        assert_eq!(*d.fetch().expect("no failure"), 13 * 7 + 8);
        assert_eq!(d.take().expect("no failure"), 99);
    }
}

#[test]
fn a_diamond_gives_its_value() {
    //     a
    //    / \
    //   b   c
    //    \ /
    //     d
    for count in COUNTS {
        let runtime = threads(count);
        for i in 0..1000 {
            let a = runtime.spawn(add, (i, 1));
            let b = runtime.spawn(|x: u64| x * 2, (&a,));
            let c = runtime.spawn(|x: u64| x * 3, (&a,));
            let d = runtime.spawn(add, (b, c));
            assert_eq!(*d.fetch().expect("no failure"), (i + 1) * 5);
        }
    }
}

#[test]
fn a_result_taken_by_its_last_user_is_moved_and_otherwise_cloned() {
    #[derive(Data)]
    struct Counted(Arc<AtomicUsize>);
    impl Clone for Counted {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, Ordering::Relaxed);
            Self(Arc::clone(&self.0))
        }
    }
    let runtime = threads(2);
    let clones = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&clones);
    let made = runtime.spawn(move || Counted(counter), ());
    let kept = made.clone();
    runtime.spawn(|value: Counted| drop(value), (made,)).wait().expect("no failure");
    assert_eq!(clones.load(Ordering::Relaxed), 1, "another handle is alive, so the value is cloned");
    runtime.spawn(|value: Counted| drop(value), (kept,)).wait().expect("no failure");
    assert_eq!(clones.load(Ordering::Relaxed), 1, "the last user gets the value itself");
}

#[test]
fn a_type_that_is_not_clone_is_passed_by_reference() {
    #[derive(Data)]
    struct Unique(u64);
    let runtime = threads(2);
    let made = runtime.spawn(|x: u64| Unique(x), (4,));
    assert_eq!(*runtime.spawn(|unique: &Unique| unique.0 + 1, (&made,)).fetch().expect("no failure"), 5);
    assert_eq!(made.fetch().expect("no failure").try_unwrap().map(|unique| unique.0).ok(), None, "the handle is another user");
}

#[test]
fn gather_takes_any_number_of_results_in_their_order() {
    let runtime = threads(2);
    for count in [0u64, 1, 2, 1000] {
        let parts: Vec<Task<u64>> = (0..count).map(|i| runtime.spawn(add, (i, 0))).collect();
        let all = runtime.spawn(|parts: Gather<'_, u64>| parts.iter().copied().collect::<Vec<_>>(), (parts,));
        assert_eq!(*all.fetch().expect("no failure"), (0..count).collect::<Vec<_>>());
    }
}

#[test]
fn the_same_task_may_be_given_twice() {
    let runtime = threads(2);
    let a = runtime.spawn(add, (2, 3));
    assert_eq!(*runtime.spawn(add, (&a, a.clone())).fetch().expect("no failure"), 10);
}

#[test]
fn tasks_spawn_and_fetch_inside_tasks_even_on_one_thread() {
    for count in COUNTS {
        let runtime = threads(count);
        assert_eq!(*runtime.spawn(fib, (16,)).fetch().expect("no failure"), 987);
    }
}

#[test]
fn a_task_that_fetches_runs_what_the_awaited_one_depends_on() {
    // One thread: nobody else could run the chain that the outer task waits for.
    let runtime = threads(1);
    let total = runtime.spawn(
        || {
            let mut last = poniard::spawn(add, (0, 0));
            for _ in 0..10_000 {
                last = poniard::spawn(add, (last, 1));
            }
            *last.fetch().expect("no failure")
        },
        (),
    );
    assert_eq!(*total.fetch().expect("no failure"), 10_000);
}

#[test]
fn a_task_that_fetches_does_not_run_strangers() {
    // On one thread the outer task holds a lock that the stranger wants; running the stranger on top of it would never end.
    let runtime = threads(1);
    let lock = Arc::new(Mutex::new(0));
    let outer = {
        let lock = Arc::clone(&lock);
        runtime.spawn(
            move || {
                let stranger = {
                    let lock = Arc::clone(&lock);
                    move || *lock.lock().expect("not poisoned") += 1
                };
                let guard = lock.lock().expect("not poisoned");
                let stranger = poniard::spawn(stranger, ());
                let awaited = *poniard::spawn(add, (1, 1)).fetch().expect("no failure");
                drop(guard);
                stranger.wait().expect("no failure");
                awaited
            },
            (),
        )
    };
    assert_eq!(*outer.fetch().expect("no failure"), 2);
    assert_eq!(*lock.lock().expect("not poisoned"), 1);
}

#[test]
fn a_spare_thread_takes_the_place_of_one_that_waits_for_a_running_task() {
    // Two threads, three tasks that have to run at the same time: the one that waits must not take a place.
    let runtime = threads(2);
    let barrier = Arc::new(Barrier::new(2));
    let meeting = Arc::clone(&barrier);
    let slow = runtime.spawn(move || meeting.wait().is_leader(), ());
    let (started, has_started) = mpsc::channel();
    let waiting = {
        let slow = slow.clone();
        runtime.spawn(
            move || {
                started.send(()).expect("the test listens");
                slow.wait().is_ok()
            },
            (),
        )
    };
    has_started.recv().expect("the waiting task runs");
    let other = runtime.spawn(move || barrier.wait().is_leader(), ());
    other.wait().expect("it found a thread");
    assert!(*waiting.fetch().expect("no failure"));
}

#[test]
fn nesting_a_hundred_thousand_deep_works() {
    fn down(n: u64) -> u64 {
        if n == 0 { 0 } else { 1 + *poniard::spawn(down, (n - 1,)).fetch().expect("no failure") }
    }
    for count in [1, 2] {
        let runtime = threads(count);
        assert_eq!(*runtime.spawn(down, (100_000,)).fetch().expect("no failure"), 100_000);
    }
}

#[test]
fn a_chain_of_a_million_tasks_is_built_run_and_dropped() {
    let runtime = threads(2);
    let mut last = runtime.spawn(add, (0, 0));
    for _ in 0..1_000_000 {
        last = runtime.spawn(add, (last, 1));
    }
    assert_eq!(*last.fetch().expect("no failure"), 1_000_000);
}

fn broken(_: u64) -> Result<u64, String> {
    Err("the matrix is singular".into())
}

#[test]
fn an_error_reaches_all_transitive_dependents_and_nobody_else() {
    for count in COUNTS {
        let runtime = threads(count);
        let root = runtime.spawn(broken, (1,));
        let middle = runtime.task(add, (&root, 1)).name("middle").spawn();
        let last = runtime.task(add, (2, &middle)).name("last").spawn();
        let other = runtime.spawn(add, (2, 3));
        let error = last.fetch().expect_err("its input failed");
        assert_eq!((error.task(), error.root_task()), ("last", "broken"));
        assert_eq!(error.reason(), "the matrix is singular");
        let text = error.to_string();
        for part in ["`last`", "`broken`", "the matrix is singular", "tests/runtime.rs"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(middle.fetch().expect_err("its input failed").root_task(), "broken");
        assert!(matches!(root.fetch().expect_err("it failed").kind(), FailureKind::Returned(_)));
        assert_eq!(*other.fetch().expect("it depends on nothing that failed"), 5);
    }
}

#[test]
fn a_typed_error_is_kept() {
    #[derive(Debug)]
    struct Singular(usize);
    impl std::fmt::Display for Singular {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "pivot {} is zero", self.0)
        }
    }
    impl std::error::Error for Singular {}
    let runtime = threads(1);
    let root: Task<u64> = runtime.spawn(|| -> Result<u64, Singular> { Err(Singular(3)) }, ());
    let last = runtime.spawn(add, (root, 1));
    let error = last.fetch().expect_err("its input failed");
    assert_eq!(error.downcast_ref::<Singular>().map(|singular| singular.0), Some(3));
}

#[test]
fn a_panic_is_an_error_of_its_dependents_and_the_worker_goes_on() {
    for count in COUNTS {
        let runtime = threads(count);
        let root = runtime.spawn(|| -> u64 { panic!("index {} out of range", 7) }, ());
        let last = runtime.spawn(add, (&root, 1));
        assert_eq!(last.fetch().expect_err("its input panicked").reason(), "index 7 out of range");
        assert!(matches!(root.wait().expect_err("it panicked").kind(), FailureKind::Panicked(_)));
        assert_eq!(*runtime.spawn(add, (1, 1)).fetch().expect("no failure"), 2);
    }
}

#[test]
fn an_error_in_a_nested_task_can_be_passed_on_with_a_question_mark() {
    fn outer() -> Result<u64, TaskError> {
        Ok(*poniard::spawn(broken, (1,)).fetch()?)
    }
    let runtime = threads(1);
    let error = runtime.spawn(outer, ()).fetch().expect_err("the inner one fails");
    assert_eq!(error.root_task(), "outer");
    assert!(error.reason().contains("the matrix is singular"), "{error}");
}

#[test]
fn fetching_oneself_is_an_error() {
    let runtime = threads(2);
    let (give, take) = mpsc::channel::<Task<(bool, String)>>();
    let take = Mutex::new(take);
    let task = runtime.spawn(
        move || {
            let myself = take.lock().expect("not poisoned").recv().expect("sent below");
            let error = myself.fetch().expect_err("it would wait for itself");
            (matches!(error.kind(), FailureKind::WaitsForItself), error.to_string())
        },
        (),
    );
    give.send(task.clone()).expect("it listens");
    let (found, text) = task.take().expect("no failure");
    assert!(found);
    assert!(text.starts_with("waiting for task `") && text.contains("would never end: it, or what it needs"), "{text}");
}

#[test]
fn fetching_a_task_that_waits_for_oneself_is_an_error() {
    let runtime = threads(1);
    let (give, take) = mpsc::channel::<Task<u64>>();
    let take = Mutex::new(take);
    let task = runtime.spawn(
        move || {
            let after = take.lock().expect("not poisoned").recv().expect("sent below");
            match after.fetch() {
                Err(error) => u64::from(matches!(error.kind(), FailureKind::WaitsForItself)),
                Ok(_) => 2,
            }
        },
        (),
    );
    give.send(runtime.spawn(add, (&task, 0))).expect("it listens");
    assert_eq!(*task.fetch().expect("no failure"), 1);
}

#[test]
fn of_tasks_that_wait_for_each_other_in_a_circle_one_gets_an_error() {
    for length in [2, 3, 5] {
        // One thread each, so that all of the circle run at the same time.
        let runtime = threads(length);
        let all_run = Arc::new(Barrier::new(length));
        let (senders, tasks): (Vec<_>, Vec<Task<bool>>) = (0..length)
            .map(|_| {
                let (give, take) = mpsc::channel::<Task<bool>>();
                let (take, all_run) = (Mutex::new(take), Arc::clone(&all_run));
                let task = runtime.spawn(
                    move || {
                        all_run.wait();
                        let next = take.lock().expect("not poisoned").recv().expect("sent below");
                        match next.fetch() {
                            Ok(_) => false,
                            Err(error) => matches!(error.kind(), FailureKind::WaitsForItself),
                        }
                    },
                    (),
                );
                (give, task)
            })
            .unzip();
        for (index, sender) in senders.iter().enumerate() {
            sender.send(tasks[(index + 1) % length].clone()).expect("it listens");
        }
        let errors = tasks.iter().filter(|task| *task.fetch().expect("no failure")).count();
        assert_eq!(errors, 1, "the last one to wait closes the circle; the others are then set free");
    }
}

#[test]
fn a_destructor_that_panics_takes_nothing_with_it() {
    #[derive(Data)]
    struct Grumpy;
    impl Drop for Grumpy {
        fn drop(&mut self) {
            panic!("not like this");
        }
    }
    let runtime = threads(1);
    let made = runtime.spawn(|| Grumpy, ());
    let last = runtime.spawn(|_: &Grumpy| 5u64, (made,));
    assert_eq!(*last.fetch().expect("no failure"), 5);
    drop(last);
    assert_eq!(*runtime.spawn(add, (1, 1)).fetch().expect("no failure"), 2);
}

#[test]
fn dropping_the_runtime_waits_for_everything_that_was_spawned() {
    for count in COUNTS {
        let done = Arc::new(AtomicUsize::new(0));
        let runtime = threads(count);
        for _ in 0..1000 {
            let done = Arc::clone(&done);
            let task = runtime.spawn(
                move || {
                    poniard::spawn(move || done.fetch_add(1, Ordering::Relaxed), ()).detach();
                },
                (),
            );
            task.detach();
        }
        drop(runtime);
        assert_eq!(done.load(Ordering::Relaxed), 1000);
    }
}

#[test]
fn spawning_after_the_end_gives_a_task_that_failed() {
    let runtime = threads(1);
    let handle: Handle = runtime.handle();
    drop(runtime);
    let error = handle.spawn(add, (1, 2)).fetch().expect_err("the runtime is gone");
    assert!(matches!(error.kind(), FailureKind::Shutdown), "{error}");
    assert_eq!(error.task(), "add");
}

#[test]
fn a_runtime_may_be_dropped_inside_its_own_task() {
    let runtime = threads(1);
    let handle = runtime.handle();
    let (give, take) = mpsc::channel::<Runtime>();
    let take = Mutex::new(take);
    let task = handle.spawn(
        move || {
            drop(take.lock().expect("not poisoned").recv().expect("sent below"));
            *poniard::spawn(add, (20, 1)).fetch().expect("the runtime waits for this task and what it spawns")
        },
        (),
    );
    give.send(runtime).expect("it listens");
    assert_eq!(*task.fetch().expect("no failure"), 21);
}

#[test]
fn tasks_of_one_runtime_may_depend_on_those_of_another() {
    let (one, two) = (threads(1), threads(1));
    let a = one.spawn(add, (1, 2));
    let b = two.spawn(add, (&a, 3));
    let c = one.spawn(add, (&b, 4));
    assert_eq!(*c.fetch().expect("no failure"), 10);
    let handle = two.handle();
    let inside = one.spawn(move || *handle.spawn(add, (5, 6)).fetch().expect("no failure"), ());
    assert_eq!(*inside.fetch().expect("no failure"), 11);
}

#[test]
fn a_scope_keeps_a_task_where_it_belongs_and_an_empty_one_is_an_error() {
    let runtime = threads(3);
    let name = || std::thread::current().name().unwrap_or_default().to_owned();
    for _ in 0..50 {
        let there = runtime.task(name, ()).scope(Scope::processor("threads-1")).spawn();
        assert_eq!(*there.fetch().expect("no failure"), "poniard-1");
        let cpu = runtime.task(add, (1, 1)).scope(Scope::kind("cpu")).spawn();
        assert_eq!(*cpu.fetch().expect("no failure"), 2);
    }
    let nowhere = runtime.task(add, (1, 1)).scope(Scope::kind("vulkan")).spawn();
    let error = nowhere.fetch().expect_err("there is no such processor");
    let text = error.to_string();
    assert!(text.contains("kind `vulkan`") && text.contains("threads-0"), "{text}");
}

#[test]
fn the_most_urgent_ready_task_runs_first() {
    let runtime = threads(1);
    let order = Arc::new(Mutex::new(Vec::new()));
    let gate = runtime.spawn(
        {
            let order = Arc::clone(&order);
            let handle = runtime.handle();
            move || {
                // While this runs, the only thread is taken: all three wait in queues.
                for (priority, name) in [(Priority::Low, "low"), (Priority::Normal, "normal"), (Priority::High, "high")] {
                    let order = Arc::clone(&order);
                    handle.task(move || order.lock().expect("not poisoned").push(name), ()).priority(priority).spawn().detach();
                }
            }
        },
        (),
    );
    gate.wait().expect("no failure");
    drop(runtime);
    assert_eq!(*order.lock().expect("not poisoned"), ["high", "normal", "low"]);
}

#[test]
fn buffers_travel_without_being_copied() {
    let runtime = threads(2);
    let made = runtime.spawn(|n: usize| buffer::from_fn(n, |i| i as f64), (1000,));
    let place = made.fetch().expect("no failure").as_ptr() as usize;
    let same = runtime.spawn(|buffer: &Buffer<f64>| buffer.as_ptr() as usize, (&made,));
    assert_eq!(*same.fetch().expect("no failure"), place);
    let moved = runtime.spawn(
        |mut buffer: Buffer<f64>| {
            buffer[0] = 5.0;
            buffer
        },
        (made,),
    );
    let moved = moved.take().expect("no failure");
    assert_eq!((moved.as_ptr() as usize, moved[0], moved[999]), (place, 5.0, 999.0));
}

#[test]
fn slices_and_text_are_read_from_vectors_and_strings() {
    let runtime = threads(2);
    let text = runtime.spawn(|words: &[String], glue: &str| words.join(glue), (vec!["a".to_owned(), "b".to_owned()], "-".to_owned()));
    assert_eq!(*text.fetch().expect("no failure"), "a-b");
    assert_eq!(*runtime.spawn(|text: &str| text.len(), (&text,)).fetch().expect("no failure"), 3);
}

#[poniard::task]
fn describe(label: &str, values: &[f64], all: Gather<'_, u64>, factor: f64) -> Result<String, String> {
    if all.is_empty() {
        return Err("nothing to describe".into());
    }
    Ok(format!("{label} {} {}", values.iter().sum::<f64>() * factor, all.iter().sum::<u64>()))
}

#[test]
fn the_task_macro_keeps_the_function_and_adds_a_typed_spawn() {
    let runtime = threads(2);
    let values = runtime.spawn(|| vec![1.5, 2.5], ());
    let counts = vec![runtime.spawn(add, (1, 2)), runtime.spawn(add, (3, 4))];
    let text = describe::spawn(&runtime, "sum".to_owned(), &values, counts, 2.0);
    assert_eq!(*text.fetch().expect("no failure"), "sum 8 10");
    let error = describe::spawn(&runtime, String::new(), values, Vec::new(), 1.0).fetch().expect_err("nothing is given");
    assert_eq!((error.root_task(), error.reason().as_str()), ("describe", "nothing to describe"));
}

#[test]
fn a_value_is_a_finished_task() {
    let runtime = threads(1);
    let value = runtime.value(vec![1u64, 2, 3]);
    assert!(value.is_finished());
    assert_eq!(*runtime.spawn(length, (&value,)).fetch().expect("no failure"), 3);
}

#[test]
fn the_report_counts_every_task_once() {
    let runtime = threads(3);
    let tasks: Vec<_> = (0..500).map(|i| runtime.spawn(add, (i, i))).collect();
    for task in &tasks {
        task.wait().expect("no failure");
    }
    let inner = runtime.spawn(fib, (10,));
    inner.wait().expect("no failure");
    let report = runtime.report();
    let counted: u64 = report.backends.iter().flat_map(|backend| &backend.processors).map(|processor| processor.tasks).sum();
    // fib(10) is made of 177 calls.
    assert_eq!(counted, 500 + 177);
    assert_eq!(report.backends[0].name, "threads");
    assert_eq!(report.backends[0].file, None);
}

#[test]
fn zero_threads_are_refused() {
    let error = Runtime::builder().threads(0).build().expect_err("nothing could run");
    assert_eq!(error.kind(), poniard::BuildErrorKind::Setting);
    assert!(error.to_string().contains("threads"), "{error}");
}

#[test]
fn settings_that_no_backend_in_use_reads_are_refused() {
    let refused = |builder: poniard::RuntimeBuilder| {
        let error = builder.build().expect_err("nobody reads it");
        (error.kind(), error.to_string())
    };
    let (kind, text) = refused(Runtime::builder().setting("threads.pni", "true"));
    assert_eq!(kind, poniard::BuildErrorKind::Setting);
    assert!(text.contains("`threads.pni` is known to no backend in use; did you mean `threads.pin`, of the backend `threads`?"), "{text}");
    let (kind, text) = refused(Runtime::builder().backend("threads").threads(1).processes(1));
    assert_eq!(kind, poniard::BuildErrorKind::UnknownBackend);
    assert!(
        text.contains("setting `processes` is `1`, and the backend `process`, which reads it, is not in use; in use: threads"),
        "{text}"
    );
    Runtime::builder().backend("threads").threads(1).processes(0).build().expect("none can be had everywhere");
}

#[test]
fn many_threads_fetch_the_same_task() {
    let runtime = threads(2);
    let slow = runtime.spawn(fib, (18,));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(*slow.fetch().expect("no failure"), 2584);
                }
            });
        }
    });
}

#[test]
fn more_threads_than_cores_lose_nothing() {
    let runtime = threads(16);
    for round in 0..200u64 {
        let leaves: Vec<_> = (0..64).map(|i| runtime.spawn(add, (i, round))).collect();
        let mut level = leaves;
        while level.len() > 1 {
            level = level.chunks(2).map(|pair| runtime.spawn(add, (&pair[0], &pair[1]))).collect();
        }
        assert_eq!(*level[0].fetch().expect("no failure"), 64 * 63 / 2 + 64 * round);
    }
}

#[test]
fn chains_of_handles_of_any_length_are_dropped() {
    /// A list whose elements are results.
    #[derive(Clone, Data)]
    struct Element {
        _counted: Arc<()>,
        next: Option<Task<Element>>,
    }
    const LENGTH: usize = 50_000;
    for count in COUNTS {
        let alive = Arc::new(());
        let all_gone = || {
            while Arc::strong_count(&alive) > 1 {
                std::thread::yield_now();
            }
        };
        let runtime = threads(count);

        // In results.
        let mut last: Option<Task<Element>> = None;
        for _ in 0..LENGTH {
            let element = Element { _counted: Arc::clone(&alive), next: last.take() };
            last = Some(runtime.value(element));
        }
        drop(last);
        assert_eq!(Arc::strong_count(&alive), 1, "freed when the outermost one is");
        let mut next = None;
        for _ in 0..LENGTH {
            let counted = Arc::clone(&alive);
            next = Some(runtime.spawn(move || Element { _counted: counted, next }, ()));
        }
        runtime.wait_idle();
        assert!(next.as_ref().expect("the last").fetch().expect("no failure").next.is_some());
        drop(next);
        all_gone();

        // In closures of tasks that wait for another one, which are dropped before they begin.
        let (open, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let gate = runtime.task(move || gate.lock().expect("not poisoned").recv().is_err(), ()).occupancy(0.0).spawn();
        let captures = |previous: Option<Task<bool>>| {
            let counted = Arc::clone(&alive);
            move |_: &bool| {
                let _captured = (&counted, &previous);
                true
            }
        };
        let mut last = None;
        for _ in 0..LENGTH / 5 {
            last = Some(runtime.spawn(captures(last), (&gate,)));
        }
        drop(last);
        drop(open);
        runtime.wait_idle();
        all_gone();

        // The same of tasks that are ready.
        let held: Vec<_> = (0..count).map(|_| Stopped::spawn(|body| runtime.spawn(body, ()))).collect();
        let mut last = None;
        for _ in 0..LENGTH / 5 {
            last = Some(runtime.spawn(captures(last), (&runtime.value(true),)));
        }
        drop(last);
        held.into_iter().for_each(|held| drop(held.go()));
        runtime.wait_idle();
        all_gone();
    }
}

#[test]
fn many_tasks_may_wait_for_one_that_ends_when_all_have_begun() {
    // Each of them needs a thread of its own, as what it waits for runs elsewhere.
    const WAITING: usize = 200;
    in_time(|| {
        let runtime = threads(1);
        let (open, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let gate = runtime.task(move || gate.lock().expect("not poisoned").recv().is_err(), ()).occupancy(0.0).spawn();
        let (say, hear) = mpsc::channel();
        let waiting: Vec<_> = (0..WAITING)
            .map(|_| {
                let (say, gate) = (say.clone(), gate.clone());
                runtime.spawn(move || (say.send(()).is_ok(), gate.take().expect("no failure")), ())
            })
            .collect();
        for _ in 0..WAITING {
            hear.recv().expect("it begins");
        }
        drop(open);
        for task in waiting {
            assert_eq!(task.take().expect("no failure"), (true, true));
        }
    });
}

#[test]
fn a_task_that_waited_goes_on_although_its_worker_waits_for_a_lock_that_it_holds() {
    in_time(|| {
        let runtime = Runtime::builder().threads(2).build().expect("threads");
        let lock = Arc::new(Mutex::new(0));
        let (begun, has_begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        // The other worker is at this until the stranger has begun.
        let awaited = {
            let (begun, has_begun) = (Arc::clone(&begun), Arc::clone(&has_begun));
            runtime.spawn(
                move || {
                    begun.store(true, SeqCst);
                    while !has_begun.load(SeqCst) {
                        std::thread::yield_now();
                    }
                },
                (),
            )
        };
        while !begun.load(SeqCst) {
            std::thread::yield_now();
        }
        let outer = {
            let (lock, has_begun) = (Arc::clone(&lock), Arc::clone(&has_begun));
            runtime.spawn(
                move || {
                    let mut guard = lock.lock().expect("not poisoned");
                    let stranger = {
                        let (lock, has_begun) = (Arc::clone(&lock), Arc::clone(&has_begun));
                        poniard::spawn(
                            move || {
                                has_begun.store(true, SeqCst);
                                *lock.lock().expect("not poisoned") += 1;
                            },
                            (),
                        )
                    };
                    // The worker does the stranger meanwhile, which wants the lock.
                    awaited.wait().expect("runs");
                    *guard += 1;
                    let after = poniard::spawn(|| 1u64, ());
                    drop(guard);
                    stranger.wait().expect("runs");
                    after.take().expect("runs") + poniard::join(|| 1u64, || 1u64).0
                },
                (),
            )
        };
        assert_eq!(outer.take().expect("runs"), 2);
        assert_eq!(*lock.lock().expect("not poisoned"), 2);
        assert_eq!(runtime.spawn(|| 7, ()).take().expect("runs"), 7);
        runtime.wait_idle();
    });
}
