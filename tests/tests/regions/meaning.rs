//! Regions: tasks that mean what they would mean one after the other, in the order of their spawns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use ndarray::{Array2, Ix2, s};
use poniard::{
    BoxError, FailureKind, Handle, Mutable, RegionError, RegionOptions, RegionPlan, TaskOptions, View, ViewMut, commute, overwrite, read,
    with_options, write,
};
use poniard_tests::threads;
use proptest::prelude::*;

fn gemm(a: &Array2<f64>, b: &Array2<f64>, c: &mut Array2<f64>) {
    *c += &a.dot(b);
}

/// Square tiles of a matrix.
fn tiles(matrix: &Array2<f64>, tile: usize) -> Vec<Vec<Mutable<Array2<f64>>>> {
    let range = |at: usize| tile * at..tile * (at + 1);
    let of_row = |i| (0..matrix.ncols() / tile).map(move |j| Mutable::new(matrix.slice(s![range(i), range(j)]).to_owned())).collect();
    (0..matrix.nrows() / tile).map(of_row).collect()
}

fn numbers(rows: usize, columns: usize, seed: usize) -> Array2<f64> {
    Array2::from_shape_fn((rows, columns), |(row, column)| ((row * 31 + column * 17 + seed * 7) % 23) as f64 - 11.0)
}

#[test]
fn a_tiled_product_is_the_triple_loop_and_nothing_else() -> Result<(), BoxError> {
    for count in [1, 2, 3] {
        let runtime = threads(count);
        let (a, b) = (numbers(12, 20, 1), numbers(20, 8, 2));
        let (a_tiles, b_tiles, c_tiles) = (tiles(&a, 4), tiles(&b, 4), tiles(&Array2::zeros((12, 8)), 4));
        let spawned = runtime.region(|r| {
            let mut spawned = 0;
            for i in 0..3 {
                for j in 0..2 {
                    for k in 0..5 {
                        r.spawn(gemm, (read(&a_tiles[i][k]), read(&b_tiles[k][j]), write(&c_tiles[i][j])));
                        spawned += 1;
                    }
                }
            }
            spawned
        })?;
        assert_eq!(spawned, 30);
        let product = a.dot(&b);
        for (i, row) in c_tiles.iter().enumerate() {
            for (j, tile) in row.iter().enumerate() {
                let expected = product.slice(s![4 * i..4 * i + 4, 4 * j..4 * j + 4]);
                assert_eq!(*tile.fetch()?, expected, "tile {i}, {j} with {count} threads");
            }
        }
    }
    Ok(())
}

#[test]
fn all_tasks_of_a_region_have_run_when_it_ends() -> Result<(), BoxError> {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let runtime = threads(2);
    let place = Mutable::new(0u64);
    // Tasks whose handles nobody keeps, with and without access to anything, and more than fit into the window.
    for window in [2, 7, 1000] {
        RUNS.store(0, SeqCst);
        runtime.region_with(&RegionOptions::new().window(window), |r| {
            for _ in 0..100 {
                r.spawn(|| RUNS.fetch_add(1, SeqCst), ());
                r.spawn(|_: &u64| RUNS.fetch_add(1, SeqCst), (read(&place),));
                r.spawn(|value: &mut u64| *value += RUNS.fetch_add(1, SeqCst) as u64, (write(&place),));
            }
        })?;
        assert_eq!(RUNS.load(SeqCst), 300, "window {window}");
    }
    Ok(())
}

#[test]
fn a_region_keeps_no_more_tasks_than_its_window() -> Result<(), BoxError> {
    let runtime = threads(1);
    // Each task holds one more reference to this until it has run and nobody keeps it.
    let kept = Arc::new(());
    let most = AtomicUsize::new(0);
    runtime.region_with(&RegionOptions::new().window(64), |r| {
        for _ in 0..5000 {
            r.spawn(|kept: &Arc<()>| Arc::clone(kept), (Arc::clone(&kept),));
            most.fetch_max(Arc::strong_count(&kept), SeqCst);
        }
    })?;
    let most = most.load(SeqCst);
    assert!(most <= 2 * 64 + 2, "{most} references at once");
    // Whoever has run the last one drops it in a moment.
    while Arc::strong_count(&kept) > 1 {
        std::thread::yield_now();
    }
    Ok(())
}

