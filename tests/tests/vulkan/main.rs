//! Kernels on the Vulkan devices of the machine, software ones included, through the whole runtime, as users meet it.
//!
//! Where there is no device each test says so. Those that need two, or one that can be lost, are about the software driver, in processes of their own.

mod addresses;
mod agreement;
mod bad_input;
mod cache;
mod chains;
mod cholesky;
mod failures;
mod parts;
mod stand;
mod two;
