//! Replays of logs that boards of this test have kept: of everything that can be asked of a board, in orders that chance makes up.

use poniard::policy::{Estimate, LoggedCandidates, POLICIES, Place, Random, by_name};

use super::*;
use crate::workload::{RecordedProcessor, RecordedTask, Recording};

const MS: u64 = 1_000_000;

/// Four workers, two devices of a kind that bring data ahead, one of another kind that runs two tasks at a time.
fn places() -> Vec<Place> {
    let device = |class, space, parallel| Place { prefetches: true, ..Place::new(class, space, parallel) };
    (0..4).map(|_| Place::new(0, 0, 1)).chain([device(1, 1, 1), device(1, 2, 1), device(2, 3, 2)]).collect()
}

/// What a board has logged that was asked so many things by lot.
fn made_up(policy: &str, seed: u64, steps: usize) -> DecisionLog {
    let mut board = Board::new(places(), by_name(policy).unwrap(), seed);
    board.keep_log(|number: &u64| number.is_multiple_of(2).then_some(Subject::Spawned(*number as usize)));
    let mut random = Random::new(!seed);
    let (mut now_ns, mut number) = (5 * MS, 0);
    // Those that wait, as far as is known, and those that were taken.
    let (mut waiting, mut running): (Vec<Ticket>, Vec<Ticket>) = (Vec::new(), Vec::new());
    let mut active = [true; 7];
    for _ in 0..steps {
        now_ns += random.below(300_000) as u64;
        let place = random.below(7);
        match random.below(24) {
            0..8 => {
                let code = random.below(5) as u64;
                let first = random.below(7);
                let candidates: Vec<Candidate> = (first..(first + 1 + random.below(7)).min(7))
                    .map(|place| Candidate {
                        place,
                        execution: Estimate {
                            mean_ns: 100_000 * (code + 1) / (1 + u64::from(place > 3)),
                            spread_ns: 1000,
                            count: random.below(6) as u32,
                        },
                        transfer_ns: if place > 3 { 20_000 * random.below(3) as u64 } else { 0 },
                        missing_bytes: 4096 * random.below(3) as u64,
                        overhead_ns: if place > 3 { 10_000 } else { 0 },
                    })
                    .collect();
                let task = ReadyTask {
                    number,
                    code,
                    priority: random.below(3) as i32 - 1,
                    rank_ns: Some(random.below(1_000_000) as u64).filter(|rank_ns| rank_ns % 3 > 0),
                    bytes: 8 * random.below(1000) as u64,
                    origin: Some(random.below(7)).filter(|origin| *origin < 5),
                    candidates: &candidates,
                };
                waiting.push(board.push(&task, number, now_ns).ticket);
                number += 1;
            }
            8..14 => {
                if let Some(taken) = board.take(place, now_ns) {
                    waiting.retain(|ticket| *ticket != taken.ticket);
                    running.push(taken.ticket);
                }
            }
            14..18 if !running.is_empty() => {
                let ticket = running.swap_remove(random.below(running.len()));
                let measured_ns = Some(random.below(500_000) as u64).filter(|measured_ns| measured_ns % 2 > 0);
                // Long ones make a place look as if it hung.
                now_ns += if random.below(20) == 0 { 30 * MS } else { 0 };
                board.finished_after(ticket, measured_ns, now_ns);
            }
            18 if !waiting.is_empty() => {
                let ticket = waiting.swap_remove(random.below(waiting.len()));
                if random.below(2) > 0 {
                    board.abandoned(ticket, now_ns);
                } else if board.run_unasked(ticket, place, now_ns).is_some() {
                    running.push(ticket);
                } else {
                    waiting.push(ticket);
                }
            }
            19 => {
                active[place] = !active[place];
                let again = board.set_active(place, active[place], now_ns);
                // As the runtime does with what may run nowhere; but for one, which waits until it may run somewhere again.
                for lost in again.iter().filter(|pushed| pushed.decision.why == Why::NoPlace && pushed.ticket.cmp(&again[0].ticket).is_ne())
                {
                    board.abandoned(lost.ticket, now_ns);
                    waiting.retain(|ticket| *ticket != lost.ticket);
                }
            }
            20 => board.set_backlog(place, 1000 * random.below(100) as u64),
            21 => drop(board.places(now_ns).len()),
            22 => _ = board.would_take(place, now_ns),
            _ => _ = board.to_wake(now_ns),
        }
    }
    board.log().unwrap()
}

