//! Cancelling and deadlines: who waits is told at once, and so is a body that asks.

use std::path::PathBuf;
use std::time::Duration;

use poniard::FailureKind;

use super::{Proof, Subject, promised};
use crate::marks::{Marks, hold, note, wait_until_told};

/// A deadline that is soon over.
const SOON: Duration = Duration::from_millis(20);

fn leave_a_note(folder: PathBuf, number: u64) {
    note(&folder, number);
}

pub(super) fn a_cancelled_task_that_has_not_begun_never_begins(subject: &Subject) -> Proof {
    let (stage, marks) = (subject.stage(), Marks::new());
    let held = stage.task_on_first(hold, (marks.path(),)).spawn();
    marks.wait_until_held();
    let tasks: Vec<_> = (0..8).map(|number| stage.task_on_first(leave_a_note, (marks.path(), number)).spawn()).collect();
    for task in tasks.iter().step_by(2) {
        assert!(task.cancel(), "it has not finished");
        let error = task.fetch().expect_err("it was cancelled");
        assert!(matches!(error.kind(), FailureKind::Cancelled), "{error}");
    }
    marks.open();
    held.wait().unwrap();
    for task in tasks.iter().skip(1).step_by(2) {
        task.wait().unwrap();
    }
    drop(stage);
    let mut noted = marks.noted();
    noted.sort_unstable();
    assert_eq!(noted, [1, 3, 5, 7]);
    Ok(())
}

pub(super) fn a_body_is_told_that_it_is_cancelled(subject: &Subject) -> Proof {
    let (stage, marks) = (subject.stage(), Marks::new());
    let task = stage.task(wait_until_told, (marks.path(),)).spawn();
    marks.wait_for(1);
    assert!(task.cancel(), "it has not finished");
    let error = task.fetch().expect_err("it was cancelled");
    assert!(matches!(error.kind(), FailureKind::Cancelled), "{error}");
    // The end waits for the body, which ends when it has been told.
    drop(stage);
    assert_eq!(marks.noted(), [0, 1]);
    Ok(())
}

pub(super) fn a_deadline_ends_a_task_and_its_body_is_told(subject: &Subject) -> Proof {
    let (stage, marks) = (subject.stage(), Marks::new());
    // So that the next one begins before its deadline where the machine is not too slow; both are right.
    stage.task_on_first(crate::add, (1, 2)).spawn().wait().unwrap();
    let error = stage.task_on_first(wait_until_told, (marks.path(),)).timeout(SOON).spawn().fetch().expect_err("it has a deadline");
    assert!(matches!(error.kind(), FailureKind::DeadlineExceeded), "{error}");
    drop(stage);
    let noted = marks.noted();
    assert!(noted.is_empty() || noted == [0, 1], "{noted:?}");
    Ok(())
}

fn never_end() {
    loop {
        std::thread::park();
    }
}

pub(super) fn a_body_that_does_not_stop_is_ended(subject: &Subject) -> Proof {
    promised(subject.promises.ends_bodies, "it does not promise to end bodies")?;
    let stage = subject.stage();
    for _ in 0..2 {
        let error = stage.task_on_first(never_end, ()).timeout(SOON).spawn().fetch().expect_err("it has a deadline");
        assert!(matches!(error.kind(), FailureKind::DeadlineExceeded), "{error}");
        assert_eq!(stage.task_on_first(crate::add, (1, 2)).spawn().take().unwrap(), 3, "the processor goes on");
    }
    Ok(())
}
