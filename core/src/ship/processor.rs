//! This side: a worker's thread that stands for a process sends tasks over, and takes their results.
//!
//! One file because a call, what is sent ahead of its turn behind it, and what the process is lent meanwhile are one state, under one lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use poniard_interface::{CallError, Caller, LogLevel, RawBuffer, Remote, Wanted};

use super::call::{self, IS_TIGHT, MEASURES, MEASURES_CPU, NO_CODE, NOT_MEASURED, Parcel, Processors, Request, gives_back};
use super::code::{self, CodeRef, Key};
use super::idle;
use super::trade::{Trade, give_back};
use super::values::{self, SentCount};
use crate::clock::now;
use crate::error::{FailureKind, TaskError};
use crate::placement::placed;
use crate::planted::{self, Bug};
use crate::retry::{self, Over};
use crate::task::record::{TaskRef, Travel};
use crate::wire::{Buffers, Identity, NoBuffers, Place, Reader, WireError, Writer, Written};
use crate::worker::context::Context;
use crate::worker::main_loop::next_ahead;
use crate::worker::stopwatch::Away;
use crate::{arena, spill};

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
    /// Values that were sent to be kept there.
    pub(crate) sent: SentCount,
    /// Held during a call; a thread that finds it held runs its task by itself.
    state: Mutex<State>,
    /// How many tasks are in `State::ahead`, about: for those that look for work.
    ahead: AtomicUsize,
    /// Bytes of values that were copied to the process, and from there.
    pub(crate) copied_bytes: (AtomicU64, AtomicU64),
    /// How many calls each process has replied to.
    replies: Mutex<BTreeMap<u32, u64>>,
    /// How often a task has been begun again, since its process had ended.
    pub(crate) begun_again: AtomicU64,
    lent: Arc<Lent>,
}

/// What to do about memory that a process has been lent.
pub(super) enum Look {
    /// It is at work, or was lately.
    Again,
    /// It has done nothing since the last look.
    AskBack,
    /// It has none.
    Never,
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
    /// What the process says of the call that it has just replied to.
    away: Option<Away>,
    /// Threads that wait until nobody looks at memory of a process any more that replied too early.
    settling_count: usize,
    /// Free when there are none.
    left: Vec<Left>,
}

impl State {
    /// How many tasks are worth to be claimed ahead of their turn.
    fn ahead_max(&self) -> usize {
        match self.mean_ns {
            Some(mean_ns) if mean_ns <= QUICK_NS => AHEAD_MIN.max((AHEAD_NS / mean_ns.max(1)) as usize),
            _ => 0,
        }
    }

