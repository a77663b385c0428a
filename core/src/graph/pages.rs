//! Large pages for large arrays: most of what it costs to fill fresh memory is the kernel's work for each page.
#![expect(unsafe_code, reason = "tells the kernel about memory")]

use std::ptr::NonNull;

/// Size and alignment of a large page.
const PAGE_BYTES: usize = 2 << 20;

/// Asks the kernel for large pages for memory that is going to be filled from its beginning. No more than a wish: nothing changes but time.
pub(super) fn prefer_large(start: NonNull<u8>, len_bytes: usize) {
    if len_bytes < 2 * PAGE_BYTES {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::mm::{Advice, madvise};
        let skipped = start.addr().get().wrapping_neg() % PAGE_BYTES;
        let whole_bytes = (len_bytes - skipped) / PAGE_BYTES * PAGE_BYTES;
        // SAFETY: within the memory that the caller has.
        let first = unsafe { start.add(skipped) };
        // A kernel without large pages says so, and that changes nothing either.
        // SAFETY: this advice changes nothing that a program can see.
        let _ = unsafe { madvise(first.as_ptr().cast(), whole_bytes, Advice::LinuxHugepage) };
    }
}

/// The same for the room that a list has.
pub(super) fn prefer_large_for<T>(list: &mut Vec<T>) {
    let len_bytes = list.capacity() * size_of::<T>();
    if let Some(start) = NonNull::new(list.as_mut_ptr()) {
        prefer_large(start.cast(), len_bytes);
    }
}
