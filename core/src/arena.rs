//! Memory for large data: shared-memory files, lent in blocks and recycled by size class.
//!
//! The first write to a fresh page of a shared-memory file costs a page fault and the clearing of the page; a recycled block costs the clearing alone.
//! So a block goes back to the list of its size class. Only when nobody has wanted it for a while, or when memory is short, do its pages go to the kernel: a hole is
//! punched into the file, which leaves the mappings of all processes as they are, and the block is zero. A block is named by (arena, offset), which means the
//! same in every process that maps the arena. On systems without `memfd_create` the memory is anonymous and private, and stays.
//!
//! What is in use and what is kept for the next one is limited together; blocks without pages do not count. Where there is no room, others are spilled (`spill`).
//!
//! One file because each list and the count of its bytes change together.
#![expect(unsafe_code, reason = "maps shared memory and lends parts of it")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use poniard_interface::{AllocateError, Arena, ArenaFunctions, HostBlock, RawBuffer};
use rustix::mm::{MapFlags, ProtFlags};

use crate::buffer::MemoryUsage;
use crate::clock::now;
use crate::ship::memory;
use crate::wire::Place;
use crate::worker::context::Context;
use crate::worker::stopwatch;
use crate::{machine, platform, residency, spill, timer};

/// Smallest block, and the alignment of all.
const BLOCK_MIN_BYTES: u64 = 64;
/// Size of an arena; what is larger gets an arena of its own.
const ARENA_BYTES: u64 = 64 << 20;
/// Time between two looks for blocks that nobody wants: one goes back to the kernel when it has not been used for one to two of them.
const ROUND: Duration = Duration::from_secs(1);
/// As long as no more is kept, nobody looks.
const UNWATCHED_BYTES: u64 = 1 << 20;
/// Given back in one step, as the lock is held meanwhile: about a millisecond's work.
const STEP_BYTES: u64 = 4 << 20;
/// How long one who waits for memory sleeps at a time.
const MEMORY_LOOK: Duration = Duration::from_millis(5);
/// How long he waits while no task finishes.
const MEMORY_PATIENCE: Duration = Duration::from_secs(20);

/// The arenas of this process, as an allocator of [`Buffer`](crate::Buffer)s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostArena;

/// The same bytes in a block. Each is written once.
pub(crate) fn copy_of(bytes: &[u8]) -> Result<RawBuffer, AllocateError> {
    let mut raw = allocate_as(bytes.len() as u64, false)?;
    raw.as_bytes_mut().copy_from_slice(bytes);
    Ok(raw)
}

/// `len_bytes` bytes: zero, or with `zeroed` false what was there before.
pub(crate) fn allocate_as(len_bytes: u64, zeroed: bool) -> Result<RawBuffer, AllocateError> {
    // In a process that executes calls for another one, the memory is that one's.
    if let Some(borrowed) = memory::borrow(len_bytes, zeroed) {
        return borrowed;
    }
    let (place, clean) = lend(len_bytes)?;
    let mut raw = take_back(place);
    if zeroed && !clean {
        raw.as_bytes_mut().fill(0);
    }
    Ok(raw)
}

/// The process's arenas. One mutex: a block is at least thousands of times more work to fill than to find.
static ARENAS: Mutex<Arenas> = Mutex::new(Arenas::new());

/// `Arenas::is_tight` of the process's arenas, for those that ask often.
static TIGHT: AtomicBool = AtomicBool::new(false);
/// The same of `Arenas::is_filling`, and of `Arenas::is_short`.
static FILLING: AtomicBool = AtomicBool::new(false);
static SHORT: AtomicBool = AtomicBool::new(false);
/// Workers that wait for memory, and what tells them.
static WAITING: AtomicUsize = AtomicUsize::new(0);
static FREED: Condvar = Condvar::new();

struct Arenas {
    mapped: Vec<Mapped>,
    /// By size class.
    free: BTreeMap<u64, Free>,
    /// Blocks with two owners: the value that they lie in, and a process that was handed them. The first one to give such a block up does not free it.
    handed: BTreeSet<(usize, u64)>,
    /// The arena that new blocks are cut from, and how much of it is used.
    current: Option<(usize, u64)>,
    in_use_bytes: u64,
    /// Of free blocks, what still has pages.
    kept_bytes: u64,
    /// The most that both have been together.
    peak_bytes: u64,
    /// Ever given back to the kernel.
    given_back_bytes: u64,
    /// None until the machine has been asked.
    limit_bytes: Option<u64>,
    /// Counts the looks of `look`.
    round: u64,
    /// Whether the look that goes on has found something, so that the next call belongs to it.
    gives: bool,
    /// Whether somebody will look.
    is_watched: bool,
    /// Blocks that are not free when their buffer goes: somebody else has their place then.
    given: BTreeSet<(u64, u64)>,
}

