//! Which memory space has which buffer: the replica directory.
//!
//! A buffer's own block is in the arena of the host. A launch on a device needs its buffers in the device's space: as chunks of its memory, which are copies of the
//! block ("replicas"), or, where the space imports, as the block itself. What a launch has written is valid in its space alone until somebody of the host wants it:
//! [`bring`] copies it back. That is asked wherever the host gets at the result of a task, so code of the host never meets a block that is not valid.
//!
//! Blocks that no device has ever seen are not in the directory, and cost nothing here: one load tells that it is empty.
//!
//! Locks: `DIRECTORY`, for moments; each entry's `state`, for moments; each entry's `transfer`, while its block is copied to the host. They are taken in the
//! order transfer, directory, state; no lock is held while a chunk is dropped or the space is asked for one.
#![expect(unsafe_code, reason = "writes blocks of the host that nobody else looks at meanwhile")]

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use poniard_interface::{Access, Chunk, Operand, RawBuffer};

use crate::arena;
use crate::data::Data;
use crate::wire::Place;

pub(crate) mod space;

pub(crate) use space::DeviceSpace;

/// Names a block of the host: its arena and where it begins there.
pub(crate) type Key = (u64, u64);

/// Entries in the directory.
static COUNT: AtomicUsize = AtomicUsize::new(0);

static DIRECTORY: Mutex<BTreeMap<Key, Arc<Entry>>> = Mutex::new(BTreeMap::new());

/// A block that a device has, or had.
pub(crate) struct Entry {
    place: Place,
    /// Held by whoever copies the block to the host; the others wait for it.
    transfer: Mutex<()>,
    state: Mutex<State>,
}

struct State {
    /// Whether the block itself has the contents.
    host_valid: bool,
    /// Whether it has them as they were before launches that are under way, of which none has ended.
    has_backup: bool,
    replicas: Vec<Replica>,
    /// How to compute the contents again, if that is possible: kept while the block does not have them.
    lineage: Option<(Arc<dyn Lineage>, usize)>,
}

struct Replica {
    space: Arc<DeviceSpace>,
    chunk: Arc<dyn Chunk>,
    /// It is the block itself.
    is_import: bool,
    valid: bool,
    /// Launches and copies that use it now.
    uses: u32,
    last_use: u64,
    /// What it takes of the space.
    bytes: u64,
}

/// How results that were lost with a device are computed again.
pub trait Lineage: Send + Sync {
    /// How many launches before this one have to be repeated at most.
    fn depth(&self) -> u32;

    /// The contents of one of the results.
    ///
    /// # Errors
    /// Why they cannot be had, in words.
    fn compute(&self, index: usize) -> Result<RawBuffer, String>;
}

/// Results with a longer lineage are copied to the host before they are used again.
const DEPTH_MAX: u32 = 64;

/// Why a launch cannot be prepared.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// There will be room when launches that are under way have ended.
    Wait,
    /// There will never be, or what it needs is lost.
    Never(String),
}

/// What a launch uses of the directory.
pub(crate) struct Prepared {
    pub(crate) operands: Vec<Operand>,
    space: Arc<DeviceSpace>,
    uses: Vec<(Arc<Entry>, Access)>,
}

/// A buffer of a launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    pub(crate) place: Place,
    pub(crate) access: Access,
    /// It is a result: what its block has is of no interest.
    pub(crate) is_fresh: bool,
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is complete before anything that can panic is called.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn entry_of(key: Key) -> Option<Arc<Entry>> {
    // Acquire: pairs with the Release in `enter`. Whoever has the buffer got it from somebody who had seen its entry made.
    if COUNT.load(Acquire) == 0 {
        return None;
    }
    lock(&DIRECTORY).get(&key).cloned()
}

fn key_of(place: Place) -> Key {
    (place.arena, place.offset)
}

/// Whether a block is in the directory.
pub(crate) fn is_known(key: Key) -> bool {
    entry_of(key).is_some()
}

/// Whoever has the block is about to change it: what devices have of it is stale from now on.
#[cold]
pub(crate) fn changes(key: Key) {
    let Some(entry) = entry_of(key) else { return };
    let lineage = {
        let mut state = lock(&entry.state);
        debug_assert!(state.replicas.iter().all(|replica| replica.uses == 0), "a block is not changed while a launch uses it");
        state.host_valid = true;
        // Their memory stays: who has had it on a device once may well want it there again, and new memory costs more than the copy. When there is no room they go.
        state.replicas.iter_mut().filter(|replica| !replica.is_import).for_each(|replica| replica.valid = false);
        state.lineage.take()
    };
    drop(lineage);
}

