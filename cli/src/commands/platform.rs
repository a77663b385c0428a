//! `poniard platform`: this machine as a platform that `poniard simulate` runs on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use poniard::model::store::{default_folder, files, read};
use poniard::model::{Kept, KeptCurve, Machine, Summary};
use poniard::{ProcessorReport, Report};
use poniard_scheduler_sim::Platform;

use super::{Devices, build_runtime};
use crate::console::Console;
use crate::failure::Failure;
use crate::options::RuntimeOptions;
use crate::output::OutputFile;
use crate::report::digits;

/// `poniard platform`.
#[derive(Args, Debug)]
pub struct PlatformOptions {
    /// Describe this machine: its threads, worker processes and devices, and what models know of them
    #[arg(long, required = true)]
    pub from_this_machine: bool,

    /// The file to write it to [default: standard output]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,

    /// The folder of the models, if it is another one
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub models: Option<PathBuf>,

    /// Where to compute.
    #[command(flatten)]
    pub runtime: RuntimeOptions,
}

/// Writes the platform.
pub fn platform(options: &PlatformOptions, console: &mut Console) -> Result<(), Failure> {
    let output = options.output.as_deref().map(OutputFile::prepare).transpose()?;
    let runtime = build_runtime(&options.runtime, Devices::Sought)?;
    let kept = kept(options.models.clone())?;
    let text = described(&runtime.report(), kept.as_ref());
    if let Err(error) = Platform::from_toml(&text) {
        unreachable!("what is described here cannot be read: {error}\n{text}");
    }
    match output {
        Some(mut file) if !file.is_stdout() => {
            let bytes = file.fill(text.as_bytes())?;
            let line = format!("wrote {} ({} bytes)", file.path().display(), digits(bytes));
            file.commit()?;
            console.line(line)
        }
        _ => console.bytes(text.as_bytes()),
    }
}

/// What was measured on this machine, if anything was.
fn kept(folder: Option<PathBuf>) -> Result<Option<Kept>, Failure> {
    let Some(folder) = folder.or_else(default_folder) else { return Ok(None) };
    let files = files(&folder).map_err(|error| Failure::input(format_args!("{}: {error}", folder.display())))?;
    let read = files.iter().filter_map(|file| read(file).ok());
    Ok(read.into_iter().find(|kept| kept.machine == Machine::this().as_str()))
}

/// What models call the class of a processor.
fn class(processor: &ProcessorReport) -> String {
    let kind = processor.kind.as_str();
    processor.device.as_ref().map_or_else(|| kind.to_owned(), |device| format!("{kind}:{}", device.name))
}

/// The platform as text.
fn described(report: &Report, kept: Option<&Kept>) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let mut line = |parts: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{parts}");
    };
    line(format_args!("# {}", comment(Machine::this().as_str())));
    match kept {
        Some(kept) => line(format_args!("# with what was measured there, as of generation {}", kept.generation)),
        None => line(format_args!("# nothing was measured there yet: `poniard run` does, where tasks have a choice")),
    }
    // Processors of one class in one memory are one table.
    let mut groups: Vec<(&ProcessorReport, u64)> = Vec::new();
    for processor in report.backends.iter().flat_map(|backend| &backend.processors).filter(|processor| processor.lost.is_none()) {
        let like = groups.iter_mut().find(|(other, _)| class(other) == class(processor) && other.space == processor.space);
        match like {
            Some((_, count)) => *count += 1,
            None => groups.push((processor, 1)),
        }
    }
    let host = groups.iter().find(|(processor, _)| processor.device.is_none()).map(|(processor, _)| class(processor));
    for (processor, count) in &groups {
        let (name, class) = (&processor.name, class(processor));
        let faster = kept.zip(host.as_ref()).filter(|(_, host)| **host != class).and_then(|(kept, host)| speed_up(kept, host, &class));
        line(format_args!("\n[[processor]]  # {}", comment(if *count == 1 { name } else { &class })));
        line(format_args!("kind = {}", word(processor.kind.as_str())));
        line(format_args!("count = {count}"));
        match faster {
            Some((factor, codes)) => line(format_args!("speed = {factor:.4e}  # the geometric mean over {codes} codes that both have run")),
            None if processor.device.is_some() => line(format_args!("speed = 1.0  # not measured")),
            None => line(format_args!("speed = 1.0")),
        }
        line(format_args!("space = {}", word(&processor.space)));
    }
    // Models know the memory of a device by the device's class.
    let spaces: BTreeMap<String, &str> = groups
        .iter()
        .map(|(processor, _)| (if processor.device.is_some() { class(processor) } else { "host".into() }, processor.space.as_str()))
        .collect();
    for ((from, to), curve) in kept.into_iter().flat_map(|kept| &kept.links) {
        let (Some(from), Some(to)) = (spaces.get(&**from), spaces.get(&**to)) else { continue };
        let Some((latency_s, bytes_per_s)) = line_through(curve) else { continue };
        line(format_args!("\n[[between]]"));
        line(format_args!("from = {}\nto = {}", word(from), word(to)));
        line(format_args!("bandwidth = {bytes_per_s:.4e}\nlatency = {latency_s:.4e}"));
    }
    let costs = kept.into_iter().flat_map(|kept| &kept.codes);
    let costs: Vec<String> = costs
        .filter(|((_, on), _)| groups.iter().any(|(processor, _)| class(processor) == on.as_str()))
        .flat_map(|((code, on), curve)| curve.classes.values().map(move |summary| (code, on, summary)))
        .map(|(code, on, Summary { bytes, mean_ns, spread_ns, count, .. })| {
            let what = format!("{} on {}", code.name, on.as_str());
            format!("# {}: {:.4e} s, spread {:.1e} s, at {bytes} bytes, {count} times", comment(&what), mean_ns / 1e9, spread_ns / 1e9)
        })
        .collect();
    if !costs.is_empty() {
        line(format_args!("\n# what code took:\n{}", costs.join("\n")));
    }
    text
}

