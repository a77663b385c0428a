//! Why a run took as long as it did: why each task began when it did, the chain that ended last, and why processors had nothing to do.

use std::collections::BTreeMap;

use poniard::policy::Placement;

use crate::engine::{self, Decided, Outcome};
use crate::problem::{NEVER, Problem};
use crate::schedule::Schedule;

/// Why a task began when it did and not before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// It began with the run, or when its graph arrived.
    Begin,
    /// It needs what ended then.
    Dependency,
    /// What it needs was on its way.
    Data,
    /// Its processor ran something else until then.
    Processor,
    /// It could have begun before, and the policy or the planner did not want that.
    Policy,
}

impl Cause {
    /// A short name for tables and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Dependency => "dependency",
            Self::Data => "data",
            Self::Processor => "processor",
            Self::Policy => "policy",
        }
    }
}

/// Why a task began when it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The cause.
    pub cause: Cause,
    /// The task that had to end before: one that it needs, or the one before it on its processor.
    pub after: Option<usize>,
    /// How long after that one's end it began, in nanoseconds; after the beginning of the run where there is none.
    pub wait_ns: u64,
}

/// Why a processor had nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Idle {
    /// No task was ready that it can run.
    NoReadyWork,
    /// The data of its next task was on its way.
    Data,
    /// A task that it can run was ready, and was kept for another time or another processor.
    Policy,
}

impl Idle {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NoReadyWork, Self::Data, Self::Policy];

    /// What it is called in tables and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoReadyWork => "no ready work",
            Self::Data => "data",
            Self::Policy => "policy",
        }
    }
}

/// A time in which a processor has nothing to do, for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The processor.
    pub processor: usize,
    /// When it begins, in nanoseconds.
    pub start_ns: u64,
    /// When it is over.
    pub end_ns: u64,
    /// Why.
    pub idle: Idle,
}

/// The data of an edge on its way from one memory space to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The edge.
    pub edge: usize,
    /// Where it begins.
    pub source: usize,
    /// The task that needs the data.
    pub target: usize,
    /// The space that it leaves.
    pub from: usize,
    /// The space that it goes to.
    pub to: usize,
    /// When it begins, in nanoseconds.
    pub start_ns: u64,
    /// When it is over.
    pub end_ns: u64,
}

/// Which of the engine's transfers brought what each task takes from other spaces. One may have brought it for several.
fn carried(problem: &Problem<'_>, schedule: &Schedule, moved: &[engine::Transfer]) -> Vec<Transfer> {
    let workload = problem.workload();
    let mut known: BTreeMap<(u32, u32, u64), Vec<&engine::Transfer>> = BTreeMap::new();
    for transfer in moved {
        known.entry((transfer.task, transfer.to, transfer.bytes)).or_default().push(transfer);
    }
    let mut carried = Vec::new();
    for target in 0..problem.len() {
        let (to, start_ns) = (problem.space(schedule.processor[target] as usize), schedule.start_ns[target]);
        for (source, edge) in workload.edges_in(target) {
            let Some(ways) = known.get(&(source as u32, to as u32, workload.bytes(edge))) else { continue };
            // It may have been given up in between, and brought again.
            let Some(way) = ways.iter().rev().find(|way| way.end_ns <= start_ns) else { continue };
            let (from, start_ns, end_ns) = (way.from as usize, way.start_ns, way.end_ns);
            carried.push(Transfer { edge, source, target, from, to, start_ns, end_ns });
        }
    }
    carried
}

/// Why a run took as long as it did.
#[derive(Clone, Debug, Default)]
pub struct Causes {
    steps: Vec<Step>,
    ready_ns: Vec<u64>,
    critical: Vec<usize>,
    gaps: Vec<Gap>,
    transfers: Vec<Transfer>,
    /// The tasks of each processor, in their order.
    lanes: Vec<Vec<usize>>,
}

impl Causes {
    /// Finds them. Where and when data travels follows from `schedule` and from what was decided: in a plan as soon as it is there, in a live run when the task that
    /// needs it is placed, or taken if it is placed nowhere. Cost: sorting all tasks.
    #[must_use]
    pub fn new(problem: &Problem<'_>, schedule: &Schedule, decisions: Option<&[Decided]>) -> Self {
        let transfers = transfers(problem, schedule, decisions);
        Self::with_transfers(problem, schedule, transfers)
    }

