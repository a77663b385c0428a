//! This side: a worker's thread that stands for a process sends tasks over, and takes their results.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use poniard_interface::{CallError, Caller, LogLevel, RawBuffer, Remote, Wanted};

use super::call::{self, Processors, Request};
use super::code;
use super::trade::{Trade, give_back};
use crate::arena;
use crate::clock::now;
use crate::error::{FailureKind, TaskError};
use crate::task::record::{TaskRef, Travel};
use crate::wire::{Buffers, Place, Reader, WireError, Writer};
use crate::worker::context::Context;
use crate::worker::main_loop::next_ahead;

/// How often a task is begun on processes before it counts as what ends them.
const ATTEMPTS_MAX: u32 = 3;
/// How many tasks are claimed ahead of their turn at least, if there is to be any gain in it.
const AHEAD_MIN: usize = 4;
/// A process is sent calls ahead as long as its calls take no longer than this. As long as some wake-ups: beyond it there is little to be gained, and others
/// could run the tasks meanwhile.
const QUICK_NS: u64 = 50_000;
/// So much work is sent ahead, however many tasks that takes.
const AHEAD_NS: u64 = 20_000;
/// One call counts for no longer than this in the mean, which would take long to get down again.
const LONG_NS: u64 = 4 * QUICK_NS;
/// How long a body that was told to stop may go on before its process is ended.
const GRACE: Duration = Duration::from_millis(200);

/// The process of an inline processor.
pub(crate) struct RemoteProcessor {
    remote: Arc<dyn Remote>,
    /// Held during a call; a thread that finds it held runs its task by itself.
    state: Mutex<State>,
    /// How many tasks are in `State::ahead`, about: for those that look for work.
    ahead: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    /// The process that the grants belong to.
    process: u32,
    grants: Grants,
    /// Whether it has been said that there is no process.
    complained: bool,
    /// Tasks that were claimed ahead of their turn, oldest first.
    ahead: VecDeque<Ahead>,
    /// How long calls take, about; nothing before the first.
    mean_ns: Option<u64>,
}

impl State {
    /// How many tasks are worth to be claimed ahead of their turn.
    fn ahead_max(&self) -> usize {
        match self.mean_ns {
            Some(mean_ns) if mean_ns <= QUICK_NS => AHEAD_MIN.max((AHEAD_NS / mean_ns.max(1)) as usize),
            _ => 0,
        }
    }

    /// Takes a call into account.
    fn note_call(&mut self, took_ns: u64) {
        let took_ns = took_ns.min(LONG_NS);
        self.mean_ns = Some(self.mean_ns.map_or(took_ns, |mean_ns| (3 * mean_ns + took_ns) / 4));
    }
}

/// A task that was claimed ahead of its turn.
#[derive(Debug)]
pub(crate) struct Ahead {
    pub(crate) task: TaskRef,
    fate: Fate,
}

/// What has become of a task that was claimed ahead of its turn.
#[derive(Debug)]
enum Fate {
    /// Its call was sent. The blocks stay until it is over.
    Sent { travel: Travel, _blocks: Vec<RawBuffer> },
    /// Its call had begun when the process was lost with the one before.
    Lost { travel: Travel, error: CallError },
    /// It stays, or does not begin at all. Nothing is sent behind it.
    Here,
}

impl Ahead {
    /// Whether its call was sent.
    pub(crate) fn is_sent(&self) -> bool {
        !matches!(self.fate, Fate::Here)
    }
}

/// Blocks that a process has been lent, by (arena, offset), with their size classes: what lies in one may be shorter than what was asked for first.
#[derive(Debug, Default)]
pub(super) struct Grants(BTreeMap<(u64, u64), u64>);

impl Grants {
    /// Takes back a block that was lent.
    pub(super) fn take(&mut self, place: Place) -> Result<RawBuffer, WireError> {
        match self.0.get(&(place.arena, place.offset)) {
            Some(class) if arena::size_class(place.len_bytes) == Some(*class) => {}
            _ => return Err(WireError::new(format!("{place:?} was not lent to the process"))),
        }
        self.0.remove(&(place.arena, place.offset));
        Ok(arena::take_back(place))
    }

