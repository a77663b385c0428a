//! Support for the tests: builders and stand-ins.

use poniard::Runtime;

/// A runtime with `count` threads, built in.
///
/// # Panics
/// When it cannot be built.
pub fn threads(count: usize) -> Runtime {
    match Runtime::builder().threads(count).build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("{error}"),
    }
}
