//! Tasks in groups, with tokens, one after the other; and the graphs that users of such runtimes draw most.
//!
//! One file because what is tested is how the ways of tying tasks together meet.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

use poniard::{CancelToken, Data, FailureKind, Gather, Mutable, Scope, Task, TaskGroup, TaskOptions, write};
use poniard_tests::{Log, Stopped, add, in_time, threads};

/// Numbers of threads that every law is tried with.
const COUNTS: [usize; 3] = [1, 2, 5];

fn cancelled(task: &Task<impl Data>) -> bool {
    task.wait().is_err_and(|error| matches!(error.kind(), FailureKind::Cancelled))
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
fn a_group_inside_several_that_were_cancelled_takes_nothing_new() {
    in_time(|| {
        let runtime = threads(2);
        for outermost_first in [true, false] {
            let outer = TaskGroup::new(&runtime);
            let middle = outer.run(|| runtime.group(|| ()));
            let inner = middle.run(|| runtime.group(|| ()));
            let order = if outermost_first { [&outer, &middle] } else { [&middle, &outer] };
            assert!(order[0].cancel() && order[1].cancel());
            assert!(cancelled(&inner.spawn(|| 1, ())), "none of them had a member that could have told it");
        }
    });
}

#[test]
fn waiting_for_a_group_inside_its_own_member_is_an_error() {
    fn own(group: &TaskGroup) -> bool {
        group.wait().is_err_and(|error| matches!(error.first().kind(), FailureKind::WaitsForItself))
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
                    Err(error) => matches!(error.kind(), FailureKind::WaitsForItself),
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
    let nowhere = Scope::kind("vulkan");
    let error = runtime.wait_all(|| drop(runtime.task(add, (1, 1)).scope(nowhere).spawn())).expect_err("no such processor");
    assert!(matches!(error.first().kind(), FailureKind::NoProcessor { .. }), "{error}");
}

#[test]
fn a_task_that_cannot_be_spawned_into_an_empty_group_takes_no_other_out_of_the_group_around_it() {
    in_time(|| {
        let runtime = threads(1);
        let outer = TaskGroup::new(&runtime);
        let stopped = outer.run(|| Stopped::spawn(|body| runtime.spawn(body, ())));
        let inner = outer.run(|| runtime.group(|| drop(runtime.task(add, (1, 1)).scope(Scope::kind("vulkan")).spawn())));
        assert!(inner.is_finished() && !outer.is_finished());
        stopped.go().detach();
        assert_eq!(outer.wait().expect_err("no such processor").failure_count(), 1);
    });
}

#[test]
fn what_both_halves_of_a_join_spawn_is_in_the_group_around_it() {
    in_time(|| {
        let runtime = threads(2);
        let stopped = Stopped::spawn(|body| {
            // One that runs, so that of the two halves one has to run elsewhere: on the other worker.
            let handle = runtime.handle();
            runtime.spawn(
                move || {
                    let both_run = Barrier::new(2);
                    let group = handle.group(|| {
                        let half = || {
                            both_run.wait();
                            poniard::spawn(|| (), ()).detach();
                            handle.spawn(|| -> Result<(), String> { Err("no".into()) }, ()).detach();
                        };
                        poniard::join(half, half);
                    });
                    assert_eq!(group.wait().expect_err("one task of each half fails").failure_count(), 2);
                    body();
                },
                (),
            )
        });
        stopped.go().wait().expect("no failure");
    });
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

#[test]
fn a_task_that_cannot_be_spawned_keeps_nothing_that_it_would_have_come_after() {
    in_time(|| {
        let runtime = threads(1);
        let alive = Arc::new(());
        let place = Mutable::new(0);
        for refused in [
            &|first: &Task<Vec<Arc<()>>>| runtime.task(add, (1, 1)).after(first).timeout(Duration::ZERO).spawn(),
            &|first: &Task<_>| runtime.task(add, (1, 1)).after(first).scope(Scope::kind("vulkan")).spawn(),
            &|first: &Task<_>| {
                let twice = |one: &mut u64, other: &mut u64| *one + *other;
                runtime.sequential(|| runtime.task(twice, (write(&place), write(&place))).after(first).spawn())
            },
        ] as [&dyn Fn(&Task<Vec<Arc<()>>>) -> Task<u64>; 3]
        {
            let (go, gone) = mpsc::channel::<()>();
            let held = Arc::clone(&alive);
            let body = move || {
                let _ = gone.recv();
                vec![held]
            };
            let first = runtime.spawn(body, ());
            let task = refused(&first);
            assert!(task.is_finished() && task.wait().is_err());
            drop(task);
            drop(go);
            first.wait().expect("no failure");
            drop(first);
            runtime.wait_idle();
            assert_eq!(Arc::strong_count(&alive), 1);
        }
    });
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
fn a_chain_that_nobody_needs_goes_as_a_whole_with_its_last_handle() {
    const LENGTH: usize = 1_000_000;
    in_time(|| {
        let runtime = threads(1);
        let stopped = Stopped::spawn(|body| runtime.spawn(body, ()));
        let runs = Arc::new(AtomicUsize::new(0));
        let step = |from: Task<u64>| {
            let runs = Arc::clone(&runs);
            runtime.spawn(move |x: u64| x + runs.fetch_add(1, Ordering::Relaxed) as u64, (from,))
        };
        let chain = |length: usize| (0..length).fold(runtime.spawn(|| 1u64, ()), |last, _| step(last));
        // In a block, where spawning does not wait for room.
        drop(runtime.bulk(|| chain(LENGTH)));
        drop(chain(3).clone());

        // What somebody else needs stays, with all that it needs: a handle, another task, `detach`, one that comes after it.
        let (held, taken, detached, before) = (chain(2), chain(2), chain(2), chain(2));
        let taker = step(taken.clone());
        let after = runtime.task(|| (), ()).after(&before).spawn();
        let gathered = runtime.spawn(
            |all: Gather<'_, u64>| all.iter().sum::<u64>(),
            (vec![held.clone(), taken, detached.clone(), before, chain(5), runtime.value(chain(5)).flatten()],),
        );
        detached.detach();
        drop(runtime.spawn(|x: &u64, y: &u64| x + y, (gathered.clone(), gathered)));
        stopped.go().detach();
        runtime.wait_idle();
        assert_eq!(runs.load(Ordering::Relaxed), 2 + 3 + 2 + 2);
        held.wait().and(taker.wait()).and(after.wait()).expect("no failure");
    });
}

#[test]
fn what_only_a_dropped_task_used_can_be_moved_out_at_once() {
    in_time(|| {
        let runtime = threads(1);
        let value = runtime.value(vec![1u64]);
        let stopped = Stopped::spawn(|body| runtime.spawn(body, ()));
        drop(runtime.spawn(|value: &Vec<u64>, (): &()| value.len() as u64, (&value, &stopped.task)));
        // Its body is still there, as an edge of it is in the list of the one that runs.
        let shared = value.fetch().expect("no failure");
        drop(value);
        assert!(shared.try_unwrap().is_ok_and(|value| value == [1]));
        stopped.go().detach();
    });
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
