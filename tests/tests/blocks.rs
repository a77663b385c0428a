//! Blocks of spawns: bulks and sequences.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};

use poniard::{Data, FailureKind, Handle, Priority, Task};
use poniard_tests::{Log, Stopped, add, in_time, threads};

/// Numbers of threads that every law is tried with.
const COUNTS: [usize; 3] = [1, 2, 5];

fn cancelled(task: &Task<impl Data>) -> bool {
    task.wait().is_err_and(|error| matches!(error.kind(), FailureKind::Cancelled))
}

#[test]
fn without_a_block_a_task_is_submitted_at_once() {
    in_time(|| {
        let runtime = threads(1);
        let (tell, told) = mpsc::channel();
        runtime.spawn(move || tell.send(()).expect("the test listens"), ()).detach();
        told.recv().expect("it runs although nobody waits for it");
    });
}

#[test]
fn nothing_of_a_bulk_runs_before_the_block_ends() {
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            let ran = Arc::new(AtomicUsize::new(0));
            let note = |ran: &Arc<AtomicUsize>| {
                let ran = Arc::clone(ran);
                move || ran.fetch_add(1, Ordering::SeqCst)
            };
            let tasks = runtime.bulk(|| {
                let tasks: Vec<_> = (0..100).map(|_| runtime.spawn(note(&ran), ())).collect();
                // A bulk inside it changes nothing.
                runtime.bulk(|| runtime.spawn(note(&ran), ()).detach());
                // Others, spawned by another thread, run: enough of them that a task of the bulk, were it in a queue, had its turn.
                let handle = runtime.handle();
                std::thread::spawn(move || {
                    for i in 0..1000 {
                        assert_eq!(*handle.spawn(add, (i, 1)).fetch().expect("no failure"), i + 1);
                    }
                })
                .join()
                .expect("no panic");
                assert_eq!(ran.load(Ordering::SeqCst), 0);
                assert!(tasks.iter().all(|task| !task.is_finished()));
                tasks
            });
            for task in tasks {
                task.wait().expect("no failure");
            }
            runtime.wait_idle();
            assert_eq!(ran.load(Ordering::SeqCst), 101);
        }
    });
}

#[test]
fn tasks_of_a_bulk_may_depend_on_each_other_and_be_dropped_or_cancelled() {
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            let (sum, gone) = runtime.bulk(|| {
                let a = runtime.spawn(add, (1, 2));
                let b = runtime.task(add, (&a, 3)).priority(Priority::High).spawn();
                drop(runtime.spawn(|| -> u64 { panic!("nobody needs it") }, ()));
                let gone = runtime.spawn(|| -> u64 { panic!("it is cancelled") }, ());
                assert!(gone.cancel());
                (runtime.spawn(add, (a, b)), gone)
            });
            assert_eq!(*sum.fetch().expect("no failure"), 9);
            assert!(cancelled(&gone));
            runtime.wait_idle();
        }
    });
}

#[test]
fn waiting_inside_a_bulk_submits_it() {
    fn inside(handle: &Handle) -> u64 {
        handle.bulk(|| {
            let a = handle.spawn(add, (1, 2));
            let b = *handle.spawn(add, (&a, 3)).fetch().expect("no failure");
            let c = handle.spawn(add, (b, 4)).take().expect("no failure");
            // A task from before that waits for one that is held back.
            let (give, take) = mpsc::channel::<Task<u64>>();
            let take = Mutex::new(take);
            let waits = move || {
                let task = take.lock().expect("not poisoned").recv().expect("sent below");
                *task.fetch().expect("no failure")
            };
            let handle = handle.clone();
            let before = std::thread::scope(|scope| scope.spawn(|| handle.spawn(waits, ())).join().expect("no panic"));
            give.send(handle.spawn(add, (c, 5))).expect("it listens");
            let d = *before.fetch().expect("no failure");
            let group = handle.group(|| drop(handle.spawn(add, (d, 6))));
            group.wait().expect("no failure");
            d
        })
    }
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            assert_eq!(inside(&runtime), 15);
            let task = runtime.spawn(|| inside(&poniard::current().expect("in a task")), ());
            assert_eq!(*task.fetch().expect("no failure"), 15);
            runtime.bulk(|| {
                runtime.spawn(|| (), ()).detach();
                runtime.wait_idle();
            });
            let handle = runtime.handle();
            handle.bulk(move || {
                runtime.spawn(|| (), ()).detach();
                drop(runtime);
            });
        }
    });
}

