//! A world with a clock of its own, in which the whole runtime runs: workers, queues, stealing, sleeping, waking, waiting, placement, timers.
//!
//! A [`World`] is a [`Platform`]: logical threads on one thread of the system, each with a stack of its own. One of them goes on at a time, until it sleeps. When none
//! can go on, nothing more happens at this moment: the watcher looks at the state of everything, and the clock jumps to the next event. Events have a total order: by time, then as they were
//! foreseen. Who of several goes on first is first come, first served, or drawn with the world's seed, so the same seed gives the same run, and another one other meetings of threads; or it is chosen,
//! and [`explore`] makes every choice once.
//!
//! What the runtime does takes no time; what tasks do takes what [`World::compute`] is told. [`run`] plays a whole [`Script`] so.

mod device;
mod explore;
mod failure;
mod fiber;
mod kernel;
mod machine;
mod order;
mod play;
mod program;
mod run;
mod scenario;
mod scene;
mod script;
mod shrink;
mod soak;
#[cfg(test)]
mod tests;
mod verdict;
mod work;

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::rc::Rc;

use fiber::Fiber;
use order::Order;
use poniard::platform::{self, LogicalThread, Platform};

pub use explore::{Explored, Extreme, FoundOrder, explore, run_order};
pub use failure::Failure;
pub use machine::SimBackend;
pub use order::{Choice, Choices, Misfit};
pub use play::{NotPlayed, play, unfit};
pub use run::{Ran, run};
pub use scenario::{FaultKinds, ScenarioOptions, scenario};
pub use script::{Chaos, Script, ScriptTask};
pub use shrink::{Shrunk, shrink};
pub use soak::{Found, Soaked, soak};
pub use work::{ScriptDevice, Where, Work};

/// More turns at one moment, for each thread and besides a hundred times as many, than threads take that get on: these wait for each other without sleeping.
const TURNS_MAX: u64 = 100;

/// Where a logical thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is none of this number.
    Free,
    /// It runs, or is in the queue of those that can.
    Ready,
    /// It sleeps until it is woken or its time has come.
    Parked,
    /// It computes, and does not stop before its time has come.
    Computing,
}

struct Seat {
    state: State,
    /// Taken out while it runs.
    fiber: Option<Fiber>,
    /// Whether it has been woken since it last slept.
    is_woken: bool,
    /// How often it has slept: an event for an earlier sleep is over.
    sleeps: u64,
    /// Whether it goes on for want of anything to do until others have done something.
    has_relaxed: bool,
    limit: usize,
    /// The worker that it is a thread of.
    worker: Option<u32>,
    name: Box<str>,
}

/// What happens at a time: a logical thread goes on that has slept so often. As part of what is ordered: by time, then as it was foreseen.
type Event = Reverse<(u64, u64, u32, u64)>;

/// Nobody can go on any more, or threads go on for ever at one moment, and what should have ended has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// When, in nanoseconds.
    pub at_ns: u64,
    /// The threads that have not ended.
    pub threads: Vec<String>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} ns nobody gets on; there are {}", self.at_ns, self.threads.join(", "))
    }
}

impl std::error::Error for Stuck {}

/// Threads and time.
pub struct World {
    now_ns: Cell<u64>,
    seed: u64,
    random: Cell<u64>,
    order: RefCell<Order>,
    /// When the clock jumps, and by how much; the next one last.
    jumps: RefCell<Vec<(u64, u64)>>,
    /// How late wake-ups may come, in nanoseconds, and how many of 256 do.
    late: Cell<(u64, u8)>,
    seats: RefCell<Vec<Seat>>,
    free: RefCell<Vec<u32>>,
    ready: RefCell<VecDeque<u32>>,
    events: RefCell<BinaryHeap<Event>>,
    next_event: Cell<u64>,
    /// How many events there were.
    event_count: Cell<u64>,
    running: Cell<u32>,
}

