//! Functions and arguments of all nodes, one behind the other in one block of memory.
#![expect(unsafe_code, reason = "closures of erased type in one growing allocation")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use super::code::DropAt;
use super::pages::prefer_large;

/// Bodies begin at multiples of so many bytes, and are named by such units.
const UNIT_BYTES: usize = 4;
/// Alignment that the memory has from the start: what the general allocator gives anyway.
const ALIGN: NonZeroUsize = NonZeroUsize::new(16).unwrap();
/// Bytes of the first block.
const FIRST_BYTES: usize = 1024;
/// Bytes from which on a block grows by more than to the double: what it has too much is never touched, and each step may copy all there is.
const LARGE_BYTES: usize = 1 << 18;
/// The factor by which a large block grows.
const GROWTH: usize = 8;

/// A block of memory that grows, with values of many types in it. A value moves with the block as long as there may come more, and never after that.
#[derive(Debug)]
pub(super) struct Bodies {
    /// Dangling while `capacity` is 0.
    memory: NonNull<u8>,
    capacity: usize,
    align: usize,
    used: usize,
    /// What has to be dropped: where it is, and how.
    dropped: Vec<(u32, DropAt)>,
}

// SAFETY: what is put in is `Send` and `Sync` (`push`).
unsafe impl Send for Bodies {}
// SAFETY: as for `Send`; shared, it only gives addresses.
unsafe impl Sync for Bodies {}

impl Bodies {
    pub(super) fn new() -> Self {
        // Aligned as a block would be, for bodies without a size.
        Self { memory: NonNull::without_provenance(ALIGN), capacity: 0, align: ALIGN.get(), used: 0, dropped: Vec::new() }
    }

    /// Puts a value in and gives its place in units. `drop` is what will drop it, if that is needed.
    ///
    /// # Panics
    /// When the bodies of a graph take more than 16 GiB.
    #[inline]
    pub(super) fn push<B: Send + Sync + 'static>(&mut self, body: B, drop: Option<DropAt>) -> u32 {
        let start = self.used.next_multiple_of(const { if align_of::<B>() > UNIT_BYTES { align_of::<B>() } else { UNIT_BYTES } });
        let Ok(units) = u32::try_from(start / UNIT_BYTES) else { panic!("the functions and constants of a graph take more than 16 GiB") };
        let end = start + size_of::<B>();
        if end > self.capacity || align_of::<B>() > self.align {
            self.grow(end, align_of::<B>());
        }
        // SAFETY: within the block, which `grow` has made large enough.
        let place = unsafe { self.memory.add(start) }.cast::<B>();
        // SAFETY: the place is inside the block, aligned as the block is at least as `B`, and not used yet.
        unsafe { place.write(body) };
        self.used = end;
        if let Some(drop) = drop {
            self.dropped.push((units, drop));
        }
        units
    }

    /// The address of what `push` has put into this place.
    ///
    /// # Safety
    /// `push` of this block gave the place.
    #[inline]
    pub(super) unsafe fn get(&self, units: u32) -> NonNull<u8> {
        // SAFETY: so it is within the block, or at its end for something without a size.
        unsafe { self.memory.add(units as usize * UNIT_BYTES) }
    }

    fn layout(&self) -> Layout {
        match Layout::from_size_align(self.capacity, self.align) {
            Ok(layout) => layout,
            Err(_) => unreachable!("the layout of a block that exists"),
        }
    }

    #[cold]
    fn grow(&mut self, least: usize, align: usize) {
        let factor = if self.capacity < LARGE_BYTES { 2 } else { GROWTH };
        self.resize(least.max(self.capacity * factor).max(FIRST_BYTES), align.max(self.align));
    }

    /// Gives back what no body lies in.
    pub(super) fn shrink_to_fit(&mut self) {
        if self.used > 0 {
            self.resize(self.used, self.align);
        }
    }

    /// Moves the bodies into a block of this size, which is not 0, at least as large as what is used, and aligned at least as this one.
    fn resize(&mut self, capacity: usize, align: usize) {
        let Ok(layout) = Layout::from_size_align(capacity, align) else { panic!("a graph takes more memory than there can be") };
        let memory = if self.capacity > 0 && align == self.align {
            // SAFETY: the block was allocated with `self.layout()`, and the new size is not 0.
            unsafe { realloc(self.memory.as_ptr(), self.layout(), capacity) }
        } else {
            // SAFETY: the size is not 0.
            unsafe { alloc(layout) }
        };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        if self.capacity > 0 && align != self.align {
            // SAFETY: both blocks are at least so large, and they are different allocations.
            unsafe { memory.copy_from_nonoverlapping(self.memory, self.used) };
            // SAFETY: the old block was allocated with this layout; what was in it has moved.
            unsafe { dealloc(self.memory.as_ptr(), self.layout()) };
        }
        (self.memory, self.capacity, self.align) = (memory, capacity, align);
        prefer_large(memory, capacity);
    }
}

impl Drop for Bodies {
    fn drop(&mut self) {
        for (units, drop) in std::mem::take(&mut self.dropped) {
            // SAFETY: `push` gave the place.
            let body = unsafe { self.get(units) };
            // SAFETY: `push` has put a value there with the function that drops it, and nobody can use it any more.
            unsafe { drop(body) };
        }
        if self.capacity > 0 {
            // SAFETY: the block was allocated with this layout.
            unsafe { dealloc(self.memory.as_ptr(), self.layout()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_without_a_size_are_aligned_too() {
        let mut bodies = Bodies::new();
        for _ in 0..2 {
            let units = bodies.push([0u128; 0], None);
            // SAFETY: `push` gave the place.
            assert_eq!(unsafe { bodies.get(units) }.addr().get() % align_of::<u128>(), 0);
        }
    }

    #[test]
    fn bodies_keep_their_values_while_the_block_grows_and_its_alignment_too() {
        #[repr(align(64))]
        struct Wide(u64);
        let mut bodies = Bodies::new();
        let mut small = Vec::new();
        for value in 0..1000u32 {
            small.push(bodies.push((value, 7u8), None));
        }
        let wide = bodies.push(Wide(11), None);
        let text = bodies.push(String::from("still here"), None);
        // SAFETY: `push` gave the places.
        let at = |units| unsafe { bodies.get(units) };
        assert_eq!(at(wide).addr().get() % 64, 0);
        // SAFETY: there is a `Wide`.
        assert_eq!(unsafe { at(wide).cast::<Wide>().as_ref() }.0, 11);
        for (value, units) in (0..).zip(small) {
            // SAFETY: there is a pair.
            assert_eq!(unsafe { *at(units).cast::<(u32, u8)>().as_ref() }, (value, 7));
        }
        // SAFETY: there is a string, and it is taken out once.
        assert_eq!(unsafe { at(text).cast::<String>().read() }, "still here");
    }
}
