//! Tasks are shipped to other processes: calls that another process of the same program executes.
//!
//! `README.md` beside this file says who does what, and what happens when a process ends.
//!
//! * `processor`: this side. A worker's thread that stands for a process sends tasks that can travel over, and takes their results.
//! * `image`: the other side, which executes calls.
//! * `call`: what the bytes of calls, replies and requests mean.
//! * `offer`: a task that was spawned in one process and is run in another, as data.
//! * `elsewhere`: what a process does with tasks that its own processor may not run.
//! * `trade`: what the host does with them.
//! * `code`: how a function is named for another process of the program.
//! * `object`: what the dynamic linker has loaded.
//! * `memory`: the arenas of the host as another process sees them.
//! * `values`: values that several tasks use, which are sent once.
//! * `idle`: memory that processes keep and do not need comes back.
//! * `start`: how a process of the program becomes one that serves, before `main`.

pub(crate) mod call;
pub(crate) mod code;
pub(crate) mod elsewhere;
mod idle;
pub(crate) mod image;
pub(crate) mod memory;
mod object;
pub(crate) mod offer;
pub(crate) mod processor;
pub(crate) mod start;
mod trade;
pub(crate) mod values;

pub(crate) use image::identity;
pub(crate) use memory::is_stopping;
