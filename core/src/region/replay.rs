//! A region that may be one that was run before: its tasks are held back as long as they do what those of a known shape did, and run as that shape's graph if they do to the end.
//!
//! Nobody can tell. What is held back has made its records, and its values are marked, so that whoever else wants access to one meets the mark and has the region give way: then the tasks are
//! entered into the histories in their order, before him, as if that had been done when they were spawned. The same happens at the first task that does something else, when the closure ends too
//! early, and when it takes long, as tasks begin while their region spawns.
//!
//! While the graph runs, who meets a mark enters the last tasks of that value into its history, and waits for those.
//!
//! | State | A value's mark stands for | Left by |
//! |---|---|---|
//! | `HELD` | tasks that are held back | who meets a mark, the closure's thread, or a task that was spawned because it took long |
//! | `GIVING_WAY` | those that have not been entered | the same thread, under the lock |
//! | `RUNNING` | tasks that the graph runs | the closure's thread, when all are over |
//! | `FAILED` | tasks that are over, and some failed | nobody |
//! | `OVER` | nothing | nobody |

use std::panic::Location;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use smallvec::SmallVec;

use super::batch::Batch;
use super::report::{NotReplayed, RegionUse};
use super::shape::{Arg, Recorder, Shape};
use crate::ambient;
use crate::clock::now;
use crate::error::{FailureKind, TaskError};
use crate::function::{Predecessors, TaskFn};
use crate::mutable::{Deferred, Gone, HistoryLock, Marked, Mode, Seen, SeenAs, SeenPlace, enter_marked, order_held};
use crate::runtime::Handle;
use crate::task::Task;
use crate::task::record::{Header, TaskRef, Unspawned, create_held};
use crate::timer::{self, Alarm};
use crate::worker::context::Context;
use crate::worker::fetch;
use crate::worker::shared::Shared;

const HELD: u8 = 0;
const GIVING_WAY: u8 = 1;
const RUNNING: u8 = 2;
const FAILED: u8 = 3;
const OVER: u8 = 4;

/// A closure is slow that spawns fewer tasks a microsecond: whoever could run them has waited for long enough.
const TASKS_PER_MICROSECOND: u128 = 1;

pub(super) struct Replay {
    state: AtomicU8,
    inner: Mutex<Inner>,
    /// How long tasks are held back.
    patience: Duration,
}

struct Inner {
    /// The shape that the region has so far, and others that begin like it, maybe.
    shape: Arc<Shape>,
    others: Vec<Arc<Shape>>,
    /// None once it is over.
    shared: Option<Arc<Shared>>,
    /// The tasks that are held back.
    tasks: Vec<TaskRef>,
    /// The addresses of the values that were named so far.
    values: Vec<usize>,
    /// Tasks before the region that use them.
    before: Vec<TaskRef>,
    /// While the graph runs, and if some task of it failed.
    batch: Option<Arc<Batch>>,
    why: Option<NotReplayed>,
    /// The tasks that were entered, when they were not held back any more.
    entered: Vec<TaskRef>,
    alarm: Option<Alarm>,
    /// How many tasks there were when the alarm was set.
    looked: usize,
}

/// What became of a region.
pub(super) enum Outcome {
    Replayed {
        shape: Arc<Shape>,
        failed: u64,
        first: Option<TaskError>,
        spawned: u64,
    },
    /// It goes on in the ordinary way.
    Planned(Box<Planned>),
}

/// A region that gave way.
pub(super) struct Planned {
    /// Its tasks, in their order.
    pub(super) tasks: Vec<TaskRef>,
    pub(super) why: Option<NotReplayed>,
    /// What it spawned so far, to learn the rest.
    pub(super) recorder: Recorder,
}

/// Why a task is not held back.
enum Stop {
    No(NotReplayed),
    /// Somebody else has marked a value.
    Standing,
}

/// Wakes when the tasks have been held back for as long as they may be.
struct Late(Weak<Replay>);

impl Wake for Late {
    fn wake(self: Arc<Self>) {
        if let Some(replay) = self.0.upgrade() {
            replay.look_at_pace();
        }
    }
}

