//! Who has had access to a value so far, to all of it or to parts.
//!
//! An access to a part conflicts with those to the whole value and to parts that have an element in common with it. Which parts these are is found out once, when a
//! part is first named; after that an access looks at those, and at nothing else.

use std::any::TypeId;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use poniard_interface::Access;
use smallvec::SmallVec;

use super::mark::{Deferred, Mark, Marked};
use crate::error::TaskError;
use crate::journal::Noted;
use crate::part::{Near, Spans};
use crate::planted::{self, Bug};
use crate::task::memory::{self, Kept};
use crate::task::record::{Edge, Header, TaskRef};

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
    Reduce(CopyKind),
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

/// Which copies an access reduces with: those made and combined by the same functions. A number, as modes are handed about with each access, and fit a register with it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyKind(u32);

impl CopyKind {
    /// The one of a type, which there is one of for each pair of functions.
    pub(super) fn of<F: 'static>() -> Self {
        /// By their numbers. As many as there are pairs of functions in the program that are reduced with.
        static KINDS: RwLock<Vec<TypeId>> = RwLock::new(Vec::new());
        let of = TypeId::of::<F>();
        let find = |kinds: &[TypeId]| kinds.iter().position(|kind| *kind == of);
        // Single operations on the list.
        let found = find(&KINDS.read().unwrap_or_else(PoisonError::into_inner));
        let number = found.unwrap_or_else(|| {
            let mut kinds = KINDS.write().unwrap_or_else(PoisonError::into_inner);
            find(&kinds).unwrap_or_else(|| {
                kinds.push(of);
                kinds.len() - 1
            })
        });
        Self(u32::try_from(number).unwrap_or_else(|_| unreachable!("there are fewer types than that")))
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

/// Accesses to the same elements. What most values have takes less than a cache line.
#[derive(Debug, Default)]
struct Uses {
    /// The last task that writes.
    writer: Option<TaskRef>,
    /// Tasks since then that read.
    readers: Vec<TaskRef>,
    /// Number of readers, of commuters and of reducers from which on those that have finished are thrown out.
    crowded: usize,
    /// What else there may be since then.
    others: Option<Box<Others>>,
}

/// Accesses that few values have, since the last task that writes.
#[derive(Debug, Default)]
struct Others {
    /// Tasks that write in any order.
    commuters: Vec<TaskRef>,
    /// Tasks that change copies, and which kind of those.
    reducers: Vec<(CopyKind, TaskRef)>,
    /// Of which kind the copies are that may not have been combined.
    copies: Option<CopyKind>,
    /// Whether there may be some of another kind, too, which whoever changes copies combines first.
    are_mixed: bool,
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
pub(crate) type EarlierList = SmallVec<[Earlier; 1]>;
/// References to be dropped when no history is locked: the results of tasks have destructors.
pub(crate) type Gone = SmallVec<[TaskRef; 8]>;

/// Tasks of one kind that uses keep at least before those that have finished are looked for: few, as each keeps the memory of its record from being used again.
const CROWD: usize = 4;

/// References to the elements of a part that nobody but the history has: an entry's own, and the key's.
const OWN_REFERENCES: usize = 2;

/// A task that had access before, and that whoever comes later waits for.
#[derive(Debug)]
pub(crate) struct Earlier {
    pub(super) task: TaskRef,
    /// Whether its failure is one of whoever comes later.
    pub(super) needed: bool,
}

/// The dependency on such a task.
#[derive(Debug)]
struct PlaceEdge {
    earlier: Earlier,
    edge: Edge,
}

impl PlaceEdge {
    #[inline]
    fn failure(&self) -> Option<TaskError> {
        if self.earlier.needed { self.earlier.task.failure() } else { None }
    }
}

/// Dependencies on all that had access before. Most accesses have one at most; more lie in memory that threads keep.
#[derive(Debug, Default)]
pub(super) struct PlaceEdges {
    first: Option<PlaceEdge>,
    more: Option<Kept<SmallVec<[PlaceEdge; MORE_EDGES]>>>,
}

/// So many that a tile with the eight around it has room, and that they fit memory which is kept.
const MORE_EDGES: usize = 11;

const _: () = assert!(memory::is_kept::<SmallVec<[PlaceEdge; MORE_EDGES]>>() || cfg!(any(debug_assertions, loom)));

impl PlaceEdges {
    /// Adds one, before the task waits for any.
    pub(super) fn push(&mut self, task: TaskRef, needed: bool) {
        let edge = PlaceEdge { earlier: Earlier { task, needed }, edge: Edge::new() };
        if self.first.is_none() {
            self.first = Some(edge);
        } else {
            self.more.get_or_insert_with(|| Kept::new(SmallVec::new())).push(edge);
        }
    }

