//! Kernels made ready for a device: compiled once, kept by the identity of their code.
#![expect(unsafe_code, reason = "calls the Vulkan driver")]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ash::vk;
use poniard_interface::{Access, KernelCode, KernelInterface};

use crate::cache::{Cache, checksum};
use crate::device::Device;
use crate::shader::{self, COMPILER, Target, addresses_offset, parts_offset, pushed_bytes};
use crate::stamps::Samples;

/// As many buffers as push descriptors are always enough for.
pub(crate) const MAX_BINDINGS: u32 = 32;
/// As many bytes of scalars as devices have room for, today.
pub(crate) const MAX_SCALARS_BYTES: u32 = 256;

/// A kernel that the device can launch.
pub(crate) struct Pipeline {
    device: Arc<Device>,
    pub(crate) handle: vk::Pipeline,
    pub(crate) layout: vk::PipelineLayout,
    pub(crate) set_layout: vk::DescriptorSetLayout,
    module: vk::ShaderModule,
    pub(crate) name: String,
    pub(crate) interface: KernelInterface,
    /// Where, behind the scalars, each part of a launch is told which it is; none: launches are whole.
    pub(crate) parts_offset: Option<u32>,
    /// The buffers that are not bound, as in [`Target::addressed`], and where their addresses lie among what is pushed.
    pub(crate) addressed: u32,
    pub(crate) addresses_offset: u32,
    /// How many bytes are pushed.
    pub(crate) pushed_bytes: u32,
    /// Which of its launches were measured.
    pub(crate) samples: Samples,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("name", &self.name).field("interface", &self.interface).finish_non_exhaustive()
    }
}

impl Pipeline {
    fn new(
        device: &Arc<Device>,
        known: vk::PipelineCache,
        kernel: &KernelCode<'_>,
        target: Target,
        words: &[u32],
        interface: KernelInterface,
    ) -> Result<Self, String> {
        let entry = shader::entry_point(words).map_err(|error| error.reason)?;
        let entry = CString::new(entry).map_err(|_| "its entry point's name has a zero byte")?;
        // From here on dropping it cleans up.
        let mut pipeline = Self {
            device: Arc::clone(device),
            handle: vk::Pipeline::null(),
            layout: vk::PipelineLayout::null(),
            set_layout: vk::DescriptorSetLayout::null(),
            module: vk::ShaderModule::null(),
            name: kernel.name.to_owned(),
            parts_offset: target.parts.then(|| parts_offset(&interface)),
            addressed: target.addressed,
            addresses_offset: addresses_offset(&interface, &target),
            pushed_bytes: pushed_bytes(&interface, &target),
            samples: Samples::default(),
            interface,
        };
        let refuse = |error: vk::Result| format!("the driver does not compile it: {error}");
        let bindings: Vec<_> = pipeline
            .bound(&pipeline.interface.bindings)
            .map(|binding| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding.number)
                    .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let mut info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
        if device.push.is_some() {
            info = info.flags(vk::DescriptorSetLayoutCreateFlags::PUSH_DESCRIPTOR_KHR);
        }
        // SAFETY: the structure is complete; push descriptors are used only where the device has them.
        pipeline.set_layout = unsafe { device.raw.create_descriptor_set_layout(&info, None) }.map_err(refuse)?;
        let layouts = [pipeline.set_layout];
        let ranges = [vk::PushConstantRange::default().stage_flags(vk::ShaderStageFlags::COMPUTE).size(pipeline.pushed_bytes)];
        let ranges = if pipeline.pushed_bytes > 0 { ranges.as_slice() } else { &[] };
        let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&layouts).push_constant_ranges(ranges);
        // SAFETY: the structure is complete and the size is within the device's limit.
        pipeline.layout = unsafe { device.raw.create_pipeline_layout(&info, None) }.map_err(refuse)?;
        let info = vk::ShaderModuleCreateInfo::default().code(words);
        // SAFETY: the words come from the compiler, or were inspected.
        pipeline.module = unsafe { device.raw.create_shader_module(&info, None) }.map_err(refuse)?;
        let stage = vk::PipelineShaderStageCreateInfo::default().stage(vk::ShaderStageFlags::COMPUTE).module(pipeline.module).name(&entry);
        let info = vk::ComputePipelineCreateInfo::default().stage(stage).layout(pipeline.layout);
        // SAFETY: module and layout belong together: both come from the same interface.
        let made = unsafe { device.raw.create_compute_pipelines(known, &[info], None) };
        pipeline.handle = made.map_err(|(_, error)| refuse(error))?[0];
        Ok(pipeline)
    }

    /// Those of `each`, one thing for each buffer, whose buffers are bound.
    pub(crate) fn bound<'a, T>(&self, each: &'a [T]) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let addressed = self.addressed;
        each.iter().enumerate().filter(move |(index, _)| addressed.checked_shr(*index as u32).unwrap_or(0) & 1 == 0).map(|(_, one)| one)
    }

    /// Whether the launch writes to its buffer number `index`, if the caller says `access`.
    pub(crate) fn writes(&self, index: usize, access: Access) -> bool {
        access != Access::Read || self.interface.bindings.get(index).is_some_and(|binding| binding.access != Access::Read)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if self.device.lost().is_some() {
            return;
        }
        let raw = &self.device.raw;
        // SAFETY: batches hold what they use until they have ended; destroying null does nothing.
        unsafe { raw.destroy_pipeline(self.handle, None) };
        // SAFETY: as above.
        unsafe { raw.destroy_shader_module(self.module, None) };
        // SAFETY: as above.
        unsafe { raw.destroy_pipeline_layout(self.layout, None) };
        // SAFETY: as above.
        unsafe { raw.destroy_descriptor_set_layout(self.set_layout, None) };
    }
}

