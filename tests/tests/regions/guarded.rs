//! Bodies that read what their tasks have no access to, or write there what was there before: a checked region closes whole pages while a body runs, and finds who touches them.
//!
//! Values here are of several pages, as only whole ones are closed.
#![expect(unsafe_code, reason = "bodies that touch what they have no access to, for the checker to find")]
#![cfg(target_os = "linux")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use ndarray::{Array2, Ix2, s};
use poniard::{
    BoxError, Buffer, FailureKind, Handle, Mutable, RegionError, RegionOptions, View, ViewMut, buffer, commute, consume, overwrite, read,
    reduce, write,
};
use poniard_tests::{in_time, threads};

use super::undeclared::{address, checked};

/// Elements of a value that has sixteen pages, where they have 4096 bytes.
const MANY: usize = 8192;

fn look(address: usize) -> f64 {
    // SAFETY: of the language's rules none is kept, which is what is tested. The number is there, as a `Mutable` keeps it, and the tasks of a checked region run one at a time.
    unsafe { std::ptr::with_exposed_provenance::<f64>(address).read_volatile() }
}

/// Writes a number.
fn put(address: usize, number: f64) {
    // SAFETY: as in `look`.
    unsafe { std::ptr::with_exposed_provenance_mut::<f64>(address).write_volatile(number) };
}

/// What a violation was: the task, what it has done, the line where the value was made, the elements, and who had written them.
fn touched(error: Option<RegionError>) -> (String, &'static str, u32, String, Option<String>) {
    let error = error.expect("nothing was found");
    let first = error.first();
    match first.kind() {
        FailureKind::Undeclared { value, elements, written_by, is_changed } => {
            let (verb, words) = if *is_changed {
                ("changed", "has changed what it has no access to write: element")
            } else {
                ("read", "has read what it has no access to: element")
            };
            assert!(first.to_string().contains(words), "{first}");
            assert!(value.file().ends_with("guarded.rs"), "{first}");
            let written_by = written_by.as_ref().map(|task| task.split('`').nth(1).unwrap_or_default().to_owned());
            (first.task().to_owned(), verb, value.line(), elements.clone(), written_by)
        }
        _ => panic!("{error}"),
    }
}

fn expect(
    task: &str,
    verb: &'static str,
    line: u32,
    elements: &str,
    written_by: Option<&str>,
) -> (String, &'static str, u32, String, Option<String>) {
    (task.to_owned(), verb, line, elements.to_owned(), written_by.map(str::to_owned))
}

/// What may be done with the memory at an address, as the kernel says.
fn protection(address: usize) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("it is mounted");
    let is_there = |line: &&str| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let [begin, end] = [range.0, range.1].map(|end| usize::from_str_radix(end, 16).expect("an address"));
        (begin..end).contains(&address)
    };
    maps.lines().find(is_there).and_then(|line| line.split(' ').nth(1)).expect("it is mapped")[..3].to_owned()
}

fn is_open(addresses: impl IntoIterator<Item = usize>) {
    for address in addresses {
        assert_eq!(protection(address), "rw-");
    }
}

#[test]
fn a_read_of_a_value_that_the_task_does_not_name_is_found() -> Result<(), BoxError> {
    let (one, other) = (Mutable::new(0.0f64), Mutable::new(vec![1.0f64; MANY]));
    let line = line!() - 1;
    let smuggled = address(&other.fetch()?[5000]);
    static WENT_ON: AtomicBool = AtomicBool::new(false);
    let ended = checked(|r| {
        r.task(|other: &mut Vec<f64>| other[5000] = 2.0, (write(&other),)).name("writer").spawn();
        let body = move |one: &mut f64| {
            *one = look(smuggled);
            WENT_ON.store(*one == 2.0, SeqCst);
        };
        r.task(body, (write(&one),)).name("reader").spawn();
        r.spawn(|other: &Vec<f64>| other[5000], (read(&other),));
    });
    let error = ended.err();
    assert_eq!(error.as_ref().map(RegionError::failed), Some(1));
    assert_eq!(touched(error), expect("reader", "read", line, "element 5000", Some("writer")));
    is_open([smuggled]);
    assert!(WENT_ON.load(SeqCst), "it got what was there");
    Ok(())
}

#[test]
fn a_read_of_a_buffer_is_found() -> Result<(), BoxError> {
    let buffer = Mutable::new(buffer::zeroed::<f64>(MANY));
    let line = line!() - 1;
    let smuggled = address(&buffer.fetch()?[4321]);
    let ended = checked(|r| {
        r.task(|buffer: &mut Buffer<f64>| buffer.fill(3.0), (overwrite(&buffer),)).name("fill").spawn();
        r.task(move || look(smuggled), ()).name("later").spawn();
    });
    assert_eq!(touched(ended.err()), expect("later", "read", line, "element 4321", Some("fill")));
    is_open([smuggled]);
    assert!(buffer.take()?.iter().all(|number| *number == 3.0));
    Ok(())
}

