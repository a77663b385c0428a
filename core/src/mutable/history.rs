//! Who has had access to a value so far, to all of it or to parts.
//!
//! An access to a part conflicts with those to the whole value and to parts that have an element in common with it. Which parts these are is found out once, when a
//! part is first named; after that an access looks at those, and at nothing else.

use std::any::TypeId;
use std::sync::{Arc, Mutex};

use poniard_interface::Access;
use smallvec::SmallVec;

use super::mark::{Deferred, Mark, Marked};
use crate::journal::Noted;
use crate::part::{Near, Spans};
use crate::planted::{self, Bug};
use crate::task::record::{Edge, TaskRef};

/// What of a value an access is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Whole,
    /// The part with this number.
    Part(u32),
}

/// How an access goes with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Read,
    Write,
    Overwrite,
    /// As `Write`, but the order among those next to each other does not matter.
    Commute,
    /// Changes a copy of its own, which is combined with those of others of the same kind.
    Reduce(TypeId),
}

impl Mode {
    /// Whether two that go so come in no order.
    fn goes_with(self, other: Self) -> bool {
        self == other && matches!(self, Self::Read | Self::Commute | Self::Reduce(_))
    }

    /// What the task may do.
    pub(crate) fn access(self) -> Access {
        match self {
            Self::Read => Access::Read,
            Self::Write | Self::Commute | Self::Reduce(_) => Access::Write,
            Self::Overwrite => Access::Overwrite,
        }
    }
}

impl From<Access> for Mode {
    fn from(access: Access) -> Self {
        match access {
            Access::Read => Self::Read,
            Access::Write => Self::Write,
            Access::Overwrite => Self::Overwrite,
        }
    }
}

/// Who has had access so far. References, not users: a place does not look at the results of tasks.
#[derive(Debug, Default)]
#[doc(hidden)]
pub struct History {
    whole: Uses,
    /// None until somebody names a part.
    parts: Option<Box<Parts>>,
    /// Who has further accesses, which come after these.
    pub(super) mark: Option<Mark>,
}

/// A history, and the lock around it.
pub(crate) type HistoryLock = Mutex<History>;

/// Accesses to the same elements.
#[derive(Debug, Default)]
struct Uses {
    /// The last task that writes.
    writer: Option<TaskRef>,
    /// Tasks since then that read.
    readers: Vec<TaskRef>,
    /// Tasks since then that write in any order.
    commuters: Vec<TaskRef>,
    /// Tasks since then that change copies, and which kind of those.
    reducers: Vec<(TypeId, TaskRef)>,
    /// Of which kind the copies are that may not have been combined.
    copies: Option<TypeId>,
    /// Whether there may be some of another kind, too, which whoever changes copies combines first.
    are_mixed: bool,
    /// Number of readers, of commuters and of reducers from which on those that have finished are thrown out.
    crowded: usize,
    /// Of those that were thrown out what a journal knows them by.
    past: Vec<(Mode, Noted)>,
}

/// The parts that have been named.
#[derive(Debug, Default)]
struct Parts {
    /// By their numbers; none where a number is free.
    named: Vec<Option<Named>>,
    numbers: Near,
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

/// Most accesses wait for one task.
pub(crate) type EdgeList = SmallVec<[PlaceEdge; 1]>;
/// References to be dropped when no history is locked: the results of tasks have destructors.
pub(crate) type Gone = SmallVec<[TaskRef; 8]>;

/// References to the elements of a part that nobody but the history has: an entry's own, and the key's.
const OWN_REFERENCES: usize = 2;

/// The dependency on a task that had access before.
#[derive(Debug)]
pub(crate) struct PlaceEdge {
    pub(super) task: TaskRef,
    pub(super) edge: Edge,
    /// Whether its failure is one of whoever comes later.
    pub(super) needed: bool,
}

impl PlaceEdge {
    pub(super) fn new(task: &TaskRef, needed: bool) -> Self {
        Self { task: task.clone(), edge: Edge::new(), needed }
    }
}

impl Uses {
    /// Adds those that an access to some of these elements has to wait for.
    fn conflicts(&self, mode: Mode, found: &mut EdgeList) {
        let needed = mode != Mode::Overwrite;
        // Who has ended, and left what he was to leave, is none to wait for.
        if let Some(writer) = self.writer.as_ref().filter(|writer| !writer.is_finished() || (needed && writer.failure().is_some())) {
            found.push(PlaceEdge::new(writer, needed));
        }
        if mode != Mode::Commute {
            for commuter in self.commuters.iter().filter(|commuter| !commuter.is_finished() || (needed && commuter.failure().is_some())) {
                found.push(PlaceEdge::new(commuter, needed));
            }
        }
        for (kind, reducer) in &self.reducers {
            if mode != Mode::Reduce(*kind) && (!reducer.is_finished() || (needed && reducer.failure().is_some())) {
                found.push(PlaceEdge::new(reducer, needed));
            }
        }
        if mode != Mode::Read && !planted::is(Bug::ReadersForgotten) {
            for reader in self.readers.iter().filter(|reader| !reader.is_finished()) {
                found.push(PlaceEdge::new(reader, false));
            }
        }
    }

