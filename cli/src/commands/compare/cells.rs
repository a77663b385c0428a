//! What is to be run: each policy on each workload on each platform with each seed.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use poniard_scheduler_sim::workload::Generate;
use poniard_scheduler_sim::{ENGINE_VERSION, Platform, Problem, Workload};
use siphasher::sip128::{Hasher128, SipHasher24};

use super::CompareOptions;
use crate::commands::decider::Decider;
use crate::commands::machine::{self, MachineSource, quoted};
use crate::commands::search;
use crate::failure::Failure;

/// What stands for the number of each seed in the name of a workload that is made up.
const EACH_SEED: &str = "seed=*";
/// What stands behind a comma in the name of a workload that is made up.
const PARTS: [&str; 3] = ["ccr=", "tile=", "seed="];

/// A workload.
#[derive(Debug)]
pub(super) struct Instance {
    /// As the user has typed it.
    pub(super) name: String,
    pub(super) workload: Workload,
    /// The only seed that it is run with, where each has one of its own.
    seed: Option<u64>,
}

/// A platform.
#[derive(Debug)]
pub(super) struct Machine {
    /// The file, or the speeds.
    pub(super) name: String,
    pub(super) platform: Platform,
    /// The words of the command line.
    words: String,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) policy: usize,
    pub(super) instance: usize,
    pub(super) machine: usize,
    pub(super) seed: u64,
    /// A digest of everything that determines what comes of it.
    pub(super) key: String,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Cells {
    pub(super) deciders: Vec<Decider>,
    /// The index of the one that the others are compared with.
    pub(super) baseline: usize,
    pub(super) instances: Vec<Instance>,
    pub(super) machines: Vec<Machine>,
    /// By workload, platform, seed and policy: what is compared with each other is together.
    pub(super) all: Vec<Cell>,
    /// What is left out, and why.
    pub(super) left_out: Vec<String>,
}

impl Cells {
    /// Reads everything, and sees to it that each policy can do what it is to do.
    pub(super) fn of(options: &CompareOptions) -> Result<Self, Failure> {
        let search = search(&options.plugins)?;
        distinct("--policies", "policy", &options.policies)?;
        let deciders = options
            .policies
            .iter()
            .map(|name| Decider::named(name, options.engine, &search, "--policies"))
            .collect::<Result<Vec<_>, _>>()?;
        let baseline = match &options.baseline {
            None => 0,
            Some(name) => options.policies.iter().position(|policy| policy == name).ok_or_else(|| {
                Failure::usage(format_args!("--baseline: `{name}` is none of the policies {}", options.policies.join(", ")))
            })?,
        };
        let instances = instances(options)?;
        let machines = machines(options)?;
        let mut cells = Self { deciders, baseline, instances, machines, all: Vec::new(), left_out: Vec::new() };
        let able = cells.able(options)?;
        cells.fill(options, &able)?;
        Ok(cells)
    }

    /// Of each workload, platform and policy, in this order, whether the policy can.
    fn able(&mut self, options: &CompareOptions) -> Result<Vec<bool>, Failure> {
        let mut able = Vec::new();
        for instance in &self.instances {
            for machine in &self.machines {
                let problem = Problem::new(&instance.workload, &machine.platform);
                let on = format!("`{}` on `{}`", instance.name, machine.name);
                if let Err(error) = problem.check(&machine.platform) {
                    let reason = format!("{on}: {error}");
                    if !options.skip_unable {
                        return Err(Failure::input(reason));
                    }
                    self.left_out.push(reason);
                    able.extend(self.deciders.iter().map(|_| false));
                    continue;
                }
                for decider in &self.deciders {
                    let checked = decider.check(&problem);
                    able.push(checked.is_ok());
                    if let Err(reason) = checked {
                        let reason = format!("`{}` with {on}: {reason}", decider.name());
                        if !options.skip_unable {
                            return Err(Failure::usage(format_args!("{reason}; --skip-unable leaves it out")));
                        }
                        self.left_out.push(reason);
                    }
                }
            }
        }
        Ok(able)
    }

    fn fill(&mut self, options: &CompareOptions, able: &[bool]) -> Result<(), Failure> {
        let identities: Vec<String> = self.deciders.iter().map(identity).collect::<Result<_, _>>()?;
        let setting = format!("{} {} {:?}", options.machine.durations, options.machine.estimates, options.engine);
        let digests: Vec<u128> = self.instances.iter().map(|instance| digest(|state| instance.workload.hash(state))).collect();
        let mut able = able.iter();
        for (instance, one) in self.instances.iter().enumerate() {
            for (machine, on) in self.machines.iter().enumerate() {
                let able: Vec<bool> = able.by_ref().take(self.deciders.len()).copied().collect();
                // All that there is to a platform, to the last digit.
                let platform = format!("{:?}", on.platform);
                for seed in options.seeds.all.iter().filter(|seed| one.seed.is_none_or(|only| only == **seed)) {
                    for (policy, identity) in identities.iter().enumerate().filter(|(policy, _)| able[*policy]) {
                        let key = digest(|state| {
                            (env!("CARGO_PKG_VERSION"), ENGINE_VERSION).hash(state);
                            (digests[instance], &platform, identity, seed, &setting).hash(state);
                        });
                        self.all.push(Cell { policy, instance, machine, seed: *seed, key: format!("{key:032x}") });
                    }
                }
            }
        }
        Ok(())
    }

