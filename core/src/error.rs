//! Why a task has no result.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use crate::cancel::Cancelled;
use crate::retry::Exhausted;
use crate::scope::ScopePart;

/// Any error that a task function returns.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A task has no result: it failed, or something that it depends on did. Cheap to clone.
///
/// Names two tasks: the one that has no result ([`task`](Self::task)) and the one that is to blame ([`root_task`](Self::root_task)); they are the same
/// when the task failed by itself.
#[derive(Clone)]
pub struct TaskError(Arc<Failure>);

/// What a [`TaskError`] shares.
pub(crate) struct Failure {
    task: TaskName,
    kind: FailureKind,
    /// How often its function was called, where the kind does not say it.
    attempts: Option<u32>,
}

/// A task's name and the place where it was spawned.
#[derive(Clone)]
pub(crate) struct TaskName {
    pub(crate) name: String,
    pub(crate) location: &'static Location<'static>,
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({}:{}:{})", self.name, self.location.file(), self.location.line(), self.location.column())
    }
}

/// What happened to a task that has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum FailureKind {
    /// Its function returned an error.
    Returned(BoxError),
    /// Its function panicked, with this message.
    Panicked(String),
    /// A task that it depends on has no result; this is the error of the task to blame.
    Dependency(TaskError),
    /// Waiting for it would never end: the thread that wants to wait is in the middle of it, or of a task that it depends on.
    /// Of tasks that wait for each other in a circle, the last one to wait gets this error.
    WaitsForItself,
    /// Tasks are nested so deeply that there is no stack left to run it on: this many bytes were used.
    TooDeep {
        /// Stack used by the waiting thread.
        stack_bytes: usize,
    },
    /// Two of its arguments are access to one [`Mutable`](crate::Mutable), and not both only read it.
    SamePlace {
        /// Which of its accesses, counted from 1 over those arguments that are some.
        accesses: (usize, usize),
    },
    /// It takes more than there is, or a number of processors that cannot be.
    Occupancy {
        /// What it takes, in processors.
        asked: f64,
        /// Processors in its scope that take tasks one by one.
        available: usize,
    },
    /// Its [`Region`](crate::Region) has not ended: until then its result is for other tasks of the region alone.
    RegionOpen,
    /// It does not come after a task that it has to come after by its accesses: found in a region that is checked, and a bug of the runtime.
    Unordered {
        /// That task, with the place where it was spawned.
        earlier: String,
    },
    /// Its body has changed what it has no access to, or none to write, or has read what it has no access to: found in a region that is checked. Only unsafe code does that.
    Undeclared {
        /// Whether it has written there; otherwise it has only read.
        is_changed: bool,
        /// Where the [`Mutable`](crate::Mutable) was made that has the value.
        value: &'static Location<'static>,
        /// The first of the elements that were changed, and those right beside it, or the first one that was read, in words.
        elements: String,
        /// The task of the region that has last had access to write them, with the place where it was spawned; none: no task had.
        written_by: Option<String>,
    },
    /// The thread that spawns it in a region looks at something that it writes, and goes on doing so while the region waits for it.
    HeldHere {
        /// Where that look began.
        location: String,
    },
    /// It has taken the value out of a [`Mutable`](crate::Mutable) where another task looks for one: see [`consume`](crate::consume). The error of that one is a [`Dependency`](Self::Dependency) on this.
    Consumed,
    /// Its result was moved into another node of its graph.
    Moved,
    /// Its result was taken out of the run of its graph before.
    Taken,
    /// The runtime has been shut down.
    Shutdown,
    /// Somebody cancelled it, or a group that it is in, or everything.
    Cancelled,
    /// It had not finished at its deadline.
    DeadlineExceeded,
    /// It has a deadline, and the thread that watches deadlines could not be started.
    NoTimer {
        /// What the system said.
        reason: String,
    },
    /// Its last handle was dropped before it began, so nobody could have seen a result.
    Unneeded,
    /// No processor of the runtime is in its scope, or in that of an argument or of its result.
    NoProcessor {
        /// What was asked for, and by what.
        part: ScopePart,
        /// What there is, in words.
        available: String,
    },
    /// Every processor that may run it was removed: see [`Handle::set_processes`](crate::Handle::set_processes).
    Removed {
        /// Their names.
        processors: String,
    },
    /// It has to run in two scopes that have no processor in common.
    ScopesDoNotMeet {
        /// One of the two; several scopes together where any two of them meet.
        one: ScopePart,
        /// The other.
        other: ScopePart,
    },
    /// Its scope has no processor in this process, and it cannot travel to another one.
    Stays {
        /// Why not, in words.
        reason: String,
    },
    /// The data of its result, or of an argument, was on a device that was lost, and cannot be computed again.
    Lost {
        /// What was lost, and why, in words.
        reason: String,
    },
    /// It is a kernel's launch, and source, signature or arguments do not fit.
    Kernel {
        /// What is wrong, in words; of source that cannot be read, with the place in it.
        reason: String,
    },
    /// The processor could not execute it.
    Processor {
        /// The processor's name.
        processor: String,
        /// What it said.
        reason: String,
    },
}

