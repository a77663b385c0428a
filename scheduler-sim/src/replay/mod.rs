//! Decisions of a run that really happened, made again: a [`DecisionLog`] is gone through event by event, at the times that it says, with the runtime's own [`Board`] and a policy, and
//! each answer is compared with what was decided then.
//!
//! What was decided then also happens, whatever the policy says now: a task that would be placed elsewhere is placed where it was, and a place takes what it took. So each decision is
//! made in the situation in which it was made before, and one that differs is one difference, and not the beginning of another run.

mod check;
mod followed;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use poniard::policy::{
    Board, Candidate, Decision, DecisionLog, Event, Placement, Policy, Pushed, ReadyTask, Replaced, Source, Subject, Ticket, Took, Why,
};

pub use check::BadLog;
pub(crate) use check::check;
use followed::{Followed, Wanted};

/// How many decisions were compared, and how many of them were the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All.
    pub compared: u64,
    /// Those that were the same.
    pub same: u64,
}

impl Tally {
    fn count(&mut self, is_same: bool) {
        self.compared += 1;
        self.same += u64::from(is_same);
    }
}

/// What came of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Where ready tasks went, with the reason and the expected end.
    pub placed: Tally,
    /// How many of them went to the same place, whatever the reason.
    pub placed_there: u64,
    /// What places took that asked for work, nothing included.
    pub taken: Tally,
    /// How many tasks were placed at each place, in the log and now; those for whoever is free first under `None`. Where these are the same, the two have the same placements in
    /// some order.
    pub placements: BTreeMap<Option<usize>, (u64, u64)>,
    /// The first difference. Besides decisions it may be one of what follows from them: whether a place would find work, and which one is woken.
    pub first: Option<Difference>,
    /// Where the log could not be followed any more, and why: something in it has been changed, and what comes later does not fit.
    pub left_off: Option<BadLog>,
}

impl Replay {
    /// Whether everything was decided as before.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.first.is_none() && self.left_off.is_none()
    }

    /// Whether as many tasks were placed at each place as before.
    #[must_use]
    pub fn places_alike(&self) -> bool {
        self.placements.values().all(|(before, now)| before == now)
    }

    fn count_placement(&mut self, before: &Decision, now: &Decision) {
        self.placed.count(before == now);
        let queue = |decision: &Decision| match decision.placement {
            Placement::Shared => None,
            Placement::Place(place) => Some(place),
        };
        self.placed_there += u64::from(before.placement == now.placement);
        self.placements.entry(queue(before)).or_default().0 += 1;
        self.placements.entry(queue(now)).or_default().1 += 1;
    }
}

/// An answer of a board.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// Where a task was placed.
    Placed(Decision),
    /// What a place took.
    Took(Option<Took>),
    /// Whether a place would find work.
    Finds(bool),
    /// Which place was to be woken.
    Wakes(Option<usize>),
}

/// A decision that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The event in the log.
    pub event: usize,
    /// When, in nanoseconds from the first spawn.
    pub at_ns: u64,
    /// The task that it is about, by [`ReadyTask::number`]; of a place that took something, what it took in the log.
    pub number: Option<u64>,
    /// What that task is.
    pub subject: Option<Subject>,
    /// The place that it is about.
    pub place: Option<usize>,
    /// What the log says.
    pub expected: Answer,
    /// What it is now.
    pub got: Answer,
}

