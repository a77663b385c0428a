//! Runs that really happened, as `poniard run --record` writes them down: JSON, a line for each task, with when and where it ran and what it came after.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use poniard::policy::{DecisionLog, Event, Subject};
use serde::{Deserialize, Serialize};

use super::read::{ReadError, ReadOptions, Wrong};
use super::{Workload, WorkloadBuilder};
use crate::replay;

/// The version that is written and read.
const VERSION: u64 = 1;
/// How a recording begins, but for blanks.
pub(super) const FIRST_FIELD: &str = "\"poniard_recording\"";
/// From so many times the usual on, the time between two spawns is no time of spawning.
const UNUSUAL: u64 = 10;
/// The longest time in one: three years, as for every workload.
const MOST_NS: u64 = 100_000_000_000_000_000;

/// A run that really happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    #[serde(rename = "poniard_recording")]
    version: u64,
    /// What was run.
    pub name: String,
    /// The machine, in words.
    pub machine: String,
    /// The policy that was asked for; none if the runtime's own queues decided.
    pub policy: Option<String>,
    /// The processors that could take tasks.
    pub processors: Vec<RecordedProcessor>,
    /// The tasks, in the order of their spawns.
    pub tasks: Vec<RecordedTask>,
    /// What was decided, if there was something to decide. Its tasks are named by their positions here.
    #[serde(default)]
    pub decisions: Option<DecisionLog>,
}

/// A processor of a recorded run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedProcessor {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
}

/// A task of a recorded run. Times are in nanoseconds from the first spawn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedTask {
    /// Its name.
    pub name: String,
    /// Its function.
    pub code: String,
    /// The tasks that it came after, by their positions.
    pub after: Vec<usize>,
    /// The task that spawned it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spawner: Option<usize>,
    /// When it was spawned.
    pub spawned_ns: u64,
    /// When its body began.
    pub began_ns: u64,
    /// When it was over.
    pub ended_ns: u64,
    /// How long its thread had a core meanwhile, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ns: Option<u64>,
    /// Where, by position.
    pub processor: usize,
}

impl Recording {
    /// A run that nothing is known of yet.
    #[must_use]
    pub fn new(name: &str, machine: &str, policy: Option<&str>) -> Self {
        Self { version: VERSION, name: name.into(), machine: machine.into(), policy: policy.map(Into::into), ..Self::default() }
    }

