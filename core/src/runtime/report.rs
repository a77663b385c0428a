//! What a runtime found and did.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use poniard_interface::{DeviceInfo, Execution, MemorySpace, ProcessorKind, SpaceId, SpaceInfo};

use crate::buffer::MemoryUsage;
use crate::clock::now_ns;
use crate::placement::{Placement, PlacementReport};
use crate::region::RegionReport;
use crate::residency::space::Counts;
use crate::space::HostSpace;
use crate::worker::shared::Shared;
use crate::worker::slot::{ActivityReading, Idle};

/// What there is and what ran where since the runtime began.
#[derive(Clone, Debug)]
pub struct Report {
    /// The backends in use.
    pub backends: Vec<BackendReport>,
    /// Plugin files that were found and not used.
    pub refused: Vec<Refused>,
    /// Where plugin files were looked for, in order, with the reason for each place.
    pub searched: Vec<(PathBuf, &'static str)>,
    /// What backends had to say, in order.
    pub messages: Vec<String>,
    /// From the start of the first task to the end of the last one, in ns; to now, if one is running. 0 when there was none.
    pub makespan_ns: u64,
    /// The memory that buffers take, in the whole process.
    pub memory: MemoryUsage,
    /// What was decided about where tasks run, if any had a choice.
    pub placement: Option<PlacementReport>,
    /// How often regions were planned anew, and how often replayed, by where they were begun, in the order of files and lines.
    pub regions: Vec<RegionReport>,
}

/// A plugin file, or a backend in one, that is not used.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The file.
    pub file: PathBuf,
    /// Why, in one paragraph.
    pub reason: String,
}

/// One backend.
#[derive(Clone, Debug)]
pub struct BackendReport {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The plugin file that it came from; `None` for one that is linked into the program.
    pub file: Option<PathBuf>,
    /// The compiler that built it.
    pub rustc: String,
    /// Its processors.
    pub processors: Vec<ProcessorReport>,
    /// The memory that its processors work in.
    pub spaces: Vec<SpaceInfo>,
}

/// One processor.
#[derive(Clone, Debug)]
pub struct ProcessorReport {
    /// Its name.
    pub name: String,
    /// What code it runs.
    pub kind: ProcessorKind,
    /// Whether it takes batches.
    pub queued: bool,
    /// Whether it takes tasks: not, while [`set_processes`](crate::Handle::set_processes) has removed it.
    pub active: bool,
    /// The memory that it works in.
    pub space: String,
    /// The NUMA node that it is near to.
    pub numa_node: Option<u32>,
    /// The device that it is, if it is one.
    pub device: Option<DeviceInfo>,
    /// Why it takes no task any more, if it was lost.
    pub lost: Option<String>,
    /// Tasks and nodes of graphs that it has run.
    pub tasks: u64,
    /// Of those, the ones that another process has executed, by process. Empty for a processor of this process.
    pub processes: Vec<ProcessReport>,
    /// Time that it spent on them, in ns. For a thread: from finding a task until finding none.
    pub busy_ns: u64,
    /// For a worker: how long it slept although tasks were unfinished, by why.
    pub idle: IdleReport,
    /// For a worker process: bytes of arguments that were copied for it. All that travels, but for the memory of buffers that the process reads or
    /// writes where it is. For a device: bytes of buffers that were copied to its memory.
    pub copied_to_bytes: u64,
    /// The same of results, and of what tasks have changed in place: bytes that were copied from there.
    pub copied_from_bytes: u64,
    /// For a device: bytes of buffers of the host that it uses where they are.
    pub imported_bytes: u64,
    /// For a device: bytes that had to leave its memory to make room.
    pub evicted_bytes: u64,
    /// For a device: the most bytes of its memory that buffers have had at once.
    pub memory_peak_bytes: u64,
    /// How often one of its tasks was begun again, since the process that executed it had ended. 0 for a thread.
    pub begun_again: u64,
    /// Values that several tasks use and that were sent to its process, to be kept there for the next of them. 0 for a thread.
    pub shared_values_sent: u64,
    /// Their length, in bytes.
    pub shared_values_bytes: u64,
}

/// How long a worker had nothing to do although tasks were unfinished, in ns, by why. As it looked when it fell asleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdleReport {
    /// No task was ready: each waited for others.
    pub no_ready_work_ns: u64,
    /// Devices had launches, or data was on its way there.
    pub data_ns: u64,
    /// A launch waited for memory of a device.
    pub memory_ns: u64,
    /// A task that it could have run was kept for another processor, where it was expected to finish first.
    pub policy_ns: u64,
}

/// A process that executed tasks of a processor. When it ends, another one follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessReport {
    /// As the operating system numbers it.
    pub process: u32,
    /// Tasks that it has executed, without those that their bodies spawned there.
    pub tasks: u64,
}

