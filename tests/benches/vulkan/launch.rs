//! What it takes to have a kernel run: `launch`, `batch-64`, `launch-256`.
//!
//! The kernel is `saxpy` of one workgroup with `a` = 1 and `y` all ones: it adds one, so its results say how often it has run.

use std::sync::mpsc::channel;
use std::thread;

use poniard_bench::{Effort, System, per_task};
use poniard_tests::kernels::{SAXPY, each};

use crate::bare::{Bare, Home, Kernel, Memory};

/// Elements of all buffers: one workgroup.
const LEN: usize = 256;
/// Launches in one submission of the case `batch-64`.
const BATCH: usize = 64;
/// Launches of the case `launch-256`: so many that depend on nothing of each other, then so many that read what those wrote, and so on.
const LAYER: usize = 32;
const LAYERS: usize = 8;

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
    vec![
        System::new("bare", "record, submit and wait; one workgroup", move || adder.launch(times) / 1e3),
        System::new("two-wakes", "no device: word to a thread and back", move || two_wakes(times) / 1e3),
    ]
}

/// The systems of `batch-64`, in us for each launch.
pub(crate) fn batch(bare: &Bare, effort: Effort) -> Vec<System<'_>> {
    let (adder, times) = (Adder::new(bare), effort.scaled(16));
    let note = format!("{BATCH} launches in one submission, 1 barrier");
    vec![System::new("bare", note, move || adder.layers(1, BATCH, times) / 1e3)]
}

/// The systems of `launch-256`, in us for each launch.
pub(crate) fn many(bare: &Bare, effort: Effort) -> Vec<System<'_>> {
    let (adder, times) = (Adder::new(bare), effort.scaled(8));
    let note = format!("{LAYERS} times {LAYER} launches in one submission, 1 pipeline, {LAYERS} barriers");
    vec![System::new("bare", note, move || adder.layers(LAYERS, LAYER, times) / 1e3)]
}
