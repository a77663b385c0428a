//! `poniard run --record FILE`: which tasks ran, after which others, when and where, for `poniard predict` and `poniard simulate`, and what was decided, for `poniard replay`.

use std::path::Path;

use poniard::model::Machine;
use poniard::policy::{Event, Subject};
use poniard::{Handle, JournalEntry};
use poniard_scheduler_sim::workload::{RecordedProcessor, RecordedTask, Recording};

use crate::console::{self, Console};
use crate::failure::Failure;
use crate::options::RunOptions;
use crate::output::OutputFile;
use crate::report::{counted, digits, path_text};

/// A recording that has been promised.
#[derive(Debug)]
pub struct Recorder(OutputFile);

impl Recorder {
    /// Makes sure that the file can be written, before anything runs.
    pub fn prepare(options: &RunOptions) -> Result<Option<Self>, Failure> {
        let Some(path) = &options.record else { return Ok(None) };
        let file = OutputFile::prepare(path)?;
        if file.is_stdout() {
            return Err(Failure::usage("--record wants a file; standard output has the result"));
        }
        Ok(Some(Self(file)))
    }

    /// Writes what ran, of a run that is called `name`, and says so, unless it is `--json`.
    pub fn write(mut self, runtime: &Handle, name: &str, options: &RunOptions, console: &mut Console) -> Result<(), Failure> {
        runtime.wait_idle();
        let (recording, left_out) = recorded(runtime, &name_of(name), options.runtime.policy.as_deref());
        if left_out > 0 {
            console::warn(format_args!(
                "{} ran on no worker and {} not in the recording",
                counted(left_out, "task"),
                if left_out == 1 { "is" } else { "are" }
            ));
        }
        let bytes = self.0.fill(recording.to_json().as_bytes())?;
        let decided = recording.decisions.as_ref().map_or_else(String::new, |log| {
            let decided = log.events.iter().filter(|event| matches!(event, Event::Ready { .. } | Event::Asked { .. })).count();
            format!(" and {}", counted(decided as u64, "decision"))
        });
        let line = format!(
            "recorded {}{decided} in {} ({} bytes)",
            counted(recording.tasks.len() as u64, "task"),
            path_text(self.0.path()),
            digits(bytes)
        );
        self.0.commit()?;
        if options.json { Ok(()) } else { console.line(line) }
    }
}

/// A file's name without its folders.
fn name_of(target: &str) -> String {
    Path::new(target).file_stem().map_or_else(|| target.to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// The journal as a recording, and how many tasks are not in it. What came after one of those comes after what that one came after.
fn recorded(runtime: &Handle, name: &str, policy: Option<&str>) -> (Recording, u64) {
    let report = runtime.report();
    let journal = runtime.journal();
    let mut recording = Recording::new(name, Machine::this().as_str(), policy);
    let processors = report.backends.iter().flat_map(|backend| &backend.processors);
    let (inline, queued): (Vec<_>, Vec<_>) = processors.partition(|processor| !processor.queued);
    // In the order in which the journal counts them.
    recording.processors = inline
        .into_iter()
        .chain(queued)
        .map(|processor| RecordedProcessor { name: processor.name.clone(), kind: processor.kind.as_str().into() })
        .collect();
    let mut position: Vec<Option<usize>> = Vec::with_capacity(journal.len());
    let mut afters: Vec<Vec<usize>> = Vec::with_capacity(journal.len());
    for JournalEntry { name, code, spawner, after, spawned_ns, ran, .. } in journal {
        let mut before: Vec<usize> = Vec::new();
        for other in after {
            match position[other] {
                Some(position) => before.push(position),
                None => before.extend(&afters[other]),
            }
        }
        before.sort_unstable();
        before.dedup();
        position.push(ran.is_some().then_some(recording.tasks.len()));
        afters.push(before.clone());
        let Some(span) = ran else { continue };
        recording.tasks.push(RecordedTask {
            name,
            code: code.to_owned(),
            after: before,
            spawner: spawner.and_then(|spawner| position[spawner]),
            spawned_ns,
            began_ns: span.began_ns,
            ended_ns: span.ended_ns,
            cpu_ns: span.cpu_ns,
            processor: span.processor,
        });
    }
    recording.decisions = runtime.decision_log().map(|mut log| {
        for event in &mut log.events {
            if let Event::Ready { subject, .. } = event
                && let Some(Subject::Spawned(number)) = *subject
            {
                *subject = position.get(number).copied().flatten().map(Subject::Spawned);
            }
        }
        log
    });
    let left_out = position.len() - recording.tasks.len();
    (recording, left_out as u64)
}
