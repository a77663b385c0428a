//! Scenarios in which things go wrong, each from one number.

use std::sync::Arc;

use poniard::policy::Random;

use super::script::{Chaos, Script, ScriptTask};
use super::work::{ScriptDevice, Where, Work};

/// What scenarios are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScenarioOptions {
    /// The least number of tasks; up to half as many more are drawn.
    pub tasks: u32,
    /// The least number of workers; up to as many more are drawn.
    pub workers: u32,
    /// The least number of kinds of things that go wrong.
    pub faults: u32,
    /// The kinds that may.
    pub kinds: FaultKinds,
}

/// Some of [`Chaos::KINDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultKinds(u32);

/// The first kinds of processes and of devices.
const OF_PROCESSES: usize = 7;
const OF_DEVICES: usize = 11;

impl FaultKinds {
    /// All of them.
    pub const ALL: Self = Self((1 << Chaos::KINDS.len()) - 1);

    /// Those with these names.
    ///
    /// # Errors
    /// The first name that none has.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let number = |name| Chaos::KINDS.iter().position(|kind| *kind == name).ok_or(name);
        names.into_iter().try_fold(Self(0), |kinds, name| Ok(Self(kinds.0 | 1 << number(name)?)))
    }

    /// How many.
    #[must_use]
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    fn has(self, kind: usize) -> bool {
        self.0 & 1 << kind != 0
    }

    /// Whether there are none but of a range.
    fn is_within(self, mut kinds: std::ops::Range<usize>) -> bool {
        self.0 != 0 && (0..Chaos::KINDS.len()).all(|kind| !self.has(kind) || kinds.contains(&kind)) && kinds.any(|kind| self.has(kind))
    }
}

impl Default for ScenarioOptions {
    fn default() -> Self {
        Self { tasks: 200, workers: 4, faults: 2, kinds: FaultKinds::ALL }
    }
}

/// Policies that are drawn, the first as often as all others: none.
const POLICIES: [Option<&str>; 10] = [
    None,
    Some("earliest-finish"),
    Some("earliest-finish-priority"),
    Some("fifo"),
    Some("heft"),
    Some("heteroprio"),
    Some("locality-stealing"),
    Some("priority"),
    Some("random"),
    Some("work-stealing"),
];

struct Draw(Random);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0.below(end.max(1) as usize) as u64
    }

    fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True once in so many times.
    fn once_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// The scenario of a number: always the same.
#[must_use]
pub fn scenario(seed: u64, options: ScenarioOptions) -> Script {
    let mut draw = Draw(Random::new(seed));
    let workers = draw.between(options.workers.into(), (2 * options.workers).into()) as u32;
    let mut processes = if draw.once_in(2) { draw.below(u64::from(workers)) as usize } else { 0 };
    if options.kinds.is_within(OF_PROCESSES..OF_DEVICES) {
        processes = processes.max(1);
    }
    let policy = if draw.once_in(2) { None } else { POLICIES[draw.below(POLICIES.len() as u64) as usize] };
    let column_count = draw.between(1, 3) as usize;
    let columns: Arc<[u32]> = (0..workers).map(|_| draw.below(column_count as u64) as u32).collect();
    let count = draw.between(options.tasks.into(), u64::from(options.tasks) * 3 / 2) as u32;
    let mut tasks = tasks(&mut draw, count, column_count);
    // How long all of it takes, about.
    let span_ns = tasks.iter().map(|task| task.costs[0]).sum::<u64>() / u64::from(workers) + 1;
    for task in 1..tasks.len() {
        ranks(&mut tasks, task);
    }
    if draw.once_in(3) {
        for _ in 0..draw.between(1, 5) {
            let task = draw.below(count.into()) as usize;
            tasks[task].processors = draw.between(2, u64::from(workers)) as u8;
        }
    }
    if draw.once_in(3) {
        for _ in 0..draw.between(1, 5) {
            let task = draw.below(count.into()) as usize;
            tasks[task].timeout_ns = Some(draw.between(1, span_ns));
        }
    }
    let mut script = Script {
        seed,
        policy: policy.map(str::to_owned),
        draws: true,
        columns,
        processes,
        devices: Vec::new(),
        cells: Vec::new(),
        devices_first: false,
        expects_costs: policy.is_some(),
        fetches_late: false,
        tasks,
        chaos: Vec::new(),
    };
    // Drawn by themselves, so that scenarios without devices are what they would be if there were none at all.
    let mut own = Draw(Random::new(seed ^ 0xdece_0000_0000));
    let has_devices = own.once_in(3);
    if has_devices || options.kinds.is_within(OF_DEVICES..Chaos::KINDS.len()) {
        add_devices(&mut own, &mut script);
    }
    script.chaos = chaos(&mut draw, options, &script, span_ns);
    script
}

