//! The loop of a worker: take a task, run it, publish it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_deque::Steal;
use poniard_interface::{Remote, WorkerId};

use super::context::{Context, enter_ambient};
use super::entry::{Entry, Work};
use super::jobs::{self, Found};
use super::occupancy::Errand;
use super::pressure;
use super::shared::Shared;
use super::slot::{Idle, Local, Passed, Slot, Turn, add};
use crate::ambient::Ambient;
use crate::arena;
use crate::clock::now_ns;
use crate::error::{FailureKind, TaskError};
use crate::graph::drive::{give_back, run_part};
use crate::options::{Occupancy, Priority, TaskOptions};
use crate::placement::{Placed, Placement};
use crate::planted::{self, Bug};
use crate::platform;
use crate::ship::processor::{Ahead, RemoteProcessor};
use crate::task::record::{Claim, TaskRef};

/// Rounds after which a worker takes tasks that others keep to themselves.
const SEIZE_ROUNDS: u32 = 16;
/// How often a worker looks at the queue for foreign spawns although it has tasks of its own.
const FAIRNESS: u32 = 61;
/// Why a worker's loop ended.
enum Left {
    /// The runtime ends.
    Stopped,
    /// A thread that waited inside a task wants the slot back.
    Wanted,
}

/// Lends the calling thread to the runtime as `worker` until it is not needed any more.
/// `remote` is the process that the thread stands for.
pub(crate) fn worker_main(shared: &Arc<Shared>, worker: WorkerId, remote: Option<Arc<dyn Remote>>) {
    let index = worker.0 as usize;
    let Some(slot) = shared.slots.get(index) else { return };
    if let Some(remote) = remote {
        // One for a slot: the threads that come for it later stand for the same process.
        slot.remote.get_or_init(|| RemoteProcessor::new(remote));
    }
    let context = Context::new(Arc::clone(shared), index);
    let mut turn = slot.arrive().or_else(|| shared.next_turn(index));
    while let Some(next) = turn {
        let token = match next {
            Turn::Slot(token) => token,
            Turn::Errand(errand) => {
                context.enter(|| errand.run(&context, index));
                turn = shared.next_turn(index);
                continue;
            }
        };
        context.put_token(token);
        let left = context.enter(|| work(&context, index));
        let token = context.take_token();
        match (left, token) {
            (Left::Wanted, Some(token)) => {
                // Somebody returns: there is a thread to pass it to. Or nobody is to work here any more.
                if let Passed::Dormant = slot.pass(token) {
                    shared.stop_looking(index);
                }
                turn = shared.next_turn(index);
            }
            (_, token) => {
                slot.leave(token);
                return;
            }
        }
    }
}

fn work(context: &Context, index: usize) -> Left {
    let shared = &*context.shared;
    let slot = &shared.slots[index];
    // Whoever had the slot before may have been woken for a task of a domain, and this thread takes something else first.
    shared.domains.pass_on(index, &shared.sleep);
    let remote = context.remote();
    let mut busy = false;
    loop {
        // They have begun, or are about to: nobody else can do anything about them.
        if let Some(ahead) = remote.and_then(RemoteProcessor::take_ahead) {
            run_ahead(context, ahead);
            continue;
        }
        if slot.is_wanted() {
            slot.counters.activity.end(now_ns());
            return Left::Wanted;
        }
        if shared.special.load(Relaxed) && (shared.submit_told() || shared.unusual.attend(context, index)) {
            continue;
        }
        if let Some(found) = context.with_local(|slot, local| take_next(shared, index, slot, local)).flatten() {
            if !busy {
                busy = true;
                slot.counters.activity.begin(now_ns());
            }
            perform(context, found);
            continue;
        }
        if context.slot_index().is_none() {
            // It went on with a task without the slot, which is another thread's now.
            return Left::Wanted;
        }
        busy = false;
        slot.counters.activity.end(now_ns());
        match search(context, index) {
            Some(found) => {
                busy = true;
                slot.counters.activity.begin(now_ns());
                perform(context, found);
            }
            None if shared.is_stopped() => return Left::Stopped,
            None => {}
        }
    }
}

/// Does what was found.
#[inline]
fn perform(context: &Context, found: Found) {
    match found {
        Found::Task(entry) if context.remote().is_some() => context.between_tasks(|| run(context, entry)),
        Found::Task(entry) => run(context, entry),
        Found::Job(job) => jobs::execute(context, job),
    }
}

