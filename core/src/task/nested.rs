//! How deeply the freeing of records is nested on this thread, and those that are put off.
//!
//! What a record holds may be the last handle of another task, and so on: a chain of handles that were captured or returned would take as much stack as it is long.
//! So a record whose turn comes too deep inside the freeing of others is put on a list, which the outermost one empties.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

use crate::task::record::Header;

/// So deep the freeing of one record may be inside that of another. Their destructors run where they always did; only what is deeper comes later.
const DEPTH_MAX: u32 = 16;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Whether there are any in `PUT_OFF`, which costs more to look at.
    static IS_ANY_PUT_OFF: Cell<bool> = const { Cell::new(false) };
    static PUT_OFF: RefCell<Vec<NonNull<Header>>> = const { RefCell::new(Vec::new()) };
}

/// What of this belongs to a logical thread that does not run just now.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    depth: u32,
    is_any_put_off: bool,
    put_off: Vec<NonNull<Header>>,
}

/// Exchanges it for what is there.
pub(crate) fn swap(saved: &mut Saved) {
    saved.depth = DEPTH.replace(saved.depth);
    saved.is_any_put_off = IS_ANY_PUT_OFF.replace(saved.is_any_put_off);
    // At the end of the system's thread there is none, and no logical thread either.
    let _ = PUT_OFF.try_with(|put_off| std::mem::swap(&mut *put_off.borrow_mut(), &mut saved.put_off));
}

/// Whether this is too deep for what holds users' values to be dropped at once.
#[inline]
pub(crate) fn is_deep() -> bool {
    DEPTH.get() >= DEPTH_MAX
}

/// Begins to drop what a record holds; `leave` ends it.
#[inline]
pub(crate) fn enter() {
    DEPTH.set(DEPTH.get() + 1);
}

/// Puts a record that is to be freed off. False where that is not possible any more, at the end of the thread.
#[cold]
pub(crate) fn put_off(record: NonNull<Header>) -> bool {
    IS_ANY_PUT_OFF.set(true);
    PUT_OFF.try_with(|put_off| put_off.borrow_mut().push(record)).is_ok()
}

/// A record that was put off, for the outermost one before it leaves.
#[inline]
pub(crate) fn next() -> Option<NonNull<Header>> {
    if DEPTH.get() == 1 && IS_ANY_PUT_OFF.get() { take() } else { None }
}

#[cold]
fn take() -> Option<NonNull<Header>> {
    let record = PUT_OFF.try_with(|put_off| put_off.borrow_mut().pop()).ok().flatten();
    IS_ANY_PUT_OFF.set(record.is_some());
    record
}

/// Ends what `enter` began.
#[inline]
pub(crate) fn leave() {
    DEPTH.set(DEPTH.get() - 1);
}
