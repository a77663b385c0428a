//! What the board counts, and what becomes of tasks when places come, go or hang.

use super::super::{Outcome, Placement, Source, TRIES, Why};
use super::*;

const MS: u64 = 1_000_000;

#[test]
fn loads_are_counted_in_time_and_return_to_zero() {
    let mut board = board("earliest-finish", &[0, 0]);
    let first = [known(0, 100)];
    let tickets = [0, 1, 2].map(|number| board.push(&task(number, &first), number, 0).ticket);
    let loads = |board: &mut Board<u64>, now| board.places(now).iter().map(|place| (place.queued, place.queued_ns)).collect::<Vec<_>>();
    assert_eq!(loads(&mut board, 0), [(3, 300), (0, 0)]);
    let taken = board.take(0, 1000).unwrap();
    assert_eq!(taken.ticket, tickets[0]);
    // It has run for 30 of its 100; at 1250 it is 150 late, and is expected to take as long again.
    assert_eq!(loads(&mut board, 1030), [(3, 270), (0, 0)]);
    assert_eq!(loads(&mut board, 1250), [(3, 350), (0, 0)]);
    let ended = board.finished(taken.ticket, 1250).unwrap();
    assert_eq!((ended.place, ended.expected_ns, ended.took_ns), (0, 100, 250));
    assert!(board.finished(taken.ticket, 1250).is_none());
    assert_eq!(loads(&mut board, 1250), [(2, 200), (0, 0)]);
    assert_eq!(board.abandoned(tickets[1], 1300), Some(1));
    assert_eq!(board.abandoned(tickets[1], 1300), None);
    let last = board.take(0, 1300).unwrap();
    assert_eq!(board.abandoned(last.ticket, 1310), None);
    assert_eq!((loads(&mut board, 1310), board.waiting()), (vec![(0, 0), (0, 0)], 0));
}

#[test]
fn what_is_not_on_the_board_is_waited_for_once() {
    let mut board = board("earliest-finish", &[0, 1]);
    board.set_backlog(0, 100);
    let finish = |board: &mut Board<u64>, number| board.push(&task(number, &[known(0, 10), known(1, 1000)]), number, 0).decision.finish_ns;
    assert_eq!([0, 1, 2].map(|number| finish(&mut board, number)), [Some(110), Some(120), Some(130)]);
    assert_eq!(board.places(0)[0].queued_ns, 30, "it is the place's, and none of its tasks'");
    board.set_backlog(0, 0);
    assert_eq!(finish(&mut board, 3), Some(40));
}

#[test]
fn a_ticket_is_not_good_for_the_next_task_in_its_slot() {
    let mut board = board("fifo", &[0]);
    let first = board.push(&task(0, &[known(0, 1)]), 0, 0).ticket;
    assert_eq!(board.abandoned(first, 0), Some(0));
    let second = board.push(&task(1, &[known(0, 1)]), 1, 0).ticket;
    assert_eq!((board.abandoned(first, 0), board.waiting()), (None, 1));
    assert_eq!(board.abandoned(second, 0), Some(1));
}

#[test]
fn what_is_taken_ahead_runs_in_order_and_begins_when_the_one_before_has_ended() {
    let mut board = board("earliest-finish", &[1]);
    let one = [known(0, 100)];
    for number in 0..3 {
        let _ = board.push(&task(number, &one), number, 0);
    }
    let taken = [0; 3].map(|_| board.take(0, 0).unwrap().ticket);
    assert_eq!(board.places(50)[0].queued_ns, 250);
    assert_eq!(board.finished(taken[0], 120).unwrap().took_ns, 120);
    // One that is reported out of turn.
    assert_eq!(board.finished(taken[2], 130).unwrap().took_ns, 0);
    assert_eq!(board.places(130)[0].queued_ns, 90);
    assert_eq!(board.finished(taken[1], 200).unwrap().took_ns, 80);
    assert_eq!((board.places(200)[0].queued, board.places(200)[0].queued_ns), (0, 0));
}

