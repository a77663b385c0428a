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
    /// All levels, the most urgent first.
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::High, Self::Normal, Self::Low];

    /// 0 for the most urgent.
    pub(crate) fn level(self) -> usize {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }
}

/// How much of the machine a task takes while it runs, in processors.
///
/// A task that takes none may run at any time, beside all others: one that sleeps, or waits for a file or for another program. Tasks that
/// take part of a processor share one, as far as they fit. One that takes several is run when as many workers have come to it, which then keep still until it
/// is over, or waits for another task: its body may use their processors through threads of its own.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Occupancy(f64);

impl Occupancy {
    /// No processor at all.
    pub const NONE: Self = Self(0.0);
    /// The default: one.
    pub const ONE: Self = Self(1.0);

    /// In thousandths; a task that takes part of a processor takes at least one.
    pub(crate) fn thousandths(self) -> u32 {
        let thousandths = (self.0 * 1000.0).ceil() as u32;
        if self.0 > 0.0 { thousandths.max(1) } else { thousandths }
    }

    /// More than nothing, and less than a processor.
    pub(crate) fn is_part(self) -> bool {
        self.0 > 0.0 && self.0 < 1.0
    }

    /// Whether it needs more than a thread that comes by.
    pub(crate) fn is_unusual(self) -> bool {
        self != Self::NONE && self != Self::ONE
    }

    /// Whether there is such a number of processors.
    pub(crate) fn is_possible(self) -> bool {
        (0.0..=1.0).contains(&self.0) || self.0 > 1.0 && self.0.fract() == 0.0 && self.0 <= 1e6
    }

    /// The number of processors.
    pub fn processors(self) -> f64 {
        self.0
    }
}

impl Default for Occupancy {
    fn default() -> Self {
        Self::ONE
    }
}

/// Between 0 and 1, or a whole number. Anything else makes the task fail when it is spawned.
impl From<f64> for Occupancy {
    fn from(processors: f64) -> Self {
        Self(processors)
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
    pub(crate) occupancy: Occupancy,
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

    /// How much of the machine it takes, in processors: none (`0.0`), a part of one (`0.25`), or several (`2.0`).
    pub fn occupancy(mut self, processors: impl Into<Occupancy>) -> Self {
        self.options.occupancy = processors.into();
        self
    }

    /// Spawns it.
    #[track_caller]
    pub fn spawn<M>(self) -> Task<F::Value>
    where
        F: TaskFn<M>,
        A: Args<F::Params>,
    {
        let plain = self.options.name.is_none() && self.options.scope == Scope::Any && self.options.occupancy == Occupancy::ONE;
        let options = (!plain).then(|| Box::new(self.options));
        self.handle.spawn_with(self.function, self.args, options, self.priority)
    }
}
