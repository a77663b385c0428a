//! Memory that processes share: `hand-over-256mib`, `sibling-read-first`, `sibling-read-later`, `worker-memory`.

use std::fs;
use std::process::id;
use std::rc::Rc;

use poniard::{Buffer, ProcessId, Runtime, Scope, Task, buffer};
use poniard_bench::{System, per_task};

use crate::faults::kill;
use crate::peer::Peer;
use crate::{far, median};

/// Elements of the array that is handed over, 256 MiB, and how far apart those are that are read.
const LEN: usize = 32 << 20;
const STRIDE: usize = LEN / 4;
/// Elements of the array that siblings read: 64 MiB, more than any cache has.
const SUMMED: usize = 8 << 20;
/// A part of an array that is handed over: a process that has more memory than this more than before has copied something.
const COPIED_BYTES: u64 = 64 << 20;

/// Looks at an array here and there.
fn peek(values: &Buffer<u64>) -> u64 {
    values.iter().step_by(STRIDE).sum()
}

/// Where in which file the memory of an array is, as `/proc` has it: the number of the file and the place in it. It says what is shared: two processes that
/// find the same look at the same memory, whatever addresses it has there.
fn whereabouts(values: &Buffer<u64>) -> (u64, u64) {
    let address = values.as_ptr().addr() as u64;
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc");
    let hex = |text: &str| u64::from_str_radix(text, 16).expect("a number");
    let found = maps.lines().find_map(|line| {
        // `begin-end rights offset device file name`
        let mut words = line.split_whitespace();
        let (begin, end) = words.next()?.split_once('-')?;
        let (offset, file) = (hex(words.nth(1)?), words.nth(1)?);
        (hex(begin)..hex(end)).contains(&address).then(|| (file.parse().expect("a number"), offset + address - hex(begin)))
    });
    found.expect("memory is in a mapping")
}

/// One of the sums in `/proc/<process>/smaps_rollup`, in bytes.
fn memory(process: u32, names: &[&str]) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("/proc");
    let kib = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("the name of a sum");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    names.iter().map(|name| kib(name) << 10).sum()
}

/// Ends the process called `process` and has another one begun in its place, which has mapped nothing; its number.
fn renew(runtime: &Runtime, process: u32) -> u32 {
    assert!(kill(place(runtime, process)));
    place(runtime, process)
}

/// The number that the system has for the process called `process`.
fn place(runtime: &Runtime, process: u32) -> u32 {
    runtime.task(id, ()).scope(Scope::process(ProcessId(process))).spawn().take().expect("a number")
}

/// An array in an arena, and a task that is given a reference to it.
pub(crate) fn hand_over() -> Vec<System<'static>> {
    let runtime = Rc::new(Runtime::builder().processes(1).build().expect("a runtime"));
    let values = runtime.value(buffer::from_fn(LEN, |index| index as u64));
    let run = |is_new: bool, what: &'static str| {
        let (runtime, values) = (Rc::clone(&runtime), values.clone());
        let name = if is_new { "poniard-first" } else { "poniard" };
        System::telling(name, move |note| {
            let (time, grown) = hand_over_once(&runtime, &values, is_new);
            let [there, here] = grown.map(|bytes| bytes >> 10);
            *note = format!("{what}; 0 copies: the same place of the same file, memory grew by {there} KiB there and {here} KiB here");
            time
        })
    };
    let limit = {
        let (runtime, values) = (Rc::clone(&runtime), values.clone());
        move || looks(&runtime, &values, &Scope::host())
    };
    let from = buffer::from_fn(LEN, |index| index as u64);
    let mut to = from.clone();
    let copy = move || {
        per_task(1_000, || {
            to.copy_from_slice(&from);
            assert_eq!(to[LEN - 1], LEN as u64 - 1);
        })
    };
    vec![
        System::new("limit", "the same task on a thread", limit),
        run(false, "asked: at most 50, no copy; a process that has seen the array"),
        run(true, "a process that has not seen the array"),
        System::new("memcpy", "a copy of as many bytes, both places warm", copy),
    ]
}

/// What `peek` finds.
fn sum_of_peek() -> u64 {
    (0..LEN as u64).step_by(STRIDE).sum()
}

/// Time of a task that looks at the array, in us.
fn look(runtime: &Runtime, values: &Task<Buffer<u64>>, scope: &Scope) -> f64 {
    per_task(1_000, || {
        let sum = runtime.task(peek, (values,)).scope(scope.clone()).spawn().take();
        assert_eq!(sum.expect("a sum"), sum_of_peek());
    })
}

