//! The code of kernels: what it takes, and SPIR-V of it. No device is needed for any of this.
//!
//! # Launches in parts
//!
//! A device takes a limited number of workgroups along an axis: 65535 on many. `vkCmdDispatchBase` is no way round that, since the base is held to the same
//! limit: base and count together may not be above it. So a launch that is larger is given to the device as several dispatches of another module, compiled
//! with [`Target::parts`], which adds the base itself. It finds it in push constants behind the kernel's scalars:
//!
//! | offset | what |
//! |---|---|
//! | [`parts_offset`] | the first workgroup of this part, along x, y and z, `u32` each |
//! | [`parts_offset`] + 16 | the number of workgroups of the whole launch, likewise |
//!
//! These are [`PARTS_BYTES`] bytes with the four between, so that a device with 128 bytes of push constants takes kernels with up to 96 bytes of scalars. The
//! pipeline needs no flag and the dispatch is an ordinary one. For the kernel nothing differs: `workgroup_id` and `global_invocation_id` go on where the part
//! before ended, and `num_workgroups` is of the whole launch. `global_invocation_id` has 32 bits, so a launch of more than 2^32 invocations along an axis is
//! none. Modules that come as SPIR-V cannot be launched in parts.
//!
//! # Buffers that are longer than a binding
//!
//! A binding has so many bytes at most: 128 MiB, or 4 GiB. A longer buffer is reached by its address, by another module again, compiled with
//! [`Target::addressed`]: the set of these buffers. Others stay bound, so a launch that has none of them costs what it always did. Their addresses lie among the push
//! constants, behind everything else, at [`addresses_offset`], 8 bytes each in the order of the bindings; and behind those the number of elements of each, `u32`.
//! So a device with 128 bytes of push constants takes 8 such buffers beside 32 bytes of scalars. Indices have 32 bits, and such a buffer at most 2^31 elements.
//!
//! Code of WGSL stays within such buffers as within others, by the checks that the compiler writes into it: the device does not look after that. Modules that come as
//! SPIR-V have none, and do not reach such buffers.
//!
//! # What code may do
//!
//! A buffer that a kernel only writes is overwritten, also where the kernel does not write all of it: what it leaves is not what was there before.
//!
//! By default code of WGSL cannot leave its buffers: an index that is too large is made small enough. That needs one element at least in each bound array.
//! Loops are counted up to 2^64, so that compilers do not take an endless one for one that is never reached, and divisions by zero have a result.
//! [`Target::unchecked`] ends all three. SPIR-V is passed on as it is.

mod address;
mod features;
mod place;
mod shape;
mod spirv;
#[cfg(test)]
mod tests;
mod wgsl;
mod wrap;

use poniard_interface::{InspectError, KernelInterface, Source};

pub use self::features::{DeviceFeatures, missing};
pub use self::shape::{addresses, addresses_offset, parts_offset, pushed_bytes};

/// Length of what a launch in parts has of its own among the push constants, in bytes.
pub const PARTS_BYTES: u32 = 28;

/// Names what [`compile`] makes of a source: another text, other words. It belongs into the key of whatever keeps them.
pub const COMPILER: &str = "naga 30.0.2, 1";

/// A longer source is none that somebody wrote, and the stack that it may need grows with it.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// What naga is given to recurse on. Pages that it does not reach cost nothing; a chain of additions as long as the longest source takes most of it,
/// in a build that is not optimised, where a hundred nested blocks are too much for the 2 MiB of an ordinary thread.
const STACK_BYTES: usize = 256 << 20;

/// How to compile a kernel. By default for any device, with checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// No checks of indices, loops and divisors: faster, and a wrong kernel does anything.
    pub unchecked: bool,
    /// Whether the device zeroes the memory of workgroups (`shaderZeroInitializeWorkgroupMemory`). Else the first invocation of each does it.
    pub zeroes_workgroup_memory: bool,
    /// For launches in parts.
    pub parts: bool,
    /// The buffers that are reached by their addresses: a bit for each place in [`KernelInterface::bindings`], the first one the lowest.
    pub addressed: u32,
}

/// Reads what a kernel takes. Less than a millisecond for one of a page.
///
/// # Errors
/// The source is no kernel: [`InspectError`] shows the place in WGSL, or numbers the word in SPIR-V.
pub fn inspect(source: Source<'_>) -> Result<KernelInterface, InspectError> {
    match source {
        Source::Wgsl(text) => deep(text, || wgsl::inspect(text)),
        Source::SpirV(words) => spirv::inspect(words),
        _ => Err(unknown()),
    }
}

/// How much memory the invocations of a workgroup share, in bytes. Of SPIR-V that is not known, and 0.
///
/// # Errors
/// As [`inspect`].
pub fn workgroup_bytes(source: Source<'_>) -> Result<u64, InspectError> {
    match source {
        Source::Wgsl(text) => deep(text, || wgsl::workgroup_bytes(text)),
        Source::SpirV(_) => Ok(0),
        _ => Err(unknown()),
    }
}

/// Compiles a kernel to SPIR-V 1.3 for Vulkan 1.1 or later; SPIR-V is checked and passed on. As long as [`inspect`].
///
/// The words depend on the source and the target alone. Whether a device has what they need is for [`missing`] to say.
///
/// # Errors
/// As [`inspect`], and SPIR-V cannot be launched in parts and reaches no buffer by its address.
pub fn compile(source: Source<'_>, target: &Target) -> Result<Vec<u32>, InspectError> {
    match source {
        Source::Wgsl(text) => deep(text, || wgsl::compile(text, *target)),
        Source::SpirV(_) if target.parts => Err(InspectError::new(
            "a kernel in SPIR-V is launched as a whole, and this launch has more workgroups than the device takes at once: give it as WGSL, or let each invocation do more",
        )),
        Source::SpirV(_) if target.addressed != 0 => Err(InspectError::new(
            "a kernel in SPIR-V reaches no buffer that is longer than the device binds: give it as WGSL, or cut the data into several buffers",
        )),
        Source::SpirV(words) => spirv::inspect(words).map(|_| words.to_vec()),
        _ => Err(unknown()),
    }
}

/// The name of the entry point of a kernel in SPIR-V, which a pipeline is made with.
///
/// # Errors
/// The words are no module with one compute entry point.
pub fn entry_point(words: &[u32]) -> Result<String, InspectError> {
    spirv::entry_point(words)
}

/// Works on `text` with room to recurse.
fn deep<R>(text: &str, work: impl FnOnce() -> Result<R, InspectError>) -> Result<R, InspectError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(InspectError::new(format!("the source has {} bytes, at most {TEXT_BYTES_MAX} are possible", text.len())));
    }
    stacker::grow(STACK_BYTES, work)
}

fn unknown() -> InspectError {
    InspectError::new("a kernel comes as WGSL or as SPIR-V, this is neither")
}
