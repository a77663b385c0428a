//! Accesses whose order among each other does not matter: one at a time, or each on a copy of its own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};

use poniard::{BoxError, FailureKind, Mutable, RegionPlan, commute, overwrite, read, reduce, write};
use poniard_tests::threads;
use proptest::prelude::*;

#[test]
fn tasks_that_commute_have_the_value_one_at_a_time_and_all_of_them_have_it() -> Result<(), BoxError> {
    static IN_USE: AtomicBool = AtomicBool::new(false);
    let runtime = threads(3);
    let log = Mutable::new(Vec::new());
    let note = |log: &mut Vec<u64>, value: u64| {
        assert!(!IN_USE.swap(true, SeqCst), "two tasks have it");
        log.push(value);
        std::thread::yield_now();
        IN_USE.store(false, SeqCst);
    };
    let (before, after) = runtime.region(|r| {
        r.spawn(note, (write(&log), 1000));
        let before = r.spawn(|log: &[u64]| log.len(), (read(&log),));
        for value in 0..500 {
            r.spawn(note, (commute(&log), value));
        }
        let after = r.spawn(|log: &[u64]| log.len(), (read(&log),));
        for value in 500..600 {
            r.spawn(note, (commute(&log), value));
        }
        r.spawn(note, (write(&log), 2000));
        (before, after)
    })?;
    assert_eq!((*before.fetch()?, *after.fetch()?), (1, 501));
    let mut log = log.take()?;
    assert_eq!((log[0], log[601]), (1000, 2000));
    log[1..501].sort_unstable();
    log[501..601].sort_unstable();
    assert!(log[1..601].iter().copied().eq(0..600));
    Ok(())
}

#[test]
fn one_that_waits_for_something_else_is_in_nobodys_way() -> Result<(), BoxError> {
    let runtime = threads(2);
    let (place, other) = (Mutable::new(Vec::new()), Mutable::new(0u64));
    let (to_slow, at_slow) = channel::<u64>();
    let (to_test, at_test) = channel();
    let slow = runtime.spawn(move |other: &mut u64| at_slow.recv().map(|word| *other = word), (write(&other),));
    // First in the order of the spawns, and it cannot begin yet.
    let first = runtime.spawn(|all: &mut Vec<u64>, other: &u64| all.push(*other), (commute(&place), read(&other)));
    let second = runtime.spawn(
        move |all: &mut Vec<u64>| {
            all.push(1);
            to_test.send(()).is_ok()
        },
        (commute(&place),),
    );
    at_test.recv()?;
    to_slow.send(7)?;
    slow.wait()?;
    first.wait()?;
    assert!(*second.fetch()?);
    assert_eq!(place.take()?, [1, 7]);
    Ok(())
}

#[test]
fn tasks_that_commute_on_several_values_do_not_wait_for_each_other_in_a_circle() -> Result<(), BoxError> {
    for count in 1..4 {
        let runtime = threads(count);
        let places: Vec<Mutable<u64>> = (0..6).map(|_| Mutable::new(0)).collect();
        runtime.region(|r| {
            for step in 0..2000usize {
                let (one, two) = (step * 7 % 6, (step * 7 + 1 + step % 5) % 6);
                r.spawn(|one: &mut u64, two: &mut u64| (*one += 1, *two += 1), (commute(&places[one]), commute(&places[two])));
            }
        })?;
        assert_eq!(places.iter().map(|place| place.fetch().map(|value| *value)).sum::<Result<u64, _>>()?, 4000);
    }
    Ok(())
}

