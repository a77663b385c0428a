//! Vulkan without a runtime, as somebody writes it who has `ash` and knows what to do: one command buffer for each queue, recorded anew for each submission, push
//! descriptors, timeline semaphores, memory that is allocated before. What Poniard's figures are compared with.
//!
//! Needs Vulkan 1.3 and push descriptors. The first discrete device, else an integrated one, else any.
#![expect(unsafe_code, reason = "calls Vulkan")]

mod memory;
mod recording;

use std::cell::Cell;
use std::ffi::CStr;

use ash::{ext, khr, vk};

pub(crate) use memory::{Home, Memory};
pub(crate) use recording::{Kernel, Recording};

/// A device.
pub(crate) struct Bare {
    /// For computing, and for everything else if there is no other.
    pub(crate) work: Lane,
    /// For transfers alone.
    pub(crate) transfers: Option<Lane>,
    /// Name, driver and version.
    pub(crate) about: String,
    /// Whether it is no device but a driver that computes on the host's processors.
    pub(crate) is_software: bool,
    device: ash::Device,
    push: khr::push_descriptor::Device,
    /// If host memory can be imported: how, and to what it is aligned.
    import: Option<(ext::external_memory_host::Device, u64)>,
    memory: vk::PhysicalDeviceMemoryProperties,
    group_count_max: [u32; 3],
    instance: ash::Instance,
    // The last one to go: it has the library.
    _entry: ash::Entry,
}

/// A queue, its command buffer, and a semaphore that counts what it has done.
pub(crate) struct Lane {
    queue: vk::Queue,
    pool: vk::CommandPool,
    commands: vk::CommandBuffer,
    timeline: vk::Semaphore,
    submitted: Cell<u64>,
}

/// What a device has to have.
const PUSH: &CStr = khr::push_descriptor::NAME;
/// What is used if it is there.
const IMPORT: &CStr = ext::external_memory_host::NAME;

impl Bare {
    /// The best device.
    ///
    /// # Errors
    /// A text that says why there is none.
    pub(crate) fn open() -> Result<Self, String> {
        // SAFETY: the library is the system's Vulkan loader.
        let entry = unsafe { ash::Entry::load() }.map_err(|error| error.to_string())?;
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let info = vk::InstanceCreateInfo::default().application_info(&application);
        // SAFETY: what is pointed to lives during the call.
        let instance = unsafe { entry.create_instance(&info, None) }.map_err(|error| error.to_string())?;
        // SAFETY: the instance is there.
        let all = unsafe { instance.enumerate_physical_devices() }.map_err(|error| error.to_string())?;
        let ranked = all.into_iter().filter_map(|physical| {
            // SAFETY: the physical device is the instance's.
            let properties = unsafe { instance.get_physical_device_properties(physical) };
            let rank = match properties.device_type {
                vk::PhysicalDeviceType::DISCRETE_GPU => 0,
                vk::PhysicalDeviceType::INTEGRATED_GPU => 1,
                _ => 2,
            };
            let is_usable =
                properties.api_version >= vk::API_VERSION_1_3 && extensions(&instance, physical).iter().any(|name| name == PUSH);
            is_usable.then_some((rank, physical, properties))
        });
        let Some((_, physical, properties)) = ranked.min_by_key(|(rank, ..)| *rank) else {
            return Err("no device has Vulkan 1.3 and push descriptors".into());
        };
        Ok(Self::of(entry, instance, physical, &properties))
    }

    fn of(entry: ash::Entry, instance: ash::Instance, physical: vk::PhysicalDevice, properties: &vk::PhysicalDeviceProperties) -> Self {
        // SAFETY: the physical device is the instance's.
        let families = unsafe { instance.get_physical_device_queue_family_properties(physical) };
        let has = |flags: vk::QueueFlags, wanted: vk::QueueFlags| flags.contains(wanted);
        let work = families.iter().position(|family| has(family.queue_flags, vk::QueueFlags::COMPUTE)).expect("a queue that computes");
        let transfers = families.iter().position(|family| {
            has(family.queue_flags, vk::QueueFlags::TRANSFER)
                && !family.queue_flags.intersects(vk::QueueFlags::COMPUTE | vk::QueueFlags::GRAPHICS)
        });
        let queue = |family: usize| vk::DeviceQueueCreateInfo::default().queue_family_index(family as u32).queue_priorities(&[1.0]);
        let queues: Vec<_> = [Some(work), transfers].into_iter().flatten().map(queue).collect();
        let imports = extensions(&instance, physical).iter().any(|name| name == IMPORT);
        let names: Vec<_> = [Some(PUSH), imports.then_some(IMPORT)].into_iter().flatten().map(CStr::as_ptr).collect();
        let mut of_1_2 = vk::PhysicalDeviceVulkan12Features::default().timeline_semaphore(true);
        let mut of_1_3 = vk::PhysicalDeviceVulkan13Features::default().synchronization2(true);
        let info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_extension_names(&names)
            .push_next(&mut of_1_2)
            .push_next(&mut of_1_3);
        // SAFETY: what is pointed to lives during the call; the families, extensions and features are there.
        let device = unsafe { instance.create_device(physical, &info, None) }.expect("a device");

        let mut host = vk::PhysicalDeviceExternalMemoryHostPropertiesEXT::default();
        let mut driver = vk::PhysicalDeviceDriverProperties::default();
        let mut further = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
        if imports {
            further = further.push_next(&mut host);
        }
        // SAFETY: the structures in the chain are what the device knows.
        unsafe { instance.get_physical_device_properties2(physical, &mut further) };
        let text = |name: &CStr| name.to_string_lossy().into_owned();
        let about = format!(
            "{}, {} {}",
            properties.device_name_as_c_str().map_or_else(|_| "?".into(), text),
            driver.driver_name_as_c_str().map_or_else(|_| "?".into(), text),
            driver.driver_info_as_c_str().map_or_else(|_| "?".into(), text)
        );
        Self {
            work: Lane::of(&device, work as u32),
            transfers: transfers.map(|family| Lane::of(&device, family as u32)),
            about,
            is_software: properties.device_type == vk::PhysicalDeviceType::CPU,
            push: khr::push_descriptor::Device::new(&instance, &device),
            import: imports.then(|| (ext::external_memory_host::Device::new(&instance, &device), host.min_imported_host_pointer_alignment)),
            // SAFETY: the physical device is the instance's.
            memory: unsafe { instance.get_physical_device_memory_properties(physical) },
            group_count_max: properties.limits.max_compute_work_group_count,
            device,
            instance,
            _entry: entry,
        }
    }

