//! What kernels may need of a device besides the ordinary: the names, and what Vulkan calls them.

use poniard_interface::KernelInterface;
use spirv::Capability as C;

/// What a device has, as far as kernels ask for it. A field is true if everything that its documentation names is there and was enabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceFeatures {
    /// `shaderFloat64`.
    pub f64: bool,
    /// `shaderFloat16`.
    pub f16: bool,
    /// `shaderInt64`.
    pub i64: bool,
    /// `shaderInt16`.
    pub i16: bool,
    /// `shaderInt8`.
    pub i8: bool,
    /// `storageBuffer16BitAccess` and `uniformAndStorageBuffer16BitAccess`.
    pub storage_16bit: bool,
    /// `storageBuffer8BitAccess` and `uniformAndStorageBuffer8BitAccess`.
    pub storage_8bit: bool,
    /// `storagePushConstant16`. Only kernels that come as SPIR-V need it.
    pub scalars_16bit: bool,
    /// `shaderBufferFloat32Atomics` and `shaderBufferFloat32AtomicAdd`.
    pub f32_atomics: bool,
    /// `shaderBufferInt64Atomics` and `shaderSharedInt64Atomics`.
    pub i64_atomics: bool,
    /// `VK_SUBGROUP_FEATURE_BASIC_BIT`, `_VOTE_BIT` and `_BALLOT_BIT` in the compute stage.
    pub subgroups: bool,
    /// `VK_SUBGROUP_FEATURE_ARITHMETIC_BIT`.
    pub subgroup_arithmetic: bool,
    /// `VK_SUBGROUP_FEATURE_SHUFFLE_BIT` and `_SHUFFLE_RELATIVE_BIT`.
    pub subgroup_shuffle: bool,
    /// `VK_SUBGROUP_FEATURE_QUAD_BIT`.
    pub subgroup_quad: bool,
}

/// A feature: its name in [`KernelInterface::features`], what Vulkan calls it, whether a device has it, and the SPIR-V capabilities that it stands for.
struct Feature {
    name: &'static str,
    vulkan: &'static str,
    has: fn(&DeviceFeatures) -> bool,
    capabilities: &'static [C],
}

/// In the order in which they are listed for users.
const FEATURES: [Feature; 14] = [
    Feature { name: "f64", vulkan: "shaderFloat64", has: |d| d.f64, capabilities: &[C::Float64] },
    Feature { name: "f16", vulkan: "shaderFloat16", has: |d| d.f16, capabilities: &[C::Float16] },
    Feature { name: "i64", vulkan: "shaderInt64", has: |d| d.i64, capabilities: &[C::Int64] },
    Feature { name: "i16", vulkan: "shaderInt16", has: |d| d.i16, capabilities: &[C::Int16] },
    Feature { name: "i8", vulkan: "shaderInt8", has: |d| d.i8, capabilities: &[C::Int8] },
    Feature {
        name: "16-bit storage",
        vulkan: "uniformAndStorageBuffer16BitAccess",
        has: |d| d.storage_16bit,
        capabilities: &[C::StorageBuffer16BitAccess, C::UniformAndStorageBuffer16BitAccess],
    },
    Feature {
        name: "8-bit storage",
        vulkan: "uniformAndStorageBuffer8BitAccess",
        has: |d| d.storage_8bit,
        capabilities: &[C::StorageBuffer8BitAccess, C::UniformAndStorageBuffer8BitAccess],
    },
    Feature {
        name: "16-bit scalars",
        vulkan: "storagePushConstant16",
        has: |d| d.scalars_16bit,
        capabilities: &[C::StoragePushConstant16],
    },
    Feature {
        name: "f32 atomics",
        vulkan: "shaderBufferFloat32AtomicAdd",
        has: |d| d.f32_atomics,
        capabilities: &[C::AtomicFloat32AddEXT],
    },
    Feature { name: "i64 atomics", vulkan: "shaderBufferInt64Atomics", has: |d| d.i64_atomics, capabilities: &[C::Int64Atomics] },
    Feature {
        name: "subgroups",
        vulkan: "VK_SUBGROUP_FEATURE_BALLOT_BIT",
        has: |d| d.subgroups,
        capabilities: &[C::GroupNonUniform, C::GroupNonUniformVote, C::GroupNonUniformBallot],
    },
    Feature {
        name: "subgroup arithmetic",
        vulkan: "VK_SUBGROUP_FEATURE_ARITHMETIC_BIT",
        has: |d| d.subgroup_arithmetic,
        capabilities: &[C::GroupNonUniformArithmetic],
    },
    Feature {
        name: "subgroup shuffle",
        vulkan: "VK_SUBGROUP_FEATURE_SHUFFLE_BIT",
        has: |d| d.subgroup_shuffle,
        capabilities: &[C::GroupNonUniformShuffle, C::GroupNonUniformShuffleRelative],
    },
    Feature {
        name: "subgroup quad",
        vulkan: "VK_SUBGROUP_FEATURE_QUAD_BIT",
        has: |d| d.subgroup_quad,
        capabilities: &[C::GroupNonUniformQuad],
    },
];

/// What every device has.
const ORDINARY: [C; 2] = [C::Matrix, C::Shader];

/// What the device lacks for the kernel, in words; none if it lacks nothing.
///
/// A feature that is not in the list above is lacking on every device: nobody enables it.
pub fn missing(interface: &KernelInterface, device: &DeviceFeatures) -> Option<String> {
    let lacking: Vec<String> = interface
        .features
        .iter()
        .filter_map(|name| match FEATURES.iter().find(|feature| feature.name == name) {
            Some(feature) if (feature.has)(device) => None,
            Some(feature) => Some(format!("no {name} ({})", feature.vulkan)),
            None => Some(format!("no {name}")),
        })
        .collect();
    (!lacking.is_empty()).then(|| format!("the device has {}", lacking.join(", ")))
}

/// The names of what a module asks for, in the order of the list; then those of capabilities that the list does not have.
pub(super) fn named(capabilities: &[u32]) -> Vec<String> {
    let known = |feature: &&Feature| feature.capabilities.iter().any(|&capability| capabilities.contains(&(capability as u32)));
    let mut names: Vec<String> = FEATURES.iter().filter(known).map(|feature| feature.name.to_owned()).collect();
    for &capability in capabilities {
        if !supported().chain(ORDINARY).any(|known| known as u32 == capability) {
            let name = C::from_u32(capability).map_or_else(|| format!("capability {capability}"), |known| format!("{known:?}"));
            names.push(format!("SPIR-V {name}"));
        }
    }
    names
}

/// The capabilities that stand in the list.
pub(super) fn supported() -> impl Iterator<Item = C> {
    FEATURES.iter().flat_map(|feature| feature.capabilities).copied()
}
