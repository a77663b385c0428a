//! What is searched for is found, is small, and is the same on any number of threads.

use super::*;
use crate::plan::planner;
use crate::workload::{Format, ReadOptions, read_text};

fn measure(problem: &Problem<'_>) -> Option<Score> {
    let makespan_ns = |name: &str| planner(name).map(|planner| (planner.plan)(problem).makespan_ns());
    Some(Score { policy_ns: makespan_ns("olb")?, against_ns: makespan_ns("heft")? })
}

fn searched(seed: u64, budget: u64, machine: Machine) -> Search {
    Search { seed, budget, bounds: Bounds { tasks: 6, ..Bounds::default() }, machine }
}

#[test]
fn a_bad_case_is_found_and_is_the_same_on_any_number_of_threads() {
    let machine = Machine::Searched { processors: 3 };
    let search_on = |threads: usize, budget: u64| search(&searched(1, budget, machine.clone()), threads, &measure, &|_| ()).unwrap();
    let (one, three) = (search_on(1, 400), search_on(3, 400));
    assert_eq!((&one.instance, one.score, one.looked_at), (&three.instance, three.score, three.looked_at));
    // A processor that is idle first may be eight times as slow.
    assert!(one.score.ratio() >= 4.0, "{one:?}");
    let parts = |instance: &Instance| instance.task_count() + instance.edge_count() + instance.speeds().len();
    assert!(parts(&one.instance) < parts(&one.before), "{one:?}");
    assert!(search_on(2, 8).score_before.compare(&one.score_before).is_le(), "more looks find no less");
}

#[test]
fn nothing_smaller_is_as_bad() {
    let search_for = searched(2, 200, Machine::Searched { processors: 3 });
    let found = search(&search_for, 2, &measure, &|_| ()).unwrap();
    assert!(found.score.ratio() >= KEPT * found.score_before.ratio(), "{found:?}");
    for smaller in found.instance.smaller() {
        let score = scored(&search_for, &measure, smaller).unwrap().score;
        assert!(score.ratio() < KEPT * found.score_before.ratio(), "{score:?} of something smaller beside {:?}", found.score_before);
    }
}

#[test]
fn what_is_written_down_is_what_was_found() {
    let search_for = searched(3, 100, Machine::Searched { processors: 2 });
    let found = search(&search_for, 2, &measure, &|_| ()).unwrap();
    let text = found.instance.workload().to_wfformat();
    let workload = read_text("found", &text, Format::WfFormat, ReadOptions::default()).unwrap();
    let platform = Platform::from_toml(&found.instance.platform_toml(BYTES_PER_S)).unwrap();
    assert_eq!(measure(&Problem::new(&workload, &platform)), Some(found.score));
}

#[test]
fn a_given_machine_stays_as_it_is_and_instances_stay_within_bounds() {
    let platform = Platform::of_speeds(&[1.0, 4.0], Some(1e8)).unwrap();
    let bounds = Bounds { tasks: 4, work_ms: 7, megabytes: 3, speed: 2 };
    let looked = Mutex::new(0);
    let check = |problem: &Problem<'_>| {
        *looked.lock().unwrap() += 1;
        let workload = problem.workload();
        assert_eq!(problem.platform(), &platform);
        assert!((1..=4).contains(&workload.len()));
        assert!((0..workload.len()).all(|task| (1..=7).contains(&(workload.work_ns(task) / 1_000_000))));
        assert!((0..workload.edge_count()).all(|edge| workload.bytes(edge) <= 3_000_000));
        measure(problem)
    };
    let machine = Machine::Given(Box::new(platform.clone()));
    let found = search(&Search { seed: 0, budget: 100, bounds, machine }, 1, &check, &|_| ()).unwrap();
    assert!(found.instance.speeds().is_empty());
    assert_eq!(found.looked_at, *looked.lock().unwrap());
    let unable = searched(0, 10, Machine::Searched { processors: 1 });
    assert!(search(&unable, 1, &|_| None, &|_| ()).is_none());
}