#[test]
fn every_way_to_wait_inside_a_bulk_submits_it() {
    /// Polls a future until it is ready.
    fn block_on<F: IntoFuture>(future: F) -> F::Output {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut future = std::pin::pin!(future.into_future());
        loop {
            match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
                std::task::Poll::Ready(output) => return output,
                std::task::Poll::Pending => std::thread::park(),
            }
        }
    }
    /// `wait` is for a future, where nothing but the thread itself waits.
    fn inside(handle: &Handle, wait: fn(Task<u64>) -> u64) -> u64 {
        handle.bulk(|| {
            let spawn = |i: u64| handle.spawn(add, (i, 1));
            let any = poniard::wait_any(&[spawn(1), spawn(2)]).expect("no circle").map_or(0, |_| 1);
            let each: u64 = poniard::as_finished([spawn(1), spawn(2)]).map(|(_, value)| *value.expect("no failure")).sum();
            let all: u64 = poniard::fetch_all([spawn(1), spawn(2)]).expect("no failure").iter().map(|value| **value).sum();
            let awaited = wait(spawn(1));
            // Before the join, and in the half that this thread runs.
            let (before, between) = (spawn(1), Mutex::new(None));
            let (one, other) = handle.join(
                || {
                    *between.lock().expect("not poisoned") = Some(handle.spawn(add, (1, 1)));
                    1
                },
                || {
                    let between = loop {
                        match between.lock().expect("not poisoned").take() {
                            Some(task) => break task,
                            None => std::thread::yield_now(),
                        }
                    };
                    *before.fetch().expect("no failure") + *between.fetch().expect("no failure")
                },
            );
            any + each + all + awaited + one + other
        })
    }
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            let fetch = |task: Task<u64>| *task.fetch().expect("no failure");
            let task = runtime.spawn(move || inside(&poniard::current().expect("in a task"), fetch), ());
            assert_eq!(*task.fetch().expect("no failure"), 1 + 5 + 5 + 2 + 1 + 4);
            assert_eq!(inside(&runtime, |task| *block_on(task).expect("no failure")), 1 + 5 + 5 + 2 + 1 + 4);
        }
    });
}

#[test]
fn a_panic_inside_a_bulk_submits_what_was_collected() {
    in_time(|| {
        let runtime = threads(2);
        let mut task = None;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            runtime.bulk(|| {
                task = Some(runtime.spawn(add, (1, 2)));
                panic!("in the block");
            });
        }));
        assert!(outcome.is_err());
        let task = task.expect("it was spawned");
        assert_eq!(*task.fetch().expect("no failure"), 3);
        // The block is over, also for what is spawned now.
        assert_eq!(*runtime.spawn(add, (1, 2)).fetch().expect("no failure"), 3);
    });
}

#[test]
fn a_sequence_runs_strictly_in_order_whatever_becomes_of_its_tasks() {
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            let (log, running) = (Log::default(), Arc::new(AtomicBool::new(false)));
            let stopped = Stopped::spawn(|body| runtime.spawn(body, ()));
            let mut skipped = Vec::new();
            runtime.sequential(|| {
                for i in 0..500u64 {
                    let (log, running) = (log.clone(), Arc::clone(&running));
                    let body = move |_: &()| -> Result<(), String> {
                        assert!(!running.swap(true, Ordering::SeqCst), "one at a time");
                        log.push(i);
                        std::thread::yield_now();
                        running.store(false, Ordering::SeqCst);
                        if i % 7 == 0 { Err("it happens".into()) } else { Ok(()) }
                    };
                    let task = runtime.spawn(body, (&stopped.task,));
                    match i % 5 {
                        1 => skipped.push(task),
                        2 => drop(task),
                        _ => task.detach(),
                    }
                }
            });
            for task in &skipped {
                assert!(task.cancel());
            }
            stopped.go().detach();
            runtime.wait_idle();
            assert_eq!(log.read(), (0..500).filter(|i| i % 5 != 1 && i % 5 != 2).collect::<Vec<_>>());
        }
    });
}

#[test]
fn after_a_running_task_of_a_sequence_was_cancelled_the_next_begins_when_its_body_has_ended() {
    in_time(|| {
        let runtime = threads(3);
        let log = Log::default();
        runtime.sequential(|| {
            let noting = log.note(1);
            let stopped = Stopped::spawn(|body| {
                let both = move || {
                    body();
                    noting();
                };
                runtime.spawn(both, ())
            });
            let next = runtime.spawn(log.note(2), ());
            assert!(stopped.task.cancel());
            // If it could begin now, one of three threads would have run it before all of these.
            for i in 0..1000 {
                let handle = runtime.handle();
                let sum = std::thread::scope(|scope| scope.spawn(|| handle.spawn(add, (i, 1)).take()).join().expect("no panic"));
                assert_eq!(sum.expect("no failure"), i + 1);
            }
            assert!(!next.is_finished());
            stopped.go().detach();
            next.wait().expect("no failure");
        });
        assert_eq!(log.read(), [1, 2]);
    });
}

#[test]
fn a_task_that_waits_for_one_of_a_sequence_runs_those_before_it_to_any_depth_on_one_thread() {
    fn down(depth: u64) -> u64 {
        if depth == 0 {
            return 0;
        }
        let handle = poniard::current().expect("in a task");
        let last = handle.sequential(|| {
            poniard::spawn(|| (), ()).detach();
            let before = poniard::spawn(|| (), ());
            before.detach();
            poniard::spawn(down, (depth - 1,))
        });
        1 + *last.fetch().expect("no failure")
    }
    in_time(|| {
        let runtime = threads(1);
        assert_eq!(*runtime.spawn(down, (500,)).fetch().expect("no failure"), 500);
    });
}

