//! What an access of unknown type is asked while its task is ordered.

use std::fmt;
use std::sync::Arc;

use super::Historic;
use super::consume::Taker;
use super::history::{History, Mode, Target};
use super::turn::Turn;
use crate::task::record::{Edge, Header};

/// An access of unknown type.
#[doc(hidden)]
pub trait Touch {
    /// How the place is used.
    #[doc(hidden)]
    fn mode(&self) -> OfMode;
    #[doc(hidden)]
    fn target(&self) -> OfTarget;
    /// The place, as long as this is there.
    #[doc(hidden)]
    fn place(&self) -> &dyn Historic;
    /// The same, for longer.
    #[doc(hidden)]
    fn owner(&self) -> OfPlace;
    /// Finds out what to wait for. This may lie elsewhere afterwards.
    #[doc(hidden)]
    fn order(&mut self, history: &History);
    /// Whom to tell the task's name, if it may leave the place empty.
    #[doc(hidden)]
    fn taker(&self) -> OfTaker;
    /// Calls `visit` for each task that it waits for, and the edge to it.
    #[doc(hidden)]
    fn visit_edges(&self, visit: &mut dyn FnMut(&Header, &Edge));
    /// Begins to run when it is the task's turn, which ends with this.
    #[doc(hidden)]
    fn take_turn(&mut self, turn: OfTurn);
}

/// What of a place it is.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct OfTarget(pub(super) Target);

/// Keeps a place.
#[doc(hidden)]
pub struct OfPlace(pub(super) Arc<dyn Historic>);

impl fmt::Debug for OfPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OfPlace").field(&std::ptr::from_ref(self.0.history())).finish()
    }
}

/// How it goes with others.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct OfMode(pub(super) Mode);

/// A task's turn.
#[doc(hidden)]
#[derive(Debug)]
pub struct OfTurn(pub(super) Arc<Turn>);

/// Who gets a task's name.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "a name that may not be there yet")]
pub struct OfTaker(pub(super) Option<Arc<Taker>>);
