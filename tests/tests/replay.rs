//! Decisions of live runs, made again from their log: the same policy comes to the same ones, whatever the threads did meanwhile.
#![expect(clippy::unwrap_used, reason = "the helpers of the tests are tests too")]

use std::collections::BTreeMap;
use std::fs;

use poniard::plugin::{PluginSearch, named_policy};
use poniard::policy::{Decision, DecisionLog, Event, POLICIES, Placement, Policy, Random, ReadyTask, Subject, View, Why, by_name};
use poniard::{GraphBuilder, Node, Priority, Runtime, RuntimeBuilder, Task};
use poniard_scheduler_sim::replay::{Answer, Replay, replay};
use poniard_scheduler_sim::workload::{RecordedProcessor, RecordedTask, Recording};
use poniard_tests::in_time;

const WIDTH: usize = 16;
const DEPTH: usize = 20;
const TASK_COUNT: usize = WIDTH * DEPTH;

/// Some work, more of it for some tasks than for others.
fn work(seed: u64) -> u64 {
    (0..500 + seed % 7 * 400).fold(seed, |sum, step| sum.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step))
}

fn begin(index: u64) -> u64 {
    work(index)
}

fn join(left: &u64, right: &u64) -> u64 {
    work(left ^ right)
}

fn spread(before: &u64) -> u64 {
    work(before.rotate_left(5))
}

/// Layers of tasks, each of which comes after two of the layer before; some are urgent.
fn compute(runtime: &Runtime) {
    let mut layer: Vec<Task<u64>> = (0..WIDTH as u64).map(|index| runtime.spawn(begin, (index,))).collect();
    for step in 1..DEPTH {
        layer = (0..WIDTH)
            .map(|index| {
                let (left, right) = (&layer[index], &layer[(index + step) % WIDTH]);
                match index % 3 {
                    0 => runtime.task(join, (left, right)).priority(Priority::High).spawn(),
                    1 => runtime.spawn(join, (left, right)),
                    _ => runtime.spawn(spread, (left,)),
                }
            })
            .collect();
    }
    layer.iter().for_each(|task| task.wait().unwrap());
    runtime.wait_idle();
}

/// Four threads that keep what is decided, under a policy of the builder's.
fn logging(builder: RuntimeBuilder) -> Runtime {
    builder.threads(4).models(None).journal(true).decision_log(true).build().unwrap()
}

fn logged(builder: RuntimeBuilder) -> DecisionLog {
    let runtime = logging(builder);
    compute(&runtime);
    runtime.decision_log().unwrap()
}

/// The log as it comes from a file that it was written to.
fn through_a_file(log: &DecisionLog) -> DecisionLog {
    let mut recording = Recording::new("layers", "a machine", Some(&log.policy));
    recording.processors = vec![RecordedProcessor { name: "threads-0".into(), kind: "cpu".into() }];
    recording.tasks = vec![RecordedTask::default(); TASK_COUNT];
    recording.decisions = Some(log.clone());
    let read = Recording::from_json("f", &recording.to_json()).unwrap().decisions.unwrap();
    assert_eq!(read, *log);
    read
}

fn check_same(log: &DecisionLog, policy: Box<dyn Policy>) -> Replay {
    let replay = replay(log, policy).unwrap();
    assert_eq!((&replay.first, &replay.left_off), (&None, &None), "{}", log.policy);
    assert_eq!(replay.placed.compared, replay.placed.same);
    assert_eq!(replay.taken.compared, replay.taken.same);
    replay
}

