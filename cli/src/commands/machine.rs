//! The machine of a simulation: the platform, and what the command line says otherwise.

use poniard_scheduler_sim::network::Sharing;
use poniard_scheduler_sim::{Durations, Estimates, Overheads, Platform, Problem};

use crate::failure::Failure;
use crate::options::{MachineOptions, SimulateOptions};

/// The platform that the command line names.
pub(super) fn platform(options: &SimulateOptions) -> Result<Platform, Failure> {
    let platform = match (&options.platform, &options.speeds) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path).map_err(|error| Failure::input(format_args!("{}: {error}", path.display())))?;
            let is_measured = path.extension().is_some_and(|extension| extension == "json");
            let read = if is_measured { Platform::from_measurements(&text) } else { Platform::from_toml(&text) };
            read.map_err(|error| Failure::input(format_args!("{}: {error}", path.display())))?
        }
        (None, Some(speeds)) => {
            Platform::of_speeds(speeds, options.bandwidth).map_err(|error| Failure::usage(format_args!("--{error}")))?
        }
        (None, None) => return Err(Failure::usage("say what it runs on: --platform FILE or --speeds 1,1,2,4")),
    };
    let MachineOptions { sharing, overheads, no_overheads, .. } = &options.machine;
    let sharing = sharing.unwrap_or(platform.sharing());
    let names: Option<Vec<&str>> =
        if *no_overheads { Some(Vec::new()) } else { overheads.as_ref().map(|names| names.iter().map(String::as_str).collect()) };
    let costs = names
        .map_or(Ok(platform.overheads()), |names| platform.overheads().only(&names))
        .map_err(|name| Failure::usage(format_args!("--overheads: none is called `{name}`; there are {}", Overheads::NAMES.join(", "))))?;
    Ok(platform.with_sharing(sharing).with_overheads(costs))
}

/// The problem with durations and estimates as the command line says.
pub(super) fn uncertain<'w>(problem: Problem<'w>, options: &SimulateOptions) -> Problem<'w> {
    let MachineOptions { durations, estimates, .. } = options.machine;
    problem.uncertain(durations, estimates, options.seed)
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
