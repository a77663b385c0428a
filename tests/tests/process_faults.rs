//! What is bad and comes from outside: types of users that break their word, processes that reply nonsense, bodies that do to their process what they can. Each is an error
//! of the task that is to blame, and the runtime works on.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, id};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use poniard::{
    Backend, BackendInfo, Buffer, Data, Execution, FailureKind, HostServices, OpenError, Opened, Processor, ProcessorInfo, ProcessorKind,
    Runtime, Scope, Settings, SpaceId, StartError, StopError, TaskError, TaskOptions, WorkerId,
};
use poniard_interface::{CallError, Caller, Remote};
use poniard_tests::in_time;
use proptest::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

fn runtime() -> Runtime {
    Runtime::builder().threads(1).processes(2).build().expect("a runtime")
}

fn far() -> TaskOptions {
    TaskOptions::new().scope(Scope::backend("process"))
}

/// Asserts that processes still execute tasks.
fn check_works(runtime: &Runtime) {
    for number in 0..8u64 {
        assert_eq!(*runtime.task(|number: u64| number + 1, (number,)).options(&far()).spawn().fetch().expect("no failure"), number + 1);
    }
}

/// What a [`Trap`] does.
#[derive(Clone, Copy, Debug, PartialEq, Data, Serialize, Deserialize)]
enum How {
    Nothing,
    PanicWhenWritten,
    PanicWhenRead,
    /// More elements are announced than written.
    LieWhenWritten,
    ErrorWhenRead,
    /// Room for more elements is asked for than there is memory.
    GreedWhenRead,
    PanicWhenDropped,
}

/// A value whose code misbehaves in one process: the program's, or any other.
#[derive(Clone, Data)]
struct Trap {
    how: How,
    host: u32,
    /// Whether it misbehaves in the program's process, and not in others.
    here: bool,
}

impl Trap {
    fn new(how: How, here: bool) -> Self {
        Self { how, host: id(), here }
    }

    fn is(&self, how: How) -> bool {
        self.how == how && (self.host == id()) == self.here
    }
}

impl fmt::Debug for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.how, self.here)
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        assert!(!self.is(How::PanicWhenDropped) || std::thread::panicking(), "a trap is dropped");
    }
}

impl Serialize for Trap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        assert!(!self.is(How::PanicWhenWritten), "a trap is written");
        let len = if self.is(How::LieWhenWritten) { 1 << 40 } else { 1 };
        let mut sequence = serializer.serialize_seq(Some(len))?;
        sequence.serialize_element(&(self.how, self.host, self.here))?;
        sequence.end()
    }
}

impl<'de> Deserialize<'de> for Trap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Vec::<(How, u32, bool)>::deserialize(deserializer)?;
        let (how, host, here) = parts[0];
        let trap = Self { how, host, here };
        assert!(!trap.is(How::PanicWhenRead), "a trap is read");
        if trap.is(How::ErrorWhenRead) {
            return Err(serde::de::Error::custom("a trap wants no reader"));
        }
        if trap.is(How::GreedWhenRead) {
            drop(std::hint::black_box(Vec::<u8>::with_capacity(usize::MAX)));
        }
        Ok(trap)
    }
}

fn take_it(trap: &Trap) -> u64 {
    u64::from(trap.here)
}

fn make_it(how: How, host: u32, here: bool) -> Trap {
    Trap { how, host, here }
}

/// The process's part of an error.
fn reason(error: &TaskError) -> String {
    assert!(matches!(error.kind(), FailureKind::Processor { .. }), "{error:?}");
    error.reason()
}