#[test]
fn a_read_outside_of_the_part_is_found() -> Result<(), BoxError> {
    // Two pages a row.
    let matrix = Mutable::new(Array2::<f64>::zeros((64, 1024)));
    let line = line!() - 1;
    let (above, below) = (matrix.rows(..32)?, matrix.rows(32..)?);
    let smuggled = address(&matrix.fetch()?[[40, 700]]);
    let ended = checked(|r| {
        r.task(|mut below: ViewMut<'_, f64>| below.array_mut::<Ix2>().fill(1.0), (write(&below),)).name("below").spawn();
        let body = move |mut above: ViewMut<'_, f64>| above.array_mut::<Ix2>()[[31, 1023]] = look(smuggled);
        r.task(body, (write(&above),)).name("above").spawn();
    });
    assert_eq!(touched(ended.err()), expect("above", "read", line, "element [40, 700]", Some("below")));
    is_open([smuggled]);
    Ok(())
}

#[test]
fn a_write_of_the_same_bytes_is_found() -> Result<(), BoxError> {
    let list = Mutable::new(vec![1.0f64; MANY]);
    let line = line!() - 1;
    let ended = checked(|r| {
        let body = |list: &Vec<f64>| put(address(&list[6000]), list[6000]);
        r.task(body, (read(&list),)).name("reader").spawn();
    });
    assert_eq!(touched(ended.err()), expect("reader", "changed", line, "element 6000", None));
    let half = list.rows(..MANY / 2)?;
    let ended = checked(|r| {
        let body = |half: View<'_, f64>| put(address(&half[1]).wrapping_add(8 * 5999), 1.0);
        r.task(body, (read(&half),)).name("half").spawn();
    });
    assert_eq!(touched(ended.err()), expect("half", "changed", line, "element 6000", None));
    // Where it is changed, too, that is all that is said.
    let ended = checked(|r| {
        let body = |half: View<'_, f64>| {
            let there = address(&half[1]).wrapping_add(8 * 5999);
            put(there, look(there) + 1.0);
        };
        r.task(body, (read(&half),)).name("both").spawn();
        r.spawn(|list: &Vec<f64>| list.len(), (read(&list),));
    });
    assert_eq!(ended.as_ref().err().map(RegionError::failed), Some(1));
    assert_eq!(touched(ended.err()), expect("both", "changed", line, "element 6000", None));
    is_open([address(&list.fetch()?[6000])]);
    Ok(())
}

#[test]
fn a_body_that_fails_leaves_nothing_closed() -> Result<(), BoxError> {
    let other = Mutable::new(vec![1.0f64; MANY]);
    let smuggled = address(&other.fetch()?[5000]);
    static DURING: AtomicBool = AtomicBool::new(false);
    let ended = checked(|r| {
        r.spawn(|other: &Vec<f64>| other.len(), (read(&other),));
        let body = move || {
            DURING.store(protection(smuggled) == "---", SeqCst);
            assert!(DURING.load(SeqCst) && smuggled == 0, "as it likes");
        };
        r.task(body, ()).name("panics").spawn();
    });
    let error = ended.err().ok_or("it panicked")?;
    assert!(matches!(error.first().kind(), FailureKind::Panicked(message) if message == "as it likes"), "{error}");
    assert!(DURING.load(SeqCst), "it was closed");
    is_open([smuggled]);
    // What it has read besides is what is said.
    let ended = checked(|r| {
        r.spawn(|other: &Vec<f64>| other.len(), (read(&other),));
        r.task(move || -> Result<(), String> { Err(look(smuggled).to_string()) }, ()).name("both").spawn();
    });
    let found = touched(ended.err());
    assert_eq!((found.0.as_str(), found.1), ("both", "read"));
    is_open([smuggled]);
    Ok(())
}

