//! Policies that are not the runtime's own: from plugin files, or with the program. They decide; and whatever is wrong with one, it is said, and every task runs.
#![expect(clippy::unwrap_used, reason = "the helpers of the tests are tests too")]

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};

use poniard::model::store::Store;
use poniard::model::{CodeId, Machine, Measurement, Models, ProcessorClass};
use poniard::plugin::{LoadErrorKind, PluginSearch, load, load_policies};
use poniard::policy::{
    Board, Candidate, DEFAULT, Decision, End, Estimate, POLICIES, Place, Placement, Policy, ReadyTask, Source, View, Why,
};
use poniard::{BuildErrorKind, Runtime, RuntimeBuilder};
use poniard_interface::header::{ABI_MAJOR, ABI_MINOR, MAGIC, RUSTC};
use poniard_interface::type_key::{FNV_OFFSET, fnv};
use poniard_tests::{Log, Stopped, in_time};
use tempfile::TempDir;

/// A plugin file as cargo left it beside this program.
fn built(file: &str) -> Vec<u8> {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    fs::read(folder.join(file)).unwrap_or_else(|error| panic!("`cargo test -p poniard-tests` builds {file} here: {error}"))
}

static EXAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| built("libponiard_plugin_policy_example.so"));
static FAULTY: LazyLock<Vec<u8>> = LazyLock::new(|| built("libponiard_plugin_faulty.so"));
static THREADS: LazyLock<Vec<u8>> = LazyLock::new(|| built("libponiard_backend_threads.so"));

fn write(folder: &TempDir, file: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// A folder with the example under the name that it is looked for.
fn with_example() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "libponiard_policy_longest-first.so", &EXAMPLE);
    folder
}

fn search(folder: &TempDir) -> PluginSearch {
    PluginSearch::none().with_path(folder.path())
}

/// One built-in thread.
fn one_thread() -> RuntimeBuilder {
    Runtime::builder().threads(1).models(None)
}

/// Why no runtime is built.
fn refusal(builder: RuntimeBuilder) -> String {
    let error = builder.build().expect_err("it is refused");
    assert_eq!(error.kind(), BuildErrorKind::Setting, "{error}");
    error.to_string()
}

fn check_words(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert!(!message.contains('\n') && !message.ends_with('.'), "one paragraph without a full stop: {message}");
}

static ORDER: Mutex<Vec<&str>> = Mutex::new(Vec::new());

fn short() {
    ORDER.lock().unwrap().push("short");
}

fn middle() {
    ORDER.lock().unwrap().push("middle");
}

fn long() {
    ORDER.lock().unwrap().push("long");
}

/// Has the file in `folder` say that the code of a function takes so many hours.
fn teach<F>(models: &Models, _: F, hours: u64) {
    let name = std::any::type_name::<F>();
    let code = CodeId::new(name, fnv(FNV_OFFSET, name.as_bytes()) as u64);
    let known = models.executions.resolve(&code, &ProcessorClass::new("cpu"));
    (0..100).for_each(|_| known.record(0, Measurement { wall_ns: hours * 3_600_000_000_000, cpu_ns: None }));
}

#[test]
fn a_policy_of_a_plugin_file_decides() {
    in_time(|| {
        let folder = with_example();
        let models = Models::new(1);
        teach(&models, short, 1);
        teach(&models, middle, 2);
        teach(&models, long, 3);
        Store::new(Some(folder.path().to_owned()), Machine::this()).save(&models).expect("a folder");
        let runtime = one_thread()
            .models(Some(folder.path().to_owned()))
            .plugins(search(&folder))
            .policy("longest-first")
            .explain(true)
            .build()
            .unwrap();
        let stopped = Stopped::spawn(|body| runtime.spawn(body, ()));
        let tasks = [
            runtime.spawn(middle, ()),
            runtime.spawn(short, ()),
            runtime.spawn(long, ()),
            runtime.spawn(middle, ()),
            runtime.spawn(long, ()),
        ];
        stopped.go().fetch().unwrap();
        for task in tasks {
            task.fetch().unwrap();
        }
        assert_eq!(*ORDER.lock().unwrap(), ["long", "long", "middle", "middle", "short"]);
        let report = runtime.report();
        assert_eq!(report.placement.unwrap().policy, "longest-first");
        assert_eq!(report.messages, [""; 0]);
        assert!(runtime.explanations().iter().all(|explanation| explanation.why == Why::FirstFree));
    });
}

