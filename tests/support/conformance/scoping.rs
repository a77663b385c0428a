//! A task runs where its scope says and nowhere else.

use std::process::id;

use poniard::{FailureKind, Scope, current_processor};

use super::{Proof, Subject, promised};

fn place() -> (String, u32) {
    (current_processor().map(|processor| processor.name).unwrap_or_default(), id())
}

pub(super) fn a_scope_keeps_tasks_there(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let tasks: Vec<_> = (0..200)
        .map(|number| if number % 2 == 0 { stage.task(place, ()).spawn() } else { stage.task_on_first(place, ()).spawn() })
        .collect();
    for (number, task) in tasks.into_iter().enumerate() {
        let (name, process) = task.take().unwrap();
        assert!(stage.processors.iter().any(|processor| processor.name == name), "{name} is no processor of {}", subject.backend);
        assert!(number % 2 == 0 || name == stage.processors[0].name, "{name} is not the first processor");
        assert_eq!(process != id(), subject.promises.apart, "{name}");
    }
    // Those too that run as soon as what they wait for has.
    let count_apart = |before: u64, program: u32| before + u64::from(id() != program);
    let first = stage.task(count_apart, (0, id())).spawn();
    let chain = (1..200).fold(first, |last, _| stage.task(count_apart, (last, id())).spawn());
    assert_eq!(chain.take().unwrap(), if subject.promises.apart { 200 } else { 0 });
    Ok(())
}

pub(super) fn a_task_goes_where_its_argument_is(subject: &Subject) -> Proof {
    let stage = subject.stage();
    for processor in &stage.processors {
        let only = Scope::backend(subject.backend) & Scope::processor(&processor.name);
        let pinned = stage.runtime.scoped_value(7u64, only);
        let place = |number: u64| (number, place().0);
        assert_eq!(stage.runtime.spawn(place, (&pinned,)).take().unwrap(), (7, processor.name.clone()));
    }
    Ok(())
}

pub(super) fn a_task_for_no_processor_is_an_error(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let nowhere = Scope::backend(subject.backend) - Scope::backend(subject.backend);
    let error = stage.runtime.task(place, ()).scope(nowhere).spawn().fetch().expect_err("there is no processor");
    assert!(matches!(error.kind(), FailureKind::NoProcessor { .. }), "{error}");
    assert_eq!(stage.task(crate::add, (1, 2)).spawn().take().unwrap(), 3);
    Ok(())
}

pub(super) fn what_does_not_travel_is_refused_there_and_runs_elsewhere(subject: &Subject) -> Proof {
    promised(!subject.promises.runs_everything, "it runs every task")?;
    let stage = subject.stage();
    let captured = "captured".to_owned();
    let body = move || (captured.len(), id());
    let error = stage.task(body.clone(), ()).spawn().fetch().expect_err("it cannot travel");
    assert!(matches!(error.kind(), FailureKind::Stays { .. }), "{error}");
    assert_eq!(stage.runtime.spawn(body, ()).take().unwrap(), (8, id()));
    Ok(())
}
