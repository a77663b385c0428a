//! How fast the device moves its own memory: `copy-1mib` to `copy-256mib`. A figure is the time for each MiB that is read or written.

use poniard::{Mutable, buffer, overwrite};
use poniard_bench::{System, per_task};
use poniard_tests::kernels::{SAXPY, each};

use crate::bare::{Bare, Home, Recording};
use crate::ours::{Data, Ours, saxpy_into};

/// Read and written by each system for one figure, at least.
const MOVED: usize = 1 << 30;
/// The same where the host's processors do it.
const MOVED_BY_SOFTWARE: usize = 128 << 20;

/// The systems, in ns for each MiB.
pub(crate) fn systems(bare: &Bare, mib: usize) -> Vec<System<'_>> {
    let len_bytes = mib << 20;
    // What one time moves, for how many words, and what the host has to do.
    let times = |moved: usize| (if bare.is_software { MOVED_BY_SOFTWARE } else { MOVED }).div_ceil(moved);
    let measure = move |arrays: usize, work: &dyn Fn(&Recording<'_>)| {
        let times = times(arrays * len_bytes);
        per_task((times * arrays * mib) as u64, || {
            bare.run(|recording| {
                for _ in 0..times {
                    recording.barrier();
                    work(recording);
                }
            });
        })
    };
    let filled = |word: u32| {
        let memory = bare.memory(Home::Device, len_bytes);
        bare.run(|recording| recording.fill(&memory, word));
        memory
    };
    let last = len_bytes / 4 - 1;

    let (from, to) = (filled(7), filled(0));
    let copy = move || {
        bare.run(|recording| recording.fill(&to, 0));
        let time = measure(2, &|recording| recording.copy(&from, &to, len_bytes));
        assert_eq!((to.word(0), to.word(last)), (7, 7));
        time
    };
    let (x, y, z) = (filled(2f32.to_bits()), filled(3f32.to_bits()), filled(0));
    let (kernel, len) = (bare.kernel(SAXPY.source), len_bytes / 4);
    let scalars: Vec<u8> = [(len as u32).to_ne_bytes(), 5f32.to_ne_bytes()].concat();
    let saxpy = move || {
        bare.run(|recording| recording.fill(&z, 0));
        let time = measure(3, &|recording| {
            recording.bind(&kernel);
            recording.dispatch(&kernel, &[&x, &y, &z], &scalars, each(len));
        });
        assert_eq!([z.word(0), z.word(last)].map(f32::from_bits), [13.0, 13.0]);
        time
    };
    let (ours, kernel) = (Ours::new(bare, Data::Usual, None), saxpy_into());
    let [x, y] = [2f32, 3.0].map(|value| ours.runtime.value(buffer::from_fn(len, |_| value)));
    let z = Mutable::new(buffer::zeroed(len));
    let elementwise = move || {
        ours.runtime.spawn(|z: &mut poniard::Buffer<f32>| z.fill(0.0), (overwrite(&z),)).wait().expect("zeros");
        let times = times(3 * len_bytes);
        let spawn = |_| ours.runtime.spawn(kernel.over(len), (&x, &y, overwrite(&z), len as u32, 5.0));
        // The first one may have to bring the data there.
        spawn(0).wait().expect("a launch");
        let time = per_task((times * 3 * mib) as u64, || {
            let tasks: Vec<_> = (0..times).map(spawn).collect();
            tasks.last().expect("some").wait().expect("launches");
        });
        let z = z.fetch().expect("launches");
        assert_eq!([z[0], z[last]], [13.0, 13.0]);
        time
    };
    vec![
        System::new("bare", "a copy: an array is read, one written", copy),
        System::new("bare-saxpy", "two arrays are read, one written; asked of a discrete device: at most x1.18", saxpy),
        System::new("poniard-saxpy", "the same", elementwise),
    ]
}