    /// The process has ended: all that it was lent is free, once nobody looks at it.
    fn take_all(&mut self) {
        let left = self.grants.leave();
        if self.settling_count > 0 {
            self.left.push(left);
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

/// What has come of a call.
enum Outcome {
    /// The task has ended, with an error or without.
    Ended(Option<FailureKind>),
    /// The function has returned an error: the task is to be ended with it, or the function called again.
    Returned(FailureKind),
    /// The task has to be run here.
    Here,
}

impl Outcome {
    /// The error of the task, which has not been called again; nothing when it has to be run here. Drops the arguments, so not under the lock of the state:
    /// they may wait for tasks that were claimed ahead.
    fn of(self, task: &TaskRef) -> Option<Option<TaskError>> {
        match self {
            Self::Ended(failure) => Some(task.end_claimed(failure)),
            Self::Returned(kind) => Some(task.end_claimed(Some(kind))),
            Self::Here => None,
        }
    }
}

impl Ahead {
    /// Whether its call was sent.
    pub(crate) fn is_sent(&self) -> bool {
        !matches!(self.fate, Fate::Here)
    }
}

/// Blocks that a process has been lent, by (arena, offset), with their size classes: what lies in one may be shorter than what was asked for first.
#[derive(Debug, Default)]
pub(super) struct Grants(BTreeMap<(u64, u64), u64>, Arc<Lent>);

/// Blocks that a process has been lent, which has ended, and that somebody may yet look at. Free when they are dropped.
#[derive(Debug)]
struct Left(BTreeMap<(u64, u64), u64>);

impl Drop for Left {
    fn drop(&mut self) {
        for ((arena, offset), len_bytes) in std::mem::take(&mut self.0) {
            drop(arena::take_back(Place { arena, offset, len_bytes }));
        }
    }
}

/// What others know of the grants. They do not look at them: a thread that found the state held would run its task by itself.
#[derive(Debug, Default)]
pub(super) struct Lent {
    count: AtomicUsize,
    /// Whether somebody looks (`idle`) whether the process needs them.
    watched: AtomicBool,
    /// How many tasks the processor had run at the last look.
    tasks: AtomicU64,
}

impl Grants {
    /// Notes a block that is lent. Whether somebody has to be told to look.
    fn add(&mut self, place: Place, class: u64) -> bool {
        self.0.insert((place.arena, place.offset), class);
        self.1.count.store(self.0.len(), SeqCst);
        !self.1.watched.swap(true, SeqCst)
    }

    /// Takes back a block that was lent.
    pub(super) fn take(&mut self, place: Place) -> Result<RawBuffer, WireError> {
        match self.0.get(&(place.arena, place.offset)) {
            Some(class) if arena::size_class(place.len_bytes) == Some(*class) => {}
            _ => return Err(WireError::new(format!("{place:?} was not lent to the process"))),
        }
        self.0.remove(&(place.arena, place.offset));
        self.1.count.store(self.0.len(), SeqCst);
        Ok(arena::take_back(place))
    }

    /// Enters a block that the process may write to, and that lies in an argument, too. As `add`: the process may keep it.
    fn hand_over(&mut self, place: Place) -> bool {
        match arena::size_class(place.len_bytes) {
            Some(class) if !self.0.contains_key(&(place.arena, place.offset)) => {
                // It is in the arena, as the call holds it; that it may be spilled, and its copy on the disk, are of the past.
                let _ = spill::withdraw(place);
                arena::hand_over(place);
                self.add(place, class)
            }
            _ => false,
        }
    }

    /// Lends the process a block; nothing if it is none of this process's arenas.
    pub(super) fn give(&mut self, block: RawBuffer, context: &Context) -> Option<Place> {
        let place = arena::place_of(&block)?;
        let class = arena::size_class(place.len_bytes)?;
        // What cannot be read back is not given.
        spill::withdraw(place).ok()?;
        if self.add(place, class) {
            idle::watch(&context.shared, context.processor);
        }
        std::mem::forget(block);
        Some(place)
    }

    /// The process has ended: what it was lent.
    fn leave(&mut self) -> Left {
        self.1.count.store(0, SeqCst);
        Left(std::mem::take(&mut self.0))
    }
}

impl Drop for RemoteProcessor {
    fn drop(&mut self) {
        // The backend has ended the process by now (`Processor::stop`).
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner).take_all();
    }
}

/// The memory of arguments that are sent.
struct Arguments {
    /// Whether values have numbers, and memory is handed over: what is sent so is of the call that the thread waits for.
    is_for_call: bool,
    /// What keeps the blocks from being spilled.
    held: Vec<RawBuffer>,
}

impl Buffers for Arguments {
    fn send(&mut self, raw: &RawBuffer) -> Option<Place> {
        let place = arena::place_of(raw)?;
        // What cannot be read back as a whole is not sent as a place: whoever reads it byte by byte meets the error.
        self.held.extend(spill::hold(place).ok()?);
        Some(place)
    }

    fn receive(&mut self, place: Place) -> Result<RawBuffer, WireError> {
        Err(WireError::new(format!("an argument is not received, and {place:?} came")))
    }

    fn hands_over(&self) -> bool {
        self.is_for_call
    }

    fn number_of(&mut self, value: &Identity<'_>) -> Option<u64> {
        if self.is_for_call { values::number_of(value) } else { None }
    }

    fn give_number(&mut self, value: &Identity<'_>) -> Option<u64> {
        if self.is_for_call { values::give_number(value) } else { None }
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

/// The call of a task that this thread has claimed; nothing when it stays.
fn encode(task: &TaskRef, travel: &Travel) -> Option<Written> {
    let tight = if arena::is_tight() { IS_TIGHT } else { 0 };
    let measures = match placed(task) {
        Some(placed) if placed.samples_cpu() => MEASURES | MEASURES_CPU,
        Some(_) => MEASURES,
        None => 0,
    };
    encode_as(Some(tight | measures), task, travel)
}

/// The same for a task that comes to the process as a guest.
pub(super) fn encode_guest(task: &TaskRef, travel: &Travel) -> Option<Written> {
    encode_as(None, task, travel)
}

/// With `flags` for the call that the thread waits for.
fn encode_as(flags: Option<u8>, task: &TaskRef, travel: &Travel) -> Option<Written> {
    let function = CodeRef::of(travel.body).ok()?;
    let mut buffers = Arguments { is_for_call: flags.is_some(), held: Vec::new() };
    let mut writer = Writer::new(&mut buffers);
    if let Some(flags) = flags {
        writer.put_u8(flags);
    }
    function.put(Key::own(), &mut writer);
    // A value that serde cannot write after all stays here.
    task.send(travel, &mut writer).ok()?;
    let mut written = writer.finish();
    written.blocks.append(&mut buffers.held);
    Some(written)
}

impl RemoteProcessor {
    pub(crate) fn new(remote: Arc<dyn Remote>) -> Self {
        let lent = Arc::<Lent>::default();
        let grants = Grants(BTreeMap::new(), Arc::clone(&lent));
        Self {
            remote,
            sent: SentCount::default(),
            state: Mutex::new(State { grants, ..State::default() }),
            ahead: AtomicUsize::new(0),
            copied_bytes: Default::default(),
            replies: Mutex::default(),
            begun_again: AtomicU64::new(0),
            lent,
        }
    }

    /// The processes that have executed tasks, with how many each.
    pub(crate) fn replies(&self) -> BTreeMap<u32, u64> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The process is ended by `end`, until the next call; what it was lent is free. Nothing happens in the middle of a call, or while tasks are sent ahead.
    pub(crate) fn rest(&self, end: impl FnOnce()) {
        if let Ok(mut state) = self.state.try_lock()
            && state.ahead.is_empty()
        {
            end();
            state.take_all();
            state.process = 0;
        }
    }

    /// What to do about memory that the process has been lent, by the number of tasks that the processor has run.
    pub(super) fn look(&self, tasks: u64) -> Look {
        if self.lent.count.load(SeqCst) > 0 && self.lent.tasks.swap(tasks, Relaxed) != tasks {
            return Look::Again;
        }
        // In this order: what is lent after this look is looked at again, or seen here (`add`).
        self.lent.watched.store(false, SeqCst);
        if self.lent.count.load(SeqCst) == 0 { Look::Never } else { Look::AskBack }
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
        if let Err(reason) = CodeRef::of(travel.body) {
            return stays(context, task, reason).of(task);
        }
        let retrying = task.retries(&travel);
        for attempt in 1.. {
            // Poisoned: a thread has panicked in the middle of a call, so what the process is doing is unknown.
            let state = self.state.try_lock().ok()?;
            if !state.ahead.is_empty() {
                // On top of what this thread does between two tasks, such as dropping a value.
                return None;
            }
            let call = encode(task, &travel)?;
            task.note_attempts(attempt);
            let outcome = |caller: &mut Waiting<'_>| self.send(caller, call);
            // Behind one that is tried again nothing is sent: its next call would come after it.
            // Others may use the process after that, and during the pause.
            let outcome = self.conclude(context, task, &travel, state, goes_ahead && retrying.is_none(), outcome);
            match (outcome, &retrying) {
                (Outcome::Returned(_), Some(retrying))
                    if attempt <= retrying.retries && matches!(retry::pause(retrying.pause_after(attempt)), Ok(Some(Over))) => {}
                (outcome, _) => return outcome.of(task),
            }
        }
        unreachable!("more calls than there are numbers")
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
        let ahead = self.state.lock().unwrap_or_else(PoisonError::into_inner).ahead.pop_front();
        self.ahead.fetch_sub(usize::from(ahead.is_some()), Relaxed);
        ahead
    }

    /// As `run`, for a task from `take_ahead` whose call was sent.
    #[cold]
    pub(crate) fn run_ahead(&self, context: &Context, ahead: &Ahead) -> Option<TaskError> {
        let task = &ahead.task;
        let here = || task.run_claimed();
        // Its call was sent, so it cannot be run here. Whoever has the lock does not wait for anybody.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
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
                Outcome::Here
            }
        };
        concluded.of(task).unwrap_or_else(here)
    }

    fn send_again(&self, caller: &mut Waiting<'_>, travel: &Travel) -> Result<Vec<u8>, CallError> {
        match encode(caller.task, travel) {
            Some(call) => self.send(caller, call),
            None => Err(CallError::NoProcess { reason: "the task cannot be sent a second time".into() }),
        }
    }

    fn send(&self, caller: &mut Waiting<'_>, call: Written) -> Result<Vec<u8>, CallError> {
        self.copied_bytes.0.fetch_add(call.copied_bytes, Relaxed);
        self.sent.add(call.sent);
        caller.handed = call.handed;
        caller.is_delicate = call.is_delicate;
        // The blocks stay until the call is over.
        self.remote.call(&call.bytes, caller)
    }

    /// Notes that a process has executed tasks.
    fn note_replies(&self, process: u32, count: u64) {
        *self.replies.lock().unwrap_or_else(PoisonError::into_inner).entry(process).or_default() += count;
    }

    /// Takes what comes of a call, and repeats it when its process ends. The state is free when it returns.
    fn conclude<'s>(
        &'s self,
        context: &Context,
        task: &TaskRef,
        travel: &Travel,
        mut state: MutexGuard<'s, State>,
        goes_ahead: bool,
        first: impl FnOnce(&mut Waiting<'_>) -> Result<Vec<u8>, CallError>,
    ) -> Outcome {
        let name = &context.shared.identities[context.processor].name;
        let mut attempts = 0;
        let mut first = Some(first);
        loop {
            // Behind one that stays, or whose process was lost, nothing is sent: they come in their order.
            let goes_ahead = goes_ahead && state.ahead.iter().all(|ahead| matches!(ahead.fate, Fate::Sent { .. }));
            let mut caller = Waiting {
                remote: self,
                state: &mut state,
                context,
                task,
                travel,
                goes_ahead,
                blocks: Vec::new(),
                told: None,
                handed: Vec::new(),
                is_delicate: false,
                trade: None,
            };
            let outcome = match first.take() {
                Some(first) => first(&mut caller),
                None => planted::stale_reply().map_or_else(|| self.send_again(&mut caller, travel), Ok),
            };
            let told = caller.told.is_some();
            let open = caller.trade.take().filter(|trade| !trade.is_settled());
            let (handed, is_delicate) = (std::mem::take(&mut caller.handed), caller.is_delicate);
            match outcome {
                Ok(reply) => {
                    planted::keep_reply(&reply);
                    let process = state.process;
                    if let Some(trade) = open {
                        // Only a process that is broken replies before all is over.
                        state.settling_count += 1;
                        drop(state);
                        trade.settle(context);
                        state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                        state.settling_count -= 1;
                        if state.settling_count == 0 {
                            state.left.clear();
                        }
                    }
                    self.note_replies(process, 1);
                    let failure = match self.accept(&mut state, task, travel, &reply, &handed) {
                        Ok(failure) => failure,
                        Err(error) => Some(FailureKind::Processor {
                            processor: name.clone(),
                            reason: format!("the process {process} gave nothing that can be used: {error}"),
                        }),
                    };
                    if let Some(away) = state.away.take() {
                        context.stopwatch.note_away(away);
                    }
                    return match failure {
                        Some(failure @ FailureKind::Returned(_)) => Outcome::Returned(failure),
                        Some(FailureKind::Stays { reason }) => {
                            let message = format!("processor {name}: {reason}; tasks with functions of it stay in this process");
                            context.shared.backends.found.log.push(LogLevel::Warning, message);
                            let reason = CodeRef::of(travel.body).map_or_else(|reason| reason, |code| code::keep_here(code, &reason));
                            stays(context, task, reason)
                        }
                        failure => Outcome::Ended(failure),
                    };
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
                            if state.settling_count > 0 {
                                state.take_all();
                            }
                            let left = state.grants.leave();
                            let kept = match open {
                                None => Some(state),
                                Some(trade) => {
                                    // Others may look at what the process was lent. They may need this processor for their end, so another thread may have it
                                    // meanwhile.
                                    drop(state);
                                    trade.settle(context);
                                    self.state.try_lock().ok()
                                }
                            };
                            drop(left);
                            let once = task.is_once();
                            if told || once || is_delicate || attempts == ATTEMPTS_MAX || planted::is(Bug::NotBegunAgain) {
                                let why = match attempts {
                                    _ if is_delicate => {
                                        "; it was writing in place, so what it wrote to is lost, and it cannot be begun again".into()
                                    }
                                    _ if once => "; the task is to be begun only once".into(),
                                    1 => String::new(),
                                    _ => format!("; {attempts} processes have ended over it"),
                                };
                                let reason = format!("the process {process} {reason}{why}");
                                return Outcome::Ended(Some(FailureKind::Processor { processor: name.clone(), reason }));
                            }
                            self.begun_again.fetch_add(1, Relaxed);
                            let Some(kept) = kept else { return Outcome::Here };
                            state = kept;
                        }
                        error => {
                            let complained = std::mem::replace(&mut state.complained, true);
                            if let Some(trade) = open {
                                let left = state.grants.leave();
                                drop(state);
                                trade.settle(context);
                                drop(left);
                            }
                            // Not here either: a body that does not stop when it is told to would keep this thread.
                            if told || task.stopped().is_some() {
                                return Outcome::Ended(Some(context.shared.outdated(task)));
                            }
                            if !complained {
                                let message = format!("processor {name}: {error}; its tasks run in this process");
                                context.shared.backends.found.log.push(LogLevel::Warning, message);
                            }
                            return Outcome::Here;
                        }
                    }
                }
            }
        }
    }

