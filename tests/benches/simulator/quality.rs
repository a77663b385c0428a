//! How long schedules are, as a multiple of those of another program's lookahead planner: the geometric mean over its rows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use poniard::policy::{self, POLICIES};
use poniard_bench::{Effort, System};
use poniard_scheduler_sim::engine::{self, EngineOptions};
use poniard_scheduler_sim::plan::{PLANNERS, planner};
use poniard_scheduler_sim::workload::{ReadOptions, read};
use poniard_scheduler_sim::{Platform, Problem, Workload};

/// A workload with its platform, and the length to compare with, in milliseconds.
type Row = (String, String, f64);

fn rows(folder: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(folder.join("expected/peer-quality.csv")).unwrap_or_default();
    let rows = text.lines().filter_map(|line| {
        // A policy's name may have commas; the last field has not.
        let length = line.rsplit(',').next()?.parse().ok()?;
        let mut fields = line.split(',');
        let (file, on, peer, policy) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (peer == "dslab-dag" && policy.contains("Lookahead")).then(|| (file.to_owned(), on.to_owned(), length))
    });
    rows.collect()
}

fn platform(name: &str) -> Platform {
    let (speeds, bandwidth): (&[f64], f64) = match name {
        "P4F" => (&[1.0, 2.0, 2.0, 4.0], 131_072e3),
        "P4S" | "P4Z" => (&[1.0, 2.0, 2.0, 4.0], 2048e3),
        _ => (&[1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 4.0, 8.0], 4096e3),
    };
    Platform::of_speeds(speeds, Some(bandwidth)).expect("speeds")
}

pub(super) fn systems(_effort: Effort) -> Vec<System<'static>> {
    let named = std::env::var_os("PONIARD_WORKLOADS").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/workloads")));
    let rows = rows(&folder);
    if rows.is_empty() {
        eprintln!("skipped: quality, as {} has no expected/peer-quality.csv", folder.display());
        return Vec::new();
    }
    let planners = PLANNERS.iter().filter(|planner| planner.most_tasks == usize::MAX).map(|planner| planner.name);
    let policies = POLICIES.iter().map(|known| known.name);
    let mut systems = Vec::new();
    for (name, is_live) in planners.map(|name| (name, false)).chain(policies.map(|name| (name, true))) {
        let (rows, folder) = (rows.clone(), folder.clone());
        let note = if is_live { "live; asked: one at 1.05" } else { "asked: one at 1.00" };
        systems.push(System::new(name, note, move || mean(&folder, &rows, name, is_live)));
    }
    systems
}

fn mean(folder: &Path, rows: &[Row], name: &str, is_live: bool) -> f64 {
    let mut workloads: BTreeMap<&str, Workload> = BTreeMap::new();
    let mut sum = 0.0;
    for (file, on, theirs) in rows {
        let workload = workloads
            .entry(file)
            .or_insert_with(|| read(&folder.join(file), ReadOptions { round_to_ms: true, cores: false }).expect("a workload"));
        let problem = Problem::new(workload, &platform(on));
        let schedule = if is_live {
            engine::run(&problem, policy::by_name(name).expect("a policy"), EngineOptions::default()).schedule
        } else {
            (planner(name).expect("a planner").plan)(&problem)
        };
        schedule.check(&problem).expect("a schedule");
        sum += (schedule.makespan_ns() as f64 / 1e6 / theirs).ln();
    }
    (sum / rows.len() as f64).exp()
}
