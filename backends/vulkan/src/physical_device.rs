//! A device of the machine, as its driver describes it.
#![expect(unsafe_code, reason = "calls the Vulkan driver")]

use std::ffi::CStr;

use ash::{ext, khr, vk};
use poniard_interface::DeviceClass;

use crate::shader::DeviceFeatures;
use crate::stamps::Clock;

/// What is known of a device before it is used.
#[derive(Clone, Debug)]
pub(crate) struct PhysicalDevice {
    pub(crate) handle: vk::PhysicalDevice,
    pub(crate) name: String,
    /// 32 hexadecimal digits in five groups.
    pub(crate) uuid: String,
    pub(crate) class: DeviceClass,
    /// Name and version of the driver, for people.
    pub(crate) driver: String,
    /// What compiled code depends on: device, driver and their versions.
    pub(crate) build: String,
    pub(crate) api_version: u32,
    pub(crate) limits: Limits,
    /// Size of the largest heap of the device's own memory.
    pub(crate) heap_bytes: u64,
    pub(crate) memory_types: Vec<vk::MemoryPropertyFlags>,
    /// All heaps, for people.
    pub(crate) heaps: String,
    /// All families of queues, for people.
    pub(crate) queues: String,
    /// The family of the queue that computes.
    pub(crate) family: u32,
    /// What tells how long a launch takes there, if it has that.
    pub(crate) clock: Option<Clock>,
    /// The same of the queue for transfers, where that is another one.
    pub(crate) transfer_clock: Option<Clock>,
    /// Another family, whose queue can copy at the same time.
    pub(crate) transfer_family: Option<u32>,
    pub(crate) subgroup_size: u32,
    pub(crate) features: DeviceFeatures,
    pub(crate) has_push_descriptors: bool,
    pub(crate) has_float_atomics: bool,
    /// The memory of workgroups begins at zero, if it is asked for.
    pub(crate) has_zeroed_groups: bool,
    /// Buffers have addresses (`bufferDeviceAddress`).
    pub(crate) has_addresses: bool,
    /// Operations of subgroups on other types than 32-bit ones.
    pub(crate) has_subgroup_types: bool,
}

/// What a device takes at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) binding_bytes: u64,
    pub(crate) binding_alignment: u64,
    pub(crate) groups: [u32; 3],
    pub(crate) group_size: [u32; 3],
    pub(crate) group_invocations: u32,
    pub(crate) group_bytes: u32,
    pub(crate) scalars_bytes: u32,
    pub(crate) bindings: u32,
    pub(crate) allocation_bytes: u64,
    /// What addresses and lengths of imported memory have to be multiples of; none: there is no import.
    pub(crate) import_alignment: Option<u64>,
}

impl PhysicalDevice {
    /// Asks the driver.
    ///
    /// # Errors
    /// Why the device is not usable.
    pub(crate) fn look_at(instance: &ash::Instance, handle: vk::PhysicalDevice) -> Result<Self, String> {
        // SAFETY: the handle is one of the instance's.
        let basic = unsafe { instance.get_physical_device_properties(handle) };
        let name = text(basic.device_name_as_c_str());
        let refuse = |reason: &str| Err(format!("`{name}` {reason}"));
        if basic.api_version < vk::API_VERSION_1_2 {
            return refuse("is older than Vulkan 1.2");
        }
        // SAFETY: the handle is one of the instance's.
        let extensions = unsafe { instance.enumerate_device_extension_properties(handle) }.unwrap_or_default();
        let has = |wanted: &CStr| extensions.iter().any(|extension| extension.extension_name_as_c_str() == Ok(wanted));

        let mut of_11 = vk::PhysicalDeviceVulkan11Properties::default();
        let mut of_12 = vk::PhysicalDeviceVulkan12Properties::default();
        let mut of_import = vk::PhysicalDeviceExternalMemoryHostPropertiesEXT::default();
        let mut of_push = vk::PhysicalDevicePushDescriptorPropertiesKHR::default();
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut of_11).push_next(&mut of_12);
        if has(ext::external_memory_host::NAME) {
            properties = properties.push_next(&mut of_import);
        }
        if has(khr::push_descriptor::NAME) {
            properties = properties.push_next(&mut of_push);
        }
        // SAFETY: the handle is the instance's, and each structure of the chain is one that the device knows.
        unsafe { instance.get_physical_device_properties2(handle, &mut properties) };
        let limits = properties.properties.limits;

