//! What models know after tasks have run: on a clock that bodies have jump, so that they take hours and no test takes long.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::clock::{jump, thread_cpu_ns};
use crate::model::{CodeModel, EstimateSource};
use crate::{Gather, GraphBuilder, Runtime, RuntimeBuilder, Task, TaskGroup, as_finished, join};

const HOUR_NS: u64 = 3_600_000_000_000;

/// Takes so many hours.
fn takes(hours: f64) {
    jump((hours * HOUR_NS as f64) as i64);
}

/// One thread, so that what a body waits for runs on top of it.
fn builder() -> RuntimeBuilder {
    Runtime::builder().threads(1).processes(0).policy("earliest-finish").models(None).explain(true)
}

/// What is known of the code whose name ends so, on the host.
fn known(runtime: &Runtime, name: &str) -> Arc<CodeModel> {
    let placement = runtime.shared.placement.as_ref().expect("there is a policy");
    let codes = placement.models.executions.codes();
    let mut found = codes.into_iter().filter(|(code, class, _)| code.name.ends_with(name) && class.as_str() == "cpu");
    found.next().unwrap_or_else(|| panic!("{name} was measured")).2
}

/// The mean of all that was measured of a code, in hours, and how often it was.
fn hours(runtime: &Runtime, name: &str) -> (f64, u64) {
    let summaries = known(runtime, name).summaries();
    let count = summaries.iter().map(|summary| summary.count).sum();
    let sum: f64 = summaries.iter().map(|summary| summary.mean_ns * summary.count as f64).sum();
    ((sum / count as f64 / HOUR_NS as f64 * 100.0).round() / 100.0, count)
}

/// How often it has been called, for bodies whose cost depends on that.
static CALLS: AtomicU64 = AtomicU64::new(0);

#[test]
fn twenty_runs_tell_what_a_function_takes_at_any_size() {
    // An hour for each hundred, and one more.
    fn linear(values: &[u64]) {
        takes(1.0 + values.len() as f64 / 100.0);
    }
    let runtime = builder().build().unwrap();
    let sizes = (0..20usize).map(|index| 100 + index * 37 % 20 * 20);
    sizes.for_each(|len| runtime.spawn(linear, (vec![0u64; len],)).wait().unwrap());
    let model = known(&runtime, "linear");
    for len in [120u64, 200, 290, 333, 450, 1000] {
        let found = model.estimate(8 * len);
        let expected = 1.0 + len as f64 / 100.0;
        let error = found.mean_ns as f64 / HOUR_NS as f64 / expected - 1.0;
        assert!(error.abs() < 0.1 && found.source != EstimateSource::Unknown, "{len}: {found:?}, {error}");
    }
    let explanation = runtime.explanations().pop().unwrap();
    assert!(explanation.took_ns.is_some_and(|(_, took_ns)| took_ns > HOUR_NS), "{explanation:?}");
}

#[test]
fn a_cost_with_two_modes_has_the_mean_of_both_and_says_how_far_apart_they_are() {
    fn bimodal() {
        takes(if CALLS.fetch_add(1, Relaxed).is_multiple_of(2) { 1.0 } else { 3.0 });
    }
    let runtime = builder().build().unwrap();
    (0..20).for_each(|_| runtime.spawn(bimodal, ()).wait().unwrap());
    let found = known(&runtime, "bimodal").estimate(0);
    let of = |ns: u64| ns as f64 / HOUR_NS as f64;
    assert!((1.7..2.3).contains(&of(found.mean_ns)) && (0.7..1.3).contains(&of(found.spread_ns)), "{found:?}");
}

