//! Composing tasks: groups, tokens, order, blocks of spawns, options; and the graphs that users of such runtimes draw most.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

use poniard::{CancelToken, Data, FailureKind, Gather, Handle, Priority, Runtime, Task, TaskError, TaskGroup, TaskOptions, with_options};
use poniard_tests::{add, threads};

/// Numbers of threads that every law is tried with.
const COUNTS: [usize; 3] = [1, 2, 5];
/// Longer than anything here takes; a test that waits so long has found a hang.
const FOREVER: Duration = Duration::from_secs(60);

/// Runs `body` on a thread of its own, so that a hang is a failure of the test.
fn in_time<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (give, take) = mpsc::channel();
    let thread = std::thread::spawn(move || give.send(body()));
    match take.recv_timeout(FOREVER) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(payload) => std::panic::resume_unwind(payload),
            Ok(_) => unreachable!("it gave nothing and did not panic"),
        },
    }
}

/// A task that is in the middle of its body until it is let go.
struct Stopped<T: Data> {
    task: Task<T>,
    go: mpsc::Sender<()>,
}

impl<T: Data> Stopped<T> {
    /// Returns when the task has begun.
    fn spawn(spawn: impl FnOnce(Box<dyn FnOnce() + Send>) -> Task<T>) -> Self {
        let (go, wait) = mpsc::channel();
        let (tell, begun) = mpsc::channel();
        let task = spawn(Box::new(move || {
            tell.send(()).expect("the test listens");
            // An error is as good: the test is over.
            let _ = wait.recv();
        }));
        begun.recv().expect("it begins");
        Self { task, go }
    }

    fn go(self) -> Task<T> {
        self.go.send(()).expect("it listens");
        self.task
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u64>>>);

impl Log {
    fn push(&self, entry: u64) {
        self.0.lock().expect("not poisoned").push(entry);
    }

    fn read(&self) -> Vec<u64> {
        self.0.lock().expect("not poisoned").clone()
    }

    /// A task's function that notes `entry`.
    fn note(&self, entry: u64) -> impl FnOnce() + Send + 'static {
        let log = self.clone();
        move || log.push(entry)
    }
}

fn kind_is(error: &TaskError, is: impl FnOnce(&FailureKind) -> bool) -> bool {
    is(error.kind())
}

fn cancelled(task: &Task<impl Data>) -> bool {
    task.wait().is_err_and(|error| kind_is(&error, |kind| matches!(kind, FailureKind::Cancelled)))
}

// Groups.

#[test]
fn wait_all_waits_for_what_is_spawned_inside_and_for_what_that_spawns() {
    fn grow(count: Arc<AtomicUsize>, depth: u64) {
        count.fetch_add(1, Ordering::Relaxed);
        if depth > 0 {
            for _ in 0..3 {
                let count = Arc::clone(&count);
                poniard::spawn(move || grow(count, depth - 1), ()).detach();
            }
        }
    }
    in_time(|| {
        for threads_count in COUNTS {
            let runtime = threads(threads_count);
            let count = Arc::new(AtomicUsize::new(0));
            let given = runtime.wait_all(|| {
                let count = Arc::clone(&count);
                // The handle is dropped: the group needs the task.
                drop(runtime.spawn(move || grow(count, 6), ()));
                7
            });
            assert_eq!(given.expect("no failure"), 7);
            assert_eq!(count.load(Ordering::Relaxed), (3usize.pow(7) - 1) / 2);
        }
    });
}

#[test]
fn wait_all_inside_tasks_nests_to_any_depth_even_on_one_thread() {
    // Each level waits for a group of its own. With a thread for each that waits, one slot would run out of them.
    fn down(depth: u64, count: Arc<AtomicUsize>) -> Result<(), poniard::GroupError> {
        count.fetch_add(1, Ordering::Relaxed);
        if depth == 0 {
            return Ok(());
        }
        let handle = poniard::current().expect("in a task");
        handle.wait_all(|| {
            let inner = Arc::clone(&count);
            poniard::spawn(move || down(depth - 1, inner), ()).detach();
            poniard::spawn(move || count.fetch_add(1, Ordering::Relaxed), ()).detach();
        })
    }
    in_time(|| {
        for threads_count in COUNTS {
            let runtime = threads(threads_count);
            let count = Arc::new(AtomicUsize::new(0));
            let task = {
                let count = Arc::clone(&count);
                runtime.spawn(move || down(5_000, count), ())
            };
            task.wait().expect("no failure");
            assert_eq!(count.load(Ordering::Relaxed), 10_001);
        }
    });
}

