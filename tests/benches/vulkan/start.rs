//! All kernels made ready and launched for the first time, by a runtime that has just begun: `start`.

use std::time::Instant;

use poniard::{Buffer, Kernel, buffer};
use poniard_bench::System;
use poniard_tests::kernels::{SHADERS, Shader};
use tempfile::TempDir;

use crate::bare::Bare;
use crate::ours::{Data, Ours};

/// Launches a kernel over nothing.
macro_rules! launch {
    ($ours:ident, $shader:ident, ($($parameter:ty),*), $result:ty, $lens:expr, $arguments:expr) => {
        $ours.runtime.spawn(Kernel::wgsl($shader.name, $shader.source).takes::<($($parameter,)*), $result>().over(1).returning($lens), $arguments).wait()
    };
}

fn launch(ours: &Ours, shader: Shader) {
    let floats = || buffer::zeroed::<f32>(1);
    let words = || buffer::zeroed::<u32>(1);
    let outcome = match shader.name {
        "saxpy" => launch!(ours, shader, (&Buffer<f32>, &Buffer<f32>, u32, f32), Buffer<f32>, [1], (floats(), floats(), 1, 1.0)),
        "convolve" => launch!(
            ours,
            shader,
            (&Buffer<u32>, &Buffer<f32>, u32, u32, u32, u32, u32),
            Buffer<u32>,
            [1],
            (words(), floats(), 1, 1, 1, 1, 1)
        ),
        "life" => launch!(ours, shader, (&Buffer<u32>, u32, u32, u32, u32), Buffer<u32>, [1], (words(), 1, 1, 8, 12)),
        "matmul" => launch!(ours, shader, (&Buffer<f32>, &Buffer<f32>, u32, u32, u32), Buffer<f32>, [1], (floats(), floats(), 1, 1, 1)),
        "reduce" => launch!(ours, shader, (&Buffer<f32>, u32), Buffer<f32>, [1], (floats(), 1)),
        "histogram" => launch!(ours, shader, (&Buffer<u32>, u32, u32), Buffer<u32>, [256], (words(), 1, 1)),
        "estimate-pi" => launch!(ours, shader, (u32, u32, u32), Buffer<u32>, [1], (1, 7, 1)),
        "transpose" => launch!(ours, shader, (&Buffer<f32>, u32, u32), Buffer<f32>, [1], (floats(), 1, 1)),
        name => panic!("{name} is a kernel that is not launched here"),
    };
    outcome.expect("a launch");
}

/// Builds a runtime with its kernels in `cache` and launches all: ms without the building.
fn start(bare: &Bare, cache: &TempDir, note: &mut String) -> f64 {
    let ours = Ours::new(bare, Data::Usual, Some(cache.path()));
    let start = Instant::now();
    SHADERS.iter().for_each(|shader| launch(&ours, *shader));
    let time = start.elapsed();
    let counts = ours.counts();
    let of = |name| counts.get(name).copied().unwrap_or_default();
    *note = format!("{} kernels compiled, {} from the cache", of("kernels compiled"), of("kernels from the cache"));
    time.as_secs_f64() * 1e3
}

/// The systems, in ms for all kernels.
pub(crate) fn systems(bare: &Bare) -> Vec<System<'_>> {
    let folder = || tempfile::tempdir().expect("a folder");
    let kept = folder();
    vec![
        System::telling("poniard", move |note| start(bare, &folder(), note)),
        System::telling("poniard-again", move |note| start(bare, &kept, note)),
    ]
}
