//! What crosses the boundary arrives as it was.

use std::sync::Mutex;

use super::*;

/// What [`Echo`] was told.
static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes what it is told, and answers with parts of it.
#[derive(Debug)]
struct Echo;

fn note(text: String) {
    TOLD.lock().unwrap().push(text);
}

impl Policy for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
        note(format!("{task:?} {view:?}"));
        assert_ne!(task.number, 13, "thirteen");
        let why = Why::Explored { instead_ns: view.random.next_u64(), regret_ns: view.now_ns };
        Decision { placement: Placement::Place(task.candidates[1].place), why, finish_ns: task.rank_ns }
    }

    fn key(&self, task: &ReadyTask<'_>, placement: Placement, places: &[Place]) -> Key {
        note(format!("{task:?} {placement:?} {places:?}"));
        Key([i64::MIN, 7, task.priority.into()])
    }

    fn end(&self, place: usize, places: &[Place]) -> End {
        End { last_level: places[place].active, last_within: places[place].prefetches }
    }

    fn accepts(&self, place: usize, key: Key, waiting: usize, _places: &[Place]) -> bool {
        note(format!("{place} {key:?} {waiting}"));
        place == 1
    }

    fn keeps_all_busy(&self) -> bool {
        true
    }

    fn victims(&mut self, thief: usize, view: &mut View<'_>, order: &mut Vec<usize>) {
        order.extend([thief, view.random.below(100), view.places.len()]);
    }

    fn steals_last(&self) -> bool {
        true
    }

    fn offers(&self) -> usize {
        5
    }

    fn steal(&self, offer: &Offer<'_>, _places: &[Place]) -> Option<u64> {
        note(format!("{offer:?}"));
        (offer.why == Why::Rule).then_some(offer.wait_ns)
    }

    fn share(&self, waiting: usize) -> usize {
        waiting / 2
    }

    fn ended(&mut self, outcome: &policy::Outcome) {
        note(format!("{outcome:?}"));
    }
}

fn told() -> String {
    TOLD.lock().unwrap().pop().expect("it was told something")
}

#[test]
fn everything_arrives_on_both_sides_and_panics_unwind_with_their_words() {
    let (mut far, summary) = import_policy(create_policy("says it again", || Echo)).unwrap();
    let mut near = Echo;
    assert_eq!((far.name(), summary), ("echo", "says it again"));
    let execution = Estimate { mean_ns: 1, spread_ns: 2, count: 3 };
    let candidates = [4, 9].map(|place| Candidate { place, execution, transfer_ns: 5, missing_bytes: 6, overhead_ns: 7 });
    let places = [Place { prefetches: true, queued: 8, queued_ns: 9, ..Place::new(1, 2, 3) }, Place::new(4, 5, 6)];
    let task = ReadyTask { number: 10, code: 11, priority: -12, rank_ns: Some(13), bytes: 14, origin: Some(15), candidates: &candidates };
    for task in [task, ReadyTask { rank_ns: None, origin: None, ..task }] {
        let answers = [&mut *far, &mut near as &mut dyn Policy].map(|policy| {
            let mut random = Random::new(3);
            let decision = policy.place(&task, &mut View { now_ns: 16, places: &places, random: &mut random });
            let mut order = Vec::new();
            policy.victims(1, &mut View { now_ns: 17, places: &places, random: &mut random }, &mut order);
            (decision, told(), order, random)
        });
        assert_eq!(answers[0], answers[1]);
        for placement in [Placement::Shared, Placement::Place(9)] {
            assert_eq!((far.key(&task, placement, &places), told()), (near.key(&task, placement, &places), told()));
        }
    }
    for place in 0..2 {
        assert_eq!(far.end(place, &places), near.end(place, &places));
        let key = Key([1, i64::MAX, -2]);
        assert_eq!((far.accepts(place, key, 3, &places), told()), (near.accepts(place, key, 3, &places), told()));
    }
    for why in [Why::Rule, Why::Hysteresis { instead: 4 }] {
        let offer = Offer { code: 1, here: &candidates[0], there: &candidates[1], wait_ns: 2, why };
        assert_eq!((far.steal(&offer, &places), told()), (near.steal(&offer, &places), told()));
    }
    assert_eq!((far.keeps_all_busy(), far.steals_last(), far.offers(), far.share(9)), (true, true, 5, 4));
    for (placed_class, ran) in [(Some(1), Some((2, 3))), (None, None)] {
        let outcome = policy::Outcome { code: 4, placed_class, why: Why::Data, ran };
        let ended = [&mut *far, &mut near as &mut dyn Policy].map(|policy| {
            policy.ended(&outcome);
            told()
        });
        assert_eq!(ended[0], ended[1]);
    }
    let unlucky = ReadyTask { number: 13, ..task };
    let asked = std::panic::AssertUnwindSafe(|| {
        far.place(&unlucky, &mut View { now_ns: 0, places: &places, random: &mut Random::new(0) });
    });
    let EntryFailed(said) = *std::panic::catch_unwind(asked).unwrap_err().downcast().unwrap();
    assert!(said.starts_with("the plugin panicked: ") && said.contains("thirteen") && said.contains("policy.rs:"), "{said}");
}

