//! Which workers take tasks: processors that stand for processes can be removed and added while a runtime works (README, "Dormant slots").

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Mutex, PoisonError};

use poniard_interface::{Execution, WorkerId};

use super::domain::Domain;
use super::entry::{Entry, Work};
use super::fence;
use super::shared::{ProcessorRecord, Shared};
use super::slot::{Departure, Turn};
use crate::error::FailureKind;
use crate::options::{Occupancy, Priority};
use crate::placement::Went;
use crate::task::record::{Claim, TaskRef};

/// Who takes tasks, and those that nobody may run.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    /// Number of slots that are dormant: until there is one, nobody looks at more.
    dormant_count: AtomicUsize,
    /// Held while slots are retired and revived.
    changing: Mutex<()>,
    stranded: Mutex<Stranded>,
}

/// Tasks that nobody may run.
#[derive(Debug, Default)]
struct Stranded {
    queue: VecDeque<Entry>,
    /// Whether somebody is failing them: one after the other, as failing one may strand those that come after it.
    is_seen_to: bool,
}

/// What the board has placed anew, and what nobody may run.
type Changed = Vec<(Vec<Went>, Vec<Entry>)>;

/// The number of worker processes could not be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessesError {
    /// The runtime has none and cannot have any.
    #[error("the runtime has no worker processes; `RuntimeBuilder::processes_at_most` says how many there can be")]
    NoProcesses,
    /// There cannot be so many.
    #[error("{asked} worker processes were asked for, and there can be {most} (`RuntimeBuilder::processes_at_most`)")]
    TooMany {
        /// What was asked for.
        asked: usize,
        /// How many there can be.
        most: usize,
    },
    /// Without them nothing would be left to run tasks.
    #[error("without worker processes nothing would be left to run tasks, as the runtime has no threads")]
    NothingLeft,
    /// A thread that stands for a process could not be started. Those before it are there.
    #[error("the processor {processor} was not added: {reason}")]
    Start {
        /// The processor's name.
        processor: String,
        /// Why.
        reason: String,
    },
    /// The runtime has been shut down, or is about to be.
    #[error("the runtime has been shut down")]
    Shutdown,
}

impl Shared {
    /// Whether any worker takes no tasks.
    #[inline]
    pub(super) fn has_dormant(&self) -> bool {
        self.roster.dormant_count.load(Relaxed) > 0
    }

