//! Enters a task into the histories of all that it has access to, in one step.

use std::panic::Location;
use std::sync::{Mutex, MutexGuard};

use poniard_interface::Access;

use super::history::{History, Target, lock};
use super::slot::{Edges, OfPlace};
use crate::error::FailureKind;
use crate::function::{Predecessors, TaskFn};
use crate::options::{Priority, TaskOptions};
use crate::task::Task;
use crate::task::record::create;
use crate::worker::entry::Entry;
use crate::worker::shared::Shared;

/// The place of an argument, in the order of the histories' addresses.
struct Touched {
    place: OfPlace,
    target: Target,
    access: Access,
    /// Which of the task's accesses it is, from 0.
    number: usize,
}

impl Touched {
    fn history(&self) -> &Mutex<History> {
        self.place.history()
    }
}

/// The options of a task that cannot be, and why.
type Refused = (Option<Box<TaskOptions>>, FailureKind);
/// The handle of a new task, and its entry if it is ready.
type Created<T> = (Task<T>, Option<Entry>);

/// Makes a task whose arguments touch places, and enters it into their histories. The error when it touches an element twice, and not only to read.
pub(crate) fn create_ordered<M, F: TaskFn<M>>(
    function: F,
    mut params: F::Params,
    shared: &Shared,
    location: &'static Location<'static>,
    options: Option<Box<TaskOptions>>,
    priority: Priority,
) -> Result<Created<F::Value>, Refused> {
    let mut touched = Vec::new();
    params.visit_places(&mut |touch| {
        touched.push(Touched { place: touch.history(), target: touch.target().0, access: touch.access(), number: touched.len() });
    });
    touched.sort_by_key(|touch| (std::ptr::from_ref(touch.history()), touch.number));
    let groups: Vec<&[Touched]> = touched.chunk_by(|one, two| std::ptr::eq(one.history(), two.history())).collect();
    // One guard for each place, although it may be touched more than once.
    let mut histories: Vec<MutexGuard<'_, History>> = groups.iter().map(|group| lock(group[0].history())).collect();
    for (group, history) in groups.iter().zip(&histories) {
        if let Some((one, two)) = twice(group, history) {
            return Err((options, FailureKind::SamePlace { accesses: (one + 1, two + 1) }));
        }
    }
    let group_of = |history: &Mutex<History>| groups.iter().position(|group| std::ptr::eq(group[0].history(), history));
    params.visit_places(&mut |touch| {
        if let Some(group) = group_of(touch.history().history()) {
            touch.wait_for(Edges(histories[group].conflicts(touch.target().0, touch.access())));
        }
    });
    let writes = touched.iter().any(|touch| touch.access != Access::Read);
    let mut options = options;
    if let Some(options) = options.as_mut().filter(|options| options.ties.launch.is_some()) {
        // From the start: once it is ready a device may have it, and whoever submits it changes this for a moment (`waiting_successors`).
        options.ties.holds = true;
        options.ties.needed |= writes;
    }
    let (task, ready) = create(function, params, shared, shared.epoch(), location, options, priority);
    task.reference().hold_until_the_end(writes);
    let mut gone = Vec::new();
    for (group, history) in groups.iter().zip(&mut histories) {
        let mut entered: Option<(Target, Access)> = None;
        for touch in *group {
            // Reading the same twice is one access.
            if entered != Some((touch.target, touch.access)) {
                gone.extend(history.add(touch.target, touch.access, task.reference().clone()));
                entered = Some((touch.target, touch.access));
            }
        }
    }
    drop(histories);
    drop(gone);
    Ok((task, ready))
}

/// Two accesses to one place that conflict.
fn twice(group: &[Touched], history: &History) -> Option<(usize, usize)> {
    for (index, two) in group.iter().enumerate() {
        for one in &group[..index] {
            if (one.access, two.access) != (Access::Read, Access::Read) && history.meet(one.target, two.target) {
                return Some((one.number, two.number));
            }
        }
    }
    None
}