#[test]
fn a_type_that_breaks_its_word_over_there_is_the_tasks_error() {
    in_time(|| {
        let runtime = runtime();
        for (how, expected) in [
            (How::PanicWhenRead, "its arguments cannot be read: the type's own code panicked: a trap is read"),
            (How::ErrorWhenRead, "its arguments cannot be read: serde cannot read it"),
            (How::GreedWhenRead, "its arguments cannot be read: the type's own code panicked: capacity overflow"),
        ] {
            let error = runtime.task(take_it, (Trap::new(how, false),)).options(&far()).spawn().fetch().expect_err("a failure");
            assert!(reason(&error).contains(expected), "{error}");
            check_works(&runtime);
        }
        for (how, expected) in [
            (How::PanicWhenWritten, "its value cannot be written: the type's own code panicked: a trap is written"),
            (How::LieWhenWritten, "gave nothing that can be used: serde cannot read it"),
        ] {
            let error = runtime.task(make_it, (how, id(), false)).options(&far()).spawn().fetch().expect_err("a failure");
            assert!(reason(&error).contains(expected), "{error}");
            check_works(&runtime);
        }
        assert_eq!(*runtime.task(take_it, (Trap::new(How::PanicWhenDropped, false),)).options(&far()).spawn().fetch().expect("a value"), 0);
        check_works(&runtime);
    });
}

#[test]
fn a_type_that_breaks_its_word_here_is_the_tasks_error() {
    in_time(|| {
        let runtime = runtime();
        for (how, expected) in [
            (How::PanicWhenRead, "gave nothing that can be used: the type's own code panicked: a trap is read"),
            (How::ErrorWhenRead, "gave nothing that can be used: serde cannot read it"),
            (How::GreedWhenRead, "gave nothing that can be used: the type's own code panicked: capacity overflow"),
        ] {
            let task = runtime.task(make_it, (how, id(), true)).options(&far()).spawn();
            let after = runtime.task(take_it, (&task,)).spawn();
            let error = task.fetch().expect_err("a failure");
            assert!(reason(&error).contains(expected), "{error}");
            assert!(matches!(after.fetch().expect_err("a failure").kind(), FailureKind::Dependency(_)));
            check_works(&runtime);
        }
        // What cannot be written stays.
        let stays = runtime.task(take_it, (Trap::new(How::PanicWhenWritten, true),)).options(&far()).spawn();
        assert_eq!(*stays.fetch().expect("a value"), 1);
        let lie = runtime.task(take_it, (Trap::new(How::LieWhenWritten, true),)).options(&far()).spawn();
        assert!(reason(&lie.fetch().expect_err("a failure")).contains("its arguments cannot be read: serde cannot read it"));
        drop(runtime.task(take_it, (Trap::new(How::PanicWhenDropped, true),)).options(&far()).spawn().fetch());
        check_works(&runtime);
        // Nothing of it is in the way of values that keep theirs.
        let good = runtime.task(make_it, (How::Nothing, id(), true)).options(&far()).spawn();
        assert_eq!(good.fetch().expect("a value").how, How::Nothing);
    });
}

/// What the process of a [`Liar`] does: it gets the call and whoever waits for it, and gives a reply.
type Lie = dyn FnMut(&mut dyn Caller) -> Result<Vec<u8>, CallError> + Send;

/// A backend with one processor, whose process is a function of the test.
struct Liar(Arc<LyingRemote>);

struct LyingRemote(Mutex<Box<Lie>>);

struct LyingProcessor {
    host: Arc<dyn HostServices>,
    remote: Arc<LyingRemote>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Backend for Liar {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "liar".into(), version: "1".into() }
    }

    fn open(&self, _: &Settings, host: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
        let processor = LyingProcessor { host, remote: Arc::clone(&self.0), thread: Mutex::default() };
        Ok(Opened { processors: vec![Box::new(processor)], spaces: Vec::new() })
    }
}

impl Processor for LyingProcessor {
    fn info(&self) -> ProcessorInfo {
        ProcessorInfo {
            name: "liar-0".into(),
            kind: ProcessorKind::cpu(),
            execution: Execution::Remote,
            space: SpaceId::HOST,
            numa_node: None,
            device: None,
        }
    }

    fn start(&self, worker: WorkerId) -> Result<(), StartError> {
        let (host, remote) = (Arc::clone(&self.host), Arc::clone(&self.remote));
        *self.thread.lock().expect("no panic") = Some(std::thread::spawn(move || host.worker_main_remote(worker, remote)));
        Ok(())
    }

    fn stop(&self) -> Result<(), StopError> {
        let thread = self.thread.lock().expect("no panic").take();
        thread.map_or(Ok(()), |thread| thread.join().map_err(|_| StopError::new("its thread panicked")))
    }
}

