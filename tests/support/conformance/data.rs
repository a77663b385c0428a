//! Arguments and results are the same on both sides, by value, by reference and shared.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ndarray::{Array1, Array2, Array3, ArrayD, array};
use poniard::{Buffer, Data, Gather, Mutable, Task, buffer, overwrite, read, write};
use serde::{Deserialize, Serialize};

use super::{Proof, Stage, Subject, promised};

/// Sends a value of a type to a task and back in every way that there is.
macro_rules! check {
    ($stage:expr, $type:ty, $value:expr) => {{
        let (stage, value): (&Stage, $type) = ($stage, $value);
        let same = |value: $type| value;
        let copied = |value: &$type| value.clone();
        let moved = stage.task(same, (value.clone(),)).spawn();
        let looked_at = stage.task(copied, (&moved,)).spawn();
        let shared = stage.task(copied, (Arc::new(value.clone()),)).spawn();
        let from_here = stage.task(same, (&stage.runtime.value(value.clone()),)).spawn();
        let again = stage.task(same, (looked_at,)).spawn();
        compare(&value, [("by value", moved), ("by reference and by value", again), ("shared", shared), ("from here", from_here)]);
    }};
}

/// Looks at what came back.
fn compare<T: Data + Clone + PartialEq + Debug>(value: &T, results: [(&str, Task<T>); 4]) {
    for (way, task) in results {
        let result = task.take().unwrap_or_else(|error| panic!("{value:?} {way}: {error}"));
        assert_eq!(result, *value, "{way}");
    }
}

pub(super) fn numbers_and_text_come_and_go(subject: &Subject) -> Proof {
    let stage = subject.stage();
    check!(&stage, (), ());
    check!(&stage, bool, true);
    check!(&stage, (u8, u16, u32, u64, u128, usize), (u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX, usize::MAX));
    check!(&stage, (i8, i16, i32, i64, i128, isize), (i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN, isize::MIN));
    check!(&stage, (f32, f64, f64, f64), (f32::MIN_POSITIVE, f64::MAX, -0.0f64, f64::INFINITY));
    let nan = stage.task(|value: f64| value, (f64::from_bits(0x7ff8_0000_0000_1234),)).spawn().take().unwrap();
    assert_eq!(nan.to_bits(), 0x7ff8_0000_0000_1234);
    check!(&stage, (char, char, char), ('a', '\u{10ffff}', '\0'));
    check!(&stage, String, String::new());
    check!(&stage, String, "é 漢 \0 \u{1f600}".to_owned());
    check!(&stage, String, "x".repeat(100_000));
    check!(&stage, PathBuf, PathBuf::from("/a/b"));
    check!(&stage, Duration, Duration::MAX);
    let text = |text: &str, number: u64| format!("{text} {number}");
    assert_eq!(stage.task(text, ("one".to_owned(), 2)).spawn().take().unwrap(), "one 2");
    Ok(())
}

pub(super) fn collections_come_and_go(subject: &Subject) -> Proof {
    let stage = subject.stage();
    check!(&stage, Vec<u64>, vec![]);
    check!(&stage, Vec<u32>, (0..100_000u32).collect());
    check!(&stage, Vec<String>, vec![String::new(), "one".into()]);
    check!(&stage, Vec<Vec<u8>>, vec![vec![1u8], vec![], vec![2, 3]]);
    check!(&stage, VecDeque<i16>, (0..10i16).collect());
    check!(&stage, BTreeMap<String, Vec<f32>>, BTreeMap::from([("a".to_owned(), vec![1.5f32]), ("b".to_owned(), vec![])]));
    check!(&stage, HashMap<u64, String>, (0..100u64).map(|number| (number, number.to_string())).collect());
    check!(&stage, BTreeSet<u8>, (0..100u8).collect());
    check!(&stage, HashSet<u8>, (0..100u8).collect());
    check!(&stage, (Option<u8>, Option<String>, Option<Option<bool>>), (Some(1u8), None::<String>, Some(Some(false))));
    check!(&stage, Box<[[u8; 2]; 2]>, Box::new([[1u8, 2], [3, 4]]));
    check!(&stage, Range<u64>, 3..7u64);
    let sum = |numbers: &[u64]| numbers.iter().sum::<u64>();
    assert_eq!(stage.task(sum, (vec![1, 2, 3],)).spawn().take().unwrap(), 6);
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Data, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle { radius: f64 },
    Group(Vec<Shape>, Option<String>),
}