#[test]
fn the_turn_of_one_that_is_cancelled_or_fails_goes_to_the_next() -> Result<(), BoxError> {
    let runtime = threads(1);
    let place = Mutable::new(0u64);
    let (to_gate, at_gate) = channel::<()>();
    let gate = runtime.spawn(move |_: &mut u64| at_gate.recv(), (commute(&place),));
    let cancelled = runtime.spawn(|value: &mut u64| *value += 100, (commute(&place),));
    let failed = runtime.spawn(|_: &mut u64| -> Result<(), String> { Err("no".into()) }, (commute(&place),));
    let last = runtime.spawn(|value: &mut u64| *value += 1, (commute(&place),));
    assert!(cancelled.cancel());
    to_gate.send(())?;
    gate.wait()?;
    last.wait()?;
    assert_eq!(failed.fetch().err().map(|error| error.reason()), Some("no".into()));
    // Who looks is told; the first of those that failed in the order of the spawns, which is the one that was cancelled.
    assert!(place.fetch().is_err());
    runtime.spawn(|value: &mut u64| *value = 5, (overwrite(&place),)).wait()?;
    assert_eq!(*place.fetch()?, 5);
    Ok(())
}

#[test]
fn two_accesses_of_a_task_to_one_value_conflict_if_one_commutes_or_reduces() {
    let runtime = threads(1);
    let place = Mutable::new(0u64);
    let sum = || reduce(&place, || 0u64, |sum, more| *sum += more);
    let errors = [
        runtime.spawn(|_: &u64, _: &mut u64| (), (read(&place), commute(&place))).fetch().err(),
        runtime.spawn(|_: &mut u64, _: &mut u64| (), (commute(&place), commute(&place))).fetch().err(),
        runtime.spawn(|_: &mut u64, _: &u64| (), (sum(), read(&place))).fetch().err(),
        runtime.spawn(|_: &mut u64, _: &mut u64| (), (sum(), sum())).fetch().err(),
    ];
    for error in errors {
        assert!(error.is_some_and(|error| matches!(error.kind(), FailureKind::SamePlace { accesses: (1, 2) })));
    }
}

#[test]
fn tasks_that_reduce_run_at_the_same_time() -> Result<(), BoxError> {
    let runtime = threads(2);
    let sum = Mutable::new(1u64);
    // Each waits for the other inside its body.
    let both = Arc::new(Barrier::new(2));
    runtime.region(|r| {
        for value in [10, 100] {
            let both = Arc::clone(&both);
            let add = move |sum: &mut u64| {
                both.wait();
                *sum += value;
            };
            r.spawn(add, (reduce(&sum, || 0, |sum, more| *sum += more),));
        }
    })?;
    assert_eq!(*sum.fetch()?, 111);
    Ok(())
}

#[test]
fn copies_are_few_and_are_combined_once() -> Result<(), BoxError> {
    static COPIES: AtomicUsize = AtomicUsize::new(0);
    let runtime = threads(2);
    let counts = Mutable::new(vec![0u64; 4]);
    runtime.region(|r| {
        for value in 0..1000usize {
            let count = move |counts: &mut Vec<u64>| counts[value % 4] += 1;
            let identity = || {
                COPIES.fetch_add(1, SeqCst);
                vec![0; 4]
            };
            let combine = |all: &mut Vec<u64>, more: Vec<u64>| all.iter_mut().zip(more).for_each(|(all, more)| *all += more);
            r.spawn(count, (reduce(&counts, identity, combine),));
        }
    })?;
    assert_eq!(*counts.fetch()?, [250; 4]);
    assert_eq!(*counts.fetch()?, [250; 4]);
    let copies = COPIES.load(SeqCst);
    assert!((1..=2).contains(&copies), "{copies} copies for two workers");
    Ok(())
}

#[test]
fn copies_of_one_kind_are_combined_before_there_are_any_of_the_next() -> Result<(), BoxError> {
    let runtime = threads(2);
    let place = Mutable::new(3u64);
    let sum = || reduce(&place, || 0, |all: &mut u64, more: u64| *all += more);
    let most = || reduce(&place, || 0, |all: &mut u64, more: u64| *all = (*all).max(more));
    let (open, opened) = channel();
    let gate = runtime.spawn(move || opened.recv().is_ok(), ());
    runtime.spawn(|all: &mut u64| *all += 431, (sum(),)).detach();
    runtime.spawn(|all: &mut u64| *all = (*all).max(618), (most(),)).detach();
    // The first one of two that may begin in any order, and the last one to begin.
    runtime.spawn(|all: &mut u64, _: &bool| *all += 348, (sum(), &gate)).detach();
    runtime.spawn(|all: &mut u64| *all += 91, (sum(),)).fetch()?;
    open.send(())?;
    assert_eq!(*place.fetch()?, 618 + 348 + 91);
    Ok(())
}

