//! TOML 1.1 read into a tree with lines.

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};

use super::document::{Content, Entry, MAX_DEPTH, Node, number, too_deep};
use super::error::{Fault, quoted};

/// Stack for the parser's tree, 10 KiB for each level that there can be.
///
/// The parser refuses a list, an inline table or a dotted name of more than 80 levels, but these multiply: a header of 80 names, then 80 inline
/// tables with names of 80 parts each, make 6 500 levels, and dropping the tree recurses over all of them. Without a thread of our own
/// that overflows the stack of a caller who has the usual 2 MiB.
const STACK_BYTES: usize = 64 << 20;

/// The table that is `text`.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("toml".to_owned()).stack_size(STACK_BYTES).spawn_scoped(scope, || parse_here(text));
        match reader.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => Err(Fault::whole(format!("cannot be read: no thread to read it with: {error}"))),
        }
    })
}

fn parse_here(text: &str) -> Result<Node, Fault> {
    let lines = Lines::of(text);
    let table = DeTable::parse(text).map_err(|error| fault(&error, text, &lines))?;
    let content = convert_table(table.into_inner(), &lines, 1)?;
    Ok(Node { line: 1, content })
}

fn fault(error: &::toml::de::Error, text: &str, lines: &Lines) -> Fault {
    let recursion = error.message().contains("recursion");
    let Some(span) = error.span() else {
        // The parser gives no place for a dotted name that is too long.
        return match text.lines().position(is_deep_name) {
            Some(index) if recursion => too_deep(index + 1),
            _ => Fault::whole(error.message().replace('\n', " ")),
        };
    };
    let line = lines.line_of(span.start);
    if recursion {
        return too_deep(line);
    }
    let found = text.get(span).unwrap_or_default().trim();
    let name = if found.is_empty() || found.contains('\n') { String::new() } else { format!(": {}", quoted(found)) };
    let message = error.message().replace('\n', " ");
    let message = if message == "duplicate key" { "the name is defined twice".to_owned() } else { message };
    Fault::at(line, format!("{message}{name}"))
}

/// Whether `line` begins with a dotted name of more parts than may be nested. Quotes are left to the parser: a dot within them is none.
fn is_deep_name(line: &str) -> bool {
    let name = line.split('=').next().unwrap_or_default();
    !name.contains(['"', '\'', '#']) && name.bytes().filter(|byte| *byte == b'.').count() >= MAX_DEPTH
}

/// Where lines begin.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        Self { starts: text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(index, _)| index + 1).collect() }
    }

    /// The line, counted from 1, of the byte at `offset`.
    fn line_of(&self, offset: usize) -> usize {
        1 + self.starts.partition_point(|start| *start <= offset)
    }
}

fn convert_table(table: DeTable<'_>, lines: &Lines, depth: usize) -> Result<Content, Fault> {
    let mut entries = Vec::with_capacity(table.len());
    for (name, value) in table {
        let start = name.span().start;
        let line = lines.line_of(start);
        let mut value = convert(value, lines, depth)?;
        // The span of a `[table]` may begin at the first of several headers, or be empty: the name's line says more.
        if matches!(value.content, Content::Table(_)) {
            value.line = line;
        }
        entries.push((start, Entry { name: name.into_inner().into_owned(), line, value }));
    }
    // The parser's table is ordered by name; a graph's tasks are in the order of the file.
    entries.sort_by_key(|(start, _)| *start);
    Ok(Content::Table(entries.into_iter().map(|(_, entry)| entry).collect()))
}

fn convert(value: Spanned<DeValue<'_>>, lines: &Lines, depth: usize) -> Result<Node, Fault> {
    let line = lines.line_of(value.span().start);
    // Dotted names nest as well, and the parser bounds each of them but not their sum.
    let too_deep = || if depth >= MAX_DEPTH { Err(too_deep(line)) } else { Ok(()) };
    let content = match value.into_inner() {
        DeValue::String(text) => Content::Text(text.into_owned()),
        DeValue::Integer(integer) if integer.radix() == 10 => Content::Number(number(integer.as_str(), line)?),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(value) => Content::Number(number(&value.to_string(), line)?),
            Err(_) => return Err(Fault::at(line, format!("the integer {} is too large", quoted(integer.as_str())))),
        },
        DeValue::Float(float) if float.as_str().contains(['i', 'n']) => {
            return Err(Fault::at(line, format!("{} is not a number that a graph file may hold", quoted(float.as_str()))));
        }
        DeValue::Float(float) => Content::Number(number(float.as_str(), line)?),
        DeValue::Boolean(_) => Content::Boolean,
        DeValue::Datetime(_) => return Err(Fault::at(line, "a date or time means nothing in a graph file; write a text in quotes")),
        DeValue::Array(items) => {
            too_deep()?;
            Content::List(items.into_iter().map(|item| convert(item, lines, depth + 1)).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => {
            too_deep()?;
            convert_table(table, lines, depth + 1)?
        }
    };
    Ok(Node { line, content })
}