pub(super) fn own_types_come_and_go(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let circle = Shape::Circle { radius: 2.5 };
    check!(&stage, Shape, Shape::Point);
    check!(&stage, Shape, Shape::Group(vec![circle.clone(), Shape::Group(vec![], Some("inner".into()))], None));
    check!(&stage, BTreeMap<u8, Shape>, BTreeMap::from([(1u8, circle.clone())]));
    let grow = |shape: &Shape, factor: f64| match shape {
        Shape::Circle { radius } => Shape::Circle { radius: radius * factor },
        other => other.clone(),
    };
    assert_eq!(stage.task(grow, (circle, 2.0)).spawn().take().unwrap(), Shape::Circle { radius: 5.0 });
    Ok(())
}

pub(super) fn arrays_of_ndarray_come_and_go(subject: &Subject) -> Proof {
    let stage = subject.stage();
    check!(&stage, Array1<f64>, Array1::<f64>::zeros(0));
    check!(&stage, Array2<f32>, array![[1.5f32, 2.5], [3.5, 4.5]]);
    check!(&stage, Array3<u8>, Array3::from_shape_fn((3, 0, 2), |_| 1u8));
    check!(&stage, ArrayD<i64>, ArrayD::from_elem(vec![2, 1, 3, 1], 7i64));
    check!(&stage, Array2<f64>, Array2::from_shape_fn((301, 207), |(row, column)| row as f64 - 0.5 * column as f64));
    // One whose elements do not lie in the order of its indices.
    check!(
        &stage,
        Array2<usize>,
        Array2::from_shape_fn((30, 20), |(row, column)| (row, column)).mapv(|(row, column)| row * 100 + column).reversed_axes()
    );
    let product = |one: &Array2<f64>, other: &Array2<f64>| one.dot(other);
    let (one, other) = (array![[1.0, 2.0], [3.0, 4.0]], array![[0.0, 1.0], [1.0, 0.0]]);
    assert_eq!(stage.task(product, (one, other)).spawn().take().unwrap(), array![[2.0, 1.0], [4.0, 3.0]]);
    Ok(())
}

fn made(len: usize, factor: f64) -> Buffer<f64> {
    let mut made = buffer::zeroed(len);
    assert!(made.iter().all(|value| *value == 0.0), "new memory is zero");
    made.iter_mut().enumerate().for_each(|(index, value)| *value = index as f64 * factor);
    made
}

fn doubled(mut values: Buffer<f64>) -> Buffer<f64> {
    values.iter_mut().for_each(|value| *value *= 2.0);
    values
}

fn added(one: &Buffer<f64>, other: &Buffer<f64>) -> Buffer<f64> {
    buffer::from_fn(one.len(), |index| one[index] + other[index])
}

pub(super) fn buffers_of_every_size_come_and_go(subject: &Subject) -> Proof {
    let stage = subject.stage();
    for len in [0, 1, 7, 513, 131_072, 524_289] {
        let here = stage.runtime.value(made(len, 1.0));
        let there = stage.task(made, (len, 3.0)).spawn();
        let twice = stage.task(doubled, (&here,)).spawn();
        // Its only user: it may be changed in place.
        let fourfold = stage.task(doubled, (stage.task(doubled, (&here,)).spawn(),)).spawn();
        let sum = stage.task(added, (&there, &twice)).spawn();
        for (task, factor) in [(&here, 1.0), (&there, 3.0), (&twice, 2.0), (&fourfold, 4.0), (&sum, 5.0)] {
            let values = task.fetch().unwrap();
            assert_eq!(values.len(), len);
            assert!(values.iter().enumerate().all(|(index, value)| *value == index as f64 * factor), "{len} values, {factor}");
        }
    }
    for len in [0, 1, 3, 4097, 1_048_577] {
        let bytes = stage.task(|len: usize| buffer::from_fn(len, |index| index as u8), (len,)).spawn();
        let count = stage.task(|bytes: &Buffer<u8>| bytes.iter().filter(|byte| **byte == 1).count(), (&bytes,)).spawn();
        assert_eq!(*count.fetch().unwrap(), (len + 254) / 256, "{len} bytes");
        assert!(bytes.fetch().unwrap().iter().enumerate().all(|(index, byte)| *byte == index as u8), "{len} bytes");
    }
    Ok(())
}

