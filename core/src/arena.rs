//! Memory for large data: shared-memory files, lent in blocks and recycled by size class.
//!
//! The first write to a fresh page of a shared-memory file costs a page fault and the clearing of the page; a recycled block costs the clearing alone.
//! So a block goes back to the list of its size class, never to the kernel. A block is named by (arena, offset), which means the same in every process
//! that maps the arena. On systems without `memfd_create` the memory is anonymous and private.
#![expect(unsafe_code, reason = "maps shared memory and lends parts of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use poniard_interface::{AllocateError, Arena, ArenaFunctions, RawBuffer};
use rustix::mm::{MapFlags, ProtFlags};

use crate::ship::memory;
use crate::wire::Place;

/// Smallest block, and the alignment of all.
const BLOCK_MIN_BYTES: u64 = 64;
/// Size of an arena; what is larger gets an arena of its own.
const ARENA_BYTES: u64 = 64 << 20;

/// The arenas of this process, as an allocator of [`Buffer`](crate::Buffer)s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostArena;

/// `len_bytes` zeroed bytes.
pub(crate) fn allocate(len_bytes: u64) -> Result<RawBuffer, AllocateError> {
    HostArena.allocate(len_bytes)
}

/// The process's arenas. One mutex: a block is at least thousands of times more work to fill than to find.
static ARENAS: Mutex<Arenas> = Mutex::new(Arenas { mapped: Vec::new(), free: BTreeMap::new(), current: None, given: BTreeSet::new() });

struct Arenas {
    mapped: Vec<Mapped>,
    /// Free blocks, by size: (arena, offset).
    free: BTreeMap<u64, Vec<(usize, u64)>>,
    /// The arena that new blocks are cut from, and how much of it is used.
    current: Option<(usize, u64)>,
    /// Blocks that are not free when their buffer goes: somebody else has their place then.
    given: BTreeSet<(u64, u64)>,
}

struct Mapped {
    start: NonNull<u8>,
    bytes: u64,
    /// By which other processes map it, too. None where there is no file.
    file: Option<OwnedFd>,
}

// SAFETY: the mapping is never unmapped, and its parts are lent to one owner each.
unsafe impl Send for Mapped {}

impl Arena for HostArena {
    fn allocate(&self, len_bytes: u64) -> Result<RawBuffer, AllocateError> {
        // In a process that executes calls for another one, the memory is that one's.
        if let Some(borrowed) = memory::borrow(len_bytes) {
            return borrowed;
        }
        let (place, clean) = lend(len_bytes)?;
        let mut raw = take_back(place);
        if !clean {
            raw.as_bytes_mut().fill(0);
        }
        Ok(raw)
    }
}

/// A block for whoever knows it by its place; whether its bytes are all zero. It is free again when `take_back` has made a buffer of it and that goes.
pub(crate) fn lend(len_bytes: u64) -> Result<(Place, bool), AllocateError> {
    let class = size_class(len_bytes).ok_or_else(|| AllocateError::new(len_bytes, "the size overflows"))?;
    let mut arenas = ARENAS.lock().unwrap_or_else(PoisonError::into_inner);
    let recycled = arenas.free.get_mut(&class).and_then(Vec::pop);
    let (arena, offset) = match recycled {
        Some(block) => block,
        None => arenas.cut(class).map_err(|error| AllocateError::new(len_bytes, error.to_string()))?,
    };
    Ok((Place { arena: arena as u64, offset, len_bytes }, recycled.is_none()))
}

/// The memory of a block that `lend` gave out. Whoever had it does not use it any more.
pub(crate) fn take_back(place: Place) -> RawBuffer {
    let start = ARENAS.lock().unwrap_or_else(PoisonError::into_inner).mapped[place.arena as usize].start;
    // SAFETY: the place lies within the arena (`cut`), so it is inside one mapping.
    let data = unsafe { start.add(place.offset as usize) }.as_ptr();
    // SAFETY: blocks begin at multiples of 64 in a page-aligned mapping; the bytes are initialised (fresh pages are zero) and nobody else's
    // until `release` puts the block back into its list.
    unsafe { RawBuffer::from_raw_parts(data, place.len_bytes, place.arena, place.offset, &FUNCTIONS) }
}

