//! When graphs arrive.

use std::fmt;
use std::str::FromStr;

use poniard::policy::Random;

use crate::uncertainty::exponential;

/// When graphs arrive.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// So many a second in the mean, each independently of the others: the times between them are exponential.
    Poisson {
        /// Graphs a second.
        rate_per_s: f64,
    },
    /// The first at once, and each so long after the one before, in seconds.
    Periodic {
        /// Seconds.
        every_s: f64,
    },
    /// As is written down.
    Trace(Vec<TraceRow>),
}

/// A line of a trace of arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceRow {
    /// When, in nanoseconds from the beginning.
    pub arrival_ns: u64,
    /// Which of the workloads the graph is, by number, if that is said.
    pub workload: Option<usize>,
    /// Its priority, if that is said.
    pub priority: Option<i32>,
    /// After how long it is cancelled, in nanoseconds, if that is said.
    pub patience_ns: Option<u64>,
}

/// A text says no arrivals.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArrivalsError {
    /// There is no such process, or its number is none.
    Process {
        /// What was asked for.
        text: String,
    },
    /// A trace has no column `arrival`, or one that nobody knows, or none at all.
    Header {
        /// What is wrong.
        reason: String,
    },
    /// A field of a trace is wrong.
    Field {
        /// The line, counted from 1.
        line: usize,
        /// The column's name.
        column: &'static str,
        /// What is there.
        found: String,
        /// What is asked for.
        wanted: &'static str,
    },
    /// A line of a trace has more or fewer fields than the first.
    Fields {
        /// The line, counted from 1.
        line: usize,
        /// How many there are.
        found: usize,
        /// How many there have to be.
        wanted: usize,
    },
}

impl fmt::Display for ArrivalsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { text } => write!(
                f,
                "`{text}` is none of poisson:rate=R (graphs a second), periodic:every=S (seconds) and trace:FILE, with a number from 1e-9 to 1e9"
            ),
            Self::Header { reason } => write!(f, "line 1: {reason}; the columns are {}", COLUMNS.join(", ")),
            Self::Field { line, column, found, wanted } => write!(f, "line {line}, `{column}`: `{found}` is no {wanted}"),
            Self::Fields { line, found, wanted } => write!(f, "line {line}: it has {found} fields, and line 1 has {wanted}"),
        }
    }
}

impl std::error::Error for ArrivalsError {}

/// What the columns of a trace are called. Only the first has to be there.
const COLUMNS: [&str; 4] = ["arrival", "workload", "priority", "patience"];
/// The longest time in a trace, in seconds: some thirty years.
const LONGEST_S: f64 = 1e9;

impl FromStr for Arrivals {
    type Err = ArrivalsError;

    /// A process; traces are read by [`Arrivals::from_trace`].
    fn from_str(text: &str) -> Result<Self, ArrivalsError> {
        let number = |rest: &str, key: &str| {
            let number: f64 = rest.strip_prefix(key)?.strip_prefix('=')?.parse().ok()?;
            (1e-9..=1e9).contains(&number).then_some(number)
        };
        let read = match text.split_once(':') {
            Some(("poisson", rest)) => number(rest, "rate").map(|rate_per_s| Self::Poisson { rate_per_s }),
            Some(("periodic", rest)) => number(rest, "every").map(|every_s| Self::Periodic { every_s }),
            _ => None,
        };
        read.ok_or_else(|| ArrivalsError::Process { text: text.to_owned() })
    }
}

impl Arrivals {
    /// Reads a trace: a table with commas whose first line has the names of the columns. `arrival` and `patience` are seconds, `workload` the number of one of so many workloads,
    /// `priority` a whole number. An empty field says nothing.
    ///
    /// # Errors
    /// A column or a field is none.
    pub fn from_trace(text: &str, workload_count: usize) -> Result<Self, ArrivalsError> {
        let mut lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
        let Some((header, _)) = lines.next() else { return Err(ArrivalsError::Header { reason: "there is none".into() }) };
        let columns: Vec<&str> = header.split(',').map(str::trim).collect();
        if let Some(unknown) = columns.iter().find(|column| !COLUMNS.contains(column)) {
            return Err(ArrivalsError::Header { reason: format!("there is no column `{unknown}`") });
        }
        if let Some(twice) = columns.iter().enumerate().find(|(at, column)| columns[..*at].contains(column)) {
            return Err(ArrivalsError::Header { reason: format!("column `{}` is there twice", twice.1) });
        }
        if !columns.contains(&COLUMNS[0]) {
            return Err(ArrivalsError::Header { reason: format!("there has to be a column `{}`", COLUMNS[0]) });
        }
        let mut rows = Vec::new();
        for (text, line) in lines {
            let fields: Vec<&str> = text.split(',').map(str::trim).collect();
            if fields.len() != columns.len() {
                return Err(ArrivalsError::Fields { line, found: fields.len(), wanted: columns.len() });
            }
            let field = |column: &'static str| {
                columns.iter().position(|known| *known == column).map(|at| fields[at]).filter(|field| !field.is_empty())
            };
            let wrong = |column: &'static str, found: &str, wanted: &'static str| ArrivalsError::Field {
                line,
                column,
                found: found.to_owned(),
                wanted,
            };
            let seconds = |column: &'static str, found: &str| match found.parse::<f64>() {
                Ok(seconds) if (0.0..=LONGEST_S).contains(&seconds) => Ok((seconds * 1e9).round() as u64),
                _ => Err(wrong(column, found, "time from 0 to 1e9 seconds")),
            };
            let workload = |found: &str| {
                let number = found.parse().ok().filter(|number| *number < workload_count);
                number.ok_or_else(|| wrong("workload", found, "number of a workload: 0 is the first, and others count on"))
            };
            let priority = |found: &str| found.parse().map_err(|_| wrong("priority", found, "whole number of 32 bits"));
            rows.push(TraceRow {
                arrival_ns: seconds("arrival", field("arrival").unwrap_or_default())?,
                workload: field("workload").map(workload).transpose()?,
                priority: field("priority").map(priority).transpose()?,
                patience_ns: field("patience").map(|found| seconds("patience", found)).transpose()?,
            });
        }
        Ok(Self::Trace(rows))
    }

    /// The times of so many arrivals, in nanoseconds; those of a trace are as many as it has.
    pub(super) fn times_ns(&self, count: usize, random: &mut Random) -> Vec<u64> {
        let ns = |seconds: f64| (seconds * 1e9).round() as u64;
        match self {
            Self::Poisson { rate_per_s } => {
                let mut at_s = 0.0;
                let times = (0..count).map(|_| {
                    at_s += exponential(random) / rate_per_s;
                    ns(at_s)
                });
                times.collect()
            }
            Self::Periodic { every_s } => (0..count).map(|number| ns(number as f64 * every_s)).collect(),
            Self::Trace(rows) => rows.iter().map(|row| row.arrival_ns).collect(),
        }
    }

    /// What a trace says of a graph.
    pub(super) fn row(&self, number: usize) -> Option<&TraceRow> {
        if let Self::Trace(rows) = self { rows.get(number) } else { None }
    }
}
