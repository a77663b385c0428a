//! What it takes to have a kernel run: `launch`, `batch-64`, `launch-256`, `chain-100`.
//!
//! The kernel is `saxpy` of one workgroup with `a` = 1 and `y` all ones: it adds one, so its results say how often it has run. Two systems are Poniard's: one in which each launch
//! makes its result, and one in which launches overwrite what is there, as in `bare`.

use std::sync::mpsc::channel;
use std::thread;

use poniard::{Buffer, Mutable, Task, buffer, overwrite, read};
use poniard_bench::{Effort, System, per_task};
use poniard_tests::kernels::{SAXPY, each};

use crate::bare::{Bare, Home, Kernel, Memory};
use crate::ours::{Data, Ours, Saxpy, SaxpyInto, saxpy, saxpy_into};

/// Elements of all buffers: one workgroup.
const LEN: usize = 256;
/// Launches in one submission of the case `batch-64`.
const BATCH: usize = 64;
/// Launches of the case `launch-256`: so many that depend on nothing of each other, then so many that read what those wrote, and so on.
const LAYER: usize = 32;
const LAYERS: usize = 8;
/// Launches of the case `chain-100`, each of which reads what the one before has written.
const CHAIN: usize = 100;

/// What all cases have: the kernel, and ones to add.
struct Adder<'a> {
    bare: &'a Bare,
    kernel: Kernel<'a>,
    ones: Memory<'a>,
    scalars: [u8; 8],
}

impl<'a> Adder<'a> {
    fn new(bare: &'a Bare) -> Self {
        let mut scalars = [0; 8];
        scalars[..4].copy_from_slice(&(LEN as u32).to_ne_bytes());
        scalars[4..].copy_from_slice(&1f32.to_ne_bytes());
        let adder = Self { bare, kernel: bare.kernel(SAXPY.source), ones: bare.memory(Home::Device, LEN * 4), scalars };
        bare.run(|recording| recording.fill(&adder.ones, 1f32.to_bits()));
        adder
    }

    /// Buffers full of a number.
    fn buffers(&self, count: usize, number: f32) -> Vec<Memory<'a>> {
        let buffers: Vec<_> = (0..count).map(|_| self.bare.memory(Home::Device, LEN * 4)).collect();
        self.bare.run(|recording| buffers.iter().for_each(|buffer| recording.fill(buffer, number.to_bits())));
        buffers
    }

    /// What `times` launches take, each of which is submitted and waited for before the next one is recorded.
    fn launch(&self, times: u64) -> f64 {
        let mut buffers = self.buffers(2, 0.0);
        let time = per_task(times, || {
            for _ in 0..times {
                self.bare.run(|recording| {
                    recording.barrier();
                    recording.bind(&self.kernel);
                    recording.dispatch(&self.kernel, &[&buffers[0], &self.ones, &buffers[1]], &self.scalars, each(LEN));
                });
                buffers.swap(0, 1);
            }
        });
        assert_eq!(f32::from_bits(buffers[0].word(LEN - 1)), times as f32);
        time
    }

    /// What `layers` times `width` launches in one submission take, each of them.
    fn layers(&self, layers: usize, width: usize, times: u64) -> f64 {
        let [from, to] = [self.buffers(width, 0.0), self.buffers(width, 0.0)];
        let time = per_task(times * (layers * width) as u64, || {
            for _ in 0..times {
                self.bare.run(|recording| {
                    recording.bind(&self.kernel);
                    let (mut from, mut to) = (&from, &to);
                    for _ in 0..layers {
                        recording.barrier();
                        for (from, to) in from.iter().zip(to) {
                            recording.dispatch(&self.kernel, &[from, &self.ones, to], &self.scalars, each(LEN));
                        }
                        (from, to) = (to, from);
                    }
                });
            }
        });
        // An even number of layers comes back to where it began, and goes on from there the next time.
        let (last, expected) = if layers.is_multiple_of(2) { (&from, times as usize * layers) } else { (&to, 1) };
        for buffer in last {
            assert_eq!(f32::from_bits(buffer.word(LEN - 1)), expected as f32);
        }
        time
    }
}

/// Who runs such launches with Poniard.
trait Launches {
    /// A number for each launch of a layer.
    type Row;
    fn row(&self, width: usize) -> Self::Row;
    /// Spawns a launch for each number, which adds one to it.
    fn next(&self, row: Self::Row) -> Self::Row;
    fn wait(&self, row: &Self::Row);
    fn numbers(&self, row: &Self::Row) -> Vec<f32>;
    fn ours(&self) -> &Ours;
}

/// Launches that make their results.
struct Making {
    ours: Ours,
    kernel: Saxpy,
    ones: Task<Buffer<f32>>,
}

impl Launches for Making {
    type Row = Vec<Task<Buffer<f32>>>;

    fn row(&self, width: usize) -> Self::Row {
        (0..width).map(|_| self.ours.runtime.value(buffer::zeroed(LEN))).collect()
    }

    fn next(&self, row: Self::Row) -> Self::Row {
        row.iter().map(|x| self.ours.runtime.spawn(self.kernel.over(LEN), (x, &self.ones, LEN as u32, 1.0))).collect()
    }

    fn wait(&self, row: &Self::Row) {
        // The last one first: the others have then ended, too.
        row.iter().rev().for_each(|task| task.wait().expect("a launch"));
    }

    fn numbers(&self, row: &Self::Row) -> Vec<f32> {
        row.iter().map(|task| task.fetch().expect("a launch")[LEN - 1]).collect()
    }

    fn ours(&self) -> &Ours {
        &self.ours
    }
}

/// Launches that overwrite what another one has made.
struct Overwriting {
    ours: Ours,
    kernel: SaxpyInto,
    ones: Task<Buffer<f32>>,
}

