//! Who has had access to a value so far, to all of it or to parts.
//!
//! An access to a part conflicts with those to the whole value and to parts that have an element in common with it. Which parts these are is found out once, when a
//! part is first named; after that an access looks at those, and at nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use poniard_interface::Access;

use crate::part::Spans;
use crate::task::record::{Edge, TaskRef};

/// What of a value an access is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Whole,
    /// The part with this number.
    Part(u32),
}

/// Who has had access so far. References, not users: a place does not look at the results of tasks.
#[derive(Debug, Default)]
#[doc(hidden)]
pub struct History {
    whole: Uses,
    /// None until somebody names a part.
    parts: Option<Box<Parts>>,
}

/// Accesses to the same elements.
#[derive(Debug, Default)]
struct Uses {
    /// The last task that writes.
    writer: Option<TaskRef>,
    /// Tasks since then that read.
    readers: Vec<TaskRef>,
    /// Number of readers from which on those that have finished are thrown out.
    crowded: usize,
}

/// The parts that have been named.
#[derive(Debug, Default)]
struct Parts {
    /// By their numbers; none where a number is free.
    named: Vec<Option<Named>>,
    numbers: BTreeMap<Arc<Spans>, u32>,
    /// By where their first elements lie: those that may meet another one are neighbours here.
    starts: BTreeSet<(i64, u32)>,
    /// From the first element to the last of the part for which that is most.
    longest: i64,
    free: Vec<u32>,
    /// Number of parts from which on those that nobody needs are thrown out.
    crowded: usize,
}

#[derive(Debug)]
struct Named {
    spans: Arc<Spans>,
    uses: Uses,
    /// The other parts that have an element in common with it.
    meets: Vec<u32>,
}

/// References to the elements of a part that nobody but the history has: an entry's own, and the key's.
const OWN_REFERENCES: usize = 2;

/// The dependency on a task that had access before.
#[derive(Debug)]
pub(super) struct PlaceEdge {
    pub(super) task: TaskRef,
    pub(super) edge: Edge,
    /// Whether its failure is one of whoever comes later.
    pub(super) needed: bool,
}

impl PlaceEdge {
    fn new(task: &TaskRef, needed: bool) -> Self {
        Self { task: task.clone(), edge: Edge::new(), needed }
    }
}

pub(super) fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    // Changes are single operations on its fields, so a panic elsewhere leaves it whole.
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Uses {
    /// Adds those that an access to some of these elements has to wait for.
    fn conflicts(&self, access: Access, found: &mut Vec<PlaceEdge>) {
        found.extend(self.writer.iter().map(|task| PlaceEdge::new(task, access != Access::Overwrite)));
        if access != Access::Read {
            found.extend(self.readers.iter().map(|task| PlaceEdge::new(task, false)));
        }
    }

    /// Enters an access to exactly these elements; adds those that are of no interest any more.
    fn add(&mut self, access: Access, task: TaskRef, gone: &mut Vec<TaskRef>) {
        if access == Access::Read {
            if self.readers.len() >= self.crowded {
                gone.extend(self.readers.extract_if(.., |reader| reader.is_finished()));
                // Twice what is left, so that the look at all of them costs each reader a constant time.
                self.crowded = (2 * self.readers.len()).max(16);
            }
            self.readers.push(task);
        } else {
            gone.append(&mut self.readers);
            gone.extend(self.writer.replace(task));
        }
    }

    fn clear(&mut self, gone: &mut Vec<TaskRef>) {
        gone.append(&mut self.readers);
        gone.extend(self.writer.take());
    }

    /// Whether nobody who comes later has to know of them: all have ended, and left what they were to leave.
    fn are_over(&self) -> bool {
        self.writer.iter().all(|writer| writer.is_finished() && writer.failure().is_none())
            && self.readers.iter().all(|reader| reader.is_finished())
    }
}

impl History {
    /// The tasks that an access has to wait for.
    pub(super) fn conflicts(&self, target: Target, access: Access) -> Box<[PlaceEdge]> {
        let mut found = Vec::new();
        self.whole.conflicts(access, &mut found);
        if let Some(parts) = &self.parts {
            match target {
                Target::Whole => parts.named.iter().flatten().for_each(|named| named.uses.conflicts(access, &mut found)),
                Target::Part(number) => {
                    let named = parts.get(number);
                    named.uses.conflicts(access, &mut found);
                    named.meets.iter().for_each(|other| parts.get(*other).uses.conflicts(access, &mut found));
                }
            }
        }
        found.into()
    }

    /// Enters an access; gives those that are of no interest any more, to be dropped when no history is locked: their results have destructors.
    pub(super) fn add(&mut self, target: Target, access: Access, task: TaskRef) -> Vec<TaskRef> {
        let mut gone = Vec::new();
        match (target, &mut self.parts) {
            (Target::Part(number), Some(parts)) => parts.get_mut(number).uses.add(access, task, &mut gone),
            (Target::Part(_), None) => unreachable!("a part has been named"),
            (Target::Whole, parts) => {
                if access != Access::Read
                    && let Some(parts) = parts
                {
                    parts.named.iter_mut().flatten().for_each(|named| named.uses.clear(&mut gone));
                }
                self.whole.add(access, task, &mut gone);
            }
        }
        gone
    }

