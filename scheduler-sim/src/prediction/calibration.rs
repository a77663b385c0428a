//! What tasks of each code take, by a recorded run.

use std::collections::BTreeMap;
use std::fmt;

use crate::workload::{Recording, Workload};

/// What tasks of each code took in the mean, and how fast they were spawned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calibration {
    /// Of each code how long its tasks took together, and how many there were.
    codes: BTreeMap<String, (u64, u64)>,
    step_ns: u64,
}

/// A graph has a code of which no task was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCode {
    /// The code.
    pub code: String,
    /// Codes that were recorded whose names end the same; when there are several, none can be told to be meant.
    pub meant: Vec<String>,
    /// The codes that were recorded.
    pub known: Vec<String>,
}

impl fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.meant[..] {
            [] => write!(f, "no task of code `{}` was recorded; there are {}", self.code, self.known.join(", ")),
            meant => write!(f, "`{}` may be any of {}: say which", self.code, meant.join(", ")),
        }
    }
}

impl std::error::Error for UnknownCode {}

/// The last part of the name of a code: functions are recorded with their modules.
fn last_part(code: &str) -> &str {
    code.rsplit("::").next().unwrap_or(code)
}

impl Calibration {
    /// That of a recorded run, whose tasks took this much each.
    #[must_use]
    pub fn of(recording: &Recording, works_ns: &[u64]) -> Self {
        let mut codes: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for (task, work_ns) in recording.tasks.iter().zip(works_ns) {
            let (sum_ns, count) = codes.entry(task.code.clone()).or_default();
            *sum_ns = sum_ns.saturating_add(*work_ns);
            *count += 1;
        }
        Self { codes, step_ns: recording.usual_step_ns() }
    }

    /// How long the program took from one spawn to the next: the median, in nanoseconds.
    #[must_use]
    pub fn step_ns(&self) -> u64 {
        self.step_ns
    }

    /// What tasks of a code took in the mean, in nanoseconds. A code goes by its name, or else by the last part of that, if only one that was recorded ends so.
    ///
    /// # Errors
    /// None was recorded, or several may be meant.
    pub fn work_ns(&self, code: &str) -> Result<u64, UnknownCode> {
        let alike = || self.codes.iter().filter(|(known, _)| last_part(known) == last_part(code));
        let found = self.codes.get(code).or_else(|| match (alike().next(), alike().nth(1)) {
            (Some((_, only)), None) => Some(only),
            _ => None,
        });
        match found {
            Some((sum_ns, count)) => Ok(sum_ns / count),
            None => Err(UnknownCode {
                code: code.to_owned(),
                meant: alike().map(|(known, _)| known.clone()).collect(),
                known: self.codes.keys().cloned().collect(),
            }),
        }
    }

    /// What the tasks of a graph take each by that, in nanoseconds.
    ///
    /// # Errors
    /// It has a code for which there is nothing.
    pub fn works_ns(&self, workload: &Workload) -> Result<Vec<u64>, UnknownCode> {
        let of_codes: Vec<u64> = workload.code_names().iter().map(|code| self.work_ns(code)).collect::<Result<_, _>>()?;
        Ok((0..workload.len()).map(|task| of_codes[workload.code(task) as usize]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkloadBuilder;
    use crate::workload::{RecordedProcessor, RecordedTask};

    fn recording(codes: &[(&str, u64)]) -> Recording {
        let mut recording = Recording::new("a run", "a machine", None);
        recording.processors = vec![RecordedProcessor { name: "threads-0".into(), kind: "cpu".into() }];
        let task = |(number, (code, took_ns)): (usize, &(&str, u64))| RecordedTask {
            name: format!("task {number}"),
            code: (*code).into(),
            after: Vec::new(),
            spawner: None,
            spawned_ns: number as u64 * 5,
            began_ns: 0,
            ended_ns: *took_ns,
            cpu_ns: None,
            processor: 0,
        };
        recording.tasks = codes.iter().enumerate().map(task).collect();
        recording
    }

    #[test]
    fn tasks_take_the_mean_of_those_of_their_code() {
        let recording = recording(&[("a::gemm", 10), ("b::trsm", 7), ("a::gemm", 30)]);
        let works_ns: Vec<u64> = recording.tasks.iter().map(|task| task.ended_ns).collect();
        let calibration = Calibration::of(&recording, &works_ns);
        assert_eq!(calibration.step_ns(), 5);
        let mut builder = WorkloadBuilder::new("w");
        for (name, code) in [("1", "trsm"), ("2", "a::gemm"), ("3", "gemm"), ("4", "c::gemm")] {
            builder.task(name, code, 1);
        }
        assert_eq!(calibration.works_ns(&builder.build().unwrap()).unwrap(), [7, 20, 20, 20]);
    }

    #[test]
    fn a_code_that_was_not_recorded_is_said_with_those_that_were() {
        let recording = recording(&[("a::gemm", 10), ("b::gemm", 7), ("a::potrf", 30)]);
        let calibration = Calibration::of(&recording, &[10, 7, 30]);
        assert_eq!(calibration.work_ns("b::gemm"), Ok(7));
        assert_eq!(calibration.work_ns("gemm").unwrap_err().to_string(), "`gemm` may be any of a::gemm, b::gemm: say which");
        assert_eq!(
            calibration.work_ns("syrk").unwrap_err().to_string(),
            "no task of code `syrk` was recorded; there are a::gemm, a::potrf, b::gemm"
        );
    }
}
