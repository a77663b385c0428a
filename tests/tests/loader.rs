//! The loader meets plugin files of every sort: good, broken, foreign, old and hostile. Each bad one is an error that says what to do, and the
//! good one beside it is loaded all the same.
#![expect(clippy::unwrap_used, reason = "the helpers of the tests are tests too")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::Duration;

use poniard::plugin::{Found, LoadErrorKind, PluginSearch, load};
use poniard_interface::header::{ABI_MAJOR, ABI_MINOR, IDENTITY_BYTES, MAGIC, RUSTC};
use poniard_interface::{Completion, HostServices, LogLevel, RunError, Settings, TaskDescriptor, TaskId, WorkerId};
use tempfile::TempDir;

/// A plugin file as cargo left it beside this program.
fn built(file: &str) -> Vec<u8> {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    fs::read(folder.join(file)).unwrap_or_else(|error| panic!("`cargo test -p poniard-tests` builds {file} here: {error}"))
}

static EXAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| built("libponiard_plugin_example.so"));
static THREADS: LazyLock<Vec<u8>> = LazyLock::new(|| built("libponiard_backend_threads.so"));
static FAULTY: LazyLock<Vec<u8>> = LazyLock::new(|| built("libponiard_plugin_faulty.so"));

/// Where the header of a plugin lies in its file.
fn header_at(plugin: &[u8]) -> usize {
    let start = [&MAGIC[..], &ABI_MAJOR.to_ne_bytes(), &ABI_MINOR.to_ne_bytes()].concat();
    let places: Vec<_> = plugin.windows(start.len()).enumerate().filter(|(_, bytes)| *bytes == start).map(|(place, _)| place).collect();
    assert_eq!(places.len(), 1, "one header in a plugin");
    places[0]
}

/// The example plugin with `bytes` at `offset` of its header.
fn with_header(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let place = header_at(&EXAMPLE) + offset;
    with_bytes(place, bytes)
}

/// The example plugin with `bytes` at `offset` of the file.
fn with_bytes(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut plugin = EXAMPLE.clone();
    plugin[offset..offset + bytes.len()].copy_from_slice(bytes);
    plugin
}

