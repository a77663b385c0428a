//! Poniard on the device that `bare` has: what the systems `poniard` are.

use std::collections::BTreeMap;
use std::path::Path;

use poniard::{Buffer, Kernel, Runtime, Scope};
use poniard_backend_vulkan::VulkanBackend;
use poniard_tests::kernels::SAXPY;

use crate::bare::Bare;

/// `saxpy` whose result is new each time.
pub(crate) type Saxpy = Kernel<fn(&'static Buffer<f32>, &'static Buffer<f32>, u32, f32) -> Buffer<f32>>;
/// The same with a result that lies where the caller says.
pub(crate) type SaxpyInto = Kernel<fn(&'static Buffer<f32>, &'static Buffer<f32>, &'static mut Buffer<f32>, u32, f32)>;

/// A runtime with the device.
pub(crate) struct Ours {
    pub(crate) runtime: Runtime,
    processor: String,
}

/// Whether the device works in the host's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// If that is as fast as its own, and the driver can.
    Usual,
    /// Never: data are copied to the device and back.
    Copied,
}

impl Ours {
    /// A new runtime. Kernels are kept in `cache`, if there is one.
    pub(crate) fn new(bare: &Bare, data: Data, cache: Option<&Path>) -> Self {
        let mut builder = Runtime::builder().threads(1).linked(VulkanBackend::new()).setting("vulkan.devices", "0");
        builder = builder.setting("vulkan.software", if bare.is_software { "true" } else { "false" });
        builder = builder.setting("vulkan.cache", cache.map_or(String::new(), |folder| folder.display().to_string()));
        if data == Data::Copied {
            builder = builder.setting("vulkan.import", "false");
        }
        let runtime = builder.build().expect("a runtime");
        let processors = runtime.processors_in(&Scope::kind("vulkan"));
        assert_eq!(processors.len(), 1, "the device that `bare` has: {}", runtime.report().messages.join("; "));
        let processor = processors[0].name.clone();
        Self { runtime, processor }
    }

    /// What the backend has counted so far.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        let lines = self.runtime.describe(&self.processor, false);
        lines.into_iter().filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect()
    }

    /// How much it has counted of something since `before`.
    pub(crate) fn since(&self, before: &BTreeMap<String, u64>, name: &str) -> u64 {
        self.counts().get(name).copied().unwrap_or_default() - before.get(name).copied().unwrap_or_default()
    }
}

/// The kernel, as a function of its arguments.
pub(crate) fn saxpy() -> Saxpy {
    Kernel::wgsl(SAXPY.name, SAXPY.source).takes::<(&Buffer<f32>, &Buffer<f32>, u32, f32), Buffer<f32>>()
}

/// The kernel, as one that changes its third argument.
pub(crate) fn saxpy_into() -> SaxpyInto {
    Kernel::wgsl(SAXPY.name, SAXPY.source).takes::<(&Buffer<f32>, &Buffer<f32>, &mut Buffer<f32>, u32, f32), ()>()
}