/// The block is nobody's any more.
#[inline]
pub(crate) fn ends(key: Key) {
    // Acquire: as in `entry_of`.
    if COUNT.load(Acquire) > 0 {
        remove(key);
    }
}

#[cold]
fn remove(key: Key) {
    let removed = lock(&DIRECTORY).remove(&key);
    if let Some(entry) = removed {
        COUNT.fetch_sub(1, Release);
        let (gone, lineage) = {
            let mut state = lock(&entry.state);
            (state.take_replicas(|_| true), state.lineage.take())
        };
        drop(gone);
        drop(lineage);
    }
}

/// Gives up all replicas in a space that ends; what is nowhere else is copied to the host first.
pub(crate) fn leave(space: &Arc<DeviceSpace>) {
    let entries: Vec<_> = lock(&DIRECTORY).values().cloned().collect();
    for entry in entries {
        if lock(&entry.state).replica_in(space).is_none() {
            continue;
        }
        // What cannot be brought is lost: whoever wants it learns that later.
        let _ = entry.bring();
        let gone = lock(&entry.state).take_replicas(|replica| Arc::ptr_eq(&replica.space, space));
        drop(gone);
    }
}

/// Whether values of a type can be the result of a launch.
pub(crate) const fn can_be_elsewhere<T: Data>() -> bool {
    match T::DEVICE {
        Some(form) => form.has_blocks,
        None => false,
    }
}

/// Sees to it that the host has the contents of all buffers of a value. Costs a load where no device has any.
///
/// # Errors
/// Why they cannot be had, in words.
#[inline]
pub(crate) fn bring<T: Data>(value: &T) -> Result<(), String> {
    // Acquire: as in `entry_of`.
    if const { can_be_elsewhere::<T>() } && COUNT.load(Acquire) > 0 { bring_slowly(value) } else { Ok(()) }
}

#[cold]
fn bring_slowly<T: Data>(value: &T) -> Result<(), String> {
    let mut outcome = Ok(());
    if let Some(form) = T::DEVICE {
        (form.visit)(value, &mut |raw| {
            if outcome.is_ok()
                && let Some(entry) = arena::place_of(raw).and_then(|place| entry_of(key_of(place)))
            {
                outcome = entry.bring();
            }
        });
    }
    outcome
}

/// Another process may change the buffers of a value, or is to have them for good: devices have no replicas from now on. They have been brought before.
pub(crate) fn forget<T: Data>(value: &T) {
    // Acquire: as in `entry_of`.
    if const { can_be_elsewhere::<T>() }
        && COUNT.load(Acquire) > 0
        && let Some(form) = T::DEVICE
    {
        (form.visit)(value, &mut |raw| {
            if let Some(place) = arena::place_of(raw) {
                changes(key_of(place));
            }
        });
    }
}

/// How the contents of a block can be computed again, if it has them nowhere but on devices.
pub(crate) fn lineage_of(place: Place) -> Option<(Arc<dyn Lineage>, usize)> {
    let entry = entry_of(key_of(place))?;
    let state = lock(&entry.state);
    if state.host_valid { None } else { state.lineage.clone() }
}

impl State {
    /// Takes replicas out, to be dropped without the lock.
    fn take_replicas(&mut self, gone: impl Fn(&Replica) -> bool) -> Vec<Replica> {
        let taken: Vec<_> = self.replicas.extract_if(.., |replica| gone(replica)).collect();
        for replica in &taken {
            replica.space.take_away(replica.bytes);
        }
        taken
    }

    fn replica_in(&mut self, space: &Arc<DeviceSpace>) -> Option<&mut Replica> {
        self.replicas.iter_mut().find(|replica| Arc::ptr_eq(&replica.space, space))
    }
}

impl Entry {
    /// The entry of a block, which is made if there is none.
    fn enter(place: Place) -> Arc<Self> {
        let mut directory = lock(&DIRECTORY);
        let new = || {
            COUNT.fetch_add(1, Release);
            let state = State { host_valid: true, has_backup: false, replicas: Vec::new(), lineage: None };
            Arc::new(Self { place, transfer: Mutex::default(), state: Mutex::new(state) })
        };
        Arc::clone(directory.entry(key_of(place)).or_insert_with(new))
    }

