//! The kernels of the samples: devices and the host come to the same results.

use poniard::{Buffer, Kernel, Mutable, Runtime, Scope, buffer, write};
use poniard_tests::kernels::{self, Filter, SHADERS, Trial, short_trials, trials};

use crate::stand::{SPLIT, Stand, WAYS};

fn words(operand: &[u32]) -> Buffer<u32> {
    buffer::from_slice(operand)
}

fn floats(operand: &[u32]) -> Buffer<f32> {
    buffer::from_fn(operand.len(), |index| f32::from_bits(operand[index]))
}

fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|value| value.to_bits()).collect()
}

/// Runs a trial's kernel in `scope`, as a user writes it: the last buffer afterwards.
pub(crate) fn run(trial: &Trial, runtime: &Runtime, scope: &Scope) -> Vec<u32> {
    let Trial { operands, scalars, invocations, expected, .. } = trial;
    let [x, y, z] = invocations.map(|count| count as usize);
    let source = Kernel::wgsl(trial.shader.name, trial.shader.source);
    macro_rules! result {
        ($kernel:expr, $args:expr) => {
            runtime
                .task($kernel.over_3d(x, y, z).returning([expected.len()]), $args)
                .scope(scope.clone())
                .spawn()
                .take()
                .unwrap_or_else(|error| panic!("{} of {}: {error}", trial.shader.name, trial.size))
        };
    }
    let scalar = |index: usize| scalars[index];
    match trial.shader {
        kernels::SAXPY => {
            let kernel = source.host(|x: &Buffer<f32>, y: &Buffer<f32>, _: u32, a: f32| kernels::saxpy(x, y, a));
            bits(&result!(kernel, (floats(&operands[0]), floats(&operands[1]), scalar(0), f32::from_bits(scalar(1)))))
        }
        kernels::CONVOLVE => {
            let kernel = source.host(|pixels: &Buffer<u32>, weights: &Buffer<f32>, width: u32, height, edge, filters, colours| {
                kernels::convolve(pixels, weights, Filter { width, height, edge, filters, colours })
            });
            let (pixels, weights) = (words(&operands[0]), floats(&operands[1]));
            result!(kernel, (pixels, weights, scalar(0), scalar(1), scalar(2), scalar(3), scalar(4))).to_vec()
        }
        kernels::LIFE => {
            let kernel = source.host(kernels::life);
            result!(kernel, (words(&operands[0]), scalar(0), scalar(1), scalar(2), scalar(3))).to_vec()
        }
        kernels::MATMUL => {
            let kernel = source.host(kernels::matmul);
            bits(&result!(kernel, (floats(&operands[0]), floats(&operands[1]), scalar(0), scalar(1), scalar(2))))
        }
        kernels::REDUCE => {
            let kernel = source.host(|x: &Buffer<f32>, _: u32| kernels::reduce(x));
            bits(&result!(kernel, (floats(&operands[0]), scalar(0))))
        }
        kernels::HISTOGRAM => {
            let kernel = source.host(|pixels: &Buffer<u32>, bins: &mut Buffer<u32>, _: u32, channels: u32| {
                *bins = kernels::histogram(pixels, bins.clone(), channels);
            });
            let bins = Mutable::new(words(&operands[1]));
            let task = runtime.task(kernel.over_3d(x, y, z), (words(&operands[0]), write(&bins), scalar(0), scalar(1)));
            task.scope(scope.clone()).spawn().wait().unwrap_or_else(|error| panic!("{}: {error}", trial.size));
            bins.take().expect("it was written").to_vec()
        }
        kernels::ESTIMATE_PI => {
            let kernel = source.host(kernels::estimate_pi);
            result!(kernel, (scalar(0), scalar(1), scalar(2))).to_vec()
        }
        kernels::TRANSPOSE => {
            let kernel = source.host(kernels::transpose);
            bits(&result!(kernel, (floats(&operands[0]), scalar(0), scalar(1))))
        }
        other => panic!("`{}` is not run", other.name),
    }
}

fn check(trials: &[Trial]) {
    for way in WAYS {
        let Some(stand) = Stand::new(way) else { return };
        for trial in trials {
            // The host does the same whatever devices do with its memory.
            for kind in if way == WAYS[0] { &["vulkan", "cpu"][..] } else { &["vulkan"] } {
                let found = run(trial, &stand.runtime, &Scope::kind(*kind));
                if let Err(error) = trial.compare(&found) {
                    panic!("on {kind}, {way:?}: {error}");
                }
            }
        }
        assert!(stand.counted("kernels compiled") >= SHADERS.len() as u64);
        assert!(stand.counted("launches") >= trials.len() as u64, "nothing that devices are for was done elsewhere");
        assert_eq!(stand.counted("transfer submissions") > trials.len() as u64, way == SPLIT, "results come back one by one");
        stand.finish();
    }
}

#[test]
fn devices_and_the_host_agree() {
    check(&short_trials());
}

#[test]
#[ignore = "takes minutes in a build that is not optimised; `devices_and_the_host_agree` runs a part of it"]
fn devices_and_the_host_agree_on_large_inputs() {
    check(&trials());
}
