//! What all threads of one runtime share: queues, workers, processors, and the count of tasks that have not finished.
//!
//! One file because each way into a queue, and each way to the end, relies on the same counts.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam_deque::Injector;
use crossbeam_utils::CachePadded;
use poniard_interface::{Code, DeviceClass, Execution, KernelInterface, LogLevel, Processor, ProcessorInfo, WorkerId};

use super::context::{Context, runtime_of};
use super::domain::{Domain, Domains};
use super::entry::{Entry, Work};
use super::job::JobRef;
use super::occupancy::{Errand, Unusual};
use super::pressure::Aside;
use super::ring;
use super::room::Room;
use super::roster::Roster;
use super::sleep::{IdlePolicy, Sleep};
use super::slot::{Idle, Local, Slot, add};
use super::waiter;
use crate::arena;
use crate::clock::now_ns;
use crate::error::{FailureKind, TaskError};
use crate::graph::runs::Runs;
use crate::journal::Journal;
use crate::options::{LaunchTies, Occupancy, Priority, TaskOptions};
use crate::placement::{Placement, PlacementChoices, Went, placed};
use crate::planted::{self, Bug};
use crate::platform;
use crate::queued::Queued;
use crate::region::Sites;
use crate::residency::{self, DeviceSpace};
use crate::runtime::Backends;
use crate::scope::{ProcessId, ProcessorIdentity};
use crate::ship::elsewhere::Elsewhere;
use crate::ship::processor::RemoteProcessor;
use crate::sync::Unparker;
use crate::task::record::{Claim, Header, Released, TaskRef};

/// Tasks spawned and not finished from which on a worker that spawns more waits for room. As many records as a core's cache holds.
pub(crate) const CROWD: u64 = 8192;
/// A worker looks at their number once in so many spawns, times the number of workers.
const CROWD_INTERVAL: u64 = 64;

/// Threads of one slot, those on errands included.
const ERRAND_THREADS_MAX: usize = 512;

/// Values of `Shared::phase`.
const OPEN: u8 = 0;
const DRAINING: u8 = 1;
const STOPPED: u8 = 2;
const ENDED: u8 = 3;

/// In `Shared::epoch`: nothing is run any more.
const FOR_GOOD: u32 = 1 << 16;

/// A processor with the backend that it came from.
pub(crate) struct ProcessorRecord {
    /// Why it is lost, once it is.
    pub(crate) lost: OnceLock<String>,
    pub(crate) processor: Box<dyn Processor>,
    pub(crate) info: ProcessorInfo,
    /// Place in `Shared::backends`.
    pub(crate) backend: usize,
}

/// What the user has chosen for a runtime.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    /// What is said about all tasks of a function, by the function's type.
    pub(crate) defaults: BTreeMap<TypeId, TaskOptions>,
    pub(crate) idle_policy: IdlePolicy,
    pub(crate) placement: PlacementChoices,
}

/// One runtime.
pub(crate) struct Shared {
    pub(crate) slots: Vec<Slot>,
    /// Tasks spawned by threads that are no workers, one queue for each priority.
    pub(crate) injectors: [Injector<Entry>; Priority::COUNT],
    /// Jobs of threads that are no workers, and those that lay in the way of somebody.
    pub(crate) jobs: Injector<JobRef>,
    pub(crate) sleep: Sleep,
    /// Whether any task has had a priority, or a scope of its own: until then nobody looks at the queues for them.
    pub(crate) special: AtomicBool,
    /// Whether any task has had a priority: until then nobody looks at the queues of other levels than the normal one.
    pub(crate) has_levels: AtomicBool,
    /// Inline processors: the first `slots.len()`, in the order of the slots; then queued ones.
    pub(crate) processors: Vec<ProcessorRecord>,
    /// The same processors as scopes see them.
    pub(crate) identities: Vec<ProcessorIdentity>,
    pub(crate) domains: Domains,
    pub(crate) backends: Backends,
    pub(crate) queued: Queued,
    /// Where tasks with a choice go; none where no task has one.
    pub(crate) placement: Option<Placement>,
    /// What ran when, if that is kept.
    pub(crate) journal: Option<Arc<Journal>>,
    /// Queues that a worker is to submit from between two tasks, one bit for each, the 64th for those that follow, too.
    told: AtomicU64,
    /// In a process that executes calls, for the runtime of what they spawn: the way to all processors but the first, which have no queues here.
    pub(crate) elsewhere: Option<Elsewhere>,
    /// What is said about all tasks of a function, by the function's type.
    pub(crate) defaults: BTreeMap<TypeId, TaskOptions>,
    /// Runs of graphs.
    pub(crate) runs: Runs,
    /// Places where regions were begun.
    pub(crate) regions: Sites,
    /// Tasks that do not take exactly one processor.
    pub(crate) unusual: Unusual,
    /// Foreign threads that have spawned more than is good.
    pub(crate) room: Room,
    /// Ready tasks that wait while memory is short.
    pub(crate) aside: Aside,
    /// Which workers take tasks.
    pub(super) roster: Roster,
    pub(crate) idle_policy: IdlePolicy,
    phase: AtomicU8,
    /// Whether somebody is at ending it.
    ends: AtomicBool,
    /// How often everything has been cancelled, modulo 2^16; a task of an earlier count is not run. With `FOR_GOOD` none is.
    epoch: AtomicU32,
    /// A worker looks at the number of unfinished tasks when the number of its spawns has none of these bits.
    crowd_mask: u64,
    /// Tasks spawned and finished by threads that hold no slot.
    foreign_spawned: CachePadded<AtomicU64>,
    foreign_finished: CachePadded<AtomicU64>,
    /// Threads that wait until the runtime is idle, besides the one that drains it.
    idle_waiters: AtomicUsize,
    /// Whom to wake when the runtime may have become idle, or has ended.
    idle: Mutex<Vec<Unparker>>,
}

