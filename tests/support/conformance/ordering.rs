//! What comes before what.

use std::path::PathBuf;

use poniard::{FailureKind, Priority, Task};

use super::{Proof, Subject, Unpromised};
use crate::marks::{Marks, hold, note};

fn note_first(folder: PathBuf, number: u64) -> u64 {
    note(&folder, number);
    number
}

fn note_second(folder: PathBuf, one: u64, other: &u64, number: u64) -> u64 {
    note(&folder, number);
    one + other
}

/// Checks that each pair of `before` and `after` is noted in that order.
fn check(marks: &Marks, pairs: impl IntoIterator<Item = (u64, u64)>) {
    let noted = marks.noted();
    let place = |number| noted.iter().position(|known| *known == number).unwrap_or_else(|| panic!("{number} was not noted: {noted:?}"));
    for (before, after) in pairs {
        assert!(place(before) < place(after), "{after} began before {before} had ended: {noted:?}");
    }
}

pub(super) fn what_a_task_depends_on_has_run_before(subject: &Subject) -> Proof {
    let (stage, marks) = (subject.stage(), Marks::new());
    let lasts: Vec<Task<u64>> = (0..50)
        .map(|turn| {
            let base = turn * 4;
            let first = stage.task(note_first, (marks.path(), base)).spawn();
            let left = stage.task(note_second, (marks.path(), &first, 1, base + 1)).spawn();
            let right = stage.task(note_second, (marks.path(), 2, &first, base + 2)).spawn();
            stage.task(note_second, (marks.path(), left, right, base + 3)).spawn()
        })
        .collect();
    for (turn, last) in (0..).zip(lasts) {
        assert_eq!(last.take().unwrap(), 2 * (turn * 4) + 3);
    }
    check(&marks, (0..50).flat_map(|turn| [(0, 1), (0, 2), (1, 3), (2, 3)].map(|(one, other)| (turn * 4 + one, turn * 4 + other))));
    Ok(())
}

fn note_and_fail(folder: PathBuf, number: u64) -> Result<u64, String> {
    note(&folder, number);
    Err("wanted".into())
}

pub(super) fn a_task_comes_after_another_without_its_result(subject: &Subject) -> Proof {
    let (stage, marks) = (subject.stage(), Marks::new());
    for turn in 0..20 {
        let failing = stage.task(note_and_fail, (marks.path(), turn * 3)).spawn();
        let second = stage.task(note_first, (marks.path(), turn * 3 + 1)).after(&failing).spawn();
        let third = stage.task(note_first, (marks.path(), turn * 3 + 2)).after(&second).spawn();
        assert_eq!(third.take().unwrap(), turn * 3 + 2);
        assert!(matches!(failing.fetch().expect_err("it fails").kind(), FailureKind::Returned(_)));
    }
    check(&marks, (0..20).flat_map(|turn| [(turn * 3, turn * 3 + 1), (turn * 3 + 1, turn * 3 + 2)]));
    Ok(())
}

pub(super) fn a_sequence_keeps_its_order(subject: &Subject) -> Proof {
    let (stage, marks) = (subject.stage(), Marks::new());
    let tasks: Vec<_> =
        stage.runtime.sequential(|| (0..100).map(|number| stage.task(note_first, (marks.path(), number)).spawn()).collect());
    for (number, task) in (0..).zip(tasks) {
        assert_eq!(task.take().unwrap(), number);
    }
    assert!(marks.noted().into_iter().eq(0..100), "{:?}", marks.noted());
    Ok(())
}

pub(super) fn urgent_tasks_come_first(subject: &Subject) -> Proof {
    let Some(taken_ahead) = subject.promises.taken_ahead else { return Err(Unpromised { reason: "it promises no order of ready tasks" }) };
    let (stage, marks) = (subject.stage(), Marks::new());
    let held = stage.task_on_first(hold, (marks.path(),)).spawn();
    marks.wait_until_held();
    let count = taken_ahead as u64 + 20;
    for (urgency, priority) in (0..).zip([Priority::Low, Priority::Normal, Priority::High]) {
        for _ in 0..count {
            stage.task_on_first(note_first, (marks.path(), urgency)).priority(priority).spawn().detach();
        }
    }
    marks.open();
    held.wait().unwrap();
    stage.runtime.wait_idle();
    let noted = marks.noted();
    assert_eq!(noted.len() as u64, 3 * count);
    let rest = &noted[taken_ahead.min(noted.len())..];
    assert!(rest.is_sorted_by(|one, next| one >= next), "after the first {taken_ahead}, 2 (urgent) comes before 1 before 0: {noted:?}");
    Ok(())
}
