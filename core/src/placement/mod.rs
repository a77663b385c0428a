//! Where ready tasks go when there is a choice: the board of [`policy`](crate::policy) with what [`model`](crate::model) knows, under one lock.
//!
//! Tasks without a choice never get here. Without a policy of the user's, only kernels' launches have one: the host's workers together are one place, each device is
//! another. With one, every task that is spawned and every node of a graph is placed, and each worker is a place of its own. A place takes from the board when it has nothing else to do, or
//! room for more; so what waits may still go elsewhere when estimates turn out wrong.
//!
//! The lock is held for one decision. No other lock is taken meanwhile, and no code of users runs but a policy of theirs: what is dropped is dropped after it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use poniard_interface::{DeviceClass, ProcessorInfo};

use crate::clock::now_ns;
use crate::kernel::plan::Survey;
use crate::model::store::Store;
use crate::model::{Machine, Models, ProcessorClass, SizeClass};
use crate::planted::{self, Bug};
use crate::policy::{
    self, Board, Candidate, ChosenPolicy, Decision, DecisionLog, Place, Placement as Where, ReadyTask, Source, Subject, Why,
};
use crate::residency::{self, DeviceSpace, Links, Missing};
use crate::task::record::TaskRef;
use crate::worker::entry::Entry;
use crate::worker::shared::{ProcessorRecord, Shared};

mod costs;
mod explain;
mod nodes;
mod placed;
mod probe;
#[cfg(test)]
mod tests;
mod watch;

use costs::{Class, KnownOf};
use probe::Probe;
use watch::Watch;

pub use explain::{Considered, Explanation, PlacementReport};
pub(crate) use nodes::{NodeCode, ReadyNode};
pub(crate) use placed::Placed;

/// What a launch costs a device besides its work, until that has been measured.
const LAUNCH_NS: u64 = 20_000;
/// What a call of a worker process costs besides its work.
const HOP_NS: u64 = 5_000;
/// What a task takes of which nothing is known: so much, and so much for each byte or invocation.
const GUESS_NS: u64 = 10_000;
/// The first so many tasks of a code at a size have their CPU time measured, and after that one of so many: two calls of the system are much for a short task, and its share
/// of the time does not change from one task to the next.
const CPU_FIRST: u32 = 4;
const CPU_EVERY: u64 = 16;
/// No task works on as much.
const UNKNOWN_SIZE: u64 = u64::MAX;
/// A real device is guessed to do that so many times as fast.
const DEVICE_GUESS: u64 = 8;

/// What the user has chosen.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlacementChoices {
    /// The policy for all tasks.
    pub(crate) policy: Option<ChosenPolicy>,
    /// Where a policy's random numbers begin.
    pub(crate) seed: u64,
    /// Whether software devices count as real ones: for tests.
    pub(crate) software: bool,
    /// The folder that models of costs are kept in, if they are.
    pub(crate) models: Option<PathBuf>,
    /// Whether decisions are kept.
    pub(crate) explain: bool,
    /// Whether a journal is kept.
    pub(crate) journal: bool,
    /// Whether a decision log is kept.
    pub(crate) decisions: bool,
    /// Whether launches go to devices wherever those can run them.
    pub(crate) devices_first: bool,
}

/// The board of one runtime.
pub(crate) struct Placement {
    state: Mutex<State>,
    /// Tasks that wait on the board, and one more while a place that was to be woken has not come: the board counts on its coming. For those that look often.
    waiting: AtomicUsize,
    /// Whether every task is placed, and each worker is a place.
    pub(crate) places_all: bool,
    pub(crate) takes_software: bool,
    pub(crate) devices_first: bool,
    /// Tells it from all others that there ever were.
    pub(crate) number: u64,
    /// Whether the policy looks at the ranks of nodes.
    pub(crate) wants_ranks: bool,
    models: Models,
    store: Store,
    /// How many processors are workers.
    slot_count: usize,
    /// Of each place: its class's name, and its number. The host's is the first.
    classes: Vec<Class>,
    /// Of worker processes. Their places are the host's, and are of its class to policies: what they run as fast, but for the way there.
    process: Class,
    /// Of real devices: those that are guessed to be fast.
    is_device: Vec<bool>,
    log: explain::Log,
    watch: Arc<Watch>,
    probe: Probe,
}