#[test]
fn what_tasks_may_touch_is_no_violation() -> Result<(), BoxError> {
    let (n, size) = (4, 96);
    let tiles = |value: f64| -> Vec<_> { (0..n * n).map(|_| Mutable::new(Array2::from_elem((size, size), value))).collect() };
    let (a, b, c) = (tiles(1.0), tiles(2.0), tiles(0.0));
    // Parts whose rows end in the middle of pages; one that is turned.
    let board = Mutable::new(Array2::<f64>::zeros((100, 700)));
    let turned = Mutable::new(Array2::<f64>::ones((700, 100)).reversed_axes());
    let corner = |row, column| board.part(s![row..row + 50, column..column + 350]);
    let (sums, log) = (Mutable::new(vec![0u64; MANY]), Mutable::new(Vec::<u64>::new()));
    let gone = Mutable::new(vec![7u64; MANY]);
    let runtime = threads(2);
    runtime.region_with(&RegionOptions::new().checked(true), |r| -> Result<(), BoxError> {
        for (i, j, k) in (0..n).flat_map(|i| (0..n).flat_map(move |j| (0..n).map(move |k| (i, j, k)))) {
            let gemm = |a: &Array2<f64>, b: &Array2<f64>, c: &mut Array2<f64>| *c += &a.dot(b);
            r.spawn(gemm, (read(&a[i * n + k]), read(&b[k * n + j]), write(&c[i * n + j])));
        }
        for round in 0..4 {
            for (row, column) in [(0, 0), (0, 350), (50, 0), (50, 350)] {
                let part = corner(row, column)?;
                let halo = part.with_halo(1)?;
                r.spawn(|mut part: ViewMut<'_, f64>| part.array_mut::<Ix2>().iter_mut().for_each(|number| *number += 1.0), (write(&part),));
                r.spawn(|halo: View<'_, f64>| halo.array::<Ix2>().sum(), (read(&halo),));
            }
            let column = turned.columns(round * 100..round * 100 + 3)?;
            r.spawn(|mut column: ViewMut<'_, f64>| column.array_mut::<Ix2>().fill(3.0), (write(&column),));
            let add = |all: &mut Vec<u64>, more: Vec<u64>| all.iter_mut().zip(more).for_each(|(all, more)| *all += more);
            r.spawn(|sums: &mut Vec<u64>| sums.iter_mut().for_each(|sum| *sum += 1), (reduce(&sums, || vec![0; MANY], add),));
            // It gets other memory now and then.
            r.spawn(|log: &mut Vec<u64>, sums: &Vec<u64>| log.extend(sums), (commute(&log), read(&sums)));
            // The spawning thread looks at what is closed just now.
            assert_eq!(gone.fetch()?[MANY - 1], 7);
        }
        let whole = r.spawn(|gone: Vec<u64>| gone, (consume(&gone),));
        r.spawn(|gone: &mut Option<Vec<u64>>, whole: Vec<u64>| *gone = Some(whole.repeat(2)), (overwrite(&gone), whole));
        r.spawn(|gone: &mut Vec<u64>| gone.iter_mut().for_each(|number| *number += 1), (write(&gone),));
        Ok(())
    })??;
    assert!(c.iter().all(|tile| tile.fetch().is_ok_and(|tile| tile.iter().all(|number| *number == 2.0 * (n * size) as f64))));
    is_open(a.iter().map(|tile| tile.fetch().map_or(0, |tile| address(&tile[[size / 2, 0]]))));
    is_open([address(&board.fetch()?[[50, 350]]), address(&turned.fetch()?[[50, 350]])]);
    assert!(board.take()?.iter().all(|number| *number == 4.0));
    assert_eq!((sums.take()?, log.take()?.len(), gone.take()?), (vec![4; MANY], 4 * MANY, vec![8; 2 * MANY]));
    Ok(())
}

#[test]
fn who_waits_or_is_another_thread_is_not_to_blame() -> Result<(), BoxError> {
    let (one, other) = (Mutable::new(0.0f64), Mutable::new(vec![1.0f64; MANY]));
    let smuggled = address(&other.fetch()?[5000]);
    for count in [1, 2] {
        let runtime = threads(count);
        let handle = Handle::clone(&runtime);
        let outside = other.clone();
        let shared = Mutable::new(vec![2.0f64; MANY]);
        let place = address(&shared.fetch()?[100]);
        runtime.region_with(&RegionOptions::new().checked(true), |r| {
            r.spawn(|other: &Vec<f64>, shared: &Vec<f64>| other.len() + shared.len(), (read(&other), read(&shared)));
            // A task of nobody's region, on top of the body where there is one thread.
            let inside = outside.clone();
            let waits = handle.clone();
            r.spawn(
                move |one: &mut f64| *one += waits.spawn(|other: &Vec<f64>| other[5000], (read(&inside),)).take().unwrap_or(0.0),
                (write(&one),),
            );
            // It looks in its own name, which puts it in line as any task.
            let inside = outside.clone();
            r.spawn(move |one: &mut f64| *one += inside.fetch().map_or(0.0, |other| other[5000]), (write(&one),));
            // A region in a task of one, whose tasks are guarded as well.
            let nested = handle.clone();
            let own = Mutable::new(vec![3.0f64; MANY]);
            let body = move |one: &mut f64| {
                let inner = nested.region_with(&RegionOptions::new().checked(true), |r| {
                    r.spawn(|own: &mut Vec<f64>| own[0] = 4.0, (write(&own),));
                    let _ = r.spawn(|| (), ());
                });
                *one += if inner.is_ok() { own.fetch().map_or(0.0, |own| own[0] + own[MANY - 1]) } else { 0.0 };
            };
            r.spawn(body, (write(&one),));
            // Two closures at the same time, with what the task has.
            let halves = handle.clone();
            let body = move |shared: &mut Vec<f64>| {
                let (left, right) = shared.split_at_mut(MANY / 2);
                halves.join(|| left.fill(5.0), || right.fill(5.0));
            };
            r.spawn(body, (write(&shared),));
            // A thread of its own: nobody knows whose it is.
            r.spawn(move || std::thread::spawn(move || look(smuggled) + look(place)).join().map_or(0.0, |sum| sum), ());
        })?;
        assert!(shared.take()?.iter().all(|number| *number == 5.0));
    }
    assert_eq!(one.take()?, 2.0 * (1.0 + 1.0 + 7.0));
    is_open([smuggled]);
    Ok(())
}

#[test]
fn threads_that_touch_what_is_closed_and_opened_all_the_time_go_on() -> Result<(), BoxError> {
    in_time(|| {
        let other = Mutable::new(vec![1.0f64; MANY]);
        let first = address(&other.fetch().expect("it is there")[0]);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for at in [0, 600, 3000, 7500] {
                let is_over = &is_over;
                scope.spawn(move || {
                    // Now and then, so that some come while it is being opened anyway.
                    let mut pause = at;
                    while !is_over.load(SeqCst) {
                        put(first + 8 * at, look(first + 8 * at));
                        pause = pause.wrapping_mul(1_103_515_245).wrapping_add(12_345) % (1 << 31);
                        (0..pause >> 20).for_each(|_| std::hint::spin_loop());
                    }
                });
            }
            let ended = checked(|r| {
                r.spawn(|other: &Vec<f64>| other.len(), (read(&other),));
                for _ in 0..8000 {
                    r.spawn(|| (0..100).for_each(|_| std::hint::spin_loop()), ());
                }
            });
            is_over.store(true, SeqCst);
            assert_eq!(ended.err().map(|error| error.to_string()), None);
        });
        is_open([first + 4096]);
    });
    Ok(())
}

/// The arguments by which this program runs one ignored test.
fn alone(test: &str, case: &str) -> (ExitStatus, String) {
    let program = std::env::current_exe().expect("a test has a file");
    let test = format!("guarded::{test}");
    let mut command = Command::new(program);
    command.args(["--exact", &test, "--ignored", "--nocapture", "--test-threads=1"]).env(CASE, case);
    let output = command.output().expect("it starts");
    (output.status, format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

const CASE: &str = "PONIARD_FAULT_TEST";

#[test]
#[ignore = "ends the program; run by `a_fault_elsewhere_ends_the_program_as_before`"]
#[expect(clippy::print_stdout, reason = "its output is looked at")]
fn alone_with_a_fault() {
    fn deep(number: u64) -> u64 {
        let room = std::hint::black_box([number; 1000]);
        if room[0] == 0 { 0 } else { deep(number + 1) + room[number as usize % 1000] }
    }
    let list = Mutable::new(vec![1.0f64; MANY]);
    let smuggled = address(&list.fetch().expect("it is there")[5000]);
    let ended = checked(|r| {
        r.spawn(|list: &Vec<f64>| list.len(), (read(&list),));
        r.spawn(move || look(smuggled), ());
    });
    assert!(ended.is_err());
    println!("before");
    match std::env::var(CASE).as_deref() {
        Ok("unmapped") => put(8, 0.0),
        // There, and not to be written.
        Ok("constant") => put("a text of a program's own".as_ptr().expose_provenance().next_multiple_of(8), 0.0),
        Ok("in a body") => {
            drop(checked(|r| drop(r.spawn(|| put("a text of a program's own".as_ptr().expose_provenance().next_multiple_of(8), 0.0), ()))))
        }
        Ok("deep") => drop(std::thread::spawn(|| deep(1)).join()),
        _ => {}
    }
    println!("after");
}

#[test]
fn a_fault_elsewhere_ends_the_program_as_before() {
    for (case, signal) in [("unmapped", 11), ("constant", 11), ("in a body", 11), ("deep", 6)] {
        let (status, text) = alone("alone_with_a_fault", case);
        assert!(text.contains("before") && !text.contains("after"), "{case}: {text}");
        // A sanitizer says what it was, and ends the program itself.
        assert!(status.signal() == Some(signal) || text.contains("AddressSanitizer"), "{case}: {status}: {text}");
        assert!(case != "deep" || text.contains("overflow"), "{text}");
    }
    let (status, text) = alone("alone_with_a_fault", "none");
    assert!(status.success() && text.contains("after"), "{text}");
}
