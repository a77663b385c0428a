//! Parts of blocks that were used alone: each has an entry of its own, with replicas of its own length, also where there are gaps between its bytes.
//!
//! Entries of a block may have bytes in common, which is asked of the bytes and not of what lies between the first and the last of them. The host is where they meet: of those that have a byte in common at most one has contents that the block has not. Whoever is going to
//! use bytes of a block has those brought first that have newer ones, and nothing else; whoever writes makes the others stale.

use std::sync::Arc;

use super::{Entry, Key, Lost, Recompute, Refusal, Use, directory, key_of, lock};
use crate::part::Spans;
use crate::worker::stopwatch;

/// The other entries of the block that have a byte in common with what a launch uses.
pub(super) fn meeting(one: &Use) -> Vec<Arc<Entry>> {
    let mut entries = directory::near(key_of(one.block), one.extent.range());
    entries.retain(|entry| entry.extent != one.extent);
    if !entries.is_empty() {
        let spans = one.extent.spans(one.block);
        entries.retain(|entry| entry.spans.meets(&spans));
    }
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

/// Sees to it that the host has some elements of a block, each of so many bytes.
///
/// # Errors
/// Why it cannot have them, in words.
pub(crate) fn bring_part(block: Key, elements: &Spans, element_bytes: usize) -> Result<(), String> {
    let (start, end) = elements.bounds();
    let position = |element: i64| block.1 + element as u64 * element_bytes as u64;
    let mut entries = directory::near(block, position(start)..position(end));
    if entries.is_empty() {
        return Ok(());
    }
    let spans = elements.scaled(element_bytes);
    entries.retain(|entry| entry.spans.meets(&spans));
    if entries.is_empty() {
        return Ok(());
    }
    // A transfer is no part of what the body takes: links have models of their own.
    stopwatch::aside(|| entries.iter().try_for_each(|entry| entry.bring(Recompute::Always)))
}

/// Whoever has the elements is about to change them, which were brought: what devices have of them is stale from now on.
pub(crate) fn changes_part(block: Key, elements: &Spans, element_bytes: usize) {
    let entries = directory::of_block(block);
    if entries.is_empty() {
        return;
    }
    let spans = elements.scaled(element_bytes);
    for entry in entries {
        if entry.spans.meets(&spans) {
            entry.changes();
        } else {
            // Somebody changes the block, if not these bytes.
            lock(&entry.state).is_settled = false;
        }
    }
}
