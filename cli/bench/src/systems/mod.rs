//! Poniard's ways to do each case, and the machine's own limits.
//!
//! Each system is a function that gives a [`System`]; [`systems`] lists them by case. They use what every user has, with every option at its default. Bodies do
//! next to nothing and leave a trace that is checked: a count, or a value that depends on all tasks before.

mod flat;
mod fork;
mod graphs;
pub mod grid;
mod idle;
mod line;
mod memory;
mod ping_pong;
mod stencil;

use poniard::{Runtime, Task, TaskError};

use crate::case::{Case, Effort, Kind};
use crate::measure::System;

/// What systems run on.
#[derive(Debug)]
pub struct Setup<'a> {
    /// Where tasks run.
    pub runtime: &'a Runtime,
    /// How many workers it has.
    pub workers: usize,
    /// How much time to spend.
    pub effort: Effort,
}

/// Poniard's ways to do a case, and the machine's limit where there is one. The first is what ratios refer to.
pub fn systems<'a>(case: &Case, setup: &'a Setup<'a>) -> Vec<System<'a>> {
    match case.kind {
        Kind::Independent => {
            let count = setup.effort.flood();
            with(flat::spawn(setup, count), graphs::independent(setup, count))
        }
        Kind::Chain => with(line::chain(setup), graphs::chain(setup)),
        Kind::Tree => vec![fork::tree_spawn(setup)],
        Kind::Join => vec![fork::join_spawn(setup), fork::join(setup)],
        Kind::TwoDeps => vec![line::two_deps(setup)],
        Kind::Wavefront => with(grid::spawn(setup), graphs::wavefront(setup)),
        Kind::Flood => vec![flat::flood(setup)],
        Kind::Metg(width) => vec![stencil::spawn(setup, width), graphs::stencil(setup, width), stencil::limit(setup, width)],
        Kind::Growth(count) => with(flat::spawn(setup, count), graphs::independent(setup, count)),
        Kind::Idle => vec![idle::idle(setup)],
        Kind::PingPong => vec![ping_pong::cache_line(setup), ping_pong::park(setup)],
        Kind::Allocations => vec![memory::allocations(setup)],
        Kind::BytesPerTask => vec![memory::waiting(setup)],
    }
}

/// One system, and more.
fn with<'a>(first: System<'a>, more: Vec<System<'a>>) -> Vec<System<'a>> {
    std::iter::once(first).chain(more).collect()
}

impl Setup<'_> {
    /// The note of a system: on how many workers, and what else there is to say.
    fn note(&self, more: &str) -> String {
        let separator = if more.is_empty() { "" } else { ", " };
        format!("{} worker{}{separator}{more}", self.workers, if self.workers == 1 { "" } else { "s" })
    }
}

/// Lets a task run of which nobody wants the result.
#[inline]
fn let_run<T>(task: Task<T>) {
    task.detach();
}

/// The result of something that cannot fail.
#[track_caller]
fn certain<T>(result: Result<T, TaskError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}