        let mut has_12 = vk::PhysicalDeviceVulkan12Features::default();
        let mut has_11 = vk::PhysicalDeviceVulkan11Features::default();
        let mut has_atomics = vk::PhysicalDeviceShaderAtomicFloatFeaturesEXT::default();
        let mut found = vk::PhysicalDeviceFeatures2::default().push_next(&mut has_12).push_next(&mut has_11);
        let has_float_atomics = has(ext::shader_atomic_float::NAME);
        if has_float_atomics {
            found = found.push_next(&mut has_atomics);
        }
        let mut has_zeroed = vk::PhysicalDeviceZeroInitializeWorkgroupMemoryFeatures::default();
        if has(khr::zero_initialize_workgroup_memory::NAME) {
            found = found.push_next(&mut has_zeroed);
        }
        // SAFETY: as for the properties.
        unsafe { instance.get_physical_device_features2(handle, &mut found) };
        let found = found.features;
        if has_12.timeline_semaphore == vk::FALSE {
            return refuse("has no timeline semaphores");
        }
        let has_subgroup = |operations: vk::SubgroupFeatureFlags| {
            of_11.subgroup_supported_stages.contains(vk::ShaderStageFlags::COMPUTE)
                && of_11.subgroup_supported_operations.contains(operations)
        };
        let are = |features: &[vk::Bool32]| features.iter().all(|feature| *feature == vk::TRUE);
        let features = DeviceFeatures {
            f64: are(&[found.shader_float64]),
            f16: are(&[has_12.shader_float16]),
            i64: are(&[found.shader_int64]),
            i16: are(&[found.shader_int16]),
            i8: are(&[has_12.shader_int8]),
            storage_16bit: are(&[has_11.storage_buffer16_bit_access, has_11.uniform_and_storage_buffer16_bit_access]),
            storage_8bit: are(&[has_12.storage_buffer8_bit_access, has_12.uniform_and_storage_buffer8_bit_access]),
            scalars_16bit: are(&[has_11.storage_push_constant16]),
            f32_atomics: are(&[has_atomics.shader_buffer_float32_atomics, has_atomics.shader_buffer_float32_atomic_add]),
            i64_atomics: are(&[has_12.shader_buffer_int64_atomics, has_12.shader_shared_int64_atomics]),
            subgroups: has_subgroup(vk::SubgroupFeatureFlags::BASIC | vk::SubgroupFeatureFlags::VOTE | vk::SubgroupFeatureFlags::BALLOT),
            subgroup_arithmetic: has_subgroup(vk::SubgroupFeatureFlags::ARITHMETIC),
            subgroup_shuffle: has_subgroup(vk::SubgroupFeatureFlags::SHUFFLE | vk::SubgroupFeatureFlags::SHUFFLE_RELATIVE),
            subgroup_quad: has_subgroup(vk::SubgroupFeatureFlags::QUAD),
        };

        // SAFETY: the handle is one of the instance's.
        let families = unsafe { instance.get_physical_device_queue_family_properties(handle) };
        let Some((family, transfer_family)) = choose(&families) else {
            return refuse("has no queue that computes");
        };
        // SAFETY: the handle is one of the instance's.
        let memory = unsafe { instance.get_physical_device_memory_properties(handle) };
        let heaps = memory.memory_heaps_as_slice();
        let is_local = |heap: &vk::MemoryHeap| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL);
        let heap_bytes = heaps.iter().filter(|heap| is_local(heap)).map(|heap| heap.size).max().unwrap_or(0);
        let heap_text = |heap: &vk::MemoryHeap| format!("{} MiB{}", heap.size >> 20, if is_local(heap) { " of the device" } else { "" });
        let family_text = |family: &vk::QueueFamilyProperties| format!("{} x {:?}", family.queue_count, family.queue_flags);

        let class = match basic.device_type {
            vk::PhysicalDeviceType::DISCRETE_GPU => DeviceClass::Discrete,
            vk::PhysicalDeviceType::INTEGRATED_GPU => DeviceClass::Integrated,
            vk::PhysicalDeviceType::VIRTUAL_GPU => DeviceClass::Virtual,
            vk::PhysicalDeviceType::CPU => DeviceClass::Software,
            _ => DeviceClass::Other,
        };
        let driver = format!("{} {}", text(of_12.driver_name_as_c_str()), text(of_12.driver_info_as_c_str()));
        // Every device of Vulkan 1.2 can reset them without a command; one that lies has none.
        let clock = |family: u32| {
            let has_reset = has_12.host_query_reset == vk::TRUE;
            Clock::new(families[family as usize].timestamp_valid_bits, limits.timestamp_period).filter(|_| has_reset)
        };
        Ok(Self {
            handle,
            uuid: grouped(of_11.device_uuid),
            class,
            driver: driver.trim().to_owned(),
            build: format!("{}-{}-{:08x}", hexadecimal(&of_11.device_uuid), hexadecimal(&of_11.driver_uuid), basic.driver_version),
            api_version: basic.api_version,
            limits: Limits {
                binding_bytes: limits.max_storage_buffer_range.into(),
                binding_alignment: limits.min_storage_buffer_offset_alignment.max(1),
                groups: limits.max_compute_work_group_count,
                group_size: limits.max_compute_work_group_size,
                group_invocations: limits.max_compute_work_group_invocations,
                group_bytes: limits.max_compute_shared_memory_size,
                scalars_bytes: limits.max_push_constants_size,
                bindings: limits.max_per_stage_descriptor_storage_buffers.min(limits.max_descriptor_set_storage_buffers),
                allocation_bytes: of_11.max_memory_allocation_size,
                import_alignment: has(ext::external_memory_host::NAME).then(|| of_import.min_imported_host_pointer_alignment.max(1)),
            },
            heap_bytes,
            memory_types: memory.memory_types_as_slice().iter().map(|kind| kind.property_flags).collect(),
            heaps: heaps.iter().map(heap_text).collect::<Vec<_>>().join(", "),
            queues: families.iter().map(family_text).collect::<Vec<_>>().join(", "),
            family,
            clock: clock(family),
            transfer_clock: transfer_family.and_then(clock).filter(|_| clock(family).is_some()),
            transfer_family,
            subgroup_size: of_11.subgroup_size,
            features,
            has_push_descriptors: has(khr::push_descriptor::NAME) && of_push.max_push_descriptors >= 32,
            has_float_atomics,
            has_zeroed_groups: has_zeroed.shader_zero_initialize_workgroup_memory == vk::TRUE,
            has_addresses: has_12.buffer_device_address == vk::TRUE,
            has_subgroup_types: has_12.shader_subgroup_extended_types == vk::TRUE,
            name,
        })
    }
}

