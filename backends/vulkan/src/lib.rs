//! Vulkan devices.

pub mod shader;
