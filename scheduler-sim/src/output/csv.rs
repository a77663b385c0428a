//! A table of decisions: a line for each task, with the names of the columns above.

use std::fmt::Write as _;

use poniard::policy::Placement;

use super::Run;

/// The columns. Times are in nanoseconds; `place` is where the policy placed the task, `any` for the queue of all, and `processor` where it ran.
const HEAD: &str = "decided_ns,task,code,place,why,processor,ready_ns,start_ns,end_ns,began,after,wait_ns,critical";

/// The table, by the time of decisions; of a plan, which decides all before, by beginning. Tasks of which no decision is known come behind the others, by beginning. Fields with commas, quotes or line ends stand in quotes (RFC 4180).
#[must_use]
pub fn csv(run: &Run<'_>) -> String {
    let Run { problem, schedule, causes, .. } = *run;
    let workload = problem.workload();
    let mut is_critical = vec![false; problem.len()];
    causes.critical().iter().for_each(|task| is_critical[*task] = true);
    let mut text = format!("{HEAD}\n");
    let mut row = |task: usize, decided_ns: u64, place: &str, why: &str| {
        let step = causes.step(task);
        let code = &workload.code_names()[workload.code(task) as usize];
        let after = step.after.map_or("", |after| workload.task_name(after));
        let processor = problem.processor_name(schedule.processor[task] as usize);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{decided_ns},{},{},{},{why},{},{},{},{},{},{},{},{}",
            field(workload.task_name(task)),
            field(code),
            field(place),
            field(processor),
            causes.ready_ns(task),
            schedule.start_ns[task],
            schedule.end_ns[task],
            step.cause.name(),
            field(after),
            step.wait_ns,
            u8::from(is_critical[task]),
        );
    };
    let mut is_told = vec![false; problem.len()];
    for decided in run.decisions.unwrap_or_default() {
        let place = match decided.decision.placement {
            Placement::Place(place) => problem.processor_name(place),
            Placement::Shared => "any",
        };
        is_told[decided.task as usize] = true;
        row(decided.task as usize, decided.at_ns, place, decided.decision.why.name());
    }
    let mut order: Vec<usize> = (0..problem.len()).filter(|task| !is_told[*task]).collect();
    order.sort_by_key(|task| (schedule.start_ns[*task], *task));
    for task in order {
        match run.decisions {
            Some(_) => row(task, schedule.start_ns[task], "", ""),
            None => row(task, 0, problem.processor_name(schedule.processor[task] as usize), "planned"),
        }
    }
    text
}

/// A field as a reader takes it.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::with_runs;

    #[test]
    fn each_task_has_a_line_and_its_causes() {
        with_runs(|run| {
            let text = csv(run);
            let lines = match run.policy {
                "heft" => [
                    "0,\"first, <one>\",\"co\"\"de&\",p1,planned,p1,0,0,2000000000,begin,,0,1",
                    "0,\"second\n\"\"two\"\"\",code,p0,planned,p0,0,0,1000000000,begin,,0,0",
                ],
                _ => [
                    "0,\"first, <one>\",\"co\"\"de&\",any,first-free,p0,0,0,2000000000,begin,,0,1",
                    "2000000000,third,code,any,first-free,p0,2000000000,5000000000,6500000001,data,\"first, <one>\",3000000000,1",
                ],
            };
            assert!(text.starts_with(HEAD));
            lines.iter().for_each(|line| assert!(text.contains(line), "no {line} in {text}"));
        });
    }
}
