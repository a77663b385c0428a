//! Worker processes that are added and removed while a runtime works.
//!
//! Needs Linux with `/proc`. One test at a time, as some count what the whole process has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::id;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use poniard::{BuildErrorKind, Data, FailureKind, ProcessId, ProcessesError, Runtime, Scope, Task, TaskError, TaskOptions};
use poniard_tests::in_time;

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One thread, and so many worker processes to begin with.
fn runtime(processes: usize, most: usize) -> Runtime {
    Runtime::builder().threads(1).processes(processes).processes_at_most(most).build().expect("a runtime")
}

fn far() -> TaskOptions {
    TaskOptions::new().scope(Scope::backend("process"))
}

/// A task that is to run on the worker process with this number, counted from 1.
fn on(number: u32) -> TaskOptions {
    TaskOptions::new().scope(Scope::process(ProcessId(number)))
}

/// Waits for something that another thread or process does.
fn until(over: impl Fn() -> bool) {
    while !over() {
        std::thread::yield_now();
    }
}

fn is_alive(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

/// Takes a while, so that others take part.
fn place(round: u64) -> (u64, u32) {
    let sum = (0..20_000u64).fold(round, |sum, number| std::hint::black_box(sum ^ number.wrapping_mul(sum)));
    (round, if sum == 1 { 0 } else { id() })
}

#[test]
fn a_process_that_is_added_in_the_middle_takes_part() {
    in_time(|| {
        let _alone = alone();
        let runtime = runtime(1, 3);
        let mut places = BTreeSet::new();
        let flood = |round: u64| -> Vec<Task<(u64, u32)>> {
            (0..200).map(|task| runtime.task(place, (round * 200 + task,)).options(&far()).spawn()).collect()
        };
        let before = flood(0);
        for task in &before[..20] {
            places.insert(task.fetch().unwrap().1);
        }
        assert_eq!(places.len(), 1);
        runtime.set_processes(3).unwrap();
        for (number, task) in before.iter().enumerate() {
            let (round, place) = *task.fetch().unwrap();
            assert_eq!(round, number as u64);
            places.insert(place);
        }
        // However long the new ones take to start.
        let mut round = 1;
        while places.len() < 3 {
            places.extend(flood(round).iter().map(|task| task.fetch().unwrap().1));
            round += 1;
        }
        assert!(!places.contains(&id()) && places.len() == 3, "{places:?}");
    });
}

#[test]
fn without_processes_threads_do_everything() {
    in_time(|| {
        let _alone = alone();
        let runtime = runtime(2, 2);
        let tasks: Vec<_> = (0..2_000u64).map(|number| runtime.spawn(place, (number,))).collect();
        tasks[50].fetch().unwrap();
        runtime.set_processes(0).unwrap();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.take().unwrap().0, number as u64);
        }
        assert_eq!(runtime.spawn(place, (7,)).take().unwrap(), (7, id()));
        assert!(runtime.processors_in(&Scope::backend("process")).is_empty());
        assert_eq!(runtime.processors_in(&Scope::any()).len(), 1);
        let report = runtime.report();
        let active = |name: &str| {
            let backend = report.backends.iter().find(|backend| backend.name == name).expect("a backend");
            backend.processors.iter().map(|processor| processor.active).collect::<Vec<_>>()
        };
        assert_eq!((active("threads"), active("process")), (vec![true], vec![false, false]));
    });
}

#[test]
fn nothing_is_lost_when_processes_come_and_go_under_load() {
    in_time(|| {
        let _alone = alone();
        let runtime = runtime(1, 3);
        let mut tasks = Vec::new();
        for round in 0..40u64 {
            tasks.extend((0..50).map(|task| runtime.spawn(place, (round * 50 + task,))));
            // Some of them depend on others, and some have to go to a process; there is always one.
            tasks.push(runtime.task(|(round, place): (u64, u32)| (round + 1, place), (&tasks[tasks.len() - 1],)).options(&on(1)).spawn());
            runtime.set_processes([3, 1, 2][round as usize % 3]).unwrap();
        }
        for (number, task) in tasks.into_iter().enumerate() {
            let number = number as u64;
            assert_eq!(task.take().unwrap().0, number - number / 51);
        }
        runtime.wait_idle();
    });
}