/// The families of the queues that compute and copy. A queue for pictures has limits to what it copies; for buffers there are none.
fn choose(families: &[vk::QueueFamilyProperties]) -> Option<(u32, Option<u32>)> {
    let has = |index: usize, wanted: vk::QueueFlags| families[index].queue_flags.intersects(wanted);
    let draws_or_computes = vk::QueueFlags::GRAPHICS | vk::QueueFlags::COMPUTE;
    let usable = || (0..families.len()).filter(|index| families[*index].queue_count > 0);
    // One that computes and draws nothing is the device's own lane for computing, where there is one.
    let family = usable().filter(|index| has(*index, vk::QueueFlags::COMPUTE)).min_by_key(|index| has(*index, vk::QueueFlags::GRAPHICS))?;
    // One that does nothing but copy is an engine of its own, where there is one; those for films copy as well, and may be slower. Whoever draws or computes can copy, and need not say so.
    let other_abilities = |index: &usize| {
        let flags = families[*index].queue_flags & !(vk::QueueFlags::TRANSFER | vk::QueueFlags::SPARSE_BINDING | vk::QueueFlags::PROTECTED);
        (flags.intersects(draws_or_computes), flags.as_raw().count_ones())
    };
    let copies = |index: &usize| *index != family && has(*index, vk::QueueFlags::TRANSFER | draws_or_computes);
    Some((family as u32, usable().filter(copies).min_by_key(other_abilities).map(|index| index as u32)))
}

fn text(name: Result<&CStr, std::ffi::FromBytesUntilNulError>) -> String {
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn grouped(uuid: [u8; 16]) -> String {
    [&uuid[..4], &uuid[4..6], &uuid[6..8], &uuid[8..10], &uuid[10..]].map(hexadecimal).join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_go_to_the_engine_that_does_nothing_else() {
        let (draws, computes, copies) = (vk::QueueFlags::GRAPHICS, vk::QueueFlags::COMPUTE, vk::QueueFlags::TRANSFER);
        let (sparse, films) = (vk::QueueFlags::SPARSE_BINDING, vk::QueueFlags::VIDEO_DECODE_KHR);
        let of = |flags: &[vk::QueueFlags]| {
            let family = |flags: &vk::QueueFlags| vk::QueueFamilyProperties { queue_flags: *flags, queue_count: 1, ..Default::default() };
            choose(&flags.iter().map(family).collect::<Vec<_>>())
        };
        let all = draws | computes | copies;
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[draws, copies]), None, "nobody computes");
        assert_eq!(of(&[all]), Some((0, None)));
        assert_eq!(of(&[all, computes | copies]), Some((1, Some(0))), "no engine for copies: the other queue");
        assert_eq!(of(&[all | sparse, copies | sparse, computes | copies | sparse, copies | films]), Some((2, Some(1))));
        assert_eq!(of(&[all, copies | films, copies | sparse]), Some((0, Some(2))));
        assert_eq!(of(&[computes, draws]), Some((0, Some(1))), "that it copies goes without saying");
        assert_eq!(of(&[computes, films]), Some((0, None)));
        let gone = vk::QueueFamilyProperties { queue_flags: copies, queue_count: 0, ..Default::default() };
        let there = vk::QueueFamilyProperties { queue_flags: all, queue_count: 1, ..Default::default() };
        assert_eq!(choose(&[gone, there]), Some((1, None)));
    }
}