#[test]
fn policies_are_listed_with_their_facts() {
    let folder = with_example();
    let given = write(&folder, "given.so", &FAULTY);
    let renamed = write(&folder, "libponiard_policy_faulty-place.so", &FAULTY);
    write(&folder, "libponiard_backend_threads.so", &THREADS);
    let found = load_policies(&search(&folder));
    assert!(found.refused.is_empty(), "{found:?}");
    let facts: Vec<_> = found.loaded.iter().map(|loaded| (loaded.name, loaded.summary, loaded.file.clone())).collect();
    let example = folder.path().join("libponiard_policy_longest-first.so");
    let expected = [
        ("faulty-place", "faulty on purpose", renamed),
        ("longest-first", "one queue, the task that is expected to take longest first", example),
    ];
    assert_eq!(facts, expected);
    for loaded in &found.loaded {
        assert_eq!((loaded.version.as_str(), loaded.rustc.as_str()), (env!("CARGO_PKG_VERSION"), RUSTC));
    }
    // A file that is named itself has to have one policy.
    let found = load_policies(&PluginSearch::none().with_path(&given));
    check_words(&found.refused[0].error.to_string(), &["exports several policies", "fifo", "libponiard_policy_<name>.so"]);
}

#[test]
fn a_file_of_one_kind_is_no_hindrance_to_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, backend) = (write(&folder, "one", &EXAMPLE), write(&folder, "two", &THREADS));
    let search = PluginSearch::none().with_path(&policy).with_path(&backend);
    let (backends, policies) = (load(&search), load_policies(&search));
    assert!(backends.refused.is_empty() && policies.refused.is_empty(), "{backends:?} {policies:?}");
    assert_eq!((backends.loaded.len(), policies.loaded.len()), (1, 1));
    let runtime = Runtime::builder().threads(1).models(None).builtin(false).plugins(search).policy("longest-first").build().unwrap();
    assert_eq!(*runtime.spawn(|| 1u64, ()).fetch().unwrap(), 1);
    assert!(runtime.report().refused.is_empty());
}

#[test]
fn a_path_names_a_policy_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "any-name", &EXAMPLE);
    let runtime = one_thread().policy(path.to_str().unwrap()).build().unwrap();
    assert_eq!(*runtime.spawn(|| 1u64, ()).fetch().unwrap(), 1);
    assert_eq!(runtime.report().placement.unwrap().policy, "longest-first");
    let missing = folder.path().join("missing.so");
    let message = refusal(one_thread().policy(missing.to_str().unwrap()));
    check_words(&message, &["setting `placement.policy`", missing.to_str().unwrap(), "no such file"]);
}

#[test]
fn only_the_policy_that_is_asked_for_is_looked_at() {
    let folder = with_example();
    write(&folder, "libponiard_policy_other.so", b"not looked at");
    for policy in ["longest-first", "fifo"] {
        let runtime = one_thread().plugins(search(&folder)).policy(policy).build().unwrap();
        assert_eq!(*runtime.spawn(|| 1u64, ()).fetch().unwrap(), 1);
        assert!(runtime.report().refused.is_empty() && runtime.report().messages.is_empty());
    }
    check_words(
        &refusal(one_thread().plugins(search(&folder)).policy("other")),
        &["libponiard_policy_other.so", "expected an ELF shared object"],
    );
}

#[test]
fn a_name_that_nobody_has_is_refused_with_all_that_there_are() {
    let folder = with_example();
    let message = refusal(one_thread().plugins(search(&folder)).policy("longest-frist"));
    let known = POLICIES.map(|known| known.name);
    check_words(&message, &["no policy is called `longest-frist`", "did you mean `longest-first`?", "besides longest-first"]);
    check_words(&message, &known);
    check_words(&message, &["searched for libponiard_policy_longest-frist.so in: ", folder.path().to_str().unwrap(), "given explicitly"]);
    let message = refusal(one_thread().policy("nothing-like-it"));
    assert!(!message.contains("besides") && !message.contains("did you mean"), "{message}");
    // Nobody said that plugin files may be used.
    check_words(&refusal(one_thread().policy("longest-first")), &["no place was searched for plugin files"]);
}

