//! The mirror of the contract that crosses the boundary between two separately compiled files.
//!
//! The traits of the contract are Rust traits, whose layout no compiler promises. Here each has a twin in stable types, and an adapter on each side: the
//! plugin's half wraps a `dyn Backend`, catches panics and turns results into stable ones (`exported`); the host's half implements the contract's
//! traits over the stable objects (`imported`). `abi_stable` is used in this module and nowhere else, and its layout check compares the two
//! descriptions of [`BackendObject`] before anything is called. Both halves of a policy are in `policy`.
#![expect(unsafe_code, reason = "the trait objects of abi_stable are made of raw tables")]
#![allow(
    non_local_definitions,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::missing_errors_doc,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "sabi_trait writes items that the lints reject, and which of them depends on the compiler; every function written by hand here is documented"
)]

mod exported;
mod imported;
mod layout;
mod objects;
mod policy;

/// The description of a layout, as `abi_stable` makes it: a header names a function that returns one.
pub use abi_stable::type_layout::TypeLayout;
pub use exported::{create, layout};
pub use imported::import;
pub use layout::check_layout;
pub use objects::{BackendObject, CreateBackend, Created, StableError};
pub use policy::{CreatePolicy, CreatedPolicy, EntryFailed, PolicyObject, create_policy, import_policy, policy_layout};
