//! What holds under every policy, whatever happens: machines, tasks and events are made up by chance, and the same numbers make up the same ones.

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::super::{POLICIES, Source, Ticket};
use super::*;

/// How many made-up runs each policy goes through.
const RUNS: u32 = 150;

/// A machine, tasks, and what has become of them.
struct World {
    random: Random,
    board: Board<u64>,
    keeps_all_busy: bool,
    moves_for_gain: bool,
    place_count: usize,
    now: u64,
    /// The candidates of each task that was pushed.
    tasks: Vec<Vec<Candidate>>,
    /// How often each was taken, and whether it waits.
    taken: Vec<u32>,
    waiting: Vec<(Ticket, u64)>,
    /// What runs: the ticket, the task, the place.
    running: Vec<(Ticket, u64, usize)>,
    /// Places that were to be woken and have not come yet.
    wakes: Vec<usize>,
    active: Vec<bool>,
    parallel: Vec<usize>,
    log: Vec<String>,
}

impl World {
    fn new(policy_name: &str, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let place_count = 1 + random.below(6);
        let places: Vec<_> = (0..place_count)
            .map(|_| {
                let class = random.below(3) as u32;
                Place { prefetches: random.below(2) == 0, ..Place::new(class, class, 1 + random.below(3) as u32) }
            })
            .collect();
        let parallel = places.iter().map(|place| place.parallel as usize).collect();
        Self {
            board: Board::new(places, policy(policy_name), random.next_u64()),
            keeps_all_busy: policy(policy_name).keeps_all_busy(),
            moves_for_gain: ["earliest-finish", "earliest-finish-priority", "heft"].contains(&policy_name),
            random,
            place_count,
            now: 0,
            tasks: Vec::new(),
            taken: Vec::new(),
            waiting: Vec::new(),
            running: Vec::new(),
            wakes: Vec::new(),
            active: vec![true; place_count],
            parallel,
            log: Vec::new(),
        }
    }

    fn push(&mut self) {
        let number = self.tasks.len() as u64;
        let code = self.random.below(4) as u64;
        let mut candidates: Vec<_> = (0..self.place_count).filter(|_| self.random.below(3) > 0).map(|place| guess(place, 0)).collect();
        if candidates.is_empty() {
            candidates.push(guess(self.random.below(self.place_count), 0));
        }
        let classes: Vec<_> = self.board.places(self.now).iter().map(|place| u64::from(place.class)).collect();
        let count = self.random.below(6) as u32;
        for candidate in &mut candidates {
            // Codes differ in which class is good for them.
            let mean_ns = 100 * (1 + (code + 3 * classes[candidate.place]) % 5);
            candidate.execution = Estimate { mean_ns, spread_ns: 5, count: count * (classes[candidate.place] as u32 % 2 + 1) / 2 };
            candidate.missing_bytes = 100 * self.random.below(3) as u64;
            candidate.transfer_ns = candidate.missing_bytes / 2;
        }
        let rank_ns = (self.random.below(2) == 0).then(|| self.random.below(1000) as u64);
        let origin = (self.random.below(2) == 0).then(|| self.random.below(self.place_count));
        let priority = self.random.below(3) as i32;
        let task = ReadyTask { number, code, priority, rank_ns, bytes: 200, origin, candidates: &candidates };
        let pushed = self.board.push(&task, number, self.now);
        self.log.push(format!("{number} {:?} {:?}", pushed.decision, pushed.wake));
        self.wakes.extend(pushed.wake);
        self.waiting.push((pushed.ticket, number));
        self.tasks.push(candidates);
        self.taken.push(0);
    }

    fn take(&mut self, place: usize) {
        let Some(taken) = self.board.take(place, self.now) else { return };
        self.log.push(format!("{place} takes {} {:?}", taken.value, taken.how));
        assert!(self.active[place], "a place that takes no tasks has taken one");
        assert!(
            self.tasks[taken.value as usize].iter().any(|candidate| candidate.place == place),
            "task {} may not run at {place}",
            taken.value
        );
        assert!(self.waiting.contains(&(taken.ticket, taken.value)));
        if let Source::Stolen { from } | Source::TakenOver { from } = taken.how.source {
            assert_ne!(from, place);
        }
        self.waiting.retain(|(ticket, _)| *ticket != taken.ticket);
        self.taken[taken.value as usize] += 1;
        self.running.push((taken.ticket, taken.value, place));
    }

    fn has_free(&self, place: usize) -> bool {
        self.running.iter().filter(|(.., at)| *at == place).count() < self.parallel[place]
    }

    fn finish(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let (ticket, _, place) = self.running.swap_remove(self.random.below(self.running.len()));
        assert_eq!(self.board.finished(ticket, self.now).map(|ended| ended.place), Some(place));
        assert!(self.board.finished(ticket, self.now).is_none(), "a ticket is good once");
        if self.has_free(place) {
            self.take(place);
        }
    }

    fn wake(&mut self) {
        if !self.wakes.is_empty() {
            let place = self.wakes.swap_remove(self.random.below(self.wakes.len()));
            if self.has_free(place) {
                self.take(place);
            }
            self.wakes.extend(self.board.to_wake(self.now));
        }
    }

