//! A device in use: its queues, their timelines, its memory.
//!
//! A device that is lost is abandoned: nothing of it is destroyed, since a driver whose shader does not end waits for it in every such call.
#![expect(unsafe_code, reason = "calls the Vulkan driver")]

use std::collections::BTreeMap;
use std::ffi::c_char;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ash::{ext, khr, vk};
use gpu_allocator::vulkan::{Allocator, AllocatorCreateDesc};
use gpu_allocator::{AllocationSizes, AllocatorDebugSettings};

use crate::instance::Instance;
use crate::memory::Import;
use crate::order::{Lane, Marks};
use crate::physical_device::PhysicalDevice;
use crate::settings::{Transfer, Without};

/// Memory is taken from the driver in blocks of this size; larger chunks get their own.
const BLOCK_BYTES: u64 = 64 << 20;

/// A queue of the device. Its batches are numbered 1, 2, ...: the values of its timeline.
struct Engine {
    family: u32,
    /// The same for both, where one queue plays two.
    queue: Arc<Mutex<vk::Queue>>,
    timeline: vk::Semaphore,
}

/// A logical device.
pub(crate) struct Device {
    pub(crate) physical: Arc<PhysicalDevice>,
    pub(crate) raw: ash::Device,
    pub(crate) push: Option<khr::push_descriptor::Device>,
    pub(crate) host_memory: Option<ext::external_memory_host::Device>,
    pub(crate) without: Without,
    /// Whether its buffers have addresses.
    pub(crate) has_addresses: bool,
    /// By lane. Without a second one everything goes to the first.
    engines: Vec<Engine>,
    /// Dropped before the device, unless that is lost.
    allocator: ManuallyDrop<Mutex<Allocator>>,
    /// Arenas by their addresses, or why the driver does not take them.
    pub(crate) imports: Mutex<BTreeMap<u64, Result<Import, String>>>,
    lost: OnceLock<String>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("physical", &self.physical).field("lost", &self.lost).finish_non_exhaustive()
    }
}

