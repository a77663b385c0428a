//! The decision log of a board: everything that it was asked and told, in the order in which that happened, and what was decided. Off unless it is asked for.
//!
//! Where all of a board's inputs are known, so are its decisions: what a policy knows it was told by the board, and chance comes from a seed. So a log can be replayed, and whoever
//! replays it with [`Board::take_as`] can have each decision made as it was logged, whatever the policy would do, so that one difference is not the cause of others.

use poniard_interface::policy::Estimate;
use serde::{Deserialize, Serialize};

use super::super::decision_log::{DecisionLog, LoggedPlace};
use super::super::{Candidate, Decision, Place, Placement, ReadyTask, Why};
use super::{Board, Pushed, Run, Source, State, Taken};

/// What a board was asked or told, and its answer. Times are those that the board was told; since the clock is read before the board's lock is taken, they may go back a little.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// A task was ready, and was placed.
    Ready {
        /// When.
        at_ns: u64,
        /// Which of those that were ready it was: [`ReadyTask::number`]. The other events name it by this.
        number: u64,
        /// What it was, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<Subject>,
        /// [`ReadyTask::code`].
        code: u64,
        /// [`ReadyTask::priority`].
        #[serde(default, skip_serializing_if = "is_default")]
        priority: i32,
        /// [`ReadyTask::rank_ns`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rank_ns: Option<u64>,
        /// [`ReadyTask::bytes`].
        #[serde(default, skip_serializing_if = "is_default")]
        bytes: u64,
        /// [`ReadyTask::origin`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<usize>,
        /// Where it may run, by rising place.
        candidates: Vec<LoggedCandidates>,
        /// What was decided.
        #[serde(with = "DecisionForm")]
        decision: Decision,
        /// The place that was to be woken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wake: Option<usize>,
    },
    /// A place asked for work.
    Asked {
        /// When.
        at_ns: u64,
        /// The place.
        place: usize,
        /// What it took; `None`: it was to take nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        took: Option<Took>,
    },
    /// Somebody looked whether a place would find work.
    Looked {
        /// When.
        at_ns: u64,
        /// The place.
        place: usize,
        /// Whether it would.
        finds: bool,
    },
    /// Somebody asked which place is to be woken, while tasks waited.
    Woken {
        /// When.
        at_ns: u64,
        /// That place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<usize>,
    },
    /// A place began a task that it had not taken.
    Unasked {
        /// When.
        at_ns: u64,
        /// The task.
        number: u64,
        /// The place.
        place: usize,
    },
    /// A task was over.
    Ended {
        /// When.
        at_ns: u64,
        /// The task.
        number: u64,
        /// How long its body took, where that was measured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        measured_ns: Option<u64>,
    },
    /// A task did not run, or did not end where it was.
    Abandoned {
        /// When.
        at_ns: u64,
        /// The task.
        number: u64,
    },
    /// A place takes tasks again, or takes no more.
    Active {
        /// When.
        at_ns: u64,
        /// The place.
        place: usize,
        /// Whether it does.
        active: bool,
        /// What was placed anew for that.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        replaced: Vec<Replaced>,
    },
    /// A place is busy so long with what is not on the board.
    Backlog {
        /// The place.
        place: usize,
        /// How long.
        backlog_ns: u64,
    },
    /// Somebody looked at the places, of which a policy then sees how much they had to do at this time.
    Viewed {
        /// When.
        at_ns: u64,
    },
}

impl Event {
    /// When it happened, by the clock that the board was told; `None` of what has no time.
    #[must_use]
    pub fn at_ns(&self) -> Option<u64> {
        match self {
            Self::Ready { at_ns, .. }
            | Self::Asked { at_ns, .. }
            | Self::Looked { at_ns, .. }
            | Self::Woken { at_ns, .. }
            | Self::Unasked { at_ns, .. }
            | Self::Ended { at_ns, .. }
            | Self::Abandoned { at_ns, .. }
            | Self::Active { at_ns, .. }
            | Self::Viewed { at_ns } => Some(*at_ns),
            Self::Backlog { .. } => None,
        }
    }
}

/// What a task on a board is to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Subject {
    /// A task, by its position in the journal.
    #[serde(rename = "task")]
    Spawned(usize),
    /// A node of a compiled graph.
    #[serde(rename = "node")]
    OfRun {
        /// The number of the run.
        run: u32,
        /// The node.
        node: u32,
    },
}

/// What a place took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Took {
    /// The task.
    pub number: u64,
    /// From where.
    pub source: Source,
    /// What moved to the place's own queue with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<u64>,
}

