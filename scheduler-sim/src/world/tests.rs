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
            let options = RunOptions { seed: 1, policy: policy.map(str::to_owned), ..RunOptions::default() };
            let ran = run(problem, &options).unwrap_or_else(|failure| panic!("{policy:?}: {failure}"));
            assert!(ran.failed.is_empty());
            let bound_ns = problem.lower_bound_ns();
            eprintln!("{policy:?} {} {} {}", ran.schedule.makespan_ns(), bound_ns, ran.end_ns);
            assert_eq!(run(problem, &options).expect("the same"), ran);
        });
    }
}
