//! Parts of values on worker processes: used in place where they lie in buffers, copied there and back where not.
//!
//! Needs Linux with `/proc`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::id;

use ndarray::{Array2, Ix2, s};
use poniard::{
    BoxError, Buffer, Data, FailureKind, Mutable, Part, PartError, Runtime, Scope, TaskOptions, View, ViewMut, buffer, field, overwrite,
    read, write,
};
use poniard_tests::in_time;
use rustix::fs::{CWD, FileType, Mode, mknodat};

const ROWS: usize = 9;
const COLUMNS: usize = 7;

fn runtime() -> Runtime {
    Runtime::builder().threads(1).processes(2).build().expect("a runtime")
}

/// Options of a task that is to run on a process.
fn far() -> TaskOptions {
    TaskOptions::new().scope(Scope::backend("process"))
}

fn near() -> TaskOptions {
    TaskOptions::new().scope(Scope::host())
}

/// Bytes that were copied to all processes, and from them.
fn copied(runtime: &Runtime) -> (u64, u64) {
    let report = runtime.report();
    let processors = report.backends.iter().flat_map(|backend| &backend.processors);
    processors.fold((0, 0), |(to, from), processor| (to + processor.copied_to_bytes, from + processor.copied_from_bytes))
}

/// Parts of a matrix of all forms.
fn forms(matrix: &Part<u64>) -> Result<Vec<Part<u64>>, PartError> {
    Ok(vec![
        matrix.clone(),
        matrix.part(s![2..5, 1..6])?,
        matrix.part(s![..;2, 1..;3])?,
        matrix.part(s![..;-2, ..;-1])?,
        matrix.part(s![4, ..])?,
        matrix.part(s![.., 3])?,
        matrix.part(s![5, 5])?,
        matrix.part(s![3..3, ..])?,
        matrix.rows(6..)?,
        matrix.columns(..2)?,
        matrix.diagonal()?,
        matrix.upper()?,
        matrix.strictly_lower()?,
        matrix.part(s![1..6, 1..6])?.lower()?,
        matrix.part(s![..;2, ..;2])?.strictly_upper()?,
        matrix.band(-1..=2)?,
        matrix.part(s![3..5, 2..4])?.with_halo(1)?,
        matrix.part(s![7.., ..1])?.with_halo(3)?,
    ])
}

/// All places of a view that may be in it, in their order.
fn places(shape: &[usize]) -> Vec<[usize; 2]> {
    match shape {
        [] => vec![[0, 0]],
        [len] => (0..*len).map(|at| [at, 0]).collect(),
        [rows, columns] => (0..*rows).flat_map(|row| (0..*columns).map(move |column| [row, column])).collect(),
        other => unreachable!("a part of a matrix has two dimensions at most, not {other:?}"),
    }
}

/// Makes each element depend on what it was and on its place, and notes which process it is.
fn stir(mut view: ViewMut<'_, u64>, mut process: ViewMut<'_, u32>) {
    let shape = view.shape();
    for (number, place) in (1u64..).zip(places(shape)) {
        let element = match shape.len() {
            0 => view.get_mut([]),
            1 => view.get_mut([place[0]]),
            _ => view.get_mut(place),
        };
        if let Some(element) = element {
            *element = element.wrapping_mul(31).wrapping_add(number);
        }
    }
    process[0] = id();
}

/// A sum that tells the order of the elements.
fn digest(view: View<'_, u64>, mut into: ViewMut<'_, u64>, mut process: ViewMut<'_, u32>) {
    let shape = view.shape();
    let element = |place: [usize; 2]| match shape.len() {
        0 => view.get([]).copied(),
        1 => view.get([place[0]]).copied(),
        _ => view.get(place).copied(),
    };
    into[0] = places(shape).into_iter().filter_map(element).fold(7, |sum, element| sum.wrapping_mul(1_000_003).wrapping_add(element));
    process[0] = id();
}

/// What a program over parts of all forms leaves: the matrix, and what its tasks have read.
type Left = (Vec<u64>, Vec<u64>);

fn program(runtime: &Runtime, options: &TaskOptions, whole: &Part<u64>) -> Result<(Left, Vec<u32>), BoxError> {
    let parts = forms(whole)?;
    let (digests, processes) = (Mutable::new(buffer::zeroed::<u64>(parts.len())), Mutable::new(buffer::zeroed::<u32>(2 * parts.len())));
    for (index, part) in parts.iter().enumerate() {
        let (digest_of, process) = (digests.rows(index..=index)?, |at: usize| processes.rows(at..=at));
        drop(runtime.task(stir, (write(part), write(&process(2 * index)?))).options(options).spawn());
        let next = &parts[(index + 3) % parts.len()];
        drop(runtime.task(digest, (read(next), overwrite(&digest_of), write(&process(2 * index + 1)?))).options(options).spawn());
    }
    let left = (whole.fetch()?.view().array::<Ix2>().iter().copied().collect(), digests.take()?.to_vec());
    Ok((left, processes.take()?.to_vec()))
}

