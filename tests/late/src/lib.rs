//! A library that a program opens while it runs. It contains the runtime, as every library that is linked in the common way does.
#![expect(unsafe_code, reason = "functions are exported by their names")]

use std::process::id;

use poniard::{Buffer, Handle, Runtime, Scope, Task, buffer};

fn square(number: u64) -> (u64, u32) {
    (number * number, id())
}

fn total(numbers: &[f64], others: &Buffer<f64>) -> (f64, u32) {
    (numbers.iter().chain(others.iter()).sum(), id())
}

fn ends_its_process() {
    std::process::exit(3);
}

/// A task of the program's runtime with a function of this library, on a worker process.
#[unsafe(no_mangle)]
pub fn late_square(handle: &Handle, number: u64) -> Task<(u64, u32)> {
    handle.task(square, (number,)).scope(Scope::backend("process")).spawn()
}

/// The same on the program's own processors.
#[unsafe(no_mangle)]
pub fn late_square_here(handle: &Handle, number: u64) -> Task<(u64, u32)> {
    handle.task(square, (number,)).scope(Scope::host()).spawn()
}

/// As `late_square` of a function that takes larger values, and is a closure.
#[unsafe(no_mangle)]
pub fn late_total(handle: &Handle, numbers: &Task<Vec<f64>>, others: &Task<Buffer<f64>>) -> Task<(f64, u32)> {
    handle.task(|numbers: &[f64], others: &Buffer<f64>| total(numbers, others), (numbers, others)).scope(Scope::backend("process")).spawn()
}

/// A task that ends a worker process.
#[unsafe(no_mangle)]
pub fn late_end(handle: &Handle) -> Task<()> {
    handle.task(ends_its_process, ()).scope(Scope::backend("process")).once().spawn()
}

fn nested(depth: u64) -> Result<(u64, u32), poniard::TaskError> {
    if depth == 0 {
        return Ok((1, id()));
    }
    let (one, two) = (poniard::spawn(nested, (depth - 1,)), poniard::spawn(nested, (depth - 1,)));
    Ok((one.take()?.0 + two.take()?.0, id()))
}

/// What tasks of a runtime that this library makes give: a number, and the process in which it was found.
///
/// # Errors
/// Why there is no runtime, or what a task fails with.
#[unsafe(no_mangle)]
pub fn late_alone() -> Result<Vec<(u64, u32)>, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let runtime = Runtime::builder().threads(1).processes(2).build().map_err(|error| text(&error))?;
    let far = || Scope::backend("process");
    let numbers = runtime.task(|| buffer::from_fn(100_000, |index| index as f64), ()).scope(far()).spawn();
    let sum = runtime.task(total, (vec![0.5; 10_000], &numbers)).scope(far()).spawn();
    let nested = runtime.task(nested, (5,)).scope(far()).spawn();
    let here = runtime.task(square, (3,)).scope(Scope::host()).spawn();
    let (sum, place) = sum.take().map_err(|error| text(&error))?;
    let rest = [nested, here].into_iter().map(|task| task.take().map_err(|error| text(&error)));
    std::iter::once(Ok((sum as u64, place))).chain(rest).collect()
}
