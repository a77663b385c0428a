//! Parts of values that tasks change in place: those that share an element run in the order of their spawns, others at the same time.

use std::sync::mpsc::channel;

use ndarray::{Array2, Array3, Ix1, Ix2, s};
use poniard::{
    BoxError, Buffer, Data, FailureKind, Mutable, Part, PartError, Runtime, TaskError, View, ViewMut, buffer, field, overwrite, read, write,
};
use poniard_tests::threads;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

/// Sides of the matrix of the property test.
const ROWS: usize = 6;
const COLUMNS: usize = 7;

/// How a made-up program picks a part: a rectangle with steps, and what of it.
#[derive(Clone, Debug)]
struct Pick {
    rows: (usize, usize, usize),
    columns: (usize, usize, usize),
    band: Option<(i64, i64)>,
    diagonal: bool,
}

fn picks() -> impl Strategy<Value = Pick> {
    let side = |len: usize| (0..len, 0..=len, 1usize..3).prop_map(move |(first, count, step)| (first, (first + count).min(len), step));
    let band = prop::option::of((-3i64..3, 0i64..3).prop_map(|(low, more)| (low, low + more)));
    (side(ROWS), side(COLUMNS), band, prop::bool::weighted(0.2)).prop_map(|(rows, columns, band, diagonal)| Pick {
        rows,
        columns,
        band,
        diagonal,
    })
}

impl Pick {
    fn part(&self, of: &Part<u64>) -> Result<Part<u64>, PartError> {
        let (rows, columns) = (self.rows, self.columns);
        let rectangle = of.part(s![rows.0..rows.1;rows.2 as isize, columns.0..columns.1;columns.2 as isize])?;
        match self.band {
            _ if self.diagonal => rectangle.diagonal(),
            Some((low, high)) => rectangle.band(low..=high),
            None => Ok(rectangle),
        }
    }

    /// The elements, in the order of the view.
    fn elements(&self) -> Vec<(usize, usize)> {
        let (rows, columns) = (self.rows, self.columns);
        let of_row = |(i, row)| (columns.0..columns.1).step_by(columns.2).enumerate().map(move |(j, column)| ((i, j), (row, column)));
        let all = (rows.0..rows.1).step_by(rows.2).enumerate().flat_map(of_row);
        let (low, high) = if self.diagonal { (0, 0) } else { self.band.unwrap_or((i64::MIN, i64::MAX)) };
        all.filter(|((i, j), _)| (low..=high).contains(&(*j as i64 - *i as i64))).map(|(_, element)| element).collect()
    }
}

/// The elements of a view in their order.
fn elements(view: &View<'_, u64>) -> Vec<u64> {
    match view.shape() {
        [len] => (0..*len).map(|at| view[at]).collect(),
        [rows, columns] => (0..*rows).flat_map(|row| (0..*columns).filter_map(move |column| view.get([row, column]).copied())).collect(),
        other => unreachable!("a part of a matrix has one dimension or two, not {other:?}"),
    }
}

/// Makes each element depend on what it was, on the step, and on its place.
fn stir(mut view: ViewMut<'_, u64>, step: u64) {
    let mix = |value: &mut u64, place: usize| *value = value.wrapping_mul(31).wrapping_add(step * 1000 + place as u64);
    match view.shape() {
        &[len] => (0..len).for_each(|at| mix(&mut view[at], at)),
        &[rows, columns] => {
            let mut place = 0;
            for row in 0..rows {
                for column in 0..columns {
                    if let Some(value) = view.get_mut([row, column]) {
                        mix(value, place);
                        place += 1;
                    }
                }
            }
        }
        other => unreachable!("a part of a matrix has one dimension or two, not {other:?}"),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Read(Pick),
    Stir(Pick),
    /// The whole matrix as a value.
    Double,
    /// What a task reads of one part it adds to all elements of another; nothing if they overlap.
    Carry(Pick, Pick),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => picks().prop_map(Step::Read),
        4 => picks().prop_map(Step::Stir),
        1 => Just(Step::Double),
        2 => (picks(), picks()).prop_map(|(from, to)| Step::Carry(from, to)),
    ];
    prop::collection::vec(step, 0..40)
}