    /// As text: a line for each task.
    #[must_use]
    pub fn to_json(&self) -> String {
        let word = |text: &str| serde_json::Value::from(text).to_string();
        let policy = self.policy.as_deref().map_or_else(|| "null".into(), word);
        // Numbers, texts and lists of them are JSON whatever they are.
        let lines = |items: Vec<Option<String>>| items.into_iter().flatten().collect::<Vec<_>>().join(",\n");
        let processors = lines(self.processors.iter().map(|one| serde_json::to_string(one).ok()).collect());
        let tasks = lines(self.tasks.iter().map(|task| serde_json::to_string(task).ok()).collect());
        let decisions = self.decisions.as_ref().map_or_else(String::new, |log| {
            let DecisionLog { policy, seed, first_spawn_ns, places, events } = log;
            let places = lines(places.iter().map(|place| serde_json::to_string(place).ok()).collect());
            // A log with a hole in it would be another log.
            let event = |event| serde_json::to_string(event).unwrap_or_else(|error| unreachable!("every event has a form: {error}"));
            let events = lines(events.iter().map(|one| Some(event(one))).collect());
            let policy = word(policy);
            format!(
                ",\n\"decisions\": {{\"policy\": {policy}, \"seed\": {seed}, \"first_spawn_ns\": {first_spawn_ns},\n\"places\": [\n{places}\n],\n\"events\": [\n{events}\n]}}"
            )
        });
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "{{{FIRST_FIELD}: {VERSION},\n\"name\": {}, \"machine\": {}, \"policy\": {policy},\n\"processors\": [\n{processors}\n],\n\"tasks\": [\n{tasks}\n]{decisions}}}\n",
            word(&self.name),
            word(&self.machine),
        );
        text
    }

    /// A recording from its text; `file` is what it is called in errors.
    ///
    /// # Errors
    /// It is no recording, one of another version, or says what cannot be.
    pub fn from_json(file: &str, text: &str) -> Result<Self, ReadError> {
        parse(text).map_err(|wrong| ReadError { file: file.to_owned(), place: wrong.place, reason: wrong.reason })
    }

    /// From the beginning of the first body to the end of the last one, in nanoseconds.
    #[must_use]
    pub fn makespan_ns(&self) -> u64 {
        let first = self.tasks.iter().map(|task| task.began_ns).min().unwrap_or(0);
        self.tasks.iter().map(|task| task.ended_ns).max().unwrap_or(0) - first
    }

    /// How long each task took by itself, in nanoseconds: without those that ran on top of it while it waited.
    #[must_use]
    pub fn own_ns(&self) -> Vec<u64> {
        self.own(|task| task.ended_ns - task.began_ns)
    }

    /// How long each task had a core for itself, in nanoseconds, if that is known of all.
    #[must_use]
    pub fn own_cpu_ns(&self) -> Option<Vec<u64>> {
        self.tasks.iter().all(|task| task.cpu_ns.is_some()).then(|| self.own(|task| task.cpu_ns.unwrap_or(0)))
    }

    fn own(&self, whole_ns: impl Fn(&RecordedTask) -> u64) -> Vec<u64> {
        let mut own: Vec<u64> = self.tasks.iter().map(&whole_ns).collect();
        for lane in self.lanes() {
            let mut around: Vec<usize> = Vec::new();
            for task in lane {
                while around.last().is_some_and(|outer| self.tasks[*outer].ended_ns < self.tasks[task].ended_ns) {
                    around.pop();
                }
                if let Some(outer) = around.last() {
                    own[*outer] = own[*outer].saturating_sub(whole_ns(&self.tasks[task]));
                }
                around.push(task);
            }
        }
        own
    }

    /// How long it takes from the end of a task to the beginning of the next one where that one was ready, in nanoseconds: what the runtime takes for a task. The median.
    #[must_use]
    pub fn overhead_ns(&self) -> u64 {
        let mut gaps: Vec<u64> = Vec::new();
        for lane in self.lanes() {
            for pair in lane.windows(2) {
                let (before, next) = (&self.tasks[pair[0]], &self.tasks[pair[1]]);
                let ready_ns = next.after.iter().map(|after| self.tasks[*after].ended_ns).fold(next.spawned_ns, u64::max);
                if ready_ns <= before.ended_ns && before.ended_ns <= next.began_ns {
                    gaps.push(next.began_ns - before.ended_ns);
                }
            }
        }
        gaps.sort_unstable();
        gaps.get(gaps.len() / 2).copied().unwrap_or(0)
    }

    /// Whether tasks spawn tasks: then those may wait for these, which a workload does not say.
    #[must_use]
    pub fn is_nested(&self) -> bool {
        self.tasks.iter().any(|task| task.spawner.is_some())
    }

    /// The tasks that the program itself spawned, in that order, and how long after the one before, in nanoseconds. Where the program took many times the usual, it waited or had no
    /// core: that counts as the usual.
    #[must_use]
    pub fn steps_ns(&self) -> Vec<(u32, u64)> {
        let usual_ns = self.usual_step_ns();
        let step_ns = |step_ns: u64| if step_ns > UNUSUAL * usual_ns { usual_ns } else { step_ns };
        let own = self.spawned();
        let steps = [0].into_iter().chain(own.windows(2).map(|pair| step_ns(pair[1].0 - pair[0].0)));
        own.iter().map(|(_, task)| *task).zip(steps).collect()
    }

    /// How long the program took from one spawn to the next: the median, in nanoseconds.
    #[must_use]
    pub fn usual_step_ns(&self) -> u64 {
        let mut steps: Vec<u64> = self.spawned().windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        steps.sort_unstable();
        steps.get(steps.len() / 2).copied().unwrap_or(0)
    }

    /// When the program spawned which task, by time.
    fn spawned(&self) -> Vec<(u64, u32)> {
        let own = (0..).zip(&self.tasks).filter(|(_, task)| task.spawner.is_none());
        let mut own: Vec<(u64, u32)> = own.map(|(number, task)| (task.spawned_ns, number)).collect();
        own.sort_unstable();
        own
    }

    /// Whether another run was of the same tasks in the same order, each after the same ones.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let same =
            |one: &RecordedTask, other: &RecordedTask| (&one.name, &one.code, &one.after) == (&other.name, &other.code, &other.after);
        self.tasks.len() == other.tasks.len() && self.tasks.iter().zip(&other.tasks).all(|(one, other)| same(one, other))
    }

    /// The tasks with this much work each and what each came after. How much data goes from one to another is not recorded.
    ///
    /// # Errors
    /// Tasks come after each other in a circle.
    pub fn workload(&self, works_ns: &[u64]) -> Result<Workload, super::WorkloadError> {
        self.built(works_ns).build()
    }

    fn built(&self, works_ns: &[u64]) -> WorkloadBuilder {
        let mut builder = WorkloadBuilder::new(&self.name);
        for (task, work_ns) in self.tasks.iter().zip(works_ns) {
            builder.task(&task.name, &task.code, *work_ns);
        }
        for (number, task) in self.tasks.iter().enumerate() {
            task.after.iter().for_each(|after| builder.edge(*after, number, 0));
        }
        builder
    }

    /// The tasks of each processor, by their beginning, the outer one of two first.
    fn lanes(&self) -> Vec<Vec<usize>> {
        let mut lanes = vec![Vec::new(); self.processors.len()];
        self.tasks.iter().enumerate().for_each(|(number, task)| lanes[task.processor].push(number));
        lanes.iter_mut().for_each(|lane: &mut Vec<usize>| {
            lane.sort_by_key(|task| (self.tasks[*task].began_ns, std::cmp::Reverse(self.tasks[*task].ended_ns)));
        });
        lanes
    }
}

