//! Every kernel with every awkward size, on the device, beside its body for the host: `agreement`.

use poniard_bench::System;
use poniard_tests::kernels::{SHADERS, Trial, trials};

use crate::bare::{Bare, Home, Memory};

/// Runs a trial: the greatest difference as a part of what is allowed.
fn worst(bare: &Bare, trial: &Trial) -> f64 {
    let kernel = bare.kernel(trial.shader.source);
    let memory: Vec<Memory<'_>> = trial
        .operands
        .iter()
        .map(|words| {
            let memory = bare.memory(Home::Device, words.len() * 4);
            memory.upload(&words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>());
            memory
        })
        .collect();
    let buffers: Vec<&Memory<'_>> = memory.iter().collect();
    bare.run(|recording| {
        recording.barrier();
        recording.bind(&kernel);
        recording.dispatch(&kernel, &buffers, &trial.scalar_bytes(), trial.invocations);
    });
    let found = buffers[buffers.len() - 1].download(0, trial.expected.len() * 4);
    let words: Vec<u32> = found.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]])).collect();
    trial.compare(&words).unwrap_or_else(|error| panic!("{error}"))
}

/// A system for each kernel.
pub(crate) fn systems(bare: &Bare) -> Vec<System<'_>> {
    let all = trials();
    let of = |name| all.iter().filter(|trial| trial.shader.name == name).cloned().collect::<Vec<_>>();
    let system = |name| {
        let trials = of(name);
        let note = format!("{} sizes; 0: bit by bit as on the host", trials.len());
        System::new(name, note, move || trials.iter().map(|trial| worst(bare, trial)).fold(0.0, f64::max))
    };
    SHADERS.iter().map(|shader| system(shader.name)).collect()
}
