//! Tasks that change data in place: they see it as if they ran in the order of their spawns.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};

use poniard::{FailureKind, Mutable, overwrite, read, write};
use poniard_tests::threads;
use proptest::prelude::*;

fn append(values: &mut Vec<u64>, value: u64) {
    values.push(value);
}

fn copy(values: &[u64]) -> Vec<u64> {
    values.to_vec()
}

/// One access of a made-up program: which of the places, and how.
#[derive(Clone, Debug)]
enum Step {
    Read(usize),
    Append(usize, u64),
    Replace(usize, u64),
    /// Appends the length of the first to the second.
    Both(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    const PLACES: usize = 3;
    let step = prop_oneof![
        (0..PLACES).prop_map(Step::Read),
        (0..PLACES, any::<u64>()).prop_map(|(place, value)| Step::Append(place, value)),
        (0..PLACES, any::<u64>()).prop_map(|(place, value)| Step::Replace(place, value)),
        (0..PLACES, 1..PLACES).prop_map(|(one, more)| Step::Both(one, (one + more) % PLACES)),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_order_of_accesses_means_what_it_would_one_after_the_other(steps in steps(), count in 1usize..4) {
        let runtime = threads(count);
        let places = [(); 3].map(|()| Mutable::new(Vec::new()));
        let mut expected = [(); 3].map(|()| Vec::new());
        let (mut seen, mut wanted) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Read(place) => {
                    seen.push(runtime.spawn(copy, (read(&places[place]),)));
                    wanted.push(expected[place].clone());
                }
                Step::Append(place, value) => {
                    drop(runtime.spawn(append, (write(&places[place]), value)));
                    expected[place].push(value);
                }
                Step::Replace(place, value) => {
                    drop(runtime.spawn(|values: &mut Vec<u64>, value: u64| *values = vec![value], (overwrite(&places[place]), value)));
                    expected[place] = vec![value];
                }
                Step::Both(one, two) => {
                    let task = |one: &[u64], two: &mut Vec<u64>| two.push(one.len() as u64);
                    drop(runtime.spawn(task, (read(&places[one]), write(&places[two]))));
                    let length = expected[one].len() as u64;
                    expected[two].push(length);
                }
            }
        }
        for (seen, wanted) in seen.into_iter().zip(wanted) {
            prop_assert_eq!(seen.take().expect("no failure"), wanted);
        }
        for (place, expected) in places.into_iter().zip(expected) {
            prop_assert_eq!(&*place.fetch().expect("no failure"), &expected);
            prop_assert_eq!(place.take().expect("no failure"), expected);
        }
    }
}

#[test]
fn tasks_that_read_run_at_the_same_time_and_one_that_writes_alone() {
    let runtime = threads(2);
    let place = Mutable::new(vec![1u64]);
    // Both have to be inside before either can leave.
    let both = Arc::new(Barrier::new(2));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let both = Arc::clone(&both);
            runtime.spawn(
                move |values: &[u64]| {
                    both.wait();
                    values.len()
                },
                (read(&place),),
            )
        })
        .collect();
    drop(runtime.spawn(append, (write(&place), 2)));
    for reader in readers {
        assert_eq!(*reader.fetch().expect("no failure"), 1);
    }
    assert_eq!(place.take().expect("no failure"), [1, 2]);
}

#[test]
fn a_parameter_by_value_gets_a_copy() {
    let runtime = threads(1);
    let place = Mutable::new(vec![1u64]);
    let grown = runtime.spawn(
        |mut values: Vec<u64>| {
            values.push(9);
            values
        },
        (read(&place),),
    );
    assert_eq!(*grown.fetch().expect("no failure"), [1, 9]);
    assert_eq!(*place.fetch().expect("no failure"), [1]);
    // Of a task's result, too: `read` of it says no more than the task itself.
    assert_eq!(*runtime.spawn(copy, (read(&grown),)).fetch().expect("no failure"), [1, 9]);
}

#[test]
fn a_guard_holds_up_writers_that_come_later() {
    let runtime = threads(2);
    let place = Mutable::new(vec![1u64]);
    let guard = place.fetch().expect("nobody writes");
    let writer = runtime.spawn(append, (write(&place), 2));
    // Everything else that there is to do gets done, and the writer is not among it.
    for _ in 0..100 {
        runtime.spawn(|| (), ()).wait().expect("no failure");
    }
    assert!(!writer.is_finished());
    assert_eq!(*guard, [1]);
    drop(guard);
    writer.wait().expect("no failure");
    assert_eq!(*place.fetch().expect("no failure"), [1, 2]);
}

