//! The facts that are true of every backend, about the backends of the workspace; and that the suite notices a backend that breaks them.
//!
//! `cargo test -p poniard-tests --test conformance -- --nocapture` says what is skipped and why.

use poniard::Runtime;
use poniard::plugin::PluginSearch;
use poniard_tests::conformance::{Claims, Subject};

mod threads {
    use super::*;

    poniard_tests::conformance!(Subject::new(
        "threads",
        || Runtime::builder().threads(2),
        Claims {
            runs_everything: true,
            taken_ahead: Some(0),
            bad_settings: &[("threads", "0"), ("threads", "many"), ("threads.pin", "perhaps"), ("threads.stack_bytes", "1")],
            has_own_settings: true,
            ..Claims::default()
        },
    ));
}

mod processes {
    use super::*;

    poniard_tests::conformance!(Subject::new(
        "process",
        || Runtime::builder().threads(1).processes(2),
        Claims {
            apart: true,
            survives_deaths: true,
            ends_bodies: true,
            taken_ahead: Some(0),
            bad_settings: &[("processes", "many"), ("processes", "1025"), ("processes.spin", "perhaps")],
            has_own_settings: true,
            ..Claims::default()
        },
    ));
}

/// The backend that authors begin with, from its plugin file.
mod example {
    use super::*;

    poniard_tests::conformance!(Subject::new(
        "example",
        || {
            let file = std::env::current_exe().expect("a test has a file").with_file_name("libponiard_plugin_example.so");
            Runtime::builder().builtin(false).plugins(PluginSearch::none().with_path(file))
        },
        Claims { runs_everything: true, ..Claims::default() },
    ));
}