/// A task that was placed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replaced {
    /// The task.
    pub number: u64,
    /// What was decided.
    #[serde(with = "DecisionForm")]
    pub decision: Decision,
    /// The place that was to be woken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake: Option<usize>,
}

/// Consecutive places that a task may run at, at which it costs the same: [`Candidate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedCandidates {
    /// The first of them.
    pub place: usize,
    /// How many.
    pub count: u32,
    /// What is expected that the body takes there, in nanoseconds.
    pub mean_ns: u64,
    /// How far single measurements lie from that, in nanoseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spread_ns: u64,
    /// How many measurements say so.
    pub measurements: u32,
    /// How long it takes to bring what is missing there, in nanoseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub transfer_ns: u64,
    /// How many bytes that is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub missing_bytes: u64,
    /// What a launch or a hop costs, in nanoseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overhead_ns: u64,
}

impl LoggedCandidates {
    fn new(run: &Run) -> Self {
        let Candidate { place, execution, transfer_ns, missing_bytes, overhead_ns } = run.candidate;
        let Estimate { mean_ns, spread_ns, count: measurements } = execution;
        Self { place, count: run.count, mean_ns, spread_ns, measurements, transfer_ns, missing_bytes, overhead_ns }
    }

    /// One candidate for each place.
    pub fn each(&self) -> impl Iterator<Item = Candidate> {
        let Self { place, count, mean_ns, spread_ns, measurements, transfer_ns, missing_bytes, overhead_ns } = *self;
        let execution = Estimate { mean_ns, spread_ns, count: measurements };
        (0..count as usize).map(move |index| Candidate { place: place + index, execution, transfer_ns, missing_bytes, overhead_ns })
    }
}

fn is_default<V: Default + PartialEq>(value: &V) -> bool {
    *value == V::default()
}

/// How a decision is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Decision", deny_unknown_fields)]
struct DecisionForm {
    #[serde(with = "PlacementForm")]
    placement: Placement,
    #[serde(with = "why_form")]
    why: Why,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finish_ns: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Placement", rename_all = "kebab-case")]
enum PlacementForm {
    Shared,
    Place(usize),
}

/// How a reason is written. [`Why`] may get more; then this does, too.
mod why_form {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Why;

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    enum Form {
        OnlyCandidate,
        NoPlace,
        FirstFree,
        Chance,
        Origin,
        Data,
        EarliestFinish,
        Guessed,
        Explored { instead_ns: u64, regret_ns: u64 },
        Hysteresis { instead: usize },
        Ratio,
        Rule,
    }

    pub(super) fn serialize<S: Serializer>(why: &Why, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match *why {
            Why::OnlyCandidate => Form::OnlyCandidate,
            Why::NoPlace => Form::NoPlace,
            Why::FirstFree => Form::FirstFree,
            Why::Chance => Form::Chance,
            Why::Origin => Form::Origin,
            Why::Data => Form::Data,
            Why::EarliestFinish => Form::EarliestFinish,
            Why::Guessed => Form::Guessed,
            Why::Explored { instead_ns, regret_ns } => Form::Explored { instead_ns, regret_ns },
            Why::Hysteresis { instead } => Form::Hysteresis { instead },
            Why::Ratio => Form::Ratio,
            Why::Rule => Form::Rule,
            other => return Err(serde::ser::Error::custom(format_args!("the reason `{}` cannot be written", other.name()))),
        };
        form.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Why, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::OnlyCandidate => Why::OnlyCandidate,
            Form::NoPlace => Why::NoPlace,
            Form::FirstFree => Why::FirstFree,
            Form::Chance => Why::Chance,
            Form::Origin => Why::Origin,
            Form::Data => Why::Data,
            Form::EarliestFinish => Why::EarliestFinish,
            Form::Guessed => Why::Guessed,
            Form::Explored { instead_ns, regret_ns } => Why::Explored { instead_ns, regret_ns },
            Form::Hysteresis { instead } => Why::Hysteresis { instead },
            Form::Ratio => Why::Ratio,
            Form::Rule => Why::Rule,
        })
    }
}

/// What is kept.
#[derive(Debug)]
pub(super) struct Log<T> {
    /// The places and where chance was before the first event.
    places: Vec<Place>,
    seed: u64,
    events: Vec<Event>,
    subject: fn(&T) -> Option<Subject>,
}

impl<T> Board<T> {
    /// From now on what is asked and decided is kept. `subject` says what a task is to the program. To be called before anything is pushed.
    pub fn keep_log(&mut self, subject: fn(&T) -> Option<Subject>) {
        self.log = Some(Box::new(Log { places: self.places.clone(), seed: self.random.seed(), events: Vec::new(), subject }));
    }

