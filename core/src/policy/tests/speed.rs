//! How long a decision takes. Prints, and asserts nothing: `cargo test -p poniard --release --lib policy::tests::speed -- --ignored --nocapture`.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "it measures, and prints what it measured")]

use std::time::Instant;

use super::super::POLICIES;
use super::*;

/// Tasks of one measurement, and how many of them are on the board at a time.
const TASKS: u64 = 1000;
const WINDOW: usize = 48;

/// Fourteen processors of the host and two devices; codes are known everywhere, and every task has a choice among all.
#[test]
#[ignore = "a measurement"]
fn sixteen_places() {
    let places: Vec<_> = (0..16_u32).map(|place| Place::new(place / 14, place.saturating_sub(13), 1)).collect();
    let candidates: Vec<_> = (0..16)
        .map(|place| Candidate {
            transfer_ns: if place < 14 { 0 } else { 500 },
            missing_bytes: if place < 14 { 0 } else { 4096 },
            ..known(place, 1000)
        })
        .collect();
    println!("{:26} {:>12} {:>12} {:>24}", "", "decision, ns", "push, ns", "push, take and end, ns");
    for known_policy in POLICIES {
        let mut decisions = Vec::new();
        let (mut pushes, mut wholes) = (Vec::new(), Vec::new());
        let mut board = Board::new(places.clone(), policy(known_policy.name), 3);
        let mut alone = policy(known_policy.name);
        let mut random = Random::new(5);
        let loaded: Vec<_> =
            places.iter().enumerate().map(|(index, place)| Place { queued: 2, queued_ns: 100 * index as u64, ..*place }).collect();
        let mut running = std::collections::VecDeque::new();
        let mut now = 0;
        for round in 0..300 {
            let start = Instant::now();
            for number in 0..TASKS {
                let task = ReadyTask { code: number % 20, ..task(number, &candidates) };
                std::hint::black_box(alone.place(&task, &mut View { now_ns: 0, places: &loaded, random: &mut random }));
            }
            decisions.push(start.elapsed().as_nanos() / u128::from(TASKS));
            let start = Instant::now();
            for number in 0..TASKS {
                now += 60;
                let task = ReadyTask { code: number % 20, origin: Some(number as usize % 16), ..task(round * TASKS + number, &candidates) };
                let _ = board.push(&task, number, now);
                // Half the time each place takes in turn, so that queues are neither empty nor long.
                if let Some(taken) = board.take(number as usize % 16, now) {
                    running.push_back(taken.ticket);
                }
                if running.len() > WINDOW {
                    board.finished(running.pop_front().unwrap(), now);
                }
            }
            wholes.push(start.elapsed().as_nanos() / u128::from(TASKS));
        }
        let mut board = Board::new(places.clone(), policy(known_policy.name), 3);
        for _ in 0..300 {
            let start = Instant::now();
            let tickets: Vec<_> = (0..TASKS)
                .map(|number| {
                    let task = ReadyTask { code: number % 20, origin: Some(number as usize % 16), ..task(number, &candidates) };
                    board.push(&task, number, now).ticket
                })
                .collect();
            pushes.push(start.elapsed().as_nanos() / u128::from(TASKS));
            for ticket in tickets {
                board.abandoned(ticket, now);
            }
        }
        let [decision, push, whole] = [decisions, pushes, wholes].map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2]
        });
        println!("{:26} {decision:>12} {push:>12} {whole:>24}", known_policy.name);
    }
}