fn parse(text: &str) -> Result<Recording, Wrong> {
    #[derive(Deserialize)]
    struct Version {
        poniard_recording: u64,
    }
    // Before all else: another version may have other fields.
    let version: Version = serde_json::from_str(text).map_err(|error| Wrong::of_json(&error))?;
    if version.poniard_recording != VERSION {
        return Err(Wrong::at(
            "poniard_recording",
            format_args!("it is of version {}, and version {VERSION} is read; record it again", version.poniard_recording),
        ));
    }
    let recording: Recording = serde_json::from_str(text).map_err(|error| Wrong::of_json(&error))?;
    if recording.tasks.is_empty() {
        return Err(Wrong::at("tasks", "there is no task in it"));
    }
    for (number, task) in recording.tasks.iter().enumerate() {
        let wrong = |field: &str, reason: &dyn std::fmt::Display| Err(Wrong::at(format_args!("tasks[{number}].{field}"), reason));
        if task.began_ns > task.ended_ns {
            return wrong("ended_ns", &format_args!("{} is before it began, at {}", task.ended_ns, task.began_ns));
        }
        if task.ended_ns > MOST_NS {
            return wrong("ended_ns", &format_args!("{} ns is more than three years", task.ended_ns));
        }
        if task.processor >= recording.processors.len() {
            return wrong("processor", &format_args!("there is no processor {}; there are {}", task.processor, recording.processors.len()));
        }
        let mut others = BTreeMap::new();
        for (index, after) in task.after.iter().enumerate() {
            if *after >= recording.tasks.len() {
                return wrong(&format!("after[{index}]"), &format_args!("there is no task {after}; there are {}", recording.tasks.len()));
            }
            if let Some(before) = others.insert(*after, index) {
                return wrong(&format!("after[{index}]"), &format_args!("task {after} is there already, at {before}"));
            }
        }
    }
    if let Some(log) = &recording.decisions {
        replay::check(log).map_err(|bad| Wrong::at(format_args!("decisions.{}", bad.place), bad.reason))?;
        for (number, event) in log.events.iter().enumerate() {
            if let Event::Ready { subject: Some(Subject::Spawned(task)), .. } = event
                && *task >= recording.tasks.len()
            {
                let reason = format_args!("there is no task {task}; there are {}", recording.tasks.len());
                return Err(Wrong::at(format_args!("decisions.events[{number}].ready.subject"), reason));
            }
        }
    }
    Ok(recording)
}