    /// Takes what a reply brings. Why the task has no value, if it has none.
    fn accept(
        &self,
        state: &mut State,
        task: &TaskRef,
        travel: &Travel,
        reply: &[u8],
        handed: &[Place],
    ) -> Result<Option<FailureKind>, WireError> {
        let accepted = self.read_reply(state, task, travel, reply);
        if !matches!(accepted, Ok((_, true))) {
            // The arguments are as they were, and what was handed over is theirs alone again.
            for place in handed {
                drop(state.grants.take(*place));
            }
        }
        accepted.map(|(failure, _)| failure)
    }

    /// The same, and whether the process has given back what it was to change.
    fn read_reply(
        &self,
        state: &mut State,
        task: &TaskRef,
        travel: &Travel,
        reply: &[u8],
    ) -> Result<(Option<FailureKind>, bool), WireError> {
        let mut none = NoBuffers;
        let mut header = Reader::new(reply, &mut none);
        let (tag, took_ns) = (header.take_u8()?, header.take_u64()?);
        let (waited_ns, cpu_ns) = (header.take_u64()?, header.take_u64()?);
        let places = call::take_places(&mut header)?;
        self.copied_bytes.0.fetch_add(header.take_u64()?, Relaxed);
        self.copied_bytes.1.fetch_add(header.take_u64()?, Relaxed);
        if tag > NO_CODE {
            return Err(WireError::new(format!("{tag} says nothing about a call")));
        }
        state.note_call(took_ns);
        state.away = Some(Away { waited_ns, cpu_ns: Some(cpu_ns).filter(|cpu_ns| *cpu_ns != NOT_MEASURED) });
        for place in &places {
            drop(state.grants.take(*place)?);
        }
        let mut results = Results(&mut state.grants);
        let mut reader = Reader::new(header.rest(), &mut results);
        let failure = call::accept(task, travel, tag, &mut reader)?;
        Ok((failure, gives_back(tag)))
    }
}

