//! Reads a workload from a file, whatever its format.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use super::{Workload, WorkloadError, dax, dot, graph_file, recording, stg, wfformat};

/// The largest file that is read, and the most that a compressed one may come to: 4 GiB.
const MOST_BYTES: u64 = 4 << 30;

/// How a file says what a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// WfFormat 1.4, 1.5 or 1.6: JSON.
    WfFormat,
    /// The text of the Standard Task Graph Set.
    Stg,
    /// Pegasus DAX: XML.
    Dax,
    /// The language of Graphviz.
    Dot,
    /// Poniard's own graph files in TOML.
    GraphToml,
    /// The same in JSON.
    GraphJson,
    /// A recorded run of Poniard's: JSON.
    Recording,
}

/// How numbers in a file are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whether recorded run times are rounded to whole milliseconds, halves to the even one.
    pub round_to_ms: bool,
    /// Whether tasks take as many processors as the file says that they had cores (WfFormat).
    pub cores: bool,
}

/// A task takes at most so many processors.
pub(super) const MOST_PROCESSORS: u32 = 255;

impl ReadOptions {
    /// Nanoseconds of a time in seconds; in words what is wrong with it.
    pub(super) fn nanoseconds(self, seconds: f64) -> Result<u64, String> {
        if !seconds.is_finite() {
            return Err(format!("{seconds} is no time"));
        }
        if seconds < 0.0 {
            return Err(format!("{seconds} s is negative"));
        }
        let ns = if self.round_to_ms { (seconds * 1e3).round_ties_even() * 1e6 } else { (seconds * 1e9).round() };
        // Sums over many tasks and processors are to fit, too.
        if ns > 1e17 {
            // Written out it may have three hundred digits.
            return Err(format!("{seconds:e} s is more than three years"));
        }
        Ok(ns as u64)
    }

    /// Processors for so many cores, a whole number or not; in words what is wrong with it.
    pub(super) fn processors(self, cores: Option<f64>) -> Result<u32, String> {
        match cores.filter(|_| self.cores) {
            None => Ok(1),
            Some(cores) if (0.0..=f64::from(MOST_PROCESSORS)).contains(&cores) => Ok((cores.ceil() as u32).max(1)),
            Some(cores) => Err(format!("{cores} is no number of cores from 1 to {MOST_PROCESSORS}")),
        }
    }
}

/// Why a file is no workload.
#[derive(Debug)]
pub struct ReadError {
    /// The file, or what stands for it.
    pub file: String,
    /// Where in it: a line and a column, a path of fields, an element; nothing where the whole file is meant.
    pub place: Option<String>,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for ReadError {}

/// Files with their bytes.
pub(super) type Files<'a> = BTreeMap<&'a str, u64>;

/// The bytes of the files that one task writes and another one reads.
pub(super) fn shared_bytes(reads: &Files<'_>, writes: &Files<'_>) -> u64 {
    reads.keys().filter_map(|file| writes.get(file)).fold(0, |sum, bytes| sum.saturating_add(*bytes))
}

/// What is wrong in a text, and where.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) place: Option<String>,
    pub(super) reason: String,
}

impl Wrong {
    pub(super) fn at(place: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self { place: Some(place.to_string()), reason: reason.to_string() }
    }

    /// What a reader of JSON says, with the place at the front.
    pub(super) fn of_json(error: &serde_json::Error) -> Self {
        if error.line() == 0 {
            return Self::whole(error);
        }
        let reason = error.to_string();
        let reason = reason.split(" at line ").next().unwrap_or(&reason);
        Self::at(format_args!("line {}, column {}", error.line(), error.column()), reason)
    }

    /// Place and reason.
    #[cfg(test)]
    pub(super) fn shown(&self) -> String {
        format!("{}: {}", self.place.as_deref().unwrap_or_default(), self.reason)
    }

    pub(super) fn whole(reason: impl fmt::Display) -> Self {
        Self { place: None, reason: reason.to_string() }
    }
}

impl From<WorkloadError> for Wrong {
    fn from(error: WorkloadError) -> Self {
        Self::whole(error)
    }
}

