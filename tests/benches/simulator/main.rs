//! How fast the simulator is, and how good plans and policies are beside what other programs reach: `cargo bench -p poniard-tests --bench simulator [-- [--json] [--quick] [CASE ...]]`.
//!
//! All of it is one thread, and its processor time. What is asked stands in the notes. `quality` needs files that are no part of the project: `PONIARD_WORKLOADS` names their folder.

mod memory;
mod quality;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use poniard::policy;
use poniard_bench::{CountingAllocator, Effort, System, program};
use poniard_scheduler_sim::engine::{self, EngineOptions};
use poniard_scheduler_sim::network::{Network, Sharing};
use poniard_scheduler_sim::plan::planner;
use poniard_scheduler_sim::workload::Generate;
use poniard_scheduler_sim::{Platform, Problem, world};
use rustix::time::{ClockId, clock_gettime};

/// What is asked for in `memory` is asked of all that is allocated.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// The cases: name, unit, samples.
const CASES: [(&str, &str, usize); 9] = [
    ("plan-1e4", "ms", 7),
    ("plan-1e5", "ms", 3),
    ("run-1e4", "ms", 5),
    ("run-1e6", "ms", 1),
    ("engine", "M events/s", 5),
    ("scheduler", "M tasks/s", 3),
    ("network", "M events/s", 5),
    ("memory", "bytes/task", 1),
    ("quality", "of lookahead", 1),
];

