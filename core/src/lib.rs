#![doc = include_str!("tour.md")]

// What `derive(Data)` writes names the crate from outside.
#[cfg(all(test, loom))]
extern crate self as poniard;

mod arena;
pub mod buffer;
mod clock;
pub mod data;
pub mod erased;
pub mod error;
pub mod function;
pub mod mutable;
pub mod options;
pub mod parameter;
pub mod plugin;
mod queued;
pub mod runtime;
pub mod space;
mod sync;
pub mod task;
mod worker;

pub use buffer::Buffer;
pub use data::Data;
pub use erased::ErasedExt;
pub use error::{BoxError, FailureKind, TaskError};
pub use function::{Args, TaskFn, TaskOutput};
pub use mutable::{Mutable, Reading, overwrite, read, write};
pub use options::{Occupancy, Priority, Scope, TaskBuilder};
pub use parameter::{Gather, IntoArg, Param};
pub use poniard_interface::*;
pub use poniard_macros::{Data, task};
pub use runtime::{
    BackendReport, BuildError, BuildErrorKind, Handle, ProcessorReport, Refused, Report, Runtime, RuntimeBuilder, current, spawn,
    spawn_detached,
};
pub use task::{Task, Value};

/// What the macros of this crate write paths to. Not part of the interface.
#[doc(hidden)]
pub mod private {
    pub use crate::parameter::{Slot, Stored, take};
}