#[test]
fn a_member_of_an_inner_group_is_one_of_the_outer_group() {
    in_time(|| {
        let runtime = threads(2);
        let inner = Mutex::new(None);
        let mut stopped = None;
        let outer = runtime.group(|| {
            *inner.lock().expect("not poisoned") = Some(runtime.group(|| {
                stopped = Some(Stopped::spawn(|body| runtime.spawn(body, ())));
            }));
        });
        let inner = inner.into_inner().expect("not poisoned").expect("made above");
        let beside = runtime.group(|| runtime.spawn(|| (), ()).detach());
        beside.wait().expect("it has one member, which ends");
        assert!(!inner.is_finished() && !outer.is_finished());
        stopped.expect("made above").go().detach();
        outer.wait().expect("no failure");
        assert!(inner.is_finished() && outer.is_finished());
    });
}

#[test]
fn a_group_that_is_run_inside_another_one_shares_its_members_with_it() {
    in_time(|| {
        let runtime = threads(2);
        let (one, two) = (TaskGroup::new(&runtime), TaskGroup::new(&runtime));
        let stopped = one.run(|| two.run(|| Stopped::spawn(|body| runtime.spawn(body, ()))));
        // Again inside itself: it is in it once.
        two.run(|| two.run(|| runtime.spawn(|| (), ()).detach()));
        assert!(!one.is_finished() && !two.is_finished());
        stopped.go().detach();
        one.wait().expect("no failure");
        two.wait().expect("no failure");
    });
}

#[test]
fn a_group_tells_its_first_error_and_how_many_there_are() {
    fn broken(what: String) -> Result<u64, String> {
        Err(what)
    }
    for count in COUNTS {
        let runtime = threads(count);
        let group = TaskGroup::new(&runtime);
        let first = group.spawn(broken, ("first".to_owned(),));
        first.wait().expect_err("it fails");
        let dependent = group.spawn(add, (&first, 1));
        dependent.wait().expect_err("its argument failed");
        group.spawn(|| 5, ()).wait().expect("no failure");
        let outer = runtime.group(|| {
            runtime.group(|| runtime.spawn(broken, ("inner".to_owned(),)).detach()).wait().expect_err("it fails");
            runtime.spawn(broken, ("outer".to_owned(),)).detach();
        });
        let error = group.wait().expect_err("two failed");
        assert_eq!((error.failure_count(), error.first().reason().as_str()), (2, "first"));
        assert!(error.to_string().contains("2 tasks") && error.to_string().contains("`broken`"), "{error}");
        let error = outer.wait().expect_err("one of its own and one of the inner group failed");
        assert_eq!((error.failure_count(), error.first().reason().as_str()), (2, "inner"));
    }
}

#[test]
fn a_failure_inside_many_groups_is_the_first_error_of_all() {
    let runtime = threads(1);
    let outer = runtime.group(|| {
        let failed = runtime.group(|| {
            let deep = runtime.group(|| runtime.spawn(|| -> Result<(), String> { Err("deep".into()) }, ()).detach());
            deep.wait().expect_err("it failed");
        });
        assert_eq!(failed.wait().expect_err("one inside it failed").failure_count(), 1);
        runtime.spawn(|| -> Result<(), String> { Err("late".into()) }, ()).detach();
    });
    let error = outer.wait().expect_err("two failed");
    assert_eq!((error.first().reason().as_str(), error.failure_count()), ("deep", 2));
}

