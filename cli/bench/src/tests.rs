//! Every case, measured quickly.

use std::collections::BTreeSet;

use poniard::Runtime;

use crate::{CASES, Case, Effort, Kind, Setup, System, measure, systems};

#[test]
fn names_lead_to_their_cases() {
    let names: BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), CASES.len());
    for case in &CASES {
        assert_eq!(Case::named(case.name), Some(case));
    }
    assert_eq!(Case::named("Chain"), None);
}

/// The systems check what they did; here it is whether the figures can be true.
#[test]
fn every_case_has_figures() {
    for workers in [1, 2] {
        let runtime = Runtime::builder().threads(workers).build().unwrap();
        let setup = Setup { runtime: &runtime, workers, effort: Effort::Quick };
        for case in CASES.iter().filter(|case| Effort::Quick.includes(case)) {
            let figures = measure(case, setup.effort, systems(case, &setup));
            assert!(!figures.is_empty(), "{}", case.name);
            for figure in figures {
                let range = match case.kind {
                    Kind::Idle => 0.0..10_000.0,
                    Kind::Allocations => 0.0..10.0,
                    Kind::BytesPerTask => 32.0..1_000.0,
                    _ => 0.0001..1e9,
                };
                assert!(range.contains(&figure.min) && figure.min <= figure.median, "{figure:?}");
                assert_eq!((figure.case, figure.unit), (case.name, case.unit));
                assert!(
                    figure.system == "limit" || figure.note.contains(if workers == 1 { "1 worker," } else { "2 workers," }),
                    "{figure:?}"
                );
            }
        }
    }
}

#[test]
fn systems_are_measured_in_turn_and_compared_with_the_first() {
    let case = Case::named("chain").unwrap();
    let order = std::cell::RefCell::new(String::new());
    let sequence = |name: &'static str, figures: [f64; 4]| {
        let (order, mut figures) = (&order, figures.into_iter());
        System::new(name, "", move || {
            order.borrow_mut().push_str(name);
            figures.next().unwrap()
        })
    };
    // The first sample of each is for warming up.
    let figures = measure(case, Effort::Quick, vec![sequence("a", [1.0, 9.0, 4.0, 5.0]), sequence("b", [90.0, 8.0, 20.0, 10.0])]);
    assert_eq!(*order.borrow(), "abababab");
    let all: Vec<_> = figures.iter().map(|figure| (figure.system, figure.min, figure.median, figure.sample_count, figure.ratio)).collect();
    assert_eq!(all, [("a", 4.0, 5.0, 3, Some(1.0)), ("b", 8.0, 10.0, 3, Some(2.0))]);
}
