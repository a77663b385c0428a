//! Graph files: a graph of named kernels in TOML or JSON, checked as a whole before anything runs. The format is described in
//! `docs/GRAPH_FILES.md`.
//!
//! The way of a file through the modules: [`document`] reads either format into one tree with lines, [`model`] takes the tree for a
//! graph, [`plan`] resolves names, reads input files, orders tasks and checks types; here the plan is run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use poniard::{Erased, Gather, Priority, Runtime, Scope, ScopeTerm, Task};

use crate::kernels::ValueRef;
use crate::sample::Progress;

mod document;
mod error;
mod input_file;
mod json;
mod literal;
mod model;
mod order;
mod output_file;
mod plan;
mod show;
mod toml;

pub(crate) use error::GraphError;

use error::{Fault, quoted, suggestion};
use plan::{Plan, PlannedInput, PlannedTask};

/// Numbers of a vector or matrix that [`GraphOutcome::values`] gives in full.
const MAX_VALUES: usize = 10_000;

/// What a graph runs with.
pub(crate) struct GraphContext<'a> {
    /// Where tasks run.
    pub(crate) runtime: &'a Runtime,
    /// Where the random kernels begin.
    pub(crate) seed: u64,
    /// Told how far the work is.
    pub(crate) progress: &'a dyn Progress,
}

/// What a graph came to.
#[derive(Debug)]
pub(crate) struct GraphOutcome {
    /// The result of each sink (a task that nobody depends on) in a line, in the order of the file: `d = 3.5`, `edges: image 640x480 rgb`.
    pub(crate) lines: Vec<String>,
    /// The same results by task's name; images and what has more than 10 000 numbers are described, not given.
    pub(crate) values: Vec<(String, serde_json::Value)>,
    /// Files for the command to write, whole contents. Paths are joined to the graph file's directory already.
    pub(crate) outputs: Vec<(PathBuf, Vec<u8>)>,
}

/// Reads the graph and all its input files and finds what is wrong, without running anything.
///
/// # Errors
/// The first thing wrong; [`GraphError::is_input`] is true.
pub(crate) fn check(file: &Path) -> Result<(), GraphError> {
    plan::plan(file, 0).map(|_| ()).map_err(|fault| GraphError::in_file(file, fault))
}

/// Runs the graph.
///
/// # Errors
/// What [`check`] finds, a scope that no processor is in, or the first failed task in the order of dependencies.
pub(crate) fn run(file: &Path, context: &GraphContext<'_>) -> Result<GraphOutcome, GraphError> {
    let plan = plan::plan(file, context.seed).map_err(|fault| GraphError::in_file(file, fault))?;
    check_scopes(&plan, context.runtime).map_err(|fault| GraphError::in_file(file, fault))?;
    let Plan { mut tasks, order, files } = plan;
    let files: Vec<Task<Erased>> = files.into_iter().map(|value| context.runtime.value(value.into_erased())).collect();
    let mut results: Vec<Option<Task<Erased>>> = tasks.iter().map(|_| None).collect();
    for &index in &order {
        let result = spawn(&mut tasks[index], context.runtime, &files, &results);
        results[index] = Some(result);
    }
    drop(files);

    // In the order of dependencies the first failure is a task that failed itself, so its name is known here and need not be
    // asked of the runtime. Results that nobody outside the graph wants are let go on the way.
    let total = order.len() as u64;
    for (done, &index) in (0..).zip(&order) {
        let task = &tasks[index];
        context.progress.advance(done, total);
        let Some(result) = &results[index] else { continue };
        if let Err(error) = result.wait() {
            let kernel = quoted(task.kernel.name());
            let reason = one_line(&error.reason());
            return Err(GraphError::in_task(file, task.line, format!("task {} (kernel {kernel}) failed: {reason}", quoted(&task.name))));
        }
        if !task.sink && task.output.is_none() {
            results[index] = None;
        }
    }
    context.progress.advance(total, total);
    outcome(file, &tasks, results)
}

/// A reason on one line of bounded length, without control characters: the message of `fail` may be any text.
fn one_line(reason: &str) -> String {
    const SHOWN: usize = 1000;
    let mut line: String = reason.chars().take(SHOWN).map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if line.len() < reason.len() {
        line.push('…');
    }
    line
}

