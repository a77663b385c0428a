//! Where a ready task goes, and which one a processor takes next: the [`Policy`] trait, and what a policy sees.
//!
//! A policy is pure: the time and the random numbers are arguments, so that a simulator can run the same code. Every duration is in nanoseconds; there is no second
//! unit to mix it up with. A *place* is a processor, or a pool of like ones; a task's *candidates* are the places that may run it. Slices of places and of candidates cross the
//! boundary between two files as they are, so those types are laid out as C does.

use std::fmt;

/// How long something takes, as far as is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Estimate {
    /// What is expected, in nanoseconds.
    pub mean_ns: u64,
    /// How far single measurements lie from that, in nanoseconds.
    pub spread_ns: u64,
    /// How many measurements it rests on; with 0 it is a guess.
    pub count: u32,
}

/// A place where a task may run, and what that would cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Candidate {
    /// The place's index.
    pub place: usize,
    /// How long the task's body takes there.
    pub execution: Estimate,
    /// How long it takes to bring what is missing there, in nanoseconds.
    pub transfer_ns: u64,
    /// How many bytes have to be moved for that; more than are missing where they are moved twice.
    pub missing_bytes: u64,
    /// What a launch or a hop to another process costs, in nanoseconds.
    pub overhead_ns: u64,
}

impl Candidate {
    /// What the task costs at this place, from its turn to its end: transfer, overhead and execution.
    #[inline]
    #[must_use]
    pub fn cost_ns(&self) -> u64 {
        self.transfer_ns.saturating_add(self.overhead_ns).saturating_add(self.execution.mean_ns)
    }
}

/// A task that is ready, as policies see it.
#[derive(Clone, Copy, Debug)]
pub struct ReadyTask<'a> {
    /// Its position in the order in which tasks became ready. Ties are broken by it.
    pub number: u64,
    /// What its code is known by; tasks with one number cost the same at one kind of place, so a size class belongs to it.
    pub code: u64,
    /// Larger comes first.
    pub priority: i32,
    /// The longest way from its beginning to the end of the graph, in nanoseconds, if the graph is known and the policy [wants](Policy::wants_ranks) it. Nodes of compiled graphs
    /// have one; tasks that are spawned have none.
    pub rank_ns: Option<u64>,
    /// How many bytes its arguments have.
    pub bytes: u64,
    /// The place that made it ready, if one did.
    pub origin: Option<usize>,
    /// Where it may run, by rising place.
    pub candidates: &'a [Candidate],
}

/// A processor, or a pool of like ones, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Place {
    /// The kind of processor: places of one class run the same code at the same speed. The host's own is 0.
    pub class: u32,
    /// The memory space that it works in.
    pub space: u32,
    /// How many tasks it runs at a time; not 0.
    pub parallel: u32,
    /// Whether data is brought to it from when a task is placed there, while it still works on others; else when the task's turn comes.
    pub prefetches: bool,
    /// Whether it takes tasks.
    pub active: bool,
    /// How many tasks wait for it or run on it.
    pub queued: usize,
    /// How much longer those take it, in nanoseconds: all together, as if one ran at a time.
    pub queued_ns: u64,
    /// How long it is busy with what is not on the board, in nanoseconds. Whatever is placed here waits for that once, however much there is of it.
    pub backlog_ns: u64,
}

impl Place {
    /// A place with nothing on it.
    #[must_use]
    pub fn new(class: u32, space: u32, parallel: u32) -> Self {
        Self { class, space, parallel: parallel.max(1), prefetches: false, active: true, queued: 0, queued_ns: 0, backlog_ns: 0 }
    }

    /// Whether a task that is placed here now starts at once.
    #[inline]
    #[must_use]
    pub fn idle(&self) -> bool {
        self.queued < self.parallel as usize
    }

    /// How long a task that is placed here now waits for its turn, in nanoseconds.
    #[inline]
    #[must_use]
    pub fn wait_ns(&self) -> u64 {
        let queued_ns = if self.idle() { 0 } else { self.queued_ns / u64::from(self.parallel) };
        queued_ns.saturating_add(self.backlog_ns)
    }

    /// When a task would be over that is placed here now, in nanoseconds from now. The one formula that all policies, and explanations, use:
    /// what waits and runs here, then transfer, overhead and execution. Where data is fetched ahead, the transfer goes on during the wait.
    #[inline]
    #[must_use]
    pub fn finish_ns(&self, candidate: &Candidate) -> u64 {
        self.finish_after_ns(self.wait_ns(), candidate)
    }