    /// Whether two accesses have an element in common.
    pub(super) fn meet(&self, one: Target, two: Target) -> bool {
        match (one, two, &self.parts) {
            (Target::Part(one), Target::Part(two), Some(parts)) => {
                (one == two && !parts.get(one).spans.is_empty()) || parts.get(one).meets.contains(&two)
            }
            _ => true,
        }
    }

    /// The number of the part with these elements, and its reference to them, as long as which is kept the number stands for it; also what is to be dropped
    /// when no history is locked.
    pub(super) fn name(&mut self, spans: Spans) -> (u32, Arc<Spans>, Vec<TaskRef>) {
        self.parts.get_or_insert_default().name(spans)
    }

    /// For messages: the last writer of the whole, and how many read it since.
    pub(super) fn summary(&self) -> (Option<&TaskRef>, usize, usize) {
        let parts = self.parts.as_ref().map_or(0, |parts| parts.numbers.len());
        (self.whole.writer.as_ref(), self.whole.readers.len(), parts)
    }
}

impl Parts {
    fn get(&self, number: u32) -> &Named {
        match self.named.get(number as usize) {
            Some(Some(named)) => named,
            _ => unreachable!("whoever has a number keeps the part"),
        }
    }

    fn get_mut(&mut self, number: u32) -> &mut Named {
        match self.named.get_mut(number as usize) {
            Some(Some(named)) => named,
            _ => unreachable!("whoever has a number keeps the part"),
        }
    }

    fn name(&mut self, spans: Spans) -> (u32, Arc<Spans>, Vec<TaskRef>) {
        let mut gone = Vec::new();
        if let Some(number) = self.numbers.get(&spans) {
            return (*number, Arc::clone(&self.get(*number).spans), gone);
        }
        if self.numbers.len() >= self.crowded {
            self.tidy(&mut gone);
            self.crowded = (2 * self.numbers.len()).max(64);
        }
        let spans = Arc::new(spans);
        let (start, end) = spans.bounds();
        self.longest = self.longest.max(end - start);
        let near = self.starts.range((start.saturating_sub(self.longest), 0)..(end, 0)).map(|(_, number)| *number);
        let meets: Vec<u32> = near.filter(|number| self.get(*number).spans.meets(&spans)).collect();
        let number = self.free.pop().unwrap_or_else(|| {
            self.named.push(None);
            match u32::try_from(self.named.len() - 1) {
                Ok(number) => number,
                Err(_) => panic!("a value has more than four thousand million parts in use"),
            }
        });
        for other in &meets {
            self.get_mut(*other).meets.push(number);
        }
        self.named[number as usize] = Some(Named { spans: Arc::clone(&spans), uses: Uses::default(), meets });
        self.numbers.insert(Arc::clone(&spans), number);
        self.starts.insert((start, number));
        (number, spans, gone)
    }

    /// Throws out the parts that nobody can name any more and that nobody has to know of.
    fn tidy(&mut self, gone: &mut Vec<TaskRef>) {
        for number in 0..self.named.len() {
            let Some(named) = &self.named[number] else { continue };
            if Arc::strong_count(&named.spans) > OWN_REFERENCES || !named.uses.are_over() {
                continue;
            }
            let Some(mut named) = self.named[number].take() else { continue };
            named.uses.clear(gone);
            self.numbers.remove(&named.spans);
            self.starts.remove(&(named.spans.bounds().0, number as u32));
            for other in named.meets {
                self.get_mut(other).meets.retain(|meets| *meets != number as u32);
            }
            self.free.push(number as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: i64, len: usize) -> Spans {
        Spans::run(start, len)
    }

    #[test]
    fn parts_that_nobody_names_are_thrown_out_and_those_in_use_are_not() {
        let mut history = History::default();
        let (kept, _keeper, _) = history.name(run(0, 10));
        for at in 1..10_000 {
            let (number, _, _) = history.name(run(at * 10, 10));
            assert_ne!(number, kept);
        }
        let parts = history.parts.as_ref().map_or(0, |parts| parts.numbers.len());
        assert!(parts <= 128, "{parts} parts are kept");
        let (again, _, _) = history.name(run(0, 10));
        assert_eq!(again, kept);
        // What is named now meets exactly those that it has an element in common with.
        let (beside, _beside, _) = history.name(run(10, 5));
        let (across, _across, _) = history.name(run(9, 2));
        assert!(history.meet(Target::Part(across), Target::Part(kept)) && history.meet(Target::Part(beside), Target::Part(across)));
        assert!(!history.meet(Target::Part(beside), Target::Part(kept)));
    }
}