/// The free blocks of a size class.
#[derive(Default)]
struct Free {
    /// Those with what was written to them: used for the last time longest ago first. The last one is lent next, so the others grow old.
    kept: VecDeque<Kept>,
    /// (arena, offset) of those that are zero and have no pages.
    clean: Vec<(usize, u64)>,
}

#[derive(Clone, Copy)]
struct Kept {
    arena: usize,
    offset: u64,
    /// The round in which it was given up.
    round: u64,
    /// So much of it, from its beginning, has been given back.
    given_back_bytes: u64,
}

struct Mapped {
    start: NonNull<u8>,
    bytes: u64,
    /// By which other processes map it, too. None where there is no file.
    file: Option<Arc<OwnedFd>>,
    /// Its pages are a device's, too: one that was given back to the kernel would not be the device's any more.
    is_pinned: bool,
}

impl Mapped {
    fn addresses(&self) -> Range<usize> {
        let start = self.start.addr().get();
        start..start + self.bytes as usize
    }
}

// SAFETY: the mapping is never unmapped, and its parts are lent to one owner each.
unsafe impl Send for Mapped {}

fn arenas() -> MutexGuard<'static, Arenas> {
    // Nothing panics under the lock while something is half changed.
    ARENAS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arena for HostArena {
    fn allocate(&self, len_bytes: u64) -> Result<RawBuffer, AllocateError> {
        allocate_as(len_bytes, true)
    }
}

/// A block for whoever knows it by its place; whether its bytes are all zero. It is free again when `take_back` has made a buffer of it and that goes. Where there is
/// no room, blocks that are not needed just now go to the disk for it.
pub(crate) fn lend(len_bytes: u64) -> Result<(Place, bool), AllocateError> {
    let mut waiting = None;
    loop {
        let (refused, short) = {
            let mut arenas = arenas();
            let lent = arenas.lend(len_bytes);
            arenas.tell();
            let short = size_class(len_bytes).filter(|class| *class <= arenas.limit_bytes() && arenas.short_of(*class) > 0);
            match lent {
                Ok(lent) => return Ok(lent),
                Err(error) => (error, short),
            }
        };
        // What is too large by itself does not fit however much goes.
        let Some(class) = short else { return Err(refused) };
        if let Err(reason) = spill::make_room(class) {
            if waiting.get_or_insert_with(Waiting::begin).wait() {
                continue;
            }
            let spilled_bytes = spill::usage().away_bytes;
            let reason = format!("{}; {spilled_bytes} bytes are on the disk, and no more can go there: {reason}", refused.reason);
            return Err(AllocateError::new(len_bytes, reason));
        }
    }
}

/// A worker that waits for memory which others are working with.
struct Waiting {
    /// How many tasks of the runtime had finished, and since when no other has.
    finished: Option<u64>,
    since: Instant,
}

impl Waiting {
    fn begin() -> Self {
        WAITING.fetch_add(1, SeqCst);
        Self { finished: None, since: now() }
    }

    /// Waits until there may be more room. False when nobody is left who could make some, as all that work on this runtime wait for it, too; when this thread holds locks
    /// that they may need; and when nothing has finished for so long that they may be waiting for something that this thread's task holds.
    fn wait(&mut self) -> bool {
        let others = Context::with(|context| {
            let shared = &context?.shared;
            Some((shared.busy_count(), shared.finished()))
        });
        // On a platform all threads would wait with this one.
        let others = others.filter(|_| !residency::holds_locks() && !platform::is_logical());
        let Some((busy_count, finished)) = others else { return false };
        if self.finished.replace(finished) != Some(finished) {
            self.since = now();
        }
        let hopes = busy_count > WAITING.load(SeqCst) && self.since.elapsed() < MEMORY_PATIENCE;
        if hopes {
            // What others do besides giving memory up is not told: hence the look at times.
            stopwatch::aside(|| drop(FREED.wait_timeout(arenas(), MEMORY_LOOK)));
        }
        hopes
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, SeqCst);
    }
}

/// Whoever waits for memory looks again.
pub(crate) fn tell_waiting() {
    if WAITING.load(SeqCst) > 0 {
        FREED.notify_all();
    }
}

/// How many bytes have to go before there is room for so many more.
#[cfg(target_os = "linux")]
pub(crate) fn short_of(more_bytes: u64) -> u64 {
    arenas().short_of(more_bytes)
}

