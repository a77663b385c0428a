//! `scopes`: where tasks may run, and where values may be used.
//!
//! A value that may be used on one processor only pulls every task that takes it there, whatever the task says or does not say itself. A task that
//! may not run there is refused when it is spawned, and the error names the two that do not meet.

use std::collections::BTreeMap;

use poniard::{FailureKind, Runtime, Scope, Task, TaskError, current_processor};

use super::limits;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "scopes",
    summary: "where tasks may run: unions, exclusions, a value that pulls its users, and a scope that no processor is in",
    options: &[SampleOption { name: "size", meaning: "number of tasks in each scope, default 100" }],
    kernels: false,
    run,
};

/// How many tasks ran on each processor, by name.
type Places = BTreeMap<String, usize>;

/// The body of all tasks: where it runs.
fn here() -> Option<String> {
    current_processor().map(|processor| processor.name)
}

fn here_with(_: &u64) -> Option<String> {
    here()
}

/// Counts where tasks ran, once all have.
fn places(tasks: Vec<Task<Option<String>>>) -> Result<Places, TaskError> {
    let mut places = Places::new();
    for task in tasks {
        *places.entry(task.take()?.unwrap_or_else(|| "nowhere".into())).or_default() += 1;
    }
    Ok(places)
}

/// The processors in a scope, by name: what the tasks are compared with.
fn names(runtime: &Runtime, scope: &Scope) -> Vec<String> {
    runtime.processors_in(scope).into_iter().map(|processor| processor.name).collect()
}

/// A scope, the processors that it comes to, and where its tasks ran.
struct Scoped {
    what: &'static str,
    scope: Scope,
    allowed: Vec<String>,
    ran: Places,
}

impl Scoped {
    fn line(&self) -> String {
        let ran: Vec<_> = self.ran.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let ran = if ran.is_empty() { "no processor, so no task".into() } else { ran.join(", ") };
        format!("{:<10} {}: {ran}", format!("{}:", self.what), self.scope)
    }
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let size = limits::count("size", context.size, 100, limits::MOST_TASKS / 3)?;
    let runtime = context.runtime;
    let all = names(runtime, &Scope::any());
    // Every runtime has a processor; with one only, some scopes below come to nothing, and that is said.
    let (first, last) = (all.first().cloned().unwrap_or_default(), all.last().cloned().unwrap_or_default());

    let pinned_to = Scope::processor(last.clone());
    let union = Scope::processor(first) | pinned_to.clone();
    let elsewhere = Scope::any() - pinned_to.clone();
    let mut parts = Vec::new();
    for (what, scope) in [("union", union), ("exclusion", elsewhere.clone())] {
        let allowed = names(runtime, &scope);
        let count = if allowed.is_empty() { 0 } else { size };
        let tasks = (0..count).map(|_| runtime.task(here, ()).scope(scope.clone()).spawn()).collect();
        parts.push(Scoped { what, allowed, ran: places(tasks)?, scope });
        context.progress.advance(parts.len() as u64, 4);
    }

    // The tasks say nothing about where they run: the value does.
    let pinned = runtime.scoped_value(7, pinned_to.clone());
    let tasks = (0..size).map(|_| runtime.spawn(here_with, (&pinned,))).collect();
    parts.push(Scoped { what: "pinned", allowed: vec![last], ran: places(tasks)?, scope: pinned_to });
    context.progress.advance(3, 4);

    let torn = runtime.task(here_with, (&pinned,)).name("torn").scope(elsewhere).spawn();
    let refused = torn.wait();
    context.progress.advance(4, 4);
    let error = refused.as_ref().map_or_else(TaskError::to_string, |()| "it ran".into());

    let mut lines: Vec<_> = parts.iter().map(Scoped::line).collect();
    lines.push(format!("{:<10} {error}", "nowhere:"));
    let ran: Vec<_> = parts.iter().map(|part| (part.what, serde_json::json!(part.ran))).collect();
    Ok(Outcome {
        lines,
        values: [("size", size.into()), ("error", error.into())].into_iter().chain(ran).collect(),
        check: check(&parts, size, refused.as_ref().err()),
        output: None,
    })
}

/// Every task ran, on a processor that its scope comes to; and the one that could not run anywhere says so.
fn check(parts: &[Scoped], size: usize, refusal: Option<&TaskError>) -> Check {
    let outside: usize =
        parts.iter().flat_map(|part| part.ran.iter().filter(|(name, _)| !part.allowed.contains(name))).map(|(_, n)| n).sum();
    let complete = parts.iter().all(|part| part.ran.values().sum::<usize>() == if part.allowed.is_empty() { 0 } else { size });
    let refused = refusal.is_some_and(|error| {
        // On a runtime with one processor the scope without it is empty by itself.
        matches!(error.kind(), FailureKind::ScopesDoNotMeet { .. } | FailureKind::NoProcessor { .. })
    });
    Check {
        passed: outside == 0 && complete && refused,
        text: format!(
            "{outside} tasks ran outside their scope; the one that fits nowhere was {}refused",
            if refused { "" } else { "not " }
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn runs_at_every_size_and_names_both_scopes() {
        for size in [None, Some(1), Some(1000)] {
            let outcome = Trial { size, ..Trial::default() }.passes(&SAMPLE);
            let error = outcome.lines.last().unwrap();
            assert!(error.contains("any processor except processor `threads-1`"), "{error}");
            assert!(error.contains("argument 1 (processor `threads-1`) do not meet"), "{error}");
        }
    }

    #[test]
    fn one_processor_is_enough() {
        let outcome = Trial { threads: Some(1), ..Trial::default() }.passes(&SAMPLE);
        assert!(outcome.lines[1].ends_with("no processor, so no task"), "{}", outcome.lines[1]);
    }

    #[test]
    fn refuses_sizes_without_sense() {
        for size in [0, 1 << 39, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
    }

    #[test]
    fn check_notices_a_task_outside_its_scope_and_one_that_is_missing() {
        let part = |name: &str, count| Scoped {
            what: "union",
            scope: Scope::any(),
            allowed: vec!["a".into(), "b".into()],
            ran: [("a".into(), 2), (name.into(), count)].into(),
        };
        let runtime = Runtime::builder().threads(1).build().unwrap();
        let error = runtime.task(here, ()).scope(Scope::processor("none")).spawn().wait().unwrap_err();
        let panicked = runtime.spawn(|| -> u64 { panic!("not that") }, ()).wait().unwrap_err();
        assert!(check(&[part("b", 3)], 5, Some(&error)).passed);
        assert!(!check(&[part("c", 3)], 5, Some(&error)).passed);
        assert!(!check(&[part("b", 2)], 5, Some(&error)).passed);
        assert!(!check(&[part("b", 3)], 5, Some(&panicked)).passed);
        assert!(!check(&[part("b", 3)], 5, None).passed);
    }
}