#[test]
fn two_files_with_one_policy_are_refused_by_both_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let first = write(&folder, "a/libponiard_policy_longest-first.so", &EXAMPLE);
    let second = write(&folder, "b/libponiard_policy_longest-first.so", &EXAMPLE);
    let both = PluginSearch::none().with_path(first.parent().unwrap()).with_path(second.parent().unwrap());
    let message = refusal(one_thread().plugins(both.clone()).policy("longest-first"));
    check_words(&message, &["the policy `longest-first`", first.to_str().unwrap(), second.to_str().unwrap()]);
    let found = load_policies(&both);
    assert_eq!((found.loaded.len(), &found.loaded[0].file), (1, &first));
    assert!(matches!(found.refused[0].error.kind, LoadErrorKind::Duplicate { .. }), "{found:?}");
    // Found twice, it is one file; and a path says which is meant.
    let twice = PluginSearch::none().with_path(&first).with_path(first.parent().unwrap());
    assert!(one_thread().plugins(twice).policy("longest-first").build().is_ok());
    assert!(one_thread().plugins(both).policy(second.to_str().unwrap()).build().is_ok());
}

#[test]
fn a_built_in_policy_wins_over_a_file_and_a_linked_one_over_both() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "libponiard_policy_fifo.so", &FAULTY);
    let whys = |builder: RuntimeBuilder| {
        let runtime = builder.plugins(search(&folder)).explain(true).build().unwrap();
        runtime.spawn(|| 1u64, ()).fetch().unwrap();
        (runtime.report().placement.unwrap().policy, runtime.explanations()[0].why)
    };
    assert_eq!(whys(one_thread().policy("fifo")), ("fifo", Why::FirstFree));
    let linked = one_thread().linked_policy(|| NewestFirst("fifo"));
    assert_eq!(whys(linked.clone()), ("fifo", Why::Chance));
    // The last word counts.
    assert_eq!(whys(linked.policy("priority")), ("priority", Why::FirstFree));
}

/// The example plugin with `bytes` at `offset` of its header.
fn with_header(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let start = [&MAGIC[..], &ABI_MAJOR.to_ne_bytes(), &ABI_MINOR.to_ne_bytes()].concat();
    let mut plugin = EXAMPLE.clone();
    let place = plugin.windows(start.len()).position(|bytes| bytes == start).expect("a plugin has a header") + offset;
    plugin[place..place + bytes.len()].copy_from_slice(bytes);
    plugin
}

/// What stands in a file called `libponiard_policy_<name>.so` is refused with `parts`, asked for and listed.
fn check_refused(name: &str, bytes: &[u8], parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, &format!("libponiard_policy_{name}.so"), bytes);
    let message = refusal(one_thread().plugins(search(&folder)).policy(name));
    let found = load_policies(&search(&folder));
    assert!(found.loaded.is_empty(), "{found:?}");
    for message in [message, found.refused[0].error.to_string()] {
        check_words(&message, &[parts, &[path.to_str().unwrap()]].concat());
    }
}

#[test]
fn files_that_are_no_policy_of_this_contract_are_refused() {
    let host = format!("expected version {ABI_MAJOR}.{ABI_MINOR}");
    check_refused("longest-first", b"", &["an empty file"]);
    check_refused("longest-first", &EXAMPLE[..1000], &["truncated"]);
    check_refused("longest-first", &THREADS, &["expected a policy, found a backend", "libponiard_backend_<name>.so"]);
    check_refused("other", &EXAMPLE, &["called `other`", "header says `longest-first`", "libponiard_policy_longest-first.so"]);
    check_refused("longest-first", &with_header(8, &0_u32.to_ne_bytes()), &["older than this program", &host, "rebuild the plugin"]);
    let newer = (ABI_MAJOR + 1).to_ne_bytes();
    check_refused("longest-first", &with_header(8, &newer), &["newer than this program", &host, "update this program"]);
    check_refused("longest-first", &with_header(0, b"PIONEER\0"), &["`poniard_policy_longest-first` holds no header"]);
    let libc = fs::read_to_string("/proc/self/maps").unwrap();
    let libc = libc.lines().find_map(|line| line.contains("/libc").then(|| &line[line.find('/').unwrap()..])).expect("a C library");
    check_refused("c", &fs::read(libc).unwrap(), &["expected an exported symbol `poniard_policy_c`, found none", "export_policy!"]);
    let mut plugin = EXAMPLE.clone();
    let places: Vec<_> = EXAMPLE.windows(11).enumerate().filter(|(_, bytes)| *bytes == b"StableOffer").map(|(place, _)| place).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|place| plugin[place..place + 11].copy_from_slice(b"StableOfter"));
    check_refused("longest-first", &plugin, &["a different layout of the contract", "StableOffer"]);
    check_refused("faulty-make", &FAULTY, &["could not make its policy", "the plugin panicked", "told to panic in faulty-make"]);
    check_refused("faulty-name", &FAULTY, &["its header says that the policy is called `faulty-name`, the policy says `another`"]);
}

