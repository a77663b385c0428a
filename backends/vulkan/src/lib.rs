//! Poniard's Vulkan devices: one queued processor for each.
//!
//! [`VulkanBackend`] looks for the loader at run time and lists the machine's devices ([`settings`] says which). A device is made at its first use. Each has a memory
//! space of its own, a queue that takes launches and copies in order, and a thread that
//! waits for it.
//!
//! The same source is a plugin file (`libponiard_backend_vulkan.so`) and a library linked into a program.

pub mod backend;
mod cache;
mod check;
mod commands;
mod device;
mod instance;
mod measure;
mod memory;
mod order;
mod physical_device;
mod pipeline;
mod processor;
mod queue;
pub mod settings;
pub mod shader;
mod space;
mod staging;
mod stamps;
mod tracker;

pub use backend::VulkanBackend;

poniard_interface::export_backend!("vulkan", VulkanBackend::new());
