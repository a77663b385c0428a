//! Why a graph could not be built, or not be run.

use std::fmt;
use std::panic::Location;

use crate::error::{TaskError, TaskName};

/// Names of a circle that a message tells.
const NAMES_MAX: usize = 8;

/// A graph could not be built.
#[derive(Clone, Debug)]
pub struct GraphError {
    kind: GraphErrorKind,
    message: String,
}

/// What is wrong with a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GraphErrorKind {
    /// Its nodes would wait for each other in a circle.
    Circle,
    /// An input would wait for a node.
    InputWaits,
    /// A node or an input of another builder was given.
    OtherBuilder,
    /// A result is moved into a node, and used elsewhere too.
    MovedAndUsed,
    /// A node has access to the same value in place twice, and not only to read it.
    SamePlace,
}

impl GraphError {
    /// What is wrong.
    pub fn kind(&self) -> GraphErrorKind {
        self.kind
    }

    pub(super) fn other_builder(location: &'static Location<'static>) -> Self {
        let message =
            format!("what is added at {} is given a node of another builder; a graph depends on its own nodes only", Place(location));
        Self { kind: GraphErrorKind::OtherBuilder, message }
    }

    pub(super) fn input_waits(name: &TaskName) -> Self {
        let message = format!("the input {name} is there before a run begins, so it cannot wait for a node");
        Self { kind: GraphErrorKind::InputWaits, message }
    }

    pub(super) fn circle(tasks: &[TaskName]) -> Self {
        let mut message = String::from("nodes wait for each other in a circle: ");
        for name in tasks.iter().take(NAMES_MAX) {
            message.push_str(&format!("{name}, before "));
        }
        if tasks.len() > NAMES_MAX {
            message.push_str(&format!("{} more, before ", tasks.len() - NAMES_MAX));
        }
        if let Some(first) = tasks.first() {
            message.push_str(&format!("`{}` again", first.name));
        }
        Self { kind: GraphErrorKind::Circle, message }
    }

    pub(super) fn same_place(location: &'static Location<'static>) -> Self {
        let message = format!("what is added at {} has two accesses to the same `Mutable`, and not both only read it", Place(location));
        Self { kind: GraphErrorKind::SamePlace, message }
    }

    pub(super) fn moved_and_used(name: &TaskName, users: u32) -> Self {
        let message = format!("the result of {name} is moved into a node and may be used by no other; {users} arguments use it");
        Self { kind: GraphErrorKind::MovedAndUsed, message }
    }
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for GraphError {}

/// A run of a graph could not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GraphRunError {
    /// An input was not given.
    MissingInput {
        /// Its name.
        input: String,
    },
    /// An input was given more than once.
    InputGivenTwice {
        /// Its name.
        input: String,
    },
    /// An input of another graph was given.
    OtherGraph,
    /// The runtime has been shut down.
    Shutdown,
    /// The runtime has only processors that take batches.
    NoWorker,
    /// A value that it has access to in place is not there: a task before failed, or waiting for it would never end.
    Place(TaskError),
}

impl fmt::Display for GraphRunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingInput { input } => write!(f, "the graph was not run: its input `{input}` was not given"),
            Self::InputGivenTwice { input } => write!(f, "the graph was not run: its input `{input}` was given twice"),
            Self::OtherGraph => f.write_str("the graph was not run: an input, or all of them, belong to another graph"),
            Self::Shutdown => f.write_str("the graph was not run: the runtime has been shut down"),
            Self::Place(error) => write!(f, "the graph was not run: {error}"),
            Self::NoWorker => f.write_str("the graph was not run: the runtime has no processor that takes tasks one by one"),
        }
    }
}

impl std::error::Error for GraphRunError {}

/// A place in a source file.
struct Place(&'static Location<'static>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.0.file(), self.0.line(), self.0.column())
    }
}
