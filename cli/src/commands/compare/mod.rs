//! `poniard compare`: which of several policies is better, by how much, and how sure that is.

mod cells;
mod options;
mod ranking;
mod results;

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use poniard_scheduler_sim::Problem;
use poniard_scheduler_sim::engine::EngineOptions;
use serde_json::json;

use super::machine::{self, quoted};
use crate::console::{Console, NAME, QUIET, Styled};
use crate::failure::Failure;
use crate::output::OutputFile;
use crate::progress::ProgressLine;
use crate::report::{counted, digits};
use crate::sample::Progress;
use cells::{Cell, Cells};
use results::{Record, Results};

pub use options::CompareOptions;

/// Bytes of the stack of a thread that runs cells, as the command's own has.
const STACK_BYTES: usize = 8 << 20;

/// What was run, and what was known before.
struct Runs<'a> {
    options: &'a CompareOptions,
    cells: &'a Cells,
    /// Of each cell what came of it.
    records: Mutex<Vec<Option<Record>>>,
    /// Of each that was run now how long a plan, or a run under a live policy, took.
    took: Mutex<Vec<Option<Duration>>>,
    results: Mutex<Option<Results>>,
    /// The first cell that failed, and why.
    failure: Mutex<Option<(usize, Failure)>>,
}

/// Compares policies.
pub fn compare(options: &CompareOptions, console: &mut Console) -> Result<(), Failure> {
    let csv = options.csv.as_deref().map(|path| prepare(path, options.json, console)).transpose()?;
    let cells = Cells::of(options)?;
    if cells.all.is_empty() {
        return Err(Failure::usage("there is nothing to compare: no policy can do any of it"));
    }
    let (results, known) = match &options.results {
        Some(path) => Results::open(path, &cells.all).map(|(results, known)| (Some(results), known))?,
        None => (None, vec![None; cells.all.len()]),
    };
    let pending: Vec<usize> = (0..cells.all.len()).filter(|cell| known[*cell].is_none()).collect();
    let runs = Runs {
        options,
        cells: &cells,
        took: Mutex::new(vec![None; known.len()]),
        records: Mutex::new(known),
        results: Mutex::new(results),
        failure: Mutex::new(None),
    };
    runs.all(&pending);
    let Runs { records, took, results, failure, .. } = runs;
    if let Some((_, failure)) = inner(failure) {
        return Err(failure);
    }
    inner(results).map_or(Ok(()), Results::finish)?;
    let (records, took) = (inner(records), inner(took));
    let rows = ranking::ranked(&cells, &records, &took);
    let ccrs = records.iter().flatten().filter_map(Record::ccr);
    let ccr = ccrs.map(|ccr| (ccr, ccr)).reduce(|(least, most), (ccr, _)| (least.min(ccr), most.max(ccr)));
    let written = csv.map(|file| write_csv(file, &cells, &records, options)).transpose()?;
    let replay = replay(options);
    if options.json {
        return console.line(json!({
            "baseline": cells.deciders[cells.baseline].name(),
            "policies": ranking::as_json(&rows),
            "workloads": cells.instances.len(),
            "platforms": cells.machines.len(),
            "seeds": options.seeds.all.len(),
            "ccr": ccr.map(|(least, most)| [least, most]),
            "runs": cells.all.len(),
            "run_now": pending.len(),
            "left_out": cells.left_out,
            "replay": replay,
        }));
    }
    let count = |number: usize, thing: &str| counted(number as u64, thing);
    console.line(format_args!(
        "{}: {} on {} and {}, {}: {}, {} of them now",
        Styled(NAME, "compare"),
        if cells.deciders.len() == 1 { "1 policy".to_owned() } else { format!("{} policies", cells.deciders.len()) },
        count(cells.instances.len(), "workload"),
        count(cells.machines.len(), "platform"),
        count(options.seeds.all.len(), "seed"),
        count(cells.all.len(), "run"),
        digits(pending.len() as u64)
    ))?;
    for left_out in &cells.left_out {
        console.line(format_args!("left out     {left_out}"))?;
    }
    for (index, line) in ranking::table(&rows).into_iter().enumerate() {
        if index == 0 { console.line(Styled(QUIET, line))? } else { console.line(line)? }
    }
    if let Some((least, most)) = ccr {
        console.line(format_args!("ccr          {least:.3} to {most:.3}: how long all data travels beside how long all tasks take"))?;
    }
    for note in ranking::notes(&rows) {
        console.line(note)?;
    }
    if let Some(written) = written {
        console.line(written)?;
    }
    console.line(Styled(QUIET, format_args!("replay       {replay}")))
}

