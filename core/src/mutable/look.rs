//! How a look at a value is stored until its task runs: what most arguments are.
#![expect(unsafe_code, reason = "a value that several tasks reach, which dependencies keep apart")]

use std::fmt;
use std::sync::Arc;

use super::history::{History, Mode, Target};
use super::seen::Seen;
use super::slot::PlaceSlot;
use super::touch::{OfMode, OfPlace, OfTaker, OfTarget, OfTurn, Touch};
use super::{Historic, Place, Read};
use crate::data::Data;
use crate::error::TaskError;
use crate::parameter::{IntoArg, Slot};
use crate::task::record::{Edge, Header, TaskRef};

/// A look at a [`Mutable`](crate::Mutable): what most arguments are, and so it takes less than half of a [`PlaceSlot`]. It waits for one task at most.
#[doc(hidden)]
pub struct Look<T> {
    place: Arc<Place<T>>,
    /// The last one that wrote the value, found when the task is ordered. One that is run as a node of a graph never is.
    writer: Option<TaskRef>,
    edge: Edge,
}

impl<T> fmt::Debug for Look<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Look").field(&self.place.location).finish()
    }
}

impl<T: Data> Look<T> {
    /// Finds out what to wait for; false if that is more than this has room for.
    #[inline]
    pub(crate) fn try_order(&mut self, history: &History) -> bool {
        if history.must_settle(Mode::Read) {
            return false;
        }
        let mut count = 0;
        let writer = &mut self.writer;
        history.each_conflict(Target::Whole, Mode::Read, |task, needed| {
            debug_assert!(needed, "whoever looks needs what was written");
            writer.get_or_insert_with(|| task.clone());
            count += 1;
        });
        count <= 1
    }

    /// The same access with room for all that there is to wait for.
    pub(crate) fn into_place(self) -> PlaceSlot<T> {
        PlaceSlot::whole(self.place, Mode::Read)
    }

    #[inline]
    pub(crate) fn visit(&self, visit: &mut impl FnMut(&Header, &Edge)) {
        if let Some(writer) = &self.writer {
            visit(writer, &self.edge);
        }
    }

    #[inline]
    pub(crate) fn see(&self, see: &mut impl FnMut(Seen<'_>)) {
        see(Seen::place(&*self.place, Target::Whole, Mode::Read, None));
    }

    #[inline]
    pub(crate) fn failed(&self) -> Option<TaskError> {
        self.writer.as_ref().and_then(|writer| writer.failure()).or_else(|| self.place.consumed_by())
    }

    /// The value.
    #[inline]
    pub(crate) fn get(&self) -> &T {
        // SAFETY: only the body gets here, and whoever looks at the arguments while nobody can claim the task. It has been ordered, and is ready after whoever wrote the value, with no copies left to
        // be combined (`try_order`). Or it is a node of a graph: that begins when all tasks before it have ended that write the value, and no copies are to be combined (`History::put_mark`, the holds of
        // a plan); nodes that write the value come before this one or after; and who comes later waits for the last of them.
        unsafe { self.place.address().as_ref() }
    }
}

impl<T: Data> Touch for Look<T> {
    fn mode(&self) -> OfMode {
        OfMode(Mode::Read)
    }

    fn target(&self) -> OfTarget {
        OfTarget(Target::Whole)
    }

    fn place(&self) -> &dyn Historic {
        &*self.place
    }

    fn owner(&self) -> OfPlace {
        OfPlace(Arc::clone(&self.place) as _)
    }

    fn order(&mut self, history: &History) {
        assert!(self.try_order(history), "whoever stores a look puts something larger in its place where it does not fit");
    }

    fn taker(&self) -> OfTaker {
        OfTaker(None)
    }

    fn visit_edges(&self, visit: &mut dyn FnMut(&Header, &Edge)) {
        self.visit(&mut |task, edge| visit(task, edge));
    }

    fn take_turn(&mut self, _turn: OfTurn) {
        unreachable!("who looks does not commute");
    }
}

impl<T: Data> IntoArg<T> for Read<T> {
    #[inline]
    fn into_slots(self) -> Slot<T> {
        Slot::Look(Look { place: self.0.0, writer: None, edge: Edge::new() })
    }
}