thread_local! {
    static HERE: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("now_ns", &self.now_ns).field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl World {
    /// A world at time 0 without anybody. With `draws` it is drawn who goes on when several can.
    #[must_use]
    pub fn new(seed: u64, draws: bool) -> Rc<Self> {
        Self::with_order(seed, if draws { Order::Drawn } else { Order::FirstCome })
    }

    /// The same, in which these choices say who goes on when several can, which of several events of one time comes first, and from which of several workers one steals. A thread that has
    /// nothing to do until others have done something goes on when no other can.
    #[must_use]
    pub fn choosing(seed: u64, choices: Choices) -> Rc<Self> {
        Self::with_order(seed, Order::Chosen(choices))
    }

    /// The choices that were made, and given; none in a world without.
    #[must_use]
    pub fn choices(&self) -> Choices {
        match &*self.order.borrow() {
            Order::Chosen(choices) => choices.clone(),
            _ => Choices::default(),
        }
    }

    fn with_order(seed: u64, order: Order) -> Rc<Self> {
        Rc::new(Self {
            now_ns: Cell::new(0),
            seed,
            random: Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03 | 1),
            order: RefCell::new(order),
            jumps: RefCell::default(),
            late: Cell::new((0, 0)),
            seats: RefCell::default(),
            free: RefCell::default(),
            ready: RefCell::default(),
            events: RefCell::default(),
            next_event: Cell::new(0),
            event_count: Cell::new(0),
            running: Cell::new(u32::MAX),
        })
    }

    /// The one that the calling thread is in.
    ///
    /// # Panics
    /// It is in none.
    #[must_use]
    pub fn here() -> Rc<Self> {
        match HERE.with_borrow(Option::clone) {
            Some(world) => world,
            None => panic!("this thread is in no world"),
        }
    }

    /// Has `main` run as the first logical thread, and everything that it starts, until all have ended. Whenever nobody can go on any more, before time goes on, `watch` looks.
    ///
    /// # Errors
    /// [`Stuck`]: threads are left that nobody will wake. What is on their stacks is lost.
    pub fn run<E: From<Stuck>>(
        self: &Rc<Self>,
        main: impl FnOnce() + 'static,
        mut watch: impl FnMut(u64) -> Result<(), E>,
    ) -> Result<(), E> {
        /// Leaves the world, however it ends.
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                HERE.set(None);
            }
        }
        HERE.set(Some(Rc::clone(self)));
        let _leave = Leave;
        platform::enter(Rc::clone(self) as Rc<dyn Platform>, || {
            let first = self.begin("main", None, Box::new(main));
            let mut result = self.go_on(|seats| seats[first as usize].state == State::Free, &mut watch);
            if result.is_ok() {
                // All that is left is the runtime's timer.
                platform::retire();
                result = self.go_on(|seats| seats.iter().all(|seat| seat.state == State::Free), &mut watch);
            }
            // What is left is lost.
            self.seats.take().into_iter().filter_map(|seat| seat.fiber).for_each(Fiber::abandon);
            result
        })
    }

    /// Lets everybody go on that can, then the clock, and so on until it is `over`.
    fn go_on<E: From<Stuck>>(&self, over: impl Fn(&[Seat]) -> bool, watch: &mut impl FnMut(u64) -> Result<(), E>) -> Result<(), E> {
        loop {
            let mut turns = 0_u64;
            while let Some(thread) = self.next_ready() {
                self.resume(thread);
                turns += 1;
                if turns > TURNS_MAX * (100 + self.seats.borrow().len() as u64) {
                    return Err(self.stuck().into());
                }
            }
            if over(&self.seats.borrow()) {
                return Ok(());
            }
            watch(self.now_ns.get())?;
            self.advance()?;
        }
    }

    /// Has the next event happen; where choices are made, all of its time: who of them goes on first is a choice like any other.
    fn advance(&self) -> Result<(), Stuck> {
        if !self.happen(u64::MAX) {
            return Err(self.stuck());
        }
        if matches!(*self.order.borrow(), Order::Chosen(_)) {
            while self.happen(self.now_ns.get()) {}
        }
        Ok(())
    }

    /// Has the next event happen if its time comes by `by_ns`; whether one has.
    fn happen(&self, by_ns: u64) -> bool {
        loop {
            let event = {
                let mut events = self.events.borrow_mut();
                let is_due = events.peek().is_some_and(|Reverse((at_ns, ..))| *at_ns <= by_ns);
                if is_due { events.pop() } else { None }
            };
            let Some(Reverse((at_ns, _, thread, sleep))) = event else { return false };
            let mut seats = self.seats.borrow_mut();
            let seat = &mut seats[thread as usize];
            if seat.sleeps != sleep || !matches!(seat.state, State::Parked | State::Computing) {
                continue;
            }
            // After a jump it is later than foreseen.
            let mut now_ns = self.now_ns.get().max(at_ns);
            let mut jumps = self.jumps.borrow_mut();
            while let Some((_, by_ns)) = jumps.pop_if(|(jump_ns, _)| *jump_ns <= now_ns) {
                now_ns += by_ns;
            }
            self.now_ns.set(now_ns);
            self.event_count.set(self.event_count.get() + 1);
            seat.state = State::Ready;
            drop(seats);
            self.ready.borrow_mut().push_back(thread);
            return true;
        }
    }

    fn next_ready(&self) -> Option<u32> {
        let mut ready = self.ready.borrow_mut();
        match &mut *self.order.borrow_mut() {
            Order::Drawn if ready.len() > 1 => {
                let drawn = self.random() as usize % ready.len();
                ready.swap_remove_front(drawn)
            }
            Order::Chosen(choices) => {
                let seats = self.seats.borrow();
                let eager: Vec<usize> = (0..ready.len()).filter(|at| !seats[ready[*at] as usize].has_relaxed).collect();
                let at = if eager.is_empty() { 0 } else { eager[choices.choose(eager.len())] };
                ready.remove(at)
            }
            _ => ready.pop_front(),
        }
    }

    fn resume(&self, thread: u32) {
        let mut fiber = match self.seats.borrow_mut()[thread as usize].fiber.take() {
            Some(fiber) => fiber,
            None => unreachable!("it does not run"),
        };
        self.running.set(thread);
        let has_ended = fiber.resume();
        self.running.set(u32::MAX);
        let seat = &mut self.seats.borrow_mut()[thread as usize];
        if has_ended {
            seat.state = State::Free;
            self.free.borrow_mut().push(thread);
        } else {
            seat.fiber = Some(fiber);
        }
    }

    fn stuck(&self) -> Stuck {
        let seats = self.seats.borrow();
        let threads = seats.iter().filter(|seat| seat.state != State::Free).map(|seat| seat.name.to_string());
        Stuck { at_ns: self.now_ns.get(), threads: threads.collect() }
    }

    fn begin(&self, name: &str, worker: Option<u32>, body: Box<dyn FnOnce()>) -> u32 {
        let fiber = match Fiber::new(body) {
            Ok(fiber) => fiber,
            Err(error) => panic!("no stack for the logical thread `{name}`: {error}"),
        };
        let mut seats = self.seats.borrow_mut();
        let sleeps = self.next_event.get();
        let limit = fiber.limit();
        let seat =
            Seat { state: State::Ready, fiber: Some(fiber), is_woken: false, sleeps, has_relaxed: false, limit, worker, name: name.into() };
        let thread = match self.free.borrow_mut().pop() {
            Some(thread) => {
                // No event of whoever had the number is taken for one of this thread's.
                let sleeps = seats[thread as usize].sleeps + 1;
                seats[thread as usize] = Seat { sleeps, ..seat };
                thread
            }
            None => {
                seats.push(seat);
                seats.len() as u32 - 1
            }
        };
        drop(seats);
        self.ready.borrow_mut().push_back(thread);
        thread
    }

    /// Starts a thread of a worker.
    pub(crate) fn spawn_worker(&self, worker: u32, body: Box<dyn FnOnce()>) {
        let _ = self.begin(&format!("worker {worker}"), Some(worker), body);
    }

    /// The worker that the calling thread is one of.
    #[must_use]
    pub fn worker(&self) -> Option<u32> {
        self.seats.borrow().get(self.running.get() as usize)?.worker
    }

    /// The calling thread is busy until a time, whoever wakes it.
    pub fn compute(&self, until_ns: u64) {
        if until_ns > self.now_ns.get() {
            self.sleep(State::Computing, Some(until_ns));
        }
    }

    /// How many events there were.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.event_count.get()
    }

    /// When it is `at_ns`, the clock jumps forward. What is foreseen for a time in between happens at its end.
    pub fn jump(&self, at_ns: u64, by_ns: u64) {
        let mut jumps = self.jumps.borrow_mut();
        jumps.push((at_ns, by_ns));
        jumps.sort_unstable_by(|one, other| other.cmp(one));
    }

    /// From now on so many of 256 wake-ups come late, by up to so many nanoseconds.
    pub fn delay_wakes(&self, by_ns: u64, of_256: u8) {
        self.late.set((by_ns, of_256));
    }

    /// A random number.
    pub(crate) fn random(&self) -> u64 {
        let mut state = self.random.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random.set(state);
        state
    }

    fn foresee(&self, at_ns: u64, thread: u32, sleep: u64) {
        let number = self.next_event.get();
        self.next_event.set(number + 1);
        self.events.borrow_mut().push(Reverse((at_ns, number, thread, sleep)));
    }

    fn sleep(&self, state: State, until_ns: Option<u64>) {
        let thread = self.running.get();
        let sleep = {
            let mut seats = self.seats.borrow_mut();
            let seat = &mut seats[thread as usize];
            seat.state = state;
            seat.sleeps += 1;
            seat.sleeps
        };
        if let Some(until_ns) = until_ns {
            self.foresee(until_ns.max(self.now_ns.get()), thread, sleep);
        }
        fiber::stop();
    }
}