/// Sets memory aside for a block that comes back from the disk, if there is room; with `to_the_limit` false only if it is left half empty by that.
#[cfg(target_os = "linux")]
pub(crate) fn reserve(class: u64, to_the_limit: bool) -> bool {
    let mut arenas = arenas();
    let margin_bytes = if to_the_limit { 0 } else { arenas.limit_bytes() / 4 };
    let fits = arenas.short_of(class.saturating_add(margin_bytes)) == 0;
    if fits {
        arenas.reserve(class);
    }
    fits
}

/// The same, room or not.
#[cfg(target_os = "linux")]
pub(crate) fn reserve_above(class: u64) {
    arenas().reserve(class);
}

/// A block has no memory any more, as it is on the disk.
#[cfg(target_os = "linux")]
pub(crate) fn unreserve(class: u64) {
    let mut arenas = arenas();
    arenas.in_use_bytes -= class;
    arenas.tell();
}

/// Where a block lies, with the file of its arena; nothing if that has none.
#[cfg(target_os = "linux")]
pub(crate) fn locate(place: Place) -> Option<spill::Location> {
    let arenas = arenas();
    let mapped = arenas.mapped.get(place.arena as usize)?;
    let len_bytes = size_class(place.len_bytes)?;
    // SAFETY: the place lies within the arena (`cut`), so it is inside one mapping.
    let start = unsafe { mapped.start.add(place.offset as usize) };
    Some(spill::Location { start, len_bytes, arena: Arc::clone(mapped.file.as_ref()?), offset: place.offset, is_pinned: mapped.is_pinned })
}

/// Whether so much is in use that blocks are worth a note of who may be spilled.
#[inline]
pub(crate) fn is_filling() -> bool {
    FILLING.load(Relaxed)
}

/// Whether so much is in use that what gives memory up goes before what takes more of it.
#[inline]
pub(crate) fn is_short() -> bool {
    // Logical threads have no part in the memory of the process.
    SHORT.load(Relaxed) && !platform::is_logical()
}

/// While that is so, how much buffers have, in memory and on the disk.
pub(crate) fn live_bytes_if_short() -> Option<u64> {
    is_short().then(|| arenas().in_use_bytes + spill::usage().away_bytes)
}

/// Waits until memory may have been given up, and no longer than this.
pub(crate) fn wait_for_memory(most: Duration) {
    drop(FREED.wait_timeout(arenas(), most));
}

/// A buffer of no bytes, as long as which a hold lasts (`spill::hold`).
#[cfg(target_os = "linux")]
pub(crate) fn hold_of(id: u64) -> RawBuffer {
    let aligned = std::ptr::without_provenance_mut(BLOCK_MIN_BYTES as usize);
    // SAFETY: no bytes lie at any address; what `let_go` takes it for is what was given here.
    unsafe { RawBuffer::from_raw_parts(aligned, 0, 0, id, &HOLD) }
}

/// Whether so much is in use that nobody should keep memory for later.
pub(crate) fn is_tight() -> bool {
    TIGHT.load(Relaxed)
}

/// Lends a block that lies in a value, too. It is free when both `take_back` has made a buffer of it that is gone, and the value's buffer is.
pub(crate) fn hand_over(place: Place) {
    arenas().handed.insert((place.arena as usize, place.offset));
}

/// The memory of a block that `lend` or `hand_over` gave out. Whoever had it does not use it any more.
pub(crate) fn take_back(place: Place) -> RawBuffer {
    let start = arenas().mapped[place.arena as usize].start;
    // SAFETY: the place lies within the arena (`cut`), so it is inside one mapping.
    let data = unsafe { start.add(place.offset as usize) }.as_ptr();
    // SAFETY: blocks begin at multiples of 64 in a page-aligned mapping; the bytes are initialised (fresh pages are zero) and nobody else's
    // until `release` puts the block back into its list. The value that has a block that was handed over is not looked at any more (`Slots::take_back`), or this
    // buffer is dropped at once (`Grants`).
    let raw = unsafe { RawBuffer::from_raw_parts(data, place.len_bytes, place.arena, place.offset, &FUNCTIONS) };
    let key = (place.arena, place.offset);
    if residency::is_known(key) || spill::is_known(key) {
        raw.note_replicas();
    }
    raw
}

/// Where a block lies, for a device.
pub(crate) fn host_block(place: Place) -> HostBlock {
    let arenas = arenas();
    let mapped = &arenas.mapped[place.arena as usize];
    let start = mapped.start.addr().get() as u64;
    HostBlock { address: start + place.offset, len_bytes: place.len_bytes, arena_address: start, arena_bytes: mapped.bytes }
}

/// The first byte of a block.
pub(crate) fn first_byte(place: Place) -> *mut u8 {
    let start = arenas().mapped[place.arena as usize].start;
    start.as_ptr().wrapping_add(place.offset as usize)
}

