//! Scenarios in which things go wrong, each from one number.

use std::sync::Arc;

use poniard::policy::Random;

use super::script::{Chaos, Script, ScriptTask};

/// What scenarios are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScenarioOptions {
    /// The least number of tasks; up to half as many more are drawn.
    pub tasks: u32,
    /// The least number of workers; up to as many more are drawn.
    pub workers: u32,
    /// The least number of kinds of things that go wrong.
    pub faults: u32,
}

impl Default for ScenarioOptions {
    fn default() -> Self {
        Self { tasks: 200, workers: 4, faults: 2 }
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
    let processes = if draw.once_in(2) { draw.below(u64::from(workers)) as usize } else { 0 };
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
    let chaos = chaos(&mut draw, options.faults, workers, processes as u32, count, span_ns);
    Script { seed, policy: policy.map(str::to_owned), draws: true, columns, processes, tasks, chaos }
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

fn chaos(draw: &mut Draw, least: u32, workers: u32, processes: u32, tasks: u32, span_ns: u64) -> Vec<Chaos> {
    let first_process = workers - processes;
    let mut kinds: Vec<u64> = (0..if processes > 0 { 11 } else { 7 }).collect();
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
            let worker = draw.below(workers.into()) as u32;
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
                _ => Chaos::LostReply { worker: process, call: draw.between(1, 20) as u32 },
            });
        }
    }
    chaos
}