fn write(folder: &TempDir, file: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn names(found: &Found) -> Vec<&str> {
    found.loaded.iter().map(|loaded| loaded.info.name.as_str()).collect()
}

/// One refused file, its message has all `parts` and is one paragraph.
fn check_refused(found: &Found, file: &Path, parts: &[&str]) {
    assert_eq!(found.refused.len(), 1, "{found:?}");
    let refused = &found.refused[0];
    let message = refused.error.to_string();
    assert_eq!(refused.file, file);
    for part in parts.iter().chain([&file.display().to_string().as_str()]) {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert!(!message.contains('\n') && !message.ends_with('.'), "one paragraph without a full stop: {message}");
}

/// A folder of the threads plugin and of what `make` puts at the path of an example plugin: the first is loaded, the second refused with `parts`.
fn check_made(make: impl FnOnce(&Path), parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "libponiard_backend_threads.so", &THREADS);
    let path = folder.path().join("libponiard_backend_example.so");
    make(&path);
    let found = load(&PluginSearch::none().with_path(folder.path()));
    assert_eq!(names(&found), ["threads"], "the host goes on with the other backends: {found:?}");
    check_refused(&found, &path, parts);
}

fn check_bytes(bytes: &[u8], parts: &[&str]) {
    check_made(|path| fs::write(path, bytes).unwrap(), parts);
}

/// Notes what a backend asks of its host.
struct Notes(Mutex<mpsc::Sender<String>>);

impl Notes {
    fn host() -> (Arc<dyn HostServices>, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel();
        (Arc::new(Self(Mutex::new(sender))), receiver)
    }

    fn note(&self, text: String) {
        // Nobody listens any more once the test is over.
        let _ = self.0.lock().unwrap().send(text);
    }
}

impl HostServices for Notes {
    fn worker_main(&self, worker: WorkerId) {
        self.note(format!("worker {worker}"));
    }

    fn run(&self, task: TaskId) -> Result<(), RunError> {
        self.note(format!("run {task}"));
        if task.0 == 13 { Err(RunError::new("no task 13")) } else { Ok(()) }
    }

    fn complete(&self, completions: &[Completion]) {
        for completion in completions {
            self.note(format!("complete {} {:?}", completion.task, completion.outcome));
        }
    }

    fn log(&self, _: LogLevel, message: &str) {
        self.note(format!("log {message}"));
    }
}

fn next(notes: &mpsc::Receiver<String>) -> String {
    notes.recv_timeout(Duration::from_secs(20)).expect("the backend calls its host")
}

#[test]
fn good_plugins_are_loaded_with_their_facts() {
    let folder = tempfile::tempdir().unwrap();
    let threads = write(&folder, "libponiard_backend_threads.so", &THREADS);
    let example = write(&folder, "libponiard_backend_example.so", &EXAMPLE);
    write(&folder, "libother.so", b"not looked at");
    let found = load(&PluginSearch::none().with_path(folder.path()));
    assert_eq!(names(&found), ["example", "threads"]);
    assert!(found.refused.is_empty(), "{found:?}");
    assert_eq!(found.loaded.iter().map(|loaded| loaded.file.clone()).collect::<Vec<_>>(), [example, threads]);
    for loaded in &found.loaded {
        assert_eq!(loaded.rustc, RUSTC);
        assert_eq!(loaded.info, loaded.backend.info());
        assert_eq!(loaded.info.version, env!("CARGO_PKG_VERSION"));
    }
    assert_eq!(found.searched.len(), 1);
    assert_eq!(found.searched[0].path, folder.path());
}

#[test]
fn a_queued_processor_of_a_plugin_runs_tasks_and_reports_them() {
    let folder = tempfile::tempdir().unwrap();
    let found = load(&PluginSearch::none().with_path(write(&folder, "any-name", &EXAMPLE)));
    let (host, notes) = Notes::host();
    let opened = found.loaded[0].backend.open(&Settings::new(), host).unwrap();
    let processor = &opened.processors[0];
    assert_eq!(processor.info().name, "example-queue");
    processor.submit(&[TaskDescriptor::new(TaskId(1), "one"), TaskDescriptor::new(TaskId(13), "thirteen")]).unwrap();
    let expected = ["run 1", "complete 1 Ok(())", "run 13", "complete 13 Err(Fault { kind: Refused, reason: \"no task 13\" })"];
    assert_eq!(expected.map(|_| next(&notes)), expected);
    assert!(processor.start(WorkerId(0)).is_err(), "a queued processor has no worker");
    processor.stop().unwrap();
}

#[test]
fn an_inline_processor_of_a_plugin_lends_its_thread() {
    let folder = tempfile::tempdir().unwrap();
    let found = load(&PluginSearch::none().with_path(write(&folder, "any-name", &THREADS)));
    let (host, notes) = Notes::host();
    let mut settings = Settings::new();
    settings.set("threads", "2");
    let opened = found.loaded[0].backend.open(&settings, Arc::clone(&host)).unwrap();
    assert_eq!(opened.processors.len(), 2);
    for (worker, processor) in opened.processors.iter().enumerate() {
        processor.start(WorkerId(worker as u32 + 5)).unwrap();
    }
    for processor in &opened.processors {
        processor.stop().unwrap();
    }
    assert_eq!(BTreeSet::from([next(&notes), next(&notes)]), BTreeSet::from(["worker 5".to_owned(), "worker 6".to_owned()]));
    settings.set("threads", "0");
    let error = found.loaded[0].backend.open(&settings, host).unwrap_err();
    assert!(error.reason.contains("at least 1"), "{error}");
}

#[test]
fn files_that_are_no_shared_object_are_refused() {
    check_bytes(b"", &["an empty file", "expected an ELF shared object"]);
    check_bytes(b"#!/bin/sh\n", &["expected an ELF shared object", "begins with the bytes `#!/b`"]);
    check_bytes(&[0; 4096], &["expected an ELF shared object", "\\x00\\x00\\x00\\x00"]);
    check_bytes(b"\x7fELF", &["truncated", "it has 4"]);
    check_bytes(&[b"\x7fELF".as_slice(), &[0xff; 4096]].concat(), &["built for ELF machine 65535"]);
    check_bytes(&with_bytes(16, &1_u16.to_ne_bytes()), &["expected an ELF shared object, found an object file", "cdylib"]);
    check_bytes(&with_bytes(16, &2_u16.to_ne_bytes()), &["found an executable"]);
}

#[test]
fn things_that_are_no_regular_files_are_refused_at_once() {
    check_made(|path| fs::create_dir(path).unwrap(), &["expected a regular file, found a folder"]);
    check_made(
        |path| assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo of coreutils").success()),
        &["expected a regular file, found a pipe"],
    );
    check_made(|path| drop(UnixListener::bind(path).unwrap()), &["expected a regular file, found a socket"]);
    check_made(|path| symlink("/dev/zero", path).unwrap(), &["expected a regular file, found a device"]);
    check_made(|path| symlink("/no/such/file", path).unwrap(), &["no such file or folder"]);
    check_made(|path| symlink(path, path).unwrap(), &["symbolic links"]);
}

#[test]
fn a_file_that_may_not_be_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "libponiard_backend_example.so", &EXAMPLE);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let found = load(&PluginSearch::none().with_path(folder.path()));
    // The superuser reads everything.
    if fs::File::open(&path).is_ok() {
        assert_eq!(names(&found), ["example"]);
    } else {
        check_refused(&found, &path, &["cannot open it", "ermission denied"]);
    }
}

