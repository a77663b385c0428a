//! Kernels from WGSL to SPIR-V, by naga alone: `compile-*`.

use naga::AddressSpace;
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use poniard_bench::{System, per_task};
use poniard_tests::kernels::Shader;

/// A compiled kernel.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// SPIR-V.
    pub(crate) words: Vec<u32>,
    /// How many buffers it takes.
    pub(crate) buffer_count: u32,
    /// Invocations in a workgroup.
    pub(crate) workgroup: [u32; 3],
}

/// Compiles a kernel. Indices that are out of range are moved into it, as in Poniard.
pub(crate) fn compile(source: &str) -> Compiled {
    let module = naga::front::wgsl::parse_str(source).expect("a kernel that can be read");
    let info = Validator::new(ValidationFlags::all(), Capabilities::IMMEDIATES).validate(&module).expect("a valid kernel");
    let policy = BoundsCheckPolicy::Restrict;
    let options = spv::Options {
        lang_version: (1, 3),
        bounds_check_policies: BoundsCheckPolicies { index: policy, buffer: policy, ..BoundsCheckPolicies::default() },
        // That every loop ends is a promise of the kernels here.
        force_loop_bounding: false,
        ..spv::Options::default()
    };
    let words = spv::write_vec(&module, &info, &options, None).expect("SPIR-V");
    let buffers = module.global_variables.iter().filter(|(_, variable)| matches!(variable.space, AddressSpace::Storage { .. }));
    Compiled { words, buffer_count: buffers.count() as u32, workgroup: module.entry_points[0].workgroup_size }
}

/// The systems of the case for this kernel.
pub(crate) fn systems(shader: Shader) -> Vec<System<'static>> {
    const COUNT: u64 = 20;
    vec![System::new("naga", "asked of Poniard: at most 1000; read, validate, write", move || {
        per_task(COUNT, || (0..COUNT).for_each(|_| assert!(compile(shader.source).words.len() > 100))) / 1e3
    })]
}
