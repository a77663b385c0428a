//! `poniard run`: a sample or a graph file, from the command line to the result.
//!
//! What can be found wrong without running anything is found first: names, options, input files, and whether the output can be written.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use poniard::{Handle, Report};
use serde_json::{Map, Value, json};

use super::record::Recorder;
use super::{Devices, build_runtime};
use crate::console::{BAD, Console, GOOD, Styled};
use crate::exit_code::ExitCode;
use crate::explain;
use crate::failure::Failure;
use crate::graph::{self, GraphContext};
use crate::options::{RunOptions, RuntimeOptions};
use crate::output::{OutputError, OutputFile};
use crate::progress::ProgressLine;
use crate::report::{device_lines, digits, memory_json, memory_line, path_text, processors_json, refused_json, summary, task_count};
use crate::sample::{Check, Context, Sample, kernel_options};
use crate::samples::SAMPLES;

/// Runs what the options name.
pub fn run(options: &RunOptions, console: &mut Console) -> Result<(), Failure> {
    match find(&options.target)? {
        Target::Sample(sample) => run_sample(sample, options, console),
        Target::Graph(file) => run_graph(&file, options, console),
    }
}

/// Whether `name` is a sample's.
pub fn is_sample(name: &str) -> bool {
    SAMPLES.iter().any(|sample| sample.name == name)
}

/// Whether `name` must be a file's: it has a folder or a graph file's extension, or there is such a file.
pub fn looks_like_file(name: &str) -> bool {
    let path = Path::new(name);
    let graph = path.extension().is_some_and(|extension| extension == "toml" || extension == "json");
    name.contains('/') || graph || path.exists()
}

/// What the user wants to run.
enum Target {
    Sample(&'static Sample),
    Graph(PathBuf),
}

/// The sample or graph file called `name`.
fn find(name: &str) -> Result<Target, Failure> {
    if let Some(sample) = SAMPLES.iter().find(|sample| sample.name == name) {
        return Ok(Target::Sample(sample));
    }
    if !looks_like_file(name) {
        let hint =
            suggestion(name, SAMPLES.iter().map(|sample| sample.name)).map_or_else(String::new, |near| format!("; did you mean {near}?"));
        return Err(Failure::usage(format_args!(
            "no sample or graph file named {name}{hint} (`poniard samples` lists the samples; a graph file is given by its path, \
             for instance ./{name}.toml)"
        )));
    }
    let path = PathBuf::from(name);
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => Err(Failure::input(format_args!("{name} is a folder, not a graph file"))),
        Ok(_) => Ok(Target::Graph(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let hint = graph_file_near(&path).map_or_else(String::new, |near| format!("; did you mean {}?", near.display()));
            Err(Failure::input(format_args!("there is no graph file {name}{hint}")))
        }
        Err(error) => Err(Failure::input(format_args!("the graph file {name} could not be read: {error}"))),
    }
}

/// The one of `names` that is most like `name`, if one is like it at all.
pub(super) fn suggestion<S: AsRef<str>>(name: &str, names: impl IntoIterator<Item = S>) -> Option<S> {
    let likeness = |other: &str| {
        let begun = name.len() >= 2 && other.starts_with(name);
        strsim::normalized_damerau_levenshtein(name, other).max(if begun { 0.9 } else { 0.0 })
    };
    let near = names.into_iter().map(|other| (likeness(other.as_ref()), other)).max_by(|(a, _), (b, _)| a.total_cmp(b));
    near.filter(|(likeness, _)| *likeness >= 0.5).map(|(_, other)| other)
}

/// A graph file in the folder of `path` that is called nearly the same.
fn graph_file_near(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    let listed = std::fs::read_dir(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }).ok()?;
    let names = listed
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "toml" || extension == "json"));
    suggestion(path.file_name()?.to_str()?, names).map(|name| folder.join(name))
}

/// What a run came to, of a sample or of a graph file.
struct Done {
    /// What was run, for JSON: the keys `sample` and `graph`.
    sample: Option<&'static str>,
    graph: Option<PathBuf>,
    lines: Vec<String>,
    values: Map<String, Value>,
    check: Option<Check>,
    elapsed: Duration,
    report: Report,
    /// What --explain adds: lines, or their object.
    explained: Option<(Vec<String>, Value)>,
}