fn numbers() -> Vec<u64> {
    (0..(ROWS * COLUMNS) as u64).map(|number| number * number).collect()
}

#[test]
fn all_forms_of_a_buffer_are_used_in_place_and_nothing_is_copied() {
    in_time(|| {
        let runtime = runtime();
        let matrix = || Mutable::new(buffer::from_slice(&numbers())).whole().unwrap().shaped((ROWS, COLUMNS)).unwrap();
        let (expected, here) = program(&runtime, &near(), &matrix()).unwrap();
        assert!(here.iter().all(|process| *process == id()));
        assert_eq!(copied(&runtime), (0, 0));
        let (left, there) = program(&runtime, &far(), &matrix()).unwrap();
        assert_eq!(left, expected);
        assert!(there.iter().all(|process| ![0, id()].contains(process)), "{there:?}");
        assert_eq!(copied(&runtime), (0, 0));
    });
}

#[test]
fn parts_of_an_array_travel_there_and_back() {
    in_time(|| {
        let runtime = runtime();
        let by_row = Array2::from_shape_vec((ROWS, COLUMNS), numbers()).unwrap();
        // The same elements, that lie column by column, and backwards.
        let mut by_column = Array2::from_shape_fn((COLUMNS, ROWS), |(column, row)| by_row[[row, COLUMNS - 1 - column]]).reversed_axes();
        by_column.invert_axis(ndarray::Axis(1));
        assert_eq!(by_column, by_row);
        let (expected, _) = program(&runtime, &near(), &Mutable::new(by_row.clone()).whole().unwrap()).unwrap();
        for matrix in [by_row, by_column] {
            let (left, there) = program(&runtime, &far(), &Mutable::new(matrix).whole().unwrap()).unwrap();
            assert_eq!(left, expected);
            assert!(there.iter().all(|process| ![0, id()].contains(process)), "{there:?}");
        }
        let (to, from) = copied(&runtime);
        assert!(to > from && from >= (2 * ROWS * COLUMNS * size_of::<u64>()) as u64, "{to} to, {from} from");
    });
}

fn exclaim(mut names: ViewMut<'_, String>) -> u32 {
    for row in 0..names.shape()[0] {
        for column in names.columns(row) {
            names[[row, column]].push('!');
        }
    }
    id()
}

#[test]
fn elements_that_are_no_numbers_travel_too_and_the_others_stay() {
    in_time(|| {
        let runtime = runtime();
        let names = Mutable::new(Array2::from_shape_fn((4, 4), |(row, column)| format!("{row}{column}")));
        let triangle = names.whole().unwrap().strictly_lower().unwrap();
        let before = names.fetch().unwrap()[[0, 3]].as_ptr();
        for _ in 0..2 {
            assert_ne!(runtime.task(exclaim, (write(&triangle),)).options(&far()).spawn().take().unwrap(), id());
        }
        let names = names.fetch().unwrap();
        for ((row, column), name) in names.indexed_iter() {
            assert_eq!(*name, format!("{row}{column}{}", if row > column { "!!" } else { "" }));
        }
        assert_eq!(names[[0, 3]].as_ptr(), before);
    });
}

/// Where two tasks meet that run at the same time: to open it for reading waits for whoever opens it for writing.
struct Meeting(tempfile::TempDir);