fn again(log: &DecisionLog) -> Replay {
    replay(log, by_name(&log.policy).unwrap()).unwrap()
}

#[test]
fn whatever_is_asked_of_a_board_is_decided_again() {
    let mut seen = std::collections::BTreeSet::new();
    for known in POLICIES {
        for seed in 0..6 {
            let log = made_up(known.name, seed, 1000);
            let replay = again(&log);
            assert_eq!((&replay.first, &replay.left_off), (&None, &None), "{}, seed {seed}", known.name);
            assert!(replay.is_same() && replay.places_alike());
            assert!(
                replay.placed.compared > 250 && replay.placed.same == replay.placed.compared && replay.taken.same == replay.taken.compared
            );
            seen.extend(log.events.iter().map(check::name));
            seen.extend(log.events.iter().filter_map(|event| match event {
                Event::Asked { took: Some(Took { source: Source::Stolen { .. }, moved, .. }), .. } if !moved.is_empty() => Some("moved"),
                Event::Asked { took: Some(Took { source: Source::TakenOver { .. }, .. }), .. } => Some("taken over"),
                Event::Active { replaced, .. } if !replaced.is_empty() => Some("replaced"),
                Event::Ready { decision: Decision { why: Why::Explored { .. }, .. }, .. } => Some("explored"),
                _ => None,
            }));
        }
    }
    let all = [
        "abandoned",
        "active",
        "asked",
        "backlog",
        "ended",
        "explored",
        "looked",
        "moved",
        "ready",
        "replaced",
        "taken over",
        "unasked",
        "viewed",
        "woken",
    ];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn every_event_is_read_as_it_was_written() {
    for known in POLICIES {
        let log = made_up(known.name, 1, 1000);
        let mut recording = Recording::new("made up", "a machine", Some(known.name));
        recording.processors = vec![RecordedProcessor { name: "threads-0".into(), kind: "cpu".into() }];
        recording.tasks = vec![RecordedTask::default(); log.events.len()];
        recording.decisions = Some(log);
        let text = recording.to_json();
        assert_eq!(Recording::from_json("f", &text).unwrap(), recording, "{}", known.name);
        // Each event has a line, by which an editor finds it.
        assert_eq!(text.lines().skip_while(|line| *line != "\"events\": [").count(), recording.tasks.len() + 2);
    }
}

/// The events of a log of which `is_meant` says so.
fn meant(log: &DecisionLog, is_meant: impl Fn(&Event) -> bool) -> Vec<usize> {
    (0..log.events.len()).filter(|index| is_meant(&log.events[*index])).collect()
}

#[test]
fn every_change_of_a_decision_is_found_where_it_is() {
    for known in POLICIES {
        let log = made_up(known.name, 3, 250);
        let check = |index: usize, change: &dyn Fn(&mut Event)| {
            let mut changed = log.clone();
            change(&mut changed.events[index]);
            assert_ne!(changed, log);
            let first = again(&changed).first.unwrap_or_else(|| panic!("{}: nothing is found at {index}", known.name));
            assert_eq!(first.event, index, "{}: {:?}", known.name, log.events[index]);
            first
        };
        for index in meant(&log, |event| matches!(event, Event::Ready { decision, .. } if decision.why != Why::NoPlace)) {
            let first = check(index, &|event| {
                let Event::Ready { decision, candidates, .. } = event else { unreachable!() };
                decision.placement = match decision.placement {
                    Placement::Shared => Placement::Place(candidates[0].place),
                    Placement::Place(_) => Placement::Shared,
                };
            });
            assert!(matches!((&first.expected, &first.got), (Answer::Placed(expected), Answer::Placed(got)) if expected.why == got.why));
            check(index, &|event| {
                let Event::Ready { decision, .. } = event else { unreachable!() };
                decision.why = if decision.why == Why::Ratio { Why::Data } else { Why::Ratio };
            });
        }
        for index in meant(&log, |event| matches!(event, Event::Asked { took: Some(_), .. })) {
            let first = check(index, &|event| {
                let Event::Asked { took, .. } = event else { unreachable!() };
                *took = None;
            });
            assert!(matches!((first.expected, first.got), (Answer::Took(None), Answer::Took(Some(_)))));
        }
        for index in meant(&log, |event| matches!(event, Event::Looked { .. })) {
            check(index, &|event| {
                let Event::Looked { finds, .. } = event else { unreachable!() };
                *finds = !*finds;
            });
        }
        for index in meant(&log, |event| matches!(event, Event::Woken { .. })) {
            check(index, &|event| {
                let Event::Woken { place, .. } = event else { unreachable!() };
                *place = if place.is_some() { None } else { Some(0) };
            });
        }
    }
}

#[test]
fn one_difference_is_one_where_nothing_else_goes_by_it() {
    // Another reason, and the task is where it was.
    let log = made_up("fifo", 3, 1500);
    let index = meant(&log, |event| matches!(event, Event::Ready { .. }))[100];
    let mut changed = log.clone();
    let Event::Ready { decision, .. } = &mut changed.events[index] else { unreachable!() };
    decision.why = Why::Rule;
    let replay = again(&changed);
    assert_eq!((replay.placed.compared, replay.placed.compared - replay.placed.same), (again(&log).placed.compared, 1));
    assert_eq!((replay.placed_there, &replay.left_off, replay.places_alike()), (replay.placed.compared, &None, true));
    assert_eq!(replay.taken.compared, replay.taken.same);
}

#[test]
fn another_policy_is_asked_about_all_of_it() {
    for one in POLICIES {
        let log = made_up(one.name, 5, 500);
        let whole = again(&log);
        for other in POLICIES {
            let replay = replay(&log, (other.make)()).unwrap();
            assert_eq!(
                (replay.placed.compared, replay.taken.compared),
                (whole.placed.compared, whole.taken.compared),
                "{} by {}",
                one.name,
                other.name
            );
            assert_eq!((replay.left_off, replay.first.is_none()), (None, one.name == other.name), "{} by {}", one.name, other.name);
        }
    }
}

#[test]
fn what_cannot_be_is_said_with_its_place() {
    let log = made_up("earliest-finish", 3, 600);
    let wrong = |change: &dyn Fn(&mut DecisionLog)| {
        let mut changed = log.clone();
        change(&mut changed);
        replay(&changed, by_name("earliest-finish").unwrap()).unwrap_err().to_string()
    };
    let at = |is_meant: &dyn Fn(&Event) -> bool| meant(&log, is_meant)[5];
    let ready = at(&|event| matches!(event, Event::Ready { .. }));
    let ended = at(&|event| matches!(event, Event::Ended { .. }));
    let asked = at(&|event| matches!(event, Event::Asked { .. }));
    assert_eq!(wrong(&|log| log.places.clear()), "places: there is no place");
    assert_eq!(wrong(&|log| log.places[2].class = 7), "places[2].class: 7 is more than there are places");
    assert_eq!(wrong(&|log| log.places[2].parallel = 0), "places[2].parallel: a place runs at least one task at a time");
    let of_ready = |field: &str, reason: &str| format!("events[{ready}].ready.{field}: {reason}");
    let candidate = |place: usize, count: u32| LoggedCandidates {
        place,
        count,
        mean_ns: 1,
        spread_ns: 0,
        measurements: 0,
        transfer_ns: 0,
        missing_bytes: 0,
        overhead_ns: 0,
    };
    let with_candidates = |those: &[LoggedCandidates]| {
        wrong(&|log| {
            let Event::Ready { candidates, .. } = &mut log.events[ready] else { unreachable!() };
            *candidates = those.to_vec();
        })
    };
    assert_eq!(with_candidates(&[]), of_ready("candidates", "a task that may run nowhere is not ready"));
    assert_eq!(
        with_candidates(&[candidate(0, 2), candidate(1, 1)]),
        of_ready("candidates[1].place", "places rise, and each is there once")
    );
    assert_eq!(with_candidates(&[candidate(6, 2)]), of_ready("candidates[0].count", "2 places from 6 on are not there; there are 7"));
    assert_eq!(with_candidates(&[candidate(0, 0)]), of_ready("candidates[0].count", "0 places from 0 on are not there; there are 7"));
    let changed = |change: &dyn Fn(&mut u64, &mut Option<usize>, &mut Decision)| {
        wrong(&|log| {
            let Event::Ready { number, origin, decision, .. } = &mut log.events[ready] else { unreachable!() };
            change(number, origin, decision);
        })
    };
    assert_eq!(changed(&|number, _, _| *number = 0), of_ready("number", "task 0 was ready before"));
    assert_eq!(changed(&|_, origin, _| *origin = Some(9)), of_ready("origin", "there is no place 9; there are 7"));
    assert_eq!(
        changed(&|_, _, decision| decision.placement = Placement::Place(7)),
        of_ready("decision.placement", "there is no place 7; there are 7")
    );
    assert_eq!(
        changed(&|_, _, decision| decision.why = Why::Hysteresis { instead: 8 }),
        of_ready("decision.why.hysteresis.instead", "there is no place 8; there are 7")
    );
    let ended_wrong = wrong(&|log| {
        let Event::Ended { number, .. } = &mut log.events[ended] else { unreachable!() };
        *number = 99_999;
    });
    assert_eq!(ended_wrong, format!("events[{ended}].ended.number: task 99999 is not on the board"));
    let asked_wrong = wrong(&|log| {
        let Event::Asked { place, .. } = &mut log.events[asked] else { unreachable!() };
        *place = 7;
    });
    assert_eq!(asked_wrong, format!("events[{asked}].asked.place: there is no place 7; there are 7"));
    // A task that nobody has taken is not over.
    let twice = wrong(&|log| {
        let Event::Ready { at_ns, number, .. } = log.events[ready] else { unreachable!() };
        log.events.insert(ready + 1, Event::Ended { at_ns, number, measured_ns: None });
    });
    assert!(twice.ends_with("has not been taken"), "{twice}");
    // What differs and cannot be is a difference, and the log is not followed beyond it.
    let took = at(&|event| matches!(event, Event::Asked { took: Some(_), .. }));
    let mut changed = log.clone();
    let Event::Asked { took: Some(what), .. } = &mut changed.events[took] else { unreachable!() };
    what.number = 99_999;
    let replay = again(&changed);
    assert_eq!(replay.first.unwrap().event, took);
    assert_eq!(replay.left_off.unwrap().to_string(), format!("events[{took}].asked.took: task 99999 does not wait"));
}

/// Changes something about an event by lot, to what may be or to what may not.
fn spoil(log: &mut DecisionLog, random: &mut Random) {
    let index = random.below(log.events.len());
    let odd = [0, 1, 6, 7, 100, u64::MAX / 2, u64::MAX][random.below(7)];
    match random.below(5) {
        0 => drop(log.events.remove(index)),
        1 => log.events.insert(random.below(index + 1), log.events[index].clone()),
        2 => log.events.swap(index, random.below(index + 1)),
        _ => match &mut log.events[index] {
            Event::Ready { at_ns, rank_ns, priority, bytes, candidates, decision, .. } => match random.below(7) {
                0 => *at_ns = odd,
                1 => *rank_ns = Some(odd),
                2 => *priority = [i32::MIN, i32::MAX][random.below(2)],
                3 => *bytes = odd,
                4 => candidates[0].mean_ns = odd,
                5 => (candidates[0].transfer_ns, candidates[0].missing_bytes, candidates[0].overhead_ns) = (odd, odd, odd),
                _ => decision.placement = Placement::Place(random.below(7)),
            },
            Event::Asked { at_ns, place, took } => match (random.below(3), took) {
                (0, _) => *at_ns = odd,
                (1, Some(took)) if random.below(2) > 0 => took.number = odd,
                (1, Some(took)) => took.moved.push([took.number, odd, took.number + 1][random.below(3)]),
                _ => *place = random.below(7),
            },
            Event::Ended { at_ns, measured_ns, .. } => (*at_ns, *measured_ns) = (odd, Some(odd)),
            Event::Unasked { at_ns, number, place } => (*at_ns, *number, *place) = (odd, odd, random.below(7)),
            Event::Active { at_ns, active, replaced, .. } => {
                (*at_ns, *active) = (odd, !*active);
                replaced.truncate(random.below(2));
            }
            Event::Backlog { backlog_ns, .. } => *backlog_ns = odd,
            Event::Looked { at_ns, .. } | Event::Woken { at_ns, .. } | Event::Viewed { at_ns } | Event::Abandoned { at_ns, .. } => {
                *at_ns = odd
            }
        },
    }
}

#[test]
fn a_log_that_says_anything_ends_in_an_answer_and_not_in_a_panic() {
    for known in POLICIES {
        let log = made_up(known.name, 9, 200);
        let mut random = Random::new(1);
        let (mut refused, mut left_off, mut other) = (0, 0, 0);
        for _ in 0..60 {
            let mut spoiled = log.clone();
            (0..1 + random.below(3)).for_each(|_| spoil(&mut spoiled, &mut random));
            match replay(&spoiled, (known.make)()) {
                Err(_) => refused += 1,
                Ok(Replay { left_off: Some(_), .. }) => left_off += 1,
                Ok(_) => other += 1,
            }
        }
        assert!(refused > 5 && left_off > 5 && other > 5, "{}: {refused} {left_off} {other}", known.name);
    }
}

#[test]
fn answers_are_said_in_words() {
    let mut log = made_up("fifo", 0, 1);
    log.places[1].name = "gpu".into();
    let words = |answer: Answer| Difference::words(&answer, &log);
    let placed = |placement, why, finish_ns| words(Answer::Placed(Decision { placement, why, finish_ns }));
    assert_eq!(placed(Placement::Shared, Why::FirstFree, None), "placed for whoever is free first (first-free)");
    assert_eq!(placed(Placement::Place(1), Why::EarliestFinish, Some(5)), "placed at gpu (earliest-finish, over in 5 ns)");
    assert_eq!(placed(Placement::Place(2), Why::Hysteresis { instead: 1 }, None), "placed at 2 (hysteresis, in place of gpu)");
    let explored = placed(Placement::Place(2), Why::Explored { instead_ns: 3, regret_ns: 4 }, None);
    assert_eq!(explored, "placed at 2 (explored, in place of 3 ns, with a regret of 4 ns)");
    let took = |source, moved: &[u64]| words(Answer::Took(Some(Took { number: 7, source, moved: moved.to_vec() })));
    assert_eq!(took(Source::Shared, &[]), "task 7 taken from the queue for all");
    assert_eq!(took(Source::Stolen { from: 1 }, &[8, 9]), "task 7 taken from the queue of gpu, with [8, 9] besides");
    assert_eq!(
        [Answer::Took(None), Answer::Wakes(Some(1)), Answer::Wakes(None), Answer::Finds(false)].map(words),
        ["nothing taken", "gpu woken", "nobody woken", "it would find none"]
    );
}