    /// The same for what the engine ran and kept.
    #[must_use]
    pub fn of_run(problem: &Problem<'_>, schedule: &Schedule, outcome: &Outcome) -> Self {
        if outcome.transfers.is_empty() {
            // Nothing was decided while a plan ran.
            let decisions = (!outcome.decisions.is_empty()).then_some(&outcome.decisions[..]);
            return Self::new(problem, schedule, decisions);
        }
        Self::with_transfers(problem, schedule, carried(problem, schedule, &outcome.transfers))
    }

    /// The same where it is known when data travelled: `transfers` by the number of their target.
    #[must_use]
    pub fn with_transfers(problem: &Problem<'_>, schedule: &Schedule, transfers: Vec<Transfer>) -> Self {
        let workload = problem.workload();
        let lanes = lanes(problem, schedule);
        let mut causes = Self { steps: Vec::with_capacity(problem.len()), lanes, transfers, ..Self::default() };
        let mut before: Vec<Option<usize>> = vec![None; problem.len()];
        for lane in &causes.lanes {
            lane.windows(2).for_each(|pair| before[pair[1]] = Some(pair[0]));
        }
        // When each task is not ready for others any more: it began, or its processor waits for its data.
        let mut held_ns = schedule.start_ns.clone();
        let mut next_transfer = 0;
        for (task, before) in before.into_iter().enumerate() {
            let start_ns = schedule.start_ns[task];
            let own = causes.transfers[next_transfer..].iter().take_while(|transfer| transfer.target == task).count();
            let own = &causes.transfers[next_transfer..next_transfer + own];
            next_transfer += own.len();
            let end_ns = |task: usize| schedule.end_ns[task];
            let sources = || workload.edges_in(task).map(|(source, _)| source);
            let last_source = sources().max_by_key(|source| end_ns(*source));
            let release_ns = problem.release_ns(task);
            let ready_ns = last_source.map_or(0, end_ns).max(release_ns);
            let free_ns = before.map_or(0, end_ns);
            let last = own.iter().max_by_key(|transfer| transfer.end_ns);
            let (cause, after) = match last {
                Some(last) if last.end_ns >= start_ns && last.end_ns > ready_ns.max(free_ns) => {
                    let sent_ns = own.iter().map(|transfer| transfer.start_ns).min().unwrap_or(start_ns);
                    held_ns[task] = free_ns.max(ready_ns).max(sent_ns).min(start_ns);
                    let had_ended = sources().chain(before).filter(|other| end_ns(*other) <= last.start_ns);
                    (Cause::Data, had_ended.max_by_key(|other| (end_ns(*other), *other == last.source)))
                }
                _ if last_source.is_some_and(|source| end_ns(source) >= start_ns) => (Cause::Dependency, last_source),
                _ if before.is_some() && free_ns >= start_ns => (Cause::Processor, before),
                _ if start_ns <= release_ns => (Cause::Begin, None),
                _ => (Cause::Policy, sources().chain(before).max_by_key(|other| end_ns(*other))),
            };
            causes.steps.push(Step { cause, after, wait_ns: start_ns - after.map_or(0, end_ns) });
            causes.ready_ns.push(ready_ns);
        }
        let last = (0..problem.len()).rev().max_by_key(|task| schedule.end_ns[*task]);
        causes.critical = std::iter::successors(last, |task| causes.steps[*task].after).collect();
        causes.critical.reverse();
        causes.find_gaps(problem, schedule, &held_ns);
        causes
    }