/// The bytes of a block.
///
/// # Safety
/// Somebody has a buffer of the block as long as the bytes are used, and nobody else reads or writes them.
pub(crate) unsafe fn bytes_of<'a>(place: Place) -> &'a mut [u8] {
    // SAFETY: the place lies within the arena (`cut`), so it is inside one mapping; the bytes are initialised, since fresh pages are zero; nobody else uses them (precondition).
    unsafe { std::slice::from_raw_parts_mut(first_byte(place), place.len_bytes as usize) }
}

/// The pages of an arena stay from now on, also those of blocks that nobody wants: a device has them.
///
/// # Errors
/// Why some of them cannot be had, in words.
pub(crate) fn pin(arena: u64) -> Result<(), String> {
    let was_pinned = std::mem::replace(&mut arenas().mapped[arena as usize].is_pinned, true);
    // What is on the disk now has other pages than it will have.
    if was_pinned { Ok(()) } else { spill::withdraw_all(arena) }
}

/// Where the memory of an arena lies.
pub(crate) fn addresses(arena: u64) -> Range<usize> {
    arenas().mapped[arena as usize].addresses()
}

/// Where the memory of the pinned ones lies.
#[cfg(target_os = "linux")]
pub(crate) fn pinned() -> Vec<Range<usize>> {
    arenas().mapped.iter().filter(|mapped| mapped.is_pinned).map(Mapped::addresses).collect()
}

/// What the process's arenas hold.
pub(crate) fn usage() -> MemoryUsage {
    arenas().usage()
}

/// From now on the arenas hold so much at most. What is in use stays.
pub(crate) fn set_limit(limit_bytes: u64) {
    let mut arenas = arenas();
    arenas.limit_bytes = Some(limit_bytes);
    arenas.shrink(0);
    arenas.peak_bytes = arenas.in_use_bytes + arenas.kept_bytes;
    arenas.tell();
}

/// Gives all that is kept back to the kernel; so many bytes it was.
pub(crate) fn give_back() -> u64 {
    let mut given_back_bytes = 0;
    loop {
        // Others get at the arenas in between.
        match arenas().give_back(u64::MAX, STEP_BYTES) {
            0 => return given_back_bytes,
            bytes => given_back_bytes += bytes,
        }
    }
}

/// Has the timer look for blocks that nobody uses.
fn watch(after: Duration) {
    // Logical threads have no part in the memory of the process.
    if platform::is_logical() || timer::call_at(now() + after, look).is_err() {
        // No thread for it: the next block that is given up tries again.
        arenas().is_watched = false;
    }
}

fn look() {
    let next = arenas().look();
    if let Some(after) = next {
        watch(after);
    }
}

/// Where the memory of a buffer lies, if it is of an arena of this process.
pub(crate) fn place_of(raw: &RawBuffer) -> Option<Place> {
    raw.is_from(&FUNCTIONS).then(|| Place { arena: raw.arena(), offset: raw.offset_bytes(), len_bytes: raw.len_bytes() })
}

/// Lets a block stay when its buffer goes, which is about to; its place, if it is of an arena of this process. Then `keep_given` makes another buffer of it.
pub(crate) fn give(raw: &RawBuffer) -> Option<Place> {
    let place = place_of(raw)?;
    arenas().given.insert((place.arena, place.offset));
    Some(place)
}

/// The memory of a block that was given; nothing when its buffer has not gone after all, and then it stays that buffer's.
pub(crate) fn keep_given(place: Place) -> Option<RawBuffer> {
    let still_there = arenas().given.remove(&(place.arena, place.offset));
    (!still_there).then(|| take_back(place))
}

/// A look at memory that somebody else keeps for as long; nothing where there is none.
pub(crate) fn view(place: Place) -> Option<RawBuffer> {
    let arenas = arenas();
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
    let arenas = arenas();
    let mapped = arenas.mapped.get(usize::try_from(arena).ok()?)?;
    let file = mapped.file.as_ref()?;
    Some((file.as_raw_fd() as u64, mapped.bytes))
}

impl Arenas {
    const fn new() -> Self {
        Self {
            mapped: Vec::new(),
            free: BTreeMap::new(),
            handed: BTreeSet::new(),
            current: None,
            in_use_bytes: 0,
            kept_bytes: 0,
            peak_bytes: 0,
            given_back_bytes: 0,
            limit_bytes: None,
            round: 0,
            gives: false,
            is_watched: false,
            given: BTreeSet::new(),
        }
    }

    fn limit_bytes(&mut self) -> u64 {
        *self.limit_bytes.get_or_insert_with(machine::memory_limit_bytes)
    }

    /// Whether more than three quarters of what there may be are in use.
    fn is_tight(&self) -> bool {
        self.limit_bytes.is_some_and(|limit_bytes| self.in_use_bytes > limit_bytes / 4 * 3)
    }

