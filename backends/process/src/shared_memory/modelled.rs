//! The stand-in under `--cfg loom`: loom's atomics are no bytes that could be mapped, and the processes of a test are threads.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::layout::Layout;

/// A [`Layout`] that nobody else has.
#[derive(Debug, Default)]
pub(crate) struct SharedMemory {
    layout: Box<Layout>,
}

impl SharedMemory {
    pub(crate) fn create() -> io::Result<(OwnedFd, Self)> {
        Ok((memfd_create("none", MemfdFlags::CLOEXEC)?, Self::default()))
    }

    pub(crate) fn map(_: impl AsFd) -> io::Result<Self> {
        Err(io::Error::other("nothing is mapped under loom"))
    }
}

impl Deref for SharedMemory {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        &self.layout
    }
}
