//! A file's text as a tree in which every value knows its line, the same for TOML and JSON.
//!
//! serde's data model has no places in it: a value that is well-formed but makes no sense (an unknown task, a cycle) could not be
//! pointed at. So both formats are read into this tree first, and everything after works on the tree.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::{Fault, quoted};
use super::{json, toml};

/// The longest graph file, in bytes. A graph of 100 000 tasks takes 10 MiB; large data belongs in files of its own. The TOML parser needs up
/// to 100 times the file's size in memory.
pub(super) const MAX_FILE_BYTES: u64 = 16 << 20;

/// The deepest nesting of lists and tables. A graph needs five; recursion over a tree this deep is safe on any stack.
pub(super) const MAX_DEPTH: usize = 64;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// Counted from 1.
    pub(super) line: usize,
    /// The value.
    pub(super) content: Content,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// JSON's `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A finite number.
    Number(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A table, in the order of the file, no name twice.
    Table(Vec<Entry>),
}

/// A named value of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// Its name.
    pub(super) name: String,
    /// The line of the name.
    pub(super) line: usize,
    /// The value.
    pub(super) value: Node,
}

impl Node {
    /// What it is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self.content {
            Content::Null => "null",
            Content::Boolean => "true or false",
            Content::Number(_) => "a number",
            Content::Text(_) => "a text",
            Content::List(_) => "a list",
            Content::Table(_) => "a table",
        }
    }
}

/// Reads the file at `path`, TOML or JSON by its extension.
pub(super) fn read(path: &Path) -> Result<Node, Fault> {
    let parse: fn(&str) -> Result<Node, Fault> = match extension(path).as_deref() {
        Some("toml") => toml::parse,
        Some("json") => json::parse,
        Some(other) => return Err(Fault::whole(format!("a graph file ends in .toml or .json, not .{}", other.escape_debug()))),
        None if path.is_dir() => return Err(Fault::whole("this is a directory, not a file")),
        None => return Err(Fault::whole("a graph file ends in .toml or .json")),
    };
    let text = text(read_bytes(path, MAX_FILE_BYTES)?)?;
    if text.trim().is_empty() {
        return Err(Fault::whole("the file is empty"));
    }
    parse(&text)
}

/// The extension in lower case.
pub(super) fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// The bytes of a regular file of at most `most` bytes.
pub(super) fn read_bytes(path: &Path, most: u64) -> Result<Vec<u8>, Fault> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Fault::whole("there is no such file"),
        _ => Fault::whole(format!("cannot be read: {error}")),
    };
    // Before opening: opening a pipe would wait for its writer, and a device may never end.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(Fault::whole("this is a directory, not a file"));
    }
    if !metadata.is_file() {
        return Err(Fault::whole("this is not a regular file"));
    }
    let too_long = |bytes| Fault::whole(format!("the file has {bytes} bytes or more, the limit is {most}"));
    if metadata.len() > most {
        return Err(too_long(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    // The file may have grown since, so the limit holds here too.
    File::open(path).map_err(unreadable)?.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(too_long(bytes.len() as u64));
    }
    Ok(bytes)
}

/// `bytes` as text without a byte order mark.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, Fault> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        }),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count();
            Err(Fault::at(line, "the file is not UTF-8 text"))
        }
    }
}

/// A number as both formats write it in decimal, by the rules that hold for both: it is finite, and an integer is one that a
/// 64-bit float holds exactly, because a silently rounded one is a wrong one.
pub(super) fn number(text: &str, line: usize) -> Result<f64, Fault> {
    let value: f64 = text.parse().map_err(|_| Fault::at(line, format!("{} is not a number", quoted(text))))?;
    let integer = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-' || byte == b'+');
    if value.is_infinite() {
        Err(Fault::at(line, format!("the number {} is too large: the limit is about 1.8e308", quoted(text))))
    } else if integer && text.parse::<i128>().ok() != Some(value as i128) {
        let advice = "a 64-bit float cannot hold it; write it with a decimal point if rounding is meant";
        Err(Fault::at(line, format!("the integer {} would be rounded: {advice}", quoted(text))))
    } else {
        Ok(value)
    }
}

/// The fault of nesting too deep.
pub(super) fn too_deep(line: usize) -> Fault {
    Fault::at(line, format!("lists and tables are nested more than {MAX_DEPTH} deep"))
}
