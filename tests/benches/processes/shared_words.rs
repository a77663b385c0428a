//! Memory that two processes have mapped, with a bare ring for each direction; and a bare fork.
#![expect(unsafe_code, reason = "maps memory that another process writes to, and forks")]

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Words of a ring.
const RING_WORDS: usize = 64;

/// A ring of words, as bare as can be: it is never full, since each word is answered before the next one comes.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct Ring {
    /// How many words were ever written, alone in its cache line.
    pub(crate) head: AtomicU32,
    /// Word `n` lies at `n % RING_WORDS`.
    words: Words,
}

#[repr(C, align(128))]
#[derive(Debug)]
struct Words([AtomicU64; RING_WORDS]);

impl Ring {
    /// Writes word number `count`, counted from 1.
    pub(crate) fn put(&self, count: u32, word: u64) {
        self.words.0[count as usize % RING_WORDS].store(word, Relaxed);
        // Pairs with the Acquire of `take`.
        self.head.store(count, Release);
    }

    /// Word number `count`, once it is there: `wait` is called with what the head was found to be until it is `count`.
    pub(crate) fn take(&self, count: u32, wait: impl Fn(u32)) -> u64 {
        loop {
            let found = self.head.load(Acquire);
            if found == count {
                return self.words.0[count as usize % RING_WORDS].load(Relaxed);
            }
            wait(found);
        }
    }
}

/// What lies in the memory. Zero is the state in which it begins.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Rings {
    /// To the other process.
    pub(crate) there: Ring,
    /// And from it.
    pub(crate) back: Ring,
}

/// A mapping of [`Rings`].
#[derive(Debug)]
pub(crate) struct SharedWords(NonNull<Rings>);

impl SharedWords {
    /// New memory, all zero, and its descriptor.
    pub(crate) fn create() -> io::Result<(OwnedFd, Self)> {
        let file = memfd_create("bench-rings", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, size_of::<Rings>() as u64)?;
        let words = Self::map(&file)?;
        Ok((file, words))
    }

    /// Maps what [`create`](Self::create) has made.
    pub(crate) fn map(file: impl AsFd) -> io::Result<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let address = unsafe { mmap(null_mut(), size_of::<Rings>(), protection, flags, file, 0) }?;
        NonNull::new(address.cast()).map(Self).ok_or_else(|| io::Error::other("memory was mapped at address 0"))
    }
}

impl Deref for SharedWords {
    type Target = Rings;

    fn deref(&self) -> &Rings {
        // SAFETY: a mapping of this size, aligned to a page, which lasts as long as `self`; nobody shrinks its file. All of it is atomic integers.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and references into it borrow `self`.
        let outcome = unsafe { munmap(self.0.as_ptr().cast(), size_of::<Rings>()) };
        debug_assert!(outcome.is_ok(), "a whole mapping can be unmapped");
    }
}

/// Forks a process that calls `say` and exits, and waits for its end. Only for a process with one thread.
pub(crate) fn fork_once(say: impl FnOnce()) {
    // SAFETY: the process has one thread, so no lock is held by another one that the child does not have.
    let child = unsafe { libc::fork() };
    if child == 0 {
        say();
        // SAFETY: the function may be called at any time.
        unsafe { libc::_exit(0) }
    }
    assert!(child > 0, "cannot fork: {}", io::Error::last_os_error());
    // SAFETY: a null pointer says that the status is not wanted.
    unsafe { libc::waitpid(child, null_mut(), 0) };
}
