//! Joins, scopes and loops over borrowed data: results, panics, nesting, and meetings of threads.
//!
//! One file because what is tested is one thing, which the same few jobs show from all sides.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

use poniard::{FailureKind, GraphBuilder, Handle, Task};
use poniard_tests::{Panicked, add, caught_panic, threads};

const COUNTS: [usize; 3] = [1, 2, 8];
/// Zero, one, two, odd, and around the numbers of pieces.
const SIZES: [usize; 9] = [0, 1, 2, 3, 7, 64, 65, 1001, 20_000];
/// Longer than anything here takes; a test that waits so long has found a hang.
const FOREVER: Duration = Duration::from_secs(20);

/// Runs `body` on a thread of its own, so that a hang is a failure of the test.
fn in_time<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (give, take) = mpsc::channel();
    std::thread::spawn(move || give.send(body()));
    take.recv_timeout(FOREVER).expect("it ends")
}

/// The text of a panic in `body`.
fn panic_of<R>(body: impl FnOnce() -> R) -> String {
    let payload: Box<dyn Any + Send> = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(_) => panic!("it must panic"),
        Err(payload) => payload,
    };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast_ref::<&str>().expect("a text")).into(),
    }
}

fn fib(handle: &Handle, n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (a, b) = handle.join(|| fib(handle, n - 1), || fib(handle, n - 2));
    a + b
}

/// A fast thread could otherwise be through before any other one has woken up.
fn wait_for(flag: &AtomicBool) {
    while !flag.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
}

#[test]
fn a_tree_of_joins_gives_the_same_result_everywhere() {
    for count in COUNTS {
        let runtime = threads(count);
        assert_eq!(fib(&runtime, 20), 6765, "from outside");
        let handle = runtime.handle();
        assert_eq!(runtime.spawn(move || fib(&handle, 20), ()).take().expect("no failure"), 6765, "inside a task");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(fib(&runtime, 15), 610));
            }
        });
    }
}

#[test]
fn the_second_half_is_run_by_another_worker_and_its_result_comes_back() {
    // Each half waits for the other, so no thread can do both.
    in_time(|| {
        for count in [2, 8] {
            let runtime = threads(count);
            for round in 0..200usize {
                let meet = Barrier::new(2);
                let half = |value: usize| {
                    meet.wait();
                    vec![value; 10]
                };
                let (a, b) = runtime.join(|| half(round), || half(round + 1));
                assert_eq!((a, b), (vec![round; 10], vec![round + 1; 10]));
            }
        }
    });
}

#[test]
fn every_index_is_visited_once_and_every_element_changed_once() {
    for count in COUNTS {
        let runtime = threads(count);
        for size in SIZES {
            let visits: Vec<_> = (0..size + 5).map(|_| AtomicUsize::new(0)).collect();
            runtime.parallel_for(5..size + 5, |index| {
                visits[index].fetch_add(1, Ordering::Relaxed);
            });
            runtime.parallel_chunks(5..size + 5, |chunk| {
                assert!(!chunk.is_empty());
                visits[chunk].iter().for_each(|visit| {
                    visit.fetch_add(1, Ordering::Relaxed);
                });
            });
            let visits: Vec<_> = visits.into_iter().map(AtomicUsize::into_inner).collect();
            assert!(
                visits[..5].iter().all(|visit| *visit == 0) && visits[5..].iter().all(|visit| *visit == 2),
                "{count} {size} {visits:?}"
            );

            let mut values = vec![1; size];
            runtime.parallel_for_each_mut(&mut values, |index, value| *value += index);
            assert_eq!(values, (1..=size).collect::<Vec<_>>());
            for chunk_len in [1, 3, 64, size + 1] {
                let mut rows = vec![0; size];
                runtime.parallel_chunks_mut(&mut rows, chunk_len, |row, values| {
                    assert!(values.len() == chunk_len || (row == size / chunk_len && values.len() == size % chunk_len));
                    values.iter_mut().for_each(|value| *value += row + 1);
                });
                assert_eq!(rows, (0..size).map(|index| index / chunk_len + 1).collect::<Vec<_>>(), "{count} {size} {chunk_len}");
            }
        }
    }
    assert!(panic_of(|| threads(1).parallel_chunks_mut(&mut [0], 0, |_, _: &mut [i32]| {})).contains("at least one element"));
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
    threads(2).parallel_for(3..1, |_| panic!("there is no index"));
}