#[test]
fn a_cancelled_group_ends_what_waits_and_what_runs_and_takes_nothing_new() {
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            let group = TaskGroup::new(&runtime);
            let ran = Arc::new(AtomicBool::new(false));
            let stopped = Stopped::spawn(|body| group.spawn(body, ()));
            let note = {
                let ran = Arc::clone(&ran);
                move |_: &()| ran.store(true, Ordering::Relaxed)
            };
            let waiting = group.spawn(note.clone(), (&stopped.task,));
            // It may be first in line: what comes after a cancelled task must not begin before it is cancelled, too.
            let after = group.run(|| runtime.task(|| true, ()).after(&stopped.task).after(&waiting).spawn());
            assert!(!group.is_cancelled());
            assert!(group.cancel());
            assert!(!group.cancel(), "the second time there is nothing to do");
            assert!(group.is_cancelled());
            assert!(cancelled(&stopped.task) && cancelled(&waiting) && cancelled(&after));
            let late = group.spawn(note, (runtime.value(()),));
            assert!(late.is_finished() && cancelled(&late));
            let error = group.wait().expect_err("four were cancelled");
            assert_eq!(error.failure_count(), 4);
            stopped.go().wait().expect_err("it was cancelled");
            let quiet = Arc::clone(&ran);
            drop(runtime);
            assert!(!quiet.load(Ordering::Relaxed));
        }
    });
}

#[test]
fn cancelling_a_group_reaches_the_groups_inside_it() {
    in_time(|| {
        let runtime = threads(2);
        let mut inner = None;
        let mut stopped = None;
        let outer = runtime.group(|| {
            inner = Some(runtime.group(|| stopped = Some(Stopped::spawn(|body| runtime.spawn(body, ())))));
        });
        let (inner, stopped) = (inner.expect("made above"), stopped.expect("made above"));
        let empty = outer.run(|| runtime.group(|| ()));
        assert!(outer.cancel());
        assert!(cancelled(&stopped.task));
        assert!(inner.is_cancelled() && empty.is_cancelled());
        assert!(cancelled(&inner.spawn(|| 1, ())) && cancelled(&empty.spawn(|| 1, ())), "also one that had no members then");
        stopped.go().detach();
    });
}

#[test]
fn waiting_for_a_group_inside_its_own_member_is_an_error() {
    fn own(group: &TaskGroup) -> bool {
        group.wait().is_err_and(|error| kind_is(error.first(), |kind| matches!(kind, FailureKind::WaitsForItself)))
    }
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            let group = TaskGroup::new(&runtime);
            let member = group.clone();
            assert!(*group.spawn(move || own(&member), ()).fetch().expect("no failure"));
            group.wait().expect("the member itself did not fail");
            // A task that is in a group inside it.
            let outer = group.clone();
            let deep = move || {
                let (give, take) = mpsc::channel();
                let inner = poniard::current().expect("in a task").group(move || {
                    let found = move || give.send(own(&outer)).expect("it listens");
                    poniard::spawn(found, ()).detach();
                });
                inner.wait().expect("no failure");
                take.recv().expect("sent")
            };
            assert!(*group.spawn(deep, ()).fetch().expect("no failure"));
            group.wait().expect("no failure");
            // A task that is no member, and that a member waits for, on its stack or elsewhere: one of them gets the error.
            let (whole, handle) = (group.clone(), runtime.handle());
            let member = move || {
                let stranger = std::thread::spawn(move || handle.spawn(move || own(&whole), ())).join().expect("no panic");
                match stranger.fetch() {
                    Ok(found) => *found,
                    Err(error) => kind_is(&error, |kind| matches!(kind, FailureKind::WaitsForItself)),
                }
            };
            assert!(*group.spawn(member, ()).fetch().expect("no failure"));
        }
    });
}

#[test]
fn two_members_that_wait_for_their_group_both_get_an_error() {
    in_time(|| {
        let runtime = threads(2);
        let group = TaskGroup::new(&runtime);
        let both_run = Arc::new(Barrier::new(2));
        let members: Vec<_> = (0..2)
            .map(|_| {
                let (group, both_run) = (group.clone(), Arc::clone(&both_run));
                let inner = group.clone();
                group.spawn(
                    move || {
                        both_run.wait();
                        inner.wait().is_err()
                    },
                    (),
                )
            })
            .collect();
        for member in members {
            assert!(*member.fetch().expect("no failure"));
        }
    });
}

