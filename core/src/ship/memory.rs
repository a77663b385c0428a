//! The arenas of the host as another process sees them, which executes calls for it.
//!
//! An arena is mapped when its first buffer comes, twice: once to be read, for arguments, and once to be written, for blocks that the host lends. A lent
//! block belongs to this process until a reply gives it away, or gives it back.
#![expect(unsafe_code, reason = "maps memory that another process owns, and lends parts of it as that one says")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use poniard_interface::{AllocateError, Arena, ArenaFunctions, CallerLink, RawBuffer};
use rustix::mm::{MapFlags, ProtFlags};

use super::call::{Parcel, Processors, Request, of_answer};
use crate::arena::{HostArena, size_class};
use crate::wire::{Buffers, Place, WireError};

/// Bytes of lent blocks that this process keeps for what it will need.
const KEPT_MAX_BYTES: u64 = 32 << 20;

/// Whether this process executes calls for another one.
static SERVING: AtomicBool = AtomicBool::new(false);
static MEMORY: Mutex<Memory> =
    Mutex::new(Memory { arenas: BTreeMap::new(), kept: BTreeMap::new(), kept_bytes: 0, given: BTreeSet::new(), returned: Vec::new() });
/// The way to the caller, while there is a call.
static LINK: RwLock<Option<Link>> = RwLock::new(None);

/// A reference without its lifetime: see `during`.
struct Link(NonNull<dyn CallerLink>);

// SAFETY: links work on any thread (`CallerLink`).
unsafe impl Send for Link {}
// SAFETY: as for `Send`.
unsafe impl Sync for Link {}

struct Memory {
    arenas: BTreeMap<u64, Mapped>,
    /// Lent blocks that are free, by size class.
    kept: BTreeMap<u64, Vec<(u64, u64)>>,
    kept_bytes: u64,
    /// Blocks that are in the reply that is being written: (arena, offset).
    given: BTreeSet<(u64, u64)>,
    /// Blocks that are given back with the next reply.
    returned: Vec<Place>,
}

/// An arena in this process.
#[derive(Clone, Copy)]
struct Mapped {
    readable: NonNull<u8>,
    writable: NonNull<u8>,
    bytes: u64,
}

// SAFETY: the mappings are never unmapped; who may look at which part is said by the host.
unsafe impl Send for Mapped {}

fn memory() -> MutexGuard<'static, Memory> {
    // Single operations on the collections; none of them panics half-way.
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The functions of arguments: what is read where the host keeps it, and not freed here.
static READ: ArenaFunctions = ArenaFunctions { release: keep, allocate };
/// The functions of lent blocks.
static LENT: ArenaFunctions = ArenaFunctions { release, allocate };

unsafe extern "C" fn keep(_data: *mut u8, _len_bytes: u64, _arena: u64, _offset: u64) {}

unsafe extern "C" fn release(_data: *mut u8, len_bytes: u64, arena: u64, offset: u64) {
    let mut memory = memory();
    if memory.given.remove(&(arena, offset)) {
        return;
    }
    match size_class(len_bytes) {
        Some(class) if memory.kept_bytes + class <= KEPT_MAX_BYTES => {
            memory.kept_bytes += class;
            memory.kept.entry(class).or_default().push((arena, offset));
        }
        _ => memory.returned.push(Place { arena, offset, len_bytes }),
    }
}

/// # Safety
/// `place` is a place for a `RawBuffer`.
unsafe extern "C" fn allocate(len_bytes: u64, place: *mut RawBuffer) -> bool {
    match HostArena.allocate(len_bytes) {
        Ok(buffer) => {
            // SAFETY: the precondition.
            unsafe { place.write(buffer) };
            true
        }
        Err(_) => false,
    }
}

/// Lets this process ask the caller by `link` while `body` runs.
pub(super) fn during<R>(link: &dyn CallerLink, body: impl FnOnce() -> R) -> R {
    /// Forgets the link, however `body` ends, and waits for those that use it.
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            *LINK.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
    SERVING.store(true, Relaxed);
    let pointer = NonNull::from(link);
    // SAFETY: only the lifetime changes. The reference is used under the lock, where it is found only before `Forget` has taken it away, which is
    // before this function returns.
    let pointer = unsafe { std::mem::transmute::<NonNull<dyn CallerLink + '_>, NonNull<dyn CallerLink + 'static>>(pointer) };
    *LINK.write().unwrap_or_else(PoisonError::into_inner) = Some(Link(pointer));
    let _forget = Forget;
    body()
}