impl Meeting {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["there", "back"] {
            mknodat(CWD, folder.path().join(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        }
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

/// Says a number to the other one who is at the meeting, and hears his.
fn exchange(at: &Path, speaks_first: bool, number: u64) -> Result<u64, BoxError> {
    let say = |name| -> Result<(), BoxError> { Ok(OpenOptions::new().write(true).open(at.join(name))?.write_all(&number.to_ne_bytes())?) };
    let hear = |name| -> Result<u64, BoxError> {
        let mut bytes = [0; 8];
        File::open(at.join(name))?.read_exact(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    };
    if speaks_first {
        say("there")?;
        hear("back")
    } else {
        let heard = hear("there")?;
        say("back")?;
        Ok(heard)
    }
}

fn fill_as_told(mut view: ViewMut<'_, u64>, at: PathBuf, speaks_first: bool, number: u64) -> Result<u32, BoxError> {
    view.array_mut::<Ix2>().fill(100 + number);
    let heard = exchange(&at, speaks_first, number)?;
    view.array_mut::<Ix2>().mapv_inplace(|value| value * 10 + heard);
    Ok(id())
}

#[test]
fn parts_without_a_common_element_are_written_at_the_same_time_in_two_processes_and_here() {
    in_time(|| {
        let runtime = runtime();
        let values = Mutable::new(buffer::zeroed::<u64>(16));
        let matrix = values.whole().unwrap().shaped((4, 4)).unwrap();
        // Interleaved: they share each cache line, and each page.
        let (even, odd) = (matrix.part(s![.., ..;2]).unwrap(), matrix.part(s![.., 1..;2]).unwrap());
        for place in [far(), near()] {
            let meeting = Meeting::new();
            let one = runtime.task(fill_as_told, (write(&even), meeting.path(), true, 1)).options(&far()).spawn();
            let two = runtime.task(fill_as_told, (write(&odd), meeting.path(), false, 2)).options(&place).spawn();
            let processes = [one.take().unwrap(), two.take().unwrap()];
            assert_ne!(processes[0], processes[1]);
            assert_eq!(values.fetch().unwrap()[4..8], [1012, 1021, 1012, 1021]);
        }
    });
}

/// Writes to half of its part, says so, and ends its process.
fn write_and_end(mut view: ViewMut<'_, u64>, meeting: PathBuf, marks: PathBuf) -> u32 {
    let len = view.len();
    (0..len / 2).for_each(|at| view[at] += 5);
    let mark = marks.join("begun");
    if !mark.exists() {
        std::fs::write(mark, "").expect("a mark");
        // Whoever writes the other part is in the middle of it.
        let _ = exchange(&meeting, true, 0);
        std::process::abort();
    }
    (len / 2..len).for_each(|at| view[at] += 5);
    id()
}

/// Writes before the other process ends, and after it.
fn write_meanwhile(mut view: ViewMut<'_, u64>, meeting: PathBuf, gone: PathBuf) -> Result<u32, BoxError> {
    view[0] += 1;
    exchange(&meeting, false, 0)?;
    // The host says that the other one is gone.
    File::open(gone)?;
    let last = view.len() - 1;
    view[last] += 1;
    Ok(id())
}

fn sum(view: View<'_, u64>) -> u64 {
    (0..view.len()).map(|at| view[at]).sum()
}

#[test]
fn a_process_that_ends_loses_the_part_that_it_was_writing_in_place_and_no_other() {
    in_time(|| {
        let runtime = runtime();
        let values = Mutable::new(buffer::from_slice(&[10u64; 8]));
        let (left, right) = (values.rows(..4).unwrap(), values.rows(4..).unwrap());
        let (meeting, gone, marks) = (Meeting::new(), Meeting::new(), tempfile::tempdir().unwrap());
        let gone = gone.path().join("there");
        let broken =
            runtime.task(write_and_end, (write(&left), meeting.path(), marks.path().to_owned())).options(&far()).name("writer").spawn();
        let beside = runtime.task(write_meanwhile, (write(&right), meeting.path(), gone.clone())).options(&far()).spawn();
        let error = broken.fetch().unwrap_err();
        OpenOptions::new().write(true).open(gone).unwrap();
        assert!(matches!(error.kind(), FailureKind::Processor { .. }), "{error:?}");
        assert!(error.reason().contains("SIGABRT"), "{error}");
        assert!(error.reason().contains("it was writing in place, so what it wrote to is lost"), "{error}");
        assert_ne!(beside.take().unwrap(), id());
        assert_eq!(runtime.task(sum, (read(&right),)).options(&far()).spawn().take().unwrap(), 42);
        let after = runtime.task(sum, (read(&values.rows(3..5).unwrap()),)).options(&far()).spawn().fetch().unwrap_err();
        assert!(matches!(after.kind(), FailureKind::Dependency(_)) && after.root_task() == "writer", "{after}");
        assert!(values.fetch().is_err());

        // Who needs nothing of what was there is begun again, and makes it whole.
        let (meeting, marks) = (Meeting::new(), tempfile::tempdir().unwrap());
        let again = runtime.task(write_and_end, (overwrite(&left), meeting.path(), marks.path().to_owned())).options(&far()).spawn();
        let meet = runtime.task(exchange_alone, (meeting.path(),)).options(&near()).spawn();
        assert_ne!(again.take().unwrap(), id());
        meet.take().unwrap();
        assert_eq!(values.fetch().unwrap()[4..], [11, 10, 10, 11]);
        assert!(runtime.report().backends.iter().flat_map(|backend| &backend.processors).any(|processor| processor.begun_again == 1));
    });
}

fn exchange_alone(at: PathBuf) -> Result<u64, BoxError> {
    exchange(&at, false, 0)
}

#[test]
fn a_part_that_was_copied_is_as_it_was_when_the_process_ends_and_the_task_is_begun_again() {
    in_time(|| {
        let runtime = runtime();
        let values = Mutable::new(vec![10u64; 8]);
        let part = values.rows(2..6).unwrap();
        let (meeting, marks) = (Meeting::new(), tempfile::tempdir().unwrap());
        let task = runtime.task(write_and_end, (write(&part), meeting.path(), marks.path().to_owned())).options(&far()).spawn();
        let meet = runtime.task(exchange_alone, (meeting.path(),)).options(&near()).spawn();
        assert_ne!(task.take().unwrap(), id());
        meet.take().unwrap();
        assert_eq!(values.take().unwrap(), [10, 10, 15, 15, 15, 15, 10, 10]);
    });
}

#[derive(Clone, Data)]
struct Totals {
    count: u64,
    sums: Buffer<f64>,
}

fn count_up(count: &mut u64, at: PathBuf) -> Result<u32, BoxError> {
    *count += 1;
    exchange(&at, true, 0)?;
    Ok(id())
}

fn add_up(sums: &mut Buffer<f64>, at: PathBuf) -> Result<u32, BoxError> {
    sums[1] += 0.5;
    exchange(&at, false, 0)?;
    Ok(id())
}

#[test]
fn fields_are_changed_at_the_same_time_in_two_processes() {
    in_time(|| {
        let runtime = runtime();
        let totals = Mutable::new(Totals { count: 1, sums: buffer::zeroed(1000) });
        let meeting = Meeting::new();
        let (count, sums) = (totals.field(field!(Totals, count)), totals.field(field!(Totals, sums)));
        let one = runtime.task(count_up, (write(&count), meeting.path())).options(&far()).spawn();
        let two = runtime.task(add_up, (write(&sums), meeting.path())).options(&far()).spawn();
        assert_ne!(one.take().unwrap(), two.take().unwrap());
        let totals = totals.take().unwrap();
        assert_eq!((totals.count, totals.sums[1]), (2, 0.5));
    });
}

/// On a process, whose tasks use parts there and on the host.
fn parts_of_its_own() -> Result<(Vec<u64>, Vec<u32>), BoxError> {
    let handle = poniard::current().ok_or("inside a task")?;
    let values = Mutable::new(buffer::from_slice(&[1u64; 8]));
    let (left, right) = (values.rows(..4)?, values.rows(4..)?);
    let grow = |mut view: ViewMut<'_, u64>, by: u64| {
        (0..view.len()).for_each(|at| view[at] += by);
        id()
    };
    let here = handle.spawn(grow, (write(&left), 1));
    let there = handle.task(grow, (write(&right), 2)).scope(Scope::host()).spawn();
    let total = handle.task(sum, (read(&values.rows(3..5)?),)).scope(Scope::host()).spawn();
    handle.spawn_detached(grow, (write(&values.rows(7..)?), total));
    let processes = vec![here.take()?, there.take()?];
    Ok((values.take()?.to_vec(), processes))
}

#[test]
fn a_body_on_a_process_sends_parts_elsewhere() {
    in_time(|| {
        let runtime = runtime();
        let (values, processes) = runtime.task(parts_of_its_own, ()).options(&far()).spawn().take().unwrap();
        assert_eq!(values, [2, 2, 2, 2, 3, 3, 3, 8]);
        assert_ne!(processes[0], id());
        assert_eq!(processes[1], id());
    });
}

fn dimension(view: View<'_, u64>) -> usize {
    view.shape().len()
}

#[test]
fn a_shape_has_as_many_elements_as_the_part() {
    let values = Mutable::new(buffer::zeroed::<u64>(12));
    let whole = values.whole().unwrap();
    let error = whole.shaped((5, 2)).unwrap_err();
    assert_eq!(error.to_string(), "the shape [5, 2] for the 12 elements of a part of the shape [12]");
    let error = whole.part(s![..;2]).unwrap().shaped((2, 3)).unwrap_err();
    assert_eq!(error.to_string(), "the shape [2, 3] for the 6 elements of a part of the shape [6], which do not lie side by side");
    assert!(whole.shaped((usize::MAX, 2)).is_err());
    let cube = whole.part(s![2..10]).unwrap().shaped((2, 2, 2)).unwrap();
    // It ends where the shape does.
    assert_eq!(cube.part(s![1.., 1.., 1..]).unwrap().with_halo(5).unwrap().shape(), [2, 2, 2]);
    assert!(!cube.overlaps(&whole.part(s![..2]).unwrap()) && cube.overlaps(&whole.part(s![9..]).unwrap()));
    let runtime = runtime();
    assert_eq!(runtime.task(dimension, (read(&cube),)).options(&far()).spawn().take().unwrap(), 3);
}