impl Difference {
    /// An answer in words, with the names of places.
    #[must_use]
    pub fn words(answer: &Answer, log: &DecisionLog) -> String {
        let name = |place: usize| log.places.get(place).map_or_else(|| place.to_string(), |place| place.name.clone());
        match answer {
            Answer::Placed(decision) => {
                let place = match decision.placement {
                    Placement::Shared => "for whoever is free first".to_owned(),
                    Placement::Place(place) => format!("at {}", name(place)),
                };
                let why = match decision.why {
                    Why::Explored { instead_ns, regret_ns } => {
                        format!("explored, in place of {instead_ns} ns, with a regret of {regret_ns} ns")
                    }
                    Why::Hysteresis { instead } => format!("hysteresis, in place of {}", name(instead)),
                    why => why.name().into(),
                };
                let finish = decision.finish_ns.map_or_else(String::new, |ns| format!(", over in {ns} ns"));
                format!("placed {place} ({why}{finish})")
            }
            Answer::Took(None) => "nothing taken".into(),
            Answer::Took(Some(Took { number, source, moved })) => {
                let queue = match *source {
                    Source::Own => "its own queue".into(),
                    Source::Shared => "the queue for all".into(),
                    Source::Stolen { from } => format!("the queue of {}", name(from)),
                    Source::TakenOver { from } => format!("the queue of {}, which makes no progress", name(from)),
                };
                let moved = if moved.is_empty() { String::new() } else { format!(", with {moved:?} besides") };
                format!("task {number} taken from {queue}{moved}")
            }
            Answer::Finds(finds) => if *finds { "it would find work" } else { "it would find none" }.into(),
            Answer::Wakes(None) => "nobody woken".into(),
            Answer::Wakes(Some(place)) => format!("{} woken", name(*place)),
        }
    }
}

/// Goes through a log with a policy. Plugin files' policies come from [`LoadedPolicy::make`](poniard::plugin::LoadedPolicy::make).
///
/// # Errors
/// The log says what cannot be, before anything in it differs from what the policy decides.
pub fn replay(log: &DecisionLog, policy: Box<dyn Policy>) -> Result<Replay, BadLog> {
    check(log)?;
    // The runtime asks that before anything else.
    policy.wants_ranks();
    let wanted = Wanted::default();
    let places = log.places.iter().map(|place| place.place()).collect();
    let board = Board::new(places, Box::new(Followed::new(policy, &wanted)), log.seed);
    let mut run = Run { log, board, wanted, tickets: BTreeMap::new(), subjects: BTreeMap::new(), replay: Replay::default() };
    for (index, event) in log.events.iter().enumerate() {
        if let Err((field, reason)) = run.step(index, event) {
            let bad = BadLog { place: format!("events[{index}].{}.{field}", check::name(event)), reason };
            if run.replay.first.is_none() {
                return Err(bad);
            }
            run.replay.left_off = Some(bad);
            break;
        }
    }
    Ok(run.replay)
}

/// What is wrong with a field of an event.
type Wrong = (&'static str, String);

struct Run<'l> {
    log: &'l DecisionLog,
    board: Board<u64>,
    wanted: Wanted,
    /// Of tasks that are on the board.
    tickets: BTreeMap<u64, Ticket>,
    subjects: BTreeMap<u64, Subject>,
    replay: Replay,
}

