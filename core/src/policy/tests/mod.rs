//! Tests of policies and of the board, on small situations worked out by hand and on many that chance makes up.

mod board;
mod choices;
mod learning;
mod properties;
mod speed;

use super::{Board, Candidate, Decision, Estimate, Place, Policy, Random, ReadyTask, View, by_name};

/// A candidate whose code was measured often.
fn known(place: usize, mean_ns: u64) -> Candidate {
    Candidate { place, execution: Estimate { mean_ns, spread_ns: 0, count: 100 }, ..Candidate::default() }
}

/// A candidate whose code was never measured.
fn guess(place: usize, mean_ns: u64) -> Candidate {
    Candidate { place, execution: Estimate { mean_ns, spread_ns: 0, count: 0 }, ..Candidate::default() }
}

/// A task that may run there.
fn task(number: u64, candidates: &[Candidate]) -> ReadyTask<'_> {
    ReadyTask { number, code: 1, priority: 0, rank_ns: None, bytes: 0, origin: None, candidates }
}

/// A place with this much to do.
fn busy(class: u32, space: u32, queued_ns: u64) -> Place {
    Place { queued: usize::from(queued_ns > 0), queued_ns, ..Place::new(class, space, 1) }
}

fn policy(name: &str) -> Box<dyn Policy> {
    by_name(name).unwrap()
}

fn decide(policy: &mut dyn Policy, places: &[Place], task: &ReadyTask<'_>) -> Decision {
    policy.place(task, &mut View { now_ns: 0, places, random: &mut Random::new(7) })
}

/// A board with places of one processor each, of these classes, each in a space of its class.
fn board(name: &str, classes: &[u32]) -> Board<u64> {
    Board::new(classes.iter().map(|class| Place::new(*class, *class, 1)).collect(), policy(name), 7)
}
