//! Streams by hand, and many by lot.

use poniard::policy::{POLICIES, by_name};

use super::*;
use crate::engine::{EngineOptions, Outcome, run_stream};
use crate::platform::Platform;
use crate::workload::Generate;

/// Tasks of so many nanoseconds one after the other.
fn chain(name: &str, works: &[u64]) -> Workload {
    let mut builder = WorkloadBuilder::new(name);
    for (task, work) in works.iter().enumerate() {
        builder.task(&task.to_string(), name, *work);
        if task > 0 {
            builder.edge(task - 1, task, 0);
        }
    }
    builder.build().unwrap()
}

/// Arrivals: nanoseconds, workload, priority, patience in nanoseconds.
fn trace(rows: &[(u64, usize, i32, Option<u64>)]) -> Arrivals {
    let rows = rows.iter().map(|&(arrival_ns, workload, priority, patience_ns)| TraceRow {
        arrival_ns,
        workload: Some(workload),
        priority: Some(priority),
        patience_ns,
    });
    Arrivals::Trace(rows.collect())
}

fn ran(stream: &Stream, platform: &Platform, policy: &str, seed: u64) -> (Outcome, Fates) {
    let problem = Problem::new(stream.workload(), platform).released(stream.releases_ns());
    let outcome =
        run_stream(&problem, stream, by_name(policy).unwrap(), EngineOptions { seed, keeps_decisions: true, ..EngineOptions::default() });
    let fates = stream.fates(&problem, &outcome.schedule, &outcome.cancelled);
    // What ran is a schedule of its own.
    let kept: Vec<u32> = (0..problem.len() as u32).filter(|task| outcome.schedule.processor[*task as usize] != u32::MAX).collect();
    let part = stream.workload().only(&kept);
    assert_eq!(outcome.schedule.only(&kept).check(&problem.only(&part, &kept)), Ok(()), "{policy}");
    (outcome, fates)
}

/// ```text
/// at 0     first   10, then 10
/// at 5     second  10, then 10     more urgent
/// at 12    third   10, then 10     cancelled at 32
/// one processor: first 0-10, second 10-30, third 30-40 as its longest way is longer, first 40-50
/// ```
#[test]
fn graphs_begin_when_they_arrive_the_urgent_first_and_not_when_they_are_cancelled() {
    let workloads = [chain("a", &[10, 10])];
    let arrivals = trace(&[(12, 0, 0, Some(20)), (0, 0, 0, None), (5, 0, 3, None)]);
    let stream = Stream::new(&workloads, &arrivals, &StreamOptions::default()).unwrap();
    let platform = Platform::of_speeds(&[1.0], None).unwrap();
    let (outcome, fates) = ran(&stream, &platform, "priority", 0);
    assert_eq!(outcome.schedule.start_ns, [0, 40, 10, 20, 30, 0]);
    assert_eq!(outcome.schedule.processor, [0, 0, 0, 0, 0, u32::MAX]);
    assert_eq!(outcome.cancelled, [2]);
    let fate = |response_ns, ran, worked_ns| Fate { alone_ns: 20, response_ns, ran, worked_ns };
    assert_eq!(fates.0, [fate(Some(50), 2, 20), fate(Some(25), 2, 20), fate(None, 1, 10)]);
    // Slowdowns of 2.5 and 1.25.
    assert_eq!(fates.slowdown(), Some(Spread { mean: 1.875, median: 2.5, percentile_95: 2.5, most: 2.5 }));
    assert!((fates.fairness().unwrap() - 3.75 * 3.75 / (2.0 * (6.25 + 1.5625))).abs() < 1e-12);
    // What has begun went on to its end, for nothing.
    assert_eq!(fates.wasted_ns(), 10);
    let stream = Stream::new(&workloads, &trace(&[(0, 0, 0, Some(4))]), &StreamOptions::default()).unwrap();
    let (outcome, fates) = ran(&stream, &platform, "fifo", 0);
    assert_eq!((outcome.schedule.end_ns[0], outcome.cancelled), (10, vec![0]));
    assert_eq!((fates.response_ns(), fates.slowdown(), fates.fairness()), (None, None, None));
}