impl Run<'_> {
    fn step(&mut self, index: usize, event: &Event) -> Result<(), Wrong> {
        let at = |at_ns: u64| (index, at_ns.saturating_sub(self.log.first_spawn_ns));
        match event {
            Event::Ready { at_ns, number, subject, code, priority, rank_ns, bytes, origin, candidates, decision, wake } => {
                let candidates: Vec<Candidate> = candidates.iter().flat_map(|run| run.each()).collect();
                let task = ReadyTask {
                    number: *number,
                    code: *code,
                    priority: *priority,
                    rank_ns: *rank_ns,
                    bytes: *bytes,
                    origin: *origin,
                    candidates: &candidates,
                };
                self.subjects.extend(subject.map(|subject| (*number, subject)));
                self.wanted.want(*number, *decision);
                let pushed = self.board.push(&task, *number, *at_ns);
                self.tickets.insert(*number, pushed.ticket);
                self.placed(at(*at_ns), &Replaced { number: *number, decision: *decision, wake: *wake }, &pushed)
                    .map_err(|wrong| ("decision", wrong))
            }
            Event::Asked { at_ns, place, took } => {
                let mut got = None;
                let taken = self.board.take_as(*place, *at_ns, |would| {
                    got = would.cloned();
                    took.clone()
                });
                self.replay.taken.count(got == *took);
                let number = took.as_ref().or(got.as_ref()).map(|took| took.number);
                self.compare(at(*at_ns), number, Some(*place), Answer::Took(took.clone()), Answer::Took(got));
                taken.map(drop).map_err(|reason| ("took", reason))
            }
            Event::Looked { at_ns, place, finds } => {
                let got = self.board.would_take(*place, *at_ns);
                self.compare(at(*at_ns), None, Some(*place), Answer::Finds(*finds), Answer::Finds(got));
                Ok(())
            }
            Event::Woken { at_ns, place } => {
                let got = self.board.to_wake(*at_ns);
                self.compare_wake(at(*at_ns), None, *place, got);
                Ok(())
            }
            Event::Unasked { at_ns, number, place } => {
                let ticket = self.ticket(*number)?;
                self.board.run_unasked(ticket, *place, *at_ns);
                Ok(())
            }
            Event::Ended { at_ns, number, measured_ns } => {
                let ticket = self.ticket(*number)?;
                self.tickets.remove(number);
                let ended = self.board.finished_after(ticket, *measured_ns, *at_ns);
                ended.map(drop).ok_or_else(|| ("number", format!("task {number} has not been taken")))
            }
            Event::Abandoned { at_ns, number } => {
                let ticket = self.ticket(*number)?;
                self.tickets.remove(number);
                self.board.abandoned(ticket, *at_ns);
                Ok(())
            }
            Event::Active { at_ns, place, active, replaced } => {
                replaced.iter().for_each(|one| self.wanted.want(one.number, one.decision));
                let pushed = self.board.set_active(*place, *active, *at_ns);
                let number = |pushed: &Pushed| self.tickets.iter().find(|(_, ticket)| **ticket == pushed.ticket).map(|(number, _)| *number);
                let numbers: Vec<_> = pushed.iter().filter_map(number).collect();
                if numbers.iter().ne(replaced.iter().map(|one| &one.number)) {
                    return Err(("replaced", format!("what is placed anew are the tasks {numbers:?}")));
                }
                let placed = replaced.iter().zip(&pushed).try_for_each(|(one, pushed)| self.placed(at(*at_ns), one, pushed));
                placed.map_err(|wrong| ("replaced", wrong))
            }
            Event::Backlog { place, backlog_ns } => {
                self.board.set_backlog(*place, *backlog_ns);
                Ok(())
            }
            Event::Viewed { at_ns } => {
                self.board.places(*at_ns);
                Ok(())
            }
        }
    }

    fn ticket(&self, number: u64) -> Result<Ticket, Wrong> {
        self.tickets.get(&number).copied().ok_or_else(|| ("number", format!("task {number} is not on the board")))
    }

    /// Compares where a task was placed; in words why it cannot be placed there again.
    fn placed(&mut self, at: (usize, u64), before: &Replaced, now: &Pushed) -> Result<(), String> {
        // A task that may run nowhere is no question for a policy.
        let got = self.wanted.take_answer(before.number).unwrap_or(now.decision);
        self.replay.count_placement(&before.decision, &got);
        self.compare(at, Some(before.number), None, Answer::Placed(before.decision), Answer::Placed(got));
        if now.decision != before.decision {
            return Err(format!("task {} cannot be placed so", before.number));
        }
        self.compare_wake(at, Some(before.number), before.wake, now.wake);
        Ok(())
    }

    /// Who is woken follows from everything before, so once something differs this says nothing new.
    fn compare_wake(&mut self, at: (usize, u64), number: Option<u64>, before: Option<usize>, now: Option<usize>) {
        self.compare(at, number, None, Answer::Wakes(before), Answer::Wakes(now));
    }

    fn compare(&mut self, (event, at_ns): (usize, u64), number: Option<u64>, place: Option<usize>, expected: Answer, got: Answer) {
        if self.replay.first.is_none() && expected != got {
            let subject = number.and_then(|number| self.subjects.get(&number).copied());
            self.replay.first = Some(Difference { event, at_ns, number, subject, place, expected, got });
        }
    }
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("replay", &self.replay).finish_non_exhaustive()
    }
}