#[test]
fn a_task_that_runs_while_another_one_waits_counts_as_it_was_measured() {
    // A thread of the first place waits for a task that is in the queue of the second one, or was taken by that in vain.
    for is_taken in [false, true] {
        let mut board = board("earliest-finish", &[0, 0]);
        let both = [known(0, 100), known(1, 100)];
        let outer = board.push(&task(0, &both), 0, 0).ticket;
        assert_eq!(board.take(0, 0).unwrap().ticket, outer);
        let inner = board.push(&task(1, &both), 1, 0).ticket;
        if is_taken {
            assert_eq!(board.take(1, 0).unwrap().ticket, inner);
        }
        assert_eq!(board.run_unasked(inner, 0, 10), (!is_taken).then_some(1));
        assert_eq!((board.places(10)[0].queued, board.places(10)[1].queued, board.waiting()), (2, 0, 0));
        assert_eq!(board.run_unasked(inner, 0, 10), None);
        let ended = board.finished_after(inner, Some(70), 80).unwrap();
        assert_eq!((ended.place, ended.took_ns), (0, 70));
        // It was there for all of that, and took 30 by itself.
        assert_eq!(board.finished_after(outer, Some(30), 100).unwrap().took_ns, 30);
        assert_eq!(board.places(100).iter().map(|place| (place.queued, place.queued_ns)).collect::<Vec<_>>(), [(0, 0), (0, 0)]);
    }
}

#[test]
fn a_place_that_is_no_candidate_of_a_task_does_not_get_it() {
    let mut board = board("earliest-finish", &[0, 1]);
    let only = board.push(&task(0, &[known(1, 100)]), 7, 0).ticket;
    assert_eq!(board.run_unasked(only, 0, 0), None);
    assert_eq!((board.waiting(), board.places(0)[1].queued), (1, 1));
    assert_eq!(board.abandoned(only, 0), Some(7));
}

#[test]
fn what_a_policy_hears_is_what_was_measured_or_nothing() {
    // Of a task that a place had taken ahead and that was over out of turn it heard that it took no time.
    let cost = Candidate { transfer_ns: 5, overhead_ns: 2, ..known(0, 100) };
    for (class, measured_ns, worked_ns) in [(0, None, 0), (0, Some(40), 40), (1, None, 0), (1, Some(40), 47)] {
        let places = vec![Place::new(class, class, 1)];
        let mut board = Board::new(places, Box::new(Hears::default()), 7);
        let tickets = [0, 1].map(|number| board.push(&task(number, &[cost]), number, 0).ticket);
        let _ = (board.take(0, 0), board.take(0, 0));
        assert_eq!(board.finished_after(tickets[1], measured_ns, 60).unwrap().took_ns, worked_ns);
        let heard = format!("{:?}", board.policy());
        let expected = measured_ns.map(|_| worked_ns);
        assert_eq!(heard, format!("{:?}", Hears(vec![expected])), "{class}, {measured_ns:?}");
    }
}

/// Keeps what it hears.
#[derive(Debug, Default)]
struct Hears(Vec<Option<u64>>);

impl Policy for Hears {
    fn name(&self) -> &'static str {
        "hears"
    }

    fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
        Decision::at(&task.candidates[0], Why::FirstFree, view)
    }

    fn ended(&mut self, outcome: &Outcome) {
        self.0.push(outcome.ran.map(|(_, took_ns)| took_ns));
    }
}

#[test]
fn an_idle_place_takes_over_what_it_would_finish_earlier() {
    let mut board = board("earliest-finish", &[0, 1]);
    let both = [known(0, 100), known(1, 300)];
    let pushed = [0, 1, 2].map(|number| board.push(&task(number, &both), number, 0).decision.placement);
    assert_eq!(pushed, [Placement::Place(0); 3]);
    assert_eq!(board.take(0, 0).unwrap().value, 0);
    // The last one ends at 300, and would end at 300 on the device. When the first is late by x, x more are expected of it: the last ends in x + 200.
    // The device needs 300, and a change of class has to save 10.
    assert!(!board.would_take(1, 0) && !board.would_take(1, 100));
    assert_eq!((board.reason(1), board.to_wake(210)), (Some(Why::EarliestFinish), None));
    assert_eq!(board.to_wake(211), Some(1));
    let taken = board.take(1, 211).unwrap();
    assert_eq!((taken.value, taken.how.source, taken.how.why), (2, Source::Stolen { from: 0 }, Why::EarliestFinish));
}