#[test]
fn a_reduction_keeps_the_order_of_what_it_combines() {
    for count in COUNTS {
        let runtime = threads(count);
        for size in SIZES {
            // Concatenation is associative and not commutative.
            let all = runtime.map_reduce(
                0..size,
                Vec::new,
                |index| vec![index],
                |mut left, right| {
                    left.extend(right);
                    left
                },
            );
            assert_eq!(all, (0..size).collect::<Vec<_>>(), "{count} {size}");
        }
        // Runs of uneven length, so that pieces are stolen and halved again.
        let weight = |index: usize| (0..index % 97 * 50).fold(index as u64, |sum, i| std::hint::black_box(sum ^ i as u64));
        let expected: String = (0..3000).map(|index| format!("{};", weight(index))).collect();
        let text = runtime.map_reduce(0..3000, String::new, |index| format!("{};", weight(index)), |left, right| left + &right);
        assert_eq!(text, expected);
    }
}

#[test]
fn disjoint_parts_of_borrowed_data_are_changed_in_place() {
    fn sort(handle: &Handle, values: &mut [u64]) {
        if values.len() < 2 {
            return;
        }
        let pivot = values.len() - 1;
        let middle = (0..pivot).fold(0, |middle, index| {
            let smaller = values[index] < values[pivot];
            if smaller {
                values.swap(index, middle);
            }
            middle + usize::from(smaller)
        });
        values.swap(middle, pivot);
        let (low, high) = values.split_at_mut(middle);
        handle.join(|| sort(handle, low), || sort(handle, &mut high[1..]));
    }
    for count in COUNTS {
        let runtime = threads(count);
        let mut values: Vec<u64> = (0..20_000u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).collect();
        let mut expected = values.clone();
        expected.sort_unstable();
        sort(&runtime, &mut values);
        assert_eq!(values, expected);
    }
}

#[test]
fn a_scope_ends_after_everything_that_was_spawned_in_it() {
    fn spread<'scope>(scope: &poniard::JobScope<'scope>, counts: &'scope [AtomicUsize], depth: usize) {
        counts[depth].fetch_add(1, Ordering::Relaxed);
        if depth + 1 < counts.len() {
            for _ in 0..3 {
                scope.spawn(move |scope| spread(scope, counts, depth + 1));
            }
        }
    }
    for count in COUNTS {
        let runtime = threads(count);
        for inside in [false, true] {
            let body = |handle: &Handle| {
                let counts: Vec<_> = (0..8).map(|_| AtomicUsize::new(0)).collect();
                let value = handle.scope(|scope| {
                    spread(scope, &counts, 0);
                    "value"
                });
                let counts: Vec<_> = counts.into_iter().map(AtomicUsize::into_inner).collect();
                assert_eq!((value, counts), ("value", (0..8).map(|depth| 3usize.pow(depth)).collect()));
            };
            if inside {
                let handle = runtime.handle();
                runtime.spawn(move || body(&handle), ()).wait().expect("no failure");
            } else {
                body(&runtime);
            }
        }
        let mut values = vec![0; 1000];
        runtime.scope(|scope| {
            for (index, value) in values.iter_mut().enumerate() {
                scope.spawn(move |_| *value = index + 1);
            }
        });
        assert_eq!(values, (1..=1000).collect::<Vec<_>>());
        assert_eq!(runtime.scope(|_| 7), 7);
    }
}

#[test]
fn a_scope_may_be_spawned_in_from_threads_that_are_no_workers() {
    for count in COUNTS {
        let runtime = threads(count);
        let done = AtomicUsize::new(0);
        runtime.scope(|scope| {
            std::thread::scope(|threads| {
                for _ in 0..4 {
                    threads.spawn(|| {
                        for _ in 0..50 {
                            scope.spawn(|_| {
                                done.fetch_add(1, Ordering::Relaxed);
                            });
                        }
                    });
                }
            });
        });
        assert_eq!(done.into_inner(), 200);
    }
}