#[test]
fn finished_members_leave_nothing_behind() {
    let runtime = threads(2);
    let group = TaskGroup::new(&runtime);
    let token = CancelToken::new();
    let kept = Arc::new(());
    for _ in 0..1000 {
        let kept = Arc::clone(&kept);
        let task = group.run(|| runtime.task(move || vec![kept], ()).cancel_token(&token).spawn());
        task.detach();
    }
    group.wait().expect("no failure");
    // A worker holds its last task a little longer than its outcome is known.
    runtime.wait_idle();
    drop(runtime);
    assert_eq!(Arc::strong_count(&kept), 1);
    assert!(group.is_finished());
}

#[test]
fn groups_that_are_entered_left_and_cancelled_at_the_same_time_come_to_an_end() {
    in_time(|| {
        let runtime = threads(4);
        for round in 0..200 {
            let outer = TaskGroup::new(&runtime);
            let token = CancelToken::new();
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        for i in 0..20u64 {
                            let inner = outer.run(|| runtime.group(|| ()));
                            let deeper = inner.run(|| runtime.group(|| ()));
                            let a = deeper.run(|| runtime.task(add, (i, 1)).cancel_token(&token).spawn());
                            deeper.spawn(add, (a, 1)).detach();
                            // With the token or without it, it ends.
                            let _ = inner.wait();
                        }
                    });
                }
                scope.spawn(|| match round % 3 {
                    0 => outer.cancel(),
                    1 => token.cancel(),
                    _ => true,
                });
            });
            let outcome = outer.wait();
            assert!(round % 3 != 2 || outcome.is_ok(), "{outcome:?}");
        }
    });
}

#[test]
fn a_task_that_cannot_be_spawned_is_a_failure_of_its_group() {
    let runtime = threads(1);
    let nowhere = poniard::Scope::kind("vulkan");
    let error = runtime.wait_all(|| drop(runtime.task(add, (1, 1)).scope(nowhere).spawn())).expect_err("no such processor");
    assert!(kind_is(error.first(), |kind| matches!(kind, FailureKind::NoProcessor { .. })), "{error}");
}

// Tokens.

#[test]
fn a_token_cancels_the_tasks_that_have_it_and_no_others() {
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            let (token, other) = (CancelToken::new(), CancelToken::new());
            let stopped = Stopped::spawn(|body| runtime.task(body, ()).cancel_token(&token).cancel_token(&other).spawn());
            let waiting = runtime.task(|_: &()| 1u64, (&stopped.task,)).options(&TaskOptions::new().cancel_token(&token)).spawn();
            let free = runtime.task(|| 2u64, ()).cancel_token(&other).after(&stopped.task).spawn();
            assert!(!token.is_cancelled());
            assert!(token.cancel());
            assert!(!token.cancel() && token.is_cancelled());
            assert!(cancelled(&stopped.task) && cancelled(&waiting));
            let late = runtime.task(|| 3u64, ()).cancel_token(&token).spawn();
            assert!(late.is_finished() && cancelled(&late));
            stopped.go().detach();
            assert_eq!(*free.fetch().expect("it has another token"), 2);
            assert!(!other.is_cancelled());
        }
    });
}

#[test]
fn a_token_does_not_keep_a_task_that_nobody_needs_and_reaches_children_only_when_inherited() {
    in_time(|| {
        let runtime = threads(1);
        let token = CancelToken::new();
        let stopped = Stopped::spawn(|body| runtime.spawn(body, ()));
        let ran = Arc::new(AtomicBool::new(false));
        let note = {
            let ran = Arc::clone(&ran);
            move || ran.store(true, Ordering::Relaxed)
        };
        drop(runtime.task(note, ()).cancel_token(&token).spawn());
        stopped.go().detach();
        let spawns = |token: CancelToken| move || (token.cancel(), poniard::spawn(|| (), ()).wait().is_ok()).1;
        let plain = runtime.task(spawns(token.clone()), ()).spawn();
        assert!(*plain.fetch().expect("no failure"));
        let (token, seen) = (CancelToken::new(), mpsc::channel());
        let handed = TaskOptions::new().cancel_token(&token).inherit();
        let give = Mutex::new(seen.0);
        let parent = {
            let token = token.clone();
            move || {
                token.cancel();
                let child = poniard::spawn(|| (), ());
                give.lock().expect("not poisoned").send(cancelled(&child)).expect("it listens");
            }
        };
        runtime.task(parent, ()).options(&handed).spawn().wait().expect_err("it cancels itself");
        assert!(seen.1.recv().expect("sent"), "the child has its parent's token");
        assert!(!ran.load(Ordering::Relaxed));
    });
}