/// Starts a task whose dependencies have been started.
fn spawn(task: &mut PlannedTask, runtime: &Runtime, files: &[Task<Erased>], results: &[Option<Task<Erased>>]) -> Task<Erased> {
    let result = |index: usize| results[index].clone().expect("a task comes after its dependencies in `order`");
    let mut arguments: Vec<Task<Erased>> = std::mem::take(&mut task.inputs)
        .into_iter()
        .map(|input| match input {
            PlannedInput::Literal(value) => runtime.value(value.into_erased()),
            PlannedInput::Task(index) => result(index),
            PlannedInput::File(index) => files[index].clone(),
        })
        .collect();
    if task.after.is_empty() && task.scope.value.is_any() && task.priority == Priority::Normal {
        return runtime.spawn_kernel(&task.kernel, arguments);
    }
    // `spawn_kernel` has no place for options, and a kernel none for arguments that are waited for but not used. So the host body,
    // the only one that these kernels have, runs as a closure that leaves the tasks of `after` aside.
    let count = arguments.len();
    arguments.extend(task.after.iter().map(|index| result(*index)));
    let body = Arc::clone(&task.body);
    runtime
        .task(move |all: Gather<'_, Erased>| body(&all.iter().take(count).collect::<Vec<_>>()), (arguments,))
        .name(task.name.as_str())
        .scope(task.scope.value.clone())
        .priority(task.priority)
        .spawn()
}

/// Whether each scope has a processor that can run host code. Known only with a runtime, so no part of [`check`].
fn check_scopes(plan: &Plan, runtime: &Runtime) -> Result<(), Fault> {
    let mut scopes: BTreeMap<String, &PlannedTask> = BTreeMap::new();
    for task in plan.tasks.iter().filter(|task| !task.scope.value.is_any()) {
        scopes.entry(task.scope.value.to_string()).or_insert(task);
    }
    for (words, task) in scopes {
        let fault = |reason: String| Err(Fault::at(task.scope.line, format!("task {}: {reason}", quoted(&task.name))));
        let selected = runtime.processors_in(&task.scope.value);
        if selected.is_empty() {
            return fault(format!("its scope, {words}, has no processor here{}", misspelt(&task.scope.value, runtime)));
        }
        if !selected.iter().any(|processor| processor.kind.as_str() == "cpu") {
            let kernel = quoted(task.kernel.name());
            return fault(format!("kernel {kernel} has code for processors of kind `cpu` only, and its scope, {words}, has none"));
        }
    }
    Ok(())
}

/// A suggestion for the first name in a scope that nothing of the runtime has.
fn misspelt(scope: &Scope, runtime: &Runtime) -> String {
    let processors = runtime.processors_in(&Scope::any());
    let unknown = scope.terms().filter(|term| runtime.processors_in(&Scope::from((*term).clone())).is_empty());
    let suggested = unknown.map(|term| match term {
        ScopeTerm::Kind(kind) => suggestion(kind.as_str(), processors.iter().map(|processor| processor.kind.as_str())),
        ScopeTerm::Backend(name) => suggestion(name, processors.iter().map(|processor| processor.backend.as_str())),
        ScopeTerm::Processor(name) => suggestion(name, processors.iter().map(|processor| processor.name.as_str())),
        _ => String::new(),
    });
    suggested.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

fn outcome(file: &Path, tasks: &[PlannedTask], results: Vec<Option<Task<Erased>>>) -> Result<GraphOutcome, GraphError> {
    let mut outcome = GraphOutcome { lines: Vec::new(), values: Vec::new(), outputs: Vec::new() };
    for (task, result) in tasks.iter().zip(results) {
        let Some(result) = result else { continue };
        let wrong = |reason: &str| GraphError::in_task(file, task.line, format!("the result of task {}: {reason}", quoted(&task.name)));
        let result = result.fetch().map_err(|error| wrong(&error.reason()))?;
        let value = ValueRef::of(&result).ok_or_else(|| wrong(&format!("{} is no type of a graph file", result.type_name())))?;
        if task.sink {
            outcome.lines.push(show::line(&task.name, value));
            outcome.values.push((task.name.clone(), show::json(value, MAX_VALUES)));
        }
        if let Some((path, format)) = &task.output {
            outcome.outputs.push((path.clone(), format.encode(value).map_err(|reason| wrong(&reason))?));
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests;