/// Where the numbers are, and where the next ones will be.
type Places = (Vec<Mutable<Buffer<f32>>>, Vec<Mutable<Buffer<f32>>>, Vec<Task<()>>);

impl Launches for Overwriting {
    type Row = Places;

    fn row(&self, width: usize) -> Places {
        let places = || (0..width).map(|_| Mutable::new(buffer::zeroed(LEN))).collect();
        (places(), places(), Vec::new())
    }

    fn next(&self, (from, to, _): Places) -> Places {
        let spawn = |(x, z)| self.ours.runtime.spawn(self.kernel.over(LEN), (read(x), &self.ones, overwrite(z), LEN as u32, 1.0));
        let tasks = from.iter().zip(&to).map(spawn).collect();
        (to, from, tasks)
    }

    fn wait(&self, (.., tasks): &Places) {
        tasks.iter().rev().for_each(|task| task.wait().expect("a launch"));
    }

    fn numbers(&self, (places, ..): &Places) -> Vec<f32> {
        places.iter().map(|place| place.fetch().expect("launches")[LEN - 1]).collect()
    }

    fn ours(&self) -> &Ours {
        &self.ours
    }
}

fn ones(ours: &Ours) -> Task<Buffer<f32>> {
    ours.runtime.value(buffer::from_fn(LEN, |_| 1.0))
}

fn making(bare: &Bare) -> Making {
    let ours = Ours::new(bare, Data::Usual, None);
    Making { ones: ones(&ours), ours, kernel: saxpy() }
}

fn overwriting(bare: &Bare) -> Overwriting {
    let ours = Ours::new(bare, Data::Usual, None);
    Overwriting { ones: ones(&ours), ours, kernel: saxpy_into() }
}

/// How launches are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In a bulk.
    Together,
    OneByOne,
}

/// What `layers` times `width` launches take that are spawned before any is waited for, each of them; `note` says what the device was told.
fn layers<L: Launches>(side: &L, layers: usize, width: usize, times: u64, way: Way, note: &mut String) -> f64 {
    let mut row = side.row(width);
    let before = side.ours().counts();
    let time = per_task(times * (layers * width) as u64, || {
        for _ in 0..times {
            let mut spawn = || {
                for _ in 0..layers {
                    row = side.next(std::mem::replace(&mut row, side.row(0)));
                }
            };
            match way {
                Way::Together => side.ours().runtime.bulk(spawn),
                Way::OneByOne => spawn(),
            }
            side.wait(&row);
        }
    });
    let since = |name| side.ours().since(&before, name) as f64 / times as f64;
    let [submissions, binds, barriers] = ["submissions", "pipeline binds", "barriers"].map(since);
    *note = format!("{submissions:.1} submissions, {binds:.1} binds, {barriers:.1} barriers");
    let expected = (times as usize * layers) as f32;
    assert_eq!(side.ours().since(&before, "launches"), times * (layers * width) as u64);
    assert!(side.numbers(&row).iter().all(|number| *number == expected), "{:?} where {expected} is expected", side.numbers(&row));
    time
}

/// Poniard's systems.
fn all<'a>(bare: &'a Bare, (layer_count, width): (usize, usize), times: u64) -> Vec<System<'a>> {
    let (first, second, third) = (making(bare), overwriting(bare), making(bare));
    let way = if layer_count * width == 1 { Way::OneByOne } else { Way::Together };
    let mut systems = vec![
        System::telling("poniard", move |note| layers(&first, layer_count, width, times, way, note) / 1e3),
        System::telling("poniard-into", move |note| layers(&second, layer_count, width, times, way, note) / 1e3),
    ];
    if way == Way::Together {
        systems.push(System::telling("poniard-singly", move |note| layers(&third, layer_count, width, times, Way::OneByOne, note) / 1e3));
    }
    systems
}

/// What it takes to bring word to a thread that sleeps, and back to one that does.
fn two_wakes(times: u64) -> f64 {
    let ((there, asked), (back, answers)) = (channel(), channel());
    let peer = thread::spawn(move || asked.iter().try_for_each(|number: u64| back.send(number)));
    let time = per_task(times, || {
        for number in 0..times {
            there.send(number).expect("somebody who asks");
            assert_eq!(answers.recv(), Ok(number));
        }
    });
    drop(there);
    peer.join().expect("an end").expect("somebody who listens");
    time
}

/// The systems of `launch`, in us.
pub(crate) fn one(bare: &Bare, effort: Effort) -> Vec<System<'_>> {
    let (adder, times) = (Adder::new(bare), effort.scaled(256));
    let mut systems = vec![System::new("bare", "record, submit and wait; one workgroup", move || adder.launch(times) / 1e3)];
    systems.extend(all(bare, (1, 1), times));
    systems.push(System::new("two-wakes", "no device: word to a thread and back", move || two_wakes(times) / 1e3));
    systems
}

/// The systems of a case with so many launches in a layer, and so many layers, in us for each launch.
pub(crate) fn many(bare: &Bare, (layers, width): (usize, usize), times: u64) -> Vec<System<'_>> {
    let adder = Adder::new(bare);
    let note = format!("{layers} times {width} launches in one submission, 1 bind, {layers} barriers");
    let mut systems = vec![System::new("bare", note, move || adder.layers(layers, width, times) / 1e3)];
    systems.extend(all(bare, (layers, width), times));
    systems
}

/// The shape of the case `batch-64`.
pub(crate) const BATCH_SHAPE: (usize, usize) = (1, BATCH);
/// The shape of the case `launch-256`.
pub(crate) const LAUNCH_SHAPE: (usize, usize) = (LAYERS, LAYER);
/// The shape of the case `chain-100`.
pub(crate) const CHAIN_SHAPE: (usize, usize) = (CHAIN, 1);
