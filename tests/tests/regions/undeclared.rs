//! Bodies that change what their tasks have no access to: a checked region finds them, and names the task, the value, the elements and whose they were.
#![expect(unsafe_code, reason = "bodies that change what they have no access to, for the checker to find")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;

use ndarray::{Array2, Ix2, s};
use poniard::{
    BoxError, Buffer, FailureKind, Mutable, Region, RegionError, RegionOptions, Runtime, Scope, TaskOptions, View, ViewMut, buffer,
    commute, consume, field, overwrite, read, reduce, with_options, write,
};
use poniard_tests::{in_time, threads};

/// Changes a number wherever it lies.
fn change(address: usize) {
    let number = std::ptr::with_exposed_provenance_mut::<f64>(address);
    // SAFETY: of the language's rules none is kept, which is what is tested. The number is there, as a `Mutable` keeps it, and the tasks of a checked region run one at a time.
    let before = unsafe { number.read_volatile() };
    // SAFETY: as above.
    unsafe { number.write_volatile(before + 1.0) };
}

/// Where a number lies.
pub(super) fn address(number: *const f64) -> usize {
    number.expose_provenance()
}

/// Runs a region that is checked, on two threads.
pub(super) fn checked<R>(body: impl FnOnce(&Region<'_>) -> R) -> Result<R, RegionError> {
    threads(2).region_with(&RegionOptions::new().checked(true), body)
}

/// What a violation was: the task, the line where the value was made, the elements, and who had written them.
fn found(error: Option<RegionError>) -> (String, u32, String, Option<String>) {
    let error = error.expect("nothing was found");
    let first = error.first();
    assert!(first.to_string().contains("has changed what it has no access to write"), "{first}");
    assert!(first.location().file().ends_with("undeclared.rs"), "{first}");
    match first.kind() {
        FailureKind::Undeclared { value, elements, written_by, is_changed: true } => {
            assert!(value.file().ends_with("undeclared.rs"), "{first}");
            let written_by = written_by.as_ref().map(|task| task.split('`').nth(1).unwrap_or_default().to_owned());
            (first.task().to_owned(), value.line(), elements.clone(), written_by)
        }
        _ => panic!("{error}"),
    }
}

fn expect(task: &str, line: u32, elements: &str, written_by: Option<&str>) -> (String, u32, String, Option<String>) {
    (task.to_owned(), line, elements.to_owned(), written_by.map(str::to_owned))
}

#[test]
fn a_write_to_what_is_only_read_is_found() {
    let list = Mutable::new(vec![1.0f64; 8]);
    let line = line!() - 1;
    let ended = checked(|r| {
        r.task(|list: &mut Vec<f64>| list[3] = 2.0, (write(&list),)).name("writer").spawn();
        r.task(|list: &Vec<f64>| change(address(&list[3])), (read(&list),)).name("reader").spawn();
        r.spawn(|list: &Vec<f64>| list[3], (read(&list),));
    });
    let error = ended.err();
    assert_eq!(error.as_ref().map(RegionError::failed), Some(1), "the one task, and none after it");
    assert_eq!(found(error), expect("reader", line, "element 3", Some("writer")));
    // A buffer, by way of a part that is read.
    let list = Mutable::new(buffer::zeroed::<f64>(8));
    let part = list.rows(2..6).expect("it is inside");
    let line = line!() - 2;
    let ended = checked(|r| {
        let body = |part: View<'_, f64>| [0, 1].map(|at| change(address(&part[at]))).len();
        r.task(body, (read(&part),)).name("view").spawn();
    });
    assert_eq!(found(ended.err()), expect("view", line, "elements 2 to 3", None));
}

#[test]
fn a_write_outside_of_the_part_is_found() {
    let matrix = Mutable::new(Array2::<f64>::zeros((4, 4)));
    let line = line!() - 1;
    let tile = |row, column| matrix.part(s![row..row + 2, column..column + 2]).expect("it is inside");
    let ended = checked(|r| {
        let inside = |mut tile: ViewMut<'_, f64>| tile.array_mut::<Ix2>().fill(1.0);
        r.task(inside, (write(&tile(0, 0)),)).name("inside").spawn();
        r.task(inside, (write(&tile(2, 2)),)).name("corner").spawn();
        let outside = |mut tile: ViewMut<'_, f64>| {
            tile.array_mut::<Ix2>().fill(2.0);
            // Right of the tile, two elements of its second row.
            let end = tile.array_mut::<Ix2>().as_ptr().wrapping_add(4 + 2);
            change(address(end));
            change(address(end.wrapping_add(1)));
        };
        r.task(outside, (write(&tile(1, 0)),)).name("outside").spawn();
    });
    assert_eq!(found(ended.err()), expect("outside", line, "elements [2, 2] to [2, 3]", Some("corner")));
}

