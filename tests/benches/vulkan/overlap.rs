//! Computing and transfers at the same time: `overlap`. What there is to do is the same for all: to copy so much to the device and so much back, and to compute meanwhile.
//!
//! `bare` has one copy each way and one launch, which have nothing to do with each other: no program can do better. It is there only where a device has a queue for transfers alone.
//! `poniard` has buffers that the host has changed, a launch for each that changes it once more, and the host wants all of them: while one is computed with, the next comes and the one before goes.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use poniard::{Buffer, Kernel, Mutable, buffer, write};
use poniard_bench::System;
use poniard_tests::kernels::each;

use crate::bare::{Bare, Home, Lane, Memory};
use crate::compute::Loop;
use crate::ours::{Data, Ours};

/// In how many buffers the data of `poniard` are.
const PIECES: usize = 16;

/// How much there is to do.
#[derive(Clone, Copy)]
struct Size {
    /// Of each piece; as many as it has elements of 16 bytes.
    invocation_count: usize,
    /// Of each invocation. They take about as long as the copies on a large device.
    rounds: u32,
}

impl Size {
    /// Copied each way.
    fn len_bytes(self) -> usize {
        PIECES * self.invocation_count * 16
    }
}

/// Work for both queues.
struct Both<'a> {
    bare: &'a Bare,
    transfers: &'a Lane,
    work: Loop<'a>,
    up: Memory<'a>,
    near: Memory<'a>,
    down: Memory<'a>,
}

impl Both<'_> {
    fn compute(&self) {
        let (work, scalars) = (&self.work, self.work.scalars());
        self.bare.submit(&self.bare.work, |recording| {
            recording.barrier();
            recording.bind(&work.kernel);
            recording.dispatch(&work.kernel, &[&work.results], &scalars, each(work.invocation_count));
        });
    }

    fn transfer(&self) {
        let len_bytes = self.up.len_bytes();
        self.bare.submit(self.transfers, |recording| {
            recording.transfer_barrier();
            recording.copy(&self.up, &self.near, len_bytes);
            recording.transfer_barrier();
            recording.copy(&self.near, &self.down, len_bytes);
            recording.host_barrier();
        });
    }

    /// Time of some work in ms.
    fn time(&self, computes: bool, transfers: bool) -> f64 {
        let start = Instant::now();
        if transfers {
            self.transfer();
        }
        if computes {
            self.compute();
        }
        self.bare.wait(&self.bare.work);
        self.bare.wait(self.transfers);
        let time = start.elapsed().as_secs_f64() * 1e3;
        self.work.check();
        assert!(self.down.bytes().iter().step_by(4093).all(|byte| *byte == 7));
        time
    }
}