/// A file that was written.
struct Written {
    path: PathBuf,
    bytes: u64,
}

/// Runs a sample.
fn run_sample(sample: &'static Sample, options: &RunOptions, console: &mut Console) -> Result<(), Failure> {
    check_options(sample, options)?;
    for input in &options.inputs {
        check_input(input)?;
    }
    let output = options.output.as_deref().map(OutputFile::prepare).transpose()?;
    if output.as_ref().is_some_and(OutputFile::is_stdout) {
        if options.json {
            return Err(Failure::usage("--output and --json cannot both have standard output"));
        }
        console.step_aside();
    }
    let recorder = Recorder::prepare(options)?;
    let settings = explaining(options);
    let runtime = build_runtime(&settings, if sample.kernels { Devices::Sought } else { Devices::Unneeded })?;
    runtime.remark_missing_devices(&options.runtime);
    let takes_software = settings.settings.iter().any(|(name, value)| name == "placement.software" && value == "true");
    let kernels = kernel_options(&runtime, takes_software);
    let progress = ProgressLine::begin(sample.name, !options.json);
    let start = Instant::now();
    let result = (sample.run)(&Context {
        runtime: &runtime,
        kernels: kernels.as_ref(),
        size: options.size,
        tile: options.tile,
        inputs: &options.inputs,
        output: options.output.as_deref(),
        seed: options.seed.unwrap_or(0),
        kernel: options.kernel.as_deref(),
        generations: options.generations,
        progress: &progress,
    });
    let elapsed = start.elapsed();
    // Before anything else is printed.
    drop(progress);
    let outcome = result?;

    let passed = outcome.check.passed;
    let complaint = format!("the result of {} is wrong: {}", sample.name, outcome.check.text);
    let done = Done {
        sample: Some(sample.name),
        graph: None,
        lines: outcome.lines,
        values: outcome.values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        check: Some(outcome.check),
        elapsed,
        explained: explained(&runtime, options),
        report: runtime.report(),
    };
    if !passed {
        // A result that is known to be wrong does not replace a file that may be right.
        let unwritten = output.map_or_else(String::new, |file| format!("; {} is left as it was", file.path().display()));
        tell(&done, options, console, || Ok(Vec::new()))?;
        return Err(Failure::new(ExitCode::Check, format_args!("{complaint}{unwritten}")));
    }
    tell(&done, options, console, || {
        let Some(mut file) = output else { return Ok(Vec::new()) };
        let Some(contents) = outcome.output else {
            return Err(OutputError::new(file.path(), format_args!("{} gave nothing to write", sample.name)));
        };
        let bytes = file.fill(contents.as_slice())?;
        let path = file.path().to_owned();
        file.commit()?;
        Ok(vec![Written { path, bytes }])
    })?;
    recorder.map_or(Ok(()), |recorder| recorder.write(&runtime, sample.name, options, console))
}

/// Runs a graph file.
fn run_graph(file: &Path, options: &RunOptions, console: &mut Console) -> Result<(), Failure> {
    if let Some(name) = options.given().into_iter().find(|name| *name != "seed") {
        return Err(Failure::usage(format_args!(
            "a graph file has no option --{name}, only --seed: what it reads, computes and writes stands in {}",
            file.display()
        )));
    }
    graph::check(file)?;
    let recorder = Recorder::prepare(options)?;
    let runtime = build_runtime(&explaining(options), Devices::Unneeded)?;
    runtime.remark_missing_devices(&options.runtime);
    let progress = ProgressLine::begin(&path_text(file), !options.json);
    let start = Instant::now();
    let result = graph::run(file, &GraphContext { runtime: &runtime, seed: options.seed.unwrap_or(0), progress: &progress });
    let elapsed = start.elapsed();
    drop(progress);
    let outcome = result?;

    let done = Done {
        sample: None,
        graph: Some(file.to_owned()),
        lines: outcome.lines,
        values: outcome.values.into_iter().collect(),
        check: None,
        elapsed,
        explained: explained(&runtime, options),
        report: runtime.report(),
    };
    tell(&done, options, console, || {
        // All are filled before the first gets its name, so that a full disk leaves the old files together.
        let mut filled = Vec::new();
        for (path, contents) in &outcome.outputs {
            let mut file = OutputFile::prepare(path)?;
            let bytes = file.fill(contents.as_slice())?;
            filled.push((file, bytes));
        }
        let mut written = Vec::new();
        for (file, bytes) in filled {
            let path = file.path().to_owned();
            file.commit()?;
            written.push(Written { path, bytes });
        }
        Ok(written)
    })?;
    recorder.map_or(Ok(()), |recorder| recorder.write(&runtime, &options.target, options, console))
}

