//! Which blocks may be spilled, which are, and the steps between (`README.md`).
//!
//! One file because each step relies on what the others left in the same entry.
#![expect(unsafe_code, reason = "passes on what its own states promise about memory")]

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use poniard_interface::RawBuffer;

use super::Folder;
use super::file::{Range, Store};
use super::mapping::Location;
use super::packed::{self, Packed};
use super::{MIN_BYTES, Usage};
use crate::region::guard;
use crate::residency::{self, Key};
use crate::wire::Place;
use crate::{arena, machine};

/// Each block on the disk splits a mapping in two, and the kernel allows 65 530 of them.
const AWAY_MAX: usize = 24_000;

/// Entries, for those that ask often.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Whether blocks were ever to be compressed.
static PACKS: AtomicBool = AtomicBool::new(false);
/// Bytes of blocks that are on the disk, that were ever written to it, that compression has spared, and that were read back.
static AWAY_BYTES: AtomicU64 = AtomicU64::new(0);
static WRITTEN_BYTES: AtomicU64 = AtomicU64::new(0);
static SAVED_BYTES: AtomicU64 = AtomicU64::new(0);
static READ_BYTES: AtomicU64 = AtomicU64::new(0);

static BLOCKS: Mutex<Blocks> = Mutex::new(Blocks::new());
/// Told when a block has ceased to be moved.
static MOVED: Condvar = Condvar::new();

struct Blocks {
    store: Store,
    entries: BTreeMap<Key, Entry>,
    /// Those that may be spilled: used for the last time longest ago first.
    listed: BTreeMap<u64, Key>,
    /// What each hold holds.
    holds: BTreeMap<u64, Key>,
    /// Counts uses.
    clock: u64,
    moving_count: usize,
    away_count: usize,
    /// Whether what nobody has seen is compressed.
    compresses: bool,
}

struct Entry {
    place: Place,
    class: u64,
    /// When it was made: holds of an older entry at the same place are not this one's.
    born: u64,
    /// Its place in `listed`.
    listed: Option<u64>,
    /// Calls of other processes that look at its pages in the arena.
    holds: u32,
    /// A task has made it, and nobody on the host has got at it since: no reference to its elements exists.
    is_unseen: bool,
    state: State,
}

impl Entry {
    /// Whether it says nothing.
    fn is_idle(&self) -> bool {
        self.holds == 0 && self.listed.is_none() && matches!(self.state, State::Here { copy: None })
    }
}

/// Where the contents are. They are read at the block's address in each of these states, unless they are packed.
enum State {
    /// In the arena; also on the disk, if it was there and has not been changed since.
    Here { copy: Option<Range> },
    /// Somebody copies it, one way or the other. Others wait.
    Moving,
    /// On the disk alone; whether it has been read there. Packed, it has to come back before anybody looks.
    Away { range: Range, was_read: bool, packed: Option<Packed> },
}

fn blocks() -> MutexGuard<'static, Blocks> {
    // Nothing panics under the lock while something is half changed.
    BLOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key_of(place: Place) -> Key {
    (place.arena, place.offset)
}

/// The size class of a block that is worth the way to the disk, and has whole pages to itself.
fn class_of(place: Place) -> Option<u64> {
    arena::size_class(place.len_bytes).filter(|class| *class >= MIN_BYTES && class.is_multiple_of(machine::page_bytes()))
}

/// Whether there is anything to be done for those that look at blocks.
#[inline]
pub(crate) fn is_active() -> bool {
    // Acquire: pairs with the Release in `Blocks::entry`. Whoever has a buffer got it from somebody who had seen its entry made.
    COUNT.load(Acquire) > 0 || arena::is_filling()
}

/// Whether a block has an entry.
pub(crate) fn is_known(key: Key) -> bool {
    COUNT.load(Acquire) > 0 && blocks().entries.contains_key(&key)
}

pub(crate) fn set_folder(folder: Folder) {
    blocks().store.set_folder(folder);
}

