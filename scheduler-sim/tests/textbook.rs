//! The examples that papers print, with the lengths that they print.

use poniard_scheduler_sim::plan::{Dls, Slot, dls, planner};
use poniard_scheduler_sim::{Platform, Problem, Workload, WorkloadBuilder};

/// The edges of Topcuoglu, Hariri and Wu, 2002, which two later ones have with other numbers.
fn graph(work: &[u64], edges: &[(usize, usize, u64)]) -> Workload {
    let mut builder = WorkloadBuilder::new("example");
    for (task, ns) in work.iter().enumerate() {
        builder.task(&format!("n{}", task + 1), "task", *ns);
    }
    edges.iter().for_each(|&(from, to, bytes)| builder.edge(from - 1, to - 1, bytes));
    builder.build().expect("no circle")
}

const SECOND: u64 = 1_000_000_000;

/// Costs in seconds, by task and processor, and transfers in seconds.
fn lengths(costs: &[[u64; 3]], edges: &[(usize, usize, u64)], name: &str) -> u64 {
    let workload = graph(&vec![0; costs.len()], edges);
    let platform = Platform::of_speeds(&[1.0; 3], Some(1.0)).expect("speeds");
    let rows = costs.iter().flatten().map(|cost| cost * SECOND).collect();
    let problem = Problem::with_costs(&workload, &platform, vec![0, 1, 2], rows);
    let schedule = (planner(name).expect("a planner").plan)(&problem);
    schedule.check(&problem).expect("a schedule");
    let makespan = schedule.makespan_ns();
    assert!(makespan >= problem.lower_bound_ns());
    assert_eq!(makespan % SECOND, 0);
    makespan / SECOND
}

const TOPCUOGLU: [[u64; 3]; 10] =
    [[14, 16, 9], [13, 19, 18], [11, 13, 19], [13, 8, 17], [12, 13, 10], [13, 16, 9], [7, 15, 11], [5, 11, 14], [18, 12, 20], [21, 7, 16]];

const TOPCUOGLU_EDGES: [(usize, usize, u64); 15] = [
    (1, 2, 18),
    (1, 3, 12),
    (1, 4, 9),
    (1, 5, 11),
    (1, 6, 14),
    (2, 8, 19),
    (2, 9, 16),
    (3, 7, 23),
    (4, 8, 27),
    (4, 9, 23),
    (5, 9, 13),
    (6, 8, 15),
    (7, 10, 17),
    (8, 10, 11),
    (9, 10, 13),
];

#[test]
fn topcuoglu_hariri_and_wu_2002() {
    let length = |name| lengths(&TOPCUOGLU, &TOPCUOGLU_EDGES, name);
    assert_eq!(["heft", "cpop", "dls", "peft"].map(length), [80, 86, 91, 85]);
}

#[test]
fn arabnejad_and_barbosa_2014() {
    const COSTS: [[u64; 3]; 10] = [
        [22, 21, 36],
        [22, 18, 18],
        [32, 27, 43],
        [7, 10, 4],
        [29, 27, 35],
        [26, 17, 24],
        [14, 25, 30],
        [29, 23, 36],
        [15, 21, 8],
        [13, 16, 33],
    ];
    const EDGES: [(usize, usize, u64); 15] = [
        (1, 2, 17),
        (1, 3, 31),
        (1, 4, 29),
        (1, 5, 13),
        (1, 6, 7),
        (2, 8, 3),
        (2, 9, 30),
        (3, 7, 16),
        (4, 8, 11),
        (4, 9, 7),
        (5, 9, 57),
        (6, 8, 5),
        (7, 10, 9),
        (8, 10, 42),
        (9, 10, 7),
    ];
    assert_eq!(["peft", "heft"].map(|name| lengths(&COSTS, &EDGES, name)), [122, 133]);
}

/// The first graph on four processors of one kind at three speeds. Lengths that more than one program has come to.
#[test]
fn four_related_processors() {
    let workload = graph(&[64, 76, 52, 32, 56, 64, 60, 44, 48, 28].map(|work| work * SECOND), &TOPCUOGLU_EDGES);
    let platform = Platform::of_speeds(&[1.0, 2.0, 4.0, 4.0], Some(1.0)).expect("speeds");
    let problem = Problem::new(&workload, &platform);
    let lengths = ["heft", "lookahead", "peft"].map(|name| {
        let schedule = (planner(name).expect("a planner").plan)(&problem);
        schedule.check(&problem).expect("a schedule");
        schedule.makespan_ns()
    });
    assert_eq!(lengths, [98, 94, 95].map(|length| length * SECOND));
    let schedule = dls(&problem, Dls { slot: Slot::Insertion, transfer_share: 0.8 });
    schedule.check(&problem).expect("a schedule");
    assert_eq!(schedule.makespan_ns(), 96 * SECOND);
}
