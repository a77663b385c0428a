//! What other programs have computed for the same graphs. The files are not part of the project: `PONIARD_WORKLOADS` names their folder, else it is looked for beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use poniard_scheduler_sim::network::{Network, Sharing};
use poniard_scheduler_sim::plan::{Dls, Heft, Peft, Slot, dls, heft, peft, planner};
use poniard_scheduler_sim::workload::{Generate, ReadOptions, read};
use poniard_scheduler_sim::{Platform, Problem, Schedule, Workload};

fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("PONIARD_WORKLOADS").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/workloads")));
    let is_there = folder.join("expected/makespans.csv").is_file();
    if !is_there {
        eprintln!("skipped: there are no workloads in {}; PONIARD_WORKLOADS can name another folder", folder.display());
    }
    is_there.then_some(folder)
}

fn platform(name: &str) -> Platform {
    let (speeds, bandwidth): (&[f64], f64) = match name {
        "P4F" => (&[1.0, 2.0, 2.0, 4.0], 131_072e3),
        "P4S" | "P4Z" => (&[1.0, 2.0, 2.0, 4.0], 2048e3),
        "P8S" | "P8Z" => (&[1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 4.0, 8.0], 4096e3),
        other => panic!("no platform is called {other}"),
    };
    Platform::of_speeds(speeds, Some(bandwidth)).expect("speeds")
}

/// The lines of a file behind the first one, cut at commas.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().skip(1).map(|line| line.split(',').collect())
}

/// The plan that is called so in the file.
fn plan(name: &str, problem: &Problem<'_>) -> Schedule {
    let count = problem.processor_count() as u64;
    let named = |name: &str| (planner(name).expect("a planner").plan)(problem);
    // Means over other sets of pairs of processors than that of the paper.
    let with_share = |transfer_share| heft(problem, Heft { transfer_share, ..Heft::PAPER });
    match name {
        "HEFT" => named("heft"),
        "PEFT" => named("peft"),
        "CPOP" => named("cpop"),
        "MinMin-L" => named("min-min"),
        "MaxMin-L" => named("max-min"),
        "Sufferage" => named("sufferage"),
        "HEFT-C1" => with_share((count, count + 1)),
        "HEFT-C2" => with_share((count - 1, count + 1)),
        "PEFT-X" => peft(problem, Peft::Phantom),
        "DLS-C1" => dls(problem, Dls { slot: Slot::Insertion, transfer_share: count as f64 / (count + 1) as f64 }),
        other => panic!("no planner is called {other}"),
    }
}

#[test]
fn planners_agree_with_other_programs() {
    let Some(folder) = folder() else { return };
    let text = std::fs::read_to_string(folder.join("expected/makespans.csv")).unwrap();
    let mut workloads: BTreeMap<&str, Workload> = BTreeMap::new();
    // Of each kind of row how many there are, and how many of them agree.
    let mut counts: BTreeMap<(&str, bool), (u32, u32)> = BTreeMap::new();
    for row in rows(&text) {
        let [file, on, policy, expected, _, tie_free] = row[..] else { panic!("{row:?}") };
        let workload =
            workloads.entry(file).or_insert_with(|| read(&folder.join(file), ReadOptions { round_to_ms: true, cores: false }).unwrap());
        let problem = Problem::new(workload, &platform(on));
        let schedule = plan(policy, &problem);
        schedule.check(&problem).unwrap();
        let (ours, theirs) = (schedule.makespan_ns() as f64 / 1e6, expected.parse::<f64>().unwrap());
        assert!(schedule.makespan_ns() >= problem.lower_bound_ns(), "{file} on {on}: {policy} is below the bound");
        let agrees = (ours - theirs).abs() <= 1e-6 * theirs;
        let is_tie_free = tie_free == "yes";
        let count = counts.entry((policy, is_tie_free)).or_default();
        *count = (count.0 + 1, count.1 + u32::from(agrees));
        if !agrees {
            eprintln!(
                "{file} on {on}: {policy} comes to {ours} ms, and should to {theirs} ms{}",
                if is_tie_free { ", without any tie" } else { "" }
            );
        }
    }
    eprintln!("{counts:#?}");
    let sum = |of_ties: bool| {
        counts.iter().filter(|((_, free), _)| *free != of_ties).fold((0, 0), |sum, (_, count)| (sum.0 + count.0, sum.1 + count.1))
    };
    let (free, agreeing) = sum(false);
    assert_eq!(free, agreeing, "rows without ties");
    let (tied, agreeing) = sum(true);
    assert!(agreeing * 100 >= tied * 95, "{agreeing} of {tied} rows with ties");
}

