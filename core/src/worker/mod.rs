//! Host threads that run tasks: queues, stealing, sleeping, waiting inside tasks.
//!
//! `README.md` beside this file describes the protocols; each module names the part that it implements.

pub(crate) mod context;
pub(crate) mod domain;
pub(crate) mod entry;
pub(crate) mod fence;
pub(crate) mod fetch;
pub(crate) mod job;
pub(crate) mod job_deque;
pub(crate) mod jobs;
pub(crate) mod latch;
#[cfg(all(test, loom))]
mod loom_tests;
pub(crate) mod main_loop;
mod occupancy;
mod pressure;
mod ring;
pub(crate) mod room;
pub(crate) mod roster;
pub(crate) mod shared;
pub(crate) mod sleep;
pub(crate) mod slot;
pub(crate) mod stopwatch;
pub(crate) mod waiter;
pub(crate) mod waits;

/// To be called before the first worker starts.
pub(crate) fn prepare() {
    fence::prepare();
}
