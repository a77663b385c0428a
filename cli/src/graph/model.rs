//! A graph as its file states it: every name as written, every place kept, nothing looked up yet.

use std::collections::BTreeMap;

use poniard::{Priority, Scope};

use super::document::{Content, Entry, Node};
use super::error::{Fault, quoted, suggestion};
use super::literal::{Source, source};

/// The longest name of a task, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// Something written on a line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Located<T> {
    /// Counted from 1.
    pub(super) line: usize,
    /// What is written there.
    pub(super) value: T,
}

/// A graph.
#[derive(Debug)]
pub(super) struct Graph {
    /// The tasks in the order of the file.
    pub(super) tasks: Vec<TaskEntry>,
}

/// A task.
#[derive(Debug)]
pub(super) struct TaskEntry {
    /// Its name, unique.
    pub(super) name: String,
    /// Where it begins.
    pub(super) line: usize,
    /// The kernel's name.
    pub(super) kernel: Located<String>,
    /// The inputs in order.
    pub(super) inputs: Vec<Located<Source>>,
    /// Names of tasks that come before this one without giving it a value.
    pub(super) after: Vec<Located<String>>,
    /// Where it may run.
    pub(super) scope: Located<Scope>,
    /// How urgent it is.
    pub(super) priority: Priority,
    /// The file that its result goes to, relative to the graph file.
    pub(super) output: Option<Located<String>>,
}

/// The graph that `root` states.
pub(super) fn read(root: Node) -> Result<Graph, Fault> {
    let mut fields = Fields::of(root, "a graph", &["name", "description", "tasks"])?;
    for name in ["name", "description"] {
        fields.optional(name, text)?;
    }
    let Some(tasks) = fields.take("tasks") else {
        return Err(Fault::at(fields.line, "the graph has no `tasks`"));
    };
    let Content::Table(entries) = tasks.content else {
        return Err(Fault::at(tasks.line, format!("`tasks` is a table of tasks by name, not {}", tasks.kind())));
    };
    if entries.is_empty() {
        return Err(Fault::at(tasks.line, "the graph has no tasks"));
    }
    Ok(Graph { tasks: entries.into_iter().map(task).collect::<Result<_, _>>()? })
}

fn task(entry: Entry) -> Result<TaskEntry, Fault> {
    let Entry { name, line, value } = entry;
    check_name(&name, line)?;
    let place = format!("task {}", quoted(&name));
    if !matches!(value.content, Content::Table(_)) {
        return Err(Fault::at(line, format!("{place} is a table with a `kernel`, not {}", value.kind())));
    }
    let mut fields = Fields::of(value, &place, &["kernel", "inputs", "after", "scope", "priority", "output", "description"])?;
    fields.optional("description", text)?;
    let kernel = fields.optional("kernel", text)?.ok_or_else(|| Fault::at(line, format!("{place} has no `kernel`")))?;
    let inputs = fields.optional("inputs", |node| list("inputs", node))?.unwrap_or_default();
    let after = fields.optional("after", |node| list("after", node))?.unwrap_or_default();
    Ok(TaskEntry {
        kernel,
        inputs: inputs.into_iter().map(|node| Ok(Located { line: node.line, value: source(node)? })).collect::<Result<_, _>>()?,
        after: after.into_iter().map(predecessor).collect::<Result<_, _>>()?,
        scope: fields.optional("scope", scope)?.unwrap_or(Located { line, value: Scope::any() }),
        priority: fields.optional("priority", priority)?.unwrap_or_default(),
        output: fields.optional("output", text)?,
        name,
        line,
    })
}

fn check_name(name: &str, line: usize) -> Result<(), Fault> {
    let allowed = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.');
    if name.is_empty() {
        Err(Fault::at(line, "a task's name is empty"))
    } else if name.len() > MAX_NAME_BYTES {
        Err(Fault::at(line, format!("the task's name {} has {} bytes, the limit is {MAX_NAME_BYTES}", quoted(name), name.len())))
    } else if !name.chars().all(allowed) {
        Err(Fault::at(line, format!("the task's name {} is not made of letters, digits, `_`, `-` and `.`", quoted(name))))
    } else {
        Ok(())
    }
}

fn text(node: Node) -> Result<Located<String>, Fault> {
    match node.content {
        Content::Text(value) => Ok(Located { line: node.line, value }),
        _ => Err(Fault::at(node.line, format!("expected a text, found {}", node.kind()))),
    }
}

fn list(field: &str, node: Node) -> Result<Vec<Node>, Fault> {
    match node.content {
        Content::List(items) => Ok(items),
        _ => Err(Fault::at(node.line, format!("`{field}` is a list, even of one: found {}", node.kind()))),
    }
}

fn predecessor(node: Node) -> Result<Located<String>, Fault> {
    let name = text(node)?;
    if name.value.starts_with('@') {
        return Err(Fault::at(name.line, format!("`after` takes plain names, without `@`: {}", quoted(&name.value))));
    }
    Ok(name)
}

fn priority(node: Node) -> Result<Priority, Fault> {
    let Located { line, value } = text(node)?;
    match value.as_str() {
        "low" => Ok(Priority::Low),
        "normal" => Ok(Priority::Normal),
        "high" => Ok(Priority::High),
        other => {
            let near = suggestion(other, ["low", "normal", "high"]);
            Err(Fault::at(line, format!("`priority` is `low`, `normal` or `high`, not {}{near}", quoted(other))))
        }
    }
}

fn scope(node: Node) -> Result<Located<Scope>, Fault> {
    let line = node.line;
    let Content::Text(text) = node.content else {
        return Err(Fault::at(line, format!("`scope` is a text such as \"kind:cpu\", not {}", node.kind())));
    };
    match text.parse() {
        Ok(value) => Ok(Located { line, value }),
        Err(error) => {
            Err(Fault::at(line, format!("`scope` {} is wrong at character {}: {}", quoted(&text), error.character, error.reason)))
        }
    }
}

/// The fields of a table, all of known names.
pub(super) struct Fields {
    values: BTreeMap<String, Node>,
    /// Where the table begins.
    pub(super) line: usize,
}

impl Fields {
    /// The fields of `node`, which messages call `place`.
    pub(super) fn of(node: Node, place: &str, known: &[&str]) -> Result<Self, Fault> {
        let line = node.line;
        let Content::Table(entries) = node.content else {
            return Err(Fault::at(line, format!("{place} is a table, not {}", node.kind())));
        };
        let mut values = BTreeMap::new();
        for entry in entries {
            if !known.contains(&entry.name.as_str()) {
                let near = suggestion(&entry.name, known.iter().copied());
                let near = if near.is_empty() { format!("; it has {}", known.join(", ")) } else { near };
                return Err(Fault::at(entry.line, format!("{place} has no field {}{near}", quoted(&entry.name))));
            }
            values.insert(entry.name, entry.value);
        }
        Ok(Self { values, line })
    }

    /// The field's value, once.
    pub(super) fn take(&mut self, name: &str) -> Option<Node> {
        self.values.remove(name)
    }

    /// The field's value as `read` understands it; a fault names the field.
    pub(super) fn optional<T>(&mut self, name: &str, read: impl FnOnce(Node) -> Result<T, Fault>) -> Result<Option<T>, Fault> {
        let Some(node) = self.take(name) else { return Ok(None) };
        let value = read(node).map_err(|mut fault| {
            if !fault.text.contains(&format!("`{name}`")) {
                fault.text = format!("in `{name}`: {}", fault.text);
            }
            fault
        })?;
        Ok(Some(value))
    }
}
