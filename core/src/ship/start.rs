//! How a process of the program becomes one that serves, before `main`.
//!
//! A backend that wants a process starts the program again with a variable in its environment. The function below runs before `main` in every program that
//! contains this library; it looks for the variable, and where it is, calls the backend's `serve` and ends the process after that. A
//! program therefore needs no call in its `main`, and its tests work as it does.
#![expect(unsafe_code, reason = "a function that runs before `main`, and the environment of a process that has one thread")]

use std::path::Path;
use std::sync::Arc;

use poniard_interface::{Backend, ServeCommand, ServeError};

use super::code;
use super::image::ProgramImage;
use crate::plugin;

/// Says that the process is to serve: the backend, a line break, its plugin file or nothing, a line break, the argument.
const VARIABLE: &str = "PONIARD_SERVE";
/// The running program, whatever its file has become since.
const PROGRAM: &str = "/proc/self/exe";

/// How to start a process that calls `serve` of `backend` with `argument`.
pub(crate) fn command(backend: &str, plugin: Option<&Path>, argument: &str) -> Result<ServeCommand, ServeError> {
    if !cfg!(target_os = "linux") {
        return Err(ServeError::new("worker processes need Linux"));
    }
    if !code::is_in_program() {
        return Err(ServeError::new(
            "the runtime is part of a library and not of the program itself, which therefore cannot be started again to run tasks",
        ));
    }
    if let Err(error) = std::fs::read_link(PROGRAM) {
        return Err(ServeError::new(format!("cannot find the running program by `{PROGRAM}`: {error}; is `/proc` mounted?")));
    }
    let plugin = match plugin.map(Path::to_str) {
        None => "",
        Some(Some(path)) if !path.contains('\n') => path,
        Some(_) => return Err(ServeError::new("the path of the plugin file is not UTF-8, or has a line break in it")),
    };
    let value = format!("{backend}\n{plugin}\n{argument}");
    Ok(ServeCommand { program: PROGRAM.into(), variables: vec![(VARIABLE.into(), value)] })
}

/// In every program that contains this library: one look at the environment before `main`.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

#[cfg(target_os = "linux")]
extern "C" fn before_main() {
    // A panic would end the process with an abort, since it cannot leave this function; there is nobody yet to tell.
    if let Some(value) = std::env::var_os(VARIABLE) {
        // SAFETY: nothing of the program has run yet, so this is the only thread.
        unsafe { std::env::remove_var(VARIABLE) };
        let status = serve(&value.to_string_lossy());
        // SAFETY: ends the process; what `main` would have set up is not there to be torn down.
        unsafe { libc::_exit(status) };
    }
}

/// Serves as the variable says; the exit status of the process.
fn serve(value: &str) -> i32 {
    match try_serve(value) {
        Ok(status) => status,
        Err(reason) => {
            use std::io::Write;
            // There is no runtime in this process to tell it to; the one that started it sees that it ended.
            let _ = writeln!(std::io::stderr(), "poniard: a process that was started to serve cannot: {reason}");
            70
        }
    }
}

fn try_serve(value: &str) -> Result<i32, String> {
    let mut parts = value.splitn(3, '\n');
    let (Some(name), Some(file), Some(argument)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(format!("the variable {VARIABLE} is {value:?}"));
    };
    let backend: Box<dyn Backend> = if file.is_empty() {
        crate::runtime::builtin_backend(name).ok_or_else(|| format!("no backend called `{name}` is part of the program"))?
    } else {
        plugin::load_one(Path::new(file)).map_err(|error| error.to_string())?
    };
    backend.serve(argument, Arc::new(ProgramImage)).map_err(|error| error.to_string())
}
