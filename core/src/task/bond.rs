//! Who is told when a task has finished, besides those that wait for it or depend on it.

use std::sync::Arc;

use super::record::{Released, TaskRef};
use crate::ambient::sequence::Sequence;
use crate::error::TaskError;
use crate::group::members::Members;

/// What a task belongs to.
#[derive(Clone)]
pub(crate) enum Bond {
    /// A group or a cancel token, and the task's key there.
    Member(Arc<Members>, u64),
    /// A sequence, and the number of the task's step.
    Step(Arc<Sequence>, u64),
}

impl Bond {
    /// Whether it is a member of these.
    pub(crate) fn is_to(&self, other: &Members) -> bool {
        matches!(self, Self::Member(members, _) if std::ptr::eq(&**members, other))
    }

    /// Whether the task is not to begin.
    pub(crate) fn is_cancelled(&self) -> bool {
        match self {
            Self::Member(members, _) => members.is_cancelled_itself(),
            Self::Step(..) => false,
        }
    }

    /// The outcome of the task is known.
    pub(crate) fn settle(&self) {
        if let Self::Member(members, key) = self {
            members.settle(*key);
        }
    }

    /// The task failed before it could be put where it belongs.
    pub(crate) fn note_failure(&self, error: &TaskError) {
        if let Self::Member(members, _) = self {
            members.note_failure(error.clone());
        }
    }

    /// Nothing of the task is left to run. Tasks that this makes ready go to `release`.
    pub(crate) fn end(&self, release: impl FnMut(Released)) {
        if let Self::Step(sequence, step) = self {
            sequence.end(*step).into_iter().map(Released::Ready).for_each(release);
        }
    }

    /// Adds what the task waits for without depending on it.
    pub(crate) fn ahead(&self, into: &mut Vec<TaskRef>) {
        if let Self::Step(sequence, step) = self {
            sequence.ahead(*step, into);
        }
    }
}
