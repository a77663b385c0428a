//! Data on worker processes: what is written in place, what is copied and how much, and which types travel.
//!
//! Needs Linux with `/proc`. Every runtime here has one thread and two worker processes, and tasks that are to run on a process have its backend as their scope.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::id;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut1};
use poniard::{BoxError, Buffer, Data, FailureKind, Mutable, Runtime, Scope, TaskOptions, buffer, overwrite, read, write};
use poniard_tests::in_time;
use serde::{Deserialize, Serialize};

fn runtime() -> Runtime {
    Runtime::builder().threads(1).processes(2).build().expect("a runtime")
}

/// Options of a task that is to run on a process.
fn far() -> TaskOptions {
    TaskOptions::new().scope(Scope::backend("process"))
}

/// Bytes that were copied to all processes, and from them.
fn copied(runtime: &Runtime) -> (u64, u64) {
    let report = runtime.report();
    let processors = report.backends.iter().flat_map(|backend| &backend.processors);
    processors.fold((0, 0), |(to, from), processor| (to + processor.copied_to_bytes, from + processor.copied_from_bytes))
}

fn address<T>(values: &[T]) -> usize {
    values.as_ptr().addr()
}

fn scale(values: &mut Buffer<f64>, by: &f64) -> u32 {
    values.iter_mut().for_each(|value| *value *= by);
    id()
}

#[test]
fn a_buffer_is_written_where_it_lies_and_nothing_is_copied() {
    in_time(|| {
        let runtime = runtime();
        let values = Mutable::new(buffer::from_fn(100_000, |index| index as f64));
        let before = address(&values.fetch().unwrap());
        let there = runtime.task(scale, (write(&values), 3.0)).options(&far()).spawn();
        assert_ne!(*there.fetch().unwrap(), id());
        let here = runtime.task(scale, (write(&values), 2.0)).scope(Scope::host()).spawn();
        let there = runtime.task(scale, (overwrite(&values), 0.5)).options(&far()).spawn();
        let after = values.fetch().unwrap();
        assert_eq!(address(&after), before, "the same memory");
        assert!(after.iter().enumerate().all(|(index, value)| *value == index as f64 * 3.0));
        assert_eq!(*here.fetch().unwrap(), id());
        assert_ne!(*there.fetch().unwrap(), id());
        // The factors, and the numbers of the processes.
        assert_eq!(copied(&runtime), (16, 8));
    });
}

fn append(values: &mut Vec<u64>, first: &mut Buffer<u64>, more: &[u64], text: &mut String) -> usize {
    values.extend_from_slice(more);
    first[0] = values.len() as u64;
    text.push_str(" and more");
    values.len()
}

#[test]
fn other_values_travel_there_and_back_beside_buffers() {
    in_time(|| {
        let runtime = runtime();
        let (values, first, text) = (Mutable::new(vec![1u64, 2]), Mutable::new(buffer::zeroed::<u64>(10)), Mutable::new("text".to_owned()));
        for round in 1..=3 {
            let task = runtime.task(append, (write(&values), write(&first), vec![7u64; 10_000], write(&text))).options(&far()).spawn();
            assert_eq!(*task.fetch().unwrap(), 2 + round * 10_000);
        }
        assert_eq!(values.fetch().unwrap()[30_001], 7);
        assert_eq!(first.fetch().unwrap()[0], 30_002);
        assert_eq!(*text.fetch().unwrap(), "text and more and more and more");
    });
}

/// The first lies at the other's place, one is new, and one is gone.
fn rearrange(values: &mut Vec<Buffer<u32>>, other: &mut Buffer<u32>) -> Buffer<u32> {
    std::mem::swap(&mut values[0], other);
    values.push(buffer::from_slice(&[9, 9, 9]));
    drop(values.remove(1));
    values[0][0] += 1;
    other[0] += 1;
    std::mem::replace(&mut values[1], buffer::from_slice(&[8]))
}

#[test]
fn buffers_that_a_body_moves_stay_whole() {
    in_time(|| {
        let runtime = runtime();
        for _ in 0..20 {
            let values = Mutable::new(vec![buffer::from_slice(&[10u32]), buffer::from_slice(&[20]), buffer::from_slice(&[30])]);
            let other = Mutable::new(buffer::from_slice(&[40u32]));
            let moved = runtime.task(rearrange, (write(&values), write(&other))).options(&far()).spawn();
            let contents = |buffers: &[Buffer<u32>]| buffers.iter().map(|buffer| buffer.to_vec()).collect::<Vec<_>>();
            assert_eq!(moved.take().unwrap().to_vec(), [30]);
            assert_eq!(contents(&values.take().unwrap()), [vec![41], vec![8], vec![9, 9, 9]]);
            assert_eq!(other.take().unwrap().to_vec(), [11]);
        }
    });
}