pub(super) fn an_argument_by_value_leaves_others_theirs(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let push = |mut numbers: Vec<u64>, number: u64| {
        numbers.push(number);
        numbers
    };
    let numbers = stage.task(|| vec![1u64], ()).spawn();
    let values = stage.task(made, (1000, 1.0)).spawn();
    let pushed: Vec<_> = (0..8).map(|number| stage.task(push, (&numbers, number)).spawn()).collect();
    let changed: Vec<_> = (0..8).map(|_| stage.task(doubled, (&values,)).spawn()).collect();
    for (number, (pushed, changed)) in (0..).zip(pushed.into_iter().zip(changed)) {
        assert_eq!(pushed.take().unwrap(), [1, number]);
        assert_eq!(changed.take().unwrap()[7], 14.0);
    }
    assert_eq!((numbers.take().unwrap(), values.take().unwrap()[7]), (vec![1], 7.0));
    Ok(())
}

pub(super) fn a_value_is_shared_by_many_tasks(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let shared = Arc::new((0..1000u64).collect::<Vec<_>>());
    let values = stage.runtime.value(Arc::new(made(1000, 1.0)));
    let pick = |numbers: &[u64], values: &Buffer<f64>, index: usize| (numbers[index], values[index]);
    let kept = |values: Arc<Buffer<f64>>| values;
    let tasks: Vec<_> = (0..100).map(|index| stage.task(pick, (Arc::clone(&shared), made(1000, 1.0), index * 7)).spawn()).collect();
    for (index, task) in (0..).zip(tasks) {
        assert_eq!(task.take().unwrap(), (index * 7, (index * 7) as f64));
    }
    let back = stage.task(kept, (&values,)).spawn().take().unwrap();
    drop(values);
    assert_eq!(back[999], 999.0);
    Ok(())
}

pub(super) fn results_are_gathered(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let square = |number: u64| number * number;
    let sum = |parts: Gather<'_, u64>| (parts.len(), parts.iter().sum::<u64>());
    for len in [0, 1, 2, 300u64] {
        // Every other one from wherever.
        let parts: Vec<Task<u64>> = (0..len)
            .map(|number| match number % 2 {
                0 => stage.task(square, (number,)).spawn(),
                _ => stage.runtime.spawn(square, (number,)),
            })
            .collect();
        let expected = (0..len).map(square).sum();
        assert_eq!(stage.task(sum, (&parts[..],)).spawn().take().unwrap(), (len as usize, expected));
        assert_eq!(stage.runtime.spawn(sum, (parts,)).take().unwrap(), (len as usize, expected));
    }
    Ok(())
}

pub(super) fn a_mutable_is_read(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let place = Mutable::new(vec![1u64, 2]);
    let sum = |numbers: &[u64]| numbers.iter().sum::<u64>();
    let tasks: Vec<_> = (0..10).map(|_| stage.task(sum, (read(&place),)).spawn()).collect();
    assert!(tasks.into_iter().all(|task| task.take().unwrap() == 3));
    Ok(())
}

pub(super) fn a_mutable_is_written(subject: &Subject) -> Proof {
    promised(subject.promises.runs_everything, "it runs only what travels, and access to change a value does not")?;
    let stage = subject.stage();
    let place = Mutable::new(vec![0u64; 4]);
    stage.task(|numbers: &mut Vec<u64>| *numbers = vec![1, 2, 3], (overwrite(&place),)).spawn().detach();
    let sum = |numbers: &[u64]| numbers.iter().sum::<u64>();
    let double = |numbers: &mut [u64]| numbers.iter_mut().for_each(|number| *number *= 2);
    let sums: Vec<_> = (0..10)
        .map(|_| {
            let before = stage.task(sum, (read(&place),)).spawn();
            stage.task(double, (write(&place),)).spawn().detach();
            before
        })
        .collect();
    for (turn, sum) in sums.into_iter().enumerate() {
        assert_eq!(sum.take().unwrap(), 6 << turn);
    }
    assert_eq!(place.take().unwrap(), [1024, 2048, 3072]);
    Ok(())
}

pub(super) fn results_outlive_the_runtime(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let values = stage.task(made, (100_000, 1.0)).spawn();
    let kept = values.fetch().unwrap();
    let never_asked = stage.task(made, (1000, 2.0)).spawn();
    drop(stage);
    assert_eq!((kept[99_999], never_asked.take().unwrap()[999]), (99_999.0, 1998.0));
    Ok(())
}
