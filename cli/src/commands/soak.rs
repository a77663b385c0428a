//! `poniard simulate --soak`: the runtime in many worlds in which things go wrong.

use poniard_scheduler_sim::world::{Found, ScenarioOptions, Soaked, soak};
use serde_json::{Value, json};

use crate::console::{Console, NAME, QUIET, Styled};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::options::{SoakFaults, SoakOptions};
use crate::progress::ProgressLine;
use crate::report::{counted, digits};
use crate::sample::Progress;

/// Plays scenarios until one goes wrong in a way that it should not.
pub fn play(options: &SoakOptions, seed: u64, is_json: bool, console: &mut Console) -> Result<(), Failure> {
    let SoakFaults { text, least, kinds } = &options.soak_faults;
    let scenario = ScenarioOptions { tasks: options.soak_tasks, workers: options.soak_workers, faults: *least, kinds: *kinds };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let soaked = {
        let line = ProgressLine::begin("soak", !is_json);
        soak(seed, options.seeds, scenario, threads, |played| line.advance(played, options.seeds))
    };
    let replay = |seed: u64| {
        let ScenarioOptions { tasks, workers, .. } = scenario;
        format!("poniard simulate --soak --seed {seed} --seeds 1 --soak-tasks {tasks} --soak-workers {workers} --soak-faults {text}")
    };
    if is_json {
        console.line(told(&soaked, replay))?;
    } else {
        let Soaked { scenarios, tasks, attempts, launches, repeats, events, faults, policies, .. } = &soaked;
        console.line(format_args!(
            "{}: {}, {}, {}, {}",
            Styled(NAME, "soak"),
            counted(*scenarios, "scenario"),
            counted(*tasks, "task"),
            counted(*attempts, "attempt"),
            counted(*events, "event")
        ))?;
        console.line(format_args!(
            "on devices                    {}, {} computed again",
            counted(*launches, "launch"),
            digits(*repeats)
        ))?;
        let list = |counts: Vec<(&str, u64)>| {
            counts.into_iter().map(|(name, count)| format!("{name} {}", digits(count))).collect::<Vec<_>>().join(", ")
        };
        console
            .line(format_args!("what went wrong by intention  {}", list(faults.iter().map(|(name, count)| (*name, *count)).collect())))?;
        console.line(format_args!(
            "policies                      {}",
            list(policies.iter().map(|(name, count)| (name.as_str(), *count)).collect())
        ))?;
        if let Some(found) = &soaked.found {
            console.line(format_args!(
                "\nthe least scenario in which the same is wrong, after {}:",
                counted(found.shrunk.runs.into(), "run")
            ))?;
            console.line(found.shrunk.script.to_string().trim_end())?;
            console.line(found.shrunk.failure.to_string())?;
            console.line(Styled(QUIET, format_args!("replay {}", replay(found.seed))))?;
        }
    }
    match soaked.found {
        Some(found) => Err(Failure::new(ExitCode::Task, format_args!("scenario {}: {}", found.seed, found.text))),
        None => Ok(()),
    }
}

fn told(soaked: &Soaked, replay: impl Fn(u64) -> String) -> Value {
    let found = soaked.found.as_ref().map(|Found { seed, text, shrunk }| {
        json!({
            "seed": seed,
            "failure": text,
            "least": { "failure": shrunk.failure.to_string(), "tasks": shrunk.script.tasks.len(), "script": shrunk.script.to_string(), "runs": shrunk.runs },
            "replay": replay(*seed),
        })
    });
    json!({
        "scenarios": soaked.scenarios,
        "tasks": soaked.tasks,
        "attempts": soaked.attempts,
        "launches": soaked.launches,
        "repeats": soaked.repeats,
        "events": soaked.events,
        "faults": soaked.faults,
        "policies": soaked.policies,
        "found": found,
    })
}
