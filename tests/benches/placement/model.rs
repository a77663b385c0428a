//! How far estimates are from what tasks then take: `model-host`, `model-device`.

use std::collections::BTreeMap;

use poniard::{Buffer, Explanation, Kernel, Runtime, Scope};
use poniard_bench::System;
use poniard_tests::kernels::{MATMUL, SAXPY, matmul_grid};
use poniard_tests::stage::ramp;

use crate::automatic::sized;
use crate::sample_run::{On, SampleRun, lacks_device, with_devices};

/// So many measurements make an estimate that is asked to be right; of a device's launches, of which the first 16 are measured and then few.
const MEASUREMENTS: u32 = 20;
const DEVICE_MEASUREMENTS: u32 = 16;
/// Tasks that are compared with their estimates, at least.
const COMPARED: usize = 20;
/// Elements of the vectors and rows of the matrices on the device.
const SAXPY_LEN: usize = 4 << 20;
const MATMUL_EDGE: u32 = 192;
/// Runs of a sample at most, until there are so many.
const RUNS: usize = 8;

/// A task's estimate: by how many per cent it was wrong, and how long the task took, in ns.
#[derive(Clone, Copy)]
struct Compared {
    wrong: f64,
    took_ns: u64,
}

/// What an estimate of the task's body came to, if it rests on enough.
fn compared(explanation: &Explanation, measurements: u32) -> Option<Compared> {
    let ran = explanation.ran.as_deref()?;
    let considered = explanation.considered.iter().find(|considered| considered.place == ran || considered.place == "host")?;
    let (_, took_ns) = explanation.took_ns.filter(|_| considered.measurements >= measurements)?;
    Some(Compared { wrong: 100.0 * considered.execution_ns.abs_diff(took_ns) as f64 / took_ns.max(1) as f64, took_ns })
}

/// Of each code, by the part of its name that all of its tasks have, how far estimates were off.
fn by_code(runtime: &Runtime, measurements: u32) -> BTreeMap<String, Vec<Compared>> {
    let mut codes: BTreeMap<String, Vec<Compared>> = BTreeMap::new();
    for explanation in runtime.explanations() {
        let name = explanation.task.split('(').next().unwrap_or_default();
        codes.entry(name.to_owned()).or_default().extend(compared(&explanation, measurements));
    }
    codes.retain(|_, compared| !compared.is_empty());
    codes
}

/// By how much half of the time was estimated better, in per cent.
fn median(compared: &mut [Compared]) -> f64 {
    compared.sort_by(|one, other| one.wrong.total_cmp(&other.wrong));
    let half_ns = compared.iter().map(|compared| compared.took_ns).sum::<u64>() / 2;
    let mut passed_ns = 0;
    let middle = compared.iter().find(|compared| {
        passed_ns += compared.took_ns;
        passed_ns >= half_ns
    });
    middle.expect("something was measured often enough").wrong
}

/// The median of all, and each code's in the note.
fn told(mut codes: BTreeMap<String, Vec<Compared>>, note: &mut String) -> f64 {
    *note = codes.iter_mut().map(|(code, compared)| format!("{code} {:.1}", median(compared))).collect::<Vec<_>>().join(", ");
    median(&mut codes.into_values().flatten().collect::<Vec<_>>())
}

/// A sample on a thread, which waits for nobody. A policy has every task placed, and so measured.
fn on_thread(name: &'static str, run: SampleRun) -> System<'static> {
    System::telling(name, move |note| {
        let runtime = Runtime::builder().threads(1).policy("earliest-finish").models(None).explain(true).build().expect("a runtime");
        let mut all = BTreeMap::new();
        for _ in 0..RUNS {
            run.time(&runtime, On::Anything);
            runtime.wait_idle();
            all = by_code(&runtime, MEASUREMENTS);
            if !all.is_empty() && all.values().all(|compared| compared.len() >= COMPARED) {
                break;
            }
        }
        told(all, note)
    })
}

pub(crate) fn on_host() -> Vec<System<'static>> {
    ["convolve", "matmul", "cholesky", "imbalance", "locality"].map(|name| on_thread(name, sized(name))).into()
}

/// Launches one by one, of some milliseconds on a software device: what a launch costs besides does not count then.
pub(crate) fn on_device() -> Result<Vec<System<'static>>, String> {
    if let Some(reason) = lacks_device() {
        return Err(reason);
    }
    let of = |name: &'static str, launch: fn(&Runtime)| {
        System::telling(name, move |note| {
            let runtime = with_devices(Runtime::builder().threads(1)).models(None).explain(true).build().expect("a runtime");
            (0..DEVICE_MEASUREMENTS as usize + COMPARED).for_each(|_| launch(&runtime));
            runtime.wait_idle();
            told(by_code(&runtime, DEVICE_MEASUREMENTS), note)
        })
    };
    Ok(vec![of("saxpy", launch_saxpy), of("matmul", launch_matmul)])
}

fn launch_saxpy(runtime: &Runtime) {
    let kernel = Kernel::wgsl("saxpy", SAXPY.source).takes::<(&Buffer<f32>, &Buffer<f32>, u32, f32), Buffer<f32>>();
    let launch = runtime.task(kernel.over(SAXPY_LEN), (ramp(SAXPY_LEN), ramp(SAXPY_LEN), SAXPY_LEN as u32, 2.0));
    launch.scope(Scope::kind("vulkan")).spawn().wait().expect("it runs");
}

fn launch_matmul(runtime: &Runtime) {
    let (edge, len) = (MATMUL_EDGE, (MATMUL_EDGE * MATMUL_EDGE) as usize);
    let kernel = Kernel::wgsl("matmul", MATMUL.source).takes::<(&Buffer<f32>, &Buffer<f32>, u32, u32, u32), Buffer<f32>>();
    let [x, y, z] = matmul_grid(edge, edge).map(|count| count as usize);
    let launch = kernel.over_3d(x, y, z).returning([len]);
    runtime.task(launch, (ramp(len), ramp(len), edge, edge, edge)).scope(Scope::kind("vulkan")).spawn().wait().expect("it runs");
}
