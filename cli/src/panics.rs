//! What a panic looks like.
//!
//! A panic in a task is the task's failure, which the runtime catches and reports; a panic of the command itself is a bug, told in one line.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};

use crate::console;

thread_local! {
    /// What the last panic of this thread said and where, for `bug_message`.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Replaces the standard hook, which prints a trace at every panic.
pub fn install() {
    let command = std::thread::current().id();
    panic::set_hook(Box::new(move |panic| {
        let told = describe(panic);
        // In a task: the runtime makes a `TaskError` of it. On the command's own thread: `main` tells it, if nobody catches it before.
        if poniard::current().is_none() && std::thread::current().id() != command {
            let thread = std::thread::current();
            console::warn(format_args!("thread {} panicked: {told}", thread.name().unwrap_or("without a name")));
        }
        // The thread may be past its thread-local values already.
        let _ = LAST.try_with(|last| *last.borrow_mut() = Some(told));
    }));
}

/// The line to print for a panic of the command itself.
pub fn bug_message(payload: &(dyn Any + Send)) -> String {
    let told = LAST.with(|last| last.borrow_mut().take()).unwrap_or_else(|| words(payload).to_owned());
    format!("this is a bug in poniard {}, please report it: {told}", env!("CARGO_PKG_VERSION"))
}

/// What a panic said and where, in one line.
fn describe(panic: &PanicHookInfo<'_>) -> String {
    let said = words(panic.payload()).replace('\n', "; ");
    match panic.location() {
        Some(place) => format!("{said} (at {}:{})", place.file(), place.line()),
        None => said,
    }
}

/// The text of a panic.
pub fn words(payload: &(dyn Any + Send)) -> &str {
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
