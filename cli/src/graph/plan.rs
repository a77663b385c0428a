//! A graph that has been found right: names resolved, files read, types checked, kernels chosen.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use poniard::{ErasedKernel, HostBody, Priority, Scope};

use super::document;
use super::error::{Fault, quoted, suggestion};
use super::input_file;
use super::literal::Source;
use super::model::{self, Graph, Located, TaskEntry};
use super::order::{Dependency, order};
use super::output_file::Format;
use crate::kernels::{self, Definition, Form, Type, Value};

/// Tasks of a cycle that a message names.
const SHOWN_OF_CYCLE: usize = 12;

/// A graph ready to run.
pub(super) struct Plan {
    /// The tasks in the order of the file.
    pub(super) tasks: Vec<PlannedTask>,
    /// Indices of `tasks`, each after its dependencies.
    pub(super) order: Vec<usize>,
    /// The contents of input files, each once.
    pub(super) files: Vec<Value>,
}

/// A task ready to run.
pub(super) struct PlannedTask {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) kernel: Arc<ErasedKernel>,
    pub(super) body: HostBody,
    pub(super) inputs: Vec<PlannedInput>,
    /// Indices of tasks that come before.
    pub(super) after: Vec<usize>,
    pub(super) scope: Located<Scope>,
    pub(super) priority: Priority,
    pub(super) output: Option<(PathBuf, Format)>,
    /// Whether nobody depends on it.
    pub(super) sink: bool,
}

/// Where an argument comes from.
pub(super) enum PlannedInput {
    Literal(Value),
    /// Index of a task.
    Task(usize),
    /// Index into [`Plan::files`].
    File(usize),
}

/// The plan of the graph file at `path` for a run with `seed`.
pub(super) fn plan(path: &Path, seed: u64) -> Result<Plan, Fault> {
    let graph = model::read(document::read(path)?)?;
    let base = path.parent().unwrap_or(Path::new(""));
    let definitions = kernels::by_name(seed);
    let definitions = graph.tasks.iter().map(|task| definition(&definitions, task)).collect::<Result<Vec<_>, _>>()?;
    let dependencies = dependencies(&graph)?;
    let order = order(&dependencies).map_err(|cycle| cycle_fault(&graph, &cycle))?;
    let mut files = InputFiles::default();
    let inputs = resolve(&graph, &dependencies, base, &mut files)?;
    let choices = choose_forms(&graph, &definitions, &inputs, &order, &files)?;
    let outputs = outputs(path, base, &graph, &choices, &files)?;

    let mut needed = vec![false; graph.tasks.len()];
    for need in dependencies.iter().flatten() {
        needed[need.on] = true;
    }
    let mut kernels: BTreeMap<(&str, usize, usize), Arc<ErasedKernel>> = BTreeMap::new();
    let mut tasks = Vec::with_capacity(graph.tasks.len());
    for (index, (entry, (inputs, output))) in graph.tasks.into_iter().zip(inputs.into_iter().zip(outputs)).enumerate() {
        let (definition, (form_index, form)) = (definitions[index], choices[index]);
        let kernel = kernels
            .entry((definition.name, form_index, inputs.len()))
            .or_insert_with(|| Arc::new(form.kernel(definition.name, inputs.len())));
        tasks.push(PlannedTask {
            kernel: Arc::clone(kernel),
            body: form.body(),
            after: dependencies[index].iter().rev().take(entry.after.len()).map(|need| need.on).collect(),
            name: entry.name,
            line: entry.line,
            inputs,
            scope: entry.scope,
            priority: entry.priority,
            output,
            sink: !needed[index],
        });
    }
    Ok(Plan { tasks, order, files: files.values })
}

fn definition<'a>(definitions: &'a BTreeMap<&'static str, Definition>, task: &TaskEntry) -> Result<&'a Definition, Fault> {
    let name = &task.kernel.value;
    definitions.get(name.as_str()).ok_or_else(|| {
        let near = suggestion(name, definitions.keys().copied());
        Fault::at(task.kernel.line, format!("task {} names an unknown kernel {}{near}", quoted(&task.name), quoted(name)))
    })
}

