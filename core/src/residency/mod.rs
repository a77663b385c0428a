//! Which memory space has which buffer: the replica directory.
//!
//! A buffer's own block is in the arena of the host. A launch on a device needs its buffers in the device's space: as chunks of its memory, which are copies of the
//! block ("replicas"), or, where the space imports, as the block itself. What a launch has written is valid in its space alone until somebody of the host wants it:
//! [`bring`] copies it back. That is asked wherever the host gets at the result of a task, so code of the host never meets a block that is not valid.
//!
//! One file because each step of a launch relies on what the others left in the same few fields (`README.md`).
//!
//! Blocks that no device has ever seen are not in the directory, and cost nothing here: one load tells that it is empty.
//!
//! Locks: the directory's, for moments; each entry's `state`, for moments; each entry's `transfer`, while its block is copied to the host. They are taken in the
//! order transfer, directory, state; no lock is held while a chunk is dropped or the space is asked for one.
#![expect(unsafe_code, reason = "writes blocks of the host that nobody else looks at meanwhile")]

use std::cell::RefCell;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use poniard_interface::{Access, AllocateError, Chunk, Operand, RawBuffer};

use crate::clock::now_ns;
use crate::data::Data;
use crate::part::Spans;
use crate::planted::{self, Bug};
use crate::region::guard;
use crate::sleep_lock::SleepLock;
use crate::wire::Place;
use crate::worker::stopwatch;
use crate::{arena, spill};

mod directory;
mod extent;
mod parts;
pub(crate) mod space;

pub(crate) use directory::Directory;
pub(crate) use extent::{Bytes, Extent};
pub(crate) use parts::{bring_part, changes_part};
use space::UnderWay;
pub(crate) use space::{DeviceSpace, Links};

/// Names a block of the host: its arena and where it begins there.
pub(crate) type Key = (u64, u64);

/// A block, or some bytes of one, that a device has, or had.
pub(crate) struct Entry {
    extent: Extent,
    /// All of the block.
    block: Place,
    /// The bytes, counted from the block's beginning.
    spans: Spans,
    /// Held by whoever copies the block to the host; the others wait for it.
    transfer: SleepLock<()>,
    state: Mutex<State>,
}

struct State {
    /// Whether the block itself has the contents.
    host_valid: bool,
    /// Whether it has them as they were before a launch that is under way and changes them.
    has_backup: bool,
    /// Launches that change the contents, not in the block: those that are under way, and all that there ever were.
    writers: u32,
    version: u64,
    /// The buffer is gone: the block is somebody else's, or nobody's.
    has_ended: bool,
    /// Whoever is going to change the block asks first: nobody has since it was last seen where nobody can be changing it.
    is_settled: bool,
    /// How many launches would have to be repeated for the contents, while the block does not have them.
    depth: u32,
    replicas: Vec<Replica>,
    /// How to compute the contents again, if that is possible: kept while the block does not have them.
    lineage: Option<LineageOf>,
}

/// How a launch is repeated, and which of its results is wanted.
type LineageOf = (Arc<dyn Lineage>, usize);

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
    /// There will never be.
    Never(String),
    /// Something that it needs has to be computed again first, by [`restore`].
    Lost(Lost),
}

/// What has to be computed again.
pub(crate) struct Lost(Arc<Entry>);

impl std::fmt::Debug for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lost").field(&self.0.extent).finish()
    }
}

/// Computes it again. Runs code of users, or launches; no lock is held.
///
/// # Errors
/// Why that cannot be, in words.
pub(crate) fn restore(lost: &Lost) -> Result<(), String> {
    lost.0.bring(Recompute::Always)
}

/// What a launch uses of the directory.
pub(crate) struct Prepared {
    pub(crate) operands: Vec<Operand>,
    space: Arc<DeviceSpace>,
    uses: Vec<Used>,
    /// What is copied to the device for it.
    uploaded_bytes: u64,
    /// What is copied to it from bytes with gaps: gathered, until the launch has ended.
    gathered: Vec<RawBuffer>,
    _under_way: UnderWay,
}

/// A buffer that a launch uses, and what has to be undone if it does not happen.
struct Used {
    entry: Arc<Entry>,
    access: Access,
    is_fresh: bool,
    /// Whether the replica was valid before.
    was_valid: bool,
    /// Whether the block is copied to it for the launch.
    is_copied: bool,
    /// Whether the block was what had the contents.
    was_host_valid: bool,
    /// Whether it counts as one that is written.
    is_written: bool,
}

/// How far a launch came that did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undone {
    /// It was not submitted.
    Untouched,
    /// Its copies were made.
    Copied,
    /// It may have run, in part or whole.
    Begun,
}

/// A buffer of a launch.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    pub(crate) extent: Extent,
    /// The block that it is, or is a part of.
    pub(crate) block: Place,
    pub(crate) access: Access,
    /// It is a result: what its block has is of no interest.
    pub(crate) is_fresh: bool,
}

