//! A Vulkan device as a processor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ash::vk;
use poniard_interface::{
    DeviceInfo, Execution, KernelCode, Processor, ProcessorInfo, ProcessorKind, SpaceId, StopError, SubmitError, TaskDescriptor,
};

use crate::instance::message_count;
use crate::measure::measure;
use crate::queue::Queue;
use crate::settings::Transfer;

/// As many tasks as keep the device busy while the runtime finds more: four full batches.
const DEPTH: u32 = 256;

/// A queued processor: batches go to its queue.
#[derive(Debug)]
pub(crate) struct VulkanProcessor {
    space: SpaceId,
    queue: Arc<Queue>,
}

impl VulkanProcessor {
    /// The processor that feeds `queue` and works in `space`.
    pub(crate) fn new(space: SpaceId, queue: Arc<Queue>) -> Self {
        Self { space, queue }
    }
}

impl Processor for VulkanProcessor {
    fn info(&self) -> ProcessorInfo {
        let physical = &self.queue.physical;
        ProcessorInfo {
            name: self.queue.name.clone(),
            kind: ProcessorKind::new("vulkan"),
            execution: Execution::Queued { depth: DEPTH },
            space: self.space,
            numa_node: None,
            device: Some(DeviceInfo { name: physical.name.clone(), uuid: physical.uuid.clone(), class: physical.class }),
        }
    }

    fn submit(&self, batch: &[TaskDescriptor<'_>]) -> Result<(), SubmitError> {
        self.queue.submit(batch);
        Ok(())
    }

    fn expect(&self, kernel: &KernelCode<'_>) {
        self.queue.expect(kernel);
    }

    fn attend(&self, patience: Duration) -> bool {
        self.queue.attend(patience)
    }

    fn describe(&self, measured: bool) -> Vec<(String, String)> {
        let queue = &self.queue;
        let (physical, limits) = (&queue.physical, &queue.physical.limits);
        let mut lines = Vec::new();
        let mut say = |name: &str, value: String| lines.push((name.to_owned(), value));
        say("device", physical.name.clone());
        say("class", format!("{:?}", physical.class).to_lowercase());
        say("uuid", physical.uuid.clone());
        say("driver", physical.driver.clone());
        let api = physical.api_version;
        say("api", format!("{}.{}.{}", vk::api_version_major(api), vk::api_version_minor(api), vk::api_version_patch(api)));
        say("heaps", physical.heaps.clone());
        let of_copies = match (queue.settings.transfer, physical.transfer_family) {
            (Transfer::Auto, Some(family)) => format!(" + transfer on family {family}"),
            (Transfer::Emulated, _) => " + transfer on the same queue".to_owned(),
            _ => String::new(),
        };
        say("queues", format!("{} (compute on family {}{of_copies})", physical.queues, physical.family));
        say("subgroup size", physical.subgroup_size.to_string());
        say("largest chunk", format!("{} MiB", limits.allocation_bytes >> 20));
        say("largest binding", format!("{} MiB", limits.binding_bytes >> 20));
        say("scalars", format!("{} bytes", limits.scalars_bytes));
        let features = &physical.features;
        let known = [
            ("f64", features.f64),
            ("f16", features.f16),
            ("i64", features.i64),
            ("i16", features.i16),
            ("i8", features.i8),
            ("16-bit storage", features.storage_16bit),
            ("8-bit storage", features.storage_8bit),
            ("f32 atomics", features.f32_atomics),
            ("i64 atomics", features.i64_atomics),
            ("subgroups", features.subgroups),
            ("subgroup arithmetic", features.subgroup_arithmetic),
            ("subgroup shuffle", features.subgroup_shuffle),
            ("import", limits.import_alignment.is_some()),
            ("push descriptors", physical.has_push_descriptors),
            ("addresses", physical.has_addresses),
            ("timestamps", physical.clock.is_some()),
        ];
        let named = |wanted: bool| known.iter().filter(|(_, has)| *has == wanted).map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        say("features", named(true));
        if !named(false).is_empty() {
            say("lacks", named(false));
        }
        if measured {
            match measure(queue) {
                Ok(found) => found.into_iter().for_each(|(name, value)| say(name, value)),
                Err(reason) => say("not measured", reason),
            }
        }
        if let Some(made) = queue.working() {
            let counters = &queue.counters;
            let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            say("launches", of(&counters.launches).to_string());
            say("submissions", of(&counters.submissions).to_string());
            say("transfer submissions", of(&counters.transfer_submissions).to_string());
            say("waits between queues", of(&counters.waits).to_string());
            say("pipeline binds", of(&counters.pipeline_binds).to_string());
            say("barriers", of(&counters.barriers).to_string());
            say("bytes to the device", of(&counters.bytes_up).to_string());
            say("bytes to the host", of(&counters.bytes_down).to_string());
            say("kernels compiled", of(&made.pipelines.compiled).to_string());
            say("kernels from the cache", of(&made.pipelines.found).to_string());
            if queue.settings.validation {
                say("validation messages", message_count().to_string());
                say("checker messages", of(&counters.check_failures).to_string());
            }
        }
        lines
    }

    fn stop(&self) -> Result<(), StopError> {
        if self.queue.stop() { Ok(()) } else { Err(StopError::new(format!("the thread of `{}` panicked", self.queue.name))) }
    }
}