impl Shared {
    pub(crate) fn new(processors: Vec<ProcessorRecord>, backends: Backends, slots: Vec<Slot>, choices: Choices) -> Self {
        let queued = Queued::new(&processors[slots.len()..], slots.len());
        let log = Arc::clone(&backends.found.log);
        let warn = move |text| log.push(LogLevel::Warning, text);
        let placement = Placement::new(&processors, slots.len(), &choices.placement, warn);
        let journal = choices.placement.journal.then(|| Journal::new(processors.len()));
        let mut identities: Vec<_> = processors.iter().enumerate().map(|(place, record)| identity(place, record, &backends)).collect();
        let remote = processors.iter().zip(&mut identities).filter(|(record, _)| record.info.execution == Execution::Remote);
        for ((_, identity), number) in remote.zip(1..) {
            identity.process = ProcessId(number);
        }
        let domains = Domains::new(processors.len(), slots.len());
        // With more workers the look takes longer, and the crowd may be a little larger.
        for record in &backends.records {
            for space in &record.spaces {
                // A device that the host's own cores play has no pages of its own.
                let in_it = |one: &&ProcessorRecord| one.info.space == space.info.id && backends[one.backend].info == record.info;
                let is_software =
                    |one: &ProcessorRecord| one.info.device.as_ref().is_some_and(|device| device.class == DeviceClass::Software);
                space.keeps_pages.store(!processors.iter().filter(in_it).all(is_software), Relaxed);
            }
        }
        let crowd_mask = (CROWD_INTERVAL * slots.len().next_power_of_two() as u64).min(CROWD / 2) - 1;
        Self {
            slots,
            injectors: [Injector::new(), Injector::new(), Injector::new()],
            jobs: Injector::new(),
            sleep: Sleep::default(),
            special: AtomicBool::new(false),
            has_levels: AtomicBool::new(false),
            processors,
            identities,
            domains,
            backends,
            queued,
            placement,
            journal,
            told: AtomicU64::new(0),
            elsewhere: None,
            defaults: choices.defaults,
            runs: Runs::default(),
            regions: Sites::default(),
            unusual: Unusual::default(),
            room: Room::default(),
            aside: Aside::default(),
            roster: Roster::default(),
            idle_policy: choices.idle_policy,
            phase: AtomicU8::new(OPEN),
            ends: AtomicBool::new(false),
            epoch: AtomicU32::new(0),
            crowd_mask,
            foreign_spawned: CachePadded::default(),
            foreign_finished: CachePadded::default(),
            idle_waiters: AtomicUsize::new(0),
            idle: Mutex::default(),
        }
    }

