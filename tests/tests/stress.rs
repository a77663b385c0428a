//! Random programs on more workers than there are cores: threads and tasks that spawn, wait, take, clone, drop, detach and cancel as a seed has it.
//!
//! `PONIARD_STRESS_SEED=7` sets the seed of the first program, which a failure prints; `PONIARD_STRESS_SECONDS=60` sets how long there are further ones. How
//! threads meet differs from run to run all the same.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};

use poniard::{Data, FailureKind, Gather, Handle, Mutable, Priority, Task, TaskError, overwrite, read, write};
use poniard_tests::threads;

const WORKERS: usize = 16;
/// Threads that are no workers.
const FOREIGN: u64 = 3;
/// What each of those does in a program.
const STEPS: u64 = 250;
/// Tasks spawn tasks down to here.
const DEPTH_MAX: u32 = 3;
const PLACES: usize = 3;
/// Longer than a program takes; one that takes so long hangs.
const FOREVER: Duration = Duration::from_secs(60);

/// What the threads of one program share.
struct Stage {
    handle: Handle,
    places: Vec<(Mutable<Place>, AtomicU64)>,
    alive: Arc<AtomicI64>,
    /// What is wrong, noted wherever it is seen: in a task it would be that task's error, which nobody might look at.
    wrong: Mutex<Vec<String>>,
}

impl Stage {
    fn expect(&self, right: bool, what: impl FnOnce() -> String) {
        if !right {
            self.wrong.lock().expect("not poisoned").push(what());
        }
    }
}

/// A number that knows how many of its sort there are. Dropped twice, it frees its box twice.
#[derive(Data)]
struct Counted {
    value: Box<u64>,
    alive: Arc<AtomicI64>,
}

impl Counted {
    fn new(stage: &Stage, value: u64) -> Self {
        stage.alive.fetch_add(1, SeqCst);
        Self { value: Box::new(value), alive: Arc::clone(&stage.alive) }
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.alive.fetch_add(1, SeqCst);
        Self { value: self.value.clone(), alive: Arc::clone(&self.alive) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, SeqCst);
    }
}

/// Changed in place, with a note of who is at it.
#[derive(Data, Default)]
struct Place {
    count: u64,
    writing: AtomicBool,
    readers: AtomicI64,
}

/// Splitmix64. Source: Steele, Lea, Flood, OOPSLA 2014.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// A handle, and the value if there is one.
#[derive(Clone)]
struct Known {
    task: Task<Counted>,
    value: u64,
}

/// A thread or a task that does random things.
///
/// It waits only for tasks that were spawned before it, or that it spawned itself, so nobody waits in a circle. For the same reason only threads use places,
/// and tasks that do wait for nothing.
struct Actor {
    stage: Arc<Stage>,
    random: Random,
    known: Vec<Known>,
    depth: u32,
}

