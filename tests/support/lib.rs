//! Support for the tests: builders, stand-ins, the facts that are true of every backend ([`mod@conformance`]), and kernels ([`mod@kernels`]).

pub mod conformance;
pub mod device;
pub mod kernels;
pub mod marks;
pub mod stage;

use std::cell::RefCell;
use std::sync::{Arc, Mutex, Once, PoisonError, mpsc};
use std::time::Duration;

use poniard::{Data, Runtime, Task};

/// Longer than anything in a test takes; one that waits so long has found a hang.
const FOREVER: Duration = Duration::from_secs(60);

/// Runs `body` on a thread of its own, so that a hang is a failure of the test.
///
/// # Panics
/// When `body` panics or hangs.
pub fn in_time<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (give, take) = mpsc::channel();
    std::thread::spawn(move || give.send(body()));
    match take.recv_timeout(FOREVER) {
        Ok(result) => result,
        Err(error) => panic!("it panicked or hangs: {error}"),
    }
}

/// What a panic says.
#[derive(Clone, Debug, Default)]
pub struct Panicked {
    /// Its text.
    pub text: String,
    /// The file that it names.
    pub file: String,
    /// The line in that file.
    pub line: u32,
}

thread_local! {
    static LAST: RefCell<Option<Panicked>> = const { RefCell::new(None) };
}

/// Runs `body`, which panics, and gives what its panic says.
///
/// # Panics
/// When `body` does not.
pub fn caught_panic<R>(body: impl FnOnce() -> R) -> Panicked {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload_as_str().unwrap_or_default().to_owned();
            let place = info.location().map(|place| (place.file().to_owned(), place.line()));
            let (file, line) = place.unwrap_or_default();
            LAST.set(Some(Panicked { text, file, line }));
            before(info);
        }));
    });
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
        Ok(_) => panic!("it does not panic"),
        Err(_) => LAST.take().unwrap_or_default(),
    }
}

/// A task that is in the middle of its body until it is let go.
#[derive(Debug)]
pub struct Stopped<T: Data> {
    /// Its handle.
    pub task: Task<T>,
    go: mpsc::Sender<()>,
}

impl<T: Data> Stopped<T> {
    /// Gives `spawn` a body that does nothing until it is let go; returns when it has begun.
    ///
    /// # Panics
    /// When the body is dropped instead of run.
    pub fn spawn(spawn: impl FnOnce(Box<dyn FnOnce() + Send>) -> Task<T>) -> Self {
        let (go, wait) = mpsc::channel();
        let (tell, begun) = mpsc::channel();
        let task = spawn(Box::new(move || {
            // Errors are as good: the test is over.
            let _ = tell.send(());
            let _ = wait.recv();
        }));
        assert_eq!(begun.recv(), Ok(()), "the body is run");
        Self { task, go }
    }

    /// Lets it end.
    pub fn go(self) -> Task<T> {
        // An error is as good: nobody waits.
        let _ = self.go.send(());
        self.task
    }
}

/// What tasks noted, in order.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<u64>>>);

impl Log {
    /// Notes `entry`.
    pub fn push(&self, entry: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// All entries.
    pub fn read(&self) -> Vec<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A task's function that notes `entry`.
    pub fn note(&self, entry: u64) -> impl FnOnce() + Send + 'static {
        let log = self.clone();
        move || log.push(entry)
    }
}

/// The sum: the smallest task with two arguments.
pub fn add(a: u64, b: u64) -> u64 {
    a + b
}

/// A Fibonacci number by a tree of tasks, each of which waits for two others; `fib(n)` takes `2 F(n + 1) - 1` tasks.
///
/// # Panics
/// When a task fails.
pub fn fib(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (a, b) = (poniard::spawn(fib, (n - 1,)), poniard::spawn(fib, (n - 2,)));
    match (a.take(), b.take()) {
        (Ok(a), Ok(b)) => a + b,
        (Err(error), _) | (_, Err(error)) => panic!("{error}"),
    }
}

/// A runtime with `count` threads, built in.
///
/// # Panics
/// When it cannot be built.
pub fn threads(count: usize) -> Runtime {
    match Runtime::builder().threads(count).build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("{error}"),
    }
}

/// A runtime for each of these numbers of threads, and one more with a policy, under which nodes of graphs are placed.
///
/// # Panics
/// When one cannot be built.
pub fn runtimes(counts: &[usize]) -> impl Iterator<Item = Runtime> {
    let placed = |count: &usize| match Runtime::builder().threads(*count).policy("earliest-finish").models(None).build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("{error}"),
    };
    counts.iter().flat_map(move |count| [threads(*count), placed(count)])
}

/// The documents whose blocks of Rust are compiled and run.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../../docs/KERNELS.md")]
    mod kernels {}
    #[doc = include_str!("../../docs/PLACEMENT.md")]
    mod placement {}
    #[doc = include_str!("../../docs/PROCESSES.md")]
    mod processes {}
    #[doc = include_str!("../../docs/REGIONS.md")]
    mod regions {}
    #[doc = include_str!("../../docs/TASKS.md")]
    mod tasks {}
    #[doc = include_str!("../../docs/WRITING_A_BACKEND.md")]
    mod writing_a_backend {}
    #[doc = include_str!("../../docs/WRITING_A_POLICY.md")]
    mod writing_a_policy {}
}
