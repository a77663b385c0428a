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
    for seed in 0..seeds() {
        let script = scenario(seed, ScenarioOptions::default());
        if let Err(failure) = run(script.clone()) {
            let text = failure.to_string();
            let shrunk = shrink(script, failure);
            panic!("scenario {seed}: {text}\nthe least one, after {} runs: {}\n{:#?}", shrunk.runs, shrunk.failure, shrunk.script);
        }
    }
}

#[test]
fn one() {
    let seed = std::env::var("PONIARD_SEED").unwrap().parse().unwrap();
    let script = scenario(seed, ScenarioOptions::default());
    eprintln!("{:?} {:?} {} {:?}", script.policy, script.columns, script.processes, script.chaos);
    eprintln!("{:?}", run(script).map(|r| (r.failed.len(), r.attempts, r.events, r.end_ns)).map_err(|e| e.to_string()));
}