    /// Those beside the first.
    fn more(&self) -> &[PlaceEdge] {
        self.more.as_ref().map_or(&[], |more| more)
    }

    #[inline]
    pub(super) fn visit(&self, visit: &mut impl FnMut(&Header, &Edge)) {
        let Some(first) = &self.first else { return };
        visit(&first.earlier.task, &first.edge);
        self.more().iter().for_each(|edge| visit(&edge.earlier.task, &edge.edge));
    }

    /// The error of one that failed and is needed. Once all have finished.
    #[inline]
    pub(super) fn failed(&self) -> Option<TaskError> {
        let first = self.first.as_ref()?;
        first.failure().or_else(|| self.more().iter().find_map(PlaceEdge::failure))
    }
}

impl Uses {
    /// Shows those that an access to some of these elements has to wait for, and whether their failure is one of its task.
    #[inline]
    fn conflicts(&self, mode: Mode, found: &mut impl FnMut(&TaskRef, bool)) {
        let needed = mode != Mode::Overwrite;
        // Who has ended, and left what he was to leave, is none to wait for.
        let counts = |task: &TaskRef| !task.is_finished() || (needed && task.failure().is_some());
        if let Some(writer) = self.writer.as_ref().filter(|writer| counts(writer)) {
            found(writer, needed);
        }
        if let Some(others) = &self.others {
            if mode != Mode::Commute {
                others.commuters.iter().filter(|commuter| counts(commuter)).for_each(|commuter| found(commuter, needed));
            }
            for (kind, reducer) in &others.reducers {
                if mode != Mode::Reduce(*kind) && counts(reducer) {
                    found(reducer, needed);
                }
            }
        }
        if mode != Mode::Read && !planted::is(Bug::ReadersForgotten) {
            self.readers.iter().filter(|reader| !reader.is_finished()).for_each(|reader| found(reader, false));
        }
    }

    /// Enters an access to exactly these elements; adds those that are of no interest any more.
    fn add(&mut self, mode: Mode, task: TaskRef, gone: &mut Gone) {
        if matches!(mode, Mode::Write | Mode::Overwrite) {
            self.clear(gone);
            self.writer = Some(task);
            return;
        }
        if self.most() >= self.crowded {
            self.thin_out(gone);
        }
        match mode {
            Mode::Read => self.readers.push(task),
            Mode::Reduce(kind) => {
                let others = self.others.get_or_insert_default();
                others.reducers.push((kind, task));
                others.are_mixed |= others.copies.replace(kind).is_some_and(|before| before != kind);
            }
            _ => self.others.get_or_insert_default().commuters.push(task),
        }
    }

    /// Throws out those that have finished, and notes them if a journal is kept.
    fn thin_out(&mut self, gone: &mut Gone) {
        let mut past = Vec::new();
        let mut note = |mode, task: &TaskRef| past.extend(Noted::of(task).map(|noted| (mode, noted.clone())));
        gone.extend(self.readers.extract_if(.., |reader| reader.is_finished()).inspect(|task| note(Mode::Read, task)));
        if let Some(others) = &mut self.others {
            // One that failed is of interest to whoever looks.
            let is_over = |task: &TaskRef| task.is_finished() && task.failure().is_none();
            gone.extend(others.commuters.extract_if(.., |commuter| is_over(commuter)).inspect(|task| note(Mode::Commute, task)));
            let reducers = others.reducers.extract_if(.., |(_, reducer)| is_over(reducer));
            gone.extend(reducers.inspect(|(kind, task)| note(Mode::Reduce(*kind), task)).map(|(_, task)| task));
        }
        if !past.is_empty() {
            self.others.get_or_insert_default().past.append(&mut past);
        }
        // Twice what is left, so that the look at all of them costs each one a constant time.
        self.crowded = (2 * self.most()).max(CROWD);
    }