/// Where the memory of a buffer lies, if it is of an arena of this process.
pub(crate) fn place_of(raw: &RawBuffer) -> Option<Place> {
    raw.is_from(&FUNCTIONS).then(|| Place { arena: raw.arena(), offset: raw.offset_bytes(), len_bytes: raw.len_bytes() })
}

/// Lets a block stay when its buffer goes, which is about to; its place, if it is of an arena of this process. Then `keep_given` makes another buffer of it.
pub(crate) fn give(raw: &RawBuffer) -> Option<Place> {
    let place = place_of(raw)?;
    ARENAS.lock().unwrap_or_else(PoisonError::into_inner).given.insert((place.arena, place.offset));
    Some(place)
}

/// The memory of a block that was given; nothing when its buffer has not gone after all, and then it stays that buffer's.
pub(crate) fn keep_given(place: Place) -> Option<RawBuffer> {
    let still_there = ARENAS.lock().unwrap_or_else(PoisonError::into_inner).given.remove(&(place.arena, place.offset));
    (!still_there).then(|| take_back(place))
}

/// A look at memory that somebody else keeps for as long; nothing where there is none.
pub(crate) fn view(place: Place) -> Option<RawBuffer> {
    let arenas = ARENAS.lock().unwrap_or_else(PoisonError::into_inner);
    let mapped = arenas.mapped.get(usize::try_from(place.arena).ok()?)?;
    if place.offset.checked_add(place.len_bytes)? > mapped.bytes || !place.offset.is_multiple_of(BLOCK_MIN_BYTES) {
        return None;
    }
    // SAFETY: the place lies within the arena, as was just checked, so it is inside one mapping.
    let data = unsafe { mapped.start.add(place.offset as usize) }.as_ptr();
    // SAFETY: aligned and inside the mapping, as above, whose bytes are initialised. Whoever receives it only reads it, and whoever owns it keeps it unchanged
    // until the call is over (`ship::offer`); it is not freed.
    Some(unsafe { RawBuffer::from_raw_parts(data, place.len_bytes, place.arena, place.offset, &VIEW) })
}

/// The descriptor of an arena, and its length in bytes.
pub(crate) fn descriptor_of(arena: u64) -> Option<(u64, u64)> {
    let arenas = ARENAS.lock().unwrap_or_else(PoisonError::into_inner);
    let mapped = arenas.mapped.get(usize::try_from(arena).ok()?)?;
    let file = mapped.file.as_ref()?;
    Some((file.as_raw_fd() as u64, mapped.bytes))
}

impl Arenas {
    /// A new block of `class` bytes.
    fn cut(&mut self, class: u64) -> std::io::Result<(usize, u64)> {
        if let Some((arena, used)) = self.current
            && class <= ARENA_BYTES - used
        {
            self.current = Some((arena, used + class));
            return Ok((arena, used));
        }
        let bytes = class.max(ARENA_BYTES);
        let arena = self.mapped.len();
        self.mapped.push(map(arena, bytes)?);
        if class < ARENA_BYTES {
            // What is left of the arena before is given up: less than one block of this class, and it has no pages yet.
            self.current = Some((arena, class));
        }
        Ok((arena, 0))
    }
}

static FUNCTIONS: ArenaFunctions = ArenaFunctions { release, allocate: allocate_for_holder };

/// The functions of what is only looked at.
static VIEW: ArenaFunctions = ArenaFunctions { release: keep, allocate: allocate_for_holder };

unsafe extern "C" fn keep(_data: *mut u8, _len_bytes: u64, _arena: u64, _offset: u64) {}

/// `HostArena::allocate` for whoever holds a block and not the arena.
unsafe extern "C" fn allocate_for_holder(len_bytes: u64, place: *mut RawBuffer) -> bool {
    match HostArena.allocate(len_bytes) {
        Ok(buffer) => {
            // SAFETY: the caller gives a place for a `RawBuffer`.
            unsafe { place.write(buffer) };
            true
        }
        Err(_) => false,
    }
}

/// Puts a block back into the list of its class.
unsafe extern "C" fn release(_data: *mut u8, len_bytes: u64, arena: u64, offset: u64) {
    let Some(class) = size_class(len_bytes) else { return };
    let mut arenas = ARENAS.lock().unwrap_or_else(PoisonError::into_inner);
    if !arenas.given.remove(&(arena, offset)) {
        arenas.free.entry(class).or_default().push((arena as usize, offset));
    }
}

