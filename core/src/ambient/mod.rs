//! What a task gets from where it is spawned: the code around the spawn on this thread, the task that the thread is in the middle of, and its function.

use std::any::TypeId;
use std::rc::Rc;
use std::sync::Arc;

pub(crate) mod block;

use block::Block;

use crate::group::members::Members;
use crate::options::TaskOptions;
use crate::task::bond::Bond;
use crate::task::record::TaskRef;
use crate::worker::context::{ambient as look, enter_ambient, has_ambient, outside_of_ambient};
use crate::worker::entry::Entry;
use crate::worker::shared::Shared;

/// What spawns on this thread pick up just now. A thread-local pointer leads to it; null, for most tasks, means that there is nothing.
#[derive(Clone, Default)]
pub(crate) struct Ambient {
    inheritance: Option<Arc<Inheritance>>,
    /// What `with_options` around says, all together.
    options: Option<Arc<TaskOptions>>,
    block: Option<Rc<Block>>,
}

/// What a task hands on to the tasks that it spawns.
#[derive(Clone, Default)]
pub(crate) struct Inheritance {
    /// Groups that none of the others is inside.
    groups: Vec<Arc<Members>>,
    options: Option<Arc<TaskOptions>>,
    /// The task is a guest of a call: it came to a worker process while that waited for others.
    is_guest: bool,
    /// The task's number in the journal, if one is kept.
    number: Option<usize>,
}

impl Ambient {
    /// That of a task, when it begins.
    pub(crate) fn of(inheritance: Arc<Inheritance>) -> Self {
        Self { inheritance: Some(inheritance), options: None, block: None }
    }
}

/// What the pieces of a task that other threads run pick up as the task does. A block stays behind: it belongs to its thread.
#[derive(Clone)]
pub(crate) struct Carried {
    inheritance: Option<Arc<Inheritance>>,
    options: Option<Arc<TaskOptions>>,
}

impl Carried {
    /// What this thread's spawns pick up. What its blocks hold back is submitted: the pieces might wait for it.
    #[cold]
    pub(crate) fn from_here() -> Self {
        flush();
        look(|ambient| match ambient {
            Some(ambient) => Self { inheritance: ambient.inheritance.clone(), options: ambient.options.clone() },
            None => Self { inheritance: None, options: None },
        })
    }

    /// Runs `body` so that its spawns pick it up.
    pub(crate) fn around<R>(self, body: impl FnOnce() -> R) -> R {
        enter_ambient(&Ambient { inheritance: self.inheritance, options: self.options, block: None }, body)
    }
}

/// Runs `body` with an ambient that is made of a copy of this thread's.
fn with_changed<R>(change: impl FnOnce(Ambient) -> Ambient, body: impl FnOnce() -> R) -> R {
    let changed = change(look(|ambient| ambient.cloned().unwrap_or_default()));
    enter_ambient(&changed, body)
}

/// Runs `body` on this thread. All that it spawns has these options, where it says nothing else itself.
///
/// Inside another such closure the inner one counts, and where it says nothing the outer one. The tasks hand on to their own tasks what was marked with
/// [`TaskOptions::inherit`]. Cost: an allocation for the closure, and for each task that of every task with options.
///
/// ```
/// use poniard::{Priority, Runtime, TaskOptions, with_options};
///
/// let runtime = Runtime::new()?;
/// let (outer, inner) = (TaskOptions::new().name("outer").priority(Priority::Low), TaskOptions::new().name("inner"));
/// with_options(outer, || {
///     assert_eq!(runtime.spawn(|| (), ()).name(), "outer");
///     with_options(inner, || assert_eq!(runtime.spawn(|| (), ()).name(), "inner")); // and of low priority
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn with_options<R>(options: TaskOptions, body: impl FnOnce() -> R) -> R {
    let change = |ambient: Ambient| {
        let mut inheritance = ambient.inheritance.clone();
        if options.inherit {
            let mut changed = inheritance.as_deref().cloned().unwrap_or_default();
            changed.options = Some(Arc::new(options.over(changed.options.as_deref())));
            inheritance = Some(Arc::new(changed));
        }
        Ambient { inheritance, options: Some(Arc::new(options.over(ambient.options.as_deref()))), ..ambient }
    };
    with_changed(change, body)
}

/// Runs `body` with a group around it.
pub(crate) fn in_group<R>(group: &Arc<Members>, body: impl FnOnce() -> R) -> R {
    let change = |ambient: Ambient| {
        let mut changed = ambient.inheritance.as_deref().cloned().unwrap_or_default();
        if !changed.groups.iter().any(|other| other.is_within(group)) {
            changed.groups.retain(|other| !group.is_within(other));
            changed.groups.push(Arc::clone(group));
        }
        Ambient { inheritance: Some(Arc::new(changed)), ..ambient }
    };
    with_changed(change, body)
}

/// Runs `body` so that what it spawns is a guest.
pub(crate) fn for_guests<R>(body: impl FnOnce() -> R) -> R {
    enter_ambient(&Ambient::of(Arc::new(Inheritance { is_guest: true, ..Inheritance::default() })), body)
}