static KEPT: Mutex<Option<Buffer<u64>>> = Mutex::new(None);

/// Keeps the buffer in a static, and says what was kept before.
fn keep(values: &mut Buffer<u64>) -> u64 {
    let new = buffer::from_slice(&[values[0] + 1]);
    let old = std::mem::replace(values, new);
    let mut kept = KEPT.lock().expect("nobody has panicked");
    let before = kept.as_mut().map_or(0, |kept| {
        kept[0] += 100;
        kept[0]
    });
    *kept = Some(old);
    before
}

#[test]
fn a_buffer_that_a_body_keeps_is_the_process_s_own() {
    in_time(|| {
        // One process: it is the one that has kept the last one.
        let runtime = Runtime::builder().threads(1).processes(1).build().expect("a runtime");
        let values = Mutable::new(buffer::from_slice(&[1u64]));
        let kept: Vec<u64> = (0..4).map(|_| runtime.task(keep, (write(&values),)).options(&far()).spawn().take().unwrap()).collect();
        assert_eq!(kept, [0, 101, 102, 103]);
        // New memory is none that was kept.
        let others: Vec<Buffer<u64>> = (0..50).map(|_| buffer::from_slice(&[5u64])).collect();
        assert_eq!(runtime.task(keep, (write(&values),)).options(&far()).spawn().take().unwrap(), 104);
        assert!(others.iter().all(|other| **other == [5]));
        assert_eq!(*values.take().unwrap(), [6]);
    });
}

fn fail_half_way(values: &mut Buffer<u64>, list: &mut Vec<u64>, panics: bool) -> Result<(), String> {
    values[0] = 7;
    list.push(8);
    assert!(!panics, "half way");
    Err("no".into())
}

fn first(values: &Buffer<u64>) -> u64 {
    values[0]
}

fn fill(values: &mut Buffer<u64>, with: u64) {
    values.fill(with);
}

#[test]
fn what_a_failed_writer_left_is_there_and_those_after_it_fail() {
    in_time(|| {
        let runtime = runtime();
        for panics in [false, true] {
            let (values, list) = (Mutable::new(buffer::zeroed::<u64>(2)), Mutable::new(vec![1u64]));
            let failed = runtime.task(fail_half_way, (write(&values), write(&list), panics)).options(&far()).name("writer").spawn();
            let after = runtime.task(first, (read(&values),)).options(&far()).spawn();
            assert!(failed.fetch().is_err());
            let error = after.fetch().unwrap_err();
            assert!(matches!(error.kind(), FailureKind::Dependency(_)) && error.to_string().contains("writer"), "{error}");
            // Those that do not mind what was there before see what it left.
            let looks = |list: &mut Vec<u64>| list.clone();
            assert_eq!(runtime.task(looks, (overwrite(&list),)).options(&far()).spawn().take().unwrap(), [1, 8]);
            let looks = |values: &mut Buffer<u64>| values.to_vec();
            assert_eq!(runtime.task(looks, (overwrite(&values),)).scope(Scope::host()).spawn().take().unwrap(), [7, 0]);
        }
    });
}

/// Writes, and ends its process the first time.
fn write_and_end(values: &mut Buffer<u64>, marks: PathBuf) {
    values[0] += 1;
    end_once(&marks);
}

fn append_and_end(values: &mut Vec<u64>, marks: PathBuf) {
    values.push(1);
    end_once(&marks);
}

fn end_once(marks: &std::path::Path) {
    let mark = marks.join("begun");
    if !mark.exists() {
        std::fs::write(mark, "").expect("a mark");
        std::process::abort();
    }
}

