//! Computing and transfers at the same time, on two queues: `overlap`. Only where a device has a queue for transfers alone.

use std::time::Instant;

use poniard_bench::System;
use poniard_tests::kernels::each;

use crate::bare::{Bare, Home, Lane, Memory};
use crate::compute::Loop;

/// Copied each way.
const LEN_BYTES: usize = 64 << 20;

/// Work for both queues.
struct Both<'a> {
    bare: &'a Bare,
    transfers: &'a Lane,
    /// About as long as the copies on a large device.
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
        self.bare.submit(self.transfers, |recording| {
            recording.transfer_barrier();
            recording.copy(&self.up, &self.near, LEN_BYTES);
            recording.transfer_barrier();
            recording.copy(&self.near, &self.down, LEN_BYTES);
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

/// The systems, in ms; none where the device has one kind of queue.
pub(crate) fn systems(bare: &Bare) -> Vec<System<'_>> {
    let Some(transfers) = &bare.transfers else { return Vec::new() };
    let mut up = bare.memory(Home::Up, LEN_BYTES);
    up.bytes_mut().fill(7);
    let (near, down) = (bare.memory(Home::Device, LEN_BYTES), bare.memory(Home::Down, LEN_BYTES));
    let both = Both { bare, transfers, work: Loop::new(bare, 1 << 20, 1024), up, near, down };
    let both = std::rc::Rc::new(both);
    // So that each of them alone finds what it checks.
    both.time(true, true);
    let alone = std::rc::Rc::clone(&both);
    vec![
        System::telling("limit", move |note| {
            let (compute, transfer) = (alone.time(true, false), alone.time(false, true));
            *note = format!("the longer one alone: computing takes {compute:.2}, transfers {transfer:.2}");
            compute.max(transfer)
        }),
        System::new("bare", "both at once; asked: at most x1.25", move || both.time(true, true)),
    ]
}
