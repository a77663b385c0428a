//! An allocator that counts while somebody wants to know.
//!
//! It is the system's, and a load and a branch for each call: programs that measure install it as their global allocator.
#![expect(unsafe_code, reason = "an allocator's functions are unsafe to call and to promise")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// The system's allocator, with counters. See [`count`].
#[derive(Debug)]
pub struct CountingAllocator;

/// What a piece of work asked of the allocator, on all threads together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Blocks that were allocated or changed their size.
    pub allocations: u64,
    /// Bytes allocated less bytes freed.
    pub bytes: i64,
    /// The most that this was at any time. A block that changes its size counts once, where the system may have to copy it.
    pub peak_bytes: i64,
}

// Relaxed everywhere: the counters guard nothing. The numbers are exact for what happens before the end of the work on its own thread, or is known there to
// have happened on others.
static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicI64 = AtomicI64::new(0);
static PEAK_BYTES: AtomicI64 = AtomicI64::new(0);
/// Held by whoever counts.
static TURN: Mutex<()> = Mutex::new(());

/// Counts what all threads do while `work` runs.
///
/// # Panics
/// When the program's allocator is not [`CountingAllocator`].
pub fn count(work: impl FnOnce()) -> Counted {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    ALLOCATIONS.store(0, Relaxed);
    COUNTING.store(true, Relaxed);
    drop(std::hint::black_box(Box::new(0u8)));
    let heard = ALLOCATIONS.swap(0, Relaxed);
    BYTES.store(0, Relaxed);
    PEAK_BYTES.store(0, Relaxed);
    work();
    COUNTING.store(false, Relaxed);
    let counted = Counted { allocations: ALLOCATIONS.load(Relaxed), bytes: BYTES.load(Relaxed), peak_bytes: PEAK_BYTES.load(Relaxed) };
    drop(turn);
    assert!(heard > 0, "allocations can only be counted in a program whose global allocator is `CountingAllocator`");
    counted
}

/// Notes a call that allocated, and by how much the allocated bytes changed.
#[inline]
fn note(allocations: u64, bytes: i64) {
    if COUNTING.load(Relaxed) {
        ALLOCATIONS.fetch_add(allocations, Relaxed);
        let before = BYTES.fetch_add(bytes, Relaxed);
        if bytes > 0 {
            PEAK_BYTES.fetch_max(before + bytes, Relaxed);
        }
    }
}

// SAFETY: every call is passed on to the system's allocator as it came, and noting it allocates nothing and does not unwind.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn blocks_and_bytes_are_counted() {
        // So large that whatever other tests do meanwhile does not matter, and never touched.
        const GIB: usize = 1 << 30;
        let mut kept = Vec::<u8>::new();
        let counted = count(|| {
            kept.reserve_exact(GIB);
            drop(Vec::<u8>::with_capacity(2 * GIB));
        });
        assert!(counted.allocations >= 2, "{counted:?}");
        assert!((counted.bytes - GIB as i64).abs() < GIB as i64 / 2, "{counted:?}");
        assert!((counted.peak_bytes - 3 * GIB as i64).abs() < GIB as i64 / 2, "{counted:?}");
        let freed = count(|| drop(kept));
        assert!((freed.bytes + GIB as i64).abs() < GIB as i64 / 2, "{freed:?}");
    }
}
