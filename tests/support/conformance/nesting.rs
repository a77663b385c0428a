//! Bodies spawn, wait, join and loop, wherever they run.

use std::path::PathBuf;

use poniard::BoxError;

use super::{Proof, Subject};
use crate::marks::{Marks, note};

fn nested(depth: u64) -> Result<u64, BoxError> {
    if depth == 0 {
        return Ok(1);
    }
    let one = poniard::spawn(nested, (depth - 1,));
    let two = poniard::spawn(nested, (depth - 1,));
    let both = poniard::spawn(crate::add, (&one, &two));
    Ok(both.take()?)
}

pub(super) fn a_body_spawns_and_waits(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let tasks: Vec<_> = (0..8).map(|_| stage.task(nested, (6,)).spawn()).collect();
    for task in tasks {
        assert_eq!(task.take().unwrap(), 64);
    }
    assert_eq!(stage.task_on_first(crate::fib, (12,)).spawn().take().unwrap(), 144);
    let error = stage.task(|| poniard::spawn(|| Err::<u64, _>("inner"), ()).take(), ()).spawn().fetch().expect_err("the inner one fails");
    assert!(error.reason().contains("inner"), "{error}");
    Ok(())
}

fn joins() -> (u64, u64, u64, u64) {
    let (one, two) = poniard::join(|| 1, || poniard::join(|| 2, || 3).1);
    let mut parts = [0u64; 100];
    poniard::scope(|scope| {
        for (index, part) in (1..).zip(&mut parts) {
            scope.spawn(move |_| *part = index);
        }
    });
    let sum = poniard::map_reduce(0..1000, || 0, |number| number as u64, |a, b| a + b);
    (one, two, parts.iter().sum(), sum)
}

pub(super) fn a_body_joins_and_loops(subject: &Subject) -> Proof {
    let stage = subject.stage();
    let tasks: Vec<_> = (0..8).map(|_| stage.task(joins, ()).spawn()).collect();
    for task in tasks {
        assert_eq!(task.take().unwrap(), (1, 3, 5050, 499_500));
    }
    Ok(())
}

fn tree(folder: PathBuf, depth: u64, number: u64) {
    note(&folder, number);
    if depth > 0 {
        poniard::spawn_detached(tree, (folder.clone(), depth - 1, number * 2));
        poniard::spawn(tree, (folder, depth - 1, number * 2 + 1)).detach();
    }
}

pub(super) fn what_a_body_spawns_and_leaves_is_run(subject: &Subject) -> Proof {
    let (stage, marks) = (subject.stage(), Marks::new());
    stage.task(tree, (marks.path(), 6, 1)).spawn().wait().unwrap();
    stage.runtime.wait_idle();
    let mut noted = marks.noted();
    noted.sort_unstable();
    assert!(noted.into_iter().eq(1..128));
    Ok(())
}