impl Device {
    /// Makes the device.
    ///
    /// # Errors
    /// What the driver says.
    pub(crate) fn new(instance: &Instance, physical: Arc<PhysicalDevice>, transfer: Transfer, without: Without) -> Result<Self, String> {
        if without.device {
            return Err("setting `vulkan.without` says that no device can be made".to_owned());
        }
        let has_push = physical.has_push_descriptors && !without.push_descriptors;
        let has_addresses = physical.has_addresses && !without.addresses;
        let mut names: Vec<*const c_char> = Vec::new();
        if has_push {
            names.push(khr::push_descriptor::NAME.as_ptr());
        }
        if physical.limits.import_alignment.is_some() {
            names.push(ext::external_memory_host::NAME.as_ptr());
        }
        if physical.has_float_atomics {
            names.push(ext::shader_atomic_float::NAME.as_ptr());
        }
        if physical.has_zeroed_groups {
            names.push(khr::zero_initialize_workgroup_memory::NAME.as_ptr());
        }
        let wanted = &physical.features;
        let basic = vk::PhysicalDeviceFeatures::default()
            // What WGSL promises of accesses out of bounds. Of buffers that are reached by their addresses the code itself sees to it.
            .robust_buffer_access(true)
            .shader_float64(wanted.f64)
            .shader_int64(wanted.i64)
            .shader_int16(wanted.i16);
        let mut of_11 = vk::PhysicalDeviceVulkan11Features::default()
            .storage_buffer16_bit_access(wanted.storage_16bit)
            .uniform_and_storage_buffer16_bit_access(wanted.storage_16bit)
            .storage_push_constant16(wanted.scalars_16bit);
        let mut of_12 = vk::PhysicalDeviceVulkan12Features::default()
            .timeline_semaphore(true)
            .buffer_device_address(has_addresses)
            .host_query_reset(physical.clock.is_some())
            .shader_float16(wanted.f16)
            .shader_int8(wanted.i8)
            .storage_buffer8_bit_access(wanted.storage_8bit)
            .uniform_and_storage_buffer8_bit_access(wanted.storage_8bit)
            .shader_buffer_int64_atomics(wanted.i64_atomics)
            .shader_shared_int64_atomics(wanted.i64_atomics)
            .shader_subgroup_extended_types(physical.has_subgroup_types);
        let mut of_atomics = vk::PhysicalDeviceShaderAtomicFloatFeaturesEXT::default()
            .shader_buffer_float32_atomics(wanted.f32_atomics)
            .shader_buffer_float32_atomic_add(wanted.f32_atomics);
        let mut of_groups =
            vk::PhysicalDeviceZeroInitializeWorkgroupMemoryFeatures::default().shader_zero_initialize_workgroup_memory(true);
        let priorities = [1.0];
        let of_lanes: Vec<u32> = match transfer {
            Transfer::Auto => [physical.family].into_iter().chain(physical.transfer_family).collect(),
            Transfer::None => vec![physical.family],
            Transfer::Emulated => vec![physical.family; 2],
        };
        let mut families = of_lanes.clone();
        families.dedup();
        let queue = |family: &u32| vk::DeviceQueueCreateInfo::default().queue_family_index(*family).queue_priorities(&priorities);
        let queues: Vec<_> = families.iter().map(queue).collect();
        let mut info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_extension_names(&names)
            .enabled_features(&basic)
            .push_next(&mut of_11)
            .push_next(&mut of_12);
        if physical.has_float_atomics {
            info = info.push_next(&mut of_atomics);
        }
        if physical.has_zeroed_groups {
            info = info.push_next(&mut of_groups);
        }
        // SAFETY: the handle is the instance's, and the extensions and features are among those that it lists.
        let raw = unsafe { instance.raw.create_device(physical.handle, &info, None) }
            .map_err(|error| format!("the driver makes no device: {error}"))?;
        let mut engines: Vec<Engine> = Vec::new();
        for family in of_lanes {
            let mut kind = vk::SemaphoreTypeCreateInfo::default().semaphore_type(vk::SemaphoreType::TIMELINE).initial_value(0);
            let info = vk::SemaphoreCreateInfo::default().push_next(&mut kind);
            // SAFETY: timeline semaphores are enabled.
            let timeline =
                unsafe { raw.create_semaphore(&info, None) }.map_err(|error| format!("the driver makes no semaphore: {error}"))?;
            let queue = match engines.iter().find(|engine| engine.family == family) {
                Some(engine) => Arc::clone(&engine.queue),
                // SAFETY: the device was made with a queue of this family.
                None => Arc::new(Mutex::new(unsafe { raw.get_device_queue(family, 0) })),
            };
            engines.push(Engine { family, queue, timeline });
        }
        let allocator = Allocator::new(&AllocatorCreateDesc {
            instance: instance.raw.clone(),
            device: raw.clone(),
            physical_device: physical.handle,
            debug_settings: AllocatorDebugSettings::default(),
            buffer_device_address: has_addresses,
            allocation_sizes: AllocationSizes::new(BLOCK_BYTES, BLOCK_BYTES / 2),
        })
        .map_err(|error| format!("the memory cannot be managed: {error}"))?;
        Ok(Self {
            push: has_push.then(|| khr::push_descriptor::Device::new(&instance.raw, &raw)),
            host_memory: physical.limits.import_alignment.map(|_| ext::external_memory_host::Device::new(&instance.raw, &raw)),
            physical,
            raw,
            without,
            has_addresses,
            engines,
            allocator: ManuallyDrop::new(Mutex::new(allocator)),
            imports: Mutex::default(),
            lost: OnceLock::new(),
        })
    }

    /// The allocator. No step under this lock leaves it half changed.
    pub(crate) fn allocator(&self) -> MutexGuard<'_, Allocator> {
        self.allocator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the device is lost, if it is.
    pub(crate) fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// Gives the device up; true for the first who does.
    pub(crate) fn mark_lost(&self, reason: &str) -> bool {
        self.lost.set(reason.to_owned()).is_ok()
    }

    /// Whether copies have a lane of their own.
    pub(crate) fn is_split(&self) -> bool {
        self.engines.len() > 1
    }

    /// The lane that there is for what belongs into `lane`.
    pub(crate) fn lane(&self, lane: Lane) -> Lane {
        if self.is_split() { lane } else { Lane::Compute }
    }

    fn engine(&self, lane: Lane) -> &Engine {
        &self.engines[self.lane(lane) as usize]
    }

    /// The family of a lane's queue.
    pub(crate) fn family(&self, lane: Lane) -> u32 {
        self.engine(lane).family
    }

