//! What each policy chooses, and why.

use super::super::{DEFAULT, Key, POLICIES, Placement, Source, Why, by_name};
use super::*;

#[test]
fn names_are_sorted_and_each_makes_the_policy_of_that_name() {
    assert!(POLICIES.is_sorted_by_key(|known| known.name));
    for known in POLICIES {
        assert_eq!(policy(known.name).name(), known.name);
        assert!(!known.summary.is_empty());
    }
    assert_eq!(policy(DEFAULT).name(), DEFAULT);
}

#[test]
fn the_documentation_has_a_row_for_each_policy() {
    let text = include_str!("../../../../docs/PLACEMENT.md");
    let rows: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect();
    for known in POLICIES {
        assert!(rows.contains(&known.name), "{} is not in docs/PLACEMENT.md", known.name);
    }
}

#[test]
fn an_unknown_name_is_an_error_with_the_names_and_the_nearest_one() {
    let text = |name: &str| by_name(name).unwrap_err().to_string();
    let all = "there are earliest-finish, earliest-finish-priority, fifo, heft, heteroprio, late-binding, locality-stealing, priority, random, work-stealing";
    assert_eq!(text("earlyest-finish"), format!("no policy is called `earlyest-finish`; did you mean `earliest-finish`?; {all}"));
    assert_eq!(text("zzzzzz"), format!("no policy is called `zzzzzz`; {all}"));
}

#[test]
fn fifo_gives_the_oldest_to_whoever_asks_first() {
    let mut board = board("fifo", &[0, 1]);
    let both = [known(0, 10), known(1, 1000)];
    for number in [3, 1, 2] {
        assert_eq!(board.push(&task(number, &both), number, 0).decision, Decision::shared(Why::FirstFree));
    }
    let taken = board.take(1, 0).unwrap();
    assert_eq!((taken.value, taken.how.source), (1, Source::Shared));
    assert_eq!([0, 1].map(|place| board.take(place, 0).unwrap().value), [2, 3]);
}

#[test]
fn priority_gives_the_highest_then_the_longest_way_to_the_end() {
    let mut board = board("priority", &[0]);
    let one = [known(0, 10)];
    let tasks = [(0, None), (0, Some(5)), (1, None), (0, Some(9)), (-1, Some(100)), (0, None)];
    for (number, (priority, rank_ns)) in tasks.into_iter().enumerate() {
        let _ = board.push(&ReadyTask { priority, rank_ns, ..task(number as u64, &one) }, number as u64, 0);
    }
    assert_eq!([2, 3, 1, 0, 5, 4], [0; 6].map(|place| board.take(place, 0).unwrap().value));
}

#[test]
fn random_chooses_idle_places_and_all_of_them() {
    let places = [busy(0, 0, 5), busy(0, 0, 0), busy(0, 0, 0), busy(0, 0, 0)];
    let candidates = [0, 1, 3].map(|place| known(place, 10));
    let mut random = Random::new(1);
    let mut counts = [0; 4];
    let mut anywhere = policy("random");
    for number in 0..1000 {
        let decision = anywhere.place(&task(number, &candidates), &mut View { now_ns: 0, places: &places, random: &mut random });
        let Placement::Place(place) = decision.placement else { panic!("{decision:?}") };
        assert_eq!(decision.why, Why::Chance);
        counts[place] += 1;
    }
    assert!(counts[0] == 0 && counts[1].min(counts[3]) > 400 && counts[2] == 0, "{counts:?}");
}

#[test]
fn work_stealing_runs_the_newest_and_steals_the_older_half() {
    let mut board = board("work-stealing", &[0, 0]);
    let both = [known(0, 10), known(1, 10)];
    for number in 0..6 {
        let pushed = board.push(&ReadyTask { origin: Some(0), ..task(number, &both) }, number, 0);
        assert_eq!((pushed.decision.placement, pushed.decision.why), (Placement::Place(0), Why::Origin));
        // The other place is told once.
        assert_eq!(pushed.wake, Some(usize::from(number == 1)));
    }
    assert_eq!(board.take(0, 0).unwrap().value, 5);
    let stolen = board.take(1, 0).unwrap();
    assert_eq!((stolen.value, stolen.how.source, stolen.how.moved), (0, Source::Stolen { from: 0 }, 2));
    let rest = [0, 0, 1, 1].map(|place| board.take(place, 0).unwrap());
    assert_eq!(rest.map(|taken| (taken.value, taken.how.source)), [(4, Source::Own), (3, Source::Own), (2, Source::Own), (1, Source::Own)]);
}