impl std::fmt::Debug for RemoteProcessor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteProcessor").field("state", &self.state).finish_non_exhaustive()
    }
}

/// What becomes of a task whose function no process finds: it runs here, unless its scope is against it. (Most are found out when they are spawned.)
fn stays(context: &Context, task: &TaskRef, reason: String) -> Outcome {
    let options = task.options().filter(|options| context.shared.is_for_processes(options));
    options.map_or(Outcome::Here, |_| Outcome::Ended(Some(FailureKind::Stays { reason })))
}

/// The thread that waits for a call.
struct Waiting<'a> {
    remote: &'a RemoteProcessor,
    state: &'a mut State,
    context: &'a Context,
    task: &'a TaskRef,
    travel: &'a Travel,
    /// Whether it may send further calls ahead.
    goes_ahead: bool,
    /// Of values that were asked for; the process reads them until the call is over.
    blocks: Vec<RawBuffer>,
    /// When the body was first told to stop.
    told: Option<Instant>,
    /// Blocks that the process is handed when it begins.
    handed: Vec<Place>,
    /// Whether what is in them is needed if it does not end.
    is_delicate: bool,
    /// What there is between the process and the host, once there is something.
    trade: Option<Trade>,
}

impl Waiting<'_> {
    fn exchange(&mut self, parcel: Parcel) -> Parcel {
        // A call that waits for others is no time to send more.
        self.goes_ahead = false;
        while let Some(ahead) = self.state.ahead.pop_back_if(|ahead| matches!(ahead.fate, Fate::Here)) {
            self.remote.ahead.fetch_sub(1, Relaxed);
            give_back(self.context, ahead.task);
        }
        let trade = self.trade.get_or_insert_with(Trade::new);
        if self.told.is_some() {
            trade.stop();
        }
        // What guests have for arguments may wait for other tasks when it is dropped, and nobody comes to those that are ahead while this thread has the state.
        let may_invite = self.state.ahead.is_empty();
        let back = trade.exchange(self.context, &mut self.state.grants, may_invite, parcel);
        let (ended_count, copied_bytes) = trade.take_counts();
        self.remote.copied_bytes.0.fetch_add(copied_bytes, Relaxed);
        if ended_count > 0 {
            self.remote.note_replies(self.state.process, ended_count);
        }
        back
    }
}