    /// The same with a wait of one's own choice.
    #[inline]
    #[must_use]
    pub fn finish_after_ns(&self, wait_ns: u64, candidate: &Candidate) -> u64 {
        let start = if self.prefetches { wait_ns.max(candidate.transfer_ns) } else { wait_ns.saturating_add(candidate.transfer_ns) };
        start.saturating_add(candidate.overhead_ns).saturating_add(candidate.execution.mean_ns)
    }
}

/// What a policy sees besides the task.
#[derive(Debug)]
pub struct View<'a> {
    /// The time.
    pub now_ns: u64,
    /// All places. Candidates name them by index.
    pub places: &'a [Place],
    /// Where chance comes from.
    pub random: &'a mut Random,
}

impl View<'_> {
    /// When `candidate`'s place would have run the task, in nanoseconds from now: [`Place::finish_ns`].
    #[inline]
    #[must_use]
    pub fn finish_ns(&self, candidate: &Candidate) -> u64 {
        self.places[candidate.place].finish_ns(candidate)
    }

    /// The candidate that finishes first; of equal ones that with the fewest missing bytes, then the first place.
    #[must_use]
    pub fn earliest<'c>(&self, candidates: impl IntoIterator<Item = &'c Candidate>) -> Option<&'c Candidate> {
        candidates.into_iter().min_by_key(|candidate| (self.finish_ns(candidate), candidate.missing_bytes))
    }

    /// The decision for a task that may run at one place only.
    #[inline]
    #[must_use]
    pub fn only(&self, task: &ReadyTask<'_>) -> Option<Decision> {
        let [candidate] = task.candidates else { return None };
        Some(Decision::at(candidate, Why::OnlyCandidate, self))
    }
}

/// Where a task waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In the queue from which all places take.
    Shared,
    /// In the queue of this place.
    Place(usize),
}

/// Why a task was placed where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// It may run nowhere else.
    OnlyCandidate,
    /// No place that takes tasks may run it. Only the runtime says that.
    NoPlace,
    /// Whichever place is free first takes it.
    FirstFree,
    /// By lot.
    Chance,
    /// There it became ready.
    Origin,
    /// There most of its data is.
    Data,
    /// There it is expected to finish first.
    EarliestFinish,
    /// There it is guessed to finish first; nothing was measured often enough.
    Guessed,
    /// To learn how long its code takes there.
    Explored {
        /// What it would have cost at the best place that is known, in nanoseconds.
        instead_ns: u64,
        /// How much later it may finish for that, as far as one can say before, in nanoseconds.
        regret_ns: u64,
    },
    /// Its code ran there the last time, and the place that would finish first is not better by enough.
    Hysteresis {
        /// That place.
        instead: usize,
    },
    /// By how much faster one kind of processor is for it than another.
    Ratio,
    /// By a rule of the policy's own.
    Rule,
}

impl Why {
    /// A short name for tables and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OnlyCandidate => "only-candidate",
            Self::NoPlace => "no-place",
            Self::FirstFree => "first-free",
            Self::Chance => "chance",
            Self::Origin => "origin",
            Self::Data => "data",
            Self::EarliestFinish => "earliest-finish",
            Self::Guessed => "guessed",
            Self::Explored { .. } => "explored",
            Self::Hysteresis { .. } => "hysteresis",
            Self::Ratio => "ratio",
            Self::Rule => "rule",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnlyCandidate => "it may run nowhere else",
            Self::NoPlace => "no place that takes tasks may run it",
            Self::FirstFree => "the place that is free first takes it",
            Self::Chance => "by lot",
            Self::Origin => "it became ready there",
            Self::Data => "most of its data is there",
            Self::EarliestFinish => "expected to finish first there",
            Self::Guessed => "guessed to finish first there, since nothing was measured often enough",
            Self::Explored { .. } => "to learn how long its code takes there",
            Self::Hysteresis { .. } => "its code ran there before, and no other place is better by enough",
            Self::Ratio => "by how much faster one kind of processor is for it than another",
            Self::Rule => "by a rule of the policy's own",
        })
    }
}

/// What a policy says about a ready task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Where it waits.
    pub placement: Placement,
    /// Why.
    pub why: Why,
    /// When it is expected to be over, in nanoseconds from now; `None` if the policy did not ask.
    pub finish_ns: Option<u64>,
}

impl Decision {
    /// `candidate`'s place.
    #[inline]
    #[must_use]
    pub fn at(candidate: &Candidate, why: Why, view: &View<'_>) -> Self {
        Self { placement: Placement::Place(candidate.place), why, finish_ns: Some(view.finish_ns(candidate)) }
    }

