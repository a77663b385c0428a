//! Regions that come again: replayed or planned anew, they mean the same, and the report says which it was.
//!
//! One file because every test has the same three ways to run a region: until it is known, as it was known, and otherwise.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ndarray::{Array2, Ix1, Ix2, s};
use poniard::{
    BoxError, FailureKind, Mutable, NotReplayed, Part, Region, RegionError, RegionOptions, RegionReport, Runtime, TaskOptions, View,
    ViewMut, commute, overwrite, read, with_options, write,
};
use poniard_tests::threads;
use proptest::prelude::*;

/// Tasks are held back until the closure ends, however long that takes on a busy machine.
fn patient() -> RegionOptions {
    RegionOptions::new().hold_back(Duration::MAX)
}

/// A runtime, and the one place in the source where its regions begin.
struct Repeated(Runtime);

impl Repeated {
    fn new(count: usize) -> Self {
        Self(threads(count))
    }

    fn run<R>(&self, body: impl FnOnce(&Region<'_>) -> R) -> Result<R, RegionError> {
        self.run_with(&patient(), body)
    }

    fn run_with<R>(&self, options: &RegionOptions, body: impl FnOnce(&Region<'_>) -> R) -> Result<R, RegionError> {
        self.0.region_with(options, body)
    }

    fn report(&self) -> RegionReport {
        let mut reports: Vec<_> = self.0.report().regions.into_iter().filter(|report| report.location.file() == file!()).collect();
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports.remove(0)
    }

    /// How often planned, how often replayed.
    fn counts(&self) -> (u64, u64) {
        let report = self.report();
        (report.planned, report.replayed)
    }

    /// Runs a region until its shape is known, and has it replayed once.
    fn learn(&self, body: impl Fn(&Region<'_>)) -> Result<(), RegionError> {
        for _ in 0..3 {
            self.run(&body)?;
        }
        assert_eq!(self.counts(), (2, 1), "{}", self.report());
        Ok(())
    }

    /// That the region was not replayed, and why.
    fn why(&self) -> Option<NotReplayed> {
        assert_eq!(self.counts(), (3, 1), "{}", self.report());
        self.report().not_replayed
    }
}

fn add(from: &u64, to: &mut u64) {
    *to = to.wrapping_add(*from);
}

fn step(r: &Region<'_>, cells: &[Mutable<u64>]) {
    for pair in cells.windows(2) {
        r.spawn(add, (read(&pair[0]), write(&pair[1])));
    }
}

fn cells(count: u64) -> Vec<Mutable<u64>> {
    (0..count).map(|at| Mutable::new(at + 1)).collect()
}

#[test]
fn what_comes_again_is_replayed_and_its_functions_are_those_of_this_time() -> Result<(), BoxError> {
    for count in [1, 2, 4] {
        let repeated = Repeated::new(count);
        let cells = cells(8);
        let mut expected: Vec<u64> = (1..=8).collect();
        for run in 0..6u64 {
            repeated.run(|r| {
                for pair in cells.windows(2) {
                    r.spawn(move |from: &u64, to: &mut u64| *to = to.wrapping_add(from * run), (read(&pair[0]), write(&pair[1])));
                }
            })?;
            for at in 1..8 {
                expected[at] = expected[at].wrapping_add(expected[at - 1] * run);
            }
            let found: Result<Vec<u64>, _> = cells.iter().map(|cell| cell.fetch().map(|cell| *cell)).collect();
            assert_eq!(found?, expected, "run {run} with {count} threads");
        }
        assert_eq!(repeated.counts(), (2, 4));
        assert_eq!(repeated.report().not_replayed, None);
        let place = format!("again.rs:{}", repeated.report().location.line());
        assert!(repeated.report().to_string().contains(&place), "{}", repeated.report());
    }
    Ok(())
}

#[test]
fn other_values_in_the_same_places_are_replayed_too_and_none_is_kept_alive() -> Result<(), BoxError> {
    #[derive(Clone, poniard::Data)]
    struct Kept(Arc<u64>, u64);
    let repeated = Repeated::new(2);
    for run in 0..6u64 {
        let mark = Arc::new(run);
        // Dropped at the end of each turn: the next ones may lie in the same memory.
        let values: Vec<_> = (0..4u64).map(|at| Mutable::new(Kept(Arc::clone(&mark), at))).collect();
        repeated.run(|r| {
            for pair in values.windows(2) {
                r.spawn(|from: &Kept, to: &mut Kept| to.1 += from.1, (read(&pair[0]), write(&pair[1])));
            }
        })?;
        assert_eq!(values[3].fetch()?.1, 1 + 2 + 3);
        drop(values);
        repeated.0.wait_idle();
        assert_eq!(Arc::strong_count(&mark), 1, "run {run} has left a value behind");
    }
    assert_eq!(repeated.counts(), (2, 4));
    Ok(())
}

#[test]
fn one_value_in_two_places_is_not_taken_for_two() -> Result<(), BoxError> {
    let repeated = Repeated::new(2);
    let (one, two) = (Mutable::new(1u64), Mutable::new(2u64));
    let both = |one: &Mutable<u64>, two: &Mutable<u64>| {
        repeated.run(|r| {
            r.spawn(|value: &mut u64| *value *= 10, (write(one),));
            r.spawn(|value: &mut u64| *value += 1, (write(two),));
        })
    };
    for _ in 0..3 {
        both(&one, &two)?;
    }
    both(&one, &one)?;
    assert_eq!((*one.fetch()?, *two.fetch()?), (10_001, 5));
    assert!(matches!(repeated.why(), Some(NotReplayed::Other { task: 1, .. })), "{}", repeated.report());
    Ok(())
}

#[test]
fn the_report_says_which_task_did_something_else() -> Result<(), BoxError> {
    let learned = || -> Result<_, BoxError> {
        let (repeated, cells) = (Repeated::new(2), cells(4));
        repeated.learn(|r| step(r, &cells))?;
        Ok((repeated, cells))
    };
    // Another value.
    let (repeated, cells) = learned()?;
    repeated.run(|r| {
        r.spawn(add, (read(&cells[0]), write(&cells[1])));
        r.spawn(add, (read(&cells[0]), write(&cells[2])));
        r.spawn(add, (read(&cells[2]), write(&cells[3])));
    })?;
    let why = repeated.why();
    assert!(matches!(why, Some(NotReplayed::Other { task: 1, argument: 0, .. })), "{why:?}");
    let text = repeated.report().to_string();
    assert!(text.contains("argument 0 of task 1") && text.contains("reads value 0") && text.contains("before, it reads value 1"), "{text}");
    // Another access.
    let (repeated, cells) = learned()?;
    repeated.run(|r| {
        r.spawn(add, (read(&cells[0]), overwrite(&cells[1])));
    })?;
    assert!(repeated.report().to_string().contains("overwrites a further value; before, it writes value 1"), "{}", repeated.report());
    // More, and fewer.
    let (repeated, cells) = learned()?;
    repeated.run(|r| {
        step(r, &cells);
        r.spawn(add, (read(&cells[3]), write(&cells[0])));
    })?;
    assert!(matches!(repeated.why(), Some(NotReplayed::More { expected: 3, .. })), "{}", repeated.report());
    let (repeated, cells) = learned()?;
    repeated.run(|r| step(r, &cells[..3]))?;
    assert_eq!(repeated.why(), Some(NotReplayed::Fewer { expected: 3, found: 2 }));
    // What a graph has not.
    let (repeated, cells) = learned()?;
    repeated.run(|r| {
        r.spawn(add, (read(&cells[0]), write(&cells[1])));
        with_options(TaskOptions::new().name("named"), || {
            r.spawn(add, (read(&cells[1]), write(&cells[2])));
        });
    })?;
    assert!(matches!(repeated.why(), Some(NotReplayed::Special { task: 1, .. })), "{}", repeated.report());
    let (repeated, cells) = learned()?;
    repeated.run(|r| drop(r.spawn(|_: &u64, to: &mut u64| *to += 1, (read(&cells[0]), commute(&cells[1])))))?;
    assert!(repeated.report().to_string().contains("commutes or reduces"), "{}", repeated.report());
    // Options.
    let (repeated, cells) = learned()?;
    repeated.run_with(&patient().replay(false), |r| step(r, &cells))?;
    assert_eq!(repeated.why(), Some(NotReplayed::Off));
    let (repeated, cells) = learned()?;
    repeated.run_with(&patient().checked(true), |r| step(r, &cells))?;
    assert_eq!(repeated.why(), Some(NotReplayed::Checked));
    // A runtime that notes each task.
    let journal = Repeated(Runtime::builder().threads(2).journal(true).build()?);
    for _ in 0..4 {
        journal.run(|r| step(r, &cells))?;
    }
    assert_eq!((journal.counts(), journal.0.journal().len()), ((4, 0), 12));
    assert!(matches!(journal.report().not_replayed, Some(NotReplayed::Runtime { .. })), "{}", journal.report());
    Ok(())
}

#[test]
fn what_cannot_be_replayed_at_all_says_why() -> Result<(), BoxError> {
    let (repeated, cell) = (Repeated::new(2), Mutable::new(0u64));
    for _ in 0..4 {
        repeated.run(|r| drop(r.spawn(|cell: &mut u64| *cell += 1, (commute(&cell),))))?;
    }
    assert_eq!(repeated.report().not_replayed, Some(NotReplayed::AnyOrder { task: 0 }));
    let repeated = Repeated::new(2);
    for _ in 0..4 {
        let ended = repeated.run(|r| drop(r.spawn(add, (read(&cell), write(&cell)))));
        assert!(ended.is_err_and(|error| matches!(error.first().kind(), FailureKind::SamePlace { .. })));
    }
    assert_eq!(repeated.report().not_replayed, Some(NotReplayed::SamePlace { task: 0 }));
    assert_eq!(*cell.fetch()?, 4);
    Ok(())
}

#[test]
fn several_shapes_of_one_place_are_known_at_once() -> Result<(), BoxError> {
    let (repeated, cells) = (Repeated::new(2), cells(6));
    for run in 0..12 {
        // They part at the third task, at the end, and nowhere.
        let (last, more) = ([2, 3, 2][run % 3], run % 3 == 2);
        repeated.run(|r| {
            r.spawn(add, (read(&cells[0]), write(&cells[1])));
            r.spawn(add, (read(&cells[1]), write(&cells[2])));
            r.spawn(add, (read(&cells[last]), write(&cells[4])));
            if more {
                r.spawn(add, (read(&cells[4]), write(&cells[5])));
            }
        })?;
    }
    let (planned, replayed) = repeated.counts();
    assert!(replayed >= 7, "planned {planned} times, replayed {replayed} times: {}", repeated.report());
    Ok(())
}

#[test]
fn many_tasks_whose_handles_are_gone_are_told_from_each_other() -> Result<(), BoxError> {
    // While a region is learned a task is known by where its record lies: none is used again, for one that is none of the region's, although most have ended.
    let repeated = Repeated::new(2);
    let sum = Mutable::new(0u64);
    for run in 0..4u64 {
        let (done, ended) = channel();
        repeated.run(|r| {
            let mut last = r.spawn(|| 0u64, ());
            for number in 0..400u64 {
                let done = done.clone();
                let next = move |last: &u64, one: &u64| {
                    // Nobody listens any more when the region is replayed.
                    let _ = done.send(());
                    *last + *one
                };
                // Of the same size, so that its record would lie where one of the region lay.
                let other = repeated.0.spawn(|_: &u64, _: &u64| 1u64, (0, 0));
                other.wait().expect("no failure");
                last = r.spawn(next, (last, other));
                // Held back, they would be waited for in vain.
                if run < 2 && number % 64 == 63 {
                    ended.iter().take(64).for_each(drop);
                }
            }
            r.spawn(|sum: &mut u64, last: &u64| *sum += last, (write(&sum), last));
        })?;
    }
    assert_eq!(sum.take()?, 4 * 400);
    assert_eq!(repeated.counts(), (2, 2), "{}", repeated.report());
    Ok(())
}

#[test]
fn results_of_tasks_are_arguments_and_can_be_fetched_when_the_region_has_ended() -> Result<(), BoxError> {
    let (repeated, cell) = (Repeated::new(2), Mutable::new(1u64));
    let before = repeated.0.spawn(|| 100u64, ());
    before.wait()?;
    for run in 0..5u64 {
        let (sum, text) = repeated.run(|r| {
            let doubled = r.spawn(|cell: &u64| cell * 2, (read(&cell),));
            assert!(doubled.fetch().is_err_and(|error| matches!(error.kind(), FailureKind::RegionOpen)));
            drop(r.spawn(|cell: &mut u64| *cell += 1, (write(&cell),)));
            let sum = r.spawn(move |doubled: &u64, before: &u64| doubled + before + run, (&doubled, &before));
            let text = r.spawn(|sum: u64| format!("it is {sum}"), (sum.clone(),));
            (sum, text)
        })?;
        assert_eq!(*sum.fetch()?, 2 * (run + 1) + 100 + run);
        assert_eq!(text.take()?, format!("it is {}", 2 * (run + 1) + 100 + run));
    }
    assert_eq!(repeated.counts(), (2, 3), "{}", repeated.report());
    Ok(())
}

/// What a region says when tasks of it fail, and what those see who look at its values later.
fn failing(repeated: &Repeated, options: &RegionOptions, run: u64) -> Result<Vec<String>, BoxError> {
    let values = cells(6);
    let list = Mutable::new(vec![1u64; 8]);
    let (left, right, all) = (list.rows(..4)?, list.rows(4..)?, list.rows(..)?);
    let ended = repeated.run_with(options, |r| {
        let fails = move |to: &mut u64| if run == 0 { Ok(()) } else { Err(format!("no {to}")) };
        r.spawn(fails, (write(&values[0]),));
        r.spawn(add, (read(&values[0]), write(&values[1])));
        r.spawn(add, (read(&values[2]), write(&values[3])));
        let panics = r.spawn(move |_: &u64| assert!(run < 2, "as it was to"), (read(&values[3]),));
        r.spawn(|from: &(), to: &mut u64| *to += size_of_val(from) as u64, (&panics, write(&values[4])));
        // An error is of no interest to who does not look.
        r.spawn(|to: &mut u64| *to = 7, (overwrite(&values[1]),));
        // It writes what was only read by one that failed.
        r.spawn(add, (read(&values[5]), write(&values[3])));
        r.spawn(move |_: ViewMut<'_, u64>| if run == 3 { Err("not this half") } else { Ok(()) }, (write(&left),));
        r.spawn(|mut half: ViewMut<'_, u64>| half[0] = 5, (write(&right),));
        // Two of its arguments fail: the first one counts.
        r.spawn(|_: &u64, _: View<'_, u64>, _: &u64| (), (read(&values[4]), read(&all), read(&values[0])));
    });
    let mut said = vec![match &ended {
        Ok(()) => "it went well".to_owned(),
        Err(error) => {
            let (failed, spawned, text) = (error.failed(), error.spawned(), error.to_string());
            // From the place of the region on.
            format!("{failed} of {spawned}: {}", text.split_once("failed, ").ok_or("it says which")?.1)
        }
    }];
    for value in &values {
        said.push(value.fetch().map_or_else(|error| error.to_string(), |value| value.to_string()));
    }
    for part in [&left, &right, &all] {
        said.push(part.fetch().map_or_else(|error| error.to_string(), |part| format!("{:?}", part.view().array::<Ix1>())));
    }
    // The error goes when somebody overwrites the value.
    repeated.0.spawn(|to: &mut u64| *to = 1, (overwrite(&values[0]),)).wait()?;
    said.push(values[0].fetch()?.to_string());
    Ok(said)
}

#[test]
fn errors_and_panics_are_the_same_however_the_region_was_run() -> Result<(), BoxError> {
    let (replayed, planned) = (Repeated::new(2), Repeated::new(2));
    for run in [0, 0, 0, 1, 2, 3, 0] {
        let one = failing(&replayed, &patient(), run)?;
        let other = failing(&planned, &patient().replay(false), run)?;
        assert_eq!(one, other, "run {run}");
        assert_eq!(one[0] == "it went well", run == 0, "{one:?}");
    }
    assert_eq!(replayed.counts(), (2, 5), "{}", replayed.report());
    assert_eq!(planned.counts(), (7, 0));
    Ok(())
}

#[test]
fn a_task_before_that_failed_fails_those_that_look() -> Result<(), BoxError> {
    let (repeated, cells) = (Repeated::new(2), cells(4));
    repeated.learn(|r| step(r, &cells))?;
    let (go, gone) = channel::<()>();
    let gone = Mutex::new(gone);
    // It may end before the region begins, or while that waits.
    let fails = move |_: &mut u64| {
        let told = gone.lock().map(|gone| gone.recv().is_err());
        Err::<(), _>(format!("as it was to, {told:?}"))
    };
    repeated.0.spawn(fails, (write(&cells[2]),)).detach();
    let ended = repeated.run(|r| {
        step(r, &cells);
        drop(go);
    });
    let error = ended.err().ok_or("a task before has failed")?;
    assert_eq!((error.failed(), error.spawned()), (2, 3), "{error}");
    assert!(matches!(repeated.why(), Some(NotReplayed::Before { .. })), "{}", repeated.report());
    Ok(())
}

#[test]
fn who_looks_while_a_region_spawns_sees_what_it_has_spawned() -> Result<(), BoxError> {
    for other_thread in [false, true] {
        let (repeated, cells) = (Repeated::new(2), cells(4));
        repeated.learn(|r| step(r, &cells))?;
        let expected = *cells[0].fetch()? + *cells[1].fetch()?;
        repeated.run(|r| {
            r.spawn(add, (read(&cells[0]), write(&cells[1])));
            let look = || cells[1].fetch().map(|value| *value);
            let seen = if other_thread { std::thread::scope(|scope| scope.spawn(look).join().expect("no panic")) } else { look() };
            assert_eq!(seen.map_err(|error| error.to_string()), Ok(expected));
            r.spawn(add, (read(&cells[1]), write(&cells[2])));
            r.spawn(add, (read(&cells[2]), write(&cells[3])));
        })?;
        assert_eq!(repeated.why(), Some(NotReplayed::Met { spawned: 1, value: 1 }));
    }
    Ok(())
}

#[test]
fn tasks_spawned_beside_a_region_come_in_their_places() -> Result<(), BoxError> {
    let (repeated, cells) = (Repeated::new(2), cells(3));
    let body = |r: &Region<'_>| step(r, &cells);
    repeated.learn(body)?;
    let now = |at: usize| cells[at].fetch().map(|value| *value);
    let (one, two) = (now(1)? + now(0)?, now(2)?);
    let seen = repeated.run(|r| {
        r.spawn(add, (read(&cells[0]), write(&cells[1])));
        let seen = repeated.0.spawn(|value: &u64| *value, (read(&cells[1]),));
        repeated.0.spawn(|value: &mut u64| *value = 1000, (write(&cells[1]),)).detach();
        r.spawn(add, (read(&cells[1]), write(&cells[2])));
        seen
    })?;
    assert_eq!((*seen.fetch()?, now(2)?), (one, two + 1000));
    Ok(())
}

#[test]
fn who_waits_for_a_value_waits_for_its_tasks_and_not_for_the_whole_region() -> Result<(), BoxError> {
    let (repeated, slow, quick) = (Repeated::new(2), Mutable::new(0u64), Mutable::new(0u64));
    for run in 0..4u64 {
        let (go, gone) = channel::<()>();
        let (begun, has_begun) = channel::<()>();
        let gone = Mutex::new(gone);
        let looker = {
            let quick = quick.clone();
            std::thread::spawn(move || {
                has_begun.recv().expect("a task says so");
                let seen = quick.fetch().map(|value| *value);
                // Only now the other task may end.
                go.send(()).expect("it listens");
                seen
            })
        };
        repeated.run(|r| {
            r.spawn(move |value: &mut u64| (*value += 1, gone.lock().map(|gone| gone.recv().is_ok()).is_ok()).1, (write(&slow),));
            r.spawn(move |value: &mut u64| (*value += 1, begun.send(()).is_ok()).1, (write(&quick),));
        })?;
        let seen = looker.join().expect("no panic");
        assert_eq!(seen.map_err(|error| error.to_string()), Ok(run + 1));
    }
    assert_eq!(repeated.counts(), (2, 2), "{}", repeated.report());
    Ok(())
}

#[test]
fn a_closure_may_wait_for_what_its_tasks_do() -> Result<(), BoxError> {
    let (repeated, cells) = (Repeated::new(1), cells(2));
    for _ in 0..4 {
        repeated.run_with(&RegionOptions::new(), |r| {
            let (done, is_done) = channel::<()>();
            r.spawn(move |_: &u64, _: &mut u64| drop(done), (read(&cells[0]), write(&cells[1])));
            // Tasks begin while their region spawns.
            assert!(is_done.recv().is_err());
            r.spawn(add, (read(&cells[1]), write(&cells[0])));
        })?;
    }
    assert_eq!(repeated.report().not_replayed, Some(NotReplayed::Late { spawned: 1 }));
    Ok(())
}

#[test]
fn regions_within_regions_and_within_tasks_are_replayed_as_others_are() -> Result<(), BoxError> {
    fn inner(runtime: &Runtime, cells: &[Mutable<u64>]) -> Result<(), RegionError> {
        runtime.region_with(&patient(), |r| step(r, cells))
    }
    let runtime = Arc::new(threads(2));
    let (outside, inside, deep) = (cells(3), cells(3), cells(3));
    for _ in 0..5 {
        runtime.region_with(&patient(), |r| -> Result<(), RegionError> {
            step(r, &outside);
            inner(&runtime, &inside)?;
            let (handle, deep) = (Arc::clone(&runtime), deep.clone());
            r.spawn(
                move |from: &u64, to: &mut u64| {
                    *to = to.wrapping_add(*from);
                    handle.region_with(&patient(), |r| step(r, &deep)).map(|()| 0u64)
                },
                (read(&outside[2]), write(&outside[0])),
            );
            Ok(())
        })??;
    }
    let reports = runtime.report().regions;
    assert_eq!(reports.len(), 3);
    for report in &reports {
        assert_eq!((report.planned, report.replayed), (2, 3), "{report}");
    }
    let mut expected = [1u64, 2, 3];
    for _ in 0..5 {
        expected[1] += expected[0];
        expected[2] += expected[1];
    }
    for cells in [&inside, &deep] {
        assert_eq!(cells.iter().map(|cell| cell.fetch().map(|cell| *cell)).collect::<Result<Vec<_>, _>>()?, expected);
    }
    Ok(())
}

#[test]
fn two_threads_that_repeat_regions_on_the_same_values_come_one_after_the_other() -> Result<(), BoxError> {
    let (runtime, cells) = (threads(2), cells(4));
    let total = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let ended = runtime.region(|r| {
                        for cell in &cells {
                            r.spawn(|cell: &mut u64| *cell += 1, (write(cell),));
                        }
                    });
                    ended.expect("no task fails");
                    total.fetch_add(1, SeqCst);
                }
            });
        }
    });
    for (cell, began) in cells.iter().zip(1..) {
        assert_eq!(*cell.fetch()?, began + total.load(SeqCst));
    }
    Ok(())
}

