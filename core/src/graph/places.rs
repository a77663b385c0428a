//! Access of nodes to values in place: which node comes after which, and how a run keeps others away from the values meanwhile.
#![expect(unsafe_code, reason = "values in place, which a run keeps others away from and edges keep its nodes apart")]

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;

use poniard_interface::Access;

use super::arguments::{IntoNodeArg, WiredArg};
use super::builder::Wiring;
use super::code::{Frame, Place};
use crate::data::Data;
use crate::error::TaskError;
use crate::mutable::{Commute, Historic, InPlace, Read, Reduce, Target, Viewed, ViewedInPlace, Write, enter_all, met_by, wait_for_all};
use crate::part::{Part, ReadField, ReadPart, View, ViewMut, WriteField, WritePart};
use crate::task::record::Hold;

/// Nodes with access to the same elements, while a graph is built.
#[derive(Debug, Default)]
struct Uses {
    writer: Option<u32>,
    readers: Vec<u32>,
}

/// A value that nodes have access to, while a graph is built.
struct Used {
    owner: Arc<dyn Historic>,
    writes: bool,
    whole: Uses,
    parts: BTreeMap<u32, Uses>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Places {
    used: Vec<Used>,
    /// By the address of each one's history.
    numbers: BTreeMap<usize, usize>,
    /// Where a node was added that has access to the same twice, and not only to read.
    pub(super) twice: Option<&'static Location<'static>>,
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Places({})", self.used.len())
    }
}

impl Uses {
    /// Shows the nodes that an access comes after.
    fn conflicts(&self, access: Access, found: &mut impl FnMut(u32)) {
        self.writer.into_iter().for_each(&mut *found);
        if access != Access::Read {
            self.readers.iter().copied().for_each(found);
        }
    }

    fn add(&mut self, access: Access, node: u32) {
        if access == Access::Read {
            if self.readers.last() != Some(&node) {
                self.readers.push(node);
            }
        } else {
            self.readers.clear();
            self.writer = Some(node);
        }
    }
}

impl Places {
    /// Enters the access of a node, and shows those that it comes after; the node itself among them if it has another access that conflicts.
    fn touch(&mut self, owner: &Arc<dyn Historic>, target: Target, access: Access, node: u32, found: &mut impl FnMut(u32)) {
        let address = std::ptr::from_ref(owner.history()).addr();
        let number = *self.numbers.entry(address).or_insert_with(|| {
            self.used.push(Used { owner: Arc::clone(owner), writes: false, whole: Uses::default(), parts: BTreeMap::new() });
            self.used.len() - 1
        });
        let used = &mut self.used[number];
        used.writes |= access != Access::Read;
        used.whole.conflicts(access, found);
        match target {
            Target::Part(part) => {
                let met = met_by(&**owner, part);
                met.iter().filter_map(|other| used.parts.get(other)).for_each(|uses| uses.conflicts(access, found));
                let own = used.parts.entry(part).or_default();
                own.conflicts(access, found);
                own.add(access, node);
            }
            Target::Whole => {
                used.parts.values().for_each(|uses| uses.conflicts(access, found));
                if access != Access::Read {
                    used.parts.clear();
                }
                used.whole.add(access, node);
            }
        }
    }

    /// What a run has to have, in the order in which it is locked.
    pub(super) fn finish(self) -> Vec<Needed> {
        let mut needed: Vec<Needed> = self
            .used
            .into_iter()
            .map(|used| Needed { owner: used.owner, access: if used.writes { Access::Write } else { Access::Read } })
            .collect();
        needed.sort_by_key(|needed| std::ptr::from_ref(needed.owner.history()).addr());
        needed
    }
}

/// A value that a run has access to.
pub(super) struct Needed {
    pub(super) owner: Arc<dyn Historic>,
    pub(super) access: Access,
}

impl fmt::Debug for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Needed").field("access", &self.access).finish_non_exhaustive()
    }
}

/// Joins all histories for a run, in one step, and waits for those that come before.
///
/// # Errors
/// That of a task before, of whose result the values are; or why waiting would never end.
pub(super) fn acquire(needed: &[Needed], location: &'static Location<'static>) -> Result<Hold, TaskError> {
    let (hold, before) = enter_all(needed.iter().map(|needed| (&*needed.owner, needed.access)), location);
    let hold = wait_for_all(hold, &before)?;
    for one in needed {
        if let Some(error) = one.owner.consumed() {
            return Err(hold.reference().error(crate::error::FailureKind::Dependency(error)));
        }
        one.owner.make_ready(one.access).map_err(|reason| hold.reference().error(crate::error::FailureKind::Lost { reason }))?;
    }
    Ok(hold)
}

impl Wiring<'_> {
    fn touch(&mut self, owner: &Arc<dyn Historic>, target: Target, access: Access) {
        let node = self.node();
        let mut before = Vec::new();
        self.places().touch(owner, target, access, node, &mut |other| before.push(other));
        for other in before {
            if other == node { self.note_twice() } else { self.come_after(other) }
        }
    }
}

/// A value that is used where it is.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "the value may be in the middle of a change")]
pub struct WiredPlace<T> {
    /// Keeps the value.
    _owner: Arc<dyn Historic>,
    value: NonNull<T>,
}

// SAFETY: the value is `Send` and `Sync` (`Data`), and the nodes of a run reach it when no other node or task changes it.
unsafe impl<T: Data> Send for WiredPlace<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Data> Sync for WiredPlace<T> {}

/// A value in place, while its node runs.
#[doc(hidden)]
#[derive(Debug)]
pub struct PlaceMut<'a, T> {
    value: NonNull<T>,
    of: PhantomData<&'a mut T>,
}

