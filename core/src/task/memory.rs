//! Memory for records and what they refer to: each thread keeps some of what it frees for what it will need.
//!
//! Taking a block from a list of one's own costs a few loads and stores, a quarter of what the general allocator takes, and the newest block is the one most
//! likely to be in the cache. Where one thread spawns what another one runs, blocks gather with the second: a thread that has too many hands a whole batch of
//! them to a pool, and one that has none takes a batch from there, so that they travel back at the price of one lock for a batch.
//!
//! Blocks come from the general allocator and may go back to it from any thread. In builds with debug assertions nothing is kept, so that tools which watch
//! the allocator see each record.
#![expect(unsafe_code, reason = "lists of free blocks that hold their own links")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::region;

/// Sizes of kept blocks in bytes; what is larger, or aligned to more than `ALIGN`, is not kept.
///
/// Eight less than round numbers: with its own 8 bytes, glibc frees blocks of up to 128 bytes from any thread without a lock. One of 128 bytes for the user
/// is above that, and a flood of tasks from one thread, run by another, took twice as long.
const CLASSES: [usize; 5] = [120, 184, 248, 376, 504];
/// Alignment of kept blocks in bytes: what the general allocator gives anyway.
const ALIGN: usize = 16;
/// Blocks that travel together.
const BATCH: u32 = 128;
/// Blocks that a thread keeps of each size: 358 KiB in all at most.
const KEPT_MAX: u32 = 2 * BATCH;
/// Batches that the pool keeps of each size: as many blocks as a region keeps tasks unless it is told otherwise, so that one that comes again finds those of the last time. 22.4 MiB in all at most.
const POOLED_MAX: usize = 128;
const _: () = assert!(POOLED_MAX * BATCH as usize >= region::WINDOW);

/// A free block: the link to the next one lies in it.
struct Free {
    next: Option<NonNull<Free>>,
}

/// The free blocks of one size that a thread keeps.
struct List {
    first: Cell<Option<NonNull<Free>>>,
    len: Cell<u32>,
}

struct Lists([List; CLASSES.len()]);

/// The first of `BATCH` blocks of one size, linked, that nobody uses.
struct Batch(NonNull<Free>);

// SAFETY: whoever has the batch is the only one to reach its blocks.
unsafe impl Send for Batch {}

/// Batches that a thread had too many, for one that has none; one pool for each size.
static POOLS: [Mutex<Vec<Batch>>; CLASSES.len()] = [const { Mutex::new(Vec::new()) }; CLASSES.len()];

fn pool(class: usize) -> MutexGuard<'static, Vec<Batch>> {
    // Single operations on the list; none of them panics half-way.
    POOLS[class].lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static LISTS: Lists = const { Lists([const { List { first: Cell::new(None), len: Cell::new(0) } }; CLASSES.len()]) };
}