/// For each task what it needs: first its inputs that are tasks, in order, then those of `after`.
fn dependencies(graph: &Graph) -> Result<Vec<Vec<Dependency>>, Fault> {
    let indices: BTreeMap<&str, usize> = graph.tasks.iter().enumerate().map(|(index, task)| (task.name.as_str(), index)).collect();
    graph
        .tasks
        .iter()
        .enumerate()
        .map(|(index, task)| {
            let inputs = task.inputs.iter().filter_map(|input| match &input.value {
                Source::Task(name) => Some((name.as_str(), input.line)),
                Source::Literal(_) | Source::File(_) => None,
            });
            let after = task.after.iter().map(|name| (name.value.as_str(), name.line));
            inputs
                .chain(after)
                .map(|(name, line)| match indices.get(name) {
                    Some(on) if *on == index => Err(Fault::at(line, format!("task {} needs itself", quoted(name)))),
                    Some(on) => Ok(Dependency { on: *on, line }),
                    None => {
                        let near = suggestion(name, indices.keys().copied());
                        Err(Fault::at(line, format!("task {} refers to an unknown task {}{near}", quoted(&task.name), quoted(name))))
                    }
                })
                .collect()
        })
        .collect()
}

fn cycle_fault(graph: &Graph, cycle: &[Dependency]) -> Fault {
    let name = |need: &Dependency| graph.tasks.get(need.on).map_or("", |task| task.name.as_str()).to_owned();
    // The last dependency leads to the first task.
    let mut names: Vec<String> = cycle.last().into_iter().chain(cycle).map(name).collect();
    if names.len() > SHOWN_OF_CYCLE + 1 {
        names.splice(SHOWN_OF_CYCLE..names.len() - 1, ["…".to_owned()]);
    }
    let text = format!("{} tasks form a cycle, each needing the next: {}", cycle.len(), names.join(" -> "));
    match cycle.first() {
        Some(first) => Fault::at(first.line, text),
        None => Fault::whole(text),
    }
}

/// Input files by path as written, so that a file that several tasks name is read once.
#[derive(Default)]
struct InputFiles {
    indices: BTreeMap<String, usize>,
    paths: Vec<PathBuf>,
    values: Vec<Value>,
}

fn resolve(graph: &Graph, dependencies: &[Vec<Dependency>], base: &Path, files: &mut InputFiles) -> Result<Vec<Vec<PlannedInput>>, Fault> {
    let resolve_task = |(task, needs): (&TaskEntry, &Vec<Dependency>)| {
        let mut needs = needs.iter();
        task.inputs
            .iter()
            .map(|input| match &input.value {
                // Each literal is used once, but the graph is still needed for messages; literals are small beside files.
                Source::Literal(value) => Ok(PlannedInput::Literal(value.clone())),
                // Dependencies begin with the inputs that are tasks, in order.
                Source::Task(name) => match needs.next() {
                    Some(need) => Ok(PlannedInput::Task(need.on)),
                    None => Err(Fault::at(input.line, format!("unknown task {}", quoted(name)))),
                },
                Source::File(written) => files.index(written, base, input.line).map(PlannedInput::File),
            })
            .collect()
    };
    graph.tasks.iter().zip(dependencies).map(resolve_task).collect()
}

impl InputFiles {
    fn index(&mut self, written: &str, base: &Path, line: usize) -> Result<usize, Fault> {
        match self.indices.entry(written.to_owned()) {
            MapEntry::Occupied(known) => Ok(*known.get()),
            MapEntry::Vacant(place) => {
                let path = base.join(written);
                let value = input_file::read(&path).map_err(|fault| {
                    let within = fault.line.map(|line| format!(", line {line}")).unwrap_or_default();
                    Fault::at(line, format!("input file {}{within}: {}", quoted(&path.display().to_string()), fault.text))
                })?;
                self.paths.push(path);
                self.values.push(value);
                Ok(*place.insert(self.values.len() - 1))
            }
        }
    }
}

/// For each task the form of its kernel that takes its inputs, and the form's index. Types flow along the order of the graph.
fn choose_forms<'a>(
    graph: &Graph,
    definitions: &[&'a Definition],
    inputs: &[Vec<PlannedInput>],
    order: &[usize],
    files: &InputFiles,
) -> Result<Vec<(usize, &'a Form)>, Fault> {
    let mut choices: Vec<Option<(usize, &Form)>> = vec![None; graph.tasks.len()];
    for &index in order {
        let given: Vec<Type> = inputs[index]
            .iter()
            .map(|input| match input {
                PlannedInput::Literal(value) => value.value_type(),
                PlannedInput::File(file) => files.values[*file].value_type(),
                PlannedInput::Task(task) => choices[*task].expect("a task comes after its inputs in `order`").1.output,
            })
            .collect();
        choices[index] = Some(choose_form(&graph.tasks[index], definitions[index], &given)?);
    }
    Ok(choices.into_iter().map(|choice| choice.expect("`order` names every task")).collect())
}

