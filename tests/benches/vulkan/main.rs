//! What a launch on a Vulkan device costs, beside a program that has `ash` and no runtime, in the same run:
//! `cargo bench -p poniard-tests --bench vulkan [-- [--json] [--quick] [CASE ...]]`.
//!
//! Systems measured side by side are interleaved, a sample of each in turn; the first of a case is what ratios refer to. Read the minima, and the ratios: a
//! figure belongs to one device, which is named on the standard error output with its driver. Without a device only the cases `compile-*` are measured; sizes are smaller
//! where a driver computes on the host's processors. All cases take about half a minute then.
//!
//! | System | Is |
//! |---|---|
//! | `bare` | a program with `ash` and without a runtime: [`mod@bare`]; what comes after a hyphen is a way or a kernel |
//! | `poniard` | the same by Poniard, through its public API; `-into`: launches overwrite what is there, `-singly`: they are spawned one by one and not in a bulk, `-copied`: the device does not work in the host's memory, `-new`: the result is a new buffer, `-again`: kernels are in the cache |
//! | `naga` | the compiler of kernels alone |
//! | `limit`, `two-wakes` | what the device or the machine takes; `poniard-limit`: the same with Poniard |
//!
//! The systems of `agreement` are the kernels of the samples: figures there are no times, but how far the device is from the host, as a part of what is allowed.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod agreement;
mod bare;
mod compile;
mod compute;
mod launch;
mod ours;
mod overlap;
mod round;
mod start;
mod stream;

use std::process::ExitCode;

use bare::Bare;
use poniard_bench::{Arguments, Effort, System, Turns};
use poniard_tests::kernels::SHADERS;

/// The cases: name, unit, samples.
const CASES: [(&str, &str, usize); 21] = [
    ("agreement", "of allowed", 1),
    ("launch", "us", 11),
    ("batch-64", "us/launch", 11),
    ("launch-256", "us/launch", 11),
    ("chain-100", "us/launch", 11),
    ("round-64mib", "ms", 7),
    ("copy-1mib", "ns/MiB", 5),
    ("copy-16mib", "ns/MiB", 5),
    ("copy-64mib", "ns/MiB", 5),
    ("copy-256mib", "ns/MiB", 5),
    ("fma-loop", "ns/10^9", 5),
    ("overlap", "ms", 7),
    ("start", "ms", 7),
    ("compile-saxpy", "us", 11),
    ("compile-convolve", "us", 11),
    ("compile-life", "us", 11),
    ("compile-matmul", "us", 11),
    ("compile-reduce", "us", 11),
    ("compile-histogram", "us", 11),
    ("compile-estimate-pi", "us", 11),
    ("compile-transpose", "us", 11),
];

/// The systems of a case for a device; a text says why there are none. Dropped, they leave nothing behind for the next case.
fn systems_of<'a>(case: &str, bare: &'a Bare, effort: Effort) -> Result<Vec<System<'a>>, &'static str> {
    let systems = match case {
        "agreement" => agreement::systems(bare),
        "launch" => launch::one(bare, effort),
        "batch-64" => launch::many(bare, launch::BATCH_SHAPE, effort.scaled(16)),
        "launch-256" => launch::many(bare, launch::LAUNCH_SHAPE, effort.scaled(8)),
        "chain-100" => launch::many(bare, launch::CHAIN_SHAPE, effort.scaled(16)),
        "round-64mib" => round::systems(bare),
        "copy-1mib" => stream::systems(bare, 1),
        "copy-16mib" => stream::systems(bare, 16),
        "copy-64mib" => stream::systems(bare, 64),
        "copy-256mib" if bare.is_software => return Err("no device, but a driver that computes on the host's processors"),
        "copy-256mib" => stream::systems(bare, 256),
        "fma-loop" => compute::systems(bare),
        "start" => start::systems(bare),
        _ => overlap::systems(bare),
    };
    Ok(systems)
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse(std::env::args().skip(1), &CASES.map(|(name, ..)| name))?;
    let bare = Bare::open();
    match &bare {
        Ok(bare) => eprintln!("device: {}", bare.about),
        Err(reason) => eprintln!("no device: {reason}"),
    }
    if let Some(heading) = arguments.heading() {
        println!("{heading}");
    }
    for (case, unit, samples) in CASES.into_iter().filter(|(name, ..)| arguments.includes(name)) {
        let systems = match (case.strip_prefix("compile-"), &bare) {
            (Some(kernel), _) => {
                SHADERS.iter().filter(|shader| shader.name == kernel).flat_map(|shader| compile::systems(*shader)).collect()
            }
            (None, Ok(bare)) => match systems_of(case, bare, arguments.effort) {
                Ok(systems) => systems,
                Err(reason) => {
                    eprintln!("{case} is left out: {reason}");
                    continue;
                }
            },
            (None, Err(_)) => continue,
        };
        let sample_count = if arguments.effort == Effort::Quick { samples.min(3) } else { samples };
        for figure in (Turns { bench: "vulkan", case, unit, warm_up: sample_count > 1, sample_count }).measure(systems) {
            println!("{}", arguments.line(&figure));
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