    /// The queue for all.
    #[inline]
    #[must_use]
    pub fn shared(why: Why) -> Self {
        Self { placement: Placement::Shared, why, finish_ns: None }
    }
}

/// A task's position in a queue: the smallest comes first, the first number before the second. Equal ones follow each other as they became ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub [i64; 3]);

impl Key {
    /// Larger first: for priorities and ranks.
    #[inline]
    #[must_use]
    pub fn descending(value: i64) -> i64 {
        -value.max(-i64::MAX)
    }
}

/// Which end of a queue a task is taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// The largest first number of the keys instead of the smallest.
    pub last_level: bool,
    /// Among equal first numbers the last task instead of the first.
    pub last_within: bool,
}

/// A task that waits for another place, and that a place without work might take.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The task's code.
    pub code: u64,
    /// The place without work, and what the task would cost there.
    pub here: &'a Candidate,
    /// The place whose queue it is in, and what the task costs there.
    pub there: &'a Candidate,
    /// How long it is going to wait there for its turn, in nanoseconds, as far as that is known.
    pub wait_ns: u64,
    /// Why it is there.
    pub why: Why,
}

/// What became of a task that a policy has placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its code.
    pub code: u64,
    /// The class of the place for which it was placed, if it was.
    pub placed_class: Option<u32>,
    /// Why.
    pub why: Why,
    /// The class of the place that ran it, and how long that took with transfer and overhead, in nanoseconds; `None` if it did not run.
    pub ran: Option<(u32, u64)>,
}

/// How ready tasks are placed and taken.
///
/// A policy that is no more than an order is a few lines: place into the shared queue, and give a key.
///
/// It is called under a lock, once or a few times for each task: it answers in well under a microsecond, waits for nothing, and reads no clock.
/// A policy that is not the runtime's own and panics, or decides what cannot be, is asked nothing more; the default policy goes on in its place, and a warning says so.
pub trait Policy: Send + fmt::Debug {
    /// What it is called, on the command line and in reports.
    fn name(&self) -> &'static str;

    /// Where a ready task waits: at the place of one of its candidates, or in the queue for all. There is at least one candidate.
    fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision;

    /// Where in that queue.
    fn key(&self, _task: &ReadyTask<'_>, _placement: Placement, _places: &[Place]) -> Key {
        Key::default()
    }

    /// From which end `place` takes, of its own queue and of the one for all.
    fn end(&self, _place: usize, _places: &[Place]) -> End {
        End::default()
    }

    /// Whether `place` takes a task from the queue for all that is its turn by [`end`](Self::end), while `waiting` wait there.
    fn accepts(&self, _place: usize, _key: Key, _waiting: usize, _places: &[Place]) -> bool {
        true
    }

    /// Whether no place is ever without work while a task waits that it may run. If so, an idle place is woken for a task that waits for another one.
    fn keeps_all_busy(&self) -> bool {
        false
    }

    /// Puts those places into `order`, which is empty, from which `thief` may steal, the best first. By default none.
    fn victims(&mut self, _thief: usize, _view: &mut View<'_>, _order: &mut Vec<usize>) {}

    /// Whether thieves begin with what would come last, and not with what would come first.
    fn steals_last(&self) -> bool {
        false
    }

    /// How many tasks that may run at the same places are offered to a thief, of each victim.
    fn offers(&self) -> usize {
        1
    }

    /// What is bad about taking this task; the least bad one is taken, and with 0 no better one is looked for. `None` leaves it.
    fn steal(&self, _offer: &Offer<'_>, _places: &[Place]) -> Option<u64> {
        Some(0)
    }

    /// How many tasks a thief takes at once, out of `waiting` that it may run. Only those that are no worse than the first.
    fn share(&self, _waiting: usize) -> usize {
        1
    }

    /// Whether it looks at [`ReadyTask::rank_ns`]: ranks of a graph are not computed for a policy that does not.
    fn wants_ranks(&self) -> bool {
        false
    }

    /// Hears what became of each task.
    fn ended(&mut self, _outcome: &Outcome) {}
}

/// A small generator of random numbers: the same seed gives the same ones everywhere.
///
/// SplitMix64, from Guy L. Steele Jr., Doug Lea and Christine H. Flood, "Fast splittable pseudorandom number generators", 2014: a counter with
/// an odd step, whose bits are then mixed. Any seed is a good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random(u64);

impl Random {
    /// The numbers that belong to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed of the numbers that are still to come.
    #[inline]
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0
    }

    /// The next number.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, 0 if that is 0. The high half of a product: its bias is at most `bound` / 2^64.
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }
}