// Order.

#[test]
fn after_waits_for_several_tasks_whatever_becomes_of_them() {
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            let log = Log::default();
            let stopped = Stopped::spawn(|body| runtime.spawn(body, ()));
            let (fails, notes) = (log.note(1), log.note(2));
            let failing = runtime.spawn(
                move |_: &()| -> Result<(), String> {
                    fails();
                    Err("no".into())
                },
                (&stopped.task,),
            );
            let noting = runtime.spawn(move |_: &()| notes(), (&stopped.task,));
            let last = runtime.task(log.note(3), ()).after(&failing).after(&noting).spawn();
            // Still needed, since `last` comes after it.
            drop(noting);
            assert!(!last.is_finished());
            stopped.go().detach();
            last.wait().expect("the failure of one that it comes after is none of its own");
            let mut seen = log.read();
            assert_eq!(seen.pop(), Some(3));
            seen.sort_unstable();
            assert_eq!(seen, [1, 2]);
        }
    });
}

#[test]
fn a_task_that_waits_runs_what_the_awaited_one_comes_after() {
    in_time(|| {
        // One thread: nobody else could run it.
        let runtime = threads(1);
        let total = runtime.spawn(
            || {
                let handle = poniard::current().expect("in a task");
                let log = Log::default();
                let mut last = poniard::spawn(log.note(0), ());
                for i in 1..1000 {
                    last = handle.task(log.note(i), ()).after(&last).spawn();
                }
                last.wait().expect("no failure");
                log.read() == (0..1000).collect::<Vec<_>>()
            },
            (),
        );
        assert!(*total.fetch().expect("no failure"));
    });
}

#[test]
fn a_chain_of_a_million_tasks_each_after_the_one_before_keeps_nothing_and_does_not_recurse() {
    in_time(|| {
        let runtime = threads(2);
        let stopped = Stopped::spawn(|body| runtime.spawn(body, ()));
        let alive = Arc::new(());
        let made = || {
            let alive = Arc::clone(&alive);
            move || vec![alive]
        };
        let mut last = runtime.task(made(), ()).after(&stopped.task).spawn();
        for _ in 0..1_000_000 {
            last = runtime.task(made(), ()).after(&last).spawn();
        }
        stopped.go().detach();
        last.wait().expect("no failure");
        runtime.wait_idle();
        drop(runtime);
        assert_eq!(Arc::strong_count(&alive), 2, "the last result, which is held, and this one");
    });
}

#[test]
fn a_cancelled_task_that_comes_after_others_leaves_nothing_behind() {
    in_time(|| {
        let runtime = threads(2);
        let stopped = Stopped::spawn(|body| runtime.spawn(body, ()));
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let waiting = runtime.task(move |_: &()| vec![held], (&stopped.task,)).after(&stopped.task).spawn();
        assert!(waiting.cancel());
        assert!(cancelled(&waiting));
        let next = runtime.task(|| 1u64, ()).after(&waiting).spawn();
        assert_eq!(*next.fetch().expect("the one before has finished"), 1);
        stopped.go().detach();
        runtime.wait_idle();
        drop(runtime);
        assert_eq!(Arc::strong_count(&alive), 1);
    });
}

// Blocks.

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

// Options.

fn my_name() -> String {
    poniard::spawn(|| (), ()).name()
}

#[test]
fn options_around_reach_what_is_spawned_inside_and_are_restored_afterwards() {
    let runtime = threads(2);
    let name = || runtime.spawn(add, (1, 1)).name();
    let named = |name: &str| TaskOptions::new().name(name);
    assert_eq!(name(), "add");
    with_options(named("outer"), || {
        assert_eq!(name(), "outer");
        with_options(named("inner"), || assert_eq!(name(), "inner"));
        with_options(TaskOptions::new().priority(Priority::High), || assert_eq!(name(), "outer"));
        assert_eq!(name(), "outer");
        assert_eq!(*runtime.spawn(my_name, ()).fetch().expect("no failure"), "closure in my_name", "not inherited");
        // Another thread is not inside.
        let handle = runtime.handle();
        let elsewhere = std::thread::spawn(move || handle.spawn(add, (1, 1)).name()).join().expect("no panic");
        assert_eq!(elsewhere, "add");
    });
    let outcome = catch_unwind(AssertUnwindSafe(|| with_options(named("gone"), || panic!("inside"))));
    assert!(outcome.is_err());
    assert_eq!(name(), "add");
}