#[test]
fn every_policy_decides_again_what_it_decided_live() {
    in_time(|| {
        for known in POLICIES {
            let log = logged(Runtime::builder().policy(known.name).setting("placement.seed", "7"));
            assert_eq!((log.policy.as_str(), log.places.len(), log.seed), (known.name, 4, 7));
            let same = check_same(&through_a_file(&log), (known.make)());
            assert_eq!(same.placed.compared, TASK_COUNT as u64, "{}", known.name);
            let took = log.events.iter().filter(|event| matches!(event, Event::Asked { took: Some(_), .. })).count();
            let unasked = log.events.iter().filter(|event| matches!(event, Event::Unasked { .. })).count();
            assert!(took + unasked >= TASK_COUNT, "{}: {took} and {unasked}", known.name);
            assert!(same.places_alike());
            // Where nothing is by lot, other lots change nothing; the first task of all may go to any place by lot.
            let first = |seed: u64| Random::new(seed).below(4);
            let seed = (8..).find(|seed| first(*seed) != first(7)).unwrap();
            let other = replay(&DecisionLog { seed, ..log.clone() }, (known.make)()).unwrap();
            let has_lots = ["random", "work-stealing", "locality-stealing"].contains(&known.name);
            assert!(has_lots || other.is_same(), "{}", known.name);
            assert!(known.name != "random" || !other.is_same());
        }
    });
}

#[test]
fn a_log_has_each_task_after_those_that_it_comes_after() {
    in_time(|| {
        let runtime = logging(Runtime::builder().policy("fifo"));
        compute(&runtime);
        let (log, journal) = (runtime.decision_log().unwrap(), runtime.journal());
        // Where in the log each task was ready, and where it was over.
        let (mut numbers, mut ready, mut ended) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (index, event) in log.events.iter().enumerate() {
            match event {
                Event::Ready { number, subject: Some(Subject::Spawned(task)), .. } => {
                    numbers.insert(*number, *task);
                    ready.insert(*task, index);
                }
                Event::Ended { number, .. } => _ = ended.insert(numbers[number], index),
                _ => {}
            }
        }
        assert_eq!((ready.len(), ended.len()), (TASK_COUNT, TASK_COUNT));
        for (task, entry) in journal.iter().enumerate() {
            entry.after.iter().for_each(|after| assert!(ended[after] < ready[&task], "{after} before {task}"));
        }
        let first_ns = log.events.iter().find_map(Event::at_ns).unwrap();
        assert!(log.first_spawn_ns > 0 && log.first_spawn_ns <= first_ns);
    });
}

#[test]
fn the_policy_of_a_plugin_file_decides_again() {
    in_time(|| {
        let built = std::env::current_exe().unwrap().parent().unwrap().join("libponiard_plugin_policy_example.so");
        let folder = tempfile::tempdir().unwrap();
        fs::copy(built, folder.path().join("libponiard_policy_longest-first.so")).unwrap();
        let search = PluginSearch::none().with_path(folder.path());
        let log = logged(Runtime::builder().plugins(search.clone()).policy("longest-first"));
        let policy = || {
            let loaded = named_policy(&search, "longest-first").unwrap().unwrap();
            loaded.make(|complaint| panic!("{complaint}"))
        };
        let replay_of = check_same(&through_a_file(&log), policy());
        assert_eq!((log.policy.as_str(), replay_of.placed.compared), ("longest-first", TASK_COUNT as u64));
        assert!(!replay(&log, by_name("earliest-finish").unwrap()).unwrap().is_same());
    });
}

/// Each task at another place than the one before, and one more for each that has ended.
#[derive(Debug, Default)]
struct Turns(usize);

impl Policy for Turns {
    fn name(&self) -> &'static str {
        "turns"
    }

    fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
        self.0 += 1 + (view.now_ns % 3) as usize;
        Decision::at(&task.candidates[self.0 % task.candidates.len()], Why::Rule, view)
    }

    fn ended(&mut self, outcome: &poniard::policy::Outcome) {
        self.0 += outcome.ran.map_or(1, |(_, took_ns)| took_ns as usize % 4);
    }
}

#[test]
fn a_policy_that_goes_by_the_clock_and_by_what_tasks_took_decides_again() {
    in_time(|| {
        let log = logged(Runtime::builder().linked_policy(Turns::default));
        check_same(&through_a_file(&log), Box::new(Turns::default()));
        // What it has not been told it does not know.
        let mut deaf = log.clone();
        let measured =
            deaf.events.iter_mut().find_map(|event| if let Event::Ended { measured_ns, .. } = event { measured_ns.as_mut() } else { None });
        *measured.unwrap() += 1;
        assert!(!replay(&deaf, Box::new(Turns::default())).unwrap().is_same());
    });
}

