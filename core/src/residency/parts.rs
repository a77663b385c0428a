//! Parts of blocks that were used alone: each has an entry of its own, with replicas of its own length.
//!
//! Entries of a block may have bytes in common. The host is where they meet: of those that have a byte in common at most one has contents that the block has not. Whoever is going to
//! use bytes of a block has those brought first that have newer ones, and nothing else; whoever writes makes the others stale.

use std::sync::Arc;

use super::{Entry, Key, Lost, Recompute, Refusal, Use, directory, key_of, lock};
use crate::wire::Place;
use crate::worker::stopwatch;

impl Entry {
    fn range(&self) -> (u64, u64) {
        (self.place.offset, self.place.offset + self.place.len_bytes)
    }

    fn meets(&self, place: Place) -> bool {
        let (begin, end) = self.range();
        begin < place.offset + place.len_bytes && place.offset < end
    }
}

/// The other entries of the block that have a byte in common with what a launch uses.
pub(super) fn meeting(one: &Use) -> Vec<Arc<Entry>> {
    let mut entries = directory::of_block(key_of(one.block));
    entries.retain(|entry| entry.place != one.place && entry.meets(one.place));
    entries
}

/// The block has what others have newer of the bytes that a launch uses, and of those around them.
pub(super) fn prepare(uses: &[Use]) -> Result<(), Refusal> {
    for one in uses.iter().filter(|one| !one.is_fresh) {
        for entry in meeting(one) {
            if entry.bring(Recompute::Never).is_err() {
                return Err(Refusal::Lost(Lost(entry)));
            }
        }
    }
    Ok(())
}

/// A launch writes: what others have of these bytes is stale from now on. It has been brought (`prepare`).
pub(super) fn outdate(one: &Use) {
    for entry in meeting(one) {
        lock(&entry.state).outdate();
    }
}

/// Sees to it that the host has some elements of a block, `meets` says whether they have one in `begin..end`, in bytes from the block's beginning.
///
/// # Errors
/// Why it cannot have them, in words.
pub(crate) fn bring_part(block: Key, meets: impl Fn(u64, u64) -> bool) -> Result<(), String> {
    let mut entries = directory::of_block(block);
    entries.retain(|entry| {
        let (begin, end) = entry.range();
        meets(begin - block.1, end - block.1)
    });
    if entries.is_empty() {
        return Ok(());
    }
    // A transfer is no part of what the body takes: links have models of their own.
    stopwatch::aside(|| entries.iter().try_for_each(|entry| entry.bring(Recompute::Always)))
}

/// Whoever has the elements is about to change them, which were brought: what devices have of them is stale from now on.
pub(crate) fn changes_part(block: Key, meets: impl Fn(u64, u64) -> bool) {
    for entry in directory::of_block(block) {
        let (begin, end) = entry.range();
        if meets(begin - block.1, end - block.1) {
            entry.changes();
        } else {
            // Somebody changes the block, if not these bytes.
            lock(&entry.state).is_settled = false;
        }
    }
}
