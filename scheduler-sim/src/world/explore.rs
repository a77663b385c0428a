//! Every order in which things can come: each choice of a world made in each way, depth first.
//!
//! A run makes a list of choices. The next one begins with the same up to the last choice that could have been another, takes that, and goes on with the first of everything: so each order
//! comes once, and nothing has to be kept but the list. Source: Godefroid, "Model checking for programming languages using VeriSoft", POPL 1997. Orders that differ only in steps that have nothing to do
//! with each other are all played.

use std::collections::BTreeSet;

use super::World;
use super::failure::Failure;
use super::order::{Choice, Choices};
use super::run::{Ran, run_in};
use super::script::Script;

/// A makespan, and the choices that lead to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extreme {
    /// How long all takes, in nanoseconds.
    pub makespan_ns: u64,
    /// The choices; behind the last one it is always the first.
    pub choices: Vec<u32>,
}

/// An order in which something goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundOrder {
    /// The choices; behind the last one it is always the first.
    pub choices: Vec<u32>,
    /// What is wrong, in words.
    pub text: String,
}

/// What came of looking at all orders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explored {
    /// How many orders were played.
    pub orders: u64,
    /// How many states with a choice were seen, each counted once.
    pub states: u64,
    /// Whether there is no other order.
    pub is_complete: bool,
    /// How many different schedules came of them: who ran what when.
    pub schedules: u64,
    /// The first of the shortest runs.
    pub shortest: Option<Extreme>,
    /// The first of the longest runs.
    pub longest: Option<Extreme>,
    /// The first order in which something goes wrong, which was the last to be played.
    pub found: Option<FoundOrder>,
}

/// Plays one order of a script: these choices, and then always the first.
///
/// # Errors
/// [`Failure`], as [`run`](super::run) says.
pub fn run_order(script: &Script, choices: Vec<u32>) -> (Result<Ran, Failure>, Choices) {
    let world = World::choosing(script.seed, Choices::new(choices));
    let ran = run_in(script.clone(), &world);
    (ran, world.choices())
}

/// Plays the orders of a script, at most `limit`, until something goes wrong: what the runtime promises is not so, or `check` says in words what is wrong. `progress` is told how many have
/// been played.
pub fn explore(script: &Script, limit: u64, check: impl Fn(&Ran) -> Result<(), String>, mut progress: impl FnMut(u64)) -> Explored {
    let mut explored = Explored::default();
    let mut schedules = BTreeSet::new();
    let mut next = Some(Vec::new());
    while let Some(given) = next.filter(|_| explored.orders < limit) {
        // Up to here it is as before, but for the last one, which begins something new.
        let known = given.len();
        let (ran, choices) = run_order(script, given);
        explored.orders += 1;
        explored.states += choices.made().len().saturating_sub(known) as u64;
        progress(explored.orders);
        let ran = ran.map_err(|failure| failure.to_string());
        match ran.and_then(|ran| check(&ran).map(|()| ran)) {
            Ok(ran) => {
                let makespan_ns = ran.schedule.makespan_ns();
                let extreme = || Some(Extreme { makespan_ns, choices: told(choices.made()) });
                if explored.shortest.as_ref().is_none_or(|shortest| makespan_ns < shortest.makespan_ns) {
                    explored.shortest = extreme();
                }
                if explored.longest.as_ref().is_none_or(|longest| makespan_ns > longest.makespan_ns) {
                    explored.longest = extreme();
                }
                schedules.insert((ran.schedule.processor, ran.schedule.start_ns));
            }
            Err(text) => explored.found = Some(FoundOrder { choices: told(choices.made()), text }),
        }
        next = following(choices.made());
        if explored.found.is_some() {
            break;
        }
        explored.is_complete = next.is_none();
    }
    explored.schedules = schedules.len() as u64;
    explored
}

/// The choices that somebody has to know: those at the end are the first ones anyhow.
fn told(made: &[Choice]) -> Vec<u32> {
    let length = made.iter().rposition(|choice| choice.taken > 0).map_or(0, |last| last + 1);
    made[..length].iter().map(|choice| choice.taken).collect()
}

/// The choices that come next: the last one that can be another is.
pub(super) fn following(made: &[Choice]) -> Option<Vec<u32>> {
    let last = made.iter().rposition(|choice| choice.taken + 1 < choice.of)?;
    let mut next: Vec<u32> = made[..=last].iter().map(|choice| choice.taken).collect();
    next[last] += 1;
    Some(next)
}
