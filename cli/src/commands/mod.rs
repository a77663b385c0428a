//! The subcommands, one in each file, and what they share.

mod bench;
mod completions;
mod install;
mod kernels;
mod processors;
pub mod run;
mod samples;

use std::ops::Deref;
use std::path::PathBuf;

use poniard::Runtime;
use poniard::plugin::PluginSearch;

use crate::console::{self, Console};
use crate::failure::Failure;
use crate::options::{Command, Options, RuntimeOptions};

/// Does what the command line says.
///
/// # Errors
/// [`Failure`] says what went wrong, and what to exit with.
pub fn dispatch(options: &Options, console: &mut Console) -> Result<(), Failure> {
    match &options.command {
        Command::Run(options) => run::run(options, console),
        Command::Samples(options) => samples::samples(options, console),
        Command::Kernels(options) => kernels::kernels(options, console),
        Command::Processors(options) => processors::processors(options, console),
        Command::Bench(options) => bench::bench(options, console),
        Command::Completions(options) => completions::completions(options, console),
        Command::Install(options) => install::install(options, console),
    }
}

/// Checks that what `--plugin` names is there.
fn check_plugin_paths(paths: &[PathBuf]) -> Result<(), Failure> {
    for path in paths {
        if let Err(error) = std::fs::metadata(path) {
            return Err(Failure::usage(format_args!("--plugin {}: {error}", path.display())));
        }
    }
    Ok(())
}

/// A runtime as the options want it. Backends come from plugin files only; each file that was refused is a warning.
fn build_runtime(options: &RuntimeOptions) -> Result<WatchedRuntime, Failure> {
    check_plugin_paths(&options.plugins)?;
    let search = options.plugins.iter().fold(PluginSearch::standard(), |search, path| search.with_path(path));
    let mut builder = Runtime::builder().builtin(false).plugins(search);
    for backend in &options.backends {
        builder = builder.backend(backend.as_str());
    }
    if let Some(threads) = options.threads {
        builder = builder.threads(threads.get());
    }
    if let Some(processes) = options.processes {
        builder = builder.processes(processes.into());
    }
    for (name, value) in &options.settings {
        builder = builder.setting(name.as_str(), value.as_str());
    }
    let runtime = builder.build()?;
    let told_count = warn_of(&runtime, 0);
    for refused in runtime.report().refused {
        console::warn(refused.reason);
    }
    Ok(WatchedRuntime { runtime, told_count })
}

/// A runtime whose warnings are passed on: those from its beginning at once, those that came later when it goes, as lines in the middle of a result would be lost in it.
struct WatchedRuntime {
    runtime: Runtime,
    /// How many messages have been looked at.
    told_count: usize,
}

impl Deref for WatchedRuntime {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        &self.runtime
    }
}

impl Drop for WatchedRuntime {
    fn drop(&mut self) {
        warn_of(&self.runtime, self.told_count);
    }
}

/// Passes on the warnings among the messages of a runtime, but for so many of the first; gives how many messages there are.
fn warn_of(runtime: &Runtime, told_count: usize) -> usize {
    let messages = runtime.report().messages;
    for warning in messages.iter().skip(told_count).filter_map(|message| message.strip_prefix("warning: ")) {
        console::warn(warning);
    }
    messages.len()
}