/// Has the block of a class that comes next brought into the cache: it lies anywhere, as blocks come back in any order, and until it is taken there is a task to be made. As much as records mostly have.
#[inline]
fn fetch_ahead(class: usize, block: NonNull<u8>) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..CLASSES[class].div_ceil(64).min(4) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which touches nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(block.as_ptr().cast_const().wrapping_add(64 * line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (class, block);
}

impl List {
    #[inline]
    fn pop(&self) -> Option<NonNull<u8>> {
        let block = self.first.get()?;
        // SAFETY: a block in the list is free, belongs to this thread, and begins with a `Free` (`push`).
        let next = unsafe { block.as_ref() }.next;
        self.first.set(next);
        self.len.set(self.len.get() - 1);
        Some(block.cast())
    }

    /// A block of this list, or of the pool.
    #[inline]
    fn pop_or_refill(&self, class: usize) -> Option<NonNull<u8>> {
        let block = self.pop().or_else(|| {
            let Batch(first) = pool(class).pop()?;
            self.first.set(Some(first));
            self.len.set(BATCH);
            self.pop()
        })?;
        if let Some(next) = self.first.get() {
            fetch_ahead(class, next.cast());
        }
        Some(block)
    }

    /// Gives the newest blocks away.
    #[cold]
    fn give_batch(&self, class: usize) {
        let Some(first) = self.first.get() else { return };
        let mut last = first;
        for _ in 1..BATCH {
            // SAFETY: blocks in the list are free, belong to this thread, and begin with a `Free` (`push`).
            let Some(next) = (unsafe { last.as_ref() }).next else { unreachable!("a full list has more than a batch") };
            last = next;
        }
        // SAFETY: as above.
        self.first.set(unsafe { last.as_mut() }.next.take());
        self.len.set(self.len.get() - BATCH);
        let mut pool = pool(class);
        if pool.len() < POOLED_MAX {
            pool.push(Batch(first));
            return;
        }
        drop(pool);
        let mut block = Some(first);
        while let Some(free) = block {
            // SAFETY: as above; the link is read before the block is gone.
            block = unsafe { free.as_ref() }.next;
            // SAFETY: blocks of a list came from `allocate` with this layout.
            unsafe { dealloc(free.as_ptr().cast(), class_layout(class)) };
        }
    }

    /// Keeps a block.
    ///
    /// # Safety
    /// The block has the size of this list's class and is aligned to `ALIGN`; nobody else uses it.
    #[inline]
    unsafe fn push(&self, class: usize, block: NonNull<u8>) {
        if self.len.get() >= KEPT_MAX {
            self.give_batch(class);
        }
        let block = block.cast::<Free>();
        // SAFETY: the block is large enough for a link, aligned for it, and nobody else's (precondition).
        unsafe { block.write(Free { next: self.first.get() }) };
        self.first.set(Some(block));
        self.len.set(self.len.get() + 1);
    }
}

impl Drop for Lists {
    fn drop(&mut self) {
        for (class, list) in self.0.iter().enumerate() {
            while let Some(block) = list.pop() {
                // SAFETY: blocks of a list came from `allocate` with this layout.
                unsafe { dealloc(block.as_ptr(), class_layout(class)) };
            }
        }
    }
}

/// The class of records with this layout.
const fn class_of(layout: Layout) -> Option<usize> {
    if cfg!(any(debug_assertions, loom)) || layout.align() > ALIGN {
        return None;
    }
    let mut class = 0;
    while class < CLASSES.len() {
        if layout.size() <= CLASSES[class] {
            return Some(class);
        }
        class += 1;
    }
    None
}

/// Whether memory for a `T` is kept.
pub(crate) const fn is_kept<T>() -> bool {
    class_of(Layout::new::<T>()).is_some()
}

const fn class_layout(class: usize) -> Layout {
    match Layout::from_size_align(CLASSES[class], ALIGN) {
        Ok(layout) => layout,
        Err(_) => panic!("the classes are sizes that exist"),
    }
}

/// A box in such memory, for what records refer to: it is made by the thread that spawns and goes with the one that runs, where the general allocator takes a lock for each.
#[doc(hidden)]
pub struct Kept<T>(NonNull<T>);

// SAFETY: it owns the `T`, as a box does.
unsafe impl<T: Send> Send for Kept<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Sync> Sync for Kept<T> {}

impl<T> Kept<T> {
    #[inline]
    pub(crate) fn new(value: T) -> Self {
        let memory = allocate::<T>();
        // SAFETY: the memory is new, and fits a `T`.
        unsafe { memory.write(value) };
        Self(memory)
    }
}

impl<T> std::ops::Deref for Kept<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `new` wrote it, and this owns it.
        unsafe { self.0.as_ref() }
    }
}

impl<T> std::ops::DerefMut for Kept<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { self.0.as_mut() }
    }
}