impl Replay {
    /// Of a region that may have one of these shapes, of which there is one.
    pub(super) fn new(handle: &Handle, mut shapes: Vec<Arc<Shape>>, patience: Duration) -> Arc<Self> {
        let shape = shapes.remove(0);
        let inner = Inner {
            tasks: Vec::with_capacity(shape.len()),
            values: Vec::with_capacity(shape.values.len()),
            shape,
            others: shapes,
            shared: Some(Arc::clone(&handle.shared)),
            before: Vec::new(),
            batch: None,
            why: None,
            entered: Vec::new(),
            alarm: None,
            looked: 0,
        };
        Arc::new(Self { state: AtomicU8::new(HELD), inner: Mutex::new(inner), patience })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code of users runs under it, and what is done there is done to its end.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, state: u8) -> bool {
        // Acquire: pairs with the Release in `set`, for those who look without the lock.
        self.state.load(Acquire) == state
    }

    fn set(&self, state: u8) {
        self.state.store(state, Release);
    }

    /// Makes a task and holds it back, if it does what it has to do. Otherwise the region has given way, and the body is where it was.
    #[inline]
    pub(super) fn hold_back<M, F: TaskFn<M>>(
        self: &Arc<Self>,
        body: &mut Unspawned<F, F::Params>,
        special: Option<&'static str>,
        location: &'static Location<'static>,
    ) -> Option<Task<F::Value>> {
        let mut gone = Gone::new();
        loop {
            let mut inner = self.lock();
            if !self.is(HELD) {
                return None;
            }
            let matched = match special {
                None => inner.match_task(self, body.params(), location, &mut gone),
                Some(reason) => Err(Stop::No(NotReplayed::Special { task: inner.tasks.len(), reason })),
            };
            match matched {
                Ok(()) => {
                    let Some(shared) = &inner.shared else { unreachable!("it is there as long as tasks are held back") };
                    let (task, own) = create_held(body, Arc::as_ptr(shared), shared.epoch(), location);
                    inner.tasks.push(own);
                    if inner.tasks.len() == 1 {
                        self.set_alarm(&mut inner);
                    }
                    drop(inner);
                    return Some(task);
                }
                Err(Stop::No(why)) => {
                    self.enter(&mut inner, why, &mut gone);
                    // The lock goes before `gone` does.
                    drop(inner);
                    return None;
                }
                Err(Stop::Standing) => {
                    drop(inner);
                    body.params().see(&mut |Seen(seen)| {
                        if let SeenAs::Place(place) = seen {
                            self.clear_way(&place);
                        }
                    });
                }
            }
        }
    }

    /// Has whoever else has marked a value give way.
    #[cold]
    fn clear_way(&self, place: &SeenPlace<'_>) {
        place.clear_way(self);
    }

    /// The region's tasks are not held back any more.
    pub(super) fn give_up(&self, why: NotReplayed) {
        let mut gone = Gone::new();
        let mut inner = self.lock();
        if self.is(HELD) {
            self.enter(&mut inner, why, &mut gone);
        }
        drop(inner);
    }

    /// Enters the tasks that were held back into the histories, and lets them go. Adds what is to be dropped when nothing is locked.
    #[cold]
    fn enter(&self, inner: &mut Inner, why: NotReplayed, gone: &mut Gone) {
        self.set(GIVING_WAY);
        inner.why = Some(why);
        let tasks = std::mem::take(&mut inner.tasks);
        inner.entered.clone_from(&tasks);
        if let Some(shared) = inner.shared.take() {
            Context::with_of(&shared, |context| {
                for task in tasks {
                    if !shared.admit(context) {
                        task.claim_held();
                        let failure = task.fail_claimed(FailureKind::Shutdown);
                        task.publish_known(Some(failure), Shared::release_elsewhere);
                        continue;
                    }
                    let entry = order_held(&task, self, gone);
                    // It is the runtime's, and whoever makes the task ready has it.
                    std::mem::forget(task);
                    if let Some(entry) = entry {
                        shared.enqueue(context, entry);
                    }
                }
            });
        }
        gone.extend(inner.before.drain(..));
        self.set(OVER);
    }

