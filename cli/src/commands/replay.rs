//! `poniard replay`: whether a policy decides about a recorded run what was decided then.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use poniard::policy::{DecisionLog, Subject};
use poniard_scheduler_sim::replay::{self, Answer, BadLog, Difference, Replay, Tally};
use poniard_scheduler_sim::workload::{Recording, text_of};
use serde_json::{Value, json};

use super::decider::Decider;
use super::search;
use crate::console::{self, Console, GOOD, NAME, Styled};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::report::{digits, duration, path_text};

/// `poniard replay`.
#[derive(Args, Debug)]
pub struct ReplayOptions {
    /// A run that `poniard run --policy NAME --record` has written
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub recording: PathBuf,

    /// Who decides now [default: the policy that decided then]
    ///
    /// Or one of a plugin file, by name, or by a path with a / in it; see `poniard policies`.
    #[arg(long, value_name = "NAME")]
    pub policy: Option<String>,

    /// Where to look for the plugin file of a policy first: a folder or a file; give it again for more
    #[arg(long = "plugin", value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub plugins: Vec<PathBuf>,

    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Replays.
pub fn replay(options: &ReplayOptions, console: &mut Console) -> Result<(), Failure> {
    let shown = path_text(&options.recording);
    let text = text_of(&options.recording).map_err(Failure::input)?;
    let recording = Recording::from_json(&shown, &text).map_err(Failure::input)?;
    let Some(log) = &recording.decisions else {
        return Err(Failure::input(format_args!(
            "{shown}: there is no decision in it: the runtime's own queues, which no policy asks, have no order in which to decide again; record it with --policy"
        )));
    };
    // What was asked for may be a path, which says where the policy is.
    let name = options.policy.as_deref().or(recording.policy.as_deref()).unwrap_or(&log.policy);
    let decider = Decider::live(name, &search(&options.plugins)?, "--policy")?;
    let (policy, complaint) = decider.policy()?;
    let bad = |bad: &BadLog| format!("decisions.{bad}");
    let replay = replay::replay(log, policy).map_err(|wrong| Failure::input(format_args!("{shown}: {}", bad(&wrong))))?;
    if let Some(complaint) = complaint.take() {
        console::warn(complaint);
    }
    if options.json {
        console.line(as_json(&replay, &recording, log, name, &shown))?;
    } else {
        tell(&replay, &recording, log, name, console)?;
    }
    let Some(first) = &replay.first else { return Ok(()) };
    let left_off =
        replay.left_off.as_ref().map_or_else(String::new, |wrong| format!("; what comes later cannot be followed: {}", bad(wrong)));
    let expected = Difference::words(&first.expected, log);
    let got = Difference::words(&first.got, log);
    Err(Failure::new(
        ExitCode::Task,
        format_args!("{shown}: {}: expected {expected}, got {got}{left_off}", place_of(first, &recording, log)),
    ))
}

/// Where something differs: in the file, and in the run.
fn place_of(first: &Difference, recording: &Recording, log: &DecisionLog) -> String {
    let time = duration(Duration::from_nanos(first.at_ns));
    let what = match (&first.expected, first.number, first.place) {
        (Answer::Took(_) | Answer::Finds(_), _, Some(place)) => log.places[place].name.clone(),
        (_, Some(number), _) => format!("task {number} ({})", subject_name(first.subject, recording)),
        _ => "who is woken".into(),
    };
    format!("decisions.events[{}]: {what}, {time} after the first spawn", first.event)
}

fn subject_name(subject: Option<Subject>, recording: &Recording) -> String {
    match subject {
        Some(Subject::Spawned(task)) => recording.tasks[task].name.clone(),
        Some(Subject::OfRun { run, node }) => format!("node {node} of run {run}"),
        _ => "not in the recording".into(),
    }
}

fn tell(replay: &Replay, recording: &Recording, log: &DecisionLog, name: &str, console: &mut Console) -> Result<(), Failure> {
    console.line(format_args!("{}: decided by {}, again by {name}", Styled(NAME, &recording.name), log.policy))?;
    let there = match replay.placed_there - replay.placed.same {
        0 => String::new(),
        more => format!(", and {} at the same place for another reason", digits(more)),
    };
    for (what, Tally { compared, same }, more) in [("placed", replay.placed, &*there), ("taken", replay.taken, "")] {
        console.line(format_args!("{what:<6}  {} of {} the same{more}", digits(same), digits(compared)))?;
    }
    if !replay.places_alike() {
        for (place, (before, now)) in &replay.placements {
            let name = place.map_or("who is free", |place| &log.places[place].name);
            console.line(format_args!("placed at {name}: {} then, {} now", digits(*before), digits(*now)))?;
        }
    }
    if replay.is_same() { console.line(Styled(GOOD, "every decision is the same")) } else { Ok(()) }
}

fn as_json(replay: &Replay, recording: &Recording, log: &DecisionLog, name: &str, shown: &str) -> Value {
    let tally = |tally: Tally| json!({ "compared": tally.compared, "same": tally.same });
    let placements = replay
        .placements
        .iter()
        .map(|(place, (before, now))| json!({ "place": place.map(|place| log.places[place].name.as_str()), "then": before, "now": now }));
    json!({
        "recording": shown,
        "name": recording.name,
        "decided_by": log.policy,
        "again_by": name,
        "placed": tally(replay.placed),
        "placed_there": replay.placed_there,
        "taken": tally(replay.taken),
        "placements": placements.collect::<Value>(),
        "first_difference": replay.first.as_ref().map(|first| json!({
            "event": first.event,
            "at_ns": first.at_ns,
            "task": first.subject.and_then(|subject| if let Subject::Spawned(task) = subject { Some(task) } else { None }),
            "number": first.number,
            "place": first.place.map(|place| log.places[place].name.as_str()),
            "expected": Difference::words(&first.expected, log),
            "got": Difference::words(&first.got, log),
        })),
        "left_off": replay.left_off.as_ref().map(|wrong| format!("decisions.{wrong}")),
    })
}
