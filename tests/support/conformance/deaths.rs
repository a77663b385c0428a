//! Processes end in the middle of a task, and nothing of it is seen but the time that it takes.
//!
//! A body ends its process only if that is not the program's: a backend that promises too much fails, and does not take the tests along.

use std::path::PathBuf;
use std::process::id;

use poniard::{Buffer, FailureKind, buffer};
use rustix::process::{Signal, getpid, kill_process};

use super::{Proof, Subject, promised};
use crate::marks::{Marks, note, noted};

const KILL: u64 = 0;
const EXIT: u64 = 1;
const ABORT: u64 = 2;
const OVERFLOW: u64 = 3;
/// How often a task is begun whose processes end.
const ATTEMPTS: u64 = 3;

/// Ends its process in the given way the first so many times; then gives how often that was.
fn end_process(folder: PathBuf, program: u32, how: u64, times: u64) -> Result<u64, String> {
    if id() == program {
        return Err("it runs in the program itself".into());
    }
    let before = noted(&folder).len() as u64;
    if before < times {
        note(&folder, u64::from(id()));
        match how {
            KILL => kill_process(getpid(), Signal::KILL).map_err(|error| error.to_string())?,
            EXIT => std::process::exit(3),
            ABORT => std::process::abort(),
            _ => assert_eq!(deep(1), 0, "there is more stack than memory"),
        }
    }
    Ok(before)
}

/// More stack than there is.
#[expect(unconditional_recursion, reason = "its point")]
fn deep(number: u64) -> u64 {
    let page = [number; 512];
    deep(std::hint::black_box(&page)[7] + 1) + page[3]
}

fn promises(subject: &Subject) -> Proof {
    promised(subject.promises.survives_deaths, "it does not promise to survive the end of a process")
}

fn runs_again(subject: &Subject, how: u64) -> Proof {
    promises(subject)?;
    let (stage, marks) = (subject.stage(), Marks::new());
    let values = stage.task(|| buffer::from_fn(5_000, |index| index as u64), ()).spawn();
    values.wait().unwrap();
    let task = stage.task(end_process, (marks.path(), id(), how, ATTEMPTS - 1)).spawn();
    let pick = |values: &Buffer<u64>, index: u64| values[index as usize];
    let others: Vec<_> = (0..100).map(|index| stage.task(pick, (&values, index * 49)).spawn()).collect();
    let after = stage.task(crate::add, (&task, 10)).spawn();
    assert_eq!(task.take().unwrap(), ATTEMPTS - 1);
    assert_eq!(after.take().unwrap(), ATTEMPTS - 1 + 10);
    for (index, other) in (0..).zip(others) {
        assert_eq!(other.take().unwrap(), index * 49);
    }
    let mut processes = marks.noted();
    processes.dedup();
    assert_eq!(processes.len() as u64, ATTEMPTS - 1, "each time in another process: {processes:?}");
    Ok(())
}

pub(super) fn a_task_whose_process_is_killed_runs_again(subject: &Subject) -> Proof {
    runs_again(subject, KILL)
}

pub(super) fn a_task_whose_process_exits_runs_again(subject: &Subject) -> Proof {
    runs_again(subject, EXIT)
}

pub(super) fn a_task_whose_process_aborts_runs_again(subject: &Subject) -> Proof {
    runs_again(subject, ABORT)
}

pub(super) fn a_task_whose_stack_overflows_runs_again(subject: &Subject) -> Proof {
    runs_again(subject, OVERFLOW)
}

pub(super) fn a_task_that_ends_every_process_fails_and_says_so(subject: &Subject) -> Proof {
    promises(subject)?;
    let (stage, marks) = (subject.stage(), Marks::new());
    let task = stage.task(end_process, (marks.path(), id(), KILL, u64::MAX)).name("fatal").spawn();
    let after = stage.task(crate::add, (&task, 1)).name("after").spawn();
    let error = after.fetch().expect_err("it depends on a task that cannot end well");
    assert_eq!((error.task(), error.root_task()), ("after", "fatal"));
    let error = task.fetch().expect_err("it ends every process");
    let processor = |name: &str| stage.processors.iter().any(|processor| processor.name == name);
    assert!(matches!(error.kind(), FailureKind::Processor { processor: name, .. } if processor(name)), "{error}");
    let reason = error.reason();
    assert!(reason.contains("SIGKILL") && reason.contains(&ATTEMPTS.to_string()), "how it ended, and how often: {reason}");
    assert_eq!(marks.noted().len() as u64, ATTEMPTS);
    assert_eq!(stage.task(crate::add, (1, 2)).spawn().take().unwrap(), 3, "others run");
    Ok(())
}

pub(super) fn a_task_to_be_begun_once_is_not_begun_again(subject: &Subject) -> Proof {
    promises(subject)?;
    let (stage, marks) = (subject.stage(), Marks::new());
    let error = stage.task(end_process, (marks.path(), id(), ABORT, 1)).once().spawn().fetch().expect_err("it is not begun again");
    assert!(error.reason().contains("SIGABRT"), "{error}");
    assert_eq!(marks.noted().len(), 1);
    Ok(())
}
