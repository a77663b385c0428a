//! Whether what came of a run is right.

use poniard::{Buffer, FailureKind, Mutable, TaskError};

use super::failure::Failure;
use super::scene::{Scene, Spawned};
use super::work::{Where, Work, reference, value_of};
use crate::schedule::{Fault, Schedule};

/// A task that was begun so often on processes that ended then is not begun again.
const ATTEMPTS: u32 = 3;

/// What is known of a task's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It has one.
    There,
    /// It has none.
    Failed,
    /// It has finished, and nobody can say any more how.
    Unknown,
}

/// Whether each task has the result that it should have, and each cell. Fetches all of them.
pub(super) fn check(scene: &Scene, cells: &[Mutable<Buffer<u64>>]) {
    let script = &scene.script;
    let (values, cell_values) = reference(script, &scene.needs);
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(values.len());
    // Whose result may be lost with a device for good, or that cannot do without devices.
    let mut is_frail: Vec<bool> = Vec::with_capacity(values.len());
    for (number, (task, needs)) in script.tasks.iter().zip(&scene.needs).enumerate() {
        is_frail.push(match task.work {
            Work::Update { .. } | Work::Kernel { at: Where::Devices | Where::Device(_), .. } => true,
            _ => needs.values().any(|source| is_frail[source as usize]),
        });
        let spawned = scene.spawned.borrow()[number].clone();
        let Some(spawned) = spawned else {
            let has_failed = scene.failed.borrow().contains(&(number as u32));
            outcomes.push(if has_failed { Outcome::Failed } else { Outcome::There });
            continue;
        };
        if !spawned.is_finished() {
            return scene.fail(Failure::Wrong { task: number as u32, what: "is not over, and the runtime is idle".into() });
        }
        let has_failed = spawned.wait().is_err();
        let found = fetch(&spawned);
        let broken = needs.values().any(|source| outcomes[source as usize] == Outcome::Failed) || scene.failures[number] == u32::MAX;
        let unknown = needs.values().any(|source| outcomes[source as usize] == Outcome::Unknown);
        let what = match &found {
            Ok(_) if broken => Some("has a result, and one that it depends on has none".into()),
            Ok(Some(value)) if *value != values[number] => Some(format!("has the result {value} and should have {}", values[number])),
            Ok(_) => None,
            Err(_) if broken => None,
            Err(error) if may_fail(scene, number, error, is_frail[number], unknown) => None,
            Err(error) => Some(format!("has failed and should not have: {error}")),
        };
        if let Some(what) = what {
            scene.fail(Failure::Wrong { task: number as u32, what });
        }
        if has_failed {
            scene.failed.borrow_mut().push(number as u32);
        }
        outcomes.push(match found {
            Ok(_) => Outcome::There,
            Err(_) if has_failed => Outcome::Failed,
            // It is lost now, and was there for those that took it before.
            Err(_) => Outcome::Unknown,
        });
    }
    scene.failed.borrow_mut().sort_unstable();
    for (cell, value) in cells.iter().zip(cell_values) {
        // When whoever has changed it last has failed, there is none.
        if let Ok(found) = cell.fetch()
            && value_of(found.iter().copied()) != Some(value)
        {
            let number = script.tasks.iter().rposition(|task| task.work.cell().is_some()).unwrap_or(0);
            scene.fail(Failure::Wrong { task: number as u32, what: "or one before leaves a cell with what it should not have".into() });
        }
    }
}

/// The value of a task that has finished, if it has one to look at.
fn fetch(spawned: &Spawned) -> Result<Option<u64>, TaskError> {
    match spawned {
        Spawned::Number(task) => task.fetch().map(|value| Some(*value)),
        // Of what is no value at all it is as good as any.
        Spawned::Buffer(task) => task.fetch().map(|buffer| Some(value_of(buffer.iter().copied()).unwrap_or(0))),
        Spawned::Nothing(task) => task.wait().map(|()| None),
    }
}

/// Whether a task may have failed so that depends on none that has: what ends it early may, and need not.
fn may_fail(scene: &Scene, number: usize, error: &TaskError, is_frail: bool, unknown: bool) -> bool {
    let has_timeout = scene.script.tasks[number].timeout_ns.is_some();
    let is_ended = scene.is_cancelled.get() || has_timeout;
    match error.kind() {
        FailureKind::Cancelled => scene.is_cancelled.get(),
        FailureKind::DeadlineExceeded => has_timeout,
        // It is not tried again when nobody wants it any more.
        FailureKind::Returned(_) => scene.failures[number] > 0 && is_ended,
        // It may be what ends processes; or no device is left that could run it.
        FailureKind::Processor { .. } => scene.courses.borrow()[number].attempts >= ATTEMPTS || is_frail && scene.has_fault(),
        // What is computed again may be cancelled with everything.
        FailureKind::Lost { .. } => scene.has_fault() && (is_frail || scene.is_cancelled.get()),
        FailureKind::Dependency(_) => unknown,
        _ => false,
    }
}

/// Whether everything that ran came after what it depends on, and nothing ran beside another on its worker or device.
///
/// # Errors
/// The first fault, by task.
pub(super) fn check_order(scene: &Scene, schedule: &Schedule, failed: &[u32]) -> Result<(), Fault> {
    let has_failed = |task: usize| failed.binary_search(&(task as u32)).is_ok();
    let ran = |task: usize| schedule.processor[task] != u32::MAX;
    // A launch that was submitted behind others may have run in vain when those were not done, and have failed before it was begun again.
    let is_in_vain = |task: usize| scene.script.tasks[task].work.launched_at().is_some() && has_failed(task);
    for (task, needs) in scene.needs.iter().enumerate().filter(|(task, _)| ran(*task) && !is_in_vain(*task)) {
        for source in needs.all().map(|source| source as usize) {
            // One that was given up has finished, and its body may go on.
            if ran(source) && !has_failed(source) && schedule.end_ns[source] > schedule.start_ns[task] {
                return Err(Fault::Early { task, needs: source, by_ns: schedule.end_ns[source] - schedule.start_ns[task] });
            }
        }
    }
    // While something is computed again, which others wait for with their worker, a thread that has waited itself goes on beside them after a second.
    let has_worker = |task: usize| scene.repeats.get() == 0 || schedule.processor[task] as usize >= scene.script.columns.len();
    schedule.check_overlap((0..schedule.processor.len()).filter(|task| ran(*task) && has_worker(*task)).collect())
}