#[test]
fn everything_nests_in_everything() {
    fn work(depth: usize) -> usize {
        if depth == 0 {
            return 1;
        }
        let mut parts = [0; 3];
        let (left, right) = poniard::join(
            || poniard::map_reduce(0..3, || 0, |_| work(depth - 1), |a, b| a + b),
            || {
                poniard::scope(|scope| {
                    for part in &mut parts {
                        scope.spawn(move |_| *part = work(depth - 1));
                    }
                });
                let task = poniard::spawn(work, (depth - 1,));
                let mut more = [0; 5];
                poniard::parallel_for_each_mut(&mut more, |_, value| *value = 1);
                poniard::parallel_chunks_mut(&mut more, 2, |_, values| values[0] += 1);
                poniard::parallel_for(0..4, |index| assert!(index < 4));
                poniard::parallel_chunks(0..4, |chunk| assert!(chunk.end <= 4));
                assert_eq!(more, [2, 1, 2, 1, 2]);
                task.take().expect("no failure")
            },
        );
        left + parts.iter().sum::<usize>() + right
    }
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            let tasks: Vec<_> = (0..4).map(|_| runtime.spawn(work, (4,))).collect();
            for task in tasks {
                assert_eq!(task.take().expect("no failure"), 7usize.pow(4));
            }
        }
    });
}

#[test]
fn outside_a_task_the_functions_say_what_to_use() {
    let text = panic_of(|| poniard::join(|| 1, || 2));
    assert!(text.contains("poniard::join") && text.contains("Handle"), "{text}");
    assert!(panic_of(|| poniard::scope(|_| ())).contains("poniard::scope"));
    assert!(panic_of(|| poniard::parallel_for(0..1, |_| ())).contains("poniard::parallel_for"));
}

#[test]
fn a_panic_in_either_half_reaches_the_caller_after_the_other_has_ended() {
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            for _ in 0..50 {
                // Nobody has to take the second half.
                assert_eq!(panic_of(|| runtime.join(|| panic!("a"), || 1)), "a");
                assert_eq!(panic_of(|| runtime.join(|| 1, || panic!("b {}", 5))), "b 5");
                assert_eq!(panic_of(|| runtime.join(|| panic!("a"), || panic!("b"))), "a");
            }
        }
        let runtime = threads(2);
        for _ in 0..50 {
            // Another worker has taken it before the first half panics, and is not through with it when that one does.
            let (taken, ended) = (AtomicBool::new(false), AtomicUsize::new(0));
            let slow = || {
                taken.store(true, Ordering::Release);
                for _ in 0..50 {
                    std::thread::yield_now();
                }
                ended.fetch_add(1, Ordering::Relaxed);
            };
            let first = || {
                wait_for(&taken);
                panic!("a");
            };
            assert_eq!(panic_of(|| runtime.join(first, slow)), "a");
            assert_eq!(ended.load(Ordering::Relaxed), 1);
            taken.store(false, Ordering::Relaxed);
            assert_eq!(
                panic_of(|| runtime.join(
                    || wait_for(&taken),
                    || {
                        slow();
                        panic!("b")
                    }
                )),
                "b"
            );
            taken.store(false, Ordering::Relaxed);
            assert_eq!(
                panic_of(|| runtime.join(first, || {
                    slow();
                    panic!("b")
                })),
                "a"
            );
            assert_eq!(ended.load(Ordering::Relaxed), 3);
        }
        // The workers go on.
        assert_eq!(fib(&runtime, 15), 610);
    });
}

