//! The built command, driven as a user drives it: laid out like an installation in a folder of its own, with the plugin file that cargo built.

#![expect(clippy::unwrap_used, reason = "all of this is a test, the helpers too")]

mod bench;
mod devices;
mod experiments;
mod install;
mod installation;
mod interrupts;
mod lists;
mod models;
mod output;
mod policies;
mod processes;
mod processors;
mod replay;
mod run;
mod simulate;
mod usage;
