//! Poniard's worker processes: one inline processor for each.
//!
//! [`ProcessBackend`] opens as many processors as the settings ask for ([`settings`] has their names), none by default. Each owns a thread that it lends to the
//! runtime, and a [`Remote`](poniard_interface::Remote) with it: the way to a process of the same program, in which tasks that can travel are executed.
//!
//! A **fork server** is this program once more, started when the first call comes; the runtime's start-up code calls
//! [`serve`](poniard_interface::Backend::serve) in it before `main`. It has one thread and little memory, so a worker process is a fork of it, quick and clean
//! whatever the host holds. Host and server talk by `ipc-channel`; host and worker talk by two rings in memory that both have mapped.
//! The README beside this file has the protocols and why they are sound.
//!
//! | module | is |
//! |---|---|
//! | `backend`, `settings`, `processor`, `remote` | what the runtime sees |
//! | `pool`, `server`, `control`, `monitor` | the host's side of the fork server, and who notices deaths |
//! | `worker`, `process`, `line`, `output` | the host's side of a worker process |
//! | `serve`, `labour`, `fork` | what runs in the fork server and in a worker process |
//! | `shared_memory`, `layout`, `ring` | the memory between them |
//! | `sync` | atomics and futexes, or loom's in their place |

pub mod backend;
pub mod settings;

#[cfg(target_os = "linux")]
mod control;
#[cfg(target_os = "linux")]
mod fork;
#[cfg(target_os = "linux")]
mod labour;
#[cfg(target_os = "linux")]
mod layout;
#[cfg(target_os = "linux")]
mod line;
#[cfg(all(test, loom, target_os = "linux"))]
mod loom_tests;
#[cfg(target_os = "linux")]
mod monitor;
#[cfg(target_os = "linux")]
mod output;
#[cfg(target_os = "linux")]
mod pool;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod processor;
#[cfg(target_os = "linux")]
mod remote;
#[cfg(target_os = "linux")]
mod ring;
#[cfg(target_os = "linux")]
mod serve;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
#[cfg_attr(all(test, loom), path = "shared_memory/modelled.rs")]
mod shared_memory;
#[cfg(target_os = "linux")]
mod sync;
#[cfg(target_os = "linux")]
mod worker;

pub use backend::ProcessBackend;

poniard_interface::export_backend!("process", ProcessBackend::new());
