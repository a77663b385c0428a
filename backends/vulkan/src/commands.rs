//! The commands of a batch, recorded.
#![expect(unsafe_code, reason = "calls the Vulkan driver")]

use std::sync::Arc;

use ash::vk;

use crate::check::Step;
use crate::device::Device;
use crate::memory::Place;
use crate::order::Lane;
use crate::pipeline::{MAX_BINDINGS, MAX_SCALARS_BYTES, Pipeline};
use crate::stamps::Stamps;
use crate::tracker::Access;

/// As many descriptor sets as a batch has launches, and descriptors for each.
const POOL_SETS: u32 = 64;
const POOL_DESCRIPTORS: u32 = POOL_SETS * MAX_BINDINGS;

/// What a dispatch binds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) place: Place,
    pub(crate) len_bytes: u64,
}

/// A command buffer and what it takes its descriptors from; used again when its batch has ended.
pub(crate) struct Commands {
    device: Arc<Device>,
    pool: vk::CommandPool,
    pub(crate) buffer: vk::CommandBuffer,
    /// What the queue's commands are to a barrier.
    stages: vk::PipelineStageFlags,
    written: vk::AccessFlags,
    /// Where the device has no push descriptors.
    descriptors: Option<vk::DescriptorPool>,
    bound: vk::Pipeline,
    /// Where the queue has them.
    stamps: Option<Stamps>,
    /// What was recorded, if the checker wants it.
    pub(crate) steps: Option<Vec<Step>>,
    pub(crate) binds: u64,
    pub(crate) barriers: u64,
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commands").field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl Commands {
    /// For the queue of a lane. On one for transfers there are only copies.
    ///
    /// # Errors
    /// What the driver says.
    pub(crate) fn new(device: &Arc<Device>, lane: Lane, is_checked: bool) -> Result<Self, vk::Result> {
        let info =
            vk::CommandPoolCreateInfo::default().flags(vk::CommandPoolCreateFlags::TRANSIENT).queue_family_index(device.family(lane));
        // SAFETY: the family is the one that the device was made with.
        let pool = unsafe { device.raw.create_command_pool(&info, None) }?;
        let (mut stages, mut written) = (vk::PipelineStageFlags::TRANSFER, vk::AccessFlags::TRANSFER_WRITE);
        if lane == Lane::Compute {
            stages |= vk::PipelineStageFlags::COMPUTE_SHADER;
            written |= vk::AccessFlags::SHADER_WRITE;
        }
        // From here on dropping it cleans up.
        let mut commands = Self {
            device: Arc::clone(device),
            pool,
            stages,
            written,
            buffer: vk::CommandBuffer::null(),
            descriptors: None,
            bound: vk::Pipeline::null(),
            stamps: None,
            steps: is_checked.then(Vec::new),
            binds: 0,
            barriers: 0,
        };
        let info =
            vk::CommandBufferAllocateInfo::default().command_pool(pool).level(vk::CommandBufferLevel::PRIMARY).command_buffer_count(1);
        // SAFETY: the pool was just made.
        commands.buffer = unsafe { device.raw.allocate_command_buffers(&info) }?[0];
        let is_other = device.family(lane) != device.physical.family;
        if let Some(clock) = if is_other { device.physical.transfer_clock } else { device.physical.clock } {
            commands.stamps = Some(Stamps::new(device, clock)?);
        }
        if device.push.is_none() && lane == Lane::Compute {
            let sizes = [vk::DescriptorPoolSize::default().ty(vk::DescriptorType::STORAGE_BUFFER).descriptor_count(POOL_DESCRIPTORS)];
            let info = vk::DescriptorPoolCreateInfo::default().max_sets(POOL_SETS).pool_sizes(&sizes);
            // SAFETY: the structure is complete.
            commands.descriptors = Some(unsafe { device.raw.create_descriptor_pool(&info, None) }?);
        }
        Ok(commands)
    }

    /// Forgets what was recorded, and begins anew, for the batch with this number. What was recorded has ended.
    ///
    /// # Errors
    /// What the driver says.
    pub(crate) fn begin(&mut self, batch: u64) -> Result<(), vk::Result> {
        (self.bound, self.binds, self.barriers) = (vk::Pipeline::null(), 0, 0);
        if let Some(steps) = &mut self.steps {
            steps.clear();
        }
        // SAFETY: the batch has ended, so the device does not use the commands.
        unsafe { self.device.raw.reset_command_pool(self.pool, vk::CommandPoolResetFlags::empty()) }?;
        if let Some(pool) = self.descriptors {
            // SAFETY: the batch has ended, so the device does not use the descriptors.
            unsafe { self.device.raw.reset_descriptor_pool(pool, vk::DescriptorPoolResetFlags::empty()) }?;
        }
        if let Some(stamps) = &mut self.stamps {
            stamps.reset(batch);
        }
        let info = vk::CommandBufferBeginInfo::default().flags(vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT);
        // SAFETY: the buffer is in its first state.
        unsafe { self.device.raw.begin_command_buffer(self.buffer, &info) }
    }

