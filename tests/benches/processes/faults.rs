//! Worker processes that are killed: `death-noticed`, `chaos`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::id;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use poniard::{Buffer, FailureKind, ProcessId, Runtime, Scope, Task, buffer};
use poniard_bench::{Effort, System};
use rustix::process::{Pid, Signal, kill_process};

use crate::far;
use crate::peer::Peer;

/// Kills a process, if it is still there.
pub(crate) fn kill(process: u32) -> bool {
    Pid::from_raw(process as i32).is_some_and(|process| kill_process(process, Signal::KILL).is_ok())
}

/// Kills the process in a moment, when this thread waits for the consequence in `wait`; ms from one to the other.
fn notice(ready: impl FnOnce() -> u32 + Send, wait: impl FnOnce()) -> f64 {
    thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let process = ready();
            // The other thread is asleep by then; if not, it is measured a little longer.
            thread::sleep(Duration::from_millis(1));
            let start = Instant::now();
            assert!(kill(process), "it is there");
            start
        });
        wait();
        killer.join().expect("a killer").elapsed().as_secs_f64() * 1e3
    })
}

/// Writes the number of its process into a file and goes on for ever.
fn block(marker: PathBuf) {
    let unfinished = marker.with_extension("new");
    fs::write(&unfinished, id().to_string()).expect("a marker");
    fs::rename(unfinished, marker).expect("a marker");
    loop {
        thread::park();
    }
}

/// The number that `block` has written, once it has.
fn written(marker: &Path) -> u32 {
    loop {
        if let Ok(text) = fs::read_to_string(marker) {
            fs::remove_file(marker).expect("our own file");
            return text.parse().expect("a number");
        }
        thread::sleep(Duration::from_micros(100));
    }
}

pub(crate) fn death() -> Vec<System<'static>> {
    let runtime = Runtime::builder().processes(1).build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let poniard = move || {
        let marker = folder.path().join("marker");
        let task = runtime.task(block, (marker.clone(),)).options(&far()).once().spawn();
        notice(
            || written(&marker),
            || {
                let error = task.fetch().expect_err("its process was killed");
                assert!(matches!(error.kind(), FailureKind::Processor { .. }) && error.reason().contains("SIGKILL"), "{error}");
            },
        )
    };
    let limit = || {
        let mut peer = Peer::still();
        let process = peer.id();
        notice(|| process, || peer.wait())
    };
    vec![
        System::new("limit", "from `kill` to the end of `waitpid`, of a process that does nothing", limit),
        System::new("poniard", "asked: at most 5; from `kill` to the error of a task that is to be begun once", poniard),
    ]
}

/// Rows and columns of tiles, and elements of a tile.
const EDGE: usize = 12;
const TILE: usize = 4096;
/// How often a tile is worked over: some tenths of a millisecond.
const SWEEPS: usize = 60;
/// The least time between two deaths in us, and by how much it may be longer. Far longer than a tile takes, so that hardly ever the same task is hit three times
/// in a row, which would end it as it is meant to.
const REST: (u64, u64) = (2_000, 8_000);

/// A tile of those above and to its left.
fn tile(above: &Buffer<u64>, left: &Buffer<u64>) -> Buffer<u64> {
    let mut values = buffer::from_fn(above.len(), |index| above[index] ^ left[index].rotate_left(17));
    for _ in 0..SWEEPS {
        let mut carry = 1;
        for value in values.iter_mut() {
            carry = (*value ^ carry).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
            *value = carry;
        }
    }
    values
}

/// What lies above the first row, or to the left of the first column.
fn margin(seed: u64, place: usize) -> Buffer<u64> {
    buffer::from_fn(TILE, |index| (seed + 1).wrapping_mul(0xD1B5_4A32_D192_ED03).wrapping_mul((place * TILE + index) as u64 | 1))
}

/// All tiles of a seed, row by row: `make` makes one of two earlier ones.
fn tiles<T: Clone>(seed: u64, given: impl Fn(Buffer<u64>) -> T, make: impl Fn(&T, &T) -> T) -> Vec<T> {
    let margins: Vec<T> = (0..2 * EDGE).map(|place| given(margin(seed, place))).collect();
    let mut all: Vec<T> = Vec::new();
    for cell in 0..EDGE * EDGE {
        let (row, column) = (cell / EDGE, cell % EDGE);
        let above = if row == 0 { &margins[column] } else { &all[cell - EDGE] };
        let left = if column == 0 { &margins[EDGE + row] } else { &all[cell - 1] };
        all.push(make(above, left));
    }
    all
}

/// Whether one run on worker processes, some of which are killed meanwhile, gives what a plain loop gives; and how many were killed.
fn survives(runtime: &Runtime, seed: u64) -> (bool, u64) {
    let expected = tiles(seed, std::sync::Arc::new, |above, left| std::sync::Arc::new(tile(above, left)));
    let (stop, stopped) = channel();
    let (outcome, deaths) = thread::scope(|scope| {
        let killer = scope.spawn(move || kill_workers(&stopped, seed));
        let all = tiles(seed, |margin| runtime.value(margin), |above, left| runtime.task(tile, (above, left)).options(&far()).spawn());
        let results: Result<Vec<_>, _> = all.iter().map(Task::fetch).collect();
        drop(stop);
        (results, killer.join().expect("a killer"))
    });
    match outcome {
        Ok(results) => (results.iter().zip(&expected).all(|(result, expected)| ***result == ***expected), deaths),
        Err(error) => {
            eprintln!("chaos, seed {seed}: {error}");
            (false, deaths)
        }
    }
}

/// Kills a worker process every now and then until it is told to stop; how many.
fn kill_workers(stop: &Receiver<()>, seed: u64) -> u64 {
    let mut random = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut deaths = 0;
    loop {
        let rest = Duration::from_micros(REST.0 + draw(REST.1));
        if stop.recv_timeout(rest) != Err(RecvTimeoutError::Timeout) {
            return deaths;
        }
        let workers = workers();
        if !workers.is_empty() {
            deaths += u64::from(kill(workers[draw(workers.len() as u64) as usize]));
        }
    }
}

/// The worker processes of this program: the children of its children, which are fork servers.
fn workers() -> Vec<u32> {
    let parent_of = |process: u32| {
        // `pid (name) state parent ...`; the name may have anything in it.
        let status = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        status.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let all = fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(|process| parent_of(*process).and_then(parent_of) == Some(id())).collect()
}

pub(crate) fn chaos(effort: Effort) -> Vec<System<'static>> {
    let seeds = if effort == Effort::Quick { 10 } else { 100 };
    vec![System::telling("poniard", move |note| {
        let (mut lost, mut all_deaths, start) = (0, 0, Instant::now());
        for seed in 0..seeds {
            // One for each seed, so that it ends soon after deaths, too.
            let runtime = Runtime::builder().processes(2).build().expect("a runtime");
            // One process is there, at least, when the deaths begin.
            runtime.task(id, ()).scope(Scope::process(ProcessId(1))).spawn().wait().expect("a process");
            let (good, deaths) = survives(&runtime, seed);
            lost += u32::from(!good);
            all_deaths += deaths;
        }
        *note = format!(
            "asked: 0; runs with lost or wrong results, of {seeds} with {} tasks each and {all_deaths} deaths in all, {:.1} s",
            EDGE * EDGE,
            start.elapsed().as_secs_f64()
        );
        assert!(all_deaths > 0, "nobody was killed");
        f64::from(lost)
    })]
}
