//! What a node does, behind an address: its function and its arguments lie in the graph, what it takes and gives in the memory of a run.
//!
//! Who may touch what, and when, is in `README.md` beside this file.
#![expect(unsafe_code, reason = "values and closures of erased type, which the graph tells apart")]

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use super::arguments::{NodeFn, Wired, WiredArg};
use super::state;
use crate::data::Data;
use crate::error::FailureKind;
use crate::parameter::{Gather, Many};
use crate::spill;
use crate::task::record::{dropped_quietly, panic_message};

/// Results lie at multiples of so many bytes; places are given in such units.
pub(super) const UNIT_BYTES: usize = 8;

/// The memory of one run, as the nodes that run see it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    values: NonNull<u8>,
    states: &'a [AtomicU8],
}

impl<'a> Frame<'a> {
    /// # Safety
    /// `values` is memory with the layout that a graph asks for and outlives `'a`, and `states` has the states of its nodes. The frame is given to arguments
    /// of that graph's nodes only, and only once all that the node depends on has finished with a value in this memory.
    pub(super) unsafe fn new(values: NonNull<u8>, states: &'a [AtomicU8]) -> Self {
        Self { values, states }
    }

    /// The place of a result.
    #[inline]
    pub(super) fn value<T>(&self, units: u32) -> NonNull<T> {
        // SAFETY: the places that a graph gives to its nodes lie within the memory that it asks for (`new`).
        unsafe { self.values.add(units as usize * UNIT_BYTES) }.cast()
    }
}

/// Where an argument lies while its node runs.
#[doc(hidden)]
#[derive(Debug)]
pub struct Place<'a, T> {
    value: NonNull<T>,
    /// The state of the node that gave the value, when this is the one that takes it out.
    moved: Option<&'a AtomicU8>,
    lifetime: PhantomData<&'a T>,
}

impl<'a, T> Place<'a, T> {
    pub(super) fn of(value: &'a T) -> Self {
        Self { value: NonNull::from(value), moved: None, lifetime: PhantomData }
    }

    /// Looks at it.
    #[inline]
    pub(crate) fn get(self) -> &'a T {
        // SAFETY: a place is made of a reference, or of a frame whose maker promises that the value is there (`Frame::new`). It is not moved out for `'a`: only
        // `take` of the one place with `moved` does that, and `build` sees to it that its node is the only one to depend on the value.
        unsafe { self.value.as_ref() }
    }
}

impl<T: Clone> Place<'_, T> {
    /// Takes it: out of its place where this was arranged, else a clone.
    #[inline]
    pub(crate) fn take(self) -> T {
        match self.moved {
            Some(state) => {
                // Relaxed: the next to look are this node's dependents, and whoever ends the run.
                state.store(state::MOVED, Relaxed);
                // SAFETY: as in `get`; nobody else reads it, and from the store above on nobody drops it.
                unsafe { self.value.read() }
            }
            None => self.get().clone(),
        }
    }
}

/// A value that is used in every run.
#[doc(hidden)]
#[derive(Debug)]
pub struct Constant<T>(pub(super) T);

/// A value that is used in every run, and that others share.
#[doc(hidden)]
#[derive(Debug)]
pub struct SharedConstant<T>(pub(super) Arc<T>);

/// The result of a node, or an input, by its place.
#[doc(hidden)]
#[derive(Debug)]
pub struct Linked<T> {
    pub(super) units: u32,
    pub(super) of: PhantomData<fn() -> T>,
}

/// The same for the only node to take it.
#[doc(hidden)]
#[derive(Debug)]
pub struct MovedOut<T> {
    pub(super) units: u32,
    pub(super) node: u32,
    pub(super) of: PhantomData<fn() -> T>,
}

/// Any number of results.
#[doc(hidden)]
#[derive(Debug)]
pub struct LinkedMany<T> {
    pub(super) units: Box<[u32]>,
    pub(super) of: PhantomData<fn() -> T>,
}

impl<T: Data> WiredArg<T> for Constant<T> {
    #[inline]
    fn place<'a>(&'a self, _frame: &Frame<'a>) -> Place<'a, T> {
        Place::of(&self.0)
    }
}

impl<T: Data> WiredArg<T> for SharedConstant<T> {
    fn place<'a>(&'a self, _frame: &Frame<'a>) -> Place<'a, T> {
        Place::of(&self.0)
    }
}

