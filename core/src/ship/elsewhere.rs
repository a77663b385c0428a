//! Tasks that a body on a worker process spawns, and that its process may not run: the host has them run.
//!
//! One thread of the process sends them, once there is the first one, and as long as there is something on its way it exchanges parcels with the host. What it
//! gets are outcomes, and guests: tasks for this process, which can be run while the body of the call waits for others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use poniard_interface::RawBuffer;

use super::call::{Ended, Offer, Parcel, Request};
use super::code::{CodeRef, Key};
use super::image;
use super::memory::{self, Loans};
use super::offer::{Offered, Outcome, run_offered};
use super::trade::{end, outcome_of, pause_before_next};
use crate::ambient;
use crate::clock::now;
use crate::error::{FailureKind, TaskError};
use crate::function::{Args, caller};
use crate::options::Occupancy;
use crate::retry::Retrying;
use crate::runtime::spawn_at_once;
use crate::task::Task;
use crate::task::record::{Claim, TaskRef, Travel, Unspawned};
use crate::wire::{Writer, Written};
use crate::worker::entry::{Entry, Work};
use crate::worker::shared::Shared;

/// How long whoever has nothing to do rests before it looks again whether threads on errands have finished.
const PAUSE: Duration = Duration::from_micros(100);

/// The way to the processors of the host that are not this process.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    /// The places on the host of the processors of this runtime.
    places: Vec<u64>,
    state: Mutex<State>,
    /// Something waits to be sent, or has come.
    changed: Condvar,
    /// The thread that executes the call has nothing to do.
    resting: AtomicBool,
    /// `push_here` of the program. A library may have this code a second time, whose variables know nothing of the process.
    push: fn(&Self, Entry),
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Entry>,
    /// What the thread has: tasks that are on their way, and guests.
    open: usize,
    has_thread: bool,
}

/// A task that the host has run.
struct Sent {
    task: TaskRef,
    travel: Travel,
    /// They stay until it is over.
    _blocks: Vec<RawBuffer>,
    told: bool,
    retrying: Option<Retrying<()>>,
    attempt: u32,
}

/// A task that is to be tried again, and why.
struct Paused {
    due: Option<Instant>,
    sent: Sent,
    failure: FailureKind,
}