/// The text of an error and of what caused it.
pub(crate) fn with_causes(error: &(dyn std::error::Error + Send + Sync)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl FailureKind {
    /// What happened to a task whose function returned `error`.
    pub(crate) fn of_returned(error: BoxError) -> Self {
        // From `check_cancelled`, so there is somebody who wanted it to end that way.
        if error.is::<Cancelled>() { Self::Cancelled } else { Self::Returned(error) }
    }
}

impl TaskError {
    pub(crate) fn new(task: TaskName, kind: FailureKind) -> Self {
        Self(Arc::new(Failure { task, kind, attempts: None }))
    }

    /// The error of a task whose function returned `error`.
    pub(crate) fn of_returned(task: TaskName, error: BoxError) -> Self {
        let (error, attempts) = match error.downcast::<Exhausted>() {
            Ok(exhausted) => (exhausted.last, exhausted.attempts),
            Err(error) => (error, 1),
        };
        Self::of_begun(task, FailureKind::of_returned(error), attempts)
    }

    /// The error of a task whose function has been called so often.
    pub(crate) fn of_begun(task: TaskName, kind: FailureKind, attempts: u32) -> Self {
        Self(Arc::new(Failure { task, kind, attempts: Some(attempts) }))
    }

    /// The error that shares `failure`.
    pub(crate) fn of(failure: Arc<Failure>) -> Self {
        Self(failure)
    }

    /// What it shares.
    pub(crate) fn into_shared(self) -> Arc<Failure> {
        self.0
    }

    /// The error of `task`, which depends on a task that has this error. Always one step from the root, so that a chain of a million
    /// tasks neither recurses nor grows.
    pub(crate) fn dependent(&self, task: TaskName) -> Self {
        Self::new(task, FailureKind::Dependency(self.root().clone()))
    }

    /// The name of the task that has no result.
    pub fn task(&self) -> &str {
        &self.0.task.name
    }

    /// Where that task was spawned.
    pub fn location(&self) -> &'static Location<'static> {
        self.0.task.location
    }

    /// What happened to that task.
    pub fn kind(&self) -> &FailureKind {
        &self.0.kind
    }

    /// The error of the task that is to blame: this one, unless a dependency failed.
    pub fn root(&self) -> &Self {
        match &self.0.kind {
            FailureKind::Dependency(root) => root,
            _ => self,
        }
    }

    /// The name of the task that is to blame.
    pub fn root_task(&self) -> &str {
        self.root().task()
    }

    /// How often the function of the task to blame was called: more than once only if it had [`retries`](crate::TaskBuilder::retries), 0 if it never was.
    pub fn attempts(&self) -> u32 {
        let Failure { kind, attempts, .. } = &*self.root().0;
        attempts.unwrap_or(match kind {
            FailureKind::Returned(_) | FailureKind::Panicked(_) => 1,
            _ => 0,
        })
    }

    /// What the task to blame said: the text of its error or panic.
    pub fn reason(&self) -> String {
        match &self.root().0.kind {
            FailureKind::Returned(error) => with_causes(&**error),
            FailureKind::Panicked(message) => message.clone(),
            FailureKind::Dependency(root) => root.reason(),
            FailureKind::WaitsForItself => "it would wait for itself".into(),
            FailureKind::TooDeep { stack_bytes } => {
                format!("tasks are nested too deeply: the waiting thread has used {stack_bytes} bytes of stack")
            }
            FailureKind::SamePlace { accesses: (one, two) } => {
                format!("its accesses {one} and {two} are to the same `Mutable`, and not both only read it")
            }
            FailureKind::Occupancy { asked, available } if *asked > *available as f64 => {
                format!("it takes {asked} processors, and its scope has {available}")
            }
            FailureKind::Occupancy { asked, .. } => {
                format!("it takes {asked} processors: a task takes none, part of one, or a whole number of them")
            }
            FailureKind::RegionOpen => {
                "its region has not ended; give the task to others as an argument, or fetch its result after the region".into()
            }
            FailureKind::Unordered { earlier } => {
                format!("it has access to what task {earlier} has access to, one of them writes, and it does not come after that one")
            }
            FailureKind::Undeclared { value, elements, written_by, .. } => {
                let before = written_by.as_ref().map_or_else(|| "which no task of the region had written".into(), |task| format!("last written by task {task}"));
                format!("{elements} of the `Mutable` made at {value}, {before}")
            }
            FailureKind::HeldHere { location } => {
                format!(
                    "it writes what the spawning thread still looks at (fetched at {location}), which would be waited for for ever; drop that before the region"
                )
            }
            FailureKind::Consumed => {
                "it has taken the value out of the `Mutable`, and nobody has put one there since; `overwrite` it with a parameter `&mut Option<T>`, or `put` one".into()
            }
            FailureKind::Moved => "it was moved into another node".into(),
            FailureKind::Taken => "it was taken out of this run before".into(),
            FailureKind::Shutdown => "the runtime has been shut down".into(),
            FailureKind::Cancelled => "it was cancelled".into(),
            FailureKind::DeadlineExceeded => "its deadline has passed".into(),
            FailureKind::NoTimer { reason } => format!("the thread that watches deadlines was not started: {reason}"),
            FailureKind::Unneeded => "its last handle was dropped before it began".into(),
            FailureKind::NoProcessor { part, available } => format!("no processor satisfies {part}; there are {available}"),
            FailureKind::Removed { processors } => format!("the processors that may run it were removed (`set_processes`): {processors}"),
            FailureKind::ScopesDoNotMeet { one, other } => format!("{one} and {other} do not meet"),
            FailureKind::Stays { reason } => {
                format!("its scope has no processor in this process, and it cannot travel to another one: {reason}")
            }
            FailureKind::Lost { reason } | FailureKind::Kernel { reason } => reason.clone(),
            FailureKind::Processor { processor, reason } => format!("processor {processor}: {reason}"),
        }
    }

    /// The error that the task to blame returned, if it returned one of type `E`.
    pub fn downcast_ref<E: std::error::Error + 'static>(&self) -> Option<&E> {
        match &self.root().0.kind {
            FailureKind::Returned(error) => error.downcast_ref(),
            _ => None,
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task = &self.0.task;
        match &self.0.kind {
            FailureKind::Returned(_) => match self.0.attempts {
                Some(attempts @ 2..) => write!(f, "task {task} failed {attempts} times: {}", self.reason()),
                _ => write!(f, "task {task} failed: {}", self.reason()),
            },
            FailureKind::Panicked(message) => write!(f, "task {task} panicked: {message}"),
            FailureKind::Dependency(root) => write!(f, "task {task} was not run, because it depends on another: {root}"),
            // Those may have begun.
            FailureKind::Cancelled | FailureKind::DeadlineExceeded => write!(f, "task {task} has no result: {}", self.reason()),
            FailureKind::Moved | FailureKind::Taken => write!(f, "task {task} has no result any more: {}", self.reason()),
            FailureKind::Consumed => write!(f, "task {task} has consumed the value: {}", self.reason()),
            FailureKind::Unordered { .. } => write!(f, "task {task} may have run too early: {}", self.reason()),
            FailureKind::Undeclared { is_changed: true, .. } => {
                write!(f, "task {task} has changed what it has no access to write: {}", self.reason())
            }
            FailureKind::Undeclared { .. } => write!(f, "task {task} has read what it has no access to: {}", self.reason()),
            FailureKind::RegionOpen => write!(f, "task {task} has no result yet: {}", self.reason()),
            // Of this task nothing is wrong.
            FailureKind::WaitsForItself => {
                write!(f, "waiting for task {task} would never end: it, or what it needs, waits for the waiting task")
            }
            _ => write!(f, "task {task} was not run: {}", self.reason()),
        }
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskError({self})")
    }
}

impl PartialEq for TaskError {
    /// Whether they are clones of one error.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for TaskError {}

impl std::error::Error for TaskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The text of a returned error is part of this error's own; its causes are, too (`reason`).
        None
    }
}