impl<T> Drop for Kept<T> {
    #[inline]
    fn drop(&mut self) {
        /// Frees the memory also where the destructor of what is in it panics.
        struct Memory<T>(NonNull<T>);
        impl<T> Drop for Memory<T> {
            fn drop(&mut self) {
                // SAFETY: `Kept::new` allocated it; what was in it has been dropped, and nobody has it any more.
                unsafe { free(self.0) };
            }
        }
        let memory = Memory(self.0);
        // SAFETY: `new` wrote it, and it is dropped once, here.
        unsafe { std::ptr::drop_in_place(memory.0.as_ptr()) };
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

/// Memory for a `T`, not initialised.
#[inline]
pub(crate) fn allocate<T>() -> NonNull<T> {
    const { assert!(size_of::<T>() > 0, "a record holds at least a header") };
    let class = const { class_of(Layout::new::<T>()) };
    if let Some(class) = class
        && let Ok(Some(block)) = LISTS.try_with(|lists| lists.0[class].pop_or_refill(class))
    {
        return block.cast();
    }
    let layout = match class {
        Some(class) => class_layout(class),
        None => Layout::new::<T>(),
    };
    // SAFETY: the layout is not empty (above; classes are not).
    let memory = unsafe { alloc(layout) };
    match NonNull::new(memory.cast::<T>()) {
        Some(memory) => memory,
        None => handle_alloc_error(layout),
    }
}

/// Frees what `allocate` gave.
///
/// # Safety
/// `memory` is from `allocate::<T>`, what was in it has been moved out or dropped, and nobody uses it any more.
#[inline]
pub(crate) unsafe fn free<T>(memory: NonNull<T>) {
    let class = const { class_of(Layout::new::<T>()) };
    let Some(class) = class else {
        #[cfg(loom)]
        return ended::keep(memory.cast(), Layout::new::<T>());
        // SAFETY: without a class, `allocate` took it with this layout.
        #[cfg(not(loom))]
        return unsafe { dealloc(memory.as_ptr().cast(), Layout::new::<T>()) };
    };
    // SAFETY: `allocate` took it with the layout of its class, and nobody uses it (precondition).
    let kept = LISTS.try_with(|lists| unsafe { lists.0[class].push(class, memory.cast()) });
    if kept.is_err() {
        // SAFETY: `allocate` took it with this layout, and it was not kept.
        unsafe { dealloc(memory.as_ptr().cast(), class_layout(class)) };
    }
}

/// Under loom, the memory of freed records, until the run of the test is over: a look at one after its end meets its `Watched`, and no other record.
#[cfg(loom)]
pub(super) mod ended {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        // Not loom's: all threads of a test are one thread in truth.
        static BLOCKS: RefCell<Vec<(NonNull<u8>, Layout)>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn keep(block: NonNull<u8>, layout: Layout) {
        BLOCKS.with_borrow_mut(|blocks| blocks.push((block, layout)));
    }

    /// To be called when nobody can reach what has ended.
    #[cfg(test)]
    pub(crate) fn free_all() {
        for (block, layout) in BLOCKS.take() {
            // SAFETY: `allocate` took it with this layout, `free` kept it once, and nobody uses it any more.
            unsafe { dealloc(block.as_ptr(), layout) };
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_list_gives_back_the_newest_block_and_hands_batches_on() {
        let class = 2;
        let list = List { first: Cell::new(None), len: Cell::new(0) };
        // Leaked, as the pool keeps what it is given.
        let count = KEPT_MAX as usize + 1;
        let blocks: &mut [[u128; 16]] = vec![[0; 16]; count].leak();
        let pointers: Vec<_> = blocks.iter_mut().map(|block| NonNull::from(block).cast::<u8>()).collect();
        for (index, block) in pointers.iter().enumerate() {
            assert_eq!(list.len.get() as usize, index);
            // SAFETY: the blocks are 256 bytes, aligned to 16, and only this list has them.
            unsafe { list.push(class, *block) };
        }
        // One more than it may keep: the newest batch of those before has gone to the pool.
        assert_eq!(list.len.get(), KEPT_MAX - BATCH + 1);
        assert_eq!(list.pop(), pointers.last().copied());
        for block in pointers[..(KEPT_MAX - BATCH) as usize].iter().rev() {
            assert_eq!(list.pop(), Some(*block));
        }
        assert_eq!(list.pop(), None);
        assert_eq!(pool(class).len(), 1);
        for block in pointers[(KEPT_MAX - BATCH) as usize..KEPT_MAX as usize].iter().rev() {
            assert_eq!(list.pop_or_refill(class), Some(*block));
        }
        assert_eq!(list.pop_or_refill(class), None);
    }

    #[test]
    fn what_is_kept_is_dropped_once_also_if_that_panics() {
        struct Counts<'a>(&'a Cell<u32>, bool);
        impl Drop for Counts<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
                assert!(!self.1, "a destructor panics");
            }
        }
        let dropped = Cell::new(0);
        let mut kept = Kept::new((Counts(&dropped, false), 1));
        kept.1 += 1;
        assert_eq!((kept.1, dropped.get()), (2, 0));
        drop(kept);
        assert_eq!(dropped.get(), 1);
        let panics = Kept::new(Counts(&dropped, true));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(panics))).is_err());
        assert_eq!(dropped.get(), 2);
    }

    #[test]
    fn memory_is_aligned_and_comes_and_goes() {
        #[repr(align(64))]
        struct Wide {
            _bytes: [u8; 100],
        }
        for _ in 0..3 {
            let (small, large, wide) = (allocate::<[u64; 4]>(), allocate::<[u8; 1000]>(), allocate::<Wide>());
            assert!(small.is_aligned() && large.is_aligned() && wide.is_aligned());
            // SAFETY: from `allocate` of the same type, never written, used no more.
            unsafe { free(small) };
            // SAFETY: as above.
            unsafe { free(large) };
            // SAFETY: as above.
            unsafe { free(wide) };
        }
    }
}
