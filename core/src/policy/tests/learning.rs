//! What is not known, what is explored, and what is kept.

use super::super::earliest_finish::EarliestFinish;
use super::super::{Outcome, Placement, SHARE_DIVISOR, TRIES, Why};
use super::*;

/// The task has run where it was placed.
fn ran(policy: &mut EarliestFinish, why: Why, class: u32, took_ns: u64) {
    policy.ended(&Outcome { code: 1, placed_class: Some(class), why, ran: Some((class, took_ns)) });
}

const PLACES: [Place; 2] = [
    Place { class: 0, space: 0, parallel: 1, prefetches: false, active: true, queued: 0, queued_ns: 0, backlog_ns: 0 },
    Place { class: 1, space: 1, parallel: 1, prefetches: false, active: true, queued: 0, queued_ns: 0, backlog_ns: 0 },
];

#[test]
fn with_nothing_known_guesses_decide() {
    let decision = decide(&mut EarliestFinish::default(), &PLACES, &task(0, &[guess(0, 20), guess(1, 10)]));
    assert_eq!((decision.placement, decision.why, decision.finish_ns), (Placement::Place(1), Why::Guessed, Some(10)));
}

#[test]
fn what_is_unknown_is_explored_when_that_is_cheap_enough() {
    let mut policy = EarliestFinish::default();
    // 30 for the transfer and 10 for the launch; that it takes 1 there nobody believes.
    let device = Candidate { transfer_ns: 30, overhead_ns: 10, ..guess(1, 1) };
    let candidates = [known(0, 100), device];
    for worked in [0, 399] {
        ran(&mut policy, Why::EarliestFinish, 0, worked);
        let decision = decide(&mut policy, &PLACES, &task(0, &candidates));
        assert_eq!((decision.placement, decision.why), (Placement::Place(0), Why::EarliestFinish));
    }
    ran(&mut policy, Why::EarliestFinish, 0, 1);
    let explored = decide(&mut policy, &PLACES, &task(0, &candidates));
    let why = Why::Explored { instead_ns: 100, regret_ns: 40 };
    assert_eq!((explored.placement, explored.why), (Placement::Place(1), why));
    assert_eq!(policy.budget.sums(), [0, 40, 400]);
    // The budget is spent.
    assert_eq!(decide(&mut policy, &PLACES, &task(0, &candidates)).why, Why::EarliestFinish);
    // It took 60 more than on the host, and 160 more have been worked.
    ran(&mut policy, why, 1, 160);
    assert_eq!(policy.budget.sums(), [60, 0, 560]);
    assert_eq!(decide(&mut policy, &PLACES, &task(0, &candidates)).why, Why::EarliestFinish);
    ran(&mut policy, Why::EarliestFinish, 0, 440);
    assert_eq!(decide(&mut policy, &PLACES, &task(0, &candidates)).why, why);
}

#[test]
fn no_more_explore_at_a_time_than_are_needed() {
    let mut policy = EarliestFinish::default();
    let candidates = [known(0, 100), guess(1, 100)];
    let why = |policy: &mut EarliestFinish| decide(policy, &PLACES, &task(0, &candidates)).why;
    for _ in 0..TRIES {
        assert_eq!(why(&mut policy), Why::Explored { instead_ns: 100, regret_ns: 0 });
    }
    assert_eq!(why(&mut policy), Why::EarliestFinish);
    // One did not run: another may.
    policy.ended(&Outcome { code: 1, placed_class: Some(1), why: Why::Explored { instead_ns: 100, regret_ns: 0 }, ran: None });
    assert_eq!(why(&mut policy), Why::Explored { instead_ns: 100, regret_ns: 0 });
    assert_eq!(why(&mut policy), Why::EarliestFinish);
    // One ran elsewhere, since its place hung: that says nothing about what exploring costs.
    policy.ended(&Outcome { code: 1, placed_class: Some(1), why: Why::Explored { instead_ns: 100, regret_ns: 0 }, ran: Some((0, 900)) });
    assert_eq!(policy.budget.sums(), [0, 0, 900]);
    // Estimates that have their measurements count.
    let measured = Candidate { execution: Estimate { mean_ns: 50, spread_ns: 0, count: TRIES }, ..guess(1, 0) };
    let decision = decide(&mut policy, &PLACES, &task(0, &[known(0, 100), measured]));
    assert_eq!((decision.placement, decision.why), (Placement::Place(1), Why::EarliestFinish));
}