fn inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Runs<'_> {
    /// Runs all of these cells, several at a time.
    fn all(&self, pending: &[usize]) {
        let machine = std::thread::available_parallelism();
        let jobs = self.options.jobs.or(machine.ok()).map_or(1, usize::from).min(pending.len());
        let line = ProgressLine::of("compare", "runs", !self.options.json);
        let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
        let work = || {
            // Relaxed: each number is taken once, and all else is behind locks.
            while let Some(cell) = pending.get(next.fetch_add(1, Ordering::Relaxed)) {
                if self.has_failed() {
                    return;
                }
                if let Err(failure) = self.one(*cell) {
                    self.fail(*cell, failure);
                }
                line.advance(done.fetch_add(1, Ordering::Relaxed) + 1, pending.len() as u64);
            }
        };
        std::thread::scope(|scope| {
            for job in 0..jobs {
                let builder = std::thread::Builder::new().name(format!("compare-{job}")).stack_size(STACK_BYTES);
                if let Err(error) = builder.spawn_scoped(scope, work) {
                    self.fail(usize::MAX, Failure::usage(format_args!("--jobs {jobs}: thread {job} could not be started: {error}")));
                }
            }
        });
    }

    fn has_failed(&self) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn fail(&self, cell: usize, failure: Failure) {
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if first.as_ref().is_none_or(|(known, _)| cell < *known) {
            *first = Some((cell, failure));
        }
    }

    fn one(&self, index: usize) -> Result<(), Failure> {
        let cell = &self.cells.all[index];
        let (instance, on) = (&self.cells.instances[cell.instance], &self.cells.machines[cell.machine]);
        let decider = &self.cells.deciders[cell.policy];
        let problem = Problem::new(&instance.workload, &on.platform);
        let problem = machine::uncertain(problem, &self.options.machine, cell.seed);
        let decided = decider
            .decide_and_check(&problem, EngineOptions { seed: cell.seed, ..EngineOptions::default() })
            .map_err(|failure| Failure::new(failure.code, format_args!("{}: {}", self.cells.describe(cell), failure.text)))?;
        let (work_ns, transfer_ns) = problem.volumes_ns();
        let record = Record {
            key: cell.key.clone(),
            workload: instance.name.clone(),
            platform: on.name.clone(),
            policy: decider.name().to_owned(),
            seed: cell.seed,
            tasks: problem.len() as u64,
            processors: problem.processor_count() as u64,
            makespan_ns: decided.schedule.makespan_ns(),
            lower_bound_ns: problem.lower_bound_ns(),
            busy_ns: decided.schedule.busy_ns(problem.processor_count()).iter().sum(),
            moved_bytes: decided.moved_bytes(&problem),
            work_ns,
            transfer_ns,
        };
        if let Some(results) = &mut *self.results.lock().unwrap_or_else(PoisonError::into_inner) {
            results.add(index, &record)?;
        }
        self.took.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(decided.took);
        self.records.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(record);
        Ok(())
    }
}

fn prepare(path: &Path, is_json: bool, console: &mut Console) -> Result<OutputFile, Failure> {
    let file = OutputFile::prepare(path)?;
    if file.is_stdout() {
        if is_json {
            return Err(Failure::usage("--csv and --json cannot both have standard output"));
        }
        console.step_aside();
    }
    Ok(file)
}

/// Writes a line for each run, and says so in one.
fn write_csv(mut file: OutputFile, cells: &Cells, records: &[Option<Record>], options: &CompareOptions) -> Result<String, Failure> {
    let mut text = "workload,platform,policy,seed,tasks,processors,makespan_ns,lower_bound_ns,busy_ns,moved_bytes,ccr,replay\n".to_owned();
    for (cell, record) in cells.all.iter().zip(records) {
        let Some(record) = record else { continue };
        text.push_str(&csv_line(cells, cell, record, options));
    }
    let bytes = file.fill(text.as_bytes())?;
    let line = format!("wrote        {} ({} bytes)", file.path().display(), digits(bytes));
    file.commit()?;
    Ok(line)
}

fn csv_line(cells: &Cells, cell: &Cell, record: &Record, options: &CompareOptions) -> String {
    let field = |text: &str| if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() };
    let Record { seed, tasks, processors, makespan_ns, lower_bound_ns, busy_ns, moved_bytes, .. } = record;
    let names = [&cells.instances[cell.instance].name, &cells.machines[cell.machine].name].map(|name| field(name));
    let policy = field(cells.deciders[cell.policy].name());
    let replay = field(&cells.replay(cell, options));
    let ccr = record.ccr().map_or_else(String::new, |ccr| format!("{ccr:.6}"));
    format!(
        "{},{},{policy},{seed},{tasks},{processors},{makespan_ns},{lower_bound_ns},{busy_ns},{moved_bytes},{ccr},{replay}\n",
        names[0], names[1]
    )
}

/// The command that does the same again.
fn replay(options: &CompareOptions) -> String {
    let list = |names: &[String]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(" ");
    let mut words = vec![format!("poniard compare --policies {} --workloads {}", list(&options.policies), list(&options.workloads))];
    if !options.platforms.is_empty() {
        let files: Vec<String> = options.platforms.iter().map(|path| path.display().to_string()).collect();
        words.push(format!("--platforms {}", list(&files)));
    }
    let source = machine::MachineSource { platform: None, speeds: options.speeds.as_deref(), bandwidth: options.bandwidth };
    words.extend(machine::source_words(&source));
    words.extend(machine::run_words(options.engine, options.round_costs, &options.plugins));
    words.extend(machine::words(&options.machine));
    words.extend(options.baseline.as_ref().map(|baseline| format!("--baseline {}", quoted(baseline))));
    words.extend(options.skip_unable.then(|| "--skip-unable".to_owned()));
    words.push(format!("--seeds {}", options.seeds.text));
    words.join(" ")
}
