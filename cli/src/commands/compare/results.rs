//! Results that are kept in a file, so that whoever was interrupted goes on where it was: a line for each run, with a digest of all that determines it.
//!
//! Lines are added as runs end, each by one write. A last line without its end was cut off in the middle of that, and is taken away. When all has been run the lines stand in the order of the cells, however many
//! ran at a time. Lines of other comparisons stay where they are.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cells::Cell;
use crate::console;
use crate::failure::Failure;
use crate::output::{OutputError, OutputFile};
use crate::report::counted;

/// What came of one run.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Record {
    pub(super) key: String,
    pub(super) workload: String,
    pub(super) platform: String,
    pub(super) policy: String,
    pub(super) seed: u64,
    pub(super) tasks: u64,
    pub(super) processors: u64,
    pub(super) makespan_ns: u64,
    pub(super) lower_bound_ns: u64,
    /// Of all processors together.
    pub(super) busy_ns: u64,
    pub(super) moved_bytes: u64,
    /// How long all tasks take in the mean, and all transfers.
    pub(super) work_ns: u64,
    pub(super) transfer_ns: u64,
}

impl Record {
    /// How long data travels beside how long tasks take; none if these take no time.
    pub(super) fn ccr(&self) -> Option<f64> {
        (self.work_ns > 0).then(|| self.transfer_ns as f64 / self.work_ns as f64)
    }
}

/// What every line has.
#[derive(Deserialize)]
struct Keyed {
    key: String,
}

/// The file.
#[derive(Debug)]
pub(super) struct Results {
    path: PathBuf,
    file: File,
    /// Of each line the cell that it is of.
    lines: Vec<Option<usize>>,
}