/// The matrix of a program: in a buffer, which worker processes use in place, or not.
#[derive(Clone)]
enum Matrix {
    Array(Mutable<Array2<u64>>),
    Buffer(Mutable<Buffer<u64>>),
}

impl Matrix {
    fn new(values: &Array2<u64>, in_buffer: bool) -> Self {
        if in_buffer {
            Self::Buffer(Mutable::new(buffer::from_fn(ROWS * COLUMNS, |place| values[[place / COLUMNS, place % COLUMNS]])))
        } else {
            Self::Array(Mutable::new(values.clone()))
        }
    }

    fn whole(&self) -> Result<Part<u64>, PartError> {
        match self {
            Self::Array(array) => array.whole(),
            Self::Buffer(buffer) => buffer.whole()?.shaped((ROWS, COLUMNS)),
        }
    }

    fn double(&self, runtime: &Runtime) {
        match self {
            Self::Array(array) => {
                runtime.spawn_detached(|all: &mut Array2<u64>| all.mapv_inplace(|value| value.wrapping_mul(2)), (write(array),));
            }
            Self::Buffer(buffer) => {
                let double = |all: &mut Buffer<u64>| all.iter_mut().for_each(|value| *value = value.wrapping_mul(2));
                runtime.spawn_detached(double, (write(buffer),));
            }
        }
    }

    fn elements(&self) -> Result<Vec<u64>, TaskError> {
        Ok(match self {
            Self::Array(array) => array.fetch()?.iter().copied().collect(),
            Self::Buffer(buffer) => buffer.fetch()?.to_vec(),
        })
    }
}

