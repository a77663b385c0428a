//! The `poniard` command: runs samples and graph files on everything the machine has, through backends that it loads as plugin files.
//!
//! A tour: `options` is what the user typed, `commands` does it, `console` prints, `output` writes files whole or not at all, and
//! `exit_code` says what the command's exit status means. It is a library so that the benchmark of placement can run the [`samples`].

#![expect(unreachable_pub, reason = "here `pub` marks what a module offers to the others; only the samples are for who links a command")]

mod commands;
mod console;
mod exit_code;
mod explain;
mod failure;
mod graph;
mod interrupt;
mod kernels;
mod options;
mod output;
mod panics;
mod progress;
mod report;
pub mod sample;
pub mod samples;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use console::Console;
use exit_code::ExitCode;
use failure::Failure;
use options::Options;

/// All of the command: its exit status comes from what its arguments ask for.
#[must_use]
pub fn main() -> std::process::ExitCode {
    panics::install();
    if let Err(error) = interrupt::install() {
        console::warn(format_args!("an interrupt will leave temporary files behind: {error}"));
    }
    // A panic in a task stays in the runtime; one that comes up to here is a mistake in the command.
    let code = match std::panic::catch_unwind(command) {
        Ok(code) => code,
        Err(payload) => {
            console::error(format_args!("{}", panics::bug_message(&*payload)));
            ExitCode::Bug
        }
    };
    code.into()
}

/// Reads the command line, does what it says and prints what went wrong.
fn command() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => return parse_error(&error),
    };
    let mut console = Console::new();
    let done = commands::dispatch(&options, &mut console).and_then(|()| console.finish());
    match done {
        Ok(()) => ExitCode::Success,
        Err(Failure { code, text }) => {
            console::error(format_args!("{text}"));
            code
        }
    }
}

/// What clap has to say: help and version go to standard output, mistakes to standard error.
fn parse_error(error: &clap::Error) -> ExitCode {
    // `poniard hello` is what everybody types first.
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand)
        && (commands::run::is_sample(name) || commands::run::looks_like_file(name))
    {
        console::error(format_args!("`{name}` is not a subcommand; did you mean `poniard run {name}`?"));
        return ExitCode::Usage;
    }
    // Printing fails when the reader has gone, who then does not want to know.
    let printed = error.print();
    match (error.use_stderr(), printed) {
        (true, _) => ExitCode::Usage,
        (false, Err(reason)) if reason.kind() != std::io::ErrorKind::BrokenPipe => {
            console::error(format_args!("standard output could not be written: {reason}"));
            ExitCode::Output
        }
        (false, _) => ExitCode::Success,
    }
}