    /// # Errors
    /// What the driver says.
    pub(crate) fn end(&mut self) -> Result<(), vk::Result> {
        // SAFETY: the buffer is being recorded.
        unsafe { self.device.raw.end_command_buffer(self.buffer) }
    }

    /// How long launches and copies took whose numbers [`dispatch`](Self::dispatch) and [`copy`](Self::copy) have told. The commands have ended.
    pub(crate) fn times_ns(&self) -> Vec<u64> {
        self.stamps.as_ref().map(Stamps::times_ns).unwrap_or_default()
    }

    fn note(&mut self, name: impl FnOnce() -> String, accesses: &[Access]) {
        if let Some(steps) = &mut self.steps {
            steps.push(Step::Command(name(), accesses.to_vec()));
        }
    }

    /// What comes after waits for all before, on the whole queue, and sees what it wrote.
    pub(crate) fn barrier(&mut self) {
        self.barriers += 1;
        if let Some(steps) = &mut self.steps {
            steps.push(Step::Barrier);
        }
        let (stages, written) = (self.stages, self.written);
        let mut used = written | vk::AccessFlags::TRANSFER_READ;
        if written.contains(vk::AccessFlags::SHADER_WRITE) {
            used |= vk::AccessFlags::SHADER_READ;
        }
        let barrier = [vk::MemoryBarrier::default().src_access_mask(written).dst_access_mask(used)];
        // SAFETY: the buffer is being recorded, and the stages are those of its queue.
        unsafe { self.device.raw.cmd_pipeline_barrier(self.buffer, stages, stages, vk::DependencyFlags::empty(), &barrier, &[], &[]) };
    }

    /// The host sees what was written, once the batch has ended.
    pub(crate) fn host_barrier(&mut self) {
        if let Some(steps) = &mut self.steps {
            steps.push(Step::HostBarrier);
        }
        let barrier = [vk::MemoryBarrier::default().src_access_mask(self.written).dst_access_mask(vk::AccessFlags::HOST_READ)];
        let (stages, host) = (self.stages, vk::PipelineStageFlags::HOST);
        // SAFETY: as for `barrier`.
        unsafe { self.device.raw.cmd_pipeline_barrier(self.buffer, stages, host, vk::DependencyFlags::empty(), &barrier, &[], &[]) };
    }

    /// Copies `len_bytes`, of which there is at least one. With `is_wanted` it is measured, if there are stamps for it; then it has a number among the [times](Self::times_ns).
    pub(crate) fn copy(&mut self, from: Place, to: Place, len_bytes: u64, is_wanted: bool, accesses: &[Access]) -> Option<usize> {
        self.note(|| "copy".into(), accesses);
        let is_measured = self.stamps.as_mut().is_some_and(|stamps| stamps.before_copy(self.buffer, is_wanted));
        let regions = [vk::BufferCopy::default().src_offset(from.offset).dst_offset(to.offset).size(len_bytes)];
        // SAFETY: the buffer is being recorded; both places are held by the batch and long enough.
        unsafe { self.device.raw.cmd_copy_buffer(self.buffer, from.buffer, to.buffer, &regions) };
        self.stamps.as_mut().filter(|_| is_measured).map(|stamps| stamps.end_measured(self.buffer))
    }

    /// Fills memory with zeros, up to the next whole word.
    pub(crate) fn zero(&mut self, place: Place, len_bytes: u64, accesses: &[Access]) {
        self.note(|| "fill".into(), accesses);
        self.stamps.iter_mut().for_each(Stamps::outdate);
        // SAFETY: the buffer is being recorded; the place is held by the batch, and buffers are whole words.
        unsafe { self.device.raw.cmd_fill_buffer(self.buffer, place.buffer, place.offset, len_bytes.next_multiple_of(4), 0) };
    }

