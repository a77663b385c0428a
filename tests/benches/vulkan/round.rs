//! From the host's memory to the device, a kernel over it, and back: `round-64mib`.

use std::time::Instant;

use poniard::{Buffer, Mutable, buffer, overwrite, read, write};
use poniard_bench::System;
use poniard_tests::kernels::{SAXPY, each};

use crate::bare::{Bare, Home, Kernel, Memory};
use crate::ours::{Data, Ours, saxpy, saxpy_into};

const LEN: usize = 16 << 20;
const LEN_BYTES: usize = LEN * 4;

/// `saxpy` with `x` in the place of `y` too: z = (a + 1) x.
struct Round<'a> {
    bare: &'a Bare,
    kernel: Kernel<'a>,
    /// What the user has, and what it is to have.
    x: Vec<u8>,
    z: Vec<u8>,
    /// Changes from round to round, so that an old result is no right one.
    a: u32,
}

impl<'a> Round<'a> {
    fn new(bare: &'a Bare) -> Self {
        let x = (0..LEN).flat_map(|index| ((index % 1024) as f32).to_ne_bytes()).collect();
        Self { bare, kernel: bare.kernel(SAXPY.source), x, z: vec![0; LEN_BYTES], a: 0 }
    }

    /// The scalars of the next round.
    fn next(&mut self) -> [u8; 8] {
        self.a = self.a % 1000 + 1;
        let mut scalars = [0; 8];
        scalars[..4].copy_from_slice(&(LEN as u32).to_ne_bytes());
        scalars[4..].copy_from_slice(&(self.a as f32).to_ne_bytes());
        scalars
    }

    /// Checks some elements of a round's result.
    fn check(&self, z: &[u8]) {
        for index in (0..LEN).step_by(1009) {
            let found = f32::from_ne_bytes([0, 1, 2, 3].map(|byte| z[index * 4 + byte]));
            assert_eq!(found, (self.a as f32 + 1.0) * (index % 1024) as f32, "element {index}");
        }
    }

    /// Through memory that the device copies from and to. `up` and `down` are that of the device itself if the host can see it.
    fn staged(&mut self, x: &Memory<'_>, z: &Memory<'_>, up: &mut Memory<'_>, down: &Memory<'_>) -> f64 {
        let scalars = self.next();
        let start = Instant::now();
        up.bytes_mut().copy_from_slice(&self.x);
        self.bare.run(|recording| {
            recording.copy(up, x, LEN_BYTES);
            recording.barrier();
            recording.bind(&self.kernel);
            recording.dispatch(&self.kernel, &[x, x, z], &scalars, each(LEN));
            recording.barrier();
            recording.copy(z, down, LEN_BYTES);
            recording.host_barrier();
        });
        self.z.copy_from_slice(down.bytes());
        let time = start.elapsed();
        self.check(&self.z);
        time.as_secs_f64() * 1e3
    }

    /// In memory that host and device both see: `x` and `z` are what the device works with.
    fn mapped(&mut self, x: &mut Memory<'_>, z: &Memory<'_>) -> f64 {
        let scalars = self.next();
        let start = Instant::now();
        x.bytes_mut().copy_from_slice(&self.x);
        self.bare.run(|recording| {
            recording.bind(&self.kernel);
            recording.dispatch(&self.kernel, &[x, x, z], &scalars, each(LEN));
            recording.host_barrier();
        });
        self.z.copy_from_slice(z.bytes());
        let time = start.elapsed();
        self.check(&self.z);
        time.as_secs_f64() * 1e3
    }

