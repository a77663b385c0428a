//! A plan that is changed where it is critical, and changed back unless that was no worse: Min-You Wu, Wei Shu and Jun Gu, "Efficient local search for DAG scheduling",
//! 2001. What is changed is not the plan but what it is made from, the order of the tasks and some fixed processors, so that every change is a whole schedule by
//! HEFT's rule, gaps filled. It begins with HEFT's plan, made again from its end and then from its beginning: Vicente Valls, Francisco Ballestín and Sacramento
//! Quintanilla, "Justification and RCPSP: a technique that pays", 2005.

use std::cmp::Reverse;

use poniard::policy::Random;

use super::{Plan, Slot, Spot};
use crate::problem::{NEVER, Problem};
use crate::schedule::Schedule;

/// So many changes are tried on graphs of moderate size.
pub(super) const SHORT: usize = 200;
/// So many where time matters less.
pub(super) const LONG: usize = 2_000;
/// So many tasks are placed at most, unless that is fewer than [`LEAST`] changes.
const MOST_PLACED: usize = 40_000_000;
const LEAST: usize = 20;

/// Of so many changes one is to all of the order, a little.
const SHAKEN: usize = 10;
/// A task comes earlier by up to this part of the plan's length.
const LEAP_DIVISOR: u64 = 5;

/// HEFT's plan or a given one, whichever is shorter, with up to `rounds` changes.
pub(super) fn refine(problem: &Problem<'_>, given: Option<Made>, rounds: usize) -> Schedule {
    let mut search = Search::new(problem, given);
    let bound_ns = problem.lower_bound_ns();
    let rounds = rounds.min((MOST_PLACED / problem.len().max(1)).max(LEAST));
    for _ in 0..rounds {
        if search.best.makespan_ns() <= bound_ns {
            break;
        }
        search.change();
    }
    search.best
}

/// A plan, and what it was made from.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) schedule: Schedule,
    /// Of each task how early it is its turn: no less than that of any task that needs it.
    pub(super) keys: Vec<u64>,
    /// Of each task the processor that it was given; `u32::MAX` where it went where it finished first.
    pub(super) fixed: Vec<u32>,
}

struct Search<'p> {
    plan: Plan<'p>,
    /// The place of each task in an order that respects the edges.
    position: Vec<u32>,
    /// Tasks against that order.
    backwards: Vec<u32>,
    /// Of each task the least time from its end to the end of all.
    tail_ns: Vec<u64>,
    /// The best plan, and what it was made from.
    best: Schedule,
    best_keys: Vec<u64>,
    best_order: Vec<u32>,
    fixed: Vec<u32>,
    /// What is tried.
    keys: Vec<u64>,
    order: Vec<u32>,
    /// The tasks that the best plan's length depends on.
    critical: Vec<u32>,
    random: Random,
}

impl<'p> Search<'p> {
    fn new(problem: &'p Problem<'p>, given: Option<Made>) -> Self {
        let order = problem.workload().order();
        let mut position = vec![0; problem.len()];
        order.iter().enumerate().for_each(|(at, task)| position[*task as usize] = at as u32);
        let least: Vec<u64> = (0..problem.len()).map(|task| problem.row(task).iter().copied().min().unwrap_or(0)).collect();
        let mut tail_ns = problem.ranks_of(&least, &vec![0; problem.workload().edge_count()]);
        tail_ns.iter_mut().zip(&least).for_each(|(tail, least)| *tail -= least);
        let count = problem.processor_count().max(1) as u64;
        let mut search = Self {
            plan: Plan::new(problem),
            position,
            backwards: order.iter().rev().copied().collect(),
            tail_ns,
            best: Schedule::default(),
            best_keys: Vec::new(),
            best_order: Vec::new(),
            fixed: vec![u32::MAX; problem.len()],
            keys: problem.upward_rank_sums().into_iter().map(|sum| sum / count).collect(),
            order,
            critical: Vec::new(),
            random: Random::new(1),
        };
        search.sort();
        search.fill(0, NEVER);
        search.keep();
        search.justify();
        if let Some(Made { schedule, keys, fixed }) = given.filter(|given| given.schedule.makespan_ns() < search.best.makespan_ns()) {
            search.plan.schedule = schedule;
            (search.keys, search.fixed) = (keys, fixed);
            search.sort();
            search.keep();
        }
        search
    }

    /// The order that the keys say.
    fn sort(&mut self) {
        let Self { order, keys, position, .. } = self;
        order.sort_unstable_by_key(|task| (Reverse(keys[*task as usize]), position[*task as usize]));
    }

    /// Plans from the end what ends last first, then from the beginning what begins first by that.
    fn justify(&mut self) {
        let Self { order, plan, position, .. } = self;
        order.sort_unstable_by_key(|task| Reverse((plan.schedule.end_ns[*task as usize], position[*task as usize])));
        plan.clear(true);
        for &task in order.iter() {
            plan.place_best(task as usize);
        }
        self.keys.clone_from(&self.plan.schedule.end_ns);
        self.plan.clear(false);
        self.sort();
        if self.fill(0, self.best.makespan_ns()) {
            self.keep();
        }
    }