impl Report {
    pub(crate) fn of(shared: &Shared) -> Self {
        let backends = shared
            .backends
            .iter()
            .enumerate()
            .map(|(index, backend)| BackendReport {
                name: backend.info.name.clone(),
                version: backend.info.version.clone(),
                file: backend.file.clone(),
                rustc: backend.rustc.clone(),
                processors: shared
                    .processors
                    .iter()
                    .enumerate()
                    .filter(|(_, record)| record.backend == index)
                    .map(|(place, _)| processor(shared, place))
                    .collect(),
                spaces: spaces(shared, index),
            })
            .collect();
        let found = &shared.backends.found;
        let now_ns = now_ns();
        let spans = (0..shared.processors.len()).filter_map(|place| activity(shared, place, now_ns).span_ns);
        let makespan = spans.reduce(|(first, last), (begin, end)| (first.min(begin), last.max(end)));
        Self {
            backends,
            refused: found.refused.clone(),
            searched: found.searched.clone(),
            messages: found.log.messages(),
            makespan_ns: makespan.map_or(0, |(first, last)| last - first),
            memory: crate::arena::usage(),
            placement: shared.placement.as_ref().map(Placement::report),
            regions: shared.regions.report(),
        }
    }
}

/// When the processor with the place `place` has been at work.
fn activity(shared: &Shared, place: usize, now_ns: u64) -> ActivityReading {
    match shared.slots.get(place) {
        Some(slot) => slot.counters.activity.read(now_ns),
        None => shared.queued.counts(place).activity.read(now_ns),
    }
}

fn processor(shared: &Shared, place: usize) -> ProcessorReport {
    let record = &shared.processors[place];
    let tasks = match shared.slots.get(place) {
        Some(slot) => slot.counters.tasks.load(Relaxed) + slot.counters.errands.load(Relaxed),
        None => shared.queued.counts(place).tasks.load(Relaxed),
    };
    let replies = shared.slots.get(place).and_then(|slot| slot.remote.get()).map(|remote| remote.replies()).unwrap_or_default();
    let busy_ns = activity(shared, place, now_ns()).busy_ns;
    let remote = shared.slots.get(place).and_then(|slot| slot.remote.get());
    let idle_ns = |idle: Idle| shared.slots.get(place).map_or(0, |slot| slot.counters.idle_ns[idle as usize].load(Relaxed));
    let idle = IdleReport {
        no_ready_work_ns: idle_ns(Idle::NoReadyWork),
        data_ns: idle_ns(Idle::Data),
        memory_ns: idle_ns(Idle::Memory),
        policy_ns: idle_ns(Idle::Policy),
    };
    let copied = remote.map_or((0, 0), |remote| (remote.copied_bytes.0.load(Relaxed), remote.copied_bytes.1.load(Relaxed)));
    let sent = remote.map(|remote| remote.sent.get()).unwrap_or_default();
    let own_space = shared.space_of(place).map(|space| &space.counts);
    let of_space = |count: fn(&Counts) -> &AtomicU64| own_space.map_or(0, |counts| count(counts).load(Relaxed));
    let space = spaces(shared, record.backend).into_iter().find(|info| info.id == record.info.space);
    ProcessorReport {
        name: record.info.name.clone(),
        kind: record.info.kind.clone(),
        active: shared.slots.get(place).is_none_or(|slot| !slot.is_dormant()),
        queued: matches!(record.info.execution, Execution::Queued { .. }),
        space: space.map_or_else(|| format!("space {}", record.info.space), |info| info.name),
        numa_node: record.info.numa_node,
        device: record.info.device.clone(),
        lost: record.lost.get().cloned(),
        tasks,
        processes: replies.into_iter().map(|(process, tasks)| ProcessReport { process, tasks }).collect(),
        busy_ns,
        idle,
        copied_to_bytes: copied.0 + of_space(|counts| &counts.uploaded),
        copied_from_bytes: copied.1 + of_space(|counts| &counts.downloaded),
        imported_bytes: of_space(|counts| &counts.imported),
        evicted_bytes: of_space(|counts| &counts.evicted),
        memory_peak_bytes: of_space(|counts| &counts.peak),
        shared_values_sent: sent.values,
        shared_values_bytes: sent.bytes,
        begun_again: remote.map_or(0, |remote| remote.begun_again.load(Relaxed)),
    }
}

/// The memory of a backend: the host's, if a processor works there, and its own.
fn spaces(shared: &Shared, backend: usize) -> Vec<SpaceInfo> {
    let host = shared.processors.iter().any(|record| record.backend == backend && record.info.space == SpaceId::HOST);
    let own = shared.backends[backend].spaces.iter().map(|space| space.info.clone());
    host.then(|| HostSpace.info()).into_iter().chain(own).collect()
}
