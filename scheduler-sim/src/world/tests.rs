//! Worlds, the runtime in them, and what it gets through.

use poniard::platform::Platform as _;

use super::*;
use crate::workload::Generate;
use crate::{Platform, Problem};

fn problem<R>(text: &str, speeds: &[f64], look: impl FnOnce(&Problem<'_>) -> R) -> R {
    let workload = Generate::parse(text).expect("a shape").workload();
    let platform = Platform::of_speeds(speeds, None).expect("speeds");
    look(&Problem::new(&workload, &platform))
}

#[test]
fn the_runtime_computes_a_problem_in_virtual_time() {
    for policy in [None, Some("fifo"), Some("earliest-finish"), Some("work-stealing"), Some("heft"), Some("random")] {
        problem("layered:300", &[1.0, 1.0, 2.0, 4.0], |problem| {
            let outcome = play(problem, policy, 1).unwrap_or_else(|failure| panic!("{policy:?}: {failure}"));
            outcome.schedule.check(problem).unwrap_or_else(|fault| panic!("{policy:?}: {fault}"));
            assert_eq!(play(problem, policy, 1).expect("the same").schedule, outcome.schedule, "{policy:?}");
        });
    }
}

#[test]
fn the_runtime_and_the_engine_take_as_long_under_a_policy_that_leaves_no_choice() {
    for text in ["layered:200", "cholesky:6", "random:150,seed=3", "fft:16", "independent:40"] {
        problem(text, &[1.0; 4], |problem| {
            let policy = poniard::policy::by_name("fifo").expect("a policy");
            let engine = crate::engine::run(problem, policy, crate::engine::EngineOptions::default());
            let runtime = play(problem, Some("fifo"), 0).expect("nothing goes wrong");
            assert_eq!(runtime.schedule.makespan_ns(), engine.schedule.makespan_ns(), "{text}");
        });
    }
}

#[test]
fn what_a_world_has_not_is_said() {
    let workload = Generate::parse("layered:20,ccr=1").expect("a shape").workload();
    let platform = Platform::of_speeds(&[1.0, 1.0], Some(1e6)).expect("speeds");
    let said = play(&Problem::new(&workload, &platform), None, 0).expect_err("data travels").to_string();
    assert_eq!(said, "data takes time between processors, and a world has one memory");
}

/// How many scenarios: `PONIARD_SEEDS`, or 2000.
fn seeds() -> u64 {
    std::env::var("PONIARD_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000)
}

#[test]
fn nothing_is_lost_whatever_goes_wrong() {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let soaked = soak(0, seeds(), ScenarioOptions::default(), threads, |_| ());
    if let Some(Found { seed, text, shrunk }) = soaked.found {
        panic!("scenario {seed}: {text}\nthe least one, after {} runs: {}\n{}", shrunk.runs, shrunk.failure, shrunk.script);
    }
    assert_eq!(soaked.scenarios, seeds());
}

/// What each planted bug is found by: how many scenarios that took, and what was wrong. `PONIARD_BUG` names the only one to look for.
#[cfg(poniard_planted)]
#[test]
fn each_planted_bug_is_found() {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use poniard::planted::{Bug, plant};

    let wanted = std::env::var("PONIARD_BUG").unwrap_or_default();
    let bugs: Vec<Bug> = Bug::ALL.into_iter().filter(|bug| format!("{bug:?}").contains(&wanted)).collect();
    let next = AtomicUsize::new(0);
    let look = || {
        while let Some(&bug) = bugs.get(next.fetch_add(1, Relaxed)) {
            // For what runs on this thread: others look for others meanwhile.
            plant(Some(bug));
            let found = (0..1000).find_map(|seed| {
                let script = scenario(seed, ScenarioOptions::default());
                run(script.clone()).err().map(|failure| (seed, script, failure))
            });
            let Some((seed, script, failure)) = found else { panic!("{bug:?} is not found in 1000 scenarios") };
            let before = script.tasks.len();
            let text = failure.to_string();
            let shrunk = shrink(script, failure);
            eprintln!("{bug:?}: scenario {seed}, {text}; {before} tasks made {} by {} runs", shrunk.script.tasks.len(), shrunk.runs);
            plant(None);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(look);
        }
    });
}

/// What a world that was played wrote down, and how it ended.
fn played(world: &Rc<World>, main: impl FnOnce(Rc<RefCell<Vec<String>>>) + 'static) -> (Vec<String>, Result<(), Stuck>) {
    let lines = Rc::new(RefCell::new(Vec::new()));
    let own = Rc::clone(&lines);
    let ended = world.run(move || main(own), |_| Ok(()));
    (lines.take(), ended)
}

#[test]
fn threads_go_on_in_the_order_of_time_and_then_as_foreseen() {
    let (lines, ended) = played(&World::new(0, false), |lines| {
        for (name, at_ns) in [("late", 30), ("first", 10), ("second", 10)] {
            let lines = Rc::clone(&lines);
            World::here().spawn(
                name,
                Box::new(move || {
                    World::here().compute(at_ns);
                    lines.borrow_mut().push(format!("{name} {}", World::here().now_ns()));
                }),
            );
        }
    });
    assert_eq!((lines, ended), (["first 10", "second 10", "late 30"].map(str::to_owned).to_vec(), Ok(())));
}

#[test]
fn a_wake_up_is_kept_for_whoever_is_busy() {
    let (lines, ended) = played(&World::new(0, false), |lines| {
        let sleeper = World::here().current();
        World::here().spawn(
            "waker",
            Box::new(move || {
                World::here().compute(5);
                World::here().wake(sleeper);
            }),
        );
        // It comes while this one computes, which it does to the end.
        World::here().compute(20);
        lines.borrow_mut().push(World::here().now_ns().to_string());
        World::here().park(None);
        lines.borrow_mut().push(World::here().now_ns().to_string());
        World::here().park(Some(35));
        lines.borrow_mut().push(World::here().now_ns().to_string());
    });
    assert_eq!((lines, ended), (["20", "20", "35"].map(str::to_owned).to_vec(), Ok(())));
}

#[test]
fn the_clock_jumps_and_what_was_foreseen_comes_after_it() {
    let world = World::new(0, false);
    world.jump(10, 100);
    let (lines, ended) = played(&world, |lines| {
        for until_ns in [5, 40, 130] {
            World::here().compute(until_ns);
            lines.borrow_mut().push(World::here().now_ns().to_string());
        }
    });
    assert_eq!((lines, ended), (["5", "140", "140"].map(str::to_owned).to_vec(), Ok(())));
}

#[test]
fn a_world_in_which_nobody_wakes_a_sleeper_is_stuck_and_leaves_the_thread_as_it_was() {
    let (_, ended) = played(&World::new(0, false), |_| World::here().park(None));
    assert_eq!(ended, Err(Stuck { at_ns: 0, threads: vec!["main".into()] }));
    let (_, ended) = played(&World::new(0, false), |_| {
        loop {
            World::here().relax();
        }
    });
    assert!(ended.is_err(), "threads that go on for ever without sleeping are stuck, too");
    run(scenario(1, ScenarioOptions::default())).expect("another world is none the worse for it");
}

#[test]
fn a_scenario_is_the_same_on_every_thread() {
    let with_devices = (0..).filter(|seed| !scenario(*seed, ScenarioOptions::default()).devices.is_empty());
    for seed in [1, 7, 57, 117].into_iter().chain(with_devices.take(4)) {
        let here = run(scenario(seed, ScenarioOptions::default())).expect("nothing goes wrong");
        let there = std::thread::spawn(move || run(scenario(seed, ScenarioOptions::default())).expect("nothing goes wrong"));
        assert_eq!(there.join().expect("no panic"), here);
    }
}

#[test]
fn what_makes_a_bug_is_left_when_a_script_is_shrunk() {
    // Nothing goes wrong in it: nothing smaller goes wrong in the same way, so nothing is taken away.
    let script = scenario(5, ScenarioOptions { tasks: 20, ..ScenarioOptions::default() });
    let shrunk = shrink(script.clone(), Failure::Twice { task: 3 });
    assert_eq!(shrunk.script, script);
    let fewer = script.without(|task| task % 2 == 0);
    assert_eq!(fewer.tasks.len(), script.tasks.len() / 2);
    assert!(fewer.tasks.iter().enumerate().all(|(number, task)| task.inputs.iter().all(|source| (*source as usize) < number)));
}

/// Each order of a world in which `main` runs: the choices, and what was written down.
fn in_all_orders(main: impl Fn(Rc<RefCell<Vec<String>>>) + Copy + 'static) -> Vec<(Vec<u32>, String)> {
    let mut all = Vec::new();
    let mut next = Some(Vec::new());
    while let Some(given) = next {
        let world = World::choosing(0, Choices::new(given.clone()));
        let (lines, ended) = played(&world, main);
        assert_eq!((ended, world.choices().check()), (Ok(()), Ok(())), "{given:?}");
        all.push((given, lines.concat()));
        assert!(all.len() < 1000, "they are few");
        next = super::explore::following(world.choices().made());
    }
    all
}

#[test]
fn whoever_can_go_on_at_one_time_does_so_in_every_order() {
    let all = in_all_orders(|lines| {
        for name in ["a", "b", "c"] {
            let lines = Rc::clone(&lines);
            World::here().spawn(
                name,
                Box::new(move || {
                    World::here().compute(7);
                    lines.borrow_mut().push(name.to_owned());
                }),
            );
        }
    });
    let words: std::collections::BTreeSet<&str> = all.iter().map(|(_, word)| word.as_str()).collect();
    assert_eq!(words.into_iter().collect::<Vec<_>>(), ["abc", "acb", "bac", "bca", "cab", "cba"]);
    // 6 ways to begin, and 6 to go on after each.
    assert_eq!(all.len(), 36);
    let choices: std::collections::BTreeSet<&Vec<u32>> = all.iter().map(|(choices, _)| choices).collect();
    assert_eq!(choices.len(), 36, "no order is played twice");
}

#[test]
fn a_thread_that_waits_for_another_one_without_sleeping_lets_it_go_on() {
    let all = in_all_orders(|lines| {
        let is_set = Rc::new(Cell::new(false));
        for name in ["1", "2"] {
            let (is_set, lines) = (Rc::clone(&is_set), Rc::clone(&lines));
            World::here().spawn(
                name,
                Box::new(move || {
                    while !is_set.get() {
                        World::here().relax();
                    }
                    lines.borrow_mut().push(name.to_owned());
                }),
            );
        }
        World::here().spawn("setter", Box::new(move || is_set.set(true)));
    });
    assert!(["12", "21"].iter().all(|word| all.iter().any(|(_, lines)| lines == word)), "{all:?}");
}

#[test]
fn from_whom_a_thief_takes_is_a_choice_where_there_are_choices() {
    let world = World::choosing(0, Choices::new(vec![2]));
    assert_eq!([world.choose(3), world.choose(3)], [Some(2), Some(0)]);
    assert_eq!([World::new(0, true).choose(3), World::new(0, false).choose(3)], [None, None], "by the worker's own random numbers");
}

fn small(text: &str, workers: usize, policy: Option<&str>) -> Script {
    problem(text, &vec![1.0; workers], |problem| Script::of(problem, policy, 0).0)
}

#[test]
fn all_orders_of_small_graphs_are_right_under_the_runtime() {
    for (text, workers, policy) in
        [("chain:3", 2, None), ("independent:2", 2, None), ("tree:2", 2, Some("fifo")), ("independent:3", 2, Some("work-stealing"))]
    {
        let script = small(text, workers, policy);
        let explored = explore(&script, 20_000, |_| Ok(()), |_| ());
        assert_eq!(explored.found, None, "{text}");
        assert!(explored.orders > 1 && explored.states > 0, "{text}: {explored:?}");
        let [shortest, longest] = [&explored.shortest, &explored.longest].map(|extreme| extreme.clone().unwrap());
        assert!(shortest.makespan_ns <= longest.makespan_ns, "{text}");
        for extreme in [shortest, longest] {
            let (ran, choices) = run_order(&script, extreme.choices);
            assert_eq!((ran.unwrap().schedule.makespan_ns(), choices.check()), (extreme.makespan_ns, Ok(())), "{text}");
        }
    }
    let independent = explore(&small("independent:2", 2, None), 20_000, |_| Ok(()), |_| ());
    // Each task is run by one or by the other, or both by one of them.
    assert!(independent.is_complete && independent.schedules > 1, "{independent:?}");
    assert_eq!(explore(&small("independent:2", 2, None), 20_000, |_| Ok(()), |_| ()), independent);
}

#[test]
fn an_order_that_somebody_does_not_want_is_found_and_played_again() {
    let script = small("independent:2", 2, None);
    let second_first = |ran: &Ran| match ran.schedule.processor[0] > ran.schedule.processor[1] {
        true => Err("the second task is on the first worker".to_owned()),
        false => Ok(()),
    };
    let found = explore(&script, 20_000, second_first, |_| ()).found.expect("there is such an order");
    let (ran, _) = run_order(&script, found.choices);
    assert_eq!(second_first(&ran.unwrap()), Err(found.text));
    // It is one of several: where the first ones are taken all is as it should be.
    assert_eq!(second_first(&run_order(&script, Vec::new()).0.unwrap()), Ok(()));
}

#[cfg(poniard_planted)]
#[test]
fn a_planted_bug_is_found_in_all_orders_of_a_small_graph() {
    use poniard::planted::{Bug, plant};

    // The second comes from the third worker only: in some orders nothing is wrong.
    for (bug, text, workers) in
        [(Bug::LostWakeUp, "fork-join:4", 2), (Bug::DroppedSuccessor, "fork-join:4", 3), (Bug::IdleTooEarly, "independent:3", 2)]
    {
        let script = small(text, workers, None);
        plant(Some(bug));
        let found = explore(&script, 20_000, |_| Ok(()), |_| ()).found;
        let again = found.as_ref().map(|found| run_order(&script, found.choices.clone()).0.map_err(|failure| failure.to_string()));
        plant(None);
        let found = found.unwrap_or_else(|| panic!("{bug:?} is not found"));
        assert_eq!(again.expect("it was found").unwrap_err(), found.text, "{bug:?}");
        assert_eq!(explore(&script, 2_000, |_| Ok(()), |_| ()).found, None, "{bug:?}");
    }
}
/// A device with room for so many buffers of 32 words, whose copies take a microsecond and one more for each 256 bytes.
fn device(room: u64) -> ScriptDevice {
    ScriptDevice { column: 1, capacity_bytes: 256 * room, latency_ns: 1_000, bandwidth: 256_000_000, depth: 4, measures: false }
}

/// Tasks on two workers and these devices, under no policy. Each takes 10 us on the host, and 2 us on a device.
fn on_devices(devices: &[ScriptDevice], tasks: impl IntoIterator<Item = (Work, Vec<u32>)>) -> Script {
    let task = |(work, inputs)| ScriptTask { work, costs: [10_000, 2_000].into(), ..ScriptTask::new(0, inputs) };
    Script {
        seed: 1,
        policy: None,
        draws: false,
        columns: [0, 0].into(),
        processes: 0,
        devices: devices.to_vec(),
        cells: vec![32],
        devices_first: true,
        expects_costs: false,
        fetches_late: false,
        tasks: tasks.into_iter().map(task).collect(),
        chaos: Vec::new(),
    }
}

const FILL: Work = Work::Fill { words: 32 };
const KERNEL: Work = Work::Kernel { words: 32, at: Where::Anywhere };
const ON_DEVICES: Work = Work::Kernel { words: 32, at: Where::Devices };

fn ran(script: &Script) -> Ran {
    run(script.clone()).unwrap_or_else(|failure| panic!("{failure}\n{script}"))
}

#[test]
fn a_chain_on_a_device_takes_its_copies_and_its_launches() {
    // A buffer is made on the host and copied once, two kernels follow each other on the device, and the last result is copied back for a number.
    let script = on_devices(&[device(8)], [(FILL, vec![]), (ON_DEVICES, vec![0]), (ON_DEVICES, vec![1]), (Work::Number, vec![2])]);
    let ran = ran(&script);
    assert_eq!(ran.schedule.processor[1..3], [2, 2], "the device comes behind two workers");
    assert_eq!(ran.schedule.start_ns, [0, 12_000, 14_000, 18_000]);
    assert_eq!(ran.schedule.end_ns, [10_000, 14_000, 16_000, 28_000]);
    assert_eq!((ran.launches, ran.repeats, ran.attempts), (2, 0, 4));
}

#[test]
fn a_device_that_is_too_small_for_everything_gives_back_what_is_needed_later() {
    // Each result is read again at the end, and there is room for four buffers.
    let mut tasks = vec![(FILL, vec![])];
    tasks.extend((0..20).map(|_| (ON_DEVICES, vec![0])));
    tasks.extend((1..20).map(|number| (ON_DEVICES, vec![number, number + 1])));
    let ran = ran(&on_devices(&[device(4)], tasks));
    assert_eq!((ran.launches, ran.failed), (39, vec![]));
}

#[test]
fn what_is_lost_with_a_device_is_computed_again() {
    let mut script =
        on_devices(&[device(8)], [(FILL, vec![]), (KERNEL, vec![0]), (KERNEL, vec![1]), (Work::Number, vec![2]), (Work::Number, vec![1])]);
    script.tasks[4].pause_ns = 100_000;
    // While the third task has its result copied.
    script.chaos = vec![Chaos::DeviceLost { device: 0, at_ns: 17_000 }];
    let ran = ran(&script);
    assert_eq!((ran.launches, &ran.failed), (2, &vec![]));
    assert!(ran.repeats >= 2, "{ran:?}");
    // Where there is no other way to have it, it is lost.
    script.tasks[1].work = ON_DEVICES;
    assert_eq!(super::run(script).expect("that is no bug").failed, [3, 4]);
}

/// What went wrong once, of which the least scenarios are kept: each was found by its failure in a drawn one.
mod regression {
    use super::*;

    fn at(device: u32) -> Work {
        Work::Kernel { words: 32, at: Where::Device(device) }
    }

    #[test]
    fn a_launch_that_was_submitted_behind_another_one_and_refused_waits_for_another_device() {
        let one_at_a_time = ScriptDevice { depth: 1, ..device(8) };
        let mut script = on_devices(&[one_at_a_time, device(8)], [(at(0), vec![]), (at(1), vec![]), (ON_DEVICES, vec![1])]);
        script.tasks[0].costs = [0, 100_000].into();
        script.chaos = vec![Chaos::Refuses { device: 1, every: 2 }];
        let ran = ran(&script);
        assert_eq!((&ran.failed, ran.schedule.processor[2]), (&vec![], 2), "{ran:?}");
    }

    #[test]
    fn what_is_computed_again_has_a_place_where_the_launch_was_to_run_that_needs_it() {
        // The first device has room for nothing more, as nothing can be copied from there; the place of the other one was kept for the launch that waited.
        let mut script = on_devices(&[device(1), device(8)], [(ON_DEVICES, vec![]), (at(1), vec![0])]);
        script.policy = Some("fifo".into());
        script.chaos = vec![Chaos::TransferFails { device: 0, every: 1 }];
        let ran = ran(&script);
        assert_eq!((&ran.failed, ran.launches, ran.repeats), (&vec![], 3, 1), "{ran:?}");
    }

    #[test]
    fn a_launch_that_was_refused_leaves_the_memory_of_its_device_while_another_one_is_busy() {
        // And so does the one that was submitted behind it.
        let mut script = on_devices(&[device(8), device(8)], [(at(1), vec![]), (KERNEL, vec![]), (KERNEL, vec![1])]);
        script.tasks[0].costs = [0, 100_000].into();
        script.chaos = vec![Chaos::Refuses { device: 0, every: 1 }];
        let ran = ran(&script);
        assert_eq!((&ran.failed, ran.schedule.processor[1]), (&vec![], 3), "{ran:?}");
    }

    #[test]
    fn what_a_launch_is_being_prepared_with_stays_although_it_is_withdrawn() {
        // The last one is to follow the second; while what it reads besides comes from the other device, the second is refused.
        let mut script = on_devices(&[device(8), device(8)], [(at(1), vec![]), (at(0), vec![]), (KERNEL, vec![0, 1])]);
        script.tasks[1].pause_ns = 10_000;
        script.chaos = vec![Chaos::Refuses { device: 0, every: 1 }];
        assert_eq!(ran(&script).failed, [1, 2]);
    }

    #[test]
    fn a_launch_waits_for_memory_of_one_that_ends_while_others_make_room() {
        // The last one needs all memory at 10 us. Two results leave until 14 us, and the launch that has the rest ends in between.
        let mut script = on_devices(
            &[device(3)],
            [(ON_DEVICES, vec![]), (ON_DEVICES, vec![]), (ON_DEVICES, vec![]), (FILL, vec![]), (FILL, vec![]), (ON_DEVICES, vec![3, 4])],
        );
        script.tasks[2].costs = [0, 9_000].into();
        let ran = ran(&script);
        assert_eq!((&ran.failed, ran.schedule.end_ns[2]), (&vec![], 13_000), "{ran:?}");
    }
}

#[test]
fn a_device_from_which_nothing_can_be_copied_is_not_asked_for_ever() {
    let mut script = on_devices(&[device(8)], [(ON_DEVICES, vec![]), (Work::Number, vec![0])]);
    script.chaos = vec![Chaos::TransferFails { device: 0, every: 1 }];
    let ran = ran(&script);
    assert_eq!(ran.failed, [1]);
    assert!(ran.launches < 10, "{ran:?}");
}

#[test]
fn a_device_that_was_lost_is_there_for_the_next_runtime() {
    let mut script = on_devices(&[device(8)], [(FILL, vec![]), (ON_DEVICES, vec![0]), (ON_DEVICES, vec![0])]);
    script.tasks[2].pause_ns = 100_000;
    script.chaos = vec![Chaos::DeviceLost { device: 0, at_ns: 11_000 }];
    assert_eq!(ran(&script).failed, [1, 2]);
    script.chaos.push(Chaos::Restart { task: 2 });
    let again = ran(&script);
    assert_eq!((again.failed, again.launches), (vec![1], 1));
}

#[test]
fn each_kind_of_fault_has_its_name_and_can_be_had_alone() {
    for name in Chaos::KINDS {
        let kinds = FaultKinds::of([name]).expect("it is one");
        let options = ScenarioOptions { faults: 1, kinds, ..ScenarioOptions::default() };
        let found = (0..20).flat_map(|seed| scenario(seed, options).chaos);
        let found: std::collections::BTreeSet<_> = found.map(|chaos| chaos.kind()).collect();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [name]);
    }
    assert_eq!(FaultKinds::of(["hang", "hung"]), Err("hung"));
}