    fn find_gaps(&mut self, problem: &Problem<'_>, schedule: &Schedule, held_ns: &[u64]) {
        let makespan_ns = schedule.makespan_ns();
        // Columns that can run everything see the same tasks.
        let column_count = (0..problem.processor_count()).map(|processor| problem.column(processor) + 1).max().unwrap_or(0);
        let is_able = |column: Option<usize>, task: usize| {
            column.is_none_or(|column| problem.row(task).get(column).is_some_and(|cost| *cost != NEVER))
        };
        let is_general = |column: usize| (0..problem.len()).all(|task| is_able(Some(column), task));
        let general = waiting(problem.len(), &self.ready_ns, held_ns, |task| is_able(None, task));
        let own: Vec<_> = (0..column_count)
            .map(|column| {
                (!is_general(column)).then(|| waiting(problem.len(), &self.ready_ns, held_ns, |task| is_able(Some(column), task)))
            })
            .collect();
        for (processor, lane) in self.lanes.iter().enumerate() {
            let waiting = own[problem.column(processor)].as_ref().unwrap_or(&general);
            let mut free_ns = 0;
            for next in lane.iter().copied().map(Some).chain([None]) {
                let (held_ns, start_ns) = next.map_or((makespan_ns, makespan_ns), |next| (held_ns[next], schedule.start_ns[next]));
                let mut push = |start_ns: u64, end_ns: u64, idle: Idle| {
                    if start_ns < end_ns {
                        self.gaps.push(Gap { processor, start_ns, end_ns, idle });
                    }
                };
                let mut at_ns = free_ns;
                let held_ns = held_ns.max(free_ns);
                let first = waiting.partition_point(|(_, end_ns)| *end_ns <= free_ns);
                for (from_ns, to_ns) in waiting[first..].iter().take_while(|(from_ns, _)| *from_ns < held_ns) {
                    let (from_ns, to_ns) = ((*from_ns).max(free_ns), (*to_ns).min(held_ns));
                    push(at_ns, from_ns, Idle::NoReadyWork);
                    push(from_ns, to_ns, Idle::Policy);
                    at_ns = to_ns;
                }
                push(at_ns, held_ns, Idle::NoReadyWork);
                push(held_ns, start_ns, Idle::Data);
                free_ns = next.map_or(makespan_ns, |next| schedule.end_ns[next]);
            }
        }
    }

    /// Why a task began when it did.
    #[must_use]
    pub fn step(&self, task: usize) -> Step {
        self.steps[task]
    }

    /// When all that a task needs was over, in nanoseconds.
    #[must_use]
    pub fn ready_ns(&self, task: usize) -> u64 {
        self.ready_ns[task]
    }

    /// The chain of tasks and waits that ends last, in its order. Together with the waits before each ([`step`](Self::step)) they are as long as the run.
    #[must_use]
    pub fn critical(&self) -> &[usize] {
        &self.critical
    }

    /// When processors had nothing to do, by processor, then by time.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// How long processors had nothing to do for this reason, all together, in nanoseconds.
    #[must_use]
    pub fn idle_ns(&self, idle: Idle) -> u64 {
        self.gaps.iter().filter(|gap| gap.idle == idle).fold(0, |sum, gap| sum.saturating_add(gap.end_ns - gap.start_ns))
    }

    /// How long the critical path waits for this reason, in nanoseconds.
    #[must_use]
    pub fn critical_wait_ns(&self, cause: Cause) -> u64 {
        self.critical.iter().map(|task| self.steps[*task]).filter(|step| step.cause == cause).map(|step| step.wait_ns).sum()
    }

    /// The data that travelled, by the number of the task that needs it.
    #[must_use]
    pub fn transfers(&self) -> &[Transfer] {
        &self.transfers
    }

    /// The tasks of a processor in their order.
    #[must_use]
    pub fn lane(&self, processor: usize) -> &[usize] {
        &self.lanes[processor]
    }
}

/// The tasks of each processor in their order; tasks that take no time in an order in which each comes behind those that it needs.
fn lanes(problem: &Problem<'_>, schedule: &Schedule) -> Vec<Vec<usize>> {
    let mut lanes = vec![Vec::new(); problem.processor_count()];
    problem.workload().order().into_iter().for_each(|task| lanes[schedule.processor[task as usize] as usize].push(task as usize));
    lanes.iter_mut().for_each(|lane| lane.sort_by_key(|task| (schedule.start_ns[*task], schedule.end_ns[*task])));
    lanes
}