#[test]
fn a_place_that_is_removed_leaves_its_queue_to_others() {
    let mut board = board("earliest-finish", &[0, 1]);
    let both = [known(0, 100), known(1, 5000)];
    let pushed = [0, 1].map(|number| board.push(&task(number, &both), number, 0));
    let only = board.push(&task(2, &[known(0, 100)]), 2, 0);
    let taken = board.take(0, 0).unwrap();
    let moved = board.set_active(0, false, 10);
    let told: Vec<_> = moved.iter().map(|pushed| (pushed.ticket, pushed.decision.placement, pushed.decision.why, pushed.wake)).collect();
    let other = (pushed[1].ticket, Placement::Place(1), Why::OnlyCandidate, Some(1));
    assert_eq!(told, [other, (only.ticket, Placement::Shared, Why::NoPlace, None)]);
    // That one does not care about other places.
    assert!(board.take(0, 10).is_none() && board.set_active(1, true, 10).is_empty());
    // What it was running is still its own.
    assert_eq!(board.finished(taken.ticket, 100).unwrap().place, 0);
    assert_eq!(board.take(1, 100).unwrap().value, 1);
    assert!(board.take(1, 100).is_none());
    let back = board.set_active(0, true, 200);
    assert_eq!((back.len(), back[0].decision.placement, back[0].wake), (1, Placement::Place(0), Some(0)));
    assert_eq!(board.take(0, 200).unwrap().value, 2);
}

#[test]
fn what_only_a_place_that_is_removed_may_run_comes_back_from_the_queue_for_all() {
    let mut board = board("fifo", &[0, 1]);
    let only = board.push(&task(0, &[known(1, 100)]), 0, 0);
    let _ = board.push(&task(1, &[known(0, 100), known(1, 100)]), 1, 0);
    let told: Vec<_> = board.set_active(1, false, 10).iter().map(|pushed| (pushed.ticket, pushed.decision.why)).collect();
    assert_eq!(told, [(only.ticket, Why::NoPlace)]);
    // Once is enough.
    assert!(board.set_active(1, false, 20).is_empty());
    assert_eq!(board.take(0, 20).unwrap().value, 1);
}

#[test]
fn the_queue_of_a_place_that_hangs_is_taken_over_under_every_policy() {
    for known_policy in super::super::POLICIES {
        let mut board = board(known_policy.name, &[0, 0, 1]);
        let all = [known(0, MS), known(1, MS), known(2, 1000 * MS)];
        let only = [known(0, MS)];
        let _ = board.push(&task(0, &only), 0, 0);
        assert_eq!(board.take(0, 0).unwrap().value, 0);
        let _ = board.push(&ReadyTask { origin: Some(0), ..task(1, &all[..1]) }, 1, 0);
        assert!(!board.stalled(0, 10 * MS) && board.stalled(0, 10 * MS + 1), "{}", known_policy.name);
        // Nobody else may run that one.
        assert!(board.take(1, 50 * MS).is_none() && board.take(2, 50 * MS).is_none());
    }
    // It waits for a place that hangs, by the rules of a policy that never steals.
    #[derive(Debug)]
    struct Stubborn;
    impl Policy for Stubborn {
        fn name(&self) -> &'static str {
            "stubborn"
        }
        fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
            Decision::at(&task.candidates[0], Why::EarliestFinish, view)
        }
    }
    let mut board = Board::new(vec![Place::new(0, 0, 1), Place::new(0, 0, 1)], Box::new(Stubborn), 1);
    let both = [known(0, 2 * MS), known(1, 2 * MS)];
    for number in 0..3 {
        let _ = board.push(&task(number, &both), number, 0);
    }
    let hung = board.take(0, 0).unwrap();
    assert!(board.take(1, 16 * MS).is_none());
    let taken = board.take(1, 16 * MS + 1).unwrap();
    assert_eq!((taken.value, taken.how.source), (1, Source::TakenOver { from: 0 }));
    // It was only slow.
    assert!(board.finished(hung.ticket, 20 * MS).is_some());
    assert!(board.take(1, 20 * MS).is_none());
}