#[test]
fn a_region_inside_a_task_works_with_one_thread() -> Result<(), BoxError> {
    let runtime = threads(1);
    let handle = Handle::clone(&runtime);
    let sum = runtime.spawn(
        move || -> Result<u64, BoxError> {
            let total = Mutable::new(0u64);
            handle.region_with(&RegionOptions::new().window(8), |r| {
                for value in 0..100 {
                    let square = r.spawn(|value: u64| value * value, (value,));
                    r.spawn(|total: &mut u64, square: &u64| *total += square, (write(&total), square));
                }
            })?;
            Ok(total.take()?)
        },
        (),
    );
    assert_eq!(*sum.fetch()?, 328_350);
    Ok(())
}

#[test]
fn tasks_begin_before_the_region_has_been_spawned() -> Result<(), BoxError> {
    let runtime = threads(1);
    let (to_region, at_region) = channel();
    let word = runtime.region(|r| {
        r.spawn(move || to_region.send(7u64).is_ok(), ());
        // Would wait for ever if nothing ran before this closure returns.
        at_region.recv()
    })??;
    assert_eq!(word, 7);
    Ok(())
}

#[test]
fn results_are_for_tasks_of_the_region_and_for_everybody_after_it() -> Result<(), BoxError> {
    let runtime = threads(2);
    let (six, error) = runtime.region(|r| {
        let two = r.spawn(|| 2u64, ());
        let six = r.spawn(|two: &u64| two * 3, (&two,));
        let error = two.fetch().err();
        (six, error)
    })?;
    let error = error.ok_or("it could be fetched inside the region")?;
    assert!(matches!(error.kind(), FailureKind::RegionOpen), "{error}");
    assert!(error.to_string().contains("its region has not ended; give the task to others as an argument"), "{error}");
    assert_eq!((*six.fetch()?, six.clone().take()?), (6, 6));
    Ok(())
}

fn fail(_: &mut u64) -> Result<(), String> {
    Err("the disk is full".into())
}

fn burst(_: &mut u64) {
    panic!("and this, too");
}

#[test]
fn the_first_error_in_the_order_of_the_spawns_is_that_of_the_region() -> Result<(), BoxError> {
    let runtime = threads(2);
    let places = [1, 2].map(Mutable::new);
    let ran = Mutable::new(false);
    let error = runtime
        .region(|r| {
            r.spawn(fail, (write(&places[0]),));
            r.spawn(|_: &u64| (), (read(&places[0]),));
            with_options(TaskOptions::new().name("late"), || r.spawn(burst, (write(&places[1]),)));
            r.spawn(|ran: &mut bool| *ran = true, (write(&ran),));
        })
        .expect_err("two tasks fail");
    assert_eq!((error.failed(), error.spawned()), (3, 4));
    assert_eq!((error.first().root_task(), error.first().reason().as_str()), ("fail", "the disk is full"));
    assert!(error.to_string().starts_with("3 of the 4 tasks of the region at tests/tests/regions/meaning.rs:"), "{error}");
    // What does not depend on them has run, and what they were to write is whole again when somebody overwrites it.
    assert!(*ran.fetch()?);
    assert!(places[0].fetch().is_err());
    runtime.region(|r| r.spawn(|value: &mut u64| *value = 5, (overwrite(&places[0]),)))?;
    assert_eq!(*places[0].fetch()?, 5);
    Ok(())
}

#[test]
fn a_panic_in_the_closure_goes_on_when_the_tasks_have_ended() -> Result<(), BoxError> {
    let runtime = threads(2);
    let place = Mutable::new(Vec::new());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        runtime.region(|r| {
            for value in 0..1000u64 {
                r.spawn(|all: &mut Vec<u64>, value: u64| all.push(value), (write(&place), value));
            }
            if r.spawn(|| (), ()).fetch().is_err() {
                panic!("half-way");
            }
        })
    }));
    let panic = outcome.expect_err("the closure panicked");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"half-way"));
    // Nobody uses it any more: this does not wait.
    assert_eq!(*place.fetch()?, (0..1000).collect::<Vec<u64>>());
    Ok(())
}