    /// Whether it is time to note which blocks could be spilled: early enough that those which are not noted are few, and late enough that nobody pays who has much room.
    fn is_filling(&self) -> bool {
        self.limit_bytes.is_some_and(|limit_bytes| self.in_use_bytes > limit_bytes / 8)
    }

    /// Whether it is time to run what gives memory up before what takes more of it: half of what there may be is in use.
    fn is_short(&self) -> bool {
        self.limit_bytes.is_some_and(|limit_bytes| self.in_use_bytes > limit_bytes / 2)
    }

    /// Tells those that ask often, after a change.
    fn tell(&self) {
        TIGHT.store(self.is_tight(), Relaxed);
        FILLING.store(self.is_filling(), Relaxed);
        SHORT.store(self.is_short(), Relaxed);
    }

    fn short_of(&mut self, more_bytes: u64) -> u64 {
        self.in_use_bytes.saturating_add(more_bytes).saturating_sub(self.limit_bytes())
    }

    fn reserve(&mut self, class: u64) {
        self.shrink(class);
        self.in_use_bytes += class;
        self.note_peak();
        self.tell();
    }

    fn note_peak(&mut self) {
        self.peak_bytes = self.peak_bytes.max(self.in_use_bytes + self.kept_bytes);
    }

    fn usage(&mut self) -> MemoryUsage {
        let spilled = spill::usage();
        MemoryUsage {
            in_use_bytes: self.in_use_bytes,
            kept_bytes: self.kept_bytes,
            peak_bytes: self.peak_bytes,
            given_back_bytes: self.given_back_bytes,
            limit_bytes: self.limit_bytes(),
            spilled_bytes: spilled.away_bytes,
            spill_written_bytes: spilled.written_bytes,
            spill_saved_bytes: spilled.saved_bytes,
            spill_read_bytes: spilled.read_bytes,
        }
    }

    fn lend(&mut self, len_bytes: u64) -> Result<(Place, bool), AllocateError> {
        let class = size_class(len_bytes).ok_or_else(|| AllocateError::new(len_bytes, "the size overflows"))?;
        let limit_bytes = self.limit_bytes();
        if class > limit_bytes {
            let above_bytes = class - limit_bytes;
            let reason = format!("by itself it takes {above_bytes} bytes more than the limit of {limit_bytes} (`memory.limit`)");
            return Err(AllocateError::new(len_bytes, reason));
        }
        if self.short_of(class) > 0 {
            let reason = format!("buffers have {} bytes in use, and the limit is {limit_bytes} (`memory.limit`)", self.in_use_bytes);
            return Err(AllocateError::new(len_bytes, reason));
        }
        let kept = self.free.get_mut(&class).and_then(|free| free.kept.pop_back());
        let (arena, offset) = match kept {
            Some(kept) => {
                self.kept_bytes -= class - kept.given_back_bytes;
                (kept.arena, kept.offset)
            }
            None => {
                self.shrink(class);
                match self.free.get_mut(&class).and_then(|free| free.clean.pop()) {
                    Some(block) => block,
                    None => self.cut(class).map_err(|error| AllocateError::new(len_bytes, error.to_string()))?,
                }
            }
        };
        self.in_use_bytes += class;
        self.note_peak();
        Ok((Place { arena: arena as u64, offset, len_bytes }, kept.is_none()))
    }

    /// Takes a block back; whether somebody has to be told to look.
    fn free(&mut self, class: u64, arena: usize, offset: u64) -> bool {
        let kept = Kept { arena, offset, round: self.round, given_back_bytes: 0 };
        self.free.entry(class).or_default().kept.push_back(kept);
        self.in_use_bytes -= class;
        self.kept_bytes += class;
        // Above it only where the limit has been lowered.
        self.shrink(0);
        self.kept_bytes > UNWATCHED_BYTES && !std::mem::replace(&mut self.is_watched, true)
    }

    /// Takes a block back that was on the disk: it has no pages, and is not in use.
    fn free_clean(&mut self, class: u64, arena: usize, offset: u64) {
        self.free.entry(class).or_default().clean.push((arena, offset));
    }

    /// Gives back what has to go so that there is room for so much more.
    fn shrink(&mut self, more_bytes: u64) {
        loop {
            let above = (self.in_use_bytes + self.kept_bytes + more_bytes).saturating_sub(self.limit_bytes());
            if above == 0 || self.give_back(u64::MAX, above) == 0 {
                return;
            }
        }
    }