impl Caller for Waiting<'_> {
    fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        let answer = Request::of_bytes(request).and_then(|request| match request {
            Request::Allocate { len_bytes } => {
                let (place, clean) = match arena::lend(len_bytes) {
                    Ok(lent) => lent,
                    Err(error) => return Some(call::refusal(&error.reason)),
                };
                if self.state.grants.add(place, arena::size_class(len_bytes)?) {
                    idle::watch(&self.context.shared, self.context.processor);
                }
                Some(call::answer([place.arena, place.offset, u64::from(clean)]))
            }
            Request::Map { arena } => {
                let (descriptor, bytes) = arena::descriptor_of(arena)?;
                Some(call::answer([u64::from(std::process::id()), descriptor, bytes]))
            }
            Request::Library { number } => code::named(number).map(|named| named.to_bytes()),
            Request::Value { number } => {
                let mut buffers = Arguments { is_for_call: true, held: Vec::new() };
                let mut writer = Writer::new(&mut buffers);
                self.task.send_again(self.travel, number, &mut writer)?.ok()?;
                let Written { bytes, blocks, copied_bytes, sent, .. } = writer.finish();
                self.remote.sent.add(sent);
                self.remote.copied_bytes.0.fetch_add(copied_bytes, Relaxed);
                self.blocks.extend(blocks);
                self.blocks.append(&mut buffers.held);
                Some(bytes)
            }
            Request::Return { place } => self.state.grants.take(place).ok().map(|_| call::answer([0; 3])),
            Request::Number { library } => code::number_of(&library).map(|number| call::answer([number.into(), 0, 0])),
            Request::Processors => {
                let identities = self.context.shared.identities.clone();
                Some(Processors { own: self.context.processor, identities }.to_bytes())
            }
            Request::Exchange(parcel) => Some(self.exchange(parcel).to_bytes()),
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
            self.state.take_all();
            self.state.process = process;
        }
        for place in &self.handed {
            if self.state.grants.hand_over(*place) {
                idle::watch(&self.context.shared, self.context.processor);
            }
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
            // One that writes in place, or is tried again, is sent when its turn has come: what becomes of it must be known.
            Some((travel, call)) if call.handed.is_empty() && !call.writes_parts && task.retries(&travel).is_none() => {
                self.remote.copied_bytes.0.fetch_add(call.copied_bytes, Relaxed);
                self.remote.sent.add(call.sent);
                (Some(call.bytes), Fate::Sent { travel, _blocks: call.blocks })
            }
            _ => (None, Fate::Here),
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
            if planted::is(Bug::LostTicket) {
                std::mem::forget(ahead);
                continue;
            }
            give_back(self.context, ahead.task);
        }
        // What takes long is no time to send more.
        self.goes_ahead = false;
    }
}