impl Remote for LyingRemote {
    fn call(&self, _: &[u8], caller: &mut dyn Caller) -> Result<Vec<u8>, CallError> {
        caller.begins(1);
        self.0.lock().expect("no panic")(caller)
    }
}

/// A runtime whose only processor's process does as `lie` says.
fn with_liar(lie: impl FnMut(&mut dyn Caller) -> Result<Vec<u8>, CallError> + Send + 'static) -> Runtime {
    let liar = Liar(Arc::new(LyingRemote(Mutex::new(Box::new(lie)))));
    Runtime::builder().builtin(false).linked(liar).build().expect("a runtime")
}

/// The bytes of a request.
fn request(tag: u8, rest: [u64; 3]) -> Vec<u8> {
    [vec![tag], numbers(&rest)].concat()
}

/// A request for a block of so many bytes, and its place: arena, offset.
fn ask_for_block(caller: &mut dyn Caller, len_bytes: u64) -> (u64, u64) {
    let answer = caller.answer(&request(0, [len_bytes, 0, 0]));
    let number = |at: usize| u64::from_ne_bytes(answer[at..at + 8].try_into().expect("eight bytes"));
    (number(0), number(8))
}

/// The bytes of numbers.
fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

/// A reply with a value: how long it took, waited and had a core, blocks that are given back, how much was copied, and a buffer at a place.
fn buffer_reply(returned: &[(u64, u64, u64)], (arena, offset, len_bytes): (u64, u64, u64)) -> Vec<u8> {
    let returned: Vec<u64> = returned.iter().flat_map(|(arena, offset, len)| [*arena, *offset, *len]).collect();
    let before = [vec![0], numbers(&[1, 0, 0, returned.len() as u64 / 3]), numbers(&returned), numbers(&[0, 0])];
    [before.concat(), vec![1], numbers(&[arena, offset, len_bytes])].concat()
}

fn never_here() -> Buffer<f64> {
    unreachable!("the liar replies for it")
}

#[test]
fn a_process_cannot_name_memory_that_it_was_not_lent() {
    in_time(|| {
        let case = Arc::new(AtomicU32::new(0));
        let which = Arc::clone(&case);
        let runtime = with_liar(move |caller| {
            let (arena, offset) = ask_for_block(caller, 4096);
            let lent = (arena, offset, 4096);
            Ok(match which.load(Relaxed) {
                0 => buffer_reply(&[], lent),
                // Other arenas and places, lengths of other blocks, a place inside the block.
                1 => buffer_reply(&[], (arena + 1000, offset, 4096)),
                2 => buffer_reply(&[], (u64::MAX, u64::MAX, u64::MAX)),
                3 => buffer_reply(&[], (arena, offset + 64, 4096)),
                4 => buffer_reply(&[], (arena, offset, 1 << 40)),
                5 => buffer_reply(&[], (arena, offset, 8192)),
                // Given back and given away.
                6 => buffer_reply(&[lent], lent),
                7 => buffer_reply(&[lent, lent], lent),
                // More blocks than the reply has bytes.
                8 => [vec![0], numbers(&[1, 0, 0, u64::MAX])].concat(),
                // More than a value.
                9 => [buffer_reply(&[], lent), vec![0]].concat(),
                // No whole number of elements.
                _ => buffer_reply(&[], (arena, offset, 4095)),
            })
        });
        for number in 0..11 {
            case.store(number, Relaxed);
            let outcome = runtime.spawn(never_here, ()).fetch();
            if number == 0 {
                assert_eq!(outcome.expect("it was lent").len(), 512);
                continue;
            }
            let error = outcome.expect_err("a failure");
            let expected = match number {
                8 => "is more than the",
                9 => "1 bytes are left over",
                10 => "no whole number",
                _ => "was not lent to the process",
            };
            assert!(reason(&error).contains(expected), "{number}: {error}");
        }
    });
}