    /// The places of the workers that stand for processes.
    fn process_places(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.slots.len()).filter(|place| self.processors[*place].info.execution == Execution::Remote)
    }

    /// Before any thread is started: all but the first `count` workers that stand for processes take no tasks. If no worker would, one of them.
    pub(crate) fn keep_dormant(&self, count: usize) -> Option<&ProcessorRecord> {
        for place in self.process_places().skip(count) {
            self.slots[place].retire();
            self.roster.dormant_count.fetch_add(1, SeqCst);
            if let Some(placement) = &self.placement {
                let _ = placement.set_active(place, false);
            }
        }
        let dormant_count = self.roster.dormant_count.load(Relaxed);
        (dormant_count > 0 && dormant_count == self.slots.len()).then(|| &self.processors[0])
    }

    /// See `Handle::set_processes`.
    pub(crate) fn set_processes(&self, count: usize) -> Result<(), ProcessesError> {
        let places: Vec<usize> = self.process_places().collect();
        if places.is_empty() {
            return Err(ProcessesError::NoProcesses);
        }
        if count > places.len() {
            return Err(ProcessesError::TooMany { asked: count, most: places.len() });
        }
        if count == 0 && places.len() == self.slots.len() {
            return Err(ProcessesError::NothingLeft);
        }
        if !self.is_open() {
            return Err(ProcessesError::Shutdown);
        }
        let (first, others) = places.split_at(count);
        let mut changed = Vec::new();
        let outcome = {
            // Nothing of a user's runs under this lock.
            let _changing = self.roster.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let revived = first.iter().try_for_each(|place| self.revive(*place, &mut changed));
            if revived.is_ok() {
                others.iter().for_each(|place| self.retire(*place, &mut changed));
            }
            revived
        };
        for (placed, left) in changed {
            for went in placed {
                let _ = self.after_placing(went);
            }
            for entry in left {
                if entry.is_task() { self.enqueue(None, entry) } else { self.push_part(None, Priority::Normal, entry) }
            }
        }
        // Either whoever pushes a task sees who is dormant (`see_to_special`), or this thread sees the task.
        fence::heavy();
        self.sort_out();
        outcome
    }

    /// Tells the board whether a worker takes tasks. One that the board says takes none is dormant, whenever one looks.
    fn tell_board(&self, place: usize, is_active: bool, changed: &mut Changed) {
        changed.extend(self.placement.as_ref().map(|placement| placement.set_active(place, is_active)));
    }

    fn retire(&self, place: usize, changed: &mut Changed) {
        let slot = &self.slots[place];
        if slot.is_dormant() {
            return;
        }
        // First, so that nobody finds the slot dormant and does not look further.
        self.roster.dormant_count.fetch_add(1, SeqCst);
        slot.retire();
        self.tell_board(place, false, changed);
        if slot.thread_count() == 0 {
            self.rest(place);
        }
    }

    fn revive(&self, place: usize, changed: &mut Changed) -> Result<(), ProcessesError> {
        let slot = &self.slots[place];
        if !slot.is_dormant() {
            return Ok(());
        }
        self.tell_board(place, true, changed);
        let needs_thread = slot.revive();
        self.roster.dormant_count.fetch_sub(1, SeqCst);
        let record = &self.processors[place];
        if needs_thread && let Err(error) = record.processor.start(WorkerId(place as u32)) {
            self.retire(place, changed);
            return Err(ProcessesError::Start { processor: record.info.name.clone(), reason: error.reason });
        }
        Ok(())
    }

    /// What a thread of a slot does next; nothing when it has been counted out.
    pub(super) fn next_turn(&self, place: usize) -> Option<Turn> {
        let slot = &self.slots[place];
        let mut rested = false;
        loop {
            if let Some(turn) = slot.next_turn() {
                return Some(turn);
            }
            match slot.depart(std::mem::take(&mut rested)) {
                Departure::Gone => return None,
                Departure::Stay => {}
                Departure::Rest => {
                    self.rest(place);
                    rested = true;
                }
            }
        }
    }

    /// A dormant slot has no thread that works: its processor gives back what it can. No other thread comes meanwhile, which would find the process engaged.
    fn rest(&self, place: usize) {
        let end = || self.processors[place].processor.rest();
        match self.slots[place].remote.get() {
            Some(remote) => remote.rest(end),
            None => end(),
        }
    }

    /// Why none of a set of processors takes tasks, if that is so.
    pub(crate) fn is_removed(&self, contains: impl Fn(usize) -> bool) -> Option<FailureKind> {
        if !self.has_dormant() {
            return None;
        }
        let places = || (0..self.processors.len()).filter(|place| contains(*place));
        if places().any(|place| self.slots.get(place).is_none_or(|slot| !slot.is_dormant())) {
            return None;
        }
        let names: Vec<_> = places().map(|place| self.processors[place].info.name.as_str()).collect();
        Some(FailureKind::Removed { processors: names.join(", ") })
    }

    /// Why no processor can run a task that was possible when it was spawned, if that is so.
    pub(super) fn is_impossible(&self, domain: Option<&Domain>, occupancy: Occupancy) -> Option<FailureKind> {
        if !self.has_dormant() {
            return None;
        }
        let removed = domain.and_then(|domain| self.is_removed(|place| domain.contains(place)));
        removed.or_else(|| {
            let available = self.worker_count(domain);
            let lacks = available > 0 && occupancy.processors() > available.max(1) as f64;
            lacks.then_some(FailureKind::Occupancy { asked: occupancy.processors(), available })
        })
    }

    fn is_lost(&self, task: &TaskRef) -> Option<FailureKind> {
        let options = task.options()?;
        self.is_impossible(options.ties.domain.upgrade().as_deref(), options.taken())
    }

    /// After a push to where only some workers look: they may just have been removed.
    pub(super) fn see_to_special(&self, domain: Option<&Domain>, occupancy: Occupancy) {
        // Pairs with `heavy` in `set_processes`.
        fence::light();
        if self.is_impossible(domain, occupancy).is_some() {
            self.sort_out();
        }
    }

    /// Fails all that wait and that no worker may run any more.
    fn sort_out(&self) {
        if !self.has_dormant() {
            return;
        }
        for domain in self.domains.all() {
            if self.is_removed(|place| domain.contains(place)).is_some() {
                domain.drain().for_each(|entry| self.strand(entry));
            }
        }
        for entry in self.unusual.take_lost(|task| self.is_lost(task).is_some()) {
            self.strand(entry);
        }
    }

    /// Fails a task that no worker may run, or puts it into a queue if that has changed meanwhile.
    #[cold]
    pub(super) fn strand(&self, entry: Entry) {
        let stranded = || self.roster.stranded.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut stranded = stranded();
            stranded.queue.push_back(entry);
            if std::mem::replace(&mut stranded.is_seen_to, true) {
                return;
            }
        }
        loop {
            let next = {
                let mut stranded = stranded();
                let next = stranded.queue.pop_front();
                stranded.is_seen_to = next.is_some();
                next
            };
            let Some(entry) = next else { return };
            let Some(kind) = entry.peek(|task| self.is_lost(task)) else {
                self.enqueue(None, entry);
                continue;
            };
            // Otherwise whoever waited for it runs it, or it was cancelled, and its entry stayed.
            if entry.peek(TaskRef::try_claim) == Claim::Won {
                let Work::Task(task) = entry.into_work() else { unreachable!("parts of runs have no scope") };
                let failure = task.fail_claimed(kind);
                self.finish(None, &task, Some(failure), false);
            }
        }
    }
}