#[test]
fn a_write_to_a_value_that_the_task_does_not_name_is_found() -> Result<(), BoxError> {
    let (one, other) = (Mutable::new(vec![0.0f64; 4]), Mutable::new(vec![0.0f64; 4]));
    let line = line!() - 1;
    let smuggled = address(&other.fetch()?[2]);
    let ended = checked(|r| {
        r.spawn(|other: &Vec<f64>| other.len(), (read(&other),));
        let body = move |one: &mut Vec<f64>| {
            one[0] = 1.0;
            change(smuggled);
        };
        r.task(body, (write(&one),)).name("smuggler").spawn();
        r.task(|one: &mut Vec<f64>| one[1] = 1.0, (write(&one),)).name("honest").spawn();
    });
    let error = ended.err();
    assert!(error.as_ref().is_some_and(|error| error.failed() == 2), "what depends on its result has none either");
    assert_eq!(found(error), expect("smuggler", line, "element 2", None));
    Ok(())
}

#[test]
fn a_write_beside_copies_of_a_reduction_is_found() -> Result<(), BoxError> {
    let list = Mutable::new(vec![0.0f64; 8]);
    let line = line!() - 1;
    let smuggled = address(&list.fetch()?[5]);
    let sum = || reduce(&list, || vec![0.0; 8], |all: &mut Vec<f64>, more: Vec<f64>| all[0] += more[0]);
    let most = || reduce(&list, || vec![0.0; 8], |all: &mut Vec<f64>, more: Vec<f64>| all[0] = all[0].max(more[0]));
    let ended = checked(|r| {
        r.spawn(|all: &mut Vec<f64>| all[0] += 1.0, (sum(),));
        r.spawn(|all: &mut Vec<f64>| all[0] = 2.0, (most(),));
        // Nothing is combined before this one.
        let both = move |all: &mut Vec<f64>| {
            all[0] = 3.0;
            change(smuggled);
        };
        r.task(both, (most(),)).name("both").spawn();
    });
    assert_eq!(found(ended.err()), expect("both", line, "element 5", None));
    Ok(())
}

