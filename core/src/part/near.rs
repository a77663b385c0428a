//! Parts that have been named, by their elements and by where these lie.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Spans;

/// Numbers of parts. Whoever has it says which of those that are near a part meet it.
#[derive(Debug, Default)]
pub(crate) struct Near {
    numbers: BTreeMap<Arc<Spans>, u32>,
    /// By where their first elements lie: those that may meet another one are neighbours here.
    starts: BTreeSet<(i64, u32)>,
    /// From the first element to the last of the part for which that is most.
    longest: i64,
}

impl Near {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of the part with these elements.
    pub(crate) fn get(&self, spans: &Spans) -> Option<u32> {
        self.numbers.get(spans).copied()
    }

    /// The parts that may have an element in common with this one: no others do.
    pub(crate) fn around(&self, spans: &Spans) -> impl Iterator<Item = u32> + '_ {
        let (start, end) = spans.bounds();
        let longest = self.longest.max(end - start);
        self.starts.range((start.saturating_sub(longest), 0)..(end, 0)).map(|(_, number)| *number)
    }

    /// Adds one.
    pub(crate) fn insert(&mut self, spans: &Arc<Spans>, number: u32) {
        let (start, end) = spans.bounds();
        self.longest = self.longest.max(end - start);
        self.numbers.insert(Arc::clone(spans), number);
        self.starts.insert((start, number));
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, spans: &Arc<Spans>, number: u32) {
        self.numbers.remove(spans);
        self.starts.remove(&(spans.bounds().0, number));
    }
}