    /// Records what `record` says, and has `lane` do it. Its former submission has ended.
    pub(crate) fn submit(&self, lane: &Lane, record: impl FnOnce(&Recording<'_>)) {
        let begin = vk::CommandBufferBeginInfo::default().flags(vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT);
        // SAFETY: the lane's former submission has ended, so nobody uses its command buffer, whose pool lets it be reset.
        unsafe { self.device.begin_command_buffer(lane.commands, &begin) }.expect("a command buffer");
        record(&Recording { bare: self, commands: lane.commands });
        // SAFETY: it was begun above.
        unsafe { self.device.end_command_buffer(lane.commands) }.expect("what was recorded");
        lane.submitted.set(lane.submitted.get() + 1);
        let commands = [vk::CommandBufferSubmitInfo::default().command_buffer(lane.commands)];
        let signals = [vk::SemaphoreSubmitInfo::default()
            .semaphore(lane.timeline)
            .value(lane.submitted.get())
            .stage_mask(vk::PipelineStageFlags2::ALL_COMMANDS)];
        let submit = vk::SubmitInfo2::default().command_buffer_infos(&commands).signal_semaphore_infos(&signals);
        // SAFETY: the lane is used by one thread, since it cannot be shared; the semaphore's value grows.
        unsafe { self.device.queue_submit2(lane.queue, &[submit], vk::Fence::null()) }.expect("a submission");
    }

    /// Waits until what was submitted has ended.
    pub(crate) fn wait(&self, lane: &Lane) {
        let (semaphores, values) = ([lane.timeline], [lane.submitted.get()]);
        let wait = vk::SemaphoreWaitInfo::default().semaphores(&semaphores).values(&values);
        // SAFETY: the semaphore is the device's.
        unsafe { self.device.wait_semaphores(&wait, u64::MAX) }.expect("an end");
    }

    /// Has the lane for computing do it, and waits.
    pub(crate) fn run(&self, record: impl FnOnce(&Recording<'_>)) {
        self.submit(&self.work, record);
        self.wait(&self.work);
    }
}

/// The names of what a device has besides the ordinary.
fn extensions(instance: &ash::Instance, physical: vk::PhysicalDevice) -> Vec<std::ffi::CString> {
    // SAFETY: the physical device is the instance's.
    let all = unsafe { instance.enumerate_device_extension_properties(physical) }.unwrap_or_default();
    all.iter().filter_map(|extension| Some(extension.extension_name_as_c_str().ok()?.to_owned())).collect()
}

impl Lane {
    fn of(device: &ash::Device, family: u32) -> Self {
        let info = vk::CommandPoolCreateInfo::default()
            .queue_family_index(family)
            .flags(vk::CommandPoolCreateFlags::RESET_COMMAND_BUFFER | vk::CommandPoolCreateFlags::TRANSIENT);
        // SAFETY: the device has the family.
        let pool = unsafe { device.create_command_pool(&info, None) }.expect("a pool");
        let info = vk::CommandBufferAllocateInfo::default().command_pool(pool).command_buffer_count(1);
        // SAFETY: the pool is the device's.
        let commands = unsafe { device.allocate_command_buffers(&info) }.expect("a command buffer")[0];
        let mut kind = vk::SemaphoreTypeCreateInfo::default().semaphore_type(vk::SemaphoreType::TIMELINE);
        let info = vk::SemaphoreCreateInfo::default().push_next(&mut kind);
        // SAFETY: the device has timeline semaphores.
        let timeline = unsafe { device.create_semaphore(&info, None) }.expect("a semaphore");
        // SAFETY: the device was made with a queue of the family.
        let queue = unsafe { device.get_device_queue(family, 0) };
        Self { queue, pool, commands, timeline, submitted: Cell::new(0) }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have been lost.
        // SAFETY: nobody uses its queues.
        let _ = unsafe { self.device.device_wait_idle() };
        for lane in [Some(&self.work), self.transfers.as_ref()].into_iter().flatten() {
            // SAFETY: nothing waits for it, since the device is idle.
            unsafe { self.device.destroy_semaphore(lane.timeline, None) };
            // SAFETY: its command buffer is not used, since the device is idle.
            unsafe { self.device.destroy_command_pool(lane.pool, None) };
        }
        // SAFETY: kernels and memory borrow this, so they are gone.
        unsafe { self.device.destroy_device(None) };
        // SAFETY: its only device is gone.
        unsafe { self.instance.destroy_instance(None) };
    }
}
