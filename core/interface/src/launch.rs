//! A kernel's launch on a queued processor.

use std::time::Duration;

use crate::kernel::Access;

/// What a queued processor is to do for a task that is a kernel's launch.
///
/// Launches and copies happen as if in the order in which they were submitted, as far as they use the same chunks. The processor may do them at the same time
/// where they do not. The copies of a launch that is refused are made all the same: those that come later rely on them.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// What to run.
    pub kernel: KernelCode<'a>,
    /// The buffers, in the order of [`KernelInterface::bindings`](crate::KernelInterface::bindings).
    pub operands: &'a [Operand],
    /// The block of scalars.
    pub scalars: &'a [u8],
    /// How many invocations there are at least, along x, y and z: rounded up to whole workgroups, and more than a device takes at once are given to it in parts.
    pub invocations: [u64; 3],
    /// How long it may run; none: as long as the backend allows.
    pub deadline: Option<Duration>,
}

/// The code of a launch.
#[derive(Clone, Copy, Debug)]
pub struct KernelCode<'a> {
    /// A hash of the code: the same code, the same number, in every run of every program.
    pub identity: [u64; 2],
    /// The kernel's name, for messages.
    pub name: &'a str,
    /// The code.
    pub source: Source<'a>,
}

/// What a backend compiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source<'a> {
    /// Source in WGSL.
    Wgsl(&'a str),
    /// SPIR-V words.
    SpirV(&'a [u32]),
}

/// A buffer in a launch. It is a whole chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// [`Chunk::id`](crate::Chunk::id).
    pub chunk: u64,
    /// How the kernel uses it.
    pub access: Access,
    /// What is copied into the chunk before. Readable, and not written by anybody, until the launch is reported as done.
    pub source: Option<HostBlock>,
}

/// A block of the host's memory, in an arena: a page-aligned mapping of a shared-memory file that stays for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostBlock {
    /// Where it begins.
    pub address: u64,
    /// Its length.
    pub len_bytes: u64,
    /// Where its arena begins.
    pub arena_address: u64,
    /// The arena's length.
    pub arena_bytes: u64,
}