/// Runs a program, and compares with what it means one step after the other.
fn compare(runtime: &Runtime, in_buffer: bool, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut expected = Array2::from_shape_fn((ROWS, COLUMNS), |(row, column)| (row * COLUMNS + column) as u64);
    let matrix = Matrix::new(&expected, in_buffer);
    let whole = matrix.whole()?;
    let (mut seen, mut wanted) = (Vec::new(), Vec::new());
    for (number, step) in (0u64..).zip(steps) {
        match step {
            Step::Read(pick) => {
                let part = pick.part(&whole)?;
                prop_assert_eq!(part.len(), pick.elements().len());
                seen.push(runtime.spawn(|view: View<'_, u64>| elements(&view), (read(&part),)));
                wanted.push(pick.elements().into_iter().map(|at| expected[at]).collect::<Vec<u64>>());
            }
            Step::Stir(pick) => {
                runtime.spawn_detached(stir, (write(&pick.part(&whole)?), number));
                for (place, at) in pick.elements().into_iter().enumerate() {
                    expected[at] = expected[at].wrapping_mul(31).wrapping_add(number * 1000 + place as u64);
                }
            }
            Step::Double => {
                matrix.double(runtime);
                expected.mapv_inplace(|value| value.wrapping_mul(2));
            }
            Step::Carry(from, to) => {
                let shared = from.elements().iter().any(|at| to.elements().contains(at));
                let (source, target) = (from.part(&whole)?, to.part(&whole)?);
                prop_assert_eq!(source.overlaps(&target), shared);
                let carry = |from: View<'_, u64>, mut to: ViewMut<'_, u64>, step: u64| {
                    let sum = elements(&from).into_iter().fold(step, u64::wrapping_add);
                    stir(to.reborrow(), sum % 97);
                };
                let task = runtime.spawn(carry, (read(&source), write(&target), number));
                if shared {
                    let error = task.wait().expect_err("a task must not read what it writes");
                    prop_assert!(matches!(error.kind(), FailureKind::SamePlace { accesses: (1, 2) }), "{}", error);
                } else {
                    let sum = from.elements().into_iter().fold(number, |sum, at| sum.wrapping_add(expected[at]));
                    for (place, at) in to.elements().into_iter().enumerate() {
                        expected[at] = expected[at].wrapping_mul(31).wrapping_add(sum % 97 * 1000 + place as u64);
                    }
                }
            }
        }
    }
    for (task, wanted) in seen.into_iter().zip(wanted) {
        prop_assert_eq!(&*task.fetch()?, &wanted);
    }
    prop_assert_eq!(matrix.elements()?, expected.into_raw_vec_and_offset().0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_accesses_mean_what_they_would_one_after_the_other(steps in steps(), count in 1usize..4) {
        compare(&threads(count), false, steps)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn so_they_do_on_threads_and_processes_at_the_same_time(steps in steps(), in_buffer in any::<bool>()) {
        let runtime = Runtime::builder().threads(1).processes(2).build()?;
        compare(&runtime, in_buffer, steps)?;
    }
}

#[test]
fn parts_without_a_common_element_are_written_at_the_same_time() -> Result<(), BoxError> {
    let runtime = threads(2);
    let matrix = Mutable::new(Array2::<u64>::zeros((4, 4)));
    // Interleaved, so that any box around one has elements of the other.
    let (even, odd) = (matrix.part(s![.., ..;2])?, matrix.part(s![.., 1..;2])?);
    let (to_odd, at_odd) = channel();
    let (to_even, at_even) = channel();
    // Each waits for a word of the other, so both have to have begun.
    let one = runtime.spawn(
        move |mut view: ViewMut<'_, u64>| -> Result<(), BoxError> {
            to_odd.send(7u64)?;
            let word = at_even.recv()?;
            view.array_mut::<Ix2>().fill(word);
            Ok(())
        },
        (write(&even),),
    );
    let two = runtime.spawn(
        move |mut view: ViewMut<'_, u64>| -> Result<(), BoxError> {
            to_even.send(8u64)?;
            let word = at_odd.recv()?;
            view.array_mut::<Ix2>().fill(word);
            Ok(())
        },
        (write(&odd),),
    );
    one.wait()?;
    two.wait()?;
    assert_eq!(matrix.take()?.row(3).to_vec(), [8, 7, 8, 7]);
    Ok(())
}

#[test]
fn a_failed_writer_fails_those_who_read_its_elements_and_nobody_else() -> Result<(), BoxError> {
    let runtime = threads(2);
    let list = Mutable::new(vec![1u64; 6]);
    let (left, right) = (list.rows(..3)?, list.rows(3..)?);
    let broken = runtime.spawn(|_: ViewMut<'_, u64>| -> Result<(), String> { Err("no".into()) }, (write(&left),));
    let sum = |view: View<'_, u64>| view.row(0).iter().sum::<u64>();
    let across = runtime.spawn(sum, (read(&list.rows(2..4)?),));
    let beside = runtime.spawn(sum, (read(&right),));
    assert_eq!(*beside.fetch()?, 3);
    assert_eq!(across.fetch().expect_err("an element of it was written by a task that failed").root_task(), broken.name());
    // Who looks at nothing of the old contents makes it whole again.
    runtime.spawn(|mut view: ViewMut<'_, u64>| view.row_mut(0).fill(5), (overwrite(&left),)).wait()?;
    assert_eq!(*runtime.spawn(sum, (read(&left),)).fetch()?, 15);
    Ok(())
}

#[test]
fn a_value_that_changes_its_shape_has_no_use_for_its_old_parts() -> Result<(), BoxError> {
    let runtime = threads(1);
    let list = Mutable::new(vec![1u64; 6]);
    let end = list.rows(4..)?;
    runtime.spawn_detached(|list: &mut Vec<u64>| list.truncate(5), (write(&list),));
    let error = runtime.spawn(|view: View<'_, u64>| view[1], (read(&end),)).fetch().expect_err("element 5 is gone");
    assert!(error.to_string().contains("the value had the shape [6] when its parts were named, and has [5] now"), "{error}");
    assert!(end.fetch().is_err());
    // As a value it goes on.
    assert_eq!(list.fetch()?.len(), 5);
    Ok(())
}

#[test]
fn a_part_is_fetched_while_others_are_written() -> Result<(), BoxError> {
    let runtime = threads(1);
    let cube = Mutable::new(Array3::<u64>::from_shape_fn((2, 3, 4), |(i, j, k)| (100 * i + 10 * j + k) as u64));
    let plane = cube.part(s![1, .., ..])?;
    let reading = plane.fetch()?;
    let line = cube.part(s![0, 1, ..])?;
    runtime.spawn(|mut view: ViewMut<'_, u64>| view.array_mut::<Ix1>().fill(0), (write(&line),)).wait()?;
    assert_eq!(reading.view().array::<Ix2>().row(2).to_vec(), [120, 121, 122, 123]);
    // Who writes the plane waits for the look at it.
    let writer = runtime.spawn(|mut view: ViewMut<'_, u64>| view[[0, 0]] = 1, (write(&plane),));
    assert_eq!(reading.view()[[0, 0]], 100);
    drop(reading);
    writer.wait()?;
    assert_eq!(plane.fetch()?.view()[[0, 0]], 1);
    assert_eq!(line.fetch()?.view().row(0), [0; 4]);
    Ok(())
}

#[derive(Clone, Data)]
struct Body {
    position: (f64, f64),
    mass: f64,
    names: Vec<String>,
}

#[test]
fn fields_are_apart_and_the_whole_meets_them_all() -> Result<(), BoxError> {
    let runtime = threads(2);
    let body = Mutable::new(Body { position: (0.0, 1.0), mass: 2.0, names: Vec::new() });
    let (mass, names) = (body.field(field!(Body, mass)), body.field(field!(Body, names)));
    let (to_names, at_names) = channel();
    let (to_mass, at_mass) = channel();
    let one = runtime.spawn(
        move |mass: &mut f64| -> Result<(), BoxError> {
            to_names.send(())?;
            at_mass.recv()?;
            *mass *= 2.0;
            Ok(())
        },
        (write(&mass),),
    );
    let two = runtime.spawn(
        move |names: &mut Vec<String>| -> Result<(), BoxError> {
            to_mass.send(())?;
            at_names.recv()?;
            names.push("moon".into());
            Ok(())
        },
        (write(&names),),
    );
    // The whole, and then a field once more.
    let all = runtime.spawn(|body: &Body| (body.mass, body.names.len()), (read(&body),));
    runtime.spawn(|mass: &mut f64| *mass = 0.5, (overwrite(&mass),)).detach();
    let seen = runtime.spawn(|mass: &f64, names: &[String]| *mass + names.len() as f64, (read(&mass), read(&names)));
    assert_eq!((*all.fetch()?, *seen.fetch()?), ((4.0, 1), 1.5));
    one.wait()?;
    two.wait()?;
    // A field and the whole in one task conflict.
    let both = runtime.spawn(|_: &Body, _: &mut f64| (), (read(&body), write(&mass)));
    assert!(matches!(both.fetch().expect_err("the mass is in the body").kind(), FailureKind::SamePlace { accesses: (1, 2) }));
    assert_eq!(body.take()?.position, (0.0, 1.0));
    Ok(())
}

#[test]
fn what_cannot_be_a_part_says_why() {
    let matrix = Mutable::new(Array2::<u64>::zeros((3, 4)));
    let error = |part: Result<Part<u64>, PartError>| part.expect_err("there is no such part").to_string();
    assert_eq!(error(matrix.part(s![..4, ..])), "0..4 of dimension 0, which has 3 elements");
    assert_eq!(error(matrix.part(s![.., 4])), "element 4 of dimension 1, which has 4 elements");
    assert_eq!(error(matrix.part(s![..])), "1 ranges for 2 dimensions: give one for each, `..` for all of it");
    assert_eq!(
        error(matrix.rows(0..1).and_then(|row| row.part(s![0, ..])).and_then(|row| row.upper())),
        "a triangle of something with 1 dimensions: only a matrix has one"
    );
    assert_eq!(
        error(matrix.whole().and_then(|all| all.upper()).and_then(|upper| upper.rows(..1))),
        "a part of a triangle or a band: take the rectangle first, and the triangle of that"
    );
    let deep = Mutable::new(ndarray::ArrayD::<u64>::zeros(vec![1; 7]));
    assert_eq!(error(deep.whole()), "parts have at most 6 dimensions, and this has 7");
}

#[test]
fn many_parts_leave_nothing_behind() -> Result<(), BoxError> {
    let runtime = threads(1);
    let list = Mutable::new(vec![0u64; 100_000]);
    for at in 0..100_000 {
        runtime.spawn_detached(|mut view: ViewMut<'_, u64>| view[0] += 1, (write(&list.rows(at..=at)?),));
    }
    let known = format!("{list:?}");
    assert!(list.fetch()?.iter().all(|count| *count == 1));
    let parts = known.split("parts: ").nth(1).and_then(|rest| rest.split(',').next()).and_then(|count| count.trim().parse::<usize>().ok());
    assert!(parts.is_some_and(|parts| parts < 50_000), "the list knows of {parts:?} parts: {known}");
    Ok(())
}