fn with_link<R>(look: impl FnOnce(&dyn CallerLink) -> R) -> Option<R> {
    if !SERVING.load(Relaxed) {
        return None;
    }
    let link = LINK.read().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: `during` put it in and takes it out before the reference ends; the lock keeps it from that meanwhile.
    link.as_ref().map(|link| look(unsafe { link.0.as_ref() }))
}

/// Whether the call that this process executes is to stop.
pub(crate) fn is_stopping() -> bool {
    with_link(|link| link.is_stopping()).unwrap_or(false)
}

/// Threads that wait for their turn to ask, besides the one that exchanges parcels.
static ASKING: AtomicUsize = AtomicUsize::new(0);

fn ask_for_bytes(request: &Request) -> Option<Vec<u8>> {
    ASKING.fetch_add(1, Relaxed);
    let answer = with_link(|link| link.ask(&request.to_bytes()));
    ASKING.fetch_sub(1, Relaxed);
    answer.flatten()
}

fn ask(request: &Request) -> Option<[u64; 3]> {
    ask_for_bytes(request).and_then(|bytes| of_answer(&bytes))
}

/// The processors of the host; nothing outside of calls.
pub(super) fn processors() -> Option<Processors> {
    Processors::of_bytes(&ask_for_bytes(&Request::Processors)?).ok()
}

/// Gives the host a parcel for one of its own; nothing when there is no way to it any more.
pub(super) fn exchange(parcel: Parcel) -> Option<Parcel> {
    // Others have something to do, and this thread would be the next one again and again.
    while ASKING.load(Relaxed) > 0 {
        std::thread::yield_now();
    }
    let request = Request::Exchange(parcel).to_bytes();
    Parcel::of_bytes(&with_link(|link| link.ask(&request))??).ok()
}

/// Whether this process executes calls for another one.
pub(super) fn is_serving() -> bool {
    SERVING.load(Relaxed)
}

/// A zeroed block that the host lends; none in a process that executes no call, and where the host has none.
pub(crate) fn borrow(len_bytes: u64) -> Option<Result<RawBuffer, AllocateError>> {
    if !SERVING.load(Relaxed) {
        return None;
    }
    let class = size_class(len_bytes)?;
    let kept = {
        let mut memory = memory();
        let kept = memory.kept.get_mut(&class).and_then(Vec::pop);
        if kept.is_some() {
            memory.kept_bytes -= class;
        }
        kept
    };
    let (arena, offset, clean) = match kept {
        Some((arena, offset)) => (arena, offset, false),
        None => {
            let [arena, offset, clean] = ask(&Request::Allocate { len_bytes })?;
            (arena, offset, clean == 1)
        }
    };
    Some(lent(Place { arena, offset, len_bytes }, clean).map_err(|error| AllocateError::new(len_bytes, error.to_string())))
}

fn lent(place: Place, clean: bool) -> Result<RawBuffer, WireError> {
    let mapped = mapped(place)?;
    // SAFETY: `mapped` has checked that the place lies in the arena.
    let data = unsafe { mapped.writable.add(place.offset as usize) }.as_ptr();
    if !clean {
        // SAFETY: the block is that long, mapped to be written, and lent to this process alone.
        unsafe { data.write_bytes(0, place.len_bytes as usize) };
    }
    // SAFETY: blocks begin at multiples of 64 (`mapped`), are zeroed, and the host lends each once, until `release` or a reply gives it back.
    Ok(unsafe { RawBuffer::from_raw_parts(data, place.len_bytes, place.arena, place.offset, &LENT) })
}

/// The arena of a place that lies in it.
fn mapped(place: Place) -> Result<Mapped, WireError> {
    let mut memory = memory();
    let mapped = match memory.arenas.get(&place.arena) {
        Some(mapped) => *mapped,
        None => {
            // The lock is not held while the host answers: `ask` may be called by other threads, too.
            drop(memory);
            let [process, descriptor, bytes] = ask(&Request::Map { arena: place.arena })
                .ok_or_else(|| WireError::new(format!("the host has no arena {}", place.arena)))?;
            let mapped = map(process, descriptor, bytes)
                .map_err(|error| WireError::new(format!("cannot map the arena {} of the host: {error}", place.arena)))?;
            memory = self::memory();
            *memory.arenas.entry(place.arena).or_insert(mapped)
        }
    };
    let end = place.offset.checked_add(place.len_bytes);
    if end.is_none_or(|end| end > mapped.bytes) || !place.offset.is_multiple_of(64) {
        return Err(WireError::new(format!("{place:?} is not a place in an arena of {} bytes", mapped.bytes)));
    }
    Ok(mapped)
}

