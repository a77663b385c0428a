//! Tasks that each change a copy of their own, which are combined when somebody wants the value.

use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError};

use super::consume::Apart;
use super::history::CopyKind;
use super::{Mutable, Place};
use crate::data::Data;

/// How copies begin and how they are combined.
pub(crate) trait Reduction<T>: Send + Sync {
    fn identity(&self) -> T;
    fn combine(&self, into: &mut T, more: T);
}

struct Functions<I, C> {
    identity: I,
    combine: C,
}

impl<T, I: Fn() -> T + Send + Sync, C: Fn(&mut T, T) + Send + Sync> Reduction<T> for Functions<I, C> {
    fn identity(&self) -> T {
        (self.identity)()
    }

    fn combine(&self, into: &mut T, more: T) {
        (self.combine)(into, more);
    }
}

/// A copy that tasks have changed and nobody does now.
pub(crate) struct Made<T> {
    pub(super) copy: T,
    pub(super) functions: Arc<dyn Reduction<T>>,
    pub(super) kind: CopyKind,
}

pub(crate) type Copies<T> = Vec<Made<T>>;

/// As an argument for a parameter `&mut T`: what the task gets is a copy of its own, made by `identity` or left by a task before, and not the value. Tasks next to each other with the same two functions
/// run at the same time. Before anybody else has access to the value, all copies are combined into it, in no particular order: with numbers that are rounded, the result may differ from run to run in the
/// last digits.
///
/// In a [`RegionPlan`](crate::RegionPlan) such tasks change the value itself, one after the other.
///
/// ```
/// use poniard::{Mutable, Runtime, reduce};
///
/// let runtime = Runtime::new()?;
/// let sum = Mutable::new(0u64);
/// runtime.region(|r| {
///     for value in 0..100u64 {
///         r.spawn(|sum: &mut u64, value: u64| *sum += value, (reduce(&sum, || 0, |sum, more| *sum += more), value));
///     }
/// })?;
/// assert_eq!(sum.take()?, 4950);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn reduce<T, I, C>(place: &Mutable<T>, identity: I, combine: C) -> Reduce<T>
where
    T: Data,
    I: Fn() -> T + Send + Sync + 'static,
    C: Fn(&mut T, T) + Send + Sync + 'static,
{
    let kind = CopyKind::of::<(I, C)>();
    Reduce { place: place.clone(), functions: Arc::new(Functions { identity, combine }), kind }
}

/// What [`reduce`] makes.
pub struct Reduce<T> {
    pub(crate) place: Mutable<T>,
    pub(super) functions: Arc<dyn Reduction<T>>,
    /// Tells its functions from others.
    pub(super) kind: CopyKind,
}

impl<T> fmt::Debug for Reduce<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reduce").field(&self.place).finish()
    }
}

/// A task's own copy.
pub(super) struct Own<T> {
    place: Arc<Place<T>>,
    functions: Arc<dyn Reduction<T>>,
    kind: CopyKind,
    /// None until the task begins.
    copy: OnceLock<T>,
}

impl<T> Own<T> {
    pub(super) fn new(place: Arc<Place<T>>, functions: Arc<dyn Reduction<T>>, kind: CopyKind) -> Self {
        Self { place, functions, kind, copy: OnceLock::new() }
    }

    fn begun(&self) -> &T {
        self.copy.get_or_init(|| {
            let mut copies = self.place.lock_copies();
            let like = copies.iter().rposition(|made| made.kind == self.kind);
            let left = like.map(|index| copies.swap_remove(index).copy);
            drop(copies);
            left.unwrap_or_else(|| self.functions.identity())
        })
    }
}

impl<T: Data> Apart<T> for Own<T> {
    fn get(&self) -> &T {
        self.begun()
    }

    fn get_mut(&mut self) -> &mut T {
        self.begun();
        match self.copy.get_mut() {
            Some(copy) => copy,
            None => unreachable!("it has just been made"),
        }
    }
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        if let Some(copy) = self.copy.take() {
            self.place.lock_copies().push(Made { copy, functions: Arc::clone(&self.functions), kind: self.kind });
        }
    }
}

impl<T> fmt::Debug for Own<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").field("has_begun", &self.copy.get().is_some()).finish_non_exhaustive()
    }
}

impl<T> Place<T> {
    fn lock_copies(&self) -> std::sync::MutexGuard<'_, Copies<T>> {
        // Single operations on a list, or `settle_but`, which leaves those copies in it that are not combined.
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the copies to whoever combines them, and keeps others away meanwhile.
    pub(super) fn with_copies<R>(&self, take: impl FnOnce(&mut Copies<T>) -> R) -> R {
        take(&mut self.lock_copies())
    }
}