#[test]
fn requests_that_are_none_are_answered_by_nothing() {
    in_time(|| {
        let (tell, told) = mpsc::channel();
        let runtime = with_liar(move |caller| {
            for request in [
                vec![],
                vec![7; 25],
                vec![0; 24],
                vec![1; 26],
                vec![5; 2],
                vec![6; 3],
                [vec![6, 0], numbers(&[u64::MAX])].concat(),
                request(0, [64, 1, 0]),
                request(1, [u64::MAX, 0, 0]),
                request(2, [u64::MAX, 0, 0]),
                request(3, [5, 0, 0]),
                request(4, [0, 0, 64]),
                request(4, [u64::MAX; 3]),
            ] {
                tell.send(caller.answer(&request)).expect("somebody listens");
            }
            // One that cannot be met is answered by a reason.
            assert!(caller.answer(&request(0, [u64::MAX, 0, 0])).starts_with(b"the size overflows "));
            Ok([vec![0], numbers(&[1, 0, 0, 0, 0, 0, 5])].concat())
        });
        assert_eq!(*runtime.spawn(|| 0u64, ()).fetch().expect("a value"), 5);
        drop(runtime);
        assert!(told.iter().all(|answer| answer.is_empty()));
    });
}

#[test]
fn a_process_that_ends_each_time_is_an_error_and_none_is_no_hang() {
    in_time(|| {
        let runtime = with_liar(|_| Err(CallError::Lost { process: 1, reason: "was made up".into() }));
        let error = runtime.spawn(|| 0u64, ()).fetch().expect_err("a failure");
        assert!(reason(&error).contains("was made up; 3 processes have ended over it"), "{error}");
        let runtime = with_liar(|_| Err(CallError::NoProcess { reason: "there is none".into() }));
        assert_eq!(*runtime.spawn(|| 7u64, ()).fetch().expect("it runs here"), 7);
        assert!(runtime.report().messages.iter().any(|message| message.contains("there is none; its tasks run in this process")));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_a_process_replies_is_a_value_or_an_error(replies in prop::collection::vec(
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..48),
            // A value behind no blocks.
            prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..64).prop_map(|rest| [vec![0; 49], rest].concat()),
            // Texts and values cut somewhere.
            (0u8..7, prop::collection::vec(any::<u64>().prop_map(|number| number >> (number % 64)), 0..9), 0usize..90)
                .prop_map(|(tag, parts, len)| { let mut reply = [vec![tag], numbers(&parts)].concat(); reply.truncate(len); reply }),
        ],
        8 * 8,
    )) {
        in_time(move || {
            // One that says that there is no such function is believed, and the task runs here.
            let mut replies = replies.into_iter().filter(|reply| reply.first() != Some(&5)).chain([vec![]]).cycle();
            let runtime = with_liar(move |_| Ok(replies.next().expect("a cycle has no end")));
            for _ in 0..8 {
                let check = |failed: Option<TaskError>| assert!(failed.is_none_or(|error| !error.reason().contains("unreachable")));
                check(runtime.spawn(unreachable::<u64>, ()).fetch().err());
                check(runtime.spawn(unreachable::<String>, ()).fetch().err());
                check(runtime.spawn(unreachable::<Vec<f64>>, ()).fetch().err());
                check(runtime.spawn(unreachable::<Vec<String>>, ()).fetch().err());
                check(runtime.spawn(unreachable::<BTreeMap<String, Option<(u8, char)>>>, ()).fetch().err());
                check(runtime.spawn(unreachable::<Buffer<u32>>, ()).fetch().err());
                check(runtime.spawn(unreachable::<(bool, Duration)>, ()).fetch().err());
                check(runtime.spawn(unreachable::<How>, ()).fetch().err());
            }
        });
    }
}

/// The liar replies for it.
fn unreachable<T>() -> T {
    unreachable!()
}

fn die() {
    std::process::abort();
}

