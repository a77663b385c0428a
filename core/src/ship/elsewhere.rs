//! Tasks that a body on a worker process spawns, and that its process may not run: the host has them run.
//!
//! One thread of the process sends them, once there is the first one, and as long as there is something on its way it exchanges parcels with the host. What it
//! gets are outcomes, and guests: tasks for this process, which can be run while the body of the call waits for others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use poniard_interface::RawBuffer;

use super::call::{Ended, Offer, Parcel, caught};
use super::code;
use super::image;
use super::memory::{self, Loans};
use super::offer::{Offered, Outcome, run_offered};
use super::trade::{end, outcome_of};
use crate::ambient;
use crate::error::{FailureKind, TaskError};
use crate::function::{Args, caller};
use crate::options::Occupancy;
use crate::runtime::spawn_at_once;
use crate::task::Task;
use crate::task::record::{Claim, TaskRef, Travel};
use crate::wire::Writer;
use crate::worker::entry::{Entry, Work};
use crate::worker::shared::Shared;

/// How long whoever has nothing to do rests before it looks again whether threads on errands have finished.
const PAUSE: Duration = Duration::from_micros(100);

/// The way to the processors of the host that are not this process.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    /// For `code::seal`.
    key: u64,
    /// The places on the host of the processors of this runtime.
    places: Vec<u64>,
    state: Mutex<State>,
    /// Something waits to be sent, or has come.
    changed: Condvar,
    /// The thread that executes the call has nothing to do.
    resting: AtomicBool,
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
}

impl Elsewhere {
    pub(super) fn new(key: u64, places: Vec<u64>) -> Self {
        Self { key, places, state: Mutex::default(), changed: Condvar::new(), resting: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that panics is under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a ready task run. Runs no code of users: the thread does.
    pub(crate) fn push(&self, entry: Entry) {
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
        let mut guests: BTreeMap<u64, Task<Outcome>> = BTreeMap::new();
        let mut last = 0;
        loop {
            let fresh = {
                let mut state = self.lock();
                while state.waiting.is_empty() && sent.is_empty() && guests.is_empty() {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                state.open = state.waiting.len() + sent.len() + guests.len();
                std::mem::take(&mut state.waiting)
            };
            let mut parcel = Parcel::default();
            for task in fresh.into_iter().filter_map(claimed) {
                match self.offer(shared, &task, last + 1) {
                    Ok((offer, travel, _blocks)) => {
                        last = offer.ticket;
                        parcel.offers.push(offer);
                        sent.insert(last, Sent { task, travel, _blocks, told: false });
                    }
                    Err(failure) => shared.finish(None, &task, failure, false),
                }
            }
            for (ticket, sent) in sent.iter_mut().filter(|(_, sent)| !sent.told) {
                sent.told = sent.task.stopped().is_some() || shared.is_outdated(sent.task.epoch());
                parcel.stops.extend(sent.told.then_some(*ticket));
            }
            for (ticket, guest) in guests.extract_if(.., |_, guest| guest.is_finished()) {
                let Outcome { reply, blocks } = outcome_of(guest);
                // They are the host's from now on.
                let blocks = blocks.into_iter().filter_map(|block| memory::give(&block)).collect();
                parcel.outcomes.push(Ended { ticket, reply, blocks });
            }
            parcel.waits = parcel.is_empty();
            parcel.idle = shared.sleep.is_anybody_idle() || self.resting.load(Relaxed);
            match memory::exchange(parcel) {
                Some(answer) => {
                    for ended in answer.outcomes {
                        if let Some(Sent { task, travel, .. }) = sent.remove(&ended.ticket) {
                            conclude(shared, &task, &travel, ended);
                        }
                    }
                    for task in answer.stops.iter().filter_map(|ticket| guests.get(ticket)) {
                        task.cancel();
                    }
                    for Offer { ticket, call, .. } in answer.offers {
                        let params = (Offered::new(call, None),).into_params();
                        let guest = ambient::for_guests(|| spawn_at_once(shared, None, run_offered, params, caller(), None).0);
                        guests.insert(ticket, guest);
                    }
                }
                None => {
                    guests.clear();
                    for Sent { task, .. } in std::mem::take(&mut sent).into_values() {
                        let failure = task.end_claimed(Some(unsendable(shared, "the host does not answer")));
                        shared.finish(None, &task, failure, false);
                    }
                }
            }
            self.lock().open = sent.len() + guests.len();
            self.changed.notify_all();
        }
    }

    /// What the host is told of a task that this thread has claimed; else its error.
    fn offer(&self, shared: &Shared, task: &TaskRef, ticket: u64) -> Result<(Offer, Travel, Vec<RawBuffer>), Option<TaskError>> {
        if shared.is_outdated(task.epoch()) {
            return Err(Some(task.fail_claimed(shared.outdated(task))));
        }
        if !task.begins() {
            return Err(Some(task.fail_claimed(FailureKind::Cancelled)));
        }
        let unsendable = |reason: &str| Some(task.fail_claimed(unsendable(shared, reason)));
        let Some(travel) = task.travel() else {
            // An argument has failed, and the body is not run.
            return Err(if task.has_travel() { task.run_claimed() } else { unsendable("it does not travel") });
        };
        let Some(function) = code::distance_of(travel.body) else {
            return Err(unsendable("its function is not part of the program itself"));
        };
        let mut loans = Loans;
        let mut writer = Writer::new(&mut loans);
        writer.put_u64(function);
        caught(|| task.send(&travel, &mut writer)).map_err(|error| unsendable(&format!("an argument cannot be written: {error}")))?;
        let (call, blocks) = writer.finish();
        let domain = task.domain();
        let places = self.places.iter().enumerate().filter(|(place, _)| domain.as_ref().is_some_and(|domain| domain.contains(*place)));
        let options = task.options();
        let offer = Offer {
            ticket,
            call,
            seal: code::seal(function, self.key),
            places: places.map(|(_, place)| *place).collect(),
            name: task.name().name,
            level: task.priority().level() as u8,
            occupancy: options.map_or(Occupancy::ONE, |options| options.taken()).processors(),
            once: options.is_some_and(|options| options.once == Some(true)),
        };
        Ok((offer, travel, blocks))
    }
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

fn conclude(shared: &Shared, task: &TaskRef, travel: &Travel, ended: Ended) {
    let blocks: Result<Vec<_>, _> = ended.blocks.into_iter().map(memory::received).collect();
    let failure = blocks.and_then(|blocks| end(task, travel, &ended.reply, blocks)).unwrap_or_else(|error| {
        let reason = format!("what came of it elsewhere cannot be read: {error}");
        Some(FailureKind::Processor { processor: shared.identities[0].name.clone(), reason })
    });
    let failure = task.end_claimed(failure);
    shared.finish(None, task, failure, false);
}
