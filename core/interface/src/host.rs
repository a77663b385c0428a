//! What the runtime lends a backend.

use std::sync::Arc;

use crate::ids::{TaskId, WorkerId};
use crate::processor::operation_error;
use crate::remote::{Remote, ServeCommand};

/// How much a message matters.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LogLevel {
    /// Something is wrong and the user should know.
    Warning = 1,
    /// Worth knowing.
    Info = 2,
    /// For whoever debugs the backend.
    Debug = 3,
}

/// How a queued processor's task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Which task.
    pub task: TaskId,
    /// `Err` says why the processor could not execute it; a task that ran and failed by itself is `Ok` here.
    pub outcome: Result<(), Fault>,
    /// How long the processor was at it, in ns, without what it had to wait for, if the processor measures that. The runtime learns from it what the task costs here.
    /// A processor may measure some tasks and not others, from which nothing is learnt then. Of one that has never measured any, the runtime guesses.
    pub busy_ns: Option<u64>,
    /// How long the copies took that were made for its launch ([`Operand::source`](crate::Operand::source)), in ns, all together and without what they had to wait for, if the
    /// processor measures that. The runtime learns from it what the way to this memory gives.
    pub upload_ns: Option<u64>,
}

impl Completion {
    /// A task that was executed.
    pub fn done(task: TaskId) -> Self {
        Self { task, outcome: Ok(()), busy_ns: None, upload_ns: None }
    }

    /// One that was not.
    pub fn failed(task: TaskId, fault: Fault) -> Self {
        Self { task, outcome: Err(fault), busy_ns: None, upload_ns: None }
    }
}

/// Why a processor did not execute a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it means for the task and the processor.
    pub kind: FaultKind,
    /// What happened: lower case, no full stop.
    pub reason: String,
}

/// What a fault means for the task and the processor.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// The processor cannot execute this task; others may. It goes on with other tasks.
    Refused = 0,
    /// The processor is lost, and with it all that lies in its space alone. It takes no further task.
    Lost = 1,
    /// The same, and the task may be what it was lost by: it ran when the time was over.
    TimedOut = 2,
}

impl Fault {
    /// The processor cannot execute the task, for `reason`.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self { kind: FaultKind::Refused, reason: reason.into() }
    }

    /// The processor is lost, for `reason`.
    pub fn lost(reason: impl Into<String>) -> Self {
        Self { kind: FaultKind::Lost, reason: reason.into() }
    }

    /// The processor is lost since the task did not end, for `reason`.
    pub fn timed_out(reason: impl Into<String>) -> Self {
        Self { kind: FaultKind::TimedOut, reason: reason.into() }
    }
}

/// The services of the runtime that opened the backend. Cheap to call; callable from any thread; never unwinds.
pub trait HostServices: Send + Sync {
    /// Lends the calling thread to the runtime as `worker`; returns when the runtime wants it no more. For inline processors.
    fn worker_main(&self, worker: WorkerId);

    /// As [`worker_main`](Self::worker_main), for a thread that stands for another process: tasks that can travel are executed by `remote`.
    fn worker_main_remote(&self, worker: WorkerId, remote: Arc<dyn Remote>) {
        let _ = remote;
        self.worker_main(worker);
    }

    /// How to start a process in which the runtime calls the backend's [`serve`](crate::Backend::serve) with `argument`.
    ///
    /// # Errors
    /// [`ServeError`] when the running program cannot be started again for that: it is not this program's image, or `/proc` is not there.
    fn serve_command(&self, argument: &str) -> Result<ServeCommand, ServeError> {
        let _ = argument;
        Err(ServeError::new("this host starts no processes"))
    }

    /// Runs the host body of `task`, which was submitted to a queued processor, on the calling thread. When it returns, the task's
    /// outcome is known to all who wait for it; [`complete`](Self::complete) then makes room for another task.
    ///
    /// # Errors
    /// [`RunError`] when no such task is in flight or it was run before.
    fn run(&self, task: TaskId) -> Result<(), RunError>;

    /// Reports tasks of a queued processor as done. Unknown ids are ignored and logged.
    fn complete(&self, completions: &[Completion]);

    /// Says something to whoever watches the runtime. A backend never prints.
    fn log(&self, level: LogLevel, message: &str);
}

operation_error!(
    /// A task's host body could not be run.
    RunError,
    "failed to run a task: {reason}"
);
operation_error!(
    /// The program cannot be started again to serve.
    ServeError,
    "failed to prepare a process: {reason}"
);
