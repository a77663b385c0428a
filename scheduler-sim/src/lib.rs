//! Poniard's scheduler under virtual time.
//!
//! A [`Workload`] is what is to be run, a [`Platform`] what it runs on, a [`Problem`] both together: what everything takes. [`plan`] has planners, which know all
//! before anything runs; the [`engine`] runs a workload in virtual time with the runtime's own [`Board`](poniard::policy::Board) and policies, and decides as it goes. A [`stream`] is of graphs that arrive over time. [`output`] has pictures and tables of what came of it.
//! All times are whole nanoseconds; the same seed gives the same result everywhere.

pub mod adversary;
mod blocks;
pub mod engine;
pub mod network;
pub mod output;
pub mod plan;
pub mod platform;
pub mod prediction;
pub mod problem;
pub mod replay;
pub mod schedule;
pub mod statistics;
pub mod stream;
pub mod uncertainty;
pub mod workload;
pub mod world;

/// Raised whenever a run of the same problem with the same seed may come out as another one: results that were kept belong to one of these.
pub const ENGINE_VERSION: u32 = 1;

pub use platform::{Cost, Hop, NamedLink, Overheads, Platform, PlatformError, SimLink, SimProcessor};
pub use problem::{Impossible, NEVER, Problem};
pub use schedule::{Fault, Schedule};
pub use uncertainty::{Durations, Estimates};
pub use workload::{Workload, WorkloadBuilder, WorkloadError};
