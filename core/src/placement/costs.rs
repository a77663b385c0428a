//! What models say of tasks that are placed, and what they hear of them.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use poniard_interface::type_key::{FNV_OFFSET, fnv};

use super::{Placement, code_of, placed};
use crate::model::{CodeId, CodeModel, Estimate, Measurement, ProcessorClass};
use crate::policy::{self, TRIES};
use crate::task::record::TaskRef;
use crate::worker::stopwatch::Lap;

/// Places where code costs the same: the name of their class, in models, and its number.
pub(super) type Class = (ProcessorClass, u32);
/// What is known of code, for each number of a class.
pub(super) type KnownOf = Vec<Option<Arc<CodeModel>>>;

impl Placement {
    /// What is known of a task's code at a class.
    fn model<'k>(&self, known: &'k mut KnownOf, task: &TaskRef, (class, number): &Class) -> &'k Arc<CodeModel> {
        let number = *number as usize;
        if known.len() <= number {
            known.resize(number + 1, None);
        }
        known[number].get_or_insert_with(|| self.models.executions.resolve(&code_id_of(task), class))
    }

    /// What a task is expected to take at a class, and whether the way to another process is in that.
    ///
    /// Threads and worker processes run the same code on the same cores. They are measured apart, since a call has to be sent and its values written and read, which is much for a
    /// short task and nothing for a long one. But nobody has to find out what a task takes on one of them who knows what it takes on the other: the better known one stands in until
    /// the class itself has been measured as often as policies want it.
    pub(super) fn estimate(&self, known: &mut KnownOf, task: &TaskRef, class: &Class, size: u64, travels: bool) -> (Estimate, bool) {
        let own = self.model(known, task, class).estimate(size);
        let is_process = class.1 == self.process.1;
        let is_host = class.1 == self.classes[0].1;
        if !(is_process || is_host && travels && self.places_all) || own.count >= TRIES.into() {
            return (own, is_process && own.count > 0);
        }
        let other_class = if is_process { &self.classes[0] } else { &self.process };
        let other = self.model(known, task, other_class).estimate(size);
        if other.count > own.count { (other, is_host) } else { (own, is_process && own.count > 0) }
    }

    /// Notes that a thread took so long for a task's body.
    pub(crate) fn measured(&self, processor: usize, task: &TaskRef, size: u64, lap: Lap) {
        let class = if lap.is_away { &self.process } else { &self.classes[self.place_of(processor)] };
        // To read the CPU clock takes CPU time itself, more than a short body.
        let cpu_ns = lap.cpu_ns.map(|cpu_ns| cpu_ns.min(lap.wall_ns));
        self.note(class, task, size, Measurement { wall_ns: lap.wall_ns, cpu_ns });
    }

    /// Notes that a device took so long for a launch.
    pub(crate) fn launched(&self, processor: usize, task: &TaskRef, size: u64, wall_ns: u64) {
        self.note(&self.classes[self.place_of(processor)], task, size, Measurement { wall_ns, cpu_ns: None });
    }

    fn note(&self, class: &Class, task: &TaskRef, size: u64, measurement: Measurement) {
        if let Some(placed) = placed(task) {
            placed.took_ns.store(measurement.wall_ns, Relaxed);
        }
        let model = {
            let mut state = self.lock();
            Arc::clone(self.model(state.models.entry(code_of(task)).or_default(), task, class))
        };
        model.record(size, measurement);
    }
}

/// What a model says, as policies see it; a guess where it knows nothing.
pub(super) fn or_guess(known: Estimate, guess_ns: u64) -> policy::Estimate {
    match known.count {
        0 => policy::Estimate { mean_ns: guess_ns, spread_ns: guess_ns, count: 0 },
        count => policy::Estimate { mean_ns: known.mean_ns, spread_ns: known.spread_ns, count: count.min(u32::MAX.into()) as u32 },
    }
}

/// How the code of a task is known to models, which outlive the program.
fn code_id_of(task: &TaskRef) -> CodeId {
    task.launch_ties().map_or_else(|| function_id(task.type_name(), task.location()), |launch| launch.body.code_id())
}

/// How a function is known, by the name of its type and where it was made a task.
pub(super) fn function_id(type_name: &str, at: &Location<'_>) -> CodeId {
    let mut identity = fnv(FNV_OFFSET, type_name.as_bytes());
    if type_name.ends_with("{{closure}}") {
        // All closures of a function have one name. Where they are spawned tells them apart.
        identity = fnv(identity, at.file().as_bytes());
        identity = fnv(identity, &at.line().to_le_bytes());
        identity = fnv(identity, &at.column().to_le_bytes());
    }
    CodeId::new(type_name, identity as u64)
}