    /// Lends the process a block; nothing if it is none of this process's arenas.
    pub(super) fn give(&mut self, block: RawBuffer) -> Option<Place> {
        let place = arena::place_of(&block)?;
        self.0.insert((place.arena, place.offset), arena::size_class(place.len_bytes)?);
        std::mem::forget(block);
        Some(place)
    }

    /// The process has ended: all that it was lent is free.
    fn take_all(&mut self) {
        for ((arena, offset), len_bytes) in std::mem::take(&mut self.0) {
            drop(arena::take_back(Place { arena, offset, len_bytes }));
        }
    }
}

impl Drop for RemoteProcessor {
    fn drop(&mut self) {
        // The backend has ended the process by now (`Processor::stop`).
        self.state.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).grants.take_all();
    }
}

/// The memory of arguments that are sent.
struct Arguments;

impl Buffers for Arguments {
    fn send(&mut self, raw: &RawBuffer) -> Option<Place> {
        arena::place_of(raw)
    }

    fn receive(&mut self, place: Place) -> Result<RawBuffer, WireError> {
        Err(WireError::new(format!("an argument is not received, and {place:?} came")))
    }
}

/// The memory of results that are received.
struct Results<'a>(&'a mut Grants);

impl Buffers for Results<'_> {
    fn send(&mut self, _: &RawBuffer) -> Option<Place> {
        None
    }

    fn receive(&mut self, place: Place) -> Result<RawBuffer, WireError> {
        self.0.take(place)
    }
}

/// A call, and the blocks that stay until it is over.
pub(super) type Encoded = (Vec<u8>, Vec<RawBuffer>);

/// The call of a task that this thread has claimed; nothing when it stays.
pub(super) fn encode(task: &TaskRef, travel: &Travel) -> Option<Encoded> {
    let distance = code::distance_of(travel.body)?;
    let mut buffers = Arguments;
    let mut writer = Writer::new(&mut buffers);
    writer.put_u64(distance);
    // A value that serde cannot write after all stays here.
    call::caught(|| task.send(travel, &mut writer)).ok()?;
    Some(writer.finish())
}

impl RemoteProcessor {
    pub(crate) fn new(remote: Arc<dyn Remote>) -> Self {
        Self { remote, state: Mutex::default(), ahead: AtomicUsize::new(0) }
    }

    /// Has the process run a task that this thread has claimed. Its error, as `run_claimed` gives it; nothing when it has to be run here: it does
    /// not travel, or there is no process.
    #[cold]
    pub(crate) fn run(&self, context: &Context, task: &TaskRef) -> Option<Option<TaskError>> {
        let goes_ahead = context.take_between();
        if task.stopped().is_some() {
            return None;
        }
        let travel = task.travel()?;
        // Poisoned: a thread has panicked in the middle of a call, so what the process is doing is unknown.
        let state = self.state.try_lock().ok()?;
        if !state.ahead.is_empty() {
            // On top of what this thread does between two tasks, such as dropping a value.
            return None;
        }
        let (call, _blocks) = encode(task, &travel)?;
        let outcome = |caller: &mut Waiting<'_>| self.remote.call(&call, caller);
        self.conclude(context, task, &travel, state, goes_ahead, outcome)
    }

    /// Whether there are tasks that were claimed ahead of their turn.
    pub(crate) fn has_ahead(&self) -> bool {
        self.ahead.load(Relaxed) > 0
    }