/// The text of a file. A name that ends in `.gz` is a compressed file.
///
/// # Errors
/// The file cannot be read, is too large, or is no text.
pub fn text_of(path: &Path) -> Result<String, ReadError> {
    let shown = path.display().to_string();
    let fail = |reason: String| ReadError { file: shown.clone(), place: None, reason };
    let is_gzip = is_gzip(path);
    let file = std::fs::File::open(path).map_err(|error| fail(error.to_string()))?;
    let mut text = Vec::new();
    let result = if is_gzip {
        flate2::read::MultiGzDecoder::new(std::io::BufReader::new(file)).take(MOST_BYTES + 1).read_to_end(&mut text)
    } else {
        file.take(MOST_BYTES + 1).read_to_end(&mut text)
    };
    result.map_err(|error| match is_gzip {
        true => fail(format!("it could not be decompressed after {} bytes: {error}", text.len())),
        false => fail(error.to_string()),
    })?;
    if text.len() as u64 > MOST_BYTES {
        return Err(fail("it is larger than 4 GiB".into()));
    }
    String::from_utf8(text).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        ReadError { file: shown.clone(), place: Some(format!("byte {at}")), reason: "it is no text (UTF-8)".into() }
    })
}

/// Reads a workload. A name that ends in `.gz` is a compressed file.
///
/// # Errors
/// The file cannot be read, is of no known format, or does not describe a graph of tasks.
pub fn read(path: &Path, options: ReadOptions) -> Result<Workload, ReadError> {
    let text = text_of(path)?;
    let shown = path.display().to_string();
    let fail = |reason: String| ReadError { file: shown.clone(), place: None, reason };
    let is_gzip = is_gzip(path);
    let name = if is_gzip { path.file_stem().map(Path::new).unwrap_or(path) } else { path };
    let stem = name.file_stem().map_or_else(|| shown.clone(), |stem| stem.to_string_lossy().into_owned());
    let format = match name.extension().and_then(|extension| extension.to_str()) {
        Some("json") => json_format(&text),
        Some("dot" | "gv") => Format::Dot,
        Some("toml") => Format::GraphToml,
        Some("stg") => Format::Stg,
        Some("xml" | "dax") => Format::Dax,
        _ => guess(&text).ok_or_else(|| {
            fail("its format is not known; known are .json (WfFormat, a graph file or a recorded run), .toml (a graph file), .stg, .xml and .dax (Pegasus), and .dot, each also with .gz".into())
        })?,
    };
    read_text(&stem, &text, format, options).map_err(|error| ReadError { file: shown, ..error })
}

fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

/// By the first character that is no blank.
fn guess(text: &str) -> Option<Format> {
    match text.trim_start().chars().next()? {
        '{' => Some(json_format(text)),
        'd' | 's' if ["digraph", "strict"].iter().any(|word| text.trim_start().starts_with(word)) => Some(Format::Dot),
        '<' => Some(Format::Dax),
        '0'..='9' | '#' => Some(Format::Stg),
        _ => None,
    }
}

/// A recording says so first, WfFormat has a `workflow`, and the tasks of a graph file have kernels.
fn json_format(text: &str) -> Format {
    if text.trim_start().strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with(recording::FIRST_FIELD)) {
        return Format::Recording;
    }
    if !text.contains("\"workflow\"") && text.contains("\"kernel\"") { Format::GraphJson } else { Format::WfFormat }
}

/// The same for a text that is at hand, under the name `name`.
///
/// # Errors
/// As [`read`].
pub fn read_text(name: &str, text: &str, format: Format, options: ReadOptions) -> Result<Workload, ReadError> {
    let read = match format {
        Format::WfFormat => wfformat::read(name, text, options),
        Format::Stg => stg::read(name, text, options),
        Format::Dax => dax::read(name, text, options),
        Format::Dot => dot::read(name, text, options),
        Format::GraphToml => graph_file::read_toml(name, text, options),
        Format::GraphJson => graph_file::read_json(name, text, options),
        Format::Recording => recording::read(name, text, options),
    };
    read.map_err(|wrong| ReadError { file: name.to_owned(), place: wrong.place, reason: wrong.reason })
}
