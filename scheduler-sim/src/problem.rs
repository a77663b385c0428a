//! A workload on a platform: how long each task takes on each processor, and each edge between two memory spaces.

use std::fmt;
use std::sync::OnceLock;

use poniard::policy::Random;

use crate::blocks::Blocks;
use crate::network::Sharing;
use crate::platform::{Overheads, Platform};
use crate::uncertainty::{Durations, Estimates, lognormal, normal, wrong};
use crate::workload::Workload;

/// What stands for "cannot run there".
pub const NEVER: u64 = u64::MAX;

/// How long each task takes everywhere, and how long its data travels. All in whole nanoseconds, rounded to the nearest.
#[derive(Clone, Debug)]
pub struct Problem<'a> {
    workload: &'a Workload,
    platform: Platform,
    /// Of each processor its column of `costs`.
    columns: Vec<u32>,
    column_count: usize,
    /// How many processors each column stands for.
    column_sizes: Vec<u64>,
    /// One row for each task: what those who decide believe.
    costs: Vec<u64>,
    /// The same: what it is, if that is something else.
    durations: Vec<u64>,
    /// One row for each code, of standard deviations; none if nothing is known of any.
    spreads: Vec<u64>,
    is_blind: bool,
    /// Of each task when it may begin at the earliest; nothing if all may at once.
    releases: Vec<u64>,
    spaces: Vec<u32>,
    space_count: usize,
    /// Of a pair of spaces its column of `transfers`; the last one is the pair of equal ones, which costs nothing.
    link_of: Vec<u32>,
    link_count: usize,
    /// One row for each edge.
    transfers: Vec<u64>,
    /// How many ordered pairs of different processors are on each link.
    pairs: Vec<u64>,
    /// Of each edge what it takes between two different processors' spaces in the mean over the ordered pairs of processors, times their number. Not every policy asks.
    mean_transfers: OnceLock<Vec<u64>>,
}

/// Some task can run nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impossible {
    /// The task.
    pub task: String,
    /// What kind of work it is.
    pub code: String,
    /// How many bytes it takes and returns, if memory is limited somewhere.
    pub bytes: Option<u64>,
    /// The kinds of processors that there are.
    pub kinds: Vec<String>,
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no processor can run task `{}` (`{}`)", self.task, self.code)?;
        if let Some(bytes) = self.bytes {
            write!(f, " with the {bytes} bytes that it takes and returns")?;
        }
        write!(f, "; there are processors of kind {}", self.kinds.join(", "))
    }
}

impl std::error::Error for Impossible {}

impl<'a> Problem<'a> {
    /// Each task takes its work divided by the processor's speed.
    #[must_use]
    pub fn new(workload: &'a Workload, platform: &Platform) -> Self {
        let processors = platform.processors();
        // Processors of the host are of the first kind, as in the runtime.
        let mut order: Vec<usize> = (0..processors.len()).collect();
        order.sort_by_key(|processor| processors[*processor].kind != "cpu");
        let mut firsts: Vec<usize> = Vec::new();
        let mut columns = vec![0; processors.len()];
        for processor in order {
            let known = firsts.iter().position(|first| platform.are_alike(*first, processor));
            columns[processor] = known.unwrap_or_else(|| {
                firsts.push(processor);
                firsts.len() - 1
            }) as u32;
        }
        let over = |ns: u64, speed: f64| match speed {
            1.0 => ns,
            speed => (ns as f64 / speed).round() as u64,
        };
        let speed = |first: &usize| processors[*first].speed;
        let codes: Vec<_> =
            workload.code_names().iter().map(|code| firsts.iter().map(|first| platform.cost(code, *first)).collect()).collect();
        let is_limited = (0..platform.spaces().len()).any(|space| platform.memory(space).is_some());
        let blocks = is_limited.then(|| Blocks::new(workload, false));
        let mut costs = Vec::with_capacity(workload.len() * firsts.len());
        for task in 0..workload.len() {
            let known: &Vec<_> = &codes[workload.code(task) as usize];
            let held = blocks.as_ref().map_or(0, |blocks| blocks.held_by(workload, task));
            costs.extend(firsts.iter().zip(known).map(|(first, known)| match known {
                _ if platform.memory(processors[*first].space).is_some_and(|limit| held > limit) => NEVER,
                None => over(workload.work_ns(task), speed(first)),
                Some(None) => NEVER,
                Some(Some(cost)) => over(cost.mean_ns, speed(first)),
            }));
        }
        let mut problem = Self::with_costs(workload, platform, columns, costs);
        let spread =
            |(first, known): (&usize, &Option<Option<crate::Cost>>)| known.flatten().map_or(0, |cost| over(cost.spread_ns, speed(first)));
        problem.spreads = codes.iter().flat_map(|known: &Vec<_>| firsts.iter().zip(known).map(spread)).collect();
        problem
    }