#[test]
fn a_process_that_ends_while_it_writes_in_place_loses_what_it_wrote_to_and_nothing_else() {
    in_time(|| {
        let runtime = runtime();
        let marks = tempfile::tempdir().unwrap();
        let values = Mutable::new(buffer::from_slice(&[1u64, 2]));
        let task = runtime.task(write_and_end, (write(&values), marks.path().to_owned())).options(&far()).name("writer").spawn();
        let error = task.fetch().unwrap_err();
        assert!(matches!(error.kind(), FailureKind::Processor { .. }), "{error:?}");
        assert!(error.reason().contains("SIGABRT"), "{error}");
        assert!(error.reason().contains("it was writing in place, so what it wrote to is lost"), "{error}");
        let error = runtime.task(first, (read(&values),)).options(&far()).spawn().fetch().unwrap_err();
        assert!(matches!(error.kind(), FailureKind::Dependency(_)) && error.to_string().contains("writer"), "{error}");
        assert!(values.fetch().is_err());
        runtime.task(fill, (overwrite(&values), 5)).options(&far()).spawn().fetch().unwrap();
        assert_eq!(**values.fetch().unwrap(), [5, 5]);

        // What was there before is not needed, so it is begun again.
        let marks = tempfile::tempdir().unwrap();
        let task = runtime.task(write_and_end, (overwrite(&values), marks.path().to_owned())).options(&far()).spawn();
        task.fetch().unwrap();

        // What travels there and back is as it was until then.
        let marks = tempfile::tempdir().unwrap();
        let list = Mutable::new(vec![7u64]);
        runtime.task(append_and_end, (write(&list), marks.path().to_owned())).options(&far()).spawn().fetch().unwrap();
        assert_eq!(*list.fetch().unwrap(), [7, 1]);
    });
}

fn sum(values: &Buffer<f64>) -> f64 {
    values.iter().sum()
}

fn halved(mut values: Buffer<f64>) -> Buffer<f64> {
    values.iter_mut().for_each(|value| *value *= 0.5);
    values
}

fn made(len: usize) -> Buffer<f64> {
    buffer::from_fn(len, |index| index as f64)
}

#[test]
fn copies_are_counted_and_buffers_make_none() {
    in_time(|| {
        let runtime = runtime();
        let mut before = (0, 0);
        let mut since = || {
            let now = copied(&runtime);
            let since = (now.0 - before.0, now.1 - before.1);
            before = now;
            since
        };
        const LEN: usize = 50_000;
        const BYTES: u64 = 8 * LEN as u64;
        let values = runtime.task(made, (LEN,)).options(&far()).spawn();
        values.wait().unwrap();
        assert_eq!(since(), (8, 0), "made there");
        runtime.task(sum, (&values,)).options(&far()).spawn().fetch().unwrap();
        assert_eq!(since(), (0, 8), "read there");
        let list: Vec<f64> = vec![1.0; LEN];
        runtime.task(|list: Vec<f64>| list, (list,)).options(&far()).spawn().fetch().unwrap();
        assert_eq!(since(), (BYTES, BYTES), "a vector both ways");
        runtime.task(|text: &str| text.len() as u8, ("twelve bytes".to_owned(),)).options(&far()).spawn().fetch().unwrap();
        assert_eq!(since(), (12, 1), "a text");
        runtime.task(halved, (&values,)).options(&far()).spawn().fetch().unwrap();
        assert_eq!(since(), (BYTES, 0), "by value");
        // It is not needed again, and nobody else has it: it is moved.
        let alone = buffer::from_fn(LEN, |index| index as f64);
        let place = address(&alone);
        let moved = runtime.task(halved, (alone,)).options(&far()).once().spawn().take().unwrap();
        assert_eq!(since(), (0, 0), "by value and once");
        assert_eq!(address(&moved), place);
        assert_eq!(moved[2], 1.0);
        let chain = runtime.task(halved, (values,)).options(&far()).once().spawn().take().unwrap();
        assert_eq!((since(), chain[4]), ((0, 0), 2.0), "the only user of a result");
        let shared = Arc::new(chain);
        let copy = runtime.task(halved, (Arc::clone(&shared),)).options(&far()).once().spawn().take().unwrap();
        assert_eq!((since(), shared[4], copy[4]), ((BYTES, 0), 2.0, 1.0), "somebody else has it");
    });
}

/// Two types that are made of each other, and of large data.
#[derive(Clone, Debug, PartialEq, Data)]
struct Block {
    name: String,
    values: Buffer<f32>,
    table: Array2<f64>,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Data)]
enum Step {
    Nothing,
    Scale(f32, u8),
    Inner { block: Box<Block>, times: usize },
}

/// Whatever it is of; a constant and a parameter that is only named.
#[derive(Clone, Debug, PartialEq, Data)]
struct Pair<T, const N: usize, Unit = ()> {
    both: [T; N],
    more: BTreeMap<String, Vec<T>>,
    unit: PhantomData<Unit>,
}