#[test]
fn locality_stealing_places_by_bytes_and_steals_what_is_nearest() {
    let missing = |place, missing_bytes| Candidate { missing_bytes, ..known(place, 10) };
    let places = [busy(0, 0, 0), busy(0, 0, 0), busy(0, 1, 90)];
    let near = [missing(0, 8), missing(1, 8), missing(2, 0)];
    let decision = decide(&mut *policy("locality-stealing"), &places, &task(0, &near));
    assert_eq!((decision.placement, decision.why, decision.finish_ns), (Placement::Place(2), Why::Data, Some(100)));
    let alike = [missing(0, 8), missing(1, 8)];
    let origin = decide(&mut *policy("locality-stealing"), &places, &ReadyTask { origin: Some(1), ..task(0, &alike) });
    assert_eq!((origin.placement, origin.why), (Placement::Place(1), Why::Origin));

    // Of the tasks of place 1 in the thief's own space, and of those of place 2 in another one, it takes the one without anything to move.
    let mut board = Board::new(places.to_vec(), policy("locality-stealing"), 7);
    let push = |board: &mut Board<u64>, number, candidates: [Candidate; 3]| {
        let _ = board.push(&task(number, &candidates), number, 0);
    };
    push(&mut board, 0, [missing(0, 7), missing(1, 0), missing(2, 9)]);
    push(&mut board, 1, [missing(0, 3), missing(1, 0), missing(2, 9)]);
    push(&mut board, 2, [missing(0, 5), missing(1, 9), missing(2, 4)]);
    let stolen = board.take(0, 0).unwrap();
    assert_eq!((stolen.value, stolen.how.source, stolen.how.moved), (1, Source::Stolen { from: 1 }, 0));
}

#[test]
fn late_binding_gives_a_free_place_the_first_task_that_it_ends_before_the_others() {
    let mut board = board("late-binding", &[0, 0]);
    let push = |board: &mut Board<u64>, number, rank_ns, candidates: [Candidate; 2]| {
        board.push(&ReadyTask { rank_ns: Some(rank_ns), ..task(number, &candidates) }, number, 0).decision.placement
    };
    let both = [known(0, 10), known(1, 30)];
    assert_eq!(push(&mut board, 0, 90, both), Placement::Shared);
    // The slow one would end it later than the fast one, which is free.
    assert!(board.take(1, 0).is_none());
    let first = board.take(0, 0).unwrap();
    assert_eq!(first.value, 0);
    // After 20 on the fast one, 30 on the slow one, which counts as 26.
    assert_eq!(push(&mut board, 1, 80, both), Placement::Shared);
    assert!(board.take(1, 0).is_none());
    // After 30 behind the more urgent one.
    assert_eq!(push(&mut board, 2, 70, both), Placement::Shared);
    let taken = board.take(1, 0).unwrap();
    assert_eq!((taken.value, taken.how.source), (2, Source::Shared));
    // Some data may have to come; a place is chosen at once. The fast one would end it after 30, the slow one after 60.
    let moving = both.map(|candidate| Candidate { transfer_ns: 4, missing_bytes: 4, ..candidate });
    assert_eq!(push(&mut board, 3, 60, moving), Placement::Place(0));
    let _ = board.finished(first.ticket, 10);
    // What was placed there comes first.
    assert_eq!([0, 0].map(|place| board.take(place, 10).unwrap().value), [3, 1]);
    let unknown = decide(&mut *policy("late-binding"), &[busy(0, 0, 5), busy(0, 0, 0)], &task(0, &[guess(0, 1), guess(1, 1)]));
    assert_eq!((unknown.placement, unknown.why), (Placement::Place(1), Why::Guessed));
}

