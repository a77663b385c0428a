//! The arenas of the host as another process sees them, which executes calls for it.
//!
//! An arena is mapped when its first buffer comes, twice: once to be read, for arguments, and once to be written, for blocks that the host lends. A lent
//! block belongs to this process until a reply gives it away, or gives it back.
#![expect(unsafe_code, reason = "maps memory that another process owns, and lends parts of it as that one says")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use poniard_interface::{AllocateError, ArenaFunctions, CallerLink, RawBuffer};
use rustix::mm::{MapFlags, ProtFlags};

use super::call::{Parcel, Processors, Request, of_answer, reason_of};
use super::values;
use crate::arena::{allocate_as, copy_of, size_class};
use crate::wire::{Buffers, Kept, Place, WireError};

/// Bytes of lent blocks that this process keeps for the next calls. In the middle of one it keeps all.
const KEPT_MAX_BYTES: u64 = 32 << 20;

/// Whether this process executes calls for another one.
static SERVING: AtomicBool = AtomicBool::new(false);
static MEMORY: Mutex<Memory> = Mutex::new(Memory {
    arenas: BTreeMap::new(),
    kept: BTreeMap::new(),
    kept_bytes: 0,
    keeps_nothing: false,
    handed: BTreeSet::new(),
    given: BTreeSet::new(),
    returned: Vec::new(),
});
/// Bytes of arguments that were copied in this process since it was last asked.
static COPIED_BYTES: AtomicU64 = AtomicU64::new(0);
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
    /// Whether all that is kept goes back with the next reply.
    keeps_nothing: bool,
    /// Blocks that the call has handed over, and that nobody has given up yet: (arena, offset). They go back with its reply, so that the host may have them again.
    handed: BTreeSet<(u64, u64)>,
    /// Blocks that are in the reply that is being written: (arena, offset).
    given: BTreeSet<(u64, u64)>,
    /// Blocks that were handed over and are given back with the next reply.
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
static READ: ArenaFunctions = ArenaFunctions { release: keep, allocate: allocate_copy, changes };
/// The functions of lent blocks.
static LENT: ArenaFunctions = ArenaFunctions { release, allocate, changes };

/// Nobody here has replicas of it.
unsafe extern "C" fn changes(_len_bytes: u64, _arena: u64, _offset: u64) -> bool {
    true
}

unsafe extern "C" fn keep(_data: *mut u8, _len_bytes: u64, _arena: u64, _offset: u64) {}

unsafe extern "C" fn release(_data: *mut u8, len_bytes: u64, arena: u64, offset: u64) {
    let mut memory = memory();
    let handed = memory.handed.remove(&(arena, offset));
    if memory.given.remove(&(arena, offset)) {
        return;
    }
    if handed {
        // Not kept: if the call gives no value, the host's value has it again.
        memory.returned.push(Place { arena, offset, len_bytes });
        return;
    }
    let Some(class) = size_class(len_bytes) else { return };
    memory.kept_bytes += class;
    memory.kept.entry(class).or_default().push((arena, offset));
}

/// # Safety
/// `place` is a place for a `RawBuffer`.
unsafe extern "C" fn allocate_copy(len_bytes: u64, zeroed: bool, place: *mut RawBuffer) -> bool {
    // Whoever asks by way of an argument copies it.
    COPIED_BYTES.fetch_add(len_bytes, Relaxed);
    // SAFETY: the precondition.
    unsafe { allocate(len_bytes, zeroed, place) }
}