/// The code's identity, whether it is for launches in parts, and which buffers are reached by their addresses.
type Key = ([u64; 2], bool, u32);
type Ready = Result<Arc<Pipeline>, String>;

/// The kernels of one device.
pub(crate) struct Pipelines {
    device: Arc<Device>,
    /// Filled outside the lock, so that kernels are compiled side by side, each once.
    ready: Mutex<BTreeMap<Key, Arc<OnceLock<Ready>>>>,
    cache: Cache,
    /// What the driver keeps.
    known: vk::PipelineCache,
    has_news: AtomicBool,
    /// How many were taken from the cache on disk, and how many compiled.
    pub(crate) found: AtomicU64,
    pub(crate) compiled: AtomicU64,
}

impl std::fmt::Debug for Pipelines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipelines").field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl Pipelines {
    /// No kernel yet, and what the driver kept when it last ran.
    pub(crate) fn new(device: &Arc<Device>, cache: Cache) -> Self {
        let kept = cache.load(&driver_file(device)).unwrap_or_default();
        let info = vk::PipelineCacheCreateInfo::default().initial_data(&kept);
        // SAFETY: the data is what this driver wrote: its name says so, and its checksum is right.
        let known = unsafe { device.raw.create_pipeline_cache(&info, None) }.unwrap_or_default();
        Self {
            device: Arc::clone(device),
            ready: Mutex::default(),
            cache,
            known,
            has_news: AtomicBool::new(false),
            found: AtomicU64::new(0),
            compiled: AtomicU64::new(0),
        }
    }

    /// The kernel, for whole launches or for those in parts, with these buffers reached by their addresses, made ready if it is not: up to a second for a driver that sees it for the first time.
    ///
    /// # Errors
    /// Why the device cannot run it.
    pub(crate) fn get(&self, kernel: &KernelCode<'_>, parts: bool, addressed: u32) -> Ready {
        let place = {
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(ready.entry((kernel.identity, parts, addressed)).or_default())
        };
        place.get_or_init(|| self.make(kernel, parts, addressed).map_err(|reason| format!("kernel `{}`: {reason}", kernel.name))).clone()
    }

    fn make(&self, kernel: &KernelCode<'_>, parts: bool, addressed: u32) -> Ready {
        let interface = shader::inspect(kernel.source).map_err(|error| error.reason)?;
        let target = Target { parts, addressed, zeroes_workgroup_memory: self.device.physical.has_zeroed_groups, ..Target::default() };
        self.check(&interface, &target)?;
        let (shared, most) =
            (shader::workgroup_bytes(kernel.source).map_err(|error| error.reason)?, self.device.physical.limits.group_bytes);
        if shared > most.into() {
            return Err(format!("its workgroups share {shared} bytes, and `{}` has at most {most} for each", self.device.physical.name));
        }
        let options = checksum(format!("{COMPILER} {target:?}").as_bytes());
        let file = format!("{:016x}{:016x}-{options:016x}.spv", kernel.identity[0], kernel.identity[1]);
        let kept = self.cache.load(&file).filter(|bytes| bytes.len().is_multiple_of(4));
        let words = if let Some(bytes) = kept {
            self.found.fetch_add(1, Ordering::Relaxed);
            bytes.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect()
        } else {
            let words = shader::compile(kernel.source, &target).map_err(|error| error.reason)?;
            self.compiled.fetch_add(1, Ordering::Relaxed);
            self.cache.keep(&file, &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>());
            words
        };
        let pipeline = Pipeline::new(&self.device, self.known, kernel, target, &words, interface)?;
        self.has_news.store(true, Ordering::Relaxed);
        Ok(Arc::new(pipeline))
    }

    /// Whether the device can run it at all.
    fn check(&self, interface: &KernelInterface, target: &Target) -> Result<(), String> {
        let (physical, limits) = (&self.device.physical, &self.device.physical.limits);
        if let Some(missing) = shader::missing(interface, &physical.features) {
            return Err(missing);
        }
        let most = limits.bindings.min(MAX_BINDINGS);
        if interface.bindings.len() > most as usize {
            return Err(format!("it takes {} buffers, and `{}` at most {most}", interface.bindings.len(), physical.name));
        }
        let most = limits.scalars_bytes.min(MAX_SCALARS_BYTES);
        let pushed = pushed_bytes(interface, target);
        if pushed > most {
            let mut besides = Vec::new();
            if target.parts {
                besides.push("what a launch in parts needs".to_owned());
            }
            if target.addressed != 0 {
                besides.push(format!("the addresses of {} buffers that are longer than a binding", target.addressed.count_ones()));
            }
            let how = if besides.is_empty() { String::new() } else { format!(" with {}, {pushed} bytes in all", besides.join(" and ")) };
            return Err(format!("its scalars are {} bytes, and `{}` takes at most {most}{how}", interface.scalars_bytes, physical.name));
        }
        let invocations: u64 = interface.workgroup.iter().map(|size| u64::from(*size)).product();
        let is_wide = interface.workgroup.iter().zip(limits.group_size).any(|(size, most)| *size > most);
        if is_wide || invocations > limits.group_invocations.into() {
            let (size, wide, most) = (interface.workgroup, limits.group_size, limits.group_invocations);
            return Err(format!("its workgroups are {size:?}, and `{}` takes at most {wide:?} and {most} invocations", physical.name));
        }
        Ok(())
    }

    /// Keeps what the driver knows for the next process.
    pub(crate) fn save(&self) {
        if self.device.lost().is_some() || !self.has_news.swap(false, Ordering::Relaxed) {
            return;
        }
        // SAFETY: the cache is the device's.
        if let Ok(bytes) = unsafe { self.device.raw.get_pipeline_cache_data(self.known) } {
            self.cache.keep(&driver_file(&self.device), &bytes);
        }
    }
}

impl Drop for Pipelines {
    fn drop(&mut self) {
        if self.device.lost().is_none() {
            // SAFETY: nobody makes a pipeline any more.
            unsafe { self.device.raw.destroy_pipeline_cache(self.known, None) };
        }
    }
}

fn driver_file(device: &Device) -> String {
    format!("driver-{}.bin", device.physical.build)
}
