#![doc = include_str!("tour.md")]

// What `derive(Data)` writes names the crate from outside.
#[cfg(all(test, loom))]
extern crate self as poniard;

mod ambient;
mod arena;
pub mod buffer;
mod cancel;
mod clock;
pub mod data;
pub mod erased;
pub mod error;
pub mod function;
pub mod graph;
pub mod group;
mod journal;
pub mod kernel;
mod machine;
pub mod model;
pub mod mutable;
pub mod options;
pub mod parallel;
pub mod parameter;
pub mod part;
mod placement;
#[doc(hidden)]
pub mod planted;
pub mod platform;
pub mod plugin;
pub mod policy;
mod queued;
pub mod region;
mod residency;
mod retry;
pub mod runtime;
pub mod scope;
mod ship;
mod sleep_lock;
pub mod space;
mod spill;
mod sync;
pub mod task;
mod timer;
mod wire;
mod worker;

pub use ambient::with_options;
pub use buffer::{Buffer, MemoryUsage};
pub use cancel::{Cancelled, check_cancelled, is_cancelled};
pub use data::Data;
pub use erased::ErasedExt;
pub use error::{BoxError, FailureKind, TaskError};
pub use function::{Args, TaskFn, TaskOutput};
pub use graph::{GraphBuilder, GraphError, GraphErrorKind, GraphRun, GraphRunError, Input, Node, TaskGraph};
pub use group::{CancelToken, GroupError, TaskGroup};
pub use journal::{JournalEntry, JournalSpan};
pub use kernel::{Kernel, KernelLaunch, KernelSource};
pub use mutable::{Mutable, PartReading, Reading, commute, consume, overwrite, read, reduce, write};
pub use options::{ExpectedCosts, Occupancy, Priority, TaskBuilder, TaskOptions};
pub use parallel::{JobScope, join, map_reduce, parallel_chunks, parallel_chunks_mut, parallel_for, parallel_for_each_mut, scope};
pub use parameter::{Gather, IntoArg, Param};
pub use part::{FieldPart, Part, PartError, View, ViewMut};
pub use placement::{Considered, Explanation, PlacementReport};
pub use poniard_interface::*;
pub use poniard_macros::{Data, task};
pub use region::{
    NotReplayed, Planning, Region, RegionError, RegionOptions, RegionPlan, RegionReport, RegionRun, RegionTask, RegionTaskBuilder,
    RegionUse,
};
pub use retry::Retrying;
pub use runtime::{
    BackendReport, BuildError, BuildErrorKind, Handle, IdleReport, ProcessReport, ProcessesError, ProcessorReport, Refused, Report,
    Runtime, RuntimeBuilder, current, current_processor, spawn, spawn_detached,
};
pub use scope::{EmptyUnion, ParseScopeError, ProcessId, ProcessorIdentity, Scope, ScopePart, ScopeSource, ScopeTerm};
pub use task::future::TaskFuture;
pub use task::many::{AsFinished, as_finished, fetch_all, wait_any};
pub use task::{Task, Value};
pub use worker::sleep::IdlePolicy;

/// What the macros of this crate write paths to. Not part of the interface.
#[doc(hidden)]
pub mod private {
    pub use crate::parameter::{Slot, Stored, copy, take, take_place};
    pub use crate::wire::{NoWire, Parts, Probe, Reader, Wire, WireError, Writer};
}