/// Adds devices with memories of their own, in which not everything has room, and has tasks work on buffers and cells there.
fn add_devices(draw: &mut Draw, script: &mut Script) {
    let count = script.tasks.len() as u32;
    let mean_ns = script.tasks.iter().map(|task| task.costs[0]).sum::<u64>() / u64::from(count) + 1;
    // So that the largest launch has room in the smallest memory.
    let words_max = [8, 32, 128, 256][draw.below(4) as usize];
    let room_bytes = 3 * (8 * words_max).max(256);
    let column = script.tasks[0].costs.len() as u32;
    for task in &mut script.tasks {
        // Faster than the host, or slower.
        let cost_ns = task.costs[0] * 4 / draw.between(1, 32);
        task.costs = task.costs.iter().copied().chain([cost_ns]).collect();
    }
    for _ in 0..draw.between(1, 2) {
        let kib_ns = draw.between(1, 2 * mean_ns);
        script.devices.push(ScriptDevice {
            column,
            capacity_bytes: draw.between(room_bytes, 8 * room_bytes),
            latency_ns: draw.below(mean_ns),
            bandwidth: 1_024_000_000_000 / kib_ns + 1,
            depth: draw.between(1, 24) as u32,
            measures: draw.once_in(2),
        });
    }
    for _ in 0..draw.below(4) {
        script.cells.push(draw.between(2, words_max) as u32);
    }
    script.devices_first = draw.once_in(3);
    script.expects_costs |= draw.once_in(2);
    script.fetches_late = draw.once_in(4);
    let releases = draw.once_in(2);
    for number in 0..count {
        let words = draw.between(2, words_max) as u32;
        let at = match draw.below(8) {
            0..5 => Where::Anywhere,
            5..7 => Where::Devices,
            _ => Where::Device(draw.below(script.devices.len() as u64) as u32),
        };
        let cell = draw.below(script.cells.len() as u64) as u32;
        let work = match draw.below(16) {
            0..4 => Work::Number,
            4..6 => Work::Fill { words },
            6..8 if !script.cells.is_empty() => Work::Update { cell, at },
            8 if !script.cells.is_empty() => Work::Look { cell },
            _ => Work::Kernel { words, at },
        };
        // What makes nothing that it could take is joined to something that does.
        let earlier = number.checked_sub(1 + draw.below(u64::from(number).min(16)) as u32);
        let task = &mut script.tasks[number as usize];
        task.work = work;
        task.is_released = releases && draw.once_in(2);
        if let Some(earlier) = earlier.filter(|_| draw.once_in(2))
            && !task.inputs.contains(&earlier)
        {
            task.inputs.push(earlier);
            task.inputs.sort_unstable();
        }
    }
}

/// A graph of one of a few kinds.
fn tasks(draw: &mut Draw, count: u32, column_count: usize) -> Vec<ScriptTask> {
    let kind = draw.below(5);
    let width = draw.between(2, 40);
    let has_priorities = draw.once_in(3);
    let scale_ns = 10_u64.pow(draw.between(3, 7) as u32);
    let mut tasks: Vec<ScriptTask> = Vec::with_capacity(count as usize);
    for number in 0..count {
        let far = u64::from(number).min(width);
        let before = |draw: &mut Draw, far: u64| number - 1 - draw.below(far) as u32;
        let mut inputs: Vec<u32> = match kind {
            _ if far == 0 => Vec::new(),
            // Layers.
            0 => (0..draw.below(4)).map(|_| before(draw, far)).collect(),
            // Chains side by side.
            1 => (u64::from(number) >= width).then(|| number - width as u32).into_iter().collect(),
            // A tree that grows.
            2 => vec![number - 1 - draw.below(u64::from(number).min(far)) as u32],
            // Forks and joins.
            3 if u64::from(number) % (width + 1) == 0 => (number.saturating_sub(width as u32)..number).collect(),
            3 => vec![number - (u64::from(number) % (width + 1)) as u32],
            // Few edges.
            _ => {
                if draw.once_in(4) {
                    vec![before(draw, u64::from(number))]
                } else {
                    Vec::new()
                }
            }
        };
        inputs.sort_unstable();
        inputs.dedup();
        let mut after = Vec::new();
        if draw.once_in(8) && number > 0 {
            after.push(before(draw, u64::from(number)));
        }
        let mut task = ScriptTask::new(0, inputs);
        task.after = after;
        // Now and then one takes no time at all.
        task.costs = (0..column_count).map(|_| if draw.once_in(16) { 0 } else { draw.between(1, 2 * scale_ns) }).collect();
        if has_priorities && draw.once_in(5) {
            task.priority = if draw.once_in(2) { 1 } else { -1 };
        }
        if draw.once_in(16) {
            task.pause_ns = draw.below(4 * scale_ns);
        }
        tasks.push(task);
    }
    tasks
}