    /// Launches `groups` workgroups, in parts if they are more than the device takes at once. Returns its number among the [times](Self::times_ns), if it is measured.
    ///
    /// # Errors
    /// What the driver says when there are no descriptors left.
    pub(crate) fn dispatch(
        &mut self,
        pipeline: &Pipeline,
        operands: &[Bound],
        scalars: &[u8],
        addresses: &[u8],
        groups: [u32; 3],
        accesses: &[Access],
    ) -> Result<Option<usize>, vk::Result> {
        let raw = &self.device.raw;
        if self.bound != pipeline.handle {
            self.bound = pipeline.handle;
            self.binds += 1;
            // SAFETY: the buffer is being recorded, and the batch holds the pipeline.
            unsafe { raw.cmd_bind_pipeline(self.buffer, vk::PipelineBindPoint::COMPUTE, pipeline.handle) };
        }
        let infos: Vec<_> = pipeline
            .bound(operands)
            .map(|operand| {
                // An empty binding is not possible; one byte is an array of no elements, as kernels see it.
                [vk::DescriptorBufferInfo::default()
                    .buffer(operand.place.buffer)
                    .offset(operand.place.offset)
                    .range(operand.len_bytes.max(1))]
            })
            .collect();
        let set = match self.descriptors {
            Some(pool) if !infos.is_empty() => {
                let layouts = [pipeline.set_layout];
                let info = vk::DescriptorSetAllocateInfo::default().descriptor_pool(pool).set_layouts(&layouts);
                // SAFETY: nobody else uses the pool.
                unsafe { raw.allocate_descriptor_sets(&info) }?[0]
            }
            _ => vk::DescriptorSet::null(),
        };
        let writes: Vec<_> = pipeline
            .bound(&pipeline.interface.bindings)
            .zip(&infos)
            .map(|(binding, info)| {
                vk::WriteDescriptorSet::default()
                    .dst_set(set)
                    .dst_binding(binding.number)
                    .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                    .buffer_info(info)
            })
            .collect();
        let compute = vk::PipelineBindPoint::COMPUTE;
        if let (Some(push), false) = (&self.device.push, writes.is_empty()) {
            // SAFETY: the buffer is being recorded; the writes are those that the layout asks for.
            unsafe { push.cmd_push_descriptor_set(self.buffer, compute, pipeline.layout, 0, &writes) };
        } else if !writes.is_empty() {
            // SAFETY: the set was just made and no command uses it.
            unsafe { raw.update_descriptor_sets(&writes, &[]) };
            // SAFETY: the buffer is being recorded, and the set has the layout.
            unsafe { raw.cmd_bind_descriptor_sets(self.buffer, compute, pipeline.layout, 0, &[set], &[]) };
        }
        // The scalars; behind them what a part of a launch is told: its first workgroup, and how many there are in all; behind that the addresses of buffers that are not bound.
        let mut pushed = [0u8; MAX_SCALARS_BYTES as usize];
        pushed[..scalars.len()].copy_from_slice(scalars);
        let (begin, pushed_len) = (pipeline.addresses_offset as usize, pipeline.pushed_bytes as usize);
        pushed[begin..][..addresses.len()].copy_from_slice(addresses);
        let is_measured = self.stamps.as_mut().is_some_and(|stamps| stamps.before_launch(self.buffer, &pipeline.samples, groups));
        for part in parts(groups, self.device.physical.limits.groups) {
            let [x, y, z] = part.map(|(_, count)| count);
            if let Some(offset) = pipeline.parts_offset {
                let words = [part[0].0, part[1].0, part[2].0, 0, groups[0], groups[1], groups[2]];
                for (place, word) in pushed[offset as usize..].chunks_exact_mut(4).zip(words) {
                    place.copy_from_slice(&word.to_le_bytes());
                }
            }
            if pushed_len > 0 {
                let stage = vk::ShaderStageFlags::COMPUTE;
                // SAFETY: the buffer is being recorded, and the layout has a range of this length.
                unsafe { raw.cmd_push_constants(self.buffer, pipeline.layout, stage, 0, &pushed[..pushed_len]) };
            }
            // SAFETY: the buffer is being recorded, everything that the pipeline needs is bound, and the counts are within the limits.
            unsafe { raw.cmd_dispatch(self.buffer, x, y, z) };
        }
        let number = self.stamps.as_mut().filter(|_| is_measured).map(|stamps| stamps.end_measured(self.buffer));
        self.note(|| pipeline.name.clone(), accesses);
        Ok(number)
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        if self.device.lost().is_some() {
            return;
        }
        if let Some(pool) = self.descriptors {
            // SAFETY: the batch has ended.
            unsafe { self.device.raw.destroy_descriptor_pool(pool, None) };
        }
        // SAFETY: the batch has ended.
        unsafe { self.device.raw.destroy_command_pool(self.pool, None) };
    }
}

/// A grid of workgroups cut into parts of at most `most`: along each axis the first group of a part and how many there are.
fn parts(groups: [u32; 3], most: [u32; 3]) -> impl Iterator<Item = [(u32, u32); 3]> {
    let cut = move |axis: usize| {
        let (count, step) = (groups[axis], most[axis].max(1));
        (0..count.div_ceil(step)).map(move |part| (part * step, step.min(count - part * step)))
    };
    cut(2).flat_map(move |z| cut(1).flat_map(move |y| cut(0).map(move |x| [x, y, z])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_grid_once() {
        assert_eq!(parts([3, 1, 1], [10, 10, 10]).collect::<Vec<_>>(), [[(0, 3), (0, 1), (0, 1)]]);
        assert_eq!(parts([0, 5, 5], [10, 10, 10]).count(), 0);
        let (groups, most) = ([7, 4, 3], [3, 4, 2]);
        let mut seen = std::collections::BTreeSet::new();
        for [x, y, z] in parts(groups, most) {
            assert!(x.1 <= most[0] && y.1 <= most[1] && z.1 <= most[2]);
            for at in (x.0..x.0 + x.1).flat_map(|x| (y.0..y.0 + y.1).flat_map(move |y| (z.0..z.0 + z.1).map(move |z| (x, y, z)))) {
                assert!(seen.insert(at), "{at:?} twice");
            }
        }
        assert_eq!(seen.len(), 7 * 4 * 3);
        assert_eq!(parts([u32::MAX, 1, 1], [65535, 65535, 65535]).map(|[x, ..]| u64::from(x.1)).sum::<u64>(), u64::from(u32::MAX));
    }
}
