//! What the engine makes of machines: links that are shared, memories that are full, overheads, plans, and whatever a seed comes to.

use poniard::policy::{self, POLICIES, Random};

use super::*;
use crate::plan::PLANNERS;
use crate::uncertainty::{Durations, Estimates};
use crate::workload::Generate;
use crate::{Platform, Workload, WorkloadBuilder};

const MS: u64 = 1_000_000;

fn platform(text: &str) -> Platform {
    Platform::from_toml(text).unwrap()
}

/// Tasks of so many milliseconds that only processors of these kinds run, and edges of so many megabytes.
fn workload(tasks: &[(&str, u64)], edges: &[(usize, usize, u64)]) -> Workload {
    let mut builder = WorkloadBuilder::new("w");
    for (number, (code, ms)) in tasks.iter().enumerate() {
        builder.task(&format!("t{number}"), code, ms * MS);
    }
    edges.iter().for_each(|&(from, to, megabytes)| builder.edge(from, to, megabytes * 1_000_000));
    builder.build().unwrap()
}

/// `a` runs on the host and `b` on the device, each for a millisecond; a megabyte takes one.
const TWO: &str = "[link]\nbandwidth = 1e9\n[[processor]]\nspace = 'host'\n[[processor]]\nkind = 'gpu'\n\
    [[cost]]\ncode = 'a'\nkind = 'cpu'\nmean = 1e-3\n[[cost]]\ncode = 'b'\nkind = 'gpu'\nmean = 1e-3\n";

fn run_on(workload: &Workload, text: &str) -> (Vec<u64>, Outcome) {
    let platform = platform(&format!("{TWO}{text}"));
    let problem = Problem::new(workload, &platform);
    problem.check(&platform).unwrap();
    let outcome =
        run(&problem, policy::by_name("fifo").unwrap(), EngineOptions { seed: 0, keeps_decisions: true, ..EngineOptions::default() });
    assert_eq!(outcome.transfers.iter().map(|transfer| transfer.bytes).sum::<u64>(), outcome.moved_bytes);
    outcome.schedule.check(&problem).unwrap();
    (outcome.schedule.start_ns.iter().map(|ns| ns / MS).collect(), outcome)
}

#[test]
fn what_two_tasks_need_is_brought_once() {
    let graph = workload(&[("a", 0), ("b", 0), ("b", 0)], &[(0, 1, 10), (0, 2, 10)]);
    for sharing in ["none", "max-min", "queue"] {
        let (starts, outcome) = run_on(&graph, &format!("[network]\nsharing = '{sharing}'"));
        assert_eq!((starts, outcome.moved_bytes), (vec![0, 11, 12], 10_000_000), "{sharing}");
        let transfer = Transfer { task: 0, from: 0, to: 1, bytes: 10_000_000, start_ns: MS, end_ns: 11 * MS };
        assert_eq!(outcome.transfers, [transfer], "{sharing}");
    }
    // Other numbers of bytes are other blocks.
    let (starts, outcome) = run_on(&workload(&[("a", 0), ("b", 0), ("b", 0)], &[(0, 1, 10), (0, 2, 11)]), "");
    assert_eq!((starts, outcome.moved_bytes), (vec![0, 11, 23], 21_000_000));
}

#[test]
fn transfers_share_a_link_or_wait_for_it() {
    // Two blocks for one task go at the same time.
    let graph = workload(&[("a", 0), ("a", 0), ("b", 0)], &[(0, 2, 10), (1, 2, 10)]);
    let start = |text: &str| run_on(&graph, text).0[2];
    assert_eq!(start(""), 12);
    assert_eq!(["max-min", "queue"].map(|sharing| start(&format!("[network]\nsharing = '{sharing}'"))), [22, 22]);
    let link = "[[network.link]]\nname = 'bus'\nspace = 'gpu-0'\nbandwidth = 2e9\nlatency = 1e-3\n";
    assert_eq!(start(link), 8);
    assert_eq!(["max-min", "queue"].map(|sharing| start(&format!("[network]\nsharing = '{sharing}'\n{link}"))), [13, 14]);
}

#[test]
fn both_directions_of_a_link_are_one_where_it_says_so() {
    let graph = workload(&[("a", 0), ("b", 0), ("a", 0), ("b", 0)], &[(0, 3, 10), (1, 2, 10)]);
    let ends = |duplex: &str| {
        let text = format!(
            "[network]\nsharing = 'max-min'\n[[network.link]]\nname = 'bus'\nspace = 'gpu-0'\nbandwidth = 1e9\nduplex = '{duplex}'"
        );
        run_on(&graph, &text).0
    };
    assert_eq!(ends("full"), [0, 0, 11, 11]);
    assert_eq!(ends("half"), [0, 0, 21, 21]);
}