/// Runs a task from a queue, unless somebody else has claimed it since it was put there.
#[inline]
pub(crate) fn run(context: &Context, entry: Entry) {
    let mut next = Some(entry);
    while let Some(entry) = next.take() {
        match entry.into_work() {
            Work::Task(task) => run_task(context, task),
            Work::Part(part) => next = run_part(context, part, false),
        }
    }
}

#[inline]
fn run_task(context: &Context, task: TaskRef) {
    if arena::is_short() && task.options().is_none_or(|options| options.taken() == Occupancy::ONE) {
        return pressure::run(context, task);
    }
    // One look for all that a task without options does without.
    if task.options().is_some() {
        return run_with_options(context, task);
    }
    match task.try_claim() {
        Claim::Won => {
            let failure = execute_plain(context, &task);
            context.shared.finish_plain(Some(context), &task, failure, true);
        }
        // A thread that waited for it ran it, or it was cancelled, and its entry in the queue stayed.
        Claim::Lost => drop(Entry::task(task)),
        Claim::Waiting => unreachable!("only ready tasks are queued"),
    }
}

#[cold]
fn run_with_options(context: &Context, task: TaskRef) {
    if task.options().is_some_and(|options| options.taken() == Occupancy::NONE)
        && let Some(slot) = context.slot_index()
    {
        return match context.shared.send_errand(slot, Errand::free(Entry::task(task))) {
            Ok(()) => {}
            // No thread to be had: it takes the processor.
            Err(errand) => match errand.into_entry().into_work() {
                Work::Task(task) => run_ready(context, task),
                Work::Part(_) => unreachable!("it was a task"),
            },
        };
    }
    run_ready(context, task);
}

fn run_ready(context: &Context, task: TaskRef) {
    match task.try_claim() {
        Claim::Won => {
            let failure = execute(context, &task);
            context.shared.finish(Some(context), &task, failure, true);
        }
        Claim::Lost => drop(Entry::task(task)),
        Claim::Waiting => unreachable!("only ready tasks are queued"),
    }
}

/// Runs a task that this thread has claimed; its outcome is not published yet.
#[inline]
pub(crate) fn execute(context: &Context, task: &TaskRef) -> Option<TaskError> {
    match task.options() {
        None => execute_plain(context, task),
        Some(options) => execute_with(options, context, task),
    }
}

#[inline(always)]
fn execute_plain(context: &Context, task: &TaskRef) -> Option<TaskError> {
    execute_body(context, task, || run_body(context, task))
}

/// Goes on with a task that was claimed ahead of its turn.
#[cold]
fn run_ahead(context: &Context, ahead: Ahead) {
    let failure = match context.remote() {
        Some(remote) if ahead.is_sent() => execute_begun(context, &ahead.task, || remote.run_ahead(context, &ahead)),
        _ => execute(context, &ahead.task),
    };
    context.shared.finish(Some(context), &ahead.task, failure, true);
}

/// A task to be claimed ahead of its turn by the thread of a process, which is in the middle of another one: one that this process would get next, that can travel, and that
/// nobody else is about to take.
pub(crate) fn next_ahead(context: &Context) -> Option<TaskRef> {
    let shared = &*context.shared;
    let slot_index = context.slot_index()?;
    let slot = &shared.slots[slot_index];
    // Others that are idle do not take it if it can be seen by them only.
    let is_special = shared.special.load(Relaxed);
    if slot.is_wanted() || shared.is_stopped() || (!is_special && shared.sleep.is_anybody_idle()) {
        return None;
    }
    take_for_process(context, slot_index, |task| {
        let is_confined = || task.domain().is_some_and(|domain| !domain.has_all_workers());
        !shared.sleep.is_anybody_idle() || is_confined()
    })
}

/// A task for the process that the thread stands for, whose call waits for others while nothing is to be done there.
pub(crate) fn next_guest(context: &Context) -> Option<TaskRef> {
    let slot = &context.shared.slots[context.slot_index()?];
    if slot.is_dormant() {
        return None;
    }
    // One that is to be begun only once would be lost with what the process does besides.
    take_for_process(context, context.slot_index()?, |task| !task.is_once())
}