#[test]
fn inherited_options_are_kept_over_nested_spawns_until_something_else_is_said() {
    fn family(depth: u64) -> Vec<String> {
        let child = poniard::spawn(family, (depth.saturating_sub(1),));
        let mut names = vec![child.name()];
        if depth > 0 {
            names.extend(child.take().expect("no failure"));
        } else {
            child.cancel();
        }
        names
    }
    for count in COUNTS {
        let runtime = threads(count);
        let named = |name: &str| TaskOptions::new().name(name).inherit();
        let names = with_options(named("a"), || runtime.spawn(family, (2,))).take().expect("no failure");
        assert_eq!(names, ["a", "a", "a"]);
        let names = runtime.task(family, (1,)).options(&named("b")).spawn().take().expect("no failure");
        assert_eq!(names, ["b", "b"]);
        // Said of the task alone, it does not reach its children; what is inherited does.
        let task = with_options(named("a"), || runtime.task(family, (1,)).name("own").spawn());
        assert_eq!(task.name(), "own");
        assert_eq!(task.take().expect("no failure"), ["a", "a"]);
        // Switched in the middle.
        let switches = move || with_options(TaskOptions::new().name("c").inherit(), || family(1));
        let names = with_options(named("a"), || runtime.spawn(switches, ())).take().expect("no failure");
        assert_eq!(names, ["c", "c"]);
        let hides = move || with_options(TaskOptions::new().name("c"), || family(1));
        let names = with_options(named("a"), || runtime.spawn(hides, ())).take().expect("no failure");
        assert_eq!(names, ["c", "a"], "hidden for one generation");
        // A task that runs on top of another one has its own.
        let nested = move || {
            let plain = poniard::spawn(my_name, ());
            let names = with_options(TaskOptions::new().name("d").inherit(), || plain.take().expect("no failure"));
            (names, poniard::spawn(|| (), ()).name())
        };
        let names = runtime.spawn(nested, ()).take().expect("no failure");
        assert_eq!(
            names,
            (
                "closure in my_name".to_owned(),
                "closure in inherited_options_are_kept_over_nested_spawns_until_something_else_is_said".to_owned()
            )
        );
    }
}

#[test]
fn of_four_that_say_something_the_nearest_one_counts() {
    let runtime = Runtime::builder().threads(1).defaults(add, TaskOptions::new().name("default")).build().expect("it starts");
    let name = |task: Task<u64>| task.name();
    let named = |name: &str| TaskOptions::new().name(name);
    assert_eq!(name(runtime.spawn(add, (1, 1))), "default");
    let inside = |around: Option<TaskOptions>, own: Option<&'static str>| {
        move || {
            let handle = poniard::current().expect("in a task");
            let spawn = || match own {
                Some(own) => handle.task(add, (1, 1)).name(own).spawn().name(),
                None => poniard::spawn(add, (1, 1)).name(),
            };
            match around {
                Some(around) => with_options(around, spawn),
                None => spawn(),
            }
        }
    };
    let inherited = named("inherited").inherit();
    for (handed, around, own, expected) in [
        (false, false, None, "default"),
        (true, false, None, "inherited"),
        (true, true, None, "around"),
        (false, true, None, "around"),
        (true, true, Some("own"), "own"),
        (false, false, Some("own"), "own"),
    ] {
        let body = inside(around.then(|| named("around")), own);
        let task = if handed { runtime.task(body, ()).options(&inherited).spawn() } else { runtime.spawn(body, ()) };
        assert_eq!(*task.fetch().expect("no failure"), expected, "{handed} {around} {own:?}");
    }
    // Said later on the task itself counts; what is not said comes from further away.
    let options = named("given").priority(Priority::Low);
    assert_eq!(runtime.task(add, (1, 1)).name("own").options(&options).spawn().name(), "given");
    assert_eq!(runtime.task(add, (1, 1)).options(&options).name("own").spawn().name(), "own");
    assert_eq!(runtime.task(add, (1, 1)).options(&TaskOptions::new().priority(Priority::High)).spawn().name(), "default");
}