#[test]
fn after_a_writer_that_failed_only_an_overwrite_goes_on() {
    let runtime = threads(2);
    let place = Mutable::new(vec![1u64]);
    let broken =
        runtime.task(|_: &mut Vec<u64>| -> Result<(), String> { Err("out of ink".into()) }, (write(&place),)).name("print").spawn();
    let reader = runtime.spawn(copy, (read(&place),));
    let writer = runtime.spawn(append, (write(&place), 2));
    for error in [reader.fetch().expect_err("it depends"), writer.wait().map(|()| reader.clone()).expect_err("it depends")] {
        assert_eq!((error.root_task(), error.reason().as_str()), ("print", "out of ink"));
    }
    assert!(broken.wait().is_err());
    assert!(place.fetch().is_err());
    drop(runtime.spawn(|values: &mut Vec<u64>| *values = vec![7], (overwrite(&place),)));
    assert_eq!(*place.fetch().expect("it was overwritten"), [7]);
}

#[test]
fn one_task_cannot_change_a_place_that_it_has_twice() {
    let runtime = threads(1);
    let (one, two) = (Mutable::new(vec![1u64]), Mutable::new(vec![2u64]));
    let add = |a: &[u64], b: &[u64], c: &mut Vec<u64>| c.push(a[0] + b[0]);
    // Reading it twice is fine.
    runtime.spawn(add, (read(&one), read(&one), write(&two))).wait().expect("no failure");
    assert_eq!(*two.fetch().expect("no failure"), [2, 2]);
    let error = runtime.spawn(add, (read(&one), read(&two), write(&two))).wait().expect_err("it has one place twice");
    assert!(matches!(error.kind(), FailureKind::SamePlace { accesses: (2, 3) }), "{error}");
    assert!(error.to_string().contains("accesses 2 and 3 are to the same `Mutable`"), "{error}");
    // It left no trace.
    assert_eq!(two.take().expect("no failure"), [2, 2]);
}

#[test]
fn a_writer_that_is_cancelled_while_it_runs_ends_with_its_body() {
    let runtime = threads(2);
    let place = Mutable::new(vec![1u64]);
    let (says, began) = channel();
    let (go, waits) = channel::<()>();
    let waits = Mutex::new(waits);
    let writer = runtime.spawn(
        move |values: &mut Vec<u64>| {
            says.send(()).expect("the test listens");
            waits.lock().expect("not poisoned").recv().expect("the test sends");
            values.push(2);
        },
        (write(&place),),
    );
    began.recv().expect("it begins");
    assert!(writer.cancel());
    // Its body still has the value: a task that looked at it now would see it change.
    assert!(!writer.is_finished());
    let reader = runtime.spawn(copy, (read(&place),));
    assert!(!reader.is_finished());
    go.send(()).expect("it listens");
    assert!(matches!(writer.wait().expect_err("it was cancelled").kind(), FailureKind::Cancelled));
    assert!(reader.wait().is_err());
}

#[test]
fn a_writer_that_waits_can_be_cancelled_and_later_ones_fail() {
    let runtime = threads(1);
    let place = Mutable::new(vec![1u64]);
    let guard = place.fetch().expect("nobody writes");
    let writer = runtime.spawn(append, (write(&place), 2));
    let reader = runtime.spawn(copy, (read(&place),));
    assert!(writer.cancel());
    assert!(!writer.cancel());
    // It ended at once, and one that overwrites, which does not mind, changed what the guard was looking at.
    let next = runtime.spawn(|values: &mut Vec<u64>| *values = vec![3], (overwrite(&place),));
    runtime.spawn(|| (), ()).wait().expect("the worker finds nothing before that");
    assert!(!next.is_finished());
    assert_eq!(*guard, [1]);
    drop(guard);
    assert!(matches!(writer.wait().expect_err("it was cancelled").kind(), FailureKind::Cancelled));
    assert!(matches!(reader.wait().expect_err("it depends").root().kind(), FailureKind::Cancelled));
    next.wait().expect("no failure");
    assert_eq!(place.take().expect("no failure"), [3]);
}

#[test]
fn spawns_of_several_threads_that_touch_the_same_places_do_not_wait_for_each_other() {
    let runtime = threads(2);
    let places: Vec<_> = (0..4).map(|_| Mutable::new(0u64)).collect();
    let runs = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let (runtime, places, runs) = (&runtime, &places, &runs);
            scope.spawn(move || {
                for round in 0..500 {
                    let (one, two) = ((thread + round) % 4, (thread * 3 + round * 7 + 1) % 4);
                    if one != two {
                        let runs = Arc::clone(runs);
                        let task = move |a: &mut u64, b: &mut u64| {
                            runs.fetch_add(1, SeqCst);
                            *a += 1;
                            *b += 1;
                        };
                        drop(runtime.spawn(task, (write(&places[one]), write(&places[two]))));
                    }
                }
            });
        }
    });
    let total: u64 = places.into_iter().map(|place| place.take().expect("no failure")).sum();
    assert_eq!(total, 2 * runs.load(SeqCst) as u64);
    assert!(total > 0);
}

