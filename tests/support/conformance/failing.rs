//! Tasks that fail do so with an error that says what happened, and nobody else is the worse for it.

use std::path::PathBuf;

use poniard::FailureKind;

use super::{Proof, Subject, promised};
use crate::marks::{Marks, note, noted};

#[derive(Debug, thiserror::Error)]
#[error("the outer part")]
struct Outer(#[source] std::num::ParseIntError);

fn parse(text: &str) -> Result<u64, Outer> {
    text.parse().map_err(Outer)
}

fn refuse(number: u64) -> u64 {
    assert!(number > 10, "{number} is too small");
    number
}

pub(super) fn an_error_comes_back_with_its_causes(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let error = stage.task(parse, ("x1".to_owned(),)).name("parsing").spawn().fetch().expect_err("those are no digits");
    assert_eq!((error.task(), error.reason().as_str()), ("parsing", "the outer part: invalid digit found in string"));
    assert!(matches!(error.kind(), FailureKind::Returned(_)), "{error}");
    assert_eq!(stage.task(parse, ("12".to_owned(),)).spawn().take().unwrap(), 12);
    Ok(())
}

pub(super) fn a_panic_is_the_error_of_its_task_and_the_processor_goes_on(subject: &Subject) -> Proof {
    let stage = subject.stage();
    for _ in 0..3 {
        let error = stage.task_on_first(refuse, (3,)).spawn().fetch().expect_err("it panics");
        assert!(matches!(error.kind(), FailureKind::Panicked(text) if text == "3 is too small"), "{error}");
        assert_eq!(stage.task_on_first(refuse, (11,)).spawn().take().unwrap(), 11);
    }
    Ok(())
}

fn note_sum(folder: PathBuf, one: u64, other: u64) -> u64 {
    note(&folder, one + other);
    one + other
}

pub(super) fn what_depends_on_a_failed_task_is_not_run_and_names_it(subject: &Subject) -> Proof {
    let (stage, marks) = (subject.stage(), Marks::new());
    let culprit = stage.task(refuse, (3,)).name("culprit").spawn();
    let next = stage.task(note_sum, (marks.path(), &culprit, 1)).spawn();
    let last = stage.task(note_sum, (marks.path(), 1, next)).spawn();
    let error = last.fetch().expect_err("it depends on a task that failed");
    assert!(matches!(error.kind(), FailureKind::Dependency(_)), "{error}");
    assert_eq!((error.root_task(), error.reason().as_str()), ("culprit", "3 is too small"));
    drop(stage);
    assert!(marks.noted().is_empty());
    Ok(())
}

fn odd_fails(number: u64) -> Result<u64, String> {
    if number % 2 == 1 { Err(format!("{number} is odd")) } else { Ok(number) }
}

pub(super) fn failures_among_many_are_where_they_belong(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let tasks: Vec<_> = (0..500).map(|number| stage.task(odd_fails, (number,)).spawn()).collect();
    for (number, task) in (0..).zip(tasks) {
        match task.take() {
            Ok(value) => assert!(value == number && number % 2 == 0, "{number} gave {value}"),
            Err(error) => assert_eq!(error.reason(), format!("{number} is odd")),
        }
    }
    Ok(())
}

fn third_time(folder: PathBuf) -> Result<u64, String> {
    note(&folder, 0);
    match noted(&folder).len() {
        3 => Ok(3),
        count => Err(format!("only {count}")),
    }
}

pub(super) fn a_task_is_tried_again(subject: &Subject) -> Proof {
    promised(subject.promises.runs_everything, "it runs only what travels, and a function that is tried again does not")?;
    let (stage, marks) = (subject.stage(), Marks::new());
    assert_eq!(stage.task(third_time, (marks.path(),)).retries(5).spawn().take().unwrap(), 3);
    assert_eq!(marks.noted().len(), 3);
    Ok(())
}