#[test]
fn a_long_sequence_ends_and_keeps_nothing() {
    in_time(|| {
        let runtime = threads(2);
        let alive = Arc::new(());
        let last = runtime.sequential(|| {
            let stopped = Stopped::spawn(|body| runtime.spawn(body, ()));
            let made = || {
                let alive = Arc::clone(&alive);
                move || vec![alive]
            };
            for _ in 0..200_000 {
                runtime.spawn(made(), ()).detach();
            }
            let last = runtime.spawn(made(), ());
            stopped.go().detach();
            last
        });
        last.wait().expect("no failure");
        runtime.wait_idle();
        drop(runtime);
        assert_eq!(Arc::strong_count(&alive), 2, "the last result, which is held, and this one");
    });
}

#[test]
fn a_bulk_in_a_sequence_is_one_step_of_it() {
    in_time(|| {
        // As many threads as the step has tasks: they have to run at the same time.
        let runtime = threads(3);
        let log = Log::default();
        let together = Arc::new(Barrier::new(3));
        let stopped = Stopped::spawn(|body| runtime.spawn(body, ()));
        let last = runtime.sequential(|| {
            let before = log.note(1);
            runtime.spawn(move |_: &()| before(), (&stopped.task,)).detach();
            runtime.bulk(|| {
                for _ in 0..3 {
                    let (together, log) = (Arc::clone(&together), log.clone());
                    let body = move || {
                        together.wait();
                        log.push(2);
                    };
                    runtime.spawn(body, ()).detach();
                }
            });
            // An empty one is no step.
            runtime.bulk(|| ());
            runtime.spawn(log.note(3), ())
        });
        stopped.go().detach();
        last.wait().expect("no failure");
        assert_eq!(log.read(), [1, 2, 2, 2, 3]);
    });
}

#[test]
fn a_sequence_in_a_bulk_is_held_back_and_keeps_its_order() {
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            let log = Log::default();
            let tasks = runtime.bulk(|| {
                let first = runtime.spawn(|| 0u64, ());
                let tasks = runtime.sequential(|| {
                    let tasks: Vec<_> = (0..50).map(|i| runtime.spawn(log.note(i), ())).collect();
                    // A step of several in the middle of it.
                    let step: Vec<_> = runtime.bulk(|| (0..4).map(|_| runtime.spawn(log.note(50), ())).collect());
                    let rest: Vec<_> = runtime.sequential(|| (51..100).map(|i| runtime.spawn(log.note(i), ())).collect());
                    tasks.into_iter().chain(step).chain(rest).collect::<Vec<_>>()
                });
                let handle = runtime.handle();
                let sum = std::thread::spawn(move || *handle.spawn(add, (1, 1)).fetch().expect("no failure")).join();
                assert_eq!(sum.expect("no panic"), 2);
                assert!(!first.is_finished() && log.read().is_empty());
                first.detach();
                tasks
            });
            tasks.last().expect("there are some").wait().expect("no failure");
            assert_eq!(log.read(), (0..50).chain([50; 4]).chain(51..100).collect::<Vec<_>>());
        }
    });
}

#[test]
fn blocks_are_not_handed_on_to_the_tasks_that_are_spawned_inside() {
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            // Were a child in the sequence, it would come after its parent, which waits for it.
            let parent = || *poniard::spawn(add, (1, 1)).fetch().expect("it waits for nobody");
            let task = runtime.sequential(|| runtime.spawn(parent, ()));
            assert_eq!(*task.fetch().expect("no failure"), 2);
            // Were it in the bulk, nobody would submit it: the block of the parent's thread is over, or in the middle of this.
            let task = runtime.spawn(
                || {
                    let handle = poniard::current().expect("in a task");
                    handle.bulk(|| {
                        let child = || {
                            let (tell, told) = mpsc::channel();
                            let grandchild = poniard::spawn(move || tell.send(()).expect("it listens"), ());
                            grandchild.wait().expect("no failure");
                            told.recv().is_ok()
                        };
                        *poniard::spawn(child, ()).fetch().expect("no failure")
                    })
                },
                (),
            );
            assert!(*task.fetch().expect("no failure"));
        }
    });
}

#[test]
fn blocks_and_groups_go_together() {
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            let log = Log::default();
            runtime
                .wait_all(|| {
                    runtime.bulk(|| runtime.sequential(|| (0..20).for_each(|i| drop(runtime.spawn(log.note(i), ())))));
                })
                .expect("no failure");
            assert_eq!(log.read(), (0..20).collect::<Vec<_>>(), "the group needs them, although their handles are gone");
            let group = runtime.group(|| runtime.sequential(|| (0..20).for_each(|_| runtime.spawn(|| (), ()).detach())));
            group.cancel();
            // Cancelled or finished: it ends.
            let _ = group.wait();
            runtime.wait_idle();
        }
    });
}