#[test]
fn a_panic_in_a_scope_or_a_loop_reaches_the_caller_and_the_rest_of_the_scope_runs() {
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            for _ in 0..20 {
                let done = AtomicUsize::new(0);
                let text = panic_of(|| {
                    runtime.scope(|scope| {
                        for index in 0..20 {
                            let done = &done;
                            scope.spawn(move |_| {
                                assert!(index != 7, "seven");
                                done.fetch_add(1, Ordering::Relaxed);
                            });
                        }
                    });
                });
                assert_eq!((text.as_str(), done.load(Ordering::Relaxed)), ("seven", 19));
                let text = panic_of(|| {
                    runtime.scope(|scope| {
                        scope.spawn(|_| {
                            done.fetch_add(1, Ordering::Relaxed);
                        });
                        panic!("body");
                    });
                });
                assert_eq!((text.as_str(), done.load(Ordering::Relaxed)), ("body", 20));
                assert_eq!(panic_of(|| runtime.parallel_for(0..1000, |index| assert!(index != 777, "loop"))), "loop");
                let reduced =
                    || runtime.map_reduce(0..1000, || 0, |index| index, |a, b| if b == 500 { panic!("reduce") } else { a.max(b) });
                assert_eq!(panic_of(reduced), "reduce");
            }
            let error = runtime.spawn(|| poniard::join(|| (), || panic!("inside")).0, ()).wait().expect_err("it panicked");
            assert_eq!(error.reason(), "inside");
        }
    });
}

/// Panics when it is dropped.
struct Grumpy;

impl Drop for Grumpy {
    fn drop(&mut self) {
        panic!("not like this");
    }
}

#[test]
fn what_a_panic_leaves_behind_is_dropped_and_may_panic_itself() {
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            for _ in 0..20 {
                assert_eq!(panic_of(|| runtime.join(|| Grumpy, || panic!("b"))), "b");
                assert_eq!(panic_of(|| runtime.join(|| panic!("a"), || Grumpy)), "a");
                let held = Grumpy;
                assert_eq!(panic_of(|| runtime.join(|| panic!("a"), move || std::mem::forget(held))), "a");
                let thrown = || std::panic::panic_any(Grumpy);
                assert_eq!(panic_of(|| runtime.join(|| panic!("a"), thrown)), "a");
                let scope = || {
                    runtime.scope(|scope| {
                        scope.spawn(|_| panic!("job"));
                        Grumpy
                    })
                };
                assert_eq!(panic_of(scope), "job");
            }
            assert_eq!(fib(&runtime, 15), 610);
        }
    });
}

#[test]
fn nothing_is_dropped_twice_or_not_at_all() {
    let alive = Arc::new(());
    for count in COUNTS {
        let runtime = threads(count);
        for round in 0..200 {
            let (one, two) = (Arc::clone(&alive), Arc::clone(&alive));
            let (one, two) = runtime.join(move || Arc::clone(&one), move || two);
            drop((one, two));
            let held = Arc::clone(&alive);
            runtime.scope(|scope| scope.spawn(move |_| drop(held)));
            let held = Arc::clone(&alive);
            let _ = catch_unwind(AssertUnwindSafe(|| runtime.join(|| panic!("a"), move || held)));
            let held = (Arc::clone(&alive), Arc::clone(&alive));
            let _ =
                catch_unwind(AssertUnwindSafe(|| runtime.join(move || held.0, move || if round % 2 == 0 { panic!("b") } else { held.1 })));
        }
        drop(runtime);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}

#[test]
fn joins_nest_as_deeply_as_memory_allows() {
    fn down(depth: usize) -> usize {
        if depth == 0 {
            return 0;
        }
        let (deeper, one) = poniard::join(|| down(depth - 1), || 1);
        deeper + one
    }
    in_time(|| {
        for count in [1, 2] {
            let runtime = threads(count);
            assert_eq!(runtime.spawn(down, (100_000,)).take().expect("no failure"), 100_000);
            let handle = runtime.handle();
            assert_eq!(runtime.join(|| handle.join(|| down(20_000), || 1).0, || down(20_000)), (20_000, 20_000));
        }
    });
}

#[test]
fn a_job_finds_as_much_stack_as_functions_commonly_use() {
    fn deep(n: usize) -> u64 {
        let block = std::hint::black_box([n as u8; 256 << 10]);
        let below = if n == 0 { 0 } else { poniard::join(|| deep(n - 1), || 0).0 };
        below + u64::from(std::hint::black_box(&block)[n] == n as u8)
    }
    assert_eq!(threads(1).spawn(deep, (100,)).take().expect("no failure"), 101);
}

#[test]
fn jobs_may_wait_for_tasks_and_tasks_for_each_other_meanwhile() {
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            let first = runtime.spawn(add, (1, 2));
            let sums: Vec<Task<u64>> = (0..20)
                .map(|_| {
                    let first = first.clone();
                    runtime.spawn(
                        move || {
                            let (a, b) = poniard::join(
                                || *first.fetch().expect("no failure") + *poniard::spawn(add, (3, 4)).fetch().expect("no failure"),
                                || poniard::spawn(add, (&first, 5)).take().expect("no failure"),
                            );
                            a + b
                        },
                        (),
                    )
                })
                .collect();
            let total = runtime.spawn(
                move || poniard::map_reduce(0..sums.len(), || 0, |index| *sums[index].fetch().expect("no failure"), |a, b| a + b),
                (),
            );
            assert_eq!(total.take().expect("no failure"), 20 * 18);
        }
    });
}