    /// Enters an access to exactly these elements; adds those that are of no interest any more.
    fn add(&mut self, mode: Mode, task: TaskRef, gone: &mut Gone) {
        match mode {
            Mode::Read | Mode::Commute | Mode::Reduce(_) => {
                if self.most() >= self.crowded {
                    self.remember();
                    gone.extend(self.readers.extract_if(.., |reader| reader.is_finished()));
                    // One that failed is of interest to whoever looks.
                    gone.extend(self.commuters.extract_if(.., |commuter| commuter.is_finished() && commuter.failure().is_none()));
                    // Twice what is left, so that the look at all of them costs each one a constant time.
                    gone.extend(
                        self.reducers
                            .extract_if(.., |(_, reducer)| reducer.is_finished() && reducer.failure().is_none())
                            .map(|(_, task)| task),
                    );
                    self.crowded = (2 * self.most()).max(16);
                }
                match mode {
                    Mode::Read => self.readers.push(task),
                    Mode::Reduce(kind) => {
                        self.reducers.push((kind, task));
                        self.are_mixed |= self.copies.replace(kind).is_some_and(|before| before != kind);
                    }
                    _ => self.commuters.push(task),
                }
            }
            Mode::Write | Mode::Overwrite => {
                self.clear(gone);
                self.writer = Some(task);
            }
        }
    }

    /// Notes those that may be thrown out, if a journal is kept.
    fn remember(&mut self) {
        let past = &mut self.past;
        let mut note =
            |mode, task: &TaskRef| past.extend(Noted::of(task).filter(|_| task.is_finished()).map(|noted| (mode, noted.clone())));
        self.readers.iter().for_each(|task| note(Mode::Read, task));
        self.commuters.iter().for_each(|task| note(Mode::Commute, task));
        self.reducers.iter().for_each(|(kind, task)| note(Mode::Reduce(*kind), task));
    }

    /// Adds those that an access comes after, whether they have ended or not, as a journal knows them.
    fn noted(&self, mode: Mode, found: &mut Vec<Noted>) {
        let readers = self.readers.iter().map(|task| (Mode::Read, task));
        let commuters = self.commuters.iter().map(|task| (Mode::Commute, task));
        let reducers = self.reducers.iter().map(|(kind, task)| (Mode::Reduce(*kind), task));
        let writer = self.writer.iter().map(|task| (Mode::Write, task));
        let there = readers.chain(commuters).chain(reducers).chain(writer).filter_map(|(mode, task)| Some((mode, Noted::of(task)?)));
        let all = there.chain(self.past.iter().map(|(mode, noted)| (*mode, noted)));
        found.extend(all.filter(|(earlier, _)| !earlier.goes_with(mode)).map(|(_, noted)| noted.clone()));
    }

    /// The length of the longest list.
    fn most(&self) -> usize {
        self.readers.len().max(self.commuters.len()).max(self.reducers.len())
    }

    fn clear(&mut self, gone: &mut Gone) {
        gone.extend(self.readers.drain(..));
        gone.extend(self.commuters.drain(..));
        gone.extend(self.reducers.drain(..).map(|(_, task)| task));
        // Whoever writes combines them.
        (self.copies, self.are_mixed) = (None, false);
        self.past.clear();
        gone.extend(self.writer.take());
    }

    /// Whether nobody who comes later has to know of them: all have ended, left what they were to leave, and are in no journal.
    fn are_over(&self) -> bool {
        let is_over = |task: &TaskRef| task.is_finished() && Noted::of(task).is_none();
        let mut writers = self.writer.iter().chain(&self.commuters).chain(self.reducers.iter().map(|(_, task)| task));
        writers.all(|writer| is_over(writer) && writer.failure().is_none()) && self.readers.iter().all(is_over) && self.past.is_empty()
    }
}

impl History {
    /// The accesses to elements that an access to this has in common with them.
    #[inline]
    fn each_meeting(&self, target: Target, mut visit: impl FnMut(&Uses)) {
        visit(&self.whole);
        let Some(parts) = &self.parts else { return };
        match target {
            Target::Whole => parts.named.iter().flatten().for_each(|named| visit(&named.uses)),
            Target::Part(number) => {
                let named = parts.get(number);
                visit(&named.uses);
                let meets = if planted::is(Bug::PartsForgotten) { &[][..] } else { &named.meets };
                meets.iter().for_each(|other| visit(&parts.get(*other).uses));
            }
        }
    }