#[test]
fn a_truncated_plugin_is_refused_wherever_it_was_cut() {
    let whole = EXAMPLE.len();
    check_bytes(&EXAMPLE[..1000], &["truncated", "it has 1000", &format!("{whole} bytes")]);
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "libponiard_backend_example.so", &EXAMPLE);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let search = PluginSearch::none().with_path(folder.path());
    // From the end, so that the file need not be written again.
    let cuts = (0..1200).step_by(7).chain((1..400).map(|part| whole * part / 400)).chain([16, 20, 63, 64, 65, 119, 120, whole - 1]);
    for cut in BTreeSet::from_iter(cuts).into_iter().rev() {
        file.set_len(cut as u64).unwrap();
        let found = load(&search);
        assert!(found.loaded.is_empty());
        let (message, kind) = (found.refused[0].error.to_string(), &found.refused[0].error.kind);
        match cut {
            0 => assert!(matches!(kind, LoadErrorKind::Empty), "{message}"),
            1..4 => assert!(matches!(kind, LoadErrorKind::NotElf { .. }), "{message}"),
            _ => assert!(matches!(kind, LoadErrorKind::Truncated { len_bytes, .. } if *len_bytes == cut as u64), "{message}"),
        }
    }
}

#[test]
fn a_plugin_whose_end_was_never_written_is_refused() {
    // A copy that was interrupted after its room was set aside has its full length and zeros at the end.
    let sections = usize::try_from(u64::from_ne_bytes(EXAMPLE[40..48].try_into().unwrap())).unwrap();
    for cut in [100, 1000, 5000, EXAMPLE.len() / 2, sections] {
        let mut plugin = EXAMPLE.clone();
        plugin[cut..].fill(0);
        check_bytes(&plugin, &[]);
    }
}

#[test]
fn a_plugin_of_another_machine_is_refused() {
    let (here, other, name) = if cfg!(target_arch = "x86_64") { ("x86-64", 183_u16, "aarch64") } else { ("aarch64", 62, "x86-64") };
    check_bytes(&with_bytes(18, &other.to_ne_bytes()), &[&format!("built for {name}, 64-bit"), &format!("for {here}"), "rebuild"]);
    check_bytes(&with_bytes(4, &[1]), &["32-bit", "64-bit"]);
    check_bytes(&with_bytes(5, &[2]), &["big-endian", "little-endian"]);
}

#[test]
fn a_foreign_library_is_refused() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let libc = maps
        .lines()
        .find_map(|line| line.contains("/libc").then(|| &line[line.find('/').unwrap()..]))
        .expect("this program uses a C library");
    check_made(|path| symlink(libc, path).unwrap(), &["expected an exported symbol `poniard_backend_example`, found none"]);
    let folder = tempfile::tempdir().unwrap();
    let given = folder.path().join("libm.so");
    symlink(libc, &given).unwrap();
    check_refused(&load(&PluginSearch::none().with_path(&given)), &given, &["`poniard_backend_<name>`", "no plugin of Poniard"]);
}