#[test]
fn a_thread_that_waits_inside_a_join_lets_others_have_its_slot() {
    // One slot: the first half waits for something that only a task on the same slot will do.
    in_time(|| {
        let runtime = threads(1);
        let (open, gate) = mpsc::channel::<u64>();
        let gate = Mutex::new(gate);
        let (started, has_started) = mpsc::channel();
        let other = threads(1);
        let far = other.spawn(move || gate.lock().expect("not poisoned").recv().expect("sent below"), ());
        let waiting = runtime.spawn(
            move || {
                poniard::join(
                    || {
                        started.send(()).expect("the test listens");
                        *far.fetch().expect("no failure")
                    },
                    || poniard::join(|| 2, || 3).1,
                )
            },
            (),
        );
        has_started.recv().expect("it runs");
        let opener = runtime.spawn(move || poniard::join(|| open.send(41).is_ok(), || true), ());
        assert_eq!(opener.take().expect("no failure"), (true, true));
        assert_eq!(waiting.take().expect("no failure"), (41, 3));
    });
}

#[test]
fn a_thread_that_waits_inside_a_join_leaves_the_second_half_to_others() {
    // One slot: what the first half waits for is done by the second.
    in_time(|| {
        let (one, other) = (threads(1), threads(1));
        let (far, open) = gate(&other);
        let task = one.spawn(move || poniard::join(|| far.wait().is_ok(), || open.send(()).is_ok()), ());
        assert_eq!(task.take().expect("no failure"), (true, true));
    });
}