impl<T: Data> WiredArg<T> for Linked<T> {
    #[inline]
    fn place<'a>(&'a self, frame: &Frame<'a>) -> Place<'a, T> {
        Place { value: frame.value(self.units), moved: None, lifetime: PhantomData }
    }
}

impl<T: Data> WiredArg<T> for MovedOut<T> {
    fn place<'a>(&'a self, frame: &Frame<'a>) -> Place<'a, T> {
        Place { value: frame.value(self.units), moved: Some(&frame.states[self.node as usize]), lifetime: PhantomData }
    }
}

impl<T: Data> WiredArg<Many<T>> for LinkedMany<T> {
    fn place<'a>(&'a self, frame: &Frame<'a>) -> Gather<'a, T> {
        Gather::of_nodes(Places { frame: *frame, units: &self.units, of: PhantomData })
    }
}

/// Any number of results where they lie.
#[derive(Debug)]
pub(crate) struct Places<'a, T> {
    frame: Frame<'a>,
    units: &'a [u32],
    of: PhantomData<&'a T>,
}

impl<T> Clone for Places<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Places<'_, T> {}

impl<'a, T> Places<'a, T> {
    pub(crate) fn len(&self) -> usize {
        self.units.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&'a T> {
        let units = self.units.get(index)?;
        // SAFETY: the frame's maker promises that the value is there (`Frame::new`), and it is moved out by nobody, as in `Place::get`.
        Some(unsafe { self.frame.value(*units).as_ref() })
    }
}

/// Runs a node once: the frame, the address of its `(F, W)`, the place of its result. Its error, if it has one; the result has been written otherwise.
pub(super) type Run = unsafe fn(&Frame<'_>, NonNull<u8>, NonNull<u8>) -> Option<Box<FailureKind>>;

/// Drops what lies at an address.
pub(super) type DropAt = unsafe fn(NonNull<u8>);

/// The functions of a node that know its types.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) run: Run,
    /// Drops its result; none when there is nothing to do.
    pub(super) drop_value: Option<DropAt>,
    /// Drops its function and its arguments; none when there is nothing to do.
    pub(super) drop_body: Option<DropAt>,
    pub(super) type_name: fn() -> &'static str,
}

impl Code {
    pub(super) const fn of<M, F: NodeFn<M>, W: Wired<F::Params>>() -> Self {
        Self { run: run::<M, F, W>, drop_value: drop_of::<F::Value>(), drop_body: drop_of::<(F, W)>(), type_name: std::any::type_name::<F> }
    }

    /// That of an input with values of type `T`.
    pub(super) const fn of_input<T: Data>() -> Self {
        Self { run: never_run, drop_value: drop_of::<T>(), drop_body: None, type_name: std::any::type_name::<T> }
    }
}

const fn drop_of<T>() -> Option<DropAt> {
    if std::mem::needs_drop::<T>() { Some(drop_at::<T>) } else { None }
}

/// # Safety
/// There is a `T` at the address, which is the caller's to drop.
unsafe fn drop_at<T>(address: NonNull<u8>) {
    // SAFETY: the precondition.
    dropped_quietly(unsafe { address.cast::<T>().read() });
}

unsafe fn never_run(_: &Frame<'_>, _: NonNull<u8>, _: NonNull<u8>) -> Option<Box<FailureKind>> {
    unreachable!("an input is not run")
}

/// # Safety
/// There is a `(F, W)` at `body`, of a node of the graph that the frame is for; what it depends on has finished with values there. `value` is the place of its
/// result, and this is the only call for the node in the run.
unsafe fn run<M, F: NodeFn<M>, W: Wired<F::Params>>(frame: &Frame<'_>, body: NonNull<u8>, value: NonNull<u8>) -> Option<Box<FailureKind>> {
    // SAFETY: the precondition; the graph outlives its runs.
    let (function, wired) = unsafe { body.cast::<(F, W)>().as_ref() };
    match catch_unwind(AssertUnwindSafe(|| function.call(wired.places(frame)))) {
        Ok(Ok(result)) => {
            spill::offer_all(&result);
            // SAFETY: the place is this node's, large enough and aligned for its result, and nothing has been written to it in this run.
            unsafe { value.cast::<F::Value>().write(result) };
            None
        }
        Ok(Err(error)) => Some(Box::new(FailureKind::of_returned(error))),
        Err(payload) => Some(panicked(payload)),
    }
}

#[cold]
fn panicked(payload: Box<dyn std::any::Any + Send>) -> Box<FailureKind> {
    let message = panic_message(&*payload);
    dropped_quietly(payload);
    Box::new(FailureKind::Panicked(message))
}