impl Use {
    /// Whether it is the same bytes, in the same order.
    fn is_same(&self, other: &Self) -> bool {
        self.block == other.block && self.extent == other.extent
    }

    /// All of a block.
    pub(crate) fn of_block(block: Place, access: Access, is_fresh: bool) -> Self {
        Self { extent: Extent::of_block(block), block, access, is_fresh }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is complete before anything that can panic is called.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key_of(place: Place) -> Key {
    (place.arena, place.offset)
}

/// Whether a block is in the directory.
pub(crate) fn is_known(key: Key) -> bool {
    !directory::of_block(key).is_empty()
}

/// Notes that nobody is changing a block, if it is in the directory, and whether it is. Its buffer says so (`note_replicas`) before anybody does.
pub(crate) fn settle(key: Key) -> bool {
    let entries = directory::of_block(key);
    entries.iter().for_each(|entry| lock(&entry.state).is_settled = true);
    !entries.is_empty()
}

/// Those blocks of more than so many bytes that have their contents, and that no launch uses: their replicas can go. Longest ago first.
pub(crate) fn settled(least_bytes: u64) -> Vec<Place> {
    if directory::is_empty() {
        return Vec::new();
    }
    let mut settled = directory::filter_map(|entries| {
        let block = entries.first()?.block;
        if block.len_bytes < least_bytes || entries.iter().any(|entry| Arc::strong_count(entry) > 1) {
            return None;
        }
        let mut last_use = None;
        let can_leave = entries.iter().all(|entry| {
            let state = lock(&entry.state);
            last_use = last_use.max(state.replicas.iter().map(|replica| replica.last_use).max());
            state.can_leave()
        });
        can_leave.then_some((last_use, block))
    });
    settled.sort_by_key(|(last_use, _)| *last_use);
    settled.into_iter().map(|(_, place)| place).collect()
}

/// Takes a block out of the directory that no launch uses and that has its contents, so that it is like one which no device has ever had: what is to be dropped then, without a lock.
/// Nothing if it is not like that, or not there.
pub(crate) fn release(place: Place) -> Option<impl Sized> {
    // Whoever else has the entry is about to use it. Only under the directory's lock somebody gets it.
    let removed = directory::remove_if(key_of(place), |entry| Arc::strong_count(entry) == 1 && lock(&entry.state).can_leave());
    let gone = |entry: &Arc<Entry>| {
        let mut state = lock(&entry.state);
        (state.take_replicas(|_| true), state.lineage.take())
    };
    (!removed.is_empty()).then(|| removed.iter().map(gone).collect::<Vec<_>>())
}

/// Whoever has the block is about to change it: what devices have of it is stale from now on.
#[cold]
pub(crate) fn changes(key: Key) {
    directory::of_block(key).iter().for_each(|entry| entry.changes());
}

/// The block is nobody's any more.
#[inline]
pub(crate) fn ends(key: Key) {
    if !directory::is_empty() {
        remove(key);
    }
}

#[cold]
fn remove(key: Key) {
    for entry in directory::remove(key) {
        // Whoever copies to the block, to make room, is waited for: after this it is somebody else's.
        let _transfer = entry.transfer.lock();
        let (gone, lineage) = {
            let mut state = lock(&entry.state);
            state.has_ended = true;
            (state.take_replicas(|_| true), state.lineage.take())
        };
        drop(gone);
        drop(lineage);
    }
}

/// Gives up all replicas in a space that ends; what is nowhere else is copied to the host first.
pub(crate) fn leave(space: &Arc<DeviceSpace>) {
    // In the order of their use, which does not depend on where blocks lie.
    let last_use = |entry: Arc<Entry>| Some((lock(&entry.state).replica_in(space)?.last_use, Arc::clone(&entry)));
    let mut entries: Vec<_> = directory::all().into_iter().filter_map(last_use).collect();
    entries.sort_by_key(|(last_use, _)| *last_use);
    for (_, entry) in entries {
        // What cannot be brought is lost: whoever wants it learns that later.
        let _ = entry.bring(Recompute::Always);
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

/// Sees to it that the host has the contents of all buffers of a value, and can read them. Costs a load where no device has any, and one where nothing was ever compressed.
///
/// # Errors
/// Why they cannot be had, in words.
#[inline]
pub(crate) fn bring<T: Data>(value: &T) -> Result<(), String> {
    if const { can_be_elsewhere::<T>() } && !directory::is_empty() {
        bring_slowly(value, Recompute::Always)?;
    }
    spill::see(value)
}

/// The same for what has just been computed again: only if its device is lost by now that is done once more, and not for ever where copies from it fail.
///
/// # Errors
/// As [`bring`].
pub(crate) fn bring_recomputed<T: Data>(value: &T) -> Result<(), String> {
    if const { can_be_elsewhere::<T>() } && !directory::is_empty() {
        bring_slowly(value, Recompute::WhenLost)?;
    }
    spill::see(value)
}

#[cold]
fn bring_slowly<T: Data>(value: &T, recompute: Recompute) -> Result<(), String> {
    // A transfer is no part of what the body takes: links have models of their own.
    stopwatch::aside(|| bring_blocks(value, recompute))
}

fn bring_blocks<T: Data>(value: &T, recompute: Recompute) -> Result<(), String> {
    let mut outcome = Ok(());
    if let Some(form) = T::DEVICE {
        (form.visit)(value, &mut |raw| {
            if outcome.is_ok()
                && let Some(place) = arena::place_of(raw)
            {
                outcome = directory::of_block(key_of(place)).iter().try_for_each(|entry| entry.bring(recompute));
            }
        });
    }
    outcome
}

/// Another process may change the buffers of a value, or is to have them for good: devices have no replicas from now on. They have been brought before.
pub(crate) fn forget<T: Data>(value: &T) {
    if const { can_be_elsewhere::<T>() }
        && !directory::is_empty()
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
pub(crate) fn lineage_of(place: Place) -> Option<LineageOf> {
    let entry = directory::get(key_of(place), &Extent::of_block(place))?;
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

    /// Whether the block has the contents, and nobody uses them elsewhere or changes them.
    fn can_leave(&self) -> bool {
        self.host_valid && self.is_settled && !self.has_backup && self.replicas.iter().all(|replica| replica.uses == 0)
    }

    /// Whether the block has the contents, and no device is at work in it: one that has imported it may be changing it.
    fn is_at_rest(&self) -> bool {
        self.host_valid && self.replicas.iter().all(|replica| !replica.is_import || replica.uses == 0)
    }

    /// What devices have is stale. Their memory stays: who has had it on a device once may well want it there again, and new memory costs more than the copy. When there is no
    /// room they go.
    fn outdate(&mut self) {
        if !planted::is(Bug::StaleReplica) {
            self.replicas.iter_mut().filter(|replica| !replica.is_import).for_each(|replica| replica.valid = false);
        }
    }

    fn replica_in(&mut self, space: &Arc<DeviceSpace>) -> Option<&mut Replica> {
        self.replicas.iter_mut().find(|replica| Arc::ptr_eq(&replica.space, space))
    }

    /// The copy that has the contents while the block does not: what wrote it was the last, so there is no other.
    fn holder(&self) -> Option<&Replica> {
        self.replicas.iter().find(|replica| !replica.is_import && replica.valid && replica.space.lost().is_none())
    }
}

impl Entry {
    /// The entry of a block, or of some bytes of one, which is made if there is none. Nobody is changing those.
    fn enter(one: &Use) -> Arc<Self> {
        let (extent, block) = (&one.extent, one.block);
        // Of a part it is not known that nobody is changing the others.
        let is_settled = *extent == Extent::of_block(block);
        let new = || {
            let state = State {
                host_valid: true,
                has_backup: false,
                writers: 0,
                version: 0,
                has_ended: false,
                is_settled,
                depth: 0,
                replicas: Vec::new(),
                lineage: None,
            };
            Self { extent: extent.clone(), block, spans: extent.spans(block), transfer: SleepLock::default(), state: Mutex::new(state) }
        };
        directory::enter(key_of(block), extent, new, |entry| lock(&entry.state).is_settled |= is_settled)
    }

    /// A launch uses its replica in a space from now on, if there is one, which stays as long as it is in use.
    fn begin_use(&self, space: &Arc<DeviceSpace>) -> bool {
        let mut state = lock(&self.state);
        let Some(replica) = state.replica_in(space) else { return false };
        replica.uses += 1;
        replica.last_use = space.tick();
        true
    }

    /// The state, for a launch that uses the replica in a space. If that has to be copied from bytes with gaps, also those, gathered; if there is no memory for them, the launch does not use it any
    /// more. The space's `issue` is held.
    fn use_in(&self, space: &Arc<DeviceSpace>, is_read: bool) -> Result<(MutexGuard<'_, State>, Option<RawBuffer>), Unfilled> {
        let mut gathered = None;
        loop {
            let mut state = lock(&self.state);
            let Some(replica) = state.replica_in(space) else { unreachable!("it is in use") };
            let strided = match &self.extent.strided {
                // A launch that did not happen may make it stale at any time: so once they are there this looks again, and they may be there for nothing.
                Some(strided) if is_read && !replica.valid && gathered.is_none() => strided,
                _ => return Ok((state, gathered)),
            };
            drop(state);
            // SAFETY: the buffer is an argument of the launch, so it stays, and whoever changes these bytes has ended or waits for the launch. What devices have newer has been brought
            // (`prepare`), and if a launch that has not ended changes them the replica is valid, or this one is not submitted behind it (`can_follow`).
            match unsafe { strided.gather(self.block) } {
                Ok(bytes) => gathered = Some(bytes),
                Err(error) => {
                    if let Some(replica) = lock(&self.state).replica_in(space) {
                        replica.uses -= 1;
                    }
                    return Err(Unfilled::Host(error));
                }
            }
        }
    }

    /// See [`changes`].
    fn changes(&self) {
        // Somebody may be copying to the block what is of no interest any more.
        let _transfer = self.transfer.lock();
        let lineage = {
            let mut state = lock(&self.state);
            state.host_valid = true;
            state.is_settled = false;
            state.depth = 0;
            state.outdate();
            state.lineage.take()
        };
        drop(lineage);
    }

    /// Sees to it that the block has the contents.
    fn bring(&self, recompute: Recompute) -> Result<(), String> {
        if lock(&self.state).host_valid {
            return Ok(());
        }
        // Somebody else may be at it. What the device reports meanwhile is seen to without the lock.
        let read = deferring(|| {
            let _transfer = self.transfer.lock();
            self.read()
        });
        let (space, reason) = match read {
            Ok(lineage) => {
                drop(lineage);
                return Ok(());
            }
            Err(Unread { space: None, reason }) => return Err(reason),
            Err(Unread { space: Some(space), reason }) => (space, reason),
        };
        let Some((lineage, index)) = lock(&self.state).lineage.clone() else {
            return Err(format!("its data was on {} alone, and cannot be had: {reason}", space.info.name));
        };
        let computes = match recompute {
            Recompute::Always => !planted::is(Bug::NotComputedAgain),
            Recompute::WhenLost => space.lost().is_some(),
            Recompute::Never => false,
        };
        if !computes {
            return Err(reason);
        }
        let computed = lineage.compute(index).and_then(|output| {
            let has_size = output.len_bytes() == self.extent.len_bytes();
            if has_size { Ok(output) } else { Err("it came out in another size".into()) }
        });
        let output = computed
            .map_err(|why| format!("its data was lost with {} ({reason}), and cannot be computed again: {why}", space.info.name))?;
        let transfer = self.transfer.lock();
        let gone = {
            let mut state = lock(&self.state);
            if !state.host_valid && !state.has_ended {
                // SAFETY: the buffer has not ended, and until the block is valid nobody but the holder of `transfer` touches it.
                unsafe { self.extent.put(self.block, output.as_bytes()) };
                state.host_valid = true;
                state.depth = 0;
            }
            (state.take_replicas(|replica| Arc::ptr_eq(&replica.space, &space) && replica.uses == 0), state.lineage.take())
        };
        drop(transfer);
        drop(gone);
        Ok(())
    }

    /// Copies the contents to the block, by whoever holds `transfer`. What is not needed any more then.
    fn read(&self) -> Result<Option<LineageOf>, Unread> {
        let (chunk, space, version) = {
            let state = lock(&self.state);
            if state.host_valid || state.has_ended {
                return Ok(None);
            }
            // Only to make room somebody wants it then, and where it is it will be stale.
            if state.writers > 0 && !planted::is(Bug::ReadWhileWritten) {
                return Err(Unread { space: None, reason: "a launch is changing it".into() });
            }
            // An import is the block itself.
            match state.holder() {
                Some(replica) => (Arc::clone(&replica.chunk), Arc::clone(&replica.space), state.version),
                None => {
                    let mut copies = state.replicas.iter().filter(|replica| !replica.is_import);
                    let space = copies.next().map(|replica| Arc::clone(&replica.space));
                    let reason = space.as_ref().and_then(|space| space.lost()).unwrap_or("no copy of its data is left").into();
                    return Err(Unread { space, reason });
                }
            }
        };
        let len_bytes = self.extent.len_bytes();
        // What is between bytes with gaps is others', who may be changing it.
        let mut gathered = if self.extent.is_strided() { vec![0; len_bytes as usize] } else { Vec::new() };
        let bytes = if self.extent.is_strided() {
            &mut gathered[..]
        } else {
            // SAFETY: until the block is valid nobody but the holder of `transfer` touches it, and it is not given up before (`remove`).
            unsafe { arena::bytes_of(self.extent.place) }
        };
        let (quiet, begun_ns) = (space.quiet(), now_ns());
        if let Err(error) = chunk.read(0, bytes) {
            return Err(Unread { space: Some(space), reason: error.reason });
        }
        let took_ns = now_ns() - begun_ns;
        if quiet.is_some() && space.quiet() == quiet {
            space.links().down.record(len_bytes, took_ns);
        }
        if self.extent.is_strided() {
            // SAFETY: as above, of these bytes.
            unsafe { self.extent.put(self.block, &gathered) };
        }
        let mut state = lock(&self.state);
        if state.version != version && !planted::is(Bug::ReadWhileWritten) {
            return Err(Unread { space: None, reason: "a launch has changed it meanwhile".into() });
        }
        state.host_valid = true;
        state.depth = 0;
        space.counts.downloaded.fetch_add(len_bytes, Relaxed);
        Ok(state.lineage.take())
    }
}

/// Whether contents that cannot be had are computed again, which no lock survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recompute {
    Always,
    /// Only if the device is lost that had them.
    WhenLost,
    Never,
}

/// Why a block did not get its contents.
struct Unread {
    /// Where they were.
    space: Option<Arc<DeviceSpace>>,
    reason: String,
}

/// Whether a launch with these buffers can be submitted behind those that make them: it changes nothing in place, which could not be undone if one before it fails,
/// and what it reads has no history that is too long, and is not in a block that a device changes where it lies, as those before it may do.
pub(crate) fn can_follow(uses: &[Use]) -> bool {
    uses.iter().all(|one| {
        one.is_fresh
            || one.access == Access::Read
                && directory::get(key_of(one.block), &one.extent).is_none_or(|entry| {
                    let state = lock(&entry.state);
                    state.host_valid || state.depth < DEPTH_MAX
                })
                && parts::meeting(one).iter().all(|entry| lock(&entry.state).is_at_rest())
    })
}

/// What has to be moved for buffers to be where a launch needs them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// What only another device has is moved twice.
    pub(crate) bytes: u64,
    /// How long that takes, as far as is known.
    pub(crate) ns: u64,
}

/// What would have to be moved for these buffers to be in a space, or in the host's memory, as things are. What only another device has comes by way of the host.
pub(crate) fn missing(space: Option<&Arc<DeviceSpace>>, uses: &[Use]) -> Missing {
    let mut up_bytes = 0u64;
    let mut down: Vec<(Arc<DeviceSpace>, u64)> = Vec::new();
    for (index, one) in uses.iter().enumerate() {
        let is_again = || uses[..index].iter().any(|before| before.is_same(one));
        if one.is_fresh || one.access == Access::Overwrite || is_again() {
            continue;
        }
        let len_bytes = one.extent.len_bytes();
        let entry = directory::get(key_of(one.block), &one.extent);
        let mut state = entry.as_ref().map(|entry| lock(&entry.state));
        let is_on_host = state.as_ref().is_none_or(|state| state.host_valid);
        let imports = space.is_some_and(|space| space.imports()) && !one.extent.is_strided();
        let is_in =
            |space| state.as_mut().and_then(|state| state.replica_in(space)).is_some_and(|replica| replica.valid && !replica.is_import);
        if is_on_host && imports || space.map_or(is_on_host, is_in) {
            continue;
        }
        if let Some(holder) = state.as_ref().filter(|_| !is_on_host).and_then(|state| state.holder()) {
            match down.iter_mut().find(|(space, _)| Arc::ptr_eq(space, &holder.space)) {
                Some((_, bytes)) => *bytes += len_bytes,
                None => down.push((Arc::clone(&holder.space), len_bytes)),
            }
        }
        if space.is_some() && !imports {
            up_bytes += len_bytes;
        }
    }
    let up_ns = space.filter(|_| up_bytes > 0).map_or(0, |space| space.links().up.estimate(up_bytes).mean_ns);
    let begin = Missing { bytes: up_bytes, ns: up_ns };
    down.iter().fold(begin, |sum, (space, bytes)| Missing {
        bytes: sum.bytes + bytes,
        ns: sum.ns.saturating_add(space.links().down.estimate(*bytes).mean_ns),
    })
}

/// Brings the buffers of a launch into a space, as far as that is to be done before the launch is submitted: their room is there, and the operands say what is to
/// be copied. Called with the space's `issue` lock held; then comes `submit`, and in the end `commit` or `take_back`.
pub(crate) fn prepare(space: &Arc<DeviceSpace>, uses: &[Use]) -> Result<Prepared, Refusal> {
    // In the name of whoever launches, and maybe for others who wait.
    guard::lift_here();
    let entries: Vec<_> = uses.iter().map(Entry::enter).collect();
    // After they have been entered, so none is spilled from now on.
    uses.iter().try_for_each(|one| spill::withdraw(one.block)).map_err(Refusal::Never)?;
    parts::prepare(uses)?;
    // What only another device has, or has a long history, comes to the host first.
    for (entry, one) in entries.iter().zip(uses) {
        let is_away = {
            let mut state = lock(&entry.state);
            let is_deep = state.depth >= DEPTH_MAX && state.lineage.is_some();
            !one.is_fresh
                && one.access != Access::Overwrite
                && !state.host_valid
                && (is_deep || !state.replica_in(space).is_some_and(|replica| replica.valid && !replica.is_import))
        };
        if is_away && entry.bring(Recompute::Never).is_err() {
            return Err(Refusal::Lost(Lost(Arc::clone(entry))));
        }
    }
    // Twice: what others have given up may not be free yet, or others may have more in the space than we know.
    let mut is_last = false;
    loop {
        // Asked of all entries, so only where the answer is needed.
        let was_busy = is_last && is_busy(space);
        make_room(space, &entries, uses)?;
        let (operands, uses_of_it, under_way) = (Vec::new(), Vec::new(), UnderWay::begin(space));
        let mut prepared = Prepared {
            operands,
            space: Arc::clone(space),
            uses: uses_of_it,
            uploaded_bytes: 0,
            gathered: Vec::new(),
            _under_way: under_way,
        };
        let Err(unfilled) = fill(space, &entries, uses, &mut prepared) else { return Ok(prepared) };
        take_back(prepared, Undone::Untouched);
        let error = match unfilled {
            Unfilled::Device(error) => error,
            // To give up what the device has would not help.
            Unfilled::Host(_) if is_busy(space) => return Err(Refusal::Wait),
            Unfilled::Host(error) => return Err(Refusal::Never(error.to_string())),
        };
        if is_last && is_busy(space) {
            return Err(Refusal::Wait);
        }
        // What launches used that have ended meanwhile may leave now.
        if is_last && !was_busy {
            return Err(Refusal::Never(error.to_string()));
        }
        evict(space, &entries, u64::MAX);
        is_last = true;
    }
}

impl Prepared {
    /// Notes how long the copies for it took that the device has made.
    pub(crate) fn measured_upload(&self, ns: u64) {
        if self.uploaded_bytes > 0 {
            self.space.links().up.record(self.uploaded_bytes, ns);
        }
    }

    /// Whether what the launch writes is nowhere else, so that it is worth to know how it was computed.
    pub(crate) fn keeps_lineage(&self) -> bool {
        !self.space.imports()
    }

    /// Lets go of what was only read: others may have it as soon as the launch lets go of its arguments.
    pub(crate) fn release_reads(&mut self) {
        let space = Arc::clone(&self.space);
        self.uses.retain(|used| {
            if used.access == Access::Read
                && let Some(replica) = lock(&used.entry.state).replica_in(&space)
            {
                replica.uses -= 1;
            }
            used.access != Access::Read
        });
    }
}

/// Where there is no memory for what a launch needs.
enum Unfilled {
    Device(AllocateError),
    Host(AllocateError),
}

/// Makes the operands of a launch. There is room for all of them, as far as we have counted.
fn fill(space: &Arc<DeviceSpace>, entries: &[Arc<Entry>], uses: &[Use], prepared: &mut Prepared) -> Result<(), Unfilled> {
    let depth_of = |entry: &Entry| {
        let state = lock(&entry.state);
        if state.host_valid { 0 } else { state.depth }
    };
    let reads = entries.iter().zip(uses).filter(|(_, one)| !one.is_fresh && one.access == Access::Read);
    let depth = 1 + reads.map(|(entry, _)| depth_of(entry)).max().unwrap_or(0);
    for (entry, one) in entries.iter().zip(uses) {
        if !entry.begin_use(space) {
            // Nobody else adds one: that is done under `issue`.
            let replica = Replica { uses: 1, last_use: space.tick(), ..new_replica(space, one).map_err(Unfilled::Device)? };
            space.add(replica.bytes);
            lock(&entry.state).replicas.push(replica);
        }
        if one.access != Access::Read {
            parts::outdate(one);
        }
        let is_read = !one.is_fresh && one.access != Access::Overwrite;
        let (mut state, gathered) = entry.use_in(space, is_read)?;
        let was_host_valid = state.host_valid;
        let Some(replica) = state.replica_in(space) else { unreachable!("it is in use") };
        let (was_valid, is_import) = (replica.valid, replica.is_import);
        let lies_at = gathered.as_ref().and_then(arena::place_of).unwrap_or(one.extent.place);
        let source = (is_read && !was_valid && !is_import).then(|| arena::host_block(lies_at));
        let is_copied = source.is_some();
        if is_copied {
            // For those that are submitted later: they come after the copy.
            replica.valid = true;
        }
        prepared.operands.push(Operand { chunk: replica.chunk.id(), access: one.access, source });
        let is_written = one.access != Access::Read && !is_import;
        if is_written {
            // So those find it that are submitted behind this one. On the host nobody looks before it has ended.
            replica.valid = true;
            state.writers += 1;
            state.version += 1;
            state.has_backup = was_host_valid;
            state.host_valid = false;
            if one.is_fresh {
                state.depth = depth;
            }
        }
        drop(state);
        let (entry, access, is_fresh) = (Arc::clone(entry), one.access, one.is_fresh);
        prepared.uses.push(Used { entry, access, is_fresh, was_valid, is_copied, was_host_valid, is_written });
        if is_copied {
            prepared.gathered.extend(gathered);
            prepared.uploaded_bytes += one.extent.len_bytes();
            space.counts.uploaded.fetch_add(one.extent.len_bytes(), Relaxed);
            if space.keeps_pages.load(Relaxed) {
                // The device may take it from the arena's pages.
                arena::pin(lies_at.arena).map_err(|reason| Unfilled::Host(AllocateError::new(one.extent.len_bytes(), reason)))?;
            }
        }
    }
    Ok(())
}

fn new_replica(space: &Arc<DeviceSpace>, one: &Use) -> Result<Replica, AllocateError> {
    let len_bytes = one.extent.len_bytes();
    let of = |chunk: Box<dyn Chunk>, is_import: bool| Replica {
        space: Arc::clone(space),
        chunk: chunk.into(),
        is_import,
        // An import is what the block is.
        valid: is_import,
        uses: 0,
        last_use: 0,
        bytes: if is_import { 0 } else { DeviceSpace::taken_bytes(len_bytes) },
    };
    if space.imports() && !one.extent.is_strided() {
        let place = one.extent.place;
        if space.keeps_pages.load(Relaxed) {
            arena::pin(place.arena).map_err(|reason| AllocateError::new(len_bytes, reason))?;
        }
        // The device may take all of the arena, whoever uses which part of it.
        let _down = guard::stand_down(arena::addresses(place.arena));
        // SAFETY: arenas are never unmapped, and the block is the launch's: its buffer is an argument or a result, and both outlive the launch. Its entry, and
        // with it the chunk, goes with the buffer.
        match unsafe { space.import(arena::host_block(place)) } {
            Ok(chunk) => {
                space.counts.imported.fetch_add(len_bytes, Relaxed);
                return Ok(of(chunk, true));
            }
            // A part may begin where the device can bind nothing.
            Err(_) if place != one.block => {}
            // From now on it gets copies.
            Err(_) => space.refuses.store(true, Relaxed),
        }
    }
    let zeroed = one.is_fresh && one.access == Access::Write;
    space.allocate(len_bytes, zeroed).map(|chunk| of(chunk, false))
}

/// Whether launches use something in the space.
fn is_busy(space: &Arc<DeviceSpace>) -> bool {
    let entries = directory::all();
    entries.iter().any(|entry| lock(&entry.state).replica_in(space).is_some_and(|replica| replica.uses > 0))
}

/// Makes room in a space for the buffers of a launch that are not there.
fn make_room(space: &Arc<DeviceSpace>, entries: &[Arc<Entry>], uses: &[Use]) -> Result<(), Refusal> {
    if space.imports() {
        return Ok(());
    }
    let (mut seen, mut missing_bytes, mut all_bytes) = (Vec::new(), 0u64, 0u64);
    for (entry, one) in entries.iter().zip(uses) {
        if seen.contains(&&one.extent) {
            continue;
        }
        seen.push(&one.extent);
        let there_bytes = lock(&entry.state).replica_in(space).map(|replica| replica.bytes);
        let bytes = DeviceSpace::taken_bytes(one.extent.len_bytes());
        all_bytes = all_bytes.saturating_add(there_bytes.unwrap_or(bytes));
        if there_bytes.is_none() {
            missing_bytes = missing_bytes.saturating_add(bytes);
        }
    }
    let capacity_bytes = space.capacity_bytes();
    if all_bytes > capacity_bytes {
        return Err(Refusal::Never(format!(
            "its buffers take {all_bytes} bytes, and {} has {capacity_bytes}: {} too many",
            space.info.name,
            all_bytes - capacity_bytes
        )));
    }
    let above_bytes = || (space.used_bytes() + missing_bytes).saturating_sub(capacity_bytes);
    loop {
        if above_bytes() == 0 {
            return Ok(());
        }
        let was_busy = is_busy(space);
        evict(space, entries, above_bytes());
        match above_bytes() {
            0 => return Ok(()),
            _ if is_busy(space) => return Err(Refusal::Wait),
            // Launches have ended while something left: what they used may leave now. Others do not begin.
            _ if was_busy => {}
            above => return Err(Refusal::Never(format!("{above} bytes of {} are taken by what cannot leave it", space.info.name))),
        }
    }
}

/// Has replicas leave a space, as many as have so many bytes: what is stale first, then what was used longest ago. Those of `kept` stay.
fn evict(space: &Arc<DeviceSpace>, kept: &[Arc<Entry>], bytes: u64) {
    let entries = directory::all();
    let mut victims: Vec<_> = entries
        .iter()
        .filter(|entry| kept.iter().all(|kept| !Arc::ptr_eq(entry, kept)))
        .filter_map(|entry| {
            let mut state = lock(&entry.state);
            if state.replicas.iter().any(|replica| replica.uses > 0) {
                return None;
            }
            let replica = state.replica_in(space).filter(|replica| !replica.is_import)?;
            Some(((replica.valid, replica.last_use), entry))
        })
        .collect();
    victims.sort_by_key(|(order, _)| *order);
    let mut gone_bytes = 0;
    for (_, entry) in victims {
        // What would have to be computed again stays: it is lost here, too, and takes no memory that works.
        // Of what a launch is changing elsewhere, the host has what was there before, if that is needed at all.
        let is_outdated = lock(&entry.state).writers > 0 && !planted::is(Bug::ReadWhileWritten);
        let stays = || !is_outdated && !planted::is(Bug::LostWriteBack) && entry.bring(Recompute::Never).is_err();
        if gone_bytes >= bytes || stays() {
            continue;
        }
        let gone = {
            let mut state = lock(&entry.state);
            state.host_valid |= planted::is(Bug::LostWriteBack) && !is_outdated;
            state.take_replicas(|replica| Arc::ptr_eq(&replica.space, space) && replica.uses == 0)
        };
        let left_bytes: u64 = gone.iter().map(|replica| replica.bytes).sum();
        if planted::is(Bug::LeakedReplica) {
            space.add(left_bytes);
        }
        space.counts.evicted.fetch_add(left_bytes, Relaxed);
        gone_bytes += left_bytes;
        drop(gone);
    }
}

/// The launch is done, and its reads have been released: what it has written is valid in its space, and nowhere else. `lineage` computes that again.
pub(crate) fn commit(prepared: Prepared, lineage: Option<&Arc<dyn Lineage>>) {
    let Prepared { space, uses, .. } = prepared;
    for (used, output) in uses.into_iter().zip(0..) {
        let gone = {
            let mut state = lock(&used.entry.state);
            let mut is_import = false;
            if let Some(replica) = state.replica_in(&space) {
                replica.uses -= 1;
                is_import = replica.is_import;
                replica.valid = true;
            }
            state.writers -= u32::from(used.is_written);
            state.has_backup = false;
            state.host_valid = is_import;
            let lineage = if is_import { None } else { lineage.map(|lineage| (Arc::clone(lineage), output)) };
            if lineage.is_none() {
                state.depth = 0;
            }
            let before = std::mem::replace(&mut state.lineage, lineage);
            // Elsewhere it is stale; an import is the block, and asks that first.
            (state.take_replicas(|replica| !Arc::ptr_eq(&replica.space, &space) && !replica.is_import && replica.uses == 0), before)
        };
        drop(gone);
    }
}

/// The launch was not done. False when something that it was to change in place may have been changed.
pub(crate) fn take_back(prepared: Prepared, undone: Undone) -> bool {
    let Prepared { space, uses, .. } = prepared;
    let mut is_whole = true;
    for used in uses {
        let gone = {
            let mut state = lock(&used.entry.state);
            let writes = used.access != Access::Read;
            let mut is_import = false;
            state.writers -= u32::from(used.is_written);
            if let Some(replica) = state.replica_in(&space) {
                replica.uses -= 1;
                is_import = replica.is_import;
                if !is_import {
                    // What the launch has begun to write is of no use, nor what was to be copied and was not. Otherwise all is as before.
                    let has_copy = used.is_copied && undone == Undone::Copied;
                    let is_spoiled = writes && undone == Undone::Begun || used.is_copied && !has_copy;
                    replica.valid = !is_spoiled && (used.was_valid || has_copy || !writes && replica.valid);
                }
            }
            if writes && !is_import {
                state.host_valid |= used.was_host_valid;
                state.has_backup = false;
            }
            // Results begin anew, and what is overwritten as well.
            let has_contents = used.is_fresh || used.access == Access::Overwrite;
            if writes && !has_contents && undone == Undone::Begun {
                is_whole &= !is_import && state.host_valid;
            }
            state.take_replicas(|replica| Arc::ptr_eq(&replica.space, &space) && !replica.valid && replica.uses == 0)
        };
        drop(gone);
    }
    is_whole
}

/// What is to be done when a thread holds no locks any more.
type Later = Box<dyn FnOnce()>;

thread_local! {
    /// What processors have reported while this thread holds locks, to be taken up; nothing while it does not.
    static LATER: RefCell<Option<Vec<Later>>> = const { RefCell::new(None) };
}

/// What of this belongs to a logical thread that does not run just now.
#[derive(Default)]
pub(crate) struct Saved(Option<Vec<Later>>);

impl std::fmt::Debug for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Saved").field(&self.0.as_ref().map(Vec::len)).finish()
    }
}

/// Exchanges it for what is there.
pub(crate) fn swap(saved: &mut Saved) {
    LATER.with_borrow_mut(|later| std::mem::swap(later, &mut saved.0));
}

/// Does something that holds locks and may have processors report what they have done, which needs those locks. That is seen to afterwards.
pub(crate) fn deferring<R>(body: impl FnOnce() -> R) -> R {
    let is_outermost = LATER.with_borrow_mut(|later| {
        let is_outermost = later.is_none();
        later.get_or_insert_default();
        is_outermost
    });
    let result = body();
    if is_outermost {
        // In their order; each may lead to more, which is then not left to this.
        LATER.take().into_iter().flatten().for_each(|act| act());
    }
    result
}

/// Whether this thread may hold locks of launches.
pub(crate) fn holds_locks() -> bool {
    LATER.with_borrow(Option::is_some)
}

/// Leaves something to whoever holds locks on this thread; does it now if nobody does.
pub(crate) fn later(act: impl FnOnce() + 'static) {
    let act: Later = Box::new(act);
    let left = LATER.with_borrow_mut(|later| match later {
        Some(later) => {
            later.push(act);
            None
        }
        None => Some(act),
    });
    if let Some(act) = left {
        act();
    }
}
