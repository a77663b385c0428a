//! Tasks that take a value out of its `Mutable`, and those that put one there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;

use poniard::{
    BoxError, Buffer, FailureKind, Mutable, RegionOptions, RegionPlan, Runtime, Scope, TaskError, buffer, commute, consume, overwrite,
    read, reduce, write,
};
use poniard_tests::{in_time, threads};

fn eat(value: Vec<u64>) -> usize {
    value.len()
}

fn sum(values: &[u64]) -> u64 {
    values.iter().sum()
}

/// Asserts that an error is that of one who came too late: to blame is the task that has the value, by its name and with the line where it was spawned.
fn is_blamed(error: &TaskError, eater: &str, line: u32) {
    assert!(matches!(error.root().kind(), FailureKind::Consumed), "{error}");
    assert_eq!((error.root_task(), error.root().location().line()), (eater, line), "{error}");
    assert!(error.root().location().file().ends_with("consuming.rs"), "{error}");
    assert!(error.to_string().contains("has consumed the value"), "{error}");
}

#[test]
fn a_value_is_moved_and_comes_after_all_who_used_it() -> Result<(), BoxError> {
    let runtime = threads(2);
    // Whoever has the value itself, and no clone, has this in it alone.
    let inside = Arc::new(7u64);
    let place = Mutable::new(vec![Arc::clone(&inside)]);
    let (to_reader, at_reader) = channel::<()>();
    let (seen, taken) = runtime.region(|r| {
        let seen = r.spawn(move |values: &Vec<Arc<u64>>| at_reader.recv().is_err() && values.len() == 1, (read(&place),));
        r.spawn(|values: &mut Vec<Arc<u64>>| values.push(Arc::new(8)), (write(&place),));
        let taken = r.spawn(|values: Vec<Arc<u64>>| (values.len(), Arc::strong_count(&values[0])), (consume(&place),));
        drop(to_reader);
        (seen, taken)
    })?;
    assert!(*seen.fetch()?);
    assert_eq!(*taken.fetch()?, (2, 2));
    assert_eq!(Arc::strong_count(&inside), 1, "what was consumed is dropped with the task");
    Ok(())
}