/// A shared object compiled from `source`, for what no patch of a good plugin can show.
fn compiled(source: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let input = write(&folder, "made.rs", source.as_bytes());
    fs::write(folder.path().join("identity"), &EXAMPLE[header_at(&EXAMPLE)..][..IDENTITY_BYTES]).unwrap();
    let output = folder.path().join("made.so");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let result = Command::new(rustc).args(["--edition=2024", "--crate-type=cdylib", "-o"]).args([&output, &input]).output().unwrap();
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
    fs::read(output).unwrap()
}

#[test]
fn no_constructor_of_a_foreign_library_runs() {
    let made = compiled(
        r#"
        extern "C" fn at_load() { std::process::abort() }
        #[used] #[unsafe(link_section = ".init_array")] static CONSTRUCTOR: extern "C" fn() = at_load;
        #[unsafe(no_mangle)] pub extern "C" fn poniard_backend_example() {}
        "#,
    );
    check_bytes(&made, &["expected an exported symbol", "found none"]);
}

#[test]
fn a_file_of_several_backends_needs_a_name() {
    let made = compiled(
        r#"
        #[unsafe(no_mangle)] pub static poniard_backend_b: [u8; 512] = [0; 512];
        #[unsafe(no_mangle)] pub static poniard_backend_a: [u8; 512] = [1; 512];
        "#,
    );
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "both.so", &made);
    check_refused(&load(&PluginSearch::none().with_path(&path)), &path, &["several backends (a, b)", "rename"]);
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "libponiard_backend_a.so", &made);
    check_refused(
        &load(&PluginSearch::none().with_path(folder.path())),
        &path,
        &["`poniard_backend_a` holds no header", "expected the bytes `PONIARD\\0`", "\\x01\\x01"],
    );
}

#[test]
fn a_plugin_that_cannot_be_linked_is_refused() {
    let made = compiled(
        r#"
        unsafe extern "C" { fn no_such_function(); }
        #[repr(C)] pub struct Header([u8; include_bytes!("identity").len()], unsafe extern "C" fn(), unsafe extern "C" fn());
        #[unsafe(no_mangle)] pub static poniard_backend_example: Header = Header(*include_bytes!("identity"), no_such_function, no_such_function);
        "#,
    );
    check_bytes(&made, &["the dynamic linker refused it", "no_such_function"]);
}

#[test]
fn plugins_of_other_contracts_are_refused_with_both_versions() {
    let host = format!("expected version {ABI_MAJOR}.{ABI_MINOR}");
    let version = format!("plugin version {}", env!("CARGO_PKG_VERSION"));
    check_bytes(
        &with_header(8, &0_u32.to_ne_bytes()),
        &["older than this program", &host, &format!("found 0.{ABI_MINOR}"), &version, RUSTC, "rebuild the plugin"],
    );
    let newer = ABI_MAJOR + 1;
    check_bytes(
        &with_header(8, &newer.to_ne_bytes()),
        &["newer than this program", &host, &format!("found {newer}.{ABI_MINOR}"), "update this program"],
    );
    let newer = ABI_MINOR + 3;
    check_bytes(&with_header(12, &newer.to_ne_bytes()), &["newer than this program", &host, &format!("found {ABI_MAJOR}.{newer}")]);
}

#[test]
fn headers_that_make_no_sense_are_refused() {
    check_bytes(&with_header(0, b"PIONEER\0"), &["`poniard_backend_example` holds no header", "PIONEER"]);
    check_bytes(&with_header(16, &8_u32.to_ne_bytes()), &["expected a header of", "found 8"]);
    check_bytes(&with_header(20, &4_u32.to_ne_bytes()), &["expected pointers of 8 bytes, found 4"]);
}

#[test]
fn names_must_agree() {
    check_bytes(&with_header(24, b"exampel\0"), &["`poniard_backend_example`", "called `exampel`"]);
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "libponiard_backend_other.so", &EXAMPLE);
    let found = load(&PluginSearch::none().with_path(folder.path()));
    check_refused(&found, &path, &["called `other`", "header says `example`", "rename the file to `libponiard_backend_example.so`"]);
    // Named by itself, a file may be called anything.
    assert_eq!(names(&load(&PluginSearch::none().with_path(&path))), ["example"]);
}

