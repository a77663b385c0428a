//! Rare meetings of threads, values that misbehave, and numbers that grow: each test says what once went wrong.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use poniard::{AllocateError, Buffer, Data, Erased, ErasedExt, Gather, Runtime, Task, buffer};
use poniard_tests::{add, in_time, threads};

/// Time for another thread to go to sleep or to come back; only a missed error depends on it, never a false one.
fn a_moment() {
    std::thread::sleep(Duration::from_millis(50));
}

#[test]
fn a_task_that_bypasses_the_queue_survives_the_return_of_a_waiting_thread() {
    // One slot. `waiting` lends it to a spare thread, which runs `first`; while that runs, `waiting` comes back. `second` then lay in the
    // bypass of the slot, and `waiting` put its own successor over it.
    in_time(|| {
        let (one, other) = (threads(1), threads(1));
        let (open, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let far = other.spawn(move || gate.lock().expect("not poisoned").recv().is_ok(), ());
        let (started, has_started) = mpsc::channel();
        let waiting = {
            let far = far.clone();
            one.spawn(
                move || {
                    started.send(()).expect("the test listens");
                    *far.fetch().expect("no failure")
                },
                (),
            )
        };
        let after_waiting = one.spawn(|done: bool| done, (&waiting,));
        has_started.recv().expect("it runs");
        let first = one.spawn(
            move || {
                open.send(()).expect("it listens");
                while !far.is_finished() {
                    std::thread::yield_now();
                }
                a_moment();
                1
            },
            (),
        );
        let second = one.spawn(add, (first, 1));
        assert_eq!(*second.fetch().expect("no failure"), 2);
        assert!(*after_waiting.fetch().expect("no failure"));
    });
}

#[test]
fn threads_that_wait_beyond_the_limit_give_the_slot_back() {
    // One slot, many tasks on it that wait for the first, and the first waits for a task elsewhere: when no more threads were
    // to be had, the last one kept the slot, and the first never got it back.
    in_time(|| {
        let (one, other) = (threads(1), threads(1));
        let (open, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let far = other.spawn(move || gate.lock().expect("not poisoned").recv().is_ok(), ());
        let waiting_count = Arc::new(AtomicUsize::new(0));
        let (started, has_started) = mpsc::channel();
        let first = one.spawn(
            move || {
                started.send(()).expect("the test listens");
                *far.fetch().expect("no failure")
            },
            (),
        );
        has_started.recv().expect("it runs");
        let others: Vec<_> = (0..80)
            .map(|_| {
                let (first, waiting_count) = (first.clone(), Arc::clone(&waiting_count));
                one.spawn(
                    move || {
                        waiting_count.fetch_add(1, Ordering::Relaxed);
                        *first.fetch().expect("no failure")
                    },
                    (),
                )
            })
            .collect();
        while waiting_count.load(Ordering::Relaxed) < 63 {
            std::thread::yield_now();
        }
        a_moment();
        open.send(()).expect("it listens");
        for task in others {
            assert!(*task.fetch().expect("no failure"));
        }
    });
}

#[test]
fn a_runtime_may_end_while_another_still_hands_it_a_task() {
    // The other runtime's worker looked at this one's sleepers after the task was in its queue, when this one could be gone
    // (a use after free that AddressSanitizer sees).
    let one = threads(2);
    let until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until {
        let other = threads(1);
        let far = one.spawn(std::thread::yield_now, ());
        let near: Vec<_> = (0..4).map(|_| other.spawn(|_: &()| 1u64, (&far,))).collect();
        for task in &near {
            task.wait().expect("no failure");
        }
    }
}

#[test]
fn an_arena_that_lends_too_little_is_refused() {
    #[derive(Debug)]
    struct Mean;
    impl poniard::Arena for Mean {
        fn allocate(&self, _: u64) -> Result<poniard::RawBuffer, AllocateError> {
            buffer::zeroed::<u8>(1).as_raw().allocate_alike(8)
        }
    }
    assert!(Buffer::<u64>::zeroed_in(&Mean, 1).is_ok());
    let error = Buffer::<u64>::zeroed_in(&Mean, 2).expect_err("the memory is too small");
    assert!(error.to_string().contains("16 bytes"), "{error}");
}

#[test]
fn constants_are_part_of_a_types_key() {
    #[derive(Data)]
    struct Matrix<const ROWS: usize, const COLUMNS: usize>(Box<[[f64; COLUMNS]; ROWS]>);
    let small = Erased::of(Matrix::<1, 2>(Box::new([[1.0; 2]; 1])));
    assert!(small.get::<Matrix<3, 6>>().is_none());
    assert_eq!(small.get::<Matrix<1, 2>>().map(|matrix| matrix.0[0]), Some([1.0; 2]));
    #[derive(Data)]
    struct Wide<const N: u128>(Box<u8>);
    assert_ne!(Wide::<0>::KEY, Wide::<{ 1 << 64 }>::KEY);
    assert_eq!(*Erased::of(Wide::<0>(Box::new(1))).get::<Wide<0>>().expect("the same type").0, 1);
    assert_ne!(<[[(); 2]; 1]>::KEY, <[[(); 0]; 0]>::KEY);
    assert_ne!(<[u8; 2]>::KEY, <[u16; 1]>::KEY);
}

#[test]
fn types_of_one_name_in_two_functions_have_two_keys() {
    fn number() -> Erased {
        #[derive(Data)]
        struct Local(usize);
        Erased::of(Local(8))
    }
    fn text(erased: &Erased) -> Option<usize> {
        #[derive(Data)]
        struct Local(Box<str>);
        let _ = Local("text".into());
        erased.get::<Local>().map(|local| local.0.len())
    }
    fn same(erased: Erased) -> bool {
        #[derive(Data)]
        struct Local(Box<usize>);
        let own = Erased::of(Local(Box::new(1)));
        assert_eq!(own.get::<Local>().map(|local| *local.0), Some(1));
        erased.into_value::<Local>().is_ok()
    }
    assert_eq!(text(&number()), None);
    assert!(!same(number()));
    macro_rules! local {
        ($type:ty) => {{
            #[derive(Data)]
            struct Local($type);
            Local::KEY
        }};
    }
    let (one, two) = (local!(Box<u8>), local!(usize));
    assert_ne!(one, two);
}

#[test]
fn an_error_whose_destructor_panics_takes_nothing_with_it() {
    // The worker unwound with its slot, and the runtime waited for it for ever.
    #[derive(Debug)]
    struct Grumpy;
    impl std::fmt::Display for Grumpy {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("grumpy")
        }
    }
    impl std::error::Error for Grumpy {}
    impl Drop for Grumpy {
        fn drop(&mut self) {
            panic!("not like this");
        }
    }
    in_time(|| {
        let runtime = threads(1);
        runtime.spawn(|| -> Result<u64, Grumpy> { Err(Grumpy) }, ()).detach();
        assert_eq!(*runtime.spawn(add, (1, 1)).fetch().expect("the worker goes on"), 2);
    });
}

#[test]
fn waiting_for_a_hundred_thousand_results_takes_time_in_proportion() {
    // All of them were looked at again for each one that was run: minutes.
    in_time(|| {
        let runtime = threads(1);
        let total = runtime.spawn(
            || {
                let parts: Vec<Task<u64>> = (0..100_000).map(|i| poniard::spawn(add, (i, 0))).collect();
                *poniard::spawn(|parts: Gather<'_, u64>| parts.iter().sum::<u64>(), (parts,)).fetch().expect("no failure")
            },
            (),
        );
        assert_eq!(*total.fetch().expect("no failure"), 100_000 * 99_999 / 2);
    });
}

#[test]
fn results_that_a_task_fetched_and_dropped_do_not_pile_up() {
    // The queue kept a reference to each task that the fetching thread had run itself, and so its result.
    #[derive(Data)]
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    fn counted(alive: Arc<AtomicUsize>) -> Counted {
        alive.fetch_add(1, Ordering::Relaxed);
        Counted(alive)
    }
    let runtime = threads(1);
    let most = runtime.spawn(
        || {
            let alive = Arc::new(AtomicUsize::new(0));
            let mut most = 0;
            for _ in 0..1000 {
                let (one, two) = (Arc::clone(&alive), Arc::clone(&alive));
                let one = poniard::spawn(move || counted(one), ());
                let two = poniard::spawn(move || counted(two), ());
                one.wait().expect("no failure");
                two.wait().expect("no failure");
                drop((one, two));
                most = most.max(alive.load(Ordering::Relaxed));
            }
            most
        },
        (),
    );
    let most = *most.fetch().expect("no failure");
    assert!(most < 10, "{most} results were alive at once");
}

#[test]
fn destructors_of_results_may_spawn_and_wait() {
    // They run wherever the last reference goes: in a task, between two tasks, after the last one.
    #[derive(Data)]
    struct Busy(Arc<AtomicUsize>);
    impl Drop for Busy {
        fn drop(&mut self) {
            let Some(handle) = poniard::current() else { return };
            assert_eq!(*handle.spawn(add, (1, 1)).fetch().expect("no failure"), 2);
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    in_time(|| {
        let done = Arc::new(AtomicUsize::new(0));
        for count in [1, 2, 5] {
            let runtime = threads(count);
            for _ in 0..300 {
                let one = Arc::clone(&done);
                // Dropped by the worker: with a handle that is given up, whoever comes last would drop it.
                runtime.spawn_detached(move || Busy(one), ());
                let two = Arc::clone(&done);
                let made = runtime.spawn(move || Busy(two), ());
                runtime.spawn(|_: &Busy| poniard::spawn(add, (1, 2)).wait().is_ok(), (made,)).detach();
            }
        }
        assert_eq!(done.load(Ordering::Relaxed), 3 * 600);
    });
}

#[test]
fn dropping_a_runtime_inside_a_task_of_another_lends_the_slot() {
    // The other runtime's task depends on one that only this thread's slot can run.
    in_time(|| {
        let one = threads(1);
        let task = one.spawn(
            || {
                let other = threads(1);
                let near = poniard::spawn(add, (1, 2));
                let far = other.spawn(add, (near, 3));
                drop(other);
                far.is_finished()
            },
            (),
        );
        assert!(*task.fetch().expect("no failure"));
    });
}

#[test]
fn a_thread_may_wait_while_it_ends() {
    // The destructor of a thread-local waits for a task, when the thread's own place to sleep is gone already.
    struct Last(Option<Task<u64>>);
    impl Drop for Last {
        fn drop(&mut self) {
            let task = self.0.take().expect("put below");
            assert_eq!(*task.fetch().expect("no failure"), 5);
            ENDED.store(true, Ordering::SeqCst);
        }
    }
    static ENDED: AtomicBool = AtomicBool::new(false);
    thread_local! { static LAST: std::cell::RefCell<Last> = const { std::cell::RefCell::new(Last(None)) }; }
    let runtime = threads(1);
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let slow = runtime.spawn(
        || {
            a_moment();
            1u64
        },
        (),
    );
    let last = runtime.spawn(
        move || {
            gate.lock().expect("not poisoned").recv().expect("sent below");
            5u64
        },
        (),
    );
    let thread = std::thread::spawn(move || {
        LAST.with(|slot| slot.borrow_mut().0 = Some(last));
        slow.wait().expect("no failure");
    });
    a_moment();
    a_moment();
    open.send(()).expect("it listens");
    thread.join().expect("no failure");
    assert!(ENDED.load(Ordering::SeqCst));
}

#[test]
fn a_nested_task_finds_as_much_stack_as_functions_commonly_use() {
    // A task that needs a quarter of a mebibyte ran on the last of its thread's stack.
    fn deep(n: u64) -> u64 {
        let block = std::hint::black_box([n as u8; 256 << 10]);
        let below = if n == 0 { 0 } else { *poniard::spawn(deep, (n - 1,)).fetch().expect("no failure") };
        below + u64::from(std::hint::black_box(&block)[n as usize] == n as u8)
    }
    let runtime = threads(1);
    assert_eq!(*runtime.spawn(deep, (100,)).fetch().expect("no failure"), 101);
}

#[test]
fn a_foreign_spawn_gets_its_turn_beside_a_task_that_respawns_itself() {
    // Once any task had a priority, a worker looked at others' spawns only when it had none of its own.
    fn again(stop: Arc<AtomicBool>) {
        if !stop.load(Ordering::Relaxed) {
            poniard::spawn(move || again(stop), ()).detach();
        }
    }
    in_time(|| {
        let runtime = threads(1);
        runtime.task(add, (1, 1)).priority(poniard::Priority::High).spawn().wait().expect("no failure");
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        runtime.spawn(move || again(seen), ()).detach();
        assert_eq!(*runtime.spawn(add, (1, 2)).fetch().expect("no failure"), 3);
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_worker_that_gives_its_slot_back_leaves_no_task_unseen() {
    // A push relies on a worker that searches. When that one stopped searching because a waiting thread came back, nobody was woken.
    in_time(|| {
        let until = Instant::now() + Duration::from_millis(700);
        let (one, other) = (threads(2), threads(1));
        while Instant::now() < until {
            let far = other.spawn(std::thread::yield_now, ());
            let (ask, asked) = mpsc::channel::<()>();
            let asked = Mutex::new(asked);
            let waiting = {
                one.spawn(
                    move || {
                        far.wait().expect("no failure");
                        // Occupies its slot until the push below has been run by the other worker.
                        asked.lock().expect("not poisoned").recv().expect("sent below");
                    },
                    (),
                )
            };
            // Work for the spare thread, so that the slot is lent.
            let filler = one.spawn(add, (1, 1));
            filler.wait().expect("no failure");
            let pushed = one.spawn(add, (2, 2));
            pushed.wait().expect("no failure");
            ask.send(()).expect("it listens");
            waiting.wait().expect("no failure");
        }
    });
}

#[test]
fn runtimes_are_built_and_dropped_under_load() {
    let until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until {
        let runtime: Runtime = threads(3);
        let inner = runtime.spawn(|| *poniard::spawn(add, (1, 2)).fetch().expect("no failure"), ());
        drop(runtime);
        assert_eq!(*inner.fetch().expect("no failure"), 3);
    }
}

#[test]
fn an_argument_that_cannot_be_converted_is_not_waited_for() {
    // It was counted as a task before its conversion panicked.
    struct Bad;
    impl poniard::IntoArg<u64> for Bad {
        fn into_slots(self) -> <u64 as poniard::parameter::Stored>::Slots {
            panic!("no number")
        }
    }
    in_time(|| {
        let runtime = threads(1);
        let spawned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.spawn(add, (1, Bad))));
        assert!(spawned.is_err());
    });
}

#[test]
fn of_two_tasks_spawned_at_once_none_waits_behind_the_other() {
    // A worker that had been woken stopped counting as one that searches before it took a batch from the shared queue: the rest lay in its own
    // queue while it ran the first task, and the other worker slept on. Always once a task had a priority, else every 61st time.
    in_time(|| {
        let runtime = threads(2);
        for round in 0..150 {
            if round == 75 {
                runtime.task(add, (1, 1)).priority(poniard::Priority::High).spawn().wait().expect("no failure");
            }
            if round % 75 > 60 {
                std::thread::sleep(Duration::from_millis(2));
            }
            let (open, gate) = mpsc::channel::<()>();
            let gate = Mutex::new(gate);
            let first = runtime.spawn(move || gate.lock().expect("not poisoned").recv().is_ok(), ());
            runtime.spawn(add, (1, 1)).wait().expect("it finds the other worker");
            open.send(()).expect("it listens");
            assert!(*first.fetch().expect("no failure"));
        }
    });
}