#[test]
fn what_the_spawning_thread_looks_at_cannot_be_written_in_the_region() -> Result<(), BoxError> {
    let runtime = threads(2);
    let (place, other) = (Mutable::new(1u64), Mutable::new(2u64));
    let look = place.fetch()?;
    let outcome: Result<_, RegionError> = runtime.region(|r| {
        r.spawn(|value: &u64, other: &mut u64| *other += value, (read(&place), write(&other)));
        r.spawn(|value: &mut u64| *value = 9, (write(&place),));
    });
    let error = outcome.expect_err("it would wait for ever");
    assert!(matches!(error.first().kind(), FailureKind::HeldHere { .. }), "{error}");
    assert!(error.to_string().contains("what the spawning thread still looks at (fetched at tests/tests/regions/meaning.rs:"), "{error}");
    assert_eq!((*look, *other.fetch()?), (1, 3));
    drop(look);
    // And a look that is over is in nobody's way.
    runtime.region(|r| r.spawn(|value: &mut u64| *value = 9, (write(&place),)))?;
    assert_eq!(*place.fetch()?, 9);
    Ok(())
}

#[test]
fn the_same_object_twice_is_in_order_if_both_only_read_it() -> Result<(), BoxError> {
    let runtime = threads(2);
    let place = Mutable::new(4u64);
    let product = runtime.region(|r| r.spawn(|one: &u64, two: &u64| one * two, (read(&place), read(&place))))?;
    assert_eq!(*product.fetch()?, 16);
    let error = runtime
        .region(|r| r.spawn(|_: &u64, _: &mut u64| (), (read(&place), write(&place))))
        .expect_err("a task must not read what it writes");
    assert!(matches!(error.first().kind(), FailureKind::SamePlace { accesses: (1, 2) }), "{error}");
    Ok(())
}

#[test]
fn tiles_without_elements_and_tiles_of_other_shapes_are_in_order() -> Result<(), BoxError> {
    let runtime = threads(2);
    let matrix = Mutable::new(numbers(5, 3, 3));
    let (empty, narrow, rest) = (matrix.part(s![5.., ..])?, matrix.part(s![..5, ..1])?, matrix.part(s![.., 1..])?);
    let sum = |view: View<'_, f64>| view.array::<Ix2>().sum();
    let sums = runtime.region(|r| {
        let fill = |mut view: ViewMut<'_, f64>| view.array_mut::<Ix2>().fill(1.0);
        r.spawn(fill, (overwrite(&empty),));
        r.spawn(fill, (overwrite(&narrow),));
        [&empty, &narrow, &rest].map(|part| r.spawn(sum, (read(part),)))
    })?;
    let expected = numbers(5, 3, 3).slice(s![.., 1..]).sum();
    assert_eq!(sums.iter().map(|sum| sum.fetch().map(|sum| *sum)).collect::<Result<Vec<_>, _>>()?, [0.0, 5.0, expected]);
    Ok(())
}

#[test]
fn accesses_outside_a_region_are_in_order_with_those_inside() -> Result<(), BoxError> {
    let runtime = threads(2);
    let log = Mutable::new(Vec::new());
    let note = |log: &mut Vec<u64>, value: u64| log.push(value);
    for round in 0..20 {
        runtime.spawn_detached(note, (write(&log), 2 * round));
        runtime.region(|r| r.spawn(note, (write(&log), 2 * round + 1)))?;
    }
    assert_eq!(*log.fetch()?, (0..40).collect::<Vec<u64>>());
    Ok(())
}