/// By how much faster one class runs the code that both have run, at the same sizes, and how many codes that are.
fn speed_up(kept: &Kept, slow: &str, fast: &str) -> Option<(f64, usize)> {
    let mut logarithms: Vec<f64> = Vec::new();
    for ((code, class), curve) in kept.codes.iter().filter(|((_, class), _)| class.as_str() == fast) {
        let other = kept.codes.iter().find(|((other, on), _)| other == code && on.as_str() == slow && on != class);
        let Some((_, other)) = other else { continue };
        let ratios: Vec<f64> = curve
            .classes
            .iter()
            .filter_map(|(size, summary)| Some((other.classes.get(size)?.mean_ns / summary.mean_ns).ln()))
            .filter(|ratio| ratio.is_finite())
            .collect();
        if !ratios.is_empty() {
            logarithms.push(ratios.iter().sum::<f64>() / ratios.len() as f64);
        }
    }
    let count = logarithms.len();
    (count > 0).then(|| ((logarithms.iter().sum::<f64>() / count as f64).exp().clamp(1e-6, 1e9), count))
}

/// Latency in seconds and bytes a second: the least relative squares through what was measured.
fn line_through(curve: &KeptCurve) -> Option<(f64, f64)> {
    let points: Vec<(f64, f64)> = curve.classes.values().map(|one| (one.bytes as f64, one.mean_ns)).filter(|(_, ns)| *ns > 0.0).collect();
    let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|(bytes, ns)| of(*bytes, *ns) / (ns * ns)).sum::<f64>();
    let (weight, x, y) = (sum(&|_, _| 1.0), sum(&|x, _| x), sum(&|_, y| y));
    let (xx, xy) = (sum(&|x, _| x * x), sum(&|x, y| x * y));
    let spread = weight * xx - x * x;
    let slope = if spread > 0.0 { (weight * xy - x * y) / spread } else { 0.0 };
    let (_, most) = points.iter().copied().max_by(|one, other| one.0.total_cmp(&other.0)).filter(|(bytes, _)| *bytes > 0.0)?;
    let largest = points.iter().map(|(bytes, _)| *bytes).fold(0.0, f64::max);
    // Where larger ones take no longer there is nothing to see but the largest.
    let byte_ns = if slope > 0.0 { slope } else { most / largest };
    let latency_ns = if slope > 0.0 { ((y - slope * x) / weight).max(0.0) } else { 0.0 };
    Some(((latency_ns / 1e9).min(1e6), 1e9 / byte_ns))
}

/// A text in quotes.
fn word(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A text that stays on its line.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_a_line_through_what_was_measured() {
        let curve = |points: &[(u64, f64)]| {
            let mut curve = KeptCurve::default();
            for (bytes, ns) in points {
                let summary = Summary { bytes: *bytes, mean_ns: *ns, count: 9, ..Summary::default() };
                curve.classes.insert(poniard::model::SizeClass::of(*bytes), summary);
            }
            line_through(&curve)
        };
        let (latency_s, bytes_per_s) = curve(&[(1000, 6_000.0), (10_000, 15_000.0), (1_000_000, 1_005_000.0)]).unwrap();
        assert!((latency_s - 5e-6).abs() < 1e-12 && (bytes_per_s - 1e9).abs() < 1.0, "{latency_s} {bytes_per_s}");
        assert_eq!(curve(&[(1000, 2_000.0)]), Some((0.0, 5e8)));
        assert_eq!((curve(&[]), curve(&[(0, 5.0)])), (None, None));
    }
}
