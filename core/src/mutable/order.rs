//! Enters a task into the histories of all that it has access to, in one step.
//!
//! While that happens nobody takes the task's arguments, which keep what has the histories: so those are locked without a reference to each.
#![expect(unsafe_code, reason = "locks histories that the arguments of a task keep, which have moved into its record meanwhile")]

use std::panic::Location;
use std::ptr::NonNull;
use std::sync::{Arc, MutexGuard};

use smallvec::SmallVec;

use super::history::{Gone, History, Mode, Target};
use super::mark::{Deferred, lock_all};
use super::touch::{OfTurn, Touch};
use super::turn::Turn;
use super::{Historic, HistoryLock};
use crate::error::FailureKind;
use crate::function::{Predecessors, TaskFn};
use crate::journal::Noted;
use crate::options::{Priority, TaskOptions};
use crate::region;
use crate::region::shadow::Declared;
use crate::task::Task;
use crate::task::record::{Hold, TaskRef, Unspawned, create_open, held_here};
use crate::worker::entry::Entry;
use crate::worker::shared::Shared;

/// The place of an argument, in the order of the histories' addresses.
struct Touched {
    history: NonNull<HistoryLock>,
    target: Target,
    mode: Mode,
    /// Which of the task's accesses it is, from 0.
    number: usize,
}

impl Touched {
    #[inline]
    fn new(touch: &dyn Touch, number: usize) -> Self {
        Self { history: NonNull::from(touch.place().history()), target: touch.target().0, mode: touch.mode().0, number }
    }

    /// Tells places apart.
    fn address(&self) -> *const HistoryLock {
        self.history.as_ptr()
    }

    /// # Safety
    /// The argument that this was made of is there as long as what is given is used.
    unsafe fn history<'a>(&self) -> &'a HistoryLock {
        // SAFETY: the argument keeps its place, which has the history (precondition).
        unsafe { self.history.as_ref() }
    }
}

/// Parameters that a task function has at most.
const PARAMETERS_MAX: usize = 8;

/// The options of a task that cannot be, and why.
type Refused = (Option<Box<TaskOptions>>, FailureKind);
/// The handle of a new task, and its entry if it is ready.
type Created<T> = (Task<T>, Option<Entry>);

/// Makes a task whose arguments touch places, and enters it into their histories. The body stays where it is, and the error is given, when it touches an element twice, and not only to read. Adds to `gone` what is
/// to be dropped when the entry is in its queue: destructors of results may wait for the task.
pub(crate) fn create_ordered<M, F: TaskFn<M>>(
    body: &mut Unspawned<F, F::Params>,
    shared: &Shared,
    location: &'static Location<'static>,
    mut options: Option<Box<TaskOptions>>,
    priority: Priority,
    gone: &mut Gone,
) -> Result<Created<F::Value>, Refused> {
    let params = body.params_mut();
    let mut touched: SmallVec<[Touched; PARAMETERS_MAX]> = SmallVec::new();
    let mut may_empty = false;
    params.visit_places(&mut |touch| {
        may_empty |= touch.taker().0.is_some();
        touched.push(Touched::new(touch, touched.len()));
    });
    let groups = sort(&mut touched);
    // SAFETY: `body` has the arguments, and then the record of the task, whose body nobody takes before it is closed. By then the histories are unlocked.
    let mut histories = unsafe { lock_touched(&touched, None) };
    if histories.len() < touched.len()
        && let Some((one, two)) = twice(&touched, &groups, &histories)
    {
        return Err((options, FailureKind::SamePlace { accesses: (one + 1, two + 1) }));
    }
    let mut number = 0;
    params.visit_places(&mut |touch| {
        touch.order(&histories[groups[number]]);
        number += 1;
    });
    if region::is_looking() {
        let mut held = None;
        params.visit(&mut |task, _| held = held.or(held_here(task)));
        if let Some(location) = held {
            return Err((options, FailureKind::HeldHere { location: location.to_string() }));
        }
    }
    let is_checked = region::check::is_on();
    let commutes = touched.iter().any(|touch| touch.mode == Mode::Commute);
    // What few tasks have needs their places for longer.
    let mut owners = Vec::new();
    let mut takers = Vec::new();
    if is_checked || commutes || may_empty {
        params.visit_places(&mut |touch| {
            owners.push(touch.owner().0);
            takers.extend(touch.taker().0);
        });
    }
    let mut previous = None;
    if is_checked {
        let accesses = touched.iter().map(|touch| Declared {
            owner: Arc::clone(&owners[touch.number]),
            spans: histories[groups[touch.number]].spans_of(touch.target),
            mode: touch.mode,
        });
        previous = region::check::witness(&mut options, accesses, const { F::LAUNCHES });
    }
    let turn = commutes.then(|| turn_of(&touched, &owners, params, previous, location));
    let writes = touched.iter().any(|touch| touch.mode != Mode::Read);
    let mut before = None;
    if is_checked {
        let mut addresses = Vec::new();
        params.visit(&mut |task, _| addresses.push(std::ptr::from_ref(task).addr()));
        before = Some(addresses);
    }
    let mut noted = Vec::new();
    if shared.journal.is_some() {
        touched.iter().for_each(|touch| noted.extend(histories[groups[touch.number]].noted(touch.target, touch.mode)));
    }
    let references = touched.len() as u32;
    let (task, mut open) = create_open(body, shared, shared.epoch(), location, options, priority, writes, references);
    if let Some(own) = Noted::of(task.reference()) {
        noted.iter().for_each(|earlier| own.follows(earlier));
    }
    // Before the histories are unlocked: nobody looks for it sooner.
    for taker in &takers {
        taker.get_or_init(|| task.reference().name());
    }
    enter(&touched, &groups, &mut histories, || open.reference(), gone);
    drop(histories);
    if let Some(before) = before {
        let accesses = touched.iter().map(|touch| (Arc::clone(&owners[touch.number]), touch.target, touch.mode));
        region::check::note(task.reference(), &before, accesses);
    }
    if let Some((turn, before)) = turn {
        turn.ask_after(&before);
    }
    Ok((task, open.close()))
}