/// A recorded run as a workload: what each task took by itself.
pub(super) fn read(name: &str, text: &str, options: ReadOptions) -> Result<Workload, Wrong> {
    let mut recording = parse(text)?;
    recording.name = name.to_owned();
    let works_ns = recording.own_ns().into_iter().map(|own_ns| options.nanoseconds(own_ns as f64 / 1e9).unwrap_or(own_ns));
    Ok(recording.workload(&works_ns.collect::<Vec<_>>())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str, after: &[usize], (began_ns, ended_ns): (u64, u64), processor: usize) -> RecordedTask {
        RecordedTask {
            name: name.into(),
            code: "f".into(),
            after: after.to_vec(),
            spawner: None,
            spawned_ns: 0,
            began_ns,
            ended_ns,
            cpu_ns: Some((ended_ns - began_ns) / 2),
            processor,
        }
    }

    fn recording() -> Recording {
        let mut recording = Recording::new("a \"run\"", "a machine", Some("fifo"));
        recording.processors = ["threads-0", "threads-1"].map(|name| RecordedProcessor { name: name.into(), kind: "cpu".into() }).into();
        recording.tasks = vec![
            task("a", &[], (10, 50), 0),
            // It waited for one that ran on top of it.
            task("b", &[], (10, 90), 1),
            task("inner", &[], (20, 60), 1),
            task("c", &[0], (57, 80), 0),
        ];
        recording
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let recording = recording();
        let text = recording.to_json();
        assert_eq!(Recording::from_json("f", &text).unwrap(), recording);
        assert_eq!(text.lines().filter(|line| line.contains("began_ns")).count(), 4);
        assert_eq!((recording.makespan_ns(), recording.own_ns(), recording.overhead_ns()), (80, vec![40, 40, 40, 23], 7));
        assert_eq!(recording.own_cpu_ns(), Some(vec![20, 20, 20, 11]));
        let workload = recording.workload(&[1, 47, 1, 1]).unwrap();
        assert_eq!((workload.work_ns(1), workload.edge_count(), workload.task_name(3)), (47, 1, "c"));
        let mut spawned = recording.clone();
        [0, 3, 5, 500].into_iter().zip(&mut spawned.tasks).for_each(|(at_ns, task)| task.spawned_ns = at_ns);
        assert_eq!((spawned.steps_ns(), spawned.usual_step_ns()), (vec![(0, 0), (1, 3), (2, 2), (3, 3)], 3));
        spawned.tasks[2].spawner = Some(1);
        assert_eq!(spawned.steps_ns().len(), 3);
        assert!(recording.is_like(&spawned));
        spawned.tasks[3].after.clear();
        assert!(!recording.is_like(&spawned));
        assert_eq!(read("g", &text, ReadOptions::default()).unwrap().work_ns(1), 40);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let text = recording().to_json();
        let wrong = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            parse(&text.replacen(from, to, 1)).unwrap_err().shown()
        };
        assert_eq!(
            wrong("recording\": 1", "recording\": 2"),
            "poniard_recording: it is of version 2, and version 1 is read; record it again"
        );
        assert_eq!(wrong("\"ended_ns\":50", "\"ended_ns\":5"), "tasks[0].ended_ns: 5 is before it began, at 10");
        assert_eq!(wrong("\"ended_ns\":50", "\"ended_ns\":-5"), "line 8, column 76: invalid value: integer `-5`, expected u64");
        assert_eq!(
            wrong("\"ended_ns\":50", "\"ended_ns\":1000000000000000000"),
            "tasks[0].ended_ns: 1000000000000000000 ns is more than three years"
        );
        assert_eq!(wrong("\"processor\":1", "\"processor\":7"), "tasks[1].processor: there is no processor 7; there are 2");
        assert_eq!(wrong("[0]", "[9]"), "tasks[3].after[0]: there is no task 9; there are 4");
        assert_eq!(wrong("[0]", "[0,0]"), "tasks[3].after[1]: task 0 is there already, at 0");
        assert!(wrong("\"code\"", "\"kode\"").starts_with("line 8, column "));
        let circle = text.replacen("[0]", "[3]", 1);
        assert!(read("g", &circle, ReadOptions::default()).unwrap_err().shown().contains("in a circle: `c` -> `c`"));
        assert!(parse("{}").unwrap_err().shown().contains("missing field `poniard_recording`"));
    }
}