#[test]
fn a_closure_that_panics_has_spawned_what_it_has_spawned() -> Result<(), BoxError> {
    let (repeated, cells) = (Repeated::new(2), cells(4));
    repeated.learn(|r| step(r, &cells))?;
    let expected = *cells[0].fetch()? + *cells[1].fetch()?;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        repeated.run(|r| {
            r.spawn(add, (read(&cells[0]), write(&cells[1])));
            panic!("as it was to");
        })
    }));
    assert!(ended.is_err());
    assert_eq!(*cells[1].fetch()?, expected);
    assert_eq!(repeated.why(), Some(NotReplayed::Panicked));
    Ok(())
}

/// One task of a program.
#[derive(Clone, Copy, Debug)]
struct Step {
    from: usize,
    to: usize,
    kind: u8,
}

/// The whole of two values, and parts of a third one, some of which overlap.
const PLACES: usize = 6;

fn part(matrix: &Mutable<Array2<u64>>, place: usize) -> Part<u64> {
    let part = match place {
        2 => matrix.part(s![..2, ..]),
        3 => matrix.part(s![2.., ..]),
        4 => matrix.part(s![1..3, ..]),
        _ => matrix.part(s![.., ..;2]),
    };
    part.expect("it is inside")
}

/// Spawns the program's tasks: each multiplies and adds, so that their order is seen.
fn spawn(r: &Region<'_>, steps: &[Step], wholes: &[Mutable<u64>; 2], matrix: &Mutable<Array2<u64>>, salt: u64) {
    fn mix(value: u64, with: u64) -> u64 {
        value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(with)
    }
    let sum = |view: &View<'_, u64>| view.array::<Ix2>().iter().fold(0u64, |sum, value| mix(sum, *value));
    for (index, step) in (0u64..).zip(steps) {
        let with = index ^ salt;
        let change = move |from: u64, to: &mut ViewMut<'_, u64>| {
            to.array_mut::<Ix2>().iter_mut().for_each(|value| *value = mix(*value, from ^ with))
        };
        let set = step.kind == 2;
        let one = move |from: u64, to: &mut u64| *to = if set { mix(from, with) } else { mix(*to, from ^ with) };
        match (step.from < 2, step.to < 2) {
            (true, true) if step.from == step.to => {
                r.spawn(move |to: &mut u64| one(0, to), (write(&wholes[step.to]),));
            }
            (true, true) if set => {
                r.spawn(move |from: &u64, to: &mut u64| one(*from, to), (read(&wholes[step.from]), overwrite(&wholes[step.to])));
            }
            (true, true) => {
                r.spawn(move |from: &u64, to: &mut u64| one(*from, to), (read(&wholes[step.from]), write(&wholes[step.to])));
            }
            (false, true) => {
                let part = part(matrix, step.from);
                r.spawn(move |from: View<'_, u64>, to: &mut u64| one(sum(&from), to), (read(&part), write(&wholes[step.to])));
            }
            (true, false) => {
                let part = part(matrix, step.to);
                r.spawn(move |from: &u64, mut to: ViewMut<'_, u64>| change(*from, &mut to), (read(&wholes[step.from]), write(&part)));
            }
            (false, false) => {
                let part = part(matrix, step.to);
                r.spawn(move |mut to: ViewMut<'_, u64>| change(with, &mut to), (write(&part),));
            }
        }
    }
}

/// What runs of a few programs in turn leave, each with its own salt.
fn left(
    threads_count: usize,
    programs: &[Vec<Step>],
    turns: &[usize],
    options: &RegionOptions,
    disturbed: bool,
) -> (u64, u64, Array2<u64>, u64) {
    let repeated = Repeated::new(threads_count);
    let wholes = [Mutable::new(1u64), Mutable::new(2u64)];
    let matrix = Mutable::new(Array2::from_shape_fn((4, 4), |(row, column)| (row * 4 + column) as u64));
    std::thread::scope(|scope| {
        // Ends the other thread, also when this one panics.
        let goes_on = Arc::new(());
        if disturbed {
            let (goes_on, matrix, wholes) = (Arc::downgrade(&goes_on), &matrix, &wholes);
            scope.spawn(move || {
                while goes_on.strong_count() > 0 {
                    drop(matrix.fetch());
                    drop(wholes[1].fetch());
                    drop(part(matrix, 4).fetch());
                }
            });
        }
        for (salt, turn) in (0u64..).zip(turns) {
            let program = &programs[turn % programs.len()];
            repeated.run_with(options, |r| spawn(r, program, &wholes, &matrix, salt)).expect("no task fails");
        }
        drop(goes_on);
    });
    let [one, two] = wholes.map(|whole| whole.take().expect("no task has failed"));
    (one, two, matrix.take().expect("no task has failed"), repeated.report().replayed)
}

fn a_step() -> impl Strategy<Value = Step> {
    (0..PLACES, 0..PLACES, 0..3u8).prop_map(|(from, to, kind)| Step { from, to, kind })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_region_leaves_the_same_whether_it_was_replayed_or_not(
        programs in prop::collection::vec(prop::collection::vec(a_step(), 1..14), 1..3),
        turns in prop::collection::vec(0..4usize, 4..16),
        disturbed: bool,
    ) {
        let off = left(1, &programs, &turns, &patient().replay(false), false);
        for count in [1, 3] {
            let on = left(count, &programs, &turns, &patient(), disturbed);
            prop_assert_eq!((on.0, on.1, &on.2), (off.0, off.1, &off.2));
            // A program that comes in each turn is replayed from the third on.
            if programs.len() == 1 && !disturbed {
                prop_assert_eq!(on.3, turns.len() as u64 - 2);
            }
        }
    }
}