struct State {
    board: Board<Entry>,
    next_number: u64,
    /// What is known of each code, for each class of places.
    models: BTreeMap<u64, KnownOf>,
    candidates: Vec<Candidate>,
    /// Where a task of each code was placed the last time that there was a choice.
    last: BTreeMap<u64, usize>,
    /// Nodes of graphs that are on the board, or run.
    nodes: BTreeMap<nodes::Key, nodes::OnBoard>,
}

/// What became of a task that was to be placed.
pub(crate) enum Went {
    /// It waits for the workers: for this one if it has nothing to do.
    ToWorkers(Option<usize>),
    /// It waits for the processor of this queue, which may have room for it now; with `true` a worker may take it instead.
    ToQueue(usize, bool),
    /// Those that may run it take no more tasks, since a moment ago.
    Nowhere(Entry),
}

impl std::fmt::Debug for Placement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Placement").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

/// What makes a place's class, in models: the kind of its processors, or the device's name.
fn class_of(info: &ProcessorInfo) -> ProcessorClass {
    match &info.device {
        Some(device) => ProcessorClass::new(&format!("{}:{}", info.kind, device.name)),
        None => ProcessorClass::new(&info.kind.to_string()),
    }
}

impl Placement {
    /// A board for these processors, of which the first `slot_count` are workers; nothing where there is no choice. `warn` is told if a policy of a stranger's fails.
    pub(crate) fn new(
        processors: &[ProcessorRecord],
        slot_count: usize,
        choices: &PlacementChoices,
        warn: impl Fn(String) + Send + 'static,
    ) -> Option<Self> {
        let places_all = choices.policy.is_some();
        let has_device = processors[slot_count..].iter().any(|record| record.info.device.is_some());
        if !places_all && !has_device {
            return None;
        }
        let policy = choices.policy.as_ref().map_or_else(policy::default_policy, |chosen| chosen.make(warn));
        let mut names: Vec<ProcessorClass> = Vec::new();
        let (mut places, mut classes, mut is_device) = (Vec::new(), Vec::new(), Vec::new());
        let mut add = |info: Option<&ProcessorInfo>, space: u32, parallel: u32| {
            let name = info.map_or_else(|| ProcessorClass::new("cpu"), class_of);
            let class = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name.clone());
                names.len() - 1
            });
            let mut place = Place::new(class as u32, space, parallel);
            place.prefetches = space > 0;
            places.push(place);
            classes.push((name, class as u32));
            is_device.push(
                info.and_then(|info| info.device.as_ref()).is_some_and(|device| device.class != DeviceClass::Software || choices.software),
            );
        };
        if places_all {
            processors[..slot_count].iter().for_each(|_| add(None, 0, 1));
        } else {
            add(None, 0, slot_count as u32);
        }
        let models = Models::new(slot_count.max(1));
        models.links.name_space(0, "host");
        for (record, space) in processors[slot_count..].iter().zip(1..) {
            models.links.name_space(space, class_of(&record.info).as_str());
            add(Some(&record.info), space, 1);
        }
        let process = (ProcessorClass::new("process"), names.len() as u32);
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let wants_ranks = policy.wants_ranks();
        let mut board = Board::new(places, policy, choices.seed);
        if choices.decisions {
            board.keep_log(subject);
        }
        let state =
            State { board, next_number: 0, models: BTreeMap::new(), candidates: Vec::new(), last: BTreeMap::new(), nodes: BTreeMap::new() };
        Some(Self {
            state: Mutex::new(state),
            waiting: AtomicUsize::new(0),
            places_all,
            takes_software: choices.software,
            devices_first: choices.devices_first,
            number: NUMBERS.fetch_add(1, Relaxed),
            wants_ranks,
            models,
            store: Store::new(choices.models.clone(), Machine::this()),
            slot_count,
            classes,
            process,
            is_device,
            log: explain::Log::new(choices.explain),
            watch: Arc::default(),
            probe: Probe::default(),
        })
    }

    /// Reads what earlier programs have measured; in words why that cannot be had.
    pub(crate) fn load(&self) -> Option<String> {
        self.store.load(&self.models).err().map(|error| error.to_string())
    }

    /// Keeps what was measured; in words why it is not kept.
    pub(crate) fn save(&self) -> Option<String> {
        self.store.save(&self.models).err().map(|error| error.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Changes are complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose board it is.
    pub(crate) fn belong_to(&self, shared: &Arc<Shared>) {
        self.watch.belong_to(Arc::downgrade(shared));
        for (processor, number) in (self.slot_count..shared.processors.len()).zip(1..) {
            if let Some(space) = shared.space_of(processor) {
                let links = &self.models.links;
                space.connect(Links { up: links.resolve(0, number), down: links.resolve(number, 0) });
            }
        }
    }

    /// Spaces of real devices whose links nothing is known of.
    fn unknown_spaces(&self, shared: &Shared) -> Vec<Arc<DeviceSpace>> {
        let queued = (self.slot_count..shared.processors.len()).filter(|processor| self.is_device[self.place_of(*processor)]);
        let spaces = queued.filter_map(|processor| shared.space_of(processor)).filter(|space| !space.imports() && space.lost().is_none());
        spaces.filter(|space| space.links().is_unknown()).map(Arc::clone).collect()
    }

    /// The runtime takes no more tasks, and what is at work for the board ends.
    pub(crate) fn end(&self) {
        self.probe.end();
    }

    /// How many tasks wait.
    pub(crate) fn waiting_count(&self) -> usize {
        self.lock().board.waiting()
    }

    /// Whether tasks wait.
    fn has_waiting(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    fn note_waiting(&self, board: &Board<Entry>) {
        // SeqCst: whoever sleeps has looked at this number after it said so, or is woken by the caller.
        self.waiting.store(board.waiting() + usize::from(board.awaits()), SeqCst);
    }

    /// The place of a processor.
    fn place_of(&self, processor: usize) -> usize {
        match processor.checked_sub(self.slot_count) {
            None if self.places_all => processor,
            None => 0,
            Some(queue) if self.places_all => self.slot_count + queue,
            Some(queue) => 1 + queue,
        }
    }

    /// The number of workers' places.
    fn worker_places(&self) -> usize {
        if self.places_all { self.slot_count } else { 1 }
    }

    /// Places a ready task that may run on `processors`, by rising place. The caller has put an empty [`Placed`] into its ties.
    pub(crate) fn place(&self, shared: &Shared, entry: Entry, survey: Option<&Survey>, processors: &[usize]) -> Went {
        let now_ns = now_ns();
        let backlog_ns = if self.places_all { 0 } else { shared.backlog_ns() };
        let size = survey.map_or(0, |survey| survey.size);
        // Looked at before the lock is taken.
        let missing: Vec<Missing> = processors
            .iter()
            .map(|processor| survey.map_or_else(Missing::default, |survey| residency::missing(shared.space_of(*processor), &survey.uses)))
            .collect();
        let mut state = self.lock();
        let State { board, next_number, models, candidates, last, .. } = &mut *state;
        candidates.clear();
        if !self.places_all {
            board.set_backlog(0, backlog_ns);
        }
        let (code, priority, travels) = entry.peek(|task| (code_of(task), task.priority(), task.has_travel()));
        let known = models.entry(code).or_default();
        // Of the class before: many places in a row are of one.
        let mut last_class = None;
        let mut host_count = 0;
        let expected = entry.peek(|task| task.options().and_then(|options| options.expected.clone()));
        for (processor, missing) in processors.iter().zip(missing) {
            let place = self.place_of(*processor);
            if candidates.last().is_some_and(|known: &Candidate| known.place == place) {
                continue;
            }
            let space = (place + 1).saturating_sub(self.worker_places()) as u32;
            let is_process = travels && self.places_all && space == 0 && shared.slots[*processor].remote.get().is_some();
            let class = if is_process { &self.process } else { &self.classes[place] };
            let (estimate, has_hop) = match last_class {
                Some((number, estimate)) if number == class.1 => estimate,
                _ => {
                    let estimate = entry.peek(|task| self.estimate(known, task, class, size, travels));
                    last_class = Some((class.1, estimate));
                    estimate
                }
            };
            if space == 0 {
                host_count = estimate.count;
            }
            let is_fast = self.is_device[place];
            let guess_ns = GUESS_NS.saturating_add(size) / if is_fast { DEVICE_GUESS } else { 1 };
            let expected = expected.as_ref().and_then(|expected| expected.on(*processor));
            let execution = expected.unwrap_or_else(|| costs::or_guess(estimate, guess_ns));
            let overhead_ns = match space {
                0 if is_process && !has_hop => HOP_NS,
                0 => 0,
                _ => LAUNCH_NS,
            };
            candidates.push(Candidate { place, execution, transfer_ns: missing.ns, missing_bytes: missing.bytes, overhead_ns });
        }
        let ties = entry.peek(|task| task.options().and_then(|options| options.ties.placed.clone()));
        let Some(ties) = ties else { unreachable!("what is placed has a place for its ticket") };
        // What has been looked at here need not be looked at again by whoever runs it.
        ties.size.store(survey.map_or(UNKNOWN_SIZE, |survey| survey.size), Relaxed);
        ties.taken_by.store(0, Relaxed);
        ties.has_begun.store(false, SeqCst);
        ties.samples_cpu.store(host_count < u64::from(CPU_FIRST) || next_number.is_multiple_of(CPU_EVERY), Relaxed);
        // It was taken by somebody who could not run it after all.
        let left = ties.lock().take().and_then(|ticket| board.abandoned(ticket, now_ns));
        debug_assert!(left.is_none(), "a task waits in one place");
        let number = *next_number;
        *next_number += 1;
        let ready = ReadyTask {
            number,
            code: code ^ u64::from(SizeClass::of(size).number()).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            priority: 1 - priority.level() as i32,
            rank_ns: expected.and_then(|expected| expected.rank_ns()),
            bytes: size,
            origin: None,
            candidates,
        };
        let explanation = self.log.is_on().then(|| {
            let considered = board.consider(&ready, now_ns);
            considered.map(|(candidate, finish_ns)| Considered::new(self.name(shared, candidate.place), &candidate, finish_ns)).collect()
        });
        let pushed = {
            let mut ticket = ties.lock();
            let name = explanation.is_some().then(|| entry.peek(|task| (task.name().name, task.location())));
            let pushed = board.push(&ready, entry, now_ns);
            *ticket = Some(pushed.ticket);
            if let (Some(considered), Some((name, location))) = (explanation, name) {
                ties.explained
                    .store(self.log.begin(name, location, size, considered, pushed.decision, |place| self.name(shared, place)), Relaxed);
            }
            pushed
        };
        self.log.count(&pushed.decision, candidates);
        if let (Where::Place(place), [_, _, ..]) = (pushed.decision.placement, candidates.as_slice()) {
            last.insert(code, place);
        }
        // Whoever says so to the board is known to take no more before: placed anew, it finds others, or fails.
        let left = if pushed.decision.why == Why::NoPlace { board.abandoned(pushed.ticket, now_ns) } else { None };
        self.note_waiting(board);
        let has_choice = candidates.len() > 1;
        drop(state);
        if let Some(entry) = left {
            return Went::Nowhere(entry);
        }
        if has_choice {
            self.probe.begin(&ties.runtime, || self.unknown_spaces(shared));
        }
        self.watch.set();
        self.went(pushed.decision, pushed.wake)
    }

    /// Whoever is at this place is to look at the board.
    fn wakes(&self, place: usize) -> Went {
        match place.checked_sub(self.worker_places()) {
            Some(queue) => Went::ToQueue(queue, false),
            None => Went::ToWorkers(self.worker_at(place)),
        }
    }

    /// The worker that alone is at a place.
    fn worker_at(&self, place: usize) -> Option<usize> {
        self.places_all.then_some(place)
    }

    fn went(&self, decision: Decision, wake: Option<usize>) -> Went {
        let wakes_worker = wake.is_some_and(|place| place < self.worker_places());
        let queue = match (decision.placement, wake) {
            (Where::Place(place), _) if place >= self.worker_places() => Some(place),
            (_, Some(place)) if place >= self.worker_places() => Some(place),
            _ => None,
        };
        match queue {
            Some(place) => Went::ToQueue(place - self.worker_places(), wakes_worker),
            None => Went::ToWorkers(wake.and_then(|place| self.worker_at(place))),
        }
    }

    /// Whether the last task of a code that had a choice was placed at this processor.
    pub(crate) fn was_last_at(&self, code: u64, processor: usize) -> bool {
        self.lock().last.get(&code) == Some(&self.place_of(processor))
    }

    /// Whether something waits that a worker could take, or the board counts on its coming.
    pub(crate) fn has_work(&self, slot: usize) -> bool {
        if self.waiting.load(SeqCst) == 0 {
            return false;
        }
        let (place, mut state) = (self.place_of(slot), self.lock());
        // Somebody else may have what it was woken for.
        self.places_all && state.board.awaits_at(place) || state.board.would_take(place, now_ns())
    }

    /// Takes the next task for a processor.
    pub(crate) fn take(&self, shared: &Shared, processor: usize, stale: &mut Vec<Entry>, wakes: &mut Vec<Went>) -> Option<Entry> {
        // A queue comes because it was told to, and the board has to see it come: it tells nobody twice.
        if self.waiting.load(Relaxed) == 0 && processor < self.slot_count {
            return None;
        }
        let now_ns = now_ns();
        let place = self.place_of(processor);
        let mut state = self.lock();
        let taken = loop {
            let Some(taken) = state.board.take(place, now_ns) else { break None };
            // A worker drops it as it drops others of its queues: not in here, where it holds them.
            if taken.value.is_stale() && processor >= self.slot_count {
                state.board.abandoned(taken.ticket, now_ns);
                stale.push(taken.value);
                continue;
            }
            break Some(taken);
        };
        if let Some(place) = state.board.to_wake(now_ns)
            && !planted::is(Bug::BoardWakesNobody)
        {
            wakes.push(self.wakes(place));
        }
        self.note_waiting(&state.board);
        let key = taken.as_ref().and_then(|taken| taken.value.as_node());
        let node = key.and_then(|key| state.nodes.get_mut(&key)).map(nodes::OnBoard::take);
        drop(state);
        let taken = taken?;
        if taken.value.is_task() {
            taken.value.peek(|task| {
                if let Some(placed) = placed(task) {
                    placed.taken_by.store(processor + 1, Relaxed);
                }
            });
        }
        let is_stolen = matches!(taken.how.source, Source::Stolen { .. } | Source::TakenOver { .. });
        self.log.taken(is_stolen);
        if self.log.keeps() {
            let of_task = || taken.value.peek(|task| placed(task).map_or(0, |placed| placed.explained.load(Relaxed)));
            let explained = node.unwrap_or_else(of_task);
            self.log.ran(explained, &shared.processors[processor].info.name);
        }
        Some(taken.value)
    }

    /// A thread begins a task that it has claimed. One that it did not take from the board, as it waits for it inside another, leaves its place there.
    pub(crate) fn begins(&self, shared: &Shared, placed: &Placed, processor: usize) {
        placed.has_begun.store(true, SeqCst);
        if placed.taken_by.swap(processor + 1, Relaxed) == processor + 1 {
            return;
        }
        let Some(ticket) = *placed.lock() else { return };
        let mut state = self.lock();
        let left = state.board.run_unasked(ticket, self.place_of(processor), now_ns());
        self.note_waiting(&state.board);
        drop(state);
        drop(left);
        if self.log.keeps() {
            self.log.ran(placed.explained.load(Relaxed), &shared.processors[processor].info.name);
        }
    }

    /// A task has ended, or is to be placed anew. `has_run`: it has run where it was placed.
    pub(crate) fn ended(&self, placed: &Placed, has_run: bool) {
        let Some(ticket) = placed.lock().take() else { return };
        let now_ns = now_ns();
        let mut state = self.lock();
        let measured_ns = Some(placed.took_ns.load(Relaxed)).filter(|took_ns| *took_ns > 0);
        let ended = if has_run { state.board.finished_after(ticket, measured_ns, now_ns) } else { None };
        // It may not have been taken: somebody who waited for it ran it.
        let left = if ended.is_none() { state.board.abandoned(ticket, now_ns) } else { None };
        self.note_waiting(&state.board);
        drop(state);
        drop(left);
        if let Some(ended) = ended {
            self.log.end(placed.explained.load(Relaxed), ended.expected_ns, measured_ns.unwrap_or(ended.took_ns));
        }
    }

    /// A processor takes no more tasks, or takes some again. What waits for it is placed anew; what nobody else may run comes back.
    pub(crate) fn set_active(&self, processor: usize, is_active: bool) -> (Vec<Went>, Vec<Entry>) {
        let place = self.place_of(processor);
        if processor < self.slot_count && !self.places_all {
            return (Vec::new(), Vec::new());
        }
        let now_ns = now_ns();
        let mut state = self.lock();
        let (lost, placed): (Vec<_>, Vec<_>) =
            state.board.set_active(place, is_active, now_ns).into_iter().partition(|pushed| pushed.decision.why == Why::NoPlace);
        let lost: Vec<_> = lost.into_iter().filter_map(|pushed| state.board.abandoned(pushed.ticket, now_ns)).collect();
        for node in lost.iter().filter_map(Entry::as_node) {
            state.nodes.remove(&node);
        }
        let wake = state.board.to_wake(now_ns);
        self.note_waiting(&state.board);
        drop(state);
        let placed = placed.into_iter().map(|pushed| self.went(pushed.decision, pushed.wake));
        (placed.chain(wake.map(|place| self.wakes(place))).collect(), lost)
    }

    /// Why a task waits that this worker may run, if one does.
    pub(crate) fn is_held_back(&self, slot: usize) -> bool {
        self.waiting.load(Relaxed) > 0 && self.lock().board.reason(self.place_of(slot)).is_some()
    }

    /// What a place is called.
    fn name(&self, shared: &Shared, place: usize) -> String {
        match place.checked_sub(self.worker_places()) {
            Some(queue) => shared.processors[self.slot_count + queue].info.name.clone(),
            None if self.places_all => shared.processors[place].info.name.clone(),
            None => "host".into(),
        }
    }

    /// What has been decided so far.
    pub(crate) fn report(&self) -> PlacementReport {
        let mut report = self.log.report();
        report.policy = self.lock().board.policy().name();
        report
    }

    /// What was asked and decided, if that is kept.
    pub(crate) fn decision_log(&self, shared: &Shared) -> Option<DecisionLog> {
        let mut log = self.lock().board.log()?;
        log.first_spawn_ns = shared.journal.as_ref().map_or(0, |journal| journal.first_ns());
        log.places.iter_mut().enumerate().for_each(|(index, place)| place.name = self.name(shared, index));
        Some(log)
    }

    /// What was decided about each task, if that is kept.
    pub(crate) fn explanations(&self) -> Vec<Explanation> {
        self.log.explanations()
    }
}

/// What an entry is to whoever reads a decision log.
fn subject(entry: &Entry) -> Option<Subject> {
    match entry.as_node() {
        Some((run, node)) => Some(Subject::OfRun { run, node }),
        None if entry.is_task() => entry.peek(|task| Some(Subject::Spawned(task.options()?.ties.noted.as_ref()?.number()))),
        None => None,
    }
}

/// What a task has to do with the board.
pub(crate) fn placed(task: &TaskRef) -> Option<&Placed> {
    task.options().and_then(|options| options.ties.placed.as_deref())
}

/// How the code of a task is known.
pub(crate) fn code_of(task: &TaskRef) -> u64 {
    task.launch_ties().map_or_else(|| task.code(), |launch| launch.body.code())
}