    /// Sees to it that the block has the contents.
    fn bring(&self) -> Result<(), String> {
        if lock(&self.state).host_valid {
            return Ok(());
        }
        // Somebody else may be at it.
        let transfer = lock(&self.transfer);
        let (chunk, space) = {
            let mut state = lock(&self.state);
            if state.host_valid {
                return Ok(());
            }
            match state.replicas.iter_mut().find(|replica| replica.valid && replica.space.lost().is_none()) {
                Some(replica) => (Some(Arc::clone(&replica.chunk)), Arc::clone(&replica.space)),
                None => match state.replicas.first() {
                    Some(replica) => (None, Arc::clone(&replica.space)),
                    None => return Err("no copy of its data is left".into()),
                },
            }
        };
        let read = match &chunk {
            Some(chunk) => {
                // SAFETY: until the block is valid nobody but the holder of `transfer` touches it, and its buffer is alive: whoever asks has it.
                let bytes = unsafe { arena::bytes_of(self.place) };
                chunk.read(0, bytes).map_err(|error| error.reason)
            }
            None => Err(space.lost().unwrap_or("it was lost").into()),
        };
        let lineage = {
            let mut state = lock(&self.state);
            match &read {
                Ok(()) => {
                    state.host_valid = true;
                    space.counts.downloaded.fetch_add(self.place.len_bytes, Relaxed);
                    state.lineage.take()
                }
                Err(_) => state.lineage.clone(),
            }
        };
        let Err(reason) = read else {
            drop(transfer);
            drop(lineage);
            return Ok(());
        };
        let Some((lineage, index)) = lineage else {
            return Err(format!("its data was on {} alone, and cannot be had: {reason}", space.info.name));
        };
        drop(transfer);
        let computed = lineage.compute(index).and_then(|output| {
            let has_size = output.len_bytes() == self.place.len_bytes;
            if has_size { Ok(output) } else { Err("it came out in another size".into()) }
        });
        let output = computed
            .map_err(|why| format!("its data was lost with {} ({reason}), and cannot be computed again: {why}", space.info.name))?;
        let _transfer = lock(&self.transfer);
        let mut state = lock(&self.state);
        if !state.host_valid {
            // SAFETY: as above; whoever else computed it has not written it, or it would be valid.
            unsafe { arena::bytes_of(self.place) }.copy_from_slice(output.as_bytes());
            state.host_valid = true;
        }
        let gone = (state.take_replicas(|replica| Arc::ptr_eq(&replica.space, &space)), state.lineage.take());
        drop(state);
        drop(gone);
        Ok(())
    }
}

/// Brings the buffers of a launch into a space, as far as that is to be done before the launch is submitted: their room is there, and the operands say what is to
/// be copied. Called with the space's `issue` lock held; then comes `submit`, and in the end `commit` or `take_back`.
pub(crate) fn prepare(space: &Arc<DeviceSpace>, uses: &[Use]) -> Result<Prepared, Refusal> {
    let entries: Vec<_> = uses.iter().map(|one| Entry::enter(one.place)).collect();
    // What only another device has, or has a long history, comes to the host first.
    for (entry, one) in entries.iter().zip(uses) {
        let is_away = {
            let mut state = lock(&entry.state);
            let deep = state.lineage.as_ref().is_some_and(|(lineage, _)| lineage.depth() >= DEPTH_MAX);
            !one.is_fresh
                && one.access != Access::Overwrite
                && !state.host_valid
                && (deep || !state.replica_in(space).is_some_and(|replica| replica.valid))
        };
        if is_away {
            entry.bring().map_err(Refusal::Never)?;
        }
    }
    let mut prepared = Prepared { operands: Vec::new(), space: Arc::clone(space), uses: Vec::new() };
    if !space.imports() {
        let mut missing: Vec<Key> = Vec::new();
        let mut missing_bytes = 0;
        let mut there_bytes = 0;
        for (entry, one) in entries.iter().zip(uses) {
            let key = key_of(one.place);
            if missing.contains(&key) {
                continue;
            }
            let bytes = DeviceSpace::taken_bytes(one.place.len_bytes);
            match lock(&entry.state).replica_in(space) {
                Some(replica) => {
                    // Not to be evicted for the others.
                    replica.uses += 1;
                    there_bytes += replica.bytes;
                    prepared.uses.push((Arc::clone(entry), Access::Read));
                }
                None => missing_bytes += bytes,
            }
            missing.push(key);
        }
        let room = make_room(space, missing_bytes, there_bytes);
        let pinned = std::mem::take(&mut prepared.uses);
        let outcome = room.and_then(|()| fill(space, &entries, uses, &mut prepared));
        unpin(space, &pinned);
        if let Err(refusal) = outcome {
            take_back(prepared, true);
            return Err(refusal);
        }
        return Ok(prepared);
    }
    if let Err(refusal) = fill(space, &entries, uses, &mut prepared) {
        take_back(prepared, true);
        return Err(refusal);
    }
    Ok(prepared)
}

