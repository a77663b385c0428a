//! Processors as scopes tell them apart, and sets of them.

use std::fmt;

use poniard_interface::{DeviceInfo, ProcessorKind, SpaceId, WorkerId};

/// A process of the operating system that runs tasks of a runtime.
///
/// [`ProcessId::HOST`] is the program's own; worker processes have the numbers that follow, in the order of their processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(pub u32);

impl ProcessId {
    /// The process that the runtime is in.
    pub const HOST: Self = Self(0);
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A processor of a runtime: all by which a [`Scope`](crate::Scope) can tell it from others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessorIdentity {
    /// Its name, unique within its backend.
    pub name: String,
    /// What code it runs.
    pub kind: ProcessorKind,
    /// The name of its backend.
    pub backend: String,
    /// The process that it runs tasks in.
    pub process: ProcessId,
    /// The memory that it works in.
    pub space: SpaceId,
    /// The worker that it is; `None` for a processor that takes batches.
    pub worker: Option<WorkerId>,
    /// The device that it is, if it is one. Not known inside worker processes.
    pub device: Option<DeviceInfo>,
}

impl ProcessorIdentity {
    /// Its place in the order of the runtime; in a worker process, too, whose own list begins with the process itself.
    pub(crate) fn order(&self) -> u32 {
        self.worker.map_or(u32::MAX, |worker| worker.0)
    }
}

impl fmt::Display for ProcessorIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (kind {}, backend {})", self.name, self.kind, self.backend)
    }
}

/// Bits in a word of a [`ProcessorSet`].
const WORD: usize = u64::BITS as usize;

/// A set of processors of one runtime, by their places in its list: what a scope comes to there. One bit for each processor of the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProcessorSet {
    words: Box<[u64]>,
}

impl ProcessorSet {
    /// Those of `count` processors for which `contains` holds.
    pub(crate) fn of(count: usize, contains: impl Fn(usize) -> bool) -> Self {
        let mut words = vec![0; count.div_ceil(WORD)].into_boxed_slice();
        for place in (0..count).filter(|place| contains(*place)) {
            words[place / WORD] |= 1 << (place % WORD);
        }
        Self { words }
    }

    /// All of `count` processors.
    pub(crate) fn all(count: usize) -> Self {
        Self::of(count, |_| true)
    }

    pub(crate) fn contains(&self, place: usize) -> bool {
        self.words.get(place / WORD).is_some_and(|word| word & 1 << (place % WORD) != 0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The places in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.words.len() * WORD).filter(|place| self.contains(*place))
    }

    /// This set changed, word by word, by one of the same runtime.
    fn with(mut self, other: &Self, change: impl Fn(u64, u64) -> u64) -> Self {
        assert_eq!(self.words.len(), other.words.len(), "sets of one runtime are equally long");
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word = change(*word, *other);
        }
        self
    }

    pub(crate) fn or(self, other: &Self) -> Self {
        self.with(other, |word, other| word | other)
    }

    pub(crate) fn and(self, other: &Self) -> Self {
        self.with(other, |word, other| word & other)
    }

    pub(crate) fn except(self, other: &Self) -> Self {
        self.with(other, |word, other| word & !other)
    }

    pub(crate) fn is_subset_of(&self, other: &Self) -> bool {
        self.clone().except(other).is_empty()
    }

    pub(crate) fn is_disjoint_from(&self, other: &Self) -> bool {
        self.clone().and(other).is_empty()
    }
}