/// Processor time of this thread: what else the machine does is not counted.
fn clock() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// A layered graph with three predecessors a task, on sixteen processors of four speeds.
fn run(tasks: u64, mut each: impl FnMut(&Problem<'_>)) -> f64 {
    let generate = Generate::parse(&format!("layered:{tasks},ccr=0.5")).expect("a shape");
    let workload = generate.workload();
    let speeds: Vec<f64> = [1.0, 2.0, 4.0, 8.0].repeat(4);
    let platform = Platform::of_speeds(&speeds, Some(1e9)).expect("speeds");
    let problem = Problem::new(&workload, &platform);
    let begin = clock();
    each(&problem);
    (clock() - begin).as_secs_f64() * 1e3
}

fn plan(name: &'static str, tasks: u64, note: &str) -> System<'static> {
    let plan = planner(name).expect("a planner").plan;
    System::new(name, note, move || run(tasks, |problem| _ = black_box(plan(problem))))
}

fn live(name: &'static str, tasks: u64, note: &str) -> System<'static> {
    let play = move |problem: &Problem<'_>| {
        let outcome = engine::run(problem, policy::by_name(name).expect("a policy"), EngineOptions::default());
        outcome.schedule.check(problem).expect("a schedule");
    };
    System::new(name, note, move || run(tasks, play))
}

/// A plan of tasks that is run, without anybody who decides: how many events a second.
fn engine(workload: &str) -> f64 {
    let workload = Generate::parse(workload).expect("a shape").workload();
    let platform = Platform::of_speeds(&[1.0, 2.0, 4.0, 8.0].repeat(4), Some(1e9)).expect("speeds");
    let problem = Problem::new(&workload, &platform);
    let plan = (planner("heft").expect("a planner").plan)(&problem);
    let begin = clock();
    let outcome = engine::run_plan(&problem, &plan, EngineOptions::default());
    outcome.events as f64 / (clock() - begin).as_secs_f64() / 1e6
}

/// The same where transfers share links: each of sixteen processors has one link, and its own memory.
fn shared(workload: &str) -> f64 {
    let workload = Generate::parse(workload).expect("a shape").workload();
    let hosts = (0..16).map(|host| {
        format!(
            "[[processor]]\nspace = 'h{host}'\nspeed = {}\n[[network.link]]\nname = 'l{host}'\nspace = 'h{host}'\nbandwidth = 1e9\n",
            1 << (host % 4)
        )
    });
    let text = format!("[network]\nsharing = 'max-min'\n{}", hosts.collect::<String>());
    let platform = Platform::from_toml(&text).expect("a platform");
    let problem = Problem::new(&workload, &platform);
    let plan = (planner("heft").expect("a planner").plan)(&problem);
    let begin = clock();
    let outcome = engine::run_plan(&problem, &plan, EngineOptions::default());
    outcome.events as f64 / (clock() - begin).as_secs_f64() / 1e6
}

/// A run in which the board and a policy of the runtime decide: how many tasks a second.
fn board(policy: &str, tasks: u64) -> f64 {
    let workload = Generate::parse(&format!("layered:{tasks},ccr=0.5")).expect("a shape").workload();
    let platform = Platform::of_speeds(&[1.0, 2.0, 4.0, 8.0].repeat(4), Some(1e9)).expect("speeds");
    let problem = Problem::new(&workload, &platform);
    let policy = policy::by_name(policy).expect("a policy");
    let begin = clock();
    let outcome = engine::run(&problem, policy, EngineOptions::default());
    outcome.schedule.end_ns.len() as f64 / (clock() - begin).as_secs_f64() / 1e6
}

/// A run by the whole runtime in virtual time: how many tasks a second.
fn runtime(policy: Option<&str>, tasks: u64) -> f64 {
    let workload = Generate::parse(&format!("layered:{tasks}")).expect("a shape").workload();
    let platform = Platform::of_speeds(&[1.0; 16], None).expect("speeds");
    let problem = Problem::new(&workload, &platform);
    let begin = clock();
    let outcome = world::play(&problem, policy, 0).expect("the runtime does what it promises");
    outcome.schedule.end_ns.len() as f64 / (clock() - begin).as_secs_f64() / 1e6
}

/// Transfers over a star of so many hosts, each with one link, so many at a time: how many begin and end in a second.
fn network(hosts: u32, at_a_time: u32, transfers: u32) -> f64 {
    let mut network = Network::new(Sharing::MaxMin);
    let links: Vec<u32> = (0..hosts).map(|host| network.link(f64::from(1 + host % 4) * 1e9)).collect();
    let pairs = links.iter().flat_map(|from| links.iter().map(move |to| [*from, *to])).filter(|[from, to]| from != to);
    let routes: Vec<u32> = pairs.collect::<Vec<_>>().into_iter().map(|pair| network.route(&pair, 0)).collect();
    let mut random = policy::Random::new(1);
    let begin = clock();
    let mut start = |network: &mut Network, now_ns: u64| {
        let route = routes[random.below(routes.len())];
        network.start(route, 1_000_000 + random.below(99_000_000) as u64, now_ns, 0);
    };
    (0..at_a_time).for_each(|_| start(&mut network, 0));
    let mut events = at_a_time;
    while let Some(now_ns) = network.next_ns() {
        network.pop();
        events += 1;
        if events < 2 * transfers - at_a_time {
            start(&mut network, now_ns);
            events += 1;
        }
    }
    f64::from(events) / (clock() - begin).as_secs_f64() / 1e6
}

fn systems_of(case: &str, effort: Effort) -> Vec<System<'static>> {
    let tenth = if effort == Effort::Quick { 10 } else { 1 };
    match case {
        "plan-1e4" => {
            let others = ["heft-append", "peft", "cpop", "dls", "etf", "min-min", "max-min", "sufferage", "mct"];
            let others = others.map(|name| plan(name, 10_000 / tenth, ""));
            std::iter::once(plan("heft", 10_000 / tenth, "asked: 10 ms")).chain(others).collect()
        }
        "plan-1e5" => vec![plan("heft", 100_000 / tenth, "asked: 150 ms")],
        "run-1e4" => {
            let others = [
                "earliest-finish-priority",
                "heft",
                "late-binding",
                "fifo",
                "priority",
                "work-stealing",
                "locality-stealing",
                "random",
                "heteroprio",
            ];
            let others = others.map(|name| live(name, 10_000 / tenth, "asked: 30 ms"));
            std::iter::once(live("earliest-finish", 10_000 / tenth, "asked: 30 ms")).chain(others).collect()
        }
        "run-1e6" => vec![live("earliest-finish", 1_000_000 / tenth, "asked: 5 s"), live("heft", 1_000_000 / tenth, "asked: 5 s")],
        "engine" => {
            let of = |name: &'static str, workload: String| System::new(name, "asked: 5", move || engine(&workload));
            vec![
                of("layered", format!("layered:{},ccr=0.5", 1_000_000 / tenth)),
                of("random", format!("random:{},ccr=0.5", 1_000_000 / tenth)),
                of("independent", format!("independent:{}", 1_000_000 / tenth)),
            ]
        }
        "scheduler" => {
            let of = |name: &'static str| System::new(name, "asked: 1", move || board(name, 1_000_000 / tenth));
            let own = |name, policy| System::new(name, "asked: 1; the whole runtime", move || runtime(policy, 1_000_000 / tenth));
            let others = ["work-stealing", "priority", "random", "earliest-finish"].map(of);
            std::iter::once(of("fifo")).chain(others).chain([own("runtime", None), own("runtime-fifo", Some("fifo"))]).collect()
        }
        "network" => {
            let of = |name: &'static str, hosts, at_a_time| {
                System::new(name, "asked: 1", move || network(hosts, at_a_time, 200_000 / tenth as u32))
            };
            vec![
                of("4-hosts-8", 4, 8),
                of("8-hosts-16", 8, 16),
                of("16-hosts-32", 16, 32),
                of("64-hosts-32", 64, 32),
                of("16-hosts-1000", 16, 1000),
                System::new("engine", "asked: 1", move || shared(&format!("layered:{},ccr=0.5", 100_000 / tenth))),
            ]
        }
        "memory" => memory::systems(1_000_000 / tenth),
        _ => quality::systems(effort),
    }
}

fn main() -> ExitCode {
    program("simulator", CASES, |turns, effort| turns.measure(systems_of(turns.case, effort)))
}
