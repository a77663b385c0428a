//! Poniard's threads: one inline processor for each core.
//!
//! [`ThreadsBackend`] opens as many processors as the settings ask for ([`settings`] has their names). Each owns a thread that it
//! lends to the runtime once, so the loop over tasks stays in the runtime and a task costs nothing here.
//!
//! The same source is a plugin file (`libponiard_backend_threads.so`) and a library linked into a program.

pub mod backend;
mod processor;
pub mod settings;
mod topology;

pub use backend::ThreadsBackend;

poniard_interface::export_backend!("threads", ThreadsBackend::new());