pub(crate) fn set_limit(limit_bytes: u64) {
    blocks().store.limit_bytes = limit_bytes;
}

pub(crate) fn set_compress(compresses: bool) {
    let mut blocks = blocks();
    blocks.compresses = compresses;
    // Relaxed: whoever gets a buffer whose entry is of an unseen one got it from somebody who had made that entry later, under the same lock.
    PACKS.fetch_or(compresses, Relaxed);
}

/// Whether blocks may be compressed.
#[inline]
pub(crate) fn packs() -> bool {
    PACKS.load(Relaxed)
}

pub(crate) fn usage() -> Usage {
    Usage {
        away_bytes: AWAY_BYTES.load(Relaxed),
        written_bytes: WRITTEN_BYTES.load(Relaxed),
        saved_bytes: SAVED_BYTES.load(Relaxed),
        read_bytes: READ_BYTES.load(Relaxed),
    }
}

/// A buffer that nobody changes may be spilled from now on, as the last one of all. Compressed, if nobody has seen it.
pub(crate) fn offer(raw: &RawBuffer, is_unseen: bool) {
    let Some(place) = arena::place_of(raw) else { return };
    let Some(class) = class_of(place) else { return };
    let mut blocks = blocks();
    let is_new = is_unseen && blocks.compresses && !blocks.entries.contains_key(&key_of(place));
    if blocks.offer(place, class) {
        raw.note_replicas();
        if is_new && let Some(entry) = blocks.entries.get_mut(&key_of(place)) {
            entry.is_unseen = true;
        }
    }
}

/// Somebody gets a reference to a buffer: it is not packed any more, and will not be.
///
/// # Errors
/// Why it cannot be had, in words.
pub(crate) fn see_block(raw: &RawBuffer) -> Result<(), String> {
    let Some(place) = arena::place_of(raw) else { return Ok(()) };
    let mut blocks = blocks();
    while blocks.is_moving(key_of(place)) {
        blocks = wait(blocks);
    }
    let Some(entry) = blocks.entries.get_mut(&key_of(place)) else { return Ok(()) };
    entry.is_unseen = false;
    if matches!(entry.state, State::Away { packed: Some(_), .. }) { here(blocks, place).map(drop) } else { Ok(()) }
}

/// Somebody is going to read a buffer: what is on the disk comes back if there is room, or is worth it, and else its pages come by way of the page cache. With `takes`
/// it comes back in any case, as it will be changed.
///
/// # Errors
/// Why it cannot be had, in words.
pub(crate) fn read(raw: &RawBuffer, takes: bool) -> Result<(), String> {
    let Some(place) = arena::place_of(raw) else { return Ok(()) };
    let Some(class) = class_of(place) else { return Ok(()) };
    let mut blocks = blocks();
    if takes {
        blocks = here(blocks, place)?;
    }
    let mut makes_room = true;
    loop {
        let Some(entry) = blocks.entries.get_mut(&key_of(place)) else {
            if arena::is_filling() && blocks.offer(place, class) {
                raw.note_replicas();
            }
            return Ok(());
        };
        match &mut entry.state {
            State::Here { .. } => {
                // One that somebody holds has an entry even where it is in the directory of `residency`, and where it was changed since it was last listed.
                if !residency::settle(key_of(place)) {
                    blocks.list(key_of(place));
                }
                raw.note_replicas();
                return Ok(());
            }
            State::Moving => blocks = wait(blocks),
            State::Away { packed: Some(_), .. } => blocks = here(blocks, place)?,
            State::Away { was_read, range, packed: None } => {
                // Who is read once only is not worth that another one goes for it; who is read again is.
                let is_again = std::mem::replace(was_read, true);
                let range = range.share();
                if arena::reserve(class, is_again) {
                    drop(bring(blocks, place)?);
                    return Ok(());
                }
                drop(blocks);
                if !is_again || !makes_room || make_room(class).is_err() {
                    return read_there(place, &range);
                }
                makes_room = false;
                blocks = self::blocks();
            }
        }
    }
}

