//! Ending tasks early, in time, again or together; and the ways to wait for them.
//!
//! One file because the last tests do all of it at once, with the same helpers.

use std::future::{Future, IntoFuture};
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use poniard::{BoxError, Data, FailureKind, Handle, Runtime, Task, TaskError, Value};
use poniard_tests::{add, caught_panic, in_time, threads};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3600);

/// Holds up a task: what it calls, and what lets it go on. Dropping that does, too.
fn gate() -> (Sender<()>, impl Fn() + Send + Sync + 'static) {
    let (open, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    let wait = move || {
        let _ = gate.lock().expect("not poisoned").recv();
    };
    (open, wait)
}

/// Occupies a worker until the sender is dropped. It has begun when this returns.
fn occupy(handle: &Handle) -> Sender<()> {
    let (open, wait) = gate();
    let (began, has_begun) = mpsc::channel();
    let body = move || {
        began.send(()).expect("the test listens");
        wait();
    };
    handle.spawn(body, ()).detach();
    has_begun.recv().expect("it begins");
    open
}

fn count(counter: &AtomicUsize, by: usize) {
    counter.fetch_add(by, Ordering::SeqCst);
}

fn kind<T>(result: Result<T, TaskError>) -> String {
    match result {
        Ok(_) => "a value".into(),
        Err(error) => format!("{:?}", error.root().kind()),
    }
}

/// Counts its copies that are alive, and how many there ever were.
#[derive(Data)]
struct Counted {
    alive: Arc<AtomicUsize>,
    made: Arc<AtomicUsize>,
}

impl Counted {
    fn new() -> Self {
        Self { alive: Arc::new(AtomicUsize::new(1)), made: Arc::new(AtomicUsize::new(1)) }
    }

    fn alive(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.alive)
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.alive.fetch_add(1, Ordering::SeqCst);
        self.made.fetch_add(1, Ordering::SeqCst);
        Self { alive: Arc::clone(&self.alive), made: Arc::clone(&self.made) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

// Cancelling one task.

#[test]
fn a_task_that_runs_is_cancelled_at_once_for_others_and_its_value_is_dropped_when_it_returns() {
    in_time(|| {
        let runtime = threads(1);
        assert!(!poniard::is_cancelled(), "this is no task");
        let (open, wait) = gate();
        let (began, has_begun) = mpsc::channel();
        let value = Counted::new();
        let alive = value.alive();
        let body = move || {
            began.send(poniard::is_cancelled()).expect("the test listens");
            wait();
            began.send(poniard::is_cancelled()).expect("the test listens");
            value
        };
        let task = runtime.spawn(body, ());
        let dependent = runtime.spawn(|_: &Counted| (), (&task,));
        assert!(!has_begun.recv().expect("it begins"));
        assert!(task.cancel());
        assert!(!task.cancel(), "it has been cancelled before");
        assert_eq!(kind(task.fetch()), "Cancelled");
        assert_eq!(alive.load(Ordering::SeqCst), 1, "the body still has it");
        drop(open);
        assert!(has_begun.recv().expect("it goes on"));
        // The worker is free again when the body has returned.
        let error = dependent.fetch().expect_err("it depends on it");
        assert!(matches!(error.root().kind(), FailureKind::Cancelled) && error.root_task().contains("closure"), "{error}");
        runtime.wait_idle();
        assert_eq!(alive.load(Ordering::SeqCst), 0, "nobody can see it, although there is a handle");
        drop(task);
    });
}

#[test]
fn a_task_that_has_not_begun_never_will_and_its_arguments_are_dropped_once() {
    in_time(|| {
        let runtime = threads(1);
        let open = occupy(&runtime);
        let (argument, captured) = (Counted::new(), Counted::new());
        let (alive_argument, alive_captured) = (argument.alive(), captured.alive());
        let ready = runtime.spawn(move |_: &Counted| captured.made.load(Ordering::SeqCst), (argument,));
        assert!(ready.cancel());
        assert!(!ready.cancel());
        assert_eq!((alive_argument.load(Ordering::SeqCst), alive_captured.load(Ordering::SeqCst)), (0, 0));
        assert_eq!(kind(ready.fetch()), "Cancelled");
        // One that waits for another: its arguments stay until that has finished.
        let (other, waited_for) = (Counted::new(), runtime.spawn(add, (1, 2)));
        let alive_other = other.alive();
        let waiting = runtime.spawn(|_: &Counted, sum: u64| sum, (other, &waited_for));
        let dependent = runtime.spawn(add, (&waiting, 1));
        assert!(waiting.cancel());
        assert_eq!(kind(waiting.fetch()), "Cancelled");
        assert_eq!(alive_other.load(Ordering::SeqCst), 1, "the other task still knows where its argument is");
        drop(open);
        assert_eq!(kind(dependent.fetch()), "Cancelled");
        assert_eq!(*waited_for.fetch().expect("it is none of their business"), 3);
        assert!(!waited_for.cancel(), "it has finished");
        assert_eq!(*waited_for.fetch().expect("no failure"), 3);
        runtime.wait_idle();
        assert_eq!(alive_other.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_task_may_cancel_itself() {
    in_time(|| {
        let runtime = threads(1);
        let (give, take) = mpsc::channel::<Task<u64>>();
        let take = Mutex::new(take);
        let (say, hear) = mpsc::channel();
        let body = move || {
            let own = take.lock().expect("not poisoned").recv().expect("sent below");
            let first = own.cancel();
            say.send((first, own.cancel(), poniard::is_cancelled(), kind(own.fetch()))).expect("the test listens");
            7u64
        };
        let task = runtime.spawn(body, ());
        give.send(task.clone()).expect("it listens");
        assert_eq!(hear.recv().expect("it runs"), (true, false, true, "Cancelled".into()));
        assert_eq!(kind(task.fetch()), "Cancelled");
    });
}

#[test]
fn a_body_ends_early_with_a_question_mark() {
    fn count(say: Sender<()>) -> Result<u64, BoxError> {
        let mut count = 0;
        say.send(())?;
        loop {
            poniard::check_cancelled()?;
            count += 1;
            if count == u64::MAX {
                return Ok(count);
            }
        }
    }
    in_time(|| {
        let runtime = threads(1);
        let (say, hear) = mpsc::channel();
        let task = runtime.spawn(move || count(say), ());
        hear.recv().expect("it begins");
        // Not the task itself, so that its own error is seen.
        runtime.cancel_all();
        assert_eq!(kind(task.fetch()), "Cancelled");
    });
}

#[test]
fn a_handle_that_is_dropped_takes_only_tasks_that_nobody_detached() {
    in_time(|| {
        let runtime = threads(1);
        let open = occupy(&runtime);
        let ran = Arc::new(AtomicUsize::new(0));
        let task = |value: usize| {
            let ran = Arc::clone(&ran);
            runtime.spawn(move || count(&ran, value), ())
        };
        drop(task(1));
        task(10).detach();
        let two = task(100);
        two.clone().detach();
        drop(two);
        drop(open);
        runtime.wait_idle();
        assert_eq!(ran.load(Ordering::SeqCst), 110);
    });
}

#[test]
fn cancelling_everything_spares_what_comes_later() {
    in_time(|| {
        let runtime = threads(1);
        let (open, wait) = gate();
        let (began, has_begun) = mpsc::channel();
        let body = move || {
            began.send(()).expect("the test listens");
            wait();
            poniard::is_cancelled()
        };
        let running = runtime.spawn(body, ());
        has_begun.recv().expect("it begins");
        let argument = Counted::new();
        let alive = argument.alive();
        let ready = runtime.spawn(|_: &Counted| 1u64, (argument,));
        let waiting = runtime.spawn(add, (&ready, 1));
        runtime.cancel_all();
        let later = runtime.spawn(poniard::is_cancelled, ());
        let dependent = runtime.spawn(add, (&waiting, 1));
        drop(open);
        assert!(*running.fetch().expect("it returned a value all the same"));
        for task in [&ready, &waiting, &dependent] {
            assert_eq!(kind(task.fetch()), "Cancelled");
        }
        assert_eq!(alive.load(Ordering::SeqCst), 0);
        assert!(!*later.fetch().expect("it came later"));
    });
}

#[test]
fn tasks_that_are_not_run_are_not_reported_as_run() {
    in_time(|| {
        let runtime = threads(1);
        let open = occupy(&runtime);
        runtime.spawn(add, (1, 1)).cancel();
        let outer = runtime.spawn(|| poniard::spawn(add, (1, 1)), ());
        let flat = outer.flatten();
        drop(open);
        flat.wait().expect("no failure");
        runtime.wait_idle();
        let ran: u64 = runtime.report().backends[0].processors.iter().map(|processor| processor.tasks).sum();
        assert_eq!(ran, 3, "the one that occupied, the outer and the inner one");
    });
}

// Deadlines.

#[test]
fn a_deadline_in_the_past_is_an_error_at_the_spawn() {
    in_time(|| {
        let runtime = threads(1);
        let argument = Counted::new();
        let alive = argument.alive();
        let task = runtime.task(|_: &Counted| (), (argument,)).deadline(Instant::now()).spawn();
        assert!(task.is_finished());
        assert_eq!(alive.load(Ordering::SeqCst), 0);
        let error = task.fetch().expect_err("it is late");
        assert!(matches!(error.kind(), FailureKind::DeadlineExceeded));
        assert!(error.to_string().contains("its deadline has passed") && error.task().contains("closure"), "{error}");
        assert_eq!(kind(runtime.task(add, (1, 1)).timeout(Duration::ZERO).spawn().fetch()), "DeadlineExceeded");
    });
}

#[test]
fn at_its_deadline_a_task_fails_wherever_it_is() {
    in_time(|| {
        let runtime = threads(1);
        let (open, wait) = gate();
        let value = Counted::new();
        let alive = value.alive();
        let (say, hear) = mpsc::channel();
        let body = move || {
            wait();
            say.send(poniard::is_cancelled()).expect("the test listens");
            value
        };
        let soon = Duration::from_millis(20);
        let running = runtime.task(body, ()).timeout(soon).spawn();
        let argument = Counted::new();
        let alive_argument = argument.alive();
        let ready = runtime.task(|_: &Counted| (), (argument,)).timeout(LONG).deadline(Instant::now() + soon).spawn();
        let waiting = runtime.task(|_: &Counted| (), (&running,)).deadline(Instant::now() + LONG).timeout(soon).spawn();
        let dependent = runtime.spawn(|_: &()| (), (&ready,));
        assert_eq!(kind(running.fetch()), "DeadlineExceeded");
        assert_eq!(kind(ready.fetch()), "DeadlineExceeded");
        assert_eq!(kind(waiting.fetch()), "DeadlineExceeded");
        // The worker has been in the first body all the time.
        drop(open);
        assert!(hear.recv().expect("it goes on"));
        assert_eq!(kind(dependent.fetch()), "DeadlineExceeded");
        runtime.wait_idle();
        assert_eq!((alive.load(Ordering::SeqCst), alive_argument.load(Ordering::SeqCst)), (0, 0));
    });
}

#[test]
fn a_task_in_time_has_its_value_and_the_timer_does_not_keep_it() {
    in_time(|| {
        let runtime = threads(1);
        let value = Counted::new();
        let alive = value.alive();
        let task = runtime.task(move || value, ()).timeout(LONG).spawn();
        let taken = task.fetch().expect("it is in time");
        drop(task);
        assert_eq!(alive.load(Ordering::SeqCst), 1);
        assert!(taken.try_unwrap().is_ok());
        // The entry of the timer is gone with the end of the task, and with it the last reference but the worker's.
        let value = Counted::new();
        let alive = value.alive();
        let task = runtime.task(move || value, ()).timeout(LONG).spawn();
        task.wait().expect("it is in time");
        drop(task);
        runtime.wait_idle();
        // The worker lets go of the record before it takes the next task.
        runtime.spawn(|| (), ()).wait().expect("no failure");
        assert_eq!(alive.load(Ordering::SeqCst), 0);
        // So far away that no clock gets there.
        assert_eq!(*runtime.task(add, (1, 2)).timeout(Duration::MAX).spawn().fetch().expect("no failure"), 3);
    });
}

#[test]
fn a_writer_that_waits_can_miss_its_deadline_too() {
    in_time(|| {
        let runtime = threads(1);
        let place = poniard::Mutable::new(1u64);
        let guard = place.fetch().expect("nobody writes");
        let writer = runtime.task(|value: &mut u64| *value = 2, (poniard::write(&place),)).timeout(Duration::from_millis(1)).spawn();
        // It has passed when that of a task that was spawned later has.
        let open = occupy(&runtime);
        assert_eq!(kind(runtime.task(|| (), ()).timeout(Duration::from_millis(10)).spawn().fetch()), "DeadlineExceeded");
        assert!(!writer.is_finished(), "the guard is still there");
        drop((guard, open));
        assert_eq!(kind(writer.fetch()), "DeadlineExceeded");
    });
}

// Trying again.

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("attempt {0} failed")]
struct Attempt(usize);

#[test]
fn a_task_is_tried_again_until_it_succeeds_or_has_no_attempts_left() {
    in_time(|| {
        let runtime = threads(2);
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let by_value = move |list: Vec<u64>, counted: Counted, shared: &u64| -> Result<u64, Attempt> {
            drop(counted);
            match counter.fetch_add(1, Ordering::SeqCst) {
                call if call < 3 => Err(Attempt(call)),
                _ => Ok(list.iter().sum::<u64>() + shared),
            }
        };
        let argument = Counted::new();
        let (alive, made) = (argument.alive(), Arc::clone(&argument.made));
        let list = runtime.spawn(|| vec![1u64, 2], ());
        let task = runtime.task(by_value.clone(), (&list, argument, Arc::new(10))).retries(3).spawn();
        assert_eq!(*task.fetch().expect("the fourth attempt succeeds"), 13);
        assert_eq!(
            (calls.load(Ordering::SeqCst), made.load(Ordering::SeqCst)),
            (4, 4),
            "moved for the last attempt, cloned for the others"
        );
        assert_eq!(alive.load(Ordering::SeqCst), 0);

        calls.store(0, Ordering::SeqCst);
        let task =
            runtime.task(by_value, (list, Counted::new(), Arc::new(10))).retries(2).backoff(Duration::from_micros(1)).name("moody").spawn();
        let error = task.fetch().expect_err("the third attempt is the last");
        assert_eq!(error.downcast_ref::<Attempt>(), Some(&Attempt(2)));
        assert_eq!(error.attempts(), 3);
        assert!(matches!(error.kind(), FailureKind::Returned(error) if error.is::<Attempt>()), "the typed error itself");
        let text = error.to_string();
        assert!(text.contains("`moody`") && text.contains("failed 3 times: attempt 2 failed"), "{text}");
        assert_eq!(calls.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn without_retries_and_after_a_panic_there_is_one_attempt() {
    fn broken() -> Result<u64, String> {
        Err("broken".into())
    }
    fn panics() -> Result<u64, String> {
        CALLS.fetch_add(1, Ordering::SeqCst);
        panic!("no");
    }
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    in_time(|| {
        let runtime = threads(1);
        assert_eq!(runtime.task(broken, ()).retries(0).spawn().fetch().expect_err("it fails").attempts(), 1);
        assert_eq!(runtime.spawn(broken, ()).fetch().expect_err("it fails").attempts(), 1);
        let error = runtime.task(panics, ()).retries(5).spawn().fetch().expect_err("it panics");
        assert!(matches!(error.kind(), FailureKind::Panicked(_)) && error.attempts() == 1);
        assert_eq!(error.task(), "panics", "the function's own name");
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
        let cancelled = runtime.spawn(add, (1, 1));
        if cancelled.cancel() {
            assert_eq!(cancelled.fetch().expect_err("it was cancelled").attempts(), 0);
        }
    });
}

#[test]
fn during_a_pause_the_worker_does_other_things() {
    in_time(|| {
        let runtime = threads(1);
        let done = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&done);
        let body = move || if seen.load(Ordering::SeqCst) { Ok(()) } else { Err("not yet") };
        let patient = runtime.task(body, ()).retries(u32::MAX).backoff(Duration::from_millis(1)).spawn();
        runtime.spawn(move || done.store(true, Ordering::SeqCst), ()).wait().expect("it finds the worker");
        patient.wait().expect("the other one has run");
    });
}

#[test]
fn a_task_that_is_ended_between_two_attempts_knows_how_many_there_were() {
    in_time(|| {
        let runtime = threads(1);
        let (say, hear) = mpsc::channel();
        let body = move || -> Result<u64, &str> {
            say.send(()).expect("the test listens");
            Err("not yet")
        };
        let error = runtime.task(body.clone(), ()).retries(9).backoff(LONG).timeout(Duration::from_millis(20)).spawn().wait();
        let error = error.expect_err("it has a deadline");
        assert!(matches!(error.kind(), FailureKind::DeadlineExceeded));
        assert_eq!(error.attempts() as usize, hear.try_iter().count());

        for everything in [false, true] {
            let end = |task: &Task<u64>| {
                if everything {
                    runtime.cancel_all();
                } else {
                    assert!(task.cancel());
                }
                let error = task.wait().expect_err("it was cancelled");
                assert!(matches!(error.kind(), FailureKind::Cancelled));
                error.attempts()
            };
            let pauses = runtime.task(body.clone(), ()).retries(9).backoff(LONG).spawn();
            hear.recv().expect("it begins");
            // The only worker is free: the pause has begun.
            runtime.spawn(|| (), ()).wait().expect("no failure");
            assert_eq!(end(&pauses), 1);

            let calls = Arc::new(AtomicUsize::new(0));
            let last = body.clone();
            let third = move || -> Result<u64, BoxError> {
                if calls.fetch_add(1, Ordering::SeqCst) < 2 {
                    return Err("not yet".into());
                }
                let _ = last();
                while !poniard::is_cancelled() {
                    std::hint::spin_loop();
                }
                Err(Box::new(poniard::check_cancelled().expect_err("it was told")))
            };
            let runs = runtime.task(third, ()).retries(9).spawn();
            hear.recv().expect("the third attempt begins");
            assert_eq!(end(&runs), 3);
        }
    });
}

#[test]
fn a_pause_ends_when_the_task_is_cancelled() {
    in_time(|| {
        let runtime = threads(1);
        for everything in [false, true] {
            let (say, hear) = mpsc::channel();
            let body = move || -> Result<(), &str> {
                say.send(()).expect("the test listens");
                Err("not yet")
            };
            let task = runtime.task(body, ()).retries(5).backoff(LONG).spawn();
            hear.recv().expect("it begins");
            // The only worker is free: the pause has begun.
            runtime.spawn(|| (), ()).wait().expect("no failure");
            if everything {
                runtime.cancel_all();
            } else {
                assert!(task.cancel());
            }
            assert_eq!(kind(task.fetch()), "Cancelled");
            runtime.wait_idle();
            assert!(hear.try_recv().is_err(), "there is no second attempt");
        }
        // Awaited by a task that has its only handle.
        let alone = runtime.spawn(
            || {
                let body = || -> Result<u64, &str> { Err("not yet") };
                let current = poniard::current().expect("a task");
                kind(current.task(body, ()).retries(3).backoff(Duration::from_micros(1)).spawn().take())
            },
            (),
        );
        assert!(alone.fetch().expect("no failure").contains("not yet"));
    });
}

// The end.

#[test]
fn a_runtime_shuts_down_when_everything_is_over() {
    in_time(|| {
        let runtime = threads(2);
        let (open, wait) = gate();
        let last = runtime.spawn(
            move || {
                wait();
                poniard::spawn(add, (1, 2))
            },
            (),
        );
        std::thread::scope(|scope| {
            let ends: Vec<_> = (0..3).map(|_| scope.spawn(|| runtime.shutdown())).collect();
            drop(open);
            for end in ends {
                end.join().expect("no panic");
            }
        });
        assert_eq!(*last.flatten().fetch().expect("what runs may spawn"), 3);
        assert_eq!(kind(runtime.spawn(add, (1, 2)).fetch()), "Shutdown");
        runtime.shutdown();
        runtime.shutdown_now();
    });
}

#[test]
fn a_runtime_that_shuts_down_now_waits_for_bodies_only() {
    in_time(|| {
        let runtime = threads(1);
        let (say, hear) = mpsc::channel();
        let body = move || {
            say.send(kind::<()>(Ok(()))).expect("the test listens");
            while !poniard::is_cancelled() {
                std::thread::yield_now();
            }
            let late = poniard::spawn(add, (1, 2));
            say.send(kind(late.fetch())).expect("the test listens");
            5u64
        };
        let running = runtime.spawn(body, ());
        hear.recv().expect("it begins");
        let never = runtime.spawn(|| -> u64 { unreachable!("it is never run") }, ());
        let pausing = runtime.task(|| -> Result<(), &str> { Err("no") }, ()).retries(9).backoff(LONG).spawn();
        runtime.shutdown_now();
        assert_eq!(hear.recv().expect("it ran on"), "Shutdown");
        assert_eq!(*running.fetch().expect("it returned a value all the same"), 5);
        assert_eq!(kind(never.fetch()), "Cancelled");
        assert_eq!(kind(pausing.fetch()), "Cancelled");
        assert_eq!(kind(runtime.spawn(add, (1, 2)).fetch()), "Shutdown");
    });
}

#[test]
fn a_task_may_shut_its_own_runtime_down() {
    in_time(|| {
        let runtime = Arc::new(threads(1));
        let own = Arc::clone(&runtime);
        let task = runtime.spawn(
            move || {
                own.shutdown_now();
                poniard::is_cancelled()
            },
            (),
        );
        assert!(*task.fetch().expect("it goes on"));
        runtime.shutdown();
    });
}

#[test]
fn a_runtime_that_a_task_has_shut_down_takes_no_more_tasks_from_outside() {
    in_time(|| {
        for count in [1, 2] {
            let runtime = Arc::new(threads(count));
            let (say, hear) = mpsc::channel();
            let (open, wait) = gate();
            let own = Arc::clone(&runtime);
            let body = move || {
                own.shutdown();
                say.send(()).expect("the test listens");
                wait();
                poniard::spawn(add, (1, 2)).take().expect("a task may spawn until the end")
            };
            let task = runtime.spawn(body, ());
            hear.recv().expect("it begins");
            let late = runtime.spawn(add, (1, 2));
            assert!(late.is_finished() && kind(late.fetch()) == "Shutdown");
            drop(open);
            assert_eq!(*task.fetch().expect("it goes on"), 3);
            runtime.shutdown();
        }
    });
}

#[test]
fn whoever_would_wait_for_himself_until_all_is_idle_is_told_where() {
    in_time(|| {
        let runtime = Arc::new(threads(2));
        let other = threads(1);
        let own = Arc::clone(&runtime);
        let (text, file) = {
            let body = move || {
                let panicked = caught_panic(|| own.wait_idle());
                (panicked.text, panicked.file)
            };
            runtime.task(body, ()).name("eager").spawn().take().expect("it catches the panic")
        };
        assert!(text.contains("`wait_idle` was called inside task `eager` ("), "{text}");
        assert!(file.ends_with("control.rs"), "{file}");
        let piece = runtime.join(|| caught_panic(|| runtime.wait_idle()), || ()).0;
        assert!(piece.text.contains("`wait_idle` was called inside something that"), "{piece:?}");
        assert!(piece.file.ends_with("control.rs"), "{piece:?}");
        // Of another runtime, it is as good as any thread.
        let handle = runtime.handle();
        other.spawn(move || handle.wait_idle(), ()).wait().expect("there is nothing to wait for");
    });
}

// Futures.

/// Wakes a thread, and counts.
struct Alarm {
    thread: Thread,
    count: AtomicUsize,
}

impl Alarm {
    fn new() -> Arc<Self> {
        Arc::new(Self { thread: std::thread::current(), count: AtomicUsize::new(0) })
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Runs a future on this thread; also how often it was polled.
fn block_on<F: IntoFuture>(future: F) -> (F::Output, usize) {
    let mut future = pin!(future.into_future());
    let alarm = Alarm::new();
    let waker = Waker::from(Arc::clone(&alarm));
    let mut polls = 0;
    loop {
        let woken = alarm.count.load(Ordering::SeqCst);
        polls += 1;
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return (output, polls);
        }
        while alarm.count.load(Ordering::SeqCst) == woken {
            std::thread::park();
        }
    }
}

#[test]
fn a_task_can_be_awaited() {
    in_time(|| {
        let runtime = threads(1);
        let (open, wait) = gate();
        let (one, other) = (runtime.spawn(wait, ()), runtime.spawn(|_: &()| Counted::new(), (runtime.spawn(|| (), ()),)));
        let open = std::thread::spawn(move || drop(open));
        let (done, polls) = block_on(&one);
        done.expect("no failure");
        assert!(polls <= 2, "once, and once when it is woken: {polls}");
        open.join().expect("no panic");
        let counted = block_on(other).0.expect("no failure");
        assert_eq!(counted.try_unwrap().ok().expect("its handle is gone").made.load(Ordering::SeqCst), 1);
        assert_eq!(block_on(&one).1, 1, "it has finished before");
        let failed = runtime.spawn(|| -> Result<(), String> { Err("no".into()) }, ());
        assert_eq!(block_on(async { failed.await.expect_err("it fails").reason() }).0, "no");
        let sum = block_on(async {
            let task = runtime.spawn_async(add, (1, 2)).await;
            *runtime.spawn_async(add, (&task, 4)).await.await.expect("no failure")
        });
        assert_eq!(sum.0, 7);
    });
}

#[test]
fn the_waker_that_came_last_is_woken_and_dropped_futures_wake_nobody() {
    in_time(|| {
        let runtime = threads(1);
        let (open, wait) = gate();
        let task = runtime.spawn(wait, ());
        let alarms: Vec<_> = (0..4).map(|_| Alarm::new()).collect();
        let poll = |future: &mut poniard::TaskFuture<()>, alarm: usize| {
            let waker = Waker::from(Arc::clone(&alarms[alarm]));
            Pin::new(future).poll(&mut Context::from_waker(&waker)).is_ready()
        };
        let (mut moved, mut dropped, mut kept) = ((&task).into_future(), (&task).into_future(), task.clone().into_future());
        assert!(!poll(&mut moved, 0) && !poll(&mut moved, 1) && !poll(&mut dropped, 2) && !poll(&mut kept, 3));
        drop(dropped);
        assert_eq!(Arc::strong_count(&alarms[2]), 1, "its waker is gone");
        assert_eq!(Arc::strong_count(&alarms[0]), 1, "replaced");
        drop(open);
        task.wait().expect("no failure");
        runtime.wait_idle();
        let counts: Vec<_> = alarms.iter().map(|alarm| alarm.count.load(Ordering::SeqCst)).collect();
        assert_eq!(counts, [0, 1, 0, 1]);
        assert!(poll(&mut moved, 0) && poll(&mut kept, 0));
    });
}

#[test]
fn a_waker_that_panics_takes_no_worker_with_it() {
    struct Grumpy;
    impl Wake for Grumpy {
        fn wake(self: Arc<Self>) {
            panic!("not like this");
        }
    }
    in_time(|| {
        let runtime = threads(1);
        let (open, wait) = gate();
        let task = runtime.spawn(wait, ());
        let mut future = (&task).into_future();
        let waker = Waker::from(Arc::new(Grumpy));
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(open);
        task.wait().expect("no failure");
        assert_eq!(*runtime.spawn(add, (1, 1)).fetch().expect("the worker goes on"), 2);
    });
}

// Room.

/// Whether somebody was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_foreign_thread_that_floods_a_runtime_is_slowed_down() {
    const COUNT: usize = 100_000;
    /// Many times what a spawn takes.
    fn work(ran: &AtomicUsize) {
        (0..100).for_each(|step: u64| drop(std::hint::black_box(step.to_string())));
        count(ran, 1);
    }
    in_time(|| {
        let runtime = threads(2);
        for lazily in [false, true] {
            let ran = Arc::new(AtomicUsize::new(0));
            let mut most = 0;
            let body = async {
                for spawned in 0..COUNT {
                    let ran_one = Arc::clone(&ran);
                    let body = move || work(&ran_one);
                    if lazily {
                        runtime.spawn_async(body, ()).await.detach()
                    } else {
                        runtime.spawn(body, ()).detach()
                    }
                    most = most.max(spawned + 1 - ran.load(Ordering::Relaxed));
                }
            };
            block_on(body);
            runtime.wait_idle();
            assert_eq!(ran.load(Ordering::Relaxed), COUNT);
            assert!(most < COUNT / 4 * 3, "{most} tasks had not finished");
        }
    });
}

#[test]
fn a_foreign_thread_does_not_wait_for_tasks_that_need_it() {
    in_time(|| {
        let runtime = threads(1);
        for lazily in [false, true] {
            let open = occupy(&runtime);
            let ran = Arc::new(AtomicUsize::new(0));
            for _ in 0..100_000 {
                let ran = Arc::clone(&ran);
                let body = move || count(&ran, 1);
                let task = if lazily { block_on(runtime.spawn_async(body, ())).0 } else { runtime.spawn(body, ()) };
                task.detach();
            }
            drop(open);
            runtime.wait_idle();
            assert_eq!(ran.load(Ordering::Relaxed), 100_000);
        }
    });
}

#[test]
fn whoever_waits_for_room_looks_again_although_everybody_was_hurried_meanwhile() {
    const COUNT: usize = 20_000;
    in_time(|| {
        let (runtime, other) = (threads(1), threads(1));
        let open = occupy(&runtime);
        runtime.bulk(|| (0..COUNT).for_each(|_| runtime.spawn(|| (), ()).detach()));
        let mut woken = 0;
        for _ in 0..COUNT {
            let mut spawned = pin!(runtime.spawn_async(|| (), ()));
            let flag = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&flag));
            let mut poll = || spawned.as_mut().poll(&mut Context::from_waker(&waker)).map(Task::detach);
            if poll().is_pending() {
                // Wakes all that wait for a time.
                other.cancel_all();
                while poll().is_pending() {
                    while !flag.0.swap(false, Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                    woken += 1;
                }
                break;
            }
        }
        assert!(woken > 0, "it is crowded");
        drop(open);
    });
}

// Waiting for many.

#[test]
fn all_results_come_in_order_or_the_first_error_does() {
    in_time(|| {
        let runtime = threads(2);
        let tasks: Vec<Task<u64>> = (0..100).map(|i| runtime.spawn(add, (i, 1))).collect();
        let sum = |values: Vec<Value<u64>>| values.iter().map(|value| **value).sum::<u64>();
        assert_eq!(sum(poniard::fetch_all(&tasks).expect("no failure")), 5050);
        assert_eq!(poniard::fetch_all(Vec::<Task<u64>>::new()).expect("no failure").len(), 0);
        let moved = poniard::fetch_all(tasks).expect("no failure");
        assert!(moved.into_iter().all(|value| value.try_unwrap().is_ok()), "the handles are gone");
        let open = occupy(&runtime);
        let fails = |name: &str| runtime.task(|| -> Result<u64, String> { Err("no".into()) }, ()).name(name).spawn();
        let never = runtime.spawn(|_: &()| 1u64, (runtime.spawn(gate().1, ()),));
        let tasks = [runtime.spawn(add, (1, 1)), fails("first"), never, fails("second")];
        assert_eq!(poniard::fetch_all(&tasks).expect_err("two fail").task(), "first");
        drop(open);
    });
}

#[test]
fn one_of_many_is_enough() {
    in_time(|| {
        let runtime = threads(3);
        let gates: Vec<_> = (0..3).map(|_| gate()).collect();
        let (opens, waits): (Vec<_>, Vec<_>) = gates.into_iter().unzip();
        let mut opens: Vec<_> = opens.into_iter().map(Some).collect();
        let tasks: Vec<Task<()>> = waits.into_iter().map(|wait| runtime.spawn(wait, ())).collect();
        assert_eq!(poniard::wait_any::<()>(&[] as &[Task<()>]).expect("no circle"), None);
        opens[1] = None;
        assert_eq!(poniard::wait_any(&tasks).expect("no circle"), Some(1));
        assert_eq!(poniard::wait_any(&tasks.iter().collect::<Vec<_>>()).expect("no circle"), Some(1));
        opens[2] = None;
        assert_eq!(poniard::wait_any(&[&tasks[0], &tasks[2]]).expect("no circle"), Some(1));
        assert!(tasks[0].cancel());
        assert_eq!(poniard::wait_any(&tasks[..1]).expect("no circle"), Some(0), "an error is an end");
    });
}

#[test]
fn tasks_come_in_the_order_in_which_they_finish() {
    in_time(|| {
        let runtime = threads(3);
        let (opens, waits): (Vec<_>, Vec<_>) = (0..3).map(|_| gate()).unzip();
        let tasks: Vec<Task<()>> = waits.into_iter().map(|wait| runtime.spawn(wait, ())).collect();
        let mut finished = poniard::as_finished(tasks);
        assert_eq!(finished.len(), 3);
        let mut opens: Vec<_> = opens.into_iter().map(Some).collect();
        for place in [1, 2, 0] {
            opens[place] = None;
            let (index, outcome) = finished.next().expect("there is one left");
            assert_eq!(index, place);
            outcome.expect("no failure");
        }
        assert!(finished.next().is_none());
        let failed = runtime.spawn(|| -> Result<(), String> { Err("no".into()) }, ());
        let outcomes: Vec<_> = poniard::as_finished([failed]).map(|(index, outcome)| (index, outcome.is_err())).collect();
        assert_eq!(outcomes, [(0, true)]);
    });
}

#[test]
fn inside_a_task_of_one_thread_waiting_for_many_gets_on() {
    in_time(|| {
        let runtime = threads(1);
        let task = runtime.spawn(
            || {
                let chain = || {
                    let mut last = poniard::spawn(add, (0, 0));
                    for _ in 0..100 {
                        last = poniard::spawn(add, (last, 1));
                    }
                    last
                };
                let tasks: Vec<Task<u64>> = (0..20).map(|_| chain()).collect();
                let any = poniard::wait_any(&tasks).expect("no circle").expect("there are some");
                assert!(tasks[any].is_finished());
                let finished: u64 = poniard::as_finished(tasks.clone()).map(|(_, outcome)| *outcome.expect("no failure")).sum();
                let fetched: u64 = poniard::fetch_all(tasks).expect("no failure").iter().map(|value| **value).sum();
                (finished, fetched)
            },
            (),
        );
        assert_eq!(*task.fetch().expect("no failure"), (2000, 2000));
        // Deeper than a slot has threads, so that waiting may not take one each.
        fn down(n: u64) -> u64 {
            match n {
                0 => 0,
                _ => {
                    let tasks = [poniard::spawn(down, (n - 1,))];
                    poniard::wait_any(&tasks).expect("no circle");
                    1 + *tasks[0].fetch().expect("no failure")
                }
            }
        }
        assert_eq!(*runtime.spawn(down, (500,)).fetch().expect("no failure"), 500);
    });
}

#[test]
fn waiting_for_oneself_among_others_is_found() {
    in_time(|| {
        let runtime = threads(1);
        let (give, take) = mpsc::channel::<Task<u64>>();
        let take = Mutex::new(take);
        let task = runtime.spawn(
            move || {
                let own = take.lock().expect("not poisoned").recv().expect("sent below");
                let dependent = poniard::spawn(add, (&own, 1));
                let error = poniard::wait_any(&[own.clone(), dependent.clone()]).expect_err("it is within both");
                assert!(matches!(error.kind(), FailureKind::WaitsForItself));
                let other = poniard::spawn(add, (1, 1));
                assert_eq!(poniard::wait_any(&[own.clone(), other.clone()]).expect("there is another"), Some(1));
                let fresh = poniard::spawn(add, (1, 1));
                let places: Vec<_> = poniard::as_finished([own, fresh, dependent]).map(|(place, outcome)| (place, kind(outcome))).collect();
                assert_eq!(places[0], (1, "a value".into()));
                assert!(places[1..].iter().all(|(_, kind)| kind == "WaitsForItself"), "{places:?}");
                1u64
            },
            (),
        );
        give.send(task.clone()).expect("it listens");
        assert_eq!(*task.fetch().expect("no failure"), 1);
    });
}

#[test]
fn tasks_that_wait_for_one_of_each_other_in_a_circle_do_not_hang() {
    in_time(|| {
        let runtime = threads(2);
        let (give, take): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel::<Task<bool>>()).unzip();
        let meet = Arc::new(Barrier::new(2));
        let tasks: Vec<Task<bool>> = take
            .into_iter()
            .map(|take: Receiver<_>| {
                let (take, meet) = (Mutex::new(take), Arc::clone(&meet));
                runtime.spawn(
                    move || {
                        let other = take.lock().expect("not poisoned").recv().expect("sent below");
                        meet.wait();
                        poniard::wait_any(&[other]).is_err()
                    },
                    (),
                )
            })
            .collect();
        give[0].send(tasks[1].clone()).expect("it listens");
        give[1].send(tasks[0].clone()).expect("it listens");
        let errors = tasks.iter().filter(|task| *task.fetch().expect("no failure").as_ref()).count();
        assert!(errors >= 1, "one of them is told, and ends the circle");
    });
}

// Tasks of tasks.

#[test]
fn a_flattened_task_has_the_inner_ones_value_moved_or_shared() {
    #[derive(Data)]
    struct Unique(u64);
    in_time(|| {
        for count in [1, 2] {
            let runtime = threads(count);
            let flat = runtime.spawn(|| poniard::spawn(|| Unique(1), ()), ()).flatten();
            assert_eq!(*runtime.spawn(|unique: &Unique| unique.0 + 1, (&flat,)).fetch().expect("no failure"), 2);
            assert_eq!(flat.fetch().expect("no failure").0, 1);
            // Moved out where nobody else uses it.
            let flat = runtime.spawn(|| poniard::spawn(Counted::new, ()), ()).flatten();
            let counted = flat.take().expect("no failure");
            assert_eq!((counted.made.load(Ordering::SeqCst), counted.alive.load(Ordering::SeqCst)), (1, 1));
            // Somebody else uses it.
            let inner = runtime.spawn(Counted::new, ());
            let other = inner.clone();
            let flat = runtime.spawn(move || other.clone(), ()).flatten();
            let counted = flat.fetch().expect("no failure").try_unwrap();
            let value = counted.err().expect("it is shared");
            assert!(std::ptr::eq(&*value, &*inner.fetch().expect("no failure")), "and not copied");
            // Of a task that has finished, twice, by value.
            let nested = runtime.value(runtime.value(runtime.value(3u64)));
            assert_eq!(
                *runtime.spawn(add, (nested.clone().flatten().flatten(), nested.flatten().flatten())).fetch().expect("no failure"),
                6
            );
        }
    });
}

#[test]
fn a_flattened_task_has_the_errors_of_both() {
    in_time(|| {
        let runtime = threads(1);
        let fails = |name: &'static str| move || -> Result<u64, String> { Err(name.into()) };
        let inner =
            runtime.spawn(move || poniard::current().expect("a task").task(fails("inner"), ()).name("the inner one").spawn(), ()).flatten();
        let error = inner.fetch().expect_err("the inner one fails");
        assert_eq!((error.root_task(), error.reason().as_str()), ("the inner one", "inner"));
        assert!(error.task().starts_with("flatten of closure"), "{error}");
        let broken = || -> Result<Task<u64>, String> { Err("outer".into()) };
        let error = runtime.task(broken, ()).name("the outer one").spawn().flatten().fetch().expect_err("the outer one fails");
        assert_eq!((error.root_task(), error.reason().as_str()), ("the outer one", "outer"));
    });
}

#[test]
fn a_flattened_task_can_be_cancelled_or_dropped_in_every_state() {
    in_time(|| {
        let runtime = threads(1);
        for dropped in [false, true] {
            for begun in [false, true] {
                let (open, wait) = gate();
                let value = Counted::new();
                let alive = value.alive();
                let inner = move || {
                    wait();
                    value
                };
                let (say, hear) = mpsc::channel();
                let (open_outer, wait_outer) = gate();
                let outer = runtime.spawn(
                    move || {
                        let inner = poniard::spawn(inner, ());
                        say.send(()).expect("the test listens");
                        wait_outer();
                        inner
                    },
                    (),
                );
                hear.recv().expect("it begins");
                let flat = outer.clone().flatten();
                let dependent = runtime.spawn(|_: &Counted| (), (&flat,));
                let mut open_outer = Some(open_outer);
                if begun {
                    open_outer = None;
                    outer.wait().expect("no failure");
                }
                let dependent = (!dropped).then_some(dependent);
                if dropped {
                    drop(flat);
                } else {
                    assert!(flat.cancel());
                    assert!(!flat.cancel());
                    assert_eq!(kind(flat.fetch()), "Cancelled");
                }
                drop((outer, open_outer));
                drop(open);
                if let Some(dependent) = dependent {
                    assert_eq!(kind(dependent.fetch()), "Cancelled");
                }
                runtime.wait_idle();
                runtime.spawn(|| (), ()).wait().expect("the worker has let go of everything");
                assert_eq!(alive.load(Ordering::SeqCst), 0);
            }
        }
    });
}

#[test]
fn a_task_whose_result_is_its_own_flattened_one_is_a_circle() {
    in_time(|| {
        let runtime = threads(2);
        for detours in [0, 1, 3] {
            let (give, take) = mpsc::channel::<Task<u64>>();
            let itself = runtime.spawn(move || take.recv().map_err(|error| error.to_string()), ()).flatten();
            let others = (0..detours).fold(itself.clone(), |task, _| runtime.value(task).flatten());
            give.send(others.clone()).expect("the task listens");
            let is_circle = |error: &poniard::TaskError| matches!(error.root().kind(), FailureKind::WaitsForItself);
            let inside = runtime.spawn(move || others.wait().is_err_and(|error| is_circle(&error)), ());
            assert!(inside.take().expect("no failure"), "and it does not look at it again and again");
            assert!(itself.wait().is_err_and(|error| is_circle(&error)), "outside, too");
        }
    });
}

#[test]
fn chains_of_tasks_of_tasks_have_any_length_and_hold_up_no_worker() {
    fn down(n: u64) -> Task<u64> {
        match n {
            0 => poniard::spawn(|| 7, ()),
            _ => poniard::spawn(down, (n - 1,)).flatten(),
        }
    }
    fn broken(n: u64) -> Result<Task<u64>, String> {
        match n {
            0 => Err("the last one".into()),
            _ => Ok(poniard::spawn(broken, (n - 1,)).flatten()),
        }
    }
    /// Deeper than a slot has threads.
    fn waits(n: u64) -> u64 {
        if n == 0 { 0 } else { 1 + *poniard::spawn(move || poniard::spawn(waits, (n - 1,)), ()).flatten().fetch().expect("no failure") }
    }
    in_time(|| {
        for count in [1, 2] {
            let runtime = threads(count);
            let last = runtime.spawn(down, (100_000,)).flatten();
            assert_eq!(last.take().expect("no failure"), 7);
            let inside = runtime.spawn(|| *poniard::spawn(down, (100_000,)).flatten().fetch().expect("no failure"), ());
            assert_eq!(*inside.fetch().expect("no failure"), 7);
            let error = runtime.spawn(broken, (100_000,)).flatten().fetch().expect_err("it fails");
            assert_eq!(error.reason(), "the last one");
            let cancelled = runtime.spawn(down, (100_000,)).flatten();
            cancelled.cancel();
            drop(cancelled);
            assert_eq!(*runtime.spawn(waits, (500,)).fetch().expect("no failure"), 500);
        }
    });
}

// All of it at once.

#[test]
fn everything_is_dropped_once_whatever_happens_to_the_handles() {
    const ROUNDS: usize = 1500;
    const THREADS: usize = 8;
    in_time(|| {
        let values: Vec<_> = (0..THREADS).map(|_| Counted::new()).collect();
        let alive: Vec<_> = values.iter().map(Counted::alive).collect();
        let runtime = threads(3);
        std::thread::scope(|scope| {
            for (thread, value) in values.into_iter().enumerate() {
                let runtime = &runtime;
                scope.spawn(move || {
                    // Xorshift. Source: Marsaglia, J. Stat. Software 8(14), 2003.
                    let mut random = 0x9e37_79b9 + thread as u64;
                    let mut choose = move |count: u64| {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        random % count
                    };
                    let mut kept: Vec<Task<Counted>> = Vec::new();
                    for _ in 0..ROUNDS {
                        let pass = |value: Counted| {
                            if poniard::is_cancelled() { Err(BoxError::from("early")) } else { Ok(value) }
                        };
                        let argument = value.clone();
                        let task = match (choose(6), kept.last()) {
                            (0, Some(before)) => runtime.spawn(|value: &Counted| value.clone(), (before,)),
                            (1, Some(before)) => runtime.spawn(pass, (before,)),
                            (2, _) => runtime.spawn(move || poniard::spawn(move || argument.clone(), ()), ()).flatten(),
                            (3, _) => runtime.task(pass, (argument,)).timeout(Duration::from_micros(choose(300))).spawn(),
                            (4, _) => runtime.task(pass, (argument,)).retries(2).backoff(Duration::from_micros(10)).spawn(),
                            _ => runtime.spawn(pass, (argument,)),
                        };
                        match choose(9) {
                            0 => drop(task),
                            1 => task.detach(),
                            2 => assert!(task.cancel() || task.is_finished()),
                            3 => drop(task.fetch()),
                            4 => drop(task.take()),
                            5 => {
                                let mut future = task.into_future();
                                let pending = Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())).is_pending();
                                if pending && choose(2) == 0 {
                                    drop(block_on(future));
                                }
                            }
                            6 if choose(40) == 0 => runtime.cancel_all(),
                            7 => {
                                kept.push(task);
                                drop(poniard::wait_any(&kept[kept.len().saturating_sub(3)..]));
                            }
                            _ => kept.push(task),
                        }
                        if kept.len() > 20 {
                            let others = kept.split_off(choose(20) as usize);
                            if choose(2) == 0 {
                                for task in &others {
                                    task.cancel();
                                }
                            }
                            poniard::as_finished(others).for_each(drop);
                        }
                    }
                });
            }
        });
        drop(runtime);
        for alive in alive {
            assert_eq!(alive.load(Ordering::SeqCst), 0);
        }
    });
}

#[test]
fn runtimes_end_while_their_tasks_are_cancelled() {
    in_time(|| {
        let dropped = Counted::new();
        let alive = dropped.alive();
        for round in 0..200 {
            let runtime: Runtime = threads(2);
            let tasks: Vec<Task<Counted>> = (0..20)
                .map(|_| {
                    let value = dropped.clone();
                    runtime.spawn(move || value, ())
                })
                .collect();
            let dependents: Vec<Task<Counted>> = tasks.iter().map(|task| runtime.spawn(|value: Counted| value, (task,))).collect();
            std::thread::scope(|scope| {
                let cancel = |tasks: &[Task<Counted>]| {
                    for task in tasks {
                        task.cancel();
                    }
                };
                let tasks = &tasks;
                scope.spawn(move || cancel(tasks));
                scope.spawn(move || {
                    if round % 3 == 0 {
                        cancel(&dependents)
                    }
                });
                scope.spawn(move || {
                    if round % 2 == 0 {
                        runtime.shutdown_now()
                    }
                });
            });
            drop(tasks);
        }
        drop(dropped);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}

/// Ways for a body to end that was told to stop.
#[derive(Clone, Copy, Debug)]
enum Way {
    Value,
    OwnError,
    Check,
    Panic,
}

impl Way {
    const ALL: [Self; 4] = [Self::Value, Self::OwnError, Self::Check, Self::Panic];

    /// Runs until it is told to stop.
    fn end(self) -> Result<u64, BoxError> {
        while !poniard::is_cancelled() {
            std::hint::spin_loop();
        }
        match self {
            Self::Value => Ok(1),
            Self::OwnError => Err("I stop".into()),
            Self::Check => Err(poniard::check_cancelled().expect_err("it was told").into()),
            Self::Panic => std::panic::resume_unwind(Box::new("I stop")),
        }
    }
}

#[test]
fn a_body_that_stops_because_it_was_told_to_has_no_outcome_of_its_own() {
    // The body may see the flag, and end, before whoever cancels has made the error known.
    in_time(|| {
        let runtime = threads(2);
        for (round, way) in Way::ALL.into_iter().cycle().take(1200).enumerate() {
            let (says, began) = std::sync::mpsc::channel();
            let body = move || {
                says.send(()).expect("the test listens");
                way.end()
            };
            let task = if round % 8 < 4 {
                runtime.spawn(body, ())
            } else {
                // "Finished" means that the body is over: whoever cancels it only tells.
                runtime.sequential(|| runtime.spawn(body, ()))
            };
            began.recv().expect("it begins");
            assert!(task.cancel(), "{way:?}");
            assert_eq!(kind(task.fetch()), "Cancelled", "{way:?}");
            assert!(!task.cancel(), "for the second time");
        }
    });
}

#[test]
fn a_body_that_stops_at_its_deadline_has_no_outcome_of_its_own() {
    in_time(|| {
        let runtime = threads(2);
        for (round, way) in Way::ALL.into_iter().cycle().take(400).enumerate() {
            let timed = || runtime.task(move || way.end(), ()).timeout(Duration::from_micros(200)).spawn();
            let task = if round % 8 < 4 { timed() } else { runtime.sequential(timed) };
            assert_eq!(kind(task.fetch()), "DeadlineExceeded", "{way:?}");
            assert!(!task.cancel(), "too late");
        }
    });
}

#[test]
fn whoever_cancels_a_task_of_a_sequence_is_told_the_truth() {
    // Its body ends at about the time at which it is cancelled: it has a value, or its canceller ended it.
    in_time(|| {
        let runtime = threads(2);
        for _ in 0..3000 {
            let (says, began) = std::sync::mpsc::channel();
            let body = move || says.send(()).expect("the test listens");
            let task = runtime.sequential(|| runtime.spawn(body, ()));
            began.recv().expect("it begins");
            let cancelled = task.cancel();
            assert_eq!(kind(task.fetch()), if cancelled { "Cancelled" } else { "a value" });
        }
    });
}

#[test]
fn a_circle_of_flattened_tasks_is_dropped() {
    in_time(|| {
        let alive = Arc::new(());
        let runtime = threads(2);
        let own = Arc::new(OnceLock::<Task<u64>>::new());
        let body = {
            let (own, alive) = (Arc::clone(&own), Arc::clone(&alive));
            move || {
                let _alive = &alive;
                own.wait().clone()
            }
        };
        let task = runtime.spawn(body, ()).flatten();
        own.set(task).expect("set once");
        drop(runtime);
        assert_eq!(kind(own.get().expect("set").wait()), "WaitsForItself");
        drop(own);
        assert_eq!(Arc::strong_count(&alive), 1);
    });
}

#[test]
fn a_flattened_task_that_would_wait_for_itself_fails() {
    type Later = Arc<OnceLock<Task<u64>>>;
    /// Returns what is put in later, when it is there.
    fn returns(later: &Later) -> impl FnOnce() -> Task<u64> + Send + Sync + 'static {
        let later = Arc::clone(later);
        move || later.wait().clone()
    }
    in_time(|| {
        for count in [1, 2] {
            // Itself.
            let runtime = threads(count);
            let own = Later::default();
            let task = runtime.task(returns(&own), ()).name("ouroboros").spawn().flatten();
            own.set(task.clone()).expect("set once");
            let error = task.fetch().expect_err("there is no end to it");
            assert!(matches!(error.kind(), FailureKind::WaitsForItself), "{error}");
            assert!(error.task().contains("ouroboros"), "{error}");

            // Each other.
            let laters = [(); 3].map(|()| Later::default());
            let tasks = [0, 1, 2].map(|index| runtime.task(returns(&laters[(index + 1) % 3]), ()).occupancy(0.0).spawn().flatten());
            let dependent = runtime.spawn(add, (&tasks[1], 1));
            for (later, task) in laters.iter().zip(&tasks) {
                later.set(task.clone()).expect("set once");
            }
            for task in &tasks {
                assert_eq!(kind(task.fetch()), "WaitsForItself");
            }
            assert_eq!(kind(dependent.fetch()), "WaitsForItself");

            // By way of a task that takes its result, asked for inside a task.
            let own = Later::default();
            let (handle, later) = (runtime.handle(), Arc::clone(&own));
            let body = move || handle.spawn(add, (later.wait(), 1));
            let task = runtime.spawn(body, ()).flatten();
            own.set(task.clone()).expect("set once");
            let inside = runtime.spawn(move || kind(task.fetch()), ());
            assert_eq!(*inside.fetch().expect("no failure"), "WaitsForItself");
            drop(runtime);
        }
    });
}
