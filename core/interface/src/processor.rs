//! Something that executes tasks.

use std::time::Duration;

use crate::ids::{ProcessorKind, SpaceId, TaskId, WorkerId};
use crate::launch::{KernelCode, Launch};

/// How a processor is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Execution {
    /// The processor owns a thread and lends it to the runtime once; the loop over tasks stays in the runtime, at no cost a task.
    Inline,
    /// As `Inline`, and the thread stands for another process, which executes those tasks that can travel: see [`crate::Remote`].
    Remote,
    /// The processor takes batches and reports completions: a device queue, another machine.
    Queued {
        /// How many tasks it wants at once; more wait in the runtime.
        depth: u32,
    },
}

impl Execution {
    /// Whether the processor lends threads to the runtime.
    pub fn has_workers(self) -> bool {
        matches!(self, Self::Inline | Self::Remote)
    }
}

/// What a processor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessorInfo {
    /// Its name, unique within the backend: `threads-0`.
    pub name: String,
    /// What code it runs.
    pub kind: ProcessorKind,
    /// How it is fed.
    pub execution: Execution,
    /// The memory it works in.
    pub space: SpaceId,
    /// The NUMA node that it is near to, where the machine has several.
    pub numa_node: Option<u32>,
    /// The device that it is, if it is one.
    pub device: Option<DeviceInfo>,
}

/// A device of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its name: `NVIDIA H200`.
    pub name: String,
    /// What tells it from others of its name, also after the machine was started anew: its UUID, as 32 hexadecimal digits in five groups.
    pub uuid: String,
    /// What it is.
    pub class: DeviceClass,
}

/// What a device is, the most capable first.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DeviceClass {
    /// It has memory of its own.
    Discrete = 0,
    /// It works in the host's memory.
    Integrated = 1,
    /// A part of a device, lent by a virtual machine's host.
    Virtual = 2,
    /// Nobody knows.
    Other = 3,
    /// The host's own cores play a device: for tests. It is used only where somebody asks for it.
    Software = 4,
}

/// A task as a queued processor sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TaskDescriptor<'a> {
    /// What to report in [`crate::Completion`].
    pub id: TaskId,
    /// The task's name, for messages and traces.
    pub name: &'a str,
    /// The kernel to launch; none: the task has a host body, which [`crate::HostServices::run`] runs.
    pub launch: Option<&'a Launch<'a>>,
}

impl<'a> TaskDescriptor<'a> {
    /// The task `id` called `name`.
    pub fn new(id: TaskId, name: &'a str) -> Self {
        Self { id, name, launch: None }
    }

    /// The same as a kernel's launch.
    #[must_use]
    pub fn with_launch(self, launch: &'a Launch<'a>) -> Self {
        Self { launch: Some(launch), ..self }
    }
}

/// Executes tasks. Inline processors implement `start`, queued ones `submit`; all implement `stop`.
///
/// The runtime calls `start` and `submit` from any thread, and `stop` once, last.
pub trait Processor: Send + Sync {
    /// What it is. Must not change.
    fn info(&self) -> ProcessorInfo;

    /// Inline: starts a thread and calls [`crate::HostServices::worker_main`] with `worker` on it; returns at once.
    ///
    /// The runtime may ask again for the same worker: then the first thread waits inside a task and another one shall work in its place.
    ///
    /// # Errors
    /// [`StartError`] when the thread cannot be had, or the processor is a queued one.
    fn start(&self, worker: WorkerId) -> Result<(), StartError> {
        let _ = worker;
        Err(StartError::new("a queued processor has no worker to start"))
    }

    /// Queued: takes the tasks and returns at once; each is answered once, by [`crate::HostServices::complete`].
    ///
    /// # Errors
    /// [`SubmitError`] when none of the batch was taken.
    fn submit(&self, batch: &[TaskDescriptor<'_>]) -> Result<(), SubmitError> {
        let _ = batch;
        Err(SubmitError::new("an inline processor takes no batches"))
    }

    /// Launches of this kernel will be submitted soon: what can be prepared for them may be prepared meanwhile. Returns at once; nobody is told what came of it.
    fn expect(&self, kernel: &KernelCode<'_>) {
        let _ = kernel;
    }

    /// Queued: the calling thread waits for something that the processor has. It may do so in the place of the processor's own thread, and report what has ended: one thread less has
    /// to be woken. At most for `patience`. False when nothing has ended, nothing is under way, or another thread waits already.
    fn attend(&self, patience: Duration) -> bool {
        let _ = patience;
        false
    }

    /// What people want to know of it, as names and values, the most important first: driver, memory, features. With `measure` also what has to be measured:
    /// up to a second of its work.
    fn describe(&self, measure: bool) -> Vec<(String, String)> {
        let _ = measure;
        Vec::new()
    }

    /// Inline: the runtime has nothing for the processor until it calls `start` again. Gives back what it can do without: a process that its threads stand for ends.
    /// Called when none of its threads runs tasks.
    fn rest(&self) {}

    /// Ends the processor: joins its threads, which by then have returned from `worker_main`.
    ///
    /// # Errors
    /// [`StopError`] when something could not be ended; the runtime reports it and goes on.
    fn stop(&self) -> Result<(), StopError>;
}

macro_rules! operation_error {
    ($(#[$doc:meta])* $name:ident, $message:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        #[error($message)]
        #[non_exhaustive]
        pub struct $name {
            /// What went wrong: lower case, no full stop.
            pub reason: String,
        }

        impl $name {
            /// The operation failed for `reason`.
            pub fn new(reason: impl Into<String>) -> Self {
                Self { reason: reason.into() }
            }
        }
    };
}
pub(crate) use operation_error;

operation_error!(
    /// A worker's thread could not be started.
    StartError,
    "failed to start a worker: {reason}"
);
operation_error!(
    /// A batch was not taken.
    SubmitError,
    "failed to submit a batch: {reason}"
);
operation_error!(
    /// A processor did not end cleanly.
    StopError,
    "failed to stop a processor: {reason}"
);