/// The middle of the times of some such tasks that follow each other, after one that wakes everybody.
fn looks(runtime: &Runtime, values: &Task<Buffer<u64>>, scope: &Scope) -> f64 {
    look(runtime, values, scope);
    median((0..9).map(|_| look(runtime, values, scope)).collect())
}

/// The same on a worker process: looks again and again, or looks once if the process is to be new; and by how many bytes the memory there and here has grown
/// meanwhile.
fn hand_over_once(runtime: &Runtime, values: &Task<Buffer<u64>>, is_new: bool) -> (f64, [u64; 2]) {
    let scope = Scope::process(ProcessId(1));
    let sides = [if is_new { renew(runtime, 1) } else { place(runtime, 1) }, id()];
    let before = sides.map(|side| memory(side, &["Rss"]));
    let time = if is_new {
        // Wakes everybody, and does not look.
        place(runtime, 1);
        look(runtime, values, &scope)
    } else {
        looks(runtime, values, &scope)
    };
    let mut grown = sides.map(|side| memory(side, &["Rss"]));
    grown.iter_mut().zip(before).for_each(|(after, before)| *after = after.saturating_sub(before));
    assert!(grown.iter().all(|grown| *grown < COPIED_BYTES), "something was copied: memory grew by {grown:?} bytes");
    let here = whereabouts(&values.fetch().expect("the array"));
    let there = runtime.task(whereabouts, (values,)).scope(scope).spawn().take().expect("a place");
    assert_eq!(here, there, "both processes have the same memory");
    (time, grown)
}

/// An array that anybody makes.
fn make() -> Buffer<u64> {
    buffer::from_fn(SUMMED, |index| index as u64)
}

/// Reads all of it.
fn sum(values: &Buffer<u64>) -> u64 {
    values.iter().copied().fold(0, u64::wrapping_add)
}

/// An array that was made on one worker process and is read on another.
pub(crate) fn sibling(is_new: bool) -> Vec<System<'static>> {
    let runtime = Rc::new(Runtime::builder().processes(2).build().expect("a runtime"));
    let on = |process: u32| Scope::process(ProcessId(process));
    let read = |runtime: &Runtime, values: &Task<Buffer<u64>>, scope: &Scope| {
        per_task(1_000_000, || {
            let sum = runtime.task(sum, (values,)).scope(scope.clone()).spawn().take();
            assert_eq!(sum.expect("a sum"), (0..SUMMED as u64).sum());
        })
    };
    let made = |scope: Scope| {
        let made = runtime.task(make, ()).scope(scope).spawn();
        made.wait().expect("an array");
        made
    };
    let (near, far, threads) = (made(Scope::host()), made(on(1)), Scope::backend("threads"));
    let local = {
        let runtime = Rc::clone(&runtime);
        move || read(&runtime, &near, &threads)
    };
    let own: Vec<u64> = make().to_vec();
    let vector = move || {
        per_task(1_000_000, || {
            let sum = own.iter().copied().fold(0, u64::wrapping_add);
            assert_eq!(sum, (0..SUMMED as u64).sum());
        })
    };
    let maker = {
        let (runtime, far, scope) = (Rc::clone(&runtime), far.clone(), on(1));
        move || read(&runtime, &far, &scope)
    };
    let reader = move || {
        if is_new {
            renew(&runtime, 2);
        }
        read(&runtime, &far, &on(2))
    };
    let note = if is_new { "asked: at most x4; a process that has not seen it" } else { "asked: at most x1.2; a process that has read it" };
    vec![
        System::new("local", "64 MiB on a thread that has read them before", local),
        System::new("poniard", note, reader),
        System::new("poniard-maker", "the process that has made it", maker),
        System::new("local-vec", "the same sum of a `Vec`, without a task", vector),
    ]
}

/// What a worker process has for itself, in MiB.
pub(crate) fn worker() -> Vec<System<'static>> {
    let mib = |process: u32| memory(process, &["Private_Clean", "Private_Dirty"]) as f64 / f64::from(1 << 20);
    let fresh = move || {
        let runtime = Runtime::builder().processes(2).build().expect("a runtime");
        for _ in 0..10 {
            let values = runtime.task(|| buffer::from_fn(1000, |index| index as u64), ()).options(&far()).spawn();
            let sum = runtime.task(sum, (&values,)).options(&far()).spawn();
            assert_eq!(sum.take().expect("a sum"), 999 * 500);
        }
        [1, 2].map(|process| mib(place(&runtime, process))).into_iter().fold(0.0, f64::max)
    };
    let program = move || {
        let peer = Peer::still();
        mib(peer.id())
    };
    vec![
        System::new("program", "this program started once more, doing nothing: its own", program),
        System::new("poniard", "asked: at most 3; what a worker process shares with nobody, after some tasks", fresh),
    ]
}