#[test]
fn memory_that_is_full_gives_way_and_what_is_only_there_is_written_back() {
    // The device holds what one task takes and returns. What the first two return is needed at the end: the first is written back, and both come to the host.
    let graph = workload(&[("b", 0), ("b", 0), ("b", 0), ("a", 0)], &[(0, 3, 10), (1, 3, 10), (2, 3, 10)]);
    let (starts, outcome) = run_on(&graph, "[[space]]\nname = 'gpu-0'\nmemory = 10e6");
    assert_eq!(starts, [0, 11, 22, 33]);
    assert_eq!(outcome.moved_bytes, 30_000_000);
    let (starts, _) = run_on(&graph, "[[space]]\nname = 'gpu-0'\nmemory = 20e6");
    assert_eq!(starts, [0, 1, 12, 23]);
    let problem = platform(&format!("{TWO}[[space]]\nname = 'gpu-0'\nmemory = 9e6"));
    let error = Problem::new(&graph, &problem).check(&problem).unwrap_err().to_string();
    assert_eq!(
        error,
        "no processor can run task `t0` (`b`) with the 10000000 bytes that it takes and returns; there are processors of kind cpu, gpu"
    );
}

#[test]
fn a_replica_that_was_used_longest_ago_goes_first() {
    // Blocks 0 and 1 are on the device when the third needs room there; 1 and 2 are used again before 0 is.
    let graph = workload(
        &[("a", 0), ("a", 0), ("a", 0), ("b", 0), ("b", 0), ("b", 0), ("b", 0), ("b", 0), ("b", 0)],
        &[(0, 3, 10), (1, 4, 10), (2, 5, 10), (1, 6, 10), (2, 7, 10), (0, 8, 10), (3, 4, 0), (4, 5, 0), (5, 6, 0), (6, 7, 0), (7, 8, 0)],
    );
    let (starts, outcome) = run_on(&graph, "[network]\nsharing = 'queue'\n[[space]]\nname = 'gpu-0'\nmemory = 20e6");
    assert_eq!(outcome.moved_bytes, 40_000_000, "{starts:?}");
}

#[test]
fn overheads_are_where_they_belong() {
    let graph = workload(&[("a", 0), ("b", 0)], &[(0, 1, 10)]);
    let start = |text: &str| run_on(&graph, &format!("[overheads]\n{text}")).0;
    assert_eq!(start(""), [0, 11]);
    // What is not submitted is not placed, and nothing is sent ahead.
    assert_eq!(start("submit = 5e-3"), [5, 20]);
    // The data is on its way while the device is told.
    assert_eq!(start("dispatch = 3e-3"), [3, 14]);
    assert_eq!(start("launch = 3e-3"), [0, 14]);
    assert_eq!(start("hop = 3e-3"), [0, 11]);
    assert_eq!(start("allocation = 3e-3"), [3, 17]);
    let all = Overheads { submit_ns: 1, dispatch_ns: 2, hop_ns: 3, launch_ns: 4, allocation_ns: 5 };
    assert_eq!(all.only(&["hop", "dispatch"]), Ok(Overheads { dispatch_ns: 2, hop_ns: 3, ..Overheads::default() }));
    assert_eq!(all.only(&["hops"]), Err("hops"));
}

#[test]
fn a_plan_takes_what_it_was_planned_to_take() {
    for text in ["random:60,ccr=2", "layered:80,ccr=1", "cholesky:5,ccr=0.5", "fork-join:40,ccr=3", "independent:30"] {
        let workload = Generate::parse(text).unwrap().workload();
        let platform = Platform::of_speeds(&[1.0, 2.0, 2.0, 5.0], Some(1e9)).unwrap();
        let problem = Problem::new(&workload, &platform);
        for planner in PLANNERS.into_iter().filter(|planner| planner.check(problem.len()).is_ok()) {
            let plan = (planner.plan)(&problem);
            let outcome = run_plan(&problem, &plan, EngineOptions::default());
            outcome.schedule.check(&problem).unwrap();
            // Some planners know nothing of blocks that two tasks share, and send them twice.
            assert!(outcome.schedule.makespan_ns() <= plan.makespan_ns(), "{text}: {}", planner.name);
            if !text.starts_with("cholesky") {
                assert_eq!(outcome.schedule, plan, "{text}: {}", planner.name);
            }
        }
    }
}