impl Prepared {
    /// Whether what the launch writes is nowhere else, so that it is worth to know how it was computed.
    pub(crate) fn keeps_lineage(&self) -> bool {
        !self.space.imports()
    }
}

fn unpin(space: &Arc<DeviceSpace>, uses: &[(Arc<Entry>, Access)]) {
    for (entry, _) in uses {
        if let Some(replica) = lock(&entry.state).replica_in(space) {
            replica.uses -= 1;
        }
    }
}

/// Makes the operands of a launch. There is room for all of them, as far as we have counted.
fn fill(space: &Arc<DeviceSpace>, entries: &[Arc<Entry>], uses: &[Use], prepared: &mut Prepared) -> Result<(), Refusal> {
    for (entry, one) in entries.iter().zip(uses) {
        let has_replica = lock(&entry.state).replica_in(space).is_some();
        if !has_replica {
            let replica = new_replica(space, one)?;
            space.add(replica.bytes);
            lock(&entry.state).replicas.push(replica);
        }
        let mut state = lock(&entry.state);
        let host_valid = state.host_valid;
        let Some(replica) = state.replica_in(space) else { unreachable!("it was just put there") };
        replica.uses += 1;
        replica.last_use = space.tick();
        let is_read = !one.is_fresh && one.access != Access::Overwrite;
        let source = (is_read && !replica.valid && !replica.is_import).then(|| arena::host_block(one.place));
        debug_assert!(!is_read || replica.valid || host_valid, "it was brought before");
        if source.is_some() {
            // For those that are submitted later: they come after the copy.
            replica.valid = true;
            space.counts.uploaded.fetch_add(one.place.len_bytes, Relaxed);
        }
        prepared.operands.push(Operand { chunk: replica.chunk.id(), access: one.access, source });
        if one.access != Access::Read && !replica.is_import {
            // So those find it that are submitted behind this one. On the host nobody looks before it has ended.
            replica.valid = true;
            state.has_backup |= host_valid;
            state.host_valid = false;
        }
        drop(state);
        prepared.uses.push((Arc::clone(entry), one.access));
    }
    Ok(())
}

fn new_replica(space: &Arc<DeviceSpace>, one: &Use) -> Result<Replica, Refusal> {
    let of = |chunk: Box<dyn Chunk>, is_import: bool| Replica {
        space: Arc::clone(space),
        chunk: chunk.into(),
        is_import,
        // An import is what the block is.
        valid: is_import,
        uses: 0,
        last_use: 0,
        bytes: if is_import { 0 } else { DeviceSpace::taken_bytes(one.place.len_bytes) },
    };
    if space.imports() {
        // SAFETY: arenas are never unmapped, and the block is the launch's: its buffer is an argument or a result, and both outlive the launch. Its entry, and
        // with it the chunk, goes with the buffer.
        match unsafe { space.import(arena::host_block(one.place)) } {
            Ok(chunk) => {
                if space.keeps_pages.load(Relaxed) {
                    arena::pin(one.place.arena);
                }
                space.counts.imported.fetch_add(one.place.len_bytes, Relaxed);
                return Ok(of(chunk, true));
            }
            // From now on it gets copies.
            Err(_) => space.refuses.store(true, Relaxed),
        }
    }
    let zeroed = one.is_fresh && one.access == Access::Write;
    match space.allocate(one.place.len_bytes, zeroed) {
        Ok(chunk) => Ok(of(chunk, false)),
        // What others have given up may not be free yet.
        Err(_) if is_busy(space) => Err(Refusal::Wait),
        Err(error) => Err(Refusal::Never(error.to_string())),
    }
}

