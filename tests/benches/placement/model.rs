//! How far estimates are from what tasks then take: `model-host`, `model-device`.

use std::collections::BTreeMap;

use poniard::{Explanation, Runtime, RuntimeBuilder};
use poniard_bench::System;

use crate::automatic::sized;
use crate::sample_run::{On, SampleRun, lacks_device, with_devices};

/// So many measurements make an estimate that is asked to be right.
const MEASUREMENTS: u32 = 20;
/// Tasks that are compared with their estimates, at least.
const COMPARED: usize = 20;
/// Runs of a sample at most, until there are so many.
const RUNS: usize = 8;

/// By how many per cent an estimate of the task's body was wrong, if it rests on enough.
fn error(explanation: &Explanation) -> Option<f64> {
    let ran = explanation.ran.as_deref()?;
    let considered = explanation.considered.iter().find(|considered| considered.place == ran || considered.place == "host")?;
    let (_, took_ns) = explanation.took_ns?;
    (considered.measurements >= MEASUREMENTS).then(|| 100.0 * considered.execution_ns.abs_diff(took_ns) as f64 / took_ns.max(1) as f64)
}

/// Of each code, by name, how far estimates were off.
fn errors(runtime: &Runtime) -> BTreeMap<String, Vec<f64>> {
    let mut errors: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for explanation in runtime.explanations() {
        errors.entry(explanation.task.clone()).or_default().extend(error(&explanation));
    }
    errors.retain(|_, errors| !errors.is_empty());
    errors
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median of a sample's codes, and each code's in the note.
fn system(name: &'static str, run: SampleRun, builder: impl Fn() -> RuntimeBuilder + 'static) -> System<'static> {
    System::telling(name, move |note| {
        let runtime = builder().models(None).explain(true).build().expect("a runtime");
        let mut all = BTreeMap::new();
        for _ in 0..RUNS {
            run.time(&runtime, On::Anything);
            runtime.wait_idle();
            all = errors(&runtime);
            if !all.is_empty() && all.values().all(|errors| errors.len() >= COMPARED) {
                break;
            }
        }
        *note = all.iter_mut().map(|(code, errors)| format!("{code} {:.1}", median(errors))).collect::<Vec<_>>().join(", ");
        let mut together: Vec<f64> = all.into_values().flatten().collect();
        assert!(!together.is_empty(), "{name}: nothing was measured often enough");
        median(&mut together)
    })
}

/// A policy has every task placed, and so measured. One thread, which waits for nobody.
pub(crate) fn on_host() -> Vec<System<'static>> {
    let builder = || Runtime::builder().threads(1).policy("earliest-finish");
    let folder = tempfile::tempdir().expect("a folder");
    let names = ["convolve", "matmul", "cholesky", "mixed", "imbalance", "locality"];
    let mut systems: Vec<_> = names.into_iter().map(|name| system(name, sized(name, folder.path()), builder)).collect();
    systems.push(kept(folder));
    systems
}

/// What keeps the folder as long as the systems.
fn kept(folder: tempfile::TempDir) -> System<'static> {
    System::new("limit", "", move || {
        let _ = &folder;
        0.0
    })
}

/// The same on a device.
pub(crate) fn on_device() -> Result<Vec<System<'static>>, String> {
    if let Some(reason) = lacks_device() {
        return Err(reason);
    }
    let builder = || with_devices(Runtime::builder().threads(1)).devices_always(true).setting("placement.software", "true");
    let folder = tempfile::tempdir().expect("a folder");
    let mut systems: Vec<_> = ["convolve", "matmul", "mixed"].into_iter().map(|name| system(name, sized(name, folder.path()), builder)).collect();
    systems.push(kept(folder));
    Ok(systems)
}