    /// What was kept; nothing without [`keep_log`](Self::keep_log).
    #[must_use]
    pub fn log(&self) -> Option<DecisionLog> {
        self.log.as_ref().map(|log| DecisionLog {
            policy: self.policy.name().to_owned(),
            seed: log.seed,
            first_spawn_ns: 0,
            places: log.places.iter().enumerate().map(|(index, place)| LoggedPlace::new(index, place)).collect(),
            events: log.events.clone(),
        })
    }

    /// As [`take`](Self::take), but the place takes what `choose` says when it has heard what the policy would have it take.
    ///
    /// # Errors
    /// In words why the place cannot take that: it does not wait, or may not run there.
    pub fn take_as(
        &mut self,
        place: usize,
        now_ns: u64,
        choose: impl FnOnce(Option<&Took>) -> Option<Took>,
    ) -> Result<Option<Taken<T>>, String> {
        let found = self.choose(place, now_ns);
        let would = found.map(|(slot, source)| self.took(slot, source, self.moving.iter().map(|entry| entry.2).collect()));
        let takes = choose(would.as_ref());
        let slot = match (&takes, found) {
            (None, _) => None,
            (Some(_), Some((slot, _))) if takes == would => Some(slot),
            (Some(took), _) => {
                let slot = self.waiting_slot(took.number, place)?;
                let moving: Result<Vec<_>, String> = took.moved.iter().map(|number| self.waiting_slot(*number, place)).collect();
                self.moving.clear();
                for moved in moving? {
                    let (item, first) = (&self.items[moved as usize], &self.items[slot as usize]);
                    if moved == slot || item.domain != first.domain || self.moving.iter().any(|entry| entry.3 == moved) {
                        return Err(format!("task {} cannot move with task {}", item.number, first.number));
                    }
                    self.moving.push((item.domain, item.key.0, item.number, moved));
                }
                Some(slot)
            }
        };
        let taken = slot.zip(takes).map(|(slot, took)| self.hand_over(slot, took.source, place, now_ns));
        self.note_asked(place, taken.as_ref(), now_ns);
        Ok(taken)
    }

    /// The slot of a task that waits, and that this place may run.
    fn waiting_slot(&self, number: u64, place: usize) -> Result<u32, String> {
        let waits = |item: &&super::Item<T>| item.number == number && matches!(item.state, State::Waiting { .. });
        match self.items.iter().zip(0u32..).find(|(item, _)| waits(item)) {
            None => Err(format!("task {number} does not wait")),
            Some((item, _)) if !self.allows(item.domain, place) => Err(format!("task {number} may not run at place {place}")),
            Some((_, slot)) => Ok(slot),
        }
    }

    fn took(&self, slot: u32, source: Source, moved: Vec<u64>) -> Took {
        Took { number: self.items[slot as usize].number, source, moved }
    }

    pub(super) fn note(&mut self, event: impl FnOnce() -> Event) {
        if let Some(log) = &mut self.log {
            log.events.push(event());
        }
    }

    pub(super) fn note_ready(&mut self, slot: u32, task: &ReadyTask<'_>, pushed: &Pushed, now_ns: u64) {
        let Some(log) = &mut self.log else { return };
        let item = &self.items[slot as usize];
        log.events.push(Event::Ready {
            at_ns: now_ns,
            number: task.number,
            subject: item.value.as_ref().and_then(log.subject),
            code: task.code,
            priority: task.priority,
            rank_ns: task.rank_ns,
            bytes: task.bytes,
            origin: task.origin,
            candidates: item.runs.iter().map(LoggedCandidates::new).collect(),
            decision: pushed.decision,
            wake: pushed.wake,
        });
    }

    pub(super) fn note_asked(&mut self, place: usize, taken: Option<&Taken<T>>, now_ns: u64) {
        if self.log.is_some() {
            let moved = || self.moving.iter().map(|entry| entry.2).collect();
            let took = taken.map(|taken| self.took(taken.ticket.slot, taken.how.source, moved()));
            self.note(|| Event::Asked { at_ns: now_ns, place, took });
        }
    }

    pub(super) fn note_active(&mut self, place: usize, active: bool, again: &[Pushed], now_ns: u64) {
        if self.log.is_some() {
            let number = |pushed: &Pushed| self.items[pushed.ticket.slot as usize].number;
            let replaced = again.iter().map(|pushed| Replaced { number: number(pushed), decision: pushed.decision, wake: pushed.wake });
            let replaced = replaced.collect();
            self.note(|| Event::Active { at_ns: now_ns, place, active, replaced });
        }
    }
}