#[test]
fn a_plugin_of_another_layout_is_refused_before_it_is_called() {
    // The plugin's own description of a type gets another name, as if the contract had replaced the type.
    let mut plugin = EXAMPLE.clone();
    let places: Vec<_> = EXAMPLE.windows(10).enumerate().filter(|(_, bytes)| *bytes == b"StableTask").map(|(place, _)| place).collect();
    for place in places {
        plugin[place..place + 10].copy_from_slice(b"StableTusk");
    }
    check_bytes(
        &plugin,
        &[
            "a different layout of the contract",
            "`StableTask` in `submit`: it is `StableTusk",
            RUSTC,
            "rebuild the plugin with poniard-interface",
        ],
    );
}

#[test]
fn a_given_path_must_exist_and_other_places_need_not() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.so");
    check_refused(&load(&PluginSearch::none().with_path(&missing)), &missing, &["no such file or folder"]);
    let found = load(&PluginSearch::none().with_environment(&missing).with_executable(folder.path().join("bin/poniard")));
    assert!(found.loaded.is_empty() && found.refused.is_empty(), "{found:?}");
    assert_eq!(found.searched.len(), 3, "places without anything are listed");
}

#[test]
fn the_first_in_search_order_wins() {
    let folder = tempfile::tempdir().unwrap();
    let file = "libponiard_backend_example.so";
    let given = write(&folder, "given.so", &EXAMPLE);
    let environment = write(&folder, &format!("environment/{file}"), &EXAMPLE);
    let beside = write(&folder, &format!("prefix/bin/{file}"), &EXAMPLE);
    let installed = write(&folder, &format!("prefix/lib/poniard/{file}"), &EXAMPLE);
    let threads = write(&folder, "prefix/lib/poniard/libponiard_backend_threads.so", &THREADS);
    let mut search = PluginSearch::none()
        .with_executable(folder.path().join("prefix/bin/poniard"))
        .with_environment(folder.path().join("environment"))
        .with_path(&given);
    let order = [&given, &environment, &beside, &installed];
    for (index, first) in order.iter().enumerate() {
        let found = load(&search);
        assert_eq!(names(&found), ["example", "threads"]);
        assert_eq!(found.loaded[0].file, **first);
        assert_eq!(found.loaded[1].file, threads);
        assert_eq!(found.refused.iter().map(|refused| &refused.file).collect::<Vec<_>>(), order[index + 1..]);
        for refused in &found.refused {
            let message = refused.error.to_string();
            assert!(message.contains("`example`") && message.contains(&first.display().to_string()), "{message}");
            assert!(message.contains(&refused.file.display().to_string()), "{message}");
        }
        // The next one is first when this one is gone.
        fs::remove_file(first).unwrap();
        if index == 0 {
            search = PluginSearch::none()
                .with_executable(folder.path().join("prefix/bin/poniard"))
                .with_environment(folder.path().join("environment"));
        }
    }
}

#[test]
fn a_refused_plugin_does_not_take_the_place_of_a_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let bad = write(&folder, "bad/libponiard_backend_example.so", &with_header(8, &0_u32.to_ne_bytes()));
    let good = write(&folder, "good/libponiard_backend_example.so", &EXAMPLE);
    let found = load(&PluginSearch::none().with_path(folder.path().join("bad")).with_path(folder.path().join("good")));
    assert_eq!(found.loaded[0].file, good);
    check_refused(&found, &bad, &["older"]);
}

#[test]
fn one_file_found_twice_is_one_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder, "libponiard_backend_example.so", &EXAMPLE);
    let link = folder.path().join("link.so");
    symlink(&file, &link).unwrap();
    let found = load(&PluginSearch::none().with_path(&link).with_path(folder.path()).with_environment(folder.path()));
    assert_eq!(names(&found), ["example"]);
    assert_eq!(found.loaded[0].file, link);
    assert!(found.refused.is_empty(), "{found:?}");
}

#[test]
fn loading_again_gives_another_backend() {
    let folder = tempfile::tempdir().unwrap();
    let search = PluginSearch::none().with_path(write(&folder, "example.so", &EXAMPLE));
    let (first, second) = (load(&search), load(&search));
    drop(first);
    assert_eq!(second.loaded[0].backend.info().name, "example");
}