/// What serde is told about it counts.
#[derive(Clone, Debug, PartialEq, Data, Serialize, Deserialize)]
struct Cached {
    value: u32,
    #[serde(skip)]
    cache: Vec<u32>,
}

/// Has a part that only serde knows.
#[derive(Clone, Debug, PartialEq, Data, Serialize, Deserialize)]
struct Address {
    of: Ipv4Addr,
    port: u16,
}

fn block(depth: usize) -> Block {
    let mut steps = vec![Step::Nothing, Step::Scale(0.5, 3)];
    if depth > 0 {
        steps.push(Step::Inner { block: Box::new(block(depth - 1)), times: depth });
    }
    let table = Array2::from_shape_fn((2, 3), |(row, column)| (row * 3 + column) as f64);
    Block { name: format!("level {depth}"), values: buffer::from_slice(&[depth as f32; 1000]), table, steps }
}

/// Follows the blocks inside.
fn look(block: &Block) -> (u32, usize) {
    let inner = block.steps.iter().find_map(|step| if let Step::Inner { block, times } = step { Some((block, times)) } else { None });
    let Some((inner, times)) = inner else { return (id(), 1) };
    assert!(block.values.iter().all(|value| *value == *times as f32));
    (id(), look(inner).1 + 1)
}

fn turn(mut block: Block) -> Block {
    block.table = block.table.reversed_axes();
    block
}

fn pick<T: Data + Clone, const N: usize>(pair: &Pair<T, N>) -> (u32, T) {
    (id(), pair.both[N - 1].clone())
}

#[test]
fn types_travel_part_by_part_and_their_buffers_as_places() {
    in_time(|| {
        let runtime = runtime();
        let made = runtime.task(block, (3usize,)).options(&far()).spawn();
        assert_eq!(*made.fetch().unwrap(), block(3));
        // The values are in buffers, 4 KB each; the rest is much less.
        assert!(copied(&runtime).1 < 1000, "{:?}", copied(&runtime));
        let (place, count) = runtime.task(look, (block(2),)).options(&far()).spawn().take().unwrap();
        assert_ne!(place, id());
        assert_eq!(count, 3);
        let turned = runtime.task(turn, (&made,)).options(&far()).spawn().take().unwrap();
        assert_eq!(turned, turn(block(3)));

        let pair = Pair { both: ["a".to_owned(), "b".to_owned()], more: BTreeMap::from([("x".to_owned(), vec![])]), unit: PhantomData };
        let (place, text) = runtime.task(pick::<String, 2>, (pair.clone(),)).options(&far()).spawn().take().unwrap();
        assert_eq!((place == id(), text.as_str()), (false, "b"));
        let same = runtime.task(|pair: Pair<String, 2>| pair, (pair.clone(),)).options(&far()).spawn().take().unwrap();
        assert_eq!(same, pair);

        let cached = Cached { value: 1, cache: vec![1, 2, 3] };
        let back = runtime.task(|cached: &Cached| cached.clone(), (cached,)).options(&far()).spawn().take().unwrap();
        assert_eq!(back, Cached { value: 1, cache: vec![] });
        let address = Address { of: Ipv4Addr::LOCALHOST, port: 80 };
        assert_eq!(runtime.task(|address: Address| address, (address.clone(),)).options(&far()).spawn().take().unwrap(), address);
    });
}

#[derive(Clone, Debug, Data)]
#[data(local)]
struct Local(u8);

/// Refers to itself, and deep inside to what stays.
#[derive(Clone, Debug, Data)]
struct Outer {
    next: Option<Box<Outer>>,
    inner: Vec<Middle>,
}

#[derive(Clone, Debug, Data)]
enum Middle {
    Number(u8),
    Local(Local),
    Outer(Outer),
}

/// Stands for something: a copy in another process would not be it.
#[derive(Data)]
struct Guard(u8);

impl Drop for Guard {
    fn drop(&mut self) {
        assert_eq!(self.0, 7);
    }
}