    /// What of it keeps regions from being replayed, if something does: tasks that are nodes of a graph are in no journal, are placed otherwise, and have no options.
    pub(crate) fn why_not_replayed(&self) -> Option<&'static str> {
        if self.journal.is_some() {
            return Some("keeps a journal");
        }
        if self.placement.as_ref().is_some_and(|placement| placement.places_all) {
            return Some("has a policy");
        }
        if !self.defaults.is_empty() {
            return Some("has options for all tasks of a function");
        }
        if self.slots.is_empty()
            || self.elsewhere.is_some()
            || self.processors.iter().any(|record| record.info.execution == Execution::Remote)
        {
            return Some("has processors that are no threads of this process");
        }
        arena::is_short().then_some("is short of memory")
    }

    /// How often everything has been cancelled, as a task notes it when it is spawned.
    #[inline]
    pub(crate) fn epoch(&self) -> u16 {
        // Relaxed: whoever cancels everything says nothing about tasks that are spawned at the same time.
        self.epoch.load(Relaxed) as u16
    }

    /// Whether everything was cancelled since a task noted the count.
    #[inline]
    pub(crate) fn is_outdated(&self, epoch: u16) -> bool {
        u32::from(epoch) != self.epoch.load(Relaxed)
    }

    /// Why a task that is outdated was not run.
    #[cold]
    pub(crate) fn outdated(&self, task: &Header) -> FailureKind {
        if task.epoch() == self.epoch() { FailureKind::Shutdown } else { FailureKind::Cancelled }
    }

    /// Cancels everything that has been spawned.
    pub(crate) fn cancel_all(&self) {
        self.raise_epoch(0);
    }

    /// Raises the count; `add` stays in it.
    fn raise_epoch(&self, add: u32) {
        let raised = |epoch: u32| Some(epoch & FOR_GOOD | add | (epoch + 1) & (FOR_GOOD - 1));
        // The closure never refuses.
        let _ = self.epoch.fetch_update(Relaxed, Relaxed, raised);
        // Nothing further of a run begins.
        self.runs.visit(|run| run.cancel_if_outdated(self));
        // Tasks that pause between two attempts look at the count again.
        crate::timer::hurry();
    }

    /// Counts a task about to be spawned; false when the runtime takes no more.
    #[inline]
    pub(crate) fn admit(&self, context: Option<&Context>) -> bool {
        // A task that runs may spawn until the end: the runtime waits for it.
        if context.is_some_and(|context| context.count(|counters| &counters.spawned)) {
            return true;
        }
        // Counted before the phase is looked at: whoever closes the runtime sees the count, or this thread sees the phase.
        self.foreign_spawned.fetch_add(1, SeqCst);
        let open = self.phase.load(SeqCst) == OPEN || context.is_some();
        if !open {
            self.foreign_finished.fetch_add(1, SeqCst);
            self.signal_idle();
        }
        open
    }

    /// Puts a ready task where somebody who may run it will find it.
    #[inline]
    pub(crate) fn enqueue(&self, context: Option<&Context>, entry: Entry) {
        let (priority, domain, occupancy, launches, places_all) = entry.peek(|task| match task.options() {
            None => (task.priority(), None, Occupancy::ONE, false, false),
            Some(options) => {
                let ties = &options.ties;
                (task.priority(), ties.domain.upgrade(), options.taken(), ties.launch.is_some(), ties.placed.is_some())
            }
        });
        let entry = match launches {
            true => match self.give_launch(entry) {
                Ok(queue) => return queue.into_iter().for_each(|queue| self.queued.submit(self, queue)),
                Err(entry) => entry,
            },
            false => entry,
        };
        if places_all && !launches && !occupancy.is_unusual() && self.worker_count(domain.as_deref()) > 0 {
            return self.place_plain(entry, domain.as_deref());
        }
        let domain = domain.as_deref();
        let confined = domain.is_some_and(|domain| !domain.has_all_workers());
        if self.slots.is_empty() || confined || occupancy.is_unusual() {
            self.enqueue_special(domain, priority, occupancy, entry);
        } else {
            self.push(context, priority, entry);
        }
    }

    /// Whether a task is for the queues that every worker looks at.
    #[inline]
    fn is_plain(&self, task: &TaskRef) -> bool {
        let plain = |options: &TaskOptions| {
            let ties = &options.ties;
            !options.taken().is_unusual() && ties.domain.strong_count() == 0 && ties.launch.is_none() && ties.placed.is_none()
        };
        !self.slots.is_empty() && task.options().is_none_or(plain)
    }

    /// Puts ready tasks where somebody who may run them will find them; those that have nothing special to them with one look at who sleeps.
    pub(crate) fn enqueue_all(&self, context: Option<&Context>, entries: Vec<Entry>) {
        let plain = |entry: &Entry| entry.peek(|task| task.priority() == Priority::Normal && self.is_plain(task));
        let (plain, special): (Vec<_>, Vec<_>) = entries.into_iter().partition(plain);
        // Launches are submitted together.
        let mut queues = Vec::new();
        for entry in special {
            let is_launch = entry.peek(|task| task.launch().is_some());
            match if is_launch { self.give_launch(entry) } else { Err(entry) } {
                Ok(queue) => queues.extend(queue),
                Err(entry) => self.enqueue(context, entry),
            }
        }
        queues.sort_unstable();
        queues.dedup();
        for queue in queues {
            self.queued.submit(self, queue);
        }
        if plain.is_empty() {
            return;
        }
        let push_own = |slot: &Slot, local: &Local, entries| {
            for entry in entries {
                if let Err(entry) = slot.ring.push(entry) {
                    self.make_room(slot, local, entry);
                }
            }
            if self.sleep.is_anybody_idle() {
                self.show(slot, local);
            }
        };
        let unpushed = match context {
            Some(context) => context.try_local(plain, push_own),
            None => Err(plain),
        };
        if let Err(entries) = unpushed {
            for entry in entries {
                self.injectors[Priority::Normal.level()].push(entry);
            }
            self.sleep.notify();
        }
    }

    /// Puts an entry that every worker may run into the queue of this thread's worker, or into the one for all.
    #[inline]
    pub(crate) fn push(&self, context: Option<&Context>, priority: Priority, entry: Entry) {
        self.push_or(context, priority, entry, |entry| self.injectors[priority.level()].push(entry));
    }

    /// The same for part of a run of a graph. No allocation, once the queues are as long as they get.
    pub(crate) fn push_part(&self, context: Option<&Context>, priority: Priority, entry: Entry) {
        self.push_or(context, priority, entry, |entry| self.runs.push_fresh(priority.level(), entry));
    }

    /// Puts an entry into the queue of this thread's worker; if it is none, into a queue for all by `push_outside`.
    #[inline]
    fn push_or(&self, context: Option<&Context>, priority: Priority, entry: Entry, push_outside: impl FnOnce(Entry)) {
        let unpushed = match context {
            Some(context) => context.try_local(entry, |slot, local, entry| self.push_own(slot, local, priority, entry)),
            None => Err(entry),
        };
        if let Err(entry) = unpushed {
            if priority != Priority::Normal {
                self.note_level();
            }
            push_outside(entry);
            self.sleep.notify();
        }
    }

    /// Takes the newest entry of the worker's own queue of normal priority, shown to others or not, if it is the one that is `wanted`.
    #[inline]
    pub(crate) fn pop_own_if(&self, slot: &Slot, local: &Local, wanted: impl FnOnce(&Entry) -> bool) -> Option<Entry> {
        if slot.ring.len() > 0 { slot.ring.pop_if(wanted) } else { self.pop_shown_if(local, Priority::Normal, wanted) }
    }

    /// The same of what others can see.
    pub(crate) fn pop_shown_if(&self, local: &Local, priority: Priority, wanted: impl FnOnce(&Entry) -> bool) -> Option<Entry> {
        let deque = &local.deques[priority.level()];
        let newest = deque.pop()?;
        if wanted(&newest) {
            return Some(newest);
        }
        deque.push(newest);
        // A worker that looked meanwhile has not seen it.
        self.sleep.notify();
        None
    }

    /// A task has a priority.
    fn note_level(&self) {
        self.has_levels.store(true, Relaxed);
        self.special.store(true, Relaxed);
    }

    /// Puts an entry into the worker's own queue.
    #[inline]
    pub(crate) fn push_own(&self, slot: &Slot, local: &Local, priority: Priority, entry: Entry) {
        if priority != Priority::Normal {
            self.note_level();
            local.deques[priority.level()].push(entry);
            self.sleep.notify();
            return;
        }
        if let Err(entry) = slot.ring.push(entry) {
            self.make_room(slot, local, entry);
        }
        if self.sleep.is_anybody_idle() {
            self.show(slot, local);
        }
    }

    /// A look at whether somebody has run out of work since the last push, where a body spawns a task that has to wait: whoever has would take entries away with a `heavy`, which interrupts all.
    #[inline]
    pub(crate) fn show_if_wanted(&self, slot: &Slot, local: &Local) {
        if slot.ring.len() > 0 && self.sleep.is_anybody_idle() {
            self.show(slot, local);
        }
    }

    /// The ring is full: moves half of it into the queue.
    #[cold]
    fn make_room(&self, slot: &Slot, local: &Local, entry: Entry) {
        let deque = &local.deques[Priority::Normal.level()];
        slot.ring.show(ring::CAPACITY / 2, |entry| deque.push(entry));
        if let Err(entry) = slot.ring.push(entry) {
            deque.push(entry);
        }
    }

    /// Counts a task that the worker of a slot is about to spawn. True when it should then wait for room.
    #[inline]
    pub(crate) fn count_spawn(&self, slot: &Slot) -> bool {
        let count = add(&slot.counters.spawned, 1);
        count & self.crowd_mask == 0 && self.unfinished() > slot.counters.crowd.load(Relaxed).max(CROWD)
    }

    /// About how many tasks have been spawned and not finished.
    #[cold]
    pub(crate) fn unfinished(&self) -> u64 {
        let finished: u64 = self.finished();
        let spawned: u64 = self.foreign_spawned.load(Relaxed) + self.slots.iter().map(Slot::spawned).sum::<u64>();
        spawned.saturating_sub(finished)
    }

    /// About how many tasks have finished.
    pub(crate) fn finished(&self) -> u64 {
        self.foreign_finished.load(Relaxed) + self.slots.iter().map(Slot::finished).sum::<u64>()
    }

    /// For a worker between two tasks: whether those that wait for room may go on.
    pub(crate) fn has_room(&self) -> bool {
        self.unfinished() <= CROWD / 2
    }

    /// Moves the older half of the worker's newest tasks to where thieves find them, and wakes one.
    #[cold]
    pub(crate) fn show(&self, slot: &Slot, local: &Local) {
        let deque = &local.deques[Priority::Normal.level()];
        slot.ring.show(slot.ring.len() / 2, |entry| deque.push(entry));
        self.sleep.notify();
    }

    /// Puts a task that not every worker may take just so into a queue of its own sort: where it takes more or less than a processor, where its domain
    /// has only some of the workers, or none.
    #[cold]
    fn enqueue_special(&self, domain: Option<&Domain>, priority: Priority, occupancy: Occupancy, entry: Entry) {
        if self.is_impossible(domain, occupancy).is_some() {
            self.strand(entry);
            return;
        }
        self.push_special(domain, priority, occupancy, entry);
        self.see_to_special(domain, occupancy);
    }

    fn push_special(&self, domain: Option<&Domain>, priority: Priority, occupancy: Occupancy, entry: Entry) {
        let worker_count = self.worker_count(domain);
        if worker_count > 0 {
            self.special.store(true, Relaxed);
        }
        if occupancy.is_unusual() && worker_count > 0 {
            self.unusual.push(self, occupancy, entry);
            return;
        }
        if let Some(domain) = domain.filter(|_| worker_count > 0) {
            if priority != Priority::Normal {
                self.note_level();
            }
            self.domains.push(domain, priority, entry, &self.sleep);
            return;
        }
        if let Some(elsewhere) = &self.elsewhere {
            return elsewhere.push(entry);
        }
        let queued = self.slots.len()..self.processors.len();
        let queued: Vec<usize> = queued.filter(|processor| domain.is_none_or(|domain| domain.contains(*processor))).collect();
        self.queued.push(self, &queued, entry);
    }

    /// Has a thread of a slot that does not hold it run a task; gives the task back when there is none to be had.
    pub(crate) fn send_errand(&self, slot: usize, errand: Errand) -> Result<(), Errand> {
        let place = &self.slots[slot];
        let Some(number) = place.leave_errand(errand)? else { return Ok(()) };
        if self.start_thread(slot, ERRAND_THREADS_MAX) { Ok(()) } else { place.take_errand_back(number).map_or(Ok(()), Err) }
    }

    /// Has a slot's processor start one more thread for it, as long as there are fewer than `most`. False when there is none to be had.
    pub(crate) fn start_thread(&self, slot: usize, most: usize) -> bool {
        self.slots[slot].thread_count() < most && self.processors[slot].processor.start(WorkerId(slot as u32)).is_ok()
    }

    /// Number of workers that are in the middle of something, about now.
    pub(crate) fn busy_count(&self) -> usize {
        let active = self.slots.iter().filter(|slot| !slot.is_dormant()).count();
        active.saturating_sub(self.sleep.idle_count() as usize)
    }

    /// The number of workers in a domain that take tasks.
    pub(crate) fn worker_count(&self, domain: Option<&Domain>) -> usize {
        if self.has_dormant() {
            let is_there = |place: &usize| !self.slots[*place].is_dormant() && domain.is_none_or(|domain| domain.contains(*place));
            return (0..self.slots.len()).filter(is_there).count();
        }
        domain.map_or(self.slots.len(), Domain::worker_count)
    }

    /// Whether a processor may run a task in the place of whoever would.
    pub(crate) fn may_run(&self, processor: usize, task: &TaskRef) -> bool {
        task.domain().is_none_or(|domain| domain.contains(processor)) && !self.is_for_device(task)
    }

    /// Whether it is a kernel's launch that a device is to run.
    fn is_for_device(&self, task: &TaskRef) -> bool {
        let launch = task.launch_ties();
        launch.is_some_and(|launch| !launch.on_host.load(Relaxed) && !self.devices_for(task, launch).is_empty())
    }

    /// The places of the devices that can run a launch: of its kernel's kind, in its scope; without a scope, no software device. Not one that is lost or has had it.
    pub(crate) fn devices_for(&self, task: &TaskRef, launch: &LaunchTies) -> Vec<usize> {
        if self.elsewhere.is_some() {
            return Vec::new();
        }
        let domain = task.domain();
        // A scope that comes to all processors has no domain.
        let has_scope = task.options().is_some_and(|options| options.scope.as_ref().is_some_and(|scope| !scope.is_any()));
        let tried = launch.tried.load(Relaxed);
        let takes_software = self.placement.as_ref().is_some_and(|placement| placement.takes_software);
        let is_one = |place: &usize| {
            let record = &self.processors[*place];
            let is_software = record.info.device.as_ref().is_some_and(|device| device.class == DeviceClass::Software);
            record.info.kind == launch.body.kind
                && record.lost.get().is_none()
                && tried & 1 << (place - self.slots.len()).min(63) == 0
                && domain.as_ref().map_or(has_scope || !is_software || takes_software, |domain| domain.contains(*place))
        };
        (self.slots.len()..self.processors.len()).filter(is_one).collect()
    }

    /// Gives a launch to a device: the number of its queue, from which it is to be submitted. If there is no device for it, it is the host's, and comes back; or it fails.
    fn give_launch(&self, entry: Entry) -> Result<Option<usize>, Entry> {
        let Some(entry) = self.queued.keep_entry(entry) else { return Ok(None) };
        let devices = entry.peek(|task| {
            let launch = task.launch_ties()?;
            let devices = if launch.on_host.load(Relaxed) { Vec::new() } else { self.devices_for(task, launch) };
            let goes_here = devices.is_empty() && launch.body.has_host && self.worker_count(task.domain().as_deref()) > 0;
            if goes_here {
                launch.on_host.store(true, Relaxed);
            }
            (!goes_here).then_some(devices)
        });
        let places_all = self.placement.as_ref().is_some_and(|placement| placement.places_all);
        match devices {
            None if places_all && !entry.peek(|task| task.options().is_some_and(|options| options.taken().is_unusual())) => {
                self.place_launch(entry, Vec::new())
            }
            None => Err(entry),
            Some(devices) if devices.is_empty() => {
                self.queued.fail_stranded(self, entry);
                Ok(None)
            }
            Some(devices) => self.place_launch(entry, devices),
        }
    }

    /// Whether a launch may run on every worker as well as on devices, and nobody has said that it is for those.
    pub(crate) fn is_free(&self, task: &TaskRef, launch: &LaunchTies) -> bool {
        let has_scope = task.options().is_some_and(|options| options.scope.as_ref().is_some_and(|scope| !scope.is_any()));
        let devices_first = self.placement.as_ref().is_none_or(|placement| placement.devices_first);
        // Arguments may have scopes, too.
        let has_all = task.domain().is_none_or(|domain| domain.has_all_workers());
        !has_scope && has_all && !devices_first && launch.body.has_host && !self.slots.is_empty()
    }

    /// Places a launch that these devices can run, or, without any, the workers in its scope. A task whose scope says where it may run is for the devices among that.
    fn place_launch(&self, entry: Entry, devices: Vec<usize>) -> Result<Option<usize>, Entry> {
        let Some(placement) = &self.placement else { return Ok(Some(self.queued.add(&devices, entry))) };
        let Work::Task(task) = entry.into_work() else { unreachable!("parts of runs are no launches") };
        let Some(table) = task.launch() else { unreachable!("only launches get here") };
        // Its arguments are looked at: they are whoever's who has claimed it.
        if task.try_claim() != Claim::Won {
            drop(Entry::task(task));
            return Ok(None);
        }
        let has_failed = task.has_failed_argument(&table);
        let survey = (!has_failed).then(|| task.survey(&table));
        if !task.unclaim() {
            let failure = task.fail_claimed(task.stopped().unwrap_or(FailureKind::Cancelled));
            self.finish(None, &task, Some(failure), false);
            return Ok(None);
        }
        let Some(launch) = task.launch_ties() else { unreachable!("a launch has ties") };
        let (is_free, domain) = (devices.is_empty() || self.is_free(&task, launch), task.domain());
        let is_there = |slot: &usize| !self.slots[*slot].is_dormant() && domain.as_ref().is_none_or(|domain| domain.contains(*slot));
        let mut processors: Vec<usize> = match is_free {
            true if placement.places_all => (0..self.slots.len()).filter(is_there).collect(),
            true => vec![0],
            false => Vec::new(),
        };
        processors.extend(devices);
        if processors.is_empty() {
            // Removed since the caller has looked.
            return self.give_launch(Entry::task(task));
        }
        if is_free {
            // Whoever is idle may come to take it from a device that is late.
            self.special.store(true, Relaxed);
        }
        match placement.place(self, Entry::task(task), survey.as_ref(), &processors) {
            Went::Nowhere(entry) => self.give_launch(entry),
            went => Ok(self.after_placing(went)),
        }
    }

    /// Places a task that a thread runs.
    fn place_plain(&self, entry: Entry, domain: Option<&Domain>) {
        let Some(placement) = &self.placement else { unreachable!("only a placement makes tasks have ties to it") };
        let is_there = |slot: &usize| !self.slots[*slot].is_dormant() && domain.is_none_or(|domain| domain.contains(*slot));
        let processors: Vec<usize> = (0..self.slots.len()).filter(is_there).collect();
        if processors.is_empty() {
            // Removed since the caller has looked.
            return self.enqueue(None, entry);
        }
        // One that somebody has claimed goes nowhere any more, whatever it works on.
        let survey = entry.peek(TaskRef::survey_ready);
        let went = match placement.place(self, entry, survey.as_ref(), &processors) {
            Went::Nowhere(entry) => return self.enqueue(None, entry),
            went => went,
        };
        if let Some(queue) = self.after_placing(went) {
            self.queued.submit(self, queue);
        }
    }

    /// Wakes whoever may take what was placed; a queue that is to be submitted from.
    pub(crate) fn after_placing(&self, went: Went) -> Option<usize> {
        let (queue, wakes_worker, worker) = match went {
            Went::ToWorkers(worker) => (None, true, worker),
            Went::ToQueue(queue, wakes_worker) => (Some(queue), wakes_worker, None),
            Went::Nowhere(_) => unreachable!("whoever places a task sees to that"),
        };
        if wakes_worker {
            self.special.store(true, Relaxed);
            self.wake_for_placed(worker);
        }
        queue
    }

    /// A worker is to submit from a queue, between two tasks.
    pub(crate) fn tell(&self, queue: usize) {
        self.told.fetch_or(1 << queue.min(63), SeqCst);
        self.special.store(true, Relaxed);
        self.sleep.notify();
    }

    /// Whether a worker is to submit from some queue.
    pub(crate) fn has_told(&self) -> bool {
        self.told.load(SeqCst) != 0
    }

    /// Submits from those queues. Whether there were any.
    pub(crate) fn submit_told(&self) -> bool {
        if !self.has_told() {
            return false;
        }
        let told = self.told.swap(0, SeqCst);
        let queues = self.processors.len() - self.slots.len();
        (0..queues).filter(|queue| told >> (*queue).min(63) & 1 == 1).for_each(|queue| self.queued.submit(self, queue));
        told != 0
    }

    /// Somebody is to look at the board: this worker if it sleeps.
    fn wake_for_placed(&self, worker: Option<usize>) {
        match &self.placement {
            // Each place has its own: whoever searches may be none that is to take it. Nor need it be the one that the board takes for idle: that may do what it did not
            // get from the board, and one that the board takes for busy may wait inside a task, and somebody else be in its place.
            Some(placement) if placement.places_all => {
                if worker.is_none_or(|worker| !self.sleep.wake_where(|slot| slot == worker)) {
                    self.sleep.wake_all_sleepers();
                }
            }
            _ => self.sleep.notify(),
        }
    }

    /// Why a worker that has found nothing has nothing to do; nothing when all tasks are over.
    pub(crate) fn why_idle(&self, slot: usize) -> Option<Idle> {
        if self.unfinished() == 0 {
            return None;
        }
        Some(if self.placement.as_ref().is_some_and(|placement| placement.is_held_back(slot)) {
            Idle::Policy
        } else if self.queued.waits_for_memory() {
            Idle::Memory
        } else if self.queued.has_in_flight() {
            Idle::Data
        } else {
            Idle::NoReadyWork
        })
    }

    /// About how long the tasks take the workers that are ready and that nobody has begun, in ns. 0 as long as a worker is idle.
    pub(crate) fn backlog_ns(&self) -> u64 {
        if self.slots.is_empty() || self.sleep.is_anybody_idle() {
            return 0;
        }
        let ready: usize =
            self.slots.iter().map(Slot::ready_count).sum::<usize>() + self.injectors.iter().map(Injector::len).sum::<usize>();
        let (mut busy_ns, mut tasks) = (0u64, 0u64);
        let now_ns = now_ns();
        for slot in &self.slots {
            busy_ns += slot.counters.activity.read(now_ns).busy_ns;
            tasks += slot.counters.tasks.load(Relaxed);
        }
        // Those that run have half of their time before them.
        (busy_ns / tasks.max(1)).saturating_mul(2 * ready as u64 + self.slots.len() as u64) / 2 / self.slots.len() as u64
    }

    /// Tells the devices that may run a launch of its kernel, once for each kernel.
    pub(crate) fn expect(&self, task: &TaskRef) {
        let Some(launch) = task.launch_ties() else { return };
        if launch.body.is_expected.swap(true, Relaxed) {
            return;
        }
        if let Some(kernel) = launch.body.as_code() {
            self.devices_for(task, launch).iter().for_each(|place| self.processors[*place].processor.expect(&kernel));
        }
    }

    /// What a kernel's source takes, if a backend can read it.
    pub(crate) fn inspect(&self, code: &Code) -> Option<Result<KernelInterface, String>> {
        let source = code.source()?;
        let backends = self.backends.iter().filter_map(|record| record.backend.as_ref());
        backends.map(|backend| backend.inspect(source)).find_map(|inspected| match inspected {
            Ok(interface) => interface.map(Ok),
            Err(error) => Some(Err(error.reason)),
        })
    }

    /// The memory that a processor works in, if it is not the host's.
    pub(crate) fn space_of(&self, processor: usize) -> Option<&Arc<DeviceSpace>> {
        let record = &self.processors[processor];
        let spaces = &self.backends.get(record.backend)?.spaces;
        spaces.iter().find(|space| space.info.id == record.info.space)
    }

    /// A worker that searched has found a task. Pushes that relied on its search, or woke it, are seen to by another one.
    pub(crate) fn found(&self, slot: usize) {
        self.sleep.found(|| self.has_work(slot));
        self.domains.pass_on(slot, &self.sleep);
    }

    /// The queues of a slot will not be looked at for a while: whoever relied on that finds another worker.
    pub(crate) fn stop_looking(&self, slot: usize) {
        self.sleep.stop_looking(|| self.has_work(slot));
        self.domains.pass_on(slot, &self.sleep);
    }

    /// Whether a task with these options is to run in other processes and nowhere else.
    pub(crate) fn is_for_processes(&self, options: &TaskOptions) -> bool {
        let here = self.elsewhere.as_ref().map_or(ProcessId::HOST, |_| self.identities[0].process);
        let domain = options.ties.domain.upgrade();
        domain.is_some_and(|domain| {
            self.identities.iter().enumerate().all(|(place, identity)| identity.process != here || !domain.contains(place))
        })
    }

    /// Why no processor can run a task with these options, if none can. Its run scope has been settled.
    pub(crate) fn refusal(&self, options: &TaskOptions) -> Option<FailureKind> {
        let asked = options.taken();
        if asked == Occupancy::ONE {
            return None;
        }
        let domain = options.ties.domain.upgrade();
        let available = match (&self.elsewhere, domain.as_deref()) {
            (Some(_), Some(domain)) => (0..self.processors.len()).filter(|place| domain.contains(*place)).count(),
            (_, domain) => self.worker_count(domain),
        };
        let possible = asked.is_possible() && (asked.processors() <= 1.0 || asked.processors() <= available as f64);
        (!possible).then_some(FailureKind::Occupancy { asked: asked.processors(), available })
    }

    /// Which of a group of slots a thief tries first, where a platform decides. Between those that have nothing there is no choice.
    pub(crate) fn chosen_victim(&self, group: &[usize], level: usize) -> Option<usize> {
        if !platform::is_logical() {
            return None;
        }
        let with_tasks: Vec<usize> = (0..group.len()).filter(|at| !self.slots[group[*at]].stealers[level].is_empty()).collect();
        (with_tasks.len() > 1).then(|| platform::choose(with_tasks.len()))?.map(|of_those| with_tasks[of_those])
    }

    /// Whether the holder of `slot` could find a task now.
    pub(crate) fn has_work(&self, slot: usize) -> bool {
        self.injectors.iter().any(|injector| !injector.is_empty())
            || self.domains.has_work(slot)
            || !self.jobs.is_empty()
            || self.runs.has_any_fresh()
            || self.unusual.has_work(self, slot)
            || self.slots[slot].remote.get().is_some_and(RemoteProcessor::has_ahead)
            || self.has_told()
            || self.aside.is_any()
            || self.placement.as_ref().is_some_and(|placement| placement.has_work(slot))
            || self.slots.iter().any(Slot::has_work)
    }

    /// Makes the outcome of a task that this thread has claimed known, and passes on what that sets free. With `next`, the thread is a worker's between
    /// two tasks, and the first ready successor will be the next one.
    #[inline]
    pub(crate) fn finish(&self, context: Option<&Context>, task: &TaskRef, failure: Option<TaskError>, next: bool) {
        if let (Some(placement), Some(placed)) = (&self.placement, placed(task)) {
            placement.ended(placed, failure.is_none());
        }
        self.finish_and(context, task, failure, next, |published| {
            if published && task.options().is_some() {
                task.settle_bonds();
            }
        });
    }

    /// As `finish`, for a task without options.
    #[inline]
    pub(crate) fn finish_plain(&self, context: Option<&Context>, task: &TaskRef, failure: Option<TaskError>, next: bool) {
        self.finish_and(context, task, failure, next, |_| ());
    }

    #[inline]
    fn finish_and(&self, context: Option<&Context>, task: &TaskRef, failure: Option<TaskError>, next: bool, tell: impl FnOnce(bool)) {
        let is_plain = |task: &TaskRef| task.options().is_none() && task.priority() == Priority::Normal;
        let mut first = None;
        let published = task.publish(failure, |released| match released {
            Released::Waiter(waker) => waker.wake(),
            Released::Ready(entry) => {
                if !entry.peek(|successor| std::ptr::eq(successor.runtime(), self)) {
                    Self::enqueue_elsewhere(entry);
                } else if planted::is(Bug::DroppedSuccessor) && first.is_some() && context.is_some_and(|context| context.processor == 2) {
                    std::mem::forget(entry);
                } else if next && first.is_none() && entry.peek(|task| is_plain(task) || self.hurries(context, task)) {
                    first = Some(entry);
                } else {
                    self.enqueue(context, entry);
                }
            }
        });
        if !published {
            task.drop_value();
        }
        tell(published);
        if let Some(entry) = first {
            // On top of the others, and not shown to anybody: this thread looks there next. Unless its process has calls ahead, which come first and may take long.
            let unpushed = match context {
                Some(context) if context.remote().is_some_and(RemoteProcessor::has_ahead) && !planted::is(Bug::HiddenSuccessor) => {
                    Err(entry)
                }
                Some(context) => context.try_local(entry, |slot, _, entry| slot.ring.push(entry)),
                None => Err(entry),
            };
            match unpushed {
                Ok(Ok(())) => {}
                Ok(Err(entry)) | Err(entry) => self.enqueue(context, entry),
            }
        }
        self.retract(context);
    }

    /// Counts a task as finished that `admit` has counted.
    #[inline]
    pub(crate) fn retract(&self, context: Option<&Context>) {
        if !context.is_some_and(|context| context.count(|counters| &counters.finished)) {
            self.foreign_finished.fetch_add(1, SeqCst);
            self.signal_idle();
        }
    }

    /// Puts a ready task into a queue of its own runtime, for a thread that is none of its workers.
    #[cold]
    pub(crate) fn enqueue_elsewhere(entry: Entry) {
        // Kept for the whole call: once the task is in a queue it may run, and its runtime may end before `enqueue` has looked at its sleepers.
        let other = entry.peek(runtime_of);
        other.enqueue(None, entry);
    }

    /// Passes on what finishing a task set free, for a thread that is no worker between two tasks.
    pub(crate) fn release_elsewhere(released: Released) {
        match released {
            Released::Waiter(waker) => waker.wake(),
            Released::Ready(entry) => Self::enqueue_elsewhere(entry),
        }
    }

    /// Counts a cancelled task as finished, whose entry has been taken out of a queue.
    #[cold]
    pub(crate) fn retract_buried(task: &TaskRef) {
        let shared = runtime_of(task);
        Context::with_of(&shared, |context| shared.retract(context));
    }

    /// Whether every task that was spawned has finished.
    pub(crate) fn is_quiet(&self) -> bool {
        // Finished first: both only grow, and a task is counted as spawned before it is counted as finished. Equal sums then mean that
        // between the two readings there was a moment with nothing to do.
        let finished: u64 = self.foreign_finished.load(SeqCst) + self.slots.iter().map(Slot::finished).sum::<u64>();
        std::sync::atomic::fence(SeqCst);
        let spawned: u64 = self.foreign_spawned.load(SeqCst) + self.slots.iter().map(Slot::spawned).sum::<u64>();
        finished == spawned || planted::is(Bug::IdleTooEarly) && self.is_open() && finished + 1 == spawned
    }

    /// Tells the thread that waits for the runtime to drain, if one does, to look again.
    pub(crate) fn signal_idle(&self) {
        if self.phase.load(SeqCst) != OPEN || self.idle_waiters.load(SeqCst) > 0 {
            let woken = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
            woken.iter().for_each(Unparker::unpark);
        }
    }

    /// Waits until something is `over` that `signal_idle` is called after.
    fn wait_for_idle(&self, over: impl Fn() -> bool) {
        loop {
            let mut waiting = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            // Under the lock: whoever makes it so takes the list afterwards.
            if over() {
                return;
            }
            waiting.push(waiter::unparker());
            drop(waiting);
            waiter::park();
        }
    }

    /// Whether some thread outside waits, for room or for what has been spawned.
    pub(super) fn is_waited_for(&self) -> bool {
        waiter::is_any_outside() || self.idle_waiters.load(Relaxed) > 0 || self.room.is_wanted()
    }

    /// Waits until every task that was spawned has finished.
    pub(crate) fn wait_until_quiet(&self) {
        self.idle_waiters.fetch_add(1, SeqCst);
        // Workers signal when they find nothing; those that sleep already have nothing to tell.
        self.sleep.wake_all();
        self.wait_for_idle(|| self.is_quiet());
        self.idle_waiters.fetch_sub(1, SeqCst);
    }

    /// Whether workers have to end.
    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        self.phase.load(Relaxed) >= STOPPED
    }

    /// Nothing is run any more, but for what runs already.
    pub(crate) fn cancel_for_good(&self) {
        self.raise_epoch(FOR_GOOD);
    }

    /// Whether it takes tasks from outside.
    pub(crate) fn is_open(&self) -> bool {
        self.phase.load(SeqCst) == OPEN
    }

    /// Takes no more tasks from outside.
    pub(crate) fn close(&self) {
        // Closed already, otherwise.
        let _ = self.phase.compare_exchange(OPEN, DRAINING, SeqCst, SeqCst);
    }

    /// Waits for all tasks, then ends all threads; if another thread is at it, waits until it is done. On a thread that is in the middle of a task it
    /// would wait for itself: call it elsewhere.
    pub(crate) fn shut_down(&self) {
        self.close();
        if self.ends.swap(true, SeqCst) {
            return self.wait_for_idle(|| self.has_ended());
        }
        self.wait_until_quiet();
        self.phase.store(STOPPED, SeqCst);
        for slot in &self.slots {
            slot.close();
        }
        self.sleep.wake_all();
        if let Some(placement) = &self.placement {
            placement.end();
        }
        // What only devices have comes to the host: results may be wanted later.
        self.backends.iter().flat_map(|record| &record.spaces).for_each(residency::leave);
        for record in &self.processors {
            if let Err(error) = record.processor.stop() {
                self.backends.found.log.push(LogLevel::Warning, format!("processor {}: {error}", record.info.name));
            }
        }
        if let Some(warning) = self.placement.as_ref().and_then(Placement::save) {
            self.backends.found.log.push(LogLevel::Warning, warning);
        }
        self.phase.store(ENDED, SeqCst);
        self.signal_idle();
    }

    /// Whether `shut_down` has done everything.
    pub(crate) fn has_ended(&self) -> bool {
        self.phase.load(SeqCst) == ENDED
    }
}

/// A processor as scopes see it.
fn identity(place: usize, record: &ProcessorRecord, backends: &Backends) -> ProcessorIdentity {
    let ProcessorInfo { name, kind, execution, space, device, .. } = record.info.clone();
    ProcessorIdentity {
        name,
        kind,
        backend: backends[record.backend].info.name.clone(),
        process: ProcessId::HOST,
        space,
        worker: execution.has_workers().then_some(WorkerId(place as u32)),
        device,
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("slots", &self.slots.len()).field("processors", &self.processors.len()).finish_non_exhaustive()
    }
}