    /// The same with a row of costs for each task, in which a processor's is at its number in `columns`; [`NEVER`] where it cannot run.
    ///
    /// # Panics
    /// The numbers of costs, tasks and columns do not fit each other.
    #[must_use]
    pub fn with_costs(workload: &'a Workload, platform: &Platform, columns: Vec<u32>, costs: Vec<u64>) -> Self {
        let processors = platform.processors();
        assert_eq!(columns.len(), processors.len(), "one column for each processor");
        let column_count = columns.iter().max().map_or(0, |last| *last as usize + 1);
        assert_eq!(costs.len(), workload.len() * column_count, "one cost for each task and column");
        let mut column_sizes = vec![0; column_count];
        columns.iter().for_each(|column| column_sizes[*column as usize] += 1);
        let spaces: Vec<u32> = processors.iter().map(|processor| processor.space as u32).collect();
        let space_count = platform.spaces().len();
        let mut links = Vec::new();
        let mut link_of = Vec::with_capacity(space_count * space_count);
        for from in 0..space_count {
            for to in 0..space_count {
                let link = platform.link(from, to);
                link_of.push(match (from == to, links.iter().position(|known| *known == link)) {
                    (true, _) => u32::MAX,
                    (false, Some(known)) => known as u32,
                    (false, None) => {
                        links.push(link);
                        links.len() as u32 - 1
                    }
                });
            }
        }
        let link_count = links.len();
        link_of.iter_mut().filter(|link| **link == u32::MAX).for_each(|link| *link = link_count as u32);
        let transfers: Vec<u64> =
            (0..workload.edge_count()).flat_map(|edge| links.iter().map(move |link| link.time_ns(workload.bytes(edge)))).collect();
        let mut in_space = vec![0_u64; space_count];
        spaces.iter().for_each(|space| in_space[*space as usize] += 1);
        let mut pairs = vec![0_u64; link_count];
        for from in 0..space_count {
            for to in (0..space_count).filter(|to| *to != from) {
                pairs[link_of[from * space_count + to] as usize] += in_space[from] * in_space[to];
            }
        }
        Self {
            workload,
            platform: platform.clone(),
            columns,
            column_count,
            column_sizes,
            costs,
            durations: Vec::new(),
            spreads: Vec::new(),
            is_blind: false,
            releases: Vec::new(),
            spaces,
            space_count,
            link_of,
            link_count,
            transfers,
            pairs,
            mean_transfers: OnceLock::new(),
        }
    }

    /// Whether every task can run somewhere.
    ///
    /// # Errors
    /// One cannot.
    pub fn check(&self, platform: &Platform) -> Result<(), Impossible> {
        let stuck = (0..self.len()).find(|task| self.row(*task).iter().all(|cost| *cost == NEVER));
        let Some(task) = stuck else { return Ok(()) };
        let mut kinds: Vec<String> = platform.processors().iter().map(|processor| processor.kind.clone()).collect();
        kinds.dedup();
        let code = self.workload.code_names()[self.workload.code(task) as usize].clone();
        let is_limited = (0..platform.spaces().len()).any(|space| platform.memory(space).is_some());
        let bytes = is_limited.then(|| Blocks::new(self.workload, false).held_by(self.workload, task));
        Err(Impossible { bytes, task: self.workload.task_name(task).to_owned(), code, kinds })
    }