    /// Gives back a step of what has not been used for a while. After how long to go on, if there is any point in it.
    fn look(&mut self) -> Option<Duration> {
        if !self.gives {
            self.round += 1;
        }
        // What was given up in this round has not been looked at yet, and what was in the last one perhaps just now.
        let before = self.round - 1;
        self.gives = self.give_back(before, STEP_BYTES) > 0;
        if self.gives {
            return Some(Duration::ZERO);
        }
        let grows_old = self.free.values().any(|free| free.kept.back().is_some_and(|kept| kept.round >= before));
        self.is_watched = grows_old && self.kept_bytes > UNWATCHED_BYTES;
        self.is_watched.then_some(ROUND)
    }

    /// Gives about `most_bytes` back, of blocks that were given up before a round, large ones first. So many bytes it was; none when there are no such blocks, or the
    /// kernel does not take them.
    fn give_back(&mut self, before: u64, most_bytes: u64) -> u64 {
        let page_bytes = machine::page_bytes();
        let mapped = &self.mapped;
        let old = |free: &Free| {
            let mut old = free.kept.iter().take_while(|kept| kept.round < before);
            old.position(|kept| !mapped[kept.arena].is_pinned)
        };
        let mut large = self.free.iter_mut().rev().filter(|(class, _)| class.is_multiple_of(page_bytes));
        let Some((class, index, free)) = large.find_map(|(class, free)| Some((*class, old(free)?, free))) else {
            return self.give_back_small(before);
        };
        let kept = &mut free.kept[index];
        let bytes = (class - kept.given_back_bytes).min(most_bytes.next_multiple_of(page_bytes));
        if !self.mapped[kept.arena].punch(kept.offset + kept.given_back_bytes, bytes) {
            return 0;
        }
        kept.given_back_bytes += bytes;
        if kept.given_back_bytes == class {
            free.clean.push((kept.arena, kept.offset));
            free.kept.remove(index);
        }
        self.note_given_back(bytes);
        bytes
    }

    /// The same for blocks that lie in one page with others: together they may make up whole pages.
    fn give_back_small(&mut self, before: u64) -> u64 {
        let page_bytes = machine::page_bytes();
        let mut blocks = Vec::new();
        for (class, free) in self.free.iter_mut().filter(|(class, _)| !class.is_multiple_of(page_bytes)) {
            let old = free.kept.partition_point(|kept| kept.round < before);
            blocks.extend(free.kept.drain(..old).map(|kept| (kept.arena, kept.offset, *class, kept)));
        }
        blocks.sort_unstable_by_key(|(arena, offset, ..)| (*arena, *offset));
        let mut given_back_bytes = 0;
        let mut left = Vec::new();
        for run in blocks.chunk_by(|(arena, offset, class, _), (next, begin, ..)| arena == next && offset + class == *begin) {
            let [(arena, first, ..), .., (_, last, class, _)] = run else {
                left.extend_from_slice(run);
                continue;
            };
            let (begin, end) = (first.next_multiple_of(page_bytes), (last + class) / page_bytes * page_bytes);
            let punched = begin < end && self.mapped[*arena].punch(begin, end - begin);
            for block @ (arena, offset, class, _) in run {
                if punched && begin <= *offset && offset + class <= end {
                    given_back_bytes += class;
                    self.free.entry(*class).or_default().clean.push((*arena, *offset));
                } else {
                    left.push(*block);
                }
            }
        }
        // In front, in the order of their ages.
        left.sort_unstable_by_key(|(.., kept)| kept.round);
        for (.., class, kept) in left.into_iter().rev() {
            self.free.entry(class).or_default().kept.push_front(kept);
        }
        self.note_given_back(given_back_bytes);
        given_back_bytes
    }

    fn note_given_back(&mut self, bytes: u64) {
        self.kept_bytes -= bytes;
        self.given_back_bytes += bytes;
    }