/// # Safety
/// `place` is a place for a `RawBuffer`.
unsafe extern "C" fn allocate(len_bytes: u64, zeroed: bool, place: *mut RawBuffer) -> bool {
    match allocate_as(len_bytes, zeroed) {
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

fn answer_to(request: &Request) -> Option<Vec<u8>> {
    ASKING.fetch_add(1, Relaxed);
    let answer = with_link(|link| link.ask(&request.to_bytes()));
    ASKING.fetch_sub(1, Relaxed);
    answer.flatten()
}

/// Asks the host for numbers; nothing when there is no call, or no host any more. An error is why the host refuses.
pub(super) fn ask(request: &Request) -> Option<Result<[u64; 3], String>> {
    let answer = answer_to(request)?;
    Some(of_answer(&answer).ok_or_else(|| reason_of(&answer)))
}

/// The processors of the host; nothing outside of calls.
pub(super) fn processors() -> Option<Processors> {
    Processors::of_bytes(&answer_to(&Request::Processors)?).ok()
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

/// What the host answers, if it can; an answer that is no number.
pub(super) fn ask_bytes(request: &Request) -> Option<Vec<u8>> {
    answer_to(request).filter(|bytes| !bytes.is_empty())
}

/// A block that the host lends, zeroed if so wanted; none in a process that executes no call.
pub(crate) fn borrow(len_bytes: u64, zeroed: bool) -> Option<Result<RawBuffer, AllocateError>> {
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
            let mut answer = ask(&Request::Allocate { len_bytes })?;
            // What is kept here, of other sizes, may be what the host is short of.
            if answer.is_err() && return_kept() {
                answer = ask(&Request::Allocate { len_bytes })?;
            }
            match answer {
                Ok([arena, offset, clean]) => (arena, offset, clean == 1),
                Err(reason) => return Some(Err(AllocateError::new(len_bytes, reason))),
            }
        }
    };
    Some(lent(Place { arena, offset, len_bytes }, clean || !zeroed).map_err(|error| AllocateError::new(len_bytes, error.to_string())))
}

/// The memory of a block that this process may write to.
fn lent(place: Place, clean: bool) -> Result<RawBuffer, WireError> {
    let mapped = mapped(place)?;
    // SAFETY: `mapped` has checked that the place lies in the arena.
    let data = unsafe { mapped.writable.add(place.offset as usize) }.as_ptr();
    if !clean {
        // SAFETY: the block is that long, mapped to be written, and lent to this process alone.
        unsafe { data.write_bytes(0, place.len_bytes as usize) };
    }
    // SAFETY: blocks begin at multiples of 64 (`mapped`), have been initialised, and the host lends each once, until `release` or a reply gives it back.
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
            let answer = ask(&Request::Map { arena: place.arena }).and_then(Result::ok);
            let [process, descriptor, bytes] = answer.ok_or_else(|| WireError::new(format!("the host has no arena {}", place.arena)))?;
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

    fn hands_over(&self) -> bool {
        false
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
        COPIED_BYTES.fetch_add(place.len_bytes, Relaxed);
        copy_of(read.as_bytes()).map_err(|error| WireError::new(error.to_string()))
    }

    fn receive_handed(&mut self, place: Place) -> Result<RawBuffer, WireError> {
        let block = lent(place, true)?;
        memory().handed.insert((place.arena, place.offset));
        Ok(block)
    }

    fn borrow(&mut self, place: Place, writes: bool) -> Result<NonNull<u8>, WireError> {
        let mapped = mapped(place)?;
        let arena = if writes { mapped.writable } else { mapped.readable };
        // SAFETY: `mapped` has checked that the place lies in the arena.
        Ok(unsafe { arena.add(place.offset as usize) })
    }

    fn copies(&mut self, copies: bool) -> bool {
        std::mem::replace(&mut self.copies, copies)
    }

    fn find(&mut self, number: u64) -> Option<Kept> {
        values::find(number)
    }

    fn keep(&mut self, number: u64, value: Kept, len_bytes: u64) {
        values::keep(number, value, len_bytes);
    }

    fn fetch(&mut self, number: u64) -> Option<Vec<u8>> {
        ask_bytes(&Request::Value { number })
    }
}

/// A call begins. What was handed over before and has not been given up is this process's, like what was lent.
pub(super) fn begin() {
    memory().handed.clear();
    COPIED_BYTES.store(0, Relaxed);
}

/// Whether somebody has kept what the call has handed over.
pub(super) fn keeps_handed() -> bool {
    !memory().handed.is_empty()
}

/// Bytes of arguments that were copied in this process since the call began.
pub(super) fn copied_bytes() -> u64 {
    COPIED_BYTES.load(Relaxed)
}

/// Says whether all that is kept goes back with the reply.
pub(crate) fn keep_nothing(keeps_nothing: bool) {
    memory().keeps_nothing = keeps_nothing;
}

/// Gives back at once what is kept; whether that was anything.
fn return_kept() -> bool {
    let places = memory().take_kept();
    for place in &places {
        // Without a host there is nothing to give back to.
        let _ = ask(&Request::Return { place: *place });
    }
    !places.is_empty()
}

/// The blocks that are given back with the reply that is being written.
pub(super) fn take_returned() -> Vec<Place> {
    let mut memory = memory();
    let mut places = std::mem::take(&mut memory.returned);
    if memory.keeps_nothing || memory.kept_bytes > KEPT_MAX_BYTES {
        places.extend(memory.take_kept());
    }
    places
}

impl Memory {
    fn take_kept(&mut self) -> Vec<Place> {
        self.kept_bytes = 0;
        let kept = std::mem::take(&mut self.kept).into_iter();
        let places = |(class, blocks): (u64, Vec<(u64, u64)>)| {
            blocks.into_iter().map(move |(arena, offset)| Place { arena, offset, len_bytes: class })
        };
        kept.flat_map(places).collect()
    }
}