#[test]
fn waiting_for_a_place_that_ones_own_task_writes_is_an_error() {
    let runtime = threads(1);
    let place = Mutable::new(vec![1u64]);
    let same = place.clone();
    let task = runtime.spawn(
        move |values: &mut Vec<u64>| {
            values.push(2);
            same.fetch().is_err_and(|error| matches!(error.kind(), FailureKind::WaitsForItself))
        },
        (write(&place),),
    );
    assert!(*task.fetch().expect("no failure"));
}

#[test]
fn a_destructor_of_a_result_may_use_the_place_that_its_task_read() {
    #[derive(poniard::Data)]
    struct Spawns(Option<(poniard::Handle, Mutable<Vec<u64>>)>);
    impl Drop for Spawns {
        fn drop(&mut self) {
            if let Some((handle, place)) = self.0.take() {
                drop(handle.spawn(append, (write(&place), 5)));
            }
        }
    }
    let runtime = threads(1);
    let place = Mutable::new(Vec::new());
    // Once there are many, the place gives up its references to those that have finished, and its are the last ones.
    for _ in 0..100 {
        let inside = Mutex::new(Some((runtime.handle(), place.clone())));
        let reader = runtime.spawn(move |_: &[u64]| Spawns(inside.lock().expect("not poisoned").take()), (read(&place),));
        reader.wait().expect("no failure");
    }
    let length = place.fetch().expect("no failure").len();
    assert!((1..=100).contains(&length), "{length}");
    // The place knows the last readers, and their results the place: a writer ends that.
    runtime.spawn(append, (write(&place), 0)).wait().expect("no failure");
}

#[test]
fn a_destructor_of_a_result_may_wait_for_the_task_whose_spawn_it_runs_in() {
    #[derive(poniard::Data)]
    struct Looks(Option<(Mutable<Vec<u64>>, std::sync::mpsc::Sender<u64>)>);
    impl Drop for Looks {
        fn drop(&mut self) {
            if let Some((place, seen)) = self.0.take() {
                let length = place.fetch().map_or(u64::MAX, |values| values.len() as u64);
                seen.send(length).expect("somebody listens");
            }
        }
    }
    // One worker, who is in the middle of the task that spawns: nobody else can run the one that is waited for.
    let runtime = threads(1);
    let (send, seen) = channel();
    let handle = runtime.handle();
    let outer = move || {
        let place = Mutable::new(Vec::new());
        let inside = Mutex::new(Some((place.clone(), send)));
        let reader = handle.spawn(move |_: &[u64]| Looks(inside.lock().expect("not poisoned").take()), (read(&place),));
        reader.wait().expect("no failure");
        drop(reader);
        // The place has the last reference to the one that read, and lets go of it now.
        drop(handle.spawn(append, (write(&place), 5)));
    };
    runtime.spawn(outer, ()).wait().expect("no failure");
    assert_eq!(seen.recv().expect("it has been dropped"), 1);
}

#[test]
fn taking_in_vain_lets_nobody_past_the_task_that_writes() {
    // `take` stands in the order as one that writes. When it could not wait, it ended at once, and whoever came later waited for nothing else: it wrote
    // beside the task that was still at it.
    let runtime = threads(2);
    let place = Mutable::new(0u64);
    let own = place.clone();
    let writes = Arc::new(AtomicUsize::new(0));
    let (inside, seen) = (Arc::clone(&writes), Arc::clone(&writes));
    let first = runtime.spawn(
        move |value: &mut u64| {
            inside.store(1, SeqCst);
            let error = own.clone().take().expect_err("it would wait for itself");
            assert!(matches!(error.kind(), FailureKind::WaitsForItself), "{error}");
            let second = poniard::spawn(move |_: &mut u64| seen.load(SeqCst), (write(&own),));
            // Time for the other worker; only a missed error depends on it.
            for _ in 0..10_000 {
                std::thread::yield_now();
            }
            *value += 1;
            inside.store(0, SeqCst);
            second
        },
        (write(&place),),
    );
    let second = first.take().expect("no failure");
    assert_eq!(second.take().expect("no failure"), 0, "nobody else was writing");
    assert_eq!(place.take().expect("no failure"), 1);
}
