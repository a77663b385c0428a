//! Functions of libraries that a program opens while it runs, on worker processes: of the program's runtime, and of one that a library has of its own.
//!
//! Needs Linux with `/proc`. The library and this program are parts of one build, which is what makes types of one those of the other.
#![expect(unsafe_code, reason = "opens a library and calls what it exports")]
#![expect(clippy::unwrap_used, reason = "the helpers of the tests are tests too")]

use std::fs;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::process::id;

use libloading::{Library, Symbol};
use poniard::{Buffer, FailureKind, Handle, Runtime, Task, TaskError, buffer};
use poniard_tests::in_time;

/// The library as cargo left it beside this program.
fn built() -> PathBuf {
    let path = std::env::current_exe().unwrap().parent().unwrap().join("libponiard_late.so");
    assert!(path.exists(), "`cargo test -p poniard-tests` builds {}", path.display());
    path
}

/// The library, and what it exports. It stays: records of its tasks have functions of it, also when a test fails.
struct Late(ManuallyDrop<Library>);

impl Late {
    fn open(path: &Path) -> Self {
        // SAFETY: it is the tests' own library, whose constructors look for a variable and do no more.
        Self(ManuallyDrop::new(unsafe { Library::new(path) }.unwrap()))
    }

    fn symbol<T>(&self, name: &str) -> Symbol<'_, T> {
        // SAFETY: each caller asks for the type that the library's source says.
        unsafe { self.0.get(name) }.unwrap()
    }

    fn square(&self, handle: &Handle, number: u64) -> Result<(u64, u32), TaskError> {
        self.symbol::<fn(&Handle, u64) -> Task<(u64, u32)>>("late_square")(handle, number).take()
    }

    fn square_here(&self, handle: &Handle, number: u64) -> Result<(u64, u32), TaskError> {
        self.symbol::<fn(&Handle, u64) -> Task<(u64, u32)>>("late_square_here")(handle, number).take()
    }

    fn end(&self, handle: &Handle) -> TaskError {
        self.symbol::<fn(&Handle) -> Task<()>>("late_end")(handle).fetch().unwrap_err()
    }
}

fn runtime(processes: usize) -> Runtime {
    Runtime::builder().threads(1).processes(processes).build().expect("a runtime")
}

#[track_caller]
fn stays(error: &TaskError, expected: &str) {
    assert!(matches!(error.kind(), FailureKind::Stays { .. }), "{error}");
    assert!(error.reason().contains(expected), "{error}");
}

#[test]
fn functions_of_a_library_that_was_opened_later_run_on_processes() {
    in_time(|| {
        let runtime = runtime(2);
        let place = || id();
        // The processes are there before the library is.
        let before: Vec<_> = (0..4).map(|_| runtime.task(place, ()).scope(poniard::Scope::backend("process")).spawn()).collect();
        before.into_iter().for_each(|task| drop(task.fetch().unwrap()));
        let late = Late::open(&built());
        for number in 0..100 {
            let (square, place) = late.square(&runtime, number).unwrap();
            assert_eq!(square, number * number);
            assert_ne!(place, id());
        }
        let numbers = runtime.value(vec![0.25; 100_000]);
        let others = runtime.value(buffer::from_fn(1000, |index| index as f64));
        let total = late.symbol::<fn(&Handle, &Task<Vec<f64>>, &Task<Buffer<f64>>) -> Task<(f64, u32)>>("late_total");
        let (total, place) = total(&runtime, &numbers, &others).take().unwrap();
        assert_eq!(total, 25_000.0 + 499_500.0);
        assert_ne!(place, id());
        // A process that takes another one's place finds them, too.
        assert!(late.end(&runtime).reason().contains("exited with status 3"));
        assert_eq!(late.square(&runtime, 7).unwrap().0, 49);
        let messages = runtime.report().messages;
        assert!(!messages.iter().any(|message| message.contains("in this process")), "{messages:?}");
    });
}

#[test]
fn bodies_on_processes_send_functions_of_a_library_elsewhere() {
    fn there(number: u64) -> Result<(u64, u32), TaskError> {
        let late = Late::open(&built());
        late.square_here(&poniard::current().expect("inside a task"), number)
    }
    in_time(|| {
        let runtime = runtime(1);
        let far = |number| runtime.task(there, (number,)).scope(poniard::Scope::backend("process")).spawn().take();
        let late = Late::open(&built());
        // The process has not met the library by its number yet.
        assert_eq!(far(3).unwrap(), (9, id()));
        assert_ne!(late.square(&runtime, 4).unwrap().1, id());
        assert_eq!(far(5).unwrap(), (25, id()));
    });
}

#[test]
fn functions_of_a_library_that_no_process_can_know_stay_and_the_error_says_why() {
    in_time(|| {
        let runtime = runtime(1);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libdeleted.so");
        fs::copy(built(), &file).unwrap();
        let late = Late::open(&file);
        fs::remove_file(&file).unwrap();
        stays(&late.square(&runtime, 3).unwrap_err(), "is part of a library that was deleted or replaced after it had been loaded");

        // Its note of a build id, as one that means nothing.
        let mut bytes = fs::read(built()).unwrap();
        let note: Vec<u8> = [4u32, 20, 3].iter().flat_map(|number| number.to_ne_bytes()).chain(*b"GNU\0").collect();
        let at = bytes.windows(note.len()).position(|found| found == note).expect("a build id");
        bytes[at + 12] = b'X';
        let file = folder.path().join("libnameless.so");
        fs::write(&file, bytes).unwrap();
        let late = Late::open(&file);
        stays(&late.square(&runtime, 3).unwrap_err(), "libnameless.so, which has no build id");
    });
}

#[test]
fn a_library_that_a_process_does_not_find_any_more_stays_from_then_on() {
    in_time(|| {
        let runtime = runtime(1);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libgone.so");
        fs::copy(built(), &file).unwrap();
        let late = Late::open(&file);
        assert_ne!(late.square(&runtime, 3).unwrap().1, id());
        fs::remove_file(&file).unwrap();
        // The process has it.
        assert_ne!(late.square(&runtime, 4).unwrap().1, id());
        assert!(late.end(&runtime).reason().contains("exited with status 3"));
        // The next one does not.
        let gone = || late.square(&runtime, 5).unwrap_err();
        stays(&gone(), "libgone.so cannot be read: No such file");
        let messages = runtime.report().messages;
        assert!(messages.iter().any(|message| message.contains("libgone.so cannot be read")), "{messages:?}");
        stays(&gone(), "libgone.so cannot be read: No such file");
        assert_eq!(runtime.report().messages.len(), messages.len(), "no process is asked again");
    });
}

#[test]
fn a_library_with_a_runtime_of_its_own_has_worker_processes_of_its_own() {
    in_time(|| {
        let late = Late::open(&built());
        let alone = late.symbol::<fn() -> Result<Vec<(u64, u32)>, String>>("late_alone");
        let found = alone().unwrap();
        let numbers: Vec<u64> = found.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [4_999_955_000, 32, 9]);
        assert_ne!(found[0].1, id());
        assert_ne!(found[1].1, id());
        assert_eq!(found[2].1, id());
    });
}