/// Says that it has begun, and goes on until it is told.
fn wait_for_mark(marks: PathBuf) -> u32 {
    std::fs::write(marks.join("begun"), "").expect("a mark");
    until(|| marks.join("end").exists());
    id()
}

/// A task that the second process is in the middle of, until it is told.
fn begun(runtime: &Runtime, marks: &Path) -> Task<u32> {
    let running = runtime.task(wait_for_mark, (marks.to_owned(),)).options(&on(2)).spawn();
    until(|| marks.join("begun").exists());
    running
}

#[test]
fn a_process_that_is_removed_finishes_its_task_and_ends() {
    in_time(|| {
        let _alone = alone();
        let runtime = runtime(2, 2);
        let marks = tempfile::tempdir().unwrap();
        let running = begun(&runtime, marks.path());
        runtime.set_processes(1).unwrap();
        // Others do what it does not.
        let others: Vec<_> = (0..50).map(|number| runtime.task(place, (number,)).options(&far()).spawn()).collect();
        let others: BTreeSet<u32> = others.iter().map(|task| task.fetch().unwrap().1).collect();
        assert_eq!(others.len(), 1);
        std::fs::write(marks.path().join("end"), "").unwrap();
        let process = running.take().unwrap();
        assert!(process != id() && !others.contains(&process));
        until(|| !is_alive(process));
        assert!(others.iter().all(|other| is_alive(*other)));
        // It comes back as another one.
        runtime.set_processes(2).unwrap();
        let again = runtime.task(place, (1,)).options(&on(2)).spawn().take().unwrap().1;
        assert!(again != id() && again != process);
    });
}

#[track_caller]
fn check_removed<T>(outcome: Result<T, TaskError>, names: &str) {
    let error = outcome.err().expect("no processor is there");
    assert!(matches!(error.root().kind(), FailureKind::Removed { processors } if processors == names), "{error}");
    assert!(error.reason().contains(&format!("the processors that may run it were removed (`set_processes`): {names}")), "{error}");
}

#[test]
fn tasks_whose_processors_are_removed_fail_wherever_they_are() {
    in_time(|| {
        let _alone = alone();
        let runtime = runtime(2, 2);
        let marks = tempfile::tempdir().unwrap();
        let running = begun(&runtime, marks.path());
        // In the queue of its domain; behind the one that runs; a chain that waits for a task of the thread; one that takes two processors.
        let queued = runtime.task(place, (1,)).options(&on(2)).spawn();
        let behind = runtime.task(|place: &u32| *place, (&running,)).options(&on(2)).spawn();
        let (open, gate) = mpsc::channel();
        let gate = Mutex::new(gate);
        let held = runtime.task(move || gate.lock().unwrap().recv().unwrap_or(0u32), ()).scope(Scope::host()).spawn();
        let chain = (0..20_000).fold(held.clone(), |last, _| runtime.task(|last: &u32| *last, (&last,)).options(&on(2)).spawn());
        let wide = runtime.task(|| 1u32, ()).options(&far()).occupancy(2.0).spawn();
        let part = runtime.task(|| 1u32, ()).options(&on(2)).occupancy(0.5).spawn();
        runtime.set_processes(1).unwrap();
        check_removed(queued.take(), "processes-1");
        check_removed(part.take(), "processes-1");
        let error = wide.take().unwrap_err();
        assert!(matches!(error.kind(), FailureKind::Occupancy { available: 1, .. }), "{error}");
        check_removed(runtime.task(place, (1,)).options(&on(2)).spawn().take(), "processes-1");
        let error = runtime.task(|| 1u32, ()).options(&far()).occupancy(2.0).spawn().take().unwrap_err();
        assert!(matches!(error.kind(), FailureKind::Occupancy { available: 1, .. }), "{error}");
        open.send(7).unwrap();
        check_removed(chain.take(), "processes-1");
        std::fs::write(marks.path().join("end"), "").unwrap();
        assert_ne!(running.take().unwrap(), id());
        check_removed(behind.take(), "processes-1");
        runtime.set_processes(0).unwrap();
        check_removed(runtime.task(place, (1,)).options(&far()).spawn().take(), "processes-0, processes-1");
        // With another one in the scope it goes there.
        let anywhere = runtime.task(place, (1,)).scope(Scope::process(ProcessId(2)).or(Scope::host())).spawn();
        assert_eq!(anywhere.take().unwrap().1, id());
        runtime.set_processes(2).unwrap();
        assert_ne!(runtime.task(place, (1,)).options(&on(2)).spawn().take().unwrap().1, id());
        assert_eq!(runtime.task(|| 1u32, ()).options(&far()).occupancy(2.0).spawn().take().unwrap(), 1);
    });
}