/// What runs, in order, when all this is spawned while the only thread is taken: the priority of each is its own.
fn order_of(runtime: &Runtime, spawn: impl FnOnce(&Handle, &Log) + Send + 'static) -> Vec<u64> {
    let log = Log::default();
    let (handle, inner) = (runtime.handle(), log.clone());
    runtime.spawn(move || spawn(&handle, &inner), ()).wait().expect("no failure");
    runtime.wait_idle();
    log.read()
}

#[test]
fn priorities_come_from_options_around_inherited_ones_and_defaults() {
    fn low(log: Noted) {
        log.0.push(1);
    }
    fn normal(log: Noted) {
        log.0.push(2);
    }
    #[derive(Clone, Data)]
    struct Noted(Log);
    let (low_priority, high) = (TaskOptions::new().priority(Priority::Low), TaskOptions::new().priority(Priority::High));
    let runtime = Runtime::builder().threads(1).defaults(low, low_priority).build().expect("it starts");
    let order = order_of(&runtime, move |handle, log| {
        let noted = || Noted(log.clone());
        handle.spawn(low, (noted(),)).detach();
        handle.spawn(normal, (noted(),)).detach();
        with_options(high, || handle.spawn(log.note(3), ()).detach());
        handle.task(log.note(4), ()).priority(Priority::Low).spawn().detach();
    });
    assert_eq!(order[..2], [3, 2]);
}

#[test]
fn defaults_belong_to_one_function_also_for_closures() {
    let double = |x: u64| x * 2;
    let triple = |x: u64| x * 3;
    let options = |name: &str| TaskOptions::new().name(name).inherit();
    let runtime = Runtime::builder()
        .threads(2)
        .defaults(double, options("lost"))
        .defaults(double, options("double"))
        .defaults(my_name, options("family"))
        .build()
        .expect("it starts");
    assert_eq!(runtime.spawn(double, (1,)).name(), "double");
    assert_ne!(runtime.spawn(triple, (1,)).name(), "double");
    assert_eq!(runtime.spawn(my_name, ()).take().expect("no failure"), "family", "defaults may be inherited, too");
    // On a worker, from a task without options of its own.
    let inside = move || (poniard::spawn(double, (1,)).name(), poniard::spawn(triple, (2,)).take().expect("no failure"));
    assert_eq!(runtime.spawn(inside, ()).take().expect("no failure"), ("double".to_owned(), 6));
    // And not on another runtime.
    let other = threads(1);
    assert_ne!(other.spawn(double, (1,)).name(), "double");
    let handle = runtime.handle();
    let across = other.spawn(move || handle.spawn(double, (1,)).name(), ());
    assert_eq!(*across.fetch().expect("no failure"), "double");
}

#[poniard::task(priority = "high", name = "urgent sum")]
fn urgent(log: u64, more: &u64) -> u64 {
    log + more
}

#[test]
fn the_task_macro_says_what_counts_last() {
    let runtime = threads(1);
    assert_eq!(urgent::spawn(&runtime, 1, 2).name(), "urgent sum");
    assert_eq!(*urgent::spawn(&runtime, 1, 2).fetch().expect("no failure"), 3);
    assert_eq!(with_options(TaskOptions::new().name("around"), || urgent::spawn(&runtime, 1, 2)).name(), "around");
    let own = Runtime::builder().threads(1).defaults(urgent, TaskOptions::new().name("of the runtime")).build().expect("it starts");
    assert_eq!(urgent::spawn(&own, 1, 2).name(), "of the runtime");
}

#[poniard::task(name = "broken too")]
fn also_broken() -> Result<u64, String> {
    Err("no".into())
}