#[test]
fn tasks_that_are_not_run_any_more_keep_no_value() {
    let alive = Arc::new(0u8);
    let value = Mutable::new(Arc::clone(&alive));
    let ended = checked(|r| {
        r.spawn(|_: &mut Arc<u8>| Err::<(), BoxError>("no".into()), (write(&value),));
        r.spawn(|_: &mut Arc<u8>| (), (write(&value),));
    });
    assert_eq!(ended.map_err(|error| error.failed()), Err(2));
    drop(value);
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn a_write_by_a_later_task_with_a_pointer_that_was_left_is_found() {
    static LEFT: AtomicUsize = AtomicUsize::new(0);
    let list = Mutable::new(buffer::zeroed::<f64>(5));
    let line = line!() - 1;
    let ended = checked(|r| {
        let leak = |list: &mut Buffer<f64>| {
            list.fill(7.0);
            LEFT.store(address(&list[4]), SeqCst);
        };
        r.task(leak, (write(&list),)).name("leak").spawn();
        // It has access to nothing at all, and no edge of its own leads to the one before.
        r.task(|| change(LEFT.load(SeqCst)), ()).name("later").spawn();
    });
    assert_eq!(found(ended.err()), expect("later", line, "element 4", Some("leak")));
}

#[test]
fn a_value_that_was_given_other_memory_is_found() {
    let list = Mutable::new(vec![1.0f64; 3]);
    let line = line!() - 1;
    let ended = checked(|r| {
        let grow = |list: &Vec<f64>| {
            let list = std::ptr::from_ref(list).expose_provenance();
            // SAFETY: as in `change`.
            unsafe { (*std::ptr::with_exposed_provenance_mut::<Vec<f64>>(list)).reserve(1000) };
        };
        r.task(grow, (read(&list),)).name("grow").spawn();
    });
    assert_eq!(found(ended.err()), expect("grow", line, "elements 0 to 2", None));
}

#[test]
fn a_body_that_fails_is_looked_at_too_and_one_violation_is_found_once() {
    let (list, count) = (Mutable::new(vec![1.0f64; 3]), Mutable::new(0u64));
    let ended = checked(|r| {
        let body = |list: &Vec<f64>| -> Result<(), String> {
            change(address(&list[0]));
            Err("it failed besides".into())
        };
        r.task(body, (read(&list),)).name("both").spawn();
        for _ in 0..3 {
            r.spawn(|list: &Vec<f64>, count: &mut u64| *count += list.len() as u64, (read(&list), write(&count)));
        }
    });
    let error = ended.err();
    assert_eq!(error.as_ref().map(RegionError::failed), Some(1));
    assert_eq!(found(error).0, "both");
    assert_eq!(count.take().ok(), Some(9));
}

#[derive(Clone, poniard::Data)]
struct Body {
    mass: f64,
    force: f64,
}

#[test]
fn what_tasks_may_do_is_no_violation() -> Result<(), BoxError> {
    let list = Mutable::new(vec![0.0f64; 6]);
    let turned = Mutable::new(Array2::from_shape_fn((3, 4), |(row, column)| (row * 4 + column) as f64).reversed_axes());
    let (empty, texts) = (Mutable::new(Vec::<u64>::new()), Mutable::new(vec!["text".to_owned()]));
    let (sums, body) = (Mutable::new(vec![0u64; 4]), Mutable::new(Body { mass: 1.0, force: 0.0 }));
    let (half, column) = (list.rows(..3)?, turned.columns(1..2)?);
    let runtime = threads(3);
    let handle = poniard::Handle::clone(&runtime);
    runtime.region_with(&RegionOptions::new().checked(true).window(5), |r| -> Result<(), BoxError> {
        for round in 0..8 {
            r.spawn(|list: &mut Vec<f64>| list.iter_mut().for_each(|number| *number += 1.0), (write(&list),));
            r.spawn(|mut half: ViewMut<'_, f64>| half[0] = 5.0, (overwrite(&half),));
            r.spawn(|mut column: ViewMut<'_, f64>| column.array_mut::<Ix2>().fill(3.0), (write(&column),));
            r.spawn(|empty: &mut Vec<u64>| empty.push(1), (write(&empty),));
            r.spawn(
                |empty: &mut Vec<u64>, texts: &mut Vec<String>| texts.push(empty.len().to_string()),
                (commute(&empty), commute(&texts)),
            );
            r.spawn(
                |force: &mut f64, mass: &f64| *force += mass,
                (write(&body.field(field!(Body, force))), read(&body.field(field!(Body, mass)))),
            );
            let add = |all: &mut Vec<u64>, more: Vec<u64>| all.iter_mut().zip(more).for_each(|(all, more)| *all += more);
            r.spawn(move |sums: &mut Vec<u64>| sums[round % 4] += 1, (reduce(&sums, || vec![0; 4], add),));
            if round % 3 == 2 {
                // The spawning thread combines what was reduced, while tasks run.
                r.spawn(|| (), ());
                assert_eq!(sums.fetch()?.iter().sum::<u64>(), round as u64 + 1);
            }
            // A body that waits, and whose thread runs other tasks meanwhile.
            let handle = handle.clone();
            r.spawn(move |sums: &Vec<u64>| handle.spawn(|len: usize| len, (sums.len(),)).take(), (read(&sums),));
        }
        let whole = r.spawn(|empty: Vec<u64>| empty, (consume(&empty),));
        r.spawn(|empty: &mut Option<Vec<u64>>, whole: Vec<u64>| *empty = Some(whole[..2].to_vec()), (overwrite(&empty), whole));
        r.spawn(|empty: &mut Vec<u64>| empty.push(7), (write(&empty),));
        Ok(())
    })??;
    assert_eq!((list.take()?, empty.take()?), (vec![5.0, 8.0, 8.0, 8.0, 8.0, 8.0], vec![1, 1, 7]));
    assert_eq!((sums.take()?, texts.take()?.len(), body.take()?.force), (vec![2; 4], 9, 8.0));
    assert_eq!(turned.take()?.column(1).to_vec(), [3.0; 4]);
    Ok(())
}

#[test]
fn a_task_does_not_wait_in_line_before_those_that_come_before_it() {
    in_time(|| {
        let (gate, list) = (Mutable::new(0u64), Mutable::new(Vec::<u64>::new()));
        let (to_tasks, at_tasks) = channel::<()>();
        let ended = checked(|r| {
            r.spawn(move |gate: &mut u64| *gate += u64::from(at_tasks.recv().is_err()), (write(&gate),));
            r.spawn(|gate: &u64, list: &mut Vec<u64>| list.push(*gate), (read(&gate), commute(&list)));
            // It could have the list at once, and would keep the one before from having it.
            r.spawn(|list: &mut Vec<u64>| list.push(2), (commute(&list),));
            drop(to_tasks);
        });
        assert_eq!(ended.err().map(|error| error.to_string()), None);
        assert_eq!(list.take().ok(), Some(vec![1, 2]));
    });
}

fn process(list: &mut Buffer<f64>) -> u32 {
    list.fill(1.0);
    std::process::id()
}

#[test]
fn tasks_of_a_checked_region_stay_in_this_process() {
    in_time(|| {
        let runtime = Runtime::builder().threads(1).processes(2).build().unwrap();
        let list = Mutable::new(buffer::zeroed::<f64>(100));
        let options = RegionOptions::new().checked(true);
        let all: Vec<_> = runtime.region_with(&options, |r| (0..20).map(|_| r.spawn(process, (write(&list),))).collect()).unwrap();
        assert!(all.iter().all(|task| *task.fetch().unwrap() == std::process::id()));
        let far = TaskOptions::new().scope(Scope::backend("process"));
        let ended = runtime.region_with(&options, |r| with_options(far, || drop(r.spawn(process, (write(&list),)))));
        let error = ended.unwrap_err();
        assert!(
            matches!(error.first().kind(), FailureKind::Stays { .. }) && error.to_string().contains("its region is checked"),
            "{error}"
        );
    });
}