/// When data travels that has to.
fn transfers(problem: &Problem<'_>, schedule: &Schedule, decisions: Option<&[Decided]>) -> Vec<Transfer> {
    let workload = problem.workload();
    let space = |task: usize| problem.space(schedule.processor[task] as usize);
    // Of each task when it was placed in the space where it ran.
    let mut placed_ns = vec![None; if decisions.is_some() { problem.len() } else { 0 }];
    for decided in decisions.unwrap_or_default() {
        if let Placement::Place(place) = decided.decision.placement
            && problem.space(place) == space(decided.task as usize)
        {
            placed_ns[decided.task as usize] = Some(decided.at_ns);
        }
    }
    let mut found = Vec::new();
    for target in 0..problem.len() {
        let to = space(target);
        let first = found.len();
        let mut longest_ns = 0;
        for (source, edge) in workload.edges_in(target) {
            let from = space(source);
            let takes_ns = problem.transfer_ns(edge, from, to);
            if takes_ns > 0 {
                longest_ns = longest_ns.max(takes_ns);
                let start_ns = schedule.end_ns[source];
                found.push(Transfer { edge, source, target, from, to, start_ns, end_ns: start_ns + takes_ns });
            }
        }
        if let Some(placed_ns) = placed_ns.get(target) {
            let sent_ns = placed_ns.unwrap_or(schedule.start_ns[target].saturating_sub(longest_ns));
            for transfer in &mut found[first..] {
                transfer.end_ns = sent_ns + (transfer.end_ns - transfer.start_ns);
                transfer.start_ns = sent_ns;
            }
        }
    }
    found
}