    /// The oldest task that was claimed ahead of its turn, which now has come.
    #[inline]
    pub(crate) fn take_ahead(&self) -> Option<Ahead> {
        if !self.has_ahead() {
            return None;
        }
        let ahead = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).ahead.pop_front();
        self.ahead.fetch_sub(usize::from(ahead.is_some()), Relaxed);
        ahead
    }

    /// As `run`, for a task from `take_ahead` whose call was sent.
    #[cold]
    pub(crate) fn run_ahead(&self, context: &Context, ahead: &Ahead) -> Option<TaskError> {
        let task = &ahead.task;
        let here = || task.run_claimed();
        let Ok(state) = self.state.try_lock() else { return here() };
        let concluded = match &ahead.fate {
            Fate::Sent { travel, .. } => {
                let outcome = |caller: &mut Waiting<'_>| match self.remote.next(caller) {
                    // It was not begun.
                    Err(CallError::NoProcess { .. }) => self.send_again(caller, travel),
                    outcome => outcome,
                };
                self.conclude(context, task, travel, state, true, outcome)
            }
            Fate::Lost { travel, error } => self.conclude(context, task, travel, state, true, |_| Err(error.clone())),
            Fate::Here => {
                drop(state);
                None
            }
        };
        concluded.unwrap_or_else(here)
    }

    fn send_again(&self, caller: &mut Waiting<'_>, travel: &Travel) -> Result<Vec<u8>, CallError> {
        match encode(caller.task, travel) {
            Some((call, _blocks)) => self.remote.call(&call, caller),
            None => Err(CallError::NoProcess { reason: "the task cannot be sent a second time".into() }),
        }
    }

    /// Takes what comes of a call, and repeats it when its process ends. The task's error; nothing when it has to be run here.
    fn conclude<'s>(
        &'s self,
        context: &Context,
        task: &TaskRef,
        travel: &Travel,
        mut state: MutexGuard<'s, State>,
        goes_ahead: bool,
        first: impl FnOnce(&mut Waiting<'_>) -> Result<Vec<u8>, CallError>,
    ) -> Option<Option<TaskError>> {
        let name = &context.shared.identities[context.processor].name;
        let mut attempts = 0;
        let mut first = Some(first);
        loop {
            // Behind one that stays, or whose process was lost, nothing is sent: they come in their order.
            let goes_ahead = goes_ahead && state.ahead.iter().all(|ahead| matches!(ahead.fate, Fate::Sent { .. }));
            let mut caller = Waiting { remote: self, state: &mut state, context, task, goes_ahead, told: None, trade: None };
            let outcome = match first.take() {
                Some(first) => first(&mut caller),
                None => self.send_again(&mut caller, travel),
            };
            let told = caller.told.is_some();
            let open = caller.trade.take().filter(|trade| !trade.is_settled());
            match outcome {
                Ok(reply) => {
                    if let Some(trade) = open {
                        // Only a process that is broken replies before all is over.
                        trade.settle(context);
                    }
                    let failure = match accept(&mut state, task, travel, &reply) {
                        Ok(failure) => failure,
                        Err(error) => Some(FailureKind::Processor {
                            processor: name.clone(),
                            reason: format!("the process {} sent a reply that cannot be read: {error}", state.process),
                        }),
                    };
                    return Some(task.end_claimed(failure));
                }
                Err(error) => {
                    // What has not come back by now was lost, too.
                    for ahead in &mut state.ahead {
                        if let Fate::Sent { travel, .. } = ahead.fate {
                            ahead.fate = Fate::Lost { travel, error: error.clone() };
                        }
                    }
                    match error {
                        CallError::Lost { process, reason } => {
                            attempts += 1;
                            let mut grants = std::mem::take(&mut state.grants);
                            let kept = match open {
                                None => Some(state),
                                Some(trade) => {
                                    // Others may read what the process made. They may need this processor for their end, so another thread may have it meanwhile.
                                    drop(state);
                                    trade.settle(context);
                                    self.state.try_lock().ok()
                                }
                            };
                            grants.take_all();
                            let once = task.options().is_some_and(|options| options.once == Some(true));
                            if told || once || attempts == ATTEMPTS_MAX {
                                let why = match attempts {
                                    _ if once => "; the task is to be begun only once".into(),
                                    1 => String::new(),
                                    _ => format!("; {attempts} processes have ended over it"),
                                };
                                let reason = format!("the process {process} {reason}{why}");
                                return Some(task.end_claimed(Some(FailureKind::Processor { processor: name.clone(), reason })));
                            }
                            state = kept?;
                        }
                        error => {
                            if let Some(trade) = open {
                                trade.settle(context);
                            }
                            // Not here either: a body that does not stop when it is told to would keep this thread.
                            if told || task.stopped().is_some() {
                                return Some(task.end_claimed(Some(context.shared.outdated(task))));
                            }
                            if !std::mem::replace(&mut state.complained, true) {
                                let message = format!("processor {name}: {error}; its tasks run in this process");
                                context.shared.backends.found.log.push(LogLevel::Warning, message);
                            }
                            return None;
                        }
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for RemoteProcessor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteProcessor").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Takes what a reply brings. Why the task has no value, if it has none.
fn accept(state: &mut State, task: &TaskRef, travel: &Travel, reply: &[u8]) -> Result<Option<FailureKind>, WireError> {
    let (tag, took_ns, places) = {
        let mut none = Arguments;
        let mut reader = Reader::new(reply, &mut none);
        (reader.take_u8()?, reader.take_u64()?, call::take_places(&mut reader)?)
    };
    state.note_call(took_ns);
    for place in &places {
        drop(state.grants.take(*place)?);
    }
    let mut results = Results(&mut state.grants);
    let mut reader = Reader::new(reply, &mut results);
    reader.take(1 + 8 + 8 + 24 * places.len() as u64)?;
    call::accept(task, travel, tag, &mut reader)
}

/// The thread that waits for a call.
struct Waiting<'a> {
    remote: &'a RemoteProcessor,
    state: &'a mut State,
    context: &'a Context,
    task: &'a TaskRef,
    /// Whether it may send further calls ahead.
    goes_ahead: bool,
    /// When the body was first told to stop.
    told: Option<Instant>,
    /// What there is between the process and the host, once there is something.
    trade: Option<Trade>,
}

impl Caller for Waiting<'_> {
    fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        // What cannot be met is answered by nothing.
        let answer = Request::of_bytes(request).and_then(|request| match request {
            Request::Allocate { len_bytes } => {
                let (place, clean) = arena::lend(len_bytes).ok()?;
                self.state.grants.0.insert((place.arena, place.offset), arena::size_class(len_bytes)?);
                Some(call::answer([place.arena, place.offset, u64::from(clean)]))
            }
            Request::Map { arena } => {
                let (descriptor, bytes) = arena::descriptor_of(arena)?;
                Some(call::answer([u64::from(std::process::id()), descriptor, bytes]))
            }
            Request::Processors => {
                let identities = self.context.shared.identities.clone();
                Some(Processors { key: code::key(), own: self.context.processor, identities }.to_bytes())
            }
            Request::Exchange(parcel) => {
                // A call that waits for others is no time to send more.
                self.goes_ahead = false;
                let trade = self.trade.get_or_insert_with(Trade::new);
                if self.told.is_some() {
                    trade.stop();
                }
                Some(trade.exchange(self.context, &mut self.state.grants, parcel).to_bytes())
            }
        });
        answer.unwrap_or_default()
    }

    fn wanted(&mut self) -> Wanted {
        if self.task.stopped().is_none() && !self.context.shared.is_outdated(self.task.epoch()) {
            return Wanted::Yes;
        }
        let now = now();
        let told = *self.told.get_or_insert(now);
        if let Some(trade) = &mut self.trade {
            trade.stop();
        }
        if now.duration_since(told) > GRACE { Wanted::End } else { Wanted::Stop }
    }

    fn begins(&mut self, process: u32) {
        if self.state.process != process {
            // The one before has ended, whoever noticed.
            self.state.grants.take_all();
            self.state.process = process;
        }
    }

    fn ahead(&mut self) -> Option<Vec<u8>> {
        if !self.goes_ahead || self.state.ahead.len() >= self.state.ahead_max() {
            return None;
        }
        let task = next_ahead(self.context)?;
        let sent = if task.stopped().is_some() || self.context.shared.is_outdated(task.epoch()) || !task.begins() {
            None
        } else {
            task.travel().and_then(|travel| Some((travel, encode(&task, &travel)?)))
        };
        let (call, fate) = match sent {
            Some((travel, (call, blocks))) => (Some(call), Fate::Sent { travel, _blocks: blocks }),
            None => (None, Fate::Here),
        };
        self.goes_ahead = call.is_some();
        self.state.ahead.push_back(Ahead { task, fate });
        self.remote.ahead.fetch_add(1, Relaxed);
        call
    }

    fn came_back(&mut self, count: usize) {
        for _ in 0..count {
            let place = self.state.ahead.iter().rposition(|ahead| matches!(ahead.fate, Fate::Sent { .. }));
            let Some(ahead) = place.and_then(|place| self.state.ahead.remove(place)) else { return };
            self.remote.ahead.fetch_sub(1, Relaxed);
            give_back(self.context, ahead.task);
        }
        // What takes long is no time to send more.
        self.goes_ahead = false;
    }
}