/// Brings the way to the end of a task's inputs up to date, from its own number on; good enough for a policy.
fn ranks(tasks: &mut [ScriptTask], task: usize) {
    let rank_ns = tasks[task].costs[0];
    for source in tasks[task].inputs.clone() {
        let source = &mut tasks[source as usize];
        source.rank_ns = source.rank_ns.max(source.costs[0] + rank_ns);
    }
}

fn chaos(draw: &mut Draw, options: ScenarioOptions, script: &Script, span_ns: u64) -> Vec<Chaos> {
    let least = options.faults;
    let (workers, processes) = (script.columns.len() as u32, script.processes as u32);
    let (devices, tasks) = (script.devices.len() as u32, script.tasks.len() as u32);
    let first_process = workers - processes;
    let mut kinds: Vec<usize> = (0..if processes > 0 { OF_DEVICES } else { OF_PROCESSES }).collect();
    if devices > 0 {
        kinds.extend(OF_DEVICES..Chaos::KINDS.len());
    }
    kinds.retain(|kind| options.kinds.has(*kind));
    let mut chaos = Vec::new();
    let mut wanted = draw.between(least.into(), u64::from(least) + 2) as usize;
    while wanted > 0 && !kinds.is_empty() {
        let kind = kinds.swap_remove(draw.below(kinds.len() as u64) as usize);
        // To cancel everything, or to have tasks fail for good, leaves little to look at.
        if (5..7).contains(&kind) && kinds.len() >= wanted && !draw.once_in(4) {
            continue;
        }
        wanted -= 1;
        for _ in 0..draw.between(1, 4) {
            let worker = draw.below(u64::from(workers + devices)) as u32;
            let device = if devices > 0 { draw.below(devices.into()) as u32 } else { 0 };
            let process = first_process + draw.below(processes.into()) as u32;
            let from_ns = draw.below(span_ns);
            let to_ns = from_ns + draw.between(1, span_ns);
            let task = draw.below(tasks.into()) as u32;
            chaos.push(match kind {
                0 => Chaos::Hang { worker, from_ns, to_ns },
                1 => Chaos::Slow { worker, from_ns, to_ns, factor: draw.between(2, 50) as u32 },
                2 => Chaos::LateWakes { by_ns: draw.between(1, span_ns / 16 + 1), of_256: draw.between(1, 255) as u8 },
                3 => Chaos::ClockJump { at_ns: from_ns, by_ns: to_ns - from_ns },
                4 => Chaos::Fails { task, times: draw.between(1, 3) as u32 },
                5 => Chaos::Panics { task },
                6 => Chaos::Cancel { at_ns: from_ns },
                7 => Chaos::Kill { worker: process, at_ns: from_ns },
                8 => Chaos::NoProcess { worker: process, from_ns, to_ns },
                9 => Chaos::LateReplies { worker: process, every: draw.between(1, 5) as u32, by_ns: draw.below(span_ns) },
                10 => Chaos::LostReply { worker: process, call: draw.between(1, 20) as u32 },
                11 => Chaos::DeviceLost { device, at_ns: from_ns },
                12 => Chaos::MemoryFull { device, from_ns, to_ns },
                13 => Chaos::TransferFails { device, every: draw.between(1, 10) as u32 },
                14 => Chaos::Refuses { device, every: draw.between(1, 10) as u32 },
                15 => Chaos::LateCompletions { device, every: draw.between(1, 5) as u32, by_ns: draw.below(span_ns) },
                16 => Chaos::LostCompletion { device, launch: draw.between(1, 20) as u32 },
                _ => Chaos::Restart { task },
            });
        }
    }
    chaos
}
