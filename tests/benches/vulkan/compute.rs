//! How fast the device computes: `fma-loop`. A figure is the time for 10^9 operations, where a product and a sum are two.

use std::time::Instant;

use poniard::{Buffer, buffer};
use poniard_bench::System;
use poniard_tests::kernels::{MATMUL, each, matmul_grid};

use crate::bare::{Bare, Home, Kernel, Memory};
use crate::ours::{Data, Ours};

/// Operations of an invocation in a round: 8 chains of 4 numbers, 4 times a product and a sum.
const OPERATIONS: u64 = 8 * 4 * 4 * 2;

/// The kernel that does nothing but compute, and how often.
pub(crate) struct Loop<'a> {
    pub(crate) kernel: Kernel<'a>,
    pub(crate) results: Memory<'a>,
    pub(crate) invocation_count: usize,
    rounds: u32,
}

impl<'a> Loop<'a> {
    pub(crate) fn new(bare: &'a Bare, invocation_count: usize, rounds: u32) -> Self {
        let results = bare.memory(Home::Device, invocation_count * 16);
        bare.run(|recording| recording.fill(&results, 0));
        Self { kernel: bare.kernel(include_str!("fma.wgsl")), results, invocation_count, rounds }
    }

    /// The scalars.
    pub(crate) fn scalars(&self) -> [u8; 12] {
        let mut scalars = [0; 12];
        scalars[..4].copy_from_slice(&self.rounds.to_ne_bytes());
        scalars[4..8].copy_from_slice(&0.5f32.to_ne_bytes());
        scalars[8..].copy_from_slice(&1f32.to_ne_bytes());
        scalars
    }

    /// How many operations it is.
    fn operations(&self) -> f64 {
        (self.invocation_count as u64 * u64::from(self.rounds) * OPERATIONS) as f64
    }

    /// Checks what came of it.
    pub(crate) fn check(&self) {
        let last = self.invocation_count * 4 - 1;
        assert_eq!([self.results.word(0), self.results.word(last)].map(f32::from_bits), [2.0, 2.0]);
    }
}

/// The systems, in ns for each 10^9 operations.
pub(crate) fn systems(bare: &Bare) -> Vec<System<'_>> {
    let (invocation_count, rounds, size) = if bare.is_software { (1 << 12, 256, 512) } else { (1 << 20, 1024, 4096) };
    let of_time = |start: Instant, operations: f64| start.elapsed().as_nanos() as f64 / (operations / 1e9);
    let all = Loop::new(bare, invocation_count, rounds);
    let scalars = all.scalars();
    let fma = move || {
        let start = Instant::now();
        bare.run(|recording| {
            recording.barrier();
            recording.bind(&all.kernel);
            recording.dispatch(&all.kernel, &[&all.results], &scalars, each(all.invocation_count));
        });
        let time = of_time(start, all.operations());
        all.check();
        time
    };

    let len = (size * size) as usize;
    let matrix = |value: f32| {
        let memory = bare.memory(Home::Device, len * 4);
        bare.run(|recording| recording.fill(&memory, value.to_bits()));
        memory
    };
    let (a, b, c, kernel) = (matrix(0.5), matrix(4.0), matrix(0.0), bare.kernel(MATMUL.source));
    let scalars = [size; 3].map(u32::to_ne_bytes).concat();
    let matmul = move || {
        bare.run(|recording| recording.fill(&c, 0));
        let start = Instant::now();
        bare.run(|recording| {
            recording.barrier();
            recording.bind(&kernel);
            recording.dispatch(&kernel, &[&a, &b, &c], &scalars, matmul_grid(size, size));
        });
        let time = of_time(start, 2.0 * f64::from(size).powi(3));
        assert_eq!([c.word(0), c.word(len - 1)].map(f32::from_bits), [2.0 * size as f32; 2]);
        time
    };
    let (ours, kernel) = (Ours::new(bare, Data::Usual, None), poniard::Kernel::wgsl(MATMUL.name, MATMUL.source));
    let kernel = kernel.takes::<(&Buffer<f32>, &Buffer<f32>, u32, u32, u32), Buffer<f32>>();
    let [a, b] = [0.5f32, 4.0].map(|value| ours.runtime.value(buffer::from_fn(len, |_| value)));
    let multiply = move || {
        let [x, y, z] = matmul_grid(size, size).map(|count| count as usize);
        let start = Instant::now();
        let c = ours.runtime.spawn(kernel.over_3d(x, y, z).returning([len]), (&a, &b, size, size, size));
        c.wait().expect("a launch");
        let time = of_time(start, 2.0 * f64::from(size).powi(3));
        let c = c.take().expect("a launch");
        assert_eq!([c[0], c[len - 1]], [2.0 * size as f32; 2]);
        time
    };
    let asked = if bare.is_software { "" } else { "; asked: at most x2.86" };
    vec![
        System::new("bare", "products and sums in registers", fma),
        System::new("bare-matmul", format!("two matrices of {size} x {size}{asked}"), matmul),
        System::new("poniard-matmul", "the same", multiply),
    ]
}