/// Claims a task from this worker's queues that a process can run as it is.
fn take_for_process(context: &Context, slot_index: usize, is_fit: impl Fn(&TaskRef) -> bool) -> Option<TaskRef> {
    let shared = &*context.shared;
    loop {
        let normal = Priority::Normal.level();
        let next = |slot: &Slot, local: &Local| take_own(shared, slot_index, slot, local).or_else(|| from_injector(shared, local, normal));
        let entry = context.with_local(next).flatten()?;
        if !entry.is_task() {
            give_back(context, entry);
            return None;
        }
        let fits =
            entry.peek(|task| task.has_travel() && task.options().is_none_or(|options| options.taken() == Occupancy::ONE) && is_fit(task));
        if !fits {
            shared.enqueue(Some(context), entry);
            return None;
        }
        let Work::Task(task) = entry.into_work() else { unreachable!("it is a task") };
        match task.try_claim() {
            Claim::Won => return Some(task),
            Claim::Lost => drop(Entry::task(task)),
            Claim::Waiting => unreachable!("only ready tasks are queued"),
        }
    }
}

/// Runs the body here, or on the process that this thread stands for.
#[inline]
fn run_body(context: &Context, task: &TaskRef) -> Option<TaskError> {
    let elsewhere = context.remote().and_then(|remote| remote.run(context, task));
    elsewhere.unwrap_or_else(|| task.run_claimed())
}

#[cold]
fn execute_with(options: &TaskOptions, context: &Context, task: &TaskRef) -> Option<TaskError> {
    if !task.begins() {
        return Some(task.fail_claimed(FailureKind::Cancelled));
    }
    let body = || match &options.ties.inheritance {
        None => run_body(context, task),
        Some(inheritance) => enter_ambient(&Ambient::of(Arc::clone(inheritance)), || run_body(context, task)),
    };
    crate::journal::around(options, context.processor, || match &context.shared.placement {
        Some(placement) => match &options.ties.placed {
            Some(placed) => execute_measured(placement, placed, context, task, body),
            None => execute_body(context, task, body),
        },
        None => execute_body(context, task, body),
    })
}

/// The same for a task that is placed: how long it takes is noted.
fn execute_measured(
    placement: &Placement,
    placed: &Placed,
    context: &Context,
    task: &TaskRef,
    body: impl FnOnce() -> Option<TaskError>,
) -> Option<TaskError> {
    // One that somebody who waited has claimed right when it was ready has not been looked at.
    let size = placed.size().unwrap_or_else(|| task.survey_claimed().size);
    placement.begins(&context.shared, placed, context.processor);
    let (failure, lap) = context.stopwatch.measure(placed.samples_cpu(), || execute_body(context, task, body));
    if failure.is_none() {
        placement.measured(context.processor, task, size, lap);
    }
    failure
}

#[inline(always)]
fn execute_body(context: &Context, task: &TaskRef, body: impl FnOnce() -> Option<TaskError>) -> Option<TaskError> {
    if context.shared.is_outdated(task.epoch()) {
        return Some(task.fail_claimed(context.shared.outdated(task)));
    }
    execute_begun(context, task, body)
}

/// The same when it has been looked at whether it is to begin at all.
#[inline(always)]
fn execute_begun(context: &Context, task: &TaskRef, body: impl FnOnce() -> Option<TaskError>) -> Option<TaskError> {
    let failure = context.run(task, body);
    let not_run = failure.as_ref().is_some_and(|error| matches!(error.kind(), FailureKind::Dependency(_)));
    // Those of an errand have been counted.
    if !not_run && !context.count(|counters| &counters.tasks) && context.processor >= context.shared.slots.len() {
        context.shared.queued.counts(context.processor).tasks.fetch_add(1, Relaxed);
    }
    failure
}

/// Runs all that this worker knows of, until every task that was spawned has finished and all is `over`; in between it can only `rest`. For a worker without others.
pub(crate) fn run_all(context: &Context, index: usize, over: impl Fn() -> bool, rest: impl Fn()) {
    let shared = &*context.shared;
    loop {
        let next = |slot: &Slot, local: &Local| {
            take_next(shared, index, slot, local).or_else(|| from_injector(shared, local, Priority::Normal.level()).map(Found::Task))
        };
        let put_aside = || shared.aside.take_unless_short(shared, context.processor).map(Found::Task);
        while let Some(found) = context.with_local(next).and_then(|found| found.or_else(put_aside)) {
            perform(context, found);
        }
        if shared.is_quiet() && over() {
            return;
        }
        let slot = &shared.slots[index];
        if slot.is_wanted() {
            // By a thread that goes on with a task.
            if let Some(token) = context.take_token() {
                let _ = slot.pass(token);
                loop {
                    if let Some(token) = slot.regain(|| shared.finished()) {
                        context.put_token(token);
                        break;
                    }
                }
            }
            continue;
        }
        // On other threads of the slot, tasks that take no processor; and elsewhere.
        rest();
    }
}

