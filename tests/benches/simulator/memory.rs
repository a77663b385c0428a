//! How much memory a task takes at most from its making to the figures of its run, names and dependencies included.

use std::hint::black_box;

use poniard::policy;
use poniard_bench::{System, count};
use poniard_scheduler_sim::engine::{self, EngineOptions};
use poniard_scheduler_sim::plan::planner;
use poniard_scheduler_sim::workload::Generate;
use poniard_scheduler_sim::{Platform, Problem};

/// What is done with the workload.
#[derive(Clone, Copy)]
enum Use {
    /// It is made.
    Make,
    /// A planner plans it.
    Plan(&'static str),
    /// It is planned, and the engine runs the plan.
    RunPlan(&'static str),
    /// It runs under a policy.
    Run(&'static str),
    /// The same with all that `poniard simulate` does besides as long as nobody asks why.
    Simulate(&'static str),
}

pub(super) fn systems(tasks: u64) -> Vec<System<'static>> {
    let of = |name: &'static str, then: Use| System::new(name, "asked: 300", move || peak(tasks, then));
    vec![
        of("make", Use::Make),
        of("plan-heft", Use::Plan("heft")),
        of("plan-min-min", Use::Plan("min-min")),
        of("run-plan-heft", Use::RunPlan("heft")),
        of("run-fifo", Use::Run("fifo")),
        of("run-earliest-finish", Use::Run("earliest-finish")),
        of("run-heft", Use::Run("heft")),
        of("simulate", Use::Simulate("earliest-finish")),
        of("simulate-heft", Use::Simulate("heft")),
    ]
}

/// The most bytes that are allocated at a time, for each task.
fn peak(tasks: u64, then: Use) -> f64 {
    let generate = Generate::parse(&format!("layered:{tasks},ccr=0.5")).expect("a shape");
    let counted = count(|| {
        let workload = generate.workload();
        let platform = Platform::of_speeds(&[1.0, 2.0, 4.0, 8.0].repeat(4), Some(1e9)).expect("speeds");
        let problem = || Problem::new(&workload, &platform);
        let plan = |problem: &Problem<'_>, name: &str| (planner(name).expect("a planner").plan)(problem);
        let run = |problem: &Problem<'_>, name: &str| {
            engine::run(problem, policy::by_name(name).expect("a policy"), EngineOptions::default()).schedule
        };
        match then {
            Use::Make => {}
            Use::Plan(name) => _ = black_box(plan(&problem(), name)),
            Use::RunPlan(name) => {
                let problem = problem();
                let plan = plan(&problem, name);
                black_box(engine::run_plan(&problem, &plan, EngineOptions::default()));
            }
            Use::Run(name) => _ = black_box(run(&problem(), name)),
            Use::Simulate(name) => {
                let problem = problem();
                problem.check(&platform).expect("each task can run somewhere");
                let schedule = run(&problem, name);
                schedule.check(&problem).expect("a schedule");
                black_box((schedule.makespan_ns(), problem.lower_bound_ns(), schedule.busy_ns(16)));
            }
        }
    });
    counted.peak_bytes as f64 / tasks as f64
}
