//! The tasks of one replayed region, while its graph runs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use super::shape::Shape;
use crate::error::{FailureKind, TaskError};
use crate::task::record::{Released, TaskRef};
use crate::worker::context::Context;
use crate::worker::shared::Shared;

/// Tasks that were made held, in the order of their spawns, and the shape that says what each of them comes after.
pub(crate) struct Batch {
    shape: Arc<Shape>,
    tasks: Vec<TaskRef>,
    has_failed: AtomicBool,
}

impl Batch {
    pub(super) fn new(shape: Arc<Shape>, tasks: Vec<TaskRef>) -> Self {
        debug_assert_eq!(shape.len(), tasks.len(), "a region of this shape has so many tasks");
        Self { shape, tasks, has_failed: AtomicBool::new(false) }
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(super) fn tasks(&self) -> &[TaskRef] {
        &self.tasks
    }

    /// Whether a task has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Relaxed)
    }

    /// Runs a task, by the node that stands for it: all that it comes after are over.
    pub(super) fn run(&self, number: u32) {
        let task = &self.tasks[number as usize];
        Context::with(|context| {
            let Some(context) = context else { unreachable!("nodes are run by workers") };
            let shared = &*context.shared;
            task.claim_held();
            // Relaxed: of those that matter the task comes after.
            let blamed = if self.has_failed.load(Relaxed) { self.blamed(number) } else { None };
            let failure = match blamed {
                Some(error) => Some(task.fail_dependent(&error)),
                None if shared.is_outdated(task.epoch()) => Some(task.fail_claimed(shared.outdated(task))),
                None => context.run(task, || task.run_claimed()),
            };
            self.publish(task, failure, |released| match released {
                Released::Ready(entry) if entry.peek(|successor| std::ptr::eq(successor.runtime(), shared)) => {
                    shared.enqueue(Some(context), entry);
                }
                other => Shared::release_elsewhere(other),
            });
        });
    }

    fn publish(&self, task: &TaskRef, failure: Option<TaskError>, release: impl FnMut(Released)) {
        if failure.is_some() {
            self.has_failed.store(true, Relaxed);
        }
        if !task.publish_known(failure, release) {
            task.drop_value();
        }
    }

    /// The error of the first argument that has one.
    #[cold]
    fn blamed(&self, number: u32) -> Option<TaskError> {
        self.shape.needed(number as usize).iter().find_map(|other| self.tasks[*other as usize].failure())
    }

    /// Ends those that have not been run and never will be.
    #[cold]
    pub(super) fn fail_rest(&self, kind: impl Fn(&TaskRef) -> FailureKind) {
        for task in self.tasks.iter().filter(|task| !task.is_finished()) {
            task.claim_held();
            let failure = task.fail_claimed(kind(task));
            self.publish(task, Some(failure), Shared::release_elsewhere);
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}