/// Whether launches use something in the space.
fn is_busy(space: &Arc<DeviceSpace>) -> bool {
    let entries: Vec<_> = lock(&DIRECTORY).values().cloned().collect();
    entries.iter().any(|entry| lock(&entry.state).replica_in(space).is_some_and(|replica| replica.uses > 0))
}

/// Makes room for so much more in a space, beside what the launch has there already: replicas go that were used longest ago.
fn make_room(space: &Arc<DeviceSpace>, missing_bytes: u64, there_bytes: u64) -> Result<(), Refusal> {
    let capacity_bytes = space.capacity_bytes();
    let all_bytes = missing_bytes.saturating_add(there_bytes);
    if all_bytes > capacity_bytes {
        return Err(Refusal::Never(format!(
            "its buffers take {all_bytes} bytes, and {} has {capacity_bytes}: {} too many",
            space.info.name,
            all_bytes - capacity_bytes
        )));
    }
    if space.used_bytes() + missing_bytes <= capacity_bytes {
        return Ok(());
    }
    let entries: Vec<_> = lock(&DIRECTORY).values().cloned().collect();
    let mut victims: Vec<_> = entries
        .iter()
        .filter_map(|entry| {
            let mut state = lock(&entry.state);
            let replica = state.replica_in(space).filter(|replica| replica.uses == 0 && !replica.is_import)?;
            // What is stale goes first.
            Some(((replica.valid, replica.last_use), entry))
        })
        .collect();
    victims.sort_by_key(|(order, _)| *order);
    for (_, entry) in victims {
        entry.bring().map_err(Refusal::Never)?;
        let gone = {
            let mut state = lock(&entry.state);
            // Somebody may be reading it.
            let gone = state.take_replicas(|replica| Arc::ptr_eq(&replica.space, space) && replica.uses == 0);
            gone.iter().for_each(|replica| {
                space.counts.evicted.fetch_add(replica.bytes, Relaxed);
            });
            gone
        };
        drop(gone);
        if space.used_bytes() + missing_bytes <= capacity_bytes {
            return Ok(());
        }
    }
    if is_busy(space) { Err(Refusal::Wait) } else { Err(Refusal::Never("its space has no room, although nothing uses it".into())) }
}

/// The launch is done: what it has written is valid in its space, and nowhere else. `lineage` computes that again.
pub(crate) fn commit(prepared: Prepared, lineage: Option<&Arc<dyn Lineage>>) {
    let Prepared { space, uses, .. } = prepared;
    let mut output = 0;
    for (entry, access) in uses {
        let gone = {
            let mut state = lock(&entry.state);
            let mut is_import = false;
            if let Some(replica) = state.replica_in(&space) {
                replica.uses -= 1;
                is_import = replica.is_import;
                replica.valid |= access != Access::Read;
            }
            if access == Access::Read {
                continue;
            }
            state.has_backup = false;
            state.host_valid = is_import;
            state.lineage = if is_import { None } else { lineage.map(|lineage| (Arc::clone(lineage), output)) };
            output += 1;
            state.take_replicas(|replica| !Arc::ptr_eq(&replica.space, &space) && !replica.is_import)
        };
        drop(gone);
    }
}

/// The launch was not done: what it was to write is not valid in its space; nor is, with `nothing_copied`, what was to be copied for it. False when something that
/// it was to change in place may have been changed in part.
pub(crate) fn take_back(prepared: Prepared, nothing_copied: bool) -> bool {
    let Prepared { space, uses, operands } = prepared;
    let mut is_whole = true;
    for ((entry, access), operand) in uses.into_iter().zip(operands) {
        let gone = {
            let mut state = lock(&entry.state);
            let writes = access != Access::Read;
            let mut is_import = false;
            if let Some(replica) = state.replica_in(&space) {
                replica.uses -= 1;
                is_import = replica.is_import;
                if !is_import && (writes || nothing_copied && operand.source.is_some()) {
                    replica.valid = false;
                }
            }
            if writes && is_import {
                is_whole = false;
            } else if writes {
                state.host_valid |= std::mem::take(&mut state.has_backup);
                is_whole &= state.host_valid;
            }
            state.take_replicas(|replica| Arc::ptr_eq(&replica.space, &space) && !replica.valid && replica.uses == 0)
        };
        drop(gone);
    }
    is_whole
}