#[test]
fn late_binding_knows_who_is_gone_and_who_may_run_elsewhere() {
    let mut board = board("late-binding", &[0, 0, 0]);
    let all = [0, 1, 2].map(|place| known(place, 10 + 20 * (place as u64 % 2)));
    let mut push = |number: u64, candidates: &[Candidate]| {
        board.push(&ReadyTask { rank_ns: Some(100 - number), ..task(number, candidates) }, number, 0).ticket
    };
    // In thought the two fast places have the first four, though no place may run all of them; so the slow one takes the fifth.
    let tickets: Vec<_> = (0..6).map(|number| push(number, if number < 2 { &all[..2] } else { &all })).collect();
    assert_eq!(board.take(1, 0).map(|taken| taken.value), Some(4));
    assert_eq!([tickets[0], tickets[2]].map(|ticket| board.abandoned(ticket, 0)), [Some(0), Some(2)]);
    assert_eq!([0, 2].map(|place| board.take(place, 0).unwrap().value), [1, 3]);
    assert_eq!(board.waiting(), 1);
}

#[test]
fn late_binding_leaves_no_slow_place_without_work_while_many_wait() {
    let mut board = board("late-binding", &[0, 0]);
    for number in 0..100 {
        let _ = board.push(&ReadyTask { rank_ns: Some(100), ..task(number, &[known(0, 10), known(1, 500)]) }, number, 0);
    }
    // Of those that it looks at, the fast one ends the last after 160; of all, after 1000.
    assert_eq!(board.take(1, 0).map(|taken| taken.value), Some(15));
}

#[test]
fn a_thief_takes_its_share_of_what_is_as_near_as_the_first() {
    let mut board = board("locality-stealing", &[0, 0]);
    for (number, missing_bytes) in [0, 5, 0, 0, 0, 0].into_iter().enumerate() {
        let candidates = [known(0, 10), Candidate { missing_bytes, ..known(1, 10) }];
        let _ = board.push(&ReadyTask { origin: Some(0), ..task(number as u64, &candidates) }, number as u64, 0);
    }
    let stolen = board.take(1, 0).unwrap();
    assert_eq!((stolen.value, stolen.how.moved), (0, 2));
    assert_eq!([1, 1, 0, 0, 0].map(|place| board.take(place, 0).unwrap().value), [3, 2, 5, 4, 1]);
}

#[test]
fn the_newest_comes_first_whatever_the_others_may_run_at() {
    let mut board = board("work-stealing", &[0, 0, 0]);
    let all = [0, 1, 2].map(|place| known(place, 10));
    for (number, count) in [2, 3, 1, 3, 2].into_iter().enumerate() {
        let _ = board.push(&ReadyTask { origin: Some(0), ..task(number as u64, &all[..count]) }, number as u64, 0);
    }
    assert_eq!([0; 5].map(|place| board.take(place, 0).unwrap().value), [4, 3, 2, 1, 0]);
}

#[test]
fn earliest_finish_adds_execution_transfer_overhead_and_load() {
    let places = [busy(0, 0, 500), busy(0, 0, 300), busy(1, 1, 0)];
    let device = Candidate { transfer_ns: 350, overhead_ns: 30, missing_bytes: 9, ..known(2, 20) };
    let at = |host_ns| [known(0, host_ns), known(1, host_ns), device];
    let choose = |places: &[Place], candidates: &[Candidate]| {
        let decision = decide(&mut *policy("earliest-finish"), places, &task(0, candidates));
        assert_eq!(decision.why, Why::EarliestFinish);
        (decision.placement, decision.finish_ns)
    };
    assert_eq!(choose(&places, &at(99)), (Placement::Place(1), Some(399)));
    // Equal: the one with fewer bytes to move.
    assert_eq!(choose(&places, &at(100)), (Placement::Place(1), Some(400)));
    assert_eq!(choose(&places, &at(101)), (Placement::Place(2), Some(400)));
    // A busy place that fetches ahead waits for the longer of the two only.
    let ahead = [places[0], places[1], Place { prefetches: true, ..busy(1, 1, 340) }];
    assert_eq!(choose(&ahead, &at(101)), (Placement::Place(2), Some(400)));
    // A pool works on several at once.
    let pool = [Place { queued: 3, parallel: 4, ..places[0] }, Place { queued: 4, parallel: 4, ..places[1] }];
    assert_eq!(choose(&pool, &[known(0, 100), known(1, 10)]), (Placement::Place(1), Some(85)));
}