    /// What the region goes on with in the ordinary way, after it has given way.
    pub(super) fn planned(&self) -> Planned {
        let mut inner = self.lock();
        let inner = &mut *inner;
        debug_assert!(self.is(OVER), "it has given way");
        inner.alarm = None;
        let tasks = std::mem::take(&mut inner.entered);
        let recorder = Recorder::resume(&inner.shape, &inner.values, tasks.iter().map(TaskRef::identity));
        Planned { tasks, why: inner.why.take(), recorder }
    }

    /// Runs the graph, when the closure has ended. Waits for all tasks.
    pub(super) fn finish(&self, handle: &Handle) -> Outcome {
        match self.begin_run() {
            Some(batch) => self.run(handle, &batch),
            None => Outcome::Planned(Box::new(self.planned())),
        }
    }

    /// Waits for all tasks before that use its values; none, if the region has given way.
    fn begin_run(&self) -> Option<Arc<Batch>> {
        let mut waited: Vec<TaskRef> = Vec::new();
        loop {
            let mut inner = self.lock();
            if !self.is(HELD) {
                return None;
            }
            inner.try_ended();
            let (expected, found) = (inner.shape.len(), inner.tasks.len());
            let mut gone = Gone::new();
            let why = if found < expected {
                Some(NotReplayed::Fewer { expected, found })
            } else {
                waited.iter().any(|task| task.failure().is_some()).then_some(NotReplayed::Before { spawned: found })
            };
            if let Some(why) = why {
                self.enter(&mut inner, why, &mut gone);
                drop(inner);
                return None;
            }
            waited = std::mem::take(&mut inner.before);
            if waited.is_empty() {
                let batch = Arc::new(Batch::new(Arc::clone(&inner.shape), std::mem::take(&mut inner.tasks)));
                inner.batch = Some(Arc::clone(&batch));
                let alarm = inner.alarm.take();
                self.set(RUNNING);
                drop(inner);
                drop(alarm);
                return Some(batch);
            }
            drop(inner);
            ambient::flush();
            for task in &waited {
                if !task.is_finished() && fetch::wait(task).is_err() {
                    self.give_up(NotReplayed::Before { spawned: expected });
                    return None;
                }
            }
        }
    }

    fn run(&self, handle: &Handle, batch: &Arc<Batch>) -> Outcome {
        let shape = Arc::clone(&self.lock().shape);
        match shape.graph.run(handle, ((&shape.input, Arc::clone(batch)),)) {
            // None of its nodes fails: it waits for itself, or it was cancelled.
            Ok(run) => match run.wait() {
                Err(error) if matches!(error.kind(), FailureKind::WaitsForItself) => {
                    run.detach();
                    let spawned = shape.len() as u64;
                    return Outcome::Replayed { shape, failed: 1, first: Some(error), spawned };
                }
                Err(_) => batch.fail_rest(|task| handle.shared.outdated(task)),
                Ok(()) => {}
            },
            Err(_) => batch.fail_rest(|_| FailureKind::Shutdown),
        }
        let has_failed = batch.has_failed();
        let mut inner = self.lock();
        if !has_failed {
            inner.batch = None;
        }
        let shared = inner.shared.take();
        self.set(if has_failed { FAILED } else { OVER });
        drop(inner);
        drop(shared);
        let errors = || batch.tasks().iter().filter_map(|task| task.failure());
        let (failed, first) = if has_failed { (errors().count() as u64, errors().next()) } else { (0, None) };
        let spawned = shape.len() as u64;
        Outcome::Replayed { shape, failed, first, spawned }
    }

    /// Has somebody look after a while whether the closure still spawns.
    fn set_alarm(self: &Arc<Self>, inner: &mut Inner) {
        inner.looked = inner.tasks.len();
        let Some(time) = now().checked_add(self.patience) else { return };
        // Without a timer's thread they are held back until the closure ends.
        inner.alarm = timer::wake_at(time, Waker::from(Arc::new(Late(Arc::downgrade(self))))).ok();
    }