#[test]
fn a_policy_that_is_called_a_backend_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "libponiard_backend_longest-first.so", &EXAMPLE);
    let found = load(&search(&folder));
    check_words(&found.refused[0].error.to_string(), &["expected a backend, found a policy", "libponiard_policy_<name>.so"]);
}

/// What each faulty policy does that cannot be, and what is said of it; nothing of the one whose answers are only extreme.
const FAULTS: [(&str, &str); 16] = [
    ("faulty-place", "told to panic in faulty-place"),
    ("faulty-key", "told to panic in faulty-key"),
    ("faulty-end", "told to panic in faulty-end"),
    ("faulty-accepts", "told to panic in faulty-accepts"),
    ("faulty-busy", "told to panic in faulty-busy"),
    ("faulty-victims", "told to panic in faulty-victims"),
    ("faulty-last", "told to panic in faulty-last"),
    ("faulty-offers", "told to panic in faulty-offers"),
    ("faulty-steal", "told to panic in faulty-steal"),
    ("faulty-share", "told to panic in faulty-share"),
    ("faulty-ended", "told to panic in faulty-ended"),
    ("faulty-foreign-place", "it placed a task at 18446744073709551615, whose candidates are 0, 1, 2"),
    ("faulty-no-place", "it said that no place takes a task that has candidates"),
    ("faulty-instead", "it spoke of the place 3 of 3"),
    ("faulty-foreign-victim", "it would steal from the place 3 of 3"),
    ("faulty-accepts-none", "it lets no place take a task, and nothing runs"),
];

/// Sends tasks over a board with three places; each comes out once.
fn run_board(policy: Box<dyn Policy>) {
    let mut board = Board::new(vec![Place::new(0, 0, 1); 3], policy, 1);
    let execution = Estimate { mean_ns: 1000, spread_ns: 10, count: 100 };
    let candidates = [0, 1, 2].map(|place| Candidate { place, execution, ..Candidate::default() });
    let (mut now_ns, mut done, mut stolen) = (0, Vec::new(), 0);
    for round in 0..10 {
        for number in round * 5..round * 5 + 5 {
            let task = ReadyTask { number, code: 1, priority: 0, rank_ns: None, bytes: 0, origin: None, candidates: &candidates };
            let _ = board.push(&task, number, now_ns);
        }
        let mut took = true;
        while took {
            let taken: Vec<_> = [2, 1, 0].into_iter().filter_map(|place| board.take(place, now_ns)).collect();
            now_ns += 1000;
            took = !taken.is_empty();
            for taken in taken {
                stolen += u32::from(matches!(taken.how.source, Source::Stolen { .. }));
                done.push(taken.value);
                assert!(board.finished(taken.ticket, now_ns).is_some());
            }
        }
        assert_eq!(board.waiting(), 0);
    }
    done.sort_unstable();
    assert_eq!(done, (0..50).collect::<Vec<_>>());
    let name = board.policy().name();
    // The one that is not given up steals all the time.
    assert!(stolen > 0 || name != "faulty-numbers");
}

#[test]
fn what_a_policy_cannot_do_is_said_once_and_every_task_runs() {
    for (name, said) in FAULTS.into_iter().chain([("faulty-numbers", "")]) {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, &format!("libponiard_policy_{name}.so"), &FAULTY);
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&warnings);
        let found = load_policies(&search(&folder));
        run_board(found.loaded[0].make(move |text| heard.lock().unwrap().push(text)));
        let warnings = warnings.lock().unwrap();
        if said.is_empty() {
            assert!(warnings.is_empty(), "{name}: {warnings:?}");
        } else {
            assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
            check_words(
                &warnings[0],
                &[&format!("the policy `{name}` is not used any more: "), said, &format!("`{DEFAULT}` goes on in its place")],
            );
        }
    }
}