#[test]
fn candidates_and_when_they_would_finish_can_be_told() {
    let mut board = board("earliest-finish", &[0, 1]);
    let both = [known(0, 100), Candidate { overhead_ns: 20, ..known(1, 70) }];
    let _ = board.push(&task(0, &[known(0, 55)]), 0, 0);
    let told: Vec<_> = board.consider(&task(1, &both), 0).map(|(candidate, finish)| (candidate.place, finish)).collect();
    assert_eq!(told, [(0, 155), (1, 90)]);
    assert_eq!(board.push(&task(1, &both), 1, 0).decision.finish_ns, Some(90));
}

#[test]
fn a_clock_that_jumps_and_costs_without_measure_break_no_sum() {
    let mut board = board("earliest-finish", &[0, 1]);
    let huge = [known(0, u64::MAX), Candidate { transfer_ns: u64::MAX, ..known(1, u64::MAX) }];
    for number in 0..4 {
        let _ = board.push(&task(number, &huge), number, u64::MAX - number);
    }
    let taken = board.take(0, u64::MAX).unwrap();
    assert_eq!(board.places(5)[0].queued_ns, u64::MAX);
    assert_eq!(board.finished(taken.ticket, 3).unwrap().took_ns, 0);
    while let Some(taken) = board.take(0, 0) {
        let _ = board.finished(taken.ticket, u64::MAX);
    }
    while let Some(taken) = board.take(1, 0) {
        let _ = board.finished(taken.ticket, u64::MAX);
    }
    assert!(board.places(9).iter().all(|place| (place.queued, place.queued_ns) == (0, 0)));
    assert_eq!(board.waiting(), 0);
}

#[test]
#[should_panic(expected = "sorted by place")]
fn candidates_out_of_order_are_a_bug() {
    let _ = board("fifo", &[0, 0]).push(&task(0, &[known(1, 1), known(0, 1)]), 0, 0);
}

#[test]
fn a_place_begins_a_few_tasks_of_a_code_that_nobody_knows_and_more_when_those_are_over() {
    let take_all = |board: &mut Board<u64>| std::iter::from_fn(|| board.take(1, 0)).map(|taken| taken.ticket).collect::<Vec<_>>();
    let push = |board: &mut Board<u64>, candidates: &[Candidate]| {
        (0..10).for_each(|number| _ = board.push(&task(number, candidates), number, 0));
    };
    let mut board = board("fifo", &[0, 1]);
    push(&mut board, &[guess(0, 10), guess(1, 10)]);
    let few = take_all(&mut board);
    assert_eq!(few.len(), TRIES as usize);
    // Two are over, so it may have one more: two are under way, and there may be three.
    few[..2].iter().for_each(|ticket| _ = board.finished(*ticket, 5));
    let more = take_all(&mut board);
    assert_eq!(more.len(), 2);
    let _ = board.finished(few[2], 5);
    assert_eq!(take_all(&mut board).len(), 5, "now it is known");
    for known_there in [known(1, 10), guess(1, 10)] {
        let mut board = super::board("fifo", &[0, 1]);
        push(&mut board, &[known_there]);
        // Known well, or nowhere else to go.
        assert_eq!(take_all(&mut board).len(), 10);
    }
}

#[test]
fn what_waits_where_data_is_fetched_ahead_keeps_its_place_busy_without_its_transfer() {
    let place = Place { prefetches: true, ..Place::new(1, 1, 1) };
    let mut board: Board<u64> = Board::new(vec![place, Place::new(1, 2, 1)], policy("earliest-finish"), 7);
    for number in 0..2 {
        let _ = board.push(&task(number, &[Candidate { transfer_ns: 40, overhead_ns: 3, ..known(number as usize, 100) }]), number, 0);
    }
    assert_eq!(board.places(0).iter().map(|place| place.queued_ns).collect::<Vec<_>>(), [103, 143]);
}
