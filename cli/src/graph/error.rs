//! Why a graph file did not come to a result.

use std::fmt;
use std::path::{Path, PathBuf};

/// A graph file is wrong, or one of its tasks failed. The text is one paragraph: `file:line: what is wrong`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GraphError {
    file: PathBuf,
    line: Option<usize>,
    text: String,
    input: bool,
}

impl GraphError {
    /// The file is at fault.
    pub(super) fn in_file(file: &Path, fault: Fault) -> Self {
        Self { file: file.to_owned(), line: fault.line, text: fault.text, input: true }
    }

    /// The file is right, but a task failed.
    pub(super) fn in_task(file: &Path, line: usize, text: String) -> Self {
        Self { file: file.to_owned(), line: Some(line), text, input: false }
    }

    /// Whether the file, or one that it names, is at fault; otherwise a task failed while it ran.
    pub(crate) fn is_input(&self) -> bool {
        self.input
    }
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.text)
    }
}

impl std::error::Error for GraphError {}

/// What is wrong with a file and where, before it is known which file it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The line, counted from 1, where one can be named.
    pub(super) line: Option<usize>,
    /// Lower case, no full stop.
    pub(super) text: String,
}

impl Fault {
    /// A fault on a line.
    pub(super) fn at(line: usize, text: impl Into<String>) -> Self {
        Self { line: Some(line), text: text.into() }
    }

    /// A fault of the file as a whole.
    pub(super) fn whole(text: impl Into<String>) -> Self {
        Self { line: None, text: text.into() }
    }
}

/// A text of the file within a message: in backticks, on one line, without control characters, and not long.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String =
        text.chars().take(SHOWN).flat_map(char::escape_debug).collect::<String>().replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// `; did you mean …?` with the name most like `wrong`, or nothing where none is like it.
pub(super) fn suggestion<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let wrong_lower = wrong.to_lowercase();
    // More than a third of the letters wrong is another word. Names whose length alone rules them out are not compared: there
    // may be 100 000 of them.
    let allowed = (wrong.chars().count() / 3).clamp(1, 8);
    names
        .into_iter()
        .filter(|name| name.len().abs_diff(wrong_lower.len()) <= 4 * allowed && name.len() <= 400)
        .map(|name| (strsim::osa_distance(&wrong_lower, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| format!("; did you mean {}?", quoted(name)))
        .unwrap_or_default()
}
