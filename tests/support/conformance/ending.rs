//! Runtimes end, and others begin.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::id;
use std::sync::Arc;

use poniard::{Backend, BackendInfo, FailureKind, HostServices, OpenError, Opened, Settings};

use super::{Proof, Subject, promised};
use crate::marks::{Marks, note, wait_until_told};

/// A backend that has nothing but settings.
struct SomebodyElse;

impl Backend for SomebodyElse {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "somebody-else".into(), version: "1".into() }
    }

    fn settings(&self) -> Vec<String> {
        vec!["somebody-else".into(), "somebody-else.setting".into()]
    }

    fn open(&self, _: &Settings, _: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
        Ok(Opened::default())
    }
}

pub(super) fn settings_of_others_are_ignored(subject: &Subject) -> Proof {
    let builder = (subject.builder)().linked(SomebodyElse).setting("somebody-else", "x").setting("somebody-else.setting", "x");
    assert_eq!(subject.stage_of(builder).task(crate::add, (1, 2)).spawn().take().unwrap(), 3);
    Ok(())
}

fn leave_a_note(folder: PathBuf, number: u64) {
    note(&folder, number);
}

pub(super) fn the_end_waits_for_tasks(subject: &Subject) -> Proof {
    let (stage, marks) = (subject.stage(), Marks::new());
    for number in 0..500 {
        stage.task(leave_a_note, (marks.path(), number)).spawn().detach();
    }
    drop(stage);
    let mut noted = marks.noted();
    noted.sort_unstable();
    assert!(noted.into_iter().eq(0..500));
    Ok(())
}

pub(super) fn nothing_is_spawned_after_the_end(subject: &Subject) -> Proof {
    let stage = subject.stage();
    stage.task(crate::add, (1, 2)).spawn().wait().unwrap();
    let (handle, there) = (stage.runtime.handle(), stage.there.clone());
    drop(stage);
    let error = handle.task(crate::add, (1, 2)).options(&there).spawn().fetch().expect_err("it is too late");
    assert!(matches!(error.kind(), FailureKind::Shutdown), "{error}");
    Ok(())
}

pub(super) fn a_shutdown_ends_what_has_not_begun(subject: &Subject) -> Proof {
    let (stage, marks, others) = (subject.stage(), Marks::new(), Marks::new());
    stage.task_on_first(wait_until_told, (marks.path(),)).spawn().detach();
    marks.wait_for(1);
    let tasks: Vec<_> = (0..100).map(|number| stage.task_on_first(leave_a_note, (others.path(), number)).spawn()).collect();
    stage.runtime.shutdown_now();
    assert_eq!(marks.noted(), [0, 1], "the body that ran was told");
    for task in tasks {
        let error = task.fetch().expect_err("it had not begun");
        assert!(matches!(error.kind(), FailureKind::Cancelled | FailureKind::Shutdown), "{error}");
    }
    assert!(others.noted().is_empty());
    Ok(())
}

pub(super) fn runtimes_come_one_after_another(subject: &Subject) -> Proof {
    drop(subject.stage());
    for number in 0..5 {
        let stage = subject.stage();
        assert_eq!(stage.task(crate::add, (number, 1)).spawn().take().unwrap(), number + 1);
    }
    Ok(())
}

pub(super) fn two_runtimes_work_together(subject: &Subject) -> Proof {
    let (one, other) = (subject.stage(), subject.stage());
    let first = one.task(crate::add, (1, 2)).spawn();
    let second = other.task(crate::add, (&first, 3)).spawn();
    assert_eq!(one.task(crate::add, (second, first)).spawn().take().unwrap(), 9);
    drop(one);
    assert_eq!(other.task(crate::add, (4, 5)).spawn().take().unwrap(), 9);
    Ok(())
}

pub(super) fn a_clean_run_gives_no_warning(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let tasks: Vec<_> = (0..100).map(|number| stage.task(crate::add, (number, 1)).spawn()).collect();
    for task in tasks {
        task.wait().unwrap();
    }
    let handle = stage.runtime.handle();
    drop(stage);
    let messages = handle.report().messages;
    assert!(!messages.iter().any(|message| message.starts_with("warning: ")), "{messages:?}");
    Ok(())
}

pub(super) fn no_process_outlives_the_runtime(subject: &Subject) -> Proof {
    promised(subject.promises.apart, "its tasks run in the program")?;
    let stage = subject.stage();
    let places: Vec<_> = (0..50).map(|_| stage.task(id, ()).spawn()).collect();
    let processes: BTreeSet<u32> = places.into_iter().map(|place| place.take().unwrap()).collect();
    drop(stage);
    for process in processes {
        // It may be about to end: this waits for ever if it is not.
        while Path::new("/proc").join(process.to_string()).exists() {
            std::thread::yield_now();
        }
    }
    Ok(())
}