/// A task that ends when something is sent.
fn gate(runtime: &Handle) -> (Task<()>, mpsc::Sender<()>) {
    let (open, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    (runtime.spawn(move || gate.lock().expect("not poisoned").recv().expect("sent by the test"), ()), open)
}

/// On one slot, `upper` joins while `lower`, in the middle of a join, has lent it; then `lower` comes back and finds a job of `upper` on top of its own.
/// With `others` waiting, no further thread is to be had for the slot.
fn pile_up(others: usize, lower_waits_for_upper: bool) {
    let (one, far) = (threads(1), threads(4));
    let (others_wait, let_others_go) = gate(&far);
    let (upper_begins, let_upper_begin) = gate(&far);
    let (lower_goes_on, let_lower_go_on) = gate(&far);
    let (upper_goes_on, let_upper_go_on) = gate(&far);
    let (say, heard) = mpsc::channel::<&'static str>();
    let (say_lower, say_upper) = (say.clone(), say);
    let others: Vec<_> = (0..others)
        .map(|_| {
            let others_wait = others_wait.clone();
            one.spawn(move || others_wait.wait().is_ok(), ())
        })
        .collect();
    let (give_lower, take_lower) = mpsc::channel::<Task<bool>>();
    let take_lower = Mutex::new(take_lower);
    let upper = one.spawn(
        move || {
            upper_begins.wait().expect("no failure");
            let lower = take_lower.lock().expect("not poisoned").recv().expect("sent below");
            poniard::join(
                || {
                    say_upper.send("upper").expect("the test listens");
                    upper_goes_on.wait().is_ok()
                },
                // Waiting for the other task is no circle, as long as this is not run on top of that.
                || lower_waits_for_upper || lower.wait().map_or_else(|error| panic!("{error}"), |()| true),
            )
        },
        (),
    );
    let awaited = upper.clone();
    let lower = one.spawn(
        move || {
            let joined = poniard::join(
                || {
                    say_lower.send("lower").expect("the test listens");
                    lower_goes_on.wait().is_ok()
                },
                || true,
            );
            say_lower.send("lower is through").expect("the test listens");
            joined == (true, true) && (!lower_waits_for_upper || awaited.wait().is_ok())
        },
        (),
    );
    give_lower.send(lower.clone()).expect("it listens");
    assert_eq!(heard.recv(), Ok("lower"));
    let_upper_begin.send(()).expect("it listens");
    assert_eq!(heard.recv(), Ok("upper"));
    let_lower_go_on.send(()).expect("it listens");
    assert_eq!(heard.recv(), Ok("lower is through"));
    let_upper_go_on.send(()).expect("it listens");
    assert_eq!(upper.take().expect("no false circle"), (true, true));
    assert!(lower.take().expect("no failure"));
    let_others_go.send(()).expect("it listens");
    assert!(others.into_iter().all(|task| task.take().is_ok_and(|done| done)));
}

#[test]
fn a_job_of_another_task_on_top_of_ones_own_is_left_to_others() {
    in_time(|| {
        for _ in 0..20 {
            pile_up(0, false);
        }
    });
}

#[test]
fn a_job_that_was_moved_out_of_the_way_is_found_by_whoever_waits_for_it() {
    // 64 threads are the most that a slot has.
    in_time(|| pile_up(62, true));
}

#[test]
fn a_thread_that_waits_for_a_job_runs_none_of_another_task() {
    // The task `first` waits for its second half. Jobs of `second`, in other workers' queues, wait for `first`: run on top of it they would wait for ever.
    in_time(|| {
        let runtime = threads(3);
        for _ in 0..100 {
            let (taken, release) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let (seen, go_on) = (Arc::clone(&taken), Arc::clone(&release));
            let first = runtime.spawn(
                move || {
                    poniard::join(
                        || wait_for(&seen),
                        || {
                            seen.store(true, Ordering::Release);
                            wait_for(&go_on);
                        },
                    );
                    5u64
                },
                (),
            );
            wait_for(&taken);
            let awaited = first.clone();
            let second = runtime.spawn(
                move || {
                    poniard::map_reduce(
                        0..8,
                        || 0,
                        |_| awaited.fetch().map_or_else(|error| panic!("{error}"), |value| *value),
                        |a, b| a + b,
                    )
                },
                (),
            );
            for _ in 0..100 {
                std::thread::yield_now();
            }
            release.store(true, Ordering::Release);
            assert_eq!(second.take().expect("no false circle"), 40);
            assert_eq!(first.take().expect("no failure"), 5);
        }
    });
}

#[test]
fn a_job_that_waits_for_the_task_it_belongs_to_gets_an_error() {
    fn circle(error: &poniard::TaskError) -> bool {
        matches!(error.kind(), FailureKind::WaitsForItself)
    }
    in_time(|| {
        let runtime = threads(3);
        for _ in 0..50 {
            // Directly: both halves, one of them on another thread.
            let (give, take) = mpsc::channel::<Task<(bool, bool)>>();
            let take = Mutex::new(take);
            let itself = runtime.spawn(
                move || {
                    let me = take.lock().expect("not poisoned").recv().expect("sent below");
                    let meet = Barrier::new(2);
                    let ask = || {
                        meet.wait();
                        me.wait().is_err_and(|error| circle(&error))
                    };
                    poniard::join(ask, ask)
                },
                (),
            );
            give.send(itself.clone()).expect("it listens");
            assert_eq!(*itself.fetch().expect("no failure"), (true, true));

            // Through a task that waits for it, on a third thread.
            let (give, take) = mpsc::channel::<Task<bool>>();
            let take = Mutex::new(take);
            let meet = Arc::new(Barrier::new(3));
            let (one, other) = (Arc::clone(&meet), meet);
            let first = runtime.spawn(
                move || {
                    let other = take.lock().expect("not poisoned").recv().expect("sent below");
                    let half = || {
                        one.wait();
                        other.wait().is_err_and(|error| circle(&error)) || other.fetch().is_ok_and(|found| *found)
                    };
                    poniard::join(|| one.wait().is_leader(), half).1
                },
                (),
            );
            let awaited = first.clone();
            let second = runtime.spawn(
                move || {
                    other.wait();
                    awaited.wait().is_err_and(|error| circle(&error))
                },
                (),
            );
            give.send(second.clone()).expect("it listens");
            assert!(*first.fetch().expect("no failure"), "one of the two gets the error, and then the other goes on");
            second.wait().expect("no failure");
        }
    });
}

#[test]
fn a_job_on_another_runtime_is_cancelled_with_its_task_and_not_with_that_runtime() {
    in_time(|| {
        let (own, other) = (threads(1), threads(1));
        let handle = other.handle();
        other.cancel_all();
        let before = own.spawn(move || handle.join(poniard::is_cancelled, poniard::is_cancelled), ());
        assert_eq!(before.take().expect("no failure"), (false, false));

        let handle = other.handle();
        let (begin, begun) = mpsc::channel();
        let endless = move || {
            begin.send(()).expect("the test listens");
            while !poniard::is_cancelled() {
                std::thread::yield_now();
            }
        };
        own.spawn(move || handle.scope(|_| endless()), ()).detach();
        begun.recv().expect("it begins");
        own.cancel_all();
        own.wait_idle();
    });
}

#[test]
fn a_worker_of_another_runtime_lends_its_slot_while_it_joins() {
    in_time(|| {
        let (one, other) = (threads(1), threads(1));
        let (here, there) = (one.handle(), other.handle());
        let task = one.spawn(
            move || {
                let near = here.spawn(add, (1, 2));
                // The job there waits for a task that only this task's slot can run, and comes back here for another join.
                let (a, b) = there.join(|| near.take().expect("no failure"), || here.join(|| 4, || 5));
                a + b.0 + b.1
            },
            (),
        );
        assert_eq!(task.take().expect("no failure"), 12);
    });
}

#[test]
fn after_the_end_the_caller_does_everything_itself() {
    for count in COUNTS {
        let runtime = threads(count);
        let handle = runtime.handle();
        drop(runtime);
        let me = std::thread::current().id();
        assert_eq!(handle.join(|| std::thread::current().id(), || std::thread::current().id()), (me, me));
        assert_eq!(fib(&handle, 15), 610);
        let mut values = vec![0; 100];
        handle.scope(|scope| {
            for value in &mut values {
                scope.spawn(move |scope| scope.spawn(move |_| *value = 1));
            }
        });
        assert_eq!(values, [1; 100]);
        assert_eq!(handle.map_reduce(0..100, || 0, |index| index, |a, b| a + b), 4950);
        assert_eq!(panic_of(|| handle.scope(|scope| scope.spawn(|_| panic!("job")))), "job");
        assert_eq!(panic_of(|| handle.join(|| 1, || panic!("b"))), "b");
    }
}

#[test]
fn a_runtime_does_not_end_while_a_thread_is_in_a_join() {
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            let handle = runtime.handle();
            let (began, released, ended) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let first = || {
                        began.store(true, Ordering::Release);
                        wait_for(&released);
                        // The runtime drains meanwhile, and still has workers for these.
                        let value = fib(&handle, 15);
                        ended.store(true, Ordering::Release);
                        value
                    };
                    assert_eq!(handle.join(first, || 1), (610, 1));
                });
                wait_for(&began);
                scope.spawn(|| {
                    std::thread::yield_now();
                    released.store(true, Ordering::Release);
                });
                drop(runtime);
                assert!(ended.load(Ordering::Acquire), "dropping the runtime waits for the join");
            });
        }
    });
}