/// Where to compute; with --explain decisions are kept, with --record a journal and a decision log.
fn explaining(options: &RunOptions) -> RuntimeOptions {
    let mut runtime = options.runtime.clone();
    if options.explain.is_some() {
        runtime.settings.push(("placement.explain".into(), "true".into()));
    }
    if options.record.is_some() {
        runtime.settings.push(("placement.journal".into(), "true".into()));
        runtime.settings.push(("placement.decisions".into(), "true".into()));
    }
    runtime
}

/// What --explain adds.
fn explained(runtime: &Handle, options: &RunOptions) -> Option<(Vec<String>, Value)> {
    let filter = options.explain.as_deref()?;
    // What nobody has waited for is explained as well.
    runtime.wait_idle();
    let report = runtime.report();
    Some((explain::lines(runtime, &report, filter), explain::as_json(runtime, &report)))
}

/// Refuses an option that the sample would not heed.
fn check_options(sample: &Sample, options: &RunOptions) -> Result<(), Failure> {
    let Some(name) = options.given().into_iter().find(|name| sample.options.iter().all(|option| option.name != *name)) else {
        return Ok(());
    };
    let has = match sample.options {
        [] => "it has none".to_owned(),
        options => format!("it has {}", options.iter().map(|option| format!("--{}", option.name)).collect::<Vec<_>>().join(", ")),
    };
    Err(Failure::usage(format_args!("the sample {} has no option --{name}; {has}", sample.name)))
}