impl<'a, T> PlaceMut<'a, T> {
    pub(crate) fn get(self) -> &'a mut T {
        let mut value = self.value;
        // SAFETY: the node writes the value: edges keep all others of the run that have access to it apart from this one, and the run's hold those of the rest.
        unsafe { value.as_mut() }
    }
}

impl<T: Data> WiredArg<T> for WiredPlace<T> {
    #[inline]
    fn place<'a>(&'a self, _frame: &Frame<'a>) -> Place<'a, T> {
        // SAFETY: nodes of the run that write it come before this one or after it, and the run's hold keeps the rest away.
        Place::of(unsafe { self.value.as_ref() })
    }
}

impl<T: Data> WiredArg<InPlace<T>> for WiredPlace<T> {
    #[inline]
    fn place<'a>(&'a self, _frame: &Frame<'a>) -> PlaceMut<'a, T> {
        PlaceMut { value: self.value, of: PhantomData }
    }
}

impl<T: Data> IntoNodeArg<T> for Read<T> {
    type Wired = WiredPlace<T>;

    fn wire(self, wiring: &mut Wiring<'_>) -> WiredPlace<T> {
        let (owner, value) = self.0.historic();
        wiring.touch(&owner, Target::Whole, Access::Read);
        WiredPlace { _owner: owner, value }
    }
}

impl<T: Data> IntoNodeArg<InPlace<T>> for Write<T> {
    type Wired = WiredPlace<T>;

    fn wire(self, wiring: &mut Wiring<'_>) -> WiredPlace<T> {
        let (owner, value) = self.0.historic();
        wiring.touch(&owner, Target::Whole, self.1);
        WiredPlace { _owner: owner, value }
    }
}

impl<T: Data> IntoNodeArg<InPlace<T>> for Commute<T> {
    type Wired = WiredPlace<T>;

    fn wire(self, wiring: &mut Wiring<'_>) -> WiredPlace<T> {
        let (owner, value) = self.0.historic();
        wiring.touch(&owner, Target::Whole, Access::Write);
        WiredPlace { _owner: owner, value }
    }
}

impl<T: Data> IntoNodeArg<InPlace<T>> for Reduce<T> {
    type Wired = WiredPlace<T>;

    fn wire(self, wiring: &mut Wiring<'_>) -> WiredPlace<T> {
        let (owner, value) = self.place.historic();
        wiring.touch(&owner, Target::Whole, Access::Write);
        WiredPlace { _owner: owner, value }
    }
}

impl<T: Data> IntoNodeArg<T> for ReadField<T> {
    type Wired = WiredPlace<T>;

    fn wire(self, wiring: &mut Wiring<'_>) -> WiredPlace<T> {
        wiring.touch(&self.0.owner, Target::Part(self.0.number), Access::Read);
        WiredPlace { value: self.0.value, _owner: Arc::clone(&self.0.owner) }
    }
}

impl<T: Data> IntoNodeArg<InPlace<T>> for WriteField<T> {
    type Wired = WiredPlace<T>;

    fn wire(self, wiring: &mut Wiring<'_>) -> WiredPlace<T> {
        wiring.touch(&self.0.owner, Target::Part(self.0.number), self.1);
        WiredPlace { value: self.0.value, _owner: Arc::clone(&self.0.owner) }
    }
}

/// Elements that are used where they are.
#[doc(hidden)]
#[derive(Debug)]
pub struct WiredPart<E> {
    part: Part<E>,
    access: Access,
}

impl<E> Drop for WiredPart<E> {
    fn drop(&mut self) {
        if self.access != Access::Read {
            self.part.owner.end_to_write(false);
        }
    }
}

impl<E: Data> WiredPart<E> {
    fn new(part: Part<E>, access: Access, wiring: &mut Wiring<'_>) -> Self {
        let owner = Arc::clone(&part.owner) as Arc<dyn Historic>;
        wiring.touch(&owner, Target::Part(part.number), access);
        if access != Access::Read {
            // For as long as there is the graph, as nobody tells when a node is over.
            part.owner.begin_to_write();
        }
        Self { part, access }
    }

    fn first(&self) -> NonNull<E> {
        match self.part.owner.bring(self.access, &self.part.form, &self.part.spans) {
            Ok(first) => first,
            // The node fails with that.
            Err(reason) => panic!("{reason}"),
        }
    }
}

impl<E: Data> WiredArg<Viewed<E>> for WiredPart<E> {
    fn place<'a>(&'a self, _frame: &Frame<'a>) -> View<'a, E> {
        // SAFETY: nodes of the run that write one of the elements come before this one or after it, and the run's hold keeps the rest away.
        unsafe { View::new(self.first(), &self.part.form) }
    }
}

impl<E: Data> WiredArg<ViewedInPlace<E>> for WiredPart<E> {
    fn place<'a>(&'a self, _frame: &Frame<'a>) -> ViewMut<'a, E> {
        // SAFETY: nodes of the run with access to one of the elements come before this one or after it, and the run's hold keeps the rest away.
        unsafe { ViewMut::new(self.first(), &self.part.form) }
    }
}

impl<E: Data> IntoNodeArg<Viewed<E>> for ReadPart<E> {
    type Wired = WiredPart<E>;

    fn wire(self, wiring: &mut Wiring<'_>) -> WiredPart<E> {
        WiredPart::new(self.0, Access::Read, wiring)
    }
}

impl<E: Data> IntoNodeArg<ViewedInPlace<E>> for WritePart<E> {
    type Wired = WiredPart<E>;

    fn wire(self, wiring: &mut Wiring<'_>) -> WiredPart<E> {
        WiredPart::new(self.0, self.1, wiring)
    }
}