/// Runs [`child`] of this program in a process of its own, since a process's environment cannot be changed safely while threads run.
fn run_child(search: &str, environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env("PONIARD_TEST_CHILD", search);
    command.env_remove("PONIARD_BACKEND_PATH").env_remove("PONIARD_FAULTY").envs(environment.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() && stdout.contains("child ends"), "{status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

/// What happens in the process of [`run_child`]: every entry of every plugin found is called once, and what it answers is printed.
#[test]
#[expect(clippy::print_stdout, reason = "what it prints is what its parent asserts on")]
fn child() {
    let Some(search) = std::env::var_os("PONIARD_TEST_CHILD") else { return };
    let search = if search == "standard" { PluginSearch::standard() } else { PluginSearch::none().with_path(search) };
    let found = load(&search);
    for refused in &found.refused {
        println!("refused: {}", refused.error);
    }
    for loaded in &found.loaded {
        println!("loaded: {} from {}", loaded.info.name, loaded.file.display());
        let opened = match loaded.backend.open(&Settings::new(), Notes::host().0) {
            Ok(opened) => opened,
            Err(error) => {
                println!("open: {error}");
                continue;
            }
        };
        for processor in &opened.processors {
            println!("start: {:?}", processor.start(WorkerId(0)).map_err(|error| error.to_string()));
            println!("submit: {:?}", processor.submit(&[TaskDescriptor::new(TaskId(1), "one")]).map_err(|error| error.to_string()));
            println!("stop: {:?}", processor.stop().map_err(|error| error.to_string()));
        }
        for space in &opened.spaces {
            println!("allocate: {:?}", space.allocate(64, true).map(|_| ()).map_err(|error| error.to_string()));
        }
    }
    println!("child ends");
}

#[test]
fn a_panic_in_an_entry_of_a_plugin_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "libponiard_backend_faulty.so", &FAULTY);
    write(&folder, "libponiard_backend_threads.so", &THREADS);
    let entries = [
        ("create", "refused: failed to load the plugin"),
        ("info", "refused: failed to load the plugin"),
        ("settings", "refused: failed to load the plugin"),
        ("open", "open: failed to open the backend"),
        ("processor-info", "open: failed to open the backend"),
        ("space-info", "open: failed to open the backend"),
        ("start", "start: Err(\"failed to start a worker"),
        ("submit", "submit: Err(\"failed to submit a batch"),
        ("stop", "stop: Err(\"failed to stop a processor"),
        ("allocate", "allocate: Err(\"failed to allocate 64 bytes"),
    ];
    for (entry, operation) in entries {
        let output = run_child(folder.path().to_str().unwrap(), &[("PONIARD_FAULTY", entry)]);
        let line =
            output.lines().find(|line| line.starts_with(operation)).unwrap_or_else(|| panic!("{entry}: no `{operation}` in\n{output}"));
        let panic = format!("the plugin panicked: the faulty plugin was told to panic in {entry}");
        assert!(line.contains(&panic), "{entry}: {line}");
        assert_eq!(line.contains("libponiard_backend_faulty.so"), operation.starts_with("refused"), "{line}");
        assert!(output.contains("loaded: threads"), "the host goes on: {output}");
    }
    let output = run_child(folder.path().to_str().unwrap(), &[]);
    assert!(output.contains("loaded: faulty") && output.contains("start: Ok(())") && output.contains("stop: Ok(())"), "{output}");
}

#[test]
fn the_standard_search_reads_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let example = write(&folder, "libponiard_backend_example.so", &EXAMPLE);
    let other = tempfile::tempdir().unwrap();
    let faulty = write(&other, "faulty.so", &FAULTY);
    let value = format!("{}:{}::/no/such/folder", folder.path().display(), faulty.display());
    let output = run_child("standard", &[("PONIARD_BACKEND_PATH", &value)]);
    for path in [&example, &faulty] {
        assert!(output.contains(&format!("from {}", path.display())), "{output}");
    }
    // Cargo puts the threads plugin beside the test programs.
    assert!(output.contains("loaded: threads from"), "{output}");
}