#[test]
fn nodes_of_graphs_and_tasks_that_are_cancelled_are_decided_about_again() {
    in_time(|| {
        for known in POLICIES {
            let runtime = logging(Runtime::builder().policy(known.name).explain(true));
            let mut graph = GraphBuilder::new();
            let mut layer: Vec<Node<u64>> = (0..32u64).map(|index| graph.task(move || work(index), ())).collect();
            while layer.len() > 1 {
                layer = layer.chunks(2).map(|pair| graph.task(join, (pair[0], pair[1]))).collect();
            }
            let graph = graph.build().unwrap();
            for _ in 0..5 {
                let run = graph.run(&runtime, ()).unwrap();
                let tasks: Vec<_> = (0..20).map(|index| runtime.spawn(begin, (index,))).collect();
                tasks.iter().step_by(3).for_each(|task| _ = task.cancel());
                run.wait().unwrap();
                runtime.wait_idle();
            }
            let log = runtime.decision_log().unwrap();
            let nodes =
                log.events.iter().filter(|event| matches!(event, Event::Ready { subject: Some(Subject::OfRun { .. }), .. })).count();
            assert_eq!(nodes, 5 * graph.len(), "{}", known.name);
            check_same(&log, (known.make)());
        }
    });
}

#[test]
fn processors_that_come_and_go_are_in_the_log() {
    in_time(|| {
        for policy in ["earliest-finish", "work-stealing"] {
            let runtime = Runtime::builder().threads(1).processes(2).policy(policy).models(None).decision_log(true).build().unwrap();
            let tasks: Vec<_> = (0..200).map(|index| runtime.spawn(begin, (index,))).collect();
            runtime.set_processes(0).unwrap();
            runtime.set_processes(2).unwrap();
            tasks.iter().for_each(|task| task.wait().unwrap());
            runtime.wait_idle();
            let log = runtime.decision_log().unwrap();
            let gone = log.events.iter().filter(|event| matches!(event, Event::Active { active: false, .. })).count();
            assert_eq!(gone, 2, "{policy}");
            check_same(&log, by_name(policy).unwrap());
        }
    });
}

#[test]
fn a_planted_change_is_found_where_it_is() {
    in_time(|| {
        let log = logged(Runtime::builder().policy("earliest-finish"));
        let ready = |event: &Event| matches!(event, Event::Ready { .. });
        let (index, _) = log.events.iter().enumerate().filter(|(_, event)| ready(event)).nth(100).unwrap();
        let mut changed = log.clone();
        let Event::Ready { number, decision, .. } = &mut changed.events[index] else { unreachable!() };
        let (number, right) = (*number, *decision);
        let Placement::Place(place) = right.placement else { panic!("{right:?}") };
        decision.placement = Placement::Place((place + 1) % 4);
        let wrong = *decision;
        let found = replay(&changed, by_name("earliest-finish").unwrap()).unwrap();
        let first = found.first.unwrap();
        assert_eq!((first.event, first.number), (index, Some(number)));
        assert_eq!((first.expected, first.got), (Answer::Placed(wrong), Answer::Placed(right)));
        assert!(matches!(first.subject, Some(Subject::Spawned(_))));
        // All the rest of the log is still looked at, or it is said that it cannot be.
        assert!(found.placed.compared == TASK_COUNT as u64 || found.left_off.is_some());
        assert!(found.placed.same < found.placed.compared);
    });
}

#[test]
fn without_being_asked_for_there_is_no_log() {
    let runtime = Runtime::builder().threads(1).policy("fifo").models(None).build().unwrap();
    runtime.spawn(begin, (1,)).wait().unwrap();
    assert_eq!(runtime.decision_log(), None);
    // Nobody decides.
    let runtime = Runtime::builder().threads(1).processes(0).models(None).decision_log(true).build().unwrap();
    runtime.spawn(begin, (1,)).wait().unwrap();
    assert_eq!(runtime.decision_log(), None);
}