    /// The user's memory is imported as `x` and `z`; a device that has memory of its own, `local`, copies from and to it.
    fn imported(&mut self, x: &Memory<'_>, z: &Memory<'_>, local: Option<&[Memory<'_>; 2]>) -> f64 {
        let scalars = self.next();
        let start = Instant::now();
        self.bare.run(|recording| {
            recording.bind(&self.kernel);
            match local {
                Some([near_x, near_z]) => {
                    recording.copy(x, near_x, LEN_BYTES);
                    recording.barrier();
                    recording.dispatch(&self.kernel, &[near_x, near_x, near_z], &scalars, each(LEN));
                    recording.barrier();
                    recording.copy(near_z, z, LEN_BYTES);
                }
                None => recording.dispatch(&self.kernel, &[x, x, z], &scalars, each(LEN)),
            }
            recording.host_barrier();
        });
        let time = start.elapsed();
        self.check(z.bytes());
        time.as_secs_f64() * 1e3
    }
}

/// Poniard's system: `x` is changed by the host before each round, and the host gets at `z` after it.
fn with_poniard(bare: &Bare, data: Data) -> impl FnMut(&mut String) -> f64 {
    let (ours, kernel) = (Ours::new(bare, data, None), saxpy_into());
    let x = Mutable::new(buffer::from_fn(LEN, |index| (index % 1024) as f32));
    let z = Mutable::new(buffer::zeroed(LEN));
    let mut a = 0;
    move |note| {
        a = a % 1000 + 1;
        let before = ours.counts();
        let start = Instant::now();
        let _ = ours.runtime.spawn(|x: &mut Buffer<f32>| x[0] = 0.0, (write(&x),));
        let _ = ours.runtime.spawn(kernel.over(LEN), (read(&x), read(&x), overwrite(&z), LEN as u32, a as f32));
        let result = z.fetch().expect("a launch");
        let time = start.elapsed();
        check(&result, a as f32);
        let moved = ["bytes to the device", "bytes to the host"].map(|name| ours.since(&before, name) >> 20);
        *note = format!("{} MiB up and {} down", moved[0], moved[1]);
        time.as_secs_f64() * 1e3
    }
}

/// The same with a result that is new each time.
fn with_results(bare: &Bare, data: Data) -> impl FnMut() -> f64 {
    let (ours, kernel) = (Ours::new(bare, data, None), saxpy());
    let mut place = Some(buffer::from_fn(LEN, |index| (index % 1024) as f32));
    let mut a = 0;
    move || {
        a = a % 1000 + 1;
        let mut x = place.take().expect("what the round before left");
        let start = Instant::now();
        x[0] = 0.0;
        let task = ours.runtime.value(x);
        let z = ours.runtime.spawn(kernel.over(LEN), (&task, &task, LEN as u32, a as f32));
        let result = z.take().expect("a launch");
        let time = start.elapsed();
        place = Some(task.take().expect("a value"));
        check(&result, a as f32);
        time.as_secs_f64() * 1e3
    }
}

/// Checks some elements of a result.
fn check(z: &Buffer<f32>, a: f32) {
    for index in (0..LEN).step_by(1009) {
        assert_eq!(z[index], (a + 1.0) * (index % 1024) as f32, "element {index}");
    }
}

/// The systems, in ms.
pub(crate) fn systems(bare: &Bare) -> Vec<System<'_>> {
    let near = || bare.memory(Home::Device, LEN_BYTES);
    let (mut round, x, z) = (Round::new(bare), near(), near());
    let (mut up, down) = (bare.memory(Home::Up, LEN_BYTES), bare.memory(Home::Down, LEN_BYTES));
    let mut systems = vec![System::new("bare", "the host copies, the device copies, twice", move || round.staged(&x, &z, &mut up, &down))];
    if near().is_mapped() {
        let (mut round, mut x, z) = (Round::new(bare), near(), near());
        systems.push(System::new("bare-mapped", "the host copies, twice", move || round.mapped(&mut x, &z)));
    }
    if let (Some(mut x), Some(z)) = (bare.import(LEN_BYTES), bare.import(LEN_BYTES)) {
        let mut round = Round::new(bare);
        x.bytes_mut().copy_from_slice(&round.x);
        let local = (!bare.is_software).then(|| [near(), near()]);
        let note = if local.is_some() { "the device copies, twice" } else { "nobody copies" };
        systems.push(System::new("bare-import", note, move || round.imported(&x, &z, local.as_ref())));
    }
    systems.push(System::telling("poniard", with_poniard(bare, Data::Usual)));
    systems.push(System::new("poniard-new", "the same, and the result is a new buffer", with_results(bare, Data::Usual)));
    systems.push(System::telling("poniard-copied", with_poniard(bare, Data::Copied)));
    systems.push(System::new("poniard-copied-new", "the same, and the result is a new buffer", with_results(bare, Data::Copied)));
    systems
}