/// What this worker does next: jobs first, since whoever is in the middle of a task waits for them.
#[inline]
fn take_next(shared: &Shared, index: usize, slot: &Slot, local: &Local) -> Option<Found> {
    match jobs::take_job(shared, local) {
        Some(job) => Some(Found::Job(job)),
        None => take_own(shared, index, slot, local).map(Found::Task),
    }
}

/// Has the next `take_own` look for what was spawned from outside first.
pub(crate) fn look_outside_next(local: &Local) {
    local.tick.set(FAIRNESS - 1);
}

/// A task from the queues of this worker: its own newest, now and then one spawned from outside.
#[inline]
fn take_own(shared: &Shared, index: usize, slot: &Slot, local: &Local) -> Option<Entry> {
    let tick = local.tick.get().wrapping_add(1);
    local.tick.set(tick);
    let normal = Priority::Normal.level();
    if tick.is_multiple_of(FAIRNESS) {
        if slot.is_crowded() && shared.has_room() {
            slot.uncrowd();
        }
        if shared.room.is_wanted() && shared.has_room() {
            shared.room.announce();
        }
        if let Some(task) = shared.aside.take_if_late().or_else(|| from_injector(shared, local, normal)) {
            return Some(task);
        }
    }
    if shared.special.load(Relaxed) {
        return take_own_special(shared, index, slot, local);
    }
    take_own_normal(shared, slot, local)
}

#[inline]
fn take_own_normal(shared: &Shared, slot: &Slot, local: &Local) -> Option<Entry> {
    let Some(newest) = slot.ring.pop() else {
        return local.deques[Priority::Normal.level()].pop();
    };
    // This one may take long, and nobody else would see the others until then.
    if slot.ring.len() > 0 && shared.sleep.is_anybody_idle() {
        shared.show(slot, local);
    }
    Some(newest)
}

/// The same when tasks have priorities, or scopes, or are placed.
fn take_own_special(shared: &Shared, index: usize, slot: &Slot, local: &Local) -> Option<Entry> {
    let normal = Priority::Normal.level();
    let levels = if shared.has_levels.load(Relaxed) { 0..Priority::COUNT } else { normal..normal + 1 };
    for level in levels {
        let own = || match level == Priority::Normal.level() {
            true => take_own_normal(shared, slot, local),
            false => local.deques[level].pop(),
        };
        // What only some may run comes first: the others can be taken by anybody. A more urgent task of somebody else comes before a less urgent one
        // of our own.
        let placed = || (level == Priority::Normal.level()).then(|| take_placed(shared, index)).flatten();
        if let Some(task) = (shared.domains.take(index, level))
            .or_else(placed)
            .or_else(own)
            .or_else(|| from_injector(shared, local, level))
            .or_else(|| (level == 0).then(|| steal(shared, slot, local, level)).flatten())
        {
            return Some(task);
        }
    }
    None
}

/// A task from the board.
fn take_placed(shared: &Shared, index: usize) -> Option<Entry> {
    let (mut stale, mut wakes) = (Vec::new(), Vec::new());
    let entry = shared.placement.as_ref()?.take(shared, index, &mut stale, &mut wakes);
    // Not submitted from here, where the worker's queues are held: that may run code of users.
    for went in wakes {
        if let Some(queue) = shared.after_placing(went) {
            shared.tell(queue);
        }
    }
    let entry = entry?;
    if entry.is_task() {
        entry.peek(|task| {
            if let Some(launch) = task.launch_ties() {
                launch.on_host.store(true, Relaxed);
            }
        });
    }
    Some(entry)
}

fn from_injector(shared: &Shared, local: &Local, level: usize) -> Option<Entry> {
    if let Some(fresh) = shared.runs.pop_fresh(level) {
        return moved(shared, Some(fresh));
    }
    if shared.injectors[level].is_empty() {
        return None;
    }
    moved(shared, stolen(|| shared.injectors[level].steal_batch_and_pop(&local.deques[level])))
}

/// After a batch was moved into a worker's own queue: on the way it could not be seen by one that looked for the last time and went to sleep.
fn moved(shared: &Shared, task: Option<Entry>) -> Option<Entry> {
    if task.is_some() {
        shared.sleep.notify();
    }
    task
}

