//! What an argument depends on, as it is before its task has been ordered.

use std::sync::Arc;

use super::history::{Mode, Target};
use super::mark::{Deferred, Marked, lock_all, lock_marked};
use super::{Gone, Historic};
use crate::part::Spans;
use crate::task::record::{Header, TaskRef};

/// A task whose result is taken, or a value that is used in its place.
#[doc(hidden)]
#[derive(Debug)]
pub struct Seen<'a>(pub(crate) SeenAs<'a>);

/// The same, for who looks.
pub(crate) enum SeenAs<'a> {
    Result(&'a Header),
    Place(SeenPlace<'a>),
}

/// An access.
#[derive(Clone, Copy)]
pub(crate) struct SeenPlace<'a> {
    owner: &'a dyn Historic,
    pub(crate) target: Target,
    pub(crate) mode: Mode,
    /// Which elements; none: all.
    pub(crate) spans: Option<&'a Arc<Spans>>,
}

impl<'a> Seen<'a> {
    pub(crate) fn result(task: &'a Header) -> Self {
        Self(SeenAs::Result(task))
    }

    pub(super) fn place(owner: &'a dyn Historic, target: Target, mode: Mode, spans: Option<&'a Arc<Spans>>) -> Self {
        Self(SeenAs::Place(SeenPlace { owner, target, mode, spans }))
    }
}

impl std::fmt::Debug for SeenAs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Result(_) => f.write_str("Result"),
            Self::Place(place) => f.debug_tuple("Place").field(&place.target).field(&place.mode).finish(),
        }
    }
}

impl<'a> SeenPlace<'a> {
    /// Tells the value from all others that are alive.
    #[inline]
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self.owner).cast::<()>().addr()
    }

    /// See `History::put_mark`.
    pub(crate) fn put_mark(&self, by: &Arc<dyn Deferred>, value: u32, mode: Mode, before: &mut Vec<TaskRef>, gone: &mut Gone) -> Marked {
        let mut history = lock_marked(self.owner.history());
        // Whoever takes the value out later finds the mark.
        if self.owner.consumed().is_some() {
            return Marked::Unfit;
        }
        history.put_mark(by, value, mode, before, gone)
    }

    /// Takes the mark off, if it is one of `by`.
    pub(crate) fn take_mark(&self, by: &dyn Deferred) {
        lock_marked(self.owner.history()).take_mark(by);
    }

    /// Has whoever else has marked the value give way.
    pub(crate) fn clear_way(&self, own: &dyn Deferred) {
        drop(lock_all::<1>(std::iter::once(self.owner.history()), Some(own)));
    }
}