/// The kernel that does nothing but compute, in place.
type Fma = Kernel<fn(&'static mut Buffer<f32>, u32, f32, f32)>;

/// The same for Poniard, in pieces.
struct Pieces {
    ours: Ours,
    kernel: Fma,
    pieces: Vec<Mutable<Buffer<f32>>>,
    size: Size,
    /// Changes from time to time, so that what was uploaded before is not right. Greater than what the kernel comes to.
    mark: f32,
    /// The least time of the longer part alone so far, and of both.
    least: [f64; 2],
}

impl Pieces {
    fn new(bare: &Bare, size: Size) -> Self {
        // A software device works in the host's memory, and there would be no transfers.
        let ours = Ours::new(bare, if bare.is_software { Data::Copied } else { Data::Usual }, None);
        let kernel = Kernel::wgsl("fma", include_str!("fma.wgsl")).takes::<(&mut Buffer<f32>, u32, f32, f32), ()>();
        let pieces = (0..PIECES).map(|_| Mutable::new(buffer::zeroed(size.invocation_count * 4))).collect();
        Self { ours, kernel, pieces, size, mark: 100.0, least: [f64::INFINITY; 2] }
    }

    /// Has the host change all pieces.
    fn change(&mut self) {
        self.mark = 100.0 + (self.mark + 1.0) % 1000.0;
        let change = |x: &mut Buffer<f32>, mark: f32| {
            let last = x.len() - 1;
            (x[0], x[last]) = (0.0, mark);
        };
        for piece in &self.pieces {
            let _ = self.ours.runtime.spawn(change, (write(piece), self.mark));
        }
    }

    /// Launches the kernel for each of them.
    fn compute(&self, rounds: u32) -> impl Iterator<Item = poniard::Task<()>> {
        let kernel = self.kernel.over(self.size.invocation_count);
        let tasks: Vec<_> =
            self.pieces.iter().map(|piece| self.ours.runtime.spawn(kernel.clone(), (write(piece), rounds, 0.5, 1.0))).collect();
        tasks.into_iter()
    }

    /// Brings them to the host. Without rounds, the first element is the mean of the numbers up to 7.
    fn bring(&self, rounds: u32) {
        for piece in &self.pieces {
            let x = piece.fetch().expect("a launch");
            assert_eq!([x[0], x[x.len() - 1]], [if rounds == 0 { 3.5 } else { 2.0 }, self.mark]);
        }
    }

    /// All of it, in ms.
    fn time(&mut self, rounds: u32) -> f64 {
        let start = Instant::now();
        self.change();
        drop(self.compute(rounds));
        self.bring(rounds);
        start.elapsed().as_secs_f64() * 1e3
    }

    /// Nothing but computing, in ms.
    fn time_computing(&mut self) -> f64 {
        self.change();
        self.compute(0).for_each(|task| task.wait().expect("a launch"));
        let start = Instant::now();
        self.compute(self.size.rounds).for_each(|task| task.wait().expect("a launch"));
        let time = start.elapsed().as_secs_f64() * 1e3;
        // The host has them, as before the other measurements.
        self.pieces.iter().for_each(|piece| drop(piece.fetch().expect("a launch")));
        time
    }
}

/// The systems, in ms.
pub(crate) fn systems(bare: &Bare) -> Vec<System<'_>> {
    let size =
        if bare.is_software { Size { invocation_count: 1 << 13, rounds: 8 } } else { Size { invocation_count: 1 << 20, rounds: 128 } };
    let mut systems = Vec::new();
    if let Some(transfers) = &bare.transfers {
        let mut up = bare.memory(Home::Up, size.len_bytes());
        up.bytes_mut().fill(7);
        let (near, down) = (bare.memory(Home::Device, size.len_bytes()), bare.memory(Home::Down, size.len_bytes()));
        let work = Loop::new(bare, size.invocation_count, size.rounds * PIECES as u32);
        let both = Rc::new(Both { bare, transfers, work, up, near, down });
        // So that each of them alone finds what it checks.
        both.time(true, true);
        let alone = Rc::clone(&both);
        systems.push(System::telling("limit", move |note| {
            let (compute, transfer) = (alone.time(true, false), alone.time(false, true));
            *note = format!("the longer one alone: computing takes {compute:.2}, transfers {transfer:.2}");
            compute.max(transfer)
        }));
        systems.push(System::new("bare", "both at once; asked: at most x1.25", move || both.time(true, true)));
    }
    let pieces = Rc::new(RefCell::new(Pieces::new(bare, size)));
    let alone = Rc::clone(&pieces);
    systems.push(System::telling("poniard-limit", move |note| {
        let mut pieces = alone.borrow_mut();
        let (compute, transfer) = (pieces.time_computing(), pieces.time(0));
        *note = format!("the longer one alone: computing takes {compute:.2}, transfers {transfer:.2}");
        let longer = compute.max(transfer);
        pieces.least[0] = pieces.least[0].min(longer);
        longer
    }));
    systems.push(System::telling("poniard", move |note| {
        let mut pieces = pieces.borrow_mut();
        let rounds = pieces.size.rounds;
        let time = pieces.time(rounds);
        pieces.least[1] = pieces.least[1].min(time);
        let asked = if bare.transfers.is_some() { "; asked: at most x1.25" } else { ", on one queue" };
        *note = format!("both at once: x{:.2} of `poniard-limit`{asked}", pieces.least[1] / pieces.least[0]);
        time
    }));
    systems
}
