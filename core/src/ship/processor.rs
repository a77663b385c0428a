//! This side: a worker's thread that stands for a process sends tasks over, and takes their results.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use poniard_interface::{CallError, Caller, LogLevel, RawBuffer, Remote, Wanted};

use super::call::{self, PANICKED, REFUSED, RETURNED, Request, VALUE};
use super::{code, idle};
use crate::arena;
use crate::clock::now;
use crate::error::{FailureKind, TaskError};
use crate::task::record::{TaskRef, Travel};
use crate::wire::{Buffers, Place, Reader, WireError, Writer};
use crate::worker::context::Context;

/// How often a task is begun on processes before it counts as what ends them.
const ATTEMPTS_MAX: u32 = 3;
/// How long a body that was told to stop may go on before its process is ended.
const GRACE: Duration = Duration::from_millis(200);

/// The process of an inline processor.
pub(crate) struct RemoteProcessor {
    remote: Arc<dyn Remote>,
    /// Held during a call; a thread that finds it held runs its task by itself.
    state: Mutex<State>,
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
}

/// Blocks that a process has been lent, by (arena, offset), with their size classes: what lies in one may be shorter than what was asked for first.
#[derive(Debug, Default)]
struct Grants(BTreeMap<(u64, u64), u64>, Arc<Lent>);

/// What others know of the grants. They do not look at them: a thread that found the state held would run its task by itself.
#[derive(Debug, Default)]
struct Lent {
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
    fn take(&mut self, place: Place) -> Result<RawBuffer, WireError> {
        match self.0.get(&(place.arena, place.offset)) {
            Some(class) if arena::size_class(place.len_bytes) == Some(*class) => {}
            _ => return Err(WireError::new(format!("{place:?} was not lent to the process"))),
        }
        self.0.remove(&(place.arena, place.offset));
        self.1.count.store(self.0.len(), SeqCst);
        Ok(arena::take_back(place))
    }

    /// The process has ended: all that it was lent is free.
    fn take_all(&mut self) {
        for ((arena, offset), len_bytes) in std::mem::take(&mut self.0) {
            drop(arena::take_back(Place { arena, offset, len_bytes }));
        }
        self.1.count.store(0, SeqCst);
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

impl RemoteProcessor {
    pub(crate) fn new(remote: Arc<dyn Remote>) -> Self {
        let lent = Arc::<Lent>::default();
        let grants = Grants(BTreeMap::new(), Arc::clone(&lent));
        Self { remote, state: Mutex::new(State { grants, ..State::default() }), lent }
    }

    /// The process is ended by `end`, until the next call; what it was lent is free. Nothing happens in the middle of a call.
    pub(crate) fn rest(&self, end: impl FnOnce()) {
        if let Ok(mut state) = self.state.try_lock() {
            end();
            state.grants.take_all();
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
        if task.stopped().is_some() {
            return None;
        }
        let travel = task.travel()?;
        let distance = code::distance_of(travel.body)?;
        // Poisoned: a thread has panicked in the middle of a call, so what the process is doing is unknown.
        let mut state = self.state.try_lock().ok()?;
        let identity = &context.shared.identities[context.processor];
        let name = &identity.name;
        let (call, _blocks) = {
            let mut buffers = Arguments;
            let mut writer = Writer::new(&mut buffers);
            writer.put_u64(distance);
            writer.put_u64(identity.process.0.into());
            writer.put_text(name);
            writer.put_u8(arena::is_tight().into());
            // A value that serde cannot write after all stays here.
            task.send(&travel, &mut writer).ok()?;
            writer.finish()
        };
        let mut attempts = 0;
        loop {
            let mut caller = Waiting { state: &mut state, context, task, told: None };
            let outcome = self.remote.call(&call, &mut caller);
            let told = caller.told.is_some();
            match outcome {
                Ok(reply) => {
                    let failure = match accept(&mut state.grants, task, &travel, &reply) {
                        Ok(failure) => failure,
                        Err(error) => Some(FailureKind::Processor {
                            processor: name.clone(),
                            reason: format!("the process {} gave nothing that can be used: {error}", state.process),
                        }),
                    };
                    return Some(task.end_claimed(failure));
                }
                Err(CallError::Lost { process, reason }) => {
                    attempts += 1;
                    state.grants.take_all();
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
                }
                Err(error) => {
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

impl std::fmt::Debug for RemoteProcessor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteProcessor").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Takes what a reply brings. Why the task has no value, if it has none.
fn accept(grants: &mut Grants, task: &TaskRef, travel: &Travel, reply: &[u8]) -> Result<Option<FailureKind>, WireError> {
    let (tag, places) = {
        let mut none = Arguments;
        let mut reader = Reader::new(reply, &mut none);
        (reader.take_u8()?, call::take_places(&mut reader)?)
    };
    for place in &places {
        drop(grants.take(*place)?);
    }
    let mut results = Results(grants);
    let mut reader = Reader::new(reply, &mut results);
    reader.take(1 + 8 + 24 * places.len() as u64)?;
    if tag == VALUE {
        // Read to the end before the task counts as run.
        task.accept(travel, &mut reader)?;
        return Ok(None);
    }
    let text = reader.take_text()?.to_owned();
    reader.end()?;
    match tag {
        RETURNED => Ok(Some(FailureKind::Returned(text.into()))),
        PANICKED => Ok(Some(FailureKind::Panicked(text))),
        REFUSED => Err(WireError::new(text)),
        _ => Err(WireError::new(format!("{tag} says nothing about a call"))),
    }
}

/// The thread that waits for a call.
struct Waiting<'a> {
    state: &'a mut State,
    context: &'a Context,
    task: &'a TaskRef,
    /// When the body was first told to stop.
    told: Option<Instant>,
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
            Request::Return { place } => self.state.grants.take(place).ok().map(|_| call::answer([0; 3])),
        });
        answer.unwrap_or_default()
    }

    fn wanted(&mut self) -> Wanted {
        if self.task.stopped().is_none() && !self.context.shared.is_outdated(self.task.epoch()) {
            return Wanted::Yes;
        }
        let now = now();
        let told = *self.told.get_or_insert(now);
        if now.duration_since(told) > GRACE { Wanted::End } else { Wanted::Stop }
    }

    fn begins(&mut self, process: u32) {
        if self.state.process != process {
            // The one before has ended, whoever noticed.
            self.state.grants.take_all();
            self.state.process = process;
        }
    }
}