#[test]
fn a_runtime_goes_on_when_its_policy_does_not() {
    for (name, said) in FAULTS.into_iter().chain([("faulty-numbers", "")]) {
        in_time(move || {
            let folder = tempfile::tempdir().unwrap();
            write(&folder, &format!("libponiard_policy_{name}.so"), &FAULTY);
            let runtime = Runtime::builder().threads(3).models(None).plugins(search(&folder)).policy(name).build().unwrap();
            let tasks: Vec<_> = (0..50u64).map(|number| runtime.spawn(move || number, ())).collect();
            assert_eq!(tasks.into_iter().map(|task| task.take().unwrap()).sum::<u64>(), 1225, "{name}");
            let messages = runtime.report().messages;
            // Whether there was anything to steal is chance here.
            assert!(messages.len() <= 1, "{name}: {messages:?}");
            if ["faulty-place", "faulty-key", "faulty-end", "faulty-ended", "faulty-foreign-place", "faulty-no-place"].contains(&name) {
                check_words(&messages[0], &["warning: ", name, said]);
            }
        });
    }
}

/// The newest task first, under any name.
#[derive(Debug)]
struct NewestFirst(&'static str);

impl Policy for NewestFirst {
    fn name(&self) -> &'static str {
        self.0
    }

    fn place(&mut self, _: &ReadyTask<'_>, _: &mut View<'_>) -> Decision {
        Decision::shared(Why::Chance)
    }

    fn end(&self, _: usize, _: &[Place]) -> End {
        End { last_level: false, last_within: true }
    }
}

#[test]
fn a_program_uses_a_policy_of_its_own() {
    in_time(|| {
        let builder = one_thread().linked_policy(|| NewestFirst("newest-first"));
        // Made anew for each runtime.
        for _ in 0..2 {
            let runtime = builder.clone().build().unwrap();
            let stopped = Stopped::spawn(|body| runtime.spawn(body, ()));
            let log = Log::default();
            let tasks: Vec<_> = (0..5).map(|number| runtime.spawn(log.note(number), ())).collect();
            stopped.go().fetch().unwrap();
            tasks.iter().for_each(|task| *task.fetch().unwrap());
            assert_eq!(log.read(), [4, 3, 2, 1, 0]);
            assert_eq!(runtime.report().placement.unwrap().policy, "newest-first");
        }
        check_words(&refusal(builder.policy("newest-fist")), &["did you mean `newest-first`?", "besides newest-first"]);
    });
}

/// Takes away what it is shown, and places where nothing is.
#[derive(Debug)]
struct Ruthless;

impl Policy for Ruthless {
    fn name(&self) -> &'static str {
        "ruthless"
    }

    fn place(&mut self, _: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
        view.places = &[];
        Decision { placement: Placement::Place(9), why: Why::Rule, finish_ns: None }
    }
}

/// Panics when it is made for the second time: the first is to learn its name.
static MADE: Mutex<u32> = Mutex::new(0);

fn make_once() -> NewestFirst {
    let mut made = MADE.lock().unwrap();
    *made += 1;
    let count = *made;
    drop(made);
    assert_eq!(count, 1, "once is enough");
    NewestFirst("made-once")
}

#[test]
fn a_linked_policy_that_is_wrong_is_told_off_like_another_one() {
    in_time(|| {
        let cases: [(RuntimeBuilder, &str); 2] = [
            (one_thread().linked_policy(|| Ruthless), "it placed a task at 9, whose candidates are 0"),
            (one_thread().linked_policy(make_once), "it panicked: assertion `left == right` failed: once is enough"),
        ];
        for (builder, said) in cases {
            let runtime = builder.build().unwrap();
            let tasks: Vec<_> = (0..50u64).map(|number| runtime.spawn(move || number, ())).collect();
            assert_eq!(tasks.into_iter().map(|task| task.take().unwrap()).sum::<u64>(), 1225);
            let messages = runtime.report().messages;
            assert_eq!(messages.len(), 1, "{messages:?}");
            assert!(messages[0].contains(said), "{messages:?}");
        }
    });
}