    /// The same work, which takes something else, and of which those who decide believe something else. What comes is the seed's.
    #[must_use]
    pub fn uncertain(mut self, durations: Durations, estimates: Estimates, seed: u64) -> Self {
        let Self { workload, column_count, .. } = self;
        let mut random = Random::new(seed ^ 0x6475_7261_7469_6f6e);
        let written = std::mem::take(&mut self.costs);
        let times = |ns: u64, factor: f64| if ns == NEVER { NEVER } else { (ns as f64 * factor).round().min(1e18) as u64 };
        let mut by_code: Vec<Vec<usize>> = vec![Vec::new(); workload.code_names().len()];
        (0..workload.len()).for_each(|task| by_code[workload.code(task) as usize].push(task));
        let row_of = |of: &[u64], task: usize| of[task * column_count..(task + 1) * column_count].to_vec();
        let mut actual = Vec::with_capacity(written.len());
        for task in 0..workload.len() {
            let row = row_of(&written, task);
            let code = workload.code(task) as usize;
            // All processors have the same luck with a task, so policies are compared on the same day.
            match durations {
                Durations::Exact => actual.extend(row),
                Durations::Scaled(factor) => actual.extend(row.into_iter().map(|ns| times(ns, factor))),
                Durations::Lognormal(variation) => {
                    let factor = lognormal(normal(&mut random), variation);
                    actual.extend(row.into_iter().map(|ns| times(ns, factor)));
                }
                Durations::Measured => {
                    let luck = normal(&mut random);
                    actual.extend(row.into_iter().enumerate().map(|(column, ns)| {
                        let spread_ns = self.spreads.get(code * column_count + column).copied().unwrap_or(0);
                        times(ns, if ns == 0 { 1.0 } else { lognormal(luck, spread_ns as f64 / ns as f64) })
                    }));
                }
                Durations::Sampled => {
                    let drawn = row_of(&written, by_code[code][random.below(by_code[code].len())]);
                    // Where one of the two has no room, it is as written.
                    actual.extend(row.into_iter().zip(drawn).map(|(own, drawn)| if own == NEVER || drawn == NEVER { own } else { drawn }));
                }
            }
        }
        self.costs = match estimates {
            Estimates::Exact => actual.clone(),
            Estimates::User => written,
            Estimates::Wrong(factor) => actual.iter().map(|ns| times(*ns, wrong(&mut random, factor))).collect(),
            Estimates::Mean => {
                let means = by_code.iter().flat_map(|tasks| {
                    let actual = &actual;
                    (0..column_count).map(move |column| mean(tasks.iter().map(|task| actual[task * column_count + column])))
                });
                let means: Vec<u64> = means.collect();
                let mean_of = |at: usize| means[workload.code(at / column_count) as usize * column_count + at % column_count];
                actual.iter().enumerate().map(|(at, ns)| if *ns == NEVER { NEVER } else { mean_of(at) }).collect()
            }
            Estimates::Blind => {
                let all = mean(actual.iter().copied());
                actual.iter().map(|ns| if *ns == NEVER { NEVER } else { all }).collect()
            }
        };
        self.is_blind = estimates == Estimates::Blind;
        self.durations = if self.costs == actual { Vec::new() } else { actual };
        self
    }

    /// The same with tasks that may not begin before a time each, in nanoseconds from the beginning.
    ///
    /// # Panics
    /// There are more or fewer times than tasks.
    #[must_use]
    pub fn released(mut self, releases_ns: Vec<u64>) -> Self {
        assert_eq!(releases_ns.len(), self.len(), "one time for each task");
        self.releases = releases_ns;
        self
    }

