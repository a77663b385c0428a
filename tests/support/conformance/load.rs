//! Flat out: nothing is lost, nothing is run twice, and results are right.

use std::panic::resume_unwind;
use std::path::PathBuf;

use poniard::{Buffer, Task, buffer};

use super::{Proof, Subject};
use crate::marks::{Marks, note};

const TASKS: u64 = 10_000;
const SPAWNERS: u64 = 4;

fn triple(folder: PathBuf, number: u64) -> u64 {
    note(&folder, number);
    number * 3
}

pub(super) fn ten_thousand_tasks_run_once_each(subject: &Subject) -> Proof {
    let (stage, marks) = (subject.stage(), Marks::new());
    let spawn = &|spawner| {
        let numbers = || (spawner..TASKS).step_by(SPAWNERS as usize);
        let tasks: Vec<_> = numbers().map(|number| stage.task(triple, (marks.path(), number)).spawn()).collect();
        for (number, task) in numbers().zip(tasks) {
            assert_eq!(task.take().unwrap(), number * 3);
        }
    };
    std::thread::scope(|scope| {
        let spawners: Vec<_> = (0..SPAWNERS).map(|spawner| scope.spawn(move || spawn(spawner))).collect();
        for spawner in spawners {
            // What it says is the reason.
            spawner.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    let mut noted = marks.noted();
    noted.sort_unstable();
    let wrong = (0..TASKS).find(|number| noted.iter().filter(|known| *known == number).count() != 1);
    assert!(noted.iter().copied().eq(0..TASKS), "{} runs of {TASKS} tasks; the first that ran twice or never: {wrong:?}", noted.len());
    Ok(())
}

pub(super) fn a_long_chain_gives_the_right_result(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let step = |last: u64, number: u64| last.wrapping_mul(31).wrapping_add(number);
    let first = stage.task(|| 7u64, ()).spawn();
    let chain = (0..2_000).fold(first, |last, number| stage.task(step, (last, number)).spawn());
    assert_eq!(chain.take().unwrap(), (0..2_000).fold(7, step));
    Ok(())
}

pub(super) fn layers_of_tasks_give_the_right_results(subject: &Subject) -> Proof {
    const WIDTH: usize = 16;
    let stage = subject.stage();
    let mix = |left: &u64, own: &u64, right: &u64| left.wrapping_mul(3) ^ own.rotate_left(7) ^ right.wrapping_mul(5);
    let around = |index: usize| ((index + WIDTH - 1) % WIDTH, index, (index + 1) % WIDTH);
    let mut expected: Vec<u64> = (1..=WIDTH as u64).collect();
    let mut layer: Vec<Task<u64>> = expected.iter().map(|number| stage.task(|number: u64| number, (*number,)).spawn()).collect();
    for _ in 0..60 {
        let next = |index| {
            let (left, own, right) = around(index);
            stage.task(mix, (&layer[left], &layer[own], &layer[right])).spawn()
        };
        let layer_after = (0..WIDTH).map(next).collect();
        let value = |index| {
            let (left, own, right) = around(index);
            mix(&expected[left], &expected[own], &expected[right])
        };
        expected = (0..WIDTH).map(value).collect();
        layer = layer_after;
    }
    for (task, expected) in layer.into_iter().zip(expected) {
        assert_eq!(task.take().unwrap(), expected);
    }
    Ok(())
}

fn increased(mut values: Buffer<u64>) -> Buffer<u64> {
    values.iter_mut().for_each(|value| *value += 1);
    values
}

pub(super) fn buffers_go_from_task_to_task(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let first = |line: u64| buffer::from_fn(4_000, |index| line * 10_000 + index as u64);
    let mut lines: Vec<Task<Buffer<u64>>> = (0..8).map(|line| stage.task(first, (line,)).spawn()).collect();
    for _ in 0..50 {
        lines = lines.into_iter().map(|line| stage.task(increased, (line,)).spawn()).collect();
    }
    for (line, values) in (0..).zip(lines) {
        let values = values.take().unwrap();
        assert!(
            values.len() == 4_000 && (0..).zip(values.iter()).all(|(index, value)| *value == line * 10_000 + index + 50),
            "line {line}"
        );
    }
    Ok(())
}
