//! A task's membership in a group, or its having a cancel token.

use std::sync::Arc;

use crate::error::TaskError;
use crate::group::members::Members;

/// That a task is a member, from its spawn until its outcome is known.
#[derive(Clone)]
pub(crate) struct Bond {
    pub(crate) members: Arc<Members>,
    /// The task's key among them.
    pub(crate) key: u64,
}

impl Bond {
    /// For a task about to be spawned.
    pub(crate) fn new(members: Arc<Members>) -> Self {
        let key = members.reserve();
        Self { members, key }
    }

    /// The outcome of the task is known.
    pub(crate) fn settle(&self) {
        self.members.settle(self.key);
    }

    /// The task failed before it could become a member.
    pub(crate) fn note_failure(&self, error: &TaskError) {
        self.members.note_failure(error.clone());
    }
}
