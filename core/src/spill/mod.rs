//! What is not needed just now goes to the disk when memory is short, and comes back by itself (`README.md`).
//!
//! A block that is on the disk has its address all the same: a part of the spill file is mapped there in place of the arena, so whoever has a reference to its elements
//! reads on. Only who changes it, another process and a device need it in the arena, and ask for it. Where the user has said so, results that nobody has looked at yet are
//! compressed: those cannot be read in their place, so whoever gets at one has it unpacked first.

#[cfg(target_os = "linux")]
mod blocks;
#[cfg(target_os = "linux")]
mod file;
#[cfg(target_os = "linux")]
mod mapping;
#[cfg(not(target_os = "linux"))]
mod nowhere;
#[cfg(target_os = "linux")]
mod packed;

#[cfg(target_os = "linux")]
pub(crate) use blocks::*;
#[cfg(target_os = "linux")]
pub(crate) use mapping::Location;
#[cfg(not(target_os = "linux"))]
pub(crate) use nowhere::*;

use std::path::PathBuf;

use poniard_interface::RawBuffer;

use crate::data::Data;
use crate::residency::can_be_elsewhere;
use crate::worker::stopwatch;

/// Where spilled blocks go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Folder {
    /// The first of the usual folders for temporary files that is on a disk.
    #[default]
    Usual,
    /// Nowhere: nothing is spilled.
    Off,
    Named(PathBuf),
}

/// Smaller blocks stay: they are not worth a mapping of their own.
const MIN_BYTES: u64 = 64 << 10;

/// What is on the disk, and what has gone there and come back, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) away_bytes: u64,
    pub(crate) written_bytes: u64,
    /// What compression has spared of that.
    pub(crate) saved_bytes: u64,
    pub(crate) read_bytes: u64,
}

/// A result that nobody will change in its place: its buffers may be spilled from now on. Costs a load while there is much room.
#[inline]
pub(crate) fn offer_all<T: Data>(value: &T) {
    if const { can_be_elsewhere::<T>() } && crate::arena::is_filling() {
        offer_slowly(value, false);
    }
}

/// The same for what a task has just made, and nobody has a reference to or gets one but by [`see`]: it may be compressed.
#[inline]
pub(crate) fn offer_unseen<T: Data>(value: &T) {
    if const { can_be_elsewhere::<T>() } && crate::arena::is_filling() {
        offer_slowly(value, true);
    }
}

/// Code of the host is about to get at a value: its buffers are unpacked, and are not compressed from now on. Costs a load where nothing ever was.
///
/// # Errors
/// Why they cannot be had, in words.
#[inline]
pub(crate) fn see<T: Data>(value: &T) -> Result<(), String> {
    if const { can_be_elsewhere::<T>() } && packs() { visit_all(value, see_block) } else { Ok(()) }
}

/// The body of a task is going to read a value, or with `takes` to have it for its own, or somebody else is: sees to it that its buffers are at hand. Costs two loads while
/// there is much room.
///
/// # Errors
/// Why they cannot be had, in words.
#[inline]
pub(crate) fn look_at<T: Data>(value: &T, takes: bool) -> Result<(), String> {
    if const { can_be_elsewhere::<T>() } && is_active() { look_slowly(value, takes) } else { Ok(()) }
}

#[cold]
fn look_slowly<T: Data>(value: &T, takes: bool) -> Result<(), String> {
    visit_all(value, |raw| read(raw, takes))
}

#[cold]
fn visit_all<T: Data>(value: &T, visit: impl Fn(&RawBuffer) -> Result<(), String>) -> Result<(), String> {
    let mut outcome = Ok(());
    if let Some(form) = T::DEVICE {
        // What the disk takes is no part of what the body takes.
        stopwatch::aside(|| {
            (form.visit)(value, &mut |raw| {
                if outcome.is_ok() {
                    outcome = visit(raw);
                }
            });
        });
    }
    outcome
}

#[cold]
fn offer_slowly<T: Data>(value: &T, is_unseen: bool) {
    if let Some(form) = T::DEVICE {
        (form.visit)(value, &mut |raw| offer(raw, is_unseen));
        crate::arena::tell_waiting();
    }
}