#[test]
fn threads_that_join_and_tasks_that_flood_do_not_starve_each_other() {
    in_time(|| {
        for count in COUNTS {
            let runtime = threads(count);
            let done = Arc::new(AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..100 {
                            assert_eq!(fib(&runtime, 8), 21);
                            let done = Arc::clone(&done);
                            runtime.spawn(move || done.fetch_add(poniard::join(|| 1, || 2).0, Ordering::Relaxed), ()).detach();
                        }
                    });
                }
            });
            drop(runtime);
            assert_eq!(done.load(Ordering::Relaxed), 400);
        }
    });
}

#[test]
fn a_queue_of_jobs_grows() {
    // More spawned in one go than any queue begins with; stolen while it grows.
    for count in COUNTS {
        let runtime = threads(count);
        let sum = AtomicUsize::new(0);
        runtime.scope(|scope| {
            for index in 0..5000 {
                let sum = &sum;
                scope.spawn(move |_| {
                    sum.fetch_add(index, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(sum.into_inner(), 5000 * 4999 / 2);
    }
}

#[test]
fn a_call_out_of_place_names_the_place_of_the_call() {
    let expect = |panicked: Panicked, line: u32, text: &str| {
        assert!(panicked.file.ends_with("parallel.rs") && panicked.line == line, "line {line}: {panicked:?}");
        assert!(panicked.text.contains(text), "{panicked:?}");
    };
    let outside = "works inside a task";
    expect(caught_panic(|| poniard::spawn(|| (), ())), line!(), outside);
    expect(caught_panic(|| poniard::spawn_detached(|| (), ())), line!(), outside);
    expect(caught_panic(|| poniard::join(|| (), || ())), line!(), outside);
    expect(caught_panic(|| poniard::scope(|_| ())), line!(), outside);
    expect(caught_panic(|| poniard::parallel_for(0..1, |_| ())), line!(), outside);
    expect(caught_panic(|| poniard::parallel_chunks(0..1, |_| ())), line!(), outside);
    expect(caught_panic(|| poniard::parallel_for_each_mut(&mut [0], |_, _| ())), line!(), outside);
    expect(caught_panic(|| poniard::parallel_chunks_mut(&mut [0], 1, |_, _| ())), line!(), outside);
    expect(caught_panic(|| poniard::map_reduce(0..1, || (), |_| (), |(), ()| ())), line!(), outside);

    let runtime = threads(1);
    expect(caught_panic(|| runtime.parallel_chunks_mut(&mut [0], 0, |_, _| ())), line!(), "at least one element");
    let node = GraphBuilder::new().task(|| 1u64, ());
    let graph = GraphBuilder::new().build().expect("a graph without nodes");
    let run = graph.run(&runtime, ()).expect("a run");
    expect(caught_panic(|| run.fetch(node)), line!(), "another graph");
    let run = Mutex::new(run);
    expect(caught_panic(|| run.lock().expect("not poisoned yet").take(node)), line!(), "another graph");
}

#[test]
fn who_holds_a_lock_that_all_workers_want_shares_work_with_himself() {
    for count in [1, 2] {
        let (sum, pair, in_scope) = in_time(move || {
            let (runtime, other) = (threads(count), threads(1));
            let lock = Arc::new(Mutex::new(()));
            let (locked, all_there) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(count + 1)));
            let holder = {
                let (lock, locked, all_there) = (Arc::clone(&lock), Arc::clone(&locked), Arc::clone(&all_there));
                runtime.spawn(
                    move || {
                        let _guard = lock.lock().expect("not poisoned");
                        locked.wait();
                        // Lends its place, and does not get it back: whoever has it waits for the lock.
                        other.spawn(move || _ = all_there.wait(), ()).take().expect("no failure");
                        let sum = AtomicUsize::new(0);
                        poniard::parallel_for(0..10_000, |index| _ = sum.fetch_add(index, Ordering::Relaxed));
                        let pair = poniard::join(|| poniard::join(|| 1, || 2), || 3);
                        let in_scope = AtomicUsize::new(0);
                        poniard::scope(|scope| {
                            (0..10).for_each(|_| scope.spawn(|_| _ = in_scope.fetch_add(1, Ordering::Relaxed)));
                        });
                        (sum.into_inner(), pair, in_scope.into_inner())
                    },
                    (),
                )
            };
            locked.wait();
            let others: Vec<Task<()>> = (0..count)
                .map(|_| {
                    let (lock, all_there) = (Arc::clone(&lock), Arc::clone(&all_there));
                    runtime.spawn(
                        move || {
                            all_there.wait();
                            drop(lock.lock());
                        },
                        (),
                    )
                })
                .collect();
            let found = holder.take().expect("no failure");
            others.into_iter().for_each(|other| other.wait().expect("no failure"));
            found
        });
        assert_eq!((sum, pair, in_scope), (10_000 * 9_999 / 2, ((1, 2), 3), 10));
    }
}