    /// What a cell is, in words.
    pub(super) fn describe(&self, cell: &Cell) -> String {
        let (instance, machine) = (&self.instances[cell.instance].name, &self.machines[cell.machine].name);
        format!("`{}` with `{instance}` on `{machine}`, seed {}", self.deciders[cell.policy].name(), cell.seed)
    }

    /// The command that runs one cell.
    pub(super) fn replay(&self, cell: &Cell, options: &CompareOptions) -> String {
        let machine = &self.machines[cell.machine];
        let mut words = vec!["poniard simulate".to_owned(), quoted(&self.instances[cell.instance].name), machine.words.clone()];
        words.extend(machine::run_words(options.engine, options.round_costs, &options.plugins));
        words.extend(machine::words(&options.machine));
        words.push(format!("--policy {} --seed {}", quoted(self.deciders[cell.policy].name()), cell.seed));
        words.join(" ")
    }
}

/// 128 bits that two different things have in common next to never.
fn digest(of: impl FnOnce(&mut SipHasher24)) -> u128 {
    let mut state = SipHasher24::new();
    of(&mut state);
    state.finish128().as_u128()
}

/// Who decides: a plugin file by what is in it.
fn identity(decider: &Decider) -> Result<String, Failure> {
    let Some(file) = decider.file() else { return Ok(decider.identity()) };
    let bytes = std::fs::read(&file).map_err(|error| Failure::input(format_args!("{}: {error}", file.display())))?;
    Ok(format!("{} {:032x}", decider.identity(), digest(|state| state.write(&bytes))))
}

fn distinct(option: &str, what: &str, names: &[impl AsRef<str>]) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    for name in names.iter().map(AsRef::as_ref) {
        if name.is_empty() {
            return Err(Failure::usage(format_args!("{option}: the name of a {what} is empty")));
        }
        if !seen.insert(name) {
            return Err(Failure::usage(format_args!("{option}: the {what} `{name}` is there twice")));
        }
    }
    Ok(())
}

/// The names in a list. A comma separates names, but for those in names of workloads that are made up, and in those of files that are there.
fn names(lists: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for list in lists {
        if Path::new(list).exists() {
            names.push(list.clone());
            continue;
        }
        for part in list.split(',') {
            match names.last_mut() {
                Some(last) if Generate::is_meant(last) && PARTS.iter().any(|name| part.starts_with(name)) => {
                    last.push(',');
                    last.push_str(part);
                }
                _ => names.push(part.to_owned()),
            }
        }
    }
    names
}

fn instances(options: &CompareOptions) -> Result<Vec<Instance>, Failure> {
    let names = names(&options.workloads);
    distinct("--workloads", "workload", &names)?;
    let mut instances = Vec::new();
    for name in names {
        let read = |name: String, seed: Option<u64>| -> Result<Instance, Failure> {
            let workload = machine::workload(Path::new(&name), options.round_costs, false)?;
            Ok(Instance { name, workload, seed })
        };
        if Generate::is_meant(&name) && name.split(',').any(|part| part == EACH_SEED) {
            for seed in &options.seeds.all {
                instances.push(read(name.replace(EACH_SEED, &format!("seed={seed}")), Some(*seed))?);
            }
        } else {
            instances.push(read(name, None)?);
        }
    }
    let typed: Vec<&str> = instances.iter().map(|instance| instance.name.as_str()).collect();
    distinct("--workloads", "workload", &typed)?;
    Ok(instances)
}

fn machines(options: &CompareOptions) -> Result<Vec<Machine>, Failure> {
    let files: Vec<String> = options.platforms.iter().map(|path| path.display().to_string()).collect();
    distinct("--platforms", "platform", &files)?;
    let source = |platform: Option<&'_ PathBuf>| -> Result<Machine, Failure> {
        let source =
            MachineSource { platform: platform.map(PathBuf::as_path), speeds: options.speeds.as_deref(), bandwidth: options.bandwidth };
        let words = machine::source_words(&source).join(" ");
        let name = platform.map_or_else(|| words.clone(), |path| path.display().to_string());
        Ok(Machine { name, platform: machine::platform(&source, &options.machine)?, words })
    };
    match options.platforms.is_empty() {
        true => Ok(vec![source(None)?]),
        false => options.platforms.iter().map(|path| source(Some(path))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn commas_separate_workloads_but_not_what_belongs_to_one() {
        let lists = ["a.json,cholesky:8,ccr=1,seed=*,b.stg", "random:5,tile=3", "ccr=1"].map(str::to_owned);
        assert_eq!(names(&lists), ["a.json", "cholesky:8,ccr=1,seed=*", "b.stg", "random:5,tile=3,ccr=1"]);
        assert_eq!(names(&["a.json,ccr=1".to_owned()]), ["a.json", "ccr=1"]);
    }
}
