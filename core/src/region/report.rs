//! What a runtime tells of its regions: how often each was planned, how often replayed, and why it could not be.

use std::fmt;
use std::panic::Location;

use poniard_interface::Access;

/// The regions that were begun at one place in the source.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RegionReport {
    /// Where.
    pub location: &'static Location<'static>,
    /// How many were planned anew, task by task.
    pub planned: u64,
    /// How many were replayed: they spawned what one before had spawned, with the same accesses, so that nobody had to find out again what comes after what.
    pub replayed: u64,
    /// Why the last one that was planned anew, although one before it could have been its plan or it could have been one itself, was.
    pub not_replayed: Option<NotReplayed>,
}

impl fmt::Display for RegionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { location, planned, replayed, not_replayed } = self;
        let place = format_args!("{}:{}:{}", location.file(), location.line(), location.column());
        write!(f, "region at {place}: planned {planned} times, replayed {replayed} times")?;
        not_replayed.as_ref().map_or(Ok(()), |why| write!(f, "; not the last time that it was planned: {why}"))
    }
}

/// Why a region was planned anew. Tasks are numbered in the order of the spawns, from 0, and values in the order in which the region first names them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotReplayed {
    /// [`RegionOptions::replay`](crate::RegionOptions::replay) says so.
    Off,
    /// It was checked: [`RegionOptions::checked`](crate::RegionOptions::checked).
    Checked,
    /// The runtime has something that nodes of graphs do not know.
    Runtime {
        /// What.
        reason: &'static str,
    },
    /// A task uses something else than at this place before.
    Other {
        /// The number of the task.
        task: usize,
        /// Where it was spawned.
        location: &'static Location<'static>,
        /// The number of the argument, from 0, of those that depend on something.
        argument: usize,
        /// What it used before; none: there was no such argument.
        expected: Option<RegionUse>,
        /// What it uses now; none: there is no such argument.
        found: Option<RegionUse>,
    },
    /// There are more tasks than before.
    More {
        /// How many there were before.
        expected: usize,
        /// Where the first further one was spawned.
        location: &'static Location<'static>,
    },
    /// There are fewer tasks than before.
    Fewer {
        /// How many there were before.
        expected: usize,
        /// How many there are now.
        found: usize,
    },
    /// A task has options, or is a kernel's launch, or may be tried again, or scopes are in use.
    Special {
        /// The number of the task.
        task: usize,
        /// What about it.
        reason: &'static str,
    },
    /// A task commutes or reduces.
    AnyOrder {
        /// The number of the task.
        task: usize,
    },
    /// A task has two accesses to the same elements, and one of them writes: it fails.
    SamePlace {
        /// The number of the task.
        task: usize,
    },
    /// Somebody had access to one of its values while it was spawning.
    Met {
        /// How many tasks had been spawned.
        spawned: usize,
        /// The number of the value.
        value: usize,
    },
    /// A task before the region has failed that was to leave one of its values, or a result; or copies of a reduction had to be combined.
    Before {
        /// How many tasks had been spawned.
        spawned: usize,
    },
    /// The closure took so long that its tasks were not held back any more: see [`RegionOptions::hold_back`](crate::RegionOptions::hold_back).
    Late {
        /// How many tasks had been spawned.
        spawned: usize,
    },
    /// It has more tasks than its window.
    Window,
    /// Its closure panicked.
    Panicked,
}

/// What a task uses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegionUse {
    /// A value.
    Value {
        /// How.
        access: Access,
        /// The number of the value; none: one that the region had not named so far.
        value: Option<usize>,
        /// Which part, if it is one.
        part: Option<String>,
    },
    /// The result of a task of the region.
    OfTask {
        /// Its number.
        task: usize,
    },
    /// The result of a task that is none of the region.
    Earlier,
    /// Access in any order: it commutes or reduces.
    AnyOrder,
}

impl fmt::Display for RegionUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { access, value, part } => {
                f.write_str(match access {
                    Access::Read => "reads",
                    Access::Write => "writes",
                    Access::Overwrite => "overwrites",
                })?;
                if let Some(part) = part {
                    write!(f, " {part} of")?;
                }
                match value {
                    Some(value) => write!(f, " value {value}"),
                    None => f.write_str(" a further value"),
                }
            }
            Self::OfTask { task } => write!(f, "takes the result of task {task}"),
            Self::Earlier => f.write_str("takes the result of a task that is none of the region"),
            Self::AnyOrder => f.write_str("commutes or reduces"),
        }
    }
}

impl fmt::Display for NotReplayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |location: &Location<'_>| format!("{}:{}:{}", location.file(), location.line(), location.column());
        let used = |used: &Option<RegionUse>| used.as_ref().map_or_else(|| "uses nothing more".to_owned(), ToString::to_string);
        match self {
            Self::Off => f.write_str("it was not to be replayed"),
            Self::Checked => f.write_str("it was checked"),
            Self::Runtime { reason } => write!(f, "the runtime {reason}"),
            Self::Other { task, location, argument, expected, found } => {
                let (expected, found) = (used(expected), used(found));
                write!(f, "argument {argument} of task {task}, spawned at {}, {found}; before, it {expected}", place(location))
            }
            Self::More { expected, location } => {
                write!(f, "it had {expected} tasks before, and a further one was spawned at {}", place(location))
            }
            Self::Fewer { expected, found } => write!(f, "it had {expected} tasks before, and has {found} now"),
            Self::Special { task, reason } => write!(f, "task {task} {reason}"),
            Self::AnyOrder { task } => write!(f, "task {task} commutes or reduces"),
            Self::SamePlace { task } => write!(f, "task {task} has two accesses to the same elements"),
            Self::Met { spawned, value } => write!(f, "somebody had access to its value {value} when it had spawned {spawned} tasks"),
            Self::Before { spawned } => {
                write!(
                    f,
                    "a task before it had failed, or copies of a reduction were to be combined, which was found when it had spawned {spawned} tasks"
                )
            }
            Self::Late { spawned } => write!(f, "it had spawned {spawned} tasks when they were not held back any longer"),
            Self::Window => f.write_str("it has more tasks than its window"),
            Self::Panicked => f.write_str("its closure panicked"),
        }
    }
}