/// Repeats an attempt as long as another thread interferes.
#[inline]
pub(crate) fn stolen<T>(mut attempt: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match attempt() {
            Steal::Success(task) => return Some(task),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}

/// A task of another worker: the nearest group first, in each from a random one onwards.
fn steal(shared: &Shared, slot: &Slot, local: &Local, level: usize) -> Option<Entry> {
    for group in &slot.victims {
        let start = shared.chosen_victim(group, level).unwrap_or_else(|| random(local) as usize % group.len().max(1));
        for offset in 0..group.len() {
            let victim = &shared.slots[group[(start + offset) % group.len()]];
            let task = moved(shared, stolen(|| victim.stealers[level].steal_batch_and_pop(&local.deques[level])));
            if task.is_some() {
                return task;
            }
        }
    }
    None
}

/// An entry of normal priority that another worker shows.
pub(crate) fn steal_newest(shared: &Shared, slot: &Slot) -> Option<Entry> {
    slot.victims.iter().flatten().find_map(|victim| stolen(|| shared.slots[*victim].stealers[Priority::Normal.level()].steal()))
}

/// Half of the newest tasks of another worker, which has not shown them by itself.
fn seize(shared: &Shared, slot: &Slot, local: &Local) -> Option<Entry> {
    let mut oldest = None;
    let deque = &local.deques[Priority::Normal.level()];
    let victims = slot.victims.iter().flatten().map(|victim| &shared.slots[*victim]);
    for victim in victims.filter(|victim| victim.ring.len() > 0) {
        let keep = |entry| match &oldest {
            None => oldest = Some(entry),
            Some(_) => deque.push(entry),
        };
        if victim.ring.seize(keep) {
            break;
        }
    }
    moved(shared, oldest)
}

/// Xorshift. Source: Marsaglia, J. Stat. Software 8(14), 2003.
fn random(local: &Local) -> u64 {
    let mut state = local.random.get();
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    local.random.set(state);
    state
}

/// Looks everywhere for a task and sleeps in between, until there is one. Nothing when the slot is wanted, or the runtime ends.
fn search(context: &Context, index: usize) -> Option<Found> {
    let shared = &*context.shared;
    let slot = &shared.slots[index];
    if slot.is_crowded() {
        slot.uncrowd();
    }
    if shared.room.is_wanted() {
        shared.room.announce();
    }
    shared.sleep.search();
    loop {
        let began_ns = now_ns();
        // Logical threads go on when others stop: what the last of the rounds does not find is not there.
        let (first_round, search_ns) = if platform::is_logical() { (SEIZE_ROUNDS - 1, 0) } else { (0, shared.idle_policy.search_ns()) };
        // At least so many that the tasks which others keep to themselves have been asked for.
        for round in first_round.. {
            if round >= SEIZE_ROUNDS && round % SEIZE_ROUNDS == 0 && now_ns() - began_ns >= search_ns {
                break;
            }
            let seizes = round % SEIZE_ROUNDS == SEIZE_ROUNDS - 1 && !planted::is(Bug::NothingSeized);
            let found = context.with_local(|slot, local| {
                if let Some(found) = take_next(shared, index, slot, local) {
                    return Some(found);
                }
                if let Some(job) = jobs::steal_job(shared, slot, seizes, |_| true) {
                    return Some(Found::Job(job));
                }
                (0..Priority::COUNT)
                    .find_map(|level| from_injector(shared, local, level).or_else(|| steal(shared, slot, local, level)))
                    .or_else(|| seizes.then(|| seize(shared, slot, local)).flatten())
                    .map(Found::Task)
            });
            let put_aside = || if seizes { shared.aside.take_unless_short(shared, context.processor).map(Found::Task) } else { None };
            if let Some(found) = found.and_then(|found| found.or_else(put_aside)) {
                shared.found(index);
                return Some(found);
            }
            if slot.is_wanted() || shared.is_stopped() || shared.has_told() || shared.unusual.has_work(shared, index) {
                shared.found(index);
                return None;
            }
            if round % 8 == 7 {
                platform::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        if shared.aside.is_any() {
            shared.aside.rest();
            let _ = add(&slot.counters.idle_ns[Idle::Memory as usize], now_ns() - began_ns);
            continue;
        }
        shared.signal_idle();
        let idle = shared.why_idle(index);
        // Awake, it is counted as searching, and goes on so: pushes rely on whoever was woken, until he has found something and looked for more.
        shared.sleep.sleep(index, || shared.has_work(index) || slot.is_wanted() || shared.is_stopped());
        if let Some(idle) = idle {
            let _ = add(&slot.counters.idle_ns[idle as usize], now_ns().saturating_sub(began_ns));
        }
    }
}
