//! The memory that the host and one worker process have both mapped.
//!
//! All of it is atomic words, and it is reached only as those: whatever the other process writes, and whenever, is a value that was read, never undefined
//! behaviour. So nothing that uses it is unsafe; what it reads there it must not trust.
#![expect(unsafe_code, reason = "maps memory that another process writes to")]

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{NonNull, null_mut};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::process::{Resource, getrlimit};

use crate::layout::Layout;

/// What the memory is called in `/proc/<pid>/maps`.
const NAME: &str = "poniard-line";

/// A mapping of a [`Layout`].
#[derive(Debug)]
pub(crate) struct SharedMemory {
    layout: NonNull<Layout>,
}

// SAFETY: what it points to is atomic and mapped until the value is dropped; no thread is special to it.
unsafe impl Send for SharedMemory {}
// SAFETY: as above; shared references give shared references to atomics.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// New memory, all zero, and the descriptor by which another process finds it.
    pub(crate) fn create() -> io::Result<(OwnedFd, Self)> {
        // Growing a file beyond the limit raises SIGXFSZ, which ends the program.
        if getrlimit(Resource::Fsize).current.is_some_and(|limit| limit < size_of::<Layout>() as u64) {
            return Err(io::Error::other("the limit on the size of files (RLIMIT_FSIZE) is too low"));
        }
        let file = memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, size_of::<Layout>() as u64)?;
        // The pages, now: if there were none later, the access would raise SIGBUS.
        fallocate(&file, FallocateFlags::empty(), 0, size_of::<Layout>() as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let memory = Self::map(&file)?;
        Ok((file, memory))
    }

    /// Maps memory that was made by [`create`](Self::create).
    pub(crate) fn map(file: impl AsFd) -> io::Result<Self> {
        let file = file.as_fd();
        let sealed = fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        if !sealed || fstat(file)?.st_size != size_of::<Layout>() as i64 {
            return Err(io::Error::other("the descriptor is not that of a worker process's memory"));
        }
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let address = unsafe {
            mmap(null_mut(), size_of::<Layout>(), ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE, file, 0)
        }?;
        match NonNull::new(address.cast::<Layout>()) {
            Some(layout) => Ok(Self { layout }),
            None => Err(io::Error::other("memory was mapped at address 0")),
        }
    }
}

impl Deref for SharedMemory {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        // SAFETY: the address is that of a mapping of this size, aligned to a page, which lasts as long as `self` and whose file cannot shrink. The type is
        // made of atomic integers, so all bytes are values of it, and it may change under a shared reference.
        unsafe { self.layout.as_ref() }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody has a reference into it any more: those borrow `self`.
        let outcome = unsafe { munmap(self.layout.as_ptr().cast(), size_of::<Layout>()) };
        debug_assert!(outcome.is_ok(), "a whole mapping can be unmapped");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::layout::RING_WORDS;

    #[test]
    fn two_mappings_are_one_memory_that_cannot_shrink() {
        let (file, one) = SharedMemory::create().unwrap();
        let two = SharedMemory::map(&file).unwrap();
        one.to_host.words[RING_WORDS - 1].store(7, Relaxed);
        assert_eq!(two.to_host.words[RING_WORDS - 1].load(Relaxed), 7);
        assert!(ftruncate(&file, 0).is_err());
        assert!(ftruncate(&file, 1 << 30).is_err());
    }

    #[test]
    fn other_files_are_refused() {
        assert!(SharedMemory::map(std::fs::File::open("/proc/self/exe").unwrap()).is_err());
        let other = memfd_create("other", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        fcntl_add_seals(&other, SealFlags::SHRINK).unwrap();
        assert!(SharedMemory::map(other).is_err());
    }
}
