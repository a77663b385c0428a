//! What lies behind the addresses of a block: its pages of the arena, or a range of the spill file. Each change is one step for those who read it.
#![expect(unsafe_code, reason = "changes what is mapped where readers look")]

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags};

use super::file;
use super::packed::{Packed, Pages};

/// Where a block is: in this process's memory, and in the file of its arena.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) start: NonNull<u8>,
    pub(crate) len_bytes: u64,
    pub(crate) arena: Arc<OwnedFd>,
    pub(crate) offset: u64,
    /// A device has its pages: they stay.
    pub(crate) is_pinned: bool,
}

impl Location {
    fn address(&self) -> *mut std::ffi::c_void {
        self.start.as_ptr().cast()
    }

    /// Where it lies.
    pub(super) fn addresses(&self) -> Range<usize> {
        let start = self.start.addr().get();
        start..start + self.len_bytes as usize
    }

    /// The bytes of a block that is looked at.
    ///
    /// # Safety
    /// Nobody writes to the block as long as they are used, and it is not unmapped: somebody has its buffer.
    pub(super) unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the location is within one mapping, whose bytes are initialised; nobody writes (precondition).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len_bytes as usize) }
    }

    /// Maps something over the block: all see either what was there before or this.
    ///
    /// # Safety
    /// It has the same bytes, or nobody looks at the block.
    unsafe fn cover(&self, file: impl AsFd, offset: u64, protection: ProtFlags) -> std::io::Result<()> {
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: the addresses are the block's own whole pages, of a mapping that this process never gives up; what is read there stays the same (precondition).
        unsafe { rustix::mm::mmap(self.address(), self.len_bytes as usize, protection, flags, file, offset) }?;
        Ok(())
    }

    /// Has readers find the block in a range of the spill file, which nobody changes.
    ///
    /// # Safety
    /// The range has the block's bytes, and nobody writes to the block before it is back.
    pub(super) unsafe fn send_out(&self, range: &file::Range) -> Result<(), String> {
        // SAFETY: the precondition.
        let done = unsafe { self.cover(&range.file, range.offset, ProtFlags::READ) };
        self.or_back(done)
    }

    /// Has nobody get at the block: what the range has is compressed.
    ///
    /// # Safety
    /// Nobody looks at the block before it is back.
    pub(super) unsafe fn close(&self) -> Result<(), String> {
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: as in `cover`; nobody looks (precondition).
        let done = unsafe { rustix::mm::mmap_anonymous(self.address(), self.len_bytes as usize, ProtFlags::empty(), flags) };
        self.or_back(done.map(drop).map_err(std::io::Error::from))
    }

    /// What came of a mapping over the block, whose bytes the arena still has.
    fn or_back(&self, done: std::io::Result<()>) -> Result<(), String> {
        done.map_err(|error| {
            // Where the kernel has taken away what was there before it refused, it has to be there again.
            // SAFETY: the arena still has the block's bytes.
            let back = unsafe { self.cover(&self.arena, self.offset, ProtFlags::READ | ProtFlags::WRITE) };
            assert!(back.is_ok(), "what was mapped before can be mapped again");
            format!("cannot map {} bytes: {error}", self.len_bytes)
        })
    }

    /// Has the block in its arena again, with what the range has; where that was read, the page cache may have it.
    ///
    /// # Safety
    /// The range has been mapped over the block (`send_out`), or, packed, nobody looks at that (`close`); nobody writes to it, and nobody else brings it back.
    pub(super) unsafe fn bring_in(&self, range: &file::Range, was_read: bool, packed: Option<Packed>) -> Result<(), String> {
        let failed = |error: rustix::io::Errno| format!("cannot map {} bytes: {}", self.len_bytes, std::io::Error::from(error));
        let len = self.len_bytes as usize;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, of a part of a file that is never shortened.
        let aside = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, &self.arena, self.offset) }
            .map_err(failed)?;
        // SAFETY: the pages of the block in the arena, which nobody else looks at: readers find the range.
        let bytes = unsafe { std::slice::from_raw_parts_mut(aside.cast::<u8>(), len) };
        // SAFETY: somebody has the block's buffer: it is what is brought back.
        let is_there = was_read && packed.is_none() && unsafe { self.populate() };
        let read = if is_there {
            // SAFETY: the range is mapped there, and nobody writes to it (precondition).
            bytes.copy_from_slice(unsafe { self.bytes() });
            Ok(())
        } else if let Some(packed) = packed {
            let mut pages = Pages::new(range.len_bytes as usize);
            range.read(pages.bytes_mut()).and_then(|()| packed.unpack(pages.bytes(), bytes))
        } else {
            range.read(bytes)
        };
        let moved = read.and_then(|()| {
            // SAFETY: the new mapping is moved over the block's own pages, which have the same bytes.
            unsafe { rustix::mm::mremap_fixed(aside, len, len, MremapFlags::MAYMOVE, self.address()) }.map_err(failed)
        });
        if let Err(reason) = moved {
            // SAFETY: made above, and moved nowhere; nobody has its address.
            let _ = unsafe { rustix::mm::munmap(aside, len) };
            return Err(reason);
        }
        Ok(())
    }

    /// Has the block in its arena again, with what is there.
    ///
    /// # Safety
    /// Nobody looks at the block, or the arena has the block's bytes.
    pub(super) unsafe fn clear(&self) {
        // SAFETY: the precondition.
        let cleared = unsafe { self.cover(&self.arena, self.offset, ProtFlags::READ | ProtFlags::WRITE) };
        assert!(cleared.is_ok(), "what was mapped before can be mapped again");
    }

    /// Has the block's pages there for whoever reads it next. False when they cannot be read.
    ///
    /// # Safety
    /// Somebody has the block's buffer.
    pub(super) unsafe fn populate(&self) -> bool {
        // SAFETY: the block is mapped to be read, whichever file is behind it; this changes no bytes.
        let done = unsafe { rustix::mm::madvise(self.address(), self.len_bytes as usize, Advice::LinuxPopulateRead) };
        // Kernels before 5.14 do not know it: reading does the same.
        !matches!(done, Err(rustix::io::Errno::FAULT | rustix::io::Errno::HWPOISON | rustix::io::Errno::IO))
    }

    /// Gives the arena's pages of the block back to the kernel.
    ///
    /// # Safety
    /// Readers find the block's bytes elsewhere.
    pub(super) unsafe fn punch(&self) -> bool {
        use rustix::fs::{FallocateFlags, fallocate};
        fallocate(&self.arena, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, self.offset, self.len_bytes).is_ok()
    }
}