    fn set_active(&mut self, place: usize, active: bool) {
        self.active[place] = active;
        for pushed in self.board.set_active(place, active, self.now) {
            self.wakes.extend(pushed.wake);
        }
        while let Some(place) = self.board.to_wake(self.now) {
            self.wakes.push(place);
        }
    }

    fn abandon(&mut self) {
        if self.random.below(2) == 0 && !self.waiting.is_empty() {
            let (ticket, task) = self.waiting.swap_remove(self.random.below(self.waiting.len()));
            assert_eq!(self.board.abandoned(ticket, self.now), Some(task));
            self.taken[task as usize] += 1;
        } else if !self.running.is_empty() {
            let (ticket, _, place) = self.running.swap_remove(self.random.below(self.running.len()));
            assert_eq!(self.board.abandoned(ticket, self.now), None);
            if self.has_free(place) {
                self.take(place);
            }
        }
    }

    fn step(&mut self) {
        self.now += self.random.below(120) as u64;
        match self.random.below(20) {
            0..=6 => self.push(),
            7..=11 => self.finish(),
            12..=17 => self.wake(),
            18 => self.abandon(),
            _ => {
                let place = self.random.below(self.place_count);
                self.set_active(place, !self.active[place]);
            }
        }
        self.check();
    }

    fn check(&mut self) {
        assert_eq!(self.board.waiting(), self.waiting.len());
        for place in 0..self.place_count {
            let idle = self.active[place] && self.has_free(place);
            if idle && self.wakes.is_empty() && self.keeps_all_busy {
                assert!(!self.board.would_take(place, self.now), "{place} idles beside a task that it may run");
                assert_eq!(self.board.reason(place), None);
            }
            if idle && self.moves_for_gain {
                self.check_nothing_gains(place);
            }
        }
    }

    /// A place that finds nothing to take would finish nothing that waits elsewhere earlier, by more than a code's change of class has to gain and exploration may cost.
    fn check_nothing_gains(&mut self, thief: usize) {
        if self.board.would_take(thief, self.now) {
            return;
        }
        let places = self.board.places(self.now).to_vec();
        for (ticket, task) in &self.waiting {
            let Some(here) = self.tasks[*task as usize].iter().find(|candidate| candidate.place == thief) else { continue };
            let (Some(victim), why) = self.board.placed(*ticket) else { panic!("it could be taken from the queue for all") };
            // Only what comes last has a wait that one can say from outside: all that its place has to do but itself.
            let is_last = self.board.is_last(*ticket);
            let there = self.tasks[*task as usize].iter().find(|candidate| candidate.place == victim).unwrap();
            let certain = here.execution.count >= 3 && there.execution.count >= 3 && !why.name().starts_with("explored");
            if is_last && certain {
                let wait = places[victim].queued_ns.saturating_sub(there.cost_ns()) / u64::from(places[victim].parallel);
                let gain = places[victim].finish_after_ns(wait, there).saturating_sub(places[thief].finish_after_ns(0, here));
                let margin = if places[thief].class == places[victim].class { 0 } else { there.cost_ns() / 10 + 10 };
                assert!(gain <= margin, "{thief} idles, and would finish task {task} of {victim} earlier by {gain}");
            }
        }
    }

    /// No more events but the ends of tasks, until all is done.
    fn drain(&mut self) {
        for place in 0..self.place_count {
            self.set_active(place, true);
        }
        while !(self.waiting.is_empty() && self.running.is_empty()) {
            while !self.wakes.is_empty() {
                self.wake();
            }
            self.check();
            assert!(!self.running.is_empty(), "nothing runs, and {} tasks wait", self.waiting.len());
            self.now += 10;
            self.finish();
        }
        assert!(self.taken.iter().all(|count| *count == 1), "each task is taken or abandoned once: {:?}", self.taken);
        for place in self.board.places(self.now) {
            assert_eq!((place.queued, place.queued_ns), (0, 0));
        }
    }
}

fn run(policy_name: &str, seed: u64, steps: u32) -> Vec<String> {
    let mut world = World::new(policy_name, seed);
    for _ in 0..steps {
        world.step();
    }
    world.drain();
    world.log
}

/// Each task is taken once, by a place that may run it; loads return to zero; nothing waits for ever; policies that say so leave no place idle, and those that go by
/// time leave none that would be faster.
#[test]
fn every_task_runs_once_where_it_may_and_no_place_idles_without_reason() {
    for known_policy in POLICIES {
        let mut runner = TestRunner::new_with_rng(
            ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(RUNS) },
            TestRng::deterministic_rng(RngAlgorithm::ChaCha),
        );
        let outcome = runner.run(&(any::<u64>(), 0..300_u32), |(seed, steps)| {
            run(known_policy.name, seed, steps);
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{}: {error}", known_policy.name));
    }
}

#[test]
fn the_same_seed_makes_the_same_decisions() {
    for known_policy in POLICIES {
        assert_eq!(run(known_policy.name, 11, 400), run(known_policy.name, 11, 400));
        assert_ne!(run(known_policy.name, 11, 400), run(known_policy.name, 12, 400));
    }
}