    /// A new block of `class` bytes. Large ones have pages to themselves.
    fn cut(&mut self, class: u64) -> std::io::Result<(usize, u64)> {
        if let Some((arena, used)) = self.current {
            let page_bytes = machine::page_bytes();
            let offset = if class.is_multiple_of(page_bytes) { used.next_multiple_of(page_bytes) } else { used };
            if offset + class <= ARENA_BYTES {
                self.current = Some((arena, offset + class));
                return Ok((arena, offset));
            }
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

impl Mapped {
    /// Gives whole pages back to the kernel; they are zero then, in all processes that map them. False where it does not take them.
    #[cfg(target_os = "linux")]
    fn punch(&self, offset: u64, len_bytes: u64) -> bool {
        use rustix::fs::{FallocateFlags, fallocate};
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        !self.is_pinned && self.file.as_ref().is_some_and(|file| fallocate(file, flags, offset, len_bytes).is_ok())
    }

    #[cfg(not(target_os = "linux"))]
    fn punch(&self, _: u64, _: u64) -> bool {
        false
    }
}

static FUNCTIONS: ArenaFunctions = ArenaFunctions { release, allocate: allocate_for_holder, changes };

/// The functions of what is only looked at.
static VIEW: ArenaFunctions = ArenaFunctions { release: keep, allocate: allocate_for_holder, changes: unchanged };

/// The functions of what only lasts.
#[cfg(target_os = "linux")]
static HOLD: ArenaFunctions = ArenaFunctions { release: let_go, allocate: allocate_for_holder, changes: unchanged };

#[cfg(target_os = "linux")]
unsafe extern "C" fn let_go(_data: *mut u8, _len_bytes: u64, _arena: u64, id: u64) {
    spill::let_go(id);
}

unsafe extern "C" fn keep(_data: *mut u8, _len_bytes: u64, _arena: u64, _offset: u64) {}

unsafe extern "C" fn unchanged(_len_bytes: u64, _arena: u64, _offset: u64) -> bool {
    true
}

/// Whoever holds a buffer changes it.
unsafe extern "C" fn changes(len_bytes: u64, arena: u64, offset: u64) -> bool {
    residency::changes((arena, offset));
    spill::withdraw(Place { arena, offset, len_bytes }).is_ok()
}

/// `allocate_as` for whoever holds a block and not the arena.
unsafe extern "C" fn allocate_for_holder(len_bytes: u64, zeroed: bool, place: *mut RawBuffer) -> bool {
    match allocate_as(len_bytes, zeroed) {
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
    residency::ends((arena, offset));
    {
        let mut arenas = arenas();
        if arenas.given.remove(&(arena, offset)) || arenas.handed.remove(&(arena as usize, offset)) {
            return;
        }
    }
    let was_spilled = spill::ends(Place { arena, offset, len_bytes });
    let unwatched = {
        let mut arenas = arenas();
        if was_spilled {
            return arenas.free_clean(class, arena as usize, offset);
        }
        let unwatched = arenas.free(class, arena as usize, offset);
        arenas.tell();
        unwatched
    };
    tell_waiting();
    if unwatched {
        watch(ROUND);
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
        (start, Some(Arc::new(file)))
    };
    #[cfg(not(target_os = "linux"))]
    let (start, file) = {
        let _ = arena;
        // SAFETY: a new mapping at an address of the kernel's choice.
        (unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes as usize, flags, MapFlags::PRIVATE) }?, None)
    };
    NonNull::new(start.cast::<u8>())
        .map(|start| Mapped { start, bytes, file, is_pinned: false })
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

    const MIB: u64 = 1 << 20;

    /// Arenas of a test's own. Their mappings stay until the tests end.
    fn own(limit_bytes: u64) -> Arenas {
        Arenas { limit_bytes: Some(limit_bytes), ..Arenas::new() }
    }

    impl Arenas {
        fn bytes_of(&mut self, place: Place) -> &mut [u8] {
            // SAFETY: `lend` gave the place out, within the mapping.
            let data = unsafe { self.mapped[place.arena as usize].start.add(place.offset as usize) };
            // SAFETY: the bytes are initialised, and the test that was lent them uses them alone.
            unsafe { std::slice::from_raw_parts_mut(data.as_ptr(), place.len_bytes as usize) }
        }

        fn lend_filled(&mut self, len_bytes: u64) -> Place {
            let (place, clean) = self.lend(len_bytes).expect("room");
            let bytes = self.bytes_of(place);
            assert!(!clean || bytes.iter().all(|byte| *byte == 0), "said to be zero");
            bytes.fill(0xff);
            place
        }

        fn drop_it(&mut self, place: Place) {
            self.free(size_class(place.len_bytes).expect("a size"), place.arena as usize, place.offset);
        }

        /// What the kernel says that the files have.
        fn resident_bytes(&self) -> u64 {
            let blocks = |mapped: &Mapped| rustix::fs::fstat(mapped.file.as_ref().expect("a file")).expect("its state").st_blocks as u64;
            self.mapped.iter().map(|mapped| blocks(mapped) * 512).sum()
        }

        /// What the timer does in one round.
        fn look_around(&mut self) {
            while self.look() == Some(Duration::ZERO) {}
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_block_that_nobody_wants_goes_back_to_the_kernel_and_is_zero() {
        let mut arenas = own(u64::MAX);
        let large = arenas.lend_filled(20 * MIB);
        let other = arenas.lend_filled(MIB);
        let before = arenas.resident_bytes();
        assert!(before >= 21 * MIB);
        arenas.drop_it(large);
        // It may have been given up right before the first look.
        arenas.look_around();
        assert_eq!(arenas.resident_bytes(), before);
        arenas.look_around();
        assert_eq!(arenas.resident_bytes(), before - 20 * MIB);
        let usage = arenas.usage();
        assert_eq!((usage.in_use_bytes, usage.kept_bytes, usage.given_back_bytes), (MIB, 0, 20 * MIB));
        assert!(arenas.bytes_of(other).iter().all(|byte| *byte == 0xff));
        let (again, clean) = arenas.lend(20 * MIB).expect("room");
        assert_eq!((again.arena, again.offset, clean), (large.arena, large.offset, true));
        assert!(arenas.bytes_of(again).iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_block_that_is_used_in_every_round_stays() {
        let mut arenas = own(u64::MAX);
        let place = arenas.lend_filled(20 * MIB);
        arenas.drop_it(place);
        for _ in 0..10 {
            arenas.look_around();
            let (again, clean) = arenas.lend(20 * MIB).expect("room");
            assert_eq!((again.offset, clean), (place.offset, false));
            arenas.drop_it(again);
        }
        assert_eq!(arenas.usage().given_back_bytes, 0);
        // One that was given back in part is not said to be zero.
        arenas.give_back(u64::MAX, MIB);
        assert!(!arenas.lend(20 * MIB).expect("room").1);
        assert_eq!((arenas.usage().in_use_bytes, arenas.usage().kept_bytes), (20 * MIB, 0));
    }

    #[test]
    fn nobody_looks_when_there_is_nothing_to_give_back() {
        let mut arenas = own(u64::MAX);
        let (few, many) = (arenas.lend_filled(1000), arenas.lend_filled(2 * MIB));
        assert!(!arenas.free(size_class(1000).expect("a size"), few.arena as usize, few.offset), "little is not worth it");
        assert!(arenas.free(2 * MIB, many.arena as usize, many.offset));
        assert_eq!(arenas.look(), Some(ROUND));
        arenas.look_around();
        assert!(!arenas.is_watched);
        let many = arenas.lend_filled(2 * MIB);
        assert!(arenas.free(2 * MIB, many.arena as usize, many.offset));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn small_blocks_go_back_where_they_make_up_whole_pages() {
        let mut arenas = own(u64::MAX);
        let places: Vec<_> = (0..8_000).map(|index| arenas.lend_filled(64 + index % 190 * 64)).collect();
        let before = arenas.resident_bytes();
        let (kept, dropped) = places.split_at(4_000);
        dropped.iter().for_each(|place| arenas.drop_it(*place));
        while arenas.give_back(u64::MAX, STEP_BYTES) > 0 {}
        let usage = arenas.usage();
        // At both ends, and where the last blocks of arenas and the wider ones leave gaps.
        assert!(usage.kept_bytes < usage.given_back_bytes / 4, "{usage:?}");
        assert!(arenas.resident_bytes() <= before - usage.given_back_bytes, "{usage:?}");
        assert!(kept.iter().all(|place| arenas.bytes_of(*place).iter().all(|byte| *byte == 0xff)));
        // All of them are there again, zero where it is said, and nobody else's.
        let again: Vec<_> = dropped.iter().map(|place| arenas.lend_filled(place.len_bytes)).collect();
        assert_eq!(arenas.usage().kept_bytes, 0);
        let distinct: std::collections::BTreeSet<_> = again.iter().chain(kept).map(|place| (place.arena, place.offset)).collect();
        assert_eq!(distinct.len(), 8_000);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_limit_takes_what_is_kept_first_and_then_refuses() {
        let mut arenas = own(100 * MIB);
        let first = arenas.lend_filled(40 * MIB);
        let second = arenas.lend_filled(40 * MIB);
        let error = arenas.lend(32 * MIB).expect_err("above the limit").to_string();
        let expected = "failed to allocate 33554432 bytes: buffers have 83886080 bytes in use, and the limit is 104857600 (`memory.limit`)";
        assert_eq!(error, expected);
        arenas.drop_it(first);
        // Another size: of what is kept just as much goes as has to.
        let third = arenas.lend_filled(32 * MIB);
        assert_eq!((arenas.usage().in_use_bytes, arenas.usage().kept_bytes), (72 * MIB, 28 * MIB));
        assert!(arenas.resident_bytes() <= 100 * MIB);
        arenas.lend(40 * MIB).expect_err("above the limit");
        arenas.drop_it(third);
        let again = arenas.lend_filled(40 * MIB);
        // A limit that is lowered refuses, and keeps nothing that it need not.
        arenas.limit_bytes = Some(50 * MIB);
        arenas.drop_it(again);
        assert_eq!((arenas.usage().in_use_bytes, arenas.usage().kept_bytes), (40 * MIB, 10 * MIB));
        arenas.lend(40 * MIB).expect_err("above the limit");
        arenas.drop_it(second);
        arenas.lend_filled(40 * MIB);
    }
}