/// When some task among those that `is_meant` waits although it is ready.
fn waiting(count: usize, ready_ns: &[u64], held_ns: &[u64], is_meant: impl Fn(usize) -> bool) -> Vec<(u64, u64)> {
    let mut times: Vec<(u64, u64)> =
        (0..count).filter(|task| ready_ns[*task] < held_ns[*task] && is_meant(*task)).map(|task| (ready_ns[task], held_ns[task])).collect();
    times.sort_unstable();
    times.dedup_by(|later, kept| {
        let meets = later.0 <= kept.1;
        if meets {
            kept.1 = kept.1.max(later.1);
        }
        meets
    });
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{self, EngineOptions};
    use crate::plan::PLANNERS;
    use crate::platform::Platform;
    use crate::workload::{Generate, Workload, WorkloadBuilder};

    fn built(works: &[u64], edges: &[(usize, usize, u64)]) -> Workload {
        let mut builder = WorkloadBuilder::new("w");
        for (task, work) in works.iter().enumerate() {
            builder.task(&task.to_string(), "code", *work);
        }
        edges.iter().for_each(|(from, to, bytes)| builder.edge(*from, *to, *bytes));
        builder.build().unwrap()
    }

    fn schedule(rows: &[(u32, u64, u64)]) -> Schedule {
        let mut schedule = Schedule::with_room(rows.len());
        rows.iter().enumerate().for_each(|(task, (processor, start, end))| schedule.set(task, *processor as usize, *start, *end));
        schedule
    }

    fn gaps(causes: &Causes) -> Vec<(usize, u64, u64, Idle)> {
        causes.gaps().iter().map(|gap| (gap.processor, gap.start_ns, gap.end_ns, gap.idle)).collect()
    }

    #[test]
    fn a_task_waits_for_what_it_needs_for_its_data_for_its_processor_or_for_the_planner() {
        let platform = Platform::of_speeds(&[1.0, 1.0], Some(1e9)).unwrap();
        let workload = built(&[10, 10, 10, 10, 10], &[(0, 1, 5), (1, 2, 5), (3, 4, 0)]);
        let problem = Problem::new(&workload, &platform);
        // 0 | 1 by data on the other one | 2 at once there; 3 behind 0; 4 later than it could.
        let plan = schedule(&[(0, 0, 10), (1, 15, 25), (1, 25, 35), (0, 10, 20), (0, 30, 40)]);
        plan.check(&problem).unwrap();
        let causes = Causes::new(&problem, &plan, None);
        let step = |cause, after, wait_ns| Step { cause, after, wait_ns };
        assert_eq!(
            [0, 1, 2, 3, 4].map(|task| causes.step(task)),
            [
                step(Cause::Begin, None, 0),
                step(Cause::Data, Some(0), 5),
                step(Cause::Dependency, Some(1), 0),
                step(Cause::Processor, Some(0), 0),
                step(Cause::Policy, Some(3), 10),
            ]
        );
        assert_eq!(causes.critical(), [0, 3, 4]);
        assert_eq!((causes.critical_wait_ns(Cause::Policy), causes.critical_wait_ns(Cause::Data)), (10, 0));
        use Idle::{Data, NoReadyWork, Policy};
        assert_eq!(
            gaps(&causes),
            // In the beginning task 3 is ready, and the other processor could have run it.
            [(0, 20, 30, Policy), (1, 0, 10, Policy), (1, 10, 15, Data), (1, 35, 40, NoReadyWork)]
        );
        assert_eq!(Idle::ALL.map(|idle| causes.idle_ns(idle)), [5, 5, 20]);
        let moved = Transfer { edge: 0, source: 0, target: 1, from: 0, to: 1, start_ns: 10, end_ns: 15 };
        assert_eq!(causes.transfers(), [moved]);
    }

    #[test]
    fn what_a_processor_cannot_run_is_no_reason_of_the_policy() {
        let platform = Platform::of_speeds(&[1.0, 2.0], None).unwrap();
        let workload = built(&[10, 10], &[]);
        let problem = Problem::with_costs(&workload, &platform, vec![0, 1], vec![10, NEVER, 10, NEVER]);
        let causes = Causes::new(&problem, &schedule(&[(0, 0, 10), (0, 10, 20)]), None);
        assert_eq!(gaps(&causes), [(1, 0, 20, Idle::NoReadyWork)]);
    }

    #[test]
    fn tasks_without_duration_make_no_circle() {
        let platform = Platform::of_speeds(&[1.0], None).unwrap();
        let workload = built(&[0, 0, 5], &[(1, 0, 0), (2, 1, 0)]);
        let problem = Problem::new(&workload, &platform);
        let causes = Causes::new(&problem, &schedule(&[(0, 5, 5), (0, 5, 5), (0, 0, 5)]), None);
        assert_eq!((causes.lane(0), causes.critical()), (&[2, 1, 0][..], &[2, 1, 0][..]));
        assert_eq!(causes.step(0).after, Some(1));
    }

    #[test]
    fn the_critical_path_is_as_long_as_the_run_and_gaps_are_all_that_is_not_work() {
        let platform =
            Platform::from_toml("[link]\nbandwidth=1e9\nlatency=1e-5\n[[processor]]\ncount=3\nspace='host'\n[[processor]]\nspeed=4\n")
                .unwrap();
        for text in ["layered:300,ccr=1", "cholesky:6,ccr=2", "random:100,ccr=0.5,seed=3", "independent:20", "fft:16,ccr=5"] {
            let workload = Generate::parse(text).unwrap().workload();
            let problem = Problem::new(&workload, &platform);
            let plans = PLANNERS
                .iter()
                .filter(|planner| planner.check(problem.len()).is_ok())
                .map(|planner| (planner.name, (planner.plan)(&problem), None));
            let live = ["fifo", "earliest-finish", "heft", "work-stealing", "locality-stealing", "random"].into_iter().map(|name| {
                let options = EngineOptions { seed: 1, keeps_decisions: true, ..EngineOptions::default() };
                let outcome = engine::run(&problem, poniard::policy::by_name(name).unwrap(), options);
                (name, outcome.schedule.clone(), Some(outcome))
            });
            for (name, schedule, outcome) in plans.chain(live) {
                let planned = || Causes::new(&problem, &schedule, None);
                let causes = outcome.as_ref().map_or_else(planned, |outcome| Causes::of_run(&problem, &schedule, outcome));
                let length = |task: &usize| schedule.end_ns[*task] - schedule.start_ns[*task] + causes.step(*task).wait_ns;
                let makespan_ns = schedule.makespan_ns();
                assert_eq!(causes.critical().iter().map(length).sum::<u64>(), makespan_ns, "{text} {name}");
                let idle: u64 = Idle::ALL.iter().map(|idle| causes.idle_ns(*idle)).sum();
                let busy: u64 = schedule.busy_ns(problem.processor_count()).iter().sum();
                assert_eq!(idle + busy, makespan_ns * problem.processor_count() as u64, "{text} {name}");
                for transfer in causes.transfers() {
                    assert!(transfer.start_ns >= schedule.end_ns[transfer.source], "{text} {name}: {transfer:?}");
                    assert!(transfer.end_ns <= schedule.start_ns[transfer.target], "{text} {name}: {transfer:?}");
                }
                // Whoever takes whatever there is leaves nothing that is ready.
                if name == "fifo" || name == "work-stealing" {
                    assert_eq!(causes.idle_ns(Idle::Policy), 0, "{text} {name}");
                }
            }
        }
    }
}