    /// Adds those that an access comes after, whether they have ended or not, as a journal knows them.
    fn noted(&self, mode: Mode, found: &mut Vec<Noted>) {
        let mut note = |earlier: Mode, noted: Option<&Noted>| found.extend(noted.filter(|_| !earlier.goes_with(mode)).cloned());
        self.readers.iter().for_each(|task| note(Mode::Read, Noted::of(task)));
        if let Some(others) = &self.others {
            others.commuters.iter().for_each(|task| note(Mode::Commute, Noted::of(task)));
            others.reducers.iter().for_each(|(kind, task)| note(Mode::Reduce(*kind), Noted::of(task)));
        }
        self.writer.iter().for_each(|task| note(Mode::Write, Noted::of(task)));
        self.others.iter().flat_map(|others| &others.past).for_each(|(earlier, noted)| note(*earlier, Some(noted)));
    }

    /// The length of the longest list.
    fn most(&self) -> usize {
        let of_others = self.others.as_ref().map_or(0, |others| others.commuters.len().max(others.reducers.len()));
        self.readers.len().max(of_others)
    }

    /// Forgets all, whoever writes comes after them, and combines copies.
    fn clear(&mut self, gone: &mut Gone) {
        if !self.readers.is_empty() {
            gone.extend(self.readers.drain(..));
        }
        if let Some(others) = self.others.take() {
            gone.extend(others.commuters);
            gone.extend(others.reducers.into_iter().map(|(_, task)| task));
        }
        if let Some(writer) = self.writer.take() {
            gone.push(writer);
        }
    }

    /// Of which kind the copies are that may not have been combined.
    fn copies(&self) -> Option<CopyKind> {
        self.others.as_ref()?.copies
    }

    /// Whether there may be copies of several kinds.
    fn are_mixed(&self) -> bool {
        self.others.as_ref().is_some_and(|others| others.are_mixed)
    }

    /// Whether nobody who comes later has to know of them: all have ended, left what they were to leave, and are in no journal.
    fn are_over(&self) -> bool {
        let is_over = |task: &TaskRef| task.is_finished() && Noted::of(task).is_none();
        let has_left = |writer: &TaskRef| is_over(writer) && writer.failure().is_none();
        let are_over = |others: &Others| {
            others.commuters.iter().all(has_left) && others.reducers.iter().all(|(_, task)| has_left(task)) && others.past.is_empty()
        };
        self.writer.as_ref().is_none_or(has_left) && self.readers.iter().all(is_over) && self.others.as_deref().is_none_or(are_over)
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

    /// Shows the tasks that an access has to wait for, and whether the failure of each is one of its task.
    #[inline]
    pub(super) fn each_conflict(&self, target: Target, mode: Mode, mut found: impl FnMut(&TaskRef, bool)) {
        self.each_meeting(target, |uses| uses.conflicts(mode, &mut found));
    }

    /// The tasks that an access has to wait for.
    pub(super) fn conflicts(&self, target: Target, mode: Mode) -> EarlierList {
        let mut found = EarlierList::new();
        self.each_conflict(target, mode, |task, needed| found.push(Earlier { task: task.clone(), needed }));
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
        if self.whole.copies().is_some() {
            return Marked::Unfit;
        }
        let conflicts = self.conflicts(Target::Whole, mode);
        if conflicts.iter().any(|earlier| earlier.needed && earlier.task.is_finished()) {
            return Marked::Unfit;
        }
        if conflicts.is_empty() && mode != Mode::Read {
            // All have ended, and nobody has to know of them.
            self.whole.clear(gone);
            if let Some(parts) = &mut self.parts {
                parts.named.iter_mut().flatten().for_each(|named| named.uses.clear(gone));
            }
        }
        before.extend(conflicts.into_iter().map(|earlier| earlier.task));
        self.mark = Some(Mark { by: Arc::clone(by), value });
        Marked::Done
    }

    /// Whether a task has to combine copies first, which are of the whole.
    pub(super) fn must_settle(&self, mode: Mode) -> bool {
        // Each of several that come next to each other: whoever begins first leaves a copy, which must not lie among those from before.
        self.whole.are_mixed() || self.whole.copies().is_some_and(|kind| mode != Mode::Reduce(kind))
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