    /// The tasks have been held back for a while: for the timer's thread, which runs no code of users.
    #[cold]
    fn look_at_pace(self: &Arc<Self>) {
        let mut inner = self.lock();
        if !self.is(HELD) {
            return;
        }
        let spawned = (inner.tasks.len() - inner.looked) as u128;
        if spawned >= TASKS_PER_MICROSECOND * self.patience.as_micros() {
            return self.set_alarm(&mut inner);
        }
        let Some(shared) = inner.shared.clone() else { return };
        drop(inner);
        // By a worker: if none is free, nothing would come of it. What is dropped there may be users' values.
        let (this, handle) = (Arc::clone(self), Handle { shared });
        let late = move || {
            let spawned = this.lock().tasks.len();
            this.give_up(NotReplayed::Late { spawned });
        };
        handle.spawn(late, ()).detach();
    }
}

impl Inner {
    /// Whether a task that is about to be made does what the next one of the shape does; marks values that come the first time. Adds what is to be dropped when nothing is locked.
    #[inline]
    fn match_task(
        &mut self,
        owner: &Arc<Replay>,
        params: &impl Predecessors,
        location: &'static Location<'static>,
        gone: &mut Gone,
    ) -> Result<(), Stop> {
        let mut fresh: SmallVec<[usize; 8]> = SmallVec::new();
        loop {
            if self.fits(params, &mut fresh) && (fresh.is_empty() || self.mark(owner, params, &fresh, gone)?) {
                return Ok(());
            }
            self.try_other(params, location)?;
            fresh.clear();
        }
    }

    /// Whether the task fits the shape; also the addresses of the values that come the first time.
    #[inline]
    fn fits(&self, params: &impl Predecessors, fresh: &mut SmallVec<[usize; 8]>) -> bool {
        let number = self.tasks.len();
        if number >= self.shape.len() {
            return false;
        }
        let mut expected = self.shape.args(number).iter();
        let mut fits = true;
        params.see(&mut |Seen(seen)| fits = fits && expected.next().is_some_and(|expected| self.fits_one(*expected, &seen, fresh)));
        fits && expected.len() == 0
    }

    #[inline]
    fn fits_one(&self, expected: Arg, seen: &SeenAs<'_>, fresh: &mut SmallVec<[usize; 8]>) -> bool {
        match (seen, expected) {
            (SeenAs::Place(place), Arg::Place { value, .. }) => {
                let (value, address) = (value as usize, place.address());
                let known = match value.checked_sub(self.values.len()) {
                    None => self.values[value] == address,
                    Some(further) => match fresh.get(further) {
                        Some(other) => *other == address,
                        None => {
                            fresh.push(address);
                            true
                        }
                    },
                };
                known && self.shape.fits(expected, place)
            }
            (SeenAs::Result(task), Arg::Result(other)) => std::ptr::eq::<Header>(*task, &*self.tasks[other as usize]),
            // With another one, it would have to be waited for.
            (SeenAs::Result(task), Arg::Earlier) => task.is_finished(),
            _ => false,
        }
    }

    /// Marks the values that a task is the first to use. False, and none of them is marked, if one of them was used before.
    fn mark(&mut self, owner: &Arc<Replay>, params: &impl Predecessors, fresh: &[usize], gone: &mut Gone) -> Result<bool, Stop> {
        let by = Arc::clone(owner) as Arc<dyn Deferred>;
        let spawned = self.tasks.len();
        let first = self.values.len();
        let (mut stop, mut twice) = (None, false);
        params.see(&mut |Seen(seen)| {
            let SeenAs::Place(place) = seen else { return };
            let next = fresh.get(self.values.len() - first);
            if stop.is_some() || twice || next != Some(&place.address()) {
                return;
            }
            let value = self.values.len();
            let mode = if self.shape.values[value].is_written { Mode::Write } else { Mode::Read };
            match place.put_mark(&by, value as u32, mode, &mut self.before, gone) {
                Marked::Done => self.values.push(place.address()),
                Marked::Standing => stop = Some(Stop::Standing),
                Marked::Twice => twice = true,
                Marked::Unfit => stop = Some(Stop::No(NotReplayed::Before { spawned })),
            }
        });
        if twice {
            params.see(&mut |Seen(seen)| {
                if let SeenAs::Place(place) = seen
                    && self.values[first..].contains(&place.address())
                {
                    place.take_mark(owner.as_ref());
                }
            });
            self.values.truncate(first);
        }
        stop.map_or(Ok(!twice), Err)
    }