#[test]
fn regions_of_several_threads_on_the_same_data_each_mean_what_they_say() -> Result<(), BoxError> {
    let runtime = threads(2);
    let (one, two) = (Mutable::new(0u64), Mutable::new(0u64));
    let errors = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for reversed in [false, true] {
            let (runtime, errors) = (&runtime, &errors);
            let (one, two) = if reversed { (&two, &one) } else { (&one, &two) };
            scope.spawn(move || {
                for _ in 0..200 {
                    let ended = runtime.region(|r| {
                        r.spawn(|one: &mut u64, two: &mut u64| (*one += 1, *two += 1), (write(one), write(two)));
                        r.spawn(|two: &mut u64| *two += 1, (write(two),));
                    });
                    errors.lock().map(|mut errors| errors.extend(ended.err())).unwrap_or_default();
                }
            });
        }
    });
    assert!(errors.lock().is_ok_and(|errors| errors.is_empty()));
    assert_eq!((one.take()?, two.take()?), (600, 600));
    Ok(())
}

/// One access pattern of a made-up plan, over a list of eight and three numbers.
#[derive(Clone, Debug)]
enum Step {
    /// Adds one number to another.
    Add(usize, usize),
    /// Sets a range of the list to a number.
    Fill(usize, usize, usize),
    /// Adds the sum of a range of the list to a number.
    Sum(usize, usize, usize),
    /// Doubles the list.
    Double,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..3usize, 1..3usize).prop_map(|(from, more)| Step::Add(from, (from + more) % 3)),
        (0..8usize, 0..8usize, 0..3usize).prop_map(|(first, len, number)| Step::Fill(first, (first + len).min(8), number)),
        (0..8usize, 0..8usize, 0..3usize).prop_map(|(first, len, number)| Step::Sum(first, (first + len).min(8), number)),
        Just(Step::Double),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_plan_means_what_its_tasks_would_one_after_the_other_each_time(steps in steps(), count in 1usize..4, runs in 0usize..4) {
        let runtime = threads(count);
        let list = Mutable::new((1..=8u64).collect::<Vec<_>>());
        let numbers = [1u64, 20, 300].map(Mutable::new);
        let parts: Vec<_> = steps.iter().map(|step| match step {
            Step::Fill(first, behind, _) | Step::Sum(first, behind, _) => list.rows(*first..*behind),
            _ => list.whole(),
        }).collect::<Result<_, _>>()?;
        let plan = RegionPlan::new(|r| {
            for (step, part) in steps.iter().zip(&parts) {
                match step {
                    Step::Add(from, to) => { r.spawn(|from: &u64, to: &mut u64| *to = to.wrapping_add(*from), (read(&numbers[*from]), write(&numbers[*to]))); },
                    Step::Fill(_, _, with) => { r.spawn(|mut part: ViewMut<'_, u64>, with: &u64| part.row_mut(0).fill(*with), (overwrite(part), read(&numbers[*with]))); },
                    Step::Sum(_, _, to) => {
                        let sum = |part: View<'_, u64>, to: &mut u64| *to = part.row(0).iter().fold(*to, |sum, value| sum.wrapping_add(*value));
                        r.spawn(sum, (read(part), write(&numbers[*to])));
                    }
                    Step::Double => { r.spawn(|list: &mut Vec<u64>| list.iter_mut().for_each(|value| *value = value.wrapping_mul(2)), (write(&list),)); },
                }
            }
        })?;
        prop_assert_eq!(plan.len(), steps.len());
        let (mut expected, mut of_numbers) = ((1..=8u64).collect::<Vec<_>>(), [1u64, 20, 300]);
        for run in 0..runs {
            // Somebody else uses the values in between, and does not wait.
            runtime.spawn_detached(|list: &mut Vec<u64>, by: u64| list[0] = list[0].wrapping_add(by), (write(&list), run as u64));
            expected[0] = expected[0].wrapping_add(run as u64);
            plan.run(&runtime)?;
            for step in &steps {
                match *step {
                    Step::Add(from, to) => of_numbers[to] = of_numbers[to].wrapping_add(of_numbers[from]),
                    Step::Fill(first, behind, with) => expected[first..behind].fill(of_numbers[with]),
                    Step::Sum(first, behind, to) => of_numbers[to] = expected[first..behind].iter().fold(of_numbers[to], |sum, value| sum.wrapping_add(*value)),
                    Step::Double => expected.iter_mut().for_each(|value| *value = value.wrapping_mul(2)),
                }
            }
        }
        prop_assert_eq!(&*list.fetch()?, &expected);
        for (number, expected) in numbers.iter().zip(of_numbers) {
            prop_assert_eq!(*number.fetch()?, expected);
        }
    }
}

#[test]
fn a_plan_that_fails_leaves_word_with_what_it_writes() -> Result<(), BoxError> {
    let runtime = threads(2);
    let (broken, read_only) = (Mutable::new(1u64), Mutable::new(2u64));
    let plan = RegionPlan::new(|r| {
        r.spawn(
            |from: &u64, to: &mut u64| -> Result<(), String> {
                if *to < 5 {
                    *to += from;
                    Ok(())
                } else {
                    Err("too much".into())
                }
            },
            (read(&read_only), write(&broken)),
        );
        r.spawn(|_: &u64| (), (read(&broken),));
    })?;
    plan.run(&runtime)?;
    plan.run(&runtime)?;
    let error = plan.run(&runtime).expect_err("the third time is too much");
    assert_eq!(error.first().reason(), "too much");
    assert!(error.to_string().contains("of the 2 tasks of the region at tests/tests/regions/meaning.rs:"), "{error}");
    assert_eq!(broken.fetch().err().map(|error| error.reason()), Some("too much".into()));
    assert_eq!(*read_only.fetch()?, 2);
    // Until then it is not run at all.
    assert!(plan.run(&runtime).is_err());
    runtime.region(|r| r.spawn(|to: &mut u64| *to = 0, (overwrite(&broken),)))?;
    plan.run(&runtime)?;
    assert_eq!(*broken.fetch()?, 2);
    Ok(())
}

#[test]
fn a_plan_waits_for_users_before_and_users_after_wait_for_it() -> Result<(), BoxError> {
    let runtime = threads(2);
    let place = Mutable::new(0u64);
    let plan = RegionPlan::new(|r| {
        r.spawn(|value: &mut u64| *value += 1, (write(&place),));
    })?;
    let looking = place.fetch()?;
    let error = plan.run(&runtime).expect_err("this thread looks at what it writes");
    assert!(matches!(error.first().kind(), FailureKind::HeldHere { .. }), "{error}");
    drop(looking);
    // Threads that run it at once, and tasks in between.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..100).all(|_| plan.run(&runtime).is_ok()));
        }
        for _ in 0..100 {
            runtime.spawn_detached(|value: &mut u64| *value += 1000, (write(&place),));
        }
    });
    assert_eq!(*place.fetch()?, 100_300);
    // And inside a task, on the task's own runtime.
    let (inner, handle) = (plan.clone(), Handle::clone(&runtime));
    assert!(*runtime.spawn(move || inner.run(&handle).is_ok(), ()).fetch()?);
    assert_eq!(*place.fetch()?, 100_301);
    Ok(())
}