fn choose_form<'a>(task: &TaskEntry, definition: &'a Definition, given: &[Type]) -> Result<(usize, &'a Form), Fault> {
    let place = format!("task {}", quoted(&task.name));
    let candidates: Vec<(usize, &Form)> = definition.forms.iter().enumerate().filter(|(_, form)| form.takes(given.len())).collect();
    if candidates.is_empty() {
        let mut counts: Vec<String> =
            definition.forms.iter().map(|form| format!("{}{}", form.inputs.len(), if form.repeats { " or more" } else { "" })).collect();
        counts.dedup();
        return Err(Fault::at(
            task.kernel.line,
            format!(
                "{place} gives {} inputs, but kernel {} takes {}: {}",
                given.len(),
                quoted(definition.name),
                counts.join(" or "),
                definition.signature()
            ),
        ));
    }
    // How many inputs fit from the first on: the form that gets furthest says which input to blame.
    let fitting = |form: &Form| {
        given
            .iter()
            .enumerate()
            .take_while(|(position, given)| form.input_at(*position).is_some_and(|input| input.value_type == **given))
            .count()
    };
    if let Some(choice) = candidates.iter().find(|(_, form)| fitting(form) == given.len()) {
        return Ok(*choice);
    }
    let wrong = candidates.iter().map(|(_, form)| fitting(form)).max().unwrap_or_default();
    let mut expected: Vec<&str> = candidates
        .iter()
        .filter(|(_, form)| fitting(form) == wrong)
        .filter_map(|(_, form)| form.input_at(wrong))
        .map(|input| input.value_type.name())
        .collect();
    expected.sort_unstable();
    expected.dedup();
    let input = task.inputs.get(wrong);
    let origin = match input.map(|input| &input.value) {
        Some(Source::Task(name)) => format!(", the result of task {}", quoted(name)),
        Some(Source::File(path)) => format!(", from file {}", quoted(path)),
        Some(Source::Literal(_)) | None => String::new(),
    };
    let found = given.get(wrong).map_or("missing", |given| given.name());
    Err(Fault::at(
        input.map_or(task.line, |input| input.line),
        format!(
            "input {} of {place} is {found}{origin}, but kernel {} takes {} there: {}",
            wrong + 1,
            quoted(definition.name),
            expected.join(" or "),
            definition.signature()
        ),
    ))
}

/// For each task the file that its result goes to. A file is written once, and none that the graph is read from is written over.
fn outputs(
    path: &Path,
    base: &Path,
    graph: &Graph,
    choices: &[(usize, &Form)],
    files: &InputFiles,
) -> Result<Vec<Option<(PathBuf, Format)>>, Fault> {
    let mut taken: BTreeMap<PathBuf, String> = BTreeMap::new();
    let read = std::iter::once(path).chain(files.paths.iter().map(PathBuf::as_path));
    for read in read {
        if let Ok(read) = read.canonicalize() {
            taken.insert(read, "this run reads it".to_owned());
        }
    }
    let mut outputs = Vec::with_capacity(graph.tasks.len());
    for (task, (_, form)) in graph.tasks.iter().zip(choices) {
        let Some(Located { line, value: written }) = &task.output else {
            outputs.push(None);
            continue;
        };
        let fault = |reason: String| Fault::at(*line, format!("output {} of task {}: {reason}", quoted(written), quoted(&task.name)));
        let target = base.join(written);
        let format = Format::of(&target, form.output).map_err(fault)?;
        let (Some(folder), Some(file_name)) = (target.parent(), target.file_name()) else {
            return Err(fault("this is not a path of a file".to_owned()));
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        // Found now rather than after an hour of computing.
        let folder = folder.canonicalize().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => fault(format!("there is no directory {}", quoted(&folder.display().to_string()))),
            _ => fault(error.to_string()),
        })?;
        // Two paths are one file when their directory is the same and, for a file that exists, when it is: links are followed.
        let identity = folder.join(file_name);
        let identity = identity.canonicalize().unwrap_or(identity);
        if !folder.is_dir() || identity.is_dir() {
            return Err(fault("this is not a path of a file".to_owned()));
        }
        match taken.entry(identity) {
            MapEntry::Occupied(known) => return Err(fault(format!("the file cannot be written: {}", known.get()))),
            MapEntry::Vacant(place) => place.insert(format!("task {} writes it", quoted(&task.name))),
        };
        outputs.push(Some((target, format)));
    }
    Ok(outputs)
}