/// Puts what a task touches into the order in which it is locked; gives for each access the number of its history in that order.
fn sort(touched: &mut [Touched]) -> [usize; PARAMETERS_MAX] {
    touched.sort_unstable_by_key(|touch| (touch.address(), touch.number));
    let mut groups = [0; PARAMETERS_MAX];
    let mut last = 0;
    for (index, touch) in touched.iter().enumerate() {
        last += usize::from(index > 0 && touched[index - 1].address() != touch.address());
        groups[touch.number] = last;
    }
    groups
}

/// One lock for each place, although it may be touched more than once.
///
/// # Safety
/// The arguments that these were made of are there until the histories are unlocked.
unsafe fn lock_touched<'a>(touched: &[Touched], own: Option<&dyn Deferred>) -> SmallVec<[MutexGuard<'a, History>; PARAMETERS_MAX]> {
    let is_first = |(index, touch): &(usize, &Touched)| *index == 0 || touched[index - 1].address() != touch.address();
    let history = |(_, touch): (usize, &Touched)| {
        // SAFETY: the precondition.
        unsafe { touch.history() }
    };
    lock_all(touched.iter().enumerate().filter(is_first).map(history), own)
}

/// Enters a task that was made held, and whose accesses have been seen to fit each other, into the histories of all that it has access to, and lets it go: its entry if it is ready. Marks
/// of `own` are none to it. Adds what is to be dropped when nothing is locked.
pub(crate) fn order_held(task: &TaskRef, own: &dyn Deferred, gone: &mut Gone) -> Option<Entry> {
    let mut touched: SmallVec<[Touched; PARAMETERS_MAX]> = SmallVec::new();
    task.touch_held(&mut |touch| {
        touched.push(Touched::new(touch, touched.len()));
    });
    let groups = sort(&mut touched);
    // SAFETY: the record of the task has the arguments, and nobody takes its body before it is let go of, below. By then the histories are unlocked.
    let mut histories = unsafe { lock_touched(&touched, Some(own)) };
    let mut number = 0;
    task.touch_held(&mut |touch| {
        touch.order(&histories[groups[number]]);
        number += 1;
    });
    let linked = task.link_held();
    enter(&touched, &groups, &mut histories, || task.clone(), gone);
    drop(histories);
    linked.close()
}

/// Enters a task into the histories of all that it has access to.
fn enter(
    touched: &[Touched],
    groups: &[usize; PARAMETERS_MAX],
    histories: &mut [MutexGuard<'_, History>],
    mut reference: impl FnMut() -> TaskRef,
    gone: &mut Gone,
) {
    let is_each_once = histories.len() == touched.len();
    for (index, touch) in touched.iter().enumerate() {
        // Reading the same twice is one access.
        let entered = |earlier: &Touched| earlier.address() == touch.address() && earlier.target == touch.target;
        if is_each_once || !touched[..index].iter().any(entered) {
            histories[groups[touch.number]].add(touch.target, touch.mode, reference(), gone);
        }
    }
}

/// Gives the task a turn of its own to wait for; also what comes before that is asked for.
#[cold]
fn turn_of(
    touched: &[Touched],
    owners: &[Arc<dyn Historic>],
    params: &mut impl Predecessors,
    previous: Option<TaskRef>,
    location: &'static Location<'static>,
) -> (Arc<Turn>, Vec<TaskRef>) {
    // Who has a turn and waits for another task might keep that one waiting for the turn.
    let mut before = Vec::from_iter(previous);
    params.visit(&mut |task, _| before.push(TaskRef::of(task)));
    // In the order of the addresses, and each once: two accesses of a task to one place are refused if one commutes.
    let places = touched.iter().filter(|touch| touch.mode == Mode::Commute).map(|touch| Arc::clone(&owners[touch.number])).collect();
    let turn = Turn::new(places, Hold::of_run(location));
    let mut given = Some(OfTurn(Arc::clone(&turn)));
    params.visit_places(&mut |touch| {
        if touch.mode().0 == Mode::Commute
            && let Some(turn) = given.take()
        {
            touch.take_turn(turn);
        }
    });
    (turn, before)
}

/// Two accesses that conflict.
fn twice(touched: &[Touched], groups: &[usize], histories: &[MutexGuard<'_, History>]) -> Option<(usize, usize)> {
    let pairs = touched.iter().enumerate().flat_map(|(index, two)| touched[..index].iter().map(move |one| (one, two)));
    let found = pairs.into_iter().find(|(one, two)| {
        (one.mode, two.mode) != (Mode::Read, Mode::Read)
            && one.address() == two.address()
            && histories[groups[one.number]].meet(one.target, two.target)
    });
    found.map(|(one, two)| (one.number, two.number))
}