#[test]
fn a_plan_with_two_accesses_that_conflict_is_refused() {
    let list = Mutable::new(vec![0u64; 4]);
    let refused = |parts: (std::ops::Range<usize>, std::ops::Range<usize>)| {
        let parts = (list.rows(parts.0).expect("inside"), list.rows(parts.1).expect("inside"));
        RegionPlan::new(|r| {
            r.spawn(|_: View<'_, u64>, _: ViewMut<'_, u64>| (), (read(&parts.0), write(&parts.1)));
        })
        .err()
    };
    assert!(refused((0..2, 2..4)).is_none());
    let error = refused((0..3, 2..4)).expect("element 2 is in both");
    assert!(
        error.to_string().contains("tests/tests/regions/meaning.rs:") && error.to_string().contains("two accesses to the same `Mutable`"),
        "{error}"
    );
}

#[test]
fn results_of_a_plan_are_those_of_its_last_run() -> Result<(), BoxError> {
    let runtime = threads(2);
    let place = Mutable::new(1u64);
    let mut squared = None;
    let plan = RegionPlan::new(|r| {
        r.spawn(|value: &mut u64| *value += 1, (write(&place),));
        let square = r.spawn(|value: &u64| value * value, (read(&place),));
        squared = Some(r.spawn(|square: &u64| square + 1, (&square,)));
    })?;
    let squared = squared.ok_or("the closure was not called")?;
    for expected in [5, 10, 17] {
        assert_eq!(*plan.run(&runtime)?.fetch(squared)?, expected);
    }
    Ok(())
}