#[test]
fn types_with_a_part_that_stays_stay() {
    in_time(|| {
        let runtime = runtime();
        let outer = Outer {
            next: None,
            inner: vec![Middle::Number(1), Middle::Local(Local(2)), Middle::Outer(Outer { next: None, inner: vec![] })],
        };
        let count = |outer: &Outer| (id(), outer.inner.len());
        assert_eq!(*runtime.task(count, (outer.clone(),)).scope(Scope::host()).spawn().fetch().unwrap(), (id(), 3));
        let says = |error: poniard::TaskError, expected: &str| {
            assert!(matches!(error.kind(), FailureKind::Stays { reason } if reason.contains(expected)), "{error}");
        };
        says(runtime.task(count, (outer,)).options(&far()).spawn().fetch().unwrap_err(), "an argument's values stay");
        let makes = || Outer { next: None, inner: vec![] };
        says(runtime.task(makes, ()).options(&far()).spawn().fetch().unwrap_err(), "its result's values stay");
        let pair = |pair: &Pair<Local, 1>| pair.both[0].0;
        let locals = Pair { both: [Local(1)], more: BTreeMap::new(), unit: PhantomData };
        says(runtime.task(pair, (locals,)).options(&far()).spawn().fetch().unwrap_err(), "an argument's values stay");
        says(runtime.task(|guard: &Guard| guard.0, (Guard(7),)).options(&far()).spawn().fetch().unwrap_err(), "an argument's values stay");
        // Where they may stay they do, on the threads that stand for processes, too.
        let without_threads = Runtime::builder().backend("process").processes(2).build().expect("a runtime");
        assert_eq!(without_threads.spawn(makes, ()).take().unwrap().inner.len(), 0);
        let outer = Outer { next: Some(Box::new(makes())), inner: vec![] };
        assert_eq!(*without_threads.spawn(count, (outer,)).fetch().unwrap(), (id(), 0));
    });
}

/// How the memory at an address is mapped: what may be done with it, and which file it is of.
fn mapping_of(address: usize) -> Result<(String, bool), BoxError> {
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (begin, end) = range.split_once('-').ok_or("a range")?;
        if (usize::from_str_radix(begin, 16)?..usize::from_str_radix(end, 16)?).contains(&address) {
            return Ok((rights.to_owned(), line.contains("memfd:poniard-arena")));
        }
    }
    Err("it is not mapped".into())
}

/// How the memory under two views of a buffer is mapped, and a sum by way of one.
fn view(values: &Buffer<f64>) -> Result<(String, bool, f64), BoxError> {
    let line = ArrayView1::from(&**values);
    let table = ArrayView2::from_shape((100, 1000), values)?;
    assert_eq!((line.as_ptr(), table.as_ptr()), (values.as_ptr(), values.as_ptr()));
    let (rights, is_arena) = mapping_of(table.as_ptr().addr())?;
    Ok((rights, is_arena, table.row(3).sum()))
}

fn view_mut(values: &mut Buffer<f64>) -> Result<(String, bool), BoxError> {
    let mut line = ArrayViewMut1::from(&mut **values);
    line *= 2.0;
    mapping_of(line.as_ptr().addr())
}

#[test]
fn an_ndarray_view_of_a_buffer_is_the_mapping_itself() {
    in_time(|| {
        let runtime = runtime();
        let values = Mutable::new(buffer::from_fn(100_000, |index| index as f64));
        let expected = (3000..4000).sum::<usize>() as f64;
        let looks = |options: &TaskOptions| runtime.task(view, (read(&values),)).options(options).spawn().take().unwrap();
        assert_eq!(looks(&far()), ("r--s".into(), true, expected));
        assert_eq!(looks(&TaskOptions::new().scope(Scope::host())), ("rw-s".into(), true, expected));
        assert_eq!(runtime.task(view_mut, (write(&values),)).options(&far()).spawn().take().unwrap(), ("rw-s".into(), true));
        assert_eq!(values.fetch().unwrap()[70_000], 140_000.0);
        assert_eq!(copied(&runtime).0, 0);
    });
}

/// Fails until there are so many marks, and makes one each time. Changes what it is lent all the same.
fn moody(marks: PathBuf, wanted: usize, mut own: Vec<u8>, seen: &mut Buffer<u64>) -> Result<(u32, usize), String> {
    let marked = std::fs::read_dir(&marks).map_or(0, Iterator::count);
    std::fs::write(marks.join(marked.to_string()), "").map_err(|error| error.to_string())?;
    own.push(1);
    seen[0] += 1;
    if marked < wanted { Err(format!("attempt {marked}")) } else { Ok((id(), own.len())) }
}

