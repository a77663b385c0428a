//! What a decision costs among sixteen places: `decision`, `decision-push`, `decision-whole`.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Instant;

use poniard::policy::{Board, Candidate, Estimate, KnownPolicy, POLICIES, Place, Random, ReadyTask, View};
use poniard_bench::System;

/// Places, of which the last two are devices.
const PLACES: usize = 16;
const DEVICES: usize = 2;
/// Tasks of one measurement, how many measurements a sample is the median of, and how many tasks are on the board at a time.
const TASKS: u64 = 1000;
const ROUNDS: usize = 50;
const WINDOW: usize = 48;

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    /// The policy alone.
    Decision,
    /// With what the board has to note.
    Push,
    /// A task is pushed, another one taken and a third one over.
    Whole,
}

/// Where a task may run, by now well known.
fn candidates() -> Vec<Candidate> {
    let of = |place: usize| {
        let is_device = place >= PLACES - DEVICES;
        Candidate {
            place,
            execution: Estimate { mean_ns: if is_device { 900 } else { 1000 }, spread_ns: 50, count: 20 },
            transfer_ns: if is_device { 500 } else { 0 },
            missing_bytes: if is_device { 4096 } else { 0 },
            overhead_ns: 0,
        }
    };
    (0..PLACES).map(of).collect()
}

fn places() -> Vec<Place> {
    let of = |place: usize| Place::new((place / (PLACES - DEVICES)) as u32, place.saturating_sub(PLACES - DEVICES - 1) as u32, 1);
    (0..PLACES).map(of).collect()
}

fn task(number: u64, candidates: &[Candidate]) -> ReadyTask<'_> {
    let origin = Some(number as usize % PLACES);
    ReadyTask { number, code: number % 20, priority: 0, rank_ns: None, bytes: 4096, origin, candidates }
}

/// Nanoseconds a task.
fn measured(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_nanos() as f64 / TASKS as f64
}

fn round(policy: KnownPolicy, part: Part) -> impl FnMut() -> f64 {
    let (candidates, places) = (candidates(), places());
    let loaded: Vec<_> = places.iter().zip(0..).map(|(place, index)| Place { queued: 2, queued_ns: 100 * index, ..*place }).collect();
    let (mut alone, mut random) = ((policy.make)(), Random::new(5));
    let mut board = Board::new(places, (policy.make)(), 3);
    let mut running = VecDeque::new();
    let (mut now_ns, mut next) = (0, 0);
    move || {
        let first = next;
        next += TASKS;
        match part {
            Part::Decision => measured(|| {
                for number in first..next {
                    black_box(alone.place(&task(number, &candidates), &mut View { now_ns: 0, places: &loaded, random: &mut random }));
                }
            }),
            Part::Push => {
                let mut tickets = Vec::with_capacity(TASKS as usize);
                let time =
                    measured(|| tickets.extend((first..next).map(|number| board.push(&task(number, &candidates), number, now_ns).ticket)));
                for ticket in tickets {
                    board.abandoned(ticket, now_ns);
                }
                time
            }
            Part::Whole => measured(|| {
                for number in first..next {
                    now_ns += 60;
                    let _ = board.push(&task(number, &candidates), number, now_ns);
                    // Each place takes in turn, so that queues are neither empty nor long.
                    running.extend(board.take(number as usize % PLACES, now_ns).map(|taken| taken.ticket));
                    if running.len() > WINDOW
                        && let Some(ticket) = running.pop_front()
                    {
                        board.finished(ticket, now_ns);
                    }
                }
            }),
        }
    }
}

pub(crate) fn systems(part: Part) -> Vec<System<'static>> {
    let of = |policy: KnownPolicy| {
        let mut round = round(policy, part);
        System::new(policy.name, "", move || {
            let mut times: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
            times.sort_by(f64::total_cmp);
            times[ROUNDS / 2]
        })
    };
    POLICIES.into_iter().map(of).collect()
}