/// Checks that an input file can be opened.
fn check_input(path: &Path) -> Result<(), Failure> {
    let failed = |reason: String| Failure::input(format_args!("the input file {} could not be read: {reason}", path.display()));
    let metadata = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if metadata.is_dir() {
        return Err(failed("it is a folder".into()));
    }
    // A pipe would wait for its writer here and then lose it.
    if metadata.is_file() {
        File::open(path).map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

/// Tells the result and has the output written, in the order that the format needs: lines go before the files they announce, JSON after.
///
/// Output is written even if standard output fails, and the other way round; the first failure is returned.
fn tell(
    done: &Done,
    options: &RunOptions,
    console: &mut Console,
    write: impl FnOnce() -> Result<Vec<Written>, OutputError>,
) -> Result<(), Failure> {
    if options.json {
        let written = write();
        let told = console.line(as_json(done, written.as_deref().unwrap_or_default()));
        written?;
        return told;
    }
    let told = tell_lines(done, console);
    let written = write()?;
    told?;
    for file in written {
        console.line(format_args!("wrote {} ({} bytes)", file.path.display(), digits(file.bytes)))?;
    }
    Ok(())
}

/// The result, what ran where, and the check.
fn tell_lines(done: &Done, console: &mut Console) -> Result<(), Failure> {
    for line in &done.lines {
        console.line(line)?;
    }
    console.line(summary(&done.report))?;
    for line in device_lines(&done.report).into_iter().chain(memory_line(&done.report)) {
        console.line(line)?;
    }
    for line in done.explained.iter().flat_map(|(lines, _)| lines) {
        console.line(line)?;
    }
    match &done.check {
        Some(Check { passed: true, text }) => console.line(format_args!("check: {} ({text})", Styled(GOOD, "passed"))),
        Some(Check { passed: false, text }) => console.line(format_args!("check: {} ({text})", Styled(BAD, "FAILED"))),
        None => Ok(()),
    }
}

/// The result as one object. A sample has at most one output file, a graph file any number: `outputs` has them all, `output` the first.
fn as_json(done: &Done, written: &[Written]) -> Value {
    let outputs: Vec<Value> = written.iter().map(|file| json!({ "path": path_text(&file.path), "bytes": file.bytes })).collect();
    json!({
        "sample": done.sample,
        "graph": done.graph.as_deref().map(path_text),
        "values": done.values,
        "check": done.check.as_ref().map(|check| json!({ "passed": check.passed, "text": check.text })),
        "makespan_ns": done.report.makespan_ns,
        "elapsed_ns": u64::try_from(done.elapsed.as_nanos()).unwrap_or(u64::MAX),
        "tasks": task_count(&done.report),
        "processors": processors_json(&done.report),
        "memory": memory_json(&done.report),
        "output": outputs.first(),
        "outputs": outputs,
        "refused": refused_json(&done.report),
        "messages": done.report.messages,
        "explained": done.explained.as_ref().map(|(_, object)| object),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use poniard::TaskError;

    use super::{run_sample, suggestion};
    use crate::console::Console;
    use crate::exit_code::ExitCode;
    use crate::options::{RunOptions, RuntimeOptions};
    use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let names = ["edges", "life", "mandelbrot"];
        assert_eq!(suggestion("edegs", names), Some("edges"));
        assert_eq!(suggestion("mandel", names), Some("mandelbrot"));
        assert_eq!(suggestion("liife", names), Some("life"));
        assert_eq!(suggestion("zzz", names), None);
    }

    const OUTPUT: &[SampleOption] = &[SampleOption { name: "output", meaning: "where to write the word" }];
    /// Each does what its name says. No real sample computes a wrong result.
    static RIGHT: Sample = Sample { name: "right", summary: "", options: OUTPUT, kernels: false, run: |_| Ok(outcome(true, Some("new"))) };
    static WRONG: Sample = Sample { name: "wrong", summary: "", options: OUTPUT, kernels: false, run: |_| Ok(outcome(false, Some("new"))) };
    static MUTE: Sample = Sample { name: "mute", summary: "", options: OUTPUT, kernels: false, run: |_| Ok(outcome(true, None)) };
    static FAILING: Sample = Sample { name: "failing", summary: "", options: OUTPUT, kernels: false, run: |context| Err(failure(context)) };

    fn outcome(passed: bool, output: Option<&str>) -> Outcome {
        let output = output.map(|word| word.as_bytes().to_vec());
        Outcome { lines: Vec::new(), values: Vec::new(), check: Check { passed, text: "a look at it".into() }, output }
    }

    fn failure(context: &Context<'_>) -> SampleError {
        let task = context.runtime.task(|| Err::<u32, _>("out of ideas"), ()).name("think").spawn();
        let error: Result<u32, TaskError> = task.fetch().map(|value| *value);
        error.expect_err("the task fails").into()
    }

    /// Runs `sample` with `--output` over a file that says `old`, on the plugin beside this test; gives the exit code, the error and what the file
    /// says then.
    fn check(sample: &'static Sample, json: bool) -> (ExitCode, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("word");
        fs::write(&file, "old").unwrap();
        let options = RunOptions {
            explain: None,
            target: sample.name.into(),
            size: None,
            tile: None,
            inputs: Vec::new(),
            output: Some(file.clone()),
            seed: None,
            kernel: None,
            generations: None,
            record: None,
            runtime: RuntimeOptions { backends: vec!["threads".into()], ..RuntimeOptions::default() },
            json,
        };
        let (code, text) = match run_sample(sample, &options, &mut Console::unread()) {
            Ok(()) => (ExitCode::Success, String::new()),
            Err(failure) => (failure.code, failure.text),
        };
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something was left behind");
        (code, text.replace(&*folder.path().join(Path::new("")).to_string_lossy(), ""), fs::read_to_string(file).unwrap())
    }

    #[test]
    fn only_a_right_result_is_written() {
        for json in [false, true] {
            assert_eq!(check(&RIGHT, json), (ExitCode::Success, String::new(), "new".into()));
            let (code, text, file) = check(&WRONG, json);
            assert_eq!((code, file.as_str()), (ExitCode::Check, "old"));
            assert_eq!(text, "the result of wrong is wrong: a look at it; word is left as it was");
            let (code, text, file) = check(&MUTE, json);
            assert_eq!((code, file.as_str()), (ExitCode::Output, "old"));
            assert!(text.ends_with("could not be written: mute gave nothing to write"), "{text}");
            let (code, text, file) = check(&FAILING, json);
            assert_eq!((code, file.as_str()), (ExitCode::Task, "old"));
            assert!(text.contains("think") && text.contains("out of ideas"), "{text}");
        }
    }
}