/// `len_bytes` rounded up to a power of two or a quarter on the way to the next: at most a fifth is wasted.
pub(crate) fn size_class(len_bytes: u64) -> Option<u64> {
    let len_bytes = len_bytes.max(BLOCK_MIN_BYTES);
    let step = (len_bytes.checked_next_power_of_two()? / 8).max(BLOCK_MIN_BYTES);
    len_bytes.checked_next_multiple_of(step).filter(|class| *class <= isize::MAX as u64 / 2)
}

/// Maps a new arena. Its pages come into being when they are first written.
fn map(arena: usize, bytes: u64) -> std::io::Result<Mapped> {
    let flags = ProtFlags::READ | ProtFlags::WRITE;
    #[cfg(target_os = "linux")]
    let (start, file) = {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
        let file = memfd_create(format!("poniard-arena-{arena}"), MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, bytes)?;
        // Whoever maps it, too, cannot make it shorter.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::SEAL)?;
        // SAFETY: a new mapping at an address of the kernel's choice; the file is as long as the mapping and is never shortened.
        let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes as usize, flags, MapFlags::SHARED, &file, 0) }?;
        (start, Some(file))
    };
    #[cfg(not(target_os = "linux"))]
    let (start, file) = {
        let _ = arena;
        // SAFETY: a new mapping at an address of the kernel's choice.
        (unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes as usize, flags, MapFlags::PRIVATE) }?, None)
    };
    NonNull::new(start.cast::<u8>())
        .map(|start| Mapped { start, bytes, file })
        .ok_or_else(|| std::io::Error::other("the kernel mapped it at address 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_waste_at_most_a_fifth_and_keep_the_alignment() {
        for len in (0..4096).chain([65_535, 65_536, 65_537, 1 << 30, (1 << 30) + 1]) {
            let class = size_class(len).expect("no overflow");
            assert!(class >= len && class.is_multiple_of(BLOCK_MIN_BYTES), "{len} -> {class}");
            assert!(class <= (len + len / 4).max(len + BLOCK_MIN_BYTES), "{len} -> {class}");
        }
        assert_eq!(size_class(u64::MAX), None);
    }

    #[test]
    fn a_recycled_block_is_zero_again() {
        // A size that no other test uses, so that the list of its class is this test's own.
        const LEN: u64 = 777_777;
        let mut first = HostArena.allocate(LEN).expect("room");
        first.as_bytes_mut().fill(0xff);
        let place = (first.arena(), first.offset_bytes());
        drop(first);
        let second = HostArena.allocate(LEN).expect("room");
        assert_eq!((second.arena(), second.offset_bytes()), place);
        assert!(second.as_bytes().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_block_that_was_given_has_another_buffer_once_its_own_has_gone() {
        // A size that no other test uses.
        let mut buffer = HostArena.allocate(555_555).expect("room");
        buffer.as_bytes_mut()[7] = 9;
        let place = give(&buffer).expect("it is of this process");
        assert!(keep_given(place).is_none(), "its buffer is there");
        give(&buffer).expect("as before");
        drop(buffer);
        let other = HostArena.allocate(555_555).expect("room");
        assert_ne!(place_of(&other), Some(place), "it is not free");
        assert_eq!(keep_given(place).expect("its buffer has gone").as_bytes()[7], 9);
    }

    #[test]
    fn a_look_reaches_no_further_than_the_arena() {
        let buffer = HostArena.allocate(64).expect("room");
        let place = place_of(&buffer).expect("it is of this process");
        assert_eq!(view(place).expect("it is there").as_bytes(), buffer.as_bytes());
        for wrong in [
            Place { arena: u64::MAX, ..place },
            Place { offset: place.offset + 1, ..place },
            Place { len_bytes: u64::MAX, ..place },
            Place { len_bytes: ARENA_BYTES + 1, ..place },
        ] {
            assert!(view(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_an_error() {
        let error = HostArena.allocate(1 << 60).expect_err("no machine has that much");
        assert!(error.to_string().contains("1152921504606846976 bytes"), "{error}");
    }
}