#[derive(Clone, Debug)]
enum Step {
    Read,
    Append(u64),
    Replace(u64),
    /// Adds, in any order.
    Commute(u64),
    /// Adds, on copies.
    Sum(u64),
    /// Keeps the larger, on copies.
    Largest(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = || 0..1000u64;
    let step = prop_oneof![
        1 => Just(Step::Read),
        1 => value().prop_map(Step::Append),
        1 => value().prop_map(Step::Replace),
        3 => value().prop_map(Step::Commute),
        3 => value().prop_map(Step::Sum),
        3 => value().prop_map(Step::Largest),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_mixture_means_what_it_would_one_after_the_other(steps in steps(), count in 1usize..4, planned in any::<bool>()) {
        let runtime = threads(count);
        let place = Mutable::new(3u64);
        let mut expected = 3u64;
        let wanted: Vec<u64> = steps.iter().filter_map(|step| {
            match step {
                Step::Read => return Some(expected),
                Step::Append(value) => expected = expected * 3 % 10_007 + value,
                Step::Replace(value) => expected = *value,
                Step::Commute(value) | Step::Sum(value) => expected += value,
                Step::Largest(value) => expected = expected.max(*value),
            }
            None
        }).collect();
        let mut seen = Vec::new();
        let append = |all: &mut u64, value: &u64| *all = *all * 3 % 10_007 + value;
        let replace = |all: &mut u64, value: &u64| *all = *value;
        let add = |all: &mut u64, value: &u64| *all += value;
        let largest = |all: &mut u64, value: &u64| *all = (*all).max(*value);
        let sum = || reduce(&place, || 0, |all, more| *all += more);
        let most = || reduce(&place, || 0, |all: &mut u64, more: u64| *all = (*all).max(more));
        if planned {
            let mut nodes = Vec::new();
            let plan = RegionPlan::new(|r| for step in &steps {
                match *step {
                    Step::Read => nodes.push(r.spawn(|all: &u64| *all, (read(&place),))),
                    Step::Append(value) => { r.spawn(append, (write(&place), value)); },
                    Step::Replace(value) => { r.spawn(replace, (overwrite(&place), value)); },
                    Step::Commute(value) => { r.spawn(add, (commute(&place), value)); },
                    Step::Sum(value) => { r.spawn(add, (sum(), value)); },
                    Step::Largest(value) => { r.spawn(largest, (most(), value)); },
                }
            })?;
            let run = plan.run(&runtime)?;
            for node in nodes {
                seen.push(*run.fetch(node)?);
            }
        } else {
            let tasks = runtime.region(|r| {
                let mut tasks = Vec::new();
                for step in &steps {
                    match *step {
                        Step::Read => tasks.push(r.spawn(|all: &u64| *all, (read(&place),))),
                        Step::Append(value) => { r.spawn(append, (write(&place), value)); },
                        Step::Replace(value) => { r.spawn(replace, (overwrite(&place), value)); },
                        Step::Commute(value) => { r.spawn(add, (commute(&place), value)); },
                        Step::Sum(value) => { r.spawn(add, (sum(), value)); },
                        Step::Largest(value) => { r.spawn(largest, (most(), value)); },
                    }
                }
                tasks
            })?;
            for task in tasks {
                seen.push(*task.fetch()?);
            }
        }
        prop_assert_eq!(seen, wanted);
        prop_assert_eq!(place.take()?, expected);
    }
}