/// Has the pages of a block that is on the disk there, for whoever reads it next.
fn read_there(place: Place, range: &Range) -> Result<(), String> {
    let Some(location) = arena::locate(place) else { return Ok(()) };
    range.want_pages();
    READ_BYTES.fetch_add(location.len_bytes, Relaxed);
    // SAFETY: the caller of `read` has the buffer.
    if unsafe { location.populate() } { Ok(()) } else { Err(range.error_of_reading()) }
}

/// The block is in the arena, and nothing is known of it any more but who holds it: somebody is about to change it, or a part of it, or a device to use it.
///
/// # Errors
/// Why it cannot be had, in words.
pub(crate) fn withdraw(place: Place) -> Result<(), String> {
    if COUNT.load(Acquire) == 0 || class_of(place).is_none() {
        return Ok(());
    }
    let mut blocks = here(blocks(), place)?;
    if let Some(copy) = blocks.withdraw(key_of(place)) {
        blocks.store.give_back(copy);
    }
    Ok(())
}

/// The same for all blocks of an arena.
///
/// # Errors
/// Why one of them cannot be had, in words.
pub(crate) fn withdraw_all(arena: u64) -> Result<(), String> {
    let places: Vec<_> = blocks().entries.range((arena, 0)..=(arena, u64::MAX)).map(|(_, entry)| entry.place).collect();
    places.into_iter().try_for_each(withdraw)
}

/// Keeps a block in the arena as long as the buffer is there that this gives, which has no bytes itself: another process reads the block there. Nothing for blocks
/// that are never spilled.
///
/// # Errors
/// Why it cannot be had, in words.
pub(crate) fn hold(place: Place) -> Result<Option<RawBuffer>, String> {
    let Some(class) = class_of(place) else { return Ok(None) };
    let mut blocks = here(blocks(), place)?;
    Ok(Some(arena::hold_of(blocks.hold(place, class))))
}

/// A hold has ended.
pub(crate) fn let_go(id: u64) {
    blocks().let_go(id);
}

/// The block is nobody's any more. Whether it was on the disk: then it is zero, and not counted as in use.
#[inline]
pub(crate) fn ends(place: Place) -> bool {
    COUNT.load(Acquire) > 0 && ends_slowly(place)
}

#[cold]
fn ends_slowly(place: Place) -> bool {
    if class_of(place).is_none() {
        return false;
    }
    let mut blocks = blocks();
    while blocks.is_moving(key_of(place)) {
        blocks = wait(blocks);
    }
    match blocks.remove(key_of(place)) {
        None | Some(State::Here { copy: None } | State::Moving) => false,
        Some(State::Here { copy: Some(copy) }) => {
            blocks.store.give_back(copy);
            false
        }
        Some(State::Away { range, was_read, .. }) => {
            drop(blocks);
            let location = arena::locate(place).unwrap_or_else(|| unreachable!("it was there when it was spilled"));
            AWAY_BYTES.fetch_sub(location.len_bytes, Relaxed);
            // SAFETY: its buffer is gone, and nobody else has got the block yet.
            unsafe { location.clear() };
            if was_read {
                range.forget_pages();
            }
            self::blocks().store.give_back(range);
            true
        }
    }
}

/// Spills what was used longest ago, so that there may be room for so much more. Others may take it first.
///
/// # Errors
/// Why nothing can be spilled, in words.
#[cold]
pub(crate) fn make_room(more_bytes: u64) -> Result<(), String> {
    let mut blocks = blocks();
    let mut of_devices = None;
    while arena::short_of(more_bytes) > 0 {
        let Some(key) = blocks.oldest() else {
            // What devices have copies of, which cost a transfer to make again, comes last.
            let next = of_devices.get_or_insert_with(|| residency::settled(MIN_BYTES).into_iter()).next();
            if let Some(place) = next {
                let gone = blocks.take_from_devices(place);
                drop(blocks);
                drop(gone);
                blocks = self::blocks();
                continue;
            }
            if blocks.moving_count > 0 {
                blocks = wait(blocks);
                continue;
            }
            let is_off = blocks.store.folder == Folder::Off;
            return Err(if is_off { "`memory.spill` is `off`" } else { "all the rest is being worked with" }.into());
        };
        blocks = spill(blocks, key)?;
    }
    Ok(())
}