/// Maps an arena by way of the descriptor that the host has of it.
fn map(process: u64, descriptor: u64, bytes: u64) -> std::io::Result<Mapped> {
    let path = format!("/proc/{process}/fd/{descriptor}");
    let place = |file: &File, protection: ProtFlags| {
        // SAFETY: a new mapping at an address of the kernel's choice; the file is as long as the mapping and is sealed against becoming shorter.
        let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes as usize, protection, MapFlags::SHARED, file, 0) }?;
        NonNull::new(start.cast::<u8>()).ok_or_else(|| std::io::Error::other("the kernel mapped it at address 0"))
    };
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    if file.metadata()?.len() < bytes {
        return Err(std::io::Error::other("it is shorter than the host says"));
    }
    Ok(Mapped { readable: place(&file, ProtFlags::READ)?, writable: place(&file, ProtFlags::READ | ProtFlags::WRITE)?, bytes })
}

/// Where a block lies that the host has lent.
fn place_of(raw: &RawBuffer) -> Option<Place> {
    raw.is_from(&LENT).then(|| Place { arena: raw.arena(), offset: raw.offset_bytes(), len_bytes: raw.len_bytes() })
}

/// Lets a lent block stay when its buffer goes, which is about to: its place, if it is one.
pub(super) fn give(raw: &RawBuffer) -> Option<Place> {
    let place = place_of(raw)?;
    memory().given.insert((place.arena, place.offset));
    Some(place)
}

/// The memory of a block that was given; nothing when its buffer has not gone after all, and then it stays that buffer's.
pub(super) fn keep_given(place: Place) -> Result<Option<RawBuffer>, WireError> {
    let still_there = memory().given.remove(&(place.arena, place.offset));
    if still_there { Ok(None) } else { received(place).map(Some) }
}

/// A block that the host has given to this process.
pub(super) fn received(place: Place) -> Result<RawBuffer, WireError> {
    lent(place, true)
}

/// The memory of the arguments of a task that another process runs: they stay where they are until that is over.
pub(super) struct Loans;

impl Buffers for Loans {
    fn send(&mut self, raw: &RawBuffer) -> Option<Place> {
        place_of(raw)
    }

    fn receive(&mut self, place: Place) -> Result<RawBuffer, WireError> {
        Err(WireError::new(format!("an argument is not received, and {place:?} came")))
    }
}

/// The memory of arguments and results in this process.
pub(super) struct FarBuffers {
    /// Arguments are copied into lent blocks, as somebody may keep them for longer than the call.
    pub(super) copies: bool,
}

impl Buffers for FarBuffers {
    fn send(&mut self, raw: &RawBuffer) -> Option<Place> {
        give(raw)
    }

    fn receive(&mut self, place: Place) -> Result<RawBuffer, WireError> {
        let mapped = mapped(place)?;
        // SAFETY: `mapped` has checked that the place lies in the arena.
        let data = unsafe { mapped.readable.add(place.offset as usize) }.as_ptr();
        // SAFETY: the host keeps the block and nobody writes to it during the call. It is only read here, although the type would allow more: whoever
        // receives it shares it until the call is over (`Slot::receive`), or gets the copy below. Blocks begin at multiples of 64 (`mapped`).
        let read = unsafe { RawBuffer::from_raw_parts(data, place.len_bytes, place.arena, place.offset, &READ) };
        if !self.copies {
            return Ok(read);
        }
        let mut copy = crate::arena::allocate(place.len_bytes).map_err(|error| WireError::new(error.to_string()))?;
        copy.as_bytes_mut().copy_from_slice(read.as_bytes());
        Ok(copy)
    }

    fn copies(&mut self, copies: bool) -> bool {
        std::mem::replace(&mut self.copies, copies)
    }
}

/// The blocks that are given back with the reply that is being written.
pub(super) fn take_returned() -> Vec<Place> {
    std::mem::take(&mut memory().returned)
}