    /// Makes a buffer that all queues use. It belongs to both where there are two: to hand a buffer over each time has a cost in commands, and drivers are not known to treat shared ones any worse.
    ///
    /// # Errors
    /// What the driver says.
    pub(crate) fn buffer(&self, info: vk::BufferCreateInfo<'_>) -> Result<vk::Buffer, String> {
        let mut families: Vec<u32> = self.engines.iter().map(|engine| engine.family).collect();
        families.dedup();
        let mode = if families.len() > 1 { vk::SharingMode::CONCURRENT } else { vk::SharingMode::EXCLUSIVE };
        let info = info.sharing_mode(mode).queue_family_indices(&families);
        // SAFETY: the structure is complete.
        unsafe { self.raw.create_buffer(&info, None) }.map_err(|error| format!("the driver makes no buffer: {error}"))
    }

    /// Has the queue of `lane` execute `commands` and then sets its timeline to `value`. With `waits_for` it begins when the other lane's timeline has come that far, and sees what was written until then.
    ///
    /// # Errors
    /// What the driver says; the device is of no use any more.
    pub(crate) fn submit(&self, lane: Lane, commands: vk::CommandBuffer, value: u64, waits_for: Option<u64>) -> Result<(), vk::Result> {
        let engine = self.engine(lane);
        let (buffers, values, semaphores) = ([commands], [value], [engine.timeline]);
        let waited = waits_for.map(|value| ([value], [self.engine(lane.other()).timeline], [vk::PipelineStageFlags::ALL_COMMANDS]));
        let mut timelines = vk::TimelineSemaphoreSubmitInfo::default().signal_semaphore_values(&values);
        let mut info = vk::SubmitInfo::default().command_buffers(&buffers).signal_semaphores(&semaphores);
        if let Some((values, semaphores, stages)) = &waited {
            timelines = timelines.wait_semaphore_values(values);
            info = info.wait_semaphores(semaphores).wait_dst_stage_mask(stages);
        }
        let info = info.push_next(&mut timelines);
        let queue = engine.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the commands are recorded completely, and nobody else uses the queue while its lock is held.
        unsafe { self.raw.queue_submit(*queue, &[info], vk::Fence::null()) }
    }

    /// Waits until the timelines have reached these values, or with `is_any` one of them; false when they have not within `patience`. A lane whose value is 0 does not count.
    ///
    /// # Errors
    /// What the driver says; the device is of no use any more.
    pub(crate) fn wait(&self, marks: Marks, is_any: bool, patience: Duration) -> Result<bool, vk::Result> {
        let (mut semaphores, mut values, mut count) = ([vk::Semaphore::null(); 2], [0; 2], 0);
        for lane in Lane::ALL.into_iter().filter(|lane| marks[*lane as usize] > 0) {
            (semaphores[count], values[count]) = (self.engine(lane).timeline, marks[lane as usize]);
            count += 1;
        }
        if count == 0 {
            return Ok(true);
        }
        let flags = if is_any && count > 1 { vk::SemaphoreWaitFlags::ANY } else { vk::SemaphoreWaitFlags::empty() };
        let info = vk::SemaphoreWaitInfo::default().flags(flags).semaphores(&semaphores[..count]).values(&values[..count]);
        let patience_ns = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        // SAFETY: the semaphores are this device's timelines.
        match unsafe { self.raw.wait_semaphores(&info, patience_ns) } {
            Ok(()) => Ok(true),
            Err(vk::Result::TIMEOUT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The number of the last batch of a lane that has ended.
    ///
    /// # Errors
    /// What the driver says; the device is of no use any more.
    pub(crate) fn ended(&self, lane: Lane) -> Result<u64, vk::Result> {
        // SAFETY: the semaphore is this device's timeline.
        unsafe { self.raw.get_semaphore_counter_value(self.engine(lane).timeline) }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.lost().is_some() {
            return;
        }
        // SAFETY: nobody else has the device, so nobody submits.
        if unsafe { self.raw.device_wait_idle() }.is_err() {
            return;
        }
        for import in std::mem::take(&mut self.imports).into_inner().unwrap_or_else(PoisonError::into_inner).into_values().flatten() {
            import.destroy(&self.raw);
        }
        // SAFETY: dropped once, here.
        unsafe { ManuallyDrop::drop(&mut self.allocator) };
        for engine in &self.engines {
            // SAFETY: the device is idle, so the semaphore is not in use.
            unsafe { self.raw.destroy_semaphore(engine.timeline, None) };
        }
        // SAFETY: whatever was made of the device holds it, and is gone.
        unsafe { self.raw.destroy_device(None) };
    }
}