#[test]
fn functions_that_are_tried_again_travel() {
    in_time(|| {
        let runtime = runtime();
        for pause in [Duration::ZERO, Duration::from_millis(1)] {
            let marks = tempfile::tempdir().unwrap();
            let seen = Mutable::new(buffer::zeroed::<u64>(1));
            let arguments = (marks.path().to_owned(), 2usize, vec![0u8], write(&seen));
            let task = runtime.task(moody, arguments).retries(5).backoff(pause).options(&far()).spawn();
            let (place, len) = task.take().unwrap();
            assert_ne!(place, id());
            // Each call has its own copy of what it takes by value.
            assert_eq!((len, seen.fetch().unwrap()[0]), (2, 3));
        }
        let marks = tempfile::tempdir().unwrap();
        let seen = Mutable::new(buffer::zeroed::<u64>(1));
        let task = runtime.task(moody, (marks.path().to_owned(), 99usize, vec![], write(&seen))).retries(3).options(&far()).spawn();
        let error = task.fetch().unwrap_err();
        assert!(matches!(error.kind(), FailureKind::Returned(_)), "{error:?}");
        assert_eq!((error.attempts(), error.reason().as_str()), (4, "attempt 3"));
        assert_eq!(std::fs::read_dir(marks.path()).unwrap().count(), 4);
    });
}

#[test]
fn a_pause_before_another_attempt_ends_when_the_task_is_cancelled() {
    in_time(|| {
        let runtime = runtime();
        let marks = tempfile::tempdir().unwrap();
        let seen = Mutable::new(buffer::zeroed::<u64>(1));
        let arguments = (marks.path().to_owned(), 99usize, vec![], write(&seen));
        let task = runtime.task(moody, arguments).retries(3).backoff(Duration::from_secs(1000)).options(&far()).spawn();
        while std::fs::read_dir(marks.path()).unwrap().count() == 0 {
            std::thread::yield_now();
        }
        // Others use the process meanwhile.
        for _ in 0..4 {
            assert_ne!(*runtime.task(id, ()).spawn_away().fetch().unwrap(), id());
        }
        task.cancel();
        assert!(matches!(task.fetch().unwrap_err().kind(), FailureKind::Cancelled));
        assert_eq!(std::fs::read_dir(marks.path()).unwrap().count(), 1);
    });
}

/// Panics when serde writes it (1), when serde reads it (2), or says that there is more of it than there is (3).
#[derive(Clone, Debug, Data)]
#[data(serde)]
struct Faulty(u8);

impl Serialize for Faulty {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.0, 1, "it does not want to be written");
        serializer.serialize_u8(self.0)
    }
}

impl<'de> Deserialize<'de> for Faulty {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u8::deserialize(deserializer)?;
        assert_ne!(number, 2, "it does not want to be read");
        if number == 3 { Err(serde::de::Error::custom("it is not three")) } else { Ok(Self(number)) }
    }
}

fn faulty(how: u8, values: &mut Buffer<u64>) -> Faulty {
    values[0] += 1;
    Faulty(how)
}

#[test]
fn types_that_cannot_be_written_or_read_are_errors_of_their_tasks() {
    in_time(|| {
        let runtime = runtime();
        for (how, expected) in [(1u8, "it does not want to be written"), (2, "it does not want to be read"), (3, "serde cannot read it")] {
            // What was handed over comes back, and the process goes on.
            let values = Mutable::new(buffer::from_slice(&[1u64]));
            let error = runtime.task(faulty, (how, write(&values))).options(&far()).spawn().fetch().unwrap_err();
            assert!(matches!(error.kind(), FailureKind::Processor { .. }) && error.reason().contains(expected), "{error}");
            assert!(values.fetch().is_err());
            runtime.task(fill, (overwrite(&values), 3)).options(&far()).spawn().fetch().unwrap();
            assert_eq!(**values.fetch().unwrap(), [3]);

            let values = Mutable::new(buffer::from_slice(&[1u64]));
            let takes = |faulty: &Faulty, values: &mut Buffer<u64>| {
                values[0] += 1;
                (faulty.0, id())
            };
            let task = runtime.task(takes, (Faulty(how), write(&values))).options(&far()).spawn();
            match how {
                // What cannot be sent stays.
                1 => assert_eq!(*task.fetch().unwrap(), (1, id())),
                _ => {
                    let error = task.fetch().unwrap_err();
                    assert!(matches!(error.kind(), FailureKind::Processor { .. }) && error.reason().contains(expected), "{error}");
                }
            }
        }
        assert_ne!(*runtime.task(id, ()).spawn_away().fetch().unwrap(), id());
    });
}