#[test]
fn a_task_that_waits_on_a_worker_that_is_removed_goes_on() {
    in_time(|| {
        let _alone = alone();
        let runtime = runtime(1, 1);
        let (open, gate) = mpsc::channel();
        let gate = Mutex::new(gate);
        let held = runtime.task(move || gate.lock().unwrap().recv().unwrap_or(0u32), ()).scope(Scope::host()).spawn();
        let (begun, has_begun) = mpsc::channel();
        let inner = held.clone();
        // It has captured something, so it stays, and the only thread is taken: the one that stands for the process runs it.
        let waiting = runtime.spawn(
            move || {
                let name = poniard::current_processor().map(|processor| processor.name);
                begun.send(()).map_err(|error| error.to_string())?;
                let value = *inner.fetch().map_err(|error| error.to_string())?;
                Ok::<_, String>((name, value, *poniard::spawn(|| 5u32, ()).fetch().map_err(|error| error.to_string())?))
            },
            (),
        );
        // The thread may have taken it before the one that is held; then that is the other one's.
        has_begun.recv().unwrap();
        runtime.set_processes(0).unwrap();
        open.send(7).unwrap();
        let (name, value, spawned) = waiting.take().unwrap();
        assert!(name.is_some_and(|name| name == "processes-0" || name == "threads-0"));
        assert_eq!((value, spawned), (7, 5));
        runtime.wait_idle();
        runtime.set_processes(1).unwrap();
        assert_ne!(runtime.task(place, (1,)).options(&far()).spawn().take().unwrap().1, id());
    });
}

fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Processes whose parent's parent is this one: worker processes.
fn grandchildren() -> usize {
    let parent = |process: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1).map(str::to_owned)
    };
    let own = id().to_string();
    let processes = std::fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    processes.filter(|process| parent(process).and_then(|parent_of| parent(&parent_of)).as_ref() == Some(&own)).count()
}

#[test]
fn nothing_is_left_behind_by_a_hundred_that_come_and_go() {
    in_time(|| {
        let _alone = alone();
        let runtime = runtime(0, 2);
        let come_and_go = || {
            runtime.set_processes(2).unwrap();
            for number in 1..=2 {
                assert_ne!(runtime.task(place, (1,)).options(&on(number)).spawn().take().unwrap().1, id());
            }
            runtime.set_processes(0).unwrap();
        };
        come_and_go();
        until(|| grandchildren() == 0);
        let counts = || (entries("/proc/self/fd"), entries("/proc/self/task"), grandchildren());
        // The threads are gone when their processes are.
        until(|| threads_called("processes-") == 1);
        let before = counts();
        for _ in 0..100 {
            come_and_go();
        }
        until(|| counts() == before);
    });
}

/// Threads of this process whose name begins so. That of the thread which watches processes does, too.
fn threads_called(name: &str) -> usize {
    let threads = std::fs::read_dir("/proc/self/task").expect("/proc").filter_map(Result::ok);
    threads.filter(|thread| std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.starts_with(name))).count()
}