#[test]
fn no_plan_is_shorter_than_an_optimal_one() {
    let Some(folder) = folder() else { return };
    let text = std::fs::read_to_string(folder.join("expected/stg-optimal.csv")).unwrap();
    for row in rows(&text) {
        let [file, count, optimal, ..] = row[..] else { panic!("{row:?}") };
        let workload = read(&folder.join("stg").join(file), ReadOptions::default()).unwrap();
        let platform = Platform::of_speeds(&vec![1.0; count.parse().unwrap()], None).unwrap();
        let problem = Problem::new(&workload, &platform);
        // Of some graphs nobody knows it.
        let Ok(optimal) = optimal.parse::<u64>() else { continue };
        let optimal_ns = optimal * 1_000_000;
        assert!(problem.lower_bound_ns() <= optimal_ns, "{file} on {count}");
        for name in ["heft", "heft-append", "cpop", "dls", "etf", "mct", "min-min", "max-min", "sufferage", "peft"] {
            let schedule = (planner(name).unwrap().plan)(&problem);
            schedule.check(&problem).unwrap();
            assert!(schedule.makespan_ns() >= optimal_ns, "{file} on {count}: {name}");
        }
    }
}

#[test]
fn transfers_share_links_as_in_another_simulator() {
    let Some(folder) = folder() else { return };
    let text = std::fs::read_to_string(folder.join("expected/maxmin-flows.csv")).unwrap();
    // Of each instance its transfers, and when they are over.
    type Instance<'t> = (&'t str, Vec<[u64; 4]>, Vec<f64>);
    let mut instances: BTreeMap<&str, Instance<'_>> = BTreeMap::new();
    for row in rows(&text) {
        let [instance, _, links, _, from, to, bytes, start, finish] = row[..] else { panic!("{row:?}") };
        let whole = |text: &str| text.parse::<u64>().unwrap();
        let known = instances.entry(instance).or_insert_with(|| (links, Vec::new(), Vec::new()));
        known.1.push([whole(from), whole(to), whole(bytes), whole(start) * 1_000_000_000]);
        known.2.push(finish.parse().unwrap());
    }
    for (instance, (links, flows, finishes)) in instances {
        let mut network = Network::new(Sharing::MaxMin);
        let links: Vec<u32> = links.split('|').map(|speed| network.link(speed.parse().unwrap())).collect();
        let mut ends = vec![0.0; flows.len()];
        let mut order: Vec<usize> = (0..flows.len()).collect();
        order.sort_by_key(|flow| flows[*flow][3]);
        let take = |network: &mut Network, ends: &mut [f64], until_ns: u64| {
            while let Some(at_ns) = network.next_ns().filter(|at_ns| *at_ns <= until_ns) {
                if let Some(flow) = network.pop() {
                    ends[flow as usize] = at_ns as f64 / 1e9;
                }
            }
        };
        for flow in order {
            let [from, to, bytes, start_ns] = flows[flow];
            take(&mut network, &mut ends, start_ns);
            let route = network.route(&[links[from as usize], links[to as usize]], 0);
            network.start(route, bytes, start_ns, flow as u32);
        }
        take(&mut network, &mut ends, u64::MAX);
        for (flow, (ours, theirs)) in ends.into_iter().zip(finishes).enumerate() {
            // They are printed with six digits behind the point.
            assert!((ours - theirs).abs() <= 1e-6 * theirs + 5e-7, "{instance}, {flow}: {ours} s, and should be {theirs} s");
        }
    }
}

/// Tiled Cholesky on measured machines without transfers and overheads. Each task goes where it is expected to end first as soon as it is ready, and what is placed
/// stays: `mct` here, `dm` there.
#[test]
fn measured_machines_take_what_they_do_in_another_simulator() {
    let Some(folder) = folder() else { return };
    let text = std::fs::read_to_string(folder.join("expected/starpu-simgrid-cholesky.csv")).unwrap();
    for row in rows(&text).filter(|row| row[3..5] == ["dm", "ideal"]) {
        let [machine, size, tasks, _, _, _, theirs] = row[..] else { panic!("{row:?}") };
        let measured = std::fs::read_to_string(folder.join(format!("calibrated/{machine}.json"))).unwrap();
        let platform = Platform::from_measurements(&measured).unwrap();
        let workload = Generate::parse(&format!("cholesky:{size},ccr=0")).unwrap().workload();
        assert_eq!(workload.len().to_string(), tasks);
        let problem = Problem::new(&workload, &platform);
        let plan = (planner("mct").unwrap().plan)(&problem);
        plan.check(&problem).unwrap();
        let (ours, theirs) = (plan.makespan_ns() as f64 / 1e6, theirs.parse::<f64>().unwrap());
        eprintln!("{machine}, {size} x {size} tiles: {ours:.1} ms, {:+.2} %", (ours / theirs - 1.0) * 100.0);
        assert!((ours - theirs).abs() <= 0.02 * theirs, "{machine}, {size} x {size} tiles: {ours} ms, and should be {theirs} ms");
    }
}