impl Actor {
    fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            self.step();
        }
    }

    fn step(&mut self) {
        match self.random.below(if self.depth == 0 { 20 } else { 16 }) {
            0..=2 => self.spawn_alone(),
            3..=6 => self.spawn_dependent(),
            7 => self.spawn_gather(),
            8 => self.spawn_detached(),
            9 => {
                if let Some(Known { task, value }) = self.pick().cloned() {
                    self.check(value, task.fetch().map(|fetched| *fetched.value));
                }
            }
            10 => {
                if let Some(Known { task, value }) = self.remove() {
                    self.check(value, task.take().map(|taken| *taken.value));
                }
            }
            11 => drop(self.remove()),
            12 => {
                if let Some(known) = self.remove() {
                    known.task.detach();
                }
            }
            13 => {
                if let Some(known) = self.pick().cloned() {
                    self.known.push(known);
                }
            }
            14 => {
                if self.random.one_in(3)
                    && let Some(known) = self.pick()
                {
                    known.task.cancel();
                }
            }
            15 => std::thread::yield_now(),
            _ => self.use_place(),
        }
    }

    fn pick(&mut self) -> Option<&Known> {
        let index = self.index()?;
        self.known.get(index)
    }

    fn remove(&mut self) -> Option<Known> {
        self.index().map(|index| self.known.swap_remove(index))
    }

    fn index(&mut self) -> Option<usize> {
        (!self.known.is_empty()).then(|| self.random.below(self.known.len() as u64) as usize)
    }

    fn check(&self, value: u64, outcome: Result<u64, TaskError>) {
        match outcome {
            Ok(found) => self.stage.expect(found == value, || format!("{found} instead of {value}")),
            Err(error) => self.stage.expect(is_intended(&error), || format!("{error}")),
        }
    }

    /// What a task does before it returns: with a number of its own, so that it does not depend on when it runs.
    fn body(&mut self, value: u64) -> impl FnOnce(u64) -> Result<Counted, String> + Send + 'static {
        let stage = Arc::clone(&self.stage);
        let captured = Counted::new(&stage, value);
        let mut random = Random(self.random.next());
        let steps = if self.depth < DEPTH_MAX && random.one_in(4) { random.below(8) } else { 0 };
        let depth = self.depth + 1;
        // Handles that are older than the task.
        let known = (0..if steps > 0 { random.below(3) } else { 0 }).filter_map(|_| self.pick().cloned()).collect();
        move |sum| {
            let mut actor = Self { stage, random, known, depth };
            actor.run(steps);
            if actor.random.one_in(40) {
                return Err("as intended".into());
            }
            Ok(Counted::new(&actor.stage, sum.wrapping_add(*captured.value)))
        }
    }

    fn keep(&mut self, task: Task<Counted>, value: u64) {
        if self.random.one_in(8) {
            // Its last handle, perhaps before it has begun.
            return;
        }
        self.known.push(Known { task, value });
        if self.known.len() > 24 {
            drop(self.remove());
        }
    }

    fn priority(&mut self) -> Priority {
        match self.random.below(8) {
            0 => Priority::High,
            1 => Priority::Low,
            _ => Priority::Normal,
        }
    }

    fn spawn_alone(&mut self) {
        let value = self.random.next();
        let argument = Counted::new(&self.stage, value);
        let body = self.body(value);
        let sum = value.wrapping_add(value);
        let task = match self.random.below(6) {
            0 => {
                let occupancy = [0.0, 0.25, 0.5, 2.0][self.random.below(4) as usize];
                let priority = self.priority();
                let builder = self.stage.handle.task(move |own: Counted| body(*own.value), (argument,));
                builder.occupancy(occupancy).priority(priority).spawn()
            }
            1 => {
                let priority = self.priority();
                self.stage.handle.task(move |own: Counted| body(*own.value), (argument,)).priority(priority).spawn()
            }
            2 => self.stage.handle.spawn(move |own: &Counted| body(*own.value), (argument,)),
            _ => self.stage.handle.spawn(move |own: Counted| body(*own.value), (argument,)),
        };
        self.keep(task, sum);
    }

    fn spawn_dependent(&mut self) {
        let Some(first) = self.pick().cloned() else { return self.spawn_alone() };
        // The handle itself, at times: then the task may be the value's last user.
        let second = if self.random.one_in(2) { self.remove() } else { self.pick().cloned() };
        let Some(second) = second else { return };
        let value = self.random.next();
        let sum = first.value.wrapping_add(second.value).wrapping_add(value);
        let body = self.body(value);
        let task = if self.random.one_in(2) {
            let by_reference = move |one: &Counted, two: &Counted| body(one.value.wrapping_add(*two.value));
            self.stage.handle.spawn(by_reference, (first.task, &second.task))
        } else {
            let by_value = move |one: Counted, two: Counted| body(one.value.wrapping_add(*two.value));
            self.stage.handle.spawn(by_value, (first.task, second.task))
        };
        self.keep(task, sum);
    }

    fn spawn_gather(&mut self) {
        let count = self.random.below(10);
        let parts: Vec<Known> = (0..count).filter_map(|_| self.pick().cloned()).collect();
        let value = self.random.next();
        let sum = parts.iter().fold(value, |sum, known| sum.wrapping_add(known.value));
        let body = self.body(value);
        let all = move |parts: Gather<'_, Counted>| body(parts.iter().fold(0, |sum, part| sum.wrapping_add(*part.value)));
        let task = self.stage.handle.spawn(all, (parts.into_iter().map(|known| known.task).collect::<Vec<_>>(),));
        self.keep(task, sum);
    }

    fn spawn_detached(&mut self) {
        let value = self.random.next();
        let body = self.body(value);
        self.stage.handle.spawn_detached(move || body(0), ());
    }

    fn use_place(&mut self) {
        let index = self.random.below(PLACES as u64) as usize;
        let stage = Arc::clone(&self.stage);
        let (place, _) = &self.stage.places[index];
        if self.random.one_in(2) {
            let body = move |place: &Place| {
                place.readers.fetch_add(1, SeqCst);
                stage.expect(!place.writing.load(SeqCst), || "read while it is written".into());
                std::thread::yield_now();
                place.readers.fetch_sub(1, SeqCst);
            };
            let task = self.stage.handle.spawn(body, (read(place),));
            self.use_reader(task);
            return;
        }
        let access = if self.random.one_in(4) { overwrite(place) } else { write(place) };
        let value = self.random.next();
        let captured = Counted::new(&stage, value);
        let dependency = self.pick().cloned();
        let sum = dependency.as_ref().map_or(value, |known| known.value.wrapping_add(value));
        let body = move |place: &mut Place, more: Gather<'_, Counted>| {
            stage.places[index].1.fetch_add(1, SeqCst);
            stage.expect(!place.writing.swap(true, SeqCst), || "written twice at once".into());
            stage.expect(place.readers.load(SeqCst) == 0, || "written while it is read".into());
            place.count += 1;
            std::thread::yield_now();
            place.writing.store(false, SeqCst);
            Counted::new(&stage, more.iter().fold(*captured.value, |sum, more| sum.wrapping_add(*more.value)))
        };
        let more: Vec<_> = dependency.into_iter().map(|known| known.task).collect();
        let task = self.stage.handle.spawn(body, (access, more));
        self.keep(task, sum);
    }

    fn use_reader(&mut self, task: Task<()>) {
        match self.random.below(4) {
            0 => task.detach(),
            1 => drop(task),
            2 => drop(task.cancel()),
            _ => {
                let outcome = task.wait();
                self.stage.expect(outcome.as_ref().err().is_none_or(is_intended), || format!("{outcome:?}"));
            }
        }
    }
}