/// Whatever a code really takes on the device: exploring costs a tenth of the work, and at most what the first tries there, all together, are worse by.
#[test]
fn exploring_costs_no_more_than_its_share_and_one_surprise() {
    let mut random = Random::new(3);
    for _ in 0..200 {
        let (host_ns, device_ns, transfer_ns) = (1 + random.below(1000) as u64, 1 + random.below(10_000) as u64, random.below(300) as u64);
        let mut policy = EarliestFinish::default();
        let (mut tried, mut worst) = (0, 0);
        for number in 0..500 {
            let execution = Estimate { mean_ns: if tried == 0 { host_ns } else { device_ns }, spread_ns: 0, count: tried };
            let candidates = [known(0, host_ns), Candidate { place: 1, execution, transfer_ns, ..Candidate::default() }];
            let decision = decide(&mut policy, &PLACES, &task(number, &candidates));
            if decision.placement == Placement::Place(1) {
                tried += 1;
                worst = (transfer_ns + device_ns).saturating_sub(host_ns).max(worst);
                ran(&mut policy, decision.why, 1, transfer_ns + device_ns);
            } else {
                ran(&mut policy, decision.why, 0, host_ns);
            }
            let [spent, at_stake, worked] = policy.budget.sums();
            assert!(spent <= worked / SHARE_DIVISOR + u128::from(worst) && at_stake == 0, "{spent} of {worked}, {worst} at most");
        }
        assert!(tried > 0 || u128::from(transfer_ns) * SHARE_DIVISOR > 500 * u128::from(host_ns));
    }
}

#[test]
fn a_code_stays_with_its_class_unless_another_is_better_by_a_margin() {
    let mut policy = EarliestFinish::default();
    let mut choose = |host_ns, device_ns| {
        let decision = decide(&mut policy, &PLACES, &task(0, &[known(0, host_ns), known(1, device_ns)]));
        (decision.placement, decision.why)
    };
    assert_eq!(choose(100, 101), (Placement::Place(0), Why::EarliestFinish));
    for device_ns in [99, 95, 101, 90] {
        let why = if device_ns < 100 { Why::Hysteresis { instead: 1 } } else { Why::EarliestFinish };
        assert_eq!(choose(100, device_ns), (Placement::Place(0), why));
    }
    assert_eq!(choose(100, 89), (Placement::Place(1), Why::EarliestFinish));
    assert_eq!(choose(100, 109), (Placement::Place(1), Why::Hysteresis { instead: 0 }));
    assert_eq!(choose(100, 112), (Placement::Place(0), Why::EarliestFinish));
}

#[test]
fn two_places_of_a_class_share_without_hysteresis() {
    let mut policy = EarliestFinish::default();
    for (first, second, place) in [(0, 5, 0), (6, 5, 1), (6, 7, 0)] {
        let places = [busy(0, 0, first), busy(0, 0, second)];
        let decision = decide(&mut policy, &places, &task(0, &[known(0, 1000), known(1, 1000)]));
        assert_eq!((decision.placement, decision.why), (Placement::Place(place), Why::EarliestFinish));
    }
}

#[test]
fn who_waited_to_explore_a_place_that_is_gone_does_not_use_up_the_tries() {
    let mut board = board("earliest-finish", &[0, 1]);
    let candidates = [known(0, 100), guess(1, 100)];
    let explored = Why::Explored { instead_ns: 100, regret_ns: 0 };
    for number in 100..110 {
        let _ = board.push(&task(number, &candidates[..1]), number, 0);
    }
    for number in 0..u64::from(TRIES) {
        assert_eq!(board.push(&task(number, &candidates), number, 0).decision.why, explored);
    }
    let moved = board.set_active(1, false, 0);
    assert!(moved.iter().all(|pushed| pushed.decision.why == Why::OnlyCandidate) && moved.len() == TRIES as usize);
    let _ = board.set_active(1, true, 0);
    assert_eq!(board.push(&task(9, &candidates), 9, 0).decision.why, explored);
}

#[test]
fn what_waits_at_the_unknown_place_and_the_way_there_are_part_of_the_regret() {
    let choose = |places: &[Place], device| decide(&mut EarliestFinish::default(), places, &task(0, &[known(0, 100), device])).why;
    let explored = Why::Explored { instead_ns: 100, regret_ns: 0 };
    assert_eq!(choose(&PLACES, guess(1, 1)), explored);
    // Its guess is not believed: with what waits there it would be late.
    assert_eq!(choose(&[PLACES[0], busy(1, 1, 50)], guess(1, 1)), Why::EarliestFinish);
    assert_eq!(choose(&[busy(0, 0, 50), busy(1, 1, 50)], guess(1, 1)), explored);
    // However long the host is busy, the way there has to be paid.
    assert_eq!(choose(&[busy(0, 0, 500), PLACES[1]], Candidate { transfer_ns: 1, ..guess(1, 1) }), Why::EarliestFinish);
}

/// Those that wait know only what was guessed when they were placed, but their policy has learned since.
#[test]
fn what_was_learned_since_counts_for_tasks_that_wait() {
    for took_ns in [100, 10_000] {
        let mut board = board("earliest-finish", &[0, 1]);
        let _ = board.push(&task(0, &[guess(0, 100), guess(1, 50)]), 0, 0);
        let device = board.take(1, 0).unwrap();
        assert_eq!(board.finished(device.ticket, took_ns).unwrap().took_ns, took_ns);
        for number in 1..5 {
            let pushed = board.push(&task(number, &[guess(0, 100), guess(1, 500)]), number, took_ns);
            assert_eq!((pushed.decision.placement, pushed.decision.why), (Placement::Place(0), Why::Guessed));
        }
        assert_eq!(board.take(0, took_ns).unwrap().value, 1);
        // The host is late by 900 and is expected to need as long again, and 300 for the others.
        assert_eq!(board.would_take(1, took_ns + 1000), took_ns == 100);
    }
}