impl Platform for World {
    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn current(&self) -> LogicalThread {
        LogicalThread(self.running.get())
    }

    fn park(&self, until_ns: Option<u64>) {
        let thread = self.running.get() as usize;
        if !std::mem::take(&mut self.seats.borrow_mut()[thread].is_woken) {
            self.sleep(State::Parked, until_ns);
            self.seats.borrow_mut()[thread].is_woken = false;
        }
    }

    fn wake(&self, thread: LogicalThread) {
        let thread = thread.0;
        let mut seats = self.seats.borrow_mut();
        // The thread may have ended since it said how to be woken.
        let Some(seat) = seats.get_mut(thread as usize).filter(|seat| seat.state != State::Free) else { return };
        if seat.state != State::Parked {
            seat.is_woken = true;
            return;
        }
        let (by_ns, of_256) = self.late.get();
        if by_ns > 0 && self.random() as u8 <= of_256 {
            let (sleep, late_ns) = (seat.sleeps, self.random() % by_ns);
            drop(seats);
            return self.foresee(self.now_ns.get() + late_ns, thread, sleep);
        }
        seat.state = State::Ready;
        drop(seats);
        self.ready.borrow_mut().push_back(thread);
    }

    fn relax(&self) {
        let thread = self.running.get();
        {
            let seat = &mut self.seats.borrow_mut()[thread as usize];
            (seat.state, seat.has_relaxed) = (State::Ready, true);
        }
        self.ready.borrow_mut().push_back(thread);
        fiber::stop();
        self.seats.borrow_mut()[thread as usize].has_relaxed = false;
    }

    fn choose(&self, count: usize) -> Option<usize> {
        match &mut *self.order.borrow_mut() {
            Order::Chosen(choices) => Some(choices.choose(count)),
            _ => None,
        }
    }

    fn spawn(&self, name: &str, body: Box<dyn FnOnce()>) {
        let _ = self.begin(name, None, body);
    }

    fn stack_left(&self) -> usize {
        let thread = self.running.get() as usize;
        self.seats.borrow().get(thread).map_or(usize::MAX, |seat| fiber::here().saturating_sub(seat.limit))
    }
}