impl Elsewhere {
    pub(super) fn new(places: Vec<u64>) -> Self {
        Self { places, state: Mutex::default(), changed: Condvar::new(), resting: AtomicBool::new(false), push: Self::push_here }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that panics is under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a ready task run. Runs no code of users: the thread does.
    pub(crate) fn push(&self, entry: Entry) {
        (self.push)(self, entry);
    }

    fn push_here(&self, entry: Entry) {
        let mut state = self.lock();
        state.waiting.push_back(entry);
        if !state.has_thread {
            let thread = std::thread::Builder::new().name("elsewhere".into()).spawn(|| {
                if let Some(shared) = image::runtime()
                    && let Some(elsewhere) = &shared.elsewhere
                {
                    elsewhere.trade(shared);
                }
            });
            match thread {
                Ok(_) => state.has_thread = true,
                Err(error) => {
                    let waiting = std::mem::take(&mut state.waiting);
                    drop(state);
                    self.fail(waiting, &format!("a thread that sends it to the host could not be started: {error}"));
                    return;
                }
            }
        }
        self.changed.notify_all();
    }

    fn fail(&self, entries: impl IntoIterator<Item = Entry>, reason: &str) {
        let Some(shared) = image::runtime() else { return };
        for task in entries.into_iter().filter_map(claimed) {
            let failure = task.fail_claimed(unsendable(shared, reason));
            shared.finish(None, &task, Some(failure), false);
        }
    }

    /// Whether nothing is on its way, and no guest is here.
    pub(crate) fn is_settled(&self) -> bool {
        let state = self.lock();
        state.open == 0 && state.waiting.is_empty()
    }

    /// Waits for a while, or until something has come.
    pub(crate) fn rest(&self) {
        self.resting.store(true, Relaxed);
        drop(self.changed.wait_timeout(self.lock(), PAUSE));
        self.resting.store(false, Relaxed);
    }

    fn trade(&self, shared: &Arc<Shared>) {
        let mut sent: BTreeMap<u64, Sent> = BTreeMap::new();
        let mut paused: Vec<Paused> = Vec::new();
        let mut guests: BTreeMap<u64, Task<Outcome>> = BTreeMap::new();
        let mut delayed: Vec<(Option<Instant>, Offer)> = Vec::new();
        let mut last = 0;
        loop {
            let fresh = {
                let mut state = self.lock();
                while state.waiting.is_empty() && sent.is_empty() && paused.is_empty() && guests.is_empty() && delayed.is_empty() {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                state.open = state.waiting.len() + sent.len() + paused.len() + guests.len() + delayed.len();
                std::mem::take(&mut state.waiting)
            };
            let mut parcel = Parcel::default();
            let mut ready = Vec::new();
            for task in fresh.into_iter().filter_map(claimed) {
                match begun(shared, &task) {
                    Ok(travel) => {
                        let retrying = task.retries(&travel);
                        ready.push(Sent { task, travel, _blocks: Vec::new(), told: false, retrying, attempt: 1 });
                    }
                    Err(failure) => shared.finish(None, &task, failure, false),
                }
            }
            let time = now();
            let is_over = |paused: &mut Paused| paused.due.is_some_and(|due| due <= time) || is_told(shared, &paused.sent.task);
            for Paused { sent, failure, .. } in paused.extract_if(.., is_over) {
                if is_told(shared, &sent.task) {
                    let failure = sent.task.end_claimed(Some(failure));
                    shared.finish(None, &sent.task, failure, false);
                } else {
                    ready.push(sent);
                }
            }
            for mut ready in ready {
                match self.offer(shared, &ready.task, &ready.travel, last + 1) {
                    Ok((offer, blocks)) => {
                        ready.task.note_attempts(ready.attempt);
                        ready._blocks = blocks;
                        last = offer.ticket;
                        parcel.offers.push(offer);
                        sent.insert(last, ready);
                    }
                    Err(failure) => {
                        let failure = ready.task.fail_claimed(failure);
                        shared.finish(None, &ready.task, Some(failure), false);
                    }
                }
            }
            for (ticket, sent) in sent.iter_mut().filter(|(_, sent)| !sent.told) {
                sent.told = is_told(shared, &sent.task);
                parcel.stops.extend(sent.told.then_some(*ticket));
            }
            for (ticket, guest) in guests.extract_if(.., |_, guest| guest.is_finished()) {
                let Outcome { reply, blocks } = outcome_of(guest);
                // They are the host's from now on.
                let blocks = blocks.into_iter().filter_map(|block| memory::give(&block)).collect();
                parcel.outcomes.push(Ended { ticket, reply, blocks });
            }
            for (_, offer) in delayed.extract_if(.., |(due, _)| due.is_some_and(|due| due <= time)) {
                guests.insert(offer.ticket, receive(shared, offer.call));
            }
            parcel.waits = parcel.is_empty();
            parcel.idle = shared.sleep.is_anybody_idle() || self.resting.load(Relaxed);
            match memory::exchange(parcel) {
                Some(answer) => {
                    for ended in answer.outcomes {
                        if let Some(sent) = sent.remove(&ended.ticket) {
                            paused.extend(conclude(shared, sent, ended));
                        }
                    }
                    for task in answer.stops.iter().filter_map(|ticket| guests.get(ticket)) {
                        task.cancel();
                    }
                    // They begin, and are stopped as the others are.
                    for (_, offer) in delayed.extract_if(.., |(_, offer)| answer.stops.contains(&offer.ticket)) {
                        let guest = receive(shared, offer.call);
                        guest.cancel();
                        guests.insert(offer.ticket, guest);
                    }
                    for offer in answer.offers {
                        match offer.pause_ns {
                            0 => drop(guests.insert(offer.ticket, receive(shared, offer.call))),
                            pause_ns => delayed.push((now().checked_add(Duration::from_nanos(pause_ns)), offer)),
                        }
                    }
                }
                None => {
                    guests.clear();
                    delayed.clear();
                    let paused = std::mem::take(&mut paused).into_iter().map(|paused| paused.sent);
                    for Sent { task, .. } in std::mem::take(&mut sent).into_values().chain(paused) {
                        let failure = task.end_claimed(Some(unsendable(shared, "the host does not answer")));
                        shared.finish(None, &task, failure, false);
                    }
                }
            }
            self.lock().open = sent.len() + paused.len() + guests.len() + delayed.len();
            self.changed.notify_all();
        }
    }

    /// What the host is told of a task that this thread has claimed; else why it has failed.
    fn offer(&self, shared: &Shared, task: &TaskRef, travel: &Travel, ticket: u64) -> Result<(Offer, Vec<RawBuffer>), FailureKind> {
        let unsendable = |reason: &str| unsendable(shared, reason);
        let ask = |library| {
            let [number, ..] = memory::ask(&Request::Number { library })?.ok()?;
            u16::try_from(number).ok()
        };
        let function = CodeRef::for_host(travel.body, ask).map_err(|reason| unsendable(&reason))?;
        let mut loans = Loans;
        let mut writer = Writer::new(&mut loans);
        function.put(Key::of_host(), &mut writer);
        task.send(travel, &mut writer).map_err(|error| unsendable(&format!("an argument cannot be written: {error}")))?;
        let Written { bytes: call, blocks, .. } = writer.finish();
        let domain = task.domain();
        let places = self.places.iter().enumerate().filter(|(place, _)| domain.as_ref().is_some_and(|domain| domain.contains(*place)));
        let options = task.options();
        let offer = Offer {
            ticket,
            call,
            pause_ns: 0,
            places: places.map(|(_, place)| *place).collect(),
            name: task.name().name,
            level: task.priority().level() as u8,
            occupancy: options.map_or(Occupancy::ONE, |options| options.taken()).processors(),
            once: task.is_once(),
        };
        Ok((offer, blocks))
    }
}

/// How a task travels that this thread has claimed; else its error.
fn begun(shared: &Shared, task: &TaskRef) -> Result<Travel, Option<TaskError>> {
    if shared.is_outdated(task.epoch()) {
        return Err(Some(task.fail_claimed(shared.outdated(task))));
    }
    if !task.begins() {
        return Err(Some(task.fail_claimed(FailureKind::Cancelled)));
    }
    match task.travel() {
        Some(travel) => Ok(travel),
        // An argument has failed, and the body is not run.
        None if task.has_travel() => Err(task.run_claimed()),
        None => Err(Some(task.fail_claimed(unsendable(shared, "it does not travel")))),
    }
}

/// Whether a task is to stop.
fn is_told(shared: &Shared, task: &TaskRef) -> bool {
    task.stopped().is_some() || shared.is_outdated(task.epoch())
}

/// Has a guest run here.
fn receive(shared: &Arc<Shared>, call: Vec<u8>) -> Task<Outcome> {
    let params = (Offered::new(call, None),).into_params();
    ambient::for_guests(|| spawn_at_once(shared, None, &mut Unspawned::new(run_offered, params), caller(), None).0)
}

/// The task of an entry, if this thread gets to claim it.
fn claimed(entry: Entry) -> Option<TaskRef> {
    let Work::Task(task) = entry.into_work() else { unreachable!("parts of runs lie in queues of workers") };
    if task.try_claim() == Claim::Won {
        return Some(task);
    }
    drop(Entry::task(task));
    None
}

/// Why a task does not get to where it could run.
fn unsendable(shared: &Shared, reason: &str) -> FailureKind {
    FailureKind::Processor {
        processor: shared.identities[0].name.clone(),
        reason: format!("it cannot be sent to another process: {reason}"),
    }
}

/// Takes what came of a task; gives it back if it is to be tried again.
fn conclude(shared: &Shared, sent: Sent, ended: Ended) -> Option<Paused> {
    let blocks: Result<Vec<_>, _> = ended.blocks.into_iter().map(memory::received).collect();
    let failure = blocks.and_then(|blocks| end(&sent.task, &sent.travel, &ended.reply, blocks)).unwrap_or_else(|error| {
        let reason = format!("what came of it elsewhere cannot be read: {error}");
        Some(FailureKind::Processor { processor: shared.identities[0].name.clone(), reason })
    });
    if let Some(pause) = pause_before_next(failure.as_ref(), sent.retrying.as_ref(), sent.attempt)
        && let Some(failure) = failure
    {
        return Some(Paused { due: now().checked_add(pause), sent: Sent { attempt: sent.attempt + 1, ..sent }, failure });
    }
    let failure = sent.task.end_claimed(failure);
    shared.finish(None, &sent.task, failure, false);
    None
}