#[test]
fn a_clock_that_jumps_ruins_no_mean() {
    fn jumps(index: u64) {
        takes(match index {
            // The machine slept, a day and more; the clock went back; it was set.
            7 => 50.0,
            11 => -30.0,
            13 => 20.0,
            _ => 1.0,
        });
    }
    let runtime = builder().build().unwrap();
    (0..30u64).for_each(|index| runtime.spawn(jumps, (index,)).wait().unwrap());
    let model = known(&runtime, "jumps");
    let found = model.estimate(8);
    assert_eq!((model.refused_count(), found.count), (2, 28));
    assert!(found.mean_ns.abs_diff(HOUR_NS) < HOUR_NS / 10, "{found:?}");
}

fn five() -> u64 {
    takes(5.0);
    5
}

fn sum(all: Gather<'_, u64>) -> u64 {
    all.iter().sum()
}

#[test]
fn what_a_body_waits_for_is_no_time_of_its_own_and_what_ran_meanwhile_is_measured() {
    fn fetches() -> u64 {
        takes(1.0);
        let sum = crate::spawn(sum, (vec![crate::spawn(five, ()), crate::spawn(five, ())],));
        let sum = *sum.fetch().unwrap();
        takes(1.0);
        sum
    }
    fn takes_one() -> u64 {
        takes(2.0);
        crate::spawn(five, ()).take().unwrap()
    }
    fn as_they_finish() -> u64 {
        takes(2.0);
        as_finished([crate::spawn(five, ()), crate::spawn(five, ())]).map(|(_, value)| *value.unwrap()).sum()
    }
    fn in_a_group() -> u64 {
        takes(2.0);
        let group = TaskGroup::new(&crate::current().unwrap());
        let tasks: Vec<Task<u64>> = (0..2).map(|_| group.spawn(five, ())).collect();
        group.wait().unwrap();
        tasks.into_iter().map(|task| task.take().unwrap()).sum()
    }
    fn in_a_graph() -> u64 {
        takes(2.0);
        let mut graph = GraphBuilder::new();
        let node = graph.task(five, ());
        let run = graph.build().unwrap().run(&crate::current().unwrap(), ()).unwrap();
        *run.fetch(node).unwrap()
    }
    fn in_parts() -> u64 {
        // Parts of it are its own.
        join(|| takes(1.0), || takes(1.0));
        5
    }
    let runtime = builder().build().unwrap();
    let mut expected_count = 0;
    for (body, name, count) in [
        (fetches as fn() -> u64, "fetches", 2),
        (takes_one, "takes_one", 1),
        (as_they_finish, "as_they_finish", 2),
        (in_a_group, "in_a_group", 2),
        (in_a_graph, "in_a_graph", 1),
        (in_parts, "in_parts", 0),
    ] {
        let value = runtime.spawn(move |_: u64| body(), (0,)).take().unwrap();
        assert_eq!(value, 5 * count.max(1), "{name}");
        expected_count += count;
        let (mean, calls) = hours(&runtime, "what_ran_meanwhile_is_measured::{{closure}}");
        assert_eq!(mean, 2.0, "{name}, after {calls} calls");
        if expected_count > 0 {
            assert_eq!(hours(&runtime, "::five"), (5.0, expected_count), "{name}");
        }
    }
    // Each of them was heard of: where it ran, and how long it took.
    for explanation in runtime.explanations().iter().filter(|one| one.task == "five") {
        let took = explanation.took_ns.map(|(_, took_ns)| (took_ns as f64 / HOUR_NS as f64).round());
        assert_eq!((explanation.ran.is_some(), took), (true, Some(5.0)), "{explanation:?}");
    }
}

#[test]
fn cpu_time_is_known_of_tasks_that_are_placed() {
    fn spins() {
        let begun_ns = thread_cpu_ns().unwrap();
        while thread_cpu_ns().unwrap() - begun_ns < 2_000_000 {}
    }
    let runtime = builder().build().unwrap();
    (0..10).for_each(|_| runtime.spawn(spins, ()).wait().unwrap());
    let summaries = known(&runtime, "spins").summaries();
    let [summary] = summaries.as_slice() else { panic!("one size: {summaries:?}") };
    assert!(summary.cpu_share.is_some_and(|share| share > 0.0), "{summary:?}");
}