#[test]
fn a_region_that_is_checked_means_the_same_and_finds_nothing() -> Result<(), BoxError> {
    let runtime = threads(2);
    let matrix = Mutable::new(numbers(16, 16, 5));
    let mut expected = numbers(16, 16, 5);
    let add =
        |from: View<'_, f64>, mut to: ViewMut<'_, f64>| to.array_mut::<Ix2>().zip_mut_with(&from.array::<Ix2>(), |to, from| *to += from);
    runtime.region_with(&RegionOptions::new().checked(true), |r| -> Result<(), BoxError> {
        for step in 0..60usize {
            let (from, to) = ((step * 5) % 8, 8 + (step * 3) % 6);
            r.spawn(add, (read(&matrix.rows(from..from + 2)?), write(&matrix.rows(to..to + 2)?)));
            let addend = expected.slice(s![from..from + 2, ..]).to_owned();
            expected.slice_mut(s![to..to + 2, ..]).zip_mut_with(&addend, |to, from| *to += from);
            if step % 20 == 0 {
                r.spawn(|all: &mut Array2<f64>| *all *= 0.5, (write(&matrix),));
                expected *= 0.5;
            }
        }
        Ok(())
    })??;
    assert_eq!(matrix.take()?, expected);
    Ok(())
}

#[test]
fn the_first_failure_is_known_when_its_task_is_long_gone() -> Result<(), BoxError> {
    // A region lets go of tasks that have ended while it spawns more.
    let runtime = threads(2);
    let options = RegionOptions::new().replay(false);
    let (done, ended) = channel();
    let outcome = runtime.region_with(&options, |r| {
        for number in 0..300u64 {
            let done = done.clone();
            let fails = move || {
                done.send(()).map_err(|error| error.to_string())?;
                if number == 10 || number == 200 { Err(format!("task {number} fails")) } else { Ok(()) }
            };
            r.spawn(fails, ());
            if number % 100 == 99 {
                ended.iter().take(100).for_each(drop);
            }
        }
    });
    let error = outcome.expect_err("two tasks fail");
    assert_eq!((error.failed(), error.spawned()), (2, 300));
    assert!(error.first().to_string().contains("task 10 fails"), "{error}");
    Ok(())
}

#[test]
fn a_task_may_wait_for_any_number_of_others() -> Result<(), BoxError> {
    // One or a few are kept in place, a dozen in one piece of memory, and there are more here; also for one that looks, after several that add.
    for count in [1, 2, 12, 13, 40] {
        let runtime = threads(2);
        let (value, looked) = (Mutable::new(1u64), Arc::new(AtomicUsize::new(0)));
        let (go, wait) = channel::<()>();
        runtime.region(|r| {
            r.spawn(
                move |value: &mut u64| {
                    *value += wait.iter().count() as u64 + 1;
                },
                (write(&value),),
            );
            for _ in 0..count {
                let looked = Arc::clone(&looked);
                let look = move |value: &u64| {
                    assert_eq!(*value, 2);
                    looked.fetch_add(1, SeqCst);
                };
                r.spawn(look, (read(&value),));
            }
            let looked = Arc::clone(&looked);
            let after = move |value: &mut u64| {
                assert_eq!(looked.load(SeqCst), count);
                *value = 10;
            };
            r.spawn(after, (write(&value),));
            for _ in 0..count {
                r.spawn(|value: &mut u64| *value += 1, (commute(&value),));
            }
            r.spawn(move |value: &u64| assert_eq!(*value, 10 + count as u64), (read(&value),));
            drop(go);
        })?;
        assert_eq!(value.take()?, 10 + count as u64);
    }
    Ok(())
}
