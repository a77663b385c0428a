//! What an input is: a value written in the file, a task, or a file.

use super::document::{Content, Node};
use super::error::{Fault, quoted};
use super::model::Fields;
use crate::kernels::{Matrix, Value};

/// Where an input's value comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    /// It is written in the file.
    Literal(Value),
    /// It is the result of the task of that name.
    Task(String),
    /// It is in a file, by its path as written.
    File(String),
}

/// The source that `node` states.
///
/// A text that begins with `@` names a task, and `@@` stands for one `@`. Short, because references are most of what a graph file
/// says, and told from a text at a glance; a table `{ task = "a" }` would be neither.
pub(super) fn source(node: Node) -> Result<Source, Fault> {
    let line = node.line;
    match node.content {
        Content::Text(text) => match text.strip_prefix('@') {
            Some("") => Err(Fault::at(line, "`@` is not followed by a task's name; a text that begins with `@` is written with `@@`")),
            Some(rest) if rest.starts_with('@') => Ok(Source::Literal(Value::Text(rest.to_owned()))),
            Some(name) => Ok(Source::Task(name.to_owned())),
            None => Ok(Source::Literal(Value::Text(text))),
        },
        Content::Table(ref entries) => {
            if let [only] = entries.as_slice()
                && only.name == "task"
                && let Content::Text(name) = &only.value.content
            {
                return Err(Fault::at(
                    only.line,
                    format!("a task's result is written {}, not as a table", quoted(&format!("\"@{name}\""))),
                ));
            }
            let mut fields = Fields::of(node, "an input given as a table", &["file"])?;
            let file = fields.take("file").ok_or_else(|| Fault::at(line, "an input given as a table names a `file`"))?;
            match file.content {
                Content::Text(path) if !path.is_empty() => Ok(Source::File(path)),
                Content::Text(_) => Err(Fault::at(file.line, "the path of `file` is empty")),
                _ => Err(Fault::at(file.line, format!("`file` is a path, not {}", file.kind()))),
            }
        }
        _ => value(node).map(Source::Literal),
    }
}

/// The value that `node` is, texts taken as they are.
pub(super) fn value(node: Node) -> Result<Value, Fault> {
    let line = node.line;
    match node.content {
        Content::Number(number) => Ok(Value::Number(number)),
        Content::Text(text) => Ok(Value::Text(text)),
        Content::List(items) => match items.first().map(|item| &item.content) {
            Some(Content::List(_)) => matrix(items),
            _ => Ok(Value::Vector(items.into_iter().map(number).collect::<Result<_, _>>()?)),
        },
        Content::Boolean => Err(Fault::at(line, "true and false are no values here; use 1 and 0")),
        Content::Null => Err(Fault::at(line, "null is no value here")),
        Content::Table(_) => Err(Fault::at(line, "a table is no value here")),
    }
}

fn number(node: Node) -> Result<f64, Fault> {
    match node.content {
        Content::Number(number) => Ok(number),
        Content::Text(text) if text.starts_with('@') => Err(Fault::at(
            node.line,
            format!("{} stands in a list, which holds numbers only; `collect` makes a vector of tasks", quoted(&text)),
        )),
        _ => Err(Fault::at(node.line, format!("a list holds numbers, or lists of numbers; found {}", node.kind()))),
    }
}

fn matrix(rows: Vec<Node>) -> Result<Value, Fault> {
    let mut columns = None;
    let row_count = rows.len();
    let mut numbers = Vec::new();
    for row in rows {
        let Content::List(items) = row.content else {
            return Err(Fault::at(row.line, format!("every row of a matrix is a list; found {}", row.kind())));
        };
        let expected = *columns.get_or_insert(items.len());
        if items.len() != expected {
            return Err(Fault::at(
                row.line,
                format!("the rows of a matrix are equally long: this one has {}, the first {expected}", items.len()),
            ));
        }
        for item in items {
            numbers.push(number(item)?);
        }
    }
    let shape = (row_count, columns.unwrap_or(0));
    // The count of numbers is rows x columns by the loop above.
    Matrix::from_shape_vec(shape, numbers).map(Value::Matrix).map_err(|error| Fault::whole(format!("the matrix has no shape: {error}")))
}