fn wait(blocks: MutexGuard<'static, Blocks>) -> MutexGuard<'static, Blocks> {
    MOVED.wait(blocks).unwrap_or_else(PoisonError::into_inner)
}

/// Has a block in the arena, even above the limit, whether or not it has an entry.
fn here(mut blocks: MutexGuard<'static, Blocks>, place: Place) -> Result<MutexGuard<'static, Blocks>, String> {
    let mut makes_room = true;
    loop {
        match blocks.entries.get(&key_of(place)) {
            None | Some(Entry { state: State::Here { .. }, .. }) => return Ok(blocks),
            Some(Entry { state: State::Moving, .. }) => blocks = wait(blocks),
            Some(Entry { state: State::Away { .. }, class, .. }) => {
                let class = *class;
                if !arena::reserve(class, true) {
                    if makes_room {
                        drop(blocks);
                        // As often as others take it first. Where there is none, this goes above the limit, and the next buffer pays for it.
                        makes_room = make_room(class).is_ok();
                        blocks = self::blocks();
                        continue;
                    }
                    arena::reserve_above(class);
                }
                return bring(blocks, place);
            }
        }
    }
}

/// Brings a block back that is away, and for which memory has been set aside.
fn bring(mut blocks: MutexGuard<'static, Blocks>, place: Place) -> Result<MutexGuard<'static, Blocks>, String> {
    let key = key_of(place);
    let State::Away { range, was_read, packed } = blocks.begin(key) else { unreachable!("the caller has looked") };
    drop(blocks);
    let location = arena::locate(place).unwrap_or_else(|| unreachable!("it was there when it was spilled"));
    let _down = guard::stand_down(location.addresses());
    // SAFETY: the range is what `spill` has mapped over the block, or nobody has seen that; the state keeps others from moving it, and whoever wants to change it waits.
    let brought = unsafe { location.bring_in(&range, was_read, packed) };
    if brought.is_ok() {
        AWAY_BYTES.fetch_sub(location.len_bytes, Relaxed);
        READ_BYTES.fetch_add(range.len_bytes, Relaxed);
        if was_read {
            range.forget_pages();
        }
    } else {
        // What was read of it must not be there when the block is taken for one without pages.
        // SAFETY: readers find the block in the range.
        unsafe { location.punch() };
        arena::unreserve(location.len_bytes);
    }
    blocks = self::blocks();
    match brought {
        Ok(()) => {
            blocks.away_count -= 1;
            // Somebody will see it, and then it cannot be read in that range.
            let copy = if packed.is_some() {
                blocks.store.give_back(range);
                None
            } else {
                Some(range)
            };
            blocks.end(key, State::Here { copy });
            blocks.list(key);
            Ok(blocks)
        }
        Err(reason) => {
            blocks.end(key, State::Away { range, was_read, packed });
            Err(reason)
        }
    }
}

/// Writes a block to the disk, unless it is there, and gives its memory back.
fn spill(mut blocks: MutexGuard<'static, Blocks>, key: Key) -> Result<MutexGuard<'static, Blocks>, String> {
    let State::Here { copy } = blocks.begin(key) else { unreachable!("what is listed is here") };
    let place = blocks.entries[&key].place;
    let location = arena::locate(place).filter(|location| !location.is_pinned);
    let Some(location) = location else {
        // A device has its pages: it stays, and is not asked again.
        blocks.end(key, State::Here { copy });
        return Ok(blocks);
    };
    let _down = guard::stand_down(location.addresses());
    let mut packed = None;
    if copy.is_none() && blocks.compresses && blocks.entries[&key].is_unseen {
        drop(blocks);
        // SAFETY: as in `send`.
        packed = packed::pack(unsafe { location.bytes() });
        blocks = self::blocks();
    }
    let len_bytes = packed.as_ref().map_or(location.len_bytes, |(pages, _)| pages.bytes().len() as u64);
    let (range, is_written) = match copy {
        Some(range) => (range, true),
        None => match blocks.take_range(len_bytes) {
            Ok(range) => (range, false),
            Err(reason) => {
                blocks.end(key, State::Here { copy: None });
                blocks.list_as_oldest(key);
                return Err(reason);
            }
        },
    };
    drop(blocks);
    let (range, gone) = send(&location, range, is_written, packed.as_ref().map(|(pages, _)| pages.bytes()));
    blocks = self::blocks();
    match gone {
        Ok(()) => {
            AWAY_BYTES.fetch_add(location.len_bytes, Relaxed);
            blocks.away_count += 1;
            blocks.end(key, State::Away { range, was_read: false, packed: packed.map(|(_, packed)| packed) });
            Ok(blocks)
        }
        Err(reason) => {
            blocks.store.give_back(range);
            blocks.end(key, State::Here { copy: None });
            blocks.list_as_oldest(key);
            Err(reason)
        }
    }
}

/// The steps that take long. The block is where it was if one fails.
fn send(location: &Location, mut range: Range, is_written: bool, packed: Option<&[u8]>) -> (Range, Result<(), String>) {
    let mut steps = || {
        if !is_written {
            if let Err(reason) = range.make_room() {
                // Others have given ranges up that still have room on the disk.
                if !self::blocks().store.give_back_kept() {
                    return Err(reason);
                }
                range.make_room()?;
            }
            // SAFETY: whoever wants to change the block, or drops it, waits for the end of the move.
            let block = unsafe { location.bytes() };
            range.write(packed.unwrap_or(block))?;
            WRITTEN_BYTES.fetch_add(range.len_bytes, Relaxed);
            SAVED_BYTES.fetch_add(location.len_bytes - range.len_bytes, Relaxed);
        }
        if packed.is_some() {
            // SAFETY: nobody has seen the block, and whoever is to waits for the end of the move, and has it back then (`see_block`).
            unsafe { location.close() }?;
        } else {
            // SAFETY: the range has been written, and is not changed as long as the block has it; as above for the block.
            unsafe { location.send_out(&range) }?;
        }
        // SAFETY: readers find the block in the range, or there are none. Other processes, which would not, hold it as long as they look, and then it is not spilled.
        if !unsafe { location.punch() } {
            // SAFETY: the arena has the block's bytes yet.
            unsafe { location.clear() };
            return Err("the kernel does not take the memory back".into());
        }
        arena::unreserve(location.len_bytes);
        Ok(())
    };
    let gone = steps();
    (range, gone)
}

impl Blocks {
    const fn new() -> Self {
        Self {
            store: Store::new(),
            entries: BTreeMap::new(),
            listed: BTreeMap::new(),
            holds: BTreeMap::new(),
            // Below it there is room for those that are to be older than all.
            clock: 1 << 32,
            moving_count: 0,
            away_count: 0,
            compresses: false,
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// The entry of a block, which is made if there is none.
    fn entry(&mut self, place: Place, class: u64) -> &mut Entry {
        self.clock += 1;
        let born = self.clock;
        self.entries.entry(key_of(place)).or_insert_with(|| {
            COUNT.fetch_add(1, Release);
            Entry { place, class, born, listed: None, holds: 0, is_unseen: false, state: State::Here { copy: None } }
        })
    }

    /// Keeps a block where it is until `let_go` of the number that this gives.
    fn hold(&mut self, place: Place, class: u64) -> u64 {
        self.entry(place, class).holds += 1;
        let id = self.tick();
        self.holds.insert(id, key_of(place));
        id
    }

    fn let_go(&mut self, id: u64) {
        let Some(key) = self.holds.remove(&id) else { return };
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.born < id) else { return };
        entry.holds -= 1;
        if entry.is_idle() {
            self.remove(key);
        }
    }

    /// Whether the block may be spilled from now on, or when devices have no copy of it.
    fn offer(&mut self, place: Place, class: u64) -> bool {
        if self.store.folder == Folder::Off {
            return false;
        }
        // What devices have is the business of `residency`, which takes blocks out of this list (`withdraw`) after it has entered them in its own.
        if residency::settle(key_of(place)) {
            return true;
        }
        self.entry(place, class);
        self.list(key_of(place));
        true
    }

    /// Has a block leave the directory of `residency`, if nobody needs it there, and lists it. What is to be dropped without the lock.
    fn take_from_devices(&mut self, place: Place) -> Option<impl Sized + use<>> {
        let class = class_of(place)?;
        if self.store.folder == Folder::Off || self.away_count >= AWAY_MAX || arena::locate(place).is_none_or(|location| location.is_pinned)
        {
            return None;
        }
        // Before it leaves: whoever wants to change it finds it here or there (`changes` in `arena.rs`).
        self.entry(place, class);
        let gone = residency::release(place);
        if gone.is_some() {
            self.list_as_oldest(key_of(place));
        } else if self.entries.get(&key_of(place)).is_some_and(Entry::is_idle) {
            self.remove(key_of(place));
        }
        gone
    }

    /// Puts a block that is here at the end of the list.
    fn list(&mut self, key: Key) {
        let at = self.tick();
        self.list_at(key, at);
    }

    /// Puts it where it is the next to be spilled.
    fn list_as_oldest(&mut self, key: Key) {
        let at = self.listed.first_key_value().map_or(self.clock, |(first, _)| *first).saturating_sub(1);
        self.list_at(key, at);
    }

    fn list_at(&mut self, key: Key, at: u64) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if let State::Here { .. } = entry.state
            && !self.listed.contains_key(&at)
        {
            if let Some(before) = entry.listed.replace(at) {
                self.listed.remove(&before);
            }
            self.listed.insert(at, key);
        }
    }

    fn unlist(&mut self, key: Key) {
        if let Some(at) = self.entries.get_mut(&key).and_then(|entry| entry.listed.take()) {
            self.listed.remove(&at);
        }
    }

    /// What was used longest ago, of what may be spilled.
    fn oldest(&self) -> Option<Key> {
        if self.away_count >= AWAY_MAX {
            return None;
        }
        self.listed.values().find(|key| self.entries[key].holds == 0).copied()
    }

    fn is_moving(&self, key: Key) -> bool {
        matches!(self.entries.get(&key), Some(Entry { state: State::Moving, .. }))
    }

    /// A block is moved from now on; where it was.
    fn begin(&mut self, key: Key) -> State {
        self.unlist(key);
        self.moving_count += 1;
        let Some(entry) = self.entries.get_mut(&key) else { unreachable!("the caller has looked") };
        std::mem::replace(&mut entry.state, State::Moving)
    }

    /// It is not any more, and there. While it was, nobody has taken it out.
    fn end(&mut self, key: Key, state: State) {
        self.moving_count -= 1;
        let Some(entry) = self.entries.get_mut(&key) else { unreachable!("whoever takes it out waits") };
        entry.state = state;
        MOVED.notify_all();
    }

    fn remove(&mut self, key: Key) -> Option<State> {
        self.unlist(key);
        let entry = self.entries.remove(&key)?;
        COUNT.fetch_sub(1, Release);
        if let State::Away { .. } = entry.state {
            self.away_count -= 1;
        }
        Some(entry.state)
    }

    /// A block that is here is not spilled until it is listed again, nor before those let go who hold it: other processes look at parts of it that are not changed. Its copy
    /// on the disk, which is none any more.
    fn withdraw(&mut self, key: Key) -> Option<Range> {
        if let Some(Entry { holds: 1.., state: State::Here { copy }, .. }) = self.entries.get_mut(&key) {
            let copy = copy.take();
            self.unlist(key);
            return copy;
        }
        match self.remove(key) {
            Some(State::Here { copy }) => copy,
            _ => None,
        }
    }

    /// A range of the file. When its limit is reached, blocks that are in memory have to do without their copy on the disk.
    fn take_range(&mut self, len_bytes: u64) -> Result<Range, String> {
        self.store.take(len_bytes).or_else(|reason| if self.give_up_copies() { self.store.take(len_bytes) } else { Err(reason) })
    }

    fn give_up_copies(&mut self) -> bool {
        let mut gives = false;
        for entry in self.entries.values_mut() {
            if let State::Here { copy } = &mut entry.state
                && let Some(range) = copy.take()
            {
                self.store.give_back(range);
                gives = true;
            }
        }
        gives
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block that no arena has.
    fn place(number: u64) -> Place {
        Place { arena: u64::MAX, offset: number << 20, len_bytes: 1 << 20 }
    }

    #[test]
    fn those_that_were_used_longest_ago_go_first_but_not_while_somebody_holds_them() {
        let mut blocks = Blocks::new();
        for number in 0..3 {
            assert!(blocks.offer(place(number), 1 << 20));
        }
        blocks.list(key_of(place(0)));
        assert_eq!(blocks.oldest(), Some(key_of(place(1))));
        let hold = blocks.hold(place(1), 1 << 20);
        assert_eq!(blocks.oldest(), Some(key_of(place(2))));
        blocks.let_go(hold);
        assert_eq!(blocks.oldest(), Some(key_of(place(1))));
        // One that could not be spilled is the first again.
        let state = blocks.begin(key_of(place(1)));
        assert_eq!((blocks.oldest(), blocks.moving_count), (Some(key_of(place(2))), 1));
        blocks.end(key_of(place(1)), state);
        blocks.list_as_oldest(key_of(place(1)));
        assert_eq!(blocks.oldest(), Some(key_of(place(1))));
        for number in 0..3 {
            assert!(blocks.remove(key_of(place(number))).is_some());
        }
        assert_eq!((blocks.oldest(), blocks.entries.len()), (None, 0));
    }

    #[test]
    fn who_holds_a_block_that_is_changed_in_part_keeps_it_from_being_spilled() {
        let mut blocks = Blocks::new();
        assert!(blocks.offer(place(0), 1 << 20));
        let hold = blocks.hold(place(0), 1 << 20);
        assert!(blocks.withdraw(key_of(place(0))).is_none(), "it was never on the disk");
        // Once the change is over somebody lists it, although the hold goes on.
        assert!(blocks.offer(place(0), 1 << 20));
        assert_eq!(blocks.oldest(), None, "it is held");
        blocks.let_go(hold);
        assert_eq!(blocks.oldest(), Some(key_of(place(0))));
        // Without a hold nothing is known of it.
        assert!(blocks.withdraw(key_of(place(0))).is_none());
        assert!(blocks.entries.is_empty());
    }

    #[test]
    fn a_hold_that_ends_late_is_none_of_the_next_block_there() {
        let mut blocks = Blocks::new();
        let late = blocks.hold(place(0), 1 << 20);
        blocks.remove(key_of(place(0)));
        assert!(blocks.offer(place(0), 1 << 20));
        let own = blocks.hold(place(0), 1 << 20);
        blocks.let_go(late);
        assert_eq!(blocks.oldest(), None, "it is held");
        blocks.let_go(own);
        assert_eq!(blocks.oldest(), Some(key_of(place(0))));
        blocks.remove(key_of(place(0)));
        // An entry that only a hold has made goes with it.
        let only = blocks.hold(place(1), 1 << 20);
        blocks.let_go(only);
        assert!(blocks.entries.is_empty() && blocks.holds.is_empty());
    }
}