/// The arguments by which this program runs one ignored test.
fn arguments(test: &str) -> [&str; 5] {
    ["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]
}

/// Asserts that a command has run one test, which passed; gives what it printed.
fn run_alone(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{}: {text}", output.status);
    text
}

fn this_program() -> PathBuf {
    std::env::current_exe().expect("a test has a file")
}

#[test]
#[ignore = "removes its program; run by `a_program_may_lose_its_file_and_have_any_name_and_folder`"]
fn alone_and_without_a_file() {
    if std::env::var_os("PONIARD_REMOVE_TEST").is_some() {
        std::fs::remove_file(this_program()).expect("it is a copy");
    }
    let runtime = runtime();
    check_works(&runtime);
    let killed = runtime.task(die, ()).options(&far()).once().spawn();
    assert!(killed.fetch().expect_err("a failure").reason().contains("SIGABRT"));
    check_works(&runtime);
}

#[test]
fn a_program_may_lose_its_file_and_have_any_name_and_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("a copy");
    std::fs::copy(this_program(), &copy).expect("a copy");
    let alone = arguments("alone_and_without_a_file");
    run_alone(Command::new(&copy).args(alone).env("PONIARD_REMOVE_TEST", "1"));
    assert!(!copy.exists());
    run_alone(Command::new(this_program()).args(alone).current_dir(folder.path()).arg0("another name"));
    // A folder that is gone.
    let gone = folder.path().join("gone");
    std::fs::create_dir(&gone).expect("a folder");
    let script = r#"rmdir "$PWD" && exec "$0" "$@""#;
    run_alone(Command::new("sh").args(["-c", script]).arg(this_program()).args(alone).current_dir(&gone));
}

#[test]
#[ignore = "has no /proc; run by `without_proc_tasks_run_in_the_program`"]
fn alone_without_proc() {
    assert!(!std::path::Path::new("/proc/self").exists());
    let runtime = runtime();
    for _ in 0..4 {
        assert_eq!(runtime.task(id, ()).options(&far()).spawn().take().expect("it runs here"), id());
    }
    let messages = runtime.report().messages;
    assert!(messages.iter().any(|message| message.contains("is `/proc` mounted?; its tasks run in this process")), "{messages:?}");
}

#[test]
#[expect(clippy::print_stdout, reason = "says why it does nothing")]
fn without_proc_tasks_run_in_the_program() {
    let hide = |then: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &format!("mount -t tmpfs none /proc && {then}")]);
        command
    };
    if !hide("true").status().is_ok_and(|status| status.success()) {
        println!("skipped: /proc cannot be hidden here, which takes root and `unshare`");
        return;
    }
    run_alone(hide(r#"exec "$0" "$@""#).arg(this_program()).args(arguments("alone_without_proc")));
}

/// How many tasks and deaths the soak has: these, or as the variable says.
const SOAK: (u64, u64) = (1_000_000, 1_000);
const SOAK_VARIABLE: &str = "PONIARD_SOAK_TEST";

/// What a process has that could leak.
#[derive(Debug)]
struct Holdings {
    descriptors: usize,
    mappings: usize,
    threads: usize,
    children: usize,
    resident_kb: u64,
}

impl Holdings {
    fn of(process: u32) -> Self {
        let count = |folder: &str| std::fs::read_dir(format!("/proc/{process}/{folder}")).expect("it lives").count();
        let text = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).expect("it lives");
        let resident = text("status").lines().find_map(|line| line.strip_prefix("VmRSS:").map(str::to_owned)).expect("a size");
        let children = |task: std::io::Result<std::fs::DirEntry>| {
            let task = task.expect("a task").file_name();
            // A thread may have ended meanwhile.
            let children = std::fs::read_to_string(format!("/proc/{process}/task/{}/children", task.display())).unwrap_or_default();
            children.split_whitespace().count()
        };
        Self {
            descriptors: count("fd"),
            mappings: text("maps").lines().filter(|line| line.contains("poniard")).count(),
            threads: count("task"),
            children: std::fs::read_dir(format!("/proc/{process}/task")).expect("it lives").map(children).sum(),
            resident_kb: resident.trim().trim_end_matches(" kB").parse().expect("a number"),
        }
    }
}

fn parent() -> u32 {
    std::os::unix::process::parent_id()
}

fn shift(numbers: &Buffer<u64>, by: u64) -> Buffer<u64> {
    poniard::buffer::from_fn(numbers.len(), |index| numbers[index] + by)
}

/// Ends its process: by a signal, by itself, in the middle of nested tasks.
fn end_process(how: u64) -> u64 {
    match how % 3 {
        0 => std::process::abort(),
        1 => std::process::exit(3),
        _ => {
            let nested: Vec<_> = (0..4u64).map(|number| poniard::spawn(|number: u64| number, (number,))).collect();
            let sum = nested.into_iter().map(|task| task.take().unwrap_or(0)).sum::<u64>();
            if sum == 6 { std::process::abort() } else { sum }
        }
    }
}

