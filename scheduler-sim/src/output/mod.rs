//! What is written of a run: traces for viewers, a picture, and a table of decisions.
//!
//! All tell of [`Causes`]: why each task began when it did, which chain of tasks and waits made the run as long as it was, and why processors had nothing to do.

mod causes;
mod csv;
mod gantt;
mod paje;
mod trace;

pub use causes::{Cause, Causes, Gap, Idle, Step, Transfer};
pub use csv::csv;
pub use gantt::gantt;
pub use paje::paje;
pub use trace::trace;

use crate::engine::Decided;
use crate::problem::Problem;
use crate::schedule::Schedule;

/// A run that is over, or a plan, and what there is to say about it.
#[derive(Debug)]
pub struct Run<'a> {
    /// What was to be done.
    pub problem: &'a Problem<'a>,
    /// Who decided: the name of a policy or of a planner.
    pub policy: &'a str,
    /// Where and when each task ran.
    pub schedule: &'a Schedule,
    /// What the policy decided, in order; `None` of a plan, which is made before anything runs.
    pub decisions: Option<&'a [Decided]>,
    /// Why it went as it did.
    pub causes: &'a Causes,
}

/// A time in words, of three digits and a unit.
fn time(ns: u64) -> String {
    let (unit, name) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (1e3, "µs"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let value = ns as f64 / unit;
    let digits = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {name}")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::engine::{EngineOptions, run};
    use crate::plan::planner;
    use crate::platform::Platform;
    use crate::workload::{Workload, WorkloadBuilder};

    /// Two tasks at the beginning, one that needs both, with data of a second, and names that hurt.
    pub(crate) fn workload() -> Workload {
        let mut builder = WorkloadBuilder::new("a <&> \"b\"\u{1}");
        builder.task("first, <one>", "co\"de&", 2_000_000_000);
        builder.task("second\n\"two\"", "code", 1_000_000_000);
        builder.task("third", "code", 1_500_000_001);
        builder.edge(0, 2, 1);
        builder.edge(1, 2, 3);
        builder.build().unwrap()
    }

    pub(crate) fn platform() -> Platform {
        Platform::of_speeds(&[1.0, 1.0], Some(1.0)).unwrap()
    }

    /// Has all three written of a plan and of a live run, and looks at each.
    pub(crate) fn with_runs(look: impl Fn(&Run<'_>)) {
        let (workload, platform) = (workload(), platform());
        let problem = Problem::new(&workload, &platform);
        let plan = (planner("heft").unwrap().plan)(&problem);
        let causes = Causes::new(&problem, &plan, None);
        look(&Run { problem: &problem, policy: "heft", schedule: &plan, decisions: None, causes: &causes });
        let policy = poniard::policy::by_name("fifo").unwrap();
        let live = run(&problem, policy, EngineOptions { seed: 0, keeps_decisions: true, ..EngineOptions::default() });
        let causes = Causes::new(&problem, &live.schedule, Some(&live.decisions));
        look(&Run { problem: &problem, policy: "fifo", schedule: &live.schedule, decisions: Some(&live.decisions), causes: &causes });
    }

    #[test]
    fn times_have_three_digits() {
        assert_eq!([0, 999, 1_500, 12_340_000, 123_400_000_000].map(time), ["0 ns", "999 ns", "1.50 µs", "12.3 ms", "123 s"]);
    }
}
