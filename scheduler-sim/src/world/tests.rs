use super::*;
use crate::workload::Generate;
use crate::{Platform, Problem};

fn problem<R>(text: &str, speeds: &[f64], look: impl FnOnce(&Problem<'_>) -> R) -> R {
    let workload = Generate::parse(text).expect("a shape").workload();
    let platform = Platform::of_speeds(speeds, None).expect("speeds");
    look(&Problem::new(&workload, &platform))
}

#[test]
fn the_runtime_computes_a_problem_in_virtual_time() {
    for policy in [None, Some("fifo"), Some("earliest-finish"), Some("work-stealing"), Some("heft")] {
        problem("layered:300", &[1.0; 4], |problem| {
            let (script, _) = Script::of(problem, policy, 1);
            let ran = run(script.clone()).unwrap_or_else(|failure| panic!("{policy:?}: {failure}"));
            assert!(ran.failed.is_empty());
            let bound_ns = problem.lower_bound_ns();
            eprintln!("{policy:?} {} {} {}", ran.schedule.makespan_ns(), bound_ns, ran.end_ns);
            assert_eq!(run(script).expect("the same"), ran);
        });
    }
}

/// How many scenarios: `PONIARD_SEEDS`, or 2000.
fn seeds() -> u64 {
    std::env::var("PONIARD_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000)
}

#[test]
fn nothing_is_lost_whatever_goes_wrong() {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let soaked = soak(0, seeds(), ScenarioOptions::default(), threads, |_| ());
    if let Some(Found { seed, text, shrunk }) = soaked.found {
        panic!("scenario {seed}: {text}\nthe least one, after {} runs: {}\n{}", shrunk.runs, shrunk.failure, shrunk.script);
    }
    assert_eq!(soaked.scenarios, seeds());
}

/// What each planted bug is found by: how many scenarios that took, and what was wrong. `PONIARD_BUG` names the only one to look for.
#[cfg(poniard_planted)]
#[test]
fn each_planted_bug_is_found() {
    use poniard::planted::{Bug, plant};

    let wanted = std::env::var("PONIARD_BUG").unwrap_or_default();
    for bug in Bug::ALL.into_iter().filter(|bug| format!("{bug:?}").contains(&wanted)) {
        plant(Some(bug));
        let found = (0..1000).find_map(|seed| {
            let script = scenario(seed, ScenarioOptions::default());
            run(script.clone()).err().map(|failure| (seed, script, failure))
        });
        let Some((seed, script, failure)) = found else { panic!("{bug:?} is not found in 1000 scenarios") };
        let before = script.tasks.len();
        let text = failure.to_string();
        let shrunk = shrink(script, failure);
        eprintln!("{bug:?}: scenario {seed}, {text}; {before} tasks made {} by {} runs", shrunk.script.tasks.len(), shrunk.runs);
        plant(None);
    }
}