#[test]
fn submitting_takes_its_time_from_when_a_graph_arrives_on_and_what_is_cancelled_is_not_submitted() {
    let platform = Platform::from_toml("[overheads]\nsubmit = 3e-9\n[[processor]]\n").unwrap();
    let arrivals = trace(&[(0, 0, 0, Some(2)), (1, 0, 0, None), (50, 0, 0, None)]);
    let stream = Stream::new(&[chain("a", &[10, 10])], &arrivals, &StreamOptions::default()).unwrap();
    let (outcome, _) = ran(&stream, &platform, "fifo", 0);
    // The first task of the first graph was about to be submitted when that was cancelled.
    assert_eq!((outcome.cancelled, outcome.schedule.start_ns), (vec![0], vec![0, 0, 6, 16, 53, 63]));
}

/// Graphs of two shapes that come faster than the machine works, under all policies: where data is everywhere, travels, shares links, and finds no memory.
#[test]
fn every_graph_is_over_or_cancelled_and_nothing_of_it_begins_after_that() {
    let platforms = [
        "[[processor]]\ncount = 3\n",
        "[link]\nbandwidth = 1e9\n[[processor]]\ncount = 2\n[[processor]]\nkind = 'gpu'\nspeed = 4\n[overheads]\nsubmit = 1e-4\nlaunch = 1e-3\n",
        "[[processor]]\nspace = 'host'\ncount = 2\n[[processor]]\nkind = 'gpu'\nspeed = 4\n[[space]]\nname = 'gpu-0'\nmemory = 60e6\n\
         [network]\nsharing = 'max-min'\n[[network.link]]\nname = 'bus'\nspace = 'gpu-0'\nbandwidth = 1e9\nlatency = 1e-5\n",
    ];
    let workloads = ["cholesky:4,ccr=0.5", "layered:30,ccr=0.2"].map(|text| Generate::parse(text).unwrap().workload());
    let arrivals = Arrivals::Poisson { rate_per_s: 5.0 };
    let (mut cancelled, mut over) = (0, 0);
    for (platform, seed) in platforms.iter().flat_map(|platform| (0..3).map(move |seed| (platform, seed))) {
        let platform = Platform::from_toml(platform).unwrap();
        let options = StreamOptions { graph_count: 12, priorities: vec![-1, 0, 5], patience_ns: Some(1_500_000_000), seed };
        let stream = Stream::new(&workloads, &arrivals, &options).unwrap();
        for policy in POLICIES.map(|known| known.name) {
            let (outcome, fates) = ran(&stream, &platform, policy, seed);
            for ((graph, fate), number) in stream.graphs().iter().zip(&fates.0).zip(0..) {
                let is_cancelled = outcome.cancelled.contains(&number);
                assert_eq!(fate.response_ns.is_none(), is_cancelled, "{policy} {seed}");
                let cancel_ns = graph.cancel_ns.unwrap();
                if is_cancelled {
                    cancelled += 1;
                } else {
                    over += 1;
                    assert_eq!(fate.ran, graph.tasks.len(), "{policy} {seed}");
                    assert!(fate.response_ns.unwrap() <= 1_500_000_000, "{policy} {seed}");
                    assert!(fate.slowdown().unwrap() >= 1.0, "{policy} {seed}: {fate:?}");
                }
                for decided in outcome.decisions.iter().filter(|decided| graph.tasks.contains(&(decided.task as usize))) {
                    assert!((graph.arrival_ns..=cancel_ns).contains(&decided.at_ns), "{policy} {seed}: {decided:?}");
                }
            }
            let again = ran(&stream, &platform, policy, seed).0;
            assert_eq!((again.schedule, again.cancelled), (outcome.schedule, outcome.cancelled), "{policy} {seed}");
        }
    }
    assert!(cancelled > 100 && over > 100, "{cancelled} cancelled, {over} over");
}

