//! The machine of a simulation: the platform, and what the command line says otherwise; and the workload.

use std::path::{Path, PathBuf};

use poniard_scheduler_sim::network::Sharing;
use poniard_scheduler_sim::workload::{Generate, ReadOptions, read};
use poniard_scheduler_sim::{Durations, Estimates, Overheads, Platform, Problem, Workload};

use super::room;
use crate::failure::Failure;
use crate::options::{MachineOptions, RoundCosts, SimEngine};

/// Where the platform comes from.
#[derive(Clone, Debug)]
pub(crate) struct MachineSource<'a> {
    pub(crate) platform: Option<&'a Path>,
    pub(crate) speeds: Option<&'a [f64]>,
    pub(crate) bandwidth: Option<f64>,
}

/// The platform that the command line names.
pub(super) fn platform(source: &MachineSource<'_>, options: &MachineOptions) -> Result<Platform, Failure> {
    let platform = match (source.platform, source.speeds) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path).map_err(|error| Failure::input(format_args!("{}: {error}", path.display())))?;
            let is_measured = path.extension().is_some_and(|extension| extension == "json");
            let read = if is_measured { Platform::from_measurements(&text) } else { Platform::from_toml(&text) };
            read.map_err(|error| Failure::input(format_args!("{}: {error}", path.display())))?
        }
        (None, Some(speeds)) => Platform::of_speeds(speeds, source.bandwidth).map_err(|error| Failure::usage(format_args!("--{error}")))?,
        (None, None) => return Err(Failure::usage("say what it runs on: --platform FILE or --speeds 1,1,2,4")),
    };
    let MachineOptions { sharing, overheads, no_overheads, .. } = options;
    let sharing = sharing.unwrap_or(platform.sharing());
    let names: Option<Vec<&str>> =
        if *no_overheads { Some(Vec::new()) } else { overheads.as_ref().map(|names| names.iter().map(String::as_str).collect()) };
    let costs = names
        .map_or(Ok(platform.overheads()), |names| platform.overheads().only(&names))
        .map_err(|name| Failure::usage(format_args!("--overheads: none is called `{name}`; there are {}", Overheads::NAMES.join(", "))))?;
    Ok(platform.with_sharing(sharing).with_overheads(costs))
}

/// The problem with durations and estimates as the command line says.
pub(super) fn uncertain<'w>(problem: Problem<'w>, options: &MachineOptions, seed: u64) -> Problem<'w> {
    problem.uncertain(options.durations, options.estimates, seed)
}

/// The workload of a file, or one that is made up.
pub(super) fn workload(name: &Path, round_costs: Option<RoundCosts>, cores: bool) -> Result<Workload, Failure> {
    let round_to_ms = round_costs == Some(RoundCosts::Ms);
    match name.to_str().filter(|text| Generate::is_meant(text)) {
        Some(text) => {
            let generate = Generate::parse(text).map_err(Failure::usage)?;
            room::check(text, generate.bytes_estimate())?;
            Ok(generate.workload())
        }
        None => read(name, ReadOptions { round_to_ms, cores }).map_err(Failure::input),
    }
}

/// The words of the command line that say where the platform comes from.
pub(super) fn source_words(source: &MachineSource<'_>) -> Vec<String> {
    let mut words: Vec<String> =
        source.platform.map(|path| format!("--platform {}", quoted(&path.display().to_string()))).into_iter().collect();
    let speeds = source.speeds.map(|speeds| speeds.iter().map(f64::to_string).collect::<Vec<_>>().join(","));
    words.extend(speeds.map(|speeds| format!("--speeds {speeds}")));
    words.extend(source.bandwidth.map(|bandwidth| format!("--bandwidth {bandwidth}")));
    words
}

/// The words that say what runs, besides.
pub(super) fn run_words(engine: SimEngine, round_costs: Option<RoundCosts>, plugins: &[PathBuf]) -> Vec<String> {
    let mut words: Vec<String> = round_costs.map(|_| "--round-costs ms".to_owned()).into_iter().collect();
    words.extend((engine == SimEngine::Runtime).then(|| "--engine runtime".to_owned()));
    words.extend(plugins.iter().map(|path| format!("--plugin {}", quoted(&path.display().to_string()))));
    words
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:,=+@".contains(c));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// The words of the command line that say so.
pub(super) fn words(options: &MachineOptions) -> Vec<String> {
    let mut words = Vec::new();
    if options.durations != Durations::Exact {
        words.push(format!("--durations {}", options.durations));
    }
    if options.estimates != Estimates::Exact {
        words.push(format!("--estimates {}", options.estimates));
    }
    let name = options.sharing.and_then(|sharing| Sharing::ALL.into_iter().find(|(_, known)| *known == sharing));
    words.extend(name.map(|(name, _)| format!("--sharing {name}")));
    words.extend(options.overheads.as_ref().map(|names| format!("--overheads {}", names.join(","))));
    words.extend(options.no_overheads.then(|| "--no-overheads".to_owned()));
    words
}
