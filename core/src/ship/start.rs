//! How a process of the program becomes one that serves, before `main`.
//!
//! A backend that wants a process starts the program again with a variable in its environment. The function below runs before `main` in every program that
//! contains this library; it looks for the variable, and where it is, calls the backend's `serve` and ends the process after that. A
//! program therefore needs no call in its `main`, and its tests work as it does.
//!
//! The library may itself be part of a shared object, which the program links or opens while it runs. The new process is then told to load that object first
//! (`LD_PRELOAD`), so that its function runs before `main`, too.
#![expect(unsafe_code, reason = "a function that runs before `main`, and the environment of a process that has one thread")]

use std::path::Path;
use std::sync::Arc;

use poniard_interface::{Backend, ServeCommand, ServeError};

use super::code::{Key, Named};
use super::image::ProgramImage;
use crate::plugin;

/// Says that the process is to serve. Lines: the build id of the library that is to do it, or nothing for the program; the key of references to functions, what the variable below was before, the
/// backend, its plugin file or nothing, the argument.
const VARIABLE: &str = "PONIARD_SERVE";
/// Names objects that the dynamic linker loads before all others.
const PRELOAD: &str = "LD_PRELOAD";
/// The running program, whatever its file has become since.
const PROGRAM: &str = "/proc/self/exe";

/// How to start a process that calls `serve` of `backend` with `argument`.
pub(crate) fn command(backend: &str, plugin: Option<&Path>, argument: &str) -> Result<ServeCommand, ServeError> {
    if !cfg!(target_os = "linux") {
        return Err(ServeError::new("worker processes need Linux"));
    }
    if let Err(error) = std::fs::read_link(PROGRAM) {
        return Err(ServeError::new(format!("cannot find the running program by `{PROGRAM}`: {error}; is `/proc` mounted?")));
    }
    let plugin = match plugin.map(Path::to_str) {
        None => "",
        Some(Some(path)) if !path.contains('\n') => path,
        Some(_) => return Err(ServeError::new("the path of the plugin file is not UTF-8, or has a line break in it")),
    };
    let home = Named::home().map_err(|problem| ServeError::new(format!("the runtime cannot be started in another process: {problem}")))?;
    let before = std::env::var_os(PRELOAD).unwrap_or_default();
    let before = before.to_str().filter(|before| !before.contains('\n'));
    let before = before.ok_or_else(|| ServeError::new(format!("what {PRELOAD} says is not UTF-8, or has a line break in it")))?;
    let id = home.as_ref().map(|home| home.id.to_string()).unwrap_or_default();
    let value = format!("{id}\n{}\n{before}\n{backend}\n{plugin}\n{argument}", Key::own().to_text());
    let mut variables = vec![(VARIABLE.into(), value)];
    if let Some(home) = &home {
        variables.push((PRELOAD.into(), preload(home, before)?));
    }
    Ok(ServeCommand { program: PROGRAM.into(), variables })
}

/// What has a library loaded before all others.
fn preload(library: &Named, before: &str) -> Result<String, ServeError> {
    let separates = |letter: char| letter == ':' || letter.is_whitespace();
    let Some(file) = library.file.to_str().filter(|file| !file.contains(separates)) else {
        let file = library.file.display();
        return Err(ServeError::new(format!(
            "the runtime is part of the library {file}, whose path has a colon or a space in it, or is not UTF-8"
        )));
    };
    // SAFETY: the call takes a plain number.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return Err(ServeError::new(
            "the runtime is part of a library, and the program has more rights than its user, so it ignores which to load",
        ));
    }
    Ok(if before.is_empty() { file.into() } else { format!("{file}:{before}") })
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
        let value = value.to_string_lossy();
        let mut lines = value.splitn(4, '\n');
        let (home, key, before, rest) = (lines.next(), lines.next(), lines.next(), lines.next());
        // The program and each of its libraries may contain this function; the variable is for one of them.
        if home != Some(Named::home_id().as_str()) {
            return;
        }
        // SAFETY: nothing of the program has run yet, so this is the only thread.
        unsafe { std::env::remove_var(VARIABLE) };
        match before {
            Some("") | None => {
                // SAFETY: as above.
                unsafe { std::env::remove_var(PRELOAD) }
            }
            Some(before) => {
                // SAFETY: as above.
                unsafe { std::env::set_var(PRELOAD, before) }
            }
        }
        let status = match (key.and_then(Key::note_host), rest) {
            (Some(()), Some(rest)) => serve(rest),
            _ => serve(&value),
        };
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
