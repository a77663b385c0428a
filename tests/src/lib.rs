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

/// The documents whose blocks of Rust are compiled and run.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../../docs/WRITING_A_BACKEND.md")]
    mod writing_a_backend {}
}
