//! What may be said about a task besides its function and arguments.

use std::fmt;

use poniard_interface::ProcessorKind;

use crate::function::{Args, TaskFn};
use crate::runtime::Handle;
use crate::task::Task;

/// How urgent a ready task is. Workers take the highest level first; a running task is never interrupted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// When there is nothing else to do.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before the others.
    High,
}

impl Priority {
    /// Number of levels.
    pub(crate) const COUNT: usize = 3;

    /// 0 for the most urgent.
    pub(crate) fn level(self) -> usize {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }
}

/// Where a task may run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// Anywhere that has a body for it.
    #[default]
    Any,
    /// On processors of a kind: `cpu`.
    Kind(ProcessorKind),
    /// On the processors of a backend, by the backend's name.
    Backend(String),
    /// On one processor, by its name: `threads-0`.
    Processor(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any processor"),
            Self::Kind(kind) => write!(f, "processors of kind `{kind}`"),
            Self::Backend(name) => write!(f, "processors of the backend `{name}`"),
            Self::Processor(name) => write!(f, "processor `{name}`"),
        }
    }
}

/// The options of one task; tasks without any carry none of this.
#[derive(Debug, Default)]
pub(crate) struct TaskOptions {
    pub(crate) name: Option<String>,
    pub(crate) scope: Scope,
}

/// A task about to be spawned, with options. Made by [`Handle::task`].
#[must_use = "nothing is spawned before `spawn` is called"]
#[derive(Debug)]
pub struct TaskBuilder<'r, F, A> {
    pub(crate) handle: &'r Handle,
    pub(crate) function: F,
    pub(crate) args: A,
    pub(crate) options: TaskOptions,
    pub(crate) priority: Priority,
}

impl<F, A> TaskBuilder<'_, F, A> {
    /// The name that errors and traces use, in place of the function's own.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// How urgent it is once it is ready.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Where it may run. A scope that no processor satisfies makes the task fail at once.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.options.scope = scope;
        self
    }

    /// Spawns it.
    #[track_caller]
    pub fn spawn<M>(self) -> Task<F::Value>
    where
        F: TaskFn<M>,
        A: Args<F::Params>,
    {
        let plain = self.options.name.is_none() && self.options.scope == Scope::Any;
        let options = (!plain).then(|| Box::new(self.options));
        self.handle.spawn_with(self.function, self.args, options, self.priority)
    }
}