#[test]
fn one_candidate_needs_no_thought() {
    for known_policy in POLICIES {
        let decision = decide(&mut *policy(known_policy.name), &[busy(0, 0, 5), busy(1, 1, 0)], &task(0, &[known(0, 10)]));
        if let Placement::Place(_) = decision.placement {
            assert_eq!((decision.why, decision.finish_ns), (Why::OnlyCandidate, Some(15)), "{}", known_policy.name);
        }
    }
}

#[test]
fn earliest_finish_priority_runs_the_most_urgent_then_what_is_there() {
    let mut board = board("earliest-finish-priority", &[0]);
    let here = |missing_bytes| [Candidate { missing_bytes, ..known(0, 10) }];
    let tasks = [(0, Some(5), 0), (0, Some(9), 8), (0, Some(9), 2), (1, None, 9)];
    for (number, (priority, rank_ns, missing)) in tasks.into_iter().enumerate() {
        let _ = board.push(&ReadyTask { priority, rank_ns, ..task(number as u64, &here(missing)) }, number as u64, 0);
    }
    assert_eq!([3, 2, 1, 0], [0; 4].map(|place| board.take(place, 0).unwrap().value));
}

#[test]
fn heft_runs_the_longest_way_to_the_end_whatever_the_priority() {
    let mut board = board("heft", &[0, 1]);
    let both = [known(0, 10), known(1, 30)];
    for (number, (priority, rank_ns)) in [(9, Some(5)), (0, Some(9)), (0, Some(5))].into_iter().enumerate() {
        let pushed = board.push(&ReadyTask { priority, rank_ns, ..task(number as u64, &both) }, number as u64, 0);
        assert_eq!((pushed.decision.placement, pushed.decision.why), (Placement::Place(0), Why::EarliestFinish));
    }
    assert_eq!([1, 0, 2], [0; 3].map(|place| board.take(place, 0).unwrap().value));
}

#[test]
fn heteroprio_gives_devices_what_they_speed_up_most_and_the_host_the_rest() {
    let mut board = board("heteroprio", &[0, 1]);
    // Speed-ups of 1, 20 and 4 by the device, then one for the host only and one that the host does faster.
    let tasks: [&[Candidate]; 5] = [
        &[known(0, 10), known(1, 10)],
        &[known(0, 200), known(1, 10)],
        &[known(0, 40), known(1, 10)],
        &[known(0, 5)],
        &[known(0, 10), known(1, 30)],
    ];
    for (number, candidates) in tasks.into_iter().enumerate() {
        assert_eq!(board.push(&task(number as u64, candidates), number as u64, 0).decision, Decision::shared(Why::Ratio));
    }
    assert_eq!(board.take(1, 0).unwrap().value, 1);
    assert_eq!([3, 4, 0].map(|_| board.take(0, 0).unwrap().value), [3, 4, 0]);
    // The device is through with what it has before the host would be with this one.
    assert!(!board.would_take(0, 0));
    assert_eq!(board.reason(0), Some(Why::Ratio));
    // With five times as much to do it is not.
    for number in 5..9 {
        let _ = board.push(&task(number, &[known(0, 40), known(1, 10)]), number, 0);
    }
    assert_eq!(board.take(0, 0).unwrap().value, 2);
    assert_eq!(board.take(1, 0).unwrap().value, 5);
    // Without the device the host does it all.
    let _ = board.set_active(1, false, 0);
    assert_eq!([0; 3].map(|place| board.take(place, 0).unwrap().value), [6, 7, 8]);
}

#[test]
fn heteroprio_orders_like_ones_by_priority_for_both_ends() {
    for (host_ns, place) in [(40, 1), (1, 0)] {
        let mut board = board("heteroprio", &[0, 1]);
        for (number, priority) in [0, 5, 0].into_iter().enumerate() {
            let _ = board.push(&ReadyTask { priority, ..task(number as u64, &[known(0, host_ns), known(1, 10)]) }, number as u64, 0);
        }
        assert_eq!([1, 0, 2], [0; 3].map(|_| board.take(place, 0).unwrap().value));
    }
}

#[test]
fn keys_put_the_larger_first_without_overflow() {
    assert!(Key::descending(i64::MAX) < Key::descending(0) && Key::descending(0) < Key::descending(i64::MIN));
}