/// A round of tasks of all kinds, and `deaths` of processes.
fn soak_round(runtime: &Runtime, round: u64, tasks: u64, deaths: u64) {
    let numbers: Vec<_> =
        (0..tasks * 7 / 10).map(|number| runtime.task(|number: u64| number * 3, (number,)).options(&far()).spawn()).collect();
    let texts: Vec<_> = (0..tasks * 2 / 10)
        .map(|number| runtime.task(|text: String| text.len(), ("x".repeat(number as usize % 300),)).options(&far()).spawn())
        .collect();
    let dying: Vec<_> = (0..deaths).map(|how| runtime.task(end_process, (round + how,)).options(&far()).once().spawn()).collect();
    let buffer = runtime.value(poniard::buffer::from_fn(1000 + round as usize % 7 * 4000, |index| index as u64));
    let buffers: Vec<_> = (0..tasks / 10).map(|by| runtime.task(shift, (&buffer, by)).options(&far()).spawn()).collect();
    for (number, task) in numbers.into_iter().enumerate() {
        assert_eq!(task.take().expect("a value"), number as u64 * 3);
    }
    for (number, task) in texts.into_iter().enumerate() {
        assert_eq!(task.take().expect("a value"), number % 300);
    }
    for (by, task) in buffers.into_iter().enumerate() {
        assert_eq!(task.take().expect("a value")[999], 999 + by as u64);
    }
    for task in dying {
        assert!(matches!(task.fetch().expect_err("it ended its process").kind(), FailureKind::Processor { .. }));
    }
}

#[test]
#[ignore = "counts what the whole process has, and takes minutes; `a_short_soak_leaves_nothing_behind` runs a short one"]
#[expect(clippy::print_stdout, reason = "tells whoever runs it")]
fn soak() {
    let (tasks, deaths) = std::env::var(SOAK_VARIABLE).ok().map_or(SOAK, |text| {
        let (tasks, deaths) = text.split_once(' ').expect("two numbers");
        (tasks.parse().expect("a number"), deaths.parse().expect("a number"))
    });
    const ROUND: u64 = 1000;
    let rounds = tasks / ROUND;
    let runtime = runtime();
    let server = || runtime.task(parent, ()).options(&far()).spawn().take().expect("a value");
    for round in 0..14 {
        soak_round(&runtime, round, ROUND, 1);
    }
    let the_server = server();
    let before = (Holdings::of(id()), Holdings::of(the_server));
    let begin = std::time::Instant::now();
    for round in 0..rounds {
        soak_round(&runtime, round, ROUND, deaths * (round + 1) / rounds - deaths * round / rounds);
    }
    let took = begin.elapsed();
    // Both processes are there.
    soak_round(&runtime, 0, ROUND, 0);
    assert_eq!(server(), the_server, "the fork server is the one of the beginning");
    let after = (Holdings::of(id()), Holdings::of(the_server));
    println!("\n{tasks} tasks and {deaths} deaths in {took:?}\nhost before: {:?}\nhost after:  {:?}", before.0, after.0);
    println!("fork server before: {:?}\nfork server after:  {:?}", before.1, after.1);
    for (before, after) in [(&before.0, &after.0), (&before.1, &after.1)] {
        // A process that is not there at one of the two moments has three descriptors and a mapping.
        assert!(after.descriptors <= before.descriptors + 6, "descriptors");
        // And arenas of a size that came later.
        assert!(after.mappings <= before.mappings + 4, "mappings");
        assert!(after.threads <= before.threads + 2, "threads");
        assert!(after.children <= 2.max(before.children), "children");
        assert!(after.resident_kb <= before.resident_kb + (16 << 10), "memory");
    }
    drop(runtime);
    assert!(Holdings::of(id()).children == 0, "the fork server has ended and was waited for");
}

#[test]
fn a_short_soak_leaves_nothing_behind() {
    run_alone(Command::new(this_program()).args(arguments("soak")).env(SOAK_VARIABLE, "20000 30"));
}
