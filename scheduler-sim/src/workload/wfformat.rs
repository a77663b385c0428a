//! WfFormat 1.4, 1.5 and 1.6: how WfCommons writes down workflows that ran. JSON.
//!
//! In 1.5 and 1.6 what tasks are and how long they took are two lists; 1.4 has one, and names parents by name. The bytes of an edge are those of the files that the
//! parent writes and the child reads; two tasks may depend on each other without any.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::read::{Files, ReadOptions, Wrong, shared_bytes};
use super::{Workload, WorkloadBuilder};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    schema_version: Option<String>,
    workflow: Workflow,
}

#[derive(Deserialize)]
struct Workflow {
    specification: Option<Specification>,
    execution: Option<Execution>,
    tasks: Option<Vec<OldTask>>,
}

#[derive(Deserialize)]
struct Specification {
    tasks: Vec<Task>,
    #[serde(default)]
    files: Vec<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    name: Option<String>,
    id: String,
    #[serde(default)]
    parents: Vec<String>,
    #[serde(default)]
    children: Vec<String>,
    #[serde(default)]
    input_files: Vec<String>,
    #[serde(default)]
    output_files: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    id: String,
    size_in_bytes: f64,
}

#[derive(Deserialize)]
struct Execution {
    tasks: Vec<Executed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Executed {
    id: String,
    runtime_in_seconds: f64,
    core_count: Option<f64>,
    command: Option<Command>,
}

#[derive(Deserialize)]
struct Command {
    program: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldTask {
    name: String,
    id: Option<String>,
    category: Option<String>,
    #[serde(default)]
    parents: Vec<String>,
    #[serde(alias = "runtime")]
    runtime_in_seconds: f64,
    #[serde(alias = "coreCount")]
    cores: Option<f64>,
    #[serde(default)]
    files: Vec<OldData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldData {
    link: String,
    name: String,
    #[serde(alias = "size", default)]
    size_in_bytes: f64,
}

pub(super) fn read(name: &str, text: &str, options: ReadOptions) -> Result<Workload, Wrong> {
    let file: File = serde_json::from_str(text).map_err(|error| Wrong::of_json(&error))?;
    let version = file.schema_version.as_deref();
    match (version, file.workflow.tasks, file.workflow.specification) {
        (Some("1.4") | None, Some(tasks), None) => old(name, tasks, options),
        (Some("1.5" | "1.6") | None, None, Some(specification)) => {
            let Some(execution) = file.workflow.execution else {
                return Err(Wrong::at("workflow.execution", "it is missing, so nothing says how long tasks take"));
            };
            new(name, specification, execution, options)
        }
        (Some("1.4"), None, _) => Err(Wrong::at("workflow.tasks", "it is missing; `schemaVersion` is 1.4")),
        (Some(version @ ("1.5" | "1.6")), _, None) => {
            Err(Wrong::at("workflow.specification", format_args!("it is missing; `schemaVersion` is {version}")))
        }
        (Some("1.4" | "1.5" | "1.6"), ..) => {
            Err(Wrong::at("workflow", "it has `tasks` as in version 1.4 and a `specification` as in later ones"))
        }
        (Some(version), ..) => Err(Wrong::at("schemaVersion", format_args!("version {version} is not known; 1.4, 1.5 and 1.6 are"))),
        (None, ..) => Err(Wrong::at("workflow", "it has neither `specification` nor `tasks`, or both, and no `schemaVersion` says which")),
    }
}

fn bytes(place: impl std::fmt::Display, size: f64) -> Result<u64, Wrong> {
    // Larger ones than a petabyte are typing errors, and sums are to fit.
    match size {
        size if size.is_finite() && (0.0..=1e15).contains(&size) => Ok(size.round() as u64),
        size => Err(Wrong::at(place, format_args!("{size} is no number of bytes between 0 and 1e15"))),
    }
}

/// What a task does, from a name such as `mProject_ID0000001`: the name without the numbers behind it.
fn code_of(name: &str) -> &str {
    let code = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let code = code.strip_suffix("_ID").unwrap_or(code).trim_end_matches(['_', '-', '.']);
    if code.is_empty() { "task" } else { code }
}

fn new(name: &str, specification: Specification, execution: Execution, options: ReadOptions) -> Result<Workload, Wrong> {
    let mut sizes = BTreeMap::new();
    for (index, file) in specification.files.iter().enumerate() {
        sizes.insert(file.id.as_str(), bytes(format_args!("workflow.specification.files[{index}].sizeInBytes"), file.size_in_bytes)?);
    }
    let mut executed = BTreeMap::new();
    for (index, task) in execution.tasks.iter().enumerate() {
        if executed.insert(task.id.as_str(), (index, task)).is_some() {
            return Err(Wrong::at(
                format_args!("workflow.execution.tasks[{index}].id"),
                format_args!("task `{}` is there already", task.id),
            ));
        }
    }
    let mut builder = WorkloadBuilder::new(name);
    let mut numbers = BTreeMap::new();
    for (index, task) in specification.tasks.iter().enumerate() {
        let Some((at, run)) = executed.get(task.id.as_str()) else {
            return Err(Wrong::at("workflow.execution.tasks", format_args!("nothing says how long task `{}` takes", task.id)));
        };
        let work_ns = options.nanoseconds(run.runtime_in_seconds).map_err(|reason| {
            Wrong::at(format_args!("workflow.execution.tasks[{at}].runtimeInSeconds"), format_args!("task `{}`: {reason}", task.id))
        })?;
        let program = run.command.as_ref().and_then(|command| command.program.as_deref()).filter(|program| !program.is_empty());
        let code = program.unwrap_or_else(|| code_of(task.name.as_deref().unwrap_or(&task.id)));
        let number = builder.task(&task.id, code, work_ns);
        builder.processors(
            number,
            options.processors(run.core_count).map_err(|reason| {
                Wrong::at(format_args!("workflow.execution.tasks[{at}].coreCount"), format_args!("task `{}`: {reason}", task.id))
            })?,
        );
        if let Some(before) = numbers.insert(task.id.as_str(), index) {
            let place = format!("workflow.specification.tasks[{index}].id");
            return Err(Wrong::at(place, format_args!("task `{}` is there already, as tasks[{before}]", task.id)));
        }
    }
    let mut edges = std::collections::BTreeSet::new();
    for (index, task) in specification.tasks.iter().enumerate() {
        for (others, field, is_parent) in [(&task.parents, "parents", true), (&task.children, "children", false)] {
            for (position, other) in others.iter().enumerate() {
                let Some(number) = numbers.get(other.as_str()) else {
                    let place = format!("workflow.specification.tasks[{index}].{field}[{position}]");
                    return Err(Wrong::at(place, format_args!("task `{}` names `{other}`, which is not there", task.id)));
                };
                edges.insert(if is_parent { (*number, index) } else { (index, *number) });
            }
        }
    }
    let written: Vec<std::collections::BTreeSet<&str>> =
        specification.tasks.iter().map(|task| task.output_files.iter().map(String::as_str).collect()).collect();
    for (from, to) in edges {
        let read: std::collections::BTreeSet<&str> = specification.tasks[to].input_files.iter().map(String::as_str).collect();
        let mut sum = 0_u64;
        for file in read.intersection(&written[from]) {
            let Some(size) = sizes.get(file) else {
                return Err(Wrong::at(
                    "workflow.specification.files",
                    format_args!("file `{file}`, which task `{}` reads, is missing", specification.tasks[to].id),
                ));
            };
            sum = sum.saturating_add(*size);
        }
        builder.edge(from, to, sum);
    }
    Ok(builder.build()?)
}

fn old(name: &str, tasks: Vec<OldTask>, options: ReadOptions) -> Result<Workload, Wrong> {
    let mut builder = WorkloadBuilder::new(name);
    let mut numbers = BTreeMap::new();
    let mut by_name = BTreeMap::new();
    // Of each task what it reads, and what it writes with the bytes.
    let mut reads = Vec::new();
    let mut writes = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        let id = task.id.as_deref().unwrap_or(&task.name);
        let work_ns = options
            .nanoseconds(task.runtime_in_seconds)
            .map_err(|reason| Wrong::at(format_args!("workflow.tasks[{index}].runtimeInSeconds"), format_args!("task `{id}`: {reason}")))?;
        let number = builder.task(id, task.category.as_deref().unwrap_or_else(|| code_of(&task.name)), work_ns);
        let processors = options
            .processors(task.cores)
            .map_err(|reason| Wrong::at(format_args!("workflow.tasks[{index}].cores"), format_args!("task `{id}`: {reason}")))?;
        builder.processors(number, processors);
        if let Some(before) = numbers.insert(id, index) {
            return Err(Wrong::at(
                format_args!("workflow.tasks[{index}].id"),
                format_args!("task `{id}` is there already, as tasks[{before}]"),
            ));
        }
        by_name.insert(task.name.as_str(), index);
        let (mut read, mut written) = (Files::new(), Files::new());
        for (position, file) in task.files.iter().enumerate() {
            let size = bytes(format_args!("workflow.tasks[{index}].files[{position}].sizeInBytes"), file.size_in_bytes)?;
            match file.link.as_str() {
                "input" => read.insert(file.name.as_str(), size),
                "output" => written.insert(file.name.as_str(), size),
                link => {
                    let place = format!("workflow.tasks[{index}].files[{position}].link");
                    return Err(Wrong::at(place, format_args!("it is `{link}`, and can be `input` or `output`")));
                }
            };
        }
        reads.push(read);
        writes.push(written);
    }
    for (index, task) in tasks.iter().enumerate() {
        let mut parents = std::collections::BTreeSet::new();
        for (position, parent) in task.parents.iter().enumerate() {
            let Some(from) = numbers.get(parent.as_str()).or_else(|| by_name.get(parent.as_str())) else {
                let place = format!("workflow.tasks[{index}].parents[{position}]");
                return Err(Wrong::at(place, format_args!("task `{}` names `{parent}`, which is not there", task.name)));
            };
            parents.insert(*from);
        }
        for from in parents {
            builder.edge(from, index, shared_bytes(&reads[index], &writes[from]));
        }
    }
    Ok(builder.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_file(tasks: &str, files: &str, runs: &str) -> String {
        format!(
            r#"{{"schemaVersion":"1.5","workflow":{{"specification":{{"tasks":[{tasks}],"files":[{files}]}},"execution":{{"tasks":[{runs}]}}}}}}"#
        )
    }

    fn wrong(text: &str) -> String {
        read("g", text, ReadOptions::default()).unwrap_err().shown()
    }

    const A: &str = r#"{"id":"a_01","children":["b_1"],"outputFiles":["x","y","z"]}"#;
    const B: &str = r#"{"id":"b_1","parents":["a_01"],"inputFiles":["y","z","w"]}"#;
    const RUNS: &str = r#"{"id":"b_1","runtimeInSeconds":0.0015},{"id":"a_01","runtimeInSeconds":2,"command":{"program":"prog"}}"#;
    const FILES: &str = r#"{"id":"y","sizeInBytes":7},{"id":"z","sizeInBytes":8},{"id":"x","sizeInBytes":1},{"id":"w","sizeInBytes":100}"#;

    #[test]
    fn an_edge_has_the_files_that_both_ends_name() {
        let text = new_file(&format!("{A},{B}"), FILES, RUNS);
        let workload = read("g", &text, ReadOptions::default()).unwrap();
        assert_eq!((workload.work_ns(0), workload.work_ns(1), workload.edge_count(), workload.bytes(0)), (2_000_000_000, 1_500_000, 1, 15));
        assert_eq!(workload.code_names(), ["prog", "b"]);
        // Halves to the even one.
        let rounded = read("g", &text, ReadOptions { round_to_ms: true, ..ReadOptions::default() }).unwrap();
        assert_eq!(rounded.work_ns(1), 2_000_000);
    }

    #[test]
    fn the_older_layout_names_parents_by_name() {
        let text = r#"{"schemaVersion":"1.4","workflow":{"tasks":[
            {"name":"p_x","id":"1","runtimeInSeconds":1,"files":[{"link":"output","name":"f","sizeInBytes":3}]},
            {"name":"q","id":"2","parents":["p_x","1"],"runtime":2,"files":[{"link":"input","name":"f","size":3}]}]}}"#;
        let workload = read("g", text, ReadOptions::default()).unwrap();
        assert_eq!((workload.edge_count(), workload.bytes(0), workload.work_ns(1)), (1, 3, 2_000_000_000));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_field() {
        assert!(
            wrong("{\n\"workflow\": 3}").starts_with("line 2, column 13: invalid type: integer `3`"),
            "{}",
            wrong("{\n\"workflow\": 3}")
        );
        assert!(wrong(r#"{"workflow":{"specification":{"tasks":[{"id":"a","parents":[1]}]}}}"#).contains("line 1, column 6"));
        assert!(wrong(&new_file(A, &FILES.replace('7', "1e999"), RUNS)).contains("number out of range"));
        assert_eq!(wrong(r#"{"schemaVersion":"2.0","workflow":{}}"#), "schemaVersion: version 2.0 is not known; 1.4, 1.5 and 1.6 are");
        assert_eq!(wrong(r#"{"schemaVersion":"1.5","workflow":{}}"#), "workflow.specification: it is missing; `schemaVersion` is 1.5");
        assert_eq!(
            wrong(&new_file(A, FILES, RUNS)),
            "workflow.specification.tasks[0].children[0]: task `a_01` names `b_1`, which is not there"
        );
        assert_eq!(
            wrong(&new_file(B, FILES, RUNS)),
            "workflow.specification.tasks[0].parents[0]: task `b_1` names `a_01`, which is not there"
        );
        let both = format!("{A},{B}");
        assert_eq!(wrong(&new_file(&both, "", RUNS)), "workflow.specification.files: file `y`, which task `b_1` reads, is missing");
        assert_eq!(wrong(&new_file(&both, FILES, "")), "workflow.execution.tasks: nothing says how long task `a_01` takes");
        let negative = RUNS.replace("0.0015", "-3");
        assert_eq!(wrong(&new_file(&both, FILES, &negative)), "workflow.execution.tasks[0].runtimeInSeconds: task `b_1`: -3 s is negative");
        let huge = RUNS.replace("0.0015", "1e300");
        assert!(wrong(&new_file(&both, FILES, &huge)).ends_with("s is more than three years"));
        assert_eq!(
            wrong(&new_file(&format!("{both},{A}"), FILES, RUNS)),
            "workflow.specification.tasks[2].id: task `a_01` is there already, as tasks[0]"
        );
        let files = FILES.replace('7', "-7");
        assert_eq!(
            wrong(&new_file(&both, &files, RUNS)),
            "workflow.specification.files[0].sizeInBytes: -7 is no number of bytes between 0 and 1e15"
        );
    }
}