#[test]
fn what_cannot_be_is_said() {
    in_time(|| {
        let _alone = alone();
        let says = |outcome: Result<(), ProcessesError>, expected: &str| assert_eq!(outcome.unwrap_err().to_string(), expected);
        let some = runtime(1, 2);
        says(some.set_processes(3), "3 worker processes were asked for, and there can be 2 (`RuntimeBuilder::processes_at_most`)");
        let none = Runtime::builder().threads(1).build().unwrap();
        let expected = "the runtime has no worker processes; `RuntimeBuilder::processes_at_most` says how many there can be";
        says(none.set_processes(1), expected);
        says(none.set_processes(0), expected);
        let alone = Runtime::builder().backend("process").processes(2).build().unwrap();
        says(alone.set_processes(0), "without worker processes nothing would be left to run tasks, as the runtime has no threads");
        alone.set_processes(1).unwrap();
        assert_eq!(alone.spawn(|| 1u8, ()).take().unwrap(), 1);
        some.shutdown();
        says(some.set_processes(2), "the runtime has been shut down");
        let error = Runtime::builder().backend("process").processes(0).processes_at_most(2).build().unwrap_err();
        assert!(error.to_string().contains("setting `processes` is `0`, and there would be no other processor to begin with"), "{error}");
        let error = Runtime::builder().threads(1).processes(3).processes_at_most(2).build().unwrap_err();
        assert_eq!(error.kind(), BuildErrorKind::Setting);
        assert!(error.to_string().contains("setting `processes.most` is `2`: there are to be 3 to begin with"), "{error}");
    });
}

#[test]
fn a_task_may_change_the_number_of_processes() {
    in_time(|| {
        let _alone = alone();
        let runtime = runtime(1, 2);
        for count in [0, 2, 1, 0, 2] {
            // It has captured something: it runs here, also on threads that stand for processes.
            let changed = runtime.spawn(
                move || poniard::current().ok_or("no runtime").and_then(|handle| handle.set_processes(count).map_err(|_| "refused")),
                (),
            );
            changed.take().unwrap();
            assert_eq!(runtime.processors_in(&Scope::backend("process")).len(), count);
        }
    });
}

/// Tasks, whose process is removed, and which are waited for, when a `Last` is dropped in the program.
static BEHIND: Mutex<Option<(poniard::Handle, Vec<Task<u64>>)>> = Mutex::new(None);

#[derive(Clone, Debug, Data, serde::Serialize, serde::Deserialize)]
struct Last {
    program: u32,
}

impl Drop for Last {
    fn drop(&mut self) {
        if self.program != id() {
            return;
        }
        // Locked to the end: who waits for the drop is not to go on in the middle of it.
        let mut behind = BEHIND.lock().expect("no panic");
        let Some((handle, tasks)) = behind.take() else { return };
        handle.set_processes(1).expect("one is left");
        for (number, task) in tasks.into_iter().enumerate() {
            match task.take() {
                Ok(value) => assert_eq!(value, number as u64 + 1),
                Err(error) => assert!(matches!(error.root().kind(), FailureKind::Removed { .. }), "{error}"),
            }
        }
        handle.set_processes(2).expect("there were two");
    }
}

fn quick(number: u64) -> u64 {
    number + 1
}

fn make_last(program: u32) -> Last {
    Last { program }
}

#[test]
fn what_was_claimed_ahead_is_finished_by_a_processor_that_is_removed() {
    in_time(|| {
        let _alone = alone();
        let runtime = runtime(2, 2);
        for _ in 0..20 {
            let marks = tempfile::tempdir().unwrap();
            let running = runtime.task(wait_for_mark, (marks.path().to_owned(),)).options(&on(2)).spawn();
            until(|| marks.path().join("begun").exists());
            let batch = |numbers: std::ops::Range<u64>| -> Vec<_> {
                numbers.map(|number| runtime.task(quick, (number,)).options(&on(2)).spawn()).collect()
            };
            let mut tasks = batch(0..70);
            runtime.task(make_last, (id(),)).options(&on(2)).spawn().detach();
            tasks.extend(batch(70..140));
            *BEHIND.lock().unwrap() = Some((runtime.handle(), tasks));
            std::fs::write(marks.path().join("end"), "").unwrap();
            running.take().unwrap();
            // The thread of the second process drops it, and goes on.
            until(|| BEHIND.lock().unwrap().is_none());
            runtime.wait_idle();
        }
    });
}
