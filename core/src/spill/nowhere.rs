//! Where the kernel cannot do what it takes, nothing is spilled.

use poniard_interface::RawBuffer;

use super::{Folder, Usage};
use crate::residency::Key;
use crate::wire::Place;

impl Folder {
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Self::Named(_) = self { Err("on this system nothing is spilled".into()) } else { Ok(()) }
    }
}

pub(crate) fn is_active() -> bool {
    false
}

pub(crate) fn is_known(_: Key) -> bool {
    false
}

pub(crate) fn set_folder(_: Folder) {}

pub(crate) fn set_limit(_: u64) {}

pub(crate) fn usage() -> Usage {
    Usage::default()
}

pub(crate) fn set_compress(_: bool) {}

pub(crate) fn packs() -> bool {
    false
}

pub(crate) fn see_block(_: &RawBuffer) -> Result<(), String> {
    Ok(())
}

pub(crate) fn offer(_: &RawBuffer, _: bool) {}

pub(crate) fn read(_: &RawBuffer, _: bool) -> Result<(), String> {
    Ok(())
}

pub(crate) fn withdraw(_: Place) -> Result<(), String> {
    Ok(())
}

pub(crate) fn withdraw_all(_: u64) -> Result<(), String> {
    Ok(())
}

pub(crate) fn hold(_: Place) -> Result<Option<RawBuffer>, String> {
    Ok(None)
}

pub(crate) fn let_go(_: u64) {}

pub(crate) fn ends(_: Place) -> bool {
    false
}

pub(crate) fn make_room(_: u64) -> Result<(), String> {
    Err("on this system nothing is spilled".into())
}