#[test]
fn who_looks_at_an_empty_one_gets_the_name_of_the_task_that_has_the_value() -> Result<(), BoxError> {
    let runtime = threads(2);
    let place = Mutable::new(vec![1u64]);
    let line = line!() + 1;
    let eater = runtime.task(eat, (consume(&place),)).name("eater").spawn();
    let late: Vec<TaskError> = [
        runtime.spawn(sum, (read(&place),)).wait().err(),
        runtime.spawn(|values: &mut Vec<u64>| values.push(1), (write(&place),)).wait().err(),
        runtime.spawn(|values: &mut Vec<u64>| values.push(1), (overwrite(&place),)).wait().err(),
        runtime.spawn(|values: &mut Vec<u64>| values.push(1), (commute(&place),)).wait().err(),
        runtime.spawn(|values: &mut Vec<u64>| values.push(1), (reduce(&place, Vec::new, |all, more| all.extend(more)),)).wait().err(),
        runtime.spawn(eat, (consume(&place),)).wait().err(),
        runtime.spawn(|part: poniard::View<'_, u64>| part.len(), (read(&place.rows(..1)?),)).wait().err(),
        place.fetch().map(drop).err(),
        place.rows(..1)?.fetch().map(drop).err(),
        place.clone().take().err(),
    ]
    .into_iter()
    .map(|error| error.ok_or("somebody found a value"))
    .collect::<Result<_, _>>()?;
    assert_eq!(*eater.fetch()?, 1);
    // Tasks that failed while they were to write are to blame for what comes after them, but what they themselves depend on is the same.
    for error in late {
        is_blamed(&error, "eater", line);
    }
    let plan = RegionPlan::new(|r| {
        r.spawn(sum, (read(&place),));
    })?;
    let error = plan.run(&runtime).err().ok_or("the plan found a value")?;
    is_blamed(error.first(), "eater", line);
    Ok(())
}

#[test]
fn an_option_finds_none_and_leaves_what_it_likes() -> Result<(), BoxError> {
    for options in [RegionOptions::new(), RegionOptions::new().checked(true)] {
        let runtime = threads(2);
        let place = Mutable::new(vec![1u64, 2]);
        let found = |values: &mut Option<Vec<u64>>| values.clone();
        let all = runtime.region_with(&options, |r| {
            let kept = r.spawn(found, (write(&place),));
            let dropped = r.spawn(found, (overwrite(&place),));
            let still_none = r.spawn(found, (write(&place),));
            r.spawn(|values: &mut Option<Vec<u64>>| *values = Some(vec![5]), (write(&place),));
            let first = r.spawn(|values: Vec<u64>| values, (consume(&place),));
            r.spawn(|values: &mut Option<Vec<u64>>, of: Vec<u64>| *values = Some(vec![of[0], 6]), (overwrite(&place), &first));
            let last = r.spawn(|values: Vec<u64>| values, (consume(&place),));
            (kept, dropped, still_none, last)
        })?;
        assert_eq!(*all.0.fetch()?, Some(vec![1, 2]));
        assert_eq!((&*all.1.fetch()?, &*all.2.fetch()?), (&None, &None));
        assert_eq!(*all.3.fetch()?, [5, 6]);
        place.put(vec![8])?;
        let line = line!() + 1;
        runtime.task(|values: &mut Option<Vec<u64>>| assert!(values.is_none()), (overwrite(&place),)).name("emptied").spawn().wait()?;
        is_blamed(&place.fetch().map(drop).err().ok_or("there is a value")?, "emptied", line);
        place.put(vec![9])?;
        assert_eq!(place.take()?, [9]);
    }
    Ok(())
}

#[test]
fn a_task_that_is_not_run_consumes_nothing_and_one_that_fails_does() -> Result<(), BoxError> {
    let runtime = threads(1);
    let place = Mutable::new(vec![1u64]);
    let broken = runtime.spawn(|| Err::<u64, _>("broken"), ());
    let idle = runtime.spawn(|values: Vec<u64>, _: u64| values, (consume(&place), broken));
    assert!(idle.wait().is_err());
    // Its failure is one of those who look, and the value is still there for who may begin in spite of it.
    assert!(place.fetch().is_err());
    runtime.spawn(|values: &mut Vec<u64>| values.push(2), (overwrite(&place),)).wait()?;
    assert_eq!(*place.fetch()?, [1, 2]);

    let failed = runtime.spawn(|_: Vec<u64>| Err::<(), _>("not my taste"), (consume(&place),));
    assert!(failed.wait().is_err());
    let error = runtime.spawn(|values: &mut Vec<u64>| values.clear(), (overwrite(&place),)).wait().err().ok_or("it found a value")?;
    assert!(matches!(error.root().kind(), FailureKind::Consumed), "{error}");
    place.put(vec![3])?;
    assert_eq!(place.take()?, [3]);
    Ok(())
}

#[test]
fn what_is_tried_again_is_consumed_once_in_the_end() -> Result<(), BoxError> {
    let runtime = threads(1);
    let place = Mutable::new(vec![1u64]);
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let moody = |values: Vec<u64>| if CALLS.fetch_add(1, SeqCst) == 0 { Err("not yet") } else { Ok(values) };
    let values = runtime.task(moody, (consume(&place),)).retries(3).spawn();
    assert_eq!(*values.fetch()?, [1]);
    assert!(matches!(place.fetch().map(drop).err().ok_or("there is a value")?.kind(), FailureKind::Consumed));
    Ok(())
}

#[test]
fn what_was_reduced_is_combined_before_it_is_consumed() -> Result<(), BoxError> {
    let runtime = threads(2);
    let total = Mutable::new(0u64);
    let sum = runtime.region(|r| {
        for value in 1..=10 {
            r.spawn(move |total: &mut u64| *total += value, (reduce(&total, || 0, |all, more| *all += more),));
        }
        r.spawn(|total: u64| total, (consume(&total),))
    })?;
    assert_eq!(*sum.fetch()?, 55);
    Ok(())
}

fn doubled(mut values: Buffer<u64>) -> (u32, Buffer<u64>) {
    values.iter_mut().for_each(|value| *value *= 2);
    (std::process::id(), values)
}

fn refill(place: &mut Option<Buffer<u64>>, with: u64) -> u32 {
    assert!(place.is_none(), "it begins without one");
    *place = Some(buffer::from_fn(3, |index| with + index as u64));
    std::process::id()
}

#[test]
fn a_worker_process_gets_what_is_consumed_and_gives_what_is_put() {
    in_time(|| {
        let runtime = Runtime::builder().threads(1).processes(1).build().unwrap();
        let far = Scope::backend("process");
        let place = Mutable::new(buffer::from_fn(1000, |index| index as u64));
        let line = line!() + 1;
        let doubled = runtime.task(doubled, (consume(&place),)).name("far").scope(far.clone()).spawn();
        let error = place.fetch().map(drop).unwrap_err();
        is_blamed(&error, "far", line);
        let (process, values) = &*doubled.fetch().unwrap();
        assert_ne!(*process, std::process::id());
        assert_eq!((values[0], values[999]), (0, 1998));
        let refilled = runtime.task(refill, (overwrite(&place), 5)).scope(far).spawn();
        assert_ne!(*refilled.fetch().unwrap(), std::process::id());
        assert_eq!(place.fetch().unwrap()[..], [5, 6, 7]);
    });
}