    /// The tasks that an access has to wait for.
    pub(super) fn conflicts(&self, target: Target, mode: Mode) -> EdgeList {
        let mut found = EdgeList::new();
        self.each_meeting(target, |uses| uses.conflicts(mode, &mut found));
        found
    }

    /// The tasks of journals that an access comes after, also those that have ended: an order holds although nobody had to wait.
    pub(super) fn noted(&self, target: Target, mode: Mode) -> Vec<Noted> {
        let mut found = Vec::new();
        self.each_meeting(target, |uses| uses.noted(mode, &mut found));
        found
    }

    /// Enters an access; adds those that are of no interest any more.
    pub(super) fn add(&mut self, target: Target, mode: Mode, task: TaskRef, gone: &mut Gone) {
        match (target, &mut self.parts) {
            (Target::Part(number), Some(parts)) => parts.get_mut(number).uses.add(mode, task, gone),
            (Target::Part(_), None) => unreachable!("a part has been named"),
            (Target::Whole, parts) => {
                if matches!(mode, Mode::Write | Mode::Overwrite)
                    && let Some(parts) = parts
                {
                    parts.named.iter_mut().flatten().for_each(|named| named.uses.clear(gone));
                }
                self.whole.add(mode, task, gone);
            }
        }
    }

    /// Marks the value for accesses with this mode at most, if nobody has. Adds the tasks that they have to wait for, and those that are of no interest any more.
    pub(super) fn put_mark(
        &mut self,
        by: &Arc<dyn Deferred>,
        value: u32,
        mode: Mode,
        before: &mut Vec<TaskRef>,
        gone: &mut Gone,
    ) -> Marked {
        if let Some(mark) = &self.mark {
            if Arc::ptr_eq(&mark.by, by) {
                return Marked::Twice;
            }
            if !mark.by.is_over() {
                return Marked::Standing;
            }
        }
        if self.whole.copies.is_some() {
            return Marked::Unfit;
        }
        let conflicts = self.conflicts(Target::Whole, mode);
        if conflicts.iter().any(|edge| edge.needed && edge.task.is_finished()) {
            return Marked::Unfit;
        }
        if conflicts.is_empty() && mode != Mode::Read {
            // All have ended, and nobody has to know of them.
            self.whole.clear(gone);
            if let Some(parts) = &mut self.parts {
                parts.named.iter_mut().flatten().for_each(|named| named.uses.clear(gone));
            }
        }
        before.extend(conflicts.into_iter().map(|edge| edge.task));
        self.mark = Some(Mark { by: Arc::clone(by), value });
        Marked::Done
    }

    /// Whether a task has to combine copies first, which are of the whole.
    pub(super) fn must_settle(&self, mode: Mode) -> bool {
        // Each of several that come next to each other: whoever begins first leaves a copy, which must not lie among those from before.
        self.whole.are_mixed || self.whole.copies.is_some_and(|kind| mode != Mode::Reduce(kind))
    }

    /// The elements of a part; none of the whole.
    pub(super) fn spans_of(&self, target: Target) -> Option<Arc<Spans>> {
        match (target, &self.parts) {
            (Target::Part(number), Some(parts)) => Some(Arc::clone(&parts.get(number).spans)),
            _ => None,
        }
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

    /// The other parts that have an element in common with one, of those that were named.
    pub(super) fn met_by(&self, part: u32) -> Vec<u32> {
        self.parts.as_ref().map(|parts| parts.get(part).meets.clone()).unwrap_or_default()
    }

    /// The number of the part with these elements, and its reference to them, as long as which is kept the number stands for it; also what is to be dropped
    /// when no history is locked.
    pub(super) fn name(&mut self, spans: Spans) -> (u32, Arc<Spans>, Gone) {
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

    fn name(&mut self, spans: Spans) -> (u32, Arc<Spans>, Gone) {
        let mut gone = Gone::new();
        if let Some(number) = self.numbers.get(&spans) {
            return (number, Arc::clone(&self.get(number).spans), gone);
        }
        if self.numbers.len() >= self.crowded {
            self.tidy(&mut gone);
            self.crowded = (2 * self.numbers.len()).max(64);
        }
        let spans = Arc::new(spans);
        let meets: Vec<u32> = self.numbers.around(&spans).filter(|number| self.get(*number).spans.meets(&spans)).collect();
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
        self.numbers.insert(&spans, number);
        (number, spans, gone)
    }

    /// Throws out the parts that nobody can name any more and that nobody has to know of.
    fn tidy(&mut self, gone: &mut Gone) {
        for number in 0..self.named.len() {
            let Some(named) = &self.named[number] else { continue };
            if Arc::strong_count(&named.spans) > OWN_REFERENCES || !named.uses.are_over() {
                continue;
            }
            let Some(mut named) = self.named[number].take() else { continue };
            named.uses.clear(gone);
            self.numbers.remove(&named.spans, number as u32);
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
