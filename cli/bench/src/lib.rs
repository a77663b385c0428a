//! What a task costs: the cases, Poniard's ways to do them, and how they are measured and shown.
//!
//! `poniard bench` measures them on a user's machine, and the benchmark `overhead` of `poniard-tests` beside rayon; the benchmark `processes` there
//! has cases of its own and the same harness and table. This is a crate of its own because the command
//! would otherwise have to build rayon. It depends on the runtime and on no backend.
//!
//! A tour: [`case`](mod@case) names what there is, [`systems`](mod@systems) has a file for each group of cases, [`measure`](mod@measure) runs the systems of
//! a case in turn, [`figure`] shows what came of it, [`arguments`] is how a benchmark is told what to measure, and
//! [`advice`](mod@advice) draws the conclusion. Whoever measures more systems beside
//! these, as the benchmark does, takes the sizes from here: [`Effort`], [`Stencil`], [`Wavefront`].

pub mod advice;
pub mod arguments;
pub mod case;
mod counting_allocator;
pub mod figure;
pub mod measure;
pub mod metg;
mod program;
pub mod spin;
pub mod systems;
mod tally;

pub use advice::advice;
pub use arguments::Arguments;
pub use case::{CASES, Case, Effort, Kind};
pub use counting_allocator::{Counted, CountingAllocator, count};
pub use figure::Figure;
pub use measure::{System, Turns, measure, per_task};
pub use metg::{Stencil, metg};
pub use program::program;
pub use systems::grid::Wavefront;
pub use systems::{Setup, systems};
pub use tally::Tally;

/// The tests count allocations too.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[cfg(test)]
mod tests;
