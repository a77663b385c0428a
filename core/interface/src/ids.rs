//! Identities that cross the contract: plain numbers and names, so that a plugin never holds a reference into the runtime.

use std::fmt;

/// A task handed to a queued processor, unique within one runtime while the task is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// A place in the runtime's table of workers; an inline processor is started for one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u32);

/// A memory space within one backend; [`SpaceId::HOST`] is the host's memory, shared by all backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpaceId(pub u32);

impl SpaceId {
    /// The host's memory: threads and forked processes map the same arenas, so they are one space.
    pub const HOST: Self = Self(0);
}

/// What a processor is, as far as code is concerned: two processors of one kind run the same bodies.
///
/// Threads and worker processes are both [`ProcessorKind::cpu`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessorKind(String);

impl ProcessorKind {
    /// A kind by name: lower-case ASCII letters, digits and `-`, by convention.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Code of the host's own instruction set, in the host's memory.
    pub fn cpu() -> Self {
        Self::new("cpu")
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ProcessorKind {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for ProcessorKind {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for ProcessorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
