//! Tasks run, each once, where they are to run.

use std::path::PathBuf;
use std::process::id;

use poniard::{FailureKind, ProcessId, Scope, current_processor, task};

use super::{Proof, Subject, promised};
use crate::marks::{Marks, note};

/// The backend and the processor that run it.
fn place() -> (String, String) {
    current_processor().map(|processor| (processor.backend, processor.name)).unwrap_or_default()
}

pub(super) fn every_processor_runs_tasks_and_says_which_it_is(subject: &Subject) -> Proof {
    let stage = subject.stage();
    for processor in &stage.processors {
        let only = Scope::backend(subject.backend) & Scope::processor(&processor.name);
        let found = stage.runtime.task(place, ()).scope(only).spawn().take().unwrap();
        assert_eq!(found, (subject.backend.to_owned(), processor.name.clone()));
    }
    Ok(())
}

fn generic<T: poniard::Data + Clone + Into<u64>>(value: T) -> u64 {
    value.into() + 1
}

#[task]
fn with_names(one: u64, other: u64) -> u64 {
    one * other
}

pub(super) fn functions_of_every_sort_run(subject: &Subject) -> Proof {
    let stage = subject.stage();
    assert_eq!(stage.task(crate::add, (1, 2)).spawn().take().unwrap(), 3);
    assert_eq!(stage.task(generic::<u8>, (7,)).spawn().take().unwrap(), 8);
    assert_eq!(stage.task(generic::<u32>, (70_000,)).spawn().take().unwrap(), 70_001);
    assert_eq!(stage.task(|text: &str| text.len(), ("four".to_owned(),)).spawn().take().unwrap(), 4);
    assert_eq!(stage.task(with_names, (6, 7)).spawn().take().unwrap(), 42);
    stage.task(|| (), ()).spawn().take().unwrap();
    let eight = |a: u8, b: u16, c: u32, d: u64, e: i8, f: i16, g: i32, h: i64| {
        u64::from(a) + u64::from(b) + u64::from(c) + d + (i64::from(e) + i64::from(f) + i64::from(g) + h) as u64
    };
    assert_eq!(stage.task(eight, (1, 2, 3, 4, 5, 6, 7, 8)).spawn().take().unwrap(), 36);
    Ok(())
}

pub(super) fn closures_that_have_captured_something_run(subject: &Subject) -> Proof {
    promised(subject.promises.runs_everything, "it runs only what travels, and a closure that has captured something does not")?;
    let stage = subject.stage();
    let (text, number) = ("captured".to_owned(), 3);
    assert_eq!(stage.task(move |other: u64| (text.len() as u64 + number) * other, (2,)).spawn().take().unwrap(), 22);
    Ok(())
}

fn note_and_give(folder: PathBuf, number: u64) -> u64 {
    note(&folder, number);
    number
}

pub(super) fn a_task_runs_once_however_many_ask(subject: &Subject) -> Proof {
    let (stage, marks) = (subject.stage(), Marks::new());
    let task = stage.task(note_and_give, (marks.path(), 5)).spawn();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(*task.fetch().unwrap(), 5));
        }
    });
    let later = stage.task(crate::add, (&task, 1)).spawn();
    assert_eq!((*later.fetch().unwrap(), task.take().unwrap()), (6, 5));
    assert_eq!(marks.noted(), [5]);
    Ok(())
}

/// The process as the system and as the runtime numbers it.
fn process() -> (u32, Option<u32>) {
    (id(), current_processor().map(|processor| processor.process.0))
}

pub(super) fn tasks_run_in_the_program(subject: &Subject) -> Proof {
    promised(!subject.promises.apart, "its tasks run in other processes")?;
    let stage = subject.stage();
    for _ in 0..20 {
        assert_eq!(stage.task(process, ()).spawn().take().unwrap(), (id(), Some(0)));
    }
    Ok(())
}

pub(super) fn tasks_run_in_other_processes(subject: &Subject) -> Proof {
    promised(subject.promises.apart, "its tasks run in the program")?;
    let stage = subject.stage();
    for processor in &stage.processors {
        let (number, process) = stage.runtime.task(process, ()).scope(Scope::processor(&processor.name)).spawn().take().unwrap();
        assert_ne!(number, id(), "{} runs its tasks in the program", processor.name);
        assert_eq!(process, Some(processor.process.0), "{}", processor.name);
        assert_ne!(processor.process, ProcessId(0), "{}", processor.name);
    }
    let in_the_program = stage.task(process, ()).scope(Scope::backend(subject.backend) & Scope::host()).spawn().fetch();
    assert!(matches!(in_the_program.expect_err("none of its processors is there").kind(), FailureKind::NoProcessor { .. }));
    Ok(())
}

pub(super) fn the_report_counts_what_ran(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let tasks: Vec<_> = (0..100).map(|number| stage.task(crate::add, (number, 1)).spawn()).collect();
    for (number, task) in (0..).zip(tasks) {
        assert_eq!(task.take().unwrap(), number + 1);
    }
    let handle = stage.runtime.handle();
    drop(stage);
    let report = handle.report();
    let Some(backend) = report.backends.iter().find(|backend| backend.name == subject.backend) else {
        panic!("no backend `{}` in the report", subject.backend)
    };
    assert_eq!(backend.processors.iter().map(|processor| processor.tasks).sum::<u64>(), 100, "{backend:?}");
    Ok(())
}