/// A machine by lot.
fn machine(random: &mut Random) -> Platform {
    let mut text = String::from("[link]\nbandwidth = 1e9\nlatency = 1e-5\n[[processor]]\nspace = 'host'\n");
    text += &format!("count = {}\n", 1 + random.below(3));
    for gpu in 0..random.below(4) {
        text += &format!("[[processor]]\nkind = 'gpu'\nspeed = {}\nprocess = {}\n", 1 + random.below(8), gpu % 2);
    }
    let gpus = text.matches("gpu").count();
    text += &format!("[network]\nsharing = '{}'\n", Sharing::ALL[random.below(3)].0);
    for gpu in (0..gpus).filter(|gpu| gpu % 2 == 0) {
        text += &format!("[[network.link]]\nname = 'bus-{gpu}'\nspace = 'gpu-{gpu}'\nbandwidth = 5e8\nduplex = 'half'\n");
    }
    if random.below(2) == 0 {
        for gpu in 0..gpus {
            text += &format!("[[space]]\nname = 'gpu-{gpu}'\nmemory = {}e6\n", 200 + random.below(300));
        }
    }
    if random.below(2) == 0 {
        text += "[overheads]\nsubmit = 1e-6\ndispatch = 2e-6\nhop = 5e-6\nlaunch = 1e-5\nallocation = 1e-6\n";
    }
    platform(&text)
}

/// In debug builds the engine looks between events whether more memory is used than there is, and whether a processor is idle that need not be.
#[test]
fn whatever_the_seed_all_tasks_run_once_in_order_and_the_same_way_again() {
    for seed in 0..300 {
        let random = &mut Random::new(seed);
        let shape = ["random:40", "layered:40", "cholesky:5", "fork-join:30", "stencil:6", "lu:3"][random.below(6)];
        let workload = Generate::parse(&format!("{shape},ccr={},seed={seed}", [0.0, 0.2, 1.0][random.below(3)])).unwrap().workload();
        let platform = machine(random);
        let durations = [Durations::Exact, Durations::Lognormal(0.5), Durations::Sampled, Durations::Scaled(3.0)][random.below(4)];
        let estimates = [Estimates::Exact, Estimates::Mean, Estimates::User, Estimates::Wrong(3.0), Estimates::Blind][random.below(5)];
        let problem = Problem::new(&workload, &platform);
        problem.check(&platform).unwrap();
        let problem = problem.uncertain(durations, estimates, seed);
        let options = EngineOptions { seed, keeps_decisions: true, ..EngineOptions::default() };
        let again = POLICIES[random.below(POLICIES.len())].name;
        for known in POLICIES {
            let outcome = run(&problem, (known.make)(), options);
            outcome.schedule.check(&problem).unwrap_or_else(|fault| panic!("seed {seed}, {}: {fault}", known.name));
            if known.name == again {
                let second = run(&problem, (known.make)(), options);
                assert_eq!((&outcome.schedule, &outcome.decisions), (&second.schedule, &second.decisions), "seed {seed}, {again}");
            }
        }
        let planners: Vec<_> = PLANNERS.into_iter().filter(|planner| planner.check(problem.len()).is_ok()).collect();
        let plan = (planners[random.below(planners.len())].plan)(&problem);
        run_plan(&problem, &plan, options).schedule.check(&problem).unwrap();
    }
}

#[test]
fn durations_and_estimates_are_what_they_say() {
    let workload = workload(&[("a", 10), ("a", 30), ("b", 5)], &[]);
    let platform = platform("[[processor]]\n[[processor]]\nspeed = 2\n");
    let row = |durations: &str, estimates: &str| {
        let problem = Problem::new(&workload, &platform).uncertain(durations.parse().unwrap(), estimates.parse().unwrap(), 3);
        let believed: Vec<u64> = (0..3).map(|task| problem.cost_ns(task, 1) / 1000).collect();
        (believed, (0..3).map(|task| problem.duration_ns(task, 1) / 1000).collect::<Vec<u64>>())
    };
    let written = vec![5000, 15_000, 2500];
    assert_eq!(row("exact", "exact"), (written.clone(), written.clone()));
    assert_eq!(row("scaled:2", "user"), (written.clone(), vec![10_000, 30_000, 5000]));
    assert_eq!(row("scaled:2", "mean"), (vec![20_000, 20_000, 5000], vec![10_000, 30_000, 5000]));
    // The mean of 10, 30 and 5 ms, and of half of each.
    assert_eq!(row("exact", "blind").0, vec![11_250; 3]);
    let (believed, drawn) = row("lognormal:0.3", "exact");
    assert!(believed == drawn && drawn != written);
    assert_eq!(row("lognormal:0.3", "user"), (written.clone(), drawn));
    let (believed, drawn) = row("exact", "wrong:2");
    assert!(drawn == written && believed.iter().zip(&written).all(|(is, was)| is != was && *is <= 2 * was + 1 && *was <= 2 * is + 1));
    assert!(row("sampled", "user").1[..2].iter().all(|us| [5000, 15_000].contains(us)));
    // Nothing is known of the spread.
    assert_eq!(row("measured", "exact").1, written);
}