/// Whether this thread is in the middle of a guest, or of a task that one has spawned.
pub(crate) fn is_guest() -> bool {
    look(|ambient| ambient.and_then(|ambient| ambient.inheritance.as_ref()).is_some_and(|inheritance| inheritance.is_guest))
}

/// The number in the journal of the task that this thread is in the middle of.
pub(crate) fn spawner() -> Option<usize> {
    look(|ambient| ambient?.inheritance.as_ref()?.number)
}

/// Has a task hand its number in the journal on to those that it spawns, besides what it hands on otherwise.
pub(crate) fn hand_on(options: &mut TaskOptions, number: usize) {
    let handed = options.ties.inheritance.as_deref().cloned().unwrap_or_default();
    options.ties.inheritance = Some(Arc::new(Inheritance { number: Some(number), ..handed }));
}

/// The group that this thread's spawns are in; the last one, when they are in several.
pub(crate) fn group() -> Option<Arc<Members>> {
    look(|ambient| ambient?.inheritance.as_ref()?.groups.last().cloned())
}

/// The block around this thread's spawns.
pub(crate) fn block() -> Option<Rc<Block>> {
    look(|ambient| ambient?.block.clone())
}

/// Runs `wait`, which waits and may run tasks on top of the code that waits, without the ambient of that code. What its blocks hold back is submitted: it might
/// be waited for.
#[inline]
pub(crate) fn aside<R>(wait: impl FnOnce() -> R) -> R {
    if has_ambient() {
        flush();
        return outside_of_ambient(wait);
    }
    wait()
}

/// Submits what the blocks around hold back.
#[inline]
pub(crate) fn flush() {
    if has_ambient()
        && let Some(block) = block()
    {
        block.flush();
    }
}

/// Whether a block around this thread's spawns holds them back.
pub(crate) fn holds_back() -> bool {
    has_ambient() && block().is_some_and(|block| block.holds_back())
}

/// Adds to the options of a task about to be spawned all that it gets from where it is spawned.
#[cold]
pub(crate) fn furnish(shared: &Shared, function: TypeId, options: Option<Box<TaskOptions>>) -> Option<Box<TaskOptions>> {
    let defaults = shared.defaults.get(&function);
    look(|ambient| {
        let inheritance = ambient.and_then(|ambient| ambient.inheritance.as_ref());
        let around = ambient.and_then(|ambient| ambient.options.as_deref());
        if options.is_none() && defaults.is_none() && inheritance.is_none() && around.is_none() {
            return None;
        }
        let mut options = options.unwrap_or_default();
        let inherited = inheritance.and_then(|inheritance| inheritance.options.as_deref());
        let defaults = [defaults, options.ties.defaults.take()];
        let mut bequest = options.ties.bequest.take();
        for lower in defaults.iter().flatten().filter(|lower| lower.inherit) {
            let above = bequest.unwrap_or_default().over(inherited);
            bequest = Some(Box::new(above.over(Some(lower))));
        }
        for lower in [around, inherited].into_iter().chain(defaults).flatten() {
            options.fill(lower);
        }
        options.ties.inheritance = match bequest {
            None => inheritance.cloned(),
            Some(bequest) => Some(Arc::new(Inheritance {
                groups: inheritance.map(|inheritance| inheritance.groups.clone()).unwrap_or_default(),
                options: Some(Arc::new(bequest.over(inherited))),
                is_guest: inheritance.is_some_and(|inheritance| inheritance.is_guest),
                number: None,
            })),
        };
        let groups = inheritance.into_iter().flat_map(|inheritance| inheritance.groups.iter().cloned());
        let mut bonds: Vec<_> = groups.map(Bond::new).collect();
        options.ties.needed = !bonds.is_empty();
        bonds.extend(std::mem::take(&mut options.tokens).into_iter().map(|token| Bond::new(token.into_members())));
        options.ties.bonds = bonds;
        Some(options)
    })
}

/// Notes in the options of a task about to be spawned what the blocks around it want. True when it has to be made held, for `bind`.
pub(crate) fn prepare(options: &mut Option<Box<TaskOptions>>, block: Option<&Block>) -> bool {
    let held = block.is_some_and(Block::holds_back) || options.as_ref().is_some_and(|options| !options.ties.bonds.is_empty());
    if held || block.is_some() {
        let ties = &mut options.get_or_insert_default().ties;
        ties.held = held;
        if let Some(block) = block {
            block.prepare(ties);
        }
    }
    held
}

/// Makes a task that was made held a member of what it belongs to, and lets it go, unless a block holds it back: gives its entry if it is ready.
pub(crate) fn bind(task: &TaskRef, block: Option<&Block>) -> Option<Entry> {
    for bond in task.bonds() {
        bond.members.enter(bond.key, task);
    }
    if task.is_finished() {
        // One of them cancelled it, maybe before it had entered the others.
        task.settle_bonds();
    } else if block.is_some_and(|block| block.hold_back(task)) {
        return None;
    }
    task.release_hold().filter(|entry| !entry.is_stale())
}