/// Whether a task may fail like that here.
fn is_intended(error: &TaskError) -> bool {
    match error.kind() {
        FailureKind::Cancelled | FailureKind::Unneeded => true,
        FailureKind::Returned(error) => error.to_string() == "as intended",
        FailureKind::Dependency(root) => is_intended(root),
        _ => false,
    }
}

/// One program, from a runtime's beginning to its end.
fn run(seed: u64) -> Vec<String> {
    let runtime = threads(WORKERS);
    let alive = Arc::new(AtomicI64::new(0));
    let places = (0..PLACES).map(|_| (Mutable::new(Place::default()), AtomicU64::new(0))).collect();
    let stage = Arc::new(Stage { handle: runtime.handle(), places, alive: Arc::clone(&alive), wrong: Mutex::default() });
    let mut seeds = Random(seed);
    let foreign: Vec<_> = (0..FOREIGN)
        .map(|_| {
            let (stage, random) = (Arc::clone(&stage), Random(seeds.next()));
            std::thread::spawn(move || Actor { stage, random, known: Vec::new(), depth: 0 }.run(STEPS))
        })
        .collect();
    for thread in foreign {
        thread.join().expect("a thread of the program does not panic");
    }
    for (place, written) in &stage.places {
        // The number of tasks that wrote, some of which may have been cancelled on the way.
        let count = runtime.spawn(|place: &mut Place| place.count, (overwrite(place),)).take();
        let written = written.load(SeqCst);
        stage.expect(count.as_ref().ok() == Some(&written), || format!("{written} tasks wrote, and their place says {count:?}"));
    }
    runtime.wait_idle();
    drop(runtime);
    let left = alive.load(SeqCst);
    stage.expect(left == 0, || format!("{left} values more were made than dropped"));
    std::mem::take(&mut *stage.wrong.lock().expect("not poisoned"))
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not `{text}`")))
}

#[test]
fn random_programs_end_with_right_values_and_drop_everything_once() {
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let first = variable("PONIARD_STRESS_SEED").unwrap_or_else(now);
    let until = Instant::now() + Duration::from_secs(variable("PONIARD_STRESS_SECONDS").unwrap_or(3));
    for seed in (0..).map(|round| first.wrapping_add(round)) {
        let (give, take) = mpsc::channel();
        std::thread::spawn(move || give.send(run(seed)));
        match take.recv_timeout(FOREVER) {
            Ok(wrong) => assert!(wrong.is_empty(), "PONIARD_STRESS_SEED={seed}: {}", wrong.join("; ")),
            Err(error) => panic!("PONIARD_STRESS_SEED={seed}: no end ({error})"),
        }
        if Instant::now() >= until {
            break;
        }
    }
}
