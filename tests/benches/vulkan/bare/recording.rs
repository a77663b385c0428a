//! Kernels, and what a command buffer is told.
#![expect(unsafe_code, reason = "calls Vulkan")]

use ash::vk;

use super::{Bare, Memory};
use crate::compile::{self, Compiled};

/// The most buffers that a kernel takes here.
const MOST_BUFFERS: usize = 4;

/// A kernel that the device can run.
pub(crate) struct Kernel<'a> {
    bare: &'a Bare,
    set: vk::DescriptorSetLayout,
    layout: vk::PipelineLayout,
    pipeline: vk::Pipeline,
    workgroup: [u32; 3],
}

impl Bare {
    /// Compiles a kernel.
    pub(crate) fn kernel(&self, source: &str) -> Kernel<'_> {
        let Compiled { words, buffer_count, workgroup } = compile::compile(source);
        let device = &self.device;
        let binding = |index| {
            vk::DescriptorSetLayoutBinding::default()
                .binding(index)
                .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                .descriptor_count(1)
                .stage_flags(vk::ShaderStageFlags::COMPUTE)
        };
        let bindings: Vec<_> = (0..buffer_count).map(binding).collect();
        let info =
            vk::DescriptorSetLayoutCreateInfo::default().flags(vk::DescriptorSetLayoutCreateFlags::PUSH_DESCRIPTOR_KHR).bindings(&bindings);
        // SAFETY: the structure is complete, and the device has push descriptors.
        let set = unsafe { device.create_descriptor_set_layout(&info, None) }.expect("a layout");
        let (sets, constants) = ([set], [vk::PushConstantRange::default().stage_flags(vk::ShaderStageFlags::COMPUTE).size(128)]);
        let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets).push_constant_ranges(&constants);
        // SAFETY: every device has 128 bytes of push constants.
        let layout = unsafe { device.create_pipeline_layout(&info, None) }.expect("a layout");
        let info = vk::ShaderModuleCreateInfo::default().code(&words);
        // SAFETY: the words are what the compiler made.
        let module = unsafe { device.create_shader_module(&info, None) }.expect("a module");
        let stage = vk::PipelineShaderStageCreateInfo::default().stage(vk::ShaderStageFlags::COMPUTE).module(module).name(c"main");
        let info = vk::ComputePipelineCreateInfo::default().flags(vk::PipelineCreateFlags::DISPATCH_BASE).stage(stage).layout(layout);
        // SAFETY: module and layout are the device's, and go together.
        let pipelines = unsafe { device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None) };
        let pipeline = pipelines.map_err(|(_, error)| error).expect("a pipeline")[0];
        // SAFETY: the pipeline does not need it any more.
        unsafe { device.destroy_shader_module(module, None) };
        Kernel { bare: self, set, layout, pipeline, workgroup }
    }
}

impl Drop for Kernel<'_> {
    fn drop(&mut self) {
        let device = &self.bare.device;
        // SAFETY: the device has ended what runs it.
        unsafe { device.destroy_pipeline(self.pipeline, None) };
        // SAFETY: as above.
        unsafe { device.destroy_pipeline_layout(self.layout, None) };
        // SAFETY: as above.
        unsafe { device.destroy_descriptor_set_layout(self.set, None) };
    }
}

/// A command buffer that is being recorded.
pub(crate) struct Recording<'a> {
    pub(super) bare: &'a Bare,
    pub(super) commands: vk::CommandBuffer,
}