    /// Goes on with another shape that begins as the region did so far.
    #[cold]
    fn try_other(&mut self, params: &impl Predecessors, location: &'static Location<'static>) -> Result<(), Stop> {
        let why = self.difference(params, location);
        while !self.others.is_empty() {
            let other = self.others.remove(0);
            if other.begins_like(&self.shape, self.tasks.len(), self.values.len()) {
                self.shape = other;
                return Ok(());
            }
        }
        Err(Stop::No(why))
    }

    /// The closure has ended: goes on with another shape that ends here, if there is one.
    fn try_ended(&mut self) {
        let (tasks, values) = (self.tasks.len(), self.values.len());
        if tasks < self.shape.len() {
            let ends = |other: &&Arc<Shape>| other.len() == tasks && other.begins_like(&self.shape, tasks, values);
            if let Some(other) = self.others.iter().find(ends) {
                self.shape = Arc::clone(other);
            }
        }
    }

    /// What a task does otherwise than the next one of the shape.
    fn difference(&self, params: &impl Predecessors, location: &'static Location<'static>) -> NotReplayed {
        let task = self.tasks.len();
        if task >= self.shape.len() {
            return NotReplayed::More { expected: self.shape.len(), location };
        }
        let mut found = Vec::new();
        let mut fresh = SmallVec::new();
        let mut expected = self.shape.args(task).iter();
        let mut argument = None;
        params.see(&mut |Seen(seen)| {
            let expected = expected.next();
            // Another one of the values that were named before is no further value.
            let is_old = matches!((expected, &seen), (Some(Arg::Place { value, .. }), SeenAs::Place(place))
                if *value as usize >= self.values.len() && self.values.contains(&place.address()));
            if is_old || !expected.is_some_and(|expected| self.fits_one(*expected, &seen, &mut fresh)) {
                argument.get_or_insert(found.len());
            }
            found.push(self.describe(&seen));
        });
        let argument = argument.unwrap_or(found.len());
        let expected = self.shape.args(task).get(argument).map(|expected| self.shape.describe(*expected));
        let found = (argument < found.len()).then(|| found.swap_remove(argument));
        NotReplayed::Other { task, location, argument, expected, found }
    }

    fn describe(&self, seen: &SeenAs<'_>) -> RegionUse {
        match seen {
            SeenAs::Result(task) => {
                let number = self.tasks.iter().position(|other| std::ptr::eq::<Header>(*task, &**other));
                number.map_or(RegionUse::Earlier, |task| RegionUse::OfTask { task })
            }
            SeenAs::Place(place) => match place.mode {
                Mode::Commute | Mode::Reduce(_) => RegionUse::AnyOrder,
                mode => RegionUse::Value {
                    access: mode.access(),
                    value: self.values.iter().position(|value| *value == place.address()),
                    part: place.spans.map(|spans| format!("{spans:?}")),
                },
            },
        }
    }
}

impl Deferred for Replay {
    fn give_way(&self, history: &HistoryLock, value: u32) {
        let mut gone = Gone::new();
        let mut inner = self.lock();
        if self.is(HELD) {
            let spawned = inner.tasks.len();
            self.enter(&mut inner, NotReplayed::Met { spawned, value: value as usize }, &mut gone);
        } else if let Some(batch) = &inner.batch {
            let tasks = batch.tasks();
            let last = batch.shape().last(value).map(|(spans, mode, task)| (spans, mode, &tasks[task]));
            enter_marked(history, self, last, &mut gone);
        }
        drop(inner);
    }

    fn is_over(&self) -> bool {
        self.is(OVER)
    }
}