    /// The same for a part of the tasks alone. `workload` has them in the order of `tasks`.
    ///
    /// # Panics
    /// There are more or fewer numbers than tasks in `workload`.
    #[must_use]
    pub fn only<'b>(&self, workload: &'b Workload, tasks: &[u32]) -> Problem<'b> {
        assert_eq!(workload.len(), tasks.len(), "one number for each task");
        let rows = |all: &[u64]| -> Vec<u64> {
            let width = if all.is_empty() { 0 } else { self.column_count };
            tasks.iter().flat_map(|task| &all[*task as usize * width..(*task as usize + 1) * width]).copied().collect()
        };
        let mut part = Problem::with_costs(workload, &self.platform, self.columns.clone(), rows(&self.costs));
        part.durations = rows(&self.durations);
        part.spreads.clone_from(&self.spreads);
        part.is_blind = self.is_blind;
        part.releases = tasks.iter().filter_map(|task| self.releases.get(*task as usize)).copied().collect();
        part
    }

    /// When a task may begin at the earliest, in nanoseconds from the beginning.
    #[must_use]
    pub fn release_ns(&self, task: usize) -> u64 {
        self.releases.get(task).copied().unwrap_or(0)
    }

    /// Whether what was planned comes like that: all takes what planners believe, and nothing that they do not look at is in the way.
    #[must_use]
    pub fn is_as_planned(&self) -> bool {
        let Self { durations, platform, .. } = self;
        let has_memory = (0..self.space_count).all(|space| platform.memory(space).is_none());
        durations.is_empty()
            && self.releases.is_empty()
            && platform.sharing() == Sharing::None
            && has_memory
            && platform.overheads() == Overheads::default()
    }

    /// The platform.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The workload.
    #[must_use]
    pub fn workload(&self) -> &'a Workload {
        self.workload
    }

    /// The number of tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.workload.len()
    }

    /// Whether there is no task.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workload.is_empty()
    }

    /// The number of processors.
    #[must_use]
    pub fn processor_count(&self) -> usize {
        self.columns.len()
    }

    /// What a processor is called.
    #[must_use]
    pub fn processor_name(&self, processor: usize) -> &str {
        &self.platform.processors()[processor].name
    }

    /// The number of memory spaces.
    #[must_use]
    pub fn space_count(&self) -> usize {
        self.space_count
    }

    /// What a memory space is called.
    #[must_use]
    pub fn space_name(&self, space: usize) -> &str {
        &self.platform.spaces()[space]
    }

    /// The memory space of a processor.
    #[must_use]
    pub fn space(&self, processor: usize) -> usize {
        self.spaces[processor] as usize
    }

    /// How long a task takes on a processor, as those believe who decide; [`NEVER`] where it cannot run.
    #[must_use]
    pub fn cost_ns(&self, task: usize, processor: usize) -> u64 {
        self.costs[task * self.column_count + self.columns[processor] as usize]
    }

    /// How long a task takes on a processor; [`NEVER`] where it cannot run.
    #[must_use]
    pub fn duration_ns(&self, task: usize, processor: usize) -> u64 {
        self.duration_row(task)[self.columns[processor] as usize]
    }

    /// How long a task takes, by [`column`](Self::column).
    pub(crate) fn duration_row(&self, task: usize) -> &[u64] {
        let all = if self.durations.is_empty() { &self.costs } else { &self.durations };
        &all[task * self.column_count..(task + 1) * self.column_count]
    }

    /// How far single runs of a task lie from the mean, by [`column`](Self::column); nothing if nothing is known of any.
    pub(crate) fn spread_row(&self, task: usize) -> &[u64] {
        let from = self.workload.code(task) as usize * self.column_count;
        self.spreads.get(from..from + self.column_count).unwrap_or_default()
    }

    /// Whether those who decide know anything at all.
    pub(crate) fn is_known(&self) -> bool {
        !self.is_blind
    }

    /// Which processors take the same time for every task: those with the same number.
    #[must_use]
    pub fn column(&self, processor: usize) -> usize {
        self.columns[processor] as usize
    }

    /// The costs of a task, as those believe who decide, by [`column`](Self::column).
    #[must_use]
    pub fn row(&self, task: usize) -> &[u64] {
        &self.costs[task * self.column_count..(task + 1) * self.column_count]
    }

    /// How long the data of an edge travels from one memory space to another alone; nothing within one.
    #[must_use]
    pub fn transfer_ns(&self, edge: usize, from: usize, to: usize) -> u64 {
        let link = self.link_of[from * self.space_count + to] as usize;
        if link == self.link_count { 0 } else { self.transfers[edge * self.link_count + link] }
    }

    /// If all pairs of different spaces are alike: how long the data of an edge travels between two.
    #[must_use]
    pub fn uniform_transfer_ns(&self, edge: usize) -> Option<u64> {
        match self.link_count {
            0 => Some(0),
            1 => Some(self.transfers[edge]),
            _ => None,
        }
    }

    /// What a task takes in the mean over the processors that can run it, times the number of all processors: exact where it can run on each.
    #[must_use]
    pub fn mean_cost_sum(&self, task: usize) -> u64 {
        let able = self.row(task).iter().zip(&self.column_sizes).filter(|(cost, _)| **cost != NEVER);
        let (sum, count) = able
            .fold((0_u128, 0_u128), |(sum, count), (cost, size)| (sum + u128::from(*cost) * u128::from(*size), count + u128::from(*size)));
        let all = self.processor_count() as u128;
        u64::try_from(if count == all { sum } else { sum * all / count.max(1) }).unwrap_or(u64::MAX)
    }

    /// What an edge takes in the mean over the pairs of different processors, times the number of processors.
    #[must_use]
    pub fn mean_transfer_sum(&self, edge: usize) -> u64 {
        self.mean_transfers()[edge]
    }

    fn mean_transfers(&self) -> &[u64] {
        self.mean_transfers.get_or_init(|| self.computed_mean_transfers())
    }

    fn computed_mean_transfers(&self) -> Vec<u64> {
        match self.link_count {
            0 => vec![0; self.workload.edge_count()],
            _ => self.each_mean_transfer().collect(),
        }
    }

    /// For each edge; for none, if nothing takes time.
    fn each_mean_transfer(&self) -> impl Iterator<Item = u64> + '_ {
        // The mean over count * (count - 1) pairs, times the count.
        let divisor = (self.processor_count() as u128).max(2) - 1;
        let mean = move |row: &[u64]| {
            let sum: u128 = row.iter().zip(&self.pairs).map(|(ns, pairs)| u128::from(*ns) * u128::from(*pairs)).sum();
            u64::try_from((sum + divisor / 2) / divisor).unwrap_or(u64::MAX)
        };
        let rows = (self.link_count > 0).then(|| self.transfers.chunks_exact(self.link_count));
        rows.into_iter().flatten().map(mean)
    }

    /// How long all tasks and all transfers take by what is believed, one after the other, in the mean over the processors that can run them and over the pairs of different ones, in nanoseconds. The
    /// ratio of the second to the first is the communication-to-computation ratio.
    #[must_use]
    pub fn volumes_ns(&self) -> (u64, u64) {
        let count = self.processor_count().max(1) as u128;
        let costs: u128 = (0..self.len()).map(|task| u128::from(self.mean_cost_sum(task))).sum();
        let transfers: u128 = self.each_mean_transfer().map(u128::from).sum();
        [costs, transfers].map(|sum| u64::try_from(sum / count).unwrap_or(u64::MAX)).into()
    }

    /// The upward rank of each task ([`upward_ranks`](poniard::policy::ranks::upward_ranks)), times the number of processors.
    #[must_use]
    pub fn upward_rank_sums(&self) -> Vec<u64> {
        let costs: Vec<u64> = (0..self.len()).map(|task| self.mean_cost_sum(task)).collect();
        match self.mean_transfers.get() {
            Some(transfers) => self.ranks_of(&costs, transfers),
            // They are not kept: most of those who want ranks want nothing else.
            None => self.ranks_of(&costs, &self.computed_mean_transfers()),
        }
    }

    /// Upward ranks of these costs of tasks and transfers of edges.
    pub(crate) fn ranks_of(&self, costs: &[u64], transfers: &[u64]) -> Vec<u64> {
        match poniard::policy::ranks::upward_ranks(self.workload.successors(), costs, transfers) {
            Ok(ranks) => ranks,
            Err(cycle) => unreachable!("a workload has no circle: {cycle}"),
        }
    }

    /// No schedule is shorter than the longest way with each task where it is fastest and no transfer, nor than all work shared out evenly.
    #[must_use]
    pub fn lower_bound_ns(&self) -> u64 {
        let longest = self.longest_ways_ns().into_iter().max().unwrap_or(0);
        longest.max(self.area_bound_ns(0..self.len()))
    }

    /// The same for parts of the tasks, each as if it had the machine for itself from when its first task may begin. No edge leads from one part to another.
    #[must_use]
    pub fn lower_bounds_ns(&self, parts: impl IntoIterator<Item = std::ops::Range<usize>>) -> Vec<u64> {
        let ways = self.longest_ways_ns();
        let bound = |part: std::ops::Range<usize>| {
            let begin_ns = part.clone().map(|task| self.release_ns(task)).min().unwrap_or(0);
            let longest = part.clone().map(|task| ways[task]).max().unwrap_or(0);
            longest.saturating_sub(begin_ns).max(self.area_bound_ns(part))
        };
        parts.into_iter().map(bound).collect()
    }

    /// How long a task takes where it is fastest.
    fn least_ns(&self, task: usize) -> u64 {
        self.duration_row(task).iter().copied().min().unwrap_or(0)
    }

    /// Of each task the longest way to its end with each task where it is fastest and no transfer, and none before it is released.
    fn longest_ways_ns(&self) -> Vec<u64> {
        let workload = self.workload;
        let mut missing: Vec<u32> = (0..self.len()).map(|task| workload.in_degree(task) as u32).collect();
        let mut ready: Vec<u32> = (0..self.len() as u32).filter(|task| missing[*task as usize] == 0).collect();
        let mut ways = vec![0_u64; self.len()];
        while let Some(task) = ready.pop() {
            let task = task as usize;
            ways[task] = ways[task].max(self.release_ns(task)).saturating_add(self.least_ns(task));
            for edge in workload.edges_out(task) {
                let target = workload.target(edge);
                ways[target] = ways[target].max(ways[task]);
                missing[target] -= 1;
                if missing[target] == 0 {
                    ready.push(target as u32);
                }
            }
        }
        ways
    }

    /// In a time T each processor does T / cost of a task: where processors differ by a factor only, work shared out by speed; else each task where it is fastest.
    fn area_bound_ns(&self, tasks: std::ops::Range<usize>) -> u64 {
        // Of each column the largest factor by which it is slower than the fastest one for some task: it does no more than that share.
        let mut factors = vec![f64::INFINITY; self.column_count];
        let mut work = 0.0;
        for task in tasks {
            let least_ns = self.least_ns(task);
            work += least_ns as f64;
            if least_ns == 0 {
                continue;
            }
            for (factor, cost) in factors.iter_mut().zip(self.duration_row(task)) {
                let slower = if *cost == NEVER { f64::INFINITY } else { *cost as f64 / least_ns as f64 };
                *factor = factor.min(slower);
            }
        }
        let capacity: f64 = factors.iter().zip(&self.column_sizes).map(|(factor, size)| *size as f64 / factor.max(1.0)).sum();
        // Rounded down, as durations were rounded to the nearest.
        (work / capacity.max(1.0) * (1.0 - 1e-9)).floor().max(0.0) as u64
    }
}

/// Of those that are not [`NEVER`], rounded to the nearest.
fn mean(all: impl Iterator<Item = u64>) -> u64 {
    let (sum, count) = all.filter(|ns| *ns != NEVER).fold((0_u128, 0), |(sum, count), ns| (sum + u128::from(ns), count + 1));
    ((sum + count / 2) / count.max(1)) as u64
}