    /// Places the first tasks as in the best plan, and the others by the order; gives up if that gets longer than `most_ns`.
    fn fill(&mut self, known: usize, most_ns: u64) -> bool {
        self.plan.clear(false);
        let (first, others) = self.order.split_at(known);
        for &task in first {
            let task = task as usize;
            let (processor, start_ns, end_ns) = (self.best.processor[task] as usize, self.best.start_ns[task], self.best.end_ns[task]);
            self.plan.place(task, Spot { processor, start_ns, end_ns });
        }
        for &task in others {
            let task = task as usize;
            self.plan.arrive(task);
            let fixed = Some(self.fixed[task]).filter(|fixed| *fixed != u32::MAX);
            let spot = fixed.and_then(|processor| self.plan.spot(task, processor as usize, Slot::Insertion));
            let spot = spot.unwrap_or_else(|| self.plan.best(task, Slot::Insertion));
            if spot.end_ns.saturating_add(self.tail_ns[task]) > most_ns {
                return false;
            }
            self.plan.place(task, spot);
        }
        true
    }

    /// What was tried is the best.
    fn keep(&mut self) {
        self.best.clone_from(&self.plan.schedule);
        self.best_keys.clone_from(&self.keys);
        self.best_order.clone_from(&self.order);
        self.find_critical();
    }

    fn change(&mut self) {
        let most_ns = self.best.makespan_ns();
        let leap = usize::try_from(most_ns / LEAP_DIVISOR).unwrap_or(usize::MAX - 1) + 1;
        self.keys.clone_from(&self.best_keys);
        let mut freed = None;
        if self.random.below(SHAKEN) == 0 {
            self.shake(leap);
        } else {
            let task = self.critical[self.random.below(self.critical.len())] as usize;
            if self.random.below(2) == 0 {
                let key = self.keys[task].saturating_add(self.random.below(leap) as u64);
                self.raise(task, key);
            } else {
                freed = Some((task, self.fixed[task]));
                self.fix(task);
            }
        }
        self.sort();
        let changed = freed.map(|(task, _)| task as u32);
        let known = self.order.iter().zip(&self.best_order).take_while(|(one, other)| one == other && changed != Some(**one)).count();
        if known < self.order.len() && self.fill(known, most_ns) {
            self.keep();
        } else if let Some((task, fixed)) = freed {
            self.fixed[task] = fixed;
        }
    }

    /// Changes all keys a little.
    fn shake(&mut self, leap: usize) {
        let workload = self.plan.problem.workload();
        for &task in &self.backwards {
            let task = task as usize;
            let own = (self.keys[task].saturating_add(self.random.below(leap) as u64)).saturating_sub(leap as u64 / 2);
            self.keys[task] = workload.edges_out(task).map(|edge| self.keys[workload.target(edge)]).fold(own, u64::max);
        }
    }

    /// It is a task's turn earlier, and that of all that it needs.
    fn raise(&mut self, task: usize, key: u64) {
        let mut open = vec![task];
        while let Some(task) = open.pop() {
            if self.keys[task] < key {
                self.keys[task] = key;
                open.extend(self.plan.problem.workload().edges_in(task).map(|(source, _)| source));
            }
        }
    }

    /// A task goes to another processor, or where it finishes first again.
    fn fix(&mut self, task: usize) {
        let problem = self.plan.problem;
        if self.fixed[task] != u32::MAX && self.random.below(2) == 0 {
            self.fixed[task] = u32::MAX;
            return;
        }
        let processor = self.random.below(problem.processor_count());
        if processor as u32 != self.best.processor[task] && problem.cost_ns(task, processor) != NEVER {
            self.fixed[task] = processor as u32;
        }
    }

    /// Goes back from the task that ends last, each time to what the task waited for: data, or else its processor.
    fn find_critical(&mut self) {
        let Self { plan, best, position, order, critical, .. } = self;
        let problem = plan.problem;
        let key = |task: u32| {
            let task = task as usize;
            (best.end_ns[task], best.start_ns[task], position[task])
        };
        order.sort_unstable_by_key(|&task| (best.processor[task as usize], key(task)));
        let mut before = vec![u32::MAX; problem.len()];
        for pair in order.windows(2).filter(|pair| best.processor[pair[0] as usize] == best.processor[pair[1] as usize]) {
            before[pair[1] as usize] = pair[0];
        }
        critical.clear();
        // Each one lies before the last one by the key, so this ends.
        let mut next = order.iter().copied().max_by_key(|&task| key(task));
        while let Some(task) = next {
            critical.push(task);
            let (here, start_ns) = (best.processor[task as usize] as usize, best.start_ns[task as usize]);
            let mut needed = problem.workload().edges_in(task as usize);
            let data = needed.find(|&(source, edge)| {
                let from = problem.space(best.processor[source] as usize);
                best.end_ns[source] + problem.transfer_ns(edge, from, problem.space(here)) == start_ns
            });
            let waited = Some(before[task as usize]).filter(|&before| before != u32::MAX && best.end_ns[before as usize] == start_ns);
            next = data.map(|(source, _)| source as u32).or(waited).filter(|_| start_ns > 0);
        }
    }
}