#[test]
fn every_reason_has_a_number_and_unknown_ones_are_the_policys_own() {
    let all = [
        Why::OnlyCandidate,
        Why::NoPlace,
        Why::FirstFree,
        Why::Chance,
        Why::Origin,
        Why::Data,
        Why::EarliestFinish,
        Why::Guessed,
        Why::Explored { instead_ns: 1, regret_ns: 2 },
        Why::Hysteresis { instead: 3 },
        Why::Ratio,
        Why::Rule,
    ];
    for why in all {
        assert_eq!(Why::from(StableWhy::from(why)), why);
        // Whoever adds one adds it above, too.
        match why {
            Why::OnlyCandidate | Why::NoPlace | Why::FirstFree | Why::Chance | Why::Origin | Why::Data | Why::EarliestFinish => {}
            Why::Guessed | Why::Explored { .. } | Why::Hysteresis { .. } | Why::Ratio | Why::Rule => {}
        }
    }
    assert_eq!(Why::from(StableWhy { number: 77, said: [0; 2] }), Why::Rule);
}

/// A policy that does nothing, so that what is measured is the boundary.
#[derive(Debug)]
struct Idle;

impl Policy for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn place(&mut self, _: &ReadyTask<'_>, _: &mut View<'_>) -> Decision {
        Decision::shared(Why::FirstFree)
    }
}

/// Prints, and asserts nothing: `cargo test -p poniard-interface --release --lib stable::policy -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, clippy::disallowed_methods, reason = "it measures, and prints what it measured")]
fn how_long_a_call_takes() {
    use std::hint::black_box;
    use std::time::Instant;

    const CALLS: u32 = 1_000_000;
    let (mut policy, _) = import_policy(create_policy("", || Idle)).unwrap();
    let places = [Place::new(0, 0, 1); 16];
    let candidates = std::array::from_fn::<_, 16, _>(|place| Candidate { place, ..Candidate::default() });
    let task = ReadyTask { number: 0, code: 0, priority: 0, rank_ns: None, bytes: 0, origin: None, candidates: &candidates };
    let mut random = Random::new(0);
    let measure = |name: &str, call: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| call());
        println!("{name}: {:.1} ns", start.elapsed().as_nanos() as f64 / f64::from(CALLS));
    };
    measure("place", &mut || {
        black_box(policy.place(black_box(&task), &mut View { now_ns: 0, places: &places, random: &mut random }));
    });
    measure("key", &mut || {
        black_box(policy.key(black_box(&task), Placement::Shared, &places));
    });
    measure("end", &mut || {
        black_box(policy.end(black_box(0), &places));
    });
}