#[test]
fn errors_name_the_line_of_every_way_to_spawn() {
    fn broken() -> Result<u64, String> {
        Err("no".into())
    }
    let runtime = threads(1);
    let group = TaskGroup::new(&runtime);
    let options = TaskOptions::new().name("x");
    let tasks = [
        (line!(), group.spawn(broken, ())),
        (line!(), group.run(|| runtime.spawn(broken, ()))),
        (line!(), runtime.bulk(|| runtime.spawn(broken, ()))),
        (line!(), runtime.sequential(|| runtime.spawn(broken, ()))),
        (line!(), with_options(options.clone(), || runtime.spawn(broken, ()))),
        (line!(), runtime.task(broken, ()).options(&options).spawn()),
        (line!(), also_broken::spawn(&runtime)),
    ];
    for (line, task) in tasks {
        let error = task.fetch().expect_err("it fails");
        assert_eq!((error.location().file().ends_with("composing.rs"), error.location().line()), (true, line), "{error}");
    }
    group.cancel();
    let (line, late) = (line!(), group.spawn(broken, ()));
    assert_eq!(late.fetch().expect_err("cancelled").location().line(), line);
}

// Graphs that users draw.

fn increment(x: u64) -> u64 {
    x + 1
}

#[test]
fn a_chain_whose_handles_are_gone_completes_when_the_last_is_held() {
    for count in COUNTS {
        for length in [100, 500] {
            let runtime = threads(count);
            let last = (0..length).fold(runtime.spawn(increment, (0,)), |last, _| runtime.spawn(increment, (last,)));
            assert_eq!(*last.fetch().expect("no failure"), length + 1);
        }
    }
}

#[test]
fn a_failure_reaches_a_diamond_and_nothing_beside_it() {
    for count in COUNTS {
        let runtime = threads(count);
        let top = runtime.spawn(|| -> Result<u64, String> { Err("the top of it".into()) }, ());
        let (left, right) = (runtime.spawn(increment, (&top,)), runtime.spawn(increment, (&top,)));
        let bottom = runtime.spawn(add, (left, right));
        let beside = runtime.spawn(increment, (1,));
        assert_eq!(bottom.fetch().expect_err("its root failed").reason(), "the top of it");
        assert_eq!(*beside.fetch().expect("it depends on nothing that failed"), 2);
        let half = runtime.spawn(add, (runtime.spawn(increment, (1,)), runtime.spawn(|| -> u64 { panic!("the right half") }, ())));
        assert_eq!(half.fetch().expect_err("half of it failed").reason(), "the right half");
    }
}

#[test]
fn many_diamonds_at_the_same_time() {
    for count in COUNTS {
        let runtime = threads(count);
        let diamonds: Vec<_> = (0..64u64)
            .map(|i| {
                let top = runtime.spawn(add, (i, 0));
                let (left, right) = (runtime.spawn(|x: u64| x + 1, (&top,)), runtime.spawn(|x: u64| x * 2, (&top,)));
                runtime.spawn(add, (left, right))
            })
            .collect();
        for (i, diamond) in diamonds.into_iter().enumerate() {
            assert_eq!(diamond.take().expect("no failure"), 3 * i as u64 + 1);
        }
    }
}

#[test]
fn trees_and_fans_give_their_sums() {
    for count in COUNTS {
        let runtime = threads(count);
        let mut level: Vec<_> = (0..1000u64).map(|i| runtime.spawn(add, (i, 1))).collect();
        while level.len() > 1 {
            level = level.chunks(2).map(|pair| runtime.spawn(|pair: Gather<'_, u64>| pair.iter().sum::<u64>(), (pair,))).collect();
        }
        assert_eq!(*level[0].fetch().expect("no failure"), 500_500);
        let one = runtime.spawn(add, (3, 4));
        let out: Vec<_> = (0..32u64).map(|i| runtime.spawn(add, (&one, i))).collect();
        for (i, task) in out.into_iter().enumerate() {
            assert_eq!(task.take().expect("no failure"), 7 + i as u64);
        }
        let parts: Vec<_> = (1..=4u64).map(|i| runtime.spawn(add, (i, 0))).collect();
        assert_eq!(*runtime.spawn(|parts: Gather<'_, u64>| parts.iter().sum::<u64>(), (parts,)).fetch().expect("no failure"), 10);
    }
}

#[test]
fn sixteen_threads_spawn_and_fetch_at_the_same_time() {
    let runtime = threads(2);
    std::thread::scope(|scope| {
        for thread in 0..16u64 {
            let runtime = &runtime;
            scope.spawn(move || {
                for i in 0..20 {
                    assert_eq!(*runtime.spawn(add, (thread, i)).fetch().expect("no failure"), thread + i);
                }
            });
        }
    });
}
