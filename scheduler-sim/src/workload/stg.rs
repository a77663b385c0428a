//! The Standard Task Graph Set: Takao Tobita and Hironori Kasahara, "A standard task graph set for fair evaluation of multiprocessor scheduling
//! algorithms", 2002. A number of tasks, then a line for each: its number, its time, how many it depends on, and those. `#` begins a comment.

use std::collections::BTreeMap;

use super::read::{ReadOptions, Wrong};
use super::{Workload, WorkloadBuilder};

/// Times are taken as milliseconds.
const UNIT_S: f64 = 1e-3;

pub(super) fn read(name: &str, text: &str, options: ReadOptions) -> Result<Workload, Wrong> {
    let mut rows = text.lines().enumerate().map(|(index, line)| (index + 1, line)).filter(|(_, line)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    let Some((line, first)) = rows.next() else { return Err(Wrong::whole("there is no line with the number of tasks")) };
    let announced: u64 = number(line, first.split_whitespace().next(), "the number of tasks")?;
    let mut builder = WorkloadBuilder::new(name);
    let mut numbers: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    // The line, and what its task depends on.
    let mut needs: Vec<(usize, Vec<u64>)> = Vec::new();
    for (line, row) in rows {
        let mut words = row.split_whitespace();
        let id: u64 = number(line, words.next(), "a task's number")?;
        let time: f64 = number(line, words.next(), "its time")?;
        let count: usize = number(line, words.next(), "how many tasks it depends on")?;
        let work_ns =
            options.nanoseconds(time * UNIT_S).map_err(|reason| Wrong::at(place(line), format_args!("task {id}'s time: {reason}")))?;
        let sources: Vec<u64> = words.map(|word| number(line, Some(word), "a task that it depends on")).collect::<Result<_, _>>()?;
        if sources.len() != count {
            return Err(Wrong::at(
                place(line),
                format_args!("task {id} is said to depend on {count} tasks, and {} are named", sources.len()),
            ));
        }
        let task = builder.task(&id.to_string(), "task", work_ns);
        if let Some((_, before)) = numbers.insert(id, (task, line)) {
            return Err(Wrong::at(place(line), format_args!("task {id} is there already, in line {before}")));
        }
        needs.push((line, sources));
    }
    // The dummies at both ends are counted in some files and not in others.
    if (builder.len() as u64) < announced {
        return Err(Wrong::whole(format_args!(
            "{announced} tasks are announced, and {} are there: the file ends too early",
            builder.len()
        )));
    }
    for (task, (line, sources)) in needs.into_iter().enumerate() {
        for source in sources {
            let Some((from, _)) = numbers.get(&source) else {
                return Err(Wrong::at(place(line), format_args!("it depends on task {source}, which is not there")));
            };
            builder.edge(*from, task, 0);
        }
    }
    Ok(builder.build()?)
}

fn place(line: usize) -> String {
    format!("line {line}")
}

fn number<T: std::str::FromStr>(line: usize, word: Option<&str>, what: &str) -> Result<T, Wrong> {
    let Some(word) = word else { return Err(Wrong::at(place(line), format_args!("{what} is missing"))) };
    word.parse().map_err(|_| Wrong::at(place(line), format_args!("{what} is no number: `{word}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        read("g", text, ReadOptions::default()).unwrap_err().shown()
    }

    #[test]
    fn rows_are_tasks_in_milliseconds() {
        let workload = read("g", "2\n0 0 0\n 1 9 1 0\n3 4 2 1 0\n# 7\n", ReadOptions::default()).unwrap();
        assert_eq!((workload.len(), workload.edge_count(), workload.work_ns(1), workload.task_name(2)), (3, 3, 9_000_000, "3"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        assert_eq!(wrong("x"), "line 1: the number of tasks is no number: `x`");
        assert_eq!(wrong("1\n0 -4 0"), "line 2: task 0's time: -0.004 s is negative");
        assert_eq!(wrong("1\n0 NaN 0"), "line 2: task 0's time: NaN is no time");
        assert_eq!(wrong("1\n0 4"), "line 2: how many tasks it depends on is missing");
        assert_eq!(wrong("1\n0 4 1 2 3"), "line 2: task 0 is said to depend on 1 tasks, and 2 are named");
        assert_eq!(wrong("1\n0 4 1 2"), "line 2: it depends on task 2, which is not there");
        assert_eq!(wrong("1\n0 4 0\n0 5 0"), "line 3: task 0 is there already, in line 2");
        assert_eq!(wrong("3\n0 4 0"), ": 3 tasks are announced, and 1 are there: the file ends too early");
        assert!(wrong("2\n0 4 1 1\n1 4 1 0").contains("circle"));
        assert_eq!(wrong(""), ": there is no line with the number of tasks");
    }
}
