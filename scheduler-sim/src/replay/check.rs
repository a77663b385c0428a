//! Whether a decision log can be one, as far as that can be seen without going through it with a board.

use std::collections::BTreeSet;
use std::fmt;

use poniard::policy::{Decision, DecisionLog, Event, LoggedCandidates, Placement, Why};

/// What is wrong with a decision log, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLog {
    /// Where in the log: a path of fields.
    pub place: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for BadLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

impl std::error::Error for BadLog {}

/// What an event is called in a file.
pub(super) fn name(event: &Event) -> &'static str {
    match event {
        Event::Ready { .. } => "ready",
        Event::Asked { .. } => "asked",
        Event::Looked { .. } => "looked",
        Event::Woken { .. } => "woken",
        Event::Unasked { .. } => "unasked",
        Event::Ended { .. } => "ended",
        Event::Abandoned { .. } => "abandoned",
        Event::Active { .. } => "active",
        Event::Backlog { .. } => "backlog",
        Event::Viewed { .. } => "viewed",
    }
}

/// A field of an event, and what is wrong with it.
type Wrong = (String, String);

/// Looks at all that does not depend on what happened before.
pub(crate) fn check(log: &DecisionLog) -> Result<(), BadLog> {
    let bad = |place: String, reason: String| Err(BadLog { place, reason });
    if log.places.is_empty() {
        return bad("places".into(), "there is no place".into());
    }
    for (index, place) in log.places.iter().enumerate() {
        // Policies keep something for each class.
        if place.class as usize >= log.places.len() {
            return bad(format!("places[{index}].class"), format!("{} is more than there are places", place.class));
        }
        if place.parallel == 0 {
            return bad(format!("places[{index}].parallel"), "a place runs at least one task at a time".into());
        }
    }
    let mut numbers = BTreeSet::new();
    for (index, event) in log.events.iter().enumerate() {
        if let Err((field, reason)) = check_event(event, log.places.len(), &mut numbers) {
            return bad(format!("events[{index}].{}.{field}", name(event)), reason);
        }
    }
    Ok(())
}

fn check_event(event: &Event, place_count: usize, numbers: &mut BTreeSet<u64>) -> Result<(), Wrong> {
    let is_there = |field: &str, place: Option<usize>| match place {
        Some(place) if place >= place_count => Err((field.to_owned(), format!("there is no place {place}; there are {place_count}"))),
        _ => Ok(()),
    };
    match event {
        Event::Ready { number, origin, candidates, decision, wake, .. } => {
            if !numbers.insert(*number) {
                return Err(("number".into(), format!("task {number} was ready before")));
            }
            is_there("origin", *origin)?;
            check_candidates(candidates, place_count)?;
            is_there("wake", *wake)?;
            check_decision("decision", decision, place_count)?;
            match decision.placement {
                Placement::Place(place) if !candidates.iter().any(|run| (run.place..run.place + run.count as usize).contains(&place)) => {
                    Err(("decision.placement".into(), format!("the task may not run at place {place}")))
                }
                _ => Ok(()),
            }
        }
        Event::Active { place, replaced, .. } => {
            is_there("place", Some(*place))?;
            replaced.iter().enumerate().try_for_each(|(index, one)| {
                is_there(&format!("replaced[{index}].wake"), one.wake)?;
                check_decision(&format!("replaced[{index}].decision"), &one.decision, place_count)
            })
        }
        Event::Asked { place, .. } | Event::Looked { place, .. } | Event::Unasked { place, .. } | Event::Backlog { place, .. } => {
            is_there("place", Some(*place))
        }
        Event::Woken { place, .. } => is_there("place", *place),
        Event::Ended { .. } | Event::Abandoned { .. } | Event::Viewed { .. } => Ok(()),
    }
}

fn check_candidates(candidates: &[LoggedCandidates], place_count: usize) -> Result<(), Wrong> {
    if candidates.is_empty() {
        return Err(("candidates".into(), "a task that may run nowhere is not ready".into()));
    }
    let mut free_from = 0;
    for (index, run) in candidates.iter().enumerate() {
        let wrong = |field: &str, reason: String| Err((format!("candidates[{index}].{field}"), reason));
        if run.place < free_from {
            return wrong("place", "places rise, and each is there once".into());
        }
        let end = run.place.checked_add(run.count as usize).filter(|end| *end <= place_count);
        match end {
            Some(end) if run.count > 0 => free_from = end,
            _ => return wrong("count", format!("{} places from {} on are not there; there are {place_count}", run.count, run.place)),
        }
    }
    Ok(())
}

fn check_decision(field: &str, decision: &Decision, place_count: usize) -> Result<(), Wrong> {
    if let Placement::Place(place) = decision.placement
        && place >= place_count
    {
        return Err((format!("{field}.placement"), format!("there is no place {place}; there are {place_count}")));
    }
    match decision.why {
        Why::Hysteresis { instead } if instead >= place_count => {
            Err((format!("{field}.why.hysteresis.instead"), format!("there is no place {instead}; there are {place_count}")))
        }
        _ => Ok(()),
    }
}