impl Results {
    /// Opens the file, or makes it, and reads what it has of these cells.
    pub(super) fn open(path: &Path, cells: &[Cell]) -> Result<(Self, Vec<Option<Record>>), Failure> {
        let cannot = |reason: &dyn std::fmt::Display| Failure::from(OutputError::new(path, reason));
        if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(cannot(&"results are kept in a regular file, which it is not"));
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(|error| cannot(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(cannot(&"another command is writing to it")),
            // Some file systems have no locks.
            Err(TryLockError::Error(_)) => {}
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| Failure::input(format_args!("{}: {error}", path.display())))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        // Two names of one policy are two cells with the same key, and two lines.
        let mut keys: BTreeMap<&str, VecDeque<usize>> = BTreeMap::new();
        cells.iter().enumerate().for_each(|(index, cell)| keys.entry(cell.key.as_str()).or_default().push_back(index));
        let mut known = vec![None; cells.len()];
        let mut lines = Vec::new();
        for (index, line) in bytes[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
            let damaged = |error: &serde_json::Error| {
                let reason = error.to_string();
                let reason = reason.split(" at line ").next().unwrap_or(&reason);
                let place = format!("{}: line {}, column {}", path.display(), index + 1, error.column());
                Failure::input(format_args!("{place}: it is no result: {reason}; take the line away, or name another file"))
            };
            let Keyed { key } = serde_json::from_slice(line).map_err(|error| damaged(&error))?;
            let cell = keys.get_mut(key.as_str()).and_then(VecDeque::pop_front);
            if let Some(cell) = cell {
                let record: Record = serde_json::from_slice(line).map_err(|error| damaged(&error))?;
                known[cell] = Some(record);
            }
            lines.push(cell);
        }
        if whole < bytes.len() {
            console::remark(format_args!("{}: the last line was cut off; what it was of is run again", path.display()));
            file.set_len(whole as u64).map_err(|error| cannot(&error))?;
        }
        let others = lines.iter().filter(|cell| cell.is_none()).count() as u64;
        if others > 0 {
            let verb = if others == 1 { "belongs" } else { "belong" };
            console::remark(format_args!("{}: {} {verb} to something else and stay as they are", path.display(), counted(others, "line")));
        }
        Ok((Self { path: path.to_owned(), file, lines }, known))
    }

    /// Adds a line.
    pub(super) fn add(&mut self, cell: usize, record: &Record) -> Result<(), Failure> {
        let mut line = match serde_json::to_string(record) {
            Ok(line) => line,
            Err(error) => unreachable!("numbers and texts are JSON: {error}"),
        };
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(|error| OutputError::new(&self.path, error))?;
        self.lines.push(Some(cell));
        Ok(())
    }

    /// All has been run: puts the lines in order.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let own = || self.lines.iter().enumerate().filter_map(|(line, cell)| Some((line, (*cell)?)));
        if own().map(|(_, cell)| cell).is_sorted() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let read = self.file.rewind().and_then(|()| self.file.read_to_end(&mut bytes));
        read.map_err(|error| Failure::input(format_args!("{}: {error}", self.path.display())))?;
        let texts: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(texts.len(), self.lines.len(), "nobody else has written to the file");
        let mut sorted: Vec<(usize, usize)> = own().map(|(line, cell)| (cell, line)).collect();
        sorted.sort_unstable();
        let mut sorted = sorted.into_iter();
        let mut ordered = Vec::with_capacity(bytes.len());
        for (line, cell) in self.lines.iter().enumerate() {
            let from = cell.and_then(|_| sorted.next()).map_or(line, |(_, line)| line);
            ordered.extend_from_slice(texts[from]);
        }
        let mut file = OutputFile::prepare(&self.path)?;
        file.fill(ordered.as_slice())?;
        file.commit()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(count: u64) -> Vec<Cell> {
        (0..count).map(|seed| Cell { policy: 0, instance: 0, machine: 0, seed, key: format!("{seed:032x}") }).collect()
    }

    fn record(cell: &Cell) -> Record {
        Record {
            key: cell.key.clone(),
            workload: "w".into(),
            platform: "p".into(),
            policy: "heft".into(),
            seed: cell.seed,
            tasks: 3,
            processors: 2,
            makespan_ns: 100 + cell.seed,
            lower_bound_ns: 90,
            busy_ns: 80,
            moved_bytes: 7,
            work_ns: 80,
            transfer_ns: 8,
        }
    }

    /// Adds the records of these cells, in this order, to the file.
    fn add(path: &Path, cells: &[Cell], order: &[usize]) -> Vec<Option<Record>> {
        let (mut results, known) = Results::open(path, cells).unwrap();
        order.iter().for_each(|cell| results.add(*cell, &record(&cells[*cell])).unwrap());
        results.finish().unwrap();
        known
    }

    #[test]
    fn lines_are_in_order_whatever_the_order_in_which_they_came() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        let cells = cells(4);
        add(&one, &cells, &[0, 1, 2, 3]);
        add(&other, &cells, &[2, 0]);
        let known = add(&other, &cells, &[3, 1]);
        assert_eq!(known, [Some(record(&cells[0])), None, Some(record(&cells[2])), None]);
        assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&other).unwrap());
    }

    #[test]
    fn a_line_that_was_cut_off_is_taken_away_and_those_of_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results");
        let all = cells(3);
        let foreign = "{\"key\": \"another\", \"anything\": 1}\n";
        std::fs::write(&path, foreign).unwrap();
        add(&path, &all, &[1, 0, 2]);
        let whole = std::fs::read_to_string(&path).unwrap();
        assert!(whole.starts_with(foreign) && whole.lines().count() == 4, "{whole}");
        for cut in [1, 5, whole.lines().last().unwrap().len()] {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let known = add(&path, &all, &[2]);
            assert_eq!(known.iter().filter(|record| record.is_some()).count(), 2, "{cut}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), whole, "{cut}");
        }
    }

    #[test]
    fn what_is_no_result_is_said_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results");
        let all = cells(2);
        let wrong = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let failure = Results::open(&path, &all).map(drop).unwrap_err();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "it stays as it is");
            failure.text
        };
        let good = serde_json::to_string(&record(&all[0])).unwrap();
        assert!(
            wrong(&format!("{good}\nnonsense\n")).contains("results: line 2, column 2: it is no result: expected ident"),
            "{}",
            wrong("x\n")
        );
        let half = format!("{{\"key\": \"{}\"}}\n", all[1].key);
        assert!(wrong(&half).contains("line 1, column 43: it is no result: missing field `workload`"), "{}", wrong(&half));
        let failure = Results::open(folder.path(), &all).map(drop).unwrap_err();
        assert!(failure.text.contains("could not be written: results are kept in a regular file"), "{}", failure.text);
        let (held, _) = Results::open(&folder.path().join("held"), &all).unwrap();
        let failure = Results::open(&folder.path().join("held"), &all).map(drop).unwrap_err();
        assert!(failure.text.contains("another command is writing to it"), "{}", failure.text);
        drop(held);
    }
}