impl Recording<'_> {
    /// Dispatches that follow are of this kernel.
    pub(crate) fn bind(&self, kernel: &Kernel<'_>) {
        // SAFETY: the command buffer is being recorded, and kernel and memory outlive what it does, here and below.
        unsafe { self.bare.device.cmd_bind_pipeline(self.commands, vk::PipelineBindPoint::COMPUTE, kernel.pipeline) };
    }

    /// Runs the kernel that is bound.
    pub(crate) fn dispatch(&self, kernel: &Kernel<'_>, buffers: &[&Memory<'_>], scalars: &[u8], invocations: [u64; 3]) {
        let mut infos = [vk::DescriptorBufferInfo::default().range(vk::WHOLE_SIZE); MOST_BUFFERS];
        let mut writes = [vk::WriteDescriptorSet::default().descriptor_type(vk::DescriptorType::STORAGE_BUFFER); MOST_BUFFERS];
        for (info, buffer) in infos.iter_mut().zip(buffers) {
            *info = info.buffer(buffer.buffer);
        }
        for ((write, info), number) in writes.iter_mut().zip(&infos).zip(0..) {
            *write = write.dst_binding(number).buffer_info(std::slice::from_ref(info));
        }
        let (device, commands, point) = (&self.bare.device, self.commands, vk::PipelineBindPoint::COMPUTE);
        // SAFETY: so many buffers as the kernel takes.
        unsafe { self.bare.push.cmd_push_descriptor_set(commands, point, kernel.layout, 0, &writes[..buffers.len()]) };
        // SAFETY: at most 128 bytes, a multiple of four.
        unsafe { device.cmd_push_constants(commands, kernel.layout, vk::ShaderStageFlags::COMPUTE, 0, scalars) };
        let most = self.bare.group_count_max;
        let groups: [u32; 3] = std::array::from_fn(|axis| invocations[axis].div_ceil(kernel.workgroup[axis].into()) as u32);
        if (0..3).all(|axis| groups[axis] <= most[axis]) {
            // SAFETY: what the kernel takes is bound.
            unsafe { device.cmd_dispatch(commands, groups[0], groups[1], groups[2]) };
            return;
        }
        for z in (0..groups[2]).step_by(most[2] as usize) {
            for y in (0..groups[1]).step_by(most[1] as usize) {
                for x in (0..groups[0]).step_by(most[0] as usize) {
                    let part: [u32; 3] = std::array::from_fn(|axis| (groups[axis] - [x, y, z][axis]).min(most[axis]));
                    // SAFETY: what the kernel takes is bound, and its pipeline allows other bases than zero.
                    unsafe { device.cmd_dispatch_base(commands, x, y, z, part[0], part[1], part[2]) };
                }
            }
        }
    }

    /// What follows sees what was written before.
    pub(crate) fn barrier(&self) {
        let both = vk::PipelineStageFlags2::COMPUTE_SHADER | vk::PipelineStageFlags2::ALL_TRANSFER;
        let written = vk::AccessFlags2::SHADER_STORAGE_WRITE | vk::AccessFlags2::TRANSFER_WRITE;
        let used = written | vk::AccessFlags2::SHADER_STORAGE_READ | vk::AccessFlags2::TRANSFER_READ;
        self.barrier_between((both, written), (both, used));
    }

    /// The same on a queue that only transfers.
    pub(crate) fn transfer_barrier(&self) {
        let (stage, written) = (vk::PipelineStageFlags2::ALL_TRANSFER, vk::AccessFlags2::TRANSFER_WRITE);
        self.barrier_between((stage, written), (stage, written | vk::AccessFlags2::TRANSFER_READ));
    }

    /// The host sees what was written before, when all has ended.
    pub(crate) fn host_barrier(&self) {
        let before = (vk::PipelineStageFlags2::ALL_COMMANDS, vk::AccessFlags2::MEMORY_WRITE);
        self.barrier_between(before, (vk::PipelineStageFlags2::HOST, vk::AccessFlags2::HOST_READ));
    }

    fn barrier_between(
        &self,
        (source, written): (vk::PipelineStageFlags2, vk::AccessFlags2),
        (target, used): (vk::PipelineStageFlags2, vk::AccessFlags2),
    ) {
        let barriers =
            [vk::MemoryBarrier2::default().src_stage_mask(source).src_access_mask(written).dst_stage_mask(target).dst_access_mask(used)];
        let info = vk::DependencyInfo::default().memory_barriers(&barriers);
        // SAFETY: the stages and accesses go together.
        unsafe { self.bare.device.cmd_pipeline_barrier2(self.commands, &info) };
    }

    /// Copies the first bytes.
    pub(crate) fn copy(&self, from: &Memory<'_>, to: &Memory<'_>, len_bytes: usize) {
        self.copy_part(from, 0, to, 0, len_bytes);
    }

    /// Copies a part.
    pub(crate) fn copy_part(&self, from: &Memory<'_>, from_start: usize, to: &Memory<'_>, to_start: usize, len_bytes: usize) {
        if len_bytes > 0 {
            assert!(from_start + len_bytes <= from.len_bytes() && to_start + len_bytes <= to.len_bytes(), "a copy within both");
            let region = vk::BufferCopy { src_offset: from_start as u64, dst_offset: to_start as u64, size: len_bytes as u64 };
            // SAFETY: the region lies in both.
            unsafe { self.bare.device.cmd_copy_buffer(self.commands, from.buffer, to.buffer, &[region]) };
        }
    }

    /// Writes a word all over.
    pub(crate) fn fill(&self, memory: &Memory<'_>, word: u32) {
        // SAFETY: all of a buffer, up to the last whole word.
        unsafe { self.bare.device.cmd_fill_buffer(self.commands, memory.buffer, 0, vk::WHOLE_SIZE, word) };
    }
}
