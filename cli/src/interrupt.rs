//! Ctrl-C and SIGTERM: nothing half-written stays behind.
//!
//! The handler runs on a thread of its own. It takes the lock of the list of temporary files and never gives it back, so a file that is about to get its
//! final name either has it, whole, before the handler looks, or never gets it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::console;
use crate::exit_code::ExitCode;
use crate::progress;

/// The temporary files that exist now.
static TEMPORARIES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Runs `work` with the list of temporary files; no interrupt acts meanwhile. Keep it short.
pub fn with_temporaries<R>(work: impl FnOnce(&mut BTreeSet<PathBuf>) -> R) -> R {
    work(&mut TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner))
}

/// From now on SIGINT, SIGTERM and SIGHUP remove the temporary files and end the command.
///
/// # Errors
/// When the operating system refuses the handler.
pub fn install() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        with_temporaries(|temporaries| {
            progress::clear_for_good();
            for file in temporaries.iter() {
                // It may be gone already, and nobody could act on a failure.
                let _ = std::fs::remove_file(file);
            }
            console::remark("interrupted");
            std::process::exit(ExitCode::Interrupted as i32)
        })
    })
}