#[test]
fn arrivals_come_as_often_as_they_should_and_by_the_seed() {
    let times = |arrivals: &Arrivals, seed| arrivals.times_ns(20_000, &mut Random::new(seed));
    let poisson: Arrivals = "poisson:rate=50".parse().unwrap();
    let gaps: Vec<f64> = times(&poisson, 1).windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e9).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
    assert!((mean - 0.02).abs() < 0.001 && (deviation - 0.02).abs() < 0.001, "{mean}, {deviation}");
    assert_eq!(times(&poisson, 7), times(&poisson, 7));
    assert_ne!(times(&poisson, 7), times(&poisson, 8));
    let periodic: Arrivals = "periodic:every=0.5".parse().unwrap();
    assert_eq!(periodic.times_ns(3, &mut Random::new(0)), [0, 500_000_000, 1_000_000_000]);
    // Both workloads and all priorities come, whatever else is said.
    let workloads = [chain("a", &[1]), chain("b", &[2])];
    let options = StreamOptions { graph_count: 100, priorities: vec![1, 2], patience_ns: None, seed: 3 };
    let stream = Stream::new(&workloads, &poisson, &options).unwrap();
    for (workload, priority) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
        let is_meant = |graph: &&StreamGraph| (graph.workload, graph.priority) == (workload, priority);
        assert!(stream.graphs().iter().filter(is_meant).count() > 10, "{workload} {priority}");
    }
    let plain = Stream::new(&workloads, &poisson, &StreamOptions { priorities: Vec::new(), ..options }).unwrap();
    assert_eq!(plain.workload(), stream.workload());
}

#[test]
fn traces_are_read_and_what_is_wrong_has_a_place() {
    let read = |text: &str| Arrivals::from_trace(text, 2);
    let row = |arrival_ns, workload, priority, patience_ns| TraceRow { arrival_ns, workload, priority, patience_ns };
    assert_eq!(
        read("priority, arrival,patience,workload\n\n3,1.5,,1\n,0,2e-3,\n"),
        Ok(Arrivals::Trace(vec![row(1_500_000_000, Some(1), Some(3), None), row(0, None, None, Some(2_000_000))]))
    );
    for (text, said) in [
        ("", "line 1: there is none; the columns are arrival, workload, priority, patience"),
        ("time\n", "line 1: there is no column `time`; "),
        ("priority\n", "line 1: there has to be a column `arrival`; "),
        ("arrival,arrival\n", "line 1: column `arrival` is there twice; "),
        ("arrival\n1\n1,2\n", "line 3: it has 2 fields, and line 1 has 1"),
        ("arrival\n-1\n", "line 2, `arrival`: `-1` is no time from 0 to 1e9 seconds"),
        ("arrival\nnan\n", "line 2, `arrival`: `nan` is no time"),
        ("arrival,priority\n,1\n", "line 2, `arrival`: `` is no time"),
        ("arrival,workload\n1,2\n", "line 2, `workload`: `2` is no number of a workload"),
        ("arrival,priority\n1,1.5\n", "line 2, `priority`: `1.5` is no whole number of 32 bits"),
        ("arrival,patience\n1,1e10\n", "line 2, `patience`: `1e10` is no time"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
    for text in ["poisson", "poisson:50", "poisson:rate=0", "poisson:rate=nan", "periodic:rate=1", "trace:x", "daily:every=1"] {
        let error = text.parse::<Arrivals>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{text}` is none of poisson:rate=R")), "{error}");
    }
    assert_eq!(Stream::new(&[chain("a", &[])], &trace(&[(0, 0, 0, None)]), &StreamOptions::default()).unwrap_err(), StreamError::Empty);
}
